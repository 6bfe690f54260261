//! NetworkPolicy on this node: tells the enforcer what the source and the kernel show, and the plugin when it may go
//! on.
//!
//! ```text
//! views, BGP peers -> cluster --\                            /-> mark `ready`
//!                                > changes -> enforcer ------+-> status, problems
//! looks for pods, `place` -> wired --/                       \-> answer to `place`
//! ```
//!
//! Nothing is written to the kernel before a view that hides nothing and a look for pods were told; what an earlier run
//! left is in force so long. A kernel that lacks what it takes is a problem, and it is asked again: until then there is
//! no mark, and the plugin starts no pod, for pods must not run unpoliced where policy was asked for.

mod cluster;
mod leftovers;
mod off;
mod wired;

use std::collections::BTreeSet;
use std::future::pending;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use cambric_cni::gate::ready::{self, Policy as Judged};
use cambric_policy::change::{Change, Endpoint};
use cambric_policy::compile::{Options, UnknownPods};
use cambric_policy::enforcer::{Config, Enforcer, Filter, Report, Status, Waiting};
use cambric_policy::error::Error;
use cambric_policy::policy::Policy as PolicyRules;
use cambric_policy::program::IfName;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

pub(crate) use self::cluster::Cluster;
use self::off::Leaving;
use self::wired::Wired;
use crate::args::PolicyArg;
use crate::endpoints::Look;
use crate::objects::{Kind, Problem, Reason};
use crate::view::View;

/// The NFLOG group that denied packets are told to.
const LOG_GROUP: u16 = 203;
/// How soon a kernel that lacks something is asked again, and the mark is looked at.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// How long the plugin waits for a pod; a little less than it does itself.
const PLACE_PATIENCE: Duration = Duration::from_secs(1);
/// Where most problems are.
const PLACE: &str = "NetworkPolicy";

/// What it needs to know from the start.
#[derive(Debug)]
pub struct Settings {
    /// This node, as pods name it.
    pub node: String,
    /// Where the mark stands.
    pub run_dir: PathBuf,
    /// The source tells by itself which policies have faults, with file and field.
    pub source_tells_faults: bool,
    /// Pods do not reach it.
    pub bgp_port: u16,
    /// What becomes of pods that the source does not show.
    pub unknown_pods: UnknownPods,
}

/// How it goes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PolicyState {
    /// The first complete view is in the kernel.
    pub written: bool,
    /// What pods wait for; nothing when written.
    pub waiting_for: Option<&'static str>,
    /// What the operator should mend.
    pub problems: Vec<Problem>,
    /// The enforcer's own words.
    pub enforcer: Status,
}

/// A handle; clones speak of the same.
#[derive(Debug, Clone)]
pub struct Policy {
    role: Role,
}

#[derive(Debug, Clone)]
enum Role {
    Kept(Kept),
    /// It is not wanted.
    Off(Leaving),
}

#[derive(Debug, Clone)]
struct Kept {
    enforcer: Arc<OnceLock<Enforcer>>,
    wired: Arc<Mutex<Wired>>,
    clusters: watch::Sender<Option<Arc<Cluster>>>,
    state: watch::Receiver<PolicyState>,
}

/// Starts it, or sees to it that nothing of it is left.
///
/// # Errors
/// The run-time folder's.
pub async fn start(
    wanted: PolicyArg,
    settings: Settings,
    looks: watch::Receiver<Option<Look>>,
) -> anyhow::Result<Policy> {
    if wanted == PolicyArg::Off {
        return Ok(Policy { role: Role::Off(off::start(settings.run_dir).await?) });
    }
    if ready::read(&settings.run_dir).ok() != Some(Judged::On) || !still_judges().await {
        ready::remove(&settings.run_dir).context("taking the mark away")?;
    }
    let (clusters, seen) = watch::channel(None);
    let waiting = PolicyState { waiting_for: Some(FIRST_VIEW), ..PolicyState::default() };
    let (told, state) = watch::channel(waiting);
    let kept = Kept { enforcer: Arc::default(), wired: Arc::default(), clusters, state };
    let (enforcer, wired) = (Arc::clone(&kept.enforcer), Arc::clone(&kept.wired));
    let keeper = Keeper { settings, enforcer, wired, clusters: seen, looks, told };
    tokio::spawn(keeper.run());
    Ok(Policy { role: Role::Kept(kept) })
}

