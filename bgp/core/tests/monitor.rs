//! Stations of the BGP Monitoring Protocol (RFC 7854, RFC 9069), what they are told read by a parser that is not ours.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bgpkit_parser::Elementor;
use bgpkit_parser::bmp::messages::{BmpMessage, BmpMessageBody, BmpPeerType, PeerDownReason, PerPeerFlags};
use bgpkit_parser::bmp::parse_bmp_msg;
use bgpkit_parser::models::{BgpMessage, BgpUpdateMessage, ElemType};
use bgpkit_parser::parser::bmp::messages::RouteMonitoring;
use bytes::Bytes;
use cambric_bgp::attributes::{AsPath, Attributes};
use cambric_bgp::config::{Import, MonitoredTable, Monitoring, StationConfig};
use cambric_bgp::monitor::StationState;
use cambric_bgp::rib::{Part, Verdict};
use cambric_bgp::session::Session;
use cambric_bgp::wire::update::{write_announce, write_withdraw};
use cambric_bgp::wire::{Nlri, Open};
use cambric_bgp::{Action, ConnId, Originated, Source, Wanted};
use support::scripted::{Device, keepalive, open_from, open_of};
use support::{ip, neighbor, passive, prefix, router, secs};

const DEVICE: &str = "10.2.0.1";
const PEERS: [&str; 2] = ["10.2.0.2", "10.2.0.3"];
const ALL: [MonitoredTable; 3] =
    [MonitoredTable::AdjRibInPrePolicy, MonitoredTable::AdjRibInPostPolicy, MonitoredTable::LocRib];

fn station() -> SocketAddr {
    SocketAddr::new(ip("192.0.2.99"), 11019)
}

fn wanted(tables: &[MonitoredTable]) -> Wanted {
    let mut wanted = router(65001, DEVICE);
    // The second may tell what the cluster declares, and nothing else.
    let (at, mut strict) = passive(65003, PEERS[1]);
    strict.policy.import = Import::Declared;
    wanted.peers = [passive(65002, PEERS[0]), (at, strict)].into();
    wanted.declared.pods = vec![prefix("10.244.0.0/16")];
    wanted.originated = [(prefix("10.244.1.0/24"), Originated::plain(Source::Pods))].into();
    let config = StationConfig { name: "collector".to_owned(), tables: tables.iter().copied().collect() };
    wanted.monitoring = Monitoring { system: "n1".to_owned(), stations: [(station(), config)].into() };
    wanted
}

/// One table as a station sees it: prefix and the first AS of its path.
type Seen = BTreeMap<String, Option<u32>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Table {
    Before(IpAddr),
    After(IpAddr),
    Chosen,
}

/// What somebody knows who reads every message.
#[derive(Debug, Default)]
struct Collector {
    tables: BTreeMap<Table, Seen>,
    up: BTreeSet<IpAddr>,
    downs: Vec<PeerDownReason>,
    ends: usize,
    messages: usize,
    said: Vec<String>,
}

impl Collector {
    fn read(&mut self, octets: Vec<u8>) {
        let mut rest = Bytes::from(octets);
        while !rest.is_empty() {
            self.take(parse_bmp_msg(&mut rest).expect("well-formed"));
            self.messages += 1;
        }
    }

    fn take(&mut self, message: BmpMessage) {
        let header = message.per_peer_header;
        let at = header.as_ref().map(|header| header.peer_ip);
        let is_chosen = header.as_ref().is_some_and(|header| header.peer_type == BmpPeerType::LocalRib);
        let after = header.as_ref().is_some_and(
            |header| matches!(header.peer_flags, PerPeerFlags::PeerFlags(flags) if flags.is_post_policy()),
        );
        match message.message_body {
            BmpMessageBody::InitiationMessage(initiation) => {
                self.said.extend(initiation.tlvs.into_iter().map(|tlv| tlv.info));
            }
            BmpMessageBody::TerminationMessage(_) => self.said.push("the end".to_owned()),
            BmpMessageBody::PeerUpNotification(_) if is_chosen => {
                self.tables.insert(Table::Chosen, Seen::new());
            }
            BmpMessageBody::PeerUpNotification(_) => {
                let at = at.expect("a peer");
                assert!(self.up.insert(at), "{at} came up twice");
            }
            BmpMessageBody::PeerDownNotification(down) => {
                let at = at.expect("a peer");
                assert!(self.up.remove(&at), "{at} was not up");
                self.downs.push(down.reason);
                self.tables.retain(|table, _| ![Table::Before(at), Table::After(at)].contains(table));
            }
            BmpMessageBody::RouteMonitoring(RouteMonitoring { bgp_message }) => {
                let table = match (is_chosen, after) {
                    (true, _) => Table::Chosen,
                    (false, false) => Table::Before(at.expect("a peer")),
                    (false, true) => Table::After(at.expect("a peer")),
                };
                let BgpMessage::Update(update) = bgp_message else { panic!("no UPDATE: {bgp_message:?}") };
                assert!(is_chosen || self.up.contains(&at.expect("a peer")), "a route of nobody");
                self.update(table, update);
            }
            other => panic!("unexpected: {other:?}"),
        }
    }

