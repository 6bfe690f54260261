//! NetworkPolicy with the real daemon and the real plugin: `labs/policy`.
//!
//! ```text
//!    c1 Cambric      c2 Cambric      f1 FRR, outside
//!     |               |               |
//!   --+---------------+---------------+--   all three are BGP peers of each other
//! ```
//!
//! - `end_to_end` policies decide who reaches whom, in both families, on two nodes; `cambric show policy` tells it;
//! - `race`       pods that start among 1 000 policies, first packet at once; the same after a reboot, the daemon late;
//! - `restart`    the daemon is killed, away, upgraded: no new flow is lost, none leaks, nothing is written anew;
//! - `spoof`      pods that forge sources, ARP and neighbour discovery, and that would speak BGP;
//! - `gate`       what a pod waits for, with the daemon up, hung and away;
//! - `drift`      others change our tables and sets.
//!
//! Each prints what it counted. They run one after the other: times are measured, and packets counted.

#[path = "../common/mod.rs"]
mod common;

mod cluster;
mod drift;
mod end_to_end;
mod gate;
mod kernel;
mod knock;
mod packets;
mod race;
mod racers;
mod restart;
mod spoof;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use cambric_lab::{Node, fabric, poll};

use cluster::Cluster;
use common::{LabFolder, Need, in_lab, machine_has};

/// How long anything may take that happens by itself.
const LIMIT: Duration = Duration::from_secs(90);

const CAMBRICD: &str = "cambricd";

/// Waits until a node has all its sessions and routes, and its policies are in the kernel.
fn in_force(node: &Node) -> Result<()> {
    poll::until(&format!("{} to be whole", node.name()), LIMIT, || fabric::is_whole(node))?;
    has_written(node)
}

/// Waits until a node's daemon has its policies in the kernel.
fn has_written(node: &Node) -> Result<()> {
    poll::until(&format!("{} to have written its policies", node.name()), LIMIT, || {
        fabric::ask(node, &["show", "status"])
            .is_ok_and(|answer| answer["status"]["policy"]["written"] == true)
    })
}

/// Brings the lab up for a test, alone, with these objects from the start; says so if that cannot be.
fn in_policy_lab(prepare: impl FnOnce(&LabFolder), work: impl FnOnce(&Cluster<'_>) -> Result<()>) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    if !machine_has(&[Need::Root, Need::Frr, Need::Cambric, Need::Netfilter]) {
        return;
    }
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = LabFolder::copy_of("labs/policy");
    prepare(&folder);
    in_lab(&folder, |lab| {
        fabric::whole(lab, LIMIT)?;
        fabric::cambric_nodes(lab)?.iter().try_for_each(in_force)?;
        work(&Cluster::new(lab, &folder))
    });
}
