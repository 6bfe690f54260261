//! Changes, played on a kernel of plain data.

use serde_json::json;

use super::*;
use crate::change::Change;
use crate::compile::Compiler;
use crate::diff::tests::{compiler, endpoint, holding, plain, play, pod, policy};

/// Takes changes in, plays the plan, and sees that the tables are as wanted but for what lingers.
fn change(compiler: &mut Compiler, changes: Vec<Change>) -> Plan {
    let mut held = holding(compiler.program());
    let mirror = Mirror { dispatch: compiler.program().dispatch.clone(), lingering: Lingering::default() };
    changes.into_iter().for_each(|change| compiler.apply(change));
    let plan = Plan::of_delta(compiler.take_delta(), &mirror);
    for operations in [&plan.made, &plan.first, &plan.last] {
        play(&mut held, operations);
    }
    let gone = plan.lingering.chains.iter();
    let drop = gone.map(|(family, chain)| Operation::DropChain { family: *family, chain: chain.clone() });
    play(&mut held, &drop.collect::<Vec<_>>());
    assert_eq!(plain(held), plain(holding(compiler.program())));
    plan
}

fn makes_transitional(plan: &Plan) -> bool {
    let is_transitional = |operation: &Operation| matches!(operation, Operation::AddChain { chain, .. } if chain.starts_with(TRANSITIONAL));
    plan.made.iter().any(is_transitional)
}

#[test]
fn a_member_costs_no_batch_and_no_wait() {
    let mut compiler = compiler();
    let plan = change(&mut compiler, vec![pod("far", json!({"app": "web"}), 9)]);
    assert_eq!(plan.joined.len(), 2);
    assert!(plan.made.is_empty() && plan.first.is_empty() && plan.last.is_empty());
    assert_eq!(plan.waits(), Waits { before_joined: false, before_left: false, before_last: false });
}

#[test]
fn a_new_pod_is_placed_without_a_wait() {
    let mut compiler = compiler();
    let plan = change(&mut compiler, vec![pod("new", json!({"app": "web"}), 9), endpoint("new", 9)]);
    assert!(!plan.first.is_empty() && plan.last.is_empty());
    assert_eq!(plan.waits(), Waits { before_joined: false, before_left: false, before_last: false });
}

#[test]
fn chains_are_made_in_a_batch_before_the_one_that_leads_to_them() {
    let mut compiler = compiler();
    let plan = change(&mut compiler, vec![policy("web", json!({"app": "web"}), json!({"app": "db"}))]);
    assert!(
        plan.made.iter().all(|made| matches!(made, Operation::AddChain { .. } | Operation::AddRule { .. }))
    );
    assert!(plan.first.iter().any(|led| matches!(led, Operation::AddElement { .. })));
}

#[test]
fn a_pod_that_changes_its_chains_and_its_sets_goes_by_a_transitional_chain() {
    let mut compiler = compiler();
    change(&mut compiler, vec![policy("other", json!({"app": "other"}), json!({"app": "db"}))]);
    change(&mut compiler, vec![policy("web", json!({"app": "web"}), json!({"app": "db"}))]);
    change(&mut compiler, vec![pod("client", json!({"app": "other"}), 3), endpoint("client", 3)]);
    let plan = change(&mut compiler, vec![pod("client", json!({"app": "web"}), 3)]);
    assert!(makes_transitional(&plan), "{plan:#?}");
    assert_eq!(plan.waits(), Waits { before_joined: true, before_left: false, before_last: true });
}

#[test]
fn a_pod_that_is_isolated_now_goes_to_its_chain_at_once_and_one_that_is_free_again_at_the_end() {
    let mut compiler = compiler();
    change(&mut compiler, vec![pod("client", json!({"app": "client"}), 3), endpoint("client", 3)]);
    let plan = change(
        &mut compiler,
        vec![
            policy("client", json!({"app": "client"}), json!({"app": "db"})),
            pod("far", json!({"app": "web"}), 9),
        ],
    );
    assert!(!plan.joined.is_empty() && !plan.first.is_empty() && plan.last.is_empty(), "{plan:#?}");
    let free = Change::Policy(crate::change::Key::new("default", "client"), None);
    let plan = change(&mut compiler, vec![free, pod("far", json!({"app": "none"}), 9)]);
    assert!(!plan.left.is_empty() && plan.first.is_empty() && !plan.last.is_empty(), "{plan:#?}");
}

#[test]
fn what_lingers_is_used_again() {
    let mut compiler = compiler();
    let more = || policy("web", json!({"app": "web"}), json!({"app": "db"}));
    let made = change(&mut compiler, vec![more()]);
    let mirror = Mirror { dispatch: compiler.program().dispatch.clone(), lingering: Lingering::default() };
    compiler.apply(Change::Policy(crate::change::Key::new("default", "web"), None));
    let away = Plan::of_delta(compiler.take_delta(), &mirror);
    let mirror = Mirror { dispatch: compiler.program().dispatch.clone(), lingering: away.lingering };
    compiler.apply(more());
    let again = Plan::of_delta(compiler.take_delta(), &mirror);
    assert!(again.made.is_empty() && !made.made.is_empty());
    assert_eq!(again.used, mirror.lingering);
}

#[test]
fn a_transitional_chain_that_was_left_behind_is_in_nobody_s_way() {
    let mut compiler = compiler();
    change(&mut compiler, vec![policy("other", json!({"app": "other"}), json!({"app": "db"}))]);
    change(&mut compiler, vec![policy("web", json!({"app": "web"}), json!({"app": "db"}))]);
    change(&mut compiler, vec![pod("client", json!({"app": "other"}), 3), endpoint("client", 3)]);
    let mut mirror =
        Mirror { dispatch: compiler.program().dispatch.clone(), lingering: Lingering::default() };
    compiler.apply(pod("client", json!({"app": "web"}), 3));
    let delta = compiler.take_delta();
    let made = |plan: &Plan| {
        let name = |operation: &Operation| match operation {
            Operation::AddChain { family, chain } if chain.starts_with(TRANSITIONAL) => {
                Some((*family, chain.clone()))
            }
            _ => None,
        };
        plan.made.iter().filter_map(name).collect::<BTreeSet<_>>()
    };
    let first = made(&Plan::of_delta(delta.clone(), &mirror));
    assert!(!first.is_empty());
    mirror.lingering.chains.clone_from(&first);
    let second = made(&Plan::of_delta(delta, &mirror));
    assert_eq!(second.len(), first.len());
    assert!(second.is_disjoint(&first), "{second:?}");
}

#[test]
fn transitional_chains_do_not_nest_without_end() {
    let chains = |from: ChainName| {
        let mut switch = Switch::new(Manner::Staged, BTreeSet::new());
        let veth = "cam1".into();
        switch.lead(Family::Ipv4, Interface::Input, &veth, Some(&from), Some(&"e-new".into()), true);
        switch.transitional.into_values().next()
    };
    let mut chain = ChainName::from("e-old");
    let mut nested = 0;
    while let Some(next) = chains(chain) {
        chain = next;
        nested += 1;
    }
    assert_eq!(nested, DEEPEST);
}
