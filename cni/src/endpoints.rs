//! The pods that are wired on this node, as the kernel has them: for the daemon, which judges their traffic by the
//! host ends of their links.
//!
//! Nothing is remembered for this but long names: a link of ours carries its pod's name in its alias, and the pod's
//! addresses are where the host routes lead. Both may be in the making, since an ADD names the link first.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use crate::attachment::Attachment;
use crate::kernel::{self, Link, Route};
use crate::long_names;
use crate::netlink::{NetlinkError, Socket};

/// One attached interface of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Name of the host end.
    pub interface: String,
    /// Index of the host end.
    pub index: u32,
    /// Namespace and name of the pod; `None` if the runtime told none.
    pub pod: Option<(String, String)>,
    /// At most one a family. Fewer than it will have while its ADD is at work, and while a lost host route is
    /// not restored.
    pub addresses: BTreeSet<IpAddr>,
    /// What its pod's kernel makes of the MAC that the plugin gave it (RFC 4291 appendix A).
    pub link_local: Ipv6Addr,
}

/// Why the kernel does not tell.
#[derive(Debug, thiserror::Error)]
#[error("cannot look for the pods on the node: {0}")]
pub struct EndpointsError(String);

impl From<NetlinkError> for EndpointsError {
    fn from(error: NetlinkError) -> Self {
        EndpointsError(error.to_string())
    }
}

impl From<io::Error> for EndpointsError {
    fn from(error: io::Error) -> Self {
        NetlinkError::from(error).into()
    }
}

/// All of them, of all networks, in the namespace of the calling thread; by name. Blocks for the kernel alone. `run_dir`: the
/// folder of run-time files.
///
/// # Errors
/// A kernel that does not tell its links or routes.
pub fn endpoints(run_dir: &Path) -> Result<Vec<Endpoint>, EndpointsError> {
    let mut socket = Socket::open()?;
    // In this order: a pod that goes meanwhile is told without addresses, not one that comes.
    let routes = kernel::pod_routes(&mut socket)?;
    let links = kernel::links(&mut socket)?;
    let mut endpoints: Vec<Endpoint> =
        links.into_iter().filter_map(|link| endpoint_of(link, &routes, run_dir)).collect();
    endpoints.sort();
    Ok(endpoints)
}

/// None if the link is none of ours.
fn endpoint_of(link: Link, routes: &[Route], run_dir: &Path) -> Option<Endpoint> {
    let mut attachment = Attachment::from_alias(link.alias.as_deref()?)?;
    if attachment.host_ifname() != link.name {
        return None;
    }
    if attachment.fills_its_alias() {
        attachment.pod = long_names::find(run_dir, &link.name).or(attachment.pod);
    }
    let leads_here = |route: &&Route| route.link == Some(link.index);
    Some(Endpoint {
        index: link.index,
        pod: attachment.pod_name(),
        addresses: routes.iter().filter(leads_here).map(|route| route.destination).collect(),
        link_local: attachment.pod_mac().link_local(),
        interface: link.name,
    })
}
