//! Interfaces of the node, their carrier and their addresses, as the kernel last told.
//!
//! From it follow three answers: on which interface a gateway lies, whether that interface can carry packets
//! now, and whether an address may serve as a preferred source.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::{
    next_hops::{Hop, LinkIndex},
    wanted::{Family, NextHop, Prefix},
};

/// All interfaces by index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkTable {
    links: BTreeMap<LinkIndex, Link>,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in this network namespace.
    pub index: LinkIndex,
    /// Its name; can change while the number stays.
    pub name: String,
    /// Whether the operator has it up (`IFF_UP`).
    pub admin_up: bool,
    /// Whether the lower layer carries signal (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// The longest packet it takes, in octets.
    pub mtu_bytes: u32,
    /// Its Ethernet address; `None` if it has no such thing (loopback, tunnel).
    pub mac: Option<[u8; 6]>,
    /// Its addresses.
    pub addresses: BTreeSet<LinkAddress>,
}

/// One address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkAddress {
    /// The node's own address.
    pub address: IpAddr,
    /// What is reached directly through it: its subnet, or the far end of a point-to-point link.
    pub subnet: Prefix,
    /// Still being probed for duplicates (IPv6): the kernel refuses it as a preferred source.
    pub tentative: bool,
}

/// Why an interface carries nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkLoss {
    /// Carrier gone: next-hop objects go, plain routes stay and wait.
    Carrier,
    /// Set down by the operator, or removed: plain routes go too.
    Admin,
}

/// What a link message changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkChange {
    Up,
    Down(LinkLoss),
    /// Name, MTU or something else; the ability to carry is as before.
    Other,
    None,
}

impl Link {
    /// Whether the kernel accepts next hops on it: up, with carrier.
    pub fn usable(&self) -> bool {
        self.admin_up && self.carrier
    }
}

