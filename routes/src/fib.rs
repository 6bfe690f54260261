//! The owner of all state: takes in changes, events and results, and says what to write next.
//!
//! Plain functions over wanted routes, mirror and links; time is an argument. The task around it does the
//! waiting and the writing:
//!
//! ```text
//! set, next_hop_lost, allow_sweep --+                        +--> object_ops  \
//! handle_event (kernel)            --+--> pending prefixes --+--> group_ops    > kernel --> applied
//! handle_timeout (retry, settle)   --+                       +--> route_ops   /
//! ```
//!
//! A prefix is queued whenever it *may* differ; comparing is cheap and done when its turn comes. What depends
//! on the environment (link up, address present, next hop vouched for) is resolved once for each distinct
//! wish, not for each route.

mod defaults;
mod events;
mod foreign;
mod listing;
mod resolution;
mod results;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
    time::Instant,
};

use self::{defaults::DefaultRoutes, listing::Listing};
use crate::{
    METRIC,
    config::Config,
    contest::Contests,
    diff::{self, Aim, Merge, OnLink, Op, Plan, Resolved},
    event::{Counts, Event, FailedWrite, ForeignRoute, GroupState, RepairCause, Snapshot},
    intern::{Interned, Interner},
    links::LinkTable,
    mirror::{Form, Mirror, Shape},
    next_hops::{Hop, NextHopId},
    pending::{Backoff, Mark, Pending},
    wanted::{Change, Family, NextHop, PerFamily, Prefix, Target},
};

/// What many routes have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Wish {
    target: Target,
    source: Option<IpAddr>,
}

pub(crate) struct Fib {
    config: Config,
    links: LinkTable,
    links_changed: bool,
    mirror: Mirror,
    wanted: HashMap<Prefix, Interned>,
    wishes: Interner<Wish>,
    resolved: HashMap<Interned, Resolved>,
    pending: Pending,
    /// Next hops that the caller called lost and has not named since.
    lost: BTreeSet<Hop>,
    /// Next hops that the kernel refused.
    refused: BTreeMap<Hop, Refusal>,
    /// Routes that an earlier run left and the caller has not spoken about.
    stale: HashSet<Prefix>,
    /// What the caller dropped before the sweep of its family, so that it is not stale wherever it turns up.
    dropped: HashSet<Prefix>,
    sweep: PerFamily<Sweep>,
    conflicts: BTreeMap<Prefix, u8>,
    /// Foreign routes that go before wanted ones, the lowest metric first.
    hidden: BTreeMap<Prefix, BTreeSet<ForeignRoute>>,
    defaults: DefaultRoutes,
    /// Prefixes whose right route is in the kernel, behind another one of ours.
    covered: HashMap<Prefix, Covered>,
    /// Objects and groups that are there for other programs only.
    borrowed: BTreeSet<NextHopId>,
    missing_sources: BTreeSet<IpAddr>,
    /// What is being repaired, and why.
    damaged_routes: HashMap<Prefix, RepairCause>,
    damaged_groups: HashMap<Vec<Hop>, RepairCause>,
    contests: Contests,
    /// Prefixes that are newly contested: how many, and one of them.
    newly_contested: Option<(usize, Prefix)>,
    failed: BTreeSet<FailedWrite>,
    repairs: BTreeMap<RepairCause, u64>,
    overruns: u64,
    checks: u64,
    merge: Merge,
    /// Wishes whose resolution changed without their prefixes having been queued.
    unsettled: BTreeSet<Interned>,
    settle_at: Option<Instant>,
    merge_at: Option<Instant>,
    listing: Listing,
    events: Vec<Event>,
}

/// A right route behind another one.
#[derive(Debug, Clone)]
struct Covered {
    right: Shape,
    /// How the other one forwards: only that one is in the way.
    by: Form,
}

/// Whether what an earlier run left may go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Sweep {
    #[default]
    NotYet,
    Allowed,
}

