//! From the daemon's state to the words of the CLI.

use std::path::Path;
use std::sync::LazyLock;
use std::time::{Instant, SystemTime};

use cambric_api::{
    Check, FamilyCounts, GracefulRestart, Keeping, KernelStatus, LastError, Protocol, Reply, Request,
    Session, Status,
};
use cambric_bgp::peer::PeerState;
use cambric_bgp::router::PeerStatus;
use cambric_bgp::session::{Agreed, AsWidth};
use cambric_bgp::types::PeerKind;
use cambric_bgp::{Admin, Family};
use cambric_routes::Snapshot;
use cambric_speaker::Gone;
use tokio::task::spawn_blocking;

use super::words::escaped;
use super::{Fault, Replies, links, peers, routes};
use crate::pod_routes::PodRoutes;
use crate::state::Shared;
use crate::{check, fib};

/// Names this process among all that ever had its number: in a container that is always 1.
static RUN: LazyLock<String> = LazyLock::new(|| {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}", std::process::id(), since_1970.as_millis())
});

/// Answers one request: sends what comes before the last line, and gives that.
pub(super) async fn answer(
    request: Request,
    shared: &Shared,
    replies: &mut Replies<'_>,
) -> Result<Reply, Fault> {
    Ok(match request {
        Request::ShowStatus => show_status(shared).await?,
        Request::ShowProtocols { peer } => show_protocols(shared, peer.as_deref()).await?,
        Request::ShowRoute { address, prefix } => routes::show(shared, address, prefix, replies).await?,
        Request::ShowRouteCount => routes::count(shared).await?,
        Request::ShowRouteExport { peer } => routes::show_export(shared, &peer, replies).await?,
        Request::ShowRouteImport { peer } => routes::show_import(shared, &peer, replies).await?,
        Request::ShowRouteRefused { peer } => routes::show_refused(shared, peer.as_deref(), replies).await?,
        Request::ShowInterfaces { interface } => links::show_interfaces(shared, interface.as_deref()).await?,
        Request::ShowNeighbors { interface } => links::show_neighbors(shared, interface.as_deref()).await?,
        Request::ConfigureCheck { path } => configure_check(shared, path).await,
        Request::Enable { peer } => peers::set_admin(shared, &peer, Admin::Enabled).await?,
        Request::Disable { peer } => peers::set_admin(shared, &peer, Admin::Disabled).await?,
        Request::Restart { peer } => peers::restart(shared, &peer).await?,
    })
}

async fn show_status(shared: &Shared) -> Result<Reply, Gone> {
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
    let foreign = snapshot.conflicts.iter().map(|(prefix, protocol)| {
        format!("kernel: {prefix}: a foreign route (protocol {protocol}) has the place of ours")
    });
    let contested = snapshot.contested.first_key_value().map(|(prefix, _)| {
        let count = snapshot.contested.len();
        format!("kernel: another program keeps undoing {count} of our routes ({prefix}); each is repaired once a second")
    });
    let borrowed = snapshot
        .borrowed
        .keys()
        .map(|id| format!("kernel: next hop {id}: only other programs point to it; kept for them"));
    let failing = (snapshot.failing > 0)
        .then(|| format!("kernel: it refuses the routes to {} prefixes; tried again", snapshot.failing));
    foreign.chain(contested).chain(borrowed).chain(failing).collect()
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

async fn show_protocols(shared: &Shared, wanted: Option<&str>) -> Result<Reply, Fault> {
    let mut shown = peers::all(shared).await?;
    if let Some(wanted) = wanted {
        shown = peers::named(shown, wanted)?;
    }
    let now = Instant::now();
    Ok(Reply::protocols(shown.iter().map(|peer| protocol(peer, now)).collect()))
}

fn protocol(peer: &PeerStatus, now: Instant) -> Protocol {
    Protocol {
        name: escaped(&peer.config.name),
        address: peer.address.to_string(),
        asn: peer.config.asn.value(),
        kind: match peer.kind {
            PeerKind::Internal => "internal".to_owned(),
            PeerKind::External => "external".to_owned(),
        },
        state: peer.state.to_string(),
        disabled: peer.admin == Admin::Disabled,
        since_s: now.saturating_duration_since(peer.since).as_secs(),
        last_error: peer.last_error.as_ref().map(|error| LastError {
            ago_s: now.saturating_duration_since(error.at).as_secs(),
            what: escaped(&error.what),
        }),
        session: peer.session.as_ref().map(session),
        families: peer
            .counts
            .iter()
            .map(|(family, counts)| FamilyCounts {
                family: family.to_string(),
                received: counts.received,
                accepted: counts.accepted,
                refused: counts.refused,
                not_kept: counts.not_kept,
                sent: counts.sent,
            })
            .collect(),
        flawed_updates: peer.flawed_updates,
    }
}

fn session(session: &cambric_bgp::session::Session) -> Session {
    let families =
        |families: &mut dyn Iterator<Item = Family>| families.map(|family| family.to_string()).collect();
    Session {
        router_id: session.peer_id.to_string(),
        hold_time_s: session.hold_time.as_secs(),
        families: families(&mut session.families.iter().copied()),
        as_octets: match session.as_width {
            AsWidth::Two => 2,
            AsWidth::Four => 4,
        },
        most_message_bytes: session.most_message_bytes,
        route_refresh: session.route_refresh == Agreed::Yes,
        graceful_restart: session.peer_restart.as_ref().map(|restart| GracefulRestart {
            restarted: restart.restarted,
            restart_time_s: restart.restart_time_s,
            families: families(&mut restart.families.iter().filter_map(|entry| entry.family.family())),
        }),
    }
}

async fn configure_check(shared: &Shared, path: Option<String>) -> Reply {
    let folder = path.map_or_else(|| shared.manifests.clone(), Into::into);
    let shown = escaped(&folder.display().to_string());
    let (node, intent) = (shared.node.clone(), shared.state.borrow().intent.clone());
    let links = fib::links(&shared.routes.links().borrow().clone());
    let checked = spawn_blocking(move || check::check(Path::new(&folder), &node, &links, intent.as_deref()));
    match checked.await {
        Ok(report) => Reply::check(Check {
            path: shown,
            problems: report.problems.iter().map(|problem| escaped(&problem.to_string())).collect(),
            changes: report.changes.iter().map(|change| escaped(change)).collect(),
        }),
        Err(error) => Reply::failed(format!("{shown}: {error}")),
    }
}
