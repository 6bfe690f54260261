//! Comparing the mirror with a listing of the kernel: at the start, after lost events, and now and then.
//!
//! The listing goes on while routes are written and events come in. What it shows is replayed as events; what
//! it did not show is taken as gone; and prefixes that changed while it ran are left out, for there the
//! mirror is younger. When next hops go meanwhile, taking routes with them, it begins anew.
//!
//! Of a table that changes meanwhile, the IPv6 listing repeats routes and misses others, and does not say so. What is
//! repeated is taken as one. What is missed is taken as gone: written again, it is found in its place, and the next
//! listing shows it.

use std::{
    collections::{BTreeSet, HashSet},
    time::{Duration, Instant},
};

use super::{Fib, defaults};
use crate::{
    METRIC, PROTOCOL,
    diff::{self, Merge},
    event::{ForeignRoute, RepairCause},
    kernel::{Consistency, Found, KernelRoute, Replaced, Table},
    mirror::{Borrower, Form, Mirror, Shape, Stray},
    next_hops::{Hop, NextHopId},
    wanted::{Family, Prefix},
};

/// How soon a suspicion is followed up: late enough to take in many of them at once.
const SUSPICION_DELAY: Duration = Duration::from_millis(10);
/// How soon after the begin of another listing at the earliest,
const PAUSE: Duration = Duration::from_millis(100);
/// and how many times what that one took. Only the regular one does not wait for that.
const PAUSE_FACTOR: u32 = 5;
/// How often an interrupted listing is repeated before it is believed.
const MOST_REPETITIONS: u32 = 3;

/// A check in progress, or due.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// What the running one is for, if it is not the regular one.
    cause: Option<RepairCause>,
    /// What the next one is for.
    next_cause: Option<RepairCause>,
    due: Option<Instant>,
    begun: Option<Instant>,
    took: Duration,
    running: Option<Seen>,
    repetitions: u32,
    /// Whether one has come to its end.
    ended: bool,
}

#[derive(Debug, Default)]
struct Seen {
    ours: HashSet<Prefix>,
    foreign: HashSet<Prefix>,
    hiding: HashSet<(Prefix, ForeignRoute)>,
    strays: HashSet<Stray>,
    next_hops: BTreeSet<NextHopId>,
    /// Foreign ones that point to objects or groups of ours.
    borrowers: HashSet<Borrower>,
    /// Default routes of other programs.
    defaults: BTreeSet<(Family, defaults::Way)>,
    /// Changed while the listing ran.
    touched: HashSet<Prefix>,
    touched_next_hops: BTreeSet<NextHopId>,
}

/// Where a listed route stands.
enum Place {
    /// Where one of ours may stand.
    Known,
    /// Where one of our protocol was shown already: that one again, or another one.
    Second,
    /// Of concern only if it points to a next hop of ours.
    Elsewhere,
}

impl Seen {
    fn take_in(&mut self, route: &KernelRoute, mirror: &Mirror) -> Place {
        let KernelRoute { table, prefix, metric, protocol, .. } = *route;
        self.borrowers.extend(mirror.borrower(route));
        self.defaults.extend(defaults::shown(route));
        if table != Table::Main {
            return Place::Elsewhere;
        }
        match (protocol == PROTOCOL, metric == METRIC) {
            (true, true) => {
                // Siblings may be foreign ones, or second ones of ours.
                if !route.siblings.is_empty() {
                    self.foreign.insert(prefix);
                    self.strays.extend(route.siblings.iter().map(|hop| (prefix, METRIC, Form::Plain(*hop))));
                }
                if !self.ours.insert(prefix) {
                    return Place::Second;
                }
            }
            (true, false) => drop(self.strays.insert((prefix, route.metric, route.shape.form))),
            (false, true) => {
                self.foreign.insert(prefix);
                // Ours may be a sibling that is shown under the protocol of the first.
                let ours = mirror.route(&prefix);
                let is_ours = |hop: &Hop| ours.is_some_and(|ours| ours.form == Form::Plain(*hop));
                if route.siblings.iter().any(is_ours) {
                    self.ours.insert(prefix);
                }
            }
            (false, false) => return Place::Elsewhere,
        }
        Place::Known
    }
}

#[cfg(test)]
impl Listing {
    /// How many foreign routes the running one keeps in memory.
    pub(super) fn remembered(&self) -> usize {
        self.running.as_ref().map_or(0, |seen| seen.borrowers.len() + seen.foreign.len())
    }
}

