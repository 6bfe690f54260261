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

/// All fields of each kind that are served, with values that are taken.
fn whole() -> BTreeMap<&'static str, Value> {
    let peer = json!({
        "name": "tor", "address": "192.0.2.1", "asn": 65101, "port": 179, "localAddress": "192.0.2.2",
        "localInterface": "eth1", "peerConfig": "tor",
    });
    let range = json!({"name": "racks", "listenRange": "10.1.0.0/16", "maxPeers": 10, "peerAS": "External"});
    let gateway = json!({"name": "gateway", "defaultGateway": "ipv4", "peerAS": "Internal"});
    let address = json!({"from": "CIDR", "cidrs": ["10.255.0.0/16", "fd00::/64"]});
    let cluster = json!({
        "nodeSelector": {"matchLabels": {"rack": "1"}}, "asn": 64512, "nodeAddress": address, "mesh": "Enabled",
        "podCIDRs": ["10.244.0.0/16"], "nodeCIDRs": ["10.255.0.0/16"], "serviceCIDRs": ["fd00:10:96::/112"],
        "peers": [peer, range],
        "bmpStations": [{"name": "collector", "address": "192.0.2.99", "port": 5000, "tables": ["LocRib"]}],
    });
    let common = json!({
        "holdTimeSeconds": 9, "keepaliveSeconds": 3, "families": ["ipv4", "ipv6"], "connect": "Both",
        "import": "Declared", "export": "Own", "maxPrefixes": 100, "maxPrefixesWarnPercent": 90,
        "filters": [{"family": "ipv4", "import": ["only-pods"], "export": ["no-default", "prepend"]}],
        "secret": {"name": "tor", "key": "password"}, "ttlSecurity": {"hops": 1}, "localAS": 65000,
        "bfd": {"transmitMilliseconds": 50, "receiveMilliseconds": 300, "multiplier": 3},
        "gracefulRestart": {"restartSeconds": 120, "longLivedSeconds": 3600},
        "asOverride": "Disabled", "allowOwnAS": 1, "reflectorClient": "Disabled",
        "addPath": [{"family": "ipv6", "receive": "Enabled", "sendPaths": 2}],
        "localRole": "Customer", "strictRole": "Enabled",
    });
    let addresses = ["192.0.2.2", "fd00::2"];
    let overrides = json!({"asn": 65111, "routerID": "192.0.2.1", "clusterID": "192.0.2.1", "addresses": addresses,
                           "peers": [peer, gateway]});
    let advertisement = json!({
        "nodeSelector": {"matchLabels": {"rack": "1"}}, "peers": ["tor1a"],
        "advertised": [
            {"what": "Pods", "attributes": {"localPref": 100, "med": 1, "prepend": 1, "communities": ["65000:1"],
                                            "largeCommunities": ["1:2:3"]}},
            {"what": "NodeAddress", "attributes": {"communities": ["no-export"]}},
            {"what": "Services", "serviceAddresses": ["ClusterIP", "LoadBalancerIP"], "serviceLabels": {"a": "b"}},
            {"what": "Aggregates", "aggregates": ["10.0.0.0/8"]},
        ],
    });
    [
        ("BGPClusterConfig", cluster),
        ("BGPPeerConfig", common),
        ("BGPNodeOverride", overrides),
        ("BGPFilter", filter()),
        ("BGPAdvertisement", advertisement),
    ]
    .into()
}

/// A BGPFilter with every field.
fn filter() -> Value {
    json!({"rules": [{
        "match": {
            "prefixes": [{"cidr": "10.0.0.0/8", "ge": 16, "le": 24}, {"cidr": "::/0"}],
            "communities": ["65000:1", "no-export"], "largeCommunities": ["65000:1:2"], "asPath": "^65101_",
            "nextHops": ["10.1.0.0/16"], "peers": ["tor1a"], "sources": ["External"],
        },
        "action": "Accept",
        "set": {
            "localPref": 200, "med": 0, "prepend": 2, "addCommunities": ["graceful-shutdown"],
            "removeCommunities": ["65000:1"], "addLargeCommunities": ["1:2:3"], "removeLargeCommunities": ["1:2:3"],
            "nextHop": "10.1.0.1",
        },
    }], "otherwise": "Reject"})
}

