//! Netfilter netlink as bytes: messages with their attributes are written, and read with every bound checked.
//!
//! linux/netlink.h (`nlmsghdr`, `nlattr`) and linux/netfilter/nfnetlink.h (`nfgenmsg`). Headers are in the byte order
//! of the machine, values of netfilter in that of the network.

use super::Damaged;

/// A request.
pub(super) const REQUEST: u16 = 0x1;
/// It is answered with an error or with 0.
pub(super) const ACK: u16 = 0x4;
/// With a request for a listing: all of it (`NLM_F_ROOT | NLM_F_MATCH`).
pub(super) const DUMP: u16 = 0x300;
/// In a listing: something changed while it was made.
pub(super) const DUMP_INTERRUPTED: u16 = 0x10;
/// With a thing that is made: it is new.
pub(super) const EXCLUSIVE: u16 = 0x200;
/// With a thing that is made: make it.
pub(super) const CREATE: u16 = 0x400;
/// With a thing that is made: behind all others.
pub(super) const APPEND: u16 = 0x800;

/// `NLMSG_ERROR`
pub(super) const ERROR: u16 = 2;
/// `NLMSG_DONE`
pub(super) const DONE: u16 = 3;
/// `NLMSG_OVERRUN`
pub(super) const OVERRUN: u16 = 4;

/// `AF_UNSPEC`
pub(super) const NO_FAMILY: u8 = 0;

const HEADER_BYTES: usize = 16;
const NETFILTER_HEADER_BYTES: usize = 4;
const ATTRIBUTE_HEADER_BYTES: usize = 4;
const NESTED: u16 = 0x8000;
/// With an attribute's kind: its value is in network order.
pub(super) const NETWORK_ORDER: u16 = 0x4000;
const KIND: u16 = 0x3fff;

/// Lengths are rounded up to 4.
fn padded(length: usize) -> usize {
    length.saturating_add(3) & !3
}

/// Messages, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    /// An attribute was longer than its length field can say.
    too_long: bool,
}

impl Writer {
    /// Nothing yet.
    pub(super) fn new() -> Writer {
        Writer::default()
    }

    /// Writes a message of a subsystem: `kind` holds the subsystem in its upper half.
    pub(super) fn message(&mut self, header: Header, body: impl FnOnce(&mut Writer)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&header.kind.to_ne_bytes());
        self.bytes.extend_from_slice(&header.flags.to_ne_bytes());
        self.bytes.extend_from_slice(&header.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&[header.family, 0]);
        self.bytes.extend_from_slice(&header.resource.to_be_bytes());
        body(self);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Writes an attribute of bytes.
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = ATTRIBUTE_HEADER_BYTES + value.len();
        self.length(length).map_or([0; 2], u16::to_ne_bytes).iter().for_each(|byte| self.bytes.push(*byte));
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len() + padded(length) - length, 0);
    }

    /// Writes an attribute of text, with a final zero.
    pub(super) fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.bytes(kind, &bytes);
    }

    /// Writes an attribute of one byte.
    pub(super) fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    /// Writes an attribute of 2 bytes in network order.
    pub(super) fn u16(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Writes an attribute of 4 bytes in network order.
    pub(super) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Writes an attribute of 8 bytes in network order.
    pub(super) fn u64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Writes an attribute that says of itself that it is in network order, as ipset wants it.
    pub(super) fn ordered(&mut self, kind: u16, value: &[u8]) {
        self.bytes(kind | NETWORK_ORDER, value);
    }

    /// Writes an attribute of attributes.
    pub(super) fn nested(&mut self, kind: u16, body: impl FnOnce(&mut Writer)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        body(self);
        let length = self.length(self.bytes.len() - start).unwrap_or_default();
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn length(&mut self, length: usize) -> Option<u16> {
        let length = u16::try_from(length).ok();
        self.too_long |= length.is_none();
        length
    }

    /// How long it is so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether an attribute did not fit its length field since this was last asked: what was written of it is wrong.
    pub(super) fn take_too_long(&mut self) -> bool {
        std::mem::take(&mut self.too_long)
    }

    /// All that was written.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Asks for an answer to the last of the messages that begin at this byte.
    pub(super) fn acknowledge_last(&mut self, mut start: usize) {
        while let Some(length) = self.bytes.get(start..start + 4).and_then(|bytes| bytes.try_into().ok()) {
            let next = start + padded(u32::from_ne_bytes(length) as usize);
            if next >= self.bytes.len() {
                break;
            }
            start = next;
        }
        if let Some([low, high]) = self.bytes.get_mut(start + 6..start + 8) {
            let flags = u16::from_ne_bytes([*low, *high]) | ACK;
            [*low, *high] = flags.to_ne_bytes();
        }
    }
}

/// What stands before the attributes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Subsystem and command.
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    /// `nfgen_family`
    pub(super) family: u8,
    /// `res_id`
    pub(super) resource: u16,
}

