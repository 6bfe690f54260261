//! What changes: one thing a turn, and never what the kinds of flows are allowed.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::rig::random;
use crate::small::{OUTSIDE, policy};
use crate::support::changes::Order;
use crate::support::cluster::Cluster;
use crate::{scene, small};

/// Pods that come and go, and are wired nowhere.
const CROWD: u64 = 24;
/// Policies that come and go.
const UNRELATED: u64 = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A policy says the same in other words.
    Reworded,
    /// A pod of the crowd comes or goes: members of sets, endpoints of both nodes.
    Crowd,
    /// A pod that changes sides: its own egress narrows and the ingress of another widens at once, and back.
    Moved,
    /// A namespace's labels: its pods go from one peer set to another, and both are let in.
    Namespace,
    /// A pod's labels: the same.
    Label,
    /// A policy that says nothing about the flows comes or goes, or one that allows more.
    Unrelated,
}

impl Kind {
    pub const ALL: [Kind; 6] =
        [Kind::Reworded, Kind::Crowd, Kind::Moved, Kind::Namespace, Kind::Label, Kind::Unrelated];
}

/// One state after the other.
#[derive(Debug)]
pub struct Turns {
    pub seed: u64,
    state: u64,
    wording: u64,
    crowd: BTreeSet<u64>,
    is_moved: bool,
    is_late_stage: bool,
    is_canary: bool,
    unrelated: BTreeSet<u64>,
}

impl Turns {
    pub fn new(seed: u64) -> Turns {
        Turns {
            seed,
            state: seed,
            wording: 0,
            crowd: BTreeSet::new(),
            is_moved: false,
            is_late_stage: false,
            is_canary: false,
            unrelated: BTreeSet::new(),
        }
    }

    /// The state before all turns.
    pub fn first(&self) -> Cluster {
        self.cluster()
    }

    /// Any order is right.
    pub fn order(&mut self) -> Order {
        Order::Shuffled(random(&mut self.state))
    }

    /// Changes one thing.
    pub fn next(&mut self) -> (Kind, Cluster) {
        let kind = Kind::ALL[(random(&mut self.state) % Kind::ALL.len() as u64) as usize];
        let number = random(&mut self.state);
        match kind {
            Kind::Reworded => self.wording = (self.wording + 1 + number % 3) % 4,
            Kind::Crowd => toggle(&mut self.crowd, number % CROWD),
            Kind::Moved => self.is_moved = !self.is_moved,
            Kind::Namespace => self.is_late_stage = !self.is_late_stage,
            Kind::Label => self.is_canary = !self.is_canary,
            Kind::Unrelated => toggle(&mut self.unrelated, number % UNRELATED),
        }
        (kind, self.cluster())
    }

    fn cluster(&self) -> Cluster {
        let mut pods = scene::pods();
        for pod in &mut pods {
            match pod["name"].as_str() {
                Some("mover") => pod["labels"]["side"] = json!(if self.is_moved { "b" } else { "a" }),
                Some("good") => {
                    pod["labels"]["track"] = json!(if self.is_canary { "canary" } else { "stable" })
                }
                _ => {}
            }
        }
        pods.extend(self.crowd.iter().map(|nth| crowd_pod(*nth)));
        let mut policies = scene::policies();
        policies.push(self.web_policy());
        policies.extend(mover_policies());
        policies.extend(self.unrelated.iter().map(|nth| unrelated_policy(*nth)));
        let mut cluster = small::cluster(&pods, &policies);
        let far = cluster.namespaces.get_mut("kube-system").expect("a namespace of the scene");
        let labels = far.metadata.labels.get_or_insert_default();
        labels.insert("stage".to_owned(), if self.is_late_stage { "2" } else { "1" }.to_owned());
        cluster
    }

