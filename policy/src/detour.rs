//! Where sets alone change, and two pods of this node with them: a namespace gets other labels, and by that one of its pods
//! may no longer send to another, which from now on lets it in. Whoever joins before the other leaves lets through what is
//! allowed neither before nor after; whoever leaves first cuts off what is allowed all the time.
//!
//! So for the time of the change the veths of these pods take a detour. Sets that change get copies that are as they will
//! be, chains that look into them get copies that look into the copies, and by a transitional chain only that passes which
//! both let pass.
//!
//! ```text
//! veth -> chain                  before
//! veth -> jump chain             while members of its sets join and leave
//!         goto copy              its sets do not change any more
//! veth -> chain                  after
//! ```
//!
//! Between two nodes there is no such order: each learns of the change when it does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::compile::{prefix, self_set};
use crate::kernel::Operation;
use crate::plan::{Members, Mirror, Plan, TRANSITIONAL, chain_of};
use crate::program::{
    ChainName, Family, IfName, Interface, Member, Program, Rule, SetName, Statement, Verdict,
};

/// What the names of the two chains of a detour begin with behind [`TRANSITIONAL`]; a number and the chain's name follow.
const COPY: &str = "copy";
const BOTH: &str = "both";

/// Puts the detours into a plan that needs some. `program` is what it leads to.
pub(crate) fn add(plan: &mut Plan, program: &Program, held: &Mirror) {
    if plan.joined.is_empty() || plan.left.is_empty() {
        return;
    }
    let owners = owners(program);
    let (joined, left) = (local(&plan.joined, &owners), local(&plan.left, &owners));
    // One pod's change is no other's: its own chains, or the other side's sets, are as they were.
    if joined.is_empty() || left.is_empty() || joined.union(&left).count() < 2 {
        return;
    }
    let veths = joined.union(&left).filter(|veth| plan.dispatch.iter().all(|(other, _)| other != **veth));
    let veths = veths.map(|veth| (*veth).clone()).collect::<Vec<_>>();
    for family in Family::ALL {
        let changed = changed(family, plan, &owners);
        let mut detour = Detour { family, program, held, changed, copies: BTreeMap::new() };
        for veth in &veths {
            let Some(placement) = held.dispatch.get(veth) else { continue };
            for map in [Interface::Input, Interface::Output] {
                detour.lead(veth, map, chain_of(placement, map), plan);
            }
        }
        detour.end(plan);
    }
}

/// Who has which address on this node.
fn owners(program: &Program) -> BTreeMap<IpAddr, IfName> {
    let sets = Family::ALL.into_iter().filter_map(|family| program.table(family).sets.get(&self_set(family)));
    let owner = |member: &Member| match member {
        Member::Owner(address, veth) => Some((*address, veth.clone())),
        _ => None,
    };
    sets.flat_map(|set| set.members.iter().filter_map(owner)).collect()
}

/// The veths of these members.
fn local<'a>(members: &Members, owners: &'a BTreeMap<IpAddr, IfName>) -> BTreeSet<&'a IfName> {
    members.values().flatten().filter_map(|member| owner(member, owners)).collect()
}

/// Owners' sets say nothing of other pods.
fn owner<'a>(member: &Member, owners: &'a BTreeMap<IpAddr, IfName>) -> Option<&'a IfName> {
    match member {
        Member::Address(address) | Member::Network(address, _) | Member::AddressPort(address, _, _) => {
            owners.get(address)
        }
        Member::Owner(..) => None,
    }
}

/// The sets in which something changes for pods of this node.
fn changed(family: Family, plan: &Plan, owners: &BTreeMap<IpAddr, IfName>) -> BTreeSet<SetName> {
    let all = plan.joined.iter().chain(&plan.left).filter(|((of, _), _)| *of == family);
    let is_local = |members: &[Member]| members.iter().any(|member| owner(member, owners).is_some());
    all.filter(|(_, members)| is_local(members)).map(|((_, name), _)| name.clone()).collect()
}

/// Those of one family.
struct Detour<'a> {
    family: Family,
    program: &'a Program,
    held: &'a Mirror,
    changed: BTreeSet<SetName>,
    /// By chain: its copy and its transitional chain.
    copies: BTreeMap<ChainName, [ChainName; 2]>,
}

