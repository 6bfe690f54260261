//! Pods and namespaces as told, and which pods have to be looked at again.
//!
//! A cluster has a hundred thousand pods, and this node a hundred. Of a pod that is elsewhere there is its object, its
//! place among the pods of its namespace and its addresses among those that are claimed; all else is worked out when it
//! is asked for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::index::{Hook, Index};
use super::members::Members;
use super::owners::{Claimed, Owners, Weight};
use super::slab::{PodId, Slab};
use crate::change::Key;
use crate::labels::Labels;
use crate::pod::{Life, Pod, is_of_one_pod};
use crate::policy::{NAME_LABEL, Namespaces, PodSelector, PortName};
use crate::program::{Family, IfName};

/// All that is known of pods and namespaces.
#[derive(Debug)]
pub(super) struct Cluster {
    /// The name of this node.
    node: String,
    /// Those that were told, and those that have pods.
    namespaces: HashMap<Arc<str>, Namespace>,
    pods: Slab<Entry>,
    /// What a pod is that has an endpoint and no object; `None`: nothing. Then no selector selects a namespace without
    /// an object, either: its labels are still to come, and until then it may be one that is not to be let in.
    stand_in: Option<Arc<Pod>>,
    /// Pods of this node that selectors can select.
    local: Index<PodId>,
    /// What these hang on.
    hooks: HashMap<PodId, Vec<Hook>>,
    owners: Owners,
    touched: BTreeSet<PodId>,
}

/// A namespace, with an object or without.
#[derive(Debug, Default)]
struct Namespace {
    is_told: bool,
    /// `None`: they are not known.
    labels: Option<Labels>,
    members: Members,
}

/// A pod.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    /// `None`: its object is not known.
    pub(super) pod: Option<Arc<Pod>>,
    /// Its veths on this node; hardly any pod has some.
    #[expect(clippy::box_collection, reason = "a word, as hardly any pod has some")]
    veths: Option<Box<BTreeMap<IfName, Veth>>>,
}

/// A veth of a pod.
#[derive(Debug)]
pub(super) struct Veth {
    pub(super) addresses: BTreeSet<IpAddr>,
    /// The pod that has the name of its pod runs on another node: most likely it is a leftover.
    pub(super) is_left: bool,
}

/// A pod that selectors can select.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resident<'a> {
    pub(super) key: &'a Key,
    pub(super) pod: &'a Arc<Pod>,
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

    pub(super) fn names(&self, port: &PortName) -> bool {
        self.pod.ports.iter().any(|(own, _)| own == port)
    }
}

impl Cluster {
    pub(super) fn new(node: String, stand_in: Option<Arc<Pod>>) -> Cluster {
        Cluster {
            node,
            namespaces: HashMap::new(),
            pods: Slab::default(),
            stand_in,
            local: Index::new(),
            hooks: HashMap::new(),
            owners: Owners::default(),
            touched: BTreeSet::new(),
        }
    }

    pub(super) fn set_namespace(&mut self, name: &Arc<str>, labels: Option<Labels>) {
        let is_told = labels.is_some();
        let labels = match labels {
            Some(labels) => Some(labels.with(NAME_LABEL, name)),
            None => self.labels_untold(name),
        };
        let namespace = self.namespaces.entry(name.clone()).or_default();
        namespace.is_told = is_told;
        if namespace.labels == labels {
            self.forget_namespace(name);
            return;
        }
        namespace.labels = labels;
        let pods: Vec<PodId> = namespace.members.iter().collect();
        for &id in &pods {
            self.hang_local(id);
        }
        self.touched.extend(pods);
        self.forget_namespace(name);
    }

    pub(super) fn set_pod(&mut self, key: &Key, pod: Option<Arc<Pod>>) {
        let Some(id) = self.find_id(key).or_else(|| pod.as_ref().map(|_| self.make(key))) else { return };
        let Some(entry) = self.pods.get(id) else { return };
        if entry.pod == pod {
            return;
        }
        if matches!((&entry.pod, &pod), (Some(old), Some(new)) if old.uid != new.uid) {
            // Of two equal claims the later one counts: another pod's is made anew.
            let claims = entry.claimed(&self.node);
            self.claim(id, &claims, &Claimed::new());
            self.change(id, Claimed::new(), |entry| entry.pod = pod);
        } else {
            let claims = entry.claimed(&self.node);
            self.change(id, claims, |entry| entry.pod = pod);
        }
    }

    /// A veth of a pod; `None`: it is gone.
    pub(super) fn set_endpoint(&mut self, key: &Key, name: &IfName, veth: Option<Veth>) -> PodId {
        let id = self.find_id(key).unwrap_or_else(|| self.make(key));
        let claims = self.pods.get(id).map(|entry| entry.claimed(&self.node)).unwrap_or_default();
        self.change(id, claims, |entry| match veth {
            Some(veth) => _ = entry.veths.get_or_insert_default().insert(name.clone(), veth),
            None => {
                let veths = entry.veths.take();
                entry.veths = veths.filter(|veths| veths.keys().any(|own| own != name)).map(|mut veths| {
                    veths.remove(name);
                    veths
                });
            }
        });
        id
    }

