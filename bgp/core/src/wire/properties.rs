//! What holds for all messages: nothing panics, what is written is read again, and an independent codec
//! (`rustbgpd-wire`) reads the same.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use rustbgpd_wire as oracle;

use super::attribute::{self, code};
use super::capability::AfiSafi;
use super::frame::{self, EXTENDED_MESSAGE_BYTES, HEADER_BYTES, STANDARD_MESSAGE_BYTES};
use super::update::{self, Announcement, AttributesTooLong, write_withdraw};
use super::{
    AddPathFamily, Capability, GracefulRestart, LongLivedFamily, LongLivedGracefulRestart, MessageType, Nlri,
    Notification, Open, RestartFamily, RouteRefresh, Update,
};
use crate::attributes::{Aggregator, AsPath, AttributeTable, Attributes, Opaque, Origin};
use crate::prefix::{Family, Prefix};
use crate::session::{AddPath, Agreed, AsWidth, LeftmostAs, Offered, PathIds, Scope, Session};
use crate::types::{
    Asn, CarriedId, Community, HoldTime, LargeCommunity, LocalPref, Med, PathId, PeerKind, RouterId,
};

// --- values ----------------------------------------------------------------------------------------------

pub(super) fn any_asn() -> impl Strategy<Value = Asn> {
    let number = prop_oneof![1_u32..=0xFFFF, 1_u32..=u32::MAX, Just(23456)];
    number.prop_map(|value| Asn::new(value).expect("not 0"))
}

fn any_router_id() -> impl Strategy<Value = RouterId> {
    (1_u32..).prop_map(|value| RouterId::new(value).expect("not 0"))
}

pub(super) fn any_session() -> impl Strategy<Value = Session> {
    let kind = prop_oneof![Just(PeerKind::Internal), Just(PeerKind::External)];
    let as_width = prop_oneof![Just(AsWidth::Two), Just(AsWidth::Four)];
    let most = prop_oneof![Just(STANDARD_MESSAGE_BYTES), Just(EXTENDED_MESSAGE_BYTES)];
    (kind, as_width, most, any_asn(), any_router_id(), any_add_path()).prop_map(
        |(kind, as_width, most_message_bytes, peer_asn, peer_id, add_path)| Session {
            kind,
            peer_asn,
            peer_id,
            as_width,
            leftmost_as: LeftmostAs::default(),
            hold_time: HoldTime::DEFAULT,
            families: Family::ALL.into(),
            add_path,
            scope: Scope::Global,
            extended_next_hop: Agreed::No,
            most_message_bytes,
            route_refresh: Agreed::Yes,
            enhanced_refresh: Agreed::No,
            peer_restart: None,
            graceful_notification: Agreed::No,
            peer_long_lived: None,
            offered: Offered::default(),
        },
    )
}

/// The same in both directions, so that one session can read what it wrote.
fn any_add_path() -> impl Strategy<Value = AddPath> {
    btree_set(any_family(), 0..=2).prop_map(|families| AddPath { receive: families.clone(), send: families })
}

/// The prefixes as routes of this session: with identifiers, where it has these.
pub(super) fn routes(prefixes: impl IntoIterator<Item = Prefix>, session: &Session) -> Vec<Nlri> {
    let numbered = (1_u32..).zip(prefixes);
    let named = |(number, prefix): (u32, Prefix)| match session.sent_path_ids(prefix.family()) {
        PathIds::Absent => prefix.into(),
        PathIds::Present => Nlri { prefix, path_id: PathId(number.wrapping_mul(0x0102_0305)) },
    };
    numbered.map(named).collect()
}

/// The same, and perhaps a family was not agreed on.
pub(super) fn any_session_of_some_families() -> impl Strategy<Value = Session> {
    let families = btree_set(prop_oneof![Just(Family::Ipv4), Just(Family::Ipv6)], 0..=2);
    (any_session(), families).prop_map(|(session, families)| Session { families, ..session })
}

