//! How many requests one node may make, or lines one peer may have in the log: a token bucket. Pure: time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// So many at once, and one for each interval after that.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    most: u32,
    interval: Duration,
    left: u32,
    /// When what is left was counted.
    counted: Instant,
}

impl Budget {
    /// A full one.
    pub(crate) fn new(most: u32, interval: Duration, now: Instant) -> Budget {
        Budget { most, interval, left: most, counted: now }
    }

    /// Takes one.
    ///
    /// # Errors
    /// When there will be one.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        self.count(now);
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(self.counted + self.interval),
        }
    }

    /// Whether nothing was taken for long.
    pub(crate) fn is_full(&mut self, now: Instant) -> bool {
        self.count(now);
        self.left == self.most
    }

    fn count(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.counted);
        let more = u32::try_from(passed.as_nanos() / self.interval.as_nanos().max(1)).unwrap_or(u32::MAX);
        if more >= self.most - self.left {
            (self.left, self.counted) = (self.most, now);
        } else {
            self.left += more;
            self.counted += self.interval * more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_spent_comes_back_one_by_one() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut budget = Budget::new(3, second, start);
        for _ in 0..3 {
            assert_eq!(budget.take(start), Ok(()));
        }
        assert_eq!(budget.take(start + second / 2), Err(start + second));
        assert_eq!(budget.take(start + second * 3 / 2), Ok(()));
        assert_eq!(budget.take(start + second * 3 / 2), Err(start + second * 2));
        let much_later = start + Duration::from_secs(3600);
        let taken = (0..10).filter(|_| budget.take(much_later).is_ok()).count();
        assert_eq!(taken, 3, "never more than at first");
    }
}
