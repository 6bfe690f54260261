//! A NetworkPolicy, read once and checked as the API server checks it.
//!
//! What is missing means something in this API, and mostly everything: no `from` is anyone, no `ports` any port, an
//! empty selector all pods. So nothing that is wrong is left out and the rest kept: one fault, and the whole policy
//! fails closed. It isolates what it selects, and allows nothing.

mod bounds;
mod decode;
mod peers;
mod ports;

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::NetworkPolicySpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

pub use self::decode::decode;
pub(crate) use self::peers::NAME_LABEL;
pub use self::peers::{Namespaces, PeerList, Peers, PodSelector};
pub(crate) use self::ports::protocol;
pub use self::ports::{Port, PortName};
use crate::change::{Fault, PolicyObject};
use crate::selector::Selector;

/// Which way a connection goes, as the pod sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// To the pod.
    Ingress,
    /// From the pod.
    Egress,
}

impl Direction {
    /// Both.
    pub const ALL: [Direction; 2] = [Direction::Ingress, Direction::Egress];

    /// As in the specification's fields and in tags.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        }
    }
}

/// A policy, as the compiler wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Pods of its namespace.
    pub selects: PodSelector,
    /// What they may be sent; `None`: it does not say.
    pub ingress: Option<Vec<PolicyRule>>,
    /// What they may send; `None`: it does not say.
    pub egress: Option<Vec<PolicyRule>>,
    /// Why it fails closed; empty: it does not.
    pub faults: Vec<Fault>,
}

/// Any of these ports at any of these peers is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRule {
    /// The other ends.
    pub peers: Peers,
    /// Of the destination; `None`: all, and what has no ports.
    pub ports: Option<BTreeSet<Port>>,
}

impl Policy {
    /// Reads a policy of this namespace.
    pub fn read(namespace: &Arc<str>, object: &PolicyObject) -> Policy {
        let nothing = NetworkPolicySpec::default();
        let spec = object.object.spec.as_ref().unwrap_or(&nothing);
        let mut reader = Reader { namespace, faults: Vec::new() };

        let selector =
            spec.pod_selector.as_ref().map(|selector| reader.selector(selector, "spec.podSelector"));
        let directions = reader.directions(spec, &object.faults);
        let ingress = spec.ingress.iter().flatten().enumerate().map(|(at, rule)| {
            let field = format!("spec.ingress[{at}]");
            let peers = Peers::read(rule.from.as_deref(), &format!("{field}.from"), &mut reader);
            PolicyRule { peers, ports: ports::read(rule.ports.as_deref(), &field, &mut reader.faults) }
        });
        let ingress: Vec<PolicyRule> = ingress.collect();
        let egress = spec.egress.iter().flatten().enumerate().map(|(at, rule)| {
            let field = format!("spec.egress[{at}]");
            let peers = Peers::read(rule.to.as_deref(), &format!("{field}.to"), &mut reader);
            PolicyRule { peers, ports: ports::read(rule.ports.as_deref(), &field, &mut reader.faults) }
        });
        let egress: Vec<PolicyRule> = egress.collect();
        reader.faults.extend(bounds::exceeded(&ingress, &egress));

        let mut faults = object.faults.clone();
        let is_told = |fault: &Fault| object.faults.iter().any(|told| is_within(&fault.field, &told.field));
        faults.extend(reader.faults.into_iter().filter(|fault| !is_told(fault)));
        let is_selector_bad = faults.iter().any(|fault| is_within(&fault.field, "spec.podSelector"));
        let pods = selector.filter(|_| !is_selector_bad).unwrap_or_default();
        let policy = Policy {
            selects: PodSelector { namespaces: Namespaces::Named(namespace.clone()), pods },
            ingress: directions.contains(&Direction::Ingress).then_some(ingress),
            egress: directions.contains(&Direction::Egress).then_some(egress),
            faults: Vec::new(),
        };
        faults.into_iter().fold(policy, Policy::closed)
    }

    /// The same, but it allows nothing, for this reason among others.
    pub fn closed(mut self, fault: Fault) -> Policy {
        self.faults.push(fault);
        for rules in [&mut self.ingress, &mut self.egress].into_iter().flatten() {
            rules.clear();
        }
        self
    }

    /// Its rules in a direction; `None`: it does not isolate there.
    pub fn rules(&self, direction: Direction) -> Option<&[PolicyRule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

/// What the parts of a policy have in common while they are read.
struct Reader<'a> {
    namespace: &'a Arc<str>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn fault(&mut self, field: &str, what: impl Into<String>) {
        self.faults.push(Fault { field: field.into(), what: what.into() });
    }

    fn selector(&mut self, selector: &LabelSelector, field: &str) -> Selector {
        Selector::read(selector, field, &mut self.faults)
    }

    /// What the API server fills in where `policyTypes` is missing or empty: Ingress always, Egress if there is a rule
    /// for it. Where that cannot be known, both.
    fn directions(&mut self, spec: &NetworkPolicySpec, told: &[Fault]) -> BTreeSet<Direction> {
        let types = spec.policy_types.as_deref().unwrap_or_default();
        if types.len() > Direction::ALL.len() {
            self.fault("spec.policyTypes", format!("{} entries: more than two", types.len()));
        }
        let mut directions = BTreeSet::new();
        for (at, name) in types.iter().enumerate() {
            match name.as_str() {
                "Ingress" => _ = directions.insert(Direction::Ingress),
                "Egress" => _ = directions.insert(Direction::Egress),
                _ => {
                    let field = format!("spec.policyTypes[{at}]");
                    self.fault(&field, format!("{name:?}: expected Ingress or Egress"));
                    directions.extend(Direction::ALL);
                }
            }
        }
        let hides_one = |fault: &Fault| {
            let is_in = |field| is_within(&fault.field, field);
            match types.is_empty() {
                true => !["metadata", "spec.podSelector", "spec.ingress"].into_iter().any(is_in),
                false => is_in("spec.policyTypes"),
            }
        };
        if told.iter().any(hides_one) {
            directions.extend(Direction::ALL);
        }
        if directions.is_empty() {
            directions.insert(Direction::Ingress);
            directions.extend(spec.egress.iter().flatten().next().map(|_| Direction::Egress));
        }
        directions
    }
}

/// Whether a field is this one or a part of it.
fn is_within(field: &str, whole: &str) -> bool {
    field.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests;
