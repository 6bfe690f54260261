//! How it begins: one list a kind, by whichever way the server knows, and what is followed then.

use std::time::Duration;

use cambric_apiserver_double::{ApiServer, Fault, StreamingLists};
use cambric_kube::{DocumentId, KindState, Kube};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;
use tower::ServiceExt;

use crate::support::*;

const RESOURCES: [&str; 10] = [
    "bgpadvertisements",
    "bgpclusterconfigs",
    "bgpfilters",
    "bgpnodeoverrides",
    "bgppeerconfigs",
    "namespaces",
    "networkpolicies",
    "nodes",
    "pods",
    "secrets",
];

fn document(kind: &str, name: &str) -> DocumentId {
    DocumentId { kind: kind.into(), name: name.into() }
}

#[tokio::test(start_paused = true)]
async fn all_that_is_there_is_shown_by_one_list_a_kind() {
    let (server, state) = (server(), state_dir());
    let mut follows = follow(&server, &state);
    let picture = follows.until_watching().await;
    assert_eq!(pods(&picture), ["one", "two"]);
    assert_eq!(address(&picture, "one"), "10.244.1.1");
    assert_eq!(picture.policies.len(), 1);
    assert!(picture.namespaces.get("kube-system").is_some());
    let node = picture.documents.get(&document("Node", "n1")).expect("it is known").value();
    assert_eq!(node["spec"]["podCIDR"], "10.244.1.0/24");
    let config =
        picture.documents.get(&document("BGPClusterConfig", "default")).expect("it is known").value();
    assert_eq!(config["spec"]["mesh"], "Disabled");
    assert_eq!(picture.health.kinds.keys().map(String::as_str).collect::<Vec<_>>(), KINDS);
    assert_eq!(picture.health.trouble, None);

    sleep(Duration::from_secs(7200)).await;
    let wanted = RESOURCES.map(|resource| (format!("list {resource}"), 1));
    assert_eq!(lists(&server), wanted.into_iter().collect(), "and not one more in two hours");
    let others = counts(&server.requests()).into_iter().filter(|(what, _)| !what.starts_with("list "));
    for (what, count) in others {
        assert!(count <= 27, "{count} times {what}");
    }
}

#[tokio::test(start_paused = true)]
async fn changes_follow_each_other_and_what_changes_nothing_makes_no_picture() {
    let (server, state) = (server(), state_dir());
    let mut follows = follow(&server, &state);
    follows.until_watching().await;
    server.put(pod("three", "10.244.1.3"));
    follows.until_pods(&["one", "three", "two"]).await;
    server.put(pod("three", "10.244.1.9"));
    follows.until("it has another address", |picture| address(picture, "three") == "10.244.1.9").await;
    remove_pod(&server, "one");
    follows.until_pods(&["three", "two"]).await;

    sleep(Duration::from_secs(60)).await;
    let before = follows.now();
    let mut node = server.get("v1", "Node", "", "n1").expect("it is there");
    for beat in 0..20 {
        node["status"]["conditions"] = json!([{"type": "Ready", "status": "True", "lastHeartbeatTime": format!("2026-01-01T00:00:{beat:02}Z")}]);
        node["metadata"]["annotations"] = json!({"beat": beat.to_string()});
        server.put(node.clone());
        sleep(Duration::from_secs(10)).await;
    }
    assert!(std::sync::Arc::ptr_eq(&before, &follows.now()), "heartbeats change nothing");
}

