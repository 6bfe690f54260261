//! From the text of one manifest file to objects.
//!
//! A document that is no business of ours is passed over. One that cannot be read is a fault: nobody
//! knows what it would have said, so whoever reads the file holds on to what he knew before. So is one with a
//! wrong value, but what else it says is known. One that can be read, but is of a kind to come, is refused and
//! hides nothing.

use std::io;
use std::sync::Arc;

use cambric_kube::{EndpointSlice, Service};
use cambric_policy::change::Key;
use cambric_policy::pod::Pod;
use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_yaml_ng::Value;

use super::typing_errors::{self, WRITTEN_BY_NODES};
use super::{network_policy, pod};
use crate::contradictions::{Claimant, Entry};
use crate::kinds::{
    API_VERSION, BGPAdvertisementSpec, BGPClusterConfigSpec, BGPFilterSpec, BGPNodeOverrideSpec,
    BGPPeerConfigSpec, GROUP,
};
use crate::objects::{Kind, Object, ObjectRef, Problem, Reason};
use crate::secrets::{self, Secret};
use crate::services;
use crate::values::{self, Costs, Fault};

/// The longest name Kubernetes takes.
const MOST_NAME_OCTETS: usize = 253;
/// The longest name of a namespace: it is a DNS label (RFC 1123).
const MOST_NAMESPACE_OCTETS: usize = 63;
/// Where an object is that does not say it.
const DEFAULT_NAMESPACE: &str = "default";
/// What EndpointSlices are of.
pub(super) const ENDPOINT_SLICES: &str = "discovery.k8s.io/v1";
/// Brackets that are open at once. The parser takes time by their square; Kubernetes' deepest kinds have some 20.
const MOST_OPEN: usize = 1000;

/// What one file says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Manifest {
    /// What counts, in the order of the file.
    pub(crate) entries: Vec<Entry>,
    /// Documents that can be read and do not count.
    pub(crate) notices: Vec<Problem>,
    /// What is wrong, and what it costs.
    pub(crate) faults: Vec<(Problem, Costs)>,
    /// There is no document in it, not even one that is no business of ours.
    pub(crate) is_empty: bool,
}

/// Who has written a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// Somebody who makes typing errors.
    Person,
    /// An API server.
    ApiServer,
}

/// What every object says of itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object with apiVersion and kind")]
struct Head {
    api_version: String,
    kind: String,
    metadata: Option<Metadata>,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
}

/// All that an object of ours may have.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope<S> {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    #[serde(rename = "metadata")]
    _metadata: IgnoredAny,
    spec: S,
    #[serde(rename = "status")]
    _status: Option<IgnoredAny>,
}

impl Manifest {
    /// Reads the text of `file`.
    pub(crate) fn decode(file: &str, text: &str) -> Manifest {
        if is_nested_too_deeply(text) {
            let fault = Problem::new(file, format!("more than {MOST_OPEN} brackets are open at once"));
            let fault = fault.because(Reason::Unreadable);
            return Manifest { faults: vec![(fault, Costs::Rest)], ..Manifest::default() };
        }
        let mut manifest = Manifest { is_empty: true, ..Manifest::default() };
        for (index, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
            let place = format!("{file}, document {}", index + 1);
            let value = Value::deserialize(document);
            manifest.is_empty &= matches!(value, Ok(Value::Null));
            match value {
                Ok(Value::Null) => {}
                Ok(value) => {
                    if let Err(fault) = manifest.decode_document(file, &place, &value, Writer::Person) {
                        manifest.faults.push((fault.because(Reason::Invalid), costs_of(&value)));
                    }
                }
                Err(error) => {
                    // After a syntax error the rest of the file cannot be told apart.
                    let fault = Problem::new(place, error.to_string()).because(Reason::Unreadable);
                    manifest.faults.push((fault, Costs::Rest));
                    break;
                }
            }
        }
        manifest
    }

    /// Reads an object as an API server shows it.
    pub(crate) fn of_object(of: &ObjectRef, object: &serde_json::Value) -> Manifest {
        let place = of.to_string();
        let mut manifest = Manifest::default();
        let decoded = match serde_yaml_ng::to_value(object) {
            Ok(value) => manifest.decode_document(&place, &place, &value, Writer::ApiServer),
            Err(error) => Err(Problem::new(place, error.to_string())),
        };
        if let Err(fault) = decoded {
            let fault = fault.about(of.kind, &of.name).because(Reason::Invalid);
            manifest.faults.push((fault, Costs::All));
        }
        // It is one, and there are thousands of them.
        manifest.entries.shrink_to_fit();
        manifest
    }

