//! When peers want to be looked at, in order: of hundreds the next one is found without asking all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::types::PeerId;

/// One time for each peer that has one.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(Instant, PeerId)>,
    of_peer: BTreeMap<PeerId, Instant>,
}

impl Timers {
    /// The peer wants to be looked at then, and not at the time it said before.
    pub(super) fn set(&mut self, peer: PeerId, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.of_peer.insert(peer, at),
            None => self.of_peer.remove(&peer),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, peer));
        }
        self.by_time.extend(at.map(|at| (at, peer)));
    }

    /// The first of all times.
    pub(super) fn first(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Whose time has come, in the order of peers.
    pub(super) fn due(&self, now: Instant) -> BTreeSet<PeerId> {
        self.by_time.iter().take_while(|(at, _)| *at <= now).map(|(_, peer)| *peer).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_peer_has_the_time_it_said_last_and_the_first_time_is_that_of_all() {
        let (start, mut timers) = (Instant::now(), Timers::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        let [one, other] = [PeerId(1), PeerId(2)];
        timers.set(one, Some(at(5)));
        timers.set(other, Some(at(3)));
        timers.set(other, Some(at(7)));
        timers.set(one, Some(at(5)));
        assert_eq!(timers.first(), Some(at(5)));
        assert_eq!(timers.due(at(4)), [].into());
        assert_eq!(timers.due(at(7)), [one, other].into());
        timers.set(one, None);
        assert_eq!((timers.first(), timers.due(at(6))), (Some(at(7)), [].into()));
        timers.set(other, None);
        timers.set(other, None);
        assert_eq!(timers.first(), None);
    }
}
