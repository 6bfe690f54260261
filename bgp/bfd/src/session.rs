//! One session (RFC 5880 section 6.8): asynchronous mode, in the active role.
//!
//! ```text
//!                 Down heard            Init or Up heard
//!   New --> Down ------------> Init --------------------> Up
//!            ^ ^--- silence ----'                          |
//!            | '------- Init heard -> (Up)                 |
//!            +------ silence, Down or AdminDown heard -----+
//!   any --> Leaving: AdminDown, until the other side has surely heard it
//! ```

mod heard;
mod poll;

use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::packet::{Diagnostic, Discriminator, Packet, State};
use crate::status::{Down, DownCause, Status};

use heard::Heard;
use poll::Poll;

/// What the operator wants of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Time between two packets of ours, if the other side can receive that; a millisecond at least.
    pub transmit: Duration,
    /// Time between two packets of the other side, at least; a millisecond or more.
    pub receive: Duration,
    /// How many of our packets the other side may miss.
    pub multiplier: NonZeroU8,
}

impl Default for Config {
    /// 300 ms, 3 packets: as FRR.
    fn default() -> Config {
        let interval = Duration::from_millis(300);
        Config { transmit: interval, receive: interval, multiplier: NonZeroU8::MIN.saturating_add(2) }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Session {
    discriminator: Discriminator,
    config: Config,
    stage: Stage,
    since: Instant,
    /// When the last packet went out that was no answer.
    sent_at: Option<Instant>,
    /// When the next one goes; `None` while the other side wants none.
    next_at: Option<Instant>,
    /// The other side waits for an answer (F).
    owes_final: bool,
    last_down: Option<Down>,
    ups: u64,
    downs: u64,
}

/// What is known in each state.
#[derive(Debug)]
enum Stage {
    /// Nothing was sent yet.
    New,
    /// What is heard, if it is, says nothing that would bring it up.
    Down {
        why: Diagnostic,
        heard: Option<Heard>,
    },
    Init {
        heard: Heard,
    },
    Up {
        heard: Heard,
        poll: Poll,
    },
    /// Nobody wants it any more; it is said until then.
    Leaving {
        heard: Option<Heard>,
        until: Instant,
    },
}

impl Config {
    /// Nobody needs it faster, and zero would never end.
    const LEAST: Duration = Duration::from_millis(1);

    fn checked(self) -> Config {
        Config { transmit: self.transmit.max(Self::LEAST), receive: self.receive.max(Self::LEAST), ..self }
    }
}

impl Session {
    /// Not faster while it is not up (RFC 5880 section 6.8.3).
    const SLOW: Duration = Duration::from_secs(1);
    /// From the first packet to the second.
    const FIRST_WORDS: Duration = Duration::from_millis(20);
    /// How long a session that came no further is said to be no more.
    const FAREWELL: Duration = Duration::from_secs(2);
    /// And at most, whatever the other side asked for: nobody waits longer for a peer that is gone.
    const LONGEST_FAREWELL: Duration = Duration::from_secs(60);

    pub(crate) fn new(now: Instant, discriminator: Discriminator, config: Config) -> Session {
        Session {
            discriminator,
            config: config.checked(),
            stage: Stage::New,
            since: now,
            sent_at: None,
            next_at: Some(now),
            owes_final: false,
            last_down: None,
            ups: 0,
            downs: 0,
        }
    }

    // --- wishes ------------------------------------------------------------------------------------

    /// The operator wants it so. One that was leaving stays, from its beginning.
    pub(crate) fn apply(&mut self, now: Instant, config: Config) {
        let config = config.checked();
        let before = std::mem::replace(&mut self.config, config);
        match &mut self.stage {
            Stage::Leaving { .. } => {
                self.stage = Stage::New;
                self.since = now;
                self.next_at = Some(now);
            }
            Stage::Up { poll, .. } if before != config => {
                poll.start(before, config);
                self.next_at = self.next_at.map(|_| now);
            }
            _ => {}
        }
    }

    /// Nobody wants it any more: that is said for as long as the other side takes to miss us, so that it has surely heard it
    /// and takes it for no failure (RFC 5880 section 6.8.16).
    pub(crate) fn leave(&mut self, now: Instant) {
        if matches!(self.stage, Stage::Leaving { .. }) {
            return;
        }
        let interval = self.interval();
        let heard = match std::mem::replace(&mut self.stage, Stage::New) {
            Stage::New => None,
            Stage::Down { heard, .. } | Stage::Leaving { heard, .. } => heard,
            Stage::Init { heard } | Stage::Up { heard, .. } => Some(heard),
        };
        let missed = interval.map(|interval| interval * u32::from(self.config.multiplier.get()));
        let until = now + missed.unwrap_or_default().clamp(Self::FAREWELL, Self::LONGEST_FAREWELL);
        self.stage = Stage::Leaving { heard, until };
        self.since = now;
        self.next_at = Some(now);
    }

    /// Whether it has said for long enough that it is no more.
    pub(crate) fn has_left(&self, now: Instant) -> bool {
        matches!(self.stage, Stage::Leaving { until, .. } if now >= until)
    }

    // --- events ------------------------------------------------------------------------------------

    /// A packet that is of this session and sound: RFC 5880 section 6.8.6 from "set bfd.RemoteDiscr" on.
    pub(crate) fn handle_packet(&mut self, now: Instant, packet: &Packet) {
        let interval = self.interval();
        let news = Heard::new(now, packet);
        match &mut self.stage {
            Stage::Leaving { heard, .. } => {
                // Only our packets' way is of interest now.
                *heard = Some(news);
                return;
            }
            Stage::New => {
                // Whatever it says, we did not speak before: it is answered when we have.
                self.owes_final |= packet.poll;
                return;
            }
            Stage::Down { heard, .. } => *heard = Some(news),
            Stage::Init { heard } => *heard = news,
            Stage::Up { heard, poll } => {
                *heard = news;
                if packet.is_final {
                    poll.handle_final();
                }
            }
        }
        self.follow(now, news);
        self.owes_final |= packet.poll;
        if self.interval() != interval {
            self.reschedule(now);
        }
    }

    /// What the other side's state means for ours.
    fn follow(&mut self, now: Instant, heard: Heard) {
        match (self.state(), heard.state) {
            (State::Down, State::Down) => self.enter(now, Stage::Init { heard }),
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => self.enter_up(now, heard),
            (State::Up, State::Down) => {
                self.lost(now, heard, DownCause::NeighborSignaledDown(heard.diagnostic));
            }
            (State::Up, State::AdminDown) => self.lost(now, heard, DownCause::NeighborAdminDown),
            (State::Init, State::AdminDown) => {
                let why = Diagnostic::NEIGHBOR_SIGNALED_DOWN;
                self.enter(now, Stage::Down { why, heard: Some(heard) });
            }
            _ => {}
        }
    }

    /// Time has passed. Read what waits in the sockets first: what came in time counts, also if it is read late.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let Some((heard, detection)) = self.detection().filter(|(heard, time)| now >= heard.at + *time)
        else {
            return;
        };
        match &mut self.stage {
            Stage::Up { .. } => {
                self.note_lost(now, heard, DownCause::DetectionTimeExpired(detection));
                self.enter(now, Stage::Down { why: Diagnostic::DETECTION_TIME_EXPIRED, heard: None });
            }
            Stage::Init { .. } => {
                self.enter(now, Stage::Down { why: Diagnostic::DETECTION_TIME_EXPIRED, heard: None });
            }
            // Its name of the session is forgotten (RFC 5880 section 6.8.1, bfd.RemoteDiscr).
            Stage::Down { heard, .. } | Stage::Leaving { heard, .. } => {
                *heard = None;
                // If it wanted no packets, that is forgotten, too.
                self.reschedule(now);
            }
            Stage::New => {}
        }
    }

    fn enter_up(&mut self, now: Instant, heard: Heard) {
        self.ups += 1;
        let slow = Config { transmit: self.config.transmit.max(Self::SLOW), ..self.config };
        let mut poll = Poll::default();
        if slow != self.config {
            poll.start(slow, self.config);
        }
        self.enter(now, Stage::Up { heard, poll });
    }

    fn lost(&mut self, now: Instant, heard: Heard, cause: DownCause) {
        self.note_lost(now, heard, cause);
        self.enter(now, Stage::Down { why: Diagnostic::NEIGHBOR_SIGNALED_DOWN, heard: Some(heard) });
    }

    fn note_lost(&mut self, now: Instant, heard: Heard, cause: DownCause) {
        self.downs += 1;
        let control_plane_independent = heard.control_plane_independent;
        self.last_down = Some(Down { at: now, cause, control_plane_independent });
    }

    /// A new state is told at once (RFC 5880 section 6.8.7).
    fn enter(&mut self, now: Instant, stage: Stage) {
        self.stage = stage;
        self.since = now;
        self.next_at = self.interval().map(|_| now);
    }

    /// The time between two packets has changed, or whether there are any.
    fn reschedule(&mut self, now: Instant) {
        let due = |interval| self.sent_at.map_or(now, |sent_at| (sent_at + interval).max(now));
        self.next_at = match (self.next_at, self.interval()) {
            (_, None) => None,
            // What is due anyway is so still.
            (Some(at), Some(interval)) => Some(at.min(due(interval))),
            (None, Some(interval)) => Some(due(interval)),
        };
    }

    // --- work --------------------------------------------------------------------------------------

    /// The next packet that is due, if one is. Ask until there is none.
    pub(crate) fn poll_transmit(&mut self, now: Instant, dice: &mut Dice) -> Option<Packet> {
        if self.next_at.is_some_and(|at| now >= at) {
            let packet = self.packet();
            if matches!(self.stage, Stage::New) {
                // A session of an earlier run of ours may be up at the other side. Down would be a failure to it;
                // AdminDown says nothing about the path (RFC 5882 section 3.2).
                self.stage = Stage::Down { why: Diagnostic::NONE, heard: None };
                self.next_at = Some(now + Self::FIRST_WORDS);
            } else {
                let multiplier = self.config.multiplier.get();
                self.next_at = self.interval().map(|interval| now + dice.jittered(interval, multiplier));
            }
            self.sent_at = Some(now);
            return Some(packet);
        }
        // At once, whatever the time between two packets is (RFC 5880 section 6.5). Never both bits in one.
        std::mem::take(&mut self.owes_final).then(|| Packet { poll: false, is_final: true, ..self.packet() })
    }

    fn packet(&self) -> Packet {
        let (diagnostic, poll) = match &self.stage {
            Stage::New | Stage::Leaving { .. } => (Diagnostic::ADMINISTRATIVELY_DOWN, false),
            Stage::Down { why, .. } => (*why, false),
            Stage::Init { .. } => (Diagnostic::NONE, false),
            Stage::Up { poll, .. } => (Diagnostic::NONE, poll.is_on()),
        };
        let slow = if self.state() == State::Up { Duration::ZERO } else { Self::SLOW };
        Packet {
            diagnostic,
            state: self.state(),
            poll,
            is_final: false,
            // It is a thread of the daemon, and shares its fate.
            control_plane_independent: false,
            demand: false,
            multiplier: self.config.multiplier,
            my_discriminator: self.discriminator,
            your_discriminator: self.heard().map(|heard| heard.discriminator),
            desired_min_tx: self.config.transmit.max(slow),
            required_min_rx: self.config.receive,
        }
    }

    /// When it is to be looked at next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let detection = self.detection().map(|(heard, time)| heard.at + time);
        let left = match &self.stage {
            Stage::Leaving { until, .. } => Some(*until),
            _ => None,
        };
        [self.next_at, detection, left].into_iter().flatten().min()
    }

