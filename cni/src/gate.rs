//! The gate before the network: no pod gets traffic before its policy.
//!
//! Rules, maps and sets of policy are the daemon's. They outlive it, but not the boot, and a pod that is in none
//! of the maps is closed. So there are three things to see to, in this order:
//!
//! ```text
//! ready mark         the rules stand since this boot: else ADD fails before anything is made          ready
//! owners             (address, link) of the pod are in the sets: else all it sends would be dropped    owners
//! rules              nobody has taken them away since: else the pod would be open                      tables
//! question           the pod's own rules are in place: its ADD waits for that a little                 place
//! ```
//!
//! With `policyGate` `off` nothing is looked at and nothing of this fails, with `prefer` the answer does not matter
//! but is waited for, with `require` ADD fails without it. Whatever fails is undone with the rest of the ADD, and is
//! told by code 11; half a name, by which nobody finds a pod's policies, by code 4.
//!
//! A pod of a node with policy is also a permanent neighbour of its host end, as its gateway is for the pod: so
//! no ARP is needed, which the daemon's rules let through for pods that it knows.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use crate::attachment::Attachment;
use crate::config::PolicyGate;
use crate::error::{CniError, Code};
use crate::kernel::Link;
use crate::netlink::{NetlinkError, Socket};
use crate::range::Addresses;
use crate::wire;

mod owners;
mod place;
pub mod ready;
mod tables;

use owners::OwnersError;
use ready::Policy;

/// Name of the daemon's socket in the folder of run-time files.
const SOCKET: &str = "cambricd.sock";

/// The gate as it is for one ADD.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gate<'a> {
    run_dir: &'a Path,
    kind: PolicyGate,
    /// As the mark has it; `None` where nobody looked.
    policy: Option<Policy>,
}

/// What whoever looks after the node should know about a pod that was let in.
pub(crate) type Warning = String;

impl Gate<'_> {
    /// Looks at the mark.
    ///
    /// # Errors
    /// Code 11 when there is none of this boot, code 4 for half a name where pods are judged by their names.
    pub(crate) fn find<'a>(
        kind: PolicyGate,
        run_dir: &'a Path,
        attachment: &Attachment,
    ) -> Result<Gate<'a>, CniError> {
        let policy = match kind {
            PolicyGate::Off => None,
            PolicyGate::Prefer | PolicyGate::Require => Some(
                ready::read(run_dir)
                    .map_err(|why| later("the network policy of the node is not in place yet", why))?,
            ),
        };
        if policy == Some(Policy::On) {
            refuse_half_a_name(attachment)?;
        }
        Ok(Gate { run_dir, kind, policy })
    }

    /// Lets a pod in that is wired.
    ///
    /// # Errors
    /// Code 11: sets that are missing or refuse, rules that are missing, and with `require` whatever keeps the daemon
    /// from saying yes. With `off` there are none.
    pub(crate) fn pass(
        self,
        attachment: &Attachment,
        host_end: &Link,
        addresses: Addresses,
        host: &mut Socket,
    ) -> Result<Option<Warning>, CniError> {
        if self.policy == Some(Policy::Off) {
            return Ok(None);
        }
        let closed = |why: &dyn fmt::Display| {
            let pod = attachment.pod.as_deref().unwrap_or("a pod");
            format!("{pod} ({}) is closed until cambricd has its policy in place: {why}", host_end.name)
        };
        let owned = owners::add(&host_end.name, &own(attachment, addresses));
        if self.kind == PolicyGate::Off {
            return Ok(match owned {
                Ok(()) => {
                    // The daemon makes up for one that the kernel refuses.
                    let _ = make_neighbours(attachment, host_end, addresses, host);
                    None
                }
                Err(OwnersError::NoSet(_)) => None,
                Err(OwnersError::Refused(why)) => Some(closed(&why)),
            });
        }
        owned.map_err(|why| later("cannot tell the network policy whose the pod's addresses are", why))?;
        tables::look(addresses)
            .map_err(|why| later("the network policy of the node is not in place any more", why))?;
        make_neighbours(attachment, host_end, addresses, host).map_err(|error| {
            CniError::new(Code::HostWiring, "cannot wire the pod on the node").with_details(error)
        })?;
        match place::ask(&self.run_dir.join(SOCKET), attachment, &host_end.name, addresses) {
            Ok(()) => Ok(None),
            Err(why) if self.kind == PolicyGate::Require => {
                Err(later("the network policy of the pod is not in place yet", why))
            }
            Err(why) => Ok(Some(closed(&why))),
        }
    }
}

/// A runtime of Kubernetes tells both, others neither, or the name alone (podman's CNI).
fn refuse_half_a_name(attachment: &Attachment) -> Result<(), CniError> {
    let Some(name) = attachment.pod.as_deref().filter(|_| attachment.pod_name().is_none()) else {
        return Ok(());
    };
    let msg = match name.split_once('/') {
        Some(("", name)) => format!("CNI_ARGS has K8S_POD_NAME={name}, but K8S_POD_NAMESPACE is missing"),
        Some((namespace, "")) => {
            format!("CNI_ARGS has K8S_POD_NAMESPACE={namespace}, but K8S_POD_NAME is missing")
        }
        _ => format!("CNI_ARGS names the pod {name:?}, which is no namespace/name"),
    };
    let why = "where network policy is enforced a pod must tell both, or neither if it is not of Kubernetes";
    Err(CniError::new(Code::BadEnvironment, msg).with_details(why))
}

fn make_neighbours(
    attachment: &Attachment,
    host_end: &Link,
    addresses: Addresses,
    host: &mut Socket,
) -> Result<(), NetlinkError> {
    let pod_mac = attachment.pod_mac();
    let neighbours: Vec<_> =
        addresses.iter().map(|address| wire::neighbour(address, pod_mac, host_end)).collect();
    host.batch(&neighbours).map(drop)
}

/// Whether the mark says that policy is enforced on this node.
pub(crate) fn is_enforced(run_dir: &Path) -> bool {
    ready::read(run_dir) == Ok(Policy::On)
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
