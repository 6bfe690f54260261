//! `show monitoring`: who is told what the tables hold.

use std::time::Instant;

use cambric_api::{LastError, Reply, Station};
use cambric_bgp::Router;
use cambric_bgp::config::MonitoredTable;
use cambric_bgp::monitor::{StationState, StationStatus};

use super::words::escaped;
use super::{Fault, peers};
use crate::state::Shared;

pub(super) async fn show(shared: &Shared) -> Result<Reply, Fault> {
    let stations = peers::speaker(shared)?.look(|router: &Router| router.stations()).await?;
    let now = Instant::now();
    Ok(Reply::stations(stations.into_iter().map(|station| shown(station, now)).collect()))
}

fn shown(station: StationStatus, now: Instant) -> Station {
    let seconds = |since: Instant| now.saturating_duration_since(since).as_secs();
    let table = |table: &MonitoredTable| match table {
        MonitoredTable::AdjRibInPrePolicy => "adj-rib-in-pre".to_owned(),
        MonitoredTable::AdjRibInPostPolicy => "adj-rib-in-post".to_owned(),
        MonitoredTable::LocRib => "loc-rib".to_owned(),
    };
    let (state, told_for_s) = match station.state {
        StationState::Waiting => ("waiting", None),
        StationState::Connecting => ("connecting", None),
        StationState::Open { since } => ("told", Some(seconds(since))),
    };
    Station {
        name: escaped(&station.config.name),
        address: station.address.to_string(),
        state: state.to_owned(),
        told_for_s,
        tables: station.config.tables.iter().map(table).collect(),
        last_error: station
            .last_error
            .map(|error| LastError { ago_s: seconds(error.at), what: escaped(&error.what) }),
    }
}
