//! A raw ICMPv6 socket (RFC 3542) that hears router solicitations and advertisements of all links, and sends both.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};

use cambric_routes::LinkIndex;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg};
use socket2::{Domain, Protocol, SockFilter, SockRef, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::schedule::Send;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xFF02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xFF02, 0, 0, 0, 0, 0, 0, 2);
/// What of neighbour discovery passes to us (`struct sock_filter`, linux/filter.h): of a node with many pods there is much
/// more. Type 133 or 134, which is the first octet.
const SOLICITATIONS_AND_ADVERTISEMENTS: [SockFilter; 5] = [
    SockFilter::new(0x30, 0, 0, 0),        // ldb [0]
    SockFilter::new(0x15, 1, 0, 133),      // jeq 133: take it
    SockFilter::new(0x15, 0, 1, 134),      // jne 134: drop it
    SockFilter::new(0x06, 0, 0, u32::MAX), // take it
    SockFilter::new(0x06, 0, 0, 0),        // drop it
];

/// The socket. It is no UDP socket, but tokio waits for any that has messages in the same way, and there is no other safe
/// name for that.
#[derive(Debug)]
pub(super) struct Socket(UdpSocket);

/// What came, and over which link.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) link: LinkIndex,
    pub(super) source: Ipv6Addr,
    pub(super) hop_limit: Option<u8>,
    pub(super) octets: Vec<u8>,
}

impl Socket {
    /// Hears nothing that is sent to all routers before [`Socket::join`].
    ///
    /// # Errors
    /// Of the kernel: without CAP_NET_RAW it gives none.
    pub(super) fn open() -> io::Result<Socket> {
        let socket = socket2::Socket::new(Domain::IPV6, Type::RAW.nonblocking(), Some(Protocol::ICMPV6))?;
        socket.attach_filter(&SOLICITATIONS_AND_ADVERTISEMENTS)?;
        socket.set_recv_hoplimit_v6(true)?;
        // RFC 4861 section 4.1, 4.2: what comes with less has been passed on.
        socket.set_multicast_hops_v6(255)?;
        socket.set_multicast_loop_v6(false)?;
        Ok(Socket(UdpSocket::from_std(socket.into())?))
    }

    /// Hears on `link` what is sent to all routers.
    ///
    /// # Errors
    /// The link is gone.
    pub(super) fn join(&self, link: LinkIndex) -> io::Result<()> {
        match SockRef::from(&self.0).join_multicast_v6(&ALL_ROUTERS, link.0) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(()),
            joined => joined,
        }
    }

    /// Sends on `link`, from a link-local address that the kernel chooses there.
    ///
    /// # Errors
    /// The link is gone or has no address.
    pub(super) fn send(&self, link: LinkIndex, what: Send, octets: &[u8]) -> io::Result<()> {
        let to = match what {
            Send::Solicitation => ALL_ROUTERS,
            Send::Advertisement => ALL_NODES,
        };
        let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, link.0));
        let descriptor = self.0.as_fd().as_raw_fd();
        sendmsg(descriptor, &[IoSlice::new(octets)], &[], MsgFlags::MSG_DONTWAIT, Some(&to))?;
        Ok(())
    }

    /// What comes next. Cancel-safe.
    ///
    /// # Errors
    /// Of the kernel.
    pub(super) async fn receive(&self) -> io::Result<Received> {
        self.0.async_io(Interest::READABLE, || read(&self.0)).await
    }
}

fn read(socket: &UdpSocket) -> io::Result<Received> {
    // An advertisement with all its options is far shorter than a packet.
    let mut octets = vec![0; 1500];
    let mut place = nix::cmsg_space!(i32);
    let mut slices = [IoSliceMut::new(&mut octets)];
    let descriptor = socket.as_fd().as_raw_fd();
    let message = recvmsg::<SockaddrIn6>(descriptor, &mut slices, Some(&mut place), MsgFlags::MSG_DONTWAIT)?;
    let hop_limit = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv6HopLimit(limit) => u8::try_from(limit).ok(),
        _ => None,
    });
    let (from, length) = (message.address, message.bytes);
    let from = from.ok_or_else(|| io::Error::other("a packet from nowhere"))?;
    octets.truncate(length);
    Ok(Received { link: LinkIndex(from.scope_id()), source: from.ip(), hop_limit, octets })
}
