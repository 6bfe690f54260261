//! Writes as a real kube-apiserver answers them: create, replace, patch, server-side apply, delete.

#[path = "write/admission.rs"]
mod admission;
mod common;

use common::Rig;
use serde_json::{Value, json};

/// One kind with a status subresource, defaults, bounds and rules.
const THINGS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.org}
spec:
  group: example.org
  scope: Cluster
  names: {kind: Thing, plural: things, shortNames: [th], categories: [all-things]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            properties:
              asn: {type: integer, minimum: 1}
              mode: {type: string, default: Plain, enum: [Plain, Fancy]}
              peers:
                type: array
                maxItems: 4
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items:
                  type: object
                  required: [name]
                  properties: {name: {type: string}, port: {type: integer}}
            x-kubernetes-validations:
            - {rule: "!has(self.asn) || self.asn != 23456", message: AS 23456 is reserved}
          status:
            type: object
            properties: {phase: {type: string}}
"#;

const NODES: &str = "/api/v1/nodes";
const PODS: &str = "/api/v1/namespaces/default/pods";
const ALL_THINGS: &str = "/apis/example.org/v1/things";
const THING: &str = "/apis/example.org/v1/things/a";

fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
}

fn thing(spec: Value) -> Value {
    json!({"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": "a"}, "spec": spec})
}

fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    for (field, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    pod
}

async fn with_things() -> Rig {
    let rig = Rig::in_process();
    rig.server.install(THINGS);
    rig
}

#[tokio::test]
async fn both_ways_to_the_server_write_the_same() {
    for rig in [Rig::in_process(), Rig::over_tcp().await] {
        let created = rig.post(NODES, &node("n1")).await;
        assert_eq!(created.code, 201);
        let again = rig.post(NODES, &node("n1")).await;
        assert_eq!(
            (again.code, again.reason(), again.message()),
            (409, "AlreadyExists", "nodes \"n1\" already exists")
        );
        let missing = rig.merge("/api/v1/nodes/n2", &json!({})).await;
        assert_eq!((missing.code, missing.message()), (404, "nodes \"n2\" not found"));
    }
}

#[tokio::test]
async fn an_old_version_is_a_conflict_for_put_and_patch() {
    let rig = Rig::in_process();
    let first = rig.post(NODES, &node("n1")).await.ok();
    let changed = rig.merge("/api/v1/nodes/n1", &json!({"metadata": {"labels": {"a": "1"}}})).await.ok();
    assert_ne!(first["metadata"]["resourceVersion"], changed["metadata"]["resourceVersion"]);
    let put = rig.put("/api/v1/nodes/n1", &first).await;
    let message = "Operation cannot be fulfilled on nodes \"n1\": the object has been modified; please apply your changes to the latest version and try again";
    assert_eq!((put.code, put.reason(), put.message()), (409, "Conflict", message));
    let stale =
        json!({"metadata": {"resourceVersion": first["metadata"]["resourceVersion"], "labels": {"a": "2"}}});
    assert_eq!(rig.merge("/api/v1/nodes/n1", &stale).await.code, 409);
    let other_uid = json!({"metadata": {"uid": "not-this-one"}});
    let refused = rig.merge("/api/v1/nodes/n1", &other_uid).await;
    assert!(refused.code == 409 && refused.message().contains("Precondition failed: UID"), "{refused:?}");
    let same = rig.merge("/api/v1/nodes/n1", &json!({"metadata": {"labels": {"a": "1"}}})).await.ok();
    assert_eq!(
        same["metadata"]["resourceVersion"], changed["metadata"]["resourceVersion"],
        "nothing changed, nothing is written"
    );
}

