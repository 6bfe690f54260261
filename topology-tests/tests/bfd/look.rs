//! What the node and the switches say of BFD, and what their kernels have.

use anyhow::{Result, ensure};
use cambric_lab::{Lab, Node};
use serde_json::Value;

use crate::common::operator;
use crate::tor::{BIRD, FRR, Kind, Tor};

const BIRD_SOCKET: &str = "/run/bird-lab.ctl";

/// The node's pod ranges.
const PODS: [&str; 2] = ["198.51.100.0/26", "2001:db8:100::/64"];

/// A switch, with what is known of it beyond restarts.
#[derive(Debug)]
pub(crate) struct Switch {
    pub(crate) tor: &'static Tor,
    /// The node's link to it.
    pub(crate) interface: &'static str,
    prefixes: [&'static str; 2],
    peers: [&'static str; 2],
}

pub(crate) const SWITCHES: [Switch; 2] = [
    Switch {
        tor: &FRR,
        interface: "eth1",
        prefixes: ["198.51.100.64/26", "2001:db8:100:1::/64"],
        peers: ["frr", "frr-v6"],
    },
    Switch {
        tor: &BIRD,
        interface: "eth2",
        prefixes: ["198.51.100.128/26", "2001:db8:100:2::/64"],
        peers: ["bird", "bird-v6"],
    },
];

/// A session, as the node has it.
#[derive(Debug, Clone)]
pub(crate) struct Bfd {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) transmit_ms: u64,
    pub(crate) detection_ms: u64,
    pub(crate) downs: u64,
    /// How it was lost last.
    pub(crate) why: String,
}

/// All sessions of a node.
pub(crate) fn all(node: &Node) -> Result<Vec<Bfd>> {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let bfd = |peer: &Value| {
        let bfd = peer["bfd"].as_object()?;
        Some(Bfd {
            name: text(&peer["name"]),
            state: text(&bfd["state"]),
            transmit_ms: number(&bfd["transmit_ms"]),
            detection_ms: number(&bfd["detection_ms"]),
            downs: number(&bfd["downs"]),
            why: text(&bfd["last_down"]["what"]),
        })
    };
    Ok(operator::peers(node)?.iter().filter_map(bfd).collect())
}

/// Those with one switch.
pub(crate) fn of(node: &Node, tor: &Tor) -> Result<Vec<Bfd>> {
    let switch = SWITCHES.iter().find(|switch| switch.tor.name == tor.name);
    let mut found = all(node)?;
    found.retain(|bfd| switch.is_some_and(|switch| switch.peers.contains(&bfd.name.as_str())));
    ensure!(found.len() == 2, "{found:?}");
    Ok(found)
}

pub(crate) fn all_are_up(node: &Node) -> bool {
    all(node).is_ok_and(|all| all.len() == 4 && all.iter().all(|bfd| bfd.state == "Up"))
}

/// Why the session over IPv4 ended last.
pub(crate) fn last_error(node: &Node, tor: &Tor) -> Result<String> {
    let switch = SWITCHES.iter().find(|switch| switch.tor.name == tor.name);
    let peers = operator::peers(node)?;
    let peer = peers.iter().find(|peer| switch.is_some_and(|switch| peer["name"] == switch.peers[0]));
    Ok(peer.and_then(|peer| peer["last_error"]["what"].as_str()).unwrap_or_default().to_owned())
}

impl Switch {
    /// Whether the node's kernel has no route of it any more.
    pub(crate) fn is_cut_in_kernel_of(&self, node: &Node) -> bool {
        let has = |family, prefix| {
            let text = node.run_ok(&["ip", family, "route", "show", "exact", prefix]);
            text.map_or(true, |text| !text.trim().is_empty())
        };
        !has("-4", self.prefixes[0]) && !has("-6", self.prefixes[1])
    }

    /// Whether its kernel has the node's pod ranges, IPv4 and IPv6.
    pub(crate) fn has_in_kernel(&self, lab: &Lab) -> [bool; 2] {
        let has = |family, prefix| -> Result<bool> {
            let text = lab.node(self.tor.name)?.run_ok(&["ip", family, "route", "show", "exact", prefix])?;
            Ok(!text.trim().is_empty())
        };
        [("-4", PODS[0]), ("-6", PODS[1])].map(|(family, prefix)| has(family, prefix).unwrap_or(true))
    }

    /// Whether both of its sessions of BFD are up, as it sees them.
    pub(crate) fn sees_bfd_up(&self, lab: &Lab) -> Result<bool> {
        let node = lab.node(self.tor.name)?;
        Ok(match self.tor.kind {
            Kind::Frr => {
                let peers: Value =
                    serde_json::from_str(&node.run_ok(&["vtysh", "-c", "show bfd peers json"])?)?;
                let up = peers.as_array().into_iter().flatten().filter(|peer| peer["status"] == "up");
                up.count() == 2
            }
            Kind::Bird => {
                let text = node.run_ok(&["birdc", "-s", BIRD_SOCKET, "show", "bfd", "sessions"])?;
                text.lines().filter(|line| line.contains("Up")).count() == 2
            }
        })
    }

    /// Whether it says that BFD ends: BIRD does not, it falls silent.
    pub(crate) fn says_admin_down(&self) -> bool {
        self.tor.kind == Kind::Frr
    }

    /// Its operator ends BFD.
    pub(crate) fn end_bfd(&self, lab: &Lab) -> Result<()> {
        self.set_bfd(lab, "shutdown", "disable")
    }

    /// Its operator has BFD again.
    pub(crate) fn start_bfd(&self, lab: &Lab) -> Result<()> {
        self.set_bfd(lab, "no shutdown", "enable")
    }

    fn set_bfd(&self, lab: &Lab, frr: &str, bird: &str) -> Result<()> {
        let node = lab.node(self.tor.name)?;
        match self.tor.kind {
            Kind::Frr => {
                let lines = ["configure terminal", "bfd", "profile node", frr];
                let words: Vec<&str> = lines.into_iter().flat_map(|line| ["-c", line]).collect();
                node.run_ok(&[&["vtysh"], words.as_slice()].concat())?;
            }
            Kind::Bird => drop(node.run_ok(&["birdc", "-s", BIRD_SOCKET, bird, "bfd1"])?),
        }
        Ok(())
    }
}
