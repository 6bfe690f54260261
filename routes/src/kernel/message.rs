//! Framing: writing netlink messages one after another into a buffer, and reading attributes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{Emitable, NLM_F_REQUEST, NetlinkHeader, NlasIterator};

use crate::wanted::Family;

pub(super) const AF_UNSPEC: u8 = 0;
pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;

/// `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`: not part of an attribute's kind.
const KIND_MASK: u16 = 0x3fff;
const HEADER_LENGTH: usize = 16;

/// Messages that are sent together.
#[derive(Debug, Default)]
pub(super) struct Messages {
    bytes: Vec<u8>,
    /// Where the message being written begins.
    start: usize,
}

impl Messages {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Begins a message. Its length is filled in by [`Self::end`].
    pub(super) fn begin(&mut self, message_type: u16, flags: u16, sequence: u32, fixed: &[u8]) {
        self.start = self.bytes.len();
        let mut header = NetlinkHeader::default();
        header.message_type = message_type;
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = sequence;
        self.bytes.resize(self.start + HEADER_LENGTH, 0);
        header.emit(&mut self.bytes[self.start..]);
        self.bytes.extend_from_slice(fixed);
        self.pad();
    }

    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = 4 + value.len() as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    pub(super) fn attribute_u32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    pub(super) fn attribute_address(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.attribute(kind, &address.octets()),
            IpAddr::V6(address) => self.attribute(kind, &address.octets()),
        }
    }

    pub(super) fn end(&mut self) {
        let length = (self.bytes.len() - self.start) as u32;
        self.bytes[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The attributes behind a fixed part of `skip` octets; what is malformed ends the list.
pub(super) fn attributes(payload: &[u8], skip: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let bytes = payload.get(skip..).unwrap_or_default();
    NlasIterator::new(bytes).map_while(Result::ok).map(|nla| {
        let (kind, length) = (nla.kind() & KIND_MASK, usize::from(nla.length()));
        (kind, nla.into_inner().get(4..length).unwrap_or_default())
    })
}

pub(super) fn parse_u32(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

pub(super) fn parse_address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(|octets| Ipv4Addr::from(octets).into()),
        16 => <[u8; 16]>::try_from(value).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

pub(super) fn family_number(family: Family) -> u8 {
    match family {
        Family::Ipv4 => AF_INET,
        Family::Ipv6 => AF_INET6,
    }
}

pub(super) fn parse_family(number: u8) -> Option<Family> {
    match number {
        AF_INET => Some(Family::Ipv4),
        AF_INET6 => Some(Family::Ipv6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_aligned_and_attributes_read_back() {
        let mut messages = Messages::default();
        messages.begin(24, 0, 7, &[1, 2, 3]);
        messages.attribute(5, b"abcde");
        messages.attribute_u32(0x8006, 203);
        messages.end();
        messages.begin(25, 0, 8, &[]);
        messages.end();
        let bytes = messages.bytes();
        assert_eq!(bytes[..4], 40u32.to_ne_bytes(), "16 header, 4 fixed, 12 and 8 attributes");
        assert_eq!(bytes.len(), 56);
        let found: Vec<_> = attributes(&bytes[16..40], 4).collect();
        assert_eq!(found, [(5, &b"abcde"[..]), (6, &203u32.to_ne_bytes()[..])]);
    }

    #[test]
    fn malformed_attributes_end_the_list() {
        assert_eq!(attributes(&[0, 0], 4).count(), 0);
        assert_eq!(attributes(&[200, 0, 1, 0, 9], 0).count(), 0);
        assert_eq!(attributes(&[2, 0, 1, 0], 0).count(), 0);
    }
}
