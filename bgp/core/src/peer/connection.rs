//! One TCP connection to a peer: from our OPEN to the end of its session.
//!
//! It reads its own octets, keeps its timers, and says what happened as a [`Heard`] value. What follows
//! for the peer as a whole (collision, restart, the tables) is decided one floor up.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::collision::Opener;
use crate::attributes::AttributeTable;
use crate::session::Session;
use crate::types::{ConnId, HoldTime};
use crate::wire::frame::{self, Frame, MessageType, STANDARD_MESSAGE_BYTES};
use crate::wire::notification::{self, code};
use crate::wire::{Fault, Notification, Open, RouteRefresh, Update};

/// A connection that TCP has established.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnId,
    pub(crate) opener: Opener,
    pub(crate) local: IpAddr,
    pub(crate) opened_at: Instant,
    /// Ours and the peer's; 0 where nobody said.
    pub(crate) ports: (u16, u16),
    input: Vec<u8>,
    /// Octets of `input` that are read already; they go when what is left is no whole message.
    read: usize,
    /// Control messages that wait for the socket.
    pub(crate) output: Vec<u8>,
    pub(crate) state: State,
}

/// What is known in each state.
#[derive(Debug)]
pub(crate) enum State {
    /// The peer was at fault a moment ago: our OPEN waits (the DelayOpen of RFC 4271 section 8).
    Held { until: Instant },
    /// Our OPEN is out.
    OpenSent { sent: Open, deadline: Instant },
    /// Both OPENs are good; the peer's first KEEPALIVE is to come.
    OpenConfirm { session: Session, timers: Timers },
    /// Routes flow.
    Established { session: Session, timers: Timers, since: Instant },
}

/// Hold and keepalive timer; both absent where the hold time is 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timers {
    hold: Option<(Duration, Instant)>,
    keepalive: Option<(Duration, Instant)>,
}

impl Timers {
    fn start(now: Instant, hold_time: HoldTime, keepalive: Option<Duration>) -> Timers {
        Timers {
            hold: hold_time.duration().map(|hold| (hold, now + hold)),
            keepalive: hold_time.keepalive(keepalive).map(|interval| (interval, now + interval)),
        }
    }

    fn heard(&mut self, now: Instant) {
        if let Some((hold, deadline)) = &mut self.hold {
            *deadline = now + *hold;
        }
    }

    fn next(&self) -> Option<Instant> {
        let deadlines = [self.hold.map(|(_, at)| at), self.keepalive.map(|(_, at)| at)];
        deadlines.into_iter().flatten().min()
    }
}

/// What a connection has to say after octets or time.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A well-formed OPEN, in OpenSent.
    Open(Open),
    /// The KEEPALIVE that completes the session.
    Established,
    /// Routes.
    Update(Update),
    /// A request for routes, or where the answer to one of ours begins or ends.
    Refresh(RouteRefresh),
    /// The peer ends the session.
    Notification(Notification),
    /// The peer broke a rule.
    Fault(Fault),
    /// Nothing was heard for the hold time.
    HoldTimerExpired,
    /// The time in [`State::Held`] is over.
    Released,
    /// More than an OPEN came before that.
    TooMuch,
}

impl Connection {
    /// How long the peer may take for its OPEN. RFC 4271 section 8 suggests four minutes; a fabric
    /// wants to hear of a mute peer sooner.
    const OPEN_WAIT: Duration = Duration::from_secs(30);

    /// With our OPEN on the way.
    pub(crate) fn open(now: Instant, id: ConnId, opener: Opener, local: IpAddr, ours: Open) -> Connection {
        let mut connection = Connection { opener, ..Connection::held(now, id, local, now) };
        connection.send_open(now, ours);
        connection
    }

    /// Opened by the peer, and silent until `until`.
    pub(crate) fn held(now: Instant, id: ConnId, local: IpAddr, until: Instant) -> Connection {
        let (input, output, opener) = (Vec::new(), Vec::new(), Opener::Peer);
        let state = State::Held { until };
        Connection { id, opener, local, opened_at: now, ports: (0, 0), input, read: 0, output, state }
    }

    pub(crate) fn send_open(&mut self, now: Instant, ours: Open) {
        ours.write(&mut self.output);
        self.state = State::OpenSent { sent: ours, deadline: now + Self::OPEN_WAIT };
    }

    /// The peer's OPEN is accepted: answer it.
    pub(crate) fn confirm(&mut self, now: Instant, session: Session, keepalive: Option<Duration>) {
        frame::write_keepalive(&mut self.output);
        let timers = Timers::start(now, session.hold_time, keepalive);
        self.state = State::OpenConfirm { session, timers };
    }

    pub(crate) fn session(&self) -> Option<&Session> {
        match &self.state {
            State::Established { session, .. } | State::OpenConfirm { session, .. } => Some(session),
            State::Held { .. } | State::OpenSent { .. } => None,
        }
    }

