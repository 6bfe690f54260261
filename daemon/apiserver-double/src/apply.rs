//! Who owns which field: `metadata.managedFields`, kept by all writes, and server-side apply, which asks it.
//!
//! Kubernetes documentation, "Server-Side Apply"; the rules are those of `sigs.k8s.io/structured-merge-diff`:
//! - what an update changes becomes its manager's alone;
//! - what an apply sets becomes its manager's; where another manager has it with another value, that is a conflict
//!   unless forced; what the manager applied before, does not now, and nobody else has, goes away.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::lists::{ListType, Lists};
use crate::status::{Cause, Status};

/// Who writes, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manager {
    /// Its name.
    pub name: String,
    /// `Apply` or `Update`.
    pub operation: Operation,
    /// `status`, or empty.
    pub subresource: String,
}

/// How fields came to their manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Server-side apply.
    Apply,
    /// Everything else.
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// A set of fields, as `fieldsV1` writes it: keys are `f:FIELD`, `k:{KEYS}`, `v:VALUE`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    /// Whether this place itself is meant: all of a leaf, or that an object or entry is there (`.`).
    is_own: bool,
    below: BTreeMap<String, Fields>,
}

impl Fields {
    fn leaf() -> Fields {
        Fields { is_own: true, below: BTreeMap::new() }
    }

    fn is_empty(&self) -> bool {
        !self.is_own && self.below.is_empty()
    }

    /// All fields that are set in a value.
    fn of(value: &Value, lists: &Lists) -> Fields {
        Fields::walk(value, lists, &mut Vec::new())
    }

    fn walk(value: &Value, lists: &Lists, path: &mut Vec<String>) -> Fields {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                let below = fields.iter().map(|(name, value)| {
                    path.push(name.clone());
                    let fields = Fields::walk(value, lists, path);
                    path.pop();
                    (format!("f:{name}"), fields)
                });
                Fields { is_own: false, below: below.collect() }
            }
            Value::Array(items) if !items.is_empty() => match entries(items, lists.list_type(path)) {
                Some(entries) => {
                    let below = entries.into_iter().map(|(key, item)| {
                        let fields = Fields { is_own: true, ..Fields::walk(item, lists, path) };
                        (key, fields)
                    });
                    Fields { is_own: false, below: below.collect() }
                }
                None => Fields::leaf(),
            },
            _ => Fields::leaf(),
        }
    }

    fn from_value(value: &Value) -> Fields {
        let Some(fields) = value.as_object().filter(|fields| !fields.is_empty()) else {
            return Fields::leaf();
        };
        let below = fields.iter().filter(|(name, _)| *name != ".");
        Fields {
            is_own: fields.contains_key("."),
            below: below.map(|(name, value)| (name.clone(), Fields::from_value(value))).collect(),
        }
    }

    fn to_value(&self) -> Value {
        let mut fields: Map<String, Value> =
            self.below.iter().map(|(name, fields)| (name.clone(), fields.to_value())).collect();
        if self.is_own && !fields.is_empty() {
            fields.insert(".".to_owned(), json!({}));
        }
        Value::Object(fields)
    }

    fn add(&mut self, other: &Fields) {
        self.is_own |= other.is_own;
        for (name, fields) in &other.below {
            self.below.entry(name.clone()).or_default().add(fields);
        }
    }

    /// Leaves out what is in `other`.
    fn without(&self, other: &Fields) -> Fields {
        let below = self.below.iter().map(|(name, fields)| {
            let rest = other.below.get(name).map_or_else(|| fields.clone(), |other| fields.without(other));
            (name.clone(), rest)
        });
        Fields {
            is_own: self.is_own && !other.is_own,
            below: below.filter(|(_, fields)| !fields.is_empty()).collect(),
        }
    }

    fn both(&self, other: &Fields) -> Fields {
        let below = self.below.iter().filter_map(|(name, fields)| {
            let both = fields.both(other.below.get(name)?);
            (!both.is_empty()).then(|| (name.clone(), both))
        });
        Fields { is_own: self.is_own && other.is_own, below: below.collect() }
    }

    /// Calls with the path of every place that is meant itself.
    fn each(&self, path: &mut Vec<String>, call: &mut impl FnMut(&[String])) {
        if self.is_own {
            call(path);
        }
        for (name, fields) in &self.below {
            path.push(name.clone());
            fields.each(path, call);
            path.pop();
        }
    }

    fn paths(&self) -> Vec<Vec<String>> {
        let mut paths = Vec::new();
        self.each(&mut Vec::new(), &mut |path| paths.push(path.to_vec()));
        paths
    }

    fn insert(&mut self, path: &[String]) {
        match path {
            [] => self.is_own = true,
            [first, rest @ ..] => self.below.entry(first.clone()).or_default().insert(rest),
        }
    }

    fn remove(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [last] => drop(self.below.remove(*last)),
            [first, rest @ ..] => {
                if let Some(fields) = self.below.get_mut(*first) {
                    fields.remove(rest);
                    if fields.is_empty() {
                        self.below.remove(*first);
                    }
                }
            }
        }
    }

    /// Fields that have no manager: those the server writes, and those the endpoint does not write.
    fn stripped(mut self, subresource: &str, has_status: bool) -> Fields {
        for name in ["f:apiVersion", "f:kind"] {
            self.remove(&[name]);
        }
        const OF_SERVER: [&str; 10] = [
            "creationTimestamp",
            "deletionGracePeriodSeconds",
            "deletionTimestamp",
            "generateName",
            "generation",
            "managedFields",
            "name",
            "namespace",
            "resourceVersion",
            "uid",
        ];
        for name in OF_SERVER {
            self.remove(&["f:metadata", &format!("f:{name}")]);
        }
        match subresource {
            "status" => self.below.retain(|name, _| name == "f:status" || name == "f:metadata"),
            _ if has_status => self.remove(&["f:status"]),
            _ => {}
        }
        // That there is metadata belongs to nobody.
        if self.below.get("f:metadata").is_some_and(|metadata| metadata.below.is_empty()) {
            self.below.remove("f:metadata");
        }
        self
    }
}

