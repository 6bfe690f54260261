//! Adj-rib-out: what a peer was told, and what it must still be told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::{Best, DestId, Rib};
use crate::attributes::Attributes;
use crate::config::Export;
use crate::policy::{Advertise, export};
use crate::prefix::{Family, Prefix};
use crate::session::Session;
use crate::types::{PeerId, PeerKind};
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
    sent: BTreeMap<DestId, Arc<Attributes>>,
    /// How many of a family these are.
    sent_count: BTreeMap<Family, usize>,
    /// What it may have to hear of.
    pub(crate) dirty: BTreeSet<DestId>,
    /// Said again even if nothing changed: it asked (RFC 2918).
    resend: BTreeSet<DestId>,
    /// Families whose End-of-RIB is still to come.
    end_of_rib: BTreeSet<Family>,
}

impl AdjOut {
    pub(crate) fn new(local: IpAddr, tells: Tells, families: &BTreeSet<Family>) -> AdjOut {
        AdjOut {
            local,
            tells,
            families: families.clone(),
            sent: BTreeMap::new(),
            sent_count: BTreeMap::new(),
            dirty: BTreeSet::new(),
            resend: BTreeSet::new(),
            end_of_rib: families.clone(),
        }
    }

    /// What the peer has from us.
    pub(crate) fn sent(&self) -> &BTreeMap<DestId, Arc<Attributes>> {
        &self.sent
    }

    /// How many routes of a family the peer has from us.
    pub(crate) fn sent_count(&self, family: Family) -> usize {
        self.sent_count.get(&family).copied().unwrap_or_default()
    }

    /// What the peer had before.
    fn insert(&mut self, id: DestId, family: Family, sent: Arc<Attributes>) -> Option<Arc<Attributes>> {
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
    pub(crate) fn of(kind: PeerKind, export: Export) -> Tells {
        match (kind, export) {
            (PeerKind::External, Export::Own) => Tells::Own,
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
}

/// Prefixes that go out with one attribute set.
type Group = (Arc<Attributes>, Vec<Prefix>);

/// What export policy made of an attribute set, for one round.
type Exported = HashMap<(*const Attributes, Option<PeerId>, Family), Option<Arc<Attributes>>>;

/// What one round of [`Rib::transmit`] says.
#[derive(Default)]
struct Batch {
    withdrawn: BTreeMap<Family, Vec<Prefix>>,
    announced: Vec<Group>,
    /// Where the group of an attribute set stands in `announced`.
    groups: HashMap<(Family, *const Attributes), usize>,
}

impl Batch {
    fn announce(&mut self, prefix: Prefix, attributes: &Arc<Attributes>) {
        let key = (prefix.family(), Arc::as_ptr(attributes));
        let at = *self.groups.entry(key).or_insert_with(|| {
            self.announced.push((Arc::clone(attributes), Vec::new()));
            self.announced.len() - 1
        });
        self.announced[at].1.push(prefix);
    }
}

impl Rib {
    /// Destinations looked at in one round, so that no peer holds up the others for long.
    const ROUND: usize = 4096;

    /// Whether [`Rib::transmit`] has anything to say.
    pub(crate) fn wants_transmit(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).and_then(|tables| tables.out.as_ref()).is_some_and(|out| {
            !out.dirty.is_empty()
                || out.end_of_rib.iter().any(|family| out.knows_all(*family, &self.deferring))
        })
    }

    /// Appends the UPDATEs that bring `peer` up to date, one round of them; then End-of-RIB, once.
    pub(crate) fn transmit(&mut self, peer: PeerId, session: &Session, bytes: &mut Vec<u8>) {
        let Some(out) = self.out_mut(peer) else { return };
        let round: Vec<DestId> = std::iter::from_fn(|| out.dirty.pop_first()).take(Self::ROUND).collect();
        let mut batch = Batch::default();
        let mut exported = Exported::new();
        for id in round {
            let wanted = self.exported(peer, id, &mut exported);
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
        self.write_end_of_rib(peer, bytes);
    }

    /// What `peer` should have of a destination: `None` if that is not decided yet, `Some(None)` if
    /// nothing.
    fn exported(&mut self, peer: PeerId, id: DestId, memo: &mut Exported) -> Option<Option<Arc<Attributes>>> {
        let dest = self.dest(id);
        let family = dest.prefix.family();
        let Some(best) = dest.best.clone().filter(|best| best.peer != Some(peer)) else {
            return Some(None);
        };
        if best.peer.is_some() && self.deferring.contains(&family) {
            return None;
        }
        let key = (Arc::as_ptr(&best.attributes), best.peer, family);
        if let Some(known) = memo.get(&key) {
            return Some(known.clone());
        }
        let exported = self.advertise(peer, family).and_then(|advertise| {
            let Best { provenance, attributes, .. } = &best;
            export(attributes, *provenance, &advertise)
        });
        let exported = exported.map(|attributes| self.attributes.intern(attributes));
        memo.insert(key, exported.clone());
        Some(exported)
    }

    /// `None` where the session does not carry the family, or we have no address of it there.
    fn advertise(&self, peer: PeerId, family: Family) -> Option<Advertise> {
        let tables = self.peers.get(&peer)?;
        let out = tables.out.as_ref().filter(|out| out.families.contains(&family))?;
        Some(Advertise {
            to: tables.kind,
            policy: tables.policy.export,
            own_asn: self.view.own_asn(),
            next_hop: self.view.address_beside(out.local, family)?,
        })
    }

    /// Brings the adj-rib-out to `wanted` and puts the difference into `batch`.
    fn note_sent(&mut self, peer: PeerId, id: DestId, wanted: Option<Arc<Attributes>>, batch: &mut Batch) {
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
        let of_family: Vec<DestId> =
            self.live().filter(|(_, dest)| dest.prefix.family() == family).map(|(id, _)| id).collect();
        if let Some(out) = self.out_mut(peer).filter(|out| out.families.contains(&family)) {
            out.resend.extend(of_family.iter().filter(|id| out.sent.contains_key(id)));
            out.dirty.extend(of_family);
        }
    }

    /// Every peer may have to hear of every destination: policy, addresses or deferral changed.
    pub(crate) fn advertise_again(&mut self) {
        let peers: Vec<PeerId> = self.peers.keys().copied().collect();
        peers.into_iter().for_each(|peer| self.advertise_again_to(peer));
    }

    pub(crate) fn advertise_again_to(&mut self, peer: PeerId) {
        let all: Vec<DestId> = self.live().map(|(id, _)| id).collect();
        if let Some(out) = self.out_mut(peer) {
            out.dirty.extend(all);
        }
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
