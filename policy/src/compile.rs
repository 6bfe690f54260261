//! From the cluster's objects to the program of this node, change by change.
//!
//! ```text
//! pods, namespaces --> cluster: who has which address, who may be selected by whom (index)
//! policies         --> policies: read once, found by the pods they select
//!                          |  local pods with the same policies: a class
//!                      tiers: the middle form, lowered to rules --> chains
//!                          |  peers of rules
//!                      sets: shared by meaning, kept while a chain uses them
//!                          v
//!                      draft: the program, and what of it changed
//! ```
//!
//! A policy that selects no pod of this node costs its place in the index, no more. Names of chains and sets are hashes
//! of what they stand for: the same objects give the same program in whatever order they come.

mod chains;
mod cluster;
mod draft;
mod frame;
mod index;
mod members;
mod name;
mod owners;
mod policies;
mod sets;
mod slab;
pub mod tag;
mod tiers;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use self::chains::{Chains, Class, Site};
use self::cluster::{Cluster, Entry, Veth};
use self::draft::Draft;
pub use self::frame::{OPEN, frame, peers_set, prefix, self_set};
use self::index::Hook;
pub(crate) use self::name::LETTERS;
use self::policies::{Policies, PolicyId};
use self::sets::{Meaning, Sets};
use self::slab::PodId;
use crate::change::{Change, Endpoint, Fault, Key, PolicyObject};
use crate::labels::Labels;
use crate::pod::{Life, Pod, Uid};
use crate::policy::{Direction, Peers, Port};
use crate::program::{ChainName, Delta, Family, IfName, Member, Placement, Program};

/// What does not come from the cluster.
#[derive(Debug, Clone)]
pub struct Options {
    /// This node's name, as in `spec.nodeName`.
    pub node: String,
    /// TCP port of BGP.
    pub bgp_port: u16,
    /// NFLOG group that denied packets are told to.
    pub log_group: u16,
    /// What becomes of an endpoint of a pod that no Pod object is known of.
    pub unknown_pods: UnknownPods,
}

/// What becomes of a pod that the source does not know, and of pods of a namespace that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownPods {
    /// Its veth stays closed until the object is there. Pods of such a namespace are selected by its name alone: by their
    /// own namespace's policies and peers, and by `kubernetes.io/metadata.name` with nothing beside it.
    Closed,
    /// It is a pod without labels and ports. The namespace's only label is its name.
    Unlabelled,
}

/// Takes changes in and keeps the program in step.
#[derive(Debug)]
pub struct Compiler {
    options: Options,
    cluster: Cluster,
    policies: Policies,
    endpoints: BTreeMap<IfName, Wired>,
    /// Veths by the names of the pods that they were made for.
    veths: HashMap<Key, BTreeSet<IfName>>,
    /// Static pods that run and whose objects are gone: they are judged by these still.
    bereft: BTreeSet<Key>,
    bgp_peers: BTreeSet<IpAddr>,
    sets: Sets,
    chains: Chains,
    draft: Draft,
    /// Veths whose place has to be looked at again.
    touched: BTreeSet<IfName>,
}

/// A veth of this node.
#[derive(Debug)]
struct Wired {
    /// `None`: it is gone, and its place is still to be cleared.
    told: Option<Endpoint>,
    home: Home,
    pod: PodId,
    /// Policies that select the pod.
    selecting: BTreeMap<Key, PolicyId>,
    /// Addresses that it has in the sets.
    owned: BTreeSet<IpAddr>,
    /// Where it is; the chains are held.
    placement: Option<Placement>,
}

/// Whose a veth is in the cluster.
#[derive(Debug, PartialEq, Eq)]
struct Home {
    key: Key,
    /// It is nobody's, and the pod of its name runs on another node.
    is_left: bool,
}

impl Compiler {
    /// Nothing known: the frame is all there is.
    pub fn new(options: Options) -> Compiler {
        let stand_in = match options.unknown_pods {
            UnknownPods::Closed => None,
            UnknownPods::Unlabelled => Some(Arc::new(Pod::default())),
        };
        Compiler {
            cluster: Cluster::new(options.node.clone(), stand_in),
            policies: Policies::new(),
            endpoints: BTreeMap::new(),
            veths: HashMap::new(),
            bereft: BTreeSet::new(),
            bgp_peers: BTreeSet::new(),
            sets: Sets::new(),
            chains: Chains::default(),
            draft: Draft::new(frame(&options)),
            touched: BTreeSet::new(),
            options,
        }
    }

