//! The CustomResourceDefinitions of our kinds, as the files of `deploy/crds`: made from the types, never by
//! hand. A test holds the files against the types.

use std::collections::BTreeMap;

use kube::CustomResourceExt;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::kinds::{
    BGPAdvertisement, BGPClusterConfig, BGPFilter, BGPNodeOverride, BGPPeerConfig, BGPSessionState,
};

/// What makes the files, and mends them when they have drifted.
pub const COMMAND: &str = "make crds";

/// Names and texts of the files.
///
/// # Errors
/// A type that has no schema: a bug of ours.
pub fn files() -> anyhow::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let definitions = [
        definition::<BGPClusterConfig>()?,
        definition::<BGPPeerConfig>()?,
        definition::<BGPFilter>()?,
        definition::<BGPAdvertisement>()?,
        definition::<BGPNodeOverride>()?,
        definition::<BGPSessionState>()?,
    ];
    for (plural, definition) in definitions {
        let name = format!("{plural}.yaml");
        let text = serde_yaml_ng::to_string(&plain(definition))?;
        files.insert(name, format!("# Made from daemon/src/kinds by `{COMMAND}`: do not edit.\n{text}"));
    }
    Ok(files)
}

/// The name of a kind for paths, and its definition.
fn definition<K: CustomResourceExt + JsonSchema>() -> anyhow::Result<(String, Value)> {
    let definition = K::crd();
    let plural = definition.spec.names.plural.clone();
    let mut definition = serde_json::to_value(definition)?;
    let settings = SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true);
    let said = serde_json::to_value(settings.into_generator().into_root_schema_for::<K>())?;
    if let Some(schema) = definition.pointer_mut("/spec/versions/0/schema/openAPIV3Schema") {
        describe(schema, &said);
    }
    Ok((plural, definition))
}

/// Has each field described as `said` describes it. Where a field may be absent and is one of some words, kube puts the
/// description of the type in its place, which does not say what the field is for.
fn describe(schema: &mut Value, said: &Value) {
    let alternatives = ["anyOf", "oneOf", "allOf"].into_iter();
    let alternatives = alternatives.filter_map(|name| said.get(name)?.as_array()).flatten();
    for said in std::iter::once(said).chain(alternatives) {
        for (name, said) in said.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let Some(field) = schema.get_mut("properties").and_then(|fields| fields.get_mut(name)) else {
                continue;
            };
            if let (Some(fields), Some(words)) = (field.as_object_mut(), said.get("description")) {
                fields.insert("description".to_owned(), words.clone());
            }
            describe(field, said);
        }
        for inner in ["items", "additionalProperties"] {
            if let (Some(schema), Some(said)) = (schema.get_mut(inner), said.get(inner)) {
                describe(schema, said);
            }
        }
    }
}

/// Without what says nothing to an API server: Rust's names and number formats; and nulls, which no field of
/// ours takes.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(mut fields) => {
            let is_integer = fields.get("type").is_some_and(|name| name == "integer");
            // A printer column has a type, too, and no Rust format.
            fields.retain(|name, value| match name.as_str() {
                "nullable" => !value.is_boolean(),
                "title" => !value.is_string(),
                "format" => !(is_integer && value.is_string()),
                _ => !value.is_null(),
            });
            fields.into_iter().map(|(name, value)| (name, plain(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(plain).collect(),
        Value::Number(number) => match number.as_f64() {
            // Bounds are floating-point numbers in a definition; ours have no fraction and fit.
            Some(float) if number.is_f64() && float.fract() == 0.0 => Value::from(float as i64),
            _ => Value::Number(number),
        },
        other => other,
    }
}

#[cfg(test)]
mod api_server;
#[cfg(test)]
mod tests;
