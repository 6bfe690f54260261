//! Listen ranges: who may come, who is made a peer, and when it is forgotten.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cambric_bgp::config::{FamilyFilters, ListenRange, Offer, PeerAsn};
use cambric_bgp::peer::PeerState;
use cambric_bgp::policy::filter::{Action, Filter, Match, Otherwise, Rule};
use cambric_bgp::router::{PeerOrigin, Refused, Restarted};
use cambric_bgp::{Admin, Family, Med, Originated, PeerConfig, Source, Wanted};
use support::net::{Host, Net};
use support::scripted::Device;
use support::{ip, neighbor, prefix, router, scoped};

const US: &str = "10.2.0.1";
const RANGE: &str = "10.2.1.0/24";
const ONE: &str = "10.2.1.1";
const TWO: &str = "10.2.1.2";
const PODS: &str = "10.244.7.0/24";
const SOON: Duration = Duration::from_secs(5);
/// Longer than anything is kept that nobody asked to be kept.
const LATER: Duration = Duration::from_secs(40);

fn range(name: &str, most_peers: usize) -> ListenRange {
    let (_, template) = neighbor(1, ONE);
    ListenRange {
        template: PeerConfig { name: name.to_owned(), asn: PeerAsn::External, ..template },
        most_peers,
    }
}

fn listening<const N: usize>(ranges: [(&str, ListenRange); N]) -> Wanted {
    let mut wanted = router(65001, US);
    wanted.listen_ranges = ranges.map(|(text, range)| (prefix(text), range)).into();
    wanted
}

/// A host in AS 65002 that connects to us.
fn guest(address: &str) -> Wanted {
    let mut wanted = router(65002, address);
    wanted.peers = BTreeMap::from([neighbor(65001, US)]);
    wanted.originated = [(prefix(PODS), Originated::plain(Source::Pods))].into();
    wanted
}

fn addresses(net: &Net, host: Host) -> Vec<IpAddr> {
    net.router(host).peers().iter().map(|peer| peer.address.ip()).collect()
}

fn with_one_guest() -> (Net, Host, Host) {
    let mut net = Net::new();
    let us = net.add(listening([(RANGE, range("rack", 10))]));
    let guest = net.add(guest(ONE));
    net.run_until_up(guest, us);
    net.run(SOON);
    (net, us, guest)
}

#[test]
fn host_in_the_range_becomes_a_peer_when_it_connects() {
    let (net, us, guest) = with_one_guest();
    let peer = net.peer(us, guest);
    assert_eq!(peer.state, PeerState::Established);
    assert_eq!(peer.origin, PeerOrigin::Range(prefix(RANGE)));
    assert_eq!((peer.config.name.as_str(), peer.asn), ("rack", Some(support::asn(65002))));
    assert_eq!(net.fib(us)[&prefix(PODS)], [ip(ONE)].into());
}

/// What a filter and an advertisement call them by.
#[test]
fn name_of_the_range_is_that_of_all_who_come_from_it() {
    const OWN: &str = "10.244.1.0/24";
    let names = |name: &str| Some(BTreeSet::from([name.to_owned()]));
    let heard = |filtered: &str, offered: &str| {
        let matches = Match { peers: names(filtered), ..Match::default() };
        let rules = vec![Rule { matches, action: Action::Reject }];
        let filter = Filter { name: "named".to_owned(), rules, otherwise: Otherwise::Accept };
        let filters = FamilyFilters { import: vec![Arc::new(filter)], export: Vec::new() };
        let mut listen = range("rack", 10);
        listen.template.policy.filters.insert(Family::Ipv4, filters);
        let mut wanted = listening([(RANGE, listen)]);
        let offer = Offer { peers: names(offered), med: Some(Med(7)), ..Offer::default() };
        let offers = vec![offer, Offer::default()];
        wanted.originated = [(prefix(OWN), Originated { offers, ..Originated::plain(Source::Pods) })].into();
        let mut net = Net::new();
        let us = net.add(wanted);
        let guests = [ONE, TWO].map(|address| net.add(guest(address)));
        for guest in guests {
            net.run_until_up(guest, us);
        }
        net.run(SOON);
        let meds = guests.map(|guest| {
            let told =
                support::routes(net.router(guest)).into_iter().find(|route| route.prefix == prefix(OWN));
            told.expect("told").paths[0].attributes.med
        });
        (net.fib(us).contains_key(&prefix(PODS)), meds)
    };
    assert_eq!(heard("rack", "rack"), (false, [Some(Med(7)); 2]));
    assert_eq!(heard("other", "other"), (true, [None; 2]));
}

