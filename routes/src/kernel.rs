//! The only place that talks to the kernel.
//!
//! One socket both **writes and watches**: the kernel works through a batch before `send` returns, so when it
//! does, every refusal lies in the receive queue already, in one line with the changes that others made
//! meanwhile. Nothing is ever in flight, and no two sockets have to be put in order. Only the last message of
//! a batch asks for an acknowledgement; the others speak up when they fail, by sequence number. A socket
//! filter keeps the echoes of our own writes out of the queue, so that a hundred thousand routes cannot
//! overrun it.
//!
//! Each listing has sockets of its own. Next hops and routes are listed step by step between other work
//! (`dump`), or at once where there is none (`blocking`); links, addresses and neighbours by `rtnetlink`. That library has no next-hop messages and
//! sends one request at a time, hence the rest.

mod blocking;
mod dump;
mod link;
mod message;
mod neighbor;
mod next_hop;
mod route;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
};

use futures::TryStreamExt;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REPLACE, NLMSG_ERROR, NLMSG_OVERRUN, NetlinkBuffer, NetlinkDeserializable,
    NetlinkHeader, Parseable,
};
use netlink_packet_route::{
    RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteVia},
};
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use nix::{
    errno::Errno,
    sys::socket::{setsockopt, sockopt::RcvBufForce},
};
use rtnetlink::RouteMessageBuilder;
use socket2::{SockFilter, SockRef};

pub(crate) use self::{
    blocking::Blocking,
    dump::{Consistency, Dump, DumpStep, Found},
    next_hop::{KernelNextHop, NextHopContent},
    route::{KernelRoute, Table},
};
use self::{
    message::Messages,
    next_hop::{RTM_DELNEXTHOP, RTM_NEWNEXTHOP},
    route::{Place, RTM_DELROUTE, RTM_NEWROUTE},
};
use crate::{
    diff::Op,
    error::Error,
    links::{Link, LinkAddress, LinkTable},
    neighbors::Neighbor,
    next_hops::{LinkIndex, NextHopId},
};

/// `RTNLGRP_*` of links, addresses, routes and next hops.
const GROUPS: [u32; 6] = [1, 5, 9, 7, 11, 32];
/// The kernel sends at most 32 KiB a datagram.
const BUFFER_LENGTH: usize = 64 * 1024;
/// Datagrams taken at once before other work has its turn.
const DATAGRAMS_A_TURN: usize = 256;

/// What the kernel told without being asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KernelEvent {
    Link(Link),
    LinkGone(LinkIndex),
    Address(LinkIndex, LinkAddress),
    AddressGone(LinkIndex, LinkAddress),
    NextHop(KernelNextHop),
    NextHopGone(NextHopId),
    Route {
        route: KernelRoute,
        replaced: Replaced,
    },
    RouteGone(KernelRoute),
    /// The queue was full: events are lost, and only a listing tells the truth.
    Overrun,
}

/// Whether a new route took the place of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replaced {
    Yes,
    No,
}

/// How a batch went.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Refused messages by their position in the batch.
    pub(crate) refused: Vec<(usize, Errno)>,
    /// What others did up to the end of the batch.
    pub(crate) events: Vec<KernelEvent>,
}

pub(crate) struct Kernel {
    socket: TokioSocket,
    sequence: u32,
    messages: Messages,
    buffer: Vec<u8>,
}

impl Kernel {
    /// Opens the sockets in the current network namespace and begins to watch.
    pub(crate) fn open(receive_buffer_bytes: usize) -> Result<Self, Error> {
        let failed = |what| move |source| Error::Open { what, source };
        let mut socket = TokioSocket::new(NETLINK_ROUTE).map_err(failed("socket"))?;
        let port = socket.socket_mut().bind_auto().map_err(failed("bind"))?.port_number();
        let inner = socket.socket_ref();
        // Short error messages: we know what we sent.
        inner.set_cap_ack(true).map_err(failed("NETLINK_CAP_ACK"))?;
        set_receive_buffer(inner, receive_buffer_bytes).map_err(failed("SO_RCVBUF"))?;
        SockRef::from(inner).attach_filter(&without_own_echo(port)).map_err(failed("SO_ATTACH_FILTER"))?;
        for group in GROUPS {
            socket.socket_mut().add_membership(group).map_err(failed("NETLINK_ADD_MEMBERSHIP"))?;
        }
        Ok(Self {
            socket,
            sequence: 0,
            messages: Messages::default(),
            buffer: Vec::with_capacity(BUFFER_LENGTH),
        })
    }

