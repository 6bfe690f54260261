//! From the texts and numbers of the [`kinds`](crate::kinds) to values that can be used.
//!
//! Each wrong value is a [`Fault`] that names field, value and reason. The rest is read all the same, because
//! whoever starts with a fault in his manifests is better served with all peers but one than with none:
//! a fault costs the peer, the range or the object it is in. Only what a node *is*, its AS and identifier, cannot
//! be left out: another AS is taken in its place, and the TORs would turn us away.
//!
//! What is refused here is refused by the schemas in `deploy/crds`, too.

mod add_path;
mod advertisement;
mod communities;
pub(crate) mod filter;
mod monitoring;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::ops::RangeInclusive;
use std::time::Duration;

use cambric_bgp::config::{AsOverride, ConnectMode, Distance, Export, Import, PeerAsn, ReflectorRole};
use cambric_bgp::{Asn, Family, HoldTime, PeerPolicy, Prefix, RouterId};
use cambric_policy::labels::Labels;
use k8s_openapi::api::core::v1;

use crate::kinds::{
    BGPClusterConfigSpec, BGPNodeOverrideSpec, BGPPeerConfigSpec, Bfd, Connect, ExportPolicy, FamilyName,
    Feature, GracefulRestart, ImportPolicy, MOST_INTERFACE_OCTETS, MOST_LABEL_NAME_OCTETS, MOST_LABEL_OCTETS,
    MOST_LABELS, MOST_LIST_ITEMS, MOST_NAME_OCTETS, MOST_OWN_AS, MOST_PEER_NAME_OCTETS, MOST_RANGE_PEERS,
    NodeAddress, NodeAddressFrom, NodeSelector, PeerAs, PeerEntry, SecretKey,
};
use crate::objects::{ClusterConfig, Kind, Node, NodeOverride, Peer, PeerOptions, Reason};
use crate::own_address::{Addresses, Rule};
use crate::secrets::{self, KeyRef};
use crate::site::{InterfaceName, Site};

pub(crate) use self::advertisement::advertisement;

/// A field that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Field, value and reason.
    pub(crate) what: String,
    /// For conditions and events.
    pub(crate) reason: Reason,
    /// What cannot be had without it.
    pub(crate) costs: Costs,
}

/// What a fault costs where there is no earlier state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Costs {
    /// This address, range, peer or object; the rest counts.
    Only(&'static str),
    /// What the policy would allow: it is taken, and fails closed.
    Closed,
    /// Nobody can tell what policies would be without it; BGP does without.
    Policies,
    /// Nobody can guess what was meant, and nothing would be as meant without it.
    All,
    /// As `All`, and so with whatever follows in the file.
    Rest,
}

impl Costs {
    /// Whether there may be objects of this kind behind it that nobody has seen.
    pub(crate) fn hides(self, kind: Kind) -> bool {
        match self {
            Costs::Only(_) | Costs::Closed => false,
            Costs::Policies => kind.is_of_policies(),
            Costs::All | Costs::Rest => true,
        }
    }

    /// Whether there may be objects of any kind behind it.
    pub(crate) fn hides_all(self) -> bool {
        matches!(self, Costs::All | Costs::Rest)
    }

    /// Whether there may be objects behind it that nobody has seen.
    pub(crate) fn hides_something(self) -> bool {
        self == Costs::Policies || self.hides_all()
    }
}

/// Reads fields, and gathers what is wrong with them.
#[derive(Debug, Default)]
struct Fields {
    faults: Vec<Fault>,
}

/// Most ranges that a node's address is looked for in.
const MOST_ADDRESS_RANGES: usize = 64;

/// Peers from one range, if a manifest does not say how many.
const DEFAULT_RANGE_PEERS: usize = 100;
/// Of `spec.bfd`, as the schema has it.
const BFD_MILLISECONDS: RangeInclusive<u32> = 50..=60_000;
/// The field has 24 bits (RFC 9494 section 3).
const MOST_LONG_LIVED_SECONDS: u32 = 0x00FF_FFFF;

const PEER: Costs = Costs::Only("peer");
const RANGE: Costs = Costs::Only("range");
const OBJECT: Costs = Costs::Only("object");

impl Fields {
    fn refuse(&mut self, costs: Costs, field: impl Display, value: impl Display, reason: impl Display) {
        let what = format!("{field}: {value}: {reason}");
        self.faults.push(Fault { what, reason: Reason::Invalid, costs });
    }

