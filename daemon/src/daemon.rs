//! The main loop: joins source, speaker, routes and the files of the node. It decides nothing about
//! routes; it passes on what others decided, in the right order.
//!
//! Three orders matter. A pod range is unreachable in the kernel before it is announced. A lost gateway is
//! told to `routes` before the routes that used it. And nothing of an earlier run is swept before the
//! peers that are there have told their routes.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use cambric_api::node;
use cambric_bgp::config::Drain;
use cambric_bgp::peer::PeerState;
use cambric_bgp::rib::RouteChange;
use cambric_bgp::router::{PeerOrigin, Restarted};
use cambric_bgp::{Family, Prefix, Router, ScopedAddress, config};
use cambric_cni::lock_file;
use cambric_kube::Kube;
use cambric_policy::compile::UnknownPods;
use cambric_routes::{Change, Routes};
use cambric_speaker::{Event, Handle, SpeakerConfig};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::args::{Args, SourceArg};
use crate::control::Disabled;
use crate::discovery::Discovery;
use crate::drain::{By, Drains};
use crate::health::{self, Pulse};
use crate::host::Host;
use crate::http::{self, Http};
use crate::intent::{Intent, NoIntent, intent_with_services};
use crate::latch::{self, Keeper, Seen};
use crate::log::Log;
use crate::objects::Problem;
use crate::pod_routes::PodRoutes;
use crate::policy::{self, Policy};
use crate::problems::{Origin, Problems};
use crate::readiness::{PeersRoutes, Progress};
use crate::report::{self, Inputs, Report};
use crate::services::{Answers, Served};
use crate::session_log::{self, SessionLog};
use crate::source::record::{self, Record};
use crate::source::{Views, dir, kube};
use crate::state::{Shared, State};
use crate::view::View;
use crate::{check, conflist, control, endpoints, fib, forwarding, pod_routes, readiness, rights};

/// How often an unfinished start is looked at; costs nothing once routing is ready.
const READINESS_INTERVAL: Duration = Duration::from_millis(100);
/// Addresses of services that are shown one by one.
const MOST_SERVICES: usize = 8;

/// How long the end of BFD may take to be told.
const FAREWELL: Duration = Duration::from_millis(500);

