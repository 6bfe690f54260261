use serde_json::{Value, json};

use super::*;
use crate::change::Key;
use crate::program::{Family, Ports, Protocol};

fn object(spec: &Value) -> (Key, PolicyObject) {
    let value = json!({"metadata": {"namespace": "ns", "name": "p"}, "spec": spec});
    decode(&value).expect("it has a name")
}

fn read(spec: &Value) -> Policy {
    let (key, object) = object(spec);
    Policy::read(&key.namespace, &object)
}

fn good(spec: &Value) -> Policy {
    let policy = read(spec);
    assert_eq!(policy.faults, [], "{spec}");
    policy
}

/// The one rule of a policy for what pods are sent.
fn rule(rule: &Value) -> PolicyRule {
    let policy = good(&json!({"ingress": [rule]}));
    policy.ingress.expect("it isolates").pop().expect("a rule")
}

fn peers(peers: &Value) -> Arc<PeerList> {
    match rule(&json!({"from": peers})).peers {
        Peers::Listed(list) => list,
        Peers::Anyone => panic!("anyone"),
    }
}

#[test]
fn directions_that_are_not_named_are_filled_in_as_the_api_server_does() {
    for (spec, ingress, egress) in [
        (json!({}), true, false),
        (json!({"policyTypes": []}), true, false),
        (json!({"egress": []}), true, false),
        (json!({"egress": [{}]}), true, true),
        (json!({"policyTypes": ["Egress"]}), false, true),
        (json!({"policyTypes": ["Egress"], "ingress": [{}]}), false, true),
        (json!({"policyTypes": ["Ingress", "Egress"]}), true, true),
    ] {
        let policy = good(&spec);
        assert_eq!((policy.ingress.is_some(), policy.egress.is_some()), (ingress, egress), "{spec}");
    }
    let sections = good(&json!({"policyTypes": ["Ingress"], "ingress": [{}], "egress": [{}]}));
    assert_eq!(sections.ingress.map(|rules| rules.len()), Some(1));
}

#[test]
fn no_rules_are_nobody_and_an_empty_rule_is_everybody() {
    assert_eq!(good(&json!({"ingress": []})).ingress, Some(Vec::new()));
    assert_eq!(good(&json!({})).ingress, Some(Vec::new()));
    let everybody = PolicyRule { peers: Peers::Anyone, ports: None };
    for empty in [json!({}), json!({"from": [], "ports": []}), json!({"from": null, "ports": null})] {
        assert_eq!(rule(&empty), everybody, "{empty}");
    }
}

#[test]
fn selectors_of_one_peer_must_both_hold_and_those_of_two_add_up() {
    let both = json!([{"podSelector": {}, "namespaceSelector": {"matchLabels": {"a": "b"}}}]);
    let both = peers(&both);
    let [selector] = Vec::from_iter(&both.selectors)[..] else { panic!("{both:?}") };
    assert!(matches!(&selector.namespaces, Namespaces::Matching(_)));

    let two = peers(&json!([{"podSelector": {}}, {"namespaceSelector": {}}]));
    assert_eq!(two.selectors.len(), 2);
    assert!(two.selectors.iter().any(|peer| peer.namespaces == Namespaces::Named("ns".into())));
}

#[test]
fn a_namespace_by_its_name_label_is_that_namespace() {
    let by_label = json!([{"namespaceSelector": {"matchLabels": {NAME_LABEL: "ns"}}, "podSelector": {}}]);
    assert_eq!(peers(&by_label), peers(&json!([{"podSelector": {}}])));
    let more = json!([{"namespaceSelector": {"matchLabels": {NAME_LABEL: "ns", "a": "b"}}}]);
    assert_ne!(peers(&more), peers(&json!([{"podSelector": {}}])));
}

