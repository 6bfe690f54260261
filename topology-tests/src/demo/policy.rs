//! The step of the demo that shows a NetworkPolicy: one pod may reach the others, and nobody else but their own nodes.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{headline, type_in};
use crate::fabric::{self, RECOVERY};
use crate::place::Place;
use crate::reach::{self, Echo, Protocol};
use crate::{Lab, Pod, poll};

/// Where nodes read manifests.
const MANIFESTS: &str = "/etc/cambric/manifests";
/// Beside the lab's own manifests while the step lasts.
const FILE: &str = "demo-policy.yaml";

/// An answer takes less than a millisecond; one that has not come by now does not.
const PATIENCE: Duration = Duration::from_millis(500);

/// Isolates all pods of all nodes, and takes it back.
pub(super) fn policy(lab: &Lab) -> Result<Vec<String>> {
    headline("A NetworkPolicy: of all pods and nodes elsewhere only the pod n11-1 may reach pods");
    let pod = |node, name| lab.pod(node, name);
    let (friend, stranger, target) = (pod("n11", "n11-1")?, pod("n12", "n12-1")?, pod("n22", "n22-1")?);
    let written = Written::beside(lab, &text(&friend.addresses()?))?;
    in_force(lab, 1)?;
    let node = lab.node("n22")?;
    let mut faults = Vec::new();
    let clients: [(&dyn Place, bool); 3] = [(&friend, true), (&stranger, false), (&node, true)];
    faults.extend(ask_all(&clients, &target)?);
    type_in(&node, &["cambric", "show", "policy"])?;
    drop(written);
    in_force(lab, 0)?;
    println!("\n  the policy is removed");
    faults.extend(ask_all(&clients.map(|(client, _)| (client, true)), &target)?);
    Ok(faults)
}

/// Pods need no labels for this: addresses tell who is who.
fn text(allowed: &[IpAddr]) -> String {
    let peer = |address: &IpAddr| {
        let length = if address.is_ipv4() { 32 } else { 128 };
        format!("    - ipBlock: {{ cidr: \"{address}/{length}\" }}\n")
    };
    let peers: String = allowed.iter().map(peer).collect();
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{ name: only-n11-1 }}\n\
         spec:\n  podSelector: {{}}\n  ingress:\n  - from:\n{peers}"
    )
}

/// Waits until every node has so many policies, and nothing else, in the kernel.
fn in_force(lab: &Lab, policies: u64) -> Result<()> {
    for node in fabric::cambric_nodes(lab)? {
        let what = format!("{}: {policies} policies in the kernel", node.name());
        poll::until(&what, RECOVERY, || {
            fabric::ask(&node, &["show", "status"]).is_ok_and(|answer| {
                let policy = &answer["status"]["policy"];
                policy["policies"] == policies && policy["written"] == true
            })
        })?;
    }
    Ok(())
}

/// Has each client ask the pod by UDP and TCP, in both families; prints who was answered, and returns what should not be so.
fn ask_all(clients: &[(&dyn Place, bool)], target: &Pod) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let servers: Vec<Echo> =
        target.addresses()?.into_iter().map(|address| Echo::start(target, address)).collect::<Result<_>>()?;
    for (client, may_reach) in clients {
        let (mut answered, mut asked) = (0, 0);
        for server in &servers {
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                asked += 1;
                let answer = reach::ask(*client, protocol, server.address(), PATIENCE);
                answered += usize::from(answer.is_ok());
                if answer.is_ok() != *may_reach {
                    let should = if *may_reach { "should" } else { "should not" };
                    faults.push(format!(
                        "policy: {} {should} reach {} by {protocol}",
                        client.name(),
                        server.address()
                    ));
                }
            }
        }
        println!("  {:6} asked {} {asked} times, answered {answered}", client.name(), target.name());
    }
    Ok(faults)
}

/// Where the policy is written: nodes of a lab read one folder.
fn path(lab: &Lab) -> Result<PathBuf> {
    let n11 = lab.topology().nodes.get("n11").context("a node n11")?;
    let bind = n11.binds.iter().find(|bind| bind.target == Path::new(MANIFESTS));
    Ok(bind.with_context(|| format!("n11 has nothing at {MANIFESTS}"))?.source.join(FILE))
}

/// Removes what a demo left that was killed in this step.
pub(super) fn tidy(lab: &Lab) -> Result<()> {
    match fs::remove_file(path(lab)?) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context("removing the demo's policy")
        }
        _ => Ok(()),
    }
}

/// A manifest that goes with this value.
struct Written(PathBuf);

impl Written {
    fn beside(lab: &Lab, text: &str) -> Result<Written> {
        let written = Written(path(lab)?);
        fs::write(&written.0, text).with_context(|| format!("writing {}", written.0.display()))?;
        Ok(written)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            eprintln!("removing {}: {error}", self.0.display());
        }
    }
}
