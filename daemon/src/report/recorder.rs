//! Writes what [`events`](super::events) has to say, as `events.k8s.io/v1`.
//!
//! An Event about what all nodes see, as a BGPClusterConfig with a fault, is written by three of them, and by the one
//! that writes its conditions, as a rule one of these; and they give it one name: the server keeps one. An object of one
//! node is that node's matter.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use cambric_kube::{DocumentId, Picture};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::task::yield_now;
use tokio::time::Instant;

use super::Troubles;
use super::conditions::turn::{Order, Place};
use super::events::{About, Events, Happening, Key, Moment, New, Outcome, Severity, Write};
use super::words;
use super::write::{Backoff, Content, Refusal, at, hash, request};
use crate::objects::{Kind, ObjectRef, Problem};

const CONTROLLER: &str = "cambric.dev/cambricd";
/// How many nodes speak of what all of them see: one of them may be off.
const SPEAKERS: usize = 3;
/// Of what happens to all nodes at once, as an outage of the server and its end, so many nodes a second tell,
const NODES_A_SECOND: f64 = 20.0;
/// and each of them within this time.
const LONGEST_TURN: Duration = Duration::from_secs(600);
/// Happenings that wait to be looked at: more than there are objects with faults on a bad day.
const MOST_WAITING: usize = 8192;
/// So many are looked at before others have their turn.
const BETWEEN_YIELDS: usize = 64;
/// Where Events about what is in no namespace are.
const DEFAULT_NAMESPACE: &str = "default";
/// The longest name of an object, less what is put behind it.
const MOST_NAME_OCTETS: usize = 253 - 17;

/// Whom everybody on the node tells; clones speak of the same. Telling never waits, and costs little: whether this node
/// speaks of an object is found out by the task.
#[derive(Debug, Clone)]
pub(crate) struct Teller {
    node: String,
    events: Arc<Mutex<Events>>,
    /// Told of objects, and not looked at yet: the latest of each.
    waiting: Arc<Mutex<BTreeMap<Key, Happening>>>,
    changed: Arc<Notify>,
    pictures: watch::Receiver<Arc<Picture>>,
}

impl Teller {
    pub(crate) fn new(node: String, pictures: watch::Receiver<Arc<Picture>>) -> Teller {
        let events = Arc::new(Mutex::new(Events::new(Instant::now())));
        Teller { node, events, waiting: Arc::default(), changed: Arc::default(), pictures }
    }

    /// This node.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// It has happened.
    pub(crate) fn tell(&self, happening: Happening) {
        match &happening.about {
            About::Node => lock(&self.events).note(Moment::now(), happening),
            About::Object(_) => {
                let (about, reason) = (happening.about.clone(), happening.reason);
                let key = Key { about, reason, subject: happening.subject.clone() };
                let mut waiting = lock(&self.waiting);
                // What is over it is in the log, and among the problems.
                if waiting.len() < MOST_WAITING || waiting.contains_key(&key) {
                    waiting.insert(key, happening);
                }
            }
        }
        self.changed.notify_one();
    }

    /// This node has judged an object for all, and speaks of it, too, if others do so as a rule: they may have no daemon.
    pub(crate) fn speak_of(&self, problem: &Problem) {
        let happening = words::problem(problem, &self.node);
        let picture = Arc::clone(&self.pictures.borrow());
        let is_told = match &happening.about {
            About::Node => true,
            About::Object(of) => Speakers::new(&self.node, &picture).are_we(of),
        };
        if !is_told {
            lock(&self.events).note(Moment::now(), happening);
            self.changed.notify_one();
        }
    }

    /// It has happened to all nodes alike: they tell of it one after the other.
    pub(crate) fn tell_in_turn(&self, happening: Happening) {
        lock(&self.events).note_for_later(Moment::now(), happening, self.turn());
        self.changed.notify_one();
    }

