//! `show status`: the daemon on one page, what is wrong at its end.

use cambric_api::{HttpStatus, Keeping, KernelStatus, NodeAddress, PolicyStatus, Status};

use super::actions::draining;
use super::{joined, span};
use crate::table::Fields;

mod cluster;

pub(super) fn render(status: &Status) -> String {
    let mut fields = Fields::new();
    fields.field("Version", format_args!("cambricd {}", status.version));
    fields.field("Node", &status.node);
    fields.field("Router ID", status.router_id.as_deref().unwrap_or("not known yet"));
    match status.asn {
        Some(asn) => fields.field("AS", asn),
        None => fields.field("AS", "not known yet"),
    }
    fields.field("Up for", span(status.uptime_s));
    match &status.cluster {
        None => fields.field("Source", &status.source),
        Some(cluster) => fields.list("Source", cluster::lines(&status.source, cluster), ""),
    }
    if !status.addresses.is_empty() {
        fields.list("Address", status.addresses.iter().map(address), "");
    }
    if !status.uplinks.is_empty() {
        fields.field("Uplinks", joined(&status.uplinks));
    }
    match (&status.router_id, status.peers_total) {
        (None, 0) => fields.field("Peers", "not known yet"),
        (_, total) => {
            fields.field("Peers", format_args!("{} of {total} established", status.peers_established))
        }
    }
    fields.list("Announces", &status.originated, "nothing");
    if !status.draining.is_empty() {
        fields.list("Drains", status.draining.iter().map(draining), "");
    }
    fields.list("Kernel", status.kernel.iter().map(kernel), "nothing installed");
    let Keeping { repairs, overruns, checks } = &status.keeping;
    fields.list("Repairs", repairs.iter().map(|(cause, count)| format!("{cause}: {count}")), "none");
    fields.field(
        "Checks",
        format_args!("{checks} of the whole table; the kernel's events lost {overruns} times"),
    );
    if let Some(policy) = &status.policy {
        fields.list("Policy", self::policy(policy), "");
    }
    if let Some(http) = &status.http {
        fields.list("Health", health(http), "");
        fields.field("Metrics", places(&http.metrics));
    }
    fields.field("Ready", if status.ready { "yes" } else { "no" });
    if !status.waiting_for.is_empty() {
        fields.list("Waits for", &status.waiting_for, "");
    }
    if !status.notices.is_empty() {
        fields.list("Notices", &status.notices, "");
    }
    fields.list("Problems", status.peer_problems.iter().chain(&status.problems), "none");
    fields.to_string()
}

fn address(NodeAddress { address, from, interface }: &NodeAddress) -> String {
    let interface = interface.as_ref().map(|interface| format!(" on {interface}")).unwrap_or_default();
    let from = if from.is_empty() { String::new() } else { format!(", by {from}") };
    format!("{address}{interface}{from}")
}

/// Where it is, and what keeps it from being ready.
fn health(http: &HttpStatus) -> Vec<String> {
    let ready = if http.missing.is_empty() { ", ready" } else { ", not ready; it misses:" };
    let first = format!("{}{}", places(&http.health), if http.health.is_empty() { "" } else { ready });
    let missing = http.missing.iter().filter(|_| !http.health.is_empty()).cloned();
    [first].into_iter().chain(missing).collect()
}

fn places(listening: &[String]) -> String {
    if listening.is_empty() { "nobody listens".to_owned() } else { listening.join(" ") }
}

fn kernel(status: &KernelStatus) -> String {
    let KernelStatus { family, wanted, installed, stale, groups } = status;
    let kept = if *stale > 0 { format!(", {stale} kept from before") } else { String::new() };
    let installed = installed.saturating_sub(*stale);
    format!("{family}: {installed} of {wanted} routes installed{kept}, next-hop groups: {groups}")
}

