//! What the kernel tells, taken into links and mirror.
//!
//! An event that agrees with the mirror changes nothing: only what differs is queued. The listing of a check
//! is replayed through the same functions, with its own cause.

use std::time::Instant;

use super::{Fib, RefusalState};
use crate::{
    METRIC, PROTOCOL,
    contest::Turn,
    diff::{Aim, Resolved},
    event::{Event, RepairCause},
    kernel::{KernelEvent, KernelNextHop, KernelRoute, NextHopContent, Replaced, Table},
    links::{Link, LinkAddress, LinkChange, LinkTable},
    mirror::Form,
    next_hops::{Hop, LinkIndex, NextHopId},
    wanted::{Family, Prefix},
};

impl Fib {
    /// Takes in what the kernel told.
    pub(crate) fn handle_event(&mut self, event: KernelEvent, now: Instant) {
        match event {
            KernelEvent::Link(link) => self.handle_link(link, now),
            KernelEvent::LinkGone(index) => self.handle_link_gone(index, now),
            KernelEvent::Address(index, address) => {
                if self.links.put_address(index, address) {
                    self.addresses_changed(index);
                }
            }
            KernelEvent::AddressGone(index, address) => self.handle_address_gone(index, &address, now),
            KernelEvent::NextHop(found) => self.handle_next_hop(found, RepairCause::NextHopChanged, now),
            KernelEvent::NextHopGone(id) => self.handle_next_hop_gone(id, RepairCause::NextHopDeleted, now),
            KernelEvent::Route { route, replaced } => {
                self.touch(route.prefix);
                self.handle_route(route, replaced, RepairCause::RouteChanged, now);
            }
            KernelEvent::RouteGone(route) => {
                self.touch(route.prefix);
                self.handle_route_gone(&route, RepairCause::RouteDeleted, now);
            }
            KernelEvent::Overrun => self.handle_overrun(now),
        }
    }

    /// Takes in what was told around a batch of ours. Whether it happened before or after a message of that
    /// batch cannot be seen, so if it was about our routes, a listing has to say how things stand.
    pub(crate) fn handle_events_beside_writes(&mut self, events: Vec<KernelEvent>, now: Instant) {
        for event in events {
            let about_ours = match &event {
                KernelEvent::Route { route, .. } | KernelEvent::RouteGone(route) => {
                    route.table == Table::Main && (route.protocol == PROTOCOL || route.metric == METRIC)
                }
                KernelEvent::NextHop(found) => {
                    found.protocol == PROTOCOL || self.mirror.next_hops.is_ours(found.id)
                }
                KernelEvent::NextHopGone(id) => self.mirror.next_hops.is_ours(*id),
                _ => false,
            };
            if about_ours {
                self.check_soon(now);
            }
            self.handle_event(event, now);
        }
    }

    /// Takes in a listing of all links and addresses, as if each difference had been an event.
    pub(crate) fn handle_links(&mut self, listed: &LinkTable, now: Instant) {
        let gone: Vec<_> =
            self.links.iter().map(|link| link.index).filter(|index| listed.get(*index).is_none()).collect();
        for index in gone {
            self.handle_link_gone(index, now);
        }
        for link in listed.iter() {
            let index = link.index;
            self.handle_link(link.clone(), now);
            let known = self.links.get(index).map(|link| link.addresses.clone()).unwrap_or_default();
            for address in known.difference(&link.addresses) {
                self.handle_event(KernelEvent::AddressGone(index, address.clone()), now);
            }
            for address in link.addresses.difference(&known) {
                self.handle_event(KernelEvent::Address(index, address.clone()), now);
            }
        }
    }

    fn handle_link(&mut self, link: Link, now: Instant) {
        let (index, name) = (link.index, link.name.clone());
        let was_usable = self.links.get(index).is_some_and(|link| link.usable());
        let change = self.links.put_link(link);
        self.links_changed |= change != LinkChange::None;
        // The kernel may have dropped objects in a flap that was over before it told of it.
        if matches!(change, LinkChange::None | LinkChange::Other) && self.has_objects_on(index) {
            self.check_later(now);
        }
        match change {
            LinkChange::None => {}
            LinkChange::Other => self.resolve_again(),
            LinkChange::Up => {
                self.events.push(Event::LinkUp { name });
                self.try_refused_on(index);
                self.resolve_again();
                if self.concerns_us(index) {
                    self.check_later(now);
                }
            }
            LinkChange::Down(_) => {
                if was_usable {
                    self.events.push(Event::LinkDown { name });
                }
                self.link_lost(index, change, now);
            }
        }
    }

