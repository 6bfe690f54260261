//! Path attributes on the wire: one table says of each its flags, its shape and what happens when it is
//! malformed (RFC 7606 section 7 and the RFC of each attribute).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::mem::take;
use std::net::{IpAddr, Ipv4Addr};

use super::fault::Fault;
use super::notification::{Notification, code as error, update as subcode};
use super::reader::Reader;
use crate::attributes::{Aggregator, AsPath, Attributes, Opaque, Origin};
use crate::session::{AsWidth, Form, LeftmostAs};
use crate::types::{Asn, CarriedId, Community, LargeCommunity, LocalPref, Med, PeerKind};

/// Attribute type codes.
pub mod code {
    #![allow(missing_docs, reason = "the names are those of the RFCs")]
    pub const ORIGIN: u8 = 1;
    pub const AS_PATH: u8 = 2;
    pub const NEXT_HOP: u8 = 3;
    pub const MULTI_EXIT_DISC: u8 = 4;
    pub const LOCAL_PREF: u8 = 5;
    pub const ATOMIC_AGGREGATE: u8 = 6;
    pub const AGGREGATOR: u8 = 7;
    pub const COMMUNITIES: u8 = 8;
    pub const ORIGINATOR_ID: u8 = 9;
    pub const CLUSTER_LIST: u8 = 10;
    pub const MP_REACH_NLRI: u8 = 14;
    pub const MP_UNREACH_NLRI: u8 = 15;
    pub const EXTENDED_COMMUNITIES: u8 = 16;
    pub const AS4_PATH: u8 = 17;
    pub const AS4_AGGREGATOR: u8 = 18;
    pub const TUNNEL_ENCAPSULATION: u8 = 23;
    pub const IPV6_EXTENDED_COMMUNITIES: u8 = 25;
    pub const AIGP: u8 = 26;
    pub const LARGE_COMMUNITY: u8 = 32;
    pub const ONLY_TO_CUSTOMER: u8 = 35;
    pub const PREFIX_SID: u8 = 40;
    pub const ATTR_SET: u8 = 128;
}

const OPTIONAL: u8 = 0x80;
const TRANSITIVE: u8 = 0x40;
const PARTIAL: u8 = 0x20;
const EXTENDED_LENGTH: u8 = 0x10;

/// What RFC 7606 has us do with a malformed attribute; the strongest of a message wins (section 3 h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Treatment {
    /// The attribute is dropped, the route stays.
    Discard,
    /// All routes of the message are withdrawn.
    Withdraw,
    /// The session closes.
    Reset,
}

impl std::fmt::Display for Treatment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Treatment::Discard => "attribute dropped",
            Treatment::Withdraw => "routes treated as withdrawn",
            Treatment::Reset => "session closed",
        })
    }
}

/// One thing that is wrong with an UPDATE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Type code of the attribute.
    pub attribute: u8,
    /// What follows.
    pub treatment: Treatment,
    /// UPDATE error subcode that goes out if the session must close.
    pub subcode: u8,
    /// What goes beside the subcode then.
    pub data: Vec<u8>,
    /// In words, for the operator.
    pub what: &'static str,
}

impl Flaw {
    /// Of an attribute that is there.
    pub(crate) fn of(raw: Raw<'_>, Bad(treatment, subcode, what): Bad) -> Flaw {
        let data = data(subcode, raw.octets);
        Flaw { attribute: raw.code, treatment, subcode, data, what }
    }

    /// Of one that must be there (RFC 7606 section 3 d).
    pub(crate) fn missing(attribute: u8) -> Flaw {
        let (treatment, subcode) = (Treatment::Withdraw, subcode::MISSING_WELL_KNOWN);
        Flaw { attribute, treatment, subcode, data: vec![attribute], what: "missing" }
    }

    /// The session must close over it.
    pub(crate) fn fault(&self) -> Fault {
        let answer = Notification::with(error::UPDATE, self.subcode, self.data.as_slice());
        Fault::new(answer, self.to_string())
    }
}

/// The Data field of an UPDATE error (RFC 4271 section 6.3): the attribute, but for errors of the list as a
/// whole and of AS_PATH.
fn data(subcode: u8, attribute: &[u8]) -> Vec<u8> {
    match subcode {
        subcode::MALFORMED_ATTRIBUTE_LIST | subcode::MALFORMED_AS_PATH => Vec::new(),
        _ => attribute.to_vec(),
    }
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", name(self.attribute), self.what)
    }
}

/// The attribute's name, or its number.
pub(crate) fn name(attribute: u8) -> Cow<'static, str> {
    rule(attribute).map_or_else(|| format!("attribute {attribute}").into(), |rule| rule.name.into())
}

