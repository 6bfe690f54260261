//! The tables as a file of MRT (RFC 6396): what every peer told, before our policy, and what is our own.
//!
//! A dump is a list of peers ([`TableDump::peers`]) and then any number of pieces of the table ([`TableDump::routes`]), so
//! nobody holds all of it at once. Time comes from outside, as seconds since 1970.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::attributes::Attributes;
use crate::prefix::{Family, Prefix};
use crate::rib::{PathInfo, RouteInfo};
use crate::session::AsWidth;
use crate::types::{Asn, PathId, PeerId, RouterId};
use crate::wire::attribute;

const TABLE_DUMP_V2: u16 = 13;
const PEER_INDEX_TABLE: u16 = 1;

/// A peer, or we ourselves, in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MrtPeer {
    /// `None` for us.
    pub id: Option<PeerId>,
    /// Where it is; unspecified for us.
    pub address: IpAddr,
    /// Its AS, if that is known.
    pub asn: Option<Asn>,
    /// Its identifier, if that is known.
    pub router_id: Option<RouterId>,
    /// When its session began: no path is older. The time of each path is not kept.
    pub since_s: u32,
}

/// A path that is written.
struct Known {
    /// Number of its teller.
    teller: u16,
    since_s: u32,
    path_id: PathId,
    attributes: Vec<u8>,
}

/// A TABLE_DUMP_V2 that is being written (RFC 6396 section 4.3; RFC 8050 where a peer tells several paths).
#[derive(Debug)]
pub struct TableDump {
    time_s: u32,
    peers: BTreeMap<Option<PeerId>, (u16, MrtPeer)>,
    sequence: u32,
}

impl TableDump {
    /// Of these peers, at this time. Paths of others are left out; and those of more than 65535, for which there is no
    /// number; and paths whose attributes take more octets than that, which a path of two-octet AS numbers may in four.
    pub fn new(time_s: u32, peers: impl IntoIterator<Item = MrtPeer>) -> TableDump {
        let numbered = (0..u16::MAX).zip(peers).map(|(number, peer)| (peer.id, (number, peer)));
        TableDump { time_s, peers: numbered.collect(), sequence: 0 }
    }

    /// Appends the list of peers, which stands first in the file; `router_id` is ours.
    pub fn peers(&self, router_id: RouterId, out: &mut Vec<u8>) {
        let mut peers: Vec<&(u16, MrtPeer)> = self.peers.values().collect();
        peers.sort_by_key(|(number, _)| *number);
        self.record(out, PEER_INDEX_TABLE, |out| {
            out.extend_from_slice(&router_id.value().to_be_bytes());
            out.extend_from_slice(&0_u16.to_be_bytes()); // the view has no name
            out.extend_from_slice(&length(peers.len()));
            for (_, peer) in peers {
                write_peer(out, peer);
            }
        });
    }

    /// Appends these routes with all their paths; how many paths that were.
    pub fn routes(&mut self, routes: &[RouteInfo], out: &mut Vec<u8>) -> usize {
        let mut written = 0;
        for RouteInfo { prefix, paths } in routes {
            // A record says in 16 bits how many paths are in it.
            for paths in paths.chunks(usize::from(u16::MAX)) {
                let known: Vec<Known> = paths.iter().filter_map(|path| self.known(path)).collect();
                if !known.is_empty() {
                    written += known.len();
                    self.route(prefix, &known, out);
                }
            }
        }
        written
    }

    fn known(&self, path: &PathInfo) -> Option<Known> {
        let (teller, MrtPeer { since_s, .. }) = *self.peers.get(&path.peer)?;
        let attributes = attributes_of(path);
        let fits = attributes.len() <= usize::from(u16::MAX);
        fits.then_some(Known { teller, since_s, path_id: path.path_id, attributes })
    }

