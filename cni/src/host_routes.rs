//! Puts host routes of pods back that the kernel or somebody took away.
//!
//! The kernel drops a pod's IPv4 route for good when the node loses the address that is its preferred source, and
//! all routes of a link that is set down, with the link's IPv6 address; it takes a lost source off an IPv6 route.
//! The plugin runs only when pods come and go, so the daemon, which is always there, calls this.
//!
//! What should be follows from two things that are on the node already: a lease, and a link that is named and
//! labelled for its holder. On a node with policy the pods' permanent neighbours are kept as well, with the MAC that
//! the pod has by now (a later plugin of its list may have changed it). Nobody else's routes are touched, and nothing
//! is taken away. A better one of somebody else, which cuts a pod off as well, is told.
//!
//! **It brings no pod back.** The leases' lock is held no longer than they are read, for whoever holds it holds up
//! every pod: a daemon that hangs must not. So a lease may be released meanwhile. That is no danger, since a lease has
//! gone only after its link, and a route is put on the very link that was seen, by its index: the kernel refuses that
//! once the link is gone, and takes the route with the link if it goes a moment later. Links are looked at first, so a
//! lease is never older than its link: a younger one of the same pod has a younger link, which was not seen. An ADD
//! that has its lease but not yet its routes finds them there: it takes them for its own, which they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;

use crate::attachment::Attachment;
use crate::config::NodeAddresses;
use crate::gate;
use crate::gateway;
use crate::kernel::{self, Link, Neighbour, PROTOCOL_POD, Route};
use crate::lease::{self, Lease, LeaseError, Leases};
use crate::netlink::{NetlinkError, Socket};
use crate::wire::{self, Placing};

/// An ADD that takes longer is stuck: until then what fails may only be unfinished.
const ADD_MAY_TAKE: Duration = Duration::from_secs(10);

/// What was to be done, and what could not be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// Missing routes that are there again.
    pub put_back: usize,
    /// Host ends that are the IPv6 gateway of their pod again.
    pub gateways: usize,
    /// Addresses of pods that are permanent neighbours again.
    pub neighbours: usize,
    /// Routes that have the node's address as their source again.
    pub sourced: usize,
    /// Addresses of the node that it lacks: routes go without them as their source.
    pub missing_sources: BTreeSet<IpAddr>,
    /// Pods that are cut off.
    pub failing: Vec<Failing>,
}

/// A pod with a lease and a link, but no route, or none that is used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failing {
    /// Where to the route is missing.
    pub address: IpAddr,
    /// Whose it is: the pod's name if it is known, and its container.
    pub pod: String,
    /// Why it cannot be put back.
    pub why: String,
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no route to {} of {}: {}", self.address, self.pod, self.why)
    }
}

/// Why nothing could be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The leases cannot be read.
    #[error("leases: {0}")]
    Leases(#[from] LeaseError),
    /// The kernel does not tell what there is.
    #[error("{0}")]
    Kernel(String),
}

impl From<NetlinkError> for RestoreError {
    fn from(error: NetlinkError) -> Self {
        RestoreError::Kernel(error.to_string())
    }
}

impl From<io::Error> for RestoreError {
    fn from(error: io::Error) -> Self {
        NetlinkError::from(error).into()
    }
}

