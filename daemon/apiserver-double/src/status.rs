//! What a server answers when it does not answer with an object: the kind `Status`, worded as kube-apiserver words it.
//!
//! Clients tell cases apart by `code` and `reason`; people read `message`.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::kind::Resource;

/// A refusal, or the outcome of a deletion.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// HTTP status, which the body repeats.
    pub code: u16,
    /// For programs; empty: the field is absent.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// Which object, which fields.
    pub details: Option<Value>,
    /// Where a list may be continued after 410, at the price of consistency.
    pub continue_token: Option<String>,
    /// In the header `Retry-After` and in the details; whole seconds, rounded up.
    pub retry_after: Option<Duration>,
}

/// One field of an object that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, `FieldManagerConflict`, ...
    pub reason: &'static str,
    /// What is wrong.
    pub message: String,
    /// Path of the field, as `spec.asn`.
    pub field: String,
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut value = Map::from_iter([
            ("reason".to_owned(), json!(self.reason)),
            ("message".to_owned(), json!(self.message)),
        ]);
        if !self.field.is_empty() {
            value.insert("field".to_owned(), json!(self.field));
        }
        Value::Object(value)
    }
}

impl Status {
    /// With these; no details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Status {
        Status {
            code,
            reason,
            message: message.into(),
            details: None,
            continue_token: None,
            retry_after: None,
        }
    }

    fn of(mut self, resource: &Resource, name: &str) -> Status {
        self.details = Some(object_details(resource, name));
        self
    }

    /// No such object.
    pub fn not_found(resource: &Resource, name: &str) -> Status {
        Status::new(404, "NotFound", format!("{resource} {name:?} not found")).of(resource, name)
    }

    /// The path names nothing that this server serves. kube-apiserver says it so where the group is served; for other
    /// paths it answers `404 page not found` as text.
    pub fn unknown_resource() -> Status {
        Status { details: Some(json!({})), ..Status::new(404, "NotFound", UNKNOWN_RESOURCE) }
    }

    /// Create of what is there.
    pub fn already_exists(resource: &Resource, name: &str) -> Status {
        Status::new(409, "AlreadyExists", format!("{resource} {name:?} already exists")).of(resource, name)
    }

    /// Somebody else changed it in between, or it is not in a state for this.
    pub fn conflict(resource: &Resource, name: &str, what: &str) -> Status {
        let message = format!("Operation cannot be fulfilled on {resource} {name:?}: {what}");
        Status::new(409, "Conflict", message).of(resource, name)
    }

    /// The server cannot read this.
    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::new(400, "BadRequest", message)
    }

    /// The verb is not served for this resource.
    pub fn method_not_allowed() -> Status {
        let message = "the server does not allow this method on the requested resource";
        Status { details: Some(json!({})), ..Status::new(405, "MethodNotAllowed", message) }
    }

    /// Fields have values that they may not have. `kind` is the kind's name, as `BGPPeerConfig`.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: &[Cause]) -> Status {
        let texts: Vec<String> = causes
            .iter()
            .map(|cause| match cause.field.as_str() {
                "" => cause.message.clone(),
                field => format!("{field}: {}", cause.message),
            })
            .collect();
        let text = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let full_kind = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let mut details = Map::new();
        if !name.is_empty() {
            details.insert("name".to_owned(), json!(name));
        }
        if !group.is_empty() {
            details.insert("group".to_owned(), json!(group));
        }
        details.insert("kind".to_owned(), json!(kind));
        details.insert("causes".to_owned(), causes.iter().map(Cause::to_value).collect());
        Status {
            details: Some(Value::Object(details)),
            ..Status::new(422, "Invalid", format!("{full_kind} {name:?} is invalid: {text}"))
        }
    }

    /// Nobody knows who asks.
    pub fn unauthorized() -> Status {
        Status::new(401, "Unauthorized", "Unauthorized")
    }

    /// Who asks may not do this. `what` ends the sentence, as `User "x" cannot list resource "pods" in API group ""`.
    pub fn forbidden(resource: &Resource, name: &str, what: &str) -> Status {
        let subject = if name.is_empty() { resource.to_string() } else { format!("{resource} {name:?}") };
        Status::new(403, "Forbidden", format!("{subject} is forbidden: {what}")).of(resource, name)
    }

    /// What was asked for is no longer known: list again.
    pub fn expired(message: impl Into<String>) -> Status {
        Status::new(410, "Expired", message)
    }

    /// A version that this server has not reached, neither in time.
    pub fn too_large_version(asked: u64, current: u64) -> Status {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        Status {
            details: Some(json!({
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                "retryAfterSeconds": 1,
            })),
            retry_after: Some(Duration::from_secs(1)),
            ..Status::new(504, "Timeout", message)
        }
    }

    /// The server failed.
    pub fn internal_error(what: &str) -> Status {
        Status {
            details: Some(json!({"causes": [{"message": what}]})),
            ..Status::new(500, "InternalError", format!("Internal error occurred: {what}"))
        }
    }

    /// As an object of the API.
    pub fn to_value(&self) -> Value {
        let mut metadata = Map::new();
        if let Some(token) = &self.continue_token {
            metadata.insert("continue".to_owned(), json!(token));
        }
        let mut value = Map::from_iter([
            ("kind".to_owned(), json!("Status")),
            ("apiVersion".to_owned(), json!("v1")),
            ("metadata".to_owned(), Value::Object(metadata)),
            ("status".to_owned(), json!(if self.code < 400 { "Success" } else { "Failure" })),
            ("code".to_owned(), json!(self.code)),
        ]);
        if !self.message.is_empty() {
            value.insert("message".to_owned(), json!(self.message));
        }
        if !self.reason.is_empty() {
            value.insert("reason".to_owned(), json!(self.reason));
        }
        if let Some(details) = &self.details {
            value.insert("details".to_owned(), details.clone());
        }
        Value::Object(value)
    }
}

/// Message of 404 for a path that is not served.
pub(crate) const UNKNOWN_RESOURCE: &str = "the server could not find the requested resource";

fn object_details(resource: &Resource, name: &str) -> Value {
    let mut details = Map::new();
    if !name.is_empty() {
        details.insert("name".to_owned(), json!(name));
    }
    if !resource.group.is_empty() {
        details.insert("group".to_owned(), json!(&*resource.group));
    }
    details.insert("kind".to_owned(), json!(&*resource.plural));
    Value::Object(details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_is_not_there_is_named_with_its_group() {
        let status = Status::not_found(&Resource::new("cambric.dev", "bgppeerconfigs"), "tor1");
        assert_eq!(status.message, "bgppeerconfigs.cambric.dev \"tor1\" not found");
        let core = Status::not_found(&Resource::new("", "pods"), "web").to_value();
        assert_eq!(core["message"], "pods \"web\" not found");
        assert_eq!(core["details"], json!({"name": "web", "kind": "pods"}));
        assert_eq!((&core["code"], &core["status"]), (&json!(404), &json!("Failure")));
    }

    #[test]
    fn several_causes_are_told_in_brackets() {
        let cause = |field: &str| Cause {
            reason: "FieldValueRequired",
            message: "Required value".to_owned(),
            field: field.to_owned(),
        };
        let status = Status::invalid("", "Pod", "web", &[cause("spec"), cause("metadata.name")]);
        assert_eq!(
            status.message,
            "Pod \"web\" is invalid: [spec: Required value, metadata.name: Required value]"
        );
    }
}