/// What the schema of a BGPFilter refuses.
fn bad_filters() -> Vec<Value> {
    let prefix = |prefix: Value| json!({"rules": [{"match": {"prefixes": [prefix]}, "action": "Reject"}]});
    vec![
        prefix(json!({"cidr": "10.0.0.0/8", "ge": 7})),
        prefix(json!({"cidr": "10.0.0.0/8", "ge": 24, "le": 16})),
        prefix(json!({"cidr": "10.0.0.0/8", "le": 33})),
        prefix(json!({"cidr": "10.0.0.1/8"})),
        json!({"rules": [{"match": {"communities": ["65000"]}, "action": "Accept"}]}),
        json!({"rules": [{"action": "Reject", "set": {"med": 1}}]}),
        json!({"rules": [{"match": {"asPath": "65101x"}, "action": "Accept"}]}),
        json!({"rules": [{"match": {}}]}),
        json!({"rule": []}),
    ]
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
            "deploy/crds/{name} is not what daemon/src/kinds says: run `{COMMAND}`\n  has:   {has}\n  wants: {wants}"
        );
    }
    let found = fs::read_dir(&folder).expect("deploy/crds").map(|entry| entry.expect("entry").file_name());
    let found = found.filter_map(|name| name.into_string().ok());
    let too_many: Vec<String> = found.filter(|name| !wanted.contains_key(name)).collect();
    assert_eq!(too_many, [""; 0], "no kind makes these");
}

