//! A kernel that is told deltas: it refuses what a real one would, and what the contract of
//! [`Delta`](cambric_policy::program::Delta) excludes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cambric_policy::program::{
    ChainName, Delta, Family, MOST_SET_NAME_BYTES, Member, Program, Rule, Set, SetKind, SetName, Statement,
    Table, Verdict,
};

/// Applies a delta.
///
/// # Panics
/// If it does not fit what is there.
pub fn apply(program: &mut Program, delta: Delta) {
    for (family, name, set) in delta.sets_made {
        let before = program.table_mut(family).sets.insert(name.clone(), set);
        assert!(before.is_none(), "set {name} was there before it was made");
    }
    for (family, name, member) in delta.left_first {
        let set = set_mut(program, family, &name);
        assert!(set.members.remove(&member), "{member:?} leaves {name}, where it was not");
    }
    for (family, name, rules) in delta.chains_made {
        let before = program.table_mut(family).chains.insert(name.clone(), rules);
        assert!(before.is_none(), "chain {name} was there before it was made");
    }
    for (veth, placement) in delta.dispatch {
        let before = match placement.clone() {
            Some(placement) => program.dispatch.insert(veth.clone(), placement),
            None => program.dispatch.remove(&veth),
        };
        assert_ne!(before, placement, "the dispatch of {veth} changes to what it was");
    }
    for (family, name, member) in delta.joined {
        let set = set_mut(program, family, &name);
        assert!(set.members.insert(member.clone()), "{member:?} joins {name}, where it was");
    }
    for (family, name, member) in delta.left {
        let set = set_mut(program, family, &name);
        assert!(set.members.remove(&member), "{member:?} leaves {name}, where it was not");
    }
    for (family, name) in delta.chains_dropped {
        assert!(
            program.table_mut(family).chains.remove(&name).is_some(),
            "chain {name} is dropped and was not there"
        );
    }
    for (family, name) in delta.sets_dropped {
        assert!(
            program.table_mut(family).sets.remove(&name).is_some(),
            "set {name} is dropped and was not there"
        );
    }
}

fn set_mut<'a>(program: &'a mut Program, family: Family, name: &SetName) -> &'a mut Set {
    program.table_mut(family).sets.get_mut(name).unwrap_or_else(|| panic!("no set {name}"))
}

/// What is wrong with a program: names that stand for nothing, what nothing leads to, members that no set of their kind
/// takes, rules that the kernel refuses.
pub fn flaws(program: &Program) -> Vec<String> {
    let mut flaws = Vec::new();
    for family in Family::ALL {
        let table = program.table(family);
        for (name, set) in &table.sets {
            flaws.extend(
                flaws_of_set(family, name, set).into_iter().map(|flaw| format!("set {name}: {flaw}")),
            );
        }
        let base = table.base_chains.iter().map(|chain| (&chain.name, &chain.rules));
        let mut led_to: BTreeSet<&ChainName> = BTreeSet::new();
        let mut named: BTreeSet<&SetName> = BTreeSet::new();
        for (chain, rules) in base.chain(&table.chains) {
            for rule in rules {
                let found = flaws_of_rule(table, rule, &mut led_to, &mut named);
                flaws.extend(found.into_iter().map(|flaw| format!("chain {chain}, {}: {flaw}", rule.tag)));
            }
        }
        for (veth, placement) in &program.dispatch {
            for chain in [&placement.egress, &placement.ingress] {
                if !table.chains.contains_key(chain) {
                    flaws.push(format!("{veth} leads to {chain}, which {family:?} has not"));
                }
                led_to.insert(chain);
            }
        }
        let unused_chains = table.chains.keys().filter(|name| !led_to.contains(name) && &***name != "open");
        flaws.extend(unused_chains.map(|name| format!("nothing leads to chain {name}")));
        let unused_sets = table.sets.keys().filter(|name| !named.contains(name));
        flaws.extend(unused_sets.map(|name| format!("no rule names set {name}")));
    }
    flaws
}

