//! The decision process once more, as plainly as the RFC has it: over numbers, and each step as "remove from consideration
//! who has a better one beside it". It shares nothing with what it is compared with.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{Candidate, Decision, Reason, Standing, Teller, decide};
use crate::attributes::{Attributes, Origin};
use crate::types::{Asn, CarriedId, LocalPref, Med, PathId, PeerKind, RouterId, ScopedAddress};

/// A route in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    /// 0: relied on. 1: nothing heard of the peer. 2: the link to it is down. 3: long-lived stale.
    doubt: u8,
    is_own: bool,
    local_pref: Option<u32>,
    as_path: Vec<u32>,
    origin: u8,
    med: Option<u32>,
    is_external: bool,
    bgp_identifier: u32,
    originator_id: Option<u32>,
    cluster_list: Vec<u32>,
    peer_address: u32,
    path_id: u32,
    next_hop: u32,
}

/// Why somebody goes, and who goes: the first route, for the second is there.
type Rule = (Reason, fn(&Way, &Way) -> bool);

/// "remove from consideration all routes that ..."; `m` and `n` as in the pseudo-code of RFC 4271 section 9.1.2.2.
const ELIMINATING: [Rule; 9] = [
    // RFC 9494 section 4.3: least preferred of all.
    (Reason::LongLivedStale, |m, n| m.doubt == 3 && n.doubt != 3),
    // Ours, in this order: a link that is down, a peer that is silent, a route of others where we have our own.
    (Reason::LinkDown, |m, n| m.doubt == 2 && n.doubt != 2),
    (Reason::PeerSilent, |m, n| m.doubt == 1 && n.doubt != 1),
    (Reason::NotLocal, |m, n| !m.is_own && n.is_own),
    // Section 9.1.2: the highest degree of preference; of external peers it is what policy says, 100 without a word.
    (Reason::LowerLocalPref, |m, n| m.local_pref.unwrap_or(100) < n.local_pref.unwrap_or(100)),
    // a)
    (Reason::LongerAsPath, |m, n| m.as_path.len() > n.as_path.len()),
    // b) IGP is lower than EGP, and that lower than INCOMPLETE.
    (Reason::WorseOrigin, |m, n| m.origin > n.origin),
    // c) "if (neighborAS(m) == neighborAS(n)) and (MED(n) < MED(m))"; 0 is the lowest.
    (Reason::HigherMed, |m, n| {
        m.as_path.first() == n.as_path.first() && n.med.unwrap_or(0) < m.med.unwrap_or(0)
    }),
    // d)
    (Reason::InternalPeer, |m, n| !m.is_own && !m.is_external && (n.is_external || n.is_own)),
];

/// f), RFC 4456 section 9, and g); without e), for next hops are on a link of ours.
const LAST: [Rule; 4] = [
    (Reason::HigherRouterId, |m, n| {
        m.originator_id.unwrap_or(m.bgp_identifier) > n.originator_id.unwrap_or(n.bgp_identifier)
    }),
    (Reason::LongerClusterList, |m, n| m.cluster_list.len() > n.cluster_list.len()),
    (Reason::HigherPeerAddress, |m, n| m.peer_address > n.peer_address),
    // Ours: of several paths of one peer (RFC 7911) the first.
    (Reason::HigherPathId, |m, n| m.path_id > n.path_id),
];

/// Who is left, and who went for which reason.
fn left<'a>(rules: &[Rule], mut ways: Vec<&'a Way>) -> (Vec<&'a Way>, Vec<(&'a Way, Reason)>) {
    let mut gone = Vec::new();
    for (reason, loses) in rules {
        let (removed, stay): (Vec<&Way>, Vec<&Way>) =
            ways.iter().partition(|m| ways.iter().any(|n| loses(m, n)));
        gone.extend(removed.into_iter().map(|way| (way, *reason)));
        ways = stay;
    }
    (ways, gone)
}

/// The best, those used beside it in the order of preference, and why each other one is neither, as far as that is no
/// matter of next hops.
fn model(ways: &[Way], max_paths: usize) -> (Vec<&Way>, Vec<(&Way, Reason)>) {
    let (mut equal, gone) = left(&ELIMINATING, ways.iter().collect());
    let mut used: Vec<&Way> = Vec::new();
    while !equal.is_empty() {
        let (best, _) = left(&LAST, equal.clone());
        equal.retain(|way| *way != best[0]);
        let is_known = used.iter().any(|other| other.next_hop == best[0].next_hop);
        if !is_known && used.len() < max_paths {
            used.push(best[0]);
        }
    }
    (used, gone)
}

/// Of few values each, so that many are equal.
fn any_way() -> impl Strategy<Value = Way> {
    let few = || prop_oneof![4 => Just(1_u32), 1 => 1_u32..4];
    let head = (
        prop_oneof![6 => Just(0_u8), 1 => 1_u8..4],
        option::weighted(0.3, prop_oneof![Just(0_u32), Just(100), Just(101), Just(200)]),
        vec(1_u32..4, 0..3),
        prop_oneof![4 => Just(0_u8), 1 => 0_u8..3],
        option::weighted(0.4, 0_u32..3),
        any::<bool>(),
    );
    let tail = (few(), option::weighted(0.3, few()), vec(Just(1_u32), 0..3), 1_u32..5);
    (head, tail).prop_map(
        |(
            (doubt, local_pref, as_path, origin, med, is_external),
            (id, originator_id, cluster_list, next_hop),
        )| Way {
            doubt,
            is_own: false,
            local_pref,
            as_path,
            origin,
            med,
            is_external,
            bgp_identifier: id,
            originator_id,
            cluster_list,
            peer_address: 0,
            path_id: 0,
            next_hop,
        },
    )
}

