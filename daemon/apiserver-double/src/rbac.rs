//! What roles allow (Kubernetes documentation, "Using RBAC Authorization").

use serde_json::Value;

/// What somebody wants to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes<'a> {
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) name: &'a str,
    /// Empty: all namespaces, or a resource that is in none.
    pub(crate) namespace: &'a str,
}

/// A role that somebody has.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    /// A `ClusterRole` or a `Role`.
    pub(crate) role: Value,
    /// Where it counts; `None`: everywhere.
    pub(crate) namespace: Option<String>,
}

/// What each subject of the bindings among these objects has by them.
pub(crate) fn grants(objects: &[Value]) -> Vec<(&Value, Grant)> {
    let bindings = objects.iter().filter_map(|binding| match binding["kind"].as_str() {
        Some("ClusterRoleBinding") => Some((binding, None)),
        Some("RoleBinding") => Some((binding, binding["metadata"]["namespace"].as_str())),
        _ => None,
    });
    bindings
        .filter_map(|(binding, namespace)| {
            let is_meant = |role: &&Value| {
                role["kind"] == binding["roleRef"]["kind"]
                    && role["metadata"]["name"] == binding["roleRef"]["name"]
                    // A ClusterRole has none, and a RoleBinding may name it.
                    && (role["kind"] == "ClusterRole" || role["metadata"]["namespace"].as_str() == namespace)
            };
            let role = objects.iter().find(is_meant)?.clone();
            Some((binding, Grant { role, namespace: namespace.map(str::to_owned) }))
        })
        .flat_map(|(binding, grant)| {
            let subjects = binding["subjects"].as_array().map(Vec::as_slice).unwrap_or_default();
            subjects.iter().map(move |subject| (subject, grant.clone()))
        })
        .collect()
}

/// Whether one of these allows it.
pub(crate) fn allows(grants: &[Grant], attributes: &Attributes<'_>) -> bool {
    let counts =
        |grant: &&Grant| grant.namespace.as_deref().is_none_or(|there| there == attributes.namespace);
    let rules = grants.iter().filter(counts).filter_map(|grant| grant.role["rules"].as_array()).flatten();
    rules.into_iter().any(|rule| rule_allows(rule, attributes))
}

fn rule_allows(rule: &Value, attributes: &Attributes<'_>) -> bool {
    let names = |field: &str| rule[field].as_array().map(Vec::as_slice).unwrap_or_default();
    let has = |field: &str, wanted: &str| names(field).iter().any(|name| name == wanted || name == "*");
    let resource = match attributes.subresource {
        "" => attributes.resource.to_owned(),
        subresource => format!("{}/{subresource}", attributes.resource),
    };
    let is_resource = has("resources", &resource)
        // `*/status` is that subresource of everything.
        || (!attributes.subresource.is_empty() && names("resources").iter().any(|name| *name == format!("*/{}", attributes.subresource)));
    // Rules with names do not speak of what has none yet: create, list, watch, deletecollection. A list with a field
    // selector on that name would be allowed; nobody here asks for one.
    let is_name = names("resourceNames").is_empty()
        || names("resourceNames").iter().any(|name| name == attributes.name);
    has("verbs", attributes.verb) && has("apiGroups", attributes.group) && is_resource && is_name
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_allow_what_they_name_and_nothing_else() {
        let role = json!({"rules": [
            {"apiGroups": [""], "resources": ["nodes", "nodes/status"], "verbs": ["get", "list", "patch"]},
            {"apiGroups": ["cambric.dev"], "resources": ["*"], "verbs": ["*"]},
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create"], "resourceNames": ["one"]},
            {"apiGroups": ["apps"], "resources": ["*/status"], "verbs": ["get"]},
        ]});
        let everywhere = [Grant { role: role.clone(), namespace: None }];
        let in_one = [Grant { role, namespace: Some("one".to_owned()) }];
        let cases = [
            ("list", "", "nodes", "", "", true),
            ("patch", "", "nodes", "status", "n1", true),
            ("delete", "", "nodes", "", "n1", false),
            ("list", "", "pods", "", "", false),
            ("list", "apps", "nodes", "", "", false),
            ("delete", "cambric.dev", "bgppeerconfigs", "", "x", true),
            ("update", "cambric.dev", "bgppeerconfigs", "status", "x", true),
            ("get", "", "configmaps", "", "one", true),
            ("get", "", "configmaps", "", "two", false),
            ("create", "", "configmaps", "", "", false),
            ("get", "apps", "daemonsets", "status", "x", true),
            ("get", "apps", "daemonsets", "", "x", false),
        ];
        for (verb, group, resource, subresource, name, expected) in cases {
            for (namespace, of_one) in [("", false), ("one", expected), ("two", false)] {
                let attributes = Attributes { verb, group, resource, subresource, name, namespace };
                assert_eq!(allows(&everywhere, &attributes), expected, "{attributes:?}");
                assert_eq!(allows(&in_one, &attributes), of_one, "in one namespace: {attributes:?}");
            }
        }
    }

    #[test]
    fn a_role_is_had_by_whom_a_binding_names_and_where_it_is() {
        let role = |kind: &str, namespace: Value| json!({"kind": kind, "metadata": {"name": "reader", "namespace": namespace}});
        let binding = |kind: &str, namespace: Value, role: &str| {
            json!({
                "kind": kind, "metadata": {"name": "reader", "namespace": namespace},
                "roleRef": {"kind": role, "name": "reader"},
                "subjects": [{"kind": "ServiceAccount", "namespace": "default", "name": "a"}],
            })
        };
        let objects = [
            role("ClusterRole", Value::Null),
            role("Role", json!("one")),
            role("Role", json!("two")),
            binding("ClusterRoleBinding", Value::Null, "ClusterRole"),
            binding("RoleBinding", json!("two"), "Role"),
            binding("RoleBinding", json!("three"), "ClusterRole"),
            binding("RoleBinding", json!("three"), "Role"),
        ];
        let had: Vec<(Value, Option<String>)> = grants(&objects)
            .into_iter()
            .map(|(subject, grant)| {
                assert_eq!(subject["name"], "a");
                (grant.role, grant.namespace)
            })
            .collect();
        let there = |namespace: &str| Some(namespace.to_owned());
        let expected = vec![
            (objects[0].clone(), None),
            (objects[2].clone(), there("two")),
            (objects[0].clone(), there("three")),
        ];
        assert_eq!(had, expected);
    }
}
