//! The task that owns the router.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use cambric_bgp::config::SocketOptions;
use cambric_bgp::peer::PeerState;
use cambric_bgp::rib::RouteChange;
use cambric_bgp::router::Refused;
use cambric_bgp::{Action, Admin, ConnId, Family, PeerId, Router, ScopedAddress, Wanted};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};

use crate::bfd::{self, Bfd};
use crate::connection::{Connection, FromWire};
use crate::drops::Drops;
use crate::listener::Listener;
use crate::socket;
use crate::strangers::Strangers;

/// How the speaker meets the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpeakerConfig {
    /// TCP port to listen on; 179 but for tests.
    pub port: u16,
}

impl Default for SpeakerConfig {
    fn default() -> SpeakerConfig {
        SpeakerConfig { port: 179 }
    }
}

/// What the speaker tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Stop forwarding over this gateway, now.
    NextHopLost(ScopedAddress),
    /// Learned routes changed; the latest state of each.
    Routes(Vec<RouteChange>),
    /// All peers that are there have told their routes of this family, or time is up.
    Converged(Family),
    /// A session came up or went down; of several changes in a row the last, if they were not taken in time.
    PeerChanged {
        /// Which.
        peer: PeerId,
        /// Its new state.
        state: PeerState,
    },
}

/// The speaker's task has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the BGP speaker has stopped")]
pub struct Gone;

type Look = Box<dyn FnOnce(&Router) + Send>;

enum Command {
    Apply(Box<Wanted>),
    SetAdminAt(ScopedAddress, Admin),
    Restart(PeerId),
    Look(Look),
    Farewell(oneshot::Sender<()>),
}

/// The way to the speaker; clone it freely.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    bfd: watch::Receiver<bfd::Report>,
}

impl Handle {
    /// Says what should be; see [`Router::apply`].
    ///
    /// # Errors
    /// [`Gone`]
    pub async fn apply(&self, wanted: Wanted) -> Result<(), Gone> {
        self.commands.send(Command::Apply(Box::new(wanted))).await.map_err(|_| Gone)
    }

    /// Switches off or on whoever has or gets this address; see [`Router::set_admin_at`].
    ///
    /// # Errors
    /// [`Gone`]
    pub async fn set_admin_at(&self, address: impl Into<ScopedAddress>, admin: Admin) -> Result<(), Gone> {
        self.commands.send(Command::SetAdminAt(address.into(), admin)).await.map_err(|_| Gone)
    }

    /// Ends the session with a peer and soon connects again; see [`Router::restart`].
    ///
    /// # Errors
    /// [`Gone`]
    pub async fn restart(&self, peer: PeerId) -> Result<(), Gone> {
        self.commands.send(Command::Restart(peer)).await.map_err(|_| Gone)
    }

    /// Runs `look` on the router, between two events, and gives what it gives.
    ///
    /// # Errors
    /// [`Gone`]
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Router) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (answer, answered) = oneshot::channel();
        let look: Look = Box::new(move |router| {
            // Who asked may have gone meanwhile.
            drop(answer.send(look(router)));
        });
        self.commands.send(Command::Look(look)).await.map_err(|_| Gone)?;
        answered.await.map_err(|_| Gone)
    }

    /// How the sessions of BFD are, and what was refused.
    pub fn bfd(&self) -> bfd::Report {
        self.bfd.borrow().clone()
    }

    /// The process is about to stop, and forwarding goes on: connections are closed without a word, and neighbours are told
    /// that there is no BFD for a while, so that none takes its end for a lost path (RFC 5882 section 3.2). Ends the task.
    ///
    /// # Errors
    /// [`Gone`]
    pub async fn farewell(&self) -> Result<(), Gone> {
        let (done, is_done) = oneshot::channel();
        self.commands.send(Command::Farewell(done)).await.map_err(|_| Gone)?;
        is_done.await.map_err(|_| Gone)
    }
}

/// Events that may wait for the daemon. Few: what is in the channel cannot be overtaken by a lost gateway.
const EVENTS_AHEAD: usize = 4;
/// Connections that may be closing at once, their last words on the way: enough for one with each peer of a
/// large fabric, and far from all descriptors. One more is closed without a word.
const MOST_CLOSING: usize = 256;
/// How long it may take a neighbour's BGP to hear of what its TCP or its BFD sees.
const IS_SEEN: Duration = Duration::from_millis(100);
/// Route changes handed over at once.
const ROUTES_AT_ONCE: usize = 512;

