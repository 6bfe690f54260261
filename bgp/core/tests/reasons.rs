//! Why a route is refused, and when it no longer is: links, own prefixes, declared ranges and policy change
//! under a session that stays, and what follows is exact. What a peer told is kept as it came.

mod support;

use std::collections::BTreeMap;

use cambric_bgp::config::{Declared, Export, Import, Link, LinkAddress, LinkState};
use cambric_bgp::peer::PeerState;
use cambric_bgp::policy::Refusal;
use cambric_bgp::rib::Verdict;
use cambric_bgp::router::PeerStatus;
use cambric_bgp::wire::{MessageType, Update};
use cambric_bgp::{ConnId, Family, Originated, PeerPolicy, Prefix, Source, Wanted};
use support::scripted::{self, Device, capability, message};
use support::{adj_rib_in, adj_rib_out, asn, ip, passive, prefix, refused, router, scoped};

const US: &str = "10.2.0.1";
const TELLER: &str = "10.2.0.2";
const LISTENER: &str = "10.2.0.3";
/// On no link of ours, at first.
const ELSEWHERE: &str = "10.9.0.7";

const OWN: &str = "10.244.1.0/24";
const PODS: &str = "10.244.2.0/24";

/// A node of a fabric with 10.244.0.0/16, and two sessions.
struct Rig {
    device: Device,
    wanted: Wanted,
    teller: ConnId,
    listener: ConnId,
}

impl Rig {
    fn new() -> Rig {
        let mut wanted = router(65001, US);
        wanted.peers = BTreeMap::from([passive(65002, TELLER), passive(65003, LISTENER)]);
        wanted.peers.values_mut().for_each(|peer| peer.policy = PeerPolicy::default());
        wanted.declared.pods = vec![prefix("10.244.0.0/16")];
        wanted.declared.nodes = [ip("10.255.0.2")].into();
        wanted.originated = [(prefix(OWN), Originated::plain(Source::Pods))].into();
        let mut device = Device::new(wanted.clone());
        let teller = establish(&mut device, 65002, TELLER);
        let listener = establish(&mut device, 65003, LISTENER);
        Rig { device, wanted, teller, listener }
    }

    /// With a listener that hears of learned routes, too.
    fn transit() -> Rig {
        let mut rig = Rig::new();
        rig.change(|wanted| policy(wanted, LISTENER).export = Export::All);
        rig
    }

    fn change(&mut self, change: impl FnOnce(&mut Wanted)) {
        change(&mut self.wanted);
        self.device.apply(self.wanted.clone());
    }

    /// The teller announces `prefixes`, over `next_hop` and after `path`.
    fn tell_over(&mut self, prefixes: &[&str], next_hop: &str, path: &[u32]) {
        let path: Vec<u8> = path.iter().flat_map(|asn| asn.to_be_bytes()).collect();
        let count = u8::try_from(path.len() / 4).expect("short");
        let next_hop: std::net::Ipv4Addr = next_hop.parse().expect("address");
        let attributes = [
            &[0x40, 1, 1, 0, 0x40, 2, 2 + 4 * count, 2, count][..],
            &path,
            &[0x40, 3, 4],
            &next_hop.octets(),
        ];
        let attributes = attributes.concat();
        let length = u16::try_from(attributes.len()).expect("short").to_be_bytes();
        let prefixes: Vec<u8> = prefixes.iter().flat_map(|text| nlri(&prefix(text))).collect();
        self.device.send(self.teller, &message(2, &[&[0, 0][..], &length, &attributes, &prefixes].concat()));
    }

    fn tell(&mut self, prefixes: &[&str]) {
        self.tell_over(prefixes, TELLER, &[65002]);
    }

    fn teller(&self) -> PeerStatus {
        status(&self.device, TELLER)
    }

    /// What became of the teller's path.
    fn verdict(&self, of: &str) -> Result<(), Refusal> {
        let told = adj_rib_in(&self.device.router, self.teller().id);
        let route = told.iter().find(|route| route.prefix == prefix(of)).expect("told");
        match route.paths[0].verdict {
            Verdict::Refused(refusal) => Err(refusal),
            Verdict::Best | Verdict::Lost(_) => Ok(()),
        }
    }

    /// What the kernel was told since the last call: prefix and number of next hops.
    fn kernel(&mut self) -> Vec<(Prefix, usize)> {
        let changes = std::mem::take(&mut self.device.changes);
        changes.iter().map(|change| (change.prefix, change.next_hops.len())).collect()
    }

