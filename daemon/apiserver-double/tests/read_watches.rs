//! Watches as a real kube-apiserver serves them, octet by octet, and as they fail.

mod raw;

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;

use cambric_apiserver_double::{Fault, StreamingLists};
use raw::{End, Line, Piece, Stream, get, listening, pod, version};
use serde_json::json;

#[test]
fn changes_after_a_version_are_told_as_they_come() {
    let (server, listener) = listening();
    let first = version(&server.put(pod("a", "n1")));
    let mut watch =
        Stream::watch(listener.address(), &format!("/api/v1/pods?watch=1&resourceVersion={first}"));
    server.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}));
    server.put(pod("b", "n1"));
    server.put(pod("a", "n2"));
    server.delete("v1", "Pod", "default", "b");
    let expected = [
        format!("ADDED b {}", first + 2),
        format!("MODIFIED a {}", first + 3),
        format!("DELETED b {}", first + 4),
    ];
    assert_eq!([watch.told(), watch.told(), watch.told()], expected);
}

#[test]
fn an_event_is_one_line_with_type_and_whole_object() {
    let (server, listener) = listening();
    let start = server.version();
    let mut watch =
        Stream::watch(listener.address(), &format!("/api/v1/nodes?watch=true&resourceVersion={start}"));
    server.put(json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "n1", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}}));
    let Piece::Octets(octets) = watch.piece(Duration::from_secs(30)) else { panic!("no event") };
    let event = String::from_utf8(octets).expect("text");
    let expected = "{\"type\":\"ADDED\",\"object\":{\"kind\":\"Node\",\"apiVersion\":\"v1\",\"metadata\":{";
    assert!(event.starts_with(expected), "{event}");
    assert!(event.ends_with("}}\n"), "{event}");
}

#[test]
fn from_no_version_and_from_0_the_state_comes_first() {
    let (server, listener) = listening();
    let a = version(&server.put(pod("a", "n1")));
    let b = version(&server.put(pod("b", "n1")));
    for query in ["", "&resourceVersion=0", "&resourceVersion="] {
        let mut watch = Stream::watch(listener.address(), &format!("/api/v1/pods?watch=1{query}"));
        assert_eq!([watch.told(), watch.told()], [format!("ADDED a {a}"), format!("ADDED b {b}")]);
    }
    let path =
        "/api/v1/pods?watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion=";
    let mut watch = Stream::watch(listener.address(), path);
    let c = version(&server.put(pod("c", "n1")));
    assert_eq!(watch.told(), format!("ADDED c {c}"), "the state was not asked for");
}

#[test]
fn a_version_in_the_history_is_replayed_and_a_forgotten_one_is_an_error_inside_a_200() {
    let (server, listener) = listening();
    let first = version(&server.put(pod("a", "n1")));
    server.put(pod("b", "n1"));
    let path = format!("/api/v1/pods?watch=1&resourceVersion={first}");
    assert_eq!(Stream::watch(listener.address(), &path).told(), format!("ADDED b {}", first + 1));
    server.restart();
    let mut watch = Stream::watch(listener.address(), &path);
    let message = format!("too old resource version: {first} ({})", first + 1);
    let expected = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "metadata": {},
        "status": "Failure", "message": message, "reason": "Expired", "code": 410}});
    assert_eq!(watch.line(), Line::Event(expected));
    assert_eq!(watch.line(), Line::End(End::Whole, String::new()));
    let current = format!("/api/v1/pods?watch=1&resourceVersion={}", first + 1);
    let mut watch = Stream::watch(listener.address(), &current);
    server.put(pod("c", "n1"));
    assert_eq!(watch.told(), format!("ADDED c {}", first + 2), "the version of the restart is known");
}

