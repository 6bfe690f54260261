//! How much one policy may ask for. Whoever may write policies for one namespace shares the nodes with all others.

use std::collections::BTreeSet;

use super::{Direction, Peers, PolicyRule, Port};
use crate::change::Fault;

/// Most prefixes that the blocks of all lists of peers may come to. An exception of one IPv6 address leaves 128 of them, so
/// that one object could ask for millions; a set takes them one by one.
const MOST_PREFIXES: usize = 1 << 16;
/// Most sets that the rules may look into, a family: one for each list of peers, and one for each port that is named beside
/// it for what pods send. Each may hold all pods of the cluster.
const MOST_SETS: usize = 1000;

/// What is too much; `None`: nothing is. Lists that say the same are counted once, as they share a set.
pub(super) fn exceeded(ingress: &[PolicyRule], egress: &[PolicyRule]) -> Option<Fault> {
    let ingress = ingress.iter().enumerate().map(|(at, rule)| (Direction::Ingress, at, rule));
    let egress = egress.iter().enumerate().map(|(at, rule)| (Direction::Egress, at, rule));
    let (mut sets, mut prefixes) = (BTreeSet::new(), 0);
    for (direction, at, rule) in ingress.chain(egress) {
        let (rules, peers) = (direction.name(), if direction == Direction::Ingress { "from" } else { "to" });
        if let Peers::Listed(list) = &rule.peers
            && sets.insert((&rule.peers, None))
        {
            let all = list.ipv4.prefixes().chain(list.ipv6.prefixes());
            prefixes += all.take(MOST_PREFIXES + 1 - prefixes).count();
            if prefixes > MOST_PREFIXES {
                let what = format!("blocks come to more than {MOST_PREFIXES} prefixes so far");
                return Some(Fault { field: format!("spec.{rules}[{at}].{peers}"), what });
            }
        }
        let names = rule.ports.iter().flatten().filter_map(|port| match port {
            Port::Named(name) if direction == Direction::Egress => Some((&rule.peers, Some(name))),
            _ => None,
        });
        sets.extend(names);
        if sets.len() > MOST_SETS {
            let count = sets.len();
            let what =
                format!("{count} lists of peers and names of ports so far: expected at most {MOST_SETS}");
            return Some(Fault { field: format!("spec.{rules}[{at}]"), what });
        }
    }
    None
}
