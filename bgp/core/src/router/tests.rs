use super::*;
use crate::attributes::Attributes;
use crate::config::{LinkAddress, RouterConfig};
use crate::types::{HoldTime, RouterId};
use crate::wire::{Capability, Open, capability, frame, update};

const PEER: [u8; 4] = [192, 0, 2, 2];

fn at(address: [u8; 4]) -> ScopedAddress {
    IpAddr::from(address).into()
}

fn asn(value: u32) -> Asn {
    Asn::new(value).expect("not 0")
}

fn wanted() -> Wanted {
    let router_id = RouterId::new(1).expect("not 0");
    let mut wanted = Wanted::new(RouterConfig::new(asn(65001), router_id));
    let address = LinkAddress::new([192, 0, 2, 1].into(), 24).expect("length");
    wanted.links = vec![Link { name: "eth1".to_owned(), state: LinkState::Up, addresses: vec![address] }];
    wanted.declared.pods = vec!["10.244.0.0/16".parse().expect("prefix")];
    wanted.peers.insert(at(PEER), PeerConfig::new("peer", PEER.into(), asn(65002)));
    wanted
}

/// A session that `peer` opens.
fn establish(router: &mut Router, now: Instant, peer: [u8; 4], more: &[Capability]) -> ConnId {
    let conn = router.handle_accepted(now, [192, 0, 2, 1].into(), at(peer)).expect("a peer");
    let [.., last] = peer;
    let mut capabilities =
        vec![Capability::MultiProtocol(Family::Ipv4.into()), capability::four_octet_as(asn(65002))];
    capabilities.extend_from_slice(more);
    let open = Open {
        asn: asn(65002),
        hold_time: HoldTime::DEFAULT,
        router_id: RouterId::new(u32::from(last)).expect("not 0"),
        capabilities,
    };
    let mut octets = Vec::new();
    open.write(&mut octets);
    frame::write_keepalive(&mut octets);
    router.handle_bytes(now, conn, &octets);
    conn
}

/// Tells 10.244.2.0/24 over `next_hop`.
fn tell(router: &mut Router, now: Instant, conn: ConnId, next_hop: [u8; 4]) {
    let session = router.peers().into_iter().find_map(|peer| peer.session).expect("established");
    let mut attributes = Attributes::originated(next_hop.into());
    attributes.as_path = [asn(65002)].into_iter().collect();
    let prefix: Prefix = "10.244.2.0/24".parse().expect("prefix");
    let mut octets = Vec::new();
    update::write_announce(&mut octets, &session, &attributes.into(), &[prefix.into()]).expect("short");
    router.handle_bytes(now, conn, &octets);
}

fn actions(router: &mut Router) -> Vec<Action> {
    std::iter::from_fn(|| router.poll_action()).collect()
}

/// A session over which one route came.
fn with_one_route(now: Instant) -> (Router, ConnId) {
    let mut router = Router::new(now, wanted(), Restarted::No, BTreeSet::new(), 7);
    let conn = establish(&mut router, now, PEER, &[]);
    tell(&mut router, now, conn, PEER);
    actions(&mut router);
    assert_eq!(router.poll_route_change().expect("learned").next_hops, [at(PEER)].into());
    (router, conn)
}

#[test]
fn a_route_that_is_back_before_the_kernel_heard_of_its_loss_is_told_again() {
    let now = Instant::now();
    let (mut router, conn) = with_one_route(now);
    router.handle_closed(now, conn, "connection lost");
    assert!(actions(&mut router).contains(&Action::NextHopLost(at(PEER))));
    let conn = establish(&mut router, now, PEER, &[]);
    tell(&mut router, now, conn, PEER);
    assert_eq!(router.poll_route_change().expect("told again").next_hops, [at(PEER)].into());
}

