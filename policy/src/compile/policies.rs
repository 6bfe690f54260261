//! NetworkPolicies as told, read once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::cluster::Resident;
use super::index::{Hook, Index};
use super::tag;
use crate::change::{Fault, Key, PolicyObject};
use crate::policy::{Policy, Port, PortName};

/// A policy as it was written at one time: another one after each change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PolicyId(u64);

/// All policies.
#[derive(Debug)]
pub(super) struct Policies {
    ids: BTreeMap<Key, PolicyId>,
    entries: HashMap<PolicyId, Entry>,
    by_tag: HashMap<String, Key>,
    /// Those that fail closed.
    faulty: BTreeSet<Key>,
    ids_made: u64,
    index: Index<PolicyId>,
}

/// A policy.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) policy: Policy,
    /// Ports that its ingress rules name.
    pub(super) names: BTreeSet<PortName>,
    object: Arc<PolicyObject>,
}

impl Policies {
    pub(super) fn new() -> Policies {
        Policies {
            ids: BTreeMap::new(),
            entries: HashMap::new(),
            by_tag: HashMap::new(),
            faulty: BTreeSet::new(),
            ids_made: 0,
            index: Index::new(),
        }
    }

    pub(super) fn get(&self, id: PolicyId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    pub(super) fn by_key(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(self.ids.get(key)?)
    }

    /// In the order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.ids.values().filter_map(|id| self.entries.get(id))
    }

    /// The policy that tags with this beginning name.
    pub(super) fn by_tag(&self, tag: &str) -> Option<&Key> {
        self.by_tag.get(tag)
    }

    /// Those that fail closed, in the order of their names.
    pub(super) fn faulty(&self) -> impl Iterator<Item = &Entry> {
        self.faulty.iter().filter_map(|key| self.by_key(key))
    }

    /// Whether a policy is told as it was told before.
    pub(super) fn is_known(&self, key: &Key, object: Option<&PolicyObject>) -> bool {
        match (self.by_key(key), object) {
            (None, None) => true,
            (Some(entry), Some(object)) => {
                entry.object.object.spec == object.object.spec && entry.object.faults == object.faults
            }
            _ => false,
        }
    }

    /// Puts a policy in the place of what had its name.
    pub(super) fn insert(&mut self, key: &Key, object: Arc<PolicyObject>) -> PolicyId {
        let policy = Policy::read(&key.namespace, &object);
        self.put(key, object, policy)
    }

    /// The same policy from now on fails closed.
    pub(super) fn close(&mut self, key: &Key, fault: Fault) -> Option<PolicyId> {
        let entry = self.by_key(key).filter(|entry| !entry.policy.faults.contains(&fault))?;
        let (object, policy) = (entry.object.clone(), entry.policy.clone().closed(fault));
        Some(self.put(key, object, policy))
    }

    pub(super) fn remove(&mut self, key: &Key) {
        let Some(id) = self.ids.remove(key) else { return };
        self.by_tag.remove(&tag::of_policy(key));
        self.faulty.remove(key);
        if let Some(entry) = self.entries.remove(&id) {
            self.index.take_off(id, &Hook::of_selector(&entry.policy.selects));
        }
    }

    /// Policies that select a pod, which hangs on these hooks.
    pub(super) fn selecting(&self, resident: &Resident<'_>, hooks: &[Hook]) -> BTreeMap<Key, PolicyId> {
        let candidates = self.index.find(hooks).into_iter();
        let selecting = candidates.filter_map(|id| {
            let entry = self.entries.get(&id)?;
            resident.is_selected_by(&entry.policy.selects).then(|| (entry.key.clone(), id))
        });
        selecting.collect()
    }

    fn put(&mut self, key: &Key, object: Arc<PolicyObject>, policy: Policy) -> PolicyId {
        self.remove(key);
        self.ids_made += 1;
        let id = PolicyId(self.ids_made);
        let ports = policy.ingress.iter().flatten().flat_map(|rule| rule.ports.iter().flatten());
        let named = ports.filter_map(|port| match port {
            Port::Named(name) => Some(name.clone()),
            Port::All(_) | Port::Numbers(..) => None,
        });
        let names = named.collect();
        self.index.hang(id, &Hook::of_selector(&policy.selects));
        self.ids.insert(key.clone(), id);
        self.by_tag.insert(tag::of_policy(key), key.clone());
        if !policy.faults.is_empty() {
            self.faulty.insert(key.clone());
        }
        self.entries.insert(id, Entry { key: key.clone(), policy, names, object });
        id
    }
}
