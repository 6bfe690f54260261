//! Filters between routers: what a change of them tells to whom, and what it does not.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cambric_bgp::config::{Declared, Export, FamilyFilters, Import};
use cambric_bgp::policy::filter::{Action, Change, Filter, Match, Otherwise, PrefixRange, Provenance, Rule};
use cambric_bgp::policy::{Refusal, Withheld};
use cambric_bgp::rib::{RouteChange, Verdict};
use cambric_bgp::types::{Community, PeerKind};
use cambric_bgp::wire::MessageType;
use cambric_bgp::{Family, LocalPref, Originated, PeerConfig, PeerPolicy, Prefix, Source, Wanted};
use support::net::{Host, Net};
use support::{adj_rib_in, adj_rib_out, ip, neighbor, prefix, refused, router, scoped, secs};

const A: &str = "10.2.0.1";
const B: &str = "10.2.0.2";
const C: &str = "10.2.0.3";
const PODS_A: &str = "10.244.1.0/24";
const PODS_B: &str = "10.244.2.0/24";
const PODS_C: &str = "10.244.3.0/24";
const PODS_B6: &str = "fd00:244:2::/64";
const SHARED: &str = "10.96.0.0/16";

fn speaker(asn: u32, address: &str, peers: &[(u32, &str)], originated: &[&str]) -> Wanted {
    let mut wanted = router(asn, address);
    wanted.peers = peers.iter().map(|(asn, address)| neighbor(*asn, address)).collect();
    wanted.originated =
        originated.iter().map(|text| (prefix(text), Originated::plain(Source::Pods))).collect();
    wanted.declared = Declared {
        pods: vec![prefix("10.244.0.0/16"), prefix("fd00:244::/32")],
        services: vec![prefix(SHARED)],
        ..Declared::default()
    };
    wanted
}

/// A node between two switches, with the built-in policy at the node and none at the switches.
fn dual_homed(by_left: &[&str], by_right: &[&str]) -> (Net, Host, Host, Host) {
    between([PeerPolicy::default(), PeerPolicy::default()], by_left, by_right)
}

/// The same with these policies for the left and the right one.
fn between(policies: [PeerPolicy; 2], by_left: &[&str], by_right: &[&str]) -> (Net, Host, Host, Host) {
    let mut net = Net::new();
    let mut node = speaker(65001, A, &[(65002, B), (65003, C)], &[PODS_A]);
    for (peer, policy) in node.peers.values_mut().zip(policies) {
        peer.policy = policy;
    }
    let node = net.add(node);
    let left = net.add(speaker(65002, B, &[(65001, A)], by_left));
    let right = net.add(speaker(65003, C, &[(65001, A)], by_right));
    net.run_until_up(node, left);
    net.run_until_up(node, right);
    net.run(secs(10));
    forget(&mut net, &[node, left, right]);
    (net, node, left, right)
}

/// What was said so far.
fn forget(net: &mut Net, hosts: &[Host]) {
    for host in hosts {
        net.history(*host);
        for other in hosts.iter().filter(|other| *other != host) {
            net.sent(*host, *other);
        }
    }
}

fn to(prefixes: &[&str]) -> Match {
    let range = |text: &&str| PrefixRange::new(prefix(text), None, None).expect("sound");
    Match { prefixes: Some(prefixes.iter().map(range).collect()), ..Match::default() }
}

fn accept(matches: Match) -> Rule {
    set(matches, Change::default())
}

fn set(matches: Match, change: Change) -> Rule {
    Rule { matches, action: Action::Accept(change) }
}

fn reject(matches: Match) -> Rule {
    Rule { matches, action: Action::Reject }
}

fn filter(name: &str, rules: &[Rule], otherwise: Otherwise) -> Arc<Filter> {
    Arc::new(Filter { name: name.to_owned(), rules: rules.to_vec(), otherwise })
}

fn import(peer: &mut PeerConfig, family: Family, filters: &[Arc<Filter>]) {
    peer.policy.filters.entry(family).or_default().import = filters.to_vec();
}

fn export(peer: &mut PeerConfig, family: Family, filters: &[Arc<Filter>]) {
    peer.policy.filters.entry(family).or_default().export = filters.to_vec();
}

