//! Packets are judged alike whatever the enforcer is doing.

use std::time::{Duration, Instant};

use cambric_policy::change::Change;
use cambric_policy::enforcer::{Config, Enforcer};
use cambric_policy::kernel::Guard;
use serde_json::{Value, json};

use crate::common::run;
use crate::in_namespace;
use crate::meter::Meter;
use crate::node::{allow, apply, config, namespace, pod, policy, soon, start_with};
use crate::wire::Pod;

/// A server, one whose flows to it are allowed and one whose are not, wired as the plugin does it.
struct Scene {
    server: Pod,
    friend: Pod,
    foe: Pod,
}

impl Scene {
    fn new() -> Scene {
        let [server, friend, foe] = [1, 2, 3].map(Pod::new);
        Scene { server, friend, foe }
    }

    fn meter(&self) -> Meter {
        Meter::start(&self.server, &self.friend, &self.foe)
    }
}

/// A pod of the scene, by its number.
fn told(number: u8, labels: Value) -> Change {
    let [v4, v6] = addresses(number);
    pod(&format!("p{number}"), labels, &[&v4, &v6])
}

fn wired(number: u8) -> Change {
    let [v4, v6] = addresses(number);
    crate::node::wired(&format!("camtest{number}"), &format!("p{number}"), &[&v4, &v6])
}

fn addresses(number: u8) -> [String; 2] {
    [format!("10.0.{number}.2"), format!("fd00:{number}::2")]
}

fn all() -> Vec<Change> {
    let mut changes = vec![
        namespace("default"),
        told(1, json!({"app": "server"})),
        told(2, json!({"app": "friend", "tier": "front"})),
        told(3, json!({"app": "foe"})),
        allow("server", json!({"app": "server"}), json!({"app": "friend"})),
    ];
    changes.extend([1, 2, 3].map(wired));
    changes
}

#[test]
fn enforcement_goes_on_while_the_enforcer_is_away_and_comes_back() {
    in_namespace(|| async {
        let scene = Scene::new();
        for guard in [Guard::Anyone, Guard::Owned] {
            let config = || Config { guard, ..config() };
            let mut enforcer = start_with(config(), all()).await;
            let meter = scene.meter();
            let begun = Instant::now();
            let mut starts = 0;
            while begun.elapsed() < Duration::from_secs(2) {
                enforcer.stop().await;
                enforcer = start_with(config(), all()).await;
                starts += 1;
            }
            println!("{guard:?}: {starts} starts");
            tokio::task::spawn_blocking(move || meter.end().check()).await.expect("well");
            enforcer.stop().await;
            run("nft flush ruleset");
        }
    });
}

/// The changes of the loops. After each of them the friend is let in and the foe is not.
fn steps() -> Vec<Vec<Change>> {
    let by_block = json!({
        "podSelector": {"matchLabels": {"app": "server"}},
        "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.2.0/24"}}, {"ipBlock": {"cidr": "fd00:2::/64"}}]}],
    });
    let by_other_label = allow("server", json!({"app": "server"}), json!({"tier": "front"}));
    let usual = || allow("server", json!({"app": "server"}), json!({"app": "friend"}));
    let also = allow("also", json!({"app": "server"}), json!({"tier": "front"}));
    let deny_all = json!({"podSelector": {}, "policyTypes": ["Ingress"]});
    // Who is quiet may send nothing, and is let in by the server; who is loud, the other way round.
    let quiet = json!({"podSelector": {"matchLabels": {"voice": "quiet"}}, "policyTypes": ["Egress"]});
    let likes_quiet = allow("likes-quiet", json!({"app": "server"}), json!({"voice": "quiet"}));
    let foe = |voice: &str| told(3, json!({"app": "foe", "voice": voice}));
    let mut steps = vec![
        vec![policy("quiet", quiet)],
        vec![foe("quiet")],
        vec![likes_quiet],
        vec![by_other_label],
        vec![policy("server", by_block)],
        vec![also],
        vec![usual()],
        vec![crate::node::no_policy("also")],
        vec![policy("deny", deny_all)],
    ];
    for _ in 0..4 {
        steps.push(vec![foe("loud")]);
        steps.push(vec![foe("quiet")]);
    }
    steps.push(vec![crate::node::no_policy("deny")]);
    steps.push(vec![crate::node::no_policy("likes-quiet")]);
    steps.push(vec![crate::node::no_policy("quiet")]);
    steps.push(vec![foe("none")]);
    steps
}

async fn turn(enforcer: &Enforcer) -> u32 {
    let steps = steps();
    let many = u32::try_from(steps.len()).expect("few");
    for step in steps {
        apply(enforcer, step).await;
    }
    many
}

