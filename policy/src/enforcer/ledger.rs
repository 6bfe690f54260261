//! What the rules have counted, by policy: the kernel counts by rule, and rules come and go with the classes of pods.

use std::collections::BTreeMap;

use super::status::{Count, Denied, Direction};
use crate::change::Key;
use crate::kernel::Counted;
use crate::program::ChainName;

/// Which chains stand for which policies, and what the chains had counted that are gone.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    classes: BTreeMap<ChainName, Class>,
    kept: Sums,
}

/// What a class chain stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Class {
    pub(super) direction: Direction,
    pub(super) policies: Vec<Key>,
}

/// Counters summed up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// What rules of a policy let through, by the part of their tags that names it.
    pub(super) allowed: BTreeMap<(String, Direction), Count>,
    /// What the chains of a list of policies denied.
    pub(super) denied: BTreeMap<(Direction, Vec<Key>), Count>,
    /// Rules of the frame, by tag.
    pub(super) frame: BTreeMap<String, Count>,
    /// What each chain denied.
    pub(super) denied_by: BTreeMap<ChainName, Count>,
}

impl Ledger {
    /// A class chain that is made, or that was found.
    pub(super) fn add_class(&mut self, chain: ChainName, policies: Vec<Key>) {
        if let Some(direction) = direction_of(&chain) {
            self.classes.insert(chain, Class { direction, policies });
        }
    }

    /// What a chain stands for.
    pub(super) fn class(&self, chain: &str) -> Option<&Class> {
        self.classes.get(chain)
    }

    /// Takes over what a chain has counted, for it goes.
    pub(super) fn keep(&mut self, counted: &[Counted]) {
        let mut kept = std::mem::take(&mut self.kept);
        counted.iter().for_each(|counted| self.add_to(&mut kept, counted));
        self.kept = kept;
    }

    /// A chain is gone in both families.
    pub(super) fn forget(&mut self, chain: &str) {
        self.classes.remove(chain);
    }

    /// What is kept of policies that are gone is kept no longer. `is_tag` says of a rule's tag whether its policy is there.
    pub(super) fn forget_policies(&mut self, is_tag: impl Fn(&str) -> bool, is_there: impl Fn(&Key) -> bool) {
        let Sums { allowed, denied, .. } = &mut self.kept;
        allowed.retain(|(policy, direction), _| is_tag(&format!("{policy} {direction}")));
        denied.retain(|(_, policies), _| policies.iter().all(&is_there));
    }

    /// With what is counted now.
    pub(super) fn sums(&self, now: &[Counted]) -> Sums {
        let mut sums = self.kept.clone();
        for counted in now {
            self.add_to(&mut sums, counted);
            if counted.tag == DENIED {
                *sums.denied_by.entry(counted.chain.clone()).or_default() += count(counted);
            }
        }
        sums
    }

    fn add_to(&self, sums: &mut Sums, counted: &Counted) {
        if let Some((policy, direction)) = policy_of(&counted.tag) {
            *sums.allowed.entry((policy, direction)).or_default() += count(counted);
        } else if counted.tag == DENIED {
            if let Some(class) = self.classes.get(&counted.chain) {
                *sums.denied.entry((class.direction, class.policies.clone())).or_default() += count(counted);
            }
        } else {
            *sums.frame.entry(counted.tag.clone()).or_default() += count(counted);
        }
    }
}

impl Sums {
    /// By direction and policies.
    pub(super) fn denied(&self) -> Vec<Denied> {
        let denied = |((direction, policies), count): (&(Direction, Vec<Key>), &Count)| Denied {
            direction: *direction,
            policies: policies.clone(),
            count: *count,
        };
        self.denied.iter().map(denied).collect()
    }
}

fn count(counted: &Counted) -> Count {
    Count { packets: counted.packets, bytes: counted.bytes }
}

/// Tag of the rules at the end of class chains.
const DENIED: &str = "denied";

/// The direction that a class chain's name tells.
pub(super) fn direction_of(chain: &str) -> Option<Direction> {
    match chain.get(..2)? {
        "i-" => Some(Direction::Ingress),
        "e-" => Some(Direction::Egress),
        _ => None,
    }
}

/// What names the policy in a rule's tag, and the direction: `default/allow-dns egress[0]`.
fn policy_of(tag: &str) -> Option<(String, Direction)> {
    let (policy, rule) = tag.rsplit_once(' ')?;
    policy.split_once('/')?;
    let direction = match rule.split('[').next()? {
        "ingress" => Direction::Ingress,
        "egress" => Direction::Egress,
        _ => return None,
    };
    Some((policy.to_owned(), direction))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Family;

    fn counted(chain: &str, tag: &str, packets: u64) -> Counted {
        Counted {
            family: Family::Ipv4,
            chain: chain.into(),
            tag: tag.to_owned(),
            packets,
            bytes: packets * 100,
        }
    }

    #[test]
    fn counters_are_summed_over_classes_and_over_chains_that_are_gone() {
        let dns = Key::new("default", "dns");
        let mut ledger = Ledger::default();
        ledger.add_class("e-1".into(), vec![dns.clone()]);
        ledger.add_class("e-2".into(), vec![dns.clone(), Key::new("default", "web")]);
        ledger.add_class("e-3".into(), vec![dns.clone()]);
        let gone = [counted("e-1", "default/dns egress[0]", 5), counted("e-1", "denied", 2)];
        ledger.keep(&gone);
        ledger.forget("e-1");
        let sums = ledger.sums(&[
            counted("e-2", "default/dns egress[1]", 7),
            counted("e-2", "denied", 3),
            counted("e-3", "denied", 4),
            counted("forward", "established", 100),
        ]);
        assert_eq!(sums.allowed[&(dns.to_string(), Direction::Egress)], Count { packets: 12, bytes: 1200 });
        assert_eq!(
            sums.denied[&(Direction::Egress, vec![dns])].packets,
            6,
            "of chains with the same policies"
        );
        assert_eq!(sums.denied_by["e-2"].packets, 3);
        assert_eq!(sums.frame["established"].packets, 100);
    }

    #[test]
    fn what_policies_counted_goes_with_them() {
        let keys = [Key::new("default", "dns"), Key::new("default", "web")];
        let mut ledger = Ledger::default();
        ledger.add_class("e-1".into(), keys.to_vec());
        ledger.add_class("e-2".into(), keys[1..].to_vec());
        ledger.keep(&[
            counted("e-1", "default/dns egress[0]", 5),
            counted("e-1", "default/web egress[0]", 6),
            counted("e-1", "denied", 2),
            counted("e-2", "denied", 3),
        ]);
        ledger.forget_policies(|tag| tag == "default/web egress", |key| *key == keys[1]);
        let sums = ledger.sums(&[]);
        assert_eq!(
            sums.allowed.keys().cloned().collect::<Vec<_>>(),
            [("default/web".to_owned(), Direction::Egress)]
        );
        assert_eq!(sums.denied.into_keys().collect::<Vec<_>>(), [(Direction::Egress, keys[1..].to_vec())]);
    }

    #[test]
    fn strange_tags_are_of_no_policy() {
        for tag in ["", "denied", "a/b", "a/b c", "ab ingress[0]", " ", "/ "] {
            assert_eq!(policy_of(tag), None, "{tag:?}");
        }
    }
}
