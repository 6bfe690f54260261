//! Worlds at random. Few names, labels, addresses and ports, so that selectors, blocks and ports hit, miss by little and
//! overlap.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::addresses::{addresses, join, zero};
use super::world::{
    Block, Container, Event, FaultOf, Labels, NAMESPACES, NODES, PeerOf, PodOf, PolicyOf, PolicyPortOf,
    PortOf, RuleOf, Selector, State, Step, Wanted, World,
};

const KEYS: [&str; 3] = ["app", "tier", "env"];
const VALUES: [&str; 3] = ["", "x", "y"];
const PORT_NAMES: [&str; 2] = ["web", "dns"];
/// What ports of pods and of policies are made of.
pub const PORTS: [u16; 5] = [1, 53, 80, 81, 65535];
const PODS: usize = 6;
const POLICIES: usize = 4;

const FAULTS: [FaultOf; 24] = [
    FaultOf::Rule(r#"{"from":[{"ipBlock":{"cidr":"10.0.0.0/33"}}]}"#),
    FaultOf::Rule(r#"{"from":[{"ipBlock":{"cidr":"10.0.0.1"}}]}"#),
    FaultOf::Rule(r#"{"from":[{"ipBlock":{"except":["10.0.0.0/28"]}}]}"#),
    FaultOf::Rule(r#"{"from":[{"ipBlock":{"cidr":"10.0.0.0/24","except":["10.0.1.0/28"]}}]}"#),
    FaultOf::Rule(r#"{"from":[{"ipBlock":{"cidr":"10.0.0.0/24","except":["10.0.0.0/24"]}}]}"#),
    FaultOf::Rule(r#"{"from":[{"ipBlock":{"cidr":"10.0.0.0/24"},"podSelector":{}}]}"#),
    FaultOf::Rule(r#"{"from":[{}]}"#),
    FaultOf::Rule(r#"{"from":"all"}"#),
    FaultOf::Rule(r#"{"form":[{"podSelector":{"matchLabels":{"app":"x"}}}]}"#),
    FaultOf::Rule(
        r#"{"from":[{"podSelector":{"matchExpressions":[{"key":"app","operator":"in","values":["x"]}]}}]}"#,
    ),
    FaultOf::Rule(r#"{"from":[{"podSelector":{"matchExpressions":[{"key":"app","operator":"In"}]}}]}"#),
    FaultOf::Rule(
        r#"{"from":[{"namespaceSelector":{"matchExpressions":[{"key":"app","operator":"Exists","values":["x"]}]}}]}"#,
    ),
    FaultOf::Rule(r#"{"ports":[{"port":0}]}"#),
    FaultOf::Rule(r#"{"ports":[{"port":65536}]}"#),
    FaultOf::Rule(r#"{"ports":[{"port":81,"endPort":80}]}"#),
    FaultOf::Rule(r#"{"ports":[{"port":"web","endPort":81}]}"#),
    FaultOf::Rule(r#"{"ports":[{"endPort":81}]}"#),
    FaultOf::Rule(r#"{"ports":[{"port":"not a name"}]}"#),
    FaultOf::Rule(r#"{"ports":[{"protocol":"tcp","port":80}]}"#),
    FaultOf::Rule(r#"{"ports":[{"protocol":"ICMP"}]}"#),
    FaultOf::Rule(r#"{"ports":{"port":80}}"#),
    FaultOf::Selector(r#"{"matchLabels":{"app":1}}"#),
    FaultOf::Selector(r#"{"matchExpressions":[{"key":"app","operator":"NotIn"}]}"#),
    FaultOf::Selector(r#"{"matchLabel":{"app":"x"}}"#),
];

/// A first state and what happens then.
pub fn histories() -> impl Strategy<Value = (World, Vec<Step>)> {
    let step = (vec(events(), 1..4), any::<u64>()).prop_map(|(events, seed)| Step { events, seed });
    (worlds(), vec(step, 0..4))
}

fn worlds() -> impl Strategy<Value = World> {
    (
        vec(namespaces(), NAMESPACES.len()),
        vec(option::weighted(0.8, pods()), PODS),
        vec(option::weighted(0.7, policies()), POLICIES),
    )
        .prop_map(|(namespaces, pods, policies)| World { namespaces, pods, policies })
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => (0..NAMESPACES.len(), namespaces()).prop_map(|(slot, labels)| Event::Namespace(slot, labels)),
        3 => (0..PODS, option::weighted(0.8, pods())).prop_map(|(slot, pod)| Event::Pod(slot, pod)),
        2 => (0..PODS, labels()).prop_map(|(slot, labels)| Event::Relabel(slot, labels)),
        2 => (0..PODS, states()).prop_map(|(slot, state)| Event::State(slot, state)),
        1 => (0..PODS, vec(ports_of_pods(), 0..4)).prop_map(|(slot, ports)| Event::Ports(slot, ports)),
        3 => (0..POLICIES, option::weighted(0.8, policies())).prop_map(|(slot, policy)| Event::Policy(slot, policy)),
    ]
}

fn namespaces() -> impl Strategy<Value = Option<Labels>> {
    option::weighted(0.85, labels())
}

fn labels() -> impl Strategy<Value = Labels> {
    vec(option::weighted(0.6, select(&VALUES[..])), KEYS.len()).prop_map(|values| {
        Labels(KEYS.into_iter().zip(values).filter_map(|(key, value)| Some((key, value?))).collect())
    })
}

fn states() -> impl Strategy<Value = State> {
    prop_oneof![
        8 => Just(State::Running),
        1 => Just(State::Unreported),
        1 => Just(State::Terminating),
        2 => Just(State::Finished),
        1 => Just(State::OnHostNetwork),
    ]
}

fn pods() -> impl Strategy<Value = PodOf> {
    let low_bits = || 1_u8..9;
    let addresses = prop_oneof![
        2 => (low_bits(), low_bits()).prop_map(|(v4, v6)| (Some(v4), Some(v6))),
        1 => low_bits().prop_map(|v4| (Some(v4), None)),
        1 => low_bits().prop_map(|v6| (None, Some(v6))),
    ];
    let ports = vec(ports_of_pods(), 0..4);
    (0..NAMESPACES.len(), 0..NODES.len(), labels(), states(), addresses, ports, any::<u8>()).prop_map(
        |(namespace, node, labels, state, addresses, ports, created)| PodOf {
            namespace,
            node,
            labels,
            state,
            addresses,
            ports,
            created,
        },
    )
}

fn ports_of_pods() -> impl Strategy<Value = PortOf> {
    let containers = select(&[Container::First, Container::Second, Container::Init, Container::Sidecar][..]);
    (select(&PORT_NAMES[..]), protocols(), select(&PORTS[..]), containers)
        .prop_map(|(name, protocol, number, container)| PortOf { name, protocol, number, container })
}

fn protocols() -> impl Strategy<Value = Option<&'static str>> {
    select(&[None, Some("TCP"), Some("UDP"), Some("SCTP")][..])
}

fn policies() -> impl Strategy<Value = PolicyOf> {
    let types = select(vec![
        None,
        Some(vec!["Ingress"]),
        Some(vec!["Egress"]),
        Some(vec!["Ingress", "Egress"]),
        Some(Vec::new()),
    ]);
    let rules = || option::weighted(0.8, vec(rules(), 0..3));
    let faults = option::weighted(0.05, select(&FAULTS[..]));
    (0..NAMESPACES.len(), selectors(), types, rules(), rules(), faults).prop_map(
        |(namespace, selector, types, ingress, egress, fault)| PolicyOf {
            namespace,
            selector,
            types,
            ingress,
            egress,
            fault,
        },
    )
}

fn rules() -> impl Strategy<Value = RuleOf> {
    let peers = option::weighted(0.85, vec(peers(), 0..4));
    let ports = option::weighted(0.6, vec(ports_of_policies(), 0..4));
    (peers, ports).prop_map(|(peers, ports)| RuleOf { peers, ports })
}

fn peers() -> impl Strategy<Value = PeerOf> {
    prop_oneof![
        2 => selectors().prop_map(PeerOf::Pods),
        1 => selectors().prop_map(PeerOf::Namespaces),
        2 => (selectors(), selectors()).prop_map(|(namespaces, pods)| PeerOf::Both { namespaces, pods }),
        3 => blocks().prop_map(PeerOf::Block),
    ]
}

fn selectors() -> impl Strategy<Value = Selector> {
    let pair = (select(&KEYS[..]), select(&VALUES[..]));
    let values = || vec(select(&VALUES[..]), 1..3);
    let expression = (select(&KEYS[..]), select(&["In", "NotIn", "Exists", "DoesNotExist"][..]), values())
        .prop_map(|(key, operator, values)| {
            let values = if matches!(operator, "In" | "NotIn") { values } else { Vec::new() };
            (key, operator, values)
        });
    (vec(pair, 0..2), vec(expression, 0..2)).prop_map(|(labels, expressions)| Selector {
        labels: Labels(labels.into_iter().collect()),
        expressions,
    })
}

/// Around what addresses there are; exceptions lie in the block, beside one another, in one another or twice. The host bits
/// of the block may be set, as the API server lets them.
fn blocks() -> impl Strategy<Value = Block> {
    let of_family = |all: Vec<IpAddr>, lengths: &'static [u8]| {
        let exceptions = vec((select(all.clone()), select(lengths)), 0..4);
        (select(all), select(lengths), any::<bool>(), exceptions).prop_map(
            |(address, length, keeps_host_bits, exceptions)| {
                let network = join(address, zero(address), length);
                let except = exceptions
                    .into_iter()
                    .filter(|(_, longer)| *longer > length)
                    .map(|(other, longer)| {
                        let inside = join(address, other, length);
                        format!("{}/{longer}", join(inside, zero(inside), longer))
                    })
                    .collect();
                Block {
                    cidr: format!("{}/{length}", if keeps_host_bits { address } else { network }),
                    except,
                }
            },
        )
    };
    let (v4, v6) = addresses().into_iter().partition(IpAddr::is_ipv4);
    prop_oneof![
        of_family(v4, &[0, 1, 8, 24, 28, 29, 30, 31, 32, 32]),
        of_family(v6, &[0, 1, 16, 64, 120, 124, 125, 126, 127, 128, 128]),
    ]
}

fn ports_of_policies() -> impl Strategy<Value = PolicyPortOf> {
    let number = || select(&PORTS[..]);
    let wanted = prop_oneof![
        1 => Just(Wanted::All),
        3 => number().prop_map(Wanted::Number),
        3 => (number(), number()).prop_map(|(one, other)| Wanted::Range(one.min(other), one.max(other))),
        3 => select(&PORT_NAMES[..]).prop_map(Wanted::Named),
    ];
    (protocols(), wanted).prop_map(|(protocol, port)| PolicyPortOf { protocol, port })
}
