//! Random edits: the differences lead where the compiler says it is, and where another compiler gets to that is told the
//! same objects in another order.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::*;
use crate::pod::Uid;

/// One change; numbers stand for one of few names, so that things meet.
#[derive(Debug, Clone)]
enum Edit {
    Namespace(u8, Option<u8>),
    Pod(u8, Option<PodEdit>),
    Policy(u8, Option<Value>),
    /// The uid, if told, is that of the pod so many edits before.
    Endpoint(u8, Option<(u8, Option<u8>)>),
    BgpPeers(u8),
    /// What came so far is in the kernel.
    Settle,
}

#[derive(Debug, Clone)]
struct PodEdit {
    labels: (Option<u8>, Option<u8>),
    addresses: Vec<u8>,
    ports: Vec<(u8, u16)>,
    life: u8,
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let pod = (
        (prop::option::of(0..3u8), prop::option::of(0..2u8)),
        prop::collection::vec(0..5u8, 0..3),
        prop::collection::vec((0..2u8, 80..82u16), 0..3),
        0..8u8,
    );
    let pod = pod.prop_map(|(labels, addresses, ports, life)| PodEdit { labels, addresses, ports, life });
    let edit = prop_oneof![
        2 => (0..3u8, prop::option::weighted(0.7, 0..3u8)).prop_map(|(name, label)| Edit::Namespace(name, label)),
        6 => (0..6u8, prop::option::weighted(0.8, pod)).prop_map(|(name, pod)| Edit::Pod(name, pod)),
        4 => (0..5u8, prop::option::weighted(0.8, policies())).prop_map(|(name, spec)| Edit::Policy(name, spec)),
        3 => (0..4u8, prop::option::weighted(0.8, (0..7u8, prop::option::of(0..6u8)))).prop_map(|(veth, pod)| Edit::Endpoint(veth, pod)),
        1 => (0..3u8).prop_map(Edit::BgpPeers),
        3 => Just(Edit::Settle),
    ];
    prop::collection::vec(edit, 1..60)
}

fn policies() -> impl Strategy<Value = Value> {
    let selector = || {
        select(vec![
            json!({}),
            json!({"matchLabels": {"a": "0"}}),
            json!({"matchLabels": {"a": "1", "b": "0"}}),
            json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["0", "2"]}]}),
            json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["0"]}]}),
            json!({"matchExpressions": [{"key": "b", "operator": "Exists"}]}),
            json!({"matchExpressions": [{"key": "b", "operator": "DoesNotExist"}]}),
            json!({"matchLabels": {"kubernetes.io/metadata.name": "n1"}}),
        ])
    };
    let block = select(vec![
        json!({"cidr": "10.0.0.0/8", "except": ["10.0.0.2/31"]}),
        json!({"cidr": "10.0.0.1/32"}),
        json!({"cidr": "0.0.0.0/0"}),
        json!({"cidr": "fd00::/64"}),
        json!({"cidr": "10.0.0.0/33"}),
    ]);
    let peer = prop_oneof![
        3 => selector().prop_map(|pods| json!({"podSelector": pods})),
        2 => selector().prop_map(|namespaces| json!({"namespaceSelector": namespaces})),
        2 => (selector(), selector()).prop_map(|(pods, namespaces)| json!({"podSelector": pods, "namespaceSelector": namespaces})),
        2 => block.prop_map(|block| json!({"ipBlock": block})),
    ];
    let port = select(vec![
        json!({"port": 80}),
        json!({"port": 79, "endPort": 90}),
        json!({"port": "p0"}),
        json!({"port": "p1"}),
        json!({"protocol": "UDP"}),
    ]);
    let rule = (prop::collection::vec(peer, 0..3), prop::collection::vec(port, 0..3));
    let rules = prop::collection::vec(rule, 0..3);
    let types = select(vec![json!([]), json!(["Ingress"]), json!(["Egress"]), json!(["Ingress", "Egress"])]);
    (selector(), rules.clone(), rules, types).prop_map(|(pods, ingress, egress, types)| {
        let ingress: Vec<Value> =
            ingress.into_iter().map(|(peers, ports)| json!({"from": peers, "ports": ports})).collect();
        let egress: Vec<Value> =
            egress.into_iter().map(|(peers, ports)| json!({"to": peers, "ports": ports})).collect();
        json!({"podSelector": pods, "ingress": ingress, "egress": egress, "policyTypes": types})
    })
}

fn pod_name(pod: u8) -> String {
    format!("n{}/p{pod}", pod % 3)
}

