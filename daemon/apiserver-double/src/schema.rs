//! Schemas of CustomResourceDefinitions, and what they do to objects: fields that are not in them are dropped, defaults
//! filled in, values checked, rules evaluated.
//!
//! Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions": structural schemas, field
//! pruning, defaulting, validation rules. Deviations, all towards accepting more: rules have no cost limit, and of their
//! types only fields are checked that no schema has; kube-cel evaluates the rules.

mod format;
mod rules;
mod structural;
mod values;

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::status::Cause;

/// A schema with its rules compiled. Cheap to clone.
#[derive(Clone)]
pub struct Schema(Arc<Inner>);

struct Inner {
    document: Value,
    rules: kube_cel::CompiledSchema,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.document.fmt(f)
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Schema) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.document == other.0.document
    }
}

impl Schema {
    /// Of an `openAPIV3Schema`, whatever it holds; [`Schema::check`] tells whether a server would take it.
    pub fn new(document: &Value) -> Schema {
        Schema(Arc::new(Inner { document: document.clone(), rules: kube_cel::compile_schema(document) }))
    }

    /// As it was written.
    pub fn document(&self) -> &Value {
        &self.0.document
    }

    /// What keeps it from being served: not structural, defaults that are invalid, rules that do not compile. `at` is
    /// where it is in its definition.
    pub fn check(&self, at: &str) -> Vec<Cause> {
        let mut causes = structural::check(self.document(), at);
        rules::check(self.document(), &self.0.rules, at, &mut causes);
        causes
    }

    /// Drops fields that are not in the schema, and tells their paths.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut unknown = Vec::new();
        prune(object, self.document(), Place::Root, "", &mut unknown);
        unknown
    }

    /// Fills in what is absent and has a default.
    pub fn fill_defaults(&self, object: &mut Value) {
        fill_defaults(object, self.document());
    }

    /// What is wrong with an object; `old` is the one it replaces, for rules on transitions.
    pub fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<Cause> {
        let mut causes = values::check(object, self.document());
        // Rules may rely on types and bounds (apiextensions-apiserver, `hasBlockingErr`).
        const BLOCKING: [&str; 5] = [
            "FieldValueRequired",
            "FieldValueTypeInvalid",
            "FieldValueTooLong",
            "FieldValueTooMany",
            "FieldValueDuplicate",
        ];
        if causes.iter().any(|cause| BLOCKING.contains(&cause.reason)) {
            if rules::are_any(self.document()) {
                let what = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
                causes.push(Cause::invalid("<nil>", &Value::Null, what));
            }
            return causes;
        }
        rules::evaluate(self.document(), &self.0.rules, object, old, &mut causes);
        causes
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Of an object of its own, or of one embedded: these have `apiVersion`, `kind` and `metadata` beside the schema.
    Root,
    Below,
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn is_set(schema: &Value, flag: &str) -> bool {
    schema[flag] == true
}

fn prune(value: &mut Value, schema: &Value, place: Place, path: &str, unknown: &mut Vec<String>) {
    let place = if is_set(schema, "x-kubernetes-embedded-resource") { Place::Root } else { place };
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                prune(item, &schema["items"], Place::Below, &format!("{path}[{index}]"), unknown);
            }
        }
        Value::Object(fields) => {
            let keeps = is_set(schema, "x-kubernetes-preserve-unknown-fields");
            let properties = schema["properties"].as_object();
            let others = schema
                .get("additionalProperties")
                .filter(|others| others.is_object() || **others == json!(true));
            fields.retain(|name, _| {
                let is_known = properties.is_some_and(|properties| properties.contains_key(name))
                    || others.is_some()
                    || keeps
                    || (place == Place::Root && ["apiVersion", "kind", "metadata"].contains(&name.as_str()));
                if !is_known {
                    unknown.push(below(path, name));
                }
                is_known
            });
            for (name, value) in fields.iter_mut() {
                if place == Place::Root && name == "metadata" {
                    continue;
                }
                let schema = properties.and_then(|properties| properties.get(name)).or(others);
                // What is preserved without a schema is preserved as a whole.
                if let Some(schema) = schema.filter(|schema| schema.is_object()) {
                    prune(value, schema, Place::Below, &below(path, name), unknown);
                }
            }
        }
        _ => {}
    }
}

