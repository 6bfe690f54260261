//! What a node announces, to whom and with what: its own prefixes, and what BGPAdvertisements say of them. Pure.
//!
//! Ranges of pods and node addresses go to every peer whatever is advertised, for without them nobody is reached: a
//! BGPAdvertisement only says with which attributes. Services and aggregates are announced where one names them, and to
//! whom it does. Of two that name one prefix for one peer the older decides; the younger is told so ([`notices`]).
//!
//! An aggregate stands for what lies in it: whoever hears it does not hear that. It is announced while something of this
//! node's lies in it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cambric_bgp::Prefix;
use cambric_bgp::config::{Declared, Offer, Originated, Source};

use crate::kinds::{Mesh, ServiceAddress};
use crate::objects::{Advertised, Kind, Node, Objects, Problem, Reason, What};

/// One entry of a BGPAdvertisement, and whose it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// Name of the object.
    pub(crate) name: &'a str,
    /// Where it stands.
    pub(crate) place: &'a str,
    pub(crate) says: &'a Advertised,
}

/// What there is to announce at a node.
#[derive(Debug)]
pub(crate) struct Own<'a> {
    /// Ranges of its pods.
    pub(crate) pods: &'a [Prefix],
    /// Its addresses that others know from nowhere else.
    pub(crate) addresses: &'a BTreeSet<IpAddr>,
    /// Of services: by prefix, which entries name it, by their place among all.
    pub(crate) services: BTreeMap<Prefix, BTreeSet<usize>>,
}

/// What is announced.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    pub(crate) originated: BTreeMap<Prefix, Originated>,
    /// The aggregates that the kernel must not send anywhere, as ranges of pods.
    pub(crate) unreachable: Vec<Prefix>,
}

/// The entries that are for `node`: those of older objects first.
pub(crate) fn for_node<'a>(objects: &'a Objects, node: &Node) -> Vec<Entry<'a>> {
    let selected = objects.advertisements.iter().filter(|(_, shown)| shown.says.selects(node));
    let of_each = selected.flat_map(|(name, shown)| {
        shown.says.entries.iter().map(move |says| Entry { name, place: &shown.place, says })
    });
    of_each.collect()
}

