//! What can be asked.

use serde::{Deserialize, Serialize};

use crate::Drainable;

/// What the client wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Request {
    /// The daemon as a whole.
    ShowStatus,
    /// The peers.
    ShowProtocols {
        /// Only this one, by name or address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peer: Option<String>,
    },
    /// The routing table.
    ShowRoute {
        /// Only the most specific route that holds this address.
        #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
        address: Option<String>,
        /// Only the route to this prefix.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<String>,
    },
    /// How many routes there are.
    ShowRouteCount,
    /// What peers were told, with the attributes as they were sent.
    ShowRouteExport {
        /// By name or address.
        peer: String,
    },
    /// All that peers told, before our policy, with what became of it.
    ShowRouteImport {
        /// By name or address.
        peer: String,
    },
    /// What peers are not told, and why.
    ShowRouteNoexport {
        /// By name or address.
        peer: String,
    },
    /// What is refused, and why.
    ShowRouteRefused {
        /// Only what this one told, by name or address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peer: Option<String>,
    },
    /// Stations that are told what the tables hold (BMP, RFC 7854).
    ShowMonitoring,
    /// All routes with all paths, as a file of MRT (RFC 6396): what peers told, before our policy, and our own.
    MrtDump,
    /// The interfaces of the node.
    ShowInterfaces {
        /// Only the one of this name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interface: Option<String>,
    },
    /// Gateways, peers and other neighbours on the links of the node.
    ShowNeighbors {
        /// Only those on the interface of this name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interface: Option<String>,
    },
    /// NetworkPolicy on this node.
    ShowPolicy {
        /// Only this pod of the node: `namespace/name`, or its name alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pod: Option<String>,
    },
    /// The CNI plugin has wired a pod, and waits until it is judged by its policies.
    Place {
        /// The host end of the pod's link.
        interface: String,
        /// Of the pod; absent, as the name: no pod of Kubernetes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        /// Of the pod.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Of the pod, if its runtime told it: another one may have had its name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<String>,
        /// The pod's, at most one a family.
        addresses: Vec<String>,
    },
    /// What would change if the manifests of a folder were in force; changes nothing.
    ConfigureCheck {
        /// A path as the daemon sees it; its own source unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
    },
    /// What is logged.
    Log {
        /// To be in force from now on, until a restart; [`LogFilter::DEFAULT`](crate::LogFilter::DEFAULT) is that of
        /// the command line. Absent: only asks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        filter: Option<String>,
    },
    /// Lets a peer that was disabled come back.
    Enable {
        /// By name or address, or [`ALL`].
        peer: String,
    },
    /// Ends the session with a peer and has no other one until it is enabled.
    Disable {
        /// By name or address, or [`ALL`].
        peer: String,
    },
    /// Has others use what this node announces last, and after a minute announces it no more.
    Drain {
        /// Both parts unless given.
        #[serde(default)]
        what: Drainable,
    },
    /// Announces again what was drained.
    Undrain {
        /// Both parts unless given.
        #[serde(default)]
        what: Drainable,
    },
    /// Ends the session with a peer and connects again after a moment.
    Restart {
        /// By name or address, or [`ALL`].
        peer: String,
    },
}

/// A request as it goes over the line, with the release of who asks: a daemon that does not know the verb names both.
#[derive(Debug, Serialize)]
pub struct Asked<'a> {
    /// What is asked.
    #[serde(flatten)]
    pub request: &'a Request,
    /// By whom; daemons of the first release pass over it.
    pub version: &'static str,
}

/// Stands for every peer where one is to be named.
pub const ALL: &str = "all";
