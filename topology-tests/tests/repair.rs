//! How soon a node's kernel is right again after others have damaged it: n11 of `containerlab/two-rack`.
//!
//! ```text
//!     tor1a        tor1b     FRR
//!       \            /
//!        eth1    eth2
//!           \    /
//!             n11            Cambric: routes over both, its pod range unreachable; somebody with `ip` and no care
//! ```
//!
//! Proves, for each kind of damage in both families:
//! - all routes, objects and groups are as they were, and the cause is counted (`cambric show status`);
//! - a foreign route is told, and neither changed nor removed;
//! - events suffice: no check is waited for.
//!
//! Printed are the time from the first message of the kernel, which is about the damage, to the last one that adds
//! something of ours, as they are read from `ip monitor` (0.0: in one go); and, beyond doubt, the time from the start of
//! the command to when all was seen to be as before.

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cambric_lab::fabric::{self, RECOVERY};
use cambric_lab::links::Carrier;
use cambric_lab::{Lab, Node, poll};

use common::monitor::{Message, Monitor};
use common::operator::problems;
use common::{LabFolder, Need, in_lab, machine_has};

/// Far beyond what a repair takes.
const MOST: Duration = Duration::from_secs(5);

/// Far beyond what a repair by events takes, and less than the second after which a check looks for what they missed.
const BY_EVENTS: Duration = Duration::from_millis(500);

/// The same in each family.
struct Side {
    family: &'static str,
    /// A prefix of the other rack.
    far: &'static str,
    /// The node's own pod range.
    own: &'static str,
    /// The node's address, on its loopback.
    node: &'static str,
    tor1a: &'static str,
    tor1b: &'static str,
}

const SIDES: [Side; 2] = [
    Side {
        family: "-4",
        far: "10.244.21.0/24",
        own: "10.244.11.0/24",
        node: "10.255.1.1/32",
        tor1a: "172.16.11.0",
        tor1b: "172.16.11.2",
    },
    Side {
        family: "-6",
        far: "fd00:10:244:21::/64",
        own: "fd00:10:244:11::/64",
        node: "fd00:10:255:1::1/128",
        tor1a: "fd00:172:16:11::",
        tor1b: "fd00:172:16:11::2",
    },
];

/// What is done with `ip`, and what the repair is counted as.
struct Damage {
    what: &'static str,
    cause: &'static str,
    command: fn(&Side, &Node) -> Result<String>,
}

const DAMAGES: [Damage; 5] = [
    Damage {
        what: "learned route deleted",
        cause: "route-deleted",
        command: |side, _| Ok(format!("route del {} proto 203", side.far)),
    },
    Damage {
        what: "learned route replaced, proto 203",
        cause: "route-changed",
        command: |side, _| {
            Ok(format!("route replace {} via {} dev eth2 proto 203 metric 203", side.far, side.tor1b))
        },
    },
    Damage {
        what: "unreachable pod range deleted",
        cause: "route-deleted",
        command: |side, _| Ok(format!("route del unreachable {} proto 203", side.own)),
    },
    Damage {
        what: "one next-hop object deleted",
        cause: "next-hop-deleted",
        command: |side, node| Ok(format!("nexthop del id {}", object(node, side.tor1a)?)),
    },
    Damage {
        what: "group replaced",
        cause: "next-hop-changed",
        command: |side, node| {
            let group = group(node, side)?;
            Ok(format!("nexthop replace id {group} group {} proto 203", object(node, side.tor1b)?))
        },
    },
];

/// Of both families at once. Not once for each: the eleventh repair of a prefix within seconds has to wait.
const FLUSH: Damage = Damage {
    what: "ip nexthop flush",
    cause: "next-hop-deleted",
    command: |_, _| Ok("nexthop flush proto 203".to_owned()),
};

/// One line of the table.
struct Row {
    what: &'static str,
    family: &'static str,
    /// By the kernel's messages.
    told: Option<Duration>,
    /// From the command to what was seen.
    seen: Duration,
    counted: String,
}

#[test]
fn damage_by_others_is_repaired_and_counted() {
    if !machine_has(&[Need::Root, Need::Frr, Need::Cambric]) {
        return;
    }
    in_lab(&LabFolder::copy_of("../containerlab/two-rack"), |lab| {
        fabric::whole_and_spread(lab, 2, RECOVERY)?;
        let node = lab.node("n11")?;
        let monitor = Monitor::start(&node)?;
        let right = present(&node)?;
        let flushed = repair(&node, &monitor, &SIDES[0], &FLUSH, &right).context(FLUSH.what)?;
        let mut rows = vec![Row { family: "both", ..flushed }];
        for side in &SIDES {
            for damage in &DAMAGES {
                let row = repair(&node, &monitor, side, damage, &right);
                rows.push(row.with_context(|| format!("{} {}", damage.what, side.family))?);
            }
            rows.extend(node_address_goes_and_returns(&node, &monitor, side, &right)?);
            rows.push(foreign_route_goes(&node, &monitor, side, &right)?);
            foreign_route_with_a_lower_metric_is_told(&node, side)?;
        }
        rows.push(uplink_goes_and_returns(lab, &node, &right)?);
        print(&rows);
        Ok(())
    });
}

