use cambric_bgp::{Med, PeerConfig};

use super::*;
use crate::intent::{Intent, intent};
use crate::objects::Objects;
use crate::source::folder::Folder;

const NODES: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {rack: '1'}}
spec: {podCIDRs: [10.244.1.0/24, 'fd00:244:1::/64']}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: n2, labels: {rack: '2'}}
spec: {podCIDRs: [10.244.2.0/24]}
status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}
---
apiVersion: cambric.dev/v1alpha1
kind: BGPClusterConfig
metadata: {name: all}
spec:
  mesh: Disabled
  podCIDRs: [10.244.0.0/16, 'fd00:244::/32']
  peers:
  - {name: tor1, address: 172.16.0.0, asn: 65101}
  - {name: tor2, address: 172.16.0.2, asn: 65102}
";

fn advertisement(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: cambric.dev/v1alpha1\nkind: BGPAdvertisement\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

fn objects(more: &[String]) -> Objects {
    let folder = tempfile::tempdir().expect("temporary folder");
    std::fs::write(folder.path().join("all.yaml"), format!("{NODES}{}", more.concat())).expect("own folder");
    let view = Folder::new(folder.path().to_owned(), "n1").view();
    Objects::clone(&view.fabric)
}

fn intent_of(more: &[String]) -> Intent {
    intent(&objects(more), "n1", &[]).expect("node is known")
}

fn own<'a>(intent: &'a Intent, prefix: &str) -> Option<&'a Originated> {
    intent.wanted.originated.get(&prefix.parse().expect("prefix"))
}

fn med_for(intent: &Intent, prefix: &str, peer: &str) -> Option<u32> {
    own(intent, prefix)?.offer_for(peer)?.med.map(|Med(value)| value)
}

/// As the speaker does it: an aggregate is told in place of what lies in it.
fn told(intent: &Intent, peer: &str) -> Vec<String> {
    told_of(&intent.wanted.originated, peer)
}

fn told_of(originated: &BTreeMap<Prefix, Originated>, peer: &str) -> Vec<String> {
    let offered = || originated.iter().filter(|(_, own)| own.offer_for(peer).is_some());
    let is_behind = |prefix: &Prefix| {
        offered()
            .any(|(other, own)| own.source == Source::Aggregate && other != prefix && other.covers(prefix))
    };
    offered().map(|(prefix, _)| prefix).filter(|prefix| !is_behind(prefix)).map(Prefix::to_string).collect()
}

fn words(intent: &Intent) -> Vec<String> {
    intent.problems.iter().map(Problem::to_string).collect()
}

#[test]
fn without_an_advertisement_pods_and_addresses_go_to_all_peers_as_they_are() {
    let intent = intent_of(&[]);
    let plain = |source| Some(Originated::plain(source));
    assert_eq!(own(&intent, "10.244.1.0/24").cloned(), plain(Source::Pods));
    assert_eq!(own(&intent, "192.0.2.1/32").cloned(), plain(Source::NodeAddress));
    assert_eq!(intent.unreachable, intent.pod_prefixes);
}

#[test]
fn an_advertisement_of_pods_says_with_what_and_keeps_them_from_nobody() {
    let intent =
        intent_of(&[advertisement("a", "{peers: [tor1], advertised: [{what: Pods, attributes: {med: 7}}]}")]);
    assert_eq!(med_for(&intent, "10.244.1.0/24", "tor1"), Some(7));
    assert_eq!(own(&intent, "10.244.1.0/24").and_then(|own| own.offer_for("tor2")), Some(&Offer::default()));
    assert_eq!(own(&intent, "192.0.2.1/32").map(|own| own.offers.len()), Some(1));
    assert_eq!(words(&intent), [""; 0]);
}

#[test]
fn one_for_other_nodes_says_nothing_here() {
    let spec = "{nodeSelector: {matchLabels: {rack: '2'}}, advertised: [{what: Pods, attributes: {med: 7}}]}";
    let intent = intent_of(&[advertisement("a", spec)]);
    assert_eq!(own(&intent, "10.244.1.0/24"), Some(&Originated::plain(Source::Pods)));
}

