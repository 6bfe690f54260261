//! Objects that contradict each other: which of them count. Pure, and the same for every source.
//!
//! An object claims things that only one can have: its name, a node's addresses, the ranges of its pods, being
//! the configuration of a node, a peer's address and name at a node. **What works keeps working**: a claim that was
//! granted in the last view goes before a new one; among new ones the object that was seen first; among those
//! that were seen at once the order of the entries decides (in a folder the order of the files). Objects that say how
//! old they are go by their age alone. What is refused is the claim and not the whole object: a node whose range
//! overlaps another's is still a node.
//!
//! **Local wins locally**: addresses and pod ranges of this node's own Node object go before those of all others,
//! whatever went before. Its pods live there, and it can serve nobody else's. What a BGPNodeOverride says is a wish like
//! others, and has to be free.
//!
//! Of an API server's objects, peers are looked at for this node alone: what others are told of is theirs to judge. So
//! what is wrong with the peers of a BGPClusterConfig is found by this node, and is no fault of the object that all
//! nodes would find.
//!
//! A reference to what is not there is no claim, but is treated like one that is refused.

mod claims;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use cambric_bgp::{Asn, Prefix};

use self::claims::{Claim, Precedence, Standing};
pub(crate) use self::claims::{Claimant, Claims};
use crate::asn;
use crate::drain;
use crate::objects::{
    FilterNames, FoundBy, Kind, Node, NodeOverride, Object, ObjectRef, Objects, Peer, PeerOptions, Problem,
    Reason, Shown,
};
use crate::secrets::{KeyRef, NoKey};
use crate::view::{Services, Workloads};

/// An object as its source shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The file it is from.
    pub file: String,
    /// The file, where in it, kind and name.
    pub place: String,
    /// `metadata.name`, behind its namespace and a slash if it is in one.
    pub name: String,
    /// What it says.
    pub object: Object,
}

/// Something that does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The file it is from.
    pub file: String,
    /// What is said of it; names the winner.
    pub problem: Problem,
    /// The file it was taken away by, if it had been granted: one that has become another, or is gone.
    pub because_of: Option<String>,
    /// It was not refused in the last view.
    pub is_new: bool,
}

/// What is left.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settled {
    /// Free of contradictions.
    pub objects: Objects,
    /// The same of what policies are made from.
    pub workloads: Workloads,
    /// The same of services.
    pub services: Services,
    /// In the order they were found.
    pub refused: Vec<Refusal>,
    /// For the next view.
    pub claims: Claims,
}

/// Which of two objects is older, if the last view does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// The one that has been seen longer; of those seen at once, the first entry.
    SinceSeen,
    /// The first entry.
    ByOrder,
}

/// Finds out which of `entries` count at node `own`, after a view in which `held` was granted.
pub(crate) fn settle(entries: &[&Entry], held: &Claims, own: &str, age: Age) -> Settled {
    let claims = Claims { views: held.views, ..Claims::default() };
    let settled = Settled { claims, ..Settled::default() };
    let (granted, admitted, asked) = (BTreeMap::new(), vec![false; entries.len()], labels_asked_for(entries));
    let claimants = entries.iter().map(|entry| (entry.object.kind(), entry.name.clone())).collect();
    let mut court = Court { entries, claimants, held, own, age, granted, admitted, asked, settled };
    court.names();
    court.addresses();
    court.ranges();
    court.configurations();
    court.asns();
    court.peers();
    court.filters();
    court.references();
    court.keys();
    court.settled
}

/// With the node and what it is told.
type PeerClaim<'a> = (Claim, usize, (&'a str, &'a Peer));

/// By entry, field of the peer, reason, and the file that is the reason: the peer, and at which nodes.
type LeftOut<'a> = BTreeMap<(usize, &'a str, &'static str, Option<String>), (&'a Peer, Why, Vec<&'a str>)>;

/// Why a peer does not count, with the entry that has what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Own,
    Site(usize),
    Name(usize),
}

impl Why {
    fn reason(self) -> &'static str {
        match self {
            Why::Own => "the node's own address",
            Why::Site(_) => "has the same",
            Why::Name(_) => "has the same name",
        }
    }

    fn winner(self) -> Option<usize> {
        match self {
            Why::Own => None,
            Why::Site(winner) | Why::Name(winner) => Some(winner),
        }
    }
}

struct Court<'a> {
    entries: &'a [&'a Entry],
    /// Whose they are.
    claimants: Vec<Claimant>,
    held: &'a Claims,
    own: &'a str,
    age: Age,
    /// By claim, the index of the entry.
    granted: BTreeMap<Claim, usize>,
    /// By index, whether its name was granted.
    admitted: Vec<bool>,
    /// Labels of nodes that somebody asks for.
    asked: BTreeSet<&'a str>,
    settled: Settled,
}

