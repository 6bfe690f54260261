//! What it costs that a node of the cluster comes, goes or changes: nothing that grows with what it does not concern.

mod support;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use cambric_bgp::config::{Link, LinkAddress, LinkState, Source};
use cambric_bgp::wire::MessageType;
use cambric_bgp::{Action, ConnId, Family, Originated, PeerPolicy, Prefix, Wanted};
use support::scripted::{Device, capability, keepalive, message, open};
use support::{ip, passive, prefix, router};

const US: &str = "10.2.0.1";
const TOR: &str = "10.2.0.2";

const SECOND: Duration = Duration::from_secs(1);

fn established(device: &mut Device, peer: &str, asn: u32) -> ConnId {
    let conn = device.accept(ip(US), ip(peer));
    let IpAddr::V4(id) = ip(peer) else { panic!("IPv4 in this test") };
    let as4 = capability::four_octet_as(asn);
    let capabilities = [capability::IPV4, capability::ROUTE_REFRESH, capability::ENHANCED_REFRESH, &as4];
    device.send(conn, &open(asn, id.octets(), &capabilities));
    device.send(conn, &keepalive());
    conn
}

/// Tells 10.`second`.`number`.0/24.
fn tell(device: &mut Device, conn: ConnId, second: u8, number: u8) {
    let attributes = [0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xFD, 0xEA, 0x40, 3, 4, 10, 2, 0, 2];
    let body = [&[0, 0, 0, attributes.len() as u8][..], &attributes, &[24, 10, second, number]].concat();
    device.send(conn, &message(2, &body));
}

/// A session with a switch that tells far more than it should.
fn leaking() -> (Device, Wanted, ConnId) {
    let mut wanted = router(65001, US);
    wanted.peers = BTreeMap::from([passive(65002, TOR)]);
    for peer in wanted.peers.values_mut() {
        peer.policy = PeerPolicy::default();
        peer.max_prefixes = 10;
    }
    let mut device = Device::new(wanted.clone());
    let conn = established(&mut device, TOR, 65002);
    (0..100).for_each(|number| tell(&mut device, conn, 3, number));
    device.received(conn);
    (device, wanted, conn)
}

fn asked(device: &mut Device, conn: ConnId) -> usize {
    let sent = device.received(conn);
    sent.iter().filter(|message| message.kind == MessageType::RouteRefresh).count()
}

/// Time with the KEEPALIVEs of the peer.
fn pass(device: &mut Device, conn: ConnId, time: Duration) {
    let end = device.now + time;
    while device.now < end {
        device.advance(Duration::from_secs(20).min(end - device.now));
        device.send(conn, &keepalive());
    }
}

#[test]
fn switch_that_leaks_a_table_is_asked_for_it_once_a_minute_at_most() {
    let (mut device, mut wanted, conn) = leaking();
    for number in 0..20 {
        wanted.declared.nodes.insert(ip(&format!("10.9.0.{number}")));
        device.apply(wanted.clone());
        device.advance(SECOND);
        if number == 5 {
            // Its answer, and as much of it is not kept as before.
            (0..100).for_each(|number| tell(&mut device, conn, 3, number));
        }
    }
    assert_eq!(asked(&mut device, conn), 1, "twenty nodes in twenty seconds");
    pass(&mut device, conn, 39 * SECOND);
    assert_eq!(asked(&mut device, conn), 0);
    pass(&mut device, conn, 2 * SECOND);
    assert_eq!(asked(&mut device, conn), 1, "the last node may be behind what was not kept");
    (0..100).for_each(|number| tell(&mut device, conn, 3, number));
    pass(&mut device, conn, 600 * SECOND);
    assert_eq!(asked(&mut device, conn), 0, "nothing has happened since");
}

#[test]
fn switch_is_not_asked_again_while_it_answers() {
    let (mut device, mut wanted, conn) = leaking();
    wanted.declared.nodes.insert(ip("10.9.0.1"));
    device.apply(wanted.clone());
    assert_eq!(asked(&mut device, conn), 1);
    device.send(conn, &message(5, &[0, 1, 1, 1]));
    (0..100).for_each(|number| tell(&mut device, conn, 3, number));
    wanted.declared.nodes.insert(ip("10.9.0.2"));
    device.apply(wanted);
    pass(&mut device, conn, 90 * SECOND);
    assert_eq!(asked(&mut device, conn), 0);
    device.send(conn, &message(5, &[0, 1, 2, 1]));
    assert_eq!(asked(&mut device, conn), 1);
}