#[tokio::test]
async fn custom_objects_must_say_what_they_replace() {
    let rig = with_things().await;
    rig.post(ALL_THINGS, &thing(json!({}))).await.ok();
    let refused = rig.put(THING, &thing(json!({"asn": 1}))).await;
    assert_eq!(refused.code, 422);
    assert!(
        refused
            .message()
            .ends_with("metadata.resourceVersion: Invalid value: 0: must be specified for an update"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn spec_and_status_are_written_apart_and_only_spec_is_counted() {
    let rig = with_things().await;
    let mut first = thing(json!({"asn": 1}));
    first["status"] = json!({"phase": "Up"});
    let created = rig.post(ALL_THINGS, &first).await.ok();
    assert_eq!((created.get("status"), &created["metadata"]["generation"]), (None, &json!(1)));
    assert_eq!(created["spec"], json!({"asn": 1, "mode": "Plain"}));
    let status = rig
        .merge(
            &format!("{THING}/status"),
            &json!({"status": {"phase": "Up"}, "spec": {"asn": 2}, "metadata": {"labels": {"l": "1"}}}),
        )
        .await
        .ok();
    assert_eq!(
        (&status["status"]["phase"], &status["spec"]["asn"], status["metadata"].get("labels")),
        (&json!("Up"), &json!(1), None)
    );
    assert_eq!(status["metadata"]["generation"], 1);
    let spec = rig.merge(THING, &json!({"status": {"phase": "Down"}, "spec": {"asn": 2}})).await.ok();
    assert_eq!(
        (&spec["status"]["phase"], &spec["spec"]["asn"], &spec["metadata"]["generation"]),
        (&json!("Up"), &json!(2), &json!(2))
    );
    let label = rig.merge(THING, &json!({"metadata": {"labels": {"l": "1"}}})).await.ok();
    assert_eq!(label["metadata"]["generation"], 2);
}

#[tokio::test]
async fn what_the_schema_forbids_is_invalid_with_causes() {
    let rig = with_things().await;
    let refused = rig.post(ALL_THINGS, &thing(json!({"asn": 0, "mode": "Odd"}))).await;
    assert_eq!((refused.code, refused.reason()), (422, "Invalid"));
    let message = "Thing.example.org \"a\" is invalid: [spec.asn: Invalid value: 0: spec.asn in body should be greater than or equal to 1, spec.mode: Unsupported value: \"Odd\": supported values: \"Plain\", \"Fancy\"]";
    assert_eq!(refused.message(), message);
    let details = &refused.body["details"];
    assert_eq!((&details["kind"], &details["group"]), (&json!("Thing"), &json!("example.org")));
    assert_eq!(details["causes"][1]["reason"], "FieldValueNotSupported");
    let rule = rig.post(ALL_THINGS, &thing(json!({"asn": 23456}))).await;
    assert_eq!(
        rule.message(),
        "Thing.example.org \"a\" is invalid: spec: Invalid value: \"object\": AS 23456 is reserved"
    );
    let name = rig.post(NODES, &node("N_1")).await;
    assert!(name.code == 422 && name.message().contains("a lowercase RFC 1123 subdomain"), "{name:?}");
}

#[tokio::test]
async fn unknown_fields_are_refused_told_or_dropped() {
    let rig = with_things().await;
    let object = thing(json!({"asm": 1}));
    let strict = rig.post(&format!("{ALL_THINGS}?fieldValidation=Strict"), &object).await;
    let message = "Thing in version \"v1\" cannot be handled as a Thing: strict decoding error: unknown field \"spec.asm\"";
    assert_eq!((strict.code, strict.message()), (400, message));
    let warned = rig.post(&format!("{ALL_THINGS}?dryRun=All"), &object).await;
    assert_eq!(warned.warnings, ["299 - \"unknown field \\\"spec.asm\\\"\""]);
    let ignored = rig.post(&format!("{ALL_THINGS}?fieldValidation=Ignore"), &object).await;
    assert!(ignored.warnings.is_empty());
    assert_eq!(ignored.ok()["spec"], json!({"mode": "Plain"}));
    let mut odd = node("n1");
    odd["spec"] = json!({"podCidr": "10.0.0.0/24"});
    odd["metadata"]["lables"] = json!({});
    let warned = rig.post(NODES, &odd).await;
    let told =
        ["299 - \"unknown field \\\"metadata.lables\\\"\"", "299 - \"unknown field \\\"spec.podCidr\\\"\""];
    assert_eq!(warned.warnings, told);
}

#[tokio::test]
async fn patches_merge_as_their_kind_says_and_custom_kinds_take_no_strategic_one() {
    let rig = with_things().await;
    rig.post(NODES, &node("n1")).await.ok();
    let status = "/api/v1/nodes/n1/status";
    let condition =
        |name: &str, status: &str| json!({"status": {"conditions": [{"type": name, "status": status}]}});
    rig.strategic(status, &condition("Ready", "True")).await.ok();
    let node = rig.strategic(status, &condition("NetworkUnavailable", "False")).await.ok();
    assert_eq!(node["status"]["conditions"].as_array().map(Vec::len), Some(2));
    let replaced = rig.merge(status, &condition("Ready", "True")).await.ok();
    assert_eq!(replaced["status"]["conditions"].as_array().map(Vec::len), Some(1));
    rig.post(ALL_THINGS, &thing(json!({}))).await.ok();
    let refused = rig.strategic(THING, &json!({"spec": {"asn": 1}})).await;
    let message = "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
    assert_eq!((refused.code, refused.reason(), refused.message()), (415, "UnsupportedMediaType", message));
    let json_patch = json!([{"op": "test", "path": "/spec/mode", "value": "Plain"}, {"op": "add", "path": "/spec/asn", "value": 7}]);
    let patched = rig.ask("PATCH", THING, "application/json-patch+json", &json_patch).await.ok();
    assert_eq!(patched["spec"]["asn"], 7);
    let failed = json!([{"op": "test", "path": "/spec/mode", "value": "Fancy"}]);
    assert_eq!(rig.ask("PATCH", THING, "application/json-patch+json", &failed).await.code, 422);
}

#[tokio::test]
async fn an_apply_over_another_managers_field_is_a_conflict_with_causes() {
    let rig = with_things().await;
    let apply = |asn: i64| json!({"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": "a"}, "spec": {"asn": asn, "peers": [{"name": "p"}]}});
    let created = rig.apply(THING, "one", &apply(1)).await;
    assert_eq!(created.code, 201);
    let refused = rig.apply(THING, "two", &apply(2)).await;
    assert_eq!((refused.code, refused.reason()), (409, "Conflict"));
    assert_eq!(refused.message(), "Apply failed with 1 conflict: conflict with \"one\": .spec.asn");
    let cause =
        json!({"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".spec.asn"});
    assert_eq!(refused.body["details"]["causes"], json!([cause]));
    let forced = rig
        .ask(
            "PATCH",
            &format!("{THING}?fieldManager=two&force=true"),
            "application/apply-patch+yaml",
            &apply(2),
        )
        .await
        .ok();
    assert_eq!((&forced["spec"]["asn"], &forced["metadata"]["generation"]), (&json!(2), &json!(2)));
    let nameless = rig.ask("PATCH", THING, "application/apply-patch+yaml", &apply(2)).await;
    assert!(
        nameless.code == 422 && nameless.message().contains("fieldManager: Required value"),
        "{nameless:?}"
    );
    let again = rig.apply(THING, "two", &apply(2)).await.ok();
    assert_eq!(again["metadata"]["resourceVersion"], forced["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn objects_need_their_namespace() {
    let rig = Rig::in_process();
    let refused = rig.post("/api/v1/namespaces/none/pods", &pod("p", json!({}))).await;
    assert_eq!((refused.code, refused.message()), (404, "namespaces \"none\" not found"));
    let mut elsewhere = pod("p", json!({}));
    elsewhere["metadata"]["namespace"] = json!("kube-system");
    assert_eq!(rig.post(PODS, &elsewhere).await.code, 400);
    assert_eq!(rig.post(PODS, &pod("p", json!({}))).await.ok()["metadata"]["namespace"], "default");
}

#[tokio::test]
async fn a_namespace_goes_with_everything_in_it_once_pods_have_ended() {
    let rig = Rig::in_process();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    let created = rig.post("/api/v1/namespaces", &namespace).await.ok();
    assert_eq!(created["metadata"]["labels"]["kubernetes.io/metadata.name"], "shop");
    rig.post("/api/v1/namespaces/shop/pods", &pod("waits", json!({}))).await.ok();
    rig.post("/api/v1/namespaces/shop/pods", &pod("runs", json!({"nodeName": "n1"}))).await.ok();
    let leaving = rig.delete("/api/v1/namespaces/shop", &Value::Null).await.ok();
    assert_eq!(leaving["status"]["phase"], "Terminating");
    assert_eq!(rig.get("/api/v1/namespaces/shop/pods/waits").await.code, 404);
    let refused = rig.post("/api/v1/namespaces/shop/pods", &pod("late", json!({}))).await;
    assert!(
        refused.code == 403 && refused.message().contains("because it is being terminated"),
        "{refused:?}"
    );
    rig.delete("/api/v1/namespaces/shop/pods/runs", &json!({"gracePeriodSeconds": 0})).await.ok();
    assert_eq!(rig.get("/api/v1/namespaces/shop").await.code, 404);
}

#[tokio::test]
async fn a_running_pod_is_marked_and_goes_when_its_kubelet_says_so() {
    let rig = Rig::in_process();
    let created =
        rig.post(PODS, &pod("p", json!({"nodeName": "n1", "terminationGracePeriodSeconds": 5}))).await.ok();
    let path = format!("{PODS}/p");
    let marked = rig.delete(&path, &Value::Null).await.ok();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 5);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let wrong =
        rig.delete(&path, &json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "another"}})).await;
    assert_eq!((wrong.code, wrong.reason()), (409, "Conflict"));
    let right = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": created["metadata"]["uid"]}});
    rig.delete(&path, &right).await.ok();
    assert_eq!(rig.get(&path).await.code, 404);
}

#[tokio::test]
async fn a_finalizer_holds_an_object_until_it_is_taken_away() {
    let rig = with_things().await;
    let mut object = thing(json!({}));
    object["metadata"]["finalizers"] = json!(["example.org/hold"]);
    rig.post(ALL_THINGS, &object).await.ok();
    assert!(rig.delete(THING, &Value::Null).await.ok()["metadata"]["deletionTimestamp"].is_string());
    let more = rig
        .merge(THING, &json!({"metadata": {"finalizers": ["example.org/hold", "example.org/more"]}}))
        .await;
    assert!(more.code == 422 && more.message().contains("no new finalizers"), "{more:?}");
    rig.merge(THING, &json!({"metadata": {"finalizers": []}})).await.ok();
    assert_eq!(rig.get(THING).await.code, 404);
}

#[tokio::test]
async fn what_an_object_owned_goes_with_it() {
    let rig = with_things().await;
    let owner = rig.post(NODES, &node("n1")).await.ok();
    let mut owned = thing(json!({}));
    let reference =
        json!({"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": owner["metadata"]["uid"]});
    owned["metadata"]["ownerReferences"] = json!([reference]);
    rig.post(ALL_THINGS, &owned).await.ok();
    let deleted = rig.delete("/api/v1/nodes/n1", &Value::Null).await.ok();
    assert_eq!((&deleted["status"], &deleted["details"]["kind"]), (&json!("Success"), &json!("nodes")));
    assert_eq!(rig.get(THING).await.code, 404);
    rig.post(ALL_THINGS, &owned).await.ok();
    assert_eq!(rig.get(THING).await.code, 404, "its owner is gone already");
}

#[tokio::test]
async fn an_owner_of_a_kind_that_is_not_here_counts_as_there() {
    let rig = Rig::in_process();
    let mut owned = pod("p", json!({}));
    owned["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u"}]);
    rig.post(PODS, &owned).await.ok();
    assert_eq!(rig.get(&format!("{PODS}/p")).await.code, 200);
}

