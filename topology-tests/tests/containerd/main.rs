//! Two nodes of `containerlab/two-rack`, one in each rack, each with a containerd of its own, as a cluster has them: no
//! plugin, no CNI configuration, no daemon. A stand-in for kubelet starts the daemon by the CRI, exactly as the
//! DaemonSet of `deploy/base` says, from an image of the static binaries; the other two nodes run it as in all labs.
//!
//! Proves:
//! - `machine`   the init container installs the plugin, the daemon the conflist, and not before is the network ready;
//! - `rights`    the daemon's process has the rights of the DaemonSet, its account those of the base, and all it does
//!   works with them;
//! - `workloads` pods by CRI: who reaches whom, with which address; one policy; containers share a pod's network; what
//!   a pod leaves when it goes: nothing;
//! - `restarts`  the daemon's container is killed, its pod replaced: no packet is lost, pods start meanwhile.

#[path = "../api/cluster.rs"]
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod machine;
mod restarts;
mod rights;
mod workloads;

use std::time::Duration;

use anyhow::Result;
use cambric_lab::Lab;

use cluster::{Cluster, Prepared};
use common::{Need, in_lab, machine_has};
use machine::{Machine, with_machines};

/// How long anything may take that happens by itself.
const LIMIT: Duration = Duration::from_secs(90);

/// Uplinks of a node of two-rack.
const UPLINKS: usize = 2;

#[test]
fn pods_run_by_containerd_with_the_daemon_of_the_daemon_set() {
    let needs =
        [Need::Root, Need::Frr, Need::Cambric, Need::Netfilter, Need::Containerd, Need::StaticCambric];
    if !machine_has(&needs) {
        return;
    }
    let prepared = Prepared::of("../containerlab/two-rack").expect("a lab for a server");
    with_machines(&prepared.folder).expect("a lab with two machines");
    in_lab(&prepared.folder, |lab| {
        let cluster = Cluster::reached(lab, &prepared.server)?;
        let mut machines = machine::NAMES
            .into_iter()
            .map(|name| Machine::start(&cluster, name))
            .collect::<Result<Vec<_>>>()?;
        let worked = everything(lab, &cluster, &mut machines);
        let logs = || machines.iter().map(Machine::logs).collect::<Vec<_>>().join("\n");
        worked.map_err(|error| error.context(logs()))?;
        machines.into_iter().try_for_each(|machine| machine.end(&cluster))
    });
}

fn everything(lab: &Lab, cluster: &Cluster<'_>, machines: &mut [Machine]) -> Result<()> {
    for machine in &mut *machines {
        machine.has_no_network()?;
        machine.gets_its_daemon(cluster)?;
        rights::are_those_of_the_daemon_set(machine)?;
    }
    for machine in &*machines {
        rights::do_for_all_functions(machine)?;
    }
    workloads::come_talk_and_go(lab, cluster, machines)?;
    restarts::cost_no_packet(cluster, machines)?;
    rights::were_enough_for_the_api_server(cluster)
}
