//! What an API server would say of an object of ours: the part of its validation that our schemas use.
//!
//! It prunes or, as `kubectl` asks it to, refuses fields that a schema does not have; here they are refused.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use cambric_bgp::Prefix;
use kube_cel::KubeCelExt;
use kube_cel::cel::objects::{Key, Map};
use kube_cel::cel::{Context, Program, Value as CelValue};
use serde_json::{Value, json};

/// What is wrong with `value`; nothing if it is taken.
pub(super) fn refusals(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    validate(schema, "", value, &mut found);
    found
}

fn validate(schema: &Value, path: &str, value: &Value, found: &mut Vec<String>) {
    let mut refuse = |what: String| found.push(format!("{path}: {value}: {what}"));
    let fits = match schema["type"].as_str().expect("structural: each has a type") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("type {other}: teach the test"),
    };
    if !fits {
        return refuse(format!("not of type {}", schema["type"]));
    }
    let limit = |name: &str| schema.get(name).and_then(Value::as_i64);
    let count = match value {
        Value::String(text) => Some((text.chars().count(), "minLength", "maxLength")),
        Value::Array(items) => Some((items.len(), "minItems", "maxItems")),
        Value::Object(fields) => Some((fields.len(), "minProperties", "maxProperties")),
        _ => None,
    };
    let count = count.map(|(count, least, most)| (count as i64, least, most));
    let number = value.as_i64().map(|number| (number, "minimum", "maximum"));
    for (number, least, most) in count.into_iter().chain(number) {
        if limit(least).is_some_and(|least| number < least) || limit(most).is_some_and(|most| number > most) {
            refuse(format!("not within {least} and {most}"));
        }
    }
    if schema.get("enum").is_some_and(|values| !values.as_array().expect("an array").contains(value)) {
        refuse(format!("none of {}", schema["enum"]));
    }
    let text = value.as_str().unwrap_or_default();
    match schema.get("format").and_then(Value::as_str) {
        Some("cidr") if cidr(text).is_none() => refuse("not a CIDR".to_owned()),
        None | Some("cidr") => {}
        Some(other) => panic!("format {other}: teach the test"),
    }
    if let Some(pattern) = schema.get("pattern")
        && !holds("self[0].matches(self[1])", &json!([text, pattern]))
    {
        refuse("does not match the pattern".to_owned());
    }
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let key = |item: &Value| match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        None => None,
        Some("set") => Some(item.clone()),
        Some("map") => item.get(schema["x-kubernetes-list-map-keys"][0].as_str().expect("a key")).cloned(),
        Some(other) => panic!("list type {other}: teach the test"),
    };
    let keys: Vec<Value> = items.iter().filter_map(key).collect();
    if keys.iter().enumerate().any(|(at, key)| keys[..at].contains(key)) {
        refuse("the same twice".to_owned());
    }
    let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
    for rule in rules.into_iter().flatten() {
        if !holds(rule["rule"].as_str().expect("a rule"), value) {
            refuse(rule["message"].as_str().expect("a message").to_owned());
        }
    }
    for (at, item) in items.iter().enumerate() {
        validate(&schema["items"], &format!("{path}[{at}]"), item, found);
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let known = schema.get("properties").and_then(|fields| fields.get(name));
        match known.or(schema.get("additionalProperties")) {
            Some(schema) => validate(schema, &format!("{path}.{name}"), field, found),
            None => found.push(format!("{path}.{name}: unknown field")),
        }
    }
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        if value.get(name.as_str().expect("a name")).is_none() {
            found.push(format!("{path}: {name} is missing"));
        }
    }
}

/// Rules that fail are broken ones, as an API server has it.
fn holds(rule: &str, value: &Value) -> bool {
    thread_local! {
        static COMPILED: RefCell<HashMap<String, Rc<Program>>> = RefCell::default();
    }
    let program = COMPILED.with_borrow_mut(|known| {
        let compile = || Rc::new(Program::compile(rule).unwrap_or_else(|error| panic!("{rule}: {error}")));
        Rc::clone(known.entry(rule.to_owned()).or_insert_with(compile))
    });
    let mut context = Context::default().with_all();
    context.add_variable_from_value("self", typed(value));
    matches!(program.execute(&context), Ok(CelValue::Bool(true)))
}

/// All our numbers are integers.
fn typed(value: &Value) -> CelValue {
    match value {
        Value::Null => CelValue::Null,
        Value::Bool(flag) => CelValue::Bool(*flag),
        Value::Number(number) => number.as_i64().map_or(CelValue::Null, CelValue::Int),
        Value::String(text) => CelValue::String(Arc::new(text.clone())),
        Value::Array(items) => CelValue::List(Arc::new(items.iter().map(typed).collect())),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| (name.as_str().into(), typed(value));
            let fields: HashMap<Key, CelValue> = fields.iter().map(field).collect();
            CelValue::Map(Map { map: Arc::new(fields) })
        }
    }
}

/// As `isIP` has it.
fn ip(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    (!mapped).then_some(address)
}

/// As `isCIDR` has it.
fn cidr(text: &str) -> Option<(IpAddr, Prefix)> {
    let (address, length) = text.split_once('/')?;
    let length: u8 = length.parse().ok().filter(|number: &u8| number.to_string() == length)?;
    Some((ip(address)?, Prefix::new(ip(address)?, length).ok()?))
}
