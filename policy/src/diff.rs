//! Wanted against held: what has to be written to make the kernel right. What is right is left alone, wherever it is from.

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use crate::compile::{LETTERS, peers_set, prefix, self_set};
use crate::enforcer::Cause;
use crate::kernel::{Guard, Held, HeldBase, HeldChain, HeldRule, HeldTable, Operation, TableState};
use crate::plan::{Lingering, Members, Plan, Switch, TRANSITIONAL, chain_of, own};
use crate::program::{
    BaseChain, ChainName, Family, IfName, Interface, Member, Program, Rule, Set, SetKind, SetName, Verdict,
};

/// Both maps.
const MAPS: [Interface; 2] = [Interface::Input, Interface::Output];

/// How our tables are to be: who may change them, and the number of the socket that owns them then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) guard: Guard,
    pub(crate) port: u32,
    pub(crate) effort: Effort,
}

/// How what is not as wanted is put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// What is right stays.
    Mend,
    /// All is made anew, in one batch: for what cannot be mended.
    Rebuild,
}

impl Wish {
    /// Whether a table is to be told that it is ours: it was made so, and its owner has gone.
    fn claims(self, state: TableState) -> bool {
        let is_owned = self.guard == Guard::Owned && state.guard == Guard::Owned;
        is_owned && state.owner != Some(self.port)
    }
}

/// The difference, and what must have happened to the kernel if it held all before.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    pub(crate) plan: Plan,
    pub(crate) causes: BTreeSet<Cause>,
}

/// Puts into the plan what the sets lack. `held`: those that are to be compared; the others are as wanted.
///
/// The plugin adds to the owners' sets, too, before the enforcer hears of it: of these only members go whose veth is
/// of another pod now or `is_there` no more.
pub(crate) fn sets(
    program: &Program,
    held: &BTreeMap<SetName, (Family, Set)>,
    is_there: impl Fn(&str) -> bool,
    difference: &mut Difference,
) {
    let Difference { plan, causes } = difference;
    for (name, (family, held)) in held {
        let Some(set) = program.table(*family).sets.get(name) else {
            if is_ours(name) {
                plan.lingering.sets.insert((*family, name.clone()));
            }
            continue;
        };
        if set.kind != held.kind {
            plan.wrong_sets.insert((*family, name.clone()));
            plan.sets_made.push((*family, name.clone(), set.clone()));
            causes.insert(Cause::Set);
            continue;
        }
        let joined = set.members.difference(&held.members).cloned().collect::<Vec<_>>();
        let mut left = held.members.difference(&set.members).cloned().collect::<Vec<_>>();
        if set.kind == SetKind::Owners {
            left.retain(|member| is_false_owner(member, set, &is_there));
        }
        if !(joined.is_empty() && left.is_empty()) {
            causes.insert(Cause::Members);
        }
        let put = |members: Vec<Member>, into: &mut Members| {
            if !members.is_empty() {
                into.insert((*family, name.clone()), members);
            }
        };
        put(joined, &mut plan.joined);
        put(left, &mut plan.left);
    }
}

/// Puts a set into the plan that is there, but of a kind that is none of ours.
pub(crate) fn strange_set(program: &Program, name: &SetName, difference: &mut Difference) {
    let family = family_of(name);
    let Some(set) = program.table(family).sets.get(name) else { return };
    let Difference { plan, causes } = difference;
    plan.wrong_sets.insert((family, name.clone()));
    plan.sets_made.retain(|(_, made, _)| made != name);
    plan.sets_made.push((family, name.clone(), set.clone()));
    causes.insert(Cause::Set);
}

/// Puts into the plan the sets that are not there.
pub(crate) fn missing_sets(program: &Program, there: &BTreeSet<SetName>, difference: &mut Difference) {
    for family in Family::ALL {
        for (name, set) in &program.table(family).sets {
            if !there.contains(name) {
                difference.plan.sets_made.push((family, name.clone(), set.clone()));
                difference.causes.insert(Cause::Set);
            }
        }
    }
}

/// Whether a set is one of ours by its name. Of others nothing is touched, whatever they begin with.
pub(crate) fn is_ours(name: &str) -> bool {
    let is_hash = |text: &str| {
        text.len() == LETTERS && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'))
    };
    Family::ALL.into_iter().any(|family| {
        let of_content =
            name.strip_prefix(prefix(family)).and_then(|rest| rest.strip_prefix(['p', 'n', 'e']));
        *name == *self_set(family) || *name == *peers_set(family) || of_content.is_some_and(is_hash)
    })
}

/// The family of a set of ours.
pub(crate) fn family_of(name: &str) -> Family {
    if name.starts_with(prefix(Family::Ipv6)) { Family::Ipv6 } else { Family::Ipv4 }
}

/// Whether a member of an owners' set that is not wanted may go: its veth is not there, or is of a pod that we know and that does
/// not own this address. Link-local addresses are the plugin's alone, which knows the MAC they are made of.
fn is_false_owner(member: &Member, wanted: &Set, is_there: impl Fn(&str) -> bool) -> bool {
    let Member::Owner(address, veth) = member else { return true };
    let is_known = |wanted: &Member| matches!(wanted, Member::Owner(_, known) if known == veth);
    if wanted.members.iter().any(is_known) { !is_link_local(*address) } else { !is_there(veth) }
}