pub(super) fn any_family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::Ipv4), Just(Family::Ipv6)]
}

pub(super) fn any_prefix(family: Family) -> impl Strategy<Value = Prefix> {
    let address = any::<[u8; 16]>().prop_map(move |octets| match family {
        Family::Ipv4 => IpAddr::from([octets[0], octets[1], octets[2], octets[3]]),
        Family::Ipv6 => IpAddr::from(octets),
    });
    (address, 0..=family.bits()).prop_map(|(address, length)| Prefix::new(address, length).expect("in range"))
}

fn any_next_hop(family: Family) -> BoxedStrategy<IpAddr> {
    match family {
        Family::Ipv4 => (0x0100_0000_u32..0xE000_0000)
            .prop_map(Ipv4Addr::from)
            .prop_filter("a host", |address| attribute::is_host_v4(*address))
            .prop_map(IpAddr::from)
            .boxed(),
        Family::Ipv6 => any::<[u8; 15]>()
            .prop_map(|low| {
                let mut octets = [0x20; 16];
                octets[1..].copy_from_slice(&low);
                IpAddr::from(octets)
            })
            .boxed(),
    }
}

/// Attributes that we carry and do not read, each with the Partial bit that decoding gives it.
fn any_opaque() -> impl Strategy<Value = Vec<Opaque>> {
    let unknown = vec(any::<u8>(), 0..300);
    let extended = vec(any::<[u8; 8]>(), 1..40).prop_map(|entries| entries.concat());
    (option::of(extended), option::of(unknown.clone()), option::of(unknown)).prop_map(
        |(extended, one, other)| {
            let entries =
                [(code::EXTENDED_COMMUNITIES, false, extended), (99, true, one), (200, true, other)];
            let carried = entries
                .into_iter()
                .filter_map(|(code, partial, value)| Some(Opaque { code, partial, value: value?.into() }));
            carried.collect()
        },
    )
}

prop_compose! {
    /// What a peer of this session may send.
    fn any_attributes(session: Session, family: Family)(
        origin in prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)],
        path in vec(any_asn(), 0..300),
        next_hop in any_next_hop(family),
        med in option::of(any::<u32>().prop_map(Med)),
        local_pref in option::of(any::<u32>().prop_map(LocalPref)),
        atomic_aggregate in any::<bool>(),
        aggregator in option::of((any_asn(), any::<u32>())),
        communities in vec(any::<u32>().prop_map(Community), 0..70),
        large_communities in btree_set(any::<[u32; 3]>(), 0..30),
        originator_id in option::of(any::<u32>().prop_map(CarriedId)),
        cluster_list in vec(any::<u32>().prop_map(CarriedId), 0..5),
        opaque in any_opaque(),
    ) -> Attributes {
        let internal = session.kind == PeerKind::Internal;
        let first = (!internal).then_some(session.peer_asn);
        Attributes {
            origin,
            as_path: first.into_iter().chain(path).collect(),
            next_hop,
            link_local: None,
            med,
            local_pref: local_pref.filter(|_| internal),
            atomic_aggregate,
            aggregator: aggregator.map(|(asn, address)| Aggregator { asn, address }),
            communities,
            large_communities: large_communities.into_iter().map(LargeCommunity).collect(),
            originator_id: originator_id.filter(|_| internal),
            cluster_list: if internal { cluster_list } else { Vec::new() },
            opaque,
            partial: BTreeSet::new(),
        }
    }
}

/// A session, and a route of it for one family.
pub(super) fn any_route() -> impl Strategy<Value = (Session, Attributes, BTreeSet<Prefix>)> {
    (any_session(), any_family()).prop_flat_map(|(session, family)| {
        let attributes = any_attributes(session.clone(), family);
        (Just(session), attributes, btree_set(any_prefix(family), 1..600))
    })
}

