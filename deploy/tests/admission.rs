//! Writes with the token of one node's daemon, under the rights and the policies that are shipped. The labs with an API
//! server run whole daemons under them.

use anyhow::Result;
use cambric_apiserver_double::{ApiServer, User};
use cambric_deploy::{NAMESPACE, base};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

const NODE: &str = "/api/v1/nodes/n1";
const OTHER: &str = "/api/v1/nodes/n2";
const SESSIONS: &str = "/apis/cambric.dev/v1alpha1/bgpsessionstates";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// Two nodes, and the daemon of the first.
struct Rig {
    server: ApiServer,
    client: Client,
}

impl Rig {
    fn new() -> Rig {
        let server = ApiServer::new();
        let text = |object: &Value| object.to_string();
        let is = |object: &&Value, kinds: &[&str]| kinds.iter().any(|kind| object["kind"] == **kind);
        let objects = base();
        let rights: Vec<String> = objects
            .iter()
            .filter(|object| is(object, &["ClusterRole", "ClusterRoleBinding"]))
            .map(text)
            .collect();
        server.authorize(&rights.join("\n---\n"));
        for object in objects.iter().filter(|object| {
            is(
                object,
                &[
                    "CustomResourceDefinition",
                    "ValidatingAdmissionPolicy",
                    "ValidatingAdmissionPolicyBinding",
                ],
            )
        }) {
            server.put(object.clone());
        }
        server.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}));
        for name in ["n1", "n2"] {
            server.put(json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": name, "labels": {"rack": "1"}, "annotations": {"a": "b"}},
                "spec": {
                    "podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"],
                    "taints": [{"key": "others", "effect": "NoExecute", "value": "x"}],
                },
                "status": {
                    "capacity": {"cpu": "4", "memory": "16393244Ki"},
                    "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
                    "images": [{"names": ["a"], "sizeBytes": 1}],
                },
            }));
        }
        let client = server.client_of(daemon().on_node("n1"));
        Rig { server, client }
    }

    /// The code and the message of the answer.
    async fn ask(&self, method: &str, path: &str, content_type: &str, body: &Value) -> Result<(u16, String)> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .body(Body::from(body))?;
        let answer = self.client.send(request).await?;
        let code = answer.status().as_u16();
        let body: Value = serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?;
        Ok((code, body["message"].as_str().unwrap_or_default().to_owned()))
    }

    async fn passes(&self, method: &str, path: &str, content_type: &str, body: Value) -> Result<()> {
        let (code, message) = self.ask(method, path, content_type, &body).await?;
        assert!(code < 300, "{method} {path} {body}: {code} {message}");
        Ok(())
    }

    /// It is refused by that policy, in words with `why` in them.
    async fn is_held(
        &self,
        policy: &str,
        method: &str,
        path: &str,
        kind: &str,
        body: Value,
        why: &str,
    ) -> Result<()> {
        let (code, message) = self.ask(method, path, kind, &body).await?;
        let by = format!("ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request: ");
        assert_eq!(code, 403, "{method} {path} {body}: {message}");
        let said = message.split_once(&by).map(|(_, said)| said);
        assert!(said.is_some_and(|said| said.contains(why)), "{method} {path} {body}: {message}");
        Ok(())
    }

    async fn node_is_held(&self, path: &str, kind: &str, body: Value, why: &str) -> Result<()> {
        self.is_held("cambricd-own-node", "PATCH", path, kind, body, why).await
    }

    fn node(&self, name: &str) -> Value {
        self.server.get("v1", "Node", "", name).expect("it is there")
    }
}

fn daemon() -> User {
    User::service_account(NAMESPACE, "cambricd")
}

/// The taints of the rig's nodes, and these.
fn taints(more: Value) -> Value {
    let mut taints = vec![json!({"key": "others", "effect": "NoExecute", "value": "x"})];
    taints.extend(more.as_array().cloned().unwrap_or_default());
    json!({"spec": {"taints": taints}})
}

fn condition(name: &str) -> Value {
    json!({"status": {"conditions": [{
        "type": name, "status": "False", "reason": "CambricIsReady", "message": "m",
        "lastHeartbeatTime": "2026-11-22T06:00:00Z", "lastTransitionTime": "2026-11-22T06:00:00Z",
    }]}})
}

