//! From the daemon's state to the words of the CLI.

use std::path::Path;
use std::time::Instant;

use cambric_api::{
    Check, FamilyCounts, GracefulRestart, LastError, Protocol, Reply, Request, Session, Settings,
};
use cambric_bgp::config::{ConnectMode, Export, Import};
use cambric_bgp::router::PeerStatus;
use cambric_bgp::session::{Agreed, AsWidth};
use cambric_bgp::types::PeerKind;
use cambric_bgp::{Admin, Family, PeerConfig};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::client::{Operator, Replies};
use super::words::escaped;
use super::{Fault, links, peers, policy, routes, status};
use crate::state::Shared;
use crate::{check, fib};

/// Answers one request: sends what comes before the last line, and gives that.
pub(super) async fn answer(
    request: Request,
    operator: Operator,
    shared: &Shared,
    replies: &mut Replies<'_>,
) -> Result<Reply, Fault> {
    Ok(match request {
        Request::ShowStatus => status::show(shared).await?,
        Request::ShowProtocols { peer } => show_protocols(shared, peer.as_deref()).await?,
        Request::ShowRoute { address, prefix } => routes::show(shared, address, prefix, replies).await?,
        Request::ShowRouteCount => routes::count(shared).await?,
        Request::ShowRouteExport { peer } => routes::show_export(shared, &peer, replies).await?,
        Request::ShowRouteImport { peer } => routes::show_import(shared, &peer, replies).await?,
        Request::ShowRouteRefused { peer } => routes::show_refused(shared, peer.as_deref(), replies).await?,
        Request::ShowInterfaces { interface } => links::show_interfaces(shared, interface.as_deref()).await?,
        Request::ShowNeighbors { interface } => links::show_neighbors(shared, interface.as_deref()).await?,
        Request::ShowPolicy { pod } => policy::show(shared, pod.as_deref()).await,
        Request::Place { interface, namespace, name, uid, addresses } => {
            policy::place(shared, &interface, policy::Told { namespace, name, uid }, &addresses).await
        }
        Request::ConfigureCheck { path } => configure_check(shared, path).await,
        Request::Log { filter: None } => Reply::log(shared.log.filter()),
        Request::Log { filter: Some(filter) } => set_log(shared, &filter, &operator),
        Request::Enable { peer } => {
            let shared = shared.clone();
            to_its_end(async move { peers::set_admin(&shared, &peer, Admin::Enabled, &operator).await })
                .await?
        }
        Request::Disable { peer } => {
            let shared = shared.clone();
            to_its_end(async move { peers::set_admin(&shared, &peer, Admin::Disabled, &operator).await })
                .await?
        }
        Request::Restart { peer } => {
            let shared = shared.clone();
            to_its_end(async move { peers::restart(&shared, &peer, &operator).await }).await?
        }
    })
}

/// What changes something is not dropped half way, though its client leaves.
async fn to_its_end(
    work: impl Future<Output = Result<Reply, Fault>> + Send + 'static,
) -> Result<Reply, Fault> {
    tokio::spawn(work).await.unwrap_or_else(|error| Ok(Reply::failed(error)))
}

fn set_log(shared: &Shared, filter: &str, operator: &Operator) -> Reply {
    // Before it is done: the new filter may let nothing through.
    tracing::info!(filter = %escaped(filter), operator = %operator, "an operator sets what is logged");
    match shared.log.set(filter) {
        Ok(set) => Reply::log_set(set),
        Err(error) => {
            tracing::info!(error = %escaped(&error.to_string()), "it is refused");
            Reply::bad_filter(escaped(&error.to_string()))
        }
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
        settings: Some(settings(&peer.config)),
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

fn settings(config: &PeerConfig) -> Settings {
    Settings {
        local_address: config.local_address.map(|address| address.to_string()),
        port: config.port,
        passive: config.connect == ConnectMode::Passive,
        hold_time_s: config.hold_time.as_secs(),
        import: match config.policy.import {
            Import::Declared => "declared".to_owned(),
            Import::All => "all".to_owned(),
        },
        export: match config.policy.export {
            Export::Own => "own".to_owned(),
            Export::All => "all".to_owned(),
        },
        max_prefixes: config.max_prefixes,
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

/// Folders are read one after the other. A file system that hangs keeps one thread then and not one for each who asks;
/// who waits for his turn may leave.
static CHECKING: Semaphore = Semaphore::const_new(1);

/// A folder holds a whole cluster; one beside the API server would be said to take everything else away.
const NO_FOLDER: &str = "the source is the API server, and a check compares a folder with the folder that is in force; \
                         `kubectl diff -f` says what manifests would change, `kubectl apply --dry-run=server -f` \
                         what would be refused";

async fn configure_check(shared: &Shared, path: Option<String>) -> Reply {
    let Some(own) = shared.manifests.clone() else { return Reply::unavailable(NO_FOLDER) };
    let folder = path.map_or(own, Into::into);
    let shown = escaped(&folder.display().to_string());
    let (node, intent) = (shared.node.clone(), shared.state.borrow().intent.clone());
    let judged = shared.policy.cluster();
    let links = fib::links(&shared.routes.links().borrow().clone());
    let Ok(turn) = CHECKING.acquire().await else { return Reply::failed("checks are not made any more") };
    let checked = spawn_blocking(move || {
        // Until it is read, though the client may have left.
        let _turn = turn;
        check::check(Path::new(&folder), &node, &links, intent.as_deref(), judged.as_deref())
    });
    match checked.await {
        Ok(report) => Reply::check(Check {
            path: shown,
            problems: report.problems.iter().map(|problem| escaped(&problem.to_string())).collect(),
            changes: report.changes.iter().map(|change| escaped(change)).collect(),
        }),
        Err(error) => Reply::failed(format!("{shown}: {error}")),
    }
}
