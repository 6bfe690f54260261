//! A neighbour: the state machine of RFC 4271 section 8 with two connection slots.
//!
//! Both sides may connect, so for a moment there may be two connections. Each slot knows who opened it;
//! when both have come far enough, one is closed by a rule that both sides share ([`collision`]).
//! Everything that must happen outside is an [`Effect`]; nothing is done in here.
//!
//! ```text
//!            +-- outgoing: Waiting -> Connecting -> Connection ---+
//!   Peer  ---|                                                    |--- at most one is Established
//!            +-- incoming:                          Connection ---+
//!
//!   Connection: (Held ->) OpenSent -> OpenConfirm -> Established
//! ```

mod backoff;
mod collision;
mod connection;
mod helper;
mod reason;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::config::{ConnectMode, PeerConfig};
use crate::prefix::Family;
use crate::session::Session;
use crate::types::{Asn, ConnId, PeerId, PeerKind, RouterId};
use crate::wire::capability::four_octet_as;
use crate::wire::notification::{self, cease, code};
use crate::wire::{Capability, Fault, GracefulRestart, Notification, Open, Update, frame};

use backoff::Backoff;
pub(crate) use backoff::Jitter;
use collision::{Opener, survivor};
use connection::{Connection, Heard, State};
use helper::Helper;
pub use reason::LastError;
use reason::Reason;

/// What a peer wants done.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Open a TCP connection under this name.
    Connect(ConnId),
    /// Send these octets, then close.
    Close { conn: ConnId, last_words: Vec<u8> },
    /// A session is up.
    Up { session: Session, local: IpAddr },
    /// It is gone; routes of `kept` stay as stale ones.
    Down { kept: BTreeSet<Family> },
    /// Routes came.
    Update(Update),
    /// The peer asks for our routes of a family.
    Refresh(Family),
    /// Stale routes of a family must go.
    SweepStale(Family),
    /// What the peer told is a last resort from now on.
    Doubt,
}

impl Effect {
    /// Whether it touches the tables; the others concern a connection alone.
    pub(crate) fn is_table_work(&self) -> bool {
        !matches!(self, Effect::Connect(_) | Effect::Close { .. })
    }
}

/// What a call may use: the time, who we are, new names, dice; and where effects go.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) identity: &'a Identity,
    pub(crate) next_conn: &'a mut u64,
    pub(crate) jitter: &'a mut Jitter,
    pub(crate) effects: &'a mut Vec<Effect>,
}

impl Context<'_> {
    fn new_conn(&mut self) -> ConnId {
        *self.next_conn += 1;
        ConnId(*self.next_conn)
    }
}

/// What goes into every OPEN of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) asn: Asn,
    pub(crate) router_id: RouterId,
    pub(crate) restart: GracefulRestart,
}

/// The states of RFC 4271 section 8.2.2, of the connection that is furthest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerState {
    /// Nothing is attempted: the peer is disabled.
    Idle,
    /// Waiting for the next attempt, or for the peer's.
    Active,
    /// A TCP connection is being opened.
    Connect,
    /// Our OPEN is out.
    OpenSent,
    /// The peer's OPEN is in.
    OpenConfirm,
    /// Routes flow.
    Established,
}

impl fmt::Display for PeerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PeerState::Idle => "Idle",
            PeerState::Active => "Active",
            PeerState::Connect => "Connect",
            PeerState::OpenSent => "OpenSent",
            PeerState::OpenConfirm => "OpenConfirm",
            PeerState::Established => "Established",
        })
    }
}

/// Whether the operator lets a peer be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admin {
    /// It may have a session.
    Enabled,
    /// It may not, until the operator enables it: neither do we connect nor may it.
    Disabled,
}

/// Why a connection from outside is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No peer with this address is configured.
    UnknownPeer,
    /// Two connections of this peer are there already.
    NoSlot,
    /// The operator has disabled this peer, and it was told so a moment ago.
    Disabled,
}

/// What becomes of a connection when its OPEN has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Collision {
    /// There is no other, or that is closed.
    Survives,
    /// The other one stays; and who had opened this.
    Loses(Opener),
}

