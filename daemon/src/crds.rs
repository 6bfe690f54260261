//! The CustomResourceDefinitions of our kinds, as the files of `deploy/crds`: made from the types, never by
//! hand. A test holds the files against the types.

use std::collections::BTreeMap;

use kube::CustomResourceExt;
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
        BGPClusterConfig::crd(),
        BGPPeerConfig::crd(),
        BGPFilter::crd(),
        BGPAdvertisement::crd(),
        BGPNodeOverride::crd(),
        BGPSessionState::crd(),
    ];
    for definition in definitions {
        let name = format!("{}.yaml", definition.spec.names.plural);
        let text = serde_yaml_ng::to_string(&plain(serde_json::to_value(definition)?))?;
        files.insert(name, format!("# Made from daemon/src/kinds by `{COMMAND}`: do not edit.\n{text}"));
    }
    Ok(files)
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
