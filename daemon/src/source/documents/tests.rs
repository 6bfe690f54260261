//! Objects of an API server. What is the same for files is tried with a [folder](super::super::folder).

use std::time::{Duration, Instant};

use super::*;
use crate::intent::{Intent, NoIntent, intent};

/// What an API server shows to node `n1`.
struct Server {
    documents: Documents,
    objects: Set,
}

impl Server {
    fn new() -> Server {
        Server { documents: Documents::of_objects("n1"), objects: Set::new() }
    }

    /// With three nodes, of which the first is this one, options, and a peer of this node.
    fn of_three() -> Server {
        let mut server = Server::new();
        for number in 1..=3 {
            server.node(number, &format!("n{number}"), &[&format!("10.{number}.0.0/24")]);
        }
        server.put(4, Kind::BGPPeerConfig, "tor", json!({"holdTimeSeconds": 9}));
        let peer = json!({"name": "a", "address": "192.0.2.100", "asn": 1, "peerConfig": "tor"});
        server.put(5, Kind::BGPNodeOverride, "n1", json!({"peers": [peer]}));
        server
    }

    /// Made at `second`.
    fn node(&mut self, second: usize, name: &str, ranges: &[&str]) {
        let address = format!("192.0.2.{}", name.trim_start_matches('n'));
        self.node_at(second, name, ranges, &address);
    }

    fn node_at(&mut self, second: usize, name: &str, ranges: &[&str], address: &str) {
        let spec = json!({"podCIDR": ranges.first(), "podCIDRs": ranges});
        let spec = if ranges.is_empty() { json!({}) } else { spec };
        let addresses = json!([{"type": "InternalIP", "address": address}]);
        // A later version of Kubernetes may say more.
        let mut node = object(second, "v1", Kind::Node, name, spec);
        node["status"] = json!({"addresses": addresses, "colour": "red"});
        node["metadata"]["mood"] = json!("good");
        self.show(Kind::Node, name, node);
    }

    fn put(&mut self, second: usize, kind: Kind, name: &str, spec: Value) {
        self.show(kind, name, object(second, "cambric.dev/v1alpha1", kind, name, spec));
    }

    fn show(&mut self, kind: Kind, name: &str, object: Value) {
        let of = ObjectRef { kind, name: name.to_owned() };
        self.objects.insert(of.to_string().into(), Arc::new(Document::object(of, Json::new(&object))));
    }

    fn delete(&mut self, id: &str) {
        assert!(self.objects.remove(id).is_some(), "{id}");
    }

    fn view(&mut self) -> View {
        let look = Look::All(self.objects.clone());
        let view = self.documents.view(&look);
        assert!(
            Arc::ptr_eq(&self.documents.view(&look).fabric, &view.fabric),
            "a second look finds the same"
        );
        view
    }

    fn intent(&mut self) -> Result<Intent, NoIntent> {
        intent(&self.view().fabric, "n1", &[])
    }

    /// What the daemon that comes next, as node `own`, goes on from.
    fn start_anew_as(&mut self, own: &str) {
        let counts = self.documents.counts(Some(&self.objects)).expect("somebody acts on it");
        self.documents = Documents::of_objects(own);
        if own == "n1" {
            assert!(self.documents.go_on_from(counts));
        }
    }
}

fn object(second: usize, version: &str, kind: Kind, name: &str, spec: Value) -> Value {
    let created = format!("2026-01-01T00:00:{second:02}Z");
    let metadata = json!({"name": name, "creationTimestamp": created});
    json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
}

fn problems(view: &View) -> Vec<String> {
    view.fabric.problems.iter().chain(&view.fabric.notices).map(Problem::to_string).collect()
}

fn peers(intent: &Intent) -> Vec<&str> {
    intent.wanted.peers.values().map(|peer| peer.name.as_str()).collect()
}

fn ranges(prefixes: &[cambric_bgp::Prefix]) -> Vec<String> {
    prefixes.iter().map(ToString::to_string).collect()
}