#[test]
fn peer_that_is_gone_is_forgotten_after_what_is_kept_for_it() {
    let (mut net, us, guest) = with_one_guest();
    net.stop(guest);
    net.run(LATER);
    assert_eq!(addresses(&net, us), [ip(ONE)], "it may restart (RFC 4724, RFC 9494): its routes are kept");
    assert!(net.fib(us).contains_key(&prefix(PODS)));
    net.run(Duration::from_secs(2 * 3600));
    assert!(addresses(&net, us).is_empty() && net.fib(us).is_empty());
    net.start(guest, Restarted::No);
    net.run_until_up(guest, us);
}

#[test]
fn peer_that_leaves_is_forgotten_soon() {
    let (mut net, us, guest) = with_one_guest();
    net.change(guest, |wanted| wanted.peers.clear());
    net.run(SOON);
    assert_eq!(net.peer(us, guest).state, PeerState::Active, "it is still shown, with the reason");
    assert!(net.fib(us).is_empty());
    net.run(LATER);
    assert!(addresses(&net, us).is_empty());
}

#[test]
fn longest_range_counts_and_nobody_outside_is_taken() {
    let inner = "10.2.1.0/31";
    let mut net = Net::new();
    let us = net.add(listening([(RANGE, range("rack", 10)), (inner, range("inner", 10))]));
    let [one, two] = [ONE, TWO].map(|address| net.add(guest(address)));
    net.run_until_up(one, us);
    net.run_until_up(two, us);
    assert_eq!(net.peer(us, one).origin, PeerOrigin::Range(prefix(inner)));
    assert_eq!(net.peer(us, two).origin, PeerOrigin::Range(prefix(RANGE)));
    let mut device = Device::new(listening([("10.2.0.0/16", range("rack", 10))]));
    let now = device.now;
    let refused = |device: &mut Device, remote: &str| device.router.handle_accepted(now, ip(US), ip(remote));
    assert_eq!(refused(&mut device, "10.3.0.1"), Err(Refused::UnknownPeer));
    assert_eq!(refused(&mut device, US), Err(Refused::Ourselves));
    assert!(refused(&mut device, "10.2.9.9").is_ok());
}

#[test]
fn no_more_peers_than_the_range_may_have_and_one_that_is_gone_makes_room() {
    let mut net = Net::new();
    let us = net.add(listening([(RANGE, range("rack", 1))]));
    let [one, two] = [ONE, TWO].map(|address| net.add(guest(address)));
    net.run_until_up(one, us);
    net.run(LATER);
    assert_eq!(addresses(&net, us), [ip(ONE)]);
    net.change(one, |wanted| wanted.peers.clear());
    net.run_until_up(two, us);
    assert_eq!(addresses(&net, us), [ip(TWO)]);
}

#[test]
fn configured_peer_is_none_of_the_range_and_may_become_one() {
    let (mut net, us, guest) = with_one_guest();
    net.change(us, |wanted| {
        let (address, config) = neighbor(65002, ONE);
        let config = PeerConfig { connect: cambric_bgp::config::ConnectMode::Passive, ..config };
        wanted.peers.insert(address, PeerConfig { asn: PeerAsn::External, ..config });
    });
    net.run(LATER);
    assert_eq!(net.peer(us, guest).origin, PeerOrigin::Configured);
    assert!(net.is_up(us, guest) && net.notifications(us, guest).is_empty(), "the session stays");
    net.change(us, |wanted| wanted.peers.clear());
    net.run_until_up(guest, us);
    assert_eq!(net.peer(us, guest).origin, PeerOrigin::Range(prefix(RANGE)));
}

