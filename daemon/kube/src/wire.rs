//! Objects as the API server sends them, of which only what counts is read.
//!
//! A page of a list or a line of a watch is parsed where it lies, and dropped. A Pod of ten kilobytes becomes some
//! hundred octets; a Node whose heartbeat came says the same as before.

use std::collections::BTreeMap;
use std::sync::Arc;

use cambric_policy::change::{Fault, Key, PolicyObject};
use cambric_policy::pod::{Pod, Uid};
use cambric_policy::{atoms, policy};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::cache::{Event, Known};
use crate::json::Json;
use crate::kinds::Kind;
use crate::picture::{NETWORK_UNAVAILABLE, NOT_READY_TAINT};
use crate::service::{EndpointSlice, Service};
use crate::version::Version;

/// The longest key of a TCP MD5 signature (`TCP_MD5SIG_MAXKEYLEN`, include/uapi/linux/tcp.h).
const MOST_OCTETS_OF_A_KEY: usize = 80;

/// What an object says that counts. Clones are cheap.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Says {
    Pod(Arc<Pod>),
    Namespace(Arc<core::Namespace>),
    Policy(Arc<PolicyObject>),
    Service(Arc<Service>),
    Slice(Arc<EndpointSlice>),
    Document(Json),
}

/// An object that was sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Found {
    Object(Key, Known<Says>),
    /// It has a name, and the rest is no object of its kind; why, with the field.
    Unreadable(Key, String),
    /// Nobody knows what it is; why.
    Nameless(String),
}

/// One page of a list.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) version: Version,
    /// Where the next page is; `None`: this is the last.
    pub(crate) next: Option<String>,
    pub(crate) objects: Vec<Found>,
}

/// One line of a watch.
#[derive(Debug)]
pub(crate) enum Line {
    Event(Event<Says>),
    /// It shows an object that cannot be read.
    Unreadable(Key, String),
    /// All that was there at the start was shown (`k8s.io/initial-events-end`).
    InitialEnd(Version),
    /// What went wrong, as a `Status`.
    Error(Box<kube::core::Status>),
}

#[derive(Deserialize)]
struct ListWire<'a> {
    metadata: ListMetadata,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    resource_version: String,
    #[serde(rename = "continue")]
    next: Option<String>,
}

#[derive(Deserialize)]
struct EventWire<'a> {
    #[serde(rename = "type")]
    what: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// # Errors
/// It is no list: torn, or something else. In words.
pub(crate) fn page(kind: Kind, text: &[u8]) -> Result<Page, String> {
    let list: ListWire = serde_json::from_slice(text).map_err(|error| format!("no list: {error}"))?;
    let objects = list.items.unwrap_or_default().into_iter().map(|item| read(kind, item.get())).collect();
    let version = reached(Version::new(&list.metadata.resource_version))?;
    Ok(Page { version, next: list.metadata.next.filter(|next| !next.is_empty()), objects })
}

/// # Errors
/// It is no event: torn, or something else. In words.
pub(crate) fn line(kind: Kind, text: &[u8]) -> Result<Line, String> {
    let event: EventWire = serde_json::from_slice(text).map_err(|error| format!("no event: {error}"))?;
    let object = event.object.get();
    match event.what {
        "ADDED" | "MODIFIED" => match read(kind, object) {
            Found::Object(key, known) => {
                reached(known.version.clone())?;
                Ok(Line::Event(Event::Shows(key, known)))
            }
            Found::Unreadable(key, what) => Ok(Line::Unreadable(key, what)),
            Found::Nameless(what) => Err(what),
        },
        // What it said last may be anything: its name is enough.
        "DELETED" => {
            let Some(known) = identity(object) else { return Err("an object without a name".to_owned()) };
            Ok(Line::Event(Event::Gone(known.key(kind), known.uid(), reached(known.version())?)))
        }
        "BOOKMARK" => {
            let Bookmark { metadata } =
                serde_json::from_str(object).map_err(|error| format!("no bookmark: {error}"))?;
            let version = reached(Version::new(&metadata.resource_version))?;
            let is_end = metadata.annotations.is_some_and(|annotations| {
                annotations.get("k8s.io/initial-events-end").is_some_and(|value| value == "true")
            });
            Ok(if is_end { Line::InitialEnd(version) } else { Line::Event(Event::Reached(version)) })
        }
        "ERROR" => {
            let status = serde_json::from_str(object).map_err(|error| format!("no status: {error}"))?;
            Ok(Line::Error(Box::new(status)))
        }
        other => Err(format!("an event of type {other:?}")),
    }
}

