//! `RTM_*ROUTE` messages.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};

use super::message::{Messages, attributes, family_number, parse_address, parse_family, parse_u32};
use crate::{
    METRIC, PROTOCOL,
    diff::OnLink,
    mirror::{Form, Shape},
    next_hops::{Hop, LinkIndex, NextHopId},
    wanted::{Family, Prefix, unspecified},
};

pub(super) const RTM_NEWROUTE: u16 = 24;
pub(super) const RTM_DELROUTE: u16 = 25;
pub(super) const RTM_GETROUTE: u16 = 26;

const HEADER_LENGTH: usize = 12;
const TABLE_MAIN: u8 = 254;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_NOWHERE: u8 = 255;
const TYPE_UNSPEC: u8 = 0;
const TYPE_UNICAST: u8 = 1;
const TYPE_UNREACHABLE: u8 = 7;
/// `RTM_F_CLONED`: a cached exception, not a route of the table.
const FLAG_CLONED: u32 = 0x200;
/// `RTNH_F_ONLINK`.
pub(super) const FLAG_ON_LINK: u32 = 4;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_FLOW: u16 = 11;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_ENCAP: u16 = 22;
const RTA_NH_ID: u16 = 30;
/// Octets of `struct rtnexthop`: length, flags, hops, interface; attributes follow.
const MULTIPATH_HEADER_LENGTH: usize = 8;

/// A route as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KernelRoute {
    pub(crate) table: Table,
    pub(crate) prefix: Prefix,
    pub(crate) metric: u32,
    pub(crate) protocol: u8,
    pub(crate) shape: Shape,
    /// IPv6 makes routes of one prefix and metric one multipath route, whoever wrote them, and shows the
    /// protocol of the first only. These are the others, of whatever protocol.
    pub(crate) siblings: Vec<Hop>,
}

/// Where a route lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Table {
    /// In the main table, for all types of service: where ours are.
    Main,
    /// In another table, or for one type of service only.
    Other { table: u32, tos: u8 },
}

/// Whether a route message may take the place of a present route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Free,
    Ours,
}

pub(super) fn encode_route(
    messages: &mut Messages,
    sequence: u32,
    flags: u16,
    place: Place,
    prefix: Prefix,
    shape: &Shape,
    on_link: OnLink,
) {
    let place = match place {
        Place::Free => NLM_F_CREATE | NLM_F_EXCL,
        // Without CREATE: if our route is gone by now, ENOENT tells so.
        Place::Ours => NLM_F_REPLACE,
    };
    let route_type = if shape.form == Form::Unreachable { TYPE_UNREACHABLE } else { TYPE_UNICAST };
    let route_flags = if on_link == OnLink::Forced { FLAG_ON_LINK } else { 0 };
    let header = header(prefix, SCOPE_UNIVERSE, route_type, route_flags);
    messages.begin(RTM_NEWROUTE, place | flags, sequence, &header);
    messages.attribute_address(RTA_DST, prefix.address());
    messages.attribute_u32(RTA_PRIORITY, METRIC);
    if let Some(source) = shape.source {
        messages.attribute_address(RTA_PREFSRC, source);
    }
    encode_form(messages, prefix.family(), shape.form);
    messages.end();
}

fn encode_form(messages: &mut Messages, family: Family, form: Form) {
    match form {
        Form::Plain(hop) | Form::Odd(Some(hop)) => encode_hop(messages, family, hop),
        Form::Group(id) => messages.attribute_u32(RTA_NH_ID, id.0),
        Form::Unreachable | Form::Odd(None) => {}
    }
}

fn encode_hop(messages: &mut Messages, family: Family, hop: Hop) {
    if Family::of(hop.gateway) == family {
        messages.attribute_address(RTA_GATEWAY, hop.gateway);
    } else if let IpAddr::V6(gateway) = hop.gateway {
        // IPv4 over an IPv6 neighbour (RFC 8950): family and address.
        let mut via = u16::from(family_number(Family::Ipv6)).to_ne_bytes().to_vec();
        via.extend_from_slice(&gateway.octets());
        messages.attribute(RTA_VIA, &via);
    }
    messages.attribute_u32(RTA_OIF, hop.link.0);
}

