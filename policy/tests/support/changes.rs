//! What the nodes are told when a cluster changes, in one order or another.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use cambric_policy::change::{Change, Endpoint, Key, PolicyObject};
use cambric_policy::pod;
use cambric_policy::policy::decode;
use cambric_policy::program::IfName;

use super::cluster::{
    Cluster, Name, Policy, addresses_of, is_finished, is_on_host_network, name_of, node_of,
};
use k8s_openapi::api::core::v1::Pod;

/// A change, and who is told.
#[derive(Debug, Clone)]
pub struct Told {
    /// `None`: every node.
    pub node: Option<String>,
    pub change: Change,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Added,
    Modified,
    Deleted,
}

/// Kubernetes promises no order between objects of different kinds, nor between two objects of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// A new pod is told before the one that had its address is gone.
    AddsFirst,
    DeletesFirst,
    Shuffled(u64),
}

/// What leads from one state to the next.
pub fn changes(from: &Cluster, to: &Cluster, order: Order) -> Vec<Told> {
    let everywhere = |change, kind| Told { node: None, change, kind };
    let mut told = Vec::new();
    for (name, namespace, kind) in differences(&from.namespaces, &to.namespaces) {
        told.push(everywhere(Change::Namespace(name.as_str().into(), namespace.map(Arc::new)), kind));
    }
    for (name, pod, kind) in differences(&from.told_pods(), &to.told_pods()) {
        told.push(everywhere(Change::Pod(key(&name), pod.map(|pod| Arc::new(pod::Pod::read(&pod)))), kind));
    }
    for (name, policy, kind) in differences(&from.policies, &to.policies) {
        let object = policy.map(|policy| Arc::new(policy_object(&policy)));
        told.push(everywhere(Change::Policy(key(&name), object), kind));
    }
    for ((node, veth), endpoint, kind) in differences(&endpoints(from), &endpoints(to)) {
        let change = Change::Endpoint(veth.as_str().into(), endpoint);
        told.push(Told { node: Some(node), change, kind });
    }
    put_in_order(&mut told, order);
    told
}

fn put_in_order(told: &mut [Told], order: Order) {
    match order {
        Order::AddsFirst => told.sort_by_key(|told| told.kind == Kind::Deleted),
        Order::DeletesFirst => told.sort_by_key(|told| told.kind != Kind::Deleted),
        Order::Shuffled(seed) => {
            let mut nth = 0_u64;
            told.sort_by_cached_key(|_| {
                nth += 1;
                hash(&(seed, nth))
            });
        }
    }
}

/// What differs, and the new value, if there is one.
fn differences<K: Ord + Clone, V: PartialEq + Clone>(
    from: &BTreeMap<K, V>,
    to: &BTreeMap<K, V>,
) -> Vec<(K, Option<V>, Kind)> {
    let gone = from.keys().filter(|key| !to.contains_key(*key)).map(|key| (key.clone(), None, Kind::Deleted));
    let new = to.iter().filter(|(key, value)| from.get(*key) != Some(*value)).map(|(key, value)| {
        let kind = if from.contains_key(key) { Kind::Modified } else { Kind::Added };
        (key.clone(), Some(value.clone()), kind)
    });
    gone.chain(new).collect()
}

/// The pods that are wired, by node and veth: those that run and have a network of their own.
pub fn endpoints(cluster: &Cluster) -> BTreeMap<(String, String), Endpoint> {
    let wired = cluster.pods.values().filter_map(|pod| {
        let endpoint = Endpoint {
            pod: Some(key(&name_of(&pod.metadata)).into()),
            addresses: addresses_of(pod).into_iter().collect(),
        };
        Some(((node_of(pod).to_owned(), veth_of(pod)?.to_string()), endpoint))
    });
    wired.collect()
}

/// The host end of a pod's veth. A pod that comes back with other addresses was made anew, and has another one.
pub fn veth_of(pod: &Pod) -> Option<IfName> {
    let addresses = pod.status.as_ref().and_then(|status| status.pod_ips.as_deref()).unwrap_or_default();
    if addresses.is_empty() || is_on_host_network(pod) || is_finished(pod) {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    (&pod.metadata.namespace, &pod.metadata.name, node_of(pod)).hash(&mut hasher);
    addresses.iter().for_each(|address| address.ip.hash(&mut hasher));
    Some(format!("cam{:012x}", hasher.finish() >> 16).into())
}

fn key((namespace, name): &Name) -> Key {
    Key::new(namespace, name)
}

fn policy_object(policy: &Policy) -> PolicyObject {
    decode(&policy.told).expect("policies of a test have names").1
}

fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
