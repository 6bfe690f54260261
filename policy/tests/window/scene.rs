//! The pods, what is always allowed between them, and what never is.

use std::net::IpAddr;

use cambric_policy::change::Key;
use serde_json::{Value, json};

use crate::rig::{At, Probe, Protocol};
use crate::small::{FAMILIES, NODE2, OUTSIDE, addresses, allow, deny_all, ip, pod, policy};
use crate::support::cluster::Cluster;
use crate::support::evaluator::End;

/// Who sends to whom, on which port of which protocols, and whether it is allowed.
pub(crate) struct Kind {
    pub(crate) name: String,
    pub(crate) probe: Probe,
    pub(crate) is_allowed: bool,
}

/// Pods that are wired, by name: their number and their node. `web`, `friend` and `victim` are sent to.
const PODS: [(&str, u8, &str); 14] = [
    ("web", 1, "node1"),
    ("good", 2, "node1"),
    ("bad", 3, "node1"),
    ("mover", 4, "node1"),
    ("victim", 5, "node1"),
    ("friend", 6, "node1"),
    ("good-far", 7, "node2"),
    ("bad-far", 8, "node2"),
    ("named", 9, "node2"),
    ("hub", 10, "node1"),
    ("early-far", 11, "node1"),
    ("late-far", 12, "node1"),
    ("exit", 13, "node1"),
    ("entry", 14, "node1"),
];

pub(crate) fn pods() -> Vec<Value> {
    PODS.iter()
        .map(|(name, nth, node)| {
            let mut pod = pod(name, *nth, node);
            let app = name.trim_end_matches("-far");
            pod["labels"] = json!({ "app": app });
            if name.ends_with("-far") {
                pod["namespace"] = json!("kube-system");
            }
            pod
        })
        .collect()
}

/// Policies that stay. Those that [`super::turns`] rewords are there.
pub(crate) fn policies() -> Vec<Value> {
    let mut policies = vec![deny_all()];
    policies.extend(allow("mover", "friend", "TCP", 80));
    // What the others send is limited by whom they send to.
    for name in ["good", "bad"] {
        policies.push(policy(
            &format!("{name}-out"),
            json!({ "podSelector": { "matchLabels": { "app": name } }, "policyTypes": ["Egress"], "egress": [{}] }),
        ));
    }
    policies.extend(mover_policies());
    policies.extend(stage_policies());
    policies.push(policy(
        "web-from-named",
        json!({
            "podSelector": { "matchLabels": { "app": "web" } }, "policyTypes": ["Ingress"],
            "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "app": "named" } } }] }],
        }),
    ));
    policies
}

/// Who is early may send to its namespace in stage 1, and who is late lets it in from stage 2.
fn stage_policies() -> [Value; 2] {
    let stage = |stage: &str| json!([{ "namespaceSelector": { "matchLabels": { "stage": stage } } }]);
    let mut policies = [
        policy(
            "early",
            json!({
                "podSelector": { "matchLabels": { "app": "early" } }, "policyTypes": ["Egress"],
                "egress": [{ "to": stage("1") }],
            }),
        ),
        policy(
            "late",
            json!({
                "podSelector": { "matchLabels": { "app": "late" } }, "policyTypes": ["Ingress"],
                "ingress": [{ "from": stage("2") }],
            }),
        ),
    ];
    for policy in &mut policies {
        policy["metadata"]["namespace"] = json!("kube-system");
    }
    policies
}

