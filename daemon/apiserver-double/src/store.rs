//! What the server knows: objects, the one version that counts all changes, and a bounded history of changes a resource.
//!
//! Objects are kept as the octets that clients get, made once and shared by lists, watches, marks and history: a
//! parsed object would take several times the memory. Whoever needs fields parses ([`Object::value`]).
//!
//! There is no other lock than the one around [`State`], and nobody waits for anything while holding it. Watches are
//! woken by [`Store::changes`] and read the history from where they are: a slow reader holds no memory, and one that
//! the history has overtaken is cut, as a watch of the real server is whose buffer is full.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use hyper::body::Bytes;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::kind::{DEFINITIONS, Key, Kind, Resource, established};

/// How many changes of a resource can be replayed. The real server keeps 100 to 102 400, those of about 75 s.
pub(crate) const HISTORY: usize = 8192;

/// One object in one version.
#[derive(Debug)]
pub struct Object {
    /// Its name.
    pub key: Key,
    /// `metadata.resourceVersion`.
    pub version: u64,
    bytes: Bytes,
    /// Where the fields after kind and apiVersion begin.
    fields_at: usize,
}

impl Object {
    /// Serializes `value`, whose `metadata.resourceVersion` is set to `version`.
    fn new(kind: &Kind, key: Key, version: u64, value: &mut Value) -> Object {
        if let Some(metadata) = metadata_mut(value) {
            metadata.insert("resourceVersion".to_owned(), Value::String(version.to_string()));
        }
        let (bytes, fields_at) = encode(value, kind.is_custom);
        Object { key, version, bytes, fields_at }
    }

    /// As a GET answers it, in the stored version.
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    pub(crate) fn octets(&self) -> &[u8] {
        &self.bytes
    }

    /// Without kind and apiVersion, as lists of built-in kinds show it: all but the opening brace.
    pub(crate) fn fields(&self) -> &[u8] {
        &self.bytes[self.fields_at..]
    }

    /// Parsed anew with each call.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }
}

/// The octets of an object with kind and apiVersion first, and where the other fields begin. Built-in kinds begin with
/// `kind` as Go's types do, custom ones with `apiVersion` as Go's maps do.
pub(crate) fn encode(value: &Value, is_custom: bool) -> (Bytes, usize) {
    let text = |field: &str| json!(value.get(field).and_then(Value::as_str).unwrap_or_default());
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let mut out = Vec::with_capacity(512);
    let start = match is_custom {
        true => format!("{{\"apiVersion\":{api_version},\"kind\":{kind}"),
        false => format!("{{\"kind\":{kind},\"apiVersion\":{api_version}"),
    };
    out.extend_from_slice(start.as_bytes());
    let mut fields_at = out.len();
    for (name, field) in value.as_object().into_iter().flatten() {
        if name == "apiVersion" || name == "kind" {
            continue;
        }
        out.push(b',');
        if fields_at + 1 == out.len() {
            fields_at = out.len();
        }
        // A `Value` and a `Vec` refuse nothing.
        let _ = serde_json::to_writer(&mut out, name);
        out.push(b':');
        let _ = serde_json::to_writer(&mut out, field);
    }
    out.push(b'}');
    out.shrink_to_fit();
    (Bytes::from(out), fields_at)
}

/// What happened to one object.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Added {
        after: Arc<Object>,
    },
    Modified {
        before: Arc<Object>,
        after: Arc<Object>,
    },
    /// `last` is the object as it was, with the version of its deletion.
    Deleted {
        before: Arc<Object>,
        last: Arc<Object>,
    },
}

impl Change {
    pub(crate) fn version(&self) -> u64 {
        match self {
            Change::Added { after } | Change::Modified { after, .. } => after.version,
            Change::Deleted { last, .. } => last.version,
        }
    }

    fn before(&self) -> Option<&Arc<Object>> {
        match self {
            Change::Added { .. } => None,
            Change::Modified { before, .. } | Change::Deleted { before, .. } => Some(before),
        }
    }

