//! Start, adoption, stop.

use std::time::Instant;

use cambric_policy::change::{Change, Endpoint, PodRef};
use cambric_policy::enforcer::NotPlaced;
use cambric_policy::kernel::Kernel;
use cambric_policy::pod::Uid;
use cambric_policy::program::Member;
use serde_json::json;

use crate::common::{run, try_run};
use crate::in_namespace;
use crate::node::{
    allow, apply, config, endpoint, generation, namespace, pod, reaches, repairs, soon, start, start_with,
    wired,
};

/// Three pods of which two are here, and a policy with a peer list.
fn cluster() -> Vec<Change> {
    vec![
        namespace("default"),
        pod("web", json!({"app": "web"}), &["10.0.1.2", "fd00:1::2"]),
        pod("db", json!({"app": "db"}), &["10.0.2.2", "fd00:2::2"]),
        pod("far", json!({"app": "web"}), &["10.0.9.2", "fd00:9::2"]),
        allow("db", json!({"app": "db"}), json!({"app": "web"})),
        wired("camtest1", "web", &["10.0.1.2", "fd00:1::2"]),
        wired("camtest2", "db", &["10.0.2.2", "fd00:2::2"]),
    ]
}

#[test]
fn nothing_is_written_before_the_first_complete_view() {
    in_namespace(|| async {
        let before = generation();
        let enforcer = start();
        enforcer.apply(cluster()).await.expect("told");
        enforcer.report(None).await.expect("it has taken all in");
        assert_eq!(generation(), before);
        assert!(Kernel::open().expect("kernel").set_names().expect("names").is_empty());
        assert!(!enforcer.status().borrow().written);
        soon(enforcer.complete()).await.expect("in force");
        assert!(generation() != before);
        let status = reaches(&enforcer, "written", |status| status.written).await;
        assert_eq!((status.counts.placed, status.counts.policies), (2, 1), "{status:#?}");
        assert_eq!(status.problems, [""; 0]);
        assert_eq!(repairs(&status).len(), 0, "what is made first is no repair");
    });
}

#[test]
fn a_second_start_adopts_all_and_writes_nothing() {
    in_namespace(|| async {
        let first = start_with(config(), cluster()).await;
        first.stop().await;
        let (tables, sets) = (run("nft list ruleset"), run("ipset list"));
        assert!(tables.contains("established"), "{tables}");
        let before = generation();
        let begun = Instant::now();
        let second = start_with(config(), cluster()).await;
        println!("adopted after {:?}", begun.elapsed());
        let status = reaches(&second, "written", |status| status.written).await;
        assert_eq!((status.counts.lingering, repairs(&status).len()), (0, 0), "{status:#?}");
        assert_eq!(generation(), before);
        assert_eq!((run("nft list ruleset"), run("ipset list")), (tables, sets));
    });
}

#[test]
fn a_start_writes_only_what_changed_meanwhile_and_removes_what_is_left_over() {
    in_namespace(|| async {
        let first = start_with(config(), cluster()).await;
        first.stop().await;
        run("nft add chain ip cambric leftover");
        run("nft add rule ip cambric leftover drop");
        run("ipset create cam4paaaaaaaaaaaaaaaaaaaaaaaaaa hash:ip");
        let mut changed = cluster();
        changed.push(pod("new", json!({"app": "web"}), &["10.0.9.3"]));
        let second = start_with(config(), changed).await;
        let gone = |status: &cambric_policy::enforcer::Status| status.written && status.counts.lingering == 0;
        reaches(&second, "leftovers gone", gone).await;
        assert!(!run("nft list ruleset").contains("leftover"));
        assert!(try_run("ipset list cam4paaaaaaaaaaaaaaaaaaaaaaaaaa").is_err());
        let members = Kernel::open().expect("kernel").sets().expect("sets");
        let new = Member::Address("10.0.9.3".parse().expect("address"));
        assert!(members.values().any(|(_, set)| set.members.contains(&new)), "{members:#?}");
    });
}