    fn route(&mut self, prefix: &Prefix, paths: &[Known], out: &mut Vec<u8>) {
        let named = paths.iter().any(|path| path.path_id != PathId::default());
        let subtype = match (prefix.family(), named) {
            (Family::Ipv4, false) => 2,
            (Family::Ipv6, false) => 4,
            (Family::Ipv4, true) => 8,
            (Family::Ipv6, true) => 10,
        };
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        self.record(out, subtype, |out| {
            out.extend_from_slice(&sequence.to_be_bytes());
            write_prefix(out, prefix);
            out.extend_from_slice(&length(paths.len()));
            for Known { teller, since_s, path_id, attributes } in paths {
                out.extend_from_slice(&teller.to_be_bytes());
                out.extend_from_slice(&since_s.to_be_bytes());
                if named {
                    out.extend_from_slice(&path_id.0.to_be_bytes());
                }
                out.extend_from_slice(&length(attributes.len()));
                out.extend_from_slice(attributes);
            }
        });
    }

    /// The common header (RFC 6396 section 2), and what `body` writes.
    fn record(&self, out: &mut Vec<u8>, subtype: u16, body: impl FnOnce(&mut Vec<u8>)) {
        out.extend_from_slice(&self.time_s.to_be_bytes());
        out.extend_from_slice(&TABLE_DUMP_V2.to_be_bytes());
        out.extend_from_slice(&subtype.to_be_bytes());
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        body(out);
        let octets = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX).to_be_bytes();
        if let Some(place) = out.get_mut(start..).and_then(|rest| rest.first_chunk_mut()) {
            *place = octets;
        }
    }
}

fn length(count: usize) -> [u8; 2] {
    u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes()
}

/// RFC 6396 section 4.3.1; AS numbers have four octets always.
fn write_peer(out: &mut Vec<u8>, MrtPeer { address, asn, router_id, .. }: &MrtPeer) {
    const IPV6: u8 = 0x01;
    const FOUR_OCTET_AS: u8 = 0x02;
    out.push(FOUR_OCTET_AS | if address.is_ipv6() { IPV6 } else { 0 });
    out.extend_from_slice(&router_id.map_or(0, RouterId::value).to_be_bytes());
    write_address(out, *address);
    out.extend_from_slice(&asn.map_or(0, Asn::value).to_be_bytes());
}

fn write_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => out.extend_from_slice(&v4.octets()),
        IpAddr::V6(v6) => out.extend_from_slice(&v6.octets()),
    }
}

fn write_prefix(out: &mut Vec<u8>, prefix: &Prefix) {
    let mut octets = Vec::with_capacity(16);
    write_address(&mut octets, prefix.address());
    octets.truncate(usize::from(prefix.length()).div_ceil(8));
    out.push(prefix.length());
    out.extend_from_slice(&octets);
}

/// As the peer told them, AS numbers in four octets (RFC 6396 section 4.3.4).
fn attributes_of(path: &PathInfo) -> Vec<u8> {
    let mut octets = path.attributes.encoded(AsWidth::Four).to_vec();
    write_next_hop(&mut octets, &path.attributes);
    octets
}

/// MP_REACH_NLRI cut down to its next hop (RFC 6396 section 4.3.4); one of IPv4 stands among the other attributes.
fn write_next_hop(out: &mut Vec<u8>, attributes: &Attributes) {
    let IpAddr::V6(next_hop) = attributes.next_hop else { return };
    let mut value = vec![16];
    value.extend_from_slice(&next_hop.octets());
    if let Some(link_local) = attributes.link_local {
        value[0] = 32;
        value.extend_from_slice(&link_local.octets());
    }
    attribute::write(out, attribute::OPTIONAL_NON_TRANSITIVE, attribute::code::MP_REACH_NLRI, &value);
}

impl MrtPeer {
    /// We ourselves, as whose paths our own routes stand.
    pub fn ourselves(asn: Asn, router_id: RouterId, since_s: u32) -> MrtPeer {
        let address = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        MrtPeer { id: None, address, asn: Some(asn), router_id: Some(router_id), since_s }
    }
}
