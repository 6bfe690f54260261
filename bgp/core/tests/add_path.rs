//! Several paths to a prefix (RFC 7911), in both directions.

mod support;

use std::collections::BTreeSet;
use std::num::NonZeroU8;
use std::sync::Arc;

use cambric_bgp::attributes::{AsPath, Attributes};
use cambric_bgp::config::{AddPath, Import, Receive, ReflectorRole};
use cambric_bgp::policy::{Refusal, Withheld};
use cambric_bgp::rib::{Reason, Verdict};
use cambric_bgp::session::Session;
use cambric_bgp::types::PathId;
use cambric_bgp::wire::update::{write_announce, write_withdraw};
use cambric_bgp::wire::{MessageType, Nlri, Open, Update};
use cambric_bgp::{ConnId, Family, Originated, PeerConfig, ScopedAddress, Source, Wanted};
use support::net::{Host, Net};
use support::scripted::{Device, capability, keepalive, message, open, open_of};
use support::{adj_rib_in, ip, neighbor, passive, prefix, router, secs, tells_several};

const ASN: u32 = 65001;
const REFLECTOR: &str = "10.2.0.100";
const SERVICE: &str = "10.96.0.10/32";
const DEVICE: &str = "10.2.0.1";
const TELLER: &str = "10.2.0.2";

fn node(number: u8) -> String {
    format!("10.2.0.{number}")
}

/// A node that announces the address of a service.
fn member(number: u8, peer: (ScopedAddress, PeerConfig)) -> Wanted {
    let mut wanted = router(ASN, &node(number));
    wanted.peers = [peer].into();
    wanted.originated = [(prefix(SERVICE), Originated::plain(Source::Services))].into();
    wanted
}

fn tells(most: u8) -> AddPath {
    AddPath { receive: Receive::One, send: NonZeroU8::new(most) }
}

/// A reflector with three clients, of which the third has no service and takes several paths.
fn cluster(most: u8) -> (Net, Host, [Host; 3]) {
    let mut net = Net::new();
    let [one, two] = [1, 2].map(|number| net.add(member(number, neighbor(ASN, REFLECTOR))));
    let mut listener = member(3, tells_several(neighbor(ASN, REFLECTOR)));
    listener.originated.clear();
    let three = net.add(listener);
    let mut reflector = router(ASN, REFLECTOR);
    for number in [1, 2, 3] {
        let (address, mut config) = neighbor(ASN, &node(number));
        config.role = ReflectorRole::Client;
        if number == 3 {
            config.add_path = [(Family::Ipv4, tells(most))].into();
        }
        reflector.peers.insert(address, config);
    }
    let middle = net.add(reflector);
    for member in [one, two, three] {
        net.run_until_up(middle, member);
    }
    net.run(secs(5));
    (net, middle, [one, two, three])
}

/// The next hops of the service in the kernel of `host`.
fn next_hops(net: &Net, host: Host) -> Vec<String> {
    let in_kernel = net.fib(host).get(&prefix(SERVICE)).into_iter().flatten();
    in_kernel.map(ToString::to_string).collect()
}

#[test]
fn a_client_that_takes_several_paths_forwards_over_all_of_them() {
    let (net, middle, [_, two, three]) = cluster(4);
    assert_eq!(next_hops(&net, three), [node(1), node(2)]);
    let paths = &adj_rib_in(net.router(three), net.peer(three, middle).id)[0].paths;
    let names: BTreeSet<PathId> = paths.iter().map(|path| path.path_id).collect();
    assert_eq!(names.len(), 2, "each path has a name of its own: {paths:?}");
    // Who did not ask for it hears of one, and without a name.
    let told = &adj_rib_in(net.router(two), net.peer(two, middle).id)[0];
    assert_eq!((told.paths.len(), told.paths[0].path_id), (1, PathId(0)));
}

#[test]
fn one_path_goes_and_the_other_is_not_touched() {
    let (mut net, middle, [one, _, three]) = cluster(4);
    net.updates(middle, three);
    net.change(one, |wanted| wanted.originated.clear());
    net.run(secs(2));
    assert_eq!(next_hops(&net, three), [node(2)]);
    assert_eq!(net.updates(middle, three).len(), 1, "one withdrawal, and nothing is told again");
    net.change(one, |wanted| {
        wanted.originated.insert(prefix(SERVICE), Originated::plain(Source::Services));
    });
    net.run(secs(2));
    assert_eq!(next_hops(&net, three), [node(1), node(2)]);
}

#[test]
fn another_number_of_paths_needs_no_new_session() {
    let (mut net, middle, [_, _, three]) = cluster(1);
    let since = net.peer(three, middle).since;
    assert_eq!(next_hops(&net, three), [node(1)]);
    let exports = |net: &Net| {
        let exports = net.router(middle).exports(net.peer(middle, three).id, &[prefix(SERVICE)]);
        exports.into_iter().map(|(_, info)| info.withheld).collect::<Vec<_>>()
    };
    assert_eq!(exports(&net), [None, Some(Withheld::BeyondMostPaths)]);
    for (most, told) in [(2, vec![node(1), node(2)]), (1, vec![node(1)])] {
        net.change_peer(middle, three, |config| config.add_path = [(Family::Ipv4, tells(most))].into());
        net.run(secs(2));
        assert_eq!(next_hops(&net, three), told);
    }
    assert_eq!(net.peer(three, middle).since, since);
}

