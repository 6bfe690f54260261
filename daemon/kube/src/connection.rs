//! Whether there is a server to speak with, and whether it is the one whose objects are known.
//!
//! One task asks for all kinds: while the server does not answer, it alone tries, with a jittered back-off of at most
//! [`LONGEST`], and all others wait. It asks for the namespace kube-system, whose uid tells a cluster from another
//! (KEP-2149): an address behind which another cluster answers, as after a rebuild, or by a wrong entry in somebody's
//! DNS, must neither mix two clusters nor empty this node at once. Nothing of another cluster is read before it has
//! been there for [`ANOTHER_STAYS`] on end; then it counts, and what was known goes with the first lists. A server that
//! does not say which it is does not answer: only one that refuses to (401, 403) goes on as the one that is known, and
//! not where another one was seen last, be it by another token. Whoever writes has the client with the answer, and not
//! before.
//!
//! Another configuration takes the place of the one in use when it could be read; until then what is wrong with it is
//! told, and all goes on.
//!
//! After a doubt it asks by a list of that one namespace, which tells the server's version, too: whoever knows a later
//! one lists anew, because a watch from the future may hang for ever. Versions of two kinds come from one store in
//! nearly every cluster (they need not, says KEP-5504); where they do not, that costs a list.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, ObjectMeta};
use kube::Client;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use crate::backoff::{Backoff, Jitter};
use crate::keeper::Message;
use crate::kubeconfig::{self, Configured, Fields, Stamps};
use crate::request::{self, Failure};
use crate::version::Version;

const FIRST: Duration = Duration::from_millis(500);
/// Longest wait between two attempts.
pub(crate) const LONGEST: Duration = Duration::from_secs(30);
/// How long another cluster must be there before it counts.
pub(crate) const ANOTHER_STAYS: Duration = Duration::from_secs(60);
/// How often it is asked meanwhile.
const ANOTHER_INTERVAL: Duration = Duration::from_secs(10);
/// How often files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Longest time to an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the client comes from.
pub(crate) enum Origin {
    /// A kubeconfig, or the service account.
    Files(Option<PathBuf>),
    Given(Client),
}

/// Whether the server can be asked.
#[derive(Clone)]
pub(crate) enum Reach {
    /// It is being asked whether it can.
    Asking,
    /// Not now; why.
    Down(Arc<str>),
    Up(Box<Up>),
}

/// A server that answers.
#[derive(Clone)]
pub(crate) struct Up {
    pub(crate) configured: Configured,
    /// Another number for another cluster, and for another configuration.
    pub(crate) place: Place,
    /// When it was asked.
    pub(crate) asked: Instant,
    /// It said which cluster it is, and did not refuse to.
    pub(crate) is_identified: bool,
    /// The version it had come to then, if it was asked for that.
    pub(crate) version: Option<Version>,
}

/// Which cluster is spoken with, and by which configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) cluster: u64,
    configuration: u64,
}

/// What those hold who speak with the server.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) reach: watch::Receiver<Reach>,
    doubts: mpsc::Sender<Instant>,
}

impl Link {
    /// Waits until what is spoken with is elsewhere; for ever if it stays. Cancel-safe.
    pub(crate) async fn moved(&self, from: Place) {
        let mut reach = self.reach.clone();
        let is_elsewhere = |reach: &Reach| matches!(reach, Reach::Up(up) if up.place != from);
        if reach.wait_for(is_elsewhere).await.is_err() {
            std::future::pending().await
        }
    }

    /// Has the server asked once more, and waits for what comes of it: nothing, if it does not answer, or what is spoken
    /// with is elsewhere.
    pub(crate) async fn ask_again(&self, place: Place) -> Option<Up> {
        let doubted = Instant::now();
        let mut reach = self.reach.clone();
        let is_answered = |reach: &Reach| match reach {
            Reach::Asking => false,
            Reach::Down(_) => true,
            Reach::Up(up) => up.asked >= doubted,
        };
        let doubt = async {
            _ = self.doubts.send(doubted).await;
            std::future::pending().await
        };
        let answered = tokio::select! {
            answered = reach.wait_for(is_answered) => answered,
            never = doubt => never,
        };
        match answered.as_deref() {
            Ok(Reach::Up(up)) if up.place == place => Some(Up::clone(up)),
            _ => None,
        }
    }

