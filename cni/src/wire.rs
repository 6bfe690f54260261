//! The wiring of one pod: a veth pair, routed on both ends.
//!
//! ```text
//! node                                                   pod
//! cam0123456789ab  02:ca:3b:00:00:01 ---- 0a:..  eth0    10.244.1.5/32, fd00::5/128
//!   fe80::1, proxy ARP without delay                     169.254.1.1 dev eth0; default via 169.254.1.1
//!   10.244.1.5/32 and fd00::5/128 dev cam..., proto 204  default via fe80::1
//!   under policy: the pod a permanent neighbour          both gateways: permanent neighbours
//! ```
//!
//! Why so: the pod end is born in the pod's namespace (moving it there waits for RCU, 16-20 ms); both MACs come with
//! the creation (udev then leaves them alone); the permanent neighbours are needed because the kernel answers by
//! proxy ARP only for what it could route elsewhere, which a node without default route cannot; duplicate address
//! detection is off on both ends before there is a carrier, else addresses are tentative for more than a second.
//! The pod end cannot be created up (ENOTCONN): it comes up in the pod's batch, and with it the carrier.
//!
//! Host routes are inserted exclusively: even a broken lease table cannot give one address to two pods.

use std::io;
use std::net::{IpAddr, Ipv6Addr};

use nix::errno::Errno;
use nix::libc;

use crate::attachment::{Attachment, Mac};
use crate::config::PodConfig;
use crate::gateway;
use crate::kernel::{self, IFINFO_BYTES, Link, PROTOCOL_POD, RTMSG_BYTES, Route};
use crate::netlink::{Message, NetlinkError, Socket};
use crate::netns::Netns;
use crate::range::Addresses;
use crate::sysctl::{self, Ipv6};

// Numbers of the kernel's headers that `libc` lacks.
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET_CONF: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_MODE_NONE: u8 = 1;
const NDTA_NAME: u16 = 1;
const NDTA_PARMS: u16 = 6;
const NDTPA_IFINDEX: u16 = 1;
const NDTPA_PROXY_DELAY: u16 = 13;

/// IPv4 settings of the host end, numbered as in `IPV4_DEVCONF_*`.
const HOST_IPV4_SETTINGS: [(u16, u32); 4] = [
    (1, 1), // forwarding
    (3, 1), // proxy_arp
    (6, 0), // send_redirects
    (8, 2), // rp_filter: loose, which also holds where the distribution's `all` is strict (the larger one wins)
];

/// What is to be wired, on a pair that is there.
pub(crate) struct Wiring<'a> {
    attachment: &'a Attachment,
    netns: &'a Netns,
    config: &'a PodConfig,
    host_end: &'a Link,
    addresses: Addresses,
    ipv6: Ipv6,
}

/// Why a pod could not be wired.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// One of the two interfaces is there, of another call or of somebody else.
    #[error(transparent)]
    Exists(NetlinkError),
    /// Somebody has a route to one of the pod's addresses already.
    #[error("the address has a route already")]
    AddressTaken,
    /// A configured source of the node is none of its addresses.
    #[error("{address} in nodeAddresses is not on the node: {refusal}")]
    SourceMissing { address: IpAddr, refusal: NetlinkError },
    /// The kernel refused something on the node.
    #[error(transparent)]
    Host(NetlinkError),
    /// A setting could not be made on the node.
    #[error(transparent)]
    HostSetting(io::Error),
    /// The kernel refused something in the pod.
    #[error(transparent)]
    Pod(NetlinkError),
    /// The pod's namespace or a setting in it failed.
    #[error(transparent)]
    PodSetting(io::Error),
}

impl<'a> Wiring<'a> {
    /// Plans a wiring for this kernel.
    pub(crate) fn new(
        attachment: &'a Attachment,
        netns: &'a Netns,
        config: &'a PodConfig,
        host_end: &'a Link,
        addresses: Addresses,
    ) -> Result<Wiring<'a>, WireError> {
        let ipv6 = Ipv6::wanted(addresses.ipv6.is_some()).map_err(WireError::HostSetting)?;
        Ok(Wiring { attachment, netns, config, host_end, addresses, ipv6 })
    }

    /// Wires the pod; `host` and `pod` are sockets in the two namespaces. What fails is taken back with the pair.
    pub(crate) fn wire(&self, host: &mut Socket, pod: &mut Socket) -> Result<(), WireError> {
        host.batch(&[describe_host_end(self)]).map_err(WireError::Host)?;
        sysctl::set_host_end(&self.host_end.name, self.ipv6).map_err(WireError::HostSetting)?;
        configure_host_end(self, host)?;

        let ifname = &self.attachment.holder.ifname;
        let settings = self.netns.enter(|| sysctl::set_pod_end(ifname, self.ipv6));
        settings.flatten().map_err(WireError::PodSetting)?;
        configure_pod_end(self, pod)
    }

    fn host_route(&self, address: IpAddr) -> Message {
        let source = self.config.node_addresses.towards(address);
        host_route(address, self.host_end, source, Placing::Exclusive)
    }
}