fn repair(node: &Node, monitor: &Monitor, side: &Side, damage: &Damage, right: &str) -> Result<Row> {
    let command = (damage.command)(side, node)?;
    let before = repairs(node)?;
    monitor.messages()?;
    let start = Instant::now();
    let output = node.run(&words(side, &command))?;
    // A flush complains about groups that went with their objects.
    ensure!(output.status.success() || command.contains("flush"), "ip {command}: {output:?}");
    poll::until("all as before", MOST, || present(node).is_ok_and(|now| now == right))?;
    let (seen, told) = (start.elapsed(), told(&monitor.messages()?)?);
    poll::until("the repair to be counted", MOST, || {
        let counted = |all: BTreeMap<String, u64>| all.get(damage.cause) > before.get(damage.cause);
        repairs(node).is_ok_and(counted)
    })?;
    Ok(Row {
        what: damage.what,
        family: side.family,
        told: Some(told),
        seen,
        counted: counted_since(&before, node)?,
    })
}

/// IPv4 routes that name it as source go with it, without a word; IPv6 ones lose it only.
fn node_address_goes_and_returns(
    node: &Node,
    monitor: &Monitor,
    side: &Side,
    right: &str,
) -> Result<[Row; 2]> {
    let before = repairs(node)?;
    let learned = |text: &str| text.lines().filter(|line| line.contains(" metric ")).count();
    monitor.messages()?;
    let start = Instant::now();
    node.run_ok(&words(side, &format!("address del {} dev lo", side.node)))?;
    let (address, _) = side.node.split_once('/').context("a length")?;
    poll::until("all routes without that source", MOST, || {
        present(node).is_ok_and(|now| !now.contains(address) && learned(&now) == learned(right))
    })?;
    let (seen, gone) = (start.elapsed(), told(&monitor.messages()?)?);
    let row = |what, told, seen, counted| Row { what, family: side.family, told: Some(told), seen, counted };
    let first = row("node address removed", gone, seen, counted_since(&before, node)?);
    ensure!(repairs(node)?.get("link-lost") > before.get("link-lost"), "not counted: {}", first.counted);

    let before = repairs(node)?;
    let start = Instant::now();
    let at_once = if side.family == "-6" { " nodad" } else { "" };
    node.run_ok(&words(side, &format!("address add {} dev lo{at_once}", side.node)))?;
    poll::until("all as before", MOST, || present(node).is_ok_and(|now| now == right))?;
    let (seen, back) = (start.elapsed(), told(&monitor.messages()?)?);
    Ok([first, row("node address put back", back, seen, counted_since(&before, node)?)])
}

/// Beside ours it is told and stays. In our place it is told and stays; ours comes when it goes.
fn foreign_route_goes(node: &Node, monitor: &Monitor, side: &Side, right: &str) -> Result<Row> {
    let before = repairs(node)?;
    let foreign = format!("{} via {} dev eth2 proto static metric 203", side.far, side.tor1b);
    let shown = || node.run_ok(&words(side, &format!("route show {}", side.far)));
    let mut seen = Duration::ZERO;
    for verb in ["append", "replace"] {
        node.run_ok(&words(side, &format!("route {verb} {foreign}")))?;
        poll::until("the foreign route to be told", MOST, || tells_of(node, side.far))?;
        let routes = shown()?;
        ensure!(routes.contains("proto static"), "{verb}: not left alone: {routes}");
        ensure!(routes.contains("proto 203") == (verb == "append"), "{verb}: {routes}");
        monitor.messages()?;
        let start = Instant::now();
        node.run_ok(&words(side, &format!("route del {foreign}")))?;
        poll::until("all as before", MOST, || present(node).is_ok_and(|now| now == right))?;
        seen = start.elapsed();
        poll::until("nothing foreign to be told", MOST, || !tells_of(node, side.far))?;
    }
    let told = Some(told(&monitor.messages()?)?);
    let counted = counted_since(&before, node)?;
    ensure!(counted.is_empty(), "a foreign route is no damage: {counted}");
    Ok(Row { what: "foreign route in our place, deleted again", family: side.family, told, seen, counted })
}

/// Ours is installed, and packets go the other way.
fn foreign_route_with_a_lower_metric_is_told(node: &Node, side: &Side) -> Result<()> {
    let foreign = format!("blackhole {} metric 7", side.far);
    node.run_ok(&words(side, &format!("route add {foreign}")))?;
    let line = format!("kernel: {}: a foreign route (protocol 3 boot, metric 7) goes before ours", side.far);
    poll::until("the route before ours to be told", MOST, || {
        problems(node).is_ok_and(|problems| problems.contains(&line))
    })?;
    node.run_ok(&words(side, &format!("route del {foreign}")))?;
    poll::until("nothing foreign to be told", MOST, || !tells_of(node, side.far))
}