    fn update(&mut self, table: Table, update: BgpUpdateMessage) {
        if update.is_end_of_rib() {
            self.ends += 1;
            return;
        }
        let seen = self.tables.entry(table).or_default();
        let asn = bgpkit_parser::models::Asn::new_32bit(1);
        for element in Elementor::bgp_update_to_elems(update, 0.0, &ip("192.0.2.1"), &asn) {
            let key = element.prefix.prefix.to_string();
            match element.elem_type {
                ElemType::ANNOUNCE => {
                    let path = element.as_path.and_then(|path| path.to_u32_vec_opt(false));
                    seen.insert(key, path.and_then(|path| path.first().copied()));
                }
                ElemType::WITHDRAW => drop(seen.remove(&key)),
            }
        }
    }

    fn prefixes(&self, table: Table) -> Vec<&str> {
        self.tables.get(&table).into_iter().flatten().map(|(prefix, _)| prefix.as_str()).collect()
    }
}

struct Rig {
    device: Device,
    sessions: BTreeMap<IpAddr, (ConnId, Session)>,
    station: Option<ConnId>,
    collector: Collector,
}

impl Rig {
    fn new(tables: &[MonitoredTable]) -> Rig {
        let device = Device::new(wanted(tables));
        Rig { device, sessions: BTreeMap::new(), station: None, collector: Collector::default() }
    }

    /// The station takes the attempt that was made last.
    fn station_answers(&mut self) {
        let at = (station().ip(), station().port());
        let asked = self.device.actions.iter().rev().find_map(|action| match action {
            Action::Connect { conn, remote, port, .. } if (remote.ip(), *port) == at => Some(*conn),
            _ => None,
        });
        let conn = asked.expect("an attempt");
        self.device.call(|router, now| router.handle_connected(now, conn, ip(DEVICE)));
        self.station = Some(conn);
        self.collector = Collector::default();
    }

    fn connect(&mut self, at: &str, asn: u32) {
        let conn = self.device.accept(ip(DEVICE), ip(at));
        self.device.call(|router, _| router.set_ports(conn, 179, 40_000));
        let open = open_from(ip(at), asn, &["mp4", "mp6", "rr", "as4"]);
        self.device.send(conn, &[&open[..], &keepalive()].concat());
        let ours = Open::decode(&open[19..]).expect("good");
        let session = Session::negotiate(&ours, &open_of(&self.device.received(conn)));
        self.sessions.insert(ip(at), (conn, session));
    }

    fn tell(&mut self, at: &str, asn: u32, prefixes: &[&str]) {
        let (conn, session) = &self.sessions[&ip(at)];
        let mut attributes = Attributes::originated(ip(at));
        attributes.as_path = [support::asn(asn)].into_iter().collect::<AsPath>();
        let routes: Vec<Nlri> = prefixes.iter().map(|text| prefix(text).into()).collect();
        let mut octets = Vec::new();
        write_announce(&mut octets, session, &Arc::new(attributes.into()), &routes).expect("short");
        self.device.send(*conn, &octets);
    }

    fn take_back(&mut self, at: &str, text: &str) {
        let (conn, session) = &self.sessions[&ip(at)];
        let mut octets = Vec::new();
        write_withdraw(&mut octets, session, &[prefix(text).into()]);
        self.device.send(*conn, &octets);
    }

    /// What the station knows.
    fn seen(&mut self) -> &Collector {
        let octets = self.device.octets(self.station.expect("connected"));
        self.collector.read(octets);
        &self.collector
    }

    /// What the router says of its own tables must be what the station knows of all of them.
    fn assert_the_same(&mut self) {
        self.seen();
        let mut expected: BTreeMap<Table, BTreeSet<String>> = BTreeMap::new();
        let router = &self.device.router;
        let addresses: BTreeMap<_, _> =
            router.peers().into_iter().map(|peer| (peer.id, peer.address.ip())).collect();
        for route in router.routes_to(&router.prefixes(Part::All)) {
            for path in &route.paths {
                let name = route.prefix.to_string();
                let mut add = |table| {
                    expected.entry(table).or_default().insert(name.clone());
                };
                if path.verdict == Verdict::Best {
                    add(Table::Chosen);
                }
                let Some(at) = path.peer.map(|id| addresses[&id]).filter(|_| !path.stale) else { continue };
                add(Table::Before(at));
                if !matches!(path.verdict, Verdict::Refused(_)) {
                    add(Table::After(at));
                }
            }
        }
        let known = self.collector.tables.iter().filter(|(_, seen)| !seen.is_empty());
        let known = known.map(|(table, seen)| (*table, seen.keys().cloned().collect())).collect();
        assert_eq!(expected, known);
    }
}

