//! What nodes announce beside the ranges of their pods, and how.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigStatus, NodeSelector, schema};

/// What nodes announce, and how.
///
/// Ranges of pods and addresses of nodes are announced to all peers as they are; `Pods` and `NodeAddress` only say with
/// which attributes, and keep them from nobody. `Services` and `Aggregates` are announced where they are named, to the
/// peers that are named. Of two objects that say something of one prefix to one peer, the older decides.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[kube(group = "cambric.dev", version = "v1alpha1", kind = "BGPAdvertisement", plural = "bgpadvertisements")]
#[kube(shortname = "bgpadv", category = "cambric", derive = "PartialEq", status = "ConfigStatus")]
#[kube(
    doc = "What nodes announce, and how. Ranges of pods and addresses of nodes go to all peers whatever is said here: Pods and NodeAddress say with which attributes. Services and Aggregates are announced where they are named."
)]
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
    /// What is announced. Of two entries for one prefix the first decides.
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
    /// Prefixes that are announced while something of the node's lies in them, in its place: a peer that hears one does not
    /// hear that. Each inside a range of podCIDRs or serviceCIDRs.
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
    /// Addresses of services, each a host route. Where the traffic policy of a service is Local, only by nodes with an
    /// endpoint of it that is ready and serves.
    Services,
    /// What covers several of the node's prefixes.
    Aggregates,
}

/// An address of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ServiceAddress {
    /// `spec.clusterIPs`; its `internalTrafficPolicy` counts.
    ClusterIP,
    /// `spec.externalIPs`; its `externalTrafficPolicy` counts.
    ExternalIP,
    /// `status.loadBalancer.ingress`, but for those with `ipMode: Proxy`; its `externalTrafficPolicy` counts.
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
    /// How often our AS is put before the AS path once more, for external peers: internal ones see the path as it is.
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
