//! The daemon as a whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::PolicyStatus;

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
