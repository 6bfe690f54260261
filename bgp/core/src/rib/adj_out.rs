//! Adj-rib-out: what a peer was told, and what it must still be told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::decision::{Standing, ranked};
use super::{Best, DestId, Destination, PeerTables, Rib, aggregates};
use crate::attributes::AttributeSet;
use crate::config::{Export, Originated, PeerConfig, PeerPolicy, Source, Stage, Stages};
use crate::policy::filter::{Direction, Provenance};
use crate::policy::{Advertise, Exported, Reflection, Withheld, export, leaving, offered};
use crate::prefix::{Family, Prefix};
use crate::session::{Agreed, Session};
use crate::types::{PathId, PeerId, PeerKind, ScopedAddress};
use crate::wire::refresh::{self, Subtype};
use crate::wire::{Nlri, update};

/// Of one established session.
#[derive(Debug)]
pub(crate) struct AdjOut {
    /// Our end of the session.
    local: ScopedAddress,
    /// Whether IPv4 routes may have IPv6 next hops there.
    extended_next_hop: Agreed,
    /// What the peer is told of.
    pub(crate) tells: Tells,
    families: BTreeSet<Family>,
    /// How many paths to a prefix it is told at most, where it may be told several (RFC 7911).
    most_paths: BTreeMap<Family, usize>,
    /// What the peer has from us, each path under the name it was told as: the truth for withdrawals.
    sent: BTreeMap<(DestId, PathId), Arc<AttributeSet>>,
    /// How many of a family these are.
    sent_count: BTreeMap<Family, usize>,
    /// What it may have to hear of.
    pub(crate) dirty: BTreeSet<DestId>,
    /// Said again even if nothing changed: it asked (RFC 2918).
    resend: BTreeSet<DestId>,
    /// Families whose End-of-RIB is still to come.
    end_of_rib: BTreeSet<Family>,
    /// Whether what it asks for again is framed (RFC 7313).
    enhanced_refresh: Agreed,
    /// Families that it asked for.
    refreshes: BTreeMap<Family, Refresh>,
}

/// How far an answer to a ROUTE-REFRESH is (RFC 7313 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refresh {
    /// It came before the End-of-RIB of the family, and waits for that.
    Waits,
    /// BoRR is out; EoRR is to come.
    Begun,
}

impl AdjOut {
    pub(crate) fn new(local: ScopedAddress, tells: Tells, session: &Session, config: &PeerConfig) -> AdjOut {
        let families = &session.families;
        let several = session.add_path.send.iter();
        AdjOut {
            local,
            extended_next_hop: session.extended_next_hop,
            tells,
            families: families.clone(),
            most_paths: several.map(|family| (*family, config.add_path(*family).most_sent())).collect(),
            sent: BTreeMap::new(),
            sent_count: BTreeMap::new(),
            dirty: BTreeSet::new(),
            resend: BTreeSet::new(),
            end_of_rib: families.clone(),
            enhanced_refresh: session.enhanced_refresh,
            refreshes: BTreeMap::new(),
        }
    }

    /// Families of which the peer is told another number of paths from now on.
    pub(crate) fn set_most_paths(&mut self, config: &PeerConfig) -> Vec<Family> {
        let changed = |(family, most): (&Family, &mut usize)| {
            let wanted = config.add_path(*family).most_sent();
            (std::mem::replace(most, wanted) != wanted).then_some(*family)
        };
        self.most_paths.iter_mut().filter_map(changed).collect()
    }

    /// Whether the peer is told of several paths to prefixes of some family.
    pub(crate) fn tells_several(&self) -> bool {
        !self.most_paths.is_empty()
    }

    /// What the peer has from us of one destination.
    pub(crate) fn sent_of(&self, id: DestId) -> impl Iterator<Item = (PathId, &Arc<AttributeSet>)> {
        let names = (id, PathId(u32::MIN))..=(id, PathId(u32::MAX));
        self.sent.range(names).map(|((_, name), sent)| (*name, sent))
    }

    /// Whether it has anything of one.
    fn has(&self, id: DestId) -> bool {
        self.sent_of(id).next().is_some()
    }

    /// Destinations of which it has something.
    pub(crate) fn sent_to(&self) -> BTreeSet<DestId> {
        self.sent.keys().map(|(id, _)| *id).collect()
    }

    /// How many routes of a family the peer has from us.
    pub(crate) fn sent_count(&self, family: Family) -> usize {
        self.sent_count.get(&family).copied().unwrap_or_default()
    }

