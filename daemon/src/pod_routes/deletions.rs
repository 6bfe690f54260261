//! Tells that a host route of a pod was deleted, or that a route to a single address has another's place: that one may
//! have been a pod's, of which the kernel says nothing.
//!
//! A socket filter lets nothing else through, so that a full table of learned routes that comes and goes costs
//! nothing here. The kernel tells of a route that somebody deletes, not of the IPv4 routes that it drops itself with
//! an address or a link; for those there is the link table. A better route that is put beside a pod's is not told
//! from here either: the look of every minute sees it.

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
        SockRef::from(socket.socket_ref()).attach_filter(&only_lost_pod_routes())?;
        for group in GROUPS {
            socket.socket_mut().add_membership(group)?;
        }
        Ok(Deletions { socket })
    }

    /// Waits for one, and takes all that are told by then with it: one look is enough for them. Cancel-safe: what is
    /// not taken stays in the queue.
    pub(super) async fn next(&mut self) -> io::Result<()> {
        // What it says is of no interest; the rest of a datagram is dropped with it.
        let mut start = [0; 16];
        go_on(self.socket.recv(&mut &mut start[..]).await)?;
        loop {
            match self.socket.socket_ref().recv(&mut &mut start[..], 0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                told => go_on(told.map(drop))?,
            }
        }
    }
}

/// So many were deleted that some were not told: that counts as told, too.
fn go_on(told: io::Result<()>) -> io::Result<()> {
    match told {
        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
        told => told,
    }
}

fn only_lost_pod_routes() -> [SockFilter; 15] {
    const LOAD_HALF: u16 = 0x28;
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const JUMP_IF_ANY_BIT: u16 = 0x45;
    const RETURN: u16 = 0x06;
    /// Of `nlmsg_type` and `nlmsg_flags`.
    const TYPE_AT: u32 = 4;
    const FLAGS_AT: u32 = 6;
    /// Of `rtm_family`, `rtm_dst_len` and `rtm_protocol`, behind the header.
    const FAMILY_AT: u32 = 16;
    const PREFIX_AT: u32 = 16 + 1;
    const PROTOCOL_AT: u32 = 16 + 5;
    // The filter machine reads big-endian, netlink writes in the host's order.
    let deleted = u32::from(libc::RTM_DELROUTE.to_be());
    let new = u32::from(libc::RTM_NEWROUTE.to_be());
    let replaced = u32::from((libc::NLM_F_REPLACE as u16).to_be());
    [
        SockFilter::new(LOAD_HALF, 0, 0, TYPE_AT),
        SockFilter::new(JUMP_IF_EQUAL, 0, 2, deleted),
        SockFilter::new(LOAD_BYTE, 0, 0, PROTOCOL_AT),
        SockFilter::new(JUMP_IF_EQUAL, 9, 10, u32::from(PROTOCOL_POD)),
        SockFilter::new(JUMP_IF_EQUAL, 0, 9, new),
        SockFilter::new(LOAD_HALF, 0, 0, FLAGS_AT),
        SockFilter::new(JUMP_IF_ANY_BIT, 0, 7, replaced),
        SockFilter::new(LOAD_BYTE, 0, 0, FAMILY_AT),
        SockFilter::new(JUMP_IF_EQUAL, 0, 2, libc::AF_INET as u32),
        SockFilter::new(LOAD_BYTE, 0, 0, PREFIX_AT),
        SockFilter::new(JUMP_IF_EQUAL, 2, 3, 32),
        SockFilter::new(LOAD_BYTE, 0, 0, PREFIX_AT),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, 128),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::own_node::{ip, on_a_node};

    fn told(deletions: &mut Deletions) -> bool {
        deletions.next().now_or_never().is_some()
    }

    #[test]
    fn many_deletions_at_once_are_told_once() {
        on_a_node(async || {
            let route = |what: &str, nth: u32| {
                format!("route {what} 10.244.{}.{}/32 dev lo proto 204", nth / 256, nth % 256)
            };
            // More than the queue holds, too.
            for count in [2000, 2] {
                ip((0..count).map(|nth| route("add", nth)));
                let mut deletions = Deletions::watch().expect("watched");
                ip((0..count).map(|nth| route("del", nth)));
                deletions.next().await.expect("told");
                assert!(!told(&mut deletions), "all of {count} were told at once");
                ip([route("add", 7), route("del", 7)]);
                deletions.next().await.expect("told again");
                assert!(!told(&mut deletions));
            }
        });
    }

    #[test]
    fn a_route_that_takes_a_pods_place_is_told_and_learned_ones_are_not() {
        on_a_node(async || {
            let words = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
            ip(words(
                "route add 10.244.1.5 dev lo proto 204
                route add fd00::5 dev lo proto 204 metric 1024
                route add 20.0.0.0/24 dev lo proto 203
                route add fd00:20::/64 dev lo proto 203
                route add fd00:20::/32 dev lo proto 203",
            ));
            let mut deletions = Deletions::watch().expect("watched");
            ip(words(
                "route replace 20.0.0.0/24 dev lo proto 203 scope host
                route replace fd00:20::/64 dev lo proto 203 mtu 1400
                route replace fd00:20::/32 dev lo proto 203 mtu 1400
                route del 20.0.0.0/24
                route del fd00:20::/64
                route add 10.244.1.6 dev lo proto 204
                route add fd00::6 dev lo proto 204",
            ));
            for command in [
                "route replace 10.244.1.5 dev lo proto static",
                "route replace fd00::5 dev lo proto static metric 1024",
                "route del 10.244.1.6",
                "route del fd00::6",
            ] {
                assert!(!told(&mut deletions), "before {command}");
                ip([command.to_owned()]);
                deletions.next().await.expect("told");
            }
            assert!(!told(&mut deletions));
        });
    }
}
