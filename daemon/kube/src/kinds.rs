//! The kinds that are watched.

use std::fmt;

/// The group of our own kinds.
const OURS: &str = "cambric.dev";

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub(crate) enum Kind {
    Node,
    Pod,
    Namespace,
    NetworkPolicy,
    Service,
    EndpointSlice,
    BGPClusterConfig,
    BGPPeerConfig,
    BGPFilter,
    BGPAdvertisement,
    BGPNodeOverride,
    /// Of one namespace: those of others are no business of a node.
    Secret,
}

impl Kind {
    pub(crate) const ALL: [Kind; 12] = [
        Kind::Node,
        Kind::Pod,
        Kind::Namespace,
        Kind::NetworkPolicy,
        Kind::Service,
        Kind::EndpointSlice,
        Kind::BGPClusterConfig,
        Kind::BGPPeerConfig,
        Kind::BGPFilter,
        Kind::BGPAdvertisement,
        Kind::BGPNodeOverride,
        Kind::Secret,
    ];

    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// As in `kind:`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Node => "Node",
            Kind::Pod => "Pod",
            Kind::Namespace => "Namespace",
            Kind::NetworkPolicy => "NetworkPolicy",
            Kind::Service => "Service",
            Kind::EndpointSlice => "EndpointSlice",
            Kind::BGPClusterConfig => "BGPClusterConfig",
            Kind::BGPPeerConfig => "BGPPeerConfig",
            Kind::BGPFilter => "BGPFilter",
            Kind::BGPAdvertisement => "BGPAdvertisement",
            Kind::BGPNodeOverride => "BGPNodeOverride",
            Kind::Secret => "Secret",
        }
    }

    /// As in `apiVersion:`.
    pub(crate) fn api_version(self) -> &'static str {
        match self {
            Kind::Node | Kind::Pod | Kind::Namespace | Kind::Service | Kind::Secret => "v1",
            Kind::NetworkPolicy => "networking.k8s.io/v1",
            Kind::EndpointSlice => "discovery.k8s.io/v1",
            _ => "cambric.dev/v1alpha1",
        }
    }

    /// As in paths and in rules of rights.
    pub(crate) fn resource(self) -> &'static str {
        match self {
            Kind::Node => "nodes",
            Kind::Pod => "pods",
            Kind::Namespace => "namespaces",
            Kind::NetworkPolicy => "networkpolicies",
            Kind::Service => "services",
            Kind::EndpointSlice => "endpointslices",
            Kind::BGPClusterConfig => "bgpclusterconfigs",
            Kind::BGPPeerConfig => "bgppeerconfigs",
            Kind::BGPFilter => "bgpfilters",
            Kind::BGPAdvertisement => "bgpadvertisements",
            Kind::BGPNodeOverride => "bgpnodeoverrides",
            Kind::Secret => "secrets",
        }
    }

    /// As people say it to `kubectl`: with the group, if it has one.
    pub(crate) fn resource_and_group(self) -> String {
        match self.api_version().split_once('/') {
            Some((group, _)) => format!("{}.{group}", self.resource()),
            None => self.resource().to_owned(),
        }
    }

    /// Where all of it is that counts for a daemon in namespace `own`.
    pub(crate) fn path(self, own: &str) -> String {
        let root = if self.api_version().contains('/') { "apis" } else { "api" };
        let namespace = match self {
            Kind::Secret => format!("namespaces/{own}/"),
            _ => String::new(),
        };
        format!("/{root}/{}/{namespace}{}", self.api_version(), self.resource())
    }

    /// Asked for once somebody announces addresses of services: there are many of them, and they change all the time.
    pub(crate) fn is_on_demand(self) -> bool {
        matches!(self, Kind::Service | Kind::EndpointSlice)
    }

    /// Its definition may not be installed.
    pub(crate) fn is_ours(self) -> bool {
        self.api_version().starts_with(OURS)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
