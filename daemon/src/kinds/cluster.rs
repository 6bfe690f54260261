//! How BGP runs on the nodes.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BmpStation, ConfigStatus, NodeSelector, PeerEntry, schema};

/// How BGP runs on the nodes that it selects.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[kube(group = "cambric.dev", version = "v1alpha1", kind = "BGPClusterConfig", plural = "bgpclusterconfigs")]
#[kube(shortname = "bgpcc", category = "cambric", derive = "PartialEq", status = "ConfigStatus")]
#[kube(doc = "How BGP runs on the nodes that it selects.")]
#[kube(printcolumn = r#"{"name":"AS","type":"integer","jsonPath":".spec.asn"}"#)]
#[kube(printcolumn = r#"{"name":"Mesh","type":"string","jsonPath":".spec.mesh"}"#)]
#[kube(printcolumn = r#"{"name":"Pods","type":"string","jsonPath":".spec.podCIDRs"}"#)]
#[kube(
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type==\"Accepted\")].status"}"#
)]
#[kube(
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#
)]
#[kube(
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#
)]
#[kube(printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.asn) || !has(self.asnLabel)",
    "message": "asn and asnLabel exclude each other",
}]))]
pub struct BGPClusterConfigSpec {
    /// Nodes it is for; all of them if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<NodeSelector>,
    /// AS of the nodes; 64512 if neither this nor asnLabel is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = u32::MAX))]
    pub asn: Option<u32>,
    /// Name of the label that says each node's AS, as a number; a node without it waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_name")]
    pub asn_label: Option<String>,
    /// Which of a node's addresses is that of the fabric; its InternalIP if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_address: Option<NodeAddress>,
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
    #[schemars(schema_with = "schema::peers")]
    pub peers: Vec<PeerEntry>,
    /// Stations of the BGP Monitoring Protocol that every selected node tells what its tables hold (RFC 7854).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::stations")]
    pub bmp_stations: Vec<BmpStation>,
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

/// Which of a node's addresses is that of the fabric: packets of the node itself to pods come from it, sessions with
/// other nodes are between these, and it is announced where it lies in no link's subnet. Interfaces are known to their
/// node alone: with from: Interface, sessions stay between the first InternalIPs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.interface) == (self.from == 'Interface')",
    "message": "interface goes with from: Interface, and only with it",
}, {
    "rule": "has(self.cidrs) == (self.from == 'CIDR')",
    "message": "cidrs go with from: CIDR, and only with it",
}]))]
pub struct NodeAddress {
    /// Where it is taken from.
    pub from: NodeAddressFrom,
    /// Its name. Of the node's InternalIPs, the first of each family that it has counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::interface")]
    pub interface: Option<String>,
    /// Ranges. Of the node's InternalIPs, the first of each family that lies in one of them counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::some_prefixes")]
    pub cidrs: Option<Vec<String>>,
}

/// Where a node's address is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum NodeAddressFrom {
    /// The Node object: its first InternalIP of each family.
    #[default]
    InternalIP,
    /// An interface of the node.
    Interface,
    /// What lies in one of several ranges.
    CIDR,
}
