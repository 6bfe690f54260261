//! CHECK: is the attachment still as ADD left it? It looks at everything, changes nothing, and tells every
//! difference at once: what is there, and what should be.
//!
//! What ADD left is written down twice: in the lease, and in `prevResult`, the runtime's memory of the answer. The two
//! are compared with each other, then with the kernel, on both ends:
//!
//! ```text
//! previous <-> lease                       what was answered is what was granted
//! previous, lease <-> pod                  link, addresses, routes, neighbours
//! previous, lease <-> node                 link, alias, host routes with their sources, settings
//! ```
//!
//! Later plugins of the list may change what ours made, if they say so (specification 1.1.0, "CHECK"): MAC and MTU
//! are as `prevResult` has them, more addresses and routes than ours are no difference, and a default route that it
//! does not list is not missed. The MTU of the pod end, which is told since 1.1.0, may be less than told, but not more,
//! and never more than the host end's, since what is longer would be dropped. What the configuration says by now is
//! for pods to come.
//!
//! With another MAC than ours the permanent neighbours are not missed: the kernel drops them as the MAC changes, and
//! whoever changed it (`tuning`) does not put them back. Such a pod finds its IPv4 gateway by proxy ARP, on a node that
//! has a default route.

use std::net::IpAddr;

use crate::config::PodConfig;
use crate::error::{CniError, Code};
use crate::kernel::{self, Link};
use crate::lease::{Lease, Leases};
use crate::netlink::{NetlinkError, Socket};
use crate::netns;
use crate::previous::{Interface, Previous};
use crate::request::{Add, Check};

mod node;
mod pod;

/// Compares all there is; silence means that nothing differs.
///
/// A container of which nothing is there differs like any other. The specification's code 3 would tell the runtime
/// that no DEL is needed: other plugins of the list may have something to remove.
pub(crate) fn check(request: &Check) -> Result<(), CniError> {
    let Check { add, previous } = request;
    let netns = netns::open_of_pod(&add.netns, add.own_netns)?;
    let holder = &add.attachment.holder;
    let mut node = Socket::open().map_err(|error| unseen_node(error.into()))?;
    let lease = lease_of(add)?;
    let host_end = kernel::link(&mut node, &add.attachment.host_ifname()).map_err(unseen_node)?;

    let mut found = Differences::default();
    let addresses = compare_with_lease(request, lease.as_ref(), &mut found);
    let wanted = Wanted { add, previous, addresses };
    let pod_end = netns
        .enter(|| pod::compare(&wanted, host_end.as_ref(), &mut found))
        .map_err(|error| netns::invalid(&add.netns, error))?
        .map_err(unseen_pod)?;
    node::compare(&wanted, &mut node, host_end.as_ref(), pod_end.as_ref(), &mut found)
        .map_err(unseen_node)?;
    found.into_result(format!("{holder} is not as ADD left it"))
}

/// What should be.
struct Wanted<'a> {
    add: &'a Add,
    previous: &'a Previous,
    /// The leased ones; without a lease those that were answered.
    addresses: Vec<IpAddr>,
}

impl Wanted<'_> {
    fn config(&self) -> &PodConfig {
        &self.add.config
    }

    fn has_ipv6(&self) -> bool {
        self.addresses.iter().any(IpAddr::is_ipv6)
    }
}

/// What is not as it should be, one line each.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn tell(&mut self, what: String) {
        self.0.push(what);
    }

    fn into_result(self, msg: String) -> Result<(), CniError> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(self.0.into_iter().fold(CniError::new(Code::Differs, msg), CniError::with_details))
    }
}

fn lease_of(add: &Add) -> Result<Option<Lease>, CniError> {
    let leases = Leases::open_existing(&add.network.run_dir, &add.network.name)
        .map_err(|error| CniError::new(Code::LeaseTable, "cannot look for the lease").with_details(error))?;
    Ok(leases.and_then(|leases| leases.of(&add.attachment.holder)))
}

/// Compares what was answered with what is leased; gives the addresses that the pod should have.
fn compare_with_lease(request: &Check, lease: Option<&Lease>, found: &mut Differences) -> Vec<IpAddr> {
    let Check { add, previous } = request;
    let holder = &add.attachment.holder;
    let told: Vec<_> = previous.addresses_of(&holder.ifname).collect();
    let Some(lease) = lease else {
        found.tell(format!("there is no lease of {holder}"));
        return told.iter().map(|ip| ip.ip()).filter(|address| is_in_ranges(*address, &add.config)).collect();
    };
    let leased: Vec<IpAddr> = lease.addresses.iter().collect();
    for address in leased.iter().filter(|address| !told.iter().any(|ip| ip.ip() == **address)) {
        found.tell(format!("{address} is leased to {holder}, prevResult does not have it"));
    }
    for ip in told.iter().map(|ip| ip.ip()) {
        if is_in_ranges(ip, &add.config) && !leased.contains(&ip) {
            found.tell(format!("prevResult has {ip}, leased to {holder} is {}", lease.addresses));
        }
    }
    leased
}

fn is_in_ranges(address: IpAddr, config: &PodConfig) -> bool {
    config.ranges.iter().any(|range| range.slot_of(address).is_some())
}

/// Compares a link with what was answered about it.
fn compare_link(link: &Link, told: &Interface, place: &str, found: &mut Differences) {
    let name = &link.name;
    let mac = link.mac.map_or_else(|| "none".to_owned(), |mac| mac.to_string());
    if told.has_other_mac_than(link.mac) {
        let told = told.mac.as_deref().unwrap_or_default();
        found.tell(format!("MAC of {name} {place} is {mac}, prevResult has {told}"));
    }
    if !link.up {
        found.tell(format!("{name} {place} is down"));
    }
}

fn unseen_node(error: NetlinkError) -> CniError {
    CniError::new(Code::HostWiring, "cannot look at the node").with_details(error)
}

fn unseen_pod(error: NetlinkError) -> CniError {
    CniError::new(Code::PodWiring, "cannot look at the pod's namespace").with_details(error)
}
