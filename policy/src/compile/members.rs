//! The pods of one namespace: by their names, and by their labels.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::slab::PodId;
use crate::labels::Labels;

/// Pods of a namespace.
#[derive(Debug, Default)]
pub(super) struct Members {
    names: HashMap<Arc<str>, PodId>,
    /// Those that selectors can select, each under each of its labels; in order.
    labelled: HashMap<(Arc<str>, Arc<str>), Vec<PodId>>,
}

impl Members {
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(super) fn get(&self, name: &str) -> Option<PodId> {
        self.names.get(name).copied()
    }

    pub(super) fn insert(&mut self, name: Arc<str>, id: PodId) {
        self.names.insert(name, id);
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.names.remove(name);
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = PodId> {
        self.names.values().copied()
    }

    pub(super) fn hang(&mut self, id: PodId, labels: &Labels) {
        for (key, value) in labels.iter() {
            let pods = self.labelled.entry((key.clone(), value.clone())).or_default();
            if let Err(at) = pods.binary_search(&id) {
                pods.insert(at, id);
            }
        }
    }

    pub(super) fn take_off(&mut self, id: PodId, labels: &Labels) {
        for (key, value) in labels.iter() {
            let label = (key.clone(), value.clone());
            let Some(pods) = self.labelled.get_mut(&label) else { continue };
            if let Ok(at) = pods.binary_search(&id) {
                pods.remove(at);
            }
            if pods.is_empty() {
                self.labelled.remove(&label);
            }
        }
    }

    /// Those that have one of these values of a label; without one all, those among them that no selector can select.
    pub(super) fn find(&self, label: Option<(&Arc<str>, &BTreeSet<Arc<str>>)>) -> Vec<PodId> {
        let Some((key, values)) = label else { return self.iter().collect() };
        let of_value = |value: &Arc<str>| self.labelled.get(&(key.clone(), value.clone()));
        values.iter().filter_map(of_value).flatten().copied().collect()
    }
}
