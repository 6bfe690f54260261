//! The program while it is changed, and the difference to what it was.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::program::{
    ChainName, Delta, Family, IfName, Member, Placement, Program, Rule, Set, SetKind, SetName,
};

/// A program, and what of it changed since the last [`Draft::take_delta`].
#[derive(Debug)]
pub(super) struct Draft {
    program: Program,
    sets_made: BTreeSet<(Family, SetName)>,
    sets_dropped: BTreeSet<(Family, SetName)>,
    chains_made: BTreeSet<ChainName>,
    chains_dropped: BTreeSet<ChainName>,
    /// Members of sets that were there which were touched, and whether they were there before.
    members: BTreeMap<(Family, SetName, Member), bool>,
    /// Veths that were touched, and where they were before.
    dispatch: BTreeMap<IfName, Option<Placement>>,
}

impl Draft {
    pub(super) fn new(program: Program) -> Draft {
        Draft {
            program,
            sets_made: BTreeSet::new(),
            sets_dropped: BTreeSet::new(),
            chains_made: BTreeSet::new(),
            chains_dropped: BTreeSet::new(),
            members: BTreeMap::new(),
            dispatch: BTreeMap::new(),
        }
    }

    pub(super) fn program(&self) -> &Program {
        &self.program
    }

    pub(super) fn make_set(&mut self, family: Family, name: &SetName, kind: SetKind) {
        let set = Set { kind, members: BTreeSet::new() };
        self.program.table_mut(family).sets.insert(name.clone(), set);
        self.sets_made.insert((family, name.clone()));
    }

    pub(super) fn drop_set(&mut self, family: Family, name: &SetName) {
        self.program.table_mut(family).sets.remove(name);
        if !self.sets_made.remove(&(family, name.clone())) {
            self.sets_dropped.insert((family, name.clone()));
        }
    }

    pub(super) fn join(&mut self, family: Family, name: &SetName, member: Member) {
        let Some(set) = self.program.table_mut(family).sets.get_mut(name) else { return };
        let is_made = self.sets_made.contains(&(family, name.clone()));
        if set.members.insert(member.clone()) && !is_made {
            self.members.entry((family, name.clone(), member)).or_insert(false);
        }
    }

    pub(super) fn leave(&mut self, family: Family, name: &SetName, member: Member) {
        let Some(set) = self.program.table_mut(family).sets.get_mut(name) else { return };
        let is_made = self.sets_made.contains(&(family, name.clone()));
        if set.members.remove(&member) && !is_made {
            self.members.entry((family, name.clone(), member)).or_insert(true);
        }
    }

    /// Makes a chain in both families.
    pub(super) fn make_chain(&mut self, name: &ChainName, ipv4: Vec<Rule>, ipv6: Vec<Rule>) {
        self.program.ipv4.chains.insert(name.clone(), ipv4);
        self.program.ipv6.chains.insert(name.clone(), ipv6);
        self.chains_made.insert(name.clone());
    }

    pub(super) fn drop_chain(&mut self, name: &ChainName) {
        self.program.ipv4.chains.remove(name);
        self.program.ipv6.chains.remove(name);
        if !self.chains_made.remove(name) {
            self.chains_dropped.insert(name.clone());
        }
    }

    pub(super) fn place(&mut self, veth: &IfName, placement: Option<Placement>) {
        let before = match placement {
            Some(placement) => self.program.dispatch.insert(veth.clone(), placement),
            None => self.program.dispatch.remove(veth),
        };
        self.dispatch.entry(veth.clone()).or_insert(before);
    }

    /// What changed since this was last asked. Members of addresses that moved to another pod leave first.
    pub(super) fn take_delta(&mut self, is_moved: impl Fn(IpAddr) -> bool) -> Delta {
        let mut delta = Delta::default();
        self.take_members(&mut delta, is_moved);
        let program = &self.program;
        for (family, name) in std::mem::take(&mut self.sets_made) {
            if let Some(set) = program.table(family).sets.get(&name) {
                delta.sets_made.push((family, name, set.clone()));
            }
        }
        delta.sets_dropped.extend(std::mem::take(&mut self.sets_dropped));
        let made = std::mem::take(&mut self.chains_made);
        let dropped = std::mem::take(&mut self.chains_dropped);
        for family in Family::ALL {
            for name in &made {
                if let Some(rules) = program.table(family).chains.get(name) {
                    delta.chains_made.push((family, name.clone(), rules.clone()));
                }
            }
            delta.chains_dropped.extend(dropped.iter().map(|name| (family, name.clone())));
        }
        for (veth, before) in std::mem::take(&mut self.dispatch) {
            let now = program.dispatch.get(&veth).cloned();
            if now != before {
                delta.dispatch.push((veth, now));
            }
        }
        delta
    }

    fn take_members(&mut self, delta: &mut Delta, is_moved: impl Fn(IpAddr) -> bool) {
        let touched = std::mem::take(&mut self.members);
        let mut wired_anew = BTreeSet::new();
        let mut gone = Vec::new();
        for ((family, name, member), was_there) in touched {
            let Some(set) = self.program.table(family).sets.get(&name) else { continue };
            let is_there = set.members.contains(&member);
            if is_there == was_there {
                continue;
            }
            if let (Member::Owner(address, _), true) = (&member, is_there) {
                wired_anew.insert(*address);
            }
            match is_there {
                true => delta.joined.push((family, name, member)),
                false => gone.push((family, name, member)),
            }
        }
        for (family, name, member) in gone {
            let leaves_first = match &member {
                Member::Address(address) | Member::AddressPort(address, _, _) => is_moved(*address),
                Member::Network(address, _) => is_moved(*address),
                Member::Owner(address, _) => wired_anew.contains(address),
            };
            match leaves_first {
                true => delta.left_first.push((family, name, member)),
                false => delta.left.push((family, name, member)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new set is told whole: to book all members beside it costs as much again.
    #[test]
    fn members_of_a_set_are_booked_only_where_the_set_was_there() {
        let name: SetName = "cam4p".into();
        let members = ["10.0.0.1", "10.0.0.2"].map(|ip| Member::Address(ip.parse().expect("an address")));
        let [first, second] = &members;
        let mut draft = Draft::new(Program::default());
        draft.make_set(Family::Ipv4, &name, SetKind::Addresses);
        draft.join(Family::Ipv4, &name, first.clone());
        assert!(draft.members.is_empty());
        let delta = draft.take_delta(|_| false);
        assert_eq!(delta.sets_made[0].2.members, [first.clone()].into());
        assert!(delta.joined.is_empty());

        draft.join(Family::Ipv4, &name, second.clone());
        draft.leave(Family::Ipv4, &name, first.clone());
        let delta = draft.take_delta(|_| false);
        let booked = |member: &Member| [(Family::Ipv4, name.clone(), member.clone())];
        assert_eq!((&delta.joined[..], &delta.left[..]), (&booked(second)[..], &booked(first)[..]));
    }
}