#[derive(Debug, Clone, Copy)]
struct Refusal {
    backoff: Backoff,
    state: RefusalState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RefusalState {
    Waiting,
    /// Its time has come: used again, until the kernel refuses or accepts it.
    Trying,
}

impl Fib {
    pub(crate) fn new(config: Config, links: LinkTable) -> Self {
        Self {
            config,
            links,
            links_changed: false,
            mirror: Mirror::default(),
            wanted: HashMap::new(),
            wishes: Interner::default(),
            resolved: HashMap::new(),
            pending: Pending::default(),
            lost: BTreeSet::new(),
            refused: BTreeMap::new(),
            stale: HashSet::new(),
            dropped: HashSet::new(),
            sweep: PerFamily::default(),
            conflicts: BTreeMap::new(),
            hidden: BTreeMap::new(),
            defaults: DefaultRoutes::default(),
            covered: HashMap::new(),
            borrowed: BTreeSet::new(),
            missing_sources: BTreeSet::new(),
            damaged_routes: HashMap::new(),
            damaged_groups: HashMap::new(),
            contests: Contests::default(),
            newly_contested: None,
            failed: BTreeSet::new(),
            repairs: BTreeMap::new(),
            overruns: 0,
            checks: 0,
            merge: Merge::Later,
            unsettled: BTreeSet::new(),
            settle_at: None,
            merge_at: None,
            listing: Listing::default(),
            events: Vec::new(),
        }
    }

    // -- What the caller says.

    /// Takes in one change.
    pub(crate) fn set(&mut self, change: Change) {
        let prefix = change.prefix();
        let is_own = matches!(&change, Change::Want(route) if route.target == Target::Unreachable);
        let old = match change {
            Change::Want(route) => {
                self.vouch_for(&route.target);
                let wish = Wish { target: route.target, source: route.preferred_source };
                let number = self.acquire_wish(&wish);
                self.dropped.remove(&prefix);
                self.wanted.insert(prefix, number)
            }
            Change::Drop(prefix) => {
                self.conflicts.remove(&prefix);
                self.hidden.remove(&prefix);
                if *self.sweep.get(prefix.family()) == Sweep::NotYet {
                    self.dropped.insert(prefix);
                }
                self.wanted.remove(&prefix)
            }
        };
        if let Some(old) = old {
            self.release_wish(old);
        }
        self.stale.remove(&prefix);
        self.covered.remove(&prefix);
        self.failed.remove(&FailedWrite::Route(prefix));
        self.damaged_routes.remove(&prefix);
        self.pending.push(prefix);
        if is_own {
            self.sweep_stale(prefix.family());
        }
    }

    /// Takes a next hop out of use. The message returned moves all routes of its groups at once, so it is
    /// written before anything else; routes that have no group follow with what the caller sets next, or when
    /// things settle.
    pub(crate) fn next_hop_lost(&mut self, next_hop: &NextHop, now: Instant) -> Vec<Op> {
        let Some(hop) = self.links.resolve(next_hop) else { return Vec::new() };
        self.lost.insert(hop);
        let changed = self.update_resolutions();
        self.unsettled.extend(changed);
        self.settle_later(now);
        self.mirror.next_hops.object_of(&hop).map(|id| Op::DeleteNextHop { id }).into_iter().collect()
    }

    /// From now on what an earlier run left and nobody wants goes.
    pub(crate) fn allow_sweep(&mut self, family: Family, now: Instant) {
        *self.sweep.get_mut(family) = Sweep::Allowed;
        self.dropped.retain(|prefix| prefix.family() != family);
        self.sweep_stale(family);
        self.settle_later(now);
        // What was there before it was wanted may be in its way.
        self.check_later(now);
    }

