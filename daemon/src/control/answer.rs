//! From the daemon's state to the words of the CLI.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use cambric_api::{
    FamilyCounts, GracefulRestart, KernelStatus, LastError, Path, Protocol, Reply, Request, Route, Session,
    Status,
};
use cambric_bgp::peer::PeerState;
use cambric_bgp::rib::{PathInfo, Reason, RouteInfo, Verdict};
use cambric_bgp::router::PeerStatus;
use cambric_bgp::session::{Agreed, AsWidth};
use cambric_bgp::types::PeerKind;
use cambric_bgp::{Family, PeerId, Prefix, Router};
use cambric_speaker::{Gone, Handle};

use crate::state::Shared;

/// Answers one request.
pub(super) async fn answer(request: Request, shared: &Shared) -> Reply {
    let answered = match request {
        Request::ShowStatus => show_status(shared).await,
        Request::ShowProtocols { peer } => show_protocols(shared, peer).await,
        Request::ShowRoute { address } => show_route(shared, address).await,
    };
    answered.unwrap_or_else(|gone| Reply { code: 8001, body: cambric_api::Body::Error(gone.to_string()) })
}

fn speaker(shared: &Shared) -> Option<Handle> {
    shared.state.borrow().speaker.clone()
}

async fn show_status(shared: &Shared) -> Result<Reply, Gone> {
    let state = shared.state.borrow().clone();
    let peers = match &state.speaker {
        Some(speaker) => speaker.look(Router::peers).await?,
        None => Vec::new(),
    };
    let mut problems = state.problems;
    let mut kernel = Vec::new();
    // The routes task ends only with the daemon.
    if let Ok(snapshot) = shared.routes.snapshot().await {
        kernel.extend(cambric_routes::Family::ALL.map(|family| {
            KernelStatus {
                family: family.to_string(),
                wanted: *snapshot.wanted.get(family),
                installed: *snapshot.learned.get(family) + *snapshot.unreachable.get(family),
                groups: snapshot
                    .groups
                    .values()
                    .filter(|group| {
                        group.hops.iter().any(|hop| cambric_routes::Family::of(hop.gateway) == family)
                    })
                    .count(),
            }
        }));
        problems.extend(snapshot.conflicts.iter().map(|(prefix, protocol)| {
            format!("kernel: {prefix}: a foreign route (protocol {protocol}) has the place of ours")
        }));
    }
    Ok(Reply::status(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: shared.node.clone(),
        router_id: state.router_id,
        asn: state.asn,
        uptime_s: shared.started_at.elapsed().as_secs(),
        source: shared.source.clone(),
        ready: state.ready,
        waiting_for: state.waiting_for,
        problems,
        originated: state.originated,
        peers_established: peers.iter().filter(|peer| peer.state == PeerState::Established).count(),
        peers_total: peers.len(),
        kernel,
    }))
}

async fn show_protocols(shared: &Shared, wanted: Option<String>) -> Result<Reply, Gone> {
    let mut peers = match speaker(shared) {
        Some(speaker) => speaker.look(Router::peers).await?,
        None => Vec::new(),
    };
    if let Some(wanted) = wanted {
        let address: Option<IpAddr> = wanted.parse().ok();
        peers.retain(|peer| peer.config.name == wanted || Some(peer.address) == address);
        if peers.is_empty() {
            return Ok(Reply::no_such("peer", &wanted));
        }
    }
    let now = Instant::now();
    Ok(Reply::protocols(peers.iter().map(|peer| protocol(peer, now)).collect()))
}

async fn show_route(shared: &Shared, address: Option<String>) -> Result<Reply, Gone> {
    let Some(speaker) = speaker(shared) else { return Ok(Reply::routes(Vec::new())) };
    let address = match address.map(|text| text.parse::<IpAddr>().map_err(|error| (text, error))) {
        None => None,
        Some(Ok(address)) => Some(address),
        Some(Err((text, error))) => return Ok(Reply::not_understood(format!("for \"{text}\": {error}"))),
    };
    let (routes, names) = speaker.look(move |router| (matching(router, address), names(router))).await?;
    Ok(Reply::routes(routes.iter().map(|info| route(info, &names)).collect()))
}

/// All routes, or the most specific one that holds `address` and can be used.
fn matching(router: &Router, address: Option<IpAddr>) -> Vec<RouteInfo> {
    let Some(address) = address else { return router.routes(|_| true) };
    let holding = router.routes(|prefix| prefix.contains(address));
    let usable = |info: &RouteInfo| info.paths.iter().any(|path| path.verdict == Verdict::Best);
    let best = holding.iter().filter(|info| usable(info)).max_by_key(|info| info.prefix.length());
    best.or(holding.iter().max_by_key(|info| info.prefix.length())).cloned().into_iter().collect()
}

fn names(router: &Router) -> BTreeMap<PeerId, String> {
    router.peers().into_iter().map(|peer| (peer.id, peer.config.name)).collect()
}

/// Peers and their words come from outside: nothing of it may steer a terminal.
fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
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

fn route(info: &RouteInfo, names: &BTreeMap<PeerId, String>) -> Route {
    let prefix: Prefix = info.prefix;
    Route {
        prefix: prefix.to_string(),
        paths: info.paths.iter().map(|path| self::path(path, names)).collect(),
    }
}

fn path(path: &PathInfo, names: &BTreeMap<PeerId, String>) -> Path {
    let (verdict, reason) = match path.verdict {
        Verdict::Best => ("best", None),
        Verdict::Lost(Reason::Multipath) => ("multipath", None),
        Verdict::Lost(reason) => ("lost", Some(reason.name().to_owned())),
        Verdict::Refused(refusal) => ("refused", Some(refusal.name().to_owned())),
    };
    let attributes = &path.attributes;
    Path {
        peer: path.peer.and_then(|id| names.get(&id)).map(|name| escaped(name)),
        next_hop: path.peer.map(|_| attributes.next_hop.to_string()),
        verdict: verdict.to_owned(),
        reason,
        stale: path.stale,
        as_path: attributes.as_path.asns().iter().map(|asn| asn.value()).collect(),
        origin: attributes.origin.to_string(),
        local_pref: attributes.local_pref.map(|value| value.0),
        med: attributes.med.map(|value| value.0),
        communities: attributes.communities.iter().map(ToString::to_string).collect(),
        large_communities: attributes.large_communities.iter().map(ToString::to_string).collect(),
    }
}