impl<'a> Court<'a> {
    fn claimant(&self, index: usize) -> &Claimant {
        &self.claimants[index]
    }

    /// Those of this node itself first; then those that were granted in the last view; then the older object; else in
    /// their order.
    fn in_order<T>(&self, mut claims: Vec<(Claim, usize, T)>) -> Vec<(Claim, usize, T)> {
        claims.sort_by_cached_key(|(claim, index, _)| self.precedence(claim, *index));
        claims
    }

    fn precedence(&self, claim: &Claim, index: usize) -> Precedence {
        let Entry { file, name, object, .. } = self.entries[index];
        let is_own_node = matches!(object, Object::Node(_)) && name == self.own;
        let is_local = is_own_node && matches!(claim, Claim::Address(_) | Claim::Range(_));
        let precedence = self.held.precedence(claim, self.claimant(index), file, is_local);
        match self.age {
            Age::SinceSeen => precedence,
            Age::ByOrder => Precedence { since: 0, ..precedence },
        }
    }

    fn grant(&mut self, claim: Claim, index: usize) {
        self.settled.claims.granted.insert(claim.clone(), self.claimants[index].clone());
        self.granted.insert(claim, index);
    }

    fn take_back(&mut self, claim: &Claim) {
        self.settled.claims.granted.remove(claim);
        self.granted.remove(claim);
    }

    /// Its name is granted: from now on it counts.
    fn admit(&mut self, claim: Claim, index: usize) {
        let (claimant, file) = (self.claimants[index].clone(), self.entries[index].file.clone());
        let since = match self.age {
            Age::SinceSeen => self.held.objects.get(&claimant).map_or(self.held.views, |held| held.since),
            Age::ByOrder => 0,
        };
        if self.age == Age::SinceSeen && since == self.held.views {
            self.settled.claims.views = self.held.views + 1;
        }
        self.settled.claims.objects.insert(claimant, Standing { file, since });
        self.granted.insert(claim, index);
        self.admitted[index] = true;
        self.show(index);
    }

    fn refuse(&mut self, index: usize, claims: impl IntoIterator<Item = Claim>, why: Reason, what: String) {
        let Entry { file, place, name, object } = self.entries[index];
        let problem = Problem::new(place.clone(), what).about(object.kind(), name.clone()).because(why);
        let mut is_new = false;
        for claim in claims {
            let refused = (file.clone(), self.claimants[index].clone(), claim);
            is_new |= !self.held.refused.contains(&refused);
            self.settled.claims.refused.insert(refused);
        }
        self.settled.refused.push(Refusal { file: file.clone(), problem, because_of: None, is_new });
    }

    /// Of the last refusal, of what had been granted before if it was.
    fn because_of_winner(&mut self, index: usize, claim: &Claim, winner: usize) {
        let is_taken = self.is_held(claim, index);
        self.because_of(is_taken.then(|| self.entries[winner].file.clone()));
    }

    /// Of the last refusal.
    fn because_of(&mut self, file: Option<String>) {
        if let Some(refusal) = self.settled.refused.last_mut() {
            refusal.because_of = file;
        }
    }

    /// The last refusal is about peers: of a BGPNodeOverride its node alone speaks, of a BGPClusterConfig all do.
    fn found_by_judges(&mut self, of: Kind) {
        if self.age == Age::ByOrder
            && of != Kind::BGPNodeOverride
            && let Some(refusal) = self.settled.refused.last_mut()
        {
            refusal.problem.found_by = FoundBy::ThisNode;
        }
    }

