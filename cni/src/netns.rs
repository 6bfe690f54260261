//! Network namespaces: open the pod's, step into it and back.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use crate::error::{CniError, Code};
use crate::request::OwnNetns;

/// The calling thread's namespace; `self` would be the main thread's.
const OWN: &str = "/proc/thread-self/ns/net";

/// A namespace that stays while this is held, whatever happens to its path.
pub(crate) struct Netns {
    file: File,
    path: PathBuf,
}

impl Netns {
    /// Opens the namespace at a path. What else the path may be shows at [`Netns::enter`].
    pub(crate) fn open(path: &Path) -> io::Result<Netns> {
        // Looked at first, since opening a FIFO would wait for a writer. Namespaces are regular files to stat(2).
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("not a network namespace"));
        }
        Ok(Netns { file: File::open(path)?, path: path.to_owned() })
    }

    /// Where it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// For messages that hand the namespace to the kernel.
    pub(crate) fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Whether it is the calling thread's own.
    pub(crate) fn is_own(&self) -> io::Result<bool> {
        let (this, own) = (self.file.metadata()?, fs::metadata(OWN)?);
        Ok((this.dev(), this.ino()) == (own.dev(), own.ino()))
    }

    /// Whether it is a namespace at all (`NSFS_MAGIC` of linux/magic.h), of whatever kind.
    pub(crate) fn is_namespace(&self) -> io::Result<bool> {
        Ok(fstatfs(&self.file)?.filesystem_type() == NSFS_MAGIC)
    }

    /// An error if it is the plugin's own and must not be.
    pub(crate) fn refuse_own(&self, own_netns: OwnNetns) -> Result<(), CniError> {
        let own = self.is_own().map_err(|error| invalid(&self.path, error))?;
        if own && own_netns == OwnNetns::Refused {
            return Err(invalid(
                &self.path,
                "it is the plugin's own; CNI_NETNS_OVERRIDE=1 would permit that",
            ));
        }
        Ok(())
    }

    /// Does something inside, and comes back. Other threads stay where they are.
    ///
    /// After an error the thread may still be inside: nothing more should be done on it.
    pub(crate) fn enter<T>(&self, act: impl FnOnce() -> T) -> io::Result<T> {
        let own = File::open(OWN)?;
        setns(&self.file, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| io::Error::other(format!("not a network namespace: {errno}")))?;
        let outcome = act();
        setns(&own, CloneFlags::CLONE_NEWNET)?;
        Ok(outcome)
    }
}

/// Opens the namespace of a pod, which is the plugin's own only by permission.
pub(crate) fn open_of_pod(path: &Path, own_netns: OwnNetns) -> Result<Netns, CniError> {
    let netns = Netns::open(path).map_err(|error| invalid(path, error))?;
    netns.refuse_own(own_netns)?;
    Ok(netns)
}

/// The answer to `CNI_NETNS` that cannot be used.
pub(crate) fn invalid(path: &Path, why: impl ToString) -> CniError {
    let msg = format!("cannot use the network namespace {}", path.display());
    CniError::new(Code::InvalidNetns, msg).with_details(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_namespace_is_recognised() {
        assert!(Netns::open(Path::new(OWN)).expect("open").is_own().expect("stat"));
    }

    #[test]
    fn what_is_no_namespace_is_refused() {
        assert!(Netns::open(Path::new("/nonexistent")).is_err());
        assert!(Netns::open(Path::new("/dev/null")).is_err());
        let file = tempfile::NamedTempFile::new().expect("file");
        let netns = Netns::open(file.path()).expect("a file opens");
        assert!(netns.enter(|| ()).is_err(), "but cannot be entered");
    }
}
