//! The three kinds of patches that need no owner: JSON patch (RFC 6902), JSON merge patch (RFC 7386) and strategic merge
//! patch (built-in kinds only). Server-side apply is in `apply.rs`.

use serde_json::{Map, Value};

use crate::lists::{Lists, PatchMerge};

/// Why a patch changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// It is not a patch of its kind.
    #[error("{0}")]
    Unreadable(String),
    /// It does not fit the object: a path that is not there, or a test that fails.
    #[error("{0}")]
    Unfit(String),
}

fn unfit(what: impl Into<String>) -> Error {
    Error::Unfit(what.into())
}

/// Merges as RFC 7386 section 2 says: null removes, objects merge, everything else replaces.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    for (name, change) in changes {
        let fields = object(target);
        if change.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(Value::Null), change);
        }
    }
    object(target);
}

/// The fields of a value, which becomes an object if it is none.
fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(fields) => fields,
        _ => unreachable!("it was made an object above"),
    }
}

/// Applies the operations of a JSON patch one after the other; if one fails, `target` is to be thrown away.
///
/// # Errors
/// If it is no list of operations, or one of them does not fit.
pub(crate) fn json_patch(target: &mut Value, patch: &Value) -> Result<(), Error> {
    let unreadable = |what: &str| Error::Unreadable(format!("error decoding patch: {what}"));
    let operations = patch.as_array().ok_or_else(|| unreadable("it is no list"))?;
    for operation in operations {
        let text = |field: &str| operation.get(field).and_then(Value::as_str);
        let name = text("op").ok_or_else(|| unreadable("an operation without op"))?;
        let path = text("path").ok_or_else(|| unreadable("an operation without path"))?;
        let value =
            || operation.get("value").cloned().ok_or_else(|| unreadable("an operation without value"));
        let from = || text("from").ok_or_else(|| unreadable("an operation without from"));
        match name {
            "add" => add(target, path, value()?)?,
            "remove" => drop(remove(target, path)?),
            "replace" => {
                let place = target.pointer_mut(path).ok_or_else(|| {
                    unfit(format!("replace operation does not apply: doc is missing path: {path}"))
                })?;
                *place = value()?;
            }
            "move" => {
                let moved = remove(target, from()?)?;
                add(target, path, moved)?;
            }
            "copy" => {
                let copied =
                    target.pointer(from()?).cloned().ok_or_else(|| unfit("copy operation does not apply"))?;
                add(target, path, copied)?;
            }
            "test" => {
                let is = target.pointer(path).unwrap_or(&Value::Null);
                if *is != value()? {
                    return Err(unfit(format!("testing value {path} failed: test failed")));
                }
            }
            other => return Err(unreadable(&format!("unexpected kind: {other}"))),
        }
    }
    Ok(())
}

/// The parent of what a pointer names, and its last part unescaped (RFC 6901 section 4).
fn parent<'a>(target: &'a mut Value, path: &str) -> Result<(&'a mut Value, String), Error> {
    let missing = || unfit(format!("doc is missing path: {path}"));
    let (above, last) = path.rsplit_once('/').ok_or_else(missing)?;
    let last = last.replace("~1", "/").replace("~0", "~");
    Ok((target.pointer_mut(above).ok_or_else(missing)?, last))
}

fn index(text: &str, at_most: usize) -> Option<usize> {
    let is_plain = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|&index| is_plain && index <= at_most)
}

fn add(target: &mut Value, path: &str, value: Value) -> Result<(), Error> {
    if path.is_empty() {
        *target = value;
        return Ok(());
    }
    let (parent, last) = parent(target, path)?;
    match parent {
        Value::Object(fields) => {
            fields.insert(last, value);
        }
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            let at = index(&last, items.len())
                .ok_or_else(|| unfit(format!("add operation does not apply: {path}")))?;
            items.insert(at, value);
        }
        _ => return Err(unfit(format!("add operation does not apply: doc is missing path: {path}"))),
    }
    Ok(())
}

fn remove(target: &mut Value, path: &str) -> Result<Value, Error> {
    let missing = || unfit(format!("remove operation does not apply: doc is missing path: {path}"));
    let (parent, last) = parent(target, path)?;
    match parent {
        Value::Object(fields) => fields.remove(&last).ok_or_else(missing),
        Value::Array(items) => {
            let at = index(&last, items.len().saturating_sub(1))
                .filter(|_| !items.is_empty())
                .ok_or_else(missing)?;
            Ok(items.remove(at))
        }
        _ => Err(missing()),
    }
}

