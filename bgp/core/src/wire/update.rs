//! UPDATE: decoding with the gentle errors of RFC 7606, and packing.

use std::net::{IpAddr, Ipv6Addr};

use super::attribute::{self, Bad, Draft, Flaw, Raw, Treatment, code as attribute_code};
use super::capability::AfiSafi;
use super::fault::Fault;
use super::frame::{self, HEADER_BYTES, MessageType};
use super::nlri;
use super::notification::{Notification, code, update as subcode};
use super::reader::Reader;
use crate::attributes::Attributes;
use crate::prefix::{Family, Prefix};
use crate::session::Session;

/// What one UPDATE says, errors already treated: apply `withdrawn`, then `announced`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Update {
    /// No longer reachable through the peer; holds the announced ones too where RFC 7606 has the message
    /// treated as a withdrawal.
    pub withdrawn: Vec<Prefix>,
    /// At most one entry a family, since each has its own next hop.
    pub announced: Vec<Announcement>,
    /// The peer has told all it had (RFC 4724 section 2).
    pub end_of_rib: Option<Family>,
    /// What was wrong and survived; for the operator.
    pub flaws: Vec<Flaw>,
}

/// Prefixes that share their attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Attributes, next hop among them.
    pub attributes: Attributes,
    /// At least one.
    pub prefixes: Vec<Prefix>,
}

impl Update {
    /// # Errors
    /// Only what leaves no gentler way (RFC 7606 sections 3, 4 and 5): the prefixes cannot be told.
    pub fn decode(body: &[u8], session: &Session) -> Result<Update, Fault> {
        let (withdrawn, attributes, announced) = split(body)?;
        if withdrawn.is_empty() && attributes.is_empty() && announced.is_empty() {
            return Ok(Update { end_of_rib: Some(Family::Ipv4), ..Update::default() });
        }
        let mut read = Parts {
            withdrawn: decode_field("withdrawn routes", withdrawn)?,
            classic: decode_field("announced routes", announced)?,
            ..Parts::default()
        };
        read.attributes(attributes, session)?;
        read.finish(session)
    }
}

/// One of the two fields of IPv4 prefixes.
fn decode_field(name: &str, octets: &[u8]) -> Result<Vec<Prefix>, Fault> {
    let invalid = Notification::new(code::UPDATE, subcode::INVALID_NETWORK_FIELD);
    nlri::decode(Family::Ipv4, octets)
        .map_err(|error| Fault::new(invalid, format!("{name}: {}", error.what())))
}

/// Withdrawn routes, path attributes, NLRI.
type Fields<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// The three variable fields (RFC 4271 section 4.3).
fn split(body: &[u8]) -> Result<Fields<'_>, Fault> {
    let mut reader = Reader::new(body);
    let mut counted = || reader.u16().and_then(|length| reader.take(usize::from(length)));
    match (counted(), counted()) {
        (Some(withdrawn), Some(attributes)) => Ok((withdrawn, attributes, reader.rest())),
        _ => {
            let answer = Notification::new(code::UPDATE, subcode::MALFORMED_ATTRIBUTE_LIST);
            Err(Fault::new(answer, "withdrawn routes and path attributes are longer than the message"))
        }
    }
}

/// A message on its way from octets to [`Update`].
#[derive(Default)]
struct Parts {
    withdrawn: Vec<Prefix>,
    /// From the NLRI field at the end of the message.
    classic: Vec<Prefix>,
    draft: Draft,
    reach: Option<Reach>,
    unreach: Option<Unreach>,
    attributes_seen: usize,
    flaws: Vec<Flaw>,
}

/// MP_REACH_NLRI (RFC 4760 section 3).
enum Reach {
    /// Of a family that this session speaks.
    Ours { next_hop: IpAddr, link_local: Option<Ipv6Addr>, prefixes: Vec<Prefix> },
    /// Of a family that was not agreed on: passed over (RFC 4760 section 7 allows it).
    Foreign,
}

/// MP_UNREACH_NLRI (RFC 4760 section 4).
enum Unreach {
    Ours { family: Family, prefixes: Vec<Prefix> },
    Foreign,
}