#[test]
fn a_bounded_history_forgets_its_oldest_changes() {
    let (server, listener) = listening();
    server.set_history(3);
    let first = version(&server.put(pod("a", "n1")));
    for node in ["n2", "n3", "n4"] {
        server.put(pod("a", node));
    }
    let from = |version: u64| {
        let path = format!("/api/v1/pods?watch=1&resourceVersion={version}");
        Stream::watch(listener.address(), &path).told()
    };
    assert_eq!(from(first), format!("MODIFIED a {}", first + 1));
    server.put(pod("a", "n5"));
    assert!(from(first).starts_with("ERROR"));
    assert_eq!(from(first + 1), format!("MODIFIED a {}", first + 2));
}

#[test]
fn expiry_is_told_in_the_stream_or_outright_as_it_is_set() {
    let (server, listener) = listening();
    let path = format!("/api/v1/pods?watch=1&resourceVersion={}", server.version());
    server.faults().set(Fault::Expired { resource: "pods" });
    let Line::Event(event) = Stream::watch(listener.address(), &path).line() else { panic!("no event") };
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(event["object"]["reason"], "Expired");
    let nodes = format!("/api/v1/nodes?watch=1&timeoutSeconds=1&resourceVersion={}", server.version());
    assert_eq!(Stream::watch(listener.address(), &nodes).line(), Line::End(End::Whole, String::new()));
    server.faults().clear();
    server.faults().set(Fault::ExpiredOutright { resource: "*" });
    let refused = get(listener.address(), &path);
    assert_eq!((refused.status, refused.json()["reason"].as_str()), (410, Some("Expired")));
}

#[test]
fn selectors_make_objects_come_and_go() {
    let (server, listener) = listening();
    let elsewhere = server.put(pod("web", "n2"));
    let path = "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dn1&resourceVersion=";
    let mut watch = Stream::watch(listener.address(), &format!("{path}{}", version(&elsewhere)));
    let first = version(&elsewhere);
    server.put(pod("web", "n1"));
    server.put(pod("other", "n2"));
    let mut running = pod("web", "n1");
    running["status"]["podIP"] = json!("10.0.0.1");
    server.put(running);
    server.put(pod("web", "n2"));
    server.delete("v1", "Pod", "default", "web");
    server.put(pod("last", "n1"));
    assert_eq!(watch.told(), format!("ADDED web {}", first + 1));
    assert_eq!(watch.told(), format!("MODIFIED web {}", first + 3));
    let Line::Event(gone) = watch.line() else { panic!("no event") };
    assert_eq!(raw::told(&gone), format!("DELETED web {}", first + 4));
    assert_eq!(gone["object"]["status"]["podIP"], "10.0.0.1", "as it was last seen");
    assert_eq!(watch.told(), format!("ADDED last {}", first + 6));

    let mut other = Stream::watch(
        listener.address(),
        &format!("/api/v1/namespaces/kube-system/pods?watch=1&resourceVersion={first}"),
    );
    assert!(other.is_silent(), "another namespace");
}

#[test]
fn bookmarks_come_to_who_allows_them_and_tell_the_version_of_all() {
    let (server, listener) = listening();
    server.set_bookmark_interval(Duration::from_millis(50));
    let start = server.version();
    let path = format!("/api/v1/pods?watch=1&resourceVersion={start}");
    let mut watch = Stream::watch(listener.address(), &format!("{path}&allowWatchBookmarks=true"));
    let mut without = Stream::watch(listener.address(), &path);
    assert!(watch.is_silent(), "nothing is newer than what the client knows");
    server.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}));
    let Line::Event(bookmark) = watch.line() else { panic!("no bookmark") };
    let expected = json!({"type": "BOOKMARK", "object": {"kind": "Pod", "apiVersion": "v1",
        "metadata": {"resourceVersion": (start + 1).to_string(), "creationTimestamp": null},
        "spec": {"containers": null}, "status": {}}});
    assert_eq!(bookmark, expected);
    assert_eq!(watch.told(), format!("BOOKMARK - {}", start + 1), "they go on");
    assert!(without.is_silent());
}