#[test]
fn a_server_without_any_object_of_ours_is_no_folder_that_was_emptied() {
    let mut server = Server::new();
    let view = server.view();
    assert_eq!((problems(&view), view.fabric.unknown.len()), (Vec::new(), 0));
    server.node(1, "n1", &["10.1.0.0/24"]);
    let intent = server.intent().expect("this node is there");
    assert_eq!((peers(&intent), ranges(&intent.pod_prefixes)), (Vec::new(), vec!["10.1.0.0/24".to_owned()]));
    assert_eq!(intent.problems, []);
}

#[test]
fn objects_are_called_by_kind_and_name_and_their_problems_say_which_they_are_about() {
    let mut server = Server::of_three();
    let before = server.view();
    assert_eq!(problems(&before), [""; 0]);
    assert_eq!(before.fabric.node_overrides["n1"].place, "BGPNodeOverride n1");
    let bad = json!({"peers": [{"name": "a", "address": "192.0.2.300", "asn": 1}]});
    server.put(5, Kind::BGPNodeOverride, "n1", bad);
    let view = server.view();
    let says = "BGPNodeOverride n1: spec.peers[0].address: \"192.0.2.300\": not an IP address; it counts as it was \
                before";
    assert_eq!(problems(&view), [says]);
    let ours = ObjectRef { kind: Kind::BGPNodeOverride, name: "n1".to_owned() };
    assert_eq!(
        (&view.fabric.problems[0].of, &view.fabric.problems[0].reason),
        (&Some(Box::new(ours)), &Reason::Invalid)
    );
    assert_eq!(view.fabric.node_overrides, before.fabric.node_overrides);
}

#[test]
fn what_is_referred_to_goes_on_after_it_is_deleted() {
    let mut server = Server::of_three();
    let before = server.view();
    server.delete("BGPPeerConfig tor");
    let view = server.view();
    let says = "BGPPeerConfig tor: is gone, and is missing: BGPNodeOverride n1: spec.peers[0].peerConfig: \"tor\" \
                (peer a): no BGPPeerConfig of this name counts; it counts as it was before";
    assert_eq!(problems(&view), [says]);
    let tor = ObjectRef { kind: Kind::BGPPeerConfig, name: "tor".to_owned() };
    assert_eq!(
        (&view.fabric.problems[0].of, &view.fabric.problems[0].reason),
        (&Some(Box::new(tor)), &Reason::CountsAsBefore)
    );
    assert_eq!(view.fabric.peer_configs, before.fabric.peer_configs);
    server.start_anew_as("n1");
    assert_eq!(server.view().fabric, view.fabric, "so it does for the daemon that comes next");
    server.delete("BGPNodeOverride n1");
    let view = server.view();
    assert_eq!((problems(&view), view.fabric.peer_configs.len()), (Vec::new(), 0));
}

#[test]
fn of_two_configurations_the_older_counts_whatever_its_name_and_says_whom_it_wins_over() {
    let mut server = Server::of_three();
    server.put(9, Kind::BGPClusterConfig, "a", json!({"asn": 65001}));
    server.put(8, Kind::BGPClusterConfig, "b", json!({"asn": 65002}));
    let view = server.view();
    assert_eq!(view.fabric.config_of["n1"], "b");
    let problem = &view.fabric.problems[0];
    let winner = ObjectRef { kind: Kind::BGPClusterConfig, name: "b".to_owned() };
    assert_eq!(
        (problem.place.as_str(), &problem.reason),
        ("BGPClusterConfig a", &Reason::Conflicted { winner })
    );
    server.put(7, Kind::BGPClusterConfig, "c", json!({"asn": 65003}));
    assert_eq!(server.view().fabric.config_of["n1"], "b", "what works keeps working");
    server.documents = Documents::of_objects("n1");
    assert_eq!(server.view().fabric.config_of["n1"], "c", "where nothing was granted, age decides");
}

#[test]
fn the_same_second_leaves_it_to_the_name() {
    let mut server = Server::of_three();
    for name in ["b", "a"] {
        server.put(8, Kind::BGPClusterConfig, name, json!({}));
    }
    assert_eq!(server.view().fabric.config_of["n1"], "a");
}