/// What is wrong with a value; the table adds the rest.
pub(crate) struct Bad(pub(crate) Treatment, pub(crate) u8, pub(crate) &'static str);

const fn withdraw(subcode: u8, what: &'static str) -> Bad {
    Bad(Treatment::Withdraw, subcode, what)
}

const fn discard(what: &'static str) -> Bad {
    Bad(Treatment::Discard, subcode::OPTIONAL_ATTRIBUTE, what)
}

/// One raw attribute.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw<'a> {
    pub(crate) flags: u8,
    pub(crate) code: u8,
    pub(crate) value: &'a [u8],
    /// All of it as it came.
    pub(crate) octets: &'a [u8],
}

/// Reads the next attribute header and value.
#[inline]
pub(crate) fn next<'a>(reader: &mut Reader<'a>) -> Result<Raw<'a>, Cut<'a>> {
    let list = reader.rest();
    let cut = |attribute: u8, what: &'static str| Cut { attribute, what, list };
    let (Some(flags), Some(code)) = (reader.u8(), reader.u8()) else {
        return Err(cut(0, "the attribute list ends inside a header"));
    };
    let length = if flags & EXTENDED_LENGTH != 0 { reader.u16() } else { reader.u8().map(u16::from) };
    let length = length.ok_or(cut(code, "the attribute list ends inside the header"))?;
    let value = reader.take(usize::from(length)).ok_or(cut(code, "longer than the attribute list"))?;
    let octets = &list[..list.len() - reader.rest().len()];
    Ok(Raw { flags, code, value, octets })
}

/// The list ends within an attribute.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut<'a> {
    /// Its type code, 0 where not even that is there.
    attribute: u8,
    what: &'static str,
    /// What is left of the list.
    list: &'a [u8],
}

impl From<Cut<'_>> for Flaw {
    #[cold]
    fn from(Cut { attribute, what, list }: Cut<'_>) -> Flaw {
        // Where the prefixes themselves are lost there is nothing left to treat as withdrawn.
        let (treatment, subcode) = match carries_prefixes(attribute) {
            true => (Treatment::Reset, subcode::OPTIONAL_ATTRIBUTE),
            false => (Treatment::Withdraw, subcode::MALFORMED_ATTRIBUTE_LIST),
        };
        Flaw { attribute, treatment, subcode, data: data(subcode, list), what }
    }
}

/// MP_REACH_NLRI and MP_UNREACH_NLRI: read by `update`, since they carry prefixes.
pub(crate) fn carries_prefixes(attribute: u8) -> bool {
    matches!(attribute, code::MP_REACH_NLRI | code::MP_UNREACH_NLRI)
}

/// Attributes as they are gathered from one message; becomes [`Attributes`] when complete.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    origin: Option<Origin>,
    as_path: Option<Vec<Asn>>,
    as4_path: Option<Vec<Asn>>,
    /// What the path must begin with, if the peer is external.
    first_asn: Option<Asn>,
    pub(crate) next_hop: Option<Ipv4Addr>,
    med: Option<Med>,
    local_pref: Option<LocalPref>,
    atomic_aggregate: bool,
    aggregator: Option<Aggregator>,
    as4_aggregator: Option<Aggregator>,
    communities: Vec<Community>,
    large_communities: Vec<LargeCommunity>,
    originator_id: Option<CarriedId>,
    cluster_list: Vec<CarriedId>,
    opaque: Vec<Opaque>,
    partial: BTreeSet<u8>,
}

impl Draft {
    /// Takes one attribute in, or says what is wrong with it.
    pub(crate) fn take(&mut self, raw: Raw<'_>, form: &Form) -> Result<(), Flaw> {
        let flaw = |bad: Bad| Flaw::of(raw, bad);
        let Some(rule) = rule(raw.code) else {
            return self.take_unknown(raw).map_err(flaw);
        };
        check_flags(raw, rule, form).map_err(flaw)?;
        (rule.read)(self, raw.value, form).map_err(flaw)?;
        if raw.flags & PARTIAL != 0 {
            self.mark_partial(raw.code);
        }
        Ok(())
    }

    /// RFC 4271 section 5: once set, the Partial bit stays.
    fn mark_partial(&mut self, code: u8) {
        match self.opaque.last_mut().filter(|opaque| opaque.code == code) {
            Some(opaque) => opaque.partial = true,
            None if matches!(code, code::AGGREGATOR | code::COMMUNITIES | code::LARGE_COMMUNITY) => {
                self.partial.insert(code);
            }
            None => {}
        }
    }

