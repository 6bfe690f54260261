//! The tables: what each peer told (adj-rib-in), what is best (loc-rib), what each peer was told
//! (adj-rib-out).
//!
//! One [`Destination`] a prefix holds all paths to it. A change of a path marks its destination
//! undecided; [`Rib::settle`] then runs the decision process, marks what the kernel must hear and what
//! each peer must hear. Both are sets of destinations and not queues of messages: a peer that reads
//! slowly gets the latest state when it reads again, and the kernel likewise.
//!
//! Truth for withdrawals is the adj-rib-out: a peer is told that a prefix is gone exactly if it was told
//! of it before.

pub(crate) mod adj_out;
pub(crate) mod decision;
mod listing;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::attributes::Attributes;
use crate::config::{PeerPolicy, Wanted};
use crate::interner::Interner;
use crate::policy::{Provenance, Refusal, View, judge};
use crate::prefix::{Family, Prefix};
use crate::session::{Agreed, Session};
use crate::types::{PeerId, PeerKind, RouterId};

use adj_out::{AdjOut, Tells};
pub use decision::Reason;
use decision::{Candidate, Standing, Teller, decide};
pub use listing::{Counts, Part, PathInfo, RouteInfo, Verdict};

/// Index of a destination; used again when its prefix is forgotten by everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct DestId(u32);

/// What the kernel should do with one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteChange {
    /// Which.
    pub prefix: Prefix,
    /// Over these gateways; empty: no learned route any more.
    pub next_hops: BTreeSet<IpAddr>,
}

impl RouteChange {
    /// To what the kernel is told to have.
    fn of(dest: &Destination) -> RouteChange {
        RouteChange { prefix: dest.prefix, next_hops: BTreeSet::clone(&dest.installed) }
    }
}

/// Gateways of a route; thousands of routes have the same.
type NextHops = Arc<BTreeSet<IpAddr>>;

#[derive(Debug)]
struct Destination {
    prefix: Prefix,
    /// Ours, if we originate it.
    local: Option<Arc<Attributes>>,
    paths: Vec<Path>,
    best: Option<Best>,
    /// What the kernel was told last.
    installed: NextHops,
    /// What the kernel should have.
    next_hops: NextHops,
    /// The kernel must be told even if nothing changed: a next hop of its route was lost.
    retell: bool,
    /// How many peers have it in their adj-rib-out.
    sent_to: usize,
}

#[derive(Debug)]
struct Path {
    peer: PeerId,
    attributes: Arc<Attributes>,
    verdict: Result<(), Refusal>,
    freshness: Freshness,
}

/// Whether a path is vouched for by a session that is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Freshness {
    /// It is.
    Fresh,
    /// Its peer is restarting (RFC 4724): as good as a fresh one.
    Stale,
    /// The link to its peer went down: better than nothing.
    LinkDown,
}

impl Freshness {
    fn standing(self) -> Standing {
        match self {
            Freshness::Fresh | Freshness::Stale => Standing::Good,
            Freshness::LinkDown => Standing::LastResort,
        }
    }
}

/// The best path, as export needs it.
#[derive(Debug, Clone)]
pub(crate) struct Best {
    pub(crate) peer: Option<PeerId>,
    pub(crate) provenance: Provenance,
    pub(crate) attributes: Arc<Attributes>,
}

impl PartialEq for Best {
    fn eq(&self, other: &Best) -> bool {
        self.peer == other.peer && Arc::ptr_eq(&self.attributes, &other.attributes)
    }
}

/// One peer as the tables see it, from its first session until it is removed.
#[derive(Debug)]
struct PeerTables {
    kind: PeerKind,
    address: IpAddr,
    /// Of the last session; its stale routes still need it.
    router_id: Option<RouterId>,
    policy: PeerPolicy,
    max_prefixes: usize,
    route_refresh: Agreed,
    /// Destinations with a path of this peer.
    told: BTreeSet<DestId>,
    counts: BTreeMap<Family, InCounts>,
    /// How many accepted routes use a next hop.
    next_hops: BTreeMap<IpAddr, usize>,
    out: Option<AdjOut>,
}

