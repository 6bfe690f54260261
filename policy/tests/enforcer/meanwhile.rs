//! What is told while a comparison is due reaches the kernel all the same.

use std::time::Duration;

use cambric_policy::change::Change;
use cambric_policy::enforcer::{Cause, Config, Enforcer, Status};
use cambric_policy::kernel::Kernel;
use cambric_policy::program::Member;
use serde_json::json;
use tokio::time::timeout;

use crate::common::run;
use crate::in_namespace;
use crate::node::{allow, apply, config, namespace, pod, reaches, start_with, wired};

const ONE: &str = "10.0.9.1";
const OTHER: &str = "10.0.9.2";

async fn node(config: Config) -> Enforcer {
    let mut changes = vec![
        namespace("default"),
        pod("db", json!({"app": "db"}), &["10.0.2.2"]),
        allow("db", json!({"app": "db"}), json!({"app": "web"})),
        wired("camtest2", "db", &["10.0.2.2"]),
    ];
    changes.extend(let_in(ONE));
    // The sets are not looked at for so long: nothing else finds what was lost.
    start_with(Config { compare_interval: Duration::from_secs(30), ..config }, changes).await
}

/// One of the two pods is let in, the other is not.
fn let_in(address: &str) -> Vec<Change> {
    let app = |of: &str| json!({"app": if of == address { "web" } else { "none" }});
    vec![pod("one", app(ONE), &[ONE]), pod("other", app(OTHER), &[OTHER])]
}

/// Those of the two that are in a set.
fn held() -> Vec<&'static str> {
    let sets = Kernel::open().expect("a kernel").sets().expect("sets");
    let is_in = |address: &&str| {
        let member = Member::Address(address.parse().expect("an address"));
        sets.values().any(|(_, set)| set.members.contains(&member))
    };
    [ONE, OTHER].into_iter().filter(is_in).collect()
}

#[test]
fn members_told_while_somebody_fights_are_in_the_kernel_when_it_is_said_so() {
    in_namespace(|| async {
        let enforcer = node(config()).await;
        assert_eq!(held(), [ONE]);
        let fight = || run("nft add rule ip cambric forward accept");
        let repaired = |least: u64| {
            reaches(&enforcer, "repaired", move |status| {
                status.repairs.get(&Cause::Rule).is_some_and(|repairs| repairs.count >= least)
            })
        };
        // Until the pauses are so long that what follows is told in one. On a machine that stands still for a moment a
        // pause may be over before it is seen: then the next one.
        let mut status = enforcer.status();
        let is_due = |status: &Status| !status.waiting.is_empty();
        let mut fights = 0;
        loop {
            fight();
            fights += 1;
            if fights > 16 && timeout(Duration::from_secs(2), status.wait_for(is_due)).await.is_ok() {
                break;
            }
            repaired(fights).await;
        }
        drop(status);
        apply(&enforcer, let_in(OTHER)).await;
        assert_eq!(held(), [OTHER]);
        let status = repaired(fights).await;
        assert!(!status.repairs.contains_key(&Cause::Members), "own changes are no repairs: {status:#?}");
    });
}

#[test]
fn members_told_when_the_usual_check_is_due_are_in_the_kernel_when_it_is_said_so() {
    in_namespace(|| async {
        let enforcer = node(Config { check_interval: Duration::from_millis(1), ..config() }).await;
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_secs(5) {
            for address in [OTHER, ONE] {
                apply(&enforcer, let_in(address)).await;
                assert_eq!(held(), [address]);
            }
        }
        let repairs = enforcer.status().borrow().repairs.clone();
        assert!(repairs.is_empty(), "own changes are no repairs: {repairs:?}");
    });
}