#[test]
fn node_that_goes_is_no_reason_to_ask() {
    let (mut device, mut wanted, conn) = leaking();
    wanted.declared.nodes.insert(ip("10.9.0.1"));
    device.apply(wanted.clone());
    (0..100).for_each(|number| tell(&mut device, conn, 3, number));
    pass(&mut device, conn, 120 * SECOND);
    device.received(conn);
    wanted.declared.nodes.clear();
    wanted.declared.disputed = [(ip(TOR), vec![prefix("10.244.9.0/24")])].into();
    device.apply(wanted.clone());
    pass(&mut device, conn, 120 * SECOND);
    assert_eq!(asked(&mut device, conn), 0);
    wanted.declared.disputed.clear();
    device.apply(wanted);
    assert_eq!(asked(&mut device, conn), 1, "a dispute that ends may let something in");
}

#[test]
fn session_that_ends_while_an_ask_waits_leaves_no_timer_behind() {
    let (mut device, mut wanted, conn) = leaking();
    for number in 0..2 {
        wanted.declared.nodes.insert(ip(&format!("10.9.0.{number}")));
        device.apply(wanted.clone());
        (0..100).for_each(|number| tell(&mut device, conn, 3, number));
    }
    device.hang_up(conn);
    // `advance` finds a timeout that stays due.
    device.advance(600 * SECOND);
    let conn = established(&mut device, TOR, 65002);
    assert_eq!(asked(&mut device, conn), 0);
}

#[test]
fn peers_of_a_mesh_are_not_looked_at_for_each_other() {
    let mut wanted = router(65001, US);
    let peers = ["10.2.0.3", "10.2.0.4", "10.2.0.5"];
    wanted.peers = BTreeMap::from(peers.map(|peer| passive(65001, peer)));
    wanted.originated = [(prefix("10.244.1.0/24"), Originated::plain(Source::Pods))].into();
    let mut device = Device::new(wanted.clone());
    let conns = peers.map(|peer| established(&mut device, peer, 65001));
    for (conn, number) in conns.into_iter().zip(2..) {
        tell(&mut device, conn, 244, number);
    }
    device.actions.clear();
    wanted.declared.nodes.insert(ip("10.9.0.1"));
    wanted.declared.pods.push(prefix("10.244.0.0/16"));
    device.apply(wanted.clone());
    assert_eq!(device.actions, [], "nobody has anything to hear");
    // An address of ours is the next hop of what we tell.
    let address = LinkAddress::new(ip("10.3.0.1"), 24).expect("length");
    wanted.links.push(Link { name: "eth2".to_owned(), state: LinkState::Up, addresses: vec![address] });
    device.apply(wanted);
    let transmits = device.actions.iter().filter(|action| matches!(action, Action::Transmit(_))).count();
    assert_eq!(transmits, 3);
}

#[test]
fn large_table_is_looked_at_in_rounds_also_where_nothing_of_it_is_told() {
    let mut wanted = router(65001, US);
    wanted.peers = BTreeMap::from([passive(65002, TOR)]);
    let hosts = (0..10_000_u32).map(|host| Prefix::host(IpAddr::from((0x0AF4_0000 + host).to_be_bytes())));
    wanted.originated = hosts.map(|host| (host, Originated::plain(Source::Pods))).collect();
    for told in [true, false] {
        if !told {
            wanted.originated.values_mut().for_each(|own| own.offers.clear());
        }
        let mut device = Device::new(wanted.clone());
        let conn = device.accept(ip(US), ip(TOR));
        device.stall(conn);
        let as4 = capability::four_octet_as(65002);
        device.send(conn, &open(65002, [10, 2, 0, 2], &[capability::IPV4, &as4]));
        device.send(conn, &keepalive());
        let mut octets = Vec::new();
        let rounds = (1..).find(|_| !device.router.poll_transmit(conn, &mut octets));
        assert_eq!(rounds, Some(3), "told: {told}");
        assert_eq!(device.router.peers()[0].counts[&Family::Ipv4].sent, if told { 10_000 } else { 0 });
    }
}
