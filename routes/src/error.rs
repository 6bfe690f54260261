//! What can go wrong, by who has to act.
//!
//! A refused write is not in here: it stays pending, is tried again, and is told as an event. These errors
//! end the task.

use std::{io, path::PathBuf};

/// Why the routes cannot be looked after.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a socket; rights or kernel options are missing.
    #[error("cannot open netlink socket: {what}")]
    Open {
        /// The step that failed.
        what: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A socket that worked broke.
    #[error("netlink socket failed")]
    Socket(#[source] io::Error),
    /// The kernel does not list links, addresses, next hops or routes.
    #[error("cannot list {what}")]
    Dump {
        /// What was asked for.
        what: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Links or addresses could not be listed.
    #[error("cannot list links and addresses")]
    Links(#[from] rtnetlink::Error),
    /// The kernel's neighbour entries could not be listed.
    #[error("cannot list neighbours")]
    Neighbors(#[source] rtnetlink::Error),
    /// The record of installed routes cannot be written.
    #[error("cannot write {}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The identity of this boot cannot be read.
    #[error("cannot read the boot id")]
    BootId(#[source] io::Error),
}

/// The task has ended, so nobody takes changes or answers any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the routes task has ended")]
pub struct Ended;
