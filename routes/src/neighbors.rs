//! The kernel's neighbour entries: which Ethernet address it knows for whom on a link.
//!
//! Nothing here depends on them; they are listed when somebody asks, to show whether a gateway answers.

use std::{fmt, net::IpAddr};

use crate::next_hops::LinkIndex;

/// One entry of ARP or neighbour discovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbor {
    /// Its address.
    pub address: IpAddr,
    /// The interface it is on.
    pub interface: LinkIndex,
    /// Its Ethernet address, if one is known.
    pub lladdr: Option<[u8; 6]>,
    /// How far the kernel trusts that.
    pub state: NeighborState,
}

/// State of a neighbour entry (`NUD_*`; RFC 4861 section 7.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighborState {
    /// Asked for, not answered yet.
    Incomplete,
    /// Confirmed of late.
    Reachable,
    /// Known, to be confirmed when used.
    Stale,
    /// Used while stale; asked soon.
    Delay,
    /// Being asked.
    Probe,
    /// Does not answer.
    Failed,
    /// Needs no asking.
    NoArp,
    /// Set by hand.
    Permanent,
    /// Without state.
    None,
    /// Bits that have no name here.
    Unknown(u16),
}

impl fmt::Display for NeighborState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Incomplete => "incomplete",
            Self::Reachable => "reachable",
            Self::Stale => "stale",
            Self::Delay => "delay",
            Self::Probe => "probe",
            Self::Failed => "failed",
            Self::NoArp => "noarp",
            Self::Permanent => "permanent",
            Self::None => "none",
            Self::Unknown(bits) => return write!(f, "unknown ({bits:#x})"),
        })
    }
}