/// What a type is called for all who use it says nothing of what a field of it is for.
#[test]
fn fields_that_are_one_of_some_words_are_described_as_fields() {
    let schemas = schemas();
    let peer = "/properties/spec/properties/peers/items/properties";
    for (kind, field, says) in [
        (
            "BGPClusterConfig",
            &format!("{peer}/defaultGateway"),
            "It is the gateway of the node's default route",
        ),
        (
            "BGPNodeOverride",
            &format!("{peer}/defaultGateway"),
            "It is the gateway of the node's default route",
        ),
        ("BGPClusterConfig", &format!("{peer}/peerAS"), "Its AS, where the number does not matter"),
    ] {
        let words = schemas[kind].pointer(field).and_then(|field| field["description"].as_str());
        assert!(words.is_some_and(|words| words.starts_with(says)), "{kind} {field}: {words:?}");
    }
    fn fields(schema: &Value, found: &mut Vec<(String, String)>) {
        for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            found.push((name.clone(), field["description"].as_str().unwrap_or_default().to_owned()));
            fields(field, found);
        }
        ["items", "additionalProperties"]
            .into_iter()
            .filter_map(|inner| schema.get(inner))
            .for_each(|inner| fields(inner, found));
    }
    let mut all = Vec::new();
    schemas.values().for_each(|schema| fields(schema, &mut all));
    for of_a_type in ["An address family.", "Which AS a peer may be of."] {
        let named = all.iter().filter(|(_, words)| words == of_a_type).collect::<Vec<_>>();
        assert!(named.is_empty(), "{of_a_type}: {named:?}");
    }
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
            "maxProperties",
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
        let bound = match fields["type"].as_str() {
            Some("array") => Some("maxItems"),
            Some("string") if !fields.contains_key("enum") => Some("maxLength"),
            Some("object") if fields.contains_key("additionalProperties") => Some("maxProperties"),
            _ => None,
        };
        if bound.is_some_and(|bound| !fields.contains_key(bound)) {
            wrong.push(format!("{path}: the cost of its rules has no bound"));
        }
        for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if field.get("description").is_none()
                && !(path.is_empty() && ["spec", "status"].contains(&name.as_str()))
            {
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

#[test]
fn filters_that_make_no_sense_are_refused_by_schema_and_daemon() {
    let schema = &schemas()["BGPFilter"]["properties"]["spec"];
    for spec in bad_filters() {
        let (theirs, ours) = (refusals(schema, &spec), faults(&object("BGPFilter", &spec)));
        assert!(!theirs.is_empty() && !ours.is_empty(), "{spec}: {theirs:?}, {ours:?}");
    }
}

/// Each of these is refused by schema and daemon; the rules are about more than one field.
#[test]
fn fields_that_exclude_each_other_are_refused_together() {
    let schemas = schemas();
    let peer = |fields: &str| -> Value {
        let peer = format!("{{\"name\": \"a\", {fields}}}");
        json!({"peers": [serde_json::from_str::<Value>(&peer).expect("own text")]})
    };
    let twice = |fields: &str| -> Value {
        let peers = format!("[{{\"name\": \"a\", {fields}}}, {{\"name\": \"b\", {fields}}}]");
        json!({"peers": serde_json::from_str::<Value>(&peers).expect("own text")})
    };
    let advertised = |entry: &str| -> Value {
        json!({"advertised": [serde_json::from_str::<Value>(entry).expect("own text")]})
    };
    let good = [
        ("BGPClusterConfig", json!({"asnLabel": "cambric.dev/asn"})),
        ("BGPClusterConfig", json!({"nodeAddress": {"from": "InternalIP"}})),
        ("BGPClusterConfig", json!({"nodeAddress": {"from": "Interface", "interface": "bond0.100"}})),
        ("BGPNodeOverride", json!({"addresses": ["fd00::1"]})),
        (
            "BGPNodeOverride",
            peer("\"listenRange\": \"fd00::/64\", \"peerAS\": \"External\", \"maxPeers\": 5000"),
        ),
        ("BGPNodeOverride", peer("\"interface\": \"eth1\", \"peerAS\": \"External\", \"port\": 1179")),
        ("BGPNodeOverride", peer("\"defaultGateway\": \"ipv6\", \"asn\": 1, \"localAddress\": \"fd00::1\"")),
        ("BGPPeerConfig", json!({"ttlSecurity": {"hops": 254}, "connect": "Active"})),
        ("BGPPeerConfig", json!({"reflectorClient": "Enabled", "allowOwnAS": 10})),
        ("BGPPeerConfig", json!({"multihop": {"ttl": 2}})),
        ("BGPPeerConfig", json!({"bfd": {}})),
        ("BGPPeerConfig", json!({"localAS": 65000, "asOverride": "Enabled"})),
        ("BGPPeerConfig", json!({"addPath": [{"family": "ipv4", "sendPaths": 64}, {"family": "ipv6"}]})),
        ("BGPPeerConfig", json!({"localRole": "RouteServerClient"})),
    ];
    let bad = [
        ("BGPPeerConfig", json!({"bfd": {}, "multihop": {"ttl": 2}})),
        ("BGPPeerConfig", json!({"bfd": {"transmitMilliseconds": 49}})),
        ("BGPPeerConfig", json!({"bfd": {"receiveMilliseconds": 60_001}})),
        ("BGPPeerConfig", json!({"bfd": {"multiplier": 1}})),
        ("BGPClusterConfig", json!({"asn": 1, "asnLabel": "rack-asn"})),
        ("BGPClusterConfig", json!({"asnLabel": "a/b/c"})),
        ("BGPClusterConfig", json!({"asnLabel": ""})),
        ("BGPClusterConfig", json!({"nodeAddress": {}})),
        ("BGPClusterConfig", json!({"nodeAddress": {"from": "Interface"}})),
        ("BGPClusterConfig", json!({"nodeAddress": {"from": "Interface", "interface": "a/b"}})),
        ("BGPClusterConfig", json!({"nodeAddress": {"from": "Interface", "interface": ".."}})),
        (
            "BGPClusterConfig",
            json!({"nodeAddress": {"from": "CIDR", "interface": "eth0", "cidrs": ["10.0.0.0/8"]}}),
        ),
        ("BGPClusterConfig", json!({"nodeAddress": {"from": "InternalIP", "cidrs": ["10.0.0.0/8"]}})),
        ("BGPClusterConfig", json!({"nodeAddress": {"from": "CIDR", "cidrs": []}})),
        ("BGPNodeOverride", json!({"addresses": ["192.0.2.1", "192.0.2.2"]})),
        ("BGPNodeOverride", json!({"addresses": ["127.0.0.1"]})),
        ("BGPNodeOverride", json!({"addresses": ["::1"]})),
        ("BGPNodeOverride", json!({"addresses": ["169.254.1.1"]})),
        ("BGPNodeOverride", json!({"addresses": ["fe80::1"]})),
        ("BGPNodeOverride", peer("\"asn\": 1")),
        ("BGPNodeOverride", peer("\"address\": \"192.0.2.1\"")),
        ("BGPNodeOverride", peer("\"address\": \"192.0.2.1\", \"interface\": \"eth0\", \"asn\": 1")),
        ("BGPNodeOverride", peer("\"address\": \"192.0.2.1\", \"asn\": 1, \"peerAS\": \"Internal\"")),
        ("BGPNodeOverride", peer("\"listenRange\": \"10.1.0.0/16\", \"asn\": 1, \"port\": 179")),
        (
            "BGPNodeOverride",
            peer("\"listenRange\": \"10.1.0.0/16\", \"asn\": 1, \"localAddress\": \"10.1.0.1\""),
        ),
        (
            "BGPNodeOverride",
            peer("\"listenRange\": \"10.1.0.0/16\", \"asn\": 1, \"localInterface\": \"eth0\""),
        ),
        ("BGPNodeOverride", peer("\"listenRange\": \"10.1.0.1/16\", \"asn\": 1")),
        ("BGPNodeOverride", peer("\"listenRange\": \"0.0.0.0/0\", \"asn\": 1")),
        ("BGPNodeOverride", peer("\"address\": \"192.0.2.1\", \"asn\": 1, \"maxPeers\": 5")),
        ("BGPNodeOverride", peer("\"interface\": \"eth1\", \"asn\": 1, \"localInterface\": \"eth1\"")),
        ("BGPNodeOverride", peer("\"interface\": \"eth1\", \"asn\": 1, \"localAddress\": \"fd00::1\"")),
        (
            "BGPNodeOverride",
            peer("\"defaultGateway\": \"ipv6\", \"asn\": 1, \"localAddress\": \"192.0.2.1\""),
        ),
        ("BGPNodeOverride", twice("\"defaultGateway\": \"ipv6\", \"asn\": 1")),
        ("BGPNodeOverride", twice("\"listenRange\": \"10.1.0.0/16\", \"asn\": 1")),
        ("BGPPeerConfig", json!({"ttlSecurity": {"hops": 1}, "multihop": {"ttl": 2}})),
        ("BGPPeerConfig", json!({"reflectorClient": "Enabled", "localAS": 65000})),
        ("BGPPeerConfig", json!({"reflectorClient": "Enabled", "asOverride": "Enabled"})),
        ("BGPPeerConfig", json!({"reflectorClient": "Enabled", "localRole": "Peer"})),
        ("BGPPeerConfig", json!({"strictRole": "Enabled"})),
        ("BGPPeerConfig", json!({"addPath": [{"family": "ipv4", "sendPaths": 65}]})),
        ("BGPPeerConfig", json!({"addPath": [{"family": "ipv4", "sendPaths": 0}]})),
        ("BGPAdvertisement", json!({})),
        ("BGPAdvertisement", json!({"advertised": []})),
        ("BGPAdvertisement", advertised("{\"what\": \"Everything\"}")),
        ("BGPAdvertisement", advertised("{\"what\": \"Services\"}")),
        (
            "BGPAdvertisement",
            advertised("{\"what\": \"Services\", \"serviceAddresses\": [\"ClusterIP\", \"ClusterIP\"]}"),
        ),
        ("BGPAdvertisement", advertised("{\"what\": \"Pods\", \"serviceAddresses\": [\"ClusterIP\"]}")),
        ("BGPAdvertisement", advertised("{\"what\": \"Pods\", \"serviceLabels\": {}}")),
        ("BGPAdvertisement", advertised("{\"what\": \"Aggregates\"}")),
        ("BGPAdvertisement", advertised("{\"what\": \"Aggregates\", \"aggregates\": [\"10.0.0.1/8\"]}")),
    ];
    let look = |kind: &str, spec: &Value| {
        let theirs = refusals(&schemas[kind]["properties"]["spec"], spec);
        (theirs, faults(&object(kind, spec)))
    };
    for (kind, spec) in good {
        assert_eq!(look(kind, &spec), (vec![], vec![]), "{kind} {spec}");
    }
    for (kind, spec) in bad {
        let (theirs, ours) = look(kind, &spec);
        assert!(!theirs.is_empty() && !ours.is_empty(), "{kind} {spec}: {theirs:?}, {ours:?}");
    }
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

/// A server prints the first value that a path finds (`staging/src/k8s.io/apiextensions-apiserver/pkg/registry/
/// customresource/tableconvertor` of Kubernetes): of a list that would be half of what there is.
#[test]
fn no_column_shows_the_first_of_several_values() {
    for text in files().expect("schemas").values() {
        let definition: Value = serde_yaml_ng::from_str(text).expect("own text");
        let columns = definition["spec"]["versions"][0]["additionalPrinterColumns"].as_array();
        for column in columns.into_iter().flatten() {
            let path = column["jsonPath"].as_str().expect("a path");
            assert!(!path.contains("[*]"), "{}: {path}", definition["metadata"]["name"]);
        }
    }
}
