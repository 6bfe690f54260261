//! What a peer's fault is called: the words for our operator, and the data for the peer's
//! (RFC 4271 sections 6.1 to 6.3).

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use cambric_bgp::router::PeerStatus;
use cambric_bgp::wire::MessageType;
use cambric_bgp::{Action, Admin, ConnId, Wanted};
use support::scripted::{self, Device, Message, capability, message};
use support::{ip, neighbor, passive, router};

const US: &str = "10.2.0.1";
const PEER: &str = "10.2.0.2";

const UPDATE: u8 = 2;
const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
const AS_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xFD, 0xEA];
const NEXT_HOP: &[u8] = &[0x40, 3, 4, 10, 2, 0, 2];
const PREFIX: &[u8] = &[24, 192, 0, 2];

fn device() -> Device {
    let mut wanted: Wanted = router(65001, US);
    wanted.peers = BTreeMap::from([passive(65002, PEER)]);
    Device::new(wanted)
}

fn established(device: &mut Device) -> ConnId {
    let conn = device.accept(ip(US), ip(PEER));
    let offered = [capability::IPV4, capability::IPV6, &capability::four_octet_as(65002)];
    device.send(conn, &scripted::open(65002, [10, 2, 0, 2], &offered));
    device.send(conn, &scripted::keepalive());
    device.received(conn);
    conn
}

fn status(device: &Device) -> PeerStatus {
    let id = device.router.peer_at(ip(PEER)).expect("configured");
    device.router.peer(id).expect("configured")
}

/// What stands in `last_error`, and the data of the NOTIFICATION.
fn told(device: &mut Device, conn: ConnId, octets: &[u8]) -> (String, Vec<u8>) {
    device.send(conn, octets);
    assert!(device.is_closed(conn), "{octets:?}");
    let last = device.received(conn).last().and_then(Message::notification).expect("a NOTIFICATION");
    (status(device).last_error.expect("a reason").what, last.data)
}

fn update(attributes: &[&[u8]], prefixes: &[u8]) -> Vec<u8> {
    let attributes = attributes.concat();
    let length = u16::try_from(attributes.len()).expect("short").to_be_bytes();
    message(UPDATE, &[&[0, 0][..], &length, &attributes, prefixes].concat())
}

#[test]
fn fault_in_an_update_names_the_attribute_and_sends_it_back() {
    let short_next_hop = [0x80, 14, 9, 0, 2, 1, 4, 1, 2, 3, 4, 0];
    let not_ours: &[u8] = &[0x40, 99, 2, 7, 8];
    let mut two_octets_of_length = vec![0x50, 99, 1, 4];
    two_octets_of_length.extend([7; 260]);
    let long_prefix = [0x80, 15, 4, 0, 2, 1, 129];
    let optional_origin: &[u8] = &[0xC0, 1, 1, 0];
    let table: &[(Vec<u8>, &str, &[u8])] = &[
        (
            update(&[ORIGIN, AS_PATH, NEXT_HOP, not_ours], PREFIX),
            "Unrecognized Well-known Attribute (3/2): attribute 99: well-known, yet not known",
            not_ours,
        ),
        (
            update(&[&two_octets_of_length], PREFIX),
            "Unrecognized Well-known Attribute (3/2): attribute 99: well-known, yet not known",
            &two_octets_of_length,
        ),
        (
            update(&[ORIGIN, AS_PATH, &short_next_hop], &[]),
            "Optional Attribute Error (3/9): MP_REACH_NLRI: next hop of neither 16 nor 32 octets",
            &short_next_hop,
        ),
        (
            update(&[&long_prefix], &[]),
            "Optional Attribute Error (3/9): MP_UNREACH_NLRI: a prefix is longer than an address",
            &long_prefix,
        ),
        (
            update(&[&[0x80, 14, 200, 0, 2]], &[]),
            "Optional Attribute Error (3/9): MP_REACH_NLRI: longer than the attribute list",
            &[0x80, 14, 200, 0, 2],
        ),
        // Nothing to withdraw: the session closes over what would else be survived (RFC 7606 section 5.2).
        (
            update(&[optional_origin], &[]),
            "Attribute Flags Error (3/4): ORIGIN: wrong Optional or Transitive bit",
            optional_origin,
        ),
        (
            update(&[&[0x40, 1, 2, 0, 0]], &[]),
            "Attribute Length Error (3/5): ORIGIN: not of one octet",
            &[0x40, 1, 2, 0, 0],
        ),
        (
            update(&[&[0x40, 1, 1, 3]], &[]),
            "Invalid ORIGIN Attribute (3/6): ORIGIN: value over 2",
            &[0x40, 1, 1, 3],
        ),
        (
            update(&[ORIGIN, &[0x40, 2, 2, 2, 0]], &[]),
            "Malformed AS_PATH (3/11): AS_PATH: has an empty segment",
            &[],
        ),
        (
            update(&[ORIGIN, NEXT_HOP, &[0x40]], &[]),
            "Malformed Attribute List (3/1): attribute 0: the attribute list ends inside a header",
            &[],
        ),
        (
            update(&[], &[33, 1, 2, 3, 4, 5]),
            "Invalid Network Field (3/10): announced routes: a prefix is longer than an address",
            &[],
        ),
        (
            message(UPDATE, &[0, 2, 24, 10, 0, 0]),
            "Invalid Network Field (3/10): withdrawn routes: a prefix is cut short",
            &[],
        ),
        (
            message(UPDATE, &[0, 9, 0, 0]),
            "Malformed Attribute List (3/1): withdrawn routes and path attributes are longer than the message",
            &[],
        ),
    ];
    for (octets, what, data) in table {
        let mut device = device();
        let conn = established(&mut device);
        let (said, sent) = told(&mut device, conn, octets);
        assert_eq!(said, format!("sent UPDATE Message Error: {what}"));
        assert_eq!(&sent, data, "{what}");
    }
}