#[test]
fn of_two_the_older_decides_and_the_younger_is_told_who_does() {
    let pods = |name: &str, peers: &str, med: u32| {
        advertisement(name, &format!("{{{peers}advertised: [{{what: Pods, attributes: {{med: {med}}}}}]}}"))
    };
    let intent = intent_of(&[pods("b", "", 1), pods("a", "peers: [tor2], ", 2)]);
    assert_eq!(med_for(&intent, "10.244.1.0/24", "tor2"), Some(1), "the order of the file, not of the names");
    let problem = intent.problems.iter().find(|problem| problem.what.contains("Conflicted")).expect("told");
    let of = |name: &str| crate::objects::ObjectRef { kind: Kind::BGPAdvertisement, name: name.to_owned() };
    assert_eq!(
        (problem.of.clone(), &problem.reason),
        (Some(Box::new(of("a"))), &Reason::Conflicted { winner: of("b") })
    );
    let says = "all.yaml, document 5: BGPAdvertisement a: spec.advertised[0]: Conflicted: spec.advertised[0] of all.yaml, \
                document 4: BGPAdvertisement b says otherwise of the same to the same peers, and is older";
    assert_eq!(problem.to_string(), says);

    let apart = intent_of(&[pods("a", "peers: [tor1], ", 1), pods("b", "peers: [tor2], ", 2)]);
    assert_eq!(med_for(&apart, "10.244.1.0/24", "tor2"), Some(2));
    let alike = intent_of(&[pods("a", "", 1), pods("b", "", 1)]);
    let racks = ["1", "2"].map(|rack| {
        let spec = format!(
            "{{nodeSelector: {{matchLabels: {{rack: '{rack}'}}}}, advertised: [{{what: Pods, attributes: {{med: {rack}}}}}]}}"
        );
        advertisement(&format!("rack{rack}"), &spec)
    });
    for intent in [&apart, &alike, &intent_of(&racks)] {
        assert_eq!(words(intent), [""; 0]);
    }
}

#[test]
fn a_peer_that_no_node_has_is_named() {
    let intent = intent_of(&[advertisement("a", "{peers: [tor1, tr2], advertised: [{what: Pods}]}")]);
    let says =
        "all.yaml, document 4: BGPAdvertisement a: spec.peers: \"tr2\": no node has a peer of this name";
    assert_eq!(words(&intent), [says]);
    assert_eq!(intent.problems[0].reason, Reason::Missing);
}

fn aggregates(peers: &str, prefixes: &str) -> String {
    advertisement(
        "a",
        &format!(
            "{{{peers}advertised: [{{what: Aggregates, aggregates: [{prefixes}], attributes: {{med: 9}}}}]}}"
        ),
    )
}

#[test]
fn whoever_hears_an_aggregate_does_not_hear_what_lies_in_it() {
    let intent = intent_of(&[aggregates("peers: [tor1], ", "10.244.0.0/20, 10.244.16.0/20")]);
    assert_eq!(told(&intent, "tor1"), ["10.244.0.0/20", "192.0.2.1/32", "fd00:244:1::/64"]);
    assert_eq!(told(&intent, "tor2"), ["10.244.1.0/24", "192.0.2.1/32", "fd00:244:1::/64"]);
    assert_eq!(med_for(&intent, "10.244.0.0/20", "tor1"), Some(9));
    let unreachable: Vec<String> = intent.unreachable.iter().map(Prefix::to_string).collect();
    assert_eq!(unreachable, ["10.244.1.0/24", "fd00:244:1::/64", "10.244.0.0/20"], "before it is announced");
    assert_eq!(words(&intent), [""; 0]);

    let both = intent_of(&[aggregates("peers: [tor1], ", "10.244.0.0/20, 10.244.0.0/16")]);
    assert_eq!(told(&both, "tor1"), ["10.244.0.0/16", "192.0.2.1/32", "fd00:244:1::/64"], "the wider one");
    let to_all = intent_of(&[aggregates("", "10.244.0.0/23")]);
    for peer in ["tor1", "tor2"] {
        assert_eq!(told(&to_all, peer), ["10.244.0.0/23", "192.0.2.1/32", "fd00:244:1::/64"]);
    }
    assert_eq!(words(&to_all), [""; 0]);
    let ready = crate::readiness::to_announce(&to_all);
    assert!(ready[0].contains(&"10.244.0.0/23".parse().expect("prefix")), "{ready:?}");
}