#[test]
fn no_change_opens_a_window() {
    in_namespace(|| async {
        let scene = Scene::new();
        let enforcer = start_with(config(), all()).await;
        let meter = scene.meter();
        let begun = Instant::now();
        let mut changes = 0;
        while begun.elapsed() < Duration::from_secs(2) {
            changes += turn(&enforcer).await;
        }
        println!("{changes} changes");
        tokio::task::spawn_blocking(move || meter.end().check()).await.expect("well");
        assert_eq!(enforcer.status().borrow().problems, [""; 0]);
        assert!(changes > 50);
    });
}

#[test]
fn what_others_write_beside_us_only_delays_a_change() {
    in_namespace(|| async {
        let scene = Scene::new();
        let enforcer = start_with(config(), all()).await;
        let meter = scene.meter();
        run("nft add table ip other");
        let begun = Instant::now();
        let other = std::thread::spawn(move || {
            while begun.elapsed() < Duration::from_secs(2) {
                run("nft add chain ip other one");
                run("nft delete chain ip other one");
            }
        });
        let mut changes = 0;
        while begun.elapsed() < Duration::from_secs(2) {
            changes += turn(&enforcer).await;
        }
        other.join().expect("it ended well");
        println!("{changes} changes");
        tokio::task::spawn_blocking(move || meter.end().check()).await.expect("well");
        let status = enforcer.status().borrow().clone();
        assert_eq!((status.problems.len(), status.repairs.len()), (0, 0), "{status:#?}");
    });
}

#[test]
fn a_pod_that_is_not_placed_is_closed() {
    in_namespace(|| async {
        let scene = Scene::new();
        let changes =
            all().into_iter().filter(|change| !matches!(change, Change::Pod(key, _) if &*key.name == "p3"));
        let enforcer = start_with(config(), changes.collect()).await;
        let meter = scene.meter();
        tokio::time::sleep(Duration::from_millis(300)).await;
        tokio::task::spawn_blocking(move || meter.end().check()).await.expect("well");
        let denied = crate::node::reaches(&enforcer, "told", |status| status.denials.seen > 0).await;
        println!("{:?}", denied.denials);
        let report = soon(enforcer.report(None)).await.expect("a report");
        assert!(report.frame["closed"].packets > 10, "{report:#?}");
        let state = report.pods.iter().find(|state| &*state.pod.interface == "camtest3").expect("told");
        let denial = state.denials.back().expect("a denial");
        assert_eq!((&*denial.chain, denial.port, denial.protocol), ("closed", Some(4242), 17), "{denial:#?}");
        assert_eq!(denial.peer, Some(crate::node::key("p1")));
    });
}

#[test]
fn a_denied_packet_is_told_with_pods_and_policies_and_all_are_counted() {
    in_namespace(|| async {
        let scene = Scene::new();
        let enforcer = start_with(config(), all()).await;
        let meter = scene.meter();
        while meter.allowed() < 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let tally = tokio::task::spawn_blocking(move || meter.end()).await.expect("well");
        tally.check();
        crate::node::reaches(&enforcer, "told", |status| status.denials.seen > 0).await;
        let report = soon(enforcer.report(None)).await.expect("a report");
        let allowed = tally.allowed.load(std::sync::atomic::Ordering::SeqCst);
        let denied = tally.denied.load(std::sync::atomic::Ordering::SeqCst);
        let [state] = &report.policies[..] else { panic!("{report:#?}") };
        // Each flow once; a port that was used again soon is the same flow.
        let counted = state.ingress.packets;
        assert!(counted <= allowed && counted > allowed / 10 * 9, "{counted} of {allowed}");
        assert_eq!(report.denied.iter().map(|denied| denied.count.packets).sum::<u64>(), denied);
        let server = report.pods.iter().find(|state| &*state.pod.interface == "camtest1").expect("told");
        assert_eq!(server.denied_ingress.packets, denied);
        let denial = server.denials.back().expect("a denial");
        assert_eq!(denial.policies, [crate::node::key("server")]);
        assert_eq!(
            (&denial.pod, &denial.peer),
            (&Some(crate::node::key("p1")), &Some(crate::node::key("p3")))
        );
        // The class is another one then; what its chain has counted is kept.
        apply(&enforcer, vec![allow("more", json!({"app": "server"}), json!({"app": "none"}))]).await;
        crate::node::reaches(&enforcer, "the old chain gone", |status| status.counts.lingering == 0).await;
        let report = soon(enforcer.report(None)).await.expect("a report");
        let of_server = report.policies.iter().find(|state| state.policy.key == crate::node::key("server"));
        assert_eq!(of_server.expect("there").ingress.packets, counted);
        assert_eq!(
            report.denied.iter().map(|denied| denied.count.packets).sum::<u64>(),
            denied,
            "{report:#?}"
        );
    });
}
