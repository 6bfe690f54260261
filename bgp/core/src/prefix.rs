//! Address families and prefixes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnetwork::IpNetwork;

use crate::types::InvalidValue;

/// The address families we route: unicast of both protocols (RFC 4760).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4,
    /// AFI 2, SAFI 1.
    Ipv6,
}

impl Family {
    /// Both, in the order of output.
    pub const ALL: [Family; 2] = [Family::Ipv4, Family::Ipv6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
    }

    /// Bits of an address: 32 or 128.
    pub const fn bits(self) -> u8 {
        match self {
            Family::Ipv4 => 32,
            Family::Ipv6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        })
    }
}

/// An address prefix whose host bits are zero, whatever it was made from.
///
/// 18 octets for both families. Ordered by family, address, length: so a listing shows a prefix before
/// its more specific ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    family: Family,
    /// Network order; an IPv4 address fills the first four octets.
    octets: [u8; 16],
    length: u8,
}

impl Prefix {
    /// Clears the host bits of `address`.
    ///
    /// # Errors
    /// `length` over 32 (IPv4) or 128 (IPv6).
    pub fn new(address: IpAddr, length: u8) -> Result<Prefix, InvalidValue> {
        let family = Family::of(address);
        if length > family.bits() {
            return Err(InvalidValue::PrefixLength { length, most: family.bits() });
        }
        let mut octets = [0; 16];
        match address {
            IpAddr::V4(v4) => octets[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => octets = v6.octets(),
        }
        Ok(Prefix::masked(family, octets, length))
    }

    /// The prefix that holds only `address`.
    pub fn host(address: IpAddr) -> Prefix {
        let mut octets = [0; 16];
        match address {
            IpAddr::V4(v4) => octets[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => octets = v6.octets(),
        }
        let family = Family::of(address);
        Prefix { family, octets, length: family.bits() }
    }

    /// All prefixes that hold `address`, the most specific first: 33 or 129.
    pub fn holding(address: IpAddr) -> impl Iterator<Item = Prefix> {
        let Prefix { family, octets, length } = Prefix::host(address);
        (0..=length).rev().map(move |length| Prefix::masked(family, octets, length))
    }

    /// From an address of which the first `length` bits count, at most 32.
    pub(crate) fn ipv4(address: u32, length: u8) -> Prefix {
        let host_bits = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
        let mut octets = [0; 16];
        octets[..4].copy_from_slice(&(address & !host_bits).to_be_bytes());
        Prefix { family: Family::Ipv4, octets, length }
    }

    /// From an address of which the first `length` bits count, at most 128.
    pub(crate) fn ipv6(address: u128, length: u8) -> Prefix {
        let host_bits = u128::MAX.checked_shr(u32::from(length)).unwrap_or(0);
        Prefix { family: Family::Ipv6, octets: (address & !host_bits).to_be_bytes(), length }
    }

    fn masked(family: Family, mut octets: [u8; 16], length: u8) -> Prefix {
        let whole = usize::from(length / 8);
        if let Some(octet) = octets.get_mut(whole) {
            *octet &= !(0xFF_u8.checked_shr(u32::from(length % 8)).unwrap_or(0));
        }
        for octet in octets.iter_mut().skip(whole + 1) {
            *octet = 0;
        }
        Prefix { family, octets, length }
    }

    /// Its length and all its octets: NLRI ends with the last one that the length reaches (RFC 4271 section 4.3).
    pub(crate) fn put(&self, place: &mut [u8; 17]) {
        place[0] = self.length;
        place[1..].copy_from_slice(&self.octets);
    }

    /// Which protocol.
    pub const fn family(&self) -> Family {
        self.family
    }

    /// Mask length in bits.
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// The first address.
    pub fn address(&self) -> IpAddr {
        match self.family {
            Family::Ipv4 => {
                let [a, b, c, d, ..] = self.octets;
                IpAddr::V4(Ipv4Addr::new(a, b, c, d))
            }
            Family::Ipv6 => IpAddr::V6(Ipv6Addr::from(self.octets)),
        }
    }

    /// 0.0.0.0/0 or ::/0.
    pub const fn is_default(&self) -> bool {
        self.length == 0
    }

    /// A single address.
    pub const fn is_host(&self) -> bool {
        self.length == self.family.bits()
    }

    /// Whether `other` is this prefix or a more specific one of it.
    pub fn covers(&self, other: &Prefix) -> bool {
        self.family == other.family
            && self.length <= other.length
            && Prefix::masked(other.family, other.octets, self.length).octets == self.octets
    }

    /// What is left of it without `holes`: as few prefixes as there can be.
    pub(crate) fn without(&self, holes: &[Prefix]) -> Vec<Prefix> {
        if holes.iter().any(|hole| hole.covers(self)) {
            return Vec::new();
        }
        let inside: Vec<Prefix> = holes.iter().filter(|hole| self.covers(hole)).copied().collect();
        if inside.is_empty() {
            return vec![*self];
        }
        // A hole that is longer than it: so it has halves.
        self.halves().iter().flat_map(|half| half.without(&inside)).collect()
    }

    /// Both halves of a prefix that is no host.
    fn halves(&self) -> [Prefix; 2] {
        let length = self.length.saturating_add(1).min(self.family.bits());
        let mut upper = self.octets;
        upper[usize::from(self.length / 8) % 16] |= 0x80 >> (self.length % 8);
        [self.octets, upper].map(|octets| Prefix { family: self.family, octets, length })
    }

    /// Whether `address` lies inside.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.covers(&Prefix::host(address))
    }
}

impl From<Prefix> for IpNetwork {
    fn from(prefix: Prefix) -> IpNetwork {
        // The length was checked when the prefix was made; a host network cannot fail.
        IpNetwork::new(prefix.address(), prefix.length).unwrap_or_else(|_| IpNetwork::from(prefix.address()))
    }
}

impl From<IpNetwork> for Prefix {
    fn from(network: IpNetwork) -> Prefix {
        let host = Prefix::host(network.ip());
        Prefix::masked(host.family, host.octets, network.prefix())
    }
}

impl FromStr for Prefix {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Prefix, InvalidValue> {
        let wrong = || InvalidValue::Prefix(text.to_owned());
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        Prefix::new(address.parse().map_err(|_| wrong())?, length.parse().map_err(|_| wrong())?)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address(), self.length)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_without_holes_is_the_rest_of_it() {
        let prefix = |text: &str| text.parse::<Prefix>().expect("test prefix");
        let without = |text: &str, holes: &[&str]| {
            let holes: Vec<Prefix> = holes.iter().map(|hole| prefix(hole)).collect();
            prefix(text).without(&holes).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let quarters = ["192.0.2.0/32", "192.0.2.2/31"];
        assert_eq!(without("192.0.2.0/30", &["192.0.2.1/32", "198.51.100.1/32"]), quarters);
        assert_eq!(without("192.0.2.0/30", &["192.0.2.0/31", "192.0.2.2/31"]), [""; 0]);
        assert_eq!(without("192.0.2.0/30", &["192.0.0.0/16"]), [""; 0]);
        assert_eq!(without("192.0.2.0/30", &["fd00::/64"]), ["192.0.2.0/30"]);
        assert_eq!(without("fd00::/126", &["fd00::3/128"]), ["fd00::/127", "fd00::2/128"]);
        assert_eq!(prefix("0.0.0.0/0").without(&[Prefix::host([0; 4].into())]).len(), 32);
    }

    fn p(text: &str) -> Prefix {
        text.parse().expect("test prefix")
    }

    #[test]
    fn host_bits_are_cleared() {
        assert_eq!(p("10.1.2.3/16").to_string(), "10.1.0.0/16");
        assert_eq!(p("10.1.2.255/31").to_string(), "10.1.2.254/31");
        assert_eq!(p("fd00::1/127").to_string(), "fd00::/127");
        assert_eq!(p("10.1.2.3/32").to_string(), "10.1.2.3/32");
        assert_eq!(p("255.255.255.255/0").to_string(), "0.0.0.0/0");
        assert_eq!(p("ffff::/0").to_string(), "::/0");
    }

    #[test]
    fn covers_its_more_specifics_and_itself_only() {
        assert!(p("10.0.0.0/8").covers(&p("10.1.0.0/16")));
        assert!(p("10.0.0.0/8").covers(&p("10.0.0.0/8")));
        assert!(!p("10.1.0.0/16").covers(&p("10.0.0.0/8")));
        assert!(!p("10.1.0.0/16").covers(&p("10.2.0.0/24")));
        assert!(!p("0.0.0.0/0").covers(&p("::/0")));
        assert!(p("fd00::/8").contains("fd00::1".parse().expect("address")));
    }

    #[test]
    fn prefixes_that_hold_an_address_are_those_that_contain_it() {
        for (text, count) in [("10.1.2.3", 33), ("fd00::1:2", 129)] {
            let address = text.parse().expect("address");
            let holding: Vec<Prefix> = Prefix::holding(address).collect();
            assert!(holding.iter().all(|prefix| prefix.contains(address)));
            assert!(holding.iter().rev().zip(0..).all(|(prefix, length)| prefix.length() == length));
            assert_eq!((holding.len(), holding[0]), (count, Prefix::host(address)));
        }
    }

    #[test]
    fn lengths_over_the_family_are_refused() {
        assert!("10.0.0.0/33".parse::<Prefix>().is_err());
        assert!("::/129".parse::<Prefix>().is_err());
        assert!("10.0.0.0".parse::<Prefix>().is_err());
    }

    #[test]
    fn conversion_to_ipnetwork_and_back_is_the_identity() {
        for text in ["0.0.0.0/0", "10.1.2.0/24", "10.1.2.3/32", "::/0", "fd00::/48", "fd00::1/128"] {
            assert_eq!(Prefix::from(IpNetwork::from(p(text))), p(text));
        }
    }
}
