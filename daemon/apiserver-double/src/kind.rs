//! The kinds that a server serves: those that every cluster has and this project uses, and what
//! CustomResourceDefinitions add.

use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::admission;
use crate::schema::Schema;

/// Group and plural name: what a path, a role and an error message name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// Empty for the core group.
    pub group: Arc<str>,
    /// As in paths: `pods`.
    pub plural: Arc<str>,
}

impl Resource {
    /// Of these.
    pub fn new(group: &str, plural: &str) -> Resource {
        Resource { group: group.into(), plural: plural.into() }
    }
}

impl fmt::Display for Resource {
    /// As error messages name it: `pods`, `networkpolicies.networking.k8s.io`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.group {
            "" => write!(f, "{}", self.plural),
            group => write!(f, "{}.{group}", self.plural),
        }
    }
}

/// Namespace and name; the namespace is empty for what is in none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Empty: the object belongs to the cluster.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl Key {
    /// Of these.
    pub fn new(namespace: &str, name: &str) -> Key {
        Key { namespace: namespace.into(), name: name.into() }
    }
}

/// A kind of objects.
#[derive(Debug, Clone, PartialEq)]
pub struct Kind {
    /// Where it is served.
    pub resource: Resource,
    /// `Pod`.
    pub kind: String,
    /// `PodList`.
    pub list_kind: String,
    /// `pod`.
    pub singular: String,
    /// `po`.
    pub short_names: Vec<String>,
    /// `all`.
    pub categories: Vec<String>,
    /// Whether its objects are in namespaces.
    pub is_namespaced: bool,
    /// Whether a CustomResourceDefinition made it. Lists of such kinds repeat kind and apiVersion in each item and tell
    /// their metadata last; lists of built-in kinds do neither.
    pub is_custom: bool,
    /// Whose objects these are in truth: `events.k8s.io` shows those of the core group in other words.
    pub shows: Option<Resource>,
    /// At least one, one of them stored.
    pub versions: Vec<Version>,
}

/// One version of a kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// `v1`.
    pub name: String,
    /// Whether paths with it are answered.
    pub is_served: bool,
    /// Whether objects are kept in it.
    pub is_stored: bool,
    /// Whether `status` is a subresource: then it is written there and only there.
    pub has_status: bool,
    /// `openAPIV3Schema` of a CustomResourceDefinition.
    pub schema: Option<Schema>,
    /// `additionalPrinterColumns` of a CustomResourceDefinition.
    pub columns: Vec<Value>,
}

impl Kind {
    /// Where its objects are kept.
    pub fn stored_at(&self) -> &Resource {
        self.shows.as_ref().unwrap_or(&self.resource)
    }

    /// The version of that name, if it is served.
    pub fn served(&self, version: &str) -> Option<&Version> {
        self.versions.iter().find(|candidate| candidate.is_served && candidate.name == version)
    }

    /// The version in which objects are kept.
    pub fn stored_version(&self) -> &str {
        self.versions.iter().find(|version| version.is_stored).map_or("v1", |version| &version.name)
    }

    /// `v1`, or `group/version`.
    pub fn api_version(&self, version: &str) -> String {
        match &*self.resource.group {
            "" => version.to_owned(),
            group => format!("{group}/{version}"),
        }
    }

    /// `apiVersion` of the objects that are kept.
    pub fn stored_api_version(&self) -> String {
        self.api_version(self.stored_version())
    }