impl Detour<'_> {
    /// Leads a veth around, if its chain looks into a set that changes.
    fn lead(&mut self, veth: &IfName, map: Interface, chain: &ChainName, plan: &mut Plan) {
        let Some(rules) = self.program.table(self.family).chains.get(chain) else { return };
        if !rules.iter().flat_map(|rule| &rule.statements).any(|statement| self.looks_into(statement)) {
            return;
        }
        let [_, transitional] = match self.copies.get(chain) {
            Some(copies) => copies.clone(),
            None => self.copy(chain, rules, plan),
        };
        let family = self.family;
        let drop = || Operation::DropElement { family, map, veth: veth.clone() };
        let add = |chain| Operation::AddElement { family, map, veth: veth.clone(), chain };
        plan.first.extend([drop(), add(transitional)]);
        plan.last.extend([drop(), add(chain.clone())]);
        plan.switches = true;
        plan.is_staged = true;
        plan.has_detours = true;
    }

    fn looks_into(&self, statement: &Statement) -> bool {
        matches!(statement, Statement::InSet { set, .. } if self.changed.contains(set))
    }

    fn copy(&mut self, chain: &ChainName, rules: &[Rule], plan: &mut Plan) -> [ChainName; 2] {
        let [copy, transitional] = self.free_names(chain, plan);
        let verdict =
            |verdict| Rule { statements: vec![Statement::Verdict(verdict)], tag: "transitional".to_owned() };
        let both = [verdict(Verdict::Jump(chain.clone())), verdict(Verdict::Goto(copy.clone()))];
        let copied = rules.iter().map(|rule| self.copy_rule(rule)).collect();
        for (name, rules) in [(&copy, copied), (&transitional, both.to_vec())] {
            let (family, chain) = (self.family, name.clone());
            plan.made.push(Operation::AddChain { family, chain: chain.clone() });
            let rule = |rule| Operation::AddRule { family, chain: chain.clone(), rule };
            plan.made.extend(rules.into_iter().map(rule));
        }
        self.copies.insert(chain.clone(), [copy.clone(), transitional.clone()]);
        [copy, transitional]
    }

    /// Those that no chain has which was left behind.
    fn free_names(&self, chain: &ChainName, plan: &Plan) -> [ChainName; 2] {
        let lingering = &self.held.lingering.chains;
        let is_taken = |name: &ChainName| {
            let name = (self.family, name.clone());
            lingering.contains(&name) || plan.lingering.chains.contains(&name)
        };
        let names = |nth: usize| [COPY, BOTH].map(|what| format!("{TRANSITIONAL}{what}{nth}-{chain}").into());
        let mut nth = 0;
        while names(nth).iter().any(is_taken) {
            nth += 1;
        }
        names(nth)
    }

    fn copy_rule(&self, rule: &Rule) -> Rule {
        let copy = |statement: &Statement| match statement {
            Statement::InSet { set, ends, inverted } if self.changed.contains(set) => {
                Statement::InSet { set: copy_name(self.family, set), ends: ends.clone(), inverted: *inverted }
            }
            other => other.clone(),
        };
        Rule { statements: rule.statements.iter().map(copy).collect(), tag: rule.tag.clone() }
    }

    /// Makes the sets that copies look into, and sees to the end of all copies.
    fn end(self, plan: &mut Plan) {
        let (family, table) = (self.family, self.program.table(self.family));
        let rules = self.copies.keys().filter_map(|chain| table.chains.get(chain)).flatten();
        let looked_into = rules.flat_map(|rule| &rule.statements).filter_map(|statement| match statement {
            Statement::InSet { set, .. } if self.changed.contains(set) => Some(set),
            _ => None,
        });
        for name in looked_into.collect::<BTreeSet<_>>() {
            let Some(set) = table.sets.get(name) else { continue };
            let copy = copy_name(family, name);
            plan.sets_made.push((family, copy.clone(), set.clone()));
            plan.lingering.sets.insert((family, copy));
        }
        for [copy, transitional] in self.copies.into_values() {
            plan.last.extend([transitional, copy].map(|chain| Operation::DropChain { family, chain }));
        }
    }
}

