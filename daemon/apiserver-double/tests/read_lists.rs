//! Lists and single objects as a real kube-apiserver answers them, octet by octet.

mod raw;

use std::time::Duration;

use cambric_apiserver_double::Fault;
use raw::{get, get_with, listening, pod, version};
use serde_json::{Value, json};

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("items");
    items.iter().filter_map(|item| item["metadata"]["name"].as_str()).collect()
}

#[test]
fn a_list_of_a_built_in_kind_tells_its_version_first_and_items_without_their_kind() {
    let (server, listener) = listening();
    let put = server.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}));
    let answer = get(listener.address(), "/api/v1/nodes");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let version = version(&put);
    let start = format!(
        "{{\"kind\":\"NodeList\",\"apiVersion\":\"v1\",\"metadata\":{{\"resourceVersion\":\"{version}\"}},\
         \"items\":[{{\"metadata\":{{"
    );
    assert!(answer.body.starts_with(&start), "{}", answer.body);
    assert!(answer.body.ends_with("}]}\n"), "{}", answer.body);
}

#[test]
fn a_list_of_a_custom_kind_repeats_the_kind_and_tells_its_version_last() {
    let (server, listener) = listening();
    server.install(raw::THINGS);
    let put = server.put(json!({"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": "a"}}));
    let answer = get(listener.address(), "/apis/example.org/v1/things");
    let start = "{\"apiVersion\":\"example.org/v1\",\"items\":[{\"apiVersion\":\"example.org/v1\",\"kind\":\"Thing\",";
    assert!(answer.body.starts_with(start), "{}", answer.body);
    let end = format!(
        "],\"kind\":\"ThingList\",\"metadata\":{{\"continue\":\"\",\"resourceVersion\":\"{}\"}}}}\n",
        version(&put)
    );
    assert!(answer.body.ends_with(&end), "{}", answer.body);
}

#[test]
fn the_version_of_a_list_counts_changes_of_every_resource_and_of_status() {
    let (server, listener) = listening();
    let first = server.put(pod("web", "n1"));
    let node = server.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}));
    assert_eq!(version(&node), version(&first) + 1);
    let mut changed = first.clone();
    changed["status"]["phase"] = json!("Succeeded");
    let changed = server.put(changed);
    assert_eq!(version(&changed), version(&first) + 2);
    assert_eq!(changed["metadata"]["uid"], first["metadata"]["uid"]);
    assert_eq!(changed["metadata"]["creationTimestamp"], first["metadata"]["creationTimestamp"]);
    let nodes = get(listener.address(), "/api/v1/nodes").json();
    assert_eq!(version(&nodes), version(&changed));
}

#[test]
fn selectors_and_namespaces_choose() {
    let (server, listener) = listening();
    for (name, node) in [("a", "n1"), ("b", "n2"), ("c", "n1")] {
        server.put(pod(name, node));
    }
    let mut elsewhere = pod("d", "n1");
    elsewhere["metadata"]["namespace"] = json!("kube-system");
    server.put(elsewhere);
    let cases: [(&str, &[&str]); 8] = [
        ("/api/v1/pods", &["a", "b", "c", "d"]),
        ("/api/v1/namespaces/default/pods", &["a", "b", "c"]),
        ("/api/v1/namespaces/nowhere/pods", &[]),
        ("/api/v1/pods?labelSelector=app%20in%20(a,d)", &["a", "d"]),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1", &["a", "c", "d"]),
        ("/api/v1/pods?fieldSelector=spec.nodeName=n1,metadata.namespace=default", &["a", "c"]),
        ("/api/v1/namespaces/default/pods?fieldSelector=metadata.name=b", &["b"]),
        ("/api/v1/pods?fieldSelector=status.phase!=Running", &[]),
    ];
    for (path, expected) in cases {
        let list = get(listener.address(), path).json();
        assert_eq!(names(&list), expected, "{path}");
    }
    let refused = get(listener.address(), "/api/v1/pods?fieldSelector=spec.hostname=x");
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("field label not supported: spec.hostname"), "{}", refused.body);
}

#[test]
fn pages_show_one_version_whatever_happens_between_them() {
    let (server, listener) = listening();
    for name in ["a", "b", "c", "d", "e"] {
        server.put(pod(name, "n1"));
    }
    let first = get(listener.address(), "/api/v1/pods?limit=2").json();
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    server.delete("v1", "Pod", "default", "c");
    server.put(pod("cc", "n1"));
    server.put(pod("d", "n2"));

    let token = first["metadata"]["continue"].as_str().expect("there is more");
    let second = get(listener.address(), &format!("/api/v1/pods?limit=2&continue={token}")).json();
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second["items"][1]["spec"]["nodeName"], "n1");
    assert_eq!(version(&second), version(&first));
    let token = second["metadata"]["continue"].as_str().expect("there is more");
    let last = get(listener.address(), &format!("/api/v1/pods?limit=2&continue={token}")).json();
    assert_eq!(names(&last), ["e"]);
    assert_eq!(last["metadata"].get("continue"), None);

    let selected = get(listener.address(), "/api/v1/pods?limit=1&labelSelector=app").json();
    assert!(selected["metadata"]["continue"].is_string());
    assert_eq!(selected["metadata"].get("remainingItemCount"), None);
    let whole = get(listener.address(), "/api/v1/pods?limit=1&resourceVersion=0").json();
    assert_eq!(names(&whole), ["a", "b", "cc", "d", "e"], "the cache knows no limits");
}

