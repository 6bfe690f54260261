//! Two independent codecs beside ours. What we write, `netgauze-bgp-pkt` and `rustbgpd-wire` read, and what netgauze writes
//! of it we read as what it was. What is malformed, `rustbgpd-wire` judges as we do (RFC 7606), but for the differences that
//! [`is_right`] lists with their reasons.

use std::collections::HashMap;

use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_parse_utils::WritablePdu;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rustbgpd_wire as rustbgpd;

use super::attribute::{self, Treatment, code};
use super::frame::{self, STANDARD_MESSAGE_BYTES};
use super::properties::{
    any_family, any_open, any_prefix, any_route, any_session, bodies, routes, write_announce,
};
use super::refresh::{self, Subtype};
use super::update::{write_end_of_rib, write_withdraw};
use super::{MessageType, Nlri, Notification, RouteRefresh, Update};
use crate::prefix::Prefix;
use crate::session::{AddPath, Agreed, AsWidth, Session};
use crate::types::{Asn, PeerKind};

// --- netgauze --------------------------------------------------------------------------------------------

/// The messages in `octets`, read by netgauze and written by it again.
fn through_netgauze(octets: &[u8], width: AsWidth) -> Vec<u8> {
    let mut rest = octets;
    let mut written = Vec::new();
    while let Some(frame) =
        frame::next(rest, frame::EXTENDED_MESSAGE_BYTES).expect("what we write is well-formed")
    {
        let (message, behind) = rest.split_at(frame.length);
        let wide = width == AsWidth::Four;
        let mut context =
            BgpParsingContext::new(wide, HashMap::new(), HashMap::new(), true, true, true, true);
        let read = BgpMessage::parse(&mut SliceReader::new(message), &mut context);
        read.expect("netgauze reads it").write(&mut written).expect("netgauze writes it");
        rest = behind;
    }
    written
}

/// netgauze takes multicast addresses in NLRI for a fault, and the whole message with them; to us they are routes that the
/// import policy refuses.
fn is_unicast(prefix: &Prefix) -> bool {
    !prefix.address().is_multicast()
}

/// What identifiers of paths are like (RFC 7911), `properties` tries beside rustbgpd; here they would only be in the way.
fn without_path_ids(session: Session) -> Session {
    Session { add_path: AddPath::default(), ..session }
}

/// All that the UPDATEs in `octets` say.
fn said(octets: &[u8], session: &Session) -> Vec<Update> {
    let bodies = bodies(octets, MessageType::Update, session.most_message_bytes);
    bodies.into_iter().map(|body| Update::decode(body, session).expect("well-formed")).collect()
}

// --- rustbgpd --------------------------------------------------------------------------------------------

/// What becomes of a message, the gentlest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Clean,
    AttributeDropped,
    Withdrawn,
    Reset,
}

fn our_fate(body: &[u8], session: &Session) -> Fate {
    let Ok(update) = Update::decode(body, session) else { return Fate::Reset };
    let of = |treatment: Treatment| match treatment {
        Treatment::Discard => Fate::AttributeDropped,
        Treatment::Withdraw => Fate::Withdrawn,
        Treatment::Reset => Fate::Reset,
    };
    update.flaws.iter().map(|flaw| of(flaw.treatment)).max().unwrap_or(Fate::Clean)
}

fn fate_by_rustbgpd(body: &[u8], session: &Session) -> Fate {
    let of = |disposition: rustbgpd::ErrorDisposition| match disposition {
        rustbgpd::ErrorDisposition::AttributeDiscard => Fate::AttributeDropped,
        rustbgpd::ErrorDisposition::TreatAsWithdraw => Fate::Withdrawn,
        rustbgpd::ErrorDisposition::SessionReset => Fate::Reset,
    };
    let (wide, internal) = (session.as_width == AsWidth::Four, session.kind == PeerKind::Internal);
    let mut rest = body;
    let Ok(message) = rustbgpd::UpdateMessage::decode(&mut rest, body.len()) else { return Fate::Reset };
    let Ok(parsed) = message.parse_revised(wide, internal, false, &[]) else { return Fate::Reset };
    let malformed = parsed.malformed.iter().map(|one| of(one.disposition)).max().unwrap_or(Fate::Clean);
    let has_classic = !parsed.update.announced.is_empty();
    let checked = rustbgpd::validate::validate_update_attributes(
        &parsed.update.attributes,
        has_classic,
        has_classic,
        !internal,
    );
    // Something missing counts only if it was not there at all: what is malformed is not there either.
    let checked = checked.map_or_else(|error| of(error.disposition), |()| Fate::Clean);
    malformed.max(checked)
}