    // --- looks -------------------------------------------------------------------------------------

    pub(crate) fn state(&self) -> State {
        match &self.stage {
            Stage::New | Stage::Leaving { .. } => State::AdminDown,
            Stage::Down { .. } => State::Down,
            Stage::Init { .. } => State::Init,
            Stage::Up { .. } => State::Up,
        }
    }

    pub(crate) fn status(&self) -> Status {
        Status {
            // To who looks, one that will speak in a moment is down.
            state: if matches!(self.stage, Stage::New) { State::Down } else { self.state() },
            since: self.since,
            discriminator: self.discriminator,
            remote: self.heard().map(Heard::told),
            transmit: self.interval(),
            detection: self.detection().map(|(_, time)| time),
            last_down: self.last_down,
            ups: self.ups,
            downs: self.downs,
        }
    }

    fn heard(&self) -> Option<&Heard> {
        match &self.stage {
            Stage::New => None,
            Stage::Down { heard, .. } | Stage::Leaving { heard, .. } => heard.as_ref(),
            Stage::Init { heard } | Stage::Up { heard, .. } => Some(heard),
        }
    }

    /// The time between two packets (RFC 5880 section 6.8.2); `None`: the other side wants none.
    fn interval(&self) -> Option<Duration> {
        let ours = match &self.stage {
            Stage::Up { poll, .. } => poll.transmit(&self.config),
            _ => self.config.transmit.max(Self::SLOW),
        };
        let Some(heard) = self.heard() else { return Some(ours) };
        let polls = matches!(&self.stage, Stage::Up { poll, .. } if poll.is_on());
        let on_demand = heard.demand && heard.state == State::Up && self.state() == State::Up && !polls;
        (!heard.required_min_rx.is_zero() && !on_demand).then(|| ours.max(heard.required_min_rx))
    }

    /// Who is to be heard again, and within which time of the last packet (RFC 5880 section 6.8.4).
    fn detection(&self) -> Option<(Heard, Duration)> {
        let heard = *self.heard()?;
        let receive = match &self.stage {
            Stage::Up { poll, .. } => poll.receive(&self.config),
            _ => self.config.receive,
        };
        let time = receive.max(heard.desired_min_tx) * u32::from(heard.multiplier.get());
        Some((heard, time))
    }
}

#[cfg(test)]
mod tests;
