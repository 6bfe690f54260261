//! Real packets through the real kernel, to whom policies are told as the daemon tells them.

#[path = "../rig/mod.rs"]
mod rig;
#[path = "../support/mod.rs"]
mod support;

mod cases;
mod errors;
mod node;
mod rig_itself;
mod services;
mod small;