    /// Whether there may be objects of this kind in it that nobody has seen.
    pub(crate) fn hides(&self, kind: Kind) -> bool {
        self.faults.iter().any(|(_, costs)| costs.hides(kind))
    }

    /// Whether there may be objects of any kind in it that nobody has seen.
    pub(crate) fn hides_all(&self) -> bool {
        self.faults.iter().any(|(_, costs)| costs.hides_all())
    }

    /// Whether there may be objects in it that nobody has seen.
    pub(crate) fn hides_something(&self) -> bool {
        self.faults.iter().any(|(_, costs)| costs.hides_something())
    }

    /// Whether all that is wrong is policies that fail closed, and some did before. One that was never good has no
    /// state to go back to.
    pub(crate) fn is_no_worse_than(&self, before: &Manifest) -> bool {
        let is_closed = |(_, costs): &(Problem, Costs)| *costs == Costs::Closed;
        before.faults.iter().any(is_closed) && self.faults.iter().all(is_closed)
    }

    /// The objects it shows.
    pub(crate) fn claimants(&self) -> impl Iterator<Item = Claimant> {
        self.entries.iter().map(|entry| (entry.object.kind(), entry.name.clone()))
    }

    /// A file that could not even be opened.
    pub(crate) fn unreadable(file: &str, error: &io::Error) -> Manifest {
        let fault = Problem::new(file, format!("cannot be read: {error}")).because(Reason::Unreadable);
        Manifest { faults: vec![(fault, Costs::All)], ..Manifest::default() }
    }

    fn decode_document(
        &mut self,
        file: &str,
        place: &str,
        value: &Value,
        writer: Writer,
    ) -> Result<(), Problem> {
        let Head { api_version, kind, metadata } = typed(place, value)?;
        let own = kind_of_kubernetes(&api_version, &kind);
        if let Some(what) = typing_errors::of_head(&api_version, &kind) {
            return Err(Problem::new(place, what));
        }
        if is_list(&api_version, &kind) && value.get("items").is_some_and(|items| !is_empty_list(items)) {
            return Err(Problem::new(place, format!("{kind}: its items must be documents of their own")));
        }
        if api_version.split('/').next() == Some(network_policy::GROUP_TO_COME) {
            let name = metadata.and_then(|metadata| metadata.name).unwrap_or_default();
            let what = "NotImplemented: this version enforces no policies of this kind";
            let notice = Problem::new(format!("{place}: {kind} {name}"), what);
            self.notices.push(notice.because(Reason::NotImplemented));
            return Ok(());
        }
        // What other parts of a cluster are made of is no business of ours.
        if own.is_none() && api_version.split('/').next() != Some(GROUP) {
            return Ok(());
        }
        let Metadata { name, namespace } = metadata.unwrap_or_default();
        let is_elsewhere = |namespace: &String| namespace != secrets::NAMESPACE;
        if own == Some(Kind::Secret) && namespace.as_ref().is_some_and(is_elsewhere) {
            return Ok(());
        }
        let name = name.ok_or_else(|| Problem::new(place, format!("{kind}: metadata.name is missing")))?;
        let may_have_dots = own != Some(Kind::Namespace);
        if !(if may_have_dots { is_name(&name) } else { is_namespace(&name) }) {
            let dots = if may_have_dots { ", '-' and '.'" } else { " and '-'" };
            let what = format!("small letters, digits{dots}, a letter or digit at both ends");
            return Err(Problem::new(place, format!("{kind}: metadata.name: {name:?}: {what}")));
        }
        let namespace = namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
        let is_in_one = own.is_some_and(Kind::is_namespaced);
        if is_in_one && !is_namespace(namespace) {
            let what = "small letters, digits and '-', a letter or digit at both ends, at most 63";
            return Err(Problem::new(
                place,
                format!("{kind} {name}: metadata.namespace: {namespace:?}: {what}"),
            ));
        }
        let key = Key::new(namespace, &name);
        let name = if is_in_one { key.to_string() } else { name };
        let place = match writer {
            Writer::Person => format!("{place}: {kind} {name}"),
            Writer::ApiServer => place.to_owned(),
        };
        let of = own.or_else(|| kind_of_ours(&kind)).map(|kind| ObjectRef { kind, name: name.clone() });
        let about = |problem: Problem| Problem { of: of.clone().map(Box::new), ..problem };
        // A server checks what it takes, and grows fields that this version does not know.
        if let Some(what) = typing_errors::of_object(own, value).filter(|_| writer == Writer::Person) {
            return Err(about(Problem::new(place, what)));
        }
        if own.is_none() && api_version != API_VERSION {
            let what = format!("apiVersion: {api_version:?}: this version serves {API_VERSION}");
            return Err(about(Problem::new(place, what)));
        }
        if own.is_none() && kind == WRITTEN_BY_NODES {
            let what = "nodes write this kind, for people: it says nothing to them";
            self.notices.push(about(Problem::new(place, what)));
            return Ok(());
        }
        let decoded = match own {
            Some(own) => of_kubernetes(own, key, &place, value),
            None => of_ours(&kind, &name, &place, value),
        };
        let (object, faults) = decoded.map_err(&about)?;
        let can_be_used = !faults.iter().any(|fault| fault.costs.hides_something());
        let problem =
            |Fault { what, reason, costs }| (about(Problem::new(place.clone(), what)).because(reason), costs);
        self.faults.extend(faults.into_iter().map(problem));
        if let Some(object) = object.filter(|_| can_be_used) {
            self.entries.push(Entry { file: file.to_owned(), place, name, object });
        }
        Ok(())
    }
}

