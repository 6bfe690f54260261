//! What this node should do, from the objects of the cluster. Pure: the same objects, name and links give
//! the same intent.
//!
//! Wrong values and contradictions are behind us: [`values`](crate::values) and
//! [`contradictions`](crate::contradictions) have left them out and named them. What is found here has to do
//! with the links of this host, or is advice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cambric_bgp::config::{Declared, Distance, Link, Monitoring};
use cambric_bgp::{Family, PeerConfig, Prefix, RouterConfig, RouterId, ScopedAddress, Wanted};

mod named;

use self::named::Named;
use crate::advertisements::{self, Announced, Own};
use crate::asn;
use crate::drain::{self, Part};
use crate::host::Host;
use crate::kinds::Mesh;
use crate::objects::{ClusterConfig, Kind, Node, NodeOverride, Objects, Problem, Reason, Shown};
use crate::own_address::{self, Addresses, Choice, Said};
use crate::prepends;
use crate::services::{self, Served};
use crate::values::is_no_name;

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
    /// What the kernel must have as unreachable before it is announced: these, and aggregates.
    pub unreachable: Vec<Prefix>,
    /// This node's address in each family: what its own packets to pods come from.
    pub node_addresses: BTreeMap<Family, IpAddr>,
    /// Why it is these, and which links have them.
    pub choices: BTreeMap<Family, Choice>,
    /// The links over which it speaks with others.
    pub uplinks: BTreeSet<String>,
    /// Peers that are other nodes of a mesh, with their names; nobody has named them one by one.
    pub mesh: BTreeMap<ScopedAddress, String>,
    /// What the label of the Node drains; [`Wanted::drain`] is for who knows since when.
    pub drained_by_label: Vec<Part>,
    /// Peers that are where the default route of a family points to.
    pub gateways: BTreeMap<ScopedAddress, Family>,
    /// The interfaces that manifests name for peers: router advertisements are sent there, and heard.
    pub unnumbered: BTreeSet<String>,
    /// What the operator should mend.
    pub problems: Vec<Problem>,
}

/// Why there is no intent yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoIntent {
    /// The source has shown nothing yet.
    #[error("nothing is known of the cluster yet")]
    Unseen,
    /// The cluster does not know us.
    #[error("there is no Node object \"{0}\"")]
    NodeUnknown(String),
    /// Another AS than the one that was meant would be turned away by the switches.
    #[error("{what}, and the AS of the node is read from it")]
    AsnUnknown {
        /// Its name.
        node: String,
        /// Where it stands.
        place: String,
        /// Its label.
        what: String,
    },
    /// What we do not know yet may say the opposite of what we would do without it.
    #[error("objects cannot be read, so nothing is done yet")]
    Unreadable(Vec<Problem>),
}

impl NoIntent {
    /// What the operator should mend, if the objects' own problems do not say it.
    pub fn problem(&self) -> Option<Problem> {
        match self {
            NoIntent::NodeUnknown(name) => {
                let problem = Problem::new(format!("Node {name}"), self.to_string());
                Some(problem.about(Kind::Node, name).because(Reason::Missing))
            }
            NoIntent::AsnUnknown { node, place, .. } => {
                let problem = Problem::new(place.clone(), self.to_string());
                Some(problem.about(Kind::Node, node).because(Reason::Missing))
            }
            // The source says why.
            NoIntent::Unseen | NoIntent::Unreadable(_) => None,
        }
    }

    /// The same, for a node that goes on with the intent it has.
    pub fn problem_while_going_on(&self) -> Option<Problem> {
        Some(self.problem()?.and("it goes on as before, and nothing else is applied until it is back"))
    }

    /// What has to come before there can be one.
    pub fn waits_for(&self) -> Vec<String> {
        match self {
            NoIntent::Unseen => vec!["the objects of the cluster".to_owned()],
            NoIntent::NodeUnknown(name) => vec![format!("the Node object \"{name}\"")],
            NoIntent::AsnUnknown { place, what, .. } => vec![format!("the AS of {place}: {what}")],
            NoIntent::Unreadable(faults) => {
                faults.iter().map(|fault| format!("objects that can be read: {fault}")).collect()
            }
        }
    }
}