    fn asn(&mut self, costs: Costs, field: impl Display, value: u32) -> Option<Asn> {
        let asn = Asn::new(value);
        if asn.is_none() {
            self.refuse(costs, field, value, "1 to 4294967295; 0 is reserved (RFC 7607)");
        }
        asn
    }

    /// An address that a router can be talked to at.
    fn address(&mut self, costs: Costs, field: &str, text: &str) -> Option<IpAddr> {
        let Ok(address) = text.parse::<IpAddr>() else {
            self.refuse(costs, field, quoted(text), "not an IP address");
            return None;
        };
        if let Some(reason) = not_of_one_router(address) {
            self.refuse(costs, field, address, reason);
            return None;
        }
        Some(address)
    }

    /// An address that people write. To Kubernetes it is a text, and each address has one (RFC 5952).
    fn spelt_address(&mut self, costs: Costs, field: &str, text: &str) -> Option<IpAddr> {
        let address = self.address(costs, field, text)?;
        let canonical = address.to_string();
        if text != canonical {
            self.refuse(costs, field, quoted(text), format!("write it as {canonical}"));
            return None;
        }
        Some(address)
    }

    fn prefix(&mut self, costs: Costs, field: &str, text: &str) -> Option<Prefix> {
        let prefix = canonical(text).then(|| text.parse::<Prefix>().ok()).flatten();
        let Some(prefix) = prefix else {
            self.refuse(costs, field, quoted(text), "not of the form address/length");
            return None;
        };
        if prefix.is_default() {
            self.refuse(costs, field, text, "every address lies in it");
            return None;
        }
        Some(prefix)
    }

    /// Ranges that people write: a host bit that is set is a typing error in the address or the length.
    fn prefixes(&mut self, costs: Costs, field: &str, texts: &[String], most: usize) -> Vec<Prefix> {
        self.limited(costs, field, texts.len(), most);
        let mut prefixes = Vec::new();
        for (at, text) in texts.iter().enumerate() {
            prefixes.extend(self.spelt_prefix(costs, format!("{field}[{at}]"), text));
        }
        prefixes
    }

    fn spelt_prefix(&mut self, costs: Costs, field: String, text: &str) -> Option<Prefix> {
        let prefix = self.prefix(costs, &field, text)?;
        let address = text.split('/').next().and_then(|address| address.parse::<IpAddr>().ok());
        if address == Some(prefix.address()) {
            return Some(prefix);
        }
        self.refuse(costs, field, text, format!("host bits are set; {prefix} is without them"));
        None
    }

    fn ranges(&mut self, field: &str, texts: &[String]) -> Vec<Prefix> {
        self.prefixes(RANGE, field, texts, MOST_LIST_ITEMS)
    }

    fn limited(&mut self, costs: Costs, field: &str, items: usize, most: usize) {
        if items > most {
            self.refuse(costs, field, format!("{items} items"), format!("at most {most}"));
        }
    }

    /// Without a label that was meant, the object would be for other nodes.
    fn selector(&mut self, selector: &Option<NodeSelector>) -> BTreeMap<String, String> {
        let labels = selector.clone().unwrap_or_default().match_labels;
        let field = "spec.nodeSelector.matchLabels";
        self.limited(Costs::All, field, labels.len(), MOST_LABELS);
        for (name, value) in labels.iter().filter(|(_, value)| value.chars().count() > MOST_LABEL_OCTETS) {
            let what = format!("no label has more than {MOST_LABEL_OCTETS} letters");
            self.refuse(Costs::All, format!("{field}.{name}"), quoted(value), what);
        }
        labels
    }

    fn label_name(&mut self, field: &str, name: &str) -> Option<String> {
        let fits = name.len() <= MOST_LABEL_NAME_OCTETS && is_label_name(name);
        if !fits {
            self.refuse(Costs::All, field, quoted(name), "no name of a label");
        }
        fits.then(|| name.to_owned())
    }

    fn interface(&mut self, costs: Costs, field: &str, name: &str) -> Option<String> {
        let is_known = |octet: u8| octet.is_ascii_alphanumeric() || b"_.@+-".contains(&octet);
        let fits = name.len() <= MOST_INTERFACE_OCTETS
            && name.bytes().all(is_known)
            && name.bytes().any(|octet| octet != b'.');
        if !fits {
            let what = format!(
                "letters, digits, '_', '.', '@', '+' and '-', at most {MOST_INTERFACE_OCTETS}: a network interface"
            );
            self.refuse(costs, field, quoted(name), what);
        }
        fits.then(|| name.to_owned())
    }

