//! The rules that implementations get wrong, one by one.

use serde_json::json;

use super::*;
use Direction::{Egress, Ingress};

const DENIED: [&str; 2] = ["denied: ", "denied: Drop"];

/// A node with one pod `ns/a` of label a=1 at 10.0.0.1, wired as camA.
fn one_pod() -> Node {
    let mut node = Node::new();
    node.pod("a", json!({"a": "1"}), "10.0.0.1");
    node.wire("camA", "a", &["10.0.0.1"]);
    node.settle();
    node
}

fn with_denial(rules: &[&str]) -> Vec<String> {
    rules.iter().chain(&DENIED).map(|rule| (*rule).to_owned()).collect()
}

#[test]
fn a_pod_that_no_policy_selects_is_open_and_one_is_isolated_by_direction() {
    let mut node = one_pod();
    let open = Placement { egress: OPEN.into(), ingress: OPEN.into() };
    assert_eq!(node.placement("camA"), Some(&open));
    node.policy("p", json!({"podSelector": {}, "policyTypes": ["Egress"], "ingress": [{}]}));
    node.policy("other/q", json!({"podSelector": {}}));
    node.settle();
    assert_eq!(node.placement("camA").map(|placed| &*placed.ingress), Some(OPEN));
    assert_eq!(node.rules("camA", Egress), with_denial(&[]));
    node.no_policy("p");
    node.settle();
    assert_eq!(node.placement("camA"), Some(&open));
}

