//! What plays the nodes of a lab. Only their first processes differ: an init of ours, or that of a container.

use serde::{Deserialize, Serialize};

use crate::clab::{NodeSpec, Role, Topology};
use crate::docker::{Container, Docker};

/// What plays the nodes of a lab.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Namespaces over the host's own files, with what was just built.
    #[default]
    Namespaces,
    /// Containers of the images that the file names.
    Docker(Docker),
}

impl Backend {
    /// The container that plays a node; none: an init does. A bridge needs no files, so it never is a container.
    pub(crate) fn container(&self, topology: &Topology, node: &NodeSpec) -> Option<Container> {
        match self {
            Self::Docker(docker) if node.role != Role::Bridge => {
                Some(docker.container(topology.netns_name(&node.name)))
            }
            _ => None,
        }
    }
}