    /// How long this node waits until others have told: another time on each, the longer the more nodes there are.
    fn turn(&self) -> Duration {
        let picture = Arc::clone(&self.pictures.borrow());
        let nodes = picture.documents.iter().filter(|(id, _)| &*id.kind == "Node").count();
        let all = Duration::from_secs_f64(nodes as f64 / NODES_A_SECOND).min(LONGEST_TURN);
        all.mul_f64((hash([self.node.as_str(), "turn"]) % 1000) as f64 / 1000.0)
    }

    /// Notes what was told of objects, where it is this node that speaks of them.
    async fn sort_out(&self) {
        let waiting = mem::take(&mut *lock(&self.waiting));
        if waiting.is_empty() {
            return;
        }
        let picture = Arc::clone(&self.pictures.borrow());
        let speakers = Speakers::new(&self.node, &picture);
        for (at, happening) in waiting.into_values().enumerate() {
            if at % BETWEEN_YIELDS == 0 {
                yield_now().await;
            }
            if let About::Object(of) = &happening.about
                && speakers.are_we(of)
            {
                lock(&self.events).note(Moment::now(), happening);
            }
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who speaks of an object: the node whose it is, or three that all nodes choose alike.
struct Speakers<'a> {
    own: &'a str,
    picture: &'a Picture,
    order: Order,
}

impl<'a> Speakers<'a> {
    /// Ranks all nodes of a picture.
    fn new(own: &'a str, picture: &'a Picture) -> Speakers<'a> {
        let nodes = picture.documents.iter().filter(|(id, _)| &*id.kind == "Node");
        // What ranges they have stands in texts that are not read here.
        let order = Order::new(Place::with_pods(own), nodes.map(|(id, _)| Place::with_pods(&id.name)));
        Speakers { own, picture, order }
    }

    fn are_we(&self, of: &ObjectRef) -> bool {
        if matches!(of.kind, Kind::Node | Kind::BGPNodeOverride) {
            let node = DocumentId { kind: "Node".into(), name: of.name.as_str().into() };
            if of.name == self.own || self.picture.documents.get(&node).is_some() {
                return of.name == self.own;
            }
        }
        self.order.is_among(SPEAKERS, of)
    }
}

/// The task that writes.
pub(crate) struct Recorder {
    pub(crate) teller: Teller,
    pub(crate) clients: watch::Receiver<Option<Client>>,
    pub(crate) troubles: Troubles,
}

impl Recorder {
    /// Ends when the daemon does.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new(hash([self.teller.node.as_str(), "events"]));
        let mut not_before: Option<Instant> = None;
        loop {
            let client = self.clients.borrow_and_update().clone();
            self.teller.sort_out().await;
            let may_write = not_before.is_none_or(|until| until <= Instant::now());
            let next = if may_write { lock(&self.teller.events).poll_write(Moment::now()) } else { None };
            if let (Some(client), Some((key, write))) = (client.as_ref(), next) {
                match self.write(client, &key, &write).await {
                    Ok(outcome) => {
                        lock(&self.teller.events).handle_outcome(Instant::now(), &key, &write, outcome);
                        backoff.reset();
                        not_before = None;
                    }
                    Err(why) => {
                        tracing::debug!(error = %why, "an Event is not written yet");
                        // All nodes find that it is back, and none has anything that cannot wait.
                        not_before = Some(Instant::now() + backoff.pause() + self.teller.turn());
                    }
                }
                continue;
            }
            let due = lock(&self.teller.events).poll_timeout();
            let due =
                due.filter(|_| client.is_some()).map(|due| not_before.map_or(due, |until| until.max(due)));
            // All branches are cancel-safe: a watch, a permit and a timer.
            tokio::select! {
                changed = self.clients.changed() => {
                    if changed.is_err() { return }
                    let turn = Instant::now() + self.teller.turn();
                    not_before = not_before.map(|until| until.min(turn));
                }
                () = self.teller.changed.notified() => {}
                () = at(due) => {}
            }
        }
    }