impl Parts {
    fn attributes(&mut self, list: &[u8], session: &Session) -> Result<(), Fault> {
        let mut reader = Reader::new(list);
        let mut seen = [false; 256];
        while !reader.is_empty() {
            let raw = match attribute::next(&mut reader) {
                Ok(raw) => raw,
                Err(flaw) => return self.note(flaw), // no telling where the next one starts
            };
            self.attributes_seen += 1;
            if std::mem::replace(&mut seen[usize::from(raw.code)], true) {
                self.duplicate(raw)?;
                continue;
            }
            if let Err(flaw) = self.draft.take(raw, session) {
                self.note(flaw)?;
                continue;
            }
            match raw.code {
                attribute_code::MP_REACH_NLRI => {
                    self.reach = Some(read_reach(raw, session, &mut self.flaws)?)
                }
                attribute_code::MP_UNREACH_NLRI => self.unreach = Some(read_unreach(raw, session)?),
                _ => {}
            }
        }
        Ok(())
    }

    fn note(&mut self, flaw: Flaw) -> Result<(), Fault> {
        if flaw.treatment == Treatment::Reset {
            return Err(flaw.fault());
        }
        self.flaws.push(flaw);
        Ok(())
    }

    /// RFC 7606 section 3 g: the first stays; twice the prefixes is beyond repair.
    fn duplicate(&mut self, raw: Raw<'_>) -> Result<(), Fault> {
        let twice = attribute::carries_prefixes(raw.code);
        let treatment = if twice { Treatment::Reset } else { Treatment::Discard };
        let subcode = subcode::MALFORMED_ATTRIBUTE_LIST;
        self.note(Flaw::of(raw, Bad(treatment, subcode, "more than once in a message")))
    }

    fn finish(mut self, session: &Session) -> Result<Update, Fault> {
        if self.is_end_of_rib() {
            if let Some(Unreach::Ours { family, .. }) = self.unreach {
                return Ok(Update { end_of_rib: Some(family), ..Update::default() });
            }
            return Ok(Update::default());
        }
        if let Some(Unreach::Ours { prefixes, .. }) = self.unreach.take() {
            self.withdrawn.extend(prefixes);
        }
        self.check_mandatory();
        let withdraw = self.flaws.iter().find(|flaw| flaw.treatment == Treatment::Withdraw);
        if let Some(flaw) = withdraw {
            // RFC 7606 section 5.2: nothing to withdraw means that something was lost.
            if self.classic.is_empty() && self.reach.is_none() {
                return Err(flaw.fault());
            }
            return Ok(self.treated_as_withdraw());
        }
        Ok(self.announce(session))
    }

    /// An empty MP_UNREACH_NLRI and nothing else (RFC 4724 section 2).
    fn is_end_of_rib(&self) -> bool {
        let empty = match &self.unreach {
            Some(Unreach::Ours { prefixes, .. }) => prefixes.is_empty(),
            _ => false,
        };
        empty && self.attributes_seen == 1 && self.withdrawn.is_empty() && self.classic.is_empty()
    }

    /// RFC 7606 section 3 d. LOCAL_PREF from an internal peer may be absent: it then counts as 100.
    fn check_mandatory(&mut self) {
        let reach_has_prefixes =
            matches!(&self.reach, Some(Reach::Ours { prefixes, .. }) if !prefixes.is_empty());
        if self.classic.is_empty() && !reach_has_prefixes {
            return;
        }
        if let Some(flaw) = self.draft.missing() {
            self.flaws.push(flaw);
        }
        let faulty = |flaw: &Flaw| flaw.attribute == attribute_code::NEXT_HOP;
        if !self.classic.is_empty() && self.draft.next_hop.is_none() && !self.flaws.iter().any(faulty) {
            self.flaws.push(Flaw::missing(attribute_code::NEXT_HOP));
        }
    }

    fn treated_as_withdraw(self) -> Update {
        let mut withdrawn = self.withdrawn;
        withdrawn.extend(self.classic);
        if let Some(Reach::Ours { prefixes, .. }) = self.reach {
            withdrawn.extend(prefixes);
        }
        Update { withdrawn, flaws: self.flaws, ..Update::default() }
    }

    fn announce(self, session: &Session) -> Update {
        let mut announced = Vec::new();
        let classic_next_hop = self.draft.next_hop.map(IpAddr::V4);
        let reach = match self.reach {
            Some(Reach::Ours { next_hop, link_local, prefixes }) if !prefixes.is_empty() => {
                Some((next_hop, link_local, prefixes))
            }
            _ => None,
        };
        let next_hop = classic_next_hop.or(reach.as_ref().map(|(next_hop, ..)| *next_hop));
        let attributes = next_hop.and_then(|next_hop| self.draft.finish(next_hop));
        if let (Some((next_hop, link_local, prefixes)), Some(attributes)) = (reach, &attributes) {
            let attributes = Attributes { next_hop, link_local, ..attributes.clone() };
            announced.push(Announcement { attributes, prefixes });
        }
        // A session for IPv6 alone may still carry the field; it says nothing there.
        let classic_counts = !self.classic.is_empty() && session.families.contains(&Family::Ipv4);
        if let Some(attributes) = attributes.filter(|_| classic_counts) {
            announced.push(Announcement { attributes, prefixes: self.classic });
        }
        Update { withdrawn: self.withdrawn, announced, end_of_rib: None, flaws: self.flaws }
    }
}

