//! Waits for sockets that others read.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

use crate::error::Error;

/// A second name of a socket, by which it is waited for.
#[derive(Debug)]
pub(super) struct Ready(AsyncFd<OwnedFd>);

impl Ready {
    /// Within a runtime.
    pub(super) fn new(fd: io::Result<OwnedFd>) -> Result<Ready, Error> {
        let fd = fd.map_err(Error::Thread)?;
        // SAFETY: the descriptor is open, nobody else has it, and it lives as long as its registration.
        #[expect(unsafe_code, reason = "the runtime asks for this promise")]
        let registered = unsafe { AsyncFd::register(fd) };
        registered.map(Ready).map_err(|error| Error::Thread(error.into()))
    }

    /// Returns when there is something to read. All of it has to be read then: what is left is not told again.
    pub(super) async fn readable(&self) -> Result<(), Error> {
        self.0.readable().await.map_err(Error::Thread)?.clear_ready();
        Ok(())
    }
}