#[test]
fn a_gateway_that_a_restarting_peer_vouches_for_is_not_lost_with_another() {
    const OTHER: [u8; 4] = [192, 0, 2, 3];
    const SHARED: [u8; 4] = [192, 0, 2, 9];
    let now = Instant::now();
    let mut wanted = wanted();
    wanted.peers.insert(at(OTHER), PeerConfig::new("other", OTHER.into(), asn(65002)));
    let mut router = Router::new(now, wanted, Restarted::No, BTreeSet::new(), 7);
    let restart = Capability::GracefulRestart(GracefulRestart {
        restarted: false,
        notification: false,
        restart_time_s: 120,
        families: vec![RestartFamily { family: Family::Ipv4.into(), forwarding_kept: true }],
    });
    let restarting = establish(&mut router, now, PEER, &[restart]);
    tell(&mut router, now, restarting, SHARED);
    let other = establish(&mut router, now, OTHER, &[]);
    tell(&mut router, now, other, SHARED);
    router.handle_closed(now, restarting, "connection lost");
    router.handle_closed(now, other, "connection lost");
    assert!(!actions(&mut router).contains(&Action::NextHopLost(at(SHARED))));
}

#[test]
fn a_lost_gateway_is_told_before_the_table_work_is_done() {
    let now = Instant::now();
    let (mut router, conn) = with_one_route(now);
    router.handle_closed(now, conn, "connection lost");
    assert_eq!(router.poll_action(), Some(Action::NextHopLost(at(PEER))));
    assert!(!router.routes_to(&router.prefixes(Part::All)).is_empty(), "the table is as it was");
    while router.poll_action().is_some() {}
    assert!(router.routes_to(&router.prefixes(Part::All)).is_empty());
    assert!(router.poll_route_change().expect("withdrawn").next_hops.is_empty());
}

#[test]
fn table_work_is_not_forgotten_when_another_call_comes_first() {
    let now = Instant::now();
    let (mut router, conn) = with_one_route(now);
    router.handle_closed(now, conn, "connection lost");
    router.handle_timeout(now + Duration::from_secs(1));
    assert!(router.poll_route_change().expect("withdrawn").next_hops.is_empty());
}

/// Seconds after which nothing of an earlier run is held back any more, if the first attempt ends so.
fn converged_after(restarted: Restarted, end: fn(&mut Router, Instant, ConnId)) -> Option<u64> {
    let now = Instant::now();
    let mut router = Router::new(now, wanted(), restarted, BTreeSet::new(), 7);
    let Some(Action::Connect { conn, .. }) = router.poll_action() else { panic!("no attempt") };
    end(&mut router, now, conn);
    (0..120).find(|second| {
        router.handle_timeout(now + Duration::from_secs(*second));
        router.is_converged(Family::Ipv4)
    })
}

#[test]
fn a_peer_that_refuses_is_waited_for_ten_seconds_after_a_restart_and_not_after_a_first_start() {
    let refused = |router: &mut Router, now: Instant, conn: ConnId| {
        router.handle_connect_failed(now, conn, "connection refused");
    };
    let turned_away = |router: &mut Router, now: Instant, conn: ConnId| {
        router.handle_connected(now, conn, [192, 0, 2, 1].into());
        router.handle_closed(now, conn, "connection closed by the peer");
    };
    let told_why = |router: &mut Router, now: Instant, conn: ConnId| {
        router.handle_connected(now, conn, [192, 0, 2, 1].into());
        let mut octets = Vec::new();
        let shutdown = Notification::new(code::CEASE, cease::ADMINISTRATIVE_SHUTDOWN);
        frame::write_notification(&mut octets, &shutdown);
        router.handle_bytes(now, conn, &octets);
    };
    let restarted = || Restarted::Yes { kept: Family::ALL.into() };
    for end in [refused, turned_away, told_why] {
        assert_eq!(converged_after(restarted(), end), Some(10));
        assert_eq!(converged_after(Restarted::No, end), Some(0));
    }
}

