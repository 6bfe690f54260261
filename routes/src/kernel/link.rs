//! Links and addresses, out of the library's messages.

use std::collections::BTreeSet;

use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage},
    link::{LinkAttribute, LinkFlags, LinkMessage},
};

use crate::{
    links::{Link, LinkAddress},
    next_hops::LinkIndex,
    wanted::Prefix,
};

/// The interface itself; its addresses come by messages of their own. `None` for messages about something else of
/// the interface: a bridge says "link deleted" when a port leaves it.
pub(super) fn link(message: &LinkMessage) -> Option<Link> {
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let (mut name, mut mtu_bytes, mut mac) = (None, 0, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Mtu(octets) => mtu_bytes = *octets,
            LinkAttribute::Address(octets) => mac = ethernet(octets),
            _ => {}
        }
    }
    Some(Link {
        index: LinkIndex(message.header.index),
        name: name?,
        admin_up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
        mtu_bytes,
        mac,
        addresses: BTreeSet::new(),
    })
}

/// An Ethernet address; loopback has one of zeros, which is none.
pub(super) fn ethernet(octets: &[u8]) -> Option<[u8; 6]> {
    octets.try_into().ok().filter(|mac| *mac != [0; 6])
}

/// The node's own address in a message, with what is on link through it.
pub(super) fn address(message: &AddressMessage) -> Option<(LinkIndex, LinkAddress)> {
    let (mut own, mut far) = (None, None);
    let mut tentative = message.header.flags.contains(AddressHeaderFlags::Tentative);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => own = Some(*address),
            AddressAttribute::Address(address) => far = Some(*address),
            AddressAttribute::Flags(flags) => tentative = flags.contains(AddressFlags::Tentative),
            _ => {}
        }
    }
    // Both are given on a point-to-point link, where the far end is what is reached.
    let subnet = Prefix::from_parts(far.or(own)?, message.header.prefix_len)?;
    let address = own.or(far)?;
    Some((LinkIndex(message.header.index), LinkAddress { address, subnet, tentative }))
}