fn route<const N: usize>(to: &str, next_hops: [&str; N]) -> RouteChange {
    RouteChange { prefix: prefix(to), next_hops: next_hops.map(scoped).into() }
}

/// Of each refused path: prefix, reason, rule.
fn refusals(net: &Net, host: Host) -> Vec<(String, Refusal, Option<String>)> {
    let paths = refused(net.router(host)).into_iter().flat_map(|route| {
        let prefix = route.prefix.to_string();
        route.paths.into_iter().map(move |path| (prefix.clone(), path))
    });
    let refusal = |(prefix, path): (String, cambric_bgp::rib::PathInfo)| match path.verdict {
        Verdict::Refused(refusal) => Some((prefix, refusal, path.ruled_by.map(|by| by.to_string()))),
        _ => None,
    };
    paths.filter_map(refusal).collect()
}

fn kinds(net: &mut Net, from: Host, to: Host) -> Vec<MessageType> {
    let sent = net.sent(from, to).into_iter().map(|message| message.kind);
    sent.filter(|kind| *kind != MessageType::Keepalive).collect()
}

// --- import ----------------------------------------------------------------------------------------------

#[test]
fn changed_import_filter_takes_effect_at_once_and_nobody_is_asked() {
    let (mut net, node, left, right) = dual_homed(&[PODS_B, PODS_B6], &[PODS_C]);
    let since = net.peer(node, left).since;
    let closed = filter("closed", &[reject(to(&[PODS_B, PODS_C]))], Otherwise::Accept);
    net.change_peer(node, left, |peer| import(peer, Family::Ipv4, &[Arc::clone(&closed)]));
    assert_eq!(net.changes(node), [route(PODS_B, [])], "what the other one told, and IPv6, stay");
    let by = Some("closed rule 1".to_owned());
    assert_eq!(refusals(&net, node), [(PODS_B.to_owned(), Refusal::FilteredBy, by)]);
    net.change_peer(node, left, |peer| import(peer, Family::Ipv4, &[]));
    assert_eq!(net.changes(node), [route(PODS_B, [B])]);
    net.run(secs(1));
    assert_eq!((kinds(&mut net, node, left), kinds(&mut net, left, node)), (vec![], vec![]));
    assert_eq!(net.peer(node, left).since, since);
    assert!(net.is_up(node, right));
}

#[test]
fn default_route_is_taken_in_by_a_rule_that_names_it_and_goes_with_the_rule() {
    let (mut net, node, left, _) = dual_homed(&["0.0.0.0/0", PODS_B], &[]);
    let default_refused = || ("0.0.0.0/0".to_owned(), Refusal::DefaultRoute, None);
    assert_eq!(refusals(&net, node), [default_refused()]);
    let preferred = Change { local_pref: Some(LocalPref(50)), ..Change::default() };
    let everything = filter("all", &[set(Match::default(), preferred)], Otherwise::Accept);
    net.change_peer(node, left, |peer| import(peer, Family::Ipv4, &[everything]));
    assert_eq!(refusals(&net, node), [default_refused()], "a rule that means everything opens nothing");
    let tor_in = filter("tor-in", &[accept(to(&["0.0.0.0/0"]))], Otherwise::Accept);
    net.change_peer(node, left, |peer| import(peer, Family::Ipv4, &[tor_in]));
    assert_eq!(net.changes(node), [route("0.0.0.0/0", [B])]);
    let told = adj_rib_in(net.router(node), net.peer(node, left).id);
    let rules = told.iter().map(|route| route.paths[0].ruled_by.as_ref().map(ToString::to_string));
    assert_eq!(rules.flatten().collect::<Vec<_>>(), ["tor-in rule 1", "tor-in otherwise"]);
    let only = filter("only", &[accept(to(&["0.0.0.0/0"]))], Otherwise::Reject);
    net.change_peer(node, left, |peer| import(peer, Family::Ipv4, &[only]));
    assert_eq!(net.changes(node), [route(PODS_B, [])], "declared, and rejected all the same");
    net.change_peer(node, left, |peer| import(peer, Family::Ipv4, &[]));
    assert_eq!(net.changes(node), [route("0.0.0.0/0", []), route(PODS_B, [B])]);
}

