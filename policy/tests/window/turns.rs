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
/// Rules between two that matter, in long policies: a packet is on its way through them for tens of microseconds.
const BETWEEN: usize = 400;
/// Policies that come and go.
const UNRELATED: u64 = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
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
    /// A policy of two pods: the egress of one narrows and the ingress of the other widens at once, and back.
    Swapped,
    /// A policy that says nothing about the flows comes or goes, or one that allows more.
    Unrelated,
}

impl Kind {
    pub(crate) const ALL: [Kind; 7] = [
        Kind::Reworded,
        Kind::Crowd,
        Kind::Moved,
        Kind::Namespace,
        Kind::Label,
        Kind::Swapped,
        Kind::Unrelated,
    ];
}

/// One state after the other.
#[derive(Debug)]
pub(crate) struct Turns {
    pub(crate) seed: u64,
    made: usize,
    chance: u64,
    /// Of what is turned.
    kinds: &'static [Kind],
    is_long: bool,
    wording: u64,
    crowd: BTreeSet<u64>,
    is_moved: bool,
    is_late_stage: bool,
    is_canary: bool,
    is_swapped: bool,
    unrelated: BTreeSet<u64>,
    state: Cluster,
}

impl Turns {
    pub(crate) fn new(seed: u64) -> Turns {
        Turns::of(seed, &Kind::ALL, false)
    }

    /// Of long policies, with all that may go wrong while a packet is in them.
    pub(crate) fn long(seed: u64) -> Turns {
        Turns::of(seed, &[Kind::Moved, Kind::Namespace, Kind::Label, Kind::Swapped], true)
    }

    fn of(seed: u64, kinds: &'static [Kind], is_long: bool) -> Turns {
        let mut turns = Turns {
            seed,
            made: 0,
            kinds,
            is_long,
            chance: seed,
            wording: 0,
            crowd: BTreeSet::new(),
            is_moved: false,
            is_late_stage: false,
            is_canary: false,
            is_swapped: false,
            unrelated: BTreeSet::new(),
            state: small::cluster(&scene::pods(), &scene::policies()),
        };
        for kind in Kind::ALL {
            turns.put(kind, 0);
        }
        if is_long {
            let name = ("default".to_owned(), "side-a".to_owned());
            let mut side_a = turns.state.policies[&name].told.clone();
            let last = side_a["spec"]["egress"].take();
            let rules = fillers("to").chain(last.as_array().cloned().unwrap_or_default());
            side_a["spec"]["egress"] = rules.collect();
            turns.state.policies.extend(small::cluster(&[], &[side_a]).policies);
        }
        turns
    }

    /// The state it is at.
    pub(crate) fn state(&self) -> &Cluster {
        &self.state
    }

    /// What is turned.
    pub(crate) fn kinds(&self) -> &[Kind] {
        self.kinds
    }

    /// Any order is right.
    pub(crate) fn order(&mut self) -> Order {
        Order::Shuffled(random(&mut self.chance))
    }

    /// How many follow each other without waiting for the kernel: mostly one, sometimes more than are written one by one.
    pub(crate) fn burst(&mut self) -> u64 {
        let number = random(&mut self.chance);
        if number.is_multiple_of(8) { 2 + (number >> 8) % 40 } else { 1 }
    }

    /// Changes one thing.
    pub(crate) fn turn(&mut self) -> Kind {
        // Each once, then by chance.
        let by_chance = (random(&mut self.chance) % self.kinds.len() as u64) as usize;
        let kind = self.kinds.get(self.made).copied().unwrap_or(self.kinds[by_chance]);
        self.made += 1;
        let number = random(&mut self.chance);
        match kind {
            Kind::Reworded => self.wording = (self.wording + 1 + number % 3) % 4,
            Kind::Crowd => toggle(&mut self.crowd, number % CROWD),
            Kind::Moved => self.is_moved = !self.is_moved,
            Kind::Namespace => self.is_late_stage = !self.is_late_stage,
            Kind::Label => self.is_canary = !self.is_canary,
            Kind::Swapped => self.is_swapped = !self.is_swapped,
            Kind::Unrelated => toggle(&mut self.unrelated, number % UNRELATED),
        }
        self.put(kind, number);
        kind
    }

