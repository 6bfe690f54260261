//! Leaving on purpose (RFC 8326): what is drained is used last, then told no more; and what others say of their leaving.

mod support;

use std::collections::BTreeMap;
use std::time::Instant;

use cambric_bgp::config::{Drain, Offer, Source};
use cambric_bgp::rib::{Reason, Verdict};
use cambric_bgp::router::Restarted;
use cambric_bgp::types::{Community, LocalPref};
use cambric_bgp::{Family, Originated, PeerConfig, ScopedAddress, Wanted};
use support::net::{Host, Net};
use support::{adj_rib_out, ip, neighbor, prefix, router, routes, secs};

const A: &str = "10.2.0.1";
const B: &str = "10.2.0.2";
const C: &str = "10.2.0.3";

const PODS: &str = "10.244.1.0/24";
const SERVICE: &str = "10.96.0.7/32";
/// Told in place of this one.
const AGGREGATE: &str = "10.97.0.0/24";
const IN_AGGREGATE: &str = "10.97.0.7/32";
const NODE: &str = "10.255.0.1/32";

fn speaker<const N: usize>(asn: u32, address: &str, peers: [(ScopedAddress, PeerConfig); N]) -> Wanted {
    Wanted { peers: BTreeMap::from(peers), ..router(asn, address) }
}

/// A node with everything that can be announced, an external neighbour and an internal one.
fn three() -> (Net, Host, Host, Host) {
    let mut node = speaker(65001, A, [neighbor(65002, B), neighbor(65001, C)]);
    let sources = [
        (PODS, Source::Pods),
        (SERVICE, Source::Services),
        (AGGREGATE, Source::Aggregate),
        (IN_AGGREGATE, Source::Services),
        (NODE, Source::NodeAddress),
    ];
    node.originated =
        sources.iter().map(|(text, source)| (prefix(text), Originated::plain(*source))).collect();
    let mut net = Net::new();
    let node = net.add(node);
    let external = net.add(speaker(65002, B, [neighbor(65001, A)]));
    let internal = net.add(speaker(65001, C, [neighbor(65001, A)]));
    for peer in [external, internal] {
        net.run_until_up(node, peer);
    }
    net.run(secs(10));
    (net, node, external, internal)
}

fn services(now: Instant) -> Drain {
    Drain { services: Some(now), ..Drain::default() }
}

fn all(now: Instant) -> Drain {
    Drain { pods: Some(now), ..services(now) }
}

fn drain(net: &mut Net, node: Host, drain: impl FnOnce(Instant) -> Drain) {
    let now = net.now;
    net.change(node, |wanted| wanted.drain = drain(now));
    net.run(secs(1));
}

/// What `peer` was told of our own, each with whether it is to be used last.
fn told(net: &Net, node: Host, peer: Host) -> Vec<(String, bool)> {
    let id = net.peer(node, peer).id;
    let leaves = |communities: &[Community]| communities.contains(&Community::GRACEFUL_SHUTDOWN);
    let sent = adj_rib_out(net.router(node), id).into_iter();
    sent.map(|(prefix, attributes)| (prefix.to_string(), leaves(&attributes.communities))).collect()
}

fn owned(entries: &[(&str, bool)]) -> Vec<(String, bool)> {
    let mut entries: Vec<(String, bool)> =
        entries.iter().map(|(text, leaves)| ((*text).to_owned(), *leaves)).collect();
    entries.sort_by_key(|(text, _)| prefix(text));
    entries
}

#[test]
fn what_is_drained_is_marked_at_once_and_told_no_more_after_a_minute() {
    let (mut net, node, external, internal) = three();
    drain(&mut net, node, all);
    let marked = owned(&[(PODS, true), (SERVICE, true), (AGGREGATE, true), (NODE, false)]);
    for peer in [external, internal] {
        assert_eq!(told(&net, node, peer), marked);
    }
    net.run(secs(58));
    assert_eq!(told(&net, node, external), marked);
    net.run(secs(2));
    for peer in [external, internal] {
        assert_eq!(told(&net, node, peer), owned(&[(NODE, false)]));
        assert_eq!(net.fib(peer).keys().map(ToString::to_string).collect::<Vec<_>>(), [NODE]);
    }
}

#[test]
fn services_and_pods_are_drained_apart() {
    let (mut net, node, external, _) = three();
    drain(&mut net, node, services);
    let marked = owned(&[(PODS, false), (SERVICE, true), (AGGREGATE, true), (NODE, false)]);
    assert_eq!(told(&net, node, external), marked);
    net.run(secs(60));
    assert_eq!(told(&net, node, external), owned(&[(PODS, false), (NODE, false)]));
    let services_since = net.now - secs(61);
    drain(&mut net, node, |now| Drain { pods: Some(now), ..services(services_since) });
    assert_eq!(told(&net, node, external), owned(&[(PODS, true), (NODE, false)]));
}

