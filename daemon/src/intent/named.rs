//! Peers that manifests name, as the speaker is told of them: by address, at the default gateway, behind an interface, or of
//! a range.
//!
//! Who is named by an address goes before who turns out to have it. A gateway is found by each node by itself, and a peer
//! whose gateway is not there now is told of as a problem: it comes with the route.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use cambric_bgp::config::{
    AsOverride, ConnectMode, FamilyFilters, Link, LinkAddress, LinkState, ListenRange, ReflectorRole,
};
use cambric_bgp::policy::filter::Filter;
use cambric_bgp::types::PeerKind;
use cambric_bgp::{Family, PeerConfig, Prefix, ScopedAddress, Wanted};

use super::Cluster;
use crate::discovery::Neighborhood;
use crate::host::{Host, Unnumbered};
use crate::objects::{FilterNames, Kind, Peer, PeerOptions, Problem, Reason};
use crate::own_address::Said;
use crate::site::Site;

/// What came of it beside the peers themselves.
pub(super) struct Added {
    /// Those that are at default gateways.
    pub(super) gateways: BTreeMap<ScopedAddress, Family>,
    /// The interfaces that are named.
    pub(super) unnumbered: BTreeSet<String>,
    /// What is wrong.
    pub(super) problems: Vec<Problem>,
}

/// Adds them to `wanted`, for the node that `said` is about.
pub(super) fn add(wanted: &mut Wanted, cluster: Cluster, said: &Said, host: &Host) -> Added {
    let mut named: Vec<Named> = cluster.peers(said.name).collect();
    named.sort_by_key(|named| match named.peer.site {
        Site::Address(_) => 0,
        Site::DefaultGateway(_) => 1,
        Site::Range(_) | Site::Interface(_) => 2,
    });
    let added = Added { gateways: BTreeMap::new(), unnumbered: BTreeSet::new(), problems: Vec::new() };
    let mut adding = Adding { wanted, cluster, said, host, added };
    named.iter().for_each(|named| adding.add(named));
    adding.added
}

/// A peer, and the object that names it.
pub(super) struct Named<'a> {
    pub(super) kind: Kind,
    /// Its name.
    pub(super) of: &'a str,
    pub(super) place: &'a str,
    pub(super) peer: &'a Peer,
}

impl Named<'_> {
    /// What other nodes may not find.
    fn problem(&self, reason: Reason, what: impl std::fmt::Display) -> Problem {
        let Peer { field, name, site, .. } = self.peer;
        let what = format!("{field}.{}: {site} (peer {name}): {what}", site.field());
        Problem::new(self.place, what).about(self.kind, self.of).because(reason).found_here()
    }
}

struct Adding<'a> {
    wanted: &'a mut Wanted,
    cluster: Cluster<'a>,
    said: &'a Said<'a>,
    host: &'a Host,
    added: Added,
}

