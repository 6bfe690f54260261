//! Capabilities of OPEN (RFC 5492). Those that we know are decoded, all others are kept as data.

use std::time::Duration;

use super::reader::Reader;
use crate::prefix::Family;
use crate::types::Asn;

/// An address family as on the wire, known to us or not (RFC 4760).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AfiSafi {
    /// Address family: 1 IPv4, 2 IPv6.
    pub afi: u16,
    /// Subsequent address family: 1 unicast.
    pub safi: u8,
}

impl From<Family> for AfiSafi {
    fn from(family: Family) -> AfiSafi {
        match family {
            Family::Ipv4 => AfiSafi { afi: 1, safi: 1 },
            Family::Ipv6 => AfiSafi { afi: 2, safi: 1 },
        }
    }
}

impl AfiSafi {
    /// The family, if it is one that we route.
    pub fn family(self) -> Option<Family> {
        Family::ALL.into_iter().find(|&family| AfiSafi::from(family) == self)
    }
}

/// One capability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capability {
    /// 1 (RFC 4760)
    MultiProtocol(AfiSafi),
    /// 2 (RFC 2918)
    RouteRefresh,
    /// 5 (RFC 8950)
    ExtendedNextHop(Vec<ExtendedNextHop>),
    /// 6 (RFC 8654)
    ExtendedMessage,
    /// 9 (RFC 9234); the number may be one that nobody has, which OPEN refuses.
    Role(u8),
    /// 64 (RFC 4724)
    GracefulRestart(GracefulRestart),
    /// 65 (RFC 6793); the number may be 0 on the wire, which OPEN refuses.
    FourOctetAs(u32),
    /// 69 (RFC 7911)
    AddPath(Vec<AddPathFamily>),
    /// 70 (RFC 7313)
    EnhancedRouteRefresh,
    /// 71 (RFC 9494)
    LongLivedGracefulRestart(LongLivedGracefulRestart),
    /// Everything else, shape checked where its RFC gives one.
    Unknown {
        /// Capability code.
        code: u8,
        /// Its value, untouched.
        value: Vec<u8>,
    },
}

/// One family of the add-path capability (RFC 7911 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddPathFamily {
    /// Which table.
    pub family: AfiSafi,
    /// The sender takes several paths to a prefix.
    pub receives: bool,
    /// It tells several.
    pub sends: bool,
}

/// One entry of the extended next hop capability (RFC 8950 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtendedNextHop {
    /// Routes of this family
    pub family: AfiSafi,
    /// may have next hops of this one.
    pub next_hop_afi: u16,
}

impl ExtendedNextHop {
    /// The only one that we know what to do with.
    pub const IPV4_OVER_IPV6: ExtendedNextHop =
        ExtendedNextHop { family: AfiSafi { afi: 1, safi: 1 }, next_hop_afi: 2 };
}

/// The graceful restart capability (RFC 4724 section 3).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GracefulRestart {
    /// R: the sender has restarted, and its peer shall not wait for it.
    pub restarted: bool,
    /// N: a NOTIFICATION that is no Hard Reset leaves routes as a lost TCP connection does (RFC 8538 section 2).
    pub notification: bool,
    /// Seconds the sender needs to come back; 12 bits.
    pub restart_time_s: u16,
    /// What it keeps over a restart. Empty: it only helps others, and sends End-of-RIB.
    pub families: Vec<RestartFamily>,
}

impl GracefulRestart {
    /// The longest restart time that fits: 4095 s.
    pub const MOST_RESTART_TIME_S: u16 = 0x0FFF;

    /// In seconds, cut to what fits.
    pub(crate) fn time_s(time: Duration) -> u16 {
        u16::try_from(time.as_secs()).unwrap_or(u16::MAX).min(Self::MOST_RESTART_TIME_S)
    }

    /// How long its routes may be kept without it.
    pub fn restart_time(&self) -> Duration {
        Duration::from_secs(u64::from(self.restart_time_s))
    }

