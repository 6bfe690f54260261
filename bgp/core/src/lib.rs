//! BGP-4 as a deterministic machine.
//!
//! Bytes, the time and the operator's wishes go in; bytes, route changes and the next deadline come
//! out. Nothing in here opens a socket, reads a clock or draws a random number: the driver
//! (`cambric-speaker`) lends all three. So two routers can be run against each other in one test, on a
//! clock that jumps, and every run with the same inputs ends in the same state.
//!
//! How data passes through:
//!
//! ```text
//! bytes -> wire (frame, decode, RFC 7606) -> peer (state machine) -> rib: adj-rib-in
//!       -> policy (import) -> decision -> RouteChange (to the kernel)
//!                                      -> policy (export) -> adj-rib-out -> wire (pack) -> bytes
//! ```
//!
//! Start reading at [`Router`], which owns all peers and the tables, then `peer` for the state machine,
//! `rib` for the tables, `wire` for what is on the line.
//!
//! Deliberately not here: sockets, clocks, Kubernetes, the kernel's FIB.
//!
//! RFCs: 4271 (BGP-4), 4760 (IPv4 and IPv6 unicast), 5492 and 9072 (capabilities, long OPENs), 6793
//! (4-octet AS), 2918 (route refresh), 6286 (identifiers), 6608 (state machine errors), 7606 (gentle
//! errors), 7607 (AS 0), 8212 (nothing without policy), 8654 (long messages), 8950 (IPv4 over IPv6 next hops), 4456 (reflection), 4724
//! (graceful restart), 9774 (no AS_SET). What of each is in force stands in `docs/rfc-conformance.md`.
#![forbid(unsafe_code)]

pub mod attributes;
pub mod config;
mod interner;
pub mod monitor;
pub mod mrt;
pub mod peer;
pub mod policy;
pub mod prefix;
pub mod rib;
pub mod router;
pub mod session;
pub mod types;
pub mod wire;

pub use attributes::{AttributeSet, Attributes};
pub use config::{
    Families, Offer, Originated, PeerAsn, PeerConfig, PeerPolicy, RouterConfig, Source, Wanted,
};
pub use peer::Admin;
pub use prefix::{Family, Prefix};
pub use router::{Action, Router};
pub use types::{Asn, ConnId, HoldTime, LocalPref, Med, PeerId, RouterId, ScopedAddress};
