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
}

/// Whether one of these ClusterRoles allows it.
pub(crate) fn allows(roles: &[Value], attributes: &Attributes<'_>) -> bool {
    let rules = roles.iter().filter_map(|role| role["rules"].as_array()).flatten();
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
        let roles = [json!({"rules": [
            {"apiGroups": [""], "resources": ["nodes", "nodes/status"], "verbs": ["get", "list", "patch"]},
            {"apiGroups": ["cambric.dev"], "resources": ["*"], "verbs": ["*"]},
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create"], "resourceNames": ["one"]},
            {"apiGroups": ["apps"], "resources": ["*/status"], "verbs": ["get"]},
        ]})];
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
            let attributes = Attributes { verb, group, resource, subresource, name };
            assert_eq!(allows(&roles, &attributes), expected, "{attributes:?}");
        }
    }
}
