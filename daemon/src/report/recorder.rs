//! Writes what [`events`](super::events) has to say, as `events.k8s.io/v1`.
//!
//! An Event about what all nodes see, as a BGPClusterConfig with a fault, is written by three of them, and all three
//! give it one name: the server keeps one. An object of one node is that node's matter.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use cambric_kube::{DocumentId, Picture};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::Troubles;
use super::events::{About, Events, Happening, Key, Moment, New, Outcome, Severity, Write};
use super::write::{Backoff, Content, Refusal, at, hash, request};
use crate::objects::{Kind, ObjectRef};

const CONTROLLER: &str = "cambric.dev/cambricd";
/// How many nodes speak of what all of them see: one of them may be off.
const SPEAKERS: usize = 3;
/// Where Events about what is in no namespace are.
const DEFAULT_NAMESPACE: &str = "default";
/// The longest name of an object, less what is put behind it.
const MOST_NAME_OCTETS: usize = 253 - 17;

/// Whom everybody on the node tells; clones speak of the same. Telling never waits.
#[derive(Debug, Clone)]
pub(crate) struct Teller {
    node: String,
    events: Arc<Mutex<Events>>,
    changed: Arc<Notify>,
    pictures: watch::Receiver<Arc<Picture>>,
}

impl Teller {
    pub(crate) fn new(node: String, pictures: watch::Receiver<Arc<Picture>>) -> Teller {
        let events = Arc::new(Mutex::new(Events::new(Instant::now())));
        Teller { node, events, changed: Arc::default(), pictures }
    }

    /// This node.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// It has happened.
    pub(crate) fn tell(&self, happening: Happening) {
        let is_ours = match &happening.about {
            About::Node => true,
            About::Object(of) => speaks_for(of, &self.node, &self.pictures.borrow()),
        };
        if is_ours {
            self.events().note(Moment::now(), happening);
            self.changed.notify_one();
        }
    }

    fn events(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `own` is one of the nodes that speak of an object: its own one, or three that all nodes choose alike.
pub(crate) fn speaks_for(of: &ObjectRef, own: &str, picture: &Picture) -> bool {
    let is_of_one = matches!(of.kind, Kind::Node | Kind::BGPNodeOverride);
    if is_of_one && of.name == own {
        return true;
    }
    let nodes = picture.documents.iter().filter(|(id, _)| &*id.kind == "Node").map(|(id, _)| &*id.name);
    let rank = |node: &str| (hash([node, &of.to_string()]), node.to_owned());
    let own_rank = rank(own);
    let mut before = 0;
    for node in nodes {
        if is_of_one && node == of.name {
            return false;
        }
        before += usize::from(rank(node) < own_rank);
    }
    before < SPEAKERS
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
            let may_write = not_before.is_none_or(|until| until <= Instant::now());
            let next = if may_write { self.teller.events().poll_write(Moment::now()) } else { None };
            if let (Some(client), Some((key, write))) = (client.as_ref(), next) {
                match self.write(client, &key, &write).await {
                    Ok(outcome) => {
                        self.teller.events().handle_outcome(Instant::now(), &key, &write, outcome);
                        backoff.reset();
                        not_before = None;
                    }
                    Err(why) => {
                        tracing::debug!(error = %why, "an Event is not written yet");
                        not_before = Some(Instant::now() + backoff.pause());
                    }
                }
                continue;
            }
            let due = self.teller.events().poll_timeout();
            let due =
                due.filter(|_| client.is_some()).map(|due| not_before.map_or(due, |until| until.max(due)));
            // All branches are cancel-safe: a watch, a permit and a timer.
            tokio::select! {
                changed = self.clients.changed() => {
                    if changed.is_err() { return }
                    not_before = None;
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
        let uid = picture.documents.get(&id).and_then(|object| object.pointer("/metadata/uid"));
        let mut regarding =
            json!({ "apiVersion": api_version(of.kind), "kind": of.kind.to_string(), "name": name });
        if let Some(namespace) = namespace {
            regarding["namespace"] = namespace.into();
        }
        if let Some(uid) = uid.filter(|_| namespace.is_none()) {
            regarding["uid"] = uid.clone();
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
        Kind::Node | Kind::Pod | Kind::Namespace => "v1",
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
            picture.documents.insert(id, Arc::new(json!({})));
        }
        picture
    }

    fn speakers(of: &ObjectRef, nodes: usize) -> BTreeSet<String> {
        let picture = picture(nodes);
        let names = (0..nodes).map(|node| format!("n{node}"));
        names.filter(|name| speaks_for(of, name, &picture)).collect()
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

    #[test]
    fn times_have_six_digits_after_the_second() {
        assert_eq!(micros(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00.000000Z");
    }
}
