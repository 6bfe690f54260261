//! Two connections that crossed, the one Established before the other's OPEN came (RFC 4271 section 6.8): whoever helps
//! over restarts loses no route over it. BIRD and FRR keep the Established one, we that of the higher identifier.

mod support;

use std::collections::BTreeMap;

use cambric_bgp::peer::PeerState;
use cambric_bgp::wire::Notification;
use cambric_bgp::{Action, ConnId};
use support::scripted::{Device, capability, keepalive, message, open};
use support::{ip, neighbor, prefix, router};

const US: &str = "10.2.0.1";
const PEER: &str = "10.2.0.2";
/// Its families are kept (RFC 4724 section 3).
const RESTARTS: &[u8] = &[64, 6, 0, 120, 0, 1, 1, 0x80];
/// It only helps.
const HELPS: &[u8] = &[64, 2, 0, 120];

const ROUTE: &str = "10.244.2.0/24";
/// It is told as IGP, with AS path 65002, over the peer.
const UPDATE: &[u8] = &[
    0, 0, 0, 20, 0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xFD, 0xEA, 0x40, 3, 4, 10, 2, 0, 2, 24, 10, 244, 2,
];

struct Crossed {
    device: Device,
    ours: ConnId,
    theirs: ConnId,
    open: Vec<u8>,
}

/// Both have connected; our connection is Established, and a route came over it.
fn crossed(restart: &[u8]) -> Crossed {
    let mut wanted = router(65001, US);
    wanted.peers = BTreeMap::from([neighbor(65002, PEER)]);
    let mut device = Device::new(wanted);
    let connects = |action: &Action| match action {
        Action::Connect { conn, .. } => Some(*conn),
        _ => None,
    };
    let ours = device.actions.iter().find_map(connects).expect("we connect");
    device.call(|router, now| router.handle_connected(now, ours, ip(US)));
    let theirs = device.accept(ip(US), ip(PEER));
    let open = open(65002, [10, 2, 0, 2], &[capability::IPV4, &capability::four_octet_as(65002), restart]);
    device.send(ours, &[open.clone(), keepalive(), message(2, UPDATE)].concat());
    assert_eq!(state(&device), PeerState::Established);
    assert!(device.fib.contains_key(&prefix(ROUTE)), "{:?}", device.fib);
    device.received(ours);
    Crossed { device, ours, theirs, open }
}

fn state(device: &Device) -> PeerState {
    device.router.peers()[0].state
}

#[test]
fn an_established_connection_that_crossed_goes_without_a_cease_where_routes_are_kept() {
    for restart in [RESTARTS, HELPS] {
        let Crossed { mut device, ours, theirs, open } = crossed(restart);
        device.send(theirs, &open);
        assert!(device.is_closed(ours) && !device.is_closed(theirs));
        assert_eq!(device.received(ours), []);
        device.send(theirs, &keepalive());
        assert_eq!(state(&device), PeerState::Established);
        assert!(restart == HELPS || device.fib.contains_key(&prefix(ROUTE)), "it keeps what it told");
    }
}

#[test]
fn a_peer_that_keeps_nothing_is_told_which_connection_goes() {
    let Crossed { mut device, ours, theirs, open } = crossed(&[]);
    device.send(theirs, &open);
    let said = device.received(ours).iter().find_map(|message| message.notification());
    assert_eq!(said, Some(Notification::new(6, 7)));
    assert!(!device.is_closed(theirs));
}

#[test]
fn routes_outlive_a_peer_that_closes_the_established_one() {
    let Crossed { mut device, ours, theirs, open } = crossed(RESTARTS);
    device.send(ours, &message(3, &[6, 7]));
    assert!(device.fib.contains_key(&prefix(ROUTE)));
    device.send(theirs, &[open, keepalive()].concat());
    assert_eq!(state(&device), PeerState::Established);
    assert!(device.fib.contains_key(&prefix(ROUTE)));
}
