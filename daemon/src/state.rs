//! What the daemon knows of itself, for the CLI.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use cambric_kube::{Health, Picture};
use cambric_routes::Routes;
use cambric_speaker::Handle;
use tokio::sync::{Mutex, watch};

use crate::control::Disabled;
use crate::drain::Drains;
use crate::http::Http;
use crate::intent::Intent;
use crate::latch;
use crate::log::Log;
use crate::pod_routes::PodRoutes;
use crate::policy::Policy;

/// Published by the main loop, read by the control socket.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Our BGP identifier, once the Node object is known.
    pub router_id: Option<String>,
    /// Our AS.
    pub asn: Option<u32>,
    /// What we announce.
    pub originated: Vec<String>,
    /// What the operator should mend.
    pub problems: Vec<String>,
    /// Routing is ready: pods may start.
    pub ready: bool,
    /// The source has shown a whole view.
    pub source_seen: bool,
    /// Everything that peers told at the start is written.
    pub routes_in_sync: bool,
    /// The CNI configuration is there as it should be.
    pub conflist_stands: bool,
    /// Whether the sessions of the last run are back.
    pub latch: latch::Shown,
    /// What routing still waits for.
    pub waiting_for: Vec<String>,
    /// What was done for the host routes of pods.
    pub pod_routes: PodRoutes,
    /// The speaker, once it runs.
    pub speaker: Option<Handle>,
    /// What this node does now, once that is known.
    pub intent: Option<Arc<Intent>>,
}

/// All that an answer is made from.
#[derive(Debug, Clone)]
pub struct Shared {
    /// This node.
    pub node: String,
    /// As on the command line.
    pub source: String,
    /// The folder of manifests, where that is the source.
    pub manifests: Option<PathBuf>,
    /// When the daemon started.
    pub started_at: Instant,
    /// What the API server shows; `None` where a folder is the source.
    pub pictures: Option<watch::Receiver<Arc<Picture>>>,
    /// What is logged.
    pub log: Log,
    /// Where health and metrics are served.
    pub http: watch::Receiver<Http>,
    /// Run-time files.
    pub run_dir: PathBuf,
    /// The kernel's side.
    pub routes: Routes,
    /// NetworkPolicy.
    pub policy: Policy,
    /// What is drained.
    pub drains: Arc<Drains>,
    /// The peers that the operator has disabled.
    pub disabled: Arc<Mutex<Disabled>>,
    /// The rest.
    pub state: watch::Receiver<State>,
}

impl Shared {
    /// How it stands with the API server; `None` where a folder is the source.
    pub fn health(&self) -> Option<Health> {
        self.pictures.as_ref().map(|pictures| pictures.borrow().health.clone())
    }
}