#[test]
fn peers_and_ports_of_a_rule_are_a_product_and_rules_are_not_mixed() {
    let mut node = one_pod();
    let block = |cidr: &str| json!([{"ipBlock": {"cidr": cidr}}]);
    node.policy(
        "p",
        json!({"ingress": [
            {"from": block("10.1.0.0/16"), "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]},
            {"from": block("10.2.0.0/16")},
            {"ports": [{"protocol": "SCTP"}]},
        ]}),
    );
    node.settle();
    assert_eq!(
        node.rules("camA", Ingress),
        with_denial(&[
            "ns/p ingress[0]: TCP 80-80 cam4n [Source] Return",
            "ns/p ingress[0]: UDP 53-53 cam4n [Source] Return",
            "ns/p ingress[1]: cam4n [Source] Return",
            "ns/p ingress[2]: SCTP Return",
        ])
    );
    let ingress = &node.placement("camA").expect("placed").ingress;
    assert_eq!(
        rules(&node.program.ipv6, ingress),
        with_denial(&["ns/p ingress[2]: SCTP Return"]),
        "no IPv6 block"
    );
}

#[test]
fn ports_of_a_rule_are_as_few_as_say_the_same() {
    let mut node = one_pod();
    let ports = json!([
        {"port": 82}, {"port": 80, "endPort": 81}, {"port": 80}, {"port": 90, "endPort": 95}, {"port": 93, "endPort": 99},
        {"port": 65535}, {"protocol": "UDP", "port": 1}, {"protocol": "UDP"}, {"protocol": "UDP", "port": "web"},
    ]);
    node.policy("p", json!({"egress": [{"ports": ports}, {"ports": [{"port": 65535}]}]}));
    node.settle();
    assert_eq!(
        node.rules("camA", Egress),
        with_denial(&[
            "ns/p egress[0]: UDP Return",
            "ns/p egress[0]: TCP 80-82 Return",
            "ns/p egress[0]: TCP 90-99 Return",
            "ns/p egress[0]: TCP 65535-65535 Return",
        ])
    );
}

#[test]
fn a_block_of_everything_needs_no_set_and_no_block_at_all_no_rule() {
    let mut node = one_pod();
    node.policy("p", json!({"ingress": [{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}));
    node.settle();
    assert_eq!(node.rules("camA", Ingress), with_denial(&["ns/p ingress[0]: Return"]));
    let ingress = node.placement("camA").expect("placed").ingress.clone();
    assert_eq!(rules(&node.program.ipv6, &ingress), with_denial(&[]));
    assert_eq!(node.sets(), []);
}

#[test]
fn a_policy_that_selects_no_pod_of_this_node_costs_nothing() {
    let mut node = one_pod();
    let ingress = json!([{"from": [{"podSelector": {}}]}]);
    node.policy("p", json!({"podSelector": {"matchLabels": {"a": "2"}}, "ingress": ingress}));
    assert_eq!(node.settle(), Delta::default());
    node.pod("a", json!({"a": "2"}), "10.0.0.1");
    node.settle();
    assert_eq!(node.set(), ["10.0.0.1"]);
    node.unwire("camA");
    let delta = node.settle();
    assert_eq!(node.sets(), []);
    assert_eq!((delta.chains_dropped.len(), delta.sets_dropped.len()), (2, 2));
}

#[test]
fn rules_with_the_same_peers_share_a_set_until_the_last_is_gone() {
    let mut node = one_pod();
    let one = json!({"ingress": [{"from": [{"podSelector": {}}, {"ipBlock": {"cidr": "10.9.0.0/17"}}, {"ipBlock": {"cidr": "10.9.128.0/17"}}]}]});
    let same = json!({"ingress": [{"from": [{"ipBlock": {"cidr": "10.9.0.0/16"}}, {"podSelector": {}}]}]});
    node.policy("p", one);
    node.settle();
    let before: Vec<String> = node.sets().iter().map(|(name, _)| (*name).to_owned()).collect();
    node.policy("q", same);
    let delta = node.settle();
    assert_eq!((delta.sets_made, delta.sets_dropped), (vec![], vec![]));
    node.no_policy("p");
    node.settle();
    assert_eq!(node.sets().iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>(), before);
    node.no_policy("q");
    node.settle();
    assert_eq!(node.sets(), []);
}

#[test]
fn a_pods_labels_and_its_namespaces_labels_move_it_between_sets_alone() {
    let mut node = one_pod();
    let peer = json!({"namespaceSelector": {"matchLabels": {"team": "x"}}, "podSelector": {"matchLabels": {"b": "1"}}});
    node.policy("p", json!({"podSelector": {}, "ingress": [{"from": [peer]}]}));
    node.pod("other/b", json!({"b": "1"}), "10.0.0.2");
    node.settle();
    assert_eq!(node.sets().len(), 2, "one a family");

    node.namespace("other", json!({"team": "x"}));
    let delta = node.settle();
    assert_eq!(delta.joined.len(), 1);
    assert_eq!(Delta { joined: Vec::new(), ..delta }, Delta::default());

    node.pod("other/b", json!({"b": "2"}), "10.0.0.2");
    let delta = node.settle();
    assert_eq!(delta.left.len(), 1);
    assert_eq!(Delta { left: Vec::new(), ..delta }, Delta::default());
}

#[test]
fn a_namespace_without_an_object_has_its_name_where_objects_may_be_missing() {
    let mut node = Node::with(UnknownPods::Unlabelled);
    node.pod("a", json!({"a": "1"}), "10.0.0.1");
    node.wire("camA", "a", &["10.0.0.1"]);
    node.pod("other/b", json!({}), "10.0.0.2");
    let name = json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["ns"]}]});
    node.policy("p", json!({"ingress": [{"from": [{"namespaceSelector": name}]}]}));
    node.settle();
    assert!(node.sets().iter().any(|(_, members)| members == &["10.0.0.2"]));
    node.namespace("other", json!({"kubernetes.io/metadata.name": "ns"}));
    assert_eq!(node.settle(), Delta::default(), "nobody changes that label");
}

