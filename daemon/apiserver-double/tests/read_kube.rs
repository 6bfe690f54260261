//! The double under the client that matters: kube's, over TLS with a certificate, and without sockets on a clock that
//! jumps. What follows the pods here does what kube's watcher does in both of its ways; that one is not among our
//! dependencies.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cambric_apiserver_double::{ApiServer, Certificates, Fault, Listener, StreamingLists, User};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Longer than anything should take.
const LONG: Duration = Duration::from_secs(60);

fn pod(name: &str, node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}})
}

fn listening_with_tls() -> (ApiServer, Certificates, Listener) {
    let server = ApiServer::new();
    let certificates = Certificates::make(&["127.0.0.1"]).expect("an authority");
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listener = server.listen_tls(socket, &certificates).expect("it listens");
    (server, certificates, listener)
}

async fn client(kubeconfig: &str) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("a configuration")).expect("a client")
}

/// How a follower learns the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strategy {
    List,
    StreamingList,
}

/// Nodes of pods by name.
type Known = BTreeMap<String, String>;

/// Follows all pods as controllers do: the state, then changes from its version; anew from the last version when the
/// connection ends, and from the state when that version is refused.
struct Follower {
    known: watch::Receiver<Known>,
    errors: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl Follower {
    fn of(pods: Api<Pod>, strategy: Strategy) -> Follower {
        let (told, known) = watch::channel(Known::new());
        let errors = Arc::new(Mutex::new(Vec::new()));
        let of_task = Arc::clone(&errors);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut version = None;
            loop {
                if let Err(error) = step(&pods, strategy, &mut version, &told).await {
                    of_task.lock().expect("nobody panicked").push(error.to_string());
                    sleep(Duration::from_millis(20)).await;
                }
            }
        });
        Follower { known, errors, _task: task }
    }

    async fn knows(&mut self, enough: impl Fn(&Known) -> bool) {
        let known = timeout(LONG, self.known.wait_for(|known| enough(known))).await.map(drop);
        let errors = self.errors.lock().expect("nobody panicked").join("\n");
        assert!(known.is_ok(), "it stays at {:?} after {errors}", *self.known.borrow());
    }

    fn errors(&self) -> String {
        self.errors.lock().expect("nobody panicked").join("\n")
    }
}

/// One list, unless a version is known, and one watch, to their end.
async fn step(
    pods: &Api<Pod>,
    strategy: Strategy,
    version: &mut Option<String>,
    told: &watch::Sender<Known>,
) -> kube::Result<()> {
    let entry = |pod: Pod| {
        let node = pod.spec.and_then(|spec| spec.node_name).unwrap_or_default();
        (pod.metadata.name.unwrap_or_default(), node)
    };
    let mut params = WatchParams::default();
    let start = match version.clone() {
        Some(version) => version,
        None if strategy == Strategy::List => {
            let list = pods.list(&ListParams::default()).await?;
            let start = list.metadata.resource_version.expect("lists have versions");
            told.send_replace(list.items.into_iter().map(entry).collect());
            version.insert(start).clone()
        }
        None => {
            params = params.initial_events();
            String::new()
        }
    };
    let mut initial = params.send_initial_events.then(Known::new);
    let mut events = pin!(pods.watch(&params, &start).await?);
    while let Some(event) = events.try_next().await? {
        let (pod, is_there) = match event {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => (pod, true),
            WatchEvent::Deleted(pod) => (pod, false),
            WatchEvent::Bookmark(bookmark) => {
                if bookmark.metadata.annotations.contains_key("k8s.io/initial-events-end")
                    && let Some(known) = initial.take()
                {
                    told.send_replace(known);
                }
                *version = Some(bookmark.metadata.resource_version);
                continue;
            }
            WatchEvent::Error(status) => {
                *version = None;
                return Err(kube::Error::Api(status));
            }
        };
        let seen = pod.metadata.resource_version.clone();
        let (name, node) = entry(pod);
        match &mut initial {
            Some(known) => drop(known.insert(name, node)),
            None => {
                *version = seen;
                told.send_modify(|known| match is_there {
                    true => drop(known.insert(name, node)),
                    false => drop(known.remove(&name)),
                });
            }
        }
    }
    Ok(())
}

