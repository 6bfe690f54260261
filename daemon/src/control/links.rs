//! `show interfaces` and `show neighbors`: the node's links, and who is on them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::IpAddr;

use cambric_api::{Interface, Neighbor, Reply};
use cambric_bgp::ScopedAddress;
use cambric_bgp::router::PeerStatus;
use cambric_routes::{Hop, Link, LinkIndex, LinkTable, Unusable};

use super::words::{escaped, near};
use super::{Fault, peers};
use crate::state::Shared;

/// How the plugin's names for the node's end of a pod's link begin, and how long they are.
const POD_LINK: (&str, usize) = ("cam", 15);

/// `show interfaces [INTERFACE]`
pub(super) async fn show_interfaces(shared: &Shared, wanted: Option<&str>) -> Result<Reply, Fault> {
    let links = shared.routes.links().borrow().clone();
    check_name(&links, wanted)?;
    let peers = peers::all_so_far(shared).await?;
    let Ok(snapshot) = shared.routes.snapshot().await else {
        return Ok(Reply::unavailable(cambric_routes::Ended));
    };
    let mut shown: Vec<Interface> = links
        .iter()
        .filter(|link| wanted.is_none_or(|wanted| escaped(&link.name) == wanted))
        .map(|link| interface(link, &links, &peers, &snapshot.by_gateway))
        .collect();
    shown.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Reply::interfaces(shown))
}

/// # Errors
/// [`Fault::Answer`]
fn check_name(links: &LinkTable, wanted: Option<&str>) -> Result<(), Fault> {
    let Some(wanted) = wanted else { return Ok(()) };
    let names: Vec<String> = links.iter().map(|link| escaped(&link.name)).collect();
    if names.iter().any(|name| name == wanted) {
        return Ok(());
    }
    Err(Fault::Answer(Box::new(Reply::no_such("interface", wanted, &near(wanted, names)))))
}

fn interface(
    link: &Link,
    links: &LinkTable,
    peers: &[PeerStatus],
    by_gateway: &BTreeMap<Hop, usize>,
) -> Interface {
    let is_over = |peer: &&PeerStatus| link_to(links, &peer.address) == Some(link.index);
    let peers: Vec<String> = peers.iter().filter(is_over).map(|peer| escaped(&peer.config.name)).collect();
    let carrying: Vec<_> = by_gateway.iter().filter(|(hop, _)| hop.link == link.index).collect();
    let state = match (link.admin_up, link.carrier) {
        (false, _) => "down",
        (true, false) => "no-carrier",
        (true, true) => "up",
    };
    Interface {
        name: escaped(&link.name),
        state: state.to_owned(),
        mtu_bytes: link.mtu_bytes,
        mac: link.mac.map(mac),
        role: role(link, &peers).to_owned(),
        addresses: link.addresses.iter().map(|entry| with_length(entry.address, &entry.subnet)).collect(),
        gateways: carrying.iter().map(|(hop, _)| hop.gateway.to_string()).collect(),
        // A route over several gateways of one link counts for each of them: it is the gateways that are added up.
        routes: carrying.iter().map(|(_, routes)| **routes).sum(),
        peers,
    }
}

fn role(link: &Link, peers: &[String]) -> &'static str {
    let (beginning, length) = POD_LINK;
    if !peers.is_empty() {
        "uplink"
    } else if link.addresses.iter().any(|entry| entry.address.is_loopback()) {
        "loopback"
    } else if link.name.starts_with(beginning) && link.name.len() == length {
        "pod"
    } else {
        "other"
    }
}

fn with_length(address: IpAddr, subnet: &cambric_routes::Prefix) -> String {
    format!("{address}/{}", subnet.length())
}

fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}

