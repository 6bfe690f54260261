//! What an API server would say of an object of ours: the part of its validation that our schemas use.
//!
//! It prunes or, as `kubectl` asks it to, refuses fields that a schema does not have; here they are refused.

use std::net::IpAddr;

use cambric_bgp::{Family, Prefix};
use serde_json::Value;

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
    match schema.get("pattern").and_then(Value::as_str) {
        Some("^[A-Za-z0-9][A-Za-z0-9._:-]*$") => {
            let is_alphanumeric = |octet: u8| octet.is_ascii_alphanumeric();
            let all = text
                .bytes()
                .all(|octet| is_alphanumeric(octet) || matches!(octet, b'.' | b'_' | b':' | b'-'));
            if !all || !text.bytes().next().is_some_and(is_alphanumeric) {
                refuse("does not match the pattern".to_owned());
            }
        }
        None => {}
        Some(other) => panic!("pattern {other}: teach the test"),
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

/// Our rules, each by a second hand: no CEL here.
fn holds(rule: &str, value: &Value) -> bool {
    let has = |name: &str| value.get(name).and_then(Value::as_i64);
    let address = |name: &str| value.get(name).and_then(Value::as_str).and_then(ip);
    let text = value.as_str().unwrap_or_default();
    match rule {
        "isIP(self) && ip(self).family() == 4 && self != '0.0.0.0'" => {
            ip(text).is_some_and(|address| address.is_ipv4()) && text != "0.0.0.0"
        }
        "!isIP(self) && self != 'all'" => ip(text).is_none() && text != "all",
        "self.all(one, self.exists_one(other, other.name == one.name))" => {
            let names: Vec<&Value> =
                value.as_array().into_iter().flatten().map(|item| &item["name"]).collect();
            names.iter().enumerate().all(|(at, name)| !names[..at].contains(name))
        }
        "isIP(self) && ip.isCanonical(self) && (ip(self).isGlobalUnicast() || ip(self).isLoopback() || (ip(self).family() == 4 && ip(self).isLinkLocalUnicast()))" =>
        {
            let canonical = ip(text).filter(|address| address.to_string() == text);
            canonical.is_some_and(|address| match address {
                // As Go has it: private addresses are global unicast.
                IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_multicast() && !v4.is_broadcast(),
                IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast() && !v6.is_unicast_link_local(),
            })
        }
        "isCIDR(self) && cidr(self).prefixLength() > 0 && cidr(self) == cidr(self).masked()" => {
            cidr(text).is_some_and(|(address, prefix)| prefix.length() > 0 && address == prefix.address())
        }
        "!has(self.localAddress) || !isIP(self.localAddress) || !isIP(self.address) || ip(self.localAddress).family() == ip(self.address).family()" => {
            match (address("localAddress"), address("address")) {
                (Some(local), Some(address)) => Family::of(local) == Family::of(address),
                _ => true,
            }
        }
        "!has(self.holdTimeSeconds) || self.holdTimeSeconds == 0 || self.holdTimeSeconds >= 3" => {
            has("holdTimeSeconds").is_none_or(|seconds| seconds == 0 || seconds >= 3)
        }
        "!has(self.keepaliveSeconds) || self.keepaliveSeconds * 3 <= (has(self.holdTimeSeconds) ? self.holdTimeSeconds : 90)" => {
            has("keepaliveSeconds").is_none_or(|seconds| seconds * 3 <= has("holdTimeSeconds").unwrap_or(90))
        }
        other => panic!("rule {other}: teach the test"),
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
