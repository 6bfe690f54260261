//! From the daemon's state to the words of the CLI.

use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

use cambric_api::{Check, Reply, Request};
use cambric_bgp::Admin;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::client::{Operator, Replies};
use super::drain::Way;
use super::words::escaped;
use super::{Fault, drain, links, mrt, peers, policy, protocols, routes, stations, status};
use crate::check;
use crate::discovery::{Found, Neighborhood};
use crate::host::Host;
use crate::intent::Intent;
use crate::state::Shared;

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
        Request::ShowRouteNoexport { peer } => routes::show_noexport(shared, &peer, replies).await?,
        Request::ShowRouteImport { peer } => routes::show_import(shared, &peer, replies).await?,
        Request::ShowRouteRefused { peer } => routes::show_refused(shared, peer.as_deref(), replies).await?,
        Request::ShowMonitoring => stations::show(shared).await?,
        Request::MrtDump => mrt::dump(shared, replies).await?,
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
        Request::Drain { what } => drain::set(shared, what, Way::Drain, &operator),
        Request::Undrain { what } => drain::set(shared, what, Way::Undrain, &operator),
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
    let (now, intent) = (Instant::now(), shared.state.borrow().intent.clone());
    let protocol = |peer| protocols::protocol(peer, intent.as_deref(), now);
    Ok(Reply::protocols(shown.iter().map(protocol).collect()))
}

/// Folders are read one after the other. A file system that hangs keeps one thread then and not one for each who asks;
/// who waits for his turn may leave.
static CHECKING: Semaphore = Semaphore::const_new(1);

/// A folder holds a whole cluster; one beside the API server would be said to take everything else away.
const NO_FOLDER: &str = "the source is the API server, and a check compares a folder with the folder that is in force; \
                         `kubectl diff -f` says what manifests would change, `kubectl apply --dry-run=server -f` \
                         what would be refused";

/// Where the peers are now that are named by an interface: of others nobody knows before it is looked.
fn found_by(intent: &Intent) -> Found {
    let on_links = intent.wanted.peers.keys().filter_map(|at| match (at.interface(), at.ip()) {
        (Some(interface), IpAddr::V6(router)) => Some((interface.to_owned(), router)),
        _ => None,
    });
    let heard = |router| Neighborhood { router: Some(router), ..Neighborhood::default() };
    on_links.map(|(interface, router)| (interface, heard(router))).collect()
}

async fn configure_check(shared: &Shared, path: Option<String>) -> Reply {
    let Some(own) = shared.manifests.clone() else { return Reply::unavailable(NO_FOLDER) };
    let folder = path.map_or(own, Into::into);
    let shown = escaped(&folder.display().to_string());
    let (node, intent) = (shared.node.clone(), shared.state.borrow().intent.clone());
    let judged = shared.policy.cluster();
    let found = intent.as_ref().map(|intent| found_by(intent)).unwrap_or_default();
    let host = Host::of(&shared.routes, &found, &Host::default());
    let Ok(turn) = CHECKING.acquire().await else { return Reply::failed("checks are not made any more") };
    let checked = spawn_blocking(move || {
        // Until it is read, though the client may have left.
        let _turn = turn;
        check::check(Path::new(&folder), &node, &host, intent.as_deref(), judged.as_deref())
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
