//! The two racks with an API server: what the folder does, it does.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use cambric_apiserver_double::Request;
use cambric_lab::place::Place;
use cambric_lab::reach::{Echo, Protocol, ask};
use cambric_lab::{Pod, fabric};

use crate::cluster::{Cluster, account};
use crate::load::{a2_from_a1, start_pods};
use crate::{UPLINKS, dashboard, in_two_rack};

/// An answer takes less than a millisecond; one that has not come by now does not.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(500);

/// What a daemon may write, as verb, group, resource and subresource.
const WRITES: [(&str, &str, &str, &str); 11] = [
    ("patch", "", "nodes", ""),
    ("patch", "", "nodes", "status"),
    ("create", "events.k8s.io", "events", ""),
    ("patch", "events.k8s.io", "events", ""),
    ("create", "cambric.dev", "bgpsessionstates", ""),
    ("patch", "cambric.dev", "bgpsessionstates", "status"),
    ("delete", "cambric.dev", "bgpsessionstates", ""),
    ("patch", "cambric.dev", "bgpclusterconfigs", "status"),
    ("patch", "cambric.dev", "bgppeerconfigs", "status"),
    ("patch", "cambric.dev", "bgpnodeoverrides", "status"),
    ("patch", "cambric.dev", "bgpadvertisements", "status"),
];

#[test]
fn an_api_server_does_what_the_folder_does() {
    in_two_rack(
        |_| Ok(()),
        |cluster| {
            let pods = start_pods(cluster)?;
            let (asked, wrong) = fabric::reachability(cluster.lab)?;
            println!("matrix: {asked} questions, {} wrong", wrong.len());
            ensure!(wrong.is_empty() && asked > 500, "{wrong:#?}");
            a_policy_isolates(cluster, &pods)?;
            fabric::whole_and_spread(cluster.lab, UPLINKS, crate::LIMIT)?;
            dashboard::asks_for_what_is_there(&cluster.node("n11")?)?;
            requests_are_few_and_writes_are_own(cluster)
        },
    );
}

fn a_policy_isolates(cluster: &Cluster<'_>, pods: &BTreeMap<String, Pod>) -> Result<()> {
    cluster.server.put(a2_from_a1());
    cluster.have_policies(1)?;
    let target = &pods["n22-2"];
    let (mut answered, mut denied) = (0, 0);
    for address in target.addresses()? {
        let echo = Echo::start(target, address)?;
        for (name, pod) in pods.iter().filter(|(name, _)| *name != "n22-2") {
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                let is_answered = ask(pod as &dyn Place, protocol, echo.address(), PATIENCE).is_ok();
                ensure!(is_answered == name.ends_with("-1"), "{name} by {protocol}: answered: {is_answered}");
                if is_answered { answered += 1 } else { denied += 1 }
            }
        }
    }
    println!("policy: {answered} questions of its peers answered, {denied} of others not");
    cluster.server.delete("networking.k8s.io/v1", "NetworkPolicy", "default", "a2-from-a1");
    cluster.have_policies(0)
}

/// One list a kind and node at the start, and nothing written but own status, events, own taint.
fn requests_are_few_and_writes_are_own(cluster: &Cluster<'_>) -> Result<()> {
    let requests = cluster.server.requests();
    let nodes = fabric::cambric_nodes(cluster.lab)?.len();
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for request in &requests {
        *counts.entry((request.verb.clone(), resource(request))).or_default() += 1;
    }
    for ((verb, resource), count) in &counts {
        println!("  {verb:7} {resource:40} {count:4}");
    }
    let lists = |resource: &str| counts.get(&("list".to_owned(), resource.to_owned())).copied().unwrap_or(0);
    let streamed = |resource: &str| {
        let is_whole = |request: &&Request| {
            request.verb == "watch"
                && request.resource == resource
                && request.query.contains("sendInitialEvents=true")
        };
        requests.iter().filter(is_whole).count()
    };
    for kind in [
        "nodes",
        "pods",
        "namespaces",
        "networkpolicies",
        "bgpclusterconfigs",
        "bgppeerconfigs",
        "bgpnodeoverrides",
    ] {
        let wholes = lists(kind) + streamed(kind);
        ensure!(wholes == nodes, "{kind}: {wholes} lists by {nodes} nodes");
    }
    for request in &requests {
        let Request { verb, group, resource, subresource, status, .. } = request;
        ensure!(*status != 403, "refused: {request:?}");
        if ["get", "list", "watch"].contains(&verb.as_str()) {
            continue;
        }
        let write = (verb.as_str(), group.as_str(), resource.as_str(), subresource.as_str());
        ensure!(WRITES.contains(&write), "written: {request:?}");
        // Thus the policies of admission were asked, and had nothing against it.
        ensure!(request.user == account(&request.name).name, "written by somebody else: {request:?}");
    }
    let policies = cluster.server.list("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding");
    ensure!(policies.len() == 3, "{} policies of admission are in force", policies.len());
    Ok(())
}

fn resource(request: &Request) -> String {
    if request.subresource.is_empty() {
        return request.resource.clone();
    }
    format!("{}/{}", request.resource, request.subresource)
}
