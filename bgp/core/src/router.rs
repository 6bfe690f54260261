//! The router: all peers and the tables, behind one door.
//!
//! Calls come in four kinds. *Wishes*: [`Router::apply`] says what should be. *Events*: `handle_*` says
//! what happened; each takes the time, which never runs backwards. *Work*: after any of these, poll
//! [`Router::poll_action`] and [`Router::poll_route_change`] until they give `None`, and
//! [`Router::poll_transmit`] for every connection named by [`Action::Transmit`], again whenever its socket
//! has taken all octets. *Looks*: everything that takes `&self`. [`Router::poll_timeout`] says when
//! [`Router::handle_timeout`] is due next; calling it early is harmless.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::attributes::AttributeSet;
use crate::config::{Drain, Link, LinkState, PeerConfig, SocketOptions, Wanted};
use crate::monitor::Stations;
use crate::peer::{Admin, Context, Effect, End, Identity, Jitter, Keeping, LastError, Peer, PeerState};
pub use crate::peer::{PeerOrigin, Refused};
use crate::prefix::{Family, Prefix};
use crate::rib::{AskAgain, Counts, ExportInfo, Part, PeerUp, Rib, RouteChange, RouteInfo};
use crate::session::Session;
use crate::types::{Asn, ConnId, PeerId, PeerKind, ScopedAddress};
use crate::wire::notification::{cease, code};
use crate::wire::{GracefulRestart, Nlri, Notification, RestartFamily, Update};

mod bfd;
mod identifier;
mod limits;
mod ranges;
mod sockets;
mod stations;
mod tally;
mod timers;

use bfd::Bfd;
pub use bfd::BfdSession;
pub(crate) use limits::LimitLog;
pub use sockets::ListenerOptions;
pub use tally::{PeerTally, Tally};
use timers::Timers;

/// What the driver must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Open a TCP connection; answer with [`Router::handle_connected`] or
    /// [`Router::handle_connect_failed`].
    Connect {
        /// Its name from now on.
        conn: ConnId,
        /// Where to.
        remote: ScopedAddress,
        /// TCP port there.
        port: u16,
        /// What its socket must be like.
        options: SocketOptions,
    },
    /// Send these octets after all others, then close. The name is not used any more.
    Close {
        /// Which.
        conn: ConnId,
        /// A NOTIFICATION, most often; may be empty.
        last_words: Vec<u8>,
    },
    /// [`Router::poll_transmit`] has something for this connection.
    Transmit(ConnId),
    /// A gateway is lost, with the only session that vouched for it: stop forwarding over it before the
    /// next call. The table work, which may take long, is done when no action is left.
    NextHopLost(ScopedAddress),
    /// All peers that are there have told their routes of this family, or time is up: what is left of
    /// an earlier run may be swept, once all route changes that wait are taken.
    Converged(Family),
    /// For the log: a session came up or went down.
    PeerChanged {
        /// Which.
        peer: PeerId,
        /// Its new state.
        state: PeerState,
    },
}

/// Whether this process follows another one on the same host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restarted {
    /// The first since boot.
    No,
    /// Forwarding went on meanwhile for these families.
    Yes {
        /// Families whose routes are all still in the kernel.
        kept: BTreeSet<Family>,
    },
}

/// Stale routes of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stale {
    /// Theirs.
    pub family: Family,
    /// Why they are kept.
    pub keeping: Keeping,
    /// Until when.
    pub until: Instant,
    /// How many there are.
    pub routes: usize,
}

/// A peer, for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its name in the tables.
    pub id: PeerId,
    /// Where it is.
    pub address: ScopedAddress,
    /// Why it is a peer.
    pub origin: PeerOrigin,
    /// As configured.
    pub config: PeerConfig,
    /// Its AS; `None` where any other than ours will do and it has not announced one yet.
    pub asn: Option<Asn>,
    /// Same AS or another.
    pub kind: PeerKind,
    /// Whether the operator lets it be.
    pub admin: Admin,
    /// State of the connection that is furthest; Idle where it is disabled.
    pub state: PeerState,
    /// Since when.
    pub since: Instant,
    /// Since when it may be expected to have a session: it was configured anew, enabled or restarted.
    pub expected_since: Instant,
    /// What was agreed on, if Established.
    pub session: Option<Session>,
    /// Why the last connection or session ended.
    pub last_error: Option<LastError>,
    /// UPDATEs with a fault that RFC 7606 lets a session survive.
    pub flawed_updates: u64,
    /// What was wrong with the last of these, and what was done.
    pub last_flaw: Option<LastError>,
    /// Its session of BFD, if it has one.
    pub bfd: Option<cambric_bfd::Status>,
    /// Routes that are kept for it, and that it has not told in this session.
    pub stale: Vec<Stale>,
    /// By family.
    pub counts: BTreeMap<Family, Counts>,
}

