//! Peers at link-local addresses, each on its link (RFC 4007), and IPv4 routes over IPv6 next hops (RFC 8950).

mod support;

use std::collections::BTreeSet;

use cambric_bgp::config::{Link, LinkAddress, LinkState};
use cambric_bgp::session::Agreed;
use cambric_bgp::wire::{Capability, ExtendedNextHop, MessageType};
use cambric_bgp::{Action, Admin, ConnId, PeerConfig, ScopedAddress, Wanted};

use support::scripted::{Device, capability, keepalive, message, open, open_of};
use support::{OPEN_POLICY, adj_rib_out, asn, ip, prefix, router, scoped, secs};

const EXTENDED_NEXT_HOP: &[u8] = &[5, 6, 0, 1, 0, 1, 0, 2];
/// Of both switches, on two links.
const TOR: &str = "fe80::1";
const OWN: &str = "fe80::11";

/// A node whose links have no address of their own.
fn node(interfaces: &[&str]) -> Wanted {
    let mut wanted = router(65011, "10.255.1.1");
    let own = LinkAddress::new(ip(OWN), 64).expect("length");
    let link = |name: &&str| Link { name: (*name).to_owned(), state: LinkState::Up, addresses: vec![own] };
    wanted.links = interfaces.iter().map(link).collect();
    for interface in interfaces {
        let config = PeerConfig { policy: OPEN_POLICY, ..PeerConfig::new(*interface, ip(TOR), asn(65101)) };
        wanted.peers.insert(tor(interface), config);
    }
    wanted.originated =
        support::speaker(65011, "10.255.1.1", [], &["10.244.1.0/24", "fd00:10:244:1::/64"]).originated;
    wanted
}

fn tor(interface: &str) -> ScopedAddress {
    scoped(&format!("{TOR}%{interface}"))
}

/// A session that the switch on `interface` opens, with these capabilities beside those for both families.
fn establish(device: &mut Device, interface: &str, id: u8, more: &[&[u8]]) -> ConnId {
    let conn = device.accept(ip(OWN), tor(interface));
    let four_octets = capability::four_octet_as(65101);
    let all = [&[capability::IPV4, capability::IPV6, &four_octets], more].concat();
    device.send(conn, &open(65101, [192, 0, 2, id], &all));
    device.send(conn, &keepalive());
    conn
}

/// An UPDATE for an IPv4 prefix of /24 with this next hop in MP_REACH_NLRI.
fn update(third: u8, next_hop: &[&str]) -> Vec<u8> {
    let octets: Vec<u8> = next_hop
        .iter()
        .flat_map(|text| match ip(text) {
            std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
            std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
        })
        .collect();
    let length = u8::try_from(octets.len()).expect("short");
    let reach = [&[0, 1, 1, length][..], &octets, &[0, 24, 10, 244, third]].concat();
    let reach = [&[0x80, 14, u8::try_from(reach.len()).expect("short")][..], &reach].concat();
    let others = [&[0x40, 1, 1, 0, 0x40, 2, 6, 2, 1][..], &65101_u32.to_be_bytes()].concat();
    let attributes = [reach, others].concat();
    let length = u16::try_from(attributes.len()).expect("short").to_be_bytes();
    message(2, &[&[0, 0][..], &length, &attributes].concat())
}

fn next_hops(device: &Device, third: u8) -> BTreeSet<ScopedAddress> {
    let to = prefix(&format!("10.244.{third}.0/24"));
    let routes = device.router.learned_routes();
    routes.into_iter().find(|route| route.prefix == to).map(|route| route.next_hops).unwrap_or_default()
}

#[test]
fn two_links_with_one_link_local_address_are_two_peers_and_two_next_hops() {
    let mut device = Device::new(node(&["eth1", "eth2"]));
    let conns = [("eth1", 1), ("eth2", 2)].map(|(interface, id)| {
        let conn = establish(&mut device, interface, id, &[EXTENDED_NEXT_HOP]);
        device.send(conn, &update(2, &[TOR, TOR]));
        conn
    });
    assert_eq!(next_hops(&device, 2), [tor("eth1"), tor("eth2")].into());
    assert_eq!(device.router.peers().len(), 2);
    device.actions.clear();
    device.hang_up(conns[0]);
    assert!(device.actions.contains(&Action::NextHopLost(tor("eth1"))), "{:?}", device.actions);
    assert_eq!(next_hops(&device, 2), [tor("eth2")].into());
}

#[test]
fn a_link_that_goes_down_takes_its_peer_and_not_the_one_with_the_same_address() {
    let mut wanted = node(&["eth1", "eth2"]);
    let mut device = Device::new(wanted.clone());
    for (interface, id) in [("eth1", 1), ("eth2", 2)] {
        let conn = establish(&mut device, interface, id, &[EXTENDED_NEXT_HOP]);
        device.send(conn, &update(2, &[TOR, TOR]));
    }
    wanted.links[1].state = LinkState::Down;
    device.apply(wanted);
    assert_eq!(next_hops(&device, 2), [tor("eth1")].into());
    let is_up = |interface| {
        let id = device.router.peer_at(tor(interface)).expect("configured");
        device.router.peer(id).expect("configured").session.is_some()
    };
    assert_eq!([is_up("eth1"), is_up("eth2")], [true, false]);
}

