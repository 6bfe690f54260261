//! What the log has of sessions that come and go: each change, but of a peer that flaps no more than a line a minute, with
//! how often it changed that is not there. Pure: time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use cambric_bgp::ScopedAddress;
use cambric_bgp::peer::PeerState;
use tokio::time::Instant;

use crate::budget::Budget;

/// A session came up or went down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// Name of the peer.
    pub(crate) peer: String,
    pub(crate) to: PeerState,
    /// Why it went down.
    pub(crate) reason: Option<String>,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) address: ScopedAddress,
    /// The last change; its reason is that of the last end among those that are left out.
    pub(crate) change: Change,
    /// Changes before this one that the log does not have.
    pub(crate) left_out: u64,
}

/// What it has of each peer.
#[derive(Debug, Default)]
pub(crate) struct SessionLog(BTreeMap<ScopedAddress, OfPeer>);

#[derive(Debug)]
struct OfPeer {
    budget: Budget,
    waits: Option<Line>,
}

impl SessionLog {
    /// Lines of a peer at once: three sessions that end and come back.
    const AT_ONCE: u32 = 6;
    /// Between two after these.
    const EACH: Duration = Duration::from_secs(60);

    /// The line for a change, if the log may have it now.
    pub(crate) fn changed(&mut self, now: Instant, address: ScopedAddress, change: Change) -> Option<Line> {
        let new = || OfPeer { budget: Budget::new(Self::AT_ONCE, Self::EACH, now), waits: None };
        let of_peer = self.0.entry(address.clone()).or_insert_with(new);
        let line = match of_peer.waits.take() {
            Some(Line { change: before, left_out, .. }) => {
                let reason = change.reason.or(before.reason);
                Line { address, change: Change { reason, ..change }, left_out: left_out + 1 }
            }
            None => Line { address, change, left_out: 0 },
        };
        of_peer.or_later(now, line)
    }

    /// Lines that the log may have by now. Those of peers that have been quiet for long are forgotten.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Line> {
        let waiting = self.0.values_mut().filter_map(|of_peer| {
            let line = of_peer.waits.take()?;
            of_peer.or_later(now, line)
        });
        let due = waiting.collect();
        self.0.retain(|_, of_peer| of_peer.waits.is_some() || !of_peer.budget.is_full(now));
        due
    }
}

impl OfPeer {
    /// The line, or nothing if it has to wait.
    fn or_later(&mut self, now: Instant, line: Line) -> Option<Line> {
        match self.budget.take(now) {
            Ok(()) => Some(line),
            Err(_) => {
                self.waits = Some(line);
                None
            }
        }
    }
}

impl Line {
    /// Writes it.
    pub(crate) fn log(self) {
        let Line { address, change: Change { peer, to, reason }, left_out } = self;
        let left_out = (left_out > 0).then_some(left_out);
        tracing::info!(peer = %peer, address = %address, to = %to, reason, left_out, "peer state changed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn change(to: PeerState) -> Change {
        let reason = (to != PeerState::Established).then(|| "connection reset".to_owned());
        Change { peer: "tor".to_owned(), to, reason }
    }

    #[tokio::test]
    async fn a_peer_that_flaps_each_second_has_a_line_a_minute_that_counts_what_is_left_out() {
        let (mut log, start) = (SessionLog::default(), Instant::now());
        let address: ScopedAddress = "192.0.2.1".parse().expect("address");
        let mut lines: Vec<Line> = Vec::new();
        for second in 0..3600 {
            let now = start + SECOND * second;
            lines.extend(log.changed(now, address.clone(), change(PeerState::Established)));
            lines.extend(log.changed(now, address.clone(), change(PeerState::Active)));
            lines.extend(log.due(now));
        }
        assert_eq!(lines.len(), 6 + 59, "six at first, and one each minute of an hour");
        let told: u64 = lines.iter().map(|line| line.left_out + 1).sum();
        assert_eq!(told + 119, 7200, "each change is a line, or counted, or of the last minute");
        assert!(lines[6..].iter().all(|line| line.left_out > 100), "{lines:?}");
        assert!(lines[6..].iter().all(|line| line.change.reason.is_some()), "why, whatever it is now");

        let end = start + SECOND * 3600;
        lines.extend(log.changed(end, address.clone(), change(PeerState::Established)));
        lines.extend((0..120).flat_map(|second| log.due(end + SECOND * second)));
        let last = lines.last().expect("one");
        assert_eq!(last.change.to, PeerState::Established, "the log ends with what is");
        assert_eq!(lines.iter().map(|line| line.left_out + 1).sum::<u64>(), 7201);
    }

    #[tokio::test]
    async fn a_peer_that_comes_and_goes_now_and_then_has_each_line_and_others_have_theirs() {
        let (mut log, start) = (SessionLog::default(), Instant::now());
        for at in 0..100_u32 {
            let now = start + SECOND * 120 * (at / 2);
            let address = ScopedAddress::from(std::net::IpAddr::from([192, 0, 2, (at % 2) as u8]));
            for to in [PeerState::Active, PeerState::Established] {
                let line = log.changed(now, address.clone(), change(to)).expect("not limited");
                assert_eq!((line.change.clone(), line.left_out), (change(to), 0));
            }
        }
        assert_eq!(log.due(start + SECOND * 100_000), []);
        assert!(log.0.is_empty(), "what is quiet is forgotten");
    }
}