/// The link that reaches an address without a gateway: by the longest subnet, one that is up before others; a link-local
/// one says which.
pub(super) fn link_to(links: &LinkTable, address: &ScopedAddress) -> Option<LinkIndex> {
    let address = match (address.ip(), address.interface()) {
        (_, Some(name)) => return links.by_name(name).map(|link| link.index),
        (IpAddr::V6(v6), None) if v6.is_unicast_link_local() => return None,
        (address, None) => address,
    };
    let length = |link: &Link| {
        let own = link.addresses.iter();
        let holding = own.filter(|entry| {
            entry.address != address && entry.subnet.length() > 0 && entry.subnet.network().contains(address)
        });
        holding.map(|entry| entry.subnet.length()).max()
    };
    let reaching = links.iter().filter_map(|link| Some((length(link)?, link.usable(), link.index)));
    reaching
        .max_by_key(|(length, usable, index)| (*length, *usable, std::cmp::Reverse(*index)))
        .map(|best| best.2)
}

/// `show neighbors [INTERFACE]`
pub(super) async fn show_neighbors(shared: &Shared, wanted: Option<&str>) -> Result<Reply, Fault> {
    let links = shared.routes.links().borrow().clone();
    check_name(&links, wanted)?;
    let peers = peers::all_so_far(shared).await?;
    let (entries, snapshot) = match (shared.routes.neighbors().await, shared.routes.snapshot().await) {
        (Ok(entries), Ok(snapshot)) => (entries, snapshot),
        (Err(error), _) => return Ok(Reply::failed(format!("the kernel's neighbours: {error}"))),
        (_, Err(ended)) => return Ok(Reply::unavailable(ended)),
    };
    let known =
        |hop: &Hop| entries.iter().find(|entry| (entry.address, entry.interface) == (hop.gateway, hop.link));
    let on_link = entries.iter().map(|entry| (entry.address, Some(entry.interface)));
    let gateways = snapshot.by_gateway.keys().chain(snapshot.unusable.keys());
    let everybody: BTreeSet<(Option<LinkIndex>, IpAddr)> = on_link
        .chain(gateways.map(|hop| (hop.gateway, Some(hop.link))))
        .chain(peers.iter().map(|peer| (peer.address.ip(), link_to(&links, &peer.address))))
        .map(|(address, link)| (link, address))
        .collect();

    let shown = everybody.into_iter().filter_map(|(link, address)| {
        let interface = link
            .map(|link| links.get(link).map_or_else(|| format!("#{}", link.0), |link| escaped(&link.name)));
        if wanted.is_some() && interface.as_deref() != wanted {
            return None;
        }
        let hop = link.map(|link| Hop { gateway: address, link });
        let entry = hop.as_ref().and_then(known);
        let peer =
            peers.iter().find(|peer| peer.address.ip() == address && link_to(&links, &peer.address) == link);
        let unusable = hop.and_then(|hop| snapshot.unusable.get(&hop)).map(why_unusable);
        Some(Neighbor {
            address: address.to_string(),
            interface,
            mac: entry.and_then(|entry| entry.lladdr).map(mac),
            state: entry.map(|entry| as_ip_calls_it(&entry.state)),
            peer: peer.map(|peer| escaped(&peer.config.name)),
            session: peer.map(|peer| peer.state.to_string()),
            routes: hop.and_then(|hop| snapshot.by_gateway.get(&hop)).copied().unwrap_or_default(),
            unusable: unusable.or_else(|| link.is_none().then_some("no link reaches it")).map(str::to_owned),
        })
    });
    Ok(Reply::neighbors(shown.collect()))
}

fn as_ip_calls_it(state: &impl Display) -> String {
    state.to_string().to_uppercase()
}

pub(super) fn why_unusable(why: &Unusable) -> &'static str {
    match why {
        Unusable::Lost => "lost with its session",
        Unusable::LinkDown => "its link is down",
        Unusable::Refused => "the kernel refuses it; tried again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ethernet_address_is_written_as_ever() {
        assert_eq!(mac([0x02, 0, 0xab, 0x0c, 1, 0xff]), "02:00:ab:0c:01:ff");
    }
}