/// As many pictures as fit into the time, and the last of them says all.
#[tokio::test(start_paused = true)]
async fn a_busy_cluster_makes_a_picture_every_fifty_milliseconds_at_most() {
    let (server, state) = (server(), state_dir());
    let mut follows = follow(&server, &state);
    follows.until_watching().await;
    let mut pictures = follows.kube.pictures();
    let counting = tokio::spawn(async move {
        let mut count = 0;
        while pictures.changed().await.is_ok() {
            count += 1;
            if pictures.borrow_and_update().pods.len() == 502 {
                break;
            }
        }
        count
    });
    for number in 0..500 {
        server.put(pod(&format!("p{number:03}"), &format!("10.244.2.{}", number % 250 + 1)));
        sleep(Duration::from_millis(10)).await;
    }
    let count = counting.await.expect("it counts");
    assert!((20..=102).contains(&count), "{count} pictures of five seconds");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_stream_lists_is_asked_in_pages_and_that_is_remembered() {
    for way in [StreamingLists::RefusedInStream, StreamingLists::Refused, StreamingLists::Unknown] {
        let (server, state) = (server(), state_dir());
        for number in 0..1200 {
            server.put(pod(&format!("p{number}"), "10.244.2.1"));
        }
        server.faults().set(Fault::StreamingLists(way));
        let mut follows = follow(&server, &state);
        let picture = follows.until_watching().await;
        assert_eq!(picture.pods.len(), 1202, "{way:?}");
        let pages = server.requests().into_iter().filter(|request| request.verb == "list");
        assert_eq!(pages.filter(|request| request.resource == "pods").count(), 3, "{way:?}");
        server.put(pod("late", "10.244.2.1"));
        follows.until("it is followed", |picture| picture.pods.len() == 1203).await;

        // The next run knows, once that was written.
        sleep(Duration::from_secs(60)).await;
        drop(follows);
        server.forget_requests();
        let mut follows = follow(&server, &state);
        follows.until_watching().await;
        let streaming =
            server.requests().into_iter().filter(|request| request.query.contains("sendInitialEvents"));
        assert_eq!(streaming.count(), 0, "{way:?}");
    }
}

/// A server with too much to do is silent, and that is no reason to give it more to do for a day.
#[tokio::test(start_paused = true)]
async fn a_server_that_was_silent_is_asked_in_pages_and_soon_asked_to_stream_again() {
    let (server, state) = (server(), state_dir());
    server.faults().set(Fault::HangingWatch);
    let mut follows = follow(&server, &state);
    follows.until("it is listed in pages", |picture| picture.is_complete).await;
    let pages = server.requests().into_iter().filter(|request| request.verb == "list");
    assert!(pages.filter(|request| request.resource == "pods").count() == 1);
    server.faults().clear();
    follows.until_watching().await;
    sleep(Duration::from_secs(700)).await;
    let streaming = || {
        let requests = server.requests().into_iter();
        requests.filter(|request| request.query.contains("sendInitialEvents")).count()
    };
    server.forget_requests();
    server.faults().set(Fault::Expired { resource: "*" });
    server.restart();
    sleep(Duration::from_secs(60)).await;
    follows.until_watching().await;
    assert_eq!(streaming(), RESOURCES.len());
    server.faults().clear();
    // And the next run knows nothing of it.
    drop(follows);
    server.forget_requests();
    follow(&server, &state).until_watching().await;
    assert_eq!(streaming(), RESOURCES.len());
}

#[tokio::test(start_paused = true)]
async fn a_list_that_does_not_come_through_as_a_stream_is_asked_for_in_pages() {
    let (server, state) = (server(), state_dir());
    server.faults().set(Fault::TornWatch { after_octets: 10 });
    let mut follows = follow(&server, &state);
    let picture = follows.until("it is listed in pages", |picture| picture.is_complete).await;
    assert_eq!(pods(&picture), ["one", "two"]);
    assert_eq!(lists(&server)["list pods"], 3, "two streams and a page");
}

/// Lists of pods are streams of these lines, and end then.
fn follow_streamed(server: &ApiServer, state: &TempDir, lines: &[(&str, &Value)]) -> Follows {
    let end = json!({"metadata": {
        "resourceVersion": server.mark().version().to_string(),
        "annotations": {"k8s.io/initial-events-end": "true"},
    }});
    let end = [("BOOKMARK", &end)];
    let lines = lines.iter().chain(&end);
    let text: String =
        lines.map(|(what, object)| format!("{}\n", json!({"type": what, "object": object}))).collect();
    let behind = server.clone();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let uri = request.uri().to_string();
        let is_list = uri.starts_with("/api/v1/pods?") && uri.contains("sendInitialEvents");
        let (text, service) = (is_list.then(|| text.clone()), behind.service());
        async move {
            let Some(text) = text else { return service.oneshot(request).await };
            Ok(http::Response::new(Body::from(text.into_bytes()).map_err(Into::into).boxed_unsync()))
        }
    });
    follow_by(Kube::with_client(kube::Client::new(service, "default"), settings(state)))
}

