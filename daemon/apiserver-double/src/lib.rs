//! A Kubernetes API server for tests: real HTTP, real watches, and every fault on demand.
//!
//! It behaves as kube-apiserver 1.3x does, as far as a controller, an agent on a node and kubectl can tell: lists and
//! watches with versions, bookmarks and streaming lists, refusals with the same codes, reasons and words. Then it can be
//! made to misbehave in the ways in which a real one does. It keeps everything in memory.
//!
//! # Within a test
//!
//! ```
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! use cambric_apiserver_double::{ApiServer, Fault};
//! use k8s_openapi::api::core::v1::Node;
//! use kube::Api;
//! use serde_json::json;
//!
//! let server = ApiServer::new();
//! server.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}));
//! let nodes: Api<Node> = Api::all(server.client());
//! assert_eq!(nodes.list(&Default::default()).await?.items.len(), 1);
//!
//! server.faults().set(Fault::Refuse { verb: "list", resource: "nodes" });
//! let refused = nodes.list(&Default::default()).await.expect_err("it is refused");
//! assert!(refused.to_string().contains("cannot list resource \"nodes\""));
//! assert_eq!(server.requests().len(), 2);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! [`ApiServer::client`] needs no sockets and works under tokio's paused clock. [`ApiServer::listen`] and
//! [`ApiServer::listen_tls`] serve on sockets, from a thread of their own; [`Listener::kubeconfig`] is for whoever comes
//! there.
//!
//! # Who asks
//!
//! Clients are known by token (`Authorization: Bearer`) or by certificate. Tokens are `admin`, `cambric` and what
//! [`ApiServer::add_token`] adds; another one is answered with 401. Without TLS, who brings no token is the admin. The user
//! `cambric`, which [`ApiServer::client`] is too, may do everything until [`ApiServer::authorize`] says what it may.
//!
//! # For people and other processes
//!
//! ```text
//! cambric-apiserver-double --listen 127.0.0.1:6443 --manifests deploy/crds --kubeconfig-out /tmp/kubeconfig --tls
//! kubectl --kubeconfig /tmp/kubeconfig get bgpclusterconfigs
//! ```
//!
//! # Deliberately not there
//!
//! Everything that is no node, pod, namespace, event, policy, role, service account, definition, DaemonSet (which is kept,
//! and makes no pods) or policy of admission (of which not all is evaluated: see `admission`); protobuf, gzip, HTTP/2,
//! websockets (exec, logs), admission webhooks, aggregated APIs, priority and fairness. The watch cache is always up to date:
//! only [`Fault::StaleLists`] makes it lag. A client that stops to read a watch holds a socket but no memory; it is cut when
//! it reads again and the history has moved past it.

mod admission;
mod apply;
mod body;
mod cause;
mod certificates;
mod convert;
mod discovery;
mod faults;
mod form;
mod jsonpath;
mod kind;
mod list;
mod listener;
mod lists;
mod options;
mod patch;
mod path;
mod rbac;
mod requests;
mod schema;
mod selector;
mod server;
mod status;
mod store;
mod table;
mod time;
mod update;
mod watch;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::Value;
use tower::BoxError;

pub use body::Body;
pub use certificates::{Certificate, Certificates};
pub use faults::{Fault, Faults, Mark, StreamingLists};
pub use kind::{Key, Kind, Resource, Version};
pub use listener::Listener;
pub use path::{Query, Target};
pub use requests::Request;
pub use server::{User, Verb};
pub use status::{Cause, Status};
pub use store::{Object, State};

use listener::Door;
use rbac::{Grant, grants};
use server::{CAMBRIC, Peer, Server, serve};

/// One server. Clones are the same server.
#[derive(Debug, Clone)]
pub struct ApiServer {
    server: Arc<Server>,
    /// The sockets of all listeners that are still there.
    doors: Arc<Mutex<Vec<Weak<Door>>>>,
}

impl Default for ApiServer {
    fn default() -> ApiServer {
        ApiServer::new()
    }
}

/// Being there.
impl ApiServer {
    /// A cluster that was just installed: its own namespaces and nothing else.
    pub fn new() -> ApiServer {
        ApiServer { server: Arc::new(Server::new()), doors: Arc::default() }
    }

    /// The server without sockets, to a client that is the user `cambric` unless it brings a token.
    pub fn service(&self) -> ApiService {
        ApiService { server: Arc::clone(&self.server), user: User::new(CAMBRIC) }
    }