    fn take_unknown(&mut self, raw: Raw<'_>) -> Result<(), Bad> {
        match (raw.flags & OPTIONAL != 0, raw.flags & TRANSITIVE != 0) {
            (false, _) => {
                Err(Bad(Treatment::Reset, subcode::UNRECOGNIZED_WELL_KNOWN, "well-known, yet not known"))
            }
            (true, true) => {
                // RFC 4271 section 5: passed on with the Partial bit, since we did not look into it.
                self.opaque.push(Opaque { code: raw.code, partial: true, value: raw.value.into() });
                Ok(())
            }
            (true, false) => Ok(()), // quietly ignored and not passed on (RFC 4271 section 9)
        }
    }

    /// What is missing for a route (RFC 7606 section 3 d). `next_hop` is looked at by the caller.
    pub(crate) fn missing(&self) -> Option<Flaw> {
        if self.origin.is_none() {
            return Some(Flaw::missing(code::ORIGIN));
        }
        self.as_path.is_none().then(|| Flaw::missing(code::AS_PATH))
    }

    /// The finished set, which it takes with it; `None` while something mandatory is missing.
    pub(crate) fn finish(&mut self, next_hop: IpAddr) -> Option<Attributes> {
        let origin = self.origin?;
        let (as_path, aggregator) = self.merge_as4()?;
        self.opaque.sort();
        Some(Attributes {
            origin,
            as_path,
            next_hop,
            link_local: None,
            med: self.med,
            local_pref: self.local_pref,
            atomic_aggregate: self.atomic_aggregate,
            aggregator,
            communities: take(&mut self.communities),
            large_communities: take(&mut self.large_communities),
            originator_id: self.originator_id,
            cluster_list: take(&mut self.cluster_list),
            opaque: take(&mut self.opaque),
            partial: take(&mut self.partial),
        })
    }

    /// RFC 6793 section 4.2.3: the four-octet numbers that a two-octet speaker carried beside its own.
    fn merge_as4(&mut self) -> Option<(AsPath, Option<Aggregator>)> {
        let received = self.as_path.take()?;
        let as4_counts = match (self.aggregator, self.as4_aggregator) {
            (Some(two), Some(_)) => two.asn == Asn::TRANS,
            _ => true,
        };
        let aggregator = match (self.aggregator, self.as4_aggregator) {
            (Some(two), Some(four)) if two.asn == Asn::TRANS => Some(four),
            (two, _) => two,
        };
        // Nor may it put another AS in the place of the peer's (RFC 4271 section 6.3).
        let hides_peer = |four: &[Asn]| {
            four.len() == received.len()
                && self.first_asn.is_some()
                && self.first_asn.as_ref() != four.first()
        };
        let as4_path = self.as4_path.take().filter(|four| as4_counts && !hides_peer(four));
        let path = match as4_path {
            Some(four) if four.len() <= received.len() => {
                let kept = received.len() - four.len();
                received.into_iter().take(kept).chain(four).collect()
            }
            _ => AsPath::from(received),
        };
        Some((path, aggregator))
    }
}

/// A row of the table.
struct Rule {
    code: u8,
    name: &'static str,
    /// The Optional and Transitive bits it must have.
    flags: u8,
    read: fn(&mut Draft, &[u8], &Form) -> Result<(), Bad>,
}

impl Rule {
    fn fits(&self, flags: u8) -> bool {
        flags & (OPTIONAL | TRANSITIVE) == self.flags
    }
}

/// Whether it is known, and its Optional and Transitive bits are as they must be.
pub(crate) fn has_right_flags(raw: &Raw<'_>) -> bool {
    rule(raw.code).is_some_and(|rule| rule.fits(raw.flags))
}

const WELL_KNOWN: u8 = TRANSITIVE;
const OPTIONAL_TRANSITIVE: u8 = OPTIONAL | TRANSITIVE;
pub(crate) const OPTIONAL_NON_TRANSITIVE: u8 = OPTIONAL;

