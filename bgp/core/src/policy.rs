//! The built-in policy: import is deny by default, export is never transit.
//!
//! RFC 8212 wants no route to pass an external session without a policy. Ours is always there: it is
//! made of what the cluster declares. What the operator says beyond that are [filters](filter). Each refusal has a
//! reason that the operator can list.

pub mod as_path;
mod export;
pub mod filter;
mod import;
mod terms;

pub use export::Withheld;
pub(crate) use export::{Advertise, Exported, export, leaving, offered};
pub use import::Refusal;
pub(crate) use import::{Judged, OwnNextHop, Told, View, judge};
pub(crate) use terms::{Reflection, Terms};
