//! Pods start among 1 000 policies: whoever they may not reach, and whoever may not reach them, tries so from before
//! their first moment on.
//!
//! In a pod, as soon as its network namespace is there, a thread sends to everybody and counts who sends to it;
//! elsewhere threads send to all addresses that a pod may get.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cambric_lab::{Node, Place, Pod, cni, poll};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::cluster::{Cluster, NewPod, labelled, policy};
use crate::racers::{Coming, Counts, Ends, PORT, Targets, answer, sweep, try_everybody};
use crate::{CAMBRICD, LIMIT, in_force, in_policy_lab};

const PODS: usize = 100;
const POLICIES: usize = 1000;
/// Pods that start at the same time.
const AT_ONCE: usize = 4;
/// A pod goes on trying so long after the friend has answered it.
const LINGER: Duration = Duration::from_millis(100);
/// How late the daemon is after the reboot.
const LATE: Duration = Duration::from_secs(3);

#[test]
fn pods_that_start_among_many_policies_leak_nothing_nor_do_they_after_a_reboot() {
    in_policy_lab(
        |_| {},
        |cluster| {
            cluster.write("policies", &policies())?;
            cluster.write("race", &objects())?;
            cluster.has_policies("c1", POLICIES)?;
            let world = World::start(cluster)?;
            let all_are_up = |what: &str, started: Started| -> Result<()> {
                println!("{what}: {started}");
                ensure!(started.leaked == 0, "{what}: leaked");
                ensure!(started.sent > PODS && started.swept > PODS, "{what}: nobody tried");
                world.is_as_it_should_be(&started.pods)
            };
            let node = cluster.node("c1")?;
            let started = world.start_all(cluster, || Ok(()))?;
            all_are_up("among 1000 policies", started)?;
            for number in 0..PODS {
                cluster.lab.pod("c1", &name(number))?.del()?;
            }
            reboot(&node)?;
            let started = world.start_all(cluster, || {
                thread::sleep(LATE); // the time itself is what is tried
                node.start()
            })?;
            ensure!(started.refused > 0, "no pod was refused");
            all_are_up("after a reboot, the daemon 3 s late", started)
        },
    );
}

fn name(number: usize) -> String {
    format!("race-{number}")
}

fn new(name: &str) -> NewPod<'_> {
    NewPod { node: "c1", namespace: "default", name, label: "role=race" }
}

fn objects() -> Vec<Value> {
    (0..PODS).map(|number| new(&name(number)).object(&[])).collect()
}

/// The pods are isolated both ways and may talk with a friend alone; half of the other policies select them as well and
/// allow what is not there.
fn policies() -> Vec<Value> {
    let both = json!(["Ingress", "Egress"]);
    let friend = json!([{ "podSelector": labelled("role=friend") }]);
    let mut all = vec![
        policy("deny", json!({ "podSelector": labelled("role=race"), "policyTypes": both })),
        policy(
            "friends",
            json!({
                "podSelector": labelled("role=race"), "policyTypes": both,
                "ingress": [{ "from": friend }], "egress": [{ "to": friend }],
            }),
        ),
    ];
    all.extend((all.len()..POLICIES).map(|number| {
        let selected = if number % 2 == 0 { "role=race".to_owned() } else { format!("role=none-{number}") };
        let block = json!({ "ipBlock": { "cidr": format!("10.{}.{}.0/24", number / 256, number % 256) } });
        let ports = json!([{ "protocol": "TCP", "port": 1000 + number }]);
        policy(
            &format!("other-{number}"),
            json!({
                "podSelector": labelled(&selected), "ingress": [{ "from": [block], "ports": ports }],
            }),
        )
    }));
    all
}

/// As the node is after a boot: the configuration of the runtime is there, and no rule, no set, no run-time file.
fn reboot(node: &Node) -> Result<()> {
    node.kill(CAMBRICD, Signal::SIGKILL)?;
    node.run_ok(&["nft", "flush", "ruleset"])?;
    for set in node.run_ok(&["ipset", "list", "-n"])?.lines() {
        node.run_ok(&["ipset", "destroy", set])?;
    }
    node.run_ok(&["sh", "-c", "rm -rf /run/cambric/*"])?;
    ensure!(node.path(cni::CONFLIST).exists(), "the configuration of the runtime is gone");
    Ok(())
}

/// Those who are there all the time.
struct World {
    friend: Pod,
    /// Of both nodes; isolated by no policy.
    enemies: [Pod; 2],
    outside: Node,
}

/// What became of the pods.
struct Started {
    pods: Vec<Pod>,
    took: Duration,
    refused: usize,
    /// Datagrams of the pods to those whom they may not reach, and to them.
    sent: usize,
    swept: usize,
    leaked: usize,
    /// From the answer to ADD until the friend had answered.
    friends: Vec<Duration>,
}

impl std::fmt::Display for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |share: usize| self.friends.get(self.friends.len().saturating_sub(1) * share / 100);
        write!(
            f,
            "{} pods up in {:.1?}, {} times told to try again later; {} datagrams of theirs to whom they may not reach, \
             {} to them: {} leaked; the friend heard of each after its ADD, p50 {:.1?}, p99 {:.1?}",
            self.pods.len(),
            self.took,
            self.refused,
            self.sent,
            self.swept,
            self.leaked,
            at(50).unwrap_or(&Duration::ZERO),
            at(99).unwrap_or(&Duration::ZERO)
        )
    }
}