/// One attribute of any kind among good ones, and a prefix.
#[derive(Debug, Clone)]
struct Among {
    flags: u8,
    code: u8,
    value: Vec<u8>,
}

fn any_attribute() -> impl Strategy<Value = Among> {
    let known = prop::sample::select(vec![
        code::ORIGIN,
        code::AS_PATH,
        code::NEXT_HOP,
        code::MULTI_EXIT_DISC,
        code::LOCAL_PREF,
        code::ATOMIC_AGGREGATE,
        code::AGGREGATOR,
        code::COMMUNITIES,
        code::ORIGINATOR_ID,
        code::CLUSTER_LIST,
        code::EXTENDED_COMMUNITIES,
        code::AS4_PATH,
        code::AS4_AGGREGATOR,
        code::LARGE_COMMUNITY,
        code::TUNNEL_ENCAPSULATION,
        code::IPV6_EXTENDED_COMMUNITIES,
        code::AIGP,
        code::ONLY_TO_CUSTOMER,
        code::PREFIX_SID,
        code::ATTR_SET,
        UNKNOWN,
    ]);
    // Most often the flags that it should have, and a length that fits.
    let flags = prop_oneof![3 => Just(None), 1 => prop::sample::select(vec![0x00, 0x40, 0x80, 0xC0, 0xE0, 0x60, 0xA0]).prop_map(Some)];
    let length = prop_oneof![Just(0_usize), Just(1), Just(4), Just(6), Just(8), Just(12), 0_usize..14];
    let octet = prop_oneof![2 => Just(0_u8), 2 => 1_u8..4, 1 => any::<u8>()];
    (known, flags, length.prop_flat_map(move |length| vec(octet.clone(), length)))
        .prop_map(|(code, flags, value)| Among { flags: flags.unwrap_or(usual_flags(code)), code, value })
}

/// Nobody has assigned it.
const UNKNOWN: u8 = 99;

fn usual_flags(code: u8) -> u8 {
    match code {
        code::ORIGIN | code::AS_PATH | code::NEXT_HOP | code::LOCAL_PREF | code::ATOMIC_AGGREGATE => 0x40,
        code::MULTI_EXIT_DISC | code::ORIGINATOR_ID | code::CLUSTER_LIST | code::AIGP => 0x80,
        _ => 0xC0,
    }
}

/// A message of IPv4 with `among` in the place of its like, or behind all.
fn body_with(among: &Among, session: &Session) -> Vec<u8> {
    let mut list = Vec::new();
    let asn = match session.as_width {
        AsWidth::Four => session.peer_asn.value().to_be_bytes().to_vec(),
        AsWidth::Two => session.peer_asn.two_octets().to_be_bytes().to_vec(),
    };
    let path = match session.kind {
        PeerKind::External => [&[2, 1][..], &asn].concat(),
        PeerKind::Internal => Vec::new(),
    };
    let good = [(code::ORIGIN, vec![0]), (code::AS_PATH, path), (code::NEXT_HOP, vec![192, 0, 2, 1])];
    for (code, value) in good.iter().filter(|(code, _)| *code != among.code) {
        attribute::write(&mut list, 0x40, *code, value);
    }
    attribute::write(&mut list, among.flags, among.code, &among.value);
    let length = u16::try_from(list.len()).expect("short").to_be_bytes();
    [&[0, 0][..], &length, &list, &[24, 198, 51, 100]].concat()
}

