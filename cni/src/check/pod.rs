//! The pod's side. Runs on a thread inside the pod's namespace.

use std::net::IpAddr;

use super::{Differences, Wanted, compare_link};
use crate::gateway;
use crate::kernel::{self, Address, Link, Neighbour, Route};
use crate::netlink::{NetlinkError, Socket};
use crate::sysctl;

/// Tells what differs; gives the pod's end.
pub(super) fn compare(
    wanted: &Wanted<'_>,
    host_end: Option<&Link>,
    found: &mut Differences,
) -> Result<Option<Link>, NetlinkError> {
    let ifname = &wanted.add.attachment.holder.ifname;
    let mut socket = Socket::open()?;
    let Some(link) = kernel::link(&mut socket, ifname)? else {
        found.tell(format!("{ifname} is not in the pod"));
        return Ok(None);
    };
    compare_end(wanted, &link, host_end, found);
    compare_addresses(wanted, &link, &kernel::addresses_of(&mut socket, link.index)?, found);
    compare_routes(wanted, &link, &kernel::routes(&mut socket)?, found);
    compare_neighbours(wanted, &link, &kernel::neighbours(&mut socket, link.index)?, found);
    if wanted.has_ipv6() {
        found.0.extend(sysctl::differs_ipv6(ifname, "disable_ipv6", "0"));
    }
    Ok(Some(link))
}

fn compare_end(wanted: &Wanted<'_>, link: &Link, host_end: Option<&Link>, found: &mut Differences) {
    let Wanted { add, previous, .. } = wanted;
    let name = &link.name;
    match previous.in_pod(name) {
        None => found.tell(format!("prevResult has no interface {name} in a pod")),
        Some(told) => {
            if !told.is_in(&add.netns) {
                let told = told.sandbox.as_deref().unwrap_or_default();
                found.tell(format!("prevResult has {name} in {told}, CNI_NETNS is {}", add.netns.display()));
            }
            compare_link(link, told, "in the pod", found);
            if let Some(told) = told.mtu_bytes().filter(|told| link.mtu_bytes > *told) {
                found.tell(format!("MTU of {name} in the pod is {}, prevResult has {told}", link.mtu_bytes));
            }
        }
    }
    if let Some(host_end) = host_end.filter(|host_end| link.mtu_bytes > host_end.mtu_bytes) {
        found.tell(format!(
            "MTU of {name} in the pod is {}, more than the {} of {} on the node",
            link.mtu_bytes, host_end.mtu_bytes, host_end.name
        ));
    }
}

fn compare_addresses(wanted: &Wanted<'_>, link: &Link, present: &[Address], found: &mut Differences) {
    let name = &link.name;
    for address in &wanted.addresses {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        match present.iter().find(|candidate| candidate.address == *address) {
            None => found.tell(format!("{name} in the pod lacks {address}/{prefix}")),
            Some(there) if there.prefix != prefix => {
                found.tell(format!("{name} in the pod has {address}/{}, not /{prefix}", there.prefix));
            }
            Some(there) if !there.usable => {
                found.tell(format!(
                    "{address} of {name} in the pod is not usable: it is taken for a duplicate"
                ));
            }
            Some(_) => {}
        }
    }
    // Addresses that others added and answered.
    for told in wanted.previous.addresses_of(name) {
        if !wanted.addresses.contains(&told.ip()) && !present.iter().any(|there| there.address == told.ip()) {
            found.tell(format!("{name} in the pod lacks {told}, which prevResult has"));
        }
    }
}

fn compare_routes(wanted: &Wanted<'_>, link: &Link, present: &[Route], found: &mut Differences) {
    let name = &link.name;
    let gateways = wanted.addresses.iter().map(|address| gateway::of(*address));
    for gateway in gateways.filter(|gateway| wanted.previous.has_default_route(*gateway)) {
        let is_default =
            |route: &&Route| route.prefix == 0 && route.destination.is_ipv4() == gateway.is_ipv4();
        let defaults: Vec<&Route> = present.iter().filter(is_default).collect();
        let is_ours = |route: &&Route| route.gateway == Some(gateway) && route.link == Some(link.index);
        if !defaults.iter().any(is_ours) {
            let others: String = defaults.iter().map(|route| in_words(route)).collect();
            found.tell(format!("the pod has no default route via {gateway} by {name}{others}"));
        }
        let whole = if gateway.is_ipv4() { 32 } else { 128 };
        let on_link = |route: &Route| {
            (route.destination, route.prefix, route.gateway) == (gateway, whole, None)
                && route.link == Some(link.index)
        };
        if !present.iter().any(on_link) {
            found.tell(format!("the pod has no route to its gateway {gateway} by {name}"));
        }
    }
}

fn in_words(route: &Route) -> String {
    match (route.gateway, route.link) {
        (Some(gateway), _) => format!(", it has one via {gateway}"),
        (None, Some(link)) => format!(", it has one by interface {link}"),
        (None, None) => String::new(),
    }
}

/// With another MAC than ours the kernel has dropped what it knew of neighbours: those that it found since count.
fn compare_neighbours(wanted: &Wanted<'_>, link: &Link, present: &[Neighbour], found: &mut Differences) {
    let name = &link.name;
    let own_mac = wanted.add.attachment.pod_mac();
    let keeps_ours = wanted.previous.in_pod(name).is_none_or(|told| !told.has_other_mac_than(Some(own_mac)));
    let gateways = wanted.addresses.iter().map(|address: &IpAddr| gateway::of(*address));
    for gateway in gateways {
        let who = format!("neighbour {gateway} of {name} in the pod");
        let Some(there) = present.iter().find(|candidate| candidate.address == gateway) else {
            if keeps_ours {
                found.tell(format!("{who} is missing"));
            }
            continue;
        };
        if there.mac != Some(gateway::HOST_MAC) && (keeps_ours || there.mac.is_some()) {
            let mac = there.mac.map_or_else(|| "none".to_owned(), |mac| mac.to_string());
            found.tell(format!("MAC of {who} is {mac}, must be {}", gateway::HOST_MAC));
        }
        if keeps_ours && !there.permanent {
            found.tell(format!("{who} is not permanent"));
        }
    }
}
