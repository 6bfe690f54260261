//! Whether a schema is structural, and what else a server refuses about one
//! (`k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation` and `.../apiserver/schema/validation.go`).

use serde_json::{Value, json};

use super::{is_set, values};
use crate::status::Cause;

#[derive(Clone, Copy)]
enum Level {
    Root,
    Field,
    Item,
}

pub(super) fn check(schema: &Value, at: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    if schema["type"] != "object" && schema.get("type").is_some() {
        causes.push(Cause::invalid(format!("{at}.type"), &schema["type"], "must be object at the root"));
    }
    walk(schema, at, Level::Root, &mut causes);
    causes
}

fn walk(schema: &Value, at: &str, level: Level, causes: &mut Vec<Cause>) {
    let is_free = is_set(schema, "x-kubernetes-preserve-unknown-fields")
        || is_set(schema, "x-kubernetes-int-or-string");
    let of_type = schema["type"].as_str().unwrap_or_default();
    if of_type.is_empty() && !is_free {
        let what = match level {
            Level::Root => "must not be empty at the root",
            Level::Field => "must not be empty for specified object fields",
            Level::Item => "must not be empty for specified array items",
        };
        causes.push(Cause::required(format!("{at}.type"), what));
    }
    const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
    if !of_type.is_empty() && !TYPES.contains(&of_type) {
        let supported = TYPES.map(|name| json!(name).to_string());
        causes.push(Cause::not_supported(format!("{at}.type"), &schema["type"], &supported));
    }
    forbidden(schema, at, causes);
    if let Some(pattern) = schema["pattern"].as_str()
        && let Err(error) = values::pattern(pattern)
    {
        let what = format!("must be a valid regular expression, but isn't: {error}");
        causes.push(Cause::invalid(format!("{at}.pattern"), &json!(pattern), what));
    }
    list(schema, of_type, at, causes);
    if let Some(default) = schema.get("default") {
        for cause in values::check(default, schema) {
            let field = if cause.field.is_empty() {
                format!("{at}.default")
            } else {
                format!("{at}.default.{}", cause.field)
            };
            causes.push(Cause { field, ..cause });
        }
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        if matches!(level, Level::Root) && name == "metadata" {
            continue;
        }
        walk(schema, &format!("{at}.properties[{name}]"), Level::Field, causes);
    }
    if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
        walk(items, &format!("{at}.items"), Level::Item, causes);
    }
    if let Some(others) = schema.get("additionalProperties").filter(|others| others.is_object()) {
        walk(others, &format!("{at}.additionalProperties"), Level::Field, causes);
    }
    for junctor in ["allOf", "anyOf", "oneOf"] {
        for (place, branch) in schema[junctor].as_array().into_iter().flatten().enumerate() {
            inside_junctor(branch, &format!("{at}.{junctor}[{place}]"), causes);
        }
    }
    if let Some(branch) = schema.get("not") {
        inside_junctor(branch, &format!("{at}.not"), causes);
    }
}

fn forbidden(schema: &Value, at: &str, causes: &mut Vec<Cause>) {
    const NEVER: [&str; 6] = ["$ref", "definitions", "dependencies", "id", "patternProperties", "$schema"];
    for name in NEVER {
        if schema.get(name).is_some_and(|value| !value.is_null()) {
            causes.push(Cause::forbidden(format!("{at}.{name}"), &format!("{name} is not supported")));
        }
    }
    if is_set(schema, "uniqueItems") {
        let what = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        causes.push(Cause::forbidden(format!("{at}.uniqueItems"), what));
    }
    if schema.get("additionalProperties") == Some(&json!(false)) {
        causes.push(Cause::forbidden(
            format!("{at}.additionalProperties"),
            "additionalProperties cannot be set to false",
        ));
    }
    let has = |name: &str| schema[name].as_object().is_some_and(|fields| !fields.is_empty());
    if has("properties") && schema.get("additionalProperties").is_some() {
        let what = "additionalProperties and properties are mutual exclusive";
        causes.push(Cause::forbidden(format!("{at}.additionalProperties"), what));
    }
}

fn list(schema: &Value, of_type: &str, at: &str, causes: &mut Vec<Cause>) {
    if of_type == "array" && schema.get("items").is_none() {
        causes.push(Cause::required(format!("{at}.items"), "must be specified"));
    }
    let list_type = schema["x-kubernetes-list-type"].as_str();
    let keys = schema["x-kubernetes-list-map-keys"].as_array();
    match (list_type, keys) {
        (None, None) | (Some("atomic" | "set"), None) => {}
        (Some("map"), Some(keys)) if !keys.is_empty() => {
            for key in keys.iter().filter_map(Value::as_str) {
                let property = &schema["items"]["properties"][key];
                let is_required = schema["items"]["required"]
                    .as_array()
                    .is_some_and(|names| names.iter().any(|name| name == key));
                if property.is_null() {
                    let what = "entries must all be names of item properties";
                    causes.push(Cause::invalid(
                        format!("{at}.x-kubernetes-list-map-keys"),
                        &json!(keys),
                        what,
                    ));
                } else if !is_required && property.get("default").is_none() {
                    let what = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                    causes.push(Cause::required(format!("{at}.items.properties[{key}].default"), what));
                }
            }
        }
        (Some("map"), _) => {
            let what = "must not be empty if x-kubernetes-list-type is map";
            causes.push(Cause::required(format!("{at}.x-kubernetes-list-map-keys"), what));
        }
        (_, Some(keys)) if matches!(list_type, None | Some("atomic" | "set")) => {
            let what = "must be map if x-kubernetes-list-map-keys is non-empty";
            causes.push(Cause::invalid(format!("{at}.x-kubernetes-list-type"), &json!(keys), what));
        }
        (Some(other), _) => {
            let supported = ["atomic", "set", "map"].map(|name| json!(name).to_string());
            causes.push(Cause::not_supported(
                format!("{at}.x-kubernetes-list-type"),
                &json!(other),
                &supported,
            ));
        }
        (None, Some(_)) => {}
    }
}

/// Value validations only: `allOf` and the like may not say what there is.
fn inside_junctor(schema: &Value, at: &str, causes: &mut Vec<Cause>) {
    const OUTSIDE: [&str; 7] = [
        "additionalProperties",
        "default",
        "description",
        "nullable",
        "title",
        "type",
        "x-kubernetes-preserve-unknown-fields",
    ];
    for name in OUTSIDE {
        let is_int_or_string = name == "type";
        if schema.get(name).is_some()
            && !(is_int_or_string && ["integer", "string"].iter().any(|of| schema["type"] == *of))
        {
            causes.push(Cause::forbidden(format!("{at}.{name}"), "must be empty to be structural"));
        }
    }
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        inside_junctor(below, &format!("{at}.properties[{name}]"), causes);
    }
}