fn session(name: &str, node: &str) -> Value {
    json!({
        "apiVersion": "cambric.dev/v1alpha1", "kind": "BGPSessionState", "metadata": {"name": name},
        "spec": {"node": node, "peer": "tor", "address": "192.0.2.1", "asn": 65101},
    })
}

fn event(name: &str, instance: &str) -> Value {
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": name, "namespace": "default"},
        "eventTime": "2026-11-22T06:00:00.000000Z", "type": "Normal", "reason": "Ready", "action": "Start",
        "note": "n", "regarding": {"apiVersion": "v1", "kind": "Node", "name": instance},
        "reportingController": "cambric.dev/cambricd", "reportingInstance": instance,
    })
}

#[tokio::test]
async fn the_own_taint_and_the_own_condition_come_and_go() -> Result<()> {
    let rig = Rig::new();
    let ours = json!([{"key": "cambric.dev/not-ready", "effect": "NoSchedule"}]);
    rig.passes("PATCH", NODE, MERGE, taints(ours)).await?;
    assert_eq!(rig.node("n1")["spec"]["taints"].as_array().map(Vec::len), Some(2));
    rig.passes("PATCH", NODE, MERGE, taints(json!([]))).await?;
    let status = format!("{NODE}/status");
    rig.passes("PATCH", &status, STRATEGIC, condition("NetworkUnavailable")).await?;
    rig.passes("PATCH", &status, STRATEGIC, condition("NetworkUnavailable")).await?;
    let conditions = rig.node("n1")["status"]["conditions"].as_array().cloned().unwrap_or_default();
    assert_eq!(conditions.len(), 2);
    Ok(())
}

/// A Node that nobody has written anything into yet: no taints, no conditions, no labels.
#[tokio::test]
async fn fields_may_be_absent() -> Result<()> {
    let rig = Rig::new();
    rig.server.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n3"}}));
    let rig = Rig { client: rig.server.client_of(daemon().on_node("n3")), server: rig.server };
    let path = "/api/v1/nodes/n3";
    let ours = json!({"spec": {"taints": [{"key": "cambric.dev/not-ready", "effect": "NoSchedule"}]}});
    rig.passes("PATCH", path, MERGE, ours).await?;
    rig.passes("PATCH", &format!("{path}/status"), STRATEGIC, condition("NetworkUnavailable")).await?;
    rig.passes("PATCH", path, MERGE, json!({"spec": {"taints": null}})).await?;
    Ok(())
}

#[tokio::test]
async fn nothing_else_of_the_own_node_can_be_written() -> Result<()> {
    let rig = Rig::new();
    let before = ["n1", "n2"].map(|name| rig.node(name));
    for (body, why) in [
        (json!({"metadata": {"labels": {"rack": "2"}}}), "no label"),
        (json!({"metadata": {"labels": {"new": "1"}}}), "no label"),
        (json!({"metadata": {"labels": null}}), "no label"),
        (json!({"metadata": {"annotations": {"a": null}}}), "no label"),
        (json!({"metadata": {"finalizers": ["example.com/x"]}}), "finalizer"),
        (
            json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n2", "uid": "u"}]}}),
            "owner",
        ),
        (taints(json!([{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}])), "alone"),
        // Our key, but one that would end the pods that run.
        (taints(json!([{"key": "cambric.dev/not-ready", "effect": "NoExecute"}])), "alone"),
        (json!({"spec": {"taints": null}}), "alone"),
        (json!({"spec": {"unschedulable": true}}), "of the spec"),
        (json!({"spec": {"providerID": "x"}}), "of the spec"),
    ] {
        rig.node_is_held(NODE, MERGE, body, why).await?;
    }
    let status = format!("{NODE}/status");
    for (body, why) in [
        (condition("Ready"), "NetworkUnavailable alone"),
        (condition("DiskPressure"), "NetworkUnavailable alone"),
        (json!({"status": {"capacity": {"cpu": "400"}}}), "of the status"),
        (
            json!({"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.66"}]}}),
            "of the status",
        ),
        (json!({"status": {"images": null}}), "of the status"),
        (json!({"metadata": {"labels": {"new": "1"}}}), "no label"),
    ] {
        rig.node_is_held(&status, STRATEGIC, body, why).await?;
    }
    assert_eq!(["n1", "n2"].map(|name| rig.node(name)), before);
    Ok(())
}

