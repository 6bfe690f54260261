//! Objects as tables, which is how kubectl shows them.

use serde_json::{Value, json};

use crate::kind::Kind;

/// `columnDefinitions`, and one row an object.
pub(crate) fn render(_kind: &Kind, _version: &str, objects: &[Value]) -> (Value, Vec<Value>) {
    let columns =
        json!([{"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0}]);
    let row = |object: &Value| {
        let metadata = object.get("metadata").cloned().unwrap_or_default();
        let partial =
            json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata});
        json!({"cells": [metadata["name"]], "object": partial})
    };
    (columns, objects.iter().map(row).collect())
}
