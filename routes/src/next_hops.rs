//! Next-hop objects and groups: what they are keyed by, how they are numbered, what goes when one goes.
//!
//! An object is one way out: a gateway on an interface. A group spreads packets over objects. Both carry our
//! protocol number, so whatever number an earlier run gave them they are found again and adopted; new ones
//! come from a range of their own, [`OBJECT_IDS`] and [`GROUP_IDS`], chosen to be recognised at a glance in
//! `ip nexthop`.
//!
//! Deleting an object takes it out of its groups; a group that loses its last member goes, and its routes
//! with it. The kernel does so without telling about the routes, so this table repeats the rule.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    net::IpAddr,
    ops::Range,
};

/// Numbers of new objects.
pub(crate) const OBJECT_IDS: Range<u32> = 203_000_001..203_500_000;
/// Numbers of new groups.
pub(crate) const GROUP_IDS: Range<u32> = 203_500_001..204_000_000;

/// Number of an interface in this network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkIndex(pub u32);

/// Number of a next-hop object or group (`NHA_ID`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NextHopId(pub u32);

impl fmt::Display for NextHopId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A gateway on an interface: the key of an object. The family is the gateway's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hop {
    /// Address of the neighbour.
    pub gateway: IpAddr,
    /// The interface it is reached through.
    pub link: LinkIndex,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) members: Vec<NextHopId>,
    pub(crate) spread: Spread,
    /// What the members mean, in order; nothing if it forwards in a way that we never write.
    pub(crate) hops: Vec<Hop>,
    /// The hops it was made for. It may have lost some since; when they return, this group can grow again.
    pub(crate) purpose: Vec<Hop>,
}

/// How a group spreads packets over its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spread {
    Even,
    /// By weights: not as we write it.
    Uneven,
}

/// The next-hop objects and groups that the kernel holds.
#[derive(Debug, Default)]
pub(crate) struct NextHopTable {
    objects: BTreeMap<NextHopId, Hop>,
    groups: BTreeMap<NextHopId, Group>,
    /// Groups by their hops; of several equal ones the lowest.
    by_hops: HashMap<Vec<Hop>, NextHopId>,
    /// Numbers that others use, and the members of their groups.
    foreign: BTreeMap<NextHopId, Vec<NextHopId>>,
    /// Numbers handed out for messages that are not written yet.
    reserved: BTreeSet<NextHopId>,
}

