//! From BGP to the kernel: the one place where a learned route becomes a wanted route.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cambric_bgp::rib::RouteChange;
use cambric_bgp::{Family, Prefix, ScopedAddress, config};
use cambric_routes::{Change, LinkTable, NextHop, Target, WantedRoute};
use ipnetwork::IpNetwork;

/// A learned route, its own packets coming from the node's address. An own range that was learned before
/// stays unreachable when the learned route goes.
pub fn learned(change: RouteChange, own: &[Prefix], sources: &BTreeMap<Family, IpAddr>) -> Change {
    if change.next_hops.is_empty() {
        return if own.contains(&change.prefix) { unreachable(change.prefix) } else { drop(change.prefix) };
    }
    let network = IpNetwork::from(change.prefix);
    let target = Target::Via(change.next_hops.iter().map(next_hop).collect());
    let source = sources.get(&change.prefix.family()).copied();
    Change::Want(WantedRoute::new(network, target, source))
}

/// A link-local gateway with its link; where another one is, its subnet says.
fn next_hop(gateway: &ScopedAddress) -> NextHop {
    NextHop { gateway: gateway.ip(), interface: gateway.interface().map(str::to_owned) }
}

/// What nobody in the own range answers for must not go back to the switch.
pub fn unreachable(prefix: Prefix) -> Change {
    Change::Want(WantedRoute::new(prefix.into(), Target::Unreachable, None))
}

/// The range is not ours any more.
pub fn drop(prefix: Prefix) -> Change {
    Change::Drop(IpNetwork::from(prefix).into())
}

/// Those of `some` that `others` lack.
pub fn only_in(some: &[Prefix], others: &[Prefix]) -> impl Iterator<Item = Prefix> {
    some.iter().filter(|prefix| !others.contains(prefix)).copied()
}

/// The kernel's family of one of ours.
pub fn family(family: Family) -> cambric_routes::Family {
    match family {
        Family::Ipv4 => cambric_routes::Family::Ipv4,
        Family::Ipv6 => cambric_routes::Family::Ipv6,
    }
}

/// The links of the host as BGP looks at them. Link-local addresses are left out: every pod's veth has
/// one, and none is a next hop, but on the links of unnumbered peers, whose they are added to ([`link`]).
pub fn links(table: &LinkTable) -> Vec<config::Link> {
    let is_global = |address: &IpAddr| match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    };
    let mut links: Vec<config::Link> = table
        .iter()
        .map(link)
        .map(|mut link| {
            link.addresses.retain(|entry| is_global(&entry.address));
            link
        })
        .filter(|link| !link.addresses.is_empty())
        .collect();
    links.sort_by(|one, other| one.name.cmp(&other.name));
    links
}

/// One link with all its addresses that are in use: one that is still looked at for duplicates serves nobody.
pub fn link(link: &cambric_routes::Link) -> config::Link {
    let is_valid = |entry: &&cambric_routes::LinkAddress| !(entry.tentative && is_link_local(entry.address));
    config::Link {
        name: link.name.clone(),
        state: if link.usable() { config::LinkState::Up } else { config::LinkState::Down },
        addresses: link
            .addresses
            .iter()
            .filter(is_valid)
            .map(|entry| config::LinkAddress {
                address: entry.address,
                subnet: Prefix::from(entry.subnet.network()),
            })
            .collect(),
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_own_range_stays_unreachable_when_its_learned_route_goes() {
        let [own, other] = ["10.244.2.0/24", "10.244.3.0/24"].map(|text| text.parse().expect("prefix"));
        let gone = |prefix| RouteChange { prefix, next_hops: BTreeSet::new() };
        let learned = |change| learned(change, &[own], &BTreeMap::new());
        assert_eq!(learned(gone(own)), unreachable(own));
        assert_eq!(learned(gone(other)), drop(other));
    }

    #[test]
    fn only_new_ranges_are_set_and_only_lost_ones_dropped() {
        let [kept, new, lost] =
            ["10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24"].map(|text| text.parse().expect("prefix"));
        assert!(only_in(&[kept, new], &[kept, lost]).eq([new]));
        assert!(only_in(&[kept, lost], &[kept, new]).eq([lost]));
    }
}