impl Adding<'_> {
    fn add(&mut self, named: &Named) {
        match named.peer.site {
            Site::Address(address) => self.add_address(named, address),
            Site::DefaultGateway(family) => self.add_gateway(named, family),
            Site::Range(range) => self.add_range(named, range),
            Site::Interface(name) => self.add_interface(named, name.as_str()),
        }
    }

    fn add_address(&mut self, named: &Named, address: IpAddr) {
        // One of the peers of all nodes may be this one, as a route reflector is.
        if named.kind == Kind::BGPClusterConfig && self.is_known_as(address) {
            return;
        }
        if self.is_own(address) {
            return self
                .added
                .problems
                .push(named.problem(Reason::Invalid, "an own address; it is left out"));
        }
        match self.config(named, address) {
            Some(config) => drop(self.wanted.peers.insert(address.into(), config)),
            None => drop(self.wanted.closed.insert(Prefix::host(address))),
        }
    }

    fn add_gateway(&mut self, named: &Named, family: Family) {
        let (now, former) = (self.host.gateways.get(&family), self.host.former_gateways.get(&family));
        let Some(gateway) = now.or(former).copied() else {
            let what = "this node has no default route with a gateway; the peer comes with it";
            return self.added.problems.push(named.problem(Reason::Missing, what));
        };
        if now.is_none() {
            let what = format!(
                "this node has no default route with a gateway any more; the peer stays at {gateway}"
            );
            self.added.problems.push(named.problem(Reason::Missing, what));
        }
        let is_link_local = matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if is_link_local {
            let what =
                format!("{gateway} is a link-local address: name its interface in its place; it is left out");
            return self.added.problems.push(named.problem(Reason::Invalid, what));
        }
        if let Some(other) = self.wanted.peers.get(&gateway.into()) {
            let what = format!("{gateway} is that of peer {}; it is left out", other.name);
            return self.added.problems.push(named.problem(Reason::Invalid, what));
        }
        if self.is_own(gateway) {
            let what = format!("{gateway} is an own address; it is left out");
            return self.added.problems.push(named.problem(Reason::Invalid, what));
        }
        match self.config(named, gateway) {
            Some(config) => {
                self.wanted.peers.insert(gateway.into(), config);
                self.added.gateways.insert(gateway.into(), family);
            }
            None => drop(self.wanted.closed.insert(Prefix::host(gateway))),
        }
    }

    fn add_range(&mut self, named: &Named, range: Prefix) {
        let Some(template) = self.config(named, range.address()) else {
            self.wanted.closed.insert(range);
            return;
        };
        if template.connect == ConnectMode::Active {
            let what = "its peerConfig says connect: Active, and whoever is in a range calls; it is left out";
            return self.added.problems.push(named.problem(Reason::Invalid, what));
        }
        let most_peers = named.peer.most_peers;
        self.wanted.listen_ranges.insert(range, ListenRange { template, most_peers });
    }

    /// Where the peer is, the host finds out; while it has not looked, nothing is wrong.
    fn add_interface(&mut self, named: &Named, interface: &str) {
        self.added.unnumbered.insert(interface.to_owned());
        let Some(Unnumbered { link, neighborhood }) = self.host.unnumbered.get(interface) else { return };
        if let Some(link) = link {
            self.add_link(link);
        }
        let what = match (link, neighborhood) {
            (None, _) => Some("this node has no such interface; the peer comes with it".to_owned()),
            (Some(link), _) if link.state == LinkState::Down => {
                let is_unknown = neighborhood.router.is_none();
                is_unknown.then(|| "its link is down; the peer comes with it".to_owned())
            }
            (Some(link), Neighborhood { obstacle, .. }) if !link.addresses.iter().any(is_on_link) => {
                let why = obstacle.as_ref().map_or_else(String::new, |why| format!(": {why}"));
                Some(format!("it has no link-local IPv6 address{why}"))
            }
            (_, Neighborhood { router: None, obstacle, .. }) => {
                let why = obstacle.as_ref().map_or_else(String::new, |why| format!(": {why}"));
                Some(format!("no router advertisement was heard there; the peer comes with the first{why}"))
            }
            (_, Neighborhood { router: Some(router), rival: Some(rival), .. }) => Some(format!(
                "two routers advertise themselves there, {router} and {rival}, and a peer is one: it stays at {router}"
            )),
            _ => None,
        };
        self.added.problems.extend(what.map(|what| named.problem(Reason::Missing, what)));
        let Some(router) = neighborhood.router.map(IpAddr::from) else { return };
        if let Some(config) = self.config(named, router) {
            self.wanted.peers.insert(ScopedAddress::on(router, Some(interface)), config);
        }
    }

    /// With the link-local addresses, which are our ends of sessions and next hops there.
    fn add_link(&mut self, link: &Link) {
        let links = &mut self.wanted.links;
        match links.iter_mut().find(|known| known.name == link.name) {
            Some(known) => known.addresses.clone_from(&link.addresses),
            None => links.push(link.clone()),
        }
    }

    /// Nothing if it refers to options that nobody has, or to a key.
    fn config(&mut self, named: &Named, address: IpAddr) -> Option<PeerConfig> {
        let Peer { name, asn, port, local_address, local_interface, peer_config, .. } = named.peer;
        let mut config = PeerConfig::new(name, address, *asn);
        config.port = port.unwrap_or(config.port);
        config.transport.local_address = *local_address;
        config.transport.interface.clone_from(local_interface);
        if let Some(name) = peer_config {
            let options = &self.cluster.objects.peer_configs.get(name)?.says;
            if let Some(key) = &options.secret {
                config.transport.password = Some(self.cluster.objects.key(key).ok()?.clone());
            }
            set_options(&mut config, options);
            config.policy.filters = filters(self.cluster, &options.filters)?;
            self.added.problems.extend(self.without_what_is_of_the_other_kind(&mut config).map(|what| {
                let what = format!("peerConfig {name:?} says {what}: that does nothing here");
                named.problem(Reason::Invalid, what)
            }));
        }
        Some(config)
    }

    /// Takes out what is for peers of the other kind, and says what it was.
    fn without_what_is_of_the_other_kind(&self, config: &mut PeerConfig) -> Option<&'static str> {
        let local_asn = config.local_asn.take();
        match config.kind(self.wanted.router.asn) {
            PeerKind::Internal if config.local_role.take().is_some() => {
                Some("localRole, which is for external peers")
            }
            PeerKind::Internal if local_asn.is_some() => Some("localAS, which is for external peers"),
            PeerKind::Internal if config.as_override == AsOverride::On => {
                config.as_override = AsOverride::Off;
                Some("asOverride, which is for external peers")
            }
            PeerKind::External if config.role == ReflectorRole::Client => {
                config.local_asn = local_asn;
                config.role = ReflectorRole::NonClient;
                Some("reflectorClient, which is for internal peers")
            }
            PeerKind::Internal => None,
            PeerKind::External => {
                config.local_asn = local_asn;
                None
            }
        }
    }

    fn is_known_as(&self, address: IpAddr) -> bool {
        self.said.acceptable().any(|own| own == address)
    }

    fn is_own(&self, address: IpAddr) -> bool {
        let mut on_links = self.host.links.iter().flat_map(|link| &link.addresses).map(|entry| entry.address);
        on_links.any(|own| own == address) || self.is_known_as(address)
    }
}

