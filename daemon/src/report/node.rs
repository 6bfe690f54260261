//! The own Node object: the taint that keeps pods away before routing works for the first time, and the condition
//! `NetworkUnavailable`.
//!
//! Both say "not yet" only on a node that adopted nothing, after an installation or a reboot. A daemon that found
//! routes of an earlier run says nothing until it is ready: pods run, and packets flow. Nobody is told when it stops.
//!
//! `spec.taints` is replaced as a whole by everybody who writes it, so it is written with the resourceVersion it was
//! read at: a list that has become another in between is read again, and no taint of others is lost. Whatever is
//! written is compared first: what is as it should be costs one GET.

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
/// saying it.
const BETWEEN_ANSWERS: Duration = Duration::from_secs(10);
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
        let mut answered: Option<Instant> = None;
        loop {
            let now = Instant::now();
            answered = answered.filter(|at| now.saturating_duration_since(*at) < BETWEEN_ANSWERS);
            if self.state.borrow_and_update().ready {
                self.life = Life::Serving;
            }
            let client = self.clients.borrow_and_update().clone();
            let own = self.own.borrow_and_update().clone();
            let may_try = not_before.is_none_or(|until| until <= now);
            let to_do = self.to_do(own, done.as_ref(), answered);
            if let (true, Some(client), Some((uid, wish))) = (may_try, client, to_do) {
                not_before = None;
                match self.reconcile(&client, &uid, wish).await {
                    Ok(()) => {
                        done = Some((uid, wish));
                        answered = Some(Instant::now());
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
                () = at(not_before.or(answered.map(|at| at + BETWEEN_ANSWERS))) => {}
            }
        }
    }

    /// Which object should say what, unless it does; what was `answered` just now is not looked at again.
    fn to_do(
        &self,
        own: OwnNode,
        done: Option<&(String, Wish)>,
        answered: Option<Instant>,
    ) -> Option<(String, Wish)> {
        let OwnNode::Present { uid, tainted, unavailable } = own else { return None };
        let wish = Wish::of(self.life)?;
        let is_done = done.is_some_and(|(of, what)| *of == uid && *what == wish);
        let is_said = (tainted && self.node_taint == Switch::On) || unavailable;
        let is_undone = wish == Wish::Ready && is_said && answered.is_none();
        (!is_done || is_undone).then_some((uid, wish))
    }

    /// Reads the Node once, and once more for each time that somebody else is faster.
    async fn reconcile(&self, client: &Client, wanted: &str, wish: Wish) -> Result<(), Failed> {
        for _ in 0..ATTEMPTS {
            match self.attempt(client, wanted, wish).await {
                Err(Failed { why: Refusal::Conflict, .. }) => {}
                ended => return ended,
            }
        }
        Err(Failed { what: "patch nodes", why: Refusal::Conflict })
    }

    async fn attempt(&self, client: &Client, wanted: &str, wish: Wish) -> Result<(), Failed> {
        let path = format!("/api/v1/nodes/{}", self.node);
        let failed = |what| move |why| Failed { what, why };
        let mut node = request(client, &path, Content::Read).await.map_err(failed("get nodes"))?;
        if uid(&node) != wanted {
            // The view is behind, or the object is another by now: the view will say so.
            return Err(Failed { what: "get nodes", why: Refusal::NotFound });
        }
        if self.node_taint == Switch::On
            && let Some(patch) = wish.taints(&node)
        {
            node = request(client, &path, Content::Merge(patch)).await.map_err(failed("patch nodes"))?;
            tracing::info!(node = %self.node, taint = TAINT, to = ?wish, "the taint of the own Node has changed");
        }
        if let Some(patch) = wish.condition(&node, Timestamp::now()) {
            let patched = request(client, &format!("{path}/status"), Content::StrategicMerge(patch)).await;
            patched.map_err(failed("patch nodes/status"))?;
        }
        Ok(())
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