impl PeerTables {
    /// A fifth below the limit, so that a peer at its edge is not asked again and again.
    fn has_room(&self, counts: &InCounts) -> bool {
        counts.accepted < self.max_prefixes - self.max_prefixes / 5
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct InCounts {
    accepted: usize,
    refused: usize,
    /// Of the refused: only for want of room.
    over_limit: usize,
    /// Told, and not even kept.
    dropped: usize,
    /// Of the dropped: only for want of room.
    missed: usize,
    /// What was logged of the limit.
    warned: Reached,
}

/// How much of its limit a peer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Reached {
    /// Less than 70 %.
    #[default]
    Little,
    /// More, and nothing to tell of.
    Much,
    /// 80 %.
    Near,
    /// All, and it told more.
    All,
}

impl InCounts {
    fn reached(&self, limit: usize) -> Reached {
        if self.accepted >= limit && self.over_limit + self.missed > 0 {
            Reached::All
        } else if self.accepted > 0 && self.accepted >= limit - limit / 5 {
            Reached::Near
        } else if self.accepted.saturating_mul(10) < limit.saturating_mul(7) {
            Reached::Little
        } else {
            Reached::Much
        }
    }

    /// A path that is kept came (1) or went (-1).
    fn count(&mut self, verdict: Result<(), Refusal>, by: isize) {
        let counter = if verdict.is_ok() { &mut self.accepted } else { &mut self.refused };
        *counter = counter.saturating_add_signed(by);
        if verdict == Err(Refusal::OverMaxPrefixes) {
            self.over_limit = self.over_limit.saturating_add_signed(by);
        }
    }

    /// The peer told a path that is not kept.
    fn drop_path(&mut self, verdict: Result<(), Refusal>) {
        self.dropped += 1;
        self.missed += usize::from(verdict == Err(Refusal::OverMaxPrefixes));
    }

    /// The peer took a path back that is not kept.
    fn forget_dropped(&mut self) {
        self.dropped = self.dropped.saturating_sub(1);
        self.missed = self.missed.min(self.dropped);
    }
}

/// What a peer must do next, beyond being sent routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AskAgain {
    pub(crate) peer: PeerId,
    pub(crate) family: Family,
}

/// All tables.
#[derive(Debug)]
pub(crate) struct Rib {
    view: View,
    max_paths: usize,
    attributes: Interner<Attributes>,
    next_hops: Interner<BTreeSet<IpAddr>>,
    index: HashMap<Prefix, DestId>,
    destinations: Vec<Destination>,
    free: Vec<DestId>,
    peers: BTreeMap<PeerId, PeerTables>,
    undecided: BTreeSet<DestId>,
    /// Destinations whose kernel route may be out of date.
    kernel: BTreeMap<Family, BTreeSet<DestId>>,
    /// Families for which routes are not yet chosen (RFC 4724 section 4.1).
    deferring: BTreeSet<Family>,
    ask_again: Vec<AskAgain>,
    /// How often a path that a peer told was refused; one that is judged again is not told again.
    refusals: BTreeMap<Refusal, u64>,
}

impl Rib {
    pub(crate) fn new(wanted: &Wanted) -> Rib {
        let mut rib = Rib {
            view: View::of(wanted),
            max_paths: wanted.router.max_paths,
            attributes: Interner::default(),
            next_hops: Interner::default(),
            index: HashMap::new(),
            destinations: Vec::new(),
            free: Vec::new(),
            peers: BTreeMap::new(),
            undecided: BTreeSet::new(),
            kernel: BTreeMap::new(),
            deferring: BTreeSet::new(),
            ask_again: Vec::new(),
            refusals: BTreeMap::new(),
        };
        rib.set_originated(wanted);
        rib
    }

    /// Takes over what the operator wants now: own prefixes, and the yardstick of the import policy.
    pub(crate) fn apply(&mut self, wanted: &Wanted) {
        self.set_originated(wanted);
        let view = View::of(wanted);
        if view == self.view && self.max_paths == wanted.router.max_paths {
            return;
        }
        self.view = view;
        self.max_paths = wanted.router.max_paths;
        let peers: Vec<PeerId> = self.peers.keys().copied().collect();
        peers.into_iter().for_each(|peer| self.policy_changed(peer));
        // Our own addresses may have changed, and they are the next hops that we tell.
        self.advertise_again();
    }

