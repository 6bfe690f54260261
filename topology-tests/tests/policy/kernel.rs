//! What a node's kernel holds of policy.

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use cambric_lab::Node;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

/// `NFNL_SUBSYS_NFTABLES` and `NFT_MSG_GETGEN`.
const GET_GENERATION: u16 = 10 << 8 | 16;
/// `NFTA_GEN_ID`
const GENERATION: u16 = 1;

/// Tables and sets, without what they counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// Each chain and each map, in no order; the rules of a chain in theirs.
    pub(crate) tables: BTreeSet<String>,
    pub(crate) sets: BTreeSet<String>,
}

impl Held {
    /// What is not the same.
    pub(crate) fn changes(&self, now: &Held) -> Vec<String> {
        let all = |held: &Held| held.tables.union(&held.sets).cloned().collect::<BTreeSet<String>>();
        let (before, after) = (all(self), all(now));
        let gone = before.difference(&after).map(|part| format!("gone: {part}"));
        gone.chain(after.difference(&before).map(|part| format!("new: {part}"))).collect()
    }
}

/// All of ours in a node. A table that is not there is empty.
pub(crate) fn held(node: &Node) -> Result<Held> {
    look(node, "-s")
}

/// As [`held`], with the numbers by which the kernel knows rules: one that is written anew has another. But for ARP:
/// that table is small, and a daemon that makes it its own makes it whole.
pub(crate) fn held_with_handles(node: &Node) -> Result<Held> {
    look(node, "-sa")
}

fn look(node: &Node, how: &str) -> Result<Held> {
    let table = |family: &str| {
        let how = if family == "arp" { "-s" } else { how };
        let output = node.run(&["nft", how, "list", "table", family, "cambric"])?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.split("\n\n").map(|part| format!("{family} {}", in_order(part))).collect::<Vec<_>>())
    };
    let tables = ["ip", "ip6", "arp"].into_iter().map(table).collect::<Result<Vec<_>>>()?;
    let tables = tables.into_iter().flatten().collect();
    let sets = node.run_ok(&["ipset", "save"])?;
    // Hash tables grow, and were made for as many as there were.
    let kept = |line: &str| match line.split_once(" hashsize ") {
        Some((head, _)) => head.to_owned(),
        None => line.to_owned(),
    };
    let sets =
        sets.lines().filter(|line| line.contains(" cam4") || line.contains(" cam6")).map(kept).collect();
    Ok(Held { tables, sets })
}

/// The elements of a map come in any order.
fn in_order(part: &str) -> String {
    let lines = part
        .lines()
        .map(|line| line.trim().trim_start_matches("elements = { ").trim_end_matches([',', ' ', '}']));
    let mut lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    if !part.contains("\tchain ") {
        lines.sort_unstable();
    }
    lines.join("; ")
}

/// Counts the transactions of nf_tables in the node's network, whoever made them.
pub(crate) fn generation(node: &Node) -> Result<u32> {
    let answer = node.in_netns(|| -> Result<Vec<u8>> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )?;
        let mut request = 20_u32.to_ne_bytes().to_vec();
        request.extend(GET_GENERATION.to_ne_bytes());
        request.extend(1_u16.to_ne_bytes()); // NLM_F_REQUEST
        request.extend([0; 12]);
        sendto(socket.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut answer = vec![0; 4096];
        let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        answer.truncate(length);
        Ok(answer)
    })??;
    // Behind both headers the first attribute is the generation, in network byte order.
    let attribute = answer.get(20..28).context("a short answer")?;
    ensure!(attribute[2..4] == GENERATION.to_ne_bytes(), "{answer:?}");
    Ok(u32::from_be_bytes([attribute[4], attribute[5], attribute[6], attribute[7]]))
}
