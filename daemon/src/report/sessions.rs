//! One BGPSessionState for each session of this node, for people who look with kubectl.
//!
//! ```text
//!   a peer changes -> look at all peers -> what should be there -> plan: at most one request at a time -> API server
//!                                          what is there -------->
//! ```
//!
//! An object is made when its session is configured, changed when state or reason change, and gone with the session or
//! with the Node, which owns it. Nothing waits in a queue: what was not written yet is the latest state of the session,
//! whatever happened in between. See [`plan`] for how often things are written, and how few.
//!
//! Only this node writes its objects, and knows after one list what they say. They are the last thing that anybody
//! should rely on: what a session does is decided without them.

pub(crate) mod name;
pub(crate) mod plan;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cambric_bgp::Router;
use cambric_speaker::Gone;
use kube::Client;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use self::plan::{Next, Plan, Request};
use super::node::OwnNode;
use super::write::{Backoff, Content, Refusal, at, hash, request};
use super::{Troubles, is_same};
use crate::intent::Intent;
use crate::kinds::API_VERSION;
use crate::source::Views;
use crate::state::State;

/// Between two looks at the peers, when nothing happens: counts change without an event.
const BETWEEN_LOOKS: Duration = Duration::from_secs(60);
/// And when much happens.
const SHORTEST_BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// Writes what became of the sessions.
pub(crate) struct Sessions {
    /// This node.
    pub(crate) node: String,
    pub(crate) clients: watch::Receiver<Option<Client>>,
    /// For the number of nodes; see [`plan::between_counts`].
    pub(crate) views: Views,
    pub(crate) own: watch::Receiver<OwnNode>,
    pub(crate) state: watch::Receiver<State>,
    /// Sent whenever a peer has another state.
    pub(crate) peer_changed: watch::Receiver<()>,
    pub(crate) troubles: Troubles,
}

impl Sessions {
    /// Ends when the daemon does.
    pub(crate) async fn run(mut self) {
        let mut plan = Plan::new(&self.node, Instant::now());
        let mut backoff = Backoff::new(hash([self.node.as_str(), "sessions"]));
        let mut not_before: Option<Instant> = None;
        let mut looked_at: Option<Instant> = None;
        let mut is_look_wanted = true;
        let mut basis = Basis::of(&self.state.borrow());
        loop {
            let now = Instant::now();
            let between = if is_look_wanted { SHORTEST_BETWEEN_LOOKS } else { BETWEEN_LOOKS };
            if looked_at.is_none_or(|at| now >= at + between) {
                (looked_at, is_look_wanted) = (Some(now), false);
                basis = Basis::of(&self.state.borrow());
                if self.look(&mut plan).await.is_err() {
                    return;
                }
            }
            let (client, is_another) = {
                let seen = self.clients.borrow_and_update();
                (seen.clone(), seen.has_changed())
            };
            if is_another {
                // It may be of another server.
                plan.forget_what_is_there();
                not_before = None;
            }
            // What has passed is not waited for: that would be busy.
            not_before = not_before.filter(|until| *until > Instant::now());
            let mut next = not_before.filter(|_| client.is_some());
            if let (Some(client), None) = (client, not_before) {
                match carry_out(&client, &self.clients, &mut plan, &self.node).await {
                    Ok(later) => {
                        backoff.reset();
                        self.troubles.set("sessions", None);
                        next = later;
                    }
                    Err((what, why)) => {
                        tracing::debug!(error = %why, what, "a BGPSessionState is not as it should be yet");
                        self.troubles.set("sessions", in_words(what, &why));
                        not_before = Some(Instant::now() + backoff.pause());
                        next = not_before;
                    }
                }
            }
            let between = if is_look_wanted { SHORTEST_BETWEEN_LOOKS } else { BETWEEN_LOOKS };
            let look_at = looked_at.map_or(now, |at| at + between);
            let next = next.map_or(look_at, |next| next.min(look_at));
            // All branches are cancel-safe: watches and a timer.
            tokio::select! {
                changed = self.clients.changed() => {
                    if changed.is_err() { return }
                    // It is looked at above, also where another branch is faster.
                    self.clients.mark_changed();
                }
                changed = self.own.changed() => {
                    if changed.is_err() { return }
                    is_look_wanted = true;
                }
                changed = self.peer_changed.changed() => {
                    if changed.is_err() { return }
                    is_look_wanted = true;
                }
                changed = another_basis(&mut self.state, &basis) => {
                    let Ok(now) = changed else { return };
                    // Or it would be another one again at once.
                    (basis, is_look_wanted) = (now, true);
                }
                () = at(Some(next)) => {}
            }
        }
    }