fn any_capability() -> impl Strategy<Value = Capability> {
    let table = (any::<u16>(), any::<u8>()).prop_map(|(afi, safi)| AfiSafi { afi, safi });
    let entry = (table.clone(), any::<bool>())
        .prop_map(|(family, forwarding_kept)| RestartFamily { family, forwarding_kept });
    let flags = (any::<bool>(), any::<bool>());
    let restart = (flags, 0..=GracefulRestart::MOST_RESTART_TIME_S, vec(entry, 0..4)).prop_map(
        |((restarted, notification), restart_time_s, families)| GracefulRestart {
            restarted,
            notification,
            restart_time_s,
            families,
        },
    );
    let long_lived = (table.clone(), any::<bool>(), 0..=LongLivedGracefulRestart::MOST_STALE_TIME_S)
        .prop_map(|(family, forwarding_kept, stale_time_s)| LongLivedFamily {
            family,
            forwarding_kept,
            stale_time_s,
        });
    let long_lived = vec(long_lived, 0..4).prop_map(|families| LongLivedGracefulRestart { families });
    let add_path = (table.clone(), any::<bool>(), any::<bool>())
        .prop_filter("says something", |(_, receives, sends)| *receives || *sends)
        .prop_map(|(family, receives, sends)| AddPathFamily { family, receives, sends });
    let add_path = vec(add_path, 0..4);
    prop_oneof![
        table.prop_map(Capability::MultiProtocol),
        Just(Capability::RouteRefresh),
        Just(Capability::ExtendedMessage),
        restart.prop_map(Capability::GracefulRestart),
        add_path.prop_map(Capability::AddPath),
        Just(Capability::EnhancedRouteRefresh),
        long_lived.prop_map(Capability::LongLivedGracefulRestart),
        (80_u8..128, vec(any::<u8>(), 0..60)).prop_map(|(code, value)| Capability::Unknown { code, value }),
    ]
}

pub(super) fn any_open() -> impl Strategy<Value = Open> {
    let hold_time = prop_oneof![Just(0), 3_u16..].prop_filter_map("allowed", HoldTime::from_secs);
    (any_asn(), hold_time, any_router_id(), vec(any_capability(), 0..12)).prop_map(
        |(asn, hold_time, router_id, mut capabilities)| {
            capabilities.push(Capability::FourOctetAs(asn.value()));
            Open { asn, hold_time, router_id, capabilities }
        },
    )
}

/// Damage to a message: octets set, cut out, or put in.
#[derive(Debug, Clone)]
enum Damage {
    Set(Index, u8),
    Cut(Index),
    Insert(Index, u8),
}

fn any_damage() -> impl Strategy<Value = Vec<Damage>> {
    let one = prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, octet)| Damage::Set(at, octet)),
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, octet)| Damage::Insert(at, octet)),
    ];
    vec(one, 1..6)
}

fn damaged(mut octets: Vec<u8>, damage: &[Damage]) -> Vec<u8> {
    for one in damage {
        let length = octets.len();
        match one {
            Damage::Set(at, octet) => octets[at.index(length)] = *octet,
            Damage::Cut(at) => octets.truncate(at.index(length).max(1)),
            Damage::Insert(at, octet) => octets.insert(at.index(length), *octet),
        }
    }
    octets
}

// --- reading ---------------------------------------------------------------------------------------------

/// The bodies of the messages in `octets`, which must be whole ones of this kind.
pub(super) fn bodies(octets: &[u8], kind: MessageType, most: usize) -> Vec<&[u8]> {
    let mut rest = octets;
    let mut bodies = Vec::new();
    while let Some(frame) = frame::next(rest, most).expect("well-formed") {
        assert_eq!(frame.kind, kind);
        bodies.push(frame.body);
        rest = &rest[frame.length..];
    }
    assert!(rest.is_empty(), "half a message");
    bodies
}

fn announced(octets: &[u8], session: &Session) -> Vec<Announcement> {
    let bodies = bodies(octets, MessageType::Update, session.most_message_bytes);
    let updates = bodies.into_iter().map(|body| Update::decode(body, session).expect("well-formed"));
    updates
        .flat_map(|update| {
            assert_eq!((&update.withdrawn, &update.flaws, update.end_of_rib), (&vec![], &vec![], None));
            update.announced
        })
        .collect()
}

