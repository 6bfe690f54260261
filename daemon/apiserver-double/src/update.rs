//! Create, replace, patch and delete.

use hyper::body::Bytes;
use serde_json::Value;

use crate::kind::{Key, Resource};
use crate::server::Call;
use crate::status::Status;
use crate::store::State;

/// An answer with an object.
pub(crate) struct Reply {
    /// 200, or 201 for what was created.
    pub(crate) code: u16,
    /// The object, or a Status.
    pub(crate) body: Bytes,
}

/// Answers a request that writes.
pub(crate) fn handle(_state: &mut State, _call: &Call, _body: &[u8]) -> Result<Reply, Status> {
    Err(Status::method_not_allowed())
}

/// Creates or replaces an object with its status, as an admin would who forces it.
pub(crate) fn put(state: &mut State, mut value: Value) -> Result<Value, Status> {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind_name) = (text("/apiVersion"), text("/kind"));
    let (mut namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    let Some(kind) = state.kind_of(&api_version, &kind_name) else { return Err(Status::unknown_resource()) };
    if kind.is_namespaced && namespace.is_empty() {
        "default".clone_into(&mut namespace);
    }
    let key = Key::new(&namespace, &name);
    if let Some(before) = state.object(kind.stored_at(), &key) {
        let before = before.value();
        for field in ["uid", "creationTimestamp"] {
            if let Some(kept) = before["metadata"].get(field)
                && let Some(metadata) = value["metadata"].as_object_mut()
            {
                metadata.insert(field.to_owned(), kept.clone());
            }
        }
    }
    Ok(state.put(kind.stored_at(), &key, value).value())
}

/// Removes an object, as an admin would who forces it.
pub(crate) fn remove(state: &mut State, resource: &Resource, key: &Key) -> Option<Value> {
    Some(state.remove(resource, key)?.value())
}