    /// What it says of one family.
    pub fn family(&self, family: Family) -> Option<&RestartFamily> {
        self.families.iter().find(|entry| entry.family == AfiSafi::from(family))
    }
}

/// One family of the graceful restart capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartFamily {
    /// Which table.
    pub family: AfiSafi,
    /// F: forwarding went on while the sender was away.
    pub forwarding_kept: bool,
}

/// The long-lived graceful restart capability (RFC 9494 section 3.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LongLivedGracefulRestart {
    /// What may be kept beyond the restart time. Empty: the sender only helps others.
    pub families: Vec<LongLivedFamily>,
}

impl LongLivedGracefulRestart {
    /// The longest time that fits: 24 bits of seconds.
    pub const MOST_STALE_TIME_S: u32 = 0x00FF_FFFF;

    /// What it says of one family.
    pub fn family(&self, family: Family) -> Option<&LongLivedFamily> {
        self.families.iter().find(|entry| entry.family == AfiSafi::from(family))
    }
}

/// One family of the long-lived graceful restart capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongLivedFamily {
    /// Which table.
    pub family: AfiSafi,
    /// F: forwarding went on while the sender was away.
    pub forwarding_kept: bool,
    /// Seconds its stale routes may be kept beyond the restart time; 24 bits.
    pub stale_time_s: u32,
}

impl LongLivedFamily {
    /// How long its stale routes may be kept beyond the restart time.
    pub fn stale_time(&self) -> Duration {
        Duration::from_secs(u64::from(self.stale_time_s))
    }
}

const MULTI_PROTOCOL: u8 = 1;
const ROUTE_REFRESH: u8 = 2;
const OUTBOUND_ROUTE_FILTERING: u8 = 3;
const EXTENDED_NEXT_HOP: u8 = 5;
const EXTENDED_MESSAGE: u8 = 6;
const ROLE: u8 = 9;
const GRACEFUL_RESTART: u8 = 64;
const FOUR_OCTET_AS: u8 = 65;
const ADD_PATH: u8 = 69;
const ENHANCED_ROUTE_REFRESH: u8 = 70;
const LONG_LIVED_GRACEFUL_RESTART: u8 = 71;

/// R and N, beside the restart time (RFC 4724 section 3, RFC 8538 section 2).
const RESTARTED: u16 = 0x8000;
const NOTIFICATION: u16 = 0x4000;
/// F, of a family (RFC 4724 section 3, RFC 9494 section 3.1).
const FORWARDING_KEPT: u8 = 0x80;

/// The value has not the shape that the capability's RFC gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MalformedCapability {
    /// Its code.
    pub(crate) code: u8,
}

impl Capability {
    /// All capabilities of one optional parameter.
    pub(crate) fn decode_all(parameter: &[u8]) -> Result<Vec<Capability>, MalformedCapability> {
        let mut reader = Reader::new(parameter);
        let mut all = Vec::new();
        while let Some(code) = reader.u8() {
            let length = reader.u8().ok_or(MalformedCapability { code })?;
            let value = reader.take(usize::from(length)).ok_or(MalformedCapability { code })?;
            all.push(Capability::decode(code, value)?);
        }
        Ok(all)
    }

