//! Services and EndpointSlices, of which only what a node announces is kept: addresses, whose they are, and at which
//! nodes somebody answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cambric_policy::atoms;
use cambric_policy::labels::Labels;
use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1 as discovery;
use serde::{Deserialize, Serialize};

/// The label that says of which Service an EndpointSlice is.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What counts of a Service. Addresses are texts, each with the field it is from: who uses one judges it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    /// For selectors.
    pub labels: Labels,
    /// `spec.clusterIPs`; none of a headless one.
    pub cluster_addresses: Vec<(String, String)>,
    /// `spec.externalIPs`
    pub external_addresses: Vec<(String, String)>,
    /// `status.loadBalancer.ingress[].ip`, but for those that a proxy answers at (`ipMode: Proxy`): no node does.
    pub balancer_addresses: Vec<(String, String)>,
    /// Who answers at cluster addresses.
    pub internal_policy: TrafficPolicy,
    /// Who answers at all others.
    pub external_policy: TrafficPolicy,
}

/// Whose endpoints a node uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrafficPolicy {
    /// Those of all nodes.
    #[default]
    Cluster,
    /// Its own, or none.
    Local,
}

/// What counts of an EndpointSlice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Plain", into = "Plain")]
pub struct EndpointSlice {
    /// Name of the Service, in the same namespace; empty: of none.
    pub service: Arc<str>,
    /// What its endpoints are addressed by.
    pub address_type: AddressType,
    /// Nodes with an endpoint that is ready and serves; in order.
    pub nodes: Vec<Arc<str>>,
}

/// What the endpoints of an EndpointSlice are addressed by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AddressType {
    /// Written down by a version that did not ask, and not shown since.
    #[default]
    Unsaid,
    /// Addresses of IPv4.
    Ipv4,
    /// Addresses of IPv6.
    Ipv6,
    /// Names, or what is to come: no address of a service leads there.
    Other,
}

impl AddressType {
    fn named(name: &str) -> AddressType {
        match name {
            "" => AddressType::Unsaid,
            "IPv4" => AddressType::Ipv4,
            "IPv6" => AddressType::Ipv6,
            _ => AddressType::Other,
        }
    }

    fn name(self) -> &'static str {
        match self {
            AddressType::Unsaid => "",
            AddressType::Ipv4 => "IPv4",
            AddressType::Ipv6 => "IPv6",
            AddressType::Other => "FQDN",
        }
    }
}

impl Service {
    /// Takes from an object what counts.
    pub fn read(service: &v1::Service) -> Service {
        let mut found =
            Service { labels: Labels::new(service.metadata.labels.as_ref()), ..Service::default() };
        if let Some(spec) = &service.spec {
            let listed = spec.cluster_ips.iter().flatten().enumerate();
            let listed = listed.map(|(at, text)| (format!("spec.clusterIPs[{at}]"), text.clone()));
            let single = spec.cluster_ip.iter().map(|text| ("spec.clusterIP".to_owned(), text.clone()));
            found.cluster_addresses = listed.collect();
            if found.cluster_addresses.is_empty() {
                found.cluster_addresses = single.collect();
            }
            found.cluster_addresses.retain(|(_, text)| text != "None" && !text.is_empty());
            let external = spec.external_ips.iter().flatten().enumerate();
            found.external_addresses =
                external.map(|(at, text)| (format!("spec.externalIPs[{at}]"), text.clone())).collect();
            found.internal_policy = TrafficPolicy::named(spec.internal_traffic_policy.as_deref());
            found.external_policy = TrafficPolicy::named(spec.external_traffic_policy.as_deref());
        }
        let balancer = service.status.iter().filter_map(|status| status.load_balancer.as_ref());
        let ingress = balancer.flat_map(|balancer| balancer.ingress.iter().flatten()).enumerate();
        let is_of_node = |entry: &v1::LoadBalancerIngress| entry.ip_mode.as_deref() != Some("Proxy");
        found.balancer_addresses = ingress
            .filter(|(_, entry)| is_of_node(entry))
            .filter_map(|(at, entry)| {
                Some((format!("status.loadBalancer.ingress[{at}].ip"), entry.ip.clone()?))
            })
            .collect();
        found
    }
}

/// As it is written down; names of nodes are in many slices, and each is kept once.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Plain {
    service: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    address_type: String,
    nodes: Vec<String>,
}

impl From<Plain> for EndpointSlice {
    fn from(Plain { service, address_type, nodes }: Plain) -> EndpointSlice {
        let nodes: BTreeSet<&str> = nodes.iter().map(String::as_str).collect();
        EndpointSlice {
            service: atoms::text(&service),
            address_type: AddressType::named(&address_type),
            nodes: nodes.into_iter().map(atoms::text).collect(),
        }
    }
}