#[test]
fn a_station_knows_what_each_peer_told_what_is_used_and_what_is_chosen() {
    let mut rig = Rig::new(&ALL);
    rig.connect(PEERS[0], 65002);
    rig.tell(PEERS[0], 65002, &["10.244.2.0/24", "203.0.113.0/24"]);
    rig.station_answers();
    rig.connect(PEERS[1], 65003);
    rig.tell(PEERS[1], 65003, &["10.244.2.0/24", "10.244.3.0/24", "203.0.113.0/24"]);
    let seen = rig.seen();
    assert_eq!(seen.said[1], "n1");
    assert!(seen.said[0].starts_with("Cambric "));
    assert_eq!(seen.up, PEERS.map(ip).into());
    let [first, second] = PEERS.map(ip);
    assert_eq!(seen.prefixes(Table::After(first)), ["10.244.2.0/24", "203.0.113.0/24"]);
    assert_eq!(seen.prefixes(Table::Before(second)), ["10.244.2.0/24", "10.244.3.0/24", "203.0.113.0/24"]);
    assert_eq!(seen.prefixes(Table::After(second)), ["10.244.2.0/24", "10.244.3.0/24"], "as declared");
    let chosen = ["10.244.1.0/24", "10.244.2.0/24", "10.244.3.0/24", "203.0.113.0/24"];
    assert_eq!(seen.prefixes(Table::Chosen), chosen);
    assert_eq!(seen.tables[&Table::Chosen]["10.244.2.0/24"], Some(65002));
    // Two peers on two sides of the policy, and what is chosen; two families each.
    assert_eq!(seen.ends, 10);
    rig.assert_the_same();
}

#[test]
fn what_changes_is_told_and_what_does_not_is_not() {
    let mut rig = Rig::new(&ALL);
    rig.connect(PEERS[0], 65002);
    rig.connect(PEERS[1], 65003);
    rig.station_answers();
    rig.tell(PEERS[0], 65002, &["10.244.2.0/24", "10.244.4.0/24"]);
    rig.tell(PEERS[1], 65003, &["10.244.2.0/24"]);
    rig.assert_the_same();
    let before = rig.seen().messages;
    rig.take_back(PEERS[0], "10.244.2.0/24");
    // Gone from both sides of one peer's policy, and another one is chosen.
    assert_eq!(rig.seen().messages, before + 3);
    assert_eq!(rig.seen().tables[&Table::Chosen]["10.244.2.0/24"], Some(65003));
    rig.assert_the_same();
    // Another node in the cluster: all is judged anew, and nothing is other than before.
    let before = rig.seen().messages;
    let mut wider = wanted(&ALL);
    wider.declared.nodes.insert(ip("10.2.0.77"));
    rig.device.apply(wider);
    assert_eq!(rig.seen().messages, before);
    // What the cluster declares no more is judged anew.
    let mut narrow = wanted(&ALL);
    narrow.declared.pods.clear();
    rig.device.apply(narrow);
    rig.assert_the_same();
    assert_eq!(rig.seen().prefixes(Table::After(ip(PEERS[1]))), [""; 0]);
}

#[test]
fn the_end_of_a_session_is_told_with_its_cause_and_takes_its_routes_along() {
    let mut rig = Rig::new(&ALL);
    rig.station_answers();
    rig.connect(PEERS[0], 65002);
    rig.tell(PEERS[0], 65002, &["10.244.2.0/24"]);
    let (conn, _) = rig.sessions[&ip(PEERS[0])].clone();
    rig.device.send(conn, &support::scripted::message(3, &[6, 2]));
    rig.assert_the_same();
    rig.connect(PEERS[1], 65003);
    let (conn, _) = rig.sessions[&ip(PEERS[1])].clone();
    rig.device.hang_up(conn);
    rig.connect(PEERS[1], 65003);
    rig.device.apply(Wanted { peers: BTreeMap::new(), ..wanted(&ALL) });
    let expected = [
        PeerDownReason::RemoteSystemClosedNotificationPduFollows,
        PeerDownReason::RemoteSystemsClosedNoData,
        PeerDownReason::PeerDeConfigured,
    ];
    assert_eq!(rig.seen().downs, expected);
    rig.assert_the_same();
}