/// A fault in an object of another node must not keep this one from its sessions.
#[test]
fn only_what_this_node_needs_is_waited_for() {
    let bad = json!({"colour": "red"});
    for (kind, name, is_waited_for) in [
        (Kind::BGPNodeOverride, "n1", true),
        (Kind::BGPNodeOverride, "n2", false),
        (Kind::BGPClusterConfig, "all", true),
        (Kind::BGPPeerConfig, "tor", false),
    ] {
        let mut server = Server::of_three();
        server.put(6, kind, name, bad.clone());
        let intent = server.intent();
        assert_eq!(intent.is_err(), is_waited_for, "{kind} {name}");
        let view = server.view();
        let says = format!("{kind} {name}: spec.colour: ");
        assert!(problems(&view).iter().any(|told| told.starts_with(&says)), "{:?}", problems(&view));
        let mut running = Server::of_three();
        let before = running.intent().expect("nothing is hidden");
        running.put(6, kind, name, bad.clone());
        assert_eq!(running.intent().map(|intent| intent.wanted), Ok(before.wanted), "{kind} {name}");
    }
}

#[test]
fn a_deletion_does_not_wait_for_a_fault_elsewhere() {
    let mut server = Server::of_three();
    server.view();
    server.put(6, Kind::BGPPeerConfig, "other", json!({"colour": "red"}));
    server.delete("BGPNodeOverride n1");
    let intent = server.intent().expect("nothing is hidden");
    assert_eq!(peers(&intent), ["n2", "n3"]);
}

#[test]
fn a_node_whose_own_object_is_deleted_keeps_serving_and_follows_the_others() {
    let mut server = Server::of_three();
    let before = server.intent().expect("this node is there");
    server.delete("Node n1");
    server.node(6, "n4", &["10.4.0.0/24"]);
    server.delete("Node n2");
    let says = "Node n1: there is no Node object \"n1\"; this node goes on as it was, until it is back";
    for _ in 0..2 {
        let intent = server.intent().expect("it goes on");
        assert_eq!(intent.wanted.originated, before.wanted.originated);
        assert_eq!(peers(&intent), ["n3", "n4", "a"]);
        let problems: Vec<String> = intent.problems.iter().map(Problem::to_string).collect();
        assert_eq!(problems, [says]);
        assert_eq!((intent.problems[0].reason.as_str(), intent.problems[0].of.is_some()), ("Missing", true));
        server.start_anew_as("n1");
    }
    server.node(9, "n1", &["10.9.0.0/24"]);
    let intent = server.intent().expect("it is back");
    assert_eq!((ranges(&intent.pod_prefixes), intent.problems), (vec!["10.9.0.0/24".to_owned()], Vec::new()));
}

#[test]
fn a_node_that_is_removed_leaves_no_peer_range_or_address() {
    let mut server = Server::of_three();
    server.put(6, Kind::BGPNodeOverride, "n2", json!({"asn": 65002}));
    server.view();
    server.delete("Node n2");
    let intent = server.intent().expect("this node is there");
    assert_eq!(peers(&intent), ["n3", "a"]);
    let declared = &intent.wanted.declared;
    assert!(!declared.pods.contains(&"10.2.0.0/24".parse().expect("prefix")), "{declared:?}");
    assert!(!declared.nodes.contains(&"192.0.2.2".parse().expect("address")), "{declared:?}");
    assert!(
        !server
            .documents
            .claims
            .objects()
            .any(|((kind, name), _)| (*kind, name.as_str()) == (Kind::Node, "n2"))
    );
    assert_eq!(problems(&server.view()), ["BGPNodeOverride n2: metadata.name: n2: there is no such Node"]);
}

