//! Packets that were denied, as the rules tell them to an NFLOG group.
//!
//! linux/netfilter/nfnetlink_log.h. One process can read a group.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;

use super::message::{Attributes, Header, Messages, Value};
use super::socket::Socket;
use super::{Damaged, Error};

/// NFNL_SUBSYS_ULOG
const PACKET: u16 = 4 << 8;
const CONFIG: u16 = 4 << 8 | 1;

/// NFULA_*
const PACKET_HEADER: u16 = 1;
const INPUT: u16 = 4;
const OUTPUT: u16 = 5;
const PAYLOAD: u16 = 9;
const PREFIX: u16 = 10;

/// NFULA_CFG_*
const CONFIG_COMMAND: u16 = 1;
const CONFIG_MODE: u16 = 2;
const CONFIG_TIMEOUT: u16 = 4;
const CONFIG_THRESHOLD: u16 = 5;
/// NFULNL_CFG_CMD_BIND
const BIND: u8 = 1;
/// NFULNL_COPY_PACKET
const COPY_PACKET: u8 = 2;
/// Of each packet only so much is copied: an IPv6 header, some extensions and ports.
const COPIED_BYTES: u32 = 128;
/// The kernel gathers packets for this time, in hundredths of a second, or until there are so many.
const GATHERED_CENTISECONDS: u32 = 5;
const GATHERED: u32 = 32;

/// A packet that was denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// What the rule says: the chain's name.
    pub prefix: String,
    /// Number of the interface it came in by.
    pub input: Option<u32>,
    /// Number of the interface it was to go out by.
    pub output: Option<u32>,
    /// Its source.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
    /// IANA protocol number; of IPv6 the one behind the extension headers.
    pub protocol: u8,
    /// Source and destination port of TCP, UDP and SCTP; `None` for others and for fragments.
    pub ports: Option<(u16, u16)>,
}

/// Reads one NFLOG group.
#[derive(Debug)]
pub struct LogReader {
    socket: Socket,
    /// Times that packets were lost, since nobody read them.
    lost: u64,
}

impl AsFd for LogReader {
    /// Readable when packets were denied.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.fd()
    }
}

impl LogReader {
    /// Begins to read a group, in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// Another process reads the group (EBUSY or EPERM), or the kernel has no CONFIG_NETFILTER_NETLINK_LOG (EINVAL).
    pub fn open(group: u16) -> Result<LogReader, Error> {
        let mut socket = Socket::open()?;
        let header = Header { kind: CONFIG, flags: 0, sequence: 0, family: 0, resource: group };
        let bound = socket.tell(header, |message| message.bytes(CONFIG_COMMAND, &[BIND]));
        bound.map_err(|error| match error {
            Error::Refused(errno) if [Errno::EBUSY as i32, Errno::EPERM as i32].contains(&errno) => {
                Error::LogGroup { group, errno }
            }
            error => error,
        })?;
        socket.tell(header, |message| {
            let [a, b, c, d] = COPIED_BYTES.to_be_bytes();
            message.bytes(CONFIG_MODE, &[a, b, c, d, COPY_PACKET, 0]);
            message.u32(CONFIG_TIMEOUT, GATHERED_CENTISECONDS);
            message.u32(CONFIG_THRESHOLD, GATHERED);
        })?;
        Ok(LogReader { socket, lost: 0 })
    }

    /// Waits for packets, at most so long (0: looks only), and returns those that are there.
    pub fn wait(&mut self, timeout: Duration) -> Result<Vec<Denied>, Error> {
        self.socket.wait(timeout)?;
        let mut denied = Vec::new();
        loop {
            match self.socket.receive_now() {
                Ok(Some(messages)) => read(messages, &mut denied),
                Ok(None) => return Ok(denied),
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => self.lost += 1,
                Err(error) => return Err(io::Error::into(error)),
            }
        }
    }

    /// How often packets were lost so far, since they came faster than they were read.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

/// Takes in what one read gave; what cannot be read is passed over: it is only told to people.
fn read(messages: Messages<'_>, denied: &mut Vec<Denied>) {
    for message in messages.flatten() {
        if message.kind == PACKET
            && let Ok((_, attributes)) = message.netfilter()
            && let Ok(Some(packet)) = read_packet(attributes)
        {
            denied.push(packet);
        }
    }
}

fn read_packet(attributes: Attributes<'_>) -> Result<Option<Denied>, Damaged> {
    let Value(header) = attributes.need(PACKET_HEADER)?;
    let Some(ethertype) = header.first_chunk::<2>() else { return Ok(None) };
    let Value(payload) = attributes.find(PAYLOAD)?.unwrap_or(Value(&[]));
    let addressed = match u16::from_be_bytes(*ethertype) {
        0x0800 => read_ipv4(payload),
        0x86dd => read_ipv6(payload),
        _ => None,
    };
    let Some(Addressed { source, destination, protocol, rest }) = addressed else { return Ok(None) };
    let number = |kind| attributes.find(kind)?.map(Value::u32).transpose();
    Ok(Some(Denied {
        prefix: attributes.find(PREFIX)?.map(Value::text).transpose()?.unwrap_or_default().to_owned(),
        input: number(INPUT)?,
        output: number(OUTPUT)?,
        source,
        destination,
        protocol,
        ports: rest.and_then(|rest| read_ports(protocol, rest)),
    }))
}

/// A packet's addresses and what is in it; `rest` is `None` in all fragments but the first.
struct Addressed<'a> {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    rest: Option<&'a [u8]>,
}

