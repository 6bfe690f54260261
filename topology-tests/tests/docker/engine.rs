//! A Docker daemon of the tests' own: started by the first test, ended by the last, nothing left but its images.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cambric_lab::{Docker, poll};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{Need, machine_has};
use crate::images;

const PROGRAM: &str = "/usr/sbin/dockerd";
const CLIENT: &str = "/usr/bin/docker";

/// A daemon that answers, with all images.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) docker: Docker,
    folder: PathBuf,
    daemon: Child,
    /// What the machine had before.
    before: Machine,
    _alone: Flock<File>,
}

/// What a Docker daemon may leave behind.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    links: BTreeSet<String>,
    rules: String,
    forwards: String,
}

/// Does the work with the daemon of this run. Where there can be none, that is said; with `CI=true` it is a failure.
pub(crate) fn with_docker(work: impl FnOnce(&Engine)) {
    static SHARED: Mutex<Weak<Engine>> = Mutex::new(Weak::new());
    let needs = [Need::Root, Need::Docker, Need::Netfilter, Need::StaticCambric];
    if !machine_has(&needs) {
        return;
    }
    let engine = {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let engine = shared.upgrade().map_or_else(|| Engine::start().map(Arc::new), Ok);
        match engine {
            Ok(engine) => {
                *shared = Arc::downgrade(&engine);
                engine
            }
            Err(error) => {
                let test = std::thread::current().name().unwrap_or_default().to_owned();
                eprintln!("{test}: not run: no Docker here: {error:#}");
                assert!(std::env::var("CI").as_deref() != Ok("true"), "CI has all that tests need");
                return;
            }
        }
    };
    images::of_cambric(&engine.docker).expect("the image is built");
    work(&engine);
    if let Some(engine) = Arc::into_inner(engine) {
        engine.end().expect("the Docker daemon leaves nothing");
    }
}

impl Engine {
    fn start() -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/docker");
        fs::create_dir_all(&folder)?;
        let folder = folder.canonicalize()?;
        let alone = Flock::lock(File::create(folder.join("lock"))?, FlockArg::LockExclusive);
        let alone = alone.map_err(|(_, error)| error).context("locking target/docker")?;
        end_left_over(&folder)?;
        let before = Machine::look()?;
        let log = File::create(folder.join("log"))?;
        let host = format!("unix://{}/sock", folder.display());
        let at = |part: &str| folder.join(part);
        let mut command = Command::new(PROGRAM);
        command.args([
            "--host",
            &host,
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            "--ip-forward=false",
        ]);
        command
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"));
        command.env("PATH", "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // An interrupt from the terminal is for the tests: they end the daemon.
        command.process_group(0);
        let daemon = command.spawn().with_context(|| PROGRAM.to_owned())?;
        let docker = Docker { program: CLIENT.into(), host: Some(host) };
        let mut engine = Self { docker, folder, daemon, before, _alone: alone };
        engine.wait()?;
        images::of_debian(&engine.docker, &engine.folder)?;
        Ok(engine)
    }

    fn wait(&mut self) -> Result<()> {
        let answers = || {
            if let Some(status) = self.daemon.try_wait()? {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                bail!("dockerd: {status}: {}", log.lines().last().unwrap_or("without a word"));
            }
            Ok(self.docker.run_ok(&["version"]).ok())
        };
        poll::until_some("dockerd to answer", Duration::from_secs(60), answers).map(drop)
    }

    /// Ends the daemon and looks whether anything is left of it.
    fn end(mut self) -> Result<()> {
        self.stop()?;
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let left: Vec<&str> =
            mounts.lines().filter(|line| line.contains(&*self.folder.to_string_lossy())).collect();
        ensure!(left.is_empty(), "mounts are left: {left:?}");
        let after = Machine::look()?;
        ensure!(after == self.before, "it was {:?}, it is {after:?}", self.before);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        if self.daemon.try_wait()?.is_none() {
            let all = self.docker.run_ok(&["ps", "--all", "--quiet"])?;
            let all: Vec<&str> = all.split_whitespace().collect();
            if !all.is_empty() {
                self.docker.run_ok(&[&["rm", "--force", "--volumes"], all.as_slice()].concat())?;
            }
            // What earlier runs have built, and nothing uses.
            self.docker.run_ok(&["image", "prune", "--force"])?;
            self.docker.run_ok(&["builder", "prune", "--force", "--keep-storage", "2GB"])?;
            kill(Pid::from_raw(self.daemon.id().cast_signed()), Signal::SIGTERM)?;
            self.daemon.wait()?;
        }
        unmount(&self.folder)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("ending dockerd: {error:#}");
            let _ = self.daemon.kill(); // it may have ended
            let _ = self.daemon.wait();
        }
    }
}

impl Machine {
    fn look() -> Result<Self> {
        let links = fs::read_dir("/sys/class/net")?.flatten();
        let nft =
            Command::new("/usr/sbin/nft").args(["--stateless", "list", "ruleset"]).output().context("nft")?;
        ensure!(nft.status.success(), "nft: {}", String::from_utf8_lossy(&nft.stderr));
        Ok(Self {
            links: links.map(|link| link.file_name().to_string_lossy().into_owned()).collect(),
            rules: String::from_utf8_lossy(&nft.stdout).into_owned(),
            forwards: fs::read_to_string("/proc/sys/net/ipv4/ip_forward")?,
        })
    }
}

/// Ends the daemon of a run that was killed: the process that the file names, if it is a daemon of this folder.
fn end_left_over(folder: &Path) -> Result<()> {
    let Ok(pid) = fs::read_to_string(folder.join("pid")) else { return unmount(folder) };
    let command_line = fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
    if command_line.contains(PROGRAM) && command_line.contains(&*folder.to_string_lossy()) {
        kill(Pid::from_raw(pid.trim().parse()?), Signal::SIGTERM)?;
        let gone = || !Path::new("/proc").join(pid.trim()).exists();
        poll::until("an earlier dockerd to end", Duration::from_secs(60), gone)?;
    }
    unmount(folder)
}

/// dockerd leaves the network namespace that it keeps for containers of the host's network.
fn unmount(folder: &Path) -> Result<()> {
    let kept = folder.join("exec/netns/default");
    match umount2(&kept, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("unmounting {}", kept.display())),
    }
}
