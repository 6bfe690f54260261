//! Messages of the BGP Monitoring Protocol (RFC 7854, RFC 9069): what a station is told of peers and their routes. A station
//! says nothing, so nothing is read here.

use std::net::IpAddr;
use std::time::Duration;

use super::notification::Notification;
use super::{Open, frame};
use crate::types::{Asn, RouterId};

const VERSION: u8 = 3;
const COMMON_HEADER_BYTES: usize = 6;

/// Message types (RFC 7854 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    RouteMonitoring = 0,
    PeerDown = 2,
    PeerUp = 3,
    Initiation = 4,
    Termination = 5,
}

/// Which table of whom a message is about: the per-peer header (RFC 7854 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Whose.
    pub teller: Teller,
    /// Its AS.
    pub asn: Asn,
    /// Its identifier.
    pub router_id: RouterId,
    /// When, since 1970; zero where that is not known.
    pub at: Duration,
}

/// Whose table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Teller {
    /// What this peer told (adj-rib-in), before or after our policy.
    Peer {
        /// Where it is.
        address: IpAddr,
        /// Which of the two.
        policy: Policy,
    },
    /// What we chose (loc-rib, RFC 9069).
    Ourselves,
}

/// On which side of the import policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// As the peer told it.
    Before,
    /// As it is used.
    After,
}

/// Why a session is no more (RFC 7854 section 4.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Down {
    /// We ended it, and said so.
    Sent(Notification),
    /// We ended it without a word.
    Silently,
    /// The peer ended it, and said so.
    Received(Notification),
    /// The connection was lost.
    Lost,
    /// The peer is configured no more.
    Removed,
    /// Of our own table: it is not shown any more.
    NotShown,
}

/// Appends the first message of a connection (section 4.3): who we are.
pub fn write_initiation(out: &mut Vec<u8>, name: &str, description: &str) {
    const SYS_DESCR: u16 = 1;
    const SYS_NAME: u16 = 2;
    write(out, Kind::Initiation, |out| {
        write_text(out, SYS_DESCR, description);
        write_text(out, SYS_NAME, name);
    });
}

/// Appends the last one (section 4.5): nobody wants the station any more.
pub fn write_termination(out: &mut Vec<u8>) {
    const REASON: u16 = 1;
    const ADMINISTRATIVELY_CLOSED: u16 = 0;
    write(out, Kind::Termination, |out| {
        out.extend_from_slice(&REASON.to_be_bytes());
        out.extend_from_slice(&2_u16.to_be_bytes());
        out.extend_from_slice(&ADMINISTRATIVELY_CLOSED.to_be_bytes());
    });
}

/// A connection of a session: our end, and the ports of both; 0 where they are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Our address; that of a loc-rib is unspecified.
    pub local: IpAddr,
    /// Our port.
    pub local_port: u16,
    /// That of the peer.
    pub remote_port: u16,
}

/// Appends that a session is up, with the OPENs of both (section 4.10). Of our own table both are ours, and it has a name
/// (RFC 9069 section 5.2).
pub fn write_peer_up(out: &mut Vec<u8>, source: &Source, ends: Ends, sent: &Open, received: &Open) {
    const TABLE_NAME: u16 = 3;
    write(out, Kind::PeerUp, |out| {
        write_source(out, source);
        write_address(out, ends.local);
        out.extend_from_slice(&ends.local_port.to_be_bytes());
        out.extend_from_slice(&ends.remote_port.to_be_bytes());
        sent.write(out);
        received.write(out);
        if source.teller == Teller::Ourselves {
            write_text(out, TABLE_NAME, "global");
        }
    });
}

/// Appends that a session is no more, and with it all that was told of it (section 4.9).
pub fn write_peer_down(out: &mut Vec<u8>, source: &Source, down: &Down) {
    const TABLE_NAME: u16 = 3;
    write(out, Kind::PeerDown, |out| {
        write_source(out, source);
        match down {
            Down::Sent(notification) => {
                out.push(1);
                frame::write_notification(out, notification);
            }
            // No event of the state machine would say it (RFC 7854 section 4.9).
            Down::Silently => out.extend_from_slice(&[2, 0, 0]),
            Down::Received(notification) => {
                out.push(3);
                frame::write_notification(out, notification);
            }
            Down::Lost => out.push(4),
            Down::Removed => out.push(5),
            Down::NotShown => {
                out.push(6);
                write_text(out, TABLE_NAME, "global");
            }
        }
    });
}

/// Appends one message for each UPDATE in `updates`, which are whole (section 4.6).
pub fn write_route_monitoring(out: &mut Vec<u8>, source: &Source, updates: &[u8]) {
    let mut rest = updates;
    while let Some((octets, behind)) = frame::length(rest).and_then(|length| rest.split_at_checked(length)) {
        write(out, Kind::RouteMonitoring, |out| {
            write_source(out, source);
            out.extend_from_slice(octets);
        });
        rest = behind;
    }
}

fn write(out: &mut Vec<u8>, kind: Kind, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[VERSION, 0, 0, 0, 0, kind as u8]);
    body(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(place) = out.get_mut(start + 1..).and_then(|rest| rest.first_chunk_mut()) {
        *place = length;
    }
    debug_assert!(out.len() >= start + COMMON_HEADER_BYTES, "nothing is taken away");
}

fn write_source(out: &mut Vec<u8>, Source { teller, asn, router_id, at }: &Source) {
    const IPV6: u8 = 0x80;
    const POST_POLICY: u8 = 0x40;
    const GLOBAL_INSTANCE: u8 = 0;
    const LOC_RIB: u8 = 3;
    const NO_DISTINGUISHER: [u8; 8] = [0; 8];
    match teller {
        Teller::Peer { address, policy } => {
            let family = if address.is_ipv6() { IPV6 } else { 0 };
            let side = if *policy == Policy::After { POST_POLICY } else { 0 };
            out.extend_from_slice(&[GLOBAL_INSTANCE, family | side]);
            out.extend_from_slice(&NO_DISTINGUISHER);
            write_address(out, *address);
        }
        Teller::Ourselves => {
            out.extend_from_slice(&[LOC_RIB, 0]);
            out.extend_from_slice(&NO_DISTINGUISHER);
            out.extend_from_slice(&[0; 16]);
        }
    }
    out.extend_from_slice(&asn.value().to_be_bytes());
    out.extend_from_slice(&router_id.value().to_be_bytes());
    out.extend_from_slice(&u32::try_from(at.as_secs()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&at.subsec_micros().to_be_bytes());
}

/// 16 octets; one of IPv4 stands at their end.
fn write_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            out.extend_from_slice(&[0; 12]);
            out.extend_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => out.extend_from_slice(&v6.octets()),
    }
}

/// An information TLV (section 4.4).
fn write_text(out: &mut Vec<u8>, kind: u16, text: &str) {
    let text = text.get(..usize::from(u16::MAX)).unwrap_or(text).as_bytes();
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(text);
}
