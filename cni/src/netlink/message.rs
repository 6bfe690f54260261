//! Messages and attributes as bytes: building requests, reading what comes back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::errno::Errno;
use nix::libc;

const HEADER_BYTES: usize = 16;
const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// The low bits of an attribute's type; above them are flags (nested, byte order).
const ATTRIBUTE_TYPE_MASK: u16 = 0x3fff;

/// A request: what it does in words, its type and flags, and its body.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    doing: String,
    kind: u16,
    flags: u16,
    done_if_there: bool,
    body: Vec<u8>,
}

impl Message {
    /// A message that starts with the family's fixed header. `doing` completes "cannot ...".
    pub(crate) fn new(doing: impl Into<String>, kind: u16, flags: i32, header: &[u8]) -> Message {
        let mut message = Message {
            doing: doing.into(),
            kind,
            flags: flags as u16,
            done_if_there: false,
            body: Vec::with_capacity(128),
        };
        message.append(header);
        message
    }

    /// Makes what is there already count as made.
    pub(crate) fn or_there(self) -> Message {
        Message { done_if_there: true, ..self }
    }

    pub(super) fn is_done_if_there(&self) -> bool {
        self.done_if_there
    }

    /// What it does, completing "cannot ...".
    pub(crate) fn doing(&self) -> &str {
        &self.doing
    }

    /// Adds an attribute.
    pub(crate) fn bytes(mut self, kind: u16, value: &[u8]) -> Message {
        let start = self.open(kind);
        self.append(value);
        // The length counts the value without its padding.
        self.set_length(start, ATTRIBUTE_HEADER_BYTES + value.len());
        self
    }

    /// Adds a zero-terminated string.
    pub(crate) fn text(self, kind: u16, value: &str) -> Message {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// Adds a number.
    pub(crate) fn u32(self, kind: u16, value: u32) -> Message {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Adds a number if there is one.
    pub(crate) fn maybe_u32(self, kind: u16, value: Option<u32>) -> Message {
        match value {
            Some(value) => self.u32(kind, value),
            None => self,
        }
    }

    /// Adds an address, 4 or 16 bytes.
    pub(crate) fn address(self, kind: u16, address: IpAddr) -> Message {
        match address {
            IpAddr::V4(address) => self.bytes(kind, &address.octets()),
            IpAddr::V6(address) => self.bytes(kind, &address.octets()),
        }
    }

    /// Adds an attribute that holds a fixed header (may be empty) and more attributes.
    pub(crate) fn nest(mut self, kind: u16, header: &[u8], fill: impl FnOnce(Message) -> Message) -> Message {
        let start = self.open(kind);
        self.append(header);
        let mut message = fill(self);
        message.set_length(start, message.body.len() - start);
        message
    }

    /// Appends the whole message to a batch.
    pub(super) fn write(&self, more_flags: u16, sequence: u32, batch: &mut Vec<u8>) {
        let length = (HEADER_BYTES + self.body.len()) as u32;
        let flags = self.flags | more_flags | libc::NLM_F_REQUEST as u16;
        batch.extend(length.to_ne_bytes());
        batch.extend(self.kind.to_ne_bytes());
        batch.extend(flags.to_ne_bytes());
        batch.extend(sequence.to_ne_bytes());
        batch.extend(0_u32.to_ne_bytes()); // port: the kernel knows
        batch.extend(&self.body);
    }

    /// Starts an attribute whose length is not known yet.
    fn open(&mut self, kind: u16) -> usize {
        let start = self.body.len();
        self.append(&[[0; 2], kind.to_ne_bytes()].concat());
        start
    }

    fn set_length(&mut self, start: usize, length: usize) {
        self.body[start..start + 2].copy_from_slice(&(length as u16).to_ne_bytes());
    }

    fn append(&mut self, bytes: &[u8]) {
        self.body.extend(bytes);
        self.body.resize(aligned(self.body.len()), 0);
    }
}

/// An object the kernel told about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    /// RTM_*, or a subsystem of netfilter and its command.
    pub(crate) kind: u16,
    body: Vec<u8>,
}

impl Reply {
    /// The fixed header, if the message is long enough to have it.
    pub(crate) fn header<const N: usize>(&self) -> Option<[u8; N]> {
        self.body.first_chunk().copied()
    }

    /// The attributes behind a fixed header of that size.
    pub(crate) fn attributes(&self, header_bytes: usize) -> Attributes<'_> {
        Attributes(self.body.get(aligned(header_bytes)..).unwrap_or_default())
    }
}

/// Attributes of a reply, found by type. Damaged ones end the list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    fn find(self, kind: u16) -> Option<&'a [u8]> {
        let Attributes(mut rest) = self;
        loop {
            let length = usize::from(u16_at(rest, 0)?);
            let this = u16_at(rest, 2)? & ATTRIBUTE_TYPE_MASK;
            let value = rest.get(ATTRIBUTE_HEADER_BYTES..length)?;
            if this == kind {
                return Some(value);
            }
            rest = rest.get(aligned(length)..)?;
        }
    }

    /// A value as it is.
    pub(crate) fn bytes(self, kind: u16) -> Option<&'a [u8]> {
        self.find(kind)
    }

    /// A number.
    pub(crate) fn u32(self, kind: u16) -> Option<u32> {
        u32_at(self.find(kind)?, 0)
    }

    /// A zero-terminated string.
    pub(crate) fn text(self, kind: u16) -> Option<String> {
        let bytes = self.find(kind)?.split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    /// An address of 4 or 16 bytes.
    pub(crate) fn address(self, kind: u16) -> Option<IpAddr> {
        let bytes = self.find(kind)?;
        let ipv4 = <[u8; 4]>::try_from(bytes).map(|octets| Ipv4Addr::from(octets).into());
        ipv4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|octets| Ipv6Addr::from(octets).into())).ok()
    }
}

