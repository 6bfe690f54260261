//! The meter sees what is wrong: each of these does something the wrong way, and is found out.

use std::time::Duration;

use cambric_policy::program::SetKind;
use serde_json::json;

use crate::meter::{Tell, Until, measure};
use crate::small::policy;
use crate::support::changes::Order;
use crate::support::cluster::{Cluster, Policy};
use crate::turns::Turns;

/// At most; it ends with the first that is found.
const LONGEST: Duration = Duration::from_secs(30);

#[test]
fn a_set_that_is_emptied_and_filled_again_loses_allowed_flows() {
    let measured = measure(LONGEST, Turns::new(0).state().clone(), Until::FirstWrong, |tell| {
        let kernel = tell.kernel("node1");
        let sets = kernel.sets().expect("sets are read");
        for (name, (family, set)) in sets.into_iter().filter(|(_, (_, set))| set.kind != SetKind::Owners) {
            let members: Vec<_> = set.members.into_iter().collect();
            kernel.del_members(family, &name, &members).expect("members leave");
            kernel.add_members(family, &name, &members).expect("members join");
        }
    });
    println!("{measured}");
    assert!(!measured.lost.is_empty(), "nothing was lost: {measured:#?}");
    assert!(measured.leaked.is_empty(), "{measured:#?}");
}

#[test]
fn a_pod_that_is_let_in_before_it_is_held_back_leaks_denied_flows() {
    let first = Turns::new(0).state().clone();
    let mut between = first.clone();
    let everybody = json!({
        "podSelector": { "matchLabels": { "app": "victim" } }, "policyTypes": ["Ingress"],
        "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "app": "mover" } } }] }],
    });
    let told = policy("victim", everybody);
    let meant = serde_json::from_value(told.clone()).expect("a policy");
    between.policies.insert(("default".to_owned(), "victim".to_owned()), Policy { told, meant });
    let measured = there_and_back(&first, &between);
    assert!(!measured.leaked.is_empty(), "nothing leaked: {measured:#?}");
    assert!(measured.lost.is_empty(), "{measured:#?}");
}

#[test]
fn a_policy_that_is_deleted_and_made_anew_loses_allowed_flows() {
    let first = Turns::new(0).state().clone();
    let mut between = first.clone();
    between.policies.remove(&("default".to_owned(), "web".to_owned()));
    let measured = there_and_back(&first, &between);
    assert!(!measured.lost.is_empty(), "nothing was lost: {measured:#?}");
    assert!(measured.leaked.is_empty(), "{measured:#?}");
}

fn there_and_back(first: &Cluster, between: &Cluster) -> crate::meter::Measured {
    let measured = measure(LONGEST, first.clone(), Until::FirstWrong, |tell: &mut Tell| {
        for state in [between, first] {
            tell.tell_anything(state, Order::AddsFirst);
            tell.flushed();
        }
    });
    println!("{measured}");
    measured
}
