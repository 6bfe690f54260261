//! A blocking netlink socket of netfilter, and its two ways to ask: one message with one answer, and a listing.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::{Socket as Raw, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::message::{
    ACK, Attributes, DONE, DUMP, DUMP_INTERRUPTED, ERROR, Header, Message, Messages, OVERRUN, REQUEST, Writer,
};
use super::{Damaged, Error};

/// Room for what one read gives: a listing comes in pieces of at most 32 KiB, and an error of ipset
/// carries the whole message it speaks of (`call_ad` in net/netfilter/ipset/ip_set_core.c).
const READ_BYTES: usize = 256 * 1024;
/// Room in the socket for answers that were not read yet.
const RECEIVE_BYTES: usize = 8 << 20;
/// The kernel answers within the call; one that does not in this time never will.
const ANSWER_TIMEOUT_SECONDS: i64 = 30;
/// Listings that were made anew, since something changed meanwhile, before the last is taken as an error.
const MOST_LISTINGS: usize = 32;

/// The socket.
pub(super) struct Socket {
    raw: Raw,
    port: u32,
    sequence: u32,
    send_bytes: usize,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Socket {
    /// In the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<Socket> {
        let mut raw = Raw::new(NETLINK_NETFILTER)?;
        let port = raw.bind_auto()?.port_number();
        raw.connect(&SocketAddr::new(0, 0))?;
        // Beyond the system's limit only with CAP_NET_ADMIN, which everything here needs.
        setsockopt(&raw, sockopt::RcvBufForce, &RECEIVE_BYTES)
            .or_else(|_| setsockopt(&raw, sockopt::RcvBuf, &RECEIVE_BYTES))?;
        setsockopt(&raw, sockopt::ReceiveTimeout, &TimeVal::new(ANSWER_TIMEOUT_SECONDS, 0))?;
        raw.set_cap_ack(true)?;
        Ok(Socket { raw, port, sequence: 0, send_bytes: 0, buffer: Vec::with_capacity(READ_BYTES) })
    }

    /// As the kernel numbers it.
    pub(super) fn port(&self) -> u32 {
        self.port
    }

    /// Readable when there is something to read.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }

    /// Hears what the kernel tells a multicast group.
    pub(super) fn join(&self, group: u32) -> io::Result<()> {
        self.raw.add_membership(group)
    }

    /// A number that no request had lately.
    pub(super) fn next_sequence(&mut self) -> u32 {
        self.sequence = next_sequence(self.sequence);
        self.sequence
    }

