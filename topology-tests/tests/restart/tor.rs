//! The switches: what they have of the node, and how they are ended and started.

use anyhow::{Context, Result};
use cambric_lab::{Lab, Node};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::common::operator::established;

const BIRD_SOCKET: &str = "/run/bird-lab.ctl";

/// The node's pod ranges.
const PODS: [&str; 2] = ["198.51.100.0/26", "2001:db8:100::/64"];

/// A switch with a client behind it; families in the order IPv4, IPv6.
#[derive(Debug)]
pub(crate) struct Tor {
    pub(crate) kind: Kind,
    pub(crate) name: &'static str,
    /// The node behind it.
    pub(crate) client: &'static str,
    /// What it announces.
    prefixes: [&'static str; 2],
    /// Its addresses on the link to the node.
    gateways: [&'static str; 2],
    /// What the node calls its sessions.
    peers: [&'static str; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Frr,
    Bird,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Frr => "FRR",
            Kind::Bird => "BIRD",
        }
    }

    fn daemon(self) -> &'static str {
        match self {
            Kind::Frr => "bgpd",
            Kind::Bird => "bird",
        }
    }
}

pub(crate) static FRR: Tor = Tor {
    kind: Kind::Frr,
    name: "f1",
    client: "k1",
    prefixes: ["198.51.100.64/26", "2001:db8:100:1::/64"],
    gateways: ["192.0.2.0", "2001:db8:0:1::"],
    peers: ["frr", "frr-v6"],
};

pub(crate) static BIRD: Tor = Tor {
    kind: Kind::Bird,
    name: "b1",
    client: "k2",
    prefixes: ["198.51.100.128/26", "2001:db8:100:2::/64"],
    gateways: ["192.0.2.2", "2001:db8:0:2::"],
    peers: ["bird", "bird-v6"],
};

/// All, or all but one.
pub(crate) fn all_but(absent: Option<&'static Tor>) -> impl Iterator<Item = &'static Tor> {
    [&FRR, &BIRD].into_iter().filter(move |tor| absent.is_none_or(|absent| absent.kind != tor.kind))
}

impl Tor {
    /// Whether both sessions are up, as the node sees it.
    pub(crate) fn is_peer_of(&self, node: &Node) -> bool {
        let up = established(node);
        self.peers.iter().all(|peer| up.iter().any(|name| name == peer))
    }

    /// Whether the node's kernel uses its routes.
    pub(crate) fn is_in_kernel_of(&self, node: &Node) -> bool {
        let has = |family, prefix| {
            let text = node.run_ok(&["ip", family, "route", "show", "exact", prefix]);
            text.is_ok_and(|text| text.contains("proto 203"))
        };
        has("-4", self.prefixes[0]) && has("-6", self.prefixes[1])
    }

    /// Whether it has the node's pod ranges, told on the sessions that are up now.
    pub(crate) fn has_fresh(&self, lab: &Lab) -> Result<bool> {
        let node = lab.node(self.name)?;
        Ok(match self.kind {
            Kind::Frr => {
                let is_fresh = |(family, prefix): (&str, &str)| -> Result<bool> {
                    let command = format!("show bgp {family} unicast {prefix} json");
                    let route: Value = serde_json::from_str(&node.run_ok(&["vtysh", "-c", &command])?)?;
                    let path = &route["paths"][0];
                    Ok(path.is_object() && path["stale"] != true)
                };
                is_fresh(("ipv4", PODS[0]))? && is_fresh(("ipv6", PODS[1]))?
            }
            Kind::Bird => {
                // A route is not marked; its session is.
                let is_fresh = |(session, prefix): (&str, &str)| -> Result<bool> {
                    let all = birdc(&node, &["show", "protocols", "all", session])?;
                    let is_up = all.contains("BGP state:          Established");
                    let is_kept = all.contains("graceful restart active");
                    // It fails without the prefix.
                    let output = node.run(&["birdc", "-s", BIRD_SOCKET, "show", "route", prefix])?;
                    let has = String::from_utf8_lossy(&output.stdout).contains(session);
                    Ok(is_up && !is_kept && has)
                };
                is_fresh(("c1_v4", PODS[0]))? && is_fresh(("c1_v6", PODS[1]))?
            }
        })
    }

    /// Kills its daemon; what it has put into its kernel is its own affair.
    pub(crate) fn end(&self, lab: &Lab) -> Result<()> {
        lab.node(self.name)?.kill(self.kind.daemon(), Signal::SIGKILL)
    }

    /// Starts it again.
    pub(crate) fn start(&self, lab: &Lab) -> Result<()> {
        let node = lab.node(self.name)?;
        match self.kind {
            Kind::Frr => node.start(),
            Kind::Bird => node.run_ok(node.spec().exec.last().context("the lab starts bird")?).map(drop),
        }
    }

    /// Whether a message of the node's kernel is about its routes or the way to it.
    pub(crate) fn is_about(&self, text: &str) -> bool {
        let words: Vec<&str> = text.split_whitespace().collect();
        self.prefixes.iter().chain(&self.gateways).any(|name| words.contains(name))
    }
}

fn birdc(node: &Node, words: &[&str]) -> Result<String> {
    node.run_ok(&[&["birdc", "-s", BIRD_SOCKET], words].concat())
}
