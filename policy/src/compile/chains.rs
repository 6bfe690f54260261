//! Chains of classes: pods with the same policies, and the same numbers for the ports that these name, share one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::cluster::Cluster;
use super::draft::Draft;
use super::name::Content;
use super::policies::{Policies, PolicyId};
use super::sets::{SetId, Sets};
use super::tiers::{Action, Clause, Lowered, Lowering, Tier};
use super::{Options, tag};
use crate::change::Key;
use crate::policy::{Direction, PortName};
use crate::program::{ChainName, End, Interface, Rule, Statement, Verdict};

/// What a chain is made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Class {
    pub(super) direction: Direction,
    /// In the order of their names; at least one.
    pub(super) policies: Vec<PolicyId>,
    /// Numbers of ports that they name, for what the pod is sent.
    pub(super) numbers: BTreeMap<PortName, BTreeSet<u16>>,
}

/// All chains of classes.
#[derive(Debug, Default)]
pub(super) struct Chains {
    chains: HashMap<ChainName, Chain>,
    names: HashMap<Class, ChainName>,
    /// Chains that no pod is placed in, perhaps.
    idle: BTreeSet<ChainName>,
}

#[derive(Debug)]
struct Chain {
    placements: usize,
    sets: Vec<SetId>,
    policies: Vec<Key>,
    /// A policy that is written otherwise and means the same leads to the same chain.
    classes: Vec<Class>,
}

/// What a chain is made from, and where it is made.
pub(super) struct Site<'a> {
    pub(super) options: &'a Options,
    pub(super) policies: &'a Policies,
    pub(super) sets: &'a mut Sets,
    pub(super) cluster: &'a Cluster,
    pub(super) draft: &'a mut Draft,
}

impl Chains {
    /// One more pod is placed in the chain of a class; it is made if there is none.
    pub(super) fn acquire(&mut self, class: Class, site: &mut Site<'_>) -> ChainName {
        let name = match self.names.get(&class) {
            Some(name) => name.clone(),
            None => self.make(class, site),
        };
        if let Some(chain) = self.chains.get_mut(&name) {
            chain.placements += 1;
        }
        name
    }

    /// One pod less is placed in it.
    pub(super) fn release(&mut self, name: &ChainName) {
        if let Some(chain) = self.chains.get_mut(name) {
            chain.placements = chain.placements.saturating_sub(1);
            self.idle.insert(name.clone());
        }
    }

