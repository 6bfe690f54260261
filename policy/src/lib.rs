//! NetworkPolicy for the pods of one node.
//!
//! ```text
//! objects, endpoints                                         (change: what is told from outside)
//!    |  compile: index -> peer sets -> classes of pods       pure
//!    v
//! program: sets, class chains, dispatch from veth to chain   (program: plain data, both families)
//!    |  enforcer: in an order that opens no window
//!    v
//! kernel: ipsets and tables of our own, by netlink           no tool is run
//! ```
//!
//! Every packet of a pod is judged on the pod's own node, by the host end of its veth: what comes from it by its egress
//! chain, what goes to it by its ingress chain. A veth that is in no map is closed. What the node itself sends
//! to its pods meets no rule of ours.
#![deny(unsafe_code)]

pub mod atoms;
pub mod change;
pub mod cidr;
pub mod cleanup;
pub mod compile;
mod detour;
mod diff;
pub mod enforcer;
pub mod error;
pub mod kernel;
pub mod labels;
mod plan;
pub mod pod;
pub mod policy;
pub mod program;
pub mod selector;
pub mod simulate;