pub(super) fn write_announce(
    out: &mut Vec<u8>,
    session: &Session,
    attributes: &Attributes,
    routes: &[Nlri],
) -> Result<(), AttributesTooLong> {
    update::write_announce(out, session, &attributes.clone().into(), routes)
}

/// Everything that reads, on the same octets.
fn read_all_ways(octets: &[u8], session: &Session) {
    let _ = frame::next(octets, session.most_message_bytes);
    let _ = Open::decode(octets);
    let _ = RouteRefresh::decode(octets, Agreed::Yes);
    let notification = Notification::decode(octets);
    let _ = (notification.to_string(), notification.attribute());
    // What is known from before changes nothing.
    let mut table = AttributeTable::default();
    for _ in 0..2 {
        assert_eq!(Update::decode_with(octets, session, &mut table), Update::decode(octets, session));
    }
    if let Ok(update) = Update::decode(octets, session) {
        for announcement in &update.announced {
            // What was read can be written.
            let mut out = Vec::new();
            let _ = update::write_announce(&mut out, session, &announcement.attributes, &announcement.routes);
        }
        let _ = update.flaws.iter().map(ToString::to_string).count();
    }
}

// --- the independent codec -------------------------------------------------------------------------------

fn read_by_oracle(body: &[u8], session: &Session) -> (Attributes, Vec<Nlri>) {
    let mut rest = body;
    let message = oracle::UpdateMessage::decode(&mut rest, body.len()).expect("the oracle reads it");
    let (wide, internal) = (session.as_width == AsWidth::Four, session.kind == PeerKind::Internal);
    let several = &session.add_path.receive;
    let afi = |family: &Family| match family {
        Family::Ipv4 => oracle::Afi::Ipv4,
        Family::Ipv6 => oracle::Afi::Ipv6,
    };
    let families: Vec<_> = several.iter().map(|family| (afi(family), oracle::Safi::Unicast)).collect();
    let parsed = message.parse_revised(wide, internal, several.contains(&Family::Ipv4), &families);
    let parsed = parsed.expect("the oracle reads it");
    assert!(parsed.malformed.is_empty(), "the oracle complains: {:?}", parsed.malformed);
    let of_oracle = |address: IpAddr, length, path_id| Nlri {
        prefix: Prefix::new(address, length).expect("in range"),
        path_id: PathId(path_id),
    };
    let announced = parsed.update.announced.iter();
    let mut routes: Vec<Nlri> =
        announced.map(|entry| of_oracle(entry.prefix.addr.into(), entry.prefix.len, entry.path_id)).collect();
    let mut attributes = Attributes::originated(IpAddr::from([0; 4]));
    for attribute in parsed.update.attributes {
        take_from_oracle(&mut attributes, &mut routes, attribute);
    }
    attributes.opaque.sort();
    (attributes, routes)
}

