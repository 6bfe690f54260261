//! What the kernel has: our links and host routes, as it tells them. And the one removal: a link.

use std::io;
use std::net::IpAddr;

use nix::errno::Errno;
use nix::libc;
use nix::net::if_::if_nametoindex;

use crate::attachment::Attachment;
use crate::lease::Survivor;
use crate::netlink::{Message, NetlinkError, Reply, Socket};

/// rtm_protocol of host routes to pods; nobody else may use or touch it.
pub(crate) const PROTOCOL_POD: u8 = 204;

/// Size of `struct ifinfomsg`.
pub(crate) const IFINFO_BYTES: usize = 16;
/// Size of `struct rtmsg`.
pub(crate) const RTMSG_BYTES: usize = 12;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) alias: Option<String>,
    pub(crate) mtu_bytes: u32,
    /// Index of the other end of a veth pair, in that end's namespace; 0 for links that have none.
    pub(crate) peer: u32,
}

/// A route to one address in the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostRoute {
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) link: Option<u32>,
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

/// All links.
pub(crate) fn links(socket: &mut Socket) -> Result<Vec<Link>, NetlinkError> {
    let query = Message::new("list interfaces", libc::RTM_GETLINK, 0, &[0; IFINFO_BYTES]);
    Ok(socket.dump(&query)?.iter().filter_map(parse_link).collect())
}

/// All routes to single addresses, both families.
pub(crate) fn host_routes(socket: &mut Socket) -> Result<Vec<HostRoute>, NetlinkError> {
    let query = Message::new("list routes", libc::RTM_GETROUTE, 0, &[0; RTMSG_BYTES]);
    Ok(socket.dump(&query)?.iter().filter_map(parse_host_route).collect())
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
    let [_, _, _, _, a, b, c, d, ..] = reply.header::<IFINFO_BYTES>()?;
    let attributes = reply.attributes(IFINFO_BYTES);
    Some(Link {
        index: u32::from_ne_bytes([a, b, c, d]),
        name: attributes.text(libc::IFLA_IFNAME)?,
        alias: attributes.text(libc::IFLA_IFALIAS),
        mtu_bytes: attributes.u32(libc::IFLA_MTU)?,
        peer: attributes.u32(libc::IFLA_LINK).unwrap_or(0),
    })
}

fn parse_host_route(reply: &Reply) -> Option<HostRoute> {
    if reply.kind != libc::RTM_NEWROUTE {
        return None;
    }
    let [_, prefix, _, _, table, protocol, ..] = reply.header::<RTMSG_BYTES>()?;
    let attributes = reply.attributes(RTMSG_BYTES);
    let destination = attributes.address(libc::RTA_DST)?;
    let whole = if destination.is_ipv4() { 32 } else { 128 };
    (prefix == whole && table == libc::RT_TABLE_MAIN).then(|| HostRoute {
        destination,
        protocol,
        link: attributes.u32(libc::RTA_OIF),
    })
}
