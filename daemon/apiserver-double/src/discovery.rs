//! What a server says about itself: groups, resources, version, schemas.

use std::sync::Arc;

use serde_json::Value;

use crate::kind::Kind;

/// Answers a path that is of no resource. `None`: there is nothing at it.
pub(crate) fn answer(_kinds: &[Arc<Kind>], _path: &str, _accept: &str) -> Option<Value> {
    None
}