#[tokio::test]
async fn no_other_node_can_be_written() -> Result<()> {
    let rig = Rig::new();
    let ours = json!([{"key": "cambric.dev/not-ready", "effect": "NoSchedule"}]);
    rig.node_is_held(OTHER, MERGE, taints(ours.clone()), "and to no other").await?;
    let status = format!("{OTHER}/status");
    rig.node_is_held(&status, STRATEGIC, condition("NetworkUnavailable"), "and to no other").await?;
    // A token that is of no pod, as one that somebody asked for by hand.
    let unbound = Rig { client: rig.server.client_of(daemon()), server: rig.server.clone() };
    unbound.node_is_held(NODE, MERGE, taints(ours), "not bound to a node").await
}

#[tokio::test]
async fn who_is_not_the_daemon_is_not_held() -> Result<()> {
    let rig = Rig::new();
    for user in [User::admin(), User::service_account("kube-system", "cambricd")] {
        let rig = Rig { client: rig.server.client_of(user), server: rig.server.clone() };
        rig.passes("PATCH", OTHER, MERGE, json!({"spec": {"unschedulable": true}})).await?;
    }
    Ok(())
}

#[tokio::test]
async fn sessions_are_told_by_their_own_node() -> Result<()> {
    let rig = Rig::new();
    let status = json!({"status": {"state": "Established"}});
    rig.passes("POST", SESSIONS, "application/json", session("n1.tor", "n1")).await?;
    rig.passes("PATCH", &format!("{SESSIONS}/n1.tor"), MERGE, json!({"spec": {"asn": 65102}})).await?;
    rig.passes("PATCH", &format!("{SESSIONS}/n1.tor/status"), MERGE, status.clone()).await?;

    let held = async |method: &str, path: &str, body: Value, why: &str| {
        let kind = if method == "PATCH" { MERGE } else { "application/json" };
        rig.is_held("cambricd-own-sessions", method, path, kind, body, why).await
    };
    rig.server.put(session("n2.tor", "n2"));
    let of_other = format!("{SESSIONS}/n2.tor");
    held("POST", SESSIONS, session("n1.x", "n2"), "of no others").await?;
    held("POST", SESSIONS, session("n2.x", "n1"), "the name of a BGPSessionState").await?;
    held("POST", SESSIONS, session("n1.example.tor", "n1"), "the name of a BGPSessionState").await?;
    held("PATCH", &of_other, json!({"spec": {"asn": 65102}}), "session of another node").await?;
    held("PATCH", &of_other, json!({"spec": {"node": "n1"}}), "session of another node").await?;
    held("PATCH", &format!("{of_other}/status"), status, "session of another node").await?;
    held("PATCH", &format!("{SESSIONS}/n1.tor"), json!({"spec": {"node": "n2"}}), "of no others").await?;
    held("DELETE", &of_other, Value::Null, "session of another node").await?;
    rig.passes("DELETE", &format!("{SESSIONS}/n1.tor"), "application/json", Value::Null).await?;
    assert_eq!(rig.server.list("cambric.dev/v1alpha1", "BGPSessionState").len(), 1);
    Ok(())
}

#[tokio::test]
async fn events_are_told_in_the_name_of_the_own_node() -> Result<()> {
    let rig = Rig::new();
    let held = async |method: &str, path: &str, body: Value, why: &str| {
        let kind = if method == "PATCH" { MERGE } else { "application/json" };
        rig.is_held("cambricd-own-events", method, path, kind, body, why).await
    };
    rig.passes("POST", EVENTS, "application/json", event("n1.1", "n1")).await?;
    held("POST", EVENTS, event("n2.1", "n2"), "in the name of the node").await?;
    let mut foreign = event("n1.2", "n1");
    foreign["reportingController"] = json!("kubelet");
    held("POST", EVENTS, foreign.clone(), "in its own name").await?;
    // A series that another node began is counted on.
    rig.server.put(event("n2.2", "n2"));
    let series = json!({"series": {"count": 2, "lastObservedTime": "2026-11-22T06:01:00.000000Z"}});
    rig.passes("PATCH", &format!("{EVENTS}/n2.2"), MERGE, series.clone()).await?;
    rig.server.put(foreign);
    held("PATCH", &format!("{EVENTS}/n1.2"), series, "its own Events").await
}