#[tokio::test]
async fn definitions_with_wrong_schemas_or_rules_are_refused() {
    let rig = Rig::in_process();
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let mut definition: Value = serde_yaml_ng::from_str(THINGS).expect("YAML");
    let at = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    definition.pointer_mut(at).expect("a spec")["x-kubernetes-validations"][0]["rule"] =
        json!("self.nothing == 1");
    let refused = rig.post(path, &definition).await;
    assert_eq!((refused.code, refused.reason()), (422, "Invalid"));
    assert!(
        refused.message().contains("properties[spec].x-kubernetes-validations[0].rule")
            && refused.message().contains("undefined field 'nothing'"),
        "{refused:?}"
    );
    definition.pointer_mut(at).expect("a spec")["x-kubernetes-validations"] = json!([]);
    definition.pointer_mut(at).expect("a spec").as_object_mut().expect("fields").remove("type");
    let refused = rig.post(path, &definition).await;
    assert!(refused.message().contains("properties[spec].type: Required value"), "{refused:?}");
    definition.pointer_mut(at).expect("a spec")["type"] = json!("object");
    let created = rig.post(path, &definition).await.ok();
    assert_eq!(created["status"]["conditions"][1]["type"], "Established");
    rig.post(ALL_THINGS, &thing(json!({}))).await.ok();
}