/// A name of ours, too, so that a copy that was left behind is known again; it is the same backwards.
fn copy_name(family: Family, set: &SetName) -> SetName {
    let begin = prefix(family).len() + 1;
    match (set.get(..begin), set.get(begin..)) {
        (Some(kind), Some(hash)) => format!("{kind}{}", hash.chars().rev().collect::<String>()).into(),
        _ => set.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    use super::*;
    use crate::plan::Manner;
    use crate::program::{End, Placement, Set, SetKind};

    const EARLY: &str = "cam4paaaaaaaaaaaaaaaaaaab";
    const LATE: &str = "cam4pcaaaaaaaaaaaaaaaaaaa";

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 244, 0, last).into()
    }

    /// Pod 1 on `cam1` and pod 2 on `cam2`: the chain `e-1` looks into one set, the chain `i-2` into the other.
    fn world() -> (Program, Mirror) {
        let mut program = Program::default();
        let looks_into = |set: &str, end| Rule {
            statements: vec![
                Statement::InSet { set: set.into(), ends: vec![end], inverted: false },
                Statement::Verdict(Verdict::Return),
            ],
            tag: String::new(),
        };
        let table = &mut program.ipv4;
        table.chains.insert("e-1".into(), vec![looks_into(EARLY, End::Destination)]);
        table.chains.insert("i-2".into(), vec![looks_into(LATE, End::Source)]);
        table.chains.insert("open".into(), Vec::new());
        let set =
            |members: &[Member]| Set { kind: SetKind::Addresses, members: members.iter().cloned().collect() };
        let owners = [1, 2].map(|nth| Member::Owner(address(nth), format!("cam{nth}").into()));
        table.sets.insert(self_set(Family::Ipv4), set(&owners));
        table.sets.insert(EARLY.into(), set(&[]));
        table.sets.insert(LATE.into(), set(&[Member::Address(address(1)), Member::Address(address(2))]));
        let mut held = Mirror::default();
        let placed =
            |egress: &str, ingress: &str| Placement { egress: egress.into(), ingress: ingress.into() };
        held.dispatch.insert("cam1".into(), placed("e-1", "open"));
        held.dispatch.insert("cam2".into(), placed("open", "i-2"));
        (program, held)
    }

    fn members(set: &str, last: &[u8]) -> Members {
        let members = last.iter().map(|last| Member::Address(address(*last))).collect();
        Members::from([((Family::Ipv4, SetName::from(set)), members)])
    }

    #[test]
    fn two_pods_whose_sets_change_take_a_detour_and_come_back() {
        let (program, held) = world();
        let mut plan =
            Plan { joined: members(LATE, &[1, 2]), left: members(EARLY, &[1, 2]), ..Plan::default() };
        add(&mut plan, &program, &held);
        let led = |operations: &[Operation]| -> BTreeSet<(String, String)> {
            let led = operations.iter().filter_map(|operation| match operation {
                Operation::AddElement { veth, chain, .. } => Some((veth.to_string(), chain.to_string())),
                _ => None,
            });
            led.collect()
        };
        let pair = |veth: &str, chain: &str| (veth.to_owned(), chain.to_owned());
        assert_eq!(led(&plan.first), [pair("cam1", "t-both0-e-1"), pair("cam2", "t-both0-i-2")].into());
        assert_eq!(led(&plan.last), [pair("cam1", "e-1"), pair("cam2", "i-2")].into());
        let made: BTreeSet<&str> = plan.sets_made.iter().map(|(_, name, _)| &**name).collect();
        assert_eq!(made, ["cam4pbaaaaaaaaaaaaaaaaaaa", "cam4paaaaaaaaaaaaaaaaaaac"].into());
        assert_eq!(plan.lingering.sets.len(), 2, "copies of sets go at leisure");
        let dropped = plan.last.iter().filter(|operation| matches!(operation, Operation::DropChain { .. }));
        assert_eq!(dropped.count(), 4, "chains go at once");
        assert!(plan.waits().before_joined && plan.waits().before_left && plan.waits().before_last);
    }

    #[test]
    fn a_detour_that_is_made_again_is_another_one() {
        let (program, held) = world();
        let mut plan =
            Plan { joined: members(LATE, &[1, 2]), left: members(EARLY, &[1, 2]), ..Plan::default() };
        add(&mut plan, &program, &held);
        assert!(plan.has_detours && plan.manner() == Manner::Staged);
        let made = |plan: &Plan| -> BTreeSet<ChainName> {
            let made = plan.made.iter().filter_map(|operation| match operation {
                Operation::AddChain { chain, .. } => Some(chain.clone()),
                _ => None,
            });
            made.collect()
        };
        let before = made(&plan);
        // As after a conflict: the tables are read again, and what was made of the first is found in them.
        for operations in [&mut plan.made, &mut plan.first, &mut plan.last] {
            operations.clear();
        }
        plan.lingering.chains.extend(before.iter().map(|chain| (Family::Ipv4, chain.clone())));
        add(&mut plan, &program, &held);
        assert_eq!(made(&plan).len(), before.len());
        assert!(made(&plan).is_disjoint(&before) && plan.first.len() == 4, "{plan:#?}");
    }

    #[test]
    fn one_pod_alone_takes_none() {
        let (program, held) = world();
        let mut plan = Plan { joined: members(LATE, &[1]), left: members(EARLY, &[1]), ..Plan::default() };
        add(&mut plan, &program, &held);
        assert!(plan.made.is_empty() && plan.first.is_empty() && plan.last.is_empty());
    }

    #[test]
    fn pods_of_other_nodes_take_none() {
        let (program, held) = world();
        let mut plan = Plan { joined: members(LATE, &[7, 1]), left: members(EARLY, &[8]), ..Plan::default() };
        add(&mut plan, &program, &held);
        assert!(plan.made.is_empty() && plan.first.is_empty() && plan.last.is_empty());
    }
}