    /// Another address than was meant would move the node.
    fn node_address(&mut self, entry: &NodeAddress) -> Rule {
        let NodeAddress { from, interface, cidrs } = entry;
        let (is_interface, is_range) = (*from == NodeAddressFrom::Interface, *from == NodeAddressFrom::CIDR);
        for (name, is_there, is_wanted) in
            [("interface", interface.is_some(), is_interface), ("cidrs", cidrs.is_some(), is_range)]
        {
            let field = format!("spec.nodeAddress.{name}");
            match (is_there, is_wanted) {
                (false, true) => self.refuse(Costs::All, field, "absent", format!("from: {from:?} needs it")),
                (true, false) => {
                    self.refuse(Costs::All, field, "there", format!("not used with from: {from:?}"));
                }
                _ => {}
            }
        }
        match (from, interface, cidrs) {
            (NodeAddressFrom::Interface, Some(name), _) => {
                self.interface(Costs::All, "spec.nodeAddress.interface", name).map(Rule::Interface)
            }
            (NodeAddressFrom::CIDR, _, Some(ranges)) => {
                let field = "spec.nodeAddress.cidrs";
                if ranges.is_empty() {
                    self.refuse(Costs::All, field, "empty", "at least one range");
                }
                Some(Rule::Inside(self.prefixes(Costs::All, field, ranges, MOST_ADDRESS_RANGES)))
            }
            _ => None,
        }
        .unwrap_or_default()
    }

    /// The addresses of a node, one of each family.
    fn own_addresses(&mut self, texts: &[String]) -> Addresses {
        if texts.is_empty() {
            self.refuse(Costs::All, "spec.addresses", "empty", "leave it out for what nodeAddress finds");
        }
        let mut found = Addresses::new();
        for (at, text) in texts.iter().enumerate() {
            let field = format!("spec.addresses[{at}]");
            let Some(address) = self.spelt_address(Costs::All, &field, text) else { continue };
            let family = Family::of(address);
            if let Some(reason) = not_of_one_node(address) {
                self.refuse(Costs::All, field, address, reason);
            } else if let Some(first) = found.get(&family) {
                self.refuse(Costs::All, field, address, format!("{first} is of this family, too"));
            } else {
                found.insert(family, address);
            }
        }
        found
    }