#[test]
fn no_filter_opens_what_cannot_work() {
    let (mut net, node, left, _) = dual_homed(&["10.244.1.128/25", "10.2.0.0/24", "10.2.0.1/32"], &[]);
    let all = PrefixRange::new(prefix("0.0.0.0/0"), None, Some(32)).expect("sound");
    let open =
        filter("open", &[accept(Match { prefixes: Some(vec![all]), ..Match::default() })], Otherwise::Accept);
    net.change_peer(node, left, |peer| import(peer, Family::Ipv4, &[open]));
    assert_eq!(net.changes(node), []);
    let found: BTreeSet<Refusal> = refusals(&net, node).into_iter().map(|(_, why, _)| why).collect();
    let expected = [Refusal::OwnPrefix, Refusal::NextHopInsidePrefix, Refusal::OwnAddress];
    assert_eq!(found, expected.into());
}

#[test]
fn filter_that_changes_a_preference_moves_traffic_and_back() {
    let (mut net, node, left, _) = dual_homed(&[SHARED], &[SHARED]);
    assert_eq!(net.fib(node)[&prefix(SHARED)], [ip(B), ip(C)].into());
    let preferred = Change { local_pref: Some(LocalPref(200)), ..Change::default() };
    let prefer = filter("prefer", &[set(Match::default(), preferred)], Otherwise::Reject);
    net.change_peer(node, left, |peer| import(peer, Family::Ipv4, &[prefer]));
    assert_eq!(net.changes(node), [route(SHARED, [B])]);
    let longer = Change { prepend: 3, ..Change::default() };
    let avoid = filter("avoid", &[set(Match::default(), longer)], Otherwise::Reject);
    net.change_peer(node, left, |peer| import(peer, Family::Ipv4, &[avoid]));
    assert_eq!(net.changes(node), [route(SHARED, [C])]);
    net.change_peer(node, left, |peer| import(peer, Family::Ipv4, &[]));
    assert_eq!(net.changes(node), [route(SHARED, [B, C])]);
}

#[test]
fn rule_for_a_peer_follows_its_name() {
    let (mut net, node, left, _) = dual_homed(&[PODS_B], &[]);
    let peers = Some(BTreeSet::from(["tor1a".to_owned()]));
    let named = filter("named", &[reject(Match { peers, ..Match::default() })], Otherwise::Accept);
    net.change_peer(node, left, |peer| import(peer, Family::Ipv4, &[named]));
    assert_eq!(net.changes(node), []);
    net.change_peer(node, left, |peer| peer.name = "tor1a".to_owned());
    assert_eq!(net.changes(node), [route(PODS_B, [])]);
}

/// Beyond the limit refused paths are not kept, and the peer has them still.
#[test]
fn what_was_dropped_is_asked_for_when_a_filter_accepts_it() {
    let told: Vec<String> = (0..20).map(|number| format!("10.244.{}.0/24", 100 + number)).collect();
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    let mut net = Net::new();
    let mut node = speaker(65001, A, &[(65002, B)], &[PODS_A]);
    let nothing = filter("nothing", &[], Otherwise::Reject);
    for peer in node.peers.values_mut() {
        peer.policy = PeerPolicy::default();
        peer.max_prefixes = 10;
        import(peer, Family::Ipv4, &[Arc::clone(&nothing)]);
    }
    let (node, left) = (net.add(node), net.add(speaker(65002, B, &[(65001, A)], &told)));
    net.run_until_up(node, left);
    net.run(secs(10));
    let counts = |net: &Net| net.peer(node, left).counts[&Family::Ipv4];
    assert_eq!((counts(&net).accepted, counts(&net).refused, counts(&net).not_kept), (0, 20, 10));
    forget(&mut net, &[node, left]);

    let last = told[15..].to_vec();
    let some = filter("some", &[accept(to(&last))], Otherwise::Reject);
    net.change_peer(node, left, |peer| import(peer, Family::Ipv4, &[some]));
    net.run(secs(5));
    assert!(kinds(&mut net, node, left).contains(&MessageType::RouteRefresh));
    assert_eq!(net.fib(node).keys().map(Prefix::to_string).collect::<Vec<_>>(), last);
    // Another filter that has nothing to do with what was not kept asks once more, and is right as well.
    net.change_peer(node, left, |peer| import(peer, Family::Ipv4, &[nothing]));
    net.run(secs(5));
    assert!(net.fib(node).is_empty());
    assert_eq!((counts(&net).accepted, counts(&net).refused), (0, 20));
}

