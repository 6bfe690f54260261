//! One request: who asks, for what, and what the answer is.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Bytes;
use tokio::sync::watch;
use tower::BoxError;

use crate::body::{self, Body, Cut};
use crate::faults::Faults;
use crate::form::Form;
use crate::kind::Kind;
use crate::list::{list, wait_for};
use crate::path::{Query, Target};
use crate::rbac::{self, Attributes, Grant};
use crate::requests::{Request, Requests};
use crate::status::Status;
use crate::store::{State, Store};
use crate::watch::watch;
use crate::{discovery, update};

/// The largest body of a request, in octets (`MaxRequestBodyBytes` of k8s.io/apiserver).
const LARGEST_BODY: usize = 3 * 1024 * 1024;
/// About how often the real server sends bookmarks.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the verbs of the API, as roles name them")]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    /// As roles write it.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        }
    }

    fn of(method: &Method, target: &Target, query: &Query) -> Option<Verb> {
        Some(match (method, target.name.is_some()) {
            (&Method::GET | &Method::HEAD, true) => Verb::Get,
            (&Method::GET | &Method::HEAD, false) if query.flag("watch") == Some(true) => Verb::Watch,
            (&Method::GET | &Method::HEAD, false) => Verb::List,
            (&Method::POST, _) => Verb::Create,
            (&Method::PUT, _) => Verb::Update,
            (&Method::PATCH, _) => Verb::Patch,
            (&Method::DELETE, true) => Verb::Delete,
            (&Method::DELETE, false) => Verb::DeleteCollection,
            _ => return None,
        })
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// As error messages name it.
    pub name: String,
    /// `system:masters` may do everything.
    pub groups: Vec<String>,
    /// What else is known, as policies of admission read it.
    pub extra: BTreeMap<String, Vec<String>>,
}

const MASTERS: &str = "system:masters";
const ANONYMOUS: &str = "system:anonymous";

impl User {
    /// Without groups.
    pub fn new(name: &str) -> User {
        User { name: name.to_owned(), groups: Vec::new(), extra: BTreeMap::new() }
    }

    /// The account of pods of that namespace.
    pub fn service_account(namespace: &str, name: &str) -> User {
        let groups = [
            "system:serviceaccounts",
            &format!("system:serviceaccounts:{namespace}"),
            "system:authenticated",
        ];
        User {
            groups: groups.map(str::to_owned).into(),
            ..User::new(&format!("system:serviceaccount:{namespace}:{name}"))
        }
    }

    /// By a token that is bound to a pod of that node (Kubernetes 1.32, "ServiceAccountTokenPodNodeInfo").
    pub fn on_node(mut self, node: &str) -> User {
        self.extra.insert("authentication.kubernetes.io/node-name".to_owned(), vec![node.to_owned()]);
        self
    }

    /// Who may do everything.
    pub fn admin() -> User {
        User { groups: vec![MASTERS.to_owned()], ..User::new("kubernetes-admin") }
    }
}

/// What is known of who asks before the request says anything.
#[derive(Debug, Clone)]
pub(crate) enum Peer {
    /// By the certificate, or because it is in this process.
    Known(User),
    /// Without TLS there is no certificate: whoever brings no token is the admin.
    Open,
    /// TLS without a certificate.
    Anonymous,
}

/// A request of a resource, once it is known to be allowed.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) user: User,
    pub(crate) verb: Verb,
    pub(crate) target: Target,
    pub(crate) kind: Arc<Kind>,
    pub(crate) query: Query,
    pub(crate) user_agent: String,
    pub(crate) accept: String,
    pub(crate) content_type: String,
}

/// Whether the server can be reached. Everything that is open is cut when this changes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Link {
    pub(crate) is_away: bool,
    /// Counts what cut everything.
    pub(crate) epoch: u64,
}

/// Everything that requests share.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) store: Store,
    pub(crate) faults: Faults,
    pub(crate) requests: Requests,
    link: watch::Sender<Link>,
    /// Users by token.
    tokens: RwLock<BTreeMap<String, User>>,
    /// What roles give, by user; who is not in here may do everything.
    grants: RwLock<BTreeMap<String, Vec<Grant>>>,
    bookmark_interval: Mutex<Duration>,
}

impl Server {
    pub(crate) fn new() -> Server {
        let tokens = [("admin", User::admin()), (CAMBRIC, User::new(CAMBRIC))];
        Server {
            store: Store::new(State::new()),
            faults: Faults::new(),
            requests: Requests::default(),
            link: watch::Sender::new(Link::default()),
            tokens: RwLock::new(tokens.map(|(token, user)| (token.to_owned(), user)).into()),
            grants: RwLock::default(),
            bookmark_interval: Mutex::new(BOOKMARK_INTERVAL),
        }
    }

    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// Cuts everything that is open. Who is away stays away.
    pub(crate) fn cut(&self) {
        self.link.send_modify(|link| link.epoch += 1);
    }

