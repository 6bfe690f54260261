use cambric_policy::pod::Life;

use super::*;

fn shown(kind: Kind, object: Value) -> (Key, Known<Says>) {
    match read(kind, &object.to_string()) {
        Found::Object(key, known) => (key, known),
        other => panic!("{other:?}"),
    }
}

fn metadata() -> Value {
    json!({
        "name": "a", "namespace": "web", "uid": "0fe1b4f2-6f0e-4a0b-8b0e-0c0d0e0f1011", "resourceVersion": "812",
        "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "web"}, "generation": 3,
        "managedFields": [{"manager": "kubelet"}],
    })
}

fn line_of(text: &str) -> Result<Line, String> {
    line(Kind::Namespace, text.as_bytes())
}

fn document(says: &Says) -> Value {
    match says {
        Says::Document(json) => json.value(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn of_a_pod_what_policy_asks_is_kept() {
    let mut metadata = metadata();
    metadata["annotations"] = json!({"kubernetes.io/config.hash": "0123456789abcdef0123456789abcdef"});
    let pod = json!({
        "metadata": metadata,
        "spec": {
            "nodeName": "n1", "volumes": [{"name": "v"}],
            "containers": [{"name": "c", "image": "i", "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"}]}],
            "initContainers": [
                {"name": "i", "ports": [{"name": "early", "containerPort": 90}]},
                {"name": "s", "restartPolicy": "Always", "ports": [{"name": "side", "containerPort": 91}]},
            ],
        },
        "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
    });
    let (key, known) = shown(Kind::Pod, pod);
    assert_eq!((key.to_string(), known.version), ("web/a".to_owned(), Version::Number(812)));
    assert_eq!(known.created, Some(1_767_225_600));
    let Says::Pod(pod) = known.says else { panic!("a pod") };
    assert_eq!(
        (pod.node.as_deref(), pod.life, pod.labels.get("app")),
        (Some("n1"), Life::OwnNetwork, Some("web"))
    );
    assert_eq!(pod.addresses.iter().count(), 2);
    let ports: Vec<String> =
        pod.ports.iter().map(|(port, number)| format!("{} {number}", port.name)).collect();
    assert_eq!(ports, ["http 80", "side 91"]);
    assert!(pod.static_uid.is_some() && pod.uid == known.uid);
}

#[test]
fn a_heartbeat_of_a_node_says_nothing_new() {
    let node = |beat: &str, version: &str| {
        let mut metadata = metadata();
        metadata["resourceVersion"] = version.into();
        metadata["annotations"] = json!({"beat": beat});
        json!({
            "metadata": metadata,
            "spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"], "taints": [{"key": beat}]},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
                "conditions": [{"type": "Ready", "lastHeartbeatTime": beat}], "images": [],
            },
        })
    };
    let (_, one) = shown(Kind::Node, node("one", "1"));
    let (key, other) = shown(Kind::Node, node("other", "2"));
    assert_eq!(one.says, other.says);
    assert_eq!(key, Key::new("", "a"), "nodes are in no namespace");
    assert_eq!(
        document(&one.says),
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "a", "uid": "0fe1b4f2-6f0e-4a0b-8b0e-0c0d0e0f1011",
                "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "web"}},
            "spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
        })
    );
}

#[test]
fn of_taints_and_conditions_of_a_node_those_that_are_answered_are_kept() {
    let node = |taints: Value, network: &str| {
        let conditions = json!([{"type": "Ready", "status": "True"},
            {"type": "NetworkUnavailable", "status": network, "reason": "r", "lastHeartbeatTime": "t"}]);
        let (_, known) = shown(
            Kind::Node,
            json!({"metadata": metadata(), "spec": {"taints": taints}, "status": {"conditions": conditions}}),
        );
        let document = document(&known.says);
        (document["spec"].clone(), document["status"].clone())
    };
    let ours = json!({"key": "cambric.dev/not-ready", "effect": "NoSchedule"});
    let timed =
        json!({"key": "cambric.dev/not-ready", "effect": "NoSchedule", "value": "x", "timeAdded": "t"});
    let (spec, status) = node(json!([{"key": "other", "effect": "NoExecute"}, timed]), "True");
    assert_eq!(spec, json!({"taints": [ours]}));
    assert_eq!(status, json!({"conditions": [{"type": "NetworkUnavailable", "status": "True"}]}));
    assert_eq!(node(json!([{"key": "other"}]), "False"), (json!({}), json!({})));
    assert_eq!(node(Value::Null, "False"), (json!({}), json!({})));
}