/// Datagrams from the kernel, cut into records.
pub(crate) mod record {
    use super::*;

    const ERROR: u16 = libc::NLMSG_ERROR as u16;
    const DONE: u16 = libc::NLMSG_DONE as u16;
    /// Behind the error number stands the header of the refused message.
    const ERROR_BYTES: usize = 4 + HEADER_BYTES;
    /// NLMSGERR_ATTR_MSG: the kernel's own words.
    const ATTRIBUTE_WORDS: u16 = 1;

    /// One message from the kernel.
    pub(crate) struct Record {
        pub(crate) sequence: u32,
        /// The dump it belongs to changed meanwhile.
        pub(crate) interrupted: bool,
        pub(crate) outcome: Outcome,
    }

    /// What it says.
    pub(crate) enum Outcome {
        Data(Reply),
        Acknowledged,
        DumpDone,
        Refused { errno: Errno, words: Option<String> },
    }

    /// Cuts a datagram; a damaged record ends it.
    pub(crate) fn parse(mut datagram: &[u8]) -> Vec<Record> {
        let mut records = Vec::new();
        while let Some((record, rest)) = parse_one(datagram) {
            records.push(record);
            datagram = rest;
        }
        records
    }

    fn parse_one(datagram: &[u8]) -> Option<(Record, &[u8])> {
        let length = u32_at(datagram, 0)? as usize;
        let kind = u16_at(datagram, 4)?;
        let flags = i32::from(u16_at(datagram, 6)?);
        let sequence = u32_at(datagram, 8)?;
        let body = datagram.get(HEADER_BYTES..length)?;
        let outcome = match kind {
            DONE | ERROR => match u32_at(body, 0).unwrap_or(0) as i32 {
                0 if kind == DONE => Outcome::DumpDone,
                0 => Outcome::Acknowledged,
                error => {
                    let told = (flags & libc::NLM_F_ACK_TLVS != 0).then(|| words(body)).flatten();
                    let error = error.saturating_neg();
                    let errno = Errno::from_raw(error);
                    // Subsystems have numbers of their own.
                    let own = || (errno == Errno::UnknownErrno).then(|| format!("error {error}"));
                    Outcome::Refused { errno, words: told.or_else(own) }
                }
            },
            _ => Outcome::Data(Reply { kind, body: body.to_vec() }),
        };
        let interrupted = flags & libc::NLM_F_DUMP_INTR != 0;
        let rest = datagram.get(aligned(length)..).unwrap_or_default();
        Some((Record { sequence, interrupted, outcome }, rest))
    }

    fn words(body: &[u8]) -> Option<String> {
        Attributes(body.get(ERROR_BYTES..)?).text(ATTRIBUTE_WORDS)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested_lengths_count_everything() {
        let message = Message::new("test", 16, 0, &[]).nest(18, &[], |m| m.text(1, "veth").u32(2, 7));
        let length = 4 + (4 + 5 + 3) + (4 + 4);
        assert_eq!(message.body.len(), length);
        assert_eq!(u16_at(&message.body, 0), Some(length as u16));
        assert_eq!(u16_at(&message.body, 4), Some(9), "the string's length has no padding");
    }

    #[test]
    fn what_was_written_is_read_again() {
        let gateway: IpAddr = "fe80::1".parse().expect("address");
        let message = Message::new("test", 24, 0, &[7; 5]).u32(4, 99).address(5, gateway).text(3, "eth0");
        let reply = Reply { kind: 24, body: message.body };
        assert_eq!(reply.header(), Some([7_u8; 5]));
        let attributes = reply.attributes(5);
        assert_eq!(attributes.u32(4), Some(99));
        assert_eq!(attributes.address(5), Some(gateway));
        assert_eq!(attributes.text(3).as_deref(), Some("eth0"));
        assert_eq!(attributes.u32(6), None);
    }

    #[test]
    fn damaged_datagrams_never_panic() {
        let mut batch = Vec::new();
        Message::new("test", 16, 0, &[0; 16]).text(3, "eth0").write(0, 1, &mut batch);
        for end in 0..batch.len() {
            for record in record::parse(&batch[..end]) {
                if let record::Outcome::Data(reply) = record.outcome {
                    reply.attributes(16).text(3);
                }
            }
            let mut bent = batch.clone();
            bent[end] = 0xff;
            record::parse(&bent);
        }
        let empty = Reply { kind: 16, body: vec![0; 4] };
        assert_eq!(empty.attributes(0).u32(1), None, "a length of zero ends the list");
    }
}
