//! Finds pods by selectors, and selectors by pods, without looking at all of them.
//!
//! A pod hangs on one hook for each thing that it is; a selector looks at the hooks of one thing that it asks for, so
//! that all it selects hangs there, and more perhaps. The other way round, a selector hangs and a pod looks.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::cluster::Resident;
use crate::labels::Labels;
use crate::policy::{Namespaces, PodSelector, PortName};

/// One thing that a pod can be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Hook {
    /// A pod.
    Any,
    /// Of a namespace.
    Namespace(Arc<str>),
    /// Of a namespace with this label.
    NamespaceLabel(Arc<str>, Arc<str>),
    /// With this label.
    Label(Arc<str>, Arc<str>),
    /// Of a namespace, with this label.
    LabelIn(Arc<str>, Arc<str>, Arc<str>),
    /// With this port.
    Port(PortName),
}

impl Hook {
    /// All that a pod is.
    pub(super) fn of_pod(resident: &Resident<'_>) -> Vec<Hook> {
        let namespace = &resident.key.namespace;
        let mut hooks = vec![Hook::Any, Hook::Namespace(namespace.clone())];
        for (key, value) in resident.pod.labels.iter() {
            hooks.push(Hook::Label(key.clone(), value.clone()));
            hooks.push(Hook::LabelIn(namespace.clone(), key.clone(), value.clone()));
        }
        let labels = resident.namespace_labels.into_iter().flat_map(Labels::iter);
        hooks.extend(labels.map(|(key, value)| Hook::NamespaceLabel(key.clone(), value.clone())));
        hooks.extend(resident.pod.ports.iter().map(|(port, _)| Hook::Port(port.clone())));
        hooks.sort_unstable();
        hooks.dedup();
        hooks
    }

    /// Hooks on one of which every pod hangs that is selected.
    pub(super) fn of_selector(selector: &PodSelector) -> Vec<Hook> {
        match (&selector.namespaces, selector.pods.narrowest()) {
            (Namespaces::Named(name), Some((key, values))) => {
                values.iter().map(|value| Hook::LabelIn(name.clone(), key.clone(), value.clone())).collect()
            }
            (Namespaces::Named(name), None) => vec![Hook::Namespace(name.clone())],
            (Namespaces::Matching(_), Some((key, values))) => {
                values.iter().map(|value| Hook::Label(key.clone(), value.clone())).collect()
            }
            (Namespaces::Matching(namespaces), None) => match namespaces.narrowest() {
                Some((key, values)) => {
                    values.iter().map(|value| Hook::NamespaceLabel(key.clone(), value.clone())).collect()
                }
                None => vec![Hook::Any],
            },
        }
    }
}

/// What hangs on which hook.
#[derive(Debug)]
pub(super) struct Index<T>(HashMap<Hook, BTreeSet<T>>);

impl<T: Copy + Ord> Index<T> {
    pub(super) fn new() -> Index<T> {
        Index(HashMap::new())
    }

    pub(super) fn hang(&mut self, thing: T, hooks: &[Hook]) {
        for hook in hooks {
            match self.0.get_mut(hook) {
                Some(things) => _ = things.insert(thing),
                None => _ = self.0.insert(hook.clone(), BTreeSet::from([thing])),
            }
        }
    }

    pub(super) fn take_off(&mut self, thing: T, hooks: &[Hook]) {
        for hook in hooks {
            let Some(things) = self.0.get_mut(hook) else { continue };
            things.remove(&thing);
            if things.is_empty() {
                self.0.remove(hook);
            }
        }
    }

    /// All that hangs on any of them.
    pub(super) fn find(&self, hooks: &[Hook]) -> BTreeSet<T> {
        match hooks {
            [hook] => self.0.get(hook).cloned().unwrap_or_default(),
            hooks => hooks.iter().filter_map(|hook| self.0.get(hook)).flatten().copied().collect(),
        }
    }
}
