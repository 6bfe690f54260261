//! Pods and namespaces as told, and which pods have to be looked at again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::index::{Hook, Index};
use super::owners::{Claimed, Owners, Weight};
use super::sets::SetId;
use crate::change::Key;
use crate::labels::Labels;
use crate::pod::{Life, NamedPorts, Pod, Uid, is_of_one_pod};
use crate::policy::{NAME_LABEL, Namespaces, PodSelector};
use crate::program::{Family, IfName};

/// A pod by its name, object or not. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PodId(u64);

/// All that is known of pods and namespaces.
#[derive(Debug)]
pub(super) struct Cluster {
    /// The name of this node.
    node: String,
    namespaces: HashMap<Arc<str>, Arc<Labels>>,
    ids: HashMap<Key, PodId>,
    pods: HashMap<PodId, Entry>,
    ids_made: u64,
    by_namespace: HashMap<Arc<str>, BTreeSet<PodId>>,
    /// What a pod is that has an endpoint and no object; `None`: nothing. Then no selector selects a namespace without
    /// an object, either: its labels are still to come, and until then it may be one that is not to be let in.
    stand_in: Option<Arc<Pod>>,
    /// Pods that selectors can select.
    all: Index<PodId>,
    /// Those of them that are on this node.
    local: Index<PodId>,
    owners: Owners,
    touched: BTreeSet<PodId>,
}

/// A pod.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    /// `None`: its object is not known.
    pub(super) pod: Option<Arc<Pod>>,
    /// Its veths on this node.
    pub(super) endpoints: BTreeMap<IfName, BTreeSet<IpAddr>>,
    /// What it does in sets; kept by [`super::sets::Sets`].
    pub(super) seen: Seen,
    /// `None`: they are not known.
    namespace_labels: Option<Arc<Labels>>,
    claims: Claimed,
    hooks: Vec<Hook>,
}

/// What sets were made of.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) uid: Option<Uid>,
    pub(super) addresses: BTreeSet<IpAddr>,
    pub(super) ports: NamedPorts,
    /// Sets that may have members of it, and whether a selector of the set selects it.
    pub(super) sets: BTreeMap<SetId, bool>,
}

/// A pod that selectors can select.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resident<'a> {
    pub(super) key: &'a Key,
    pub(super) pod: &'a Pod,
    /// `None`: they are not known.
    pub(super) namespace_labels: Option<&'a Labels>,
}

impl Resident<'_> {
    pub(super) fn is_selected_by(&self, selector: &PodSelector) -> bool {
        let is_there = match &selector.namespaces {
            Namespaces::Named(name) => *name == self.key.namespace,
            Namespaces::Matching(namespaces) => {
                self.namespace_labels.is_some_and(|labels| namespaces.matches(labels))
            }
        };
        is_there && selector.pods.matches(&self.pod.labels)
    }
}

impl Cluster {
    pub(super) fn new(node: String, stand_in: Option<Arc<Pod>>) -> Cluster {
        Cluster {
            node,
            namespaces: HashMap::new(),
            ids: HashMap::new(),
            pods: HashMap::new(),
            ids_made: 0,
            by_namespace: HashMap::new(),
            stand_in,
            all: Index::new(),
            local: Index::new(),
            owners: Owners::default(),
            touched: BTreeSet::new(),
        }
    }

    pub(super) fn set_namespace(&mut self, name: &Arc<str>, labels: Option<Labels>) {
        let before = self.namespace_labels(name);
        match labels {
            Some(labels) => _ = self.namespaces.insert(name.clone(), labels.with(NAME_LABEL, name).into()),
            None => _ = self.namespaces.remove(name),
        }
        if self.namespace_labels(name) != before {
            for id in self.by_namespace.get(name).cloned().unwrap_or_default() {
                self.refresh(id);
            }
        }
    }

