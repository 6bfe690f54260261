//! Services and EndpointSlices are asked for once a BGPAdvertisement names services, and not before.

use std::time::Duration;

use cambric_apiserver_double::ApiServer;
use cambric_kube::{Picture, TrafficPolicy};
use cambric_policy::change::Key;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::*;

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"clusterIPs": ["10.96.0.10"], "clusterIP": "10.96.0.10", "externalTrafficPolicy": "Local"},
        "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}},
    })
}

fn slice(ready: bool) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": [{"addresses": ["10.244.1.1"], "nodeName": "n1", "conditions": {"ready": ready}}],
    })
}

fn advertisement(what: &Value) -> Value {
    json!({
        "apiVersion": "cambric.dev/v1alpha1", "kind": "BGPAdvertisement", "metadata": {"name": "all"},
        "spec": {"advertised": [what]},
    })
}

fn named() -> Value {
    advertisement(&json!({"what": "Services", "serviceAddresses": ["LoadBalancerIP"]}))
}

fn answers(picture: &Picture) -> bool {
    let slice = picture.slices.get(&Key::new("default", "web-1"));
    slice.is_some_and(|slice| slice.answers_at("n1") && &*slice.service == "web")
}

fn has_asked(server: &ApiServer) -> bool {
    let asked = lists(server);
    asked.contains_key("list services") || asked.contains_key("list endpointslices")
}

#[tokio::test(start_paused = true)]
async fn services_are_asked_for_once_they_are_announced_and_known_to_the_next_run() {
    let (server, state) = (server(), state_dir());
    server.put(service());
    server.put(slice(false));
    server.put(advertisement(&json!({"what": "Pods"})));
    let mut follows = follow(&server, &state);
    follows.until_watching().await;
    sleep(Duration::from_secs(60)).await;
    assert!(!has_asked(&server), "nobody needs them");
    assert!(!follows.now().health.kinds.contains_key("Service"));

    server.put(named());
    let picture = follows.until("services are known", |picture| picture.services.len() == 1).await;
    let web = picture.services.get(&Key::new("default", "web")).expect("it is known");
    assert_eq!(web.external_policy, TrafficPolicy::Local);
    assert_eq!(web.balancer_addresses[0].1, "198.51.100.1");
    server.put(slice(true));
    follows.until("an endpoint is ready", answers).await;
    server.put(slice(false));
    follows.until("it is not any more", |picture| !answers(picture)).await;
    server.put(slice(true));
    follows.until("it is again", answers).await;
    follows.until_watching().await;
    // What changes goes to the disk some moments later.
    sleep(Duration::from_secs(30)).await;
    drop(follows);

    let away: Proxy = Box::new(|_| Some(503));
    let follows = follow_through(&server, &state, away);
    let picture = follows.now();
    assert!(answers(&picture) && picture.services.len() == 1, "of the snapshot: {:?}", picture.slices);
}

#[tokio::test(start_paused = true)]
async fn a_right_to_services_that_is_missing_keeps_nothing_else_from_being_known() {
    let (server, state) = (server(), state_dir());
    server.put(named());
    let refuses = |request: &http::Request<kube::client::Body>| {
        let path = request.uri().path();
        (path.ends_with("/services") || path.ends_with("/endpointslices")).then_some(403)
    };
    let mut follows = follow_through(&server, &state, Box::new(refuses));
    let picture = follows
        .until("it is refused", |picture| {
            let is_refused =
                |kind: &cambric_kube::KindHealth| matches!(kind.state, cambric_kube::KindState::Refused(_));
            picture.health.kinds.get("Service").is_some_and(is_refused) && !picture.pods.is_empty()
        })
        .await;
    assert!(!picture.is_complete && picture.services.is_empty());
    assert!(picture.health.kinds["Node"].is_shown);
}
