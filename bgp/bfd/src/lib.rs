//! BFD as a deterministic machine: single hop, asynchronous mode.
//!
//! Packets, the time and the operator's wishes go in; packets, changes of sessions and the next deadline come out.
//! Nothing in here opens a socket, reads a clock or draws a random number: the driver (`cambric-speaker`) lends all three.
//!
//! ```text
//! octets, TTL, who sent them -> packet (decode) -> table (which session) -> session (state machine) -> Status
//!                                                                              |
//!                                                                              +-> octets to the neighbour
//! ```
//!
//! Start reading at [`Table`], which owns all sessions, then `session` for the state machine, `packet` for what is on the line.
//!
//! Deliberately not here: echo, demand mode of our own, authentication, several hops (RFC 5883), and what a lost session
//! means to BGP (`cambric-bgp`).
//!
//! RFCs: 5880 (the protocol), 5881 (over one hop of IPv4 or IPv6). What of each is in force stands in `docs/rfc-conformance.md`.
#![forbid(unsafe_code)]

mod dice;
mod packet;
mod session;
mod status;
mod table;

pub use packet::{Diagnostic, Discriminator, Packet, Refusal, State};
pub use session::Config;
pub use status::{Down, DownCause, Remote, Status};
pub use table::{Arrived, Neighbor, Table};

/// UDP port that packets go to (RFC 5881 section 4).
pub const PORT: u16 = 3784;
/// Source ports of sessions, one for each (RFC 5881 section 4).
pub const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 49152..=65535;
/// TTL or hop limit that packets go out with, and must arrive with (RFC 5881 section 5).
pub const TTL: u8 = 255;
