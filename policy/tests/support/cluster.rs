//! A cluster as Kubernetes objects: made from a case or at random.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

use super::case::{Family, PodOfCase, Step};
use super::evaluator::End;

/// Namespace and name.
pub type Name = (String, String);

/// All there is at one time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cluster {
    pub nodes: BTreeMap<String, Vec<IpAddr>>,
    pub externals: BTreeMap<String, Vec<IpAddr>>,
    pub namespaces: BTreeMap<String, Namespace>,
    /// With their addresses.
    pub pods: BTreeMap<Name, Pod>,
    /// Pods that are wired, and whose status does not tell their addresses yet: only their node knows them.
    pub unreported: BTreeSet<Name>,
    pub policies: BTreeMap<Name, Policy>,
}

/// A policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// As the API server tells it.
    pub told: Value,
    /// What it means.
    pub meant: NetworkPolicy,
}

impl Cluster {
    /// Of a case. Nodes that only pods name are nodes without addresses.
    pub fn of(step: &Step) -> Cluster {
        let mut cluster = Cluster::default();
        for pod in &step.pods {
            cluster.nodes.entry(node_of_case(pod).to_owned()).or_default();
            let replaced = cluster.pods.insert((pod.namespace.clone(), pod.name.clone()), pod_object(pod));
            assert!(replaced.is_none(), "two pods {}/{}", pod.namespace, pod.name);
        }
        for node in &step.nodes {
            cluster.nodes.insert(node.name.clone(), node.ips.clone());
        }
        for external in &step.externals {
            cluster.externals.insert(external.name.clone(), external.ips.clone());
        }
        for namespace in &step.namespaces {
            let metadata = json!({ "metadata": namespace });
            let namespace: Namespace = serde_json::from_value(metadata).expect("a namespace");
            cluster.namespaces.insert(namespace.metadata.name.clone().expect("its name"), namespace);
        }
        for policy in &step.policies {
            let meant: NetworkPolicy = serde_json::from_value(policy.clone()).expect("a policy");
            let name = name_of(&meant.metadata);
            let policy = Policy { told: policy.clone(), meant };
            assert!(cluster.policies.insert(name, policy).is_none(), "two policies of one name");
        }
        cluster
    }

    /// The pods as the API server tells them.
    pub fn told_pods(&self) -> BTreeMap<Name, Pod> {
        let mut pods = self.pods.clone();
        for name in &self.unreported {
            if let Some(status) = pods.get_mut(name).and_then(|pod| pod.status.as_mut()) {
                (status.pod_ip, status.pod_ips) = (None, None);
            }
        }
        pods
    }

    /// What a row or column of a table stands for, and its address, if it has one of the family. A pod that has ended has
    /// none.
    ///
    /// # Panics
    /// If it stands for nothing.
    pub fn end<'a>(&'a self, named: &'a str, family: Family) -> Option<(End<'a>, IpAddr)> {
        if let Some(node) = named.strip_prefix("node:") {
            let addresses = self.nodes.get(node).unwrap_or_else(|| panic!("no node {node}"));
            return Some((End::Node(node), family.pick(addresses)?));
        }
        if named.starts_with("ext:") {
            let addresses = self.externals.get(named).unwrap_or_else(|| panic!("nothing is called {named}"));
            return Some((End::Outside, family.pick(addresses)?));
        }
        let (namespace, name) =
            named.split_once('/').unwrap_or_else(|| panic!("{named:?} stands for nothing"));
        let pod = self
            .pods
            .get(&(namespace.to_owned(), name.to_owned()))
            .unwrap_or_else(|| panic!("no pod {named}"));
        if is_finished(pod) {
            return None;
        }
        let end = if is_on_host_network(pod) { End::Node(node_of(pod)) } else { End::Pod(pod) };
        Some((end, family.pick(&addresses_of(pod))?))
    }
}

fn node_of_case(pod: &PodOfCase) -> &str {
    pod.node.as_deref().filter(|node| !node.is_empty()).unwrap_or("the-only-node")
}

fn pod_object(pod: &PodOfCase) -> Pod {
    let ips: Vec<Value> = pod.ips.iter().map(|ip| json!({ "ip": ip })).collect();
    let object = json!({
        "metadata": {
            "namespace": pod.namespace,
            "name": pod.name,
            "labels": pod.labels,
            "deletionTimestamp": pod.deletion_timestamp,
        },
        "spec": {
            "nodeName": node_of_case(pod),
            "hostNetwork": pod.host_network,
            "containers": [{ "name": "main", "ports": pod.ports }],
        },
        "status": { "phase": pod.phase, "podIP": pod.ips.first(), "podIPs": ips },
    });
    serde_json::from_value(object)
        .unwrap_or_else(|error| panic!("pod {}/{}: {error}", pod.namespace, pod.name))
}

/// Namespace and name of an object.
pub fn name_of(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Name {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// The node that a pod runs on.
pub fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

/// All addresses of a pod.
pub fn addresses_of(pod: &Pod) -> Vec<IpAddr> {
    let ips = pod.status.iter().flat_map(|status| status.pod_ips.iter().flatten());
    ips.map(|ip| ip.ip.parse().expect("an address in a test")).collect()
}

/// It uses its node's network.
pub fn is_on_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
}

/// Its containers have ended for good.
pub fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}
