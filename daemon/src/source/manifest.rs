//! From the text of one manifest file to objects.
//!
//! A document that is no business of ours is passed over. One that cannot be read is a fault: nobody
//! knows what it would have said, so whoever reads the file holds on to what he knew before. So is one with a
//! wrong value, but what else it says is known. One that can be read, but is of a kind to come, is refused and
//! hides nothing.

use std::io;
use std::sync::Arc;

use cambric_policy::change::Key;
use k8s_openapi::api::core::v1;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_yaml_ng::Value;

use super::typing_errors::{self, TO_COME};
use super::{network_policy, pod};
use crate::contradictions::{Claimant, Entry};
use crate::kinds::{API_VERSION, BGPClusterConfigSpec, BGPNodeOverrideSpec, BGPPeerConfigSpec, GROUP};
use crate::objects::{Kind, Object, Problem};
use crate::values::{self, Costs, Fault};

/// The longest name Kubernetes takes.
const MOST_NAME_OCTETS: usize = 253;
/// The longest name of a namespace: it is a DNS label (RFC 1123).
const MOST_NAMESPACE_OCTETS: usize = 63;
/// Where an object is that does not say it.
const DEFAULT_NAMESPACE: &str = "default";
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
                    if let Err(fault) = manifest.decode_document(file, &place, &value) {
                        manifest.faults.push((fault, costs_of(&value)));
                    }
                }
                Err(error) => {
                    // After a syntax error the rest of the file cannot be told apart.
                    manifest.faults.push((Problem::new(place, error.to_string()), Costs::Rest));
                    break;
                }
            }
        }
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
        let fault = Problem::new(file, format!("cannot be read: {error}"));
        Manifest { faults: vec![(fault, Costs::All)], ..Manifest::default() }
    }

    fn decode_document(&mut self, file: &str, place: &str, value: &Value) -> Result<(), Problem> {
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
            self.notices.push(Problem::new(format!("{place}: {kind} {name}"), what));
            return Ok(());
        }
        // What other parts of a cluster are made of is no business of ours.
        if own.is_none() && api_version.split('/').next() != Some(GROUP) {
            return Ok(());
        }
        let Metadata { name, namespace } = metadata.unwrap_or_default();
        let name = name.ok_or_else(|| Problem::new(place, format!("{kind}: metadata.name is missing")))?;
        let may_have_dots = own != Some(Kind::Namespace);
        if !(if may_have_dots { is_name(&name) } else { is_namespace(&name) }) {
            let dots = if may_have_dots { ", '-' and '.'" } else { " and '-'" };
            let what = format!("small letters, digits{dots}, a letter or digit at both ends");
            return Err(Problem::new(place, format!("{kind}: metadata.name: {name:?}: {what}")));
        }
        let namespace = namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
        let is_in_one = matches!(own, Some(Kind::Pod | Kind::NetworkPolicy));
        if is_in_one && !is_namespace(namespace) {
            let what = "small letters, digits and '-', a letter or digit at both ends, at most 63";
            return Err(Problem::new(
                place,
                format!("{kind} {name}: metadata.namespace: {namespace:?}: {what}"),
            ));
        }
        let key = Key::new(namespace, &name);
        let name = if is_in_one { key.to_string() } else { name };
        let place = format!("{place}: {kind} {name}");
        if let Some(what) = typing_errors::of_object(own, value) {
            return Err(Problem::new(place, what));
        }
        if own.is_none() && api_version != API_VERSION {
            let what = format!("apiVersion: {api_version:?}: this version serves {API_VERSION}");
            return Err(Problem::new(place, what));
        }
        if own.is_none() && TO_COME.contains(&kind.as_str()) {
            let what = "NotImplemented: this version does not serve this kind";
            self.notices.push(Problem::new(place, what));
            return Ok(());
        }
        let (object, faults) = match own {
            Some(own) => of_kubernetes(own, key, &place, value)?,
            None => of_ours(&kind, &place, value)?,
        };
        let can_be_used = !faults.iter().any(|fault| fault.costs.hides_something());
        let faults = faults.into_iter().map(|fault| (Problem::new(place.clone(), fault.what), fault.costs));
        self.faults.extend(faults);
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
    let items = document.get("items").and_then(Value::as_sequence);
    let is_list = text(document, "kind") == "List";
    if is_of_policies(document) || (is_list && items.is_some_and(|items| items.iter().all(is_of_policies))) {
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
        (network_policy::API_VERSION, "NetworkPolicy") => Some(Kind::NetworkPolicy),
        _ => None,
    }
}

