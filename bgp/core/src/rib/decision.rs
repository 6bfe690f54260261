//! The decision process (RFC 4271 section 9.1.2.2): an ordered list of named steps, each of which drops
//! the candidates that are worse by one measure. What drops a candidate is its reason.
//!
//! It works by elimination and not by comparing pairs: MED compares only routes from one neighbour AS,
//! so "better than" is no order and a `sort` over it gives what the order of arrival happens to be.

use crate::attributes::Attributes;
use crate::types::{Asn, CarriedId, LocalPref, Med, PathId, PeerKind, RouterId, ScopedAddress};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

/// What the steps look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) attributes: &'a Attributes,
    pub(crate) standing: Standing,
    pub(crate) from: Teller<'a>,
}

impl Candidate<'_> {
    /// Where it leads: a link-local next hop is on the link of who tells it.
    pub(crate) fn next_hop(&self) -> ScopedAddress {
        let next_hop = self.attributes.next_hop;
        match self.from {
            Teller::Local => next_hop.into(),
            Teller::Peer { address, .. } => address.beside(next_hop),
        }
    }
}

/// Whether a path may be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// As good as any other.
    Good,
    /// Nothing is heard of its teller.
    Silent,
    /// The link to its teller went down.
    LinkDown,
    /// Long-lived stale (RFC 9494).
    LongLivedStale,
}

/// Who told a route, as far as it decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Teller<'a> {
    /// We ourselves.
    Local,
    /// A peer.
    Peer { kind: PeerKind, router_id: RouterId, address: &'a ScopedAddress, path_id: PathId },
}

/// Why a usable path is not the best one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// It is kept, here or farther away, long after its teller went: the last resort of all (RFC 9494).
    LongLivedStale,
    /// The link to its teller went down; it is kept as a last resort until the teller is back.
    LinkDown,
    /// Nothing was heard of its teller for the hold time; it is kept as a last resort until the teller is back.
    PeerSilent,
    /// Another one is our own.
    NotLocal,
    /// LOCAL_PREF is lower.
    LowerLocalPref,
    /// AS_PATH is longer.
    LongerAsPath,
    /// ORIGIN is worse.
    WorseOrigin,
    /// MED is higher than another one's from the same neighbour AS.
    HigherMed,
    /// Internal, where an external one is there.
    InternalPeer,
    /// As good as the best up to here: used beside it (equal-cost multipath).
    Multipath,
    /// As good, but there are enough next hops already.
    BeyondMaxPaths,
    /// The teller's identifier is higher.
    HigherRouterId,
    /// CLUSTER_LIST is longer (RFC 4456 section 9).
    LongerClusterList,
    /// The teller's address is higher.
    HigherPeerAddress,
    /// The same teller tells another one with a lower identifier (RFC 7911).
    HigherPathId,
}

