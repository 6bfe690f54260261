//! A pair of pod ranges and the rule that numbers their addresses.
//!
//! Slot *i* is the range's address plus *i*, in both families, so that dual stack cannot be granted by halves.
//! Slot 0 is never granted (network address; subnet-router anycast of IPv6, RFC 4291 section 2.6.1), nor is the last
//! slot (IPv4 broadcast). A range serves at most [`MAX_SLOTS`] slots: nobody runs more pods on a node, and an IPv6
//! /64 must not ask for a table of 2^64.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

/// Slots of the largest table.
pub const MAX_SLOTS: u32 = 4096;

/// One or two networks of which pods get addresses. At least one is there, and neither has host bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    ipv4: Option<Ipv4Network>,
    ipv6: Option<Ipv6Network>,
}

/// Why two networks make no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Neither family is given.
    #[error("a range needs ipv4 or ipv6")]
    Empty,
    /// The address is not the network's own.
    #[error("{given} has host bits set: {meant} is meant?")]
    HostBits {
        /// As configured.
        given: IpNetwork,
        /// With the host bits cleared.
        meant: IpNetwork,
    },
    /// No address is left beside the first and the last.
    #[error("{0} is too small: at least two bits must be left for hosts")]
    TooSmall(IpNetwork),
    /// Dual stack needs an IPv6 address beside every IPv4 address.
    #[error("{ipv6} has fewer addresses than {ipv4}")]
    Ipv6Smaller {
        /// The IPv4 network.
        ipv4: Ipv4Network,
        /// The IPv6 network.
        ipv6: Ipv6Network,
    },
}

/// The addresses of one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// In the range's IPv4 network, if it has one.
    pub ipv4: Option<Ipv4Addr>,
    /// In the range's IPv6 network, if it has one.
    pub ipv6: Option<Ipv6Addr>,
}

impl Addresses {
    /// Those there are, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6))
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        join(f, self.iter())
    }
}

impl Range {
    /// Checks that the networks can serve pods together.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(ipv4: Option<Ipv4Network>, ipv6: Option<Ipv6Network>) -> Result<Range, RangeError> {
        let range = Range { ipv4, ipv6 };
        if range.networks().next().is_none() {
            return Err(RangeError::Empty);
        }
        for network in range.networks() {
            let meant = IpNetwork::new(network.network(), network.prefix()).unwrap_or(network);
            if meant != network {
                return Err(RangeError::HostBits { given: network, meant });
            }
            if host_bits(network) < 2 {
                return Err(RangeError::TooSmall(network));
            }
        }
        if let (Some(ipv4), Some(ipv6)) = (ipv4, ipv6)
            && slots_of(ipv6.into()) < slots_of(ipv4.into())
        {
            return Err(RangeError::Ipv6Smaller { ipv4, ipv6 });
        }
        Ok(range)
    }

    /// The IPv4 network.
    pub fn ipv4(&self) -> Option<Ipv4Network> {
        self.ipv4
    }

    /// The IPv6 network.
    pub fn ipv6(&self) -> Option<Ipv6Network> {
        self.ipv6
    }

    /// Slots of the range's table, the two that are never granted included.
    pub fn slots(&self) -> u32 {
        self.networks().map(slots_of).min().unwrap_or(0)
    }

    /// The slots that may be granted: all but the first and the last.
    pub fn grantable(&self) -> std::ops::Range<u32> {
        1..self.slots() - 1
    }

    /// The addresses of a slot.
    pub fn addresses(&self, slot: u32) -> Addresses {
        Addresses {
            ipv4: self.ipv4.map(|network| Ipv4Addr::from_bits(network.network().to_bits() + slot)),
            ipv6: self
                .ipv6
                .map(|network| Ipv6Addr::from_bits(network.network().to_bits() + u128::from(slot))),
        }
    }

    /// The slot that has this address, if the table is long enough to have one.
    pub fn slot_of(&self, address: IpAddr) -> Option<u32> {
        let offset = match address {
            IpAddr::V4(address) => u128::from(address.to_bits().checked_sub(self.ipv4?.network().to_bits())?),
            IpAddr::V6(address) => address.to_bits().checked_sub(self.ipv6?.network().to_bits())?,
        };
        u32::try_from(offset).ok().filter(|slot| *slot < self.slots())
    }

    /// Whether an address could belong to both.
    pub fn overlaps(&self, other: &Range) -> bool {
        let ipv4 = self.ipv4.zip(other.ipv4).is_some_and(|(a, b)| a.overlaps(b));
        let ipv6 = self.ipv6.zip(other.ipv6).is_some_and(|(a, b)| a.overlaps(b));
        ipv4 || ipv6
    }

    fn networks(&self) -> impl Iterator<Item = IpNetwork> + use<> {
        self.ipv4.map(IpNetwork::V4).into_iter().chain(self.ipv6.map(IpNetwork::V6))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        join(f, self.networks())
    }
}