    fn peers(&mut self, entries: &[PeerEntry]) -> Vec<Peer> {
        self.limited(PEER, "spec.peers", entries.len(), MOST_LIST_ITEMS);
        let mut peers: Vec<Peer> = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            let field = format!("spec.peers[{at}]");
            let Some(peer) = self.peer(field, entry) else { continue };
            if let Some(first) = peers.iter().find(|first| first.site == peer.site) {
                let reason = format!("{} (peer {}) has the same", first.field, first.name);
                self.refuse(PEER, format!("{}.{}", peer.field, peer.site.field()), peer.site, reason);
            } else if let Some(first) = peers.iter().find(|first| first.name == peer.name) {
                let reason = format!("{} ({}) has the same", first.field, first.site);
                self.refuse(PEER, format!("{}.name", peer.field), peer.name, reason);
            } else {
                peers.push(peer);
            }
        }
        peers
    }

    /// All faults of a peer are said at once.
    fn peer(&mut self, field: String, entry: &PeerEntry) -> Option<Peer> {
        let faults_before = self.faults.len();
        let PeerEntry { name, port, peer_config, .. } = entry;
        if let Some(reason) = not_a_peer_name(name) {
            self.refuse(PEER, format!("{field}.name"), quoted(name), reason);
        }
        let site = self.site(&field, entry);
        let asn = self.peer_asn(&field, entry);
        if *port == Some(0) {
            self.refuse(PEER, format!("{field}.port"), 0, "1 to 65535");
        }
        let local_address = self.local_address(&field, entry, site);
        let local_interface = entry.local_interface.as_ref();
        let local_interface =
            local_interface.and_then(|name| self.interface(PEER, &format!("{field}.localInterface"), name));
        let most_peers = self.most_peers(&field, entry);
        let config_field = format!("{field}.peerConfig");
        match peer_config.as_ref().map(|name| name.chars().count()) {
            Some(0) => self.refuse(PEER, config_field, "\"\"", "empty: leave it out for the defaults"),
            Some(length) if length > MOST_NAME_OCTETS => {
                self.refuse(PEER, config_field, format!("{length} letters"), "no object has so long a name");
            }
            _ => {}
        }
        if self.faults.len() > faults_before {
            return None;
        }
        let (name, peer_config) = (name.clone(), peer_config.clone());
        let (site, asn, port) = (site?, asn?, *port);
        Some(Peer { field, name, site, most_peers, asn, port, local_address, local_interface, peer_config })
    }

    /// Exactly one of the fields that say where a peer is.
    fn site(&mut self, field: &str, entry: &PeerEntry) -> Option<Site> {
        let PeerEntry { name, address, interface, default_gateway, listen_range, .. } = entry;
        let places =
            [address.is_some(), interface.is_some(), default_gateway.is_some(), listen_range.is_some()];
        match places.into_iter().filter(|given| *given).count() {
            0 => self.refuse(PEER, format!("{field}.address"), "absent", "nobody knows where the peer is"),
            1 => {}
            _ => {
                let what = "one of address, interface, defaultGateway and listenRange, and no more";
                self.refuse(PEER, field, quoted(name), what);
            }
        }
        if let Some(text) = address {
            return self.spelt_address(PEER, &format!("{field}.address"), text).map(Site::Address);
        }
        if let Some(name) = interface {
            let found = [
                ("localAddress", entry.local_address.is_some()),
                ("localInterface", entry.local_interface.is_some()),
            ];
            for (name, _) in found.into_iter().filter(|(_, is_there)| *is_there) {
                let what = "not used with interface: both ends are link-local addresses of its link";
                self.refuse(PEER, format!("{field}.{name}"), "there", what);
            }
            let name = self.interface(PEER, &format!("{field}.interface"), name)?;
            return InterfaceName::new(&name).map(Site::Interface);
        }
        if let Some(text) = listen_range {
            let called = [
                ("port", entry.port.is_some()),
                ("localAddress", entry.local_address.is_some()),
                ("localInterface", entry.local_interface.is_some()),
            ];
            for (name, _) in called.into_iter().filter(|(_, is_there)| *is_there) {
                let what = "not used with listenRange: whoever is in it calls";
                self.refuse(PEER, format!("{field}.{name}"), "there", what);
            }
            let range = format!("{field}.listenRange");
            return self.spelt_prefix(PEER, range, text).map(Site::Range);
        }
        default_gateway.as_ref().map(|name| Site::DefaultGateway(family(name)))
    }

    fn peer_asn(&mut self, field: &str, entry: &PeerEntry) -> Option<PeerAsn> {
        let field = format!("{field}.asn");
        match (entry.asn, entry.peer_as) {
            (None, None) => {
                self.refuse(
                    PEER,
                    field,
                    "absent",
                    "the AS of the peer; peerAS, where its number does not matter",
                );
                None
            }
            (Some(asn), Some(_)) => {
                self.refuse(PEER, field, asn, "peerAS is there, too");
                None
            }
            (Some(asn), None) => self.asn(PEER, field, asn).map(PeerAsn::Exactly),
            (None, Some(PeerAs::External)) => Some(PeerAsn::External),
            (None, Some(PeerAs::Internal)) => Some(PeerAsn::Internal),
        }
    }

    fn local_address(&mut self, field: &str, entry: &PeerEntry, site: Option<Site>) -> Option<IpAddr> {
        let field = format!("{field}.localAddress");
        let local = self.spelt_address(PEER, &field, entry.local_address.as_ref()?)?;
        if let Some(site) = site
            && Family::of(local) != site.family()
        {
            self.refuse(PEER, field, local, format!("not of the family of {site}"));
        }
        Some(local)
    }

    fn most_peers(&mut self, field: &str, entry: &PeerEntry) -> usize {
        let field = format!("{field}.maxPeers");
        let Some(most) = entry.max_peers else { return DEFAULT_RANGE_PEERS };
        if !(1..=MOST_RANGE_PEERS).contains(&most) {
            self.refuse(PEER, &field, most, format!("1 to {MOST_RANGE_PEERS}"));
        }
        if entry.listen_range.is_none() {
            self.refuse(PEER, field, most, "not used without listenRange");
        }
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    /// The options that are about who is on the other side of a session, and how far away.
    fn distance(&mut self, spec: &BGPPeerConfigSpec) -> Distance {
        match (&spec.ttl_security, &spec.multihop) {
            (None, None) => Distance::Adjacent,
            (Some(security), Some(_)) => {
                let what = "multihop is there, too: one of them";
                self.refuse(OBJECT, "spec.ttlSecurity.hops", security.hops, what);
                Distance::Adjacent
            }
            (Some(security), None) => {
                if !(1..=254).contains(&security.hops) {
                    self.refuse(
                        OBJECT,
                        "spec.ttlSecurity.hops",
                        security.hops,
                        "1 to 254 (RFC 5082 section 3)",
                    );
                }
                Distance::Within(security.hops)
            }
            (None, Some(multihop)) => {
                if multihop.ttl < 2 {
                    let what = "2 to 255; leave multihop out for a neighbour on a link";
                    self.refuse(OBJECT, "spec.multihop.ttl", multihop.ttl, what);
                }
                Distance::Multihop(multihop.ttl)
            }
        }
    }

    /// Times that are left out are those of FRR.
    fn bfd(&mut self, spec: &BGPPeerConfigSpec) -> Option<cambric_bfd::Config> {
        let Bfd { transmit_milliseconds, receive_milliseconds, multiplier } = spec.bfd.as_ref()?;
        if spec.multihop.is_some() {
            let what = "for a peer on a link (RFC 5881); multihop is there";
            self.refuse(OBJECT, "spec.bfd", "there", what);
        }
        let default = cambric_bfd::Config::default();
        let mut interval = |field: &str, value: &Option<u32>, default: Duration| {
            let Some(milliseconds) = *value else { return default };
            if !BFD_MILLISECONDS.contains(&milliseconds) {
                let (least, most) = (BFD_MILLISECONDS.start(), BFD_MILLISECONDS.end());
                let what = format!("{least} to {most}");
                self.refuse(OBJECT, format!("spec.bfd.{field}"), milliseconds, what);
            }
            Duration::from_millis(milliseconds.into())
        };
        let transmit = interval("transmitMilliseconds", transmit_milliseconds, default.transmit);
        let receive = interval("receiveMilliseconds", receive_milliseconds, default.receive);
        let multiplier = multiplier.unwrap_or(default.multiplier.get());
        let found = NonZeroU8::new(multiplier).filter(|multiplier| multiplier.get() > 1);
        if found.is_none() {
            let what = "2 to 255: one lost packet is no lost path";
            self.refuse(OBJECT, "spec.bfd.multiplier", multiplier, what);
        }
        Some(cambric_bfd::Config { transmit, receive, multiplier: found.unwrap_or(default.multiplier) })
    }

    fn secret(&mut self, secret: &SecretKey) -> KeyRef {
        let SecretKey { name, key } = secret;
        for (field, text) in [("name", Some(name)), ("key", key.as_ref())] {
            let Some(text) = text else { continue };
            let length = text.chars().count();
            if !(1..=MOST_NAME_OCTETS).contains(&length) {
                let what = format!("1 to {MOST_NAME_OCTETS}");
                self.refuse(OBJECT, format!("spec.secret.{field}"), format!("{length} letters"), what);
            }
        }
        let entry = key.clone().unwrap_or_else(|| secrets::DEFAULT_ENTRY.to_owned());
        KeyRef { secret: name.clone(), entry }
    }

    /// How long routes are kept while one side is away, and how long beyond that.
    fn restart(&mut self, spec: &BGPPeerConfigSpec) -> (Option<Duration>, Option<Duration>) {
        let Some(GracefulRestart { restart_seconds, long_lived_seconds }) = &spec.graceful_restart else {
            return (None, None);
        };
        let (restart_seconds, long_lived_seconds) = (*restart_seconds, *long_lived_seconds);
        if let Some(time) = restart_seconds.filter(|time| !(1..=4095).contains(time)) {
            let what = "1 to 4095 (RFC 4724 section 3)";
            self.refuse(OBJECT, "spec.gracefulRestart.restartSeconds", time, what);
        }
        if let Some(time) = long_lived_seconds.filter(|time| *time > MOST_LONG_LIVED_SECONDS) {
            let what = format!("0 to {MOST_LONG_LIVED_SECONDS} (RFC 9494 section 3)");
            self.refuse(OBJECT, "spec.gracefulRestart.longLivedSeconds", time, what);
        }
        let long_lived = long_lived_seconds.map(|time| Duration::from_secs(u64::from(time)));
        (restart_seconds.map(|time| Duration::from_secs(u64::from(time))), long_lived)
    }

    fn allow_own_as(&mut self, spec: &BGPPeerConfigSpec) -> u8 {
        let Some(times) = spec.allow_own_as else { return 0 };
        if !(1..=MOST_OWN_AS).contains(&times) {
            self.refuse(
                OBJECT,
                "spec.allowOwnAS",
                times,
                format!("1 to {MOST_OWN_AS}; leave it out for none"),
            );
        }
        times
    }

    fn router_id(&mut self, field: &str, text: &str) -> Option<RouterId> {
        let id = text.parse().ok();
        if id.is_none() {
            let reason = "of the form a.b.c.d, and not 0.0.0.0 (RFC 6286 section 2.1)";
            self.refuse(Costs::All, field, quoted(text), reason);
        }
        id
    }
}