    /// Lets the good ones in by one label or the other, those of the other namespace by its stage, and a block outside.
    /// In four wordings.
    fn web_policy(&self) -> Value {
        let good =
            |track: &str| json!({ "podSelector": { "matchLabels": { "app": "good", "track": track } } });
        let stage = |stage: &str| {
            json!({
                "namespaceSelector": { "matchLabels": { "stage": stage } },
                "podSelector": { "matchLabels": { "app": "good" } },
            })
        };
        let blocks = [format!("{}/32", OUTSIDE[0]), format!("{}/128", OUTSIDE[1])]
            .map(|cidr| json!({ "ipBlock": { "cidr": cidr } }));
        let web = json!({ "protocol": "TCP", "port": 80 });
        let dns = json!({ "protocol": "UDP", "port": 53 });
        let mut peers = vec![good("canary"), good("stable"), stage("1"), stage("2")];
        peers.extend(blocks);
        let ingress = match self.wording {
            0 => json!([{ "from": peers, "ports": [web, dns] }]),
            // A rule for each peer.
            1 => peers.iter().map(|peer| json!({ "from": [peer], "ports": [web, dns] })).collect(),
            // A rule for each port, as a range and as a protocol without a number beside others.
            2 => json!([
                { "from": peers, "ports": [{ "protocol": "TCP", "port": 80, "endPort": 80 }] },
                { "from": peers, "ports": [dns, { "protocol": "UDP", "port": 60, "endPort": 70 }] },
            ]),
            // Expressions for labels, in another order.
            _ => {
                let either = json!({ "podSelector": {
                    "matchLabels": { "app": "good" },
                    "matchExpressions": [{ "key": "track", "operator": "In", "values": ["stable", "canary"] }],
                } });
                let stages = json!({
                    "namespaceSelector": { "matchExpressions": [{ "key": "stage", "operator": "Exists" }] },
                    "podSelector": { "matchLabels": { "app": "good" } },
                });
                let peers = [vec![stages, either], peers[4..].to_vec()].concat();
                json!([{ "ports": [dns, web], "from": peers }])
            }
        };
        policy(
            "web",
            json!({ "podSelector": { "matchLabels": { "app": "web" } }, "policyTypes": ["Ingress"], "ingress": ingress }),
        )
    }
}

/// The victim lets in who is on side `b`, but who is on side `b` may not send to it.
fn mover_policies() -> [Value; 3] {
    let side = |side: &str| json!({ "matchLabels": { "app": "mover", "side": side } });
    let to_victim = json!([{ "to": [{ "podSelector": { "matchLabels": { "app": "victim" } } }] }]);
    let to_others = json!([{ "to": [{ "podSelector": { "matchLabels": { "app": "nobody" } } }] }]);
    let from_b = json!([{ "from": [{ "podSelector": side("b") }] }]);
    [
        policy("side-a", json!({ "podSelector": side("a"), "policyTypes": ["Egress"], "egress": to_victim })),
        policy("side-b", json!({ "podSelector": side("b"), "policyTypes": ["Egress"], "egress": to_others })),
        policy(
            "victim",
            json!({ "podSelector": { "matchLabels": { "app": "victim" } }, "policyTypes": ["Ingress"], "ingress": from_b }),
        ),
    ]
}

fn crowd_pod(nth: u64) -> Value {
    let app = ["good", "bad", "web", "nobody"][(nth % 4) as usize];
    let node = ["node1", "node2"][(nth / 4 % 2) as usize];
    json!({
        "namespace": "default", "name": format!("crowd{nth}"), "node": node, "phase": "Running",
        "labels": { "app": app, "track": "stable", "crowd": "yes" },
        "ips": [format!("10.244.1.{}", nth + 1), format!("fd00::1:{:x}", nth + 1)],
        "ports": [{ "name": "web", "containerPort": 8000 + nth, "protocol": "TCP" }],
    })
}

/// Of nobody, of the crowd, of those who are isolated already, or more for `web`.
fn unrelated_policy(nth: u64) -> Value {
    let (selector, peer) = match nth % 4 {
        0 => (json!({ "matchLabels": { "app": format!("app{nth}") } }), json!({ "podSelector": {} })),
        1 => (
            json!({ "matchLabels": { "crowd": "yes" } }),
            json!({ "podSelector": { "matchLabels": { "app": "good" } } }),
        ),
        2 => (json!({ "matchLabels": { "app": "web" } }), json!({ "namespaceSelector": {} })),
        _ => (json!({}), json!({ "ipBlock": { "cidr": "198.51.100.0/24" } })),
    };
    let ports = json!([{ "protocol": "TCP", "port": 9000 + nth }, { "protocol": "TCP", "port": "web" }]);
    let rules = if nth % 4 == 2 {
        json!([{ "from": [peer], "ports": [ports[0]] }])
    } else {
        json!([{ "from": [peer], "ports": ports }])
    };
    policy(
        &format!("unrelated{nth}"),
        json!({ "podSelector": selector, "policyTypes": ["Ingress"], "ingress": rules }),
    )
}

fn toggle(set: &mut BTreeSet<u64>, number: u64) {
    if !set.remove(&number) {
        set.insert(number);
    }
}