/// Ours has the standard length also where messages may be longer (RFC 8654).
#[test]
fn long_attribute_is_sent_back_as_far_as_it_fits() {
    let mut device = device();
    let conn = device.accept(ip(US), ip(PEER));
    let offered = [capability::IPV4, capability::EXTENDED_MESSAGE, &capability::four_octet_as(65002)];
    device.send(conn, &scripted::open(65002, [10, 2, 0, 2], &offered));
    device.send(conn, &scripted::keepalive());
    device.received(conn);
    let long = [&[0x50, 99, 0x27, 0x10][..], &[7; 10_000]].concat();
    let (_, data) = told(&mut device, conn, &update(&[&long], PREFIX));
    assert_eq!(data, long[..4096 - 21]);
}

#[test]
fn fault_that_the_session_survives_is_named_too() {
    let table: &[(&[&[u8]], &str)] = &[
        (&[ORIGIN, NEXT_HOP], "AS_PATH: missing; routes treated as withdrawn"),
        (&[&[0x40, 1, 1, 9], AS_PATH, NEXT_HOP], "ORIGIN: value over 2; routes treated as withdrawn"),
        (
            &[ORIGIN, AS_PATH, &[0x40, 3, 4, 224, 0, 0, 1]],
            "NEXT_HOP: not the address of a host; routes treated as withdrawn",
        ),
        (
            &[ORIGIN, AS_PATH, NEXT_HOP, &[0x40, 5, 4, 0, 0, 0, 100]],
            "LOCAL_PREF: has no meaning from an external peer; attribute dropped",
        ),
    ];
    let mut device = device();
    let conn = established(&mut device);
    for (count, (attributes, what)) in (1..).zip(table) {
        device.send(conn, &update(attributes, PREFIX));
        assert_eq!(status(&device).flawed_updates, count);
        assert_eq!(status(&device).last_flaw.expect("a flaw").what, *what);
    }
    assert!(!device.is_closed(conn));
}

/// An OPEN with version, hold time and identifier; its AS is right.
fn open(version: u8, hold: u16, id: [u8; 4], parameters: &[u8]) -> Vec<u8> {
    let length = u8::try_from(parameters.len()).expect("short");
    let [high, low] = hold.to_be_bytes();
    let [a, b, c, d] = id;
    message(1, &[&[version, 0xFD, 0xEA, high, low, a, b, c, d, length][..], parameters].concat())
}