    /// What the listener was told since the last call: withdrawn and announced.
    fn heard(&mut self) -> (Vec<Prefix>, Vec<Prefix>) {
        // As the listener sees it: paths start with our AS.
        let mut session = status(&self.device, LISTENER).session.expect("established");
        session.peer_asn = asn(65001);
        let (mut withdrawn, mut announced) = (Vec::new(), Vec::new());
        for message in self.device.received(self.listener) {
            assert_eq!(message.kind, MessageType::Update);
            let update = Update::decode(&message.body, &session).expect("well-formed");
            withdrawn.extend(update.withdrawn.into_iter().map(|route| route.prefix));
            let routes = update.announced.into_iter().flat_map(|entry| entry.routes);
            announced.extend(routes.map(|route| route.prefix));
        }
        (withdrawn, announced)
    }

    /// Nothing was asked for, nothing was closed.
    fn assert_undisturbed(&mut self) {
        assert_eq!(self.device.received(self.teller), []);
        for peer in [TELLER, LISTENER] {
            let status = status(&self.device, peer);
            assert_eq!((status.state, status.last_error), (PeerState::Established, None));
        }
    }
}

fn establish(device: &mut Device, asn: u32, peer: &str) -> ConnId {
    let conn = device.accept(ip(US), ip(peer));
    let std::net::IpAddr::V4(id) = ip(peer) else { panic!("IPv4") };
    let offered =
        [capability::IPV4, capability::IPV6, capability::ROUTE_REFRESH, &capability::four_octet_as(asn)];
    device.send(conn, &scripted::open(asn, id.octets(), &offered));
    device.send(conn, &scripted::keepalive());
    device.received(conn);
    conn
}

fn status(device: &Device, peer: &str) -> PeerStatus {
    let id = device.router.peer_at(ip(peer)).expect("configured");
    device.router.peer(id).expect("configured")
}

fn policy<'a>(wanted: &'a mut Wanted, peer: &str) -> &'a mut PeerPolicy {
    &mut wanted.peers.get_mut(&scoped(peer)).expect("configured").policy
}

fn nlri(prefix: &Prefix) -> Vec<u8> {
    let std::net::IpAddr::V4(address) = prefix.address() else { panic!("IPv4") };
    let octets = usize::from(prefix.length()).div_ceil(8);
    [&[prefix.length()][..], &address.octets()[..octets]].concat()
}

fn link(name: &str, address: &str, length: u8) -> Link {
    let address = LinkAddress::new(ip(address), length).expect("length");
    Link { name: name.to_owned(), state: LinkState::Up, addresses: vec![address] }
}

fn all<const N: usize>(prefixes: [&str; N]) -> Vec<Prefix> {
    prefixes.map(prefix).to_vec()
}

// --- reasons -----------------------------------------------------------------------------------------------

#[test]
fn each_bad_route_has_its_reason_and_the_good_one_beside_it_is_used() {
    let table: &[(&str, &str, &[u32], Refusal)] = &[
        (OWN, TELLER, &[65002], Refusal::OwnPrefix),
        ("10.244.1.64/26", TELLER, &[65002], Refusal::OwnPrefix),
        ("10.244.9.0/24", TELLER, &[65002, 65001], Refusal::OwnAsInPath),
        ("0.0.0.0/0", TELLER, &[65002], Refusal::DefaultRoute),
        ("10.244.3.0/24", ELSEWHERE, &[65002], Refusal::NextHopNotOnLink),
        ("10.244.4.0/24", US, &[65002], Refusal::NextHopIsOurs),
        ("10.2.0.0/16", TELLER, &[65002], Refusal::NextHopInsidePrefix),
        ("10.2.128.0/24", TELLER, &[65002], Refusal::LinkSubnet),
        ("10.2.0.1/32", TELLER, &[65002], Refusal::OwnAddress),
        ("10.255.0.3/32", TELLER, &[65002], Refusal::NotDeclared),
        ("192.0.2.0/24", TELLER, &[65002], Refusal::NotDeclared),
        ("127.0.0.0/8", TELLER, &[65002], Refusal::NotRoutable),
    ];
    let mut rig = Rig::new();
    for (bad, next_hop, path, _) in table {
        rig.tell_over(&[bad], next_hop, path);
    }
    rig.tell(&[PODS, "10.255.0.2/32"]);
    for (bad, _, _, reason) in table {
        assert_eq!(rig.verdict(bad), Err(*reason), "{bad}");
    }
    assert_eq!(rig.kernel(), [(prefix(PODS), 1), (prefix("10.255.0.2/32"), 1)]);
    let counts = rig.teller().counts[&Family::Ipv4];
    assert_eq!((counts.received, counts.accepted, counts.refused), (table.len() + 2, 2, table.len()));
    assert_eq!(refused(&rig.device.router).len(), table.len());
    rig.assert_undisturbed();
}