/// The entries of a list with the keys they have in `fieldsV1`; `None` for lists that are one field, and for entries
/// that lack their keys.
fn entries<'a>(items: &'a [Value], list: &ListType) -> Option<Vec<(String, &'a Value)>> {
    items.iter().map(|item| Some((key(item, list)?, item))).collect()
}

fn key(item: &Value, list: &ListType) -> Option<String> {
    match list {
        ListType::Atomic => None,
        ListType::Set => Some(format!("v:{item}")),
        ListType::Map(names) => {
            let mut keys = Map::new();
            for name in names {
                // A protocol that is not given is TCP, and ports are told apart by it.
                let value = match item.get(name) {
                    Some(value) => value.clone(),
                    None if name == "protocol" => json!("TCP"),
                    None => return None,
                };
                keys.insert(name.clone(), value);
            }
            Some(format!("k:{}", Value::Object(keys)))
        }
    }
}

/// One entry of `metadata.managedFields`.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    manager: Manager,
    api_version: String,
    time: String,
    fields: Fields,
}

impl Entry {
    fn read(value: &Value) -> Option<Entry> {
        let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let operation = match value.get("operation")?.as_str()? {
            "Apply" => Operation::Apply,
            _ => Operation::Update,
        };
        Some(Entry {
            manager: Manager { name: text("manager"), operation, subresource: text("subresource") },
            api_version: text("apiVersion"),
            time: text("time"),
            fields: Fields::from_value(value.get("fieldsV1")?),
        })
    }

    fn to_value(&self) -> Value {
        let mut value = json!({
            "manager": self.manager.name, "operation": self.manager.operation.name(), "apiVersion": self.api_version,
            "time": self.time, "fieldsType": "FieldsV1", "fieldsV1": self.fields.to_value(),
        });
        if !self.manager.subresource.is_empty() {
            value["subresource"] = json!(self.manager.subresource);
        }
        value
    }

    /// As conflicts name it.
    fn told(&self) -> String {
        let mut told = format!("{:?}", self.manager.name);
        if !self.manager.subresource.is_empty() {
            told.push_str(&format!(" with subresource {:?}", self.manager.subresource));
        }
        match self.manager.operation {
            Operation::Apply => told,
            Operation::Update if self.time.is_empty() => format!("{told} using {}", self.api_version),
            Operation::Update => format!("{told} using {} at {}", self.api_version, self.time),
        }
    }
}

/// The owners of an object's fields.
#[derive(Debug, Clone, Default, PartialEq)]
struct Owners(Vec<Entry>);