/// RFC 7606 section 7.11: what cannot be read leaves the family unknown, so the session closes
/// (disabling the family instead, as section 5.1 allows, would hide the fault).
fn unreadable(what: &'static str) -> Bad {
    Bad(Treatment::Reset, subcode::OPTIONAL_ATTRIBUTE, what)
}

fn spoken(family: AfiSafi, session: &Session) -> Option<Family> {
    family.family().filter(|family| session.families.contains(family))
}

fn read_reach(raw: Raw<'_>, session: &Session, flaws: &mut Vec<Flaw>) -> Result<Reach, Fault> {
    let fault = |what| Flaw::of(raw, unreadable(what)).fault();
    let mut reader = Reader::new(raw.value);
    let family = read_family(&mut reader).ok_or_else(|| fault("shorter than AFI and SAFI"))?;
    let next_hop = reader.u8().and_then(|length| reader.take(usize::from(length)));
    let (Some(next_hop), Some(_reserved)) = (next_hop, reader.u8()) else {
        return Err(fault("ends inside the next hop"));
    };
    let Some(family) = spoken(family, session) else { return Ok(Reach::Foreign) };
    let (next_hop, link_local) = read_next_hop(family, next_hop).map_err(fault)?;
    if !is_usable(next_hop) {
        let what = "next hop is not the address of a host";
        flaws.push(Flaw::of(raw, Bad(Treatment::Withdraw, subcode::INVALID_NEXT_HOP, what)));
    }
    let prefixes = nlri::decode(family, reader.rest()).map_err(|error| fault(error.what()))?;
    Ok(Reach::Ours { next_hop, link_local, prefixes })
}

fn read_family(reader: &mut Reader<'_>) -> Option<AfiSafi> {
    Some(AfiSafi { afi: reader.u16()?, safi: reader.u8()? })
}

/// IPv4 has four octets (RFC 8950 was not agreed on); IPv6 has a global address and perhaps a
/// link-local one (RFC 2545 section 3).
fn read_next_hop(family: Family, octets: &[u8]) -> Result<(IpAddr, Option<Ipv6Addr>), &'static str> {
    const NEITHER: &str = "next hop of neither 16 nor 32 octets";
    if family == Family::Ipv4 {
        let octets = <[u8; 4]>::try_from(octets).map_err(|_| "next hop of other than 4 octets")?;
        return Ok((IpAddr::from(octets), None));
    }
    let (global, rest) = octets.split_first_chunk::<16>().ok_or(NEITHER)?;
    let link_local = match rest.len() {
        0 => None,
        16 => <[u8; 16]>::try_from(rest).ok().map(Ipv6Addr::from),
        _ => return Err(NEITHER),
    };
    Ok((IpAddr::from(*global), link_local.filter(Ipv6Addr::is_unicast_link_local)))
}

/// A link-local address alone does not tell the interface; such peers come with unnumbered links.
fn is_usable(next_hop: IpAddr) -> bool {
    match next_hop {
        IpAddr::V4(v4) => attribute::is_host_v4(v4),
        IpAddr::V6(v6) => {
            !(v6.is_unspecified() || v6.is_loopback() || v6.is_multicast() || v6.is_unicast_link_local())
        }
    }
}

fn read_unreach(raw: Raw<'_>, session: &Session) -> Result<Unreach, Fault> {
    let fault = |what| Flaw::of(raw, unreadable(what)).fault();
    let mut reader = Reader::new(raw.value);
    let family = read_family(&mut reader).ok_or_else(|| fault("shorter than AFI and SAFI"))?;
    let Some(family) = spoken(family, session) else { return Ok(Unreach::Foreign) };
    let prefixes = nlri::decode(family, reader.rest()).map_err(|error| fault(error.what()))?;
    Ok(Unreach::Ours { family, prefixes })
}

/// The attributes leave no room for a single prefix; such a route cannot be told to this peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AttributesTooLong;