/// Listens, and starts the task with `router`. It ends when all handles are dropped or the join handle
/// is aborted; either way without a word to the peers.
///
/// # Errors
/// The port cannot be listened on.
pub fn start(
    config: &SpeakerConfig,
    router: Router,
) -> io::Result<(Handle, mpsc::Receiver<Event>, JoinHandle<()>)> {
    let listeners = socket::listen(config.port, &router.listener_options())?;
    match socket::kernel_has_tcp_ao() {
        Ok(true) => tracing::info!("this kernel has TCP-AO (RFC 5925); it is not used"),
        Ok(false) => tracing::info!("this kernel has no TCP-AO (RFC 5925)"),
        Err(error) => tracing::warn!(%error, "whether this kernel has TCP-AO (RFC 5925) is not known"),
    }
    let (commands, from_handles) = mpsc::channel(16);
    let (events, to_daemon) = mpsc::channel(EVENTS_AHEAD);
    let (to_driver, from_wire) = mpsc::channel(64);
    let (bfd_report, bfd) = watch::channel(bfd::Report::default());
    let driver = Driver {
        router,
        connections: BTreeMap::new(),
        connecting: BTreeMap::new(),
        closing: JoinSet::new(),
        to_driver,
        events,
        outbox: Outbox::default(),
        unfinished: BTreeSet::new(),
        converged: VecDeque::new(),
        backlog: Backlog::Clear,
        due: None,
        strangers: Strangers::default(),
        bfd: None,
        bfd_report,
        bfd_told: BTreeSet::new(),
    };
    let task = tokio::spawn(driver.run(config.port, listeners, from_handles, from_wire));
    Ok((Handle { commands, bfd }, to_daemon, task))
}

/// Whether events wait for the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backlog {
    Clear,
    Waiting,
}

/// What is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tell {
    /// What waits in the outbox.
    Events,
    /// And the route changes that wait in the router.
    EventsAndRoutes,
}

/// What waits for the daemon beside routes, which stay in the router. Both are states and not queues: while the daemon does
/// not take them, no more than one of each peer and gateway waits.
#[derive(Debug, Default)]
struct Outbox {
    lost: BTreeSet<ScopedAddress>,
    changed: BTreeMap<PeerId, PeerState>,
}

impl Outbox {
    /// Lost gateways first.
    fn pop(&mut self) -> Option<Event> {
        let lost = self.lost.pop_first().map(Event::NextHopLost);
        lost.or_else(|| self.changed.pop_first().map(|(peer, state)| Event::PeerChanged { peer, state }))
    }

    /// The latest state of a peer counts; those that came and went while nobody took them are not `known` any more.
    fn change(&mut self, peer: PeerId, state: PeerState, known: impl Fn(PeerId) -> bool) {
        if self.changed.insert(peer, state).is_none() {
            self.changed.retain(|other, _| *other == peer || known(*other));
        }
    }
}

struct Driver {
    router: Router,
    connections: BTreeMap<ConnId, Connection>,
    connecting: BTreeMap<ConnId, JoinHandle<()>>,
    /// Connections that are saying their last words; they end with the driver.
    closing: JoinSet<()>,
    to_driver: mpsc::Sender<FromWire>,
    events: mpsc::Sender<Event>,
    outbox: Outbox,
    /// Connections that get their next octets when others had their turn.
    unfinished: BTreeSet<ConnId>,
    /// To be told when the routes that were chosen up to now are: nothing is swept before.
    converged: VecDeque<Family>,
    backlog: Backlog,
    /// When the router wanted to be called at the latest.
    due: Option<Instant>,
    strangers: Strangers,
    /// Once there is a session of BFD.
    bfd: Option<Bfd>,
    bfd_report: watch::Sender<bfd::Report>,
    /// Peers that the router knows a session of.
    bfd_told: BTreeSet<PeerId>,
}