#[test]
fn an_aggregate_of_nothing_of_this_node_or_of_a_range_itself_is_none() {
    let intent = intent_of(&[aggregates("", "10.244.16.0/20, 10.244.1.0/24, 10.244.1.0/25")]);
    assert_eq!(own(&intent, "10.244.1.0/24"), Some(&Originated::plain(Source::Pods)));
    assert_eq!(intent.unreachable, intent.pod_prefixes);
}

/// A host that had 10.0.0.0/8 unreachable would lose the way to all that its default route leads to.
#[test]
fn an_aggregate_outside_of_what_is_declared_is_refused() {
    let intent = intent_of(&[aggregates("", "10.0.0.0/8")]);
    let place = "all.yaml, document 4: BGPAdvertisement a: spec.advertised[0].aggregates";
    let says = format!(
        "{place}: 10.0.0.0/8: in none of the ranges of podCIDRs and serviceCIDRs; it is not announced"
    );
    assert_eq!(words(&intent), [says]);
    assert_eq!(own(&intent, "10.0.0.0/8"), None);
}

/// Each node had no route but `unreachable` to the pods of the others, and the switches sent to whichever: no pod of
/// another node could be reached.
#[test]
fn an_aggregate_of_many_nodes_is_refused_where_nobody_would_know_which_node_has_which_pods() {
    let everywhere = "10.244.0.0/18";
    for (peers, who) in [
        ("", "every peer would hear"),
        ("peers: [tor1, tor2], ", "all peers of n1 would hear"),
        ("peers: [n2, tor1], ", "n2, a node, would hear"),
    ] {
        let objects = objects(&[aggregates(peers, &format!("{everywhere}, 10.244.0.0/23"))]);
        let intent = intent(&objects, "n1", &[]).expect("node is known");
        let says = format!(
            "all.yaml, document 4: BGPAdvertisement a: spec.advertised[0].aggregates: {everywhere}: covers pods of n1 and of \
             n2, and {who} it in place of either, so that nobody knows where which pods are: name in spec.peers the \
             switches that shall hear it alone; it is not announced"
        );
        assert!(words(&intent).contains(&says), "{:?}", words(&intent));
        let problem = intent.problems.iter().find(|problem| problem.to_string() == says).expect("just seen");
        assert_eq!(problem.reason, Reason::Invalid, "so it is neither Accepted nor Ready");
        assert_eq!(own(&intent, everywhere), None);
        assert!(!intent.unreachable.contains(&everywhere.parse().expect("prefix")));
        assert!(own(&intent, "10.244.0.0/23").is_some(), "the others of the entry are announced");
    }
    let to_one = intent_of(&[aggregates("peers: [tor1], ", everywhere)]);
    assert_eq!((words(&to_one), told(&to_one, "tor1").len()), (Vec::new(), 3), "tor2 knows each apart");
}

#[test]
fn an_aggregate_of_services_is_announced_and_is_no_route_of_the_kernel() {
    let declared = Declared {
        pods: vec!["10.244.0.0/16".parse().expect("prefix")],
        services: vec!["10.96.0.0/16".parse().expect("prefix")],
        ..Declared::default()
    };
    let says =
        |what: What| Advertised { field: "spec.advertised[0]".to_owned(), what, offer: Offer::default() };
    let (services, aggregates) = (
        says(What::Services { addresses: [ServiceAddress::ClusterIP].into(), labels: BTreeMap::new() }),
        says(What::Aggregates(
            ["10.96.0.0/20", "10.244.0.0/20"].map(|text| text.parse().expect("prefix")).into(),
        )),
    );
    let entries = [&services, &aggregates].map(|says| Entry { name: "a", place: "a", says });
    let own = Own {
        pods: &["10.244.1.0/24".parse().expect("prefix")],
        addresses: &BTreeSet::new(),
        services: [("10.96.0.10/32".parse().expect("prefix"), [0].into())].into(),
    };
    let Announced { originated, unreachable } = announce(&entries, &own, &Objects::default(), &declared);
    assert_eq!(told_of(&originated, "x"), ["10.96.0.0/20", "10.244.0.0/20"]);
    assert_eq!(unreachable, ["10.244.0.0/20".parse().expect("prefix")]);
}

