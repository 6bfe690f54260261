//! What the server itself writes into objects: identity, status where it is not the client's to write, generation.
//!
//! `k8s.io/apiserver/pkg/registry/rest` (`BeforeCreate`, `BeforeUpdate`) and the strategies of the kinds.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use serde_json::{Map, Value, json};

use crate::kind::{Kind, Version};
use crate::store;

/// Fields of metadata that only the server writes.
const OF_SERVER: [&str; 8] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "name",
    "namespace",
    "selfLink",
    "uid",
];

fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    match &mut object["metadata"] {
        Value::Object(fields) => fields,
        _ => unreachable!("it was made an object above"),
    }
}

/// Gives a name to what only has the beginning of one.
pub(super) fn name(object: &mut Value) {
    let metadata = metadata(object);
    let given = metadata.get("name").and_then(Value::as_str).unwrap_or_default();
    let Some(start) = metadata.get("generateName").and_then(Value::as_str).filter(|_| given.is_empty())
    else {
        return;
    };
    // Five letters of those that make no words (`k8s.io/apimachinery/pkg/util/rand`).
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut random = RandomState::new().build_hasher().finish();
    let mut name: String = start.chars().take(58).collect();
    for _ in 0..5 {
        let count = LETTERS.len() as u64;
        name.push(char::from(LETTERS[usize::try_from(random % count).unwrap_or(0)]));
        random /= count;
    }
    metadata.insert("name".to_owned(), json!(name));
}

/// Whether the kind counts changes of its spec.
fn has_generation(kind: &Kind) -> bool {
    const COUNTED: [&str; 4] = ["Pod", "NetworkPolicy", "DaemonSet", "CustomResourceDefinition"];
    kind.is_custom || COUNTED.contains(&kind.kind.as_str())
}

/// A new object.
pub(super) fn created(kind: &Kind, version: &Version, namespace: &str, object: &mut Value) {
    let name = object["metadata"].get("name").cloned();
    let metadata = metadata(object);
    for field in OF_SERVER.iter().chain(&["resourceVersion", "managedFields"]) {
        // What an apply has noted stays.
        if *field != "managedFields" {
            metadata.remove(*field);
        }
    }
    metadata.extend(name.map(|name| ("name".to_owned(), name)));
    if !namespace.is_empty() {
        metadata.insert("namespace".to_owned(), json!(namespace));
    }
    metadata.insert("uid".to_owned(), json!(store::new_uid()));
    metadata.insert("creationTimestamp".to_owned(), json!(store::now()));
    if has_generation(kind) {
        metadata.insert("generation".to_owned(), json!(1));
    }
    let name = metadata.get("name").cloned().unwrap_or_default();
    if let Some(fields) = object.as_object_mut() {
        match kind.kind.as_str() {
            // kubelets register their nodes with a status.
            "Node" if !kind.is_custom => {}
            "Pod" if !kind.is_custom => drop(fields.insert("status".to_owned(), json!({"phase": "Pending"}))),
            "Namespace" if !kind.is_custom => {
                fields.insert("spec".to_owned(), json!({"finalizers": ["kubernetes"]}));
                fields.insert("status".to_owned(), json!({"phase": "Active"}));
                object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            }
            _ if version.has_status => drop(fields.remove("status")),
            _ => {}
        }
    }
    defaults(kind, version, object);
}

/// What replaces `old`.
pub(super) fn updated(kind: &Kind, version: &Version, subresource: &str, old: &Value, new: &mut Value) {
    let none = Map::new();
    let before = old["metadata"].as_object().unwrap_or(&none);
    if subresource == "status" {
        let status = new.get("status").cloned();
        let metadata = new["metadata"].clone();
        new.clone_from(old);
        if let (Some(fields), Some(status)) = (new.as_object_mut(), status) {
            fields.insert("status".to_owned(), status);
        } else if let Some(fields) = new.as_object_mut() {
            fields.remove("status");
        }
        // Labels and annotations of built-in kinds may be changed here, too; those of custom ones may not.
        if kind.is_custom {
            copy_field(&metadata, &mut new["metadata"], "managedFields");
        } else {
            new["metadata"] = metadata;
        }
    } else if version.has_status {
        copy_field(old, new, "status");
    }
    let fields = metadata(new);
    for field in OF_SERVER {
        fields.remove(field);
        fields.extend(before.get(field).map(|value| (field.to_owned(), value.clone())));
    }
    fields.remove("resourceVersion");
    fields
        .extend(before.get("resourceVersion").map(|version| ("resourceVersion".to_owned(), version.clone())));
    defaults(kind, version, new);
    count_generation(kind, version, old, new);
}

