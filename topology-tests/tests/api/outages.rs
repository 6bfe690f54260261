//! The API server goes, lies, stammers and is replaced; what is forwarded and judged goes on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cambric_apiserver_double::Fault;
use cambric_lab::reach::{Echo, Protocol, ask};
use cambric_lab::{Node, Pod, fabric, poll};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::cluster::{Cluster, NewPod, policy, problems, status};
use crate::load::{a2_from_a1, nothing_is_lost, start_pods};
use crate::{CAMBRICD, LIMIT, in_two_rack};

/// How long the server is away unless `CAMBRIC_API_AWAY_SECONDS` says otherwise.
const AWAY: Duration = Duration::from_secs(12);

/// How long a fault lasts that is looked at while it lasts.
const WHILE: Duration = Duration::from_secs(3);

#[test]
fn what_the_api_server_does_costs_no_packet() {
    in_two_rack(
        |prepared| {
            prepared.server.put(a2_from_a1());
            Ok(())
        },
        |cluster| {
            let pods = start_pods(cluster)?;
            cluster.have_policies(1)?;
            nothing_is_lost(cluster, &pods, "API server away, the daemons restarted meanwhile", away)?;
            follows(cluster, "after it was away")?;
            nothing_is_lost(cluster, &pods, "API server restarted: 410 for all that was watched", restarted)?;
            follows(cluster, "after 410")?;
            nothing_is_lost(cluster, &pods, "the way to the API server cut without a word", cut)?;
            follows(cluster, "after the way was cut")?;
            nothing_is_lost(cluster, &pods, "watches torn in the middle of an event", torn)?;
            follows(cluster, "after torn streams")?;
            nothing_is_lost(cluster, &pods, "throttled", throttled)?;
            follows(cluster, "after throttling")?;
            nothing_is_lost(cluster, &pods, "lists and watches of pods refused", refused)?;
            follows(cluster, "after rights came back")?;
            stale(cluster, &pods)?;
            follows(cluster, "after an old list")?;
            replaced(cluster, &pods)?;
            follows(cluster, "after a restored backup")
        },
    );
}

/// A new policy and a pod that comes and goes are followed by every node.
fn follows(cluster: &Cluster<'_>, when: &str) -> Result<()> {
    let spec = json!({ "podSelector": { "matchLabels": { "app": "nobody" } } });
    cluster.server.put(policy("another", spec));
    cluster.have_policies(2).with_context(|| format!("{when}: a new policy"))?;
    cluster.server.delete("networking.k8s.io/v1", "NetworkPolicy", "default", "another");
    cluster.have_policies(1).with_context(|| format!("{when}: a policy that went"))?;
    let pod = cluster.start(NewPod { node: "n12", name: "visitor", label: "app=a1" })?;
    cluster.end(&pod)
}

fn away(cluster: &mut Cluster<'_>) -> Result<()> {
    let seconds = std::env::var("CAMBRIC_API_AWAY_SECONDS").ok();
    let seconds: Option<u64> =
        seconds.map(|text| text.parse()).transpose().context("CAMBRIC_API_AWAY_SECONDS")?;
    let away = seconds.map_or(AWAY, Duration::from_secs);
    cluster.server.away();
    std::thread::sleep(away / 2); // the time itself is what is tried
    for (name, signal) in [("n11", Signal::SIGKILL), ("n22", Signal::SIGTERM)] {
        let node = cluster.node(name)?;
        let (tor, prefix) =
            if name == "n11" { ("tor1a", "10.244.11.0/24") } else { ("tor2a", "10.244.22.0/24") };
        let tor = cluster.node(tor)?;
        fabric::restart(&node, signal, || fabric::is_stale_at(&tor, prefix))?;
        ensure!(status(&node)?["policy"]["written"] == true, "{name} judges from what it has kept");
    }
    std::thread::sleep(away / 2);
    let told = poll::until_some("the outage to be told", LIMIT, || {
        let all = problems(&cluster.node("n11")?)?;
        Ok(all.into_iter().find(|problem| problem.contains("127.0.0.1:6443")))
    })?;
    println!("  n11 says: {told}");
    cluster.server.back();
    all_watch_again(cluster)
}

fn restarted(cluster: &mut Cluster<'_>) -> Result<()> {
    cluster.server.restart();
    all_watch_again(cluster)
}

/// As by a firewall, or a machine that has lost its power: nothing closes the connections.
fn cut(cluster: &mut Cluster<'_>) -> Result<()> {
    let node = cluster.node("n11")?;
    node.run_ok(&["nft", "add", "table", "inet", "cut"])?;
    node.run_ok(&["nft", "add chain inet cut input { type filter hook input priority -200; }"])?;
    node.run_ok(&["nft", "add rule inet cut input iifname lo tcp dport 6443 drop"])?;
    let begin = Instant::now();
    let told = poll::until_some("the silence to be told", LIMIT, || {
        Ok(problems(&node)?.into_iter().find(|problem| problem.contains("127.0.0.1:6443")))
    })?;
    println!("  n11 says after {:.0?}: {told}", begin.elapsed());
    node.run_ok(&["nft", "delete", "table", "inet", "cut"])?;
    all_watch_again(cluster)
}

