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

mod asks;
mod backoff;
mod bfd;
mod collision;
mod connection;
mod helper;
mod offer;
mod reason;
mod role;
mod states;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::attributes::AttributeTable;
use crate::config::{ConnectMode, Distance, Link, PeerAsn, PeerConfig, Transport};
use crate::prefix::Family;
use crate::rib::Freshness;
use crate::router::LimitLog;
use crate::session::{Agreed, Scope, Session};
use crate::types::{Asn, ConnId, PeerId, PeerKind, RouterId, ScopedAddress, is_link_local};
use crate::wire::bmp::{Down, Ends};
use crate::wire::notification::{self, cease, code};
use crate::wire::refresh::{self, Subtype};
use crate::wire::{Capability, Fault, GracefulRestart, Notification, Open, RouteRefresh, Update, frame};

use asks::Asks;
pub(crate) use backoff::{Backoff, Jitter};
use collision::{Opener, survivor};
use connection::{Connection, Heard, State};
pub use helper::Keeping;
use helper::{Cause, Due, Helper};
pub use reason::LastError;
use reason::Reason;
pub use states::{Admin, PeerOrigin, PeerState, Refused};

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
    /// The peer tells all of a family again: what it does not tell before the end of that is gone (RFC 7313).
    RefreshBegins(Family),
    /// It has told all.
    RefreshEnds(Family),
    /// Stale routes of a family are to be the last resort of all, and known as such to others (RFC 9494).
    LongLived(Family),
    /// Stale routes of a family must go.
    SweepStale(Family),
    /// What the peer told is a last resort from now on.
    Doubt(Freshness),
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
    pub(crate) links: &'a [Link],
    pub(crate) next_conn: &'a mut u64,
    pub(crate) jitter: &'a mut Jitter,
    pub(crate) attributes: &'a mut AttributeTable,
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

/// What is meant by an end of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// There shall be no session: no route of the other outlives it on either side.
    Leave,
    /// There shall be a new one: where both agreed on it (RFC 8538), routes outlive this end.
    ComeBack,
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
    /// We do not connect: disabled, or a session is up.
    Off,
    /// We only listen; whoever has not come by then, and need not be there, may be forgotten.
    Listening { until: Instant },
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
    pub(crate) address: ScopedAddress,
    pub(crate) config: PeerConfig,
    pub(crate) origin: PeerOrigin,
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
    /// The AS of its last OPEN that was accepted.
    announced: Option<Asn>,
    /// Families that the peer tells again, and until when it may take to (RFC 7313).
    refreshing: BTreeMap<Family, Instant>,
    /// What it is asked to tell again, in the present session.
    asks: Asks,
    /// Families of the present session that it has told in full.
    end_of_rib: BTreeSet<Family>,
    reason: Reason,
    /// How its last session ended, for those who are told in that way.
    last_end: Down,
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
    /// Attributes whose flaws the log has, and since when.
    flaws_told: BTreeMap<u8, Instant>,
    /// The other peer with its identifier that was last warned of.
    pub(crate) double_told: Option<ScopedAddress>,
    pub(crate) limit_log: LimitLog,
    /// How its session of BFD was last; absent while there is none.
    pub(crate) bfd: Option<cambric_bfd::Status>,
}

impl Peer {
    /// How long TCP may take to connect; on the links of a fabric it takes no time at all.
    const CONNECT_WAIT: Duration = Duration::from_secs(5);
    /// How long a peer may take to read why a session ended before we connect again. FRR takes a connection
    /// that comes beside an Established one for a restart of ours (RFC 4724 section 5), and reads no further.
    const LAST_WORDS: Duration = Duration::from_millis(200);
    /// How long a peer may take to connect first when a link comes up.
    const LINK_SETTLES: Duration = Duration::from_millis(200);
    /// How long a peer may take to tell all of a family again before what it did not tell goes (RFC 7313 section 4.2).
    const REFRESH: Duration = Duration::from_secs(360);
    /// How long what came while we hung may take to be read; as BIRD.
    const UNREAD: Duration = Duration::from_secs(10);
    /// How long a peer that we do not connect to may take to come, before that is worth a word, or before it is forgotten.
    const PATIENCE: Duration = Duration::from_secs(30);
    /// Enough that a peer which comes back at once with the same fault costs next to nothing.
    const PENALTY: Duration = Duration::from_millis(500);

