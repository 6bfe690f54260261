//! Nodes whose objects come from an API server: `containerlab/two-rack`, driven by a server instead of a folder.
//!
//! - `two_rack`  the same matrix as with the folder; pods and policies come by objects; what the server was asked;
//! - `dashboard` each query of the Grafana dashboard beside the metrics that there are;
//! - `outages`   the server is away, the daemon restarted meanwhile, answers what is old, torn, late or refused, is
//!   replaced: packets lost at 1 kHz;
//! - `node_life` nodes that come, go, change and contradict each other;
//! - `clock`     wall clocks that jump;
//! - `service_account` as in a pod: TLS, tokens and authorities that are renewed;
//! - `bad_input` objects that make no sense, wrong kubeconfig, wrong rights, clocks that jump.
//!
//! Each prints what it counted. They run one after the other: times are measured, and packets counted.

#[path = "../common/mod.rs"]
mod common;

mod bad_input;
mod clock;
mod cluster;
mod dashboard;
#[path = "../policy/knock.rs"]
mod knock;
mod load;
mod node_life;
mod outages;
mod service_account;
mod two_rack;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use cambric_lab::fabric;

use cluster::{Cluster, Prepared};
use common::{Need, in_lab, machine_has};

/// How long anything may take that happens by itself.
const LIMIT: Duration = Duration::from_secs(90);

const CAMBRICD: &str = "cambricd";

/// Where a daemon shows its metrics.
const METRICS: u16 = 9179;

/// Uplinks of a node of two-rack.
const UPLINKS: usize = 2;

/// Brings two-rack up for a test; waits until it is whole.
fn in_two_rack(
    prepare: impl FnOnce(&Prepared) -> Result<()>,
    work: impl FnOnce(&mut Cluster<'_>) -> Result<()>,
) {
    with_server("../containerlab/two-rack", prepare, |cluster| {
        fabric::whole_and_spread(cluster.lab, UPLINKS, LIMIT)?;
        work(cluster)
    });
}

/// Brings a lab up for a test, alone, with an API server in the place of its folder; says so if that cannot be.
fn with_server(
    lab: &str,
    prepare: impl FnOnce(&Prepared) -> Result<()>,
    work: impl FnOnce(&mut Cluster<'_>) -> Result<()>,
) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    if !machine_has(&[Need::Root, Need::Frr, Need::Cambric, Need::Netfilter]) {
        return;
    }
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let prepared = Prepared::of(lab).expect("a lab for a server");
    prepare(&prepared).expect("objects for it");
    in_lab(&prepared.folder, |lab| work(&mut Cluster::reached(lab, &prepared.server)?));
}
