//! Who is told what the tables hold.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// A station of the BGP Monitoring Protocol (RFC 7854): each selected node connects to it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BmpStation {
    /// For people: letters, digits, '.', '_', ':' and '-'.
    #[schemars(schema_with = "schema::peer_name")]
    pub name: String,
    /// Where it is.
    #[schemars(schema_with = "schema::address")]
    pub address: String,
    /// TCP port it listens on; 11019 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// What it is told of; of all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub tables: Option<Vec<BmpTable>>,
}

/// A table that a station is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum BmpTable {
    /// What each peer told, before our policy.
    AdjRibInPrePolicy,
    /// What of it is used, and with what.
    AdjRibInPostPolicy,
    /// What was chosen (RFC 9069).
    LocRib,
}

/// Most stations of a node.
pub const MOST_STATIONS: usize = 8;
