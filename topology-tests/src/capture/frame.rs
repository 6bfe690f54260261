//! Ethernet frames as octets, taken apart as far as a look at the outermost headers goes (IEEE 802.3, RFC 791,
//! RFC 8200, RFC 768, RFC 9293).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IP protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;

const ETHERNET_OCTETS: usize = 14;
const IPV4_OCTETS: usize = 20;
const IPV6_OCTETS: usize = 40;
const UDP_OCTETS: usize = 8;

/// A frame's outermost headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Destination MAC.
    pub destination: [u8; 6],
    /// Source MAC.
    pub source: [u8; 6],
    /// What stands right behind the addresses.
    pub ethertype: u16,
    /// The IP packet, if it is one.
    pub packet: Option<Packet<'a>>,
}

/// An IP packet's header and what is behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet<'a> {
    /// From.
    pub source: IpAddr,
    /// To.
    pub destination: IpAddr,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// IPv4's protocol, or IPv6's next header.
    pub protocol: u8,
    /// IPv4's options; in IPv6 they are a protocol.
    pub options: &'a [u8],
    /// What follows the header and its options.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes a frame apart; none if it is too short for Ethernet.
    pub fn parse(octets: &'a [u8]) -> Option<Self> {
        let (destination, rest) = octets.split_first_chunk()?;
        let (source, rest) = rest.split_first_chunk()?;
        let (ethertype, rest) = rest.split_first_chunk()?;
        debug_assert_eq!(octets.len() - rest.len(), ETHERNET_OCTETS);
        let ethertype = u16::from_be_bytes(*ethertype);
        let packet = match ethertype {
            ETHERTYPE_IPV4 => Packet::parse_ipv4(rest),
            ETHERTYPE_IPV6 => Packet::parse_ipv6(rest),
            _ => None,
        };
        Some(Self { destination: *destination, source: *source, ethertype, packet })
    }
}

impl<'a> Packet<'a> {
    /// RFC 791 section 3.1.
    fn parse_ipv4(octets: &'a [u8]) -> Option<Self> {
        let header: &[u8; IPV4_OCTETS] = octets.first_chunk()?;
        let (version, words) = (header[0] >> 4, usize::from(header[0] & 0xf));
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        // A super-packet of an interface that cuts it later may say 0.
        let end = if length == 0 { octets.len() } else { length };
        let address = |at: usize| Some(IpAddr::from(Ipv4Addr::from(*header.get(at..)?.first_chunk::<4>()?)));
        if version != 4 || words * 4 < IPV4_OCTETS {
            return None;
        }
        Some(Self {
            source: address(12)?,
            destination: address(16)?,
            ttl: header[8],
            protocol: header[9],
            options: octets.get(IPV4_OCTETS..words * 4)?,
            payload: octets.get(words * 4..end.min(octets.len()))?,
        })
    }

    /// RFC 8200 section 3.
    fn parse_ipv6(octets: &'a [u8]) -> Option<Self> {
        let (header, rest): (&[u8; IPV6_OCTETS], _) = octets.split_first_chunk()?;
        if header[0] >> 4 != 6 {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let end = if length == 0 { rest.len() } else { length };
        let address = |at: usize| Some(IpAddr::from(Ipv6Addr::from(*header.get(at..)?.first_chunk::<16>()?)));
        Some(Self {
            source: address(8)?,
            destination: address(24)?,
            ttl: header[7],
            protocol: header[6],
            options: &[],
            payload: rest.get(..end.min(rest.len()))?,
        })
    }

    /// Source and destination port, of UDP and TCP.
    pub fn ports(&self) -> Option<(u16, u16)> {
        let [a, b, c, d, ..] = *self.payload else { return None };
        matches!(self.protocol, UDP | TCP).then(|| (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
    }

    /// Both ends of a stream, the sender first.
    pub fn stream(&self) -> Option<(SocketAddr, SocketAddr)> {
        let (from, to) = self.ports().filter(|_| self.protocol == TCP)?;
        Some((SocketAddr::new(self.source, from), SocketAddr::new(self.destination, to)))
    }

    /// What a UDP datagram carries.
    pub fn datagram(&self) -> Option<&'a [u8]> {
        if self.protocol == UDP { self.payload.get(UDP_OCTETS..) } else { None }
    }
}
