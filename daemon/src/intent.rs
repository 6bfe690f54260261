//! What this node should do, from the objects of the cluster. Pure: the same objects, name and links give
//! the same intent.
//!
//! A fault in one place costs that place only: a peer with a bad address is left out and named, the
//! others are served.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use cambric_bgp::config::{ConnectMode, Declared, Export, Import, Link};
use cambric_bgp::{
    Asn, Families, Family, HoldTime, Originated, PeerConfig, PeerPolicy, Prefix, RouterConfig, RouterId,
    Wanted,
};
use k8s_openapi::api::core::v1::Node;

use crate::kinds::{
    BGPClusterConfigSpec, BGPNodeOverrideSpec, BGPPeerConfigSpec, Connect, ExportPolicy, FamilyName,
    ImportPolicy, Mesh, PeerEntry,
};
use crate::objects::{Named, Objects, Problem};

/// AS of a mesh for which nobody chose one.
pub const DEFAULT_ASN: u32 = 64512;
/// BGP identifier of a node without an IPv4 address whose name makes 0.
const LAST_RESORT: RouterId = RouterId::new(1).expect("1 is not 0, as the compiler finds out");
/// Above this many nodes a mesh is warned about: reflectors or switches serve better.
const LARGE_MESH: usize = 200;

/// What this node should do.
#[derive(Debug, Clone, PartialEq)]
pub struct Intent {
    /// For the BGP speaker.
    pub wanted: Wanted,
    /// Ranges of this node's pods, in the order of the Node object.
    pub pod_prefixes: Vec<Prefix>,
    /// This node's address in each family: what its own packets to pods come from.
    pub node_addresses: BTreeMap<Family, IpAddr>,
    /// What the operator should mend.
    pub problems: Vec<Problem>,
}

/// Why there is no intent yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoIntent {
    /// The cluster does not know us.
    #[error("there is no Node object \"{0}\"")]
    NodeUnknown(String),
    /// What we do not know yet may say the opposite of what we would do without it.
    #[error("manifests cannot be read, so nothing is done yet")]
    Unreadable(Vec<Problem>),
}

impl NoIntent {
    /// What the operator should mend, if the objects' own problems do not say it.
    pub fn problem(&self) -> Option<Problem> {
        match self {
            NoIntent::NodeUnknown(name) => Some(Problem::new(format!("Node {name}"), self.to_string())),
            NoIntent::Unreadable(_) => None,
        }
    }

    /// What has to come before there can be one.
    pub fn waits_for(&self) -> Vec<String> {
        match self {
            NoIntent::NodeUnknown(name) => vec![format!("the Node object \"{name}\"")],
            NoIntent::Unreadable(faults) => {
                faults.iter().map(|fault| format!("manifests that can be read: {fault}")).collect()
            }
        }
    }
}

/// The intent of node `name`, whose links are `links`.
///
/// # Errors
/// [`NoIntent`]
pub fn intent(objects: &Objects, name: &str, links: &[Link]) -> Result<Intent, NoIntent> {
    if !objects.unknown.is_empty() {
        return Err(NoIntent::Unreadable(objects.unknown.clone()));
    }
    let node = objects.nodes.get(name).ok_or_else(|| NoIntent::NodeUnknown(name.to_owned()))?;
    let mut reader = Reader { objects, problems: objects.problems.clone() };
    let config = reader.cluster_config(name, node);
    let overrides = objects.node_overrides.get(name);
    reader.overrides_have_nodes();

    let node_addresses = reader.node_addresses(name, node);
    let pod_prefixes = reader.pod_prefixes(name, node);
    if pod_prefixes.is_empty() {
        reader.problem(format!("Node {name}"), "spec.podCIDRs: empty, so no pod can get an address");
    }
    let asn = reader.asn(name, config, overrides);
    let router_id = reader.router_id(name, overrides, &node_addresses);
    let mut wanted = Wanted::new(RouterConfig::new(asn, router_id));
    wanted.links = links.to_vec();
    wanted.declared = reader.declared();
    for prefix in &pod_prefixes {
        wanted.originated.insert(*prefix, Originated::Pods);
    }
    for address in node_addresses.values().filter(|address| !lies_on_link(**address, links)) {
        wanted.originated.insert(Prefix::host(*address), Originated::NodeAddress);
    }
    if let Some(overrides) = overrides {
        reader.peers(&mut wanted, &format!("BGPNodeOverride {name}"), &overrides.peers);
    }
    if let Some(config) = config {
        reader.peers(&mut wanted, &format!("BGPClusterConfig {}", config.name), &config.spec.peers);
    }
    if has_mesh(config) {
        reader.mesh(&mut wanted, name, &node_addresses);
    }
    reader.problems.sort();
    reader.problems.dedup();
    Ok(Intent { wanted, pod_prefixes, node_addresses, problems: reader.problems })
}