#[test]
fn our_kinds_are_whole_and_say_what_they_are() {
    let (_, known) =
        shown(Kind::BGPFilter, json!({"metadata": metadata(), "spec": {"rules": []}, "status": {}}));
    let value = document(&known.says);
    assert_eq!(value["apiVersion"], "cambric.dev/v1alpha1");
    assert_eq!((value["kind"].as_str(), &value["spec"]), (Some("BGPFilter"), &json!({"rules": []})));
    assert_eq!(value["metadata"]["generation"], 3);
    assert_eq!(
        (value["metadata"].get("managedFields"), value["metadata"].get("resourceVersion")),
        (None, None)
    );
}

#[test]
fn a_policy_with_what_nobody_knows_keeps_its_faults_and_a_new_version_is_no_change() {
    let policy = |version: &str, spec: Value| {
        let mut metadata = metadata();
        metadata["resourceVersion"] = version.into();
        shown(Kind::NetworkPolicy, json!({"metadata": metadata, "spec": spec})).1
    };
    let says = |known: Known<Says>| match known.says {
        Says::Policy(policy) => policy,
        other => panic!("{other:?}"),
    };
    assert_eq!(policy("1", json!({"podSelector": {}})).says, policy("2", json!({"podSelector": {}})).says);
    let misspelt = says(policy("1", json!({"podSelector": {}, "ingres": []})));
    assert_eq!(misspelt.faults.len(), 1);
    assert_eq!(misspelt.faults[0].field, "spec.ingres");
}

#[test]
fn what_cannot_be_read_is_named_with_its_field() {
    let pod =
        json!({"metadata": metadata(), "spec": {"containers": [{}, {"ports": [{"containerPort": "x"}]}]}});
    let Found::Unreadable(key, what) = read(Kind::Pod, &pod.to_string()) else { panic!("it is no pod") };
    assert_eq!(key.to_string(), "web/a");
    assert_eq!(what, "spec.containers[1].ports[0].containerPort: invalid type: string \"x\", expected i32");
    let nameless = read(Kind::Namespace, &json!({"metadata": {"name": ""}}).to_string());
    assert_eq!(nameless, Found::Nameless("a Namespace without a name".to_owned()));
    assert!(matches!(read(Kind::Node, "{}"), Found::Nameless(_)));
}

/// What a type reads that is derived need not be an object: nothing a server sends ends the process.
#[test]
fn an_array_in_the_place_of_an_object_is_none() {
    let array = json!([{"name": "a"}]);
    for kind in Kind::ALL {
        match read(kind, &array.to_string()) {
            Found::Unreadable(key, _) => assert_eq!(&*key.name, "a"),
            other => assert!(!kind.is_ours(), "{kind}: {other:?}"),
        }
    }
    let metadata = json!({"metadata": ["a", null, null, "5", null, null, null]});
    let found = read(Kind::BGPFilter, &metadata.to_string());
    assert!(
        matches!(&found, Found::Nameless(what) if what.ends_with("metadata: not an object")),
        "{found:?}"
    );
}