    /// Whether our OPEN is still held back.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.state, State::Held { .. })
    }

    pub(crate) fn established(&self) -> Option<(&Session, Instant)> {
        match &self.state {
            State::Established { session, since, .. } => Some((session, *since)),
            _ => None,
        }
    }

    /// Takes octets in. Follow with [`Connection::poll`] until it gives `None`.
    pub(crate) fn push(&mut self, octets: &[u8]) {
        self.input.extend_from_slice(octets);
    }

    /// The next thing that the octets say.
    pub(crate) fn poll(&mut self, now: Instant, attributes: &mut AttributeTable) -> Option<Heard> {
        loop {
            if self.is_held() {
                // A peer may say its OPEN meanwhile, and no more.
                return (self.input.len() > STANDARD_MESSAGE_BYTES).then_some(Heard::TooMuch);
            }
            let most = self.session().map_or(STANDARD_MESSAGE_BYTES, |session| session.most_message_bytes);
            let frame = match frame::next(&self.input[self.read..], most) {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    self.input.drain(..std::mem::take(&mut self.read));
                    return None;
                }
                Err(fault) => return Some(Heard::Fault(fault)),
            };
            self.read += frame.length;
            let heard = handle_frame(&mut self.state, now, frame, attributes);
            if heard.is_some() {
                return heard;
            }
        }
    }

    /// The earliest of its timers.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Held { until } => Some(*until),
            State::OpenSent { deadline, .. } => Some(*deadline),
            State::OpenConfirm { timers, .. } | State::Established { timers, .. } => timers.next(),
        }
    }

    /// We hung, and have not read what the peer said meanwhile: it gets `grace` to be heard.
    pub(crate) fn handle_hang(&mut self, now: Instant, grace: Duration) {
        let heard_by = now + grace;
        match &mut self.state {
            State::Held { .. } => {}
            State::OpenSent { deadline, .. } => *deadline = heard_by.max(*deadline),
            State::OpenConfirm { timers, .. } | State::Established { timers, .. } => {
                if let Some((_, deadline)) = &mut timers.hold {
                    *deadline = heard_by.max(*deadline);
                }
            }
        }
    }

    /// Does what is due; harmless when nothing is.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<Heard> {
        match &mut self.state {
            State::Held { until } => (now >= *until).then_some(Heard::Released),
            State::OpenSent { deadline, .. } => (now >= *deadline).then_some(Heard::HoldTimerExpired),
            State::OpenConfirm { timers, .. } | State::Established { timers, .. } => {
                if timers.hold.is_some_and(|(_, deadline)| now >= deadline) {
                    return Some(Heard::HoldTimerExpired);
                }
                if let Some((interval, due)) = timers.keepalive.as_mut().filter(|(_, due)| now >= *due) {
                    *due = now + *interval;
                    frame::write_keepalive(&mut self.output);
                }
                None
            }
        }
    }
}

/// The table of RFC 4271 section 8.2.2 for received messages; what does not belong is answered as
/// RFC 6608 section 3 asks.
fn handle_frame(
    state: &mut State,
    now: Instant,
    frame: Frame<'_>,
    attributes: &mut AttributeTable,
) -> Option<Heard> {
    use MessageType as M;
    if frame.kind == M::Notification {
        return Some(Heard::Notification(Notification::decode(frame.body)));
    }
    match state {
        // Nothing is read yet.
        State::Held { .. } => None,
        State::OpenSent { .. } => Some(match frame.kind {
            M::Open => Open::decode(frame.body).map_or_else(Heard::Fault, Heard::Open),
            _ => unexpected(notification::fsm::OPEN_SENT, frame.kind),
        }),
        State::OpenConfirm { session, timers } => match frame.kind {
            M::Keepalive => {
                timers.heard(now);
                *state = State::Established { session: session.clone(), timers: *timers, since: now };
                Some(Heard::Established)
            }
            _ => Some(unexpected(notification::fsm::OPEN_CONFIRM, frame.kind)),
        },
        State::Established { session, timers, .. } => {
            timers.heard(now);
            match frame.kind {
                M::Keepalive => None,
                M::Update => {
                    let update = Update::decode_with(frame.body, session, attributes);
                    Some(update.map_or_else(Heard::Fault, Heard::Update))
                }
                M::RouteRefresh => {
                    let refresh = RouteRefresh::decode(frame.body, session.enhanced_refresh);
                    Some(refresh.map_or_else(Heard::Fault, Heard::Refresh))
                }
                M::Open | M::Notification => Some(unexpected(notification::fsm::ESTABLISHED, frame.kind)),
            }
        }
    }
}

fn unexpected(subcode: u8, kind: MessageType) -> Heard {
    let answer = Notification::with(code::FSM, subcode, [kind.octet()]);
    Heard::Fault(Fault::new(answer, format!("{kind} does not belong there")))
}
