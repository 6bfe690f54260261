//! Prefixes that another program keeps undoing, and how often they are repaired.
//!
//! A route that is deleted a thousand times a second is not worth a thousand writes a second: two programs that both
//! insist would spin. Each prefix has [`AT_ONCE`] repairs at once; after them one each [`SPACING`], until it is left
//! alone for a while. The kernel's own doings (a link goes) are not counted.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use crate::wanted::Prefix;

/// Repairs of one prefix that are made at once.
const AT_ONCE: u32 = 10;
/// Time between two repairs after that.
const SPACING: Duration = Duration::from_secs(1);

/// What each prefix has used up.
#[derive(Debug, Default)]
pub(crate) struct Contests {
    by_prefix: HashMap<Prefix, Contest>,
    tidied: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Contest {
    /// When all is forgiven: one spacing later for each repair (a leaky bucket).
    over: Instant,
    /// When the next repair is made, if one waits.
    next: Option<Instant>,
    repairs: u64,
}

/// When a damage is to be repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Now,
    At(Instant),
    /// The same, for the first time in this contest.
    FirstAt(Instant),
}

impl Contests {
    /// Another program undid this prefix once more.
    pub(crate) fn damaged(&mut self, prefix: Prefix, now: Instant) -> Turn {
        self.tidy(now);
        let new = Contest { over: now, next: None, repairs: 0 };
        let contest = self.by_prefix.entry(prefix).or_insert(new);
        // While a repair waits, there is nothing to undo.
        if let Some(next) = contest.next.filter(|next| *next > now) {
            return Turn::At(next);
        }
        let was_waiting = contest.next.is_some();
        contest.over = contest.over.max(now) + SPACING;
        contest.repairs += 1;
        let at = contest.over - SPACING * AT_ONCE;
        if at <= now {
            contest.next = None;
            return Turn::Now;
        }
        contest.next = Some(at);
        if was_waiting { Turn::At(at) } else { Turn::FirstAt(at) }
    }

    /// The prefixes whose repairs are held back, and how many each has had.
    pub(crate) fn contested(&self, now: Instant) -> BTreeMap<Prefix, u64> {
        let held_back = |contest: &Contest| contest.next.is_some() && contest.over > now;
        let contested = self.by_prefix.iter().filter(|(_, contest)| held_back(contest));
        contested.map(|(prefix, contest)| (*prefix, contest.repairs)).collect()
    }

    /// Forgets what is long over, now and then.
    fn tidy(&mut self, now: Instant) {
        let pause = SPACING * AT_ONCE;
        if self.tidied.is_none_or(|tidied| tidied + pause <= now) {
            self.tidied = Some(now);
            self.by_prefix.retain(|_, contest| contest.over > now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix() -> Prefix {
        Prefix::new("10.0.0.0/24".parse().expect("network"))
    }

    #[test]
    fn ten_repairs_are_made_at_once_and_then_one_a_second() {
        let (mut contests, start) = (Contests::default(), Instant::now());
        for _ in 0..10 {
            assert_eq!(contests.damaged(prefix(), start), Turn::Now);
        }
        assert!(contests.contested(start).is_empty());
        let next = start + SPACING;
        assert_eq!(contests.damaged(prefix(), start), Turn::FirstAt(next));
        assert_eq!(contests.damaged(prefix(), start), Turn::At(next), "it waits, no matter how often");
        assert_eq!(contests.damaged(prefix(), next), Turn::At(next + SPACING));
        assert_eq!(contests.contested(next), [(prefix(), 12)].into());
    }

    #[test]
    fn prefix_left_alone_is_forgiven() {
        let (mut contests, mut now) = (Contests::default(), Instant::now());
        for _ in 0..11 {
            contests.damaged(prefix(), now);
        }
        now += SPACING * 12;
        assert!(contests.contested(now).is_empty());
        assert_eq!(contests.damaged(prefix(), now), Turn::Now);
        assert_eq!(contests.by_prefix.len(), 1);
        let other = Prefix::new("10.0.1.0/24".parse().expect("network"));
        contests.damaged(other, now + SPACING * 12);
        assert_eq!(contests.by_prefix.len(), 1, "the first one is forgotten");
    }
}
