//! What happens to a path, or to the daemon.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use cambric_lab::flow::Flow;
use cambric_lab::{Lab, Node, poll};
use nix::sys::signal::Signal;

use crate::look::{SWITCHES, Switch};
use crate::rig::{CAMBRICD, pid_is_gone};

const LIMIT: Duration = Duration::from_secs(20);

/// Who hears nothing any more, of a link that stays up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deaf {
    Node,
    Switch,
    Both,
}

impl fmt::Display for Deaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Deaf::Node => "the node",
            Deaf::Switch => "the switch",
            Deaf::Both => "neither",
        })
    }
}

/// Packets of a link that are dropped as they come in, at the node, at the switch or at both.
pub(crate) struct Silence {
    /// With their interfaces.
    nodes: Vec<(Node, &'static str)>,
}

impl Silence {
    pub(crate) fn of(lab: &Lab, switch: &Switch, deaf: Deaf) -> Result<Silence> {
        let mut nodes = Vec::new();
        if deaf != Deaf::Switch {
            nodes.push((lab.node("c1")?, switch.interface));
        }
        if deaf != Deaf::Node {
            nodes.push((lab.node(switch.tor.name)?, "eth1"));
        }
        for (node, interface) in &nodes {
            // Before anything of the node's own sees them; ARP, too, as on a fibre that is broken.
            let rules = format!(
                "table netdev broken_{interface} {{ chain in {{ type filter hook ingress device {interface} priority -500; drop; }}; }}"
            );
            node.run_ok(&["nft", &rules])?;
        }
        Ok(Silence { nodes })
    }

    pub(crate) fn end(self) -> Result<()> {
        self.nodes.iter().try_for_each(|(node, interface)| {
            node.run_ok(&["nft", &format!("delete table netdev broken_{interface}")]).map(drop)
        })
    }
}

/// Two flows, one a family, between the client of each switch and the pod.
pub(crate) fn start_flows(lab: &Lab) -> Result<Vec<Flow>> {
    let pod = lab.pod("c1", "c1-1")?;
    let mut flows = Vec::new();
    for switch in &SWITCHES {
        let client = lab.node(switch.tor.client)?;
        for target in pod.addresses()? {
            flows.push(Flow::start(&client, None, &pod, target)?);
        }
    }
    poll::until("an answer on every flow", LIMIT, || flows.iter().all(|flow| flow.answered() > 100))?;
    Ok(flows)
}

/// Sends the daemon a signal that ends it.
pub(crate) fn end(node: &Node, signal: Signal) -> Result<()> {
    node.kill(CAMBRICD, signal)?;
    poll::until("the daemon to end", LIMIT, || pid_is_gone(node))
}

pub(crate) fn start(node: &Node) -> Result<()> {
    // The last thread of a killed daemon may outlive the first one for a moment.
    let lock = ["flock", "--nonblock", "/run/cambric/cambricd.lock", "true"];
    poll::until("its lock to be free", LIMIT, || node.run_ok(&lock).is_ok())?;
    node.start()
}