impl PodEdit {
    /// Each edit is another pod of the name, and no two are as old.
    fn object(&self, number: usize) -> Value {
        let labels = BTreeMap::from([("a", self.labels.0), ("b", self.labels.1)]);
        let labels: BTreeMap<&str, String> =
            labels.into_iter().filter_map(|(key, value)| Some((key, value?.to_string()))).collect();
        let ip = |address: &u8| match address % 2 {
            0 => json!({"ip": format!("10.0.0.{address}")}),
            _ => json!({"ip": format!("fd00::{address}")}),
        };
        let port = |(name, number): &(u8, u16)| json!({"name": format!("p{name}"), "containerPort": number});
        let ports: Vec<Value> = self.ports.iter().map(port).collect();
        let phase = if self.life == 0 { "Failed" } else { "Running" };
        json!({
            "metadata": {
                "uid": number.to_string(),
                "labels": labels,
                "creationTimestamp": format!("2026-01-01T00:{:02}:{:02}Z", number / 60, number % 60),
            },
            "spec": {"hostNetwork": self.life == 1, "containers": [{"name": "c", "ports": ports}]},
            "status": {"phase": phase, "podIPs": self.addresses.iter().map(ip).collect::<Vec<_>>()},
        })
    }
}

impl Edit {
    /// What it tells, and a name for what is told by it, which the last such change says alone.
    fn change(&self, number: usize) -> Option<(String, Change)> {
        let change = match self {
            Edit::Namespace(name, label) => {
                let labels = label.map(|label| json!({"metadata": {"labels": {"a": label.to_string()}}}));
                let object =
                    labels.map(|object| Arc::new(serde_json::from_value(object).expect("a namespace")));
                Change::Namespace(format!("n{name}").into(), object)
            }
            Edit::Pod(name, pod) => {
                let object =
                    pod.as_ref().map(|pod| serde_json::from_value(pod.object(number)).expect("a pod"));
                Change::Pod(key(&pod_name(*name)), object.map(|object| Arc::new(Pod::read(&object))))
            }
            Edit::Policy(name, spec) => match spec {
                Some(spec) => policy(&format!("n{}/q{name}", name % 3), spec.clone()),
                None => Change::Policy(key(&format!("n{}/q{name}", name % 3)), None),
            },
            Edit::Endpoint(veth, pod) => {
                let uid = |back: u8| Uid::new(&number.saturating_sub(back.into()).to_string());
                let endpoint = pod.map(|(pod, back)| Endpoint {
                    pod: (pod < 6).then(|| PodRef { key: key(&pod_name(pod)), uid: back.and_then(uid) }),
                    // One of them may be in a status too.
                    addresses: match veth % 2 {
                        0 => [format!("10.0.0.{veth}"), format!("fd00::1{veth}")],
                        _ => [format!("10.0.0.1{veth}"), format!("fd00::{veth}")],
                    }
                    .iter()
                    .map(|text| address(text))
                    .collect(),
                });
                Change::Endpoint(format!("cam{veth}").into(), endpoint)
            }
            Edit::BgpPeers(count) => {
                Change::BgpPeers((0..*count).map(|last| address(&format!("192.0.2.{last}"))).collect())
            }
            Edit::Settle => return None,
        };
        let name = match self {
            Edit::Namespace(name, _) => format!("namespace {name}"),
            Edit::Pod(name, _) => format!("pod {name}"),
            Edit::Policy(name, _) => format!("policy {name}"),
            Edit::Endpoint(name, _) => format!("endpoint {name}"),
            Edit::BgpPeers(_) => "peers".into(),
            Edit::Settle => return None,
        };
        Some((name, change))
    }
}

proptest! {
    #[test]
    fn differences_lead_to_the_program_that_the_last_objects_make_in_any_order(
        edits in edits(),
        unknown in select(vec![UnknownPods::Closed, UnknownPods::Unlabelled]),
        seed in any::<u64>(),
    ) {
        let mut node = Node::with(unknown);
        let mut last = BTreeMap::new();
        for (number, edit) in edits.iter().chain([&Edit::Settle]).enumerate() {
            match edit.change(number) {
                Some((name, change)) => {
                    node.compiler.apply(change.clone());
                    last.insert(name, change);
                }
                None => {
                    node.settle();
                    let mut other = Node::with(unknown);
                    let mut changes: Vec<&Change> = last.values().collect();
                    shuffle(&mut changes, seed);
                    changes.into_iter().for_each(|change| other.compiler.apply(change.clone()));
                    other.settle();
                    prop_assert_eq!(&node.program, &other.program);
                }
            }
        }
    }
}

fn shuffle<T>(things: &mut [T], mut seed: u64) {
    for at in (1..things.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        things.swap(at, (seed >> 33) as usize % (at + 1));
    }
}
