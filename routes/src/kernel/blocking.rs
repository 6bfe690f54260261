//! One socket that lists and deletes, a message at a time: for who has nothing else to do meanwhile.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLMSG_ERROR};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::{
    BUFFER_LENGTH, datagram,
    dump::{Found, NLM_F_DUMP_INTR, Part, STAGES, Stage, part},
    encode_op,
    message::Messages,
};
use crate::{diff::Op, error::Error};

/// Listings that were made anew, since something changed meanwhile, before the last one is taken as it is.
const MOST_LISTINGS: usize = 8;

pub(crate) struct Blocking {
    socket: Socket,
    sequence: u32,
    messages: Messages,
    buffer: Vec<u8>,
}

impl Blocking {
    /// In the network namespace of the calling thread.
    pub(crate) fn open() -> Result<Self, Error> {
        let failed = |what| move |source| Error::Open { what, source };
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed("socket"))?;
        socket.bind_auto().map_err(failed("bind"))?;
        socket.set_cap_ack(true).map_err(failed("NETLINK_CAP_ACK"))?;
        // As in `dump`: without cached exceptions.
        socket.set_netlink_get_strict_chk(true).map_err(failed("NETLINK_GET_STRICT_CHK"))?;
        let buffer = Vec::with_capacity(BUFFER_LENGTH);
        Ok(Self { socket, sequence: 0, messages: Messages::default(), buffer })
    }

    /// All objects and groups, then all routes of all tables.
    pub(crate) fn list(&mut self) -> Result<Vec<Found>, Error> {
        let mut all = Vec::new();
        for stage in STAGES {
            let listed = self.list_stage(stage);
            all.extend(listed.map_err(|source| Error::Dump { what: stage.name(), source })?);
        }
        Ok(all)
    }

    fn list_stage(&mut self, stage: Stage) -> io::Result<Vec<Found>> {
        let mut listings = 1;
        loop {
            let (found, is_whole) = self.list_once(stage)?;
            if is_whole || listings == MOST_LISTINGS {
                return Ok(found);
            }
            listings += 1;
        }
    }

    fn list_once(&mut self, stage: Stage) -> io::Result<(Vec<Found>, bool)> {
        let sequence = self.begin();
        stage.encode(&mut self.messages, sequence);
        self.send()?;
        let (mut found, mut is_whole) = (Vec::new(), true);
        loop {
            self.receive()?;
            for (header, payload) in datagram(&self.buffer) {
                if header.sequence_number != sequence {
                    continue;
                }
                is_whole &= header.flags & NLM_F_DUMP_INTR == 0;
                match part(&header, payload)? {
                    Part::Found(object) => found.push(object),
                    Part::Done => return Ok((found, is_whole)),
                    Part::Nothing => {}
                }
            }
        }
    }

    /// Does one thing, or tells the kernel's refusal.
    pub(crate) fn write(&mut self, op: &Op) -> io::Result<()> {
        let sequence = self.begin();
        encode_op(&mut self.messages, sequence, NLM_F_ACK, op);
        self.send()?;
        loop {
            self.receive()?;
            for (header, payload) in datagram(&self.buffer) {
                if header.sequence_number == sequence && header.message_type == NLMSG_ERROR {
                    let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                    return match code.saturating_neg() {
                        0 => Ok(()),
                        errno => Err(io::Error::from_raw_os_error(errno)),
                    };
                }
            }
        }
    }

    fn begin(&mut self) -> u32 {
        self.messages.clear();
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn send(&self) -> io::Result<()> {
        self.socket.send_to(self.messages.bytes(), &SocketAddr::new(0, 0), 0).map(drop)
    }

    fn receive(&mut self) -> io::Result<()> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => return received.map(drop),
            }
        }
    }
}