#[test]
fn a_watch_ends_when_its_time_is_up_with_a_last_bookmark_before() {
    let (server, listener) = listening();
    let start = server.version();
    server.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}));
    let path = "/api/v1/pods?watch=1&allowWatchBookmarks=1&timeoutSeconds=3&resourceVersion=";
    let mut watch = Stream::watch(listener.address(), &format!("{path}{start}"));
    assert_eq!(watch.told(), format!("BOOKMARK - {}", start + 1));
    assert_eq!(watch.line(), Line::End(End::Whole, String::new()));
}

const STREAMING: &str = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";

#[test]
fn a_streaming_list_ends_with_an_annotated_bookmark_and_goes_on_as_a_watch() {
    let (server, listener) = listening();
    server.install(raw::THINGS);
    let a = server.put(json!({"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": "a"}}));
    let now = version(&server.put(pod("web", "n1")));
    let mut watch =
        Stream::watch(listener.address(), &format!("/apis/example.org/v1/things?watch=1&{STREAMING}"));
    assert_eq!(watch.told(), format!("ADDED a {}", version(&a)));
    let expected = json!({"type": "BOOKMARK", "object": {"kind": "Thing", "apiVersion": "example.org/v1",
        "metadata": {"resourceVersion": now.to_string(), "creationTimestamp": null,
            "annotations": {"k8s.io/initial-events-end": "true"}}}});
    assert_eq!(watch.line(), Line::Event(expected));
    server.delete("example.org/v1", "Thing", "", "a");
    assert_eq!(watch.told(), format!("DELETED a {}", now + 1));

    let mut empty = Stream::watch(listener.address(), &format!("/api/v1/nodes?watch=1&{STREAMING}"));
    assert!(empty.told().starts_with("BOOKMARK"), "nothing is there, and that is told");
    let future = format!("/api/v1/nodes?watch=1&{STREAMING}&resourceVersion={}", now + 100);
    let Line::Event(event) = Stream::watch(listener.address(), &future).line() else { panic!("no event") };
    assert_eq!((&event["type"], &event["object"]["reason"]), (&json!("ERROR"), &json!("Timeout")));
}

#[test]
fn servers_that_cannot_stream_lists_say_so_in_three_ways() {
    let (server, listener) = listening();
    let path = format!("/api/v1/pods?watch=1&{STREAMING}");
    server.faults().set(Fault::StreamingLists(StreamingLists::RefusedInStream));
    let mut watch = Stream::watch(listener.address(), &path);
    let expected = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "metadata": {},
        "status": "Failure", "message": "a watch stream was requested by the client but the required storage feature \
            RequestWatchProgress is disabled", "reason": "InternalError", "code": 500}});
    assert_eq!(watch.line(), Line::Event(expected));
    assert_eq!(watch.line(), Line::End(End::Whole, String::new()));

    let refusals = [
        (
            StreamingLists::Refused,
            "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for \
             watch unless the WatchList feature gate is enabled",
        ),
        (
            StreamingLists::Unknown,
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden \
             for watch",
        ),
    ];
    for (way, message) in refusals {
        server.faults().set(Fault::StreamingLists(way));
        let refused = get(listener.address(), &path);
        let status = refused.json();
        assert_eq!((refused.status, &status["reason"]), (422, &json!("Invalid")));
        assert_eq!(status["message"], message);
    }
    server.faults().clear();
    assert!(Stream::watch(listener.address(), &path).told().starts_with("BOOKMARK"));
}

#[test]
fn a_restart_cuts_watches_in_the_middle() {
    let (server, listener) = listening();
    let mut watch = Stream::watch(listener.address(), "/api/v1/pods?watch=1&resourceVersion=0");
    server.put(pod("a", "n1"));
    assert!(watch.told().starts_with("ADDED a"));
    server.restart();
    assert_eq!(watch.line(), Line::End(End::Cut, String::new()));
    assert_eq!(get(listener.address(), "/api/v1/pods").status, 200, "it is there again");
}