    /// The object of this name, if it is known.
    pub(super) fn object(&self, key: &Key) -> Option<&Pod> {
        self.pods.get(self.find_id(key)?)?.pod.as_deref()
    }

    /// Whether an object says that its pod runs on another node.
    pub(super) fn is_elsewhere(&self, object: &Pod) -> bool {
        is_elsewhere(object, &self.node)
    }

    pub(super) fn get(&self, id: PodId) -> Option<&Entry> {
        self.pods.get(id)
    }

    /// The pod as its object says, or as what it is without one.
    pub(super) fn known<'a>(&'a self, entry: &'a Entry) -> Option<&'a Arc<Pod>> {
        let stand_in = self.stand_in.as_ref().filter(|_| entry.is_local());
        entry.pod.as_ref().or(stand_in).filter(|_| !entry.is_nobodys())
    }

    /// The pod, if selectors can select it.
    pub(super) fn resident<'a>(&'a self, entry: &'a Entry) -> Option<Resident<'a>> {
        let pod = self.known(entry).filter(|pod| pod.life == Life::OwnNetwork)?;
        let namespace = self.namespaces.get(&entry.key.namespace);
        let namespace_labels = namespace.and_then(|namespace| namespace.labels.as_ref());
        Some(Resident { key: &entry.key, pod, namespace_labels })
    }