#[test]
fn names_of_a_mesh_are_names_of_peers() {
    let mesh = NODES.replace("mesh: Disabled", "mesh: Enabled");
    let folder = tempfile::tempdir().expect("temporary folder");
    let more = advertisement("a", "{peers: [n2], advertised: [{what: Pods, attributes: {localPref: 50}}]}");
    std::fs::write(folder.path().join("all.yaml"), format!("{mesh}{more}")).expect("own folder");
    let view = Folder::new(folder.path().to_owned(), "n1").view();
    let intent = intent(&view.fabric, "n1", &[]).expect("node is known");
    let mesh = intent.wanted.peers.values().find(|peer: &&PeerConfig| peer.name == "n2").expect("a peer");
    let offer = own(&intent, "10.244.1.0/24").and_then(|own| own.offer_for(&mesh.name)).expect("told");
    assert_eq!(offer.local_pref.map(|value| value.0), Some(50));
    assert_eq!(words(&intent), [""; 0]);
}

#[test]
fn a_prepend_that_no_peer_sees_is_told() {
    let internal = "---
apiVersion: cambric.dev/v1alpha1
kind: BGPPeerConfig
metadata: {name: inside}
spec: {filters: [{family: ipv4, export: [longer]}]}
---
apiVersion: cambric.dev/v1alpha1
kind: BGPFilter
metadata: {name: longer}
spec: {rules: [{action: Reject, match: {communities: [no-export]}}, {action: Accept, set: {prepend: 3}}]}
---
apiVersion: cambric.dev/v1alpha1
kind: BGPNodeOverride
metadata: {name: n1}
spec: {peers: [{name: rr, address: 172.16.0.4, peerAS: Internal, peerConfig: inside}]}
"
    .to_owned();
    let pods = |peers: &str| {
        advertisement("a", &format!("{{{peers}advertised: [{{what: Pods, attributes: {{prepend: 2}}}}]}}"))
    };
    let of_filter = "BGPFilter longer: spec.rules[1].set.prepend: 3: peer rr is internal, and internal peers see the AS \
                     path as it is: no effect";
    let of_entry = "BGPAdvertisement a: spec.advertised[0].attributes.prepend: 2: peer rr is internal, and internal peers \
                    see the AS path as it is: no effect";
    let told = |more: &[String]| -> Vec<String> {
        let words = words(&intent_of(more));
        words
            .into_iter()
            .filter_map(|word| Some(word.split_once("document ")?.1.get(3..)?.to_owned()))
            .collect()
    };
    assert_eq!(told(&[internal.clone(), pods("peers: [rr], ")]), [of_filter, of_entry]);
    assert_eq!(told(&[internal.clone(), pods("peers: [rr, tor1], ")]), [of_filter]);
    assert_eq!(told(&[internal.clone(), pods("")]), [of_filter], "there are external peers, too");
    let outside = internal.replace("peerAS: Internal", "peerAS: External");
    assert_eq!(told(&[outside, pods("peers: [rr], ")]), [""; 0]);
}

#[test]
fn a_name_of_peers_that_call_from_a_range_is_known() {
    let range = "---
apiVersion: cambric.dev/v1alpha1
kind: BGPNodeOverride
metadata: {name: n1}
spec: {peers: [{name: rack, listenRange: 172.16.4.0/24, peerAS: External}]}
"
    .to_owned();
    let spec = "{peers: [rack], advertised: [{what: Pods, attributes: {med: 7}}]}";
    let intent = intent_of(&[range, advertisement("a", spec)]);
    assert_eq!(words(&intent), [""; 0]);
    let template = &intent.wanted.listen_ranges.values().next().expect("a range").template;
    assert_eq!(med_for(&intent, "10.244.1.0/24", &template.name), Some(7));
}
