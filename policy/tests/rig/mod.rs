//! Nodes, pods and the world outside in network namespaces of their own, wired as the plugin and the routes do it, and
//! packets sent between them.
//!
//! ```text
//! pod eth0 ---- cam… node mesh1 ---- mesh0 node cam… ---- eth0 pod
//!                        mesh2 ---- mesh0 outside              every two of nodes and outside have a link
//! ```
//!
//! Nothing has a name in the file system: all of it goes with the process. No packet ever waits for a neighbour: all
//! are permanent. So a packet is either on a link or at its end, and a link is a queue: what is sent on it later comes
//! later. [`Rig::settle`] sends a marked packet over every link and waits for all of them, as many times as a path has
//! links: then all that was sent before has arrived or has been dropped, and nobody had to wait for a time-out.
//!
//! It needs one processor: a link's queue is the queue of the processor that sends. [`Rig::new`] binds the calling
//! thread to one, and all that a test sends it must send from this thread.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test file uses another part of it")]

mod chance;
mod flood;
mod host;
mod netns;
mod prober;
mod talk;
mod wire;
mod world;

pub use chance::{random, seed};
pub use flood::Flood;
pub use prober::{Fate, Probe, Protocol};
pub use talk::Answer;
pub use wire::{At, NewPod, Rig};
pub use world::World;
