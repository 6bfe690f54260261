//! Routes of other programs: those in our place or before it, those that IPv6 joins with ours, and those that point to
//! our next hops.
//!
//! They are told, counted and never written. What they stand on is not taken away while they are there.

use std::{collections::HashSet, time::Instant};

use super::Fib;
use crate::{
    METRIC, PROTOCOL,
    event::{Event, ForeignRoute, RepairCause},
    kernel::{KernelRoute, Replaced, Table},
    mirror::{Borrower, Form, UNKNOWN_PROTOCOL},
    next_hops::Hop,
    wanted::Prefix,
};

/// `RTPROT_KERNEL`.
const KERNEL: u8 = 2;

impl Fib {
    /// Our place is free again.
    pub(super) fn foreign_gone(&mut self, prefix: Prefix, now: Instant) {
        self.mirror.remove_foreign(&prefix);
        if self.wanted.contains_key(&prefix) {
            self.queue_repair(prefix, RepairCause::RouteChanged, now);
        }
    }

    /// The next hop of our plain route.
    pub(super) fn own_hop(&self, prefix: &Prefix) -> Option<Hop> {
        match self.mirror.route(prefix)?.form {
            Form::Plain(hop) => Some(hop),
            _ => None,
        }
    }

    /// Routes of unknown hands joined ours. Whose they are is found out when things settle: by deleting those of
    /// our protocol. Until then they count as foreign.
    pub(super) fn suspect_siblings(&mut self, prefix: Prefix, siblings: &[Hop], now: Instant) {
        self.mirror.put_foreign(prefix, UNKNOWN_PROTOCOL);
        self.mirror.strays.extend(siblings.iter().map(|hop| (prefix, METRIC, Form::Plain(*hop))));
        self.settle_later(now);
        if self.wanted.contains_key(&prefix) {
            self.pending.push(prefix);
        }
    }

    /// A deletion that names no next hop takes all siblings, whoever wrote them.
    pub(super) fn siblings_gone(&mut self, route: &KernelRoute, cause: RepairCause, now: Instant) {
        let prefix = route.prefix;
        self.foreign_gone(prefix, now);
        let is_gone = |own: Hop| route.shape.form == Form::Plain(own) || route.siblings.contains(&own);
        if self.own_hop(&prefix).is_some_and(is_gone) {
            self.mirror.remove_route(&prefix);
            self.lose([prefix], cause, now);
        }
    }

    /// The route if it goes before a wanted one of ours. The kernel's own is the subnet of an interface: what is on the
    /// link is not for others to carry.
    pub(super) fn goes_before_ours(&self, route: &KernelRoute) -> Option<ForeignRoute> {
        let KernelRoute { table, prefix, metric, protocol, .. } = *route;
        let is_before = table == Table::Main && metric < METRIC && !matches!(protocol, PROTOCOL | KERNEL);
        (is_before && self.wanted.contains_key(&prefix)).then_some(ForeignRoute { metric, protocol })
    }

    pub(super) fn note_hiding(&mut self, route: &KernelRoute, replaced: Replaced) {
        if replaced == Replaced::Yes {
            self.unhide(&route.prefix, |other| other.metric != route.metric);
        }
        let Some(by) = self.goes_before_ours(route) else { return };
        let before = self.hidden.entry(route.prefix).or_default();
        if before.is_empty() {
            self.events.push(Event::RouteHidden { prefix: route.prefix, by });
        }
        before.insert(by);
    }

    /// Of two that differ in their way only, a listing finds the other one.
    pub(super) fn hiding_gone(&mut self, route: &KernelRoute) {
        let gone = ForeignRoute { metric: route.metric, protocol: route.protocol };
        self.unhide(&route.prefix, |other| *other != gone);
    }

    fn unhide(&mut self, prefix: &Prefix, stays: impl FnMut(&ForeignRoute) -> bool) {
        if let Some(before) = self.hidden.get_mut(prefix) {
            before.retain(stays);
            if before.is_empty() {
                self.hidden.remove(prefix);
            }
        }
    }

    /// A listing has shown these only, besides what changed while it ran.
    pub(super) fn retain_hiding(
        &mut self,
        shown: &HashSet<(Prefix, ForeignRoute)>,
        touched: &HashSet<Prefix>,
    ) {
        self.hidden.retain(|prefix, before| {
            before.retain(|route| touched.contains(prefix) || shown.contains(&(*prefix, *route)));
            !before.is_empty()
        });
    }

    /// The kernel deletes routes with the object or group they point to, so those of others count, too.
    pub(super) fn note_borrower(&mut self, route: &KernelRoute, replaced: Replaced, now: Instant) {
        let new = self.mirror.borrower(route);
        let same_place = |other: &Borrower| {
            (other.table, other.prefix, other.metric) == (route.table, route.prefix, route.metric)
        };
        let stays = |other: &Borrower| Some(*other) == new || !same_place(other);
        let lent_less = replaced == Replaced::Yes && self.mirror.retain_borrowers(stays);
        let lent_more = new.is_some_and(|new| self.mirror.put_borrower(new));
        if lent_less || lent_more {
            self.settle_later(now);
        }
    }

    pub(super) fn borrower_gone(&mut self, route: &KernelRoute, now: Instant) {
        if Borrower::of(route).is_some_and(|gone| self.mirror.remove_borrower(&gone)) {
            self.settle_later(now);
        }
    }
}
