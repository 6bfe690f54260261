//! What we ask a peer to tell again (RFC 2918): the routes that it told and that were not kept.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::prefix::Family;

/// Asks of one session. A peer of which so much is not kept has told far more than it should, perhaps a full table: it is
/// not asked for that at every turn.
#[derive(Debug, Default)]
pub(crate) struct Asks {
    wanted: BTreeSet<Family>,
    /// What was asked for, and when it may be again.
    asked: BTreeMap<Family, Instant>,
}

impl Asks {
    /// How long after an ask the next one waits: the answer may be on its way so long.
    const ONE_IN: Duration = Duration::from_secs(60);

    /// Once more, when its time has come.
    pub(crate) fn want(&mut self, family: Family) {
        self.wanted.insert(family);
    }

    /// What is to be asked for now. `telling` are families that the peer tells again already (RFC 7313): the ask that was
    /// the reason for it may be older than what is wanted now, so another follows.
    pub(crate) fn due(&mut self, now: Instant, telling: impl Fn(Family) -> bool) -> BTreeSet<Family> {
        let asked = &self.asked;
        let may_be = |family: &Family| asked.get(family).is_none_or(|again| now >= *again);
        let due: BTreeSet<Family> =
            self.wanted.extract_if(.., |family| may_be(family) && !telling(*family)).collect();
        self.asked.extend(due.iter().map(|family| (*family, now + Self::ONE_IN)));
        due
    }

    /// When the next one is due; one that waits for the end of an answer is due with that.
    pub(crate) fn poll_timeout(&self, telling: impl Fn(Family) -> bool) -> Option<Instant> {
        let waiting = self.wanted.iter().filter(|family| !telling(**family));
        waiting.filter_map(|family| self.asked.get(family)).min().copied()
    }
}
