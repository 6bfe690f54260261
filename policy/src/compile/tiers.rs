//! The middle form: what may reach a pod, or be reached by it, as ordered tiers of clauses; and its rules.
//!
//! The first clause of a tier that fits decides. A packet that none of a tier fits goes on to the next one, or is denied
//! there. NetworkPolicies are one tier that accepts and ends in denial; tiers before and after it have room here.

use std::collections::{BTreeMap, BTreeSet};

use super::Options;
use super::frame::deny;
use super::sets::{Extent, Meaning};
use crate::policy::{Direction, Peers, Port, PortName};
use crate::program::{End, Family, Ports, Protocol, Rule, Statement, Verdict};

/// Clauses of the same standing, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tier {
    pub(super) clauses: Vec<Clause>,
    /// What becomes of a packet that no clause fits; `None`: the next tier decides, and at last it is accepted.
    pub(super) otherwise: Option<Action>,
}

/// What is done with packets of these peers to these ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clause {
    pub(super) action: Action,
    pub(super) peers: Peers,
    /// `None`: all, and what has no ports.
    pub(super) ports: Option<BTreeSet<Port>>,
    /// Tells whose clause it is, for people and counters.
    pub(super) tag: String,
    /// Clauses of one source may stand for each other.
    pub(super) source: usize,
}

/// What a clause does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Accept,
    Deny,
}

/// The rules of a chain in both families, and the sets they look into.
#[derive(Debug, Default)]
pub(super) struct Lowered {
    /// In the order of [`Family::ALL`].
    pub(super) rules: [Vec<Rule>; 2],
    pub(super) meanings: BTreeSet<Meaning>,
}

/// Makes rules of tiers.
pub(super) struct Lowering<'a> {
    pub(super) options: &'a Options,
    pub(super) direction: Direction,
    /// The numbers of the pod's named ports, for what it is sent.
    pub(super) numbers: &'a BTreeMap<PortName, BTreeSet<u16>>,
    pub(super) extents: &'a dyn Fn(&Meaning) -> [Extent; 2],
}

