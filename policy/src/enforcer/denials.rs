//! Denied packets: the last of them are kept, and logged as far as there are not too many.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tracing::info;

use super::status::{Denial, DenialCounts};

/// So many are kept.
const KEPT: usize = 256;
/// So many policies are named in a log line.
const NAMED: usize = 3;
/// So many are logged a second.
const LOGGED_A_SECOND: u32 = 10;

/// The last denials, and how many there were.
#[derive(Debug)]
pub(super) struct Denials {
    kept: VecDeque<Denial>,
    counts: DenialCounts,
    second: Instant,
    logged: u32,
    suppressed: u64,
}

impl Denials {
    pub(super) fn new(now: Instant) -> Denials {
        let counts = DenialCounts::default();
        Denials { kept: VecDeque::new(), counts, second: now, logged: 0, suppressed: 0 }
    }

    /// Takes one in, and logs it if this second has not had its share.
    pub(super) fn take(&mut self, denial: Denial, now: Instant) {
        self.counts.seen += 1;
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.logged = 0;
            if self.suppressed > 0 {
                info!(count = self.suppressed, "more packets were denied than are logged");
                self.suppressed = 0;
            }
        }
        if self.logged < LOGGED_A_SECOND {
            self.logged += 1;
            log(&denial);
        } else {
            self.suppressed += 1;
            self.counts.suppressed += 1;
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(denial);
    }

    /// So often the kernel had more to tell than was read. Whether that is new.
    pub(super) fn lost(&mut self, times: u64) -> bool {
        let is_new = times > self.counts.lost;
        if is_new {
            info!(times, "denied packets were lost, since they came faster than they were read");
        }
        self.counts.lost = times;
        is_new
    }

    pub(super) fn counts(&self) -> DenialCounts {
        self.counts
    }

    /// The oldest first.
    pub(super) fn kept(&self) -> impl Iterator<Item = &Denial> {
        self.kept.iter()
    }
}

fn log(denial: &Denial) {
    let pod = denial.pod.as_ref().map_or_else(|| denial.interface.to_string(), ToString::to_string);
    let peer = denial.peer.as_ref().map_or_else(|| denial.peer_address.to_string(), ToString::to_string);
    let named = denial.policies.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>();
    info!(
        pod = %pod,
        direction = %denial.direction,
        peer = %peer,
        address = %denial.peer_address,
        protocol = denial.protocol,
        port = denial.port,
        policies = %named.join(" "),
        policies_in_all = denial.policies.len(),
        chain = %denial.chain,
        "packet denied"
    );
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::enforcer::status::Direction;

    fn denial(port: u16) -> Denial {
        Denial {
            at: SystemTime::UNIX_EPOCH,
            direction: Direction::Ingress,
            interface: "cam1".into(),
            pod: None,
            peer_address: "192.0.2.1".parse().expect("address"),
            peer: None,
            protocol: 6,
            port: Some(port),
            policies: Vec::new(),
            chain: "closed".into(),
        }
    }

    #[test]
    fn a_flood_is_counted_kept_in_part_and_logged_in_part() {
        let start = Instant::now();
        let mut denials = Denials::new(start);
        for port in 0..1000 {
            denials.take(denial(port), start);
        }
        assert_eq!(denials.counts(), DenialCounts { seen: 1000, suppressed: 990, lost: 0 });
        assert_eq!(denials.kept().count(), KEPT);
        assert_eq!(denials.kept().last().and_then(|denial| denial.port), Some(999));
        denials.take(denial(1), start + Duration::from_secs(1));
        assert_eq!(denials.counts(), DenialCounts { seen: 1001, suppressed: 990, lost: 0 });
    }
}
