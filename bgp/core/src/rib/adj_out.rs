//! Adj-rib-out: what a peer was told, and what it must still be told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::{Best, DestId, Destination, PeerTables, Rib, aggregates};
use crate::attributes::AttributeSet;
use crate::config::{Export, Originated, PeerPolicy, Source, Stage, Stages};
use crate::policy::filter::{Direction, Provenance};
use crate::policy::{Advertise, Exported, Reflection, Withheld, export, leaving, offered};
use crate::prefix::{Family, Prefix};
use crate::session::{Agreed, Session};
use crate::types::{PeerId, PeerKind};
use crate::wire::refresh::{self, Subtype};
use crate::wire::update;

/// Of one established session.
#[derive(Debug)]
pub(crate) struct AdjOut {
    /// Our end of the session.
    local: IpAddr,
    /// What the peer is told of.
    pub(crate) tells: Tells,
    families: BTreeSet<Family>,
    /// What the peer has from us: the truth for withdrawals.
    sent: BTreeMap<DestId, Arc<AttributeSet>>,
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
    pub(crate) fn new(local: IpAddr, tells: Tells, session: &Session) -> AdjOut {
        let families = &session.families;
        AdjOut {
            local,
            tells,
            families: families.clone(),
            sent: BTreeMap::new(),
            sent_count: BTreeMap::new(),
            dirty: BTreeSet::new(),
            resend: BTreeSet::new(),
            end_of_rib: families.clone(),
            enhanced_refresh: session.enhanced_refresh,
            refreshes: BTreeMap::new(),
        }
    }

    /// What the peer has from us.
    pub(crate) fn sent(&self) -> &BTreeMap<DestId, Arc<AttributeSet>> {
        &self.sent
    }

    /// How many routes of a family the peer has from us.
    pub(crate) fn sent_count(&self, family: Family) -> usize {
        self.sent_count.get(&family).copied().unwrap_or_default()
    }

    /// What the peer had before.
    fn insert(&mut self, id: DestId, family: Family, sent: Arc<AttributeSet>) -> Option<Arc<AttributeSet>> {
        let before = self.sent.insert(id, sent);
        *self.sent_count.entry(family).or_default() += usize::from(before.is_none());
        before
    }