impl Owners {
    fn of(object: &Value) -> Owners {
        let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
        Owners(entries.into_iter().flatten().filter_map(Entry::read).collect())
    }

    fn position(&self, manager: &Manager) -> Option<usize> {
        self.0.iter().position(|entry| entry.manager == *manager)
    }

    /// Sets an entry; its time changes only if its fields do.
    fn set(&mut self, manager: &Manager, api_version: &str, fields: Fields, now: &str) {
        match self.position(manager) {
            Some(place) if self.0[place].fields == fields => {}
            Some(place) => {
                let entry = &mut self.0[place];
                (entry.fields, entry.time, entry.api_version) =
                    (fields, now.to_owned(), api_version.to_owned());
            }
            None => self.0.push(Entry {
                manager: manager.clone(),
                api_version: api_version.to_owned(),
                time: now.to_owned(),
                fields,
            }),
        }
    }

    /// Writes them into the object.
    fn write(mut self, object: &mut Value) {
        self.0.retain(|entry| !entry.fields.below.is_empty());
        // Applied ones first, the older before the younger, as the real server sorts them.
        self.0.sort_by_key(|entry| (entry.manager.operation == Operation::Update, entry.time.clone()));
        let entries: Vec<Value> = self.0.iter().map(Entry::to_value).collect();
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
        match entries.is_empty() {
            true => drop(metadata.remove("managedFields")),
            false => drop(metadata.insert("managedFields".to_owned(), Value::Array(entries))),
        }
    }
}

/// What all of this needs to know of the object's kind and of the moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    /// Its lists.
    pub lists: &'a Lists,
    /// In which version was written.
    pub api_version: &'a str,
    /// Whether status is a subresource.
    pub has_status: bool,
    /// RFC 3339.
    pub now: &'a str,
}

/// After an update from `old` (null: it was created) to `new`: writes into `new` who owns what now.
pub(crate) fn record_update(old: &Value, new: &mut Value, manager: &Manager, context: Context<'_>) {
    let mut owners = Owners::of(old);
    let stripped =
        |value: &Value| Fields::of(value, context.lists).stripped(&manager.subresource, context.has_status);
    let (before, after) =
        if old.is_null() { (Fields::default(), stripped(new)) } else { (stripped(old), stripped(new)) };
    let mut changed = Fields::default();
    for path in after.paths() {
        if get(old, &path, context.lists) != get(new, &path, context.lists) || !has(&before, &path) {
            // That an entry of a list is there has not changed if it was there.
            if !(has(&before, &path) && after.at(&path).is_some_and(|fields| !fields.below.is_empty())) {
                changed.insert(&path);
            }
        }
    }
    let removed = before.without(&after);
    for entry in &mut owners.0 {
        entry.fields = entry.fields.without(&removed);
        if entry.manager != *manager {
            entry.fields = entry.fields.without(&changed);
        }
    }
    if !changed.is_empty() {
        let mut own =
            owners.position(manager).map(|place| owners.0[place].fields.clone()).unwrap_or_default();
        own.add(&changed);
        owners.set(manager, context.api_version, own, context.now);
    }
    owners.write(new);
}

impl Fields {
    fn at(&self, path: &[String]) -> Option<&Fields> {
        path.iter().try_fold(self, |fields, name| fields.below.get(name))
    }
}

fn has(fields: &Fields, path: &[String]) -> bool {
    fields.at(path).is_some_and(|fields| fields.is_own)
}

/// Whether a conflict is an answer, or the field taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnConflict {
    /// Answer 409.
    Refuse,
    /// Take the field over (`force=true`).
    Take,
}