/// Whatever came and went while it took nothing: it hears how it is.
#[test]
fn a_station_that_takes_nothing_hears_the_latest_state_when_it_does() {
    let mut rig = Rig::new(&ALL);
    rig.station_answers();
    let conn = rig.station.expect("connected");
    rig.device.stall(conn);
    rig.connect(PEERS[0], 65002);
    for round in 0..50 {
        let own = format!("10.244.{}.0/24", 100 + round);
        rig.tell(PEERS[0], 65002, &["10.244.2.0/24", &own]);
        rig.take_back(PEERS[0], "10.244.2.0/24");
        if round == 25 {
            let (conn, _) = rig.sessions[&ip(PEERS[0])].clone();
            rig.device.hang_up(conn);
            rig.connect(PEERS[0], 65002);
        }
    }
    rig.device.resume(conn);
    rig.assert_the_same();
    assert_eq!(rig.seen().downs, [], "it never heard of the first session");
    assert_eq!(rig.seen().prefixes(Table::Before(ip(PEERS[0]))).len(), 24);
}

#[test]
fn only_what_is_asked_for_is_told() {
    let mut rig = Rig::new(&[MonitoredTable::LocRib]);
    rig.station_answers();
    rig.connect(PEERS[0], 65002);
    rig.tell(PEERS[0], 65002, &["10.244.2.0/24"]);
    let seen = rig.seen();
    assert_eq!((seen.up.len(), seen.tables.len()), (0, 1));
    assert_eq!(seen.prefixes(Table::Chosen), ["10.244.1.0/24", "10.244.2.0/24"]);
}

#[test]
fn a_station_that_is_gone_is_tried_again_and_begins_anew() {
    let mut rig = Rig::new(&ALL);
    rig.connect(PEERS[0], 65002);
    rig.tell(PEERS[0], 65002, &["10.244.2.0/24"]);
    rig.station_answers();
    rig.assert_the_same();
    let conn = rig.station.expect("connected");
    rig.device.call(|router, now| router.handle_closed(now, conn, "connection reset by the station"));
    let status = rig.device.router.stations().remove(0);
    assert_eq!(status.state, StationState::Waiting);
    assert_eq!(status.last_error.map(|error| error.what), Some("connection reset by the station".to_owned()));
    rig.tell(PEERS[0], 65002, &["10.244.3.0/24"]);
    rig.device.actions.clear();
    rig.device.advance(secs(2));
    rig.station_answers();
    rig.assert_the_same();
    // Nobody wants it any more: it is told so.
    let conn = rig.station.expect("connected");
    rig.device.apply(Wanted { monitoring: Monitoring::default(), ..wanted(&ALL) });
    assert!(rig.device.is_closed(conn));
    assert_eq!(rig.seen().said.last().map(String::as_str), Some("the end"));
    assert_eq!(rig.device.router.stations(), []);
}

/// What it knows is of somebody else.
#[test]
fn a_station_begins_anew_when_we_have_another_identifier() {
    let mut rig = Rig::new(&ALL);
    rig.station_answers();
    rig.assert_the_same();
    let conn = rig.station.expect("connected");
    let mut other = wanted(&ALL);
    other.router.router_id = "10.2.0.200".parse().expect("identifier");
    rig.device.actions.clear();
    rig.device.apply(other);
    assert!(rig.device.is_closed(conn));
    rig.station_answers();
    rig.assert_the_same();
}

#[test]
fn a_station_that_does_not_answer_or_takes_nothing_is_given_up() {
    let mut rig = Rig::new(&ALL);
    let why = |rig: &Rig| rig.device.router.stations()[0].last_error.clone().map(|error| error.what);
    rig.device.advance(secs(11));
    assert_eq!(why(&rig).as_deref(), Some("connect: no answer"));
    rig.device.advance(secs(2));
    rig.station_answers();
    let conn = rig.station.expect("connected");
    rig.device.stall(conn);
    rig.connect(PEERS[0], 65002);
    rig.device.advance(secs(481));
    assert_eq!(why(&rig).as_deref(), Some("it takes nothing of what it is told"));
    assert!(rig.device.is_closed(conn));
}

#[test]
fn peers_are_served_while_a_station_is_told() {
    let mut rig = Rig::new(&ALL);
    let (at, config) = neighbor(65009, "10.2.0.9");
    let mut more = wanted(&ALL);
    more.peers.insert(at, config);
    rig.device.apply(more);
    rig.station_answers();
    rig.connect("10.2.0.9", 65009);
    rig.connect(PEERS[0], 65002);
    rig.tell(PEERS[0], 65002, &["10.244.2.0/24"]);
    rig.assert_the_same();
    let (conn, _) = rig.sessions[&ip("10.2.0.9")].clone();
    assert!(!rig.device.received(conn).is_empty());
}