/// Whether its items may be objects that count.
fn is_list(api_version: &str, kind: &str) -> bool {
    match api_version {
        "v1" => matches!(kind, "List" | "NodeList" | "PodList" | "NamespaceList"),
        network_policy::API_VERSION => kind == "NetworkPolicyList",
        _ => false,
    }
}

/// What an object says, if it can be used, and what is wrong with it.
type Decoded = (Option<Object>, Vec<Fault>);

fn of_kubernetes(kind: Kind, key: Key, place: &str, value: &Value) -> Result<Decoded, Problem> {
    let (object, faults) = match kind {
        Kind::Pod => {
            let (pod, faults) = pod::decode(place, value)?;
            (Object::Pod(key, Arc::new(pod)), faults)
        }
        Kind::Namespace => {
            (Object::Namespace(key.name, Arc::new(typed::<v1::Namespace>(place, value)?)), Vec::new())
        }
        Kind::NetworkPolicy => {
            let (policy, faults) = network_policy::decode(value).map_err(|what| Problem::new(place, what))?;
            (Object::NetworkPolicy(key, Arc::new(policy)), faults)
        }
        _ => {
            let (node, faults) = values::node(&typed::<v1::Node>(place, value)?);
            (Object::Node(node), faults)
        }
    };
    Ok((Some(object), faults))
}