/// The slot for the connection that we open.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one a peer, and the large variant is the usual one")]
enum Outgoing {
    /// We do not connect: passive, or a session is up.
    Off,
    /// The next attempt comes then.
    Waiting { until: Instant },
    /// TCP is at work.
    Connecting { conn: ConnId, deadline: Instant },
    /// TCP is done.
    Open(Connection),
}

/// One neighbour.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) address: IpAddr,
    pub(crate) config: PeerConfig,
    admin: Admin,
    outgoing: Outgoing,
    incoming: Option<Connection>,
    backoff: Backoff,
    /// The peer was at fault, or turned away: until then a connection of its own waits for our OPEN; while it
    /// is disabled it is closed without a word.
    penalty_until: Instant,
    /// The peer was told why a connection ended: until then it may read that, and is not connected to.
    quiet_until: Instant,
    /// Since when the peer may be expected to have a session: it was made, or the operator did something to it.
    pub(crate) expected_since: Instant,
    helper: Helper,
    /// Families of the present session that it has told in full.
    end_of_rib: BTreeSet<Family>,
    reason: Reason,
    /// What was shown last, and since when it holds.
    shown: (PeerState, Instant),
    /// How often all attempts of both sides had come to nothing, since the peer was made or the operator last
    /// touched it.
    pub(crate) failed_attempts: u32,
    /// Sessions that ended, since the peer was made.
    pub(crate) sessions_lost: u64,
    /// What was wrong with UPDATEs and survived (RFC 7606), since the peer was made.
    pub(crate) flawed_updates: u64,
    /// The last of these.
    pub(crate) last_flaw: Option<LastError>,
    /// Attributes whose flaws were logged in this session.
    flaws_told: BTreeSet<u8>,
}

impl Peer {
    /// How long TCP may take to connect; on the links of a fabric it takes no time at all.
    const CONNECT_WAIT: Duration = Duration::from_secs(5);
    /// How long a peer may take to read why a session ended before we connect again. FRR takes a connection
    /// that comes beside an Established one for a restart of ours (RFC 4724 section 5), and reads no further.
    const LAST_WORDS: Duration = Duration::from_millis(200);
    /// How long a peer may take to connect first when a link comes up.
    const LINK_SETTLES: Duration = Duration::from_millis(200);
    /// Enough that a peer which comes back at once with the same fault costs next to nothing.
    const PENALTY: Duration = Duration::from_millis(500);

    /// With the first attempt due at once, if it is enabled.
    pub(crate) fn new(now: Instant, id: PeerId, address: IpAddr, config: PeerConfig, admin: Admin) -> Peer {
        let mut peer = Peer {
            id,
            address,
            config,
            admin,
            outgoing: Outgoing::Off,
            incoming: None,
            backoff: Backoff::default(),
            penalty_until: now,
            quiet_until: now,
            expected_since: now,
            helper: Helper::Idle,
            end_of_rib: BTreeSet::new(),
            reason: Reason::of(address),
            shown: (PeerState::Active, now),
            failed_attempts: 0,
            sessions_lost: 0,
            flawed_updates: 0,
            last_flaw: None,
            flaws_told: BTreeSet::new(),
        };
        peer.wait_until(now);
        peer.note_state(now);
        peer
    }

    /// With the first attempt not before `until`: the same address was a peer a moment ago, and is still to
    /// read why it is no more.
    pub(crate) fn quiet_until(mut self, until: Instant) -> Peer {
        self.quiet_until = until;
        self.wait_until(until);
        self
    }

    // --- what the world tells ----------------------------------------------------------------------

    /// TCP is connected.
    pub(crate) fn handle_connected(&mut self, cx: &mut Context<'_>, conn: ConnId, local: IpAddr) {
        if !matches!(&self.outgoing, Outgoing::Connecting { conn: waiting, .. } if *waiting == conn) {
            cx.effects.push(Effect::Close { conn, last_words: Vec::new() });
            return;
        }
        let ours = self.our_open(cx.identity);
        self.outgoing = Outgoing::Open(Connection::open(cx.now, conn, Opener::Us, local, ours));
        self.note_state(cx.now);
    }

    /// TCP did not connect, and why.
    pub(crate) fn handle_connect_failed(&mut self, cx: &mut Context<'_>, conn: ConnId, why: &str) {
        if matches!(&self.outgoing, Outgoing::Connecting { conn: waiting, .. } if *waiting == conn) {
            self.reason.note(cx.now, format!("connect: {why}"));
            self.retry_later(cx);
            self.attempt_failed();
        }
    }

