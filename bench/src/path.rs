//! Case `path`: CPU time of a packet through a node with so many pods.
//!
//! All sites stand at once and are measured in turn, a short burst each, many rounds: what the machine does besides hits
//! all alike. Differences are taken within a round.

use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::layouts::{Layout, Tool};
use crate::site::Site;
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

/// One site and what was measured there, in nanoseconds.
struct Measured {
    layout: Layout,
    pods: usize,
    site: Site,
    established: Samples,
    new: Samples,
}

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result<()> {
    println!("path: CPU time of a packet through a node with so many pods, in µs");
    println!("  medians of {} bursts of {} UDP packets\n", options.rounds, options.packets);
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
            let what = || format!("{}, {} pods", one.layout, one.pods);
            one.established.push(one.site.established(options.packets).with_context(what)?);
            one.new.push(one.site.new_flows(options.packets).with_context(what)?);
        }
    }
    print(options, &all);
    Ok(())
}

fn prepare(layout: Layout, pods: usize) -> Result<Measured> {
    let site = Site::new(pods / 2)?;
    layout.write(&site, pods)?;
    site.passes()?;
    ensure!(
        site.leaks()? != layout.enforces(),
        "a packet to another port must {}pass",
        if layout.enforces() { "not " } else { "" }
    );
    Ok(Measured { layout, pods, site, established: Samples::default(), new: Samples::default() })
}

/// Stays on the last CPU from now on: interrupts tend to come to the first.
fn pin() -> Result<()> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let mut set = CpuSet::new();
    set.set(cpus - 1)?;
    sched_setaffinity(Pid::from_raw(0), &set).context("staying on one CPU")
}

fn print(options: &Options, all: &[Measured]) {
    print_table("an established flow", options, all, |one| &one.established);
    print_table("new flows", options, all, |one| &one.new);
    let cambric = |pods| find(all, Layout::Cambric, pods).map_or(f64::NAN, |one| one.new.median());
    let over = |&pods: &usize| over_accept(all, Layout::Cambric, pods, |one| &one.new).unwrap_or(f64::NAN);
    let most = options.pods.iter().map(over).fold(f64::NEG_INFINITY, f64::max);
    let (Some(fewest), Some(largest)) = (options.pods.iter().min(), options.pods.iter().max()) else {
        return;
    };
    println!(
        "  target: a new flow at most {:.0} µs over accept only: {:+.2} µs, {}; flat: {largest} pods take {:.2} times what {fewest} take",
        TARGET_NS / 1e3,
        most / 1e3,
        if most <= TARGET_NS { "met" } else { "MISSED" },
        cambric(*largest) / cambric(*fewest),
    );
}

/// A line for each layout: medians, then the difference to accept-only of the same tool, then the ratio.
fn print_table(what: &str, options: &Options, all: &[Measured], samples: fn(&Measured) -> &Samples) {
    let columns = |name: &str| options.pods.iter().map(|pods| format!("{name}{pods}")).collect::<Vec<_>>();
    let mut table = Table::new(
        [vec![what.to_owned()], columns("pods "), columns("over accept "), columns("ratio ")].concat(),
    );
    for layout in Layout::ALL {
        let mut line = vec![layout.to_string()];
        let mut cells = |of: &dyn Fn(usize) -> Option<String>| {
            line.extend(options.pods.iter().map(|&pods| of(pods).unwrap_or("-".into())));
        };
        let median = |layout, pods| find(all, layout, pods).map(|one| samples(one).median());
        cells(&|pods| Some(format!("{:.2}", median(layout, pods)? / 1e3)));
        cells(&|pods| Some(format!("{:+.2}", over_accept(all, layout, pods, samples)? / 1e3)));
        cells(&|pods| Some(format!("{:.2}", median(layout, pods)? / median(layout.accept(), pods)?)));
        table.line(line);
    }
    table.print();
    println!();
}

fn find(all: &[Measured], layout: Layout, pods: usize) -> Option<&Measured> {
    all.iter().find(|one| one.layout == layout && one.pods == pods)
}

/// Median difference of a layout to what it is compared with.
fn over_accept(
    all: &[Measured],
    layout: Layout,
    pods: usize,
    samples: fn(&Measured) -> &Samples,
) -> Option<f64> {
    let [ours, accept] = [layout, layout.accept()].map(|layout| find(all, layout, pods).map(samples));
    Some(ours?.minus(accept?).median())
}
