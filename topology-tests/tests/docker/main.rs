//! The image in containers, by a Docker daemon of the tests' own.
//!
//! - `rights`   two nodes of the image, with the rights of the DaemonSet and no other, do all they are for beside an FRR
//!   container; with one right less the daemon says what it lacks;
//! - `two_rack` `containerlab/two-rack`, the same file, in containers.
//!
//! The daemon keeps its images under `target/docker`, so that only the first run fetches from Debian's mirror. It makes
//! no bridge and no rule: containers have no network but the veth pairs that the lab moves in.

#[path = "../policy/cluster.rs"]
#[allow(dead_code, reason = "other tests use all of it")]
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod engine;
mod images;
mod manifest;
mod rack;
mod rights;
mod two_rack;

use std::time::Duration;

/// How long anything may take that happens by itself.
const LIMIT: Duration = Duration::from_secs(90);
