//! A lab with Cambric nodes, as the demo and the tests look at it: is it whole, and what does a fault cost?

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::flow::{Flow, Report};
use crate::place::Place;
use crate::reach::{Client, Echo, matrix};
use crate::{Lab, Node, Pod, clab::Role, poll};

/// How long sessions and routes may take to come back after a fault; FRR tries again each 10 s.
pub const RECOVERY: Duration = Duration::from_secs(60);

/// How long one question of the matrix may take.
const ANSWER: Duration = Duration::from_secs(2);

/// The daemon that is killed and started.
const CAMBRICD: &str = "cambricd";

const LOOPBACK: &str = "lo";

/// Name of a node's first link in every lab.
const FIRST_LINK: &str = "eth1";

/// The nodes of a lab that run Cambric.
///
/// # Errors
/// When the lab is not up.
pub fn cambric_nodes(lab: &Lab) -> Result<Vec<Node>> {
    let names = lab.topology().nodes.iter().filter(|(_, spec)| spec.role == Role::Cambric);
    names.map(|(name, _)| lab.node(name)).collect()
}

/// What `cambric WORDS` answers on a node, as JSON.
///
/// # Errors
/// When the daemon does not answer.
pub fn ask(node: &Node, words: &[&str]) -> Result<Value> {
    let mut command = vec!["cambric", "-o", "json"];
    command.extend(words);
    let text = node.run_ok(&command)?;
    serde_json::from_str(&text).with_context(|| format!("{}: {}", node.name(), command.join(" ")))
}

/// Waits until every peer of every node is Established, every node is ready, and each has a route to the
/// pods and the address of every other one.
///
/// # Errors
/// After `limit`, with the first peer that is not.
pub fn whole(lab: &Lab, limit: Duration) -> Result<()> {
    let nodes = cambric_nodes(lab)?;
    for node in &nodes {
        let what = format!("{}: all peers Established, all routes written", node.name());
        poll::until(&what, limit, || is_whole(node) && knows(node, nodes.len()))?;
    }
    Ok(())
}

/// Whether a node's kernel has, in both families, its own range and the routes for each of the others: to its range
/// and, unless all know it from their link, to its address.
fn knows(node: &Node, nodes: usize) -> bool {
    let Ok(answer) = ask(node, &["show", "status"]) else { return false };
    let of_each = if global_addresses(node, LOOPBACK).is_ok_and(|all| all.is_empty()) { 1 } else { 2 };
    let wanted = 1 + of_each * nodes.saturating_sub(1);
    let enough = |family: &Value| family["installed"].as_u64().is_some_and(|count| count as usize >= wanted);
    answer["status"]["kernel"].as_array().is_some_and(|families| families.iter().all(enough))
}

/// Whether a node's daemon is ready and all its sessions are up, its routes written.
pub fn is_whole(node: &Node) -> bool {
    let Ok(answer) = ask(node, &["show", "status"]) else { return false };
    let status = &answer["status"];
    let written = |kernel: &Value| kernel["wanted"] == kernel["installed"];
    status["ready"] == true
        && status["peers_established"] == status["peers_total"]
        && status["kernel"].as_array().is_some_and(|families| families.iter().all(written))
}

/// Whether every learned route of a node, in both families, goes over `ways` next hops of one group.
pub fn is_spread(node: &Node, ways: usize) -> bool {
    ["-4", "-6"].iter().all(|family| {
        let words = ["ip", "-json", family, "route", "show", "proto", "203"];
        let Ok(text) = node.run_ok(&words) else { return false };
        let Ok(Value::Array(routes)) = serde_json::from_str::<Value>(&text) else { return false };
        let mut learned = routes.iter().filter(|route| route["type"] != "unreachable").peekable();
        let spread = |route: &Value| {
            route["nhid"].is_u64() && route["nexthops"].as_array().is_some_and(|hops| hops.len() == ways)
        };
        learned.peek().is_some() && learned.all(spread)
    })
}

/// Waits until the lab is [`whole`] and every node spreads all its routes over `ways` uplinks.
///
/// # Errors
/// After `limit`, with the first node that is not.
pub fn whole_and_spread(lab: &Lab, ways: usize, limit: Duration) -> Result<()> {
    whole(lab, limit)?;
    for node in cambric_nodes(lab)? {
        let what = format!("{}: every route over {ways} uplinks", node.name());
        poll::until(&what, limit, || is_spread(&node, ways))?;
    }
    Ok(())
}