/// An address on the subnet of a link is known to the neighbours there; a host route would only hide it.
fn lies_on_link(address: IpAddr, links: &[Link]) -> bool {
    let mut subnets = links.iter().flat_map(|link| &link.addresses).map(|entry| entry.subnet);
    subnets.any(|subnet| !subnet.is_host() && subnet.contains(address))
}

/// Reads fields, and gathers what is wrong with them.
struct Reader<'a> {
    objects: &'a Objects,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn problem(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.problems.push(Problem::new(place, what));
    }

    /// The value of a field, or a problem that names object, field and value.
    fn parse<T: FromStr<Err: Display>>(&mut self, place: &str, field: &str, value: &str) -> Option<T> {
        value.parse().map_err(|error| self.problem(place, format!("{field}: \"{value}\": {error}"))).ok()
    }

    fn parse_all<T: FromStr<Err: Display>>(&mut self, place: &str, field: &str, values: &[String]) -> Vec<T> {
        let fields = values.iter().enumerate();
        fields.filter_map(|(at, value)| self.parse(place, &format!("{field}[{at}]"), value)).collect()
    }

    /// The oldest configuration that selects the node; the others are named.
    fn cluster_config(&mut self, name: &str, node: &Node) -> Option<&'a Named<BGPClusterConfigSpec>> {
        let mut selecting = self.objects.cluster_configs.iter().filter(|config| selects(&config.spec, node));
        let first = selecting.next()?;
        for younger in selecting {
            let what =
                format!("Conflicted: BGPClusterConfig {} is older and selects node {name} too", first.name);
            self.problems.push(Problem::new(format!("BGPClusterConfig {}", younger.name), what));
        }
        Some(first)
    }

    /// A name with a typing error must not pass in silence.
    fn overrides_have_nodes(&mut self) {
        let objects = self.objects;
        for name in objects.node_overrides.keys().filter(|name| !objects.nodes.contains_key(*name)) {
            let what = format!("metadata.name: there is no Node \"{name}\"");
            self.problem(format!("BGPNodeOverride {name}"), what);
        }
    }

    /// The first InternalIP of each family.
    fn node_addresses(&mut self, name: &str, node: &Node) -> BTreeMap<Family, IpAddr> {
        let mut found = BTreeMap::new();
        let entries = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        for entry in entries.filter(|entry| entry.type_ == "InternalIP") {
            let field = "status.addresses (InternalIP)";
            if let Some(address) = self.parse::<IpAddr>(&format!("Node {name}"), field, &entry.address) {
                found.entry(Family::of(address)).or_insert(address);
            }
        }
        found
    }

    fn pod_prefixes(&mut self, name: &str, node: &Node) -> Vec<Prefix> {
        let Some(spec) = &node.spec else { return Vec::new() };
        let single: Vec<String> = spec.pod_cidr.iter().cloned().collect();
        let values = spec.pod_cidrs.as_ref().filter(|all| !all.is_empty()).unwrap_or(&single);
        self.parse_all(&format!("Node {name}"), "spec.podCIDRs", values)
    }

    fn asn(
        &mut self,
        name: &str,
        config: Option<&Named<BGPClusterConfigSpec>>,
        overrides: Option<&BGPNodeOverrideSpec>,
    ) -> Asn {
        let places = [
            (format!("BGPNodeOverride {name}"), overrides.and_then(|overrides| overrides.asn)),
            (
                format!("BGPClusterConfig {}", config.map_or("", |config| &config.name)),
                config.and_then(|config| config.spec.asn),
            ),
        ];
        for (place, value) in places {
            match value.map(Asn::new) {
                Some(Some(asn)) => return asn,
                Some(None) => self.problem(place, "spec.asn: 0 is reserved (RFC 7607)"),
                None => {}
            }
        }
        Asn::new(DEFAULT_ASN).unwrap_or(Asn::TRANS)
    }

    /// Chosen, or the IPv4 address, or made from the name where there is none (RFC 6286 asks only that
    /// it be unique in the AS).
    fn router_id(
        &mut self,
        name: &str,
        overrides: Option<&BGPNodeOverrideSpec>,
        addresses: &BTreeMap<Family, IpAddr>,
    ) -> RouterId {
        let chosen = overrides.and_then(|overrides| overrides.router_id.as_deref());
        let place = format!("BGPNodeOverride {name}");
        if let Some(id) = chosen.and_then(|text| self.parse(&place, "spec.routerID", text)) {
            return id;
        }
        let address = match addresses.get(&Family::Ipv4) {
            Some(IpAddr::V4(address)) => RouterId::try_from(*address).ok(),
            _ => None,
        };
        address.or_else(|| RouterId::new(fnv1a(name.as_bytes()))).unwrap_or(LAST_RESORT)
    }

    /// What routers of the fabric may tell us.
    fn declared(&mut self) -> Declared {
        let objects = self.objects;
        let mut declared = Declared::default();
        let mut node_ranges: Vec<Prefix> = Vec::new();
        for Named { name, spec } in &objects.cluster_configs {
            let place = format!("BGPClusterConfig {name}");
            declared.pods.extend(self.parse_all::<Prefix>(&place, "spec.podCIDRs", &spec.pod_cidrs));
            declared.services.extend(self.parse_all::<Prefix>(
                &place,
                "spec.serviceCIDRs",
                &spec.service_cidrs,
            ));
            node_ranges.extend(self.parse_all::<Prefix>(&place, "spec.nodeCIDRs", &spec.node_cidrs));
        }
        for (name, node) in &objects.nodes {
            let prefixes = self.pod_prefixes(name, node);
            let new =
                prefixes.into_iter().filter(|prefix| !declared.pods.iter().any(|known| known.covers(prefix)));
            let new: Vec<Prefix> = new.collect();
            declared.pods.extend(new);
            let addresses = self.node_addresses(name, node).into_values();
            let inside = |address: &IpAddr| {
                node_ranges.is_empty() || node_ranges.iter().any(|range| range.contains(*address))
            };
            declared.nodes.extend(addresses.filter(inside));
        }
        declared
    }

    fn peers(&mut self, wanted: &mut Wanted, place: &str, entries: &[PeerEntry]) {
        for entry in entries {
            let Some((address, config)) = self.peer(place, entry) else { continue };
            let name = &entry.name;
            if wanted.links.iter().flat_map(|link| &link.addresses).any(|own| own.address == address) {
                self.problem(place, format!("peer {name}: address {address} is our own"));
            } else if let Some(first) = wanted.peers.get(&address) {
                let what = format!("Conflicted: peer {name}: peer {} has address {address} too", first.name);
                self.problem(place, what);
            } else {
                wanted.peers.insert(address, config);
            }
        }
    }

    fn peer(&mut self, place: &str, entry: &PeerEntry) -> Option<(IpAddr, PeerConfig)> {
        let PeerEntry { name, .. } = entry;
        let address: IpAddr = self.parse(place, &format!("peer {name}: address"), &entry.address)?;
        let Some(asn) = Asn::new(entry.asn) else {
            self.problem(place, format!("peer {name}: asn: 0 is reserved (RFC 7607)"));
            return None;
        };
        let mut config = PeerConfig::new(name, address, asn);
        if entry.port == Some(0) {
            self.problem(place, format!("peer {name}: port: 0: at least 1"));
            return None;
        }
        config.port = entry.port.unwrap_or(config.port);
        if let Some(local) = &entry.local_address {
            let local: IpAddr = self.parse(place, &format!("peer {name}: localAddress"), local)?;
            if Family::of(local) != Family::of(address) {
                let what = format!("peer {name}: localAddress: {local}: not of the family of {address}");
                self.problem(place, what);
                return None;
            }
            config.local_address = Some(local);
        }
        if let Some(peer_config) = &entry.peer_config {
            let Some(common) = self.objects.peer_configs.get(peer_config) else {
                self.problem(place, format!("peer {name}: there is no BGPPeerConfig \"{peer_config}\""));
                return None;
            };
            self.apply_peer_config(&mut config, peer_config, common)?;
        }
        Some((address, config))
    }

    fn apply_peer_config(
        &mut self,
        config: &mut PeerConfig,
        name: &str,
        common: &BGPPeerConfigSpec,
    ) -> Option<()> {
        let place = format!("BGPPeerConfig {name}");
        if let Some(seconds) = common.hold_time_seconds {
            let Some(hold_time) = HoldTime::from_secs(seconds) else {
                let what = format!("spec.holdTimeSeconds: {seconds}: 0 or at least 3 (RFC 4271 section 4.2)");
                self.problem(place, what);
                return None;
            };
            config.hold_time = hold_time;
        }
        config.keepalive = common.keepalive_seconds.map(|seconds| Duration::from_secs(u64::from(seconds)));
        if config.keepalive.is_some_and(|keepalive| keepalive.is_zero()) {
            self.problem(place, "spec.keepaliveSeconds: 0: at least 1");
            return None;
        }
        if let Some(families) = &common.families {
            if families.is_empty() {
                self.problem(
                    place,
                    "spec.families: empty: leave it out for the family of the peer's address",
                );
                return None;
            }
            config.families = families.iter().map(family).collect::<Families>();
        }
        config.connect = match common.connect {
            Connect::Both => ConnectMode::Both,
            Connect::Passive => ConnectMode::Passive,
        };
        config.policy = PeerPolicy {
            import: match common.import {
                ImportPolicy::Declared => Import::Declared,
                ImportPolicy::All => Import::All,
            },
            export: match common.export {
                ExportPolicy::Own => Export::Own,
                ExportPolicy::All => Export::All,
            },
        };
        if common.max_prefixes == Some(0) {
            self.problem(place, "spec.maxPrefixes: 0: at least 1");
            return None;
        }
        if let Some(most) = common.max_prefixes {
            config.max_prefixes = usize::try_from(most).unwrap_or(usize::MAX);
        }
        Some(())
    }

    /// A session with every other node of the mesh for each family that both have an address of.
    fn mesh(&mut self, wanted: &mut Wanted, own_name: &str, own: &BTreeMap<Family, IpAddr>) {
        let objects = self.objects;
        let config_of =
            |node: &Node| objects.cluster_configs.iter().find(|config| selects(&config.spec, node));
        let mut others: BTreeMap<&String, &Node> = objects.nodes.iter().collect();
        // A node that is told to have no mesh would turn us away.
        others.retain(|name, node| *name != own_name && has_mesh(config_of(node)));
        if others.len() >= LARGE_MESH {
            let what = format!("a mesh of {} nodes: peer with the switches instead", others.len() + 1);
            self.problem("BGPClusterConfig", what);
        }
        for (name, node) in others {
            let asn = self.asn(name, config_of(node), objects.node_overrides.get(name));
            for (family, address) in self.node_addresses(name, node) {
                let Some(local) = own.get(&family) else { continue };
                let suffix = if family == Family::Ipv6 { "-v6" } else { "" };
                let mut peer = PeerConfig::new(format!("{name}{suffix}"), address, asn);
                peer.local_address = Some(*local);
                if address != *local {
                    wanted.peers.entry(address).or_insert(peer);
                }
            }
        }
    }
}

