//! What holds between us and one peer of AS numbers and reflection, beyond what passes.

use crate::attributes::{AsPath, Attributes};
use crate::config::{AsOverride, PeerConfig, ReflectorRole, Role};
use crate::types::{Asn, PeerKind, RouterId};

/// From the configuration of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    local_asn: Option<Asn>,
    as_override: AsOverride,
    allow_own_as: u8,
    role: ReflectorRole,
    local_role: Option<Role>,
}

impl Terms {
    pub(crate) fn of(config: &PeerConfig) -> Terms {
        let PeerConfig { local_asn, as_override, allow_own_as, role, local_role, .. } = config;
        Terms {
            local_asn: *local_asn,
            as_override: *as_override,
            allow_own_as: *allow_own_as,
            role: *role,
            local_role: local_role.map(|local| local.role),
        }
    }

    /// The AS that we are in for the peer.
    pub(crate) fn own_asn(&self, router_asn: Asn) -> Asn {
        self.local_asn.unwrap_or(router_asn)
    }

    /// Whether a route with this path has been here (RFC 4271 section 9.1.2): it holds an AS of ours, be it the router's or the
    /// one that we are in for this peer, more often than it may.
    pub(crate) fn is_loop(&self, path: &AsPath, router_asn: Asn) -> bool {
        let is_own = |asn: &&Asn| **asn == router_asn || Some(**asn) == self.local_asn;
        path.asns().iter().filter(is_own).count() > usize::from(self.allow_own_as)
    }

    /// Whether a route of this external peer in `peer_asn` leaks: it was to go down alone, and comes up or from the side
    /// (RFC 9234 section 5).
    pub(crate) fn is_leak(&self, attributes: &Attributes, peer_asn: Asn) -> bool {
        match (self.local_role, attributes.only_to_customer()) {
            (Some(Role::Provider | Role::RouteServer), Some(_)) => true,
            (Some(Role::Peer), Some(from)) => from != peer_asn.value(),
            _ => false,
        }
    }

    /// Whether this external peer is above or beside us: what it tells goes down alone from here on, and it is told nothing
    /// that does.
    pub(crate) fn is_above_or_beside(&self) -> bool {
        matches!(self.local_role, Some(Role::Customer | Role::RouteServerClient | Role::Peer))
    }

    /// Whether what this external peer is told goes down alone from there on.
    pub(crate) fn marks_sent(&self) -> bool {
        matches!(self.local_role, Some(Role::Provider | Role::RouteServer | Role::Peer))
    }

    /// The path as an external peer in `peer_asn` is told it: ours in front, and in the place of its own if it shall not take
    /// the route for a loop.
    pub(crate) fn told_path(&self, path: &AsPath, own: Asn, times: usize, peer_asn: Asn) -> AsPath {
        let hidden = |asn: &Asn| match self.as_override {
            AsOverride::On if *asn == peer_asn => own,
            _ => *asn,
        };
        std::iter::repeat_n(own, times).chain(path.asns().iter().map(hidden)).collect()
    }
}

/// A route that goes from one internal peer to another (RFC 4456).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reflection {
    /// The identifier of the peer that told it.
    teller: RouterId,
    cluster_id: RouterId,
}

impl Reflection {
    /// Of what the peer `from` told, to the peer `to`: not between two that are no clients (RFC 4456 section 6).
    pub(crate) fn between(
        (from, kind, teller): (&Terms, PeerKind, RouterId),
        to: &Terms,
        cluster_id: RouterId,
    ) -> Option<Reflection> {
        let one_is_client = [from.role, to.role].contains(&ReflectorRole::Client);
        (kind == PeerKind::Internal && one_is_client).then_some(Reflection { teller, cluster_id })
    }

    /// Leaves the tracks by which a loop is found (RFC 4456 section 8), and nothing else changed: who is told forwards to the
    /// next hop itself, and not to us.
    pub(crate) fn mark(self, attributes: Attributes) -> Attributes {
        let clusters = std::iter::once(self.cluster_id.into()).chain(attributes.cluster_list.iter().copied());
        Attributes {
            originator_id: Some(attributes.originator_id.unwrap_or(self.teller.into())),
            cluster_list: clusters.collect(),
            ..attributes
        }
    }
}