/// What counts of a Node. Its ranges are given out by Kubernetes, which lets host bits pass.
pub(crate) fn node(node: &v1::Node) -> (Node, Vec<Fault>) {
    let mut fields = Fields::default();
    let labels = Labels::new(node.metadata.labels.as_ref());
    let mut found = Node { labels, ..Node::default() };
    let entries = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    for (at, entry) in entries.enumerate().filter(|(_, entry)| entry.type_ == "InternalIP") {
        let field = format!("status.addresses[{at}].address");
        if let Some(address) = fields.address(Costs::Only("address"), &field, &entry.address) {
            found.addresses.entry(Family::of(address)).or_insert(address);
            if found.internal_addresses.iter().all(|(_, other)| *other != address) {
                found.internal_addresses.push((field, address));
            }
        }
    }
    let (single, listed) = match &node.spec {
        Some(spec) => (spec.pod_cidr.as_ref(), spec.pod_cidrs.as_ref()),
        None => (None, None),
    };
    let listed = listed.into_iter().flatten().enumerate();
    let mut texts: Vec<(String, &String)> =
        listed.map(|(at, text)| (format!("spec.podCIDRs[{at}]"), text)).collect();
    match (single, texts.first()) {
        (Some(single), None) => texts.push(("spec.podCIDR".to_owned(), single)),
        (Some(single), Some((field, first))) if single != *first => {
            fields.refuse(RANGE, "spec.podCIDR", single, format!("{field} is {first}"));
        }
        _ => {}
    }
    for (field, text) in texts {
        let Some(prefix) = fields.prefix(RANGE, &field, text) else { continue };
        let overlaps = |(_, other): &&(String, Prefix)| other.covers(&prefix) || prefix.covers(other);
        if let Some((first, other)) = found.pod_ranges.iter().find(overlaps) {
            fields.refuse(RANGE, field, prefix, format!("overlaps {first}: {other}"));
        } else {
            found.pod_ranges.push((field, prefix));
        }
    }
    // There are thousands of them, and they stay.
    found.internal_addresses.shrink_to_fit();
    found.pod_ranges.shrink_to_fit();
    (found, fields.faults)
}

