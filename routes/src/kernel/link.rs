//! Links and addresses, out of the library's messages.

use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage},
    link::{LinkAttribute, LinkFlags, LinkMessage},
};

use crate::{links::LinkAddress, next_hops::LinkIndex, wanted::Prefix};

/// What a link message says about the interface itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KernelLink {
    pub(crate) index: LinkIndex,
    pub(crate) name: String,
    pub(crate) admin_up: bool,
    pub(crate) carrier: bool,
}

/// `None` for messages about something else of the interface: a bridge says "link deleted" when a port leaves
/// it.
pub(super) fn link(message: &LinkMessage) -> Option<KernelLink> {
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let name = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    Some(KernelLink {
        index: LinkIndex(message.header.index),
        name,
        admin_up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
    })
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