    /// Sends a batch and collects the kernel's answers. Does not wait: the kernel answers before `send`
    /// returns.
    pub(crate) fn write(&mut self, ops: &[Op]) -> Result<Written, Error> {
        let first = self.encode(ops);
        let to_kernel = SocketAddr::new(0, 0);
        let mut written = Written::default();
        if let Err(error) = self.socket.socket_ref().send_to(self.messages.bytes(), &to_kernel, 0) {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
            written.refused = (0..ops.len()).map(|at| (at, errno)).collect();
            return Ok(written);
        }
        let last = first.wrapping_add(ops.len() as u32).wrapping_sub(1);
        loop {
            match self.receive_now() {
                Ok(true) => {}
                // The answer itself was lost in a full queue.
                Ok(false) => {
                    written.events.push(KernelEvent::Overrun);
                    return Ok(written);
                }
                Err(error) if is_overrun(&error) => written.events.push(KernelEvent::Overrun),
                Err(error) => return Err(Error::Socket(error)),
            }
            for (header, payload) in datagram(&self.buffer) {
                if header.message_type != NLMSG_ERROR {
                    written.events.extend(decode(&header, payload));
                    continue;
                }
                let errno =
                    payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code).saturating_neg());
                if errno != 0 {
                    written
                        .refused
                        .push((header.sequence_number.wrapping_sub(first) as usize, Errno::from_raw(errno)));
                }
                if header.sequence_number == last {
                    return Ok(written);
                }
            }
        }
    }

    fn encode(&mut self, ops: &[Op]) -> u32 {
        let first = self.sequence.wrapping_add(1);
        self.messages.clear();
        for (at, op) in ops.iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1);
            let flags = if at + 1 == ops.len() { NLM_F_ACK } else { 0 };
            encode_op(&mut self.messages, self.sequence, flags, op);
        }
        first
    }

    /// Waits for the kernel to tell something. Cancel-safe: what is taken from the socket is returned.
    pub(crate) async fn events(&mut self) -> Result<Vec<KernelEvent>, Error> {
        self.buffer.clear();
        let received = self.socket.recv(&mut self.buffer).await.map(|()| true);
        self.collect(received)
    }

    /// What the kernel has told by now.
    pub(crate) fn events_so_far(&mut self) -> Result<Vec<KernelEvent>, Error> {
        let received = self.receive_now();
        self.collect(received)
    }

    /// The events of a datagram in the buffer, and of those that wait behind it.
    fn collect(&mut self, mut received: io::Result<bool>) -> Result<Vec<KernelEvent>, Error> {
        let mut events = Vec::new();
        for _ in 0..DATAGRAMS_A_TURN {
            match received {
                Ok(true) => {
                    for (header, payload) in datagram(&self.buffer) {
                        events.extend(decode(&header, payload));
                    }
                }
                Ok(false) => break,
                Err(error) if is_overrun(&error) => events.push(KernelEvent::Overrun),
                Err(error) => return Err(Error::Socket(error)),
            }
            received = self.receive_now();
        }
        Ok(events)
    }

    /// One datagram into the buffer, if there is one.
    fn receive_now(&mut self) -> io::Result<bool> {
        self.buffer.clear();
        match self.socket.socket_ref().recv(&mut self.buffer, 0) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
impl Kernel {
    /// From now on it hears nothing but answers, and is not told that it misses anything.
    pub(crate) fn deafen(&self) -> io::Result<()> {
        const LOAD_HALF: u16 = 0x28;
        const JUMP_IF_EQUAL: u16 = 0x15;
        const RETURN: u16 = 0x06;
        SockRef::from(self.socket.socket_ref()).attach_filter(&[
            SockFilter::new(LOAD_HALF, 0, 0, 4),
            SockFilter::new(JUMP_IF_EQUAL, 1, 0, u32::from(NLMSG_ERROR.to_be())),
            SockFilter::new(RETURN, 0, 0, 0),
            SockFilter::new(RETURN, 0, 0, u32::MAX),
        ])
    }
}

/// All links with their addresses, by a connection that lasts as long as the listing.
pub(crate) async fn list_links() -> Result<LinkTable, Error> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|source| Error::Open { what: "listing socket", source })?;
    tokio::select! {
        table = read_links(&handle) => table,
        () = connection => Err(Error::Dump { what: "links", source: io::ErrorKind::ConnectionAborted.into() }),
    }
}

