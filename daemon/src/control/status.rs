//! `show status`: the daemon on one page.

use std::sync::LazyLock;
use std::time::SystemTime;

use cambric_api::{Keeping, KernelStatus, Reply, Status};
use cambric_bgp::peer::PeerState;
use cambric_routes::Snapshot;
use cambric_speaker::Gone;

use super::peers;
use crate::pod_routes::PodRoutes;
use crate::state::Shared;

/// Most lines of one kind: whatever happened to a table of thousands, the page stays one.
const FEW: usize = 20;

/// Names this process among all that ever had its number: in a container that is always 1.
static RUN: LazyLock<String> = LazyLock::new(|| {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}", std::process::id(), since_1970.as_millis())
});

/// `show status`
pub(super) async fn show(shared: &Shared) -> Result<Reply, Gone> {
    let state = shared.state.borrow().clone();
    let peers = peers::all(shared).await?;
    // The routes task ends only with the daemon.
    let snapshot = shared.routes.snapshot().await.ok();
    let mut problems = state.problems;
    problems.extend(snapshot.iter().flat_map(kernel_problems));
    Ok(Reply::status(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        run: RUN.clone(),
        node: shared.node.clone(),
        router_id: state.router_id,
        asn: state.asn,
        uptime_s: shared.started_at.elapsed().as_secs(),
        source: shared.source.clone(),
        ready: state.ready,
        waiting_for: state.waiting_for,
        problems,
        notices: peers::notices(shared, &peers).await,
        originated: state.originated,
        peers_established: peers.iter().filter(|peer| peer.state == PeerState::Established).count(),
        peers_total: peers.len(),
        kernel: snapshot.iter().flat_map(kernel).collect(),
        keeping: snapshot.map(|snapshot| keeping(&snapshot, &state.pod_routes)).unwrap_or_default(),
    }))
}

fn kernel(snapshot: &Snapshot) -> [KernelStatus; 2] {
    cambric_routes::Family::ALL.map(|family| {
        let is_of_family = |hop: &cambric_routes::Hop| cambric_routes::Family::of(hop.gateway) == family;
        KernelStatus {
            family: family.to_string(),
            wanted: *snapshot.wanted.get(family),
            installed: *snapshot.learned.get(family) + *snapshot.unreachable.get(family),
            groups: snapshot.groups.values().filter(|group| group.hops.iter().any(is_of_family)).count(),
        }
    })
}

fn kernel_problems(snapshot: &Snapshot) -> Vec<String> {
    let foreign = few(snapshot.conflicts.iter().map(|(prefix, protocol)| {
        format!("kernel: {prefix}: a foreign route (protocol {protocol}) has the place of ours")
    }));
    let contested = snapshot.contested.first_key_value().map(|(prefix, _)| {
        let count = snapshot.contested.len();
        format!("kernel: another program keeps undoing {count} of our routes ({prefix}); each is repaired once a second")
    });
    let borrowed = snapshot.borrowed.keys();
    let borrowed =
        few(borrowed
            .map(|id| format!("kernel: next hop {id}: only other programs point to it; kept for them")));
    let failing = (snapshot.failing > 0)
        .then(|| format!("kernel: it refuses the routes to {} prefixes; tried again", snapshot.failing));
    foreign.into_iter().chain(contested).chain(borrowed).chain(failing).collect()
}

/// The first of many lines, and how many more there are.
fn few(lines: impl ExactSizeIterator<Item = String>) -> Vec<String> {
    let more = lines.len().saturating_sub(FEW);
    let mut few: Vec<String> = lines.take(FEW).collect();
    few.extend((more > 0).then(|| format!("kernel: and {more} more of this kind")));
    few
}

fn keeping(snapshot: &Snapshot, pods: &PodRoutes) -> Keeping {
    let own = snapshot.repairs.iter().map(|(cause, count)| (cause.to_string(), *count));
    let of_pods = [("pod-route-lost", pods.put_back), ("pod-route-source-lost", pods.sourced)];
    let of_pods = of_pods.into_iter().filter(|(_, count)| *count > 0);
    Keeping {
        repairs: own.chain(of_pods.map(|(cause, count)| (cause.to_owned(), count))).collect(),
        overruns: snapshot.overruns,
        checks: snapshot.checks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_of_one_kind_are_a_few_lines_and_a_number() {
        let lines = |count: usize| few((0..count).map(|index| format!("line {index}")));
        assert_eq!(lines(FEW).len(), FEW);
        assert_eq!(lines(1000).len(), FEW + 1);
        assert_eq!(lines(1000)[FEW], "kernel: and 980 more of this kind");
    }
}
