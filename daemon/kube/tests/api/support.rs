//! A server with a small cluster in it, and somebody who follows it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cambric_apiserver_double::{ApiServer, Request};
use cambric_kube::{KindState, Kube, Picture, Settings};
use cambric_policy::change::Key;
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::timeout;
use tower::ServiceExt;

pub(crate) const KINDS: [&str; 10] = [
    "BGPAdvertisement",
    "BGPClusterConfig",
    "BGPFilter",
    "BGPNodeOverride",
    "BGPPeerConfig",
    "Namespace",
    "NetworkPolicy",
    "Node",
    "Pod",
    "Secret",
];

/// Far beyond what any of it takes, by a clock that jumps.
const IN_VIRTUAL_TIME: Duration = Duration::from_secs(3600);
/// And by one that does not.
const IN_REAL_TIME: Duration = Duration::from_secs(90);

/// Our kinds are installed; a node, a policy, a configuration, and two pods.
pub(crate) fn server() -> ApiServer {
    let server = ApiServer::new();
    install_kinds(&server);
    server.put(json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": {"rack": "a"}},
        "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
    }));
    server.put(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "closed", "namespace": "default"}, "spec": {"podSelector": {}},
    }));
    server.put(json!({
        "apiVersion": "cambric.dev/v1alpha1", "kind": "BGPClusterConfig", "metadata": {"name": "default"},
        "spec": {"mesh": "Disabled"},
    }));
    server.put(pod("one", "10.244.1.1"));
    server.put(pod("two", "10.244.1.2"));
    server
}

pub(crate) fn install_kinds(server: &ApiServer) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds");
    for entry in std::fs::read_dir(folder).expect("definitions are there") {
        let text = std::fs::read_to_string(entry.expect("it can be listed").path()).expect("it is a text");
        server.install(&text);
    }
}

pub(crate) fn pod(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    })
}

pub(crate) fn remove_pod(server: &ApiServer, name: &str) {
    server.delete("v1", "Pod", "default", name).expect("it was there");
}

pub(crate) struct Follows {
    pub(crate) kube: Kube,
    pub(crate) pictures: watch::Receiver<Arc<Picture>>,
    patience: Duration,
}

pub(crate) fn state_dir() -> TempDir {
    tempfile::tempdir().expect("temporary folder")
}

pub(crate) fn settings(state: &TempDir) -> Settings {
    Settings { kubeconfig: None, state_dir: state.path().to_owned(), node: "n1".to_owned() }
}

pub(crate) fn follow(server: &ApiServer, state: &TempDir) -> Follows {
    follow_by(Kube::with_client(server.client(), settings(state)))
}

/// The same, and how often it has asked the server, whether or not one was there.
pub(crate) fn follow_counted(server: &ApiServer, state: &TempDir) -> (Follows, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let service = server.service().map_request(move |request: http::Request<Body>| {
        counted.fetch_add(1, Ordering::Relaxed);
        request
    });
    (follow_by(Kube::with_client(kube::Client::new(service, "default"), settings(state))), count)
}

/// What a proxy on the way answers in the place of the server, with this code, if it does.
pub(crate) type Proxy = Box<dyn Fn(&http::Request<Body>) -> Option<u16> + Send>;

/// Through a proxy.
pub(crate) fn follow_through(server: &ApiServer, state: &TempDir, proxy: Proxy) -> Follows {
    let server = server.clone();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (code, service) = (proxy(&request), server.service());
        async move {
            let Some(code) = code else { return service.oneshot(request).await };
            let body = Body::from(b"said by a proxy".to_vec()).map_err(Into::into).boxed_unsync();
            let mut answer = http::Response::new(body);
            *answer.status_mut() = http::StatusCode::from_u16(code).expect("a code");
            Ok(answer)
        }
    });
    follow_by(Kube::with_client(kube::Client::new(service, "default"), settings(state)))
}

/// Of namespace kube-system.
pub(crate) fn asks_for_identity(request: &http::Request<Body>) -> bool {
    request.uri().to_string().contains("kube-system")
}

pub(crate) fn follow_by(kube: Kube) -> Follows {
    let pictures = kube.pictures();
    Follows { kube, pictures, patience: IN_VIRTUAL_TIME }
}

impl Follows {
    pub(crate) fn in_real_time(self) -> Follows {
        Follows { patience: IN_REAL_TIME, ..self }
    }

    /// Waits for a picture.
    pub(crate) async fn until(&mut self, what: &str, fits: impl Fn(&Picture) -> bool) -> Arc<Picture> {
        let mut pictures = self.pictures.clone();
        let waited = timeout(self.patience, pictures.wait_for(|picture| fits(picture))).await;
        match waited {
            Ok(picture) => Arc::clone(&picture.expect("the keeper runs")),
            Err(_) => panic!("{what}: {:#?}", self.pictures.borrow().health),
        }
    }

    /// Waits until all kinds are followed.
    pub(crate) async fn until_watching(&mut self) -> Arc<Picture> {
        self.until("all kinds are watched", |picture| {
            picture.is_complete && picture.health.kinds.values().all(|kind| kind.state == KindState::Watching)
        })
        .await
    }

    pub(crate) async fn until_pods(&mut self, wanted: &[&str]) -> Arc<Picture> {
        self.until(&format!("pods are {wanted:?}"), |picture| pods(picture) == wanted).await
    }

    pub(crate) fn now(&self) -> Arc<Picture> {
        Arc::clone(&self.pictures.borrow())
    }

    pub(crate) fn state(&self, kind: &str) -> KindState {
        self.now().health.kinds[kind].state.clone()
    }
}

/// Their names, in order.
pub(crate) fn pods(picture: &Picture) -> Vec<String> {
    let mut names: Vec<String> = picture.pods.iter().map(|(key, _)| key.name.to_string()).collect();
    names.sort();
    names
}

pub(crate) fn address(picture: &Picture, pod: &str) -> String {
    let pod = picture.pods.get(&Key::new("default", pod)).expect("it is known");
    pod.addresses.iter().map(|address| address.to_string()).collect::<Vec<_>>().join(" ")
}

/// How often each verb of each resource was asked for; a watch that begins with what is there is a list.
pub(crate) fn counts(requests: &[Request]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in requests {
        let verb = match request.query.as_str() {
            query if query.contains("sendInitialEvents=true") => "list",
            // Whether it is the same server: one object of it.
            query if query.contains("metadata.name%3Dkube-system") => "ask",
            _ => &request.verb,
        };
        *counts.entry(format!("{verb} {}", request.resource)).or_default() += 1;
    }
    counts
}

/// The same of lists alone.
pub(crate) fn lists(server: &ApiServer) -> BTreeMap<String, usize> {
    counts(&server.requests()).into_iter().filter(|(what, _)| what.starts_with("list ")).collect()
}