/// The old Node object stays until somebody removes it, with the same address.
#[test]
fn a_renamed_node_announces_nothing_of_the_old_one() {
    let mut server = Server::of_three();
    server.view();
    server.start_anew_as("n9");
    let unknown = intent(&server.view().fabric, "n9", &[]).expect_err("nobody knows it yet");
    assert_eq!(unknown, NoIntent::NodeUnknown("n9".to_owned()));
    server.node_at(9, "n9", &["10.9.0.0/24"], "192.0.2.1");
    let now = intent(&server.view().fabric, "n9", &[]).expect("it is there");
    let announced: Vec<String> = now.wanted.originated.keys().map(ToString::to_string).collect();
    assert_eq!(announced, ["10.9.0.0/24", "192.0.2.1/32"]);
    assert_eq!(peers(&now), ["n2", "n3"], "the old one is no peer, and its peers are its own");
    assert_eq!(
        now.problems[0].to_string(),
        "Node n1: status.addresses: 192.0.2.1: Conflicted: Node n9 has the same; it is left out"
    );
    server.delete("Node n1");
    server.delete("BGPNodeOverride n1");
    server.delete("BGPPeerConfig tor");
    assert_eq!(problems(&server.view()), [""; 0]);
}

#[test]
fn a_node_that_never_had_a_range_serves_without_and_says_so() {
    let mut server = Server::of_three();
    server.node(1, "n1", &[]);
    let intent = server.intent().expect("it is there");
    assert_eq!((intent.pod_prefixes.len(), peers(&intent).len()), (0, 3));
    let says = "Node n1: spec.podCIDRs: none can be used, so no pod can get an address";
    assert_eq!(
        (intent.problems[0].to_string().as_str(), intent.problems[0].reason.as_str()),
        (says, "Missing")
    );
    server.node(1, "n1", &["10.1.0.0/24"]);
    assert_eq!(server.intent().map(|intent| intent.problems), Ok(Vec::new()));
}

