//! Random clusters with random policies, to which random things happen: what the compiled program says of every connection
//! is what the evaluator says of it, after every step; and the program is the one that a compiler makes which is told the
//! last state alone. `PROPTEST_CASES` says how many clusters.
#![allow(unreachable_pub, reason = "nothing uses a test")]

#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod random;
mod windows;
mod world;

use std::net::IpAddr;

use proptest::prelude::*;
use random::{PORTS, histories};
use support::case::{Family, Side};
use support::changes::{Order, changes};
use support::cluster::{Cluster, addresses_of, is_finished, is_on_host_network, name_of, node_of};
use support::evaluator::{Answer, Connection, End, may_receive, may_send};
use support::nodes::Nodes;
use world::{Step, World};

/// Clusters, unless the environment says otherwise: about ten seconds of a debug build.
const CLUSTERS: u32 = 200;

proptest! {
    #![proptest_config(config(CLUSTERS))]

    #[test]
    fn compiled_programs_judge_as_the_text_of_the_api_says((world, steps) in histories()) {
        run(world, &steps)?;
    }
}

/// Tried with as many clusters as the environment says, or with these.
fn config(unless_told: u32) -> ProptestConfig {
    let told = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig {
        cases: told.unwrap_or(unless_told),
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..ProptestConfig::default()
    }
}

fn run(mut world: World, steps: &[Step]) -> Result<(), TestCaseError> {
    let first = Step { events: Vec::new(), seed: 0 };
    let mut before = Cluster::default();
    let mut nodes = Nodes::new(world.cluster().nodes.keys());
    for (nth, step) in std::iter::once(&first).chain(steps).enumerate() {
        step.events.iter().for_each(|event| world.happens(event));
        let cluster = world.cluster();
        go(&mut nodes, &before, &cluster, step.seed);
        check(&nodes, &cluster).map_err(|what| failed(nth, &what, &cluster))?;
        let differs = nodes.difference(&Nodes::of(&cluster));
        if !differs.is_empty() {
            return Err(failed(
                nth,
                &format!("not the program from nothing (right):\n{}", differs.join("\n")),
                &cluster,
            ));
        }
        before = cluster;
    }
    Ok(())
}

/// Some changes are told twice, and some are in the kernel before the next is told.
fn go(nodes: &mut Nodes, before: &Cluster, after: &Cluster, seed: u64) {
    let order = match seed % 4 {
        0 => Order::AddsFirst,
        1 => Order::DeletesFirst,
        _ => Order::Shuffled(seed),
    };
    for (nth, told) in changes(before, after, order).iter().enumerate() {
        nodes.tell(told);
        let bits = seed >> (nth % 32) >> 8;
        if bits & 1 == 1 {
            nodes.tell(told);
        }
        if bits & 2 == 2 {
            nodes.settle();
        }
    }
    nodes.settle();
}

