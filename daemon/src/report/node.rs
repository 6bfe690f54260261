//! The own Node object: the taint that keeps pods away before routing works for the first time, and the condition
//! `NetworkUnavailable`.
//!
//! Both say "not yet" only on a node that adopted nothing, after an installation or a reboot. A daemon that found
//! routes of an earlier run says nothing until it is ready: pods run, and packets flow. Nobody is told when it stops.
//!
//! `spec.taints` is replaced as a whole by everybody who writes it, so it is written with the resourceVersion it was
//! read at: a list that has become another in between is read again, and no taint of others is lost. Whatever is
//! written is compared first: what is as it should be costs one GET.
//!
//! Somebody else may say the contrary of a node that is ready, as the controllers of some clouds do once, and as another
//! network that was not removed does for ever. It is answered, at longer and longer intervals, and the operator is told
//! what the other one says.

use std::time::Duration;

use cambric_kube::{DocumentId, Picture};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Troubles;
use super::write::{Backoff, Content, Refusal, at, hash, request};
use crate::args::Switch;
use crate::state::State;

/// Keeps pods away from a node that has no routes yet.
pub const TAINT: &str = cambric_kube::NOT_READY_TAINT;
const EFFECT: &str = "NoSchedule";
const CONDITION: &str = cambric_kube::NETWORK_UNAVAILABLE;
/// What somebody else says once this node is ready is answered no faster: the view may be behind, and others may go on
/// saying it. Twice as long after each answer,
const BETWEEN_ANSWERS: Duration = Duration::from_secs(10);
/// but no longer than this,
const LONGEST_BETWEEN_ANSWERS: Duration = Duration::from_secs(600);
/// until nobody has said it for so long.
const QUIET: Duration = Duration::from_secs(3600);
/// So often it has to be said before the operator is told.
const WORTH_TELLING: u32 = 3;
/// How many times somebody else may be faster before there is a pause.
const ATTEMPTS: u32 = 10;

/// How far this node has come in this boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Nothing of an earlier run was there, and it was not ready yet.
    Starting,
    /// It goes on with what an earlier run left, and was not ready yet.
    Adopted,
    /// It has been ready.
    Serving,
}

/// The own Node object, as the API server shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OwnNode {
    /// Nobody knows yet.
    Unknown,
    /// It is there.
    Present {
        /// Another one of the same name has another.
        uid: String,
        /// It has our taint.
        tainted: bool,
        /// It says that pods on it cannot be reached.
        unavailable: bool,
    },
    /// There is none.
    Gone,
}

impl OwnNode {
    pub(crate) fn of(picture: &Picture, name: &str) -> OwnNode {
        let id = DocumentId { kind: "Node".into(), name: name.into() };
        match picture.documents.get(&id) {
            Some(node) => {
                let node = node.value();
                OwnNode::Present {
                    uid: uid(&node).to_owned(),
                    tainted: is_tainted(&node),
                    unavailable: condition(&node).is_some_and(|condition| condition["status"] == "True"),
                }
            }
            None if picture.health.kinds.get("Node").is_some_and(|kind| kind.is_shown) => OwnNode::Gone,
            None => OwnNode::Unknown,
        }
    }
}

/// What the Node should say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// Pods should not come yet.
    NotReady,
    /// They may.
    Ready,
}

impl Wish {
    fn of(life: Life) -> Option<Wish> {
        match life {
            Life::Starting => Some(Wish::NotReady),
            Life::Adopted => None,
            Life::Serving => Some(Wish::Ready),
        }
    }

    /// The JSON merge patch (RFC 7386) that makes the taints of `node` right; nothing if they are.
    fn taints(self, node: &Value) -> Option<Value> {
        let present = node.pointer("/spec/taints").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut wanted = present.clone();
        match self {
            Wish::NotReady if is_tainted(node) => {}
            Wish::NotReady => wanted.push(json!({ "key": TAINT, "effect": EFFECT })),
            Wish::Ready => wanted.retain(|taint| !is_ours(taint)),
        }
        let taints = if wanted.is_empty() { Value::Null } else { Value::Array(wanted.clone()) };
        let version = node.pointer("/metadata/resourceVersion");
        let patch = || json!({ "metadata": { "resourceVersion": version }, "spec": { "taints": taints } });
        (wanted != present).then(patch)
    }