/// Server-side apply of `config` over `live` (null: it is created): the new object, with its managed fields.
///
/// # Errors
/// 409 with one cause `FieldManagerConflict` a field, unless conflicts are taken.
pub(crate) fn apply(
    live: &Value,
    config: &Value,
    manager: &Manager,
    on_conflict: OnConflict,
    context: Context<'_>,
) -> Result<Value, Status> {
    let mut owners = Owners::of(live);
    let live_fields = Fields::of(live, context.lists).stripped("", false);
    if !live.is_null() && owners.0.is_empty() {
        // Nobody said whose these are, so they are everybody's else.
        let manager = Manager {
            name: "before-first-apply".into(),
            operation: Operation::Update,
            subresource: String::new(),
        };
        owners.set(&manager, context.api_version, live_fields.clone(), "");
    }
    let applied = Fields::of(config, context.lists).stripped(&manager.subresource, context.has_status);
    let mut merged = if live.is_null() { json!({}) } else { live.clone() };
    let mut wanted = config.clone();
    keep_only(&mut wanted, manager, context);
    overlay(&mut merged, &wanted, context.lists, &mut Vec::new());

    let mut conflicts = Vec::new();
    for entry in owners.0.iter_mut().filter(|entry| entry.manager != *manager) {
        let shared = entry.fields.both(&applied);
        let mut lost = Fields::default();
        for path in shared.paths() {
            let is_leaf = shared.at(&path).is_some_and(|fields| fields.below.is_empty());
            if is_leaf && get(live, &path, context.lists) != get(&merged, &path, context.lists) {
                conflicts.push((entry.told(), shown(&path)));
                lost.insert(&path);
            }
        }
        entry.fields = entry.fields.without(&lost);
    }
    if on_conflict == OnConflict::Refuse && !conflicts.is_empty() {
        return Err(conflict(&conflicts));
    }

    let before = owners.position(manager).map(|place| owners.0[place].fields.clone()).unwrap_or_default();
    let mut gone = before.without(&applied);
    for entry in owners.0.iter().filter(|entry| entry.manager != *manager) {
        gone = gone.without(&entry.fields);
    }
    let mut paths = gone.paths();
    // An entry of a list goes before what is in it, while it still has the key by which it is found.
    paths.sort_by_key(Vec::len);
    for path in paths {
        let is_still_used = owners.0.iter().any(|entry| {
            let fields = if entry.manager == *manager { applied.at(&path) } else { entry.fields.at(&path) };
            fields.is_some_and(|fields| !fields.is_empty())
        });
        if !is_still_used {
            take_away(&mut merged, &path, context.lists);
        }
    }
    owners.set(manager, context.api_version, applied, context.now);
    owners.write(&mut merged);
    Ok(merged)
}

/// Leaves in an applied configuration what this endpoint writes.
fn keep_only(config: &mut Value, manager: &Manager, context: Context<'_>) {
    let Some(fields) = config.as_object_mut() else { return };
    match manager.subresource.as_str() {
        "status" => {
            fields.retain(|name, _| ["apiVersion", "kind", "metadata", "status"].contains(&name.as_str()))
        }
        _ if context.has_status => drop(fields.remove("status")),
        _ => {}
    }
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

fn conflict(conflicts: &[(String, String)]) -> Status {
    let causes: Vec<Cause> = conflicts
        .iter()
        .map(|(owner, path)| {
            Cause::new("FieldManagerConflict", path.as_str(), format!("conflict with {owner}"))
        })
        .collect();
    if let [(owner, path)] = conflicts {
        return Status::apply_conflict(
            format!("Apply failed with 1 conflict: conflict with {owner}: {path}"),
            &causes,
        );
    }
    let mut by_owner: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (owner, path) in conflicts {
        by_owner.entry(owner).or_default().push(path);
    }
    let mut lines = Vec::new();
    for (owner, paths) in by_owner {
        lines.push(format!("conflicts with {owner}:"));
        lines.extend(paths.into_iter().map(|path| format!("- {path}")));
    }
    let message = format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"));
    Status::apply_conflict(message, &causes)
}

/// A path as conflicts write it: `.spec.containers[name="web"].image`.
fn shown(path: &[String]) -> String {
    let mut shown = String::new();
    for part in path {
        match part.split_once(':') {
            Some(("k", keys)) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let keys: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                shown.push_str(&format!("[{}]", keys.join(",")));
            }
            Some(("v", value)) => shown.push_str(&format!("[={value}]")),
            Some((_, name)) => shown.push_str(&format!(".{name}")),
            None => {}
        }
    }
    shown
}