    /// Whether the peer had it.
    fn remove(&mut self, id: DestId, family: Family) -> bool {
        let had = self.sent.remove(&id).is_some();
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

/// Prefixes that go out with one attribute set.
type Group = (Arc<AttributeSet>, Vec<Prefix>);

/// What export policy made of an attribute set, for one round.
type Memo = HashMap<Made, Option<Arc<AttributeSet>>>;

/// What it was made of; a route of our own has no peer, and one of a peer has not been originated.
type Made = (*const AttributeSet, Option<PeerId>, Option<*const Originated>, Family);

/// What one round of [`Rib::transmit`] says.
#[derive(Default)]
struct Batch {
    withdrawn: BTreeMap<Family, Vec<Prefix>>,
    announced: Vec<Group>,
    /// Where the group of an attribute set stands in `announced`.
    groups: HashMap<(Family, *const AttributeSet), usize>,
}

impl Batch {
    fn announce(&mut self, prefix: Prefix, attributes: &Arc<AttributeSet>) {
        let key = (prefix.family(), Arc::as_ptr(attributes));
        let at = *self.groups.entry(key).or_insert_with(|| {
            self.announced.push((Arc::clone(attributes), Vec::new()));
            self.announced.len() - 1
        });
        self.announced[at].1.push(prefix);
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
        let round: Vec<DestId> = std::iter::from_fn(|| out.dirty.pop_first()).take(Self::ROUND).collect();
        let mut batch = Batch::default();
        let mut exported = Memo::new();
        let aggregates = self.aggregates_told(peer);
        for id in round {
            let wanted = self.exported(peer, id, &aggregates, &mut exported);
            if let Some(wanted) = wanted {
                self.note_sent(peer, id, wanted, &mut batch);
            }
        }
        for prefixes in batch.withdrawn.values() {
            update::write_withdraw(bytes, session, prefixes);
        }
        for (attributes, prefixes) in &batch.announced {
            // Too long for this peer's messages: it is not told, and was told of no other path.
            if update::write_announce(bytes, session, attributes, prefixes).is_err() {
                self.take_back(peer, prefixes, session, bytes);
            }
        }
        self.end_refreshes(peer, bytes);
        self.write_end_of_rib(peer, bytes);
    }

    /// What `peer` should have of a destination: `None` if that is not decided yet, `Some(None)` if
    /// nothing.
    fn exported(
        &mut self,
        peer: PeerId,
        id: DestId,
        aggregates: &[Prefix],
        memo: &mut Memo,
    ) -> Option<Option<Arc<AttributeSet>>> {
        let dest = self.dest(id);
        let (prefix, family) = (dest.prefix, dest.prefix.family());
        if dest.local.is_none() && self.deferring.contains(&family) {
            return None;
        }
        let Some(best) = dest.best.clone() else { return Some(None) };
        let originated = best.originated.as_ref();
        if originated.is_some() && aggregates::around(&prefix, aggregates).next().is_some() {
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
        let exported = match self.outcome(peer, &prefix, &best, aggregates).verdict {
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
            next_hop: self.view.address_beside(out.local, family)?,
            long_lived: tables.long_lived,
        })
    }

    /// Brings the adj-rib-out to `wanted` and puts the difference into `batch`.
    fn note_sent(&mut self, peer: PeerId, id: DestId, wanted: Option<Arc<AttributeSet>>, batch: &mut Batch) {
        let prefix = self.dest(id).prefix;
        let Some(out) = self.out_mut(peer) else { return };
        let resend = out.resend.remove(&id);
        match wanted {
            Some(attributes) => {
                let before = out.insert(id, prefix.family(), Arc::clone(&attributes));
                let unchanged = before.as_ref().is_some_and(|before| Arc::ptr_eq(before, &attributes));
                if !unchanged || resend {
                    batch.announce(prefix, &attributes);
                }
                if before.is_none() {
                    self.dest_mut(id).sent_to += 1;
                }
            }
            None => {
                if out.remove(id, prefix.family()) {
                    batch.withdrawn.entry(prefix.family()).or_default().push(prefix);
                    self.unsent(id);
                }
            }
        }
    }

    fn take_back(&mut self, peer: PeerId, prefixes: &[Prefix], session: &Session, bytes: &mut Vec<u8>) {
        for prefix in prefixes {
            let Some(id) = self.index.get(prefix).copied() else { continue };
            if self.out_mut(peer).is_some_and(|out| out.remove(id, prefix.family())) {
                self.unsent(id);
            }
        }
        // The peer may hold an older path of them.
        update::write_withdraw(bytes, session, prefixes);
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
            out.resend.extend(of_family.iter().filter(|id| out.sent.contains_key(id)));
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
            let may_hear = || dest.best.as_ref().is_some_and(|best| self.may_hear(peer, best));
            let is_meant = families.contains(&dest.prefix.family());
            (is_meant && (out.sent.contains_key(&id) || may_hear())).then_some(id)
        };
        self.live().filter_map(concerns).collect()
    }

    /// A destination has another best route: whom that may concern. In a mesh of hundreds what one tells is told to none of
    /// the others, and none is looked at.
    pub(super) fn rouse(&mut self, id: DestId) {
        let best = self.dest(id).best.as_ref();
        let concerned = |(peer, tables): (&PeerId, &PeerTables)| {
            let has_it = tables.out.as_ref()?.sent.contains_key(&id);
            (has_it || best.is_some_and(|best| self.may_hear(*peer, best))).then_some(*peer)
        };
        let concerned: Vec<PeerId> = self.peers.iter().filter_map(concerned).collect();
        for peer in concerned {
            if let Some(out) = self.out_mut(peer) {
                out.dirty.insert(id);
                self.roused.insert(peer);
            }
        }
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
        for id in out.sent.into_keys() {
            self.unsent(id);
        }
    }

    fn unsent(&mut self, id: DestId) {
        self.dest_mut(id).sent_to -= 1;
        self.release(id);
    }
}
