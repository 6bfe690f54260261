//! No address on any link: `containerlab/unnumbered`.
//!
//! ```text
//!     tor1        tor2       FRR, fe80::1 on every link
//!      |  \      /  |
//!      |   n2 --/   |        and n3
//!     eth1         eth2
//!       \          /
//!        --- n1 ---          Cambric, addresses on lo alone
//! ```
//!
//! Proves:
//! - peers named by their interface are found by router advertisements (RFC 4861) and told apart by the link (RFC 4007),
//!   though both have the same address; one session carries both families;
//! - IPv4 routes have IPv6 next hops in the kernel (RFC 8950), over both uplinks;
//! - what an uplink costs that goes down, or that drops all without a word, is printed;
//! - a daemon that is killed finds its routes again: no packet is lost, and the kernel deletes nothing.

mod common;

use anyhow::{Context, Result, bail, ensure};
use cambric_lab::fabric::{self, RECOVERY};
use cambric_lab::flow::Flow;
use cambric_lab::links::Carrier;
use cambric_lab::{Lab, Node, poll};
use nix::sys::signal::Signal;

use common::monitor::Monitor;
use common::{LabFolder, Need, in_lab, machine_has};

/// Prefixes of the pods of n2, by family, and how their next hops look.
const FAR: [(&str, &str, &str); 2] =
    [("-4", "10.244.2.0/24", "via inet6 fe80::1 dev"), ("-6", "fd00:10:244:2::/64", "via fe80::1 dev")];

/// Flows go on this long after a fault, so that a late loss is seen.
const AFTER: u32 = 500;

/// Packets that a flow may lose at 1 kHz when one of two uplinks goes down.
const CUT_MOST: u32 = 300;

/// And when it drops all without a word: for the hold time of 9 s, and a part of it behind.
const SILENT_MOST: u32 = 13_000;

#[test]
fn dual_homed_nodes_need_no_address_on_their_links() {
    if !machine_has(&[Need::Root, Need::Frr, Need::Cambric, Need::Netfilter]) {
        return;
    }
    in_lab(&LabFolder::copy_of("../containerlab/unnumbered"), |lab| {
        fabric::whole_and_spread(lab, 2, RECOVERY)?;
        links_have_no_address(lab)?;
        neighbors_are_told_apart_by_the_link(&lab.node("n1")?)?;
        all_reach_all(lab)?;
        an_uplink_goes_down(lab)?;
        an_uplink_is_silent(lab)?;
        the_daemon_is_killed(lab)?;
        all_reach_all(lab)
    });
}

/// `labs/unnumbered-bird`: BIRD writes next hops another way than FRR.
#[test]
fn bird_is_a_peer_over_link_local_addresses_for_both_families() {
    if !machine_has(&[Need::Root, Need::Bird, Need::Cambric]) {
        return;
    }
    in_lab(&LabFolder::copy_of("labs/unnumbered-bird"), |lab| {
        let (node, bird) = (lab.node("c1")?, lab.node("b1")?);
        let shows = |of: &Node, family: &str, prefix: &str, way: &str| {
            let what = format!("{}: {prefix} {way}", of.name());
            poll::until(&what, RECOVERY, || {
                let route = of.run_ok(&["ip", family, "route", "show", prefix]);
                route.is_ok_and(|route| route.contains(way))
            })?;
            println!("{what}");
            Ok::<_, anyhow::Error>(())
        };
        shows(&node, "-4", "198.51.100.64/26", "via inet6 fe80::b1 dev eth1")?;
        shows(&node, "-6", "2001:db8:102::/64", "via fe80::b1 dev eth1")?;
        shows(&bird, "-4", "198.51.100.0/26", "via inet6 fe80::c1 dev eth1")?;
        shows(&bird, "-6", "2001:db8:101::/64", "via fe80::c1 dev eth1")
    });
}

fn links_have_no_address(lab: &Lab) -> Result<()> {
    for name in lab.topology().nodes.keys() {
        for interface in ["eth1", "eth2"] {
            let words = ["ip", "address", "show", "dev", interface, "scope", "global"];
            let addresses = lab.node(name)?.run_ok(&words)?;
            ensure!(!addresses.contains("inet"), "{name}: {addresses}");
        }
    }
    Ok(())
}

fn neighbors_are_told_apart_by_the_link(node: &Node) -> Result<()> {
    let answer = fabric::ask(node, &["show", "protocols"])?;
    let protocols = answer["protocols"].as_array().context("a list of protocols")?;
    let addresses: Vec<&str> = protocols.iter().filter_map(|peer| peer["address"].as_str()).collect();
    ensure!(addresses == ["fe80::1%eth1", "fe80::1%eth2"], "{addresses:?}");
    for (family, prefix, via) in FAR {
        let route = node.run_ok(&["ip", family, "route", "show", prefix])?;
        println!("n1: {}", route.split_whitespace().collect::<Vec<_>>().join(" "));
        for uplink in ["eth1", "eth2"] {
            ensure!(route.contains("nhid") && route.contains(&format!("{via} {uplink}")), "{route}");
        }
    }
    Ok(())
}

