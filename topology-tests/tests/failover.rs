//! What a lost way costs a dual-homed node: `containerlab/two-rack`.
//!
//! ```text
//!     tor1a        tor1b     FRR, AS 65101
//!      |  \        /  |
//!      |   n12 ---/   |
//!     eth1           eth2
//!       \            /
//!        ---- n11 ---        Cambric, AS 65111: every other node's prefixes by both
//! ```
//!
//! Proves:
//! - routes over both switches are one next-hop group, in both families;
//! - a session that ends for good while its link stays up (NOTIFICATION Cease, RFC 4486; no graceful restart) is
//!   answered first by one message to the kernel, that deletes the dead member of all groups; routes follow later;
//! - a link that is gone for 100 ms, one of two or the only one, with the daemon running or dead, leaves nothing broken.
//!   What it costs is printed.

mod common;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cambric_lab::fabric::{self, RECOVERY};
use cambric_lab::flow::Report;
use cambric_lab::links::Carrier;
use cambric_lab::{Lab, Node, poll};
use nix::sys::signal::Signal;

use common::monitor::Monitor;
use common::{LabFolder, Need, in_lab, machine_has};

const CAMBRICD: &str = "cambricd";

/// How long the link is away: long enough for the kernel to drop what hangs on it, too short for any timer of BGP.
const FLAP: Duration = Duration::from_millis(100);

/// Packets that a flow may lose at 1 kHz when one of two links flaps and the daemon runs.
const FLAP_MOST: u32 = 300;

/// Flows go on this long after a fault, so that a late loss is seen.
const AFTER: u32 = 500;

/// A prefix of another rack, by family.
const FAR: [(&str, &str); 2] = [("-4", "10.244.21.0/24"), ("-6", "fd00:10:244:21::/64")];