/// A place to go on from is never empty.
fn reached(version: Version) -> Result<Version, String> {
    match version.is_empty() {
        true => Err("metadata.resourceVersion: empty".to_owned()),
        false => Ok(version),
    }
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: BookmarkMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMetadata {
    resource_version: String,
    annotations: Option<BTreeMap<String, String>>,
}

/// What every object has.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

/// The same of an object of which nothing else can be read.
#[derive(Deserialize)]
struct Identified {
    metadata: Identity,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    name: String,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
}

impl Identity {
    fn key(&self, kind: Kind) -> Key {
        key(kind, self.namespace.as_deref(), &self.name)
    }

    fn uid(&self) -> Option<Uid> {
        self.uid.as_deref().and_then(Uid::new)
    }

    fn version(&self) -> Version {
        Version::new(self.resource_version.as_deref().unwrap_or_default())
    }
}

/// Names of namespaces and of pods are in many places: each is kept once.
fn key(kind: Kind, namespace: Option<&str>, name: &str) -> Key {
    let namespace = match kind {
        Kind::Pod | Kind::NetworkPolicy | Kind::Service | Kind::EndpointSlice => {
            namespace.unwrap_or("default")
        }
        _ => "",
    };
    Key { namespace: atoms::text(namespace), name: name.into() }
}

fn identity(object: &str) -> Option<Identity> {
    serde_json::from_str::<Identified>(object).ok().map(|identified| identified.metadata)
}

/// Reads one object.
pub(crate) fn read(kind: Kind, object: &str) -> Found {
    let read = match kind {
        Kind::Pod => pod(object),
        Kind::Namespace => namespace(object),
        Kind::NetworkPolicy => network_policy(object),
        Kind::Service => service(object),
        Kind::EndpointSlice => slice(object),
        Kind::Node => node(object),
        Kind::Secret => secret(object),
        _ => document(kind, object),
    };
    match (read, identity(object)) {
        (Ok((metadata, says)), _) if !metadata.name.is_empty() => {
            let known = Known {
                uid: metadata.uid.as_deref().and_then(Uid::new),
                version: Version::new(metadata.resource_version.as_deref().unwrap_or_default()),
                created: metadata.creation_timestamp.map(|time| time.0.as_second()),
                says,
            };
            Found::Object(key(kind, metadata.namespace.as_deref(), &metadata.name), known)
        }
        (Err(what), Some(identity)) if !identity.name.is_empty() => {
            Found::Unreadable(identity.key(kind), what)
        }
        (Ok(_), _) => Found::Nameless(format!("a {kind} without a name")),
        (Err(what), _) => Found::Nameless(format!("a {kind} without a name: {what}")),
    }
}

type Read = Result<(Metadata, Says), String>;

/// With the field that is wrong.
fn typed<'a, T: Deserialize<'a>>(object: &'a str) -> Result<T, String> {
    let mut reader = serde_json::Deserializer::from_str(object);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let (path, what) = (error.path().to_string(), error.into_inner().to_string());
        // Lines and columns are of a text that nobody sees.
        let what = what.split(" at line ").next().unwrap_or_default().to_owned();
        format!("{path}: {what}")
    })
}

