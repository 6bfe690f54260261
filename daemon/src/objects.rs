//! The objects a source has shown, their values read, and what was wrong with those it could not show.
//!
//! The texts of the manifests are behind us here: an address is an address, and a peer without one does
//! not exist. [`values`](crate::values) makes these from the [`kinds`](crate::kinds).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cambric_bgp::config::ConnectMode;
use cambric_bgp::{Asn, Families, Family, HoldTime, PeerPolicy, Prefix, RouterId};
use cambric_policy::change::{Key, PolicyObject};
use cambric_policy::labels::Labels;
use cambric_policy::pod::Pod;
use k8s_openapi::api::core::v1::Namespace;
use serde::{Deserialize, Serialize};

use crate::kinds::Mesh;
use crate::own_address::{Addresses, Rule};

/// What BGP is made from, free of contradictions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objects {
    /// By name.
    pub nodes: BTreeMap<String, Shown<Node>>,
    /// By name.
    pub cluster_configs: BTreeMap<String, Shown<ClusterConfig>>,
    /// By name.
    pub peer_configs: BTreeMap<String, Shown<PeerOptions>>,
    /// By name, which is the node's.
    pub node_overrides: BTreeMap<String, Shown<NodeOverride>>,
    /// The name of the one BGPClusterConfig that each node has, if any selects it.
    pub config_of: BTreeMap<String, String>,
    /// By node, ranges that it claims and that another one has.
    pub disputed: BTreeMap<String, Vec<Prefix>>,
    /// Of nodes whose label should say their AS, and says none: the one that they had. See [`asn`](crate::asn).
    pub kept_asns: BTreeMap<String, Asn>,
    /// Peers that a node is told of by an object, but that contradict another.
    pub left_out: BTreeSet<(Kind, String, IpAddr)>,
    /// What could not be taken.
    pub problems: Vec<Problem>,
    /// What was taken and has no effect.
    pub notices: Vec<Problem>,
    /// Of the problems, those that hide what was never seen: any object may be behind them. Empty from the
    /// first view on that shows all; until then nobody may act on what seems absent.
    pub unknown: Vec<Problem>,
}

/// What an object says, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown<T> {
    /// As `cluster.yaml, document 1: BGPClusterConfig default`.
    pub place: String,
    /// What it says.
    pub says: T,
}

/// The kinds that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// Kubernetes' own.
    Node,
    /// Ours.
    BGPClusterConfig,
    /// Ours.
    BGPPeerConfig,
    /// Ours.
    BGPNodeOverride,
    /// Ours; its engine is to come.
    BGPFilter,
    /// Ours; its engine is to come.
    BGPAdvertisement,
    /// Kubernetes' own.
    Pod,
    /// Kubernetes' own.
    Namespace,
    /// Kubernetes' own.
    NetworkPolicy,
}

impl Kind {
    /// The one that is written so.
    pub(crate) fn named(name: &str) -> Option<Kind> {
        Some(match name {
            "Node" => Kind::Node,
            "BGPClusterConfig" => Kind::BGPClusterConfig,
            "BGPPeerConfig" => Kind::BGPPeerConfig,
            "BGPNodeOverride" => Kind::BGPNodeOverride,
            "BGPFilter" => Kind::BGPFilter,
            "BGPAdvertisement" => Kind::BGPAdvertisement,
            "Pod" => Kind::Pod,
            "Namespace" => Kind::Namespace,
            "NetworkPolicy" => Kind::NetworkPolicy,
            _ => return None,
        })
    }

    /// Whether it is of the group `cambric.dev`.
    pub(crate) fn is_ours(self) -> bool {
        self != Kind::Node && !self.is_of_policies()
    }

    /// Whether policies are made from it, and nothing else is.
    pub(crate) fn is_of_policies(self) -> bool {
        matches!(self, Kind::Pod | Kind::Namespace | Kind::NetworkPolicy)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One object of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// A node.
    Node(Node),
    /// What many nodes have in common.
    ClusterConfig(ClusterConfig),
    /// What many peers have in common.
    PeerConfig(PeerOptions),
    /// What is particular to one node.
    NodeOverride(NodeOverride),
    /// A pod.
    Pod(Key, Arc<Pod>),
    /// By its name.
    Namespace(Arc<str>, Arc<Namespace>),
    /// A policy, and what is wrong with it.
    NetworkPolicy(Key, Arc<PolicyObject>),
}

impl Object {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Object::Node(_) => Kind::Node,
            Object::ClusterConfig(_) => Kind::BGPClusterConfig,
            Object::PeerConfig(_) => Kind::BGPPeerConfig,
            Object::NodeOverride(_) => Kind::BGPNodeOverride,
            Object::Pod(..) => Kind::Pod,
            Object::Namespace(..) => Kind::Namespace,
            Object::NetworkPolicy(..) => Kind::NetworkPolicy,
        }
    }
}

/// What counts of a Node object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// For selectors.
    pub labels: Labels,
    /// The first InternalIP of each family.
    pub addresses: BTreeMap<Family, IpAddr>,
    /// All InternalIPs, each with the field it is from; each once.
    pub internal_addresses: Vec<(String, IpAddr)>,
    /// Ranges of its pods, each with the field it is from; none overlaps another.
    pub pod_ranges: Vec<(String, Prefix)>,
}

impl Node {
    /// With no other labels than these: there are many nodes, and each has many.
    pub(crate) fn with_labels(&self, asked: &BTreeSet<&str>) -> Node {
        let Node { labels, addresses, internal_addresses, pod_ranges } = self;
        let labels = labels.iter().filter(|(key, _)| asked.contains(&***key)).collect();
        let (addresses, pod_ranges) = (addresses.clone(), pod_ranges.clone());
        Node { labels, addresses, internal_addresses: internal_addresses.clone(), pod_ranges }
    }
}