    fn place(&self, index: usize) -> &'a str {
        &self.entries[index].place
    }

    fn conflicted(&self, winner: usize) -> Reason {
        let (kind, name) = self.claimant(winner).clone();
        Reason::Conflicted { winner: ObjectRef { kind, name } }
    }

    /// Of two objects of one kind and name one counts.
    fn names(&mut self) {
        let claims = self
            .entries
            .iter()
            .enumerate()
            .map(|(index, entry)| (Claim::Name(entry.object.kind(), entry.name.clone()), index, ()));
        for (claim, index, ()) in self.in_order(claims.collect()) {
            match self.granted.get(&claim) {
                Some(winner) => {
                    let (why, name) = (self.conflicted(*winner), &self.entries[index].name);
                    let winner = self.place(*winner);
                    let what = format!("metadata.name: {name}: Conflicted: {winner} has the same");
                    self.refuse(index, [claim], why, what);
                }
                None => self.admit(claim, index),
            }
        }
    }

    fn show(&mut self, index: usize) {
        let Entry { place, name, object, .. } = &self.entries[index];
        let (place, name) = (place.clone(), name.clone());
        let Settled { objects, workloads, services, .. } = &mut self.settled;
        match object {
            Object::Node(node) => {
                let says = node.with_labels(&self.asked);
                drop(objects.nodes.insert(name, Shown { place, says }));
            }
            Object::ClusterConfig(says) => {
                drop(objects.cluster_configs.insert(name, Shown { place, says: says.clone() }));
            }
            Object::PeerConfig(says) => {
                drop(objects.peer_configs.insert(name, Shown { place, says: says.clone() }));
            }
            Object::Filter(says) => {
                drop(objects.filters.insert(name, Shown { place, says: Arc::clone(says) }));
            }
            Object::NodeOverride(says) => {
                drop(objects.node_overrides.insert(name, Shown { place, says: says.clone() }));
            }
            Object::Secret(says) => {
                drop(objects.secrets.insert(name, Shown { place, says: says.clone() }));
            }
            // Those that count from before, and the older ones, are admitted first.
            Object::Advertisement(says) => {
                objects.advertisements.push((name, Shown { place, says: says.clone() }));
            }
            Object::Service(key, says) => drop(services.services.insert(key.clone(), Arc::clone(says))),
            Object::EndpointSlice(key, says) => drop(services.slices.insert(key.clone(), Arc::clone(says))),
            Object::Pod(key, says) => drop(workloads.pods.insert(key.clone(), Arc::clone(says))),
            Object::Namespace(name, says) => {
                drop(workloads.namespaces.insert(Arc::clone(name), Arc::clone(says)));
            }
            Object::NetworkPolicy(key, says) => {
                drop(workloads.policies.insert(key.clone(), Arc::clone(says)));
            }
        }
    }

    /// The entries whose name was granted, and of which `pick` wants something; in their order.
    fn shown<T>(&self, pick: impl Fn(&'a Object) -> Option<T>) -> Vec<(usize, &'a Entry, T)> {
        let entries = self.entries.iter().copied().enumerate().filter(|(index, _)| self.admitted[*index]);
        entries.filter_map(|(index, entry)| Some((index, entry, pick(&entry.object)?))).collect()
    }

    /// Sessions and host routes to an address of two nodes would go to one of them. What a node's two objects say alike
    /// is no contradiction.
    fn addresses(&mut self) {
        let mut claims = Vec::new();
        for (index, entry, object) in self.shown(Some) {
            let mut claim = |field: &'static str, address: IpAddr| {
                claims.push((Claim::Address(address), index, (field, address)));
            };
            match object {
                Object::Node(node) => {
                    node.internal_addresses
                        .iter()
                        .for_each(|(_, address)| claim("status.addresses", *address));
                }
                Object::NodeOverride(says) if self.settled.objects.nodes.contains_key(&entry.name) => {
                    says.addresses.values().for_each(|address| claim("spec.addresses", *address));
                }
                _ => {}
            }
        }
        for (claim, index, (field, address)) in self.in_order(claims) {
            let Entry { name, object, .. } = self.entries[index];
            let winner = self.granted.get(&claim).copied();
            let Some(winner) = winner.filter(|winner| self.entries[*winner].name != *name) else {
                // The Node outlives what overrides it.
                if winner.is_none() || matches!(object, Object::Node(_)) {
                    self.grant(claim, index);
                }
                continue;
            };
            let why = self.conflicted(winner);
            let what = format!("{field}: {address}: Conflicted: {} has the same", self.place(winner));
            self.refuse(index, [claim.clone()], why, what);
            self.because_of_winner(index, &claim, winner);
            let Objects { nodes, node_overrides, .. } = &mut self.settled.objects;
            if let Object::NodeOverride(_) = object {
                let shown = node_overrides.get_mut(name);
                shown.into_iter().for_each(|shown| shown.says.addresses.retain(|_, own| *own != address));
            } else if let Some(shown) = nodes.get_mut(name) {
                shown.says.addresses.retain(|_, own| *own != address);
                shown.says.internal_addresses.retain(|(_, own)| *own != address);
            }
        }
    }

    /// Pods of an address in two ranges would be reached on one of the nodes.
    fn ranges(&mut self) {
        let mut claims = Vec::new();
        for (index, _, node) in self.shown(node) {
            for (field, prefix) in &node.pod_ranges {
                claims.push((Claim::Range(*prefix), index, (field, *prefix)));
            }
        }
        for (claim, index, (field, prefix)) in self.in_order(claims) {
            let overlapping = self.overlapping(prefix);
            let Some((first, winner)) = overlapping.first() else {
                self.grant(claim, index);
                continue;
            };
            let (winner, why) = (*winner, self.conflicted(*winner));
            let what = format!("{field}: {prefix}: Conflicted: overlaps {first} of {}", self.place(winner));
            self.refuse(index, [claim.clone()], why, what);
            self.because_of_winner(index, &claim, winner);
            let name = &self.entries[index].name;
            self.settled.objects.disputed.entry(name.clone()).or_default().push(prefix);
            if let Some(node) = self.settled.objects.nodes.get_mut(name) {
                node.says.pod_ranges.retain(|(_, range)| *range != prefix);
            }
        }
    }

    /// The granted range that covers `prefix`, or all that it covers. Granted ranges do not overlap; so the one
    /// that covers it can only stand right before it, and those that it covers in a run right behind.
    fn overlapping(&self, prefix: Prefix) -> Vec<(Prefix, usize)> {
        let range = |(claim, index): (&Claim, &usize)| match claim {
            Claim::Range(other) => Some((*other, *index)),
            _ => None,
        };
        let here = Claim::Range(prefix);
        let before = self.granted.range(..here.clone()).next_back().and_then(range);
        let behind = self.granted.range(here..).map_while(range);
        let covering = before.filter(|(other, _)| other.covers(&prefix)).into_iter();
        covering.chain(behind.take_while(|(other, _)| prefix.covers(other))).collect()
    }

    /// A node has one configuration.
    fn configurations(&mut self) {
        let configs = self.shown(|object| match object {
            Object::ClusterConfig(config) => Some(config),
            _ => None,
        });
        let mut claims = Vec::new();
        for (_, entry, node) in self.shown(node) {
            for (index, _, _) in configs.iter().filter(|(_, _, config)| config.selects(node)) {
                claims.push((Claim::Configures(entry.name.clone()), *index, &entry.name));
            }
        }
        // By loser and winner, the nodes that both select.
        let mut refused: BTreeMap<(usize, usize), Vec<&str>> = BTreeMap::new();
        for (claim, index, node) in self.in_order(claims) {
            match self.granted.get(&claim) {
                Some(winner) => refused.entry((index, *winner)).or_default().push(node),
                None => {
                    self.grant(claim, index);
                    let config = self.entries[index].name.clone();
                    self.settled.objects.config_of.insert(node.clone(), config);
                }
            }
        }
        for ((index, winner), nodes) in refused {
            let (why, winner) = (self.conflicted(winner), self.place(winner));
            let what = format!("spec.nodeSelector: Conflicted: {winner} selects {}, too", listed(&nodes));
            let claims = nodes.into_iter().map(|node| Claim::Configures(node.to_owned()));
            self.refuse(index, claims, why, what);
        }
    }

    /// A node whose label says no AS has the one that it had.
    fn asns(&mut self) {
        for (_, entry, _) in self.shown(node) {
            let name = &entry.name;
            let found = match asn::said(&self.settled.objects, name) {
                Ok(asn) => asn,
                Err(what) => {
                    let held = self.held.asns.get(name).copied().and_then(Asn::new);
                    // Whoever has none waits, and says so.
                    let Some(held) = held else { continue };
                    self.settled.objects.kept_asns.insert(name.clone(), held);
                    let what = format!("{what}; its AS counts as it was before: {held}");
                    let notice = Problem::new(entry.place.clone(), what).because(Reason::CountsAsBefore);
                    self.settled.objects.notices.push(notice.about(Kind::Node, name.clone()));
                    held
                }
            };
            self.settled.claims.asns.insert(name.clone(), found.value());
        }
    }

    /// An address is one peer of a node, and not the node itself; so is a range, a gateway, and a name. Who is at a
    /// gateway or in a range is not known here: of an address that is named, too, the peer that names it is meant.
    fn peers(&mut self) {
        let mut left_out = LeftOut::new();
        let mut claims = self.peer_claims(&mut left_out);
        claims.sort_by_key(|(_, index, _)| *index);
        let mut claims = self.in_order(claims);
        // Whoever does not get its name gives its address back, and another may have it.
        loop {
            let (waiting, is_given_back) = self.grant_peers(claims, &mut left_out);
            claims = Vec::new();
            for (claim, index, (node, peer)) in waiting {
                match self.granted.get(&claim).copied() {
                    Some(winner) => self.leave_out(&mut left_out, index, node, peer, Why::Site(winner)),
                    None => claims.push((claim, index, (node, peer))),
                }
            }
            if !is_given_back {
                break;
            }
        }
        self.refuse_peers(left_out);
    }

    /// Whether what `node` is told of is looked at. In a folder all of it is: who writes it has all nodes before him. An
    /// API server has thousands of them, and each judges its own peers.
    fn is_judged(&self, node: &str) -> bool {
        self.age == Age::SinceSeen || node == self.own
    }

    /// What nodes are told of, but for their own addresses.
    fn peer_claims(&mut self, left_out: &mut LeftOut<'a>) -> Vec<PeerClaim<'a>> {
        let mut claims = Vec::new();
        for (index, entry, overrides) in self.shown(node_override) {
            if !self.settled.objects.nodes.contains_key(&entry.name) {
                let what = format!("metadata.name: {}: there is no such Node", entry.name);
                let notice = Problem::new(entry.place.clone(), what).because(Reason::Missing);
                let notice = notice.about(Kind::BGPNodeOverride, entry.name.clone());
                self.settled.objects.notices.push(notice);
                continue;
            }
            if !self.is_judged(&entry.name) {
                continue;
            }
            let own = self.addresses_of(&entry.name);
            for peer in &overrides.peers {
                if peer.site.address().is_some_and(|address| own.contains(&address)) {
                    self.leave_out(left_out, index, &entry.name, peer, Why::Own);
                } else {
                    claims.push((Claim::Peer(entry.name.clone(), peer.site), index, (&*entry.name, peer)));
                }
            }
        }
        for (_, entry, _) in self.shown(node) {
            if !self.is_judged(&entry.name) {
                continue;
            }
            let own = self.addresses_of(&entry.name);
            for (index, peer) in self.peers_of_all(&entry.name) {
                let claim = Claim::Peer(entry.name.clone(), peer.site);
                if !peer.site.address().is_some_and(|address| own.contains(&address)) {
                    claims.push((claim, index, (&*entry.name, peer)));
                } else if self.is_held(&claim, index) {
                    // Else one of the peers of all nodes is a node itself, which is no contradiction.
                    self.leave_out(left_out, index, &entry.name, peer, Why::Own);
                }
            }
        }
        claims
    }

    /// Gives back those whose address another one has, and whether one that was granted is free again.
    fn grant_peers(
        &mut self,
        claims: Vec<PeerClaim<'a>>,
        left_out: &mut LeftOut<'a>,
    ) -> (Vec<PeerClaim<'a>>, bool) {
        let (mut waiting, mut granted, mut is_given_back) = (Vec::new(), Vec::new(), false);
        for (claim, index, (node, peer)) in claims {
            if self.granted.contains_key(&claim) {
                waiting.push((claim, index, (node, peer)));
            } else {
                self.grant(claim, index);
                granted.push((Claim::PeerName(node.to_owned(), peer.name.clone()), index, (node, peer)));
            }
        }
        granted.sort_by_key(|(_, index, _)| *index);
        for (claim, index, (node, peer)) in self.in_order(granted) {
            match self.granted.get(&claim).copied() {
                Some(winner) => {
                    self.leave_out(left_out, index, node, peer, Why::Name(winner));
                    self.take_back(&Claim::Peer(node.to_owned(), peer.site));
                    is_given_back = true;
                }
                None => self.grant(claim, index),
            }
        }
        (waiting, is_given_back)
    }

    /// Those that the node was granted.
    fn addresses_of(&self, node: &str) -> Vec<IpAddr> {
        let Objects { nodes, node_overrides, .. } = &self.settled.objects;
        let internal = nodes.get(node).into_iter().flat_map(|node| &node.says.internal_addresses);
        let particular = node_overrides.get(node).into_iter().flat_map(|shown| shown.says.addresses.values());
        internal.map(|(_, address)| *address).chain(particular.copied()).collect()
    }

    fn is_held(&self, claim: &Claim, index: usize) -> bool {
        self.held.granted.get(claim) == Some(self.claimant(index))
    }

    /// The peers that `node` has in common with others.
    fn peers_of_all(&self, node: &str) -> impl Iterator<Item = (usize, &'a Peer)> + use<'a> {
        let entries = self.entries;
        let index = self.granted.get(&Claim::Configures(node.to_owned())).copied();
        let peers = index.and_then(|index| match &entries[index].object {
            Object::ClusterConfig(config) => Some((index, &config.peers)),
            _ => None,
        });
        peers.into_iter().flat_map(|(index, peers)| peers.iter().map(move |peer| (index, peer)))
    }

    fn leave_out(
        &mut self,
        left_out: &mut LeftOut<'a>,
        index: usize,
        node: &'a str,
        peer: &'a Peer,
        why: Why,
    ) {
        let kind = self.entries[index].object.kind();
        self.settled.objects.left_out.insert((kind, node.to_owned(), peer.site));
        // A session that is there goes before a new address of the node.
        let is_taken = why == Why::Own && self.is_held(&Claim::Peer(node.to_owned(), peer.site), index);
        let because_of =
            is_taken.then(|| self.held.file_of(&(Kind::Node, node.to_owned())).cloned()).flatten();
        let key = (index, peer.field.as_str(), why.reason(), because_of);
        left_out.entry(key).or_insert_with(|| (peer, why, Vec::new())).2.push(node);
    }

    /// A peer that contradicts another at many nodes is one line.
    fn refuse_peers(&mut self, left_out: LeftOut<'a>) {
        for ((index, field, reason, because_of), (peer, why, nodes)) in left_out {
            let Peer { name, site, .. } = peer;
            let at = match self.entries[index].object.kind() {
                Kind::BGPNodeOverride => String::new(),
                _ => format!(" at {}", listed(&nodes)),
            };
            let node = || ObjectRef {
                kind: Kind::Node,
                name: nodes.first().copied().unwrap_or_default().to_owned(),
            };
            let conflicted = why.winner().map(|winner| self.conflicted(winner));
            let conflicted = conflicted.unwrap_or_else(|| Reason::Conflicted { winner: node() });
            let winner = why.winner().map(|winner| format!("a peer of {} ", self.place(winner)));
            let winner = winner.unwrap_or_default();
            let says = site.field();
            let what = format!("{field}.{says}: {site} (peer {name}{at}): Conflicted: {winner}{reason}");
            let claims = nodes.into_iter().map(|node| Claim::Peer(node.to_owned(), *site));
            self.refuse(index, claims, conflicted, what);
            self.because_of(because_of);
            self.found_by_judges(self.entries[index].object.kind());
        }
    }

    /// A filter that is missing would hold back something: without it more would pass than was meant, in either
    /// direction. So the BGPPeerConfig that names it does not count, and peers that refer to that are left out.
    fn filters(&mut self) {
        let naming = self.shown(|object| match object {
            Object::PeerConfig(options) => Some(&options.filters),
            _ => None,
        });
        for (index, entry, filters) in naming {
            let lists = filters.values().flat_map(|FilterNames { field, import, export }| {
                let named = |direction: &'static str, names: &'a [String]| {
                    let of_each = move |(at, name)| (format!("{field}.{direction}[{at}]"), name);
                    names.iter().enumerate().map(of_each)
                };
                named("import", import).chain(named("export", export))
            });
            for (field, name) in lists {
                if self.settled.objects.filters.contains_key(name) {
                    continue;
                }
                self.settled.objects.peer_configs.remove(&entry.name);
                let what = format!("{field}: {name:?}: no BGPFilter of this name counts");
                self.refuse(index, [Claim::Filter(name.clone())], Reason::Missing, what);
                self.because_of(self.held.file_of(&(Kind::BGPFilter, name.clone())).cloned());
            }
        }
    }

    /// A peer whose options are unknown could be told what it should not.
    fn references(&mut self) {
        let naming = self.shown(|object| match object {
            Object::ClusterConfig(config) => Some(&config.peers),
            Object::NodeOverride(NodeOverride { peers, .. }) => Some(peers),
            _ => None,
        });
        for (index, _, peers) in naming {
            for peer in peers {
                let Some(name) = &peer.peer_config else { continue };
                if self.settled.objects.peer_configs.contains_key(name) {
                    continue;
                }
                let Peer { field, name: of, site, .. } = peer;
                let what =
                    format!("{field}.peerConfig: {name:?} (peer {of}): no BGPPeerConfig of this name counts");
                self.refuse(index, [Claim::Options(*site, name.clone())], Reason::Missing, what);
                self.because_of(self.held.file_of(&(Kind::BGPPeerConfig, name.clone())).cloned());
            }
        }
    }

    /// A peer whose key is unknown has no session: without a key, or with an empty one, anybody could be it.
    fn keys(&mut self) {
        let naming = self.shown(|object| match object {
            Object::PeerConfig(PeerOptions { secret, .. }) => secret.as_ref(),
            _ => None,
        });
        for (index, _, key) in naming {
            let Err(error) = self.settled.objects.key(key) else { continue };
            let KeyRef { secret, entry } = key;
            let reason = match error {
                NoKey::NoSecret | NoKey::NoEntry => Reason::Missing,
                NoKey::OfOctets(_) => Reason::Invalid,
            };
            let what = format!("spec.secret: {key}: {error}, and without a key its peers have no session");
            self.refuse(index, [Claim::Key(secret.clone(), entry.clone())], reason, what);
            self.because_of(self.held.file_of(&(Kind::Secret, secret.clone())).cloned());
        }
    }
}

/// Those that configurations and advertisements select nodes by, or read from them, and the one that drains a node.
fn labels_asked_for<'a>(entries: &[&'a Entry]) -> BTreeSet<&'a str> {
    let mut labels: BTreeSet<&str> = [drain::LABEL].into();
    for entry in entries {
        match &entry.object {
            Object::ClusterConfig(config) => {
                labels.extend(config.labels.keys().chain(&config.asn_label).map(String::as_str));
            }
            Object::Advertisement(says) => labels.extend(says.labels.keys().map(String::as_str)),
            _ => {}
        }
    }
    labels
}

