//! veth pairs, bridges and addresses, by `ip -batch`: one process for all links of a lab, and none of them is ever in
//! the host's namespace.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::clab::{Endpoint, Role, Topology};

/// Whether an interface is up or down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Carrier {
    /// `ip link set … up`.
    Up,
    /// `ip link set … down`.
    Down,
}

/// Names the network namespaces of inits under `/run/netns`, as `ip netns` does.
pub(crate) fn attach(names: &[(String, nix::unistd::Pid)]) -> Result<()> {
    let lines = names.iter().map(|(name, pid)| format!("netns attach {name} {pid}\n"));
    batch(None, &lines.collect::<String>()).context("naming network namespaces under /run/netns")
}

/// Makes all links of a lab, with both ends at their places from the start.
pub(crate) fn create(topology: &Topology) -> Result<()> {
    let end = |end: &Endpoint, mtu_bytes: Option<u32>| {
        let mtu = mtu_bytes.map(|mtu| format!(" mtu {mtu}")).unwrap_or_default();
        let mac = end.mac.as_ref().map(|mac| format!(" address {mac}")).unwrap_or_default();
        format!("{} netns {}{mtu}{mac}", end.interface, topology.netns_name(&end.node))
    };
    let line = |link: &crate::clab::Link| {
        let [first, second] = &link.ends;
        format!(
            "link add name {} type veth peer name {}\n",
            end(first, link.mtu_bytes),
            end(second, link.mtu_bytes)
        )
    };
    batch(None, &topology.links.iter().map(line).collect::<String>()).context("making links")
}

/// Gives the links of a node their addresses and sets them up; a bridge takes them as its ports.
pub(crate) fn configure(topology: &Topology, node: &str) -> Result<()> {
    let mut lines = String::from("link set lo up\n");
    let is_bridge = topology.nodes[node].role == Role::Bridge;
    if is_bridge {
        lines += &format!("link add name {node} type bridge\nlink set dev {node} up\n");
    }
    for end in topology.ends_of(node) {
        let interface = &end.interface;
        for address in &end.addresses {
            lines += &format!("address add {address} dev {interface}\n");
        }
        if is_bridge {
            lines += &format!("link set dev {interface} master {node}\n");
        }
        lines += &format!("link set dev {interface} up\n");
    }
    batch(Some(&topology.netns_name(node)), &lines).with_context(|| format!("setting up the links of {node}"))
}

/// Group of the links of a node; any number that nothing else uses.
const GROUP: u32 = 7203;

/// Sets all links of a node at once, as a power cut does: as a group, by one message.
///
/// One message each would not do. The kernel tells of a lost carrier at most once a second (`linkwatch`), so that
/// the neighbour behind the first link would know at once and the others a second later.
pub(crate) fn set_all(topology: &Topology, node: &str, carrier: Carrier) -> Result<()> {
    let word = if carrier == Carrier::Up { "up" } else { "down" };
    let members = topology.ends_of(node).map(|end| format!("link set dev {} group {GROUP}\n", end.interface));
    let lines = format!("{}link set group {GROUP} {word}\n", members.collect::<String>());
    batch(Some(&topology.netns_name(node)), &lines)
        .with_context(|| format!("setting the links of {node} {word}"))
}

/// Sets one interface of a node.
pub(crate) fn set_one(netns: &str, interface: &str, carrier: Carrier) -> Result<()> {
    let word = if carrier == Carrier::Up { "up" } else { "down" };
    batch(Some(netns), &format!("link set dev {interface} {word}\n"))
}

fn batch(netns: Option<&str>, lines: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(netns.map(|name| ["-netns", name]).iter().flatten()).args(["-batch", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("starting ip, of the package iproute2")?;
    let mut input = child.stdin.take().context("ip has no input")?;
    // When `ip` ends early, what it says is better than "broken pipe".
    let _ = input.write_all(lines.as_bytes());
    drop(input);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("ip: {}\nof this batch:\n{lines}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
