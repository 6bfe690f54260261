//! Route refresh (RFC 2918) and its enhancement (RFC 7313), in both directions.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use cambric_bgp::config::{Export, Source};
use cambric_bgp::peer::PeerState;
use cambric_bgp::wire::{Capability, MessageType};
use cambric_bgp::{ConnId, Family, Originated, PeerConfig, Wanted};
use support::scripted::{Device, Message, capability, keepalive, message, open, open_of};
use support::{ip, neighbor, prefix, router};

const A: &str = "10.2.0.1";
const B: &str = "10.2.0.2";

const OWN: &str = "10.244.1.0/24";
const OWN6: &str = "fd00:244:1::/64";

const REQUEST: u8 = 0;
const BORR: u8 = 1;
const EORR: u8 = 2;

fn wanted() -> Wanted {
    let mut wanted = router(65001, A);
    wanted.peers = BTreeMap::from([neighbor(65002, B)]);
    wanted.originated = [OWN, OWN6].map(|text| (prefix(text), Originated::plain(Source::Pods))).into();
    wanted
}

/// A session with a peer that also has these capabilities.
fn established(wanted: Wanted, capabilities: &[&[u8]]) -> (Device, ConnId) {
    let mut device = Device::new(wanted);
    let conn = device.accept(ip(A), ip(B));
    let as4 = capability::four_octet_as(65002);
    let usual = [capability::IPV4, capability::IPV6, capability::ROUTE_REFRESH, as4.as_slice()];
    device.send(conn, &open(65002, [10, 2, 0, 2], &[&usual[..], capabilities].concat()));
    device.send(conn, &keepalive());
    let id = device.router.peer_at(ip(B)).expect("configured");
    assert_eq!(device.router.peer(id).expect("configured").state, PeerState::Established);
    (device, conn)
}

fn enhanced() -> (Device, ConnId) {
    established(wanted(), &[capability::ENHANCED_REFRESH])
}

fn refresh(subtype: u8) -> Vec<u8> {
    message(5, &[0, 1, subtype, 1])
}

/// An UPDATE for each of these: ORIGIN, AS_PATH 65002, NEXT_HOP.
fn tell(device: &mut Device, conn: ConnId, third_octets: &[u8]) {
    for third in third_octets {
        let attributes = [0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xFD, 0xEA, 0x40, 3, 4, 10, 2, 0, 2];
        let body = [&[0, 0, 0, attributes.len() as u8][..], &attributes, &[24, 10, 244, *third]].concat();
        device.send(conn, &message(2, &body));
    }
}

fn known(device: &Device) -> Vec<u8> {
    device
        .fib
        .keys()
        .map(|prefix| match prefix.address() {
            std::net::IpAddr::V4(v4) => v4.octets()[2],
            std::net::IpAddr::V6(_) => panic!("none was told"),
        })
        .collect()
}

/// What was sent, in short: U for an UPDATE, E for an End-of-RIB, and the subtype of a ROUTE-REFRESH.
fn in_short(messages: &[Message]) -> String {
    let short = |message: &Message| match message.kind {
        MessageType::Update if message.body == [0, 0, 0, 0] => "E".to_owned(),
        MessageType::Update => "U".to_owned(),
        MessageType::RouteRefresh => message.body[2].to_string(),
        _ => String::new(),
    };
    messages.iter().map(short).collect()
}

#[test]
fn enhanced_refresh_is_offered() {
    let mut device = Device::new(wanted());
    let conn = device.accept(ip(A), ip(B));
    let sent = open_of(&device.received(conn));
    assert!(sent.has(&Capability::RouteRefresh) && sent.has(&Capability::EnhancedRouteRefresh));
}

#[test]
fn answer_is_framed_where_both_speak_of_it_and_not_else() {
    let (mut device, conn) = enhanced();
    device.received(conn);
    device.send(conn, &refresh(REQUEST));
    assert_eq!(in_short(&device.received(conn)), "1U2");

    let (mut device, conn) = established(wanted(), &[]);
    device.received(conn);
    device.send(conn, &refresh(REQUEST));
    assert_eq!(in_short(&device.received(conn)), "U");
}

