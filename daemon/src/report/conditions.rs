//! The status of the objects that people write, without a leader.
//!
//! A daemon judges objects of ours by the problems of its view ([`verdict`]). A BGPNodeOverride is judged by the daemon
//! of its node, for nobody else knows all that is wrong with it: contradictions among a node's peers are found by that
//! node. Without such a Node, and of all other kinds, every daemon judges every object by the problems that all views of
//! the same objects have alike, but for what nodes remember: an object that counted before it got a fault counts as
//! before on a node that knew it, and not at all on a new one. So as a rule all nodes want to write the same, and now
//! and then two nodes want to write different things for ever. One of all should write, and nobody against the others
//! ([`turn`]):
//!
//! ```text
//!   status is of an older generation ----------------> whose turn it is writes
//!   own verdict has become another, or is the first --> whose turn it is writes
//!   somebody else has written since -----------------> nobody; what is there stands
//! ```
//!
//! Whose turn it is comes from a hash of object and node: the first of all nodes, those that have pods before others,
//! waits a second, the next two seconds longer, and so on; after the sixteenth more and more of them at a time, so that nobody waits for longer
//! than a minute where most nodes have no daemon. Whoever sees before his turn that it is written has nothing to do. So
//! of 5 000 nodes one writes, or two if the server is slow to tell. Who writes tells of the faults in Events, too, if the
//! three nodes that do so as a rule ([`recorder`](super::recorder)) have no daemon.
//!
//! Nobody answers what another one has written: only what happens to its own verdict makes a node write. Two nodes that
//! differ write once each at most for everything that happens, and not in turns.
//!
//! *Weak spots.* A node that is behind may write what it thought a moment ago; it corrects that when it comes to know
//! better, and nobody else does if it dies in that moment: then the status is wrong until the object is edited, or
//! until any daemon is started anew that thinks otherwise. Faults that objects of all nodes have at one node only, as a
//! peer of a BGPClusterConfig whose address is that node's own or that its BGPNodeOverride has, too, are no part of the
//! verdict ([`FoundBy::ThisNode`](crate::objects::FoundBy)): that node's log, its CLI and its Events tell of them. Of a
//! BGPNodeOverride nobody says anything while no daemon runs on its node.
//!
//! Before a write the object is read, once; it is written by a merge patch with the resourceVersion that was read.

pub(crate) mod turn;
pub(crate) mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cambric_kube::{DocumentId, Json, Shared};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use self::turn::{FIRST, Order, Place, Said, Turn};
use self::verdict::Verdict;
use super::Troubles;
use super::recorder::Teller;
use super::write::{Backoff, Content, Refusal, at, hash, request};
use crate::kinds::API_VERSION;
use crate::objects::{Kind, Node, ObjectRef, Problem, Shown};
use crate::source::Views;
use crate::view::{View, Workloads};

/// The shortest time between two looks at all objects.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
/// How many times somebody else may be faster before there is a pause.
const ATTEMPTS: u32 = 10;
/// When an object is tried again that the server would not have, or that somebody else is too fast for. It is twice as
/// long after each refusal; see [`latest`].
const LATER: Duration = Duration::from_secs(60);

/// The longest pause before an object that is refused is tried again. Where a right is missing all nodes are refused
/// alike: together they ask about once a second for each object, but none waits for longer than half an hour.
fn latest(nodes: usize) -> Duration {
    Duration::from_secs(nodes as u64).clamp(2 * LATER, 30 * LATER)
}

/// The kinds that are judged, with their names in paths.
const KINDS: [(&str, &str); 5] = [
    ("BGPClusterConfig", "bgpclusterconfigs"),
    ("BGPPeerConfig", "bgppeerconfigs"),
    ("BGPFilter", "bgpfilters"),
    ("BGPAdvertisement", "bgpadvertisements"),
    ("BGPNodeOverride", "bgpnodeoverrides"),
];

/// Writes verdicts when it is this node's turn.
pub(crate) struct Judge {
    /// This node.
    pub(crate) node: String,
    pub(crate) clients: watch::Receiver<Option<Client>>,
    /// What is judged: objects, and what was made of them.
    pub(crate) views: Views,
    pub(crate) teller: Teller,
    pub(crate) troubles: Troubles,
}

