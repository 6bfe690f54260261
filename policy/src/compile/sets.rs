//! Sets of peers, shared by all rules that name the same peers, and kept while a chain uses them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::cluster::{Cluster, Entry, Resident};
use super::draft::Draft;
use super::frame::prefix;
use super::index::{Hook, Index};
use super::name::Content;
use super::slab::PodId;
use crate::cidr::Blocks;
use crate::pod::{Addresses, NamedPorts, Pod, Uid};
use crate::policy::{Namespaces, PeerList, Peers, PortName};
use crate::program::{Family, Member, SetKind, SetName};
use crate::selector::{Selector, Test};

/// A set's number. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SetId(u64);

/// What sets were made of that a pod has members in.
#[derive(Debug)]
struct Seen {
    pod: Arc<Pod>,
    addresses: Addresses,
    /// Sets that may have members of it, and whether a selector of the set selects it; in order.
    sets: Vec<(SetId, bool)>,
}

impl Seen {
    fn new(id: PodId, resident: &Resident<'_>, cluster: &Cluster) -> Seen {
        Seen { pod: resident.pod.clone(), addresses: cluster.owned(id).collect(), sets: Vec::new() }
    }

    fn is_selected(&self, id: SetId) -> Option<bool> {
        let at = self.sets.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.sets.get(at).map(|(_, is_selected)| *is_selected)
    }
}

/// What a set stands for, in both families.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Meaning {
    /// The addresses of peers.
    Addresses(Arc<PeerList>),
    /// The addresses of pods among the peers, with the numbers that they give a port. An address block selects pods by
    /// their addresses here, as nothing else has names for ports.
    NamedPort(Peers, PortName),
}

/// What a meaning comes to in one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Extent {
    /// Every address.
    Everything,
    /// No address, now and ever.
    Nothing,
    /// Those in a set.
    Set(SetName, SetKind),
}

/// All sets that chains use.
#[derive(Debug)]
pub(super) struct Sets {
    ids: HashMap<Meaning, SetId>,
    sets: HashMap<SetId, LiveSet>,
    ids_made: u64,
    index: Index<SetId>,
    /// Pods that are in sets, perhaps.
    seen: HashMap<PodId, Seen>,
    /// Sets that no chain uses, perhaps.
    idle: BTreeSet<SetId>,
}

#[derive(Debug)]
struct LiveSet {
    meaning: Meaning,
    /// In the order of [`Family::ALL`].
    extents: [Extent; 2],
    chains: usize,
    pods: BTreeSet<PodId>,
}

impl Sets {
    pub(super) fn new() -> Sets {
        Sets {
            ids: HashMap::new(),
            sets: HashMap::new(),
            ids_made: 0,
            index: Index::new(),
            seen: HashMap::new(),
            idle: BTreeSet::new(),
        }
    }

    /// What a meaning comes to, whether there is a set of it or not: names follow from what they stand for.
    pub(super) fn extents(&self, meaning: &Meaning) -> [Extent; 2] {
        let live = self.ids.get(meaning).and_then(|id| self.sets.get(id));
        live.map_or_else(|| meaning.extents(), |set| set.extents.clone())
    }

    /// What the set of this name stands for.
    pub(super) fn meaning(&self, name: &str) -> Option<&Meaning> {
        let named = |set: &&LiveSet| {
            set.extents.iter().any(|extent| matches!(extent, Extent::Set(own, _) if **own == *name))
        };
        self.sets.values().find(named).map(|set| &set.meaning)
    }

    /// One more chain uses the set; it is made and filled if there is none.
    pub(super) fn acquire(&mut self, meaning: &Meaning, cluster: &Cluster, draft: &mut Draft) -> SetId {
        let id = self.ids.get(meaning).copied().unwrap_or_else(|| self.make(meaning, cluster, draft));
        if let Some(set) = self.sets.get_mut(&id) {
            set.chains += 1;
        }
        id
    }

