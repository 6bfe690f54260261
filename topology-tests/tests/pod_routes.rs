//! Pods keep their host routes whatever happens to the node's addresses, links and routes: `labs/one-switch`, with a
//! second pod.
//!
//! Proves: what the kernel or somebody takes away is put back by the daemon, while pods of the node talk at 1 kHz:
//! - the node's addresses go and come back: pods reach each other in between, and the sources come back at last;
//! - host routes are deleted; a host end is set down and up;
//! - the node gets other addresses: they become the sources;
//! - where another route has the place of a pod's, `show status` names the pod until it is gone;
//! - a process that keeps the lock of the leases is no end of the daemon: it is named, and waited for.
//!
//! And CHECK of the plugin agrees each time.

mod common;

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cambric_lab::flow::{Flow, Report};
use cambric_lab::{Node, Pod, fabric, poll};
use serde_json::Value;

use common::{LabFolder, Need, in_lab, machine_has};

/// Within the daemon's look every minute.
const LIMIT: Duration = Duration::from_secs(90);

/// Sooner than a look every minute would surely do.
const BY_EVENT: Duration = Duration::from_secs(20);

#[test]
fn pods_keep_their_routes_whatever_the_node_loses() {
    if !machine_has(&[Need::Root, Need::Frr, Need::Cambric]) {
        return;
    }
    let folder = LabFolder::copy_of("labs/one-switch");
    in_lab(&folder, |lab| {
        let node = lab.node("c1")?;
        let pods = [lab.pod("c1", "c1-1")?, lab.add_pod("c1", "c1-2")?.0];
        the_address_goes_and_comes_back(&node, &pods)?;
        routes_are_deleted(&node, &pods)?;
        a_host_end_goes_down_and_up(&node, &pods)?;
        a_pod_that_stays_cut_off_is_named(&node, &pods)?;
        whoever_holds_the_leases_is_named(&node, &pods)?;
        the_address_becomes_another(&folder, &node, &pods)
    });
}

fn the_address_goes_and_comes_back(node: &Node, pods: &[Pod; 2]) -> Result<()> {
    let flows = fabric::start_flows(&pods[0], &pods[1])?;
    let before = routes(node)?;
    for address in ["192.0.2.101/32", "2001:db8::101/128"] {
        type_in(node, &format!("ip address del {address} dev lo"))?;
    }
    let start = Instant::now();
    poll::until("the routes to be back without a source", BY_EVENT, || {
        routes(node).is_ok_and(|now| now.len() == 4 && now.iter().all(|route| !route.contains(" src ")))
    })?;
    println!("the node's addresses went: routes to its pods are back after {:.0?}", start.elapsed());
    fabric::send_more(&flows, 200)?;
    poll::until("the missing addresses to be named", BY_EVENT, || problems(node).contains("192.0.2.101"))?;
    println!("  {}", problems(node));
    for address in ["192.0.2.101/32", "2001:db8::101/128"] {
        type_in(node, &format!("ip address add {address} dev lo"))?;
    }
    let start = Instant::now();
    poll::until("the sources to be back", BY_EVENT, || routes(node).is_ok_and(|now| now == before))?;
    println!("the node's addresses came back: they are sources again after {:.0?}", start.elapsed());
    recovered(flows)?;
    poll::until("no problem to be left", BY_EVENT, || problems(node).is_empty())?;
    check(pods)
}

fn routes_are_deleted(node: &Node, pods: &[Pod; 2]) -> Result<()> {
    let before = routes(node)?;
    let flows = fabric::start_flows(&pods[0], &pods[1])?;
    for address in pods[1].addresses()? {
        type_in(node, &format!("ip route del {address}"))?;
        let start = Instant::now();
        poll::until("the route to be back", BY_EVENT, || routes(node).is_ok_and(|now| now == before))?;
        println!("the route to {address} was deleted: back after {:.0?}", start.elapsed());
    }
    recovered(flows)?;
    check(pods)
}

fn a_host_end_goes_down_and_up(node: &Node, pods: &[Pod; 2]) -> Result<()> {
    let before = routes(node)?;
    let address = pods[1].address(|address| address.is_ipv4())?.to_string();
    let words = before.iter().find(|route| route.starts_with(&address)).map(|route| route.split(' '));
    let host_end = words.and_then(|mut words| words.nth(2)).unwrap_or_default().to_owned();
    type_in(node, &format!("ip link set {host_end} down"))?;
    ensure!(routes(node)?.len() == 2, "the kernel drops the routes of a link that is down");
    type_in(node, &format!("ip link set {host_end} up"))?;
    let start = Instant::now();
    poll::until("the routes to be back", BY_EVENT, || routes(node).is_ok_and(|now| now == before))?;
    println!("{host_end} was down and is up again: routes back after {:.0?}", start.elapsed());
    // Proves both families: each flow must have been answered.
    unharmed(fabric::start_flows(&pods[0], &pods[1])?)?;
    check(pods)
}

fn a_pod_that_stays_cut_off_is_named(node: &Node, pods: &[Pod; 2]) -> Result<()> {
    let address = pods[1].address(|address| address.is_ipv4())?;
    // In one go, else the daemon is faster.
    type_in(node, &format!("ip route replace {address} dev lo proto static"))?;
    let named = || problems(node).contains(&format!("no route to {address} of default/c1-2"));
    poll::until("the pod to be named", BY_EVENT, named)?;
    println!("somebody else's route to {address}: {}", problems(node));
    // That tells nobody: the daemon looks by itself.
    type_in(node, &format!("ip route del {address} dev lo proto static"))?;
    let start = Instant::now();
    poll::until("the pod to be reached again", BY_EVENT, || problems(node).is_empty())?;
    println!("  it is deleted: the pod has its route after {:.0?}", start.elapsed());
    check(pods)
}