/// The intent of node `name`, whose links are `links`, when it starts; it has no default route.
///
/// # Errors
/// [`NoIntent`]
pub fn intent(objects: &Objects, name: &str, links: &[Link]) -> Result<Intent, NoIntent> {
    intent_while_running(objects, name, &Host::with_links(links), None)
}

/// The intent of node `name` on `host`, whose sessions run with the identifier `running`, if it has any.
///
/// Another identifier ends every session. It need only be unique (RFC 6286 section 2.1): one that was made from an
/// address stays when the address goes, until the daemon is started anew, a BGPNodeOverride says another, or another
/// node has that address.
///
/// # Errors
/// [`NoIntent`]
pub fn intent_while_running(
    objects: &Objects,
    name: &str,
    host: &Host,
    running: Option<RouterId>,
) -> Result<Intent, NoIntent> {
    intent_with_services(objects, &Served::default(), name, host, running)
}

/// The same with what is known of services.
///
/// # Errors
/// [`NoIntent`]
pub fn intent_with_services(
    objects: &Objects,
    served: &Served,
    name: &str,
    host: &Host,
    running: Option<RouterId>,
) -> Result<Intent, NoIntent> {
    let links = &host.links;
    if !objects.unknown.is_empty() {
        return Err(NoIntent::Unreadable(objects.unknown.clone()));
    }
    let shown = objects.nodes.get(name).ok_or_else(|| NoIntent::NodeUnknown(name.to_owned()))?;
    let Shown { place, says: node } = shown;
    let cluster = Cluster { objects };
    let overrides = cluster.overrides(name);
    let mut problems: Vec<Problem> = objects.problems.iter().chain(&objects.notices).cloned().collect();
    let pod_prefixes: Vec<Prefix> = node.pod_ranges.iter().map(|(_, prefix)| *prefix).collect();
    if pod_prefixes.is_empty() {
        let what = "spec.podCIDRs: none can be used, so no pod can get an address";
        problems.push(Problem::new(place, what).about(Kind::Node, name).because(Reason::Missing));
    }

    let drained_by_label = node.labels.get(drain::LABEL).map_or(Ok(&[][..]), drain::parts_of_label);
    let drained_by_label = drained_by_label.unwrap_or_else(|what| {
        let what = format!("metadata.labels: {}: {what}", drain::LABEL);
        problems.push(Problem::new(place, what).about(Kind::Node, name).because(Reason::Invalid));
        &[]
    });

    let router_id = overrides.and_then(|overrides| overrides.router_id);
    let said = cluster.said(name, shown);
    let known = said.known();
    let (choices, wrong) = said.choose(links);
    problems.extend(wrong);
    problems.extend(cluster.outside(name));
    let router_id = router_id
        .or_else(|| running.filter(|running| !cluster.is_of_another(*running, name)))
        .unwrap_or_else(|| router_id_of(name, &known));
    let asn = asn::of(objects, name);
    let asn =
        asn.map_err(|what| NoIntent::AsnUnknown { node: name.to_owned(), place: place.clone(), what })?;
    let mut wanted = Wanted::new(RouterConfig::new(asn, router_id));
    wanted.router.cluster_id = overrides.and_then(|overrides| overrides.cluster_id);
    wanted.links = links.to_vec();
    wanted.declared = cluster.declared();
    wanted.monitoring = cluster.monitoring(name);
    let node_addresses: Addresses =
        choices.iter().map(|(family, choice)| (*family, choice.address)).collect();
    // Others dial what they know, and answer to what packets come from.
    let addresses = known.values().chain(node_addresses.values()).copied();
    let addresses: BTreeSet<IpAddr> = addresses.filter(|address| !lies_on_link(*address, links)).collect();
    let entries = advertisements::for_node(objects, node);
    let is_on_link =
        |address: IpAddr| links.iter().flat_map(|link| &link.addresses).any(|entry| entry.address == address);
    let (services, of_services) =
        services::announced(&entries, served, objects, &wanted.declared, is_on_link);
    problems.extend(of_services);
    let own = Own { pods: &pod_prefixes, addresses: &addresses, services };
    let Announced { originated, unreachable } =
        advertisements::announce(&entries, &own, objects, &wanted.declared);
    wanted.originated = originated;
    let unreachable = pod_prefixes.iter().copied().chain(unreachable).collect();
    let named::Added { gateways, unnumbered, problems: of_named } =
        named::add(&mut wanted, cluster, &said, host);
    problems.extend(of_named);
    let (mesh, of_mesh) = cluster.add_mesh(&mut wanted, name, &known);
    problems.extend(of_mesh);
    problems.extend(prepends::notices(objects, &entries, &wanted));
    problems.sort();
    problems.dedup();
    let numbered = wanted.peers.keys().filter(|at| at.interface().is_none());
    let mut uplinks = own_address::uplinks(
        &choices,
        numbered.map(ScopedAddress::ip),
        wanted.listen_ranges.keys().copied(),
        links,
    );
    uplinks.extend(unnumbered.iter().cloned());
    let drained_by_label = drained_by_label.to_vec();
    Ok(Intent {
        wanted,
        pod_prefixes,
        unreachable,
        node_addresses,
        choices,
        uplinks,
        mesh,
        gateways,
        unnumbered,
        drained_by_label,
        problems,
    })
}