    /// One chain less uses it.
    pub(super) fn release(&mut self, id: SetId) {
        if let Some(set) = self.sets.get_mut(&id) {
            set.chains = set.chains.saturating_sub(1);
            self.idle.insert(id);
        }
    }

    /// Drops what no chain uses any more.
    pub(super) fn sweep(&mut self, draft: &mut Draft) {
        for id in std::mem::take(&mut self.idle) {
            if self.sets.get(&id).is_none_or(|set| set.chains > 0) {
                continue;
            }
            let Some(set) = self.sets.remove(&id) else { continue };
            self.ids.remove(&set.meaning);
            self.index.take_off(id, &set.meaning.hooks());
            for pod in set.pods {
                let Some(seen) = self.seen.get_mut(&pod) else { continue };
                seen.sets.retain(|(set, _)| *set != id);
                if seen.sets.is_empty() {
                    self.seen.remove(&pod);
                }
            }
            for (family, extent) in Family::ALL.into_iter().zip(&set.extents) {
                if let Extent::Set(name, _) = extent {
                    draft.drop_set(family, name);
                }
            }
        }
    }

    /// Puts pods that changed into the sets where they belong now. All leave before any joins, since an address may go
    /// from one of them to another. Tells the addresses that pods had that others of the same name have replaced.
    pub(super) fn update(
        &mut self,
        pods: &BTreeSet<PodId>,
        cluster: &Cluster,
        draft: &mut Draft,
    ) -> BTreeSet<IpAddr> {
        let mut joining = Vec::new();
        let mut replaced = BTreeSet::new();
        for &pod in pods {
            let Some(entry) = cluster.get(pod) else { continue };
            let before = self.seen.remove(&pod);
            let now = self.look_at(pod, entry, cluster);
            if let Some(before) = &before {
                let uid = |pod: &Arc<Pod>| pod.uid.clone();
                if is_another(uid(&before.pod), entry.pod.as_ref().and_then(uid)) {
                    replaced.extend(before.addresses.iter());
                }
            }
            let is_same = match (&before, &now) {
                (Some(before), Some(now)) => {
                    before.addresses == now.addresses && before.pod.ports == now.pod.ports
                }
                _ => false,
            };
            for &(id, was_selected) in before.iter().flat_map(|before| &before.sets) {
                let is_selected = now.as_ref().and_then(|now| now.is_selected(id));
                if let Some(before) =
                    before.as_ref().filter(|_| !is_same || is_selected != Some(was_selected))
                {
                    self.members(id, before, was_selected, |family, name, member| {
                        draft.leave(family, name, member);
                    });
                }
                if is_selected.is_none()
                    && let Some(set) = self.sets.get_mut(&id)
                {
                    set.pods.remove(&pod);
                }
            }
            let Some(now) = now else { continue };
            for &(id, is_selected) in &now.sets {
                let was_selected = before.as_ref().and_then(|before| before.is_selected(id));
                if !is_same || was_selected != Some(is_selected) {
                    joining.push((id, pod, is_selected));
                }
            }
            self.seen.insert(pod, now);
        }
        for (id, pod, is_selected) in joining {
            self.enter(id, pod, is_selected, draft);
        }
        replaced
    }

    fn make(&mut self, meaning: &Meaning, cluster: &Cluster, draft: &mut Draft) -> SetId {
        self.ids_made += 1;
        let id = SetId(self.ids_made);
        let hooks = meaning.hooks();
        self.ids.insert(meaning.clone(), id);
        self.index.hang(id, &hooks);
        let extents = meaning.extents();
        for (family, extent) in Family::ALL.into_iter().zip(&extents) {
            let Extent::Set(name, kind) = extent else { continue };
            draft.make_set(family, name, *kind);
            if let Meaning::Addresses(list) = meaning {
                for (network, length) in list.blocks(family).prefixes() {
                    draft.join(family, name, Member::Network(network, length));
                }
            }
        }
        let set = LiveSet { meaning: meaning.clone(), extents, chains: 0, pods: BTreeSet::new() };
        self.sets.insert(id, set);
        for pod in meaning.candidates(cluster) {
            let Some(resident) = cluster.get(pod).and_then(|entry| cluster.resident(entry)) else { continue };
            let Some(is_selected) = meaning.takes(&resident) else { continue };
            let seen = self.seen.entry(pod).or_insert_with(|| Seen::new(pod, &resident, cluster));
            // No set is younger.
            seen.sets.push((id, is_selected));
            self.enter(id, pod, is_selected, draft);
        }
        id
    }

