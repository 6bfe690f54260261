//! What the kernel has: links, addresses, routes and neighbours, as it tells them. And the one removal: a link.

use std::io;
use std::net::IpAddr;

use nix::errno::Errno;
use nix::libc;
use nix::net::if_::if_nametoindex;

use crate::attachment::{Attachment, Mac};
use crate::lease::Survivor;
use crate::netlink::{Message, NetlinkError, Reply, Socket};

/// rtm_protocol of host routes to pods; nobody else may use or touch it.
pub(crate) const PROTOCOL_POD: u8 = 204;

/// Size of `struct ifinfomsg`.
pub(crate) const IFINFO_BYTES: usize = 16;
/// Size of `struct rtmsg`.
pub(crate) const RTMSG_BYTES: usize = 12;
/// Size of `struct ifaddrmsg`.
const IFADDR_BYTES: usize = 8;
/// Size of `struct ndmsg`.
const NDMSG_BYTES: usize = 12;
/// Asks for a route as it is in its table; `libc` lacks it. A kernel before 4.13 tells what follows from it.
const RTM_F_FIB_MATCH: u32 = 0x2000;
// Numbers of the kernel's headers that `libc` lacks.
const NDA_IFINDEX: u16 = 8;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_TARGET_NETNSID: u16 = 46;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) alias: Option<String>,
    /// Absent on links that have none of 6 bytes.
    pub(crate) mac: Option<Mac>,
    pub(crate) mtu_bytes: u32,
    /// As the operator has it (`IFF_UP`).
    pub(crate) up: bool,
    /// Index of the other end of a veth pair, in that end's namespace; 0 for links that have none.
    pub(crate) peer: u32,
    /// What that namespace is called in this one; absent if it is this one.
    pub(crate) peer_netns: Option<u32>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// The unspecified address in a default route.
    pub(crate) destination: IpAddr,
    pub(crate) prefix: u8,
    pub(crate) protocol: u8,
    /// For packets with this one alone, unless it is 0.
    pub(crate) tos: u8,
    pub(crate) link: Option<u32>,
    pub(crate) gateway: Option<IpAddr>,
    /// What the node's own packets on it come from.
    pub(crate) source: Option<IpAddr>,
}

impl Route {
    /// Whose it is and by what.
    pub(crate) fn in_words(&self) -> String {
        let link = self.link.unwrap_or_default();
        format!("protocol {} by interface {link}", self.protocol)
    }

    pub(crate) fn is_to_one_address(&self) -> bool {
        self.prefix == if self.destination.is_ipv4() { 32 } else { 128 }
    }
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) link: u32,
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
    /// Not tentative, and no duplicate.
    pub(crate) usable: bool,
}

/// What an interface knows of a neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) link: u32,
    pub(crate) address: IpAddr,
    pub(crate) mac: Option<Mac>,
    pub(crate) permanent: bool,
}

/// The query for a link by name, to be put into a batch.
pub(crate) fn link_query(name: &str) -> Message {
    Message::new(format!("look for interface {name}"), libc::RTM_GETLINK, 0, &[0; IFINFO_BYTES])
        .text(libc::IFLA_IFNAME, name)
}

