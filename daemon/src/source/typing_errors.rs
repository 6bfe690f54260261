//! What serde passes over in silence, and nobody writes on purpose: a kind in the wrong group or spelling, a key
//! that Kubernetes does not have, a merge key. Each would cost an object without a word.
//!
//! Kinds of ours are closed by their types; Kubernetes' Node, Pod and Service are not, since they grow. So only the parts
//! that people write are: the object itself, the spec of a Node and of a Service, and a Node's addresses. A NetworkPolicy is read strictly by
//! itself ([`network_policy`](super::network_policy)); here is only what says which one it is.

use serde_yaml_ng::Value;

use super::manifest::ENDPOINT_SLICES;
use super::network_policy;
use crate::kinds::{API_VERSION, GROUP};
use crate::objects::Kind;

/// Kinds of ours that this version serves.
const OURS: [&str; 3] = ["BGPClusterConfig", "BGPPeerConfig", "BGPNodeOverride"];
/// Those whose names others have, too, as Calico and MetalLB have.
const OF_OTHERS: [&str; 2] = ["BGPFilter", "BGPAdvertisement"];
/// The kind that nodes write and people read.
pub(super) const WRITTEN_BY_NODES: &str = "BGPSessionState";

/// Kubernetes v1.35, as of all kinds; <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/>
const OF_METADATA: &[&str] = &[
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];
const OF_OBJECT: &[&str] = &["apiVersion", "kind", "metadata", "spec", "status"];
const OF_SECRET: &[&str] = &["apiVersion", "data", "immutable", "kind", "metadata", "stringData", "type"];
const OF_SPEC: &[&str] =
    &["configSource", "externalID", "podCIDR", "podCIDRs", "providerID", "taints", "unschedulable"];
const OF_SERVICE: &[&str] = &[
    "allocateLoadBalancerNodePorts",
    "clusterIP",
    "clusterIPs",
    "externalIPs",
    "externalName",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "internalTrafficPolicy",
    "ipFamilies",
    "ipFamilyPolicy",
    "loadBalancerClass",
    "loadBalancerIP",
    "loadBalancerSourceRanges",
    "ports",
    "publishNotReadyAddresses",
    "selector",
    "sessionAffinity",
    "sessionAffinityConfig",
    "trafficDistribution",
    "type",
];
const OF_SLICE: &[&str] = &["addressType", "apiVersion", "endpoints", "kind", "metadata", "ports"];
const OF_ADDRESS: &[&str] = &["address", "type"];
const ADDRESS_TYPES: &[&str] = &["ExternalDNS", "ExternalIP", "Hostname", "InternalDNS", "InternalIP"];

/// What is wrong with the head of an object that seems to be meant for us.
pub(super) fn of_head(api_version: &str, kind: &str) -> Option<String> {
    let (group, is_core) = match api_version.split_once('/') {
        Some((group, _)) => (group, group == "core"),
        None => (api_version, true),
    };
    let is = |known: &str| kind.eq_ignore_ascii_case(known);
    for known in ["Node", "Pod", "Namespace", "Secret", "Service"] {
        if is_core && is(known) && (api_version, kind) != ("v1", known) {
            let thing = known.to_lowercase();
            return Some(format!(
                "apiVersion: {api_version:?}, kind: {kind:?}: a {thing} is a {known} of v1"
            ));
        }
    }
    // Calico, Antrea and others have kinds of this name.
    let of_kubernetes =
        is_core || ["extensions", "networking", "k8s.io"].iter().any(|part| group.contains(part));
    let right = (network_policy::API_VERSION, "NetworkPolicy");
    if is("NetworkPolicy") && of_kubernetes && (api_version, kind) != right {
        let what = format!("a policy is a NetworkPolicy of {}", network_policy::API_VERSION);
        return Some(format!("apiVersion: {api_version:?}, kind: {kind:?}: {what}"));
    }
    if is("EndpointSlice")
        && (is_core || group == "discovery.k8s.io")
        && (api_version, kind) != (ENDPOINT_SLICES, "EndpointSlice")
    {
        let what = format!("where a service answers says an EndpointSlice of {ENDPOINT_SLICES}");
        return Some(format!("apiVersion: {api_version:?}, kind: {kind:?}: {what}"));
    }
    let seems_ours = OURS.iter().any(|known| is(known))
        || (OF_OTHERS.iter().chain([&WRITTEN_BY_NODES]).any(|known| is(known))
            && (is_core || group.contains("cambric")));
    (seems_ours && group != GROUP).then(|| format!("apiVersion: {api_version:?}: {kind} is of {API_VERSION}"))
}