fn flaws_of_set(family: Family, name: &str, set: &Set) -> Vec<String> {
    let mut flaws = Vec::new();
    let begins_with = if family == Family::Ipv4 { "cam4" } else { "cam6" };
    if name.len() > MOST_SET_NAME_BYTES || !name.starts_with(begins_with) {
        flaws.push(format!("not a name for {family:?}"));
    }
    // A network and all addresses of it may both be members; two equal networks cannot, once host bits are zero.
    for member in &set.members {
        let (kind, address) = match member {
            Member::Address(address) => (SetKind::Addresses, address),
            Member::Network(address, _) => (SetKind::Networks, address),
            Member::AddressPort(address, _, _) => (SetKind::AddressPorts, address),
            Member::Owner(address, _) => (SetKind::Owners, address),
        };
        if kind != set.kind || Family::of(*address) != family {
            flaws.push(format!("{member:?} in a set of {family:?} {:?}", set.kind));
        }
        if let Member::Network(address, length) = member
            && !is_network(*address, *length)
        {
            flaws.push(format!("{address}/{length} is no network"));
        }
    }
    flaws
}

fn is_network(address: IpAddr, length: u8) -> bool {
    let (bits, width) = match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    (1..=width).contains(&length) && bits.trailing_zeros() >= u32::from(width - length)
}

fn flaws_of_rule<'a>(
    table: &Table,
    rule: &'a Rule,
    led_to: &mut BTreeSet<&'a ChainName>,
    named: &mut BTreeSet<&'a SetName>,
) -> Vec<String> {
    let mut flaws = Vec::new();
    let mut has_protocol = false;
    if rule.tag.len() > 120 {
        flaws.push("its tag is too long".to_owned());
    }
    for (nth, statement) in rule.statements.iter().enumerate() {
        match statement {
            Statement::Protocol(_) => has_protocol = true,
            Statement::DestinationPort(ports) => {
                if !has_protocol || ports.first > ports.last {
                    flaws.push(format!("{ports:?} without protocol, or upside down"));
                }
            }
            Statement::InSet { set, ends, .. } => {
                let dimensions = match table.sets.get(set).map(|set| set.kind) {
                    Some(SetKind::Addresses | SetKind::Networks) => 1,
                    Some(SetKind::AddressPorts | SetKind::Owners) => 2,
                    None => {
                        flaws.push(format!("no set {set}"));
                        continue;
                    }
                };
                if ends.len() != dimensions {
                    flaws.push(format!("{} ends for {set}", ends.len()));
                }
                named.insert(set);
            }
            Statement::Log { prefix, .. } => {
                if prefix.len() > 63 || !prefix.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
                    flaws.push(format!("prefix {prefix:?}"));
                }
            }
            Statement::Verdict(verdict) => {
                if nth + 1 != rule.statements.len() {
                    flaws.push("its verdict is not the last".to_owned());
                }
                if let Verdict::Jump(chain) | Verdict::Goto(chain) = verdict {
                    if !table.chains.contains_key(chain) {
                        flaws.push(format!("no chain {chain}"));
                    }
                    led_to.insert(chain);
                }
            }
            Statement::IsVeth(_)
            | Statement::Established
            | Statement::Counter
            | Statement::AtMostPerSecond(_)
            | Statement::Dispatch(_) => {}
        }
    }
    flaws
}

/// How two programs differ, in a few words; empty: they do not.
pub fn difference(left: &Program, right: &Program) -> Vec<String> {
    let mut lines = Vec::new();
    for family in Family::ALL {
        let (left, right) = (left.table(family), right.table(family));
        if left.base_chains != right.base_chains {
            lines.push(format!("{family:?}: base chains differ"));
        }
        compare(&format!("{family:?} chain"), &left.chains, &right.chains, &mut lines);
        compare(&format!("{family:?} set"), &left.sets, &right.sets, &mut lines);
    }
    compare("dispatch of", &left.dispatch, &right.dispatch, &mut lines);
    lines
}

fn compare<K: Ord + std::fmt::Display, V: PartialEq + std::fmt::Debug>(
    what: &str,
    left: &BTreeMap<K, V>,
    right: &BTreeMap<K, V>,
    lines: &mut Vec<String>,
) {
    let names: BTreeSet<&K> = left.keys().chain(right.keys()).collect();
    for name in names {
        let (left, right) = (left.get(name), right.get(name));
        if left != right {
            lines.push(format!("{what} {name}: {left:?} and {right:?}"));
        }
    }
}
