//! The role `frr`: the host's FRR with its default paths, which are the node's own.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::node::{Node, tail};
use crate::poll;

/// Daemons of a node, in the order they are started.
pub const DAEMONS: [&str; 4] = ["zebra", "staticd", "bgpd", "bfdd"];

/// Where Debian's package puts them.
const PROGRAMS: &str = "/usr/lib/frr";

/// Whether the host has FRR.
///
/// # Errors
/// When a daemon is not there.
pub fn installed() -> Result<()> {
    for daemon in DAEMONS {
        if !Path::new(PROGRAMS).join(daemon).exists() {
            bail!("no {PROGRAMS}/{daemon}: the role frr needs the package frr");
        }
    }
    Ok(())
}

/// Starts the daemons that do not run and gives them the configuration.
pub(crate) fn start(node: &Node) -> Result<()> {
    let missing: Vec<&str> = DAEMONS.into_iter().filter(|name| node.daemon_pid(name).is_none()).collect();
    for daemon in &missing {
        let (program, log) = (format!("{PROGRAMS}/{daemon}"), format!("file:/var/log/frr/{daemon}.log"));
        node.run_ok(&[program.as_str(), "-d", "-A", "127.0.0.1", "--log", &log])?;
    }
    for daemon in &missing {
        let socket = node.path(&format!("/run/frr/{daemon}.vty"));
        let listens = || UnixStream::connect(&socket).is_ok();
        poll::until(&format!("{daemon} to listen"), Duration::from_secs(20), listens)
            .with_context(|| tail(&node.log(&format!("frr/{daemon}.log"))))?;
    }
    if missing.len() == DAEMONS.len() {
        return load(node, &[]);
    }
    // The others have theirs, and would take some lines as changes.
    missing.iter().try_for_each(|daemon| load(node, &["-d", daemon]))
}

fn load(node: &Node, to: &[&str]) -> Result<()> {
    let words = [&["vtysh", "-b"], to].concat();
    node.run_ok(&words).map(drop).context("loading /etc/frr/frr.conf")
}