/// What counts of a BGPClusterConfig.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Labels that a node must have.
    pub labels: BTreeMap<String, String>,
    /// AS of the nodes.
    pub asn: Option<Asn>,
    /// Name of the label that says the AS of a node, in place of `asn`.
    pub asn_label: Option<String>,
    /// Whether they peer with each other.
    pub mesh: Mesh,
    /// Ranges pods get addresses from.
    pub pods: Vec<Prefix>,
    /// Ranges node addresses lie in; empty: anywhere.
    pub nodes: Vec<Prefix>,
    /// Ranges services get addresses from.
    pub services: Vec<Prefix>,
    /// Which of its addresses a node takes.
    pub node_address: Rule,
    /// Neighbours of each node.
    pub peers: Vec<Peer>,
}

impl ClusterConfig {
    /// Whether it is for `node`.
    pub fn selects(&self, node: &Node) -> bool {
        self.labels.iter().all(|(key, value)| node.labels.get(key) == Some(value.as_str()))
    }
}

/// What counts of a BGPNodeOverride.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeOverride {
    /// AS of the node.
    pub asn: Option<Asn>,
    /// Its BGP identifier.
    pub router_id: Option<RouterId>,
    /// Its addresses; they go before what any rule chooses.
    pub addresses: Addresses,
    /// Its neighbours, beside those of the cluster.
    pub peers: Vec<Peer>,
}

/// One neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// As `spec.peers[0]`.
    pub field: String,
    /// For people.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Its AS.
    pub asn: Asn,
    /// TCP port it listens on.
    pub port: Option<u16>,
    /// Source address of our connections, of the same family.
    pub local_address: Option<IpAddr>,
    /// Name of a BGPPeerConfig.
    pub peer_config: Option<String>,
}

/// What counts of a BGPPeerConfig; what is absent has the default of
/// [`PeerConfig`](cambric_bgp::PeerConfig).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerOptions {
    /// What we propose.
    pub hold_time: Option<HoldTime>,
    /// Between two KEEPALIVEs; at most a third of the hold time.
    pub keepalive: Option<Duration>,
    /// What the session carries; not empty.
    pub families: Option<Families>,
    /// Who connects.
    pub connect: ConnectMode,
    /// What passes.
    pub policy: PeerPolicy,
    /// Most routes of a family.
    pub max_prefixes: Option<usize>,
}

/// Something the operator should mend: where it stands, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// An object as `cluster.yaml, document 2: BGPPeerConfig tor`, or a file.
    pub place: String,
    /// Field, value and reason.
    pub what: String,
    /// The object it is about, if it is about one that is known.
    pub of: Option<ObjectRef>,
    /// The reason, for conditions and events.
    pub reason: Reason,
    /// Who finds it.
    pub found_by: FoundBy,
}

/// Who finds a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FoundBy {
    /// Whoever sees the same objects.
    EveryNode,
    /// This node; another one may find nothing wrong with the same object, or something else.
    ThisNode,
}

/// An object, as others refer to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its name, behind its namespace and a slash if it is in one.
    pub name: String,
}

impl ObjectRef {
    /// The one that is displayed so.
    pub(crate) fn named(text: &str) -> Option<ObjectRef> {
        let (kind, name) = text.split_once(' ')?;
        Some(ObjectRef { kind: Kind::named(kind)?, name: name.to_owned() })
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// Why something is a problem.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A value or a field that makes no sense.
    Invalid,
    /// A field or kind that this version does not serve.
    NotImplemented,
    /// Another object has what it claims.
    Conflicted {
        /// The other one.
        winner: ObjectRef,
    },
    /// It refers to what is not there, or is not there itself.
    Missing,
    /// Nobody can tell what it says.
    Unreadable,
    /// It has changed or is gone, and others need it as it was.
    CountsAsBefore,
    /// None of these.
    Other,
}

impl Reason {
    /// As the reason of a condition or an event: in CamelCase.
    pub fn as_str(&self) -> &'static str {
        match self {
            Reason::Invalid => "Invalid",
            Reason::NotImplemented => "NotImplemented",
            Reason::Conflicted { .. } => "Conflicted",
            Reason::Missing => "Missing",
            Reason::Unreadable => "Unreadable",
            Reason::CountsAsBefore => "CountsAsBefore",
            Reason::Other => "Other",
        }
    }
}

impl Problem {
    /// Makes one that is about no object, for no reason that has a name. Manifests come from outside: nothing of them
    /// may steer a terminal.
    pub fn new(place: impl Into<String>, what: impl Into<String>) -> Problem {
        let (place, what) = (printable(place.into()), printable(what.into()));
        Problem { place, what, of: None, reason: Reason::Other, found_by: FoundBy::EveryNode }
    }

    /// About an object.
    pub fn about(self, kind: Kind, name: impl Into<String>) -> Problem {
        Problem { of: Some(ObjectRef { kind, name: name.into() }), ..self }
    }

    /// For a reason.
    pub fn because(self, reason: Reason) -> Problem {
        Problem { reason, ..self }
    }

    /// That other nodes may not find.
    pub fn found_here(self) -> Problem {
        Problem { found_by: FoundBy::ThisNode, ..self }
    }

    /// With what follows from it.
    pub fn and(self, consequence: &str) -> Problem {
        Problem { what: format!("{}; {consequence}", self.what), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

fn printable(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
