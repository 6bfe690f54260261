//! Poll sequences (RFC 5880 section 6.5): new times count when the other side has surely heard of them.

use std::time::Duration;

use super::Config;

/// While it is on, packets go at the faster of the old and the new pace, and are waited for by the slower (RFC 5880 section
/// 6.8.3).
#[derive(Debug, Default)]
pub(super) enum Poll {
    #[default]
    Off,
    On {
        /// The fastest of the old paces.
        transmit: Duration,
        /// The slowest of the old ones.
        receive: Duration,
        /// An answer that comes first is about what was asked before: it is asked once more.
        again: bool,
    },
}

impl Poll {
    /// The times change from `before` to `after`.
    pub(super) fn start(&mut self, before: Config, after: Config) {
        if (before.transmit, before.receive) == (after.transmit, after.receive) {
            return;
        }
        *self = match *self {
            Poll::Off => Poll::On { transmit: before.transmit, receive: before.receive, again: false },
            Poll::On { transmit, receive, .. } => Poll::On {
                transmit: transmit.min(before.transmit),
                receive: receive.max(before.receive),
                again: true,
            },
        };
    }

    /// The other side has answered.
    pub(super) fn handle_final(&mut self) {
        *self = match *self {
            Poll::On { transmit, receive, again: true } => Poll::On { transmit, receive, again: false },
            Poll::On { again: false, .. } | Poll::Off => Poll::Off,
        };
    }

    pub(super) fn is_on(&self) -> bool {
        matches!(self, Poll::On { .. })
    }

    /// The time between two packets of ours, as far as we choose it.
    pub(super) fn transmit(&self, config: &Config) -> Duration {
        match self {
            Poll::Off => config.transmit,
            Poll::On { transmit, .. } => config.transmit.min(*transmit),
        }
    }

    /// The time between two packets of the other side, as far as we choose it.
    pub(super) fn receive(&self, config: &Config) -> Duration {
        match self {
            Poll::Off => config.receive,
            Poll::On { receive, .. } => config.receive.max(*receive),
        }
    }
}
