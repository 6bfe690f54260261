//! Own prefixes with attributes: each peer is told what it is offered, and a changed offer needs no new session.

mod support;

use std::sync::Arc;
use std::time::Duration;

use cambric_bgp::config::{FamilyFilters, Offer, Originated, Source};
use cambric_bgp::policy::Withheld;
use cambric_bgp::policy::filter::{Action, Filter, Match, Otherwise, Provenance, Rule};
use cambric_bgp::types::{Community, LargeCommunity};
use cambric_bgp::{Attributes, Family, LocalPref, Med, Wanted};
use support::net::{Host, Net, Step};
use support::{adj_rib_in, adj_rib_out, neighbor, prefix, router, routes};

const NODE: &str = "10.2.0.1";
const TOR: &str = "10.2.0.2";
const MESH: &str = "10.2.0.3";
const PODS: &str = "10.244.1.0/24";

fn speaker<const N: usize>(asn: u32, address: &str, peers: [(u32, &str); N]) -> Wanted {
    let mut wanted = router(asn, address);
    wanted.peers = peers.map(|(asn, address)| neighbor(asn, address)).into();
    wanted
}

/// A node with an external and an internal peer that both know all it has.
fn rig(originated: &[(&str, Originated)]) -> (Net, Host, Host, Host) {
    let mut net = Net::new();
    let mut wanted = speaker(65001, NODE, [(65002, TOR), (65001, MESH)]);
    wanted.originated = originated.iter().map(|(text, own)| (prefix(text), own.clone())).collect();
    let node = net.add(wanted);
    let tor = net.add(speaker(65002, TOR, [(65001, NODE)]));
    let mesh = net.add(speaker(65001, MESH, [(65001, NODE)]));
    net.run_until_up(node, tor);
    net.run_until_up(node, mesh);
    net.run(Duration::from_secs(10));
    for host in [node, tor, mesh] {
        net.history(host);
    }
    (net, node, tor, mesh)
}

/// What `host` was told of a prefix by the node, and has.
fn told(net: &Net, host: Host, node: Host, text: &str) -> Option<Attributes> {
    let routes = adj_rib_in(net.router(host), net.peer(host, node).id);
    let route = routes.into_iter().find(|route| route.prefix == prefix(text))?;
    Some(Attributes::clone(&route.paths[0].attributes))
}

fn change(net: &mut Net, node: Host, text: &str, own: Option<Originated>) {
    net.change(node, |wanted| {
        match own {
            Some(own) => wanted.originated.insert(prefix(text), own),
            None => wanted.originated.remove(&prefix(text)),
        };
    });
    net.run(Duration::from_secs(1));
    let history: Vec<Step> = net.history(node);
    let is_route = |step: &Step| matches!(step, Step::Route(_));
    assert!(history.iter().all(is_route), "no session is touched: {history:?}");
}

fn named(name: &str, offer: Offer) -> Offer {
    Offer { peers: Some([name.to_owned()].into()), ..offer }
}

fn offers(offers: impl IntoIterator<Item = Offer>) -> Originated {
    Originated { offers: offers.into_iter().collect(), ..Originated::plain(Source::Pods) }
}

#[test]
fn the_first_offer_that_is_for_a_peer_decides_and_whoever_has_none_is_not_told() {
    let low = named(TOR, Offer { med: Some(Med(7)), prepend: 2, ..Offer::default() });
    let high = named(TOR, Offer { med: Some(Med(9)), ..Offer::default() });
    let (net, node, tor, mesh) = rig(&[(PODS, offers([low, high]))]);
    let at_tor = told(&net, tor, node, PODS).expect("told");
    assert_eq!((at_tor.med, at_tor.as_path.to_string().as_str()), (Some(Med(7)), "65001 65001 65001"));
    assert_eq!(told(&net, mesh, node, PODS), None);
}

#[test]
fn a_changed_offer_is_told_anew_and_one_that_is_gone_is_withdrawn_without_a_new_session() {
    let (mut net, node, tor, mesh) = rig(&[(PODS, Originated::plain(Source::Pods))]);
    let plain = told(&net, tor, node, PODS).expect("told");
    assert_eq!((plain.communities.len(), plain.med), (0, None));

    let community = Community(65001 << 16 | 100);
    let large = LargeCommunity([65001, 1, 2]);
    let rich = Offer {
        local_pref: Some(LocalPref(300)),
        communities: vec![Community::NO_EXPORT, community],
        large_communities: vec![large],
        ..Offer::default()
    };
    change(&mut net, node, PODS, Some(offers([rich.clone()])));
    let (at_tor, at_mesh) = (told(&net, tor, node, PODS).expect("told"), told(&net, mesh, node, PODS));
    assert_eq!(at_tor.communities, [Community::NO_EXPORT, community], "for the peer to heed");
    assert_eq!((at_tor.large_communities.as_slice(), at_tor.local_pref), (&[large][..], None));
    assert_eq!(at_mesh.expect("told").local_pref, Some(LocalPref(300)));

    change(&mut net, node, PODS, Some(offers([named(MESH, rich)])));
    assert_eq!(told(&net, tor, node, PODS), None);
    assert!(told(&net, mesh, node, PODS).is_some());

    change(&mut net, node, PODS, Some(offers([Offer::default()])));
    assert_eq!(told(&net, tor, node, PODS), Some(plain));
    change(&mut net, node, PODS, None);
    assert_eq!((told(&net, tor, node, PODS), told(&net, mesh, node, PODS)), (None, None));
}

const AGGREGATE: &str = "10.244.0.0/20";