/// Where we judge otherwise, and why that is right.
fn is_right(among: &Among, session: &Session, ours: Fate, theirs: Fate) -> bool {
    use Fate::{AttributeDropped, Clean, Reset, Withdrawn};
    let is_external = session.kind == PeerKind::External;
    let is_partial = among.flags & 0x20 != 0;
    match (among.code, ours, theirs) {
        // The leftmost AS must be the peer's (RFC 4271 section 6.3); rustbgpd leaves that to its caller.
        (code::AS_PATH, Withdrawn, Clean) => is_external,
        // 0.0.0.0/8 and 240.0.0.0/4 hold no host (RFC 1122 section 3.2.1.3, RFC 1112 section 4); rustbgpd takes them.
        (code::NEXT_HOP, Withdrawn, Clean) => matches!(among.value.first(), Some(0 | 240..)),
        // RFC 7606 section 3 c speaks of the Optional and Transitive bits; rustbgpd of Partial, too.
        (code::MULTI_EXIT_DISC | code::ORIGINATOR_ID | code::CLUSTER_LIST, Clean, Withdrawn) => is_partial,
        // From an external peer they are dropped, well-formed or not (RFC 7606 sections 7.5, 7.9, 7.10); rustbgpd tells
        // its caller of malformed ones only.
        (code::LOCAL_PREF | code::ORIGINATOR_ID | code::CLUSTER_LIST, AttributeDropped, Clean) => is_external,
        // From a four-octet speaker they are dropped, whatever they are like (RFC 6793 section 4.1).
        (code::AS4_PATH | code::AS4_AGGREGATOR, AttributeDropped, Withdrawn)
            if session.as_width == AsWidth::Four =>
        {
            true
        }
        // RFC 6793 section 6: malformed is discarded. rustbgpd sees an AS_SET (RFC 9774) in front of where the path cannot
        // be told apart any more.
        (code::AS4_PATH, AttributeDropped, Withdrawn) => {
            among.value.iter().any(|octet| [1, 4].contains(octet))
        }
        // Segments of confederations are left out of it (RFC 6793 section 6): both do, rustbgpd says so.
        (code::AS4_PATH, Clean, AttributeDropped) => among.value.contains(&3),
        // TLVs that can be told apart are enough for who only passes them on (RFC 9012 section 13), be it none; rustbgpd
        // looks into them.
        (code::TUNNEL_ENCAPSULATION, Clean, Withdrawn) => are_tlvs(&among.value),
        // Not enabled, so dropped (RFC 7311 section 3.1); what is malformed, flags and all, counts as not there (3.2).
        (code::AIGP, AttributeDropped, Clean | Withdrawn) => true,
        // From outside of the domain, so dropped (RFC 8669 section 6), flags and all.
        (code::PREFIX_SID, AttributeDropped, Clean | Withdrawn) => true,
        // RFC 4271 section 6.3, which RFC 7606 leaves as it is: a well-known attribute that is not known ends the session.
        (UNKNOWN, Reset, Withdrawn) => among.flags & 0x80 == 0,
        // Of the attributes in it nothing is used or understood here; who is told it looks into it (RFC 6368 section 5).
        (code::ATTR_SET, Clean, Withdrawn) => among.value.len() >= 4,
        _ => false,
    }
}

/// Type and length of two octets each, and a value.
fn are_tlvs(octets: &[u8]) -> bool {
    match octets {
        [] => true,
        [_, _, high, low, rest @ ..] => {
            rest.get(usize::from(u16::from_be_bytes([*high, *low]))..).is_some_and(are_tlvs)
        }
        _ => false,
    }
}

/// What `rustbgpd-wire` judged otherwise, and rightly.
#[test]
fn as4_attributes_are_judged_as_the_rfcs_have_it() {
    let fate = |as_width, flags, code, value: &[u8]| {
        let asn = Asn::new(65002).expect("not 0");
        let session = Session {
            kind: PeerKind::Internal,
            peer_asn: asn,
            as_width,
            ..without_path_ids(any_one_session())
        };
        our_fate(&body_with(&Among { flags, code, value: value.to_vec() }, &session), &session)
    };
    let path = [2, 1, 0, 1, 0, 0];
    assert_eq!(fate(AsWidth::Two, 0xC0, code::AS4_PATH, &path), Fate::Clean);
    // RFC 6793 section 6: too short for an AS number.
    assert_eq!(fate(AsWidth::Two, 0xC0, code::AS4_PATH, &[]), Fate::AttributeDropped);
    // RFC 7606 section 3 c, unless nobody reads them (RFC 6793 section 4.1).
    for code in [code::AS4_PATH, code::AS4_AGGREGATOR] {
        assert_eq!(fate(AsWidth::Two, 0x80, code, &path), Fate::Withdrawn);
        assert_eq!(fate(AsWidth::Four, 0x80, code, &path), Fate::AttributeDropped);
    }
}

#[test]
fn as4_path_does_not_take_the_place_of_the_peer() {
    let peer_asn = Asn::new(65002).expect("not 0");
    let as_width = AsWidth::Two;
    let session =
        Session { kind: PeerKind::External, peer_asn, as_width, ..without_path_ids(any_one_session()) };
    let told = |value: &[u8]| {
        let among = Among { flags: 0xC0, code: code::AS4_PATH, value: value.to_vec() };
        let update = Update::decode(&body_with(&among, &session), &session).expect("well-formed");
        update.announced[0].attributes.as_path.asns().iter().map(|asn| asn.value()).collect::<Vec<u32>>()
    };
    assert_eq!(told(&[2, 1, 0, 0, 0xFD, 0xEA]), [65002]);
    assert_eq!(told(&[2, 1, 0, 1, 0, 0]), [65002], "as if it had not come by the peer");
}

