//! A node's life: `containerlab/full-mesh`, whose nodes are objects that come, go, change and contradict each other.

use anyhow::{Context, Result, ensure};
use cambric_lab::{Node, Pod, cni, fabric, poll};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::cluster::{Cluster, NewPod, account, problems, token};
use crate::{CAMBRICD, LIMIT, with_server};

const TAINT: &str = "cambric.dev/not-ready";
const RANGE_OF_N4: &str = "10.244.4.0/24";

#[test]
fn nodes_come_go_change_and_contradict_each_other() {
    with_server(
        "../containerlab/full-mesh",
        |_| Ok(()),
        |cluster| {
            fabric::whole(cluster.lab, LIMIT)?;
            a_first_start_taints_and_lifts(cluster)?;
            let pod = cluster.start(NewPod { node: "n4", name: "on-n4", label: "app=a" })?;
            a_restart_taints_nothing(cluster)?;
            a_node_that_goes_leaves_nothing(cluster, &pod)?;
            a_node_without_a_range_waits_and_says_so(cluster)?;
            of_two_nodes_with_one_range_each_keeps_its_own(cluster)?;
            an_address_that_changes_is_followed(cluster)?;
            a_renamed_node_is_another(cluster)
        },
    );
}

fn object(cluster: &Cluster<'_>, name: &str) -> Result<Value> {
    cluster.server.get("v1", "Node", "", name).with_context(|| format!("the Node {name}"))
}

fn has_taint(cluster: &Cluster<'_>, name: &str) -> bool {
    let taints = object(cluster, name).map(|node| node["spec"]["taints"].clone()).unwrap_or_default();
    taints.as_array().is_some_and(|taints| taints.iter().any(|taint| taint["key"] == TAINT))
}

/// Status of the condition NetworkUnavailable.
fn network_unavailable(cluster: &Cluster<'_>, name: &str) -> Option<String> {
    let node = object(cluster, name).ok()?;
    let conditions = node["status"]["conditions"].as_array()?.clone();
    let condition = conditions.into_iter().find(|condition| condition["type"] == "NetworkUnavailable")?;
    Some(condition["status"].as_str()?.to_owned())
}

fn node_patches(cluster: &Cluster<'_>) -> usize {
    let is_patch = |request: &&cambric_apiserver_double::Request| {
        request.verb == "patch" && request.resource == "nodes" && request.subresource.is_empty()
    };
    cluster.server.requests().iter().filter(is_patch).count()
}

fn a_first_start_taints_and_lifts(cluster: &Cluster<'_>) -> Result<()> {
    for node in fabric::cambric_nodes(cluster.lab)? {
        let name = node.name();
        poll::until(&format!("{name} without taint"), LIMIT, || !has_taint(cluster, name))?;
        poll::until(&format!("{name} with a network"), LIMIT, || {
            network_unavailable(cluster, name).as_deref() == Some("False")
        })?;
    }
    let patches = node_patches(cluster);
    println!("first start: {patches} patches of 4 nodes: {TAINT} set and lifted; NetworkUnavailable=False");
    ensure!(patches == 8, "each node is tainted once, and the taint lifted once: {patches}");
    Ok(())
}

fn a_restart_taints_nothing(cluster: &Cluster<'_>) -> Result<()> {
    cluster.server.forget_requests();
    let node = cluster.node("n4")?;
    node.kill(CAMBRICD, Signal::SIGKILL)?;
    poll::until("the daemon to end", LIMIT, || node.daemon_pid(CAMBRICD).is_none())?;
    node.start()?;
    poll::until("n4 to be whole again", LIMIT, || fabric::is_whole(&node))?;
    let patches = node_patches(cluster);
    println!("restart: {patches} patches of nodes");
    ensure!(patches == 0, "{:#?}", cluster.server.requests());
    Ok(())
}

fn routes_to(node: &Node, prefix: &str) -> usize {
    let said = node.run_ok(&["ip", "route", "show", prefix]).unwrap_or_default();
    said.lines().count()
}

