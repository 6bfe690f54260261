//! What a fault costs: flows at 1 kHz and new flows, which rules judge anew, between pods of both racks while it lasts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cambric_lab::flow::Report;
use cambric_lab::reach::{Echo, PORT};
use cambric_lab::{Pod, fabric};

use serde_json::{Value, json};

use crate::cluster::{Cluster, NewPod, policy};
use crate::knock::{Knocking, Knocks};

/// How long is watched when all is as it was, so that a late loss is seen.
const AFTER: Duration = Duration::from_secs(1);

/// Does something while flows are under way; none may lose a packet, no new flow that is allowed may be lost, and none
/// that is denied answered. `a1` pods may reach `a2` pods, `a2` pods may not.
pub(crate) fn nothing_is_lost(
    cluster: &mut Cluster<'_>,
    pods: &BTreeMap<String, Pod>,
    what: &str,
    happens: impl FnOnce(&mut Cluster<'_>) -> Result<()>,
) -> Result<()> {
    let (near, stranger, far) = (&pods["n11-1"], &pods["n12-2"], &pods["n22-2"]);
    let echoes: Vec<Echo> =
        far.addresses()?.into_iter().map(|at| Echo::start(far, at)).collect::<Result<_>>()?;
    let doors: Vec<SocketAddr> = far.addresses()?.into_iter().map(|at| SocketAddr::new(at, PORT)).collect();
    let flows = fabric::start_flows(near, far)?;
    let mut knocking = Vec::new();
    for who in [near, stranger] {
        for door in &doors {
            knocking.push(Knocking::start(who, *door)?);
        }
    }
    let start = Instant::now();
    let happened = happens(cluster);
    let took = start.elapsed();
    std::thread::sleep(AFTER); // the time itself is what is watched
    let knocks = Knocking::stop(knocking)?;
    let reports = fabric::stop_flows(flows)?;
    drop(echoes);
    happened?;
    let (allowed, denied) = knocks.split_at(doors.len());
    let lost: Vec<u32> = reports.iter().map(|report| report.lost).collect();
    let sum = |all: &[Knocks], of: fn(&Knocks) -> u32| all.iter().map(of).sum::<u32>();
    println!(
        "{what} ({took:.1?}): {} packets at 1 kHz, lost by flow {lost:?}; {} new flows allowed, {} lost; {} denied, {} leaked",
        reports.iter().map(|report| report.sent).sum::<u32>(),
        sum(allowed, |knocks| knocks.sent),
        sum(allowed, Knocks::lost),
        sum(denied, |knocks| knocks.sent),
        sum(denied, |knocks| knocks.answered),
    );
    ensure!(lost.iter().all(|lost| *lost == 0), "{what}: {:#?}", losing(&reports));
    for knocks in allowed {
        ensure!(knocks.lost() == 0, "{what}: {}", knocks.in_words(start));
    }
    for knocks in denied {
        ensure!(knocks.answered == 0, "{what}: {}", knocks.in_words(start));
    }
    Ok(())
}

/// Two on each node, as the folder's lab has.
pub(crate) fn start_pods(cluster: &Cluster<'_>) -> Result<BTreeMap<String, Pod>> {
    let mut pods = BTreeMap::new();
    for node in fabric::cambric_nodes(cluster.lab)? {
        for number in 1..=2 {
            let name = format!("{}-{number}", node.name());
            let label = format!("app=a{number}");
            let pod = cluster.start(NewPod { node: node.name(), name: &name, label: &label })?;
            pods.insert(name, pod);
        }
    }
    Ok(pods)
}

/// The policy that this is judged by.
pub(crate) fn a2_from_a1() -> Value {
    let from = json!([{ "from": [{ "podSelector": { "matchLabels": { "app": "a1" } } }] }]);
    policy("a2-from-a1", json!({ "podSelector": { "matchLabels": { "app": "a2" } }, "ingress": from }))
}

fn losing(reports: &[Report]) -> Vec<&Report> {
    reports.iter().filter(|report| report.lost > 0).collect()
}