    fn set_originated(&mut self, wanted: &Wanted) {
        let gone: Vec<DestId> = self
            .live()
            .filter(|(_, dest)| dest.local.is_some() && !wanted.originated.contains_key(&dest.prefix))
            .map(|(id, _)| id)
            .collect();
        for id in gone {
            self.dest_mut(id).local = None;
            self.undecided.insert(id);
        }
        for prefix in wanted.originated.keys() {
            let id = self.dest_id(*prefix);
            if self.dest(id).local.is_none() {
                let unspecified = match prefix.family() {
                    Family::Ipv4 => IpAddr::from([0; 4]),
                    Family::Ipv6 => IpAddr::from([0; 16]),
                };
                let attributes = self.attributes.intern(Attributes::originated(unspecified));
                self.dest_mut(id).local = Some(attributes);
                self.undecided.insert(id);
            }
        }
    }

    // --- peers -------------------------------------------------------------------------------------

    /// A session came up: from now on the peer is told our routes.
    pub(crate) fn peer_up(&mut self, peer: PeerId, up: PeerUp<'_>) {
        let tables = self.peers.entry(peer).or_insert_with(|| PeerTables {
            kind: up.session.kind,
            address: up.address,
            router_id: None,
            policy: up.policy,
            max_prefixes: up.max_prefixes,
            route_refresh: Agreed::No,
            told: BTreeSet::new(),
            counts: BTreeMap::new(),
            next_hops: BTreeMap::new(),
            out: None,
        });
        tables.kind = up.session.kind;
        tables.router_id = Some(up.session.peer_id);
        tables.policy = up.policy;
        tables.max_prefixes = up.max_prefixes;
        tables.route_refresh = up.session.route_refresh;
        let tells = Tells::of(tables.kind, up.policy.export);
        tables.out = Some(AdjOut::new(up.local, tells, &up.session.families));
        for counts in tables.counts.values_mut() {
            (counts.dropped, counts.missed) = (0, 0);
        }
        // The stale paths of a peer that came back may rank differently under a new identifier.
        let told = tables.told.clone();
        self.undecided.extend(told);
        let all: Vec<DestId> = self.live().map(|(id, _)| id).collect();
        if let Some(out) = self.out_mut(peer) {
            out.dirty.extend(all);
        }
    }

    /// The session is gone; its routes of `kept` stay as stale ones, all others are forgotten.
    pub(crate) fn peer_down(&mut self, peer: PeerId, kept: &BTreeSet<Family>) {
        self.forget_sent(peer);
        let lost = self.lost_with(peer, kept);
        let Some(tables) = self.peers.get(&peer) else { return };
        for id in tables.told.clone() {
            self.tell_kernel_again(id, &lost);
            if kept.contains(&self.dest(id).prefix.family()) {
                self.mark_stale(id, peer);
            } else {
                self.set_path(id, peer, None);
            }
        }
        self.warn_of_limit(peer);
    }

    /// The kernel does not use the next hops of `lost` until it is told of them anew: so it must be, even if
    /// they are back before it hears that they were away.
    fn tell_kernel_again(&mut self, id: DestId, lost: &BTreeSet<IpAddr>) {
        let dest = &mut self.destinations[id.0 as usize];
        if !dest.installed.is_disjoint(lost) {
            dest.retell = true;
            self.kernel.entry(dest.prefix.family()).or_default().insert(id);
        }
    }

    /// The peer is not wanted any more.
    pub(crate) fn peer_removed(&mut self, peer: PeerId) {
        self.peer_down(peer, &BTreeSet::new());
        self.settle();
        self.peers.remove(&peer);
    }

    /// Its policy or limit changed; the session stays.
    pub(crate) fn set_policy(&mut self, peer: PeerId, policy: PeerPolicy, max_prefixes: usize) {
        let Some(tables) = self.peers.get_mut(&peer) else { return };
        let kind = tables.kind;
        let before = std::mem::replace(&mut tables.policy, policy);
        let limit_before = std::mem::replace(&mut tables.max_prefixes, max_prefixes);
        if before.import != policy.import || limit_before != max_prefixes {
            self.policy_changed(peer);
        }
        if before.export != policy.export {
            let tells = Tells::of(kind, policy.export);
            if let Some(out) = self.out_mut(peer) {
                out.tells = tells;
            }
            self.advertise_again_to(peer);
        }
    }