impl Lowering<'_> {
    /// Rules of all tiers. What they deny is told without a name: that follows from the rules.
    pub(super) fn lower(&self, tiers: &[Tier]) -> Lowered {
        let mut lowered = Lowered::default();
        for tier in tiers {
            let mut known = BTreeSet::new();
            for clause in &tier.clauses {
                self.lower_clause(clause, &mut known, &mut lowered);
            }
            match tier.otherwise {
                None => {}
                Some(Action::Accept) => {
                    lowered.each(|| vec![Rule { statements: verdict(Action::Accept), tag: "allowed".into() }])
                }
                Some(Action::Deny) => lowered.each(|| deny(self.options, "", "denied").into()),
            }
        }
        lowered
    }

    fn lower_clause(
        &self,
        clause: &Clause,
        known: &mut BTreeSet<(usize, Family, Vec<Statement>)>,
        lowered: &mut Lowered,
    ) {
        let ports = self.ports(clause.ports.as_ref());
        let anywhere = ports.matches.iter().map(|ports| (ports.as_slice(), meaning_of(&clause.peers)));
        let named = ports.names.iter().map(|name| {
            // The set has the port and its protocol.
            (&[][..], Some(Meaning::NamedPort(clause.peers.clone(), name.clone())))
        });
        for (ports, meaning) in anywhere.chain(named) {
            let extents = meaning.as_ref().map_or([Extent::Everything, Extent::Everything], self.extents);
            if extents.iter().any(|extent| matches!(extent, Extent::Set(..))) {
                lowered.meanings.extend(meaning.clone());
            }
            for (at, family) in Family::ALL.into_iter().enumerate() {
                let peers = match &extents[at] {
                    Extent::Nothing => continue,
                    Extent::Everything => None,
                    Extent::Set(set, _) => {
                        let ends = self.ends(meaning.as_ref());
                        Some(Statement::InSet { set: set.clone(), ends, inverted: false })
                    }
                };
                let conditions = ports.iter().cloned().chain(peers);
                let statements: Vec<Statement> = conditions.chain(verdict(clause.action)).collect();
                if known.insert((clause.source, family, statements.clone())) {
                    lowered.rules[at].push(Rule { statements, tag: clause.tag.clone() });
                }
            }
        }
    }

    fn ends(&self, meaning: Option<&Meaning>) -> Vec<End> {
        match (self.direction, meaning) {
            (_, Some(Meaning::NamedPort(..))) => vec![End::Destination, End::Destination],
            (Direction::Ingress, _) => vec![End::Source],
            (Direction::Egress, _) => vec![End::Destination],
        }
    }

    /// Ports as few conditions: doubles are gone, and ranges that overlap or touch are one.
    fn ports(&self, ports: Option<&BTreeSet<Port>>) -> PortMatches {
        let Some(ports) = ports else { return PortMatches { matches: vec![Vec::new()], names: Vec::new() } };
        let mut all = BTreeSet::new();
        let mut ranges: BTreeMap<Protocol, Vec<Ports>> = BTreeMap::new();
        let mut names = Vec::new();
        for port in ports {
            match (port, self.direction) {
                (Port::All(protocol), _) => _ = all.insert(*protocol),
                (Port::Numbers(protocol, numbers), _) => ranges.entry(*protocol).or_default().push(*numbers),
                (Port::Named(name), Direction::Egress) => names.push(name.clone()),
                (Port::Named(name), Direction::Ingress) => {
                    let numbers = self.numbers.get(name).into_iter().flatten();
                    let numbers = numbers.map(|&number| Ports { first: number, last: number });
                    ranges.entry(name.protocol).or_default().extend(numbers);
                }
            }
        }
        names.retain(|name| !all.contains(&name.protocol));
        ranges.retain(|protocol, _| !all.contains(protocol));
        let whole = all.into_iter().map(|protocol| vec![Statement::Protocol(protocol)]);
        let parts = ranges.into_iter().flat_map(|(protocol, ranges)| {
            let range = move |ports| vec![Statement::Protocol(protocol), Statement::DestinationPort(ports)];
            merged(ranges).into_iter().map(range)
        });
        PortMatches { matches: whole.chain(parts).collect(), names }
    }
}

struct PortMatches {
    /// Conditions, one of which must hold.
    matches: Vec<Vec<Statement>>,
    /// Names that each destination gives its own number.
    names: Vec<PortName>,
}

impl Lowered {
    /// The same, where all that is logged is told with this prefix.
    pub(super) fn told_as(mut self, name: &str) -> Lowered {
        let rules = self.rules.iter_mut().flatten();
        for statement in rules.flat_map(|rule| &mut rule.statements) {
            if let Statement::Log { prefix, .. } = statement {
                *prefix = name.into();
            }
        }
        self
    }

    fn each(&mut self, rules: impl Fn() -> Vec<Rule>) {
        self.rules.iter_mut().for_each(|family| family.extend(rules()));
    }
}

fn meaning_of(peers: &Peers) -> Option<Meaning> {
    match peers {
        Peers::Anyone => None,
        Peers::Listed(list) => Some(Meaning::Addresses(list.clone())),
    }
}

/// Accepted means: back to the base chain, where the other direction is still to be judged.
fn verdict(action: Action) -> Vec<Statement> {
    let verdict = match action {
        Action::Accept => Verdict::Return,
        Action::Deny => Verdict::Drop,
    };
    vec![Statement::Counter, Statement::Verdict(verdict)]
}

fn merged(mut ranges: Vec<Ports>) -> Vec<Ports> {
    ranges.sort_unstable();
    let mut merged: Vec<Ports> = Vec::with_capacity(ranges.len());
    for ports in ranges {
        match merged.last_mut() {
            Some(last) if ports.first <= last.last.saturating_add(1) => last.last = last.last.max(ports.last),
            _ => merged.push(ports),
        }
    }
    merged
}
