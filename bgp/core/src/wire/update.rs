//! UPDATE: decoding with the gentle errors of RFC 7606, and packing.

use std::mem::take;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use super::attribute::{self, Bad, Draft, Flaw, Raw, Treatment, code as attribute_code};
use super::capability::AfiSafi;
use super::fault::Fault;
use super::frame::{self, HEADER_BYTES, MessageType};
use super::nlri::{self, Nlri};
use super::notification::{Notification, code, update as subcode};
use super::reader::Reader;
use crate::attributes::{AttributeSet, AttributeTable, Attributes, Told};
use crate::prefix::Family;
use crate::session::{Agreed, PathIds, Scope, Session};

/// What one UPDATE says, errors already treated: apply `withdrawn`, then `announced`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Update {
    /// No longer reachable through the peer; holds the announced ones too where RFC 7606 has the message
    /// treated as a withdrawal.
    pub withdrawn: Vec<Nlri>,
    /// MP_REACH_NLRI and the field at the end of the message, each with its own next hop. Both can be of IPv4.
    pub announced: Vec<Announcement>,
    /// The peer has told all it had (RFC 4724 section 2).
    pub end_of_rib: Option<Family>,
    /// What was wrong and survived; for the operator.
    pub flaws: Vec<Flaw>,
}

/// Routes that share their attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Attributes, next hop among them.
    pub attributes: Arc<AttributeSet>,
    /// At least one.
    pub routes: Vec<Nlri>,
}

impl Update {
    /// Reads a message whose attributes nobody knows.
    ///
    /// # Errors
    /// Only what leaves no gentler way (RFC 7606 sections 3, 4 and 5): the prefixes cannot be told.
    pub fn decode(body: &[u8], session: &Session) -> Result<Update, Fault> {
        read(split(body)?, session)
    }

    /// The same, with the sets of `table`: attributes that came before in the same octets are not read again. Says the
    /// same as [`Update::decode`], whatever came before.
    ///
    /// # Errors
    /// As [`Update::decode`].
    pub fn decode_with(body: &[u8], session: &Session, table: &mut AttributeTable) -> Result<Update, Fault> {
        let fields = split(body)?;
        let Some(place) = Place::of(&fields, session) else {
            return Ok(shared(read(fields, session)?, table));
        };
        if let Some(attributes) = table.recall(&place.told) {
            let (mut withdrawn, mut routes) = (Vec::new(), Vec::new());
            decode_field("withdrawn routes", fields.withdrawn, session, &mut withdrawn)?;
            place.routes(&fields, session, &mut routes)?;
            let announced = vec![Announcement { attributes, routes }];
            return Ok(Update { withdrawn, announced, ..Update::default() });
        }
        let update = shared(read(fields, session)?, table);
        if let ([one], []) = (&update.announced[..], &update.flaws[..])
            && carries_no_prefixes(place.told.list)
        {
            table.remember(&place.told, &one.attributes);
        }
        Ok(update)
    }
}

/// Whether a list that was read without a flaw says the same whatever prefixes come with it.
fn carries_no_prefixes(list: &[u8]) -> bool {
    let mut reader = Reader::new(list);
    let attributes = std::iter::from_fn(|| attribute::next(&mut reader).ok());
    !attributes.map(|raw| raw.code).any(attribute::carries_prefixes)
}

/// With the attributes as `table` has them.
fn shared(mut update: Update, table: &mut AttributeTable) -> Update {
    for announcement in &mut update.announced {
        announcement.attributes = table.share(Arc::clone(&announcement.attributes));
    }
    update
}

/// One of the two fields of IPv4 prefixes.
fn decode_field(name: &str, octets: &[u8], session: &Session, routes: &mut Vec<Nlri>) -> Result<(), Fault> {
    let path_ids = session.received_path_ids(Family::Ipv4);
    nlri::decode(Family::Ipv4, path_ids, octets, routes).map_err(|error| {
        let invalid = Notification::new(code::UPDATE, subcode::INVALID_NETWORK_FIELD);
        Fault::new(invalid, format!("{name}: {}", error.what()))
    })
}

/// The three variable fields (RFC 4271 section 4.3).
struct Fields<'a> {
    withdrawn: &'a [u8],
    attributes: &'a [u8],
    announced: &'a [u8],
}