    fn key(&self) -> &Key {
        match self {
            Change::Added { after } | Change::Modified { after, .. } => &after.key,
            Change::Deleted { last, .. } => &last.key,
        }
    }
}

type Objects = BTreeMap<Key, Arc<Object>>;

/// The objects of one resource.
#[derive(Debug, Clone, Default)]
pub(crate) struct Collection {
    objects: Objects,
    /// In the order of their versions.
    history: VecDeque<Change>,
    /// Changes up to this version are forgotten: who knows an older state cannot be told what happened since.
    forgotten: u64,
}

/// The objects of a resource at one version, or a part of them.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) objects: Vec<Arc<Object>>,
    /// How many come after these.
    pub(crate) remaining: usize,
}

impl Collection {
    /// All changes after `version`, up to and with `ceiling`.
    pub(crate) fn since(&self, version: u64, ceiling: u64) -> impl Iterator<Item = &Change> {
        let start = self.history.partition_point(|change| change.version() <= version);
        self.history.range(start..).take_while(move |change| change.version() <= ceiling)
    }

    /// The objects as they were at `version`, in `namespace` if one is given, those after `start`, that are wanted, at most `limit`.
    /// The caller has seen to it that `version` is not forgotten.
    pub(crate) fn page(
        &self,
        version: u64,
        namespace: Option<&str>,
        start: Option<&Key>,
        limit: usize,
        is_wanted: impl Fn(&Object) -> bool,
    ) -> Page {
        // What changed after that version is undone: the oldest such change of each object knows how it was.
        let mut undone: BTreeMap<&Key, Option<&Arc<Object>>> = BTreeMap::new();
        for change in self.since(version, u64::MAX) {
            undone.entry(change.key()).or_insert_with(|| change.before());
        }
        let first = match (start, namespace) {
            (Some(key), _) => Bound::Excluded(key.clone()),
            (None, Some(namespace)) => Bound::Included(Key::new(namespace, "")),
            (None, None) => Bound::Unbounded,
        };
        let inside = |key: &Key| namespace.is_none_or(|namespace| *key.namespace == *namespace);
        let bounds = (first, Bound::Unbounded);
        let mut old = undone.range::<Key, _>((bounds.0.as_ref(), Bound::Unbounded)).peekable();
        let mut now = self.objects.range(bounds.clone()).peekable();
        let mut page = Page::default();
        loop {
            let next = match (old.peek(), now.peek()) {
                (None, None) => break,
                (Some((key, _)), Some((other, _))) if **key >= *other => {
                    // The same object: its old state counts. Otherwise the one in between comes first.
                    match **key == *other {
                        true => {
                            now.next();
                            continue;
                        }
                        false => now.next().map(|(key, object)| (key, Some(object))),
                    }
                }
                (None, Some(_)) => now.next().map(|(key, object)| (key, Some(object))),
                (Some(_), _) => old.next().map(|(&key, &object)| (key, object)),
            };
            let Some((key, object)) = next else { break };
            if !inside(key) {
                break;
            }
            let Some(object) = object.filter(|object| is_wanted(object)) else { continue };
            match page.objects.len() < limit {
                true => page.objects.push(Arc::clone(object)),
                false => page.remaining += 1,
            }
        }
        page
    }

    fn record(&mut self, change: Change, capacity: usize) {
        self.history.push_back(change);
        self.shorten(capacity);
    }

    fn shorten(&mut self, capacity: usize) {
        while self.history.len() > capacity {
            if let Some(oldest) = self.history.pop_front() {
                self.forgotten = oldest.version();
            }
        }
    }
}

/// The whole cluster.
#[derive(Debug, Clone)]
pub struct State {
    version: u64,
    kinds: BTreeMap<Resource, Arc<Kind>>,
    collections: BTreeMap<Resource, Collection>,
    /// Changes kept of each resource.
    history: usize,
    /// Changes of any resource up to this version are forgotten.
    forgotten: u64,
}

