//! Many objects: the double serves them from octets that it keeps once. With 100 000 pods of 1 kB and without optimization
//! this held 126 MiB, put one in 0.5 ms, and listed all in 0.7 s; the bench has figures with it.

mod raw;

use std::time::Instant;

use raw::{End, Line, Piece, Stream, get, listening, version};
use serde_json::{Value, json};

const PODS: usize = 10_000;

/// Like what a Deployment makes: 1 kB.
fn pod(number: usize) -> Value {
    let name = format!("web-{number:06}");
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": format!("ns-{}", number % 100), "uid": name,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": "web", "tier": format!("t{}", number % 7), "pod-template-hash": "5d9c7b8f6d"},
            "annotations": {"checksum/config": "x".repeat(64)},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d9c7b8f6d", "uid": "u"}]},
        "spec": {"nodeName": format!("node-{}", number % 5000), "serviceAccountName": "default",
            "containers": [{"name": "web", "image": "registry.example.org/web:1.2.3",
                "ports": [{"containerPort": 8080, "name": "http", "protocol": "TCP"}],
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
                "volumeMounts": [{"mountPath": "/var/run/secrets", "name": "token", "readOnly": true}]}],
            "tolerations": [{"effect": "NoExecute", "key": "node.kubernetes.io/not-ready", "operator": "Exists"}]},
        "status": {"phase": "Running", "podIP": format!("10.{}.{}.{}", number >> 16, (number >> 8) & 255, number & 255),
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}]}})
}

/// Resident memory of this process, in MiB.
fn resident_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it is told");
    let number = line.split_whitespace().nth(1).expect("a number");
    number.parse::<usize>().expect("a number") / 1024
}

#[test]
fn many_pods_are_listed_whole_in_pages_and_as_a_stream() {
    let (server, listener) = listening();
    let address = listener.address();
    let clock = Instant::now();
    let before = resident_mib();
    for number in 0..PODS {
        server.put(pod(number));
    }
    println!("{PODS} pods put in {:?}, {} MiB", clock.elapsed(), resident_mib() - before);

    let clock = Instant::now();
    let mut list = Stream::open(address, "/api/v1/pods", "");
    let mut octets = 0;
    let end = loop {
        match list.piece(std::time::Duration::from_secs(60)) {
            Piece::Octets(piece) => octets += piece.len(),
            Piece::End(end) => break end,
            Piece::Nothing => panic!("it stops"),
        }
    };
    assert_eq!(end, End::Whole);
    let (grown, whole) = (resident_mib() - before, octets / (1 << 20));
    println!("listed: {whole} MiB in {:?}, {grown} MiB more", clock.elapsed());
    assert!(grown <= 2 * whole + 16, "kept once, and never put together: {grown} MiB for {whole}");

    let clock = Instant::now();
    let (mut token, mut pages, mut items) = (String::new(), 0, 0);
    loop {
        // Changes go on meanwhile.
        server.put(pod(pages));
        let page = get(address, &format!("/api/v1/pods?limit=500&continue={token}")).json();
        pages += 1;
        items += page["items"].as_array().map_or(0, Vec::len);
        match page["metadata"]["continue"].as_str() {
            Some(next) => next.clone_into(&mut token),
            None => break,
        }
    }
    assert_eq!((items, pages), (PODS, PODS / 500));
    println!("listed in {pages} pages in {:?}", clock.elapsed());

    let clock = Instant::now();
    let path =
        "/api/v1/pods?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1";
    let mut watch = Stream::watch(address, path);
    let mut seen = 0;
    let version_then = loop {
        match watch.line() {
            Line::Event(event) if event["type"] == "BOOKMARK" => break version(&event["object"]),
            Line::Event(_) => seen += 1,
            other => panic!("no event but {other:?}"),
        }
    };
    assert_eq!((seen, version_then), (PODS, server.version()));
    println!("streamed in {:?}", clock.elapsed());

    let clock = Instant::now();
    for number in 0..1000 {
        let changed = version(&server.put(pod(number)));
        let Line::Event(event) = watch.line() else { panic!("no event") };
        assert_eq!(version(&event["object"]), changed);
    }
    println!("1000 changes, each seen before the next, in {:?}", clock.elapsed());
}
