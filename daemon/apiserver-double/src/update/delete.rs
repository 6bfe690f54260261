//! Deletion: preconditions, finalizers, pods that end gracefully, and what goes along: dependents and the content of
//! namespaces. What controllers of a real cluster do a little later is done at once here.

use serde_json::{Value, json};

use super::{Write, read_body, remove, text};
use crate::convert;
use crate::kind::{Key, Kind, Resource};
use crate::selector::Selector;
use crate::status::Status;
use crate::store::{self, State};
use crate::time;

/// Of a `DeleteOptions` body and of the query, which wins nothing over the body.
struct Wish {
    grace_seconds: Option<i64>,
    uid: Option<String>,
    version: Option<String>,
    orphans: bool,
}

impl Write<'_> {
    fn wish(&self, body: &[u8]) -> Result<Wish, Status> {
        let body = if body.is_empty() { Value::Null } else { read_body(body)? };
        let of = |field: &str| {
            let value = body.get(field).filter(|value| !value.is_null()).cloned();
            value.or_else(|| {
                self.call
                    .query
                    .value(field)
                    .map(|text| text.parse::<i64>().map_or_else(|_| json!(text), |number| json!(number)))
            })
        };
        let condition = |field: &str| {
            body.pointer(&format!("/preconditions/{field}")).and_then(Value::as_str).map(str::to_owned)
        };
        Ok(Wish {
            grace_seconds: of("gracePeriodSeconds").and_then(|value| value.as_i64()),
            uid: condition("uid"),
            version: condition("resourceVersion"),
            orphans: of("propagationPolicy").is_some_and(|policy| policy == "Orphan"),
        })
    }

    pub(super) fn delete(&mut self, body: &[u8]) -> Result<(u16, Value), Status> {
        let wish = self.wish(body)?;
        let key = self.key()?;
        let object = self.current_or_not_found(&key)?;
        self.delete_one(&key, object, &wish).map(|value| (200, value))
    }

    pub(super) fn delete_collection(&mut self, body: &[u8]) -> Result<(u16, Value), Status> {
        let wish = self.wish(body)?;
        let kind = self.call.kind.clone();
        let query = &self.call.query;
        let (labels, fields) =
            (query.get("labelSelector").unwrap_or_default(), query.get("fieldSelector").unwrap_or_default());
        let selector = Selector::read(&kind, &self.version.name, labels, fields)?;
        let namespace = self.call.target.namespace.as_deref();
        let objects = self.state.objects(kind.stored_at());
        let chosen: Vec<(Key, Value)> = objects
            .filter(|object| {
                namespace.is_none_or(|namespace| *object.key.namespace == *namespace)
                    && selector.matches(object)
            })
            .map(|object| (object.key.clone(), convert::served(&kind, &self.version.name, object.value())))
            .collect();
        let mut items = Vec::new();
        for (key, object) in chosen {
            items.push(object.clone());
            self.delete_one(&key, object, &wish)?;
        }
        let list = json!({"kind": kind.list_kind, "apiVersion": kind.api_version(&self.version.name),
            "metadata": {"resourceVersion": self.state.version().to_string()}, "items": items});
        Ok((200, list))
    }

    fn delete_one(&mut self, key: &Key, mut object: Value, wish: &Wish) -> Result<Value, Status> {
        let kind = self.call.kind.clone();
        for (wanted, field, name) in
            [(&wish.uid, "uid", "UID"), (&wish.version, "resourceVersion", "ResourceVersion")]
        {
            let is = text(&object, &format!("/metadata/{field}"));
            if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != is) {
                let what = format!(
                    "Precondition failed: {name} in precondition: {wanted}, {name} in object meta: {is}"
                );
                return Err(Status::conflict(&kind.resource, &key.name, &what));
            }
        }
        self.admit(key, None, Some(&object))?;
        let is_pod = !kind.is_custom && kind.kind == "Pod";
        let done = |object: &Value| {
            if is_pod {
                return object.clone();
            }
            let mut details = json!({"name": &*key.name, "kind": &*kind.resource.plural, "uid": text(object, "/metadata/uid")});
            if !kind.resource.group.is_empty() {
                details["group"] = json!(&*kind.resource.group);
            }
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
        };
        let was_leaving = !text(&object, "/metadata/deletionTimestamp").is_empty();
        let grace = if is_pod { pod_grace(&object, wish.grace_seconds) } else { 0 };
        let is_held = object["metadata"]["finalizers"].as_array().is_some_and(|held| !held.is_empty());
        let is_namespace = !kind.is_custom && kind.kind == "Namespace";
        if grace == 0 && !is_held && !is_namespace {
            if !self.options.is_dry_run {
                if wish.orphans {
                    orphan(self.state, text(&object, "/metadata/uid"));
                }
                remove(self.state, kind.stored_at(), key);
            }
            return Ok(done(&object));
        }
        let planned = object["metadata"]["deletionGracePeriodSeconds"].as_i64();
        if was_leaving && planned.is_none_or(|planned| planned <= grace) {
            return Ok(object);
        }
        mark_leaving(&mut object, grace);
        if is_namespace {
            object["status"]["phase"] = json!("Terminating");
        }
        let object = self.store(key, object);
        if is_namespace && !self.options.is_dry_run {
            empty(self.state, &key.name);
            close_namespaces(self.state);
        }
        Ok(object)
    }
}

fn mark_leaving(object: &mut Value, grace_seconds: i64) {
    let now = time::seconds(&store::now()).unwrap_or(0);
    object["metadata"]["deletionTimestamp"] = json!(time::rfc3339(now + grace_seconds));
    object["metadata"]["deletionGracePeriodSeconds"] = json!(grace_seconds);
    if let Some(generation) = object["metadata"]["generation"].as_i64() {
        object["metadata"]["generation"] = json!(generation + 1);
    }
}