/// RFC 791 section 3.1
fn read_ipv4(packet: &[u8]) -> Option<Addressed<'_>> {
    let header = packet.first_chunk::<20>()?;
    let length = usize::from(header[0] & 0xf) * 4;
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    let address = |at: usize| Some(IpAddr::from(Ipv4Addr::from(*header.get(at..)?.first_chunk::<4>()?)));
    Some(Addressed {
        source: address(12)?,
        destination: address(16)?,
        protocol: header[9],
        rest: if fragment == 0 { packet.get(length.max(20)..) } else { None },
    })
}

/// Extension headers of RFC 8200 section 4 that a transport header can stand behind.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// RFC 8200 section 3
fn read_ipv6(packet: &[u8]) -> Option<Addressed<'_>> {
    let header = packet.first_chunk::<40>()?;
    let address = |at: usize| Some(IpAddr::from(Ipv6Addr::from(*header.get(at..)?.first_chunk::<16>()?)));
    let (source, destination) = (address(8)?, address(24)?);
    let mut protocol = header[6];
    let mut rest = packet.get(40..);
    while let Some(extension) = rest.and_then(|rest| rest.first_chunk::<8>()) {
        let length = match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => (usize::from(extension[1]) + 1) * 8,
            AUTHENTICATION => (usize::from(extension[1]) + 2) * 4,
            FRAGMENT => 8,
            _ => break,
        };
        let later_fragment =
            protocol == FRAGMENT && u16::from_be_bytes([extension[2], extension[3]]) & !7 != 0;
        protocol = extension[0];
        rest = if later_fragment { None } else { rest.and_then(|rest| rest.get(length..)) };
    }
    Some(Addressed { source, destination, protocol, rest })
}

/// TCP, UDP and SCTP begin with them.
fn read_ports(protocol: u8, rest: &[u8]) -> Option<(u16, u16)> {
    let [a, b, c, d] = *rest.first_chunk::<4>()?;
    [6, 17, 132].contains(&protocol).then_some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// Reads bytes as messages, and as packets.
#[cfg(test)]
pub(super) fn read_anything(bytes: &[u8]) {
    read(Messages(bytes), &mut Vec::new());
    drop(read_packet(Attributes(bytes)));
    for addressed in [read_ipv4(bytes), read_ipv6(bytes)].into_iter().flatten() {
        addressed.rest.and_then(|rest| read_ports(addressed.protocol, rest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protocol and ports of an IPv6 packet with these headers after the first.
    fn ipv6(next: u8, rest: &[u8]) -> (u8, Option<(u16, u16)>) {
        let mut packet = vec![0; 40];
        packet[6] = next;
        packet[8..24].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
        packet.extend_from_slice(rest);
        let Addressed { source, protocol, rest, .. } = read_ipv6(&packet).expect("a packet");
        assert_eq!(source, IpAddr::from(Ipv6Addr::LOCALHOST));
        (protocol, rest.and_then(|rest| read_ports(protocol, rest)))
    }

    #[test]
    fn ports_are_found_behind_extension_headers_and_not_in_later_fragments() {
        let ports = [0, 53, 0x12, 0x34];
        let found = Some((53, 0x1234));
        assert_eq!(ipv6(17, &ports), (17, found));
        assert_eq!(ipv6(17, &ports[..3]), (17, None));
        assert_eq!(ipv6(58, &ports), (58, None));
        let options = [60, 0, 0, 0, 0, 0, 0, 0, 6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(ipv6(HOP_BY_HOP, &[&options[..], &ports].concat()), (6, found));
        assert_eq!(ipv6(FRAGMENT, &[&[132, 0, 0, 1, 0, 0, 0, 0][..], &ports].concat()), (132, found));
        assert_eq!(ipv6(FRAGMENT, &[&[132, 0, 0, 8, 0, 0, 0, 0][..], &ports].concat()), (132, None));
    }

    #[test]
    fn ports_are_found_behind_options_of_ipv4_and_not_in_later_fragments() {
        let mut packet = vec![0x46, 0, 0, 0, 0, 0, 0x20, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend([1, 1, 1, 1, 0, 80, 0, 81]);
        let addressed = read_ipv4(&packet).expect("a packet");
        assert_eq!((addressed.source, addressed.destination), ([10, 0, 0, 1].into(), [10, 0, 0, 2].into()));
        assert_eq!(addressed.rest.and_then(|rest| read_ports(6, rest)), Some((80, 81)));
        packet[7] = 1;
        assert_eq!(read_ipv4(&packet).expect("a packet").rest, None);
    }
}