    /// Queues the stale routes that may go. An unreachable one protects an own prefix, so it goes only if an
    /// own prefix of that family is known by now: then it is a former one.
    fn sweep_stale(&mut self, family: Family) {
        if *self.sweep.get(family) == Sweep::NotYet || self.stale.is_empty() {
            return;
        }
        let own_prefix_known = self.wishes.iter().any(|(number, wish, _)| {
            let of_family =
                |(prefix, wish): (&Prefix, &Interned)| *wish == number && prefix.family() == family;
            wish.target == Target::Unreachable && self.wanted.iter().any(of_family)
        });
        let is_unreachable =
            |prefix: &Prefix| self.mirror.route(prefix).is_some_and(|shape| shape.form == Form::Unreachable);
        let may_go =
            |prefix: &Prefix| prefix.family() == family && (own_prefix_known || !is_unreachable(prefix));
        for prefix in self.stale.extract_if(may_go) {
            self.pending.push(prefix);
        }
    }

    /// What the kernel holds now, nobody has asked for: it is of an earlier run.
    pub(crate) fn adopt(&mut self) {
        self.pending = Pending::default();
        self.stale = self.mirror.routes().map(|(prefix, _)| prefix).collect();
    }

    // -- What is to be written.

    /// Whether something is to be written now.
    pub(crate) fn has_work(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Prefixes for the next batch.
    pub(crate) fn take(&mut self) -> Vec<Prefix> {
        self.pending.take(self.config.batch)
    }

    /// The objects that these prefixes need and the kernel lacks.
    pub(crate) fn object_ops(&mut self, prefixes: &[Prefix]) -> Vec<Op> {
        let sets = self.sets_without_group(prefixes);
        let links = &self.links;
        let missing: BTreeSet<Hop> = sets.into_iter().flatten().collect();
        let missing: Vec<Hop> = missing.into_iter().collect();
        diff::plan_objects(&missing, &mut self.mirror.next_hops, |hop| on_link(links, hop))
    }

    /// The groups that these prefixes need and the kernel lacks.
    pub(crate) fn group_ops(&mut self, prefixes: &[Prefix]) -> Vec<Op> {
        let mut ops = Vec::new();
        for hops in self.sets_without_group(prefixes) {
            let regrown = self.mirror.next_hops.changed_groups_for(&hops).find(|group| {
                let wants_them = |prefix: &Prefix| self.wanted_hops(prefix) == Some(&hops[..]);
                self.mirror.routes_on(*group).iter().all(wants_them)
            });
            ops.extend(diff::plan_group(&hops, &mut self.mirror.next_hops, regrown));
        }
        ops
    }

    /// The sets of several hops that these prefixes want and no group has.
    fn sets_without_group(&self, prefixes: &[Prefix]) -> BTreeSet<Vec<Hop>> {
        let hops =
            prefixes.iter().filter(|p| self.mirror.foreign(p).is_none()).filter_map(|p| self.wanted_hops(p));
        let without = hops.filter(|hops| hops.len() > 1 && self.mirror.next_hops.group_of(hops).is_none());
        let mut sets: BTreeSet<Vec<Hop>> = BTreeSet::new();
        for hops in without {
            if !sets.contains(hops) {
                sets.insert(hops.to_vec());
            }
        }
        sets
    }

    fn wanted_hops(&self, prefix: &Prefix) -> Option<&[Hop]> {
        match &self.resolution(prefix)?.aim {
            Aim::Hops(hops) => Some(hops),
            Aim::Unreachable | Aim::Wait(_) => None,
        }
    }

    fn resolution(&self, prefix: &Prefix) -> Option<&Resolved> {
        self.resolved.get(self.wanted.get(prefix)?)
    }

    /// The route messages for these prefixes. What needs none is settled, waits, or is told as a conflict.
    pub(crate) fn route_ops(&mut self, prefixes: &[Prefix], now: Instant) -> Vec<Op> {
        let mut ops = Vec::new();
        for prefix in prefixes {
            if let Some(Covered { by, .. }) = self.covered.get(prefix) {
                if self.mirror.route(prefix).is_some_and(|shape| shape.form == *by) {
                    ops.push(Op::DeleteRoute { prefix: *prefix, metric: METRIC, form: *by });
                    continue;
                }
                self.covered.remove(prefix);
            }
            let wanted = self.resolution(prefix);
            let links = &self.links;
            match diff::plan_route(*prefix, wanted, &self.mirror, self.merge, |hop| on_link(links, hop)) {
                Plan::Write(Op::ReplaceRoute { shape, on_link, .. }) if self.is_in_doubt() => {
                    // A replacement takes whatever is in the place, and that may be a foreign route by now.
                    ops.extend(self.mirror.route(prefix).map(|present| diff::delete(*prefix, present)));
                    ops.push(Op::CreateRoute { prefix: *prefix, shape, on_link });
                    continue;
                }
                Plan::Write(op) => {
                    ops.push(op);
                    continue;
                }
                Plan::Conflict { protocol } => {
                    self.damaged_routes.remove(prefix);
                    if self.conflicts.insert(*prefix, protocol) != Some(protocol) {
                        self.events.push(Event::ForeignConflict { prefix: *prefix, protocol });
                    }
                }
                Plan::Done => {
                    self.conflicts.remove(prefix);
                    self.damaged_routes.remove(prefix);
                }
                // An event about the link queues it again.
                Plan::WaitForLink => {}
                Plan::WaitForGroup => {
                    self.pending.refused(*prefix, now);
                    continue;
                }
            }
            self.pending.settled(prefix);
        }
        if self.pending.is_empty() {
            self.merge = Merge::Later;
        }
        ops
    }

    /// How many learned routes are there for certain while these messages are being written. Counts all that
    /// is queued as deletions, so that a long run of them lowers the record once.
    pub(crate) fn installed_during(&self, ops: &[Op]) -> PerFamily<usize> {
        let installed = self.mirror.learned();
        let takes_one = |op: &&Op| match op {
            Op::DeleteRoute { .. } => true,
            Op::ReplaceRoute { shape, .. } => shape.form == Form::Unreachable,
            _ => false,
        };
        let taken = match ops.iter().filter(takes_one).count() {
            0 => return installed,
            count => count + self.pending.len(),
        };
        PerFamily { ipv4: installed.ipv4.saturating_sub(taken), ipv6: installed.ipv6.saturating_sub(taken) }
    }

    /// Learned routes in the kernel.
    pub(crate) fn installed(&self) -> PerFamily<usize> {
        self.mirror.learned()
    }

    // -- Time.

    /// When [`Self::handle_timeout`] is due next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let waiting = self.refused.values().filter(|refusal| refusal.state == RefusalState::Waiting);
        let refused = waiting.map(|refusal| refusal.backoff.until).min();
        [self.pending.poll_timeout(), refused, self.settle_at, self.merge_at, self.listing_due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due. A call too early is harmless. Returns what is to be deleted, for nothing names it
    /// any more.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Vec<Op> {
        self.pending.handle_timeout(now);
        self.retry_refused(now);
        if self.merge_at.is_some_and(|at| at <= now) {
            self.merge_at = None;
            self.merge = Merge::Now;
            let wanted: Vec<Prefix> = self.wanted.keys().copied().collect();
            wanted.into_iter().for_each(|prefix| self.pending.push(prefix));
            self.settle_later(now);
        }
        if self.settle_at.is_some_and(|at| at <= now) { self.settle(now) } else { Vec::new() }
    }

    fn retry_refused(&mut self, now: Instant) {
        let mut due = false;
        for refusal in self.refused.values_mut() {
            if refusal.state == RefusalState::Waiting && refusal.backoff.until <= now {
                refusal.state = RefusalState::Trying;
                due = true;
            }
        }
        if due {
            self.resolve_again();
        }
    }

    /// The work that nobody waits for.
    fn settle(&mut self, now: Instant) -> Vec<Op> {
        if !self.unsettled.is_empty() {
            self.resolve_again();
        }
        // Deleting a group takes its routes along, so the mirror must be beyond doubt.
        if self.has_work() || self.is_listing() || self.is_suspicious(now) {
            self.settle_at = Some(now + self.config.settle_delay);
            return Vec::new();
        }
        self.settle_at = None;
        let mut ops = Vec::new();
        for family in Family::ALL {
            if *self.sweep.get(family) == Sweep::Allowed {
                ops.extend(diff::plan_strays(&self.mirror, family));
            }
        }
        // Objects serve both families, so they wait for both.
        if Family::ALL.iter().all(|family| *self.sweep.get(*family) == Sweep::Allowed) {
            let leftovers = diff::plan_leftovers(&self.mirror);
            ops.extend(leftovers.ops);
            let new = leftovers.borrowed.difference(&self.borrowed);
            self.events.extend(new.map(|id| Event::NextHopBorrowed { id: *id }));
            self.borrowed = leftovers.borrowed;
        }
        ops
    }

    // -- What is told.

    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        // One event however many they are: a flush may be contested, too.
        let contested = self.newly_contested.take();
        self.events.extend(contested.map(|(count, example)| Event::Contested { count, example }));
        std::mem::take(&mut self.events)
    }

