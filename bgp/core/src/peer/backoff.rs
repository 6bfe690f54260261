//! How long to wait before the next attempt, and the dice that spread attempts.

use std::time::Duration;

/// A small generator (SplitMix64) with an injected seed, so that a run can be repeated. It spreads
/// retries and nothing else: no secret depends on it.
#[derive(Debug, Clone)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Jitter {
        Jitter(seed)
    }

    /// `duration`, a quarter shorter to a quarter longer.
    pub(crate) fn spread(&mut self, duration: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        let unit = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
        duration.mul_f64(0.75 + 0.5 * unit)
    }
}

/// Doubles with each failure. A session that lived only shortly does not reset it: a peer that falls
/// over each UPDATE of ours must not be dialled without end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(16);
    /// A session this old counts as stable.
    const STABLE: Duration = Duration::from_secs(30);

    /// The wait after one more failure.
    pub(crate) fn failed(&mut self, jitter: &mut Jitter) -> Duration {
        let wait = Self::FIRST.saturating_mul(1 << self.failures.min(8)).min(Self::LONGEST);
        self.failures += 1;
        jitter.spread(wait)
    }

    /// What failed before says nothing any more: a link just came up, or the operator says so.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// A session ended after it had been up for `lived`.
    pub(crate) fn session_ended(&mut self, lived: Duration) {
        if lived >= Self::STABLE {
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_spread() {
        let (mut backoff, mut jitter) = (Backoff::default(), Jitter::new(7));
        for expected in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0] {
            let wait = backoff.failed(&mut jitter).as_secs_f64();
            assert!((expected * 0.75..=expected * 1.25).contains(&wait), "{wait} for {expected}");
        }
    }

    #[test]
    fn a_short_session_does_not_reset_it_and_a_stable_one_does() {
        let (mut backoff, mut jitter) = (Backoff::default(), Jitter::new(7));
        for _ in 0..4 {
            backoff.failed(&mut jitter);
        }
        backoff.session_ended(Duration::from_secs(2));
        assert!(backoff.failed(&mut jitter) > Duration::from_secs(4));
        backoff.session_ended(Duration::from_secs(31));
        assert!(backoff.failed(&mut jitter) < Duration::from_secs(1));
    }
}
