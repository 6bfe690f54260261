//! Prefixes that may differ from what is wanted: a queue without duplicates, and those that failed or are
//! contested, waiting for their time.
//!
//! The queue holds prefixes, not states: what is written is what is wanted when its turn comes, so a prefix
//! that changes ten times while the kernel is busy is written once. Its size is bounded by the number of
//! prefixes.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use crate::wanted::Prefix;

const FIRST_DELAY: Duration = Duration::from_millis(1);
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// Waiting time after a refusal: 1 ms, doubling up to 1 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    delay: Duration,
    pub(crate) until: Instant,
}

impl Backoff {
    /// The time to wait after one refusal more.
    pub(crate) fn after(previous: Option<Self>, now: Instant) -> Self {
        let delay = previous.map_or(FIRST_DELAY, |previous| (previous.delay * 2).min(LONGEST_DELAY));
        Self { delay, until: now + delay }
    }
}

/// A point in the queue: reached when all that was queued before it has had its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark(u64);

#[derive(Debug, Default)]
pub(crate) struct Pending {
    queue: VecDeque<Prefix>,
    queued: HashSet<Prefix>,
    pushed: u64,
    taken: u64,
    failed: HashMap<Prefix, Backoff>,
    retries: BTreeSet<(Instant, Prefix)>,
}

impl Pending {
    /// Queues a prefix unless it is queued.
    pub(crate) fn push(&mut self, prefix: Prefix) {
        if self.queued.insert(prefix) {
            self.queue.push_back(prefix);
            self.pushed += 1;
        }
    }

    pub(crate) fn contains(&self, prefix: &Prefix) -> bool {
        self.queued.contains(prefix)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// How many were refused and are tried again.
    pub(crate) fn failed(&self) -> usize {
        self.failed.len()
    }

    /// Queues a prefix when the time has come.
    pub(crate) fn push_at(&mut self, prefix: Prefix, at: Instant) {
        self.retries.insert((at, prefix));
    }

    /// The oldest ones, out of the queue.
    pub(crate) fn take(&mut self, limit: usize) -> Vec<Prefix> {
        let count = limit.min(self.queue.len());
        let taken: Vec<Prefix> = self.queue.drain(..count).collect();
        self.taken += count as u64;
        for prefix in &taken {
            self.queued.remove(prefix);
        }
        taken
    }

    /// The end of the queue as it is now.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.pushed)
    }

    /// Whether the queue has been worked off up to a mark.
    pub(crate) fn reached(&self, mark: Mark) -> bool {
        self.taken >= mark.0
    }

    /// The kernel refused it. Whether this is the first refusal in a row.
    pub(crate) fn refused(&mut self, prefix: Prefix, now: Instant) -> bool {
        let previous = self.failed.get(&prefix).copied();
        let next = Backoff::after(previous, now);
        if let Some(previous) = previous {
            self.retries.remove(&(previous.until, prefix));
        }
        self.failed.insert(prefix, next);
        self.retries.insert((next.until, prefix));
        previous.is_none()
    }

    /// It is as it should be.
    pub(crate) fn settled(&mut self, prefix: &Prefix) {
        if let Some(backoff) = self.failed.remove(prefix) {
            self.retries.remove(&(backoff.until, *prefix));
        }
    }

    /// When the next one is to be tried again.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.retries.first().map(|(at, _)| *at)
    }

    /// Queues those whose time has come. They keep their count of refusals.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, prefix)) = self.retries.first().copied()
            && at <= now
        {
            self.retries.pop_first();
            self.push(prefix);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(third: u8) -> Prefix {
        Prefix::new(format!("10.0.{third}.0/24").parse().expect("network"))
    }

    #[test]
    fn prefix_queued_twice_is_taken_once_in_its_first_place() {
        let mut pending = Pending::default();
        for third in [1, 2, 1, 3] {
            pending.push(prefix(third));
        }
        assert_eq!(pending.take(2), [prefix(1), prefix(2)]);
        pending.push(prefix(1));
        assert_eq!(pending.take(9), [prefix(3), prefix(1)]);
    }

    #[test]
    fn mark_is_reached_when_all_before_it_were_taken() {
        let mut pending = Pending::default();
        pending.push(prefix(1));
        let mark = pending.mark();
        pending.push(prefix(2));
        assert!(!pending.reached(mark));
        pending.take(1);
        assert!(pending.reached(mark));
        assert!(!pending.reached(pending.mark()));
    }

    #[test]
    fn refused_prefix_returns_after_a_delay_that_doubles_up_to_a_second() {
        let mut pending = Pending::default();
        let mut now = Instant::now();
        assert!(pending.refused(prefix(1), now));
        let mut delays = Vec::new();
        for _ in 0..12 {
            let at = pending.poll_timeout().expect("a retry");
            delays.push((at - now).as_millis());
            now = at;
            pending.handle_timeout(now);
            assert_eq!(pending.take(9), [prefix(1)]);
            assert!(!pending.refused(prefix(1), now));
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 1000]);
        pending.settled(&prefix(1));
        assert_eq!(pending.poll_timeout(), None);
        assert!(pending.refused(prefix(1), now));
    }
}