/// What is wrong with the addresses of a Pod. A runtime writes them, people seldom do.
pub(crate) fn pod(pod: &v1::Pod) -> Vec<Fault> {
    let mut fields = Fields::default();
    let Some(status) = &pod.status else { return Vec::new() };
    let listed = status.pod_ips.iter().flatten().enumerate();
    let listed = listed.map(|(at, entry)| (format!("status.podIPs[{at}].ip"), Some(&entry.ip)));
    for (field, text) in listed.chain([("status.podIP".to_owned(), status.pod_ip.as_ref())]) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            fields.address(Costs::Only("address"), &field, text);
        }
    }
    fields.faults
}

/// What counts of a BGPClusterConfig.
pub(crate) fn cluster_config(spec: &BGPClusterConfigSpec) -> (ClusterConfig, Vec<Fault>) {
    let mut fields = Fields::default();
    if let (Some(asn), Some(_)) = (spec.asn, &spec.asn_label) {
        fields.refuse(Costs::All, "spec.asn", asn, "asnLabel is there, too: one of them");
    }
    let found = ClusterConfig {
        labels: fields.selector(&spec.node_selector),
        asn: spec.asn.and_then(|asn| fields.asn(Costs::All, "spec.asn", asn)),
        asn_label: spec.asn_label.as_ref().and_then(|name| fields.label_name("spec.asnLabel", name)),
        node_address: spec.node_address.as_ref().map(|entry| fields.node_address(entry)).unwrap_or_default(),
        mesh: spec.mesh,
        pods: fields.ranges("spec.podCIDRs", &spec.pod_cidrs),
        nodes: fields.ranges("spec.nodeCIDRs", &spec.node_cidrs),
        services: fields.ranges("spec.serviceCIDRs", &spec.service_cidrs),
        peers: fields.peers(&spec.peers),
        stations: fields.stations(&spec.bmp_stations),
    };
    (found, fields.faults)
}

