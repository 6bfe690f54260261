//! Runs a closure on a thread of its own inside somebody's namespaces.
//!
//! No child process and no `unsafe`: a thread that shares its file-system context with nobody (`CLONE_FS`) may enter a
//! mount namespace, and a child it starts is born in the PID namespace it chose. The thread ends with the closure,
//! so the caller's own namespaces never change.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::Pid;

/// Namespaces to enter, held open: what stands at the path later does not matter.
#[derive(Debug)]
pub(crate) struct Namespaces {
    /// In the order they are entered: the mount namespace last.
    files: Vec<(File, CloneFlags)>,
}

impl Namespaces {
    /// All that make a node: network, host name, processes, mounts.
    pub(crate) fn of_node(init: Pid) -> io::Result<Self> {
        let of = |name: &str| PathBuf::from(format!("/proc/{init}/ns/{name}"));
        Self::open(&[
            (&of("net"), CloneFlags::CLONE_NEWNET),
            (&of("uts"), CloneFlags::CLONE_NEWUTS),
            (&of("pid"), CloneFlags::CLONE_NEWPID),
            (&of("mnt"), CloneFlags::CLONE_NEWNS),
        ])
    }

    /// As [`Self::of_node`], but with the network of a pod.
    pub(crate) fn of_pod(init: Pid, pod_netns: &Path) -> io::Result<Self> {
        let mut namespaces = Self::of_node(init)?;
        namespaces.files[0] = (File::open(pod_netns)?, CloneFlags::CLONE_NEWNET);
        Ok(namespaces)
    }

    /// A network namespace alone: files, host name and processes stay the caller's.
    pub(crate) fn of_network(netns: &Path) -> io::Result<Self> {
        Self::open(&[(netns, CloneFlags::CLONE_NEWNET)])
    }

    fn open(paths: &[(&Path, CloneFlags)]) -> io::Result<Self> {
        let open = |(path, kind): &(&Path, CloneFlags)| Ok((File::open(path)?, *kind));
        Ok(Self { files: paths.iter().map(open).collect::<io::Result<_>>()? })
    }

    /// Runs `work` inside and returns what it returns.
    ///
    /// # Panics
    /// When `work` panics.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        in_own_thread(|| {
            unshare(CloneFlags::CLONE_FS)?;
            for (file, kind) in &self.files {
                setns(file, *kind)?;
            }
            Ok(work())
        })
    }
}

/// Runs `work` on a thread with new network, host name and mount namespaces; its children are born in a new PID
/// namespace, the first of them as its init.
pub(crate) fn in_new_namespaces<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    in_own_thread(|| {
        let network_and_name = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS;
        unshare(network_and_name | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)?;
        work()
    })
}

fn in_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
