//! Dropping what nobody uses any more, at leisure.

use std::collections::BTreeSet;

use tracing::debug;

use super::{Refusal, Writer};
use crate::kernel::{Counted, Operation};
use crate::program::{ChainName, Family};

/// What was dropped.
#[derive(Debug, Default)]
pub(in crate::enforcer) struct Dropped {
    pub(in crate::enforcer) any: bool,
    /// Chains that are gone in both families.
    pub(in crate::enforcer) chains: BTreeSet<ChainName>,
}

impl Writer {
    /// Drops some chains that nothing leads to, and then some sets that no rule names. `keep` is told what the chains counted.
    pub(in crate::enforcer) fn drop_lingering(
        &mut self,
        most: usize,
        keep: impl FnOnce(&[Counted]),
    ) -> Dropped {
        let chains = self.mirror.lingering.chains.iter().take(most).cloned().collect::<Vec<_>>();
        if !chains.is_empty() {
            let mut counted = self.kernel.counters().unwrap_or_default();
            // What stays counts on, and is kept when it goes.
            let gone = self.drop_chains(&chains);
            counted.retain(|counted| gone.contains(&(counted.family, counted.chain.clone())));
            keep(&counted);
            let is_gone = |chain: &ChainName| {
                !Family::ALL
                    .iter()
                    .any(|family| self.mirror.lingering.chains.contains(&(*family, chain.clone())))
            };
            let chains = chains.into_iter().map(|(_, chain)| chain).filter(is_gone).collect::<BTreeSet<_>>();
            return Dropped { any: true, chains };
        }
        let mut dropped = Dropped::default();
        for set in self.mirror.lingering.sets.iter().take(most).cloned().collect::<Vec<_>>() {
            match self.kernel.destroy_set(&set.1) {
                Ok(()) => {
                    self.mirror.lingering.sets.remove(&set);
                    dropped.any = true;
                }
                // The kernel lets go of rules a moment after their chain is gone.
                Err(error) => debug!(set = %set.1, error = %error, "a set nobody uses stays for now"),
            }
        }
        dropped
    }

    /// All of them in one batch; if that is refused, each alone. Those that are gone.
    fn drop_chains(&mut self, chains: &[(Family, ChainName)]) -> BTreeSet<(Family, ChainName)> {
        let rules_first = chains
            .iter()
            .map(|(family, chain)| Operation::FlushChain { family: *family, chain: chain.clone() });
        let then_chains = chains
            .iter()
            .map(|(family, chain)| Operation::DropChain { family: *family, chain: chain.clone() });
        let operations = rules_first.chain(then_chains).collect::<Vec<_>>();
        match self.commit(&operations) {
            Ok(()) => {
                let gone = chains.iter().cloned().collect::<BTreeSet<_>>();
                self.mirror.lingering.chains.retain(|chain| !gone.contains(chain));
                return gone;
            }
            Err(Refusal::Conflict) => self.touched = true,
            Err(Refusal::Trouble(_)) if chains.len() > 1 => {
                return chains
                    .iter()
                    .flat_map(|chain| self.drop_chains(std::slice::from_ref(chain)))
                    .collect();
            }
            Err(Refusal::Trouble(trouble)) => {
                debug!(chain = %chains[0].1, trouble = ?trouble, "a chain nobody uses stays for now");
                // The next look at the tables finds it again.
                self.mirror.lingering.chains.remove(&chains[0]);
            }
        }
        BTreeSet::new()
    }
}