/// An aggregate for the switch.
fn aggregate() -> Originated {
    Originated { source: Source::Aggregate, ..offers([named(TOR, Offer::default())]) }
}

/// Which of these `host` was told by the node.
fn known<const N: usize>(net: &Net, host: Host, node: Host, texts: [&str; N]) -> [bool; N] {
    texts.map(|text| told(net, host, node, text).is_some())
}

#[test]
fn whoever_is_told_an_aggregate_is_not_told_what_lies_in_it_and_whoever_is_not_is() {
    let (mut net, node, tor, mesh) =
        rig(&[(PODS, Originated::plain(Source::Pods)), (AGGREGATE, aggregate())]);
    let known = |net: &Net, host| known(net, host, node, [PODS, AGGREGATE]);
    assert_eq!((known(&net, tor), known(&net, mesh)), ([false, true], [true, false]));
    let exports = net.router(node).exports(net.peer(node, tor).id, &[prefix(PODS)]);
    assert_eq!(exports[0].1.withheld, Some(Withheld::Aggregated));

    change(&mut net, node, AGGREGATE, Some(Originated { source: Source::Aggregate, ..offers([]) }));
    assert_eq!(known(&net, tor), [true, false], "it is for nobody now");
    change(&mut net, node, AGGREGATE, Some(aggregate()));
    assert_eq!(known(&net, tor), [false, true]);
    change(&mut net, node, AGGREGATE, None);
    assert_eq!(known(&net, tor), [true, false]);
}

#[test]
fn of_two_aggregates_the_wider_one_is_told() {
    let wider = "10.244.0.0/16";
    let own = [(PODS, Originated::plain(Source::Pods)), (AGGREGATE, aggregate()), (wider, aggregate())];
    let (mut net, node, tor, _) = rig(&own);
    assert_eq!(known(&net, tor, node, [PODS, AGGREGATE, wider]), [false, false, true]);
    change(&mut net, node, wider, None);
    assert_eq!(known(&net, tor, node, [PODS, AGGREGATE, wider]), [false, true, false]);
}

/// Else the peer would be told neither, and pods that are nobody's business to filter could not be reached.
#[test]
fn whoever_has_a_filter_that_rejects_aggregates_is_told_what_lies_in_them() {
    let (mut net, node, tor, _) = rig(&[(PODS, Originated::plain(Source::Pods)), (AGGREGATE, aggregate())]);
    let sources = Some([Provenance::Local(Source::Aggregate)].into());
    let rejects = Filter {
        name: "no-aggregates".to_owned(),
        rules: vec![Rule { matches: Match { sources, ..Match::default() }, action: Action::Reject }],
        otherwise: Otherwise::Accept,
    };
    let export = vec![Arc::new(rejects)];
    for (filters, tells) in [(export, [true, false]), (Vec::new(), [false, true])] {
        let filters = FamilyFilters { export: filters, ..FamilyFilters::default() };
        net.change_peer(node, tor, |config| config.policy.filters = [(Family::Ipv4, filters)].into());
        net.run(Duration::from_secs(1));
        assert_eq!(known(&net, tor, node, [PODS, AGGREGATE]), tells);
    }
    assert!(net.history(node).is_empty(), "no session is touched");
}

#[test]
fn a_peer_with_another_name_is_told_what_is_for_that_name() {
    let (mut net, node, tor, _) = rig(&[(PODS, offers([named("leaf", Offer::default())]))]);
    assert_eq!(told(&net, tor, node, PODS), None);
    net.change_peer(node, tor, |config| config.name = "leaf".to_owned());
    net.run(Duration::from_secs(1));
    assert!(told(&net, tor, node, PODS).is_some());
    assert!(net.history(node).is_empty());
}

/// All nodes announce a service, with a LOCAL_PREF above the default: were another's better than the own route, each
/// would take back its own.
#[test]
fn own_route_stays_best_beside_one_with_a_higher_local_pref() {
    let service = "10.96.0.10/32";
    let offered = |local_pref| Originated {
        source: Source::Services,
        ..offers([Offer { local_pref: Some(LocalPref(local_pref)), ..Offer::default() }])
    };
    let (mut net, node, tor, mesh) = rig(&[(service, offered(200))]);
    change(&mut net, mesh, service, Some(offered(300)));
    assert!(told(&net, node, mesh, service).is_some_and(|told| told.local_pref == Some(LocalPref(300))));
    assert!(told(&net, tor, node, service).is_some() && told(&net, mesh, node, service).is_some());
    for host in [node, mesh] {
        let route = routes(net.router(host)).into_iter().find(|route| route.prefix == prefix(service));
        let best = &route.expect("own").paths[0];
        assert_eq!(best.originated.as_ref().map(|own| own.source), Some(Source::Services));
        assert!(!net.fib(host).contains_key(&prefix(service)), "own ones are not the kernel's to learn");
    }
}

#[test]
fn thousands_of_prefixes_with_one_offer_are_told_with_one_attribute_set() {
    let own = offers([Offer { med: Some(Med(5)), ..Offer::default() }]);
    let many: Vec<String> = (0..2000).map(|n| format!("10.96.{}.{}/32", n / 250, n % 250)).collect();
    let originated: Vec<(&str, Originated)> = many.iter().map(|text| (text.as_str(), own.clone())).collect();
    let (net, node, tor, _) = rig(&originated);
    let sent = adj_rib_out(net.router(node), net.peer(node, tor).id);
    assert_eq!(sent.len(), 2000);
    assert!(sent.iter().all(|(_, attributes)| Arc::ptr_eq(attributes, &sent[0].1)));
}
