//! A policy from JSON, strictly: serde would pass over a misspelt `podselector` in silence, and select everything.
//!
//! The value is walked beside the shape that the API gives it. What does not fit is told and left out, so that the rest
//! can always be read.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Map, Value};

use crate::change::{Fault, Key, PolicyObject};

/// The namespace of an object that names none.
const DEFAULT_NAMESPACE: &str = "default";

/// What a field holds.
enum Shape {
    Text,
    Number,
    NumberOrText,
    /// Texts by any names.
    Texts,
    List(&'static Shape),
    Fields(&'static [(&'static str, Shape)]),
    /// Not ours to look at; it is left out.
    Other,
}

use Shape::{Fields, List, Number, NumberOrText, Other, Text, Texts};

/// Kubernetes v1.35, <https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/>
const OBJECT: Shape = Fields(&[
    ("apiVersion", Text),
    ("kind", Text),
    ("metadata", Fields(METADATA)),
    (
        "spec",
        Fields(&[
            ("podSelector", SELECTOR),
            ("policyTypes", List(&Text)),
            ("ingress", List(&Fields(&[("from", List(&PEER)), ("ports", List(&PORT))]))),
            ("egress", List(&Fields(&[("to", List(&PEER)), ("ports", List(&PORT))]))),
        ]),
    ),
    ("status", Other),
]);
const METADATA: &[(&str, Shape)] = &[
    ("annotations", Other),
    ("creationTimestamp", Other),
    ("deletionGracePeriodSeconds", Other),
    ("deletionTimestamp", Other),
    ("finalizers", Other),
    ("generateName", Other),
    ("generation", Other),
    ("labels", Other),
    ("managedFields", Other),
    ("name", Text),
    ("namespace", Text),
    ("ownerReferences", Other),
    ("resourceVersion", Other),
    ("selfLink", Other),
    ("uid", Text),
];
const SELECTOR: Shape = Fields(&[
    ("matchLabels", Texts),
    ("matchExpressions", List(&Fields(&[("key", Text), ("operator", Text), ("values", List(&Text))]))),
]);
const PEER: Shape = Fields(&[
    ("podSelector", SELECTOR),
    ("namespaceSelector", SELECTOR),
    ("ipBlock", Fields(&[("cidr", Text), ("except", List(&Text))])),
]);
const PORT: Shape = Fields(&[("protocol", Text), ("port", NumberOrText), ("endPort", Number)]);

/// Reads a policy. Fields that are unknown or of a wrong type become faults of it, and it keeps the others.
///
/// # Errors
/// It has no name. Without a namespace it is of `default`.
pub fn decode(value: &Value) -> Result<(Key, PolicyObject), Fault> {
    let name_of = |field: &str| value.get("metadata").and_then(|metadata| metadata.get(field)?.as_str());
    let name = name_of("name").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Fault { field: "metadata.name".into(), what: "no name".into() })?;
    let namespace = name_of("namespace").filter(|name| !name.is_empty()).unwrap_or(DEFAULT_NAMESPACE);

    let mut faults = Vec::new();
    let mut fitting = fit(value, &OBJECT, "", &mut faults).unwrap_or(Value::Null);
    for (field, wanted) in [("apiVersion", "networking.k8s.io/v1"), ("kind", "NetworkPolicy")] {
        let told = value.get(field).and_then(Value::as_str).filter(|told| *told != wanted);
        faults.extend(
            told.map(|told| Fault { field: field.into(), what: format!("{told:?}: expected {wanted}") }),
        );
        fitting[field] = wanted.into();
    }
    // What fits the shape is read whole; should it not be, the policy is empty and says why.
    let object: NetworkPolicy = serde_json::from_value(fitting).unwrap_or_else(|error| {
        faults.push(Fault { field: "spec".into(), what: error.to_string() });
        NetworkPolicy::default()
    });
    Ok((Key::new(namespace, name), PolicyObject { object, faults }))
}

/// The part of a value that has the shape; `None`: none of it.
fn fit(value: &Value, shape: &Shape, field: &str, faults: &mut Vec<Fault>) -> Option<Value> {
    match (shape, value) {
        (Text | NumberOrText, Value::String(_)) => Some(value.clone()),
        (Number | NumberOrText, Value::Number(number)) if is_i32(number) => Some(value.clone()),
        (Texts, Value::Object(texts)) => {
            let fit = |(name, value): (&String, &Value)| {
                Some((name.clone(), fit(value, &Text, &within(field, name), faults)?))
            };
            Some(Value::Object(texts.iter().filter_map(fit).collect()))
        }
        (List(shape), Value::Array(items)) => {
            let fit = |(at, item)| {
                // A list keeps its places, so that those behind are still called by their numbers.
                let missing = matches!(shape, Fields(_)).then(|| Value::Object(Map::new()));
                fit(item, shape, &format!("{field}[{at}]"), faults).or(missing)
            };
            Some(Value::Array(items.iter().enumerate().filter_map(fit).collect()))
        }
        (Fields(known), Value::Object(fields)) => {
            let mut fitting = Map::new();
            for (name, value) in fields {
                let field = within(field, name);
                match known.iter().find(|(known, _)| known == name) {
                    None => faults
                        .push(Fault { what: format!("unknown field; known are {}", names(known)), field }),
                    // As the API server reads it: null is what is not there.
                    Some(_) if value.is_null() => {}
                    Some((_, shape)) => {
                        fitting.extend(fit(value, shape, &field, faults).map(|value| (name.clone(), value)));
                    }
                }
            }
            Some(Value::Object(fitting))
        }
        (Other, _) => None,
        (wanted, _) => {
            let what = format!("{}: expected {}", short(value), wanted.name());
            faults.push(Fault { field: field.into(), what });
            None
        }
    }
}

fn is_i32(number: &serde_json::Number) -> bool {
    number.as_i64().is_some_and(|number| i32::try_from(number).is_ok())
}

fn within(field: &str, name: &str) -> String {
    if field.is_empty() { name.into() } else { format!("{field}.{name}") }
}

fn names(known: &[(&str, Shape)]) -> String {
    known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// A value as people wrote it, cut.
fn short(value: &Value) -> String {
    const MOST_CHARS: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(MOST_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

impl Shape {
    fn name(&self) -> &'static str {
        match self {
            Text => "a text",
            Number => "a whole number",
            NumberOrText => "a whole number or a text",
            Texts => "texts by name",
            List(_) => "a list",
            Fields(_) => "an object",
            Other => "anything",
        }
    }
}
