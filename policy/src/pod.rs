//! What policy needs to know of a Pod object.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod as PodObject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::policy::PortName;
use crate::policy::protocol;
use crate::selector::Labels;

/// A pod, as its object tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pod {
    /// Tells it from another of the same name, before or after it.
    pub(crate) uid: String,
    pub(crate) created: Option<Time>,
    /// Where it runs; `None`: that is not known.
    pub(crate) node: Option<String>,
    pub(crate) labels: Labels,
    /// Of both families; for a pod on the host's network those of the node.
    pub(crate) addresses: BTreeSet<IpAddr>,
    /// Names of ports and their numbers. Two containers may give a name two numbers: then it is both.
    pub(crate) ports: BTreeSet<(PortName, u16)>,
    pub(crate) life: Life,
}

/// Whether a pod is one that policy knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Life {
    /// It has its own addresses, or will have.
    #[default]
    OwnNetwork,
    /// It is the node, as far as policy is concerned.
    HostNetwork,
    /// Its containers have ended for good, and its addresses are another's, whatever its status still says.
    Finished,
}

impl Pod {
    pub(crate) fn read(object: &PodObject) -> Pod {
        let status = object.status.as_ref();
        let is_finished =
            matches!(status.and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"));
        let is_on_host = object.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
        Pod {
            uid: object.metadata.uid.clone().unwrap_or_default(),
            created: object.metadata.creation_timestamp.clone(),
            node: object
                .spec
                .as_ref()
                .and_then(|spec| spec.node_name.clone())
                .filter(|node| !node.is_empty()),
            labels: Labels::new(object.metadata.labels.as_ref()),
            addresses: addresses(object),
            ports: ports(object),
            life: match (is_finished, is_on_host) {
                (true, _) => Life::Finished,
                (false, true) => Life::HostNetwork,
                (false, false) => Life::OwnNetwork,
            },
        }
    }
}

/// `podIPs` has both families; `podIP` is the first of them, and alone only where nobody filled the list.
fn addresses(object: &PodObject) -> BTreeSet<IpAddr> {
    let Some(status) = &object.status else { return BTreeSet::new() };
    let all = status.pod_ips.iter().flatten().map(|address| address.ip.as_str());
    let texts: Vec<&str> = all.chain(status.pod_ip.as_deref()).collect();
    texts.into_iter().filter_map(|text| text.parse().ok()).filter(|address| is_of_one_pod(*address)).collect()
}

/// Whether an address can be somebody's, and one's alone.
pub(crate) fn is_of_one_pod(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !is_link_local && !address.is_unspecified() && !address.is_multicast() && !address.is_loopback()
}

/// Ports of containers that run while the pod runs: init containers that stay (`restartPolicy: Always`) among them.
fn ports(object: &PodObject) -> BTreeSet<(PortName, u16)> {
    let Some(spec) = &object.spec else { return BTreeSet::new() };
    let stays = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(stays));
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let named = ports.filter_map(|port| {
        let protocol = protocol(port.protocol.as_deref())?;
        let number = u16::try_from(port.container_port).ok().filter(|&number| number > 0)?;
        Some((PortName { protocol, name: port.name.as_deref()?.into() }, number))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(spec: Value, status: Value) -> Pod {
        let object = json!({"metadata": {"name": "a"}, "spec": spec, "status": status});
        Pod::read(&serde_json::from_value(object).expect("a pod"))
    }

    #[test]
    fn addresses_are_of_both_families() {
        let both =
            json!({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}, {"ip": "?"}]});
        let wanted: BTreeSet<IpAddr> = [[10, 0, 0, 1].into(), "fd00::1".parse().expect("one")].into();
        assert_eq!(read(json!({}), both).addresses, wanted);
        assert_eq!(read(json!({}), json!({"podIP": "10.0.0.1"})).addresses.len(), 1);
    }

    #[test]
    fn a_pod_that_has_ended_is_finished_and_one_that_ends_is_not() {
        for (phase, life) in [
            ("Succeeded", Life::Finished),
            ("Failed", Life::Finished),
            ("Running", Life::OwnNetwork),
            ("Unknown", Life::OwnNetwork),
        ] {
            assert_eq!(read(json!({}), json!({"phase": phase})).life, life, "{phase}");
        }
        assert_eq!(read(json!({"hostNetwork": true}), json!({})).life, Life::HostNetwork);
    }

    #[test]
    fn ports_are_those_of_containers_that_run_with_the_pod() {
        let port = |name, number: i32| json!([{"name": name, "containerPort": number}]);
        let pod = read(
            json!({
                "containers": [
                    {"name": "a", "ports": port("web", 80)},
                    {"name": "b", "ports": port("web", 8080)},
                    {"name": "c", "ports": [{"name": "web", "containerPort": 80, "protocol": "UDP"}]},
                    {"name": "d", "ports": [{"containerPort": 81}]},
                    {"name": "e", "ports": port("none", 70000)},
                ],
                "initContainers": [
                    {"name": "e", "ports": port("early", 90)},
                    {"name": "f", "ports": port("side", 91), "restartPolicy": "Always"},
                ],
            }),
            json!({}),
        );
        let ports: Vec<String> = pod
            .ports
            .iter()
            .map(|(port, number)| format!("{} {} {number}", port.name, port.protocol))
            .collect();
        assert_eq!(ports, ["side TCP 91", "web TCP 80", "web TCP 8080", "web UDP 80"]);
    }
}