async fn read_links(handle: &rtnetlink::Handle) -> Result<LinkTable, Error> {
    let mut table = LinkTable::default();
    let mut links = handle.link().get().execute();
    while let Some(message) = links.try_next().await? {
        if let Some(link) = link::link(&message) {
            table.put_link(link);
        }
    }
    let mut addresses = handle.address().get().execute();
    while let Some(message) = addresses.try_next().await? {
        if let Some((index, address)) = link::address(&message) {
            table.put_address(index, address);
        }
    }
    Ok(table)
}

/// All unicast neighbours, by a connection that lasts as long as the listing.
pub(crate) async fn list_neighbors() -> Result<Vec<Neighbor>, Error> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|source| Error::Open { what: "listing socket", source })?;
    tokio::select! {
        neighbors = read_neighbors(&handle) => neighbors.map_err(Error::Neighbors),
        () = connection => Err(Error::Dump { what: "neighbours", source: io::ErrorKind::ConnectionAborted.into() }),
    }
}

async fn read_neighbors(handle: &rtnetlink::Handle) -> Result<Vec<Neighbor>, rtnetlink::Error> {
    let messages = handle.neighbours().get().execute();
    let found = messages.try_filter_map(|message| std::future::ready(Ok(neighbor::neighbor(&message))));
    let mut neighbors: Vec<Neighbor> = found.try_collect().await?;
    neighbors.sort_by_key(|neighbor| (neighbor.interface, neighbor.address));
    Ok(neighbors)
}

/// The gateway by which the kernel would send to each destination; none for those on a link or out of reach.
pub(crate) async fn gateways(towards: &BTreeSet<IpAddr>) -> Result<BTreeMap<IpAddr, IpAddr>, Error> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|source| Error::Open { what: "listing socket", source })?;
    let ask = async {
        let mut gateways = BTreeMap::new();
        for destination in towards {
            if let Some(gateway) = gateway(&handle, *destination).await {
                gateways.insert(*destination, gateway);
            }
        }
        gateways
    };
    tokio::select! {
        gateways = ask => Ok(gateways),
        () = connection => Err(Error::Dump { what: "gateways", source: io::ErrorKind::ConnectionAborted.into() }),
    }
}

/// What is out of reach is answered with an error.
async fn gateway(handle: &rtnetlink::Handle, destination: IpAddr) -> Option<IpAddr> {
    let length = if destination.is_ipv4() { 32 } else { 128 };
    let question = RouteMessageBuilder::<IpAddr>::new().destination_prefix(destination, length).ok()?.build();
    let mut answers = Box::pin(handle.route().get(question).execute());
    let answer = answers.try_next().await.ok()??;
    answer.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => Some(IpAddr::V4(*gateway)),
        RouteAttribute::Gateway(RouteAddress::Inet6(gateway)) => Some(IpAddr::V6(*gateway)),
        RouteAttribute::Via(RouteVia::Inet6(gateway)) => Some(IpAddr::V6(*gateway)),
        _ => None,
    })
}

/// Beyond the system's limit if we may, else up to it.
fn set_receive_buffer(socket: &netlink_sys::Socket, bytes: usize) -> io::Result<()> {
    match setsockopt(socket, RcvBufForce, &bytes) {
        Ok(()) => Ok(()),
        Err(_) => SockRef::from(socket).set_recv_buffer_size(bytes),
    }
}