    /// Pods that one of these selectors may select, each once.
    pub(super) fn candidates<'a>(&self, selectors: impl IntoIterator<Item = &'a PodSelector>) -> Vec<PodId> {
        let mut found = Vec::new();
        for selector in selectors {
            let label = selector.pods.narrowest();
            match &selector.namespaces {
                Namespaces::Named(name) => {
                    found.extend(
                        self.namespaces.get(name).into_iter().flat_map(|own| own.members.find(label)),
                    );
                }
                Namespaces::Matching(namespaces) => {
                    let is_selected = |own: &&Namespace| {
                        own.labels.as_ref().is_some_and(|labels| namespaces.matches(labels))
                    };
                    let selected = self.namespaces.values().filter(is_selected);
                    found.extend(selected.flat_map(|own| own.members.find(label)));
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// All pods with this port: looks at every pod there is.
    pub(super) fn naming(&self, port: &PortName) -> Vec<PodId> {
        let names =
            |&(_, entry): &(PodId, &Entry)| self.resident(entry).is_some_and(|resident| resident.names(port));
        self.pods.iter().filter(names).map(|(id, _)| id).collect()
    }

    /// Pods of this node that a selector selects.
    pub(super) fn local_pods(&self, selector: &PodSelector) -> Vec<PodId> {
        let is_selected = |id: &PodId| {
            let resident = self.pods.get(*id).and_then(|entry| self.resident(entry));
            resident.is_some_and(|resident| resident.is_selected_by(selector))
        };
        self.local.find(&Hook::of_selector(selector)).into_iter().filter(is_selected).collect()
    }

    /// Addresses that it claims, and nobody with a better claim.
    pub(super) fn owned(&self, id: PodId) -> impl Iterator<Item = IpAddr> + '_ {
        let claims = self.pods.get(id).map(|entry| entry.claimed(&self.node)).unwrap_or_default();
        claims.into_keys().filter(move |&address| self.owners.owner(address) == Some(id))
    }

    pub(super) fn owner(&self, address: IpAddr) -> Option<&Key> {
        let entry = self.pods.get(self.owners.owner(address)?)?;
        (!entry.is_nobodys()).then_some(&entry.key)
    }

    pub(super) fn is_moved(&self, address: IpAddr) -> bool {
        self.owners.is_moved(address)
    }

    /// Pods that may have changed since this was last asked.
    pub(super) fn take_touched(&mut self) -> BTreeSet<PodId> {
        std::mem::take(&mut self.touched)
    }

    /// Forgets those of these pods that have neither object nor veth. Their numbers may be another's from now on.
    pub(super) fn settle(&mut self, touched: &BTreeSet<PodId>) {
        self.owners.settle();
        for &id in touched {
            let Some(entry) = self.pods.take_if(id, |entry| entry.pod.is_none() && !entry.is_local()) else {
                continue;
            };
            let Key { namespace, name } = &entry.key;
            if let Some(own) = self.namespaces.get_mut(namespace) {
                own.members.remove(name);
            }
            self.forget_namespace(namespace);
        }
    }

    fn find_id(&self, key: &Key) -> Option<PodId> {
        self.namespaces.get(&key.namespace)?.members.get(&key.name)
    }

    fn make(&mut self, key: &Key) -> PodId {
        let id = self.pods.insert(Entry { key: key.clone(), pod: None, veths: None });
        let labels = self.labels_untold(&key.namespace);
        let namespace = || Namespace { labels, ..Namespace::default() };
        let own = self.namespaces.entry(key.namespace.clone()).or_insert_with(namespace);
        own.members.insert(key.name.clone(), id);
        id
    }

    /// What is known of the labels of a namespace without an object.
    fn labels_untold(&self, name: &str) -> Option<Labels> {
        self.stand_in.as_ref().map(|_| Labels::default().with(NAME_LABEL, name))
    }

    fn forget_namespace(&mut self, name: &str) {
        if self.namespaces.get(name).is_some_and(|own| !own.is_told && own.members.is_empty()) {
            self.namespaces.remove(name);
        }
    }

    fn claim(&mut self, id: PodId, old: &Claimed, new: &Claimed) {
        let Cluster { pods, node, owners, touched, .. } = self;
        let weight = |pod: PodId, address: IpAddr| {
            let claims = pods.get(pod).map(|entry| entry.claimed(node));
            claims.and_then(|mut claims| claims.remove(&address)).unwrap_or(Weight::Reported(None))
        };
        touched.extend(owners.claim(id, old, new, weight));
    }

    /// Changes a pod that has made these claims, and all that follows from what it is.
    fn change(&mut self, id: PodId, claims: Claimed, edit: impl FnOnce(&mut Entry)) {
        let labels = |cluster: &Cluster| {
            let resident = cluster.pods.get(id).and_then(|entry| cluster.resident(entry))?;
            Some(resident.pod.labels.clone())
        };
        let before = labels(self);
        let Some(entry) = self.pods.get_mut(id) else { return };
        edit(entry);
        let new = entry.claimed(&self.node);
        let namespace = entry.key.namespace.clone();
        self.claim(id, &claims, &new);
        self.touched.insert(id);

        let after = labels(self);
        if before != after
            && let Some(own) = self.namespaces.get_mut(&namespace)
        {
            before.iter().for_each(|labels| own.members.take_off(id, labels));
            after.iter().for_each(|labels| own.members.hang(id, labels));
        }
        self.hang_local(id);
    }

    /// Puts a pod of this node where selectors find it now.
    fn hang_local(&mut self, id: PodId) {
        if let Some(hooks) = self.hooks.remove(&id) {
            self.local.take_off(id, &hooks);
        }
        let Some(entry) = self.pods.get(id).filter(|entry| entry.is_local()) else { return };
        if let Some(resident) = self.resident(entry) {
            let hooks = Hook::of_pod(&resident);
            self.local.hang(id, &hooks);
            self.hooks.insert(id, hooks);
        }
    }
}

impl Veth {
    fn own(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().copied().filter(|&address| is_of_one_pod(address))
    }
}

fn is_elsewhere(pod: &Pod, here: &str) -> bool {
    pod.node.as_ref().is_some_and(|node| **node != *here)
}

impl Entry {
    /// Pods of Kubernetes have a namespace; what stands for another container has none.
    pub(super) fn is_nobodys(&self) -> bool {
        self.key.namespace.is_empty()
    }

    /// Whether it is wired on this node.
    pub(super) fn is_local(&self) -> bool {
        self.veths.is_some()
    }

    /// Its veths on this node.
    pub(super) fn veths(&self) -> impl Iterator<Item = &IfName> {
        self.veths.iter().flat_map(|veths| veths.keys())
    }

    /// The addresses it says it has. Its veth has them before its status says so, and while the status still tells those
    /// that it had before: of a family that is wired, the veth alone is asked. Unless the pod runs on another node: then
    /// the veth is of one that had its name, and is still to be taken away.
    fn claimed(&self, here: &str) -> Claimed {
        let veths = || self.veths.iter().flat_map(|veths| veths.values());
        let Some(pod) = &self.pod else {
            let weighed = |veth: &'_ Veth| {
                let weight = if veth.is_left { Weight::Reported(None) } else { Weight::New };
                veth.own().map(move |address| (address, weight)).collect::<Vec<_>>()
            };
            return veths().flat_map(weighed).collect();
        };
        let wired: BTreeSet<IpAddr> = veths().flat_map(Veth::own).collect();
        if pod.life != Life::OwnNetwork {
            return Claimed::new();
        }
        let is_elsewhere = is_elsewhere(pod, here);
        let is_wired = |family| !is_elsewhere && wired.iter().any(|&address| Family::of(address) == family);
        let reported = pod.addresses.iter().filter(|&address| !is_wired(Family::of(address)));
        let reported = reported.map(|address| (address, Weight::Reported(pod.created)));
        let of_veth = if is_elsewhere { Weight::Reported(None) } else { Weight::Wired(pod.created) };
        let by_veth = wired.iter().map(|&address| (address, of_veth));
        by_veth.chain(reported).collect()
    }
}