const RULES: &[Rule] = &[
    Rule { code: code::ORIGIN, name: "ORIGIN", flags: WELL_KNOWN, read: read_origin },
    Rule { code: code::AS_PATH, name: "AS_PATH", flags: WELL_KNOWN, read: read_as_path },
    Rule { code: code::NEXT_HOP, name: "NEXT_HOP", flags: WELL_KNOWN, read: read_next_hop },
    Rule {
        code: code::MULTI_EXIT_DISC,
        name: "MULTI_EXIT_DISC",
        flags: OPTIONAL_NON_TRANSITIVE,
        read: read_med,
    },
    Rule { code: code::LOCAL_PREF, name: "LOCAL_PREF", flags: WELL_KNOWN, read: read_local_pref },
    Rule {
        code: code::ATOMIC_AGGREGATE,
        name: "ATOMIC_AGGREGATE",
        flags: WELL_KNOWN,
        read: read_atomic_aggregate,
    },
    Rule { code: code::AGGREGATOR, name: "AGGREGATOR", flags: OPTIONAL_TRANSITIVE, read: read_aggregator },
    Rule { code: code::COMMUNITIES, name: "COMMUNITIES", flags: OPTIONAL_TRANSITIVE, read: read_communities },
    Rule {
        code: code::ORIGINATOR_ID,
        name: "ORIGINATOR_ID",
        flags: OPTIONAL_NON_TRANSITIVE,
        read: read_originator_id,
    },
    Rule {
        code: code::CLUSTER_LIST,
        name: "CLUSTER_LIST",
        flags: OPTIONAL_NON_TRANSITIVE,
        read: read_cluster_list,
    },
    Rule {
        code: code::MP_REACH_NLRI,
        name: "MP_REACH_NLRI",
        flags: OPTIONAL_NON_TRANSITIVE,
        read: read_elsewhere,
    },
    Rule {
        code: code::MP_UNREACH_NLRI,
        name: "MP_UNREACH_NLRI",
        flags: OPTIONAL_NON_TRANSITIVE,
        read: read_elsewhere,
    },
    Rule {
        code: code::EXTENDED_COMMUNITIES,
        name: "EXTENDED_COMMUNITIES",
        flags: OPTIONAL_TRANSITIVE,
        read: read_extended_communities,
    },
    Rule { code: code::AS4_PATH, name: "AS4_PATH", flags: OPTIONAL_TRANSITIVE, read: read_as4_path },
    Rule {
        code: code::AS4_AGGREGATOR,
        name: "AS4_AGGREGATOR",
        flags: OPTIONAL_TRANSITIVE,
        read: read_as4_aggregator,
    },
    Rule {
        code: code::TUNNEL_ENCAPSULATION,
        name: "TUNNEL_ENCAPSULATION",
        flags: OPTIONAL_TRANSITIVE,
        read: read_tunnel_encapsulation,
    },
    Rule {
        code: code::IPV6_EXTENDED_COMMUNITIES,
        name: "IPV6_EXTENDED_COMMUNITIES",
        flags: OPTIONAL_TRANSITIVE,
        read: read_ipv6_extended_communities,
    },
    Rule { code: code::AIGP, name: "AIGP", flags: OPTIONAL_NON_TRANSITIVE, read: read_aigp },
    Rule {
        code: code::LARGE_COMMUNITY,
        name: "LARGE_COMMUNITY",
        flags: OPTIONAL_TRANSITIVE,
        read: read_large_communities,
    },
    Rule {
        code: code::ONLY_TO_CUSTOMER,
        name: "ONLY_TO_CUSTOMER",
        flags: OPTIONAL_TRANSITIVE,
        read: read_only_to_customer,
    },
    Rule { code: code::PREFIX_SID, name: "PREFIX_SID", flags: OPTIONAL_TRANSITIVE, read: read_prefix_sid },
    Rule { code: code::ATTR_SET, name: "ATTR_SET", flags: OPTIONAL_TRANSITIVE, read: read_attr_set },
];

/// By type code, the place in [`RULES`].
static PLACES: [u8; 256] = {
    let mut places = [u8::MAX; 256];
    let mut place = 0;
    while place < RULES.len() {
        places[RULES[place].code as usize] = place as u8;
        place += 1;
    }
    places
};

fn rule(code: u8) -> Option<&'static Rule> {
    RULES.get(usize::from(PLACES[usize::from(code)]))
}

/// RFC 7606 section 3 c. The Partial bit is not looked at, nor are the four unused ones.
fn check_flags(raw: Raw<'_>, rule: &Rule, form: &Form) -> Result<(), Bad> {
    if rule.fits(raw.flags) {
        return Ok(());
    }
    let treatment = match raw.code {
        code::MP_REACH_NLRI | code::MP_UNREACH_NLRI => Treatment::Reset,
        // From a peer that does not need them they are dropped, whatever they are like (RFC 6793 section 4.1).
        code::AS4_PATH | code::AS4_AGGREGATOR if form.as_width == AsWidth::Four => Treatment::Discard,
        // RFC 7311 section 3 and RFC 8669 section 6: whatever is wrong with them, the route stays.
        code::AIGP | code::PREFIX_SID => Treatment::Discard,
        _ => Treatment::Withdraw,
    };
    Err(Bad(treatment, subcode::ATTRIBUTE_FLAGS, "wrong Optional or Transitive bit"))
}

/// RFC 7606 section 7.1.
fn read_origin(draft: &mut Draft, value: &[u8], _: &Form) -> Result<(), Bad> {
    let &[octet] = value else { return Err(withdraw(subcode::ATTRIBUTE_LENGTH, "not of one octet")) };
    let known = Origin::from_octet(octet).ok_or(withdraw(subcode::INVALID_ORIGIN, "value over 2"))?;
    draft.origin = Some(known);
    Ok(())
}

