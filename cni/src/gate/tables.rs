//! The rules themselves: chain `forward` of the daemon's table `cambric` in nf_tables, one table a family.
//!
//! The mark and the sets outlive a ruleset that somebody flushes while the daemon is away. Then no pod is closed, so
//! the kernel is asked whether there are rules, by netlink (`nf_tables_getchain` of the kernel, `nf_tables.h` has the
//! numbers).

use std::net::IpAddr;

use nix::libc;

use crate::netlink::{Message, NetlinkError, Reply, Socket};
use crate::range::Addresses;

const TABLE: &str = "cambric";
/// All that a pod sends to others or gets from them goes through it.
const CHAIN: &str = "forward";

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_GETCHAIN: u16 = 4;
/// Size of `struct nfgenmsg`.
const NFGEN_BYTES: usize = 4;

const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
/// How many rules it has, if nothing jumps to it.
const NFTA_CHAIN_USE: u16 = 6;

/// Why it is not known that the pod is judged.
#[derive(Debug, thiserror::Error)]
pub(super) enum TablesError {
    /// There is no such chain or table, or the kernel does not tell.
    #[error(transparent)]
    Refused(#[from] NetlinkError),
    /// `nft flush table` leaves chains that let everything pass.
    #[error("chain {CHAIN} of table {family} {TABLE} has no rules")]
    Empty { family: &'static str },
}

/// Sees to it that there are rules in all families of a pod.
pub(super) fn look(addresses: Addresses) -> Result<(), TablesError> {
    let mut socket = Socket::open_netfilter().map_err(NetlinkError::from)?;
    for address in addresses.iter() {
        let (protocol, family) = match address {
            IpAddr::V4(_) => (libc::NFPROTO_IPV4, "ip"),
            IpAddr::V6(_) => (libc::NFPROTO_IPV6, "ip6"),
        };
        let replies = socket.batch(&[query(protocol as u8, family)])?;
        if !replies.iter().any(has_rules) {
            return Err(TablesError::Empty { family });
        }
    }
    Ok(())
}

fn query(protocol: u8, family: &str) -> Message {
    let doing = format!("find the rules of the node, chain {CHAIN} of table {family} {TABLE}");
    Message::new(doing, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN, 0, &[protocol, 0, 0, 0])
        .text(NFTA_CHAIN_TABLE, TABLE)
        .text(NFTA_CHAIN_NAME, CHAIN)
}

fn has_rules(reply: &Reply) -> bool {
    // In network byte order, which does not matter for zero.
    reply.attributes(NFGEN_BYTES).u32(NFTA_CHAIN_USE).is_some_and(|rules| rules > 0)
}
