//! Wanted against held: what has to be written to make the kernel right. What is right is left alone, wherever it is from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use crate::enforcer::Cause;
use crate::kernel::{Guard, Held, HeldBase, HeldChain, HeldRule, HeldTable, Operation, TableState};
use crate::plan::{Lingering, Members, Plan, Switch, TRANSITIONAL, chain_of, own};
use crate::program::{
    BaseChain, ChainName, Family, IfName, Interface, Member, Program, Rule, Set, SetKind, SetName, Table,
    Verdict,
};

/// Both maps.
const MAPS: [Interface; 2] = [Interface::Input, Interface::Output];
/// Name of the sets that say which veth may send from which address, without their prefix.
const OWNERS: &str = "self";
/// Name of the sets of BGP peers, without their prefix.
const PEERS: &str = "peers";

/// Who may change our tables, and the number of the socket that owns them then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) guard: Guard,
    pub(crate) port: u32,
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
    let Some(rest) = name.strip_prefix("cam4").or_else(|| name.strip_prefix("cam6")) else { return false };
    let is_hash =
        |text: &str| text.len() == 20 && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'));
    let of_content = |text: &str| text.strip_prefix(['p', 'n', 'e']).is_some_and(is_hash);
    rest == OWNERS || rest == PEERS || of_content(rest)
}