fn pod(object: &str) -> Read {
    #[derive(Deserialize)]
    struct PodWire {
        metadata: Metadata,
        #[serde(default)]
        spec: Spec,
        #[serde(default)]
        status: Status,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Spec {
        node_name: Option<String>,
        host_network: Option<bool>,
        containers: Option<Vec<Container>>,
        init_containers: Option<Vec<Container>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Container {
        ports: Option<Vec<Port>>,
        restart_policy: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Port {
        container_port: i32,
        name: Option<String>,
        protocol: Option<String>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Status {
        phase: Option<String>,
        #[serde(rename = "podIP")]
        address: Option<String>,
        #[serde(rename = "podIPs")]
        addresses: Option<Vec<Address>>,
    }
    #[derive(Deserialize)]
    struct Address {
        #[serde(default)]
        ip: String,
    }

    let PodWire { mut metadata, spec, status } = typed(object)?;
    let containers = |containers: Option<Vec<Container>>| {
        containers.into_iter().flatten().map(|container| {
            let ports = container.ports.into_iter().flatten().map(|port| core::ContainerPort {
                container_port: port.container_port,
                name: port.name,
                protocol: port.protocol,
                ..Default::default()
            });
            core::Container {
                ports: Some(ports.collect()),
                restart_policy: container.restart_policy,
                ..Default::default()
            }
        })
    };
    let addresses =
        status.addresses.map(|all| all.into_iter().map(|address| core::PodIP { ip: address.ip }).collect());
    let object = core::Pod {
        metadata: ObjectMeta {
            uid: metadata.uid.clone(),
            creation_timestamp: metadata.creation_timestamp.clone(),
            labels: metadata.labels.take(),
            annotations: metadata.annotations.take(),
            ..Default::default()
        },
        spec: Some(core::PodSpec {
            node_name: spec.node_name,
            host_network: spec.host_network,
            containers: containers(spec.containers).collect(),
            init_containers: Some(containers(spec.init_containers).collect()),
            ..Default::default()
        }),
        status: Some(core::PodStatus {
            phase: status.phase,
            pod_ip: status.address,
            pod_ips: addresses,
            ..Default::default()
        }),
    };
    Ok((metadata, Says::Pod(Arc::new(Pod::read(&object)))))
}

fn namespace(object: &str) -> Read {
    #[derive(Deserialize)]
    struct NamespaceWire {
        metadata: Metadata,
    }
    let NamespaceWire { mut metadata } = typed(object)?;
    let says = namespace_of(&metadata.name, metadata.labels.take());
    Ok((metadata, says))
}

fn namespace_of(name: &str, labels: Option<BTreeMap<String, String>>) -> Says {
    let metadata = ObjectMeta { name: Some(name.to_owned()), labels, ..Default::default() };
    Says::Namespace(Arc::new(core::Namespace { metadata, ..Default::default() }))
}

fn network_policy(object: &str) -> Read {
    #[derive(Deserialize)]
    struct PolicyWire {
        metadata: Metadata,
    }
    let PolicyWire { metadata } = typed(object)?;
    let value: Value = serde_json::from_str(object).map_err(|error| error.to_string())?;
    let (_, mut policy) = policy::decode(&value).map_err(|fault| fault.to_string())?;
    // Two versions that say the same are the same.
    policy.object.metadata.uid = None;
    Ok((metadata, Says::Policy(Arc::new(policy))))
}

fn service(object: &str) -> Read {
    let service: core::Service = typed(object)?;
    Ok((of_whole(&service.metadata), Says::Service(Arc::new(Service::read(&service)))))
}

fn slice(object: &str) -> Read {
    let slice: discovery::EndpointSlice = typed(object)?;
    Ok((of_whole(&slice.metadata), Says::Slice(Arc::new(EndpointSlice::read(&slice)))))
}

fn of_whole(metadata: &ObjectMeta) -> Metadata {
    Metadata {
        name: metadata.name.clone().unwrap_or_default(),
        namespace: metadata.namespace.clone(),
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        creation_timestamp: metadata.creation_timestamp.clone(),
        labels: None,
        annotations: None,
    }
}

fn node(object: &str) -> Read {
    #[derive(Deserialize)]
    struct NodeWire {
        metadata: Metadata,
        #[serde(default)]
        spec: Spec,
        #[serde(default)]
        status: Status,
    }
    #[derive(Default, Deserialize, Serialize)]
    #[serde(default)]
    struct Spec {
        #[serde(rename = "podCIDR", skip_serializing_if = "Option::is_none")]
        range: Option<Value>,
        #[serde(rename = "podCIDRs", skip_serializing_if = "Option::is_none")]
        ranges: Option<Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        taints: Option<Vec<Taint>>,
    }
    #[derive(Deserialize, Serialize)]
    struct Taint {
        #[serde(default)]
        key: String,
        #[serde(default)]
        effect: String,
    }
    #[derive(Default, Deserialize, Serialize)]
    #[serde(default)]
    struct Status {
        #[serde(skip_serializing_if = "Option::is_none")]
        addresses: Option<Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        conditions: Option<Vec<Condition>>,
    }
    #[derive(Deserialize, Serialize)]
    struct Condition {
        #[serde(default)]
        r#type: String,
        #[serde(default)]
        status: String,
    }
    let NodeWire { mut metadata, mut spec, mut status } = typed(object)?;
    // Of these lists what this node answers: others change with every heartbeat, and there are thousands of nodes.
    retain(&mut spec.taints, |taint| taint.key == NOT_READY_TAINT);
    let is_said =
        |condition: &Condition| condition.r#type == NETWORK_UNAVAILABLE && condition.status == "True";
    retain(&mut status.conditions, is_said);
    let kept = json!({
        "name": metadata.name,
        "uid": metadata.uid,
        "creationTimestamp": metadata.creation_timestamp,
        "labels": metadata.labels.take().unwrap_or_default(),
    });
    let kind = Kind::Node;
    let value = json!({
        "apiVersion": kind.api_version(), "kind": kind.name(), "metadata": kept, "spec": spec, "status": status,
    });
    Ok((metadata, Says::Document(Json::new(&value))))
}

/// A list of which nothing is left is none.
fn retain<T>(list: &mut Option<Vec<T>>, is_kept: impl FnMut(&T) -> bool) {
    if let Some(entries) = list {
        entries.retain(is_kept);
    }
    *list = list.take().filter(|entries| !entries.is_empty());
}

/// What may be keys, and how long the rest is. Nothing else of it is kept: its annotations say what `kubectl apply` wrote.
fn secret(object: &str) -> Read {
    #[derive(Deserialize)]
    struct SecretWire {
        metadata: Metadata,
        #[serde(default)]
        data: Option<BTreeMap<String, ByteString>>,
    }
    // An error of a decoder would quote the value.
    let SecretWire { metadata, data } =
        typed(object).map_err(|_| "data: not a map of texts in base64".to_owned())?;
    let (keys, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
        data.unwrap_or_default().into_iter().partition(|(_, value)| value.0.len() <= MOST_OCTETS_OF_A_KEY);
    let lengths: BTreeMap<String, usize> =
        others.into_iter().map(|(name, value)| (name, value.0.len())).collect();
    let kept = json!({
        "name": metadata.name,
        "uid": metadata.uid,
        "creationTimestamp": metadata.creation_timestamp,
    });
    let kind = Kind::Secret;
    let value = json!({
        "apiVersion": kind.api_version(), "kind": kind.name(), "metadata": kept, "data": keys, "lengths": lengths,
    });
    Ok((metadata, Says::Document(Json::new(&value))))
}

fn document(kind: Kind, object: &str) -> Read {
    #[derive(Deserialize)]
    struct DocumentWire {
        metadata: Metadata,
    }
    let DocumentWire { metadata } = typed(object)?;
    // A type that is derived reads an array, too, as its fields in their order: such an object is none.
    let mut fields: Map<String, Value> = typed(object)?;
    let kept = fields.get_mut("metadata").and_then(Value::as_object_mut);
    let kept = kept.ok_or("metadata: not an object")?;
    kept.remove("managedFields");
    kept.remove("resourceVersion");
    // Those of a list say it nowhere.
    fields.insert("apiVersion".to_owned(), kind.api_version().into());
    fields.insert("kind".to_owned(), kind.name().into());
    Ok((metadata, Says::Document(Json::new(&Value::Object(fields)))))
}

/// As it is written down for the next run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Written {
    Pod(Pod),
    Labels(Option<BTreeMap<String, String>>),
    Policy { object: Box<NetworkPolicy>, faults: Vec<(String, String)> },
    Service(Service),
    Slice(EndpointSlice),
    Document(Value),
}

impl Says {
    pub(crate) fn written(&self) -> Written {
        match self {
            Says::Pod(pod) => Written::Pod(Pod::clone(pod)),
            Says::Namespace(namespace) => Written::Labels(namespace.metadata.labels.clone()),
            Says::Policy(policy) => Written::Policy {
                object: Box::new(policy.object.clone()),
                faults: policy.faults.iter().map(|fault| (fault.field.clone(), fault.what.clone())).collect(),
            },
            Says::Service(service) => Written::Service(Service::clone(service)),
            Says::Slice(slice) => Written::Slice(EndpointSlice::clone(slice)),
            Says::Document(value) => Written::Document(value.value()),
        }
    }
}

impl Written {
    /// `None`: that is not what such objects say.
    pub(crate) fn read(self, kind: Kind, name: &str) -> Option<Says> {
        match (self, kind) {
            (Written::Pod(pod), Kind::Pod) => Some(Says::Pod(Arc::new(pod))),
            (Written::Labels(labels), Kind::Namespace) => Some(namespace_of(name, labels)),
            (Written::Policy { object, faults }, Kind::NetworkPolicy) => {
                let faults = faults.into_iter().map(|(field, what)| Fault { field, what }).collect();
                Some(Says::Policy(Arc::new(PolicyObject { object: *object, faults })))
            }
            (Written::Service(service), Kind::Service) => Some(Says::Service(Arc::new(service))),
            (Written::Slice(slice), Kind::EndpointSlice) => Some(Says::Slice(Arc::new(slice))),
            (Written::Document(value), Kind::Node | Kind::Secret) => Some(Says::Document(Json::new(&value))),
            (Written::Document(value), kind) if kind.is_ours() => Some(Says::Document(Json::new(&value))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