    fn decode(code: u8, value: &[u8]) -> Result<Capability, MalformedCapability> {
        let well_shaped = match code {
            MULTI_PROTOCOL | FOUR_OCTET_AS => value.len() == 4,
            ROUTE_REFRESH | EXTENDED_MESSAGE | ENHANCED_ROUTE_REFRESH => value.is_empty(),
            OUTBOUND_ROUTE_FILTERING => orf_is_well_shaped(value),
            EXTENDED_NEXT_HOP => value.len().is_multiple_of(6),
            ROLE => value.len() == 1,
            GRACEFUL_RESTART => value.len() >= 2 && (value.len() - 2).is_multiple_of(4),
            ADD_PATH => value.len().is_multiple_of(4),
            LONG_LIVED_GRACEFUL_RESTART => value.len().is_multiple_of(7),
            _ => true,
        };
        if !well_shaped {
            return Err(MalformedCapability { code });
        }
        let mut reader = Reader::new(value);
        let known = match code {
            MULTI_PROTOCOL => decode_multi_protocol(&mut reader),
            ROUTE_REFRESH => Some(Capability::RouteRefresh),
            EXTENDED_NEXT_HOP => decode_extended_next_hop(&mut reader),
            EXTENDED_MESSAGE => Some(Capability::ExtendedMessage),
            ROLE => reader.u8().map(Capability::Role),
            GRACEFUL_RESTART => decode_graceful_restart(&mut reader),
            FOUR_OCTET_AS => reader.u32().map(Capability::FourOctetAs),
            ADD_PATH => decode_add_path(&mut reader),
            ENHANCED_ROUTE_REFRESH => Some(Capability::EnhancedRouteRefresh),
            LONG_LIVED_GRACEFUL_RESTART => decode_long_lived(&mut reader),
            _ => None,
        };
        Ok(known.unwrap_or_else(|| Capability::Unknown { code, value: value.to_vec() }))
    }

    /// Appends code, length and value.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut tlv = |code: u8, value: &[u8]| {
            // Our own capabilities are short, and what came from the wire had one octet of length.
            out.extend_from_slice(&[code, u8::try_from(value.len()).unwrap_or(u8::MAX)]);
            out.extend_from_slice(value);
        };
        match self {
            Capability::MultiProtocol(AfiSafi { afi, safi }) => {
                let [high, low] = afi.to_be_bytes();
                tlv(MULTI_PROTOCOL, &[high, low, 0, *safi]);
            }
            Capability::RouteRefresh => tlv(ROUTE_REFRESH, &[]),
            Capability::ExtendedNextHop(entries) => {
                tlv(EXTENDED_NEXT_HOP, &encode_extended_next_hop(entries))
            }
            Capability::ExtendedMessage => tlv(EXTENDED_MESSAGE, &[]),
            Capability::Role(role) => tlv(ROLE, &[*role]),
            Capability::GracefulRestart(restart) => tlv(GRACEFUL_RESTART, &encode_graceful_restart(restart)),
            Capability::FourOctetAs(asn) => tlv(FOUR_OCTET_AS, &asn.to_be_bytes()),
            Capability::AddPath(families) => tlv(ADD_PATH, &encode_add_path(families)),
            Capability::EnhancedRouteRefresh => tlv(ENHANCED_ROUTE_REFRESH, &[]),
            Capability::LongLivedGracefulRestart(long_lived) => {
                tlv(LONG_LIVED_GRACEFUL_RESTART, &encode_long_lived(long_lived));
            }
            Capability::Unknown { code, value } => tlv(*code, value),
        }
    }
}

/// The capability that says our AS number.
pub(crate) fn four_octet_as(asn: Asn) -> Capability {
    Capability::FourOctetAs(asn.value())
}

fn decode_multi_protocol(reader: &mut Reader<'_>) -> Option<Capability> {
    let (afi, _reserved, safi) = (reader.u16()?, reader.u8()?, reader.u8()?);
    Some(Capability::MultiProtocol(AfiSafi { afi, safi }))
}

/// `None` where a number says neither of both: it is as if the capability were not known (RFC 7911 section 4).
fn decode_add_path(reader: &mut Reader<'_>) -> Option<Capability> {
    let mut families = Vec::new();
    while let Some(afi) = reader.u16() {
        let (safi, mode) = (reader.u8()?, reader.u8()?);
        let (receives, sends) = match mode {
            1 => (true, false),
            2 => (false, true),
            3 => (true, true),
            _ => return None,
        };
        families.push(AddPathFamily { family: AfiSafi { afi, safi }, receives, sends });
    }
    Some(Capability::AddPath(families))
}

/// Families of which neither is true are left out: there is no number for that.
fn encode_add_path(families: &[AddPathFamily]) -> Vec<u8> {
    let mut value = Vec::new();
    for AddPathFamily { family: AfiSafi { afi, safi }, receives, sends } in families {
        let mode = u8::from(*receives) | u8::from(*sends) << 1;
        if mode != 0 {
            value.extend_from_slice(&afi.to_be_bytes());
            value.extend_from_slice(&[*safi, mode]);
        }
    }
    value
}

