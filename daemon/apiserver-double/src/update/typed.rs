//! Built-in kinds have the fields of their types in k8s-openapi, no others.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Event, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event as NewEvent;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::admission;
use crate::kind::Kind;

/// Drops what the kind does not have, and tells the paths.
///
/// # Errors
/// If a field has a value of another type.
pub(super) fn prune(kind: &Kind, object: &mut Value) -> Result<Vec<String>, String> {
    let through = match (&*kind.resource.group, kind.kind.as_str()) {
        ("apps", "DaemonSet") => through::<DaemonSet>,
        ("", "Node") => through::<Node>,
        ("", "Namespace") => through::<Namespace>,
        ("", "Pod") => through::<Pod>,
        ("", "Service") => through::<Service>,
        ("discovery.k8s.io", "EndpointSlice") => through::<EndpointSlice>,
        ("", "Event") => through::<Event>,
        ("", "ServiceAccount") => through::<ServiceAccount>,
        ("events.k8s.io", "Event") => through::<NewEvent>,
        ("networking.k8s.io", "NetworkPolicy") => through::<NetworkPolicy>,
        ("rbac.authorization.k8s.io", "ClusterRole") => through::<ClusterRole>,
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => through::<ClusterRoleBinding>,
        ("rbac.authorization.k8s.io", "Role") => through::<Role>,
        ("rbac.authorization.k8s.io", "RoleBinding") => through::<RoleBinding>,
        (admission::GROUP, "ValidatingAdmissionPolicy") => through::<ValidatingAdmissionPolicy>,
        (admission::GROUP, "ValidatingAdmissionPolicyBinding") => through::<ValidatingAdmissionPolicyBinding>,
        ("apiextensions.k8s.io", "CustomResourceDefinition") => through::<CustomResourceDefinition>,
        _ => return Ok(Vec::new()),
    };
    let mut unknown = Vec::new();
    keep(object, &through(object)?, "", &mut unknown);
    Ok(unknown)
}

/// Drops what metadata does not have, and tells the paths. Metadata of a wrong type is left for the checks to refuse.
pub(super) fn prune_metadata(object: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    if let Ok(known) = through::<ObjectMeta>(&object["metadata"]) {
        keep(&mut object["metadata"], &known, "metadata", &mut unknown);
    }
    unknown
}

fn through<T: DeserializeOwned + Serialize>(value: &Value) -> Result<Value, String> {
    let typed: T = T::deserialize(value).map_err(|error| error.to_string())?;
    serde_json::to_value(typed).map_err(|error| error.to_string())
}

/// Removes fields that `known` does not have. Values stay as they were written, times above all.
fn keep(value: &mut Value, known: &Value, path: &str, unknown: &mut Vec<String>) {
    match (value, known) {
        (Value::Object(fields), Value::Object(known)) => {
            fields.retain(|name, value| {
                let is_known = known.contains_key(name);
                if !is_known && !value.is_null() {
                    unknown.push(if path.is_empty() { name.clone() } else { format!("{path}.{name}") });
                }
                is_known
            });
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                keep(value, &known[name.as_str()], &path, unknown);
            }
        }
        (Value::Array(items), Value::Array(known)) if items.len() == known.len() => {
            for (index, (item, known)) in items.iter_mut().zip(known).enumerate() {
                keep(item, known, &format!("{path}[{index}]"), unknown);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_that_a_type_does_not_have_are_dropped() {
        let kinds = Kind::built_in();
        let node = kinds.iter().find(|kind| kind.kind == "Node").expect("it is built in");
        let mut object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "nam": 1, "labels": {"a/b": "c"}},
            "spec": {"podCIDR": "10.0.0.0/24", "taints": [{"key": "a", "effect": "NoSchedule", "foo": 1}], "podCidr": null}});
        let unknown = prune(node, &mut object).expect("its types are right");
        assert_eq!(unknown, ["metadata.nam", "spec.taints[0].foo"]);
        assert_eq!(
            object["spec"],
            json!({"podCIDR": "10.0.0.0/24", "taints": [{"key": "a", "effect": "NoSchedule"}]})
        );
        assert!(prune(node, &mut json!({"metadata": {}, "spec": {"podCIDR": 1}})).is_err());
    }
}