    /// The strategic merge patch of the status that makes the condition of `node` right; nothing if it is.
    fn condition(self, node: &Value, now: Timestamp) -> Option<Value> {
        let (status, reason, message) = match self {
            Wish::NotReady => ("True", "CambricNotReady", "routes and policies are not in place yet"),
            Wish::Ready => ("False", "CambricIsReady", "routes and policies are in place"),
        };
        let present = condition(node);
        let has = |field: &str, value: &str| present.is_some_and(|present| present[field] == value);
        if has("status", status) && has("reason", reason) && has("message", message) {
            return None;
        }
        let now = Value::from(k8s_seconds(now));
        let since =
            present.filter(|_| has("status", status)).and_then(|present| present.get("lastTransitionTime"));
        let since = since.filter(|since| !since.is_null()).unwrap_or(&now);
        let condition = json!({
            "type": CONDITION, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": since,
        });
        let version = node.pointer("/metadata/resourceVersion");
        Some(json!({ "metadata": { "resourceVersion": version }, "status": { "conditions": [condition] } }))
    }
}

fn uid(node: &Value) -> &str {
    node.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default()
}

/// `NetworkUnavailable`, if `node` has it.
fn condition(node: &Value) -> Option<&Value> {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().find(|condition| condition["type"] == CONDITION)
}

fn is_ours(taint: &Value) -> bool {
    taint["key"] == TAINT && taint["effect"] == EFFECT
}

fn is_tainted(node: &Value) -> bool {
    node.pointer("/spec/taints").and_then(Value::as_array).is_some_and(|taints| taints.iter().any(is_ours))
}

/// metav1.Time has no fractions of a second.
fn k8s_seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Makes the own Node say what it should.
pub(crate) struct Keeper {
    pub(crate) node: String,
    pub(crate) node_taint: Switch,
    pub(crate) life: Life,
    pub(crate) clients: watch::Receiver<Option<Client>>,
    pub(crate) own: watch::Receiver<OwnNode>,
    pub(crate) state: watch::Receiver<State>,
    pub(crate) troubles: Troubles,
}

impl Keeper {
    /// Ends when the daemon does.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new(hash([self.node.as_str(), "node"]));
        let mut done: Option<(String, Wish)> = None;
        let mut not_before: Option<Instant> = None;
        let mut quarrel = Quarrel::default();
        loop {
            let now = Instant::now();
            quarrel.look(now);
            if self.state.borrow_and_update().ready {
                self.life = Life::Serving;
            }
            self.troubles.set("quarrel", quarrel.problem(&self.node));
            let client = self.clients.borrow_and_update().clone();
            let own = self.own.borrow_and_update().clone();
            // What has passed is not waited for: that would be busy.
            not_before = not_before.filter(|until| *until > now);
            let to_do = self.to_do(own, done.as_ref(), quarrel.may_answer(now));
            if let (None, Some(client), Some((uid, wish))) = (not_before, client, to_do) {
                match self.reconcile(&client, &uid, wish).await {
                    Ok(found) => {
                        let now_done = Some((uid, wish));
                        let is_answer = done == now_done;
                        done = now_done;
                        quarrel.written(Instant::now(), is_answer, found);
                        backoff.reset();
                        self.troubles.set("node", None);
                    }
                    Err(Failed { what, why }) => {
                        tracing::debug!(error = %why, what, "the own Node is not as it should be yet");
                        self.troubles.set("node", why.for_operator(what));
                        not_before = Some(Instant::now() + backoff.pause());
                    }
                }
            }
            // All branches are cancel-safe: watches and a timer.
            tokio::select! {
                changed = self.clients.changed() => {
                    if changed.is_err() { return }
                    not_before = None;
                }
                changed = self.own.changed() => {
                    if changed.is_err() { return }
                    not_before = None;
                }
                // Changes all the time, and is no reason to try again sooner.
                changed = self.state.changed() => if changed.is_err() { return },
                () = at(not_before.or(quarrel.poll_timeout(now))) => {}
            }
        }
    }

    /// Which object should say what, unless it does.
    fn to_do(&self, own: OwnNode, done: Option<&(String, Wish)>, may_answer: bool) -> Option<(String, Wish)> {
        let OwnNode::Present { uid, tainted, unavailable } = own else { return None };
        let wish = Wish::of(self.life)?;
        let is_done = done.is_some_and(|(of, what)| *of == uid && *what == wish);
        let is_said = (tainted && self.node_taint == Switch::On) || unavailable;
        let is_undone = wish == Wish::Ready && is_said && may_answer;
        (!is_done || is_undone).then_some((uid, wish))
    }

    /// Reads the Node once, and once more for each time that somebody else is faster. Gives what it said to the contrary.
    async fn reconcile(&self, client: &Client, wanted: &str, wish: Wish) -> Result<Option<String>, Failed> {
        for _ in 0..ATTEMPTS {
            match self.attempt(client, wanted, wish).await {
                Err(Failed { why: Refusal::Conflict, .. }) => {}
                ended => return ended,
            }
        }
        Err(Failed { what: "patch nodes", why: Refusal::Conflict })
    }

    async fn attempt(&self, client: &Client, wanted: &str, wish: Wish) -> Result<Option<String>, Failed> {
        let path = format!("/api/v1/nodes/{}", self.node);
        let failed = |what| move |why| Failed { what, why };
        let mut node = request(client, &path, Content::Read).await.map_err(failed("get nodes"))?;
        if uid(&node) != wanted {
            // The view is behind, or the object is another by now: the view will say so.
            return Err(Failed { what: "get nodes", why: Refusal::NotFound });
        }
        let mut found = contrary(&node);
        if self.node_taint == Switch::On
            && let Some(patch) = wish.taints(&node)
        {
            node = request(client, &path, Content::Merge(patch)).await.map_err(failed("patch nodes"))?;
            tracing::info!(node = %self.node, taint = TAINT, to = ?wish, "the taint of the own Node has changed");
            found = found.or_else(|| Some(format!("the taint {TAINT}")));
        }
        if let Some(patch) = wish.condition(&node, Timestamp::now()) {
            let patched = request(client, &format!("{path}/status"), Content::StrategicMerge(patch)).await;
            patched.map_err(failed("patch nodes/status"))?;
        }
        Ok(found)
    }
}