/// Merges as a strategic merge patch does: like [`merge`], but lists that `lists` knows are merged by their keys, and
/// the directives `$patch`, `$retainKeys`, `$setElementOrder/…` and `$deleteFromPrimitiveList/…` are obeyed
/// (`k8s.io/apimachinery/pkg/util/strategicpatch`).
///
/// # Errors
/// If a directive is none, or an entry lacks the key that its list is merged by.
pub(crate) fn strategic(target: &mut Value, patch: &Value, lists: &Lists) -> Result<(), Error> {
    strategic_at(target, patch, lists, &mut Vec::new())
}

fn strategic_at(
    target: &mut Value,
    patch: &Value,
    lists: &Lists,
    path: &mut Vec<String>,
) -> Result<(), Error> {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    match changes.get("$patch").map(|directive| directive.as_str().unwrap_or_default()) {
        None | Some("merge") => {}
        Some("replace") => {
            *target = Value::Object(
                changes
                    .iter()
                    .filter(|(name, _)| *name != "$patch")
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect(),
            );
            return Ok(());
        }
        Some("delete") => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        Some(other) => return Err(Error::Unreadable(format!("Unknown patch type: {other}"))),
    }
    let fields = object(target);
    if let Some(retained) = changes.get("$retainKeys").and_then(Value::as_array) {
        fields.retain(|name, _| retained.iter().any(|kept| kept == name));
    }
    for (name, change) in changes {
        if name.starts_with('$') {
            continue;
        }
        if change.is_null() {
            fields.remove(name);
            continue;
        }
        path.push(name.clone());
        let place = fields.entry(name.clone()).or_insert(Value::Null);
        let merged = match change {
            Value::Array(items) => strategic_list(place, items, lists, path),
            _ => strategic_at(place, change, lists, path),
        };
        path.pop();
        merged?;
    }
    for (name, change) in changes {
        let items = change.as_array().map(Vec::as_slice).unwrap_or_default();
        if let Some(field) = name.strip_prefix("$deleteFromPrimitiveList/") {
            if let Some(list) = fields.get_mut(field).and_then(Value::as_array_mut) {
                list.retain(|item| !items.contains(item));
            }
        } else if let Some(field) = name.strip_prefix("$setElementOrder/") {
            path.push(field.to_owned());
            let by = lists.patch_merge(path).clone();
            path.pop();
            if let Some(list) = fields.get_mut(field).and_then(Value::as_array_mut) {
                order(list, items, &by);
            }
        }
    }
    Ok(())
}

fn strategic_list(
    target: &mut Value,
    changes: &[Value],
    lists: &Lists,
    path: &mut Vec<String>,
) -> Result<(), Error> {
    let own = target.as_array().cloned().unwrap_or_default();
    let merged = match lists.patch_merge(path) {
        PatchMerge::Replace => changes.to_vec(),
        PatchMerge::Union => {
            let mut merged = own;
            for change in changes {
                if !merged.contains(change) {
                    merged.push(change.clone());
                }
            }
            merged
        }
        PatchMerge::By(key) => merge_by(own, changes, &key.clone(), lists, path)?,
    };
    *target = Value::Array(merged);
    Ok(())
}

fn merge_by(
    own: Vec<Value>,
    changes: &[Value],
    key: &str,
    lists: &Lists,
    path: &mut Vec<String>,
) -> Result<Vec<Value>, Error> {
    let replaces = changes.iter().any(|change| change["$patch"] == "replace" && change.get(key).is_none());
    let mut merged = if replaces { Vec::new() } else { own };
    for change in changes {
        let Some(name) = change.get(key) else {
            if change["$patch"] == "replace" {
                continue;
            }
            let what = format!("map: {change} does not contain declared merge key: {key}");
            return Err(Error::Unreadable(what));
        };
        let place = merged.iter().position(|item| item.get(key) == Some(name));
        if change["$patch"] == "delete" {
            merged.retain(|item| item.get(key) != Some(name));
        } else if let Some(place) = place {
            strategic_at(&mut merged[place], change, lists, path)?;
        } else {
            let mut added = Value::Null;
            strategic_at(&mut added, change, lists, path)?;
            merged.push(added);
        }
    }
    Ok(merged)
}

