//! Route reflection (RFC 4456): who is told what, with which tracks, and which loops are found by them.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use cambric_bgp::config::ReflectorRole;
use cambric_bgp::policy::Refusal;
use cambric_bgp::rib::{RouteInfo, Verdict};
use cambric_bgp::{Originated, PeerConfig, RouterId, ScopedAddress, Source, Wanted};
use support::net::{Host, Net};
use support::{adj_rib_in, ip, neighbor, prefix, router, scoped};

const ASN: u32 = 65001;
const REFLECTOR: &str = "10.2.0.100";
const SECOND: &str = "10.2.0.101";
const SOON: Duration = Duration::from_secs(5);

fn node(number: u8) -> String {
    format!("10.2.0.{number}")
}

fn pods(number: u8) -> String {
    format!("10.244.{number}.0/24")
}

/// A node with pods and these reflectors.
fn member(number: u8, reflectors: &[&str]) -> Wanted {
    let mut wanted = router(ASN, &node(number));
    wanted.peers = reflectors.iter().map(|address| neighbor(ASN, address)).collect();
    wanted.originated = [(prefix(&pods(number)), Originated::plain(Source::Pods))].into();
    wanted
}

fn client(address: &str) -> (ScopedAddress, PeerConfig) {
    let (address, config) = neighbor(ASN, address);
    (address, PeerConfig { role: ReflectorRole::Client, ..config })
}

fn reflector(address: &str, peers: Vec<(ScopedAddress, PeerConfig)>) -> Wanted {
    let mut wanted = router(ASN, address);
    wanted.peers = BTreeMap::from_iter(peers);
    wanted
}

fn id(text: &str) -> RouterId {
    text.parse().expect("identifier in a test")
}

fn told(net: &Net, host: Host, teller: Host) -> Vec<RouteInfo> {
    adj_rib_in(net.router(host), net.peer(host, teller).id)
}

fn prefixes(net: &Net, host: Host, teller: Host) -> Vec<String> {
    told(net, host, teller).iter().map(|route| route.prefix.to_string()).collect()
}

/// Clients 1 and 2, non-clients 3 and 4.
fn cluster() -> (Net, Host, [Host; 4]) {
    let mut net = Net::new();
    let members = [1, 2, 3, 4].map(|number| net.add(member(number, &[REFLECTOR])));
    let [one, two] = [1, 2].map(|number| client(&node(number)));
    let [three, four] = [3, 4].map(|number| neighbor(ASN, &node(number)));
    let middle = net.add(reflector(REFLECTOR, vec![one, two, three, four]));
    for member in members {
        net.run_until_up(middle, member);
    }
    net.run(SOON);
    (net, middle, members)
}

#[test]
fn clients_are_told_of_all_and_others_of_clients() {
    let (net, middle, members) = cluster();
    let told = members.map(|member| prefixes(&net, member, middle));
    let of = |numbers: &[u8]| numbers.iter().map(|number| pods(*number)).collect::<Vec<_>>();
    assert_eq!(told, [of(&[2, 3, 4]), of(&[1, 3, 4]), of(&[1, 2]), of(&[1, 2])]);
}

#[test]
fn reflected_route_keeps_its_next_hop_and_says_where_it_has_been() {
    let (net, middle, [one, ..]) = cluster();
    let routes = told(&net, one, middle);
    let attributes =
        &routes.iter().find(|route| route.prefix == prefix(&pods(3))).expect("told").paths[0].attributes;
    assert_eq!(attributes.next_hop, ip(&node(3)));
    assert_eq!(attributes.originator_id, Some(id(&node(3)).into()));
    assert_eq!(attributes.cluster_list, [id(REFLECTOR).into()]);
    assert!(attributes.as_path.is_empty());
    assert_eq!(net.fib(one)[&prefix(&pods(3))], [ip(&node(3))].into());
}

#[test]
fn cluster_id_of_the_operator_stands_in_the_list_and_changes_without_a_new_session() {
    let (mut net, middle, [one, ..]) = cluster();
    net.change(middle, |wanted| wanted.router.cluster_id = Some(id("0.0.0.7")));
    net.run(SOON);
    for route in told(&net, one, middle) {
        assert_eq!(route.paths[0].attributes.cluster_list, [id("0.0.0.7").into()]);
    }
    assert!(net.notifications(middle, one).is_empty());
}