#[test]
fn a_block_says_nothing_of_the_other_family() {
    let list = peers(&json!([{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]));
    assert!(list.ipv6.is_empty());
    assert!(list.has_address([11, 0, 0, 1].into()));
    assert!(!list.has_address([10, 0, 0, 1].into()));
    let all = peers(&json!([{"ipBlock": {"cidr": "::/0"}}]));
    assert!(all.blocks(Family::Ipv6).is_everything() && all.ipv4.is_empty());
}

/// Each exception of one address leaves 128 prefixes of a block.
#[test]
fn blocks_that_come_to_too_many_prefixes_are_a_fault() {
    let except: Vec<String> = (0..600).map(|at| format!("{:x}::{at:x}/128", 0x2000 + at)).collect();
    let block = json!([{"ipBlock": {"cidr": "::/0", "except": except}}]);
    let policy = read(&json!({"ingress": [{"from": block}]}));
    let [fault] = &policy.faults[..] else { panic!("{:?}", policy.faults) };
    assert_eq!(fault.field, "spec.ingress[0].from");
}

/// Of one policy: otherwise many lists, each of them small enough, ask for as much as one that is too large.
#[test]
fn lists_that_come_to_too_much_together_are_a_fault_and_those_that_say_the_same_are_one() {
    let fault = |spec: Value| {
        let policy = read(&spec);
        let [fault] = &policy.faults[..] else { panic!("{:?}", policy.faults) };
        fault.clone()
    };
    let except: Vec<String> = (0..400).map(|at| format!("{:x}::{at:x}/128", 0x2000 + at)).collect();
    let rules = |cidrs: [&str; 2]| {
        cidrs.map(|cidr| json!({"to": [{"ipBlock": {"cidr": "::/0", "except": except}}, {"ipBlock": {"cidr": cidr}}]}))
    };
    good(&json!({"egress": rules(["10.0.0.0/8", "10.0.0.0/8"])}));
    let told = fault(json!({"egress": rules(["10.0.0.0/8", "11.0.0.0/8"])}));
    assert_eq!(told.field, "spec.egress[1].to");
    assert!(told.what.contains("65536"), "{told}");

    let peer = |nth: usize| json!([{"podSelector": {"matchLabels": {"a": nth.to_string()}}}]);
    let ingress = |count: usize| -> Vec<Value> { (0..count).map(|nth| json!({"from": peer(nth)})).collect() };
    let twice = [ingress(1000), ingress(1000)].concat();
    good(&json!({"ingress": twice}));
    let told = fault(json!({"ingress": ingress(1001)}));
    assert_eq!(told.field, "spec.ingress[1000]");
    assert!(told.what.contains("1001") && told.what.contains("1000"), "{told}");

    let ports: Vec<Value> = (0..999).map(|nth| json!({"port": format!("p{nth}")})).collect();
    good(&json!({"ingress": [{"from": peer(0), "ports": ports}], "egress": [{"ports": ports}]}));
    let told = fault(json!({"ingress": ingress(2), "egress": [{"ports": ports}]}));
    assert_eq!(told.field, "spec.egress[0]", "each name there has a set of its own");
}

#[test]
fn ports_are_of_tcp_unless_they_say_otherwise() {
    let range = |first, last| Ports { first, last };
    let name = |protocol, name: &str| Port::Named(PortName { protocol, name: name.into() });
    for (port, wanted) in [
        (json!({}), Port::All(Protocol::Tcp)),
        (json!({"protocol": "SCTP"}), Port::All(Protocol::Sctp)),
        (json!({"port": 65535}), Port::Numbers(Protocol::Tcp, range(65535, 65535))),
        (
            json!({"port": 1, "endPort": 65535, "protocol": "UDP"}),
            Port::Numbers(Protocol::Udp, range(1, 65535)),
        ),
        (json!({"port": 7, "endPort": 7}), Port::Numbers(Protocol::Tcp, range(7, 7))),
        (json!({"port": "web"}), name(Protocol::Tcp, "web")),
        (json!({"port": "d-n-s", "protocol": "UDP"}), name(Protocol::Udp, "d-n-s")),
    ] {
        assert_eq!(rule(&json!({"ports": [port]})).ports, Some([wanted].into()), "{port}");
    }
}

/// Field and the beginning of what is said of it, for each thing that the API server refuses.
#[test]
fn one_fault_closes_the_whole_policy_and_names_field_and_value() {
    let port = |port: Value| json!({"ingress": [{}, {"ports": [port]}]});
    let peer = |peer: Value| json!({"egress": [{"to": [{"podSelector": {}}, peer]}]});
    let block = |block: Value| peer(json!({"ipBlock": block}));
    for (spec, field, what) in [
        (json!({"policyTypes": ["ingress"]}), "policyTypes[0]", "\"ingress\": "),
        (json!({"policyTypes": ["Ingress", "Ingress", "Egress"]}), "policyTypes", "3 entries"),
        (json!({"podSelector": {"matchLabels": {"a": "?"}}}), "podSelector.matchLabels", "\"?\""),
        (port(json!({"protocol": "tcp"})), "ingress[1].ports[0].protocol", "\"tcp\""),
        (port(json!({"port": 0})), "ingress[1].ports[0].port", "0: "),
        (port(json!({"port": 65536})), "ingress[1].ports[0].port", "65536: "),
        (port(json!({"port": -1})), "ingress[1].ports[0].port", "-1: "),
        (port(json!({"port": "80"})), "ingress[1].ports[0].port", "\"80\""),
        (port(json!({"port": "Web"})), "ingress[1].ports[0].port", "\"Web\""),
        (port(json!({"port": "a--b"})), "ingress[1].ports[0].port", "\"a--b\""),
        (port(json!({"port": "sixteen-letters-"})), "ingress[1].ports[0].port", "\"sixteen"),
        (port(json!({"port": 80, "endPort": 79})), "ingress[1].ports[0].endPort", "79: less than port, 80"),
        (port(json!({"port": 80, "endPort": 65536})), "ingress[1].ports[0].endPort", "65536: "),
        (port(json!({"port": "web", "endPort": 80})), "ingress[1].ports[0].endPort", "80: port is not"),
        (port(json!({"endPort": 80})), "ingress[1].ports[0].endPort", "80: port is not"),
        (peer(json!({})), "egress[0].to[1]", "expected"),
        (peer(json!({"podSelector": null})), "egress[0].to[1]", "expected"),
        (
            peer(json!({"podSelector": {}, "ipBlock": {"cidr": "::/0"}})),
            "egress[0].to[1]",
            "an ipBlock beside",
        ),
        (block(json!({"cidr": "10.0.0.0/33"})), "egress[0].to[1].ipBlock.cidr", "\"10.0.0.0/33\""),
        (block(json!({})), "egress[0].to[1].ipBlock.cidr", "\"\""),
        (
            block(json!({"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "11.0.0.0/16"]})),
            "egress[0].to[1].ipBlock.except[1]",
            "\"11.0.0.0/16\"",
        ),
        (
            block(json!({"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]})),
            "egress[0].to[1].ipBlock.except[0]",
            "\"10.0.0.0/8\"",
        ),
        // Fields that are not there, or hold something else.
        (json!({"podselector": {}}), "podselector", "unknown field"),
        (peer(json!({"podSelectors": {}})), "egress[0].to[1].podSelectors", "unknown field"),
        (port(json!({"port": 80.5})), "ingress[1].ports[0].port", "80.5: "),
        (port(json!({"port": 99999999999u64})), "ingress[1].ports[0].port", "99999999999: "),
        (json!({"ingress": {}}), "ingress", "{}: expected a list"),
        (json!({"ingress": [null]}), "ingress[0]", "null: expected an object"),
        (json!({"policyTypes": [5]}), "policyTypes[0]", "5: expected a text"),
    ] {
        let policy = read(&spec);
        let fault = policy.faults.first().unwrap_or_else(|| panic!("{spec}: no fault"));
        assert_eq!(fault.field, format!("spec.{field}"), "{spec}");
        assert!(fault.what.starts_with(what), "{spec}: {fault}");
        assert!(policy.faults.len() <= 2, "{spec}: {:?}", policy.faults);
        assert!(
            [policy.ingress, policy.egress].into_iter().flatten().all(|rules| rules.is_empty()),
            "{spec}"
        );
    }
}

#[test]
fn a_selector_that_cannot_be_read_selects_the_whole_namespace() {
    for selector in [
        json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "Is", "values": ["d"]}]}),
        json!({"matchLabels": {"a": 5}}),
        json!({"matchLabel": {"a": "b"}}),
        json!("a=b"),
    ] {
        let policy = read(&json!({"podSelector": selector, "policyTypes": ["Egress"]}));
        assert_eq!(policy.selects.pods, Selector::default(), "{selector}");
        assert_eq!((policy.ingress, policy.egress), (None, Some(Vec::new())), "{selector}");
    }
    let elsewhere = read(&json!({"podSelector": {"matchLabels": {"a": "b"}}, "ingress": [{"port": 80}]}));
    assert_ne!(elsewhere.selects.pods, Selector::default(), "it can be read");
}

#[test]
fn directions_that_cannot_be_known_are_both() {
    for (spec, egress) in [
        (json!({"policyTypes": "Ingress"}), true),
        (json!({"policyTypes": ["Ingress", 5]}), true),
        (json!({"egres": [{}]}), true),
        (json!({"egress": "all"}), true),
        (json!({"ingress": "all"}), false),
        (json!({"ingress": "all", "policyTypes": ["Ingress"]}), false),
        (json!({"podselector": {}, "policyTypes": ["Ingress"]}), false),
    ] {
        let policy = read(&spec);
        assert_eq!(policy.ingress, Some(Vec::new()), "{spec}");
        assert_eq!(policy.egress.is_some(), egress, "{spec}");
    }
}

#[test]
fn an_object_says_who_it_is() {
    let value = json!({"apiVersion": "extensions/v1beta1", "kind": "NetworkPolicy", "metadata": {"name": "a", "labels": {"x": "y"}}});
    let (key, object) = decode(&value).expect("it has a name");
    assert_eq!(key, Key::new("default", "a"));
    assert_eq!(object.faults.iter().map(|fault| fault.field.as_str()).collect::<Vec<_>>(), ["apiVersion"]);
    for nameless in [
        json!({}),
        json!({"metadata": {"name": ""}}),
        json!({"metadata": {"name": 5}}),
        json!([]),
        json!(null),
    ] {
        assert_eq!(decode(&nameless).expect_err("it has no name").field, "metadata.name", "{nameless}");
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// JSON of whatever shape, with the words of policies in it.
    fn anything() -> impl Strategy<Value = Value> {
        let words = [
            "spec",
            "metadata",
            "name",
            "podSelector",
            "matchLabels",
            "matchExpressions",
            "key",
            "operator",
            "values",
            "In",
            "ingress",
            "egress",
            "from",
            "to",
            "ports",
            "port",
            "endPort",
            "protocol",
            "ipBlock",
            "cidr",
            "except",
            "policyTypes",
            "10.0.0.0/8",
            "::/0",
            "",
            "ü",
        ];
        let word = prop::sample::select(Vec::from(words));
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (0..70_000i64).prop_map(Value::from),
            word.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(word.clone().prop_map(str::to_owned), inner, 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_json_makes_reading_panic_and_what_has_faults_allows_nothing(spec in anything()) {
            let policy = read(&spec);
            if !policy.faults.is_empty() {
                prop_assert!(policy.ingress.iter().chain(&policy.egress).all(Vec::is_empty));
            }
            prop_assert!(policy.ingress.is_some() || policy.egress.is_some());
        }
    }
}