#[test]
fn answer_with_nothing_in_it_is_framed_too() {
    let mut none = wanted();
    none.originated.remove(&prefix(OWN));
    let (mut device, conn) = established(none, &[capability::ENHANCED_REFRESH]);
    device.received(conn);
    device.send(conn, &refresh(REQUEST));
    assert_eq!(in_short(&device.received(conn)), "12");
}

#[test]
fn request_before_end_of_rib_is_answered_behind_it() {
    let mut learns = wanted();
    learns.peers.values_mut().for_each(|peer: &mut PeerConfig| peer.policy.export = Export::All);
    let restarted = cambric_bgp::router::Restarted::Yes { kept: Family::ALL.into() };
    let mut device = Device::restarted(learns, restarted);
    let conn = device.accept(ip(A), ip(B));
    let as4 = capability::four_octet_as(65002);
    let capabilities = [capability::IPV4, capability::ROUTE_REFRESH, capability::ENHANCED_REFRESH, &as4];
    device.send(conn, &open(65002, [10, 2, 0, 2], &capabilities));
    device.send(conn, &keepalive());
    assert_eq!(in_short(&device.received(conn)), "U", "routes are held back, and End-of-RIB with them");
    device.send(conn, &refresh(REQUEST));
    assert_eq!(in_short(&device.received(conn)), "");
    device.advance(Duration::from_secs(5));
    assert_eq!(in_short(&device.received(conn)), "E1U2");
}

#[test]
fn requests_that_come_before_an_answer_get_one() {
    let (mut device, conn) = enhanced();
    device.received(conn);
    device.stall(conn);
    device.send(conn, &refresh(REQUEST));
    device.send(conn, &refresh(REQUEST));
    device.resume(conn);
    assert_eq!(in_short(&device.received(conn)), "1U2");
}

#[test]
fn what_a_refresh_leaves_out_goes_with_its_end() {
    let (mut device, conn) = enhanced();
    tell(&mut device, conn, &[2, 3, 4]);
    device.send(conn, &refresh(BORR));
    tell(&mut device, conn, &[2, 4]);
    assert_eq!(known(&device), [2, 3, 4], "nothing goes before the end");
    device.send(conn, &refresh(EORR));
    assert_eq!(known(&device), [2, 4]);
    device.send(conn, &refresh(EORR));
    assert_eq!(known(&device), [2, 4], "an end without a beginning says nothing");
}

#[test]
fn routes_told_and_taken_back_during_a_refresh_are_as_told_last() {
    let (mut device, conn) = enhanced();
    tell(&mut device, conn, &[2, 3]);
    device.send(conn, &refresh(BORR));
    device.send(conn, &message(2, &[0, 4, 24, 10, 244, 2, 0, 0]));
    tell(&mut device, conn, &[5, 2]);
    device.send(conn, &refresh(EORR));
    assert_eq!(known(&device), [2, 5]);
}

#[test]
fn second_beginning_counts_from_itself() {
    let (mut device, conn) = enhanced();
    tell(&mut device, conn, &[2, 3]);
    device.send(conn, &refresh(BORR));
    tell(&mut device, conn, &[2]);
    device.send(conn, &refresh(BORR));
    tell(&mut device, conn, &[3]);
    device.send(conn, &refresh(EORR));
    assert_eq!(known(&device), [3]);
}

#[test]
fn refresh_without_an_end_is_ended_after_six_minutes() {
    let (mut device, conn) = enhanced();
    tell(&mut device, conn, &[2, 3]);
    device.send(conn, &refresh(BORR));
    tell(&mut device, conn, &[2]);
    for _ in 0..11 {
        device.advance(Duration::from_secs(30));
        device.send(conn, &keepalive());
    }
    assert_eq!(known(&device), [2, 3]);
    device.advance(Duration::from_secs(31));
    assert_eq!(known(&device), [2]);
}