/// What it costs when a document cannot be read: by its head alone, if that can be.
fn costs_of(document: &Value) -> Costs {
    let text =
        |object: &Value, field| object.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_of_policies = |object: &Value| {
        let kind = text(object, "kind").to_ascii_lowercase();
        let kind = kind.strip_suffix("list").unwrap_or(&kind);
        matches!(kind, "pod" | "namespace" | "networkpolicy") && !text(object, "apiVersion").contains(GROUP)
    };
    if kind_of_kubernetes(&text(document, "apiVersion"), &text(document, "kind")) == Some(Kind::Secret) {
        return Costs::Only("object");
    }
    let items = document.get("items").and_then(Value::as_sequence);
    let is_list = text(document, "kind") == "List";
    let is_of_services = |object: &Value| {
        let kind = text(object, "kind").to_ascii_lowercase();
        let group = text(object, "apiVersion");
        (kind == "service" && group == "v1") || (kind == "endpointslice" && group == ENDPOINT_SLICES)
    };
    if is_of_services(document) {
        Costs::Only("object")
    } else if is_of_policies(document)
        || (is_list && items.is_some_and(|items| items.iter().all(is_of_policies)))
    {
        Costs::Policies
    } else {
        Costs::All
    }
}

/// Which of Kubernetes' own kinds that count it is.
fn kind_of_kubernetes(api_version: &str, kind: &str) -> Option<Kind> {
    match (api_version, kind) {
        ("v1", "Node") => Some(Kind::Node),
        ("v1", "Pod") => Some(Kind::Pod),
        ("v1", "Namespace") => Some(Kind::Namespace),
        ("v1", "Secret") => Some(Kind::Secret),
        (network_policy::API_VERSION, "NetworkPolicy") => Some(Kind::NetworkPolicy),
        ("v1", "Service") => Some(Kind::Service),
        (ENDPOINT_SLICES, "EndpointSlice") => Some(Kind::EndpointSlice),
        _ => None,
    }
}

/// Which of ours it is.
fn kind_of_ours(kind: &str) -> Option<Kind> {
    Kind::named(kind).filter(|kind| kind.is_ours())
}

/// Whether its items may be objects that count.
fn is_list(api_version: &str, kind: &str) -> bool {
    match api_version {
        "v1" => {
            let known = ["List", "NodeList", "PodList", "NamespaceList", "SecretList", "ServiceList"];
            known.contains(&kind)
        }
        network_policy::API_VERSION => kind == "NetworkPolicyList",
        ENDPOINT_SLICES => kind == "EndpointSliceList",
        _ => false,
    }
}

/// What an object says, if it can be used, and what is wrong with it.
type Decoded = (Option<Object>, Vec<Fault>);

