//! Helping a peer over the time it is away (RFC 4724 section 4.2, RFC 8538 section 4.1, RFC 9494 section 4.2): its
//! routes stay, marked stale, until it has told them again or its time is up.
//!
//! ```text
//!           lost             restart time            stale time
//!   (none) ------> Restarting ---------> LongLived -------------> swept
//!                   |      ^  (RFC 9494)     |
//!              back |      | lost again      | back
//!                   v      |                 |
//!                   Resyncing <--------------+
//!                       |
//!                       +-- End-of-RIB, or none for too long ---> swept
//! ```
//!
//! The stale time runs from when it began until End-of-RIB or its end, through all stages.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::prefix::Family;
use crate::session::Session;
use crate::types::HoldTime;

/// What we keep for a peer, by family.
#[derive(Debug, Default)]
pub(crate) struct Helper {
    kept: BTreeMap<Family, Kept>,
}

/// Stale routes of one family.
#[derive(Debug, Clone, Copy)]
struct Kept {
    stage: Stage,
    /// When this stage ends.
    until: Instant,
    /// Since when routes may be stale, over all losses that came before the peer had told all again.
    since: Instant,
    /// How long they may stay beyond the restart time.
    long_lived: Duration,
    /// When that is over, once it has begun (the LLST of RFC 9494 section 4.2): no later loss moves it.
    swept_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The peer is away.
    Restarting(Cause),
    /// It is back, and its End-of-RIB is to come.
    Resyncing,
    /// The restart time is over (RFC 9494).
    LongLived,
}

/// Why routes of a peer are kept that it has not told in this session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// It is away.
    Away,
    /// It is back, and has not told all yet.
    Back,
    /// It is away, or has not told all, for so long that they are the last resort of all (RFC 9494).
    LongLived,
}

/// Why a peer is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It restarts, as it seems: whether it kept forwarding it must say when it is back.
    Restart,
    /// Nothing was heard of it, or it takes nothing any more, and both agreed that this ends nothing (RFC 8538): it
    /// hangs, or it is dead. Its routes are not used while there are others.
    Silence,
    /// The link to it went down. Its state is as it was, or it lost power: then its routes are not used
    /// while there are others.
    Link,
}

/// What is due for the stale routes of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// They go.
    Sweep(Family),
    /// They become the last resort of all (RFC 9494 section 4.2).
    LongLived(Family),
}

impl Helper {
    /// How long a peer that came back may take to tell its routes; as FRR's stale-path time.
    const RESYNC: Duration = Duration::from_secs(360);
    /// The same for a peer that will not say when it has told all.
    const RESYNC_WITHOUT_END_OF_RIB: Duration = Duration::from_secs(3);
    /// How long routes may be stale over several losses in a row, unless the restart time is longer: the stale timer of
    /// RFC 8538 section 4.1. That suggests 180 s; a daemon that falls over again and again still forwards.
    const STALE: Duration = Duration::from_secs(600);

    /// The session is gone in a way that routes outlive: the families that are kept, none if the peer did not
    /// ask for it. What is due at once for those comes with the next [`Helper::handle_timeout`].
    ///
    /// A second loss before End-of-RIB keeps the routes too, with a new timer (RFC 8538 section 4.1). RFC 4724
    /// section 4.2 would drop those that were stale already; but a daemon restarted twice still forwards.
    pub(crate) fn lost(&mut self, now: Instant, session: &Session, cause: Cause) -> BTreeSet<Family> {
        let before = std::mem::take(&mut self.kept);
        for &family in &session.families {
            let restart = session.peer_restart.as_ref().filter(|restart| restart.family(family).is_some());
            let restart_time = restart.map(|restart| restart.restart_time()).unwrap_or_default();
            let long_lived = session.peer_long_lived.as_ref().and_then(|sent| sent.family(family));
            let long_lived = long_lived.map(|entry| entry.stale_time()).unwrap_or_default();
            if restart_time.is_zero() && long_lived.is_zero() {
                continue;
            }
            let earlier = before.get(&family);
            let since = earlier.map_or(now, |kept| kept.since);
            let swept_at = earlier.and_then(|kept| kept.swept_at).filter(|_| !long_lived.is_zero());
            let until = (now + restart_time).min(since + restart_time.max(Self::STALE));
            let until = swept_at.map_or(until, |end| until.min(end));
            let kept = Kept { stage: Stage::Restarting(cause), until, since, long_lived, swept_at };
            self.kept.insert(family, kept);
        }
        self.kept.keys().copied().collect()
    }