    /// What came of it, or why it is to be tried again.
    async fn write(&self, client: &Client, key: &Key, write: &Write) -> Result<Outcome, Refusal> {
        let regarding = self.regarding(&key.about);
        let namespace = regarding["namespace"].as_str().unwrap_or(DEFAULT_NAMESPACE).to_owned();
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        let (what, answer, name) = match write {
            Write::Create(new) => {
                let name = self.name(key, new);
                let event = self.event(key, new, &name, &namespace, regarding);
                ("create events.events.k8s.io", request(client, &path, Content::Create(event)).await, name)
            }
            Write::Count { name, count, last } => {
                let series = json!({ "series": { "count": count, "lastObservedTime": micros(*last) } });
                let path = format!("{path}/{name}");
                (
                    "patch events.events.k8s.io",
                    request(client, &path, Content::Merge(series)).await,
                    name.clone(),
                )
            }
        };
        let trouble = answer.as_ref().err().and_then(|why| why.for_operator(what));
        self.troubles.set("events", trouble);
        match (answer, write) {
            (Ok(_), _) => Ok(Outcome::Written(name)),
            // Another node that speaks of the same was faster, or an answer was lost.
            (Err(Refusal::Conflict), Write::Create(_)) => Ok(Outcome::Written(name)),
            (Err(Refusal::NotFound), Write::Count { .. }) => Ok(Outcome::Gone),
            // Nothing is made in a namespace that goes, and nobody will look for it there.
            (Err(Refusal::Terminating), _) => Ok(Outcome::Refused),
            // Rights may differ between namespaces: others go on.
            (Err(Refusal::Forbidden(_)), _) => Ok(Outcome::Deferred),
            // There is no such namespace, or the Event is not as the server wants it.
            (Err(Refusal::NotFound | Refusal::Invalid(_)), _) => Ok(Outcome::Refused),
            (Err(why), _) => Err(why),
        }
    }

    fn regarding(&self, about: &About) -> Value {
        let node = ObjectRef { kind: Kind::Node, name: self.teller.node.clone() };
        let of = match about {
            About::Node => &node,
            About::Object(of) => of,
        };
        let (namespace, name) = match of.name.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, of.name.as_str()),
        };
        let id = DocumentId { kind: of.kind.to_string().into(), name: name.into() };
        let picture = self.teller.pictures.borrow();
        let uid = picture
            .documents
            .get(&id)
            .and_then(|object| object.value().pointer_mut("/metadata/uid").map(Value::take));
        let mut regarding =
            json!({ "apiVersion": api_version(of.kind), "kind": of.kind.to_string(), "name": name });
        if let Some(namespace) = namespace {
            regarding["namespace"] = namespace.into();
        }
        if let Some(uid) = uid.filter(|_| namespace.is_none()) {
            regarding["uid"] = uid;
        }
        regarding
    }

    /// The same on all nodes that speak of an object, for ten minutes; another one on each node and for each time
    /// where it is about the node.
    fn name(&self, key: &Key, new: &New) -> String {
        let since_1970 = new.first.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (object, moment) = match &key.about {
            About::Node => (&self.teller.node, since_1970.as_nanos()),
            About::Object(of) => (&of.name, u128::from(since_1970.as_secs() / 600)),
        };
        let object = object.rsplit('/').next().unwrap_or_default();
        let object: String = object.chars().take(MOST_NAME_OCTETS).collect();
        let hash = hash([object.as_str(), key.reason, &key.subject, &new.note, &moment.to_string()]);
        format!("{}.{hash:016x}", object.trim_end_matches(['.', '-']))
    }

    fn event(&self, key: &Key, new: &New, name: &str, namespace: &str, regarding: Value) -> Value {
        let mut event = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": { "name": name, "namespace": namespace },
            "eventTime": micros(new.first),
            "type": match new.severity { Severity::Normal => "Normal", Severity::Warning => "Warning" },
            "reason": key.reason,
            "action": new.action,
            "note": new.note,
            "regarding": regarding,
            "reportingController": CONTROLLER,
            // At most 128 octets, and the name of a node may have 253.
            "reportingInstance": self.teller.node.chars().take(128).collect::<String>(),
        });
        if new.count > 1 {
            event["series"] = json!({ "count": new.count, "lastObservedTime": micros(new.last) });
        }
        event
    }
}