    /// Cuts everything that is open, and lets nobody in.
    pub(crate) fn leave(&self) {
        self.link.send_modify(|link| *link = Link { is_away: true, epoch: link.epoch + 1 });
    }

    pub(crate) fn come_back(&self) {
        self.link.send_modify(|link| link.is_away = false);
    }

    pub(crate) fn bookmark_interval(&self) -> Duration {
        *self.bookmark_interval.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_bookmark_interval(&self, interval: Duration) {
        *self.bookmark_interval.lock().unwrap_or_else(PoisonError::into_inner) = interval;
    }

    pub(crate) fn set_token(&self, token: &str, user: User) {
        self.tokens.write().unwrap_or_else(PoisonError::into_inner).insert(token.to_owned(), user);
    }

    pub(crate) fn remove_token(&self, token: &str) {
        self.tokens.write().unwrap_or_else(PoisonError::into_inner).remove(token);
    }

    pub(crate) fn set_grants(&self, user: &str, grants: Vec<Grant>) {
        self.grants.write().unwrap_or_else(PoisonError::into_inner).insert(user.to_owned(), grants);
    }

    fn authenticate(&self, headers: &HeaderMap, peer: &Peer) -> Result<User, Status> {
        match (header(headers, &AUTHORIZATION), peer) {
            ("", Peer::Known(user)) => Ok(user.clone()),
            ("", Peer::Open) => Ok(User::admin()),
            ("", Peer::Anonymous) => Ok(User::new(ANONYMOUS)),
            (value, _) => {
                let token = value.strip_prefix("Bearer ").unwrap_or_default().trim();
                let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
                tokens.get(token).cloned().ok_or_else(Status::unauthorized)
            }
        }
    }

    /// # Errors
    /// 403, worded as RBAC words it.
    fn authorize(&self, user: &User, verb: Verb, target: &Target) -> Result<(), Status> {
        let subresource = target.subresource.as_deref().unwrap_or_default();
        let name = target.name.as_deref().unwrap_or_default();
        let attributes = Attributes {
            verb: verb.name(),
            group: &target.resource.group,
            resource: &target.resource.plural,
            subresource,
            name,
            namespace: target.namespace.as_deref().unwrap_or_default(),
        };
        let is_allowed = || {
            if user.groups.iter().any(|group| group == MASTERS) {
                return true;
            }
            let grants = self.grants.read().unwrap_or_else(PoisonError::into_inner);
            match grants.get(&user.name) {
                Some(grants) => rbac::allows(grants, &attributes),
                None => user.name != ANONYMOUS,
            }
        };
        if !self.faults.now().refuses(verb, target) && is_allowed() {
            return Ok(());
        }
        let resource = match subresource {
            "" => attributes.resource.to_owned(),
            subresource => format!("{}/{subresource}", attributes.resource),
        };
        let place = match &target.namespace {
            Some(namespace) => format!("in the namespace {namespace:?}"),
            None => "at the cluster scope".to_owned(),
        };
        let what = format!(
            "User {:?} cannot {} resource {resource:?} in API group {:?} {place}",
            user.name, attributes.verb, attributes.group
        );
        Err(Status::forbidden(&target.resource, name, &what))
    }
}

/// The token, and the user, that tests restrict with [`crate::ApiServer::authorize`].
pub(crate) const CAMBRIC: &str = "cambric";

/// Answers one request, or fails as a connection fails.
pub(crate) async fn serve<B>(
    server: Arc<Server>,
    peer: Peer,
    request: http::Request<B>,
) -> Result<Response<Body>, BoxError>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let mut link = server.link();
    if link.borrow_and_update().is_away {
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused").into());
    }
    let (parts, body) = request.into_parts();
    let mut told = Request {
        verb: parts.method.as_str().to_lowercase(),
        group: String::new(),
        resource: parts.uri.path().to_owned(),
        subresource: String::new(),
        namespace: String::new(),
        name: String::new(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        user: String::new(),
        user_agent: header(&parts.headers, &USER_AGENT).to_owned(),
        status: 0,
    };
    let answer = tokio::select! {
        answer = answer(&server, &peer, &parts, body, &mut told) => answer,
        _ = link.changed() => Err(Cut.into()),
    };
    if let Ok(response) = &answer {
        told.status = response.status().as_u16();
    }
    server.requests.add(told);
    answer
}

async fn answer<B>(
    server: &Arc<Server>,
    peer: &Peer,
    parts: &Parts,
    body: B,
    told: &mut Request,
) -> Result<Response<Body>, BoxError>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let query = Query::read(parts.uri.query().unwrap_or_default());
    let target = Target::read(parts.uri.path());
    if let Some(target) = &target {
        if let Some(verb) = Verb::of(&parts.method, target, &query) {
            verb.name().clone_into(&mut told.verb);
        }
        told.group = target.resource.group.to_string();
        told.resource = target.resource.plural.to_string();
        told.subresource = target.subresource.clone().unwrap_or_default();
        told.namespace = target.namespace.clone().unwrap_or_default();
        told.name = target.name.clone().unwrap_or_default();
    }
    let body = match Limited::new(body, LARGEST_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("Request entity too large: limit is {LARGEST_BODY}");
            return Ok(body::status(&Status::new(413, "RequestEntityTooLarge", message)));
        }
        Err(error) => return Err(error),
    };
    let faults = server.faults.now();
    if let Some(time) = faults.latency() {
        tokio::time::sleep(time).await;
    }
    if faults.is_server_error() {
        return Ok(body::status(&Status::internal_error("etcdserver: request timed out")));
    }
    if let Some(time) = faults.throttle() {
        // Before anything else is looked at, and as plain text: so the filters of the real server do it.
        let mut response = body::text(429, "Too many requests, please try again later.\n");
        let seconds = u64::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u64::MAX);
        response.headers_mut().insert(http::header::RETRY_AFTER, seconds.into());
        return Ok(response);
    }
    let user = match server.authenticate(&parts.headers, peer) {
        Ok(user) if !faults.is_unauthorized() => user,
        _ => return Ok(body::status(&Status::unauthorized())),
    };
    told.user.clone_from(&user.name);
    let result = match target {
        Some(target) => resource(server, user, parts, target, query, &body).await,
        None => Ok(other(server, parts)),
    };
    Ok(result.unwrap_or_else(|status| body::status(&status)))
}