/// Its labels come later, or have come and are gone: until then it may be the one that is to be kept out.
#[test]
fn a_namespace_that_is_still_to_be_told_is_selected_by_its_name_alone() {
    let is_not_there = |key: &str| json!({"namespaceSelector": {"matchExpressions": [{"key": key, "operator": "DoesNotExist"}]}});
    let evil = json!([{"key": "tenant", "operator": "NotIn", "values": ["evil"]}]);
    for peer in [
        json!({"namespaceSelector": {"matchExpressions": evil}}),
        json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"b": "1"}}}),
        is_not_there("tenant"),
    ] {
        let mut node = one_pod();
        node.policy("p", json!({"ingress": [{"from": [peer]}]}));
        node.pod("other/b", json!({"b": "1"}), "10.0.0.2");
        node.settle();
        assert_eq!(node.set(), [""; 0], "{peer}");
        node.namespace("other", json!({"team": "x"}));
        node.settle();
        assert_eq!(node.set(), ["10.0.0.2"], "{peer}");
        node.compiler.apply(Change::Namespace("other".into(), None));
        node.settle();
        assert_eq!(node.set(), [""; 0], "{peer}");
    }
    let name =
        |name: &str| json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}});
    for (peer, members) in [(json!({"podSelector": {}}), ["10.0.0.1"]), (name("other"), ["10.0.0.2"])] {
        let mut node = one_pod();
        node.policy("p", json!({"ingress": [{"from": [peer]}]}));
        node.pod("other/b", json!({}), "10.0.0.2");
        node.settle();
        assert_eq!(node.set(), members, "{peer}");
    }
}