#[test]
fn it_is_agreed_on_by_family_and_direction() {
    let (net, middle, [_, _, three]) = cluster(4);
    let of = |host, peer| net.peer(host, peer).session.expect("established").add_path;
    let (tells, takes) = (of(middle, three), of(three, middle));
    let one = BTreeSet::from([Family::Ipv4]);
    assert_eq!((tells.send, tells.receive), (one.clone(), BTreeSet::new()));
    assert_eq!((takes.receive, takes.send), (one, BTreeSet::new()));
}

#[test]
fn what_is_judged_again_keeps_its_name() {
    let (mut net, middle, [one, two, three]) = cluster(2);
    net.updates(middle, three);
    for host in [one, two] {
        net.change_peer(middle, host, |config| config.max_prefixes += 1);
    }
    net.run(secs(2));
    assert_eq!(net.updates(middle, three), Vec::<Vec<u8>>::new());
}

/// Who is told of it beside others would use it like them.
#[test]
fn a_last_resort_is_told_of_only_while_there_is_nothing_else() {
    let (mut net, middle, [one, two, three]) = cluster(4);
    net.silence(one, middle);
    net.run(secs(100));
    assert_eq!(next_hops(&net, three), [node(2)], "nothing is heard of the first");
    net.silence(two, middle);
    net.run(secs(100));
    assert_eq!(next_hops(&net, three).len(), 1, "one of both, for there is nothing else");
}

// --- a peer octet by octet -------------------------------------------------------------------------------

struct Teller {
    device: Device,
    conn: ConnId,
    session: Session,
}

impl Teller {
    fn new() -> Teller {
        let mut wanted = router(ASN, DEVICE);
        wanted.peers = [tells_several(passive(65002, TELLER))].into();
        Teller::of(Device::new(wanted))
    }

    /// Connects; routes outlive its connection.
    fn of(mut device: Device) -> Teller {
        let conn = device.accept(ip(DEVICE), ip(TELLER));
        let four_octets = capability::four_octet_as(65002);
        let restart: &[u8] = &[64, 6, 0, 120, 0, 1, 1, 0x80];
        let open =
            open(65002, [10, 2, 0, 2], &[capability::IPV4, &four_octets, capability::ADD_PATH_IPV4, restart]);
        device.send(conn, &[&open[..], &keepalive()].concat());
        let ours = Open::decode(&open[19..]).expect("good");
        let session = Session::negotiate(&ours, &open_of(&device.received(conn)));
        Teller { device, conn, session }
    }

    fn route(path_id: u32) -> Nlri {
        Nlri { prefix: prefix("10.244.2.0/24"), path_id: PathId(path_id) }
    }

    /// A path over one of its own addresses.
    fn tell(&mut self, path_id: u32, host: u8, path: &[u32]) {
        let mut attributes = Attributes::originated(ip(&node(host)));
        attributes.as_path = path.iter().map(|asn| support::asn(*asn)).collect::<AsPath>();
        let mut octets = Vec::new();
        let attributes = Arc::new(attributes.into());
        write_announce(&mut octets, &self.session, &attributes, &[Teller::route(path_id)]).expect("short");
        self.device.send(self.conn, &octets);
    }

    fn take_back(&mut self, path_id: u32) {
        let mut octets = Vec::new();
        write_withdraw(&mut octets, &self.session, &[Teller::route(path_id)]);
        self.device.send(self.conn, &octets);
    }

    /// What became of its paths, by their names.
    fn verdicts(&self) -> Vec<(u32, Verdict)> {
        let id = self.device.router.peer_at(ip(TELLER)).expect("configured");
        let mut verdicts: Vec<(u32, Verdict)> = adj_rib_in(&self.device.router, id)
            .iter()
            .flat_map(|route| &route.paths)
            .map(|path| (path.path_id.0, path.verdict))
            .collect();
        verdicts.sort_by_key(|(name, _)| *name);
        verdicts
    }

    fn next_hops(&self) -> Vec<String> {
        let in_kernel = self.device.fib.get(&prefix("10.244.2.0/24")).into_iter().flatten();
        in_kernel.map(ToString::to_string).collect()
    }
}

#[test]
fn paths_of_one_peer_are_told_apart_by_their_names() {
    let mut teller = Teller::new();
    teller.tell(7, 21, &[65002, 65009]);
    teller.tell(3, 22, &[65002, 65009]);
    assert_eq!(teller.verdicts(), [(3, Verdict::Best), (7, Verdict::Lost(Reason::Multipath))]);
    assert_eq!(teller.next_hops(), [node(21), node(22)]);
    // The same name again: another path in its place.
    teller.tell(3, 23, &[65002, 65009, 65009]);
    assert_eq!(teller.verdicts(), [(3, Verdict::Lost(Reason::LongerAsPath)), (7, Verdict::Best)]);
    teller.take_back(7);
    assert_eq!((teller.verdicts(), teller.next_hops()), (vec![(3, Verdict::Best)], vec![node(23)]));
    teller.take_back(9);
    teller.take_back(3);
    assert_eq!((teller.verdicts(), teller.next_hops()), (vec![], vec![]));
}