/// A path of no resource.
fn other(server: &Server, parts: &Parts) -> Response<Body> {
    let path = parts.uri.path();
    if matches!(path.trim_end_matches('/'), "/healthz" | "/livez" | "/readyz") {
        return body::text(200, "ok");
    }
    let kinds: Vec<Arc<Kind>> = server.store.read().kinds().cloned().collect();
    match discovery::answer(&kinds, path, header(&parts.headers, &ACCEPT)) {
        Some(answer) if parts.method == Method::GET => body::of_type(answer.content_type, answer.body),
        _ => body::text(404, NOT_FOUND),
    }
}

/// What the real server says of a path that no handler has.
const NOT_FOUND: &str = "404 page not found\n";

async fn resource(
    server: &Arc<Server>,
    user: User,
    parts: &Parts,
    target: Target,
    query: Query,
    body: &Bytes,
) -> Result<Response<Body>, Status> {
    let Some(verb) = Verb::of(&parts.method, &target, &query) else {
        return Err(Status::method_not_allowed());
    };
    // What is not served is refused, too: only who has the right may know.
    server.authorize(&user, verb, &target)?;
    let Some(kind) = server.store.read().kind(&target.resource) else {
        return Ok(body::text(404, NOT_FOUND));
    };
    let is_in_place = match (&target.namespace, &target.name) {
        (Some(_), _) => kind.is_namespaced,
        (None, Some(_)) => !kind.is_namespaced,
        (None, None) => true,
    };
    if kind.served(&target.version).is_none() || !is_in_place {
        return Ok(body::text(404, NOT_FOUND));
    }
    let text = |name: &HeaderName| header(&parts.headers, name).to_owned();
    let (user_agent, accept, content_type) = (text(&USER_AGENT), text(&ACCEPT), text(&CONTENT_TYPE));
    let call = Call { user, verb, target, kind, query, user_agent, accept, content_type };
    match verb {
        Verb::Get => get(server, &call).await,
        Verb::List => list(server, &call).await,
        Verb::Watch => watch(server, &call).await,
        _ => {
            let reply = server.store.write(|state| update::handle(state, &call, body))?;
            Ok(body::with_warnings(body::json(reply.code, reply.body), &reply.warnings))
        }
    }
}

async fn get(server: &Server, call: &Call) -> Result<Response<Body>, Status> {
    let Target { resource, name, .. } = &call.target;
    match call.target.subresource.as_deref() {
        None => {}
        Some("status")
            if call.kind.served(&call.target.version).is_some_and(|version| version.has_status) => {}
        Some(_) => return Err(Status::unknown_resource()),
    }
    if let Some(version) = call.query.value("resourceVersion").and_then(|text| text.parse().ok()) {
        wait_for(server, version).await?;
    }
    let object = call.target.key().and_then(|key| server.store.read().object(call.kind.stored_at(), &key));
    let Some(object) = object else {
        return Err(Status::not_found(resource, name.as_deref().unwrap_or_default()));
    };
    let form = Form::new(Arc::clone(&call.kind), &call.target.version, &call.accept);
    Ok(body::json(200, form.object(&object)))
}

/// Empty: it is not there, or is no text.
fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
