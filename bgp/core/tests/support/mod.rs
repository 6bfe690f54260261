//! What the tests of this folder share: a router with peers made of bytes ([`scripted`]), several routers
//! on one virtual clock ([`net`]), and short ways to write down configurations.
#![allow(dead_code, unreachable_pub, reason = "each test file uses another part of it")]

pub mod net;
pub mod scripted;

use std::net::IpAddr;

use cambric_bgp::config::{ConnectMode, Export, Import, Link, LinkAddress, LinkState};
use cambric_bgp::{Asn, Family, PeerConfig, PeerPolicy, Prefix, RouterConfig, RouterId, Wanted};

/// A configured IP address.
pub fn ip(text: &str) -> IpAddr {
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
pub const OPEN_POLICY: PeerPolicy = PeerPolicy { import: Import::All, export: Export::All };

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

/// A neighbour for both families, open in both directions.
pub fn neighbor(peer_asn: u32, address: &str) -> (IpAddr, PeerConfig) {
    let config = PeerConfig {
        families: Family::ALL.into(),
        policy: OPEN_POLICY,
        ..PeerConfig::new(address, ip(address), asn(peer_asn))
    };
    (ip(address), config)
}

/// As [`neighbor`], and we do not connect.
pub fn passive(peer_asn: u32, address: &str) -> (IpAddr, PeerConfig) {
    let (address, config) = neighbor(peer_asn, address);
    (address, PeerConfig { connect: ConnectMode::Passive, ..config })
}
