//! What is particular to one node.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigStatus, PeerEntry, schema};

/// What is particular to one node; named as the node.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[kube(group = "cambric.dev", version = "v1alpha1", kind = "BGPNodeOverride", plural = "bgpnodeoverrides")]
#[kube(shortname = "bgpno", category = "cambric", derive = "PartialEq", status = "ConfigStatus")]
#[kube(doc = "What is particular to one node; named as the node.")]
#[kube(printcolumn = r#"{"name":"AS","type":"integer","jsonPath":".spec.asn"}"#)]
#[kube(printcolumn = r#"{"name":"Router ID","type":"string","jsonPath":".spec.routerID"}"#)]
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
pub struct BGPNodeOverrideSpec {
    /// AS of this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = u32::MAX))]
    pub asn: Option<u32>,
    /// BGP identifier; if absent, the IPv4 address that the node has when its daemon starts.
    #[serde(default, rename = "routerID", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::router_id")]
    pub router_id: Option<String>,
    /// Identifier of the cluster that this node is a route reflector of; its BGP identifier if absent. Reflectors with the
    /// same clients may share one (RFC 4456 section 7).
    #[serde(default, rename = "clusterID", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::router_id")]
    pub cluster_id: Option<String>,
    /// Addresses of this node, one of each family; what nodeAddress of the cluster finds if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::own_addresses")]
    pub addresses: Option<Vec<String>>,
    /// Neighbours of this node, beside those of the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::peers")]
    pub peers: Vec<PeerEntry>,
}