    /// The peer connected to us.
    ///
    /// # Errors
    /// The connection is not wanted.
    pub(crate) fn handle_accepted(&mut self, cx: &mut Context<'_>, local: IpAddr) -> Result<ConnId, Refused> {
        if self.admin == Admin::Disabled {
            return self.turn_away(cx);
        }
        if let Some(old) = self.incoming.take() {
            if old.established().is_some() {
                // It may have restarted and lost the old one: its OPEN will tell.
                return self.accept_beside_established(cx, old, local);
            }
            self.reason.note_silent(cx.now, "peer opened a new connection in place of an unfinished one");
            cx.effects.push(Effect::Close { conn: old.id, last_words: old.output });
        }
        let conn = cx.new_conn();
        self.incoming = Some(self.answer(cx, conn, local));
        self.note_state(cx.now);
        Ok(conn)
    }

    /// The peer is told why, so that its operator need not guess.
    ///
    /// Deviation: RFC 4486 section 4 has Connection Rejected (6/5) for a connection that is not wanted. We say
    /// Administrative Shutdown (6/2) as on the session: 6/5 reads as if the peer were not configured here. And
    /// behind an OPEN, for a NOTIFICATION alone is an error in the peer's OpenSent (RFC 4271 section 8.2.2,
    /// event 25): FRR answers with one of its own and then shows that as the cause.
    ///
    /// Once a [`Peer::PENALTY`] and no more: a connection that is answered lives on until the words are read,
    /// and a peer that connects in a loop would soon have all our descriptors.
    fn turn_away(&mut self, cx: &mut Context<'_>) -> Result<ConnId, Refused> {
        if cx.now < self.penalty_until {
            return Err(Refused::Disabled);
        }
        self.penalty_until = cx.now + cx.jitter.spread(Self::PENALTY);
        let conn = cx.new_conn();
        let mut last_words = Vec::new();
        self.our_open(cx.identity).write(&mut last_words);
        frame::write_notification(&mut last_words, &administrative_shutdown());
        cx.effects.push(Effect::Close { conn, last_words });
        Ok(conn)
    }

    /// The incoming slot holds the session: it moves to the other one, if that is free.
    fn accept_beside_established(
        &mut self,
        cx: &mut Context<'_>,
        established: Connection,
        local: IpAddr,
    ) -> Result<ConnId, Refused> {
        if !matches!(self.outgoing, Outgoing::Off | Outgoing::Waiting { .. }) {
            self.incoming = Some(established);
            return Err(Refused::NoSlot);
        }
        self.outgoing = Outgoing::Open(established);
        let conn = cx.new_conn();
        self.incoming = Some(self.answer(cx, conn, local));
        Ok(conn)
    }

    fn answer(&self, cx: &mut Context<'_>, conn: ConnId, local: IpAddr) -> Connection {
        if cx.now < self.penalty_until {
            return Connection::held(cx.now, conn, local, self.penalty_until);
        }
        Connection::open(cx.now, conn, Opener::Peer, local, self.our_open(cx.identity))
    }

    /// Octets from the peer.
    pub(crate) fn handle_bytes(&mut self, cx: &mut Context<'_>, conn: ConnId, octets: &[u8]) {
        if let Some(connection) = self.connection_mut(conn) {
            connection.push(octets);
        }
        self.drain(cx, conn);
    }

    fn drain(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        while let Some(heard) = self.connection_mut(conn).and_then(|connection| connection.poll(cx.now)) {
            self.handle_heard(cx, conn, heard);
        }
    }

    /// TCP is gone, and why.
    pub(crate) fn handle_closed(&mut self, cx: &mut Context<'_>, conn: ConnId, why: &str) {
        let Some(connection) = self.take_connection(conn) else { return };
        let kept = match connection.established() {
            Some((session, _)) => {
                self.reason.note(cx.now, why.to_owned());
                self.helper.lost(cx.now, session)
            }
            None => {
                self.reason.note_silent(cx.now, why);
                BTreeSet::new()
            }
        };
        self.ended(cx, &connection, kept);
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        match &self.outgoing {
            Outgoing::Waiting { until } if cx.now >= *until => self.connect(cx),
            Outgoing::Connecting { conn, deadline } if cx.now >= *deadline => {
                let conn = *conn;
                cx.effects.push(Effect::Close { conn, last_words: Vec::new() });
                self.handle_connect_failed(cx, conn, "no answer");
            }
            _ => {}
        }
        for conn in self.connections().map(|connection| connection.id).collect::<Vec<_>>() {
            if let Some(heard) = self.connection_mut(conn).and_then(|c| c.handle_timeout(cx.now)) {
                self.handle_heard(cx, conn, heard);
            }
        }
        for family in self.helper.handle_timeout(cx.now) {
            cx.effects.push(Effect::SweepStale(family));
        }
    }