    /// Drops chains that no pod is placed in.
    pub(super) fn sweep(&mut self, sets: &mut Sets, draft: &mut Draft) {
        for name in std::mem::take(&mut self.idle) {
            if self.chains.get(&name).is_none_or(|chain| chain.placements > 0) {
                continue;
            }
            let Some(chain) = self.chains.remove(&name) else { continue };
            chain.classes.iter().for_each(|class| _ = self.names.remove(class));
            chain.sets.into_iter().for_each(|set| sets.release(set));
            draft.drop_chain(&name);
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn classes(&self) -> usize {
        let kept = self.chains.values().map(|chain| chain.classes.len()).sum();
        assert_eq!(self.names.len(), kept);
        kept
    }

    /// The policies that isolate the pods of a chain.
    pub(super) fn policies(&self, name: &str) -> Option<&[Key]> {
        self.chains.get(name).map(|chain| &*chain.policies)
    }

    fn make(&mut self, class: Class, site: &mut Site<'_>) -> ChainName {
        let tier = site.policies.tier(class.direction, &class.policies);
        let lowered = {
            let extents = |meaning: &_| site.sets.extents(meaning);
            let (direction, numbers) = (class.direction, &class.numbers);
            let lowering = Lowering { options: site.options, direction, numbers, extents: &extents };
            lowering.lower(&[tier])
        };
        let policies = site.policies.keys(&class.policies);
        let name = name(class.direction, &policies, &lowered);
        self.names.insert(class.clone(), name.clone());
        if let Some(chain) = self.chains.get_mut(&name) {
            let is_there = |class: &Class| class.policies.iter().all(|&id| site.policies.get(id).is_some());
            let gone = chain.classes.extract_if(.., |class| !is_there(class));
            gone.for_each(|class| _ = self.names.remove(&class));
            chain.classes.push(class);
            return name;
        }
        let Lowered { rules: [ipv4, ipv6], meanings } = lowered.told_as(&name);
        let acquire = |meaning| site.sets.acquire(meaning, site.cluster, site.draft);
        let sets = meanings.iter().map(acquire).collect();
        site.draft.make_chain(&name, ipv4, ipv6);
        self.chains.insert(name.clone(), Chain { placements: 0, sets, policies, classes: vec![class] });
        self.idle.insert(name.clone());
        name
    }
}

impl Policies {
    /// NetworkPolicies only add up: the order of them and of their rules means nothing.
    fn tier(&self, direction: Direction, policies: &[PolicyId]) -> Tier {
        let mut clauses = Vec::new();
        for (source, entry) in policies.iter().filter_map(|id| self.get(*id)).enumerate() {
            let rules = entry.policy.rules(direction).unwrap_or_default();
            clauses.extend(rules.iter().enumerate().map(|(at, rule)| Clause {
                action: Action::Accept,
                peers: rule.peers.clone(),
                ports: rule.ports.clone(),
                tag: tag::of_rule(&entry.key, direction, at),
                source,
            }));
        }
        Tier { clauses, otherwise: Some(Action::Deny) }
    }

    fn keys(&self, policies: &[PolicyId]) -> Vec<Key> {
        policies.iter().filter_map(|id| self.get(*id)).map(|entry| entry.key.clone()).collect()
    }
}

/// The policies are part of the name, so that what a chain denies can be told to be theirs.
fn name(direction: Direction, policies: &[Key], lowered: &Lowered) -> ChainName {
    let mut content = Content::default();
    content.number(policies.len() as u32);
    for key in policies {
        content.text(&key.namespace).text(&key.name);
    }
    for rules in &lowered.rules {
        content.number(rules.len() as u32);
        rules.iter().for_each(|rule| write_rule(&mut content, rule));
    }
    let letter = match direction {
        Direction::Ingress => 'i',
        Direction::Egress => 'e',
    };
    Arc::from(format!("{letter}-{}", content.letters()))
}

fn write_rule(content: &mut Content, rule: &Rule) {
    content.text(&rule.tag).number(rule.statements.len() as u32);
    for statement in &rule.statements {
        match statement {
            Statement::IsVeth(Interface::Input) => content.text("from veth"),
            Statement::IsVeth(Interface::Output) => content.text("to veth"),
            Statement::Established => content.text("established"),
            Statement::Protocol(protocol) => content.text("protocol").number(protocol.number().into()),
            Statement::DestinationPort(ports) => {
                content.text("port").number(ports.first.into()).number(ports.last.into())
            }
            Statement::InSet { set, ends, inverted } => {
                content.text(if *inverted { "not in set" } else { "in set" }).text(set);
                ends.iter().for_each(|end| {
                    content.text(match end {
                        End::Source => "source",
                        End::Destination => "destination",
                    });
                });
                &mut *content
            }
            Statement::Counter => content.text("counter"),
            Statement::AtMostPerSecond(most) => content.text("limit").number(*most),
            Statement::Log { group, prefix } => content.text("log").number((*group).into()).text(prefix),
            Statement::Verdict(Verdict::Accept) => content.text("accept"),
            Statement::Verdict(Verdict::Drop) => content.text("drop"),
            Statement::Verdict(Verdict::Return) => content.text("return"),
            Statement::Verdict(Verdict::Jump(chain)) => content.text("jump").text(chain),
            Statement::Verdict(Verdict::Goto(chain)) => content.text("goto").text(chain),
            Statement::Dispatch(Interface::Input) => content.text("dispatch egress"),
            Statement::Dispatch(Interface::Output) => content.text("dispatch ingress"),
        };
    }
}