fn split(body: &[u8]) -> Result<Fields<'_>, Fault> {
    let mut reader = Reader::new(body);
    let mut counted = || reader.u16().and_then(|length| reader.take(usize::from(length)));
    match (counted(), counted()) {
        (Some(withdrawn), Some(attributes)) => Ok(Fields { withdrawn, attributes, announced: reader.rest() }),
        _ => {
            let answer = Notification::new(code::UPDATE, subcode::MALFORMED_ATTRIBUTE_LIST);
            Err(Fault::new(answer, "withdrawn routes and path attributes are longer than the message"))
        }
    }
}

/// Everything is looked at.
fn read(fields: Fields<'_>, session: &Session) -> Result<Update, Fault> {
    let Fields { withdrawn, attributes, announced } = fields;
    if withdrawn.is_empty() && attributes.is_empty() && announced.is_empty() {
        return Ok(Update { end_of_rib: Some(Family::Ipv4), ..Update::default() });
    }
    let mut parts = Parts::default();
    decode_field("withdrawn routes", withdrawn, session, &mut parts.withdrawn)?;
    decode_field("announced routes", announced, session, &mut parts.classic)?;
    parts.attributes(attributes, session)?;
    parts.finish(session)
}

/// Of a message that announces prefixes of one family: what its attributes are known by, and where its prefixes are.
///
/// That is how nearly all look that announce something; the others are read as if nothing were known.
struct Place<'a> {
    told: Told<'a>,
    /// MP_REACH_NLRI with the prefixes in it; without it they stand at the end of the message.
    reach: Option<(Raw<'a>, Family, &'a [u8])>,
}

