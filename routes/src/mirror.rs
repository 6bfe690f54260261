//! What the kernel holds, as far as it concerns us.
//!
//! Routes of our protocol in the main table, next-hop objects and groups of our protocol, and of other programs:
//! routes with our metric in the main table, numbers of next hops, and routes of any table that point to a number
//! of ours. Filled by a dump, kept by events and by our own accepted writes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use crate::{
    METRIC, PROTOCOL,
    intern::{Interned, Interner},
    kernel::{KernelRoute, Table},
    links::LinkLoss,
    next_hops::{Hop, LinkIndex, NextHopId, NextHopTable},
    wanted::{Family, PerFamily, Prefix},
};

/// How a route of ours is written in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub(crate) form: Form,
    pub(crate) source: Option<IpAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Form {
    /// Gateway and interface in the route itself. Survives a carrier flap without us.
    Plain(Hop),
    /// Points to a next-hop group.
    Group(NextHopId),
    Unreachable,
    /// Of our protocol, but nothing that we write: always to be replaced. With its next hop, if it names one itself: by
    /// that it is deleted, and no sibling of another program with it.
    Odd(Option<Hop>),
}

/// A route of our protocol that is none of ours: of another metric, or a second one in the place of ours.
pub(crate) type Stray = (Prefix, u32, Form);

/// Protocol number of a foreign route that the kernel shows without one (`RTPROT_UNSPEC`).
pub(crate) const UNKNOWN_PROTOCOL: u8 = 0;

/// A route of another program, in any table, that points to an object or group. IPv4 may have several in one place
/// that differ in nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Borrower {
    pub(crate) table: Table,
    pub(crate) prefix: Prefix,
    pub(crate) metric: u32,
    pub(crate) protocol: u8,
    pub(crate) id: NextHopId,
}

