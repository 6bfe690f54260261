//! Who is told what the tables hold, by the BGP Monitoring Protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// All stations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Monitoring {
    /// What we call ourselves to them: the node's name (sysName, RFC 7854 section 4.4).
    pub system: String,
    /// By the address that they listen at.
    pub stations: BTreeMap<SocketAddr, StationConfig>,
}

/// One station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StationConfig {
    /// For people.
    pub name: String,
    /// What it is told of; at least one.
    pub tables: BTreeSet<MonitoredTable>,
}

/// A table that a station may be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MonitoredTable {
    /// What each peer told (RFC 7854 section 5).
    AdjRibInPrePolicy,
    /// What of it is used, and with what.
    AdjRibInPostPolicy,
    /// What we chose (RFC 9069).
    LocRib,
}
