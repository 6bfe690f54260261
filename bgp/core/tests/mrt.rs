//! A dump of the tables (RFC 6396), read back by a parser that is not ours.

mod support;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU8;

use bgpkit_parser::BgpkitParser;
use bgpkit_parser::models::{BgpElem, MrtMessage, MrtRecord, TableDumpV2Message};
use cambric_bgp::config::{AddPath, Receive, ReflectorRole};
use cambric_bgp::mrt::{MrtPeer, TableDump};
use cambric_bgp::rib::Part;
use cambric_bgp::{Family, Originated, Router, RouterId, Source};
use support::net::{Host, Net};
use support::scripted::{Device, capability, keepalive, message, open};
use support::{ip, neighbor, passive, prefix, router, secs, speaker};

const SINCE: u32 = 1_700_000_000;
const NOW: u32 = 1_800_000_000;

/// The dump of a host.
fn dumped(net: &Net, host: Host) -> (Vec<u8>, usize) {
    dump(net.router(host))
}

/// Of a table cut into pieces of two prefixes.
fn dump(router: &Router) -> (Vec<u8>, usize) {
    let own = router.wanted().router.clone();
    let mut peers = vec![MrtPeer::ourselves(own.asn, own.router_id, SINCE)];
    peers.extend(router.peers().into_iter().map(|peer| MrtPeer {
        id: Some(peer.id),
        address: peer.address.ip(),
        asn: peer.asn,
        router_id: peer.session.map(|session| session.peer_id),
        since_s: SINCE,
    }));
    let (mut dump, mut octets) = (TableDump::new(NOW, peers), Vec::new());
    dump.peers(own.router_id, &mut octets);
    let mut prefixes = router.prefixes(Part::All);
    prefixes.sort_unstable();
    let written = prefixes.chunks(2).map(|piece| dump.routes(&router.routes_to(piece), &mut octets)).sum();
    (octets, written)
}

/// Three nodes of one AS behind a reflector, each with pods of both families, two with the same service.
fn cluster() -> (Net, Host) {
    let mut net = Net::new();
    let reflector = "10.2.0.100";
    let hosts = [1, 2, 3].map(|number: u8| {
        let mut wanted = router(65001, &format!("10.2.0.{number}"));
        let (at, mut config) = neighbor(65001, reflector);
        config.add_path = [(Family::Ipv4, AddPath { receive: Receive::Several, send: None })].into();
        wanted.peers = [(at, config)].into();
        let mut own = vec![format!("10.244.{number}.0/24"), format!("fd00:244:{number}::/64")];
        own.extend((number < 3).then(|| "10.96.0.10/32".to_owned()));
        wanted.originated = own.iter().map(|text| (prefix(text), Originated::plain(Source::Pods))).collect();
        net.add(wanted)
    });
    let mut wanted = router(65001, reflector);
    for number in [1, 2, 3] {
        let (at, mut config) = neighbor(65001, &format!("10.2.0.{number}"));
        config.role = ReflectorRole::Client;
        config.add_path = [(Family::Ipv4, AddPath { receive: Receive::One, send: NonZeroU8::new(4) })].into();
        wanted.peers.insert(at, config);
    }
    let middle = net.add(wanted);
    for host in hosts {
        net.run_until_up(middle, host);
    }
    net.run(secs(5));
    (net, hosts[2])
}

fn read(octets: &[u8]) -> Vec<BgpElem> {
    BgpkitParser::from_reader(octets).into_elem_iter().collect()
}

#[test]
fn every_path_is_read_back_with_its_peer_and_its_attributes() {
    let (net, host) = cluster();
    let (octets, written) = dumped(&net, host);
    let elements = read(&octets);
    let paths: usize = support::routes(net.router(host)).iter().map(|route| route.paths.len()).sum();
    assert_eq!((elements.len(), written), (paths, paths));
    // Both paths to the service, each with the next hop that its node gave.
    let service = elements.iter().filter(|element| element.prefix.prefix.to_string() == "10.96.0.10/32");
    let next_hops: BTreeSet<IpAddr> = service.filter_map(|element| element.next_hop).collect();
    assert_eq!(next_hops, ["10.2.0.1", "10.2.0.2"].map(ip).into());
    let names = |record: MrtRecord| match record.message {
        MrtMessage::TableDumpV2Message(TableDumpV2Message::RibAfi(rib)) if rib.rib_entries.len() > 1 => {
            Some(rib.rib_entries.iter().map(|entry| entry.path_id).collect::<BTreeSet<_>>())
        }
        _ => None,
    };
    let names: Vec<_> = BgpkitParser::from_reader(&octets[..]).into_record_iter().filter_map(names).collect();
    assert_eq!((names.len(), names[0].len(), names[0].contains(&None)), (1, 2, false), "{names:?}");
    // IPv6 has its next hop, too, and what is told over the reflector its address.
    let of_first = elements.iter().find(|element| element.prefix.prefix.to_string() == "fd00:244:1::/64");
    let of_first = of_first.expect("pods of the first node");
    assert_eq!(of_first.next_hop, Some(ip("fd00:2::1")));
    assert_eq!((of_first.peer_ip, of_first.local_pref), (ip("10.2.0.100"), Some(100)));
    assert_eq!(of_first.timestamp, f64::from(SINCE));
    // Our own stand as told by ourselves.
    let own = elements.iter().find(|element| element.prefix.prefix.to_string() == "10.244.3.0/24");
    assert_eq!(own.map(|element| (element.peer_ip, element.peer_asn.to_u32())), Some((ip("0.0.0.0"), 65001)));
}