/// How tor1a calls n11, and n11 calls tor1a, by family.
const SESSIONS: [(&str, &str); 2] =
    [("172.16.11.1", "172.16.11.0"), ("fd00:172:16:11::1", "fd00:172:16:11::")];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Uplinks {
    OneOfTwo,
    TheOnlyOne,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Daemon {
    Running,
    /// Killed before the fault, started after it.
    Dead,
}

#[test]
fn a_dual_homed_node_survives_what_happens_to_its_uplinks() {
    if !machine_has(&[Need::Root, Need::Frr, Need::Cambric]) {
        return;
    }
    in_lab(&LabFolder::copy_of("../containerlab/two-rack"), |lab| {
        let start = Instant::now();
        be_whole(lab)?;
        println!("whole {:.1?} after the lab was up", start.elapsed());
        print_memory(lab)?;
        both_ways_are_one_group(&lab.node("n11")?)?;
        a_lost_session_costs_one_message_before_any_route(lab)?;
        links_flap(lab)
    });
}

/// All sessions, all routes, and two ways in every group of every node.
fn be_whole(lab: &Lab) -> Result<()> {
    fabric::whole(lab, RECOVERY)?;
    for node in fabric::cambric_nodes(lab)? {
        poll::until("two ways in every group", RECOVERY, || fabric::groups_have(&node, 2))?;
        for (family, prefix) in FAR {
            // Its own range is unreachable here.
            poll::until("routes by groups", RECOVERY, || {
                let route = node.run_ok(&["ip", family, "route", "show", prefix]).unwrap_or_default();
                route.contains("nhid") || route.contains("unreachable")
            })?;
        }
    }
    Ok(())
}

fn print_memory(lab: &Lab) -> Result<()> {
    for node in fabric::cambric_nodes(lab)? {
        let pid = node.daemon_pid(CAMBRICD).context("it runs")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        println!("{}: memory of cambricd: {}", node.name(), memory.trim());
    }
    Ok(())
}

fn both_ways_are_one_group(node: &Node) -> Result<()> {
    for (family, prefix) in FAR {
        let route = node.run_ok(&["ip", family, "route", "show", prefix])?;
        ensure!(
            route.contains("nhid") && route.contains("dev eth1") && route.contains("dev eth2"),
            "{route}"
        );
        println!("n11: {}", route.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    println!("n11: next hops:\n{}", node.run_ok(&["ip", "nexthop", "show"])?.trim_end());
    Ok(())
}

fn a_lost_session_costs_one_message_before_any_route(lab: &Lab) -> Result<()> {
    let (node, switch) = (lab.node("n11")?, lab.node("tor1a")?);
    for ((family, prefix), (of_node, of_switch)) in FAR.into_iter().zip(SESSIONS) {
        let monitor = Monitor::start(&node)?;
        let start = Instant::now();
        configure(&switch, &format!("neighbor {of_node} shutdown"))?;
        poll::until("the route to leave tor1a", RECOVERY, || {
            let route = node.run_ok(&["ip", family, "route", "show", prefix]);
            route.is_ok_and(|text| text.contains("dev eth2") && !text.contains("dev eth1"))
        })?;
        poll::until("the node to have written all", RECOVERY, || has_written_all(&node))?;
        let messages = monitor.messages()?;

        let first = messages.first().context("the kernel has told nothing")?;
        let deletes_the_member = first.text.starts_with("Deleted id ")
            && first.text.contains(&format!("via {of_switch} dev eth1"));
        ensure!(deletes_the_member, "first is not the delete of {of_switch}: {messages:#?}");
        let before_routes = messages.iter().take_while(|message| message.is_of_nexthop());
        let (before, deletes) =
            (before_routes.clone().count(), before_routes.filter(|m| m.is_delete()).count());
        ensure!(deletes == 1, "{deletes} next hops deleted before the first route: {messages:#?}");
        let routes = messages.iter().filter(|message| !message.is_of_nexthop()).count();
        println!(
            "tor1a ends its session by Cease, its link stays: after {:.0?} {first:?}\n  {before} messages about next hops \
             before the first about a route, {routes} about routes, {} in all",
            first.at - start,
            messages.len()
        );
        configure(&switch, &format!("no neighbor {of_node} shutdown"))?;
        be_whole(lab)?;
    }
    Ok(())
}

fn configure(switch: &Node, line: &str) -> Result<()> {
    switch.run_ok(&["vtysh", "-c", "configure terminal", "-c", "router bgp", "-c", line]).map(drop)
}

fn has_written_all(node: &Node) -> bool {
    let Ok(answer) = fabric::ask(node, &["show", "status"]) else { return false };
    let families = answer["status"]["kernel"].as_array();
    families.is_some_and(|families| families.iter().all(|family| family["wanted"] == family["installed"]))
}

fn links_flap(lab: &Lab) -> Result<()> {
    let mut table = Vec::new();
    for uplinks in [Uplinks::OneOfTwo, Uplinks::TheOnlyOne] {
        for daemon in [Daemon::Running, Daemon::Dead] {
            let start = Instant::now();
            let reports = flap(lab, uplinks, daemon).with_context(|| format!("{uplinks:?}, {daemon:?}"))?;
            println!("  ({uplinks:?}, daemon {daemon:?}: {:.1?})", start.elapsed());
            table.push((uplinks, daemon, reports));
        }
    }
    println!(
        "n11's link to tor1a is gone for {FLAP:?}; packets lost of 1 kHz, by flow (two of IPv4, two of IPv6):"
    );
    for (uplinks, daemon, reports) in &table {
        let lost: Vec<u32> = reports.iter().map(|report| report.lost).collect();
        let sent = reports.iter().map(|report| report.sent).max().unwrap_or(0);
        println!("  {:<12} daemon {:<8} {lost:?} of {sent}", format!("{uplinks:?}"), format!("{daemon:?}"));
    }
    for (.., reports) in table.iter().filter(|row| (row.0, row.1) == (Uplinks::OneOfTwo, Daemon::Running)) {
        let worst = reports.iter().map(|report| report.lost).max().unwrap_or(0);
        ensure!(worst < FLAP_MOST, "one of two links, daemon running: {worst} packets lost");
    }
    Ok(())
}

/// One flap under flows from a pod of n11 to one of the other rack; all is whole before and after.
fn flap(lab: &Lab, uplinks: Uplinks, daemon: Daemon) -> Result<Vec<Report>> {
    let node = lab.node("n11")?;
    let (from, to) = (lab.pod("n11", "n11-1")?, lab.pod("n22", "n22-1")?);
    if uplinks == Uplinks::TheOnlyOne {
        lab.set_link("tor1b", "eth3", Carrier::Down)?;
        for (family, prefix) in FAR {
            poll::until("the way by tor1b to go", RECOVERY, || {
                let route = node.run_ok(&["ip", family, "route", "show", prefix]);
                route.is_ok_and(|text| text.contains("dev eth1") && !text.contains("dev eth2"))
            })?;
        }
    }
    let flows = fabric::start_flows(&from, &to)?;
    if daemon == Daemon::Dead {
        node.kill(CAMBRICD, Signal::SIGKILL)?;
    }
    lab.set_link("tor1a", "eth3", Carrier::Down)?;
    std::thread::sleep(FLAP); // the fault itself
    lab.set_link("tor1a", "eth3", Carrier::Up)?;
    fabric::send_more(&flows, AFTER)?;
    if daemon == Daemon::Dead {
        node.start()?;
    }
    poll::until("every flow to go on", RECOVERY, || {
        let before: Vec<u32> = flows.iter().map(|flow| flow.answered()).collect();
        let goes_on = fabric::send_more(&flows, 50).is_ok();
        goes_on && flows.iter().zip(before).all(|(flow, before)| flow.answered() > before)
    })?;
    if uplinks == Uplinks::TheOnlyOne {
        lab.set_link("tor1b", "eth3", Carrier::Up)?;
    }
    be_whole(lab)?;
    let answered: Vec<u32> = flows.iter().map(|flow| flow.answered()).collect();
    fabric::send_more(&flows, AFTER)?;
    for (flow, before) in flows.iter().zip(answered) {
        ensure!(flow.answered() - before > AFTER / 2, "a flow does not flow in the end");
    }
    fabric::stop_flows(flows)
}
