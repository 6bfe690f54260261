//! The built-in policy: import is deny by default, export is never transit.
//!
//! RFC 8212 wants no route to pass an external session without a policy. Ours is always there: it is
//! made of what the cluster declares. Each refusal has a reason that the operator can list.

mod export;
mod import;

pub(crate) use export::{Advertise, Provenance, export};
pub use import::Refusal;
pub(crate) use import::{View, judge};
