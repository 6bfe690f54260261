//! Clusters at random, and what happens to them. Few names, labels, addresses and ports, so that selectors, blocks and ports
//! hit, miss by little and overlap. Pods take a slot each; what happens fills, changes and empties slots.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::support::cluster::{Cluster, Policy};

const NAMESPACES: [&str; 2] = ["a", "b"];
const NODES: [&str; 2] = ["n1", "n2"];
const KEYS: [&str; 3] = ["app", "tier", "env"];
const VALUES: [&str; 3] = ["", "x", "y"];
const PORT_NAMES: [&str; 2] = ["web", "dns"];
/// What ports of pods and of policies are made of.
pub const PORTS: [u16; 5] = [1, 53, 80, 81, 65535];
const PODS: usize = 6;
const POLICIES: usize = 4;

/// The state of a cluster.
#[derive(Debug, Clone)]
pub struct World {
    namespaces: Vec<Labels>,
    pods: Vec<Option<PodOf>>,
    policies: Vec<Option<PolicyOf>>,
}

/// What happens to it.
#[derive(Debug, Clone)]
pub enum Event {
    Namespace(usize, Labels),
    Pod(usize, Option<PodOf>),
    Relabel(usize, Labels),
    State(usize, State),
    Policy(usize, Option<PolicyOf>),
}

/// Events that are told as one, and how.
#[derive(Debug, Clone)]
pub struct Step {
    pub events: Vec<Event>,
    /// What order they are told in, where they are told twice, and when the kernel is made what it is to be.
    pub seed: u64,
}

#[derive(Clone, Default, PartialEq)]
pub struct Labels(BTreeMap<&'static str, &'static str>);

#[derive(Debug, Clone)]
pub struct PodOf {
    namespace: usize,
    node: usize,
    labels: Labels,
    state: State,
    /// Its last four bits in each family.
    addresses: (Option<u8>, Option<u8>),
    ports: Vec<PortOf>,
    /// Seconds after some time.
    created: u8,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum State {
    Running,
    /// Wired, and its status has no addresses yet.
    Unreported,
    Terminating,
    Finished,
    OnHostNetwork,
}

#[derive(Debug, Clone)]
struct PortOf {
    name: &'static str,
    protocol: Option<&'static str>,
    number: u16,
    container: Container,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Container {
    First,
    Second,
    /// Begins before the others and ends before them: nothing listens there later.
    Init,
    /// Begins before the others and goes on.
    Sidecar,
}

#[derive(Debug, Clone)]
pub struct PolicyOf {
    namespace: usize,
    selector: Selector,
    types: Option<Vec<&'static str>>,
    ingress: Option<Vec<RuleOf>>,
    egress: Option<Vec<RuleOf>>,
    fault: Option<FaultOf>,
}

/// Something that the API server would refuse.
#[derive(Debug, Clone, Copy)]
enum FaultOf {
    /// One more ingress rule.
    Rule(&'static str),
    /// Another `podSelector`: it is not known what the policy selects.
    Selector(&'static str),
}

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

#[derive(Debug, Clone)]
struct RuleOf {
    peers: Option<Vec<PeerOf>>,
    ports: Option<Vec<PolicyPortOf>>,
}

#[derive(Debug, Clone)]
enum PeerOf {
    Pods(Selector),
    Namespaces(Selector),
    Both { namespaces: Selector, pods: Selector },
    Block(Block),
}

#[derive(Clone)]
struct Selector {
    labels: Labels,
    expressions: Vec<(&'static str, &'static str, Vec<&'static str>)>,
}

/// CIDRs.
#[derive(Debug, Clone)]
struct Block {
    cidr: String,
    except: Vec<String>,
}

#[derive(Debug, Clone)]
struct PolicyPortOf {
    protocol: Option<&'static str>,
    port: Wanted,
}

#[derive(Debug, Clone)]
enum Wanted {
    All,
    Number(u16),
    Range(u16, u16),
    Named(&'static str),
}

// --- at random ----------------------------------------------------------------------------------------------------

/// A first state and what happens then.
pub fn histories() -> impl Strategy<Value = (World, Vec<Step>)> {
    let step = (vec(events(), 1..4), any::<u64>()).prop_map(|(events, seed)| Step { events, seed });
    (worlds(), vec(step, 0..4))
}

fn worlds() -> impl Strategy<Value = World> {
    (
        vec(labels(), NAMESPACES.len()),
        vec(option::weighted(0.8, pods()), PODS),
        vec(option::weighted(0.7, policies()), POLICIES),
    )
        .prop_map(|(namespaces, pods, policies)| World { namespaces, pods, policies })
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => (0..NAMESPACES.len(), labels()).prop_map(|(slot, labels)| Event::Namespace(slot, labels)),
        3 => (0..PODS, option::weighted(0.8, pods())).prop_map(|(slot, pod)| Event::Pod(slot, pod)),
        2 => (0..PODS, labels()).prop_map(|(slot, labels)| Event::Relabel(slot, labels)),
        2 => (0..PODS, states()).prop_map(|(slot, state)| Event::State(slot, state)),
        3 => (0..POLICIES, option::weighted(0.8, policies())).prop_map(|(slot, policy)| Event::Policy(slot, policy)),
    ]
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
        1 => Just(State::Finished),
        1 => Just(State::OnHostNetwork),
    ]
}

fn pods() -> impl Strategy<Value = PodOf> {
    let low_bits = || 1_u8..13;
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
    let ports = option::weighted(0.6, vec(ports_of_policies(), 0..3));
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
        of_family(v4, &[0, 1, 8, 24, 28, 29, 30, 31, 32]),
        of_family(v6, &[0, 1, 16, 64, 120, 124, 125, 126, 127, 128]),
    ]
}

fn ports_of_policies() -> impl Strategy<Value = PolicyPortOf> {
    let number = || select(&PORTS[..]);
    let wanted = prop_oneof![
        1 => Just(Wanted::All),
        3 => number().prop_map(Wanted::Number),
        2 => (number(), number()).prop_map(|(one, other)| Wanted::Range(one.min(other), one.max(other))),
        3 => select(&PORT_NAMES[..]).prop_map(Wanted::Named),
    ];
    (protocols(), wanted).prop_map(|(protocol, port)| PolicyPortOf { protocol, port })
}

// --- addresses ----------------------------------------------------------------------------------------------------

fn v4_of_pod(low_bits: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, low_bits).into()
}

fn v6_of_pod(low_bits: u8) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, low_bits.into()).into()
}