/// Whether the node's next-hop groups all have `members` members again.
pub fn groups_have(node: &Node, members: usize) -> bool {
    let Ok(text) = node.run_ok(&["ip", "nexthop", "show"]) else { return false };
    let mut groups = text.lines().filter(|line| line.contains(" group ")).peekable();
    let full = |line: &str| {
        line.split(" group ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next())
            .is_some_and(|group| group.split('/').count() == members)
    };
    groups.peek().is_some() && groups.all(full)
}

/// Every pod and every node's address asks every other one by UDP and TCP, in both families, and must be
/// seen with its own address. Gives the number of questions and what was wrong.
///
/// # Errors
/// When a server cannot be started, or somebody lacks an address of a family.
pub fn reachability(lab: &Lab) -> Result<(usize, Vec<String>)> {
    let pods = lab.pods()?;
    let nodes = cambric_nodes(lab)?;
    let mut clients = Vec::new();
    for pod in &pods {
        clients.push(Client { place: pod as &dyn Place, sources: pod.addresses()? });
    }
    for node in &nodes {
        clients.push(Client { place: node as &dyn Place, sources: node_addresses(node)? });
    }
    let both = |client: &Client<'_>| {
        [true, false].iter().all(|v4| client.sources.iter().any(|s| s.is_ipv4() == *v4))
    };
    if let Some(client) = clients.iter().find(|client| !both(client)) {
        bail!("{} has no address of one family: {:?}", client.place.name(), client.sources);
    }
    let mut servers = Vec::new();
    for client in &clients {
        for address in &client.sources {
            servers.push(Echo::start(client.place, *address)?);
        }
    }
    let questions = clients.iter().map(|client| {
        let same = |server: &&Echo| client.sources.iter().any(|s| s.is_ipv4() == server.address().is_ipv4());
        servers.iter().filter(same).count() * 2
    });
    let questions = questions.sum();
    Ok((questions, matrix(&clients, &servers, ANSWER)))
}

/// A node's InternalIPs: the addresses on its loopback or, where that has none, on its first link.
///
/// # Errors
/// When the node does not answer.
pub fn node_addresses(node: &Node) -> Result<Vec<IpAddr>> {
    let own = global_addresses(node, LOOPBACK)?;
    if own.is_empty() { global_addresses(node, FIRST_LINK) } else { Ok(own) }
}

fn global_addresses(node: &Node, interface: &str) -> Result<Vec<IpAddr>> {
    let text = node.run_ok(&["ip", "-json", "address", "show", "dev", interface, "scope", "global"])?;
    let links: Value = serde_json::from_str(&text).context("ip -json address")?;
    let entries =
        links.as_array().into_iter().flatten().filter_map(|link| link["addr_info"].as_array()).flatten();
    Ok(entries.filter_map(|entry| entry["local"].as_str()?.parse().ok()).collect())
}

/// Flows of 1 kHz between two pods, two in each family, so that both switches of a rack carry some.
///
/// # Errors
/// When a socket cannot be made.
pub fn start_flows(from: &Pod, to: &Pod) -> Result<Vec<Flow>> {
    let mut flows = Vec::new();
    for target in to.addresses()? {
        for _ in 0..2 {
            flows.push(Flow::start(from, None, to, target)?);
        }
    }
    // Each must have carried something before anything is broken.
    poll::until("an answer on every flow", RECOVERY, || flows.iter().all(|flow| flow.answered() > 100))?;
    Ok(flows)
}

/// Stops all flows.
///
/// # Errors
/// When a thread has panicked.
pub fn stop_flows(flows: Vec<Flow>) -> Result<Vec<Report>> {
    flows.into_iter().map(Flow::stop).collect()
}

/// Waits until the flows have sent `packets` more.
///
/// # Errors
/// When they have stopped by themselves.
pub fn send_more(flows: &[Flow], packets: u32) -> Result<()> {
    let goal: Vec<u32> = flows.iter().map(|flow| flow.sent() + packets).collect();
    let reached = || flows.iter().zip(&goal).all(|(flow, goal)| flow.sent() >= *goal);
    poll::until("packets to be sent", RECOVERY, reached)
}

/// Ends the daemon of a node with `signal`, waits until the switches have noticed, and starts it again.
///
/// # Errors
/// When the switches do not notice, or the node does not come back.
pub fn restart(node: &Node, signal: Signal, noticed: impl FnMut() -> bool) -> Result<()> {
    node.kill(CAMBRICD, signal)?;
    poll::until("the daemon to end", RECOVERY, || node.daemon_pid(CAMBRICD).is_none())?;
    poll::until("the switches to notice", RECOVERY, noticed)?;
    node.start()?;
    poll::until("the node to be whole again", RECOVERY, || is_whole(node))
}

/// Whether an FRR switch holds `prefix` as a stale route (RFC 4724).
pub fn is_stale_at(switch: &Node, prefix: &str) -> bool {
    let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
    let command = format!("show bgp {family} unicast {prefix}");
    switch.run_ok(&["vtysh", "-c", &command]).is_ok_and(|text| text.contains("stale"))
}

/// Packets that an interface has sent and received.
///
/// # Errors
/// When the interface is not there.
pub fn packets(node: &Node, interface: &str) -> Result<u64> {
    let text = node.run_ok(&["ip", "-json", "-statistics", "link", "show", "dev", interface])?;
    let links: Value = serde_json::from_str(&text).context("ip -json link")?;
    let statistics = &links[0]["stats64"];
    match (statistics["rx"]["packets"].as_u64(), statistics["tx"]["packets"].as_u64()) {
        (Some(received), Some(sent)) => Ok(received + sent),
        _ => bail!("{} {interface}: no statistics", node.name()),
    }
}