#[test]
fn fault_in_an_open_is_told_in_the_words_of_an_operator() {
    const ID: [u8; 4] = [10, 2, 0, 2];
    let table: &[(Vec<u8>, &str, &[u8])] = &[
        (scripted::open(65011, ID, &[]), "Bad Peer AS (2/2): peer announced AS 65011, configured 65002", &[]),
        (
            scripted::open(65002, ID, &[&capability::four_octet_as(65009)]),
            "Bad Peer AS (2/2): peer announced AS 65002 and, as its four-octet one, AS 65009",
            &[],
        ),
        (
            open(3, 90, ID, &[]),
            "Unsupported Version Number (2/1): peer speaks BGP version 3, we speak 4",
            &[0, 4],
        ),
        (
            open(4, 2, ID, &[]),
            "Unacceptable Hold Time (2/6): peer proposed a hold time of 2 s; 0 or at least 3 s are allowed",
            &[],
        ),
        (open(4, 90, [0; 4], &[]), "Bad BGP Identifier (2/3): peer announced identifier 0.0.0.0", &[]),
        (open(4, 90, ID, &[1, 1, 7]), "Unsupported Optional Parameter (2/4): OPEN: parameter of type 1", &[]),
        (open(4, 90, ID, &[2, 3, 65, 1, 0]), "(2/0): OPEN: capability 65 is malformed", &[]),
        (open(4, 90, ID, &[2, 9, 65]), "(2/0): OPEN: a parameter is cut short", &[]),
    ];
    for (octets, what, data) in table {
        let mut device = device();
        let conn = device.accept(ip(US), ip(PEER));
        let (said, sent) = told(&mut device, conn, octets);
        let (head, space) = ("sent OPEN Message Error", if what.starts_with('(') { " " } else { ": " });
        assert_eq!(said, format!("{head}{space}{what}"));
        assert_eq!(&sent, data, "{what}");
    }
}

#[test]
fn internal_peer_with_our_identifier_is_named_so() {
    let mut wanted = router(65001, US);
    wanted.peers = BTreeMap::from([passive(65001, PEER)]);
    let mut device = Device::new(wanted);
    let conn = device.accept(ip(US), ip(PEER));
    let (said, _) = told(&mut device, conn, &scripted::open(65001, [10, 2, 0, 1], &[]));
    assert_eq!(
        said,
        "sent OPEN Message Error: Bad BGP Identifier (2/3): peer announced identifier 10.2.0.1, which is our own"
    );
}

#[test]
fn message_that_is_none_or_out_of_place_is_named() {
    let mut octets = scripted::keepalive();
    octets[18] = 9;
    let http = b"GET / HTTP/1.1\r\n".to_vec();
    let long = [&[0xFF; 16][..], &5000_u16.to_be_bytes(), &[2]].concat();
    let table: &[(Vec<u8>, &str)] = &[
        (
            http,
            "Message Header Error: Connection Not Synchronized (1/1): no marker of ones before a message: it speaks no BGP, or lost its place",
        ),
        (octets, "Message Header Error: Bad Message Type (1/3): a message of type 9"),
        (
            long,
            "Message Header Error: Bad Message Length (1/2): a message of 5000 octets and type 2, on a session for up to 4096",
        ),
        (
            scripted::open(65002, [10, 2, 0, 2], &[]),
            "Finite State Machine Error: Unexpected Message in Established (5/3): OPEN does not belong there",
        ),
    ];
    for (octets, what) in table {
        let mut device = device();
        let conn = established(&mut device);
        assert_eq!(told(&mut device, conn, octets).0, format!("sent {what}"));
    }
}

/// Its only fault (7/1) belongs to enhanced route refresh (RFC 7313), which is never agreed on.
#[test]
fn route_refresh_of_any_subtype_and_length_disturbs_nobody() {
    let mut device = device();
    let conn = established(&mut device);
    for subtype in [1, 2, 3, 255] {
        for more in [0, 1, 9] {
            device.send(conn, &message(5, &[&[0, 1, subtype, 1][..], &vec![0; more]].concat()));
        }
    }
    assert!(!device.is_closed(conn));
    assert_eq!((device.received(conn), status(&device).last_error), (vec![], None));
}