/// Drops notifications of routes and next hops that our own requests caused: their port number is ours.
/// Answers to our requests pass, and so do links and addresses, which we never write.
fn without_own_echo(port: u32) -> [SockFilter; 10] {
    const LOAD_HALF: u16 = 0x28;
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let is_type = |message_type: u16, to_port: u8| {
        // The filter machine reads big-endian, netlink writes in the host's order.
        SockFilter::new(JUMP_IF_EQUAL, to_port, 0, u32::from(message_type.to_be()))
    };
    [
        SockFilter::new(LOAD_HALF, 0, 0, 4),
        is_type(RTM_NEWROUTE, 4),
        is_type(RTM_DELROUTE, 3),
        is_type(RTM_NEWNEXTHOP, 2),
        is_type(RTM_DELNEXTHOP, 1),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(LOAD_WORD, 0, 0, 12),
        SockFilter::new(JUMP_IF_EQUAL, 1, 0, port.to_be()),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

fn encode_op(messages: &mut Messages, sequence: u32, flags: u16, op: &Op) {
    match op {
        Op::CreateObject { id, hop, on_link } => {
            next_hop::encode_object(messages, sequence, flags, *id, *hop, *on_link)
        }
        Op::CreateGroup { id, members, .. } => {
            next_hop::encode_group(messages, sequence, flags, Place::Free, *id, members);
        }
        Op::ReplaceGroup { id, members, .. } => {
            next_hop::encode_group(messages, sequence, flags, Place::Ours, *id, members);
        }
        Op::DeleteNextHop { id } => next_hop::encode_delete(messages, sequence, flags, *id),
        Op::CreateRoute { prefix, shape, on_link } => {
            route::encode_route(messages, sequence, flags, Place::Free, *prefix, shape, *on_link);
        }
        Op::ReplaceRoute { prefix, shape, on_link } => {
            route::encode_route(messages, sequence, flags, Place::Ours, *prefix, shape, *on_link);
        }
        Op::DeleteRoute { prefix, metric, form } => {
            route::encode_delete(messages, sequence, flags, *prefix, *metric, *form);
        }
    }
}

/// The messages of one datagram; what is malformed ends it.
fn datagram(bytes: &[u8]) -> impl Iterator<Item = (NetlinkHeader, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(rest).ok()?;
        let header = NetlinkHeader::parse(&message).ok()?;
        let payload = rest.get(16..header.length as usize)?;
        rest = rest.get((header.length as usize).next_multiple_of(4)..).unwrap_or_default();
        Some((header, payload))
    })
}

/// `None`: nothing that concerns us.
fn decode(header: &NetlinkHeader, payload: &[u8]) -> Option<KernelEvent> {
    match header.message_type {
        RTM_NEWROUTE => {
            let replaced = if header.flags & NLM_F_REPLACE != 0 { Replaced::Yes } else { Replaced::No };
            route::decode_route(payload).map(|route| KernelEvent::Route { route, replaced })
        }
        RTM_DELROUTE => route::decode_route(payload).map(KernelEvent::RouteGone),
        RTM_NEWNEXTHOP => next_hop::decode_next_hop(payload).map(KernelEvent::NextHop),
        RTM_DELNEXTHOP => next_hop::decode_next_hop(payload).map(|gone| KernelEvent::NextHopGone(gone.id)),
        NLMSG_OVERRUN => Some(KernelEvent::Overrun),
        NLMSG_ERROR => None,
        _ => match RouteNetlinkMessage::deserialize(header, payload).ok()? {
            RouteNetlinkMessage::NewLink(message) => link::link(&message).map(KernelEvent::Link),
            RouteNetlinkMessage::DelLink(message) => {
                link::link(&message).map(|gone| KernelEvent::LinkGone(gone.index))
            }
            RouteNetlinkMessage::NewAddress(message) => {
                link::address(&message).map(|(index, address)| KernelEvent::Address(index, address))
            }
            RouteNetlinkMessage::DelAddress(message) => {
                link::address(&message).map(|(index, address)| KernelEvent::AddressGone(index, address))
            }
            _ => None,
        },
    }
}

fn is_overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENOBUFS as i32)
}