#[test]
fn pods_that_have_ended_and_pods_on_the_hosts_network_are_nowhere() {
    let mut node = one_pod();
    node.policy("p", json!({"ingress": [{"from": [{"podSelector": {}}]}]}));
    let status = json!([{"ip": "10.0.0.2"}]);
    node.object("b", json!({"spec": {"hostNetwork": true}, "status": {"podIPs": status}}));
    node.settle();
    assert_eq!(node.sets().first().map(|(_, members)| members.clone()), Some(vec!["10.0.0.1".to_owned()]));
    assert_eq!(node.compiler.owner(address("10.0.0.2")), None);

    node.object("b", json!({"status": {"podIPs": status, "phase": "Running"}, "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    node.settle();
    assert_eq!(node.compiler.owner(address("10.0.0.2")), Some(key("b")), "it ends, and still runs");
    node.object("b", json!({"status": {"podIPs": status, "phase": "Failed"}}));
    let delta = node.settle();
    assert_eq!(delta.left.len(), 1);

    node.object("a", json!({"status": {"podIPs": [{"ip": "10.0.0.1"}], "phase": "Succeeded"}}));
    node.settle();
    assert_eq!(node.placement("camA"), None, "closed");
}

#[test]
fn an_address_goes_to_the_younger_pod_in_whatever_order_that_is_told() {
    let pod = |label: &str, created: &str| {
        json!({
            "metadata": {"labels": {"x": label}, "creationTimestamp": created},
            "status": {"podIPs": [{"ip": "10.0.0.2"}]},
        })
    };
    let old = pod("old", "2026-01-01T00:00:00Z");
    let young = pod("young", "2026-01-02T00:00:00Z");
    for label in ["old", "young"] {
        let mut node = one_pod();
        let peer = json!({"podSelector": {"matchLabels": {"x": label}}});
        node.policy("p", json!({"ingress": [{"from": [peer]}]}));
        node.object("old", old.clone());
        node.settle();
        node.object("young", young.clone());
        let delta = node.settle();
        assert_eq!(node.compiler.owner(address("10.0.0.2")), Some(key("young")));
        match label {
            "old" => assert_eq!((delta.left_first.len(), delta.joined.len()), (1, 0), "before anything else"),
            _ => assert_eq!((delta.left_first.len(), delta.joined.len()), (0, 1)),
        }
        node.object("old", old.clone());
        assert_eq!(node.settle(), Delta::default(), "told again, it is still the older one");
        node.no_pod("old");
        assert_eq!(node.settle(), Delta::default());
        node.no_pod("young");
        node.settle();
        assert_eq!(node.compiler.owner(address("10.0.0.2")), None);
    }
}

/// After a restart of the node its pods are wired anew and may get one another's addresses, while their objects still tell
/// those that they had before.
#[test]
fn what_is_wired_here_is_not_taken_back_by_a_status_of_before() {
    let pod = |role: &str, day: u32, addresses: &[&str]| {
        let addresses: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        json!({
            "metadata": {"labels": {"role": role}, "creationTimestamp": format!("2026-01-0{day}T00:00:00Z")},
            "status": {"podIPs": addresses},
        })
    };
    let admins = json!([{"from": [{"podSelector": {"matchLabels": {"role": "admin"}}}]}]);
    let mut node = one_pod();
    node.policy("p", json!({"podSelector": {"matchLabels": {"a": "1"}}, "ingress": admins}));
    node.object("low", pod("low", 1, &["10.0.1.1"]));
    node.object("admin", pod("admin", 2, &["10.0.1.2", "fd00::2"]));
    node.wire("camLow", "low", &["10.0.1.2"]);
    node.settle();
    assert_eq!(node.compiler.owner(address("10.0.1.2")), Some(key("low")), "the older one, but wired");
    assert_eq!(node.set(), [""; 0]);
    node.wire("camAdmin", "admin", &["10.0.1.1"]);
    node.settle();
    assert_eq!(node.set(), ["10.0.1.1"]);
    assert_eq!(node.compiler.owner(address("fd00::2")), Some(key("admin")), "no veth has that family");

    node.unwire("camLow");
    node.settle();
    assert_eq!(node.set(), ["10.0.1.1"], "the status tells no address of a family that a veth has");
    assert_eq!(node.compiler.owner(address("10.0.1.2")), None);
    node.unwire("camAdmin");
    node.settle();
    assert_eq!(node.set(), ["10.0.1.2"], "without a veth it is what the status says");
}

/// A pod of a StatefulSet that comes back on another node may be told before its old veth is gone.
#[test]
fn a_pod_on_another_node_has_its_address_while_a_veth_of_its_name_lingers_here() {
    for (node_name, members) in [("node1", vec!["10.0.0.1"]), ("node2", vec!["10.0.0.1", "10.0.2.1"])] {
        let mut node = one_pod();
        node.policy("p", json!({"ingress": [{"from": [{"podSelector": {}}]}]}));
        let status = json!({"podIPs": [{"ip": "10.0.2.1"}]});
        node.object(
            "a",
            json!({"metadata": {"uid": "2"}, "spec": {"nodeName": node_name}, "status": status}),
        );
        node.settle();
        assert_eq!(node.set(), members, "{node_name}");
    }
}

#[test]
fn a_pod_of_the_same_name_is_another_pod() {
    let pod = |uid: &str, label: &str| json!({"metadata": {"uid": uid, "labels": {"x": label}}, "status": {"podIPs": [{"ip": "10.0.0.2"}]}});
    let mut node = one_pod();
    node.policy("p", json!({"ingress": [{"from": [{"podSelector": {"matchLabels": {"x": "1"}}}]}]}));
    node.object("b", pod("one", "1"));
    node.settle();
    node.object("b", pod("two", "2"));
    let delta = node.settle();
    assert_eq!((delta.left_first.len(), delta.left.len()), (1, 0));
}

#[test]
fn an_address_that_stays_in_a_set_with_another_pod_is_not_touched() {
    let mut node = one_pod();
    node.policy("p", json!({"ingress": [{"from": [{"podSelector": {}}]}]}));
    node.pod("b", json!({}), "10.0.0.2");
    node.settle();
    node.pod("c", json!({}), "10.0.0.2");
    node.no_pod("b");
    assert_eq!(node.settle(), Delta::default());
    assert_eq!(node.compiler.owner(address("10.0.0.2")), Some(key("c")));
}

#[test]
fn a_veth_has_its_addresses_before_the_pods_status_says_so() {
    let mut node = Node::new();
    node.policy("p", json!({"ingress": [{"from": [{"podSelector": {}}]}]}));
    node.object("a", json!({}));
    node.wire("camA", "a", &["10.0.0.1", "fd00::1", "fe80::1"]);
    node.settle();
    let members: Vec<String> = node.sets().into_iter().flat_map(|(_, members)| members).collect();
    assert_eq!(members, ["10.0.0.1", "fd00::1"], "a link-local address is nobody's alone");
    let own: Vec<String> =
        node.program.ipv6.sets[&self_set(Family::Ipv6)].members.iter().map(shown).collect();
    assert_eq!(own, ["fd00::1 camA", "fe80::1 camA"]);
}

#[test]
fn a_pod_that_is_not_known_is_closed_or_has_no_labels() {
    for (unknown, is_placed) in [(UnknownPods::Closed, false), (UnknownPods::Unlabelled, true)] {
        let mut node = Node::with(unknown);
        node.policy("p", json!({"ingress": [{"from": [{"podSelector": {}}]}]}));
        node.wire("camA", "a", &["10.0.0.1"]);
        node.settle();
        assert_eq!(node.placement("camA").is_some(), is_placed);
        assert_eq!(node.sets().len(), if is_placed { 2 } else { 0 });
        assert_eq!(node.compiler.owner(address("10.0.0.1")), Some(key("a")));
        node.pod("a", json!({}), "10.0.0.1");
        node.settle();
        assert!(node.placement("camA").is_some());
        node.no_pod("a");
        node.settle();
        assert_eq!(node.placement("camA").is_some(), is_placed);
    }
}

#[test]
fn what_is_no_pod_of_kubernetes_is_open_and_selected_by_nothing() {
    let mut node = one_pod();
    node.policy("p", json!({"ingress": [{"from": [{"namespaceSelector": {}}]}]}));
    node.pod("b", json!({}), "10.0.0.7");
    node.settle();
    let endpoint = Endpoint { pod: None, addresses: [address("10.0.0.7")].into() };
    node.compiler.apply(Change::Endpoint("camX".into(), Some(endpoint)));
    node.settle();
    assert_eq!(node.placement("camX"), Some(&Placement { egress: OPEN.into(), ingress: OPEN.into() }));
    assert_eq!(node.compiler.owner(address("10.0.0.7")), None, "the veth has it, and no pod");
    assert!(!node.sets().iter().any(|(_, members)| members.contains(&"10.0.0.7".to_owned())));
}

#[test]
fn a_veth_that_goes_to_another_pod_takes_nothing_along() {
    let mut node = one_pod();
    node.pod("b", json!({"a": "2"}), "10.0.0.2");
    node.policy("p", json!({"podSelector": {"matchLabels": {"a": "1"}}}));
    node.settle();
    assert_eq!(node.rules("camA", Ingress), with_denial(&[]));
    node.wire("camA", "b", &["10.0.0.2"]);
    node.settle();
    assert_eq!(node.placement("camA").map(|placed| &*placed.ingress), Some(OPEN));
    node.wire("camB", "a", &["10.0.0.1"]);
    let delta = node.settle();
    assert_eq!(delta.left_first, []);
    node.wire("camC", "a", &["10.0.0.1"]);
    node.unwire("camB");
    let delta = node.settle();
    assert_eq!((delta.left_first.len(), delta.joined.len()), (1, 1), "its address is another veth's now");
}

#[test]
fn a_named_port_has_each_pods_own_numbers() {
    let mut node = Node::new();
    let pod = |ports: Value, address: &str| json!({"spec": {"containers": [{"name": "c", "ports": ports}]}, "status": {"podIPs": [{"ip": address}]}});
    let two = json!([{"name": "web", "containerPort": 80}, {"name": "web", "containerPort": 81}]);
    let other = json!([{"name": "web", "containerPort": 8080}, {"name": "web", "containerPort": 53, "protocol": "UDP"}]);
    for (name, ports, address) in [
        ("a", two.clone(), "10.0.0.1"),
        ("b", two, "10.0.0.2"),
        ("c", other, "10.0.0.3"),
        ("d", json!([]), "10.0.0.4"),
    ] {
        node.object(name, pod(ports, address));
        node.wire(&format!("cam{name}"), name, &[address]);
    }
    let web = json!([{"ports": [{"port": "web"}]}]);
    node.policy("p", json!({"ingress": web, "egress": web}));
    node.settle();
    assert_eq!(node.rules("cama", Ingress), with_denial(&["ns/p ingress[0]: TCP 80-81 Return"]));
    assert_eq!(node.rules("camc", Ingress), with_denial(&["ns/p ingress[0]: TCP 8080-8080 Return"]));
    assert_eq!(node.rules("camd", Ingress), with_denial(&[]), "nothing has that name");
    assert_eq!(node.placement("cama"), node.placement("camb"), "one class");
    let egress = ["ns/p egress[0]: cam4e [Destination, Destination] Return"];
    assert_eq!(node.rules("camd", Egress), with_denial(&egress));
    let sets = node.sets();
    let members: Vec<&str> = sets.iter().flat_map(|(_, members)| members).map(String::as_str).collect();
    let wanted =
        ["10.0.0.1 TCP 80", "10.0.0.1 TCP 81", "10.0.0.2 TCP 80", "10.0.0.2 TCP 81", "10.0.0.3 TCP 8080"];
    assert_eq!(members, wanted);
}

#[test]
fn a_block_selects_pods_with_a_named_port_by_their_addresses() {
    let mut node = one_pod();
    let ports = json!([{"name": "web", "containerPort": 80}]);
    for (name, address) in [("b", "10.0.0.2"), ("c", "10.0.1.2")] {
        let containers = json!([{"name": "c", "ports": ports}]);
        node.object(
            name,
            json!({"spec": {"containers": containers}, "status": {"podIPs": [{"ip": address}]}}),
        );
    }
    let block = json!([{"ipBlock": {"cidr": "10.0.0.0/24"}}]);
    node.policy("p", json!({"egress": [{"to": block, "ports": [{"port": "web"}]}]}));
    node.settle();
    assert_eq!(node.set(), ["10.0.0.2 TCP 80"]);
}

#[test]
fn a_block_that_is_a_pods_address_stays_when_the_pod_goes() {
    let mut node = one_pod();
    node.pod("b", json!({}), "10.0.0.2");
    node.pod("c", json!({}), "10.0.9.9");
    node.policy(
        "p",
        json!({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.2/32"}}, {"podSelector": {}}, {"ipBlock": {"cidr": "10.0.8.0/21"}}]}]}),
    );
    node.settle();
    assert_eq!(
        node.sets().first().map(|(_, members)| members.join(" ")).as_deref(),
        Some("10.0.0.1/32 10.0.0.2/32 10.0.8.0/21")
    );
    node.no_pod("b");
    node.no_pod("c");
    assert_eq!(node.settle(), Delta::default());
}

#[test]
fn a_policy_that_is_refused_fails_closed_until_it_changes() {
    let mut node = one_pod();
    let spec = json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]});
    node.policy("p", spec.clone());
    node.settle();
    let (set, _) = node.sets()[0];
    assert_eq!(node.compiler.policies_with(set), [key("p")]);
    let fault = Fault { field: "spec".into(), what: "set full".into() };
    node.compiler.refuse(&key("p"), fault.clone());
    node.settle();
    assert_eq!(node.rules("camA", Ingress), with_denial(&[]));
    assert_eq!(node.compiler.faults().collect::<Vec<_>>(), [(&key("p"), &[fault.clone()][..])]);
    node.policy("p", spec.clone());
    node.compiler.refuse(&key("p"), fault);
    assert_eq!(node.settle(), Delta::default(), "told again, it is the same");
    node.no_policy("p");
    node.policy("p", spec);
    node.settle();
    assert_eq!(node.rules("camA", Ingress).len(), 3);
    assert_eq!(node.compiler.faults().count(), 0);
}

#[test]
fn a_policy_that_is_written_in_turns_in_two_ways_leaves_nothing_behind() {
    let mut node = one_pod();
    for types in [json!(["Ingress"]), json!([])].iter().cycle().take(20) {
        node.policy("p", json!({"policyTypes": types}));
        assert_eq!(node.compiler.take_delta().chains_dropped, []);
        let classes = node.compiler.chains.classes();
        assert!(classes <= 2, "{classes} of one policy");
    }
}

#[test]
fn reports_say_who_selects_whom() {
    let mut node = one_pod();
    node.policy(
        "p",
        json!({"podSelector": {"matchLabels": {"a": "1"}}, "policyTypes": ["Ingress", "Egress"]}),
    );
    node.policy("q", json!({"podSelector": {}, "ingress": [{"ports": [{"port": 0}]}]}));
    node.policy("r", json!({"podSelector": {"matchLabels": {"a": "2"}}}));
    node.settle();
    let pods: Vec<PodReport> = node.compiler.pods().collect();
    assert_eq!((&pods[0].ingress, &pods[0].egress), (&vec![key("p"), key("q")], &vec![key("p")]));
    let policies: Vec<PolicyReport> = node.compiler.policies().collect();
    let told: Vec<(bool, bool, usize, usize)> = policies
        .iter()
        .map(|told| (told.ingress, told.egress, told.selects.len(), told.faults.len()))
        .collect();
    assert_eq!(told, [(true, true, 1, 0), (true, false, 1, 1), (true, false, 0, 0)]);
    let ingress = &node.placement("camA").expect("placed").ingress;
    assert_eq!(node.compiler.policies_of(ingress), Some(vec![key("p"), key("q")]));
    assert_eq!(node.compiler.policies_of(OPEN), None);
    assert_eq!(node.compiler.policy_of_tag("ns/p ingress[0]"), Some(key("p")));
    assert_eq!(node.compiler.policy_of_tag("denied"), None);
}

#[test]
fn pods_that_other_policies_isolate_are_denied_by_other_chains() {
    let mut node = one_pod();
    node.pod("other/b", json!({}), "10.0.0.2");
    node.wire("camB", "other/b", &["10.0.0.2"]);
    node.policy("deny", json!({}));
    node.policy("other/deny", json!({}));
    node.settle();
    assert_ne!(node.placement("camA"), node.placement("camB"));
}

/// The kernel keeps them over restarts and upgrades: other names for the same meaning cost a rewrite of everything, and the
/// same name for another meaning lets in what is to be kept out.
#[test]
fn names_are_those_of_earlier_releases() {
    let mut node = one_pod();
    node.policy("p", json!({"ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 80}]}]}));
    node.settle();
    let (set, _) = node.sets()[0];
    assert_eq!(set, "cam4pj3frjssfprdqdhf7vs3yir3ysv");
    assert_eq!(&*node.placement("camA").expect("placed").ingress, "i-w6mvapvnmffikbz45hlpjpaogn");
}

#[test]
fn bgp_peers_are_in_their_sets() {
    let mut node = Node::new();
    node.compiler.apply(Change::BgpPeers([address("192.0.2.1"), address("2001:db8::1")].into()));
    let delta = node.settle();
    assert_eq!(delta.joined.len(), 2);
    node.compiler.apply(Change::BgpPeers([address("192.0.2.2"), address("2001:db8::1")].into()));
    let delta = node.settle();
    assert_eq!((delta.joined.len(), delta.left.len()), (1, 1));
}

#[test]
fn what_is_told_twice_changes_nothing() {
    let mut node = one_pod();
    for _ in 0..2 {
        node.namespace("ns", json!({"a": "b"}));
        node.pod("a", json!({"a": "1"}), "10.0.0.1");
        node.wire("camA", "a", &["10.0.0.1"]);
        node.policy("p", json!({"ingress": [{}]}));
        node.no_pod("none");
        node.no_policy("none");
        node.unwire("camNone");
    }
    assert_ne!(node.settle(), Delta::default());
    node.policy("p", json!({"ingress": [{}]}));
    node.pod("a", json!({"a": "1"}), "10.0.0.1");
    assert_eq!(node.settle(), Delta::default());
}