/// What a node tells of the prefixes that are announced as `of`, to a switch that alone is offered the aggregates.
fn behind(of: &[(&str, Source)]) -> (Net, Host, Host) {
    let (mut net, node, external, _) = three();
    net.change(node, |wanted| {
        let to_switch = Offer { peers: Some([B.to_owned()].into()), ..Offer::default() };
        let own = |source| match source {
            Source::Aggregate => Originated { source, offers: vec![to_switch.clone()] },
            source => Originated::plain(source),
        };
        wanted.originated = of.iter().map(|(text, source)| (prefix(text), own(*source))).collect();
    });
    net.run(secs(1));
    (net, node, external)
}

#[test]
fn pods_behind_an_aggregate_are_reached_while_services_are_drained_and_go_with_it() {
    let (mut net, node, external) =
        behind(&[(PODS, Source::Pods), ("10.244.0.0/20", Source::Aggregate), (SERVICE, Source::Services)]);
    drain(&mut net, node, services);
    net.run(secs(70));
    assert_eq!(told(&net, node, external), owned(&[("10.244.0.0/20", false)]));
    drain(&mut net, node, |now| Drain { pods: Some(now), ..Drain::default() });
    assert_eq!(told(&net, node, external), owned(&[("10.244.0.0/20", true), (SERVICE, false)]));
    net.run(secs(70));
    assert_eq!(told(&net, node, external), owned(&[(SERVICE, false)]));
}

#[test]
fn an_aggregate_of_pods_and_services_stays_while_one_of_them_does() {
    let all_in_one = "10.0.0.0/8";
    let (mut net, node, external) =
        behind(&[(PODS, Source::Pods), (all_in_one, Source::Aggregate), (SERVICE, Source::Services)]);
    drain(&mut net, node, services);
    net.run(secs(70));
    assert_eq!(told(&net, node, external), owned(&[(all_in_one, false)]));
    let services_since = net.now - secs(70);
    drain(&mut net, node, |now| Drain { pods: Some(now), ..services(services_since) });
    assert_eq!(told(&net, node, external), owned(&[(all_in_one, true)]));
    net.run(secs(70));
    assert_eq!(told(&net, node, external), owned(&[]));
}

#[test]
fn local_pref_is_0_inside_the_as_and_absent_outside() {
    let (mut net, node, external, internal) = three();
    drain(&mut net, node, all);
    let preference = |peer: Host| {
        let id = net.peer(node, peer).id;
        let sent = adj_rib_out(net.router(node), id);
        let (_, attributes) = sent.iter().find(|(to, _)| *to == prefix(PODS)).expect("told");
        attributes.local_pref
    };
    assert_eq!((preference(external), preference(internal)), (None, Some(LocalPref(0))));
}

#[test]
fn undrained_is_told_again_as_it_was() {
    let (mut net, node, external, _) = three();
    let before = told(&net, node, external);
    for wait in [10, 100] {
        drain(&mut net, node, all);
        net.run(secs(wait));
        assert_ne!(told(&net, node, external), before);
        drain(&mut net, node, |_| Drain::default());
        assert_eq!(told(&net, node, external), before);
    }
}

#[test]
fn drained_node_that_restarts_tells_nothing_that_was_gone() {
    let (mut net, node, external, _) = three();
    drain(&mut net, node, all);
    net.run(secs(61));
    net.stop(node);
    net.run(secs(1));
    net.sent(node, external);
    net.start(node, Restarted::Yes { kept: Family::ALL.into() });
    net.run_until_up(node, external);
    net.run(secs(20));
    assert_eq!(told(&net, node, external), owned(&[(NODE, false)]));
    assert_eq!(net.fib(external).len(), 1);
}

#[test]
fn way_over_who_leaves_is_used_only_without_another() {
    let mut net = Net::new();
    let one = net.add(speaker(65001, A, [neighbor(65002, B), neighbor(65003, C)]));
    let mut hosts = [(65002, B), (65003, C)].map(|(asn, address)| {
        let mut wanted = speaker(asn, address, [neighbor(65001, A)]);
        wanted.originated = [(prefix(SERVICE), Originated::plain(Source::Services))].into();
        net.add(wanted)
    });
    for host in hosts {
        net.run_until_up(one, host);
    }
    net.run(secs(10));
    assert_eq!(net.fib(one)[&prefix(SERVICE)], [ip(B), ip(C)].into());
    drain(&mut net, hosts[0], all);
    assert_eq!(net.fib(one)[&prefix(SERVICE)], [ip(C)].into());
    let paths = &routes(net.router(one))[0].paths;
    assert_eq!(paths[1].verdict, Verdict::Lost(Reason::LowerLocalPref));
    hosts.reverse();
    net.stop(hosts[0]);
    net.run(secs(60 * 60 * 2));
    assert_eq!(net.fib(one).len(), 0, "the one left is drained by now");
    drain(&mut net, hosts[1], |_| Drain::default());
    assert_eq!(net.fib(one)[&prefix(SERVICE)], [ip(B)].into());
}