async fn a_follower_knows_everything_through_restart_expiry_and_absence(strategy: Strategy) {
    let (server, certificates, listener) = listening_with_tls();
    let kubeconfig = listener.kubeconfig_with_certificate(certificates.client());
    server.put(pod("a", "n1"));
    let mut follower = Follower::of(Api::all(client(&kubeconfig).await), strategy);
    follower.knows(|known| known.contains_key("a")).await;

    server.put(pod("b", "n1"));
    server.put(pod("a", "n2"));
    server.delete("v1", "Pod", "default", "b");
    follower.knows(|known| known.get("a").is_some_and(|node| node == "n2") && known.len() == 1).await;

    // What goes while nobody may watch is seen by the state that 410 asks for.
    server.put(pod("gone", "n1"));
    follower.knows(|known| known.contains_key("gone")).await;
    server.away();
    server.delete("v1", "Pod", "default", "gone");
    server.put(pod("c", "n1"));
    server.restart();
    server.back();
    follower.knows(|known| known.contains_key("c") && !known.contains_key("gone")).await;
    assert!(follower.errors().contains("too old resource version"), "{}", follower.errors());

    // A version that is still known goes on without a list.
    server.forget_requests();
    server.away();
    server.put(pod("d", "n1"));
    server.back();
    follower.knows(|known| known.contains_key("d")).await;
    let requests = server.requests();
    assert!(
        requests.iter().all(|request| request.verb == "watch" && request.user == "cambric"),
        "{requests:?}"
    );
    assert_eq!(follower.known.borrow().keys().collect::<Vec<_>>(), ["a", "c", "d"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_lists_and_watches_knows_everything() {
    a_follower_knows_everything_through_restart_expiry_and_absence(Strategy::List).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_streams_lists_knows_everything() {
    a_follower_knows_everything_through_restart_expiry_and_absence(Strategy::StreamingList).await;
}

#[tokio::test]
async fn a_follower_hears_that_a_server_cannot_stream_lists() {
    let server = ApiServer::new();
    server.faults().set(Fault::StreamingLists(StreamingLists::RefusedInStream));
    server.put(pod("a", "n1"));
    let mut follower = Follower::of(Api::all(server.client()), Strategy::StreamingList);
    timeout(LONG, async {
        while !follower.errors().contains("RequestWatchProgress is disabled") {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("it is told");
    server.faults().clear();
    follower.knows(|known| known.contains_key("a")).await;
}

#[tokio::test]
async fn who_comes_over_tls_is_known_by_certificate_or_token_or_not_at_all() {
    let (server, certificates, listener) = listening_with_tls();
    let list = async |kubeconfig: String| {
        let pods: Api<Pod> = Api::all(client(&kubeconfig).await);
        pods.list(&ListParams::default()).await.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(list(listener.kubeconfig("admin")).await, Ok(()));
    let other = certificates.client_for(User::new("other")).expect("a client");
    assert_eq!(list(listener.kubeconfig_with_certificate(&other)).await, Ok(()));
    assert_eq!(server.requests().last().map(|request| request.user.clone()), Some("other".to_owned()));

    let refused = list(listener.kubeconfig("stranger")).await.expect_err("nobody knows the token");
    assert!(refused.contains("Unauthorized"), "{refused}");
    let nobody = listener.kubeconfig("x").replace("\"token\": \"x\"", "");
    let refused = list(nobody).await.expect_err("anonymous");
    assert!(refused.contains("User \"system:anonymous\" cannot list resource \"pods\""), "{refused}");

    let strangers = Certificates::make(&["127.0.0.1"]).expect("an authority");
    let asked = server.requests().len();
    assert!(list(listener.kubeconfig_with_certificate(strangers.client())).await.is_err());
    assert_eq!(server.requests().len(), asked, "a certificate of another authority does not come in");
}

#[tokio::test(start_paused = true)]
async fn eight_hours_of_absence_pass_at_once_on_a_paused_clock() {
    let server = ApiServer::new();
    let pods: Api<Pod> = Api::all(server.client());
    let start = server.version().to_string();
    let params = WatchParams::default();
    let mut watch = pin!(pods.watch(&params, &start).await.expect("it watches"));
    server.put(pod("a", "n1"));
    let Ok(Some(WatchEvent::Added(_))) = watch.try_next().await else { panic!("no event") };
    let Ok(Some(WatchEvent::Bookmark(bookmark))) = watch.try_next().await else { panic!("no bookmark") };
    assert_eq!(bookmark.metadata.resource_version, server.version().to_string());

    server.away();
    assert!(matches!(watch.try_next().await, Ok(None)), "a connection that ends");
    let refused = pods.list(&ListParams::default()).await.expect_err("it is away");
    assert!(format!("{refused:?}").contains("ConnectionRefused"), "{refused:?}");
    let began = tokio::time::Instant::now();
    sleep(Duration::from_secs(8 * 3600)).await;
    assert!(began.elapsed() >= Duration::from_secs(8 * 3600));
    server.back();
    assert_eq!(pods.list(&ListParams::default()).await.expect("it is back").items.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_watch_without_a_time_of_its_own_ends_within_the_hour() {
    let server = ApiServer::new();
    let pods: Api<Pod> = Api::all(server.client());
    let began = tokio::time::Instant::now();
    let request =
        http::Request::get("/api/v1/pods?watch=1&resourceVersion=0").body(Vec::new()).expect("a request");
    let client = server.client();
    let mut events = pin!(client.request_events::<Pod>(request).await.expect("it watches"));
    assert!(matches!(events.try_next().await, Ok(None)));
    let lasted = began.elapsed();
    assert!(lasted >= Duration::from_secs(30 * 60) && lasted <= Duration::from_secs(60 * 60), "{lasted:?}");
    drop(pods);
}