/// Makes the pair and returns the host end. One send: the pair and the question for its index.
///
/// The kernel makes a name once, so of several calls for one attachment one succeeds. On failure there is no pair.
pub(crate) fn create_pair(
    attachment: &Attachment,
    netns: &Netns,
    config: &PodConfig,
    host: &mut Socket,
) -> Result<Link, WireError> {
    let name = attachment.host_ifname();
    let pair = new_pair(attachment, netns, config);
    let replies = host.batch(&[pair, kernel::link_query(&name)]).map_err(|error| match error {
        NetlinkError::Refused { nth: 0, errno: Errno::EEXIST, .. } => WireError::Exists(error),
        error => WireError::Host(error),
    })?;
    replies.iter().find_map(kernel::parse_link).ok_or_else(|| {
        WireError::HostSetting(io::Error::other(format!("the kernel tells nothing about {name}")))
    })
}

fn new_pair(attachment: &Attachment, netns: &Netns, config: &PodConfig) -> Message {
    let name = attachment.host_ifname();
    let ifname = &attachment.holder.ifname;
    let doing = format!("create {name} with {ifname} in {}", netns.path().display());
    Message::new(doing, libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &ifinfo(0, LinkState::Up))
        .text(libc::IFLA_IFNAME, &name)
        .bytes(libc::IFLA_ADDRESS, &gateway::HOST_MAC.0)
        .maybe_u32(libc::IFLA_MTU, config.mtu_bytes)
        .nest(libc::IFLA_LINKINFO, &[], |m| {
            m.text(libc::IFLA_INFO_KIND, "veth").nest(libc::IFLA_INFO_DATA, &[], |m| {
                m.nest(VETH_INFO_PEER, &ifinfo(0, LinkState::AsIs), |m| {
                    m.text(libc::IFLA_IFNAME, ifname)
                        .bytes(libc::IFLA_ADDRESS, &attachment.pod_mac().0)
                        .maybe_u32(libc::IFLA_MTU, config.mtu_bytes)
                        .u32(libc::IFLA_NET_NS_FD, netns.raw_fd() as u32)
                })
            })
        })
}

/// Alias and settings are not taken at creation. The host end makes no link-local address of its own: it has fe80::1.
fn describe_host_end(wiring: &Wiring<'_>) -> Message {
    let Link { index, name, .. } = wiring.host_end;
    Message::new(format!("configure {name}"), libc::RTM_SETLINK, 0, &ifinfo(*index, LinkState::AsIs))
        // Without a final zero, for which the longest one has no room (`dev_set_alias`).
        .bytes(libc::IFLA_IFALIAS, wiring.attachment.alias().as_bytes())
        .nest(libc::IFLA_AF_SPEC, &[], |m| {
            let m = m.nest(libc::AF_INET as u16, &[], |m| {
                m.nest(IFLA_INET_CONF, &[], |m| {
                    HOST_IPV4_SETTINGS.iter().fold(m, |m, (setting, value)| m.u32(*setting, *value))
                })
            });
            match wiring.ipv6 {
                Ipv6::Missing => m,
                Ipv6::Granted | Ipv6::Unused => m.nest(libc::AF_INET6 as u16, &[], |m| {
                    m.bytes(IFLA_INET6_ADDR_GEN_MODE, &[ADDR_GEN_MODE_NONE])
                }),
            }
        })
}

/// One send: neighbour settings, the pod's IPv6 gateway, the host routes.
fn configure_host_end(wiring: &Wiring<'_>, host: &mut Socket) -> Result<(), WireError> {
    let host_end = wiring.host_end;
    let mut batch = vec![no_proxy_delay(host_end)];
    if wiring.ipv6 == Ipv6::Granted {
        batch.extend(ipv6_gateway(host_end));
    }
    let first_route = batch.len();
    let routes = wiring.addresses.iter().map(|address| wiring.host_route(address));
    batch.extend(routes);
    match host.batch(&batch) {
        Ok(_) => Ok(()),
        Err(NetlinkError::Refused { nth, .. }) if nth >= first_route => add_routes_one_by_one(wiring, host),
        Err(refusal) => Err(WireError::Host(refusal)),
    }
}

