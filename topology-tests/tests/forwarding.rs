//! A node forwards, and keeps its default route while it does: `labs/one-switch`.
//!
//! ```text
//!    f1  FRR: sends router advertisements (RFC 4861)
//!     |
//!    c1  Cambric, with a default route from them
//! ```
//!
//! Proves:
//! - the daemon turns IPv4 and IPv6 forwarding on, and on again within 1 s when somebody turns it off;
//! - before it turns IPv6 forwarding on, an interface with a route from router advertisements gets `accept_ra=2`: with 1
//!   the kernel takes these routes away from a node that forwards. The test shows that it does.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cambric_lab::{Lab, Node, fabric, poll};
use nix::sys::signal::Signal;

use common::monitor::Monitor;
use common::{LabFolder, Need, in_lab, machine_has};

const LIMIT: Duration = Duration::from_secs(30);

const CAMBRICD: &str = "cambricd";

/// How long forwarding may be off.
const AT_ONCE: Duration = Duration::from_secs(1);

const SWITCHES: [&str; 2] = ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"];

const ACCEPT_RA: &str = "net.ipv6.conf.eth1.accept_ra";

#[test]
fn a_node_forwards_and_keeps_the_default_route_of_router_advertisements() {
    if !machine_has(&[Need::Root, Need::Frr, Need::Cambric]) {
        return;
    }
    in_lab(&LabFolder::copy_of("labs/one-switch"), |lab| {
        forwarding_is_turned_on_again(lab)?;
        the_default_route_stays(lab)
    });
}

fn forwarding_is_turned_on_again(lab: &Lab) -> Result<()> {
    let node = lab.node("c1")?;
    for switch in SWITCHES {
        poll::until(&format!("{switch} to be on"), LIMIT, || get(&node, switch).is_ok_and(|on| on == "1"))?;
        set(&node, switch, "0")?;
        let start = Instant::now();
        poll::until(&format!("{switch} to be on again"), AT_ONCE, || {
            get(&node, switch).is_ok_and(|on| on == "1")
        })?;
        println!("{switch} was turned off: on again after {:.0?}", start.elapsed());
    }
    let log = fs::read_to_string(node.log("cambricd.log"))?;
    ensure!(log.matches("somebody turned forwarding off; it is on again").count() == 2, "it does not say so");
    Ok(())
}

fn the_default_route_stays(lab: &Lab) -> Result<()> {
    let node = lab.node("c1")?;
    node.kill(CAMBRICD, Signal::SIGKILL)?;
    take_a_default_route(&node)?;
    set(&node, SWITCHES[1], "1")?;
    poll::until("the kernel to drop the default route", LIMIT, || {
        default_route(&node).is_ok_and(|route| route.is_empty())
    })?;
    println!("accept_ra=1: the kernel drops the default route as forwarding goes on");

    take_a_default_route(&node)?;
    let monitor = Monitor::start(&node)?;
    let said_before = fs::read_to_string(node.log("cambricd.log"))?.len();
    node.start()?;
    poll::until("IPv6 forwarding", LIMIT, || get(&node, SWITCHES[1]).is_ok_and(|on| on == "1"))?;
    poll::until("the node to be ready", LIMIT, || fabric::is_whole(&node))?;
    ensure!(get(&node, ACCEPT_RA)? == "2", "accept_ra is {}", get(&node, ACCEPT_RA)?);
    let record = fs::read_to_string(node.path("/run/cambric/sysctls.json"))?;
    let found = r#""ipv6/conf/eth1/accept_ra":{"before":"1","ours":"2"}"#;
    ensure!(record.contains(found), "what it was is not written down: {record}");
    ensure!(default_route(&node)?.contains("proto ra"), "the default route is gone");
    let messages = monitor.messages()?;
    let deleted = messages.iter().any(|message| message.text.starts_with("Deleted default"));
    ensure!(!deleted, "the default route was away: {messages:#?}");
    let log = fs::read_to_string(node.log("cambricd.log"))?;
    let says = log[said_before..].lines().find(|line| line.contains("accept_ra=2"));
    ensure!(
        says.is_some_and(|line| line.contains("iface=eth1")),
        "it does not say so:\n{}",
        &log[said_before..]
    );
    println!(
        "the daemon sets accept_ra=2 first: the default route stays, and it says so: {}",
        says.unwrap_or_default()
    );
    Ok(())
}

/// A node that does not forward yet, and takes a default route from the switch.
fn take_a_default_route(node: &Node) -> Result<()> {
    set(node, SWITCHES[1], "0")?;
    set(node, ACCEPT_RA, "1")?;
    poll::until("a default route from a router advertisement", LIMIT, || {
        default_route(node).is_ok_and(|route| route.contains("proto ra"))
    })
}

fn default_route(node: &Node) -> Result<String> {
    node.run_ok(&["ip", "-6", "route", "show", "default"])
}

fn get(node: &Node, key: &str) -> Result<String> {
    Ok(node.run_ok(&["sysctl", "-n", key])?.trim().to_owned())
}

fn set(node: &Node, key: &str, value: &str) -> Result<()> {
    node.run_ok(&["sysctl", "-q", "-w", &format!("{key}={value}")]).map(drop)
}