    /// A client of [`ApiServer::service`]. To be called within a tokio runtime.
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.service(), "default")
    }

    /// The same for another user.
    pub fn client_of(&self, user: User) -> kube::Client {
        kube::Client::new(ApiService { user, ..self.service() }, "default")
    }

    /// Serves on this socket, without TLS, as long as the listener lives.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub fn listen(&self, listener: TcpListener) -> anyhow::Result<Listener> {
        self.listen_with(listener, None)
    }

    /// Serves on this socket with TLS.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub fn listen_tls(&self, listener: TcpListener, certificates: &Certificates) -> anyhow::Result<Listener> {
        self.listen_with(listener, Some(certificates))
    }

    fn listen_with(
        &self,
        listener: TcpListener,
        certificates: Option<&Certificates>,
    ) -> anyhow::Result<Listener> {
        let (listener, door) = Listener::new(Arc::clone(&self.server), listener, certificates)?;
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        doors.retain(|door| door.strong_count() > 0);
        doors.push(Arc::downgrade(&door));
        Ok(listener)
    }

    /// From now on this token is this user's.
    pub fn add_token(&self, token: &str, user: User) {
        self.server.set_token(token, user);
    }

    /// From now on this token is nobody's: 401.
    pub fn remove_token(&self, token: &str) {
        self.server.remove_token(token);
    }

    /// From now on the user `cambric` has the rights of these roles (YAML documents) and no others, of a `Role` in its
    /// namespace only, and service accounts that a binding among them names have those of its role.
    ///
    /// # Panics
    /// The text is no YAML: it is part of the test.
    pub fn authorize(&self, roles: &str) {
        let objects = documents(roles).expect("roles of a test are YAML");
        let of_kind = |kind: &'static str| objects.iter().filter(move |object| object["kind"] == kind);
        let all = of_kind("ClusterRole").map(|role| Grant { role: role.clone(), namespace: None });
        let ours = all.chain(of_kind("Role").map(|role| Grant {
            role: role.clone(),
            namespace: role["metadata"]["namespace"].as_str().map(str::to_owned),
        }));
        self.server.set_grants(CAMBRIC, ours.collect());
        let mut of_accounts: BTreeMap<String, Vec<Grant>> = BTreeMap::new();
        for (subject, grant) in grants(&objects) {
            if subject["kind"] == "ServiceAccount" {
                let text = |field: &str| subject[field].as_str().unwrap_or_default();
                let user = User::service_account(text("namespace"), text("name"));
                of_accounts.entry(user.name).or_default().push(grant);
            }
        }
        for (user, grants) in of_accounts {
            self.server.set_grants(&user, grants);
        }
    }

    /// How often watches get bookmarks that allow them; 60 s unless this is set. For watches that begin from now on.
    pub fn set_bookmark_interval(&self, interval: Duration) {
        self.server.set_bookmark_interval(interval);
    }

    /// How many changes of each resource can be replayed; 8 192 unless this is set.
    pub fn set_history(&self, changes: usize) {
        self.server.store.write(|state| state.keep_history(changes));
    }
}

/// As another client of the cluster, with all rights.
impl ApiServer {
    /// Applies YAML documents: definitions first, then everything else.
    ///
    /// # Panics
    /// They are no YAML, or the server refuses one: they are part of the test.
    pub fn install(&self, yaml: &str) {
        self.try_install(yaml).expect("objects of a test are accepted");
    }

    /// The same for texts that are not part of a test.
    ///
    /// # Errors
    /// No YAML, or an object that is refused.
    pub fn try_install(&self, yaml: &str) -> anyhow::Result<()> {
        let mut objects = documents(yaml)?;
        objects.sort_by_key(|object| object["kind"] != "CustomResourceDefinition");
        for object in objects {
            let what = format!("{} {}", object["kind"], object["metadata"]["name"]);
            self.try_put(object).with_context(|| what)?;
        }
        Ok(())
    }

    /// Creates or replaces an object, with its status, and answers with it as it is then.
    ///
    /// # Panics
    /// The server refuses it: it is part of the test.
    pub fn put(&self, object: Value) -> Value {
        self.try_put(object).expect("an object of a test is accepted")
    }

    /// The same for objects that are not part of a test.
    ///
    /// # Errors
    /// It is refused.
    pub fn try_put(&self, object: Value) -> anyhow::Result<Value> {
        self.server
            .store
            .write(|state| update::put(state, object))
            .map_err(|status| anyhow::anyhow!(status.message))
    }

