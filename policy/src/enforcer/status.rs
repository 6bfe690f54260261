//! What the enforcer says of itself: the status that anyone may watch, and the report that is made when it is asked for.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use crate::change::{Key, PodRef};
use crate::compile::{PodReport, PolicyReport};
use crate::program::{ChainName, IfName};

/// How it goes. Counts are at most 100 ms old.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Tables and sets stand: they hold the first complete view, or a later one.
    pub written: bool,
    /// What is wrong now, for people: policies that fail closed, sets that are full, somebody who fights. Empty: all is as wanted.
    pub problems: Vec<String>,
    /// What others changed of ours and we put right.
    pub repairs: BTreeMap<Cause, Repairs>,
    /// How much there is.
    pub counts: Counts,
    /// Changes that altered the kernel since the start.
    pub changes: u64,
    /// The last of them, from the command to the last answer of the kernel.
    pub last_change: Option<Duration>,
    /// How long they took.
    pub applied: Applied,
    /// Endpoints that are closed, and what they wait for.
    pub waiting: BTreeMap<IfName, Waiting>,
    /// Denied packets that the kernel told of (it tells a few of each chain a second).
    pub denials: DenialCounts,
}

/// How long changes took, from the command to the last answer of the kernel: how many of them by upper bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Those that took no longer than the bound of the same place, and longer than the one before; the last: those
    /// that took longer than all.
    pub counts: [u64; Applied::BOUNDS.len() + 1],
    /// All of them together.
    pub sum: Duration,
}

impl Applied {
    /// From a change of one member to a whole view of a large cluster.
    pub const BOUNDS: [Duration; 10] = [
        Duration::from_micros(250),
        Duration::from_micros(500),
        Duration::from_millis(1),
        Duration::from_micros(2500),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(25),
        Duration::from_millis(100),
        Duration::from_millis(500),
        Duration::from_millis(2500),
    ];

    /// One more.
    pub(crate) fn add(&mut self, took: Duration) {
        let at = Self::BOUNDS.iter().position(|bound| took <= *bound).unwrap_or(Self::BOUNDS.len());
        self.counts[at] += 1;
        self.sum += took;
    }
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// All that were told.
    pub policies: usize,
    /// Those that the kernel refused and that fail closed therefore.
    pub refused_policies: usize,
    /// Endpoints of this node.
    pub endpoints: usize,
    /// Those that are judged by chains; the others are closed.
    pub placed: usize,
    /// Both families.
    pub sets: usize,
    /// In all sets of both families.
    pub members: usize,
    /// Class chains, both families.
    pub chains: usize,
    /// Chains and sets that nobody uses any more and that go at leisure.
    pub lingering: usize,
}

/// What an endpoint waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// The first complete view of the cluster.
    FirstView,
    /// Its Pod object.
    PodObject(Key),
    /// Its Pod object, while the one of its name is of another pod.
    OwnPodObject(PodRef),
    /// The kernel, which did not take the last change yet.
    Kernel,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Waiting::FirstView => write!(f, "the cluster is not fully known yet"),
            Waiting::PodObject(pod) => write!(f, "no Pod object {pod} yet"),
            Waiting::OwnPodObject(PodRef { key, uid }) => {
                let uid = uid.as_ref().map(|uid| format!(" of uid {uid}")).unwrap_or_default();
                write!(f, "no Pod object {key}{uid} yet: the one there is is of another pod of that name")
            }
            Waiting::Kernel => write!(f, "the kernel did not take the last change yet"),
        }
    }
}

/// What somebody else did to what is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// A table was missing (`nft flush ruleset`, `nft delete table`).
    Table,
    /// A chain was missing, strange, or hooked elsewhere.
    Chain,
    /// Rules of a chain were not ours.
    Rule,
    /// Elements of a map, or the whole of it, were missing or led elsewhere.
    Map,
    /// A set was missing.
    Set,
    /// Members of a set were missing or too many.
    Members,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::Table => "table",
            Cause::Chain => "chain",
            Cause::Rule => "rule",
            Cause::Map => "map",
            Cause::Set => "set",
            Cause::Members => "members",
        })
    }
}

/// Repairs of one cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repairs {
    /// Since the start.
    pub count: u64,
    /// When the last was done.
    pub last: SystemTime,
    /// How long it took, from when it was seen.
    pub took: Duration,
}

/// Denied packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DenialCounts {
    /// The kernel told of.
    pub seen: u64,
    /// Of these, not logged, for there were too many a second.
    pub suppressed: u64,
    /// Times that the kernel had more to tell than was read: what was lost is not in `seen`.
    pub lost: u64,
}

/// What a report is to be about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// One pod, and the policies that isolate it.
    Pod(Key),
    /// The pod behind one veth, and the policies that isolate it.
    Interface(IfName),
    /// One policy, and the pods it isolates.
    Policy(Key),
}

/// For `show policy`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// By namespace and name.
    pub policies: Vec<PolicyState>,
    /// By veth.
    pub pods: Vec<PodState>,
    /// Rules of the frame, by tag: `spoofed`, `bgp-port`, `established`, `itself`, `closed`.
    pub frame: BTreeMap<String, Count>,
    /// What was denied by the chains of each list of policies, chains that are gone included.
    pub denied: Vec<Denied>,
}

/// What a counter has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes of them, IP headers included.
    pub bytes: u64,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Count) {
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// Which way, seen from the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Sent to the pod.
    Ingress,
    /// Sent by the pod.
    Egress,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        })
    }
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyState {
    /// As the compiler knows it.
    pub policy: PolicyReport,
    /// New flows (packets without an entry in conntrack) it let through to the pods it selects, on this node.
    pub ingress: Count,
    /// The same, from them.
    pub egress: Count,
}

/// A pod of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodState {
    /// As the compiler knows it.
    pub pod: PodReport,
    /// What its chains denied: of all pods of its class, for they share the chains.
    pub denied_ingress: Count,
    /// The same, of what they sent.
    pub denied_egress: Count,
    /// What it waits for; `None`: it is placed, as was told last.
    pub waiting: Option<Waiting>,
    /// Chains judge it in the kernel; those of the change before, while it waits. Else it is closed.
    pub is_judged: bool,
    /// Recent ones, the oldest first.
    pub denials: VecDeque<Denial>,
}

/// What was denied under one list of policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Which way.
    pub direction: Direction,
    /// In order.
    pub policies: Vec<Key>,
    /// How much.
    pub count: Count,
}

/// A denied packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// When the enforcer heard of it.
    pub at: SystemTime,
    /// Which way.
    pub direction: Direction,
    /// The pod's veth.
    pub interface: IfName,
    /// The pod; `None`: no pod of Kubernetes, or not known any more.
    pub pod: Option<Key>,
    /// The address at the other end.
    pub peer_address: IpAddr,
    /// The pod that has this address, as far as known.
    pub peer: Option<Key>,
    /// IANA protocol number.
    pub protocol: u8,
    /// Destination port, for protocols that have ports.
    pub port: Option<u16>,
    /// The policies that isolate the pod, none of which allows it. Empty: the veth was closed.
    pub policies: Vec<Key>,
    /// The chain that denied it; `closed`: the veth was in no chain.
    pub chain: ChainName,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_below_the_first_bound_that_it_keeps() {
        let mut applied = Applied::default();
        for micros in [1, 250, 251, 2_500_000, 2_500_001] {
            applied.add(Duration::from_micros(micros));
        }
        assert_eq!(applied.counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(applied.sum, Duration::from_micros(5_000_503));
    }
}