fn take_from_oracle(to: &mut Attributes, routes: &mut Vec<Nlri>, attribute: oracle::PathAttribute) {
    use oracle::PathAttribute as P;
    let carried_id = |address: Ipv4Addr| CarriedId(address.into());
    match attribute {
        P::Origin(origin) => to.origin = Origin::from_octet(origin as u8).expect("known"),
        P::AsPath(path) => to.as_path = path_of_oracle(&path),
        P::NextHop(address) => to.next_hop = address.into(),
        P::Med(value) => to.med = Some(Med(value)),
        P::LocalPref(value) => to.local_pref = Some(LocalPref(value)),
        P::AtomicAggregate => to.atomic_aggregate = true,
        P::Aggregator(aggregator) => {
            let asn = Asn::new(aggregator.asn).expect("not 0");
            to.aggregator = Some(Aggregator { asn, address: aggregator.router_id.into() });
        }
        P::Communities(all) => to.communities = all.into_iter().map(Community).collect(),
        P::LargeCommunities(all) => {
            let parts = |one: oracle::LargeCommunity| [one.global_admin, one.local_data1, one.local_data2];
            to.large_communities = all.into_iter().map(parts).map(LargeCommunity).collect();
        }
        P::OriginatorId(address) => to.originator_id = Some(carried_id(address)),
        P::ClusterList(all) => to.cluster_list = all.into_iter().map(carried_id).collect(),
        P::MpReachNlri(reach) => {
            to.next_hop = reach.next_hop;
            routes.extend(reach.announced.iter().map(|entry| {
                let prefix = match entry.prefix {
                    oracle::Prefix::V4(p) => Prefix::new(p.addr.into(), p.len),
                    oracle::Prefix::V6(p) => Prefix::new(p.addr.into(), p.len),
                };
                Nlri { prefix: prefix.expect("in range"), path_id: PathId(entry.path_id) }
            }));
        }
        P::ExtendedCommunities(all) => {
            let value = all.into_iter().flat_map(|one| one.as_u64().to_be_bytes()).collect();
            to.opaque.push(Opaque { code: code::EXTENDED_COMMUNITIES, partial: false, value });
        }
        P::Unknown(raw) => {
            let partial = raw.flags & 0x20 != 0;
            to.opaque.push(Opaque { code: raw.type_code, partial, value: raw.data.to_vec().into() });
        }
        other => panic!("we write no {other:?}"),
    }
}

fn path_of_oracle(path: &oracle::AsPath) -> AsPath {
    let numbers = path.segments.iter().flat_map(|segment| match segment {
        oracle::AsPathSegment::AsSequence(numbers) => numbers.clone(),
        oracle::AsPathSegment::AsSet(_) => panic!("we write no sets"),
    });
    numbers.map(|number| Asn::new(number).expect("not 0")).collect()
}

// --- properties ------------------------------------------------------------------------------------------