/// What an admin puts in the place of `old`, status and all.
pub(super) fn forced(kind: &Kind, version: &Version, new: &mut Value, old: Option<&Value>) {
    let Some(old) = old else {
        if has_generation(kind) {
            metadata(new).entry("generation").or_insert(json!(1));
        }
        return;
    };
    let fields = metadata(new);
    for field in ["uid", "creationTimestamp", "generation"] {
        if let Some(kept) = old["metadata"].get(field) {
            fields.insert(field.to_owned(), kept.clone());
        }
    }
    count_generation(kind, version, old, new);
}

fn count_generation(kind: &Kind, version: &Version, old: &Value, new: &mut Value) {
    if !has_generation(kind) {
        return;
    }
    let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
    if is_spec_same(version, old, new) {
        new["metadata"]["generation"] = json!(generation.max(1));
    } else {
        new["metadata"]["generation"] = json!(generation + 1);
    }
}

fn is_spec_same(version: &Version, old: &Value, new: &Value) -> bool {
    let none = Map::new();
    let [old, new] = [old, new].map(|object| {
        let fields = object.as_object().unwrap_or(&none).iter();
        let is_counted = |name: &str| {
            !(name == "metadata" || name == "apiVersion" || name == "status" && version.has_status)
        };
        fields.filter(|(name, _)| is_counted(name)).collect::<Vec<_>>()
    });
    old == new
}

fn copy_field(from: &Value, to: &mut Value, field: &str) {
    let Some(fields) = to.as_object_mut() else { return };
    match from.get(field) {
        Some(value) => drop(fields.insert(field.to_owned(), value.clone())),
        None => drop(fields.remove(field)),
    }
}

fn defaults(kind: &Kind, version: &Version, object: &mut Value) {
    if let Some(schema) = &version.schema {
        schema.fill_defaults(object);
        return;
    }
    match kind.kind.as_str() {
        "NetworkPolicy" => {
            let spec = &mut object["spec"];
            let has_egress = spec["egress"].as_array().is_some_and(|rules| !rules.is_empty());
            if spec["policyTypes"].as_array().is_none_or(Vec::is_empty) {
                spec["policyTypes"] =
                    if has_egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
            }
            for direction in ["ingress", "egress"] {
                for rule in spec[direction].as_array_mut().into_iter().flatten() {
                    for port in rule["ports"].as_array_mut().into_iter().flatten() {
                        default(port, "protocol", "TCP");
                    }
                    remove_null(rule, "ports");
                }
                remove_null(spec, direction);
            }
        }
        "Pod" => {
            default(&mut object["spec"], "restartPolicy", "Always");
            default(&mut object["spec"], "dnsPolicy", "ClusterFirst");
            if object["spec"].get("terminationGracePeriodSeconds").is_none() {
                object["spec"]["terminationGracePeriodSeconds"] = json!(30);
            }
            for container in object["spec"]["containers"].as_array_mut().into_iter().flatten() {
                for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                    default(port, "protocol", "TCP");
                }
            }
        }
        "ClusterRoleBinding" | "RoleBinding" => {
            for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
                if subject["kind"] != "ServiceAccount" {
                    default(subject, "apiGroup", "rbac.authorization.k8s.io");
                }
            }
            default(&mut object["roleRef"], "apiGroup", "rbac.authorization.k8s.io");
        }
        _ => {}
    }
}

fn default(object: &mut Value, field: &str, value: &str) {
    if object.get(field).is_none_or(|present| present == "") {
        object[field] = json!(value);
    }
}

fn remove_null(object: &mut Value, field: &str) {
    if let Some(fields) = object.as_object_mut()
        && fields.get(field).is_some_and(Value::is_null)
    {
        fields.remove(field);
    }
}

/// Whether there is nothing to keep: only times of owners differ, if anything.
pub(super) fn is_same(old: &Value, new: &Value) -> bool {
    fn timeless(object: &Value) -> Value {
        let mut object = object.clone();
        for entry in
            object.pointer_mut("/metadata/managedFields").and_then(Value::as_array_mut).into_iter().flatten()
        {
            if let Some(fields) = entry.as_object_mut() {
                fields.remove("time");
            }
        }
        object
    }
    timeless(old) == timeless(new)
}
