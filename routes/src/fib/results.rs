//! What became of the messages that were written.

use std::time::Instant;

use nix::errno::Errno;

use super::{Covered, Fib, Refusal, RefusalState};
use crate::{
    METRIC,
    diff::Op,
    event::{Event, FailedWrite, RepairCause},
    mirror::{Form, Shape, UNKNOWN_PROTOCOL},
    next_hops::{Hop, NextHopId, Spread},
    pending::Backoff,
    wanted::Prefix,
};

/// A next hop is told as failing only if it fails for longer than a link needs to come up properly.
const TELL_AFTER: std::time::Duration = std::time::Duration::from_millis(100);

impl Fib {
    /// Takes in the results of a batch: every message, and the error numbers of the refused ones by position.
    pub(crate) fn applied(&mut self, ops: Vec<Op>, refused: &[(usize, Errno)], now: Instant) {
        let mut refused = refused.iter().peekable();
        let mut repaired = std::collections::BTreeMap::<RepairCause, usize>::new();
        for (at, op) in ops.into_iter().enumerate() {
            match refused.next_if(|(position, _)| *position == at) {
                Some((_, errno)) if !self.already_so(&op, *errno) => self.refused(op, *errno, now),
                _ => {
                    if let Some(cause) = self.accepted(op, now) {
                        *repaired.entry(cause).or_default() += 1;
                    }
                }
            }
        }
        for (cause, count) in repaired {
            *self.repairs.entry(cause).or_default() += count as u64;
            self.events.push(Event::Repaired { cause, count });
        }
    }

    /// The kernel did it. Returns what it repaired.
    fn accepted(&mut self, op: Op, now: Instant) -> Option<RepairCause> {
        match op {
            Op::CreateObject { id, hop, .. } => {
                self.mirror.next_hops.put_object(id, hop);
                self.hop_works(&hop);
                self.touch_next_hop(id);
                None
            }
            Op::CreateGroup { id, members, purpose } => {
                self.damaged_groups.remove(&purpose);
                self.group_written(id, members, purpose);
                None
            }
            Op::ReplaceGroup { id, members, purpose } => {
                let cause = self.damaged_groups.remove(&purpose);
                self.group_written(id, members, purpose);
                cause
            }
            Op::DeleteNextHop { id } => {
                self.next_hop_deleted(id, now);
                None
            }
            Op::CreateRoute { prefix, shape, .. } | Op::ReplaceRoute { prefix, shape, .. } => {
                self.leaves_group(&prefix, now);
                self.route_written(prefix, &shape)
            }
            Op::DeleteRoute { prefix, metric, form }
                if self.mirror.strays.remove(&(prefix, metric, form)) =>
            {
                self.stray_deleted(prefix, metric, form, now);
                None
            }
            Op::DeleteRoute { prefix, .. } => {
                self.leaves_group(&prefix, now);
                self.route_deleted(prefix)
            }
        }
    }

    /// Its group may have lost its last route.
    fn leaves_group(&mut self, prefix: &Prefix, now: Instant) {
        if matches!(self.mirror.route(prefix), Some(Shape { form: Form::Group(_), .. })) {
            self.settle_later(now);
        }
    }

    fn group_written(&mut self, id: NextHopId, members: Vec<NextHopId>, purpose: Vec<Hop>) {
        self.mirror.next_hops.put_group(id, members, Spread::Even, Some(purpose));
        self.failed.remove(&FailedWrite::Group(id));
        self.touch_next_hop(id);
    }

    fn next_hop_deleted(&mut self, id: NextHopId, now: Instant) {
        let shrinks = self.mirror.next_hops.groups().any(|(_, group)| group.members.contains(&id));
        if shrinks {
            self.merge_later(now);
        }
        // A group may have had this member only: then it went, and its routes with it.
        for prefix in self.mirror.remove_next_hop(id) {
            self.pending.push(prefix);
        }
        self.restart_listing(now);
        self.settle_later(now);
    }

    fn route_written(&mut self, prefix: Prefix, shape: &Shape) -> Option<RepairCause> {
        if let Form::Plain(hop) = &shape.form {
            self.hop_works(hop);
        }
        self.mirror.put_route(prefix, shape);
        self.touch(prefix);
        self.pending.settled(&prefix);
        self.conflicts.remove(&prefix);
        self.failed.remove(&FailedWrite::Route(prefix));
        self.damaged_routes.remove(&prefix)
    }

    fn route_deleted(&mut self, prefix: Prefix) -> Option<RepairCause> {
        if let Some(Covered { right, .. }) = self.covered.remove(&prefix) {
            return self.route_written(prefix, &right);
        }
        self.mirror.remove_route(&prefix);
        self.touch(prefix);
        self.pending.settled(&prefix);
        self.failed.remove(&FailedWrite::Route(prefix));
        if self.wanted.contains_key(&prefix) {
            // It made way: look again for what is in its place, or wait for a link.
            self.pending.push(prefix);
        }
        None
    }

