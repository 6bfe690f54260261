//! Who may reach whom, by the reference of networking.k8s.io/v1 and core/v1 alone: slow, plain, and sharing nothing with
//! the compiler but the Kubernetes objects. What is quoted is the text of the API's types.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Namespace, Pod};
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::cluster::{Cluster, name_of, node_of};

/// One end of a connection.
#[derive(Debug, Clone, Copy)]
pub enum End<'a> {
    /// A pod with a network of its own.
    Pod(&'a Pod),
    /// A node, or a pod that uses its network.
    Node(&'a str),
    /// Whatever is outside the cluster.
    Outside,
}

/// The first packet of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Connection<'a> {
    pub source: End<'a>,
    pub source_address: IpAddr,
    pub destination: End<'a>,
    pub destination_address: IpAddr,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: &'a str,
    /// Of the destination.
    pub port: u16,
}

/// What one side says of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Allowed,
    Denied,
    /// From a pod to its own node: "traffic to and from the node where a Pod is running is always allowed" (the page on
    /// network policies), of which the API knows only one half.
    Open,
}

impl Answer {
    fn when(allowed: bool) -> Answer {
        if allowed { Answer::Allowed } else { Answer::Denied }
    }

    /// What both sides say together.
    pub fn and(self, other: Answer) -> Answer {
        match (self, other) {
            (Answer::Denied, _) | (_, Answer::Denied) => Answer::Denied,
            (Answer::Open, _) | (_, Answer::Open) => Answer::Open,
            _ => Answer::Allowed,
        }
    }
}

/// What the source's side says.
pub fn may_send(cluster: &Cluster, connection: &Connection) -> Answer {
    let End::Pod(pod) = connection.source else { return Answer::Allowed };
    if is_to_itself(connection) {
        return Answer::Allowed;
    }
    if matches!(connection.destination, End::Node(node) if node == node_of(pod)) {
        return Answer::Open;
    }
    let isolating: Vec<_> = policies_of(cluster, pod).filter(|(_, spec)| limits_egress(spec)).collect();
    let mut rules = isolating.iter().flat_map(|(namespace, spec)| {
        spec.egress.iter().flatten().map(move |rule| (namespace, rule.to.as_deref(), rule.ports.as_deref()))
    });
    let (peer, address) = (connection.destination, connection.destination_address);
    Answer::when(
        isolating.is_empty()
            || rules.any(|(namespace, to, ports)| {
                matches_peers(cluster, namespace, to, peer, address) && matches_ports(ports, connection)
            }),
    )
}

/// What the destination's side says.
pub fn may_receive(cluster: &Cluster, connection: &Connection) -> Answer {
    let End::Pod(pod) = connection.destination else { return Answer::Allowed };
    // "OR if the traffic source is the pod's local node"
    if is_to_itself(connection) || matches!(connection.source, End::Node(node) if node == node_of(pod)) {
        return Answer::Allowed;
    }
    let isolating: Vec<_> = policies_of(cluster, pod).filter(|(_, spec)| limits_ingress(spec)).collect();
    let mut rules = isolating.iter().flat_map(|(namespace, spec)| {
        spec.ingress
            .iter()
            .flatten()
            .map(move |rule| (namespace, rule.from.as_deref(), rule.ports.as_deref()))
    });
    let (peer, address) = (connection.source, connection.source_address);
    Answer::when(
        isolating.is_empty()
            || rules.any(|(namespace, from, ports)| {
                matches_peers(cluster, namespace, from, peer, address) && matches_ports(ports, connection)
            }),
    )
}

/// "A Pod cannot block access to itself" (the page on network policies).
fn is_to_itself(connection: &Connection) -> bool {
    let (End::Pod(source), End::Pod(destination)) = (connection.source, connection.destination) else {
        return false;
    };
    name_of(&source.metadata) == name_of(&destination.metadata)
}

// --- policies -----------------------------------------------------------------------------------------------------

/// Policies that select the pod, each with its namespace.
fn policies_of<'a>(
    cluster: &'a Cluster,
    pod: &'a Pod,
) -> impl Iterator<Item = (&'a str, &'a NetworkPolicySpec)> {
    cluster.policies.values().map(|policy| &policy.meant).filter_map(|policy: &NetworkPolicy| {
        let spec = policy.spec.as_ref()?;
        // "An empty podSelector matches all pods in this namespace."
        let selects = match &spec.pod_selector {
            Some(selector) => matches_labels(selector, pod.metadata.labels.as_ref()),
            None => true,
        };
        let namespace = policy.metadata.namespace.as_deref()?;
        (selects && pod.metadata.namespace.as_deref() == Some(namespace)).then_some((namespace, spec))
    })
}

/// "If this field is not specified, … all policies (whether or not they contain an ingress section) are assumed to affect
/// ingress."
fn limits_ingress(spec: &NetworkPolicySpec) -> bool {
    match spec.policy_types.as_deref() {
        None | Some([]) => true,
        Some(types) => types.iter().any(|kind| kind == "Ingress"),
    }
}

/// "If this field is not specified, … policies that contain an egress section are assumed to affect egress". An empty list
/// is none: the API server forgets it (`omitempty`).
fn limits_egress(spec: &NetworkPolicySpec) -> bool {
    match spec.policy_types.as_deref() {
        None | Some([]) => spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
        Some(types) => types.iter().any(|kind| kind == "Egress"),
    }
}