impl State {
    /// A cluster that was just installed: its own namespaces and nothing else.
    pub(crate) fn new() -> State {
        let kinds: BTreeMap<_, _> =
            Kind::built_in().into_iter().map(|kind| (kind.resource.clone(), Arc::new(kind))).collect();
        let mut state =
            State { version: 0, kinds, collections: BTreeMap::new(), history: HISTORY, forgotten: 0 };
        for name in ["kube-system", "kube-public", "kube-node-lease", "default"] {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
            state.put(&Resource::new("", "namespaces"), &Key::new("", name), namespace);
        }
        state
    }

    /// The version of the last change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The kind served at this resource.
    pub fn kind(&self, resource: &Resource) -> Option<Arc<Kind>> {
        self.kinds.get(resource).cloned()
    }

    /// All kinds, by resource.
    pub fn kinds(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.kinds.values()
    }

    /// The kind with objects of this apiVersion and kind.
    pub fn kind_of(&self, api_version: &str, kind: &str) -> Option<Arc<Kind>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let mut of_group = self.kinds.values().filter(|candidate| &*candidate.resource.group == group);
        of_group.find(|candidate| candidate.kind == kind && candidate.served(version).is_some()).cloned()
    }

    /// One object.
    pub fn object(&self, resource: &Resource, key: &Key) -> Option<Arc<Object>> {
        self.collections.get(resource)?.objects.get(key).cloned()
    }

    /// All objects of a resource, by namespace and name.
    pub fn objects(&self, resource: &Resource) -> impl Iterator<Item = &Arc<Object>> {
        self.collections.get(resource).into_iter().flat_map(|collection| collection.objects.values())
    }

    /// Up to which version changes of a resource are forgotten: who knows an older state must list again.
    pub(crate) fn forgotten(&self, resource: &Resource) -> u64 {
        self.collections.get(resource).map_or(0, |collection| collection.forgotten).max(self.forgotten)
    }

    pub(crate) fn collection(&self, resource: &Resource) -> Option<&Collection> {
        self.collections.get(resource)
    }

    /// Makes this the object of that name: moves the version on, sets it, and records what happened. Fills in a uid and
    /// the time of creation where the object has none. A CustomResourceDefinition is served from then on.
    ///
    /// `value` is in the stored version, with its kind and apiVersion.
    pub fn put(&mut self, resource: &Resource, key: &Key, mut value: Value) -> Arc<Object> {
        let now = now();
        if let Some(metadata) = metadata_mut(&mut value) {
            metadata.entry("name").or_insert_with(|| json!(&*key.name));
            if !key.namespace.is_empty() {
                metadata.entry("namespace").or_insert_with(|| json!(&*key.namespace));
            }
            metadata.entry("uid").or_insert_with(|| json!(new_uid()));
            metadata.entry("creationTimestamp").or_insert_with(|| json!(now));
        }
        if is_definition(resource) {
            established(&mut value, &now);
            if let Some(kind) = Kind::defined_by(&value) {
                self.kinds.insert(kind.resource.clone(), Arc::new(kind));
            }
        }
        let Some(kind) = self.kinds.get(resource).cloned() else {
            // A path to a resource without a kind is refused before anything is written.
            debug_assert!(false, "no kind at {resource}");
            return Arc::new(Object {
                key: key.clone(),
                version: self.version,
                bytes: Bytes::new(),
                fields_at: 0,
            });
        };
        self.version += 1;
        let capacity = self.history;
        let collection = self.collections.entry(resource.clone()).or_default();
        let before = collection.objects.get(key).cloned();
        // The key of an object that is there is shared by all its versions.
        let key = before.as_ref().map_or_else(|| key.clone(), |before| before.key.clone());
        let after = Arc::new(Object::new(&kind, key.clone(), self.version, &mut value));
        collection.objects.insert(key, Arc::clone(&after));
        let change = match before {
            None => Change::Added { after: Arc::clone(&after) },
            Some(before) => Change::Modified { before, after: Arc::clone(&after) },
        };
        collection.record(change, capacity);
        after
    }

    /// Removes an object. Answers with it as watches see it go: with the version of its deletion. Kinds that a removed
    /// CustomResourceDefinition defined go with all their objects.
    pub fn remove(&mut self, resource: &Resource, key: &Key) -> Option<Arc<Object>> {
        let kind = self.kinds.get(resource).cloned()?;
        let capacity = self.history;
        let collection = self.collections.get_mut(resource)?;
        let before = collection.objects.remove(key)?;
        self.version += 1;
        let mut value = before.value();
        let last = Arc::new(Object::new(&kind, before.key.clone(), self.version, &mut value));
        collection.record(Change::Deleted { before, last: Arc::clone(&last) }, capacity);
        if is_definition(resource)
            && let Some(kind) = Kind::defined_by(&value)
        {
            let keys: Vec<Key> = self.objects(&kind.resource).map(|object| object.key.clone()).collect();
            for key in keys {
                self.remove(&kind.resource, &key);
            }
            self.kinds.remove(&kind.resource);
        }
        Some(last)
    }

    /// Forgets what happened, not what is: older versions are answered with 410.
    pub(crate) fn forget_history(&mut self) {
        self.collections.values_mut().for_each(|collection| collection.history.clear());
        self.forgotten = self.version;
    }

    /// From now on keeps this many changes of each resource.
    pub(crate) fn keep_history(&mut self, changes: usize) {
        self.history = changes;
        for collection in self.collections.values_mut() {
            collection.shorten(changes);
        }
    }

    /// A copy without history: what a backup holds.
    pub(crate) fn backup(&self) -> State {
        let collections = self.collections.iter().map(|(resource, collection)| {
            let objects = collection.objects.clone();
            (resource.clone(), Collection { objects, ..Collection::default() })
        });
        State {
            version: self.version,
            kinds: self.kinds.clone(),
            collections: collections.collect(),
            history: self.history,
            forgotten: self.version,
        }
    }
}