    /// The kinds of every cluster.
    pub fn built_in() -> Vec<Kind> {
        let events_of_core = Resource::new("", "events");
        vec![
            built_in("", "v1", "Node", "nodes", Scope::Cluster, &["no"], StatusPart::Own),
            built_in("", "v1", "Namespace", "namespaces", Scope::Cluster, &["ns"], StatusPart::Own),
            Kind {
                categories: vec!["all".to_owned()],
                ..built_in("", "v1", "Pod", "pods", Scope::Namespaced, &["po"], StatusPart::Own)
            },
            built_in("", "v1", "Service", "services", Scope::Namespaced, &["svc"], StatusPart::Own),
            built_in(
                "discovery.k8s.io",
                "v1",
                "EndpointSlice",
                "endpointslices",
                Scope::Namespaced,
                &[],
                StatusPart::None,
            ),
            built_in("", "v1", "Event", "events", Scope::Namespaced, &["ev"], StatusPart::None),
            built_in("", "v1", "Secret", "secrets", Scope::Namespaced, &[], StatusPart::None),
            Kind {
                shows: Some(events_of_core),
                ..built_in(
                    "events.k8s.io",
                    "v1",
                    "Event",
                    "events",
                    Scope::Namespaced,
                    &["ev"],
                    StatusPart::None,
                )
            },
            built_in(
                "networking.k8s.io",
                "v1",
                "NetworkPolicy",
                "networkpolicies",
                Scope::Namespaced,
                &["netpol"],
                StatusPart::None,
            ),
            built_in(
                DEFINITIONS.0,
                "v1",
                "CustomResourceDefinition",
                DEFINITIONS.1,
                Scope::Cluster,
                &["crd", "crds"],
                StatusPart::Own,
            ),
            built_in(
                "",
                "v1",
                "ServiceAccount",
                "serviceaccounts",
                Scope::Namespaced,
                &["sa"],
                StatusPart::None,
            ),
            built_in("apps", "v1", "DaemonSet", "daemonsets", Scope::Namespaced, &["ds"], StatusPart::Own),
            built_in(RBAC, "v1", "ClusterRole", "clusterroles", Scope::Cluster, &[], StatusPart::None),
            built_in(
                RBAC,
                "v1",
                "ClusterRoleBinding",
                "clusterrolebindings",
                Scope::Cluster,
                &[],
                StatusPart::None,
            ),
            built_in(RBAC, "v1", "Role", "roles", Scope::Namespaced, &[], StatusPart::None),
            built_in(RBAC, "v1", "RoleBinding", "rolebindings", Scope::Namespaced, &[], StatusPart::None),
            built_in(
                admission::GROUP,
                "v1",
                "ValidatingAdmissionPolicy",
                admission::POLICIES,
                Scope::Cluster,
                &[],
                StatusPart::Own,
            ),
            built_in(
                admission::GROUP,
                "v1",
                "ValidatingAdmissionPolicyBinding",
                admission::BINDINGS,
                Scope::Cluster,
                &[],
                StatusPart::None,
            ),
        ]
    }