/// An address on the subnet of a link is known to the neighbours there; a host route would only hide it.
fn lies_on_link(address: IpAddr, links: &[Link]) -> bool {
    let mut subnets = links.iter().flat_map(|link| &link.addresses).map(|entry| entry.subnet);
    subnets.any(|subnet| !subnet.is_host() && subnet.contains(address))
}

/// Whether an address is where `ranges` say that addresses are; without any, it may be anywhere.
fn lies_in(ranges: &[Prefix], address: IpAddr) -> bool {
    ranges.is_empty() || ranges.iter().any(|range| range.contains(address))
}

/// Looks up what belongs to a node.
#[derive(Clone, Copy)]
struct Cluster<'a> {
    objects: &'a Objects,
}

impl<'a> Cluster<'a> {
    fn config(self, node: &str) -> Option<&'a Shown<ClusterConfig>> {
        self.objects.cluster_configs.get(self.objects.config_of.get(node)?)
    }

    /// Who is told what the tables of this node hold.
    fn monitoring(self, node: &str) -> Monitoring {
        let stations = self.config(node).map(|config| config.says.stations.clone());
        Monitoring { system: node.to_owned(), stations: stations.unwrap_or_default() }
    }

    fn overrides(self, node: &str) -> Option<&'a NodeOverride> {
        Some(&self.objects.node_overrides.get(node)?.says)
    }

    fn said(self, name: &'a str, node: &'a Shown<Node>) -> Said<'a> {
        let config = self.objects.config_of.get(name).zip(self.config(name));
        Said { name, node, config, overrides: self.objects.node_overrides.get(name) }
    }

    /// Whether a node other than `own` would have this identifier.
    fn is_of_another(self, id: RouterId, own: &str) -> bool {
        let mut others = self.objects.nodes.iter().filter(|(name, _)| *name != own);
        others.any(|(name, node)| {
            let said = self.overrides(name).and_then(|overrides| overrides.router_id);
            said.unwrap_or_else(|| router_id_of(name, &self.said(name, node).known())) == id
        })
    }

    fn has_mesh(self, node: &str) -> bool {
        self.config(node).is_none_or(|config| config.says.mesh == Mesh::Enabled)
    }

    /// One that no node has, because others are older, declares nothing.
    fn configs_in_use(self) -> impl Iterator<Item = &'a ClusterConfig> {
        let in_use: BTreeSet<&String> = self.objects.config_of.values().collect();
        in_use.into_iter().filter_map(move |name| Some(&self.objects.cluster_configs.get(name)?.says))
    }

    /// Those in which addresses of nodes lie; without any, everywhere.
    fn node_ranges(self) -> Vec<Prefix> {
        self.configs_in_use().flat_map(|says| &says.nodes).copied().collect()
    }

    /// Addresses that a node was given, and that others take no route to.
    fn outside(self, node: &str) -> Vec<Problem> {
        let Some(Shown { place, says }) = self.objects.node_overrides.get(node) else { return Vec::new() };
        let ranges = self.node_ranges();
        let outside = says.addresses.values().filter(|address| !lies_in(&ranges, **address));
        let problem = |address: &IpAddr| {
            let what = format!(
                "spec.addresses: {address}: in none of the ranges of nodeCIDRs, so other nodes take no route to it"
            );
            Problem::new(place, what).about(Kind::BGPNodeOverride, node).because(Reason::Invalid)
        };
        outside.map(problem).collect()
    }

    /// What routers of the fabric may tell us.
    fn declared(self) -> Declared {
        let mut declared = Declared::default();
        for says in self.configs_in_use() {
            declared.pods.extend(&says.pods);
            declared.services.extend(&says.services);
        }
        let node_ranges = self.node_ranges();
        let inside = |address: &IpAddr| lies_in(&node_ranges, *address);
        // Ranges of nodes do not overlap each other.
        let configured = declared.pods.clone();
        for (name, node) in &self.objects.nodes {
            let ranges = node.says.pod_ranges.iter().map(|(_, prefix)| *prefix);
            declared.pods.extend(ranges.filter(|range| !configured.iter().any(|known| known.covers(range))));
            declared.nodes.extend(self.said(name, node).acceptable().filter(inside));
        }
        declared
    }

    /// The neighbours that manifests name for a node, each with kind, name and place of the object that does.
    fn peers(self, node: &'a str) -> impl Iterator<Item = Named<'a>> {
        let particular = self.objects.node_overrides.get(node).into_iter().flat_map(move |overrides| {
            let (kind, of, place) = (Kind::BGPNodeOverride, node, overrides.place.as_str());
            overrides.says.peers.iter().map(move |peer| Named { kind, of, place, peer })
        });
        let name = self.objects.config_of.get(node);
        let common = name.zip(self.config(node)).into_iter().flat_map(|(name, config)| {
            let (kind, of, place) = (Kind::BGPClusterConfig, name.as_str(), config.place.as_str());
            config.says.peers.iter().map(move |peer| Named { kind, of, place, peer })
        });
        particular.chain(common).filter(move |named| {
            !self.objects.left_out.contains(&(named.kind, node.to_owned(), named.peer.site))
        })
    }

    /// A session with every other node of the mesh for each family that both have an address of. Gives these nodes by
    /// address, and what is wrong.
    fn add_mesh(
        self,
        wanted: &mut Wanted,
        own_name: &str,
        own: &Addresses,
    ) -> (BTreeMap<ScopedAddress, String>, Vec<Problem>) {
        let mut mesh = BTreeMap::new();
        if !self.has_mesh(own_name) {
            return (mesh, Vec::new());
        }
        // A node that is told to have no mesh would turn us away.
        let others = self.objects.nodes.iter().filter(|(name, _)| *name != own_name && self.has_mesh(name));
        let others: Vec<(&String, &Shown<Node>)> = others.collect();
        let templates = wanted.listen_ranges.values().map(|range| &range.template);
        let mut names: BTreeSet<String> =
            wanted.peers.values().chain(templates).map(|peer| peer.name.clone()).collect();
        let (mut renamed, mut problems) = (Vec::new(), Vec::new());
        for (name, node) in &others {
            let of = name.as_str();
            let asn = match asn::of(self.objects, name) {
                Ok(asn) => asn,
                Err(what) => {
                    let what = format!("{what}; it is no peer until that says its AS");
                    let problem = Problem::new(&node.place, what);
                    problems.push(problem.about(Kind::Node, of).because(Reason::Missing));
                    continue;
                }
            };
            for (family, address) in &self.said(name, node).known() {
                let Some(local) = own.get(family) else { continue };
                let at = ScopedAddress::from(*address);
                if address == local || wanted.peers.contains_key(&at) {
                    continue;
                }
                let suffix = if *family == Family::Ipv6 { "-v6" } else { "" };
                let mut name = format!("{name}{suffix}");
                if is_no_name(&name) || names.contains(&name) {
                    let what = format!(
                        "metadata.name: {name} is taken or no name for a peer; its session is called {address}"
                    );
                    if name != address.to_string() {
                        renamed.push(Problem::new(node.place.clone(), what).about(Kind::Node, of));
                    }
                    name = address.to_string();
                }
                names.insert(name.clone());
                let mut peer = PeerConfig::new(name, *address, asn);
                peer.transport.local_address = Some(*local);
                // It may be behind a gateway, whatever its AS.
                peer.transport.distance = Distance::Multihop(64);
                wanted.peers.insert(at.clone(), peer);
                // It announces them all the same: its pods live there.
                if let Some(disputed) = self.objects.disputed.get(of) {
                    wanted.declared.disputed.insert(*address, disputed.clone());
                }
                mesh.insert(at, of.to_owned());
            }
        }
        let are_more = renamed.len() > 1;
        if let Some(first) = renamed.into_iter().next() {
            // Without their number: it would be another problem with each node that joins.
            problems.push(if are_more { first.and("and so it is with others") } else { first });
        }
        if others.len() >= LARGE_MESH {
            // Without their number: it would be another problem with each node that joins.
            let what = format!("a mesh of more than {LARGE_MESH} nodes: peer with the switches instead");
            problems.push(match self.objects.config_of.get(own_name).zip(self.config(own_name)) {
                Some((name, config)) => Problem::new(&config.place, what).about(Kind::BGPClusterConfig, name),
                None => Problem::new("BGPClusterConfig", what),
            });
        }
        (mesh, problems)
    }
}

