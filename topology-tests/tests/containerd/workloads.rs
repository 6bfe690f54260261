//! Pods that a runtime starts by the real plugin.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cambric_lab::kubelet::RunningPod;
use cambric_lab::place::Place;
use cambric_lab::reach::{Client, Echo, PORT, Protocol, ask, matrix};
use cambric_lab::{Lab, Node, containerd, fabric, http, poll};
use serde_json::{Value, json};

use crate::LIMIT;
use crate::cluster::{Cluster, NewPod, policy};
use crate::machine::Machine;

/// How long one question of the matrix may take.
const ANSWER: Duration = Duration::from_secs(2);

/// What is not answered by then is denied.
const PATIENCE: Duration = Duration::from_millis(500);

const METRICS: u16 = 9179;

/// A pod of two containers: a web server, and one to ask from.
pub(crate) fn workload(node: &str, name: &str, label: &str) -> Value {
    let (key, value) = label.split_once('=').unwrap_or((label, ""));
    let image = containerd::BUSYBOX;
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": "default", "name": name, "uid": format!("uid-of-{name}"), "labels": { key: value },
        },
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [
                { "name": "web", "image": image, "command": ["/bin/httpd", "-f", "-p", "8080", "-h", "/etc"] },
                { "name": "client", "image": image, "command": ["/bin/sleep", "2147483647"] },
            ],
        },
        "status": { "phase": "Pending" },
    })
}

pub(crate) fn come_talk_and_go(lab: &Lab, cluster: &Cluster<'_>, machines: &[Machine]) -> Result<()> {
    let before = machines.iter().map(|machine| Traces::of(&machine.node)).collect::<Result<Vec<_>>>()?;
    let mut pods = Vec::new();
    for machine in machines {
        for (number, label) in [(1, "app=a"), (2, "app=b")] {
            let name = format!("{}-{number}", machine.name());
            pods.push((machine, machine.run(cluster, workload(machine.name(), &name, label))?));
        }
    }
    for node in ["n12", "n22"] {
        cluster.start(NewPod { node, name: &format!("{node}-1"), label: "app=a" })?;
    }
    everybody_reaches_everybody(lab, machines, &pods)?;
    containers_ping_and_share_localhost(&pods)?;
    a_policy_isolates(cluster, &pods)?;
    for (machine, pod) in &pods {
        // As kubelet does when it is not sure.
        machine.kubelet.stop(pod)?;
        machine.kubelet.stop(pod)?;
        machine.remove(cluster, pod)?;
    }
    for (machine, before) in machines.iter().zip(&before) {
        poll::until(&format!("nothing left of the pods of {}", machine.name()), LIMIT, || {
            Traces::of(&machine.node).is_ok_and(|now| now == *before)
        })
        .with_context(|| format!("before: {before:#?}; now: {:#?}", Traces::of(&machine.node)))?;
    }
    println!("stopped twice and removed: no lease, link, route or set member of {} pods is left", pods.len());
    Ok(())
}

/// Pods of containerd, pods of the lab, nodes of both: by UDP and TCP, in both families, with their own addresses.
fn everybody_reaches_everybody(
    lab: &Lab,
    machines: &[Machine],
    pods: &[(&Machine, RunningPod)],
) -> Result<()> {
    let (others, nodes) = (lab.pods()?, fabric::cambric_nodes(lab)?);
    let mut clients: Vec<Client<'_>> = Vec::new();
    for (_, pod) in pods {
        ensure!(pod.addresses().len() == 2, "{}: {:?}", pod.name(), pod.addresses());
        // What the runtime reports is what others must see.
        clients.push(Client { place: pod, sources: pod.addresses().to_vec() });
    }
    for pod in &others {
        clients.push(Client { place: pod as &dyn Place, sources: pod.addresses()? });
    }
    for node in &nodes {
        clients.push(Client { place: node as &dyn Place, sources: fabric::node_addresses(node)? });
    }
    for machine in machines {
        clients.push(Client { place: &machine.node, sources: machine.addresses()? });
    }
    let mut servers = Vec::new();
    for client in &clients {
        for address in &client.sources {
            servers.push(Echo::start(client.place, *address)?);
        }
    }
    let wrong = matrix(&clients, &servers, ANSWER);
    // Everybody has both families, so everybody asks everybody, by both protocols.
    let asked = clients.len() * servers.len() * 2;
    println!(
        "matrix of {} pods by CRI, {} others, 4 nodes: {asked} questions, {} wrong",
        pods.len(),
        others.len(),
        wrong.len()
    );
    ensure!(wrong.is_empty() && asked == 400, "{wrong:#?}");
    Ok(())
}

