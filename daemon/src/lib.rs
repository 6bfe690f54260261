//! `cambricd`: joins the parts of Cambric on one node.
//!
//! ```text
//!   source -> intent -> speaker --- learned routes ---> routes -> kernel
//!   |             \------ own ranges: unreachable ------^
//!   \--> policy (and the pods that are wired here) ------^
//!   control socket: looks at all of them
//! ```
//!
//! `source` gives complete views of the objects. `intent` is pure: it makes of them what this node should
//! do. `daemon` is the main loop that tells the speaker and the kernel, in the right order. Everything
//! else is a small thing that a node needs: forwarding, the CNI configuration, the control socket.
//!
//! Everything it leaves behind stays when it stops: routes, CNI configuration, sysctls. `cambric cleanup` removes it;
//! what a new kind of file is called is said there, too (`cambric_api::node`).
#![forbid(unsafe_code)]

mod advertisements;
pub mod args;
pub mod asn;
mod budget;
pub mod check;
pub mod conflist;
pub mod contradictions;
pub mod control;
pub mod crds;
pub mod daemon;
pub mod discovery;
pub mod drain;
pub mod endpoints;
pub mod fib;
pub mod forwarding;
pub mod health;
pub mod host;
pub mod http;
pub mod intent;
pub mod kinds;
pub mod latch;
pub mod log;
pub mod metrics;
pub mod objects;
pub mod own_address;
#[cfg(test)]
mod own_node;
pub mod pod_routes;
pub mod policy;
mod prepends;
pub mod problems;
pub mod readiness;
pub mod report;
pub mod rights;
pub mod router_advertisements;
pub mod secrets;
pub mod services;
mod session_log;
pub mod site;
pub mod source;
pub mod state;
pub mod sysctls;
mod values;
pub mod view;