/// Joins what there is with what is said of it.
pub(crate) fn announce(
    entries: &[Entry<'_>],
    own: &Own<'_>,
    objects: &Objects,
    declared: &Declared,
) -> Announced {
    let mut originated = BTreeMap::new();
    let always = |what: &What, source: Source| {
        let said = entries.iter().filter(|entry| entry.says.what == *what);
        let offers = said.map(|entry| entry.says.offer.clone()).chain([Offer::default()]);
        Originated { source, offers: until_all(offers) }
    };
    let services = own.services.iter().map(|(prefix, said)| {
        let offers = said.iter().filter_map(|at| entries.get(*at)).map(|entry| entry.says.offer.clone());
        let offers = until_all(offers);
        (*prefix, Originated { source: Source::Services, offers })
    });
    originated.extend(services);
    let (address, pods) =
        (always(&What::NodeAddress, Source::NodeAddress), always(&What::Pods, Source::Pods));
    originated.extend(own.addresses.iter().map(|own| (Prefix::host(*own), address.clone())));
    originated.extend(own.pods.iter().map(|prefix| (*prefix, pods.clone())));
    let unreachable = aggregate(entries, &mut originated, objects, declared);
    Announced { originated, unreachable }
}

/// Adds the aggregates that stand for something: the speaker does not tell a peer that hears one what lies in it. Gives those
/// that the kernel must not send anywhere.
///
/// A packet to the address of a service is sent on by whoever translates it, and a host looks for a route before it
/// translates its own: an aggregate of services that were unreachable would cut the host off from them.
fn aggregate(
    entries: &[Entry<'_>],
    originated: &mut BTreeMap<Prefix, Originated>,
    objects: &Objects,
    declared: &Declared,
) -> Vec<Prefix> {
    let mut aggregates: BTreeMap<Prefix, Vec<Offer>> = BTreeMap::new();
    for entry in entries {
        let What::Aggregates(prefixes) = &entry.says.what else { continue };
        for prefix in prefixes.iter().filter(|prefix| refused(prefix, entry, objects, declared).is_none()) {
            aggregates.entry(*prefix).or_default().push(entry.says.offer.clone());
        }
    }
    let lies_in = |aggregate: &Prefix, prefix: &Prefix| aggregate != prefix && aggregate.covers(prefix);
    // What is announced by itself needs no aggregate of the same name.
    aggregates.retain(|aggregate, _| {
        !originated.contains_key(aggregate) && originated.keys().any(|prefix| lies_in(aggregate, prefix))
    });
    let holds_services = |aggregate: &Prefix| {
        let ranges = declared.services.iter();
        ranges.into_iter().any(|range| range.covers(aggregate) || aggregate.covers(range))
            || originated
                .iter()
                .any(|(prefix, own)| own.source == Source::Services && aggregate.covers(prefix))
    };
    let unreachable = aggregates.keys().filter(|aggregate| !holds_services(aggregate)).copied().collect();
    for (aggregate, offers) in &aggregates {
        let offers = until_all(offers.iter().cloned());
        originated.insert(*aggregate, Originated { source: Source::Aggregate, offers });
    }
    unreachable
}

/// What comes after an offer for all is for nobody.
fn until_all(offers: impl Iterator<Item = Offer>) -> Vec<Offer> {
    let mut found: Vec<Offer> = Vec::new();
    for offer in offers {
        let is_last = offer.peers.is_none();
        found.push(offer);
        if is_last {
            break;
        }
    }
    found
}

/// Why an aggregate is not announced, whatever lies in it.
fn refused(aggregate: &Prefix, entry: &Entry<'_>, objects: &Objects, declared: &Declared) -> Option<String> {
    // Nobody takes another one, and a node would lose the way to whatever else lies in it.
    if !declared.pods.iter().chain(&declared.services).any(|range| range.covers(aggregate)) {
        return Some("in none of the ranges of podCIDRs and serviceCIDRs".to_owned());
    }
    let has_pods = |node: &&String| {
        let ranges = &objects.nodes[*node].says.pod_ranges;
        ranges.iter().any(|(_, range)| aggregate.covers(range))
    };
    let mut nodes = objects.nodes.keys().filter(has_pods);
    let (one, other) = (nodes.next()?, nodes.next()?);
    let hears = heard_alone(objects, entry)?;
    Some(format!(
        "covers pods of {one} and of {other}, and {hears} it in place of either, so that nobody knows where which pods are: \
         name in spec.peers the switches that shall hear it alone"
    ))
}

/// Who would hear only what covers them all, though somebody must know the range of each: a node, or all that a node speaks
/// with.
fn heard_alone(objects: &Objects, entry: &Entry<'_>) -> Option<String> {
    let Some(peers) = &entry.says.offer.peers else { return Some("every peer would hear".to_owned()) };
    // A session within a mesh whose name is another's is called by its address.
    let is_node = |peer: &&String| {
        objects.nodes.contains_key(peer.strip_suffix("-v6").unwrap_or(peer))
            || objects.nodes.contains_key(*peer)
            || peer.parse::<IpAddr>().is_ok()
    };
    if let Some(node) = peers.iter().find(is_node) {
        return Some(format!("{node}, a node, would hear"));
    }
    let selects = |node: &Node| {
        objects.advertisements.iter().any(|(name, shown)| name == entry.name && shown.says.selects(node))
    };
    let selected = objects.nodes.iter().filter(|(_, node)| selects(&node.says)).map(|(name, _)| name);
    let all_of = |node: &&String| {
        let config = objects.config_of.get(*node).and_then(|name| objects.cluster_configs.get(name));
        let has_mesh = config.is_none_or(|config| config.says.mesh == Mesh::Enabled);
        let particular = objects.node_overrides.get(*node).into_iter().flat_map(|shown| &shown.says.peers);
        let mut named = config.into_iter().flat_map(|shown| &shown.says.peers).chain(particular).peekable();
        !has_mesh && named.peek().is_some() && named.all(|peer| peers.contains(&peer.name))
    };
    selected.into_iter().find(all_of).map(|node| format!("all peers of {node} would hear"))
}

/// What is to be told of BGPAdvertisements, and what every node finds alike.
pub(crate) fn notices(objects: &Objects) -> Vec<Problem> {
    if objects.advertisements.is_empty() {
        return Vec::new();
    }
    let names = peer_names(objects);
    let declared = ranges(objects);
    let mut notices = Vec::new();
    let mut older: Vec<Entry<'_>> = Vec::new();
    for (name, shown) in &objects.advertisements {
        let place = shown.place.as_str();
        let problem = |what: String| Problem::new(place, what).about(Kind::BGPAdvertisement, name);
        let peers = shown.says.entries.first().and_then(|entry| entry.offer.peers.as_ref());
        // A session within a mesh whose name is another's is called by its address.
        let is_known = |peer: &&String| names.contains(peer.as_str()) || peer.parse::<IpAddr>().is_ok();
        let unknown = peers.into_iter().flatten().filter(|peer| !is_known(peer));
        let of_unknown = |peer: &String| {
            problem(format!("spec.peers: {peer:?}: no node has a peer of this name")).because(Reason::Missing)
        };
        notices.extend(unknown.map(of_unknown));
        let entries = shown.says.entries.iter().map(|says| Entry { name, place, says });
        for entry in entries.clone() {
            notices.extend(of_aggregates(objects, &declared, entry));
            let winner = older.iter().find(|winner| contradict(objects, winner, &entry));
            notices.extend(winner.map(|winner| {
                let what = format!(
                    "{}: Conflicted: {} of {} says otherwise of the same to the same peers, and is older",
                    entry.says.field, winner.says.field, winner.place
                );
                let winner =
                    crate::objects::ObjectRef { kind: Kind::BGPAdvertisement, name: winner.name.to_owned() };
                problem(what).because(Reason::Conflicted { winner })
            }));
        }
        older.extend(entries);
    }
    notices
}

/// What is wrong with aggregates.
fn of_aggregates(objects: &Objects, declared: &Declared, entry: Entry<'_>) -> Vec<Problem> {
    let Advertised { field, what, .. } = entry.says;
    let What::Aggregates(prefixes) = what else { return Vec::new() };
    let problem = |what: String| Problem::new(entry.place, what).about(Kind::BGPAdvertisement, entry.name);
    let mut problems = Vec::new();
    for aggregate in prefixes {
        if let Some(why) = refused(aggregate, &entry, objects, declared) {
            let what = format!("{field}.aggregates: {aggregate}: {why}; it is not announced");
            problems.push(problem(what).because(Reason::Invalid));
        }
    }
    problems
}

/// Whether both say something of one prefix to one peer at one node, and not the same. Of services only those that
/// contradict each other for every service that the narrower one selects.
fn contradict(objects: &Objects, one: &Entry<'_>, other: &Entry<'_>) -> bool {
    let attributes = |offer: &Offer| Offer { peers: None, ..offer.clone() };
    let (one_offer, other_offer) = (&one.says.offer, &other.says.offer);
    if attributes(one_offer) == attributes(other_offer) {
        return false;
    }
    let to_one_peer = match (&one_offer.peers, &other_offer.peers) {
        (Some(one), Some(other)) => !one.is_disjoint(other),
        _ => true,
    };
    let of_one_prefix = match (&one.says.what, &other.says.what) {
        (What::Pods, What::Pods) | (What::NodeAddress, What::NodeAddress) => true,
        (What::Aggregates(one), What::Aggregates(other)) => one.iter().any(|prefix| other.contains(prefix)),
        (
            What::Services { addresses, labels },
            What::Services { addresses: other_addresses, labels: other_labels },
        ) => {
            let is_part = |some: &BTreeMap<String, String>, all: &BTreeMap<String, String>| {
                some.iter().all(|(name, value)| all.get(name) == Some(value))
            };
            let alike = |address: &ServiceAddress| other_addresses.contains(address);
            addresses.iter().any(alike) && (is_part(labels, other_labels) || is_part(other_labels, labels))
        }
        _ => false,
    };
    let selects = |name: &str, node: &Node| {
        let shown = objects.advertisements.iter().find(|(own, _)| own == name);
        shown.is_some_and(|(_, shown)| shown.says.selects(node))
    };
    let at_one_node = || {
        objects.nodes.values().any(|node| selects(one.name, &node.says) && selects(other.name, &node.says))
    };
    to_one_peer && of_one_prefix && at_one_node()
}

/// All that a peer of a node may be called.
fn peer_names(objects: &Objects) -> BTreeSet<String> {
    let particular = objects.node_overrides.values().flat_map(|shown| &shown.says.peers);
    let common = objects.cluster_configs.values().flat_map(|shown| &shown.says.peers);
    let mut names: BTreeSet<String> = particular.chain(common).map(|peer| peer.name.clone()).collect();
    let has_mesh = |node: &String| {
        let config = objects.config_of.get(node).and_then(|name| objects.cluster_configs.get(name));
        config.is_none_or(|config| config.says.mesh == Mesh::Enabled)
    };
    for node in objects.nodes.keys().filter(|node| has_mesh(node)) {
        names.insert(format!("{node}-v6"));
        names.insert(node.clone());
    }
    names
}

/// What the cluster declares, but for addresses of nodes.
fn ranges(objects: &Objects) -> Declared {
    let in_use: BTreeSet<&String> = objects.config_of.values().collect();
    let configs = in_use.into_iter().filter_map(|name| objects.cluster_configs.get(name));
    let mut declared = Declared::default();
    for config in configs {
        declared.pods.extend(&config.says.pods);
        declared.services.extend(&config.says.services);
    }
    let of_nodes = objects.nodes.values().flat_map(|node| &node.says.pod_ranges);
    declared.pods.extend(of_nodes.map(|(_, range)| *range));
    declared
}

#[cfg(test)]
mod tests;