/// A message that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    /// Who asked for it, as the kernel numbers sockets; 0: nobody.
    pub(super) port: u32,
    /// All after the header.
    pub(super) body: &'a [u8],
}

impl<'a> Message<'a> {
    /// Family and attributes of a message of netfilter.
    pub(super) fn netfilter(&self) -> Result<(u8, Attributes<'a>), Damaged> {
        let family = *self.body.first().ok_or(Damaged("a message without its header"))?;
        let rest = self.body.get(NETFILTER_HEADER_BYTES..).ok_or(Damaged("a message without its header"))?;
        Ok((family, Attributes(rest)))
    }

    /// The error number of an [`ERROR`] or [`DONE`] message, 0 for success, and the message it speaks of as far as
    /// it was sent along.
    pub(super) fn error(&self) -> Result<(i32, &'a [u8]), Damaged> {
        let (code, rest) =
            self.body.split_first_chunk::<4>().ok_or(Damaged("an error without its number"))?;
        Ok((i32::from_ne_bytes(*code).saturating_neg(), rest))
    }
}

/// The messages in what one read gave.
#[derive(Debug, Clone)]
pub(super) struct Messages<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let (message, rest) = match read_message(self.0) {
            Ok(read) => read,
            Err(damaged) => {
                self.0 = &[];
                return Some(Err(damaged));
            }
        };
        self.0 = rest;
        Some(Ok(message))
    }
}

fn read_message(bytes: &[u8]) -> Result<(Message<'_>, &[u8]), Damaged> {
    const SHORT: Damaged = Damaged("a message that is shorter than it says");
    let (header, _) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(SHORT)?;
    let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, p0, p1, p2, p3] = *header;
    let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
    let body = bytes.get(HEADER_BYTES..length).ok_or(SHORT)?;
    let message = Message {
        kind: u16::from_ne_bytes([k0, k1]),
        flags: u16::from_ne_bytes([f0, f1]),
        sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
        port: u32::from_ne_bytes([p0, p1, p2, p3]),
        body,
    };
    Ok((message, bytes.get(padded(length)..).unwrap_or_default()))
}

/// The attributes in some bytes, each with its kind and value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Attributes<'a> {
    /// The first attribute of a kind.
    pub(super) fn find(self, kind: u16) -> Result<Option<Value<'a>>, Damaged> {
        for attribute in self {
            let (this, value) = attribute?;
            if this == kind {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The first attribute of a kind, which has to be there.
    pub(super) fn need(self, kind: u16) -> Result<Value<'a>, Damaged> {
        self.find(kind)?.ok_or(Damaged("an attribute is not there"))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, Value<'a>), Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let read = read_attribute(self.0);
        self.0 = read.as_ref().map_or(&[], |(_, _, rest)| rest);
        Some(read.map(|(kind, value, _)| (kind, value)))
    }
}

fn read_attribute(bytes: &[u8]) -> Result<(u16, Value<'_>, &[u8]), Damaged> {
    const SHORT: Damaged = Damaged("an attribute that is shorter than it says");
    let (&[l0, l1, k0, k1], _) = bytes.split_first_chunk::<ATTRIBUTE_HEADER_BYTES>().ok_or(SHORT)?;
    let length = usize::from(u16::from_ne_bytes([l0, l1]));
    let value = bytes.get(ATTRIBUTE_HEADER_BYTES..length).ok_or(SHORT)?;
    let kind = u16::from_ne_bytes([k0, k1]) & KIND;
    Ok((kind, Value(value), bytes.get(padded(length)..).unwrap_or_default()))
}

/// The value of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value<'a>(pub(super) &'a [u8]);

impl<'a> Value<'a> {
    fn array<const N: usize>(self) -> Result<[u8; N], Damaged> {
        self.0.try_into().map_err(|_| Damaged("a number of another length"))
    }

    pub(super) fn u8(self) -> Result<u8, Damaged> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(self) -> Result<u16, Damaged> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(self) -> Result<u32, Damaged> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(self) -> Result<u64, Damaged> {
        self.array().map(u64::from_be_bytes)
    }

    /// Text up to its first zero, or its end.
    pub(super) fn text(self) -> Result<&'a str, Damaged> {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        std::str::from_utf8(&self.0[..end]).map_err(|_| Damaged("a text that is none"))
    }

    pub(super) fn nested(self) -> Attributes<'a> {
        Attributes(self.0)
    }
}
