//! Ctrl-C at the prompt: it ends an answer that is awaited or printed, and never the prompt.
//!
//! While a line is typed the terminal makes a key of it. In between it is a signal: that is blocked and read from a
//! descriptor (signalfd(2)), so there is no handler and nothing that could come at a bad moment.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Holds SIGINT back from the thread that made it.
#[derive(Debug)]
pub(crate) struct Interrupt {
    signals: SignalFd,
}

impl Interrupt {
    /// From now on.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn hold() -> Result<Interrupt, Errno> {
        let only = SigSet::from(Signal::SIGINT);
        only.thread_block()?;
        let signals = SignalFd::with_flags(&only, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Interrupt { signals })
    }

    /// Whether it came since it was asked the last time.
    pub(crate) fn came(&self) -> bool {
        let mut came = false;
        while let Ok(Some(_)) = self.signals.read_signal() {
            came = true;
        }
        came
    }
}

impl AsFd for Interrupt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}
