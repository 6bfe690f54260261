//! `RTM_*NEXTHOP` messages, which no library in our tree has.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};

use super::{
    message::{AF_UNSPEC, Messages, attributes, family_number, parse_address, parse_u32},
    route::{FLAG_ON_LINK, Place},
};
use crate::{
    PROTOCOL,
    diff::OnLink,
    next_hops::{Hop, LinkIndex, NextHopId, Spread},
    wanted::Family,
};

pub(super) const RTM_NEWNEXTHOP: u16 = 104;
pub(super) const RTM_DELNEXTHOP: u16 = 105;
pub(super) const RTM_GETNEXTHOP: u16 = 106;

const HEADER_LENGTH: usize = 8;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP: u16 = 8;
/// Octets of one `struct nexthop_grp`: number, weight minus one, three reserved.
const MEMBER_LENGTH: usize = 8;

/// A next-hop object or group, as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KernelNextHop {
    pub(crate) id: NextHopId,
    pub(crate) protocol: u8,
    pub(crate) content: NextHopContent,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NextHopContent {
    Object(Hop),
    Group {
        members: Vec<NextHopId>,
        spread: Spread,
    },
    /// A blackhole, a device without gateway, a bridge entry, an encapsulation: nothing that we write.
    Other,
}

pub(super) fn encode_object(
    messages: &mut Messages,
    sequence: u32,
    flags: u16,
    id: NextHopId,
    hop: Hop,
    on_link: OnLink,
) {
    let flags = NLM_F_CREATE | NLM_F_EXCL | flags;
    let object_flags = if on_link == OnLink::Forced { FLAG_ON_LINK } else { 0 };
    let family = family_number(Family::of(hop.gateway));
    messages.begin(RTM_NEWNEXTHOP, flags, sequence, &header(family, PROTOCOL, object_flags));
    messages.attribute_u32(NHA_ID, id.0);
    messages.attribute_u32(NHA_OIF, hop.link.0);
    messages.attribute_address(NHA_GATEWAY, hop.gateway);
    messages.end();
}

pub(super) fn encode_group(
    messages: &mut Messages,
    sequence: u32,
    flags: u16,
    place: Place,
    id: NextHopId,
    members: &[NextHopId],
) {
    let place = match place {
        Place::Free => NLM_F_CREATE | NLM_F_EXCL,
        Place::Ours => NLM_F_REPLACE,
    };
    messages.begin(RTM_NEWNEXTHOP, place | flags, sequence, &header(AF_UNSPEC, PROTOCOL, 0));
    messages.attribute_u32(NHA_ID, id.0);
    let mut value = Vec::with_capacity(members.len() * MEMBER_LENGTH);
    for member in members {
        value.extend_from_slice(&member.0.to_ne_bytes());
        value.extend_from_slice(&[0; MEMBER_LENGTH - 4]);
    }
    messages.attribute(NHA_GROUP, &value);
    messages.end();
}

pub(super) fn encode_delete(messages: &mut Messages, sequence: u32, flags: u16, id: NextHopId) {
    messages.begin(RTM_DELNEXTHOP, flags, sequence, &header(AF_UNSPEC, 0, 0));
    messages.attribute_u32(NHA_ID, id.0);
    messages.end();
}

/// A request for all objects and groups.
pub(super) fn encode_dump(messages: &mut Messages, sequence: u32, flags: u16) {
    messages.begin(RTM_GETNEXTHOP, flags, sequence, &header(AF_UNSPEC, 0, 0));
    messages.end();
}

fn header(family: u8, protocol: u8, flags: u32) -> [u8; HEADER_LENGTH] {
    let [f0, f1, f2, f3] = flags.to_ne_bytes();
    [family, 0, protocol, 0, f0, f1, f2, f3]
}

/// `None` if malformed.
pub(super) fn decode_next_hop(payload: &[u8]) -> Option<KernelNextHop> {
    let protocol = payload.first_chunk::<HEADER_LENGTH>()?[2];
    let (mut id, mut link, mut gateway, mut group, mut encapsulated) = (None, None, None, None, false);
    for (kind, value) in attributes(payload, HEADER_LENGTH) {
        match kind {
            NHA_ID => id = parse_u32(value).map(NextHopId),
            NHA_OIF => link = parse_u32(value).map(LinkIndex),
            NHA_GATEWAY => gateway = parse_address(value),
            NHA_GROUP => group = Some(decode_group(value)),
            NHA_ENCAP => encapsulated = true,
            _ => {}
        }
    }
    let content = match (group, gateway, link) {
        (Some(group), ..) => group,
        (None, Some(gateway), Some(link)) if !encapsulated => NextHopContent::Object(Hop { gateway, link }),
        _ => NextHopContent::Other,
    };
    Some(KernelNextHop { id: id?, protocol, content })
}

fn decode_group(value: &[u8]) -> NextHopContent {
    let entries = || value.chunks_exact(MEMBER_LENGTH);
    let members = entries().filter_map(|member| parse_u32(&member[..4])).map(NextHopId).collect();
    let is_even = entries().zip(entries().skip(1)).all(|(one, next)| one[4..] == next[4..]);
    NextHopContent::Group { members, spread: if is_even { Spread::Even } else { Spread::Uneven } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::next_hops::tests::hop;

    #[test]
    fn object_reads_back() {
        let mut messages = Messages::default();
        let hop = hop("fe80::1", 7);
        encode_object(&mut messages, 1, 0, NextHopId(5), hop, OnLink::Forced);
        let content = NextHopContent::Object(hop);
        let decoded = decode_next_hop(&messages.bytes()[16..]);
        assert_eq!(decoded, Some(KernelNextHop { id: NextHopId(5), protocol: PROTOCOL, content }));
    }

    #[test]
    fn group_reads_back() {
        let mut messages = Messages::default();
        let members = vec![NextHopId(5), NextHopId(6)];
        encode_group(&mut messages, 1, 0, Place::Ours, NextHopId(9), &members);
        let content = NextHopContent::Group { members, spread: Spread::Even };
        let decoded = decode_next_hop(&messages.bytes()[16..]);
        assert_eq!(decoded, Some(KernelNextHop { id: NextHopId(9), protocol: PROTOCOL, content }));
    }

    #[test]
    fn weights_that_differ_are_seen() {
        let group = |weights: [u8; 2]| {
            let mut payload = header(AF_UNSPEC, PROTOCOL, 0).to_vec();
            payload.extend_from_slice(&[
                20, 0, 2, 0, 5, 0, 0, 0, weights[0], 0, 0, 0, 6, 0, 0, 0, weights[1], 0, 0, 0,
            ]);
            payload.extend_from_slice(&[8, 0, 1, 0, 9, 0, 0, 0]);
            decode_next_hop(&payload).expect("a group").content
        };
        let members = vec![NextHopId(5), NextHopId(6)];
        let expected = |spread| NextHopContent::Group { members: members.clone(), spread };
        assert_eq!(group([4, 4]), expected(Spread::Even));
        assert_eq!(group([4, 0]), expected(Spread::Uneven));
    }

    #[test]
    fn message_without_number_is_refused() {
        assert_eq!(decode_next_hop(&[0; HEADER_LENGTH]), None);
        assert_eq!(decode_next_hop(&[0; 3]), None);
    }
}