    /// The link to the peer went down: what it told before stays, as a last resort.
    pub(crate) fn doubt(&mut self, peer: PeerId) {
        let told = self.peers.get(&peer).map(|tables| tables.told.clone()).unwrap_or_default();
        for id in told {
            self.set_freshness(id, peer, Freshness::LinkDown);
            self.undecided.insert(id);
        }
    }

    /// Forgets the stale routes of one family: End-of-RIB has come, or time is up.
    pub(crate) fn sweep_stale(&mut self, peer: PeerId, family: Family) {
        let Some(tables) = self.peers.get(&peer) else { return };
        for id in tables.told.clone() {
            let dest = self.dest(id);
            let stale = dest.paths.iter().any(|path| path.peer == peer && path.freshness != Freshness::Fresh);
            if dest.prefix.family() == family && stale {
                self.set_path(id, peer, None);
            }
        }
        self.use_room(peer);
    }

    /// The next hops that are lost with the session of `peer`: those of families that are not kept for it,
    /// and that no other peer vouches for, be it one that is restarting.
    pub(crate) fn lost_with(&self, peer: PeerId, kept: &BTreeSet<Family>) -> BTreeSet<IpAddr> {
        let Some(tables) = self.peers.get(&peer) else { return BTreeSet::new() };
        let is_vouched_for = |next_hop: &IpAddr| {
            let mut others = self.peers.iter().filter(|(other, _)| **other != peer);
            others.any(|(_, tables)| tables.next_hops.contains_key(next_hop))
        };
        let own = tables.next_hops.keys().filter(|next_hop| !kept.contains(&Family::of(**next_hop)));
        own.filter(|next_hop| !is_vouched_for(next_hop)).copied().collect()
    }

    // --- adj-rib-in --------------------------------------------------------------------------------

    /// The peer told these prefixes with these attributes.
    pub(crate) fn learn(&mut self, peer: PeerId, prefixes: &[Prefix], attributes: Attributes) {
        let attributes = self.attributes.intern(attributes);
        for prefix in prefixes {
            let id = self.dest_id(*prefix);
            self.set_path(id, peer, None);
            let verdict = self.verdict(peer, prefix, &attributes);
            if let Some(Err(refusal)) = verdict {
                *self.refusals.entry(refusal).or_default() += 1;
            }
            match verdict.and_then(|verdict| self.admit(peer, prefix, verdict)) {
                Some(verdict) => {
                    let path = Path {
                        peer,
                        attributes: Arc::clone(&attributes),
                        verdict,
                        freshness: Freshness::Fresh,
                    };
                    self.set_path(id, peer, Some(path));
                }
                None => self.release(id),
            }
        }
        self.warn_of_limit(peer);
    }

    /// The peer took these prefixes back.
    pub(crate) fn unlearn(&mut self, peer: PeerId, prefixes: &[Prefix]) {
        for prefix in prefixes {
            match self.index.get(prefix).copied() {
                Some(id) if self.dest(id).paths.iter().any(|path| path.peer == peer) => {
                    self.set_path(id, peer, None);
                }
                _ => {
                    if let Some(counts) = self.counts_mut(peer, prefix.family()) {
                        counts.forget_dropped();
                    }
                }
            }
        }
        self.use_room(peer);
    }

    /// What is thought of a new path; `None`: nobody knows the peer.
    fn verdict(&self, peer: PeerId, prefix: &Prefix, attributes: &Attributes) -> Option<Result<(), Refusal>> {
        let tables = self.peers.get(&peer)?;
        let accepted = tables.counts.get(&prefix.family()).map_or(0, |counts| counts.accepted);
        let verdict = judge(prefix, attributes, tables.address, tables.policy.import, &self.view);
        let has_place = accepted < tables.max_prefixes;
        Some(if has_place { verdict } else { verdict.and(Err(Refusal::OverMaxPrefixes)) })
    }

    /// The verdict over a new path, `None` if it is not even kept: a peer that tells a million routes
    /// that we refuse shall not fill our memory either.
    fn admit(
        &mut self,
        peer: PeerId,
        prefix: &Prefix,
        verdict: Result<(), Refusal>,
    ) -> Option<Result<(), Refusal>> {
        let tables = self.peers.get(&peer)?;
        let refused = tables.counts.get(&prefix.family()).map_or(0, |counts| counts.refused);
        if verdict.is_err() && refused >= tables.max_prefixes {
            self.counts_mut(peer, prefix.family())?.drop_path(verdict);
            return None;
        }
        Some(verdict)
    }