// --- links -------------------------------------------------------------------------------------------------

#[test]
fn next_hop_is_usable_from_the_moment_a_link_reaches_it() {
    let mut rig = Rig::transit();
    rig.tell_over(&[PODS], ELSEWHERE, &[65002]);
    assert_eq!(rig.verdict(PODS), Err(Refusal::NextHopNotOnLink));
    // An operator needs the address to find who is behind it.
    let refused = refused(&rig.device.router);
    assert_eq!(refused[0].paths[0].attributes.next_hop, ip(ELSEWHERE));
    rig.heard();

    rig.change(|wanted| wanted.links.push(link("eth2", "10.9.0.1", 24)));
    assert_eq!((rig.verdict(PODS), rig.kernel()), (Ok(()), vec![(prefix(PODS), 1)]));
    assert_eq!(rig.heard(), (vec![], all([PODS])));

    // A carrier lost for a moment is no reason: the path is as good as before when it is back.
    rig.change(|wanted| wanted.links[1].state = LinkState::Down);
    assert_eq!(rig.verdict(PODS), Ok(()));
    rig.change(|wanted| wanted.links[1].addresses.clear());
    assert_eq!((rig.verdict(PODS), rig.kernel()), (Err(Refusal::NextHopNotOnLink), vec![(prefix(PODS), 0)]));
    assert_eq!(rig.heard(), (all([PODS]), vec![]));
    rig.assert_undisturbed();
}

#[test]
fn next_hop_that_becomes_our_own_address_is_refused() {
    let mut rig = Rig::new();
    rig.tell_over(&[PODS], "10.2.0.9", &[65002]);
    assert_eq!(rig.kernel(), [(prefix(PODS), 1)]);
    let ours = LinkAddress::new(ip("10.2.0.9"), 16).expect("length");
    rig.change(|wanted| wanted.links[0].addresses.push(ours));
    assert_eq!((rig.verdict(PODS), rig.kernel()), (Err(Refusal::NextHopIsOurs), vec![(prefix(PODS), 0)]));
    rig.change(|wanted| wanted.links[0].addresses.retain(|address| *address != ours));
    assert_eq!((rig.verdict(PODS), rig.kernel()), (Ok(()), vec![(prefix(PODS), 1)]));
    rig.assert_undisturbed();
}

#[test]
fn own_routes_of_a_family_are_told_once_there_is_an_address_for_them() {
    let mut rig = Rig::new();
    let own = "fd00:244:1::/64";
    let address = rig.wanted.links[0].addresses.remove(1);
    let without = rig.wanted.clone();
    rig.device.apply(without);
    rig.change(|wanted| wanted.originated.extend([(prefix(own), Originated::plain(Source::Pods))]));
    assert_eq!(rig.heard(), (vec![], vec![]));
    rig.change(|wanted| wanted.links[0].addresses.push(address));
    assert_eq!(rig.heard(), (vec![], all([own])));
    rig.change(|wanted| wanted.links[0].addresses.truncate(1));
    assert_eq!(rig.heard(), (all([own]), vec![]));
}

// --- own prefixes and declared ranges ------------------------------------------------------------------------

#[test]
fn range_that_is_ours_no_more_may_come_from_a_peer() {
    let mut rig = Rig::new();
    rig.tell(&[OWN]);
    assert_eq!((rig.verdict(OWN), rig.kernel()), (Err(Refusal::OwnPrefix), vec![]));
    rig.heard();
    rig.change(|wanted| wanted.originated.clear());
    assert_eq!((rig.verdict(OWN), rig.kernel()), (Ok(()), vec![(prefix(OWN), 1)]));
    assert_eq!(rig.heard(), (all([OWN]), vec![]));
    rig.change(|wanted| wanted.originated.extend([(prefix(OWN), Originated::plain(Source::Pods))]));
    assert_eq!((rig.verdict(OWN), rig.kernel()), (Err(Refusal::OwnPrefix), vec![(prefix(OWN), 0)]));
    assert_eq!(rig.heard(), (vec![], all([OWN])));
    rig.device.received(rig.teller);
    rig.assert_undisturbed();
}

