//! How long changes take, printed. Only far too long fails.

use std::time::{Duration, Instant};

use cambric_policy::change::Change;
use serde_json::json;

use crate::in_namespace;
use crate::node::{allow, apply, config, endpoint, namespace, no_policy, pod, soon, start_with, wired};

const MANY: usize = 250;

fn median(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

#[test]
fn changes_beside_250_pods_and_250_policies() {
    in_namespace(|| async {
        let mut changes = vec![namespace("default")];
        for n in 0..MANY {
            let (name, [v4, v6]) = (format!("p{n}"), [format!("10.0.{n}.2"), format!("fd00:{n}::2")]);
            changes.push(pod(&name, json!({"app": format!("a{}", n % 50), "n": n.to_string()}), &[&v4, &v6]));
            changes.push(wired(&format!("camtest{n}"), &name, &[&v4, &v6]));
            let from = json!({"app": format!("a{}", (n + 1) % 50)});
            changes.push(allow(&format!("a{n}"), json!({"app": format!("a{}", n % 50)}), from));
        }
        let begun = Instant::now();
        let enforcer = start_with(config(), changes).await;
        println!("{MANY} pods, {MANY} policies told and in force: {:?}", begun.elapsed());

        let mut member = Vec::new();
        for n in 0..100 {
            let far = pod(
                &format!("far{n}"),
                json!({"app": "a1"}),
                &[&format!("10.9.0.{n}"), &format!("fd09::{n}")],
            );
            let begun = Instant::now();
            apply(&enforcer, vec![far]).await;
            member.push(begun.elapsed());
        }
        println!("one member of a set of each family: {:?} (median, p99)", median(member));

        let mut placed = Vec::new();
        for n in 0..100 {
            let (name, addresses) = (format!("new{n}"), [format!("10.8.0.{n}"), format!("fd08::{n}")]);
            let addresses = addresses.each_ref().map(String::as_str);
            apply(&enforcer, vec![pod(&name, json!({"app": "a2"}), &[])]).await;
            let begun = Instant::now();
            soon(enforcer.place(format!("camnew{n}").into(), endpoint(&name, &addresses)))
                .await
                .expect("placed");
            placed.push(begun.elapsed());
        }
        let (median_placed, p99) = median(placed);
        println!("one pod placed: {median_placed:?}, p99 {p99:?}");
        assert!(p99 < Duration::from_secs(1));

        let mut policies = Vec::new();
        for n in 0..100 {
            let change: Change = if n % 2 == 0 {
                allow("changing", json!({"app": "a3"}), json!({"app": format!("a{n}")}))
            } else {
                no_policy("changing")
            };
            let begun = Instant::now();
            apply(&enforcer, vec![change]).await;
            policies.push(begun.elapsed());
        }
        println!("one policy of five pods: {:?} (median, p99)", median(policies));
        let status = enforcer.status().borrow().clone();
        assert_eq!(status.problems, [""; 0]);
    });
}