#[test]
fn the_same_way_told_twice_is_used_once_whatever_came_first() {
    for order in [[4, 5], [5, 4]] {
        let mut teller = Teller::new();
        order.iter().for_each(|name| teller.tell(*name, 21, &[65002]));
        assert_eq!(teller.verdicts(), [(4, Verdict::Best), (5, Verdict::Lost(Reason::HigherPathId))]);
        assert_eq!(teller.next_hops(), [node(21)]);
    }
}

#[test]
fn more_paths_than_anybody_needs_are_not_kept() {
    let mut teller = Teller::new();
    (1..=70).for_each(|name| teller.tell(name, 21, &[65002]));
    assert_eq!(teller.verdicts().len(), 64);
    let id = teller.device.router.peer_at(ip(TELLER)).expect("configured");
    let counts = teller.device.router.peer(id).expect("configured").counts[&Family::Ipv4];
    assert_eq!((counts.received, counts.accepted, counts.not_kept), (70, 64, 6));
    assert_eq!(teller.device.router.tally().refusals[&Refusal::OverMaxPaths], 6);
    // One that is known may change, however many there are.
    teller.tell(64, 22, &[65002]);
    assert_eq!(teller.next_hops(), [node(21), node(22)]);
}

#[test]
fn refused_paths_are_bounded_by_the_same_number() {
    let mut wanted = router(ASN, DEVICE);
    let (at, mut config) = tells_several(passive(65002, TELLER));
    config.policy.import = Import::Declared;
    wanted.peers = [(at, config)].into();
    let mut teller = Teller::of(Device::new(wanted));
    (1..=70).for_each(|name| teller.tell(name, 21, &[65002]));
    assert_eq!(teller.verdicts().len(), 64);
    assert!(teller.verdicts().iter().all(|(_, verdict)| *verdict == Verdict::Refused(Refusal::NotDeclared)));
}

#[test]
fn what_is_kept_over_a_restart_takes_no_place_of_what_is_told_anew() {
    let mut teller = Teller::new();
    (1..=40).for_each(|name| teller.tell(name, 21, &[65002]));
    teller.device.hang_up(teller.conn);
    let mut teller = Teller::of(teller.device);
    (101..=140).for_each(|name| teller.tell(name, 22, &[65002]));
    teller.device.send(teller.conn, &message(2, &[0, 0, 0, 0]));
    assert_eq!((teller.verdicts().len(), teller.next_hops()), (40, vec![node(22)]));
}

#[test]
fn paths_that_have_other_names_after_a_restart_go_with_end_of_rib() {
    let mut teller = Teller::new();
    teller.tell(1, 21, &[65002]);
    teller.tell(2, 22, &[65002]);
    teller.device.hang_up(teller.conn);
    let mut teller = Teller::of(teller.device);
    teller.tell(8, 22, &[65002]);
    assert_eq!(teller.next_hops(), [node(21), node(22)], "what is stale is as good as what is fresh");
    let end_of_rib = message(2, &[0, 0, 0, 0]);
    teller.device.send(teller.conn, &end_of_rib);
    assert_eq!((teller.verdicts(), teller.next_hops()), (vec![(8, Verdict::Best)], vec![node(22)]));
}

#[test]
fn a_listener_of_several_paths_hears_each_with_its_name_and_own_routes_first() {
    let mut wanted = router(ASN, DEVICE);
    let (address, mut config) = passive(65002, TELLER);
    config.add_path = [(Family::Ipv4, tells(8))].into();
    wanted.peers = [(address, config)].into();
    wanted.originated = [(prefix(SERVICE), Originated::plain(Source::Services))].into();
    let mut device = Device::new(wanted);
    let conn = device.accept(ip(DEVICE), ip(TELLER));
    let takes: &[u8] = &[69, 4, 0, 1, 1, 1];
    let four_octets = capability::four_octet_as(65002);
    let capabilities = [capability::IPV4, &four_octets, takes];
    let open = open(65002, [10, 2, 0, 2], &capabilities);
    device.send(conn, &[&open[..], &keepalive()].concat());
    let messages = device.received(conn);
    let mut session = Session::negotiate(&Open::decode(&open[19..]).expect("good"), &open_of(&messages));
    session.peer_asn = support::asn(ASN);
    let updates = messages.iter().filter(|message| message.kind == MessageType::Update);
    let announced =
        updates.flat_map(|message| Update::decode(&message.body, &session).expect("good").announced);
    let routes: Vec<Nlri> = announced.flat_map(|one| one.routes).collect();
    assert_eq!(routes, [Nlri { prefix: prefix(SERVICE), path_id: PathId(1) }]);
}