/// That `node` cannot be reached, in the words of whoever says so.
fn contrary(node: &Value) -> Option<String> {
    let condition = condition(node).filter(|condition| condition["status"] == "True")?;
    let reason = condition["reason"].as_str().filter(|reason| !reason.is_empty()).unwrap_or("none");
    Some(format!("the condition {CONDITION}=True (reason {reason})"))
}

/// Between this node and somebody who says the contrary.
#[derive(Debug, Default)]
struct Quarrel {
    /// When the Node was last made to say what it should.
    written: Option<Instant>,
    /// How often that was an answer, since the last time of quiet.
    answers: u32,
    /// How often the contrary was really there, and what it was the last time.
    contrary: Option<(u32, String)>,
}

impl Quarrel {
    /// The Node says what it should; somebody else had it say what was `found`.
    fn written(&mut self, now: Instant, is_answer: bool, found: Option<String>) {
        self.written = Some(now);
        if !is_answer {
            return;
        }
        self.answers = self.answers.saturating_add(1);
        if let Some(found) = found {
            let times = self.contrary.as_ref().map_or(0, |(times, _)| *times);
            self.contrary = Some((times.saturating_add(1), found));
        }
    }

    /// Whether it has been quiet.
    fn look(&mut self, now: Instant) {
        if self.written.is_some_and(|at| now >= at + QUIET) {
            *self = Quarrel::default();
        }
    }

    fn answer_from(&self) -> Option<Instant> {
        let pause = BETWEEN_ANSWERS.saturating_mul(1 << self.answers.min(16)).min(LONGEST_BETWEEN_ANSWERS);
        self.written.map(|at| at + pause)
    }

    fn may_answer(&self, now: Instant) -> bool {
        self.answer_from().is_none_or(|from| from <= now)
    }

    /// When to look again.
    fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        self.answer_from().filter(|from| *from > now).or(self.written.map(|at| at + QUIET))
    }

    /// What the operator should end. The same words for as long as it is so.
    fn problem(&self, node: &str) -> Option<String> {
        let (_, what) = self.contrary.as_ref().filter(|(times, _)| *times >= WORTH_TELLING)?;
        Some(format!(
            "patch nodes: somebody else writes {what} to Node {node} again and again, though it is ready: it is taken \
             back, every {} min at most; end whatever writes it",
            LONGEST_BETWEEN_ANSWERS.as_secs() / 60
        ))
    }
}

/// What was tried, as verb and resource, and why it was not done.
struct Failed {
    what: &'static str,
    why: Refusal,
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: &str = "node.cloudprovider.kubernetes.io/uninitialized";

    fn node(taints: &[Value], conditions: &[Value]) -> Value {
        json!({
            "metadata": { "name": "n1", "uid": "1", "resourceVersion": "7" },
            "spec": { "taints": taints },
            "status": { "conditions": conditions },
        })
    }

