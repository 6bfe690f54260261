//! Peers of every sort: their AS, ours for them, who connects, and what of a path they see.

mod support;

use std::time::Duration;

use cambric_bgp::config::{AsOverride, ConnectMode, Distance, PeerAsn};
use cambric_bgp::policy::Refusal;
use cambric_bgp::rib::Verdict;
use cambric_bgp::types::PeerKind;
use cambric_bgp::{PeerConfig, ScopedAddress};
use support::net::{Host, Net};
use support::{adj_rib_in, asn, neighbor, speaker};

const A: &str = "10.2.0.1";
const B: &str = "10.2.0.2";
const C: &str = "10.2.0.3";
const SOON: Duration = Duration::from_secs(5);

fn changed(
    (address, mut config): (ScopedAddress, PeerConfig),
    change: impl FnOnce(&mut PeerConfig),
) -> (ScopedAddress, PeerConfig) {
    change(&mut config);
    (address, config)
}

/// The paths that `host` heard from `teller`: prefix, AS path, refusal.
fn heard(net: &Net, host: Host, teller: Host) -> Vec<(String, String, Option<Refusal>)> {
    let told = adj_rib_in(net.router(host), net.peer(host, teller).id);
    let row = |route: &cambric_bgp::rib::RouteInfo| {
        let path = &route.paths[0];
        let refusal = match path.verdict {
            Verdict::Refused(refusal) => Some(refusal),
            _ => None,
        };
        (route.prefix.to_string(), path.attributes.as_path.to_string(), refusal)
    };
    told.iter().map(row).collect()
}

fn row(prefix: &str, path: &str, refusal: Option<Refusal>) -> (String, String, Option<Refusal>) {
    (prefix.to_owned(), path.to_owned(), refusal)
}

fn last_error(net: &Net, host: Host, peer: Host) -> String {
    net.peer(host, peer).last_error.map(|error| error.what).unwrap_or_default()
}

#[test]
fn peer_of_any_external_as_is_taken_and_its_as_learned_from_its_open() {
    let mut net = Net::new();
    let any = changed(neighbor(1, B), |peer| peer.asn = PeerAsn::External);
    let one = net.add(speaker(65001, A, [any], &[]));
    let other = net.add(speaker(65002, B, [neighbor(65001, A)], &[]));
    assert_eq!(net.peer(one, other).asn, None);
    net.run_until_up(one, other);
    let peer = net.peer(one, other);
    assert_eq!((peer.asn, peer.kind), (Some(asn(65002)), PeerKind::External));
    net.stop(other);
    net.run(SOON);
    assert_eq!(
        (net.is_up(one, other), net.peer(one, other).asn),
        (false, Some(asn(65002))),
        "it is who it was"
    );
}