/// The family of a set of ours.
pub(crate) fn family_of(name: &str) -> Family {
    if name.starts_with("cam6") { Family::Ipv6 } else { Family::Ipv4 }
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
    let manner = difference.plan.manner();
    let mut switch = Switch::new(manner);
    for family in Family::ALL {
        table(program, held.table(family), family, wish, known, &mut switch, difference);
    }
    switch.give(&mut difference.plan);
    arp(program, held, wish, difference);
    let Plan { left_first, left, .. } = &mut difference.plan;
    let new = |veth: &IfName| {
        let is_in = |table: &HeldTable| table.maps.values().any(|map| map.contains_key(veth));
        !Family::ALL.into_iter().filter_map(|family| held.table(family)).any(is_in)
    };
    before_their_addresses_speak(program, new, left_first, left);
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

fn table(
    program: &Program,
    held: Option<&HeldTable>,
    family: Family,
    wish: Wish,
    known: &Lingering,
    switch: &mut Switch,
    difference: &mut Difference,
) {
    let Difference { plan, causes } = difference;
    let nothing = HeldTable::default();
    let (found, is_new) = match held {
        // What is foreign in it cannot be taken out piece by piece.
        Some(held) if !held.foreign.is_empty() => {
            plan.made.push(Operation::DropTable(family));
            causes.insert(Cause::Table);
            (&nothing, true)
        }
        Some(held) => (held, false),
        None => {
            causes.insert(Cause::Table);
            (&nothing, true)
        }
    };
    if is_new {
        plan.made.push(Operation::AddTable(family, wish.guard));
    } else if found.state.dormant || wish.claims(found.state) {
        plan.made.push(Operation::AddTable(family, found.state.guard));
        if found.state.dormant {
            causes.insert(Cause::Table);
        }
    }
    for map in MAPS {
        if !found.maps.contains_key(&map) {
            plan.made.push(Operation::AddMap { family, map });
            causes.insert(Cause::Map);
        }
    }
    let wanted = program.table(family);
    chains(wanted, found, family, known, plan, causes);
    for map in MAPS {
        let empty = BTreeMap::new();
        let led = found.maps.get(&map).unwrap_or(&empty);
        if elements(program, found, led, family, map, switch, plan, is_new) {
            causes.insert(Cause::Map);
        }
    }
}

/// Chains and their rules. Chains are all there before the first rule is, for rules lead to them.
fn chains(
    wanted: &Table,
    found: &HeldTable,
    family: Family,
    known: &Lingering,
    plan: &mut Plan,
    causes: &mut BTreeSet<Cause>,
) {
    let mut rules = Vec::new();
    let mut base_names = BTreeSet::new();
    for base in &wanted.base_chains {
        base_names.insert(&base.name);
        let held = found.chains.get(&base.name);
        let is_right = held.and_then(|held| held.base).is_some_and(|place| is_place_of(place, base));
        if is_right {
            rules.extend(rewrite(family, &base.name, &base.rules, held, causes));
            continue;
        }
        causes.insert(Cause::Chain);
        if held.is_some() {
            plan.made.push(Operation::FlushChain { family, chain: base.name.clone() });
            plan.made.push(Operation::DropChain { family, chain: base.name.clone() });
        }
        let (chain, hook, priority) = (base.name.clone(), base.hook, base.priority);
        plan.made.push(Operation::AddBaseChain { family, chain, hook, priority });
        rules.extend(rewrite(family, &base.name, &base.rules, None, causes));
    }
    for (name, chain) in &wanted.chains {
        let mut held = found.chains.get(name);
        if held.is_some_and(|held| held.base.is_some()) {
            plan.made.push(Operation::DropChain { family, chain: name.clone() });
            held = None;
        }
        if held.is_none() {
            plan.made.push(Operation::AddChain { family, chain: name.clone() });
            causes.insert(Cause::Chain);
        }
        rules.extend(rewrite(family, name, chain, held, causes));
    }
    for (name, chain) in &found.chains {
        if wanted.chains.contains_key(name) || base_names.contains(name) {
            continue;
        }
        if !known.chains.contains(&(family, name.clone())) && !name.starts_with(TRANSITIONAL) {
            causes.insert(Cause::Chain);
        }
        if chain.base.is_some() {
            // It sees packets by itself: it goes now, rules first, for they may lead to others that go.
            rules.push(Operation::FlushChain { family, chain: name.clone() });
            rules.push(Operation::DropChain { family, chain: name.clone() });
        } else {
            plan.lingering.chains.insert((family, name.clone()));
        }
    }
    plan.made.append(&mut rules);
}

fn is_place_of(place: HeldBase, base: &BaseChain) -> bool {
    place == HeldBase { hook: Some(base.hook), priority: base.priority, accepts: true }
}

/// Makes the rules of a chain right: what is too much goes alone if that suffices, so that counters go on.
fn rewrite(
    family: Family,
    chain: &ChainName,
    wanted: &[Rule],
    held: Option<&HeldChain>,
    causes: &mut BTreeSet<Cause>,
) -> Vec<Operation> {
    let held = held.map_or(&[][..], |held| &held.rules);
    let mut missing = wanted.iter().peekable();
    let mut too_many = Vec::new();
    for HeldRule { handle, rule } in held {
        if missing.next_if(|wanted| rule.as_ref().is_ok_and(|rule| rule == *wanted)).is_none() {
            too_many.push(*handle);
        }
    }
    let mut operations = Vec::new();
    if missing.peek().is_none() {
        operations.extend(too_many.iter().map(|handle| Operation::DropRule {
            family,
            chain: chain.clone(),
            handle: *handle,
        }));
    } else {
        if !held.is_empty() {
            operations.push(Operation::FlushChain { family, chain: chain.clone() });
        }
        operations.extend(wanted.iter().map(|rule| Operation::AddRule {
            family,
            chain: chain.clone(),
            rule: rule.clone(),
        }));
    }
    if !operations.is_empty() {
        causes.insert(Cause::Rule);
    }
    operations
}

/// Elements of one map; whether any was not as wanted.
fn elements(
    program: &Program,
    found: &HeldTable,
    led: &BTreeMap<IfName, Verdict>,
    family: Family,
    map: Interface,
    switch: &mut Switch,
    plan: &mut Plan,
    is_new: bool,
) -> bool {
    let mut differs = false;
    let veths = program.dispatch.keys().chain(led.keys()).collect::<BTreeSet<_>>();
    for veth in veths {
        let to = program.dispatch.get(veth).map(|placement| chain_of(placement, map));
        let from = match led.get(veth) {
            Some(Verdict::Goto(chain)) => Some(chain),
            Some(_) => {
                plan.made.push(Operation::DropElement { family, map, veth: veth.clone() });
                differs = true;
                None
            }
            None => None,
        };
        if from == to {
            continue;
        }
        differs = true;
        if let (true, Some(chain)) = (is_new, to) {
            // No packet has come here yet: nothing is in two steps.
            plan.made.push(Operation::AddElement { family, map, veth: veth.clone(), chain: chain.clone() });
        } else {
            let chain = from.and_then(|chain| found.chains.get(chain));
            let is_sound = chain.is_some_and(|chain| chain.rules.iter().all(|rule| rule.rule.is_ok()));
            switch.lead(family, map, veth, from, to, is_sound);
        }
    }
    differs
}

/// The ARP table is made whole or not at all.
fn arp(program: &Program, held: &Held, wish: Wish, difference: &mut Difference) {
    let Difference { plan, causes } = difference;
    let wanted = owners(program, Family::Ipv4).filter_map(own).collect::<BTreeSet<(IfName, Ipv4Addr)>>();
    let nothing = BTreeSet::new();
    let owners = match &held.arp {
        Some(arp) if arp.whole && !arp.state.dormant && !wish.claims(arp.state) => &arp.owners,
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
    let name = match family {
        Family::Ipv4 => "cam4self",
        Family::Ipv6 => "cam6self",
    };
    program.table(family).sets.get(name).into_iter().flat_map(|set| &set.members)
}