/// RFC 7606 section 7.2.
fn read_as_path(draft: &mut Draft, value: &[u8], form: &Form) -> Result<(), Bad> {
    let malformed = |what| withdraw(subcode::MALFORMED_AS_PATH, what);
    // Of one segment, as nearly all are, just what it takes.
    let mut path = Vec::with_capacity(value.len().saturating_sub(2) / form.as_width.octets());
    for segment in Segments::of(value, form.as_width) {
        let segment = segment.map_err(malformed)?;
        match segment.kind {
            SegmentKind::Sequence => segment.read(&mut path).map_err(malformed)?,
            SegmentKind::Set => return Err(malformed(AS_SET)),
            SegmentKind::ConfederationSequence | SegmentKind::ConfederationSet => {
                return Err(malformed("has a confederation segment, and we are in none (RFC 5065)"));
            }
        }
    }
    let first_is_known = form.kind == PeerKind::External && form.leftmost_as == LeftmostAs::Peers;
    if first_is_known && path.first() != Some(&as_seen(form)) {
        // RFC 4271 section 6.3: the leftmost AS is the peer's.
        return Err(malformed("does not start with the peer's AS"));
    }
    draft.first_asn = first_is_known.then_some(form.peer_asn);
    draft.as_path = Some(path);
    Ok(())
}

const AS_SET: &str = "has an AS_SET (RFC 9774)";

/// The peer's AS as it stands in AS_PATH on this session.
fn as_seen(form: &Form) -> Asn {
    match form.as_width {
        AsWidth::Four => form.peer_asn,
        AsWidth::Two => Asn::new(u32::from(form.peer_asn.two_octets())).unwrap_or(Asn::TRANS),
    }
}

/// The segments of a path, up to the first that is malformed.
struct Segments<'a> {
    reader: Reader<'a>,
    width: AsWidth,
}

struct Segment<'a> {
    kind: SegmentKind,
    numbers: Reader<'a>,
    width: AsWidth,
}

/// RFC 4271 section 4.3, RFC 5065 section 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SegmentKind {
    Set,
    Sequence,
    ConfederationSequence,
    ConfederationSet,
}

impl<'a> Segments<'a> {
    fn of(value: &'a [u8], width: AsWidth) -> Segments<'a> {
        Segments { reader: Reader::new(value), width }
    }

    fn segment(&mut self, kind: u8) -> Result<Segment<'a>, &'static str> {
        let count = self.reader.u8().ok_or("ends inside a segment header")?;
        if count == 0 {
            return Err("has an empty segment");
        }
        let octets = usize::from(count) * self.width.octets();
        let numbers = Reader::new(self.reader.take(octets).ok_or("a segment runs over the end")?);
        let kind = match kind {
            1 => SegmentKind::Set,
            2 => SegmentKind::Sequence,
            3 => SegmentKind::ConfederationSequence,
            4 => SegmentKind::ConfederationSet,
            _ => return Err("has a segment of unknown type"),
        };
        Ok(Segment { kind, numbers, width: self.width })
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Result<Segment<'a>, &'static str>;
    fn next(&mut self) -> Option<Self::Item> {
        let kind = self.reader.u8()?;
        Some(self.segment(kind))
    }
}

impl Segment<'_> {
    /// Appends its numbers.
    fn read(mut self, path: &mut Vec<Asn>) -> Result<(), &'static str> {
        while let Some(number) = match self.width {
            AsWidth::Four => self.numbers.u32(),
            AsWidth::Two => self.numbers.u16().map(u32::from),
        } {
            path.push(Asn::new(number).ok_or("has AS 0 (RFC 7607)")?);
        }
        Ok(())
    }
}

/// RFC 7606 section 7.3; what is no host address cannot forward (RFC 4271 section 6.3).
fn read_next_hop(draft: &mut Draft, value: &[u8], _: &Form) -> Result<(), Bad> {
    let &[a, b, c, d] = value else { return Err(withdraw(subcode::ATTRIBUTE_LENGTH, "not of four octets")) };
    let address = Ipv4Addr::new(a, b, c, d);
    if !is_host_v4(address) {
        return Err(withdraw(subcode::INVALID_NEXT_HOP, "not the address of a host"));
    }
    draft.next_hop = Some(address);
    Ok(())
}

/// Neither "this network", loopback, multicast, reserved nor broadcast.
pub(crate) fn is_host_v4(address: Ipv4Addr) -> bool {
    !matches!(address.octets()[0], 0 | 127 | 224..)
}

/// RFC 7606 section 7.4.
fn read_med(draft: &mut Draft, value: &[u8], _: &Form) -> Result<(), Bad> {
    draft.med = Some(Med(read_u32(value)?));
    Ok(())
}