/// Compares the leases of a network with the kernel's links and routes, in the namespace of the calling thread, and
/// puts back what is missing. A route gets the node's address of its family as its source; while the node lacks
/// that address, it goes without. Where no address is given, sources stay as they are.
///
/// Blocks: for the lock of the leases, and for the kernel.
///
/// # Errors
/// Leases or kernel that cannot be read. What can be read but not mended is in the answer.
pub fn restore(run_dir: &Path, network: &str, sources: NodeAddresses) -> Result<Restored, RestoreError> {
    let mut socket = Socket::open()?;
    let links = kernel::links(&mut socket)?.into_iter().map(|link| (link.name.clone(), link)).collect();
    let routes = kernel::pod_routes(&mut socket)?;
    let addresses = kernel::addresses(&mut socket)?.into_iter();
    let gateways: BTreeSet<u32> = addresses
        .filter(|address| address.address == IpAddr::from(gateway::IPV6))
        .map(|address| address.link)
        .collect();
    let neighbours =
        gate::is_enforced(run_dir).then(|| kernel::permanent_neighbours(&mut socket)).transpose()?;
    let granted = Leases::open_existing(run_dir, network)?.map(|leases| leases.granted());
    let mut work = Work { socket, sources, restored: Restored::default() };
    let mut seen = BTreeSet::new();
    for lease in granted.unwrap_or_default() {
        let Some((pod, link)) = link_of(&lease, network, &links) else { continue };
        if lease.addresses.ipv6.is_some() && link.up && !gateways.contains(&link.index) {
            work.make_gateway(link);
        }
        if let Some(neighbours) = &neighbours {
            work.make_neighbours(&lease, link, neighbours);
        }
        // Once, even if tables of two ranges have it: what was read above is no longer so then.
        for address in lease.addresses.iter().filter(|address| seen.insert((*address, link.index))) {
            let is_there = |route: &&Route| (route.destination, route.link) == (address, Some(link.index));
            let mut there = routes.iter().filter(is_there).peekable();
            if there.peek().is_none() {
                work.put_back(&lease, &pod, address, link);
                continue;
            }
            there.for_each(|route| work.set_source(route, link));
            work.see_used(&lease, &pod, address, link);
        }
    }
    Ok(work.restored)
}

/// The link of a lease and the words on it. None without one, and as long as its ADD has not labelled it.
fn link_of<'a>(
    lease: &Lease,
    network: &str,
    links: &'a BTreeMap<String, Link>,
) -> Option<(Attachment, &'a Link)> {
    let attachment =
        Attachment { holder: lease.holder.clone(), network: network.to_owned(), pod: None, uid: None };
    let link = links.get(&attachment.host_ifname())?;
    let labelled = Attachment::from_alias(link.alias.as_deref()?)?;
    labelled.is_same(&attachment).then_some((labelled, link))
}

/// The rest of the route is always the same, so the source it is.
fn is_about_source(error: &NetlinkError) -> bool {
    error.errno() == Some(Errno::EINVAL)
}

/// Whether its ADD may still be at work.
fn is_young(lease: &Lease) -> bool {
    lease::now().saturating_sub(lease.granted_at) < ADD_MAY_TAKE
}

struct Work {
    socket: Socket,
    sources: NodeAddresses,
    restored: Restored,
}

impl Work {
    fn put_back(&mut self, lease: &Lease, pod: &Attachment, address: IpAddr, link: &Link) {
        match self.insert(address, link) {
            Ok(()) => {
                self.restored.put_back += 1;
                self.see_used(lease, pod, address, link);
            }
            // Its DEL came between.
            Err(error) if error.errno() == Some(Errno::ENODEV) => {}
            // Its ADD was faster.
            Err(error) if error.errno() == Some(Errno::EEXIST) && self.has_own(address, link) => {}
            Err(_) if is_young(lease) => {}
            // Its DEL is at work.
            Err(_) if !self.is_unchanged(link) => {}
            Err(error) => {
                let why = self.explain(address, link, &error);
                self.fail(pod, address, link, why);
            }
        }
    }

    fn has_own(&mut self, address: IpAddr, link: &Link) -> bool {
        let used = kernel::route_to(&mut self.socket, address);
        used.is_ok_and(|used| (used.protocol, used.link) == (PROTOCOL_POD, Some(link.index)))
    }

    /// A route that is there is of no use beside a better one: in IPv6 one of a smaller metric, in IPv4 one that was
    /// put before it, in both one of a table that is asked earlier. Who made it had a reason, or may want to know.
    fn see_used(&mut self, lease: &Lease, pod: &Attachment, address: IpAddr, link: &Link) {
        if is_young(lease) || self.why_unused(address, link).is_none() || !self.is_unchanged(link) {
            return;
        }
        // It may have been down for a moment in between.
        if let Some(why) = self.why_unused(address, link) {
            self.fail(pod, address, link, why);
        }
    }

