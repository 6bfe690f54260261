//! A node with an enforcer, and pods that are told to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cambric_policy::change::{Change, Endpoint, Key, PolicyObject};
use cambric_policy::compile::{Options, UnknownPods};
use cambric_policy::enforcer::{Config, Enforcer, Status};
use cambric_policy::kernel::{Guard, Kernel};
use cambric_policy::pod::Pod;
use cambric_policy::program::IfName;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};
use tokio::time::timeout;

/// Far beyond what anything takes.
const LONG: Duration = Duration::from_secs(20);

/// An enforcer in the network namespace of the calling thread. What is slow is made fast.
pub(crate) fn config() -> Config {
    let options =
        Options { node: "n1".to_owned(), bgp_port: 179, log_group: 100, unknown_pods: UnknownPods::Closed };
    Config {
        check_interval: Duration::from_secs(3600),
        compare_interval: Duration::from_secs(1),
        guard: Guard::Anyone,
        ..Config::new(options)
    }
}

pub(crate) fn start() -> Enforcer {
    Enforcer::start(config()).expect("started")
}

/// Starts, tells all and waits until it is in force.
pub(crate) async fn start_with(config: Config, changes: Vec<Change>) -> Enforcer {
    let enforcer = Enforcer::start(config).expect("started");
    enforcer.apply(changes).await.expect("told");
    soon(enforcer.complete()).await.expect("in force");
    enforcer
}

pub(crate) async fn apply(enforcer: &Enforcer, changes: Vec<Change>) {
    enforcer.apply(changes).await.expect("told");
    soon(enforcer.flushed()).await.expect("in the kernel");
}

/// Waits for what comes soon.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(LONG, what).await.expect("it comes soon")
}

/// Waits until the status is as described.
pub(crate) async fn reaches(enforcer: &Enforcer, what: &str, hit: impl Fn(&Status) -> bool) -> Status {
    let mut status = enforcer.status();
    let found = timeout(LONG, status.wait_for(|status| hit(status)))
        .await
        .map(|found| found.map(|status| status.clone()));
    match found {
        Ok(found) => found.expect("it lives"),
        Err(_) => panic!("not reached: {what}\n{:#?}", status.borrow().clone()),
    }
}

/// The generation of nf_tables: the same as long as nobody writes.
pub(crate) fn generation() -> u32 {
    Kernel::open().expect("a kernel").generation().expect("a generation")
}

// -- Objects.

pub(crate) fn namespace(name: &str) -> Change {
    let object = json!({"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}});
    Change::Namespace(name.into(), Some(Arc::new(read::<Namespace>(object))))
}

/// A running pod of the namespace `default`.
pub(crate) fn pod(name: &str, labels: Value, addresses: &[&str]) -> Change {
    let ips = addresses.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>();
    let object = json!({
        "metadata": {"namespace": "default", "name": name, "uid": name, "labels": labels,
                     "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"nodeName": "n1", "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIPs": ips},
    });
    Change::Pod(key(name), Some(Arc::new(Pod::read(&read(object)))))
}

pub(crate) fn no_pod(name: &str) -> Change {
    Change::Pod(key(name), None)
}

pub(crate) fn key(name: &str) -> Key {
    Key::new("default", name)
}

pub(crate) fn policy(name: &str, spec: Value) -> Change {
    let object = json!({"metadata": {"namespace": "default", "name": name}, "spec": spec});
    let object = read::<NetworkPolicy>(object);
    Change::Policy(key(name), Some(Arc::new(PolicyObject { object, faults: Vec::new() })))
}

pub(crate) fn no_policy(name: &str) -> Change {
    Change::Policy(key(name), None)
}

/// The pods that `selects` selects are let in from those that `from` selects.
pub(crate) fn allow(name: &str, selects: Value, from: Value) -> Change {
    let spec = json!({
        "podSelector": {"matchLabels": selects},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": {"matchLabels": from}}]}],
    });
    policy(name, spec)
}

pub(crate) fn endpoint(name: &str, addresses: &[&str]) -> Endpoint {
    let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
    Endpoint { pod: Some(key(name).into()), addresses }
}

pub(crate) fn wired(interface: &str, name: &str, addresses: &[&str]) -> Change {
    Change::Endpoint(interface.into(), Some(endpoint(name, addresses)))
}

pub(crate) fn unwired(interface: &str) -> Change {
    Change::Endpoint(IfName::from(interface), None)
}

fn read<T: serde::de::DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).expect("an object")
}

/// Repairs by cause, for a look.
pub(crate) fn repairs(status: &Status) -> BTreeMap<String, u64> {
    status.repairs.iter().map(|(cause, repairs)| (cause.to_string(), repairs.count)).collect()
}
