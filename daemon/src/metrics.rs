//! `/metrics`: what the daemon knows, in the text format of OpenMetrics 1.0, which Prometheus reads, too.
//!
//! Numbers are asked for when somebody reads them, of each part by a message that it answers between two other things:
//! no lock is held, and nothing is done that takes longer with more routes or objects. What is younger than a second
//! is read again as it is, so that readers cost the same however many they are. A part that does not answer in time is
//! left out and named (`cambric_metrics_missing`).
//!
//! Series do not grow with the cluster: of peers that are nodes (a mesh) there are some of their own only while they
//! are few ([`bgp::MOST_NODES`]), and none by prefix, pod, policy or next hop.

mod bgp;
mod cni;
mod page;
mod policy;
mod process;
mod routes;
mod source;

use std::fmt;
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use self::page::{Page, label, none};
use crate::health;
use crate::state::Shared;

/// Of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Readers that may wait at once.
const MOST_READERS: usize = 64;
/// How long what was read once is good for.
const YOUNG: Duration = Duration::from_secs(1);
/// How long a part may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The way to them; clones lead to the same.
#[derive(Debug, Clone)]
pub struct Metrics {
    readers: mpsc::Sender<oneshot::Sender<Bytes>>,
}

/// Waits for readers. Ends with the last handle.
pub fn start(shared: Shared) -> Metrics {
    let (readers, waiting) = mpsc::channel(MOST_READERS);
    tokio::spawn(answer(shared, waiting));
    Metrics { readers }
}

impl Metrics {
    /// As text; `None`: too many wait for it.
    pub async fn text(&self) -> Option<Bytes> {
        let (reader, text) = oneshot::channel();
        self.readers.try_send(reader).ok()?;
        text.await.ok()
    }
}

async fn answer(shared: Shared, mut readers: mpsc::Receiver<oneshot::Sender<Bytes>>) {
    let mut last: Option<(Instant, Bytes)> = None;
    while let Some(reader) = readers.recv().await {
        let text = match last.take() {
            Some((at, text)) if at.elapsed() < YOUNG => {
                last = Some((at, text.clone()));
                text
            }
            _ => {
                let text = Bytes::from(written(Seen::now(&shared).await));
                last = Some((Instant::now(), text.clone()));
                text
            }
        };
        // It may be gone.
        drop(reader.send(text));
    }
}

/// What is known at one moment.
#[derive(Debug, Default)]
struct Seen {
    ready: bool,
    routing_ready: bool,
    problems: usize,
    bgp: Option<bgp::Seen>,
    routes: Option<routes::Seen>,
    policy: Option<cambric_policy::enforcer::Status>,
    cni: Option<cni::Seen>,
    source: Option<cambric_kube::Health>,
    process: Option<process::Seen>,
    /// Parts that should have told something.
    missing: Vec<&'static str>,
}

impl Seen {
    async fn now(shared: &Shared) -> Seen {
        let mut seen = Seen {
            ready: health::missing(shared).is_empty(),
            policy: shared.policy.state().map(|state| state.enforcer),
            source: shared.health(),
            ..Seen::default()
        };
        let (speaker, intent, pod_routes) = {
            let state = shared.state.borrow();
            seen.routing_ready = state.ready;
            seen.problems = state.problems.len();
            (state.speaker.clone(), state.intent.clone(), state.pod_routes.clone())
        };
        if let Some(speaker) = speaker {
            let nodes = intent.map(|intent| intent.wanted.declared.nodes.clone()).unwrap_or_default();
            let tally = timeout(PATIENCE, speaker.look(cambric_bgp::Router::tally)).await;
            seen.bgp = tally.ok().and_then(Result::ok).map(|tally| bgp::Seen {
                bfd_refused: speaker.bfd().refused,
                tally,
                nodes,
            });
            seen.note(seen.bgp.is_none(), "bgp");
        }
        let counts = timeout(PATIENCE, shared.routes.counts()).await.ok().and_then(Result::ok);
        seen.routes = counts.map(|counts| routes::Seen { counts, pod_routes });
        seen.note(seen.routes.is_none(), "routes");
        let run_dir = shared.run_dir.clone();
        let read = tokio::task::spawn_blocking(move || (cni::Seen::read(&run_dir), process::Seen::read()));
        let (cni, process) = timeout(PATIENCE, read).await.ok().and_then(Result::ok).unwrap_or_default();
        (seen.cni, seen.process) = (cni, process);
        seen.note(seen.cni.is_none(), "cni");
        seen.note(seen.process.is_none(), "process");
        seen
    }

    fn note(&mut self, is_missing: bool, part: &'static str) {
        self.missing.extend(is_missing.then_some(part));
    }
}

impl Collector for Seen {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(encoder);
        page.info("cambric_build", "The program that runs", &[label("version", env!("CARGO_PKG_VERSION"))])?;
        page.gauge("cambric_ready", "Whether /readyz says so", [none(u8::from(self.ready))])?;
        let help = "Whether routing is ready, that is whether pods may start";
        page.gauge("cambric_routing_ready", help, [none(u8::from(self.routing_ready))])?;
        let help = "What the operator should mend (show status names it), but for peers and foreign routes";
        page.gauge("cambric_problems", help, [none(count(self.problems))])?;
        let help = "Parts that did not answer in time: their series are missing";
        let missing = self.missing.iter().map(|part| (vec![label("part", part)], 1_u8));
        page.gauge("cambric_metrics_missing", help, missing)?;
        self.bgp.as_ref().map_or(Ok(()), |bgp| bgp.write(&mut page))?;
        self.routes.as_ref().map_or(Ok(()), |routes| routes.write(&mut page))?;
        self.policy.as_ref().map_or(Ok(()), |status| policy::write(status, &mut page))?;
        self.cni.as_ref().map_or(Ok(()), |cni| cni.write(&mut page))?;
        self.source.as_ref().map_or(Ok(()), |health| source::write(health, &mut page))?;
        self.process.as_ref().map_or(Ok(()), |process| process.write(&mut page))
    }
}

fn written(seen: Seen) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(seen));
    let mut written = String::new();
    // A string takes all that is written.
    if let Err(error) = text::encode(&mut written, &registry) {
        tracing::error!(error = %error, "metrics cannot be written");
    }
    written
}

/// As a value of a sample. Beyond 2^53 nobody counts.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn count(count: usize) -> f64 {
    count as f64
}
