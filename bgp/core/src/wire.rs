//! What is on the line: framing, decoding and encoding of the five messages.
//!
//! Decoding gives types that cannot hold nonsense, or says who gets told what: a [`Fault`] where
//! the session must close, and for UPDATE the gentler treatments of RFC 7606. The encoder and decoder of
//! UPDATE take the [`Session`](crate::session::Session) that was negotiated, never flags.
//!
//! Nothing here panics on any input: bytes are taken through [`reader::Reader`], which cannot overrun.

pub mod attribute;
pub mod bmp;
pub mod capability;
pub mod fault;
pub mod frame;
pub mod nlri;
pub mod notification;
pub mod open;
pub mod refresh;
pub mod update;

#[cfg(test)]
mod differential;
#[cfg(test)]
mod properties;
mod reader;

pub use capability::{
    AddPathFamily, Capability, ExtendedNextHop, GracefulRestart, LongLivedFamily, LongLivedGracefulRestart,
    RestartFamily,
};
pub use fault::Fault;
pub use frame::{Frame, MessageType};
pub use nlri::Nlri;
pub use notification::Notification;
pub use open::Open;
pub use refresh::RouteRefresh;
pub use update::Update;