/// Sets in `target` all that is set in `config`; lists with keys are merged, everything else is replaced.
fn overlay(target: &mut Value, config: &Value, lists: &Lists, path: &mut Vec<String>) {
    match (&mut *target, config) {
        (Value::Object(fields), Value::Object(wanted)) => {
            for (name, value) in wanted {
                path.push(name.clone());
                overlay(fields.entry(name.clone()).or_insert(Value::Null), value, lists, path);
                path.pop();
            }
        }
        (Value::Array(items), Value::Array(wanted)) => {
            let list = lists.list_type(path);
            let keys =
                |items: &[Value]| items.iter().map(|item| key(item, list)).collect::<Option<Vec<String>>>();
            let (Some(mut there), Some(named)) = (keys(items), keys(wanted)) else {
                items.clone_from(wanted);
                return;
            };
            for (name, value) in named.into_iter().zip(wanted) {
                match there.iter().position(|other| *other == name) {
                    Some(place) => overlay(&mut items[place], value, lists, path),
                    None => {
                        there.push(name);
                        items.push(value.clone());
                    }
                }
            }
        }
        _ => *target = config.clone(),
    }
}

/// The value at a path of `fieldsV1`.
fn get<'a>(value: &'a Value, path: &[String], lists: &Lists) -> Option<&'a Value> {
    let mut names = Vec::new();
    let mut value = value;
    for part in path {
        value = match part.strip_prefix("f:") {
            Some(name) => {
                names.push(name.to_owned());
                value.get(name)?
            }
            None => {
                let list = lists.list_type(&names);
                value.as_array()?.iter().find(|item| key(item, list).as_ref() == Some(part))?
            }
        };
    }
    Some(value)
}

