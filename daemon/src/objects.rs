//! The objects a source has shown, their values read, and what was wrong with those it could not show.
//!
//! The texts of the manifests are behind us here: an address is an address, and a peer without one does
//! not exist. [`values`](crate::values) makes these from the [`kinds`](crate::kinds).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cambric_bgp::config::{
    AddPath, AsOverride, ConnectMode, Distance, LocalRole, Offer, Password, PeerAsn, ReflectorRole,
    StationConfig,
};
use cambric_bgp::policy::filter::Filter;
use cambric_bgp::{Asn, Families, Family, HoldTime, PeerPolicy, Prefix, RouterId};
use cambric_kube::{EndpointSlice, Service};
use cambric_policy::change::{Key, PolicyObject};
use cambric_policy::labels::Labels;
use cambric_policy::pod::Pod;
use k8s_openapi::api::core::v1::Namespace;
use serde::{Deserialize, Serialize};

use crate::kinds::{Mesh, ServiceAddress};
use crate::own_address::{Addresses, Rule};
use crate::secrets::{KeyRef, NoKey, Secret};
use crate::site::Site;

/// What BGP is made from, free of contradictions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objects {
    /// By name.
    pub nodes: BTreeMap<String, Shown<Node>>,
    /// By name.
    pub cluster_configs: BTreeMap<String, Shown<ClusterConfig>>,
    /// By name.
    pub peer_configs: BTreeMap<String, Shown<PeerOptions>>,
    /// By name.
    pub filters: BTreeMap<String, Shown<Arc<Filter>>>,
    /// With their names, the older first.
    pub advertisements: Vec<(String, Shown<Advertisement>)>,
    /// By name, which is the node's.
    pub node_overrides: BTreeMap<String, Shown<NodeOverride>>,
    /// By name; those of one namespace.
    pub secrets: BTreeMap<String, Shown<Secret>>,
    /// The name of the one BGPClusterConfig that each node has, if any selects it.
    pub config_of: BTreeMap<String, String>,
    /// By node, ranges that it claims and that another one has.
    pub disputed: BTreeMap<String, Vec<Prefix>>,
    /// Of nodes whose label should say their AS, and says none: the one that they had. See [`asn`](crate::asn).
    pub kept_asns: BTreeMap<String, Asn>,
    /// Peers that a node is told of by an object, but that contradict another.
    pub left_out: BTreeSet<(Kind, String, Site)>,
    /// What could not be taken.
    pub problems: Vec<Problem>,
    /// What was taken and has no effect.
    pub notices: Vec<Problem>,
    /// Of the problems, those that hide what was never seen: any object may be behind them. Empty from the
    /// first view on that shows all; until then nobody may act on what seems absent.
    pub unknown: Vec<Problem>,
}

impl Objects {
    /// The key that is meant.
    ///
    /// # Errors
    /// [`NoKey`]
    pub fn key(&self, key: &KeyRef) -> Result<&Password, NoKey> {
        self.secrets.get(&key.secret).ok_or(NoKey::NoSecret)?.says.key(&key.entry)
    }
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
    /// Ours.
    BGPFilter,
    /// Ours.
    BGPAdvertisement,
    /// Kubernetes' own.
    Pod,
    /// Kubernetes' own.
    Namespace,
    /// Kubernetes' own.
    NetworkPolicy,
    /// Kubernetes' own.
    Secret,
    /// Kubernetes' own.
    Service,
    /// Kubernetes' own.
    EndpointSlice,
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
            "Secret" => Kind::Secret,
            "Service" => Kind::Service,
            "EndpointSlice" => Kind::EndpointSlice,
            _ => return None,
        })
    }

    /// Whether it is of the group `cambric.dev`.
    pub(crate) fn is_ours(self) -> bool {
        !matches!(self, Kind::Node | Kind::Secret) && !self.is_of_policies() && !self.is_of_services()
    }

    /// Whether policies are made from it, and nothing else is.
    pub(crate) fn is_of_policies(self) -> bool {
        matches!(self, Kind::Pod | Kind::Namespace | Kind::NetworkPolicy)
    }

    /// Whether it says what services there are and where they answer, and nothing else.
    pub(crate) fn is_of_services(self) -> bool {
        matches!(self, Kind::Service | Kind::EndpointSlice)
    }

    /// Whether its objects are in namespaces.
    pub(crate) fn is_namespaced(self) -> bool {
        matches!(self, Kind::Pod | Kind::NetworkPolicy) || self.is_of_services()
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
    /// Which routes pass, and how.
    Filter(Arc<Filter>),
    /// What is particular to one node.
    NodeOverride(NodeOverride),
    /// Keys.
    Secret(Secret),
    /// What nodes announce.
    Advertisement(Advertisement),
    /// A pod.
    Pod(Key, Arc<Pod>),
    /// By its name.
    Namespace(Arc<str>, Arc<Namespace>),
    /// A policy, and what is wrong with it.
    NetworkPolicy(Key, Arc<PolicyObject>),
    /// A service.
    Service(Key, Arc<Service>),
    /// Where a service answers.
    EndpointSlice(Key, Arc<EndpointSlice>),
}