fn of_kubernetes(kind: Kind, key: Key, place: &str, value: &Value) -> Result<Decoded, Problem> {
    let (object, faults) = match kind {
        Kind::Pod => {
            let (pod, faults) = pod::decode(place, value)?;
            (Object::Pod(key, Arc::new(Pod::read(&pod))), faults)
        }
        Kind::Namespace => {
            (Object::Namespace(key.name, Arc::new(typed::<v1::Namespace>(place, value)?)), Vec::new())
        }
        Kind::NetworkPolicy => {
            let (policy, faults) = network_policy::decode(value).map_err(|what| Problem::new(place, what))?;
            (Object::NetworkPolicy(key, Arc::new(policy)), faults)
        }
        Kind::Secret => match Secret::decode(value) {
            Ok(secret) => (Object::Secret(secret), Vec::new()),
            Err(what) => {
                let fault = Fault { what, reason: Reason::Invalid, costs: Costs::Only("object") };
                return Ok((None, vec![fault]));
            }
        },
        Kind::Service => {
            let service = typed::<v1::Service>(place, value)?;
            (Object::Service(key, Arc::new(Service::read(&service))), services::faults(&service))
        }
        Kind::EndpointSlice => {
            let slice = typed::<discovery::v1::EndpointSlice>(place, value)?;
            (Object::EndpointSlice(key, Arc::new(EndpointSlice::read(&slice))), Vec::new())
        }
        _ => {
            let (node, faults) = values::node(&typed::<v1::Node>(place, value)?);
            (Object::Node(node), faults)
        }
    };
    Ok((Some(object), faults))
}

fn of_ours(kind: &str, name: &str, place: &str, value: &Value) -> Result<Decoded, Problem> {
    Ok(match kind {
        "BGPClusterConfig" => {
            let (config, faults) = values::cluster_config(&ours::<BGPClusterConfigSpec>(place, value)?);
            (Some(Object::ClusterConfig(config)), faults)
        }
        "BGPPeerConfig" => {
            let (config, faults) = values::peer_config(&ours::<BGPPeerConfigSpec>(place, value)?);
            (config.map(Object::PeerConfig), faults)
        }
        "BGPFilter" => {
            let (filter, faults) = values::filter::filter(name, &ours::<BGPFilterSpec>(place, value)?);
            (filter.map(|filter| Object::Filter(Arc::new(filter))), faults)
        }
        "BGPNodeOverride" => {
            let (overrides, faults) = values::node_override(&ours::<BGPNodeOverrideSpec>(place, value)?);
            (Some(Object::NodeOverride(overrides)), faults)
        }
        "BGPAdvertisement" => {
            let (says, faults) = values::advertisement(&ours::<BGPAdvertisementSpec>(place, value)?);
            (says.map(Object::Advertisement), faults)
        }
        _ => return Err(Problem::new(place, format!("{API_VERSION} has no such kind"))),
    })
}

/// Brackets in comments and texts count, too: there, as many are closed as opened, or it is not a thousand.
fn is_nested_too_deeply(text: &str) -> bool {
    let mut open: usize = 0;
    text.bytes().any(|octet| {
        match octet {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        open > MOST_OPEN
    })
}

/// The spec of an object of ours. The schemas know no nulls: `asn:` without a value is half a line.
fn ours<S: DeserializeOwned>(place: &str, value: &Value) -> Result<S, Problem> {
    if let Some(field) = value.get("spec").and_then(|spec| null_in("spec".to_owned(), spec)) {
        return Err(Problem::new(place, format!("{field}: null: give it a value or leave it out")));
    }
    Ok(typed::<Envelope<S>>(place, value)?.spec)
}

/// Where a null stands in what an object says.
pub(super) fn null_in(field: String, value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(field),
        Value::Sequence(items) => {
            items.iter().enumerate().find_map(|(at, item)| null_in(format!("{field}[{at}]"), item))
        }
        Value::Mapping(fields) => fields
            .iter()
            .find_map(|(key, value)| null_in(format!("{field}.{}", key.as_str().unwrap_or("?")), value)),
        _ => None,
    }
}

/// Errors begin with the path of the field.
pub(super) fn typed<T: DeserializeOwned>(place: &str, value: &Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let what = error.into_inner().to_string();
        Problem::new(place, if path == "." { what } else { format!("{path}: {what}") })
    })
}

fn is_empty_list(items: &Value) -> bool {
    items.as_sequence().is_some_and(Vec::is_empty)
}

/// A DNS subdomain, as Kubernetes asks for (RFC 1123).
fn is_name(name: &str) -> bool {
    let is_alphanumeric = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit();
    let is_label = |label: &str| {
        let octets = label.as_bytes();
        let ends = [octets.first(), octets.last()];
        ends.into_iter().all(|end| end.is_some_and(|octet| is_alphanumeric(*octet)))
            && octets.iter().all(|octet| is_alphanumeric(*octet) || *octet == b'-')
    };
    name.len() <= MOST_NAME_OCTETS && name.split('.').all(is_label)
}

/// A DNS label, as Kubernetes asks for.
fn is_namespace(name: &str) -> bool {
    is_name(name) && !name.contains('.') && name.len() <= MOST_NAMESPACE_OCTETS
}

#[cfg(test)]
mod tests;
