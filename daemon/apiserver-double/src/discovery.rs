//! What a server says about itself: groups, resources, version, schemas; as much as kubectl and kube-rs ask for.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::body::Bytes;
use serde_json::{Map, Value, json};

use crate::kind::{Kind, Version};

/// The version that this server says it is.
const MAJOR: &str = "1";
const MINOR: &str = "36";

/// An answer and what it is.
pub(crate) struct Answer {
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
}

impl From<Value> for Answer {
    fn from(value: Value) -> Answer {
        Answer { content_type: "application/json", body: Bytes::from(value.to_string()) }
    }
}

/// Answers a path that is of no resource. `None`: there is nothing at it.
pub(crate) fn answer(kinds: &[Arc<Kind>], path: &str, accept: &str) -> Option<Answer> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let value = match parts.as_slice() {
        ["api"] => json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        ["apis"] => {
            let groups = groups(kinds);
            let groups: Vec<Value> = groups.iter().map(|(name, versions)| group(name, versions)).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        ["apis", name] => {
            let groups = groups(kinds);
            let mut found = group(name, groups.get(name)?);
            found["kind"] = json!("APIGroup");
            found["apiVersion"] = json!("v1");
            found
        }
        ["api", version] => resources(kinds, "", version)?,
        ["apis", group, version] => resources(kinds, group, version)?,
        ["version"] => json!({"major": MAJOR, "minor": MINOR, "gitVersion": format!("v{MAJOR}.{MINOR}.0"),
            "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "",
            "compiler": "rustc", "platform": "linux/amd64"}),
        ["openapi", "v2"] => return Some(openapi_v2(accept)),
        ["openapi", "v3"] => {
            let paths: Map<String, Value> = group_versions(kinds)
                .into_iter()
                .map(|path| (path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}")})))
                .collect();
            json!({ "paths": paths })
        }
        ["openapi", "v3", "api", version] => openapi_v3(kinds, "", version)?,
        ["openapi", "v3", "apis", group, version] => openapi_v3(kinds, group, version)?,
        _ => return None,
    };
    Some(value.into())
}

/// Served versions by group, without the core group.
fn groups(kinds: &[Arc<Kind>]) -> BTreeMap<&str, Vec<&str>> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for kind in kinds.iter().filter(|kind| !kind.resource.group.is_empty()) {
        let versions = groups.entry(&kind.resource.group).or_default();
        for version in served(kind) {
            if !versions.contains(&version.name.as_str()) {
                versions.push(&version.name);
            }
        }
    }
    groups.retain(|_, versions| !versions.is_empty());
    groups
}

fn served(kind: &Kind) -> impl Iterator<Item = &Version> {
    kind.versions.iter().filter(|version| version.is_served)
}

fn group(name: &str, versions: &[&str]) -> Value {
    let entry = |version: &str| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    let entries: Vec<Value> = versions.iter().map(|version| entry(version)).collect();
    json!({"name": name, "versions": entries, "preferredVersion": entries.first()})
}

fn group_versions(kinds: &[Arc<Kind>]) -> Vec<String> {
    let mut paths = vec!["api/v1".to_owned()];
    for (group, versions) in groups(kinds) {
        paths.extend(versions.into_iter().map(|version| format!("apis/{group}/{version}")));
    }
    paths
}

fn of_version<'a>(
    kinds: &'a [Arc<Kind>],
    group: &'a str,
    version: &'a str,
) -> impl Iterator<Item = (&'a Kind, &'a Version)> {
    let of_group = kinds.iter().filter(move |kind| &*kind.resource.group == group);
    of_group.filter_map(move |kind| Some((kind.as_ref(), kind.served(version)?)))
}