impl From<EndpointSlice> for Plain {
    fn from(slice: EndpointSlice) -> Plain {
        Plain {
            service: slice.service.to_string(),
            address_type: slice.address_type.name().to_owned(),
            nodes: slice.nodes.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TrafficPolicy {
    fn named(name: Option<&str>) -> TrafficPolicy {
        if name == Some("Local") { TrafficPolicy::Local } else { TrafficPolicy::Cluster }
    }
}

impl EndpointSlice {
    /// Takes from an object what counts. What is absent of an endpoint's conditions is true (Kubernetes API,
    /// EndpointConditions).
    pub fn read(slice: &discovery::EndpointSlice) -> EndpointSlice {
        let service =
            slice.metadata.labels.as_ref().and_then(|labels: &BTreeMap<_, _>| labels.get(SERVICE_NAME));
        let answers = |endpoint: &&discovery::Endpoint| {
            let conditions = endpoint.conditions.as_ref();
            let is = |named: fn(&discovery::EndpointConditions) -> Option<bool>| {
                conditions.and_then(named).unwrap_or(true)
            };
            is(|conditions| conditions.ready) && is(|conditions| conditions.serving)
        };
        let nodes =
            slice.endpoints.iter().filter(answers).filter_map(|endpoint| endpoint.node_name.as_deref());
        let nodes: BTreeSet<&str> = nodes.collect();
        EndpointSlice {
            service: atoms::text(service.map(String::as_str).unwrap_or_default()),
            address_type: AddressType::named(&slice.address_type),
            nodes: nodes.into_iter().map(atoms::text).collect(),
        }
    }

    /// Whether somebody answers at this node.
    pub fn answers_at(&self, node: &str) -> bool {
        self.nodes.binary_search_by(|own| (**own).cmp(node)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(object: Value) -> Service {
        Service::read(&serde_json::from_value(object).expect("a Service"))
    }

    fn texts(addresses: &[(String, String)]) -> Vec<&str> {
        addresses.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn a_service_keeps_its_addresses_and_who_answers_there() {
        let all = service(json!({
            "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00:96::10"],
                "externalIPs": ["203.0.113.7"], "externalTrafficPolicy": "Local",
                "internalTrafficPolicy": "Cluster"},
            "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}, {"hostname": "lb.example"},
                {"ip": "198.51.100.2", "ipMode": "Proxy"}, {"ip": "198.51.100.3", "ipMode": "VIP"}]}},
        }));
        assert_eq!(texts(&all.cluster_addresses), ["10.96.0.10", "fd00:96::10"]);
        assert_eq!(texts(&all.external_addresses), ["203.0.113.7"]);
        assert_eq!(texts(&all.balancer_addresses), ["198.51.100.1", "198.51.100.3"]);
        assert_eq!(all.balancer_addresses[1].0, "status.loadBalancer.ingress[3].ip");
        assert_eq!(
            (all.external_policy, all.internal_policy),
            (TrafficPolicy::Local, TrafficPolicy::Cluster)
        );
        assert_eq!(all.labels.get("app"), Some("web"));
        let headless =
            service(json!({"metadata": {}, "spec": {"clusterIP": "None", "clusterIPs": ["None"]}}));
        assert_eq!(headless, Service::default());
        let old = service(json!({"metadata": {}, "spec": {"clusterIP": "10.96.0.1"}}));
        assert_eq!(texts(&old.cluster_addresses), ["10.96.0.1"]);
    }

    #[test]
    fn an_endpoint_that_says_nothing_answers_and_one_that_stops_does_not() {
        let slice = json!({
            "metadata": {"name": "web-1", "labels": {SERVICE_NAME: "web"}}, "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["10.1.0.1"], "nodeName": "n2"},
                {"addresses": ["10.1.0.2"], "nodeName": "n1", "conditions": {"ready": true, "serving": true}},
                {"addresses": ["10.1.0.3"], "nodeName": "n1", "conditions": {"ready": true}},
                {"addresses": ["10.1.0.4"], "nodeName": "n3", "conditions": {"ready": false, "serving": true, "terminating": true}},
                {"addresses": ["10.1.0.5"], "nodeName": "n4", "conditions": {"ready": true, "serving": false}},
                {"addresses": ["10.1.0.6"]},
            ],
        });
        let slice = EndpointSlice::read(&serde_json::from_value(slice).expect("an EndpointSlice"));
        assert_eq!((&*slice.service, slice.address_type, slice.nodes.len()), ("web", AddressType::Ipv4, 2));
        let answers: Vec<bool> = ["n1", "n2", "n3", "n4", "n5"].map(|node| slice.answers_at(node)).to_vec();
        assert_eq!(answers, [true, true, false, false, false]);
    }

    #[test]
    fn a_slice_is_written_down_with_its_family_and_one_of_an_earlier_version_is_read() {
        let slice = |address_type| EndpointSlice {
            service: atoms::text("web"),
            address_type,
            nodes: vec![atoms::text("n1")],
        };
        let of = [AddressType::Ipv4, AddressType::Ipv6, AddressType::Other, AddressType::Unsaid];
        for slice in of.map(slice) {
            let written = serde_json::to_value(slice.clone()).expect("plain");
            assert_eq!(serde_json::from_value::<EndpointSlice>(written).expect("its own"), slice);
        }
        let earlier = json!({"service": "web", "nodes": ["n1"]});
        let read = serde_json::from_value::<EndpointSlice>(earlier).expect("as it was written");
        assert_eq!(read, slice(AddressType::Unsaid));
    }
}