/// What it holds stands behind the first line.
fn policy(status: &PolicyStatus) -> Vec<String> {
    if !status.on && !status.waiting_for.is_empty() {
        return vec![format!("off, and no pod is started: it waits for {}", status.waiting_for.join(", "))];
    }
    if !status.on {
        return vec!["off: pods talk as they like".to_owned()];
    }
    let PolicyStatus { policies, pods, closed, sets, members, chains, denials, .. } = status;
    let closed = if *closed > 0 { format!(" ({closed} closed)") } else { String::new() };
    let mut lines = vec![
        if status.written {
            format!("on, in the kernel; policies: {policies}, pods here: {pods}{closed}")
        } else {
            format!("on, not in the kernel yet: it waits for {}", status.waiting_for.join(", "))
        },
        format!("sets: {sets}, members: {members}, chains: {chains}, denials told: {denials}"),
    ];
    lines.extend(status.last_change_us.map(|micros| format!("last change took {micros} us")));
    lines.extend(status.repairs.iter().map(|(cause, repairs)| {
        let (count, ago, took) = (repairs.count, span(repairs.ago_s), repairs.took_us);
        format!("repaired {cause}: {count}, last {ago} ago in {took} us")
    }));
    lines
}

#[cfg(test)]
mod tests {
    use cambric_api::{ClusterStatus, Draining, KindStatus, Repairs};

    use super::*;

    fn status() -> Status {
        Status {
            version: "0.1.0".to_owned(),
            run: "1".to_owned(),
            notices: Vec::new(),
            policy: Some(PolicyStatus {
                on: true,
                written: true,
                policies: 12,
                pods: 30,
                closed: 1,
                sets: 8,
                members: 400,
                chains: 10,
                denials: 7,
                last_change_us: Some(180),
                repairs: [("table".to_owned(), Repairs { count: 1, ago_s: 75, took_us: 2100 })].into(),
                ..PolicyStatus::default()
            }),
            keeping: Keeping {
                repairs: [("link-lost".to_owned(), 24), ("route-deleted".to_owned(), 1)].into(),
                overruns: 0,
                checks: 12,
            },
            node: "rack1-node1".to_owned(),
            router_id: Some("10.0.1.11".to_owned()),
            asn: Some(64512),
            uptime_s: 187_200,
            source: "kube".to_owned(),
            ready: true,
            waiting_for: Vec::new(),
            problems: Vec::new(),
            peer_problems: Vec::new(),
            originated: vec!["10.244.1.0/24".to_owned(), "fd00:244:1::/64".to_owned()],
            draining: vec![Draining {
                part: "services".to_owned(),
                by: vec!["label".to_owned()],
                since_s: 20,
                left_s: 40,
            }],
            peers_established: 2,
            peers_total: 2,
            kernel: vec![
                KernelStatus { family: "ipv4".to_owned(), wanted: 24, installed: 24, stale: 0, groups: 1 },
                KernelStatus { family: "ipv6".to_owned(), wanted: 24, installed: 23, stale: 0, groups: 1 },
            ],
            cluster: Some(ClusterStatus {
                server: Some("https://192.0.2.1:6443".to_owned()),
                complete: true,
                kinds: vec![
                    KindStatus {
                        kind: "Node".to_owned(),
                        objects: 4,
                        state: "watching".to_owned(),
                        ..KindStatus::default()
                    },
                    KindStatus {
                        kind: "Pod".to_owned(),
                        objects: 117,
                        state: "watching".to_owned(),
                        ..KindStatus::default()
                    },
                ],
                ..ClusterStatus::default()
            }),
            addresses: vec![
                NodeAddress {
                    address: "10.0.1.11".to_owned(),
                    from: "status.addresses[0] of the Node".to_owned(),
                    interface: Some("eth0".to_owned()),
                },
                NodeAddress { address: "2001:db8::11".to_owned(), ..NodeAddress::default() },
            ],
            uplinks: vec!["eth0".to_owned(), "eth1".to_owned()],
            http: Some(HttpStatus {
                health: vec!["127.0.0.1:9178".to_owned()],
                metrics: vec!["127.0.0.1:9179".to_owned(), "10.0.1.11:9179".to_owned()],
                missing: Vec::new(),
            }),
        }
    }

