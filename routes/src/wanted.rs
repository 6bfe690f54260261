//! What the caller wants in the FIB: prefixes, next hops, and changes to them.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnetwork::IpNetwork;

/// An address family that has a FIB of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// Both families, in the order in which they are dumped and shown.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        })
    }
}

/// One value for each family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PerFamily<T> {
    /// The value for IPv4.
    pub ipv4: T,
    /// The value for IPv6.
    pub ipv6: T,
}

impl<T> PerFamily<T> {
    /// The value for one family.
    pub fn get(&self, family: Family) -> &T {
        match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        }
    }

    pub(crate) fn get_mut(&mut self, family: Family) -> &mut T {
        match family {
            Family::Ipv4 => &mut self.ipv4,
            Family::Ipv6 => &mut self.ipv6,
        }
    }
}

/// A destination: a network whose host bits are zero.
///
/// `IpNetwork` keeps host bits, so that 10.1.2.3/16 differs from 10.1.0.0/16; the kernel refuses the former.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix(IpNetwork);

impl Prefix {
    /// The network with its host bits cleared.
    pub fn new(network: IpNetwork) -> Self {
        // The length is a valid one already, so the second constructor does not refuse.
        Self(IpNetwork::new(network.network(), network.prefix()).unwrap_or(network))
    }

    /// Address and length as the kernel gives them; `None` if the length is beyond the family's.
    pub(crate) fn from_parts(address: IpAddr, length: u8) -> Option<Self> {
        IpNetwork::new(address, length).ok().map(Self::new)
    }

    /// The family it belongs to.
    pub fn family(&self) -> Family {
        Family::of(self.0.ip())
    }

    /// The network address.
    pub fn address(&self) -> IpAddr {
        self.0.ip()
    }

    /// Its length in bits.
    pub fn length(&self) -> u8 {
        self.0.prefix()
    }

    /// The same as an `IpNetwork`.
    pub fn network(&self) -> IpNetwork {
        self.0
    }
}

impl From<IpNetwork> for Prefix {
    fn from(network: IpNetwork) -> Self {
        Self::new(network)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where packets go next, as the caller knows it.
///
/// An IPv4 route may have an IPv6 gateway (RFC 8950); the reverse does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NextHop {
    /// Address of the neighbour.
    pub gateway: IpAddr,
    /// Interface it is reached through. `None`: the one with an on-link subnet that holds the gateway. A
    /// link-local gateway needs the name.
    pub interface: Option<String>,
}

impl NextHop {
    /// A gateway found by its on-link subnet.
    pub fn on_link(gateway: IpAddr) -> Self {
        Self { gateway, interface: None }
    }

    /// A gateway on a named interface.
    pub fn through(gateway: IpAddr, interface: &str) -> Self {
        Self { gateway, interface: Some(interface.to_owned()) }
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.interface {
            Some(interface) => write!(f, "{}%{interface}", self.gateway),
            None => self.gateway.fmt(f),
        }
    }
}

/// What happens to packets for a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// Forwarded to the usable ones of these next hops, spread evenly.
    Via(BTreeSet<NextHop>),
    /// Answered with "unreachable": for an own prefix, so that unused addresses do not loop to the router
    /// above.
    Unreachable,
}

/// One route that should be in the FIB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedRoute {
    /// Destination.
    pub prefix: Prefix,
    /// What to do with its packets.
    pub target: Target,
    /// Source address for packets that start on this node. Left out of the route while it is not on the node.
    pub preferred_source: Option<IpAddr>,
}

impl WantedRoute {
    /// A route whose host bits are cleared.
    pub fn new(network: IpNetwork, target: Target, preferred_source: Option<IpAddr>) -> Self {
        Self { prefix: Prefix::new(network), target, preferred_source }
    }
}

/// One change to the wanted routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// This is how the prefix shall be routed from now on.
    Want(WantedRoute),
    /// The prefix shall not be routed by us.
    Drop(Prefix),
}

impl Change {
    /// The prefix that changes.
    pub fn prefix(&self) -> Prefix {
        match self {
            Self::Want(route) => route.prefix,
            Self::Drop(prefix) => *prefix,
        }
    }
}

/// The all-zero address of a family: destination of a default route, which the kernel leaves out of its
/// messages.
pub(crate) fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::Ipv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_clears_host_bits() {
        let prefix = Prefix::new("10.1.2.3/16".parse().expect("network"));
        assert_eq!(prefix.to_string(), "10.1.0.0/16");
        let prefix = Prefix::new("2001:db8::1/32".parse().expect("network"));
        assert_eq!(prefix.to_string(), "2001:db8::/32");
    }

    #[test]
    fn prefix_refuses_a_length_beyond_its_family() {
        assert_eq!(Prefix::from_parts(unspecified(Family::Ipv4), 33), None);
    }
}