    /// The server did not answer, or a stream of it broke off: it is asked again before anybody else speaks with it.
    /// One doubt of many about the same time counts.
    pub(crate) fn doubt(&self) {
        // When there is no room, others have doubts enough.
        _ = self.doubts.try_send(Instant::now());
    }
}

/// The task.
pub(crate) struct Connection {
    configurations: Configurations,
    server: Server,
}

/// What is spoken with.
struct Server {
    reach: watch::Sender<Reach>,
    /// Of a server that said that it is the one whose objects are known, or need not say so: nobody else writes.
    clients: watch::Sender<Option<Client>>,
    doubts: mpsc::Receiver<Instant>,
    keeper: mpsc::Sender<Message>,
    /// The uid of kube-system whose objects are known.
    identity: Option<String>,
    /// Who is there in its place.
    another: Option<Another>,
    jitter: Jitter,
    has_asked: bool,
    place: Place,
}

/// A cluster that is not the one whose objects are known.
struct Another {
    /// Where it was seen.
    server: String,
    uid: String,
    /// Since when each answer was its own; `None`: the last one was not, and said nothing else.
    since: Option<Instant>,
}

/// What says how to reach it.
struct Configurations {
    origin: Origin,
    jitter: Jitter,
    backoff: Backoff,
    read: Option<Read>,
}

/// How it went to read one.
struct Read {
    stamps: Option<Stamps>,
    /// Another attempt after that, though nothing has changed: it failed.
    again: Option<Duration>,
}

impl Connection {
    pub(crate) fn new(
        origin: Origin,
        identity: Option<String>,
        clients: watch::Sender<Option<Client>>,
        keeper: mpsc::Sender<Message>,
        jitter: Jitter,
    ) -> (Connection, Link) {
        let (reach, seen) = watch::channel(Reach::Asking);
        let (doubt, doubts) = mpsc::channel(32);
        let (another, has_asked, place) = (None, false, Place::default());
        let backoff = Backoff::new(FIRST, LONGEST);
        let configurations = Configurations { origin, jitter: jitter.clone(), backoff, read: None };
        let server = Server { reach, clients, doubts, keeper, identity, another, jitter, has_asked, place };
        (Connection { configurations, server }, Link { reach: seen, doubts: doubt })
    }

    /// Ends when nobody keeps what it finds any more.
    pub(crate) async fn run(self) {
        let Connection { mut configurations, mut server } = self;
        let mut configured = loop {
            match configurations.next().await {
                Ok(configured) => break configured,
                Err(what) => server.fail(what).await,
            }
            if server.keeper.is_closed() {
                return;
            }
        };
        while !server.keeper.is_closed() {
            let keeper = server.keeper.clone();
            let next = {
                let mut serving = pin!(server.serve(&configured));
                loop {
                    tokio::select! {
                        () = &mut serving => return,
                        next = configurations.next() => match next {
                            Ok(next) => break next,
                            Err(what) => {
                                // Nobody keeps it any more: the loops look at that.
                                _ = keeper.send(Message::Configuration(Some(what))).await;
                            }
                        }
                    }
                }
            };
            _ = keeper.send(Message::Configuration(None)).await;
            configured = next;
        }
    }
}

