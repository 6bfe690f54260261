//! What this node writes to the API server: its taint and condition, Events, the state of its sessions, and, if it is
//! its turn, the conditions of objects that people write.
//!
//! ```text
//!   sessions, problems, repairs, the picture --> happenings --> events (pure) --> recorder --> Events
//!   state, picture --------------------------------------------> node -----------------------> own Node
//!   state, peers that change ----------------------------------> sessions -------------------> BGPSessionStates
//!   views -----------------------------------------------------> conditions -----------------> status of our kinds
//!                                      troubles <--- what the server refuses ---'
//! ```
//!
//! Nothing here is ever waited for: a node routes whether or not anybody hears of it. What is written is always the
//! latest state, after a pause that grows and differs between nodes while the server does not answer; nothing queues.
//! What the server forbids is a problem that names verb and resource. A folder as source has nobody to report to.

pub(crate) mod conditions;
pub(crate) mod events;
mod looks;
pub mod node;
pub(crate) mod recorder;
pub(crate) mod sessions;
mod words;
pub(crate) mod write;

use std::collections::BTreeMap;
use std::future::pending;
use std::path::Path;
use std::sync::Arc;

use cambric_bgp::peer::PeerState;
use cambric_bgp::router::PeerStatus;
use cambric_cni::gate::ready;
use cambric_kube::Picture;
use cambric_routes::{Routes, Snapshot};
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::conditions::Judge;
use self::node::{Keeper, Life, OwnNode};
use self::recorder::{Recorder, Teller};
use self::words::{Api, Sessions};
use crate::args::Switch;
use crate::intent::Intent;
use crate::objects::{FoundBy, Problem};
use crate::policy::Policy;
use crate::problems::Origin;
use crate::source::Views;
use crate::state::State;

/// What it needs to know from the start.
pub struct Inputs {
    /// This node.
    pub node: String,
    /// Whether the taint is ours to set and lift.
    pub node_taint: Switch,
    /// As [`life`] finds it, before anything of this run is there.
    pub life: Life,
    /// How to speak with the server.
    pub clients: watch::Receiver<Option<Client>>,
    /// What it shows.
    pub pictures: watch::Receiver<Arc<Picture>>,
    /// What was made of that.
    pub views: Views,
    /// What the main loop publishes.
    pub state: watch::Receiver<State>,
}

/// Whether an earlier run of this boot left something to go on with: routes in the kernel, or the mark that pods are
/// judged. To be asked before the daemon writes either.
pub fn life(run_dir: &Path, found: &Snapshot) -> Life {
    let families = cambric_routes::Family::ALL.into_iter();
    let routes: usize =
        families.map(|family| found.learned.get(family) + found.unreachable.get(family)).sum();
    if routes > 0 || ready::read(run_dir).is_ok() { Life::Adopted } else { Life::Starting }
}

/// The door for the main loop. What is spawned for it ends with it.
#[derive(Debug)]
pub struct Report {
    on: Option<On>,
}

#[derive(Debug)]
struct On {
    teller: Teller,
    sessions: Sessions,
    /// What `sessions` are of.
    intent: Option<Arc<Intent>>,
    peer_changed: watch::Sender<()>,
    troubles: watch::Receiver<BTreeMap<&'static str, Problem>>,
    state: watch::Receiver<State>,
    tasks: JoinSet<()>,
}

impl Report {
    /// There is nobody to report to.
    pub fn off() -> Report {
        Report { on: None }
    }

    /// Starts to write.
    pub fn start(inputs: Inputs) -> Report {
        let Inputs { node, node_taint, life, clients, pictures, views, state } = inputs;
        let (troubles, seen) = Troubles::new();
        let teller = Teller::new(node.clone(), pictures.clone());
        let (own, shown) = watch::channel(OwnNode::of(&pictures.borrow(), &node));
        let mut tasks = JoinSet::new();
        tasks.spawn(follow(node.clone(), pictures, own, teller.clone()));
        let recorder =
            Recorder { teller: teller.clone(), clients: clients.clone(), troubles: troubles.clone() };
        tasks.spawn(recorder.run());
        let (peer_changed, changed) = watch::channel(());
        let of_sessions = sessions::Sessions {
            node: node.clone(),
            clients: clients.clone(),
            views: views.clone(),
            own: shown.clone(),
            state: state.clone(),
            peer_changed: changed,
            troubles: troubles.clone(),
        };
        tasks.spawn(of_sessions.run());
        let judge = Judge {
            node: node.clone(),
            clients: clients.clone(),
            views,
            teller: teller.clone(),
            troubles: troubles.clone(),
        };
        tasks.spawn(judge.run());
        let keeper = Keeper { node, node_taint, life, clients, own: shown, state: state.clone(), troubles };
        tasks.spawn(keeper.run());
        Report {
            on: Some(On {
                teller,
                sessions: Sessions::default(),
                intent: None,
                peer_changed,
                troubles: seen,
                state,
                tasks,
            }),
        }
    }

