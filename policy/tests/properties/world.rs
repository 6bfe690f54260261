//! A cluster and what happens to it, in a form that shrinks well. Pods and policies take a slot each; what happens fills,
//! changes and empties slots.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::addresses::{of_externals, of_nodes, v4_of_pod, v6_of_pod};
use crate::support::cluster::{Cluster, Policy};

pub const NAMESPACES: [&str; 2] = ["a", "b"];
pub const NODES: [&str; 2] = ["n1", "n2"];

/// The state of a cluster.
#[derive(Debug, Clone)]
pub struct World {
    /// `None`: its object is still to be told, or is gone before its pods.
    pub namespaces: Vec<Option<Labels>>,
    pub pods: Vec<Option<PodOf>>,
    pub policies: Vec<Option<PolicyOf>>,
}

/// What happens to it.
#[derive(Debug, Clone)]
pub enum Event {
    Namespace(usize, Option<Labels>),
    Pod(usize, Option<PodOf>),
    Relabel(usize, Labels),
    State(usize, State),
    Ports(usize, Vec<PortOf>),
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
pub struct Labels(pub BTreeMap<&'static str, &'static str>);

#[derive(Debug, Clone)]
pub struct PodOf {
    pub namespace: usize,
    pub node: usize,
    pub labels: Labels,
    pub state: State,
    /// Its last four bits in each family.
    pub addresses: (Option<u8>, Option<u8>),
    pub ports: Vec<PortOf>,
    /// Seconds after some time.
    pub created: u8,
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
pub struct PortOf {
    pub name: &'static str,
    pub protocol: Option<&'static str>,
    pub number: u16,
    pub container: Container,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Container {
    First,
    Second,
    /// Begins before the others and ends before them: nothing listens there later.
    Init,
    /// Begins before the others and goes on.
    Sidecar,
}

#[derive(Debug, Clone)]
pub struct PolicyOf {
    pub namespace: usize,
    pub selector: Selector,
    pub types: Option<Vec<&'static str>>,
    pub ingress: Option<Vec<RuleOf>>,
    pub egress: Option<Vec<RuleOf>>,
    pub fault: Option<FaultOf>,
}

/// Something that the API server would refuse.
#[derive(Debug, Clone, Copy)]
pub enum FaultOf {
    /// One more ingress rule.
    Rule(&'static str),
    /// Another `podSelector`: it is not known what the policy selects.
    Selector(&'static str),
}

#[derive(Debug, Clone)]
pub struct RuleOf {
    pub peers: Option<Vec<PeerOf>>,
    pub ports: Option<Vec<PolicyPortOf>>,
}

#[derive(Debug, Clone)]
pub enum PeerOf {
    Pods(Selector),
    Namespaces(Selector),
    Both { namespaces: Selector, pods: Selector },
    Block(Block),
}

#[derive(Clone)]
pub struct Selector {
    pub labels: Labels,
    pub expressions: Vec<(&'static str, &'static str, Vec<&'static str>)>,
}

/// CIDRs.
#[derive(Debug, Clone)]
pub struct Block {
    pub cidr: String,
    pub except: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct PolicyPortOf {
    pub protocol: Option<&'static str>,
    pub port: Wanted,
}

#[derive(Debug, Clone)]
pub enum Wanted {
    All,
    Number(u16),
    Range(u16, u16),
    Named(&'static str),
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
            Event::Ports(slot, ports) => {
                if let Some(pod) = &mut self.pods[slot] {
                    pod.ports = ports;
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
            let Some(labels) = labels else { continue };
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