/// From inside of containers: each pod pings all others and the web server of its other container.
fn containers_ping_and_share_localhost(pods: &[(&Machine, RunningPod)]) -> Result<()> {
    let mut pings = 0;
    for (machine, pod) in pods {
        let exec = |words: &[&str]| {
            let (status, said) = machine.kubelet.exec(pod, "client", words)?;
            ensure!(status == 0, "{}: {words:?}: {status}: {said}", pod.name());
            Ok(said)
        };
        for (_, other) in pods {
            for address in other.addresses() {
                exec(&["ping", "-c", "1", "-W", "2", &address.to_string()])?;
                pings += 1;
            }
        }
        for localhost in ["127.0.0.1", "[::1]"] {
            let said = exec(&["wget", "-qO-", &format!("http://{localhost}:8080/hosts")])?;
            ensure!(said.contains("localhost"), "{}: {said}", pod.name());
        }
    }
    println!("{pings} pings between containers answered; two containers of a pod share localhost");
    Ok(())
}

/// `app=b` only from `app=a`.
fn a_policy_isolates(cluster: &Cluster<'_>, pods: &[(&Machine, RunningPod)]) -> Result<()> {
    let from = json!([{ "from": [{ "podSelector": { "matchLabels": { "app": "a" } } }] }]);
    let spec = json!({ "podSelector": { "matchLabels": { "app": "b" } }, "ingress": from });
    cluster.server.put(policy("b-from-a", spec));
    cluster.have_policies(1)?;
    let is_a = |pod: &RunningPod| pod.object()["metadata"]["labels"]["app"] == "a";
    let mut echoes = Vec::new();
    for (_, pod) in pods {
        for address in pod.addresses() {
            echoes.push((pod, Echo::start(pod, *address)?));
        }
    }
    let reaches_within = |limit, client: &RunningPod, server: SocketAddr| {
        [Protocol::Udp, Protocol::Tcp].map(|protocol| ask(client, protocol, server, limit).is_ok())
    };
    let reaches = |client: &RunningPod, server| reaches_within(PATIENCE, client, server);
    // Daemons in containers are not asked by `have_policies`.
    let judged = |limit| {
        poll::until("the policy to be in force", limit, || {
            !reaches(&pods[1].1, SocketAddr::new(pods[3].1.addresses()[0], PORT))[0]
                && !reaches(&pods[3].1, SocketAddr::new(pods[1].1.addresses()[0], PORT))[0]
        })
    };
    judged(LIMIT)?;
    let (mut answered, mut denied) = (0, 0);
    for (_, client) in pods {
        for (server, echo) in echoes.iter().filter(|(server, _)| server.id() != client.id()) {
            let allowed = is_a(server) || is_a(client);
            let seen = reaches_within(if allowed { ANSWER } else { PATIENCE }, client, echo.address());
            ensure!(seen == [allowed; 2], "{} to {}: {seen:?}", client.name(), server.name());
            if allowed { answered += 2 } else { denied += 2 }
        }
    }
    println!("policy: {answered} questions of pods by CRI answered, {denied} denied, as it says");
    cluster.server.delete("networking.k8s.io/v1", "NetworkPolicy", "default", "b-from-a");
    cluster.have_policies(0)
}

/// What pods leave on a node while they are there.
#[derive(Debug, PartialEq)]
pub(crate) struct Traces {
    links: BTreeSet<String>,
    /// Of the plugin's protocol.
    routes: BTreeSet<String>,
    members: BTreeSet<String>,
    leases: f64,
}

impl Traces {
    pub(crate) fn of(node: &Node) -> Result<Traces> {
        let lines = |words: &[&str]| -> Result<BTreeSet<String>> {
            Ok(node.run_ok(words)?.lines().map(|line| line.trim().to_owned()).collect())
        };
        let links = lines(&["ip", "-br", "link", "show"])?;
        let names = links.iter().filter_map(|line| line.split_whitespace().next().map(str::to_owned));
        let mut routes = lines(&["ip", "route", "show", "proto", "204"])?;
        routes.extend(lines(&["ip", "-6", "route", "show", "proto", "204"])?);
        // Nodes, and pods elsewhere, are members of sets as well: here only those count that name a link.
        let is_of_link = |line: &String| line.starts_with("add ") && line.contains(",");
        let members = lines(&["ipset", "save"])?.into_iter().filter(is_of_link).collect();
        let metrics = http::metrics(node, METRICS)?;
        let leases = metrics.series("cambric_ipam_granted").map(|(_, count)| count).sum();
        Ok(Traces { links: names.collect(), routes, members, leases })
    }
}