    fn handle_link_gone(&mut self, index: LinkIndex, now: Instant) {
        let usable = self.links.get(index).filter(|link| link.usable()).map(|link| link.name.clone());
        let change = self.links.remove_link(index);
        self.links_changed |= change != LinkChange::None;
        if let Some(name) = usable {
            self.events.push(Event::LinkDown { name });
        }
        self.link_lost(index, change, now);
    }

    fn has_objects_on(&self, index: LinkIndex) -> bool {
        self.mirror.next_hops.objects().any(|(_, hop)| hop.link == index)
    }

    /// Whether the kernel's doings with an interface are about what we wrote or what is in its way: those with pods'
    /// interfaces, which come and go all the time, are not.
    fn concerns_us(&self, index: LinkIndex) -> bool {
        let is_over_it = |hop: &Hop| hop.link == index;
        let is_to_be = |resolved: &Resolved| match &resolved.aim {
            Aim::Hops(hops) | Aim::Wait(hops) => hops.iter().any(is_over_it),
            Aim::Unreachable => false,
        };
        self.has_objects_on(index)
            || self.mirror.has_routes_over(index)
            || self.defaults.are_over(index)
            || self.mirror.foreign_routes().next().is_some()
            || !self.hidden.is_empty()
            || self.resolved.values().any(is_to_be)
    }

    /// Repeats what the kernel did silently when the link went.
    fn link_lost(&mut self, index: LinkIndex, change: LinkChange, now: Instant) {
        let LinkChange::Down(loss) = change else { return };
        if !self.concerns_us(index) {
            return self.resolve_again();
        }
        self.defaults.link_lost(index, loss);
        let objects = self.mirror.next_hops.objects().filter(|(_, hop)| hop.link == index).map(|(id, _)| id);
        let objects: Vec<NextHopId> = objects.collect();
        self.note_shrinking_groups(&objects, RepairCause::LinkLost, now);
        let gone = self.mirror.remove_link(index, loss);
        self.lose(gone, RepairCause::LinkLost, now);
        self.restart_listing(now);
        self.resolve_again();
        self.check_later(now);
    }

    fn addresses_changed(&mut self, index: LinkIndex) {
        self.links_changed = true;
        self.events.push(Event::AddressesChanged);
        self.try_refused_on(index);
        self.resolve_again();
    }

    fn handle_address_gone(&mut self, index: LinkIndex, address: &LinkAddress, now: Instant) {
        if !self.links.remove_address(index, address) {
            return;
        }
        let mut hit = Vec::new();
        if !self.links.is_source(address.address) {
            hit.extend(self.mirror.lose_source(address.address));
        }
        if address.address.is_ipv4() && !self.links.has_address(index, Family::Ipv4) {
            hit.extend(self.mirror.lose_ipv4(index));
        }
        let concerns_us = !hit.is_empty() || self.concerns_us(index);
        if !hit.is_empty() {
            self.lose(hit, RepairCause::LinkLost, now);
            self.restart_listing(now);
        }
        self.addresses_changed(index);
        if concerns_us {
            self.check_later(now);
        }
    }

    /// Next hops that were refused on this link deserve another try at once.
    fn try_refused_on(&mut self, index: LinkIndex) {
        for (_, refusal) in self.refused.iter_mut().filter(|(hop, _)| hop.link == index) {
            refusal.state = RefusalState::Trying;
        }
    }

