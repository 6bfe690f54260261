//! What became of one session: written by its node, for people.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MOST_NAME_OCTETS, schema};

/// One session of one node.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[kube(group = "cambric.dev", version = "v1alpha1", kind = "BGPSessionState", plural = "bgpsessionstates")]
#[kube(shortname = "bgpss", category = "cambric", derive = "PartialEq", status = "BGPSessionStateStatus")]
#[kube(doc = "What became of one session. Its node writes it, and nobody reads it but people.")]
#[kube(printcolumn = r#"{"name":"Node","type":"string","jsonPath":".spec.node"}"#)]
#[kube(printcolumn = r#"{"name":"Peer","type":"string","jsonPath":".spec.peer"}"#)]
#[kube(printcolumn = r#"{"name":"AS","type":"integer","jsonPath":".spec.asn"}"#)]
#[kube(printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.state"}"#)]
#[kube(printcolumn = r#"{"name":"Since","type":"date","jsonPath":".status.since"}"#)]
#[kube(printcolumn = r#"{"name":"Rx","type":"integer","jsonPath":".status.received"}"#)]
#[kube(printcolumn = r#"{"name":"Acc","type":"integer","jsonPath":".status.accepted"}"#)]
#[kube(printcolumn = r#"{"name":"Refused","type":"integer","jsonPath":".status.refused"}"#)]
#[kube(printcolumn = r#"{"name":"Tx","type":"integer","jsonPath":".status.advertised"}"#)]
#[kube(printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.reason"}"#)]
#[kube(printcolumn = r#"{"name":"Address","type":"string","jsonPath":".spec.address","priority":1}"#)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BGPSessionStateSpec {
    /// Name of the Node.
    #[schemars(length(min = 1, max = MOST_NAME_OCTETS))]
    pub node: String,
    /// Name of the peer: as it is configured, or of the other node of a mesh.
    #[schemars(length(min = 1, max = MOST_NAME_OCTETS))]
    pub peer: String,
    /// Its address; a link-local one with its link, as `fe80::1%eth1`.
    #[schemars(length(min = 1, max = 61))]
    pub address: String,
    /// Its AS; absent before it has announced one, where any that is external will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = u32::MAX))]
    pub asn: Option<u32>,
}

/// How the session is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BGPSessionStateStatus {
    /// As RFC 4271 section 8.2.2 names it; `Disabled` if an operator switched it off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<SessionPhase>,
    /// Since when (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub since: Option<String>,
    /// Why it is not Established, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub reason: Option<String>,
    /// Routes that the peer tells us, of all families.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub received: Option<u64>,
    /// Of these, routes that are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub accepted: Option<u64>,
    /// Of these, routes that are refused; the CLI says why.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub refused: Option<u64>,
    /// Routes that the peer is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub advertised: Option<u64>,
}

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SessionPhase {
    /// An operator switched it off.
    Disabled,
    /// Nothing is attempted.
    Idle,
    /// A TCP connection is being opened.
    Connect,
    /// Waiting for the next attempt, or for the peer's.
    Active,
    /// Our OPEN is out.
    OpenSent,
    /// The peer's OPEN is in.
    OpenConfirm,
    /// Routes flow.
    Established,
}