fn resources(kinds: &[Arc<Kind>], group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for (kind, version) in of_version(kinds, group, version) {
        let mut resource = json!({"name": &*kind.resource.plural, "singularName": kind.singular, "namespaced": kind.is_namespaced,
            "kind": kind.kind, "storageVersionHash": "",
            "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]});
        for (field, names) in [("shortNames", &kind.short_names), ("categories", &kind.categories)] {
            if !names.is_empty() {
                resource[field] = json!(names);
            }
        }
        resources.push(resource);
        if version.has_status {
            resources.push(json!({"name": format!("{}/status", kind.resource.plural), "singularName": "",
                "namespaced": kind.is_namespaced, "kind": kind.kind, "verbs": ["get", "patch", "update"]}));
        }
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    (!resources.is_empty())
        .then(|| json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}))
}

/// A document without definitions: who finds none validates nothing by itself, and leaves it to the server.
fn openapi_v2(accept: &str) -> Answer {
    const TITLE: &str = "Kubernetes";
    if !accept.contains("protobuf") {
        let info = json!({"title": TITLE, "version": format!("v{MAJOR}.{MINOR}.0")});
        return json!({"swagger": "2.0", "info": info, "paths": {}, "definitions": {}}).into();
    }
    // `openapi.v2.Document` of gnostic: 1 is swagger, 2 is info, whose 1 is the title.
    let mut body = vec![0x0a, 3];
    body.extend_from_slice(b"2.0");
    body.extend_from_slice(&[0x12, 2 + 10, 0x0a, 10]);
    body.extend_from_slice(TITLE.as_bytes());
    // The name that clients ask by has an @, which Go does not take for a media type: answers have a dot.
    let content_type = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    Answer { content_type, body: Bytes::from(body) }
}

/// Schemas of the kinds that have one, for `kubectl explain`, and which parameters writes take: kubectl asks by this
/// whether the server checks fields itself.
fn openapi_v3(kinds: &[Arc<Kind>], group: &str, version: &str) -> Option<Value> {
    let mut schemas = Map::new();
    let mut paths = Map::new();
    let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    for (kind, of_version) in of_version(kinds, group, version) {
        let group_version_kind = json!({"group": group, "version": version, "kind": kind.kind});
        let mut parts: Vec<&str> = group.split('.').filter(|part| !part.is_empty()).collect();
        parts.reverse();
        parts.extend([version, &kind.kind]);
        let mut schema = match &of_version.schema {
            Some(schema) => schema.document().clone(),
            None => {
                json!({"type": "object", "description": kind.kind, "x-kubernetes-preserve-unknown-fields": true})
            }
        };
        schema["x-kubernetes-group-version-kind"] = json!([group_version_kind]);
        for field in ["apiVersion", "kind"] {
            schema["properties"][field] = json!({"type": "string"});
        }
        if schema["properties"].get("metadata").is_none() {
            schema["properties"]["metadata"] = json!({"type": "object"});
        }
        schemas.insert(parts.join("."), schema);
        let within = if kind.is_namespaced { "/namespaces/{namespace}" } else { "" };
        let path = format!("{root}{within}/{}", kind.resource.plural);
        let write = |action: &str| {
            let names = ["dryRun", "fieldManager", "fieldValidation"];
            let parameters = names.map(|name| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}}));
            json!({"parameters": parameters, "x-kubernetes-action": action, "x-kubernetes-group-version-kind": group_version_kind,
                "responses": {"200": {"description": "OK"}}})
        };
        let one = json!({"get": write("get"), "put": write("put"), "patch": write("patch"), "delete": write("delete")});
        paths.insert(format!("{path}/{{name}}"), one);
        paths.insert(path, json!({"get": write("list"), "post": write("post")}));
    }
    (!schemas.is_empty()).then(|| {
        json!({"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": format!("v{MAJOR}.{MINOR}.0")},
            "paths": paths, "components": {"schemas": schemas}})
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(path: &str) -> Option<Value> {
        let kinds: Vec<Arc<Kind>> = Kind::built_in().into_iter().map(Arc::new).collect();
        let answer = answer(&kinds, path, "application/json")?;
        serde_json::from_slice(&answer.body).ok()
    }

    #[test]
    fn groups_versions_and_resources_are_listed() {
        assert_eq!(ask("/api").expect("it is there")["versions"], json!(["v1"]));
        let groups = ask("/apis").expect("it is there");
        let names: Vec<&str> = groups["groups"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|group| group["name"].as_str())
            .collect();
        assert_eq!(
            names,
            [
                "admissionregistration.k8s.io",
                "apiextensions.k8s.io",
                "apps",
                "discovery.k8s.io",
                "events.k8s.io",
                "networking.k8s.io",
                "rbac.authorization.k8s.io"
            ]
        );
        let core = ask("/api/v1").expect("it is there");
        let resources = core["resources"].as_array().expect("a list");
        let nodes = resources.iter().find(|resource| resource["name"] == "nodes").expect("nodes are there");
        assert_eq!((&nodes["shortNames"], &nodes["namespaced"]), (&json!(["no"]), &json!(false)));
        assert!(resources.iter().any(|resource| resource["name"] == "nodes/status"));
        assert_eq!(ask("/apis/networking.k8s.io").expect("it is there")["preferredVersion"]["version"], "v1");
        assert_eq!(ask("/apis/nothing.here"), None);
        assert_eq!(ask("/apis/networking.k8s.io/v2"), None);
    }

    #[test]
    fn openapi_says_that_fields_are_validated_here() {
        let document = ask("/openapi/v3/apis/networking.k8s.io/v1").expect("it is there");
        let path = "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies/{name}";
        let parameters = &document["paths"][path]["patch"]["parameters"];
        assert!(
            parameters.as_array().is_some_and(|all| all.iter().any(|one| one["name"] == "fieldValidation"))
        );
    }
}
