//! What a large cluster costs on one node: a hundred thousand pods, of which a hundred are here. Memory is that of this
//! process, which runs nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cambric_policy::atoms;
use cambric_policy::change::{Change, Endpoint, Key, PodRef, PolicyObject};
use cambric_policy::compile::{Compiler, Options, UnknownPods};
use cambric_policy::pod::{Life, Pod, Uid, named_port};
use k8s_openapi::api::core::v1::Namespace;
use serde_json::{Value, from_value, json};

const PODS: usize = 100_000;
const LOCAL: usize = 110;
const NODES: usize = 5_000;
const NAMESPACES: usize = 200;
const POLICIES: usize = 300;
/// Policies that select pods of this node.
const SELECTING: usize = 10;
/// Apps of a namespace; each has some ReplicaSets.
const APPS: usize = 10;
/// Pods of a ReplicaSet.
const REPLICAS: usize = 10;
const MB: usize = 1_000_000;
/// Pods and compiler together.
const MOST_BYTES: usize = 80 * MB;

/// Which pod it is: the first are here. All of a ReplicaSet follow each other, on nodes of their own.
fn pod(at: usize, generation: usize) -> (Key, Pod) {
    let set = at / REPLICAS;
    let (namespace, app) = (set % NAMESPACES, set / NAMESPACES % APPS);
    let hash = format!("{:09x}", (set + 1) * 0x9e37_79b9 % 0xf_ffff_ffff);
    let name = format!("app-{app}-{hash}-{:05x}", at * 7919 % 0xf_ffff);
    let labels = [
        ("app.kubernetes.io/name", format!("app-{app}")),
        ("app.kubernetes.io/instance", format!("app-{app}-{namespace}")),
        ("app.kubernetes.io/component", ["web", "worker", "cache", "db"][app % 4].to_owned()),
        ("app.kubernetes.io/part-of", format!("team-{}", namespace / 8)),
        ("pod-template-hash", format!("{hash}{generation}")),
    ];
    let [ipv4, ipv6] = addresses(at);
    let node = if at < LOCAL { "n0".to_owned() } else { format!("n{}", 1 + at % (NODES - 1)) };
    let pod = Pod {
        uid: Uid::new(&format!("{at:08x}-9c5c-4cc8-9d5e-{generation:012x}")),
        created: Some(1_767_225_600 + at as i64),
        node: Some(atoms::text(&node)),
        labels: labels.into_iter().collect(),
        addresses: [ipv4, ipv6].into_iter().collect(),
        ports: named_port(None, Some("http"), 8080 + app as i64).into_iter().collect(),
        life: Life::OwnNetwork,
        ..Pod::default()
    };
    (Key::new(&format!("ns-{namespace}"), &name), pod)
}

fn addresses(at: usize) -> [IpAddr; 2] {
    let at = at as u32;
    [
        Ipv4Addr::from_bits(0x0a00_0000 + at).into(),
        Ipv6Addr::from_bits((0xfd00 << 112) + u128::from(at)).into(),
    ]
}

fn namespace(at: usize) -> Change {
    let name = format!("ns-{at}");
    let object = json!({"metadata": {"name": name, "labels": {"team": format!("team-{}", at / 8)}}});
    Change::Namespace(
        atoms::text(&name),
        Some(Arc::new(from_value::<Namespace>(object).expect("a namespace"))),
    )
}

/// The first select pods of this node: those of the first namespaces.
fn policy(at: usize) -> Change {
    let (namespace, app) = if at < SELECTING { (at, 0) } else { (LOCAL / REPLICAS + at % 100, at % APPS) };
    let app_of =
        |app: usize| json!({"matchLabels": {"app.kubernetes.io/name": format!("app-{}", app % APPS)}});
    let from = match at % 5 {
        0 => json!([{"podSelector": app_of(app + 1)}]),
        1 => json!([{"namespaceSelector": {"matchLabels": {"team": format!("team-{}", at % 25)}}}]),
        2 => json!([{"ipBlock": {"cidr": "192.0.2.0/24"}}]),
        3 => json!([{"namespaceSelector": {}, "podSelector": app_of(app)}]),
        _ => {
            json!([{"namespaceSelector": {"matchLabels": {"team": "team-1"}}, "podSelector": app_of(app + 2)}])
        }
    };
    let ingress = json!([{"from": from, "ports": [{"port": "http"}]}]);
    told(namespace, &format!("policy-{at}"), json!({"podSelector": app_of(app), "ingress": ingress}))
}