/// The state behind its lock, and who is told that it changed.
#[derive(Debug)]
pub(crate) struct Store {
    state: RwLock<State>,
    changed: watch::Sender<u64>,
}

impl Store {
    pub(crate) fn new(state: State) -> Store {
        let (changed, _) = watch::channel(state.version());
        Store { state: RwLock::new(state), changed }
    }

    /// To look at it. Not to be held over an await.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// To change it: `change` is alone with the state, and watches are woken after it.
    pub(crate) fn write<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let before = state.version;
        let result = change(&mut state);
        let after = state.version;
        drop(state);
        if after != before {
            // Not `send_replace(after)`: two writers may come here in the other order.
            self.changed.send_modify(|version| *version = after);
        }
        result
    }

    /// Wakes when the version has moved.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

fn is_definition(resource: &Resource) -> bool {
    (&*resource.group, &*resource.plural) == DEFINITIONS
}

fn metadata_mut(value: &mut Value) -> Option<&mut Map<String, Value>> {
    let metadata = value.as_object_mut()?.entry("metadata").or_insert_with(|| json!({}));
    if !metadata.is_object() {
        *metadata = json!({});
    }
    metadata.as_object_mut()
}

/// The wall clock as the API writes it: whole seconds, RFC 3339.
pub(crate) fn now() -> String {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

/// A random uid in the form of RFC 9562 version 4.
pub(crate) fn new_uid() -> String {
    let random = || RandomState::new().build_hasher().finish();
    let (high, low) = (random(), random());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        0x8000 | ((low >> 48) & 0x3fff),
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods() -> Resource {
        Resource::new("", "pods")
    }

    fn pod(name: &str, label: &str) -> (Key, Value) {
        let value =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"l": label}}});
        (Key::new("default", name), value)
    }

    fn put(state: &mut State, name: &str, label: &str) -> u64 {
        let (key, value) = pod(name, label);
        state.put(&pods(), &key, value).version
    }

    fn names(state: &State, version: u64) -> Vec<String> {
        let page =
            state.collection(&pods()).expect("pods were put").page(version, None, None, usize::MAX, |_| true);
        let told = page.objects.iter();
        told.map(|object| format!("{} {}", object.key.name, object.value()["metadata"]["labels"]["l"]))
            .collect()
    }

    #[test]
    fn an_older_state_is_known_as_long_as_its_history() {
        let mut state = State::new();
        put(&mut state, "b", "1");
        let then = put(&mut state, "d", "1");
        put(&mut state, "a", "1");
        put(&mut state, "b", "2");
        put(&mut state, "b", "3");
        put(&mut state, "c", "1");
        state.remove(&pods(), &Key::new("default", "d"));
        state.remove(&pods(), &Key::new("default", "c"));
        assert_eq!(names(&state, then), ["b \"1\"", "d \"1\""]);
        assert_eq!(names(&state, state.version()), ["a \"1\"", "b \"3\""]);
    }

    #[test]
    fn pages_of_an_old_version_skip_and_repeat_nothing() {
        let mut state = State::new();
        for name in ["a", "c", "e", "g"] {
            put(&mut state, name, "1");
        }
        let then = state.version();
        for name in ["b", "d", "f", "h"] {
            put(&mut state, name, "1");
        }
        state.remove(&pods(), &Key::new("default", "c"));
        let collection = state.collection(&pods()).expect("pods were put");
        let mut seen = Vec::new();
        let mut start: Option<Key> = None;
        loop {
            let page = collection.page(then, Some("default"), start.as_ref(), 1, |_| true);
            let Some(object) = page.objects.first() else { break };
            assert_eq!(page.remaining, 4 - seen.len() - 1);
            seen.push(object.key.name.to_string());
            start = Some(object.key.clone());
        }
        assert_eq!(seen, ["a", "c", "e", "g"]);
    }

    #[test]
    fn history_is_bounded_and_says_what_it_forgot() {
        let mut state = State::new();
        state.keep_history(2);
        let first = put(&mut state, "a", "1");
        put(&mut state, "a", "2");
        put(&mut state, "a", "3");
        assert_eq!(state.forgotten(&pods()), first);
        let collection = state.collection(&pods()).expect("pods were put");
        assert_eq!(collection.since(first, u64::MAX).count(), 2);
    }

    #[test]
    fn a_deletion_moves_the_version_on_and_shows_it() {
        let mut state = State::new();
        let version = put(&mut state, "a", "1");
        let last = state.remove(&pods(), &Key::new("default", "a")).expect("it was there");
        assert_eq!(last.version, version + 1);
        assert_eq!(last.value()["metadata"]["resourceVersion"], (version + 1).to_string());
    }

    #[test]
    fn octets_begin_with_the_type_and_fields_follow() {
        let value = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {}});
        let (bytes, at) = encode(&value, false);
        assert_eq!(&bytes[..], br#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"},"spec":{}}"#);
        assert_eq!(&bytes[at..], br#""metadata":{"name":"a"},"spec":{}}"#);
        let (bytes, _) = encode(&json!({"kind": "Thing", "apiVersion": "a/v1"}), true);
        assert_eq!(&bytes[..], br#"{"apiVersion":"a/v1","kind":"Thing"}"#);
    }

    #[test]
    fn a_removed_definition_takes_its_objects_along() {
        let mut state = State::new();
        let definitions = Resource::new(DEFINITIONS.0, DEFINITIONS.1);
        let key = Key::new("", "things.example.org");
        let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "things.example.org"},
            "spec": {"group": "example.org", "scope": "Cluster", "names": {"kind": "Thing", "plural": "things"},
                "versions": [{"name": "v1", "served": true, "storage": true}]}});
        let put = state.put(&definitions, &key, definition);
        assert_eq!(put.value()["status"]["conditions"][1]["type"], "Established");
        let things = Resource::new("example.org", "things");
        state.put(&things, &Key::new("", "a"), json!({"apiVersion": "example.org/v1", "kind": "Thing"}));
        state.remove(&definitions, &key);
        assert!(state.kind(&things).is_none());
        assert_eq!(state.objects(&things).count(), 0);
    }

    #[test]
    fn uids_look_like_uids_and_differ() {
        let (one, other) = (new_uid(), new_uid());
        assert_ne!(one, other);
        assert_eq!(one.len(), 36);
        assert_eq!(&one[14..15], "4");
    }
}