impl Driver {
    async fn run(
        mut self,
        port: u16,
        mut listeners: Vec<Listener>,
        mut commands: mpsc::Receiver<Command>,
        mut from_wire: mpsc::Receiver<FromWire>,
    ) {
        if let Some(time) = self.router.bfd_outlives_us_for() {
            drop(listeners);
            self.let_bfd_run_out(time).await;
            listeners = match socket::listen(port, &self.router.listener_options()) {
                Ok(listeners) => listeners,
                Err(error) => return tracing::error!(error = %error, port, "nobody can connect to us"),
            };
        }
        let mut listeners = listeners.into_iter();
        let (mut first, mut second) = (listeners.next(), listeners.next());
        let mut drops = Drops::default();
        let mut bfd_report = self.bfd_report.subscribe();
        // What was told while we waited counts, too.
        bfd_report.mark_changed();
        // The first look is at once: it says what was dropped before.
        let mut look = interval(Drops::EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.work();
            let timeout = self.router.poll_timeout();
            self.due = timeout;
            // Octets that never end must not keep timers from running out.
            if timeout.is_some_and(|at| at <= Instant::now()) {
                let now = self.clock();
                self.router.handle_timeout(now);
                continue;
            }
            // All branches are cancel-safe: channels, accept and sleep lose nothing when dropped. They are
            // tried in random order, so that none starves.
            tokio::select! {
                permit = self.events.clone().reserve_owned(), if self.backlog == Backlog::Waiting => match permit {
                    Ok(_) => self.backlog = Backlog::Clear,
                    Err(_) => return,
                },
                command = commands.recv() => match command {
                    Some(Command::Farewell(done)) => {
                        drop((first, second));
                        return self.farewell(done).await;
                    }
                    Some(command) => {
                        let applies = matches!(command, Command::Apply(_));
                        self.handle_command(command);
                        if applies {
                            let options = self.router.listener_options();
                            let listeners = [&mut first, &mut second].into_iter().flatten();
                            listeners.for_each(|listener| listener.follow(&options));
                        }
                    }
                    None => return,
                },
                Some(event) = from_wire.recv() => self.handle_wire(event),
                Ok(()) = bfd_report.changed() => {
                    let report = bfd_report.borrow_and_update().clone();
                    self.handle_bfd(&report);
                }
                () = std::future::ready(()), if !self.unfinished.is_empty() => {
                    std::mem::take(&mut self.unfinished).into_iter().for_each(|conn| self.transmit(conn));
                }
                accepted = accept(first.as_ref()) => self.handle_accepted(first.as_mut(), accepted),
                accepted = accept(second.as_ref()) => self.handle_accepted(second.as_mut(), accepted),
                _ = look.tick() => drops.look(Instant::now()),
                () = sleep_until(timeout.unwrap_or_else(Instant::now).into()), if timeout.is_some() => {
                    let now = self.clock();
                    self.router.handle_timeout(now);
                }
            }
        }
    }

    /// The time, and a word to the router before anything else if we were not run for long: what came meanwhile is
    /// still unread.
    fn clock(&mut self) -> Instant {
        let now = Instant::now();
        let late = self.due.take().map_or(Duration::ZERO, |due| now.saturating_duration_since(due));
        if late > Router::HUNG {
            let late_ms = late.as_millis();
            tracing::warn!(
                late_ms,
                "this process did not run in time: routes stay until the peers are heard"
            );
            self.router.handle_hang(now);
        }
        now
    }

    fn handle_command(&mut self, command: Command) {
        let now = self.clock();
        match command {
            Command::Apply(wanted) => self.router.apply(now, *wanted),
            Command::SetAdminAt(address, admin) => self.router.set_admin_at(now, address, admin),
            Command::Restart(peer) => self.router.restart(now, peer),
            Command::Look(look) => look(&self.router),
            // It is the end of the loop.
            Command::Farewell(_) => {}
        }
    }

    /// Gives neighbours the time to miss the BFD of the process before this one. Who calls meanwhile is refused: what waited
    /// in the kernel would cross with what we open then.
    async fn let_bfd_run_out(&mut self, time: Duration) {
        self.follow_bfd();
        sleep(time + IS_SEEN).await;
        let now = self.clock();
        self.router.handle_bfd_run_out(now);
    }