fn told(namespace: usize, name: &str, spec: Value) -> Change {
    let namespace = format!("ns-{namespace}");
    let object = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
    let object = PolicyObject { object: from_value(object).expect("a policy"), faults: Vec::new() };
    Change::Policy(Key::new(&namespace, name), Some(Arc::new(object)))
}

fn endpoint(at: usize) -> Change {
    let (key, pod) = pod(at, 0);
    let endpoint =
        Endpoint { pod: Some(PodRef { key, uid: pod.uid }), addresses: BTreeSet::from(addresses(at)) };
    Change::Endpoint(format!("cam{at:012x}").into(), Some(endpoint))
}

/// Of this process (proc_pid_status(5), `VmRSS`).
fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("the kernel tells it");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    let kilobytes: usize =
        line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number");
    kilobytes * 1024
}

#[test]
fn pods_of_a_large_cluster_and_their_compiler_fit_into_80_megabytes() {
    let before = resident_bytes();
    let grown = |what: &str| {
        let bytes = resident_bytes().saturating_sub(before);
        println!("{what}: {} MB", bytes / MB);
        bytes
    };
    let pods: Vec<(Key, Arc<Pod>)> = (0..PODS)
        .map(|at| {
            let (key, pod) = pod(at, 0);
            (key, Arc::new(pod))
        })
        .collect();
    grown("pods");

    let start = Instant::now();
    let options =
        Options { node: "n0".into(), bgp_port: 179, log_group: 100, unknown_pods: UnknownPods::Closed };
    let mut compiler = Compiler::new(options);
    (0..NAMESPACES).for_each(|at| compiler.apply(namespace(at)));
    for (key, pod) in &pods {
        compiler.apply(Change::Pod(key.clone(), Some(pod.clone())));
    }
    (0..POLICIES).for_each(|at| compiler.apply(policy(at)));
    (0..LOCAL).for_each(|at| compiler.apply(endpoint(at)));
    let delta = compiler.take_delta();
    println!("all told and compiled: {:?}", start.elapsed());
    assert_eq!(delta.dispatch.len(), LOCAL);
    assert!(compiler.pods().filter(|pod| !pod.ingress.is_empty()).count() >= SELECTING);
    drop(delta);
    let bytes = grown("pods and compiler");
    assert!(bytes < MOST_BYTES, "{bytes} bytes");

    let mut times: Vec<Duration> = (0..2000)
        .map(|nth| {
            // Of another template, as in a rollout.
            let (key, pod) = pod(LOCAL + nth * 37 % (PODS - LOCAL), 1);
            let start = Instant::now();
            compiler.apply(Change::Pod(key, Some(Arc::new(pod))));
            compiler.take_delta();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("a pod changed: p50 {:?}, p99 {:?}, most {:?}", times[1000], times[1980], times[1999]);

    let all = json!([{"from": [{"namespaceSelector": {}}]}]);
    let start = Instant::now();
    compiler.apply(told(0, "from-everybody", json!({"podSelector": {}, "ingress": all})));
    compiler.take_delta();
    println!("a policy that lets all pods in: {:?}", start.elapsed());
    grown("with that policy");
    let start = Instant::now();
    compiler.apply(namespace(7));
    compiler.apply(Change::Namespace("ns-8".into(), None));
    compiler.take_delta();
    println!("a namespace gone: {:?}", start.elapsed());
    assert_eq!(compiler.pods().count(), LOCAL);
}
