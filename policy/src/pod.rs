//! What policy needs to know of a Pod object: little enough to keep for each pod of a cluster.
//!
//! ```json
//! {"u":"0fe1…","c":1767225600,"n":"node-1","l":{"app":"web"},"a":["10.0.0.1","fd00::1"],"p":[["TCP","web",80]]}
//! ```

mod addresses;
mod uid;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod as PodObject};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::addresses::Addresses;
pub(crate) use self::addresses::is_of_one_pod;
pub use self::uid::Uid;
use crate::atoms::{self, Shelf, Text};
use crate::labels::Labels;
use crate::policy::PortName;
use crate::policy::protocol;

/// Annotations of mirror pods, which stand in the API for the static pods of a kubelet: the uid that the kubelet gave
/// the pod (kubernetes, pkg/kubelet/types, `ConfigHashAnnotationKey` and `ConfigMirrorAnnotationKey`).
pub const STATIC_UID_ANNOTATIONS: [&str; 2] = ["kubernetes.io/config.hash", "kubernetes.io/config.mirror"];

/// A pod, as its object tells it. Written down, it is what was told in short; fields that are absent say what
/// [`Pod::default`] says, and unknown ones nothing. Labels are always there: so an object of the API is not taken for a
/// pod of which nothing is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Tells it from another of the same name, before or after it; `None`: nobody said.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<Uid>,
    /// The uid that its kubelet and its runtime know it by, where that is another: see [`static_uid`].
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub static_uid: Option<Box<Uid>>,
    /// When, in seconds since 1970.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub created: Option<i64>,
    /// Where it runs; `None`: that is not known. Made by [`atoms::text`].
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none", with = "node_name")]
    pub node: Option<Arc<str>>,
    /// Its labels.
    #[serde(rename = "l")]
    pub labels: Labels,
    /// Of both families; for a pod on the host's network those of the node.
    #[serde(rename = "a", default, skip_serializing_if = "Addresses::is_empty")]
    pub addresses: Addresses,
    /// Ports that have names.
    #[serde(rename = "p", default, skip_serializing_if = "NamedPorts::is_empty")]
    pub ports: NamedPorts,
    /// Whether policy knows it.
    #[serde(rename = "x", default, skip_serializing_if = "is_own_network")]
    pub life: Life,
}

/// Whether a pod is one that policy knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Life {
    /// It has its own addresses, or will have.
    #[default]
    OwnNetwork,
    /// It is the node, as far as policy is concerned.
    HostNetwork,
    /// Its containers have ended for good, and its addresses are another's, whatever its status still says.
    Succeeded,
    /// The same, and not all of them well.
    Failed,
}

impl Life {
    /// By `status.phase` and `spec.hostNetwork`.
    pub fn of(phase: Option<&str>, is_on_host_network: bool) -> Life {
        match (phase, is_on_host_network) {
            (Some("Succeeded"), _) => Life::Succeeded,
            (Some("Failed"), _) => Life::Failed,
            (_, true) => Life::HostNetwork,
            (_, false) => Life::OwnNetwork,
        }
    }
}

static PORT_LISTS: Shelf<[(PortName, u16)]> = Shelf::new();

/// Names of ports and their numbers, in order, each once. Two containers may give a name two numbers: then it is both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(Text, Text, u16)>", into = "Vec<(String, String, u16)>")]
pub struct NamedPorts(Arc<[(PortName, u16)]>);

impl NamedPorts {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &(PortName, u16)> {
        self.0.iter()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(PortName, u16)> for NamedPorts {
    fn from_iter<I: IntoIterator<Item = (PortName, u16)>>(ports: I) -> NamedPorts {
        let mut ports: Vec<(PortName, u16)> = ports.into_iter().collect();
        ports.sort_unstable();
        ports.dedup();
        if ports.is_empty() { NamedPorts::default() } else { NamedPorts(PORT_LISTS.keep(ports)) }
    }
}

impl TryFrom<Vec<(Text, Text, u16)>> for NamedPorts {
    type Error = String;

    fn try_from(ports: Vec<(Text, Text, u16)>) -> Result<NamedPorts, String> {
        let read = ports.into_iter().map(|(Text(protocol), Text(name), number)| {
            named_port(Some(&protocol), Some(&name), number.into())
                .ok_or_else(|| format!("{protocol} {name} {number}: no port"))
        });
        read.collect()
    }
}

impl From<NamedPorts> for Vec<(String, String, u16)> {
    fn from(ports: NamedPorts) -> Self {
        let port =
            |(port, number): &(PortName, u16)| (port.protocol.to_string(), port.name.to_string(), *number);
        ports.iter().map(port).collect()
    }
}

impl Pod {
    /// Of its object.
    pub fn read(object: &PodObject) -> Pod {
        let (metadata, spec, status) = (&object.metadata, object.spec.as_ref(), object.status.as_ref());
        let addresses = status.into_iter().flat_map(|status| {
            // `podIPs` has both families; `podIP` is the first of them, and alone only where nobody filled the list.
            let all = status.pod_ips.iter().flatten().map(|address| address.ip.as_str());
            all.chain(status.pod_ip.as_deref())
        });
        let annotation = |name: &str| metadata.annotations.as_ref()?.get(name).map(String::as_str);
        Pod {
            uid: metadata.uid.as_deref().and_then(Uid::new),
            static_uid: static_uid(annotation),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0.as_second()),
            node: spec.and_then(|spec| spec.node_name.as_deref()).and_then(node_name::of),
            labels: Labels::new(metadata.labels.as_ref()),
            addresses: Addresses::read(addresses),
            ports: ports(object),
            life: Life::of(
                status.and_then(|status| status.phase.as_deref()),
                spec.is_some_and(|spec| spec.host_network == Some(true)),
            ),
        }
    }