fn decode_extended_next_hop(reader: &mut Reader<'_>) -> Option<Capability> {
    let mut entries = Vec::new();
    while let Some(afi) = reader.u16() {
        // The SAFI has two octets here, and one everywhere else.
        let (safi, next_hop_afi) = (u8::try_from(reader.u16()?), reader.u16()?);
        if let Ok(safi) = safi {
            entries.push(ExtendedNextHop { family: AfiSafi { afi, safi }, next_hop_afi });
        }
    }
    Some(Capability::ExtendedNextHop(entries))
}

fn encode_extended_next_hop(entries: &[ExtendedNextHop]) -> Vec<u8> {
    let octets = |entry: &ExtendedNextHop| {
        let ExtendedNextHop { family: AfiSafi { afi, safi }, next_hop_afi } = *entry;
        [afi, u16::from(safi), next_hop_afi].map(u16::to_be_bytes)
    };
    entries.iter().flat_map(octets).flatten().collect()
}

fn decode_graceful_restart(reader: &mut Reader<'_>) -> Option<Capability> {
    let head = reader.u16()?;
    let mut families = Vec::new();
    while let Some(afi) = reader.u16() {
        let (safi, flags) = (reader.u8()?, reader.u8()?);
        let forwarding_kept = flags & FORWARDING_KEPT != 0;
        families.push(RestartFamily { family: AfiSafi { afi, safi }, forwarding_kept });
    }
    Some(Capability::GracefulRestart(GracefulRestart {
        restarted: head & RESTARTED != 0,
        notification: head & NOTIFICATION != 0,
        restart_time_s: head & GracefulRestart::MOST_RESTART_TIME_S,
        families,
    }))
}

fn encode_graceful_restart(restart: &GracefulRestart) -> Vec<u8> {
    let time = restart.restart_time_s.min(GracefulRestart::MOST_RESTART_TIME_S);
    let flag = |set: bool, flag: u16| if set { flag } else { 0 };
    let head = time | flag(restart.restarted, RESTARTED) | flag(restart.notification, NOTIFICATION);
    let mut value = head.to_be_bytes().to_vec();
    for entry in &restart.families {
        write_family(&mut value, entry.family, entry.forwarding_kept);
    }
    value
}

fn decode_long_lived(reader: &mut Reader<'_>) -> Option<Capability> {
    let mut families = Vec::new();
    while let Some(afi) = reader.u16() {
        let (safi, flags) = (reader.u8()?, reader.u8()?);
        let (high, low) = (reader.u8()?, reader.u16()?);
        families.push(LongLivedFamily {
            family: AfiSafi { afi, safi },
            forwarding_kept: flags & FORWARDING_KEPT != 0,
            stale_time_s: u32::from(high) << 16 | u32::from(low),
        });
    }
    Some(Capability::LongLivedGracefulRestart(LongLivedGracefulRestart { families }))
}

fn encode_long_lived(long_lived: &LongLivedGracefulRestart) -> Vec<u8> {
    let mut value = Vec::new();
    for entry in &long_lived.families {
        write_family(&mut value, entry.family, entry.forwarding_kept);
        let time = entry.stale_time_s.min(LongLivedGracefulRestart::MOST_STALE_TIME_S);
        value.extend_from_slice(&time.to_be_bytes()[1..]);
    }
    value
}

fn write_family(value: &mut Vec<u8>, family: AfiSafi, forwarding_kept: bool) {
    value.extend_from_slice(&family.afi.to_be_bytes());
    value.extend_from_slice(&[family.safi, if forwarding_kept { FORWARDING_KEPT } else { 0 }]);
}