/// The whole BGP speaker of a host.
#[derive(Debug)]
pub struct Router {
    wanted: Wanted,
    identity: Identity,
    peers: BTreeMap<PeerId, Peer>,
    by_address: BTreeMap<ScopedAddress, PeerId>,
    by_conn: BTreeMap<ConnId, PeerId>,
    /// Addresses the operator switched off, those among them that no manifest names at the moment.
    disabled: BTreeSet<ScopedAddress>,
    /// Peers that were removed a moment ago, and until when they may read why.
    removed: BTreeMap<ScopedAddress, Instant>,
    rib: Rib,
    stations: Stations,
    convergence: Convergence,
    /// When the next part of what is drained is told no more.
    drain_goes_on: Option<Instant>,
    jitter: Jitter,
    next_conn: u64,
    next_peer: u32,
    actions: VecDeque<Action>,
    /// Sessions of peers that were removed since.
    sessions_lost: u64,
    /// Table work behind a lost gateway: the caller gets to turn traffic away before it is done.
    postponed: Option<Postponed>,
    /// Connections that [`Action::Transmit`] named and nobody has polled yet, and since when.
    ready: BTreeMap<ConnId, Instant>,
    /// Peers that something happened to since the last [`Router::after`]: the others are as they were, and with hundreds of
    /// peers nobody asks them.
    touched: BTreeSet<PeerId>,
    timers: Timers,
    bfd: Bfd,
}

/// Effects that wait until the caller has taken the actions before them.
#[derive(Debug)]
struct Postponed {
    since: Instant,
    effects: Vec<(PeerId, Effect)>,
}

/// From the start, or from the end of a hang, until all peers have told their routes.
#[derive(Debug)]
struct Convergence {
    pending: BTreeSet<Family>,
    started_at: Instant,
    /// The Selection_Deferral_Timer.
    deferral: Duration,
    after: After,
    /// When to look again whether anybody is still waited for: one peer is until then.
    look_at: Option<Instant>,
}

/// What peers are waited for after.
#[derive(Debug, Clone, PartialEq, Eq)]
enum After {
    /// The first start since boot: no route is at stake.
    Start,
    /// A restart: those of an earlier run are.
    Restart,
    /// We hung, and had these sessions: what came meanwhile may be that they are lost.
    Hang { sessions: BTreeSet<PeerId> },
}

impl Convergence {
    /// How long a peer without a session is waited for. Not less for one that refuses: BIRD and GoBGP turn
    /// connections away for some seconds after they lost a session, and a node may be restarting too.
    const FIRST_CONTACT: Duration = Duration::from_secs(10);
    /// How long a peer may tell routes that will not say when it has told all (no RFC 4724).
    const WITHOUT_END_OF_RIB: Duration = Duration::from_secs(3);
    /// How long one is waited for that has restarted too, and may be waiting for us. RFC 4724 section 4.1
    /// would not wait at all; but FRR says so of itself for two minutes after its start.
    const RESTARTED_TOO: Duration = Duration::from_secs(5);
    /// How long it may take to read all that came while we hung.
    const UNREAD: Duration = Duration::from_secs(2);

    /// Until when `peer` is waited for; `None` if it is not.
    fn waits_for(&self, peer: &Peer, family: Family) -> Option<Instant> {
        if peer.admin() == Admin::Disabled || !peer.config.families.contains(&family) {
            return None;
        }
        let until = match peer.established() {
            Some(_) => self.tells_until(peer, family)?,
            None => match &self.after {
                // Nothing is lost by going on without it, and it is not there or does not want us.
                After::Start if peer.failed_attempts > 0 => return None,
                After::Hang { sessions } if !sessions.contains(&peer.id) => return None,
                _ => self.started_at + Self::FIRST_CONTACT,
            },
        };
        Some(until.min(self.started_at + self.deferral))
    }

    /// Until when an established peer may take to tell its routes; `None` if it has, or tells none.
    fn tells_until(&self, peer: &Peer, family: Family) -> Option<Instant> {
        let (_, session, since) = peer.established()?;
        if !session.families.contains(&family) || peer.has_told_all(family) {
            return None;
        }
        Some(match &session.peer_restart {
            None => since + Self::WITHOUT_END_OF_RIB,
            Some(restart) if restart.restarted => since + Self::RESTARTED_TOO,
            Some(_) => since + self.deferral,
        })
    }
}

impl Router {
    /// By how much a caller must be too late for it to count as [hung](Router::handle_hang): far more than a busy host
    /// makes it, and less than the shortest hold time.
    pub const HUNG: Duration = Duration::from_secs(2);

