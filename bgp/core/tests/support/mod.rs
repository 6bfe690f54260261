//! What the tests of this folder share: a router with peers made of bytes ([`scripted`]), several routers
//! on one virtual clock ([`net`]), and short ways to write down configurations.
#![allow(dead_code, unreachable_pub, reason = "each test file uses another part of it")]

pub mod lines;
pub mod net;
pub mod scripted;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cambric_bgp::config::{ConnectMode, Export, Import, Link, LinkAddress, LinkState, Receive};
use cambric_bgp::rib::{Part, PathInfo, RouteInfo, Verdict};
use cambric_bgp::{
    Asn, AttributeSet, Family, Originated, PeerConfig, PeerId, PeerPolicy, Prefix, Router, RouterConfig,
    RouterId, ScopedAddress, Source, Wanted,
};

/// A configured IP address.
pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("address in a test")
}

/// The address of a neighbour.
pub fn scoped(text: &str) -> ScopedAddress {
    text.parse().expect("address in a test")
}

/// A prefix.
pub fn prefix(text: &str) -> Prefix {
    text.parse().expect("prefix in a test")
}

/// An AS number.
pub fn asn(value: u32) -> Asn {
    Asn::new(value).expect("AS number in a test")
}

/// Everything passes in both directions.
pub const OPEN_POLICY: PeerPolicy =
    PeerPolicy { import: Import::All, export: Export::All, filters: BTreeMap::new() };

/// A router without peers; its address is its identifier, too, and lies on one link with both families.
pub fn router(local_asn: u32, address: &str) -> Wanted {
    let router_id: RouterId = address.parse().expect("router id in a test");
    let mut wanted = Wanted::new(RouterConfig::new(asn(local_asn), router_id));
    let [.., host] = router_id.value().to_be_bytes();
    let addresses = [(ip(address), 16), (ip(&format!("fd00:2::{host:x}")), 64)];
    let addresses = addresses.map(|(address, length)| LinkAddress::new(address, length).expect("length"));
    wanted.links = vec![Link { name: "eth1".to_owned(), state: LinkState::Up, addresses: addresses.into() }];
    wanted
}

/// The same, with these neighbours and pod ranges of its own.
pub fn speaker<const N: usize>(
    local_asn: u32,
    address: &str,
    peers: [(ScopedAddress, PeerConfig); N],
    pods: &[&str],
) -> Wanted {
    let mut wanted = router(local_asn, address);
    wanted.peers = BTreeMap::from(peers);
    wanted.originated = pods.iter().map(|text| (prefix(text), Originated::plain(Source::Pods))).collect();
    wanted
}

/// Seconds of the virtual clock.
pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A neighbour for both families, open in both directions.
pub fn neighbor(peer_asn: u32, address: &str) -> (ScopedAddress, PeerConfig) {
    let config = PeerConfig {
        families: Family::ALL.into(),
        policy: OPEN_POLICY,
        ..PeerConfig::new(address, scoped(address).ip(), asn(peer_asn))
    };
    (scoped(address), config)
}

/// As [`neighbor`], and we do not connect.
pub fn passive(peer_asn: u32, address: &str) -> (ScopedAddress, PeerConfig) {
    let (address, config) = neighbor(peer_asn, address);
    (address, PeerConfig { connect: ConnectMode::Passive, ..config })
}

/// As it was, and it may tell several paths to a prefix of IPv4.
pub fn tells_several((address, mut config): (ScopedAddress, PeerConfig)) -> (ScopedAddress, PeerConfig) {
    config.add_path.entry(Family::Ipv4).or_default().receive = Receive::Several;
    (address, config)
}

/// All routes of a part of the tables with the paths that `wanted` lets through.
fn listed(router: &Router, part: Part, wanted: impl Fn(&PathInfo) -> bool) -> Vec<RouteInfo> {
    let mut routes = router.routes_to(&router.prefixes(part));
    routes.iter_mut().for_each(|route| route.paths.retain(&wanted));
    assert!(routes.iter().all(|route| !route.paths.is_empty()), "{part:?}: {routes:?}");
    routes
}

/// The whole table.
pub fn routes(router: &Router) -> Vec<RouteInfo> {
    listed(router, Part::All, |_| true)
}

/// What `peer` told, by prefix.
pub fn adj_rib_in(router: &Router, peer: PeerId) -> Vec<RouteInfo> {
    listed(router, Part::ToldBy(peer), |path| path.peer == Some(peer))
}

/// The refused paths of all peers, by prefix.
pub fn refused(router: &Router) -> Vec<RouteInfo> {
    listed(router, Part::Refused, |path| matches!(path.verdict, Verdict::Refused(_)))
}

/// What `peer` was told, by prefix.
pub fn adj_rib_out(router: &Router, peer: PeerId) -> Vec<(Prefix, Arc<AttributeSet>)> {
    let mut prefixes = router.prefixes(Part::ToldTo(peer));
    prefixes.sort_unstable();
    let sent = router.sent(peer, &prefixes).into_iter();
    sent.map(|(route, attributes)| (route.prefix, attributes)).collect()
}