impl Configurations {
    /// Waits until there is another one, or one that cannot be used; why. Cancel-safe.
    async fn next(&mut self) -> Result<Configured, String> {
        let path = match &self.origin {
            Origin::Given(_) if self.read.is_some() => return std::future::pending().await,
            Origin::Given(client) => {
                let (client, server, fields) = (client.clone(), String::new(), Fields::default());
                self.read = Some(Read { stamps: None, again: None });
                return Ok(Configured { client, server, fields });
            }
            Origin::Files(path) => path.clone(),
        };
        match &self.read {
            None => {}
            Some(Read { stamps, again: None }) => changed(stamps.clone()).await,
            Some(Read { stamps, again: Some(wait) }) => tokio::select! {
                () = sleep(*wait) => {}
                () = changed(stamps.clone()) => {}
            },
        }
        let read = spawn_blocking(move || kubeconfig::read(path.as_deref())).await;
        let (found, stamps) = match read {
            Ok((found, stamps)) => (found, Some(stamps)),
            Err(error) => (Err(error.to_string()), None),
        };
        let again = match &found {
            Ok(_) => {
                self.backoff.reset();
                None
            }
            Err(_) => Some(self.backoff.failed(&mut self.jitter)),
        };
        self.read = Some(Read { stamps, again });
        found
    }
}

impl Server {
    /// Asks whenever there is a doubt.
    async fn serve(&mut self, configured: &Configured) {
        self.place.configuration += 1;
        self.tell(Message::Server(Some(configured.server.clone()))).await;
        let mut backoff = Backoff::new(FIRST, LONGEST);
        let mut is_published = false;
        // Of what is at another address that says nothing.
        self.another.take_if(|another| another.server != configured.server);
        self.reach.send_replace(Reach::Asking);
        while !self.keeper.is_closed() {
            let asked = Instant::now();
            let answer = ask(configured, !self.has_asked).await;
            if !matches!(answer, Ok(Answer::Cluster { .. }))
                && let Some(another) = &mut self.another
            {
                another.since = None;
            }
            let (identity, version) = match answer {
                Ok(Answer::Cluster { uid, version }) => (Some(uid), version),
                // It is another one as long as it does not say that it is not.
                Ok(Answer::Refused(what)) if self.another.is_some() => {
                    self.fail(what).await;
                    sleep(self.jitter.spread(ANOTHER_INTERVAL)).await;
                    continue;
                }
                Ok(Answer::Refused(_)) => (None, None),
                Err(Unanswered { what, pause }) => {
                    self.fail(what).await;
                    let pause = pause.map(|pause| pause + self.jitter.up_to(Duration::from_secs(1)));
                    sleep(backoff.failed(&mut self.jitter).max(pause.unwrap_or_default())).await;
                    continue;
                }
            };
            if let (Some(found), Some(known)) = (&identity, &self.identity)
                && found != known
            {
                let before = self.another.as_ref().filter(|another| another.uid == *found);
                let since = before.and_then(|another| another.since).unwrap_or_else(Instant::now);
                let (server, uid) = (configured.server.clone(), found.clone());
                self.another = Some(Another { server, uid, since: Some(since) });
                // Nobody writes to a cluster that is not the one whose objects are known.
                self.clients.send_if_modified(|client| client.take().is_some());
                is_published = false;
                if since.elapsed() < ANOTHER_STAYS {
                    let what = format!(
                        "{} is another cluster: the uid of namespace kube-system is {found}, not {known}; what is known \
                         stays until it has been so for {} s",
                        configured.server,
                        ANOTHER_STAYS.as_secs()
                    );
                    self.fail(what).await;
                    sleep(self.jitter.spread(ANOTHER_INTERVAL)).await;
                    continue;
                }
                tracing::warn!(from = known, to = found, "another cluster counts from now on");
                self.place.cluster += 1;
                self.tell(Message::AnotherCluster).await;
            }
            self.another = None;
            if !is_published {
                self.clients.send_replace(Some(configured.client.clone()));
                is_published = true;
            }
            let is_identified = identity.is_some();
            if let Some(identity) = identity {
                self.identity = Some(identity.clone());
                self.tell(Message::Identity(identity)).await;
            }
            self.tell(Message::Trouble(None)).await;
            backoff.reset();
            self.has_asked = true;
            let up = Up { configured: configured.clone(), place: self.place, asked, is_identified, version };
            self.reach.send_replace(Reach::Up(Box::new(up)));
            loop {
                match self.doubts.recv().await {
                    Some(at) if at > asked => break,
                    // What was doubted before it was asked last.
                    Some(_) => {}
                    None => return,
                }
            }
            self.reach.send_replace(Reach::Asking);
        }
    }

