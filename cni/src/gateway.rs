//! What every pod on every node sees as its gateway: two link-local addresses, one MAC.
//!
//! They are the same everywhere, so that a pod's configuration says nothing about its node. 169.254.1.1 is on no
//! interface (on `lo` the node would answer ARP for it on its uplinks too): pods know the MAC behind it. fe80::1 is on
//! every host end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::attachment::Mac;

/// MAC of every host end.
pub(crate) const HOST_MAC: Mac = Mac([0x02, 0xca, 0x3b, 0x00, 0x00, 0x01]);
/// Next hop of pods in IPv6, and the host end's only address.
pub(crate) const IPV6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// Next hop of pods in IPv4.
const IPV4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The pod's gateway in the family of its address.
pub(crate) fn of(pod: IpAddr) -> IpAddr {
    match pod {
        IpAddr::V4(_) => IPV4.into(),
        IpAddr::V6(_) => IPV6.into(),
    }
}
