//! `show protocols`: a peer as it was configured, as it is, and what was agreed on.
//!
//! Of a key it is said that there is one. A peer's own words are escaped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cambric_api::{
    AddPath, Bfd, BfdRemote, FamilyCounts, FamilyFilters, GracefulRestart, LastError, Protocol, Session,
    Settings, Stale,
};
use cambric_bgp::config::{self, AsOverride, ConnectMode, Distance, Export, Import, ReflectorRole};
use cambric_bgp::peer::Keeping;
use cambric_bgp::policy::filter::Filter;
use cambric_bgp::router::{PeerOrigin, PeerStatus};
use cambric_bgp::session::{Agreed, AsWidth};
use cambric_bgp::types::PeerKind;
use cambric_bgp::{Admin, Asn, Family, PeerConfig};

use super::capabilities;
use super::words::escaped;
use crate::intent::Intent;

/// `intent` knows why somebody is a peer whom no manifest names by address.
pub(super) fn protocol(peer: &PeerStatus, intent: Option<&Intent>, now: Instant) -> Protocol {
    let ago_s = |then: Instant| now.saturating_duration_since(then).as_secs();
    let error = |error: &cambric_bgp::peer::LastError| LastError {
        ago_s: ago_s(error.at),
        what: escaped(&error.what),
    };
    Protocol {
        name: escaped(&peer.config.name),
        address: peer.address.to_string(),
        asn: peer.asn.map_or(0, Asn::value),
        kind: match peer.kind {
            PeerKind::Internal => "internal".to_owned(),
            PeerKind::External => "external".to_owned(),
        },
        found: found(peer, intent),
        settings: Some(settings(&peer.config)),
        state: peer.state.to_string(),
        disabled: peer.admin == Admin::Disabled,
        since_s: ago_s(peer.since),
        last_error: peer.last_error.as_ref().map(error),
        session: peer.session.as_ref().map(|session| self::session(session, &peer.config)),
        families: peer
            .counts
            .iter()
            .map(|(family, counts)| FamilyCounts {
                family: family.to_string(),
                received: counts.received,
                accepted: counts.accepted,
                limit: peer.config.max_prefixes,
                refused: counts.refused,
                not_kept: counts.not_kept,
                sent: counts.sent,
            })
            .collect(),
        flawed_updates: peer.flawed_updates,
        last_flaw: peer.last_flaw.as_ref().map(error),
        stale: peer.stale.iter().map(|stale| self::stale(stale, now)).collect(),
        bfd: peer.bfd.as_ref().map(|status| bfd(status, now)),
    }
}

fn bfd(status: &cambric_bfd::Status, now: Instant) -> Bfd {
    let ago_s = |then: Instant| now.saturating_duration_since(then).as_secs();
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let remote = |remote: cambric_bfd::Remote| BfdRemote {
        state: remote.state.to_string(),
        diagnostic: remote.diagnostic.to_string(),
        control_plane_independent: remote.control_plane_independent,
        transmit_ms: ms(remote.desired_min_tx),
        receive_ms: ms(remote.required_min_rx),
        multiplier: remote.multiplier.get(),
    };
    Bfd {
        state: status.state.to_string(),
        since_s: ago_s(status.since),
        remote: status.remote.map(remote),
        transmit_ms: status.transmit.map(ms),
        detection_ms: status.detection.map(ms),
        ups: status.ups,
        downs: status.downs,
        last_down: status
            .last_down
            .map(|down| LastError { ago_s: ago_s(down.at), what: down.cause.to_string() }),
    }
}

fn found(peer: &PeerStatus, intent: Option<&Intent>) -> String {
    let gateway = intent.and_then(|intent| intent.gateways.get(&peer.address));
    let node = intent.and_then(|intent| intent.mesh.get(&peer.address));
    match (peer.origin, gateway, node) {
        (PeerOrigin::Range(range), ..) => format!("called from {range}"),
        (PeerOrigin::Configured, Some(family), _) => format!("default gateway of {family}"),
        (PeerOrigin::Configured, None, Some(node)) => format!("node {} of the mesh", escaped(node)),
        (PeerOrigin::Configured, None, None) => match peer.address.interface() {
            Some(interface) => format!("interface {}", escaped(interface)),
            None => "address".to_owned(),
        },
    }
}