fn node(object: &Object) -> Option<&Node> {
    match object {
        Object::Node(node) => Some(node),
        _ => None,
    }
}

fn node_override(object: &Object) -> Option<&NodeOverride> {
    match object {
        Object::NodeOverride(overrides) => Some(overrides),
        _ => None,
    }
}

/// As `node n1` or `node n1 and 39 others`.
fn listed(nodes: &[&str]) -> String {
    match nodes {
        [] => String::new(),
        [one] => format!("node {one}"),
        [first, others @ ..] => format!("node {first} and {} more", others.len()),
    }
}

#[cfg(test)]
mod tests {
    use cambric_bgp::Family;

    use super::*;
    use crate::source::manifest::Manifest;

    fn node_of(number: usize, ranges: Vec<Prefix>) -> Entry {
        let pod_ranges = ranges.into_iter().map(|range| ("spec.podCIDRs".to_owned(), range)).collect();
        let object = Object::Node(Node { pod_ranges, ..Node::default() });
        Entry {
            file: format!("{number}.yaml"),
            place: format!("Node {number}"),
            name: number.to_string(),
            object,
        }
    }

    fn ranges(settled: &Settled) -> Vec<Prefix> {
        let nodes = settled.objects.nodes.values();
        nodes.flat_map(|node| node.says.pod_ranges.iter().map(|(_, range)| *range)).collect()
    }