#[test]
fn template_that_changes_is_followed_and_a_range_that_goes_takes_its_peers_along() {
    let (mut net, us, guest) = with_one_guest();
    let range = |wanted: &mut Wanted, change: fn(&mut PeerConfig)| {
        change(&mut wanted.listen_ranges.get_mut(&prefix(RANGE)).expect("configured").template);
    };
    net.change(us, |wanted| range(wanted, |template| template.max_prefixes = 7));
    assert_eq!(net.peer(us, guest).config.max_prefixes, 7);
    assert!(net.is_up(us, guest));
    net.change(us, |wanted| wanted.listen_ranges.clear());
    net.run(SOON);
    assert!(addresses(&net, us).is_empty() && net.fib(us).is_empty());
}

#[test]
fn peer_of_a_range_is_disabled_by_its_address_also_when_it_was_forgotten() {
    let (mut net, us, guest) = with_one_guest();
    net.set_admin(us, guest, Admin::Disabled);
    net.run(Duration::from_secs(120));
    assert_ne!(net.peer(guest, us).state, PeerState::Established);
    assert_eq!(net.router(us).disabled(), &[scoped(ONE)].into());
    let said = net.peer(guest, us).last_error.map(|error| error.what).unwrap_or_default();
    assert!(said.contains("Administrative Shutdown"), "{said}");
    net.set_admin(us, guest, Admin::Enabled);
    net.run_until_up(guest, us);
}

/// Nobody knows who of a range had a session before a restart: routes of the earlier run wait for them.
#[test]
fn restarted_router_waits_for_the_peers_of_its_ranges() {
    let (mut net, us, guest) = with_one_guest();
    net.stop(us);
    net.start(us, Restarted::Yes { kept: Family::ALL.into() });
    assert!(!net.is_converged(us, Family::Ipv4));
    net.run_until_up(guest, us);
    net.run(SOON);
    assert!(net.fib(us).contains_key(&prefix(PODS)));
    net.run(LATER);
    assert!(net.is_converged(us, Family::Ipv4) && net.fib(us).contains_key(&prefix(PODS)));
}

#[test]
fn peer_that_only_listens_like_us_is_told_of() {
    let mut net = Net::new();
    let mut wanted = router(65001, US);
    wanted.peers = BTreeMap::from([support::passive(65002, ONE)]);
    let us = net.add(wanted);
    let mut other = guest(ONE);
    other.peers = BTreeMap::from([support::passive(65001, US)]);
    let other = net.add(other);
    net.run(LATER);
    for (host, peer) in [(us, other), (other, us)] {
        let said = net.peer(host, peer).last_error.map(|error| error.what).unwrap_or_default();
        assert!(said.contains("we are passive, and nothing came"), "{said}");
    }
}

#[test]
fn peer_that_has_an_address_of_ours_is_said_to() {
    let mut device = Device::new(listening([]));
    let mut wanted = device.router.wanted().clone();
    wanted.peers = BTreeMap::from([neighbor(65002, US)]);
    device.apply(wanted);
    let connect = device.actions.iter().find_map(|action| match action {
        cambric_bgp::Action::Connect { conn, .. } => Some(*conn),
        _ => None,
    });
    let conn = connect.expect("an attempt");
    device.call(|router, now| router.handle_connected(now, conn, ip(US)));
    assert!(device.is_closed(conn));
    let said = device.router.peers()[0].last_error.clone().expect("a reason").what;
    assert_eq!(said, "connect: the address of the peer is one of ours");
}

#[test]
fn part_of_a_range_that_is_closed_lets_nobody_in_and_lets_those_go_who_are() {
    let (mut net, us, guest) = with_one_guest();
    net.change(us, |wanted| assert!(wanted.closed.insert(prefix("10.2.1.0/31"))));
    net.run(SOON);
    assert_eq!(addresses(&net, us), Vec::<IpAddr>::new());
    net.run(LATER);
    assert_eq!(addresses(&net, us), Vec::<IpAddr>::new(), "it goes on dialling");
    net.change(us, |wanted| wanted.closed.clear());
    net.run_until_up(guest, us);
}