fn of_nodes() -> [[IpAddr; 2]; 2] {
    [["172.16.0.1", "fd01::1"], ["172.16.0.2", "fd01::2"]].map(|both| both.map(address))
}

/// Outside: far away, and among the pods' addresses.
fn of_externals() -> [(&'static str, [IpAddr; 2]); 2] {
    [
        ("ext:far", ["192.0.2.1", "2001:db8::1"].map(address)),
        ("ext:near", ["10.0.0.14", "fd00::e"].map(address)),
    ]
}

fn addresses() -> Vec<IpAddr> {
    let of_pods = (0..16).flat_map(|low_bits| [v4_of_pod(low_bits), v6_of_pod(low_bits)]);
    let others = of_nodes().into_iter().chain(of_externals().map(|(_, both)| both)).flatten();
    of_pods.chain(others).collect()
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address in a test")
}

fn zero(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// The first bits of one address and the rest of another.
fn join(first: IpAddr, rest: IpAddr, length: u8) -> IpAddr {
    match (first, rest) {
        (IpAddr::V4(first), IpAddr::V4(rest)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            Ipv4Addr::from_bits(first.to_bits() & mask | rest.to_bits() & !mask).into()
        }
        (IpAddr::V6(first), IpAddr::V6(rest)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            Ipv6Addr::from_bits(first.to_bits() & mask | rest.to_bits() & !mask).into()
        }
        _ => panic!("addresses of two families"),
    }
}

// --- as objects ---------------------------------------------------------------------------------------------------

impl World {
    pub fn happens(&mut self, event: &Event) {
        match event.clone() {
            Event::Namespace(slot, labels) => self.namespaces[slot] = labels,
            Event::Pod(slot, pod) => self.pods[slot] = pod,
            Event::Policy(slot, policy) => self.policies[slot] = policy,
            Event::Relabel(slot, labels) => {
                if let Some(pod) = &mut self.pods[slot] {
                    pod.labels = labels;
                }
            }
            Event::State(slot, state) => {
                if let Some(pod) = &mut self.pods[slot] {
                    pod.state = state;
                }
            }
        }
    }

    /// As Kubernetes has it. No two pods that run have one address: a later slot that wants one that is taken is empty.
    pub fn cluster(&self) -> Cluster {
        let mut cluster = Cluster::default();
        for (name, addresses) in NODES.into_iter().zip(of_nodes()) {
            cluster.nodes.insert(name.to_owned(), addresses.into());
        }
        for (name, addresses) in of_externals() {
            cluster.externals.insert(name.to_owned(), addresses.into());
        }
        for (name, labels) in NAMESPACES.into_iter().zip(&self.namespaces) {
            let mut labels = labels.json();
            labels["kubernetes.io/metadata.name"] = json!(name);
            let namespace = json!({ "metadata": { "name": name, "labels": labels } });
            cluster.namespaces.insert(name.to_owned(), object(namespace));
        }
        let mut taken = Vec::new();
        for (slot, pod) in self.pods.iter().enumerate() {
            let Some(pod) = pod else { continue };
            let addresses = pod.addresses();
            if matches!(pod.state, State::Running | State::Unreported | State::Terminating) {
                if addresses.iter().any(|address| taken.contains(address)) {
                    continue;
                }
                taken.extend(addresses);
            }
            let name = (NAMESPACES[pod.namespace].to_owned(), format!("p{slot}"));
            if pod.state == State::Unreported {
                cluster.unreported.insert(name.clone());
            }
            cluster.pods.insert(name.clone(), object(pod.json(&name.1)));
        }
        for (slot, policy) in self.policies.iter().enumerate() {
            let Some(policy) = policy else { continue };
            let name = (NAMESPACES[policy.namespace].to_owned(), format!("policy{slot}"));
            cluster.policies.insert(name.clone(), policy.told_and_meant(&name.1));
        }
        cluster
    }
}

fn object<T: serde::de::DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).expect("an object of Kubernetes")
}