#[test]
fn extended_next_hop_is_offered_over_ipv6_and_nowhere_else() {
    let mut wanted = node(&["eth1"]);
    let (numbered, config) = support::passive(65102, "10.2.0.2");
    wanted.peers.insert(numbered, config);
    let mut device = Device::new(wanted);
    let offers = |device: &mut Device, remote: ScopedAddress| {
        let conn = device.accept(ip(OWN), remote);
        let wanted = Capability::ExtendedNextHop(vec![ExtendedNextHop::IPV4_OVER_IPV6]);
        open_of(&device.received(conn)).has(&wanted)
    };
    assert!(offers(&mut device, tor("eth1")));
    assert!(!offers(&mut device, scoped("10.2.0.2")));
}

#[test]
fn own_routes_of_both_families_go_out_with_the_link_local_next_hop_twice() {
    let mut device = Device::new(node(&["eth1"]));
    let conn = establish(&mut device, "eth1", 1, &[EXTENDED_NEXT_HOP]);
    let id = device.router.peer_at(tor("eth1")).expect("configured");
    let sent = adj_rib_out(&device.router, id);
    assert_eq!(sent.len(), 2);
    for (prefix, attributes) in sent {
        assert_eq!((attributes.next_hop, attributes.link_local), (ip(OWN), OWN.parse().ok()), "{prefix}");
    }
    let updates: Vec<Vec<u8>> = device
        .received(conn)
        .into_iter()
        .filter(|message| message.kind == MessageType::Update)
        .map(|message| message.body)
        .collect();
    let ll = [0xFE, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x11];
    let reach = [&[0x90, 14, 0, 41, 0, 1, 1, 32][..], &ll, &ll, &[0, 24, 10, 244, 1]].concat();
    assert!(updates.iter().any(|body| body[4..].starts_with(&reach)), "{updates:02x?}");
}

#[test]
fn without_the_capability_no_ipv4_route_goes_out_and_one_that_comes_in_ends_the_session() {
    let mut device = Device::new(node(&["eth1"]));
    let conn = establish(&mut device, "eth1", 1, &[]);
    let id = device.router.peer_at(tor("eth1")).expect("configured");
    let session = device.router.peer(id).and_then(|peer| peer.session).expect("up");
    assert_eq!(session.extended_next_hop, Agreed::No);
    let sent: Vec<String> =
        adj_rib_out(&device.router, id).iter().map(|(prefix, _)| prefix.to_string()).collect();
    assert_eq!(sent, ["fd00:10:244:1::/64"]);
    device.send(conn, &update(2, &[TOR, TOR]));
    assert!(device.is_closed(conn));
    let told = device.received(conn).iter().find_map(|message| message.notification());
    assert_eq!(told.map(|told| (told.code, told.subcode)), Some((3, 9)));
}

#[test]
fn every_way_to_write_a_link_local_next_hop_is_read() {
    let mut device = Device::new(node(&["eth1"]));
    let conn = establish(&mut device, "eth1", 1, &[EXTENDED_NEXT_HOP]);
    let table: &[(&[&str], &str)] = &[
        (&[TOR], "fe80::1%eth1"),
        (&[TOR, TOR], "fe80::1%eth1"),
        (&["::", TOR], "fe80::1%eth1"),
        (&["2001:db8::1", TOR], "fe80::1%eth1"),
        // Of another router on the link.
        (&["fe80::99"], "fe80::99%eth1"),
    ];
    for (third, (next_hop, expected)) in (2..).zip(table) {
        device.send(conn, &update(third, next_hop));
        assert_eq!(next_hops(&device, third), [scoped(expected)].into(), "{next_hop:?}");
    }
    // Four octets are IPv4 as ever, and on no link of ours; ours is refused.
    for next_hop in ["10.9.9.9", OWN] {
        device.send(conn, &update(200, &[next_hop]));
        assert_eq!(next_hops(&device, 200), BTreeSet::new(), "{next_hop}");
    }
    assert!(!device.is_closed(conn));
}

#[test]
fn a_caller_is_told_by_its_link_and_a_wide_range_holds_none() {
    let mut wanted = node(&["eth1"]);
    let template = PeerConfig::new("any", ip("fe80::"), asn(65101));
    let range = cambric_bgp::config::ListenRange { template, most_peers: 5 };
    wanted.listen_ranges.insert(prefix("fe80::/10"), range);
    let mut device = Device::new(wanted);
    let now = device.now;
    for stranger in ["fe80::1%eth2", "fe80::1", "fe80::2%eth1"] {
        let taken = device.router.handle_accepted(now, ip(OWN), scoped(stranger));
        assert_eq!(taken, Err(cambric_bgp::peer::Refused::UnknownPeer), "{stranger}");
    }
    device.call(|router, now| router.set_admin_at(now, tor("eth1"), Admin::Disabled));
    assert_eq!(device.router.disabled(), &[tor("eth1")].into());
    device.advance(secs(60));
    assert!(!device.actions.iter().any(|action| matches!(action, Action::PeerChanged { .. })));
}

#[test]
fn sockets_are_bound_to_the_link() {
    let device = Device::new(node(&["eth1"]));
    let connects = device.actions.iter().find_map(|action| match action {
        Action::Connect { remote, port, options, .. } => Some((remote.clone(), *port, options.clone())),
        _ => None,
    });
    let (remote, port, options) = connects.expect("it connects");
    assert_eq!((remote, port, options.interface.as_deref()), (tor("eth1"), 179, Some("eth1")));
}