#[test]
fn away_connections_are_cut_and_refused_until_it_is_back_at_the_same_port() {
    let (server, listener) = listening();
    let address = listener.address();
    for _ in 0..3 {
        let mut watch = Stream::watch(address, "/api/v1/pods?watch=1&resourceVersion=0");
        server.away();
        assert_eq!(watch.line(), Line::End(End::Cut, String::new()));
        for _ in 0..3 {
            let refused = TcpStream::connect(address).expect_err("nobody listens");
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        }
        server.back();
        assert_eq!(get(address, "/api/v1/pods").status, 200);
    }
    let resumed = server.version();
    server.away();
    server.put(pod("a", "n1"));
    server.away();
    server.back();
    server.back();
    let mut watch = Stream::watch(address, &format!("/api/v1/pods?watch=1&resourceVersion={resumed}"));
    assert_eq!(watch.told(), format!("ADDED a {}", resumed + 1), "what happened meanwhile is replayed");
}

#[test]
fn a_server_that_is_away_for_an_instant_is_there_again_each_time() {
    let (server, listener) = listening();
    for _ in 0..300 {
        server.away();
        server.back();
        assert_eq!(get(listener.address(), "/healthz").body, "ok");
    }
}

#[test]
fn a_server_that_restarts_while_it_is_away_stays_away() {
    let (server, listener) = listening();
    server.away();
    server.restart();
    server.rewind(&server.mark());
    assert!(TcpStream::connect(listener.address()).is_err());
    server.back();
    assert_eq!(get(listener.address(), "/api/v1/pods").status, 200);
}