/// Paths to one prefix: one or several a peer, and perhaps our own.
fn any_ways() -> impl Strategy<Value = Vec<Way>> {
    let sharing = any::<[bool; 8]>();
    (vec(any_way(), 1..8), option::weighted(0.2, any::<Index>()), sharing).prop_map(
        |(mut ways, own, sharing)| {
            for at in 0..ways.len() {
                (ways[at].peer_address, ways[at].path_id) = (10 + at as u32, 1);
                if at > 0 && sharing[at] {
                    // Of the same peer as the one before.
                    let before = ways[at - 1].clone();
                    let Way { peer_address, is_external, bgp_identifier, .. } = before;
                    ways[at] = Way {
                        peer_address,
                        is_external,
                        bgp_identifier,
                        path_id: before.path_id + 1,
                        ..ways[at].clone()
                    };
                }
            }
            if let Some(own) = own {
                let length = ways.len();
                let way = &mut ways[own.index(length)];
                (way.is_own, way.doubt) = (true, 0);
            }
            ways
        },
    )
}

fn attributes(way: &Way) -> Attributes {
    let mut attributes = Attributes::originated(IpAddr::V4(Ipv4Addr::from(way.next_hop)));
    attributes.origin = Origin::from_octet(way.origin).expect("known");
    attributes.as_path = way.as_path.iter().map(|asn| Asn::new(*asn).expect("not 0")).collect();
    attributes.med = way.med.map(Med);
    attributes.local_pref = way.local_pref.map(LocalPref);
    attributes.originator_id = way.originator_id.map(CarriedId);
    attributes.cluster_list = way.cluster_list.iter().copied().map(CarriedId).collect();
    attributes
}

fn decided(ways: &[Way], max_paths: usize) -> Decision {
    let all: Vec<Attributes> = ways.iter().map(attributes).collect();
    let address = |way: &Way| IpAddr::V4(Ipv4Addr::from(way.peer_address)).into();
    let addresses: Vec<ScopedAddress> = ways.iter().map(address).collect();
    let candidates: Vec<Candidate<'_>> = ways
        .iter()
        .zip(all.iter().zip(&addresses))
        .map(|(way, (attributes, address))| Candidate {
            attributes,
            standing: match way.doubt {
                0 => Standing::Good,
                1 => Standing::Silent,
                2 => Standing::LinkDown,
                _ => Standing::LongLivedStale,
            },
            from: match way.is_own {
                true => Teller::Local,
                false => Teller::Peer {
                    kind: if way.is_external { PeerKind::External } else { PeerKind::Internal },
                    router_id: RouterId::new(way.bgp_identifier).expect("not 0"),
                    address,
                    path_id: PathId(way.path_id),
                },
            },
        })
        .collect();
    decide(&candidates, max_paths).expect("candidates")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn best_and_those_used_beside_it_are_those_of_the_rfc(ways in any_ways(), max_paths in 1_usize..5) {
        let decision = decided(&ways, max_paths);
        let (used, gone) = model(&ways, max_paths);
        prop_assert_eq!(&ways[decision.best], used[0]);
        let decided: Vec<&Way> = decision.used.iter().map(|&index| &ways[index]).collect();
        prop_assert_eq!(&decided, &used);
        // Everybody but the best has a reason, and it is the step at which the RFC removes it.
        for (index, way) in ways.iter().enumerate() {
            let reason = decision.losers.get(&index);
            prop_assert_eq!(reason.is_none(), index == decision.best);
            let by_model = gone.iter().find(|(removed, _)| *removed == way).map(|(_, reason)| reason);
            match by_model {
                Some(_) => prop_assert_eq!(reason, by_model),
                None if index == decision.best => {}
                None if used.contains(&way) => prop_assert_eq!(reason, Some(&Reason::Multipath)),
                None => {
                    let by_ties = LAST.iter().any(|(of_tie, _)| reason == Some(of_tie));
                    prop_assert!(by_ties || reason == Some(&Reason::BeyondMaxPaths), "{:?}", reason);
                }
            }
        }
    }

    /// MED makes no order of pairs; what comes out must not be what came in first.
    #[test]
    fn order_of_arrival_decides_nothing(ways in any_ways(), max_paths in 1_usize..5, turns in 0_usize..8, is_reversed in any::<bool>()) {
        let mut other = ways.clone();
        other.rotate_left(turns % ways.len());
        if is_reversed {
            other.reverse();
        }
        let (one, another) = (decided(&ways, max_paths), decided(&other, max_paths));
        prop_assert_eq!(&ways[one.best], &other[another.best]);
        let used = |ways: &[Way], decision: &Decision| -> Vec<Way> {
            decision.used.iter().map(|&index| ways[index].clone()).collect()
        };
        prop_assert_eq!(used(&ways, &one), used(&other, &another));
        let reasons = |ways: &[Way], decision: &Decision| -> BTreeSet<(u32, u32, Reason)> {
            decision.losers.iter().map(|(&index, &reason)| (ways[index].peer_address, ways[index].path_id, reason)).collect()
        };
        prop_assert_eq!(reasons(&ways, &one), reasons(&other, &another));
    }
}