/// Removes what is at a path of `fieldsV1`, and objects and lists that are empty without it.
fn take_away(value: &mut Value, path: &[String], lists: &Lists) {
    fn walk(value: &mut Value, path: &[String], names: &mut Vec<String>, lists: &Lists) {
        let [first, rest @ ..] = path else { return };
        if let Some(name) = first.strip_prefix("f:") {
            names.push(name.to_owned());
            let Some(fields) = value.as_object_mut() else { return };
            let is_gone = match fields.get_mut(name) {
                _ if rest.is_empty() => true,
                Some(below) => {
                    walk(below, rest, names, lists);
                    let is_empty = below.as_object().is_some_and(Map::is_empty)
                        || below.as_array().is_some_and(Vec::is_empty);
                    is_empty && name != "metadata"
                }
                None => false,
            };
            if is_gone {
                fields.remove(name);
            }
        } else {
            let list = lists.list_type(names).clone();
            let Some(items) = value.as_array_mut() else { return };
            let Some(place) = items.iter().position(|item| key(item, &list).as_ref() == Some(first)) else {
                return;
            };
            if rest.is_empty() {
                items.remove(place);
            } else {
                walk(&mut items[place], rest, names, lists);
            }
        }
    }
    walk(value, path, &mut Vec::new(), lists);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;

    const NOW: &str = "2026-11-21T23:00:00Z";

    fn lists() -> Lists {
        let kinds = Kind::built_in();
        let kind = kinds.iter().find(|candidate| candidate.kind == "Node").expect("it is built in");
        Lists::of(kind, &kind.versions[0])
    }

    fn manager(name: &str, operation: Operation) -> Manager {
        Manager { name: name.into(), operation, subresource: String::new() }
    }

    fn context(lists: &Lists) -> Context<'_> {
        Context { lists, api_version: "v1", has_status: false, now: NOW }
    }

    fn node(extra: Value) -> Value {
        let mut node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
        crate::patch::merge(&mut node, &extra);
        node
    }

    #[test]
    fn applied_fields_are_owned_and_go_when_they_are_applied_no_more() {
        let lists = lists();
        let me = manager("cambric", Operation::Apply);
        let apply =
            |live: &Value, config: Value| apply(live, &config, &me, OnConflict::Refuse, context(&lists));
        let first = apply(&Value::Null, node(json!({"metadata": {"labels": {"a": "1", "b": "2"}}})))
            .expect("it is new");
        let fields = json!({"f:metadata": {"f:labels": {"f:a": {}, "f:b": {}}}});
        assert_eq!(first["metadata"]["managedFields"][0]["fieldsV1"], fields);
        let second = apply(&first, node(json!({"metadata": {"labels": {"a": "1"}}}))).expect("it is its own");
        assert_eq!(second["metadata"]["labels"], json!({"a": "1"}));
        let third = apply(&second, node(json!({}))).expect("it is its own");
        assert_eq!(third["metadata"], json!({"name": "n1"}));
    }

    #[test]
    fn another_managers_field_is_a_conflict_unless_it_is_the_same_or_forced() {
        let lists = lists();
        let mut live = node(json!({"metadata": {"labels": {"a": "1"}}}));
        record_update(&Value::Null, &mut live, &manager("kubectl", Operation::Update), context(&lists));
        let me = manager("cambric", Operation::Apply);
        let apply = |config: Value, on_conflict| apply(&live, &config, &me, on_conflict, context(&lists));
        let refused = apply(node(json!({"metadata": {"labels": {"a": "2"}}})), OnConflict::Refuse)
            .expect_err("it is kubectl's");
        assert_eq!(refused.code, 409);
        let message = format!(
            "Apply failed with 1 conflict: conflict with \"kubectl\" using v1 at {NOW}: .metadata.labels.a"
        );
        assert_eq!(refused.message, message);
        let cause = json!([{"reason": "FieldManagerConflict", "field": ".metadata.labels.a",
            "message": format!("conflict with \"kubectl\" using v1 at {NOW}")}]);
        assert_eq!(refused.to_value()["details"]["causes"], cause);
        apply(node(json!({"metadata": {"labels": {"a": "1"}}})), OnConflict::Refuse)
            .expect("the same value is shared");
        let taken =
            apply(node(json!({"metadata": {"labels": {"a": "2"}}})), OnConflict::Take).expect("it is forced");
        assert_eq!(taken["metadata"]["labels"]["a"], "2");
        assert_eq!(taken["metadata"]["managedFields"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn entries_of_keyed_lists_have_owners_of_their_own() {
        let lists = lists();
        let condition =
            |name: &str, status: &str| json!({"status": {"conditions": [{"type": name, "status": status}]}});
        let mut live = node(condition("Ready", "True"));
        record_update(&Value::Null, &mut live, &manager("kubelet", Operation::Update), context(&lists));
        let me = manager("cambric", Operation::Apply);
        let applied = apply(
            &live,
            &node(condition("NetworkUnavailable", "False")),
            &me,
            OnConflict::Refuse,
            context(&lists),
        )
        .expect("it is another entry");
        let types = |node: &Value| node["status"]["conditions"].as_array().map_or(0, Vec::len);
        assert_eq!(types(&applied), 2);
        let left = apply(&applied, &node(json!({})), &me, OnConflict::Refuse, context(&lists))
            .expect("it is its own");
        assert_eq!(left["status"]["conditions"], json!([{"type": "Ready", "status": "True"}]));
        let refused =
            apply(&applied, &node(condition("Ready", "False")), &me, OnConflict::Refuse, context(&lists))
                .expect_err("that one is kubelet's");
        assert!(
            refused.message.ends_with(r#": .status.conditions[type="Ready"].status"#),
            "{}",
            refused.message
        );
    }

    #[test]
    fn an_update_takes_what_it_changes_and_nothing_else() {
        let lists = lists();
        let first = manager("one", Operation::Update);
        let second = manager("two", Operation::Update);
        let mut old = node(json!({"metadata": {"labels": {"a": "1", "b": "1"}}}));
        record_update(&Value::Null, &mut old, &first, context(&lists));
        let mut new = node(json!({"metadata": {"labels": {"a": "2", "b": "1"}}}));
        record_update(&old, &mut new, &second, context(&lists));
        let owned = |object: &Value, name: &str| {
            let owners = Owners::of(object);
            owners.0.iter().find(|entry| entry.manager.name == name).map(|entry| entry.fields.to_value())
        };
        assert_eq!(owned(&new, "one"), Some(json!({"f:metadata": {"f:labels": {"f:b": {}}}})));
        assert_eq!(owned(&new, "two"), Some(json!({"f:metadata": {"f:labels": {"f:a": {}}}})));
    }

    #[test]
    fn an_object_without_owners_belongs_to_who_was_before() {
        let lists = lists();
        let live = node(json!({"spec": {"podCIDR": "10.0.0.0/24"}}));
        let config = node(json!({"spec": {"podCIDR": "10.0.1.0/24"}}));
        let refused =
            apply(&live, &config, &manager("x", Operation::Apply), OnConflict::Refuse, context(&lists))
                .expect_err("it is not its");
        assert_eq!(
            refused.message,
            "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .spec.podCIDR"
        );
    }
}