/// RFC 7606 section 7.5: from an external peer it is dropped unread.
fn read_local_pref(draft: &mut Draft, value: &[u8], form: &Form) -> Result<(), Bad> {
    if form.kind == PeerKind::External {
        return Err(discard("has no meaning from an external peer"));
    }
    draft.local_pref = Some(LocalPref(read_u32(value)?));
    Ok(())
}

/// RFC 7606 section 7.6.
fn read_atomic_aggregate(draft: &mut Draft, value: &[u8], _: &Form) -> Result<(), Bad> {
    if !value.is_empty() {
        return Err(discard("not empty"));
    }
    draft.atomic_aggregate = true;
    Ok(())
}

/// RFC 7606 section 7.7, RFC 7607 section 2.
fn read_aggregator(draft: &mut Draft, value: &[u8], form: &Form) -> Result<(), Bad> {
    let mut reader = Reader::new(value);
    let asn = match form.as_width {
        AsWidth::Four => reader.u32(),
        AsWidth::Two => reader.u16().map(u32::from),
    };
    draft.aggregator = Some(aggregator(asn, reader)?);
    Ok(())
}

fn aggregator(asn: Option<u32>, mut rest: Reader<'_>) -> Result<Aggregator, Bad> {
    let address = rest.u32();
    let (Some(asn), Some(address), true) = (asn, address, rest.is_empty()) else {
        return Err(discard("length does not fit the session"));
    };
    let asn = Asn::new(asn).ok_or(discard("AS 0 (RFC 7607)"))?;
    Ok(Aggregator { asn, address })
}

/// RFC 7606 section 7.8.
fn read_communities(draft: &mut Draft, value: &[u8], _: &Form) -> Result<(), Bad> {
    draft.communities = whole_entries::<1>(value)?.map(|[community]| Community(community)).collect();
    Ok(())
}

/// RFC 7606 section 7.9.
fn read_originator_id(draft: &mut Draft, value: &[u8], form: &Form) -> Result<(), Bad> {
    if form.kind == PeerKind::External {
        return Err(discard("has no meaning from an external peer"));
    }
    draft.originator_id = Some(CarriedId(read_u32(value)?));
    Ok(())
}

/// RFC 7606 section 7.10.
fn read_cluster_list(draft: &mut Draft, value: &[u8], form: &Form) -> Result<(), Bad> {
    if form.kind == PeerKind::External {
        return Err(discard("has no meaning from an external peer"));
    }
    draft.cluster_list = whole_entries::<1>(value)?.map(|[cluster]| CarriedId(cluster)).collect();
    Ok(())
}

fn read_elsewhere(_: &mut Draft, _: &[u8], _: &Form) -> Result<(), Bad> {
    Ok(())
}

/// RFC 7606 section 7.14.
fn read_extended_communities(draft: &mut Draft, value: &[u8], _: &Form) -> Result<(), Bad> {
    drop(whole_entries::<2>(value)?);
    draft.carry(code::EXTENDED_COMMUNITIES, value);
    Ok(())
}

/// RFC 7606 section 7.15.
fn read_ipv6_extended_communities(draft: &mut Draft, value: &[u8], _: &Form) -> Result<(), Bad> {
    drop(whole_entries::<5>(value)?);
    draft.carry(code::IPV6_EXTENDED_COMMUNITIES, value);
    Ok(())
}

/// RFC 6793 section 6: what is malformed in it is no fault of the route, and segments of a confederation are left out. A
/// set in it is one in the path (RFC 9774 section 3).
fn read_as4_path(draft: &mut Draft, value: &[u8], form: &Form) -> Result<(), Bad> {
    if form.as_width == AsWidth::Four {
        return Err(discard("not from a peer with four-octet AS numbers (RFC 6793)"));
    }
    if value.is_empty() {
        return Err(discard("without a single AS number (RFC 6793 section 6)"));
    }
    let segments = Segments::of(value, AsWidth::Four).collect::<Result<Vec<_>, _>>().map_err(discard)?;
    let mut path = Vec::new();
    for segment in segments {
        match segment.kind {
            SegmentKind::Sequence => segment.read(&mut path).map_err(discard)?,
            SegmentKind::ConfederationSequence => {}
            SegmentKind::Set | SegmentKind::ConfederationSet => {
                return Err(withdraw(subcode::MALFORMED_AS_PATH, AS_SET));
            }
        }
    }
    draft.as4_path = Some(path);
    Ok(())
}

/// RFC 6793 section 6.
fn read_as4_aggregator(draft: &mut Draft, value: &[u8], form: &Form) -> Result<(), Bad> {
    if form.as_width == AsWidth::Four {
        return Err(discard("not from a peer with four-octet AS numbers (RFC 6793)"));
    }
    let mut reader = Reader::new(value);
    draft.as4_aggregator = Some(aggregator(reader.u32(), reader)?);
    Ok(())
}