/// Runs until SIGTERM or SIGINT. Leaves routes, pods and configuration as they are: stopping is not
/// leaving.
///
/// # Errors
/// Something the daemon cannot do without: its folder, its sockets, the kernel.
pub async fn run(args: Args, log: Log) -> anyhow::Result<()> {
    let mut stop = signal(SignalKind::terminate()).context("catching SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("catching SIGINT")?;
    rights::check(&args.sysctl_dir, args.bgp_port)?;
    let _lock = lock(&args.run_dir)?;
    let (mut daemon, routes_task) = Daemon::start(args, log).await?;
    tokio::select! {
        biased;
        ended = routes_task => return Err(why_routes_ended(ended)),
        result = daemon.run() => return result,
        _ = stop.recv() => tracing::info!("SIGTERM: stopping; routes, pods and configuration stay"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping; routes, pods and configuration stay"),
    }
    daemon.farewell().await;
    Ok(())
}

/// Two daemons on one node would undo each other's work.
fn lock(run_dir: &Path) -> anyhow::Result<Flock<fs::File>> {
    fs::create_dir_all(run_dir).with_context(|| format!("creating {}", run_dir.display()))?;
    let path = run_dir.join(node::LOCK);
    let file = lock_file::open(&path).with_context(|| format!("opening {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => anyhow::anyhow!("another cambricd holds {}", path.display()),
        _ => anyhow::anyhow!("locking {}: {}", path.display(), errno.desc()),
    })
}

struct Daemon {
    args: Args,
    node: String,
    routes: Routes,
    route_events: mpsc::Receiver<cambric_routes::Event>,
    views: Views,
    /// The last of them.
    view: Option<View>,
    answers: Answers,
    /// Services, and which of them have an endpoint here.
    served: Served,
    speaker: Option<Speaker>,
    /// The last one that could be made; before the first, what is missing.
    intent: Result<Intent, NoIntent>,
    /// What there was of it when the intent was made.
    host: Host,
    /// Who is behind the interfaces that manifests name.
    discovery: Discovery,
    /// Addresses of its peers.
    peers: Arc<BTreeSet<IpAddr>>,
    converged: BTreeSet<Family>,
    /// Whether the sessions of the last run are back, and the record for the next run.
    latch: Keeper,
    problems: Problems,
    /// What is drained; the control socket changes it, and the label of our Node.
    drains: Arc<Drains>,
    /// Peers that the operator has disabled; the control socket changes it.
    disabled: Arc<Mutex<Disabled>>,
    state: watch::Sender<State>,
    pod_routes: watch::Receiver<PodRoutes>,
    policy: Policy,
    http: watch::Receiver<Http>,
    report: Report,
    session_log: SessionLog,
    /// Shows that the main loop comes round.
    pulse: Pulse,
    /// The API server, where that is the source.
    kube: Option<Kube>,
}

/// Where the objects come from.
struct Source {
    views: Views,
    /// The folder, where that is the source.
    manifests: Option<PathBuf>,
    kube: Option<Kube>,
}

impl Source {
    fn start(args: &Args, node: &str) -> anyhow::Result<Source> {
        match &args.source {
            SourceArg::Dir(folder) => {
                let record = Record::new(args.state_dir.join(record::FILE_NAME), node);
                let started = dir::start(folder.clone(), record);
                let (views, _task) = started.with_context(|| format!("watching {}", folder.display()))?;
                Ok(Source { views, manifests: Some(folder.clone()), kube: None })
            }
            SourceArg::Kube => {
                let (kubeconfig, state_dir) = (args.kubeconfig().map(Path::to_owned), args.state_dir.clone());
                let settings = cambric_kube::Settings { kubeconfig, state_dir, node: node.to_owned() };
                let server = Kube::start(settings);
                let record = Record::new(args.state_dir.join(kube::FILE_NAME), node);
                let (views, _task) = kube::start(server.pictures(), record);
                Ok(Source { views, manifests: None, kube: Some(server) })
            }
        }
    }
}

type RoutesTask = JoinHandle<Result<(), cambric_routes::Error>>;

struct Speaker {
    handle: Handle,
    events: mpsc::Receiver<Event>,
}

impl Daemon {
    async fn start(args: Args, log: Log) -> anyhow::Result<(Daemon, RoutesTask)> {
        let node = match &args.node {
            Some(node) => node.clone(),
            None => {
                let name = nix::unistd::gethostname().context("asking for the host name")?;
                // As the kubelet registers it (kubernetes, pkg/util/node, `GetHostname`).
                name.to_string_lossy().trim().to_lowercase()
            }
        };
        let config = cambric_routes::Config::new(&args.run_dir);
        let (routes, route_events, task) =
            Routes::start(config).await.context("opening the kernel's routing table")?;
        let routes_task = tokio::spawn(task.run());
        forwarding::start(args.sysctl_dir.clone(), &args.run_dir, routes.links()).await;
        let life = report::life(&args.run_dir, &routes.snapshot().await.context("asking for the routes")?);
        let Source { views, manifests, kube } = Source::start(&args, &node)?;
        let pictures = kube.as_ref().map(Kube::pictures);
        let (state, published) = watch::channel(State::default());
        let disabled = Arc::new(Mutex::new(Disabled::read(&args.run_dir)));
        let drains = Arc::new(Drains::open(&args.run_dir).context("reading the boot ID")?);
        let latch = Keeper::start(&args.run_dir).context("reading the boot ID")?;
        let discovery = Discovery::start(args.sysctl_dir.clone(), routes.links(), latch.last_on_links());
        let pod_routes = pod_routes::start(args.run_dir.clone(), routes.links(), published.clone())
            .context("watching the host routes of pods")?;
        let settings = policy::Settings {
            node: node.clone(),
            run_dir: args.run_dir.clone(),
            source_tells_faults: matches!(args.source, SourceArg::Dir(_)),
            bgp_port: args.bgp_port,
            // Of the cluster's objects none is left out. Folders mostly have no pods: they are judged by their namespaces.
            unknown_pods: match args.source {
                SourceArg::Kube => UnknownPods::Closed,
                SourceArg::Dir(_) => UnknownPods::Unlabelled,
            },
        };
        let wired = endpoints::start(args.run_dir.clone(), routes.links());
        let policy = policy::start(args.policy, settings, wired).await.context("starting NetworkPolicy")?;
        let (told_http, http_told) = watch::channel(Http::default());
        let pulse = Pulse::new(Instant::now());
        let shared = Shared {
            node: node.clone(),
            source: args.source.to_string(),
            manifests,
            pictures: pictures.clone(),
            log,
            http: http_told,
            run_dir: args.run_dir.clone(),
            started_at: Instant::now(),
            routes: routes.clone(),
            policy: policy.clone(),
            drains: Arc::clone(&drains),
            disabled: Arc::clone(&disabled),
            state: published.clone(),
        };
        control::start(&args.run_dir, shared.clone()).context("opening the control socket")?;
        let http = shared.http.clone();
        http::start(http::Settings::from(&args), shared, pulse.clone(), told_http);
        let report = match (&kube, pictures.clone()) {
            (Some(kube), Some(pictures)) => {
                let (node, node_taint, clients) = (node.clone(), args.node_taint, kube.clients());
                let (views, state) = (views.clone(), published);
                let inputs = Inputs { node, node_taint, life, clients, pictures, views, state };
                let mut report = Report::start(inputs);
                report.look_at(routes.clone(), policy.clone());
                report
            }
            _ => Report::off(),
        };
        tracing::info!(node = %node, source = %args.source, "cambricd {} is running", env!("CARGO_PKG_VERSION"));
        let answers = Answers::at(node.clone());
        let mut daemon = Daemon {
            intent: Err(NoIntent::Unseen),
            host: Host::default(),
            discovery,
            peers: Arc::default(),
            args,
            node,
            routes,
            route_events,
            views,
            view: None,
            answers,
            served: Served::default(),
            speaker: None,
            converged: BTreeSet::new(),
            latch,
            problems: Problems::default(),
            drains,
            disabled,
            state,
            pod_routes,
            policy,
            http,
            report,
            session_log: SessionLog::default(),
            pulse,
            kube,
        };
        daemon.set_problems(Origin::Policy, daemon.policy.problems());
        Ok((daemon, routes_task))
    }

    async fn run(&mut self) -> anyhow::Result<()> {
        let (mut links, mut gateways) = (self.routes.links(), self.routes.default_gateways());
        let mut drains = self.drains.changes();
        let mut found = self.discovery.found();
        let mut readiness = interval(READINESS_INTERVAL);
        readiness.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut beat = interval(Pulse::INTERVAL);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.pulse.beat();
            let ready = self.state.borrow().ready;
            // All branches are cancel-safe: channels and watches lose nothing when dropped.
            tokio::select! {
                biased;
                event = next_event(&mut self.speaker) => {
                    self.handle_speaker(event.context("the BGP speaker has ended")?).await?;
                }
                changed = self.views.changed() => {
                    changed.context("the source has ended")?;
                    self.update_view().await?;
                }
                changed = links.changed() => {
                    changed.context("the routes task has ended")?;
                    links.mark_unchanged();
                    self.follow_host().await?;
                }
                changed = gateways.changed() => {
                    changed.context("the routes task has ended")?;
                    gateways.mark_unchanged();
                    self.follow_host().await?;
                }
                changed = found.changed() => {
                    changed.context("the discovery of routers has ended")?;
                    found.mark_unchanged();
                    self.follow_host().await?;
                }
                Ok(()) = drains.changed() => {
                    drains.mark_unchanged();
                    self.update_intent().await?;
                }
                changed = self.pod_routes.changed() => {
                    changed.context("the keeper of pods' routes has ended")?;
                    let now = self.pod_routes.borrow_and_update().clone();
                    self.set_problems(Origin::PodRoutes, now.problems.clone());
                    self.state.send_modify(|state| state.pod_routes = now);
                }
                changed = self.policy.changed() => {
                    changed?;
                    self.set_problems(Origin::Policy, self.policy.problems());
                }
                Ok(()) = self.http.changed() => {
                    let problems = self.http.borrow_and_update().problems.clone();
                    self.set_problems(Origin::Http, problems);
                }
                () = self.report.changed() => self.set_problems(Origin::Report, self.report.problems()),
                Some(_) = self.route_events.recv() => {} // logged where they arise
                _ = readiness.tick(), if !ready || self.latch.has_changed() => {
                    if !ready {
                        self.check_readiness().await?;
                    }
                    if self.latch.has_changed() {
                        self.look_at_sessions().await?;
                    }
                }
                _ = beat.tick() => {
                    self.look_at_source();
                    self.session_log.due(Instant::now().into()).into_iter().for_each(session_log::Line::log);
                    if self.latch.is_unsettled() {
                        self.look_at_sessions().await?;
                    }
                }
            }
        }
    }

    /// How it stands with an API server: some of it is a problem only when it lasts.
    fn look_at_source(&mut self) {
        if let Some(kube) = &self.kube {
            let health = kube.pictures().borrow().health.clone();
            self.set_problems(Origin::Source, kube::problems(&health, SystemTime::now()));
        }
    }

    /// In a large cluster pods change all the time: they cost BGP nothing. Nor do endpoints at other nodes.
    async fn update_view(&mut self) -> anyhow::Result<()> {
        let Some(now) = self.views.borrow_and_update().clone() else { return Ok(()) };
        let served = self.answers.follow(&now.services.services, &now.services.slices);
        let is_served_otherwise = served != self.served;
        self.served = served;
        let before = self.view.replace(now);
        let fabric = |view: Option<&View>| view.map(|view| Arc::as_ptr(&view.fabric));
        if is_served_otherwise || fabric(before.as_ref()) != fabric(self.view.as_ref()) {
            self.update_intent().await?;
        }
        self.tell_policy();
        Ok(())
    }

    /// The wishes of the operator or the links of the host have changed.
    async fn update_intent(&mut self) -> anyhow::Result<()> {
        let Some(View { fabric: objects, .. }) = self.view.clone() else { return Ok(()) };
        if objects.unknown.is_empty() {
            self.state.send_if_modified(|state| !std::mem::replace(&mut state.source_seen, true));
        }
        self.host = Host::of(&self.routes, &self.discovery.found().borrow().clone(), &self.host);
        let running = self.intent.as_ref().ok().map(|intent| intent.wanted.router.router_id);
        let mut found = intent_with_services(&objects, &self.served, &self.node, &self.host, running);
        if let Ok(intent) = &mut found {
            self.discovery.look_at(&intent.unnumbered);
            self.drain(intent);
        }
        let problems = match &found {
            Ok(intent) => intent.problems.clone(),
            Err(error) => {
                let known = objects.problems.iter().chain(&objects.notices).cloned();
                let unknown = match self.intent {
                    Ok(_) => error.problem_while_going_on(),
                    Err(_) => error.problem(),
                };
                known.chain(unknown).collect()
            }
        };
        self.set_problems(Origin::Objects, problems);
        match found {
            Ok(intent) if self.intent.as_ref() == Ok(&intent) => {}
            Ok(intent) => self.apply(intent).await?,
            // A source that lost sight of us: go on as before.
            Err(_) if self.intent.is_ok() => {}
            Err(error) => self.intent = Err(error),
        }
        Ok(())
    }

    /// What the label of the Node drains is written down with its time; what cannot be is drained by the next look.
    ///
    /// Where nothing was announced yet in this boot there is nobody to turn away gently: it is not announced at all.
    fn drain(&self, intent: &mut Intent) {
        let now = Instant::now();
        let is_announced = self.speaker.is_some() || self.routes.kept().restarted;
        let since = if is_announced { now } else { now.checked_sub(Drain::WAIT).unwrap_or(now) };
        let set = self.drains.change(By::Label, since, |_| intent.drained_by_label.clone());
        if let Err(error) = set {
            tracing::warn!(error = %error, "what the label of the Node drains cannot be written down");
        }
        intent.wanted.drain = self.drains.wanted();
    }

    /// Its links or its default routes have changed.
    async fn follow_host(&mut self) -> anyhow::Result<()> {
        let peers = Arc::clone(&self.peers);
        self.update_intent().await?;
        if self.peers != peers {
            self.tell_policy();
        }
        Ok(())
    }

    /// Policies need no Node object: pods that run are judged, whatever else is wrong.
    fn tell_policy(&self) {
        if let Some(view) = &self.view {
            self.policy.tell(view, Arc::clone(&self.peers));
        }
    }

    fn set_problems(&mut self, origin: Origin, problems: impl IntoIterator<Item = Problem>) {
        let new = self.problems.set(origin, problems);
        for problem in &new {
            tracing::warn!(problem = %problem, "a problem for the operator");
        }
        if origin != Origin::Report {
            self.report.found(origin, &new);
        }
        self.state.send_modify(|state| state.problems = self.problems.in_words());
    }

    async fn apply(&mut self, intent: Intent) -> anyhow::Result<()> {
        if let Ok(before) = &self.intent {
            for change in check::changes(Some(before), &intent) {
                tracing::info!(change, "what is wanted of this node has changed");
            }
        }
        let sources_changed =
            self.intent.as_ref().is_ok_and(|old| old.node_addresses != intent.node_addresses);
        let before: Vec<Prefix> =
            self.intent.as_ref().map(|intent| intent.unreachable.clone()).unwrap_or_default();
        let new: Vec<Change> = fib::only_in(&intent.unreachable, &before).map(fib::unreachable).collect();
        // Waits for all that is being written: not for a link that flaps.
        if !new.is_empty() {
            self.routes.set(new).await?;
            self.routes.flushed().await?;
        }
        match &self.speaker {
            Some(speaker) => speaker.handle.apply(intent.wanted.clone()).await?,
            None => {
                // Held until the speaker is there, so that an operator's word is heard here or by it.
                let disabled = Arc::clone(&self.disabled);
                let disabled = disabled.lock().await;
                self.start_speaker(&intent, &disabled)?;
            }
        }
        let gone = fib::only_in(&before, &intent.unreachable);
        self.routes.set(gone.map(fib::drop).collect()).await?;
        self.state.send_modify(|state| {
            state.router_id = Some(intent.wanted.router.router_id.to_string());
            state.asn = Some(intent.wanted.router.asn.value());
            state.intent = Some(Arc::new(intent.clone()));
            state.originated = announced(&intent);
        });
        let has_ranges = !intent.wanted.listen_ranges.is_empty();
        self.peers = Arc::new(intent.wanted.peers.keys().map(ScopedAddress::ip).collect());
        self.intent = Ok(intent);
        if has_ranges {
            self.follow_callers().await?;
        }
        self.latch.note_change();
        if sources_changed {
            self.write_learned_again().await?;
        }
        if self.state.borrow().ready {
            if !self.write_conflist() {
                self.state.send_modify(|state| state.ready = false);
            }
        } else if let Some(content) = self.conflist() {
            // That of an earlier run serves as long as it says the same.
            let stands = conflist::stands(&self.args.cni_conf_dir, &content);
            self.state.send_modify(|state| state.conflist_stands = stands);
        }
        Ok(())
    }

    /// This node's address changed, and with it what its own packets come from.
    async fn write_learned_again(&self) -> anyhow::Result<()> {
        let Some(speaker) = &self.speaker else { return Ok(()) };
        let routes = speaker.handle.look(Router::learned_routes).await?;
        self.write_learned(routes).await
    }

    async fn write_learned(&self, changes: Vec<RouteChange>) -> anyhow::Result<()> {
        // Only a speaker tells routes, and only an intent starts one.
        let Ok(Intent { unreachable, node_addresses, .. }) = &self.intent else { return Ok(()) };
        let changes = changes.into_iter().map(|change| fib::learned(change, unreachable, node_addresses));
        Ok(self.routes.set(changes.collect()).await?)
    }

    fn start_speaker(&mut self, intent: &Intent, disabled: &Disabled) -> anyhow::Result<()> {
        let kept = self.routes.kept();
        let restarted = if kept.restarted {
            let kept = Family::ALL.into_iter().filter(|own| *kept.kept.get(fib::family(*own))).collect();
            tracing::info!(kept = ?kept, "an earlier run left its routes; peers are asked to keep ours");
            Restarted::Yes { kept }
        } else {
            Restarted::No
        };
        let seed = u64::from(intent.wanted.router.router_id.value()) ^ u64::from(std::process::id()) << 32;
        let now = Instant::now();
        let router = Router::new(now, intent.wanted.clone(), restarted, disabled.addresses().collect(), seed);
        let config = SpeakerConfig { port: self.args.bgp_port };
        let (handle, events, _task) = cambric_speaker::start(&config, router)
            .with_context(|| format!("listening on TCP port {}", config.port))?;
        self.state.send_modify(|state| state.speaker = Some(handle.clone()));
        self.speaker = Some(Speaker { handle, events });
        Ok(())
    }

    /// Neighbours are told before the end that BFD ends, and that this is no lost path. Not for long: the end is what counts.
    async fn farewell(&self) {
        let Some(speaker) = &self.speaker else { return };
        if !matches!(timeout(FAREWELL, speaker.handle.farewell()).await, Ok(Ok(()))) {
            tracing::warn!("the neighbours were not told in time that BFD ends");
        }
    }

    async fn handle_speaker(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::NextHopLost(next_hop) => self.next_hop_lost(next_hop).await?,
            Event::Routes(changes) => self.write_learned(changes).await?,
            Event::Converged(family) => {
                tracing::info!(family = %family, "peers have told their routes");
                self.routes.allow_sweep(fib::family(family)).await?;
                self.converged.insert(family);
            }
            Event::PeerChanged { peer, state } => {
                let Some(speaker) = &self.speaker else { return Ok(()) };
                self.latch.note_change();
                let status = speaker.handle.look(move |router| router.peer(peer)).await?;
                let is_caller = status.as_ref().is_none_or(|status| {
                    status.origin != PeerOrigin::Configured && !self.peers.contains(&status.address.ip())
                });
                if let Some(status) = status {
                    self.report.session(&status, state);
                    // An error from before the session says nothing about the session.
                    let error = status.last_error.filter(|_| state != PeerState::Established);
                    let reason = error.map(|error| error.what);
                    let change = session_log::Change { peer: status.config.name, to: state, reason };
                    let line = self.session_log.changed(Instant::now().into(), status.address, change);
                    line.into_iter().for_each(session_log::Line::log);
                }
                if is_caller {
                    self.follow_callers().await?;
                }
            }
        }
        Ok(())
    }

    /// Whoever calls from a listen range is a peer as long as it is there: pods reach the BGP port of none.
    async fn follow_callers(&mut self) -> anyhow::Result<()> {
        let (Some(speaker), Ok(intent)) = (&self.speaker, &self.intent) else { return Ok(()) };
        let there =
            |router: &Router| router.peer_addresses().map(ScopedAddress::ip).collect::<BTreeSet<IpAddr>>();
        let mut peers = speaker.handle.look(there).await?;
        peers.extend(intent.wanted.peers.keys().map(ScopedAddress::ip));
        if *self.peers != peers {
            self.peers = Arc::new(peers);
            self.tell_policy();
        }
        Ok(())
    }

    async fn next_hop_lost(&self, next_hop: ScopedAddress) -> anyhow::Result<()> {
        // That the session is gone is logged, and how often it may be.
        tracing::debug!(next_hop = %next_hop, "gateway is lost with its session");
        Ok(self.routes.next_hop_lost(next_hop.ip(), next_hop.interface().map(str::to_owned)).await?)
    }

    /// Of many sessions that come or go at once none is looked at by itself.
    async fn look_at_sessions(&mut self) -> anyhow::Result<()> {
        // A speaker was started by an intent.
        let (Some(speaker), Ok(intent)) = (&self.speaker, &self.intent) else {
            return Ok(());
        };
        let Ok(disabled) = self.disabled.try_lock().map(|disabled| disabled.addresses().collect()) else {
            // An operator sets a peer: whoever holds it waits for the speaker, and is done soon.
            self.latch.note_change();
            return Ok(());
        };
        let peers = speaker.handle.look(|router| latch::peers(router, Instant::now())).await?;
        let health = self.kube.as_ref().map(|kube| kube.pictures().borrow().health.clone());
        let unconfirmed = health.as_ref().map(kube::unconfirmed).unwrap_or_default();
        let ranges = intent.wanted.listen_ranges.keys().copied().collect();
        let (mesh, gateways) = (&intent.mesh, &intent.gateways);
        let seen = Seen { peers, mesh, gateways, ranges, disabled, unconfirmed };
        let is_rest_there = health::missing_parts(&self.state.borrow(), &self.policy).is_empty();
        let shown = self.latch.look(&seen, is_rest_there);
        self.state.send_if_modified(|state| {
            let is_other = state.latch != shown;
            state.latch = shown;
            is_other
        });
        Ok(())
    }

    /// Routing is ready when learned routes are written and the own range is announced to at least one
    /// peer, or no peer is configured. Then pods may start.
    async fn check_readiness(&mut self) -> anyhow::Result<()> {
        let mut waiting_for = self.waiting_for().await?;
        if self.converged.len() == Family::ALL.len() && !self.state.borrow().routes_in_sync {
            self.routes.flushed().await?;
            self.state.send_modify(|state| state.routes_in_sync = true);
        }
        if waiting_for.is_empty() {
            self.routes.flushed().await?;
            if self.write_conflist() {
                tracing::info!("routing is ready");
            } else {
                waiting_for.push("a CNI configuration that can be written".to_owned());
            }
        }
        if waiting_for.is_empty() {
            // Perhaps nothing but the peers was missing.
            self.latch.note_change();
        }
        self.state.send_modify(|state| {
            state.ready = waiting_for.is_empty();
            state.waiting_for = waiting_for;
        });
        Ok(())
    }

    async fn waiting_for(&self) -> anyhow::Result<Vec<String>> {
        let intent = match &self.intent {
            Ok(intent) => intent,
            Err(error) => return Ok(error.waits_for()),
        };
        // The speaker is started with the first intent.
        let Some(speaker) = &self.speaker else { return Ok(vec!["the BGP speaker".to_owned()]) };
        let to_announce = readiness::to_announce(intent);
        let (in_sync, untold) = speaker
            .handle
            .look(move |router| {
                let is_told = |ways: &Vec<Prefix>| ways.iter().any(|prefix| router.is_announced(prefix));
                let untold = to_announce.into_iter().filter(|ways| !is_told(ways));
                let untold = untold.filter_map(|ways| ways.first().copied());
                (router.is_in_sync(Instant::now()), untold.collect::<Vec<_>>())
            })
            .await?;
        let all_told = in_sync && self.converged.len() == Family::ALL.len();
        let peers_routes = if all_told { PeersRoutes::Told } else { PeersRoutes::Awaited };
        let mut waiting_for = readiness::waiting_for(&self.node, intent, &Progress { peers_routes, untold });
        waiting_for
            .extend(self.policy.waiting_for().map(|what| format!("NetworkPolicy, which waits for {what}")));
        Ok(waiting_for)
    }

    /// Writes the CNI configuration; whether it stands as it should. What is in the way is a problem, and
    /// it is tried again with the next look at readiness.
    fn write_conflist(&mut self) -> bool {
        if self.intent.is_err() {
            return false;
        }
        let folder = &self.args.cni_conf_dir;
        // Without ranges there is nothing to write; pods that run keep the ones they have.
        let written = self.conflist().map_or(Ok(()), |content| conflist::write(folder, &content));
        let problem = written.err().map(|error| {
            Problem::new(
                folder.join(conflist::FILE_NAME).display().to_string(),
                format!("cannot be written: {error}{}", node::whose(folder, &error)),
            )
        });
        let is_written = problem.is_none();
        self.set_problems(Origin::Conflist, problem);
        self.state.send_modify(|state| state.conflist_stands = is_written);
        is_written
    }

    /// What should be in the CNI configuration; `None` while this node has no ranges, or nobody knows.
    fn conflist(&self) -> Option<serde_json::Value> {
        let intent = self.intent.as_ref().ok().filter(|intent| !intent.pod_prefixes.is_empty())?;
        Some(conflist::render(intent, &self.args.run_dir, self.args.policy_gate))
    }
}

