//! A dual-homed node is no way between its switches: `containerlab/two-rack`.
//!
//! ```text
//!        spine1    spine2          both are cut off: between tor1a and tor1b are only the nodes
//!         |   \    /   |
//!       tor1a       tor1b    AS 65101
//!         | \       / |
//!         n11       n12      each knows from tor1b what tor1a lost, and must not tell it
//! ```
//!
//! A node that told one switch what another told it would carry the fabric's traffic on its uplinks. The path of AS
//! numbers does not prevent it: the racks' switches have different ones, and so would a route of rack 2 that rack 1
//! learned through a node (RFC 7454 section 6.1.5 asks for a filter, Cambric has it without being told).
//!
//! Proves, in the normal state, while both spines are cut off, and all the time between: no switch holds a path through
//! a node to anything but that node's own prefixes; each node tells every switch its own two prefixes of a family and
//! nothing else. While the spines go and come no node sends an UPDATE at all.

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cambric_lab::fabric::{self, RECOVERY};
use cambric_lab::{Lab, Node, poll};
use serde_json::Value;

use common::{LabFolder, Need, in_lab, machine_has};

const SPINES: [&str; 2] = ["spine1", "spine2"];
const TORS: [&str; 4] = ["tor1a", "tor1b", "tor2a", "tor2b"];

/// The family as FRR calls it.
const FAMILIES: [&str; 2] = ["ipv4", "ipv6"];

/// How long it is looked on after each change, beyond the time until it is seen.
const LOOK_ON: Duration = Duration::from_secs(2);

