//! Values against a schema: types, bounds, patterns, enumerations, required fields, lists with keys; worded as
//! `k8s.io/kube-openapi/pkg/validation` and `field.Error` word it.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::Regex;
use serde_json::{Map, Value, json};

use super::{below, format, is_set};
use crate::status::Cause;

/// What is wrong with a value; paths begin below it.
pub(super) fn check(value: &Value, schema: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    walk(value, schema, "", &mut causes);
    causes
}

/// A regular expression of a schema, compiled once a thread.
pub(super) fn pattern(text: &str) -> Result<Regex, regex::Error> {
    thread_local! {
        static COMPILED: RefCell<HashMap<String, Regex>> = RefCell::default();
    }
    if let Some(compiled) = COMPILED.with_borrow(|compiled| compiled.get(text).cloned()) {
        return Ok(compiled);
    }
    let compiled = Regex::new(text)?;
    COMPILED.with_borrow_mut(|all| all.insert(text.to_owned(), compiled.clone()));
    Ok(compiled)
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_of(value: &Value, schema: &Value) -> bool {
    let is = type_of(value);
    if is_set(schema, "x-kubernetes-int-or-string") {
        return is == "integer" || is == "string";
    }
    match schema["type"].as_str() {
        None => true,
        Some("number") => is == "number" || is == "integer",
        // 1.0 is an integer to JSON schema.
        Some("integer") => is == "integer" || value.as_f64().is_some_and(|number| number.fract() == 0.0),
        Some(of_type) => is == of_type || (is == "null" && is_set(schema, "nullable")),
    }
}

fn in_body(path: &str, value: &Value, what: &str) -> Cause {
    let named = if path.is_empty() { "" } else { path };
    Cause::invalid(path, value, format!("{named} in body {what}"))
}

fn walk(value: &Value, schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    if !is_of(value, schema) {
        let of_type = schema["type"].as_str().unwrap_or("integer,string");
        let is = json!(type_of(value));
        let message = format!("Invalid value: {is}: {path} in body must be of type {of_type}: {is}");
        causes.push(Cause::new("FieldValueTypeInvalid", path, message));
        return;
    }
    if let Some(permitted) = schema["enum"].as_array()
        && !permitted.contains(value)
    {
        let supported: Vec<String> = permitted.iter().map(Value::to_string).collect();
        causes.push(Cause::not_supported(path, value, &supported));
    }
    match value {
        Value::Number(number) => {
            check_number(value, number.as_f64().unwrap_or_default(), schema, path, causes)
        }
        Value::String(text) => check_text(value, text, schema, path, causes),
        Value::Array(items) => check_list(value, items, schema, path, causes),
        Value::Object(fields) => check_fields(value, fields, schema, path, causes),
        Value::Null | Value::Bool(_) => {}
    }
    check_junctors(value, schema, path, causes);
}

fn check_number(value: &Value, number: f64, schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    if let Some(bound) = schema["minimum"].as_f64() {
        let is_outside = if is_set(schema, "exclusiveMinimum") { number <= bound } else { number < bound };
        let how =
            if is_set(schema, "exclusiveMinimum") { "greater than" } else { "greater than or equal to" };
        if is_outside {
            causes.push(in_body(path, value, &format!("should be {how} {}", schema["minimum"])));
        }
    }
    if let Some(bound) = schema["maximum"].as_f64() {
        let is_outside = if is_set(schema, "exclusiveMaximum") { number >= bound } else { number > bound };
        let how = if is_set(schema, "exclusiveMaximum") { "less than" } else { "less than or equal to" };
        if is_outside {
            causes.push(in_body(path, value, &format!("should be {how} {}", schema["maximum"])));
        }
    }
    if let Some(step) = schema["multipleOf"].as_f64()
        && (number / step).fract() != 0.0
    {
        causes.push(in_body(path, value, &format!("should be a multiple of {}", schema["multipleOf"])));
    }
    let range = match schema["format"].as_str() {
        Some("int32") => f64::from(i32::MIN)..=f64::from(i32::MAX),
        _ => f64::MIN..=f64::MAX,
    };
    if !range.contains(&number) {
        causes.push(in_body(path, value, &format!("must be of type int32: {value}")));
    }
}

fn check_text(value: &Value, text: &str, schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    // Characters are counted, whatever the message says.
    let length = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
    if let Some(most) = schema["maxLength"].as_u64().filter(|&most| length > most) {
        causes.push(Cause::new(
            "FieldValueTooLong",
            path,
            format!("Too long: may not be more than {most} bytes"),
        ));
    }
    if let Some(least) = schema["minLength"].as_u64().filter(|&least| length < least) {
        causes.push(in_body(path, value, &format!("should be at least {least} chars long")));
    }
    if let Some(text_of) = schema["pattern"].as_str()
        && !pattern(text_of).is_ok_and(|pattern| pattern.is_match(text))
    {
        causes.push(in_body(path, value, &format!("should match '{text_of}'")));
    }
    if let Some(name) = schema["format"].as_str()
        && !format::is_met(name, text)
    {
        causes.push(in_body(path, value, &format!("must be of type {name}: {value}")));
    }
}

fn check_list(value: &Value, items: &[Value], schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let length = u64::try_from(items.len()).unwrap_or(u64::MAX);
    if let Some(most) = schema["maxItems"].as_u64().filter(|&most| length > most) {
        causes.push(Cause::new(
            "FieldValueTooMany",
            path,
            format!("Too many: {length}: must have at most {most} items"),
        ));
    }
    if let Some(least) = schema["minItems"].as_u64().filter(|&least| length < least) {
        causes.push(in_body(path, value, &format!("should have at least {least} items")));
    }
    for (index, item) in items.iter().enumerate() {
        walk(item, &schema["items"], &format!("{path}[{index}]"), causes);
    }
    let names = schema["x-kubernetes-list-map-keys"].as_array();
    let key = |item: &Value| match (schema["x-kubernetes-list-type"].as_str(), names) {
        (Some("set"), _) => Some(item.clone()),
        (Some("map"), Some(names)) => {
            let keys = names
                .iter()
                .filter_map(Value::as_str)
                .filter_map(|name| Some((name.to_owned(), item.get(name)?.clone())));
            Some(Value::Object(keys.collect()))
        }
        _ => None,
    };
    let mut seen: Vec<Value> = Vec::new();
    for (index, key) in items.iter().map(key).enumerate() {
        let Some(key) = key else { return };
        if seen.contains(&key) {
            causes.push(Cause::new(
                "FieldValueDuplicate",
                format!("{path}[{index}]"),
                format!("Duplicate value: {key}"),
            ));
        }
        seen.push(key);
    }
}

fn check_fields(
    value: &Value,
    fields: &Map<String, Value>,
    schema: &Value,
    path: &str,
    causes: &mut Vec<Cause>,
) {
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            causes.push(Cause::required(below(path, name), ""));
        }
    }
    let count = u64::try_from(fields.len()).unwrap_or(u64::MAX);
    if let Some(most) = schema["maxProperties"].as_u64().filter(|&most| count > most) {
        causes.push(Cause::new(
            "FieldValueTooMany",
            path,
            format!("Too many: {count}: must have at most {most} items"),
        ));
    }
    if let Some(least) = schema["minProperties"].as_u64().filter(|&least| count < least) {
        causes.push(in_body(path, value, &format!("should have at least {least} properties")));
    }
    for (name, value) in fields {
        let schema = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
        if let Some(schema) = schema.filter(|schema| schema.is_object()) {
            walk(value, schema, &below(path, name), causes);
        }
    }
}

fn check_junctors(value: &Value, schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let is_met = |branch: &Value| {
        let mut found = Vec::new();
        walk(value, branch, path, &mut found);
        found.is_empty()
    };
    for branch in schema["allOf"].as_array().into_iter().flatten() {
        walk(value, branch, path, causes);
    }
    // Values are told as their type: they may be large.
    let is = json!(type_of(value));
    let mut wrong = |what: &str| causes.push(Cause::invalid(path, &is, format!("{path} in body {what}")));
    if let Some(branches) = schema["anyOf"].as_array()
        && !branches.iter().any(is_met)
    {
        wrong("must validate at least one schema (anyOf)");
    }
    if let Some(branches) = schema["oneOf"].as_array() {
        let count = branches.iter().filter(|branch| is_met(branch)).count();
        if count != 1 {
            wrong(&format!(
                "must validate one and only one schema (oneOf). Found {}",
                if count == 0 { "none valid" } else { "more than one valid" }
            ));
        }
    }
    if let Some(branch) = schema.get("not")
        && is_met(branch)
    {
        wrong("must not validate the schema (not)");
    }
}