#[test]
fn declared_ranges_come_and_go_with_their_routes() {
    let mut rig = Rig::transit();
    let (pods, service, node) = ("10.245.1.0/24", "10.96.0.10/32", "10.255.0.9/32");
    rig.tell(&[pods, service, node, PODS]);
    assert_eq!(rig.kernel(), [(prefix(PODS), 1)]);
    rig.heard();
    let before = rig.wanted.declared.clone();
    rig.change(|wanted| {
        wanted.declared = Declared {
            pods: vec![prefix("10.244.0.0/15")],
            services: vec![prefix("10.96.0.0/16")],
            nodes: [ip("10.255.0.9")].into(),
            ..Declared::default()
        };
    });
    let mut more = all([pods, service, node]);
    more.sort();
    let mut kernel = rig.kernel();
    kernel.sort();
    assert_eq!(kernel, more.iter().map(|prefix| (*prefix, 1)).collect::<Vec<_>>());
    let (withdrawn, mut announced) = rig.heard();
    announced.sort();
    assert_eq!((withdrawn, announced), (vec![], more.clone()));

    rig.change(|wanted| wanted.declared = before);
    let mut kernel = rig.kernel();
    kernel.sort();
    assert_eq!(kernel, more.iter().map(|prefix| (*prefix, 0)).collect::<Vec<_>>());
    let (mut withdrawn, announced) = rig.heard();
    withdrawn.sort();
    assert_eq!((withdrawn, announced), (more, vec![]));
    assert_eq!(rig.verdict(service), Err(Refusal::NotDeclared));
    rig.assert_undisturbed();
}

// --- policy --------------------------------------------------------------------------------------------------

#[test]
fn opening_and_closing_import_is_exact() {
    let mut rig = Rig::transit();
    rig.tell(&["192.0.2.0/24", "0.0.0.0/0", PODS, OWN]);
    assert_eq!(rig.kernel(), [(prefix(PODS), 1)]);
    rig.heard();
    for _ in 0..3 {
        rig.change(|wanted| policy(wanted, TELLER).import = Import::All);
        assert_eq!(rig.kernel(), [(prefix("192.0.2.0/24"), 1), (prefix("0.0.0.0/0"), 1)]);
        assert_eq!(rig.heard(), (vec![], all(["192.0.2.0/24", "0.0.0.0/0"])));
        // What no policy can allow stays out.
        assert_eq!(rig.verdict(OWN), Err(Refusal::OwnPrefix));
        rig.change(|wanted| policy(wanted, TELLER).import = Import::Declared);
        assert_eq!(rig.kernel(), [(prefix("192.0.2.0/24"), 0), (prefix("0.0.0.0/0"), 0)]);
        assert_eq!(rig.heard(), (all(["192.0.2.0/24", "0.0.0.0/0"]), vec![]));
        assert_eq!(rig.verdict("0.0.0.0/0"), Err(Refusal::DefaultRoute));
    }
    rig.assert_undisturbed();
}

#[test]
fn opening_and_closing_export_tells_and_takes_back_exactly_the_learned_routes() {
    let mut rig = Rig::new();
    rig.tell(&[PODS, "10.244.3.0/24"]);
    assert_eq!(rig.heard(), (vec![], vec![]));
    let own = |rig: &Rig| {
        let told = adj_rib_out(&rig.device.router, status(&rig.device, LISTENER).id);
        told.into_iter().map(|(prefix, _)| prefix).collect::<Vec<_>>()
    };
    assert_eq!(own(&rig), all([OWN]));
    for _ in 0..3 {
        rig.change(|wanted| policy(wanted, LISTENER).export = Export::All);
        assert_eq!(rig.heard(), (vec![], all([PODS, "10.244.3.0/24"])));
        assert_eq!(own(&rig), all([OWN, PODS, "10.244.3.0/24"]));
        rig.change(|wanted| policy(wanted, LISTENER).export = Export::Own);
        assert_eq!(rig.heard(), (all([PODS, "10.244.3.0/24"]), vec![]));
        assert_eq!(own(&rig), all([OWN]));
    }
    assert_eq!(rig.kernel().len(), 2, "what we use ourselves did not change");
    rig.assert_undisturbed();
}

/// A change of everything at once, as an edit of a manifest may be: one step, no route in between.
#[test]
fn several_changes_at_once_are_one_step() {
    let mut rig = Rig::transit();
    rig.tell_over(&[PODS], ELSEWHERE, &[65002]);
    rig.tell(&["10.244.3.0/24", "192.0.2.0/24"]);
    rig.kernel();
    rig.heard();
    rig.change(|wanted| {
        wanted.links.push(link("eth2", "10.9.0.1", 24));
        wanted.declared.pods = vec![prefix("10.244.0.0/16"), prefix("192.0.2.0/24")];
        policy(wanted, LISTENER).export = Export::Own;
    });
    let mut kernel = rig.kernel();
    kernel.sort();
    assert_eq!(kernel, [(prefix(PODS), 1), (prefix("192.0.2.0/24"), 1)]);
    assert_eq!(rig.heard(), (all(["10.244.3.0/24"]), vec![]));
    rig.assert_undisturbed();
}