#[test]
fn a_token_of_a_forgotten_version_is_refused_with_one_for_the_inconsistent_rest() {
    let (server, listener) = listening();
    for name in ["a", "b", "c"] {
        server.put(pod(name, "n1"));
    }
    let first = get(listener.address(), "/api/v1/pods?limit=1").json();
    server.put(pod("d", "n1"));
    server.compact();
    let token = first["metadata"]["continue"].as_str().expect("there is more");
    let refused = get(listener.address(), &format!("/api/v1/pods?limit=1&continue={token}"));
    assert_eq!(refused.status, 410);
    let status = refused.json();
    assert_eq!((&status["reason"], &status["code"]), (&json!("Expired"), &json!(410)));
    let message = status["message"].as_str().expect("a message");
    assert!(
        message
            .starts_with("The provided continue parameter is too old to display a consistent list result.")
    );
    let token = status["metadata"]["continue"].as_str().expect("a token");
    let rest = get(listener.address(), &format!("/api/v1/pods?continue={token}")).json();
    assert_eq!(names(&rest), ["b", "c", "d"]);
}

#[test]
fn an_exact_version_is_shown_while_it_is_known_and_refused_with_410_after_that() {
    let (server, listener) = listening();
    let then = version(&server.put(pod("a", "n1")));
    server.put(pod("b", "n1"));
    let path = format!("/api/v1/pods?resourceVersion={then}&resourceVersionMatch=Exact");
    let list = get(listener.address(), &path).json();
    assert_eq!((names(&list), version(&list)), (vec!["a"], then));
    let newer = get(listener.address(), &format!("/api/v1/pods?resourceVersion={then}")).json();
    assert_eq!(names(&newer), ["a", "b"], "not older than");
    server.restart();
    let refused = get(listener.address(), &path);
    assert_eq!(refused.status, 410);
    assert_eq!(refused.json()["message"], "The resourceVersion for the provided list is too old.");
}

#[test]
fn a_version_that_the_server_has_not_reached_times_out() {
    let (server, listener) = listening();
    let now = version(&server.put(pod("a", "n1")));
    let refused = get(listener.address(), &format!("/api/v1/pods?resourceVersion={}", now + 5));
    assert_eq!(refused.status, 504);
    assert_eq!(refused.header("retry-after"), Some("1"));
    let expected = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("Timeout: Too large resource version: {}, current: {now}", now + 5), "reason": "Timeout",
        "details": {"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1},
        "code": 504});
    assert_eq!(refused.json(), expected);
}

#[test]
fn parameters_that_do_not_go_together_are_invalid() {
    let (_server, listener) = listening();
    let cases = [
        (
            "resourceVersionMatch=Exact",
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        ("resourceVersionMatch=Exact&resourceVersion=0", "is forbidden for resourceVersion \"0\""),
        ("resourceVersionMatch=Any&resourceVersion=1", "Unsupported value: \"Any\""),
        ("sendInitialEvents=true", "sendInitialEvents is forbidden for list"),
    ];
    for (query, text) in cases {
        let refused = get(listener.address(), &format!("/api/v1/pods?{query}"));
        let status = refused.json();
        assert_eq!((refused.status, &status["reason"]), (422, &json!("Invalid")), "{query}");
        let message = status["message"].as_str().expect("a message");
        assert!(message.starts_with("ListOptions.meta.k8s.io \"\" is invalid: "), "{message}");
        assert!(message.contains(text), "{message}");
    }
    for query in ["continue=x", "limit=x", "resourceVersion=x", "labelSelector=a%20b"] {
        assert_eq!(get(listener.address(), &format!("/api/v1/pods?{query}")).status, 400, "{query}");
    }
}

#[test]
fn what_is_not_there_is_told_in_two_ways() {
    let (_server, listener) = listening();
    let object = get(listener.address(), "/api/v1/namespaces/default/pods/web");
    assert_eq!((object.status, object.json()["message"].as_str()), (404, Some("pods \"web\" not found")));
    for path in
        ["/api/v1/things", "/apis/example.org/v1/things", "/api/v1/pods/web", "/api/v1/namespaces/a/nodes"]
    {
        let path_of_nothing = get(listener.address(), path);
        assert_eq!(
            (path_of_nothing.status, path_of_nothing.body.as_str()),
            (404, "404 page not found\n"),
            "{path}"
        );
    }
}

#[test]
fn metadata_alone_is_shown_to_who_asks_for_it() {
    let (server, listener) = listening();
    server.put(pod("web", "n1"));
    let accept = "Accept: application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1\r\n";
    let list = get_with(listener.address(), "/api/v1/pods", accept).json();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0]["kind"], "PartialObjectMetadata");
    assert_eq!(list["items"][0]["metadata"]["labels"]["app"], "web");
    assert_eq!(list["items"][0].get("spec"), None);
}