    /// Tells of repairs and of refused routes, too; they are looked at now and then.
    pub fn look_at(&mut self, routes: Routes, policy: Policy) {
        if let Some(on) = &mut self.on {
            on.tasks.spawn(looks::run(on.teller.clone(), on.state.clone(), routes, policy));
        }
    }

    /// A session came up or went down.
    pub fn session(&mut self, peer: &PeerStatus, state: PeerState) {
        let Some(on) = &mut self.on else { return };
        on.peer_changed.send_replace(());
        on.look_at_peers();
        let no_mesh = BTreeMap::new();
        let mesh = on.intent.as_ref().map_or(&no_mesh, |intent| &intent.mesh);
        if let Some(happening) = on.sessions.changed(peer, state, mesh) {
            on.teller.tell(happening);
        }
    }

    /// These problems are new. What is wrong with the source all nodes find at the same time, but for what is this node's
    /// alone: its configuration, and its disk.
    pub fn found<'a>(&self, origin: Origin, problems: impl IntoIterator<Item = &'a Problem>) {
        if let Some(on) = &self.on {
            for problem in problems {
                let is_of_all = problem.of.is_none() && problem.found_by == FoundBy::EveryNode;
                match origin {
                    Origin::Source if is_of_all => on.teller.tell_in_turn(words::source(problem)),
                    _ => on.teller.tell(words::problem(problem, on.teller.node())),
                }
            }
        }
    }

    /// Waits until other things are refused by the server. Cancel-safe.
    pub async fn changed(&mut self) {
        let Some(on) = &mut self.on else { return pending().await };
        loop {
            let other_peers = on.state.wait_for(|state| !is_same(&state.intent, &on.intent));
            // Both branches are cancel-safe: watches.
            tokio::select! {
                changed = on.troubles.changed() => return if changed.is_err() { pending().await },
                is_there = async { other_peers.await.is_ok() } => if !is_there { pending().await },
            }
            on.look_at_peers();
        }
    }

    /// What the server refuses.
    pub fn problems(&self) -> Vec<Problem> {
        let troubles =
            self.on.iter().flat_map(|on| on.troubles.borrow().values().cloned().collect::<Vec<_>>());
        troubles.collect()
    }
}

impl On {
    /// Nodes that are gone have no sessions.
    fn look_at_peers(&mut self) {
        let intent = self.state.borrow().intent.clone();
        if is_same(&intent, &self.intent) {
            return;
        }
        self.intent = intent;
        if let Some(happening) =
            self.intent.as_ref().and_then(|intent| self.sessions.look(&intent.wanted, &intent.mesh))
        {
            self.teller.tell(happening);
        }
    }
}

/// One that is held cannot have its place in memory taken by another.
fn is_same(one: &Option<Arc<Intent>>, other: &Option<Arc<Intent>>) -> bool {
    one.as_ref().map(Arc::as_ptr) == other.as_ref().map(Arc::as_ptr)
}

/// What the server refuses, by who asked.
#[derive(Debug, Clone)]
pub(crate) struct Troubles(Arc<watch::Sender<BTreeMap<&'static str, Problem>>>);

impl Troubles {
    pub(crate) fn new() -> (Troubles, watch::Receiver<BTreeMap<&'static str, Problem>>) {
        let (sender, receiver) = watch::channel(BTreeMap::new());
        (Troubles(Arc::new(sender)), receiver)
    }

    /// In words, with verb and resource; or nothing any more.
    pub(crate) fn set(&self, of: &'static str, now: Option<String>) {
        let now = now.map(|what| Problem::new("API server", what));
        self.0.send_if_modified(|troubles| {
            let is_new = troubles.get(of) != now.as_ref();
            match now {
                Some(problem) => drop(troubles.insert(of, problem)),
                None => drop(troubles.remove(of)),
            }
            is_new
        });
    }
}

/// Looks for the own Node in each picture, and whether the server answers.
async fn follow(
    node: String,
    mut pictures: watch::Receiver<Arc<Picture>>,
    own: watch::Sender<OwnNode>,
    teller: Teller,
) {
    let mut api = Api::default();
    loop {
        let picture = Arc::clone(&pictures.borrow_and_update());
        let now = OwnNode::of(&picture, &node);
        let before = own.borrow().clone();
        if now != before {
            if let Some(happening) = words::own_node(&node, &before, &now) {
                teller.tell(happening);
            }
            own.send_replace(now);
        }
        if let Some(happening) = api.seen(tokio::time::Instant::now(), &picture.health) {
            teller.tell_in_turn(happening);
        }
        drop(picture);
        if pictures.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
