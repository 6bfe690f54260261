//! What `docs/install.md` says, word by word: `labs/install`.
//!
//! ```text
//!     node1   node2    tor FRR
//!       |       |       |
//!     --+-------+-------+--   192.0.2.0/24
//! ```
//!
//! Proves:
//! - with Node objects alone pods of two nodes ping each other;
//! - the object and the lines for the switch that the guide shows make sessions, and the switch reaches pods;
//! - a range outside of the declared ones that the switch tells is refused by name, and one inside is used.

mod common;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cambric_lab::{Lab, Node, fabric, poll};
use common::operator::{established, problems, type_in};
use common::{LabFolder, Need, in_lab, machine_has};

const LIMIT: Duration = Duration::from_secs(60);

const GUIDE: &str = include_str!("../../docs/install.md");

/// The file that blocks of the guide name as their reader.
const READER: &str = "read by topology-tests/tests/install.rs -->";

#[test]
fn the_guide_leads_from_zero_to_ping_and_to_the_switch() {
    if !machine_has(&[Need::Root, Need::Frr, Need::Cambric]) {
        return;
    }
    let folder = LabFolder::copy_of("labs/install");
    in_lab(&folder, |lab| {
        let nodes = [lab.node("node1")?, lab.node("node2")?];
        poll::until("the mesh", LIMIT, || nodes.iter().all(fabric::is_whole))?;
        pods_ping_each_other(lab)?;
        folder.write("manifests/guide.yaml", block("objects")?);
        let switch = lab.node("tor")?;
        configure(&switch, block("tor")?)?;
        for node in &nodes {
            poll::until("the session with the switch", LIMIT, || {
                established(node).iter().any(|peer| peer == "tor")
            })?;
            ensure!(problems(node)?.is_empty(), "{:?}", problems(node));
        }
        the_switch_reaches_pods(lab, &switch)?;
        what_the_switch_tells_is_judged(&nodes[0], &switch)?;
        pods_ping_each_other(lab)
    });
}

fn pods_ping_each_other(lab: &Lab) -> Result<()> {
    let [one, two] = [lab.pod("node1", "node1-1")?, lab.pod("node2", "node2-1")?];
    for (from, to) in [(&one, &two), (&two, &one)] {
        let address = to.addresses()?.into_iter().next().context("a pod without an address")?;
        let said = from.run_ok(&["ping", "-c", "3", "-i", "0.2", &address.to_string()])?;
        println!("{}", said.lines().rev().nth(1).unwrap_or_default());
        ensure!(said.contains(" 3 received"), "{said}");
    }
    Ok(())
}

/// Types lines into a switch as its operator does.
fn configure(switch: &Node, lines: &str) -> Result<()> {
    std::fs::write(switch.path("/tmp/typed.conf"), lines)?;
    switch.run_ok(&["vtysh", "-f", "/tmp/typed.conf"])?;
    Ok(())
}

fn the_switch_reaches_pods(lab: &Lab, switch: &Node) -> Result<()> {
    let has =
        |range: &str| switch.run_ok(&["ip", "route", "show", range]).is_ok_and(|text| text.contains("bgp"));
    poll::until("routes to pods at the switch", LIMIT, || has("10.244.1.0/24") && has("10.244.2.0/24"))?;
    for (node, pod) in [("node1", "node1-1"), ("node2", "node2-1")] {
        let address = lab.pod(node, pod)?.addresses()?.into_iter().next().context("no address")?;
        let said = switch.run_ok(&["ping", "-c", "3", "-i", "0.2", &address.to_string()])?;
        ensure!(said.contains(" 3 received"), "{said}");
    }
    Ok(())
}

/// A range of another rack, which comes through; and one that is none of the pods', which the guide's lines for the
/// switch hold back there, so it is told to let it go.
fn what_the_switch_tells_is_judged(node: &Node, switch: &Node) -> Result<()> {
    let more = "ip route 10.244.99.0/24 Null0\nip route 203.0.113.0/24 Null0\n\
        ip prefix-list TO-NODES permit 203.0.113.0/24\n\
        router bgp 65001\n address-family ipv4 unicast\n  network 10.244.99.0/24\n  network 203.0.113.0/24\n exit-address-family\nexit\n";
    configure(switch, more)?;
    let uses = || {
        node.run_ok(&["ip", "route", "show", "10.244.99.0/24"]).is_ok_and(|text| text.contains("192.0.2.1"))
    };
    poll::until("a route to the other rack", LIMIT, uses)?;
    let refused =
        || type_in(node, "cambric show route refused").is_ok_and(|text| text.contains("203.0.113.0/24"));
    poll::until("the other range to be refused", LIMIT, refused)
}

/// The block of the guide behind the comment of that name.
fn block(name: &str) -> Result<&'static str> {
    let marker = format!("<!-- {name}: {READER}\n");
    let (_, behind) = GUIDE.split_once(&marker).with_context(|| format!("no block {name} in the guide"))?;
    let (_, text) = behind.split_once('\n').context("nothing behind the fence")?;
    Ok(text.split_once("```").context("the block has no end")?.0)
}
