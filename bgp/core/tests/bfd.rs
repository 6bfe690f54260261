//! A session of BFD beside that of BGP: RFC 5882, RFC 9384.

mod support;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::time::Duration;

use cambric_bfd::{Config, Diagnostic, Discriminator, Down, DownCause, Remote, State, Status};
use cambric_bgp::peer::PeerState;
use cambric_bgp::router::{BfdSession, PeerStatus, Restarted};
use cambric_bgp::wire::Notification;
use cambric_bgp::{Action, Admin, ConnId, Family, PeerConfig, ScopedAddress, Wanted};
use support::scripted::{Device, Message, capability, keepalive, message, open};
use support::{ip, neighbor, secs};

const A: &str = "10.2.0.1";
const B: &str = "10.2.0.2";
const C: &str = "10.2.0.3";

/// Graceful restart of IPv4 for 120 s, without and with RFC 8538.
const RESTART: &[u8] = &[64, 6, 0x00, 120, 0, 1, 1, 0x80];
const RESTART_AND_NOTIFICATION: &[u8] = &[64, 6, 0x40, 120, 0, 1, 1, 0x80];

const SILENCE: DownCause = DownCause::DetectionTimeExpired(Duration::from_millis(900));
const SAID_DOWN: DownCause = DownCause::NeighborSignaledDown(Diagnostic::DETECTION_TIME_EXPIRED);

fn watched(asn: u32, address: &str) -> (ScopedAddress, PeerConfig) {
    let (address, config) = neighbor(asn, address);
    (address, PeerConfig { bfd: Some(Config::default()), ..config })
}

fn wanted() -> Wanted {
    support::speaker(65001, A, [watched(65002, B)], &[])
}

/// With a session of BGP, over which B told a route.
fn device(capabilities: &[&[u8]]) -> (Device, ConnId) {
    let mut device = Device::new(wanted());
    let conn = device.accept(ip(A), ip(B));
    device.advance(secs(1));
    let as4 = capability::four_octet_as(65002);
    let usual = [capability::IPV4, as4.as_slice()];
    device.send(conn, &open(65002, [10, 2, 0, 2], &[&usual[..], capabilities].concat()));
    device.send(conn, &keepalive());
    let attributes = [0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xFD, 0xEA, 0x40, 3, 4, 10, 2, 0, 2];
    device.send(conn, &message(2, &[&[0, 0, 0, 20][..], &attributes, &[24, 10, 244, 2]].concat()));
    // The other family had its time, too.
    device.advance(secs(20));
    device.send(conn, &keepalive());
    assert_eq!((status(&device).state, device.fib.len()), (PeerState::Established, 1));
    device.actions.clear();
    device.received(conn);
    (device, conn)
}

fn status(device: &Device) -> PeerStatus {
    let peer = device.router.peer_at(ip(B)).expect("configured");
    device.router.peer(peer).expect("configured")
}

/// A session that came up, and was lost so often.
fn bfd(device: &Device, state: State, downs: u64, down: Option<Down>) -> Status {
    Status {
        state,
        since: device.now,
        discriminator: Discriminator::MIN,
        remote: Some(Remote {
            state,
            diagnostic: Diagnostic::NONE,
            discriminator: Discriminator::MAX,
            control_plane_independent: false,
            multiplier: NonZeroU8::MIN,
            desired_min_tx: Duration::from_millis(300),
            required_min_rx: Duration::from_millis(300),
        }),
        transmit: None,
        detection: None,
        last_down: down,
        ups: 1,
        downs,
    }
}

fn tell(device: &mut Device, status: Option<Status>) {
    device.call(|router, now| {
        let peer = router.peer_at(ip(B)).expect("configured");
        router.handle_bfd(now, peer, status);
    });
}

fn up(device: &mut Device) {
    let up = bfd(device, State::Up, 0, None);
    tell(device, Some(up));
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Shared,
    Independent,
}

fn lose(device: &mut Device, cause: DownCause, fate: Fate) {
    let control_plane_independent = fate == Fate::Independent;
    let down = Down { at: device.now, cause, control_plane_independent };
    let down = bfd(device, State::Down, 1, Some(down));
    tell(device, Some(down));
}

fn said(device: &mut Device, conn: ConnId) -> Option<Notification> {
    device.received(conn).iter().find_map(Message::notification)
}

fn sessions(device: &mut Device) -> Option<Vec<IpAddr>> {
    let sessions = device.router.poll_bfd()?;
    Some(sessions.values().map(|BfdSession { address, .. }| *address).collect())
}

#[test]
fn sessions_are_wanted_with_peers_that_have_it_and_are_enabled() {
    let both = support::speaker(65001, A, [watched(65002, B), neighbor(65003, C)], &[]);
    let mut device = Device::new(both.clone());
    assert_eq!(sessions(&mut device), Some(vec![ip(B)]));
    assert_eq!(sessions(&mut device), None, "nothing changed");
    device.apply(both.clone());
    assert_eq!(sessions(&mut device), None, "nothing changed");
    device.call(|router, now| router.set_admin_at(now, ip(B), Admin::Disabled));
    assert_eq!(sessions(&mut device), Some(vec![]));
    device.call(|router, now| router.set_admin_at(now, ip(B), Admin::Enabled));
    assert_eq!(sessions(&mut device), Some(vec![ip(B)]));
    device.apply(Wanted { peers: BTreeMap::new(), ..both });
    assert_eq!(sessions(&mut device), Some(vec![]));
}