impl Fib {
    /// Events were lost: a check is due as soon as may be. One that is running goes on, for what it shows is true;
    /// but what was lost may be about what it has passed already.
    pub(super) fn check_after_overrun(&mut self, now: Instant) {
        self.listing.next_cause = Some(RepairCause::Overrun);
        self.check_at_latest(now, now);
    }

    /// Something does not fit.
    pub(super) fn check_soon(&mut self, now: Instant) {
        self.check_at_latest(now + SUSPICION_DELAY, now);
    }

    /// The kernel may have done something silently.
    pub(super) fn check_later(&mut self, now: Instant) {
        self.check_at_latest(now + self.config.settle_delay, now);
    }

    fn check_at_latest(&mut self, at: Instant, now: Instant) {
        let pause = PAUSE.max(self.listing.took * PAUSE_FACTOR);
        let at = at.max(self.listing.begun.map_or(now, |begun| begun + pause));
        self.listing.due = Some(self.listing.due.map_or(at, |due| due.min(at)));
    }

    /// What a running listing shows may be older than what is known now.
    pub(super) fn restart_listing(&mut self, now: Instant) {
        if self.listing.running.take().is_some() {
            self.unfinished(now);
            self.check_soon(now);
        }
    }

    pub(super) fn touch(&mut self, prefix: Prefix) {
        if let Some(seen) = &mut self.listing.running {
            seen.touched.insert(prefix);
        }
    }

    pub(super) fn touch_next_hop(&mut self, id: NextHopId) {
        if let Some(seen) = &mut self.listing.running {
            seen.touched_next_hops.insert(id);
        }
    }

    /// Whether events or answers were lost, and no listing has told the truth since.
    pub(crate) fn is_in_doubt(&self) -> bool {
        let of_running = if self.is_listing() { self.listing.cause } else { None };
        [self.listing.next_cause, of_running].contains(&Some(RepairCause::Overrun))
    }

    /// Whether a listing is running. If not, one that was begun is of no use any more.
    pub(crate) fn is_listing(&self) -> bool {
        self.listing.running.is_some()
    }

    /// Whether a listing has come to its end since the start.
    pub(crate) fn has_listed(&self) -> bool {
        self.listing.ended
    }

    /// When the next listing is due.
    pub(crate) fn listing_due(&self) -> Option<Instant> {
        if self.is_listing() { None } else { self.listing.due }
    }

    /// Whether something asked for a listing sooner than the regular one.
    pub(super) fn is_suspicious(&self, now: Instant) -> bool {
        let regular = self.listing.begun.map_or(now, |begun| begun + self.config.check_interval);
        self.listing.due.is_some_and(|due| due < regular)
    }

    /// A listing begins.
    pub(crate) fn begin_listing(&mut self, now: Instant) {
        self.checks += 1;
        self.listing.begun = Some(now);
        self.listing.cause = self.listing.next_cause.take();
        self.listing.due = Some(now + self.config.check_interval);
        self.listing.running = Some(Seen::default());
    }

    /// The listing did not come to its end.
    pub(crate) fn abandon_listing(&mut self, now: Instant) {
        self.listing.running = None;
        self.unfinished(now);
        self.check_later(now);
    }

    /// It hands its cause on to the next, and counts for the pause until then.
    fn unfinished(&mut self, now: Instant) {
        let took = self.listing.begun.map_or(Duration::ZERO, |begun| now - begun);
        self.listing.took = self.listing.took.max(took);
        self.listing.next_cause = self.listing.next_cause.or(self.listing.cause);
    }

    /// Takes in what the listing shows.
    pub(crate) fn handle_found(&mut self, found: Found, now: Instant) {
        let cause = self.listing.cause.unwrap_or(RepairCause::Check);
        let hiding = match &found {
            Found::Route(route) => self.goes_before_ours(route).map(|by| (route.prefix, by)),
            Found::NextHop(_) => None,
        };
        let Some(seen) = &mut self.listing.running else { return };
        seen.hiding.extend(hiding);
        match found {
            Found::NextHop(next_hop) => {
                seen.next_hops.insert(next_hop.id);
                if !seen.touched_next_hops.contains(&next_hop.id) {
                    self.handle_next_hop(next_hop, cause, now);
                }
            }
            Found::Route(route) => {
                let touched = seen.touched.contains(&route.prefix);
                match (seen.take_in(&route, &self.mirror), touched) {
                    // It may be gone by now, or not.
                    (Place::Known | Place::Second, true) => {
                        if self.mirror.route(&route.prefix) != Some(&route.shape) {
                            self.check_soon(now);
                        }
                    }
                    (Place::Elsewhere, true) => {}
                    (Place::Known | Place::Elsewhere, false) => {
                        self.handle_route(route, Replaced::No, cause, now)
                    }
                    (Place::Second, false) => self.second_found(route.prefix, route.shape, now),
                }
            }
        }
    }