    /// Near the limit and at it: once each, until the peer has fallen below 70 % of it. So one that stays at a
    /// mark is warned of once. Called when counts are as they will stay: a route that is told or judged again
    /// is out for a moment.
    fn warn_of_limit(&mut self, peer: PeerId) {
        let Some(tables) = self.peers.get_mut(&peer) else { return };
        let (address, limit) = (tables.address, tables.max_prefixes);
        for (family, counts) in &mut tables.counts {
            let reached = counts.reached(limit);
            if reached == Reached::Little {
                counts.warned = Reached::Little;
            }
            if reached <= counts.warned {
                continue;
            }
            counts.warned = reached;
            match reached {
                Reached::Little | Reached::Much => {}
                Reached::Near => {
                    tracing::warn!(peer = %address, family = %family, limit, "80 % of max-prefix are reached");
                }
                Reached::All => {
                    tracing::warn!(peer = %address, family = %family, limit, "max-prefix is reached: more are refused");
                }
            }
        }
    }

    /// How often a path that a peer told was refused, since the start.
    pub(crate) fn refusals(&self) -> &BTreeMap<Refusal, u64> {
        &self.refusals
    }

    fn counts_mut(&mut self, peer: PeerId, family: Family) -> Option<&mut InCounts> {
        Some(self.peers.get_mut(&peer)?.counts.entry(family).or_default())
    }

    /// When there is room again for what was over the limit: what was kept is judged once more, and for
    /// what was not the peer is asked.
    fn use_room(&mut self, peer: PeerId) {
        let Some(tables) = self.peers.get(&peer) else { return };
        let waits = |counts: &InCounts| counts.over_limit > 0 && tables.has_room(counts);
        if tables.counts.values().any(waits) {
            self.judge_again(peer);
        }
        self.ask_for_dropped(peer, |counts| counts.missed > 0);
        self.warn_of_limit(peer);
    }

    /// Asks the peer to tell all of a family once more, where there is room and `worth` asking.
    fn ask_for_dropped(&mut self, peer: PeerId, worth: impl Fn(&InCounts) -> bool) {
        let Some(tables) = self.peers.get_mut(&peer) else { return };
        if tables.route_refresh == Agreed::No {
            return;
        }
        let asked = |(_, counts): &(&Family, &InCounts)| worth(counts) && tables.has_room(counts);
        let families: Vec<Family> = tables.counts.iter().filter(asked).map(|(family, _)| *family).collect();
        for family in families {
            let counts = tables.counts.entry(family).or_default();
            (counts.dropped, counts.missed) = (0, 0);
            self.ask_again.push(AskAgain { peer, family });
        }
    }

    /// The one place where a path comes, changes or goes, so that all counts and marks agree.
    fn set_path(&mut self, id: DestId, peer: PeerId, path: Option<Path>) {
        let dest = &mut self.destinations[id.0 as usize];
        let family = dest.prefix.family();
        let Some(tables) = self.peers.get_mut(&peer) else { return };
        let counts = tables.counts.entry(family).or_default();
        if let Some(at) = dest.paths.iter().position(|path| path.peer == peer) {
            let old = dest.paths.swap_remove(at);
            tables.told.remove(&id);
            counts.count(old.verdict, -1);
            if old.verdict.is_ok() {
                release_next_hop(&mut tables.next_hops, old.attributes.next_hop);
            }
            self.undecided.insert(id);
        }
        if let Some(path) = path {
            counts.count(path.verdict, 1);
            if path.verdict.is_ok() {
                *tables.next_hops.entry(path.attributes.next_hop).or_default() += 1;
            }
            tables.told.insert(id);
            if dest.paths.is_empty() {
                // Most have one path, and a vector begins with room for four.
                dest.paths.reserve_exact(1);
            }
            dest.paths.push(path);
            self.undecided.insert(id);
        }
    }

    /// A path over a link that was lost is no better for a second loss.
    fn mark_stale(&mut self, id: DestId, peer: PeerId) {
        let paths = self.dest_mut(id).paths.iter_mut();
        for path in paths.filter(|path| path.peer == peer && path.freshness == Freshness::Fresh) {
            path.freshness = Freshness::Stale;
        }
    }

