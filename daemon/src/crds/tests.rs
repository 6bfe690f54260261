use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::api_server::refusals;
use super::*;
use crate::kinds::{API_VERSION, MOST_LIST_ITEMS};
use crate::source::manifest::Manifest;

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("daemon/ lies in it")
}

/// By kind.
fn schemas() -> BTreeMap<String, Value> {
    let read = |text: &String| -> Value { serde_yaml_ng::from_str(text).expect("own text") };
    let definitions = files().expect("schemas").values().map(read).collect::<Vec<Value>>();
    let of = |definition: &Value| {
        let kind = definition["spec"]["names"]["kind"].as_str().expect("a kind").to_owned();
        (kind, definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone())
    };
    definitions.iter().map(of).collect()
}

/// All fields of each kind, with values that are taken.
fn whole() -> BTreeMap<&'static str, Value> {
    let peer = json!({
        "name": "tor", "address": "192.0.2.1", "asn": 65101, "port": 179, "localAddress": "192.0.2.2",
        "peerConfig": "tor",
    });
    let cluster = json!({
        "nodeSelector": {"matchLabels": {"rack": "1"}}, "asn": 64512, "mesh": "Enabled",
        "podCIDRs": ["10.244.0.0/16"], "nodeCIDRs": ["10.255.0.0/16"], "serviceCIDRs": ["fd00:10:96::/112"],
        "peers": [peer],
    });
    let common = json!({
        "holdTimeSeconds": 9, "keepaliveSeconds": 3, "families": ["ipv4", "ipv6"], "connect": "Both",
        "import": "Declared", "export": "Own", "maxPrefixes": 100,
    });
    let overrides = json!({"asn": 65111, "routerID": "192.0.2.1", "peers": [peer]});
    [("BGPClusterConfig", cluster), ("BGPPeerConfig", common), ("BGPNodeOverride", overrides)].into()
}

fn object(kind: &str, spec: &Value) -> Value {
    json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "x"}, "spec": spec})
}

/// What this daemon finds wrong.
fn faults(object: &Value) -> Vec<String> {
    let manifest = Manifest::decode("x.yaml", &serde_yaml_ng::to_string(object).expect("own value"));
    manifest.faults.iter().map(|(fault, _)| fault.to_string()).collect()
}

#[test]
fn the_files_are_those_that_the_types_make() {
    let folder = root().join("deploy/crds");
    let wanted = files().expect("schemas");
    for (name, text) in &wanted {
        let found = fs::read_to_string(folder.join(name)).unwrap_or_default();
        let mut lines = text.lines().zip(found.lines().chain(std::iter::repeat("")));
        let (wants, has) = lines.find(|(wants, has)| wants != has).unwrap_or(("", ""));
        assert!(
            *text == found,
            "deploy/crds/{name} is not what daemon/src/kinds.rs says: run `{COMMAND}`\n  has:   {has}\n  wants: {wants}"
        );
    }
    let found = fs::read_dir(&folder).expect("deploy/crds").map(|entry| entry.expect("entry").file_name());
    let found = found.filter_map(|name| name.into_string().ok());
    let too_many: Vec<String> = found.filter(|name| !wanted.contains_key(name)).collect();
    assert_eq!(too_many, [""; 0], "no kind makes these");
}

/// <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>
#[test]
fn the_schemas_are_structural_and_tell_what_each_field_is_for() {
    fn look(path: &str, schema: &Value, wrong: &mut Vec<String>) {
        let fields = schema.as_object().expect("a schema is an object");
        let known = [
            "type",
            "description",
            "properties",
            "required",
            "items",
            "enum",
            "default",
            "minimum",
            "maximum",
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "format",
            "pattern",
            "additionalProperties",
            "x-kubernetes-list-type",
            "x-kubernetes-list-map-keys",
            "x-kubernetes-validations",
        ];
        wrong.extend(
            fields
                .keys()
                .filter(|name| !known.contains(&name.as_str()))
                .map(|name| format!("{path}: {name}")),
        );
        if !fields.contains_key("type") {
            wrong.push(format!("{path}: no type"));
        }
        if fields.contains_key("properties") && fields.contains_key("additionalProperties") {
            wrong.push(format!("{path}: properties and additionalProperties"));
        }
        if fields["type"] == "array" && !fields.contains_key("maxItems") {
            wrong.push(format!("{path}: the cost of its rules has no bound"));
        }
        for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if field.get("description").is_none() && !(path.is_empty() && name == "spec") {
                wrong.push(format!("{path}.{name}: no description"));
            }
            look(&format!("{path}.{name}"), field, wrong);
        }
        for inner in ["items", "additionalProperties"] {
            schema.get(inner).into_iter().for_each(|inner| look(&format!("{path}[]"), inner, wrong));
        }
    }
    for (kind, schema) in schemas() {
        let mut wrong = Vec::new();
        look("", &schema, &mut wrong);
        assert_eq!(wrong, [""; 0], "{kind}");
    }
}

#[test]
fn the_files_of_all_labs_are_taken_by_the_schemas_and_by_us() {
    let schemas = schemas();
    let mut looked_at = 0;
    for labs in ["containerlab", "topology-tests/labs"] {
        for lab in fs::read_dir(root().join(labs)).expect("labs") {
            let Ok(files) = fs::read_dir(lab.expect("entry").path().join("manifests")) else { continue };
            for file in files {
                let path = file.expect("entry").path();
                let text = fs::read_to_string(&path).expect("a manifest");
                let manifest = Manifest::decode("x.yaml", &text);
                assert!(manifest.faults.is_empty(), "{}: {:?}", path.display(), manifest.faults);
                for document in serde_yaml_ng::Deserializer::from_str(&text) {
                    let value: Value = serde::Deserialize::deserialize(document).expect("YAML");
                    let Some(schema) = value["kind"].as_str().and_then(|kind| schemas.get(kind)) else {
                        continue;
                    };
                    let spec = refusals(&schema["properties"]["spec"], &value["spec"]);
                    assert_eq!(spec, [""; 0], "{}", path.display());
                    looked_at += 1;
                }
            }
        }
    }
    assert!(looked_at > 10, "{looked_at} objects");
}