#[test]
fn a_lost_path_ends_the_session_and_turns_traffic_away_first() {
    for cause in [SILENCE, SAID_DOWN] {
        let (mut device, conn) = device(&[]);
        up(&mut device);
        assert_eq!(device.actions, []);
        lose(&mut device, cause, Fate::Shared);
        let sent = said(&mut device, conn).expect("RFC 9384");
        assert_eq!((sent.code, sent.subcode), (6, 10));
        let lost = device.actions.iter().position(|action| *action == Action::NextHopLost(ip(B).into()));
        assert!(lost.is_some(), "{:?}", device.actions);
        assert!(device.fib.is_empty());
        let why = status(&device).last_error.expect("known").what;
        assert_eq!(why, format!("sent Cease: BFD Down (6/10): {cause}"));
        assert_eq!(status(&device).bfd.expect("kept for display").state, State::Down);
    }
}

#[test]
fn no_route_outlives_a_lost_path_whatever_was_agreed_on_for_restarts() {
    for capabilities in [RESTART, RESTART_AND_NOTIFICATION] {
        let (mut device, conn) = device(&[capabilities]);
        up(&mut device);
        lose(&mut device, SILENCE, Fate::Shared);
        let sent = said(&mut device, conn).expect("RFC 9384");
        assert_eq!((sent.meant().code, sent.meant().subcode), (6, 10));
        assert_eq!(sent.is_hard_reset(), capabilities == RESTART_AND_NOTIFICATION, "RFC 9384 section 3");
        assert!(device.fib.is_empty() && status(&device).stale.is_empty());
    }
}

#[test]
fn after_that_the_peer_is_tried_again_by_and_by_and_not_in_a_loop() {
    let (mut device, _) = device(&[]);
    up(&mut device);
    lose(&mut device, SILENCE, Fate::Shared);
    device.actions.clear();
    device.advance(secs(10));
    let tried = device.actions.iter().filter(|action| matches!(action, Action::Connect { .. })).count();
    assert!((1..=4).contains(&tried), "{tried} attempts in 10 s");
}

#[test]
fn admin_down_of_the_peer_ends_nothing() {
    let (mut device, conn) = device(&[]);
    up(&mut device);
    lose(&mut device, DownCause::NeighborAdminDown, Fate::Shared);
    tell(&mut device, None);
    assert_eq!((said(&mut device, conn), device.actions.as_slice()), (None, &[][..]));
    assert_eq!(status(&device).state, PeerState::Established);
}

#[test]
fn a_session_that_never_was_up_ends_nothing_and_one_that_ended_before_neither() {
    let (mut device, conn) = device(&[]);
    let never = bfd(&device, State::Down, 0, None);
    tell(&mut device, Some(never));
    assert_eq!(status(&device).state, PeerState::Established);
    let at = device.now - secs(60);
    let down = Down { at, cause: SILENCE, control_plane_independent: false };
    let earlier = bfd(&device, State::Down, 1, Some(down));
    tell(&mut device, Some(earlier));
    assert_eq!((said(&mut device, conn), status(&device).state), (None, PeerState::Established));
}

#[test]
fn a_loss_that_was_over_when_it_was_told_counts() {
    let (mut device, conn) = device(&[]);
    up(&mut device);
    let down = Down { at: device.now, cause: SAID_DOWN, control_plane_independent: false };
    let flapped = bfd(&device, State::Up, 1, Some(down));
    tell(&mut device, Some(flapped));
    assert!(said(&mut device, conn).is_some());
}

#[test]
fn routes_of_a_peer_that_restarts_stay_when_its_bfd_goes_down_with_it() {
    for (fate, left) in [(Fate::Shared, 1), (Fate::Independent, 0)] {
        let (mut device, conn) = device(&[RESTART]);
        up(&mut device);
        device.hang_up(conn);
        assert_eq!((device.fib.len(), status(&device).stale.len()), (1, 1));
        device.advance(secs(1));
        lose(&mut device, SILENCE, fate);
        assert_eq!((device.fib.len(), status(&device).stale.len()), (left, left));
    }
}

#[test]
fn after_a_restart_bfd_of_the_run_before_is_to_run_out_first() {
    let restarted = Restarted::Yes { kept: Family::ALL.into() };
    let missed = |wanted, restarted| Device::restarted(wanted, restarted).router.bfd_outlives_us_for();
    assert_eq!(missed(wanted(), restarted.clone()), Some(Duration::from_millis(900)));
    assert_eq!(missed(wanted(), Restarted::No), None);
    assert_eq!(missed(support::speaker(65001, A, [neighbor(65002, B)], &[]), restarted), None);
}

#[test]
fn bfd_may_be_set_and_unset_without_a_new_session() {
    let (mut device, _) = device(&[]);
    let mut without = wanted();
    without.peers.values_mut().for_each(|peer| peer.bfd = None);
    for wanted in [without, wanted()] {
        device.apply(wanted);
        assert_eq!(status(&device).state, PeerState::Established);
    }
}
