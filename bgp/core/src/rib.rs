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
mod aggregates;
mod counts;
pub(crate) mod decision;
mod listing;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::attributes::{AttributeSet, AttributeTable, Attributes};
use crate::config::{Originated, PeerConfig, PeerPolicy, Stages, Wanted};
use crate::interner::Interner;
use crate::monitor::Change;
use crate::policy::filter::{Direction, Provenance};
use crate::policy::{Judged, Refusal, Terms, Told, View, judge};
use crate::prefix::{Family, Prefix};
use crate::session::{Agreed, Session};
use crate::types::{Asn, Community, PathId, PeerId, PeerKind, RouterId, ScopedAddress};
use crate::wire::Nlri;
use crate::wire::bmp::Policy;

use adj_out::{AdjOut, Tells};
use aggregates::Aggregates;
use counts::InCounts;
pub(crate) use counts::Reached;
pub use decision::Reason;
use decision::{Candidate, Standing, Teller, decide};
pub use listing::{Counts, ExportInfo, Part, PathInfo, RouteInfo, Verdict};

/// Paths that a peer may tell to one prefix (RFC 7911): no fabric is so wide. Each more is refused and not kept.
const MOST_PATHS: usize = 64;

/// Index of a destination; used again when its prefix is forgotten by everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct DestId(u32);

/// What the kernel should do with one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteChange {
    /// Which.
    pub prefix: Prefix,
    /// Over these gateways; empty: no learned route any more.
    pub next_hops: BTreeSet<ScopedAddress>,
}

impl RouteChange {
    /// To what the kernel is told to have.
    fn of(dest: &Destination) -> RouteChange {
        RouteChange { prefix: dest.prefix, next_hops: BTreeSet::clone(&dest.installed) }
    }
}

/// Gateways of a route; thousands of routes have the same.
type NextHops = Arc<BTreeSet<ScopedAddress>>;

#[derive(Debug)]
struct Destination {
    prefix: Prefix,
    /// Ours, if we originate it.
    local: Option<Local>,
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

impl Destination {
    /// A name that no path has: the lowest.
    fn free_name(&self) -> PathId {
        let first = PathId::OWN.0 + 1;
        // One of so many is free.
        let mut taken = vec![false; self.paths.len() + 1];
        for path in &self.paths {
            let at = path.told_as.0.checked_sub(first).and_then(|at| usize::try_from(at).ok());
            at.and_then(|at| taken.get_mut(at)).into_iter().for_each(|taken| *taken = true);
        }
        PathId((first..).zip(taken).find(|(_, taken)| !taken).map_or(first, |(name, _)| name))
    }
}

/// A route of our own; thousands of prefixes have the same.
#[derive(Debug, Clone)]
struct Local {
    originated: Arc<Originated>,
    /// Before anything is offered to anybody.
    attributes: Arc<AttributeSet>,
}

#[derive(Debug)]
struct Path {
    from: PathKey,
    /// What it is called towards those who are told of several paths: no other of its destination has the same name, and
    /// it keeps it as long as its teller does.
    told_as: PathId,
    /// As the peer told it.
    attributes: Arc<AttributeSet>,
    /// With what it is used, where a filter has changed that.
    changed: Option<Arc<AttributeSet>>,
    verdict: Result<(), Refusal>,
    freshness: Freshness,
}

impl Path {
    /// With what it is used.
    fn used(&self) -> &Arc<AttributeSet> {
        self.changed.as_ref().unwrap_or(&self.attributes)
    }
}

/// Who told a path, and which of several. There is one path with a key to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct PathKey {
    peer: PeerId,
    path_id: PathId,
}

/// Whether a path is vouched for by a session that is up; the later, the less it is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Freshness {
    /// It is.
    Fresh,
    /// Its peer is restarting (RFC 4724): as good as a fresh one.
    Stale,
    /// Its peer was not heard of for the hold time, and keeps its routes over that (RFC 8538): better than nothing.
    ///
    /// Deviation: RFC 4724 section 4.2 would not tell it from a fresh one. But where there is another way, a switch that
    /// says nothing need not be relied on.
    Silent,
    /// The link to its peer went down: better than nothing.
    LinkDown,
}

impl Path {
    fn standing(&self) -> Standing {
        // RFC 9494 section 4.3: so marked by us, or by who told it.
        if self.attributes.has_community(Community::LLGR_STALE) {
            return Standing::LongLivedStale;
        }
        match self.freshness {
            Freshness::Fresh | Freshness::Stale => Standing::Good,
            Freshness::Silent => Standing::Silent,
            Freshness::LinkDown => Standing::LinkDown,
        }
    }
}

/// The best path, as export needs it.
#[derive(Debug, Clone)]
pub(crate) struct Best {
    pub(crate) peer: Option<PeerId>,
    pub(crate) provenance: Provenance,
    pub(crate) attributes: Arc<AttributeSet>,
    /// Who is offered it, if it is our own.
    pub(crate) originated: Option<Arc<Originated>>,
}