    fn stray_deleted(&mut self, prefix: Prefix, metric: u32, form: Form, now: Instant) {
        if metric != METRIC {
            return;
        }
        // A sibling that was taken for foreign was of our protocol.
        if self.mirror.foreign(&prefix) == Some(UNKNOWN_PROTOCOL) {
            self.foreign_gone(prefix, now);
            self.check_soon(now);
        }
        // Two forwarded alike: which of them went, a creation will find out.
        if self.mirror.route(&prefix).is_some_and(|shape| shape.form == form) {
            self.mirror.remove_route(&prefix);
            self.touch(prefix);
            self.lose([prefix], RepairCause::Check, now);
            self.check_soon(now);
        }
    }

    /// The kernel refused it: it stays wanted.
    fn refused(&mut self, op: Op, errno: Errno, now: Instant) {
        match op {
            Op::CreateObject { id, hop, .. } => {
                self.mirror.next_hops.forget_number(id);
                if errno == Errno::EEXIST {
                    self.mirror.next_hops.put_foreign(id, Vec::new());
                    self.check_soon(now);
                } else {
                    self.hop_refused(hop, errno, now);
                }
            }
            Op::CreateGroup { id, .. } => {
                self.mirror.next_hops.forget_number(id);
                if errno == Errno::EEXIST {
                    self.mirror.next_hops.put_foreign(id, Vec::new());
                }
                self.tell_failed(FailedWrite::Group(id), errno);
                self.check_soon(now);
            }
            Op::ReplaceGroup { id, .. } => {
                if errno == Errno::ENOENT {
                    self.handle_next_hop_gone(id, RepairCause::Check, now);
                } else {
                    self.tell_failed(FailedWrite::Group(id), errno);
                }
                self.check_soon(now);
            }
            // Tried again by the check: what is not wanted and present is deleted.
            Op::DeleteNextHop { .. } => self.check_later(now),
            Op::CreateRoute { prefix, shape, .. } => self.route_refused(prefix, &shape, errno, now),
            // It is there already, behind another one of ours (`fa_match` in net/ipv4/fib_trie.c), which has to go.
            Op::ReplaceRoute { prefix, shape, .. } if errno == Errno::EEXIST => {
                if let Some(other) = self.mirror.route(&prefix) {
                    self.covered.insert(prefix, Covered { right: shape, by: other.form });
                }
                self.pending.push(prefix);
            }
            Op::ReplaceRoute { prefix, shape, .. } => {
                if matches!(errno, Errno::ENOENT | Errno::ESRCH) {
                    // Gone just before: what is there now, a creation will find out.
                    self.mirror.remove_route(&prefix);
                    self.pending.push(prefix);
                } else {
                    self.route_refused(prefix, &shape, errno, now);
                }
            }
            // A sibling of ours is of another protocol, or changed meanwhile.
            Op::DeleteRoute { prefix, metric, form }
                if self.mirror.strays.remove(&(prefix, metric, form)) => {}
            Op::DeleteRoute { prefix, .. } => {
                self.covered.remove(&prefix);
                self.pending.refused(prefix, now);
                self.tell_failed(FailedWrite::Route(prefix), errno);
            }
        }
    }

    fn route_refused(&mut self, prefix: Prefix, shape: &Shape, errno: Errno, now: Instant) {
        match (errno, shape.form) {
            (
                // EACCES: IPv6 is off on the interface.
                Errno::ENETDOWN | Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::ENODEV | Errno::EACCES,
                Form::Plain(hop),
            ) => {
                self.hop_refused(hop, errno, now);
                self.pending.push(prefix);
            }
            // Something is in the place, or the group is not what we think: look, then try again.
            (Errno::EEXIST, _) | (Errno::EINVAL, Form::Group(_)) => {
                self.pending.refused(prefix, now);
                self.check_soon(now);
            }
            _ => {
                self.pending.refused(prefix, now);
                self.tell_failed(FailedWrite::Route(prefix), errno);
            }
        }
    }

    /// Takes a hop out of use for a moment. Many messages of one batch may be refused for it: that counts
    /// once.
    fn hop_refused(&mut self, hop: Hop, errno: Errno, now: Instant) {
        let previous = self.refused.get(&hop).copied();
        if previous.is_some_and(|previous| previous.state == RefusalState::Waiting) {
            return;
        }
        let backoff = Backoff::after(previous.map(|previous| previous.backoff), now);
        self.refused.insert(hop, Refusal { backoff, state: RefusalState::Waiting });
        if backoff.until - now > TELL_AFTER {
            self.tell_failed(FailedWrite::NextHop(hop), errno);
        }
        self.resolve_again();
    }

    fn hop_works(&mut self, hop: &Hop) {
        if self.refused.remove(hop).is_some() {
            self.failed.remove(&FailedWrite::NextHop(*hop));
            self.resolve_again();
        }
    }

    fn tell_failed(&mut self, what: FailedWrite, errno: Errno) {
        if self.failed.insert(what) {
            self.events.push(Event::WriteFailed { what, errno: errno as i32 });
        }
    }

    /// Deleting what is gone is success, except for a sibling of ours: that one is there, but not of our protocol.
    fn already_so(&self, op: &Op, errno: Errno) -> bool {
        match op {
            Op::DeleteNextHop { .. } => errno == Errno::ENOENT,
            Op::DeleteRoute { prefix, metric, form } => {
                let is_sibling = *metric == METRIC && self.mirror.strays.contains(&(*prefix, *metric, *form));
                matches!(errno, Errno::ESRCH | Errno::ENOENT) && !is_sibling
            }
            _ => false,
        }
    }
}