pub(super) fn encode_delete(
    messages: &mut Messages,
    sequence: u32,
    flags: u16,
    prefix: Prefix,
    metric: u32,
    form: Form,
) {
    // The protocol in the header is part of the match, and so is the next hop: IPv6 would delete the siblings of
    // other programs, too, if none were named (`fc_delete_all_nh` in net/ipv6/route.c).
    let header = header(prefix, SCOPE_NOWHERE, TYPE_UNSPEC, 0);
    messages.begin(RTM_DELROUTE, flags, sequence, &header);
    messages.attribute_address(RTA_DST, prefix.address());
    messages.attribute_u32(RTA_PRIORITY, metric);
    encode_form(messages, prefix.family(), form);
    messages.end();
}

/// A request for the routes of all tables: any of them may point to our next hops.
pub(super) fn encode_dump(messages: &mut Messages, sequence: u32, flags: u16, family: Family) {
    let mut header = [0; HEADER_LENGTH];
    header[0] = family_number(family);
    messages.begin(RTM_GETROUTE, flags, sequence, &header);
    messages.end();
}

fn header(prefix: Prefix, scope: u8, route_type: u8, flags: u32) -> [u8; HEADER_LENGTH] {
    let [f0, f1, f2, f3] = flags.to_ne_bytes();
    let family = family_number(prefix.family());
    [family, prefix.length(), 0, 0, TABLE_MAIN, PROTOCOL, scope, route_type, f0, f1, f2, f3]
}

/// `None`: a cached one, one for some sources only, or malformed.
pub(super) fn decode_route(payload: &[u8]) -> Option<KernelRoute> {
    let [family, length, source_length, tos, table, protocol, _scope, route_type, flags @ ..] =
        *payload.first_chunk::<HEADER_LENGTH>()?;
    let family = parse_family(family)?;
    if source_length != 0 || u32::from_ne_bytes(flags) & FLAG_CLONED != 0 {
        return None;
    }
    let mut destination = unspecified(family);
    let (mut table, mut metric, mut source) = (u32::from(table), 0, None);
    let (mut gateway, mut link, mut group, mut multipath, mut extras) = (None, None, None, None, false);
    for (kind, value) in attributes(payload, HEADER_LENGTH) {
        match kind {
            RTA_DST => destination = parse_address(value)?,
            RTA_PRIORITY => metric = parse_u32(value)?,
            RTA_TABLE => table = parse_u32(value)?,
            RTA_PREFSRC => source = parse_address(value),
            RTA_OIF => link = parse_u32(value).map(LinkIndex),
            RTA_GATEWAY => gateway = parse_address(value),
            RTA_VIA => gateway = value.get(2..).and_then(parse_address),
            RTA_NH_ID => group = parse_u32(value).map(NextHopId),
            RTA_MULTIPATH => multipath = Some(value),
            // An MTU, an encapsulation, a realm: we write none of them.
            RTA_METRICS | RTA_ENCAP | RTA_FLOW => extras = true,
            _ => {}
        }
    }
    let mut siblings = Vec::new();
    if let (Some(value), Family::Ipv6, None) = (multipath, family, group)
        && let Some([first, others @ ..]) = decode_multipath(value).as_deref()
    {
        (gateway, link, multipath) = (Some(first.gateway), Some(first.link), None);
        siblings = others.to_vec();
    }
    let hop = match (group, gateway, link) {
        (None, Some(gateway), Some(link)) => Some(Hop { gateway, link }),
        _ => None,
    };
    let form = match (route_type, group, hop) {
        _ if extras => Form::Odd(hop),
        (TYPE_UNREACHABLE, ..) => Form::Unreachable,
        // With `nexthop_compat_mode` on, gateways are shown beside the number; the number is the truth.
        (_, Some(group), _) => Form::Group(group),
        (TYPE_UNICAST, None, Some(hop)) if multipath.is_none() => Form::Plain(hop),
        _ => Form::Odd(hop),
    };
    let prefix = Prefix::from_parts(destination, length)?;
    let is_main = table == u32::from(TABLE_MAIN) && tos == 0;
    let table = if is_main { Table::Main } else { Table::Other { table, tos } };
    Some(KernelRoute { table, prefix, metric, protocol, shape: Shape { form, source }, siblings })
}

