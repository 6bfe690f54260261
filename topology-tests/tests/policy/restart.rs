//! The daemon goes and comes: what it has written stays in force, and what is right already is not written anew.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cambric_lab::reach::{Echo, PORT, Protocol, ask};
use cambric_lab::{Node, Pod, poll};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::cluster::{Cluster, NewPod, labelled, policy};
use crate::kernel::{generation, held, held_with_handles};
use crate::knock::{Knocking, Knocks};
use crate::{CAMBRICD, LIMIT, has_written, in_force, in_policy_lab};

/// What is not answered by then is denied.
const ANSWER: Duration = Duration::from_millis(300);

/// How long is knocked when everything is as it was.
const AFTER: Duration = Duration::from_secs(1);

/// How long the daemon is away.
const AWAY: Duration = Duration::from_secs(3);

#[test]
fn policies_stay_in_force_while_the_daemon_is_killed_away_and_upgraded() {
    in_policy_lab(
        |_| {},
        |cluster| {
            let from_friends = json!([{ "from": [{ "podSelector": labelled("role=friend") }] }]);
            let spec = json!({ "podSelector": labelled("app=web"), "ingress": from_friends });
            let to_web = json!([{ "to": [{ "podSelector": labelled("app=web") }] }]);
            let egress = json!({ "podSelector": labelled("role=friend"), "policyTypes": ["Egress"], "egress": to_web });
            cluster.write("policies", &[policy("friends", spec), policy("to-web", egress)])?;
            let pods = Pods::start(cluster)?;
            let node = cluster.node("c1")?;
            poll::until("the policies to be in force", LIMIT, || pods.are_judged())?;
            while_many_knock(&node, &pods, "killed by SIGKILL, away, and started", || {
                node.kill(CAMBRICD, Signal::SIGKILL)?;
                be_away(&node)
            })?;
            while_many_knock(&node, &pods, "ended by SIGTERM, another one started at once", || {
                end(&node)?;
                be_back(&node)
            })?;
            while_many_knock(&node, &pods, "ended by SIGTERM, away, and started", || {
                end(&node)?;
                be_away(&node)
            })
        },
    );
}

struct Pods {
    web: Pod,
    /// Of c1, and of c2.
    friends: [Pod; 2],
    strangers: [Pod; 2],
    /// Two of web, two of the first stranger.
    echoes: Vec<Echo>,
}

impl Pods {
    fn start(cluster: &Cluster<'_>) -> Result<Self> {
        let start = |node, name, label| cluster.start(NewPod { node, namespace: "default", name, label });
        let web = start("c1", "web", "app=web")?;
        let friends = [start("c1", "friend", "role=friend")?, start("c2", "far-friend", "role=friend")?];
        let strangers = [start("c1", "stranger", "role=none")?, start("c2", "far-stranger", "role=none")?];
        let mut echoes = Vec::new();
        for pod in [&web, &strangers[0]] {
            for address in pod.addresses()? {
                echoes.push(Echo::start(pod, address)?);
            }
        }
        Ok(Self { web, friends, strangers, echoes })
    }
}

impl Pods {
    /// Whether web answers its friends alone, in both families, and friends ask nobody else.
    fn are_judged(&self) -> bool {
        let asks = |pod: &Pod, echo: &Echo| ask(pod, Protocol::Udp, echo.address(), ANSWER).is_ok();
        let (web, stranger) = self.echoes.split_at(2);
        web.iter().all(|web| self.friends.iter().all(|friend| asks(friend, web)))
            && !web.iter().any(|web| self.strangers.iter().any(|pod| asks(pod, web)))
            && !stranger.iter().any(|stranger| asks(&self.friends[0], stranger))
    }
}

/// Who may and who may not knock, at ten doors, 250 times a second each; nothing may be lost or leak, nor be written.
fn while_many_knock(
    node: &Node,
    pods: &Pods,
    what: &str,
    happens: impl FnOnce() -> Result<()>,
) -> Result<()> {
    in_force(node)?;
    // A link-local address is known from the link alone, at which the daemon looks a moment after the pod is placed.
    poll::until("the link-local address of each pod in its set", LIMIT, || {
        held(node).is_ok_and(|held| {
            let count = |of: &str| held.sets.iter().filter(|line| line.starts_with(of)).count();
            count("add cam6self fe80:") == count("add cam4self ")
        })
    })?;
    let before = (generation(node)?, held_with_handles(node)?);
    let to = |pod: &Pod| -> Result<Vec<SocketAddr>> {
        Ok(pod.addresses()?.into_iter().map(|address| SocketAddr::new(address, PORT)).collect())
    };
    let (mut allowed, mut denied) = (Vec::new(), Vec::new());
    for door in to(&pods.web)? {
        for friend in &pods.friends {
            allowed.push(Knocking::start(friend, door)?);
        }
        for stranger in &pods.strangers {
            denied.push(Knocking::start(stranger, door)?);
        }
    }
    for door in to(&pods.strangers[0])? {
        denied.push(Knocking::start(&pods.friends[0], door)?);
    }
    let start = Instant::now();
    happens()?;
    let took = start.elapsed();
    std::thread::sleep(AFTER); // so that a late loss is seen
    let first_denied = allowed.len();
    let mut allowed = Knocking::stop(allowed.into_iter().chain(denied).collect())?;
    let denied = allowed.split_off(first_denied);
    let after = (generation(node)?, held_with_handles(node)?);
    let sum = |all: &[Knocks], of: fn(&Knocks) -> u32| all.iter().map(of).sum::<u32>();
    let (lost, leaked) = (sum(&allowed, Knocks::lost), sum(&denied, |knocks| knocks.answered));
    println!(
        "daemon {what} ({took:.1?}): allowed {} new flows, {lost} lost; denied {} new flows, {leaked} leaked; \
         generation {} before, {} after",
        sum(&allowed, |knocks| knocks.sent),
        sum(&denied, |knocks| knocks.sent),
        before.0,
        after.0
    );
    let wrong = allowed.iter().filter(|knocks| knocks.lost() > 0);
    let wrong = wrong.chain(denied.iter().filter(|knocks| knocks.answered > 0));
    let wrong: Vec<String> = wrong.map(|knocks| knocks.in_words(start)).collect();
    ensure!(wrong.is_empty(), "{what}, over after {took:.3?}: {wrong:#?}");
    ensure!(before.1 == after.1, "{what}: it is not as it was: {:#?}", before.1.changes(&after.1));
    Ok(())
}

fn end(node: &Node) -> Result<()> {
    node.kill(CAMBRICD, Signal::SIGTERM)?;
    poll::until("the daemon to end", LIMIT, || node.daemon_pid(CAMBRICD).is_none())
}

fn be_away(node: &Node) -> Result<()> {
    std::thread::sleep(AWAY); // the time itself is what is tried
    be_back(node)
}

fn be_back(node: &Node) -> Result<()> {
    node.start()?;
    has_written(node)
}