    /// Two routes of our protocol have one place. The one that is as wanted stays; the other one goes when things
    /// settle.
    fn second_found(&mut self, prefix: Prefix, second: Shape, now: Instant) {
        // IPv6 shows what it has shown once more if a route is added before it meanwhile (`fib6_dump_table` in
        // net/ipv6/ip6_fib.c begins anew and skips by count).
        if self.mirror.route(&prefix) == Some(&second) {
            return;
        }
        let fits = |shape: &Shape| {
            let wanted = self.resolution(&prefix);
            wanted.is_some_and(|wanted| diff::satisfies(shape, wanted, &self.mirror.next_hops, Merge::Later))
        };
        let stray = match self.mirror.route(&prefix) {
            // A replacement of ours has hit the second: IPv6 looks for one of the same kind first.
            Some(first) if !fits(first) && fits(&second) => {
                let form = first.form;
                self.mirror.put_route(prefix, &second);
                form
            }
            _ => second.form,
        };
        self.mirror.strays.insert((prefix, METRIC, stray));
        if let Some(seen) = &mut self.listing.running {
            seen.strays.insert((prefix, METRIC, stray));
        }
        self.settle_later(now);
    }

    /// The listing is complete: what it did not show is gone.
    pub(crate) fn end_listing(&mut self, consistency: Consistency, now: Instant) {
        let Some(seen) = self.listing.running.take() else { return };
        if consistency == Consistency::Interrupted && self.listing.repetitions < MOST_REPETITIONS {
            self.listing.repetitions += 1;
            self.unfinished(now);
            self.check_later(now);
            return;
        }
        self.listing.repetitions = 0;
        self.listing.ended = true;
        self.listing.took = self.listing.begun.map_or(Duration::ZERO, |begun| now - begun);
        let cause = self.listing.cause.unwrap_or(RepairCause::Check);
        let missed = |prefix: &Prefix, shown: &HashSet<Prefix>| {
            !shown.contains(prefix) && !seen.touched.contains(prefix)
        };

        let ours = self.mirror.routes().filter(|(prefix, _)| missed(prefix, &seen.ours));
        let gone: Vec<_> = ours.map(|(prefix, shape)| (prefix, PROTOCOL, shape.clone())).collect();
        for (prefix, protocol, shape) in gone {
            let (table, metric, siblings) = (Table::Main, METRIC, Vec::new());
            let route = KernelRoute { table, prefix, metric, protocol, shape, siblings };
            self.handle_route_gone(&route, cause, now);
        }
        let foreign = self.mirror.foreign_routes().filter(|(prefix, _)| missed(prefix, &seen.foreign));
        for (prefix, _) in foreign.collect::<Vec<_>>() {
            self.foreign_gone(prefix, now);
        }
        let is_there =
            |route: &Borrower| seen.borrowers.contains(route) || seen.touched.contains(&route.prefix);
        if self.mirror.retain_borrowers(is_there) {
            self.settle_later(now);
        }
        self.retain_hiding(&seen.hiding, &seen.touched);
        if !seen.touched.iter().any(|prefix| prefix.length() == 0) {
            self.defaults.retain(&seen.defaults);
        }
        self.mirror.strays.retain(|stray| seen.strays.contains(stray) || seen.touched.contains(&stray.0));

        let objects = self.mirror.next_hops.objects().map(|(id, _)| id);
        let groups = self.mirror.next_hops.groups().map(|(id, _)| id);
        let known: Vec<NextHopId> = objects.chain(groups).chain(self.mirror.next_hops.foreign()).collect();
        for id in known {
            if !seen.next_hops.contains(&id) && !seen.touched_next_hops.contains(&id) {
                self.handle_next_hop_gone(id, cause, now);
            }
        }
        Family::ALL.into_iter().for_each(|family| self.sweep_stale(family));
    }
}