fn has_mesh(config: Option<&Named<BGPClusterConfigSpec>>) -> bool {
    config.is_none_or(|config| config.spec.mesh == Mesh::Enabled)
}

fn selects(config: &BGPClusterConfigSpec, node: &Node) -> bool {
    let Some(selector) = &config.node_selector else { return true };
    let labels = node.metadata.labels.as_ref();
    selector.match_labels.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

fn family(name: &FamilyName) -> Family {
    match name {
        FamilyName::Ipv4 => Family::Ipv4,
        FamilyName::Ipv6 => Family::Ipv6,
    }
}

/// FNV-1a, 32 bits: the same on every run and every machine.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cambric_bgp::config::{LinkAddress, LinkState};

    use crate::source::dir::Folder;

    fn objects(manifests: &str) -> Objects {
        let folder = tempfile::tempdir().expect("temporary folder");
        std::fs::write(folder.path().join("all.yaml"), manifests).expect("temporary file");
        Folder::new(folder.path().to_owned()).view().expect("own folder")
    }

    fn links(addresses: &[(&str, u8)]) -> Vec<Link> {
        let addresses = addresses.iter().map(|(address, length)| {
            LinkAddress::new(address.parse().expect("address"), *length).expect("length")
        });
        vec![Link { name: "eth1".to_owned(), state: LinkState::Up, addresses: addresses.collect() }]
    }

    const NODES: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {rack: '1'}}
