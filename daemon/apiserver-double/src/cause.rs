//! Wording of what is wrong with a field (`k8s.io/apimachinery/pkg/util/validation/field`), and of a few refusals.

use serde_json::{Value, json};

use crate::status::{Cause, Status};

impl Cause {
    pub(crate) fn new(reason: &'static str, field: impl Into<String>, message: impl Into<String>) -> Cause {
        Cause { reason, message: message.into(), field: field.into() }
    }

    /// A value that may not be there: `Invalid value: VALUE: WHAT`.
    pub(crate) fn invalid(field: impl Into<String>, value: &Value, what: impl AsRef<str>) -> Cause {
        Cause::new("FieldValueInvalid", field, format!("Invalid value: {value}: {}", what.as_ref()))
    }

    /// A field that must be there.
    pub(crate) fn required(field: impl Into<String>, what: &str) -> Cause {
        let message =
            if what.is_empty() { "Required value".to_owned() } else { format!("Required value: {what}") };
        Cause::new("FieldValueRequired", field, message)
    }

    /// A value of a list of permitted ones.
    pub(crate) fn not_supported(field: impl Into<String>, value: &Value, supported: &[String]) -> Cause {
        let supported = supported.join(", ");
        let message = format!("Unsupported value: {value}: supported values: {supported}");
        Cause::new("FieldValueNotSupported", field, message)
    }

    /// Something that may not be said or changed.
    pub(crate) fn forbidden(field: impl Into<String>, what: &str) -> Cause {
        Cause::new("FieldValueForbidden", field, format!("Forbidden: {what}"))
    }
}

impl Status {
    /// 415: a patch that this resource does not take.
    pub(crate) fn unsupported_patch(accepted: &[&str]) -> Status {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Status { details: Some(json!({})), ..Status::new(415, "UnsupportedMediaType", message) }
    }

    /// 422 of a patch that does not fit; it names no object.
    pub(crate) fn rejected_patch() -> Status {
        let message = "the server rejected our request due to an error in our request";
        Status { details: Some(json!({})), ..Status::new(422, "Invalid", message) }
    }

    /// 409 of server-side apply.
    pub(crate) fn apply_conflict(message: String, causes: &[Cause]) -> Status {
        let causes: Vec<Value> = causes
            .iter()
            .map(|cause| json!({"reason": cause.reason, "message": cause.message, "field": cause.field}))
            .collect();
        Status { details: Some(json!({ "causes": causes })), ..Status::new(409, "Conflict", message) }
    }
}

impl Status {
    /// 409: the version that was sent is not the object's.
    pub(crate) fn modified(resource: &crate::kind::Resource, name: &str) -> Status {
        let what =
            "the object has been modified; please apply your changes to the latest version and try again";
        Status::conflict(resource, name, what)
    }
}
