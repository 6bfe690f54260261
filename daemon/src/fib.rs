//! From BGP to the kernel: the one place where a learned route becomes a wanted route.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cambric_bgp::rib::RouteChange;
use cambric_bgp::{Family, Prefix, config};
use cambric_routes::{Change, LinkTable, NextHop, Target, WantedRoute};
use ipnetwork::IpNetwork;

/// A learned route, its own packets coming from the node's address.
pub fn learned(change: RouteChange, sources: &BTreeMap<Family, IpAddr>) -> Change {
    let network = IpNetwork::from(change.prefix);
    if change.next_hops.is_empty() {
        return Change::Drop(network.into());
    }
    let target = Target::Via(change.next_hops.into_iter().map(NextHop::on_link).collect());
    let source = sources.get(&change.prefix.family()).copied();
    Change::Want(WantedRoute::new(network, target, source))
}

/// What nobody in the own range answers for must not go back to the switch.
pub fn unreachable(prefix: Prefix) -> Change {
    Change::Want(WantedRoute::new(prefix.into(), Target::Unreachable, None))
}

/// The range is not ours any more.
pub fn drop(prefix: Prefix) -> Change {
    Change::Drop(IpNetwork::from(prefix).into())
}

/// The kernel's family of one of ours.
pub fn family(family: Family) -> cambric_routes::Family {
    match family {
        Family::Ipv4 => cambric_routes::Family::Ipv4,
        Family::Ipv6 => cambric_routes::Family::Ipv6,
    }
}

/// The links of the host as BGP looks at them. Link-local addresses are left out: every pod's veth has
/// one, and none is a next hop.
pub fn links(table: &LinkTable) -> Vec<config::Link> {
    let is_global = |address: &IpAddr| match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    };
    let mut links: Vec<config::Link> = table
        .iter()
        .map(|link| config::Link {
            name: link.name.clone(),
            state: if link.usable() { config::LinkState::Up } else { config::LinkState::Down },
            addresses: link
                .addresses
                .iter()
                .filter(|entry| is_global(&entry.address))
                .map(|entry| config::LinkAddress {
                    address: entry.address,
                    subnet: Prefix::from(entry.subnet.network()),
                })
                .collect(),
        })
        .filter(|link| !link.addresses.is_empty())
        .collect();
    links.sort_by(|one, other| one.name.cmp(&other.name));
    links
}