    /// What the peer had before.
    fn insert(
        &mut self,
        id: DestId,
        name: PathId,
        family: Family,
        sent: Arc<AttributeSet>,
    ) -> Option<Arc<AttributeSet>> {
        let before = self.sent.insert((id, name), sent);
        *self.sent_count.entry(family).or_default() += usize::from(before.is_none());
        before
    }

    /// Whether the peer had it.
    fn remove(&mut self, id: DestId, name: PathId, family: Family) -> bool {
        let had = self.sent.remove(&(id, name)).is_some();
        *self.sent_count.entry(family).or_default() -= usize::from(had);
        had
    }
}

/// What a peer is told of, by the export policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tells {
    /// Our own routes: all are known when the session comes up.
    Own,
    /// Learned ones too, once they are chosen.
    Learned,
}

impl Tells {
    pub(crate) fn of(kind: PeerKind, policy: &PeerPolicy) -> Tells {
        let is_opened = || {
            let rules = Family::ALL.iter().flat_map(|family| policy.filters_of(*family, Direction::Export));
            let mut rules = rules.flat_map(|filter| &filter.rules);
            let learned = [PeerKind::External, PeerKind::Internal].map(Provenance::Learned);
            rules.any(|rule| learned.iter().any(|from| rule.opens(Direction::Export, *from)))
        };
        match (kind, policy.export) {
            (PeerKind::External, Export::Own) if !is_opened() => Tells::Own,
            _ => Tells::Learned,
        }
    }
}

impl AdjOut {
    /// Whether what the peer is told of `family` is decided: own routes always are. So a switch need not
    /// wait for us while we wait for it (RFC 4724 section 4.1).
    fn knows_all(&self, family: Family, deferring: &BTreeSet<Family>) -> bool {
        self.tells == Tells::Own || !deferring.contains(&family)
    }

    /// Whether an answer to a ROUTE-REFRESH may begin, or end: not before End-of-RIB (RFC 7313 section 4.1), nor while
    /// routes that the peer may hold are held back here, which it would take for gone.
    fn may_refresh(&self, family: Family, deferring: &BTreeSet<Family>) -> bool {
        !self.end_of_rib.contains(&family) && self.knows_all(family, deferring)
    }
}

/// Routes that go out with one attribute set.
type Group = (Arc<AttributeSet>, Vec<Nlri>);

/// What export policy made of an attribute set, for one round.
type Memo = HashMap<Made, Option<Arc<AttributeSet>>>;

/// What it was made of; a route of our own has no peer, and one of a peer has not been originated.
type Made = (*const AttributeSet, Option<PeerId>, Option<*const Originated>, Family);

/// One round of [`Rib::transmit`].
#[derive(Default)]
struct Round {
    /// Aggregates of ours that the peer is told.
    aggregates: Vec<Prefix>,
    memo: Memo,
    batch: Batch,
}

/// Whether a route is said again that did not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Say {
    IfChanged,
    Anyway,
}

/// Which paths to a prefix are known to be told or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chosen {
    /// Our own alone: learned ones are held back (RFC 4724 section 4.1).
    Own,
    All,
}

/// What one round says.
#[derive(Default)]
struct Batch {
    withdrawn: BTreeMap<Family, Vec<Nlri>>,
    announced: Vec<Group>,
    /// Where the group of an attribute set stands in `announced`.
    groups: HashMap<(Family, *const AttributeSet), usize>,
}

impl Batch {
    fn announce(&mut self, route: Nlri, attributes: &Arc<AttributeSet>) {
        let key = (route.prefix.family(), Arc::as_ptr(attributes));
        let at = *self.groups.entry(key).or_insert_with(|| {
            self.announced.push((Arc::clone(attributes), Vec::new()));
            self.announced.len() - 1
        });
        self.announced[at].1.push(route);
    }
}

impl Rib {
    /// Destinations looked at in one round, so that no peer holds up the others for long: the caller gets to hear those
    /// between two rounds.
    const ROUND: usize = 4096;