    /// Takes a change in. The program follows with the next [`Compiler::take_delta`].
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Namespace(name, object) => {
                let labels = object.map(|object| Labels::new(object.metadata.labels.as_ref()));
                self.cluster.set_namespace(&name, labels);
            }
            Change::Pod(key, object) => self.set_pod(&key, object),
            Change::Policy(key, object) => self.set_policy(&key, object),
            Change::Endpoint(name, endpoint) => self.set_endpoint(&name, endpoint),
            Change::BgpPeers(addresses) => self.bgp_peers = addresses,
        }
    }

    /// What changed in the program since this was last asked.
    pub fn take_delta(&mut self) -> Delta {
        let pods = self.cluster.take_touched();
        let replaced = self.sets.update(&pods, &self.cluster, &mut self.draft);
        for pod in &pods {
            self.select_anew(*pod);
        }
        for name in std::mem::take(&mut self.touched) {
            self.place(&name);
        }
        self.chains.sweep(&mut self.sets, &mut self.draft);
        self.sets.sweep(&mut self.draft);
        self.tell_bgp_peers();
        let is_moved = |address| self.cluster.is_moved(address) || replaced.contains(&address);
        let delta = self.draft.take_delta(is_moved);
        self.cluster.settle(&pods);
        delta
    }

    /// All of it, the deltas taken so far applied.
    pub fn program(&self) -> &Program {
        self.draft.program()
    }

    /// From now on this policy fails closed, for the kernel refused what was made of it; until it changes.
    pub fn refuse(&mut self, policy: &Key, fault: Fault) {
        let before = self.local_pods(policy);
        if let Some(id) = self.policies.close(policy, fault) {
            self.reselect(policy, &before, Some(id));
        }
    }

    /// All policies, whether they select a pod of this node or not.
    pub fn policies(&self) -> impl Iterator<Item = PolicyReport> + '_ {
        let mut selected: HashMap<&Key, BTreeSet<&Key>> = HashMap::new();
        for wired in self.endpoints.values() {
            let Some(pod) = wired.told.as_ref().and_then(|told| told.pod.as_ref()) else { continue };
            for policy in wired.selecting.keys() {
                selected.entry(policy).or_default().insert(&pod.key);
            }
        }
        self.policies.iter().map(move |entry| PolicyReport {
            key: entry.key.clone(),
            ingress: entry.policy.ingress.is_some(),
            egress: entry.policy.egress.is_some(),
            selects: selected.get(&entry.key).into_iter().flatten().map(|&pod| pod.clone()).collect(),
            faults: entry.policy.faults.clone(),
        })
    }

    /// Policies that fail closed, and why.
    pub fn faults(&self) -> impl Iterator<Item = (&Key, &[Fault])> {
        self.policies.faulty().map(|entry| (&entry.key, &*entry.policy.faults))
    }

    /// The policy whose rule has this tag; `None`: it is none of a policy, or of one that is gone.
    pub fn policy_of_tag(&self, tag: &str) -> Option<Key> {
        let (policy, _) = tag.rsplit_once(' ')?;
        self.policies.by_tag(policy).cloned()
    }

    /// The pods of this node.
    pub fn pods(&self) -> impl Iterator<Item = PodReport> + '_ {
        self.endpoints.iter().filter_map(|(interface, wired)| {
            let told = wired.told.as_ref()?;
            Some(PodReport {
                interface: interface.clone(),
                pod: told.pod.as_ref().map(|pod| pod.key.clone()),
                addresses: told.addresses.clone(),
                placement: wired.placement.clone(),
                ingress: self.isolating(wired, Direction::Ingress).map(|(key, _)| key.clone()).collect(),
                egress: self.isolating(wired, Direction::Egress).map(|(key, _)| key.clone()).collect(),
            })
        })
    }

    /// The policies that a class chain stands for; `None`: no such chain.
    pub fn policies_of(&self, chain: &str) -> Option<Vec<Key>> {
        self.chains.policies(chain).map(<[Key]>::to_vec)
    }

    /// The policies whose rules look into a set; none: it is none of a policy.
    pub fn policies_with(&self, set: &str) -> Vec<Key> {
        let Some(meaning) = self.sets.meaning(set) else { return Vec::new() };
        let uses = |peers: &Peers, ports: Option<&BTreeSet<Port>>| match meaning {
            Meaning::Addresses(list) => matches!(peers, Peers::Listed(own) if own == list),
            Meaning::NamedPort(wanted, name) => {
                let is_named = |port: &Port| matches!(port, Port::Named(own) if own == name);
                peers == wanted && ports.is_some_and(|ports| ports.iter().any(is_named))
            }
        };
        let selecting: BTreeSet<&Key> =
            self.endpoints.values().flat_map(|wired| wired.selecting.keys()).collect();
        let policies = selecting.into_iter().filter(|key| {
            let policy = self.policies.by_key(key).map(|entry| &entry.policy);
            let rules =
                policy.into_iter().flat_map(|policy| [&policy.ingress, &policy.egress]).flatten().flatten();
            rules.into_iter().any(|rule| uses(&rule.peers, rule.ports.as_ref()))
        });
        policies.cloned().collect()
    }

    /// Who has this address, as far as known.
    pub fn owner(&self, address: IpAddr) -> Option<Key> {
        self.cluster.owner(address).cloned()
    }

    /// Whether a veth is closed because the object of its pod's name is another pod's.
    pub fn is_of_another(&self, interface: &str) -> bool {
        let wired = self.endpoints.get(interface);
        wired.is_some_and(|wired| {
            let is_of_kubernetes = wired.told.as_ref().is_some_and(|told| told.pod.is_some());
            is_of_kubernetes && self.cluster.get(wired.pod).is_some_and(Entry::is_nobodys)
        })
    }

    fn set_policy(&mut self, key: &Key, object: Option<Arc<PolicyObject>>) {
        if self.policies.is_known(key, object.as_deref()) {
            return;
        }
        let before = self.local_pods(key);
        let id = object.map(|object| self.policies.insert(key, object));
        if id.is_none() {
            self.policies.remove(key);
        }
        self.reselect(key, &before, id);
    }

    /// Pods of this node that a policy selects as it is now.
    fn local_pods(&self, policy: &Key) -> Vec<PodId> {
        let entry = self.policies.by_key(policy);
        entry.map_or_else(Vec::new, |entry| self.cluster.local_pods(&entry.policy.selects))
    }

    /// A policy is another one from now on, or gone.
    fn reselect(&mut self, key: &Key, before: &[PodId], id: Option<PolicyId>) {
        for &pod in before {
            self.each_veth(pod, |wired| _ = wired.selecting.remove(key));
        }
        let Some(id) = id else { return };
        for pod in self.local_pods(key) {
            self.each_veth(pod, |wired| _ = wired.selecting.insert(key.clone(), id));
        }
    }

    fn each_veth(&mut self, pod: PodId, change: impl Fn(&mut Wired)) {
        let Some(entry) = self.cluster.get(pod) else { return };
        for name in entry.veths() {
            if let Some(wired) = self.endpoints.get_mut(name) {
                change(wired);
                self.touched.insert(name.clone());
            }
        }
    }

    /// All policies that select a pod, after it or its namespace changed.
    fn select_anew(&mut self, pod: PodId) {
        let Some(entry) = self.cluster.get(pod).filter(|entry| entry.is_local()) else { return };
        let resident = self.cluster.resident(entry);
        let selecting = resident.map(|resident| self.policies.selecting(&resident, &Hook::of_pod(&resident)));
        let selecting = selecting.unwrap_or_default();
        self.each_veth(pod, |wired| wired.selecting = selecting.clone());
    }

    /// With its object a veth may come to its pod, or to that of nobody.
    fn set_pod(&mut self, key: &Key, object: Option<Arc<Pod>>) {
        if object.is_none() && self.runs_without_object(key) {
            self.bereft.insert(key.clone());
            return;
        }
        self.bereft.remove(key);
        self.cluster.set_pod(key, object);
        for name in self.veths.get(key).cloned().unwrap_or_default() {
            let Some(wired) = self.endpoints.get(&name) else { continue };
            let Some(told) = &wired.told else { continue };
            if wired.home != self.home(&name, told) {
                let told = told.clone();
                self.put(&name, told);
            }
        }
    }

    /// Whether a pod goes on when its object goes. The kubelet runs a static pod whatever the API says: its object, the
    /// mirror pod, is only shown there. The kubelet replaces it when it changes, and some seconds after somebody deleted
    /// it; with the Node it goes for as long as there is none (kubernetes, pkg/kubelet/kubelet.go,
    /// `tryReconcileMirrorPods`). Until the veth goes, or there is another object, the last one counts.
    fn runs_without_object(&self, key: &Key) -> bool {
        let uid = self.cluster.object(key).and_then(|object| object.static_uid.as_deref());
        let is_of = |uid: &Uid, name: &IfName| {
            let told = self.endpoints.get(name).and_then(|wired| wired.told.as_ref());
            told.and_then(|told| told.pod.as_ref()).is_some_and(|pod| pod.uid.as_ref() == Some(uid))
        };
        let is_wired = |uid| self.veths.get(key).into_iter().flatten().any(|name| is_of(uid, name));
        self.options.unknown_pods == UnknownPods::Closed && uid.is_some_and(is_wired)
    }

    fn set_endpoint(&mut self, name: &IfName, endpoint: Option<Endpoint>) {
        let told = self.endpoints.get(name).and_then(|wired| wired.told.as_ref());
        let before = told.and_then(|told| told.pod.as_ref()).map(|pod| pod.key.clone());
        if told == endpoint.as_ref() {
            return;
        }
        if let Some(pod) = told.and_then(|told| told.pod.as_ref())
            && let Some(veths) = self.veths.get_mut(&pod.key)
        {
            veths.remove(name);
            if veths.is_empty() {
                self.veths.remove(&pod.key.clone());
            }
        }
        match endpoint {
            Some(endpoint) => {
                if let Some(pod) = &endpoint.pod {
                    self.veths.entry(pod.key.clone()).or_default().insert(name.clone());
                }
                self.put(name, endpoint);
            }
            None => {
                self.take_off(name);
                if let Some(wired) = self.endpoints.get_mut(name) {
                    wired.told = None;
                }
                self.touched.insert(name.clone());
            }
        }
        if let Some(pod) = before.filter(|pod| self.bereft.contains(pod) && !self.runs_without_object(pod)) {
            self.set_pod(&pod, None);
        }
    }

    /// Whose a veth is in the cluster. What is no pod of Kubernetes has a name in no namespace: its veth's. So has a pod
    /// while the object of its name is another's: that of the pod before it, not yet gone, or of the one after it, whose
    /// policies must not open what is left of this one.
    fn home(&self, name: &IfName, endpoint: &Endpoint) -> Home {
        let nobodys = |is_left| Home { key: Key::new("", name), is_left };
        let Some(pod) = &endpoint.pod else { return nobodys(false) };
        match self.cluster.object(&pod.key).filter(|object| !pod.may_be(object)) {
            Some(other) => nobodys(self.cluster.is_elsewhere(other)),
            None => Home { key: pod.key.clone(), is_left: false },
        }
    }

    /// Puts a veth in the place of what it was.
    fn put(&mut self, name: &IfName, told: Endpoint) {
        self.take_off(name);
        let home = self.home(name, &told);
        let veth = Veth { addresses: told.addresses.clone(), is_left: home.is_left };
        let pod = self.cluster.set_endpoint(&home.key, name, Some(veth));
        let gone = self.endpoints.remove(name);
        let (owned, placement) = gone.map(|wired| (wired.owned, wired.placement)).unwrap_or_default();
        let wired = Wired { told: Some(told), home, pod, selecting: BTreeMap::new(), owned, placement };
        self.endpoints.insert(name.clone(), wired);
        self.touched.insert(name.clone());
    }

    /// Its pod, as the cluster knows it, has it no more.
    fn take_off(&mut self, name: &IfName) {
        let wired = self.endpoints.get(name).filter(|wired| wired.told.is_some());
        if let Some(key) = wired.map(|wired| wired.home.key.clone()) {
            self.cluster.set_endpoint(&key, name, None);
        }
    }

    /// Puts a veth where it belongs now: its chains, and its addresses in the sets of the node.
    fn place(&mut self, name: &IfName) {
        let Some(wired) = self.endpoints.get(name) else { return };
        let classes = self.classes(wired);
        let placement = classes.map(|classes| {
            let mut site = Site {
                options: &self.options,
                policies: &self.policies,
                sets: &mut self.sets,
                cluster: &self.cluster,
                draft: &mut self.draft,
            };
            let [ingress, egress] = classes.map(|class| match class {
                Some(class) => self.chains.acquire(class, &mut site),
                None => ChainName::from(OPEN),
            });
            Placement { egress, ingress }
        });
        let Some(wired) = self.endpoints.get_mut(name) else { return };
        if let Some(Placement { egress, ingress }) = &wired.placement {
            self.chains.release(egress);
            self.chains.release(ingress);
        }
        if wired.placement != placement {
            self.draft.place(name, placement.clone());
            wired.placement = placement;
        }

        let owned = wired.told.as_ref().map(|told| told.addresses.clone()).unwrap_or_default();
        let owner = |address: IpAddr| (Family::of(address), Member::Owner(address, name.clone()));
        for (family, member) in wired.owned.difference(&owned).copied().map(owner) {
            self.draft.leave(family, &self_set(family), member);
        }
        for (family, member) in owned.difference(&wired.owned).copied().map(owner) {
            self.draft.join(family, &self_set(family), member);
        }
        wired.owned = owned;
        if wired.told.is_none() {
            self.endpoints.remove(name);
        }
    }

    /// The classes of a veth's pod, ingress first, each `None` where no policy isolates it; `None`: it is closed.
    fn classes(&self, wired: &Wired) -> Option<[Option<Class>; 2]> {
        if wired.told.as_ref()?.pod.is_none() {
            return Some([None, None]);
        }
        let pod =
            self.cluster.known(self.cluster.get(wired.pod)?).filter(|pod| pod.life == Life::OwnNetwork)?;
        Some(Direction::ALL.map(|direction| {
            let policies: Vec<PolicyId> = self.isolating(wired, direction).map(|(_, &id)| id).collect();
            let names = match direction {
                Direction::Ingress => policies.iter().filter_map(|id| self.policies.get(*id)).collect(),
                Direction::Egress => Vec::new(),
            };
            let names = names.into_iter().flat_map(|entry| &entry.names).cloned().collect();
            let numbers = sets::numbers(&names, &pod.ports);
            (!policies.is_empty()).then_some(Class { direction, policies, numbers })
        }))
    }

    /// Policies that select a pod and say something about a direction.
    fn isolating<'a>(
        &'a self,
        wired: &'a Wired,
        direction: Direction,
    ) -> impl Iterator<Item = (&'a Key, &'a PolicyId)> + 'a {
        wired.selecting.iter().filter(move |(_, id)| {
            self.policies.get(**id).is_some_and(|entry| entry.policy.rules(direction).is_some())
        })
    }

    fn tell_bgp_peers(&mut self) {
        for family in Family::ALL {
            let name = peers_set(family);
            let addresses = self.bgp_peers.iter().copied().filter(|&address| Family::of(address) == family);
            let wanted: BTreeSet<Member> = addresses.map(Member::Address).collect();
            let set = self.draft.program().table(family).sets.get(&name);
            let held = set.map(|set| set.members.clone()).unwrap_or_default();
            for member in held.difference(&wanted) {
                self.draft.leave(family, &name, member.clone());
            }
            for member in wanted.difference(&held) {
                self.draft.join(family, &name, member.clone());
            }
        }
    }
}

/// What is known of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyReport {
    /// Namespace and name.
    pub key: Key,
    /// It says something about what pods are sent.
    pub ingress: bool,
    /// It says something about what pods send.
    pub egress: bool,
    /// Pods of this node that it selects.
    pub selects: Vec<Key>,
    /// Why it fails closed; empty: it does not.
    pub faults: Vec<Fault>,
}

/// What is known of a pod of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodReport {
    /// The veth.
    pub interface: IfName,
    /// `None`: no pod of Kubernetes.
    pub pod: Option<Key>,
    /// Its addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// `None`: closed, since no object of this pod is known, or the pod has ended.
    pub placement: Option<Placement>,
    /// Policies that isolate it, for what it is sent; empty: not isolated.
    pub ingress: Vec<Key>,
    /// The same for what it sends.
    pub egress: Vec<Key>,
}

#[cfg(test)]
mod tests;
