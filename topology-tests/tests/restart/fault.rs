//! What happens to the daemon.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cambric_lab::{Lab, Node, poll};
use nix::sys::signal::Signal;

use crate::common::CAMBRIC_LAB;
use crate::tor::{BIRD, FRR, Tor};

const CAMBRICD: &str = "cambricd";

/// Where a node has its binaries.
const BIN_DIR: &str = "/opt/cambric/bin";

/// How long the daemon is away, counted in packets of a flow: in milliseconds.
const AWAY: u32 = 3_000;
/// Between two kills: well inside every restart time, and time enough for sessions.
const BETWEEN: u32 = 2_000;
/// Longer than the hold time of 9 s.
const HANGS: u32 = 14_000;

const LIMIT: Duration = Duration::from_secs(20);

/// A way to stop and start.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// By SIGTERM, as a kubelet does.
    Terminated,
    /// By SIGKILL, as the kernel does when memory is short.
    Killed,
    /// Killed, started, killed again before the first restart is over.
    KilledTwice,
    /// Killed once its binary is another one.
    Upgraded,
    /// Stopped for longer than the hold time, then let go on.
    Hung,
    /// Killed while one switch is away: it must neither be waited for nor take anything along.
    Absent(&'static Tor),
    /// Killed, and one switch goes while it is away.
    PeerDies(&'static Tor),
}

pub(crate) const ALL: [Fault; 9] = [
    Fault::Terminated,
    Fault::Killed,
    Fault::KilledTwice,
    Fault::Hung,
    Fault::Absent(&BIRD),
    Fault::Absent(&FRR),
    Fault::PeerDies(&BIRD),
    Fault::PeerDies(&FRR),
    // Last: from here on it is the other binary.
    Fault::Upgraded,
];

/// Those that are asked for.
pub(crate) fn chosen() -> Vec<Fault> {
    let only = std::env::var("CAMBRIC_RESTART_ONLY").unwrap_or_default();
    ALL.into_iter().filter(|fault| fault.to_string().contains(&only)).collect()
}

/// The node that it happens to.
pub(crate) struct Victim {
    node: Node,
}

impl Victim {
    pub(crate) fn of(lab: &Lab) -> Result<Victim> {
        Ok(Victim { node: lab.node("c1")? })
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    fn end(&self, signal: Signal) -> Result<()> {
        self.node.kill(CAMBRICD, signal)?;
        poll::until("the daemon to end", LIMIT, || self.node.daemon_pid(CAMBRICD).is_none())
    }

    fn start(&self) -> Result<()> {
        // The last thread of a killed daemon may outlive the first one for a moment.
        let lock = ["flock", "--nonblock", "/run/cambric/cambricd.lock", "true"];
        poll::until("its lock to be free", LIMIT, || self.node.run_ok(&lock).is_ok())?;
        self.node.start()
    }

    /// By rename, over the one that runs.
    fn upgrade(&self) -> Result<()> {
        let other = std::env::var_os("CAMBRIC_OTHER_RELEASE").map(PathBuf::from);
        let this = Path::new(CAMBRIC_LAB).parent().unwrap_or(Path::new("."));
        let from = other.as_deref().unwrap_or(this).join(CAMBRICD);
        let folder = self.node.path(BIN_DIR);
        let next = folder.join(".next");
        fs::copy(&from, &next)
            .and_then(|_| fs::rename(&next, folder.join(CAMBRICD)))
            .with_context(|| format!("putting {} in the place of the one that runs", from.display()))
    }
}

impl Fault {
    /// The switch that is not there at the end.
    pub(crate) fn absent(self) -> Option<&'static Tor> {
        match self {
            Fault::Absent(tor) | Fault::PeerDies(tor) => Some(tor),
            _ => None,
        }
    }

    /// From the first signal to the last start; says when that was. `wait` waits until each flow has sent so many
    /// packets.
    pub(crate) fn strike(
        self,
        lab: &Lab,
        victim: &Victim,
        wait: &dyn Fn(u32) -> Result<()>,
    ) -> Result<Instant> {
        match self {
            Fault::Terminated => {
                victim.end(Signal::SIGTERM)?;
                wait(AWAY)?;
            }
            Fault::Killed | Fault::Absent(_) => {
                victim.end(Signal::SIGKILL)?;
                wait(AWAY)?;
            }
            Fault::KilledTwice => {
                for away in [BETWEEN, AWAY] {
                    victim.end(Signal::SIGKILL)?;
                    wait(away)?;
                    if away == BETWEEN {
                        victim.start()?;
                        wait(BETWEEN)?;
                    }
                }
            }
            Fault::Upgraded => {
                victim.upgrade()?;
                victim.end(Signal::SIGKILL)?;
                wait(AWAY)?;
            }
            Fault::Hung => {
                victim.node.kill(CAMBRICD, Signal::SIGSTOP)?;
                wait(HANGS)?;
                victim.node.kill(CAMBRICD, Signal::SIGCONT)?;
                return Ok(Instant::now());
            }
            Fault::PeerDies(tor) => {
                victim.end(Signal::SIGKILL)?;
                wait(AWAY / 2)?;
                tor.end(lab)?;
                wait(AWAY / 2)?;
            }
        }
        victim.start()?;
        Ok(Instant::now())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Terminated => f.pad("ended by SIGTERM, 3 s away"),
            Fault::Killed => f.pad("killed, 3 s away"),
            Fault::KilledTwice => f.pad("killed, 2 s away, killed after 2 s, 3 s away"),
            Fault::Upgraded => f.pad("upgraded: killed, another binary after 3 s"),
            Fault::Hung => f.pad("hung for 14 s, hold time 9 s"),
            Fault::Absent(tor) => f.pad(&format!("killed, 3 s away, while {} is absent", tor.kind.name())),
            Fault::PeerDies(tor) => f.pad(&format!("killed, 3 s away, {} dies meanwhile", tor.kind.name())),
        }
    }
}
