//! A cluster of the size that others have trouble with. Limits are generous: they are to catch work that grows with
//! everything there is, in a debug build. Time is what this thread was on a processor, whatever runs beside it.

use std::time::Duration;

use serde_json::json;

use super::*;

const POLICIES: usize = 12_000;
const PODS: usize = 3_500;
const LOCAL: usize = 250;
const NAMESPACES: usize = 100;
const APPS: usize = 10;

/// Whether it is selected by many or by few, a pod is of an app of a namespace.
fn pod(at: usize) -> (Key, Value, String) {
    let (namespace, app) = (at % NAMESPACES, at / NAMESPACES % APPS);
    let address = format!("10.{}.{}.{}", at % 14, at / 250, at % 250 + 1);
    let object = json!({
        "metadata": {"labels": {"app": app.to_string(), "tier": (at % 3).to_string(), "hash": at.to_string()}},
        "spec": {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
        "status": {"podIPs": [{"ip": address}, {"ip": format!("fd00::{at:x}")}]},
    });
    (Key::new(&format!("n{namespace}"), &format!("p{at}")), object, address)
}

fn spec(at: usize) -> Value {
    let app = |app: usize| json!({"matchLabels": {"app": (app % APPS).to_string()}});
    let other = json!({"matchLabels": {"kubernetes.io/metadata.name": format!("n{}", at / 7 % NAMESPACES)}});
    json!({
        "podSelector": app(at / NAMESPACES),
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"from": [{"podSelector": app(at / 11)}], "ports": [{"port": 80 + at % 50}]},
            {"from": [{"namespaceSelector": other, "podSelector": app(at / 3)}], "ports": [{"port": "web"}]},
        ],
        "egress": [{"to": [{"podSelector": app(at / 5)}, {"ipBlock": {"cidr": format!("198.{}.0.0/16", at % 200)}}]}],
    })
}

/// Linux, Documentation/scheduler/sched-stats.rst: the first number, in nanoseconds
fn now() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel tells it");
    let spent = told.split_whitespace().next().and_then(|text| text.parse().ok());
    Duration::from_nanos(spent.expect("a number"))
}

#[test]
fn twelve_thousand_policies_are_compiled_at_once_and_changed_one_by_one() {
    let mut compiler = Compiler::new(options(UnknownPods::Closed));
    let mut changes = Vec::new();
    for at in 0..PODS {
        let (key, object, address) = pod(at);
        if at < LOCAL {
            let endpoint =
                Endpoint { pod: Some(key.clone().into()), addresses: [address.parse().expect("one")].into() };
            changes.push(Change::Endpoint(format!("cam{at}").into(), Some(endpoint)));
        }
        let object = serde_json::from_value(object).expect("a pod");
        changes.push(Change::Pod(key, Some(Arc::new(Pod::read(&object)))));
    }
    changes.extend((0..POLICIES).map(|at| policy(&format!("n{}/q{at}", at % NAMESPACES), spec(at))));

    let start = now();
    changes.into_iter().for_each(|change| compiler.apply(change));
    let told = now() - start;
    let delta = compiler.take_delta();
    let cold = now() - start;
    println!(
        "told in {told:?}, cold in {cold:?}: {} sets, {} chains, {} members",
        delta.sets_made.len(),
        delta.chains_made.len(),
        delta.sets_made.iter().map(|(_, _, set)| set.members.len()).sum::<usize>(),
    );
    assert_eq!(delta.dispatch.len(), LOCAL);

    let mut slowest = Duration::ZERO;
    let mut sum = Duration::ZERO;
    const CHANGES: usize = 200;
    for at in 0..CHANGES {
        let (key, mut object, _) = pod(LOCAL + at * 13);
        object["metadata"]["labels"]["app"] = json!(((at + 1) % APPS).to_string());
        let object = serde_json::from_value(object).expect("a pod");
        let pod = Some(Arc::new(Pod::read(&object)));
        let change = match at % 2 {
            0 => Change::Pod(key, pod),
            _ => policy(&format!("n{}/q{at}", at % NAMESPACES), spec(at + 1)),
        };
        let start = now();
        compiler.apply(change);
        compiler.take_delta();
        let spent = now() - start;
        slowest = slowest.max(spent);
        sum += spent;
    }
    println!("a change: {:?}, at most {slowest:?}", sum / CHANGES as u32);
    assert!(cold < Duration::from_secs(60), "{cold:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
}
