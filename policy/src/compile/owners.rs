//! Who has an address: one pod at a time, in whatever order events come.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use super::slab::PodId;

/// Claims of pods to addresses. Nearly all are undisputed.
#[derive(Debug, Default)]
pub(super) struct Owners {
    owners: HashMap<IpAddr, PodId>,
    /// Claims to addresses that more than one pod claims, in the order in which they were made.
    disputes: HashMap<IpAddr, Vec<(PodId, Weight)>>,
    /// Owners as they were when changes were last settled, of addresses claimed or given up since.
    before: HashMap<IpAddr, Option<PodId>>,
}

/// What a claim to one address weighs, the lightest first. What is wired here is so now; a status may be of before the
/// node's restart. Of two that are alike the younger pod's claim is the better one, as the older one's is a leftover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weight {
    /// The pod's status says so. Its object tells when it was created.
    Reported(Option<i64>),
    /// A veth of the pod has it.
    Wired(Option<i64>),
    /// There is no object, but there is the veth: nothing is younger.
    New,
}

/// The addresses that a pod claims.
pub(super) type Claimed = BTreeMap<IpAddr, Weight>;

impl Owners {
    pub(super) fn owner(&self, address: IpAddr) -> Option<PodId> {
        self.owners.get(&address).copied()
    }

    /// From now on a pod claims these addresses instead of those. Tells which pods own other addresses now. What the
    /// claim of another pod weighs is asked for when there is a dispute.
    pub(super) fn claim(
        &mut self,
        pod: PodId,
        old: &Claimed,
        new: &Claimed,
        weight: impl Fn(PodId, IpAddr) -> Weight,
    ) -> BTreeSet<PodId> {
        let mut touched = BTreeSet::new();
        let gone = old.keys().filter(|address| !new.contains_key(address));
        for &address in gone.chain(new.keys()) {
            let before = self.owner(address);
            self.before.entry(address).or_insert(before);
            match new.get(&address) {
                Some(&own) => self.enter(pod, address, own, &weight),
                None => self.leave(pod, address),
            }
            let now = self.owner(address);
            if now != before {
                touched.extend(before.into_iter().chain(now));
            }
        }
        touched
    }

    fn enter(&mut self, pod: PodId, address: IpAddr, own: Weight, weight: impl Fn(PodId, IpAddr) -> Weight) {
        let owner = *self.owners.entry(address).or_insert(pod);
        let claims = match self.disputes.get_mut(&address) {
            Some(claims) => claims,
            None if owner == pod => return,
            None => self.disputes.entry(address).or_insert_with(|| vec![(owner, weight(owner, address))]),
        };
        match claims.iter_mut().find(|(claimant, _)| *claimant == pod) {
            Some(claim) => claim.1 = own,
            None => claims.push((pod, own)),
        }
        self.settle_dispute(address);
    }

    fn leave(&mut self, pod: PodId, address: IpAddr) {
        if let Some(claims) = self.disputes.get_mut(&address) {
            claims.retain(|(claimant, _)| *claimant != pod);
            self.settle_dispute(address);
        } else if self.owner(address) == Some(pod) {
            self.owners.remove(&address);
        }
    }

    /// The later of two equal claims wins.
    fn settle_dispute(&mut self, address: IpAddr) {
        let Some(claims) = self.disputes.get(&address) else { return };
        match claims.iter().max_by_key(|(_, weight)| weight) {
            Some(&(pod, _)) => _ = self.owners.insert(address, pod),
            None => _ = self.owners.remove(&address),
        }
        if claims.len() < 2 {
            self.disputes.remove(&address);
        }
    }

    /// Whether one pod had the address when changes were last settled, and another has it now.
    pub(super) fn is_moved(&self, address: IpAddr) -> bool {
        let before = self.before.get(&address).copied().flatten();
        before.is_some_and(|before| self.owner(address).is_some_and(|now| now != before))
    }

    /// Changes so far are in the kernel's hands.
    pub(super) fn settle(&mut self) {
        self.before = HashMap::new();
    }
}
