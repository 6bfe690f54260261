//! Whether an object may be kept: names, labels, what the schema of its kind says, what built-in kinds ask for. Of the
//! latter only what a network meets.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::text;
use crate::admission;
use crate::kind::{Kind, Version};
use crate::schema::Schema;
use crate::status::Cause;

/// What is wrong with an object that is to be kept in the place of `old`.
pub(super) fn object(
    kind: &Kind,
    version: &Version,
    subresource: &str,
    object: &Value,
    old: Option<&Value>,
) -> Vec<Cause> {
    let mut causes = Vec::new();
    match old {
        None => name(kind, text(object, "/metadata/name"), &mut causes),
        Some(old) => finalizers(old, object, &mut causes),
    }
    labels(object, &mut causes);
    if let Some(schema) = &version.schema {
        causes.extend(schema.validate(object, old));
        return causes;
    }
    match (kind.kind.as_str(), subresource) {
        ("CustomResourceDefinition", "") => causes.extend(definition(object)),
        ("Node", _) => node(object, old, &mut causes),
        ("Pod", "") => pod(object, old, &mut causes),
        ("NetworkPolicy", _) => network_policy(object, &mut causes),
        ("ValidatingAdmissionPolicy", "") => causes.extend(admission::faults(object)),
        ("ValidatingAdmissionPolicyBinding", _) => causes.extend(admission::faults_of_binding(object)),
        ("Event", _) => event(kind, object, old, &mut causes),
        _ => {}
    }
    causes
}

fn is_label(text: &str) -> bool {
    let is_inner = |octet: &u8| octet.is_ascii_lowercase() || octet.is_ascii_digit();
    let octets = text.as_bytes();
    octets.first().is_some_and(is_inner)
        && octets.last().is_some_and(is_inner)
        && octets.iter().all(|octet| is_inner(octet) || *octet == b'-')
}

fn name(kind: &Kind, name: &str, causes: &mut Vec<Cause>) {
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
        return;
    }
    let is_role = kind.resource.group.starts_with("rbac.");
    let wrong = if is_role {
        let is_path = !name.contains(['/', '%']) && name != "." && name != "..";
        (!is_path).then_some("may not contain '/' or '%'")
    } else if kind.kind == "Namespace" {
        (!is_label(name) || name.len() > 63).then_some("a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')")
    } else {
        (!name.split('.').all(is_label) || name.len() > 253).then_some("a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')")
    };
    if let Some(what) = wrong {
        causes.push(Cause::invalid("metadata.name", &json!(name), what));
    }
}

fn labels(object: &Value, causes: &mut Vec<Cause>) {
    let is_inner = |octet: &u8| octet.is_ascii_alphanumeric();
    let is_word = |text: &str| {
        let octets = text.as_bytes();
        octets.first().is_some_and(is_inner)
            && octets.last().is_some_and(is_inner)
            && octets.iter().all(|octet| is_inner(octet) || b"-_.".contains(octet))
            && octets.len() <= 63
    };
    let what = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    for (name, value) in object["metadata"]["labels"].as_object().into_iter().flatten() {
        let is_name = match name.split_once('/') {
            Some((prefix, name)) => prefix.split('.').all(is_label) && is_word(name),
            None => is_word(name),
        };
        if !is_name {
            causes.push(Cause::invalid("metadata.labels", &json!(name), format!("name part {what}")));
        }
        match value.as_str() {
            Some("") => {}
            Some(text) if is_word(text) => {}
            _ => causes.push(Cause::invalid(
                "metadata.labels",
                value,
                format!("a valid label must be an empty string or {what}"),
            )),
        }
    }
}

fn finalizers(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    if text(old, "/metadata/deletionTimestamp").is_empty() {
        return;
    }
    let of = |object: &Value| -> Vec<String> {
        let names = object["metadata"]["finalizers"].as_array().into_iter().flatten();
        names.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let before = of(old);
    let added: Vec<String> = of(new).into_iter().filter(|name| !before.contains(name)).collect();
    if !added.is_empty() {
        let what = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{:?}}}",
            added.join("\", \"")
        );
        causes.push(Cause::forbidden("metadata.finalizers", &what));
    }
}