/// Appends as few UPDATEs as hold all `prefixes`, which are of one family and share `attributes`.
pub(crate) fn write_announce(
    out: &mut Vec<u8>,
    session: &Session,
    attributes: &Attributes,
    prefixes: &[Prefix],
) -> Result<(), AttributesTooLong> {
    let mut shared = Vec::new();
    attribute::write_all(&mut shared, attributes, session);
    let mp_head = match attributes.next_hop {
        IpAddr::V4(_) => Vec::new(),
        IpAddr::V6(next_hop) => mp_reach_head(next_hop),
    };
    let overhead = HEADER_BYTES + 4 + shared.len() + if mp_head.is_empty() { 0 } else { 4 + mp_head.len() };
    let room = session.most_message_bytes.checked_sub(overhead).ok_or(AttributesTooLong)?;
    if prefixes.iter().any(|prefix| nlri::encoded_bytes(prefix) > room) {
        return Err(AttributesTooLong);
    }
    for (chunk, octets) in packed(prefixes, room) {
        frame::write(out, MessageType::Update, |out| {
            out.extend_from_slice(&[0, 0]);
            if mp_head.is_empty() {
                write_length(out, shared.len());
                out.extend_from_slice(&shared);
            } else {
                let value = mp_head.len() + octets;
                write_length(out, 4 + value + shared.len());
                // First, so that a reader finds the prefixes whatever follows (RFC 7606 section 5.1).
                out.extend_from_slice(&[attribute::MP_FLAGS, attribute_code::MP_REACH_NLRI]);
                write_length(out, value);
                out.extend_from_slice(&mp_head);
                chunk.iter().for_each(|prefix| nlri::write(out, prefix));
                out.extend_from_slice(&shared);
                return;
            }
            chunk.iter().for_each(|prefix| nlri::write(out, prefix));
        });
    }
    Ok(())
}

fn mp_reach_head(next_hop: Ipv6Addr) -> Vec<u8> {
    let AfiSafi { afi, safi } = AfiSafi::from(Family::Ipv6);
    let mut head = afi.to_be_bytes().to_vec();
    head.extend_from_slice(&[safi, 16]);
    head.extend_from_slice(&next_hop.octets());
    head.push(0);
    head
}

/// Appends as few UPDATEs as withdraw all `prefixes`, which are of one family.
pub(crate) fn write_withdraw(out: &mut Vec<u8>, session: &Session, prefixes: &[Prefix]) {
    let Some(family) = prefixes.first().map(Prefix::family) else { return };
    let overhead = HEADER_BYTES + 4 + if family == Family::Ipv6 { 7 } else { 0 };
    for (chunk, octets) in packed(prefixes, session.most_message_bytes - overhead) {
        frame::write(out, MessageType::Update, |out| match family {
            Family::Ipv4 => {
                write_length(out, octets);
                chunk.iter().for_each(|prefix| nlri::write(out, prefix));
                out.extend_from_slice(&[0, 0]);
            }
            Family::Ipv6 => {
                out.extend_from_slice(&[0, 0]);
                write_length(out, 4 + 3 + octets);
                write_unreach_head(out, family, octets);
                chunk.iter().for_each(|prefix| nlri::write(out, prefix));
            }
        });
    }
}

/// Appends the End-of-RIB marker (RFC 4724 section 2).
pub(crate) fn write_end_of_rib(out: &mut Vec<u8>, family: Family) {
    frame::write(out, MessageType::Update, |out| match family {
        Family::Ipv4 => out.extend_from_slice(&[0, 0, 0, 0]),
        Family::Ipv6 => {
            out.extend_from_slice(&[0, 0, 0, 7]);
            write_unreach_head(out, family, 0);
        }
    });
}

fn write_unreach_head(out: &mut Vec<u8>, family: Family, octets: usize) {
    let AfiSafi { afi, safi } = AfiSafi::from(family);
    out.extend_from_slice(&[attribute::MP_FLAGS, attribute_code::MP_UNREACH_NLRI]);
    write_length(out, 3 + octets);
    out.extend_from_slice(&afi.to_be_bytes());
    out.push(safi);
}

/// All lengths are bounded by the message size, which fits.
fn write_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
}

/// Cuts `prefixes` into runs that take at most `room` octets, each with the octets it takes. Every
/// prefix fits `room` by itself.
fn packed(prefixes: &[Prefix], room: usize) -> impl Iterator<Item = (&[Prefix], usize)> {
    let mut rest = prefixes;
    std::iter::from_fn(move || {
        let mut octets = 0;
        let count = rest
            .iter()
            .take_while(|prefix| {
                let more = octets + nlri::encoded_bytes(prefix);
                let fits = more <= room;
                if fits {
                    octets = more;
                }
                fits
            })
            .count();
        let (chunk, behind) = rest.split_at_checked(count).filter(|_| count > 0)?;
        rest = behind;
        Some((chunk, octets))
    })
}
