//! Listing next hops and routes, one datagram at a time, so that other work goes on between.

use std::io;

use netlink_packet_core::{NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR, NetlinkHeader};
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use nix::errno::Errno;

use super::{
    BUFFER_LENGTH, datagram,
    message::Messages,
    next_hop::{self, KernelNextHop, RTM_NEWNEXTHOP},
    route::{self, KernelRoute, RTM_NEWROUTE},
};
use crate::{error::Error, wanted::Family};

/// "The dump was interrupted": what is listed changed meanwhile.
pub(super) const NLM_F_DUMP_INTR: u16 = 0x10;

/// One object of a listing.
#[derive(Debug)]
pub(crate) enum Found {
    NextHop(KernelNextHop),
    Route(KernelRoute),
}

/// What one datagram brought.
#[derive(Debug)]
pub(crate) struct DumpStep {
    pub(crate) found: Vec<Found>,
    /// Set when all is listed.
    pub(crate) end: Option<Consistency>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consistency {
    Whole,
    /// It changed meanwhile: something may be missing.
    Interrupted,
}

/// A listing in progress: objects and groups, then IPv4 routes, then IPv6 routes.
pub(crate) struct Dump {
    socket: TokioSocket,
    buffer: Vec<u8>,
    stages: std::slice::Iter<'static, Stage>,
    stage: Stage,
    consistency: Consistency,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Stage {
    NextHops,
    Routes(Family),
}

pub(super) const STAGES: [Stage; 3] =
    [Stage::NextHops, Stage::Routes(Family::Ipv4), Stage::Routes(Family::Ipv6)];

impl Stage {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NextHops => "next hops",
            Self::Routes(Family::Ipv4) => "ipv4 routes",
            Self::Routes(Family::Ipv6) => "ipv6 routes",
        }
    }

    pub(super) fn encode(self, request: &mut Messages, sequence: u32) {
        match self {
            Self::NextHops => next_hop::encode_dump(request, sequence, NLM_F_DUMP),
            Self::Routes(family) => route::encode_dump(request, sequence, NLM_F_DUMP, family),
        }
    }
}

impl Dump {
    /// Asks for the first part. Each listing has a socket of its own, so that one given up leaves nothing
    /// behind.
    pub(crate) fn begin() -> Result<Self, Error> {
        let failed = |what| move |source| Error::Open { what, source };
        let socket = TokioSocket::new(NETLINK_ROUTE).map_err(failed("dump socket"))?;
        // The kernel then leaves out cached exceptions (`ip_valid_fib_dump_req` in net/ipv4/fib_frontend.c).
        socket.socket_ref().set_netlink_get_strict_chk(true).map_err(failed("NETLINK_GET_STRICT_CHK"))?;
        let mut dump = Self {
            socket,
            buffer: Vec::with_capacity(BUFFER_LENGTH),
            stages: STAGES.iter(),
            stage: Stage::NextHops,
            consistency: Consistency::Whole,
        };
        dump.next_stage()?;
        Ok(dump)
    }

    /// Takes the next datagram. Cancel-safe: what is taken from the socket is returned.
    pub(crate) async fn step(&mut self) -> Result<DumpStep, Error> {
        self.buffer.clear();
        let what = self.stage.name();
        self.socket.recv(&mut self.buffer).await.map_err(|source| Error::Dump { what, source })?;
        let mut found = Vec::new();
        let mut done = false;
        for (header, payload) in datagram(&self.buffer) {
            if header.flags & NLM_F_DUMP_INTR != 0 {
                self.consistency = Consistency::Interrupted;
            }
            match part(&header, payload) {
                Ok(Part::Found(object)) => found.push(object),
                Ok(Part::Done) => done = true,
                Ok(Part::Nothing) => {}
                Err(source) => return Err(Error::Dump { what, source }),
            }
        }
        let end = if done && !self.next_stage()? { Some(self.consistency) } else { None };
        Ok(DumpStep { found, end })
    }

    /// Asks for the next part, if there is one.
    fn next_stage(&mut self) -> Result<bool, Error> {
        let Some(stage) = self.stages.next() else { return Ok(false) };
        self.stage = *stage;
        let mut request = Messages::default();
        stage.encode(&mut request, 1);
        let sent = self.socket.socket_ref().send_to(request.bytes(), &SocketAddr::new(0, 0), 0);
        sent.map(|_| true).map_err(|source| Error::Dump { what: stage.name(), source })
    }
}

/// What one message of a listing says.
pub(super) enum Part {
    Found(Found),
    Done,
    Nothing,
}

pub(super) fn part(header: &NetlinkHeader, payload: &[u8]) -> io::Result<Part> {
    let found = match header.message_type {
        RTM_NEWNEXTHOP => next_hop::decode_next_hop(payload).map(Found::NextHop),
        RTM_NEWROUTE => route::decode_route(payload).map(Found::Route),
        NLMSG_DONE => return Ok(Part::Done),
        NLMSG_ERROR => {
            return match payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code).saturating_neg()) {
                // A table that nobody has used yet.
                code if code == Errno::ENOENT as i32 => Ok(Part::Done),
                code => Err(io::Error::from_raw_os_error(code)),
            };
        }
        _ => None,
    };
    Ok(found.map_or(Part::Nothing, Part::Found))
}