    #[test]
    fn node_at_work() {
        let expected = "\
Version:    cambricd 0.1.0
Node:       rack1-node1
Router ID:  10.0.1.11
AS:         64512
Up for:     2d04h
Source:     kube: https://192.0.2.1:6443
            kinds followed as they change: 2 (121 objects)
Address:    10.0.1.11 on eth0, by status.addresses[0] of the Node
            2001:db8::11
Uplinks:    eth0 eth1
Peers:      2 of 2 established
Announces:  10.244.1.0/24
            fd00:244:1::/64
Drains:     services: drained for 20s by label: to be used last by others, announced no more in 40s
Kernel:     ipv4: 24 of 24 routes installed, next-hop groups: 1
            ipv6: 23 of 24 routes installed, next-hop groups: 1
Repairs:    link-lost: 24
            route-deleted: 1
Checks:     12 of the whole table; the kernel's events lost 0 times
Policy:     on, in the kernel; policies: 12, pods here: 30 (1 closed)
            sets: 8, members: 400, chains: 10, denials told: 7
            last change took 180 us
            repaired table: 1, last 1m15s ago in 2100 us
Health:     127.0.0.1:9178, ready
Metrics:    127.0.0.1:9179 10.0.1.11:9179
Ready:      yes
Problems:   none
";
        assert_eq!(render(&status()), expected);
    }

    #[test]
    fn node_that_waits() {
        let status = Status {
            router_id: None,
            asn: None,
            uptime_s: 3,
            ready: false,
            waiting_for: vec!["Node rack1-node1".to_owned(), "End-of-RIB from tor1a".to_owned()],
            peer_problems: vec!["peer tor1b (10.0.2.1) is down (Active)".to_owned()],
            problems: vec!["peers.yaml: BGPPeerConfig tor: holdTime 2 s is not allowed".to_owned()],
            originated: Vec::new(),
            draining: Vec::new(),
            peers_established: 0,
            peers_total: 0,
            kernel: vec![KernelStatus {
                family: "ipv4".to_owned(),
                wanted: 0,
                installed: 3,
                stale: 3,
                groups: 1,
            }],
            keeping: Keeping::default(),
            policy: Some(PolicyStatus {
                on: true,
                waiting_for: vec!["the objects of the cluster".to_owned()],
                ..PolicyStatus::default()
            }),
            cluster: None,
            addresses: Vec::new(),
            uplinks: Vec::new(),
            http: Some(HttpStatus {
                health: vec!["127.0.0.1:9178".to_owned()],
                missing: vec!["the objects of the cluster".to_owned()],
                ..HttpStatus::default()
            }),
            notices: vec!["peer tor1a (10.0.1.1) is disabled; `enable tor1a` brings it back".to_owned()],
            ..status()
        };
        let expected = "\
Version:    cambricd 0.1.0
Node:       rack1-node1
Router ID:  not known yet
AS:         not known yet
Up for:     3s
Source:     kube
Peers:      not known yet
Announces:  nothing
Kernel:     ipv4: 0 of 0 routes installed, 3 kept from before, next-hop groups: 1
Repairs:    none
Checks:     0 of the whole table; the kernel's events lost 0 times
Policy:     on, not in the kernel yet: it waits for the objects of the cluster
            sets: 0, members: 0, chains: 0, denials told: 0
Health:     127.0.0.1:9178, not ready; it misses:
            the objects of the cluster
Metrics:    nobody listens
Ready:      no
Waits for:  Node rack1-node1
            End-of-RIB from tor1a
Notices:    peer tor1a (10.0.1.1) is disabled; `enable tor1a` brings it back
Problems:   peer tor1b (10.0.2.1) is down (Active)
            peers.yaml: BGPPeerConfig tor: holdTime 2 s is not allowed
";
        assert_eq!(render(&status), expected);
    }
}