fn join(f: &mut fmt::Formatter<'_>, items: impl Iterator<Item = impl fmt::Display>) -> fmt::Result {
    for (nth, item) in items.enumerate() {
        let separator = if nth == 0 { "" } else { " and " };
        write!(f, "{separator}{item}")?;
    }
    Ok(())
}

fn host_bits(network: IpNetwork) -> u32 {
    let bits = if network.is_ipv4() { 32 } else { 128 };
    bits - u32::from(network.prefix())
}

fn slots_of(network: IpNetwork) -> u32 {
    1_u32.checked_shl(host_bits(network)).unwrap_or(MAX_SLOTS).min(MAX_SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(ipv4: &str, ipv6: &str) -> Result<Range, RangeError> {
        let ipv4 = (!ipv4.is_empty()).then(|| ipv4.parse().expect("network"));
        let ipv6 = (!ipv6.is_empty()).then(|| ipv6.parse().expect("network"));
        Range::new(ipv4, ipv6)
    }

    #[test]
    fn slots_are_offsets_in_both_families() {
        let range = range("10.244.1.0/24", "fd00:10:244:1::/64").expect("range");
        assert_eq!((range.slots(), range.grantable()), (256, 1..255));
        let addresses = range.addresses(17);
        assert_eq!(addresses.to_string(), "10.244.1.17 and fd00:10:244:1::11");
        for address in addresses.iter() {
            assert_eq!(range.slot_of(address), Some(17));
        }
    }

    #[test]
    fn addresses_outside_have_no_slot() {
        let range = range("10.244.1.0/24", "fd00:10:244:1::/64").expect("range");
        for outside in ["10.244.0.255", "10.244.2.0", "fd00:10:244:1::100", "fd00:10:244:2::1"] {
            assert_eq!(range.slot_of(outside.parse().expect("address")), None, "{outside}");
        }
    }

    #[test]
    fn table_lengths_follow_the_smaller_family_up_to_the_limit() {
        for (ipv4, ipv6, slots) in [
            ("10.0.0.0/30", "", 4),
            ("10.0.0.0/27", "fd00::/64", 32),
            ("10.0.0.0/8", "", MAX_SLOTS),
            ("", "fd00::/64", MAX_SLOTS),
            ("", "fd00::/120", 256),
            ("0.0.0.0/0", "::/0", MAX_SLOTS),
        ] {
            assert_eq!(range(ipv4, ipv6).expect("range").slots(), slots, "{ipv4} {ipv6}");
        }
    }

    #[test]
    fn what_cannot_serve_pods_is_refused_with_the_reason() {
        for (ipv4, ipv6, message) in [
            ("", "", "a range needs ipv4 or ipv6"),
            ("10.0.0.5/24", "", "10.0.0.5/24 has host bits set: 10.0.0.0/24 is meant?"),
            ("10.0.0.0/31", "", "10.0.0.0/31 is too small: at least two bits must be left for hosts"),
            ("", "fd00::/127", "fd00::/127 is too small: at least two bits must be left for hosts"),
            ("10.0.0.0/24", "fd00::/121", "fd00::/121 has fewer addresses than 10.0.0.0/24"),
        ] {
            assert_eq!(range(ipv4, ipv6).expect_err("refused").to_string(), message);
        }
    }

    #[test]
    fn overlap_in_one_family_is_overlap() {
        let dual = range("10.244.1.0/24", "fd00:1::/64").expect("range");
        assert!(dual.overlaps(&range("10.244.0.0/16", "").expect("range")));
        assert!(dual.overlaps(&range("10.244.2.0/24", "fd00:1::/64").expect("range")));
        assert!(!dual.overlaps(&range("10.244.2.0/24", "fd00:2::/64").expect("range")));
    }
}