// --- export ----------------------------------------------------------------------------------------------

#[test]
fn changed_export_filter_tells_the_difference_and_nothing_else() {
    let (mut net, node, left, right) = dual_homed(&[], &[]);
    let since = net.peer(node, left).since;
    let held = filter("held", &[reject(to(&[PODS_A]))], Otherwise::Accept);
    net.change_peer(node, left, |peer| export(peer, Family::Ipv4, &[Arc::clone(&held)]));
    net.run(secs(1));
    assert_eq!((net.changes(left), net.changes(right)), (vec![route(PODS_A, [])], vec![]));
    let exports = net.router(node).exports(net.peer(node, left).id, &[prefix(PODS_A)]);
    let (withheld, by) = (exports[0].1.withheld, exports[0].1.ruled_by.as_ref().map(ToString::to_string));
    assert_eq!((withheld, by.as_deref()), (Some(Withheld::FilteredBy), Some("held rule 1")));

    let longer = Change { prepend: 2, add_communities: vec![Community::NO_EXPORT], ..Change::default() };
    let prepend = filter("prepend", &[set(Match::default(), longer)], Otherwise::Reject);
    net.change_peer(node, left, |peer| export(peer, Family::Ipv4, &[Arc::clone(&prepend)]));
    net.run(secs(1));
    assert_eq!(net.changes(left), [route(PODS_A, [A])]);
    let sent = adj_rib_out(net.router(node), net.peer(node, left).id);
    assert_eq!(sent[0].1.as_path.to_string(), "65001 65001 65001");
    assert_eq!(sent[0].1.communities, [Community::NO_EXPORT]);
    forget(&mut net, &[node, left, right]);

    // The same in another object, as a folder that is read anew gives it.
    let same = Arc::new(Filter::clone(&prepend));
    net.change_peer(node, left, |peer| export(peer, Family::Ipv4, &[same]));
    // And one that comes to the same.
    let again = filter("again", &prepend.rules, Otherwise::Accept);
    net.change_peer(node, left, |peer| export(peer, Family::Ipv4, &[again]));
    net.run(secs(1));
    assert_eq!((kinds(&mut net, node, left), kinds(&mut net, node, right)), (vec![], vec![]));
    assert_eq!(net.peer(node, left).since, since);
}

#[test]
fn only_a_rule_that_names_the_source_makes_a_transit_and_its_end_withdraws() {
    let (mut net, node, left, right) = dual_homed(&[PODS_B], &[]);
    let why = |net: &Net| {
        let exports = net.router(node).exports(net.peer(node, right).id, &[prefix(PODS_B)]);
        exports[0].1.withheld
    };
    assert_eq!(why(&net), Some(Withheld::NoTransit));
    let broad = PrefixRange::new(prefix("10.244.0.0/16"), None, Some(24)).expect("sound");
    let pods = Match { prefixes: Some(vec![broad]), ..Match::default() };
    let own = filter("own", &[accept(pods.clone())], Otherwise::Accept);
    net.change_peer(node, right, |peer| export(peer, Family::Ipv4, &[own]));
    net.run(secs(1));
    assert_eq!((why(&net), net.changes(right)), (Some(Withheld::NoTransit), vec![]));

    let sources = Some(BTreeSet::from([Provenance::Learned(PeerKind::External)]));
    let transit = filter("transit", &[accept(Match { sources, ..pods })], Otherwise::Accept);
    net.change_peer(node, right, |peer| export(peer, Family::Ipv4, &[transit]));
    net.run(secs(1));
    assert_eq!((why(&net), net.changes(right)), (None, vec![route(PODS_B, [A])]));
    net.change_peer(node, right, |peer| export(peer, Family::Ipv4, &[]));
    net.run(secs(1));
    assert_eq!((why(&net), net.changes(right)), (Some(Withheld::NoTransit), vec![route(PODS_B, [])]));
    assert!(net.changes(left).is_empty());
}

// --- all at once -----------------------------------------------------------------------------------------

