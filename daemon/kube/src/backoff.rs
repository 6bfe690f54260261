//! How long to wait before the next attempt, and how often a kind may be listed.

use std::time::{Duration, Instant};

/// A small generator (SplitMix64) with an injected seed. It spreads requests and nothing else: no secret depends on it.
#[derive(Debug, Clone)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Jitter {
        Jitter(seed)
    }

    /// `duration`, a quarter shorter to a quarter longer.
    pub(crate) fn spread(&mut self, duration: Duration) -> Duration {
        duration.mul_f64(0.75 + 0.5 * self.unit())
    }

    /// Anything up to `duration`.
    pub(crate) fn up_to(&mut self, duration: Duration) -> Duration {
        duration.mul_f64(self.unit())
    }

    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Doubles with each failure.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// From `first` to `longest`; each wait is a quarter shorter or longer than that, but never longer than `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Backoff {
        Backoff { first, longest, failures: 0 }
    }

    /// The wait after one more failure.
    pub(crate) fn failed(&mut self, jitter: &mut Jitter) -> Duration {
        let wait = self.first.saturating_mul(1 << self.failures.min(16)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        jitter.spread(wait).min(self.longest)
    }

    /// It works.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A few lists at once, and in the long run one an interval.
#[derive(Debug, Clone)]
pub(crate) struct Allowance {
    interval: Duration,
    most: u32,
    /// When there is room for all of them again.
    full_at: Option<Instant>,
}

impl Allowance {
    pub(crate) fn new(most: u32, interval: Duration) -> Allowance {
        Allowance { interval, most, full_at: None }
    }

    /// Takes one; how long to wait for it.
    pub(crate) fn take(&mut self, now: Instant) -> Duration {
        let full_at = self.full_at.unwrap_or(now).max(now) + self.interval;
        self.full_at = Some(full_at);
        full_at.saturating_duration_since(now + self.interval.saturating_mul(self.most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_spread() {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        let mut jitter = Jitter::new(7);
        for expected in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let wait = backoff.failed(&mut jitter).as_secs_f64();
            let range = expected * 0.75..=(expected * 1.25_f64).min(30.0);
            assert!(range.contains(&wait), "{wait} for {expected}");
        }
        for _ in 0..100_000 {
            backoff.failed(&mut jitter);
        }
        backoff.reset();
        assert!(backoff.failed(&mut jitter) < Duration::from_secs(1));
    }

    #[test]
    fn an_allowance_is_spent_and_comes_back() {
        let second = Duration::from_secs(1);
        let (mut allowance, now) = (Allowance::new(3, second * 30), Instant::now());
        let waits = [0; 5].map(|_| allowance.take(now).as_secs());
        assert_eq!(waits, [0, 0, 0, 30, 60]);
        assert_eq!(allowance.take(now + second * 300).as_secs(), 0, "it was full again");
        let mut at = now + second * 1000;
        let begun = at;
        for _ in 0..100 {
            at += allowance.take(at);
        }
        assert_eq!((at - begun).as_secs(), 97 * 30, "one an interval in the long run");
    }
}