    /// First the connections close, without a word, and then BFD says that it ends. To a neighbour that knows what AdminDown
    /// is the order says nothing (RFC 5882 section 3.2). FRR 8.4.4 takes it for a lost path, and where the session is up it
    /// withdraws all that the node told; where the session has just been lost it waits for a restart.
    async fn farewell(mut self, done: oneshot::Sender<()>) {
        if let Some(bfd) = self.bfd.take() {
            self.connecting.values().for_each(JoinHandle::abort);
            self.connections.clear();
            sleep(IS_SEEN).await;
            let (said, is_said) = oneshot::channel();
            bfd.farewell(said);
            // An error: the thread is gone, and says no more.
            is_said.await.ok();
        }
        // Whoever asked may have gone meanwhile.
        done.send(()).ok();
    }

    fn handle_bfd(&mut self, report: &bfd::Report) {
        let now = self.clock();
        let told: BTreeSet<PeerId> = report.sessions.keys().copied().collect();
        for peer in std::mem::replace(&mut self.bfd_told, told.clone()).difference(&told) {
            self.router.handle_bfd(now, *peer, None);
        }
        for (peer, status) in &report.sessions {
            self.router.handle_bfd(now, *peer, Some(status.clone()));
        }
    }

    /// Has the sessions of BFD that the router wants.
    fn follow_bfd(&mut self) {
        let Some(sessions) = self.router.poll_bfd() else { return };
        if self.bfd.is_none() {
            match Bfd::start(self.bfd_report.clone()) {
                Ok(bfd) => self.bfd = Some(bfd),
                Err(error) => tracing::error!(error = %error, "BFD cannot be started"),
            }
        }
        if let Some(bfd) = &self.bfd {
            bfd.follow(sessions.clone());
        }
    }

    fn handle_wire(&mut self, event: FromWire) {
        let now = self.clock();
        match event {
            // An attempt that was given up meanwhile is not there any more, and its socket closes.
            FromWire::Connected(conn, stream) => {
                if self.connecting.remove(&conn).is_some() {
                    self.handle_connected(now, conn, stream);
                }
            }
            FromWire::ConnectFailed(conn, why) => {
                self.connecting.remove(&conn);
                self.router.handle_connect_failed(now, conn, &why);
            }
            // What comes over a connection that is closed or closing is nobody's.
            FromWire::Octets(conn, octets) => {
                if self.connections.contains_key(&conn) {
                    self.router.handle_bytes(now, conn, &octets);
                }
            }
            FromWire::Drained(conn) => {
                if let Some(connection) = self.connections.get_mut(&conn) {
                    connection.writing = false;
                    self.transmit(conn);
                }
            }
            FromWire::Closed(conn, why) => {
                if self.connections.remove(&conn).is_some() {
                    self.router.handle_closed(now, conn, &why);
                }
            }
        }
    }

    fn handle_connected(&mut self, now: Instant, conn: ConnId, stream: TcpStream) {
        match stream.local_addr() {
            Ok(local) => {
                let remote = stream.peer_addr().map_or(0, |remote| remote.port());
                self.connections.insert(conn, Connection::start(conn, stream, &self.to_driver));
                self.router.handle_connected(now, conn, local.ip());
                self.router.set_ports(conn, local.port(), remote);
            }
            Err(error) => self.router.handle_connect_failed(now, conn, &socket::in_words(error)),
        }
    }