    /// `disabled` are the addresses whose peers the operator switched off in an earlier process, also those
    /// that are not configured now. `seed` spreads retries; any number will do, another one for each host is
    /// best.
    pub fn new(
        now: Instant,
        wanted: Wanted,
        restarted: Restarted,
        disabled: BTreeSet<ScopedAddress>,
        seed: u64,
    ) -> Router {
        let mut rib = Rib::new(&wanted);
        if let Restarted::Yes { kept } = &restarted {
            // RFC 4724 section 4.1: forwarding goes on as it was until the peers have told all.
            kept.iter().for_each(|family| rib.defer(*family));
        }
        let identity = identity(&wanted, &restarted);
        let convergence = Convergence {
            pending: Family::ALL.into(),
            started_at: now,
            deferral: wanted.router.deferral,
            after: if restarted == Restarted::No { After::Start } else { After::Restart },
            look_at: None,
        };
        let peers = wanted.peers.clone();
        let mut router = Router {
            wanted: Wanted { peers: BTreeMap::new(), ..wanted },
            identity,
            peers: BTreeMap::new(),
            by_address: BTreeMap::new(),
            by_conn: BTreeMap::new(),
            disabled,
            removed: BTreeMap::new(),
            rib,
            stations: Stations::default(),
            convergence,
            drain_goes_on: None,
            jitter: Jitter::new(seed),
            next_conn: 0,
            next_peer: 0,
            actions: VecDeque::new(),
            sessions_lost: 0,
            postponed: None,
            ready: BTreeMap::new(),
            touched: BTreeSet::new(),
            timers: Timers::default(),
            bfd: Bfd::default(),
        };
        router.apply(now, Wanted { peers, ..router.wanted.clone() });
        router
    }

    // --- wishes ------------------------------------------------------------------------------------

    /// Makes `wanted` so. What is the same already is not touched.
    pub fn apply(&mut self, now: Instant, wanted: Wanted) {
        let renamed = (wanted.router.asn, wanted.router.router_id)
            != (self.wanted.router.asn, self.wanted.router.router_id);
        self.identity.asn = wanted.router.asn;
        self.identity.router_id = wanted.router.router_id;
        self.identity.restart.restart_time_s = GracefulRestart::time_s(wanted.router.restart_time);
        self.convergence.deferral = wanted.router.deferral;
        self.rib.apply(&wanted);
        self.drain(now, wanted.drain);

        let unnamed: Vec<(ScopedAddress, PeerId)> = self
            .by_address
            .iter()
            .filter(|(at, _)| !wanted.peers.contains_key(at))
            .map(|(at, id)| (at.clone(), *id))
            .collect();
        for (address, id) in unnamed {
            let was_named = self.peers.get(&id).is_none_or(|peer| peer.origin == PeerOrigin::Configured);
            match ranges::range_of(&wanted, &address).filter(|_| !was_named) {
                Some((range, listen)) => {
                    let (config, origin) = (ranges::config_of(listen), PeerOrigin::Range(range));
                    self.change_peer(now, id, config, origin, renamed);
                }
                None => self.remove_peer(now, &address),
            }
        }
        for (address, config) in &wanted.peers {
            let (config, origin) = (config.clone(), PeerOrigin::Configured);
            match self.by_address.get(address).copied() {
                Some(id) => self.change_peer(now, id, config, origin, renamed),
                None => drop(self.add_peer(now, address.clone(), config, origin)),
            }
        }
        let before = std::mem::replace(&mut self.wanted, wanted);
        self.follow_links(now, &before.links);
        self.apply_stations(now);
        self.after(now);
    }

    /// Tells our own routes as far as they are not drained.
    fn drain(&mut self, now: Instant, drain: Drain) {
        self.rib.set_draining(drain.stages(now));
        self.drain_goes_on = drain.next(now);
    }

    /// Tells peers of the links they are on: which went down, which came up or got an address.
    fn follow_links(&mut self, now: Instant, before: &[Link]) {
        let links = self.wanted.links.clone();
        let up = |links: &[Link], name: &str| {
            links.iter().find(|link| link.name == name && link.state == LinkState::Up).cloned()
        };
        for old in before.iter().filter(|old| old.state == LinkState::Up && up(&links, &old.name).is_none()) {
            for id in self.peers_on(old) {
                self.with_peer(now, id, |peer, cx| peer.handle_link_down(cx, &old.name));
            }
        }
        for new in links.iter().filter(|new| new.state == LinkState::Up) {
            if up(before, &new.name).as_ref() != Some(new) {
                for id in self.peers_on(new) {
                    self.with_peer(now, id, Peer::handle_link_up);
                }
            }
        }
    }