    /// Whether a uid is this pod's, as the API or as its kubelet has it.
    pub fn has_uid(&self, uid: &Uid) -> bool {
        self.uid.as_ref() == Some(uid) || self.static_uid.as_deref() == Some(uid)
    }
}

/// The uid that a static pod has at its kubelet, of the annotations of its mirror pod.
pub fn static_uid<'a>(annotation: impl Fn(&str) -> Option<&'a str>) -> Option<Box<Uid>> {
    STATIC_UID_ANNOTATIONS.into_iter().find_map(|name| annotation(name).and_then(Uid::new)).map(Box::new)
}

/// A port of a container, if it has a name: `protocol` (missing is TCP), `name` and `containerPort`.
pub fn named_port(of: Option<&str>, name: Option<&str>, number: i64) -> Option<(PortName, u16)> {
    let protocol = protocol(of)?;
    let number = u16::try_from(number).ok().filter(|&number| number > 0)?;
    Some((PortName { protocol, name: atoms::text(name?) }, number))
}

/// Ports of containers that run while the pod runs: init containers that stay (`restartPolicy: Always`) among them.
fn ports(object: &PodObject) -> NamedPorts {
    let Some(spec) = &object.spec else { return NamedPorts::default() };
    let stays = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(stays));
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let named = |port: &k8s_openapi::api::core::v1::ContainerPort| {
        named_port(port.protocol.as_deref(), port.name.as_deref(), port.container_port.into())
    };
    ports.filter_map(named).collect()
}

fn is_own_network(life: &Life) -> bool {
    *life == Life::OwnNetwork
}

/// `spec.nodeName`, which is empty before somebody chose.
mod node_name {
    use super::*;

    pub(super) fn of(name: &str) -> Option<Arc<str>> {
        (!name.is_empty()).then(|| atoms::text(name))
    }

    pub(super) fn serialize<S: Serializer>(
        name: &Option<Arc<str>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        name.as_deref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Arc<str>>, D::Error> {
        Ok(Option::<Text>::deserialize(deserializer)?.and_then(|Text(name)| of(&name)))
    }
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
        let wanted: Addresses = [[10, 0, 0, 1].into(), "fd00::1".parse().expect("one")].into_iter().collect();
        assert_eq!(read(json!({}), both).addresses, wanted);
        assert_eq!(read(json!({}), json!({"podIP": "10.0.0.1"})).addresses.iter().count(), 1);
        let many = json!({"podIPs": [{"ip": "10.0.0.2"}, {"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}, {"ip": "127.0.0.1"}]});
        let many: Vec<String> =
            read(json!({}), many).addresses.iter().map(|address| address.to_string()).collect();
        assert_eq!(many, ["10.0.0.1", "10.0.0.2"]);
    }

    #[test]
    fn a_pod_that_has_ended_is_finished_and_one_that_ends_is_not() {
        for (phase, life) in [
            ("Succeeded", Life::Succeeded),
            ("Failed", Life::Failed),
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

    #[test]
    fn what_is_written_of_a_pod_is_short_and_read_again() {
        let object = json!({
            "metadata": {
                "name": "a", "uid": "u-1", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "web"},
                "annotations": {"kubernetes.io/config.mirror": "0fe1f2d69c5c4cc89d5e2f4cdd1e25ab"},
            },
            "spec": {"nodeName": "node1", "hostNetwork": true, "containers": [{
                "name": "a", "ports": [{"name": "web", "containerPort": 80}, {"name": "web", "containerPort": 81}],
            }]},
            "status": {"podIPs": [{"ip": "fd00::1"}, {"ip": "10.0.0.1"}]},
        });
        let pod = Pod::read(&serde_json::from_value(object).expect("a pod"));
        assert_eq!(
            serde_json::to_value(&pod).expect("JSON"),
            json!({
                "u": "u-1", "s": "0fe1f2d69c5c4cc89d5e2f4cdd1e25ab", "c": 1_767_225_600, "n": "node1",
                "l": {"app": "web"}, "a": ["10.0.0.1", "fd00::1"],
                "p": [["TCP", "web", 80], ["TCP", "web", 81]], "x": "HostNetwork",
            })
        );
        for pod in [pod, Pod::default()] {
            let text = serde_json::to_string(&pod).expect("JSON");
            assert_eq!(serde_json::from_str::<Pod>(&text).expect("a pod"), pod);
        }
        assert_eq!(serde_json::to_string(&Pod::default()).expect("JSON"), r#"{"l":{}}"#);
        let newer = json!({"n": "", "l": {}, "to come": [1]});
        assert_eq!(serde_json::from_value::<Pod>(newer).expect("a pod"), Pod::default());
        for wrong in [
            json!({"l": {}, "p": [["TCP", "web", 0]]}),
            json!({"l": {}, "a": ["?"]}),
            json!({"l": {}, "u": ""}),
            json!({"l": {}, "x": "?"}),
            json!({"metadata": {"name": "a"}, "spec": {}}),
        ] {
            assert!(serde_json::from_value::<Pod>(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_static_pod_has_the_uid_of_its_kubelet_too() {
        let object =
            json!({"metadata": {"uid": "api", "annotations": {"kubernetes.io/config.hash": "kubelet"}}});
        let pod = Pod::read(&serde_json::from_value(object).expect("a pod"));
        let has = |text| pod.has_uid(&Uid::new(text).expect("a uid"));
        assert!(has("api") && has("kubelet") && !has("other"));
    }
}
