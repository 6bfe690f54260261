//! Which routes pass, and what is changed in them. `docs/filters.md` says how filters and built-in policy work together.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigStatus, schema};

/// Ordered rules; the first that matches decides. Behind them stands the built-in policy of import and export: what that
/// would refuse passes only if a rule says which routes it means.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[kube(group = "cambric.dev", version = "v1alpha1", kind = "BGPFilter", plural = "bgpfilters")]
#[kube(shortname = "bgpf", category = "cambric", derive = "PartialEq", status = "ConfigStatus")]
#[kube(doc = "Which routes pass, and what is changed in them.")]
#[kube(printcolumn = r#"{"name":"Otherwise","type":"string","jsonPath":".spec.otherwise"}"#)]
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
pub struct BGPFilterSpec {
    /// In this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub rules: Vec<FilterRule>,
    /// What becomes of a route that no rule matches. Accept leaves it to the built-in policy.
    #[serde(default)]
    pub otherwise: FilterAction,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.set) || self.action == 'Accept'",
    "message": "what is rejected cannot be changed: set goes with action: Accept",
}]))]
pub struct FilterRule {
    /// Routes that it is for: all of these must hold; every route if absent.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub match_: Option<FilterMatch>,
    /// What becomes of them.
    pub action: FilterAction,
    /// What is changed in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<FilterChange>,
}

/// What becomes of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum FilterAction {
    /// It passes.
    Accept,
    /// It does not.
    #[default]
    Reject,
}

/// Which routes; of each list, one entry must match.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilterMatch {
    /// What they are to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub prefixes: Option<Vec<FilterPrefix>>,
    /// Communities that they have: `AS:number` (RFC 1997), or a well-known name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::communities")]
    pub communities: Option<Vec<String>>,
    /// Large communities that they have: `AS:number:number` (RFC 8092).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::large_communities")]
    pub large_communities: Option<Vec<String>>,
    /// A regular expression over the AS path, its numbers with one space between; `_` is either end or a space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::as_path")]
    pub as_path: Option<String>,
    /// Ranges that their next hop is in; our own routes have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::some_prefixes")]
    pub next_hops: Option<Vec<String>>,
    /// Names of peers: on import of the one that tells, on export of the one that is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::peer_names")]
    pub peers: Option<Vec<String>>,
    /// Where they come from. On export, naming External or Internal passes such routes on to external peers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 6), extend("x-kubernetes-list-type" = "set"))]
    pub sources: Option<Vec<RouteSource>>,
}

/// A range of prefixes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.ge) || !isCIDR(self.cidr) || self.ge >= cidr(self.cidr).prefixLength()",
    "message": "ge must be at least the length of cidr",
}, {
    "rule": "!has(self.le) || !isCIDR(self.cidr) || self.le >= (has(self.ge) ? self.ge : cidr(self.cidr).prefixLength())",
    "message": "le must be at least ge, and the length of cidr",
}, {
    "rule": "!isCIDR(self.cidr) || cidr(self.cidr).ip().family() == 6 \
             || ((!has(self.ge) || self.ge <= 32) && (!has(self.le) || self.le <= 32))",
    "message": "ge and le must be at most 32 for IPv4",
}]))]
pub struct FilterPrefix {
    /// What lies in it; of exactly this length if neither ge nor le is there.
    #[schemars(schema_with = "schema::any_prefix")]
    pub cidr: String,
    /// Shortest length; the longest there is matches, too, if le is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 128))]
    pub ge: Option<u8>,
    /// Longest length; from that of cidr if ge is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 128))]
    pub le: Option<u8>,
}

/// Where a route comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RouteSource {
    /// A range of this node's pods.
    Pods,
    /// This node's address.
    NodeAddress,
    /// A service.
    Services,
    /// An aggregate.
    Aggregate,
    /// A peer of another AS.
    External,
    /// A peer of our AS.
    Internal,
}

/// What is changed in a route.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilterChange {
    /// LOCAL_PREF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = u32::MAX))]
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = u32::MAX))]
    pub med: Option<u32>,
    /// How often an AS is put before the AS path once more: towards external peers ours, on import the nearest one of the
    /// path. Internal peers see the path as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub prepend: Option<u8>,
    /// Communities that are added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::communities")]
    pub add_communities: Option<Vec<String>>,
    /// Communities that are removed, before any is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::communities")]
    pub remove_communities: Option<Vec<String>>,
    /// Large communities that are added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::large_communities")]
    pub add_large_communities: Option<Vec<String>>,
    /// Large communities that are removed, before any is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::large_communities")]
    pub remove_large_communities: Option<Vec<String>>,
    /// The next hop, of routes of its family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::address")]
    pub next_hop: Option<String>,
}