impl LinkTable {
    /// All interfaces in order of their index.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// The interface with this name.
    pub fn by_name(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// The interface with this index.
    pub fn get(&self, index: LinkIndex) -> Option<&Link> {
        self.links.get(&index)
    }

    /// The interface and gateway a next hop means now; `None` while no interface fits.
    pub(crate) fn resolve(&self, next_hop: &NextHop) -> Option<Hop> {
        let gateway = next_hop.gateway;
        let link = match &next_hop.interface {
            Some(name) => self.by_name(name)?,
            None => self.on_link(gateway)?,
        };
        Some(Hop { gateway, link: link.index })
    }

    /// The interface whose subnet holds the address: the longest one, a usable one before others.
    fn on_link(&self, gateway: IpAddr) -> Option<&Link> {
        let covering = |link: &Link| {
            link.addresses.iter().filter(|a| a.covers(gateway)).map(|a| a.subnet.length()).max()
        };
        self.links
            .values()
            .filter_map(|link| covering(link).map(|length| (length, link.usable(), link)))
            .max_by_key(|(length, usable, link)| (*length, *usable, std::cmp::Reverse(link.index)))
            .map(|(_, _, link)| link)
    }

    /// Whether the kernel would accept this hop as far as its link is concerned.
    pub(crate) fn usable(&self, hop: &Hop) -> bool {
        self.links.get(&hop.link).is_some_and(Link::usable)
    }

    /// Whether the gateway lies in a subnet of the hop's own link. If not, the kernel must be told that it is
    /// on link.
    pub(crate) fn reaches(&self, hop: &Hop) -> bool {
        let link_local = matches!(hop.gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local());
        link_local
            || self
                .links
                .get(&hop.link)
                .is_some_and(|link| link.addresses.iter().any(|a| a.subnet.network().contains(hop.gateway)))
    }

    /// Whether the kernel accepts the address as a preferred source.
    pub(crate) fn is_source(&self, address: IpAddr) -> bool {
        self.links.values().any(|link| link.addresses.iter().any(|a| a.address == address && !a.tentative))
    }

    /// Whether the interface has an address of a family.
    pub(crate) fn has_address(&self, index: LinkIndex, family: Family) -> bool {
        let of_family = |a: &LinkAddress| Family::of(a.address) == family;
        self.links.get(&index).is_some_and(|link| link.addresses.iter().any(of_family))
    }

    /// Takes in what is told of an interface but for its addresses: those stay with the index.
    pub(crate) fn put_link(&mut self, told: Link) -> LinkChange {
        let Some(old) = self.links.get_mut(&told.index) else {
            let new = Link { addresses: BTreeSet::new(), ..told };
            let change = if new.usable() { LinkChange::Up } else { LinkChange::Other };
            self.links.insert(new.index, new);
            return change;
        };
        let new = Link { addresses: std::mem::take(&mut old.addresses), ..told };
        let change = match (old.usable(), new.usable()) {
            (false, true) => LinkChange::Up,
            // The second message of an administrative shutdown takes the plain routes, too.
            _ if old.admin_up && !new.admin_up => LinkChange::Down(LinkLoss::Admin),
            (true, false) => LinkChange::Down(LinkLoss::Carrier),
            _ if *old != Link { addresses: BTreeSet::new(), ..new.clone() } => LinkChange::Other,
            _ => LinkChange::None,
        };
        *old = new;
        change
    }

    /// Forgets an interface that is gone.
    pub(crate) fn remove_link(&mut self, index: LinkIndex) -> LinkChange {
        match self.links.remove(&index) {
            Some(_) => LinkChange::Down(LinkLoss::Admin),
            None => LinkChange::None,
        }
    }

    /// Adds or updates an address; whether anything changed.
    pub(crate) fn put_address(&mut self, index: LinkIndex, address: LinkAddress) -> bool {
        let Some(link) = self.links.get_mut(&index) else { return false };
        let before = link.addresses.len();
        link.addresses
            .retain(|a| a == &address || (a.address, a.subnet) != (address.address, address.subnet));
        let removed = link.addresses.len() != before;
        link.addresses.insert(address) || removed
    }

    /// Removes an address; whether it was there.
    pub(crate) fn remove_address(&mut self, index: LinkIndex, address: &LinkAddress) -> bool {
        let Some(link) = self.links.get_mut(&index) else { return false };
        let before = link.addresses.len();
        link.addresses.retain(|a| (a.address, a.subnet) != (address.address, address.subnet));
        link.addresses.len() != before
    }
}

impl LinkAddress {
    /// Whether a neighbour with this address is reached directly. Link-local subnets exist on every
    /// interface, so they say nothing about which one.
    fn covers(&self, gateway: IpAddr) -> bool {
        let link_local = matches!(gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local());
        !link_local && gateway != self.address && self.subnet.network().contains(gateway)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A table with links `(index, name, address/length)`, all up.
    pub(crate) fn table(links: &[(u32, &str, &str)]) -> LinkTable {
        let mut table = LinkTable::default();
        for (index, name, address) in links {
            table.put_link(link(*index, name));
            table.put_address(LinkIndex(*index), link_address(address));
        }
        table
    }

    /// An interface that is up, without addresses.
    pub(crate) fn link(index: u32, name: &str) -> Link {
        Link {
            index: LinkIndex(index),
            name: name.to_owned(),
            admin_up: true,
            carrier: true,
            mtu_bytes: 1500,
            mac: None,
            addresses: BTreeSet::new(),
        }
    }

    pub(crate) fn link_address(text: &str) -> LinkAddress {
        let network: ipnetwork::IpNetwork = text.parse().expect("address/length");
        LinkAddress { address: network.ip(), subnet: Prefix::new(network), tentative: false }
    }

    fn on_link(table: &LinkTable, gateway: &str) -> Option<u32> {
        table.resolve(&NextHop::on_link(gateway.parse().expect("address"))).map(|hop| hop.link.0)
    }

    #[test]
    fn gateway_without_interface_resolves_to_the_longest_subnet() {
        let table = table(&[(2, "up1", "10.1.0.1/16"), (3, "up2", "10.1.2.1/24")]);
        assert_eq!(on_link(&table, "10.1.2.9"), Some(3));
        assert_eq!(on_link(&table, "10.1.3.9"), Some(2));
        assert_eq!(on_link(&table, "10.2.0.1"), None);
    }

    #[test]
    fn own_address_is_no_gateway() {
        assert_eq!(on_link(&table(&[(2, "up1", "10.1.0.1/16")]), "10.1.0.1"), None);
    }

    #[test]
    fn link_local_gateway_needs_an_interface() {
        let table = table(&[(2, "up1", "fe80::1/64")]);
        assert_eq!(on_link(&table, "fe80::2"), None);
        let named = NextHop::through("fe80::2".parse().expect("address"), "up1");
        assert_eq!(table.resolve(&named).map(|hop| hop.link.0), Some(2));
    }

    #[test]
    fn two_links_with_one_subnet_give_the_usable_one() {
        let mut table = table(&[(2, "up1", "10.1.0.1/24"), (3, "up2", "10.1.0.2/24")]);
        assert_eq!(on_link(&table, "10.1.0.9"), Some(2));
        table.put_link(Link { carrier: false, ..link(2, "up1") });
        assert_eq!(on_link(&table, "10.1.0.9"), Some(3));
    }

    #[test]
    fn changes_say_what_the_kernel_does_with_routes() {
        let mut table = table(&[(2, "up1", "10.1.0.1/24")]);
        let mut put = |admin_up, carrier| table.put_link(Link { admin_up, carrier, ..link(2, "up1") });
        assert_eq!(put(true, false), LinkChange::Down(LinkLoss::Carrier));
        assert_eq!(put(false, false), LinkChange::Down(LinkLoss::Admin));
        assert_eq!(put(true, false), LinkChange::Other);
        assert_eq!(put(true, true), LinkChange::Up);
        assert_eq!(put(true, true), LinkChange::None);
        assert_eq!(table.put_link(Link { mtu_bytes: 9000, ..link(2, "up1") }), LinkChange::Other);
        assert_eq!(table.remove_link(LinkIndex(2)), LinkChange::Down(LinkLoss::Admin));
    }

    #[test]
    fn tentative_address_is_no_source_until_probed() {
        let mut table = table(&[(2, "up1", "10.1.0.1/24")]);
        let mut address = link_address("2001:db8::1/64");
        address.tentative = true;
        assert!(table.put_address(LinkIndex(2), address.clone()));
        assert!(!table.is_source(address.address));
        address.tentative = false;
        assert!(table.put_address(LinkIndex(2), address.clone()));
        assert!(!table.put_address(LinkIndex(2), address.clone()));
        assert!(table.is_source(address.address));
    }
}
