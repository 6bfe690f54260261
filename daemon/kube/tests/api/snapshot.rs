//! A daemon that is started while the server is away works from what the last one knew.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use cambric_apiserver_double::ApiServer;
use cambric_kube::{KindState, Kube, Settings};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);

/// All was followed and written down.
async fn followed_once(server: &ApiServer, state: &TempDir) {
    let mut follows = follow(server, state);
    follows.until_watching().await;
    sleep(5 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_start_while_the_server_is_away_knows_all_at_once() {
    let (server, state) = (server(), state_dir());
    let mut follows = follow(&server, &state);
    follows.until_watching().await;
    server.put(pod("three", "10.244.1.3"));
    remove_pod(&server, "one");
    follows.until_pods(&["three", "two"]).await;
    sleep(SECOND).await;
    let before = follows.now();
    drop(follows);

    server.away();
    let mut follows = follow(&server, &state);
    let picture = follows.now();
    assert!(picture.is_complete);
    assert!(picture.pods == before.pods && picture.policies == before.policies);
    assert!(picture.namespaces == before.namespaces && picture.documents == before.documents);
    assert!(picture.health.kinds.values().all(|kind| kind.state == KindState::FromSnapshot));
    sleep(8 * 3600 * SECOND).await;
    assert_eq!(pods(&follows.now()), ["three", "two"]);
    assert!(follows.now().is_complete);

    remove_pod(&server, "two");
    server.forget_requests();
    server.back();
    follows.until_watching().await;
    assert_eq!(pods(&follows.now()), ["three"], "what went meanwhile is gone");
    assert!(lists(&server).values().all(|count| *count == 1), "{:?}", lists(&server));
    let folder = state.path().join("cluster");
    for kind in KINDS {
        let mode =
            fs::metadata(folder.join(format!("{kind}.jsonl"))).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn that_a_definition_was_never_installed_is_known_to_the_next_run() {
    let (server, state) = (ApiServer::new(), state_dir());
    let mut follows = follow(&server, &state);
    follows.until("it is complete", |picture| picture.is_complete).await;
    sleep(5 * SECOND).await;
    drop(follows);
    server.away();
    let mut follows = follow(&server, &state);
    assert!(follows.now().is_complete, "{:#?}", follows.now().health);
    server.back();
    install_kinds(&server);
    follows.until_watching().await;
}

/// A full mesh needs none of our definitions.
#[tokio::test(start_paused = true)]
async fn a_definition_that_was_never_installed_is_of_the_cluster_that_counts_now() {
    let (server, state) = (ApiServer::new(), state_dir());
    server.put(pod("one", "10.244.1.1"));
    let mut follows = follow(&server, &state);
    follows.until("it is complete", |picture| picture.is_complete).await;
    sleep(5 * SECOND).await;
    server.replace();
    server.put(pod("other", "10.244.1.7"));
    follows.until_pods(&["other"]).await;
    // Kinds that are missing are asked for every minute at the latest.
    sleep(120 * SECOND).await;
    drop(follows);
    server.away();
    let picture = follow(&server, &state).now();
    assert!(picture.is_complete, "{:#?}", picture.health);
    assert_eq!((pods(&picture), &picture.health.journal), (vec!["other".to_owned()], &Vec::new()));
}

/// Who saw it in a picture, as a plugin whose pod was let through, counts on it.
#[tokio::test(start_paused = true)]
async fn what_a_picture_shows_is_known_after_a_kill_right_then() {
    let (server, state) = (server(), state_dir());
    let mut follows = follow(&server, &state);
    follows.until_watching().await;
    let mut wanted = BTreeSet::from(["one", "two"]);
    for name in ["u", "v", "w", "x", "y"] {
        server.put(pod(name, "10.244.1.3"));
        wanted.insert(name);
        follows.until_pods(&wanted.iter().copied().collect::<Vec<_>>()).await;
        let at_kill = state_dir();
        fs::create_dir(at_kill.path().join("cluster")).expect("own folder");
        for file in fs::read_dir(state.path().join("cluster")).expect("it is there") {
            let file = file.expect("it can be listed");
            fs::copy(file.path(), at_kill.path().join("cluster").join(file.file_name())).expect("room");
        }
        let away = ApiServer::new();
        away.away();
        let restarted = follow(&away, &at_kill).now();
        assert!(restarted.is_complete && restarted.pods == follows.now().pods, "{:?}", pods(&restarted));
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_with_an_older_server_removes_nothing() {
    let (server, state) = (server(), state_dir());
    let mark = server.mark();
    server.put(pod("three", "10.244.1.3"));
    followed_once(&server, &state).await;
    server.rewind(&mark);
    let mut follows = follow(&server, &state);
    let older =
        |picture: &cambric_kube::Picture| matches!(picture.health.kinds["Pod"].state, KindState::Older(_));
    let picture = follows.until("it is an alarm", older).await;
    assert_eq!(pods(&picture), ["one", "three", "two"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_with_another_cluster_waits_a_minute() {
    let (server, state) = (server(), state_dir());
    followed_once(&server, &state).await;
    server.replace();
    install_kinds(&server);
    let mut follows = follow(&server, &state);
    sleep(30 * SECOND).await;
    assert_eq!(pods(&follows.now()), ["one", "two"]);
    follows.until_pods(&[]).await;
    follows.until_watching().await;
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_of_another_node_is_not_used_and_says_so() {
    let (server, state) = (server(), state_dir());
    followed_once(&server, &state).await;
    server.away();
    let other = Settings { node: "n2".to_owned(), ..settings(&state) };
    let follows = follow_by(Kube::with_client(server.client(), other));
    let picture = follows.now();
    assert!(!picture.is_complete && picture.pods.is_empty());
    assert_eq!(picture.health.journal.len(), KINDS.len());
    assert!(picture.health.journal[0].contains("node n1"), "{}", picture.health.journal[0]);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_cannot_be_written_is_told_and_nothing_else_suffers() {
    let (server, state) = (server(), state_dir());
    // A file in the place of the folder.
    fs::write(state.path().join("cluster"), "").expect("own folder");
    let mut follows = follow(&server, &state);
    follows.until_watching().await;
    let told = |picture: &cambric_kube::Picture| {
        picture.health.journal.iter().any(|what| what.contains("Pod.jsonl: cannot be written"))
    };
    follows.until("it is told", told).await;
    server.put(pod("three", "10.244.1.3"));
    follows.until_pods(&["one", "three", "two"]).await;
    fs::remove_file(state.path().join("cluster")).expect("own folder");
    follows.until("it is mended", |picture| picture.health.journal.is_empty()).await;
    drop(follows);
    server.away();
    assert_eq!(pods(&follow(&server, &state).now()), ["one", "three", "two"]);
}
