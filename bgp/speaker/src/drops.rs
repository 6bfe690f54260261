//! Packets that the kernel drops for a key or a TTL: the sender gets no answer, and only these counters tell why.
//!
//! They are of the whole network namespace and name nobody; but a peer that does not come up beside them is a strong
//! hint.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Counters of the kernel (`TcpExt` of `/proc/net/netstat`), and what it means when they grow.
const COUNTERS: [(&str, &str); 4] = [
    ("TCPMD5NotFound", "without a signature, where a key is set"),
    ("TCPMD5Unexpected", "with a signature, where no key is set"),
    ("TCPMD5Failure", "with a signature of another key"),
    ("TCPMinTTLDrop", "with a TTL that TTL security does not let in"),
];

/// What was counted last, and what the log has.
#[derive(Debug, Default)]
pub(crate) struct Drops {
    counted: Option<BTreeMap<&'static str, u64>>,
    logged: BTreeMap<&'static str, Instant>,
}

impl Drops {
    /// How often to look.
    pub(crate) const EVERY: Duration = Duration::from_secs(10);
    /// When the log may have the same kind again.
    const AGAIN: Duration = Duration::from_secs(3600);

    /// Looks, and logs what is new.
    pub(crate) fn look(&mut self, now: Instant) {
        // Of the thread: all threads of the daemon are in one namespace, those of tests may not be.
        match std::fs::read_to_string("/proc/thread-self/net/netstat") {
            Ok(netstat) => {
                for (what, packets) in self.news(now, &netstat) {
                    tracing::warn!(packets, what, "packets of TCP were dropped");
                }
            }
            // A container may hide it: then there is no hint, and nothing else is lost.
            Err(error) => tracing::debug!(error = %error, "/proc/thread-self/net/netstat"),
        }
    }

    /// The kinds that have grown and are not in the log yet, each with its number of packets.
    fn news(&mut self, now: Instant, netstat: &str) -> Vec<(&'static str, u64)> {
        let counted = counters(netstat);
        let Some(before) = self.counted.replace(counted.clone()) else { return Vec::new() };
        self.logged.retain(|_, at| now.duration_since(*at) < Self::AGAIN);
        let grown = COUNTERS.iter().filter_map(|(name, what)| {
            let packets = counted.get(name)?.saturating_sub(before.get(name).copied().unwrap_or_default());
            (packets > 0).then_some((*what, packets))
        });
        let mut news = Vec::new();
        for (what, packets) in grown {
            if self.logged.insert(what, now).is_none() {
                news.push((what, packets));
            }
        }
        news
    }
}

/// Lines come in pairs: names, then values.
fn counters(netstat: &str) -> BTreeMap<&'static str, u64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return BTreeMap::new() };
    let known = |name: &str| COUNTERS.iter().map(|(known, _)| *known).find(|known| *known == name);
    let pairs = names.split(' ').zip(values.split(' '));
    pairs.filter_map(|(name, value)| Some((known(name)?, value.parse().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counter_that_grows_is_told_of_once_an_hour() {
        let netstat = |failures: u64| {
            format!(
                "TcpExt: SyncookiesSent TCPMD5Failure\nTcpExt: 5 {failures}\nIpExt: InNoRoutes\nIpExt: 0\n"
            )
        };
        let (mut drops, start) = (Drops::default(), Instant::now());
        let mut news =
            |after: u64, failures| drops.news(start + Duration::from_secs(after), &netstat(failures));
        assert_eq!(news(0, 7), [], "from before us");
        assert_eq!(news(10, 7), []);
        assert_eq!(news(20, 9), [("with a signature of another key", 2)]);
        assert_eq!(news(30, 12), []);
        assert_eq!(news(3640, 13), [("with a signature of another key", 1)]);
    }

    #[test]
    fn this_kernel_has_all_counters() {
        let netstat = std::fs::read_to_string("/proc/thread-self/net/netstat").expect("a kernel with IPv4");
        assert_eq!(counters(&netstat).len(), COUNTERS.len());
    }
}
