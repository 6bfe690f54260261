//! A network namespace without a name.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

/// The calling thread's namespace; `self` would be the main thread's.
const OWN: &str = "/proc/thread-self/ns/net";

/// There as long as this is.
#[derive(Debug)]
pub struct Netns {
    file: File,
}

impl Netns {
    /// A new one, its loopback interface up, its IPv6 addresses usable at once.
    pub fn new() -> Netns {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace (needs root)");
            File::open(OWN).expect("the namespace of this thread")
        });
        let netns = Netns { file: made.join().expect("a thread that makes a namespace") };
        for conf in ["all", "default"] {
            netns.set(&format!("ipv6/conf/{conf}/accept_dad"), "0");
            netns.set(&format!("ipv6/conf/{conf}/accept_ra"), "0");
            netns.set(&format!("ipv6/conf/{conf}/disable_ipv6"), "0");
            netns.set(&format!("ipv4/conf/{conf}/rp_filter"), "0");
        }
        netns
    }

    /// Does something inside, on the calling thread; processes and threads that it starts are inside, too.
    pub fn enter<T>(&self, act: impl FnOnce() -> T) -> T {
        let _home = Home(File::open(OWN).expect("the namespace of this thread"));
        setns(&self.file, CloneFlags::CLONE_NEWNET).expect("a namespace of ours");
        act()
    }

    /// A path that names it as long as it is there.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Sets `net/…` of sysctl.
    pub fn set(&self, name: &str, value: &str) {
        let path = format!("/proc/sys/net/{name}");
        self.enter(|| fs::write(&path, value)).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// Lines for `ip -batch`.
    pub fn ip(&self, lines: &[String]) {
        self.run("ip", &["-batch", "-"], &lines.join("\n"));
    }

    /// Runs a tool inside, gives it this input, and returns what it printed.
    pub fn run(&self, program: &str, arguments: &[&str], input: &str) -> String {
        self.try_run(program, arguments, input)
            .unwrap_or_else(|error| panic!("{program} {arguments:?}: {error}\ninput:\n{input}"))
    }

    /// The same; `Err` says what it complained of.
    pub fn try_run(&self, program: &str, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.enter(|| command.spawn()).map_err(|error| error.to_string())?;
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).map_err(|error| error.to_string())?;
        drop(stdin);
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}

/// Takes the thread back, whatever happened inside.
struct Home(File);

impl Drop for Home {
    fn drop(&mut self) {
        setns(&self.0, CloneFlags::CLONE_NEWNET).expect("the namespace the thread came from");
    }
}
