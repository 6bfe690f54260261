//! Who is told what the tables hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use cambric_bgp::config::{MonitoredTable, StationConfig};

use super::{Costs, Fields, not_a_peer_name, quoted};
use crate::kinds::{BmpStation, BmpTable, MOST_STATIONS};

const STATION: Costs = Costs::Only("station");

/// Where stations listen that say nothing else: no port is registered, and others have this one, too.
const DEFAULT_PORT: u16 = 11019;

const ALL: [BmpTable; 3] = [BmpTable::AdjRibInPrePolicy, BmpTable::AdjRibInPostPolicy, BmpTable::LocRib];

impl Fields {
    pub(super) fn stations(&mut self, entries: &[BmpStation]) -> BTreeMap<SocketAddr, StationConfig> {
        let mut found: BTreeMap<SocketAddr, StationConfig> = BTreeMap::new();
        for (at, BmpStation { name, address, port, tables }) in entries.iter().enumerate() {
            let field = format!("spec.bmpStations[{at}]");
            if at >= MOST_STATIONS {
                self.refuse(STATION, &field, name, format!("a node has {MOST_STATIONS} at most"));
                continue;
            }
            if let Some(reason) = not_a_peer_name(name) {
                self.refuse(STATION, format!("{field}.name"), quoted(name), reason);
                continue;
            }
            let Some(address) = self.spelt_address(STATION, &format!("{field}.address"), address) else {
                continue;
            };
            let port = port.unwrap_or(DEFAULT_PORT);
            if port == 0 {
                self.refuse(STATION, format!("{field}.port"), port, "1 to 65535");
                continue;
            }
            let listed = tables.as_deref().unwrap_or(&ALL);
            let tables: BTreeSet<MonitoredTable> = listed.iter().map(|table| monitored(*table)).collect();
            if tables.is_empty() || tables.len() < listed.len() {
                let reason = "1 to 3 tables, each once; leave it out for all";
                self.refuse(STATION, format!("{field}.tables"), format!("{} items", listed.len()), reason);
                continue;
            }
            let address = SocketAddr::new(address, port);
            if let Some(other) = found.get(&address) {
                let reason = format!("station {} is there", other.name);
                self.refuse(STATION, format!("{field}.address"), address, reason);
                continue;
            }
            if found.values().any(|other| other.name == *name) {
                self.refuse(STATION, format!("{field}.name"), name, "another station is called so");
                continue;
            }
            found.insert(address, StationConfig { name: name.clone(), tables });
        }
        found
    }
}

fn monitored(table: BmpTable) -> MonitoredTable {
    match table {
        BmpTable::AdjRibInPrePolicy => MonitoredTable::AdjRibInPrePolicy,
        BmpTable::AdjRibInPostPolicy => MonitoredTable::AdjRibInPostPolicy,
        BmpTable::LocRib => MonitoredTable::LocRib,
    }
}
