//! What cambricd may do, as one list that a review sees change: `rights.txt`.
//!
//! A line is a verb on a resource in a scope: `cluster`, or the namespace of a Role; and the names that it is for.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};
use cambric_deploy::{NAMESPACE, base, find, folder};
use serde_json::{Value, json};

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The rights of a role, a line each.
fn rights(role: &Value) -> BTreeSet<String> {
    let scope = role.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or("cluster");
    let mut lines = BTreeSet::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        let names: Vec<&str> = texts(&rule["resourceNames"]).collect();
        let names = if names.is_empty() { String::new() } else { format!(" {}", names.join(",")) };
        for group in texts(&rule["apiGroups"]) {
            let group = if group.is_empty() { "core" } else { group };
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    lines.insert(format!("{scope} {group} {resource} {verb}{names}"));
                }
            }
        }
        let known = ["apiGroups", "resources", "resourceNames", "verbs"];
        let others = rule.as_object().into_iter().flatten().find(|(name, _)| !known.contains(&name.as_str()));
        assert_eq!(others, None, "a rule with more than is looked at here");
    }
    lines
}

#[test]
fn the_daemon_may_do_what_the_list_says_and_nothing_else() -> Result<()> {
    let objects = base();
    let roles = objects.iter().filter(|object| object["kind"] == "ClusterRole" || object["kind"] == "Role");
    let found: BTreeSet<String> = roles.flat_map(rights).collect();
    let text = fs::read_to_string(folder().join("tests/rights.txt"))?;
    let listed: BTreeSet<String> =
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect();
    let more: Vec<_> = found.difference(&listed).collect();
    let less: Vec<_> = listed.difference(&found).collect();
    assert!(more.is_empty() && less.is_empty(), "not in rights.txt: {more:#?}\nonly there: {less:#?}");
    println!("{} rights", found.len());
    Ok(())
}

#[test]
fn no_right_is_for_everything_nor_larger_than_its_use() {
    for line in base()
        .iter()
        .filter(|object| object["kind"] == "ClusterRole" || object["kind"] == "Role")
        .flat_map(rights)
    {
        let words: Vec<&str> = line.split(' ').collect();
        assert!(!line.contains('*'), "{line}");
        let too_large = ["update", "deletecollection", "impersonate", "escalate", "bind"];
        assert!(!too_large.contains(&words[3]), "{line}: the daemon patches");
        assert!(words[2] != "secrets" || words[0] == NAMESPACE, "{line}: Secrets of the whole cluster");
    }
}

#[test]
fn rights_go_to_the_account_of_the_daemon_set_alone() -> Result<()> {
    let objects = base();
    let pod = &find(&objects, "DaemonSet", "cambric").context("a DaemonSet")?["spec"]["template"]["spec"];
    assert_eq!(pod["serviceAccountName"], "cambricd");
    for (binding, role) in [("ClusterRoleBinding", "ClusterRole"), ("RoleBinding", "Role")] {
        let binding = find(&objects, binding, "cambricd").context(binding)?;
        let name = binding["roleRef"]["name"].as_str().unwrap_or_default();
        assert!(find(&objects, role, name).is_some(), "{role} {name}");
        assert_eq!(binding["roleRef"]["kind"], role);
        let account = json!([{"kind": "ServiceAccount", "name": "cambricd", "namespace": NAMESPACE}]);
        assert_eq!(binding["subjects"], account);
    }
    let bindings = objects
        .iter()
        .filter(|object| object["kind"].as_str().is_some_and(|kind| kind.ends_with("RoleBinding")));
    assert_eq!(bindings.count(), 2);
    let account = find(&objects, "ServiceAccount", "cambricd").context("an account")?;
    assert_eq!(account["automountServiceAccountToken"], false);
    Ok(())
}