/// What counts of a BGPNodeOverride.
pub(crate) fn node_override(spec: &BGPNodeOverrideSpec) -> (NodeOverride, Vec<Fault>) {
    let mut fields = Fields::default();
    let found = NodeOverride {
        asn: spec.asn.and_then(|asn| fields.asn(Costs::All, "spec.asn", asn)),
        router_id: spec.router_id.as_ref().and_then(|text| fields.router_id("spec.routerID", text)),
        cluster_id: spec.cluster_id.as_ref().and_then(|text| fields.router_id("spec.clusterID", text)),
        addresses: spec.addresses.as_ref().map(|texts| fields.own_addresses(texts)).unwrap_or_default(),
        peers: fields.peers(&spec.peers),
    };
    (found, fields.faults)
}

/// What counts of a BGPPeerConfig; nothing if there is a fault: a peer with half of its options could
/// tell or take what it should not.
pub(crate) fn peer_config(spec: &BGPPeerConfigSpec) -> (Option<PeerOptions>, Vec<Fault>) {
    let mut fields = Fields::default();
    let hold_time = spec.hold_time_seconds.and_then(|seconds| {
        let hold_time = HoldTime::from_secs(seconds);
        if hold_time.is_none() {
            let reason = "0 or at least 3 (RFC 4271 section 4.2)";
            fields.refuse(OBJECT, "spec.holdTimeSeconds", seconds, reason);
        }
        hold_time
    });
    let third = hold_time.unwrap_or(HoldTime::DEFAULT).as_secs() / 3;
    let keepalive = spec.keepalive_seconds.filter(|_| fields.faults.is_empty());
    if let Some(seconds) = keepalive.filter(|seconds| *seconds == 0 || *seconds > third) {
        let reason = match third {
            0 => "a session without hold time sends no KEEPALIVE (RFC 4271 section 4.4)".to_owned(),
            _ => format!("1 to {third}, a third of the hold time (RFC 4271 section 4.4)"),
        };
        fields.refuse(OBJECT, "spec.keepaliveSeconds", seconds, reason);
    }
    if let Some(families) = &spec.families {
        let distinct: BTreeSet<Family> = families.iter().map(family).collect();
        if families.is_empty() {
            let reason = "leave it out for the family of the peer's address";
            fields.refuse(OBJECT, "spec.families", "empty", reason);
        } else if distinct.len() < families.len() {
            fields.refuse(OBJECT, "spec.families", format!("{} items", families.len()), "one stands twice");
        }
    }
    if spec.max_prefixes == Some(0) {
        fields.refuse(OBJECT, "spec.maxPrefixes", 0, "at least 1");
    }
    let warn_at_percent = spec.max_prefixes_warn_percent;
    if let Some(percent) = warn_at_percent.filter(|percent| !(1..=100).contains(percent)) {
        fields.refuse(OBJECT, "spec.maxPrefixesWarnPercent", percent, "1 to 100");
    }
    let filters = spec.filters.as_ref().map(|lists| fields.filter_names(lists)).unwrap_or_default();
    if spec.reflector_client == Feature::Enabled {
        for (field, is_set) in [
            ("spec.localAS", spec.local_as.is_some()),
            ("spec.localRole", spec.local_role.is_some()),
            ("spec.asOverride", spec.as_override == Feature::Enabled),
        ] {
            if is_set {
                let what = "for external peers; reflectorClient is there, and is for internal ones";
                fields.refuse(OBJECT, field, "there", what);
            }
        }
    }
    let (restart_time, long_lived) = fields.restart(spec);
    let found = PeerOptions {
        hold_time,
        keepalive: keepalive.map(|seconds| Duration::from_secs(u64::from(seconds))),
        families: spec.families.as_ref().map(|families| families.iter().map(family).collect()),
        connect: match spec.connect {
            Connect::Both => ConnectMode::Both,
            Connect::Passive => ConnectMode::Passive,
            Connect::Active => ConnectMode::Active,
        },
        policy: policy(spec.import, spec.export),
        filters,
        max_prefixes: spec.max_prefixes.map(|most| usize::try_from(most).unwrap_or(usize::MAX)),
        secret: spec.secret.as_ref().map(|secret| fields.secret(secret)),
        distance: fields.distance(spec),
        restart_time,
        long_lived,
        local_asn: spec.local_as.and_then(|asn| fields.asn(OBJECT, "spec.localAS", asn)),
        as_override: match spec.as_override {
            Feature::Disabled => AsOverride::Off,
            Feature::Enabled => AsOverride::On,
        },
        allow_own_as: fields.allow_own_as(spec),
        role: match spec.reflector_client {
            Feature::Disabled => ReflectorRole::NonClient,
            Feature::Enabled => ReflectorRole::Client,
        },
        warn_at_percent,
        add_path: spec.add_path.as_ref().map(|entries| fields.add_path(entries)).unwrap_or_default(),
        local_role: fields.local_role(spec),
        bfd: fields.bfd(spec),
    };
    (fields.faults.is_empty().then_some(found), fields.faults)
}

