//! Gives the BGP core sockets and a clock.
//!
//! One task owns the [`Router`](cambric_bgp::Router); nobody else touches it. Around it:
//!
//! ```text
//!   commands (apply, look) --->+--------+---> events (routes, lost gateways, peer changes)
//!   accepted connections  ---->| driver |
//!   octets, one reader a conn >|  task  |---> octets, one writer a connection
//!   the clock  --------------->+--------+
//! ```
//!
//! Every channel is bounded. A reader whose octets nobody takes stops reading, so TCP slows the peer. A
//! writer gets its next octets when the last are out; what waits meanwhile is state in the core. When the
//! daemon is slow to take route changes they stay in the core too, merged by prefix.
//!
//! Dropping the task closes all sockets without a word: stopping is not leaving. A NOTIFICATION goes out
//! only when the core says so.
//!
//! Sockets are signed (TCP MD5, RFC 2385), held to a TTL (RFC 5082) and bound as the core says of each peer. The options that need
//! `unsafe` are in `socket/option.rs` and nowhere else. Keys are never printed.
//!
//! Not here: what a session means (core), what the kernel does with a route (routes).
#![deny(unsafe_code)]

mod bfd;
mod connection;
mod driver;
mod drops;
mod listener;
mod socket;
mod strangers;

pub use bfd::Report as BfdReport;
pub use driver::{Event, Gone, Handle, SpeakerConfig, start};