fn whoever_holds_the_leases_is_named(node: &Node, pods: &[Pod; 2]) -> Result<()> {
    let before = routes(node)?;
    let lock = "/run/cambric/ipam/cambric/lock";
    // The lock is the parent's alone, and goes with it.
    let holder = node.spawn(&["flock", "-o", lock, "sleep", "1000"], Stdio::null())?;
    poll::until("the lock to be held", BY_EVENT, || {
        node.run(&["flock", "-n", lock, "true"]).is_ok_and(|tried| !tried.status.success())
    })?;
    type_in(node, &format!("ip route del {}", pods[1].addresses()?[0]))?;
    poll::until("the lock to be named", LIMIT, || all_problems(node).contains(lock))?;
    println!("a lock that nobody gives back: {}", all_problems(node));
    drop(holder);
    poll::until("the route to be back", BY_EVENT, || routes(node).is_ok_and(|now| now == before))?;
    poll::until("no problem to be left", BY_EVENT, || all_problems(node).is_empty())?;
    check(pods)
}

fn the_address_becomes_another(folder: &LabFolder, node: &Node, pods: &[Pod; 2]) -> Result<()> {
    type_in(node, "ip address add 192.0.2.102/32 dev lo")?;
    type_in(node, "ip address add 2001:db8::102/128 dev lo")?;
    let flows = fabric::start_flows(&pods[0], &pods[1])?;
    let file = folder.path().join("manifests/c1.yaml");
    let text = fs::read_to_string(&file)?;
    fs::write(&file, text.replace("192.0.2.101", "192.0.2.102").replace("2001:db8::101", "2001:db8::102"))?;
    let start = Instant::now();
    let moved = || {
        routes(node).is_ok_and(|now| {
            now.len() == 4
                && now.iter().all(|route| route.contains("192.0.2.102") || route.contains("2001:db8::102"))
        })
    };
    poll::until("the new sources", LIMIT, moved)?;
    println!("the node's addresses in its manifest changed: new sources after {:.0?}", start.elapsed());
    unharmed(flows)?;
    let status = fabric::ask(node, &["show", "status"])?;
    let repairs = &status["status"]["keeping"]["repairs"];
    println!("  repairs: {repairs}");
    // Two of IPv4 were lost with the address, two deleted, two lost with the link; of one another had the place.
    ensure!(repairs["pod-route-lost"].as_u64() >= Some(7), "{repairs}");
    // All four lost their sources; then all four got others.
    ensure!(repairs["pod-route-source-lost"].as_u64() >= Some(8), "{repairs}");
    // What the runtime keeps has the old addresses: no fault of the pods.
    check(pods)
}

/// Routes to pods, both families, without the word that follows the carrier in the kernel's own time.
fn routes(node: &Node) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for family in ["-4", "-6"] {
        let text = node.run_ok(&["ip", family, "route", "show", "proto", "204"])?;
        lines.extend(text.lines().map(|line| line.replace(" linkdown", "").trim().to_owned()));
    }
    Ok(lines)
}

/// What `show status` says about the routes of pods and the node's addresses.
fn problems(node: &Node) -> String {
    let all = all_problems(node);
    let ours = all.split("; ").filter(|line| line.contains("route") || line.contains("address"));
    ours.collect::<Vec<_>>().join("; ")
}

fn all_problems(node: &Node) -> String {
    let Ok(answer) = fabric::ask(node, &["show", "status"]) else { return String::new() };
    let all = answer["status"]["problems"].as_array().cloned().unwrap_or_default();
    all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("; ")
}

fn type_in(node: &Node, command: &str) -> Result<()> {
    node.run_ok(&command.split(' ').collect::<Vec<_>>()).map(drop)
}

/// Packets that pods may lose until they reach each other again, at 1 kHz: what is lost is back after some 100 ms.
const MOST_LOST: u32 = 3000;

/// Packets of each flow that are sent, and answered, once everything is as it should be.
const AFTER: u32 = 200;

/// Says what the flows lost while routes were lost. Each must have reached the other pod again.
fn recovered(flows: Vec<Flow>) -> Result<()> {
    fabric::send_more(&flows, AFTER)?;
    for Report { sent, lost, longest_gap, lost_runs } in fabric::stop_flows(flows)? {
        println!("  a flow lost {lost} of {sent} packets, {longest_gap:.0?} at a stretch");
        let last_lost = lost_runs.last().map_or(0, |run| run.last + 1);
        ensure!(last_lost + AFTER / 2 <= sent, "pods did not reach each other again: {lost_runs:?}");
        ensure!(lost <= MOST_LOST, "pods did not reach each other for too long: {lost_runs:?}");
    }
    Ok(())
}

/// Nothing is lost while nothing is wrong.
fn unharmed(flows: Vec<Flow>) -> Result<()> {
    fabric::send_more(&flows, AFTER)?;
    for Report { sent, lost, lost_runs, .. } in fabric::stop_flows(flows)? {
        ensure!(lost == 0, "a flow lost {lost} of {sent} packets: {lost_runs:?}");
    }
    Ok(())
}

fn check(pods: &[Pod; 2]) -> Result<()> {
    pods.iter().try_for_each(Pod::check)
}
