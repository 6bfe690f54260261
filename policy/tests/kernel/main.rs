//! The kernel's side against a real kernel, in a fresh network namespace each.
#![allow(clippy::unwrap_used, reason = "tests")]

mod cleanup;
mod common;
mod packets;
mod pod;
mod sets;
mod tables;