/// BIRD and GoBGP turn connections away without a word for some time after an error.
#[test]
fn reason_is_not_hidden_by_connections_that_end_without_one() {
    let mut device = device();
    let what = |device: &Device| status(device).last_error.expect("a reason").what;
    let conn = device.accept(ip(US), ip(PEER));
    let (reason, _) = told(&mut device, conn, &scripted::open(65011, [10, 2, 0, 2], &[]));
    for _ in 0..29 {
        device.advance(Duration::from_secs(10));
        let first = device.accept(ip(US), ip(PEER));
        let second = device.accept(ip(US), ip(PEER));
        device.hang_up(second);
        assert!(device.is_closed(first));
        assert_eq!(what(&device), reason);
    }
    // But not for ever; nor beyond a session.
    device.advance(Duration::from_secs(20));
    let conn = device.accept(ip(US), ip(PEER));
    device.hang_up(conn);
    assert_eq!(what(&device), "connection closed by the peer");
    let conn = device.accept(ip(US), ip(PEER));
    told(&mut device, conn, &scripted::open(65011, [10, 2, 0, 2], &[]));
    device.advance(Duration::from_secs(1));
    for _ in 0..2 {
        let conn = established(&mut device);
        device.hang_up(conn);
        assert_eq!(what(&device), "connection closed by the peer");
    }
}

/// The peer's process is gone after the fault, and is back: what it does then is news.
#[test]
fn reason_that_was_told_does_not_hide_what_ends_a_connection_after_another_reason() {
    let mut wanted: Wanted = router(65001, US);
    wanted.peers = BTreeMap::from([neighbor(65002, PEER)]);
    let mut device = Device::new(wanted);
    let conn = dialled(&mut device);
    device.call(|router, now| router.handle_connected(now, conn, ip(US)));
    told(&mut device, conn, &scripted::open(65011, [10, 2, 0, 2], &[]));
    device.advance(Duration::from_secs(1));
    let conn = dialled(&mut device);
    device.call(|router, now| router.handle_connect_failed(now, conn, "Connection refused"));
    assert_eq!(status(&device).last_error.expect("a reason").what, "connect: Connection refused");
    let conn = device.accept(ip(US), ip(PEER));
    device.hang_up(conn);
    assert_eq!(status(&device).last_error.expect("a reason").what, "connection closed by the peer");
}

/// A peer that was at fault a moment ago hears nothing on its next connection until our OPEN.
#[test]
fn nothing_is_called_sent_that_was_not() {
    let held = || {
        let mut device = device();
        let conn = device.accept(ip(US), ip(PEER));
        let (reason, _) = told(&mut device, conn, &scripted::open(65011, [10, 2, 0, 2], &[]));
        let conn = device.accept(ip(US), ip(PEER));
        (device, conn, reason)
    };
    let (mut device, conn, _) = held();
    device.call(|router, now| router.set_admin_at(now, ip(PEER), Admin::Disabled));
    assert_eq!((device.is_closed(conn), device.received(conn)), (true, vec![]));
    assert_eq!(status(&device).last_error.expect("a reason").what, "disabled by the operator");

    let (mut device, conn, reason) = held();
    device.send(conn, &[0xFF; 5000]);
    assert_eq!((device.is_closed(conn), device.received(conn)), (true, vec![]));
    assert_eq!(status(&device).last_error.expect("a reason").what, reason);
}

/// Each connection that is closed with words lives on for a moment in the driver, which has room for all peers.
#[test]
fn peer_that_connects_in_a_loop_beside_its_session_is_told_so_now_and_then() {
    let mut device = device();
    let session = established(&mut device);
    device.advance(Duration::from_millis(1));
    let offered = [capability::IPV4, capability::IPV6, &capability::four_octet_as(65002)];
    let mut told = 0;
    for _ in 0..300 {
        let conn = device.accept(ip(US), ip(PEER));
        device.send(conn, &scripted::open(65002, [10, 2, 0, 2], &offered));
        told += usize::from(!device.received(conn).is_empty());
    }
    assert_eq!(told, 1);
    assert!(!device.is_closed(session));
    // What it wants may be right later.
    device.advance(Duration::from_secs(2));
    assert!(!device.is_closed(session));
    let conn = device.accept(ip(US), ip(PEER));
    assert_eq!(device.received(conn).len(), 1, "our OPEN");
}