    /// Tells the plan what there should be.
    async fn look(&mut self, plan: &mut Plan) -> Result<(), Gone> {
        self.peer_changed.mark_unchanged();
        let owner = match &*self.own.borrow_and_update() {
            OwnNode::Present { uid, .. } => Some(uid.clone()),
            OwnNode::Unknown | OwnNode::Gone => None,
        };
        let nodes = self.views.borrow().as_ref().map_or(0, |view| view.fabric.nodes.len());
        let (speaker, intent) = {
            let state = self.state.borrow();
            (state.speaker.clone(), state.intent.clone())
        };
        // Without a speaker nobody knows which sessions there are: what an earlier daemon wrote stays.
        let (Some(speaker), Some(intent)) = (speaker, intent) else { return Ok(()) };
        let peers = speaker.look(Router::peers).await?;
        let now = (Instant::now(), std::time::Instant::now(), SystemTime::now());
        plan.look(owner, &peers, &intent.mesh, nodes, now);
        Ok(())
    }
}

/// What peers there are, as far as the daemon's state says.
#[derive(Debug, Clone)]
struct Basis {
    has_speaker: bool,
    intent: Option<Arc<Intent>>,
}

impl Basis {
    fn of(state: &State) -> Basis {
        Basis { has_speaker: state.speaker.is_some(), intent: state.intent.clone() }
    }

    fn is_of(&self, state: &State) -> bool {
        is_same(&self.intent, &state.intent) && self.has_speaker == state.speaker.is_some()
    }
}

/// Waits until there may be other peers than those of `basis`, and gives what they are of. Cancel-safe.
async fn another_basis(
    state: &mut watch::Receiver<State>,
    basis: &Basis,
) -> Result<Basis, watch::error::RecvError> {
    state.wait_for(|state| !basis.is_of(state)).await.map(|state| Basis::of(&state))
}

/// Until nothing is left, or nothing may be done now: then says when to go on, if ever. With another client among
/// `clients`, or none, nothing more is done with this one: what there should be may be of another cluster by then.
async fn carry_out(
    client: &Client,
    clients: &watch::Receiver<Option<Client>>,
    plan: &mut Plan,
    node: &str,
) -> Result<Option<Instant>, (&'static str, Refusal)> {
    loop {
        // Whoever would tell of another is gone, too, when the daemon ends.
        if clients.has_changed().unwrap_or(true) {
            return Ok(None);
        }
        let request = match plan.next(Instant::now()) {
            Next::Do(request) => request,
            Next::Wait(until) => return Ok(until),
        };
        let (what, answer) = serve(client, &request, node).await;
        match answer {
            Ok(answer) => plan.done(&request, &answer, Instant::now()),
            Err(why) => {
                plan.failed(&request, &why);
                let is_news = matches!(
                    (&request, &why),
                    (Request::Delete(_), Refusal::NotFound) | (Request::Create(_), Refusal::Conflict)
                );
                if !is_news {
                    return Err((what, why));
                }
            }
        }
    }
}

async fn serve(client: &Client, wanted: &Request, node: &str) -> (&'static str, Result<Value, Refusal>) {
    let all = format!("/apis/{API_VERSION}/bgpsessionstates");
    let (what, path, content) = match wanted {
        Request::List => {
            let label = name::label(node);
            // From the cache of the server, which may be behind: else the store reads the objects of all nodes for each
            // daemon that starts. What it does not show is found when it is to be made (409), or by a later list.
            let path = format!("{all}?labelSelector=cambric.dev%2Fnode%3D{label}&resourceVersion=0");
            ("list bgpsessionstates.cambric.dev", path, Content::Read)
        }
        Request::Read(name) => {
            // Not from the cache; and a list that has one at most needs no right to get.
            let path = format!("{all}?fieldSelector=metadata.name%3D{name}");
            ("list bgpsessionstates.cambric.dev", path, Content::Read)
        }
        Request::Create(object) => {
            ("create bgpsessionstates.cambric.dev", all, Content::Create(object.clone()))
        }
        Request::Patch(name, patch) => {
            ("patch bgpsessionstates.cambric.dev", format!("{all}/{name}"), Content::Merge(patch.clone()))
        }
        Request::Status(name, patch) => {
            let path = format!("{all}/{name}/status");
            ("patch bgpsessionstates.cambric.dev/status", path, Content::Merge(patch.clone()))
        }
        Request::Delete(name) => {
            ("delete bgpsessionstates.cambric.dev", format!("{all}/{name}"), Content::Delete)
        }
    };
    let answer = request(client, &path, content).await;
    let is_gone = |answer: &Value| answer["items"].as_array().is_none_or(Vec::is_empty);
    match wanted {
        // Whoever had the name has just taken it away.
        Request::Read(_) if answer.as_ref().is_ok_and(is_gone) => (what, Err(Refusal::Conflict)),
        _ => (what, answer),
    }
}

fn in_words(what: &str, why: &Refusal) -> Option<String> {
    match why {
        Refusal::NotFound if what.starts_with("list") || what.starts_with("create") => Some(format!(
            "{what}: the API server does not know the kind: install its definition (deploy/crds)"
        )),
        why => why.for_operator(what),
    }
}

#[cfg(test)]
mod tests;