#[tokio::test]
async fn events_of_both_groups_are_one_and_checked_as_the_group_asks() {
    let rig = Rig::in_process();
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    let mut event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e.1"}, "type": "Normal",
        "reason": "SessionUp", "action": "Peer", "note": "up", "reportingController": "example.org/agent", "reportingInstance": "n1",
        "regarding": {"kind": "Node", "name": "n1"}});
    let refused = rig.post(path, &event).await;
    assert!(refused.code == 422 && refused.message().contains("eventTime: Required value"), "{refused:?}");
    event["eventTime"] = json!("2026-11-21T23:00:00.000000Z");
    rig.post(path, &event).await.ok();
    let core = rig.get("/api/v1/namespaces/default/events/e.1").await.ok();
    assert_eq!((&core["message"], &core["involvedObject"]["name"]), (&json!("up"), &json!("n1")));
    let series = json!({"series": {"count": 2, "lastObservedTime": "2026-11-21T23:01:00.000000Z"}});
    let patched = rig.merge(&format!("{path}/e.1"), &series).await.ok();
    assert_eq!(patched["series"]["count"], 2);
    let changed = rig.merge(&format!("{path}/e.1"), &json!({"note": "down"})).await;
    assert!(changed.code == 422 && changed.message().contains("field is immutable"), "{changed:?}");
}

#[tokio::test]
async fn who_lacks_a_right_is_told_which() {
    let rig = with_things().await;
    rig.server.authorize(
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: r}, rules: [{apiGroups: [example.org], resources: [things], verbs: [get]}]}",
    );
    let refused = rig.get(NODES).await;
    assert_eq!((refused.code, refused.reason()), (403, "Forbidden"));
    assert!(refused.message().starts_with("nodes is forbidden: User \""), "{refused:?}");
    assert!(
        refused.message().ends_with("cannot list resource \"nodes\" in API group \"\" at the cluster scope"),
        "{refused:?}"
    );
    assert_eq!(rig.get(THING).await.code, 404);
    let status = rig.merge(&format!("{THING}/status"), &json!({})).await;
    assert!(
        status.message().contains("cannot patch resource \"things/status\" in API group \"example.org\""),
        "{status:?}"
    );
}
