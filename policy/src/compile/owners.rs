//! Who has an address: one pod at a time, in whatever order events come.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use super::cluster::PodId;

/// Claims of pods to addresses.
#[derive(Debug, Default)]
pub(super) struct Owners {
    claims: HashMap<IpAddr, Vec<Claim>>,
    claims_made: u64,
    /// Owners as they were when changes were last settled, of addresses claimed or given up since.
    before: HashMap<IpAddr, Option<PodId>>,
}

#[derive(Debug)]
struct Claim {
    pod: PodId,
    weight: Weight,
    /// The later of two equal claims wins.
    number: u64,
}

/// What a claim to one address weighs, the lightest first. What is wired here is so now; a status may be of before the
/// node's restart. Of two that are alike the younger pod's claim is the better one, as the older one's is a leftover.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
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
        let best = self.claims.get(&address)?.iter().max_by_key(|claim| (&claim.weight, claim.number));
        best.map(|claim| claim.pod)
    }

    /// From now on a pod claims these addresses instead of those. Tells which pods own other addresses now.
    pub(super) fn claim(&mut self, pod: PodId, old: &Claimed, new: &Claimed) -> BTreeSet<PodId> {
        let mut touched = BTreeSet::new();
        let gone = old.keys().filter(|address| !new.contains_key(address));
        for &address in gone.chain(new.keys()) {
            let before = self.owner(address);
            self.before.entry(address).or_insert(before);
            let claims = self.claims.entry(address).or_default();
            match (claims.iter().position(|claim| claim.pod == pod), new.get(&address)) {
                (Some(at), Some(weight)) => claims[at].weight = weight.clone(),
                (Some(at), None) => _ = claims.remove(at),
                (None, Some(weight)) => {
                    self.claims_made += 1;
                    claims.push(Claim { pod, weight: weight.clone(), number: self.claims_made });
                }
                (None, None) => {}
            }
            if claims.is_empty() {
                self.claims.remove(&address);
            }
            let now = self.owner(address);
            if now != before {
                touched.extend(before.into_iter().chain(now));
            }
        }
        touched
    }

    /// Whether one pod had the address when changes were last settled, and another has it now.
    pub(super) fn is_moved(&self, address: IpAddr) -> bool {
        let before = self.before.get(&address).copied().flatten();
        before.is_some_and(|before| self.owner(address).is_some_and(|now| now != before))
    }

    /// Changes so far are in the kernel's hands.
    pub(super) fn settle(&mut self) {
        self.before.clear();
    }
}
