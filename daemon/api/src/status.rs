//! The daemon as a whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Draining, PolicyStatus};

/// `show status`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Status {
    /// Of the daemon.
    pub version: String,
    /// Names this run of the daemon: another one after a restart.
    #[serde(default)]
    pub run: String,
    /// The node it serves.
    pub node: String,
    /// BGP identifier; absent while the Node object is unknown.
    #[serde(default)]
    pub router_id: Option<String>,
    /// Our AS.
    #[serde(default)]
    pub asn: Option<u32>,
    /// Seconds since the daemon started.
    pub uptime_s: u64,
    /// Where objects come from, as given on the command line.
    pub source: String,
    /// Whether routing is ready, that is whether pods may start.
    pub ready: bool,
    /// What it still waits for, in words; empty when ready.
    #[serde(default)]
    pub waiting_for: Vec<String>,
    /// What the operator should mend: manifests that were refused, conflicts, foreign routes.
    #[serde(default)]
    pub problems: Vec<String>,
    /// What is wrong with peers: each that is down and not disabled, and each that tells more than it may.
    #[serde(default)]
    pub peer_problems: Vec<String>,
    /// What the operator did himself and may have forgotten: peers that are disabled.
    #[serde(default)]
    pub notices: Vec<String>,
    /// What of this node is drained.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub draining: Vec<Draining>,
    /// What this node announces.
    #[serde(default)]
    pub originated: Vec<String>,
    /// Peers in the state Established.
    pub peers_established: usize,
    /// Peers configured.
    pub peers_total: usize,
    /// The kernel's side, by family.
    #[serde(default)]
    pub kernel: Vec<KernelStatus>,
    /// How the kernel was kept as it should be, since the daemon started.
    #[serde(default)]
    pub keeping: Keeping,
    /// NetworkPolicy; absent from daemons that have none.
    #[serde(default)]
    pub policy: Option<PolicyStatus>,
    /// The API server and what is known of its objects; absent where a folder is the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterStatus>,
    /// This node's addresses, one a family: what its own packets to pods come from.
    #[serde(default)]
    pub addresses: Vec<NodeAddress>,
    /// The interfaces over which it speaks with the other nodes and its peers.
    #[serde(default)]
    pub uplinks: Vec<String>,
    /// Where health and metrics are served; absent from daemons that have neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpStatus>,
}

/// An address of the node, and why it is the one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct NodeAddress {
    /// Without a length.
    pub address: String,
    /// Who says so, as `status.addresses[0] of the Node`.
    #[serde(default)]
    pub from: String,
    /// The interface that has it; absent if none has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

/// What is known of the cluster, and how. Everything that is wrong here is told among the problems, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ClusterStatus {
    /// As `https://192.0.2.1:6443`; absent while no configuration can be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// What is wrong with the connection as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Seconds that it has been so; absent without trouble.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble_s: Option<u64>,
    /// All kinds have been shown once, by the server or by the snapshot.
    #[serde(default)]
    pub complete: bool,
    /// By name.
    #[serde(default)]
    pub kinds: Vec<KindStatus>,
    /// What is wrong with the snapshot on the disk.
    #[serde(default)]
    pub snapshot_problems: Vec<String>,
}

/// One kind of objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct KindStatus {
    /// As `NetworkPolicy`.
    pub kind: String,
    /// How many are known.
    pub objects: usize,
    /// `watching`, `unknown`, `from-snapshot`, `away`, `refused`, `older` or `not-installed`.
    pub state: String,
    /// Seconds in that state.
    #[serde(default)]
    pub since_s: u64,
    /// What is in the way; absent where nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Objects that cannot be read and count as before.
    #[serde(default)]
    pub unreadable: usize,
}

/// Where health and metrics are served: addresses with their port. Empty: nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct HttpStatus {
    /// `/healthz` and `/readyz`
    #[serde(default)]
    pub health: Vec<String>,
    /// `/metrics`
    #[serde(default)]
    pub metrics: Vec<String>,
    /// What `/readyz` finds missing; empty when ready.
    #[serde(default)]
    pub missing: Vec<String>,
}

/// What others did to our routes in the kernel, and what was done about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Keeping {
    /// Routes, or groups if a group repaired them all, by the name of the cause.
    #[serde(default)]
    pub repairs: BTreeMap<String, u64>,
    /// How often events of the kernel were lost.
    #[serde(default)]
    pub overruns: u64,
    /// How often everything was compared with the kernel.
    #[serde(default)]
    pub checks: u64,
}

/// Routes of ours in the kernel, one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct KernelStatus {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Routes that should be there.
    pub wanted: usize,
    /// Routes that are, those of an earlier run among them.
    pub installed: usize,
    /// Of these, routes of an earlier run that nobody has told in this one yet; they go once all peers have told
    /// theirs.
    #[serde(default)]
    pub stale: usize,
    /// Next-hop groups in use.
    pub groups: usize,
}
