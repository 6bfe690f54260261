//! The role `cambric`: `cambricd` over the bound manifests, and the CNI configuration it writes.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cni;
use crate::node::{Node, tail};
use crate::poll;

/// The daemon's program, looked for in the folder given by `--bin-dir`.
pub const DAEMON: &str = "cambricd";

/// Arguments unless the file has `cmd`.
const ARGUMENTS: [&str; 2] = ["--source", "dir:/etc/cambric/manifests"];

const LOG: &str = "cambricd.log";

/// Whether the daemon is in `bin_dir`.
///
/// # Errors
/// When it is not.
pub fn built(bin_dir: &Path) -> Result<()> {
    if !bin_dir.join(DAEMON).exists() {
        bail!("no {DAEMON} in {}: build it, or name its folder with --bin-dir", bin_dir.display());
    }
    Ok(())
}

/// Starts the daemon unless it runs, with `more` behind the arguments it has anyway.
pub(crate) fn start(node: &Node, more: &[&str]) -> Result<()> {
    if node.daemon_pid(DAEMON).is_some() {
        return Ok(());
    }
    let mut words: Vec<String> = [DAEMON, "--node", node.name()].map(str::to_owned).into();
    match &node.spec().arguments {
        Some(arguments) => words.extend(arguments.iter().cloned()),
        None => words.extend(ARGUMENTS.map(str::to_owned)),
    }
    words.extend(more.iter().map(|&word| word.to_owned()));
    node.start_daemon(&words, LOG)?;
    let runs = || node.daemon_pid(DAEMON).is_some();
    poll::until(&format!("{DAEMON} to run"), Duration::from_secs(10), runs)
        .with_context(|| tail(&node.log(LOG)))
}

/// Waits until the daemon has written the CNI configuration: from then on pods can start.
pub(crate) fn wait_for_conflist(node: &Node, limit: Duration) -> Result<()> {
    let conflist = node.path(cni::CONFLIST);
    let what = format!("{} of {}", cni::CONFLIST, node.name());
    let found = || {
        if node.daemon_pid(DAEMON).is_none() {
            bail!("{DAEMON} of {} has ended", node.name());
        }
        Ok(conflist.exists().then_some(()))
    };
    poll::until_some(&what, limit, found).with_context(|| node.last_words(LOG))
}
