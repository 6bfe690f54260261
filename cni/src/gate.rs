//! The gate before the network: no pod gets traffic before its policy.
//!
//! Rules, maps and sets of policy are the daemon's. They outlive it, but not the boot, and a pod that is in none
//! of the maps is closed. So there are three things to see to, in this order:
//!
//! ```text
//! ready mark         the rules stand since this boot: else ADD fails before anything is made          ready
//! owners             (address, link) of the pod are in the sets: else all it sends would be dropped    owners
//! question           the pod's own rules are in place: its ADD waits for that a little                  place
//! ```
//!
//! With `policyGate` `off` there is no mark and no question, with `prefer` the answer does not matter but is waited
//! for, with `require` ADD fails without it. Whatever fails is undone with the rest of the ADD, and is told by code 11.
//!
//! A pod of a node with policy is also a permanent neighbour of its host end, as its gateway is for the pod: so
//! no ARP is needed, which the daemon's rules let through for pods that it knows.

use std::net::IpAddr;
use std::path::Path;

use crate::attachment::Attachment;
use crate::config::PolicyGate;
use crate::error::{CniError, Code};
use crate::kernel::Link;
use crate::netlink::Socket;
use crate::range::Addresses;
use crate::wire;

mod owners;
mod place;
mod ready;

use owners::OwnersError;
use ready::Policy;

/// Name of the daemon's socket in the folder of run-time files.
const SOCKET: &str = "cambricd.sock";

/// The gate as it is for one ADD.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gate<'a> {
    run_dir: &'a Path,
    kind: PolicyGate,
    /// As the mark has it.
    policy: Policy,
}

/// What whoever looks after the node should know about a pod that was let in.
pub(crate) type Warning = String;

impl Gate<'_> {
    /// Looks at the mark.
    ///
    /// # Errors
    /// Code 11 when there is none of this boot.
    pub(crate) fn find(kind: PolicyGate, run_dir: &Path) -> Result<Gate<'_>, CniError> {
        let policy = match kind {
            PolicyGate::Off => Policy::Unknown,
            PolicyGate::Prefer | PolicyGate::Require => ready::look(run_dir)
                .map_err(|why| later("the network policy of the node is not in place yet", why))?,
        };
        Ok(Gate { run_dir, kind, policy })
    }

    /// Lets a pod in that is wired.
    ///
    /// # Errors
    /// Code 11: sets that are missing or refuse, and with `require` whatever keeps the daemon from saying yes.
    pub(crate) fn pass(
        self,
        attachment: &Attachment,
        host_end: &Link,
        addresses: Addresses,
        host: &mut Socket,
    ) -> Result<Option<Warning>, CniError> {
        if self.policy == Policy::Off {
            return Ok(None);
        }
        match owners::add(&host_end.name, &own(attachment, addresses)) {
            Ok(()) => {}
            Err(OwnersError::NoSet(_)) if self.policy == Policy::Unknown => return Ok(None),
            Err(why) => {
                return Err(later("cannot tell the network policy whose the pod's addresses are", why));
            }
        }
        let pod_mac = attachment.pod_mac();
        let neighbours: Vec<_> =
            addresses.iter().map(|address| wire::neighbour(address, pod_mac, host_end)).collect();
        host.batch(&neighbours).map_err(|error| {
            CniError::new(Code::HostWiring, "cannot wire the pod on the node").with_details(error)
        })?;
        if self.kind == PolicyGate::Off {
            return Ok(None);
        }
        let asked = place::ask(&self.run_dir.join(SOCKET), attachment, &host_end.name, addresses);
        match asked {
            Ok(()) => Ok(None),
            Err(why) if self.kind == PolicyGate::Require => {
                Err(later("the network policy of the pod is not in place yet", why))
            }
            Err(why) => {
                let pod = attachment.pod.as_deref().unwrap_or("a pod");
                Ok(Some(format!(
                    "{pod} ({}) is closed until cambricd has its policy in place: {why}",
                    host_end.name
                )))
            }
        }
    }
}

/// Whether the mark says that policy is enforced on this node.
pub(crate) fn is_enforced(run_dir: &Path) -> bool {
    ready::look(run_dir) == Ok(Policy::On)
}

/// Takes back what [`Gate::pass`] made outside the pod's link, of a pod whose link is gone.
pub(crate) fn leave(attachment: &Attachment, addresses: Addresses) {
    owners::remove(&attachment.host_ifname(), &own(attachment, addresses));
}

/// All addresses that a pod may send from: with IPv6 the link-local one, without which it would find no neighbour.
fn own(attachment: &Attachment, addresses: Addresses) -> Vec<IpAddr> {
    let link_local = addresses.ipv6.map(|_| attachment.pod_mac().link_local().into());
    addresses.iter().chain(link_local).collect()
}

fn later(msg: &str, why: impl ToString) -> CniError {
    CniError::new(Code::TryAgainLater, msg).with_details(why)
}