/// fe80::/10
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// Puts into the plan what the tables lack. The members in it have to be known: by them dispatch changes at once or in stages.
pub(crate) fn tables(
    program: &Program,
    held: &Held,
    wish: Wish,
    known: &Lingering,
    difference: &mut Difference,
) {
    let there = |family| held.table(family).into_iter().flat_map(|table| table.chains.keys());
    let names =
        Family::ALL.into_iter().flat_map(|family| there(family).map(move |name| (family, name.clone())));
    let mut switch = Switch::new(difference.plan.manner(), names.collect());
    for family in Family::ALL {
        let nothing = HeldTable::default();
        // What is foreign in a table cannot be taken out piece by piece.
        let kept = held.table(family).filter(|held| held.foreign.is_empty() && wish.effort == Effort::Mend);
        if kept.is_none() && held.table(family).is_some() {
            difference.plan.made.push(Operation::DropTable(family));
        }
        let mut side = Side {
            program,
            family,
            found: kept.unwrap_or(&nothing),
            is_new: kept.is_none(),
            switch: &mut switch,
            difference: &mut *difference,
        };
        side.table(wish);
        side.maps();
        side.chains(known);
        side.elements();
    }
    switch.give(&mut difference.plan);
    arp(program, held, wish, difference);
    let Plan { left_first, left, .. } = &mut difference.plan;
    let is_new = |veth: &IfName| {
        let is_in = |table: &HeldTable| table.maps.values().any(|map| map.contains_key(veth));
        !Family::ALL.into_iter().filter_map(|family| held.table(family)).any(is_in)
    };
    before_their_addresses_speak(program, is_new, left_first, left);
}

/// Members that go and whose address a pod has that is let in only now, go first.
fn before_their_addresses_speak(
    program: &Program,
    is_new: impl Fn(&IfName) -> bool,
    left_first: &mut Members,
    left: &mut Members,
) {
    let new =
        Family::ALL.into_iter().flat_map(|family| owners(program, family)).filter_map(
            |member| match member {
                Member::Owner(address, veth) if is_new(veth) => Some(*address),
                _ => None,
            },
        );
    let new = new.collect::<BTreeSet<_>>();
    let of_new = |member: &mut Member| match member {
        Member::Address(address) | Member::AddressPort(address, ..) | Member::Network(address, _) => {
            new.contains(address)
        }
        Member::Owner(..) => false,
    };
    for (set, members) in left {
        let first = members.extract_if(.., of_new).collect::<Vec<_>>();
        if !first.is_empty() {
            left_first.entry(set.clone()).or_default().extend(first);
        }
    }
}

/// One family's table and what is found in it.
struct Side<'a> {
    program: &'a Program,
    family: Family,
    found: &'a HeldTable,
    /// Nothing of it is there yet: no packet comes here before all of it is.
    is_new: bool,
    switch: &'a mut Switch,
    difference: &'a mut Difference,
}