    /// What a CustomResourceDefinition defines. `None` where it lacks what every definition has.
    pub fn defined_by(definition: &Value) -> Option<Kind> {
        let spec = definition.get("spec")?;
        let names = spec.get("names")?;
        let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
        let texts = |field: &str| -> Vec<String> {
            let items = names.get(field).and_then(Value::as_array).into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let kind = text(names, "kind")?;
        let versions: Vec<Version> = spec
            .get("versions")?
            .as_array()?
            .iter()
            .filter_map(|version| {
                Some(Version {
                    name: text(version, "name")?,
                    is_served: version.get("served").and_then(Value::as_bool).unwrap_or(false),
                    is_stored: version.get("storage").and_then(Value::as_bool).unwrap_or(false),
                    has_status: version.pointer("/subresources/status").is_some(),
                    schema: version.pointer("/schema/openAPIV3Schema").map(Schema::new),
                    columns: version
                        .get("additionalPrinterColumns")
                        .and_then(Value::as_array)
                        .cloned()
                        .unwrap_or_default(),
                })
            })
            .collect();
        versions.iter().find(|version| version.is_stored)?;
        Some(Kind {
            resource: Resource::new(spec.get("group")?.as_str()?, names.get("plural")?.as_str()?),
            list_kind: text(names, "listKind").unwrap_or_else(|| format!("{kind}List")),
            singular: text(names, "singular").unwrap_or_else(|| kind.to_lowercase()),
            kind,
            short_names: texts("shortNames"),
            categories: texts("categories"),
            is_namespaced: spec.get("scope")? == "Namespaced",
            is_custom: true,
            shows: None,
            versions,
        })
    }
}

/// Group and plural of CustomResourceDefinitions.
pub(crate) const DEFINITIONS: (&str, &str) = ("apiextensions.k8s.io", "customresourcedefinitions");
const RBAC: &str = "rbac.authorization.k8s.io";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Cluster,
    Namespaced,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum StatusPart {
    Own,
    None,
}

fn built_in(
    group: &str,
    version: &str,
    kind: &str,
    plural: &str,
    scope: Scope,
    short_names: &[&str],
    status: StatusPart,
) -> Kind {
    Kind {
        resource: Resource::new(group, plural),
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        singular: kind.to_lowercase(),
        short_names: short_names.iter().map(|&name| name.to_owned()).collect(),
        categories: Vec::new(),
        is_namespaced: scope == Scope::Namespaced,
        is_custom: false,
        shows: None,
        versions: vec![Version {
            name: version.to_owned(),
            is_served: true,
            is_stored: true,
            has_status: status == StatusPart::Own,
            schema: None,
            columns: Vec::new(),
        }],
    }
}

/// What the server itself writes into a definition once it serves it: accepted names, conditions, stored versions.
pub(crate) fn established(definition: &mut Value, now: &str) {
    let Some(kind) = Kind::defined_by(definition) else { return };
    if definition.pointer("/status/acceptedNames/kind").is_some_and(|name| *name == kind.kind) {
        return;
    }
    let names = definition.pointer("/spec/names").cloned().unwrap_or_default();
    let condition = |name: &str, reason: &str, message: &str| json!({"type": name, "status": "True", "lastTransitionTime": now, "reason": reason, "message": message});
    if let Some(fields) = definition.as_object_mut() {
        let status = json!({
            "acceptedNames": names,
            "conditions": [
                condition("NamesAccepted", "NoConflicts", "no conflicts found"),
                condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
            ],
            "storedVersions": [kind.stored_version()],
        });
        fields.insert("status".to_owned(), status);
    }
}

/// The fields that are there even when empty, because the Go type has no pointer at that place: bookmarks of built-in
/// kinds show them.
pub(crate) fn empty_fields(kind: &Kind) -> &'static str {
    match (&*kind.resource.group, kind.kind.as_str()) {
        ("", "Pod") => r#","spec":{"containers":null},"status":{}"#,
        ("", "Node") => {
            r#","spec":{},"status":{"daemonEndpoints":{"kubeletEndpoint":{"Port":0}},"nodeInfo":{"machineID":"","systemUUID":"","bootID":"","kernelVersion":"","osImage":"","containerRuntimeVersion":"","kubeletVersion":"","kubeProxyVersion":"","operatingSystem":"","architecture":""}}"#
        }
        ("", "Namespace") => r#","spec":{},"status":{}"#,
        ("", "Service") => r#","spec":{},"status":{"loadBalancer":{}}"#,
        ("discovery.k8s.io", "EndpointSlice") => r#","addressType":"","endpoints":null,"ports":null"#,
        ("networking.k8s.io", "NetworkPolicy") => r#","spec":{"podSelector":{}}"#,
        ("", "Event") => {
            r#","involvedObject":{},"source":{},"firstTimestamp":null,"lastTimestamp":null,"eventTime":null,"reportingComponent":"","reportingInstance":"""#
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_without_a_stored_version_defines_nothing() {
        let mut definition = json!({"spec": {"group": "cambric.dev", "scope": "Cluster",
            "names": {"kind": "Thing", "plural": "things", "shortNames": ["th"]},
            "versions": [{"name": "v1", "served": true, "storage": false}]}});
        assert_eq!(Kind::defined_by(&definition), None);
        definition["spec"]["versions"][0]["storage"] = json!(true);
        let kind = Kind::defined_by(&definition).expect("it is whole now");
        assert_eq!(kind.stored_api_version(), "cambric.dev/v1");
        assert_eq!((kind.list_kind.as_str(), kind.singular.as_str()), ("ThingList", "thing"));
        assert!(!kind.is_namespaced);
    }

    #[test]
    fn empty_fields_continue_an_object() {
        for kind in Kind::built_in() {
            let text = format!("{{\"metadata\":{{}}{}}}", empty_fields(&kind));
            serde_json::from_str::<Value>(&text).expect("it is JSON");
        }
    }
}