/// Each field gets each of these values: whatever the schema refuses is a fault here, and the other way round.
#[test]
fn we_take_exactly_what_the_schemas_take() {
    let address_list: Vec<String> =
        (0..=MOST_LIST_ITEMS).map(|at| format!("10.{}.{}.0/24", at / 256, at % 256)).collect();
    let odd = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(0),
        json!(1),
        json!(2),
        json!(3),
        json!(4),
        json!(30),
        json!(65_535),
        json!(65_536),
        json!(4_294_967_295_u32),
        json!(4_294_967_296_u64),
        json!(1.5),
        json!(""),
        json!("x"),
        json!("all"),
        json!("All.1_a:b-"),
        json!("-x"),
        json!("a b"),
        json!("é"),
        json!("x".repeat(63)),
        json!("x".repeat(64)),
        json!("Enabled"),
        json!("Passive"),
        json!("All"),
        json!("ipv4"),
        json!("10.0.0.1"),
        json!("0.0.0.0"),
        json!("224.0.0.1"),
        json!("255.255.255.255"),
        json!("127.0.0.1"),
        json!("169.254.0.1"),
        json!("010.0.0.1"),
        json!("fd00::1"),
        json!("FD00::1"),
        json!("fd00:0::1"),
        json!("::"),
        json!("ff02::1"),
        json!("fe80::1"),
        json!("fe80::1%eth0"),
        json!("::ffff:10.0.0.1"),
        json!("10.0.0.0/8"),
        json!("10.0.0.1/8"),
        json!("10.0.0.0/08"),
        json!("10.0.0.0/+8"),
        json!("10.0.0.0/33"),
        json!("0.0.0.0/0"),
        json!("::/0"),
        json!("fd00::/64"),
        json!("fd00::1/64"),
        json!("::ffff:10.0.0.0/104"),
        json!([]),
        json!({}),
        json!(["ipv4", "ipv4"]),
        json!(["ipv6"]),
        json!(["ipv5"]),
        json!(["10.0.0.0/8", "10.0.0.0/8"]),
        json!(address_list),
        json!({"matchLabels": {}}),
        json!([{"name": "a", "address": "192.0.2.9"}]),
        json!([{"name": "a", "address": "192.0.2.9", "asn": 1}, {"name": "b", "address": "192.0.2.9", "asn": 1}]),
        json!([{"name": "a", "address": "192.0.2.8", "asn": 1}, {"name": "a", "address": "192.0.2.9", "asn": 1}]),
    ];
    let schemas = schemas();
    let (mut taken, mut refused) = (0, 0);
    for (kind, spec) in whole() {
        let schema = &schemas[kind]["properties"]["spec"];
        assert_eq!((refusals(schema, &spec), faults(&object(kind, &spec))), (vec![], vec![]), "{kind}");
        for pointer in pointers("", &spec) {
            for odd in &odd {
                let mut edited = spec.clone();
                *edited.pointer_mut(&pointer).expect("own pointer") = odd.clone();
                let (theirs, ours) = (refusals(schema, &edited), faults(&object(kind, &edited)));
                assert_eq!(
                    theirs.is_empty(),
                    ours.is_empty(),
                    "{kind}{pointer} = {odd}: schema {theirs:?}, daemon {ours:?}"
                );
                if ours.is_empty() { taken += 1 } else { refused += 1 }
            }
            let mut without = spec.clone();
            remove(&mut without, &pointer);
            let (theirs, ours) = (refusals(schema, &without), faults(&object(kind, &without)));
            assert_eq!(
                theirs.is_empty(),
                ours.is_empty(),
                "{kind} without {pointer}: schema {theirs:?}, daemon {ours:?}"
            );
        }
        for pointer in pointers("", &spec).into_iter().chain([String::new()]) {
            let mut more = spec.clone();
            let Some(fields) = more.pointer_mut(&pointer).and_then(Value::as_object_mut) else { continue };
            fields.insert("unheardOf".to_owned(), json!(1));
            let (theirs, ours) = (refusals(schema, &more), faults(&object(kind, &more)));
            assert!(
                !theirs.is_empty() && !ours.is_empty(),
                "{kind}{pointer} with a field more: {theirs:?}, {ours:?}"
            );
        }
    }
    assert!(taken > 50 && refused > 500, "{taken} taken, {refused} refused");
}

/// JSON pointers to all that is inside.
fn pointers(at: &str, value: &Value) -> Vec<String> {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(name, field)| (format!("{at}/{name}"), field)).collect(),
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, item)| (format!("{at}/{index}"), item)).collect()
        }
        _ => Vec::new(),
    };
    inner.into_iter().flat_map(|(at, value)| [vec![at.clone()], pointers(&at, value)].concat()).collect()
}

fn remove(value: &mut Value, pointer: &str) {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    match value.pointer_mut(parent).expect("own pointer") {
        Value::Object(fields) => drop(fields.remove(name)),
        Value::Array(items) => drop(items.remove(name.parse().expect("an index"))),
        _ => {}
    }
}
