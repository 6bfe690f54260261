//! Keeps the node forwarding packets.
//!
//! Other programs turn forwarding off now and then (a network manager, `sysctl --system`); a node that
//! does not forward looks healthy and carries nothing. So the two switches are looked at twice a second.
//!
//! What was there before is written down first ([`crate::sysctls`]), and not only of the switches: the kernel sets the
//! interfaces' own ones with them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use cambric_api::node::Sysctl;
use cambric_routes::LinkTable;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::router_advertisements;
use crate::sysctls::Found;

/// How often the switches are looked at.
const INTERVAL: Duration = Duration::from_millis(500);
const IPV4: &str = "ipv4/ip_forward";
const IPV6: &str = "ipv6/conf/all/forwarding";

/// Turns forwarding on and keeps it so. What it finds is written down in `run_dir`.
pub async fn start(
    sysctl_dir: PathBuf,
    run_dir: &Path,
    links: watch::Receiver<Arc<LinkTable>>,
) -> JoinHandle<()> {
    let mut switches = Switches { sysctl_dir, links, found: Found::read(run_dir), failing: BTreeSet::new() };
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
    found: Found,
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

    async fn keep_one_on(&mut self, switch: &str, say: Say) -> anyhow::Result<()> {
        let path = self.sysctl_dir.join(switch);
        if !is_off(&path)? {
            return Ok(());
        }
        if switch == IPV6 {
            self.keep_router_advertisements().await?;
        }
        self.note(turned_with(&self.sysctl_dir, switch));
        fs::write(&path, "1")?;
        if say == Say::Loud {
            tracing::warn!(sysctl = %path.display(), "somebody turned forwarding off; it is on again");
        }
        Ok(())
    }

    /// A node that forwards is worth more than one that can be put back.
    fn note(&mut self, sysctls: impl IntoIterator<Item = (String, Sysctl)>) {
        if let Err(error) = self.found.note(sysctls) {
            tracing::warn!(error = %error, "what sysctls were before cannot be written down");
        }
    }

    /// An interface that owes a route to router advertisements gets `accept_ra=2` before the node forwards:
    /// with 1 the kernel drops these routes as it starts to (ip-sysctl, accept_ra).
    async fn keep_router_advertisements(&mut self) -> anyhow::Result<()> {
        let links = self.links.borrow().clone();
        for interface in router_advertisements::interfaces(&links).await? {
            let name = format!("ipv6/conf/{interface}/accept_ra");
            let path = self.sysctl_dir.join(&name);
            self.note(found(&self.sysctl_dir, name, "2").filter(|(_, sysctl)| sysctl.before != sysctl.ours));
            if set_to(&path, "2").with_context(|| format!("setting {}", path.display()))? == Set::Changed {
                tracing::info!(iface = %interface, "accept_ra=2, so that routes from router advertisements stay");
            }
        }
        Ok(())
    }
}

/// What the kernel sets when it turns the switch, with the switch itself. For IPv4 these are the interfaces and
/// `accept_redirects` (`inet_forward_change` in net/ipv4/devinet.c), for IPv6 the interfaces (`addrconf_forward_change` in
/// net/ipv6/addrconf.c). Interfaces that forward already are among them: they would not if the switch were turned off.
fn turned_with(sysctl_dir: &Path, switch: &str) -> Vec<(String, Sysctl)> {
    let conf = if switch == IPV4 { "ipv4/conf" } else { "ipv6/conf" };
    let folders = fs::read_dir(sysctl_dir.join(conf)).into_iter().flatten().flatten();
    let interfaces = folders.filter_map(|folder| folder.file_name().into_string().ok());
    // `all` is the switch itself.
    let interfaces = interfaces.filter(|name| name != "all");
    let redirects = (switch == IPV4).then(|| ("ipv4/conf/all/accept_redirects".to_owned(), "0"));
    [(switch.to_owned(), "1")]
        .into_iter()
        .chain(interfaces.map(|interface| (format!("{conf}/{interface}/forwarding"), "1")))
        .chain(redirects)
        .filter_map(|(name, ours)| found(sysctl_dir, name, ours))
        .collect()
}

/// One as it is now. One that is not there, or cannot be read, is none.
fn found(sysctl_dir: &Path, name: String, ours: &str) -> Option<(String, Sysctl)> {
    let before = fs::read_to_string(sysctl_dir.join(&name)).ok()?.trim().to_owned();
    Some((name, Sysctl { before, ours: ours.to_owned() }))
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
    use cambric_api::node::{self, Sysctls};

    use super::*;

    #[tokio::test]
    async fn a_switch_that_is_off_goes_on_and_an_absent_family_is_no_error() {
        let folder = tempfile::tempdir().expect("temporary folder");
        fs::create_dir(folder.path().join("ipv4")).expect("own folder");
        let switch = folder.path().join(IPV4);
        fs::write(&switch, "0\n").expect("own folder");
        switches(folder.path()).keep_on(Say::Loud).await;
        assert_eq!(fs::read_to_string(&switch).expect("own file"), "1");
    }

    /// It has the run-time files in the same folder.
    fn switches(folder: &Path) -> Switches {
        let (_, links) = watch::channel(Arc::default());
        let sysctl_dir = folder.to_owned();
        Switches { sysctl_dir, links, found: Found::read(folder), failing: BTreeSet::new() }
    }

    #[tokio::test]
    async fn what_the_kernel_sets_with_the_switch_is_written_down_before() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let set = |name: &str, value: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("own folder");
            fs::write(path, value).expect("own folder");
        };
        set(IPV4, "0\n");
        set("ipv4/conf/all/forwarding", "0\n");
        set("ipv4/conf/all/accept_redirects", "1\n");
        set("ipv4/conf/eth0/forwarding", "1\n");
        switches(folder.path()).keep_on(Say::Quiet).await;
        // Somebody turns it off; of the next run the first values are not forgotten.
        set(IPV4, "0\n");
        set("ipv4/conf/eth0/forwarding", "0\n");
        set("ipv4/conf/eth1/forwarding", "0\n");
        switches(folder.path()).keep_on(Say::Loud).await;
        let text = fs::read(folder.path().join(node::SYSCTLS)).expect("a file");
        let record = Sysctls::parse(&text).expect("a record");
        let told: Vec<_> =
            record.found.iter().map(|(name, value)| (name.as_str(), &*value.before, &*value.ours)).collect();
        let expected = [
            ("ipv4/conf/all/accept_redirects", "1", "0"),
            ("ipv4/conf/eth0/forwarding", "1", "1"),
            ("ipv4/conf/eth1/forwarding", "0", "1"),
            (IPV4, "0", "1"),
        ];
        assert_eq!(told, expected);
    }

    #[tokio::test]
    async fn a_node_forwards_though_nothing_can_be_written_down() {
        let folder = tempfile::tempdir().expect("temporary folder");
        fs::create_dir(folder.path().join("ipv4")).expect("own folder");
        fs::write(folder.path().join(IPV4), "0\n").expect("own folder");
        fs::create_dir_all(folder.path().join(node::SYSCTLS_TEMPORARY)).expect("in the way");
        let mut switches = switches(folder.path());
        switches.keep_on(Say::Quiet).await;
        assert_eq!(fs::read_to_string(folder.path().join(IPV4)).expect("own file"), "1");
        assert_eq!(switches.failing, BTreeSet::new());
    }

    #[test]
    fn a_value_that_is_there_is_not_written_again() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        assert_eq!(set_to(file.path(), "2").expect("own file"), Set::Changed);
        assert_eq!(set_to(file.path(), "2").expect("own file"), Set::Unchanged);
    }
}