#[test]
fn peer_that_is_of_the_other_sort_is_refused_in_words() {
    let rows = [
        (PeerAsn::External, 65001, "peer announced AS 65001, configured external, and AS 65001 is ours"),
        (PeerAsn::Internal, 65002, "peer announced AS 65002, configured internal, which is AS 65001"),
        (PeerAsn::Exactly(asn(65003)), 65002, "peer announced AS 65002, configured 65003"),
    ];
    for (sort, actual, words) in rows {
        let mut net = Net::new();
        let one = net.add(speaker(65001, A, [changed(neighbor(1, B), |peer| peer.asn = sort)], &[]));
        let other = net.add(speaker(actual, B, [neighbor(65001, A)], &[]));
        net.run(Duration::from_secs(3));
        assert!(!net.is_up(one, other));
        let said = last_error(&net, one, other);
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn internal_peer_need_not_name_its_as() {
    let mut net = Net::new();
    let inside = |address| changed(neighbor(1, address), |peer| peer.asn = PeerAsn::Internal);
    let one = net.add(speaker(65001, A, [inside(B)], &[]));
    let other = net.add(speaker(65001, B, [inside(A)], &[]));
    assert_eq!(net.peer(one, other).asn, Some(asn(65001)), "it is ours");
    net.run_until_up(one, other);
    assert_eq!(net.peer(one, other).kind, PeerKind::Internal);
}

#[test]
fn peer_sees_the_local_as_and_no_other_of_ours() {
    let mut net = Net::new();
    let local = changed(neighbor(65002, B), |peer| peer.local_asn = Some(asn(64999)));
    let one = net.add(speaker(65001, A, [local], &["10.244.1.0/24"]));
    let other = net.add(speaker(65002, B, [neighbor(64999, A)], &["10.244.2.0/24"]));
    net.run_until_up(one, other);
    net.run(SOON);
    assert_eq!(net.peer(other, one).asn, Some(asn(64999)));
    assert_eq!(heard(&net, other, one), [row("10.244.1.0/24", "64999", None)]);
    assert_eq!(heard(&net, one, other), [row("10.244.2.0/24", "65002", None)]);
}

#[test]
fn session_in_the_local_as_of_a_peer_is_internal() {
    let mut net = Net::new();
    let local = changed(neighbor(65002, B), |peer| peer.local_asn = Some(asn(65002)));
    let one = net.add(speaker(65001, A, [local], &["10.244.1.0/24"]));
    let other = net.add(speaker(65002, B, [neighbor(65002, A)], &[]));
    net.run_until_up(one, other);
    net.run(SOON);
    assert_eq!(net.peer(one, other).kind, PeerKind::Internal);
    assert_eq!(heard(&net, other, one), [row("10.244.1.0/24", "", None)]);
}

/// A line of three, the outer ones in one AS: what the first tells goes over the second to the third.
fn line(
    outer: [u32; 2],
    to_third: impl FnOnce(&mut PeerConfig),
    at_third: impl FnOnce(&mut PeerConfig),
) -> (Net, [Host; 3]) {
    let mut net = Net::new();
    let [first, third] = outer;
    let one = net.add(speaker(first, A, [neighbor(65010, B)], &["10.244.1.0/24"]));
    let peers = [neighbor(first, A), changed(neighbor(third, C), to_third)];
    let two = net.add(speaker(65010, B, peers, &[]));
    let three = net.add(speaker(third, C, [changed(neighbor(65010, B), at_third)], &[]));
    net.run_until_up(one, two);
    net.run_until_up(two, three);
    net.run(SOON);
    (net, [one, two, three])
}

#[test]
fn sites_of_one_as_reach_each_other_by_as_override_or_allow_own_as() {
    let (net, [_, two, three]) = line([65001, 65001], |_| {}, |_| {});
    let refused = row("10.244.1.0/24", "65010 65001", Some(Refusal::OwnAsInPath));
    assert_eq!(heard(&net, three, two), [refused]);

    let (net, [_, two, three]) = line([65001, 65001], |peer| peer.as_override = AsOverride::On, |_| {});
    assert_eq!(heard(&net, three, two), [row("10.244.1.0/24", "65010 65010", None)]);

    let (net, [_, two, three]) = line([65001, 65001], |_| {}, |peer| peer.allow_own_as = 1);
    assert_eq!(heard(&net, three, two), [row("10.244.1.0/24", "65010 65001", None)]);
}

#[test]
fn both_settings_take_effect_without_a_new_session() {
    let (mut net, [_, two, three]) = line([65001, 65001], |_| {}, |_| {});
    net.change_peer(three, two, |peer| peer.allow_own_as = 1);
    net.run(SOON);
    assert_eq!(heard(&net, three, two), [row("10.244.1.0/24", "65010 65001", None)]);
    net.change_peer(three, two, |peer| peer.allow_own_as = 0);
    net.change_peer(two, three, |peer| peer.as_override = AsOverride::On);
    net.run(SOON);
    assert_eq!(heard(&net, three, two), [row("10.244.1.0/24", "65010 65010", None)]);
    assert!(net.notifications(two, three).is_empty() && net.notifications(three, two).is_empty());
}

/// The loop check knows the local AS, too: what went out with it must not come in again.
#[test]
fn route_that_went_out_with_the_local_as_is_known_when_it_comes_back() {
    let local = |peer: &mut PeerConfig| peer.local_asn = Some(asn(65001));
    let (net, [_, two, three]) = line([65001, 65003], |peer| peer.asn = asn(65001).into(), local);
    let refused = row("10.244.1.0/24", "65010 65001", Some(Refusal::OwnAsInPath));
    assert_eq!(heard(&net, three, two), [refused]);
}

#[test]
fn active_peer_is_connected_to_and_may_not_connect() {
    let mut net = Net::new();
    let active = |address, asn| changed(neighbor(asn, address), |peer| peer.connect = ConnectMode::Active);
    let one = net.add(speaker(65001, A, [active(B, 65002)], &[]));
    let other = net.add(speaker(65002, B, [neighbor(65001, A)], &[]));
    net.run_until_up(one, other);
    net.run(SOON);
    assert!(net.connections(one, other).iter().all(|(opener, _)| *opener == one));
    // Both sides: nobody is taken.
    let mut net = Net::new();
    let one = net.add(speaker(65001, A, [active(B, 65002)], &[]));
    let other = net.add(speaker(65002, B, [active(A, 65001)], &[]));
    net.run(Duration::from_secs(60));
    assert!(!net.is_up(one, other));
}

#[test]
fn external_peer_that_is_on_no_link_is_said_to_take_multihop() {
    const FAR: &str = "192.0.2.1";
    let mut net = Net::new();
    let far = net.add_stopped(speaker(65002, FAR, [], &[]));
    let one = net.add(speaker(65001, A, [neighbor(65002, FAR)], &[]));
    net.run(SOON);
    let words = "connect: connection refused; it is on no link of ours, set multihop";
    assert_eq!(last_error(&net, one, far), words);
    net.change_peer(one, far, |peer| peer.transport.distance = Distance::Multihop(8));
    net.run(SOON);
    assert_eq!(last_error(&net, one, far), "connect: connection refused");
}
