//! Our own kinds, group `cambric.dev/v1alpha1`, all cluster-scoped.
//!
//! Addresses and prefixes are text here: [`values`](crate::values) reads them, so that an error can name object,
//! field and value. A field that these types do not have is refused by name and never passed over: whoever
//! writes it expects it to do something.
//!
//! The types carry their schemas: `deploy/crds` is made from them (see [`crds`](crate::crds)).

mod schema;

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The group of all our kinds.
pub const GROUP: &str = "cambric.dev";
/// The group and version of all our kinds.
pub const API_VERSION: &str = "cambric.dev/v1alpha1";
/// Most entries of a list: the API server wants to know what a rule over all of them costs.
pub const MOST_LIST_ITEMS: usize = 256;
/// The longest name of a peer.
pub const MOST_PEER_NAME_OCTETS: usize = 63;

/// How BGP runs on the nodes that it selects.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[kube(group = "cambric.dev", version = "v1alpha1", kind = "BGPClusterConfig", plural = "bgpclusterconfigs")]
#[kube(shortname = "bgpcc", category = "cambric", derive = "PartialEq")]
#[kube(doc = "How BGP runs on the nodes that it selects.")]
#[kube(printcolumn = r#"{"name":"AS","type":"integer","jsonPath":".spec.asn"}"#)]
#[kube(printcolumn = r#"{"name":"Mesh","type":"string","jsonPath":".spec.mesh"}"#)]
#[kube(printcolumn = r#"{"name":"Pods","type":"string","jsonPath":".spec.podCIDRs"}"#)]
#[kube(printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BGPClusterConfigSpec {
    /// Nodes it is for; all of them if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<NodeSelector>,
    /// AS of the nodes; 64512 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = u32::MAX))]
    pub asn: Option<u32>,
    /// Whether all nodes peer with each other.
    #[serde(default)]
    pub mesh: Mesh,
    /// Ranges pods get addresses from, beside those of the Node objects.
    #[serde(default, rename = "podCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::prefixes")]
    pub pod_cidrs: Vec<String>,
    /// Ranges node addresses lie in; empty: anywhere.
    #[serde(default, rename = "nodeCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::prefixes")]
    pub node_cidrs: Vec<String>,
    /// Ranges services get addresses from.
    #[serde(default, rename = "serviceCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::prefixes")]
    pub service_cidrs: Vec<String>,
    /// Neighbours of every selected node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_LIST_ITEMS))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["address"]))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "self.all(one, self.exists_one(other, other.name == one.name))",
        "message": "no two peers may have one name",
    }]))]
    pub peers: Vec<PeerEntry>,
}

/// Whether all nodes peer with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Mesh {
    /// They do.
    #[default]
    Enabled,
    /// They peer with their switches only.
    Disabled,
}

/// Which nodes; as the `matchLabels` of a Kubernetes label selector.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeSelector {
    /// A node must have all of these; without any, all nodes are meant.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
}

/// One neighbour.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.localAddress) || !isIP(self.localAddress) || !isIP(self.address) \
             || ip(self.localAddress).family() == ip(self.address).family()",
    "message": "localAddress must be of the family of address",
}]))]
pub struct PeerEntry {
    /// For people, and for commands on this peer: letters, digits, '.', '_', ':' and '-'.
    #[schemars(schema_with = "schema::peer_name")]
    pub name: String,
    /// Its address.
    #[schemars(schema_with = "schema::address")]
    pub address: String,
    /// Its AS.
    #[schemars(range(min = 1, max = u32::MAX))]
    pub asn: u32,
    /// TCP port it listens on; 179 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// Source address of our connections, of the same family; chosen by the kernel if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::address")]
    pub local_address: Option<String>,
    /// Name of a BGPPeerConfig; the defaults if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub peer_config: Option<String>,
}