/// The first thing that is wrong with an object of ours, or of a `kind` of Kubernetes.
pub(super) fn of_object(kind: Option<Kind>, value: &Value) -> Option<String> {
    let merge_key = match kind {
        Some(Kind::NetworkPolicy) => None,
        Some(Kind::Pod) => merge_key_beside_status(value),
        _ => merge_key_in("", value),
    };
    if let Some(field) = merge_key {
        return Some(format!("{field}: merge keys are not served: write out what they stand for"));
    }
    unknown_key("metadata.", value.get("metadata"), OF_METADATA).or_else(|| match kind {
        Some(Kind::Node) => of_node(value),
        Some(Kind::Secret) => unknown_key("", Some(value), OF_SECRET),
        Some(Kind::Pod | Kind::Namespace) => unknown_key("", Some(value), OF_OBJECT),
        Some(Kind::Service) => unknown_key("", Some(value), OF_OBJECT)
            .or_else(|| unknown_key("spec.", value.get("spec"), OF_SERVICE)),
        Some(Kind::EndpointSlice) => unknown_key("", Some(value), OF_SLICE),
        _ => None,
    })
}

fn of_node(value: &Value) -> Option<String> {
    let addresses = value.get("status").and_then(|status| status.get("addresses")?.as_sequence());
    let of_address = |(at, entry): (usize, &Value)| {
        let field = format!("status.addresses[{at}].");
        unknown_key(&field, Some(entry), OF_ADDRESS).or_else(|| {
            let name = entry.get("type")?.as_str()?;
            let is_known = ADDRESS_TYPES.contains(&name);
            (!is_known)
                .then(|| format!("{field}type: {name:?}: expected one of {}", ADDRESS_TYPES.join(", ")))
        })
    };
    unknown_key("", Some(value), OF_OBJECT)
        .or_else(|| unknown_key("spec.", value.get("spec"), OF_SPEC))
        .or_else(|| addresses?.iter().enumerate().find_map(of_address))
}

fn unknown_key(path: &str, value: Option<&Value>, known: &[&str]) -> Option<String> {
    let mut keys = value?.as_mapping()?.keys().map(|key| key.as_str().unwrap_or("?"));
    let unknown = keys.find(|key| !known.contains(key))?;
    Some(format!("{path}{unknown}: unknown field `{unknown}`, expected one of {}", known.join(", ")))
}

/// People do not write the status of a Pod.
fn merge_key_beside_status(pod: &Value) -> Option<String> {
    let fields = pod.as_mapping()?.iter().filter(|(key, _)| key.as_str() != Some("status"));
    fields.into_iter().find_map(|(key, value)| {
        let key = key.as_str().unwrap_or("?");
        if key == "<<" { Some(key.to_owned()) } else { merge_key_in(key, value) }
    })
}

fn merge_key_in(path: &str, value: &Value) -> Option<String> {
    match value {
        Value::Sequence(items) => {
            items.iter().enumerate().find_map(|(at, item)| merge_key_in(&format!("{path}[{at}]"), item))
        }
        Value::Mapping(fields) => fields.iter().find_map(|(key, value)| {
            let key = key.as_str().unwrap_or("?");
            let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            if key == "<<" { Some(path) } else { merge_key_in(&path, value) }
        }),
        _ => None,
    }
}