/// A node's AS, and what it may announce.
struct Own {
    node: &'static str,
    prefixes: [&'static str; 4],
}

fn owners() -> BTreeMap<u64, Own> {
    let own = |node, prefixes| Own { node, prefixes };
    BTreeMap::from([
        (
            65111,
            own("n11", ["10.244.11.0/24", "10.255.1.1/32", "fd00:10:244:11::/64", "fd00:10:255:1::1/128"]),
        ),
        (
            65112,
            own("n12", ["10.244.12.0/24", "10.255.1.2/32", "fd00:10:244:12::/64", "fd00:10:255:1::2/128"]),
        ),
        (
            65121,
            own("n21", ["10.244.21.0/24", "10.255.2.1/32", "fd00:10:244:21::/64", "fd00:10:255:2::1/128"]),
        ),
        (
            65122,
            own("n22", ["10.244.22.0/24", "10.255.2.2/32", "fd00:10:244:22::/64", "fd00:10:255:2::2/128"]),
        ),
    ])
}

/// What has been looked at.
#[derive(Default)]
struct Looks {
    rounds: usize,
    paths: usize,
    sessions: usize,
}

#[test]
fn no_switch_ever_has_a_path_through_a_node() {
    if !machine_has(&[Need::Root, Need::Frr, Need::Cambric]) {
        return;
    }
    in_lab(&LabFolder::copy_of("../containerlab/two-rack"), |lab| {
        let mut looks = Looks::default();
        look_until(lab, &mut looks, "the lab to be whole", || fabric::whole(lab, Duration::ZERO).is_ok())?;
        look_until(lab, &mut looks, "rack 2 at tor1a", || holds(lab, "tor1a", "10.244.21.0/24"))?;
        report("it comes up", &mut looks);
        let told = updates_of_nodes(lab)?;

        for spine in SPINES {
            lab.links_down(spine)?;
        }
        look_until(lab, &mut looks, "the racks to be apart", || {
            TORS.iter().all(|tor| !holds_other_rack(lab, tor))
        })?;
        look_on(lab, &mut looks)?;
        report("both spines are cut off", &mut looks);

        for spine in SPINES {
            lab.links_up(spine)?;
        }
        look_until(lab, &mut looks, "the racks to be joined", || {
            TORS.iter().all(|tor| holds_other_rack(lab, tor))
        })?;
        look_on(lab, &mut looks)?;
        report("both spines are back", &mut looks);

        // Between two looks, too: whatever happened beyond the switches, the nodes had nothing to say.
        ensure!(
            updates_of_nodes(lab)? == told,
            "UPDATEs of nodes: {:?}, before {told:?}",
            updates_of_nodes(lab)?
        );
        println!("UPDATEs that {} sessions with nodes have carried since the spines went: 0", told.len());
        Ok(())
    });
}

/// Looks at all switches and nodes until `done`.
fn look_until(lab: &Lab, looks: &mut Looks, what: &str, done: impl Fn() -> bool) -> Result<()> {
    poll::until_some(what, RECOVERY, || {
        look(lab, looks)?;
        Ok(done().then_some(()))
    })
}

fn look_on(lab: &Lab, looks: &mut Looks) -> Result<()> {
    let start = Instant::now();
    look_until(lab, looks, "time to pass", || start.elapsed() >= LOOK_ON)
}

/// One look at every table of the switches, and at what the nodes have told.
fn look(lab: &Lab, looks: &mut Looks) -> Result<()> {
    looks.rounds += 1;
    for tor in TORS {
        let tor = lab.node(tor)?;
        for family in FAMILIES {
            looks.paths += no_path_is_through_a_node(&tor, family)?;
        }
    }
    for node in fabric::cambric_nodes(lab)? {
        looks.sessions += only_own_prefixes_are_told(&node)?;
    }
    Ok(())
}

/// Gives the number of paths.
fn no_path_is_through_a_node(tor: &Node, family: &str) -> Result<usize> {
    let owners = owners();
    let mut count = 0;
    for (prefix, path) in paths(tor, family)? {
        count += 1;
        let through = path.iter().find(|asn| owners.contains_key(asn));
        let Some(own) = through.and_then(|asn| owners.get(asn)) else { continue };
        let is_own = own.prefixes.contains(&prefix.as_str());
        ensure!(is_own, "{}: {prefix} through {}: AS path {path:?}", tor.name(), own.node);
    }
    Ok(count)
}

/// All paths of a switch: prefix and AS numbers, the nearest first.
fn paths(tor: &Node, family: &str) -> Result<Vec<(String, Vec<u64>)>> {
    let text = tor.run_ok(&["vtysh", "-c", &format!("show bgp {family} unicast json")])?;
    let table: Value = serde_json::from_str(&text).context("show bgp json")?;
    let mut all = Vec::new();
    for (prefix, routes) in table["routes"].as_object().into_iter().flatten() {
        for route in routes.as_array().into_iter().flatten() {
            let path = route["path"].as_str().context("a path")?;
            let asns = path.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>();
            all.push((prefix.clone(), asns.with_context(|| format!("AS path {path:?}"))?));
        }
    }
    Ok(all)
}

/// How many UPDATEs each session of a switch with a node has brought.
fn updates_of_nodes(lab: &Lab) -> Result<BTreeMap<(&'static str, String), u64>> {
    let owners = owners();
    let mut all = BTreeMap::new();
    for tor in TORS {
        let text = lab.node(tor)?.run_ok(&["vtysh", "-c", "show bgp neighbors json"])?;
        let neighbours: Value = serde_json::from_str(&text).context("show bgp neighbors json")?;
        for (address, neighbour) in neighbours.as_object().into_iter().flatten() {
            if neighbour["remoteAs"].as_u64().is_some_and(|asn| owners.contains_key(&asn)) {
                let updates = neighbour["messageStats"]["updatesRecv"].as_u64().context("updatesRecv")?;
                all.insert((tor, address.clone()), updates);
            }
        }
    }
    ensure!(all.len() == 16, "two sessions a family of each node: {all:?}");
    Ok(all)
}

/// On each session that is up, two prefixes of its family; for a moment after it has come up it may be fewer. Gives the
/// number of sessions.
fn only_own_prefixes_are_told(node: &Node) -> Result<usize> {
    let answer = fabric::ask(node, &["show", "protocols"])?;
    let mut count = 0;
    for peer in answer["protocols"].as_array().context("protocols")? {
        if peer["state"] != "Established" {
            continue;
        }
        count += 1;
        let sent: Vec<u64> = peer["families"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|family| family["sent"].as_u64())
            .collect();
        let is_new = peer["since_s"].as_u64().is_some_and(|seconds| seconds < 1);
        let is_right = sent.iter().all(|sent| *sent == 2 || is_new && *sent < 2);
        ensure!(is_right, "{}: {} has been told {sent:?} prefixes", node.name(), peer["name"]);
    }
    Ok(count)
}

fn holds(lab: &Lab, tor: &str, prefix: &str) -> bool {
    let tor = lab.node(tor);
    tor.and_then(|tor| paths(&tor, "ipv4")).is_ok_and(|paths| paths.iter().any(|(known, _)| known == prefix))
}

fn holds_other_rack(lab: &Lab, tor: &str) -> bool {
    let far = if tor.starts_with("tor1") { "10.244.21.0/24" } else { "10.244.11.0/24" };
    holds(lab, tor, far)
}

fn report(when: &str, looks: &mut Looks) {
    let Looks { rounds, paths, sessions } = std::mem::take(looks);
    println!(
        "{when}: {rounds} looks at 4 switches, {paths} paths, none through a node; {sessions} sessions, own prefixes only"
    );
}