proptest! {
    #[test]
    fn random_octets_never_panic(
        octets in vec(any::<u8>(), 0..200),
        session in any_session_of_some_families(),
    ) {
        read_all_ways(&octets, &session);
    }

    /// Random octets seldom get past the first length; these do.
    #[test]
    fn random_attributes_never_panic(
        list in vec((any::<u8>(), 0_u8..45, vec(any::<u8>(), 0..40)), 0..8),
        classic in vec(any::<u8>(), 0..10),
        session in any_session_of_some_families(),
    ) {
        let mut attributes = Vec::new();
        for (flags, code, value) in &list {
            attribute::write(&mut attributes, flags & 0xE0, *code, value);
        }
        let length = u16::try_from(attributes.len()).expect("short").to_be_bytes();
        let body = [&[0, 0][..], &length, &attributes, &classic].concat();
        read_all_ways(&body, &session);
    }

    #[test]
    fn damaged_updates_never_panic(
        (session, attributes, prefixes) in any_route(),
        read_as in any_session_of_some_families(),
        damage in any_damage(),
    ) {
        let prefixes = routes(prefixes.into_iter().take(20), &session);
        let mut octets = Vec::new();
        let _ = write_announce(&mut octets, &session, &attributes, &prefixes);
        write_withdraw(&mut octets, &session, &prefixes);
        read_all_ways(&damaged(octets.clone(), &damage), &read_as);
        read_all_ways(&damaged(octets[HEADER_BYTES..].to_vec(), &damage), &read_as);
    }

    #[test]
    fn damaged_opens_never_panic(open in any_open(), damage in any_damage()) {
        let mut octets = Vec::new();
        open.write(&mut octets);
        let _ = Open::decode(&damaged(octets[HEADER_BYTES..].to_vec(), &damage));
    }

    /// Treated as withdrawn is not ignored: whatever is wrong with the attributes, the old route goes or
    /// the new one comes (RFC 7606 section 2).
    #[test]
    fn damage_to_attributes_loses_no_prefix(
        (session, attributes, prefixes) in any_route(),
        damage in vec((any::<Index>(), any::<u8>()), 1..6),
    ) {
        let prefixes = prefixes.into_iter().filter(|p| p.family() == Family::Ipv4).take(20);
        let prefixes = routes(prefixes, &session);
        prop_assume!(!prefixes.is_empty());
        let mut octets = Vec::new();
        prop_assume!(write_announce(&mut octets, &session, &attributes, &prefixes).is_ok());
        let mut body = octets[HEADER_BYTES..].to_vec();
        let length = usize::from(u16::from_be_bytes([body[2], body[3]]));
        for (at, octet) in damage {
            body[4 + at.index(length)] = octet;
        }
        if let Ok(update) = Update::decode(&body, &session) {
            let told = update.announced.iter().flat_map(|one| &one.routes).chain(&update.withdrawn);
            let told: BTreeSet<Nlri> = told.copied().collect();
            prop_assert!(prefixes.iter().all(|prefix| told.contains(prefix)));
        }
    }

    #[test]
    fn announcement_is_read_as_it_was_written((session, attributes, prefixes) in any_route()) {
        let prefixes = routes(prefixes, &session);
        let mut octets = Vec::new();
        prop_assert!(write_announce(&mut octets, &session, &attributes, &prefixes).is_ok());
        let read = announced(&octets, &session);
        prop_assert!(read.iter().all(|one| **one.attributes == attributes));
        let told: Vec<Nlri> = read.into_iter().flat_map(|one| one.routes).collect();
        prop_assert_eq!(told, prefixes);
    }

    /// Whatever one peer tells and however often: its attributes are never taken for those of another session.
    #[test]
    fn attributes_known_from_before_are_read_as_unknown_ones(
        (session, attributes, prefixes) in any_route(),
        others in vec(any_session_of_some_families(), 1..4),
    ) {
        let prefixes = routes(prefixes.into_iter().take(3), &session);
        let mut octets = Vec::new();
        prop_assert!(write_announce(&mut octets, &session, &attributes, &prefixes).is_ok());
        let mut table = AttributeTable::default();
        for body in bodies(&octets, MessageType::Update, session.most_message_bytes) {
            for session in std::iter::once(&session).chain(&others).cycle().take(3 * (1 + others.len())) {
                prop_assert_eq!(Update::decode_with(body, session, &mut table), Update::decode(body, session));
            }
        }
    }

    #[test]
    fn withdrawal_is_read_as_it_was_written((session, _, prefixes) in any_route()) {
        let prefixes = routes(prefixes, &session);
        let mut octets = Vec::new();
        write_withdraw(&mut octets, &session, &prefixes);
        let mut told = Vec::new();
        for body in bodies(&octets, MessageType::Update, session.most_message_bytes) {
            let update = Update::decode(body, &session).expect("well-formed");
            prop_assert!(update.announced.is_empty() && update.flaws.is_empty());
            told.extend(update.withdrawn);
        }
        prop_assert_eq!(told, prefixes);
    }

    #[test]
    fn open_is_read_as_it_was_written(open in any_open()) {
        let mut octets = Vec::new();
        open.write(&mut octets);
        let [body] = bodies(&octets, MessageType::Open, STANDARD_MESSAGE_BYTES)[..] else {
            panic!("one message")
        };
        prop_assert_eq!(Open::decode(body), Ok(open));
    }

    #[test]
    fn independent_codec_reads_the_same((session, attributes, prefixes) in any_route()) {
        let prefixes = routes(prefixes, &session);
        let mut octets = Vec::new();
        prop_assert!(write_announce(&mut octets, &session, &attributes, &prefixes).is_ok());
        let mut told = Vec::new();
        for body in bodies(&octets, MessageType::Update, session.most_message_bytes) {
            let (read, of_message) = read_by_oracle(body, &session);
            prop_assert_eq!(&read, &attributes);
            told.extend(of_message);
        }
        prop_assert_eq!(told, prefixes);
    }
}