    /// The link to the peer went down. Waiting for the hold timer would mean to believe in a switch that
    /// has lost its power, and to use it again as soon as its link is back, before it has any route.
    pub(crate) fn handle_link_down(&mut self, cx: &mut Context<'_>, link: &str) {
        for conn in self.connections().map(|connection| connection.id).collect::<Vec<_>>() {
            let Some(connection) = self.take_connection(conn) else { continue };
            cx.effects.push(Effect::Close { conn, last_words: Vec::new() });
            self.reason.note(cx.now, format!("link {link} went down"));
            let kept = connection.established().map(|(session, _)| self.helper.link_lost(cx.now, session));
            self.ended(cx, &connection, kept.unwrap_or_default());
        }
        cx.effects.push(Effect::Doubt);
    }

    /// The link to the peer came up, or got its address: try soon.
    ///
    /// Not at once, for the peer does so: FRR connects in the moment its link is up, and where the two
    /// connections cross it may give up both.
    pub(crate) fn handle_link_up(&mut self, cx: &mut Context<'_>) {
        self.backoff.reset();
        if let Outgoing::Connecting { conn, .. } = self.outgoing {
            // Its first packet may have been lost while the link was down.
            cx.effects.push(Effect::Close { conn, last_words: Vec::new() });
        }
        if matches!(self.outgoing, Outgoing::Waiting { .. } | Outgoing::Connecting { .. }) {
            self.wait_until(cx.now + cx.jitter.spread(Self::LINK_SETTLES));
            self.note_state(cx.now);
        }
    }