/// What the kernel drops with the link is back when the link and the sessions over it are.
fn uplink_goes_and_returns(lab: &Lab, node: &Node, right: &str) -> Result<Row> {
    let before = repairs(node)?;
    lab.set_link("tor1a", "eth3", Carrier::Down)?;
    poll::until("the ways by tor1a to go", RECOVERY, || {
        present(node).is_ok_and(|now| !now.contains(SIDES[0].tor1a) && !now.contains("dev eth1"))
    })?;
    lab.set_link("tor1a", "eth3", Carrier::Up)?;
    let start = Instant::now();
    poll::until("all as before", RECOVERY, || present(node).is_ok_and(|now| now == right))?;
    let seen = start.elapsed();
    fabric::whole_and_spread(lab, 2, RECOVERY)?;
    let counted = counted_since(&before, node)?;
    ensure!(counted.contains("link-lost"), "not counted: {counted}");
    Ok(Row {
        what: "uplink gone, from its return, with its sessions",
        family: "both",
        told: None,
        seen,
        counted,
    })
}

/// From the first message, which is about the damage, to the last one that adds something of ours. Fails if that was
/// later than events make it.
fn told(messages: &[Message]) -> Result<Duration> {
    let is_repair = |message: &&Message| !message.is_delete() && message.text.contains("proto 203");
    let first = messages.first().context("the kernel has told nothing")?;
    let last = messages[1..].iter().rfind(is_repair).context("nothing was written")?;
    let told = last.at - first.at;
    ensure!(told < BY_EVENTS, "not by events, for {told:?} went by from {first:?} to {last:?}");
    Ok(told)
}

fn words<'a>(side: &Side, command: &'a str) -> Vec<&'a str> {
    // Next hops of both families share their numbers; a group has none.
    let family = (!command.starts_with("nexthop")).then_some(side.family);
    ["ip"].into_iter().chain(family).chain(command.split_whitespace()).collect()
}

/// The number of the object with this gateway.
fn object(node: &Node, gateway: &str) -> Result<String> {
    let text = node.run_ok(&["ip", "nexthop", "show", "proto", "203"])?;
    let line = text.lines().find(|line| line.contains(&format!(" via {gateway} "))).context("no object")?;
    line.split_whitespace().nth(1).map(str::to_owned).context("no number")
}

/// The number of the group that carries the far prefix.
fn group(node: &Node, side: &Side) -> Result<String> {
    let text = node.run_ok(&["ip", side.family, "route", "show", side.far])?;
    text.split_whitespace().skip_while(|word| *word != "nhid").nth(1).map(str::to_owned).context("no group")
}

/// All routes of ours, but for the numbers of objects and groups, which are others after a repair.
fn present(node: &Node) -> Result<String> {
    let mut lines = Vec::new();
    for side in &SIDES {
        let text = node.run_ok(&["ip", side.family, "route", "show", "proto", "203"])?;
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let mut kept = Vec::new();
            while let Some(word) = words.next() {
                if word == "nhid" {
                    words.next();
                }
                kept.push(word);
            }
            lines.push(kept.join(" "));
        }
    }
    Ok(lines.join("\n"))
}

/// Whether `show status` names a foreign route for the prefix.
fn tells_of(node: &Node, prefix: &str) -> bool {
    let told = |problem: &String| problem.contains(prefix) && problem.contains("foreign");
    problems(node).is_ok_and(|problems| problems.iter().any(told))
}

/// The repairs of BGP's routes that `show status` counts, by cause. Those of pods' host routes come when they come;
/// `pod_routes.rs` is about them.
fn repairs(node: &Node) -> Result<BTreeMap<String, u64>> {
    let answer = fabric::ask(node, &["show", "status"])?;
    let all = answer["status"]["keeping"]["repairs"].clone();
    let mut all: BTreeMap<String, u64> = serde_json::from_value(all).context("repairs by cause")?;
    all.retain(|cause, _| !cause.starts_with("pod-"));
    Ok(all)
}

fn counted_since(before: &BTreeMap<String, u64>, node: &Node) -> Result<String> {
    let more = |(cause, count): (String, u64)| {
        let more = count - before.get(&cause).copied().unwrap_or_default();
        (more > 0).then(|| format!("{cause} {more}"))
    };
    Ok(repairs(node)?.into_iter().filter_map(more).collect::<Vec<_>>().join(", "))
}

fn print(rows: &[Row]) {
    let milliseconds = |time: &Duration| format!("{:.1}", time.as_secs_f64() * 1000.0);
    println!("from damage to repair on n11, in ms; and what was counted:");
    println!("  {:<48} {:<5} {:>8} {:>8}", "", "", "messages", "seen");
    for Row { what, family, told, seen, counted } in rows {
        let told = told.as_ref().map_or_else(|| "-".to_owned(), milliseconds);
        println!("  {what:<48} {family:<5} {told:>8} {:>8}  {counted}", milliseconds(seen));
    }
}