    pub(super) fn handle_next_hop(&mut self, found: KernelNextHop, cause: RepairCause, now: Instant) {
        let KernelNextHop { id, protocol, content } = found;
        match content {
            NextHopContent::Object(hop) if protocol == PROTOCOL => {
                let known = self.mirror.next_hops.object(id);
                if known == Some(hop) {
                    return;
                }
                if known.is_some() {
                    self.note_shrinking_groups(&[id], cause, now);
                }
                self.mirror.next_hops.put_object(id, hop);
            }
            NextHopContent::Group { members, spread } if protocol == PROTOCOL => {
                let known = self.mirror.next_hops.group(id).cloned();
                if known.as_ref().is_some_and(|known| known.members == members && known.spread == spread) {
                    return;
                }
                self.mirror.next_hops.put_group(id, members, spread, None);
                if let Some(known) = known {
                    self.damaged_groups.insert(known.purpose, cause);
                    self.queue_routes_on(id, cause, now);
                }
            }
            // Of another program, or none of our kinds: the number is taken, and routes of ours on it are
            // wrong.
            content => {
                self.note_shrinking_groups(&[id], cause, now);
                self.queue_routes_on(id, cause, now);
                let members = match content {
                    NextHopContent::Group { members, .. } => members,
                    NextHopContent::Object(_) | NextHopContent::Other => Vec::new(),
                };
                self.mirror.next_hops.take_over(id, members);
            }
        }
        self.settle_later(now);
    }

    pub(super) fn handle_next_hop_gone(&mut self, id: NextHopId, cause: RepairCause, now: Instant) {
        if !self.mirror.next_hops.is_ours(id) {
            self.mirror.next_hops.forget_number(id);
            // It may have borrowed one of ours.
            return self.settle_later(now);
        }
        self.note_shrinking_groups(&[id], cause, now);
        if let Some(group) = self.mirror.next_hops.group(id) {
            self.damaged_groups.insert(group.purpose.clone(), cause);
        }
        let gone = self.mirror.remove_next_hop(id);
        self.lose(gone, cause, now);
        self.restart_listing(now);
    }

    /// Objects go or change: their groups forward otherwise from now on. Each group's routes are looked up once.
    fn note_shrinking_groups(&mut self, objects: &[NextHopId], cause: RepairCause, now: Instant) {
        let is_hit = |id: &NextHopId| objects.contains(id);
        let hit = self.mirror.next_hops.groups().filter(|(_, group)| group.members.iter().any(is_hit));
        let hit: Vec<_> = hit.map(|(id, group)| (id, group.purpose.clone())).collect();
        for (id, purpose) in hit {
            self.damaged_groups.insert(purpose, cause);
            self.queue_routes_on(id, cause, now);
            self.merge_later(now);
        }
    }

    fn queue_routes_on(&mut self, group: NextHopId, cause: RepairCause, now: Instant) {
        for prefix in self.mirror.routes_on(group) {
            if self.wanted.contains_key(&prefix) {
                self.queue_repair(prefix, cause, now);
            }
        }
    }

    pub(super) fn handle_route(
        &mut self,
        route: KernelRoute,
        replaced: Replaced,
        cause: RepairCause,
        now: Instant,
    ) {
        self.note_borrower(&route, replaced, now);
        if route.table != Table::Main {
            return;
        }
        self.note_hiding(&route, replaced);
        self.defaults.note(&route, replaced);
        let KernelRoute { prefix, metric, protocol, shape, siblings, .. } = route;
        let wanted = self.wanted.contains_key(&prefix);
        match (protocol == PROTOCOL, metric == METRIC) {
            (true, true) => {
                if replaced == Replaced::Yes {
                    self.mirror.remove_foreign(&prefix);
                }
                if !siblings.is_empty() && self.mirror.foreign(&prefix).is_none() {
                    if let Some(own) = self.own_hop(&prefix).filter(|own| siblings == [*own]) {
                        // It joined ours, and both are of our protocol: a replacement takes both.
                        self.mirror.strays.insert((prefix, METRIC, Form::Plain(own)));
                        self.settle_later(now);
                    } else {
                        self.suspect_siblings(prefix, &siblings, now);
                    }
                }
                let known = self.mirror.route(&prefix);
                if known == Some(&shape) {
                    return;
                }
                if known.is_some() && (replaced, cause) == (Replaced::No, RepairCause::RouteChanged) {
                    // An event of a second one, or the loss of the first was not told.
                    self.check_soon(now);
                }
                self.mirror.put_route(prefix, &shape);
                if wanted {
                    self.lose([prefix], cause, now);
                } else if matches!(cause, RepairCause::Check | RepairCause::Overrun)
                    && !self.dropped.contains(&prefix)
                {
                    // Listings before this one have missed it: it may be of an earlier run as well.
                    self.stale.insert(prefix);
                } else if !self.stale.contains(&prefix) {
                    self.queue_repair(prefix, cause, now);
                }
            }
            (true, false) => {
                self.mirror.strays.insert((prefix, metric, shape.form));
                self.settle_later(now);
            }
            (false, true) => {
                self.mirror.put_foreign(prefix, protocol);
                if replaced == Replaced::Yes {
                    self.mirror.remove_route(&prefix);
                }
                if wanted {
                    self.pending.push(prefix);
                }
            }
            (false, false) => {}
        }
    }