#[test]
fn peer_that_becomes_a_client_is_told_all_without_a_new_session() {
    let (mut net, middle, [_, _, three, four]) = cluster();
    net.change_peer(middle, three, |peer| peer.role = ReflectorRole::Client);
    net.run(SOON);
    assert_eq!(prefixes(&net, three, middle), [1, 2, 4].map(pods));
    assert_eq!(prefixes(&net, four, middle), [1, 2, 3].map(pods));
    net.change_peer(middle, three, |peer| peer.role = ReflectorRole::NonClient);
    net.run(SOON);
    assert_eq!(prefixes(&net, three, middle), [1, 2].map(pods));
    assert_eq!(prefixes(&net, four, middle), [1, 2].map(pods));
    assert!(net.notifications(middle, three).is_empty());
}

#[test]
fn withdrawn_route_goes_everywhere() {
    let (mut net, middle, [one, two, three, _]) = cluster();
    net.change(three, |wanted| wanted.originated.clear());
    net.run(SOON);
    assert_eq!(prefixes(&net, one, middle), [2, 4].map(pods));
    assert_eq!(prefixes(&net, two, middle), [1, 4].map(pods));
}

/// Two reflectors that are each other's client, and two nodes with both: every loop there is.
fn two_reflectors(same_cluster: bool) -> (Net, [Host; 2], [Host; 2]) {
    let mut net = Net::new();
    let members = [1, 2].map(|number| net.add(member(number, &[REFLECTOR, SECOND])));
    let both = || [1, 2].map(|number| client(&node(number))).to_vec();
    let mut first = reflector(REFLECTOR, [both(), vec![client(SECOND)]].concat());
    let mut second = reflector(SECOND, [both(), vec![client(REFLECTOR)]].concat());
    if same_cluster {
        first.router.cluster_id = Some(id("0.0.0.7"));
        second.router.cluster_id = Some(id("0.0.0.7"));
    }
    let reflectors = [net.add(first), net.add(second)];
    for reflector in reflectors {
        for member in members {
            net.run_until_up(reflector, member);
        }
    }
    net.run_until_up(reflectors[0], reflectors[1]);
    net.run(SOON);
    (net, reflectors, members)
}

/// Why `host` refuses what `teller` tells, by prefix.
fn refusals(net: &Net, host: Host, teller: Host) -> Vec<(String, Refusal)> {
    let refused = |route: &RouteInfo| match route.paths[0].verdict {
        Verdict::Refused(refusal) => Some((route.prefix.to_string(), refusal)),
        _ => None,
    };
    told(net, host, teller).iter().filter_map(refused).collect()
}

#[test]
fn reflector_of_the_same_cluster_refuses_what_went_through_it() {
    let (net, [first, second], [one, two]) = two_reflectors(true);
    let own_cluster = [1, 2].map(|number| (pods(number), Refusal::OwnClusterId));
    let seen = [refusals(&net, first, second), refusals(&net, second, first)].concat();
    assert!(!seen.is_empty() && seen.iter().all(|refused| own_cluster.contains(refused)), "{seen:?}");
    for (host, other) in [(one, 2), (two, 1)] {
        assert_eq!(net.fib(host)[&prefix(&pods(other))], [ip(&node(other))].into());
    }
}

/// A reflector picks one best path and does not tell it back; the other one may tell the route to whom it came from.
#[test]
fn node_refuses_its_own_route_by_the_originator() {
    let mut net = Net::new();
    // Nobody told the second reflector but the first: so it tells the node its own route.
    let one = net.add(member(1, &[REFLECTOR, SECOND]));
    net.change(one, |wanted| {
        let second = wanted.peers.get_mut(&scoped(SECOND)).expect("configured");
        second.policy.export = cambric_bgp::config::Export::Own;
    });
    let first = net.add(reflector(REFLECTOR, vec![client(&node(1)), client(SECOND)]));
    let mut only_second = reflector(SECOND, vec![client(&node(1)), client(REFLECTOR)]);
    // It takes nothing from the node itself.
    only_second.peers.get_mut(&scoped(&node(1))).expect("configured").max_prefixes = 0;
    let second = net.add(only_second);
    net.run_until_up(first, one);
    net.run_until_up(first, second);
    net.run_until_up(second, one);
    net.run(SOON);
    assert_eq!(refusals(&net, one, second), [(pods(1), Refusal::OwnOriginatorId)]);
}

#[test]
fn two_reflectors_of_two_clusters_settle_and_every_node_forwards_directly() {
    let (mut net, [first, second], [one, two]) = two_reflectors(false);
    let before = [net.updates(first, second), net.updates(second, first)];
    assert!(before.iter().all(|updates| !updates.is_empty()));
    net.run(Duration::from_secs(30));
    assert!(net.updates(first, second).is_empty() && net.updates(second, first).is_empty(), "they settle");
    for (host, other) in [(one, 2), (two, 1)] {
        assert_eq!(net.fib(host)[&prefix(&pods(other))], [ip(&node(other))].into());
    }
}