/// The link of that name, if there is one.
pub(crate) fn link(socket: &mut Socket, name: &str) -> Result<Option<Link>, NetlinkError> {
    match socket.batch(&[link_query(name)]) {
        Ok(replies) => Ok(replies.iter().find_map(parse_link)),
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// MAC of the other end of a veth pair, which is in another namespace. None if it, or that, is gone.
pub(crate) fn mac_of_peer(socket: &mut Socket, link: &Link) -> Option<Mac> {
    let mut header = [0; IFINFO_BYTES];
    header[4..8].copy_from_slice(&link.peer.to_ne_bytes());
    let query = Message::new(format!("look for the peer of {}", link.name), libc::RTM_GETLINK, 0, &header)
        .u32(IFLA_TARGET_NETNSID, link.peer_netns?);
    socket.batch(&[query]).ok()?.iter().find_map(parse_link)?.mac
}

/// All links.
pub(crate) fn links(socket: &mut Socket) -> Result<Vec<Link>, NetlinkError> {
    let query = Message::new("list interfaces", libc::RTM_GETLINK, 0, &[0; IFINFO_BYTES]);
    Ok(socket.dump(&query)?.iter().filter_map(parse_link).collect())
}

/// All routes of the main table, both families.
pub(crate) fn routes(socket: &mut Socket) -> Result<Vec<Route>, NetlinkError> {
    let query = Message::new("list routes", libc::RTM_GETROUTE, 0, &[0; RTMSG_BYTES]);
    Ok(socket.dump(&query)?.iter().filter_map(parse_route).collect())
}

/// All routes to single addresses, both families.
pub(crate) fn host_routes(socket: &mut Socket) -> Result<Vec<Route>, NetlinkError> {
    Ok(routes(socket)?.into_iter().filter(Route::is_to_one_address).collect())
}

/// The route that packets of the node to this address take, of whatever table.
///
/// # Errors
/// The kernel refuses when there is none, and when the one there is throws packets away.
pub(crate) fn route_to(socket: &mut Socket, address: IpAddr) -> Result<Route, NetlinkError> {
    let (family, prefix) = if address.is_ipv4() { (libc::AF_INET, 32) } else { (libc::AF_INET6, 128) };
    let mut header = [0; RTMSG_BYTES];
    header[..2].copy_from_slice(&[family as u8, prefix]);
    header[8..].copy_from_slice(&RTM_F_FIB_MATCH.to_ne_bytes());
    let query = Message::new(format!("find a route to {address}"), libc::RTM_GETROUTE, 0, &header);
    let replies = socket.batch(&[query.address(libc::RTA_DST, address)])?;
    let told = replies.iter().find_map(parse_route_of_any_table).map(|(_, route)| route);
    told.ok_or_else(|| io::Error::other(format!("the kernel tells nothing about {address}")).into())
}

/// The host routes of pods, both families. The kernel leaves out all others, of which there may be very many.
pub(crate) fn pod_routes(socket: &mut Socket) -> Result<Vec<Route>, NetlinkError> {
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let header = [family as u8, 0, 0, 0, libc::RT_TABLE_MAIN, PROTOCOL_POD, 0, 0, 0, 0, 0, 0];
        let query = Message::new("list the routes of pods", libc::RTM_GETROUTE, 0, &header);
        let replies = match socket.dump(&query) {
            // Nobody has put a route into the table yet.
            Err(error) if error.errno() == Some(Errno::ENOENT) => continue,
            replies => replies?,
        };
        // A kernel before 4.20 lists all, one without the family lists the other.
        let wanted = |route: &Route| {
            route.is_to_one_address()
                && route.protocol == PROTOCOL_POD
                && route.destination.is_ipv4() == (family == libc::AF_INET)
        };
        found.extend(replies.iter().filter_map(parse_route).filter(wanted));
    }
    Ok(found)
}

/// The addresses of all links, both families.
pub(crate) fn addresses(socket: &mut Socket) -> Result<Vec<Address>, NetlinkError> {
    let query = Message::new("list addresses", libc::RTM_GETADDR, 0, &[0; IFADDR_BYTES]);
    Ok(socket.dump(&query)?.iter().filter_map(parse_address).collect())
}

/// The addresses of one link, both families.
pub(crate) fn addresses_of(socket: &mut Socket, link: u32) -> Result<Vec<Address>, NetlinkError> {
    Ok(addresses(socket)?.into_iter().filter(|address| address.link == link).collect())
}

/// What a link knows of its neighbours, both families.
pub(crate) fn neighbours(socket: &mut Socket, link: u32) -> Result<Vec<Neighbour>, NetlinkError> {
    let replies = socket.dump(&neighbours_query().u32(NDA_IFINDEX, link))?;
    let found = replies.iter().filter_map(parse_neighbour);
    Ok(found.filter(|neighbour| neighbour.link == link).collect())
}

/// The permanent neighbours of all links, both families.
pub(crate) fn permanent_neighbours(socket: &mut Socket) -> Result<Vec<Neighbour>, NetlinkError> {
    let replies = socket.dump(&neighbours_query())?;
    Ok(replies.iter().filter_map(parse_neighbour).filter(|neighbour| neighbour.permanent).collect())
}

fn neighbours_query() -> Message {
    Message::new("list neighbours", libc::RTM_GETNEIGH, 0, &[0; NDMSG_BYTES])
}

/// Pods of a network that are alive, from links' aliases and host routes: the second copy of the leases.
pub(crate) fn survivors(network: &str) -> Result<Vec<Survivor>, NetlinkError> {
    let mut socket = Socket::open()?;
    let routes = host_routes(&mut socket)?;
    let survivor = |link: Link| {
        let attachment = Attachment::from_alias(link.alias.as_deref()?)?;
        let ours = attachment.network == network && attachment.host_ifname() == link.name;
        let addresses = routes
            .iter()
            .filter(|route| route.protocol == PROTOCOL_POD && route.link == Some(link.index))
            .map(|route| route.destination)
            .collect();
        ours.then_some(Survivor { holder: attachment.holder, addresses })
    };
    Ok(links(&mut socket)?.into_iter().filter_map(survivor).collect())
}

/// Whether there is a link of that name: without the lock of all interfaces, for which a query would wait.
pub(crate) fn has_link(name: &str) -> io::Result<bool> {
    match if_nametoindex(name) {
        Ok(_) => Ok(true),
        Err(Errno::ENODEV) => Ok(false),
        Err(errno) => Err(io::Error::other(format!("cannot look for interface {name}: {errno}"))),
    }
}

/// Whether this very link is still there.
pub(crate) fn is_there(link: &Link) -> bool {
    if_nametoindex(link.name.as_str()).is_ok_and(|index| index == link.index)
}

/// Deletes this very link; its peer and its routes go with it. One that is not there is deleted already.
pub(crate) fn delete_link(link: &Link) -> Result<(), NetlinkError> {
    let mut header = [0; IFINFO_BYTES];
    header[4..8].copy_from_slice(&link.index.to_ne_bytes());
    delete(Message::new(format!("delete interface {}", link.name), libc::RTM_DELLINK, 0, &header))
}

/// Deletes the link of that name, whoever made it; else as [`delete_link`].
pub(crate) fn delete_link_named(name: &str) -> Result<(), NetlinkError> {
    let doing = format!("delete interface {name}");
    delete(Message::new(doing, libc::RTM_DELLINK, 0, &[0; IFINFO_BYTES]).text(libc::IFLA_IFNAME, name))
}

fn delete(delete: Message) -> Result<(), NetlinkError> {
    match Socket::open().map_err(io::Error::into).and_then(|mut socket| socket.batch(&[delete])) {
        Err(error) if error.errno() != Some(Errno::ENODEV) => Err(error),
        _ => Ok(()),
    }
}

/// Reads a link out of an answer.
pub(crate) fn parse_link(reply: &Reply) -> Option<Link> {
    if reply.kind != libc::RTM_NEWLINK {
        return None;
    }
    let [_, _, _, _, a, b, c, d, e, f, g, h, ..] = reply.header::<IFINFO_BYTES>()?;
    let attributes = reply.attributes(IFINFO_BYTES);
    Some(Link {
        index: u32::from_ne_bytes([a, b, c, d]),
        name: attributes.text(libc::IFLA_IFNAME)?,
        alias: attributes.text(libc::IFLA_IFALIAS),
        mac: attributes.bytes(libc::IFLA_ADDRESS).and_then(mac),
        mtu_bytes: attributes.u32(libc::IFLA_MTU)?,
        up: i32::from_ne_bytes([e, f, g, h]) & libc::IFF_UP != 0,
        peer: attributes.u32(libc::IFLA_LINK).unwrap_or(0),
        peer_netns: attributes.u32(IFLA_LINK_NETNSID),
    })
}

/// One of the main table.
fn parse_route(reply: &Reply) -> Option<Route> {
    parse_route_of_any_table(reply).filter(|(table, _)| *table == libc::RT_TABLE_MAIN).map(|(_, route)| route)
}

/// With its table's number, or what stands for one above 255.
fn parse_route_of_any_table(reply: &Reply) -> Option<(u8, Route)> {
    if reply.kind != libc::RTM_NEWROUTE {
        return None;
    }
    let [family, prefix, _, tos, table, protocol, ..] = reply.header::<RTMSG_BYTES>()?;
    let everything = || match i32::from(family) {
        libc::AF_INET => Some(IpAddr::from([0; 4])),
        libc::AF_INET6 => Some(IpAddr::from([0; 16])),
        _ => None,
    };
    let attributes = reply.attributes(RTMSG_BYTES);
    let destination = attributes.address(libc::RTA_DST).or_else(everything)?;
    let route = Route {
        destination,
        prefix,
        protocol,
        tos,
        link: attributes.u32(libc::RTA_OIF),
        gateway: attributes.address(libc::RTA_GATEWAY),
        source: attributes.address(libc::RTA_PREFSRC),
    };
    Some((table, route))
}

fn parse_address(reply: &Reply) -> Option<Address> {
    if reply.kind != libc::RTM_NEWADDR {
        return None;
    }
    let [_, prefix, flags, _, a, b, c, d] = reply.header::<IFADDR_BYTES>()?;
    let attributes = reply.attributes(IFADDR_BYTES);
    // IFA_ADDRESS is the far end of a point-to-point link; on other links IPv6 tells it alone.
    let address = attributes.address(libc::IFA_LOCAL).or_else(|| attributes.address(libc::IFA_ADDRESS))?;
    let unusable = libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED;
    Some(Address {
        link: u32::from_ne_bytes([a, b, c, d]),
        address,
        prefix,
        usable: u32::from(flags) & unusable == 0,
    })
}

fn parse_neighbour(reply: &Reply) -> Option<Neighbour> {
    if reply.kind != libc::RTM_NEWNEIGH {
        return None;
    }
    let [_, _, _, _, a, b, c, d, low, high, ..] = reply.header::<NDMSG_BYTES>()?;
    let attributes = reply.attributes(NDMSG_BYTES);
    Some(Neighbour {
        link: u32::from_ne_bytes([a, b, c, d]),
        address: attributes.address(libc::NDA_DST)?,
        mac: attributes.bytes(libc::NDA_LLADDR).and_then(mac),
        permanent: u16::from_ne_bytes([low, high]) & libc::NUD_PERMANENT != 0,
    })
}

fn mac(bytes: &[u8]) -> Option<Mac> {
    bytes.try_into().ok().map(Mac)
}
