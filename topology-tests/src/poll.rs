//! Waits for a condition instead of sleeping and hoping.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two looks: short beside what is waited for, long beside what a look costs.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until `condition` is true.
///
/// # Errors
/// After `limit`, with `what`: words that fit after "waiting for".
pub fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    until_some(what, limit, || Ok(condition().then_some(())))
}

/// Looks until `find` finds something; an error of `find` ends the wait.
///
/// # Errors
/// That of `find`; after `limit` one with `what`.
pub fn until_some<T>(what: &str, limit: Duration, mut find: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = find()? {
            return Ok(found);
        }
        if start.elapsed() >= limit {
            bail!("waited {limit:?} in vain for {what}");
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_looked_at_again_until_it_holds() {
        let mut looks = 0;
        let third = || {
            looks += 1;
            looks == 3
        };
        until("the third look", Duration::from_secs(5), third).expect("holds at the third look");
        assert_eq!(looks, 3);
    }

    #[test]
    fn a_vain_wait_says_what_for() {
        let error = until("rain", Duration::ZERO, || false).expect_err("never holds");
        assert_eq!(error.to_string(), "waited 0ns in vain for rain");
    }
}