fn api_version(kind: Kind) -> &'static str {
    match kind {
        Kind::Node | Kind::Pod | Kind::Namespace | Kind::Secret | Kind::Service => "v1",
        Kind::EndpointSlice => "discovery.k8s.io/v1",
        Kind::NetworkPolicy => "networking.k8s.io/v1",
        _ => crate::kinds::API_VERSION,
    }
}

/// metav1.MicroTime: always six digits.
fn micros(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn picture(nodes: usize) -> Picture {
        let mut picture = Picture::default();
        for node in 0..nodes {
            let id = DocumentId { kind: "Node".into(), name: format!("n{node}").into() };
            picture.documents.insert(id, cambric_kube::Json::new(&json!({})));
        }
        picture
    }

    fn speakers(of: &ObjectRef, nodes: usize) -> BTreeSet<String> {
        let picture = picture(nodes);
        let names = (0..nodes).map(|node| format!("n{node}"));
        names.filter(|name| Speakers::new(name, &picture).are_we(of)).collect()
    }

    #[test]
    fn three_of_5000_nodes_speak_of_what_all_see() {
        let config = ObjectRef { kind: Kind::BGPClusterConfig, name: "c".to_owned() };
        assert_eq!(speakers(&config, 500).len(), SPEAKERS);
        assert_eq!(speakers(&config, 2).len(), 2);
        let other = ObjectRef { kind: Kind::BGPClusterConfig, name: "d".to_owned() };
        assert_ne!(speakers(&config, 500), speakers(&other, 500), "not always the same ones");
    }

    #[test]
    fn a_node_speaks_of_its_own_objects_and_three_of_those_of_a_node_that_is_none() {
        let of = |name: &str| ObjectRef { kind: Kind::BGPNodeOverride, name: name.to_owned() };
        assert_eq!(speakers(&of("n7"), 100), BTreeSet::from(["n7".to_owned()]));
        assert_eq!(speakers(&of("elsewhere"), 100).len(), SPEAKERS);
    }

    #[tokio::test]
    async fn what_thousands_of_problems_come_to_is_found_out_by_the_task_and_not_where_they_are_told() {
        let (_pictures, shown) = watch::channel(Arc::new(picture(5000)));
        let teller = Teller::new("n7".to_owned(), shown);
        for at in 0..2 * MOST_WAITING {
            let of = ObjectRef { kind: Kind::BGPPeerConfig, name: format!("p{at}") };
            teller.tell(Happening {
                about: About::Object(of),
                severity: Severity::Warning,
                reason: "Invalid",
                action: "Configuring",
                subject: "s".to_owned(),
                note: "n".to_owned(),
            });
        }
        assert_eq!(lock(&teller.waiting).len(), MOST_WAITING, "no more wait");
        assert_eq!(lock(&teller.events).poll_timeout(), None, "nobody has looked yet");
        teller.sort_out().await;
        assert!(lock(&teller.waiting).is_empty());
        assert!(lock(&teller.events).poll_timeout().is_some(), "some of so many are this node's to tell");
    }

    #[test]
    fn what_happens_to_5000_nodes_is_told_by_20_of_them_a_second() {
        let (_pictures, shown) = watch::channel(Arc::new(picture(5000)));
        let turn = |node: usize| Teller::new(format!("n{node}"), shown.clone()).turn();
        let turns: Vec<Duration> = (0..1000).map(turn).collect();
        for start in (0..250).step_by(50).map(Duration::from_secs) {
            let at_that_time = start..start + Duration::from_secs(50);
            let number = turns.iter().filter(|turn| at_that_time.contains(*turn)).count();
            assert!((150..250).contains(&number), "{number} of 1000 in a fifth of the time");
        }
        let (_pictures, shown) = watch::channel(Arc::new(picture(10)));
        assert!(Teller::new("n1".to_owned(), shown).turn() < Duration::from_secs(1));
    }

    #[test]
    fn times_have_six_digits_after_the_second() {
        assert_eq!(micros(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00.000000Z");
    }
}
