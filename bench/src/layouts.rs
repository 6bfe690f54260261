//! Ways to bring a packet to the rules of its pod.
//!
//! All but the first three hold the same: for each pod of the node a chain of its own with four rules, each with a port
//! and a set of addresses, and a drop at the end. The client fits the last rule.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::Result;
use cambric_policy::change::{Change, Endpoint, Key};

use crate::node;
use crate::objects;
use crate::site::{CLIENT, PORT, Site, address, veth};

/// A way to do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layout {
    /// No table at all.
    NoRules,
    /// Packets of established flows are accepted, then all others.
    Accept(Tool),
    /// The program of our own compiler, written by our own enforcer.
    Cambric,
    /// `-o VETH -g CHAIN` for one pod after the other.
    Linear(Tool),
}

/// Which iptables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tool {
    /// By nf_tables.
    Nft,
    /// By the kernel's xtables, which newer kernels may lack.
    Legacy,
}

impl Layout {
    pub(crate) const ALL: [Layout; 6] = [
        Layout::NoRules,
        Layout::Accept(Tool::Nft),
        Layout::Accept(Tool::Legacy),
        Layout::Cambric,
        Layout::Linear(Tool::Nft),
        Layout::Linear(Tool::Legacy),
    ];

    /// Whether it stops what the pods' rules do not name.
    pub(crate) fn enforces(self) -> bool {
        matches!(self, Layout::Cambric | Layout::Linear(_))
    }

    /// What it is compared with: accept-only in the same part of the kernel.
    pub(crate) fn accept(self) -> Layout {
        match self {
            Layout::Accept(tool) | Layout::Linear(tool) => Layout::Accept(tool),
            Layout::NoRules | Layout::Cambric => Layout::Accept(Tool::Nft),
        }
    }

    /// Writes it to the node of a site, for so many pods.
    pub(crate) fn write(self, site: &Site, pods: usize) -> Result<()> {
        match self {
            Layout::NoRules => Ok(()),
            Layout::Accept(tool) => restore(site, tool, &accept_rules()),
            Layout::Linear(tool) => {
                site.node().run("ipset", "restore", &sets())?;
                restore(site, tool, &linear_rules(pods))
            }
            Layout::Cambric => node::write(site.node(), changes(pods)),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Layout::NoRules => "no rules",
            Layout::Accept(Tool::Nft) => "accept only, iptables-nft",
            Layout::Accept(Tool::Legacy) => "accept only, iptables-legacy",
            Layout::Cambric => "Cambric",
            Layout::Linear(Tool::Nft) => "linear, iptables-nft",
            Layout::Linear(Tool::Legacy) => "linear, iptables-legacy",
        };
        f.pad(name)
    }
}

fn restore(site: &Site, tool: Tool, rules: &str) -> Result<()> {
    // Legacy takes a lock that all of the machine shares: wait for it.
    let (tool, arguments) = match tool {
        Tool::Nft => ("iptables-nft-restore", ""),
        Tool::Legacy => ("iptables-legacy-restore", "--wait 10"),
    };
    site.node().run(tool, arguments, rules).map(drop)
}

const ESTABLISHED: &str = "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n";

fn accept_rules() -> String {
    format!("*filter\n:FORWARD ACCEPT [0:0]\n{ESTABLISHED}-A FORWARD -j ACCEPT\nCOMMIT\n")
}

fn linear_rules(pods: usize) -> String {
    let mut text = String::from("*filter\n:FORWARD ACCEPT [0:0]\n");
    (0..pods).for_each(|pod| text += &format!(":P{pod:04x} - [0:0]\n"));
    text += ESTABLISHED;
    (0..pods).for_each(|pod| text += &format!("-A FORWARD -o {} -g P{pod:04x}\n", veth(pod)));
    for pod in 0..pods {
        for Allowed { protocol, port, peers } in ALLOWED {
            text += &format!(
                "-A P{pod:04x} -p {protocol} -m {protocol} --dport {port} -m set --match-set {peers} src -j ACCEPT\n",
                protocol = protocol.to_lowercase()
            );
        }
        text += &format!("-A P{pod:04x} -j DROP\n");
    }
    text + "COMMIT\n"
}

/// A rule that each pod has, in our case for both directions.
struct Allowed {
    protocol: &'static str,
    port: u16,
    /// Name of the set, or of the label, of those it lets in.
    peers: &'static str,
}

impl Allowed {
    /// As a rule of a policy, its peers in this field.
    fn towards(&self, peers: &str) -> serde_json::Value {
        serde_json::json!({
            peers: [{"podSelector": {"matchLabels": {"peers": self.peers}}}],
            "ports": [{"protocol": self.protocol, "port": self.port}],
        })
    }
}

const ALLOWED: [Allowed; 4] = [
    Allowed { protocol: "UDP", port: 5000, peers: "one" },
    Allowed { protocol: "TCP", port: 80, peers: "two" },
    Allowed { protocol: "UDP", port: PORT, peers: "three" },
    Allowed { protocol: "UDP", port: PORT, peers: "four" },
];

/// Who is in which set: 99 each, and the client in the last.
fn peers() -> impl Iterator<Item = (&'static str, Ipv4Addr)> {
    let of_set = |(n, allowed): (usize, &Allowed)| {
        let name = allowed.peers;
        (1..100).map(move |host| (name, Ipv4Addr::new(10, 20, n as u8, host)))
    };
    ALLOWED.iter().enumerate().flat_map(of_set).chain([("four", CLIENT)])
}

fn sets() -> String {
    let mut text = String::new();
    ALLOWED.iter().for_each(|Allowed { peers, .. }| text += &format!("create {peers} hash:ip family inet\n"));
    peers().for_each(|(set, address)| text += &format!("add {set} {address}\n"));
    text
}

/// The same, told as Kubernetes would: two policies a pod with two rules each.
fn changes(pods: usize) -> Vec<Change> {
    let mut changes = vec![objects::namespace("default", &[])];
    for (n, (label, address)) in peers().enumerate() {
        let pod = objects::Pod {
            namespace: "default",
            name: &format!("peer-{n}"),
            labels: &[("peers", label)],
            node: "elsewhere",
            addresses: &[address.into()],
        };
        changes.push(pod.change());
    }
    for n in 0..pods {
        let name = format!("pod-{n}");
        let address = IpAddr::from(address(n));
        let pod = objects::Pod {
            namespace: "default",
            name: &name,
            labels: &[("app", &name)],
            node: node::NAME,
            addresses: &[address],
        };
        changes.push(pod.change());
        for (half, rules) in ALLOWED.chunks(2).enumerate() {
            let spec = serde_json::json!({
                "podSelector": {"matchLabels": {"app": name}},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": rules.iter().map(|rule| rule.towards("from")).collect::<Vec<_>>(),
                "egress": rules.iter().map(|rule| rule.towards("to")).collect::<Vec<_>>(),
            });
            changes.push(objects::policy("default", &format!("{name}-{half}"), spec));
        }
        let endpoint =
            Endpoint { pod: Some(Key::new("default", &name).into()), addresses: BTreeSet::from([address]) };
        changes.push(Change::Endpoint(Arc::from(veth(n)), Some(endpoint)));
    }
    changes
}