/// Whether tables of an earlier run are in force. A mark without them would let pods start that nobody judges; while it
/// runs they are put back at once, and the mark stays.
async fn still_judges() -> bool {
    match spawn_blocking(leftovers::judge).await {
        Ok(Ok(judge)) => judge,
        Ok(Err(error)) => {
            tracing::warn!(error = %error, "whether pods are judged is not known yet: no pod is started until they are");
            false
        }
        Err(_) => false,
    }
}

const FIRST_VIEW: &str = "the objects of the cluster";
const FIRST_LOOK: &str = "the list of pods on this node";
const KERNEL: &str = "the kernel to take it";
const FIT_KERNEL: &str = "a kernel that has what NetworkPolicy takes";
const LEAVING: &str = "tables of an earlier run to go";

impl Policy {
    /// How it goes; `None`: it is not wanted.
    pub fn state(&self) -> Option<PolicyState> {
        self.kept().map(|kept| kept.state.borrow().clone())
    }

    /// What the operator should mend.
    pub fn problems(&self) -> Vec<Problem> {
        match &self.role {
            Role::Kept(kept) => kept.state.borrow().problems.clone(),
            Role::Off(leaving) => leaving.borrow().iter().cloned().collect(),
        }
    }

    /// What pods wait for.
    pub fn waiting_for(&self) -> Option<&'static str> {
        match &self.role {
            Role::Kept(kept) => kept.state.borrow().waiting_for,
            Role::Off(leaving) => leaving.borrow().as_ref().map(|_| LEAVING),
        }
    }

    /// Waits for another state. Cancel-safe.
    ///
    /// # Errors
    /// There will be none any more: what is in the kernel stays in force, and follows nothing.
    pub async fn changed(&mut self) -> anyhow::Result<()> {
        match &mut self.role {
            Role::Kept(kept) => kept.state.changed().await.context("the keeper of policies has ended"),
            Role::Off(leaving) => match leaving.changed().await {
                Ok(()) => Ok(()),
                // All is gone, and nothing will change.
                Err(_) => pending().await,
            },
        }
    }

    fn kept(&self) -> Option<&Kept> {
        match &self.role {
            Role::Kept(kept) => Some(kept),
            Role::Off(_) => None,
        }
    }

    /// What was told last; `None`: nothing, or it is not wanted.
    pub(crate) fn cluster(&self) -> Option<Arc<Cluster>> {
        self.kept().and_then(|kept| kept.clusters.borrow().clone())
    }

    /// What is from now on, with the BGP peers of this node. A view that hides something changes nothing.
    pub fn tell(&self, view: &View, peers: Arc<BTreeSet<IpAddr>>) {
        let Some(kept) = self.kept() else { return };
        if let Some(cluster) = Cluster::of(view, peers) {
            kept.clusters.send_replace(Some(Arc::new(cluster)));
        }
    }

    /// Waits until the pod behind a link is judged by its policies; for a second at most.
    ///
    /// # Errors
    /// Why it is not, in words. It is closed until then.
    pub async fn place(&self, interface: IfName, endpoint: Endpoint) -> Result<(), String> {
        let Some(kept) = self.kept() else {
            return self.waiting_for().map_or(Ok(()), |what| Err(format!("it waits for {what}")));
        };
        let placing = async {
            let enforcer = kept.started().await?;
            let endpoint = kept.wired().place(Instant::now(), IfName::clone(&interface), endpoint);
            enforcer.place(IfName::clone(&interface), endpoint).await.map_err(|error| error.to_string())?;
            kept.wired().is_heard(&interface);
            Ok(())
        };
        if let Ok(placed) = timeout(PLACE_PATIENCE, placing).await {
            return placed;
        }
        let state = kept.state.borrow();
        let waiting = state.enforcer.waiting.get(&interface).map(|waiting| self.why(waiting));
        let waits = || state.waiting_for.unwrap_or("the kernel, which did not answer in time");
        Err(waiting.unwrap_or_else(|| format!("it waits for {}", waits())))
    }

    /// Why a link is closed, in words: what the cluster says of its pod, too.
    pub fn why(&self, waiting: &Waiting) -> String {
        let cluster = self.cluster();
        let known = match waiting {
            Waiting::PodObject(key) => cluster.as_ref().and_then(|cluster| cluster.why_unjudged(key)),
            _ => None,
        };
        known.unwrap_or_else(|| waiting.to_string())
    }

    /// All policies and pods, or those of the filter.
    ///
    /// # Errors
    /// Why nobody knows, in words.
    pub async fn report(&self, filter: Option<Filter>) -> Result<Report, String> {
        let kept = self.kept().ok_or("NetworkPolicy is off on this node (--policy off)")?;
        let waits = || format!("NetworkPolicy waits for {}", self.waiting_for().unwrap_or(FIRST_VIEW));
        let enforcer = kept.enforcer.get().ok_or_else(waits)?;
        enforcer.report(filter).await.map_err(|error| error.to_string())
    }
}

