//! What stands in `last_error` when two sides were not set up for each other: words for who has to change something.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use cambric_bgp::config::Distance;
use cambric_bgp::peer::PeerState;
use cambric_bgp::wire::Notification;
use cambric_bgp::{Family, Wanted};
use support::scripted::{Device, capability, message, open};
use support::{ip, passive, router};

const US: &str = "10.2.0.1";
const PEER: &str = "10.2.0.2";

/// A node that waits for one peer.
fn wanted(families: &[Family]) -> Wanted {
    let mut wanted = router(65001, US);
    wanted.peers = BTreeMap::from([passive(65002, PEER)]);
    wanted.peers.values_mut().for_each(|peer| peer.families = families.iter().copied().collect());
    wanted
}

fn what(device: &Device) -> Option<String> {
    device.router.peers()[0].last_error.clone().map(|error| error.what)
}

#[test]
fn a_peer_of_another_family_is_told_what_is_missing() {
    for offered in [
        vec![capability::IPV4],
        // Without the capability it speaks IPv4 (RFC 4760 section 8).
        vec![capability::ROUTE_REFRESH],
    ] {
        let mut device = Device::new(wanted(&[Family::Ipv6]));
        let conn = device.accept(ip(US), ip(PEER));
        device.send(conn, &open(65002, [10, 2, 0, 2], &offered));
        let said = device.received(conn).iter().find_map(|message| message.notification());
        assert_eq!(said, Some(Notification::with(2, 7, capability::IPV6)));
        let words = "sent OPEN Message Error: Unsupported Capability (2/7): no common family: peer offered ipv4, \
                     configured ipv6";
        assert_eq!(what(&device).as_deref(), Some(words));
    }
}

#[test]
fn one_common_family_is_enough() {
    let mut device = Device::new(wanted(&Family::ALL));
    let conn = device.accept(ip(US), ip(PEER));
    device.send(conn, &open(65002, [10, 2, 0, 2], &[capability::IPV4]));
    assert_eq!((what(&device), device.router.peers()[0].state), (None, PeerState::OpenConfirm));
}

#[test]
fn a_peer_that_lacks_our_families_is_quoted_with_what_we_offered() {
    let mut device = Device::new(wanted(&[Family::Ipv6]));
    let conn = device.accept(ip(US), ip(PEER));
    device.send(conn, &message(3, &[2, 7]));
    let words = "received OPEN Message Error: Unsupported Capability (2/7): we offered ipv6";
    assert_eq!(what(&device).as_deref(), Some(words));
}

#[test]
fn a_passive_peer_to_which_nobody_comes_says_so() {
    let mut device = Device::new(wanted(&Family::ALL));
    device.advance(Duration::from_secs(29));
    assert_eq!(what(&device), None);
    device.advance(Duration::from_secs(2));
    let words = "waiting for the peer to connect: we are passive, and nothing came";
    assert_eq!(what(&device).as_deref(), Some(words));
    // It goes on waiting.
    assert_eq!(device.router.peers()[0].state, PeerState::Active);
    let conn = device.accept(ip(US), ip(PEER));
    device.send(conn, &open(65002, [10, 2, 0, 2], &[capability::IPV4]));
    assert_eq!(device.router.peers()[0].state, PeerState::OpenConfirm);
}

#[test]
fn a_peer_that_dials_anew_before_we_lose_patience_hides_no_cause() {
    let mut wanted = wanted(&Family::ALL);
    wanted.peers.values_mut().for_each(|peer| peer.transport.distance = Distance::Within(1));
    let mut device = Device::new(wanted);
    let hint = "connected, but no OPEN came; the peer may be more than 1 hop away, or not send with TTL 255 (TTL security)";
    for said in [None, Some(hint)] {
        device.accept(ip(US), ip(PEER));
        assert_eq!(what(&device).as_deref(), said);
        device.advance(Duration::from_secs(1));
    }
}