fn policy(import: ImportPolicy, export: ExportPolicy) -> PeerPolicy {
    PeerPolicy {
        import: match import {
            ImportPolicy::Declared => Import::Declared,
            ImportPolicy::All => Import::All,
        },
        export: match export {
            ExportPolicy::Own => Export::Own,
            ExportPolicy::All => Export::All,
        },
        ..PeerPolicy::default()
    }
}

fn family(name: &FamilyName) -> Family {
    match name {
        FamilyName::Ipv4 => Family::Ipv4,
        FamilyName::Ipv6 => Family::Ipv6,
    }
}

/// Why nobody could say which peer is meant, or type its name.
fn not_a_peer_name(name: &str) -> Option<String> {
    let is_alphanumeric = |octet: &u8| octet.is_ascii_alphanumeric();
    let fits = name.len() <= MOST_PEER_NAME_OCTETS
        && name.as_bytes().first().is_some_and(is_alphanumeric)
        && name.bytes().all(|octet| is_alphanumeric(&octet) || b"._:-".contains(&octet));
    if !fits {
        let most = MOST_PEER_NAME_OCTETS;
        return Some(format!(
            "letters, digits, '.', '_', ':' and '-', a letter or digit first, at most {most}"
        ));
    }
    is_no_name(name).then(|| "no name, but something else that can be said of peers".to_owned())
}

/// What commands take for a peer's address, or for all peers.
pub(crate) fn is_no_name(name: &str) -> bool {
    name == "all" || name.parse::<IpAddr>().is_ok()
}

/// With or without a prefix, as `schema::label_name` has it.
fn is_label_name(name: &str) -> bool {
    let ends_well = |part: &str| {
        let ends = [part.bytes().next(), part.bytes().next_back()];
        ends.into_iter().all(|end| end.is_some_and(|octet| octet.is_ascii_alphanumeric()))
    };
    let (prefix, name) = match name.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, name),
    };
    let is_small = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || b".-".contains(&octet);
    prefix.is_none_or(|prefix| ends_well(prefix) && prefix.bytes().all(is_small))
        && ends_well(name)
        && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"._-".contains(&octet))
}

/// Text from outside, as it is shown to people.
fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// Why nobody can be talked to there.
fn not_of_one_router(address: IpAddr) -> Option<&'static str> {
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    match address {
        _ if address.is_unspecified() => Some("no router has it"),
        _ if address.is_multicast() => Some("a multicast address"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        _ if link_local => Some("a link-local address is on each link: name the interface in its place"),
        _ if mapped => Some("an IPv4 address in IPv6 form"),
        _ => None,
    }
}

/// Why no other node could reach a node there.
fn not_of_one_node(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_loopback() => Some("a loopback address, which every host has"),
        IpAddr::V4(v4) if v4.is_link_local() => Some(
            "a link-local address, which no router passes on; all pods have 169.254.1.1 for their gateway",
        ),
        _ => None,
    }
}

/// Whether a prefix is written as Kubernetes takes it: no sign, no leading zero, no IPv4 in IPv6 form.
fn canonical(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let mapped = matches!(address.parse(), Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some());
    let digits = !length.is_empty() && length.bytes().all(|octet| octet.is_ascii_digit());
    !mapped && digits && (length == "0" || !length.starts_with('0'))
}