fn torn(cluster: &mut Cluster<'_>) -> Result<()> {
    cluster.server.faults().set(Fault::TornWatch { after_octets: 700 });
    cluster.server.restart();
    for number in 0..20 {
        let spec = json!({ "podSelector": { "matchLabels": { "app": format!("nobody-{number}") } } });
        cluster.server.put(policy("torn", spec));
        std::thread::sleep(WHILE / 20);
    }
    cluster.server.faults().clear();
    cluster.server.delete("networking.k8s.io/v1", "NetworkPolicy", "default", "torn");
    all_watch_again(cluster)?;
    cluster.have_policies(1)
}

fn throttled(cluster: &mut Cluster<'_>) -> Result<()> {
    cluster.server.faults().set(Fault::Throttle { retry_after: Duration::from_secs(1) });
    cluster.server.restart();
    cluster.server.forget_requests();
    std::thread::sleep(WHILE);
    let asked = cluster.server.requests().len();
    println!("  {asked} requests of 4 nodes in {WHILE:?} with Retry-After: 1");
    cluster.server.faults().clear();
    all_watch_again(cluster)
}

fn refused(cluster: &mut Cluster<'_>) -> Result<()> {
    for verb in ["list", "watch"] {
        cluster.server.faults().set(Fault::Refuse { verb, resource: "pods" });
    }
    cluster.server.restart();
    let told = poll::until_some("the refusal to be told", LIMIT, || {
        let all = problems(&cluster.node("n11")?)?;
        Ok(all.into_iter().find(|problem| problem.contains("pods") && problem.contains("forbidden")))
    })?;
    println!("  n11 says: {told}");
    cluster.server.faults().clear();
    all_watch_again(cluster)
}

/// A list of before a pod was there, as a server gives it that has fallen behind.
fn stale(cluster: &mut Cluster<'_>, pods: &std::collections::BTreeMap<String, Pod>) -> Result<()> {
    let before = cluster.server.mark();
    let late = cluster.start(NewPod { node: "n21", name: "late", label: "app=a1" })?;
    let mut with_late = pods.clone();
    // The one that flows and new flows start from: the old list does not know it.
    with_late.insert("n11-1".to_owned(), late.clone());
    is_known(&late, &pods["n22-2"])?;
    nothing_is_lost(cluster, &with_late, "lists of a server that has fallen behind", |cluster| {
        cluster.server.faults().set(Fault::StaleLists(before.clone()));
        // So that everybody asks for lists.
        cluster.server.faults().set(Fault::Expired { resource: "*" });
        cluster.server.restart();
        let n22 = cluster.node("n22")?;
        let told = poll::until_some("the old list to be told", LIMIT, || {
            let kinds = status(&n22)?["cluster"]["kinds"].as_array().cloned().unwrap_or_default();
            Ok(kinds.into_iter().find(|kind| kind["kind"] == "Pod" && kind["state"] == "older"))
        })?;
        println!("  n22 says: Pod: {}", told["why"]);
        std::thread::sleep(WHILE);
        cluster.server.faults().clear();
        all_watch_again(cluster)
    })?;
    cluster.end(&late)
}

/// A server that was restored from a backup: versions go back, and a pod that runs is not in it.
fn replaced(cluster: &mut Cluster<'_>, pods: &std::collections::BTreeMap<String, Pod>) -> Result<()> {
    let backup = cluster.server.mark();
    let late = cluster.start(NewPod { node: "n21", name: "late", label: "app=a1" })?;
    let object = cluster.server.get("v1", "Pod", "default", "late").context("its object")?;
    let mut with_late = pods.clone();
    with_late.insert("n11-1".to_owned(), late.clone());
    is_known(&late, &pods["n22-2"])?;
    nothing_is_lost(cluster, &with_late, "API server replaced by one from a backup", |cluster| {
        cluster.server.rewind(&backup);
        std::thread::sleep(WHILE);
        let told = problems(&cluster.node("n22")?)?;
        println!("  n22 says: {told:#?}");
        // The kubelet tells its pods anew.
        cluster.server.put(object.clone());
        std::thread::sleep(WHILE);
        Ok(())
    })?;
    cluster.end(&late)
}

/// Waits until a pod that has just come is let in by the other one's node.
fn is_known(late: &Pod, far: &Pod) -> Result<()> {
    for address in far.addresses()? {
        let echo = Echo::start(far, address)?;
        poll::until(&format!("{} to be let in at {address}", late.name()), LIMIT, || {
            ask(late, Protocol::Udp, echo.address(), WHILE).is_ok()
        })?;
    }
    Ok(())
}

/// Waits until every daemon watches every kind, and tells no problem of its source.
fn all_watch_again(cluster: &Cluster<'_>) -> Result<()> {
    for node in fabric::cambric_nodes(cluster.lab)? {
        poll::until(&format!("{} to watch the server", node.name()), LIMIT, || watches(&node))?;
    }
    Ok(())
}

fn watches(node: &Node) -> bool {
    let Ok(status) = status(node) else { return false };
    let kinds = status["cluster"]["kinds"].as_array().cloned().unwrap_or_default();
    !kinds.is_empty()
        && kinds.iter().all(|kind| kind["state"] == "watching")
        && node.daemon_pid(CAMBRICD).is_some()
}