#[test]
fn a_peer_that_refuses_and_connects_itself_is_waited_for() {
    let now = Instant::now();
    let mut router = Router::new(now, wanted(), Restarted::No, BTreeSet::new(), 7);
    let Some(Action::Connect { conn, .. }) = router.poll_action() else { panic!("no attempt") };
    let own = router.handle_accepted(now, [192, 0, 2, 1].into(), at(PEER)).expect("a peer");
    router.handle_connect_failed(now, conn, "connection refused");
    assert!(!router.is_converged(Family::Ipv4));
    router.handle_closed(now, own, "connection closed by the peer");
    assert!(router.is_converged(Family::Ipv4));
}

#[test]
fn prefix_that_is_not_there_is_left_out_of_a_listing() {
    let now = Instant::now();
    let mut router = Router::new(now, wanted(), Restarted::No, BTreeSet::new(), 1);
    let conn = establish(&mut router, now, PEER, &[]);
    tell(&mut router, now, conn, PEER);
    let peer = router.peer_at(at(PEER)).expect("configured");
    let known = router.prefixes(Part::ToldBy(peer));
    let unknown: Prefix = "198.51.100.0/24".parse().expect("prefix");
    let asked = [&known[..], &[unknown]].concat();
    let found: Vec<Prefix> = router.routes_to(&asked).iter().map(|route| route.prefix).collect();
    assert_eq!((found, router.sent(peer, &[unknown])), (known, Vec::new()));
}

#[test]
fn address_without_peer_can_be_disabled_and_enabled() {
    let now = Instant::now();
    let mut router = Router::new(now, wanted(), Restarted::No, BTreeSet::new(), 1);
    let absent = at([192, 0, 2, 9]);
    router.set_admin_at(now, absent.clone(), Admin::Disabled);
    router.set_admin_at(now, at(PEER), Admin::Disabled);
    assert_eq!(router.disabled(), &BTreeSet::from([absent.clone(), at(PEER)]));
    assert!(router.peers().iter().all(|peer| peer.admin == Admin::Disabled));
    router.set_admin_at(now, absent, Admin::Enabled);
    router.set_admin_at(now, at(PEER), Admin::Enabled);
    assert_eq!(router.disabled(), &BTreeSet::new());
    assert!(router.peers().iter().all(|peer| peer.admin == Admin::Enabled));
}

/// FRR takes a connection beside an Established one for a restart of ours, and never reads that it was reset.
#[test]
fn a_peer_has_time_to_read_why_before_it_is_connected_to_whatever_is_wished_meanwhile() {
    type Wish = fn(&mut Router, Instant);
    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
    let restart: Wish = |router, now| router.restart(now, router.peer_at(ADDRESS).expect("configured"));
    let disable: Wish = |router, now| router.set_admin_at(now, ADDRESS, Admin::Disabled);
    let enable: Wish = |router, now| router.set_admin_at(now, ADDRESS, Admin::Enabled);
    let remove: Wish = |router, now| {
        router.apply(now, Wanted { peers: BTreeMap::new(), ..wanted() });
    };
    let add_back: Wish = |router, now| router.apply(now, wanted());
    let rename: Wish = |router, now| {
        let mut wanted = wanted();
        wanted.router.asn = asn(65009);
        router.apply(now, wanted);
    };
    let connects = |action: &Action| matches!(action, Action::Connect { .. });
    let table: &[&[Wish]] = &[
        &[restart],
        &[restart, restart],
        &[disable, enable],
        &[restart, rename],
        &[rename, restart, restart],
        &[remove, add_back],
        &[remove, add_back, restart],
    ];
    for (row, wishes) in table.iter().enumerate() {
        let start = Instant::now();
        let (mut router, _) = with_one_route(start);
        actions(&mut router);
        for (at_ms, wish) in (0..).step_by(50).zip(*wishes) {
            wish(&mut router, start + Duration::from_millis(at_ms));
        }
        router.handle_timeout(start + Duration::from_millis(199));
        assert!(!actions(&mut router).iter().any(connects), "row {row}");
        router.handle_timeout(start + Duration::from_millis(200));
        assert!(actions(&mut router).iter().any(connects), "row {row}");
    }
}