    /// Whether a link of ours has this address.
    fn is_ours(&self, address: &ScopedAddress) -> bool {
        self.wanted.links.iter().any(|link| link.has(address))
    }

    /// Peers that are reached through `link` without a gateway.
    fn peers_on(&self, link: &Link) -> Vec<PeerId> {
        let on_link = self.by_address.iter().filter(|(address, _)| link.reaches(address));
        on_link.map(|(_, id)| *id).collect()
    }

    fn add_peer(
        &mut self,
        now: Instant,
        address: ScopedAddress,
        config: PeerConfig,
        origin: PeerOrigin,
    ) -> PeerId {
        self.next_peer += 1;
        let id = PeerId(self.next_peer);
        self.by_address.insert(address.clone(), id);
        self.bfd.touch();
        let admin = if self.disabled.contains(&address) { Admin::Disabled } else { Admin::Enabled };
        let quiet_until = self.removed.remove(&address).unwrap_or(now);
        let peer = Peer::new(now, id, address, config, admin).of(origin).quiet_until(quiet_until);
        self.peers.insert(id, peer);
        self.with_peer(now, id, |peer, cx| peer.handle_timeout(cx));
        id
    }

    fn change_peer(
        &mut self,
        now: Instant,
        id: PeerId,
        config: PeerConfig,
        origin: PeerOrigin,
        renamed: bool,
    ) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let reset = renamed || peer.config.needs_new_session(&config);
        // Who has another AS is another router: what the old one told is void. That holds for us as well, and the peer may
        // not want what we are now.
        let own = (peer.config.own_asn(self.wanted.router.asn), config.own_asn(self.identity.asn));
        let is_same = peer.config.asn == config.asn && own.0 == own.1;
        let end = if is_same { End::ComeBack } else { End::Leave };
        self.rib.set_config(id, &config);
        self.bfd.touch();
        peer.config = config;
        peer.origin = origin;
        if reset {
            let notification = Notification::new(code::CEASE, cease::OTHER_CONFIGURATION_CHANGE);
            self.with_peer(now, id, |peer, cx| {
                peer.stop(cx, &notification, end, "our configuration changed");
            });
        }
    }

    fn remove_peer(&mut self, now: Instant, address: &ScopedAddress) {
        let Some(id) = self.by_address.remove(address) else { return };
        self.bfd.touch();
        let notification = Notification::new(code::CEASE, cease::PEER_DECONFIGURED);
        self.with_peer(now, id, |peer, cx| {
            peer.stop(cx, &notification, End::Leave, "removed from our configuration");
        });
        self.catch_up();
        self.rib.peer_removed(id);
        if let Some(peer) = self.peers.remove(&id) {
            self.removed.retain(|_, until| *until > now);
            self.removed.insert(address.clone(), peer.reads_until());
            self.sessions_lost += peer.sessions_lost;
            // Its time goes, too.
            self.touched.insert(id);
        }
    }

    /// Switches off or on whoever has or gets this address. It stays so whatever [`Router::apply`] says, also
    /// when the peer is removed and comes back.
    pub fn set_admin_at(&mut self, now: Instant, address: impl Into<ScopedAddress>, admin: Admin) {
        let address = address.into();
        let id = self.by_address.get(&address).copied();
        match admin {
            Admin::Enabled => self.disabled.remove(&address),
            Admin::Disabled => self.disabled.insert(address),
        };
        self.bfd.touch();
        if let Some(id) = id {
            self.with_peer(now, id, |peer, cx| peer.set_admin(cx, admin));
        }
        self.after(now);
    }

    /// Ends the session with a peer and connects again, as soon as the peer had the time to read why; nothing,
    /// if it is disabled.
    pub fn restart(&mut self, now: Instant, id: PeerId) {
        self.with_peer(now, id, Peer::restart);
        self.after(now);
    }

    // --- events ------------------------------------------------------------------------------------

    /// The connection asked for by [`Action::Connect`] is there; `local` is our end.
    pub fn handle_connected(&mut self, now: Instant, conn: ConnId, local: IpAddr) {
        if self.station_connected(now, conn) {
            return;
        }
        let peer = self.by_conn.get(&conn).and_then(|id| self.peers.get(id));
        let is_ours = peer.is_some_and(|peer| self.is_ours(&peer.address));
        self.with_conn(now, conn, |peer, cx| match is_ours {
            true => peer.handle_ourselves(cx, conn),
            false => peer.handle_connected(cx, conn, local),
        });
    }

    /// It could not be opened.
    pub fn handle_connect_failed(&mut self, now: Instant, conn: ConnId, why: &str) {
        if self.station_closed(now, conn, why) {
            return;
        }
        self.with_conn(now, conn, |peer, cx| peer.handle_connect_failed(cx, conn, why));
        self.by_conn.remove(&conn);
    }

    /// A peer connected to us; a link-local address comes with the link it came over. One that is disabled is told so, by an [`Action::Close`] of the connection, now
    /// and then.
    ///
    /// # Errors
    /// The connection is not wanted; close it.
    pub fn handle_accepted(
        &mut self,
        now: Instant,
        local: IpAddr,
        remote: impl Into<ScopedAddress>,
    ) -> Result<ConnId, Refused> {
        let remote = remote.into();
        if self.is_ours(&remote) {
            return Err(Refused::Ourselves);
        }
        let id = self.known_or_made(now, remote)?;
        let mut accepted = Err(Refused::UnknownPeer);
        self.with_peer(now, id, |peer, cx| accepted = peer.handle_accepted(cx, local));
        if let Ok(conn) = accepted
            && self.peers.get(&id).is_some_and(|peer| peer.has(conn))
        {
            self.by_conn.insert(conn, id);
        }
        self.after(now);
        accepted
    }

    /// Octets came in.
    pub fn handle_bytes(&mut self, now: Instant, conn: ConnId, octets: &[u8]) {
        self.with_conn(now, conn, |peer, cx| peer.handle_bytes(cx, conn, octets));
    }

    /// The connection is gone, and not because of [`Action::Close`].
    pub fn handle_closed(&mut self, now: Instant, conn: ConnId, why: &str) {
        if self.station_closed(now, conn, why) {
            return;
        }
        self.with_conn(now, conn, |peer, cx| peer.handle_closed(cx, conn, why));
        self.by_conn.remove(&conn);
    }

    /// The time of [`Router::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.catch_up();
        for id in self.timers.due(now) {
            self.with_peer(now, id, |peer, cx| peer.handle_timeout(cx));
        }
        if self.drain_goes_on.is_some_and(|at| now >= at) {
            self.drain(now, self.wanted.drain);
        }
        let stuck = |(conn, since): (&ConnId, &Instant)| Some((*conn, self.send_hold_until(*conn, *since)?));
        let stuck: Vec<(ConnId, Instant)> = self.ready.iter().filter_map(stuck).collect();
        for (conn, _) in stuck.into_iter().filter(|(_, until)| now >= *until) {
            self.with_conn(now, conn, |peer, cx| peer.send_hold_timeout(cx, conn));
        }
        self.forget_gone();
        self.connect_stations(now);
        self.after(now);
    }

    /// The SendHoldTimer (RFC 9687 section 4) of a connection that has had something to say since then: nobody polled
    /// for that, since the peer has not taken what was sent before.
    fn send_hold_until(&self, conn: ConnId, since: Instant) -> Option<Instant> {
        if self.stations.has(conn) {
            return Some(since + Stations::MOST_SILENCE);
        }
        let peer = self.peers.get(self.by_conn.get(&conn)?)?;
        let (_, session, _) = peer.established().filter(|(up, ..)| *up == conn)?;
        Some(since + session.hold_time.send_hold())
    }

    /// The process did not run for some time: it missed the time of [`Router::poll_timeout`] by more than
    /// [`Router::HUNG`]. Call it before any other event is told.
    ///
    /// Its peers may have given up their sessions, and nothing of that was read yet; but the kernel went on forwarding
    /// as it was told. So this is as after a restart (RFC 4724 section 4.1): no route changes before the peers that
    /// had a session have told theirs again, or time is up. It does not take graceful restart of theirs.
    pub fn handle_hang(&mut self, now: Instant) {
        self.catch_up();
        self.peers.values_mut().for_each(|peer| peer.handle_hang(now));
        self.touched.extend(self.peers.keys());
        self.ready.values_mut().for_each(|since| *since = now);
        if self.convergence.after == After::Restart && !self.convergence.pending.is_empty() {
            // Families that were done are held back anew, too, and somebody must let go of them.
            self.convergence.pending = Family::ALL.into();
            self.convergence.started_at = now;
        } else {
            let up = self.peers.values().filter(|peer| peer.established().is_some()).map(|peer| peer.id);
            let mut sessions: BTreeSet<PeerId> = up.collect();
            if let (After::Hang { sessions: before }, false) =
                (&self.convergence.after, self.convergence.pending.is_empty())
            {
                sessions.extend(before); // it hung again before they were back
            }
            let (pending, deferral) = (Family::ALL.into(), self.convergence.deferral);
            let after = After::Hang { sessions };
            self.convergence = Convergence { pending, started_at: now, deferral, after, look_at: None };
        }
        Family::ALL.into_iter().for_each(|family| self.rib.defer(family));
        self.after(now);
    }

    fn with_conn(&mut self, now: Instant, conn: ConnId, run: impl FnOnce(&mut Peer, &mut Context<'_>)) {
        if let Some(id) = self.by_conn.get(&conn).copied() {
            self.with_peer(now, id, run);
        }
        self.after(now);
    }

    /// Runs `run` on a peer and carries out what it wants.
    fn with_peer(&mut self, now: Instant, id: PeerId, run: impl FnOnce(&mut Peer, &mut Context<'_>)) {
        self.catch_up();
        let Some(peer) = self.peers.get_mut(&id) else { return };
        self.touched.insert(id);
        let mut effects = Vec::new();
        let mut cx = Context {
            now,
            identity: &self.identity,
            links: &self.wanted.links,
            next_conn: &mut self.next_conn,
            jitter: &mut self.jitter,
            attributes: &mut self.rib.attributes,
            effects: &mut effects,
        };
        run(peer, &mut cx);
        for effect in effects {
            self.carry_out_in_order(now, id, effect);
        }
    }

    /// First the one message that turns traffic away from a lost gateway, then the table work, however
    /// much it is: it waits until the caller has taken the actions before it.
    fn carry_out_in_order(&mut self, now: Instant, id: PeerId, effect: Effect) {
        if let Effect::Down { kept } = &effect {
            let lost = self.rib.lost_with(id, kept);
            if !lost.is_empty() {
                self.actions.extend(lost.into_iter().map(Action::NextHopLost));
                self.postponed.get_or_insert_with(|| Postponed { since: now, effects: Vec::new() });
            }
        }
        match &mut self.postponed {
            Some(postponed) if effect.is_table_work() => postponed.effects.push((id, effect)),
            _ => self.carry_out(id, effect),
        }
    }

    /// Does the table work that was postponed.
    fn catch_up(&mut self) {
        if let Some(Postponed { since, effects }) = self.postponed.take() {
            for (id, effect) in effects {
                self.carry_out(id, effect);
            }
            self.after(since);
        }
    }

    fn carry_out(&mut self, id: PeerId, effect: Effect) {
        self.touched.insert(id);
        let Some(peer) = self.peers.get(&id) else { return };
        match effect {
            Effect::Connect(conn) => {
                self.by_conn.insert(conn, id);
                let (remote, port) = (peer.address.clone(), peer.config.port);
                let options = self.options_of(&remote, &peer.config);
                self.actions.push_back(Action::Connect { conn, remote, port, options });
            }
            Effect::Close { conn, last_words } => {
                self.by_conn.remove(&conn);
                self.ready.remove(&conn);
                self.actions.push_back(Action::Close { conn, last_words });
            }
            Effect::Up { session, local } => {
                self.warn_of_same_identifier(id, &session);
                let Some(peer) = self.peers.get(&id) else { return };
                let up = PeerUp { session: &session, address: &peer.address, local, config: &peer.config };
                self.rib.peer_up(id, up);
                self.actions.push_back(Action::PeerChanged { peer: id, state: PeerState::Established });
            }
            Effect::Down { kept } => self.peer_down(id, &kept),
            Effect::Update(update) => self.learn(id, update),
            Effect::Refresh(family) => self.rib.refresh(id, family),
            Effect::RefreshBegins(family) => self.rib.refresh_begins(id, family),
            Effect::RefreshEnds(family) => self.rib.refresh_ends(id, family),
            Effect::SweepStale(family) => self.rib.sweep_stale(id, family),
            Effect::LongLived(family) => self.rib.long_lived(id, family),
            Effect::Doubt(freshness) => self.rib.doubt(id, freshness),
        }
    }

    fn peer_down(&mut self, id: PeerId, kept: &BTreeSet<Family>) {
        self.rib.peer_down(id, kept);
        let state = self.peers.get(&id).map_or(PeerState::Idle, |peer| peer.shown().0);
        self.actions.push_back(Action::PeerChanged { peer: id, state });
    }

    fn learn(&mut self, id: PeerId, update: Update) {
        self.rib.unlearn(id, &update.withdrawn);
        for announcement in update.announced {
            self.rib.learn(id, &announcement.routes, &announcement.attributes);
        }
    }

    /// Ends every call: decides what changed, and names the connections that have something to say.
    fn after(&mut self, now: Instant) {
        self.note_times();
        if self.postponed.is_some() {
            return; // `catch_up` comes back here
        }
        self.rib.settle();
        self.warn_of_limits(now);
        self.check_convergence(now);
        for AskAgain { peer: id, family } in self.rib.take_ask_again() {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.want_again(family);
                self.touched.insert(id);
            }
        }
        self.touched.extend(self.rib.take_roused());
        for id in std::mem::take(&mut self.touched) {
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            peer.poll_asks(now).into_iter().for_each(|family| self.rib.asked(id, family));
            self.timers.set(id, peer.poll_timeout());
            let updates =
                peer.established().map(|(conn, ..)| conn).filter(|_| self.rib.wants_transmit(peer.id));
            let control = peer.connections().filter(|c| !c.output.is_empty()).map(|c| c.id);
            for conn in control.chain(updates) {
                if let Entry::Vacant(entry) = self.ready.entry(conn) {
                    entry.insert(now);
                    self.actions.push_back(Action::Transmit(conn));
                }
            }
        }
        self.rouse_stations(now);
    }

    /// Keeps the times of peers that something happened to.
    fn note_times(&mut self) {
        for id in &self.touched {
            self.timers.set(*id, self.peers.get(id).and_then(Peer::poll_timeout));
        }
    }

    fn check_convergence(&mut self, now: Instant) {
        let waits = |family: &Family| Some((*family, self.waits_until(*family).find(|until| *until > now)?));
        let waits: BTreeMap<Family, Instant> = self.convergence.pending.iter().filter_map(waits).collect();
        let pending = self.convergence.pending.iter();
        let over: Vec<Family> = pending.filter(|family| !waits.contains_key(family)).copied().collect();
        self.convergence.look_at = waits.into_values().min();
        for family in over {
            self.convergence.pending.remove(&family);
            self.rib.stop_deferring(family);
            self.actions.push_back(Action::Converged(family));
            // From now on this run has state of its own to keep over a lost connection.
            for entry in &mut self.identity.restart.families {
                entry.forwarding_kept |= entry.family == family.into();
            }
        }
        if self.convergence.pending.is_empty() {
            self.identity.restart.restarted = false;
        }
    }

    /// Until when the routes of `family` are waited for: until the last of these.
    fn waits_until(&self, family: Family) -> impl Iterator<Item = Instant> {
        let unread = match self.convergence.after {
            After::Hang { .. } => Some(self.convergence.started_at + Convergence::UNREAD),
            After::Restart if self.may_come(family) => {
                Some(self.convergence.started_at + Convergence::FIRST_CONTACT)
            }
            After::Start | After::Restart => None,
        };
        let peers = self.peers.values();
        peers.filter_map(move |peer| self.convergence.waits_for(peer, family)).chain(unread)
    }

    // --- work --------------------------------------------------------------------------------------

    /// The next thing to do, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        if self.actions.is_empty() {
            self.catch_up();
        }
        self.actions.pop_front()
    }

    /// The next change of a learned route. Gives the latest state of a prefix, however often it changed
    /// since.
    pub fn poll_route_change(&mut self) -> Option<RouteChange> {
        self.catch_up();
        self.rib.poll_route_change()
    }

    /// Appends octets for `conn`, a bounded amount and after bounded work; whether there is more to come. Call it when the
    /// socket has taken what it was given before: what waits here is state, not a queue. If it gave nothing and there is
    /// more, call it again, other connections first: what was looked at was not for this peer.
    pub fn poll_transmit(&mut self, conn: ConnId, octets: &mut Vec<u8>) -> bool {
        self.catch_up();
        self.ready.remove(&conn);
        if let Some(wants_more) = self.transmit_to_station(conn, octets) {
            return wants_more;
        }
        let Some(id) = self.by_conn.get(&conn).copied() else { return false };
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        if let Some(connection) = peer.connection_mut(conn) {
            octets.append(&mut connection.output);
        }
        let Some((_, session, _)) = peer.established().filter(|(up, ..)| *up == conn) else { return false };
        if self.rib.wants_transmit(id) {
            self.rib.transmit(id, session, octets);
        }
        let wants_more = self.rib.wants_transmit(id);
        if wants_more {
            self.touched.insert(id);
        }
        wants_more
    }

    /// When [`Router::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waits = self.convergence.look_at;
        let stuck = self.ready.iter().filter_map(|(conn, since)| self.send_hold_until(*conn, *since));
        let first = self.timers.first().into_iter();
        let stations = self.stations.poll_timeout();
        first.chain(waits).chain(stuck).chain(self.drain_goes_on).chain(stations).min()
    }

    // --- looks -------------------------------------------------------------------------------------

    /// All peers, by address.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.by_address.values().filter_map(|id| self.peer(*id)).collect()
    }

    /// One of them.
    pub fn peer(&self, id: PeerId) -> Option<PeerStatus> {
        let peer = self.peers.get(&id)?;
        let (state, since) = peer.shown();
        let families = peer.config.families.iter();
        Some(PeerStatus {
            id,
            address: peer.address.clone(),
            origin: peer.origin,
            config: peer.config.clone(),
            asn: peer.asn(&self.identity),
            kind: peer.config.kind(self.identity.asn),
            admin: peer.admin(),
            state,
            since,
            expected_since: peer.expected_since,
            session: peer.established().map(|(_, session, _)| session.clone()),
            last_error: peer.last_error().cloned(),
            flawed_updates: peer.flawed_updates,
            last_flaw: peer.last_flaw.clone(),
            bfd: peer.bfd.clone(),
            stale: peer
                .kept()
                .map(|(family, keeping, until)| Stale {
                    family,
                    keeping,
                    until,
                    routes: self.rib.stale_routes(id, family),
                })
                .collect(),
            counts: families.map(|family| (*family, self.rib.counts(id, *family))).collect(),
        })
    }

    /// Whether this is a peer still.
    pub fn has(&self, id: PeerId) -> bool {
        self.peers.contains_key(&id)
    }

    /// Addresses that the operator switched off, those among them that are not configured now.
    pub fn disabled(&self) -> &BTreeSet<ScopedAddress> {
        &self.disabled
    }

    /// The addresses of all peers.
    pub fn peer_addresses(&self) -> impl Iterator<Item = &ScopedAddress> {
        self.by_address.keys()
    }

    /// The peer with this address.
    pub fn peer_at(&self, address: impl Into<ScopedAddress>) -> Option<PeerId> {
        self.by_address.get(&address.into()).copied()
    }

    /// Our AS.
    pub fn asn(&self) -> Asn {
        self.identity.asn
    }

    /// What the router was told to be.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// The prefixes of a part of the tables, in no order: for a listing in pieces, of a table however large.
    pub fn prefixes(&self, part: Part) -> Vec<Prefix> {
        self.rib.prefixes(part)
    }

    /// The routes to these prefixes, as far as they are still there, by prefix with all their paths: each as it
    /// came, before our policy, and what became of it.
    pub fn routes_to(&self, prefixes: &[Prefix]) -> Vec<RouteInfo> {
        self.rib.routes_to(prefixes)
    }

    /// What `peer` was told of these prefixes, with the attributes that were sent; in their order.
    pub fn sent(&self, peer: PeerId, prefixes: &[Prefix]) -> Vec<(Nlri, Arc<AttributeSet>)> {
        self.rib.sent(peer, prefixes)
    }

    /// What becomes of the best routes to these prefixes on their way to `peer`, and which rule says so; in their order. Of all
    /// usable ones, the best first, where it is told of several.
    pub fn exports(&self, peer: PeerId, prefixes: &[Prefix]) -> Vec<(Nlri, ExportInfo)> {
        self.rib.exports(peer, prefixes)
    }

    /// The learned routes, as [`Router::poll_route_change`] gave them last: for a caller that has to write
    /// them all again.
    pub fn learned_routes(&self) -> Vec<RouteChange> {
        self.rib.told_kernel()
    }

    /// Whether at least one peer was told `prefix`.
    pub fn is_announced(&self, prefix: &Prefix) -> bool {
        self.rib.is_announced(prefix)
    }

    /// Whether the session with `peer` is up, carries `family`, and has told its routes of it: by End-of-RIB, or it had
    /// the time that one is given who sends none (no RFC 4724).
    pub fn has_told(&self, now: Instant, peer: PeerId, family: Family) -> bool {
        let carries = |peer: &Peer| {
            peer.established().is_some_and(|(_, session, _)| session.families.contains(&family))
        };
        self.peers.get(&peer).is_some_and(|peer| {
            carries(peer) && self.convergence.tells_until(peer, family).is_none_or(|until| now >= until)
        })
    }

    /// Whether every session that is up has told its routes, or had the time to.
    pub fn is_in_sync(&self, now: Instant) -> bool {
        let waits = |peer: &Peer| {
            let mut families = peer.config.families.iter();
            families
                .any(|family| self.convergence.tells_until(peer, *family).is_some_and(|until| now < until))
        };
        !self.peers.values().any(waits)
    }

    /// Whether all peers that are there have told their routes of `family`.
    pub fn is_converged(&self, family: Family) -> bool {
        !self.convergence.pending.contains(&family)
    }
}

fn identity(wanted: &Wanted, restarted: &Restarted) -> Identity {
    let kept = |family: &Family| matches!(restarted, Restarted::Yes { kept } if kept.contains(family));
    let families = Family::ALL
        .iter()
        .map(|family| RestartFamily { family: (*family).into(), forwarding_kept: kept(family) })
        .collect();
    Identity {
        asn: wanted.router.asn,
        router_id: wanted.router.router_id,
        restart: GracefulRestart {
            restarted: *restarted != Restarted::No,
            notification: true,
            restart_time_s: GracefulRestart::time_s(wanted.router.restart_time),
            families,
        },
    }
}

#[cfg(test)]
mod tests;
