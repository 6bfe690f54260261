//! What a session tells of itself.

use std::fmt;
use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use crate::packet::{Diagnostic, Discriminator, State};

/// A session, for those who act by it and for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Ours.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// Our name of it.
    pub discriminator: Discriminator,
    /// What the other side said last; absent while nothing is heard of it.
    pub remote: Option<Remote>,
    /// The time between two packets of ours, before jitter; absent while we send none.
    pub transmit: Option<Duration>,
    /// After so long without a packet it is down; absent while nothing is heard.
    pub detection: Option<Duration>,
    /// How it was lost last, when it had been up.
    pub last_down: Option<Down>,
    /// How often it came up.
    pub ups: u64,
    /// How often it was lost after it had been up, for whatever reason.
    pub downs: u64,
}

/// What the other side said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote {
    /// Its state.
    pub state: State,
    /// Why that changed last.
    pub diagnostic: Diagnostic,
    /// Its name of the session.
    pub discriminator: Discriminator,
    /// Whether its BFD goes on while its control plane does not (C).
    pub control_plane_independent: bool,
    /// How many of its packets we may miss.
    pub multiplier: NonZeroU8,
    /// How often it would send.
    pub desired_min_tx: Duration,
    /// How often it can receive.
    pub required_min_rx: Duration,
}

/// The end of a session that had been up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Down {
    /// When.
    pub at: Instant,
    /// Why.
    pub cause: DownCause,
    /// Whether the other side's BFD would have gone on without its control plane (C), by what it said last.
    pub control_plane_independent: bool,
}

/// Why a session that had been up is not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownCause {
    /// Nothing was heard for this time.
    DetectionTimeExpired(Duration),
    /// The other side said so, and why.
    NeighborSignaledDown(Diagnostic),
    /// An operator there wants none. It says nothing about the path (RFC 5882 section 3.2).
    NeighborAdminDown,
}

impl DownCause {
    /// Whether the path is lost, as far as BFD knows.
    pub fn is_failure(self) -> bool {
        match self {
            DownCause::DetectionTimeExpired(_) | DownCause::NeighborSignaledDown(_) => true,
            DownCause::NeighborAdminDown => false,
        }
    }
}

impl fmt::Display for DownCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DownCause::DetectionTimeExpired(time) => write!(f, "nothing heard for {} ms", time.as_millis()),
            DownCause::NeighborSignaledDown(diagnostic) => write!(f, "the peer said Down ({diagnostic})"),
            DownCause::NeighborAdminDown => f.write_str("the peer said AdminDown"),
        }
    }
}
