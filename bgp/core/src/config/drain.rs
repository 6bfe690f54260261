//! Leaving on purpose: what of our own is on its way out of the fabric (RFC 8326).
//!
//! What is drained is first told with GRACEFUL_SHUTDOWN, and with LOCAL_PREF 0 inside the AS, so that everybody who has
//! another way takes that; after some time it is told no more. Addresses of the node stay: who drains it still wants to
//! reach it.

use std::time::{Duration, Instant};

use super::Source;

/// What is drained, each part with when that began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// Addresses of services.
    pub services: Option<Instant>,
    /// Ranges of pods.
    pub pods: Option<Instant>,
    /// How long what is drained is told with GRACEFUL_SHUTDOWN before it is told no more.
    pub wait: Duration,
}

impl Drain {
    /// Enough for the slowest of the usual timers between two switches: FRR gathers changes for 10 s where it is not told
    /// otherwise, and waits 30 s between UPDATEs to external peers if it has its traditional defaults.
    pub const WAIT: Duration = Duration::from_secs(60);

    /// How far each is.
    pub(crate) fn stages(&self, now: Instant) -> Stages {
        let of = |since: Option<Instant>| match since {
            None => Stage::Stays,
            Some(since) if now < since + self.wait => Stage::Leaves,
            Some(_) => Stage::Gone,
        };
        Stages { services: of(self.services), pods: of(self.pods) }
    }

    /// When the next part is told no more.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        let ends = self.services.into_iter().chain(self.pods).map(|since| since + self.wait);
        ends.filter(|end| *end > now).min()
    }
}

/// How far the draining of something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Stage {
    /// It is not drained.
    #[default]
    Stays,
    /// It is told with GRACEFUL_SHUTDOWN.
    Leaves,
    /// It is told no more.
    Gone,
}

/// How far the draining of everything is, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stages {
    services: Stage,
    pods: Stage,
}

impl Stages {
    /// An aggregate goes with what lies in it, and not by itself.
    pub(crate) fn of(&self, source: Source) -> Stage {
        match source {
            Source::NodeAddress | Source::Aggregate => Stage::Stays,
            Source::Services => self.services,
            Source::Pods => self.pods,
        }
    }
}

impl Default for Drain {
    /// Nothing.
    fn default() -> Drain {
        Drain { services: None, pods: None, wait: Drain::WAIT }
    }
}
