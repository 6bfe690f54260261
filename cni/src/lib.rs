//! The CNI plugin of Cambric: one process per call, no daemon needed, no tokio.
//!
//! A container runtime executes the plugin with its wish in environment variables and the network configuration on
//! stdin, and reads a result or an error from stdout (CNI specification 1.1.0). Here both become one typed request.

pub mod attachment;
pub mod config;
pub mod error;
pub mod lease;
pub mod range;
pub mod request;
pub mod version;

#[expect(dead_code, reason = "the wiring will use it")]
mod netlink;
