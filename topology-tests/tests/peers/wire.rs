//! Messages of BGP as they go by on a link of ours.

use anyhow::Result;
use cambric_lab::Node;
use cambric_lab::capture::tap::Tap;

pub(crate) const UPDATE: u8 = 2;
pub(crate) const ROUTE_REFRESH: u8 = 5;

/// Octets of an UPDATE that says nothing: End-of-RIB of IPv4 (RFC 4724 section 2).
pub(crate) const END_OF_RIB: usize = 23;

/// A message (RFC 4271 section 4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Who said it.
    pub(crate) by: By,
    pub(crate) kind: u8,
    /// With its header.
    pub(crate) length: usize,
    /// Of a route refresh: what it says, by RFC 7313.
    pub(crate) subtype: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Us,
    Other,
}

/// Looks at the first link of a node, over IPv4.
pub(crate) struct Wire {
    node: Node,
    our_address: [u8; 4],
    tap: Tap,
    seen: Vec<Message>,
}

impl Wire {
    pub(crate) fn tap(node: &Node, our_address: std::net::IpAddr) -> Result<Wire> {
        let our_address = match our_address {
            std::net::IpAddr::V4(v4) => v4.octets(),
            std::net::IpAddr::V6(v6) => anyhow::bail!("{v6}: cells that look at the wire speak IPv4"),
        };
        Ok(Wire { node: node.clone(), our_address, tap: Tap::start(node, "eth1")?, seen: Vec::new() })
    }

    /// All that went by up to now, some of it twice.
    pub(crate) fn messages(&mut self) -> Result<&[Message]> {
        let next = Tap::start(&self.node, "eth1")?;
        for frame in std::mem::replace(&mut self.tap, next).stop()? {
            self.seen.extend(messages(&frame.octets, self.our_address));
        }
        Ok(&self.seen)
    }
}

/// Headers of messages in a frame. One that is cut by a segment's end is found by its header all the same.
fn messages(frame: &[u8], our_address: [u8; 4]) -> Vec<Message> {
    const SOURCE: std::ops::Range<usize> = 26..30;
    let Some(source) = frame.get(SOURCE).filter(|_| frame[12..14] == [8, 0]) else { return Vec::new() };
    let by = if source == our_address { By::Us } else { By::Other };
    let (mut all, mut rest) = (Vec::new(), &frame[SOURCE.end..]);
    while let Some(at) = rest.windows(16).position(|window| window == [0xFF; 16]) {
        let Some([high, low, kind]) = rest.get(at + 16..at + 19) else { break };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let subtype = rest.get(at + 21).copied().filter(|_| *kind == ROUTE_REFRESH);
        all.push(Message { by, kind: *kind, length, subtype });
        rest = rest.get(at + length.max(19)..).unwrap_or_default();
    }
    all
}