    pub(super) fn set_pod(&mut self, key: &Key, pod: Option<Arc<Pod>>) {
        if pod.is_none() && !self.ids.contains_key(key) {
            return;
        }
        let id = self.id(key);
        let Some(entry) = self.pods.get_mut(&id) else { return };
        if entry.pod == pod {
            return;
        }
        let is_another = matches!((&entry.pod, &pod), (Some(old), Some(new)) if old.uid != new.uid);
        entry.pod = pod;
        if is_another {
            self.give_up_claims(id);
        }
        self.refresh(id);
    }

    /// A veth of a pod and its addresses; `None`: it is gone.
    pub(super) fn set_endpoint(
        &mut self,
        key: &Key,
        name: &IfName,
        addresses: Option<BTreeSet<IpAddr>>,
    ) -> PodId {
        let id = self.id(key);
        if let Some(entry) = self.pods.get_mut(&id) {
            match addresses {
                Some(addresses) => _ = entry.endpoints.insert(name.clone(), addresses),
                None => _ = entry.endpoints.remove(name),
            }
        }
        self.refresh(id);
        id
    }

    /// The object of this name, if it is known.
    pub(super) fn object(&self, key: &Key) -> Option<&Pod> {
        self.pods.get(self.ids.get(key)?)?.pod.as_deref()
    }

    pub(super) fn get(&self, id: PodId) -> Option<&Entry> {
        self.pods.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: PodId) -> Option<&mut Entry> {
        self.pods.get_mut(&id)
    }

    /// The pod as its object says, or as what it is without one.
    pub(super) fn known<'a>(&'a self, entry: &'a Entry) -> Option<&'a Pod> {
        let stand_in = self.stand_in.as_deref().filter(|_| !entry.endpoints.is_empty());
        entry.pod.as_deref().or(stand_in).filter(|_| !entry.is_nobodys())
    }

    /// The pod, if selectors can select it.
    pub(super) fn resident<'a>(&'a self, entry: &'a Entry) -> Option<Resident<'a>> {
        let pod = self.known(entry).filter(|pod| pod.life == Life::OwnNetwork)?;
        Some(Resident { key: &entry.key, pod, namespace_labels: entry.namespace_labels.as_deref() })
    }

    /// Pods that may be selected, among all.
    pub(super) fn find(&self, hooks: &[Hook]) -> BTreeSet<PodId> {
        self.all.find(hooks)
    }

    /// Pods of this node that a selector selects.
    pub(super) fn local_pods(&self, selector: &PodSelector) -> Vec<PodId> {
        let is_selected = |id: &PodId| {
            let resident = self.pods.get(id).and_then(|entry| self.resident(entry));
            resident.is_some_and(|resident| resident.is_selected_by(selector))
        };
        self.local.find(&Hook::of_selector(selector)).into_iter().filter(is_selected).collect()
    }

    /// Addresses that it claims, and nobody with a better claim.
    pub(super) fn owned(&self, id: PodId) -> BTreeSet<IpAddr> {
        let claims = self.pods.get(&id).into_iter().flat_map(|entry| entry.claims.keys());
        claims.copied().filter(|&address| self.owners.owner(address) == Some(id)).collect()
    }

    pub(super) fn owner(&self, address: IpAddr) -> Option<&Key> {
        let entry = self.pods.get(&self.owners.owner(address)?)?;
        (!entry.is_nobodys()).then_some(&entry.key)
    }

    pub(super) fn is_moved(&self, address: IpAddr) -> bool {
        self.owners.is_moved(address)
    }

    /// Pods that may have changed since this was last asked.
    pub(super) fn take_touched(&mut self) -> BTreeSet<PodId> {
        std::mem::take(&mut self.touched)
    }

    /// Forgets those of these pods that have neither object nor veth.
    pub(super) fn settle(&mut self, touched: &BTreeSet<PodId>) {
        self.owners.settle();
        for id in touched {
            let Some(entry) = self.pods.get(id).filter(|entry| entry.is_gone()) else { continue };
            self.ids.remove(&entry.key);
            if let Some(pods) = self.by_namespace.get_mut(&entry.key.namespace) {
                pods.remove(id);
                if pods.is_empty() {
                    self.by_namespace.remove(&entry.key.namespace);
                }
            }
            self.pods.remove(id);
        }
    }