/// The IPv4 address, or made from the name where there is none (RFC 6286 asks only that it be unique in
/// the AS).
fn router_id_of(name: &str, known: &Addresses) -> RouterId {
    let address = match known.get(&Family::Ipv4) {
        Some(IpAddr::V4(address)) => RouterId::try_from(*address).ok(),
        _ => None,
    };
    address.or_else(|| RouterId::new(fnv1a(name.as_bytes()))).unwrap_or(LAST_RESORT)
}

/// FNV-1a, 32 bits: the same on every run and every machine.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cambric_bgp::config::{Import, LinkAddress, LinkState};

    use crate::objects::ObjectRef;
    use crate::source::folder::Folder;

    fn objects(manifests: &str) -> Objects {
        let folder = tempfile::tempdir().expect("temporary folder");
        std::fs::write(folder.path().join("all.yaml"), manifests).expect("temporary file");
        Objects::clone(&Folder::new(folder.path().to_owned(), "n1").view().fabric)
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
        assert_eq!(intent.wanted.router.asn.value(), asn::DEFAULT);
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
    fn a_large_mesh_is_the_same_problem_however_many_join_it() {
        let config =
            "---\napiVersion: cambric.dev/v1alpha1\nkind: BGPClusterConfig\nmetadata: {name: c}\nspec: {}\n";
        let problems = |nodes: usize, config: &str| {
            let node = |at: usize| {
                format!(
                    "---\napiVersion: v1\nkind: Node\nmetadata: {{name: n{at}}}\nspec: {{podCIDR: 10.{}.{}.0/24}}\n",
                    at / 256,
                    at % 256
                )
            };
            let nodes: String = (1..=nodes).map(node).collect();
            intent(&objects(&format!("{nodes}{config}")), "n1", &[]).expect("node is known").problems
        };
        assert_eq!(problems(200, ""), []);
        assert_eq!(problems(201, "").len(), 1);
        assert_eq!(problems(201, ""), problems(202, ""));
        let of_config = ObjectRef { kind: Kind::BGPClusterConfig, name: "c".to_owned() };
        assert_eq!(
            problems(201, config)[0].of.as_deref(),
            Some(&of_config),
            "three nodes speak of it, not all"
        );
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
    fn a_changed_node_address_moves_sessions_and_sources() {
        let links = links(&[("192.0.2.1", 24), ("192.0.2.7", 24), ("fd00::1", 64)]);
        let of = |manifests: &str| intent(&objects(manifests), "n1", &links).expect("node is known");
        let (before, after) = (of(NODES), of(&NODES.replace("address: 192.0.2.1}", "address: 192.0.2.7}")));
        let locals = |intent: &Intent| -> Vec<Option<IpAddr>> {
            intent.wanted.peers.values().map(|peer| peer.transport.local_address).collect()
        };
        let address = |text: &str| text.parse::<IpAddr>().ok();
        assert_eq!(locals(&before), [address("192.0.2.1"), address("fd00::1")]);
        assert_eq!(locals(&after), [address("192.0.2.7"), address("fd00::1")]);
        assert_eq!(after.node_addresses.get(&Family::Ipv4).copied(), address("192.0.2.7"));
        assert_eq!(after.wanted.router.router_id.to_string(), "192.0.2.7");
        assert_eq!(after.uplinks, BTreeSet::from(["eth1".to_owned()]));
        let others = |manifests: &str| intent(&objects(manifests), "n2", &[]).expect("node is known");
        let dialled = others(&NODES.replace("address: 192.0.2.1}", "address: 192.0.2.7}")).wanted.peers;
        assert!(dialled.contains_key(&address("192.0.2.7").expect("address").into()), "{dialled:?}");
    }

    #[test]
    fn an_overriding_address_is_dialled_and_accepted_by_others_and_announced_by_its_node() {
        let mut objects = objects(NODES);
        let loopback: IpAddr = "203.0.113.1".parse().expect("address");
        let says = NodeOverride { addresses: [(Family::Ipv4, loopback)].into(), ..NodeOverride::default() };
        let place = "BGPNodeOverride n1".to_owned();
        objects.node_overrides.insert("n1".to_owned(), Shown { place, says });
        let n2 = intent(&objects, "n2", &[]).expect("node is known");
        assert!(n2.wanted.peers.contains_key(&loopback.into()), "{:?}", n2.wanted.peers);
        assert!(n2.wanted.declared.nodes.contains(&loopback));
        let links = links(&[("192.0.2.1", 24), ("203.0.113.1", 32), ("fd00::1", 64)]);
        let n1 = intent(&objects, "n1", &links).expect("node is known");
        assert!(n1.wanted.originated.contains_key(&Prefix::host(loopback)));
        assert_eq!(n1.node_addresses[&Family::Ipv4], loopback);
        assert_eq!(n1.problems, Vec::new());
    }

    #[test]
    fn a_running_identifier_outlives_the_address_it_was_made_from() {
        let running = intent(&objects(NODES), "n1", &[]).expect("node is known").wanted.router.router_id;
        let of = |manifests: &str| {
            let intent = intent_while_running(&objects(manifests), "n1", &Host::default(), Some(running));
            intent.expect("node is known").wanted.router.router_id.to_string()
        };
        let moved = NODES.replace("address: 192.0.2.1}", "address: 192.0.2.7}");
        assert_eq!(of(&moved), "192.0.2.1");
        assert_eq!(
            of(&moved.replace("address: 192.0.2.2}", "address: 192.0.2.1}")),
            "192.0.2.7",
            "it is n2's"
        );
        let ours = "---\napiVersion: cambric.dev/v1alpha1\nkind: BGPNodeOverride\nmetadata: {name: n1}\n\
                    spec: {routerID: 192.0.2.99}\n";
        assert_eq!(of(&format!("{NODES}{ours}")), "192.0.2.99");
    }

    /// Commands on peers take a name or an address; each must mean one.
    #[test]
    fn a_node_of_the_mesh_whose_name_is_taken_is_called_by_its_address() {
        let named = |name: &str, last: u8| {
            format!(
                "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\nspec: {{podCIDR: 10.9.{last}.0/24}}\n\
                 status: {{addresses: [{{type: InternalIP, address: 192.0.2.{last}}}]}}\n"
            )
        };
        let ours = "---
apiVersion: cambric.dev/v1alpha1
kind: BGPNodeOverride
metadata: {name: n1}
spec: {peers: [{name: tor, address: 172.16.11.0, asn: 65101}]}
";
        let nodes = [named("tor", 9), named("all", 10), named("n2-v6", 11), named("192.0.2.12", 12)].concat();
        let intent = intent(&objects(&format!("{NODES}{nodes}{ours}")), "n1", &[]).expect("node is known");
        let names: Vec<&str> = intent.wanted.peers.values().map(|peer| peer.name.as_str()).collect();
        assert_eq!(names, ["tor", "n2", "192.0.2.9", "192.0.2.10", "192.0.2.11", "192.0.2.12", "n2-v6"]);
        let problems: Vec<String> = intent.problems.iter().map(Problem::to_string).collect();
        let says = "all.yaml, document 4: Node all: metadata.name: all is taken or no name for a peer; its session is \
                    called 192.0.2.10; and so it is with others";
        assert_eq!(problems, [says], "a node that is called by its address is called so");
    }

    #[test]
    fn a_node_that_is_a_peer_of_all_nodes_is_none_of_its_own() {
        let ours = "---
apiVersion: cambric.dev/v1alpha1
kind: BGPClusterConfig
metadata: {name: c}
spec: {mesh: Disabled, peers: [{name: rr, address: 192.0.2.1, asn: 64512}]}
";
        let objects = objects(&format!("{NODES}{ours}"));
        for (name, peers) in [("n1", 0), ("n2", 1)] {
            let intent = intent(&objects, name, &[]).expect("node is known");
            let none = intent.problems.iter().all(|problem| !problem.what.contains("own address"));
            assert!(none && intent.wanted.peers.len() == peers, "{name}: {:?}", intent.problems);
        }
    }

    #[test]
    fn a_node_that_goes_on_without_its_object_says_what_that_means() {
        let problem = NoIntent::NodeUnknown("n1".to_owned()).problem_while_going_on().expect("a problem");
        let says = "Node n1: there is no Node object \"n1\"; it goes on as before, and nothing else is applied \
                    until it is back";
        assert_eq!(problem.to_string(), says);
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
  - {name: c, address: 172.16.11.6, asn: 65101}
  - {name: d, address: 172.16.11.7, asn: 65101}
---
apiVersion: cambric.dev/v1alpha1
kind: BGPNodeOverride
metadata: {name: n11}
spec: {}
";
        let links = links(&[("172.16.11.7", 31), ("192.0.2.1", 32), ("fd00::1", 128)]);
        let intent = intent(&objects(&format!("{NODES}{ours}")), "n1", &links).expect("node is known");
        let problems: Vec<String> = intent.problems.iter().map(Problem::to_string).collect();
        let place = "all.yaml, document 3: BGPNodeOverride n1: spec.peers";
        assert_eq!(
            problems,
            [
                format!("{place}[0].address: \"172.16.11.300\": not an IP address; this peer is left out"),
                format!(
                    "{place}[1].peerConfig: \"absent\" (peer b): no BGPPeerConfig of this name counts; it is left out"
                ),
                format!("{place}[3].address: 172.16.11.7 (peer d): an own address; it is left out"),
                "all.yaml, document 4: BGPNodeOverride n11: metadata.name: n11: there is no such Node"
                    .to_owned(),
            ]
        );
        let peers = intent.wanted.peers.values().map(|peer| peer.name.as_str());
        assert_eq!(peers.collect::<Vec<_>>(), ["c", "n2", "n2-v6"]);
    }

    #[test]
    fn each_of_two_nodes_with_one_range_announces_it_and_says_so() {
        let folder = tempfile::tempdir().expect("temporary folder");
        for name in ["n0", "n1"] {
            let node = format!(
                "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\nspec: {{podCIDRs: [10.1.0.0/24]}}\n"
            );
            std::fs::write(folder.path().join(format!("{name}.yaml")), node).expect("own folder");
        }
        for (own, other) in [("n0", "n1"), ("n1", "n0")] {
            let view = Folder::new(folder.path().to_owned(), own).view();
            let intent = intent(&view.fabric, own, &[]).expect("node is known");
            assert_eq!(intent.pod_prefixes, ["10.1.0.0/24".parse().expect("prefix")]);
            assert_eq!(intent.wanted.originated.len(), 1);
            let problems: Vec<String> = intent.problems.iter().map(Problem::to_string).collect();
            let says = format!(
                "{other}.yaml, document 1: Node {other}: spec.podCIDRs[0]: 10.1.0.0/24: Conflicted: overlaps \
                 10.1.0.0/24 of {own}.yaml, document 1: Node {own}; it is left out"
            );
            assert_eq!(problems, [says]);
        }
    }

    #[test]
    fn a_configuration_that_no_node_has_declares_nothing() {
        let config = |name: &str, range: &str| {
            format!(
                "---\napiVersion: cambric.dev/v1alpha1\nkind: BGPClusterConfig\nmetadata: {{name: {name}}}\nspec: {{podCIDRs: [{range}]}}\n"
            )
        };
        let both = config("first", "10.244.0.0/16") + &config("second", "0.0.0.0/1");
        let intent = intent(&objects(&format!("{NODES}{both}")), "n1", &[]).expect("node is known");
        let pods: Vec<String> = intent.wanted.declared.pods.iter().map(Prefix::to_string).collect();
        assert_eq!(pods, ["10.244.0.0/16", "fd00:10:244:1::/64"]);
        assert!(intent.problems[0].to_string().contains("second: spec.nodeSelector: Conflicted: "));
    }

    #[test]
    fn the_as_is_read_from_a_label_and_a_node_without_it_waits() {
        let ours = "---
apiVersion: cambric.dev/v1alpha1
kind: BGPClusterConfig
metadata: {name: racks}
spec: {asnLabel: rack}
";
        let objects = objects(&format!("{NODES}{ours}"));
        let of_n1 = intent(&objects, "n1", &[]).expect("its label says 1");
        assert_eq!(of_n1.wanted.router.asn.value(), 1);
        assert!(of_n1.wanted.peers.is_empty(), "nobody knows the AS of n2");
        let says = "all.yaml, document 2: Node n2: metadata.labels: rack: absent; it is no peer until that says its AS";
        assert!(of_n1.problems.iter().any(|problem| problem.to_string() == says), "{:?}", of_n1.problems);
        let of_n2 = intent(&objects, "n2", &[]).expect_err("its label is absent");
        assert_eq!(
            of_n2.waits_for(),
            ["the AS of all.yaml, document 2: Node n2: metadata.labels: rack: absent"]
        );
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
        let start = "objects that can be read: all.yaml, document 3: BGPClusterConfig default: spec.colour: ";
        assert!(waits_for[0].starts_with(start), "{waits_for:?}");
        assert!(waits_for[0].contains("unknown field `colour`"), "{waits_for:?}");
    }
}