/// What an operator wants to see at a glance: of thousands of services their number.
fn announced(intent: &Intent) -> Vec<String> {
    let (services, others): (Vec<_>, Vec<_>) =
        intent.wanted.originated.iter().partition(|(_, own)| own.source == config::Source::Services);
    let mut words: Vec<String> = others.into_iter().map(|(prefix, _)| prefix.to_string()).collect();
    match &services[..] {
        few if few.len() <= MOST_SERVICES => words.extend(few.iter().map(|(prefix, _)| prefix.to_string())),
        many => words.push(format!("{} addresses of services", many.len())),
    }
    words
}

/// The speaker's next event; never, while there is no speaker.
async fn next_event(speaker: &mut Option<Speaker>) -> Option<Event> {
    match speaker {
        Some(speaker) => speaker.events.recv().await,
        None => std::future::pending().await,
    }
}

/// The task lives as long as a handle, and we hold one.
fn why_routes_ended(ended: Result<Result<(), cambric_routes::Error>, JoinError>) -> anyhow::Error {
    let error = match ended {
        Ok(Ok(())) => return anyhow::anyhow!("the routes task has ended"),
        Ok(Err(error)) => anyhow::Error::new(error),
        Err(panicked) => anyhow::Error::new(panicked),
    };
    error.context("the routes task has ended")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn one_daemon_has_the_lock_and_nobody_but_root_can_take_it() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let run_dir = folder.path().join("run");
        let first = lock(&run_dir).expect("free");
        let path = run_dir.join(node::LOCK);
        let error = lock(&run_dir).expect_err("taken").to_string();
        assert_eq!(error, format!("another cambricd holds {}", path.display()));
        drop(first);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("as earlier versions made it");
        drop(lock(&run_dir).expect("free again"));
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }
}