/// What is wrong with a CustomResourceDefinition.
pub(super) fn definition(definition: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let (group, plural) = (text(definition, "/spec/group"), text(definition, "/spec/names/plural"));
    for (field, value) in [
        ("spec.group", group),
        ("spec.names.plural", plural),
        ("spec.names.kind", text(definition, "/spec/names/kind")),
    ] {
        if value.is_empty() {
            causes.push(Cause::required(field, ""));
        }
    }
    let name = text(definition, "/metadata/name");
    if name != format!("{plural}.{group}") {
        causes.push(Cause::invalid(
            "metadata.name",
            &json!(name),
            r#"must be spec.names.plural+"."+spec.group"#,
        ));
    }
    let scope = text(definition, "/spec/scope");
    if !["Cluster", "Namespaced"].contains(&scope) {
        let supported = ["Cluster", "Namespaced"].map(|name| json!(name).to_string());
        causes.push(Cause::not_supported("spec.scope", &json!(scope), &supported));
    }
    let versions = definition["spec"]["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        causes.push(Cause::invalid(
            "spec.versions",
            &json!(versions.len()),
            "must have exactly one version marked as storage version",
        ));
    }
    for (place, version) in versions.iter().enumerate() {
        let at = format!("spec.versions[{place}]");
        let place = format!("{at}.schema.openAPIV3Schema");
        match version.pointer("/schema/openAPIV3Schema").filter(|schema| schema.is_object()) {
            Some(schema) => causes.extend(Schema::new(schema).check(&place)),
            None => causes.push(Cause::required(place, "schemas are required")),
        }
        columns(version, &at, &mut causes);
    }
    causes
}

fn columns(version: &Value, at: &str, causes: &mut Vec<Cause>) {
    for (place, column) in version["additionalPrinterColumns"].as_array().into_iter().flatten().enumerate() {
        let at = format!("{at}.additionalPrinterColumns[{place}]");
        if text(column, "/name").is_empty() {
            causes.push(Cause::required(format!("{at}.name"), ""));
        }
        let of_type = text(column, "/type");
        const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
        if !TYPES.contains(&of_type) {
            causes.push(Cause::invalid(
                format!("{at}.type"),
                &json!(of_type),
                format!("must be one of {}", TYPES.join(",")),
            ));
        }
        let path = text(column, "/jsonPath");
        if let Err(error) = crate::jsonpath::JsonPath::parse(path) {
            causes.push(Cause::invalid(format!("{at}.jsonPath"), &json!(path), error));
        }
    }
}

fn cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let length =
        length.parse().ok().filter(|&length: &u8| length <= if address.is_ipv4() { 32 } else { 128 })?;
    Some((address, length))
}

fn node(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    for (index, range) in object["spec"]["podCIDRs"].as_array().into_iter().flatten().enumerate() {
        if range.as_str().and_then(cidr).is_none() {
            causes.push(Cause::invalid(
                format!("spec.podCIDRs[{index}]"),
                range,
                "must be a valid CIDR value",
            ));
        }
    }
    if let Some(old) = old {
        let (before, after) = (&old["spec"]["podCIDR"], &object["spec"]["podCIDR"]);
        if before.as_str().is_some_and(|text| !text.is_empty()) && before != after {
            causes.push(Cause::forbidden(
                "spec.podCIDRs",
                "node updates may not change podCIDR except from \"\" to valid",
            ));
        }
    }
    let mut seen = Vec::new();
    for (index, taint) in object["spec"]["taints"].as_array().into_iter().flatten().enumerate() {
        let at = format!("spec.taints[{index}]");
        if text(taint, "/key").is_empty() {
            causes.push(Cause::invalid(format!("{at}.key"), &json!(""), "name part must be non-empty"));
        }
        let effect = text(taint, "/effect");
        const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        if !EFFECTS.contains(&effect) {
            let supported = EFFECTS.map(|name| json!(name).to_string());
            causes.push(Cause::not_supported(format!("{at}.effect"), &json!(effect), &supported));
        }
        let identity = (text(taint, "/key").to_owned(), effect.to_owned());
        if seen.contains(&identity) {
            causes.push(Cause::new("FieldValueDuplicate", at, format!("Duplicate value: {taint}")));
        }
        seen.push(identity);
    }
}

fn pod(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let containers = object["spec"]["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
    if containers.is_empty() {
        causes.push(Cause::required("spec.containers", ""));
    }
    for (index, container) in containers.iter().enumerate() {
        if text(container, "/name").is_empty() {
            causes.push(Cause::required(format!("spec.containers[{index}].name"), ""));
        }
    }
    let Some(old) = old else { return };
    let fixed = |object: &Value| {
        let mut spec = object["spec"].clone();
        if let Some(fields) = spec.as_object_mut() {
            fields.retain(|name, _| {
                !["activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations"]
                    .contains(&name.as_str())
            });
        }
        for list in ["containers", "initContainers"] {
            for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                container["image"] = Value::Null;
            }
        }
        spec
    };
    if fixed(old) != fixed(object) {
        let what = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
        causes.push(Cause::forbidden("spec", what));
    }
}