    fn set_freshness(&mut self, id: DestId, peer: PeerId, freshness: Freshness) {
        let dest = self.dest_mut(id);
        for path in dest.paths.iter_mut().filter(|path| path.peer == peer) {
            path.freshness = freshness;
        }
    }

    /// What the import policy looks at has changed.
    fn policy_changed(&mut self, peer: PeerId) {
        self.judge_again(peer);
        self.ask_for_dropped(peer, |counts| counts.dropped > 0);
    }

    /// All out and in again, those that were accepted first: none loses its place to one that was refused.
    /// Among them a limit hits the last ones of the table, where prefixes stand about as they came: one may
    /// have taken the place of another that is gone.
    fn judge_again(&mut self, peer: PeerId) {
        let told = self.peers.get(&peer).map(|tables| tables.told.clone()).unwrap_or_default();
        let path_to = |id: DestId| {
            let path = self.dest(id).paths.iter().find(|path| path.peer == peer)?;
            Some((id, path.verdict, path.freshness, Arc::clone(&path.attributes)))
        };
        let (accepted, refused): (Vec<_>, Vec<_>) =
            told.into_iter().filter_map(path_to).partition(|(_, verdict, ..)| verdict.is_ok());
        for (id, ..) in accepted.iter().chain(&refused) {
            self.set_path(*id, peer, None);
        }
        for (id, _, freshness, attributes) in accepted.into_iter().chain(refused) {
            let prefix = self.dest(id).prefix;
            let verdict = self.verdict(peer, &prefix, &attributes);
            if let Some(verdict) = verdict.and_then(|verdict| self.admit(peer, &prefix, verdict)) {
                self.set_path(id, peer, Some(Path { peer, attributes, verdict, freshness }));
            }
        }
        self.warn_of_limit(peer);
    }

    // --- decision ----------------------------------------------------------------------------------

    /// Decides every destination that changed, and marks who must hear of it.
    pub(crate) fn settle(&mut self) {
        for id in std::mem::take(&mut self.undecided) {
            let (best, next_hops) = self.decided(id);
            let next_hops = self.next_hops.intern(next_hops);
            let dest = &mut self.destinations[id.0 as usize];
            let family = dest.prefix.family();
            if dest.next_hops != next_hops {
                dest.next_hops = next_hops;
                self.kernel.entry(family).or_default().insert(id);
            }
            if dest.best != best {
                dest.best = best;
                self.peers.values_mut().filter_map(|tables| tables.out.as_mut()).for_each(|out| {
                    out.dirty.insert(id);
                });
            }
            self.release(id);
        }
    }

    fn decided(&self, id: DestId) -> (Option<Best>, BTreeSet<IpAddr>) {
        let dest = self.dest(id);
        let (candidates, owners) = self.candidates(dest);
        let Some(decision) = decide(&candidates, self.max_paths) else {
            return (None, BTreeSet::new());
        };
        let best = owners[decision.best].map_or_else(
            || dest.local.clone().map(|attributes| (None, Provenance::Local, attributes)),
            |at| {
                let path = &dest.paths[at];
                let kind = self.peers.get(&path.peer)?.kind;
                Some((Some(path.peer), Provenance::Learned(kind), Arc::clone(&path.attributes)))
            },
        );
        let best = best.map(|(peer, provenance, attributes)| Best { peer, provenance, attributes });
        let used = decision.used.iter().filter(|_| owners[decision.best].is_some());
        let next_hops = used.map(|&index| candidates[index].attributes.next_hop).collect();
        (best, next_hops)
    }