    /// With the first attempt due at once, if it is enabled.
    pub(crate) fn new(
        now: Instant,
        id: PeerId,
        address: ScopedAddress,
        config: PeerConfig,
        admin: Admin,
    ) -> Peer {
        let reason = Reason::of(address.clone());
        let mut peer = Peer {
            id,
            address,
            config,
            origin: PeerOrigin::Configured,
            admin,
            outgoing: Outgoing::Off,
            incoming: None,
            backoff: Backoff::default(),
            penalty_until: now,
            quiet_until: now,
            expected_since: now,
            helper: Helper::default(),
            announced: None,
            refreshing: BTreeMap::new(),
            asks: Asks::default(),
            end_of_rib: BTreeSet::new(),
            reason,
            last_end: Down::Silently,
            shown: (PeerState::Active, now),
            failed_attempts: 0,
            sessions_lost: 0,
            flawed_updates: 0,
            last_flaw: None,
            flaws_told: BTreeMap::new(),
            double_told: None,
            limit_log: LimitLog::default(),
            bfd: None,
        };
        peer.wait_until(now);
        peer.note_state(now);
        peer
    }

    /// Why it is a peer.
    pub(crate) fn of(self, origin: PeerOrigin) -> Peer {
        Peer { origin, ..self }
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

    /// TCP is connected, and with ourselves.
    pub(crate) fn handle_ourselves(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        cx.effects.push(Effect::Close { conn, last_words: Vec::new() });
        self.handle_connect_failed(cx, conn, "the address of the peer is one of ours");
    }

    /// TCP did not connect, and why.
    pub(crate) fn handle_connect_failed(&mut self, cx: &mut Context<'_>, conn: ConnId, why: &str) {
        if matches!(&self.outgoing, Outgoing::Connecting { conn: waiting, .. } if *waiting == conn) {
            let far = if self.is_too_far(cx) { "; it is on no link of ours, set multihop" } else { "" };
            self.reason.note(cx.now, format!("connect: {why}{far}"));
            self.retry_later(cx);
            self.attempt_failed(cx.now);
        }
    }

    /// Whether packets to the peer do not reach it: they may take one hop, and it is further.
    fn is_too_far(&self, cx: &Context<'_>) -> bool {
        let Transport { distance, interface, .. } = &self.config.transport;
        let is_adjacent =
            *distance == Distance::Adjacent && self.config.kind(cx.identity.asn) == PeerKind::External;
        let is_on_the_link = is_link_local(self.address.ip());
        let may_be_far = is_adjacent && !is_on_the_link && interface.is_none();
        may_be_far && !cx.links.is_empty() && !cx.links.iter().any(|link| link.reaches(&self.address))
    }

    /// The peer connected to us.
    ///
    /// # Errors
    /// The connection is not wanted.
    pub(crate) fn handle_accepted(&mut self, cx: &mut Context<'_>, local: IpAddr) -> Result<ConnId, Refused> {
        if self.admin == Admin::Disabled {
            return self.turn_away(cx);
        }
        if self.config.connect == ConnectMode::Active {
            return Err(Refused::WeConnect);
        }
        if let Some(old) = self.incoming.take() {
            if old.established().is_some() {
                // It may have restarted and lost the old one: its OPEN will tell.
                return self.accept_beside_established(cx, old, local);
            }
            // One that waits for less time than we do: what is wrong with the old one is what is wrong with this.
            let what = match old.state {
                State::OpenSent { .. } => reason::no_open_came(&self.config.transport),
                _ => "peer opened a new connection in place of an unfinished one".to_owned(),
            };
            self.reason.note_silent(cx.now, &what);
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
        let is_free = |slot: &Outgoing| {
            matches!(slot, Outgoing::Off | Outgoing::Listening { .. } | Outgoing::Waiting { .. })
        };
        if !is_free(&self.outgoing) {
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
        while let Some(connection) = self.connection_mut(conn) {
            let Some(heard) = connection.poll(cx.now, cx.attributes) else { return };
            self.handle_heard(cx, conn, heard);
        }
    }

    /// TCP is gone, and why.
    pub(crate) fn handle_closed(&mut self, cx: &mut Context<'_>, conn: ConnId, why: &str) {
        let Some(connection) = self.take_connection(conn) else { return };
        let kept = match connection.established() {
            Some((session, _)) => {
                self.reason.note(cx.now, why.to_owned());
                self.last_end = Down::Lost;
                self.helper.lost(cx.now, session, Cause::Restart)
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
            Outgoing::Listening { until } if cx.now >= *until => self.outgoing = Outgoing::Off,
            Outgoing::Waiting { until } if cx.now >= *until => self.connect(cx),
            Outgoing::Connecting { conn, deadline } if cx.now >= *deadline => {
                let conn = *conn;
                cx.effects.push(Effect::Close { conn, last_words: Vec::new() });
                let perhaps = reason::perhaps(&self.config.transport);
                self.handle_connect_failed(cx, conn, &format!("no answer{perhaps}"));
            }
            _ => {}
        }
        for conn in self.connections().map(|connection| connection.id).collect::<Vec<_>>() {
            if let Some(heard) = self.connection_mut(conn).and_then(|c| c.handle_timeout(cx.now)) {
                self.handle_heard(cx, conn, heard);
            }
        }
        cx.effects.extend(self.helper.handle_timeout(cx.now).into_iter().map(|due| match due {
            Due::Sweep(family) => Effect::SweepStale(family),
            Due::LongLived(family) => Effect::LongLived(family),
        }));
        let late: Vec<Family> =
            self.refreshing.extract_if(.., |_, until| cx.now >= *until).map(|(family, _)| family).collect();
        cx.effects.extend(late.into_iter().map(Effect::RefreshEnds));
        if self.patience_ends().is_some_and(|at| cx.now >= at) {
            let what = "waiting for the peer to connect: we are passive, and nothing came".to_owned();
            self.reason.note(cx.now, what);
            self.attempt_failed(cx.now);
        }
    }

    /// The peer shall tell all of a family again, soon.
    pub(crate) fn want_again(&mut self, family: Family) {
        self.asks.want(family);
    }

    /// Families that the peer is asked now to tell again; the request is written.
    pub(crate) fn poll_asks(&mut self, now: Instant) -> BTreeSet<Family> {
        let Some(conn) = self.established().map(|(conn, ..)| conn) else {
            // A session begins with all that the peer has.
            self.asks = Asks::default();
            return BTreeSet::new();
        };
        let due = self.asks.due(now, |family| self.refreshing.contains_key(&family));
        if let Some(connection) = self.connection_mut(conn) {
            due.iter().for_each(|family| refresh::write(&mut connection.output, *family, Subtype::Request));
        }
        due
    }

    /// We hung: what the peer said meanwhile is still to be read, and its hold timer must not run out before.
    pub(crate) fn handle_hang(&mut self, now: Instant) {
        let outgoing = match &mut self.outgoing {
            Outgoing::Open(connection) => Some(connection),
            _ => None,
        };
        for connection in outgoing.into_iter().chain(&mut self.incoming) {
            connection.handle_hang(now, Self::UNREAD);
        }
    }

    /// When it is said that nothing came to a passive one; `None` if something did, or that was said.
    fn patience_ends(&self) -> Option<Instant> {
        let is_named = self.origin == PeerOrigin::Configured;
        let waits = is_named && self.config.connect == ConnectMode::Passive && self.admin == Admin::Enabled;
        let is_alone = self.reason.last.is_none() && self.connections().next().is_none();
        (waits && is_alone).then(|| self.expected_since + Self::PATIENCE)
    }

    /// The peer takes nothing of what we send (RFC 9687 section 4).
    pub(crate) fn send_hold_timeout(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        self.reason
            .note(cx.now, "send hold timer expired: the peer takes nothing of what we send".to_owned());
        self.fail(cx, conn, &Notification::new(code::SEND_HOLD_TIMER_EXPIRED, 0));
    }

    /// The link to the peer went down. Waiting for the hold timer would mean to believe in a switch that
    /// has lost its power, and to use it again as soon as its link is back, before it has any route.
    pub(crate) fn handle_link_down(&mut self, cx: &mut Context<'_>, link: &str) {
        for conn in self.connections().map(|connection| connection.id).collect::<Vec<_>>() {
            let Some(connection) = self.take_connection(conn) else { continue };
            cx.effects.push(Effect::Close { conn, last_words: Vec::new() });
            self.reason.note(cx.now, format!("link {link} went down"));
            self.last_end = Down::Silently;
            let kept = connection.established().map(|(session, _)| self.helper.link_lost(cx.now, session));
            self.ended(cx, &connection, kept.unwrap_or_default());
        }
        cx.effects.push(Effect::Doubt(Freshness::LinkDown));
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
            Outgoing::Waiting { until } | Outgoing::Listening { until } => Some(*until),
            Outgoing::Connecting { deadline, .. } => Some(*deadline),
            Outgoing::Off | Outgoing::Open(_) => None,
        };
        let connections = self.connections().filter_map(Connection::poll_timeout);
        let refreshing = self.refreshing.values().copied();
        let timers = connections.chain(outgoing).chain(self.helper.poll_timeout()).chain(refreshing);
        let asks = self.asks.poll_timeout(|family| self.refreshing.contains_key(&family));
        timers.chain(asks).chain(self.patience_ends()).min()
    }

    /// The operator switches the peer off or on.
    pub(crate) fn set_admin(&mut self, cx: &mut Context<'_>, admin: Admin) {
        match (std::mem::replace(&mut self.admin, admin), admin) {
            (Admin::Enabled, Admin::Disabled) => {
                self.stop(cx, &administrative_shutdown(), End::Leave, "disabled by the operator");
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
            self.stop(cx, &notification, End::ComeBack, "restarted by the operator");
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
    pub(crate) fn stop(&mut self, cx: &mut Context<'_>, notification: &Notification, end: End, why: &str) {
        self.reason.settle();
        if let Outgoing::Connecting { conn, .. } = self.outgoing {
            cx.effects.push(Effect::Close { conn, last_words: Vec::new() });
        }
        for conn in self.connections().map(|connection| connection.id).collect::<Vec<_>>() {
            // A connection that was held back heard nothing of us, and hears nothing now.
            let is_held = self.connections().any(|held| held.id == conn && held.is_held());
            let what = if is_held { why.to_owned() } else { format!("sent {notification}: {why}") };
            self.reason.note(cx.now, what);
            self.fail_quietly(cx, conn, &self.worded(conn, notification, end));
        }
        if end == End::Leave && self.helper.give_up() {
            cx.effects.push(Effect::Down { kept: BTreeSet::new() });
        }
        self.reason.log_anew();
        self.flaws_told.clear();
        self.double_told = None;
        self.limit_log.forget();
        self.expected_since = cx.now;
        self.wait_until(cx.now);
        self.failed_attempts = 0;
        self.note_state(cx.now);
    }

    /// `notification` in the form that has the peer do what is meant (RFC 8538 section 5.1).
    fn worded(&self, conn: ConnId, notification: &Notification, end: End) -> Notification {
        let session =
            self.connections().find(|connection| connection.id == conn).and_then(Connection::session);
        let outlived = session.is_some_and(|session| session.graceful_notification == Agreed::Yes);
        if end == End::Leave && outlived { notification.hard() } else { notification.clone() }
    }

    // --- what a connection heard -------------------------------------------------------------------

    fn handle_heard(&mut self, cx: &mut Context<'_>, conn: ConnId, heard: Heard) {
        match heard {
            Heard::Open(open) => self.handle_open(cx, conn, open),
            Heard::Established => self.enter_established(cx, conn),
            Heard::Update(update) => self.handle_update(cx, update),
            Heard::Refresh(refresh) => self.handle_refresh(cx, refresh),
            Heard::Notification(notification) => self.handle_notification(cx, conn, &notification),
            Heard::Fault(fault) => {
                self.reason.note_told(cx.now, format!("sent {fault}"));
                self.fail(cx, conn, &fault.notification);
            }
            Heard::HoldTimerExpired => {
                let what = match self.connection_mut(conn).map(|connection| &connection.state) {
                    Some(State::OpenSent { .. }) => reason::no_open_came(&self.config.transport),
                    _ => "hold timer expired: nothing heard from the peer".to_owned(),
                };
                self.reason.note(cx.now, what);
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
        self.announced = Some(open.asn);
        let collision = Notification::new(code::CEASE, cease::CONNECTION_COLLISION);
        match self.resolve_collision(cx, conn, &open) {
            Collision::Survives => {}
            Collision::Loses(Opener::Us) => return self.fail_quietly(cx, conn, &collision),
            // As in `turn_away`: a peer that connects in a loop would soon have all our descriptors.
            Collision::Loses(Opener::Peer) => return self.fail(cx, conn, &collision),
        }
        let keepalive = self.config.keepalive;
        let scope = if is_link_local(self.address.ip()) { Scope::Link } else { Scope::Global };
        let Some(connection) = self.connection_mut(conn) else { return };
        if let State::OpenSent { sent, .. } = &connection.state {
            let session = Session { scope, ..Session::negotiate(sent, &open) };
            connection.confirm(cx.now, session, keepalive);
        }
        self.note_state(cx.now);
    }

    fn check_open(&self, identity: &Identity, open: &Open) -> Result<(), Fault> {
        let bad = |subcode, what| Err(Fault::new(Notification::new(code::OPEN, subcode), what));
        let own = self.config.own_asn(identity.asn);
        if !self.config.asn.admits(open.asn, own) {
            let configured = match self.config.asn {
                PeerAsn::Exactly(asn) => asn.to_string(),
                PeerAsn::External => format!("external, and AS {own} is ours"),
                PeerAsn::Internal => format!("internal, which is AS {own}"),
            };
            let what = format!("peer announced AS {}, configured {configured}", open.asn);
            return bad(notification::open::BAD_PEER_AS, what);
        }
        let internal = self.config.kind(identity.asn) == PeerKind::Internal;
        if internal && open.router_id == identity.router_id {
            let what = format!("peer announced identifier {}, which is our own", open.router_id);
            return bad(notification::open::BAD_BGP_IDENTIFIER, what);
        }
        self.check_role(identity, open)?;
        self.check_families(open)
    }

    /// RFC 5492 section 3: where each side wants another family, the session ends with what we miss as data. A peer that
    /// offers nothing but families we never heard of has its session, without routes.
    fn check_families(&self, open: &Open) -> Result<(), Fault> {
        let wanted = &self.config.families;
        let knows_none = !Family::ALL.into_iter().any(|family| open.offers(family));
        if knows_none || wanted.iter().any(|family| open.offers(*family)) {
            return Ok(());
        }
        let mut missing = Vec::new();
        wanted.iter().for_each(|family| Capability::MultiProtocol((*family).into()).write(&mut missing));
        let offered = Family::ALL.into_iter().filter(|family| open.offers(*family));
        let what = format!(
            "no common family: peer offered {}, configured {}",
            reason::in_words(offered),
            reason::in_words(wanted.iter().copied())
        );
        let answer = Notification::with(code::OPEN, notification::open::UNSUPPORTED_CAPABILITY, missing);
        Err(Fault::new(answer, what))
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
                self.replace(cx, other_id, "peer restarted: it opened a new connection");
                return Collision::Survives;
            }
            State::OpenConfirm { .. } | State::Established { .. } => {}
        }
        let ours = (cx.identity.router_id, self.config.own_asn(cx.identity.asn));
        if survivor(ours, (open.router_id, open.asn)) != opener {
            return Collision::Loses(opener);
        }
        if other.established().is_some_and(|(session, _)| session.peer_restart.is_some()) {
            // A Cease would take our routes with it at a peer that goes on with the Established one, as BIRD does.
            self.replace(cx, other_id, "two connections crossed: the one that the peer opened stays");
            return Collision::Survives;
        }
        let notification = Notification::new(code::CEASE, cease::CONNECTION_COLLISION);
        self.fail_quietly(cx, other_id, &notification);
        Collision::Survives
    }

    /// An Established connection gives way to a new one without a word, and what both sides keep over a lost connection
    /// is kept. So RFC 4724 section 5 has it for a peer that comes anew: it has restarted.
    fn replace(&mut self, cx: &mut Context<'_>, old: ConnId, why: &str) {
        let Some(connection) = self.take_connection(old) else { return };
        cx.effects.push(Effect::Close { conn: old, last_words: Vec::new() });
        let Some((session, since)) = connection.established() else { return };
        self.last_end = Down::Silently;
        let kept = self.helper.lost(cx.now, session, Cause::Restart);
        self.reason.note(cx.now, why.to_owned());
        self.session_ended(cx, since, kept);
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
            Outgoing::Waiting { .. } | Outgoing::Listening { .. } => self.outgoing = Outgoing::Off,
            Outgoing::Off | Outgoing::Open(_) => {}
        }
        let Some(connection) = self.connections().find(|connection| connection.id == conn) else { return };
        let Some((session, _)) = connection.established() else { return };
        let (session, local) = (session.clone(), connection.local);
        self.end_of_rib.clear();
        self.reason.settle();
        if session.families.is_empty() {
            // It stays: one of the two operators may be about to change that, and an end of it would help nobody.
            let offered: Vec<String> = self.config.families.iter().map(ToString::to_string).collect();
            let what = format!("no family in common: peer does not offer {}", offered.join(" or "));
            self.reason.note(cx.now, what);
            self.reason.log_without_routes(cx.now, &self.config.name);
        }
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
            // Once an hour and attribute, however many sessions end over it: a peer must not fill the log.
            let told = self.flaws_told.get(&flaw.attribute);
            if told.is_none_or(|at| cx.now.duration_since(*at) >= Reason::LOG_AGAIN) {
                self.flaws_told.insert(flaw.attribute, cx.now);
                let (peer, address) = (&self.config.name, &self.address);
                tracing::warn!(%peer, %address, %flaw, "UPDATE is malformed (RFC 7606)");
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

    /// RFC 2918 section 4, RFC 7313 section 4.
    fn handle_refresh(&mut self, cx: &mut Context<'_>, refresh: RouteRefresh) {
        let Some((_, session, _)) = self.established() else { return };
        let enhanced = session.enhanced_refresh == Agreed::Yes;
        // Families that we do not speak say nothing.
        let family = refresh.family.family().filter(|family| session.families.contains(family));
        match (family, refresh.subtype) {
            (Some(family), Subtype::Request) => cx.effects.push(Effect::Refresh(family)),
            // What is stale over a restart goes with End-of-RIB and not before (RFC 7313 section 4.2).
            (Some(family), Subtype::Begin) if enhanced && !self.helper.keeps(family) => {
                self.refreshing.insert(family, cx.now + Self::REFRESH);
                cx.effects.push(Effect::RefreshBegins(family));
            }
            (Some(family), Subtype::End) if self.refreshing.remove(&family).is_some() => {
                cx.effects.push(Effect::RefreshEnds(family));
            }
            (_, subtype) => {
                let (peer, address) = (&self.config.name, &self.address);
                tracing::debug!(%peer, %address, ?subtype, "ROUTE-REFRESH is passed over");
            }
        }
    }

    fn handle_notification(&mut self, cx: &mut Context<'_>, conn: ConnId, notification: &Notification) {
        let Some(connection) = self.take_connection(conn) else { return };
        cx.effects.push(Effect::Close { conn, last_words: Vec::new() });
        let collision =
            notification.code == code::CEASE && notification.subcode == cease::CONNECTION_COLLISION;
        if !collision {
            let about = reason::about(notification, cx.identity, &self.config);
            let about = about.map_or_else(String::new, |about| format!(": {about}"));
            self.reason.note_told(cx.now, format!("received {notification}{about}"));
        }
        if connection.established().is_some() {
            self.last_end = Down::Received(notification.clone());
        }
        let kept = match connection.established() {
            // The peer goes on, on another connection.
            Some((session, _)) if collision => self.helper.lost(cx.now, session, Cause::Restart),
            Some((session, _)) => self.kept_over(cx.now, session, notification, Cause::Restart),
            None => BTreeSet::new(),
        };
        let none = connection.established().is_none() && self.established().is_none();
        if none && is_farewell(&notification.meant()) && self.helper.give_up() {
            // It was away, and is back to say that there will be no session: what it told before is void.
            cx.effects.push(Effect::Down { kept: BTreeSet::new() });
        }
        self.ended(cx, &connection, kept);
    }

    /// What outlives a NOTIFICATION, sent or received: where both agreed on it all that a lost TCP connection leaves,
    /// but for a Hard Reset (RFC 8538 section 4); else nothing.
    fn kept_over(
        &mut self,
        now: Instant,
        session: &Session,
        notification: &Notification,
        cause: Cause,
    ) -> BTreeSet<Family> {
        if session.graceful_notification == Agreed::Yes && !notification.is_hard_reset() {
            return self.helper.lost(now, session, cause);
        }
        self.helper.give_up();
        BTreeSet::new()
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
            self.last_end = Down::Sent(notification.clone());
        }
        let cause = match notification.code {
            code::HOLD_TIMER_EXPIRED | code::SEND_HOLD_TIMER_EXPIRED => Cause::Silence,
            _ => Cause::Restart,
        };
        let kept = match connection.established() {
            Some((session, _)) => self.kept_over(cx.now, session, notification, cause),
            None => BTreeSet::new(),
        };
        let is_doubtful = cause == Cause::Silence && !kept.is_empty();
        self.ended(cx, &connection, kept);
        if is_doubtful {
            cx.effects.push(Effect::Doubt(Freshness::Silent));
        }
    }

    /// A connection is out of its slot: tell the tables, and go on.
    fn ended(&mut self, cx: &mut Context<'_>, connection: &Connection, kept: BTreeSet<Family>) {
        match connection.established() {
            Some((_, since)) => self.session_ended(cx, since, kept),
            None => self.attempt_failed(cx.now),
        }
        let other_goes_on = self.connections().next().is_some();
        if !other_goes_on && matches!(self.outgoing, Outgoing::Off) {
            self.retry_later(cx);
        }
        self.note_state(cx.now);
    }

    /// A session that was up `since` then is no more, for the reason that was noted last: all that belonged to it goes.
    fn session_ended(&mut self, cx: &mut Context<'_>, since: Instant, kept: BTreeSet<Family>) {
        self.refreshing.clear();
        self.asks = Asks::default();
        self.sessions_lost += 1;
        self.backoff.session_ended(cx.now.duration_since(since));
        self.reason.log_by_other(cx.now);
        cx.effects.push(Effect::Down { kept });
    }

    /// An attempt of either side did not become a session, in whatever way; one that still may goes on.
    fn attempt_failed(&mut self, now: Instant) {
        let another_goes_on =
            self.connections().next().is_some() || matches!(self.outgoing, Outgoing::Connecting { .. });
        if !another_goes_on {
            self.failed_attempts += 1;
            self.reason.log_failed_attempt(now, &self.config.name);
        }
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
            (Admin::Enabled, ConnectMode::Both | ConnectMode::Active) => Outgoing::Waiting { until },
            (_, ConnectMode::Passive) => Outgoing::Listening { until: until + Self::PATIENCE },
            (Admin::Disabled, _) => Outgoing::Off,
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

    /// Whether it has no connection, and nothing is kept for it.
    pub(crate) fn is_gone(&self) -> bool {
        self.connections().next().is_none() && self.helper.is_idle()
    }

    /// Whether it has been so for a while.
    pub(crate) fn has_been_gone(&self) -> bool {
        self.is_gone() && matches!(self.outgoing, Outgoing::Off)
    }

    /// Whether the operator lets it be.
    pub(crate) fn admin(&self) -> Admin {
        self.admin
    }

    /// Until when it may read why a connection ended.
    pub(crate) fn reads_until(&self) -> Instant {
        self.quiet_until
    }

    /// Its AS: where any other than ours will do, what it announced last; `None` before it has announced one.
    pub(crate) fn asn(&self, identity: &Identity) -> Option<Asn> {
        let own = self.config.own_asn(identity.asn);
        match self.config.asn {
            PeerAsn::Exactly(asn) => Some(asn),
            PeerAsn::Internal => Some(own),
            PeerAsn::External => self.announced.filter(|asn| *asn != own),
        }
    }

    /// Why the last connection or session ended.
    pub(crate) fn last_error(&self) -> Option<&LastError> {
        self.reason.last.as_ref()
    }

    /// How its last session ended.
    pub(crate) fn last_end(&self) -> &Down {
        &self.last_end
    }

    /// Both ends of the connection of its session.
    pub(crate) fn ends(&self) -> Ends {
        let up = self.connections().find(|connection| connection.established().is_some());
        let (local_port, remote_port) = up.map_or((0, 0), |connection| connection.ports);
        let local = up.map_or(self.address.ip(), |connection| connection.local);
        Ends { local, local_port, remote_port }
    }

    /// Families whose routes are kept though it has not told them in this session, why, and until when.
    pub(crate) fn kept(&self) -> impl Iterator<Item = (Family, Keeping, Instant)> {
        self.helper.shown()
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