    /// Removes an object; answers with it as it was last. The namespace of what is in none is empty.
    pub fn delete(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        self.server.store.write(|state| {
            let kind = state.kind_of(api_version, kind)?;
            update::remove(state, kind.stored_at(), &Key::new(namespace, name))
        })
    }

    /// One object in that version.
    pub fn get(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let state = self.server.store.read();
        let kind = state.kind_of(api_version, kind)?;
        let object = state.object(kind.stored_at(), &Key::new(namespace, name))?;
        drop(state);
        Some(convert::served(&kind, version_of(api_version), object.value()))
    }

    /// All objects of a kind in that version, by namespace and name.
    pub fn list(&self, api_version: &str, kind: &str) -> Vec<Value> {
        let state = self.server.store.read();
        let Some(kind) = state.kind_of(api_version, kind) else { return Vec::new() };
        let objects: Vec<Arc<Object>> = state.objects(kind.stored_at()).cloned().collect();
        drop(state);
        let version = version_of(api_version);
        objects.into_iter().map(|object| convert::served(&kind, version, object.value())).collect()
    }

    /// The version of the last change.
    pub fn version(&self) -> u64 {
        self.server.store.read().version()
    }
}

/// Misbehaving.
impl ApiServer {
    /// What goes wrong while the server is there.
    pub fn faults(&self) -> &Faults {
        &self.server.faults
    }

    /// The server is gone: connections are cut and refused, until [`ApiServer::back`].
    pub fn away(&self) {
        self.server.leave();
        // A door that does not shut lets nobody in either: connections end at once while the server is away.
        self.each_door(|door| drop(door.shut()));
    }

    /// The server is there again, with everything that it knew.
    pub fn back(&self) {
        self.each_door(|door| drop(door.open()));
        self.server.come_back();
    }

    /// The process starts anew: everything open is cut, watches in the middle; what happened before is forgotten, so that
    /// a watch from any older version is answered with 410. A server that is away has done this when it is back.
    pub fn restart(&self) {
        self.cut_with(State::forget_history);
    }

    /// What happened before now is forgotten, as by a compaction: 410 for older versions and continue tokens. Watches that
    /// are up to date go on.
    pub fn compact(&self) {
        self.server.store.write(State::forget_history);
    }

    /// Remembers all objects and the version.
    pub fn mark(&self) -> Mark {
        Mark(Arc::new(self.server.store.read().backup()))
    }

    /// The storage is replaced by a backup of then: objects, definitions and versions are those of the mark, and versions
    /// of the time after it will be used again for other changes. Everything open is cut.
    pub fn rewind(&self, mark: &Mark) {
        self.cut_with(|state| *state = mark.0.backup());
    }

    /// Another cluster at the same address: without objects, definitions, and history; another uid of `kube-system`;
    /// versions from the start. Everything open is cut. Tokens, roles and certificates stay.
    pub fn replace(&self) {
        self.cut_with(|state| *state = State::new());
    }

    /// All requests since the start or [`ApiServer::forget_requests`], the oldest first, at most a million.
    pub fn requests(&self) -> Vec<Request> {
        self.server.requests.all()
    }

    /// Counts from here.
    pub fn forget_requests(&self) {
        self.server.requests.forget();
    }

    /// No watch sees the new state with what it knows of the old one: they are cut before anybody can look.
    fn cut_with(&self, change: impl FnOnce(&mut State)) {
        self.server.store.write(|state| {
            change(state);
            self.server.cut();
        });
    }

    fn each_door(&self, act: impl Fn(&Door)) {
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        doors.iter().filter_map(Weak::upgrade).for_each(|door| act(&door));
    }
}

/// The part of an apiVersion after the group.
fn version_of(api_version: &str) -> &str {
    api_version.rsplit('/').next().unwrap_or_default()
}

/// YAML documents, without empty ones; the items of a `List` one by one.
fn documents(yaml: &str) -> anyhow::Result<Vec<Value>> {
    let mut all = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(yaml) {
        match Value::deserialize(document)? {
            Value::Null => {}
            Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
                let items = list.remove("items").unwrap_or_default();
                all.extend(items.as_array().into_iter().flatten().cloned());
            }
            object => all.push(object),
        }
    }
    Ok(all)
}

/// The server as a service within this process.
#[derive(Debug, Clone)]
pub struct ApiService {
    server: Arc<Server>,
    /// Who asks, unless the request brings a token.
    user: User,
}

impl<B> tower::Service<http::Request<B>> for ApiService
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<http::Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        Box::pin(serve(Arc::clone(&self.server), Peer::Known(self.user.clone()), request))
    }
}