    /// The link is gone, and the session with it: all families are kept for as long as it would have
    /// taken to notice without the link's word.
    pub(crate) fn link_lost(&mut self, now: Instant, session: &Session) -> BTreeSet<Family> {
        let hold_time = session.hold_time.duration().or(HoldTime::DEFAULT.duration()).unwrap_or_default();
        let (stage, until) = (Stage::Restarting(Cause::Link), now + hold_time);
        let kept = Kept { stage, until, since: now, long_lived: Duration::ZERO, swept_at: None };
        self.kept = session.families.iter().map(|family| (*family, kept)).collect();
        session.families.clone()
    }

    /// The peer is back with a new session: the families whose stale routes must go at once, because it
    /// did not keep its forwarding state or speaks them no more.
    pub(crate) fn back(&mut self, now: Instant, session: &Session) -> BTreeSet<Family> {
        let resync = match session.peer_restart {
            Some(_) => Self::RESYNC,
            None => Self::RESYNC_WITHOUT_END_OF_RIB,
        };
        let mut gone = BTreeSet::new();
        self.kept.retain(|family, kept| {
            let stays = session.families.contains(family) && forwards(session, *family, kept.stage);
            if !stays {
                gone.insert(*family);
                return false;
            }
            kept.stage = Stage::Resyncing;
            kept.until = kept.swept_at.map_or(now + resync, |end| end.min(now + resync));
            true
        });
        gone
    }

    /// The peer told all of a family: whether stale routes were kept for it.
    pub(crate) fn end_of_rib(&mut self, family: Family) -> bool {
        self.kept.remove(&family).is_some()
    }

    /// Whether stale routes of a family are kept.
    pub(crate) fn keeps(&self, family: Family) -> bool {
        self.kept.contains_key(&family)
    }

    /// Whether nothing is kept.
    pub(crate) fn is_idle(&self) -> bool {
        self.kept.is_empty()
    }

    /// The session ended in a way that keeps nothing; whether something was kept until now.
    pub(crate) fn give_up(&mut self) -> bool {
        !std::mem::take(&mut self.kept).is_empty()
    }

    /// The families that are kept, how it stands with each, and until when.
    pub(crate) fn shown(&self) -> impl Iterator<Item = (Family, Keeping, Instant)> {
        self.kept.iter().map(|(family, kept)| {
            let keeping = match kept.stage {
                _ if kept.swept_at.is_some() => Keeping::LongLived,
                Stage::Restarting(_) => Keeping::Away,
                Stage::Resyncing => Keeping::Back,
                Stage::LongLived => Keeping::LongLived,
            };
            (*family, keeping, kept.until)
        })
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.kept.values().map(|kept| kept.until).min()
    }

    /// What time has come for.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Vec<Due> {
        let mut due = Vec::new();
        self.kept.retain(|family, kept| {
            if now < kept.until {
                return true;
            }
            let begins = (!kept.long_lived.is_zero()).then(|| now + kept.long_lived);
            let end = kept.swept_at.or(begins).filter(|end| now < *end);
            let goes_on = match (kept.stage, end) {
                (Stage::Restarting(_), Some(end)) => {
                    *kept = Kept { stage: Stage::LongLived, until: end, swept_at: Some(end), ..*kept };
                    true
                }
                _ => false,
            };
            due.push(if goes_on { Due::LongLived(*family) } else { Due::Sweep(*family) });
            goes_on
        });
        due
    }
}

/// Whether the peer says that it forwarded all the time (F). After a lost link it need not.
fn forwards(session: &Session, family: Family, stage: Stage) -> bool {
    match stage {
        Stage::Restarting(Cause::Link) => true,
        Stage::Restarting(Cause::Restart | Cause::Silence) | Stage::Resyncing => {
            let restart = session.peer_restart.as_ref();
            restart.and_then(|sent| sent.family(family)).is_some_and(|entry| entry.forwarding_kept)
        }
        Stage::LongLived => {
            let long_lived = session.peer_long_lived.as_ref();
            long_lived.and_then(|sent| sent.family(family)).is_some_and(|entry| entry.forwarding_kept)
        }
    }
}
