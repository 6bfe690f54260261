//! A rolling update of `containerlab/two-rack`, and the way back, as a DaemonSet with `maxUnavailable: 1` does it.
//!
//! Node by node: the binaries are replaced by rename, the daemon is ended by SIGTERM, its configuration changes while it
//! is away (a flag that ends up in the conflist, the timers of its sessions), the next one is started, and must be ready
//! before it is the turn of the next node. Pods are started and ended all the while.
//!
//! Proves: no packet of flows at 1 kHz is lost, no new flow that is allowed, none that is denied leaks, and no pod fails
//! to start.
//!
//! What is updated from and to: the binaries that are tested, from other files, over what a release beside this one has
//! left ([`records`]); with `CAMBRIC_OTHER_RELEASE=FOLDER` the `cambricd`, `cambric` and `cambric-cni` of that folder.

#[path = "../api/cluster.rs"]
mod cluster;
#[path = "../common/mod.rs"]
mod common;
#[path = "../policy/knock.rs"]
mod knock;
#[path = "../api/load.rs"]
mod load;
mod records;
mod release;
mod rollout;

use std::time::Duration;

use anyhow::Result;
use cambric_lab::{Options, fabric};
use serde_json::json;

use cluster::{Cluster, Prepared};
use common::{Need, in_lab_with, machine_has, options};
use load::{a2_from_a1, nothing_is_lost, start_pods};
use records::Age;
use release::Release;
use rollout::{Change, roll_out};

/// How long anything may take that happens by itself.
const LIMIT: Duration = Duration::from_secs(90);

const CAMBRICD: &str = "cambricd";

/// Uplinks of a node of two-rack.
const UPLINKS: usize = 2;

#[test]
fn nothing_is_lost_while_nodes_are_upgraded_and_downgraded_one_by_one() {
    if !machine_has(&[Need::Root, Need::Frr, Need::Cambric, Need::Netfilter]) {
        return;
    }
    let (this, other) = (Release::of_this_build(), Release::beside_it());
    println!("from {other} to {this}, and back");
    let prepared = Prepared::of("../containerlab/two-rack").expect("a lab for a server");
    prepared.server.put(a2_from_a1());
    let options = Options { bin_dir: Some(other.folder().to_owned()), ..options() };
    in_lab_with(&options, &prepared.folder, |lab| {
        let mut cluster = Cluster::reached(lab, &prepared.server)?;
        fabric::whole_and_spread(lab, UPLINKS, LIMIT)?;
        fabric::cambric_nodes(lab)?.iter().try_for_each(|node| other.put_plugin(node))?;
        let pods = start_pods(&cluster)?;
        cluster.have_policies(1)?;
        let up = Change {
            to: &this,
            left_by: other.age(Age::Earlier),
            gate: "off",
            timers: json!({ "holdTimeSeconds": 6, "keepaliveSeconds": 2 }),
        };
        nothing_is_lost(&mut cluster, &pods, "upgraded, node by node", |cluster| roll_out(cluster, &up))?;
        stands(&cluster, &up)?;
        let down = Change {
            to: &other,
            left_by: other.age(Age::Later),
            gate: "prefer",
            timers: json!({ "holdTimeSeconds": 9, "keepaliveSeconds": 3 }),
        };
        nothing_is_lost(&mut cluster, &pods, "downgraded, node by node", |cluster| roll_out(cluster, &down))?;
        stands(&cluster, &down)
    });
}

/// All that was changed is in force, and everybody reaches everybody whom the policy lets.
fn stands(cluster: &Cluster<'_>, change: &Change<'_>) -> Result<()> {
    fabric::whole_and_spread(cluster.lab, UPLINKS, LIMIT)?;
    fabric::cambric_nodes(cluster.lab)?.iter().try_for_each(|node| change.is_in_force(node))?;
    cluster.have_policies(1)
}