    /// Sends messages all at once: the kernel works on them before this returns.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() + 4096 > self.send_bytes {
            self.send_bytes = (bytes.len() + 4096).next_power_of_two().max(1 << 20);
            // The kernel doubles it, and allocates nothing before it is needed.
            setsockopt(&self.raw, sockopt::SndBufForce, &self.send_bytes)
                .or_else(|_| setsockopt(&self.raw, sockopt::SndBuf, &self.send_bytes))?;
        }
        loop {
            match self.raw.send(bytes, 0) {
                Ok(sent) if sent == bytes.len() => return Ok(()),
                Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for messages and returns them.
    pub(super) fn receive(&mut self) -> io::Result<Messages<'_>> {
        self.read(0).map(Messages)
    }

    /// Messages that are there already; `None`: there are none.
    pub(super) fn receive_now(&mut self) -> io::Result<Option<Messages<'_>>> {
        const MSG_DONTWAIT: i32 = nix::sys::socket::MsgFlags::MSG_DONTWAIT.bits();
        match self.read(MSG_DONTWAIT) {
            Ok(bytes) => Ok(Some(Messages(bytes))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits until there is something to read, and tells whether there is.
    pub(super) fn wait(&self, timeout: Duration) -> io::Result<bool> {
        match poll(&mut [PollFd::new(self.raw.as_fd(), PollFlags::POLLIN)], poll_timeout(timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn read(&mut self, flags: i32) -> io::Result<&[u8]> {
        self.buffer.clear();
        loop {
            match self.raw.recv(&mut self.buffer, flags) {
                Ok(_) => return Ok(&self.buffer),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks one thing and returns what `answer` makes of the message that comes back; `Err(Refused)` with the
    /// number of the error.
    pub(super) fn ask<T>(
        &mut self,
        kind: u16,
        family: u8,
        body: impl FnOnce(&mut Writer),
        answer: impl FnOnce(Attributes<'_>) -> Result<T, Damaged>,
    ) -> Result<T, Error> {
        let sequence = self.next_sequence();
        let mut writer = Writer::new();
        writer.message(Header { kind, flags: REQUEST, sequence, family, resource: 0 }, body);
        self.send(writer.as_bytes())?;
        loop {
            for message in self.receive()? {
                let message = message?;
                if message.sequence != sequence {
                    continue;
                }
                return match message.kind {
                    ERROR => Err(Error::Refused(message.error()?.0)),
                    _ => Ok(answer(message.netfilter()?.1)?),
                };
            }
        }
    }

    /// Tells the kernel one thing, which it takes or refuses.
    pub(super) fn tell(&mut self, header: Header, body: impl FnOnce(&mut Writer)) -> Result<(), Error> {
        let sequence = self.next_sequence();
        let mut writer = Writer::new();
        writer.message(Header { flags: header.flags | REQUEST | ACK, sequence, ..header }, body);
        self.send(writer.as_bytes())?;
        loop {
            for message in self.receive()? {
                let message = message?;
                if message.sequence == sequence && message.kind == ERROR {
                    return match message.error()?.0 {
                        0 => Ok(()),
                        errno => Err(Error::Refused(errno)),
                    };
                }
            }
        }
    }

    /// Asks for a listing and has `each` look at its messages. A listing in which things changed meanwhile is made
    /// anew: `each` gets [`Listing::Anew`] before.
    pub(super) fn list(
        &mut self,
        kind: u16,
        family: u8,
        body: impl Fn(&mut Writer),
        mut each: impl FnMut(Listing<'_>) -> Result<(), Damaged>,
    ) -> Result<(), Error> {
        for _ in 0..MOST_LISTINGS {
            let sequence = self.next_sequence();
            let mut writer = Writer::new();
            writer.message(Header { kind, flags: REQUEST | DUMP, sequence, family, resource: 0 }, &body);
            self.send(writer.as_bytes())?;
            each(Listing::Anew)?;
            if self.read_listing(sequence, &mut each)? {
                return Ok(());
            }
        }
        Err(Error::Restless)
    }

    /// Whether the listing is of one moment.
    fn read_listing(
        &mut self,
        sequence: u32,
        each: &mut impl FnMut(Listing<'_>) -> Result<(), Damaged>,
    ) -> Result<bool, Error> {
        let mut of_one_moment = true;
        // What is damaged is told only when the listing is at its end: the rest of it must not be the answer to the
        // next question.
        let mut damaged = None;
        loop {
            for message in self.receive()? {
                let message = match message {
                    Ok(message) if message.sequence == sequence => message,
                    Ok(_) => continue,
                    Err(what) => return Err(what.into()),
                };
                of_one_moment &= message.flags & DUMP_INTERRUPTED == 0;
                match message.kind {
                    ERROR | DONE => {
                        let errno = if message.body.is_empty() { 0 } else { message.error()?.0 };
                        return match (errno, damaged) {
                            (0, None) => Ok(of_one_moment),
                            (0, Some(what)) => Err(Error::from(what)),
                            (errno, _) => Err(Error::Refused(errno)),
                        };
                    }
                    OVERRUN => return Err(Damaged("a listing that overran").into()),
                    _ => damaged = damaged.or(each(Listing::Message(message)).err()),
                }
            }
        }
    }
}

/// From the highest number it goes on at 1: what nobody asked for has 0.
fn next_sequence(sequence: u32) -> u32 {
    sequence.wrapping_add(1).max(1)
}

/// How many numbers after `first` a sequence number comes; `None`: it is of nobody's request.
pub(super) fn sequence_distance(first: u32, sequence: u32) -> Option<u32> {
    match sequence {
        0 => None,
        later if later >= first => Some(later - first),
        // 0 is passed over.
        wrapped => Some(wrapped.wrapping_sub(first).wrapping_sub(1)),
    }
}

/// In whole milliseconds, of which a part counts as one: else who waits for the rest of one would not wait at all.
fn poll_timeout(timeout: Duration) -> PollTimeout {
    let milliseconds = i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX);
    PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
}

/// What comes of asking for a listing.
#[derive(Debug)]
pub(super) enum Listing<'a> {
    /// It begins: what came before is void.
    Anew,
    /// A part of it.
    Message(Message<'a>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_millisecond_is_waited_for() {
        for (micros, milliseconds) in [(0, 0), (1, 1), (999, 1), (1_000, 1), (1_001, 2), (5_000_000, 5_000)] {
            assert_eq!(poll_timeout(Duration::from_micros(micros)).as_millis(), Some(milliseconds));
        }
        assert_eq!(poll_timeout(Duration::MAX), PollTimeout::MAX);
    }

    #[test]
    fn sequence_numbers_are_counted_across_their_end() {
        for first in [1, 7, u32::MAX - 2, u32::MAX] {
            let mut sequence = first;
            for distance in 0..10 {
                assert_eq!(sequence_distance(first, sequence), Some(distance), "{first} {sequence}");
                sequence = next_sequence(sequence);
            }
            assert_eq!(sequence_distance(first, 0), None);
        }
    }
}