impl PartialEq for Best {
    fn eq(&self, other: &Best) -> bool {
        let offers = |best: &Best| best.originated.as_ref().map(Arc::as_ptr);
        self.peer == other.peer
            && Arc::ptr_eq(&self.attributes, &other.attributes)
            && offers(self) == offers(other)
    }
}

/// One peer as the tables see it, from its first session until it is removed.
#[derive(Debug)]
struct PeerTables {
    /// As those know it who offer it routes.
    name: String,
    kind: PeerKind,
    address: ScopedAddress,
    /// Its AS and identifier in the last session; its stale routes still need them.
    asn: Asn,
    router_id: RouterId,
    terms: Terms,
    policy: PeerPolicy,
    max_prefixes: usize,
    warn_at_percent: u8,
    route_refresh: Agreed,
    /// Whether long-lived stale routes may be told to it.
    long_lived: Agreed,
    /// What it has not told again since it began to tell a family anew (RFC 7313).
    not_told_again: BTreeMap<Family, BTreeSet<(DestId, PathId)>>,
    /// Destinations with a path of this peer.
    told: BTreeSet<DestId>,
    counts: BTreeMap<Family, InCounts>,
    /// How many accepted routes of a family use a next hop, which may be of the other one (RFC 8950).
    next_hops: BTreeMap<(ScopedAddress, Family), usize>,
    out: Option<AdjOut>,
}

impl PeerTables {
    fn told<'a>(&'a self, prefix: &'a Prefix, attributes: &'a Attributes) -> Told<'a> {
        let PeerTables { address: from, name, asn, kind, terms, .. } = self;
        Told { prefix, attributes, from, name, asn: *asn, kind: *kind, terms }
    }

    /// Whether its accepted routes of one of these families use `next_hop`.
    fn uses(&self, next_hop: &ScopedAddress, families: impl IntoIterator<Item = Family>) -> bool {
        families.into_iter().any(|family| self.next_hops.contains_key(&(next_hop.clone(), family)))
    }

    /// A fifth below the limit, so that a peer at its edge is not asked again and again.
    fn has_room(&self, counts: &InCounts) -> bool {
        counts.accepted < self.max_prefixes - self.max_prefixes / 5
    }
}

/// A peer has come to a mark of its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AtLimit {
    pub(crate) peer: PeerId,
    pub(crate) family: Family,
    pub(crate) reached: Reached,
    pub(crate) limit: usize,
    pub(crate) percent: u8,
}

/// A peer that should tell all of a family again: some of what was not kept might be used now.
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
    pub(crate) attributes: AttributeTable,
    originated: Interner<Originated>,
    next_hops: Interner<BTreeSet<ScopedAddress>>,
    index: HashMap<Prefix, DestId>,
    destinations: Vec<Destination>,
    free: Vec<DestId>,
    peers: BTreeMap<PeerId, PeerTables>,
    undecided: BTreeSet<DestId>,
    /// Destinations whose kernel route may be out of date.
    kernel: BTreeMap<Family, BTreeSet<DestId>>,
    /// Families for which routes are not yet chosen (RFC 4724 section 4.1).
    deferring: BTreeSet<Family>,
    /// Peers that are told of several paths to a prefix of some family.
    told_several: BTreeSet<PeerId>,
    /// Peers that may have to hear of something since the caller asked last.
    roused: BTreeSet<PeerId>,
    ask_again: Vec<AskAgain>,
    at_limit: Vec<AtLimit>,
    /// Which of our own prefixes stand for which others.
    aggregates: Aggregates,
    /// How far the draining of our own routes is.
    draining: Stages,
    /// What is other than before, while somebody looks.
    changes: Option<Vec<Change>>,
    /// How often a path that a peer told was refused; one that is judged again is not told again.
    refusals: BTreeMap<Refusal, u64>,
}

impl Rib {
    pub(crate) fn new(wanted: &Wanted) -> Rib {
        let mut rib = Rib {
            view: View::of(wanted),
            max_paths: wanted.router.max_paths,
            attributes: AttributeTable::default(),
            originated: Interner::default(),
            next_hops: Interner::default(),
            index: HashMap::new(),
            destinations: Vec::new(),
            free: Vec::new(),
            peers: BTreeMap::new(),
            undecided: BTreeSet::new(),
            kernel: BTreeMap::new(),
            deferring: BTreeSet::new(),
            told_several: BTreeSet::new(),
            roused: BTreeSet::new(),
            ask_again: Vec::new(),
            at_limit: Vec::new(),
            aggregates: Aggregates::default(),
            draining: Stages::default(),
            changes: None,
            refusals: BTreeMap::new(),
        };
        rib.set_originated(wanted);
        rib
    }