    /// Whether [`Rib::transmit`] has anything to say.
    pub(crate) fn wants_transmit(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).and_then(|tables| tables.out.as_ref()).is_some_and(|out| {
            !out.dirty.is_empty()
                || out.end_of_rib.iter().any(|family| out.knows_all(*family, &self.deferring))
                || out.refreshes.keys().any(|family| out.may_refresh(*family, &self.deferring))
        })
    }

    /// Appends the UPDATEs that bring `peer` up to date, one round of them; then End-of-RIB, once.
    pub(crate) fn transmit(&mut self, peer: PeerId, session: &Session, bytes: &mut Vec<u8>) {
        self.begin_refreshes(peer, bytes);
        let Some(out) = self.out_mut(peer) else { return };
        let ids: Vec<DestId> = std::iter::from_fn(|| out.dirty.pop_first()).take(Self::ROUND).collect();
        let mut round = Round { aggregates: self.aggregates_told(peer), ..Round::default() };
        for id in ids {
            self.bring_up_to_date(peer, id, &mut round);
        }
        let batch = round.batch;
        for routes in batch.withdrawn.values() {
            update::write_withdraw(bytes, session, routes);
        }
        for (attributes, routes) in &batch.announced {
            // Too long for this peer's messages: it is not told, and was told of no other path.
            if update::write_announce(bytes, session, attributes, routes).is_err() {
                self.take_back(peer, routes, session, bytes);
            }
        }
        self.end_refreshes(peer, bytes);
        self.write_end_of_rib(peer, bytes);
    }

    /// Notes what is new to `peer` of a destination.
    fn bring_up_to_date(&mut self, peer: PeerId, id: DestId, round: &mut Round) {
        let Some(out) = self.out_mut(peer) else { return };
        let say = if out.resend.remove(&id) { Say::Anyway } else { Say::IfChanged };
        let family = self.dest(id).prefix.family();
        if let Some(most) = self.most_paths(peer, family) {
            return self.bring_paths_up_to_date(peer, id, most, say, round);
        }
        let dest = self.dest(id);
        if dest.local.is_none() && self.deferring.contains(&family) {
            return;
        }
        let wanted = match dest.best.clone() {
            Some(best) => self.exported(peer, id, &best, round),
            None => Some(None),
        };
        if let Some(wanted) = wanted {
            self.note_sent(peer, id, (PathId::default(), wanted), say, &mut round.batch);
        }
    }

    /// The same for a peer that is told of several paths: the best `most` of those that it may be told (RFC 7911).
    fn bring_paths_up_to_date(&mut self, peer: PeerId, id: DestId, most: usize, say: Say, round: &mut Round) {
        let mut wanted: BTreeMap<PathId, Option<Arc<AttributeSet>>> = BTreeMap::new();
        let mut chosen = Chosen::All;
        for (name, best) in self.paths_by_rank(id) {
            if wanted.len() >= most {
                break;
            }
            match self.exported(peer, id, &best, round) {
                Some(None) => {}
                Some(told) => drop(wanted.insert(name, told)),
                // Learned routes are not yet chosen.
                None => {
                    chosen = Chosen::Own;
                    break;
                }
            }
        }
        // What the peer has of routes that are not chosen stays.
        let had = self.out_mut(peer).filter(|_| chosen == Chosen::All);
        for (name, _) in had.iter().flat_map(|out| out.sent_of(id)) {
            wanted.entry(name).or_default();
        }
        for path in wanted {
            self.note_sent(peer, id, path, say, &mut round.batch);
        }
    }

    /// How many paths to a prefix `peer` is told at most; `None` where it is told the best one alone, without a name.
    pub(super) fn most_paths(&self, peer: PeerId, family: Family) -> Option<usize> {
        self.peers.get(&peer)?.out.as_ref()?.most_paths.get(&family).copied()
    }

    /// The usable paths to a destination with their names, the best first. A last resort is told of only where there is nothing
    /// else: who is told of it beside others would use it like them.
    pub(super) fn paths_by_rank(&self, id: DestId) -> Vec<(PathId, Best)> {
        let dest = self.dest(id);
        let (candidates, owners) = self.candidates(dest);
        let is_last_resort =
            |index: usize| matches!(candidates[index].standing, Standing::Silent | Standing::LinkDown);
        let good = ranked(&candidates).enumerate();
        let good = good.take_while(|(rank, index)| *rank == 0 || !is_last_resort(*index));
        let named = good.filter_map(|(_, index)| {
            let owner = owners[index];
            let name = owner.map_or(PathId::OWN, |at| dest.paths[at].told_as);
            Some((name, self.as_best(dest, owner)?))
        });
        named.collect()
    }

    /// What `peer` should have of a path: `None` if that is not decided yet, `Some(None)` if nothing.
    fn exported(
        &mut self,
        peer: PeerId,
        id: DestId,
        best: &Best,
        Round { aggregates, memo, .. }: &mut Round,
    ) -> Option<Option<Arc<AttributeSet>>> {
        let prefix = self.dest(id).prefix;
        let family = prefix.family();
        let originated = best.originated.as_ref();
        if originated.is_some() && aggregates::around(&prefix, aggregates.iter()).next().is_some() {
            return Some(None);
        }
        // What filters make of it may differ by prefix, as does what an aggregate holds.
        let differs_by_prefix = originated.is_some_and(|own| own.source == Source::Aggregate)
            || self
                .peers
                .get(&peer)
                .is_some_and(|tables| !tables.policy.filters_of(family, Direction::Export).is_empty());
        let key = (Arc::as_ptr(&best.attributes), best.peer, originated.map(Arc::as_ptr), family);
        if let Some(known) = memo.get(&key).filter(|_| !differs_by_prefix) {
            return Some(known.clone());
        }
        let exported = match self.outcome(peer, &prefix, best, aggregates).verdict {
            Ok(attributes) => Some(self.attributes.intern(attributes)),
            Err(Withheld::Deferred) => return None,
            Err(_) => None,
        };
        if !differs_by_prefix {
            memo.insert(key, exported.clone());
        }
        Some(exported)
    }

    /// Our aggregates that `peer` is told. One in a wider one is among them, though the wider one is told in its place: what
    /// lies in it lies in both.
    pub(super) fn aggregates_told(&self, peer: PeerId) -> Vec<Prefix> {
        let is_told = |prefix: &&Prefix| {
            let best = self.index.get(prefix).and_then(|id| self.dest(*id).best.as_ref());
            best.filter(|best| best.originated.is_some())
                .is_some_and(|best| self.outcome(peer, prefix, best, &[]).verdict.is_ok())
        };
        self.aggregates.prefixes().filter(is_told).copied().collect()
    }

    /// What becomes of the best route to `prefix` on its way to `peer`, which is told these `aggregates` of ours.
    pub(super) fn outcome(
        &self,
        peer: PeerId,
        prefix: &Prefix,
        best: &Best,
        aggregates: &[Prefix],
    ) -> Exported<'_> {
        let Best { peer: teller, provenance, attributes, originated } = best;
        if *teller == Some(peer) {
            return Withheld::ToldByIt.into();
        }
        if teller.is_some() && self.deferring.contains(&prefix.family()) {
            return Withheld::Deferred.into();
        }
        let Some(advertise) = self.advertise(peer, *teller, prefix.family()) else {
            return Withheld::NotCarried.into();
        };
        let Some(originated) = originated else { return export(prefix, attributes, *provenance, advertise) };
        let Some(offer) = originated.offer_for(advertise.name) else { return Withheld::NotOffered.into() };
        if aggregates::around(prefix, aggregates).next().is_some() {
            return Withheld::Aggregated.into();
        }
        let exported = export(prefix, &offered(attributes, offer, &advertise), *provenance, advertise);
        let stage = match originated.source {
            Source::Aggregate => self.aggregates.stage(prefix, &self.draining),
            source => self.draining.of(source),
        };
        match stage {
            Stage::Stays => exported,
            Stage::Leaves => leaving(exported, advertise.to),
            Stage::Gone => Withheld::Drained.into(),
        }
    }

    /// How far the draining of our own routes is.
    pub(crate) fn set_draining(&mut self, draining: Stages) {
        if draining != self.draining {
            self.draining = draining;
            self.advertise_again();
        }
    }

    /// `None` where the session does not carry the family, or we have no address of it there.
    fn advertise(&self, peer: PeerId, teller: Option<PeerId>, family: Family) -> Option<Advertise<'_>> {
        let tables = self.peers.get(&peer)?;
        let reflection = teller.and_then(|teller| self.peers.get(&teller)).and_then(|teller| {
            let from = (&teller.terms, teller.kind, teller.router_id);
            Reflection::between(from, &tables.terms, self.view.cluster_id())
        });
        let out = tables.out.as_ref().filter(|out| out.families.contains(&family))?;
        Some(Advertise {
            to: tables.kind,
            name: &tables.name,
            policy: &tables.policy,
            own_asn: tables.terms.own_asn(self.view.own_asn()),
            peer_asn: tables.asn,
            terms: &tables.terms,
            // The external ones of the two are told as ever.
            reflection: reflection.filter(|_| tables.kind == PeerKind::Internal),
            next_hop: self.view.next_hop_beside(&out.local, family, out.extended_next_hop)?,
            extended_next_hop: out.extended_next_hop,
            long_lived: tables.long_lived,
        })
    }

    /// Brings the adj-rib-out of one path to `wanted` and puts the difference into `batch`.
    fn note_sent(
        &mut self,
        peer: PeerId,
        id: DestId,
        (name, wanted): (PathId, Option<Arc<AttributeSet>>),
        say: Say,
        batch: &mut Batch,
    ) {
        let prefix = self.dest(id).prefix;
        let Some(out) = self.out_mut(peer) else { return };
        let route = Nlri { prefix, path_id: name };
        match wanted {
            Some(attributes) => {
                let before = out.insert(id, name, prefix.family(), Arc::clone(&attributes));
                let unchanged = before.as_ref().is_some_and(|before| Arc::ptr_eq(before, &attributes));
                if !unchanged || say == Say::Anyway {
                    batch.announce(route, &attributes);
                }
                if before.is_none() {
                    self.dest_mut(id).sent_to += 1;
                }
            }
            None => {
                if out.remove(id, name, prefix.family()) {
                    batch.withdrawn.entry(prefix.family()).or_default().push(route);
                    self.unsent(id);
                }
            }
        }
    }

    fn take_back(&mut self, peer: PeerId, routes: &[Nlri], session: &Session, bytes: &mut Vec<u8>) {
        for Nlri { prefix, path_id } in routes {
            let Some(id) = self.index.get(prefix).copied() else { continue };
            if self.out_mut(peer).is_some_and(|out| out.remove(id, *path_id, prefix.family())) {
                self.unsent(id);
            }
        }
        // The peer may hold an older path of them.
        update::write_withdraw(bytes, session, routes);
    }

    fn write_end_of_rib(&mut self, peer: PeerId, bytes: &mut Vec<u8>) {
        let deferring = self.deferring.clone();
        let Some(out) = self.out_mut(peer).filter(|out| out.dirty.is_empty()) else { return };
        let due = |family: &Family| out.knows_all(*family, &deferring);
        let due: Vec<Family> = out.end_of_rib.iter().copied().filter(due).collect();
        for family in due {
            out.end_of_rib.remove(&family);
            update::write_end_of_rib(bytes, family);
        }
    }

    /// The peer asked for all routes of a family again (RFC 2918).
    pub(crate) fn refresh(&mut self, peer: PeerId, family: Family) {
        let Some(out) = self.out_mut(peer).filter(|out| out.families.contains(&family)) else { return };
        match out.enhanced_refresh {
            Agreed::Yes => {
                out.refreshes.insert(family, Refresh::Waits);
            }
            Agreed::No => self.tell_again(peer, family),
        }
    }

    fn tell_again(&mut self, peer: PeerId, family: Family) {
        let of_family = self.concerning(peer, &[family].into());
        if let Some(out) = self.out_mut(peer) {
            out.resend.extend(out.sent_to().intersection(&of_family.iter().copied().collect()));
            out.dirty.extend(of_family);
        }
    }

    /// BoRR, for what was asked for and may begin.
    fn begin_refreshes(&mut self, peer: PeerId, bytes: &mut Vec<u8>) {
        for family in self.refreshes_due(peer, Refresh::Waits) {
            refresh::write(bytes, family, Subtype::Begin);
            self.tell_again(peer, family);
            if let Some(out) = self.out_mut(peer) {
                out.refreshes.insert(family, Refresh::Begun);
            }
        }
    }

    /// EoRR, when all that there is was told again.
    fn end_refreshes(&mut self, peer: PeerId, bytes: &mut Vec<u8>) {
        for family in self.refreshes_due(peer, Refresh::Begun) {
            let Some(out) = self.out_mut(peer).filter(|out| out.dirty.is_empty()) else { return };
            out.refreshes.remove(&family);
            refresh::write(bytes, family, Subtype::End);
        }
    }

    fn refreshes_due(&self, peer: PeerId, at: Refresh) -> Vec<Family> {
        let Some(out) = self.peers.get(&peer).and_then(|tables| tables.out.as_ref()) else {
            return Vec::new();
        };
        let due = out.refreshes.iter().filter(|(_, refresh)| **refresh == at).map(|(family, _)| *family);
        due.filter(|family| out.may_refresh(*family, &self.deferring)).collect()
    }

    /// Every peer may have to hear of every destination: policy, addresses or deferral changed.
    pub(crate) fn advertise_again(&mut self) {
        let peers: Vec<PeerId> = self.peers.keys().copied().collect();
        peers.into_iter().for_each(|peer| self.advertise_again_to(peer, &Family::ALL.into()));
    }

    /// `peer` may have to hear of every destination of these families.
    pub(crate) fn advertise_again_to(&mut self, peer: PeerId, families: &BTreeSet<Family>) {
        let of_families = self.concerning(peer, families);
        if let Some(out) = self.out_mut(peer) {
            out.dirty.extend(of_families);
            self.roused.insert(peer);
        }
    }

    /// Destinations of these families that `peer` has from us, or may be told of. In a mesh of hundreds most are neither.
    pub(super) fn concerning(&self, peer: PeerId, families: &BTreeSet<Family>) -> Vec<DestId> {
        let Some(out) = self.peers.get(&peer).and_then(|tables| tables.out.as_ref()) else {
            return Vec::new();
        };
        let concerns = |(id, dest): (DestId, &Destination)| {
            let is_meant = families.contains(&dest.prefix.family());
            (is_meant && (out.has(id) || self.may_hear_of(peer, dest))).then_some(id)
        };
        self.live().filter_map(concerns).collect()
    }

    /// A destination has another best route: whom that may concern. In a mesh of hundreds what one tells is told to none of
    /// the others, and none is looked at.
    pub(super) fn rouse(&mut self, id: DestId) {
        let best = self.dest(id).best.as_ref();
        let concerned = |(peer, tables): (&PeerId, &PeerTables)| {
            let has_it = tables.out.as_ref()?.has(id);
            (has_it || best.is_some_and(|best| self.may_hear(*peer, best))).then_some(*peer)
        };
        let concerned: Vec<PeerId> = self.peers.iter().filter_map(concerned).collect();
        self.mark_dirty(concerned, id);
    }

    /// A destination has other paths, the best one perhaps among them: whom that may concern of those who are told of
    /// several.
    pub(super) fn rouse_told_several(&mut self, id: DestId) {
        if self.told_several.is_empty() {
            return;
        }
        let dest = self.dest(id);
        let concerned = |peer: &PeerId| {
            let out = self.peers.get(peer).and_then(|tables| tables.out.as_ref());
            let several = self.most_paths(*peer, dest.prefix.family()).is_some();
            several && (out.is_some_and(|out| out.has(id)) || self.may_hear_of(*peer, dest))
        };
        let concerned = self.told_several.iter().copied().filter(concerned).collect();
        self.mark_dirty(concerned, id);
    }

    fn mark_dirty(&mut self, peers: Vec<PeerId>, id: DestId) {
        for peer in peers {
            if let Some(out) = self.out_mut(peer) {
                out.dirty.insert(id);
                self.roused.insert(peer);
            }
        }
    }

    /// Whether `peer` may be told of any path to a destination.
    fn may_hear_of(&self, peer: PeerId, dest: &Destination) -> bool {
        if self.most_paths(peer, dest.prefix.family()).is_none() {
            return dest.best.as_ref().is_some_and(|best| self.may_hear(peer, best));
        }
        let learned = (0..dest.paths.len()).filter(|at| dest.paths[*at].verdict.is_ok()).map(Some);
        let own = dest.local.is_some().then_some(None);
        let mut paths = learned.chain(own).filter_map(|owner| self.as_best(dest, owner));
        paths.any(|path| self.may_hear(peer, &path))
    }

    /// Whether `peer` may be told a route; if not, no filter and no attribute makes it so.
    pub(super) fn may_hear(&self, peer: PeerId, best: &Best) -> bool {
        let Some(tables) = self.peers.get(&peer) else { return false };
        let Some(out) = &tables.out else { return false };
        let Some((teller, from)) = best.peer.and_then(|teller| Some((teller, self.peers.get(&teller)?)))
        else {
            return true;
        };
        let is_inside = from.kind == PeerKind::Internal && tables.kind == PeerKind::Internal;
        let told = (&from.terms, from.kind, from.router_id);
        let is_reflected = || Reflection::between(told, &tables.terms, self.view.cluster_id()).is_some();
        teller != peer && out.tells == Tells::Learned && (!is_inside || is_reflected())
    }

    /// The session is gone, and with it all that was said on it.
    pub(crate) fn forget_sent(&mut self, peer: PeerId) {
        let Some(out) = self.peers.get_mut(&peer).and_then(|tables| tables.out.take()) else { return };
        self.told_several.remove(&peer);
        for (id, _) in out.sent.into_keys() {
            self.unsent(id);
        }
    }

    fn unsent(&mut self, id: DestId) {
        self.dest_mut(id).sent_to -= 1;
        self.release(id);
    }
}
