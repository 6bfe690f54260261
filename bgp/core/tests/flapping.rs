//! A peer that comes and goes each second, and one whose kernel is gone: what is told, what is kept, who connects.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use cambric_bgp::peer::PeerState;
use cambric_bgp::router::PeerStatus;
use cambric_bgp::{Action, ConnId, PeerConfig, ScopedAddress};
use support::lines::Lines;
use support::scripted::{self, Device, capability, message};
use support::{ip, neighbor, passive, router};
use tracing::Level;

const US: &str = "10.2.0.1";
const PEER: &str = "10.2.0.2";
/// Of an AS path, and a next hop.
const ROUTE: &[u8] = &[0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xFD, 0xEA, 0x40, 3, 4, 10, 2, 0, 2];
/// ORIGIN of a value that nobody knows: the session survives it (RFC 7606 section 7.1).
const FLAWED: &[u8] = &[0x40, 1, 1, 9];

fn device((address, config): (ScopedAddress, PeerConfig)) -> Device {
    // It comes to its limit each time.
    let peer = (address, PeerConfig { max_prefixes: 1, ..config });
    let mut wanted = router(65001, US);
    wanted.peers = BTreeMap::from([peer]);
    Device::new(wanted)
}

fn status(device: &Device) -> PeerStatus {
    let id = device.router.peer_at(ip(PEER)).expect("configured");
    device.router.peer(id).expect("it is there")
}

/// A connection of the peer, as far as it gets.
fn connect(device: &mut Device) -> ConnId {
    let conn = device.accept(ip(US), ip(PEER));
    let offered = [capability::IPV4, &capability::four_octet_as(65002)];
    device.send(conn, &scripted::open(65002, [10, 2, 0, 2], &offered));
    device.send(conn, &scripted::keepalive());
    conn
}

fn update(attributes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(attributes.len()).expect("short").to_be_bytes();
    message(2, &[&[0, 0][..], &length, attributes, &[24, 10, 3, 1]].concat())
}

#[test]
fn peer_that_flaps_each_second_leaves_nothing_behind_and_does_not_fill_the_log() {
    let lines = Lines::of(Level::INFO);
    for peer in [passive(65002, PEER), neighbor(65002, PEER)] {
        let mut device = device(peer);
        let mut sessions = 0;
        for _ in 0..3600 {
            let conn = connect(&mut device);
            sessions += u64::from(status(&device).state == PeerState::Established);
            device.send(conn, &update(ROUTE));
            device.send(conn, &update(&[FLAWED, &ROUTE[4..]].concat()));
            device.advance(Duration::from_millis(500));
            device.hang_up(conn);
            assert!(device.fib.is_empty(), "{:?}", device.fib);
            device.advance(Duration::from_millis(500));
        }
        assert_eq!(sessions, 3600, "each time there is a session at once");
        let status = status(&device);
        assert!(status.counts.values().all(|counts| counts.received == 0), "{:?}", status.counts);
        assert_eq!(status.flawed_updates, 3600);
        let attempts =
            device.actions.iter().filter(|action| matches!(action, Action::Connect { .. })).count();
        assert!(attempts < 400, "back-off grows though there were sessions: {attempts}");
    }
    let lines = lines.take();
    assert!((1..20).contains(&lines), "{lines} lines of two peers in an hour");
}

#[test]
fn peer_whose_kernel_is_gone_is_believed_for_the_hold_time_and_taken_when_it_is_back() {
    let mut device = device(passive(65002, PEER));
    let gone = connect(&mut device);
    device.send(gone, &update(ROUTE));
    assert_eq!(device.fib.len(), 1);
    let hold = Duration::from_secs(status(&device).session.expect("established").hold_time.as_secs().into());
    device.advance(hold - Duration::from_secs(1));
    let early = connect(&mut device);
    assert!(
        device.is_closed(early),
        "without graceful restart the Established one wins (RFC 4271 section 6.8)"
    );
    assert_eq!(device.fib.len(), 1);
    device.advance(Duration::from_secs(2));
    assert!(device.is_closed(gone) && device.fib.is_empty());
    assert_eq!(
        status(&device).last_error.expect("a reason").what,
        "hold timer expired: nothing heard from the peer"
    );
    let back = connect(&mut device);
    device.advance(Duration::from_secs(1));
    device.send(back, &update(ROUTE));
    assert_eq!((status(&device).state, device.fib.len()), (PeerState::Established, 1));
}
