//! `show status`: the daemon on one page.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

use cambric_api::{HttpStatus, Keeping, KernelStatus, NodeAddress, Reply, Status};
use cambric_bgp::Admin;
use cambric_bgp::peer::PeerState;
use cambric_bgp::router::PeerStatus;
use cambric_routes::Snapshot;
use cambric_speaker::Gone;

use super::words::escaped;
use super::{cluster, drain, peers, policy};
use crate::health;
use crate::intent::Intent;
use crate::own_address::Choice;
use crate::pod_routes::PodRoutes;
use crate::state::Shared;

/// Most lines of one kind: whatever happened to a table of thousands, the page stays one.
const FEW: usize = 20;

/// A peer that was just configured, enabled or restarted is no matter for the operator yet.
const FIRST_CONTACT: Duration = Duration::from_secs(10);

/// Names this process among all that ever had its number: in a container that is always 1.
static RUN: LazyLock<String> = LazyLock::new(|| {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}", std::process::id(), since_1970.as_millis())
});

/// `show status`
pub(super) async fn show(shared: &Shared) -> Result<Reply, Gone> {
    let state = shared.state.borrow().clone();
    let peers = peers::all_so_far(shared).await?;
    // The routes task ends only with the daemon.
    let snapshot = shared.routes.snapshot().await.ok();
    let cluster = shared.health().map(|health| cluster::status(&health, SystemTime::now()));
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
        peer_problems: peer_problems(&peers, Instant::now()),
        notices: peers::notices(shared, &peers).await,
        draining: drain::shown(&shared.drains.now(), Instant::now()),
        originated: state.originated,
        peers_established: peers.iter().filter(|peer| peer.state == PeerState::Established).count(),
        peers_total: peers.len(),
        kernel: snapshot.iter().flat_map(kernel).collect(),
        policy: Some(policy::status(shared)),
        keeping: snapshot.map(|snapshot| keeping(&snapshot, &state.pod_routes)).unwrap_or_default(),
        cluster,
        addresses: state.intent.as_deref().map(addresses).unwrap_or_default(),
        uplinks: state.intent.iter().flat_map(|intent| intent.uplinks.clone()).collect(),
        http: Some(http(shared)),
    }))
}

fn addresses(intent: &Intent) -> Vec<NodeAddress> {
    let said = |choice: &Choice| NodeAddress {
        address: choice.address.to_string(),
        from: choice.from.to_string(),
        interface: choice.interface.clone(),
    };
    intent.choices.values().map(said).collect()
}

fn http(shared: &Shared) -> HttpStatus {
    let listening = shared.http.borrow();
    let places = |addresses: &[SocketAddr]| addresses.iter().map(SocketAddr::to_string).collect();
    HttpStatus {
        health: places(&listening.health),
        metrics: places(&listening.metrics),
        missing: health::missing(shared).iter().map(|what| escaped(what)).collect(),
    }
}

fn kernel(snapshot: &Snapshot) -> [KernelStatus; 2] {
    cambric_routes::Family::ALL.map(|family| {
        let is_of_family = |hop: &cambric_routes::Hop| cambric_routes::Family::of(hop.gateway) == family;
        KernelStatus {
            family: family.to_string(),
            wanted: *snapshot.wanted.get(family),
            installed: *snapshot.learned.get(family) + *snapshot.unreachable.get(family),
            stale: *snapshot.stale.get(family),
            groups: snapshot.groups.values().filter(|group| group.hops.iter().any(is_of_family)).count(),
        }
    })
}

fn kernel_problems(snapshot: &Snapshot) -> Vec<String> {
    let foreign = few(
        "kernel",
        snapshot.conflicts.iter().map(|(prefix, protocol)| {
            format!("kernel: {prefix}: a foreign route (protocol {protocol}) has the place of ours")
        }),
    );
    let hidden = few(
        "kernel",
        snapshot.hidden.iter().map(|(prefix, by)| {
            let (metric, protocol) = (by.metric, protocol(by.protocol));
            format!(
                "kernel: {prefix}: a foreign route (protocol {protocol}, metric {metric}) goes before ours"
            )
        }),
    );
    let contested = snapshot.contested.first_key_value().map(|(prefix, _)| {
        let count = snapshot.contested.len();
        format!("kernel: another program keeps undoing {count} of our routes ({prefix}); each is repaired once a second")
    });
    let borrowed = snapshot.borrowed.keys();
    let borrowed = few(
        "kernel",
        borrowed.map(|id| format!("kernel: next hop {id}: only other programs point to it; kept for them")),
    );
    let failing = (snapshot.failing > 0)
        .then(|| format!("kernel: it refuses the routes to {} prefixes; tried again", snapshot.failing));
    foreign.into_iter().chain(hidden).chain(contested).chain(borrowed).chain(failing).collect()
}