    fn enter(&mut self, id: SetId, pod: PodId, is_selected: bool, draft: &mut Draft) {
        if let Some(set) = self.sets.get_mut(&id) {
            set.pods.insert(pod);
        }
        if let Some(seen) = self.seen.get(&pod) {
            self.members(id, seen, is_selected, |family, name, member| draft.join(family, name, member));
        }
    }

    /// Which sets a pod belongs to, by what it is now; `None`: none.
    fn look_at(&self, pod: PodId, entry: &Entry, cluster: &Cluster) -> Option<Seen> {
        if self.sets.is_empty() {
            return None;
        }
        let resident = cluster.resident(entry)?;
        let candidates = self.index.find(&Hook::of_pod(&resident)).into_iter();
        let sets = candidates.filter_map(|id| Some((id, self.sets.get(&id)?.meaning.takes(&resident)?)));
        let sets: Vec<(SetId, bool)> = sets.collect();
        (!sets.is_empty()).then(|| Seen { sets, ..Seen::new(pod, &resident, cluster) })
    }

    /// The members of a set that a pod stands for.
    fn members(
        &self,
        id: SetId,
        seen: &Seen,
        is_selected: bool,
        mut each: impl FnMut(Family, &SetName, Member),
    ) {
        let Some(set) = self.sets.get(&id) else { return };
        for address in seen.addresses.iter() {
            let family = Family::of(address);
            let [ipv4, ipv6] = &set.extents;
            let extent = if family == Family::Ipv4 { ipv4 } else { ipv6 };
            let Extent::Set(name, kind) = extent else { continue };
            match (&set.meaning, kind) {
                // What a block has needs no member of its own, which could not be told from the block's.
                (Meaning::Addresses(list), SetKind::Networks) if !list.has_address(address) => {
                    each(family, name, Member::Network(address, if address.is_ipv4() { 32 } else { 128 }));
                }
                (Meaning::Addresses(_), SetKind::Addresses) => each(family, name, Member::Address(address)),
                (Meaning::NamedPort(peers, wanted), SetKind::AddressPorts) => {
                    let has = |list: &PeerList| list.has_address(address);
                    if !is_selected && !matches!(peers, Peers::Listed(list) if has(list)) {
                        continue;
                    }
                    for (_, number) in seen.pod.ports.iter().filter(|(port, _)| port == wanted) {
                        each(family, name, Member::AddressPort(address, wanted.protocol, *number));
                    }
                }
                _ => {}
            }
        }
    }
}

impl Meaning {
    /// Whether a pod may have members in the set, and if so, whether it is by a selector.
    fn takes(&self, resident: &Resident<'_>) -> Option<bool> {
        let selected =
            |list: &PeerList| list.selectors.iter().any(|selector| resident.is_selected_by(selector));
        match self {
            Meaning::Addresses(list) => selected(list).then_some(true),
            Meaning::NamedPort(_, port) if !resident.names(port) => None,
            Meaning::NamedPort(Peers::Anyone, _) => Some(true),
            Meaning::NamedPort(Peers::Listed(list), _) => match selected(list) {
                true => Some(true),
                false => (!list.ipv4.is_empty() || !list.ipv6.is_empty()).then_some(false),
            },
        }
    }

    /// Pods that it may take.
    fn candidates(&self, cluster: &Cluster) -> Vec<PodId> {
        match self {
            Meaning::Addresses(list) => cluster.candidates(&list.selectors),
            Meaning::NamedPort(Peers::Listed(list), _) if list.ipv4.is_empty() && list.ipv6.is_empty() => {
                cluster.candidates(&list.selectors)
            }
            Meaning::NamedPort(_, port) => cluster.naming(port),
        }
    }