    fn ours() -> Value {
        json!({ "key": TAINT, "effect": EFFECT })
    }

    fn other() -> Value {
        json!({ "key": OTHER, "value": "true", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z" })
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("time")
    }

    #[test]
    fn taints_of_others_and_the_version_are_in_every_patch() {
        let set = Wish::NotReady.taints(&node(&[other()], &[])).expect("a patch");
        assert_eq!(set["metadata"]["resourceVersion"], "7");
        assert_eq!(set["spec"]["taints"], json!([other(), ours()]));
        let lifted = Wish::Ready.taints(&node(&[ours(), other()], &[])).expect("a patch");
        assert_eq!(lifted["spec"]["taints"], json!([other()]));
        let last = Wish::Ready.taints(&node(&[ours()], &[])).expect("a patch");
        assert_eq!(last["spec"]["taints"], Value::Null, "RFC 7386: null removes");
    }

    #[test]
    fn taints_that_are_right_are_not_written() {
        assert_eq!(Wish::NotReady.taints(&node(&[ours()], &[])), None);
        assert_eq!(Wish::Ready.taints(&node(&[other()], &[])), None);
        assert_eq!(Wish::Ready.taints(&json!({ "metadata": {} })), None);
        let elsewhere = json!({ "key": TAINT, "effect": "NoExecute" });
        assert_eq!(Wish::Ready.taints(&node(&[elsewhere], &[])), None, "another effect is another taint");
    }

    #[test]
    fn condition_changes_its_time_only_with_its_status() {
        let now = at("2026-11-21T23:00:00.5Z");
        let patch = Wish::Ready.condition(&node(&[], &[]), now).expect("a patch");
        let condition = &patch["status"]["conditions"][0];
        assert_eq!(condition["type"], "NetworkUnavailable");
        assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("CambricIsReady")));
        assert_eq!(condition["lastTransitionTime"], "2026-11-21T23:00:00Z");
        let of_another = json!({
            "type": CONDITION, "status": "False", "reason": "FlannelIsUp",
            "message": "Flannel is running on this node", "lastTransitionTime": "2020-01-01T00:00:00Z",
        });
        let patch =
            Wish::Ready.condition(&node(&[], std::slice::from_ref(&of_another)), now).expect("a patch");
        assert_eq!(patch["status"]["conditions"][0]["lastTransitionTime"], "2020-01-01T00:00:00Z");
        assert_eq!(patch["status"]["conditions"][0]["lastHeartbeatTime"], "2026-11-21T23:00:00Z");
        let patch = Wish::NotReady.condition(&node(&[], &[of_another]), now).expect("a patch");
        assert_eq!(patch["status"]["conditions"][0]["lastTransitionTime"], "2026-11-21T23:00:00Z");
    }

    #[test]
    fn condition_that_is_right_is_not_written() {
        for wish in [Wish::NotReady, Wish::Ready] {
            let patch = wish.condition(&node(&[], &[]), at("2026-11-21T23:00:00Z")).expect("a patch");
            let conditions = patch["status"]["conditions"].as_array().expect("a list");
            assert_eq!(wish.condition(&node(&[], conditions), at("2026-11-22T23:00:00Z")), None);
        }
    }

    #[test]
    fn a_node_that_goes_on_with_what_was_there_says_nothing_until_it_is_ready() {
        assert_eq!(Wish::of(Life::Starting), Some(Wish::NotReady));
        assert_eq!(Wish::of(Life::Adopted), None);
        assert_eq!(Wish::of(Life::Serving), Some(Wish::Ready));
    }

    #[test]
    fn own_node_is_gone_only_if_nodes_have_been_shown() {
        let mut picture = Picture::default();
        assert_eq!(OwnNode::of(&picture, "n1"), OwnNode::Unknown);
        let shown = cambric_kube::KindHealth {
            objects: 0,
            version: None,
            is_shown: true,
            state: cambric_kube::KindState::Watching,
            since: std::time::SystemTime::now(),
            unreadable: Vec::new(),
        };
        picture.health.kinds.insert("Node".to_owned(), shown);
        assert_eq!(OwnNode::of(&picture, "n1"), OwnNode::Gone);
        let id = DocumentId { kind: "Node".into(), name: "n1".into() };
        picture.documents.insert(id, cambric_kube::Json::new(&node(&[ours()], &[])));
        let present = OwnNode::Present { uid: "1".to_owned(), tainted: true, unavailable: false };
        assert_eq!(OwnNode::of(&picture, "n1"), present);
    }
}
