//! Helping a peer over its restart (RFC 4724 section 4.2): its routes stay, marked stale, until it has
//! told them again or its time is up.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::prefix::Family;
use crate::session::Session;
use crate::types::HoldTime;

/// What we keep for a peer.
#[derive(Debug, Default)]
pub(crate) enum Helper {
    /// Nothing.
    #[default]
    Idle,
    /// The peer is away; its routes of these families are stale.
    Away { families: BTreeSet<Family>, until: Instant, cause: Cause },
    /// It is back; these families wait for its End-of-RIB.
    Back { families: BTreeSet<Family>, until: Instant },
}

/// Why a peer is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It restarts, as it seems: whether it kept forwarding it must say when it is back.
    Restart,
    /// The link to it went down. Its state is as it was, or it lost power: then its routes are not used
    /// while there are others.
    Link,
}

impl Helper {
    /// How long a peer that came back may take to tell its routes; as FRR's stale-path time.
    const RESYNC: Duration = Duration::from_secs(360);
    /// The same for a peer that will not say when it has told all.
    const RESYNC_WITHOUT_END_OF_RIB: Duration = Duration::from_secs(3);

    /// The TCP connection went without a NOTIFICATION: the families that are kept, none if the peer did
    /// not ask for it.
    ///
    /// A second loss before End-of-RIB keeps the routes too, with a new timer. RFC 4724 section 4.2
    /// would drop those that were stale already; but a daemon restarted twice still forwards.
    pub(crate) fn lost(&mut self, now: Instant, session: &Session) -> BTreeSet<Family> {
        let Some(restart) = &session.peer_restart else {
            *self = Helper::Idle;
            return BTreeSet::new();
        };
        let families: BTreeSet<Family> =
            session.families.iter().copied().filter(|family| restart.family(*family).is_some()).collect();
        *self = if families.is_empty() || restart.restart_time().is_zero() {
            Helper::Idle
        } else {
            let until = now + restart.restart_time();
            Helper::Away { families: families.clone(), until, cause: Cause::Restart }
        };
        match self {
            Helper::Away { families, .. } => families.clone(),
            _ => BTreeSet::new(),
        }
    }

    /// The link is gone, and the session with it: all families are kept for as long as it would have
    /// taken to notice without the link's word.
    pub(crate) fn link_lost(&mut self, now: Instant, session: &Session) -> BTreeSet<Family> {
        let families = session.families.clone();
        let hold_time = session.hold_time.duration().or(HoldTime::DEFAULT.duration()).unwrap_or_default();
        *self = Helper::Away { families: families.clone(), until: now + hold_time, cause: Cause::Link };
        families
    }

    /// The peer is back with a new session: the families whose stale routes must go at once, because it
    /// did not keep its forwarding state or speaks them no more.
    pub(crate) fn back(&mut self, now: Instant, session: &Session) -> BTreeSet<Family> {
        let Helper::Away { families, cause, .. } = std::mem::take(self) else { return BTreeSet::new() };
        let kept = |family: &Family| {
            let entry = session.peer_restart.as_ref().and_then(|restart| restart.family(*family));
            let kept = cause == Cause::Link || entry.is_some_and(|entry| entry.forwarding_kept);
            session.families.contains(family) && kept
        };
        let (kept, gone): (BTreeSet<Family>, BTreeSet<Family>) = families.into_iter().partition(kept);
        if !kept.is_empty() {
            let resync = match session.peer_restart {
                Some(_) => Self::RESYNC,
                None => Self::RESYNC_WITHOUT_END_OF_RIB,
            };
            *self = Helper::Back { families: kept, until: now + resync };
        }
        gone
    }

    /// The peer told all of a family: whether stale routes were kept for it.
    pub(crate) fn end_of_rib(&mut self, family: Family) -> bool {
        let Helper::Back { families, .. } = self else { return false };
        let kept = families.remove(&family);
        if families.is_empty() {
            *self = Helper::Idle;
        }
        kept
    }

    /// The session ended in a way that keeps nothing; whether something was kept until now.
    pub(crate) fn give_up(&mut self) -> bool {
        !matches!(std::mem::take(self), Helper::Idle)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Helper::Idle => None,
            Helper::Away { until, .. } | Helper::Back { until, .. } => Some(*until),
        }
    }

    /// The families whose stale routes must go since time is up.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> BTreeSet<Family> {
        match self {
            Helper::Away { families, until, .. } | Helper::Back { families, until } if now >= *until => {
                let families = std::mem::take(families);
                *self = Helper::Idle;
                families
            }
            _ => BTreeSet::new(),
        }
    }
}
