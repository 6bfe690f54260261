//! From node to node, each ready before the next.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use cambric_lab::{Lab, Node, cni, fabric, http, poll};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::records;
use crate::release::Release;
use crate::{CAMBRICD, LIMIT};

/// Where the daemon answers the probes of its DaemonSet.
const HEALTH: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9178);

/// Kind of the objects that name the peers of a node, and of those that say how to talk to them.
const API: &str = "cambric.dev/v1alpha1";

/// What a rollout brings.
pub(crate) struct Change<'a> {
    pub(crate) to: &'a Release,
    /// Whose records the new daemon finds, as far as they differ from its own.
    pub(crate) left_by: records::Age,
    /// A flag of the daemon, which ends up in the conflist.
    pub(crate) gate: &'static str,
    /// Of all sessions: the spec of a `BGPPeerConfig`.
    pub(crate) timers: Value,
}

/// Replaces everything on one node after the other; pods start and end there meanwhile.
pub(crate) fn roll_out(cluster: &Cluster<'_>, change: &Change<'_>) -> Result<()> {
    for node in fabric::cambric_nodes(cluster.lab)? {
        let begin = Instant::now();
        let (away, pods) = while_pods_come_and_go(cluster.lab, &node, || change.arrives(cluster, &node))
            .with_context(|| format!("{} to {}", node.name(), change.to))?;
        println!(
            "  {}: daemon away for {away:.1?}, ready after {:.1?}; {pods} pods came and went meanwhile, each by ADD and DEL",
            node.name(),
            begin.elapsed()
        );
    }
    Ok(())
}

impl Change<'_> {
    /// Does to a node what a DaemonSet does when its template has changed; returns how long no daemon was there.
    fn arrives(&self, cluster: &Cluster<'_>, node: &Node) -> Result<Duration> {
        self.to.replace_image(node)?;
        node.kill(CAMBRICD, Signal::SIGTERM)?;
        poll::until("the daemon to end", LIMIT, || node.daemon_pid(CAMBRICD).is_none())?;
        let begin = Instant::now();
        // The old pod is gone before the next one's init container runs.
        self.to.install_plugin(node)?;
        self.left_by.leave_records(node)?;
        self.configure(cluster, node)?;
        node.start_cambric(&["--policy-gate", self.gate])?;
        let away = begin.elapsed();
        poll::until(&format!("{} to be ready", node.name()), LIMIT, || {
            http::succeeds(node, HEALTH, "/readyz")
        })?;
        Ok(away)
    }

    /// Peers of this node get other timers, without the others'.
    fn configure(&self, cluster: &Cluster<'_>, node: &Node) -> Result<()> {
        let name = self.timers_of(node);
        let meta = json!({ "name": name });
        cluster.server.put(
            json!({ "apiVersion": API, "kind": "BGPPeerConfig", "metadata": meta, "spec": self.timers }),
        );
        let mut peers =
            cluster.server.get(API, "BGPNodeOverride", "", node.name()).context("the node's peers")?;
        for peer in peers["spec"]["peers"].as_array_mut().context("peers")? {
            peer["peerConfig"] = name.as_str().into();
        }
        cluster.server.put(peers);
        Ok(())
    }

    fn timers_of(&self, node: &Node) -> String {
        format!("{}-hold-{}", node.name(), self.timers["holdTimeSeconds"])
    }

    /// Whether the conflist and every session have it.
    pub(crate) fn is_in_force(&self, node: &Node) -> Result<()> {
        ensure!(self.to.has_plugin_at(node)?, "{}: another plugin than that of {}", node.name(), self.to);
        let text = std::fs::read_to_string(node.path(cni::CONFLIST))?;
        let conflist: Value = serde_json::from_str(&text)?;
        ensure!(conflist["plugins"][0]["policyGate"] == self.gate, "{}: {conflist}", node.name());
        let said = fabric::ask(node, &["show", "protocols", "all"])?;
        let protocols = said["protocols"].as_array().context("protocols")?;
        ensure!(!protocols.is_empty(), "{}: no sessions", node.name());
        for protocol in protocols {
            let hold = &protocol["settings"]["hold_time_s"];
            ensure!(*hold == self.timers["holdTimeSeconds"], "{}: {protocol:#}", node.name());
        }
        Ok(())
    }
}

/// Starts and ends pods on a node, one after the other, as long as `work` takes and at least one before and one
/// after; none may fail. Gives their number with what `work` gives.
fn while_pods_come_and_go<T: Send>(
    lab: &Lab,
    node: &Node,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, u32)> {
    let (stop, count) = (AtomicBool::new(false), AtomicU32::new(0));
    let come_and_go = || -> Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let number = count.load(Ordering::Relaxed);
            let name = format!("visitor-{number}");
            let (pod, _) = lab.add_pod(node.name(), &name).with_context(|| format!("ADD of {name}"))?;
            pod.del().with_context(|| format!("DEL of {name}"))?;
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let pods = scope.spawn(come_and_go);
        let one_more = || {
            let before = count.load(Ordering::Relaxed);
            poll::until_some("a pod to come and go", LIMIT, || {
                if pods.is_finished() {
                    bail!("no pod comes any more");
                }
                Ok((count.load(Ordering::Relaxed) > before).then_some(()))
            })
        };
        let worked = one_more().and_then(|()| work()).and_then(|done| one_more().map(|()| done));
        stop.store(true, Ordering::Relaxed);
        let ended = pods.join().map_err(|_| anyhow!("a thread panicked"))?;
        // What a pod failed of says more than that it failed.
        ended.and(worked).map(|done| (done, count.load(Ordering::Relaxed)))
    })
}