fn all_reach_all(lab: &Lab) -> Result<()> {
    let (questions, wrong) = fabric::reachability(lab)?;
    println!("matrix: {questions} questions, {} wrong", wrong.len());
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

/// Flows between pods of n1 and n2 in both families, two each, of which both uplinks of n1 carry some: which one carries
/// a flow is up to its ports, so more than one throw may be needed.
fn flows_over_both(lab: &Lab) -> Result<Vec<Flow>> {
    let (node, from, to) = (lab.node("n1")?, lab.pod("n1", "n1-1")?, lab.pod("n2", "n2-1")?);
    for _ in 0..20 {
        let flows = fabric::start_flows(&from, &to)?;
        let before = ["eth1", "eth2"].map(|uplink| fabric::packets(&node, uplink).unwrap_or_default());
        fabric::send_more(&flows, AFTER)?;
        let now = ["eth1", "eth2"].map(|uplink| fabric::packets(&node, uplink).unwrap_or_default());
        let carried = [now[0] - before[0], now[1] - before[1]];
        if carried.iter().all(|packets| *packets > u64::from(AFTER / 2)) {
            println!("eth1 and eth2 carry {carried:?} packets of the flows");
            return Ok(flows);
        }
        fabric::stop_flows(flows)?;
    }
    bail!("flows do not spread over both uplinks")
}

/// n1's link to tor1 is cut under them.
fn an_uplink_goes_down(lab: &Lab) -> Result<()> {
    let (node, flows) = (lab.node("n1")?, flows_over_both(lab)?);
    lab.set_link("tor1", "eth1", Carrier::Down)?;
    fabric::send_more(&flows, AFTER)?;
    for (family, prefix, via) in FAR {
        poll::until("the other uplink alone", RECOVERY, || only(&node, family, prefix, via, "eth2"))?;
    }
    lab.set_link("tor1", "eth1", Carrier::Up)?;
    fabric::whole_and_spread(lab, 2, RECOVERY)?;
    // A kernel whose link was down makes another link-local address of its own: the peer is where that is.
    let protocols = fabric::ask(&node, &["show", "protocols"])?;
    println!(
        "n1's peers then: {} and {}",
        protocols["protocols"][0]["address"], protocols["protocols"][1]["address"]
    );
    fabric::send_more(&flows, AFTER)?;
    let lost = lost("n1's link to tor1 down and up", flows)?;
    ensure!(lost.iter().all(|lost| *lost < CUT_MOST), "{lost:?}");
    Ok(())
}

/// n1 and tor1 hear nothing of each other, and their link stays up: the hold timer finds out.
fn an_uplink_is_silent(lab: &Lab) -> Result<()> {
    let (node, tor) = (lab.node("n1")?, lab.node("tor1")?);
    let flows = flows_over_both(lab)?;
    for end in [&tor, &node] {
        end.run_ok(&["nft", DROPS])?;
    }
    for (family, prefix, via) in FAR {
        poll::until("the other uplink alone", RECOVERY, || only(&node, family, prefix, via, "eth2"))?;
    }
    fabric::send_more(&flows, AFTER)?;
    for end in [&tor, &node] {
        end.run_ok(&["nft", "delete table netdev silent"])?;
    }
    fabric::whole_and_spread(lab, 2, RECOVERY)?;
    fabric::send_more(&flows, AFTER)?;
    let lost = lost("tor1 silent on n1's link until the hold time of 9 s is over", flows)?;
    ensure!(lost.iter().all(|lost| *lost < SILENT_MOST), "{lost:?}");
    Ok(())
}

/// All that comes in by the link between the two; it is eth1 of both.
const DROPS: &str = "add table netdev silent; add chain netdev silent drops { type filter hook ingress device eth1 priority 0; \
                     policy drop; }";

fn only(node: &Node, family: &str, prefix: &str, via: &str, uplink: &str) -> bool {
    let Ok(route) = node.run_ok(&["ip", family, "route", "show", prefix]) else { return false };
    let other = if uplink == "eth1" { "eth2" } else { "eth1" };
    route.contains(&format!("{via} {uplink}")) && !route.contains(&format!("dev {other}"))
}

fn the_daemon_is_killed(lab: &Lab) -> Result<()> {
    let (node, tor) = (lab.node("n1")?, lab.node("tor1")?);
    let flows = flows_over_both(lab)?;
    let monitor = Monitor::start(&node)?;
    fabric::restart(&node, Signal::SIGKILL, || fabric::is_stale_at(&tor, "10.244.1.0/24"))?;
    fabric::whole_and_spread(lab, 2, RECOVERY)?;
    fabric::send_more(&flows, AFTER)?;
    let messages = monitor.messages()?;
    let deleted: Vec<_> = messages.iter().filter(|message| message.is_delete()).collect();
    println!("kill -9 and start: {} messages of the kernel, {} deletions", messages.len(), deleted.len());
    let lost = lost("the daemon killed and started", flows)?;
    ensure!(deleted.is_empty(), "{messages:#?}");
    ensure!(lost.iter().all(|lost| *lost == 0), "{lost:?}");
    Ok(())
}

fn lost(what: &str, flows: Vec<Flow>) -> Result<Vec<u32>> {
    let reports = fabric::stop_flows(flows)?;
    let lost: Vec<u32> = reports.iter().map(|report| report.lost).collect();
    let sent = reports.iter().map(|report| report.sent).max().unwrap_or(0);
    println!("{what}: packets lost of 1 kHz, by flow (two of IPv4, two of IPv6): {lost:?} of {sent}");
    Ok(lost)
}