spec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24, 'fd00:10:244:1::/64']}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}, {type: InternalIP, address: 'fd00::1'}]}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
spec: {podCIDR: 10.244.2.0/24}
status: {addresses: [{type: InternalIP, address: 192.0.2.2}, {type: InternalIP, address: 'fd00::2'}]}
";

    #[test]
    fn without_any_object_of_ours_all_nodes_are_a_mesh_in_both_families() {
        let links = links(&[("192.0.2.1", 24), ("fd00::1", 64)]);
        let intent = intent(&objects(NODES), "n1", &links).expect("node is known");
        assert_eq!(intent.problems, Vec::new());
        assert_eq!(intent.wanted.router.asn.value(), DEFAULT_ASN);
        assert_eq!(intent.wanted.router.router_id.to_string(), "192.0.2.1");
        let peers: Vec<String> = intent.wanted.peers.values().map(|peer| peer.name.clone()).collect();
        assert_eq!(peers, ["n2", "n2-v6"]);
        let originated: Vec<String> = intent.wanted.originated.keys().map(Prefix::to_string).collect();
        assert_eq!(
            originated,
            ["10.244.1.0/24", "fd00:10:244:1::/64"],
            "addresses on a link are not announced"
        );
        assert!(intent.wanted.declared.pods.contains(&"10.244.2.0/24".parse().expect("prefix")));
    }

    #[test]
    fn nodes_that_are_told_to_have_no_mesh_are_not_dialled() {
        let ours = "---
apiVersion: cambric.dev/v1alpha1
kind: BGPClusterConfig
metadata: {name: rack-1}
spec: {mesh: Disabled, nodeSelector: {matchLabels: {rack: '1'}}}
";
        let objects = objects(&format!("{NODES}{ours}"));
        for name in ["n1", "n2"] {
            let intent = intent(&objects, name, &[]).expect("node is known");
            assert!(intent.wanted.peers.is_empty(), "{name}: {:?}", intent.wanted.peers);
        }
    }

    #[test]
    fn an_address_that_is_on_no_link_is_announced_as_host_route() {
        let links = links(&[("172.16.0.1", 31)]);
        let intent = intent(&objects(NODES), "n1", &links).expect("node is known");
        assert!(intent.wanted.originated.contains_key(&"192.0.2.1/32".parse().expect("prefix")));
        assert!(intent.wanted.originated.contains_key(&"fd00::1/128".parse().expect("prefix")));
    }

    #[test]
    fn overrides_give_the_node_its_as_and_peers() {
        let ours = "---
apiVersion: cambric.dev/v1alpha1
kind: BGPClusterConfig
metadata: {name: default}
spec: {mesh: Disabled, podCIDRs: [10.244.0.0/16]}
---
apiVersion: cambric.dev/v1alpha1
kind: BGPPeerConfig
metadata: {name: tor}
spec: {holdTimeSeconds: 9, import: All}
---
apiVersion: cambric.dev/v1alpha1
kind: BGPNodeOverride
metadata: {name: n1}
spec:
  asn: 65111
  peers: [{name: tor1a, address: 172.16.11.0, asn: 65101, peerConfig: tor}]
";
        let intent = intent(&objects(&format!("{NODES}{ours}")), "n1", &[]).expect("node is known");
        assert_eq!(intent.problems, Vec::new());
        assert_eq!(intent.wanted.router.asn.value(), 65111);
        let peer = intent.wanted.peers.values().next().expect("one peer");
        assert_eq!((peer.name.as_str(), peer.hold_time.as_secs()), ("tor1a", 9));
        assert_eq!(peer.policy.import, Import::All);
        assert_eq!(intent.wanted.peers.len(), 1);
    }

    #[test]
    fn a_bad_peer_is_named_and_the_others_are_served() {
        let ours = "---
apiVersion: cambric.dev/v1alpha1
kind: BGPNodeOverride
metadata: {name: n1}
spec:
  peers:
  - {name: a, address: 172.16.11.300, asn: 65101}
  - {name: b, address: 172.16.11.2, asn: 65101, peerConfig: absent}
  - {name: c, address: 172.16.11.4, asn: 0}
  - {name: d, address: 172.16.11.6, asn: 65101}
  - {name: e, address: 172.16.11.6, asn: 65101}
  - {name: f, address: 172.16.11.8, asn: 65101, port: 0}
  - {name: g, address: 172.16.11.10, asn: 65101, localAddress: 'fd00::1'}
  - {name: h, address: 172.16.11.12, asn: 65101, peerConfig: none}
---
apiVersion: cambric.dev/v1alpha1
kind: BGPPeerConfig
metadata: {name: none}
spec: {maxPrefixes: 0}
---
apiVersion: cambric.dev/v1alpha1
kind: BGPNodeOverride
metadata: {name: n11}
spec: {}
";
        let intent = intent(&objects(&format!("{NODES}{ours}")), "n1", &[]).expect("node is known");
        let problems: Vec<String> = intent.problems.iter().map(Problem::to_string).collect();
        assert_eq!(
            problems,
            [
                "BGPNodeOverride n1: Conflicted: peer e: peer d has address 172.16.11.6 too",
                "BGPNodeOverride n1: peer a: address: \"172.16.11.300\": invalid IP address syntax",
                "BGPNodeOverride n1: peer b: there is no BGPPeerConfig \"absent\"",
                "BGPNodeOverride n1: peer c: asn: 0 is reserved (RFC 7607)",
                "BGPNodeOverride n1: peer f: port: 0: at least 1",
                "BGPNodeOverride n1: peer g: localAddress: fd00::1: not of the family of 172.16.11.10",
                "BGPNodeOverride n11: metadata.name: there is no Node \"n11\"",
                "BGPPeerConfig none: spec.maxPrefixes: 0: at least 1",
            ]
        );
        let peers = intent.wanted.peers.values().map(|peer| peer.name.as_str());
        assert_eq!(peers.collect::<Vec<_>>(), ["d", "n2", "n2-v6"]);
    }

    #[test]
    fn an_unknown_node_has_no_intent() {
        let error = intent(&objects(NODES), "n9", &[]).expect_err("unknown");
        assert_eq!(error.to_string(), "there is no Node object \"n9\"");
    }

    #[test]
    fn a_manifest_that_was_never_read_is_waited_for_and_no_mesh_is_started() {
        let ours = "---
apiVersion: cambric.dev/v1alpha1
kind: BGPClusterConfig
metadata: {name: default}
spec: {mesh: Disabled, colour: red}
";
        let error = intent(&objects(&format!("{NODES}{ours}")), "n1", &[]).expect_err("a config is hidden");
        let waits_for = error.waits_for();
        let start = "manifests that can be read: BGPClusterConfig default (all.yaml, document 3): ";
        assert!(waits_for[0].starts_with(start), "{waits_for:?}");
        assert!(waits_for[0].contains("unknown field `colour`"), "{waits_for:?}");
    }
}
