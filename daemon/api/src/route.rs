//! Routes.

use serde::{Deserialize, Serialize};

/// A prefix with its paths, the best first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Route {
    /// Address and length.
    pub prefix: String,
    /// At least one.
    pub paths: Vec<Path>,
}

/// One way to a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Path {
    /// Who told it; absent for our own. In a listing of what peers were told: who was told.
    #[serde(default)]
    pub peer: Option<String>,
    /// Which of several paths of this teller it is, or under which name it was told (RFC 7911); absent where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_id: Option<u32>,
    /// Gateway; absent for our own, unless it was told to a peer.
    #[serde(default)]
    pub next_hop: Option<String>,
    /// `best`, `multipath`, `lost` or `refused`; `sent` or `withheld` for what a peer was told, and was not.
    pub verdict: String,
    /// The step that it lost by, or why it was refused or withheld; by name. Where a filter did it, with the rule:
    /// `FilteredBy tor-in rule 3`.
    #[serde(default)]
    pub reason: Option<String>,
    /// The rule of a filter that let it pass or refused it, as `tor-in rule 3` or `tor-in otherwise`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The gateway by which the node would send to the next hop; only where the reason is that no link of the node
    /// reaches it (NextHopNotOnLink).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<String>,
    /// The link that leads to the next hop, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Why the kernel does not send this way, although BGP would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unused: Option<String>,
    /// Kept for a peer that is restarting (RFC 4724).
    #[serde(default)]
    pub stale: bool,
    /// Why we announce it, if we do: `Pods`, `NodeAddress`, `Services` or `Aggregate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Of our own: to whom it is offered with what; the first one that is for a peer decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offers: Vec<String>,
    /// The AS from which on it goes to customers alone (RFC 9234).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_to_customer: Option<u32>,
    /// Nearest AS first.
    #[serde(default)]
    pub as_path: Vec<u32>,
    /// IGP, EGP or incomplete.
    pub origin: String,
    /// Absent unless sent.
    #[serde(default)]
    pub local_pref: Option<u32>,
    /// Absent unless sent.
    #[serde(default)]
    pub med: Option<u32>,
    /// `asn:value`
    #[serde(default)]
    pub communities: Vec<String>,
    /// `asn:value:value`
    #[serde(default)]
    pub large_communities: Vec<String>,
}

/// `show route count`, one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct RouteCount {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Prefixes that somebody told, or we ourselves.
    pub prefixes: usize,
    /// Of these, those with a path that is used or told on.
    pub usable: usize,
    /// Paths of all prefixes.
    pub paths: usize,
    /// Of these, refused.
    pub refused: usize,
}
