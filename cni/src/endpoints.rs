//! The pods that are wired on this node, as the kernel has them: for the daemon, which judges their traffic by the
//! host ends of their links.
//!
//! Nothing is remembered for this but long names and uids: a link of ours carries its pod's name in its alias, and the pod's
//! addresses are where the host routes lead. Both may be in the making, since an ADD names the link first.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use crate::attachment::Attachment;
use crate::kernel::{self, Link, Route};
use crate::long_names;
use crate::netlink::{NetlinkError, Socket};
use crate::uids;

/// Which pod a link is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodName {
    /// The runtime told none: it is no pod of Kubernetes.
    Nameless,
    /// Namespace and name.
    Known {
        /// The namespace.
        namespace: String,
        /// The name in it.
        name: String,
        /// Which pod of that name; `None`: the runtime told none, or a version of the plugin that kept none.
        uid: Option<String>,
    },
    /// Nobody can tell any more, so it must not be taken for a pod that no policy selects. Why, in words.
    Unknown(String),
}

/// One attached interface of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Name of the host end.
    pub interface: String,
    /// Index of the host end.
    pub index: u32,
    /// Whose it is. For a moment in each ADD it is unknown: the kernel takes no alias with a new link.
    pub pod: PodName,
    /// At most one a family. Fewer than it will have while its ADD is at work, and while a lost host route is
    /// not restored.
    pub addresses: BTreeSet<IpAddr>,
    /// What its pod's kernel makes of the MAC that the plugin gave it (RFC 4291 appendix A); `None` if the link does
    /// not tell whose it is.
    pub link_local: Option<Ipv6Addr>,
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

/// All of them, of all networks, in the namespace of the calling thread; by name. A link that is named as ours but does
/// not tell whose it is, is among them. Blocks for the kernel alone. `run_dir`: the folder of run-time files.
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
    if !Attachment::is_host_ifname(&link.name) {
        return None;
    }
    let alias = link.alias.as_deref().and_then(Attachment::from_alias);
    let attachment = alias.filter(|attachment| attachment.host_ifname() == link.name);
    let leads_here = |route: &&Route| route.link == Some(link.index);
    Some(Endpoint {
        index: link.index,
        addresses: routes.iter().filter(leads_here).map(|route| route.destination).collect(),
        link_local: attachment.as_ref().map(|attachment| attachment.pod_mac().link_local()),
        pod: match (attachment, link.alias) {
            (Some(attachment), _) => pod_of(attachment, run_dir),
            (None, Some(alias)) => PodName::Unknown(format!("its alias {alias:?} is not ours")),
            (None, None) => PodName::Unknown("it has no alias".to_owned()),
        },
        interface: link.name,
    })
}

/// As its alias has it, or the file of its long name; and its uid.
fn pod_of(mut attachment: Attachment, run_dir: &Path) -> PodName {
    let interface = attachment.host_ifname();
    if attachment.outdoes_its_alias() {
        match long_names::find(run_dir, &attachment) {
            Ok(name) => attachment.pod = Some(name),
            Err(why) => return PodName::Unknown(format!("its alias has not its whole name, nor has {why}")),
        }
    }
    match (attachment.pod_name(), attachment.pod) {
        (Some((namespace, name)), _) => match uids::find(run_dir, &interface) {
            Ok(uid) => PodName::Known { namespace, name, uid },
            Err(why) => PodName::Unknown(format!("which pod {namespace}/{name} it is cannot be read: {why}")),
        },
        (None, Some(half)) => PodName::Unknown(format!("{half:?} is no namespace/name")),
        (None, None) => PodName::Nameless,
    }
}