impl Labels {
    fn json(&self) -> Value {
        json!(self.0)
    }
}

impl PodOf {
    fn addresses(&self) -> Vec<IpAddr> {
        if self.state == State::OnHostNetwork {
            return of_nodes()[self.node].into();
        }
        let (v4, v6) = self.addresses;
        v4.map(v4_of_pod).into_iter().chain(v6.map(v6_of_pod)).collect()
    }

    fn json(&self, name: &str) -> Value {
        let ips: Vec<Value> = self.addresses().iter().map(|ip| json!({ "ip": ip })).collect();
        let time = |seconds: u8| format!("2026-01-01T00:{:02}:{:02}Z", seconds / 60, seconds % 60);
        let phase = match self.state {
            State::Unreported => "Pending",
            State::Finished => "Succeeded",
            State::Running | State::Terminating | State::OnHostNetwork => "Running",
        };
        json!({
            "metadata": {
                "namespace": NAMESPACES[self.namespace],
                "name": name,
                "uid": format!("{name}-{}", self.created),
                "labels": self.labels.json(),
                "creationTimestamp": time(self.created),
                "deletionTimestamp": (self.state == State::Terminating).then(|| time(self.created)),
            },
            "spec": {
                "nodeName": NODES[self.node],
                "hostNetwork": self.state == State::OnHostNetwork,
                "containers": [
                    { "name": "first", "ports": self.ports_of(Container::First) },
                    { "name": "second", "ports": self.ports_of(Container::Second) },
                ],
                "initContainers": [
                    { "name": "init", "ports": self.ports_of(Container::Init) },
                    { "name": "sidecar", "restartPolicy": "Always", "ports": self.ports_of(Container::Sidecar) },
                ],
            },
            "status": { "phase": phase, "podIP": self.addresses().first(), "podIPs": ips },
        })
    }

    fn ports_of(&self, container: Container) -> Vec<Value> {
        let of_container = self.ports.iter().filter(|port| port.container == container);
        of_container
            .map(|port| {
                let PortOf { name, protocol, number, .. } = port;
                without_null(json!({ "name": name, "containerPort": number, "protocol": protocol }))
            })
            .collect()
    }
}