    /// The usable paths, and for each its place in `dest.paths`, `None` for our own.
    fn candidates<'a>(&self, dest: &'a Destination) -> (Vec<Candidate<'a>>, Vec<Option<usize>>) {
        let local = dest.local.as_deref().map(|attributes| Candidate {
            attributes,
            standing: Standing::Good,
            from: Teller::Local,
        });
        let mut candidates: Vec<Candidate<'a>> = local.into_iter().collect();
        let mut owners = vec![None; candidates.len()];
        for (at, path) in dest.paths.iter().enumerate().filter(|(_, path)| path.verdict.is_ok()) {
            let Some(tables) = self.peers.get(&path.peer) else { continue };
            let Some(router_id) = tables.router_id else { continue };
            let from = Teller::Peer { kind: tables.kind, router_id, address: tables.address };
            let standing = path.freshness.standing();
            candidates.push(Candidate { attributes: &path.attributes, standing, from });
            owners.push(Some(at));
        }
        (candidates, owners)
    }

    // --- kernel ------------------------------------------------------------------------------------

    /// The next route that the kernel should hear of; the latest state, however often it changed.
    pub(crate) fn poll_route_change(&mut self) -> Option<RouteChange> {
        loop {
            let (_, pending) = self
                .kernel
                .iter_mut()
                .find(|(family, set)| !set.is_empty() && !self.deferring.contains(family))?;
            let id = pending.pop_first()?;
            let dest = &mut self.destinations[id.0 as usize];
            if std::mem::take(&mut dest.retell) || dest.installed != dest.next_hops {
                dest.installed = Arc::clone(&dest.next_hops);
                let change = RouteChange::of(dest);
                self.release(id);
                return Some(change);
            }
            self.release(id);
        }
    }

    /// What the kernel was told and still should have.
    pub(crate) fn told_kernel(&self) -> Vec<RouteChange> {
        let told = self.live().filter(|(_, dest)| !dest.installed.is_empty());
        told.map(|(_, dest)| RouteChange::of(dest)).collect()
    }

    /// No route of `family` is chosen until [`Rib::stop_deferring`].
    pub(crate) fn defer(&mut self, family: Family) {
        self.deferring.insert(family);
    }

    /// Chooses the routes of `family` and tells them.
    pub(crate) fn stop_deferring(&mut self, family: Family) {
        if self.deferring.remove(&family) {
            self.advertise_again();
        }
    }

    pub(crate) fn take_ask_again(&mut self) -> Vec<AskAgain> {
        std::mem::take(&mut self.ask_again)
    }

    // --- destinations ------------------------------------------------------------------------------

    fn dest(&self, id: DestId) -> &Destination {
        &self.destinations[id.0 as usize]
    }

    fn dest_mut(&mut self, id: DestId) -> &mut Destination {
        &mut self.destinations[id.0 as usize]
    }

    fn out_mut(&mut self, peer: PeerId) -> Option<&mut AdjOut> {
        self.peers.get_mut(&peer)?.out.as_mut()
    }

    /// Destinations that stand for a prefix now.
    fn live(&self) -> impl Iterator<Item = (DestId, &Destination)> {
        self.index.values().map(|id| (*id, self.dest(*id)))
    }

    fn dest_id(&mut self, prefix: Prefix) -> DestId {
        if let Some(id) = self.index.get(&prefix) {
            return *id;
        }
        let nowhere = self.next_hops.intern(BTreeSet::new());
        let dest = Destination {
            prefix,
            local: None,
            paths: Vec::new(),
            best: None,
            installed: Arc::clone(&nowhere),
            next_hops: nowhere,
            retell: false,
            sent_to: 0,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.destinations[id.0 as usize] = dest;
                id
            }
            None => {
                self.destinations.push(dest);
                DestId((self.destinations.len() - 1) as u32)
            }
        };
        self.index.insert(prefix, id);
        id
    }

    /// Forgets a destination that nobody knows any more.
    fn release(&mut self, id: DestId) {
        let dest = self.dest(id);
        let in_use = dest.local.is_some()
            || !dest.paths.is_empty()
            || dest.best.is_some()
            || !dest.installed.is_empty()
            || dest.sent_to > 0
            || self.undecided.contains(&id);
        if !in_use && self.index.get(&dest.prefix) == Some(&id) {
            let prefix = dest.prefix;
            self.index.remove(&prefix);
            for pending in self.kernel.values_mut() {
                pending.remove(&id);
            }
            self.free.push(id);
        }
    }
}

/// What the tables must know of a session that came up.
pub(crate) struct PeerUp<'a> {
    pub(crate) session: &'a Session,
    pub(crate) address: IpAddr,
    pub(crate) local: IpAddr,
    pub(crate) policy: PeerPolicy,
    pub(crate) max_prefixes: usize,
}

fn release_next_hop(next_hops: &mut BTreeMap<IpAddr, usize>, next_hop: IpAddr) {
    if let Some(count) = next_hops.get_mut(&next_hop) {
        *count -= 1;
        if *count == 0 {
            next_hops.remove(&next_hop);
        }
    }
}