/// Adds those that are not there yet: the daemon may have been faster with some (see `host_routes`), which hid what is
/// wrong with others.
fn add_routes_one_by_one(wiring: &Wiring<'_>, host: &mut Socket) -> Result<(), WireError> {
    for address in wiring.addresses.iter() {
        let Err(refusal) = host.batch(&[wiring.host_route(address)]) else { continue };
        match (refusal.errno(), wiring.config.node_addresses.towards(address)) {
            (Some(Errno::EEXIST), _) if has_route(wiring, address, host)? => {}
            (Some(Errno::EEXIST), _) => return Err(WireError::AddressTaken),
            // The rest of the route is always the same, so the source it is.
            (Some(Errno::EINVAL), Some(address)) => {
                return Err(WireError::SourceMissing { address, refusal });
            }
            _ => return Err(WireError::Host(refusal)),
        }
    }
    Ok(())
}

/// Whether an address has a route of ours by the pod's own link.
fn has_route(wiring: &Wiring<'_>, address: IpAddr, host: &mut Socket) -> Result<bool, WireError> {
    let routes = kernel::pod_routes(host).map_err(WireError::Host)?;
    let wanted = (address, Some(wiring.host_end.index));
    Ok(routes.iter().any(|route| (route.destination, route.link) == wanted))
}

/// One send: the link comes up, and with it the carrier; addresses, neighbours and routes follow.
fn configure_pod_end(wiring: &Wiring<'_>, pod: &mut Socket) -> Result<(), WireError> {
    let (ifname, index) = (&wiring.attachment.holder.ifname, wiring.host_end.peer);
    let up = Message::new(format!("set {ifname} up"), libc::RTM_SETLINK, 0, &ifinfo(index, LinkState::Up));
    let of_family = wiring.addresses.iter().flat_map(|address| {
        let gateway = gateway::of(address);
        [
            new_address(ifname, index, address, whole_prefix(address)),
            permanent_neighbour(gateway, gateway::HOST_MAC, index, "in the pod"),
            on_link_route(gateway, index),
            default_route(gateway, index),
        ]
    });
    let batch: Vec<Message> = [up].into_iter().chain(of_family).collect();
    pod.batch(&batch).map(drop).map_err(WireError::Pod)
}

fn no_proxy_delay(link: &Link) -> Message {
    let header = [libc::AF_INET as u8, 0, 0, 0];
    let doing = format!("set the proxy delay of {} to 0", link.name);
    Message::new(doing, libc::RTM_SETNEIGHTBL, libc::NLM_F_REPLACE, &header)
        .text(NDTA_NAME, "arp_cache")
        .nest(NDTA_PARMS, &[], |m| {
            m.u32(NDTPA_IFINDEX, link.index).bytes(NDTPA_PROXY_DELAY, &0_u64.to_ne_bytes())
        })
}

fn new_address(ifname: &str, index: u32, address: IpAddr, prefix: u8) -> Message {
    let [a, b, c, d] = index.to_ne_bytes();
    let flags = if address.is_ipv6() { libc::IFA_F_NODAD as u8 } else { 0 };
    let scope =
        if address == IpAddr::from(gateway::IPV6) { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_UNIVERSE };
    let doing = format!("add address {address}/{prefix} to {ifname}");
    let header = [family(address), prefix, flags, scope, a, b, c, d];
    Message::new(doing, libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &header)
        .address(libc::IFA_LOCAL, address)
        .address(libc::IFA_ADDRESS, address)
}

/// Makes the host end the pod's gateway in IPv6, which it may be already. Without it the node could not even find
/// the pod: neighbour discovery needs a link-local source.
///
/// Not fe80::1/64: on an interface that forwards that would join the subnet-router anycast address, and its removal
/// doubles the time of DEL (20 -> 40 ms).
pub(crate) fn ipv6_gateway(link: &Link) -> [Message; 2] {
    let address = new_address(&link.name, link.index, gateway::IPV6.into(), 128);
    [address.or_there(), link_local_route(link).or_there()]
}

/// How a host route comes to its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placing {
    /// There must be no route to the address yet.
    Exclusive,
    /// Behind all that are there.
    Behind,
    /// In place of the first one that is there, whoever made it.
    InPlace,
}

/// The route to a pod by the host end of its link.
pub(crate) fn host_route(address: IpAddr, link: &Link, source: Option<IpAddr>, placing: Placing) -> Message {
    let from = source.map(|source| format!(" with source {source}")).unwrap_or_default();
    let doing = format!("add the route to {address} by {}{from}", link.name);
    let flags = match placing {
        Placing::Exclusive => libc::NLM_F_CREATE | libc::NLM_F_EXCL,
        Placing::Behind => libc::NLM_F_CREATE | libc::NLM_F_APPEND,
        Placing::InPlace => libc::NLM_F_REPLACE,
    };
    host_route_message(doing, libc::RTM_NEWROUTE, flags, address, link, source)
}

