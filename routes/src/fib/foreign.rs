//! Routes of other programs: those in our place, those that IPv6 joins with ours, and those that point to our next hops.
//!
//! They are told, counted and never written. What they stand on is not taken away while they are there.

use std::time::Instant;

use super::Fib;
use crate::{
    METRIC,
    event::RepairCause,
    kernel::{KernelRoute, Replaced},
    mirror::{Borrower, Form, UNKNOWN_PROTOCOL},
    next_hops::Hop,
    wanted::Prefix,
};

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