impl World {
    fn start(cluster: &Cluster<'_>) -> Result<Self> {
        let start = |node, name, label| cluster.start(NewPod { node, namespace: "default", name, label });
        let friend = start("c1", "friend", "role=friend")?;
        let enemies = [start("c1", "enemy", "role=enemy")?, start("c2", "far-enemy", "role=enemy")?];
        let outside = cluster.node("f1")?;
        // What BGP told is gone with the session, when the daemon dies.
        for (to, by) in [("198.51.100.0/24", "192.0.2.1"), ("2001:db8:101::/64", "2001:db8::1")] {
            outside.run_ok(&["ip", "route", "add", to, "via", by, "metric", "4000"])?;
        }
        Ok(Self { friend, enemies, outside })
    }

    fn others(&self) -> [&dyn Place; 3] {
        [&self.enemies[0], &self.enemies[1], &self.outside]
    }

    /// Starts all pods; meanwhile something else is done.
    fn start_all(
        &self,
        cluster: &Cluster<'_>,
        meanwhile: impl FnOnce() -> Result<()> + Send,
    ) -> Result<Started> {
        let forbidden: Vec<SocketAddr> = [self.enemies[0].addresses()?, self.enemies[1].addresses()?]
            .concat()
            .into_iter()
            .chain(["192.0.2.254".parse()?, "2001:db8::fe".parse()?])
            .map(|address| SocketAddr::new(address, PORT))
            .collect();
        let friends: Vec<SocketAddr> =
            self.friend.addresses()?.into_iter().map(|address| SocketAddr::new(address, PORT)).collect();
        let (stop, next) = (AtomicBool::new(false), AtomicUsize::new(0));
        let counts = Counts::default();
        let targets = Targets { forbidden: &forbidden, friends: &friends };
        let start = Instant::now();
        let started = thread::scope(|scope| -> Result<Vec<(Pod, Duration)>> {
            let ends = Ends(&stop);
            let others: Vec<_> =
                self.others().into_iter().map(|other| scope.spawn(|| sweep(other, &stop, &counts))).collect();
            let answering = scope.spawn(|| answer(&self.friend, &stop));
            let doing = scope.spawn(meanwhile);
            let workers: Vec<_> = (0..AT_ONCE)
                .map(|_| {
                    scope.spawn(|| {
                        let mut pods = Vec::new();
                        loop {
                            let number = next.fetch_add(1, Ordering::Relaxed);
                            if number >= PODS {
                                return Ok(pods);
                            }
                            pods.push(start_one(cluster, number, &targets, &counts)?);
                        }
                    })
                })
                .collect();
            let joined = workers.into_iter().map(|worker| worker.join().expect("a worker panicked"));
            let pods = joined.collect::<Vec<Result<Vec<_>>>>();
            doing.join().expect("it does not panic")?;
            drop(ends);
            for other in others {
                other.join().expect("it does not panic")?;
            }
            answering.join().expect("it does not panic")?;
            Ok(pods.into_iter().collect::<Result<Vec<_>>>()?.concat())
        })?;
        let mut friends: Vec<Duration> = started.iter().map(|(_, heard)| *heard).collect();
        friends.sort();
        Ok(Started {
            pods: started.into_iter().map(|(pod, _)| pod).collect(),
            took: start.elapsed(),
            refused: counts.refused.into_inner(),
            sent: counts.sent.into_inner(),
            swept: counts.swept.into_inner(),
            leaked: counts.leaked.into_inner(),
            friends,
        })
    }

    /// Each pod has an address of its own by each family.
    fn is_as_it_should_be(&self, pods: &[Pod]) -> Result<()> {
        let addresses = pods.iter().map(Pod::addresses).collect::<Result<Vec<_>>>()?.concat();
        let distinct: BTreeSet<&IpAddr> = addresses.iter().collect();
        ensure!(
            (pods.len(), distinct.len()) == (PODS, 2 * PODS),
            "{} pods, {} addresses",
            pods.len(),
            distinct.len()
        );
        in_force(pods[0].node())
    }
}

/// Starts a pod, as often as it takes; gives when the friend had answered it, from the end of its ADD.
fn start_one(
    cluster: &Cluster<'_>,
    number: usize,
    targets: &Targets<'_>,
    counts: &Counts,
) -> Result<(Pod, Duration)> {
    let node = cluster.node("c1")?;
    let name = name(number);
    poll::until_some(&format!("{name} to start"), LIMIT, || {
        let (stop, heard) = (AtomicBool::new(false), OnceLock::new());
        let place = Coming { name: name.clone(), netns: node.path(&format!("/run/netns/{name}")) };
        thread::scope(|scope| {
            let _ends = Ends(&stop);
            scope.spawn(|| try_everybody(&place, targets, &stop, counts, &heard));
            let added = cluster.lab.add_pod_in("c1", "default", &name);
            let answered = Instant::now();
            match added {
                Ok((pod, _)) => {
                    // A pod may be let in closed, and is opened later.
                    poll::until(&format!("{name} to hear the friend"), LIMIT, || heard.get().is_some())?;
                    thread::sleep(LINGER); // the time itself is what is tried
                    let since = |heard: &Instant| heard.saturating_duration_since(answered);
                    Ok(Some((pod, heard.get().map(since).unwrap_or_default())))
                }
                Err(error) if cni::code_of(&error) == Some(cni::TRY_AGAIN_LATER) => {
                    counts.refused.fetch_add(1, Ordering::Relaxed);
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        })
    })
}