#[test]
fn attempt_of_ours_that_waits_lets_the_peer_read_why_its_own_ended() {
    let mut wanted: Wanted = router(65001, US);
    wanted.peers = BTreeMap::from([neighbor(65002, PEER)]);
    let mut device = Device::new(wanted);
    let ours = dialled(&mut device);
    let conn = device.accept(ip(US), ip(PEER));
    device.call(|router, now| router.handle_connect_failed(now, ours, "Connection refused"));
    let attempt = device.router.poll_timeout().expect("an attempt");
    device.advance(attempt - device.now - Duration::from_millis(1));
    told(&mut device, conn, &scripted::open(65011, [10, 2, 0, 2], &[]));
    let has_dialled = |device: &Device| device.actions.iter().any(|is| matches!(is, Action::Connect { .. }));
    device.advance(Duration::from_millis(190));
    assert!(!has_dialled(&device), "before it can have read why");
    device.advance(Duration::from_millis(10));
    assert!(has_dialled(&device));
}

/// The connection that the device asked for last.
fn dialled(device: &mut Device) -> ConnId {
    let connect = device.actions.iter().rev().find_map(|action| match action {
        Action::Connect { conn, .. } => Some(*conn),
        _ => None,
    });
    device.actions.clear();
    connect.expect("an attempt")
}

#[test]
fn what_the_peer_finds_fault_with_is_named_from_its_data() {
    let table: &[(&[u8], &str)] = &[
        (&[2, 2], "OPEN Message Error: Bad Peer AS (2/2): we announced AS 65001"),
        (&[2, 3], "OPEN Message Error: Bad BGP Identifier (2/3): we announced identifier 10.2.0.1"),
        (&[2, 6], "OPEN Message Error: Unacceptable Hold Time (2/6): we proposed a hold time of 90 s"),
        (&[3, 5, 0x40, 1, 2, 0, 0], "UPDATE Message Error: Attribute Length Error (3/5): ORIGIN"),
        (&[3, 3, 3], "UPDATE Message Error: Missing Well-known Attribute (3/3): NEXT_HOP"),
        (&[3, 9, 0x80, 77], "UPDATE Message Error: Optional Attribute Error (3/9): attribute 77"),
        (&[3, 1, 1, 1], "UPDATE Message Error: Malformed Attribute List (3/1)"),
        (&[3, 5], "UPDATE Message Error: Attribute Length Error (3/5)"),
        (&[6, 2], "Cease: Administrative Shutdown (6/2)"),
    ];
    for (body, what) in table {
        let mut device = device();
        let conn = established(&mut device);
        device.send(conn, &message(3, body));
        assert_eq!(status(&device).last_error.expect("a reason").what, format!("received {what}"));
    }
}

/// FRR#22358: a peer that comes back at once with the same fault must not turn the wheel.
#[test]
fn peer_with_a_fault_waits_for_our_open() {
    let mut device = device();
    let conn = established(&mut device);
    device.send(conn, &[0; 19]);
    assert!(device.is_closed(conn));
    let conn = device.accept(ip(US), ip(PEER));
    assert!(device.received(conn).is_empty());
    device.advance(Duration::from_millis(300));
    assert!(device.received(conn).is_empty());
    device.advance(Duration::from_millis(400));
    assert_eq!(device.received(conn)[0].kind, MessageType::Open);
}

#[test]
fn mute_peer_is_given_up_after_half_a_minute() {
    let mut device = device();
    let conn = device.accept(ip(US), ip(PEER));
    device.advance(Duration::from_secs(29));
    assert!(!device.is_closed(conn));
    device.advance(Duration::from_secs(2));
    let last = device.received(conn).last().and_then(Message::notification).expect("a NOTIFICATION");
    assert_eq!((last.code, last.subcode), (4, 0));
}