/// The victim lets in who is on side `b`, but who is on side `b` may not send to it. On both sides the hub is let in.
fn mover_policies() -> [Value; 4] {
    let side = |side: &str| json!({ "matchLabels": { "app": "mover", "side": side } });
    let app = |app: &str| json!([{ "podSelector": { "matchLabels": { "app": app } } }]);
    let both = ["Ingress", "Egress"];
    [
        policy(
            "side-a",
            json!({
                "podSelector": side("a"), "policyTypes": both,
                "egress": [{ "to": app("victim") }],
                "ingress": [{ "from": app("hub"), "ports": [{ "port": 80, "endPort": 80 }] }],
            }),
        ),
        policy(
            "side-b",
            json!({
                "podSelector": side("b"), "policyTypes": both,
                "egress": [{ "to": app("nobody") }],
                "ingress": [{ "from": app("hub"), "ports": [{ "port": 80 }] }, { "from": app("good") }],
            }),
        ),
        policy(
            "victim",
            json!({
                "podSelector": { "matchLabels": { "app": "victim" } }, "policyTypes": ["Ingress"],
                "ingress": [{ "from": [{ "podSelector": side("b") }] }],
            }),
        ),
        policy(
            "hub",
            json!({
                "podSelector": { "matchLabels": { "app": "hub" } }, "policyTypes": ["Egress"],
                "egress": [
                    { "to": [{ "podSelector": side("a") }, { "podSelector": side("b") }] },
                    { "to": app("entry") },
                ],
            }),
        ),
    ]
}

/// All kinds, in both families.
pub(crate) fn kinds() -> Vec<Kind> {
    let (tcp, udp, sctp) = (Protocol::Tcp, Protocol::Udp, Protocol::Sctp);
    let table = [
        // Allowed, by selectors of pods, of namespaces, and by blocks.
        ("good", "web", tcp, 80, true),
        ("good", "web", udp, 53, true),
        ("good-far", "web", tcp, 80, true),
        ("outside", "web", tcp, 80, true),
        ("mover", "friend", tcp, 80, true),
        ("node1", "web", udp, 99, true),
        // By the ingress of a pod that changes sides, and by one peer or the other of its own egress.
        ("hub", "mover", tcp, 80, true),
        ("hub", "entry", tcp, 80, true),
        // By a port's name or number in its own egress.
        ("named", "web", tcp, 8080, true),
        // Never.
        ("bad", "web", tcp, 80, false),
        ("bad-far", "web", tcp, 80, false),
        ("good", "web", tcp, 81, false),
        ("good", "web", sctp, 80, false),
        ("node2", "web", tcp, 80, false),
        ("outside", "victim", tcp, 80, false),
        ("hub", "mover", tcp, 81, false),
        // By the egress of one now, by the ingress of the other then, as their namespace's label says.
        ("early-far", "late-far", tcp, 80, false),
        // By the egress of one now, by the ingress of the other then, as one policy of both says.
        ("exit", "entry", tcp, 80, false),
        ("named", "web", tcp, 80, false),
        // By its own egress now, by the ingress of its victim then.
        ("mover", "victim", tcp, 80, false),
        ("mover", "victim", udp, 53, false),
    ];
    let mut kinds = Vec::new();
    for (from, to, protocol, port, is_allowed) in table {
        for family in FAMILIES {
            let ((from_place, source), (to_place, destination)) = (place(from, family), place(to, family));
            let name = format!("{from} -> {to} {protocol:?} {port} {}", ["IPv4", "IPv6"][family]);
            let probe = Probe { from: from_place, source, to: to_place, destination, protocol, port };
            kinds.push(Kind { name, probe, is_allowed });
        }
    }
    kinds
}

fn place(name: &str, family: usize) -> (At, IpAddr) {
    match name {
        "outside" => (At::Outside, ip(OUTSIDE[family])),
        "node1" => (At::Node(name.to_owned()), ip(crate::small::NODE1[family])),
        "node2" => (At::Node(name.to_owned()), ip(NODE2[family])),
        _ => {
            let (_, nth, _) = PODS.iter().find(|(pod, ..)| *pod == name).expect("a pod of the scene");
            let namespace = if name.ends_with("-far") { "kube-system" } else { "default" };
            (At::Pod(Key::new(namespace, name)), addresses(*nth)[family])
        }
    }
}

/// What a place is in a state.
pub(crate) fn end<'a>(state: &'a Cluster, at: &'a At) -> End<'a> {
    match at {
        At::Pod(key) => End::Pod(&state.pods[&(key.namespace.to_string(), key.name.to_string())]),
        At::Node(name) => End::Node(name),
        At::Outside => End::Outside,
    }
}