/// RFC 9012 section 13: malformed when the outer TLVs do not parse.
fn read_tunnel_encapsulation(draft: &mut Draft, value: &[u8], _: &Form) -> Result<(), Bad> {
    let mut reader = Reader::new(value);
    while !reader.is_empty() {
        let tlv = reader.u16().and_then(|_kind| reader.u16()).and_then(|length| reader.take(length.into()));
        tlv.ok_or(withdraw(subcode::OPTIONAL_ATTRIBUTE, "a tunnel TLV runs over the end"))?;
    }
    draft.carry_unread(code::TUNNEL_ENCAPSULATION, value);
    Ok(())
}

/// RFC 7311 section 3.2: not for a session on which nobody turned it on.
fn read_aigp(_: &mut Draft, _: &[u8], _: &Form) -> Result<(), Bad> {
    Err(discard("not enabled for this session (RFC 7311)"))
}

/// RFC 8092 section 6. What is in it twice counts once (section 3).
fn read_large_communities(draft: &mut Draft, value: &[u8], _: &Form) -> Result<(), Bad> {
    let read = whole_entries::<3>(value)?.map(LargeCommunity);
    let mut seen = BTreeSet::new();
    draft.large_communities = match read.len() {
        1 => read.collect(),
        _ => read.filter(|community| seen.insert(*community)).collect(),
    };
    Ok(())
}

/// RFC 9234 section 5.
fn read_only_to_customer(draft: &mut Draft, value: &[u8], _: &Form) -> Result<(), Bad> {
    if value.len() != 4 {
        return Err(withdraw(subcode::ATTRIBUTE_LENGTH, "not of four octets"));
    }
    draft.carry(code::ONLY_TO_CUSTOMER, value);
    Ok(())
}

/// RFC 8669 section 6: from outside its domain it is dropped, and we are in none.
fn read_prefix_sid(_: &mut Draft, _: &[u8], _: &Form) -> Result<(), Bad> {
    Err(discard("we are in no segment-routing domain (RFC 8669)"))
}

/// RFC 6368 section 5: an AS number, then attributes.
fn read_attr_set(draft: &mut Draft, value: &[u8], _: &Form) -> Result<(), Bad> {
    if value.len() < 4 {
        return Err(withdraw(subcode::OPTIONAL_ATTRIBUTE, "shorter than an AS number"));
    }
    draft.carry_unread(code::ATTR_SET, value);
    Ok(())
}

impl Draft {
    fn carry(&mut self, code: u8, value: &[u8]) {
        self.opaque.push(Opaque { code, partial: false, value: value.into() });
    }

    /// Of an attribute whose shape we check and whose meaning we do not serve.
    fn carry_unread(&mut self, code: u8, value: &[u8]) {
        self.opaque.push(Opaque { code, partial: true, value: value.into() });
    }
}

fn read_u32(value: &[u8]) -> Result<u32, Bad> {
    let octets = <[u8; 4]>::try_from(value);
    octets.map(u32::from_be_bytes).map_err(|_| withdraw(subcode::ATTRIBUTE_LENGTH, "not of four octets"))
}

/// The entries of a list, each of `WORDS` times four octets; at least one.
fn whole_entries<const WORDS: usize>(
    value: &[u8],
) -> Result<impl ExactSizeIterator<Item = [u32; WORDS]>, Bad> {
    let (words, rest) = value.as_chunks::<4>();
    let (entries, more) = words.as_chunks::<WORDS>();
    if entries.is_empty() || !more.is_empty() || !rest.is_empty() {
        return Err(withdraw(subcode::OPTIONAL_ATTRIBUTE, "length is no multiple of an entry's, or zero"));
    }
    Ok(entries.iter().map(|entry| entry.map(u32::from_be_bytes)))
}