/// Puts the entries that are named into that order; entries that are not named come after them.
fn order(list: &mut [Value], named: &[Value], by: &PatchMerge) {
    let place = |item: &Value| {
        let is_it = |name: &Value| match by {
            PatchMerge::By(key) => item.get(key) == name.get(key),
            _ => item == name,
        };
        named.iter().position(is_it).unwrap_or(usize::MAX)
    };
    list.sort_by_key(place);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kind::Kind;

    fn lists(kind: &str) -> Lists {
        let kinds = Kind::built_in();
        let kind = kinds.iter().find(|candidate| candidate.kind == kind).expect("it is built in");
        Lists::of(kind, &kind.versions[0])
    }

    #[test]
    fn merge_patch_does_what_the_table_of_rfc_7386_says() {
        let cases = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ];
        for (mut target, patch, expected) in cases {
            merge(&mut target, &patch);
            assert_eq!(target, expected, "{patch}");
        }
    }

    #[test]
    fn json_patch_does_what_rfc_6902_appendix_a_shows() {
        let cases = [
            (
                json!({"foo": "bar"}),
                json!([{"op": "add", "path": "/baz", "value": "qux"}]),
                json!({"baz": "qux", "foo": "bar"}),
            ),
            (
                json!({"foo": [1, 2]}),
                json!([{"op": "add", "path": "/foo/1", "value": 3}]),
                json!({"foo": [1, 3, 2]}),
            ),
            (
                json!({"foo": [1]}),
                json!([{"op": "add", "path": "/foo/-", "value": 3}]),
                json!({"foo": [1, 3]}),
            ),
            (json!({"foo": [1, 2, 3]}), json!([{"op": "remove", "path": "/foo/1"}]), json!({"foo": [1, 3]})),
            (json!({"a/b": 1}), json!([{"op": "replace", "path": "/a~1b", "value": 2}]), json!({"a/b": 2})),
            (
                json!({"a": {"b": 1}, "c": {}}),
                json!([{"op": "move", "from": "/a/b", "path": "/c/d"}]),
                json!({"a": {}, "c": {"d": 1}}),
            ),
            (
                json!({"a": 1}),
                json!([{"op": "test", "path": "/a", "value": 1}, {"op": "copy", "from": "/a", "path": "/b"}]),
                json!({"a": 1, "b": 1}),
            ),
        ];
        for (mut target, patch, expected) in cases {
            json_patch(&mut target, &patch).expect("it fits");
            assert_eq!(target, expected, "{patch}");
        }
    }

    #[test]
    fn json_patch_that_does_not_fit_says_so() {
        let unfit = [
            json!([{"op": "test", "path": "/a", "value": 2}]),
            json!([{"op": "remove", "path": "/b"}]),
            json!([{"op": "replace", "path": "/b", "value": 1}]),
            json!([{"op": "add", "path": "/b/c", "value": 1}]),
            json!([{"op": "add", "path": "/l/3", "value": 1}]),
            json!([{"op": "remove", "path": "/l/01"}]),
        ];
        for patch in unfit {
            let result = json_patch(&mut json!({"a": 1, "l": [1, 2]}), &patch);
            assert!(matches!(result, Err(Error::Unfit(_))), "{patch}: {result:?}");
        }
        for patch in [json!({}), json!([{"op": "jump", "path": "/a"}]), json!([{"op": "add", "path": "/a"}])]
        {
            let result = json_patch(&mut json!({"a": 1}), &patch);
            assert!(matches!(result, Err(Error::Unreadable(_))), "{patch}: {result:?}");
        }
    }

    #[test]
    fn conditions_of_a_node_are_merged_by_type_and_taints_are_replaced() {
        let mut node = json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "x"}]}});
        let patch = json!({"spec": {"taints": [{"key": "b", "effect": "NoExecute"}]}, "status": {"conditions": [
            {"type": "NetworkUnavailable", "status": "False"}, {"type": "Ready", "reason": "y"}]}});
        strategic(&mut node, &patch, &lists("Node")).expect("it fits");
        assert_eq!(node["spec"]["taints"], json!([{"key": "b", "effect": "NoExecute"}]));
        let conditions = json!([{"type": "Ready", "status": "True", "reason": "y"}, {"type": "NetworkUnavailable", "status": "False"}]);
        assert_eq!(node["status"]["conditions"], conditions);
    }

    #[test]
    fn directives_delete_replace_and_order() {
        let mut pod = json!({"metadata": {"finalizers": ["a", "b"], "labels": {"x": "1"}},
            "spec": {"containers": [{"name": "one", "image": "1"}, {"name": "two", "image": "2"}]}});
        let patch = json!({
            "metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "labels": {"$patch": "replace", "y": "2"}},
            "spec": {"$setElementOrder/containers": [{"name": "three"}, {"name": "two"}],
                "containers": [{"name": "one", "$patch": "delete"}, {"name": "three", "image": "3"}]}});
        strategic(&mut pod, &patch, &lists("Pod")).expect("it fits");
        let expected = json!({"metadata": {"finalizers": ["b"], "labels": {"y": "2"}},
            "spec": {"containers": [{"name": "three", "image": "3"}, {"name": "two", "image": "2"}]}});
        assert_eq!(pod, expected);
        let result = strategic(&mut pod, &json!({"spec": {"containers": [{"image": "x"}]}}), &lists("Pod"));
        assert!(matches!(result, Err(Error::Unreadable(_))));
    }
}