    fn handle_accepted(&mut self, listener: Option<&mut Listener>, accepted: io::Result<TcpStream>) {
        let now = self.clock();
        let stream = match (accepted, listener) {
            (Ok(stream), _) => stream,
            (Err(error), Some(listener)) => return listener.failed(now, &error),
            (Err(_), None) => return,
        };
        let (local, remote) = match (stream.local_addr(), stream.peer_addr()) {
            (Ok(local), Ok(remote)) => (local, remote),
            (Err(error), _) | (_, Err(error)) => {
                tracing::debug!(error = %error, "connection was gone before it was taken");
                return;
            }
        };
        let from = socket::scoped(remote);
        match self.router.handle_accepted(now, local.ip(), from.clone()) {
            Ok(conn) => {
                let options = self.router.socket_options(&from);
                match options.map_or(Ok(()), |options| socket::admit(&stream, remote.ip(), &options)) {
                    Ok(()) => {
                        self.router.set_ports(conn, local.port(), remote.port());
                        self.connections.insert(conn, Connection::start(conn, stream, &self.to_driver));
                    }
                    Err(why) => self.router.handle_closed(now, conn, &why),
                }
            }
            // These are as it should be: the peer knows why, or will be back.
            Err(refused @ (Refused::Disabled | Refused::NoSlot)) => {
                tracing::debug!(peer = %from, reason = %refused, "connection not taken");
            }
            Err(refused) if self.strangers.is_news(now, remote.ip()) => {
                tracing::warn!(address = %from, to = %local.ip(), reason = %refused, "connection not taken");
            }
            Err(_) => {}
        }
    }

    /// Carries out all that the router wants now.
    fn work(&mut self) {
        while let Some(action) = self.router.poll_action() {
            match action {
                Action::Connect { conn, remote, port, options } => self.connect(conn, remote, port, options),
                Action::Close { conn, last_words } => self.close(conn, last_words),
                Action::Transmit(conn) => self.transmit(conn),
                Action::NextHopLost(next_hop) => {
                    // At once: the router does its table work when we ask for more.
                    self.outbox.lost.insert(next_hop);
                    self.tell(Tell::Events);
                }
                Action::Converged(family) => self.converged.push_back(family),
                Action::PeerChanged { peer, state } => {
                    let router = &self.router;
                    self.outbox.change(peer, state, |peer| router.has(peer));
                }
            }
        }
        self.follow_bfd();
        self.tell(Tell::EventsAndRoutes);
    }

    fn connect(&mut self, conn: ConnId, remote: ScopedAddress, port: u16, options: SocketOptions) {
        let to_driver = self.to_driver.clone();
        let attempt = tokio::spawn(async move {
            let event = match socket::connect(&remote, port, &options).await {
                Ok(stream) => FromWire::Connected(conn, stream),
                Err(why) => FromWire::ConnectFailed(conn, why),
            };
            // At a stop nobody listens any more, and the socket closes.
            drop(to_driver.send(event).await);
        });
        self.connecting.insert(conn, attempt);
    }

    fn close(&mut self, conn: ConnId, last_words: Vec<u8>) {
        if let Some(attempt) = self.connecting.remove(&conn) {
            attempt.abort();
        }
        while self.closing.try_join_next().is_some() {}
        let Some(connection) = self.connections.remove(&conn) else { return };
        if self.closing.len() < MOST_CLOSING {
            connection.close(last_words, &mut self.closing);
        } else if !last_words.is_empty() {
            tracing::debug!(conn = conn.0, "closed without a word: too many connections are closing");
        }
    }

    /// Gives the writer its next octets, unless it still has some.
    fn transmit(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(&conn).filter(|connection| !connection.writing)
        else {
            return;
        };
        let mut octets = Vec::new();
        let wants_more = self.router.poll_transmit(conn, &mut octets);
        if !octets.is_empty() {
            connection.send(octets);
        } else if wants_more {
            self.unfinished.insert(conn);
        }
    }

    /// Hands events over as long as the daemon takes them.
    fn tell(&mut self, what: Tell) {
        loop {
            let permit = match self.events.try_reserve() {
                Ok(permit) => permit,
                Err(_) => {
                    self.backlog = Backlog::Waiting;
                    return;
                }
            };
            let event = self.outbox.pop().or_else(|| match what {
                Tell::Events => None,
                Tell::EventsAndRoutes => route_changes(&mut self.router)
                    .or_else(|| self.converged.pop_front().map(Event::Converged)),
            });
            match event {
                Some(event) => permit.send(event),
                None => return,
            }
        }
    }
}

fn route_changes(router: &mut Router) -> Option<Event> {
    let changes: Vec<RouteChange> =
        std::iter::from_fn(|| router.poll_route_change()).take(ROUTES_AT_ONCE).collect();
    (!changes.is_empty()).then_some(Event::Routes(changes))
}

/// The next connection; never, where this family does not listen.
async fn accept(listener: Option<&Listener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}
