//! The sets `cam4self` and `cam6self` (hash:net,iface): which address is whose, as pairs of the address and the host
//! end of its pod's link. The rules of the daemon drop what a pod sends from an address that is not its own.
//!
//! The sets are the daemon's, of the names that it gives them; the plugin brings and takes its own pairs, so that a pod
//! that comes while the daemon is away reaches its node. Written by netlink (`ip_set_core.c` of the kernel, `ip_set.h`
//! has the numbers).

use std::io;
use std::net::IpAddr;

use nix::errno::Errno;
use nix::libc;

use crate::netlink::{Message, NetlinkError, Socket};

const NFNL_SUBSYS_IPSET: u16 = 6;
const IPSET_CMD_ADD: u16 = 9;
const IPSET_CMD_DEL: u16 = 10;
/// Understood by every kernel (IPSET_PROTOCOL_MIN).
const PROTOCOL: u8 = 6;

// Of a command.
const IPSET_ATTR_PROTOCOL: u16 = 1;
const IPSET_ATTR_SETNAME: u16 = 2;
const IPSET_ATTR_DATA: u16 = 7;
// Of a member.
const IPSET_ATTR_IP: u16 = 1;
const IPSET_ATTR_IFACE: u16 = 23;
// Of an address.
const IPSET_ATTR_IPADDR_IPV4: u16 = 1;
const IPSET_ATTR_IPADDR_IPV6: u16 = 2;

// Flags in the type of an attribute, without which ipset refuses it.
const NESTED: u16 = 0x8000;
const NETWORK_BYTE_ORDER: u16 = 0x4000;

/// Why a pair could not be added.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OwnersError {
    /// There is no such set: no rules were made since the boot, or the kernel has no ipset.
    #[error(transparent)]
    NoSet(NetlinkError),
    /// The kernel refused.
    #[error(transparent)]
    Refused(NetlinkError),
}

impl From<NetlinkError> for OwnersError {
    fn from(error: NetlinkError) -> Self {
        let no_socket = |error: &io::Error| error.raw_os_error() == Some(libc::EPROTONOSUPPORT);
        match &error {
            // EINVAL: nobody serves ipset (`nfnetlink_rcv_msg`).
            NetlinkError::Refused { errno: Errno::ENOENT | Errno::EINVAL, .. } => OwnersError::NoSet(error),
            NetlinkError::Socket(why) if no_socket(why) => OwnersError::NoSet(error),
            _ => OwnersError::Refused(error),
        }
    }
}

/// Adds the pairs of a pod; one that is there is no error. Those that have a set are added in any case.
pub(crate) fn add(ifname: &str, addresses: &[IpAddr]) -> Result<(), OwnersError> {
    let mut socket = Socket::open_netfilter().map_err(NetlinkError::from)?;
    let mut without_set = None;
    for address in addresses {
        match socket.batch(&[message(Change::Add, *address, ifname)]).map_err(OwnersError::from) {
            Err(OwnersError::NoSet(error)) => without_set = without_set.or(Some(error)),
            added => drop(added?),
        }
    }
    without_set.map_or(Ok(()), |error| Err(OwnersError::NoSet(error)))
}

/// Removes the pairs of a pod that is gone, as far as that can be done: no other pod's link has that name, and the
/// daemon removes what is left.
pub(crate) fn remove(ifname: &str, addresses: &[IpAddr]) {
    let messages: Vec<Message> =
        addresses.iter().map(|address| message(Change::Remove, *address, ifname)).collect();
    if let Ok(mut socket) = Socket::open_netfilter() {
        let _ = socket.batch(&messages);
    }
}

#[derive(Clone, Copy)]
enum Change {
    Add,
    Remove,
}

/// Without NLM_F_EXCL what is there already counts as added, and what is gone as removed.
fn message(change: Change, address: IpAddr, ifname: &str) -> Message {
    let (family, set, kind) = match address {
        IpAddr::V4(_) => (libc::AF_INET, "cam4self", IPSET_ATTR_IPADDR_IPV4),
        IpAddr::V6(_) => (libc::AF_INET6, "cam6self", IPSET_ATTR_IPADDR_IPV6),
    };
    let (doing, command) = match change {
        Change::Add => (format!("add {address} of {ifname} to the set {set}"), IPSET_CMD_ADD),
        Change::Remove => (format!("remove {address} of {ifname} from the set {set}"), IPSET_CMD_DEL),
    };
    Message::new(doing, NFNL_SUBSYS_IPSET << 8 | command, 0, &[family as u8, 0, 0, 0])
        .bytes(IPSET_ATTR_PROTOCOL, &[PROTOCOL])
        .text(IPSET_ATTR_SETNAME, set)
        .nest(IPSET_ATTR_DATA | NESTED, &[], |m| {
            m.nest(IPSET_ATTR_IP | NESTED, &[], |m| m.address(kind | NETWORK_BYTE_ORDER, address))
                .text(IPSET_ATTR_IFACE, ifname)
        })
}
