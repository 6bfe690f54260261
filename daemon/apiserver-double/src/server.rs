//! One request: who asks, for what, and what the answer is.

use std::sync::Arc;

use crate::kind::Kind;
use crate::path::{Query, Target};

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the verbs of the API, as roles name them")]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// As error messages name it.
    pub name: String,
    /// `system:masters` may do everything.
    pub groups: Vec<String>,
}

/// A request of a resource, once it is known to be allowed.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) verb: Verb,
    pub(crate) target: Target,
    pub(crate) kind: Arc<Kind>,
    pub(crate) query: Query,
    pub(crate) user: User,
    pub(crate) user_agent: String,
    pub(crate) accept: String,
    pub(crate) content_type: String,
}