impl Borrower {
    /// What the route is if it is not one of ours and points to a number, whosever.
    pub(crate) fn of(route: &KernelRoute) -> Option<Self> {
        let KernelRoute { table, prefix, metric, protocol, .. } = *route;
        match route.shape.form {
            Form::Group(id) if (table, protocol) != (Table::Main, PROTOCOL) => {
                Some(Self { table, prefix, metric, protocol, id })
            }
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Mirror {
    pub(crate) next_hops: NextHopTable,
    routes: HashMap<Prefix, Interned>,
    shapes: Interner<Shape>,
    foreign: HashMap<Prefix, u8>,
    /// Routes of other programs that point to our objects or groups.
    borrowers: HashSet<Borrower>,
    pub(crate) strays: BTreeSet<Stray>,
    learned: PerFamily<usize>,
    unreachable: PerFamily<usize>,
}

impl Mirror {
    /// Our route for a prefix.
    pub(crate) fn route(&self, prefix: &Prefix) -> Option<&Shape> {
        self.shapes.get(*self.routes.get(prefix)?)
    }

    /// All our routes.
    pub(crate) fn routes(&self) -> impl Iterator<Item = (Prefix, &Shape)> {
        self.routes.iter().filter_map(|(prefix, shape)| Some((*prefix, self.shapes.get(*shape)?)))
    }

    /// Protocol of the route of another program that has our place.
    pub(crate) fn foreign(&self, prefix: &Prefix) -> Option<u8> {
        self.foreign.get(prefix).copied()
    }

    pub(crate) fn foreign_routes(&self) -> impl Iterator<Item = (Prefix, u8)> {
        self.foreign.iter().map(|(prefix, protocol)| (*prefix, *protocol))
    }

    /// Our routes except unreachable ones.
    pub(crate) fn learned(&self) -> PerFamily<usize> {
        self.learned
    }

    /// Our unreachable routes.
    pub(crate) fn unreachable(&self) -> PerFamily<usize> {
        self.unreachable
    }

    /// How many routes point to a group.
    pub(crate) fn users(&self, group: NextHopId) -> usize {
        self.shapes
            .iter()
            .filter(|(_, shape, _)| shape.form == Form::Group(group))
            .map(|(_, _, users)| users)
            .sum()
    }

    /// How many routes each next hop carries, alone or with others.
    pub(crate) fn users_by_hop(&self) -> BTreeMap<Hop, usize> {
        let mut users = BTreeMap::new();
        for (_, shape, routes) in self.shapes.iter() {
            let hops = match &shape.form {
                Form::Plain(hop) => std::slice::from_ref(hop),
                Form::Group(id) => self.next_hops.hops(*id),
                Form::Unreachable | Form::Odd(_) => &[],
            };
            for hop in hops {
                *users.entry(*hop).or_default() += routes;
            }
        }
        users
    }

    /// The kernel holds this route of ours.
    pub(crate) fn put_route(&mut self, prefix: Prefix, shape: &Shape) {
        self.strays.remove(&(prefix, METRIC, shape.form));
        let number = self.shapes.acquire(shape);
        let old = self.routes.insert(prefix, number);
        *self.counter(prefix, shape.form) += 1;
        if let Some(old) = old {
            self.uncount(prefix, old);
        }
    }

    /// The kernel no longer holds our route; whether it did.
    pub(crate) fn remove_route(&mut self, prefix: &Prefix) -> bool {
        let Some(old) = self.routes.remove(prefix) else { return false };
        self.uncount(*prefix, old);
        true
    }

    /// What the route is if it is not one of ours and points to one of our numbers.
    pub(crate) fn borrower(&self, route: &KernelRoute) -> Option<Borrower> {
        Borrower::of(route).filter(|borrower| self.next_hops.is_ours(borrower.id))
    }

    /// Another program's route points to one of our numbers. Whether that is new.
    pub(crate) fn put_borrower(&mut self, route: Borrower) -> bool {
        self.borrowers.insert(route)
    }

    /// Another program's route is gone. Whether it pointed to one of our numbers.
    pub(crate) fn remove_borrower(&mut self, route: &Borrower) -> bool {
        self.borrowers.remove(route)
    }

    /// Of the routes of other programs that point to our numbers only these are left. Whether others were known.
    pub(crate) fn retain_borrowers(&mut self, stays: impl Fn(&Borrower) -> bool) -> bool {
        let before = self.borrowers.len();
        self.borrowers.retain(stays);
        self.borrowers.len() != before
    }

    /// How many routes of other programs point to an object or group.
    pub(crate) fn borrowers(&self, id: NextHopId) -> usize {
        self.borrowers.iter().filter(|borrower| borrower.id == id).count()
    }

    pub(crate) fn put_foreign(&mut self, prefix: Prefix, protocol: u8) {
        self.foreign.insert(prefix, protocol);
    }

    /// Whether a foreign route stood there.
    pub(crate) fn remove_foreign(&mut self, prefix: &Prefix) -> bool {
        self.foreign.remove(prefix).is_some()
    }

    /// The kernel no longer holds this object or group. Returns the prefixes that lost their route with it.
    pub(crate) fn remove_next_hop(&mut self, id: NextHopId) -> Vec<Prefix> {
        let gone = self.next_hops.remove(id);
        self.borrowers.retain(|borrower| !gone.contains(&borrower.id));
        self.remove_where(|form| matches!(form, Form::Group(id) if gone.contains(&id)))
    }

    /// An interface carries nothing any more. Returns the prefixes that lost their route.
    pub(crate) fn remove_link(&mut self, link: LinkIndex, loss: LinkLoss) -> Vec<Prefix> {
        let gone = self.next_hops.remove_link(link);
        self.borrowers.retain(|borrower| !gone.contains(&borrower.id));
        self.remove_where(|form| match form {
            Form::Group(id) => gone.contains(&id),
            Form::Plain(hop) => loss == LinkLoss::Admin && hop.link == link,
            Form::Unreachable | Form::Odd(_) => false,
        })
    }

    /// Whether routes of ours name an interface.
    pub(crate) fn has_routes_over(&self, link: LinkIndex) -> bool {
        self.shapes.iter().any(|(_, shape, _)| matches!(shape.form, Form::Plain(hop) if hop.link == link))
    }

    /// The node has no such address any more: IPv4 routes with that preferred source are gone without a word. IPv6
    /// ones are still there: on a group with that source (`fib6_remove_prefsrc` in net/ipv6/route.c leaves them out),
    /// else without. Returns the prefixes of both.
    pub(crate) fn lose_source(&mut self, address: IpAddr) -> Vec<Prefix> {
        let shapes = self.shapes.iter().filter(|(_, shape, _)| shape.source == Some(address));
        let hit = self.with_shape(&shapes.map(|(number, _, _)| number).collect());
        for prefix in hit.iter().filter(|prefix| prefix.family() == Family::Ipv4) {
            self.remove_route(prefix);
        }
        hit
    }

    /// An interface has no IPv4 address any more: the kernel drops plain routes of that family over it without a
    /// word (`fib_disable_ip` in net/ipv4/fib_frontend.c). Returns their prefixes.
    pub(crate) fn lose_ipv4(&mut self, link: LinkIndex) -> Vec<Prefix> {
        let shapes = self.shapes_where(|form| matches!(form, Form::Plain(hop) if hop.link == link));
        let mut gone = self.with_shape(&shapes);
        gone.retain(|prefix| prefix.family() == Family::Ipv4);
        for prefix in &gone {
            self.remove_route(prefix);
        }
        gone
    }

    /// Prefixes whose route points to a group.
    pub(crate) fn routes_on(&self, group: NextHopId) -> Vec<Prefix> {
        self.with_shape(&self.shapes_where(|form| form == Form::Group(group)))
    }

    fn remove_where(&mut self, hit: impl Fn(Form) -> bool) -> Vec<Prefix> {
        let gone = self.with_shape(&self.shapes_where(hit));
        for prefix in &gone {
            self.remove_route(prefix);
        }
        gone
    }

    fn shapes_where(&self, hit: impl Fn(Form) -> bool) -> BTreeSet<Interned> {
        self.shapes.iter().filter(|(_, shape, _)| hit(shape.form)).map(|(number, _, _)| number).collect()
    }

    fn with_shape(&self, shapes: &BTreeSet<Interned>) -> Vec<Prefix> {
        if shapes.is_empty() {
            return Vec::new();
        }
        self.routes.iter().filter(|(_, shape)| shapes.contains(shape)).map(|(prefix, _)| *prefix).collect()
    }

    fn uncount(&mut self, prefix: Prefix, shape: Interned) {
        if let Some(form) = self.shapes.get(shape).map(|shape| shape.form) {
            *self.counter(prefix, form) -= 1;
        }
        self.shapes.release(shape);
    }

    fn counter(&mut self, prefix: Prefix, form: Form) -> &mut usize {
        let counts = if form == Form::Unreachable { &mut self.unreachable } else { &mut self.learned };
        counts.get_mut(prefix.family())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::next_hops::{Spread, tests::hop};

    fn prefix(text: &str) -> Prefix {
        Prefix::new(text.parse().expect("network"))
    }

    fn shape(form: Form) -> Shape {
        Shape { form, source: None }
    }

    /// 10.0.0.0/24 on the group of both links, 10.0.1.0/24 plain on link 1, 10.0.2.0/24 unreachable.
    fn mirror() -> Mirror {
        let mut mirror = Mirror::default();
        mirror.next_hops.put_object(NextHopId(1), hop("10.1.0.1", 1));
        mirror.next_hops.put_object(NextHopId(2), hop("10.2.0.1", 2));
        mirror.next_hops.put_group(NextHopId(10), vec![NextHopId(1), NextHopId(2)], Spread::Even, None);
        mirror.put_route(prefix("10.0.0.0/24"), &shape(Form::Group(NextHopId(10))));
        mirror.put_route(prefix("10.0.1.0/24"), &shape(Form::Plain(hop("10.1.0.1", 1))));
        mirror.put_route(prefix("10.0.2.0/24"), &shape(Form::Unreachable));
        mirror
    }

    #[test]
    fn carrier_loss_keeps_plain_routes_and_shrinks_groups() {
        let mut mirror = mirror();
        assert_eq!(mirror.remove_link(LinkIndex(1), LinkLoss::Carrier), []);
        assert_eq!(mirror.next_hops.hops(NextHopId(10)), [hop("10.2.0.1", 2)]);
        assert_eq!(mirror.learned().ipv4, 2);
    }

    #[test]
    fn admin_down_takes_plain_routes_too() {
        let mut mirror = mirror();
        assert_eq!(mirror.remove_link(LinkIndex(1), LinkLoss::Admin), [prefix("10.0.1.0/24")]);
    }

    #[test]
    fn last_member_takes_group_and_routes() {
        let mut mirror = mirror();
        assert_eq!(mirror.remove_link(LinkIndex(1), LinkLoss::Carrier), []);
        assert_eq!(mirror.remove_link(LinkIndex(2), LinkLoss::Carrier), [prefix("10.0.0.0/24")]);
        assert_eq!((mirror.learned().ipv4, mirror.unreachable().ipv4), (1, 1));
    }

    #[test]
    fn counts_follow_a_change_of_form() {
        let mut mirror = mirror();
        mirror.put_route(prefix("10.0.0.0/24"), &shape(Form::Unreachable));
        assert_eq!((mirror.learned().ipv4, mirror.unreachable().ipv4), (1, 2));
        assert_eq!(mirror.users(NextHopId(10)), 0);
        assert!(mirror.remove_route(&prefix("10.0.0.0/24")));
        assert!(!mirror.remove_route(&prefix("10.0.0.0/24")));
        assert_eq!((mirror.learned().ipv4, mirror.unreachable().ipv4), (1, 1));
    }
}
