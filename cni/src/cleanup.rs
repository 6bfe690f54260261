//! Removes what is left of us: for a node that Cambric leaves.
//!
//! Ours are the links that our names and aliases tell, and those of our names and our MAC that have no alias yet: an ADD
//! that was killed between the two left them. A link that is only named alike stays. Routes of protocol 204 go with their
//! link; those that have lost it, or that somebody led elsewhere, are found by the protocol.

use std::fmt;
use std::io;

use nix::errno::Errno;

use crate::attachment::Attachment;
use crate::gate;
use crate::gateway::HOST_MAC;
use crate::kernel::{self, Link, Route};
use crate::netlink::{NetlinkError, Socket};
use crate::{lease, long_names, requests, uids, wire};

/// Name of the plugin in the runtime's folder of plugins.
pub const PLUGIN: &str = "cambric-cni";
/// The mark without which the plugin starts no pod, unless its gate is `off`.
pub const MARK_STEM: &str = gate::ready::FILE;
/// Files and folders of ours in the folder of run-time files, the mark and its temporary file among them.
pub const RUN_STEMS: [&str; 5] = [MARK_STEM, requests::FILE, lease::FOLDER, long_names::FOLDER, uids::FOLDER];

/// The way to the kernel of one network namespace.
pub struct Cleanup {
    socket: Socket,
}

/// The host end of a pod's link, which takes the pod's end with it: `link camce119f8daff5 of default/web-0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodLink {
    link: Link,
    /// What there is to call the pod by.
    pub pod: String,
}

/// A route to a pod that goes by no link of ours: `route to 10.244.1.5 by eth0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrayRoute {
    route: Route,
    /// Absent if it goes by several, or throws packets away.
    link: Option<Link>,
}

/// What the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CleanupError(String);

impl From<NetlinkError> for CleanupError {
    fn from(error: NetlinkError) -> Self {
        CleanupError(error.to_string())
    }
}

impl Cleanup {
    /// In the network namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel refuses a socket.
    pub fn open() -> io::Result<Cleanup> {
        Socket::open().map(|socket| Cleanup { socket })
    }

    /// The links of all pods that are wired, of all networks.
    ///
    /// # Errors
    /// The kernel does not list its links.
    pub fn pods(&mut self) -> Result<Vec<PodLink>, CleanupError> {
        Ok(kernel::links(&mut self.socket)?.into_iter().filter_map(pod_link).collect())
    }

    /// Cuts a pod off. One that is gone already is success.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn cut_off(&mut self, pod: &PodLink) -> Result<(), CleanupError> {
        Ok(kernel::delete_link(&pod.link)?)
    }

    /// Routes of ours that no link of ours takes with it.
    ///
    /// # Errors
    /// The kernel does not list links or routes.
    pub fn strays(&mut self) -> Result<Vec<StrayRoute>, CleanupError> {
        let routes = kernel::pod_routes(&mut self.socket)?;
        let links = kernel::links(&mut self.socket)?;
        let stray = |route: Route| {
            let Some(index) = route.link else { return Some(StrayRoute { route, link: None }) };
            // One whose link is not there any more went with it.
            let link = links.iter().find(|link| link.index == index)?.clone();
            pod_link(link.clone()).is_none().then_some(StrayRoute { route, link: Some(link) })
        };
        Ok(routes.into_iter().filter_map(stray).collect())
    }

    /// Removes one. What is gone already is success.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn remove_stray(&mut self, stray: &StrayRoute) -> Result<(), CleanupError> {
        match self.socket.batch(&[wire::no_pod_route(&stray.route)]) {
            Err(error) if error.errno() != Some(Errno::ESRCH) => Err(error.into()),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for PodLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PodLink { link, pod } = self;
        if *pod == link.name { write!(f, "link {pod}") } else { write!(f, "link {} of {pod}", link.name) }
    }
}

impl fmt::Display for StrayRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route to {}", self.route.destination)?;
        self.link.as_ref().map_or(Ok(()), |link| write!(f, " by {}", link.name))
    }
}

/// None if the link is none of ours.
fn pod_link(link: Link) -> Option<PodLink> {
    if !Attachment::is_host_ifname(&link.name) {
        return None;
    }
    let pod = match link.alias.as_deref() {
        Some(alias) => {
            let attachment = Attachment::from_alias(alias)?;
            if attachment.host_ifname() != link.name {
                return None;
            }
            attachment.pod.unwrap_or(attachment.holder.container_id)
        }
        None if link.mac == Some(HOST_MAC) => link.name.clone(),
        None => return None,
    };
    Some(PodLink { link, pod })
}