#[test]
fn peers_stand_first_with_what_is_known_of_them() {
    let (mut net, host) = cluster();
    net.change(host, |wanted| {
        let (at, config) = neighbor(4_200_000_001, "fd00:2::7");
        wanted.peers.insert(at, config);
    });
    let (octets, _) = dumped(&net, host);
    let first = BgpkitParser::from_reader(&octets[..]).into_record_iter().next().expect("a record");
    assert_eq!(first.common_header.timestamp, NOW);
    let MrtMessage::TableDumpV2Message(TableDumpV2Message::PeerIndexTable(table)) = first.message else {
        panic!("no list of peers: {first:?}")
    };
    assert_eq!(table.collector_bgp_id.to_string(), "10.2.0.3");
    let peers: BTreeSet<(String, u32, String)> = table
        .id_peer_map
        .values()
        .map(|peer| (peer.peer_ip.to_string(), peer.peer_asn.to_u32(), peer.peer_bgp_id.to_string()))
        .collect();
    let known = [
        ("0.0.0.0", 65001, "10.2.0.3"),
        ("10.2.0.100", 65001, "10.2.0.100"),
        ("fd00:2::7", 4_200_000_001, "0.0.0.0"),
    ];
    assert_eq!(peers, known.map(|(ip, asn, id)| (ip.to_owned(), asn, id.to_owned())).into());
}

#[test]
fn an_empty_table_is_a_list_of_peers() {
    let mut net = Net::new();
    let host = net.add(router(65001, "10.2.0.1"));
    let (octets, written) = dumped(&net, host);
    assert_eq!((written, read(&octets).len()), (0, 0));
    let id: RouterId = "10.2.0.1".parse().expect("identifier");
    assert_eq!(octets[12..16], id.value().to_be_bytes());
}

/// A record has 16 bits for the length of attributes, and AS numbers of four octets always. A peer with long messages and
/// short numbers tells paths that are longer then.
#[test]
fn a_path_that_is_longer_than_a_record_may_be_is_left_out() {
    let mut device = Device::new(speaker(65001, "10.2.0.1", [passive(65002, "10.2.0.2")], &[]));
    let conn = device.accept(ip("10.2.0.1"), ip("10.2.0.2"));
    let capabilities = [capability::IPV4, capability::EXTENDED_MESSAGE];
    device.send(conn, &open(65002, [10, 2, 0, 2], &capabilities));
    device.send(conn, &keepalive());
    let segment = [&[2, 255][..], &[0xFD, 0xEA].repeat(255)].concat();
    for (segments, third) in [(80_u16, 1), (1, 2)] {
        let path = segment.repeat(segments.into());
        let length = u16::try_from(path.len()).expect("short").to_be_bytes();
        let path = [&[0x50, 2][..], &length, &path].concat();
        let attributes = [&[0x40, 1, 1, 0][..], &path, &[0x40, 3, 4, 10, 2, 0, 2]].concat();
        let length = u16::try_from(attributes.len()).expect("short").to_be_bytes();
        let nlri = [24, 10, 244, third];
        device.send(conn, &message(2, &[&[0, 0][..], &length, &attributes, &nlri].concat()));
    }
    assert_eq!(support::routes(&device.router).len(), 2, "both are known");
    let (octets, written) = dump(&device.router);
    let elements = read(&octets);
    let prefixes: Vec<String> = elements.iter().map(|element| element.prefix.prefix.to_string()).collect();
    assert_eq!((written, prefixes), (1, vec!["10.244.2.0/24".to_owned()]));
}
