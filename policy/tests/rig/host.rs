//! Eyes and a mouth in one namespace.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6, UdpSocket};

use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use socket2::{Domain, Socket, Type};

use super::netns::Netns;

/// Room for what was not looked at yet.
const QUEUE_BYTES: usize = 32 << 20;
/// Enough of a packet.
const LOOK_BYTES: usize = 256;
/// UDP port of marks, at both ends: none that packets of tests come from.
const MARK_PORT: u16 = 4;
/// What the payload of a mark begins with.
const MARK: [u8; 8] = *b"cam-mark";

/// A namespace, what arrives in it, and whence marks are sent.
#[derive(Debug)]
pub struct Host {
    pub netns: Netns,
    eyes: [Socket; 2],
    mouth: UdpSocket,
}

/// What tells a packet from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// IANA number.
    pub protocol: u8,
    pub source: IpAddr,
    pub source_port: u16,
    pub destination: IpAddr,
    pub destination_port: u16,
}

/// A packet that came in, forwarded ones among them.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Ports are 0 in what has none. In ICMP: type and code as the ports.
    pub flow: Flow,
    /// What follows the first 8 bytes of the transport header, as far as looked at.
    pub payload: Vec<u8>,
}

impl Host {
    pub fn new(netns: Netns) -> Host {
        // These are told of packets that come in, not of those that go out, and before any rule.
        let eye = |protocol: i32| {
            let protocol = i32::from((protocol as u16).to_be());
            let socket =
                Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol.into())).expect("packet socket");
            setsockopt(&socket, RcvBufForce, &QUEUE_BYTES).expect("room");
            socket.set_nonblocking(true).expect("a socket that does not block");
            socket
        };
        let (eyes, mouth) = netns.enter(|| {
            let mouth = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, MARK_PORT)).expect("a socket");
            mouth.set_multicast_loop_v6(false).expect("no loop");
            ([eye(libc::ETH_P_IP), eye(libc::ETH_P_IPV6)], mouth)
        });
        Host { netns, eyes, mouth }
    }

    /// Index of an interface.
    pub fn index(&self, interface: &str) -> u32 {
        self.netns
            .enter(|| if_nametoindex(interface))
            .unwrap_or_else(|error| panic!("interface {interface}: {error}"))
    }

    /// Sends a mark over a link, past all rules and routes.
    pub fn mark(&self, interface: u32, number: u64) {
        let everybody =
            SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), MARK_PORT, 0, interface);
        let payload: Vec<u8> = MARK.into_iter().chain(number.to_be_bytes()).collect();
        self.mouth.send_to(&payload, everybody).expect("a mark is sent");
    }

    /// All that came in since the last look, in order in each family; marks are told by their number.
    pub fn look(&self, mut on_mark: impl FnMut(u64), mut on_packet: impl FnMut(Seen)) {
        let mut buffer = [0; LOOK_BYTES];
        for mut eye in &self.eyes {
            loop {
                match eye.read(&mut buffer) {
                    Ok(length) => {
                        let Some(seen) = parse(&buffer[..length]) else { continue };
                        match mark_number(&seen) {
                            Some(number) => on_mark(number),
                            None => on_packet(seen),
                        }
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                    // A link that went down under the socket; it goes on.
                    Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
                    Err(error) => panic!("looking at packets: {error}"),
                }
            }
        }
    }
}

fn mark_number(seen: &Seen) -> Option<u64> {
    let marked = seen.flow.destination_port == MARK_PORT && seen.payload.starts_with(&MARK);
    let number = seen.payload.get(8..16).filter(|_| marked)?;
    Some(u64::from_be_bytes(number.try_into().ok()?))
}

/// IPv4 with any options, IPv6 without extension headers.
fn parse(packet: &[u8]) -> Option<Seen> {
    let version = packet.first()? >> 4;
    let (protocol, source, destination, header): (u8, IpAddr, IpAddr, usize) = if version == 4 {
        let address = |at| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
        (*packet.get(9)?, address(12)?.into(), address(16)?.into(), usize::from(packet.first()? & 15) * 4)
    } else {
        let address = |at| Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
        (*packet.get(6)?, address(8)?.into(), address(24)?.into(), 40)
    };
    let transport = packet.get(header..)?;
    let port = |at: usize| transport.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]));
    let (source_port, destination_port) = match i32::from(protocol) {
        libc::IPPROTO_TCP | libc::IPPROTO_UDP | libc::IPPROTO_SCTP => (port(0)?, port(2)?),
        libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6 => {
            (u16::from(*transport.first()?), u16::from(*transport.get(1)?))
        }
        _ => (0, 0),
    };
    let flow = Flow { protocol, source, source_port, destination, destination_port };
    Some(Seen { flow, payload: transport.get(8..).unwrap_or_default().to_vec() })
}