/// A route's protocol by number, and by name if `ip route` has one (`/etc/iproute2/rt_protos`).
fn protocol(number: u8) -> String {
    let name = match number {
        3 => " boot",
        4 => " static",
        9 => " ra",
        11 => " zebra",
        12 => " bird",
        16 => " dhcp",
        186 => " bgp",
        188 => " ospf",
        _ => "",
    };
    format!("{number}{name}")
}

fn peer_problems(peers: &[PeerStatus], now: Instant) -> Vec<String> {
    let is_down = |peer: &&PeerStatus| {
        let is_young = now.saturating_duration_since(peer.expected_since) < FIRST_CONTACT;
        peer.admin == Admin::Enabled && peer.state != PeerState::Established && !is_young
    };
    let down: Vec<String> = peers.iter().filter(is_down).map(|peer| why_down(peer, now)).collect();
    let over: Vec<String> = peers.iter().filter_map(over_limit).collect();
    [few("peers", down.into_iter()), few("peers", over.into_iter())].concat()
}

fn why_down(peer: &PeerStatus, now: Instant) -> String {
    let (name, address, state) = (escaped(&peer.config.name), &peer.address, peer.state);
    let why = peer.last_error.as_ref().map(|error| {
        let ago_s = now.saturating_duration_since(error.at).as_secs();
        format!(": {} ({ago_s} s ago)", escaped(&error.what))
    });
    format!("peer {name} ({address}) is down ({state}){}", why.unwrap_or_default())
}

fn over_limit(peer: &PeerStatus) -> Option<String> {
    let not_kept: usize = peer.counts.values().map(|counts| counts.not_kept).sum();
    let (name, address, limit) = (escaped(&peer.config.name), &peer.address, peer.config.max_prefixes);
    (not_kept > 0).then(|| {
        format!(
            "peer {name} ({address}) tells more than its {limit} routes: {not_kept} are refused and not kept"
        )
    })
}

/// The first of many lines about `whom`, and how many more there are.
fn few(whom: &str, lines: impl ExactSizeIterator<Item = String>) -> Vec<String> {
    let more = lines.len().saturating_sub(FEW);
    let mut few: Vec<String> = lines.take(FEW).collect();
    few.extend((more > 0).then(|| format!("{whom}: and {more} more of this kind")));
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
    use std::collections::BTreeMap;
    use std::net::{IpAddr, Ipv4Addr};

    use cambric_bgp::peer::LastError;
    use cambric_bgp::rib::Counts;
    use cambric_bgp::router::PeerOrigin;
    use cambric_bgp::types::PeerKind;
    use cambric_bgp::{Asn, Family, PeerConfig, PeerId};

    use super::*;

    const YOUNG: Duration = Duration::from_secs(9);
    const LATER: Duration = Duration::from_secs(70);

    fn peer(state: PeerState, admin: Admin, began: Instant) -> PeerStatus {
        let address = IpAddr::from(Ipv4Addr::new(192, 0, 2, 2));
        PeerStatus {
            id: PeerId(1),
            address: address.into(),
            origin: PeerOrigin::Configured,
            config: PeerConfig::new("bird", address, Asn::new(65001).expect("not 0")),
            asn: Asn::new(65001),
            kind: PeerKind::External,
            admin,
            state,
            since: began,
            expected_since: began,
            session: None,
            last_error: Some(LastError { at: began, what: "connect: Connection refused".to_owned() }),
            flawed_updates: 0,
            last_flaw: None,
            bfd: None,
            stale: Vec::new(),
            counts: BTreeMap::new(),
        }
    }

    #[test]
    fn peer_that_is_down_is_a_problem_unless_it_is_disabled_or_new() {
        let began = Instant::now();
        let problems = |state, admin, after| peer_problems(&[peer(state, admin, began)], began + after);
        let down = "peer bird (192.0.2.2) is down (Active): connect: Connection refused (70 s ago)";
        assert_eq!(problems(PeerState::Active, Admin::Enabled, LATER), [down]);
        assert_eq!(problems(PeerState::Active, Admin::Enabled, YOUNG), [""; 0]);
        assert_eq!(problems(PeerState::Idle, Admin::Disabled, LATER), [""; 0]);
        assert_eq!(problems(PeerState::Established, Admin::Enabled, LATER), [""; 0]);
    }

    #[test]
    fn peer_that_tells_more_than_it_may_is_a_problem() {
        let began = Instant::now();
        let mut peer = peer(PeerState::Established, Admin::Enabled, began);
        peer.counts.insert(Family::Ipv4, Counts { not_kept: 5, ..Counts::default() });
        let over = "peer bird (192.0.2.2) tells more than its 20000 routes: 5 are refused and not kept";
        assert_eq!(peer_problems(&[peer], began), [over]);
    }

    #[test]
    fn thousands_of_one_kind_are_a_few_lines_and_a_number() {
        let lines = |count: usize| few("kernel", (0..count).map(|index| format!("line {index}")));
        assert_eq!(lines(FEW).len(), FEW);
        assert_eq!(lines(1000).len(), FEW + 1);
        assert_eq!(lines(1000)[FEW], "kernel: and 980 more of this kind");
    }
}