fn peers(node: &Node) -> Result<Vec<String>> {
    let said = fabric::ask(node, &["show", "protocols"])?;
    let protocols = said["protocols"].as_array().cloned().unwrap_or_default();
    Ok(protocols.iter().filter_map(|peer| peer["name"].as_str()).map(str::to_owned).collect())
}

/// Lines of all sets that name the address.
fn members(node: &Node, address: &str) -> Result<usize> {
    let sets = node.run_ok(&["ipset", "save"])?;
    Ok(sets.lines().filter(|line| line.split([' ', ',']).any(|word| word == address)).count())
}

/// Pods that are told to be of the node go with it, as the garbage collector of Kubernetes does it.
fn a_node_that_goes_leaves_nothing(cluster: &Cluster<'_>, pod: &Pod) -> Result<()> {
    let spec = json!({ "podSelector": {}, "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "app": "a" } } }] }] });
    let local = cluster.start(NewPod { node: "n1", name: "on-n1", label: "app=b" })?;
    cluster.server.put(crate::cluster::policy("from-a", spec));
    cluster.have_policies(1)?;
    let (n1, n4) = (cluster.node("n1")?, cluster.node("n4")?);
    let address = pod.address(|address| address.is_ipv4())?.to_string();
    poll::until("the pod in a set of n1", LIMIT, || members(&n1, &address).is_ok_and(|count| count > 0))?;
    let node = object(cluster, "n4")?;
    let of_pod = cluster.server.get("v1", "Pod", "default", pod.name()).context("its object")?;
    cluster.server.delete("v1", "Pod", "default", pod.name());
    cluster.server.delete("v1", "Node", "", "n4");
    poll::until("n1 without route, peer and member of n4", LIMIT, || {
        routes_to(&n1, RANGE_OF_N4) == 0
            && peers(&n1).is_ok_and(|peers| !peers.iter().any(|peer| peer.starts_with("n4")))
            && members(&n1, &address).is_ok_and(|count| count == 0)
    })?;
    let said = poll::until_some("n4 to say that it is gone", LIMIT, || {
        Ok(problems(&n4)?.into_iter().find(|problem| problem.contains("there is no Node object \"n4\"")))
    })?;
    println!("n4 deleted: n1 has no route, peer or set member of it; n4 serves on and says: {said}");
    ensure!(routes_to(&n4, RANGE_OF_N4) == 1, "its own range is unreachable but for its pods");
    ensure!(n4.path(cni::CONFLIST).exists(), "it takes pods");
    cluster.server.put(node);
    cluster.server.put(of_pod);
    poll::until("n4 to be back at n1", LIMIT, || routes_to(&n1, RANGE_OF_N4) == 1)?;
    fabric::whole(cluster.lab, LIMIT)?;
    cluster.server.delete("networking.k8s.io/v1", "NetworkPolicy", "default", "from-a");
    cluster.have_policies(0)?;
    cluster.end(&local)
}

fn a_node_without_a_range_waits_and_says_so(cluster: &Cluster<'_>) -> Result<()> {
    let node = object(cluster, "n4")?;
    let mut without = node.clone();
    without["spec"] = json!({});
    cluster.server.delete("v1", "Node", "", "n4");
    cluster.server.put(without);
    let n4 = cluster.node("n4")?;
    let said = poll::until_some("n4 to say what it waits for", LIMIT, || {
        Ok(problems(&n4)?.into_iter().find(|problem| problem.contains("spec.podCIDRs")))
    })?;
    println!("n4 without podCIDR says: {said}");
    cluster.server.delete("v1", "Node", "", "n4");
    cluster.server.put(node);
    fabric::whole(cluster.lab, LIMIT)
}

fn of_two_nodes_with_one_range_each_keeps_its_own(cluster: &Cluster<'_>) -> Result<()> {
    let n1 = cluster.node("n1")?;
    let mut twin = object(cluster, "n3")?;
    let n5 = json!({ "name": "n5" });
    twin["metadata"] = n5;
    twin["status"]["addresses"] = json!([{ "type": "InternalIP", "address": "172.16.0.5" }]);
    cluster.server.put(twin);
    for name in ["n3", "n1"] {
        let node = cluster.node(name)?;
        let said = poll::until_some(&format!("{name} to tell the conflict"), LIMIT, || {
            let all = problems(&node)?;
            Ok(all
                .into_iter()
                .find(|problem| problem.contains("10.244.3.0/24") && problem.contains("Conflicted")))
        })?;
        println!("{name} with two Nodes of one podCIDR says: {said}");
    }
    ensure!(routes_to(&n1, "10.244.3.0/24") == 1, "the older one is reached");
    ensure!(routes_to(&cluster.node("n3")?, "10.244.3.0/24") == 1, "and keeps it");
    cluster.server.delete("v1", "Node", "", "n5");
    fabric::whole(cluster.lab, LIMIT)
}

fn an_address_that_changes_is_followed(cluster: &Cluster<'_>) -> Result<()> {
    let (n1, n4) = (cluster.node("n1")?, cluster.node("n4")?);
    n4.run_ok(&["ip", "address", "add", "172.16.0.44/24", "dev", "eth1"])?;
    let mut node = object(cluster, "n4")?;
    let addresses = node["status"]["addresses"].as_array_mut().context("addresses")?;
    addresses[0] = json!({ "type": "InternalIP", "address": "172.16.0.44" });
    cluster.server.put(node);
    poll::until("n1 to reach n4 at its new address", LIMIT, || {
        let said = n1.run_ok(&["ip", "route", "show", RANGE_OF_N4]).unwrap_or_default();
        said.contains("via 172.16.0.44") || said.contains("nhid")
    })?;
    poll::until("the session to the new address", LIMIT, || {
        fabric::ask(&n1, &["show", "protocols"]).is_ok_and(|said| {
            let protocols = said["protocols"].as_array().cloned().unwrap_or_default();
            let is_there = |peer: &Value| peer["address"] == "172.16.0.44" && peer["state"] == "Established";
            protocols.iter().any(is_there) && !protocols.iter().any(|peer| peer["address"] == "172.16.0.4")
        })
    })?;
    let said = n4.run_ok(&["cambric", "show", "status"])?;
    ensure!(said.contains("172.16.0.44"), "{said}");
    println!("n4 has another address: n1 peers with it there, show status tells it");
    Ok(())
}

/// The daemon is started under another name, as after the host was renamed.
fn a_renamed_node_is_another(cluster: &Cluster<'_>) -> Result<()> {
    let (n1, n4) = (cluster.node("n1")?, cluster.node("n4")?);
    let mut node = object(cluster, "n4")?;
    n4.kill(CAMBRICD, Signal::SIGTERM)?;
    poll::until("the daemon to end", LIMIT, || n4.daemon_pid(CAMBRICD).is_none())?;
    cluster.server.delete("v1", "Node", "", "n4");
    node["metadata"] = json!({ "name": "n4-renamed" });
    node["spec"] = json!({ "podCIDR": "10.244.44.0/24", "podCIDRs": ["10.244.44.0/24"] });
    cluster.server.put(node);
    cluster.server.add_token(&token("n4"), account("n4-renamed"));
    let words = [
        "cambricd",
        "--node",
        "n4-renamed",
        "--source",
        "kube",
        "--kubeconfig",
        "/etc/cambric/manifests/kubeconfig",
    ];
    let log = std::fs::File::create(n4.log("cambricd.log"))?;
    let _daemon = n4.spawn(&words, log.into())?;
    poll::until("n1 to reach the new range and not the old one", LIMIT, || {
        routes_to(&n1, "10.244.44.0/24") == 1 && routes_to(&n1, RANGE_OF_N4) == 0
    })?;
    poll::until("n4 to let go of the old range", LIMIT, || routes_to(&n4, RANGE_OF_N4) == 0)?;
    println!("n4 renamed: its new range is reached, nothing of the old one is left");
    Ok(())
}