impl PolicyOf {
    /// One with a fault fails closed: it isolates what it selects, and allows nothing.
    fn told_and_meant(&self, name: &str) -> Policy {
        let mut told = self.json(name);
        let Some(fault) = self.fault else { return Policy { meant: object(told.clone()), told } };
        let mut meant = told.clone();
        let limits_egress = self.egress.as_ref().is_some_and(|rules| !rules.is_empty());
        let types = match self.types.as_deref() {
            None | Some([]) if limits_egress => &["Ingress", "Egress"][..],
            None | Some([]) => &["Ingress"],
            Some(types) => types,
        };
        meant["spec"] = json!({ "podSelector": self.selector.json(), "policyTypes": types });
        let json = |text| serde_json::from_str::<Value>(text).expect("JSON");
        match fault {
            FaultOf::Rule(text) => {
                let mut rules = told["spec"]["ingress"].as_array().cloned().unwrap_or_default();
                rules.push(json(text));
                told["spec"]["ingress"] = rules.into();
            }
            FaultOf::Selector(text) => {
                told["spec"]["podSelector"] = json(text);
                meant["spec"]["podSelector"] = json!({});
            }
        }
        Policy { told, meant: object(meant) }
    }

    fn json(&self, name: &str) -> Value {
        let rules = |rules: &Option<Vec<RuleOf>>, peers: &str| {
            rules.as_ref().map(|rules| rules.iter().map(|rule| rule.json(peers)).collect::<Vec<_>>())
        };
        let spec = json!({
            "podSelector": self.selector.json(),
            "policyTypes": self.types,
            "ingress": rules(&self.ingress, "from"),
            "egress": rules(&self.egress, "to"),
        });
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": { "namespace": NAMESPACES[self.namespace], "name": name },
            "spec": without_null(spec),
        })
    }
}

impl RuleOf {
    fn json(&self, peers: &str) -> Value {
        let list = self.peers.as_ref().map(|peers| peers.iter().map(PeerOf::json).collect::<Vec<_>>());
        let ports = self.ports.as_ref().map(|ports| ports.iter().map(PolicyPortOf::json).collect::<Vec<_>>());
        without_null(json!({ peers: list, "ports": ports }))
    }
}

impl PeerOf {
    fn json(&self) -> Value {
        match self {
            PeerOf::Pods(pods) => json!({ "podSelector": pods.json() }),
            PeerOf::Namespaces(namespaces) => json!({ "namespaceSelector": namespaces.json() }),
            PeerOf::Both { namespaces, pods } => {
                json!({ "namespaceSelector": namespaces.json(), "podSelector": pods.json() })
            }
            PeerOf::Block(Block { cidr, except }) if except.is_empty() => {
                json!({ "ipBlock": { "cidr": cidr } })
            }
            PeerOf::Block(Block { cidr, except }) => json!({ "ipBlock": { "cidr": cidr, "except": except } }),
        }
    }
}

impl Selector {
    fn json(&self) -> Value {
        let mut selector = json!({});
        if !self.labels.0.is_empty() {
            selector["matchLabels"] = self.labels.json();
        }
        if !self.expressions.is_empty() {
            let expressions = self.expressions.iter().map(|(key, operator, values)| match &values[..] {
                [] => json!({ "key": key, "operator": operator }),
                values => json!({ "key": key, "operator": operator, "values": values }),
            });
            selector["matchExpressions"] = expressions.collect();
        }
        selector
    }
}

impl PolicyPortOf {
    fn json(&self) -> Value {
        let (port, end_port) = match self.port {
            Wanted::All => (Value::Null, None),
            Wanted::Number(number) => (json!(number), None),
            Wanted::Range(first, last) => (json!(first), Some(last)),
            Wanted::Named(name) => (json!(name), None),
        };
        without_null(json!({ "protocol": self.protocol, "port": port, "endPort": end_port }))
    }
}

/// Absent fields are absent, as the API server writes them.
fn without_null(mut value: Value) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.retain(|_, value| !value.is_null());
    }
    value
}

// What a failure prints is read by people.
impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.json())
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.json())
    }
}