fn is_on_link(entry: &LinkAddress) -> bool {
    matches!(entry.address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// The filters that are named; `None` if one is missing. Many peers share one.
fn filters(
    cluster: Cluster,
    names: &BTreeMap<Family, FilterNames>,
) -> Option<BTreeMap<Family, FamilyFilters>> {
    let of_names = |names: &[String]| -> Option<Vec<Arc<Filter>>> {
        names.iter().map(|name| Some(Arc::clone(&cluster.objects.filters.get(name)?.says))).collect()
    };
    let of_family = |(family, FilterNames { field: _, import, export }): (&Family, &FilterNames)| {
        Some((*family, FamilyFilters { import: of_names(import)?, export: of_names(export)? }))
    };
    names.iter().map(of_family).collect()
}

fn set_options(config: &mut PeerConfig, options: &PeerOptions) {
    let PeerOptions { hold_time, keepalive, families, connect, policy, max_prefixes, .. } = options;
    config.hold_time = hold_time.unwrap_or(config.hold_time);
    config.keepalive = *keepalive;
    config.families = families.clone().unwrap_or_else(|| config.families.clone());
    config.connect = *connect;
    config.policy.clone_from(policy);
    config.max_prefixes = max_prefixes.unwrap_or(config.max_prefixes);
    config.warn_at_percent = options.warn_at_percent.unwrap_or(config.warn_at_percent);
    let PeerOptions { distance, local_asn, as_override, allow_own_as, role, .. } = options;
    config.transport.distance = *distance;
    config.local_asn = *local_asn;
    config.as_override = *as_override;
    config.allow_own_as = *allow_own_as;
    config.role = *role;
    let PeerOptions { restart_time, long_lived, .. } = options;
    config.bfd = options.bfd;
    config.restart.restart_time = *restart_time;
    config.restart.long_lived = long_lived.unwrap_or(config.restart.long_lived);
    config.add_path.clone_from(&options.add_path);
    config.local_role = options.local_role;
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU8;
    use std::time::Duration;

    use cambric_bgp::config::{
        AddPath, Distance, Link, LinkAddress, LinkState, LocalRole, PeerAsn, Receive, RestartConfig, Role,
        Silence,
    };
    use cambric_bgp::{Asn, RouterConfig, RouterId};

    use super::*;
    use crate::intent::{Intent, intent_while_running};
    use crate::source::folder::Folder;

    const NODE: &str = "apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDR: 10.244.1.0/24}
status: {addresses: [{type: InternalIP, address: 192.0.2.11}]}
";

    fn ours(kind: &str, name: &str, spec: &str) -> String {
        format!(
            "---\napiVersion: cambric.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"
        )
    }

    /// Of a node that is told of these peers, with these options.
    fn told(peers: &str, options: &str, host: &Host) -> (Intent, Vec<String>) {
        let folder = tempfile::tempdir().expect("temporary folder");
        let overrides =
            ours("BGPNodeOverride", "n1", &format!("{{asn: 65011, clusterID: 9.9.9.9, peers: [{peers}]}}"));
        let text = [NODE, &overrides, &ours("BGPPeerConfig", "o", options)].concat();
        std::fs::write(folder.path().join("all.yaml"), text).expect("temporary file");
        let view = Folder::new(folder.path().to_owned(), "n1").view();
        let intent = intent_while_running(&view.fabric, "n1", host, None).expect("node is known");
        let place = "all.yaml, document 2: BGPNodeOverride n1: spec.";
        let problems = intent.problems.iter().map(|problem| problem.to_string().replace(place, "")).collect();
        (intent, problems)
    }

    fn addresses(intent: &Intent) -> Vec<String> {
        intent.wanted.peers.keys().map(ScopedAddress::to_string).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    #[test]
    fn a_peer_at_the_default_gateway_is_where_the_route_points_to() {
        let peers = "{name: gw, defaultGateway: ipv4, peerAS: External}";
        let (intent, problems) = told(peers, "{}", &Host::default());
        let says = "peers[0].defaultGateway: ipv4 (peer gw): this node has no default route with a gateway; the peer \
                    comes with it";
        assert_eq!((addresses(&intent), problems), (vec![], vec![says.to_owned()]));
        assert_eq!(intent.problems[0].reason, Reason::Missing);
        for gateway in ["192.0.2.1", "198.51.100.1"] {
            let (intent, problems) = told(peers, "{}", &Host::with_gateways([ip(gateway), ip("fd00::1")]));
            assert_eq!((addresses(&intent), problems), (vec![gateway.to_owned()], vec![]));
            assert_eq!(intent.gateways, [(ip(gateway).into(), Family::Ipv4)].into());
            assert_eq!(intent.wanted.peers[&ip(gateway).into()].asn, PeerAsn::External);
        }
    }

    #[test]
    fn a_peer_whose_default_route_goes_stays_where_it_was() {
        let peers = "{name: gw, defaultGateway: ipv4, asn: 1}";
        let gone = Host::with_gateways([ip("192.0.2.1")]).with_these_gateways(BTreeMap::new());
        for host in [gone.clone(), gone.with_these_gateways(BTreeMap::new())] {
            let (intent, problems) = told(peers, "{}", &host);
            let says = "peers[0].defaultGateway: ipv4 (peer gw): this node has no default route with a gateway any more; \
                        the peer stays at 192.0.2.1";
            assert_eq!((addresses(&intent), problems), (vec!["192.0.2.1".to_owned()], vec![says.to_owned()]));
        }
        let other = gone.with_these_gateways([(Family::Ipv4, ip("192.0.2.9"))].into());
        let (intent, problems) = told(peers, "{}", &other);
        assert_eq!((addresses(&intent), problems), (vec!["192.0.2.9".to_owned()], vec![]));
    }

    #[test]
    fn who_lacks_a_key_does_not_come_in_by_a_range_that_needs_none() {
        let peers = "{name: tor, address: 10.1.0.5, asn: 1, peerConfig: o}, \
                     {name: near, listenRange: 10.1.7.0/24, asn: 1, peerConfig: o}, \
                     {name: racks, listenRange: 10.1.0.0/16, asn: 1}";
        let (intent, _) = told(peers, "{secret: {name: absent}}", &Host::default());
        assert_eq!(addresses(&intent), Vec::<String>::new());
        assert_eq!(
            intent.wanted.listen_ranges.keys().map(Prefix::to_string).collect::<Vec<_>>(),
            ["10.1.0.0/16"]
        );
        let closed: Vec<String> = intent.wanted.closed.iter().map(Prefix::to_string).collect();
        assert_eq!(closed, ["10.1.0.5/32", "10.1.7.0/24"]);
    }

    #[test]
    fn a_gateway_that_can_be_no_peer_is_named() {
        let gateway = "{name: gw, defaultGateway: ipv4, asn: 1}, {name: v6, defaultGateway: ipv6, asn: 1}";
        let peers = format!("{gateway}, {{name: tor, address: 192.0.2.1, asn: 1}}");
        let (intent, problems) = told(&peers, "{}", &Host::with_gateways([ip("192.0.2.1"), ip("fe80::1")]));
        let says = [
            "peers[0].defaultGateway: ipv4 (peer gw): 192.0.2.1 is that of peer tor; it is left out",
            "peers[1].defaultGateway: ipv6 (peer v6): fe80::1 is a link-local address: name its interface in its place; it is \
             left out",
        ];
        assert_eq!(
            (addresses(&intent), problems),
            (vec!["192.0.2.1".to_owned()], says.map(str::to_owned).into())
        );
        assert_eq!(intent.wanted.peers[&ip("192.0.2.1").into()].name, "tor", "who is named goes first");
        let (intent, problems) = told(gateway, "{}", &Host::with_gateways([ip("192.0.2.11"), ip("fd00::1")]));
        assert_eq!(addresses(&intent), ["fd00::1"]);
        assert_eq!(
            problems,
            ["peers[0].defaultGateway: ipv4 (peer gw): 192.0.2.11 is an own address; it is left out"]
        );
    }

    #[test]
    fn a_listen_range_has_a_template_a_limit_and_the_links_that_lead_into_it() {
        let peers = "{name: racks, listenRange: 10.1.0.0/16, peerAS: External, peerConfig: o, maxPeers: 7}, \
                     {name: six, listenRange: 'fd00::/64', asn: 65000}";
        let subnet = LinkAddress::new(ip("10.1.2.3"), 24).expect("length");
        let link = Link { name: "eth7".to_owned(), state: LinkState::Up, addresses: vec![subnet] };
        let (intent, problems) = told(peers, "{holdTimeSeconds: 9}", &Host::with_links(&[link]));
        assert_eq!((addresses(&intent), problems.len()), (vec![], 1), "{problems:?}");
        let ranges = &intent.wanted.listen_ranges;
        let racks = &ranges[&"10.1.0.0/16".parse().expect("range")];
        assert_eq!((racks.most_peers, racks.template.name.as_str()), (7, "racks"));
        assert_eq!((racks.template.hold_time.as_secs(), racks.template.asn), (9, PeerAsn::External));
        let six = &ranges[&"fd00::/64".parse().expect("range")];
        assert_eq!((six.most_peers, six.template.families.clone()), (100, [Family::Ipv6].into()));
        assert!(intent.uplinks.contains("eth7"), "{:?}", intent.uplinks);
        let (intent, problems) = told(peers, "{connect: Active}", &Host::default());
        assert_eq!(intent.wanted.listen_ranges.len(), 1);
        let says = "peers[0].listenRange: 10.1.0.0/16 (peer racks): its peerConfig says connect: Active, and whoever is \
                    in a range calls; it is left out";
        assert!(problems.contains(&says.to_owned()), "{problems:?}");
    }

    /// A host with an interface eth1, on which this was heard.
    fn host_with(link: Option<(LinkState, &[(&str, u8)])>, neighborhood: Neighborhood) -> Host {
        let link = link.map(|(state, addresses)| {
            let address = |(text, length): &(&str, u8)| LinkAddress::new(ip(text), *length).expect("length");
            Link { name: "eth1".to_owned(), state, addresses: addresses.iter().map(address).collect() }
        });
        let unnumbered = [("eth1".to_owned(), Unnumbered { link, neighborhood })].into();
        Host { unnumbered, ..Host::default() }
    }

    #[test]
    fn a_peer_behind_an_interface_is_where_its_router_advertises_itself() {
        let peers = "{name: tor, interface: eth1, peerAS: External}";
        let (intent, problems) = told(peers, "{}", &Host::default());
        assert_eq!((addresses(&intent), problems), (vec![], vec![]), "nobody has looked yet");
        assert_eq!(intent.unnumbered, ["eth1".to_owned()].into());
        let heard = |router: &str| Neighborhood { router: router.parse().ok(), ..Neighborhood::default() };
        let up = Some((LinkState::Up, &[("fe80::11", 64), ("192.0.2.99", 24)][..]));
        for router in ["fe80::1", "fe80::2"] {
            let (intent, problems) = told(peers, "{}", &host_with(up, heard(router)));
            assert_eq!((addresses(&intent), problems), (vec![format!("{router}%eth1")], vec![]));
            let peer = intent.wanted.peers.values().next().expect("one");
            assert_eq!((peer.families.len(), peer.asn), (2, PeerAsn::External));
            let own: Vec<String> =
                intent.wanted.links[0].addresses.iter().map(|entry| entry.address.to_string()).collect();
            assert_eq!(own, ["fe80::11", "192.0.2.99"], "our end is a next hop");
            assert!(intent.uplinks.contains("eth1"));
        }
        let (intent, _) = told(peers, "{}", &host_with(Some((LinkState::Down, &[])), heard("fe80::1")));
        assert_eq!(addresses(&intent), ["fe80::1%eth1"], "it stays where it was");
    }

    #[test]
    fn what_is_missing_for_a_peer_behind_an_interface_is_said() {
        let up = Some((LinkState::Up, &[("fe80::11", 64)][..]));
        let unknown = Neighborhood::default;
        let off = Neighborhood { obstacle: Some("a sysctl".to_owned()), ..unknown() };
        let rival =
            Neighborhood { router: "fe80::1".parse().ok(), rival: "fe80::2".parse().ok(), obstacle: None };
        let table = [
            (None, unknown(), "this node has no such interface; the peer comes with it"),
            (Some((LinkState::Down, &[][..])), unknown(), "its link is down; the peer comes with it"),
            (Some((LinkState::Up, &[][..])), off, "it has no link-local IPv6 address: a sysctl"),
            (up, unknown(), "no router advertisement was heard there; the peer comes with the first"),
            (
                up,
                rival,
                "two routers advertise themselves there, fe80::1 and fe80::2, and a peer is one: it stays at fe80::1",
            ),
        ];
        for (link, neighborhood, expected) in table {
            let host = host_with(link, neighborhood);
            let (_, problems) = told("{name: tor, interface: eth1, asn: 1}", "{}", &host);
            assert_eq!(problems, [format!("peers[0].interface: eth1 (peer tor): {expected}")]);
        }
    }

    #[test]
    fn all_that_is_said_of_a_peer_reaches_the_speaker() {
        let peers = "{name: tor, address: 192.0.2.1, asn: 65101, localInterface: eth0, localAddress: 192.0.2.11, \
                     peerConfig: o}";
        let of = |options: &str| {
            let (intent, _) = told(peers, options, &Host::default());
            assert_eq!(intent.wanted.router.cluster_id.map(|id| id.to_string()).as_deref(), Some("9.9.9.9"));
            intent.wanted.peers[&ip("192.0.2.1").into()].clone()
        };
        let all =
            of("{multihop: {ttl: 4}, connect: Active, localAS: 64999, asOverride: Enabled, allowOwnAS: 2}");
        assert_eq!(all.transport.interface.as_deref(), Some("eth0"));
        assert_eq!(
            (all.transport.local_address, all.transport.distance),
            (Some(ip("192.0.2.11")), Distance::Multihop(4))
        );
        assert_eq!((all.connect, all.local_asn), (ConnectMode::Active, Asn::new(64999)));
        assert_eq!((all.as_override, all.allow_own_as), (AsOverride::On, 2));
        assert_eq!(of("{ttlSecurity: {hops: 3}}").transport.distance, Distance::Within(3));
        assert_eq!(of("{}").transport.distance, Distance::Adjacent);
        let several = of("{addPath: [{family: ipv4, receive: Enabled, sendPaths: 4}, {family: ipv6}], \
                          localRole: Customer, strictRole: Enabled}");
        let ipv4 = AddPath { receive: Receive::Several, send: NonZeroU8::new(4) };
        assert_eq!(several.add_path, [(Family::Ipv4, ipv4), (Family::Ipv6, AddPath::default())].into());
        let role = LocalRole { role: Role::Customer, silence: Silence::Refused };
        assert_eq!((several.local_role, of("{}").local_role), (Some(role), None));
    }

    #[test]
    fn graceful_restart_of_a_config_is_what_the_peer_is_asked_for() {
        let peers = "{name: tor, address: 192.0.2.1, asn: 65101, peerConfig: o}";
        let (restart, long_lived) = (Some(Duration::from_secs(30)), Duration::from_secs(600));
        let hour = Duration::from_secs(3600);
        for (options, restart_time, long_lived) in [
            ("{}", None, hour),
            ("{gracefulRestart: {}}", None, hour),
            ("{gracefulRestart: {restartSeconds: 30}}", restart, hour),
            ("{gracefulRestart: {restartSeconds: 30, longLivedSeconds: 600}}", restart, long_lived),
            ("{gracefulRestart: {longLivedSeconds: 0}}", None, Duration::ZERO),
        ] {
            let (intent, problems) = told(peers, options, &Host::default());
            assert_eq!(problems, [""; 0], "{options}");
            let asked_for = intent.wanted.peers[&ip("192.0.2.1").into()].restart;
            assert_eq!(asked_for, RestartConfig { restart_time, long_lived }, "{options}");
        }
        assert_eq!(
            RouterConfig::new(Asn::TRANS, RouterId::new(1).expect("not 0")).restart_time.as_secs(),
            120
        );
        let (_, problems) = told(peers, "{gracefulRestart: {restartSeconds: 4096}}", &Host::default());
        let says = "spec.gracefulRestart.restartSeconds: 4096: 1 to 4095 (RFC 4724 section 3)";
        assert!(problems.iter().any(|problem| problem.contains(says)), "{problems:?}");
    }

    #[test]
    fn options_for_peers_of_the_other_kind_do_nothing_and_are_named() {
        for (asn, options, says) in [
            (65101, "reflectorClient: Enabled", "reflectorClient, which is for internal peers"),
            (65011, "asOverride: Enabled", "asOverride, which is for external peers"),
            (65011, "localAS: 64999", "localAS, which is for external peers"),
            (65011, "localRole: Customer", "localRole, which is for external peers"),
        ] {
            let peers = format!("{{name: a, address: 192.0.2.1, asn: {asn}, peerConfig: o}}");
            let (intent, problems) = told(&peers, &format!("{{{options}}}"), &Host::default());
            let expected = format!(
                "peers[0].address: 192.0.2.1 (peer a): peerConfig \"o\" says {says}: that does nothing here"
            );
            assert_eq!((addresses(&intent).len(), problems.contains(&expected)), (1, true), "{problems:?}");
            assert_eq!(intent.wanted.peers[&ip("192.0.2.1").into()].local_asn, None);
            let asn = 65101 + 65011 - asn;
            let peers = format!("{{name: a, address: 192.0.2.1, asn: {asn}, peerConfig: o}}");
            let (_, problems) = told(&peers, &format!("{{{options}}}"), &Host::default());
            assert!(!problems.iter().any(|problem| problem.contains("does nothing")), "{problems:?}");
        }
    }
}