/// Filters to choose from.
fn pool() -> Vec<Arc<Filter>> {
    let change = |change| set(Match::default(), change);
    let learned = Some(BTreeSet::from([Provenance::Learned(PeerKind::External)]));
    vec![
        filter("nothing", &[], Otherwise::Reject),
        filter("default", &[accept(to(&["0.0.0.0/0"]))], Otherwise::Accept),
        filter("no-shared", &[reject(to(&[SHARED]))], Otherwise::Accept),
        filter("no-b", &[reject(to(&[PODS_B, PODS_B6]))], Otherwise::Accept),
        filter("longer", &[change(Change { prepend: 2, ..Change::default() })], Otherwise::Accept),
        filter(
            "prefer",
            &[change(Change { local_pref: Some(LocalPref(300)), ..Change::default() })],
            Otherwise::Accept,
        ),
        filter(
            "marked",
            &[change(Change { add_communities: vec![Community(7)], ..Change::default() })],
            Otherwise::Accept,
        ),
        filter("transit", &[accept(Match { sources: learned, ..Match::default() })], Otherwise::Accept),
    ]
}

/// What three routers have, and what the node has told.
type Tables = (Vec<BTreeMap<Prefix, String>>, Vec<Vec<(Prefix, String)>>);

fn tables(net: &Net, node: Host, others: [Host; 2]) -> Tables {
    let fib =
        |host: &Host| net.fib(*host).iter().map(|(prefix, hops)| (*prefix, format!("{hops:?}"))).collect();
    let sent = |other: &Host| {
        let sent = adj_rib_out(net.router(node), net.peer(node, *other).id);
        sent.into_iter().map(|(prefix, attributes)| (prefix, format!("{:?}", **attributes))).collect()
    };
    let all = [node, others[0], others[1]];
    (all.iter().map(fib).collect(), others.iter().map(sent).collect())
}

/// Policy changes that do not withdraw are the oldest bug of routers: whatever was said before, the tables are those of
/// a router that never knew another policy.
#[test]
fn after_any_edits_the_tables_are_as_if_the_last_policy_had_been_the_first() {
    let (left_tells, right_tells) = (["0.0.0.0/0", PODS_B, PODS_B6, SHARED], ["0.0.0.0/0", PODS_C, SHARED]);
    let pool = pool();
    for seed in 1..=40_u64 {
        // A linear congruential generator (Knuth, MMIX).
        let mut state = seed;
        let mut random = |most: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % most
        };
        let (mut net, node, left, right) = dual_homed(&left_tells, &right_tells);
        for _ in 0..12 {
            let peer = [left, right][random(2)];
            let family = Family::ALL[random(2)];
            let chain: Vec<_> = (0..random(3)).map(|_| Arc::clone(&pool[random(pool.len())])).collect();
            let what = random(4);
            net.change_peer(node, peer, |peer| match what {
                0 => import(peer, family, &chain),
                1 => export(peer, family, &chain),
                2 => {
                    let policy = &mut peer.policy;
                    policy.import = if policy.import == Import::All { Import::Declared } else { Import::All };
                }
                _ => {
                    let policy = &mut peer.policy;
                    policy.export = if policy.export == Export::All { Export::Own } else { Export::All };
                }
            });
            net.run(Duration::from_millis(random(40) as u64));
        }
        net.run(secs(5));
        let edited = tables(&net, node, [left, right]);
        let policies = [left, right].map(|peer| net.peer(node, peer).config.policy);
        let (fresh, node, left, right) = between(policies, &left_tells, &right_tells);
        assert_eq!(edited, tables(&fresh, node, [left, right]), "seed {seed}");
    }
}

#[test]
fn no_filters_are_the_same_as_empty_ones() {
    let empty = PeerPolicy {
        filters: Family::ALL.map(|family| (family, FamilyFilters::default())).into(),
        ..PeerPolicy::default()
    };
    let (mut net, node, left, right) = dual_homed(&[PODS_B], &[PODS_C]);
    net.change_peer(node, left, |peer| peer.policy = empty);
    net.run(secs(1));
    assert_eq!((net.changes(node), kinds(&mut net, node, left)), (vec![], vec![]));
    assert!(net.is_up(node, right));
}