/// The end of the route to a pod that [`host_route`] makes. Without a source it is that of the first of ours,
/// whatever that one's source is (`fib_table_delete`).
pub(crate) fn no_host_route(address: IpAddr, link: &Link, source: Option<IpAddr>) -> Message {
    let doing = format!("delete the route to {address} by {}", link.name);
    host_route_message(doing, libc::RTM_DELROUTE, 0, address, link, source)
}

/// The end of a route of protocol 204, wherever it leads: whoever led it elsewhere gave it another scope (`via`), links or
/// none. With this scope, of which no route is, and no link the kernel looks at the protocol alone (`fib_table_delete`).
pub(crate) fn no_pod_route(route: &Route) -> Message {
    let address = route.destination;
    let mut header = rtmsg(address, whole_prefix(address), PROTOCOL_POD, libc::RT_SCOPE_NOWHERE);
    header[3] = route.tos;
    header[7] = libc::RTN_UNSPEC;
    Message::new(format!("delete the route to {address}"), libc::RTM_DELROUTE, 0, &header)
        .address(libc::RTA_DST, address)
}

fn host_route_message(
    doing: String,
    kind: u16,
    flags: i32,
    address: IpAddr,
    link: &Link,
    source: Option<IpAddr>,
) -> Message {
    let header = rtmsg(address, whole_prefix(address), PROTOCOL_POD, libc::RT_SCOPE_LINK);
    let route = Message::new(doing, kind, flags, &header)
        .address(libc::RTA_DST, address)
        .u32(libc::RTA_OIF, link.index);
    match source {
        Some(source) => route.address(libc::RTA_PREFSRC, source),
        None => route,
    }
}

/// The pod as a neighbour of the host end that nobody needs to look for.
pub(crate) fn neighbour(address: IpAddr, pod_mac: Mac, link: &Link) -> Message {
    permanent_neighbour(address, pod_mac, link.index, &format!("by {}", link.name))
}

/// The route that comes with an address of prefix length 64, marked as the kernel would.
fn link_local_route(link: &Link) -> Message {
    let network = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).into();
    let header = rtmsg(network, 64, libc::RTPROT_KERNEL, libc::RT_SCOPE_UNIVERSE);
    Message::new(
        format!("add the route to fe80::/64 by {}", link.name),
        libc::RTM_NEWROUTE,
        libc::NLM_F_CREATE,
        &header,
    )
    .address(libc::RTA_DST, network)
    .u32(libc::RTA_OIF, link.index)
}

fn on_link_route(gateway: IpAddr, index: u32) -> Message {
    let header = rtmsg(gateway, whole_prefix(gateway), libc::RTPROT_STATIC, libc::RT_SCOPE_LINK);
    Message::new(
        format!("add the route to {gateway} in the pod"),
        libc::RTM_NEWROUTE,
        libc::NLM_F_CREATE,
        &header,
    )
    .address(libc::RTA_DST, gateway)
    .u32(libc::RTA_OIF, index)
}

fn default_route(gateway: IpAddr, index: u32) -> Message {
    let header = rtmsg(gateway, 0, libc::RTPROT_STATIC, libc::RT_SCOPE_UNIVERSE);
    let doing = format!("add the default route by {gateway} in the pod");
    Message::new(doing, libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &header)
        .address(libc::RTA_GATEWAY, gateway)
        .u32(libc::RTA_OIF, index)
}

fn permanent_neighbour(address: IpAddr, mac: Mac, index: u32, place: &str) -> Message {
    let [a, b, c, d] = index.to_ne_bytes();
    let [low, high] = libc::NUD_PERMANENT.to_ne_bytes();
    let header = [family(address), 0, 0, 0, a, b, c, d, low, high, 0, 0];
    let doing = format!("add the neighbour {address} {place}");
    Message::new(doing, libc::RTM_NEWNEIGH, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, &header)
        .address(libc::NDA_DST, address)
        .bytes(libc::NDA_LLADDR, &mac.0)
}

/// What a link message says about the up flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkState {
    Up,
    Down,
    AsIs,
}

/// The header of a link message. Index 0: the link is told by its name.
pub(crate) fn ifinfo(index: u32, state: LinkState) -> [u8; IFINFO_BYTES] {
    let up = libc::IFF_UP as u32;
    let (flags, mask) = match state {
        LinkState::Up => (up, up),
        LinkState::Down => (0, up),
        LinkState::AsIs => (0, 0),
    };
    let mut header = [0; IFINFO_BYTES];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&mask.to_ne_bytes()); // nothing else changes
    header
}

fn rtmsg(address: IpAddr, prefix: u8, protocol: u8, scope: u8) -> [u8; RTMSG_BYTES] {
    let table = libc::RT_TABLE_MAIN;
    [family(address), prefix, 0, 0, table, protocol, scope, libc::RTN_UNICAST, 0, 0, 0, 0]
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

fn whole_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}
