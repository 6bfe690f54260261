//! What goes wrong with a server and its connections, and what stays known meanwhile. Time is virtual.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cambric_apiserver_double::{ApiServer, Fault, StreamingLists};
use cambric_kube::{KindState, Kube, Picture};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::json;
use tokio::time::{Instant, sleep};
use tower::ServiceExt;

use crate::support::*;

type Request = http::Request<Body>;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// All is followed, and nothing was asked yet.
async fn followed(server: &ApiServer, state: &tempfile::TempDir) -> Follows {
    let mut follows = follow(server, state);
    follows.until_watching().await;
    server.forget_requests();
    follows
}

/// A heartbeat of some node: what moves versions on in any cluster.
fn beat(server: &ApiServer) {
    let mut node = server.get("v1", "Node", "", "n1").expect("it is there");
    let beat =
        node["metadata"]["annotations"]["beat"].as_str().unwrap_or("0").parse::<u32>().expect("a number") + 1;
    node["metadata"]["annotations"] = json!({"beat": beat.to_string()});
    server.put(node);
}

fn is_older(picture: &Picture, kind: &str) -> bool {
    matches!(picture.health.kinds[kind].state, KindState::Older(_))
}

fn is_told_to_be_another(picture: &Picture) -> bool {
    picture.health.trouble.as_ref().is_some_and(|trouble| trouble.what.contains("is another cluster"))
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_for_eight_hours_costs_little_and_nothing_is_lost() {
    let (server, state) = (server(), state_dir());
    let (mut follows, count) = follow_counted(&server, &state);
    follows.until_watching().await;
    server.away();
    count.store(0, Ordering::Relaxed);
    let picture = follows.until("it is told", |picture| picture.health.trouble.is_some()).await;
    assert!(picture.is_complete);
    sleep(8 * HOUR).await;
    for kind in KINDS {
        assert!(matches!(follows.state(kind), KindState::Away(_)), "{kind}: {:?}", follows.state(kind));
    }
    assert_eq!(
        (pods(&follows.now()), follows.now().policies.len()),
        (vec!["one".to_owned(), "two".to_owned()], 1)
    );
    let attempts = count.load(Ordering::Relaxed);
    // One about every 30 s, of all kinds together.
    assert!((900..1600).contains(&attempts), "{attempts} attempts");

    server.put(pod("three", "10.244.1.3"));
    server.forget_requests();
    server.back();
    let begun = Instant::now();
    follows.until_pods(&["one", "three", "two"]).await;
    follows.until_watching().await;
    assert!(begun.elapsed() < 35 * SECOND, "{:?}", begun.elapsed());
    assert_eq!(lists(&server), Default::default(), "it goes on where it was");
    assert_eq!(follows.now().health.trouble, None);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_with_faults_for_eight_hours_is_not_asked_without_end() {
    let (server, state) = (server(), state_dir());
    let mut follows = followed(&server, &state).await;
    server.faults().set(Fault::ServerError);
    server.restart();
    sleep(8 * HOUR).await;
    assert!(server.requests().len() < 1600, "{} requests", server.requests().len());
    assert_eq!(pods(&follows.now()), ["one", "two"]);
    server.faults().clear();
    let begun = Instant::now();
    follows.until_watching().await;
    assert!(begun.elapsed() < 40 * SECOND, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_forgot_what_happened_is_listed_once_a_kind() {
    let (server, state) = (server(), state_dir());
    let mut follows = followed(&server, &state).await;
    remove_pod(&server, "one");
    server.restart();
    follows.until_pods(&["two"]).await;
    follows.until_watching().await;
    sleep(HOUR).await;
    let lists = lists(&server);
    assert!(lists.values().all(|count| *count == 1), "{lists:?}");
}

#[tokio::test(start_paused = true)]
async fn watches_that_expire_again_and_again_are_answered_by_a_list_in_thirty_seconds_at_most() {
    for fault in [Fault::Expired { resource: "pods" }, Fault::ExpiredOutright { resource: "pods" }] {
        let (server, state) = (server(), state_dir());
        let mut follows = followed(&server, &state).await;
        server.faults().set(fault.clone());
        server.restart();
        sleep(HOUR).await;
        let count = lists(&server)["list pods"];
        assert!((1..=125).contains(&count), "{count} lists of pods in an hour: {fault:?}");
        assert_eq!(lists(&server).get("list nodes").copied().unwrap_or(1), 1);
        server.faults().clear();
        server.put(pod("three", "10.244.1.3"));
        follows.until_pods(&["one", "three", "two"]).await;
        follows.until_watching().await;
    }
}

#[tokio::test(start_paused = true)]
async fn torn_streams_go_on_from_the_last_version_without_a_list() {
    let (server, state) = (server(), state_dir());
    let mut follows = followed(&server, &state).await;
    server.faults().set(Fault::TornWatch { after_octets: 900 });
    for number in 0..60 {
        server.put(pod(&format!("p{number:02}"), "10.244.2.1"));
        sleep(SECOND).await;
    }
    follows.until("all came", |picture| picture.pods.len() == 62).await;
    assert_eq!(lists(&server), Default::default());
    assert!(counts(&server.requests())["watch pods"] > 20, "they were torn");
    server.faults().clear();
    follows.until_watching().await;
}

/// Nothing comes through: what is tried is tried ever more seldom.
#[tokio::test(start_paused = true)]
async fn streams_that_are_torn_before_the_first_event_are_asked_for_ever_more_seldom() {
    let (server, state) = (server(), state_dir());
    let follows = followed(&server, &state).await;
    server.faults().set(Fault::TornWatch { after_octets: 10 });
    server.put(pod("three", "10.244.1.3"));
    sleep(HOUR).await;
    assert!(matches!(follows.state("Pod"), KindState::Away(_)), "{:?}", follows.state("Pod"));
    let count = counts(&server.requests())["watch pods"];
    assert!(count < 200, "{count} watches");
    assert_eq!(lists(&server), Default::default());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_hangs_is_noticed_and_begun_anew() {
    let (server, state) = (server(), state_dir());
    let mut follows = followed(&server, &state).await;
    for (name, limit) in [("three", 7 * MINUTE), ("zero", 3 * MINUTE)] {
        server.faults().set(Fault::HangingWatch);
        server.put(pod(name, "10.244.1.3"));
        sleep(SECOND).await;
        server.faults().clear();
        let begun = Instant::now();
        let known = |picture: &Picture| pods(picture).iter().any(|pod| pod == name);
        follows.until("it is noticed", known).await;
        assert!(begun.elapsed() < limit, "{:?}", begun.elapsed());
        // One that has had bookmarks is missed earlier.
        server.put(pod("one", "10.244.1.9"));
        sleep(2 * MINUTE).await;
    }
    assert_eq!(lists(&server), Default::default());
}

#[tokio::test(start_paused = true)]
async fn a_throttled_client_waits_as_long_as_it_is_told() {
    let (server, state) = (server(), state_dir());
    server.faults().set(Fault::Throttle { retry_after: 30 * SECOND });
    let mut follows = follow(&server, &state);
    sleep(10 * MINUTE).await;
    let counts = counts(&server.requests());
    assert!(counts.values().all(|count| *count <= 21), "{counts:?}");
    let KindState::Away(what) = follows.state("Node") else { panic!("{:?}", follows.state("Node")) };
    assert!(what.contains("429"), "{what}");
    server.faults().clear();
    follows.until_watching().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_throttled_again_and_again_asks_ever_more_seldom() {
    let (server, state) = (server(), state_dir());
    let (is_throttled, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (throttled, counted) = (Arc::clone(&is_throttled), Arc::clone(&count));
    let proxy = move |request: &Request| {
        let is_of_pods = request.uri().path() == "/api/v1/pods" && throttled.load(Ordering::Relaxed);
        is_of_pods.then(|| {
            counted.fetch_add(1, Ordering::Relaxed);
            429
        })
    };
    let mut follows = follow_through(&server, &state, Box::new(proxy));
    follows.until_watching().await;
    is_throttled.store(true, Ordering::Relaxed);
    server.restart();
    sleep(HOUR).await;
    let watches = count.load(Ordering::Relaxed);
    assert!((60..=160).contains(&watches), "{watches} watches in an hour");
    assert_eq!((follows.state("Node"), &follows.now().health.trouble), (KindState::Watching, &None));
    is_throttled.store(false, Ordering::Relaxed);
    follows.until_watching().await;

    // All of it, and who asks for all is one.
    server.forget_requests();
    server.faults().set(Fault::Throttle { retry_after: SECOND });
    server.restart();
    sleep(HOUR).await;
    let requests = server.requests().len();
    assert!((60..=160).contains(&requests), "{requests} requests in an hour");
    server.faults().clear();
    follows.until_watching().await;
}

/// Of 2202 pods, and without streams: their list is five pages.
fn server_of_pages() -> ApiServer {
    let server = server();
    for number in 0..2200 {
        server.put(pod(&format!("p{number}"), "10.244.2.1"));
    }
    server.faults().set(Fault::StreamingLists(StreamingLists::Refused));
    server
}

/// Of two pages of pods that are asked for, the second.
fn is_second_page(request: &Request, asked: &AtomicUsize) -> bool {
    let is_page = request.uri().to_string().contains("/api/v1/pods?limit=");
    is_page && !asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(2)
}

async fn each_page_comes_once(follows: &mut Follows, server: &ApiServer, code: u16) {
    let picture = follows.until_watching().await;
    let listed = (picture.pods.len(), lists(server)["list pods"]);
    assert_eq!(listed, (2202, 6), "{code}: one stream, five pages");
}

/// And no page that came is asked for again.
#[tokio::test(start_paused = true)]
async fn a_list_in_pages_goes_on_with_the_page_that_failed() {
    for code in [429, 500, 503] {
        let (server, state) = (server_of_pages(), state_dir());
        let pages = AtomicUsize::new(0);
        let proxy = move |request: &Request| is_second_page(request, &pages).then_some(code);
        let mut follows = follow_through(&server, &state, Box::new(proxy));
        each_page_comes_once(&mut follows, &server, code).await;
    }
}

/// The same of one that stalls in its middle, and of a server that has not come so far.
#[tokio::test(start_paused = true)]
async fn a_list_in_pages_goes_on_with_the_page_that_stalled() {
    let behind = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Timeout", "code": 504,
        "message": "Too large resource version: 9, current: 8",
    });
    for (code, text, stalls) in [(200, "{".to_owned(), true), (504, behind.to_string(), false)] {
        let (server, state) = (server_of_pages(), state_dir());
        let (pages, behind) = (AtomicUsize::new(0), server.clone());
        let service = tower::service_fn(move |request: Request| {
            let (text, service) = (is_second_page(&request, &pages).then(|| text.clone()), behind.service());
            async move {
                let Some(text) = text else { return service.oneshot(request).await };
                let end = async move { if stalls { std::future::pending().await } else { None } };
                let body = Body::from(text.into_bytes()).map_err(Into::into).with_trailers(end);
                let mut answer = http::Response::new(body.boxed_unsync());
                *answer.status_mut() = http::StatusCode::from_u16(code).expect("a code");
                Ok(answer)
            }
        });
        let client = kube::Client::new(service, "default");
        let mut follows = follow_by(Kube::with_client(client, settings(&state)));
        each_page_comes_once(&mut follows, &server, code).await;
    }
}

/// It is of the same cluster, whatever became of the connection since.
#[tokio::test(start_paused = true)]
async fn a_list_that_ends_while_the_server_is_away_counts_when_it_is_back() {
    let (server, state) = (server(), state_dir());
    let is_away = Arc::new(AtomicBool::new(false));
    let (away, behind) = (Arc::clone(&is_away), server.clone());
    let service = tower::service_fn(move |request: Request| {
        let (is_away, service) = (away.load(Ordering::Relaxed), behind.service());
        async move {
            if asks_for_identity(&request) && is_away {
                return Err(std::io::Error::other("nobody is there").into());
            }
            if request.uri().path() == "/api/v1/pods" {
                sleep(20 * SECOND).await;
            }
            service.oneshot(request).await
        }
    });
    let client = kube::Client::new(service, "default");
    let mut follows = follow_by(Kube::with_client(client, settings(&state)));
    let others = |picture: &Picture| {
        let mut kinds = picture.health.kinds.iter().filter(|(kind, _)| *kind != "Pod");
        kinds.all(|(_, kind)| kind.state == KindState::Watching)
    };
    follows.until("all others are watched", others).await;
    is_away.store(true, Ordering::Relaxed);
    server.restart();
    sleep(30 * SECOND).await;
    assert_eq!(lists(&server)["list pods"], 1, "it has come");
    assert!(follows.now().health.trouble.is_some());
    assert!(matches!(follows.state("Pod"), KindState::Away(_)), "{:?}", follows.state("Pod"));
    is_away.store(false, Ordering::Relaxed);
    let picture = follows.until_watching().await;
    assert_eq!((pods(&picture).len(), lists(&server)["list pods"]), (2, 1));
}

/// As a server says that fills its watch caches, right after a restore.
#[tokio::test(start_paused = true)]
async fn who_does_not_say_which_cluster_it_is_is_waited_for() {
    for code in [400, 404, 410, 429, 504] {
        let (server, state) = (server(), state_dir());
        let mark = server.mark();
        for number in 0..50 {
            server.put(pod(&format!("p{number:03}"), "10.244.1.3"));
        }
        let is_silent = Arc::new(AtomicBool::new(true));
        let silent = Arc::clone(&is_silent);
        let proxy = move |request: &Request| {
            (asks_for_identity(request) && silent.load(Ordering::Relaxed)).then_some(code)
        };
        let mut follows = follow_through(&server, &state, Box::new(proxy));
        sleep(MINUTE).await;
        assert!(follows.kube.clients().borrow().is_none(), "{code}: nobody writes to what may be another");
        let picture = follows.now();
        assert!(picture.pods.is_empty() && !picture.is_complete, "{code}: nor reads it");
        let trouble = picture.health.trouble.as_ref().expect("it is told");
        assert!(trouble.what.contains(&code.to_string()), "{}", trouble.what);
        is_silent.store(false, Ordering::Relaxed);
        follows.until_watching().await;
        assert!(follows.kube.clients().borrow().is_some());

        // Watches from a version that is to come would say nothing for hours.
        is_silent.store(true, Ordering::Relaxed);
        server.rewind(&mark);
        sleep(MINUTE).await;
        is_silent.store(false, Ordering::Relaxed);
        follows.until(&format!("{code}: it is an alarm"), |picture| is_older(picture, "Pod")).await;
    }
}

/// A right that is missing: who is there cannot be asked, and what is known goes on as it can.
#[tokio::test(start_paused = true)]
async fn a_server_that_may_not_be_asked_how_old_it_is_is_listed_when_it_has_nothing_new_to_say() {
    let (server, state) = (server(), state_dir());
    let mark = server.mark();
    for number in 0..50 {
        server.put(pod(&format!("p{number:03}"), "10.244.1.3"));
    }
    let proxy = |request: &Request| asks_for_identity(request).then_some(403);
    let mut follows = follow_through(&server, &state, Box::new(proxy));
    follows.until_watching().await;
    server.rewind(&mark);
    let begun = Instant::now();
    follows.until("it is an alarm", |picture| is_older(picture, "Pod")).await;
    assert!(begun.elapsed() < 25 * MINUTE, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn another_cluster_that_refuses_to_say_so_once_is_another_all_the_same() {
    let (server, state) = (server(), state_dir());
    let answers = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&answers);
    // From the third on, every second one.
    let proxy = move |request: &Request| {
        let is_asked = asks_for_identity(request);
        (is_asked
            && counted.fetch_add(1, Ordering::Relaxed) > 1
            && counted.load(Ordering::Relaxed).is_multiple_of(2))
        .then_some(403)
    };
    let mut follows = follow_through(&server, &state, Box::new(proxy));
    follows.until_watching().await;
    let mark = server.mark();
    server.replace();
    let begun = Instant::now();
    while begun.elapsed() < 45 * SECOND {
        sleep(SECOND).await;
        if answers.load(Ordering::Relaxed) > 1 {
            assert!(follows.kube.clients().borrow().is_none(), "nobody writes to it");
        }
        assert_eq!(pods(&follows.now()), ["one", "two"]);
    }
    assert!(answers.load(Ordering::Relaxed) > 3, "it was asked again and again");
    server.rewind(&mark);
    follows.until_watching().await;
}

/// Who was there once, and once more long after, has not been there in between.
#[tokio::test(start_paused = true)]
async fn another_cluster_counts_once_it_has_been_there_for_a_minute_on_end() {
    let (server, state) = (server(), state_dir());
    let code = Arc::new(AtomicUsize::new(0));
    let said = Arc::clone(&code);
    let proxy = move |request: &Request| {
        let code = said.load(Ordering::Relaxed) as u16;
        (asks_for_identity(request) && code > 0).then_some(code)
    };
    let mut follows = follow_through(&server, &state, Box::new(proxy));
    follows.until_watching().await;
    server.replace();
    for said in [503, 403, 404] {
        follows.until("it is told", is_told_to_be_another).await;
        code.store(said, Ordering::Relaxed);
        sleep(5 * MINUTE).await;
        assert!(!is_told_to_be_another(&follows.now()), "{said}: it does not say so now");
        code.store(0, Ordering::Relaxed);
    }
    let begun = Instant::now();
    let picture = follows.until("it is told", is_told_to_be_another).await;
    assert_eq!(pods(&picture), ["one", "two"]);
    assert!(follows.kube.clients().borrow().is_none(), "nobody writes to it");
    follows.until_pods(&[]).await;
    assert!(begun.elapsed() > MINUTE, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nodes_of_a_large_cluster_do_not_list_at_one_moment() {
    let (server, state) = (server(), state_dir());
    for number in 0..3000 {
        server.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("x{number}")}}));
    }
    let mut follows = followed(&server, &state).await;
    remove_pod(&server, "one");
    server.faults().set(Fault::Expired { resource: "*" });
    server.restart();
    sleep(SECOND).await;
    let listed = lists(&server).len();
    assert!(listed < KINDS.len() / 2, "{listed} kinds were listed within a second, of 30");
    follows.until_pods(&["two"]).await;
    sleep(40 * SECOND).await;
    follows.until_watching().await;
    assert!(lists(&server).values().all(|count| *count == 1), "{:?}", lists(&server));
}

#[tokio::test(start_paused = true)]
async fn rights_that_are_taken_away_are_named_and_what_is_known_stays() {
    let (server, state) = (server(), state_dir());
    let mut follows = followed(&server, &state).await;
    server.faults().set(Fault::Refuse { verb: "*", resource: "pods" });
    remove_pod(&server, "one");
    server.restart();
    let refused = |picture: &Picture| matches!(picture.health.kinds["Pod"].state, KindState::Refused(_));
    let picture = follows.until("it is refused", refused).await;
    let KindState::Refused(what) = &picture.health.kinds["Pod"].state else { unreachable!("just looked at") };
    assert!(
        what.starts_with("watch pods: 403 Forbidden: ") && what.contains("cannot watch resource"),
        "{what}"
    );
    server.forget_requests();
    sleep(HOUR).await;
    assert_eq!(follows.state("Node"), KindState::Watching);
    assert_eq!(pods(&follows.now()), ["one", "two"]);
    let count = counts(&server.requests()).values().copied().max().unwrap_or_default();
    assert!(count <= 90, "{count} attempts in an hour");
    server.faults().clear();
    follows.until_pods(&["two"]).await;
    follows.until_watching().await;
}

#[tokio::test(start_paused = true)]
async fn credentials_that_ran_out_are_named_and_what_is_known_stays() {
    let (server, state) = (server(), state_dir());
    let mut follows = followed(&server, &state).await;
    server.faults().set(Fault::Unauthorized);
    server.restart();
    let refused = |picture: &Picture| {
        picture
            .health
            .kinds
            .values()
            .all(|kind| matches!(&kind.state, KindState::Refused(what) if what.contains("401")))
    };
    follows.until("all are refused", refused).await;
    sleep(HOUR).await;
    assert_eq!(pods(&follows.now()), ["one", "two"]);
    server.faults().clear();
    follows.until_watching().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_server_is_waited_for() {
    let (server, state) = (server(), state_dir());
    server.faults().set(Fault::Latency(20 * SECOND));
    let mut follows = follow(&server, &state);
    let begun = Instant::now();
    let picture = follows.until_watching().await;
    assert_eq!(pods(&picture), ["one", "two"]);
    assert!(begun.elapsed() < MINUTE, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_older_list_removes_nothing_until_the_server_has_caught_up() {
    let (server, state) = (server(), state_dir());
    let mark = server.mark();
    for name in ["three", "four"] {
        server.put(pod(name, "10.244.1.3"));
    }
    server.put(json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n2"}, "spec": {"podCIDR": "10.244.2.0/24"},
    }));
    remove_pod(&server, "one");
    let mut follows = followed(&server, &state).await;
    let all = ["four", "three", "two"];
    assert_eq!(pods(&follows.now()), all);
    server.faults().set(Fault::StaleLists(mark));
    // The history is gone with the restart: watches from what is known are answered by a list.
    server.faults().set(Fault::Expired { resource: "*" });
    server.restart();
    let picture =
        follows.until("it is an alarm", |picture| KINDS.iter().all(|kind| is_older(picture, kind))).await;
    assert_eq!((pods(&picture), picture.documents.len()), (all.map(str::to_owned).to_vec(), 3));
    // A replica that is stuck is never believed.
    sleep(HOUR).await;
    let picture = follows.now();
    assert!(KINDS.iter().all(|kind| is_older(&picture, kind)));
    assert_eq!((pods(&picture), picture.documents.len()), (all.map(str::to_owned).to_vec(), 3));
    let lists = lists(&server);
    assert!(lists.values().all(|count| *count <= 125), "{lists:?}");

    remove_pod(&server, "two");
    server.faults().clear();
    let picture = follows.until_watching().await;
    assert_eq!(pods(&picture), ["four", "three"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_restored_from_a_backup_is_believed_after_five_minutes_in_which_it_moves_on() {
    let (server, state) = (server(), state_dir());
    let mark = server.mark();
    for number in 0..200 {
        server.put(pod(&format!("p{number:03}"), "10.244.1.3"));
    }
    remove_pod(&server, "one");
    let mut follows = followed(&server, &state).await;
    assert_eq!(follows.now().pods.len(), 201);
    server.rewind(&mark);
    server.compact();
    let begun = Instant::now();
    while begun.elapsed() < 5 * MINUTE {
        sleep(10 * SECOND).await;
        beat(&server);
        assert_eq!(follows.now().pods.len(), 201, "after {:?}", begun.elapsed());
    }
    let beating = async {
        loop {
            sleep(10 * SECOND).await;
            beat(&server);
        }
    };
    let pods_of_then = async {
        follows.until_pods(&["one", "two"]).await;
        follows.until_watching().await;
    };
    tokio::select! {
        () = beating => {}
        () = pods_of_then => {}
    }
    assert!(begun.elapsed() < 20 * MINUTE, "{:?}", begun.elapsed());
    server.put(pod("three", "10.244.1.3"));
    follows.until_pods(&["one", "three", "two"]).await;
}

#[tokio::test(start_paused = true)]
async fn another_cluster_counts_once_it_has_been_there_for_a_minute() {
    let (server, state) = (server(), state_dir());
    let mut follows = followed(&server, &state).await;
    server.replace();
    install_kinds(&server);
    server.put(pod("other", "10.244.1.7"));
    let begun = Instant::now();
    let picture = follows.until("it is told", is_told_to_be_another).await;
    assert_eq!((pods(&picture), picture.documents.len()), (vec!["one".to_owned(), "two".to_owned()], 2));
    follows.until_pods(&["other"]).await;
    assert!((MINUTE..3 * MINUTE).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    let picture = follows.until_watching().await;
    assert_eq!((picture.documents.len(), picture.policies.len(), &picture.health.trouble), (0, 0, &None));
}

/// An entry in somebody's DNS is wrong for half a minute.
#[tokio::test(start_paused = true)]
async fn another_cluster_that_goes_away_again_changes_nothing() {
    let (server, state) = (server(), state_dir());
    let mut follows = followed(&server, &state).await;
    let mark = server.mark();
    server.replace();
    sleep(30 * SECOND).await;
    assert!(follows.kube.clients().borrow().is_none(), "nobody writes to it");
    server.rewind(&mark);
    follows.until_watching().await;
    assert!(follows.kube.clients().borrow().is_some());
    assert_eq!(
        (pods(&follows.now()), follows.now().documents.len()),
        (vec!["one".to_owned(), "two".to_owned()], 2)
    );
}

/// A balancer without a backend says it to everything, a proxy with wrong rules to some paths.
#[tokio::test(start_paused = true)]
async fn what_is_not_found_counts_while_the_server_says_who_it_is_and_without_a_break() {
    let is_of_ours = |request: &Request| request.uri().path().starts_with("/apis/cambric.dev");
    for with_identity in [false, true] {
        let (server, state) = (server(), state_dir());
        let code = Arc::new(AtomicUsize::new(0));
        let said = Arc::clone(&code);
        let proxy = move |request: &Request| {
            let code = said.load(Ordering::Relaxed) as u16;
            (code > 0 && (with_identity || is_of_ours(request))).then_some(code)
        };
        let mut follows = follow_through(&server, &state, Box::new(proxy));
        follows.until_watching().await;
        for _ in 0..3 {
            for (said, minutes) in [(404, 4), (if with_identity { 404 } else { 503 }, 10), (404, 4)] {
                code.store(said, Ordering::Relaxed);
                server.restart();
                sleep(minutes * MINUTE).await;
                assert_eq!(follows.now().documents.len(), 2, "{:#?}", follows.now().health);
            }
            code.store(0, Ordering::Relaxed);
            follows.until_watching().await;
        }
        if !with_identity {
            code.store(404, Ordering::Relaxed);
            server.restart();
            follows.until("they are gone", |picture| picture.documents.len() == 1).await;
        }
    }
}

/// Behind an address that has moved, say: its versions are higher.
#[tokio::test(start_paused = true)]
async fn another_cluster_that_does_not_know_our_version_is_not_listed_before_its_time() {
    let (server, state) = (server(), state_dir());
    let other = ApiServer::new();
    for number in 0..200 {
        other.put(pod(&format!("p{number}"), "10.244.9.9"));
    }
    other.compact();
    let has_moved = Arc::new(AtomicBool::new(false));
    let (moved, here, there) = (Arc::clone(&has_moved), server.clone(), other.clone());
    let service = tower::service_fn(move |request: Request| {
        let server = if moved.load(Ordering::Relaxed) { &there } else { &here };
        server.service().oneshot(request)
    });
    let mut follows = follow_by(Kube::with_client(kube::Client::new(service, "default"), settings(&state)));
    follows.until_watching().await;
    has_moved.store(true, Ordering::Relaxed);
    // Watches come to their end, and nothing breaks off.
    let picture = follows.until("it is told", is_told_to_be_another).await;
    assert_eq!((pods(&picture).len(), picture.documents.len()), (2, 2));
    assert_eq!(lists(&other), Default::default());
    has_moved.store(false, Ordering::Relaxed);
    follows.until_watching().await;
}

#[tokio::test(start_paused = true)]
async fn objects_of_a_definition_that_is_gone_stay_for_five_minutes() {
    let (server, state) = (server(), state_dir());
    let mut follows = followed(&server, &state).await;
    let name = "bgpclusterconfigs.cambric.dev";
    let definition =
        server.get("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", name).expect("it is there");
    server.faults().set(Fault::HangingWatch);
    server.delete("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", name);
    server.faults().clear();
    let gone = |picture: &Picture| {
        matches!(picture.health.kinds["BGPClusterConfig"].state, KindState::NotInstalled(_))
    };
    let picture = follows.until("it is told", gone).await;
    assert_eq!(picture.documents.len(), 2, "{:?}", picture.health.kinds["BGPClusterConfig"]);
    let begun = Instant::now();
    follows.until("they are gone", |picture| picture.documents.len() == 1).await;
    assert!(begun.elapsed() > 4 * MINUTE, "{:?}", begun.elapsed());
    sleep(MINUTE).await;
    drop(follows);
    server.away();
    let mut follows = follow(&server, &state);
    assert_eq!(follows.now().documents.len(), 1, "they do not come back with the next run");
    assert!(follows.now().is_complete);
    server.back();
    server.put(definition);
    follows.until_watching().await;
}
