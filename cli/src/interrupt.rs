//! Ctrl-C at the prompt: it ends an answer that is awaited or printed, and never the prompt.
//!
//! While a line is typed the terminal makes a key of it. In between it is a signal: that is blocked and read from a
//! descriptor (signalfd(2)), so there is no handler and nothing that could come at a bad moment.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Holds SIGINT back from the thread that made it.
#[derive(Debug)]
pub(crate) struct Interrupt {
    signals: SignalFd,
    /// Since it was forgotten the last time, and read from the descriptor.
    came_before: Cell<bool>,
}

impl Interrupt {
    /// From now on.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn hold() -> Result<Interrupt, Errno> {
        let only = SigSet::from(Signal::SIGINT);
        only.thread_block()?;
        match SignalFd::with_flags(&only, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC) {
            Ok(signals) => Ok(Interrupt { signals, came_before: Cell::new(false) }),
            Err(error) => {
                // Blocked and read by nobody, it would end nothing at all.
                only.thread_unblock()?;
                Err(error)
            }
        }
    }

    /// Whether it came since it was asked the last time.
    pub(crate) fn came(&self) -> bool {
        let mut came = false;
        while let Ok(Some(_)) = self.signals.read_signal() {
            came = true;
        }
        self.came_before.set(self.came_before.get() || came);
        came
    }

    /// Whether it came since it was forgotten the last time, whoever has asked meanwhile.
    pub(crate) fn came_since_forgotten(&self) -> bool {
        self.came() || self.came_before.get()
    }

    /// What came up to now was for what has ended.
    pub(crate) fn forget(&self) {
        self.came();
        self.came_before.set(false);
    }
}

impl AsFd for Interrupt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}
