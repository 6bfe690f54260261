//! The node's side.

use std::net::IpAddr;

use super::{Differences, Wanted, compare_link};
use crate::attachment::Attachment;
use crate::gateway;
use crate::kernel::{self, Link, PROTOCOL_POD, Route};
use crate::netlink::{NetlinkError, Socket};
use crate::sysctl;

/// Tells what differs.
pub(super) fn compare(
    wanted: &Wanted<'_>,
    socket: &mut Socket,
    host_end: Option<&Link>,
    pod_end: Option<&Link>,
    found: &mut Differences,
) -> Result<(), NetlinkError> {
    compare_told(wanted, host_end, found);
    let Some(link) = host_end else {
        found.tell(format!("{} is not on the node", wanted.add.attachment.host_ifname()));
        return Ok(());
    };
    compare_end(wanted, link, pod_end, found);
    if wanted.has_ipv6() {
        let addresses = kernel::addresses_of(socket, link.index)?;
        if !addresses.iter().any(|there| there.address == IpAddr::from(gateway::IPV6)) {
            found.tell(format!("{} on the node lacks {}", link.name, gateway::IPV6));
        }
    }
    compare_routes(wanted, socket, link, found)?;
    compare_settings(wanted, link, found);
    Ok(())
}

fn compare_told(wanted: &Wanted<'_>, host_end: Option<&Link>, found: &mut Differences) {
    let name = wanted.add.attachment.host_ifname();
    match (wanted.previous.on_node(&name), host_end) {
        (None, _) => found.tell(format!("prevResult has no interface {name} on the node")),
        (Some(told), Some(link)) => {
            compare_link(link, told, "on the node", found);
            if let Some(told) = told.mtu_bytes().filter(|told| *told != link.mtu_bytes) {
                found.tell(format!("MTU of {name} on the node is {}, prevResult has {told}", link.mtu_bytes));
            }
        }
        (Some(_), None) => {}
    }
}

fn compare_end(wanted: &Wanted<'_>, link: &Link, pod_end: Option<&Link>, found: &mut Differences) {
    let Link { name, .. } = link;
    let attachment = &wanted.add.attachment;
    if link.mac != Some(gateway::HOST_MAC) {
        let mac = link.mac.map_or_else(|| "none".to_owned(), |mac| mac.to_string());
        found.tell(format!("MAC of {name} on the node is {mac}, pods know {}", gateway::HOST_MAC));
    }
    let alias = link.alias.as_deref().unwrap_or_default();
    let says_ours = Attachment::from_alias(alias).is_some_and(|there| there.is_same(attachment));
    if !says_ours {
        found.tell(format!("alias of {name} on the node is {alias:?}, must be {:?}", attachment.alias()));
    }
    if let Some(pod_end) = pod_end
        && (link.peer, pod_end.peer) != (pod_end.index, link.index)
    {
        found.tell(format!(
            "{name} on the node and {} in the pod are not the two ends of one link",
            pod_end.name
        ));
    }
}

fn compare_routes(
    wanted: &Wanted<'_>,
    socket: &mut Socket,
    link: &Link,
    found: &mut Differences,
) -> Result<(), NetlinkError> {
    let present = kernel::pod_routes(socket)?;
    for address in &wanted.addresses {
        let ours = |route: &&Route| route.destination == *address && route.link == Some(link.index);
        let Some(route) = present.iter().find(ours) else {
            let other = kernel::route_to(socket, *address).ok().filter(Route::is_to_one_address);
            let other =
                other.map(|route| format!(", it has one of {}", route.in_words())).unwrap_or_default();
            found.tell(format!(
                "the node has no route of protocol {PROTOCOL_POD} to {address} by {}{other}",
                link.name
            ));
            continue;
        };
        let by = format!("the node does not use its route to {address} by {}", link.name);
        match kernel::route_to(socket, *address) {
            Ok(used) if used.link == Some(link.index) => {}
            Ok(used) => found.tell(format!("{by}, but one of {}", used.in_words())),
            Err(error) if error.errno().is_some() => found.tell(format!("{by}: {error}")),
            Err(error) => return Err(error),
        }
        // Another source than the configured one is the node's address of today: the daemon moves it.
        if let Some(wanted) = wanted.config().node_addresses.towards(*address)
            && route.source.is_none()
        {
            found
                .tell(format!("the node's route to {address} has no source, the configuration has {wanted}"));
        }
    }
    Ok(())
}

/// Only what pods cannot do without, and that the node takes none of them for a router: a distribution may well be
/// stricter or laxer in the rest.
fn compare_settings(wanted: &Wanted<'_>, link: &Link, found: &mut Differences) {
    let Link { name, .. } = link;
    if wanted.addresses.iter().any(IpAddr::is_ipv4) {
        for (path, value) in [
            (format!("ipv4/conf/{name}/forwarding"), "1"),
            (format!("ipv4/conf/{name}/proxy_arp"), "1"),
            (format!("ipv4/neigh/{name}/proxy_delay"), "0"),
        ] {
            found.0.extend(sysctl::differs(&path, value));
        }
    }
    if wanted.has_ipv6() {
        // Without the last one nothing is forwarded at all: it is the daemon's to keep on.
        for (whose, setting, value) in [
            (name.as_str(), "disable_ipv6", "0"),
            (name, "accept_ra", "0"),
            (name, "forwarding", "1"),
            ("all", "forwarding", "1"),
        ] {
            found.0.extend(sysctl::differs_ipv6(whose, setting, value));
        }
    }
}
