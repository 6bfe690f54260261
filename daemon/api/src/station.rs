//! `show monitoring`: stations.

use serde::{Deserialize, Serialize};

use crate::LastError;

/// A station of the BGP Monitoring Protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Station {
    /// As configured.
    pub name: String,
    /// Address and port.
    pub address: String,
    /// `told`, `connecting` or `waiting`.
    pub state: String,
    /// Seconds since it is told; absent if it is not.
    #[serde(default)]
    pub told_for_s: Option<u64>,
    /// `adj-rib-in-pre`, `adj-rib-in-post`, `loc-rib`.
    pub tables: Vec<String>,
    /// Why the last connection ended, or did not come about.
    #[serde(default)]
    pub last_error: Option<LastError>,
}
