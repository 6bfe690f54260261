//! What the kernel refuses closes the pods of one policy; all others go on.

use cambric_policy::enforcer::{Config, Enforcer, Status};
use cambric_policy::kernel::{Guard, Kernel};
use cambric_policy::program::Member;
use serde_json::json;

use crate::common::run;
use crate::in_namespace;
use crate::node::{allow, apply, config, namespace, no_pod, pod, reaches, soon, start_with, wired};

#[test]
fn a_policy_whose_set_is_full_fails_closed_and_all_others_go_on() {
    in_namespace(|| async {
        let enforcer = start_with(
            Config { most_members: 64, ..config() },
            vec![
                namespace("default"),
                pod("web", json!({"app": "web"}), &["10.0.1.2"]),
                pod("db", json!({"app": "db"}), &["10.0.2.2"]),
                wired("camtest1", "web", &["10.0.1.2"]),
                wired("camtest2", "db", &["10.0.2.2"]),
                allow("small", json!({"app": "web"}), json!({"app": "db"})),
                allow("large", json!({"app": "db"}), json!({"kind": "many"})),
            ],
        )
        .await;
        assert_eq!(enforcer.status().borrow().problems, [""; 0]);
        let names = (0..400).map(|n| format!("many-{n}")).collect::<Vec<_>>();
        for (n, name) in names.iter().enumerate() {
            let address = format!("10.1.{}.{}", n / 250, n % 250);
            enforcer.apply(vec![pod(name, json!({"kind": "many"}), &[&address])]).await.expect("told");
        }
        soon(enforcer.flushed()).await.expect("written");
        let status = reaches(&enforcer, "refused", |status| status.counts.refused_policies == 1).await;
        println!("{:?}", status.problems);
        assert_eq!(status.problems.len(), 1);
        assert!(
            status.problems[0].contains("default/large fails closed: spec: set cam4p"),
            "{:?}",
            status.problems
        );
        assert!(
            status.problems[0].contains("10.1.") && status.problems[0].contains("full"),
            "{:?}",
            status.problems
        );
        let report = soon(enforcer.report(None)).await.expect("a report");
        let faulty = report.policies.iter().filter(|state| !state.policy.faults.is_empty()).count();
        assert_eq!(faulty, 1);
        // Others go on.
        apply(&enforcer, vec![pod("more", json!({"app": "db"}), &["10.0.2.3"])]).await;
        let sets = Kernel::open().expect("kernel").sets().expect("sets");
        let more = Member::Address("10.0.2.3".parse().expect("address"));
        assert!(sets.values().any(|(_, set)| set.members.contains(&more)));
        // It is tried again when members have left.
        for name in &names[20..] {
            enforcer.apply(vec![no_pod(name)]).await.expect("told");
        }
        let status = reaches(&enforcer, "tried again", |status| status.counts.refused_policies == 0).await;
        assert_eq!(status.problems, [""; 0]);
        let sets = Kernel::open().expect("kernel").sets().expect("sets");
        assert!(sets.values().any(|(_, set)| set.members.len() == 20), "{sets:#?}");
    });
}

#[test]
fn a_set_that_cannot_be_made_closes_the_policies_that_use_it() {
    in_namespace(|| async {
        let changes = || {
            vec![
                namespace("default"),
                pod("web", json!({"app": "web"}), &["10.0.1.2"]),
                pod("db", json!({"app": "db"}), &["10.0.2.2"]),
                wired("camtest1", "web", &["10.0.1.2"]),
                wired("camtest2", "db", &["10.0.2.2"]),
                allow("blocked", json!({"app": "web"}), json!({"app": "db"})),
                allow("free", json!({"app": "db"}), json!({"app": "web"})),
            ]
        };
        let set = {
            let enforcer = start_with(config(), changes()).await;
            let sets = Kernel::open().expect("kernel").sets().expect("sets");
            let db = Member::Address("10.0.2.2".parse().expect("address"));
            let (name, _) = sets.into_iter().find(|(_, (_, set))| set.members.contains(&db)).expect("a set");
            enforcer.stop().await;
            name
        };
        run("nft flush ruleset");
        for name in run("ipset list -n").lines() {
            run(&format!("ipset destroy {name}"));
        }
        // Somebody has made one of this name, of another kind, and uses it.
        run(&format!("ipset create {set} bitmap:port range 0-100"));
        run(&format!("iptables-nft -A INPUT -p udp -m set --match-set {set} dst -j ACCEPT"));
        let enforcer = start_with(config(), changes()).await;
        let status = reaches(&enforcer, "refused", |status| status.counts.refused_policies == 1).await;
        println!("{:?}", status.problems);
        assert!(status.problems[0].contains("default/blocked fails closed"), "{:?}", status.problems);
        assert_eq!(status.counts.placed, 2);
    });
}

#[test]
fn policies_are_not_to_blame_for_tables_that_another_process_still_owns() {
    in_namespace(|| async {
        assert_ne!(Kernel::open().expect("kernel").guard().expect("a guard"), Guard::Anyone);
        let owned = || Config { guard: Guard::Owned, ..config() };
        let world = || {
            vec![
                namespace("default"),
                pod("web", json!({"app": "web"}), &["10.0.1.2"]),
                pod("db", json!({"app": "db"}), &["10.0.2.2"]),
                wired("camtest2", "db", &["10.0.2.2"]),
                allow("db", json!({"app": "db"}), json!({"app": "web"})),
            ]
        };
        let old = start_with(owned(), world()).await;
        let new = Enforcer::start(owned()).expect("started");
        new.apply(world()).await.expect("told");
        new.apply(vec![allow("also", json!({"app": "db"}), json!({"app": "more"}))]).await.expect("told");
        let asking = new.clone();
        let complete = tokio::spawn(async move { asking.complete().await });
        let refuses = |status: &Status| status.problems.iter().any(|told| told.contains("does not take"));
        let status = reaches(&new, "the kernel refuses", refuses).await;
        assert_eq!(status.counts.refused_policies, 0, "{:?}", status.problems);
        old.stop().await;
        soon(complete).await.expect("joined").expect("in force");
        // Denied packets are heard of again, too, for the other read them.
        let status = reaches(&new, "all is well", |status| status.problems.is_empty()).await;
        assert_eq!(status.counts.refused_policies, 0);
    });
}