#[test]
fn marks_are_passed_over_where_they_were_not_agreed_on() {
    let (mut device, conn) = established(wanted(), &[]);
    tell(&mut device, conn, &[2, 3]);
    for subtype in [BORR, EORR, 77] {
        device.send(conn, &refresh(subtype));
    }
    device.send(conn, &message(5, &[0, 1, BORR, 1, 9]));
    assert_eq!(known(&device), [2, 3]);
    assert!(!device.is_closed(conn));
}

#[test]
fn unknown_subtypes_and_families_are_passed_over() {
    let (mut device, conn) = enhanced();
    tell(&mut device, conn, &[2]);
    device.received(conn);
    for body in [[0, 1, 3, 1], [0, 1, 255, 1], [0, 1, BORR, 128], [0, 9, REQUEST, 1]] {
        device.send(conn, &message(5, &body));
    }
    device.send(conn, &refresh(EORR));
    assert_eq!((known(&device), device.is_closed(conn)), (vec![2], false));
    assert_eq!(in_short(&device.received(conn)), "");
}

#[test]
fn mark_of_another_length_is_an_error_that_shows_it() {
    for (body, words) in [
        (&[0, 1, BORR, 1, 9][..], "BoRR of 5 octets, it has 4"),
        (&[0, 1, EORR, 1, 9, 9], "EoRR of 6 octets, it has 4"),
    ] {
        let (mut device, conn) = enhanced();
        device.received(conn);
        device.send(conn, &message(5, body));
        assert!(device.is_closed(conn));
        let sent = device.received(conn).iter().find_map(Message::notification).expect("told");
        assert_eq!((sent.code, sent.subcode, &sent.data[..]), (7, 1, &message(5, body)[..]));
        let id = device.router.peer_at(ip(B)).expect("configured");
        let reason = device.router.peer(id).expect("configured").last_error.expect("known").what;
        assert!(reason.ends_with(words), "{reason}");
    }
}

#[test]
fn what_is_stale_over_a_restart_goes_with_end_of_rib_whatever_a_refresh_says() {
    let graceful: &[u8] = &[64, 6, 0x40, 120, 0, 1, 1, 0x80];
    let (mut device, conn) = established(wanted(), &[capability::ENHANCED_REFRESH, graceful]);
    tell(&mut device, conn, &[2, 3]);
    device.hang_up(conn);
    let conn = device.accept(ip(A), ip(B));
    let as4 = capability::four_octet_as(65002);
    let capabilities = [capability::IPV4, capability::ENHANCED_REFRESH, graceful, &as4];
    device.send(conn, &open(65002, [10, 2, 0, 2], &capabilities));
    device.send(conn, &keepalive());
    tell(&mut device, conn, &[2]);
    device.send(conn, &refresh(BORR));
    device.send(conn, &refresh(EORR));
    assert_eq!(known(&device), [2, 3]);
    device.send(conn, &message(2, &[0, 0, 0, 0]));
    assert_eq!(known(&device), [2]);
}

#[test]
fn what_the_other_family_told_in_the_place_of_a_withdrawn_route_outlives_the_refresh() {
    let (mut device, conn) = enhanced();
    tell(&mut device, conn, &[3]);
    device.send(conn, &refresh(BORR));
    device.send(conn, &message(2, &[0, 4, 24, 10, 244, 3, 0, 0]));
    device.advance(Duration::from_secs(1));
    assert_eq!(known(&device), []);
    let next_hop = [0xFD, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let reach = [&[0, 2, 1, 16][..], &next_hop, &[0, 48, 0xFD, 0, 0x02, 0x44, 0, 3]].concat();
    let attributes = [0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xFD, 0xEA, 0x80, 14, reach.len() as u8];
    let length = (attributes.len() + reach.len()) as u8;
    device.send(conn, &message(2, &[&[0, 0, 0, length][..], &attributes, &reach].concat()));
    assert!(device.fib.contains_key(&prefix("fd00:244:3::/48")), "{:?}", device.fib);
    device.send(conn, &refresh(EORR));
    assert!(device.fib.contains_key(&prefix("fd00:244:3::/48")), "it was not of the refresh");
}