#[test]
fn long_lists_come_in_pieces_and_are_whole() {
    let (server, listener) = listening();
    for number in 0..3000 {
        server.put(pod(&format!("pod-{number:04}"), "n1"));
    }
    let answer = get(listener.address(), "/api/v1/pods");
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    assert!(answer.body.len() > 500_000);
    let list = answer.json();
    let expected: Vec<String> = (0..3000).map(|number| format!("pod-{number:04}")).collect();
    assert_eq!(names(&list), expected);
}

#[test]
fn a_server_that_is_behind_lists_an_older_state_with_its_older_version() {
    let (server, listener) = listening();
    server.put(pod("a", "n1"));
    let mark = server.mark();
    let now = version(&server.put(pod("b", "n1")));
    server.delete("v1", "Pod", "default", "a");
    server.faults().set(Fault::StaleLists(mark.clone()));
    for query in ["", "?resourceVersion=0"] {
        let list = get(listener.address(), &format!("/api/v1/pods{query}")).json();
        assert_eq!((names(&list), version(&list)), (vec!["a"], mark.version()));
    }
    let refused = get(listener.address(), &format!("/api/v1/pods?resourceVersion={now}"));
    assert_eq!(refused.status, 504);
    server.faults().clear();
    assert_eq!(names(&get(listener.address(), "/api/v1/pods").json()), ["b"]);
}

#[test]
fn refusals_are_worded_as_the_real_server_words_them() {
    let (server, listener) = listening();
    let address = listener.address();
    server.faults().set(Fault::Refuse { verb: "list", resource: "pods" });
    server.faults().set(Fault::Refuse { verb: "*", resource: "networkpolicies" });
    let as_cambric = |path: &str| get_with(address, path, "Authorization: Bearer cambric\r\n");
    let refused = as_cambric("/api/v1/pods");
    let expected = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "pods is forbidden: User \"cambric\" cannot list resource \"pods\" in API group \"\" at the cluster scope",
        "reason": "Forbidden", "details": {"kind": "pods"}, "code": 403});
    assert_eq!((refused.status, refused.json()), (403, expected));
    let refused = as_cambric("/apis/networking.k8s.io/v1/namespaces/a/networkpolicies/x").json();
    assert_eq!(
        refused["message"],
        "networkpolicies.networking.k8s.io \"x\" is forbidden: User \"cambric\" cannot get resource \
         \"networkpolicies\" in API group \"networking.k8s.io\" in the namespace \"a\""
    );
    assert_eq!(as_cambric("/api/v1/nodes").status, 200, "everything else goes on");
    server.faults().clear();
    assert_eq!(as_cambric("/api/v1/pods").status, 200);

    assert_eq!(get_with(address, "/api/v1/pods", "Authorization: Bearer stranger\r\n").status, 401);
    server.faults().set(Fault::Unauthorized);
    let refused = as_cambric("/api/v1/pods").json();
    let expected = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "Unauthorized", "reason": "Unauthorized", "code": 401});
    assert_eq!(refused, expected);
    server.faults().clear();

    server.faults().set(Fault::Throttle { retry_after: Duration::from_millis(1500) });
    let throttled = as_cambric("/api/v1/pods");
    assert_eq!((throttled.status, throttled.header("retry-after")), (429, Some("2")));
    assert_eq!(throttled.body, "Too many requests, please try again later.\n");
    server.faults().clear();

    server.faults().set(Fault::ServerError);
    let failed = as_cambric("/api/v1/pods");
    assert_eq!((failed.status, failed.json()["reason"].as_str()), (500, Some("InternalError")));
    server.faults().clear();

    server.faults().set(Fault::Latency(Duration::from_millis(400)));
    let start = std::time::Instant::now();
    assert_eq!(as_cambric("/api/v1/pods").status, 200);
    assert!(start.elapsed() >= Duration::from_millis(400));
}

#[test]
fn requests_are_counted_with_who_asked_and_what_came_of_it() {
    let (server, listener) = listening();
    get(listener.address(), "/api/v1/namespaces/default/pods?limit=5");
    get_with(listener.address(), "/api/v1/nodes/n1/status", "Authorization: Bearer cambric\r\n");
    let requests = server.requests();
    let told: Vec<String> = requests
        .iter()
        .map(|r| {
            format!(
                "{} {}/{}/{} {}/{} ?{} {} {} {}",
                r.verb,
                r.group,
                r.resource,
                r.subresource,
                r.namespace,
                r.name,
                r.query,
                r.user,
                r.user_agent,
                r.status
            )
        })
        .collect();
    let expected =
        ["list /pods/ default/ ?limit=5 kubernetes-admin raw 200", "get /nodes/status /n1 ? cambric raw 404"];
    assert_eq!(told, expected);
    server.forget_requests();
    assert_eq!(server.requests(), []);
}