impl Object {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Object::Node(_) => Kind::Node,
            Object::ClusterConfig(_) => Kind::BGPClusterConfig,
            Object::PeerConfig(_) => Kind::BGPPeerConfig,
            Object::Filter(_) => Kind::BGPFilter,
            Object::NodeOverride(_) => Kind::BGPNodeOverride,
            Object::Secret(_) => Kind::Secret,
            Object::Pod(..) => Kind::Pod,
            Object::Namespace(..) => Kind::Namespace,
            Object::NetworkPolicy(..) => Kind::NetworkPolicy,
            Object::Advertisement(_) => Kind::BGPAdvertisement,
            Object::Service(..) => Kind::Service,
            Object::EndpointSlice(..) => Kind::EndpointSlice,
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
    /// Who is told what the tables of each node hold.
    pub stations: BTreeMap<SocketAddr, StationConfig>,
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
    /// Of what it reflects.
    pub cluster_id: Option<RouterId>,
    /// Its addresses; they go before what any rule chooses.
    pub addresses: Addresses,
    /// Its neighbours, beside those of the cluster.
    pub peers: Vec<Peer>,
}

/// What counts of a BGPAdvertisement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advertisement {
    /// Labels that a node must have.
    pub labels: BTreeMap<String, String>,
    /// In its order.
    pub entries: Vec<Advertised>,
}

impl Advertisement {
    /// Whether it is for `node`.
    pub fn selects(&self, node: &Node) -> bool {
        self.labels.iter().all(|(key, value)| node.labels.get(key) == Some(value.as_str()))
    }
}

/// One entry of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// As `spec.advertised[0]`.
    pub field: String,
    /// Which prefixes.
    pub what: What,
    /// To whom, with what.
    pub offer: Offer,
}

/// A sort of prefixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Ranges of the node's pods.
    Pods,
    /// The node's addresses.
    NodeAddress,
    /// These addresses of services that have all of these labels.
    Services {
        /// Of these sorts.
        addresses: BTreeSet<ServiceAddress>,
        /// Without any, all services are meant.
        labels: BTreeMap<String, String>,
    },
    /// What covers prefixes of the node.
    Aggregates(Vec<Prefix>),
}

/// One neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// As `spec.peers[0]`.
    pub field: String,
    /// For people.
    pub name: String,
    /// Where it is.
    pub site: Site,
    /// Most peers of a range at once; of no meaning elsewhere.
    pub most_peers: usize,
    /// Its AS.
    pub asn: PeerAsn,
    /// TCP port it listens on.
    pub port: Option<u16>,
    /// Source address of our connections, of the same family.
    pub local_address: Option<IpAddr>,
    /// The interface of the session.
    pub local_interface: Option<String>,
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
    /// What passes, but for the filters.
    pub policy: PeerPolicy,
    /// Which these are.
    pub filters: BTreeMap<Family, FilterNames>,
    /// Most routes of a family.
    pub max_prefixes: Option<usize>,
    /// Where the key of TCP MD5 is.
    pub secret: Option<KeyRef>,
    /// How far away the peer is.
    pub distance: Distance,
    /// How long the peer keeps our routes while we are away.
    pub restart_time: Option<Duration>,
    /// How long beyond that, as a last resort; 0: not at all.
    pub long_lived: Option<Duration>,
    /// Our AS towards it.
    pub local_asn: Option<Asn>,
    /// Whether its AS is replaced by ours.
    pub as_override: AsOverride,
    /// How often our AS may be in a path.
    pub allow_own_as: u8,
    /// Whether it is a client of ours.
    pub role: ReflectorRole,
    /// At how many percent of these it is warned.
    pub warn_at_percent: Option<u8>,
    /// Where there may be several paths to a prefix.
    pub add_path: BTreeMap<Family, AddPath>,
    /// What we are to it.
    pub local_role: Option<LocalRole>,
    /// A session of BFD beside that of BGP.
    pub bfd: Option<cambric_bfd::Config>,
}

/// Names of BGPFilters, in the order in which routes go through them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilterNames {
    /// As `spec.filters[0]`.
    pub field: String,
    /// For what the peer tells.
    pub import: Vec<String>,
    /// For what it is told.
    pub export: Vec<String>,
}

/// Something the operator should mend: where it stands, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// An object as `cluster.yaml, document 2: BGPPeerConfig tor`, or a file.
    pub place: String,
    /// Field, value and reason.
    pub what: String,
    /// How many octets at its end are one case of many, which may be another the next time: the problem is the same then.
    pub example_octets: u32,
    /// The object it is about, if it is about one that is known.
    pub of: Option<Box<ObjectRef>>,
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
        Problem {
            place,
            what,
            example_octets: 0,
            of: None,
            reason: Reason::Other,
            found_by: FoundBy::EveryNode,
        }
    }

    /// With one case of many.
    pub fn such_as(self, example: impl Into<String>) -> Problem {
        let example = format!(", such as {}", printable(example.into()));
        let example_octets = u32::try_from(example.len()).unwrap_or_default();
        Problem { what: self.what + &example, example_octets, ..self }
    }

    /// Whether it is that problem, if maybe with another example.
    pub fn is_same_as(&self, other: &Problem) -> bool {
        let Problem { place, what: _, example_octets: _, of, reason, found_by } = self;
        (place, of, reason, found_by) == (&other.place, &other.of, &other.reason, &other.found_by)
            && self.words() == other.words()
    }

    /// What is wrong, without an example.
    fn words(&self) -> &str {
        let end = self.what.len().saturating_sub(self.example_octets as usize);
        self.what.get(..end).unwrap_or(&self.what)
    }

    /// About an object.
    pub fn about(self, kind: Kind, name: impl Into<String>) -> Problem {
        Problem { of: Some(Box::new(ObjectRef { kind, name: name.into() })), ..self }
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
        Problem { what: format!("{}; {consequence}", self.what), example_octets: 0, ..self }
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