impl Judge {
    /// Ends when the daemon does.
    pub(crate) async fn run(mut self) {
        let mut turns = Turns::default();
        let mut backoff = Backoff::new(hash([self.node.as_str(), "conditions"]));
        let mut not_before: Option<Instant> = None;
        let mut seen: Option<View> = None;
        loop {
            if let Some(view) = self.another_view(seen.as_ref()) {
                turns.look(&self.node, &view, Instant::now());
                seen = Some(view);
            }
            let client = self.clients.borrow_and_update().clone();
            // What has passed is not waited for: that would be busy.
            not_before = not_before.filter(|until| *until > Instant::now());
            if let (Some(client), None) = (client, not_before) {
                match turns.write_what_is_due(&client, &self.teller).await {
                    Ok(0) => {}
                    Ok(_) => backoff.reset(),
                    Err(Failed { what, why }) => {
                        tracing::debug!(error = %why, what, "no status can be written now");
                        not_before = Some(Instant::now() + backoff.pause());
                    }
                }
            }
            self.troubles.set("conditions", turns.refused());
            let has_client = self.clients.borrow().is_some();
            let next = not_before.or_else(|| turns.next_due()).filter(|_| has_client);
            // All branches are cancel-safe: watches and a timer.
            tokio::select! {
                changed = self.clients.changed() => {
                    if changed.is_err() { return }
                    not_before = None;
                }
                changed = self.views.changed() => {
                    if changed.is_err() { return }
                    // Pods come and go all the time.
                    sleep(BETWEEN_LOOKS).await;
                }
                () = at(next) => {}
            }
        }
    }
}

impl Judge {
    /// The latest view, if it is another one than `seen` in what is judged.
    fn another_view(&mut self, seen: Option<&View>) -> Option<View> {
        let view = self.views.borrow_and_update();
        let view = view.as_ref()?;
        let is_same =
            |seen: &View| Arc::ptr_eq(&seen.fabric, &view.fabric) && seen.documents == view.documents;
        (!seen.is_some_and(is_same)).then(|| View { workloads: Workloads::default(), ..view.clone() })
    }
}

/// A request that was not served; `what` is its verb and resource.
struct Failed {
    what: String,
    why: Refusal,
}

/// Of all objects that are judged.
#[derive(Debug, Default)]
struct Turns {
    objects: BTreeMap<DocumentId, Judged>,
    /// The longest pause before one that is refused is tried again.
    latest: Duration,
}

/// One object, and not another of its name: that may be of another cluster behind the same address.
#[derive(Debug)]
struct Judged {
    uid: Option<String>,
    turn: Turn,
    /// What the verdict is made from.
    problems: Vec<Problem>,
    /// What the operator should mend before it can be written.
    refused: Option<String>,
    /// For as long as it is refused.
    backoff: Backoff,
}

impl Turns {
    fn look(&mut self, node: &str, view: &View, now: Instant) {
        let place = |name: &str| place(name, view.fabric.nodes.get(name));
        let order = Order::new(place(node), nodes(&view.documents).map(place));
        let problems = verdict::by_object(&view.fabric);
        let mut objects = BTreeMap::new();
        for (id, document) in view.documents.iter().filter(|(id, _)| plural(&id.kind).is_some()) {
            let Some(of) = verdict::object_of(&id.kind, &id.name) else { continue };
            let document = document.value();
            let problems = problems.get(&of).map(Vec::as_slice).unwrap_or_default();
            let verdict = Verdict::of(generation(&document), problems);
            let uid = uid(&document).map(str::to_owned);
            let before = self.objects.remove(id).filter(|before| before.uid == uid);
            let (mut before, refused, mut backoff) = match before {
                Some(Judged { turn, refused, backoff, .. }) => (Some(turn), refused, backoff),
                None => (None, None, Backoff::new(hash([node, &id.kind, &id.name]))),
            };
            let edited = before.as_mut().filter(|before| before.verdict.generation != verdict.generation);
            if let Some(edited) = edited.filter(|_| backoff.has_failed()) {
                // That may have mended it.
                edited.due = None;
                backoff.reset();
            }
            let whose = whose(&of, view);
            let wait = || if whose.is_some() { FIRST } else { order.wait(&of) };
            let mut turn = Turn::look(before, verdict, Said::by(&document), now, wait);
            turn.due = turn.due.filter(|_| whose.is_none_or(|whose| whose == node));
            let refused = refused.filter(|_| turn.due.is_some());
            let problems = problems.iter().copied().cloned().collect();
            objects.insert(id.clone(), Judged { uid, turn, problems, refused, backoff });
        }
        self.objects = objects;
        self.latest = latest(view.fabric.nodes.len());
    }

    fn next_due(&self) -> Option<Instant> {
        self.objects.values().filter_map(|judged| judged.turn.due).min()
    }

    /// What the operator should mend, with verb and resource; of many objects the first says it.
    fn refused(&self) -> Option<String> {
        self.objects.values().find_map(|judged| judged.refused.clone())
    }

