//! Packets as a pod may make them that does not keep to the rules, down to the Ethernet header; and plain sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use cambric_lab::Pod;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};
use socket2::{Domain, Socket, Type};

pub(crate) type Mac = [u8; 6];

/// Of every pod's gateway.
pub(crate) const GATEWAY_MAC: Mac = [0x02, 0xca, 0x3b, 0, 0, 1];
pub(crate) const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// UDP sockets of both families at a port, or any for 0, that do not wait.
pub(crate) fn sockets(port: u16) -> io::Result<[UdpSocket; 2]> {
    let open = |domain: Domain, any: IpAddr| -> io::Result<UdpSocket> {
        let socket = Socket::new(domain, Type::DGRAM, None)?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::new(any, port).into())?;
        Ok(socket.into())
    };
    Ok([open(Domain::IPV4, Ipv4Addr::UNSPECIFIED.into())?, open(Domain::IPV6, Ipv6Addr::UNSPECIFIED.into())?])
}

/// Sends frames out of a pod's interface, whatever they say.
pub(crate) struct Sender {
    socket: OwnedFd,
    link: LinkAddr,
    pub(crate) own_mac: Mac,
}

impl Sender {
    pub(crate) fn of(pod: &Pod) -> Result<Self> {
        pod.in_netns(|| {
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
            let eth0 = getifaddrs()?.filter(|found| found.interface_name == "eth0");
            let link = eth0.filter_map(|found| found.address?.as_link_addr().copied()).next();
            let link = link.context("eth0 has a link address")?;
            let own_mac = link.addr().context("eth0 has a MAC")?;
            Ok(Self { socket, link, own_mac })
        })?
    }

    /// A frame to the gateway.
    pub(crate) fn send(&self, kind: u16, packet: &[u8]) -> Result<()> {
        let frame = [&GATEWAY_MAC[..], &self.own_mac, &kind.to_be_bytes(), packet].concat();
        sendto(self.socket.as_raw_fd(), &frame, &self.link, MsgFlags::empty())?;
        Ok(())
    }

    /// A datagram with whatever source.
    pub(crate) fn datagram(&self, from: SocketAddr, to: SocketAddr, words: &[u8]) -> Result<()> {
        let length = (8 + words.len()) as u16;
        let header =
            [from.port().to_be_bytes(), to.port().to_be_bytes(), length.to_be_bytes(), [0; 2]].concat();
        self.ip(from.ip(), to.ip(), UDP, [&header, words].concat(), 6)
    }

    /// The first segment of a connection.
    pub(crate) fn syn(&self, from: SocketAddr, to: SocketAddr) -> Result<()> {
        let mut segment = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
        segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0x20, 0, 0, 0, 0, 0]);
        self.ip(from.ip(), to.ip(), TCP, segment, 16)
    }

    /// An ICMPv6 message of neighbour discovery: `target`, and a MAC in an option.
    pub(crate) fn discovery(&self, from: Ipv6Addr, to: Ipv6Addr, said: Discovery) -> Result<()> {
        let (kind, flags, target, mac, option) = match said {
            Discovery::Solicitation { target, source_mac } => (135, 0, target, source_mac, 1),
            Discovery::Advertisement { target, mac } => (136, 0x20, target, mac, 2), // override
        };
        let mut message = vec![kind, 0, 0, 0, flags, 0, 0, 0];
        message.extend(target.octets());
        message.extend([option, 1]);
        message.extend(mac);
        self.ip(from.into(), to.into(), ICMPV6, message, 2)
    }

    /// ARP: 1 asks, 2 answers.
    pub(crate) fn arp(&self, operation: u16, sender: (Mac, Ipv4Addr), target: Ipv4Addr) -> Result<()> {
        let mut packet = vec![0, 1, 8, 0, 6, 4];
        packet.extend(operation.to_be_bytes());
        packet.extend(sender.0);
        packet.extend(sender.1.octets());
        packet.extend(GATEWAY_MAC);
        packet.extend(target.octets());
        self.send(0x0806, &packet)
    }

    /// `checksum_at`: where the payload has it.
    fn ip(
        &self,
        from: IpAddr,
        to: IpAddr,
        protocol: u8,
        mut payload: Vec<u8>,
        checksum_at: usize,
    ) -> Result<()> {
        let length = payload.len() as u16;
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let pseudo =
                    [&from.octets()[..], &to.octets(), &[0, protocol], &length.to_be_bytes()].concat();
                fill_checksum(&mut payload, checksum_at, &pseudo);
                let mut header = vec![0x45, 0];
                header.extend((20 + length).to_be_bytes());
                header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
                header.extend(from.octets());
                header.extend(to.octets());
                fill_checksum(&mut header, 10, &[]);
                self.send(0x0800, &[header, payload].concat())
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let pseudo = [
                    &from.octets()[..],
                    &to.octets(),
                    &u32::from(length).to_be_bytes(),
                    &[0, 0, 0, protocol],
                ]
                .concat();
                fill_checksum(&mut payload, checksum_at, &pseudo);
                let mut header = vec![0x60, 0, 0, 0];
                header.extend(length.to_be_bytes());
                // Neighbour discovery is believed only if no router had it (RFC 4861 section 7.1).
                header.extend([protocol, 255]);
                header.extend(from.octets());
                header.extend(to.octets());
                self.send(0x86dd, &[header, payload].concat())
            }
            _ => anyhow::bail!("{from} and {to} are of two families"),
        }
    }
}

/// What is said in neighbour discovery.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Discovery {
    Solicitation { target: Ipv6Addr, source_mac: Mac },
    Advertisement { target: Ipv6Addr, mac: Mac },
}

/// The Internet checksum (RFC 1071) over a pseudo header and the payload.
fn fill_checksum(payload: &mut [u8], at: usize, pseudo: &[u8]) {
    let words = |bytes: &[u8]| -> u32 {
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum()
    };
    let mut sum = words(pseudo) + words(payload);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let checksum = match !sum as u16 {
        0 => 0xffff,
        checksum => checksum,
    };
    payload[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}
