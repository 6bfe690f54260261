//! Keeps the node forwarding packets.
//!
//! Other programs turn forwarding off now and then (a network manager, `sysctl --system`); a node that
//! does not forward looks healthy and carries nothing. So the two switches are looked at twice a second.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use cambric_routes::LinkTable;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::router_advertisements;

/// How often the switches are looked at.
const INTERVAL: Duration = Duration::from_millis(500);
const IPV4: &str = "ipv4/ip_forward";
const IPV6: &str = "ipv6/conf/all/forwarding";

/// Turns forwarding on and keeps it so.
pub async fn start(sysctl_dir: PathBuf, links: watch::Receiver<Arc<LinkTable>>) -> JoinHandle<()> {
    let mut switches = Switches { sysctl_dir, links, failing: BTreeSet::new() };
    switches.keep_on(Say::Quiet).await;
    tokio::spawn(async move {
        loop {
            sleep(INTERVAL).await;
            switches.keep_on(Say::Loud).await;
        }
    })
}

struct Switches {
    sysctl_dir: PathBuf,
    links: watch::Receiver<Arc<LinkTable>>,
    /// Their error has been told.
    failing: BTreeSet<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Say {
    Quiet,
    Loud,
}

impl Switches {
    /// An error is told once until it is over.
    async fn keep_on(&mut self, say: Say) {
        for switch in [IPV4, IPV6] {
            match self.keep_one_on(switch, say).await {
                Ok(()) => drop(self.failing.remove(switch)),
                Err(error) if self.failing.insert(switch) => {
                    tracing::error!(sysctl = switch, error = %format!("{error:#}"), "forwarding cannot be turned on");
                }
                Err(_) => {}
            }
        }
    }

    async fn keep_one_on(&self, switch: &str, say: Say) -> anyhow::Result<()> {
        let path = self.sysctl_dir.join(switch);
        if !is_off(&path)? {
            return Ok(());
        }
        if switch == IPV6 {
            self.keep_router_advertisements().await?;
        }
        fs::write(&path, "1")?;
        if say == Say::Loud {
            tracing::warn!(sysctl = %path.display(), "somebody turned forwarding off; it is on again");
        }
        Ok(())
    }

    /// An interface that owes a route to router advertisements gets `accept_ra=2` before the node forwards:
    /// with 1 the kernel drops these routes as it starts to (ip-sysctl, accept_ra).
    async fn keep_router_advertisements(&self) -> anyhow::Result<()> {
        let links = self.links.borrow().clone();
        for interface in router_advertisements::interfaces(&links).await? {
            let path = self.sysctl_dir.join("ipv6/conf").join(&interface).join("accept_ra");
            if set_to(&path, "2").with_context(|| format!("setting {}", path.display()))? == Set::Changed {
                tracing::info!(iface = %interface, "accept_ra=2, so that routes from router advertisements stay");
            }
        }
        Ok(())
    }
}

/// Where the kernel has no such family there is nothing to turn on.
fn is_off(path: &Path) -> io::Result<bool> {
    match fs::read_to_string(path) {
        Ok(value) => Ok(value.trim() != "1"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Changed,
    Unchanged,
}

fn set_to(path: &Path, value: &str) -> io::Result<Set> {
    if fs::read_to_string(path)?.trim() == value {
        return Ok(Set::Unchanged);
    }
    fs::write(path, value).map(|()| Set::Changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_switch_that_is_off_goes_on_and_an_absent_family_is_no_error() {
        let folder = tempfile::tempdir().expect("temporary folder");
        fs::create_dir(folder.path().join("ipv4")).expect("own folder");
        let switch = folder.path().join(IPV4);
        fs::write(&switch, "0\n").expect("own folder");
        let (_links, links) = watch::channel(Arc::default());
        let mut switches = Switches { sysctl_dir: folder.path().to_owned(), links, failing: BTreeSet::new() };
        switches.keep_on(Say::Loud).await;
        assert_eq!(fs::read_to_string(&switch).expect("own file"), "1");
        assert_eq!(switches.failing, BTreeSet::new());
    }

    #[test]
    fn a_value_that_is_there_is_not_written_again() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        assert_eq!(set_to(file.path(), "2").expect("own file"), Set::Changed);
        assert_eq!(set_to(file.path(), "2").expect("own file"), Set::Unchanged);
    }
}
