//! Small clusters of two nodes, for tests of one thing.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use crate::support::cluster::Cluster;

/// Outside the cluster.
pub(crate) const OUTSIDE: [&str; 2] = ["203.0.113.9", "2001:db8:aa::9"];
/// Of `node1` and of `node2`.
pub(crate) const NODE1: [&str; 2] = ["172.20.0.1", "fd20::1"];
pub(crate) const NODE2: [&str; 2] = ["172.20.0.2", "fd20::2"];

/// One family of each pair of addresses.
pub(crate) const FAMILIES: [usize; 2] = [0, 1];

/// A pod `default/NAME` with the label `app: NAME` and the [`addresses`] of this number.
pub(crate) fn pod(name: &str, nth: u8, node: &str) -> Value {
    json!({
        "namespace": "default", "name": name, "labels": { "app": name }, "node": node, "phase": "Running",
        "ips": addresses(nth), "ports": [{ "name": "web", "containerPort": 8080, "protocol": "TCP" }],
    })
}

/// Of a pod: `10.244.0.NTH` and `fd00::NTH`.
pub(crate) fn addresses(nth: u8) -> [IpAddr; 2] {
    [ip(&format!("10.244.0.{nth}")), ip(&format!("fd00::{nth}"))]
}

/// A policy `default/NAME`.
pub(crate) fn policy(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "namespace": "default", "name": name }, "spec": spec,
    })
}

/// Isolates all pods of `default` in both directions.
pub(crate) fn deny_all() -> Value {
    policy("deny-all", json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] }))
}

/// Lets pods of an app send to pods of another.
pub(crate) fn allow(from: &str, to: &str, protocol: &str, port: u16) -> [Value; 2] {
    let peer = |app: &str| json!([{ "podSelector": { "matchLabels": { "app": app } } }]);
    let ports = json!([{ "protocol": protocol, "port": port }]);
    let name = format!("{from}-{to}-{}-{port}", protocol.to_lowercase());
    let out = json!({
        "podSelector": { "matchLabels": { "app": from } }, "policyTypes": ["Egress"],
        "egress": [{ "to": peer(to), "ports": ports }],
    });
    let into = json!({
        "podSelector": { "matchLabels": { "app": to } }, "policyTypes": ["Ingress"],
        "ingress": [{ "from": peer(from), "ports": ports }],
    });
    [policy(&format!("{name}-out"), out), policy(&format!("{name}-in"), into)]
}

/// All of it on `node1` and `node2`, in the namespaces `default` and `kube-system`.
pub(crate) fn cluster(pods: &[Value], policies: &[Value]) -> Cluster {
    let namespace = |name: &str| json!({ "name": name, "labels": { "kubernetes.io/metadata.name": name } });
    let step = json!({
        "nodes": [{ "name": "node1", "ips": NODE1 }, { "name": "node2", "ips": NODE2 }],
        "namespaces": [namespace("default"), namespace("kube-system")],
        "externals": [{ "name": "ext:a", "ips": OUTSIDE }],
        "pods": pods, "policies": policies, "expect": [],
    });
    Cluster::of(&serde_json::from_value(step).expect("a state of a cluster"))
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// An address and a port.
pub(crate) fn to(address: impl ToString, port: u16) -> SocketAddr {
    SocketAddr::new(ip(&address.to_string()), port)
}
