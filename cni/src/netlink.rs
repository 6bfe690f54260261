//! A blocking netlink socket: many messages in one send, one answer for each.
//!
//! Only what the plugin needs. A [`Message`] knows in words what it does, so that a refusal can say it; the kernel's
//! own words (extended acknowledgement) follow where it has some.

use std::io;

use netlink_sys::{
    SocketAddr,
    protocols::{NETLINK_NETFILTER, NETLINK_ROUTE},
};
use nix::errno::Errno;
use nix::libc;

mod message;

pub(crate) use message::{Message, Reply, record};

/// Fits the kernel's largest dump datagram.
const RECEIVE_BYTES: usize = 32 * 1024;
/// Attempts at a dump that changes under our eyes.
const DUMP_TRIES: u32 = 5;

/// What the kernel or the socket refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetlinkError {
    /// The kernel refused a message, the nth of its batch.
    #[error("cannot {doing}: {errno}{}", .words.as_ref().map(|words| format!(": {words}")).unwrap_or_default())]
    Refused { nth: usize, doing: String, errno: Errno, words: Option<String> },
    /// The socket itself failed.
    #[error("netlink socket: {0}")]
    Socket(#[from] io::Error),
    /// A dump never came out consistent.
    #[error("cannot {0}: it changed too often meanwhile")]
    Unsteady(String),
}

impl NetlinkError {
    /// The kernel's number, if it was the kernel.
    pub(crate) fn errno(&self) -> Option<Errno> {
        match self {
            NetlinkError::Refused { errno, .. } => Some(*errno),
            NetlinkError::Socket(_) | NetlinkError::Unsteady(_) => None,
        }
    }
}

/// A socket in the network namespace it was opened in, whoever uses it.
pub(crate) struct Socket {
    inner: netlink_sys::Socket,
    next_sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket for links, addresses, routes and neighbours in the calling thread's network namespace.
    pub(crate) fn open() -> io::Result<Socket> {
        Socket::open_protocol(NETLINK_ROUTE)
    }

    /// Opens a socket for netfilter's subsystems in the calling thread's network namespace.
    pub(crate) fn open_netfilter() -> io::Result<Socket> {
        Socket::open_protocol(NETLINK_NETFILTER)
    }

    fn open_protocol(protocol: isize) -> io::Result<Socket> {
        let mut inner = netlink_sys::Socket::new(protocol)?;
        inner.bind_auto()?;
        inner.connect(&SocketAddr::new(0, 0))?;
        inner.set_cap_ack(true)?;
        inner.set_ext_ack(true)?;
        // Filters in dumps; a kernel before 4.20 tells too much instead.
        let _ = inner.set_netlink_get_strict_chk(true);
        Ok(Socket { inner, next_sequence: 1, buffer: Vec::with_capacity(RECEIVE_BYTES) })
    }

    /// Sends all messages at once and waits for an answer to each; returns what queries among them found.
    ///
    /// The kernel tries every message even after it refused one. The first refusal is returned: later ones are
    /// mostly its consequence.
    pub(crate) fn batch(&mut self, messages: &[Message]) -> Result<Vec<Reply>, NetlinkError> {
        let first = self.next_sequence;
        let mut bytes = Vec::new();
        for message in messages {
            message.write(libc::NLM_F_ACK as u16, self.next_sequence, &mut bytes);
            self.next_sequence += 1;
        }
        self.send(&bytes)?;

        let (mut replies, mut refusal) = (Vec::new(), None);
        let mut unanswered = messages.len();
        while unanswered > 0 {
            for record in self.receive()? {
                let nth = record.sequence.wrapping_sub(first) as usize;
                let Some(message) = messages.get(nth) else {
                    continue; // an answer to an earlier batch that was given up
                };
                match record.outcome {
                    record::Outcome::Data(reply) => replies.push(reply),
                    record::Outcome::Acknowledged | record::Outcome::DumpDone => unanswered -= 1,
                    record::Outcome::Refused { errno: Errno::EEXIST, .. } if message.is_done_if_there() => {
                        unanswered -= 1;
                    }
                    record::Outcome::Refused { errno, words } => {
                        unanswered -= 1;
                        let doing = message.doing().to_owned();
                        refusal = refusal.or(Some(NetlinkError::Refused { nth, doing, errno, words }));
                    }
                }
            }
        }
        refusal.map_or(Ok(replies), Err)
    }

    /// Asks for all objects of a kind, again if they changed meanwhile.
    pub(crate) fn dump(&mut self, query: &Message) -> Result<Vec<Reply>, NetlinkError> {
        for _ in 0..DUMP_TRIES {
            if let Some(replies) = self.dump_once(query)? {
                return Ok(replies);
            }
        }
        Err(NetlinkError::Unsteady(query.doing().to_owned()))
    }

    fn dump_once(&mut self, query: &Message) -> Result<Option<Vec<Reply>>, NetlinkError> {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let mut bytes = Vec::new();
        query.write(libc::NLM_F_DUMP as u16, sequence, &mut bytes);
        self.send(&bytes)?;

        let (mut replies, mut steady) = (Vec::new(), true);
        loop {
            for record in self.receive()? {
                if record.sequence != sequence {
                    continue;
                }
                steady &= !record.interrupted;
                match record.outcome {
                    record::Outcome::Data(reply) => replies.push(reply),
                    record::Outcome::Acknowledged | record::Outcome::DumpDone => {
                        return Ok(steady.then_some(replies));
                    }
                    record::Outcome::Refused { errno, words } => {
                        let doing = query.doing().to_owned();
                        return Err(NetlinkError::Refused { nth: 0, doing, errno, words });
                    }
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.inner.send(bytes, 0).map(drop)
    }

    fn receive(&mut self) -> io::Result<Vec<record::Record>> {
        self.buffer.clear();
        loop {
            match self.inner.recv(&mut self.buffer, 0) {
                Ok(_) => return Ok(record::parse(&self.buffer)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