    async fn fail(&mut self, what: String) {
        self.reach.send_replace(Reach::Down(what.as_str().into()));
        self.tell(Message::Trouble(Some(what))).await;
    }

    async fn tell(&self, message: Message) {
        // Nobody keeps it any more: the loops look at that.
        _ = self.keeper.send(message).await;
    }
}

/// Waits until files have changed; for ever if there is none.
async fn changed(stamps: Option<Stamps>) {
    let Some(stamps) = stamps else { return std::future::pending().await };
    loop {
        sleep(LOOK_INTERVAL).await;
        let stamps = stamps.clone();
        if !matches!(spawn_blocking(move || stamps.are_current()).await, Ok(true)) {
            return;
        }
    }
}

/// What the server says of itself.
#[derive(Debug, PartialEq)]
enum Answer {
    Cluster {
        /// Of kube-system.
        uid: String,
        version: Option<Version>,
    },
    /// It does not let us ask, in its words: it is for those who list to say what they may not.
    Refused(String),
}

/// Why it says nothing. Any other answer than those above is as good as none: a proxy with no server behind it says 404,
/// and a server that begins to serve says 429 before it knows what it has.
struct Unanswered {
    what: String,
    /// The pause that it asks for.
    pause: Option<Duration>,
}

async fn ask(configured: &Configured, is_first: bool) -> Result<Answer, Unanswered> {
    let asked = match is_first {
        true => get(configured).await,
        false => list(configured).await,
    };
    let asked = match asked {
        // Whoever may list them need not be allowed to get one.
        Err(Failure::Refused(_)) if is_first => list(configured).await,
        asked => asked,
    };
    let (what, pause) = match asked {
        Ok(answer) => return Ok(answer),
        Err(Failure::Refused(what)) => return Ok(Answer::Refused(what)),
        Err(Failure::Throttled(what, pause)) => (what, Some(pause)),
        Err(Failure::Silent) => (format!("{}: no answer", configured.server), None),
        Err(
            Failure::Unreachable(what)
            | Failure::Missing(what)
            | Failure::Gone(what)
            | Failure::Behind(what)
            | Failure::Invalid(what)
            | Failure::Faulty(what)
            | Failure::Torn(what)
            | Failure::Older(what),
        ) => (what, None),
    };
    Err(Unanswered { what, pause })
}

async fn get(configured: &Configured) -> Result<Answer, Failure> {
    let (path, verb) = ("/api/v1/namespaces/kube-system", "get namespaces");
    let text = request::get(configured, path, verb, PATIENCE).await?;
    let found: PartialObjectMetadata = read(verb, &text)?;
    answer(verb, Some(found), None)
}

async fn list(configured: &Configured) -> Result<Answer, Failure> {
    let verb = "list namespaces";
    let path = "/api/v1/namespaces?fieldSelector=metadata.name%3Dkube-system&limit=1";
    let text = request::get(configured, path, verb, PATIENCE).await?;
    let NamespaceList { metadata, items } = read(verb, &text)?;
    let version = metadata.resource_version.as_deref().map(Version::new);
    answer(verb, items.into_iter().next(), version)
}

fn read<'a, T: Deserialize<'a>>(verb: &str, text: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(text).map_err(|error| Failure::Torn(format!("{verb}: {error}")))
}

fn answer(
    verb: &str,
    found: Option<PartialObjectMetadata>,
    version: Option<Version>,
) -> Result<Answer, Failure> {
    let found = found.filter(|found| found.metadata.name.as_deref() == Some("kube-system"));
    let uid = found.and_then(|found| found.metadata.uid).filter(|uid| !uid.is_empty());
    let uid = uid.ok_or_else(|| Failure::Torn(format!("{verb}: it does not show kube-system")))?;
    Ok(Answer::Cluster { uid, version })
}

/// Of one namespace, or of none.
#[derive(Deserialize)]
struct NamespaceList {
    metadata: ListMeta,
    #[serde(default)]
    items: Vec<PartialObjectMetadata>,
}

#[derive(Deserialize)]
struct PartialObjectMetadata {
    metadata: ObjectMeta,
}