fn of_ours(kind: &str, place: &str, value: &Value) -> Result<Decoded, Problem> {
    Ok(match kind {
        "BGPClusterConfig" => {
            let (config, faults) = values::cluster_config(&ours::<BGPClusterConfigSpec>(place, value)?);
            (Some(Object::ClusterConfig(config)), faults)
        }
        "BGPPeerConfig" => {
            let (config, faults) = values::peer_config(&ours::<BGPPeerConfigSpec>(place, value)?);
            (config.map(Object::PeerConfig), faults)
        }
        "BGPNodeOverride" => {
            let (overrides, faults) = values::node_override(&ours::<BGPNodeOverrideSpec>(place, value)?);
            (Some(Object::NodeOverride(overrides)), faults)
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
mod tests {
    use super::*;

    fn decode(text: &str) -> (Manifest, Vec<String>) {
        let manifest = Manifest::decode("a.yaml", text);
        let faults = manifest.faults.iter().map(|(fault, _)| fault.to_string()).collect();
        (manifest, faults)
    }

    fn ours(kind: &str, spec: &str) -> String {
        format!("apiVersion: cambric.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n")
    }

    #[test]
    fn documents_of_one_file_are_told_apart_and_foreign_kinds_passed_over() {
        let (manifest, faults) = decode(
            "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nspec: {podCIDRs: [10.1.0.0/24]}\n---\n---\n\
             apiVersion: apps/v1\nkind: Deployment\nspec: {replicas: many}\n---\n\
             apiVersion: v1\nkind: List\nitems: []\n---\n\
             apiVersion: cambric.dev/v1alpha1\nkind: BGPPeerConfig\nmetadata: {name: tor}\nspec: {holdTimeSeconds: 9}\n",
        );
        assert_eq!(faults, Vec::<String>::new());
        let places: Vec<&str> = manifest.entries.iter().map(|entry| entry.place.as_str()).collect();
        assert_eq!(places, ["a.yaml, document 1: Node n1", "a.yaml, document 5: BGPPeerConfig tor"]);
    }

    #[test]
    fn faults_name_place_and_field_and_the_rest_counts() {
        let (manifest, faults) = decode(&format!(
            "{}---\n{}---\nkind: Node\nmetadata: {{name: n1}}\n---\nhello\n---\n{}",
            ours("BGPPeerConfig", "{bfd: true}"),
            ours("BGPClusterConfg", "{}"),
            ours("BGPNodeOverride", "{asn: 65001}")
        ));
        assert_eq!(
            faults,
            [
                "a.yaml, document 1: BGPPeerConfig x: spec.bfd: unknown field `bfd`, expected one of \
                 `holdTimeSeconds`, `keepaliveSeconds`, `families`, `connect`, `import`, `export`, `maxPrefixes`",
                "a.yaml, document 2: BGPClusterConfg x: cambric.dev/v1alpha1 has no such kind",
                "a.yaml, document 3: missing field `apiVersion`",
                "a.yaml, document 4: invalid type: string \"hello\", expected an object with apiVersion and kind",
            ]
        );
        assert_eq!(manifest.entries.len(), 1);
    }

    #[test]
    fn decoding_errors_begin_with_the_path_of_the_field() {
        let peer = |fields: &str| {
            ours("BGPNodeOverride", &format!("{{peers: [{{name: a}}, {{name: b, {fields}}}]}}"))
        };
        for (text, says) in [
            (peer("asn: x"), "spec.peers[0]: missing field `address`"),
            (
                peer("asn: x").replace("{name: a}, ", ""),
                "spec.peers[0].asn: invalid type: string \"x\", expected u32",
            ),
            (
                ours("BGPPeerConfig", "{import: Some}"),
                "spec.import: unknown variant `Some`, expected `Declared` or `All`",
            ),
            (
                ours("BGPPeerConfig", "{holdTimeSeconds: 70000}"),
                "spec.holdTimeSeconds: invalid value: integer `70000`",
            ),
            (
                ours("BGPPeerConfig", "{holdTimeSeconds: }"),
                "spec.holdTimeSeconds: null: give it a value or leave it out",
            ),
            (ours("BGPPeerConfig", ""), "spec: null: give it a value or leave it out"),
            (ours("BGPPeerConfig", "{}").replace("spec", "spek"), "spek: unknown field `spek`"),
            (ours("BGPPeerConfig", "{}").replace("spec: {}\n", ""), "missing field `spec`"),
        ] {
            let (_, faults) = decode(&text);
            let start = format!("x: {says}");
            assert!(faults.len() == 1 && faults[0].contains(&start), "{faults:?} should say {says}");
        }
    }

    #[test]
    fn names_are_those_that_kubernetes_takes() {
        for bad in ["N1", "a_b", "-a", "a.", "''", "'a b'", "\"a\\e[2J\""] {
            let (_, faults) =
                decode(&ours("BGPNodeOverride", "{}").replace("name: x", &format!("name: {bad}")));
            assert!(faults.len() == 1 && faults[0].contains("metadata.name: "), "{bad}: {faults:?}");
            assert!(!faults[0].contains('\x1b'), "nothing of it steers a terminal");
        }
        assert_eq!(
            decode(&ours("BGPNodeOverride", "{}").replace("name: x", "name: rack-1.n1")).1,
            Vec::<String>::new()
        );
    }

    #[test]
    fn another_version_of_our_group_is_a_fault() {
        for version in ["cambric.dev/v1", "cambric.dev/"] {
            let (_, faults) = decode(&ours("BGPPeerConfig", "{}").replace("cambric.dev/v1alpha1", version));
            let says = format!("apiVersion: \"{version}\": this version serves cambric.dev/v1alpha1");
            assert!(faults.len() == 1 && faults[0].ends_with(&says), "{faults:?}");
        }
    }

    #[test]
    fn what_seems_to_be_meant_for_us_is_not_passed_over_for_a_typing_error() {
        let (node, peers) = (
            "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nspec: {podCIDRs: [10.1.0.0/24]}\nstatus: {addresses: [{type: InternalIP, address: 192.0.2.1}]}\n",
            ours("BGPNodeOverride", "{}"),
        );
        assert_eq!(decode(node).1, [""; 0]);
        for (good, old, new, says) in [
            (
                peers.as_str(),
                "cambric.dev/v1alpha1",
                "cambric.io/v1alpha1",
                "apiVersion: \"cambric.io/v1alpha1\": BGPNodeOverride is of cambric.dev/v1alpha1",
            ),
            (
                &peers,
                "cambric.dev/v1alpha1",
                "v1alpha1",
                "apiVersion: \"v1alpha1\": BGPNodeOverride is of cambric.dev/v1alpha1",
            ),
            (
                &peers,
                "cambric.dev/v1alpha1\nkind: BGPNodeOverride",
                "cambric.io/v1\nkind: BGPFilter",
                "apiVersion: \"cambric.io/v1\": BGPFilter is of",
            ),
            (&peers, "BGPNodeOverride", "bgpNodeOverride", "cambric.dev/v1alpha1 has no such kind"),
            (
                &peers,
                "metadata: {name: x}",
                "metadata: {name: x, lables: {}}",
                "metadata.lables: unknown field `lables`",
            ),
            (&peers, "spec: {}", "base: &a {asn: 1}\nspec: {<<: *a}", "spec.<<: merge keys are not served"),
            (node, "kind: Node", "kind: node", "apiVersion: \"v1\", kind: \"node\": a node is a Node of v1"),
            (
                node,
                "apiVersion: v1",
                "apiVersion: v1beta1",
                "apiVersion: \"v1beta1\", kind: \"Node\": a node is a Node of v1",
            ),
            (
                node,
                "podCIDRs",
                "podCIDRS",
                "spec.podCIDRS: unknown field `podCIDRS`, expected one of configSource,",
            ),
            (node, "podCIDRs", "podCidrs", "spec.podCidrs: unknown field `podCidrs`"),
            (node, "spec: {", "spek: {", "spek: unknown field `spek`, expected one of apiVersion, kind,"),
            (
                node,
                "type: InternalIP",
                "type: InternalIp",
                "status.addresses[0].type: \"InternalIp\": expected one of ExternalDNS,",
            ),
            (node, "address: 192", "adress: 192", "status.addresses[0].adress: unknown field `adress`"),
            (
                node,
                "spec: {podCIDRs: [10.1.0.0/24]}",
                "spec: {<<: {podCIDRs: [10.1.0.0/24]}}",
                "spec.<<: merge keys are not served",
            ),
            (POD, "kind: Pod", "kind: pod", "apiVersion: \"v1\", kind: \"pod\": a pod is a Pod of v1"),
            (POD, "apiVersion: v1", "apiVersion: core/v1", "kind: \"Pod\": a pod is a Pod of v1"),
            (POD, "status:", "stati:", "stati: unknown field `stati`, expected one of apiVersion, kind,"),
            (POD, "labels: {app: web}", "lables: {app: web}", "metadata.lables: unknown field `lables`"),
            (POD, "app: web", "app: 1", "metadata.labels.app: invalid type: integer `1`, expected a string"),
            (POD, "spec: {", "<<: {a: 1}\nspec: {", "<<: merge keys are not served"),
            (POD, "namespace: prod", "namespace: a.b", "Pod web: metadata.namespace: \"a.b\": small letters"),
            (NAMESPACE, "kind: Namespace", "kind: NameSpace", "a namespace is a Namespace of v1"),
            (
                NAMESPACE,
                "name: prod",
                "name: prod.eu",
                "metadata.name: \"prod.eu\": small letters, digits and",
            ),
            (NAMESPACE, "team: a", "team: [a]", "metadata.labels.team: invalid type: sequence"),
            (
                POLICY,
                "networking.k8s.io/v1",
                "extensions/v1beta1",
                "apiVersion: \"extensions/v1beta1\", kind: \"NetworkPolicy\": a policy is a NetworkPolicy of networking.k8s.io/v1",
            ),
            (POLICY, "networking.k8s.io/v1", "v1", "a policy is a NetworkPolicy of networking.k8s.io/v1"),
            (POLICY, "networking.k8s.io/v1", "networking.k8s.io", "a policy is a NetworkPolicy of"),
            (POLICY, "NetworkPolicy", "networkPolicy", "a policy is a NetworkPolicy of networking.k8s.io/v1"),
            (POLICY, "{name: deny}", "{name: deny, namspace: prod}", "metadata.namspace: unknown field"),
            (POLICY, "{name: deny}", "{<<: {namespace: prod}, name: deny}", "metadata.<<: unknown field"),
            (POLICY, "name: deny", "nam: deny", "NetworkPolicy: metadata.name is missing"),
        ] {
            assert!(good.contains(old), "{old}");
            let (manifest, faults) = decode(&good.replace(old, new));
            assert!(faults.len() == 1 && faults[0].contains(says), "{faults:?} should say {says}");
            assert!(manifest.hides_something() && manifest.entries.is_empty(), "{new}");
        }
    }

    const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: prod, labels: {app: web}}\n\
        spec: {containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}\n\
        status: {phase: Running, podIP: 10.1.0.7, podIPs: [{ip: 10.1.0.7}, {ip: 'fd00::7'}]}\n";
    const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: prod, labels: {team: a}}\n";
    const POLICY: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny}\n\
        spec: {podSelector: {}, policyTypes: [Ingress]}\n";

    #[test]
    fn objects_in_a_namespace_are_called_by_it() {
        let (manifest, faults) = decode(&[POD, NAMESPACE, POLICY].join("---\n"));
        assert_eq!(faults, [""; 0]);
        let places: Vec<&str> = manifest.entries.iter().map(|entry| entry.place.as_str()).collect();
        assert_eq!(
            places,
            [
                "a.yaml, document 1: Pod prod/web",
                "a.yaml, document 2: Namespace prod",
                "a.yaml, document 3: NetworkPolicy default/deny",
            ]
        );
    }

    #[test]
    fn an_address_of_a_pod_that_is_none_is_left_out() {
        let (manifest, faults) = decode(&POD.replace("'fd00::7'", "'fd00::g'"));
        let place = "a.yaml, document 1: Pod prod/web";
        assert_eq!(faults, [format!("{place}: status.podIPs[1].ip: \"fd00::g\": not an IP address")]);
        assert_eq!((manifest.entries.len(), manifest.hides_something()), (1, false));
    }

    #[test]
    fn status_of_a_pod_is_not_written_by_people_and_what_is_not_known_of_it_is_passed_over() {
        for (old, new, faults) in [
            ("phase: Running", "phase: Dreaming, colour: red, <<: {a: 1}", 0),
            ("phase: Running", "phase: Running, conditions: 7, startTime: soon", 0),
            ("{ip: 10.1.0.7}", "{ip: 10.1.0.7, family: IPv4}", 0),
            ("podIP: 10.1.0.7", "podIP: 10.1.0.700", 1),
            ("{ip: 10.1.0.7}", "{ip: 7}", 1),
            ("podIP: 10.1.0.7", "podIP: [10.1.0.7]", 1),
        ] {
            assert!(POD.contains(old), "{old}");
            let (manifest, told) = decode(&POD.replace(old, new));
            assert_eq!((manifest.entries.len(), manifest.hides_something()), (1, false), "{new}: {told:?}");
            assert_eq!(told.len(), faults, "{new}: {told:?}");
        }
    }

    #[test]
    fn what_policies_are_made_of_is_not_worth_the_sessions() {
        let lists = ["PodList", "NamespaceList", "NetworkPolicyList"].map(|kind| {
            let version = if kind == "NetworkPolicyList" { "networking.k8s.io/v1" } else { "v1" };
            format!("apiVersion: {version}\nkind: {kind}\nitems: [{{}}]\n")
        });
        let list = |items: &str| format!("apiVersion: v1\nkind: List\nitems: [{items}]\n");
        for text in lists.into_iter().chain([
            list("{kind: Pod}, {kind: NetworkPolicy}"),
            POD.replace("name: web", "name: [web]"),
            POD.replace("kind: Pod", "kind: pod"),
            POLICY.replace("networking.k8s.io/v1", "extensions/v1beta1"),
            NAMESPACE.replace("team: a", "team: [a]"),
        ]) {
            let (manifest, faults) = decode(&text);
            assert_eq!(faults.len(), 1, "{text}: {faults:?}");
            let hides = [Kind::Pod, Kind::NetworkPolicy, Kind::Node, Kind::BGPNodeOverride]
                .map(|kind| manifest.hides(kind));
            assert_eq!((hides, manifest.hides_all()), ([true, true, false, false], false), "{text}");
        }
        for text in [list("{kind: Pod}, {kind: Node}"), ours("Pod", "{}"), "kind: 7\n".to_owned()] {
            assert!(decode(&text).0.hides_all(), "{text}");
        }
    }

    #[test]
    fn kinds_of_others_are_no_business_of_ours() {
        for head in [
            "apiVersion: crd.projectcalico.org/v1\nkind: BGPFilter",
            "apiVersion: metallb.io/v1beta1\nkind: BGPAdvertisement",
            "apiVersion: config.openshift.io/v1\nkind: Node",
            "apiVersion: cilium.io/v2\nkind: CiliumBGPPeerConfig",
            "apiVersion: crd.projectcalico.org/v1\nkind: NetworkPolicy",
            "apiVersion: apps.openshift.io/v1\nkind: Pod",
        ] {
            assert_eq!(decode(&format!("{head}\nspec: {{<<: {{a: 1}}}}\n")).1, [""; 0], "{head}");
        }
    }

    /// 4 MiB of brackets would keep the parser busy for hours.
    #[test]
    fn brackets_are_not_nested_without_end() {
        let (manifest, faults) = decode(&"[".repeat(1 << 20));
        assert_eq!(faults, ["a.yaml: more than 1000 brackets are open at once"]);
        assert!(manifest.hides_something());
        let balanced = format!("{}---\n# {}\n", ours("BGPPeerConfig", "{}"), "[] {}".repeat(10_000));
        assert_eq!(decode(&balanced).1, [""; 0]);
    }

    #[test]
    fn a_kind_to_come_is_refused_and_is_no_fault() {
        let (manifest, faults) = decode(&ours("BGPFilter", "{}"));
        assert_eq!(faults, Vec::<String>::new());
        assert!(manifest.notices[0].what.starts_with("NotImplemented"), "{}", manifest.notices[0]);
        let admin = "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: x}\n";
        let (manifest, faults) = decode(admin);
        assert_eq!((faults, manifest.hides_something()), (Vec::new(), false));
        let says = "a.yaml, document 1: ClusterNetworkPolicy x: NotImplemented: this version enforces no policies of this kind";
        assert_eq!(manifest.notices[0].to_string(), says);
    }

    #[test]
    fn a_list_with_items_is_not_passed_over_in_silence() {
        let (_, faults) = decode("apiVersion: v1\nkind: List\nitems: [{kind: Node}]\n");
        assert_eq!(faults, ["a.yaml, document 1: List: its items must be documents of their own"]);
        for (version, kind) in
            [("v1", "PodList"), ("v1", "NamespaceList"), ("networking.k8s.io/v1", "NetworkPolicyList")]
        {
            let (_, faults) = decode(&format!("apiVersion: {version}\nkind: {kind}\nitems: [{{}}]\n"));
            let says = format!("a.yaml, document 1: {kind}: its items must be documents of their own");
            assert_eq!(faults, [says]);
        }
    }

    #[test]
    fn a_file_without_documents_is_told_apart_from_one_with_foreign_ones() {
        assert!(decode("").0.is_empty && decode("# nothing\n---\n").0.is_empty);
        assert!(!decode("apiVersion: v1\nkind: Pod\n").0.is_empty);
    }
}
