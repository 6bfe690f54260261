//! Whether there is a server to speak with, and whether it is the one whose objects are known.
//!
//! One task asks for all kinds: while the server does not answer, it alone tries, with a jittered back-off of at most
//! [`LONGEST`], and all others wait. It asks for the namespace kube-system, whose uid tells a cluster from another
//! (KEP-2149): an address behind which another cluster answers, as after a rebuild, or by a wrong entry in somebody's
//! DNS, must neither mix two clusters nor empty this node at once. Nothing of another cluster is read before it has
//! been there for [`ANOTHER_STAYS`]; then it counts, and what was known goes with the first lists.
//!
//! After a doubt it asks by a list of that one namespace, which tells the server's version, too: whoever knows a later
//! one lists anew, because a watch from the future may hang for ever. Versions of two kinds come from one store in
//! nearly every cluster (they need not, says KEP-5504); where they do not, that costs a list.

use std::path::PathBuf;
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
    /// The version it had come to when it was asked, which was then.
    pub(crate) version: Option<(Version, Instant)>,
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

    /// Whether what was asked there still counts; waits while that is being asked.
    pub(crate) async fn is_at(&self, place: Place) -> bool {
        let mut reach = self.reach.clone();
        let known = reach.wait_for(|reach| !matches!(reach, Reach::Asking)).await;
        matches!(known.as_deref(), Ok(Reach::Up(up)) if up.place == place)
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
    origin: Origin,
    reach: watch::Sender<Reach>,
    clients: watch::Sender<Option<Client>>,
    doubts: mpsc::Receiver<Instant>,
    keeper: mpsc::Sender<Message>,
    /// The uid of kube-system whose objects are known.
    identity: Option<String>,
    jitter: Jitter,
    has_asked: bool,
    place: Place,
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
        let (has_asked, place) = (false, Place::default());
        let connection =
            Connection { origin, reach, clients, doubts, keeper, identity, jitter, has_asked, place };
        (connection, Link { reach: seen, doubts: doubt })
    }

    /// Ends when nobody keeps what it finds any more.
    pub(crate) async fn run(mut self) {
        while !self.keeper.is_closed() {
            let (configured, stamps) = self.configured().await;
            self.place.configuration += 1;
            self.clients.send_replace(Some(configured.client.clone()));
            self.tell(Message::Server(Some(configured.server.clone()))).await;
            tokio::select! {
                () = changed(stamps) => {}
                () = self.serve(&configured) => return,
            }
        }
    }

    /// Waits until there is a configuration that can be used.
    async fn configured(&mut self) -> (Configured, Option<Stamps>) {
        let path = match &self.origin {
            Origin::Given(client) => {
                let (client, server, fields) = (client.clone(), String::new(), Fields::default());
                return (Configured { client, server, fields }, None);
            }
            Origin::Files(path) => path.clone(),
        };
        let mut backoff = Backoff::new(FIRST, LONGEST);
        loop {
            let path = path.clone();
            let read = spawn_blocking(move || kubeconfig::read(path.as_deref())).await;
            let (what, stamps) = match read {
                Ok((Ok(configured), stamps)) => return (configured, Some(stamps)),
                Ok((Err(what), stamps)) => (what, Some(stamps)),
                Err(error) => (error.to_string(), None),
            };
            self.clients.send_if_modified(|client| client.take().is_some());
            self.tell(Message::Server(None)).await;
            self.fail(what).await;
            let wait = backoff.failed(&mut self.jitter);
            tokio::select! {
                () = sleep(wait) => {}
                () = changed(stamps) => {}
            }
        }
    }

    /// Asks whenever there is a doubt.
    async fn serve(&mut self, configured: &Configured) {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        let mut another: Option<(String, Instant)> = None;
        self.reach.send_replace(Reach::Asking);
        while !self.keeper.is_closed() {
            let asked = Instant::now();
            let Answer { uid: identity, version } = match ask(configured, !self.has_asked).await {
                Ok(answer) => answer,
                Err(what) => {
                    self.fail(what).await;
                    sleep(backoff.failed(&mut self.jitter)).await;
                    continue;
                }
            };
            if let (Some(found), Some(known)) = (&identity, &self.identity)
                && found != known
            {
                let since = match &another {
                    Some((uid, since)) if uid == found => *since,
                    _ => Instant::now(),
                };
                another = Some((found.clone(), since));
                // Nobody writes to a cluster that is not the one whose objects are known.
                self.clients.send_if_modified(|client| client.take().is_some());
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
            if another.take().is_some() {
                self.clients.send_replace(Some(configured.client.clone()));
            }
            if let Some(identity) = identity {
                self.identity = Some(identity.clone());
                self.tell(Message::Identity(identity)).await;
            }
            self.tell(Message::Trouble(None)).await;
            backoff.reset();
            self.has_asked = true;
            let version = version.map(|version| (version, asked));
            let up = Up { configured: configured.clone(), place: self.place, version };
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

/// What the server says of itself. Nothing, if it answers and does not say: it is for those who list to say what they
/// may not.
#[derive(Default)]
struct Answer {
    /// Of kube-system.
    uid: Option<String>,
    version: Option<Version>,
}

async fn ask(configured: &Configured, is_first: bool) -> Result<Answer, String> {
    let asked = match is_first {
        true => request::get(configured, "/api/v1/namespaces/kube-system", "get namespaces", PATIENCE).await,
        false => Err(Failure::Refused(String::new())),
    };
    let asked = match asked {
        // Whoever may list them need not be allowed to get one.
        Err(Failure::Refused(_)) => {
            let path = "/api/v1/namespaces?fieldSelector=metadata.name%3Dkube-system&limit=1";
            let listed = request::get(configured, path, "list namespaces", PATIENCE).await;
            listed.map(|text| {
                serde_json::from_slice::<NamespaceList>(&text).map(Answer::from).unwrap_or_default()
            })
        }
        asked => asked.map(|text| Answer {
            uid: serde_json::from_slice::<PartialObjectMetadata>(&text)
                .ok()
                .and_then(|found| found.metadata.uid),
            version: None,
        }),
    };
    match asked {
        Err(Failure::Unreachable(what) | Failure::Faulty(what) | Failure::Torn(what)) => Err(what),
        Err(Failure::Silent) => Err(format!("{}: no answer", configured.server)),
        Err(_) => Ok(Answer::default()),
        Ok(answer) => Ok(answer),
    }
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

impl From<NamespaceList> for Answer {
    fn from(list: NamespaceList) -> Answer {
        Answer {
            uid: list.items.into_iter().next().and_then(|item| item.metadata.uid),
            version: list.metadata.resource_version.as_deref().map(Version::new),
        }
    }
}