fn fill_defaults(value: &mut Value, schema: &Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| fill_defaults(item, &schema["items"])),
        Value::Object(fields) => {
            let empty = Map::new();
            let properties = schema["properties"].as_object().unwrap_or(&empty);
            for (name, schema) in properties {
                let Some(default) = schema.get("default") else { continue };
                let is_absent = match fields.get(name) {
                    None => true,
                    // A null where null may not be is pruned, and the default takes its place.
                    Some(Value::Null) => !is_set(schema, "nullable"),
                    Some(_) => false,
                };
                if is_absent {
                    fields.insert(name.clone(), default.clone());
                }
            }
            // Without a default, a null that may not be goes away.
            fields.retain(|name, value| {
                let schema = properties.get(name);
                !(value.is_null()
                    && schema
                        .is_some_and(|schema| !is_set(schema, "nullable") && schema.get("type").is_some()))
            });
            for (name, value) in fields.iter_mut() {
                if let Some(schema) = properties.get(name).or_else(|| schema.get("additionalProperties")) {
                    fill_defaults(value, schema);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        Schema::new(&json!({"type": "object", "required": ["spec"], "properties": {"spec": {"type": "object",
            "required": ["asn"],
            "properties": {
                "asn": {"type": "integer", "minimum": 1, "maximum": 4_294_967_295_u64},
                "mesh": {"type": "string", "default": "Enabled", "enum": ["Enabled", "Disabled"]},
                "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "peers": {"type": "array", "maxItems": 2, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "required": ["name"], "properties": {
                        "name": {"type": "string", "minLength": 1, "maxLength": 5, "pattern": "^[a-z]+$"},
                        "port": {"type": "integer", "default": 179}},
                        "x-kubernetes-validations": [{"rule": "self.port != 1", "message": "port 1 is taken"}]}},
                "range": {"type": "string", "format": "cidr"}},
            "x-kubernetes-validations": [
                {"rule": "self.asn != 23456", "messageExpression": "'AS ' + string(self.asn) + ' is reserved'"},
                {"rule": "self.asn == oldSelf.asn", "fieldPath": ".asn", "reason": "FieldValueForbidden"}]}}}))
    }

    fn told(spec: Value) -> Vec<String> {
        let causes = schema().validate(&json!({ "spec": spec }), None);
        causes.iter().map(|cause| format!("{} {}: {}", cause.reason, cause.field, cause.message)).collect()
    }

    #[test]
    fn unknown_fields_are_dropped_and_told_and_defaults_filled_in() {
        let mut object = json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "x", "foo": 1}, "status": {},
            "spec": {"asn": 1, "assn": 2, "any": {"x": {"y": 1}}, "labels": {"l": "1"}, "peers": [{"name": "a", "prt": 1}]}});
        assert_eq!(schema().prune(&mut object), ["status", "spec.assn", "spec.peers[0].prt"]);
        schema().fill_defaults(&mut object);
        let spec = json!({"asn": 1, "mesh": "Enabled", "any": {"x": {"y": 1}}, "labels": {"l": "1"},
            "peers": [{"name": "a", "port": 179}]});
        assert_eq!(object["spec"], spec);
        assert_eq!(object["metadata"]["foo"], 1);
    }

    #[test]
    fn a_good_object_has_no_causes() {
        assert!(schema().check("schema").is_empty(), "{:?}", schema().check("schema"));
        assert_eq!(
            told(
                json!({"asn": 64512, "mesh": "Disabled", "range": "10.0.0.0/8", "peers": [{"name": "a", "port": 2}]})
            ),
            [""; 0]
        );
    }

    #[test]
    fn values_that_may_not_be_are_told_as_the_real_server_tells_them() {
        let skipped = "FieldValueInvalid <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
        assert_eq!(told(json!({})), ["FieldValueRequired spec.asn: Required value", skipped]);
        assert_eq!(
            told(json!({"asn": "1"})),
            [
                r#"FieldValueTypeInvalid spec.asn: Invalid value: "string": spec.asn in body must be of type integer: "string""#,
                skipped
            ]
        );
        assert_eq!(
            told(json!({"asn": 0})),
            [
                "FieldValueInvalid spec.asn: Invalid value: 0: spec.asn in body should be greater than or equal to 1"
            ]
        );
        assert_eq!(
            told(json!({"asn": 1, "mesh": "On"})),
            [
                r#"FieldValueNotSupported spec.mesh: Unsupported value: "On": supported values: "Enabled", "Disabled""#
            ]
        );
        assert_eq!(
            told(json!({"asn": 1, "range": "10/8"})),
            [
                r#"FieldValueInvalid spec.range: Invalid value: "10/8": spec.range in body must be of type cidr: "10/8""#
            ]
        );
        assert_eq!(
            told(json!({"asn": 1, "peers": [{"name": "A"}, {"name": "abcdef"}]})),
            [
                r#"FieldValueInvalid spec.peers[0].name: Invalid value: "A": spec.peers[0].name in body should match '^[a-z]+$'"#,
                "FieldValueTooLong spec.peers[1].name: Too long: may not be more than 5 bytes",
                skipped,
            ]
        );
        assert_eq!(
            told(json!({"asn": 1, "peers": [{"name": "a"}, {"name": "a"}]})),
            [r#"FieldValueDuplicate spec.peers[1]: Duplicate value: {"name":"a"}"#, skipped]
        );
        let three = json!({"asn": 1, "peers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]});
        assert_eq!(
            told(three),
            ["FieldValueTooMany spec.peers: Too many: 3: must have at most 2 items", skipped]
        );
    }

    #[test]
    fn rules_are_told_with_their_message_where_they_failed() {
        assert_eq!(
            told(json!({"asn": 23456, "peers": [{"name": "a", "port": 1}]})),
            [
                r#"FieldValueInvalid spec: Invalid value: "object": AS 23456 is reserved"#,
                r#"FieldValueInvalid spec.peers[0]: Invalid value: "object": port 1 is taken"#
            ]
        );
        let (old, new) = (json!({"spec": {"asn": 1}}), json!({"spec": {"asn": 2}}));
        let causes = schema().validate(&new, Some(&old));
        assert_eq!(
            causes,
            [Cause::new(
                "FieldValueForbidden",
                "spec.asn",
                "Forbidden: failed rule: self.asn == oldSelf.asn"
            )]
        );
    }

    #[test]
    fn schemas_that_are_not_structural_and_rules_that_do_not_compile_are_refused() {
        let told = |schema: Value| -> Vec<String> {
            Schema::new(&schema)
                .check("s")
                .iter()
                .map(|cause| format!("{}: {}", cause.field, cause.message))
                .collect()
        };
        assert_eq!(
            told(json!({"type": "object", "properties": {"spec": {"properties": {}}}})),
            ["s.properties[spec].type: Required value: must not be empty for specified object fields"]
        );
        assert_eq!(
            told(json!({"type": "object", "properties": {"l": {"type": "array"}}})),
            ["s.properties[l].items: Required value: must be specified"]
        );
        let wrong = |rule: &str| {
            told(
                json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "object", "properties": {"b": {"type": "string"}}}}},
                "x-kubernetes-validations": [{"rule": rule}]}}}),
            )
        };
        assert!(wrong("self.a.all(x, x.b != '')").is_empty());
        assert!(wrong("has(self.a) && size(self.a) > 0 && self.a[0].b == 'x'").is_empty());
        for (rule, what) in [
            ("self.a ==", "compilation failed"),
            ("self.c == 1", "undefined field 'c'"),
            ("self.a.exists(x, x.c == 1)", "undefined field 'c'"),
            ("spec.a == 1", "undeclared reference to 'spec'"),
        ] {
            let told = wrong(rule);
            assert!(
                told.len() == 1
                    && told[0].starts_with("s.properties[spec].x-kubernetes-validations[0].rule: ")
                    && told[0].contains(what),
                "{rule}: {told:?}"
            );
        }
    }
}