    /// How many objects it was the turn of. One that the server will not have, or that an admission webhook forbids,
    /// keeps no other waiting.
    ///
    /// # Errors
    /// The server serves nobody now.
    async fn write_what_is_due(&mut self, client: &Client, teller: &Teller) -> Result<usize, Failed> {
        let mut looked_at = 0;
        let now = Instant::now();
        let is_due = |judged: &Judged| judged.turn.due.is_some_and(|due| due <= now);
        for (id, judged) in self.objects.iter_mut().filter(|(_, judged)| is_due(judged)) {
            let Some(plural) = plural(&id.kind) else { continue };
            let written = write(client, plural, &id.name, judged).await;
            let turn = &mut judged.turn;
            match written {
                Ok(said) => {
                    if said.is(&turn.verdict) {
                        judged.problems.iter().for_each(|problem| teller.speak_of(problem));
                    }
                    (turn.said, turn.due, judged.refused) = (said, None, None);
                    judged.backoff.reset();
                    looked_at += 1;
                }
                Err(
                    why @ Failed {
                        why: Refusal::Away(_) | Refusal::Throttled | Refusal::Unauthorized(_), ..
                    },
                ) => return Err(why),
                Err(Failed { what, why }) => {
                    tracing::debug!(error = %why, what, name = %id.name, "a status is not as it should be yet");
                    let pause = match &why {
                        Refusal::Conflict => LATER,
                        _ => judged.backoff.pause_between(LATER, self.latest),
                    };
                    turn.due = Some(now + pause);
                    judged.refused = why.for_operator(&what);
                }
            }
        }
        Ok(looked_at)
    }
}

/// Makes the object say the verdict, unless somebody else has written; what it says then.
async fn write(client: &Client, plural: &str, name: &str, judged: &Judged) -> Result<Said, Failed> {
    let turn = &judged.turn;
    let path = format!("/apis/{API_VERSION}/{plural}/{name}");
    let failed = |verb: &'static str, subresource: &'static str| {
        move |why| Failed { what: format!("{verb} {plural}.cambric.dev{subresource}"), why }
    };
    for _ in 0..ATTEMPTS {
        let found = match request(client, &path, Content::Read).await {
            // It is gone; the next view says so.
            Err(Refusal::NotFound) => return Ok(turn.said.clone()),
            found => found.map_err(failed("get", ""))?,
        };
        if uid(&found) != judged.uid.as_deref() {
            // Another object than was judged: a view that is behind, or another cluster. Looked at again later.
            return Err(failed("get", "")(Refusal::Conflict));
        }
        let said = Said::by(&found);
        if generation(&found) != turn.verdict.generation || !turn.may_write(&said) {
            return Ok(said);
        }
        let patch = turn.verdict.patch(&found, Timestamp::now());
        match request(client, &format!("{path}/status"), Content::Merge(patch)).await {
            Err(Refusal::Conflict) => {}
            // That it is gone the next view says; else its definition knows no status, and that may be mended.
            written => {
                let written = written.map_err(failed("patch", "/status"))?;
                tracing::debug!(kind = plural, name, "the status of an object was written");
                return Ok(Said::by(&written));
            }
        }
    }
    Err(failed("patch", "/status")(Refusal::Conflict))
}

fn plural(kind: &str) -> Option<&'static str> {
    KINDS.iter().find(|(known, _)| *known == kind).map(|(_, plural)| *plural)
}

/// The one node whose daemon may speak of an object, if there is one.
fn whose<'a>(of: &'a ObjectRef, view: &View) -> Option<&'a str> {
    let node = DocumentId { kind: "Node".into(), name: of.name.as_str().into() };
    let is_of_node = of.kind == Kind::BGPNodeOverride && view.documents.get(&node).is_some();
    is_of_node.then_some(of.name.as_str())
}

fn nodes(documents: &Shared<DocumentId, Json>) -> impl Iterator<Item = &str> {
    documents.iter().filter(|(id, _)| &*id.kind == "Node").map(|(id, _)| &*id.name)
}

fn place(name: &str, node: Option<&Shown<Node>>) -> Place {
    if node.is_some_and(|node| !node.says.pod_ranges.is_empty()) {
        Place::with_pods(name)
    } else {
        Place::without_pods(name)
    }
}

fn uid(document: &Value) -> Option<&str> {
    document.pointer("/metadata/uid").and_then(Value::as_str)
}

/// `metadata.generation`; an API server counts it from 1.
fn generation(document: &Value) -> i64 {
    document.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default()
}

#[cfg(test)]
mod tests;