    fn id(&mut self, key: &Key) -> PodId {
        if let Some(id) = self.ids.get(key) {
            return *id;
        }
        self.ids_made += 1;
        let id = PodId(self.ids_made);
        self.ids.insert(key.clone(), id);
        self.by_namespace.entry(key.namespace.clone()).or_default().insert(id);
        let entry = Entry {
            key: key.clone(),
            pod: None,
            endpoints: BTreeMap::new(),
            seen: Seen::default(),
            namespace_labels: self.namespace_labels(&key.namespace),
            claims: Claimed::new(),
            hooks: Vec::new(),
        };
        self.pods.insert(id, entry);
        id
    }

    fn namespace_labels(&self, name: &Arc<str>) -> Option<Arc<Labels>> {
        let name_alone = || self.stand_in.is_some().then(|| Labels::default().with(NAME_LABEL, name).into());
        self.namespaces.get(name).cloned().or_else(name_alone)
    }

    fn give_up_claims(&mut self, id: PodId) {
        let Some(entry) = self.pods.get_mut(&id) else { return };
        let claims = std::mem::take(&mut entry.claims);
        self.touched.extend(self.owners.claim(id, &claims, &Claimed::new()));
    }

    /// Claims, hooks and labels anew, after anything of the pod or of its namespace changed.
    fn refresh(&mut self, id: PodId) {
        self.touched.insert(id);
        let Some(mut entry) = self.pods.remove(&id) else { return };
        entry.namespace_labels = self.namespace_labels(&entry.key.namespace);
        let claims = entry.claimed(&self.node);
        self.touched.extend(self.owners.claim(id, &entry.claims, &claims));
        entry.claims = claims;

        self.all.take_off(id, &entry.hooks);
        self.local.take_off(id, &entry.hooks);
        entry.hooks = self.resident(&entry).map_or_else(Vec::new, |resident| Hook::of_pod(&resident));
        self.all.hang(id, &entry.hooks);
        if !entry.endpoints.is_empty() {
            self.local.hang(id, &entry.hooks);
        }
        self.pods.insert(id, entry);
    }
}

impl Entry {
    /// Pods of Kubernetes have a namespace; what stands for another container has none.
    pub(super) fn is_nobodys(&self) -> bool {
        self.key.namespace.is_empty()
    }

    /// What it hangs on in indexes; none: nothing can select it.
    pub(super) fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    fn is_gone(&self) -> bool {
        self.pod.is_none() && self.endpoints.is_empty()
    }

    /// The addresses it says it has. Its veth has them before its status says so, and while the status still tells those
    /// that it had before: of a family that is wired, the veth alone is asked. Unless the pod runs on another node: then
    /// the veth is of one that had its name, and is still to be taken away.
    fn claimed(&self, here: &str) -> Claimed {
        let wired: BTreeSet<IpAddr> =
            self.endpoints.values().flatten().copied().filter(|&address| is_of_one_pod(address)).collect();
        let Some(pod) = &self.pod else {
            return wired.into_iter().map(|address| (address, Weight::New)).collect();
        };
        if pod.life != Life::OwnNetwork {
            return Claimed::new();
        }
        let is_elsewhere = pod.node.as_ref().is_some_and(|node| **node != *here);
        let is_wired = |family| !is_elsewhere && wired.iter().any(|&address| Family::of(address) == family);
        let reported = pod.addresses.iter().filter(|&address| !is_wired(Family::of(address)));
        let reported = reported.map(|address| (address, Weight::Reported(pod.created)));
        let of_veth = if is_elsewhere { Weight::Reported(None) } else { Weight::Wired(pod.created) };
        let by_veth: Claimed = wired.iter().map(|&address| (address, of_veth.clone())).collect();
        by_veth.into_iter().chain(reported).collect()
    }
}