fn network_policy(object: &Value, causes: &mut Vec<Cause>) {
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (rule_index, rule) in object["spec"][direction].as_array().into_iter().flatten().enumerate() {
            for (index, peer) in rule[peers].as_array().into_iter().flatten().enumerate() {
                let at = format!("spec.{direction}[{rule_index}].{peers}[{index}]");
                let fields = peer.as_object().map_or(0, serde_json::Map::len);
                if fields == 0 {
                    causes.push(Cause::required(at.clone(), "must specify a peer"));
                }
                let Some(block) = peer.get("ipBlock") else { continue };
                if fields > 1 {
                    causes
                        .push(Cause::forbidden(at.clone(), "may not specify both ipBlock and another peer"));
                }
                let whole = text(block, "/cidr");
                let Some((address, length)) = cidr(whole) else {
                    causes.push(Cause::invalid(
                        format!("{at}.ipBlock.cidr"),
                        &json!(whole),
                        "must be a valid CIDR value",
                    ));
                    continue;
                };
                for (place, except) in block["except"].as_array().into_iter().flatten().enumerate() {
                    let inside = except
                        .as_str()
                        .and_then(cidr)
                        .is_some_and(|(other, more)| more > length && is_inside(address, length, other));
                    if !inside {
                        let what = format!("must be a strict subset of `cidr` {whole:?}");
                        causes.push(Cause::invalid(format!("{at}.ipBlock.except[{place}]"), except, what));
                    }
                }
            }
        }
    }
}

fn is_inside(range: IpAddr, length: u8, address: IpAddr) -> bool {
    match (range, address) {
        (IpAddr::V4(range), IpAddr::V4(address)) => {
            let differing = u32::from(range) ^ u32::from(address);
            differing.leading_zeros() >= u32::from(length)
        }
        (IpAddr::V6(range), IpAddr::V6(address)) => {
            let differing = u128::from(range) ^ u128::from(address);
            differing.leading_zeros() >= u32::from(length)
        }
        _ => false,
    }
}

/// `k8s.io/kubernetes/pkg/apis/core/validation/events.go`.
fn event(kind: &Kind, object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let is_new = !kind.resource.group.is_empty();
    let (about, message) = if is_new { ("regarding", "note") } else { ("involvedObject", "message") };
    let namespace = text(object, "/metadata/namespace");
    let of_object = text(object, &format!("/{about}/namespace"));
    let fits = if of_object.is_empty() { namespace == "default" } else { of_object == namespace };
    if !fits {
        // The field has its core name whichever group it came by.
        causes.push(Cause::invalid(
            "involvedObject.namespace",
            &json!(of_object),
            "does not match event.namespace",
        ));
    }
    if !is_new {
        return;
    }
    for field in ["reportingController", "reportingInstance", "action", "reason"] {
        let value = text(object, &format!("/{field}"));
        if value.is_empty() {
            causes.push(Cause::required(field, ""));
        } else if value.len() > 128 && field != "reportingController" {
            causes.push(Cause::new("FieldValueTooLong", field, "Too long: may not be more than 128 bytes"));
        }
    }
    let of_type = text(object, "/type");
    if !["Normal", "Warning"].contains(&of_type) {
        causes.push(Cause::invalid("type", &json!(of_type), "has invalid value: "));
    }
    if text(object, &format!("/{message}")).len() > 1024 {
        causes.push(Cause::new("FieldValueTooLong", "message", "Too long: may not be more than 1024 bytes"));
    }
    match old {
        None => {
            if text(object, "/eventTime").is_empty() {
                causes.push(Cause::required("eventTime", ""));
            }
            for (field, core) in [
                ("deprecatedFirstTimestamp", "firstTimestamp"),
                ("deprecatedLastTimestamp", "lastTimestamp"),
                ("deprecatedCount", "count"),
                ("deprecatedSource", "source"),
            ] {
                let is_set = object
                    .get(field)
                    .is_some_and(|value| !value.is_null() && *value != json!({}) && *value != json!(0));
                if is_set {
                    causes.push(Cause::invalid(core, &object[field], "needs to be unset"));
                }
            }
        }
        Some(old) => {
            for field in [
                about,
                "reason",
                message,
                "eventTime",
                "action",
                "related",
                "reportingController",
                "reportingInstance",
                "type",
            ] {
                if old.get(field) != object.get(field) {
                    causes.push(Cause::invalid(field, &object[field], "field is immutable"));
                }
            }
        }
    }
}