#[test]
fn a_listener_that_is_dropped_cuts_and_leaves_its_port() {
    let (_server, listener) = listening();
    let address = listener.address();
    let mut watch = Stream::watch(address, "/api/v1/pods?watch=1&resourceVersion=0");
    drop(listener);
    assert_eq!(watch.line(), Line::End(End::Cut, String::new()));
    assert_eq!(TcpStream::connect(address).expect_err("closed").kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_torn_watch_ends_in_the_middle_of_an_event() {
    let (server, listener) = listening();
    let path = "/api/v1/pods?watch=1&resourceVersion=0";
    let mut open = Stream::watch(listener.address(), path);
    server.put(pod("a", "n1"));
    assert!(open.told().starts_with("ADDED a"));
    server.faults().set(Fault::TornWatch { after_octets: 100 });
    server.put(pod("b", "n1"));
    let is_torn = |line: Line| match line {
        Line::End(End::Cut, rest) => {
            assert_eq!(rest.len(), 100);
            assert!(rest.starts_with("{\"type\":\"ADDED\",\"object\":{\"kind\":\"Pod\""), "{rest}");
        }
        other => panic!("it is not torn but {other:?}"),
    };
    is_torn(open.line());
    is_torn(Stream::watch(listener.address(), path).line());
    server.faults().clear();
    assert!(Stream::watch(listener.address(), path).told().starts_with("ADDED a"));
}

#[test]
fn watches_that_hang_stay_dead_and_new_ones_work() {
    let (server, listener) = listening();
    server.set_bookmark_interval(Duration::from_millis(20));
    let path = "/api/v1/pods?watch=1&allowWatchBookmarks=1&resourceVersion=0";
    let mut before = Stream::watch(listener.address(), path);
    server.faults().set(Fault::HangingWatch);
    let mut during = Stream::watch(listener.address(), path);
    server.put(pod("a", "n1"));
    assert!(before.is_silent() && during.is_silent());
    server.faults().clear();
    assert!(Stream::watch(listener.address(), path).told().starts_with("ADDED a"));
    assert!(before.is_silent() && during.is_silent());
}

#[test]
fn a_watch_at_a_server_that_is_behind_catches_up_when_it_does() {
    let (server, listener) = listening();
    server.put(pod("a", "n1"));
    let mark = server.mark();
    server.faults().set(Fault::StaleLists(mark.clone()));
    let path = format!("/api/v1/pods?watch=1&resourceVersion={}", mark.version());
    let mut watch = Stream::watch(listener.address(), &path);
    server.put(pod("b", "n1"));
    assert!(watch.is_silent());
    server.faults().clear();
    assert_eq!(watch.told(), format!("ADDED b {}", mark.version() + 1));
}

#[test]
fn after_a_restored_backup_versions_are_used_again_and_newer_watches_hear_nothing() {
    let (server, listener) = listening();
    server.put(pod("a", "n1"));
    let mark = server.mark();
    let lost = version(&server.put(pod("lost", "n1")));
    server.rewind(&mark);
    let list = get(listener.address(), "/api/v1/pods").json();
    assert_eq!((list["items"].as_array().map(Vec::len), version(&list)), (Some(1), mark.version()));
    let mut watch =
        Stream::watch(listener.address(), &format!("/api/v1/pods?watch=1&resourceVersion={lost}"));
    assert_eq!(version(&server.put(pod("b", "n1"))), lost, "the same version for another change");
    assert!(watch.is_silent(), "the client believes to know it");
    server.put(pod("c", "n1"));
    assert_eq!(watch.told(), format!("ADDED c {}", lost + 1));
    let mut old = Stream::watch(listener.address(), "/api/v1/pods?watch=1&resourceVersion=1");
    assert!(old.told().starts_with("ERROR"), "what was before the backup is forgotten");
}

#[test]
fn a_replaced_server_is_another_cluster() {
    let (server, listener) = listening();
    server.install(raw::THINGS);
    let uid = || {
        server.get("v1", "Namespace", "", "kube-system").expect("it is always there")["metadata"]["uid"]
            .clone()
    };
    let before = uid();
    let mut watch = Stream::watch(listener.address(), "/apis/example.org/v1/things?watch=1");
    server.replace();
    assert_eq!(watch.line(), Line::End(End::Cut, String::new()));
    assert_ne!(uid(), before);
    assert_eq!(get(listener.address(), "/apis/example.org/v1/things").status, 404);
    assert!(server.version() < 10);
}

#[test]
fn a_removed_definition_ends_the_watches_of_its_objects() {
    let (server, listener) = listening();
    server.install(raw::THINGS);
    server.put(json!({"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": "a"}}));
    let mut watch = Stream::watch(listener.address(), "/apis/example.org/v1/things?watch=1");
    assert!(watch.told().starts_with("ADDED a"));
    server.delete("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "things.example.org");
    assert!(watch.told().starts_with("DELETED a"));
    assert_eq!(watch.line(), Line::End(End::Whole, String::new()));
    assert_eq!(get(listener.address(), "/apis/example.org/v1/things").status, 404);
}

#[test]
fn a_reader_that_is_too_slow_is_cut_and_misses_nothing_before_that() {
    let (server, listener) = listening();
    server.set_history(50);
    let start = server.version();
    let mut watch =
        Stream::watch(listener.address(), &format!("/api/v1/pods?watch=1&resourceVersion={start}"));
    // More than the buffers of both sockets and of the server take.
    let ballast = "x".repeat(200_000);
    for _ in 0..200 {
        let mut heavy = pod("heavy", "n1");
        heavy["metadata"]["annotations"] = json!({"ballast": ballast});
        server.put(heavy);
    }
    let mut seen = 0;
    loop {
        match watch.line() {
            Line::Event(event) => {
                seen += 1;
                assert_eq!(version(&event["object"]), start + seen, "in order, without a gap");
            }
            Line::End(end, rest) => {
                assert_eq!((end, rest.as_str()), (End::Whole, ""));
                break;
            }
            Line::Nothing => panic!("it is not cut"),
        }
    }
    assert!(seen < 200, "the history was shorter than what it missed");
}
