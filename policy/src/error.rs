//! What keeps policy from being enforced at all. What the kernel refuses of one policy is no error: that policy fails
//! closed, and the reason is told with it.

use std::io;

use thiserror::Error;

/// Why there is no enforcer.
#[derive(Debug, Error)]
pub enum Error {
    /// The kernel lacks parts; each is told in words that name the option.
    #[error("the kernel cannot enforce policy: {}", .0.join("; "))]
    Missing(Vec<String>),
    /// No talk with the kernel.
    #[error("cannot speak with the kernel")]
    Kernel(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No thread.
    #[error("cannot start the enforcer's thread")]
    Thread(#[source] io::Error),
    /// Its thread has ended; why was logged.
    #[error("the enforcer has ended")]
    Ended,
}

/// Why an endpoint is not placed. While it only waits, nothing is said: [`crate::enforcer::Status::waiting`] tells for what.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotPlaced {
    /// The endpoint is gone again.
    #[error("the interface is gone")]
    Gone,
    /// Its thread has ended; why was logged.
    #[error("the enforcer has ended")]
    Ended,
}