/// Servers may say so before the end of what is there.
#[tokio::test(start_paused = true)]
async fn a_pod_that_goes_while_the_list_streams_is_no_fault_of_the_server() {
    let (server, state) = (server(), state_dir());
    let object = |name: &str| server.get("v1", "Pod", "default", name).expect("it is there");
    let (one, two, mut gone) = (object("one"), object("two"), object("two"));
    gone["metadata"]["name"] = json!("gone");
    let lines = [("ADDED", &gone), ("ADDED", &one), ("DELETED", &gone), ("ADDED", &two)];
    let mut follows = follow_streamed(&server, &state, &lines);
    let picture = follows.until_watching().await;
    assert_eq!(pods(&picture), ["one", "two"]);
    server.put(pod("three", "10.244.1.3"));
    follows.until_pods(&["one", "three", "two"]).await;
    assert_eq!(lists(&server).get("list pods"), None, "it was listed by that stream");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_mended_while_the_list_streams_is_not_named() {
    let (server, state) = (server(), state_dir());
    let object = |name: &str| server.get("v1", "Pod", "default", name).expect("it is there");
    let (one, two, mut broken, mut still) = (object("one"), object("two"), object("two"), object("two"));
    for (object, name) in [(&mut broken, "two"), (&mut still, "still")] {
        object["metadata"]["name"] = json!(name);
        object["spec"]["hostNetwork"] = json!("yes");
    }
    let lines = [("ADDED", &broken), ("ADDED", &still), ("ADDED", &one), ("MODIFIED", &two)];
    let mut follows = follow_streamed(&server, &state, &lines);
    let picture = follows.until_watching().await;
    assert_eq!(pods(&picture), ["one", "two"]);
    let named: Vec<&str> =
        picture.health.kinds["Pod"].unreadable.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(named, ["default/still"]);
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_not_installed_is_empty_until_it_is() {
    let (server, state) = (ApiServer::new(), state_dir());
    let mut follows = follow(&server, &state);
    let picture = follows.until("it is complete", |picture| picture.is_complete).await;
    let KindState::NotInstalled(what) = &picture.health.kinds["BGPFilter"].state else {
        panic!("{:?}", picture.health.kinds["BGPFilter"])
    };
    assert!(what.contains("bgpfilters.cambric.dev: 404"), "{what}");
    install_kinds(&server);
    server.put(json!({
        "apiVersion": "cambric.dev/v1alpha1", "kind": "BGPClusterConfig", "metadata": {"name": "late"},
        "spec": {"mesh": "Disabled"},
    }));
    follows.until_watching().await;
    assert!(follows.now().documents.get(&document("BGPClusterConfig", "late")).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_cannot_be_read_is_named_and_counts_as_it_was() {
    let (server, state) = (server(), state_dir());
    let mut follows = follow(&server, &state);
    follows.until_watching().await;
    let mut broken = pod("two", "10.244.1.99");
    broken["spec"]["hostNetwork"] = json!("yes");
    server.put(broken);
    let named = |picture: &cambric_kube::Picture| !picture.health.kinds["Pod"].unreadable.is_empty();
    let picture = follows.until("it is named", named).await;
    let (object, what) = &picture.health.kinds["Pod"].unreadable[0];
    assert_eq!(object, "default/two");
    assert!(what.starts_with("spec.hostNetwork: "), "{what}");
    assert_eq!(address(&picture, "two"), "10.244.1.2");
    // The same from a list.
    server.restart();
    follows.until_watching().await;
    assert!(named(&follows.now()) && address(&follows.now(), "two") == "10.244.1.2");
    server.put(pod("two", "10.244.1.5"));
    let picture = follows.until("it is mended", |picture| !named(picture)).await;
    assert_eq!(address(&picture, "two"), "10.244.1.5");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_kube_system_with_much_in_it_says_which_cluster_it_is() {
    let (server, state) = (server(), state_dir());
    let mut namespace = server.get("v1", "Namespace", "", "kube-system").expect("it is there");
    namespace["metadata"]["annotations"] = json!({"much": "x".repeat(200 << 10)});
    server.put(namespace);
    follow(&server, &state).until_watching().await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_with_what_nobody_knows_keeps_its_faults() {
    let (server, state) = (server(), state_dir());
    server.put(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "odd", "namespace": "default"}, "spec": {"podSelector": {}, "ingres": []},
    }));
    let mut follows = follow(&server, &state);
    let picture = follows.until_watching().await;
    let policy =
        picture.policies.get(&cambric_policy::change::Key::new("default", "odd")).expect("it is known");
    assert!(policy.faults.iter().any(|fault| fault.field == "spec.ingres"), "{:?}", policy.faults);
}
