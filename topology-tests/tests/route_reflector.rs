//! Two route reflectors instead of a mesh: `containerlab/route-reflector`.
//!
//! ```text
//!        rr1     rr2                FRR, AS 64512
//!         |       |
//!   --+---+---+---+---+-------+--   172.16.0.0/24, fd00:172:16::/64
//!     |       |       |       |
//!    n1      n2      n3      n4     Cambric, AS 64512
//! ```
//!
//! Proves (RFC 4456):
//! - every node has the pod ranges of all others from both reflectors, with the node that has them as next hop;
//! - what a reflector sends back of a node's own is neither used nor an alarm;
//! - a reflector loses power, the other one has its daemon killed: pods that talk at 1 kHz lose no packet, and the kernel
//!   is told nothing about routes; who comes back is used again.

mod common;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cambric_lab::links::Carrier;
use cambric_lab::{Lab, Node, fabric, poll};
use nix::sys::signal::Signal;
use serde_json::Value;

use common::monitor::Monitor;
use common::operator::{established, peers};
use common::{LabFolder, Need, in_lab, machine_has};

const LIMIT: Duration = Duration::from_secs(60);
const NODES: [u8; 4] = [1, 2, 3, 4];
const FIRST: [&str; 2] = ["rr1", "rr1-v6"];
const SECOND: [&str; 2] = ["rr2", "rr2-v6"];
/// Packets of each flow after a change.
const AFTER: u32 = 1000;

#[test]
fn reflectors_tell_every_node_of_all_others_and_may_die() {
    if !machine_has(&[Need::Root, Need::Frr, Need::Cambric]) {
        return;
    }
    in_lab(&LabFolder::copy_of("../containerlab/route-reflector"), |lab| {
        fabric::whole(lab, LIMIT)?;
        everybody_has_everything_twice(lab)?;
        a_reflector_may_die(
            "rr1 loses power",
            lab,
            &SECOND,
            |lab| lab.links_down("rr1"),
            |lab| lab.set_links("rr1", Carrier::Up),
        )?;
        let kill = |lab: &Lab| lab.node("rr2")?.kill("bgpd", Signal::SIGKILL);
        a_reflector_may_die("bgpd of rr2 is killed", lab, &FIRST, kill, |lab| lab.node("rr2")?.start())
    });
}

/// The pod ranges of a node, its addresses.
fn of(number: u8) -> [(String, String); 2] {
    [
        (format!("10.244.{number}.0/24"), format!("172.16.0.{number}")),
        (format!("fd00:10:244:{number}::/64"), format!("fd00:172:16::{number}")),
    ]
}

fn everybody_has_everything_twice(lab: &Lab) -> Result<()> {
    for number in NODES {
        let node = lab.node(&format!("n{number}"))?;
        for (family, (prefix, next_hop)) in NODES
            .iter()
            .filter(|other| **other != number)
            .flat_map(|other| of(*other).into_iter().enumerate())
        {
            let what = format!("{prefix} at {} from both reflectors", node.name());
            poll::until(&what, LIMIT, || {
                from(&node, &prefix).is_ok_and(|from| from == [FIRST[family], SECOND[family]])
            })
            .with_context(|| format!("{:?}", from(&node, &prefix)))?;
            let version = ["-4", "-6"][family];
            let route = node.run_ok(&["ip", version, "route", "show", &prefix])?;
            ensure!(route.contains(&format!("via {next_hop} ")), "{}: {route}", node.name());
        }
        // A reflector may send a node's own back: refused, and nothing else is.
        for peer in peers(&node)? {
            ensure!(peer["flawed_updates"] == 0, "{}: {peer:#}", node.name());
            for family in peer["families"].as_array().context("families")? {
                let refused = family["refused"].as_u64().context("refused")?;
                ensure!(
                    family["accepted"] == 3 && refused <= 1,
                    "{}: of {}: {family:#}",
                    node.name(),
                    peer["name"]
                );
            }
        }
        for (prefix, _) in of(number) {
            let used = paths(&node, &prefix)?.into_iter().filter(|path| !path["peer"].is_null());
            let used: Vec<Value> = used.filter(|path| path["verdict"] != "refused").collect();
            ensure!(used.is_empty(), "{}: its own from a reflector: {used:#?}", node.name());
        }
    }
    println!("every node has the ranges of the three others from both reflectors, straight to their nodes");
    Ok(())
}

/// Who told a prefix.
fn from(node: &Node, prefix: &str) -> Result<Vec<String>> {
    let peers = paths(node, prefix)?.into_iter().filter_map(|path| path["peer"].as_str().map(str::to_owned));
    let mut peers: Vec<String> = peers.collect();
    peers.sort();
    Ok(peers)
}

fn paths(node: &Node, prefix: &str) -> Result<Vec<Value>> {
    let answer = fabric::ask(node, &["show", "route"])?;
    let routes = answer["routes"].as_array().context("routes")?.iter();
    let paths =
        routes.filter(|route| route["prefix"] == prefix).filter_map(|route| route["paths"].as_array());
    Ok(paths.flatten().cloned().collect())
}

fn a_reflector_may_die(
    what: &str,
    lab: &Lab,
    left: &[&str; 2],
    dies: impl Fn(&Lab) -> Result<()>,
    comes_back: impl Fn(&Lab) -> Result<()>,
) -> Result<()> {
    let nodes = fabric::cambric_nodes(lab)?;
    let flows = fabric::start_flows(&lab.pod("n1", "n1-1")?, &lab.pod("n4", "n4-1")?)?;
    let monitors = nodes.iter().map(Monitor::start).collect::<Result<Vec<_>>>()?;
    dies(lab)?;
    for node in &nodes {
        poll::until(&format!("{} to notice: {what}", node.name()), LIMIT, || established(node) == left)?;
    }
    fabric::send_more(&flows, AFTER)?;
    comes_back(lab)?;
    fabric::whole(lab, LIMIT)?;
    everybody_has_everything_twice(lab)?;
    fabric::send_more(&flows, AFTER)?;
    let reports = fabric::stop_flows(flows)?;
    let lost: Vec<u32> = reports.iter().map(|report| report.lost).collect();
    println!("{what}: packets lost, by flow: {lost:?}");
    for (node, monitor) in nodes.iter().zip(monitors) {
        let told = monitor.messages()?;
        ensure!(told.is_empty(), "{what}: the kernel of {} was told: {told:#?}", node.name());
    }
    ensure!(lost.iter().all(|lost| *lost == 0), "{what}: {reports:#?}");
    Ok(())
}