    fn why_unused(&mut self, address: IpAddr, link: &Link) -> Option<String> {
        match kernel::route_to(&mut self.socket, address) {
            Ok(used) if used.link == Some(link.index) => None,
            Ok(used) => Some(format!("the node uses another one, of {}", used.in_words())),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Whether the link is as it was seen. A DEL takes its routes, then its name, all under the lock of interfaces:
    /// the question waits until it is over.
    fn is_unchanged(&mut self, link: &Link) -> bool {
        let now = kernel::link(&mut self.socket, &link.name).ok().flatten();
        now.is_some_and(|now| (now.index, now.up) == (link.index, link.up))
    }

    fn fail(&mut self, pod: &Attachment, address: IpAddr, link: &Link, why: String) {
        let name = pod.pod.as_deref().unwrap_or("a pod");
        let pod = format!("{name} ({}, {})", pod.holder, link.name);
        self.restored.failing.push(Failing { address, pod, why });
    }

    /// If that fails, so does the route, which says why.
    fn make_gateway(&mut self, link: &Link) {
        self.restored.gateways += usize::from(self.socket.batch(&wire::ipv6_gateway(link)).is_ok());
    }

    /// If that fails, the daemon's rules let the pod be looked for; they do while the daemon is there.
    fn make_neighbours(&mut self, lease: &Lease, link: &Link, present: &[Neighbour]) {
        let Some(mac) = kernel::mac_of_peer(&mut self.socket, link) else { return };
        for address in lease.addresses.iter() {
            let wanted = Neighbour { link: link.index, address, mac: Some(mac), permanent: true };
            if !present.contains(&wanted) {
                let made = self.socket.batch(&[wire::neighbour(address, mac, link)]);
                self.restored.neighbours += usize::from(made.is_ok());
            }
        }
    }

    fn insert(&mut self, address: IpAddr, link: &Link) -> Result<(), NetlinkError> {
        let source = self.sources.towards(address);
        match (self.send(address, link, source, Placing::Exclusive), source) {
            (Err(error), Some(source)) if is_about_source(&error) => {
                self.send(address, link, None, Placing::Exclusive)?;
                self.restored.missing_sources.insert(source);
                Ok(())
            }
            (inserted, _) => inserted,
        }
    }

    /// Whatever is in the way: the pod is reached all the same, and the next look tries again.
    fn set_source(&mut self, route: &Route, link: &Link) {
        let Some(source) = self.sources.towards(route.destination) else { return };
        if route.source == Some(source) {
            return;
        }
        match self.replace(route, link, source) {
            Ok(moved) => self.restored.sourced += usize::from(moved),
            Err(error) if is_about_source(&error) => drop(self.restored.missing_sources.insert(source)),
            Err(_) => {}
        }
    }

    /// IPv4 replaces the first route of a destination, which may be somebody else's (`fib_table_insert`). Then the new
    /// one goes behind all, and the old one is deleted by its source. One without a source cannot be named alone: it
    /// stays as it is until it is the one that is used. False if so.
    ///
    /// A move that was broken off has left both routes (EEXIST), and is gone on with.
    fn replace(&mut self, old: &Route, link: &Link, source: IpAddr) -> Result<bool, NetlinkError> {
        let address = old.destination;
        let placing = if address.is_ipv6() || self.is_used(old) {
            Placing::InPlace
        } else if old.source.is_some() {
            Placing::Behind
        } else {
            return Ok(false);
        };
        match self.send(address, link, Some(source), placing) {
            Ok(()) if placing == Placing::InPlace => return Ok(true),
            Err(error) if address.is_ipv6() || error.errno() != Some(Errno::EEXIST) => return Err(error),
            _ => {}
        }
        match self.socket.batch(&[wire::no_host_route(address, link, old.source)]) {
            Err(error) if error.errno() != Some(Errno::ESRCH) => Err(error),
            _ => Ok(true),
        }
    }

    /// So it comes before all others to its address.
    fn is_used(&mut self, route: &Route) -> bool {
        kernel::route_to(&mut self.socket, route.destination).is_ok_and(|used| used == *route)
    }

    fn send(
        &mut self,
        address: IpAddr,
        link: &Link,
        source: Option<IpAddr>,
        placing: Placing,
    ) -> Result<(), NetlinkError> {
        self.socket.batch(&[wire::host_route(address, link, source, placing)]).map(drop)
    }

    /// Names what is in the way.
    fn explain(&mut self, address: IpAddr, link: &Link, error: &NetlinkError) -> String {
        if !link.up {
            return format!("{} is down", link.name);
        }
        match kernel::route_to(&mut self.socket, address) {
            Ok(there) if error.errno() == Some(Errno::EEXIST) && there.is_to_one_address() => {
                format!("another route has its place, of {}", there.in_words())
            }
            _ => error.to_string(),
        }
    }
}