/// How long a pod has to end: kubelet removes it for good with a grace of 0. Pods that no kubelet runs, and those that
/// have ended, go at once (`podStrategy.CheckGracefulDelete`).
fn pod_grace(pod: &Value, wanted: Option<i64>) -> i64 {
    let of_spec = pod["spec"]["terminationGracePeriodSeconds"].as_i64();
    let has_ended = ["Succeeded", "Failed"].contains(&text(pod, "/status/phase"));
    if text(pod, "/spec/nodeName").is_empty() || has_ended {
        return 0;
    }
    wanted.or(of_spec).unwrap_or(30).max(0)
}

/// What happens once an object is gone: what it owned goes, a namespace that was waiting for it closes.
pub(super) fn after(state: &mut State, resource: &Resource, object: &Value) {
    // Pods and Events own nothing here, and there are many of them.
    let is_owner = !["pods", "events"].contains(&&*resource.plural);
    if is_owner {
        for (kind, key) in dependents(state, text(object, "/metadata/uid")) {
            let Some(dependent) = state.object(&kind, &key).map(|found| found.value()) else { continue };
            if is_orphaned(state, &dependent) {
                leave(state, &kind, &key, dependent);
            }
        }
    }
    if !text(object, "/metadata/namespace").is_empty() {
        close_namespaces(state);
    }
}

/// Deletes as the garbage collector does: finalizers are waited for.
fn leave(state: &mut State, resource: &Resource, key: &Key, mut object: Value) {
    let is_held = object["metadata"]["finalizers"].as_array().is_some_and(|held| !held.is_empty());
    let grace = if &*resource.plural == "pods" { pod_grace(&object, None) } else { 0 };
    if !is_held && grace == 0 {
        remove(state, resource, key);
    } else if text(&object, "/metadata/deletionTimestamp").is_empty() {
        mark_leaving(&mut object, grace);
        state.put(resource, key, object);
    }
}

fn dependents(state: &State, uid: &str) -> Vec<(Resource, Key)> {
    if uid.is_empty() {
        return Vec::new();
    }
    let kinds: Vec<Resource> =
        state.kinds().filter(|kind| kind.shows.is_none()).map(|kind| kind.resource.clone()).collect();
    let mut found = Vec::new();
    for resource in kinds {
        for object in state.objects(&resource) {
            // Parsing all of a large cluster takes seconds: most objects do not even name the uid.
            let names_it = std::str::from_utf8(&object.bytes()).is_ok_and(|text| text.contains(uid));
            if names_it && owners(&object.value()).iter().any(|owner| owner["uid"] == uid) {
                found.push((resource.clone(), object.key.clone()));
            }
        }
    }
    found
}

fn owners(object: &Value) -> Vec<Value> {
    object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default()
}

/// Whether none of its owners is there, and it has at least one.
fn is_orphaned(state: &State, object: &Value) -> bool {
    let owners = owners(object);
    let namespace = text(object, "/metadata/namespace");
    let is_there = |owner: &Value| {
        // Of kinds that this server does not have, ReplicaSets for one, it cannot know: they count as there.
        let Some(kind) = state.kind_of(text(owner, "/apiVersion"), text(owner, "/kind")) else {
            return true;
        };
        let key = Key::new(if kind.is_namespaced { namespace } else { "" }, text(owner, "/name"));
        state
            .object(kind.stored_at(), &key)
            .is_some_and(|found| found.value()["metadata"]["uid"] == owner["uid"])
    };
    !owners.is_empty() && !owners.iter().any(is_there)
}

/// Created with owners that are gone, it goes, too.
pub(super) fn if_orphaned(state: &mut State, kind: &Kind, key: &Key, object: &Value) {
    if is_orphaned(state, object) {
        remove(state, kind.stored_at(), key);
    }
}

/// Takes the references to an owner away, so that what it owned stays.
fn orphan(state: &mut State, uid: &str) {
    for (resource, key) in dependents(state, uid) {
        let Some(mut object) = state.object(&resource, &key).map(|found| found.value()) else { continue };
        if let Some(owners) = object.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut) {
            owners.retain(|owner| owner["uid"] != uid);
        }
        state.put(&resource, &key, object);
    }
}

fn namespaced(state: &State) -> Vec<Resource> {
    state
        .kinds()
        .filter(|kind| kind.is_namespaced && kind.shows.is_none())
        .map(|kind| kind.resource.clone())
        .collect()
}

/// Deletes everything in a namespace.
fn empty(state: &mut State, namespace: &str) {
    for resource in namespaced(state) {
        let keys: Vec<Key> = state
            .objects(&resource)
            .filter(|object| *object.key.namespace == *namespace)
            .map(|object| object.key.clone())
            .collect();
        for key in keys {
            if let Some(object) = state.object(&resource, &key).map(|found| found.value()) {
                leave(state, &resource, &key, object);
            }
        }
    }
}

/// Removes namespaces that are terminating and empty.
fn close_namespaces(state: &mut State) {
    let namespaces = Resource::new("", "namespaces");
    let leaving: Vec<Key> = state
        .objects(&namespaces)
        .filter(|object| object.bytes().windows(19).any(|part| part == b"\"deletionTimestamp\""))
        .map(|object| object.key.clone())
        .collect();
    for key in leaving {
        let is_used = namespaced(state)
            .iter()
            .any(|resource| state.objects(resource).any(|object| object.key.namespace == key.name));
        let is_held = state.object(&namespaces, &key).is_some_and(|found| {
            found.value()["metadata"]["finalizers"].as_array().is_some_and(|held| !held.is_empty())
        });
        if !is_used && !is_held {
            state.remove(&namespaces, &key);
        }
    }
}