    /// Where pods hang that it may take.
    fn hooks(&self) -> Vec<Hook> {
        match self {
            Meaning::Addresses(list) => {
                let hooks: BTreeSet<Hook> = list.selectors.iter().flat_map(Hook::of_selector).collect();
                hooks.into_iter().collect()
            }
            Meaning::NamedPort(_, port) => vec![Hook::Port(port.clone())],
        }
    }

    fn extents(&self) -> [Extent; 2] {
        let letters = self.letters();
        Family::ALL.map(|family| {
            let set = |kind, letter| Extent::Set(format!("{}{letter}{letters}", prefix(family)).into(), kind);
            match self {
                Meaning::Addresses(list) => {
                    let blocks = list.blocks(family);
                    match (list.selectors.is_empty(), blocks.is_empty()) {
                        _ if blocks.is_everything() => Extent::Everything,
                        (true, true) => Extent::Nothing,
                        (false, true) => set(SetKind::Addresses, 'p'),
                        (_, false) => set(SetKind::Networks, 'n'),
                    }
                }
                Meaning::NamedPort(Peers::Listed(list), _)
                    if list.selectors.is_empty() && list.blocks(family).is_empty() =>
                {
                    Extent::Nothing
                }
                Meaning::NamedPort(..) => set(SetKind::AddressPorts, 'e'),
            }
        })
    }

    fn letters(&self) -> String {
        let mut content = Content::default();
        match self {
            Meaning::Addresses(list) => write_list(content.text("addresses"), list),
            Meaning::NamedPort(peers, port) => {
                content.text("named port").text(&port.protocol.to_string()).text(&port.name);
                match peers {
                    Peers::Anyone => _ = content.text("anyone"),
                    Peers::Listed(list) => write_list(content.text("listed"), list),
                }
            }
        }
        content.letters()
    }
}

/// Whether both are known, and not the same.
fn is_another(before: Option<Uid>, now: Option<Uid>) -> bool {
    before.is_some() && now.is_some() && before != now
}

fn write_list(content: &mut Content, list: &PeerList) {
    content.number(list.selectors.len() as u32);
    for selector in &list.selectors {
        match &selector.namespaces {
            Namespaces::Named(name) => _ = content.text("named").text(name),
            Namespaces::Matching(namespaces) => write_selector(content.text("matching"), namespaces),
        }
        write_selector(content, &selector.pods);
    }
    write_blocks(content, &list.ipv4);
    write_blocks(content, &list.ipv6);
}

fn write_selector(content: &mut Content, selector: &Selector) {
    content.number(selector.requirements().len() as u32);
    for requirement in selector.requirements() {
        let nothing = BTreeSet::new();
        let (test, values) = match &requirement.test {
            Test::In(values) => ("in", values),
            Test::NotIn(values) => ("not in", values),
            Test::Exists => ("exists", &nothing),
            Test::DoesNotExist => ("does not exist", &nothing),
        };
        content.text(&requirement.key).text(test).number(values.len() as u32);
        values.iter().for_each(|value| _ = content.text(value));
    }
}

fn write_blocks(content: &mut Content, blocks: &Blocks) {
    for (network, length) in blocks.prefixes() {
        content.text(&network.to_string()).number(u32::from(length));
    }
    content.text("");
}

/// Numbers of pods' named ports, as rules for what they are sent want them.
pub(super) fn numbers(wanted: &BTreeSet<PortName>, ports: &NamedPorts) -> BTreeMap<PortName, BTreeSet<u16>> {
    let mut numbers: BTreeMap<PortName, BTreeSet<u16>> = BTreeMap::new();
    for (port, number) in ports.iter().filter(|(port, _)| wanted.contains(port)) {
        numbers.entry(port.clone()).or_default().insert(*number);
    }
    numbers
}
