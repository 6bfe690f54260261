//! What a kernel holds between one program and the next, when a delta is written in the order that
//! [`Delta`] is meant for: packets are judged in between, too.

use std::collections::BTreeMap;

use cambric_policy::program::{
    ChainName, Delta, Family, Member, Placement, Program, Rule, Statement, Verdict,
};

/// The chain that lets everything pass.
const OPEN: &str = "open";

/// All states between, in order, each with what was done last.
///
/// Where members change beside the chains of pods, such a pod is judged by its old and its new chain until the members are
/// right: a map and a set cannot change at once.
pub fn between(before: &Program, delta: &Delta) -> Vec<(String, Program)> {
    let mut now = before.clone();
    let mut stages = Vec::new();
    for (family, name, set) in &delta.sets_made {
        now.table_mut(*family).sets.insert(name.clone(), set.clone());
    }
    for (family, name, member) in &delta.left_first {
        if let Some(set) = now.table_mut(*family).sets.get_mut(name) {
            set.members.remove(member);
        }
        stages.push((format!("{member:?} left {name} first"), now.clone()));
    }
    for (family, name, rules) in &delta.chains_made {
        now.table_mut(*family).chains.insert(name.clone(), rules.clone());
    }
    let members = || delta.joined.iter().chain(&delta.left);
    let is_staged = members().any(|(_, _, member)| !matches!(member, Member::Owner(..)));
    let mut last = BTreeMap::new();
    for (veth, to) in &delta.dispatch {
        let by = match (now.dispatch.get(veth).cloned(), to) {
            (Some(from), Some(to)) if is_staged => {
                last.insert(veth.clone(), to.clone());
                let egress = transitional(&mut now, &from.egress, &to.egress);
                Some(Placement { egress, ingress: transitional(&mut now, &from.ingress, &to.ingress) })
            }
            (_, to) => to.clone(),
        };
        match by {
            Some(by) => now.dispatch.insert(veth.clone(), by),
            None => now.dispatch.remove(veth),
        };
    }
    stages.push(("dispatch".to_owned(), now.clone()));
    for (family, name, member) in &delta.joined {
        if let Some(set) = now.table_mut(*family).sets.get_mut(name) {
            set.members.insert(member.clone());
        }
        stages.push((format!("{member:?} joined {name}"), now.clone()));
    }
    for (family, name, member) in &delta.left {
        if let Some(set) = now.table_mut(*family).sets.get_mut(name) {
            set.members.remove(member);
        }
        stages.push((format!("{member:?} left {name}"), now.clone()));
    }
    now.dispatch.extend(last);
    stages.push(("last dispatch".to_owned(), now));
    stages
}

/// A chain by which only that passes which both let pass.
fn transitional(program: &mut Program, from: &ChainName, to: &ChainName) -> ChainName {
    if &**from == OPEN || from == to {
        return to.clone();
    }
    if &**to == OPEN {
        return from.clone();
    }
    let name: ChainName = format!("t-{from}-{to}").into();
    let rule =
        |verdict| Rule { statements: vec![Statement::Verdict(verdict)], tag: "transitional".to_owned() };
    for family in Family::ALL {
        let rules = vec![rule(Verdict::Jump(from.clone())), rule(Verdict::Goto(to.clone()))];
        program.table_mut(family).chains.insert(name.clone(), rules);
    }
    name
}