/// What `kubectl apply` wrote has all of it in clear.
#[test]
fn of_a_secret_what_may_be_a_key_is_kept_and_how_long_the_rest_is() {
    let object = json!({
        "metadata": {"name": "a", "namespace": "cambric-system", "resourceVersion": "5",
                     "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "in-clear"}},
        "type": "Opaque", "data": {"password": "aHVudGVyMg==", "certificate": "eA=="},
    });
    let mut long = object.clone();
    long["data"]["certificate"] = serde_json::to_value(ByteString(vec![b'x'; 81])).expect("base64");
    let Found::Object(key, Known { says: Says::Document(json), .. }) = read(Kind::Secret, &long.to_string())
    else {
        panic!("it is one")
    };
    assert_eq!(key, Key::new("", "a"));
    let kept = json.value();
    assert_eq!(
        (&kept["data"], &kept["lengths"]),
        (&json!({"password": "aHVudGVyMg=="}), &json!({"certificate": 81}))
    );
    assert!(!json.text().contains("in-clear") && !format!("{json:?}").contains("aHVudGVy"), "{json:?}");
    let torn = json!({"metadata": {"name": "a"}, "data": {"password": "hunter2!"}});
    let Found::Unreadable(_, what) = read(Kind::Secret, &torn.to_string()) else {
        panic!("it is not in base64")
    };
    assert_eq!(what, "data: not a map of texts in base64");
}

#[test]
fn a_page_says_how_old_it_is_and_where_the_next_one_is() {
    let list = json!({
        "kind": "NamespaceList", "metadata": {"resourceVersion": "9", "continue": "there"},
        "items": [{"metadata": metadata()}, {"metadata": {"name": "b", "labels": 1}}],
    });
    let found = page(Kind::Namespace, list.to_string().as_bytes()).expect("a page");
    assert_eq!(
        (found.version, found.next.as_deref(), found.objects.len()),
        (Version::Number(9), Some("there"), 2)
    );
    assert!(matches!(&found.objects[1], Found::Unreadable(key, _) if *key == Key::new("", "b")));
    let empty = json!({"metadata": {"resourceVersion": "9", "continue": ""}, "items": null}).to_string();
    let empty = page(Kind::Pod, empty.as_bytes()).expect("a page");
    assert_eq!((empty.next, empty.objects.len()), (None, 0));
    let nowhere = "{\"metadata\":{\"resourceVersion\":\"\"},\"items\":[]}";
    for torn in [
        "",
        "{",
        "[]",
        nowhere,
        "{\"items\": []}",
        "{\"metadata\":{\"resourceVersion\":\"9\"},\"items\":[{]}",
    ] {
        assert!(page(Kind::Pod, torn.as_bytes()).is_err(), "{torn}");
    }
}

#[test]
fn lines_of_a_watch_are_told_apart() {
    let line = |what: &str, object: Value| line_of(&json!({"type": what, "object": object}).to_string());
    let object = json!({"metadata": metadata()});
    assert!(matches!(line("ADDED", object.clone()), Ok(Line::Event(Event::Shows(..)))));
    assert!(matches!(line("MODIFIED", object.clone()), Ok(Line::Event(Event::Shows(..)))));
    let gone = line("DELETED", object);
    assert!(matches!(gone, Ok(Line::Event(Event::Gone(_, Some(_), Version::Number(812))))), "{gone:?}");
    let unreadable = line("MODIFIED", json!({"metadata": {"name": "b", "labels": []}}));
    assert!(matches!(unreadable, Ok(Line::Unreadable(..))), "{unreadable:?}");
    let bookmark = json!({"metadata": {"resourceVersion": "9"}});
    assert!(matches!(line("BOOKMARK", bookmark), Ok(Line::Event(Event::Reached(Version::Number(9))))));
    let end =
        json!({"metadata": {"resourceVersion": "9", "annotations": {"k8s.io/initial-events-end": "true"}}});
    assert!(matches!(line("BOOKMARK", end), Ok(Line::InitialEnd(Version::Number(9)))));
    let status = json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"});
    assert!(matches!(line("ERROR", status), Ok(Line::Error(status)) if status.code == 410));
    for what in ["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "OTHER"] {
        let nowhere = json!({"metadata": {"name": "a", "resourceVersion": ""}});
        for object in [json!({}), nowhere] {
            assert!(line(what, object).is_err(), "{what}");
        }
    }
    assert!(line_of("{\"type\":\"ADDED\",\"obj").is_err());
}
