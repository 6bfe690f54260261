//! Fuzz targets: what reads octets or text that others have written, and the machines behind it.
//!
//! A target is a function over octets that ends without a panic, whatever they are. libFuzzer makes inputs up and keeps
//! those that take a new way (`main`, which only `run.sh` builds); `tests/corpus.rs` runs the kept ones as a plain test.
//! What each checks beyond that nothing panics is said where it stands.

mod bfd;
mod input;
mod machine;
mod node;
mod pair;
mod policy;
mod session;
/// Routers on a virtual clock, as the tests of `bgp/core` have them.
#[path = "../../core/tests/support/mod.rs"]
mod support;
mod wire;

/// A target.
pub type Target = fn(&[u8]);

/// All of them, by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("framing", wire::framing),
    ("open", wire::open),
    ("capabilities", wire::capabilities),
    ("update", wire::update),
    ("attribute", wire::attribute),
    ("nlri", wire::nlri),
    ("round_trip", wire::round_trip),
    ("notification", wire::notification),
    ("refresh", wire::refresh),
    ("state_machine", machine::state_machine),
    ("two_routers", pair::two_routers),
    ("bfd", bfd::bfd),
    ("as_path", policy::as_path),
    ("manifests", node::manifests),
    ("leases", node::leases),
    ("control", node::control),
    ("cni", node::cni),
];
