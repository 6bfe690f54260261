//! Sockets made the way BFD wants them (RFC 5881 sections 4 and 5).

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use cambric_bfd::{Arrived, Neighbor, PORT, SOURCE_PORTS, TTL};
use cambric_bgp::router::BfdSession;
use nix::libc::{c_int, in_pktinfo, in6_pktinfo};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::socket::mark;

/// What a socket may hold while the thread does not run, if the kernel allows it: a second of a large fabric.
const RECEIVE_BYTES: usize = 1 << 20;
/// Far more than a control packet has.
const MOST_PACKET_BYTES: usize = 512;

/// Takes all packets of one family.
#[derive(Debug)]
pub(super) struct Receiver {
    socket: Socket,
    control: Vec<u8>,
}

impl Receiver {
    /// # Errors
    /// The family or the port is not to be had.
    pub(super) fn open(any: IpAddr, port: u16) -> io::Result<Receiver> {
        let at = SocketAddr::new(any, port);
        let socket = Socket::new(Domain::for_address(at), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        match any {
            IpAddr::V4(_) => {
                setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
                setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            }
            IpAddr::V6(_) => {
                socket.set_only_v6(true)?;
                setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            }
        }
        socket.set_recv_buffer_size(RECEIVE_BYTES)?;
        socket.bind(&at.into())?;
        Ok(Receiver { socket, control: nix::cmsg_space!(c_int, in_pktinfo, in6_pktinfo) })
    }

    /// The next packet that waits, if one does.
    pub(super) fn receive(
        &mut self,
        octets: &mut [u8; MOST_PACKET_BYTES],
    ) -> io::Result<Option<(Arrived, usize)>> {
        let mut slices = [IoSliceMut::new(octets)];
        let (descriptor, control) = (self.socket.as_raw_fd(), Some(self.control.as_mut_slice()));
        let received = recvmsg::<SockaddrStorage>(descriptor, &mut slices, control, MsgFlags::MSG_DONTWAIT);
        let message = match received {
            Ok(message) => message,
            Err(nix::Error::EAGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let v4 = message.address.and_then(|from| from.as_sockaddr_in().map(|from| IpAddr::V4(from.ip())));
        let v6 = message.address.and_then(|from| from.as_sockaddr_in6().map(|from| IpAddr::V6(from.ip())));
        // Whatever the kernel does not tell is not as it must be.
        let source = v4.or(v6).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let mut arrived = Arrived { source, interface: None, ttl: 0 };
        for told in message.cmsgs()? {
            match told {
                ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => {
                    arrived.ttl = u8::try_from(ttl).unwrap_or_default();
                }
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    arrived.interface = u32::try_from(info.ipi_ifindex).ok().and_then(NonZeroU32::new);
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    arrived.interface = NonZeroU32::new(info.ipi6_ifindex);
                }
                _ => {}
            }
        }
        Ok(Some((arrived, message.bytes)))
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

pub(super) type Buffer = [u8; MOST_PACKET_BYTES];

pub(super) fn buffer() -> Buffer {
    [0; MOST_PACKET_BYTES]
}

/// Sends the packets of one session, all from one port.
#[derive(Debug)]
pub(super) struct Sender {
    socket: Socket,
    to: SocketAddr,
}

impl Sender {
    /// `from_port` is tried first.
    ///
    /// # Errors
    /// The interface or the source address is not there.
    pub(super) fn open(neighbor: &Neighbor, session: &BfdSession, from_port: u16) -> io::Result<Sender> {
        let to = match neighbor.address {
            IpAddr::V4(v4) => SocketAddr::from((v4, PORT)),
            IpAddr::V6(v6) => {
                SocketAddrV6::new(v6, PORT, 0, neighbor.interface.map_or(0, NonZeroU32::get)).into()
            }
        };
        let socket = Socket::new(Domain::for_address(to), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        match to {
            SocketAddr::V4(_) => socket.set_ttl_v4(TTL.into())?,
            SocketAddr::V6(_) => {
                socket.set_only_v6(true)?;
                socket.set_unicast_hops_v6(TTL.into())?;
            }
        }
        mark(&socket, to.ip())?;
        // What somebody sends to it is not read.
        socket.set_recv_buffer_size(1)?;
        if let Some(interface) = &session.interface {
            socket.bind_device(Some(interface.as_bytes()))?;
        }
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let local = session.local.unwrap_or(any);
        let ports = (from_port..=*SOURCE_PORTS.end()).chain(*SOURCE_PORTS.start()..from_port);
        for port in ports {
            let at = match local {
                IpAddr::V6(v6) if v6.is_unicast_link_local() => {
                    SocketAddrV6::new(v6, port, 0, neighbor.interface.map_or(0, NonZeroU32::get)).into()
                }
                local => SocketAddr::new(local, port),
            };
            match socket.bind(&at.into()) {
                Ok(()) => return Ok(Sender { socket, to }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    /// # Errors
    /// The way is not there, or the link's queue is full.
    pub(super) fn send(&self, octets: &[u8]) -> io::Result<()> {
        self.socket.send_to(octets, &self.to.into()).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(receiver: &mut Receiver) -> (Arrived, Vec<u8>) {
        let mut octets = buffer();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while std::time::Instant::now() < end {
            if let Some((arrived, length)) = receiver.receive(&mut octets).expect("it is open") {
                return (arrived, octets[..length].to_vec());
            }
            std::thread::yield_now();
        }
        panic!("nothing came");
    }

    #[test]
    fn ttl_and_link_of_a_packet_are_told_in_both_families() {
        for (any, here) in [("0.0.0.0", "127.0.0.1"), ("::", "::1")] {
            let [any, here]: [IpAddr; 2] = [any, here].map(|text| text.parse().expect("address"));
            let mut receiver = Receiver::open(any, 0).expect("a free port");
            let port = receiver.socket.local_addr().expect("bound").as_socket().expect("IP").port();
            let sender =
                Socket::new(Domain::for_address((here, 0).into()), Type::DGRAM, None).expect("a socket");
            for ttl in [255_u8, 64] {
                match here {
                    IpAddr::V4(_) => sender.set_ttl_v4(ttl.into()),
                    IpAddr::V6(_) => sender.set_unicast_hops_v6(ttl.into()),
                }
                .expect("set");
                sender.send_to(b"octets", &SocketAddr::new(here, port).into()).expect("it is there");
                let (arrived, octets) = wait(&mut receiver);
                assert_eq!((arrived.source, arrived.ttl), (here, ttl));
                assert_eq!(arrived.interface, NonZeroU32::new(1), "lo");
                assert_eq!(octets, b"octets");
            }
            assert_eq!(receiver.receive(&mut buffer()).expect("open"), None);
        }
    }

    #[test]
    fn packets_go_out_with_ttl_255_each_session_from_a_port_of_its_own() {
        let neighbor = Neighbor { address: [127, 0, 0, 1].into(), interface: None };
        let session = BfdSession {
            address: neighbor.address,
            local: None,
            interface: None,
            config: cambric_bfd::Config::default(),
        };
        let senders = [(); 2].map(|()| Sender::open(&neighbor, &session, 60_000).expect("a port"));
        let ports = senders.each_ref().map(|sender| {
            assert_eq!(sender.socket.ttl_v4().expect("set"), 255);
            sender.socket.local_addr().expect("bound").as_socket().expect("IP").port()
        });
        assert!(ports[0] != ports[1] && ports.iter().all(|port| SOURCE_PORTS.contains(port)), "{ports:?}");
    }
}
