//! What `/proc` tells about the processes of a lab.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// First argument of an init, before the folder of its node. An init is known by these two.
pub(crate) const INIT_VERB: &str = "init";

/// An init that runs, and the folder of its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Init {
    pub(crate) pid: Pid,
    pub(crate) folder: PathBuf,
}

/// The inits whose node folders are in `nodes`.
pub(crate) fn inits(nodes: &Path) -> Vec<Init> {
    let init = |pid: Pid| {
        let command_line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let mut words = command_line.split(|byte| *byte == 0).map(OsStr::from_bytes);
        let (verb, folder) = (words.nth(1)?, PathBuf::from(words.next()?));
        (verb == INIT_VERB && folder.parent() == Some(nodes)).then_some(Init { pid, folder })
    };
    all().filter_map(init).collect()
}

/// Processes in the PID namespace of `init`, without zombies, itself included.
pub(crate) fn beside(init: Pid) -> Vec<Pid> {
    match pid_namespace(init) {
        Some(wanted) => in_namespace(&wanted),
        None => Vec::new(),
    }
}

/// Processes in a PID namespace, without zombies.
pub(crate) fn in_namespace(wanted: &Path) -> Vec<Pid> {
    all().filter(|pid| pid_namespace(*pid).as_deref() == Some(wanted)).collect()
}

/// Names the PID namespace of a process that lives; a zombie only waits for its parent.
pub(crate) fn pid_namespace(pid: Pid) -> Option<PathBuf> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may hold anything, but after the last ')' comes the state.
    let (_, state) = stat.rsplit_once(") ")?;
    let is_dead = state.starts_with(['Z', 'X']);
    (!is_dead).then(|| fs::read_link(format!("/proc/{pid}/ns/pid")).ok())?
}

/// The name of the program that a process runs, as the kernel cuts it (15 characters).
pub(crate) fn name(pid: Pid) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}

/// Kills at once; a process that is gone is as good as killed.
pub(crate) fn kill_now(pid: Pid) {
    let _ = kill(pid, Signal::SIGKILL);
}

fn all() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| Some(Pid::from_raw(entry.ok()?.file_name().to_str()?.parse().ok()?)))
}
