//! What the API server shows, kept over outages, and the client by which this node tells it something.
//!
//! ```text
//! API server
//!    |  request: one list, then a watch; what failures mean
//!    v
//! list_watch: a task a kind <--- connection: one task asks whether there is a server, and which
//!    |  wire: of an object what counts
//!    v
//! keeper: one task owns all that is known
//!    |  cache (pure): what a list or an event changes; an older list removes nothing
//!    |
//!    +--> journal: a file a kind, from which a daemon works that is started while the server is away
//!    v
//! picture: what is known of the cluster, and how
//! ```
//!
//! kube's own watcher is not used: it hides the resourceVersion of a list, and without it nobody can tell an old list from
//! a new one. Nothing here ends because of what a server or an operator does.

mod backoff;
mod cache;
mod connection;
mod journal;
mod json;
mod keeper;
mod kinds;
mod kubeconfig;
mod list_watch;
pub mod picture;
mod request;
pub mod service;
pub mod shared;
mod version;
mod wire;

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use crate::json::Json;
pub use crate::picture::{
    DocumentId, Health, KindHealth, KindState, NETWORK_UNAVAILABLE, NOT_READY_TAINT, Picture, Trouble,
};
pub use crate::service::{AddressType, EndpointSlice, Service, TrafficPolicy};
pub use crate::shared::Shared;

use crate::backoff::Jitter;
use crate::connection::{Connection, Origin};
use crate::keeper::Keeper;
use crate::kinds::Kind;
use crate::list_watch::Follower;

/// What is kept of a pod.
pub type Pod = cambric_policy::pod::Pod;

/// The folder of the snapshot below that of the state.
const FOLDER: &str = "cluster";
/// Messages that wait for the keeper: followers wait with them.
const INBOX: usize = 64;

/// Where to find the server, and where to keep what it says.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `None`: the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// The snapshot is in `cluster/` below it.
    pub state_dir: PathBuf,
    /// Name of this node.
    pub node: String,
}

/// The cluster, as the API server shows it. Dropped, it follows nothing any more.
pub struct Kube {
    pictures: watch::Receiver<Arc<Picture>>,
    clients: watch::Receiver<Option<kube::Client>>,
    _tasks: JoinSet<()>,
}

impl Kube {
    /// Starts with what the snapshot says, and follows the server. Never fails: what is wrong is told in
    /// [`Health`] and tried again. Blocks on the disk; within a runtime.
    pub fn start(settings: Settings) -> Kube {
        let origin = Origin::Files(settings.kubeconfig.clone());
        Kube::begin(origin, &settings)
    }

    /// The same with a client that is never another one.
    pub fn with_client(client: kube::Client, settings: Settings) -> Kube {
        Kube::begin(Origin::Given(client), &settings)
    }

    fn begin(origin: Origin, settings: &Settings) -> Kube {
        let (told, inbox) = mpsc::channel(INBOX);
        let (keeper, pictures) = Keeper::new(&settings.state_dir.join(FOLDER), &settings.node, inbox);
        let (client, clients) = watch::channel(None);
        // Nodes that start at one moment do not ask at one moment for ever.
        let seeds = RandomState::new();
        let jitter = |of: &str| Jitter::new(seeds.hash_one((&settings.node, of)));
        let (connection, link) =
            Connection::new(origin, keeper.identity(), client, told.clone(), jitter("connection"));
        let mut tasks = JoinSet::new();
        for kind in Kind::ALL {
            let (paged, crowd) = (keeper.paged(), keeper.crowd());
            let follower = Follower::new(kind, link.clone(), told.clone(), paged, crowd, jitter(kind.name()));
            let mut demand = keeper.demand();
            tasks.spawn(async move {
                // An error: the keeper has ended.
                if !kind.is_on_demand() || demand.wait_for(|is_there| *is_there).await.is_ok() {
                    follower.run().await;
                }
            });
        }
        drop(told);
        tasks.spawn(connection.run());
        tasks.spawn(keeper.run());
        Kube { pictures, clients, _tasks: tasks }
    }

    /// The latest picture. The first is there at once, with what the snapshot says.
    pub fn pictures(&self) -> watch::Receiver<Arc<Picture>> {
        self.pictures.clone()
    }

    /// The client in use, for whoever writes: `None` until the server has said that it is the one whose objects are
    /// known, and while it says that it is another; another one with another configuration.
    pub fn clients(&self) -> watch::Receiver<Option<kube::Client>> {
        self.clients.clone()
    }
}
