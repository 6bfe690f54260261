//! Case `path`: CPU time of a packet through a node with so many pods.
//!
//! All sites stand at once and are measured in turn, a short burst each, many rounds: what the machine does besides hits
//! all alike. Differences are taken within a round.

use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::layouts::{Layout, Tool};
use crate::site::{Site, Way};
use crate::statistics::Samples;
use crate::table::Table;

/// What may be chosen.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Pods of a node, one site each.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1000])]
    pods: Vec<usize>,
    /// Rounds; medians are of so many bursts.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Packets of a burst.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u16).range(1..=60_000))]
    packets: u16,
}

/// What Cambric may cost above accept-only, in nanoseconds a new flow.
const TARGET_NS: f64 = 2_000.0;

/// What is measured at a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Traffic {
    Established,
    NewToPod,
    NewFromPod,
}

impl Traffic {
    const ALL: [Traffic; 3] = [Traffic::Established, Traffic::NewToPod, Traffic::NewFromPod];

    fn name(self) -> &'static str {
        match self {
            Traffic::Established => "established, to a pod",
            Traffic::NewToPod => "new flows, to a pod",
            Traffic::NewFromPod => "new flows, from a pod",
        }
    }

    /// The linear layouts have rules for what pods are sent, as the comparison needs no more.
    fn is_of(self, layout: Layout) -> bool {
        self != Traffic::NewFromPod || !matches!(layout, Layout::Linear(_))
    }

    fn measure(self, site: &Site, packets: u16) -> Result<f64> {
        match self {
            Traffic::Established => site.established(Way::ToPod, packets),
            Traffic::NewToPod => site.new_flows(Way::ToPod, packets),
            Traffic::NewFromPod => site.new_flows(Way::FromPod, packets),
        }
    }
}

/// One site, and what was measured there, in nanoseconds a packet.
struct Measured {
    layout: Layout,
    pods: usize,
    site: Site,
    /// As [`Traffic::ALL`].
    samples: [Samples; 3],
}

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result<()> {
    println!("path: CPU time of a packet through a node with so many pods, in µs");
    println!(
        "  medians of {} bursts of {} UDP packets; above, ratio: beside accept-only\n",
        options.rounds, options.packets
    );
    let mut all = Vec::new();
    for &pods in &options.pods {
        for layout in Layout::ALL {
            match prepare(layout, pods).with_context(|| format!("{layout}, {pods} pods")) {
                Ok(measured) => all.push(measured),
                // Kernels need not have the old xtables.
                Err(error)
                    if matches!(layout, Layout::Accept(Tool::Legacy) | Layout::Linear(Tool::Legacy)) =>
                {
                    println!("  left out: {error:#}");
                }
                Err(error) => return Err(error),
            }
        }
    }
    pin()?;
    for _ in 0..options.rounds {
        for one in &mut all {
            for (traffic, samples) in Traffic::ALL.into_iter().zip(&mut one.samples) {
                if traffic.is_of(one.layout) {
                    let taken = traffic.measure(&one.site, options.packets);
                    samples.push(taken.with_context(|| format!("{}, {} pods", one.layout, one.pods))?);
                }
            }
        }
    }
    print(options, &all);
    Ok(())
}

/// A site with a layout, which is seen to do what it should.
fn prepare(layout: Layout, pods: usize) -> Result<Measured> {
    let site = Site::new(pods / 2)?;
    layout.write(&site, pods)?;
    for (way, traffic) in [(Way::ToPod, Traffic::NewToPod), (Way::FromPod, Traffic::NewFromPod)] {
        if traffic.is_of(layout) {
            site.passes(way)?;
            ensure!(
                site.leaks(way)? != layout.enforces(),
                "{way:?}: another port is not treated as the rules say"
            );
        }
    }
    Ok(Measured { layout, pods, site, samples: Default::default() })
}

/// Stays on the last CPU from now on: interrupts tend to come to the first.
fn pin() -> Result<()> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let mut set = CpuSet::new();
    set.set(cpus - 1)?;
    sched_setaffinity(Pid::from_raw(0), &set).context("staying on one CPU")
}

fn print(options: &Options, all: &[Measured]) {
    for traffic in Traffic::ALL {
        print_table(options, all, traffic);
    }
    let (Some(&fewest), Some(&largest)) = (options.pods.iter().min(), options.pods.iter().max()) else {
        return;
    };
    for traffic in [Traffic::NewToPod, Traffic::NewFromPod] {
        let over = |&pods: &usize| over_accept(all, Layout::Cambric, pods, traffic).unwrap_or(f64::NAN);
        let most = options.pods.iter().map(over).fold(f64::NAN, f64::max);
        let at = |pods| median(all, Layout::Cambric, pods, traffic).unwrap_or(f64::NAN);
        println!(
            "  target: {}: at most {:.0} µs above accept-only: {:+.2} µs, {}; flat: {largest} pods cost {:.2} times what {fewest} cost",
            traffic.name(),
            TARGET_NS / 1e3,
            most / 1e3,
            if most <= TARGET_NS { "met" } else { "MISSED" },
            at(largest) / at(fewest),
        );
    }
}

/// A line for each layout: medians, then the difference to accept-only, then the ratio.
fn print_table(options: &Options, all: &[Measured], traffic: Traffic) {
    let columns = |name: &str| options.pods.iter().map(|pods| format!("{name}{pods}")).collect::<Vec<_>>();
    let head = [vec![traffic.name().to_owned()], columns("pods "), columns("above "), columns("ratio ")];
    let mut table = Table::new(head.concat());
    for layout in Layout::ALL.into_iter().filter(|layout| traffic.is_of(*layout)) {
        let mut line = vec![layout.to_string()];
        let mut cells = |of: &dyn Fn(usize) -> Option<String>| {
            line.extend(options.pods.iter().map(|&pods| of(pods).unwrap_or("-".into())));
        };
        let median = |layout, pods| median(all, layout, pods, traffic);
        cells(&|pods| Some(format!("{:.2}", median(layout, pods)? / 1e3)));
        cells(&|pods| Some(format!("{:+.2}", over_accept(all, layout, pods, traffic)? / 1e3)));
        cells(&|pods| Some(format!("{:.2}", median(layout, pods)? / median(layout.accept(), pods)?)));
        table.line(line);
    }
    table.print();
    println!();
}

fn find(all: &[Measured], layout: Layout, pods: usize, traffic: Traffic) -> Option<&Samples> {
    let one = all.iter().find(|one| one.layout == layout && one.pods == pods)?;
    one.samples.get(traffic as usize)
}

fn median(all: &[Measured], layout: Layout, pods: usize, traffic: Traffic) -> Option<f64> {
    find(all, layout, pods, traffic).map(Samples::median)
}

/// Median difference of a layout to what it is compared with.
fn over_accept(all: &[Measured], layout: Layout, pods: usize, traffic: Traffic) -> Option<f64> {
    let [ours, accept] = [layout, layout.accept()].map(|layout| find(all, layout, pods, traffic));
    Some(ours?.minus(accept?).median())
}
