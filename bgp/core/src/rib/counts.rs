//! How many routes one peer told of a family, and what became of them.

use super::Path;
use crate::policy::Refusal;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct InCounts {
    pub(super) accepted: usize,
    pub(super) refused: usize,
    /// Of the refused: only for want of room.
    pub(super) over_limit: usize,
    /// Told, and not even kept.
    pub(super) dropped: usize,
    /// Of the dropped: only for want of room.
    pub(super) missed: usize,
    /// What the attributes of the refused take, as if each route had its own.
    pub(super) refused_octets: usize,
    /// What was logged of the limit.
    pub(super) warned: Reached,
}

/// How much of its limit a peer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Reached {
    /// Less than seven eighths of where it is warned of: less than 70 %, where that is at 80 %.
    #[default]
    Little,
    /// More, and nothing to tell of.
    Much,
    /// As much as somebody wants to be warned of.
    Near,
    /// All, and it told more.
    All,
}

impl InCounts {
    pub(super) fn reached(&self, limit: usize, warn_at_percent: u8) -> Reached {
        // No table has so many routes that this overflows; a limit may.
        let (accepted, percent) = (self.accepted as u128, u128::from(warn_at_percent.clamp(1, 100)));
        let limit_of_all = limit as u128;
        let near = limit_of_all - limit_of_all * (100 - percent) / 100;
        if self.accepted >= limit && self.over_limit + self.missed > 0 {
            Reached::All
        } else if accepted > 0 && accepted >= near {
            Reached::Near
        } else if accepted * 800 < limit_of_all * percent * 7 {
            Reached::Little
        } else {
            Reached::Much
        }
    }

    /// A path that is kept came (1) or went (-1).
    pub(super) fn count(&mut self, path: &Path, by: isize) {
        let counter = if path.verdict.is_ok() { &mut self.accepted } else { &mut self.refused };
        *counter = counter.saturating_add_signed(by);
        if path.verdict == Err(Refusal::OverMaxPrefixes) {
            self.over_limit = self.over_limit.saturating_add_signed(by);
        }
        if path.verdict.is_err() {
            // No attributes are so long that this overflows. A mark that one got meanwhile (RFC 9494) is a few octets.
            let octets = by * path.attributes.octets() as isize;
            self.refused_octets = self.refused_octets.saturating_add_signed(octets);
        }
    }

    /// Whether as much is kept of what was refused as may be: as many routes as may be accepted, and those of usual length.
    pub(super) fn refused_enough(&self, limit: usize) -> bool {
        const MOST_OCTETS: usize = 16 << 20;
        self.refused >= limit || self.refused_octets >= MOST_OCTETS
    }

    /// The peer told a path that is not kept.
    pub(super) fn drop_path(&mut self, verdict: Result<(), Refusal>) {
        self.dropped += 1;
        let is_want_of_room = |refusal| matches!(refusal, Refusal::OverMaxPrefixes | Refusal::OverMaxPaths);
        self.missed += usize::from(verdict.is_err_and(is_want_of_room));
    }

    /// The peer took a path back that is not kept.
    pub(super) fn forget_dropped(&mut self) {
        self.dropped = self.dropped.saturating_sub(1);
        self.missed = self.missed.min(self.dropped);
    }
}
