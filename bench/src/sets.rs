//! Case `sets`: members of ipsets by our own netlink, beside the `ipset` tool.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use cambric_policy::kernel::Kernel;
use cambric_policy::program::{Family, Member, SetKind, SetName};
use clap::Args;

use crate::namespace::{Namespace, run as run_tool};
use crate::statistics::{Samples, micros};
use crate::table::{Times, target};

/// What may be chosen.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Members of the large set.
    #[arg(long, default_value_t = 100_000)]
    members: usize,
    /// Single changes of it by netlink, half of them in, half of them out.
    #[arg(long, default_value_t = 4_000)]
    changes: usize,
    /// Times that it is loaded, and half of the single changes by the tool.
    #[arg(long, default_value_t = 7)]
    loads: usize,
}

/// One member is in the set after this time.
const TARGET_MEMBER_US: f64 = 50.0;
/// All members are in the set after this time.
const TARGET_LOAD_US: f64 = 100_000.0;
/// As the enforcer has it.
const MOST_MEMBERS: u32 = 1_048_576;

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result<()> {
    println!("sets: a hash:ip of {} members, by our netlink and by the ipset tool\n", options.members);
    Namespace::new()?.enter(|| {
        let mut kernel = Kernel::open()?;
        let mut table = Times::new("");
        let load = load(&mut kernel, options, options.members)?;
        table.line("all loaded, netlink, room known", &load);
        table.line("all loaded, netlink, set grows", &self::load(&mut kernel, options, 0)?);
        table.line("all loaded, ipset restore, room known", &restore(options, true)?);
        table.line("all loaded, ipset restore, set grows", &restore(options, false)?);
        let change = change(&mut kernel, options)?;
        table.line("one member in or out, netlink", &change);
        table.line("one member in, ipset add", &add_by_tool(options)?);
        table.print();
        target("one member, median", change.median(), TARGET_MEMBER_US);
        target("all loaded, room known, median", load.median(), TARGET_LOAD_US);
        Ok(())
    })
}

/// The n-th address of a set.
fn address(n: usize) -> IpAddr {
    Ipv4Addr::from(0x0a00_0001 + n as u32).into()
}

/// Microseconds of a load into a new set that is made for so many.
fn load(kernel: &mut Kernel, options: &Options, room: usize) -> Result<Samples> {
    let name: SetName = Arc::from("cam4bench-load");
    let members: Vec<Member> = (0..options.members).map(|n| Member::Address(address(n))).collect();
    let mut samples = Samples::default();
    for _ in 0..options.loads {
        let begin = Instant::now();
        kernel.create_set(Family::Ipv4, &name, SetKind::Addresses, room, MOST_MEMBERS)?;
        kernel.add_members(Family::Ipv4, &name, &members)?;
        samples.push(micros(begin.elapsed()));
        kernel.destroy_set(&name)?;
    }
    Ok(samples)
}

/// The same by the tool, with its start.
fn restore(options: &Options, room_known: bool) -> Result<Samples> {
    let size = if room_known { options.members.next_power_of_two() } else { 1024 };
    let mut text =
        format!("create bench-restore hash:ip family inet hashsize {size} maxelem {MOST_MEMBERS}\n");
    (0..options.members).for_each(|n| text += &format!("add bench-restore {}\n", address(n)));
    let mut samples = Samples::default();
    for _ in 0..options.loads {
        let begin = Instant::now();
        run_tool("ipset", "restore", &text)?;
        samples.push(micros(begin.elapsed()));
        run_tool("ipset", "destroy bench-restore", "")?;
    }
    Ok(samples)
}

/// Microseconds of a change of one member of the large set, until the kernel has answered.
fn change(kernel: &mut Kernel, options: &Options) -> Result<Samples> {
    let name: SetName = Arc::from("cam4bench-one");
    let members: Vec<Member> = (0..options.members).map(|n| Member::Address(address(n))).collect();
    kernel.create_set(Family::Ipv4, &name, SetKind::Addresses, options.members, MOST_MEMBERS)?;
    kernel.add_members(Family::Ipv4, &name, &members).context("loading")?;
    let mut samples = Samples::default();
    for n in 0..options.changes / 2 {
        let one = [Member::Address(address(options.members + n))];
        let begin = Instant::now();
        kernel.add_members(Family::Ipv4, &name, &one)?;
        samples.push(micros(begin.elapsed()));
        let begin = Instant::now();
        kernel.del_members(Family::Ipv4, &name, &one)?;
        samples.push(micros(begin.elapsed()));
    }
    Ok(samples)
}

/// The same by the tool, into the same set.
fn add_by_tool(options: &Options) -> Result<Samples> {
    let mut samples = Samples::default();
    for n in 0..options.loads * 10 {
        let arguments = format!("add cam4bench-one {}", address(options.members + n));
        let begin = Instant::now();
        run_tool("ipset", &arguments, "")?;
        samples.push(micros(begin.elapsed()));
    }
    Ok(samples)
}
