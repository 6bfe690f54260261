//! Tells that a host route of a pod was deleted.
//!
//! A socket filter lets nothing else through, so that a full table of learned routes that comes and goes costs
//! nothing here. The kernel tells of a route that somebody deletes, not of the IPv4 routes that it drops itself with
//! an address or a link; for those there is the link table.

use std::io;

use netlink_sys::{AsyncSocket, AsyncSocketExt, TokioSocket, protocols::NETLINK_ROUTE};
use nix::libc;
use socket2::{SockFilter, SockRef};

/// `RTNLGRP_IPV4_ROUTE` and `RTNLGRP_IPV6_ROUTE`.
const GROUPS: [u32; 2] = [7, 11];
/// `rtm_protocol` of pods' host routes.
const PROTOCOL_POD: u8 = 204;

/// Watches in the network namespace it was opened in.
pub(super) struct Deletions {
    socket: TokioSocket,
}

impl Deletions {
    pub(super) fn watch() -> io::Result<Deletions> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind_auto()?;
        SockRef::from(socket.socket_ref()).attach_filter(&only_deleted_pod_routes())?;
        for group in GROUPS {
            socket.socket_mut().add_membership(group)?;
        }
        Ok(Deletions { socket })
    }

    /// Waits for one. Cancel-safe: what is not taken stays in the queue.
    pub(super) async fn next(&mut self) -> io::Result<()> {
        match self.socket.recv_from_full().await {
            // So many were deleted that some were not told; one is enough.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
            told => told.map(drop),
        }
    }
}

fn only_deleted_pod_routes() -> [SockFilter; 6] {
    const LOAD_HALF: u16 = 0x28;
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    /// Of `nlmsg_type`.
    const TYPE_AT: u32 = 4;
    /// Of `rtm_protocol`, behind the header.
    const PROTOCOL_AT: u32 = 16 + 5;
    // The filter machine reads big-endian, netlink writes in the host's order.
    let deleted = u32::from(libc::RTM_DELROUTE.to_be());
    [
        SockFilter::new(LOAD_HALF, 0, 0, TYPE_AT),
        SockFilter::new(JUMP_IF_EQUAL, 0, 3, deleted),
        SockFilter::new(LOAD_BYTE, 0, 0, PROTOCOL_AT),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, u32::from(PROTOCOL_POD)),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}