    /// Takes over what the operator wants now: own prefixes, and the yardstick of the import policy.
    pub(crate) fn apply(&mut self, wanted: &Wanted) {
        self.set_originated(wanted);
        if std::mem::replace(&mut self.max_paths, wanted.router.max_paths) != wanted.router.max_paths {
            self.undecided = self.live().map(|(id, _)| id).collect();
        }
        let view = View::of(wanted);
        if view == self.view {
            return;
        }
        let before = std::mem::replace(&mut self.view, view);
        let peers: Vec<PeerId> = self.peers.keys().copied().collect();
        for peer in peers {
            self.judge_again(peer, &Family::ALL.into());
            if self.view.may_admit_more_than(&before) {
                self.ask_for_dropped(peer, |_, counts| counts.dropped > 0);
            }
        }
        if self.view.tells_otherwise_than(&before) {
            self.advertise_again();
        }
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
        for (prefix, originated) in &wanted.originated {
            let id = self.dest_id(*prefix);
            let before = self.dest(id).local.as_ref();
            if before.is_some_and(|local| *local.originated == *originated) {
                continue;
            }
            let unspecified = match prefix.family() {
                Family::Ipv4 => IpAddr::from([0; 4]),
                Family::Ipv6 => IpAddr::from([0; 16]),
            };
            let attributes = self.attributes.intern(Attributes::originated(unspecified));
            let originated = self.originated.intern(originated.clone());
            self.dest_mut(id).local = Some(Local { originated, attributes });
            self.undecided.insert(id);
        }
        let aggregates = Aggregates::among(&wanted.originated);
        if aggregates != self.aggregates {
            self.aggregates = aggregates;
            // What lies in them may have to be told now, or no longer.
            self.advertise_again();
        }
    }

    // --- peers -------------------------------------------------------------------------------------

    /// A session came up: from now on the peer is told our routes.
    pub(crate) fn peer_up(&mut self, peer: PeerId, up: PeerUp<'_>) {
        let tables = self.peers.entry(peer).or_insert_with(|| PeerTables {
            name: up.config.name.clone(),
            kind: up.session.kind,
            address: up.address.clone(),
            asn: up.session.peer_asn,
            router_id: up.session.peer_id,
            terms: Terms::of(up.config),
            policy: up.config.policy.clone(),
            max_prefixes: up.config.max_prefixes,
            warn_at_percent: up.config.warn_at_percent,
            route_refresh: Agreed::No,
            long_lived: Agreed::No,
            not_told_again: BTreeMap::new(),
            told: BTreeSet::new(),
            counts: BTreeMap::new(),
            next_hops: BTreeMap::new(),
            out: None,
        });
        tables.name.clone_from(&up.config.name);
        tables.kind = up.session.kind;
        tables.asn = up.session.peer_asn;
        tables.router_id = up.session.peer_id;
        tables.terms = Terms::of(up.config);
        tables.policy.clone_from(&up.config.policy);
        tables.max_prefixes = up.config.max_prefixes;
        tables.warn_at_percent = up.config.warn_at_percent;
        tables.route_refresh = up.session.route_refresh;
        tables.long_lived = if up.session.peer_long_lived.is_some() { Agreed::Yes } else { Agreed::No };
        let tells = Tells::of(tables.kind, &up.config.policy);
        let local = tables.address.beside(up.local);
        let out = AdjOut::new(local, tells, up.session, up.config);
        if out.tells_several() {
            self.told_several.insert(peer);
        }
        tables.out = Some(out);
        for counts in tables.counts.values_mut() {
            (counts.dropped, counts.missed) = (0, 0);
        }
        // The stale paths of a peer that came back may rank differently under a new identifier.
        let told = tables.told.clone();
        self.undecided.extend(told);
        let all = self.concerning(peer, &Family::ALL.into());
        if let Some(out) = self.out_mut(peer) {
            out.dirty.extend(all);
        }
    }

    /// The session is gone; its routes of `kept` stay as stale ones, all others are forgotten.
    pub(crate) fn peer_down(&mut self, peer: PeerId, kept: &BTreeSet<Family>) {
        self.forget_sent(peer);
        let lost = self.lost_with(peer, kept);
        let Some(tables) = self.peers.get_mut(&peer) else { return };
        tables.not_told_again.clear();
        for id in tables.told.clone() {
            self.tell_kernel_again(id, &lost);
            if kept.contains(&self.dest(id).prefix.family()) {
                self.age(id, peer, Freshness::Stale);
            } else {
                for from in self.paths_of(id, peer) {
                    self.set_path(id, from, None);
                }
            }
        }
        self.warn_of_limit(peer);
    }

