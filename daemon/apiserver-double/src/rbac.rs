//! What roles allow.

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
pub(crate) fn allows(_roles: &[Value], _attributes: &Attributes<'_>) -> bool {
    false
}