impl Reason {
    /// The name, as `show route all` prints it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::LongLivedStale => "LongLivedStale",
            Reason::LinkDown => "LinkDown",
            Reason::PeerSilent => "PeerSilent",
            Reason::LowerLocalPref => "LowerLocalPref",
            Reason::NotLocal => "NotLocal",
            Reason::LongerAsPath => "LongerAsPath",
            Reason::WorseOrigin => "WorseOrigin",
            Reason::HigherMed => "HigherMed",
            Reason::InternalPeer => "InternalPeer",
            Reason::Multipath => "Multipath",
            Reason::BeyondMaxPaths => "BeyondMaxPaths",
            Reason::HigherRouterId => "HigherRouterId",
            Reason::LongerClusterList => "LongerClusterList",
            Reason::HigherPeerAddress => "HigherPeerAddress",
            Reason::HigherPathId => "HigherPathId",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One step: which candidates of `alive` stay.
struct Step {
    reason: Reason,
    keep: fn(&[Candidate<'_>], &mut Vec<usize>),
}

/// Steps a) to d) of RFC 4271 section 9.1.2.2, and before them what no RFC has: what is stale, and our own. Candidates that
/// survive are equally good to forward over. Step e), the interior cost, is not there: next hops are on a link of ours.
const DECIDING: &[Step] = &[
    Step { reason: Reason::LongLivedStale, keep: keep_not_long_lived },
    Step { reason: Reason::LinkDown, keep: keep_linked },
    Step { reason: Reason::PeerSilent, keep: keep_heard },
    Step { reason: Reason::NotLocal, keep: keep_local },
    Step { reason: Reason::LowerLocalPref, keep: keep_highest_local_pref },
    Step { reason: Reason::LongerAsPath, keep: keep_shortest_as_path },
    Step { reason: Reason::WorseOrigin, keep: keep_best_origin },
    Step { reason: Reason::HigherMed, keep: keep_lowest_med },
    Step { reason: Reason::InternalPeer, keep: keep_external },
];

/// Steps f) and g), RFC 4456 section 9 between them, and behind them what tells several paths of one peer apart, of which no
/// RFC speaks: they only pick the one that is told on.
const BREAKING_TIES: &[Step] = &[
    Step { reason: Reason::HigherRouterId, keep: keep_lowest_router_id },
    Step { reason: Reason::LongerClusterList, keep: keep_shortest_cluster_list },
    Step { reason: Reason::HigherPeerAddress, keep: keep_lowest_address },
    Step { reason: Reason::HigherPathId, keep: keep_lowest_path_id },
];

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Index of the best candidate.
    pub(crate) best: usize,
    /// The best and those used beside it, each with a next hop of its own.
    pub(crate) used: Vec<usize>,
    /// Why each other one is not best.
    pub(crate) losers: BTreeMap<usize, Reason>,
}

/// `None` only without candidates.
pub(crate) fn decide(candidates: &[Candidate<'_>], max_paths: usize) -> Option<Decision> {
    let mut alive: Vec<usize> = (0..candidates.len()).collect();
    let mut losers = BTreeMap::new();
    run(DECIDING, candidates, &mut alive, &mut losers);
    let mut equal = alive.clone();
    let mut ties = BTreeMap::new();
    run(BREAKING_TIES, candidates, &mut alive, &mut ties);
    let best = *alive.first()?;
    equal.sort_by_key(|&index| (index != best, sort_key(&candidates[index])));

    let mut used: Vec<usize> = Vec::new();
    for index in equal {
        let next_hop = candidates[index].next_hop();
        let known = used.iter().any(|&other| candidates[other].next_hop() == next_hop);
        if known {
            // The same way told twice; the tie break says why it is the second.
            losers.insert(index, ties.get(&index).copied().unwrap_or(Reason::HigherPathId));
        } else if used.len() < max_paths.max(1) {
            if index != best {
                losers.insert(index, Reason::Multipath);
            }
            used.push(index);
        } else {
            losers.insert(index, Reason::BeyondMaxPaths);
        }
    }
    Some(Decision { best, used, losers })
}

/// All candidates, the best first: each is what would be best without those before it.
pub(crate) fn ranked(candidates: &[Candidate<'_>]) -> impl Iterator<Item = usize> {
    let mut rest: Vec<usize> = (0..candidates.len()).collect();
    std::iter::from_fn(move || {
        let left: Vec<Candidate<'_>> = rest.iter().map(|&index| candidates[index]).collect();
        Some(rest.remove(decide(&left, 1)?.best))
    })
}

fn run(
    steps: &[Step],
    candidates: &[Candidate<'_>],
    alive: &mut Vec<usize>,
    losers: &mut BTreeMap<usize, Reason>,
) {
    for step in steps {
        if alive.len() < 2 {
            return;
        }
        let before = alive.clone();
        (step.keep)(candidates, alive);
        // What stays does so in its order.
        let mut kept = alive.iter().peekable();
        for index in before {
            if kept.next_if(|one| **one == index).is_none() {
                losers.insert(index, step.reason);
            }
        }
    }
}

fn keep_least<'a, K: Ord>(
    candidates: &[Candidate<'a>],
    alive: &mut Vec<usize>,
    key: impl Fn(&Candidate<'a>) -> K,
) {
    let Some(least) = alive.iter().map(|&index| key(&candidates[index])).min() else { return };
    alive.retain(|&index| key(&candidates[index]) == least);
}

/// RFC 9494 section 4.3: the least preferred of all.
fn keep_not_long_lived(candidates: &[Candidate<'_>], alive: &mut Vec<usize>) {
    keep_least(candidates, alive, |candidate| candidate.standing == Standing::LongLivedStale);
}

/// Before all of RFC 4271: a path over a link that was lost may lead into nothing.
fn keep_linked(candidates: &[Candidate<'_>], alive: &mut Vec<usize>) {
    keep_least(candidates, alive, |candidate| candidate.standing == Standing::LinkDown);
}

/// So may one over a peer of which nothing is heard.
fn keep_heard(candidates: &[Candidate<'_>], alive: &mut Vec<usize>) {
    keep_least(candidates, alive, |candidate| candidate.standing == Standing::Silent);
}

fn keep_highest_local_pref(candidates: &[Candidate<'_>], alive: &mut Vec<usize>) {
    keep_least(candidates, alive, |candidate| {
        Reverse(candidate.attributes.local_pref.unwrap_or(LocalPref::DEFAULT))
    });
}

/// Before LOCAL_PREF: who lets go of a route of its own for another's offers neither to anybody, and a prefix that many
/// originate with a LOCAL_PREF would go and come for ever. The degree of preference is ours to set (RFC 4271 section
/// 9.1.1).
fn keep_local(candidates: &[Candidate<'_>], alive: &mut Vec<usize>) {
    keep_least(candidates, alive, |candidate| candidate.from != Teller::Local);
}

fn keep_shortest_as_path(candidates: &[Candidate<'_>], alive: &mut Vec<usize>) {
    keep_least(candidates, alive, |candidate| candidate.attributes.as_path.len());
}

fn keep_best_origin(candidates: &[Candidate<'_>], alive: &mut Vec<usize>) {
    keep_least(candidates, alive, |candidate| candidate.attributes.origin);
}

/// Only routes from one neighbour AS are compared; a route without MED counts as 0.
fn keep_lowest_med(candidates: &[Candidate<'_>], alive: &mut Vec<usize>) {
    let neighbor = |index: usize| candidates[index].attributes.as_path.neighbor();
    let med = |index: usize| candidates[index].attributes.med.unwrap_or(Med(0));
    let mut lowest: BTreeMap<Option<Asn>, Med> = BTreeMap::new();
    for &index in alive.iter() {
        let entry = lowest.entry(neighbor(index)).or_insert_with(|| med(index));
        *entry = (*entry).min(med(index));
    }
    alive.retain(|&index| lowest.get(&neighbor(index)) == Some(&med(index)));
}

fn keep_external(candidates: &[Candidate<'_>], alive: &mut Vec<usize>) {
    keep_least(candidates, alive, |candidate| match candidate.from {
        Teller::Local => 0,
        Teller::Peer { kind: PeerKind::External, .. } => 1,
        Teller::Peer { kind: PeerKind::Internal, .. } => 2,
    });
}

/// RFC 4456 section 9: the originator's identifier stands for the reflector's.
fn keep_lowest_router_id(candidates: &[Candidate<'_>], alive: &mut Vec<usize>) {
    keep_least(candidates, alive, router_id);
}

fn router_id(candidate: &Candidate<'_>) -> Option<CarriedId> {
    match candidate.from {
        Teller::Local => None,
        Teller::Peer { router_id, .. } => {
            Some(candidate.attributes.originator_id.unwrap_or(router_id.into()))
        }
    }
}

fn keep_shortest_cluster_list(candidates: &[Candidate<'_>], alive: &mut Vec<usize>) {
    keep_least(candidates, alive, |candidate| candidate.attributes.cluster_list.len());
}

fn keep_lowest_address(candidates: &[Candidate<'_>], alive: &mut Vec<usize>) {
    keep_least(candidates, alive, address);
}

fn address<'a>(candidate: &Candidate<'a>) -> Option<&'a ScopedAddress> {
    match candidate.from {
        Teller::Local => None,
        Teller::Peer { address, .. } => Some(address),
    }
}

fn keep_lowest_path_id(candidates: &[Candidate<'_>], alive: &mut Vec<usize>) {
    keep_least(candidates, alive, path_id);
}

fn path_id(candidate: &Candidate<'_>) -> Option<PathId> {
    match candidate.from {
        Teller::Local => None,
        Teller::Peer { path_id, .. } => Some(path_id),
    }
}

/// The order in which equal paths are taken: as the tie break would.
fn sort_key<'a>(candidate: &Candidate<'a>) -> impl Ord + use<'a> {
    let clusters = candidate.attributes.cluster_list.len();
    (router_id(candidate), clusters, address(candidate), path_id(candidate))
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::attributes::{AsPath, Origin};

    /// A path in words: what differs from a plain external one.
    #[derive(Clone)]
    struct Path {
        attributes: Attributes,
        standing: Standing,
        from: Teller<'static>,
    }

    fn path(last: u8, asns: &[u32]) -> Path {
        let ip = IpAddr::from([192, 0, 2, last]);
        let mut attributes = Attributes::originated(ip);
        attributes.as_path = asns.iter().filter_map(|&asn| Asn::new(asn)).collect::<AsPath>();
        let router_id = RouterId::new(u32::from(last)).expect("not 0");
        let address = Box::leak(Box::new(ip.into()));
        let from = Teller::Peer { kind: PeerKind::External, router_id, address, path_id: PathId::default() };
        Path { attributes, standing: Standing::Good, from }
    }

    fn internal(mut path: Path) -> Path {
        if let Teller::Peer { kind, .. } = &mut path.from {
            *kind = PeerKind::Internal;
        }
        path
    }

    fn decided(paths: &[Path]) -> Decision {
        let candidates: Vec<Candidate<'_>> = paths
            .iter()
            .map(|path| Candidate { attributes: &path.attributes, standing: path.standing, from: path.from })
            .collect();
        decide(&candidates, 16).expect("candidates")
    }

    fn med(mut path: Path, med: u32) -> Path {
        path.attributes.med = Some(Med(med));
        path
    }

    #[test]
    fn each_step_gives_its_reason() {
        let plain = path(1, &[1, 2]);
        let mut preferred = path(2, &[1, 2, 3]);
        preferred.attributes.local_pref = Some(LocalPref(200));
        let mut incomplete = path(3, &[4, 5]);
        incomplete.attributes.origin = Origin::Incomplete;
        let local = Path { from: Teller::Local, ..path(9, &[]) };
        let mut lost = path(2, &[1]);
        lost.standing = Standing::LinkDown;
        let mut silent = path(2, &[1]);
        silent.standing = Standing::Silent;
        let mut kept_long = path(2, &[1]);
        kept_long.standing = Standing::LongLivedStale;
        let table = [
            (vec![kept_long, lost.clone()], 1, Reason::LongLivedStale),
            (vec![lost, silent.clone()], 1, Reason::LinkDown),
            (vec![silent, plain.clone()], 1, Reason::PeerSilent),
            (vec![plain.clone(), preferred.clone()], 1, Reason::LowerLocalPref),
            (vec![preferred, local.clone()], 1, Reason::NotLocal),
            (vec![plain.clone(), local], 1, Reason::NotLocal),
            (vec![path(3, &[1, 2, 3]), plain.clone()], 1, Reason::LongerAsPath),
            (vec![incomplete, plain.clone()], 1, Reason::WorseOrigin),
            (vec![med(path(3, &[1, 7]), 5), plain.clone()], 1, Reason::HigherMed),
            (vec![internal(path(3, &[1, 2])), plain.clone()], 1, Reason::InternalPeer),
            (vec![path(3, &[9, 2]), plain], 1, Reason::Multipath),
        ];
        for (paths, best, reason) in table {
            let decision = decided(&paths);
            assert_eq!(decision.best, best, "{reason}");
            assert_eq!(decision.losers.get(&(1 - best)), Some(&reason));
        }
    }

    #[test]
    fn med_is_compared_only_within_a_neighbour_as() {
        let decision =
            decided(&[med(path(1, &[1, 9]), 50), med(path(2, &[2, 9]), 1), med(path(3, &[1, 8]), 20)]);
        assert_eq!(decision.losers.get(&0), Some(&Reason::HigherMed));
        assert_eq!(decision.used, vec![1, 2]);
    }

    #[test]
    fn outcome_does_not_depend_on_the_order_of_arrival() {
        let paths = [
            med(path(1, &[1, 9]), 50),
            med(path(2, &[2, 9]), 1),
            med(path(3, &[1, 8]), 20),
            path(4, &[3, 3]),
        ];
        let winners = |order: [usize; 4]| {
            let ordered: Vec<Path> = order.iter().map(|&index| paths[index].clone()).collect();
            let mut used: Vec<usize> = decided(&ordered).used.iter().map(|&at| order[at]).collect();
            let best = order[decided(&ordered).best];
            used.sort_unstable();
            (best, used)
        };
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
            assert_eq!(winners(order), winners([0, 1, 2, 3]));
        }
    }

    #[test]
    fn one_next_hop_is_used_once_and_no_more_than_max_paths() {
        let mut twin = path(2, &[5, 6]);
        twin.attributes.next_hop = [192, 0, 2, 1].into();
        let decision = decided(&[path(1, &[1, 2]), twin]);
        assert_eq!(decision.used, vec![0]);
        assert_eq!(decision.losers.get(&1), Some(&Reason::HigherRouterId));

        let many: Vec<Path> = (1..=20).map(|last| path(last, &[1, 2])).collect();
        let decision = decided(&many);
        assert_eq!(decision.used.len(), 16);
        assert_eq!(decision.losers.get(&19), Some(&Reason::BeyondMaxPaths));
    }
}