    fn overlap(one: &Prefix, other: &Prefix) -> bool {
        one.covers(other) || other.covers(one)
    }

    /// The neighbours in the order of prefixes are all that has to be looked at.
    #[test]
    fn no_two_ranges_that_count_overlap_and_each_refused_one_overlaps_an_older_one() {
        // A linear congruential generator (Knuth, MMIX): short prefixes in a small space, so that many overlap.
        let mut state: u64 = 1;
        let mut random = |most: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % most
        };
        for _ in 0..50 {
            let mut prefix = || {
                let (octets, length) = (random(1 << 12) as u32, random(13) as u8 + 20);
                Prefix::new(IpAddr::from((10 << 24 | octets).to_be_bytes()), length).expect("length")
            };
            let entries: Vec<Entry> = (0..40).map(|number| node_of(number, vec![prefix()])).collect();
            let settled = settle(&entries.iter().collect::<Vec<_>>(), &Claims::default(), "", Age::SinceSeen);
            let granted = ranges(&settled);
            assert_eq!(granted.len() + settled.refused.len(), entries.len());
            for (at, range) in granted.iter().enumerate() {
                assert!(!granted[..at].iter().any(|other| overlap(range, other)), "{granted:?}");
            }
            for refusal in &settled.refused {
                let number = entries.iter().position(|entry| entry.file == refusal.file).expect("own file");
                let range = |entry: &Entry| node(&entry.object).expect("a node").pod_ranges[0].1;
                let refused = range(&entries[number]);
                let is_older =
                    |entry: &&Entry| granted.contains(&range(entry)) && overlap(&range(entry), &refused);
                assert!(entries[..number].iter().any(|entry| is_older(&entry)), "{refused}");
            }
        }
    }

    #[test]
    fn what_was_granted_goes_first_whatever_the_order() {
        let range: Prefix = "10.1.0.0/24".parse().expect("prefix");
        let (one, other) = (node_of(1, vec![range]), node_of(2, vec![range]));
        let first = settle(&[&other], &Claims::default(), "", Age::SinceSeen);
        let both = settle(&[&one, &other], &first.claims, "", Age::SinceSeen);
        assert_eq!(both.objects.nodes["2"].says.pod_ranges.len(), 1);
        assert_eq!(both.refused[0].file, "1.yaml");
        let [loser, winner] = ["1", "2"].map(|name| ObjectRef { kind: Kind::Node, name: name.to_owned() });
        let Problem { of, reason, .. } = &both.refused[0].problem;
        assert_eq!((of.as_deref(), reason), (Some(&loser), &Reason::Conflicted { winner }));
        let written = serde_json::to_string(&both.claims).expect("JSON");
        let read = serde_json::from_str(&written).expect("own text");
        assert_eq!(both.claims, read, "a record of it is enough to go on from");
        let again = settle(&[&one, &other], &read, "", Age::SinceSeen);
        assert_eq!(
            (again.objects, again.claims),
            (both.objects, both.claims),
            "a second look finds the same"
        );
    }

    #[test]
    fn an_address_that_is_given_back_for_its_name_is_free_for_others() {
        let node = "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nspec: {}\n";
        let entries = |common: &str, particular: &str| {
            let ours = |kind: &str, peers: &str| {
                format!(
                    "---\napiVersion: cambric.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: n1}}\n\
                     spec: {{peers: [{peers}]}}\n"
                )
            };
            let (common, particular) =
                (ours("BGPClusterConfig", common), ours("BGPNodeOverride", particular));
            Manifest::decode("all.yaml", &[node, &common, &particular].concat()).entries
        };
        let (a, y) = ("{name: a, address: 192.0.2.1, asn: 1}", "{name: y, address: 192.0.2.2, asn: 1}");
        let before = entries("", a);
        let before = settle(&before.iter().collect::<Vec<_>>(), &Claims::default(), "n1", Age::SinceSeen);
        let after = entries("{name: a, address: 192.0.2.2, asn: 1}", &format!("{a}, {y}"));
        let after = settle(&after.iter().collect::<Vec<_>>(), &before.claims, "n1", Age::SinceSeen);
        let left_out: Vec<Kind> = after.objects.left_out.iter().map(|(kind, ..)| *kind).collect();
        assert_eq!(left_out, [Kind::BGPClusterConfig], "{:#?}", after.refused);
        assert_eq!(after.refused.len(), 1, "{:#?}", after.refused);
        let free = Claim::Peer("n1".to_owned(), "192.0.2.2".parse().expect("a site"));
        assert_eq!(after.claims.granted.get(&free), Some(&(Kind::BGPNodeOverride, "n1".to_owned())));
    }

    /// Each node by itself sees to it that its own pods are reached.
    #[test]
    fn ranges_and_addresses_of_this_node_go_first_whatever_was_before() {
        let range: Prefix = "10.1.0.0/24".parse().expect("prefix");
        let address: IpAddr = "192.0.2.1".parse().expect("address");
        let nodes: Vec<Entry> = (0..3).map(|number| node_of(number, vec![range])).collect();
        let with_address = |mut entry: Entry| {
            let Object::Node(node) = &mut entry.object else { return entry };
            node.addresses.insert(Family::Ipv4, address);
            node.internal_addresses.push(("status.addresses[0].address".to_owned(), address));
            entry
        };
        let nodes: Vec<Entry> = nodes.into_iter().map(with_address).collect();
        let all: Vec<&Entry> = nodes.iter().collect();
        for (own, winner) in [("0", "0"), ("1", "1"), ("2", "2"), ("9", "0")] {
            for age in [Age::SinceSeen, Age::ByOrder] {
                let earlier = settle(&all[..1], &Claims::default(), own, age);
                let later = [&earlier.claims, &Claims::default()].map(|held| settle(&all, held, own, age));
                for settled in later {
                    let has_range = |name: &&String| settled.objects.nodes[*name].says.pod_ranges.len() == 1;
                    let has = settled.objects.nodes.keys().filter(has_range).collect::<Vec<_>>();
                    assert_eq!(has, [winner], "at node {own}");
                    assert!(settled.objects.nodes[winner].says.addresses.values().any(|own| *own == address));
                    let winners = settled.refused.iter().map(|refusal| &refusal.problem.reason);
                    let winner = ObjectRef { kind: Kind::Node, name: winner.to_owned() };
                    let conflicted = Reason::Conflicted { winner };
                    assert_eq!(winners.collect::<Vec<_>>(), [&conflicted; 4], "at node {own}");
                }
            }
        }
    }

    #[test]
    fn objects_that_say_their_age_go_by_it_however_long_they_were_seen() {
        let range: Prefix = "10.1.0.0/24".parse().expect("prefix");
        let before = settle(&[&node_of(2, Vec::new())], &Claims::default(), "", Age::ByOrder);
        let both = [node_of(1, vec![range]), node_of(2, vec![range])];
        let after = settle(&[&both[0], &both[1]], &before.claims, "", Age::ByOrder);
        assert_eq!(after.objects.nodes["1"].says.pod_ranges.len(), 1);
    }

    /// Who judges its own peers alone cannot say of an object of all nodes that it is without fault.
    #[test]
    fn a_peer_of_all_nodes_that_this_node_cannot_have_is_found_by_this_node() {
        let node = "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nspec: {}\n";
        let ours = |kind: &str, name: &str| {
            format!(
                "---\napiVersion: cambric.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: n1}}\n\
                 spec: {{peers: [{{name: {name}, address: 192.0.2.1, asn: 1}}]}}\n"
            )
        };
        let found_by = |kinds: [&str; 2], age| {
            let texts = [node, &ours(kinds[0], "a"), &ours(kinds[1], "b")].concat();
            let entries = Manifest::decode("all.yaml", &texts).entries;
            let settled = settle(&entries.iter().collect::<Vec<_>>(), &Claims::default(), "n1", age);
            assert_eq!(settled.refused.len(), 1, "{:#?}", settled.refused);
            let Problem { of, found_by, .. } = &settled.refused[0].problem;
            (of.as_ref().expect("an object").kind, *found_by)
        };
        let (common, particular) = ("BGPClusterConfig", "BGPNodeOverride");
        let of_common = |by| (Kind::BGPClusterConfig, by);
        assert_eq!(found_by([particular, common], Age::ByOrder), of_common(FoundBy::ThisNode));
        assert_eq!(found_by([particular, common], Age::SinceSeen), of_common(FoundBy::EveryNode));
        let of_its_node = (Kind::BGPNodeOverride, FoundBy::EveryNode);
        assert_eq!(found_by([common, particular], Age::ByOrder), of_its_node, "nobody else judges it");
    }
}