    /// Puts into the state what is meant.
    fn put(&mut self, kind: Kind, number: u64) {
        match kind {
            Kind::Reworded => {
                let policies = [self.web_policy(), self.named_policy()];
                self.state.policies.extend(small::cluster(&[], &policies).policies);
            }
            Kind::Crowd => {
                let nth = number % CROWD;
                let pod = small::cluster(&[crowd_pod(nth)], &[]).pods;
                match self.crowd.contains(&nth) {
                    true => self.state.pods.extend(pod),
                    false => self.state.pods.retain(|name, _| !pod.contains_key(name)),
                }
            }
            Kind::Moved => self.label("mover", "side", if self.is_moved { "b" } else { "a" }),
            Kind::Label => self.label("good", "track", if self.is_canary { "canary" } else { "stable" }),
            Kind::Namespace => {
                let far = self.state.namespaces.get_mut("kube-system").expect("a namespace of the scene");
                let stage = if self.is_late_stage { "2" } else { "1" };
                far.metadata.labels.get_or_insert_default().insert("stage".to_owned(), stage.to_owned());
            }
            Kind::Swapped => {
                self.state.policies.extend(small::cluster(&[], &[swap_policy(self.is_swapped)]).policies);
            }
            Kind::Unrelated => {
                let nth = number % UNRELATED;
                let policy = small::cluster(&[], &[unrelated_policy(nth)]).policies;
                match self.unrelated.contains(&nth) {
                    true => self.state.policies.extend(policy),
                    false => self.state.policies.retain(|name, _| !policy.contains_key(name)),
                }
            }
        }
    }

    fn label(&mut self, pod: &str, key: &str, value: &str) {
        let pod =
            self.state.pods.get_mut(&("default".to_owned(), pod.to_owned())).expect("a pod of the scene");
        pod.metadata.labels.get_or_insert_default().insert(key.to_owned(), value.to_owned());
    }

    /// Lets out to the port of `web` that is called so, or has this number. The crowd calls others so.
    fn named_policy(&self) -> Value {
        let port = if self.wording.is_multiple_of(2) { json!("web") } else { json!(8080) };
        let spec = json!({
            "podSelector": { "matchLabels": { "app": "named" } }, "policyTypes": ["Egress"],
            "egress": [{
                "to": [{ "podSelector": { "matchLabels": { "app": "web" } } }],
                "ports": [{ "protocol": "TCP", "port": port }],
            }],
        });
        policy("named", spec)
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
            // Those that pods go to first, then those they come from, or the other way round.
            _ if self.is_long => {
                let rule = |peer: &Value| json!({ "from": [peer], "ports": [web, dns] });
                let order = [&peers[3], &peers[0], &peers[4], &peers[5]];
                let [first, last] = [&order[..], &[&peers[1], &peers[2]]];
                let rules = first.iter().map(|peer| rule(peer)).chain(fillers("from"));
                rules.chain(last.iter().map(|peer| rule(peer))).collect()
            }
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

/// The one may send to the other, who does not let it in; or the other way round. The hub is let in always.
fn swap_policy(is_swapped: bool) -> Value {
    let app = |app: &str| json!([{ "podSelector": { "matchLabels": { "app": app } } }]);
    let (egress, ingress) = match is_swapped {
        false => (json!([{ "to": app("entry") }]), json!([{ "from": app("hub") }])),
        true => (json!([]), json!([{ "from": app("exit") }, { "from": app("hub") }])),
    };
    let selector =
        json!({ "matchExpressions": [{ "key": "app", "operator": "In", "values": ["exit", "entry"] }] });
    policy(
        "swap",
        json!({
            "podSelector": selector, "policyTypes": ["Ingress", "Egress"], "egress": egress, "ingress": ingress,
        }),
    )
}

/// Rules for peers that there are not.
fn fillers(way: &'static str) -> impl Iterator<Item = Value> {
    (0..BETWEEN).map(move |nth| {
        json!({
            way: [{ "podSelector": { "matchLabels": { "filler": nth.to_string() } } }],
            "ports": [{ "protocol": "TCP", "port": 80 }, { "protocol": "UDP", "port": 53 }],
        })
    })
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
