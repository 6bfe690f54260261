//! What is told from outside: the cluster's objects, and the pods that are wired on this node.
//!
//! Each change says what one thing is from now on, or that it is gone. Told twice, it changes nothing; a source that
//! starts anew tells all again.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::atoms;
use crate::pod::{Pod, Uid};
use crate::program::IfName;

/// Namespace and name of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl Key {
    /// Of a namespace, which many have in common, and a name.
    pub fn new(namespace: &str, name: &str) -> Key {
        Key { namespace: atoms::text(namespace), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is wrong in a policy: a field with its value and the reason.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// As `spec.ingress[0].from[1].ipBlock.cidr`.
    pub field: String,
    /// As `"10.0.0.0/33": not an address and a length`.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.what)
    }
}

/// A NetworkPolicy, and what could not be read of it. One with faults fails closed: it isolates what it selects, and
/// allows nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyObject {
    /// What could be read.
    pub object: NetworkPolicy,
    /// Fields of a wrong type and fields that are not known, found while it was read. Wrong values are found later.
    pub faults: Vec<Fault>,
}

/// A pod as its runtime told it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodRef {
    /// Namespace and name, which another pod may have had before it, and another may have after it.
    pub key: Key,
    /// `None`: the runtime told none, or nobody wrote it down.
    pub uid: Option<Uid>,
}

impl PodRef {
    /// Whether an object of this name may be this pod's: it has the same uid, or one of the two has none.
    pub fn may_be(&self, object: &Pod) -> bool {
        match &self.uid {
            Some(uid) => object.uid.is_none() || object.has_uid(uid),
            None => true,
        }
    }
}

impl From<Key> for PodRef {
    fn from(key: Key) -> PodRef {
        PodRef { key, uid: None }
    }
}

/// An interface of a pod on this node, as the plugin made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The pod as the runtime told it; `None`: no pod of Kubernetes, which no policy selects.
    pub pod: Option<PodRef>,
    /// Its addresses, at most one a family.
    pub addresses: BTreeSet<IpAddr>,
}

/// One thing and what it is from now on; `None`: it is gone.
#[derive(Debug, Clone)]
pub enum Change {
    /// By name.
    Namespace(Arc<str>, Option<Arc<Namespace>>),
    /// A pod of any node. Whoever is told keeps this very copy.
    Pod(Key, Option<Arc<Pod>>),
    /// By namespace and name.
    Policy(Key, Option<Arc<PolicyObject>>),
    /// By the name of the host end of its veth.
    Endpoint(IfName, Option<Endpoint>),
    /// Addresses of all BGP peers of this node: pods do not reach their BGP port.
    BgpPeers(BTreeSet<IpAddr>),
}