/// RFC 5291 section 5: family, count, count pairs; repeated.
fn orf_is_well_shaped(value: &[u8]) -> bool {
    let mut reader = Reader::new(value);
    while !reader.is_empty() {
        let count = reader.take(4).and_then(|_family| reader.u8());
        if count.and_then(|count| reader.take(usize::from(count) * 2)).is_none() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_and_written_alike() {
        let table: Vec<(Vec<u8>, Capability)> = vec![
            (vec![1, 4, 0, 2, 0, 1], Capability::MultiProtocol(AfiSafi { afi: 2, safi: 1 })),
            (vec![2, 0], Capability::RouteRefresh),
            (
                vec![5, 12, 0, 1, 0, 1, 0, 2, 0, 1, 0, 2, 0, 2],
                Capability::ExtendedNextHop(vec![
                    ExtendedNextHop::IPV4_OVER_IPV6,
                    ExtendedNextHop { family: AfiSafi { afi: 1, safi: 2 }, next_hop_afi: 2 },
                ]),
            ),
            (vec![6, 0], Capability::ExtendedMessage),
            (vec![65, 4, 0, 1, 0, 0], Capability::FourOctetAs(65536)),
            (vec![73, 3, 2, b'h', b'i'], Capability::Unknown { code: 73, value: vec![2, b'h', b'i'] }),
            (
                vec![64, 6, 0x80, 120, 0, 1, 1, 0x80],
                Capability::GracefulRestart(GracefulRestart {
                    restarted: true,
                    notification: false,
                    restart_time_s: 120,
                    families: vec![RestartFamily { family: Family::Ipv4.into(), forwarding_kept: true }],
                }),
            ),
            (
                vec![64, 2, 0x4F, 0xFF],
                Capability::GracefulRestart(GracefulRestart {
                    restarted: false,
                    notification: true,
                    restart_time_s: 4095,
                    families: Vec::new(),
                }),
            ),
            (
                vec![69, 8, 0, 1, 1, 3, 0, 2, 1, 1],
                Capability::AddPath(vec![
                    AddPathFamily { family: Family::Ipv4.into(), receives: true, sends: true },
                    AddPathFamily { family: Family::Ipv6.into(), receives: true, sends: false },
                ]),
            ),
            (vec![9, 1, 4], Capability::Role(4)),
            (vec![70, 0], Capability::EnhancedRouteRefresh),
            (
                vec![71, 14, 0, 1, 1, 0x80, 0, 0x0E, 0x10, 0, 2, 1, 0, 1, 0, 0],
                Capability::LongLivedGracefulRestart(LongLivedGracefulRestart {
                    families: vec![
                        LongLivedFamily {
                            family: Family::Ipv4.into(),
                            forwarding_kept: true,
                            stale_time_s: 3600,
                        },
                        LongLivedFamily {
                            family: Family::Ipv6.into(),
                            forwarding_kept: false,
                            stale_time_s: 65536,
                        },
                    ],
                }),
            ),
        ];
        for (bytes, capability) in table {
            assert_eq!(Capability::decode_all(&bytes), Ok(vec![capability.clone()]));
            let mut out = Vec::new();
            capability.write(&mut out);
            assert_eq!(out, bytes);
        }
    }

    #[test]
    fn wrong_shapes_are_malformed_but_unknown_insides_are_not_looked_at() {
        for bytes in [
            vec![1, 3, 0, 1, 0],
            vec![64, 5, 0, 1, 1, 0, 0],
            vec![3, 4, 0, 1, 0, 1],
            vec![9, 2, 0, 1],
            vec![65, 2, 0, 1],
            vec![70, 1, 0],
            vec![71, 6, 0, 1, 1, 0, 0, 1],
            vec![1],
            vec![1, 9, 0],
        ] {
            assert_eq!(
                Capability::decode_all(&bytes),
                Err(MalformedCapability { code: bytes[0] }),
                "{bytes:?}"
            );
        }
        assert!(Capability::decode_all(&[73, 2, 200, 1]).is_ok());
        // RFC 7911 section 4: as if it were not known.
        let odd = vec![0, 1, 1, 7];
        let unknown = Capability::Unknown { code: ADD_PATH, value: odd.clone() };
        assert_eq!(Capability::decode_all(&[&[69, 4][..], &odd].concat()), Ok(vec![unknown]));
    }
}