/// All pairs, all ports.
fn check(nodes: &Nodes, cluster: &Cluster) -> Result<(), String> {
    let ends = ends(cluster);
    for (source_name, source, source_address) in &ends {
        for (destination_name, destination, destination_address) in &ends {
            let has_pod = matches!(source, End::Pod(_)) || matches!(destination, End::Pod(_));
            if !has_pod || Family::of(*source_address) != Family::of(*destination_address) {
                continue;
            }
            for (protocol, port) in services() {
                let connection = Connection {
                    source: *source,
                    source_address: *source_address,
                    destination: *destination,
                    destination_address: *destination_address,
                    protocol,
                    port,
                };
                for side in sides(source, destination) {
                    let expected = expected(cluster, *side, connection);
                    let got = nodes.judge(*side, &connection);
                    if got.is_ok() != expected {
                        return Err(format!(
                            "{side:?} {source_name} {source_address} -> {destination_name} {destination_address} \
                             {protocol} {port}: allowed {expected}, got {got:?}"
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}

/// Both sides are judged together where one packet meets both; otherwise together is no more than each.
fn sides(source: &End, destination: &End) -> &'static [Side] {
    match (source, destination) {
        (End::Pod(source), End::Pod(destination)) if node_of(source) == node_of(destination) => &Side::ALL,
        (End::Pod(_), End::Pod(_)) => &[Side::Egress, Side::Ingress],
        (End::Pod(_), _) => &[Side::Egress],
        _ => &[Side::Ingress],
    }
}

/// Every port that there is, and protocols to tell them apart. ICMP has no ports: only rules without ports let it through.
fn services() -> impl Iterator<Item = (&'static str, u16)> {
    let of_tcp = PORTS.into_iter().map(|port| ("TCP", port));
    of_tcp.chain([("UDP", 53), ("UDP", 80), ("SCTP", 80), ("SCTP", 81), ("ICMP", 0)])
}

/// Everything with an address: name, what it is, and one address.
fn ends(cluster: &Cluster) -> Vec<(String, End<'_>, IpAddr)> {
    let pods =
        cluster.pods.iter().filter(|(_, pod)| !is_finished(pod) && !is_on_host_network(pod)).map(
            |((namespace, name), pod)| (format!("{namespace}/{name}"), End::Pod(pod), addresses_of(pod)),
        );
    let nodes =
        cluster.nodes.iter().map(|(name, ips)| (format!("node:{name}"), End::Node(name), ips.clone()));
    let externals = cluster.externals.iter().map(|(name, ips)| (name.clone(), End::Outside, ips.clone()));
    // What pods had that have ended: nobody's, or another pod's, as which it comes already.
    let had = cluster.pods.iter().filter(|(_, pod)| is_finished(pod)).map(|((namespace, name), pod)| {
        (format!("{namespace}/{name}, ended"), End::Outside, addresses_of(pod))
    });
    let living: Vec<_> = pods.chain(nodes).chain(externals).collect();
    let has = |ip: &IpAddr| living.iter().any(|(_, _, ips)| ips.contains(ip));
    let had: Vec<_> =
        had.map(|(name, end, ips)| (name, end, ips.into_iter().filter(|ip| !has(ip)).collect())).collect();
    living
        .into_iter()
        .chain(had)
        .flat_map(|(name, end, ips)| ips.into_iter().map(move |ip| (name.clone(), end, ip)))
        .collect()
}

/// What the evaluator says, of what the judging node can know.
fn expected(cluster: &Cluster, side: Side, connection: Connection) -> bool {
    let is_allowed = |answer| match answer {
        Answer::Allowed => true,
        Answer::Denied => false,
        // A pod's traffic to its own node meets no rule of ours.
        Answer::Open => true,
    };
    let egress = || {
        let destination = seen_from(cluster, connection.source, connection.destination);
        is_allowed(may_send(cluster, &Connection { destination, ..connection }))
    };
    let ingress = || {
        let source = seen_from(cluster, connection.destination, connection.source);
        is_allowed(may_receive(cluster, &Connection { source, ..connection }))
    };
    match side {
        Side::Egress => egress(),
        Side::Ingress => ingress(),
        Side::Combined => egress() && ingress(),
    }
}

/// To other nodes a pod whose addresses are not told yet is an address of nobody.
fn seen_from<'a>(cluster: &Cluster, judge: End, other: End<'a>) -> End<'a> {
    let (End::Pod(judge), End::Pod(pod)) = (judge, other) else { return other };
    let is_reported = !cluster.unreported.contains(&name_of(&pod.metadata));
    if is_reported || node_of(judge) == node_of(pod) { other } else { End::Outside }
}

fn failed(nth: usize, what: &str, cluster: &Cluster) -> TestCaseError {
    let mut lines = vec![format!("step {nth}: {what}")];
    lines.extend(cluster.namespaces.values().filter_map(|object| serde_json::to_string(object).ok()));
    lines.extend(cluster.told_pods().values().filter_map(|object| serde_json::to_string(object).ok()));
    lines.extend(cluster.policies.values().map(|policy| policy.told.to_string()));
    TestCaseError::fail(lines.join("\n"))
}