impl NextHopTable {
    pub(crate) fn objects(&self) -> impl Iterator<Item = (NextHopId, Hop)> {
        self.objects.iter().map(|(id, hop)| (*id, *hop))
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = (NextHopId, &Group)> {
        self.groups.iter().map(|(id, group)| (*id, group))
    }

    pub(crate) fn group(&self, id: NextHopId) -> Option<&Group> {
        self.groups.get(&id)
    }

    pub(crate) fn object(&self, id: NextHopId) -> Option<Hop> {
        self.objects.get(&id).copied()
    }

    /// The object for a hop.
    pub(crate) fn object_of(&self, hop: &Hop) -> Option<NextHopId> {
        self.objects.iter().find(|(_, known)| *known == hop).map(|(id, _)| *id)
    }

    /// The hops a group spreads over, in order.
    pub(crate) fn hops(&self, group: NextHopId) -> &[Hop] {
        self.groups.get(&group).map_or(&[], |group| &group.hops)
    }

    /// The group that spreads over exactly these hops; of several equal ones always the same.
    pub(crate) fn group_of(&self, hops: &[Hop]) -> Option<NextHopId> {
        self.by_hops.get(hops).copied()
    }

    /// Numbers that others use.
    pub(crate) fn foreign(&self) -> impl Iterator<Item = NextHopId> {
        self.foreign.keys().copied()
    }

    /// Groups made for these hops that spread over others now.
    pub(crate) fn changed_groups_for(&self, purpose: &[Hop]) -> impl Iterator<Item = NextHopId> {
        self.groups.iter().filter(move |(_, group)| group.purpose == purpose).map(|(id, _)| *id)
    }

    /// An unused number for an object.
    pub(crate) fn new_object_id(&mut self) -> Option<NextHopId> {
        self.unused(OBJECT_IDS)
    }

    /// An unused number for a group.
    pub(crate) fn new_group_id(&mut self) -> Option<NextHopId> {
        self.unused(GROUP_IDS)
    }

    fn unused(&mut self, range: Range<u32>) -> Option<NextHopId> {
        let id = range.map(NextHopId).find(|id| !self.is_used(*id))?;
        self.reserved.insert(id);
        Some(id)
    }

    fn is_used(&self, id: NextHopId) -> bool {
        self.objects.contains_key(&id)
            || self.groups.contains_key(&id)
            || self.foreign.contains_key(&id)
            || self.reserved.contains(&id)
    }

    /// The kernel holds this object.
    pub(crate) fn put_object(&mut self, id: NextHopId, hop: Hop) {
        self.forget_number(id);
        self.groups.remove(&id);
        self.objects.insert(id, hop);
        self.refresh();
    }

    /// The kernel holds this group. `purpose`: what it was made for, if we know; else what it was or is.
    pub(crate) fn put_group(
        &mut self,
        id: NextHopId,
        members: Vec<NextHopId>,
        spread: Spread,
        purpose: Option<Vec<Hop>>,
    ) {
        self.forget_number(id);
        self.objects.remove(&id);
        let purpose = purpose.or_else(|| self.groups.get(&id).map(|group| group.purpose.clone()));
        self.groups.insert(id, Group { members, spread, hops: Vec::new(), purpose: Vec::new() });
        self.refresh();
        if let Some(group) = self.groups.get_mut(&id) {
            group.purpose = purpose.unwrap_or_else(|| group.hops.clone());
        }
    }

    /// Works out again what follows from objects and members. Groups are few and change seldom; routes ask
    /// often.
    fn refresh(&mut self) {
        self.by_hops.clear();
        for (id, group) in &mut self.groups {
            // A member of another program makes the group forward elsewhere, too: then it equals no set of ours.
            let hops = group.members.iter().map(|member| self.objects.get(member).copied());
            let as_ours = hops.collect::<Option<Vec<Hop>>>().filter(|_| group.spread == Spread::Even);
            group.hops = as_ours.unwrap_or_default();
            group.hops.sort_unstable();
            if !group.hops.is_empty() {
                self.by_hops.entry(group.hops.clone()).or_insert(*id);
            }
        }
    }

    /// Another program holds this number, maybe for a group with these members.
    pub(crate) fn put_foreign(&mut self, id: NextHopId, members: Vec<NextHopId>) {
        self.forget_number(id);
        self.foreign.insert(id, members);
    }

    /// Whether it is an object or a group of ours.
    pub(crate) fn is_ours(&self, id: NextHopId) -> bool {
        self.objects.contains_key(&id) || self.groups.contains_key(&id)
    }

    /// Whether a group of another program has it as a member.
    pub(crate) fn is_foreign_member(&self, id: NextHopId) -> bool {
        self.foreign.values().any(|members| members.contains(&id))
    }

    /// Another program holds a number that was ours. Groups keep it as a member, and forward as that program wants.
    pub(crate) fn take_over(&mut self, id: NextHopId, members: Vec<NextHopId>) {
        self.objects.remove(&id);
        self.groups.remove(&id);
        self.put_foreign(id, members);
        self.refresh();
    }

    /// A message that would have used this number was refused.
    pub(crate) fn forget_number(&mut self, id: NextHopId) {
        self.reserved.remove(&id);
        self.foreign.remove(&id);
    }

    /// The kernel no longer holds this object or group. Returns the groups whose routes went with it.
    pub(crate) fn remove(&mut self, id: NextHopId) -> Vec<NextHopId> {
        self.forget_number(id);
        if self.groups.remove(&id).is_some() {
            self.refresh();
            return vec![id];
        }
        if self.objects.remove(&id).is_none() {
            return Vec::new();
        }
        for group in self.groups.values_mut() {
            group.members.retain(|member| *member != id);
        }
        let emptied = self.groups.extract_if(.., |_, group| group.members.is_empty()).map(|(id, _)| id);
        // Routes may also name the object itself, though we never write such.
        let gone = emptied.chain([id]).collect();
        self.refresh();
        gone
    }

    /// An interface carries nothing any more: its objects go. Returns the groups whose routes went with them.
    pub(crate) fn remove_link(&mut self, link: LinkIndex) -> Vec<NextHopId> {
        let gone: Vec<NextHopId> =
            self.objects().filter(|(_, hop)| hop.link == link).map(|(id, _)| id).collect();
        gone.into_iter().flat_map(|id| self.remove(id)).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn hop(gateway: &str, link: u32) -> Hop {
        Hop { gateway: gateway.parse().expect("address"), link: LinkIndex(link) }
    }

    /// Objects 1 and 2 on links 1 and 2, group 10 of both, group 11 of object 1 only.
    fn table() -> NextHopTable {
        let mut table = NextHopTable::default();
        table.put_object(NextHopId(1), hop("10.1.0.1", 1));
        table.put_object(NextHopId(2), hop("10.2.0.1", 2));
        table.put_group(NextHopId(10), vec![NextHopId(2), NextHopId(1)], Spread::Even, None);
        table.put_group(NextHopId(11), vec![NextHopId(1)], Spread::Even, None);
        table
    }

    #[test]
    fn group_is_found_by_its_hops_in_any_order_of_members() {
        let table = table();
        let hops = [hop("10.1.0.1", 1), hop("10.2.0.1", 2)];
        assert_eq!(table.group_of(&hops), Some(NextHopId(10)));
        assert_eq!(table.group_of(&hops[1..]), None);
    }

    #[test]
    fn deleting_an_object_shrinks_groups_and_removes_emptied_ones() {
        let mut table = table();
        assert_eq!(table.remove(NextHopId(1)), [NextHopId(11), NextHopId(1)]);
        assert_eq!(table.hops(NextHopId(10)), [hop("10.2.0.1", 2)]);
        assert_eq!(table.group(NextHopId(11)), None);
    }

    #[test]
    fn shrunken_group_remembers_its_purpose() {
        let mut table = table();
        let purpose = [hop("10.1.0.1", 1), hop("10.2.0.1", 2)];
        assert_eq!(table.remove_link(LinkIndex(2)), [NextHopId(2)]);
        assert_eq!(table.changed_groups_for(&purpose).collect::<Vec<_>>(), [NextHopId(10)]);
        table.put_group(NextHopId(10), vec![NextHopId(1)], Spread::Even, None);
        assert_eq!(table.changed_groups_for(&purpose).collect::<Vec<_>>(), [NextHopId(10)]);
    }

    #[test]
    fn group_with_weights_or_a_foreign_member_equals_no_set_of_ours() {
        let hops = [hop("10.1.0.1", 1), hop("10.2.0.1", 2)];
        let members = vec![NextHopId(1), NextHopId(2)];
        let mut uneven = table();
        uneven.put_group(NextHopId(10), members.clone(), Spread::Uneven, None);
        let mut taken = table();
        taken.take_over(NextHopId(1), Vec::new());
        for mut table in [uneven, taken] {
            assert_eq!((table.group_of(&hops), table.group_of(&hops[1..])), (None, None));
            assert_eq!(table.hops(NextHopId(10)), []);
            assert_eq!(table.changed_groups_for(&hops).collect::<Vec<_>>(), [NextHopId(10)]);
            table.put_object(NextHopId(1), hops[0]);
            table.put_group(NextHopId(10), members.clone(), Spread::Even, None);
            assert_eq!(table.group_of(&hops), Some(NextHopId(10)));
        }
    }

    #[test]
    fn new_numbers_avoid_those_in_use_by_us_and_by_others() {
        let mut table = NextHopTable::default();
        table.put_foreign(NextHopId(OBJECT_IDS.start), Vec::new());
        table.put_object(NextHopId(OBJECT_IDS.start + 1), hop("10.1.0.1", 1));
        let id = table.new_object_id();
        assert_eq!(id, Some(NextHopId(OBJECT_IDS.start + 2)));
        assert_eq!(table.new_object_id(), Some(NextHopId(OBJECT_IDS.start + 3)));
        table.forget_number(NextHopId(OBJECT_IDS.start + 2));
        assert_eq!(table.new_object_id(), id);
    }
}