fn stale(stale: &cambric_bgp::router::Stale, now: Instant) -> Stale {
    let why = match stale.keeping {
        Keeping::Away => "away",
        Keeping::Back => "back",
        Keeping::LongLived => "long-lived",
    };
    Stale {
        family: stale.family.to_string(),
        routes: stale.routes,
        why: why.to_owned(),
        left_s: stale.until.saturating_duration_since(now).as_secs(),
    }
}

/// The longest that it keeps routes as a last resort, if both speak RFC 9494.
fn long_lived_s(session: &cambric_bgp::session::Session) -> Option<u64> {
    let families = &session.peer_long_lived.as_ref()?.families;
    families.iter().map(|entry| entry.stale_time().as_secs()).max()
}

fn settings(config: &PeerConfig) -> Settings {
    Settings {
        asn: config.asn.to_string(),
        local_address: config.transport.local_address.map(|address| address.to_string()),
        local_interface: config.transport.interface.clone(),
        port: config.port,
        passive: config.connect == ConnectMode::Passive,
        active: config.connect == ConnectMode::Active,
        distance: distance(config.transport.distance).to_owned(),
        hops: match config.transport.distance {
            Distance::Adjacent => None,
            Distance::Within(hops) | Distance::Multihop(hops) => Some(hops),
        },
        md5: config.transport.password.is_some(),
        local_asn: config.local_asn.map(Asn::value),
        as_override: config.as_override == AsOverride::On,
        own_as: config.allow_own_as,
        reflector_client: config.role == ReflectorRole::Client,
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
        warn_at_percent: config.warn_at_percent,
        filters: config.policy.filters.iter().map(filters).collect(),
        restart_time_s: config.restart.restart_time.map(|time| time.as_secs()),
        long_lived_s: Some(config.restart.long_lived.as_secs()),
        add_path: config.add_path.iter().filter_map(add_path).collect(),
        local_role: config.local_role.map(|local| local.role.to_string()),
        strict_role: config.local_role.is_some_and(|local| local.silence == config::Silence::Refused),
    }
}

/// `None` where it says nothing.
fn add_path((family, config::AddPath { receive, send }): (&Family, &config::AddPath)) -> Option<AddPath> {
    let receive = *receive == config::Receive::Several;
    (receive || send.is_some()).then(|| AddPath {
        family: family.to_string(),
        receive,
        send: send.map(std::num::NonZeroU8::get),
    })
}

fn distance(distance: Distance) -> &'static str {
    match distance {
        Distance::Adjacent => "adjacent",
        Distance::Within(_) => "ttl-security",
        Distance::Multihop(_) => "multihop",
    }
}

fn session(session: &cambric_bgp::session::Session, config: &PeerConfig) -> Session {
    let families =
        |families: &mut dyn Iterator<Item = Family>| families.map(|family| family.to_string()).collect();
    let keepalive = session.hold_time.keepalive(config.keepalive);
    Session {
        router_id: session.peer_id.to_string(),
        hold_time_s: session.hold_time.as_secs(),
        keepalive_ms: keepalive.map(|interval| u64::try_from(interval.as_millis()).unwrap_or(u64::MAX)),
        families: families(&mut session.families.iter().copied()),
        as_octets: match session.as_width {
            AsWidth::Two => 2,
            AsWidth::Four => 4,
        },
        most_message_bytes: session.most_message_bytes,
        route_refresh: session.route_refresh == Agreed::Yes,
        enhanced_refresh: session.enhanced_refresh == Agreed::Yes,
        graceful_notification: session.graceful_notification == Agreed::Yes,
        long_lived_s: long_lived_s(session),
        several_received: families(&mut session.add_path.receive.iter().copied()),
        several_sent: families(&mut session.add_path.send.iter().copied()),
        we_offered: capabilities::words(&session.offered.ours),
        it_offered: capabilities::words(&session.offered.theirs),
        graceful_restart: session.peer_restart.as_ref().map(|restart| GracefulRestart {
            restarted: restart.restarted,
            restart_time_s: restart.restart_time_s,
            families: families(&mut restart.families.iter().filter_map(|entry| entry.family.family())),
        }),
    }
}

fn filters((family, filters): (&Family, &config::FamilyFilters)) -> FamilyFilters {
    let names = |filters: &[Arc<Filter>]| filters.iter().map(|filter| escaped(&filter.name)).collect();
    FamilyFilters {
        family: family.to_string(),
        import: names(&filters.import),
        export: names(&filters.export),
    }
}
