//! Who connects without being a peer: for the log, once and not at each attempt.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Addresses that the log has.
#[derive(Debug, Default)]
pub(crate) struct Strangers(BTreeMap<IpAddr, Instant>);

impl Strangers {
    /// When the log may have the same address again.
    const AGAIN: Duration = Duration::from_secs(3600);
    /// Addresses that the log may have in that time: whoever scans the network has many.
    const MOST: usize = 64;

    /// Whether the log has not had `address`, and may have it; from now on it has.
    pub(crate) fn is_news(&mut self, now: Instant, address: IpAddr) -> bool {
        self.0.retain(|_, since| now.duration_since(*since) < Self::AGAIN);
        let is_news = self.0.len() < Self::MOST && !self.0.contains_key(&address);
        if is_news {
            self.0.insert(address, now);
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_each_stranger_once_and_never_many() {
        let (mut strangers, now) = (Strangers::default(), Instant::now());
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        let lines = (0..1000).filter(|number| strangers.is_news(now, address(number % 3))).count();
        assert_eq!(lines, 3);
        let lines = (0..1000).filter(|number| strangers.is_news(now, address(*number))).count();
        assert_eq!(lines, Strangers::MOST - 3);
        assert!(strangers.is_news(now + Strangers::AGAIN, address(1)));
    }
}