    /// The earliest moment at which [`Peer::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let outgoing = match &self.outgoing {
            Outgoing::Waiting { until } => Some(*until),
            Outgoing::Connecting { deadline, .. } => Some(*deadline),
            Outgoing::Off | Outgoing::Open(_) => None,
        };
        let connections = self.connections().filter_map(Connection::poll_timeout);
        connections.chain(outgoing).chain(self.helper.poll_timeout()).min()
    }

    /// The operator switches the peer off or on.
    pub(crate) fn set_admin(&mut self, cx: &mut Context<'_>, admin: Admin) {
        match (std::mem::replace(&mut self.admin, admin), admin) {
            (Admin::Enabled, Admin::Disabled) => {
                self.stop(cx, &administrative_shutdown(), "disabled by the operator");
            }
            (Admin::Disabled, Admin::Enabled) => {
                self.expected_since = cx.now;
                self.wait_until(cx.now);
                self.forget_failures(cx);
            }
            (Admin::Enabled, Admin::Enabled) | (Admin::Disabled, Admin::Disabled) => {}
        }
    }

    /// The operator wants a new session.
    pub(crate) fn restart(&mut self, cx: &mut Context<'_>) {
        if self.admin == Admin::Enabled {
            let notification = Notification::new(code::CEASE, cease::ADMINISTRATIVE_RESET);
            self.stop(cx, &notification, "restarted by the operator");
            self.forget_failures(cx);
        }
    }

    /// The operator mended what failed before.
    fn forget_failures(&mut self, cx: &mut Context<'_>) {
        self.backoff.reset();
        self.penalty_until = cx.now;
        self.handle_timeout(cx);
    }

    /// The operator's part: end everything with `notification`.
    pub(crate) fn stop(&mut self, cx: &mut Context<'_>, notification: &Notification, why: &str) {
        self.reason.settle();
        if let Outgoing::Connecting { conn, .. } = self.outgoing {
            cx.effects.push(Effect::Close { conn, last_words: Vec::new() });
        }
        for conn in self.connections().map(|connection| connection.id).collect::<Vec<_>>() {
            // A connection that was held back heard nothing of us, and hears nothing now.
            let is_held = self.connections().any(|held| held.id == conn && held.is_held());
            let what = if is_held { why.to_owned() } else { format!("sent {notification}: {why}") };
            self.reason.note(cx.now, what);
            self.fail_quietly(cx, conn, notification);
        }
        if self.helper.give_up() {
            cx.effects.push(Effect::Down { kept: BTreeSet::new() });
        }
        self.expected_since = cx.now;
        self.wait_until(cx.now);
        self.failed_attempts = 0;
        self.note_state(cx.now);
    }

    // --- what a connection heard -------------------------------------------------------------------

    fn handle_heard(&mut self, cx: &mut Context<'_>, conn: ConnId, heard: Heard) {
        match heard {
            Heard::Open(open) => self.handle_open(cx, conn, open),
            Heard::Established => self.enter_established(cx, conn),
            Heard::Update(update) => self.handle_update(cx, update),
            Heard::Refresh(refresh) => {
                // Subtypes of RFC 7313 are not agreed on; families that we do not speak say nothing.
                if let (0, Some(family)) = (refresh.subtype, refresh.family.family()) {
                    cx.effects.push(Effect::Refresh(family));
                }
            }
            Heard::Notification(notification) => self.handle_notification(cx, conn, &notification),
            Heard::Fault(fault) => {
                self.reason.note_told(cx.now, format!("sent {fault}"));
                self.fail(cx, conn, &fault.notification);
            }
            Heard::HoldTimerExpired => {
                self.reason.note(cx.now, "hold timer expired: nothing heard from the peer".to_owned());
                self.fail(cx, conn, &Notification::new(code::HOLD_TIMER_EXPIRED, 0));
            }
            Heard::Released => {
                let ours = self.our_open(cx.identity);
                if let Some(connection) = self.connection_mut(conn) {
                    connection.send_open(cx.now, ours);
                }
                self.note_state(cx.now);
                self.drain(cx, conn);
            }
            Heard::TooMuch => {
                self.reason.note_silent(cx.now, "more than an OPEN while ours was held back");
                self.fail(cx, conn, &Notification::new(code::CEASE, cease::CONNECTION_REJECTED));
            }
        }
    }

    /// A well-formed OPEN: is it the right peer, and is this the connection to keep?
    fn handle_open(&mut self, cx: &mut Context<'_>, conn: ConnId, open: Open) {
        if let Err(fault) = self.check_open(cx.identity, &open) {
            self.reason.note_told(cx.now, format!("sent {fault}"));
            self.fail(cx, conn, &fault.notification);
            return;
        }
        let collision = Notification::new(code::CEASE, cease::CONNECTION_COLLISION);
        match self.resolve_collision(cx, conn, &open) {
            Collision::Survives => {}
            Collision::Loses(Opener::Us) => return self.fail_quietly(cx, conn, &collision),
            // As in `turn_away`: a peer that connects in a loop would soon have all our descriptors.
            Collision::Loses(Opener::Peer) => return self.fail(cx, conn, &collision),
        }
        let keepalive = self.config.keepalive;
        let Some(connection) = self.connection_mut(conn) else { return };
        if let State::OpenSent { sent, .. } = &connection.state {
            let session = Session::negotiate(sent, &open);
            connection.confirm(cx.now, session, keepalive);
        }
        self.note_state(cx.now);
    }

    fn check_open(&self, identity: &Identity, open: &Open) -> Result<(), Fault> {
        let bad = |subcode, what| Err(Fault::new(Notification::new(code::OPEN, subcode), what));
        if open.asn != self.config.asn {
            let what = format!("peer announced AS {}, configured {}", open.asn, self.config.asn);
            return bad(notification::open::BAD_PEER_AS, what);
        }
        let internal = self.config.kind(identity.asn) == PeerKind::Internal;
        if internal && open.router_id == identity.router_id {
            let what = format!("peer announced identifier {}, which is our own", open.router_id);
            return bad(notification::open::BAD_BGP_IDENTIFIER, what);
        }
        Ok(())
    }

    /// RFC 4271 section 6.8 for the connection that just got its OPEN. The loser is closed here if it is
    /// the other one.
    ///
    /// Deviation: connections that were opened before either was Established are resolved by identifier
    /// even if one has become Established meanwhile (the RFC's CollisionDetectEstablishedState). Each
    /// side then keeps the same one whatever the timing, and two speakers that start in the same moment
    /// cannot close both.
    fn resolve_collision(&mut self, cx: &mut Context<'_>, conn: ConnId, open: &Open) -> Collision {
        let this = self.connections().find(|connection| connection.id == conn);
        let Some((opened_at, opener)) = this.map(|this| (this.opened_at, this.opener)) else {
            return Collision::Survives;
        };
        let Some(other) = self.connections().find(|connection| connection.id != conn) else {
            return Collision::Survives;
        };
        let other_id = other.id;
        match &other.state {
            State::Held { .. } | State::OpenSent { .. } => return Collision::Survives,
            State::Established { session, since, .. } if opened_at > *since => {
                let helps = session.peer_restart.as_ref().is_some_and(|r| !r.families.is_empty());
                if !helps {
                    return Collision::Loses(opener);
                }
                self.replace_by_restart(cx, other_id);
                return Collision::Survives;
            }
            State::OpenConfirm { .. } | State::Established { .. } => {}
        }
        let ours = (cx.identity.router_id, cx.identity.asn);
        if survivor(ours, (open.router_id, open.asn)) != opener {
            return Collision::Loses(opener);
        }
        let notification = Notification::new(code::CEASE, cease::CONNECTION_COLLISION);
        self.fail_quietly(cx, other_id, &notification);
        Collision::Survives
    }

    /// RFC 4724 section 5: a new connection from a peer that can restart tells that it did; the old one
    /// is closed without a word.
    fn replace_by_restart(&mut self, cx: &mut Context<'_>, old: ConnId) {
        let Some(connection) = self.take_connection(old) else { return };
        cx.effects.push(Effect::Close { conn: old, last_words: Vec::new() });
        let Some((session, since)) = connection.established() else { return };
        let kept = self.helper.lost(cx.now, session);
        self.sessions_lost += 1;
        self.backoff.session_ended(cx.now.duration_since(since));
        self.reason.note(cx.now, "peer restarted: it opened a new connection".to_owned());
        cx.effects.push(Effect::Down { kept });
    }

    fn enter_established(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        // The other side's other attempt resolves itself when its OPEN comes; one that has not even
        // connected is not needed.
        match &self.outgoing {
            Outgoing::Connecting { conn: pending, .. } => {
                let last_words = Vec::new();
                cx.effects.push(Effect::Close { conn: *pending, last_words });
                self.outgoing = Outgoing::Off;
            }
            Outgoing::Waiting { .. } => self.outgoing = Outgoing::Off,
            Outgoing::Off | Outgoing::Open(_) => {}
        }
        let Some(connection) = self.connections().find(|connection| connection.id == conn) else { return };
        let Some((session, _)) = connection.established() else { return };
        let (session, local) = (session.clone(), connection.local);
        self.end_of_rib.clear();
        self.flaws_told.clear();
        self.reason.settle();
        self.note_state(cx.now);
        let gone = self.helper.back(cx.now, &session);
        cx.effects.push(Effect::Up { session, local });
        cx.effects.extend(gone.into_iter().map(Effect::SweepStale));
    }

    fn handle_update(&mut self, cx: &mut Context<'_>, update: Update) {
        self.flawed_updates += u64::from(!update.flaws.is_empty());
        // Of several that are as bad the first: one that could not be read counts as missing, too.
        if let Some(flaw) = update.flaws.iter().rev().max_by_key(|flaw| flaw.treatment) {
            self.last_flaw = Some(LastError { at: cx.now, what: format!("{flaw}; {}", flaw.treatment) });
        }
        for flaw in &update.flaws {
            // Once a session and attribute: a peer must not fill the log.
            if self.flaws_told.insert(flaw.attribute) {
                tracing::warn!(peer = %self.address, flaw = %flaw, "UPDATE is malformed (RFC 7606)");
            }
        }
        let end_of_rib = update.end_of_rib;
        cx.effects.push(Effect::Update(update));
        if let Some(family) = end_of_rib {
            self.end_of_rib.insert(family);
            if self.helper.end_of_rib(family) {
                cx.effects.push(Effect::SweepStale(family));
            }
        }
    }

    fn handle_notification(&mut self, cx: &mut Context<'_>, conn: ConnId, notification: &Notification) {
        let Some(connection) = self.take_connection(conn) else { return };
        cx.effects.push(Effect::Close { conn, last_words: Vec::new() });
        let collision =
            notification.code == code::CEASE && notification.subcode == cease::CONNECTION_COLLISION;
        if !collision {
            let about = reason::about(notification, cx.identity, self.config.hold_time);
            let about = about.map_or_else(String::new, |about| format!(": {about}"));
            self.reason.note_told(cx.now, format!("received {notification}{about}"));
        }
        if connection.established().is_some() {
            self.helper.give_up();
        } else if is_farewell(notification) && self.established().is_none() && self.helper.give_up() {
            // It was away, and is back to say that there will be no session: what it told before is void.
            cx.effects.push(Effect::Down { kept: BTreeSet::new() });
        }
        self.ended(cx, &connection, BTreeSet::new());
    }

    // --- ends --------------------------------------------------------------------------------------

    /// The peer was at fault, or connected in vain: NOTIFICATION, and a penalty.
    fn fail(&mut self, cx: &mut Context<'_>, conn: ConnId, notification: &Notification) {
        self.penalty_until = cx.now + cx.jitter.spread(Self::PENALTY);
        self.fail_quietly(cx, conn, notification);
    }

    /// NOTIFICATION without blame. Nothing on a connection that is held back: without
    /// our OPEN before it, it would be an error of ours (RFC 4271 section 8.2.2, event 25).
    fn fail_quietly(&mut self, cx: &mut Context<'_>, conn: ConnId, notification: &Notification) {
        let Some(mut connection) = self.take_connection(conn) else { return };
        let mut last_words = std::mem::take(&mut connection.output);
        if !connection.is_held() {
            frame::write_notification(&mut last_words, notification);
            self.quiet_until = cx.now + Self::LAST_WORDS;
        }
        if let Outgoing::Waiting { until } = &mut self.outgoing {
            // An attempt of ours that waits already lets the peer read, too.
            *until = self.quiet_until.max(*until);
        }
        cx.effects.push(Effect::Close { conn, last_words });
        if connection.established().is_some() {
            self.helper.give_up();
        }
        self.ended(cx, &connection, BTreeSet::new());
    }

    /// A connection is out of its slot: tell the tables, and go on.
    fn ended(&mut self, cx: &mut Context<'_>, connection: &Connection, kept: BTreeSet<Family>) {
        match connection.established() {
            Some((_, since)) => {
                self.sessions_lost += 1;
                self.backoff.session_ended(cx.now.duration_since(since));
                cx.effects.push(Effect::Down { kept });
            }
            None => self.attempt_failed(),
        }
        let other_goes_on = self.connections().next().is_some();
        if !other_goes_on && matches!(self.outgoing, Outgoing::Off) {
            self.retry_later(cx);
        }
        self.note_state(cx.now);
    }

    /// An attempt of either side did not become a session, in whatever way; one that still may goes on.
    fn attempt_failed(&mut self) {
        let another_goes_on =
            self.connections().next().is_some() || matches!(self.outgoing, Outgoing::Connecting { .. });
        self.failed_attempts += u32::from(!another_goes_on);
    }

    fn retry_later(&mut self, cx: &mut Context<'_>) {
        let wait = self.backoff.failed(cx.jitter);
        self.wait_until(cx.now + wait);
        self.note_state(cx.now);
    }

    /// The next attempt comes then, or when the peer has read why the last connection ended.
    fn wait_until(&mut self, until: Instant) {
        let until = until.max(self.quiet_until);
        self.outgoing = match (self.admin, self.config.connect) {
            (Admin::Enabled, ConnectMode::Both) => Outgoing::Waiting { until },
            (Admin::Enabled, ConnectMode::Passive) | (Admin::Disabled, _) => Outgoing::Off,
        };
    }

    fn connect(&mut self, cx: &mut Context<'_>) {
        let conn = cx.new_conn();
        self.outgoing = Outgoing::Connecting { conn, deadline: cx.now + Self::CONNECT_WAIT };
        cx.effects.push(Effect::Connect(conn));
        self.note_state(cx.now);
    }

    // --- slots -------------------------------------------------------------------------------------

    pub(crate) fn connections(&self) -> impl Iterator<Item = &Connection> {
        let outgoing = match &self.outgoing {
            Outgoing::Open(connection) => Some(connection),
            _ => None,
        };
        outgoing.into_iter().chain(&self.incoming)
    }

    pub(crate) fn connection_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        match &mut self.outgoing {
            Outgoing::Open(connection) if connection.id == conn => Some(connection),
            _ => self.incoming.as_mut().filter(|connection| connection.id == conn),
        }
    }

    /// Whether this connection is in one of the slots.
    pub(crate) fn has(&self, conn: ConnId) -> bool {
        self.connections().any(|connection| connection.id == conn)
    }

    fn take_connection(&mut self, conn: ConnId) -> Option<Connection> {
        match std::mem::replace(&mut self.outgoing, Outgoing::Off) {
            Outgoing::Open(connection) if connection.id == conn => Some(connection),
            another => {
                self.outgoing = another;
                self.incoming.take_if(|connection| connection.id == conn)
            }
        }
    }

    // --- looks -------------------------------------------------------------------------------------

    /// Whether the operator lets it be.
    pub(crate) fn admin(&self) -> Admin {
        self.admin
    }

    /// Until when it may read why a connection ended.
    pub(crate) fn reads_until(&self) -> Instant {
        self.quiet_until
    }

    /// Why the last connection or session ended.
    pub(crate) fn last_error(&self) -> Option<&LastError> {
        self.reason.last.as_ref()
    }

    /// The session, if one is up, and since when.
    pub(crate) fn established(&self) -> Option<(ConnId, &Session, Instant)> {
        self.connections().find_map(|connection| {
            connection.established().map(|(session, since)| (connection.id, session, since))
        })
    }

    /// Whether the peer has told all of `family` on this session.
    pub(crate) fn has_told_all(&self, family: Family) -> bool {
        self.end_of_rib.contains(&family)
    }

    fn state(&self) -> PeerState {
        let of_connection = |connection: &Connection| match connection.state {
            State::Held { .. } => PeerState::Active,
            State::OpenSent { .. } => PeerState::OpenSent,
            State::OpenConfirm { .. } => PeerState::OpenConfirm,
            State::Established { .. } => PeerState::Established,
        };
        let slot = match (self.admin, &self.outgoing) {
            (Admin::Disabled, _) => PeerState::Idle,
            (Admin::Enabled, Outgoing::Connecting { .. }) => PeerState::Connect,
            (Admin::Enabled, _) => PeerState::Active,
        };
        self.connections().map(of_connection).max().map_or(slot, |state| state.max(slot))
    }

    /// The state, and since when.
    pub(crate) fn shown(&self) -> (PeerState, Instant) {
        self.shown
    }

    fn note_state(&mut self, now: Instant) {
        let state = self.state();
        if self.shown.0 != state {
            self.shown = (state, now);
        }
    }

    fn our_open(&self, identity: &Identity) -> Open {
        let families = self.config.families.iter();
        let mut capabilities: Vec<Capability> =
            families.map(|family| Capability::MultiProtocol((*family).into())).collect();
        capabilities.extend([
            Capability::RouteRefresh,
            Capability::ExtendedMessage,
            four_octet_as(identity.asn),
            Capability::GracefulRestart(self.our_restart(identity)),
        ]);
        let hold_time = self.config.hold_time;
        Open { asn: identity.asn, hold_time, router_id: identity.router_id, capabilities }
    }

    /// Our graceful restart capability, cut to the families of this peer.
    fn our_restart(&self, identity: &Identity) -> GracefulRestart {
        let mut restart = identity.restart.clone();
        restart.families.retain(|entry| {
            entry.family.family().is_some_and(|family| self.config.families.contains(&family))
        });
        restart
    }
}

/// RFC 4486 section 4: the other operator does not want the session, and not only this connection.
fn is_farewell(notification: &Notification) -> bool {
    notification.code == code::CEASE
        && matches!(notification.subcode, cease::ADMINISTRATIVE_SHUTDOWN | cease::PEER_DECONFIGURED)
}

/// RFC 4486 section 4: the operator does not want the session.
fn administrative_shutdown() -> Notification {
    Notification::new(code::CEASE, cease::ADMINISTRATIVE_SHUTDOWN)
}