/// The gateways of a multipath route; `None` if one has no gateway.
fn decode_multipath(value: &[u8]) -> Option<Vec<Hop>> {
    let mut hops = Vec::new();
    let mut rest = value;
    while let Some(header) = rest.first_chunk::<MULTIPATH_HEADER_LENGTH>() {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let next_hop = rest.get(..length)?;
        let link = LinkIndex(u32::from_ne_bytes([header[4], header[5], header[6], header[7]]));
        let mut of_gateway =
            attributes(next_hop, MULTIPATH_HEADER_LENGTH).filter(|(kind, _)| *kind == RTA_GATEWAY);
        let (_, gateway) = of_gateway.next()?;
        hops.push(Hop { gateway: parse_address(gateway)?, link });
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(hops)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::next_hops::tests::hop;

    fn round_trip(prefix: &str, form: Form, source: Option<&str>) {
        let prefix = Prefix::new(prefix.parse().expect("network"));
        let shape = Shape { form, source: source.map(|text| text.parse().expect("address")) };
        let mut messages = Messages::default();
        encode_route(&mut messages, 1, 0, Place::Free, prefix, &shape, OnLink::BySubnet);
        let decoded = decode_route(&messages.bytes()[16..]);
        let (table, metric, protocol, siblings) = (Table::Main, METRIC, PROTOCOL, Vec::new());
        assert_eq!(decoded, Some(KernelRoute { table, prefix, metric, protocol, shape, siblings }));
    }

    #[test]
    fn what_is_written_reads_back() {
        round_trip("10.9.0.0/24", Form::Plain(hop("10.1.0.1", 2)), Some("10.1.0.2"));
        round_trip("10.9.0.0/24", Form::Plain(hop("fe80::1", 2)), None);
        round_trip("10.9.0.0/24", Form::Group(NextHopId(203_500_001)), None);
        round_trip("0.0.0.0/0", Form::Plain(hop("10.1.0.1", 2)), None);
        round_trip("2001:db8:9::/64", Form::Plain(hop("2001:db8::1", 3)), Some("2001:db8::2"));
        round_trip("2001:db8:9::/64", Form::Unreachable, None);
    }

    #[test]
    fn other_tables_are_told_apart_and_cached_routes_left_out() {
        let mut messages = Messages::default();
        let prefix = Prefix::new("10.9.0.0/24".parse().expect("network"));
        encode_delete(&mut messages, 1, 0, prefix, METRIC, Form::Unreachable);
        let mut payload = messages.bytes()[16..].to_vec();
        let table = |payload: &[u8]| decode_route(payload).map(|route| route.table);
        assert_eq!(table(&payload), Some(Table::Main));
        payload[4] = 255;
        assert_eq!(table(&payload), Some(Table::Other { table: 255, tos: 0 }));
        (payload[4], payload[3]) = (TABLE_MAIN, 4);
        assert_eq!(table(&payload), Some(Table::Other { table: 254, tos: 4 }));
        payload[3] = 0;
        payload[8..12].copy_from_slice(&FLAG_CLONED.to_ne_bytes());
        assert_eq!(decode_route(&payload), None, "cached");
        assert_eq!(decode_route(&payload[..11]), None, "short");
    }
}
