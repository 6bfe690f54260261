//! Network namespaces without a name: held open by this process, so the kernel takes them away with it, whatever ends it.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace of our own.
#[derive(Debug)]
pub(crate) struct Namespace {
    file: File,
}

impl Namespace {
    /// A fresh one, with its loopback up.
    pub(crate) fn new() -> Result<Self> {
        let file = in_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("a new network namespace (this needs root)")?;
            File::open("/proc/thread-self/ns/net").context("the new network namespace")
        })?;
        let namespace = Self { file };
        namespace.run("ip", "link set lo up", "")?;
        Ok(namespace)
    }

    /// Runs `work` on a thread inside. Sockets that it makes stay of this namespace, and so do threads and children that it
    /// starts.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        in_own_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET).context("entering a network namespace")?;
            work()
        })
    }

    /// Where `ip link … netns` finds it.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Runs a tool inside and returns what it prints.
    ///
    /// # Errors
    /// With what it says, when it cannot be started or fails.
    pub(crate) fn run(&self, tool: &str, arguments: &str, input: &str) -> Result<String> {
        self.enter(|| run(tool, arguments, input))
    }
}

/// Runs a tool where the caller is and returns what it prints.
///
/// # Errors
/// With what it says, when it cannot be started or fails.
pub(crate) fn run(tool: &str, arguments: &str, input: &str) -> Result<String> {
    let mut command = Command::new(tool);
    command.args(arguments.split_whitespace());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting {tool}"))?;
    if let Some(mut pipe) = child.stdin.take() {
        // One that ends early says why below.
        let _ = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("waiting for {tool}"))?;
    if !output.status.success() {
        bail!("{tool} {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn in_own_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