impl Kept {
    /// The enforcer, once it runs.
    async fn started(&self) -> Result<&Enforcer, String> {
        let mut state = self.state.clone();
        loop {
            state.mark_unchanged();
            if let Some(enforcer) = self.enforcer.get() {
                return Ok(enforcer);
            }
            state.changed().await.map_err(|_| "the keeper of policies has ended".to_owned())?;
        }
    }

    fn wired(&self) -> MutexGuard<'_, Wired> {
        self.wired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Keeper {
    settings: Settings,
    enforcer: Arc<OnceLock<Enforcer>>,
    wired: Arc<Mutex<Wired>>,
    clusters: watch::Receiver<Option<Arc<Cluster>>>,
    looks: watch::Receiver<Option<Look>>,
    told: watch::Sender<PolicyState>,
}

/// Waits until the first view is in the kernel.
type Completing = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

impl Keeper {
    /// Ends when nobody speaks with it any more, or the enforcer has ended: then the daemon does, too.
    async fn run(mut self) {
        let enforcer = self.start_enforcer().await;
        // For those who wait for it.
        self.told.send_modify(|_| {});
        if let Err(error) = self.keep(&enforcer).await {
            tracing::error!(error = %error, "policies are not followed any more");
        }
    }

    /// Tries until the kernel has all it takes: a module may be loaded later.
    async fn start_enforcer(&self) -> Enforcer {
        let config = Config::new(Options {
            node: self.settings.node.clone(),
            bgp_port: self.settings.bgp_port,
            log_group: LOG_GROUP,
            unknown_pods: self.settings.unknown_pods,
        });
        loop {
            let config = config.clone();
            let what = match spawn_blocking(move || Enforcer::start(config)).await {
                Ok(Ok(enforcer)) => return self.enforcer.get_or_init(|| enforcer).clone(),
                Ok(Err(error)) => format!("{:#}", anyhow::Error::new(error)),
                Err(error) => error.to_string(),
            };
            if let Err(error) = ready::remove(&self.settings.run_dir) {
                tracing::error!(error = %error, "the mark for the CNI plugin cannot be taken away");
            }
            let problem = Problem::new(PLACE, what).and("no pod is started; asked again every 30 s");
            self.told.send_if_modified(|told| {
                let problems = vec![problem];
                let is_new = told.problems != problems;
                (told.waiting_for, told.problems) = (Some(FIT_KERNEL), problems);
                is_new
            });
            sleep(RETRY_INTERVAL).await;
        }
    }