impl Side<'_> {
    fn make(&mut self, operation: Operation) {
        self.difference.plan.made.push(operation);
    }

    fn tell(&mut self, cause: Cause) {
        self.difference.causes.insert(cause);
    }

    fn table(&mut self, wish: Wish) {
        let state = self.found.state;
        if self.is_new {
            self.make(Operation::AddTable(self.family, wish.guard));
            self.tell(Cause::Table);
        } else if state.dormant || wish.claims(state) {
            self.make(Operation::AddTable(self.family, state.guard));
            if state.dormant {
                self.tell(Cause::Table);
            }
        }
    }

    fn maps(&mut self) {
        for map in MAPS {
            if !self.found.maps.contains_key(&map) {
                self.make(Operation::AddMap { family: self.family, map });
                self.tell(Cause::Map);
            }
        }
    }

    /// Chains are all there before the first rule is, for rules lead to them.
    fn chains(&mut self, known: &Lingering) {
        let Side { program, family, found, .. } = *self;
        let wanted = program.table(family);
        let mut rules = Vec::new();
        for base in &wanted.base_chains {
            let held = found.chains.get(&base.name);
            let is_right = |held: &&HeldChain| held.base.is_some_and(|place| is_place_of(place, base));
            let kept = held.filter(is_right);
            if kept.is_none() {
                let (chain, hook, priority) = (base.name.clone(), base.hook, base.priority);
                if held.is_some() {
                    self.make(Operation::DropChain { family, chain: chain.clone() });
                }
                self.make(Operation::AddBaseChain { family, chain, hook, priority });
                self.tell(Cause::Chain);
            }
            rules.extend(rewrite(family, &base.name, &base.rules, kept));
        }
        for (name, chain) in &wanted.chains {
            let held = found.chains.get(name);
            let kept = held.filter(|held| held.base.is_none());
            if kept.is_none() {
                if held.is_some() {
                    self.make(Operation::DropChain { family, chain: name.clone() });
                }
                self.make(Operation::AddChain { family, chain: name.clone() });
                self.tell(Cause::Chain);
            }
            rules.extend(rewrite(family, name, chain, kept));
        }
        if !rules.is_empty() {
            self.tell(Cause::Rule);
        }
        self.difference.plan.made.append(&mut rules);
        self.unwanted_chains(known);
    }

    fn unwanted_chains(&mut self, known: &Lingering) {
        let Side { program, family, found, .. } = *self;
        let wanted = program.table(family);
        let is_base = |name: &ChainName| wanted.base_chains.iter().any(|base| base.name == *name);
        for (name, chain) in &found.chains {
            if wanted.chains.contains_key(name) || is_base(name) {
                continue;
            }
            if !known.chains.contains(&(family, name.clone())) && !name.starts_with(TRANSITIONAL) {
                self.tell(Cause::Chain);
            }
            if chain.base.is_some() {
                // Packets come to it by themselves: it goes now.
                self.make(Operation::DropChain { family, chain: name.clone() });
            } else {
                self.difference.plan.lingering.chains.insert((family, name.clone()));
            }
        }
    }

    fn elements(&mut self) {
        for map in MAPS {
            let nothing = BTreeMap::new();
            let held = self.found.maps.get(&map).unwrap_or(&nothing);
            for veth in self.program.dispatch.keys().chain(held.keys()).collect::<BTreeSet<_>>() {
                self.element(map, veth, held.get(veth));
            }
        }
    }

    fn element(&mut self, map: Interface, veth: &IfName, held: Option<&Verdict>) {
        let Side { program, family, found, .. } = *self;
        let to = program.dispatch.get(veth).map(|placement| chain_of(placement, map));
        let from = match held {
            Some(Verdict::Goto(chain)) => Some(chain),
            Some(_) => {
                self.make(Operation::DropElement { family, map, veth: veth.clone() });
                self.tell(Cause::Map);
                None
            }
            None => None,
        };
        if from == to {
            return;
        }
        self.tell(Cause::Map);
        match to {
            Some(chain) if self.is_new => {
                self.make(Operation::AddElement { family, map, veth: veth.clone(), chain: chain.clone() });
            }
            _ => {
                let old = from.and_then(|chain| found.chains.get(chain));
                let is_sound = old.is_some_and(|chain| chain.rules.iter().all(|rule| rule.rule.is_ok()));
                self.switch.lead(family, map, veth, from, to, is_sound);
            }
        }
    }
}

fn is_place_of(place: HeldBase, base: &BaseChain) -> bool {
    place == HeldBase { hook: Some(base.hook), priority: base.priority, accepts: true }
}

/// Makes the rules of a chain right: what is too much goes alone if that suffices, so that counters go on.
fn rewrite(family: Family, chain: &ChainName, wanted: &[Rule], held: Option<&HeldChain>) -> Vec<Operation> {
    let held = held.map_or(&[][..], |held| &held.rules);
    let mut missing = wanted.iter().peekable();
    let mut too_many = Vec::new();
    for HeldRule { handle, rule } in held {
        if missing.next_if(|wanted| rule.as_ref().is_ok_and(|rule| rule == *wanted)).is_none() {
            too_many.push(*handle);
        }
    }
    let chain = || chain.clone();
    if missing.peek().is_none() {
        let drop = |handle| Operation::DropRule { family, chain: chain(), handle };
        return too_many.into_iter().map(drop).collect();
    }
    let flush = (!held.is_empty()).then(|| Operation::FlushChain { family, chain: chain() });
    let add = wanted.iter().map(|rule| Operation::AddRule { family, chain: chain(), rule: rule.clone() });
    flush.into_iter().chain(add).collect()
}

/// The ARP table is made whole or not at all.
fn arp(program: &Program, held: &Held, wish: Wish, difference: &mut Difference) {
    let Difference { plan, causes } = difference;
    let wanted = owners(program, Family::Ipv4).filter_map(own).collect::<BTreeSet<(IfName, Ipv4Addr)>>();
    let nothing = BTreeSet::new();
    let owners = match &held.arp {
        Some(arp)
            if arp.whole && !arp.state.dormant && !wish.claims(arp.state) && wish.effort == Effort::Mend =>
        {
            &arp.owners
        }
        found => {
            if found.is_some() {
                plan.made.push(Operation::DropArpTable);
            }
            plan.made.push(Operation::AddArpTable(wish.guard));
            causes.insert(Cause::Table);
            &nothing
        }
    };
    let operations = &mut plan.first;
    let before = operations.len();
    operations.extend(
        owners.difference(&wanted).map(|(veth, address)| Operation::DropArpOwner(veth.clone(), *address)),
    );
    operations.extend(
        wanted.difference(owners).map(|(veth, address)| Operation::AddArpOwner(veth.clone(), *address)),
    );
    if operations.len() > before {
        causes.insert(Cause::Map);
    }
}

/// Who owns which address, as wanted.
fn owners(program: &Program, family: Family) -> impl Iterator<Item = &Member> {
    program.table(family).sets.get(&self_set(family)).into_iter().flat_map(|set| &set.members)
}
