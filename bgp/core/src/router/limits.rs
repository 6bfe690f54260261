//! What the log has of max-prefix. A peer that flaps at its limit would fill it: of each sort there are a few lines an hour.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::Router;
use crate::prefix::Family;
use crate::rib::{AtLimit, Reached};

/// What it has of one peer.
#[derive(Debug, Default)]
pub(crate) struct LimitLog(BTreeMap<(Family, Reached), Told>);

#[derive(Debug, Default)]
struct Told {
    /// The oldest first.
    at: VecDeque<Instant>,
    left_out: u64,
}

impl LimitLog {
    /// How many lines it may have of a family and mark,
    const MOST: usize = 3;
    /// in this time.
    const IN: Duration = Duration::from_secs(3600);

    /// Whether there may be one more, and then how many there were without one since the last.
    fn may_tell(&mut self, now: Instant, family: Family, reached: Reached) -> Option<u64> {
        let told = self.0.entry((family, reached)).or_default();
        while told.at.front().is_some_and(|at| now.duration_since(*at) >= Self::IN) {
            told.at.pop_front();
        }
        if told.at.len() >= Self::MOST {
            told.left_out += 1;
            return None;
        }
        told.at.push_back(now);
        Some(std::mem::take(&mut told.left_out))
    }

    /// The operator has changed something: what happens now is worth a line.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}

impl Router {
    pub(super) fn warn_of_limits(&mut self, now: Instant) {
        for AtLimit { peer, family, reached, limit, percent } in self.rib.take_at_limit() {
            let Some(peer) = self.peers.get_mut(&peer) else { continue };
            let Some(left_out) = peer.limit_log.may_tell(now, family, reached) else { continue };
            let left_out = (left_out > 0).then_some(left_out);
            let (name, address) = (&peer.config.name, &peer.address);
            match reached {
                Reached::Little | Reached::Much => {}
                Reached::Near => {
                    tracing::warn!(peer = %name, %address, %family, limit, percent, left_out, "max-prefix is near");
                }
                Reached::All => {
                    tracing::warn!(
                        peer = %name, %address, %family, limit, left_out, "max-prefix is reached: more are refused"
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_lines_an_hour_are_told_and_the_others_counted() {
        let (mut log, start) = (LimitLog::default(), Instant::now());
        let mut at = |second| log.may_tell(start + Duration::from_secs(second), Family::Ipv4, Reached::All);
        let lines: Vec<u64> = (0..3601).filter_map(&mut at).collect();
        assert_eq!(lines, [0, 0, 0, 3597]);
        assert_eq!(log.may_tell(start, Family::Ipv6, Reached::All), Some(0), "another family");
        log.forget();
        assert_eq!(log.may_tell(start, Family::Ipv4, Reached::All), Some(0));
    }
}