/// Appends all attributes but those that carry prefixes, by type code. NEXT_HOP is left out for IPv6,
/// whose next hop stands in MP_REACH_NLRI.
pub(crate) fn write_all(out: &mut Vec<u8>, attributes: &Attributes, width: AsWidth) {
    let flags_of = |code| optional_transitive(attributes.partial.contains(&code));
    write(out, WELL_KNOWN, code::ORIGIN, &[attributes.origin as u8]);
    write_path(out, WELL_KNOWN, code::AS_PATH, &attributes.as_path, width);
    if let IpAddr::V4(next_hop) = attributes.next_hop {
        write(out, WELL_KNOWN, code::NEXT_HOP, &next_hop.octets());
    }
    if let Some(Med(med)) = attributes.med {
        write(out, OPTIONAL_NON_TRANSITIVE, code::MULTI_EXIT_DISC, &med.to_be_bytes());
    }
    if let Some(LocalPref(local_pref)) = attributes.local_pref {
        write(out, WELL_KNOWN, code::LOCAL_PREF, &local_pref.to_be_bytes());
    }
    if attributes.atomic_aggregate {
        write(out, WELL_KNOWN, code::ATOMIC_AGGREGATE, &[]);
    }
    if let Some(aggregator) = attributes.aggregator {
        write_aggregator(out, flags_of(code::AGGREGATOR), code::AGGREGATOR, aggregator, width);
    }
    let communities = attributes.communities.iter().map(|community| [community.0]);
    write_entries(out, flags_of(code::COMMUNITIES), code::COMMUNITIES, communities);
    if let Some(originator) = attributes.originator_id {
        write(out, OPTIONAL_NON_TRANSITIVE, code::ORIGINATOR_ID, &originator.0.to_be_bytes());
    }
    let clusters = attributes.cluster_list.iter().map(|id| [id.0]);
    write_entries(out, OPTIONAL_NON_TRANSITIVE, code::CLUSTER_LIST, clusters);
    if width == AsWidth::Two {
        write_as4(out, attributes);
    }
    let large = attributes.large_communities.iter().map(|community| community.0);
    write_entries(out, flags_of(code::LARGE_COMMUNITY), code::LARGE_COMMUNITY, large);
    for opaque in &attributes.opaque {
        write(out, optional_transitive(opaque.partial), opaque.code, &opaque.value);
    }
}

/// Of an attribute, and whether somebody on the way did not know it.
fn optional_transitive(partial: bool) -> u8 {
    if partial { OPTIONAL_TRANSITIVE | PARTIAL } else { OPTIONAL_TRANSITIVE }
}

/// RFC 6793 section 4.2.2: what two octets could not say goes beside.
fn write_as4(out: &mut Vec<u8>, attributes: &Attributes) {
    if attributes.as_path.asns().iter().any(|asn| asn.value() > 0xFFFF) {
        write_path(out, OPTIONAL_TRANSITIVE, code::AS4_PATH, &attributes.as_path, AsWidth::Four);
    }
    if let Some(aggregator) = attributes.aggregator.filter(|aggregator| aggregator.asn.value() > 0xFFFF) {
        write_aggregator(out, OPTIONAL_TRANSITIVE, code::AS4_AGGREGATOR, aggregator, AsWidth::Four);
    }
}

/// Appends one attribute, with two octets of length where one does not do.
pub(crate) fn write(out: &mut Vec<u8>, flags: u8, code: u8, value: &[u8]) {
    write_head(out, flags, code, value.len());
    out.extend_from_slice(value);
}

fn write_head(out: &mut Vec<u8>, flags: u8, code: u8, octets: usize) {
    match u8::try_from(octets) {
        Ok(length) => out.extend_from_slice(&[flags, code, length]),
        Err(_) => {
            out.extend_from_slice(&[flags | EXTENDED_LENGTH, code]);
            out.extend_from_slice(&u16::try_from(octets).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
}

/// Appends a list of entries, each of `WORDS` times four octets, unless it is empty.
fn write_entries<const WORDS: usize>(
    out: &mut Vec<u8>,
    flags: u8,
    code: u8,
    entries: impl ExactSizeIterator<Item = [u32; WORDS]>,
) {
    if entries.len() > 0 {
        write_head(out, flags, code, 4 * WORDS * entries.len());
        entries.flatten().for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
    }
}

/// Flags of MP_REACH_NLRI and MP_UNREACH_NLRI, with two octets of length always.
pub(crate) const MP_FLAGS: u8 = OPTIONAL_NON_TRANSITIVE | EXTENDED_LENGTH;

fn write_path(out: &mut Vec<u8>, flags: u8, code: u8, path: &AsPath, width: AsWidth) {
    const AS_SEQUENCE: u8 = 2;
    const MOST_IN_SEGMENT: usize = 255;
    let segments = path.asns().chunks(MOST_IN_SEGMENT);
    write_head(out, flags, code, 2 * segments.len() + path.len() * width.octets());
    for segment in segments {
        out.extend_from_slice(&[AS_SEQUENCE, segment.len() as u8]);
        for asn in segment {
            write_asn(out, *asn, width);
        }
    }
}

fn write_asn(out: &mut Vec<u8>, asn: Asn, width: AsWidth) {
    match width {
        AsWidth::Four => out.extend_from_slice(&asn.value().to_be_bytes()),
        AsWidth::Two => out.extend_from_slice(&asn.two_octets().to_be_bytes()),
    }
}

fn write_aggregator(out: &mut Vec<u8>, flags: u8, code: u8, aggregator: Aggregator, width: AsWidth) {
    write_head(out, flags, code, width.octets() + 4);
    write_asn(out, aggregator.asn, width);
    out.extend_from_slice(&aggregator.address.to_be_bytes());
}
