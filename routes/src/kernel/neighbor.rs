//! Neighbour entries, out of the library's messages.

use std::net::IpAddr;

use netlink_packet_route::{
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::RouteType,
};

use super::link::ethernet;
use crate::{
    neighbors::{Neighbor, NeighborState},
    next_hops::LinkIndex,
};

/// `None` for multicast and for entries that say nothing of an address.
pub(super) fn neighbor(message: &NeighbourMessage) -> Option<Neighbor> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let (mut address, mut lladdr) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(octets) => lladdr = ethernet(octets),
            _ => {}
        }
    }
    let interface = LinkIndex(message.header.ifindex);
    Some(Neighbor { address: address?, interface, lladdr, state: state(message.header.state) })
}

fn state(of_library: NeighbourState) -> NeighborState {
    match of_library {
        NeighbourState::Incomplete => NeighborState::Incomplete,
        NeighbourState::Reachable => NeighborState::Reachable,
        NeighbourState::Stale => NeighborState::Stale,
        NeighbourState::Delay => NeighborState::Delay,
        NeighbourState::Probe => NeighborState::Probe,
        NeighbourState::Failed => NeighborState::Failed,
        NeighbourState::Noarp => NeighborState::NoArp,
        NeighbourState::Permanent => NeighborState::Permanent,
        NeighbourState::None => NeighborState::None,
        other => NeighborState::Unknown(other.into()),
    }
}