    async fn keep(&mut self, enforcer: &Enforcer) -> Result<(), Error> {
        let mut status = enforcer.status();
        let mut retry = interval(RETRY_INTERVAL);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut completing: Completing = Box::pin(pending());
        let mut told = Arc::new(Cluster::default());
        let mut progress = Progress::default();
        self.publish(&status.borrow_and_update().clone(), &progress);
        loop {
            // All branches are cancel-safe: channels lose nothing, and the future is kept.
            tokio::select! {
                changed = self.clusters.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let Some(now) = self.clusters.borrow_and_update().clone() else { continue };
                    let changes = told.changes_to(&now);
                    progress.note_faults(&changes);
                    enforcer.apply(changes).await?;
                    told = now;
                    progress.view_told = true;
                }
                changed = self.looks.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let Some(look) = self.looks.borrow_and_update().clone() else { continue };
                    match look.found {
                        Ok(found) => {
                            self.tell_endpoints(enforcer, look.begun, found).await?;
                            progress.look_told = true;
                            progress.look_failed = None;
                            progress.strange = self.wired().problems(look.begun);
                        }
                        Err(error) => progress.look_failed = Some(error),
                    }
                }
                completed = &mut completing => {
                    completed?;
                    completing = Box::pin(pending());
                    progress.written = true;
                    tracing::info!("pods are judged by their policies");
                    progress.mark_failed = self.set_mark();
                }
                changed = status.changed() => changed.map_err(|_| Error::Ended)?,
                _ = retry.tick(), if progress.written => progress.mark_failed = self.set_mark(),
            }
            if progress.view_told && progress.look_told && !progress.completing {
                progress.completing = true;
                let enforcer = enforcer.clone();
                completing = Box::pin(async move { enforcer.complete().await });
            }
            self.publish(&status.borrow_and_update().clone(), &progress);
        }
    }

    async fn tell_endpoints(
        &self,
        enforcer: &Enforcer,
        begun: Instant,
        found: crate::endpoints::Endpoints,
    ) -> Result<(), Error> {
        let changes = self.wired().look(begun, found);
        if changes.is_empty() {
            return Ok(());
        }
        let changed: Vec<IfName> = changes.iter().filter_map(interface).cloned().collect();
        enforcer.apply(changes).await?;
        let again = self.wired().again(&changed);
        if again.is_empty() { Ok(()) } else { enforcer.apply(again).await }
    }

    fn wired(&self) -> MutexGuard<'_, Wired> {
        self.wired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why it could not be set; it is tried again. Somebody may take it away, too.
    fn set_mark(&self) -> Option<String> {
        ready::write(&self.settings.run_dir, Judged::On).err().map(|error| error.to_string())
    }

    fn publish(&self, enforcer: &Status, progress: &Progress) {
        let now = progress.state(enforcer.clone(), &self.settings);
        self.told.send_if_modified(|told| {
            let is_new = *told != now;
            *told = now;
            is_new
        });
    }
}

fn interface(change: &Change) -> Option<&IfName> {
    match change {
        Change::Endpoint(interface, _) => Some(interface),
        _ => None,
    }
}

/// How far it has come.
#[derive(Debug, Default)]
struct Progress {
    view_told: bool,
    look_told: bool,
    completing: bool,
    written: bool,
    look_failed: Option<String>,
    /// Links of which nobody can tell whose they are.
    strange: Vec<String>,
    /// Policies with faults that the source has told, with file and field; by namespace and name, as the enforcer says
    /// them.
    faulty: BTreeSet<String>,
    mark_failed: Option<String>,
}

impl Progress {
    fn waiting_for(&self) -> Option<&'static str> {
        match self {
            Progress { written: true, .. } => None,
            Progress { view_told: false, .. } => Some(FIRST_VIEW),
            Progress { look_told: false, .. } => Some(FIRST_LOOK),
            _ => Some(KERNEL),
        }
    }

    fn note_faults(&mut self, changes: &[Change]) {
        for change in changes {
            let Change::Policy(key, object) = change else { continue };
            let has_faults = |object: &Arc<_>| !PolicyRules::read(&key.namespace, object).faults.is_empty();
            if object.as_ref().is_some_and(has_faults) {
                self.faulty.insert(key.to_string());
            } else {
                self.faulty.remove(&key.to_string());
            }
        }
    }

    fn state(&self, enforcer: Status, settings: &Settings) -> PolicyState {
        let told = |what: &str| {
            settings.source_tells_faults && closed_policy(what).is_some_and(|key| self.faulty.contains(key))
        };
        let of_enforcer = enforcer.problems.iter().filter(|what| !told(what));
        let of_enforcer = of_enforcer.map(|what| {
            let problem = Problem::new(PLACE, what.clone());
            match closed_policy(what) {
                Some(key) => problem.about(Kind::NetworkPolicy, key).because(Reason::Invalid).found_here(),
                None => problem,
            }
        });
        let of_looks =
            self.look_failed.iter().chain(&self.strange).map(|what| Problem::new(PLACE, what.clone()));
        let mark = settings.run_dir.join(ready::FILE).display().to_string();
        let of_mark = self.mark_failed.iter().map(|error| {
            Problem::new(mark.clone(), format!("cannot be written: {error}; no pod is started"))
        });
        PolicyState {
            written: self.written,
            waiting_for: self.waiting_for(),
            problems: of_enforcer.chain(of_looks).chain(of_mark).collect(),
            enforcer,
        }
    }
}

/// Which policy a problem of the enforcer is about, if it fails closed.
fn closed_policy(what: &str) -> Option<&str> {
    what.strip_prefix("policy ")?.split_once(" fails closed: ").map(|(key, _)| key)
}

#[cfg(test)]
mod tests;