fn any_one_session() -> Session {
    let mut runner = TestRunner::deterministic();
    any_session().new_tree(&mut runner).expect("a session").current()
}

// --- properties ------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig { cases: 6000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rustbgpd_judges_as_we_do(among in any_attribute(), session in any_session()) {
        let session = without_path_ids(session);
        let body = body_with(&among, &session);
        let (ours, theirs) = (our_fate(&body, &session), fate_by_rustbgpd(&body, &session));
        prop_assert!(ours == theirs || is_right(&among, &session, ours, theirs), "{:?}, not {:?}", ours, theirs);
    }
}

proptest! {
    #[test]
    fn netgauze_reads_what_we_announce((session, attributes, prefixes) in any_route()) {
        let session = without_path_ids(session);
        let prefixes = routes(prefixes.into_iter().filter(is_unicast), &session);
        let mut octets = Vec::new();
        prop_assert!(write_announce(&mut octets, &session, &attributes, &prefixes).is_ok());
        prop_assert_eq!(said(&through_netgauze(&octets, session.as_width), &session), said(&octets, &session));
    }

    #[test]
    fn netgauze_reads_what_we_withdraw(
        session in any_session(),
        prefixes in any_family().prop_flat_map(|family| vec(any_prefix(family).prop_filter("unicast", is_unicast), 0..600)),
        ended in any_family(),
    ) {
        let session = without_path_ids(session);
        let prefixes = routes(prefixes, &session);
        let mut octets = Vec::new();
        write_withdraw(&mut octets, &session, &prefixes);
        write_end_of_rib(&mut octets, ended);
        let read = said(&through_netgauze(&octets, session.as_width), &session);
        prop_assert_eq!(&read, &said(&octets, &session));
        let told: Vec<Nlri> = read.iter().flat_map(|update| update.withdrawn.clone()).collect();
        prop_assert_eq!(told, prefixes);
        prop_assert_eq!(read.last().and_then(|update| update.end_of_rib), Some(ended));
    }

    #[test]
    fn both_read_what_we_open_with(open in any_open()) {
        let mut octets = Vec::new();
        open.write(&mut octets);
        let [body] = bodies(&octets, MessageType::Open, STANDARD_MESSAGE_BYTES)[..] else { panic!("one message") };
        let mut rest = body;
        let read = rustbgpd::OpenMessage::decode(&mut rest, body.len()).expect("rustbgpd reads it");
        prop_assert_eq!((read.version, read.hold_time), (4, open.hold_time.as_secs()));
        prop_assert_eq!(read.my_as, open.asn.two_octets());
        prop_assert_eq!(u32::from(read.bgp_identifier), open.router_id.value());
        prop_assert_eq!(read.capabilities.len(), open.capabilities.len());
    }

    #[test]
    fn both_read_why_we_close(code in 1_u8..9, subcode in 0_u8..12, data in vec(any::<u8>(), 0..200)) {
        let notification = Notification::with(code, subcode, data);
        let mut octets = Vec::new();
        frame::write_notification(&mut octets, &notification);
        let [body] = bodies(&octets, MessageType::Notification, STANDARD_MESSAGE_BYTES)[..] else { panic!("one message") };
        let mut rest = body;
        let read = rustbgpd::notification_msg::NotificationMessage::decode(&mut rest, body.len()).expect("rustbgpd reads it");
        prop_assert_eq!((read.code.as_u8(), read.subcode, &read.data[..]), (code, subcode, &notification.data[..]));
    }

    #[test]
    fn both_read_what_we_ask_for(family in any_family(), subtype in 0_usize..3) {
        let subtype = [Subtype::Request, Subtype::Begin, Subtype::End][subtype];
        let mut octets = Vec::new();
        refresh::write(&mut octets, family, subtype);
        let again = through_netgauze(&octets, AsWidth::Four);
        prop_assert_eq!(&again, &octets);
        let [body] = bodies(&octets, MessageType::RouteRefresh, STANDARD_MESSAGE_BYTES)[..] else { panic!("one message") };
        let mut rest = body;
        let read = rustbgpd::route_refresh::RouteRefreshMessage::decode(&mut rest, body.len()).expect("rustbgpd reads it");
        let ours = RouteRefresh::decode(body, Agreed::Yes).expect("we read it");
        prop_assert_eq!((read.afi_raw, read.safi_raw), (ours.family.afi, ours.family.safi));
        prop_assert_eq!(ours.subtype, subtype);
    }
}