    /// The link table, if it changed since the last call.
    pub(crate) fn take_links(&mut self) -> Option<LinkTable> {
        std::mem::take(&mut self.links_changed).then(|| self.links.clone())
    }

    /// The gateways of the default routes of others, if they changed since the last call.
    pub(crate) fn take_gateways(&mut self) -> Option<PerFamily<Option<IpAddr>>> {
        self.defaults.take_changed()
    }

    pub(crate) fn mark(&self) -> Mark {
        self.pending.mark()
    }

    pub(crate) fn reached(&self, mark: Mark) -> bool {
        self.pending.reached(mark)
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            learned: self.mirror.learned(),
            unreachable: self.mirror.unreachable(),
            pending: self.pending.len(),
            failing: self.pending.failed(),
            repairs: self.repairs.clone(),
            overruns: self.overruns,
            checks: self.checks,
        }
    }

    pub(crate) fn snapshot(&self, now: Instant) -> Snapshot {
        let mut wanted = PerFamily::default();
        for prefix in self.wanted.keys() {
            *wanted.get_mut(prefix.family()) += 1;
        }
        let mut stale = PerFamily::default();
        for prefix in self.stale.iter().filter(|prefix| self.mirror.route(prefix).is_some()) {
            *stale.get_mut(prefix.family()) += 1;
        }
        let groups = self.mirror.next_hops.groups();
        let group_state =
            |id, hops: &[Hop]| GroupState { hops: hops.to_vec(), routes: self.mirror.users(id) };
        Snapshot {
            wanted,
            learned: self.mirror.learned(),
            unreachable: self.mirror.unreachable(),
            stale,
            pending: self.pending.len(),
            failing: self.pending.failed(),
            objects: self.mirror.next_hops.objects().collect(),
            groups: groups.map(|(id, group)| (id, group_state(id, &group.hops))).collect(),
            by_gateway: self.mirror.users_by_hop(),
            conflicts: self.conflicts.clone(),
            hidden: self.hidden.iter().filter_map(|(prefix, by)| Some((*prefix, *by.first()?))).collect(),
            contested: self.contests.contested(now),
            borrowed: self.borrowed.iter().map(|id| (*id, self.mirror.borrowers(*id))).collect(),
            unusable: self.unusable(),
            repairs: self.repairs.clone(),
            overruns: self.overruns,
            checks: self.checks,
        }
    }
}

fn on_link(links: &LinkTable, hop: &Hop) -> OnLink {
    if links.reaches(hop) { OnLink::BySubnet } else { OnLink::Forced }
}