/// A kubelet registers its node without range, and with a cloud's help without addresses.
#[test]
fn a_node_that_is_registered_anew_keeps_range_and_addresses_until_it_shows_others() {
    let mut server = Server::of_three();
    let before = server.intent().expect("it is there");
    server.delete("Node n1");
    server.view();
    server.show(Kind::Node, "n1", object(9, "v1", Kind::Node, "n1", json!({})));
    for _ in 0..2 {
        let intent = server.intent().expect("it is there");
        assert_eq!(intent.wanted, before.wanted);
        let told: Vec<String> = intent.problems.iter().map(Problem::to_string).collect();
        assert_eq!(
            told,
            [
                "Node n1: spec.podCIDRs: none can be used; this node goes on with 10.1.0.0/24",
                "Node n1: status.addresses: no InternalIP can be used; this node goes on with 192.0.2.1",
            ]
        );
        server.start_anew_as("n1");
    }
    let mut garbled = object(9, "v1", Kind::Node, "n1", json!({"podCIDR": "10.1.0.0"}));
    garbled["status"] = json!({"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]});
    server.show(Kind::Node, "n1", garbled);
    let intent = server.intent().expect("it is there");
    assert_eq!((&intent.wanted, intent.problems.len()), (&before.wanted, 2), "{:?}", intent.problems);
    server.node_at(9, "n1", &["10.9.0.0/24"], "192.0.2.9");
    let intent = server.intent().expect("it is there");
    assert_eq!((ranges(&intent.pod_prefixes), intent.problems), (vec!["10.9.0.0/24".to_owned()], Vec::new()));
    assert!(intent.wanted.originated.contains_key(&"192.0.2.9/32".parse().expect("prefix")));
}

/// Kubernetes shows link-local addresses, too, on some hosts.
#[test]
fn a_node_with_a_lasting_fault_is_followed_all_the_same() {
    for name in ["n1", "n2"] {
        let mut server = Server::of_three();
        let node = |spec: Value| {
            let address = |address: &str| json!({"type": "InternalIP", "address": address});
            let mut node = object(1, "v1", Kind::Node, name, spec);
            let own = name.replace('n', "192.0.2.");
            node["status"] = json!({"addresses": [address(&own), address("fe80::1")]});
            node
        };
        let told = format!("Node {name}: status.addresses[1].address: fe80::1: ");
        server.show(Kind::Node, name, node(json!({})));
        assert!(problems(&server.view())[0].starts_with(&told));
        for range in ["10.21.0.0/24", "10.22.0.0/24"] {
            server.show(Kind::Node, name, node(json!({"podCIDR": range})));
            let view = server.view();
            assert_eq!(view.fabric.nodes[name].says.pod_ranges[0].1.to_string(), range);
            assert!(problems(&view)[0].starts_with(&told) && problems(&view).len() == 1);
            server.start_anew_as("n1");
        }
    }
}

#[test]
fn of_a_node_that_contradicts_another_only_the_claim_is_refused() {
    let mut server = Server::of_three();
    server.view();
    server.node_at(2, "n2", &["10.3.0.0/24"], "192.0.2.22");
    let intent = server.intent().expect("it is there");
    let says =
        "Node n2: spec.podCIDRs[0]: 10.3.0.0/24: Conflicted: overlaps 10.3.0.0/24 of Node n3; it is left out";
    assert_eq!(intent.problems.iter().map(Problem::to_string).collect::<Vec<_>>(), [says]);
    assert!(intent.wanted.peers.contains_key(&"192.0.2.22".parse().expect("address")), "{intent:?}");
    assert!(!intent.wanted.declared.pods.contains(&"10.2.0.0/24".parse().expect("prefix")));
    let disputed = [("192.0.2.22".parse().expect("address"), vec!["10.3.0.0/24".parse().expect("prefix")])];
    assert_eq!(intent.wanted.declared.disputed, disputed.into(), "n2 announces it all the same");
}

#[test]
fn a_node_whose_label_says_no_as_has_the_one_it_had() {
    let mut server = Server::of_three();
    server.put(6, Kind::BGPClusterConfig, "all", json!({"asnLabel": "asn"}));
    let show = |server: &mut Server, number: usize, label: Option<&str>| {
        let name = format!("n{number}");
        let mut node =
            object(number, "v1", Kind::Node, &name, json!({"podCIDR": format!("10.{number}.0.0/24")}));
        let address = format!("192.0.2.{number}");
        node["status"] = json!({"addresses": [{"type": "InternalIP", "address": address}]});
        node["metadata"]["labels"] = label.map_or(json!({}), |label| json!({"asn": label}));
        server.show(Kind::Node, &name, node);
    };
    for number in 1..=3 {
        show(&mut server, number, Some(&format!("6500{number}")));
    }
    let before = server.intent().expect("each has an AS");
    show(&mut server, 1, Some("sixty"));
    show(&mut server, 2, None);
    show(&mut server, 4, None);
    for _ in 0..2 {
        let intent = server.intent().expect("it had one");
        assert_eq!(
            (&intent.wanted.router, &intent.wanted.peers),
            (&before.wanted.router, &before.wanted.peers)
        );
        assert!(intent.wanted.declared.pods.contains(&"10.4.0.0/24".parse().expect("prefix")), "it goes on");
        let told: Vec<String> = intent.problems.iter().map(Problem::to_string).collect();
        assert_eq!(
            told,
            [
                "Node n1: metadata.labels: asn: \"sixty\": not a number from 1 to 4294967295; its AS counts as it was \
                 before: 65001",
                "Node n2: metadata.labels: asn: absent; its AS counts as it was before: 65002",
                "Node n4: metadata.labels: asn: absent; it is no peer until that says its AS",
            ]
        );
        server.start_anew_as("n1");
    }
    show(&mut server, 2, Some("65022"));
    let intent = server.intent().expect("it had one");
    let n2 = &intent.wanted.peers[&"192.0.2.2".parse().expect("address")];
    assert_eq!(n2.asn.to_string(), "65022");
}

/// Nodes that run go on with all of it as it was: one that took half of it would have another AS.
#[test]
fn of_a_configuration_with_a_fault_nobody_takes_half() {
    let half = json!({"asn": 65002, "peers": [{"name": "a", "asn": 1}]});
    let mut running = Server::of_three();
    let alone = running.intent().expect("it is there");
    running.put(6, Kind::BGPClusterConfig, "all", half.clone());
    let says = "BGPClusterConfig all: spec.peers[0].address: absent: nobody knows where the peer is";
    for _ in 0..2 {
        let intent = running.intent().expect("nothing is hidden");
        assert_eq!(intent.wanted, alone.wanted);
        assert_eq!(intent.problems[0].to_string(), format!("{says}; it is left out"));
        running.start_anew_as("n1");
    }
    running.put(6, Kind::BGPClusterConfig, "all", json!({"asn": 65001}));
    running.view();
    running.put(6, Kind::BGPClusterConfig, "all", half.clone());
    let intent = running.intent().expect("it counts as before");
    assert_eq!(intent.wanted.router.asn.value(), 65001);
    let mut fresh = Server::of_three();
    fresh.put(6, Kind::BGPClusterConfig, "all", half);
    let waits = fresh.intent().expect_err("it waits");
    assert_eq!(waits.waits_for(), [format!("objects that can be read: {says}")]);
    let told = problems(&fresh.view());
    assert_eq!(told, [format!("{says}; this node waits until it is mended")]);
    fresh.put(6, Kind::BGPClusterConfig, "all", json!({"asn": 65002}));
    assert_eq!(fresh.intent().map(|intent| intent.wanted.router.asn.value()), Ok(65002));
}

/// After a rollback: a newer version has taken what this one cannot read.
#[test]
fn a_record_that_hides_what_is_needed_is_no_reason_to_do_without_it() {
    let newer = json!({"asn": 65001, "mesh": "Disabled", "colour": "red"});
    for (kind, name, is_waited_for) in [
        (Kind::BGPClusterConfig, "all", true),
        (Kind::BGPNodeOverride, "n1", true),
        (Kind::BGPNodeOverride, "n2", false),
        (Kind::BGPPeerConfig, "other", false),
    ] {
        let id = format!("{kind} {name}");
        let mut server = Server::of_three();
        server.put(6, Kind::BGPClusterConfig, "all", json!({"asn": 65001}));
        server.view();
        server.put(6, kind, name, newer.clone());
        for text in [server.objects[&*id].text().expect("JSON"), "{".to_owned()] {
            let mut counts = server.documents.counts(Some(&server.objects)).expect("somebody acts on it");
            counts.files.insert(id.clone(), text);
            let mut anew = Documents::of_objects("n1");
            assert_eq!(anew.go_on_from(counts), !is_waited_for, "{id}");
            let view = anew.view(&Look::All(server.objects.clone()));
            assert_eq!(intent(&view.fabric, "n1", &[]).is_err(), is_waited_for, "{id}");
            assert_eq!(anew.counts(None).is_none(), is_waited_for, "{id}: the record stands");
            let mended = Server::of_three();
            let view = anew.view(&Look::All(mended.objects));
            assert!(intent(&view.fabric, "n1", &[]).is_ok(), "{id}");
        }
    }
}

#[test]
fn changed_addresses_are_followed_here_and_elsewhere() {
    let mut server = Server::of_three();
    server.view();
    server.node_at(1, "n1", &["10.1.0.0/24"], "192.0.2.11");
    server.node_at(2, "n2", &["10.2.0.0/24"], "192.0.2.12");
    let intent = server.intent().expect("it is there");
    assert_eq!(intent.problems, []);
    assert!(intent.wanted.originated.contains_key(&"192.0.2.11/32".parse().expect("prefix")));
    let n2 = intent.wanted.peers.get(&"192.0.2.12".parse().expect("address")).expect("a peer");
    let local_address = n2.transport.local_address.map(|address| address.to_string());
    assert_eq!((n2.name.as_str(), local_address.as_deref()), ("n2", Some("192.0.2.11")));
    // What the server says of this node is so, whoever claims it, too.
    server.node_at(1, "n1", &["10.2.0.0/24"], "192.0.2.3");
    let intent = server.intent().expect("it is there");
    assert_eq!(ranges(&intent.pod_prefixes), ["10.2.0.0/24"]);
    assert!(intent.wanted.originated.contains_key(&"192.0.2.3/32".parse().expect("prefix")));
    let told: Vec<String> = intent.problems.iter().map(Problem::to_string).collect();
    assert_eq!(
        told,
        [
            "Node n2: spec.podCIDRs[0]: 10.2.0.0/24: Conflicted: overlaps 10.2.0.0/24 of Node n1; it is left out",
            "Node n3: status.addresses: 192.0.2.3: Conflicted: Node n1 has the same; it is left out",
        ]
    );
}

#[test]
fn an_overriding_address_has_to_be_free_and_is_told_where_nobody_takes_it() {
    let mut server = Server::of_three();
    server.view();
    server.put(6, Kind::BGPNodeOverride, "n2", json!({"addresses": ["203.0.113.2"]}));
    let before = server.intent().expect("it is there");
    for (address, owner) in [("203.0.113.2", "BGPNodeOverride n2"), ("192.0.2.3", "Node n3")] {
        server.put(5, Kind::BGPNodeOverride, "n1", json!({"addresses": [address]}));
        let intent = server.intent().expect("it is there");
        let says = format!(
            "BGPNodeOverride n1: spec.addresses: {address}: Conflicted: {owner} has the same; it counts as it was before"
        );
        assert_eq!(intent.problems.iter().map(Problem::to_string).collect::<Vec<_>>(), [says]);
        assert_eq!(intent.wanted, before.wanted);
        let mut fresh = Server { documents: Documents::of_objects("n1"), objects: server.objects.clone() };
        let told = problems(&fresh.view());
        assert_eq!(told.len(), 1, "{told:?}");
        let wanted = fresh.intent().expect("it is there").wanted;
        assert_eq!(wanted.peers.len(), 2, "{wanted:?}");
    }
    server.put(5, Kind::BGPNodeOverride, "n1", json!({"addresses": ["192.0.2.1"]}));
    assert_eq!(server.intent().map(|intent| intent.problems), Ok(Vec::new()), "what its Node says, too");
    server.put(7, Kind::BGPClusterConfig, "all", json!({"nodeCIDRs": ["203.0.113.0/24"]}));
    let told = server.intent().expect("it is there").problems;
    let says = "BGPNodeOverride n1: spec.addresses: 192.0.2.1: in none of the ranges of nodeCIDRs, so other nodes take \
                no route to it";
    assert_eq!(told.iter().map(Problem::to_string).collect::<Vec<_>>(), [says]);
}

#[test]
fn a_label_that_nobody_asks_for_changes_nothing() {
    let mut server = Server::of_three();
    let selector = json!({"matchLabels": {"rack": "1"}});
    server.put(6, Kind::BGPClusterConfig, "all", json!({"nodeSelector": selector, "asnLabel": "asn"}));
    let mut node = object(1, "v1", Kind::Node, "n1", json!({"podCIDR": "10.1.0.0/24"}));
    node["metadata"]["labels"] = json!({"rack": "1", "asn": "65001", "mood": "good"});
    server.show(Kind::Node, "n1", node.clone());
    let before = server.view();
    let labels = |view: &View| {
        view.fabric.nodes["n1"].says.labels.iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        (before.fabric.config_of["n1"].as_str(), labels(&before)),
        ("all", vec!["asn".into(), "rack".into()])
    );
    node["metadata"]["labels"]["mood"] = json!("bad");
    server.show(Kind::Node, "n1", node.clone());
    assert!(Arc::ptr_eq(&server.view().fabric, &before.fabric), "BGP need not look at it");
    node["metadata"]["labels"]["rack"] = json!("2");
    server.show(Kind::Node, "n1", node);
    assert_eq!(server.view().fabric.config_of.get("n1"), None);
}

#[test]
fn of_two_other_nodes_with_one_range_the_older_has_it_or_the_one_that_had_it() {
    let mut server = Server::of_three();
    server.node(2, "n2", &["10.3.0.0/24"]);
    let has_it = |view: &View| ["n2", "n3"].map(|name| view.fabric.nodes[name].says.pod_ranges.len());
    assert_eq!(has_it(&server.view()), [1, 0], "the older one");
    let mut other = Server::new();
    other.node(3, "n3", &["10.3.0.0/24"]);
    other.view();
    other.node(2, "n2", &["10.3.0.0/24"]);
    assert_eq!(has_it(&other.view()), [0, 1], "or the one that had it");
}

#[test]
fn the_record_has_what_a_server_does_not_show_again() {
    let mut server = Server::of_three();
    server.view();
    let recorded = |server: &Server| -> Vec<String> {
        let counts = server.documents.counts(Some(&server.objects)).expect("somebody acts on it");
        counts.files.into_keys().collect()
    };
    assert_eq!(recorded(&server), ["BGPNodeOverride n1", "BGPPeerConfig tor", "Node n1"]);
    server.show(Kind::Node, "n2", object(2, "v1", Kind::Node, "n2", json!({"podCIDRs": "none"})));
    let view = server.view();
    assert!(problems(&view)[0].ends_with("it counts as it was before"), "{:?}", problems(&view));
    assert_eq!(recorded(&server), ["BGPNodeOverride n1", "BGPPeerConfig tor", "Node n1", "Node n2"]);
    server.start_anew_as("n1");
    assert_eq!(server.view().fabric, view.fabric);
}

/// As where a definition was never installed, or the snapshot of one kind is lost: the record has the own Node alone.
#[test]
fn a_start_that_is_not_shown_all_acts_on_nothing_and_keeps_who_has_what() {
    let mut server = Server::of_three();
    let whole = server.intent().expect("it serves");
    let recorded = server.documents.counts(Some(&server.objects)).expect("somebody acts on it");
    server.start_anew_as("n1");
    let claims = server.documents.claims.clone();
    let lost = Look::Lost(Problem::new("API server", "BGPFilter: not seen yet"));
    for _ in 0..2 {
        let view = server.documents.view(&lost);
        assert!(intent(&view.fabric, "n1", &[]).is_err(), "a cluster of this node alone: {view:?}");
        assert_eq!(problems(&view), ["API server: BGPFilter: not seen yet"]);
        assert_eq!(server.documents.counts(Some(&server.objects)), None, "the record stands");
        assert_eq!(server.documents.claims, claims);
    }
    assert_eq!(peers(&server.intent().expect("all is shown")), peers(&whole));
    assert_eq!(server.documents.counts(Some(&server.objects)), Some(recorded));
    let view = server.documents.view(&lost);
    assert_eq!(peers(&intent(&view.fabric, "n1", &[]).expect("now it is known")), peers(&whole));
}

/// Says what a large cluster costs; of a build without optimization, which takes some ten times as long.
#[test]
fn a_cluster_of_five_thousand_nodes_is_looked_at_without_squares() {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/statm").expect("procfs");
        status.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("pages") * 4
    };
    let figures = |nodes: usize| {
        let mut server = Server::new();
        let peer = |number: usize| json!({"name": format!("tor{number}"), "address": format!("192.0.2.{number}"), "asn": 1});
        let peers: Vec<Value> = (1..=16).map(peer).collect();
        server.put(
            1,
            Kind::BGPClusterConfig,
            "all",
            json!({"asn": 65001, "mesh": "Disabled", "peers": peers}),
        );
        let before = resident();
        let started = Instant::now();
        for number in 1..=nodes {
            let range = format!("10.{}.{}.0/24", number / 256, number % 256);
            let address = format!("172.16.{}.{}", number / 256, number % 256);
            server.node_at(2, &format!("n{number}"), &[&range], &address);
        }
        let read = started.elapsed();
        let started = Instant::now();
        let first = server.documents.view(&Look::All(server.objects.clone()));
        let settled = started.elapsed();
        assert_eq!(first.fabric.problems, []);
        server.node_at(2, "n2", &["10.200.0.0/24"], "172.31.0.2");
        let started = Instant::now();
        let second = server.documents.view(&Look::All(server.objects.clone()));
        let edited = started.elapsed();
        let started = Instant::now();
        let intent = intent(&second.fabric, "n1", &[]).expect("it is there");
        let meant = started.elapsed();
        assert_eq!(intent.wanted.declared.pods.len(), nodes);
        let recorded = serde_json::to_vec(&server.documents.counts(Some(&server.objects))).expect("JSON");
        assert!(recorded.len() < nodes * 1024, "{} bytes: peers of this node alone", recorded.len());
        drop(first);
        let kept = resident().saturating_sub(before);
        println!(
            "{nodes} nodes: read {read:?}, first view {settled:?}, one node changed {edited:?}, intent {meant:?}, \
             {kept} KiB"
        );
        read + settled + edited + meant
    };
    let (some, many) = (figures(500), figures(5000));
    assert!(many < some * 40 + Duration::from_secs(10), "{some:?} for a tenth, {many:?} for all");
}
