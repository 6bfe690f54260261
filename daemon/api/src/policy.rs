//! NetworkPolicy on this node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `show policy`: all policies, and what else was done with packets of pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct PolicyTable {
    /// Those of all namespaces, whether they select a pod of this node or not.
    pub policies: Vec<Policy>,
    /// Pods of this node, without their denials.
    #[serde(default)]
    pub pods: Vec<PolicyPod>,
    /// What was denied here, by direction and the policies that none of allowed it.
    #[serde(default)]
    pub denied: Vec<Denied>,
    /// What no policy decided, by the name of the rule: `established`, `itself`, `closed`, `spoofed`, `bgp-port`.
    #[serde(default)]
    pub others: BTreeMap<String, Count>,
}

/// What was counted on this node. Of what is let through, the packets before a reply: mostly one a connection, but each
/// of UDP that nobody answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Octets of them, IP headers included.
    pub bytes: u64,
}

/// One NetworkPolicy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Policy {
    /// `namespace/name`
    pub name: String,
    /// Present if it isolates pods from what they are sent: what it let through.
    #[serde(default)]
    pub ingress: Option<Count>,
    /// Present if it isolates pods from what they would send: what it let through.
    #[serde(default)]
    pub egress: Option<Count>,
    /// Pods of this node that it selects, as `namespace/name`.
    #[serde(default)]
    pub selects: Vec<String>,
    /// Why it allows nothing; empty if it is in force as it is written.
    #[serde(default)]
    pub faults: Vec<String>,
}

/// What was denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Denied {
    /// `ingress` or `egress`, seen from the pod.
    pub direction: String,
    /// The policies that isolate it.
    pub policies: Vec<String>,
    /// How much.
    pub count: Count,
}

/// `show policy POD`: an interface of a pod on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct PolicyPod {
    /// `namespace/name`; absent: no pod of Kubernetes, which no policy selects.
    #[serde(default)]
    pub pod: Option<String>,
    /// The host end of its link.
    pub interface: String,
    /// Its addresses.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// What it is sent.
    pub ingress: PolicyDirection,
    /// What it sends.
    pub egress: PolicyDirection,
    /// What was denied to it lately, the latest first.
    #[serde(default)]
    pub denials: Vec<Denial>,
}

/// One direction of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct PolicyDirection {
    /// `open`: no policy isolates it; `isolated`: only what its policies allow; `closed`: nothing, for not all is known
    /// that decides.
    pub state: String,
    /// Why it is closed or open, in words.
    #[serde(default)]
    pub why: Option<String>,
    /// The policies that isolate it.
    #[serde(default)]
    pub policies: Vec<String>,
    /// What was denied, to all pods of this node that have the same rules.
    #[serde(default)]
    pub denied: Count,
}

/// A packet that was denied. The kernel tells of a few a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Denial {
    /// Seconds ago.
    pub ago_s: u64,
    /// `ingress` if it was sent to the pod, `egress` if the pod sent it.
    pub direction: String,
    /// The address at the other end.
    pub peer_address: String,
    /// The pod there, if it is known.
    #[serde(default)]
    pub peer: Option<String>,
    /// `TCP`, `UDP`, `SCTP`, `ICMP` or a number.
    pub protocol: String,
    /// Of the destination; absent where there is none.
    #[serde(default)]
    pub port: Option<u16>,
    /// The policies that isolate the pod in this direction, none of which allows it.
    #[serde(default)]
    pub policies: Vec<String>,
}

/// What was placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Placed {
    /// The host end of the pod's link.
    pub interface: String,
}

/// NetworkPolicy in `show status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct PolicyStatus {
    /// Whether it was asked for.
    pub on: bool,
    /// Whether it is in the kernel: the `ready` mark stands.
    #[serde(default)]
    pub written: bool,
    /// What it still waits for, in words; empty when written.
    #[serde(default)]
    pub waiting_for: Vec<String>,
    /// NetworkPolicies of the cluster.
    #[serde(default)]
    pub policies: usize,
    /// Interfaces of pods on this node.
    #[serde(default)]
    pub pods: usize,
    /// Of these, those that are closed since not all is known that decides.
    #[serde(default)]
    pub closed: usize,
    /// Sets in the kernel.
    #[serde(default)]
    pub sets: usize,
    /// Members of all sets.
    #[serde(default)]
    pub members: usize,
    /// Chains of policies in the kernel.
    #[serde(default)]
    pub chains: usize,
    /// Packets denied that the kernel told of; it does not tell of all.
    #[serde(default)]
    pub denials: u64,
    /// Microseconds from the last change to the kernel's answer.
    #[serde(default)]
    pub last_change_us: Option<u64>,
    /// What others did to our tables and sets, and was repaired, by the name of the cause.
    #[serde(default)]
    pub repairs: BTreeMap<String, Repairs>,
}

/// Repairs of one cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Repairs {
    /// Since the daemon started.
    pub count: u64,
    /// Seconds since the last.
    pub ago_s: u64,
    /// Microseconds that it took.
    pub took_us: u64,
}