    /// The kernel does not use the next hops of `lost` until it is told of them anew: so it must be, even if
    /// they are back before it hears that they were away.
    fn tell_kernel_again(&mut self, id: DestId, lost: &BTreeSet<ScopedAddress>) {
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

    /// Its name, policy or limit changed; the session stays. Only routes that may be judged otherwise now are looked at,
    /// and of these the peer and the kernel hear only what is different.
    pub(crate) fn set_config(&mut self, peer: PeerId, config: &PeerConfig) {
        let Some(tables) = self.peers.get_mut(&peer) else { return };
        let PeerConfig { name, policy, max_prefixes, .. } = config;
        let is_renamed = tables.name != *name;
        let is_other_for_filters = is_renamed && policy.asks_for_peers();
        let all = || BTreeSet::from(Family::ALL);
        let mut import = tables.policy.changed(policy, Direction::Import);
        if tables.max_prefixes != *max_prefixes || is_other_for_filters {
            import = all();
        }
        let mut export = tables.policy.changed(policy, Direction::Export);
        let terms = Terms::of(config);
        let are_other_terms = std::mem::replace(&mut tables.terms, terms) != terms;
        if are_other_terms {
            import = all();
        }
        if is_renamed {
            // Offers know peers by name, too.
            export = all();
        }
        if let Some(out) = &mut tables.out {
            export.extend(out.set_most_paths(config));
        }
        tables.name.clone_from(name);
        tables.policy.clone_from(policy);
        tables.max_prefixes = *max_prefixes;
        tables.warn_at_percent = config.warn_at_percent;
        let tells = Tells::of(tables.kind, policy);
        if let Some(out) = &mut tables.out {
            out.tells = tells;
        }
        self.policy_changed(peer, &import);
        self.advertise_again_to(peer, &export);
        if are_other_terms {
            // What a client tells goes to others than what another peer tells.
            self.advertise_again();
        }
    }

    /// What the peer told before stays, as a last resort.
    pub(crate) fn doubt(&mut self, peer: PeerId, freshness: Freshness) {
        let told = self.peers.get(&peer).map(|tables| tables.told.clone()).unwrap_or_default();
        for id in told {
            self.age(id, peer, freshness);
            self.undecided.insert(id);
        }
    }

    /// The restart time of the peer is over, and its stale routes of one family stay: as the last resort of all, and
    /// marked so for those who are told of them (RFC 9494 section 4.2).
    pub(crate) fn long_lived(&mut self, peer: PeerId, family: Family) {
        for (id, from) in self.stale(peer, family) {
            let dest = &mut self.destinations[id.0 as usize];
            let mut paths = dest.paths.iter_mut();
            let Some(path) = paths.find(|path| path.from == from) else { continue };
            if path.attributes.has_community(Community::NO_LLGR) {
                self.set_path(id, from, None);
                continue;
            }
            for told in std::iter::once(&mut path.attributes).chain(&mut path.changed) {
                let marked = Attributes::clone(told).with_community(Community::LLGR_STALE);
                *told = self.attributes.intern(marked);
            }
            let change = Change::Told(peer, Nlri { prefix: dest.prefix, path_id: from.path_id });
            self.changes.iter_mut().for_each(|changes| changes.push(change));
            self.undecided.insert(id);
        }
        self.use_room(peer);
    }

    /// Forgets the stale routes of one family: End-of-RIB has come, or time is up.
    pub(crate) fn sweep_stale(&mut self, peer: PeerId, family: Family) {
        for (id, from) in self.stale(peer, family) {
            self.set_path(id, from, None);
        }
        self.use_room(peer);
    }

    /// How many routes of one family are kept for a peer that was away, and not told again yet.
    pub(crate) fn stale_routes(&self, peer: PeerId, family: Family) -> usize {
        self.stale(peer, family).len()
    }

    /// What is kept of one family for a peer that was away, and not told again yet.
    fn stale(&self, peer: PeerId, family: Family) -> Vec<(DestId, PathKey)> {
        let is_stale = |path: &&Path| path.from.peer == peer && path.freshness != Freshness::Fresh;
        let told = self.told_of(peer, family);
        told.flat_map(|(id, dest)| dest.paths.iter().filter(is_stale).map(move |path| (id, path.from)))
            .collect()
    }

    /// Destinations of a family with a path of `peer`.
    fn told_of(&self, peer: PeerId, family: Family) -> impl Iterator<Item = (DestId, &Destination)> {
        let told = self.peers.get(&peer).map(|tables| &tables.told).into_iter().flatten();
        told.map(|id| (*id, self.dest(*id))).filter(move |(_, dest)| dest.prefix.family() == family)
    }

    /// The paths to a destination that `peer` told.
    fn paths_of(&self, id: DestId, peer: PeerId) -> Vec<PathKey> {
        let paths = self.dest(id).paths.iter().map(|path| path.from);
        paths.filter(|from| from.peer == peer).collect()
    }

    /// The peer tells all of a family again (RFC 7313 section 4.2).
    pub(crate) fn refresh_begins(&mut self, peer: PeerId, family: Family) {
        let paths = |(id, dest): (DestId, &Destination)| {
            let own = dest.paths.iter().filter(|path| path.from.peer == peer);
            own.map(|path| (id, path.from.path_id)).collect::<Vec<_>>()
        };
        let of_family = self.told_of(peer, family).flat_map(paths).collect();
        let Some(tables) = self.peers.get_mut(&peer) else { return };
        tables.not_told_again.insert(family, of_family);
        // What is not kept is told again, too, and counted anew.
        let counts = tables.counts.entry(family).or_default();
        (counts.dropped, counts.missed) = (0, 0);
    }

    /// It has: what it did not tell is gone.
    pub(crate) fn refresh_ends(&mut self, peer: PeerId, family: Family) {
        let Some(tables) = self.peers.get_mut(&peer) else { return };
        let Some(left) = tables.not_told_again.remove(&family) else { return };
        if !left.is_empty() {
            let (peer, address, routes) = (&tables.name, &tables.address, left.len());
            tracing::info!(%peer, %address, %family, routes, "a refresh left routes out: they go");
        }
        for (id, path_id) in left {
            self.set_path(id, PathKey { peer, path_id }, None);
        }
        self.use_room(peer);
    }

    /// The peer told of a path. Of no family is it still to be told again: a place that a withdrawn prefix left
    /// may be that of a prefix of the other one now.
    fn note_told(&mut self, id: DestId, PathKey { peer, path_id }: PathKey) {
        let Some(tables) = self.peers.get_mut(&peer) else { return };
        for left in tables.not_told_again.values_mut() {
            left.remove(&(id, path_id));
        }
    }

    /// The next hops that are lost with the session of `peer`: those of families that are not kept for it,
    /// and that no other peer vouches for, be it one that is restarting.
    pub(crate) fn lost_with(&self, peer: PeerId, kept: &BTreeSet<Family>) -> BTreeSet<ScopedAddress> {
        let Some(tables) = self.peers.get(&peer) else { return BTreeSet::new() };
        let is_vouched_for = |next_hop: &ScopedAddress| {
            let mut others = self.peers.iter().filter(|(other, _)| **other != peer);
            others.any(|(_, tables)| tables.uses(next_hop, Family::ALL))
        };
        // While routes are held back, forwarding stays as it is (RFC 4724 section 4.1).
        let stays = |family: Family| kept.contains(&family) || self.deferring.contains(&family);
        let staying = Family::ALL.into_iter().filter(|family| stays(*family));
        let own = tables.next_hops.keys().map(|(next_hop, _)| next_hop);
        let own = own.filter(|next_hop| !tables.uses(next_hop, staying.clone()));
        own.filter(|next_hop| !is_vouched_for(next_hop)).cloned().collect()
    }

    // --- adj-rib-in --------------------------------------------------------------------------------

    /// The peer told these routes with these attributes, which are one of [`Rib::attributes`].
    pub(crate) fn learn(&mut self, peer: PeerId, routes: &[Nlri], attributes: &Arc<AttributeSet>) {
        for Nlri { prefix, path_id } in routes {
            let id = self.dest_id(*prefix);
            let from = PathKey { peer, path_id: *path_id };
            self.note_told(id, from);
            let told_as = self.set_path(id, from, None);
            let path = self.judged(id, from, told_as, attributes, Freshness::Fresh);
            if let Some(Path { verdict: Err(refusal), .. }) = path {
                *self.refusals.entry(refusal).or_default() += 1;
            }
            match path.and_then(|path| self.admit(prefix, path)) {
                Some(path) => {
                    self.set_path(id, from, Some(path));
                }
                None => self.release(id),
            }
        }
        self.warn_of_limit(peer);
    }

    /// The peer took these routes back.
    pub(crate) fn unlearn(&mut self, peer: PeerId, routes: &[Nlri]) {
        for Nlri { prefix, path_id } in routes {
            let from = PathKey { peer, path_id: *path_id };
            let id = self.index.get(prefix).copied();
            let known = id.and_then(|id| self.set_path(id, from, None));
            if known.is_none()
                && let Some(counts) = self.counts_mut(peer, prefix.family())
            {
                counts.forget_dropped();
            }
        }
        self.use_room(peer);
    }

    /// A path with what is thought of it; `None`: nobody knows the peer. It is out of the table; `told_as` is how it was
    /// called there, if it was in.
    fn judged(
        &mut self,
        id: DestId,
        from: PathKey,
        told_as: Option<PathId>,
        attributes: &Arc<AttributeSet>,
        freshness: Freshness,
    ) -> Option<Path> {
        let tables = self.peers.get(&from.peer)?;
        let dest = self.dest(id);
        let Judged { mut verdict, changed, .. } =
            judge(tables.told(&dest.prefix, attributes), &tables.policy, &self.view);
        let accepted = tables.counts.get(&dest.prefix.family()).map_or(0, |counts| counts.accepted);
        if accepted >= tables.max_prefixes {
            verdict = verdict.and(Err(Refusal::OverMaxPrefixes));
        }
        // Whatever else is thought of it. What is kept from before a restart does not take its place.
        let is_there = |path: &&Path| path.from.peer == from.peer && path.freshness == Freshness::Fresh;
        if freshness == Freshness::Fresh && dest.paths.iter().filter(is_there).count() >= MOST_PATHS {
            verdict = Err(Refusal::OverMaxPaths);
        }
        let told_as = told_as.unwrap_or_else(|| dest.free_name());
        let changed = changed.filter(|_| verdict.is_ok()).map(|changed| self.attributes.intern(changed));
        Some(Path { from, told_as, attributes: Arc::clone(attributes), changed, verdict, freshness })
    }

    /// The path, `None` if it is not even kept: a peer that tells a million routes that we refuse shall not fill our
    /// memory either.
    fn admit(&mut self, prefix: &Prefix, path: Path) -> Option<Path> {
        let tables = self.peers.get(&path.from.peer)?;
        let counts = tables.counts.get(&prefix.family()).copied().unwrap_or_default();
        let is_one_too_many = path.verdict == Err(Refusal::OverMaxPaths);
        if is_one_too_many || path.verdict.is_err() && counts.refused_enough(tables.max_prefixes) {
            self.counts_mut(path.from.peer, prefix.family())?.drop_path(path.verdict);
            return None;
        }
        Some(path)
    }

    /// Near the limit and at it: once each, until the peer has fallen well below that ([`Reached::Little`]). So one that
    /// stays at a mark, or goes to and fro over it, is warned of once. Called when counts are as they will stay: a route that is told or judged again
    /// is out for a moment.
    fn warn_of_limit(&mut self, peer: PeerId) {
        let Some(tables) = self.peers.get_mut(&peer) else { return };
        let PeerTables { max_prefixes: limit, warn_at_percent: percent, .. } = *tables;
        for (family, counts) in &mut tables.counts {
            let reached = counts.reached(limit, percent);
            if reached == Reached::Little {
                counts.warned = Reached::Little;
            }
            if reached <= counts.warned {
                continue;
            }
            counts.warned = reached;
            if reached >= Reached::Near {
                self.at_limit.push(AtLimit { peer, family: *family, reached, limit, percent });
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
        let waits = |(_, counts): &(&Family, &InCounts)| counts.over_limit > 0 && tables.has_room(counts);
        let waiting: BTreeSet<Family> =
            tables.counts.iter().filter(waits).map(|(family, _)| *family).collect();
        self.judge_again(peer, &waiting);
        self.ask_for_dropped(peer, |_, counts| counts.missed > 0);
        self.warn_of_limit(peer);
    }

    /// Wants the peer to be asked to tell all of a family once more, where there is room and `worth` asking.
    fn ask_for_dropped(&mut self, peer: PeerId, worth: impl Fn(Family, &InCounts) -> bool) {
        let Some(tables) = self.peers.get_mut(&peer) else { return };
        if tables.route_refresh == Agreed::No {
            return;
        }
        let asked =
            |(family, counts): &(&Family, &InCounts)| worth(**family, counts) && tables.has_room(counts);
        let families: Vec<Family> = tables.counts.iter().filter(asked).map(|(family, _)| *family).collect();
        self.ask_again.extend(families.into_iter().map(|family| AskAgain { peer, family }));
    }

    /// It was asked: what it tells from now on is counted anew.
    pub(crate) fn asked(&mut self, peer: PeerId, family: Family) {
        if let Some(counts) = self.counts_mut(peer, family) {
            (counts.dropped, counts.missed) = (0, 0);
        }
    }

    /// The one place where a path comes, changes or goes, so that all counts and marks agree. Gives what the one that went
    /// was told as.
    fn set_path(&mut self, id: DestId, from: PathKey, path: Option<Path>) -> Option<PathId> {
        let dest = &mut self.destinations[id.0 as usize];
        let family = dest.prefix.family();
        let tables = self.peers.get_mut(&from.peer)?;
        let counts = tables.counts.entry(family).or_default();
        let old = dest.paths.iter().position(|path| path.from == from).map(|at| dest.paths.swap_remove(at));
        if let Some(old) = &old {
            if !dest.paths.iter().any(|path| path.from.peer == from.peer) {
                tables.told.remove(&id);
            }
            counts.count(old, -1);
            if old.verdict.is_ok() {
                let next_hop = tables.address.beside(old.used().next_hop);
                release_next_hop(&mut tables.next_hops, (next_hop, family));
            }
            self.undecided.insert(id);
        }
        let is_news = old.is_some() || path.is_some();
        if let Some(path) = path {
            counts.count(&path, 1);
            if path.verdict.is_ok() {
                let next_hop = tables.address.beside(path.used().next_hop);
                *tables.next_hops.entry((next_hop, family)).or_default() += 1;
            }
            tables.told.insert(id);
            if dest.paths.is_empty() {
                // Most have one path, and a vector begins with room for four.
                dest.paths.reserve_exact(1);
            }
            dest.paths.push(path);
            self.undecided.insert(id);
        }
        if let Some(changes) = self.changes.as_mut().filter(|_| is_news) {
            let PathKey { peer, path_id } = from;
            changes.push(Change::Told(peer, Nlri { prefix: dest.prefix, path_id }));
        }
        old.map(|old| old.told_as)
    }

    /// A path over a link that was lost is no better for a second loss.
    fn age(&mut self, id: DestId, peer: PeerId, freshness: Freshness) {
        let dest = self.dest_mut(id);
        for path in dest.paths.iter_mut().filter(|path| path.from.peer == peer) {
            path.freshness = path.freshness.max(freshness);
        }
    }

    /// What the import policy of these families says, or looks at, has changed. What was dropped might pass now, too.
    fn policy_changed(&mut self, peer: PeerId, families: &BTreeSet<Family>) {
        self.judge_again(peer, families);
        self.ask_for_dropped(peer, |family, counts| families.contains(&family) && counts.dropped > 0);
    }

    /// All out and in again, those that were accepted first: none loses its place to one that was refused.
    /// Among them a limit hits the last ones of the table, where prefixes stand about as they came: one may
    /// have taken the place of another that is gone.
    fn judge_again(&mut self, peer: PeerId, families: &BTreeSet<Family>) {
        let Some(tables) = self.peers.get(&peer).filter(|_| !families.is_empty()) else { return };
        let meant = |id: &&DestId| families.contains(&self.dest(**id).prefix.family());
        let (mut accepted, mut refused) = (Vec::new(), Vec::new());
        for id in tables.told.iter().filter(meant) {
            for path in self.dest(*id).paths.iter().filter(|path| path.from.peer == peer) {
                let known = (*id, path.from, path.told_as, path.freshness, Arc::clone(&path.attributes));
                if path.verdict.is_ok() { accepted.push(known) } else { refused.push(known) }
            }
        }
        // Out and in again is no change by itself.
        let changes = self.changes.take();
        let mut before = Vec::new();
        if changes.is_some() {
            before = self.used_by_stations(peer, families);
        }
        for (id, from, ..) in accepted.iter().chain(&refused) {
            self.set_path(*id, *from, None);
        }
        for (id, from, told_as, freshness, attributes) in accepted.into_iter().chain(refused) {
            let prefix = self.dest(id).prefix;
            let path = self.judged(id, from, Some(told_as), &attributes, freshness);
            if let Some(path) = path.and_then(|path| self.admit(&prefix, path)) {
                self.set_path(id, from, Some(path));
            }
        }
        if let Some(mut changes) = changes {
            let differs = before.into_iter().filter(|(route, told, used)| {
                let is_other = |before: &Option<Arc<AttributeSet>>, side| {
                    let now = self.told_now(peer, route, side);
                    before.as_ref().map(Arc::as_ptr) != now.as_ref().map(Arc::as_ptr)
                };
                is_other(told, Policy::Before) || is_other(used, Policy::After)
            });
            changes.extend(differs.map(|(route, ..)| Change::Told(peer, route)));
            self.changes = Some(changes);
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
                self.changes.iter_mut().for_each(|changes| changes.push(Change::Chosen(dest.prefix)));
                self.rouse(id);
            }
            self.rouse_told_several(id);
            self.release(id);
        }
    }

    fn decided(&self, id: DestId) -> (Option<Best>, BTreeSet<ScopedAddress>) {
        let dest = self.dest(id);
        let (candidates, owners) = self.candidates(dest);
        let Some(decision) = decide(&candidates, self.max_paths) else {
            return (None, BTreeSet::new());
        };
        let used = decision.used.iter().filter(|_| owners[decision.best].is_some());
        let next_hops = used.map(|&index| candidates[index].next_hop()).collect();
        (self.as_best(dest, owners[decision.best]), next_hops)
    }

    /// A path as export needs it: the one with this place in `dest.paths`, or our own.
    fn as_best(&self, dest: &Destination, owner: Option<usize>) -> Option<Best> {
        let Some(at) = owner else {
            let Local { originated, attributes } = dest.local.clone()?;
            let provenance = Provenance::Local(originated.source);
            return Some(Best { peer: None, provenance, attributes, originated: Some(originated) });
        };
        let path = dest.paths.get(at)?;
        let provenance = Provenance::Learned(self.peers.get(&path.from.peer)?.kind);
        let attributes = Arc::clone(path.used());
        Some(Best { peer: Some(path.from.peer), provenance, attributes, originated: None })
    }

    /// The usable paths, and for each its place in `dest.paths`, `None` for our own.
    fn candidates<'a>(&'a self, dest: &'a Destination) -> (Vec<Candidate<'a>>, Vec<Option<usize>>) {
        let local = dest.local.as_ref().map(|local| Candidate {
            attributes: &local.attributes,
            standing: Standing::Good,
            from: Teller::Local,
        });
        let mut candidates: Vec<Candidate<'a>> = local.into_iter().collect();
        let mut owners = vec![None; candidates.len()];
        for (at, path) in dest.paths.iter().enumerate().filter(|(_, path)| path.verdict.is_ok()) {
            let PathKey { peer, path_id } = path.from;
            let Some(tables) = self.peers.get(&peer) else { continue };
            let PeerTables { kind, router_id, ref address, .. } = *tables;
            let from = Teller::Peer { kind, router_id, address, path_id };
            let standing = path.standing();
            candidates.push(Candidate { attributes: path.used(), standing, from });
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

    /// Peers that may have to hear of something, since this was asked last. What happens in a call on behalf of a peer
    /// itself is not among it.
    pub(crate) fn take_roused(&mut self) -> BTreeSet<PeerId> {
        std::mem::take(&mut self.roused)
    }

    /// Marks of limits that peers came to since the last call.
    pub(crate) fn take_at_limit(&mut self) -> Vec<AtLimit> {
        std::mem::take(&mut self.at_limit)
    }

    pub(crate) fn take_ask_again(&mut self) -> Vec<AskAgain> {
        std::mem::take(&mut self.ask_again)
    }

    // --- stations ----------------------------------------------------------------------------------

    /// Whether somebody looks at what changes.
    pub(crate) fn watch(&mut self, watched: bool) {
        self.changes = watched.then(|| self.changes.take().unwrap_or_default());
    }

    /// What is other than it was when this was asked last.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The names of the paths to these prefixes that `peer` has told in this session.
    pub(crate) fn told_names(&self, peer: PeerId, prefixes: &[Prefix]) -> Vec<Nlri> {
        let paths = |prefix: &Prefix| {
            let dest = self.index.get(prefix).map(|id| self.dest(*id));
            let paths = dest.map_or(&[][..], |dest| &dest.paths).iter();
            let fresh = paths.filter(|path| path.from.peer == peer && path.freshness == Freshness::Fresh);
            let prefix = *prefix;
            fresh.map(move |path| Nlri { prefix, path_id: path.from.path_id }).collect::<Vec<_>>()
        };
        prefixes.iter().flat_map(paths).collect()
    }

    /// With what `peer` tells this path in this session, or with what it is used.
    pub(crate) fn told_now(&self, peer: PeerId, route: &Nlri, side: Policy) -> Option<Arc<AttributeSet>> {
        let dest = self.dest(*self.index.get(&route.prefix)?);
        let from = PathKey { peer, path_id: route.path_id };
        let path = dest.paths.iter().find(|path| path.from == from)?;
        let is_shown = path.freshness == Freshness::Fresh && (side == Policy::Before || path.verdict.is_ok());
        let attributes = match side {
            Policy::Before => &path.attributes,
            Policy::After => path.used(),
        };
        is_shown.then(|| Arc::clone(attributes))
    }

    /// What stations know of the paths of a peer: with what each is told and used.
    fn used_by_stations(&self, peer: PeerId, families: &BTreeSet<Family>) -> Vec<Shown> {
        let all = families.iter().flat_map(|family| self.told_of(peer, *family));
        let prefixes: Vec<Prefix> = all.map(|(_, dest)| dest.prefix).collect();
        let shown = self.told_names(peer, &prefixes).into_iter().map(|route| {
            let with = |side| self.told_now(peer, &route, side);
            (route, with(Policy::Before), with(Policy::After))
        });
        shown.collect()
    }

    /// With what the best path to a prefix is used.
    pub(crate) fn chosen(&self, prefix: &Prefix) -> Option<Arc<AttributeSet>> {
        let best = self.dest(*self.index.get(prefix)?).best.as_ref()?;
        Some(Arc::clone(&best.attributes))
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

/// A path, and the sets with which it is told and used.
type Shown = (Nlri, Option<Arc<AttributeSet>>, Option<Arc<AttributeSet>>);

/// What the tables must know of a session that came up.
pub(crate) struct PeerUp<'a> {
    pub(crate) session: &'a Session,
    pub(crate) address: &'a ScopedAddress,
    pub(crate) local: IpAddr,
    pub(crate) config: &'a PeerConfig,
}

fn release_next_hop(
    next_hops: &mut BTreeMap<(ScopedAddress, Family), usize>,
    next_hop: (ScopedAddress, Family),
) {
    if let Some(count) = next_hops.get_mut(&next_hop) {
        *count -= 1;
        if *count == 0 {
            next_hops.remove(&next_hop);
        }
    }
}