// --- peers --------------------------------------------------------------------------------------------------------

/// "Items in this list are combined using a logical OR operation. If this field is empty or missing, this rule matches
/// all".
fn matches_peers(
    cluster: &Cluster,
    policy_namespace: &str,
    peers: Option<&[NetworkPolicyPeer]>,
    end: End,
    address: IpAddr,
) -> bool {
    match peers {
        None | Some([]) => true,
        Some(peers) => peers.iter().any(|peer| matches_peer(cluster, policy_namespace, peer, end, address)),
    }
}

fn matches_peer(
    cluster: &Cluster,
    policy_namespace: &str,
    peer: &NetworkPolicyPeer,
    end: End,
    address: IpAddr,
) -> bool {
    // "If this field is set then neither of the other fields can be."
    if let Some(block) = &peer.ip_block {
        return matches_block(block, address);
    }
    let End::Pod(pod) = end else { return false };
    let pod_namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let in_namespace = match &peer.namespace_selector {
        // "Otherwise it selects the pods matching podSelector in the policy's own namespace."
        None => pod_namespace == policy_namespace,
        // Of a namespace that is still to be told nobody knows whether it is selected.
        Some(selector) => cluster.namespaces.get(pod_namespace).is_some_and(|namespace: &Namespace| {
            matches_labels(selector, namespace.metadata.labels.as_ref())
        }),
    };
    // "Otherwise it selects all pods in the namespaces selected by namespaceSelector."
    let in_pods = match &peer.pod_selector {
        None => peer.namespace_selector.is_some(),
        Some(selector) => matches_labels(selector, pod.metadata.labels.as_ref()),
    };
    in_namespace && in_pods
}

/// "except is a slice of CIDRs that should not be included within an IPBlock"
fn matches_block(block: &IPBlock, address: IpAddr) -> bool {
    contains(&block.cidr, address) && !block.except.iter().flatten().any(|except| contains(except, address))
}

fn contains(cidr: &str, address: IpAddr) -> bool {
    let (network, length) = cidr.split_once('/').expect("a CIDR in a test");
    let network: IpAddr = network.parse().expect("a CIDR in a test");
    let length: u32 = length.parse().expect("a CIDR in a test");
    let (network, address, bits) = match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (network.to_bits().into(), address.to_bits().into(), 32)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => (network.to_bits(), address.to_bits(), 128),
        _ => return false,
    };
    let first_bits = |of: u128| of.checked_shr(bits - length).unwrap_or(0);
    first_bits(network) == first_bits(address)
}

/// "The result of matchLabels and matchExpressions are ANDed. An empty label selector matches all objects."
fn matches_labels(
    selector: &LabelSelector,
    labels: Option<&std::collections::BTreeMap<String, String>>,
) -> bool {
    let value_of = |key: &String| labels.and_then(|labels| labels.get(key));
    let mut pairs = selector.match_labels.iter().flatten();
    let mut expressions = selector.match_expressions.iter().flatten();
    pairs.all(|(key, value)| value_of(key) == Some(value))
        && expressions.all(|requirement| {
            let value = value_of(&requirement.key);
            let is_listed =
                value.is_some_and(|value| requirement.values.iter().flatten().any(|listed| listed == value));
            match requirement.operator.as_str() {
                "In" => is_listed,
                "NotIn" => !is_listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                other => panic!("operator {other} in a test"),
            }
        })
}

// --- ports --------------------------------------------------------------------------------------------------------

/// "If this field is empty or missing, this rule matches all ports (traffic not restricted by port)."
fn matches_ports(ports: Option<&[NetworkPolicyPort]>, connection: &Connection) -> bool {
    match ports {
        None | Some([]) => true,
        Some(ports) => ports.iter().any(|port| matches_port(port, connection)),
    }
}

fn matches_port(port: &NetworkPolicyPort, connection: &Connection) -> bool {
    // "If not specified, this field defaults to TCP."
    if port.protocol.as_deref().unwrap_or("TCP") != connection.protocol {
        return false;
    }
    let wanted = i32::from(connection.port);
    match &port.port {
        // "If this field is not provided, this matches all port names and numbers."
        None => true,
        // "the range of ports from port to endPort if set, inclusive"
        Some(IntOrString::Int(first)) => (*first..=port.end_port.unwrap_or(*first)).contains(&wanted),
        // "a numerical or named port on a pod": the one that the connection goes to.
        Some(IntOrString::String(name)) => match connection.destination {
            End::Pod(pod) => has_named_port(pod, name, connection.protocol, wanted),
            End::Node(_) | End::Outside => false,
        },
    }
}

/// Of its containers, and of init containers that go on running beside them (`restartPolicy: Always`).
fn has_named_port(pod: &Pod, name: &str, protocol: &str, number: i32) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let goes_on = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let beside = spec.init_containers.iter().flatten().filter(goes_on);
    spec.containers.iter().chain(beside).flat_map(|container| container.ports.iter().flatten()).any(|port| {
        port.name.as_deref() == Some(name)
            && port.protocol.as_deref().unwrap_or("TCP") == protocol
            && port.container_port == number
    })
}
