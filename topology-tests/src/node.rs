//! A running node: commands, closures, daemons.

use std::fs;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;

use crate::clab::{NodeSpec, Role};
use crate::docker::Container;
use crate::init::BIN_DIR;
use crate::namespaces::Namespaces;
use crate::{cambric, frr, place, poll, processes};

/// Where [`Node::collect_logs`] writes.
const CONTAINER_LOG: &str = "container.log";

/// A node whose init runs.
#[derive(Debug, Clone)]
pub struct Node {
    spec: NodeSpec,
    folder: PathBuf,
    init: Pid,
    /// What plays it, unless an init of ours does.
    container: Option<Container>,
}

/// A daemon that runs in a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Daemon {
    /// Name of its program.
    pub name: String,
    /// Its PID as the host counts.
    pub pid: i32,
}

/// A child in a node, killed when dropped.
#[derive(Debug)]
pub struct Spawned(Child);

impl Node {
    pub(crate) fn new(spec: NodeSpec, folder: PathBuf, init: Pid, container: Option<Container>) -> Self {
        Self { spec, folder, init, container }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What runs in it.
    pub fn role(&self) -> Role {
        self.spec.role
    }

    /// The node as the file describes it.
    pub fn spec(&self) -> &NodeSpec {
        &self.spec
    }

    /// PID of its init as the host counts; all its namespaces are those of this process.
    pub fn pid(&self) -> Pid {
        self.init
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file of the node as the host can open it. Absolute symbolic links in it would lead astray.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.init)).join(inside.trim_start_matches('/'))
    }

    /// A file of the node's `/var/log` as the host can open it, also after `down` has begun.
    pub fn log(&self, name: &str) -> PathBuf {
        self.folder.join("log").join(name)
    }

    /// Writes what a container has said to [`Self::log`]; daemons of other nodes write there themselves.
    ///
    /// # Errors
    /// When the container is gone.
    pub fn collect_logs(&self) -> Result<()> {
        match &self.container {
            Some(container) => Ok(fs::write(self.log(CONTAINER_LOG), container.says()?)?),
            None => Ok(()),
        }
    }

    /// The end of a daemon's log, for an error message; a container has one log for all.
    pub(crate) fn last_words(&self, log: &str) -> String {
        match (&self.container, self.collect_logs()) {
            (Some(_), Ok(())) => tail(&self.log(CONTAINER_LOG)),
            (Some(_), Err(error)) => format!("{error:#}"),
            (None, _) => tail(&self.log(log)),
        }
    }

    /// Runs a command to its end; its output is returned, whatever its exit status.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run<S: AsRef<str>>(&self, words: &[S]) -> Result<Output> {
        let mut command = self.command(words)?;
        command.stdin(Stdio::null());
        self.enter(|| command.output())?.with_context(|| self.cannot_start(words))
    }

    /// Runs a command to its end and returns what it wrote.
    ///
    /// # Errors
    /// When it cannot be started or fails; with what it wrote to its standard error.
    pub fn run_ok<S: AsRef<str>>(&self, words: &[S]) -> Result<String> {
        let output = self.run(words)?;
        succeeded(&output, || format!("{}: {}", self.name(), join(words)))
    }

    /// Starts a command; it is killed when the returned value is dropped.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn<S: AsRef<str>>(&self, words: &[S], output: Stdio) -> Result<Spawned> {
        let mut command = self.command(words)?;
        command.stdin(Stdio::null()).stdout(output);
        self.enter(|| command.spawn())?.map(Spawned).with_context(|| self.cannot_start(words))
    }

    /// Starts a command that shares the caller's standard input and outputs.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_attached<S: AsRef<str>>(&self, words: &[S]) -> Result<Spawned> {
        let mut command = self.command(words)?;
        self.enter(|| command.spawn())?.map(Spawned).with_context(|| self.cannot_start(words))
    }

    /// Runs a closure on a thread in all namespaces of the node; files it opens are the node's.
    ///
    /// # Errors
    /// When the node is gone.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let namespaces = Namespaces::of_node(self.init).with_context(|| self.gone())?;
        namespaces.enter(work).with_context(|| self.gone())
    }

    /// Runs a closure on a thread in the node's network namespace only. A socket made there stays there.
    ///
    /// # Errors
    /// When the node is gone.
    pub fn in_netns<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        place::in_netns(self, work)
    }

    /// Daemons that run, by name.
    pub fn daemons(&self) -> Vec<Daemon> {
        let known: &[&str] = match self.spec.role {
            Role::Frr => &frr::DAEMONS,
            Role::Cambric => &[cambric::DAEMON],
            Role::Linux | Role::Bridge => &[],
        };
        let daemon = |pid: Pid| {
            let name = processes::name(pid).filter(|name| known.contains(&name.as_str()))?;
            Some(Daemon { name, pid: pid.as_raw() })
        };
        let mut daemons: Vec<_> = processes::beside(self.init).into_iter().filter_map(daemon).collect();
        daemons.sort_by(|a, b| (&a.name, a.pid).cmp(&(&b.name, b.pid)));
        daemons
    }

    /// PID, as the host counts, of a process of the node by the name of its program.
    pub fn daemon_pid(&self, name: &str) -> Option<Pid> {
        let is_named = |pid: &Pid| processes::name(*pid).as_deref() == Some(name);
        processes::beside(self.init).into_iter().find(is_named)
    }

    /// Sends a signal to a daemon; with SIGKILL it is gone when this returns.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self, daemon: &str, signal: Signal) -> Result<()> {
        let Some(pid) = self.daemon_pid(daemon) else { bail!("{}: {daemon} does not run", self.name()) };
        kill(pid, signal).with_context(|| format!("{}: sending {signal} to {daemon}", self.name()))?;
        if signal == Signal::SIGKILL {
            // Not before its last thread is gone does it let go of locks and sockets.
            let gone = || !Path::new("/proc").join(pid.to_string()).exists();
            poll::until(&format!("{daemon} of {} to be gone", self.name()), Duration::from_secs(10), gone)?;
        }
        Ok(())
    }

    /// Starts the daemons of the node that do not run; returns when they take orders (FRR) or run (Cambric). What a
    /// container runs is its image's affair.
    ///
    /// # Errors
    /// When one does not start; with the end of its log.
    pub fn start(&self) -> Result<()> {
        match self.spec.role {
            _ if self.container.is_some() => Ok(()),
            Role::Frr => frr::start(self),
            Role::Cambric => cambric::start(self, &[]),
            Role::Linux | Role::Bridge => Ok(()),
        }
        .with_context(|| format!("starting the daemons of {}", self.name()))
    }

    /// Starts `cambricd` with `more` behind the arguments that the lab's file gives it.
    ///
    /// # Errors
    /// When it does not start; with the end of its log.
    pub fn start_cambric(&self, more: &[&str]) -> Result<()> {
        cambric::start(self, more).with_context(|| format!("starting the daemon of {}", self.name()))
    }

    /// Starts a program that goes on when this process ends, as a child of the node's init; its output goes to a file
    /// of [`Self::log`].
    pub(crate) fn start_daemon(&self, words: &[String], log: &str) -> Result<()> {
        let path = self.log(log);
        let file = fs::OpenOptions::new().append(true).create(true).open(&path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        // setsid starts its child and ends; so the child's parent is the init, which reaps it.
        let all = [&["setsid".to_owned(), "--fork".to_owned()], words].concat();
        let mut command = self.command(&all)?;
        command.stdin(Stdio::null()).stderr(file.try_clone()?).stdout(file);
        let status = self.enter(|| command.status())?.with_context(|| self.cannot_start(words))?;
        if !status.success() {
            bail!("{}: {}: {status}", self.name(), join(words));
        }
        Ok(())
    }

    /// A command with the environment of the node; still to be started inside.
    pub(crate) fn command<S: AsRef<str>>(&self, words: &[S]) -> Result<Command> {
        let Some((program, arguments)) = words.split_first() else { bail!("no command given") };
        let mut command = Command::new(program.as_ref());
        command.args(arguments.iter().map(AsRef::as_ref)).env_clear();
        command
            .env("PATH", format!("{BIN_DIR}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
        command.env("HOME", "/root").env("HOSTNAME", self.name());
        command.envs(std::env::var_os("TERM").map(|term| ("TERM", term)));
        command.envs(&self.spec.env);
        Ok(command)
    }

    fn cannot_start<S: AsRef<str>>(&self, words: &[S]) -> String {
        format!("{}: cannot start {}", self.name(), join(words))
    }

    fn gone(&self) -> String {
        format!("node {} (process {}) is gone", self.name(), self.init)
    }
}

impl Spawned {
    /// Waits for its end.
    ///
    /// # Errors
    /// When that fails.
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        let stdout = self.0.stdout.take().map(io::read_to_string).transpose()?.unwrap_or_default();
        let status = self.0.wait()?;
        Ok(Output { status, stdout: stdout.into_bytes(), stderr: Vec::new() })
    }
}

impl From<Child> for Spawned {
    fn from(child: Child) -> Self {
        Self(child)
    }
}

impl Deref for Spawned {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Spawned {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

/// What a command wrote, or an error with what it complained of.
pub(crate) fn succeeded(output: &Output, what: impl Fn() -> String) -> Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{}: {}\n{text}{}", what(), output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}

pub(crate) fn join<S: AsRef<str>>(words: &[S]) -> String {
    words.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ")
}

/// The last lines of a log, for an error message.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(20)..].join("\n");
    format!("the end of {}:\n{last}", log.display())
}
