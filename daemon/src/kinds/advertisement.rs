//! What nodes announce beside the ranges of their pods, and how. Its engine is still to come.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigStatus, NodeSelector, schema};

/// What nodes announce, and how.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[kube(group = "cambric.dev", version = "v1alpha1", kind = "BGPAdvertisement", plural = "bgpadvertisements")]
#[kube(shortname = "bgpadv", category = "cambric", derive = "PartialEq", status = "ConfigStatus")]
#[kube(doc = "What nodes announce, and how (NotImplemented).")]
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
pub struct BGPAdvertisementSpec {
    /// Nodes that announce it; all of them if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<NodeSelector>,
    /// Names of peers that are told; all of them if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::peer_names")]
    pub peers: Option<Vec<String>>,
    /// What is announced.
    #[schemars(length(min = 1, max = 64))]
    pub advertised: Vec<Advertised>,
}

/// One sort of prefixes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.serviceAddresses) == (self.what == 'Services')",
    "message": "serviceAddresses go with what: Services, and only with it",
}, {
    "rule": "!has(self.serviceLabels) || self.what == 'Services'",
    "message": "serviceLabels go with what: Services only",
}, {
    "rule": "has(self.aggregates) == (self.what == 'Aggregates')",
    "message": "aggregates go with what: Aggregates, and only with it",
}]))]
pub struct Advertised {
    /// Which prefixes.
    pub what: AdvertisedKind,
    /// Of services: which of their addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub service_addresses: Option<Vec<ServiceAddress>>,
    /// Of services: only of those with all of these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::labels")]
    pub service_labels: Option<BTreeMap<String, String>>,
    /// Prefixes that are announced while something in them is, in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::some_prefixes")]
    pub aggregates: Option<Vec<String>>,
    /// What they are announced with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<RouteAttributes>,
}

/// A sort of prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum AdvertisedKind {
    /// Ranges of the node's pods.
    #[default]
    Pods,
    /// The node's addresses.
    NodeAddress,
    /// Addresses of services.
    Services,
    /// What covers several of the node's prefixes.
    Aggregates,
}

/// An address of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceAddress {
    /// `spec.clusterIPs`
    ClusterIP,
    /// `spec.externalIPs`
    ExternalIP,
    /// `status.loadBalancer.ingress`
    LoadBalancerIP,
}

/// What prefixes are announced with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteAttributes {
    /// LOCAL_PREF, for internal peers; 100 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = u32::MAX))]
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = u32::MAX))]
    pub med: Option<u32>,
    /// How often our AS is put before the AS path once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub prepend: Option<u8>,
    /// `AS:number` (RFC 1997), or a well-known name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::communities")]
    pub communities: Option<Vec<String>>,
    /// `AS:number:number` (RFC 8092).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::large_communities")]
    pub large_communities: Option<Vec<String>>,
}