    pub(super) fn handle_route_gone(&mut self, route: &KernelRoute, cause: RepairCause, now: Instant) {
        self.borrower_gone(route, now);
        if route.table != Table::Main {
            return;
        }
        self.hiding_gone(route);
        self.defaults.gone(route);
        let prefix = route.prefix;
        if route.metric == METRIC && !route.siblings.is_empty() {
            return self.siblings_gone(route, cause, now);
        }
        match (route.protocol == PROTOCOL, route.metric == METRIC) {
            (true, true) => match self.mirror.route(&prefix) {
                Some(shape) if *shape == route.shape => {
                    self.mirror.remove_route(&prefix);
                    self.lose([prefix], cause, now);
                }
                _ if self.mirror.strays.contains(&(prefix, METRIC, route.shape.form)) => {
                    self.mirror.strays.remove(&(prefix, METRIC, route.shape.form));
                }
                // Told late about a former route, or something escaped us.
                Some(_) => self.check_later(now),
                None => {}
            },
            (true, false) => {
                self.mirror.strays.remove(&(prefix, route.metric, route.shape.form));
            }
            (false, true) => self.foreign_gone(prefix, now),
            (false, false) => {}
        }
    }

    /// These prefixes differ from what is wanted, through no doing of ours.
    pub(super) fn lose(
        &mut self,
        prefixes: impl IntoIterator<Item = Prefix>,
        cause: RepairCause,
        now: Instant,
    ) {
        for prefix in prefixes {
            if self.wanted.contains_key(&prefix) {
                self.damaged_routes.entry(prefix).or_insert(cause);
                self.queue_repair(prefix, cause, now);
            }
        }
    }

    /// Queues a prefix at once, or later if another program keeps undoing it.
    pub(super) fn queue_repair(&mut self, prefix: Prefix, cause: RepairCause, now: Instant) {
        let by_other_hands = match cause {
            RepairCause::RouteDeleted
            | RepairCause::RouteChanged
            | RepairCause::NextHopDeleted
            | RepairCause::NextHopChanged => true,
            RepairCause::LinkLost | RepairCause::Overrun | RepairCause::Check => false,
        };
        // What is still to be repaired has not been undone again.
        if !by_other_hands || self.pending.contains(&prefix) {
            return self.pending.push(prefix);
        }
        match self.contests.damaged(prefix, now) {
            Turn::Now => self.pending.push(prefix),
            Turn::At(at) => self.pending.push_at(prefix, at),
            Turn::FirstAt(at) => {
                self.pending.push_at(prefix, at);
                let (count, _) = self.newly_contested.unwrap_or((0, prefix));
                self.newly_contested = Some((count + 1, prefix));
            }
        }
    }

    fn handle_overrun(&mut self, now: Instant) {
        self.overruns += 1;
        self.check_after_overrun(now);
    }

    pub(super) fn settle_later(&mut self, now: Instant) {
        self.settle_at.get_or_insert(now + self.config.settle_delay);
    }

    pub(super) fn merge_later(&mut self, now: Instant) {
        self.merge_at.get_or_insert(now + self.config.merge_delay);
    }
}