#[test]
fn a_place_is_answered_when_all_of_the_pod_is_in_the_kernel_and_waits_for_its_object() {
    in_namespace(|| async {
        let enforcer = start_with(config(), cluster()).await;
        let late = ["10.0.3.2", "fd00:3::2"];
        let place = enforcer.place("camtest3".into(), endpoint("late", &late));
        let mut place = std::pin::pin!(place);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(300), &mut place).await.is_err());
        let status = reaches(&enforcer, "waiting", |status| !status.waiting.is_empty()).await;
        assert_eq!(status.waiting["camtest3"].to_string(), "no Pod object default/late yet");
        enforcer.apply(vec![pod("late", json!({"app": "web"}), &[])]).await.expect("told");
        soon(place).await.expect("placed");
        for set in ["cam4self", "cam6self"] {
            assert!(run(&format!("ipset list {set}")).contains("camtest3"));
        }
        let sets = Kernel::open().expect("kernel").sets().expect("sets");
        for address in late {
            let member = Member::Address(address.parse().expect("address"));
            assert!(sets.values().any(|(_, set)| set.members.contains(&member)), "{address} is no peer yet");
        }
        assert!(run("nft list map ip cambric egress").contains("camtest3"));
        assert!(run("nft list map ip6 cambric ingress").contains("camtest3"));
        apply(&enforcer, vec![crate::node::unwired("camtest3")]).await;
        assert!(!run("nft list map ip cambric egress").contains("camtest3"));
    });
}

#[test]
fn a_place_waits_for_the_object_of_its_own_pod_and_says_so() {
    in_namespace(|| async {
        let enforcer = start_with(config(), cluster()).await;
        // Objects of these tests have their name for a uid.
        let of = |uid| Endpoint {
            pod: Some(PodRef { key: crate::node::key("far"), uid: Uid::new(uid) }),
            ..endpoint("far", &["10.0.3.2"])
        };
        let mut place = std::pin::pin!(enforcer.place("camtest3".into(), of("far-again")));
        assert!(tokio::time::timeout(std::time::Duration::from_millis(300), &mut place).await.is_err());
        let status = reaches(&enforcer, "waiting", |status| !status.waiting.is_empty()).await;
        assert_eq!(
            status.waiting["camtest3"].to_string(),
            "no Pod object default/far of uid far-again yet: the one there is is of another pod of that name"
        );
        soon(enforcer.place("camtest4".into(), of("far"))).await.expect("its object is there");
    });
}

#[test]
fn transitional_chains_that_were_left_behind_hinder_no_change() {
    in_namespace(|| async {
        let world = |app: &str| {
            vec![
                namespace("default"),
                pod("db", json!({"app": app}), &["10.0.2.2"]),
                pod("web", json!({"app": "web"}), &["10.0.1.2"]),
                allow("one", json!({"app": "db"}), json!({"app": "web"})),
                allow("two", json!({"app": "dc"}), json!({"app": "web"})),
                allow("three", json!({"app": "web"}), json!({"app": "db"})),
                wired("camtest1", "web", &["10.0.1.2"]),
                wired("camtest2", "db", &["10.0.2.2"]),
            ]
        };
        start_with(config(), world("db")).await.stop().await;
        for family in ["ip", "ip6"] {
            for nth in 0..3 {
                run(&format!("nft add chain {family} cambric t-1-{nth}"));
            }
        }
        let handle = || run("nft -a list table ip cambric").lines().next().expect("a table").to_owned();
        let before = handle();
        let enforcer = start_with(config(), world("db")).await;
        apply(&enforcer, vec![pod("db", json!({"app": "dc"}), &["10.0.2.2"])]).await;
        let status = reaches(&enforcer, "quiet", |status| status.counts.lingering == 0).await;
        assert_eq!((handle(), status.problems), (before, Vec::new()), "the table is the same");
    });
}

#[test]
fn whoever_waits_for_a_pod_is_told_when_its_interface_is_another_pod_s() {
    in_namespace(|| async {
        let enforcer = start_with(config(), vec![namespace("default")]).await;
        let first = enforcer.clone();
        let first =
            tokio::spawn(async move { first.place("camtest1".into(), endpoint("web", &["10.0.1.2"])).await });
        reaches(&enforcer, "waits", |status| status.waiting.len() == 1).await;
        let second = enforcer.clone();
        let second =
            tokio::spawn(async move { second.place("camtest1".into(), endpoint("db", &["10.0.1.2"])).await });
        assert_eq!(soon(first).await.expect("joined"), Err(NotPlaced::Gone));
        apply(&enforcer, vec![pod("db", json!({"app": "db"}), &["10.0.1.2"])]).await;
        assert_eq!(soon(second).await.expect("joined"), Ok(()));
    });
}
