//! Others change our tables and sets: it is seen, repaired, counted; and theirs are left alone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cambric_lab::reach::{Echo, Protocol, ask};
use cambric_lab::{Node, fabric, poll};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::cluster::{Cluster, NewPod, labelled, policy};
use crate::kernel::{Held, held};
use crate::{CAMBRICD, LIMIT, in_force, in_policy_lab};

/// What is not answered by then is denied.
const ANSWER: Duration = Duration::from_millis(300);

#[test]
fn what_others_change_is_repaired_and_what_is_theirs_is_left_alone() {
    in_policy_lab(
        |_| {},
        |cluster| {
            let from_friends = json!([{ "from": [{ "podSelector": labelled("role=friend") }] }]);
            let spec = json!({ "podSelector": labelled("app=web"), "ingress": from_friends });
            cluster.write("policies", &[policy("friends", spec)])?;
            let start = |name, label| cluster.start(NewPod { node: "c1", namespace: "default", name, label });
            let pods =
                [start("web", "app=web")?, start("friend", "role=friend")?, start("stranger", "role=none")?];
            let node = cluster.node("c1")?;
            let echo = Echo::start(&pods[0], pods[0].address(|address| address.is_ipv4())?)?;
            let is_in_force = || {
                let answered = |pod| ask(pod, Protocol::Udp, echo.address(), ANSWER).is_ok();
                answered(&pods[1]) && !answered(&pods[2])
            };
            poll::until("the policy to be in force", LIMIT, is_in_force)?;
            in_force(&node)?;
            let theirs = make_theirs(&node)?;
            let wanted = held(&node)?;
            for command in commands(cluster, &node, &wanted)? {
                repaired(&node, &command, &wanted)?;
                ensure!(is_in_force(), "{command}: the policy is not in force");
            }
            ensure!(their_rules(&node)? == theirs, "others' rules were touched");
            repaired(&node, "nft flush ruleset", &wanted)?;
            ensure!(is_in_force(), "the policy is not in force");
            let repairs = &fabric::ask(&node, &["show", "status"])?["status"]["policy"]["repairs"];
            println!("repairs: {repairs}");
            ensure!(
                repairs["members"]["count"].as_u64() >= Some(5),
                "not all repairs are counted: {repairs}"
            );
            while_away(&node, &wanted)?;
            ensure!(is_in_force(), "the policy is not in force");
            Ok(())
        },
    );
}

/// Types a command, and waits until all of ours is as it was.
fn repaired(node: &Node, command: &str, wanted: &Held) -> Result<()> {
    let begun = Instant::now();
    let output = node.run(&command.split(' ').collect::<Vec<_>>())?;
    let did = if output.status.success() { "done" } else { "refused by the kernel" };
    let repaired = poll::until("all to be as it was", LIMIT, || held(node).is_ok_and(|now| now == *wanted));
    repaired
        .with_context(|| format!("{command}: {did}; {:#?}", held(node).map(|now| wanted.changes(&now))))?;
    println!("{command}: {did}; as it was after {:.1?}", begun.elapsed());
    Ok(())
}

/// While the daemon is away nobody protects its tables: it makes good what was done when it is back.
fn while_away(node: &Node, wanted: &Held) -> Result<()> {
    node.kill(CAMBRICD, Signal::SIGKILL)?;
    for command in
        ["nft delete table ip cambric", "nft insert rule ip6 cambric forward accept", "ipset flush cam6self"]
    {
        node.run_ok(&command.split(' ').collect::<Vec<_>>())?;
    }
    let begun = Instant::now();
    node.start()?;
    poll::until("all to be as it was", LIMIT, || held(node).is_ok_and(|now| now == *wanted))
        .with_context(|| format!("{:#?}", held(node).map(|now| wanted.changes(&now))))?;
    println!(
        "a table deleted, a rule added, a set emptied while the daemon was away: as it was {:.1?} after its start",
        begun.elapsed()
    );
    in_force(node)
}

/// What somebody may type, the worst last.
fn commands(cluster: &Cluster<'_>, node: &Node, wanted: &Held) -> Result<Vec<String>> {
    let mut peers = wanted.sets.iter().filter_map(|line| line.strip_prefix("create ")?.split(' ').next());
    let peers = peers.find(|name| name.starts_with("cam4p")).context("a set of peers")?;
    let address = cluster.lab.pod("c1", "friend")?.address(|address| address.is_ipv4())?;
    let chains = node.run_ok(&["nft", "list", "chains", "ip"])?;
    let mut chain = chains.lines().filter_map(|line| line.trim().strip_prefix("chain ")?.split(' ').next());
    let chain = chain.find(|name| name.starts_with("i-")).context("a chain of a class")?.to_owned();
    Ok(vec![
        format!("ipset del {peers} {address}"),
        format!("ipset add {peers} 192.0.2.77"),
        format!("ipset flush {peers}"),
        "ipset flush cam4self".to_owned(),
        "ipset flush cam6self".to_owned(),
        format!("nft flush chain ip cambric {chain}"),
        "nft insert rule ip cambric forward accept".to_owned(),
        "nft flush map ip6 cambric ingress".to_owned(),
        "nft delete table arp cambric".to_owned(),
        "nft delete table ip cambric".to_owned(),
        "nft delete table ip6 cambric".to_owned(),
    ])
}

fn make_theirs(node: &Node) -> Result<String> {
    for command in [
        "nft add table ip theirs",
        "nft add chain ip theirs forward { type filter hook forward priority 0 ; }",
        "nft add rule ip theirs forward ip daddr 192.0.2.99 drop",
        "ipset create theirs hash:ip",
        "ipset add theirs 192.0.2.99",
    ] {
        node.run_ok(&command.split(' ').collect::<Vec<_>>())?;
    }
    their_rules(node)
}

fn their_rules(node: &Node) -> Result<String> {
    Ok(node.run_ok(&["nft", "list", "table", "ip", "theirs"])?
        + &node.run_ok(&["ipset", "list", "theirs"])?)
}