/// What many neighbours have in common.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[kube(group = "cambric.dev", version = "v1alpha1", kind = "BGPPeerConfig", plural = "bgppeerconfigs")]
#[kube(shortname = "bgppc", category = "cambric", derive = "PartialEq")]
#[kube(doc = "What many neighbours have in common.")]
#[kube(printcolumn = r#"{"name":"Hold","type":"integer","jsonPath":".spec.holdTimeSeconds"}"#)]
#[kube(printcolumn = r#"{"name":"Families","type":"string","jsonPath":".spec.families"}"#)]
#[kube(printcolumn = r#"{"name":"Import","type":"string","jsonPath":".spec.import"}"#)]
#[kube(printcolumn = r#"{"name":"Export","type":"string","jsonPath":".spec.export"}"#)]
#[kube(printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.holdTimeSeconds) || self.holdTimeSeconds == 0 || self.holdTimeSeconds >= 3",
    "message": "holdTimeSeconds must be 0 or at least 3 (RFC 4271 section 4.2)",
}, {
    "rule": "!has(self.keepaliveSeconds) \
             || self.keepaliveSeconds * 3 <= (has(self.holdTimeSeconds) ? self.holdTimeSeconds : 90)",
    "message": "keepaliveSeconds must be at most a third of holdTimeSeconds (RFC 4271 section 4.4)",
}]))]
pub struct BGPPeerConfigSpec {
    /// 0, or 3 to 65535; 90 if absent (RFC 4271 section 10).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_time_seconds: Option<u16>,
    /// At least 1 and at most a third of the hold time; a third if absent (RFC 4271 section 4.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub keepalive_seconds: Option<u16>,
    /// What the session carries; the family of the peer's address if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2), extend("x-kubernetes-list-type" = "set"))]
    pub families: Option<Vec<FamilyName>>,
    /// Who opens the TCP connection.
    #[serde(default)]
    pub connect: Connect,
    /// What the peer may tell us.
    #[serde(default)]
    pub import: ImportPolicy,
    /// What it is told.
    #[serde(default)]
    pub export: ExportPolicy,
    /// Most routes accepted of a family; 20000 if absent. Further ones are refused, the session stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = u32::MAX))]
    pub max_prefixes: Option<u32>,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FamilyName {
    /// IPv4 unicast.
    #[serde(rename = "ipv4")]
    Ipv4,
    /// IPv6 unicast.
    #[serde(rename = "ipv6")]
    Ipv6,
}

/// Who opens the TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Connect {
    /// Whoever is first.
    #[default]
    Both,
    /// The peer.
    Passive,
}

/// What a peer may tell us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum ImportPolicy {
    /// What the cluster declares.
    #[default]
    Declared,
    /// Everything that is sound.
    All,
}

/// What a peer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum ExportPolicy {
    /// Our own prefixes; an internal peer also what external peers told us.
    #[default]
    Own,
    /// Every best path.
    All,
}

/// What is particular to one node; named as the node.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[kube(group = "cambric.dev", version = "v1alpha1", kind = "BGPNodeOverride", plural = "bgpnodeoverrides")]
#[kube(shortname = "bgpno", category = "cambric", derive = "PartialEq")]
#[kube(doc = "What is particular to one node; named as the node.")]
#[kube(printcolumn = r#"{"name":"AS","type":"integer","jsonPath":".spec.asn"}"#)]
#[kube(printcolumn = r#"{"name":"Router ID","type":"string","jsonPath":".spec.routerID"}"#)]
#[kube(printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BGPNodeOverrideSpec {
    /// AS of this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = u32::MAX))]
    pub asn: Option<u32>,
    /// BGP identifier; the node's IPv4 address if absent.
    #[serde(default, rename = "routerID", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::router_id")]
    pub router_id: Option<String>,
    /// Neighbours of this node, beside those of the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_LIST_ITEMS))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["address"]))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "self.all(one, self.exists_one(other, other.name == one.name))",
        "message": "no two peers may have one name",
    }]))]
    pub peers: Vec<PeerEntry>,
}
