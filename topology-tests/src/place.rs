//! Where a socket can be made: a node or a pod.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::namespaces::Namespaces;
use crate::{Node, Pod};

/// Something with a network of its own.
pub trait Place: Sync {
    /// Its name, for messages.
    fn name(&self) -> &str;

    /// Its network namespace, as a file that the host can open.
    fn netns(&self) -> PathBuf;
}

impl Place for Node {
    fn name(&self) -> &str {
        Node::name(self)
    }

    fn netns(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.pid()))
    }
}

impl Place for Pod {
    fn name(&self) -> &str {
        Pod::name(self)
    }

    fn netns(&self) -> PathBuf {
        self.node().path(&format!("/run/netns/{}", Pod::name(self)))
    }
}

/// Runs a closure on a thread in the network of a place. A socket made there stays there.
///
/// # Errors
/// When the place is gone.
pub fn in_netns<T: Send>(place: &dyn Place, work: impl FnOnce() -> T + Send) -> Result<T> {
    let netns: &Path = &place.netns();
    let entered = Namespaces::of_network(netns).and_then(|namespaces| namespaces.enter(work));
    entered.with_context(|| format!("{} is gone", place.name()))
}