impl<'a> Place<'a> {
    fn of(fields: &Fields<'a>, session: &Session) -> Option<Place<'a>> {
        let form = session.form();
        let is_reach = fields.attributes.get(1) == Some(&attribute_code::MP_REACH_NLRI);
        if !is_reach {
            let told = Told { form, next_hop: None, list: fields.attributes };
            let counts = !fields.announced.is_empty() && session.families.contains(&Family::Ipv4);
            return counts.then_some(Place { told, reach: None });
        }
        let mut reader = Reader::new(fields.attributes);
        let raw = attribute::next(&mut reader).ok().filter(attribute::has_right_flags)?;
        let head = ReachHead::of(raw).ok()?;
        let family = spoken(head.family, session)?;
        let next_hop = read_next_hop(family, head.next_hop, session)
            .ok()
            .filter(|(next_hop, _)| is_usable(*next_hop, session))?;
        let told = Told { form, next_hop: Some(next_hop), list: reader.rest() };
        let alone = fields.announced.is_empty() && !head.prefixes.is_empty();
        alone.then_some(Place { told, reach: Some((raw, family, head.prefixes)) })
    }

    /// Read as [`read`] would.
    fn routes(&self, fields: &Fields<'_>, session: &Session, routes: &mut Vec<Nlri>) -> Result<(), Fault> {
        match self.reach {
            None => decode_field("announced routes", fields.announced, session, routes),
            Some((raw, family, octets)) => decode_in(raw, family, octets, session, routes),
        }
    }
}

/// A message on its way from octets to [`Update`].
#[derive(Default)]
struct Parts {
    withdrawn: Vec<Nlri>,
    /// From the NLRI field at the end of the message.
    classic: Vec<Nlri>,
    draft: Draft,
    reach: Option<Reach>,
    unreach: Option<Unreach>,
    attributes_seen: usize,
    flaws: Vec<Flaw>,
}

/// The type codes that a message had.
#[derive(Default)]
struct Seen([u64; 4]);

impl Seen {
    /// Whether `code` was among them; it is now.
    fn before(&mut self, code: u8) -> bool {
        let (word, bit) = (&mut self.0[usize::from(code / 64)], 1 << (code % 64));
        std::mem::replace(word, *word | bit) & bit != 0
    }
}

/// MP_REACH_NLRI (RFC 4760 section 3).
enum Reach {
    /// Of a family that this session speaks.
    Ours { next_hop: IpAddr, link_local: Option<Ipv6Addr>, routes: Vec<Nlri> },
    /// Of a family that was not agreed on: passed over (RFC 4760 section 7 allows it).
    Foreign,
}

/// MP_UNREACH_NLRI (RFC 4760 section 4).
enum Unreach {
    Ours { family: Family, routes: Vec<Nlri> },
    Foreign,
}

impl Parts {
    fn attributes(&mut self, list: &[u8], session: &Session) -> Result<(), Fault> {
        let mut reader = Reader::new(list);
        let form = session.form();
        let mut seen = Seen::default();
        while !reader.is_empty() {
            let raw = match attribute::next(&mut reader) {
                Ok(raw) => raw,
                Err(cut) => return self.note(cut.into()), // no telling where the next one starts
            };
            self.attributes_seen += 1;
            if seen.before(raw.code) {
                self.duplicate(raw)?;
                continue;
            }
            if let Err(flaw) = self.draft.take(raw, &form) {
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

    /// What it all says; taken out, so that nothing large is moved.
    fn finish(&mut self, session: &Session) -> Result<Update, Fault> {
        if self.is_end_of_rib() {
            if let Some(Unreach::Ours { family, .. }) = self.unreach.take() {
                return Ok(Update { end_of_rib: Some(family), ..Update::default() });
            }
            return Ok(Update::default());
        }
        if let Some(Unreach::Ours { routes, .. }) = self.unreach.take() {
            self.withdrawn.extend(routes);
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
            Some(Unreach::Ours { routes, .. }) => routes.is_empty(),
            _ => false,
        };
        empty && self.attributes_seen == 1 && self.withdrawn.is_empty() && self.classic.is_empty()
    }

    /// RFC 7606 section 3 d. LOCAL_PREF from an internal peer may be absent: it then counts as 100.
    fn check_mandatory(&mut self) {
        let reach_has_routes = matches!(&self.reach, Some(Reach::Ours { routes, .. }) if !routes.is_empty());
        if self.classic.is_empty() && !reach_has_routes {
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

    fn treated_as_withdraw(&mut self) -> Update {
        let mut withdrawn = take(&mut self.withdrawn);
        withdrawn.append(&mut self.classic);
        if let Some(Reach::Ours { routes, .. }) = self.reach.take() {
            withdrawn.extend(routes);
        }
        Update { withdrawn, flaws: take(&mut self.flaws), ..Update::default() }
    }

    fn announce(&mut self, session: &Session) -> Update {
        let classic_next_hop = self.draft.next_hop.map(IpAddr::V4);
        let classic = take(&mut self.classic);
        let reach = match self.reach.take() {
            Some(Reach::Ours { next_hop, link_local, routes }) if !routes.is_empty() => {
                Some((next_hop, link_local, routes))
            }
            _ => None,
        };
        // A session for IPv6 alone may still carry the field; it says nothing there.
        let classic_counts = !classic.is_empty() && session.families.contains(&Family::Ipv4);
        let next_hop = classic_next_hop.filter(|_| classic_counts);
        let next_hop = next_hop.or(reach.as_ref().map(|(next_hop, ..)| *next_hop));
        let attributes = next_hop.and_then(|next_hop| self.draft.finish(next_hop));
        let with =
            |attributes: Attributes, routes| Announcement { attributes: Arc::new(attributes.into()), routes };
        let announced = match (attributes, reach) {
            (Some(attributes), Some((next_hop, link_local, routes))) => {
                let classic = classic_counts.then(|| with(attributes.clone(), classic));
                let reach = with(Attributes { next_hop, link_local, ..attributes }, routes);
                std::iter::once(reach).chain(classic).collect()
            }
            (Some(attributes), None) if classic_counts => vec![with(attributes, classic)],
            _ => Vec::new(),
        };
        Update {
            withdrawn: take(&mut self.withdrawn),
            announced,
            end_of_rib: None,
            flaws: take(&mut self.flaws),
        }
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

/// The fixed part of MP_REACH_NLRI, and what follows.
struct ReachHead<'a> {
    family: AfiSafi,
    next_hop: &'a [u8],
    prefixes: &'a [u8],
}

impl<'a> ReachHead<'a> {
    fn of(raw: Raw<'a>) -> Result<ReachHead<'a>, Fault> {
        let mut reader = Reader::new(raw.value);
        let family = read_family(&mut reader).ok_or_else(|| fault(raw, "shorter than AFI and SAFI"))?;
        let next_hop = reader.u8().and_then(|length| reader.take(usize::from(length)));
        // The reserved octet says nothing (RFC 4760 section 3).
        let (Some(next_hop), Some(_reserved)) = (next_hop, reader.u8()) else {
            return Err(fault(raw, "ends inside the next hop"));
        };
        Ok(ReachHead { family, next_hop, prefixes: reader.rest() })
    }
}

fn fault(raw: Raw<'_>, what: &'static str) -> Fault {
    Flaw::of(raw, unreadable(what)).fault()
}

fn read_reach(raw: Raw<'_>, session: &Session, flaws: &mut Vec<Flaw>) -> Result<Reach, Fault> {
    let head = ReachHead::of(raw)?;
    let Some(family) = spoken(head.family, session) else { return Ok(Reach::Foreign) };
    let (next_hop, link_local) =
        read_next_hop(family, head.next_hop, session).map_err(|what| fault(raw, what))?;
    if !is_usable(next_hop, session) {
        let what = "next hop is not the address of a host";
        flaws.push(Flaw::of(raw, Bad(Treatment::Withdraw, subcode::INVALID_NEXT_HOP, what)));
    }
    let mut routes = Vec::new();
    decode_in(raw, family, head.prefixes, session, &mut routes)?;
    Ok(Reach::Ours { next_hop, link_local, routes })
}

/// The prefixes in an attribute.
fn decode_in(
    raw: Raw<'_>,
    family: Family,
    octets: &[u8],
    session: &Session,
    routes: &mut Vec<Nlri>,
) -> Result<(), Fault> {
    let path_ids = session.received_path_ids(family);
    nlri::decode(family, path_ids, octets, routes).map_err(|error| fault(raw, error.what()))
}

fn read_family(reader: &mut Reader<'_>) -> Option<AfiSafi> {
    Some(AfiSafi { afi: reader.u16()?, safi: reader.u8()? })
}

/// IPv4 has four octets, or what IPv6 has if that was agreed on (RFC 8950 section 3); IPv6 has a global address and
/// perhaps a link-local one (RFC 2545 section 3).
///
/// Of a session over link-local addresses the link-local one counts, wherever it stands: the global one may be out of
/// reach, and there may be none. Then FRR has the link-local one twice, BIRD has `::` in front of it, others send it alone.
fn read_next_hop(
    family: Family,
    octets: &[u8],
    session: &Session,
) -> Result<(IpAddr, Option<Ipv6Addr>), &'static str> {
    const NEITHER: &str = "next hop of neither 16 nor 32 octets";
    if family == Family::Ipv4 {
        match <[u8; 4]>::try_from(octets) {
            Ok(octets) => return Ok((IpAddr::from(octets), None)),
            Err(_) if session.extended_next_hop == Agreed::No => {
                return Err("next hop of other than 4 octets");
            }
            Err(_) => {}
        }
    }
    let (global, rest) = octets.split_first_chunk::<16>().ok_or(NEITHER)?;
    let link_local = match rest.len() {
        0 => None,
        16 => <[u8; 16]>::try_from(rest).ok().map(Ipv6Addr::from),
        _ => return Err(NEITHER),
    };
    let (global, link_local) = (Ipv6Addr::from(*global), link_local.filter(Ipv6Addr::is_unicast_link_local));
    let on_link = link_local.or(global.is_unicast_link_local().then_some(global));
    match (session.scope, on_link) {
        (Scope::Link, Some(on_link)) => Ok((on_link.into(), None)),
        _ => Ok((global.into(), link_local)),
    }
}

/// A link-local address alone does not tell the interface, unless the session is over one.
fn is_usable(next_hop: IpAddr, session: &Session) -> bool {
    match next_hop {
        IpAddr::V4(v4) => attribute::is_host_v4(v4),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => session.scope == Scope::Link,
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_loopback() || v6.is_multicast()),
    }
}

fn read_unreach(raw: Raw<'_>, session: &Session) -> Result<Unreach, Fault> {
    let mut reader = Reader::new(raw.value);
    let family = read_family(&mut reader).ok_or_else(|| fault(raw, "shorter than AFI and SAFI"))?;
    let Some(family) = spoken(family, session) else { return Ok(Unreach::Foreign) };
    let mut routes = Vec::new();
    decode_in(raw, family, reader.rest(), session, &mut routes)?;
    Ok(Unreach::Ours { family, routes })
}

/// The attributes leave no room for a single prefix; such a route cannot be told to this peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttributesTooLong;

/// Appends as few UPDATEs as hold all `routes`, which are of one family and share `attributes`.
///
/// # Errors
/// [`AttributesTooLong`]; then nothing is appended.
pub fn write_announce(
    out: &mut Vec<u8>,
    session: &Session,
    attributes: &AttributeSet,
    routes: &[Nlri],
) -> Result<(), AttributesTooLong> {
    let Some(family) = routes.first().map(|route| route.prefix.family()) else { return Ok(()) };
    let shared = attributes.encoded(session.as_width);
    let overhead = HEADER_BYTES + 4 + shared.len();
    let head = match attributes.next_hop {
        IpAddr::V4(_) => None,
        IpAddr::V6(next_hop) => Some(mp_reach_head(family, next_hop, attributes.link_local)),
    };
    let head = head.as_ref().map_or(&[][..], |(head, length)| &head[..*length]);
    let overhead = overhead + if head.is_empty() { 0 } else { 4 + head.len() };
    let room = session.most_message_bytes.checked_sub(overhead).ok_or(AttributesTooLong)?;
    let path_ids = session.sent_path_ids(family);
    let longest =
        || routes.iter().map(|route| nlri::encoded_bytes(route, path_ids)).max().unwrap_or_default();
    if room < nlri::MOST_BYTES && room < longest() {
        return Err(AttributesTooLong);
    }
    for (chunk, octets) in packed(routes, path_ids, room) {
        frame::write(out, MessageType::Update, |out| {
            out.extend_from_slice(&[0, 0]);
            if head.is_empty() {
                write_length(out, shared.len());
                out.extend_from_slice(shared);
                nlri::write(out, path_ids, chunk, octets);
            } else {
                let value = head.len() + octets;
                write_length(out, 4 + value + shared.len());
                // First, so that a reader finds the prefixes whatever follows (RFC 7606 section 5.1).
                out.extend_from_slice(&[attribute::MP_FLAGS, attribute_code::MP_REACH_NLRI]);
                write_length(out, value);
                out.extend_from_slice(head);
                nlri::write(out, path_ids, chunk, octets);
                out.extend_from_slice(shared);
            }
        });
    }
    Ok(())
}

/// AFI, SAFI, the next hop with its length, the reserved octet; and how many octets these are.
fn mp_reach_head(family: Family, next_hop: Ipv6Addr, link_local: Option<Ipv6Addr>) -> ([u8; 37], usize) {
    let AfiSafi { afi, safi } = AfiSafi::from(family);
    let [high, low] = afi.to_be_bytes();
    let mut head = [0; 37];
    head[..4].copy_from_slice(&[high, low, safi, if link_local.is_some() { 32 } else { 16 }]);
    head[4..20].copy_from_slice(&next_hop.octets());
    let Some(link_local) = link_local else { return (head, 21) };
    head[20..36].copy_from_slice(&link_local.octets());
    (head, 37)
}

/// Appends as few UPDATEs as withdraw all `routes`, which are of one family.
pub fn write_withdraw(out: &mut Vec<u8>, session: &Session, routes: &[Nlri]) {
    let Some(family) = routes.first().map(|route| route.prefix.family()) else { return };
    let path_ids = session.sent_path_ids(family);
    let overhead = HEADER_BYTES + 4 + if family == Family::Ipv6 { 7 } else { 0 };
    for (chunk, octets) in packed(routes, path_ids, session.most_message_bytes - overhead) {
        frame::write(out, MessageType::Update, |out| match family {
            Family::Ipv4 => {
                write_length(out, octets);
                nlri::write(out, path_ids, chunk, octets);
                out.extend_from_slice(&[0, 0]);
            }
            Family::Ipv6 => {
                out.extend_from_slice(&[0, 0]);
                write_length(out, 4 + 3 + octets);
                write_unreach_head(out, family, octets);
                nlri::write(out, path_ids, chunk, octets);
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

/// Cuts `routes` into runs that take at most `room` octets, each with the octets it takes. Every route
/// fits `room` by itself.
fn packed(routes: &[Nlri], path_ids: PathIds, room: usize) -> impl Iterator<Item = (&[Nlri], usize)> {
    let mut rest = routes;
    std::iter::from_fn(move || {
        let mut octets = 0;
        let count = rest
            .iter()
            .take_while(|route| {
                let more = octets + nlri::encoded_bytes(route, path_ids);
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
