//! How soon a thing is done again that others undo, or that did not work.

use std::time::{Duration, Instant};

/// Allows a few at once and then ever fewer, up to a longest pause; quiet makes it forget.
#[derive(Debug)]
pub(super) struct Budget {
    at_once: u32,
    pause: Duration,
    longest: Duration,
    done: u32,
    last: Option<Instant>,
}

impl Budget {
    /// `at_once` without a pause, then `pause`, twice as long each time, at most `longest`.
    pub(super) fn new(at_once: u32, pause: Duration, longest: Duration) -> Budget {
        Budget { at_once, pause, longest, done: 0, last: None }
    }

    /// When the next may be done, `now` being when it is asked for.
    pub(super) fn next(&self, now: Instant) -> Instant {
        match self.last {
            Some(last) if self.done >= self.at_once => now.max(last + self.pause()),
            _ => now,
        }
    }

    /// One was done. `jitter` is 0 to 1: so much of a quarter of the pause is added to it.
    pub(super) fn spend(&mut self, now: Instant, jitter: f64) {
        if self.last.is_some_and(|last| now.duration_since(last) > self.pause() + self.quiet()) {
            self.done = 0;
        }
        self.done = self.done.saturating_add(1);
        self.last = Some(now + self.pause().mul_f64(jitter.clamp(0.0, 1.0) / 4.0));
    }

    /// It went well.
    pub(super) fn reset(&mut self) {
        self.done = 0;
        self.last = None;
    }

    /// More than a few were done of late.
    pub(super) fn is_strained(&self) -> bool {
        self.done > self.at_once
    }

    fn pause(&self) -> Duration {
        let Some(beyond) = self.done.checked_sub(self.at_once) else { return Duration::ZERO };
        self.longest.min(self.pause.saturating_mul(1 << beyond.min(16)))
    }

    /// After so long without any the next is the first again.
    fn quiet(&self) -> Duration {
        self.longest.saturating_mul(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_go_at_once_then_pauses_double_up_to_the_longest_and_quiet_ends_them() {
        let ms = Duration::from_millis;
        let mut budget = Budget::new(2, ms(10), ms(35));
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let next = budget.next(now);
            pauses.push((next - now).as_millis());
            now = next;
            budget.spend(now, 0.0);
        }
        assert_eq!(pauses, [0, 0, 10, 20, 35, 35]);
        assert!(budget.is_strained());
        now += ms(35 + 71);
        assert_eq!(budget.next(now), now);
        budget.spend(now, 0.0);
        assert_eq!(budget.next(now), now);
        assert!(!budget.is_strained());
    }
}
