//! Where a peer is, as manifests say it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use cambric_bgp::{Family, Prefix};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where a peer is. No two peers of a node are at one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// At this address.
    Address(IpAddr),
    /// Where the node's default route of this family points to.
    DefaultGateway(Family),
    /// Whoever calls from it.
    Range(Prefix),
    /// The router at the other end of this interface's link, whatever its address.
    Interface(InterfaceName),
}

/// Name of an interface: 1 to 15 octets, which is what the kernel takes (`IFNAMSIZ` with its end).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName {
    /// ASCII; 0 behind the end.
    octets: [u8; Self::MOST_OCTETS],
}

impl InterfaceName {
    const MOST_OCTETS: usize = 15;

    /// `None` where no interface can have that name.
    pub fn new(name: &str) -> Option<InterfaceName> {
        let is_known = |octet: u8| octet.is_ascii_graphic() && octet != b'/' && octet != b'%';
        let mut octets = [0; Self::MOST_OCTETS];
        octets.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        (!name.is_empty() && name.bytes().all(is_known)).then_some(InterfaceName { octets })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        let length = self.octets.iter().position(|octet| *octet == 0).unwrap_or(Self::MOST_OCTETS);
        // It is of ASCII.
        std::str::from_utf8(&self.octets[..length]).unwrap_or_default()
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Site {
    /// The field of a peer that says so.
    pub fn field(&self) -> &'static str {
        match self {
            Site::Address(_) => "address",
            Site::DefaultGateway(_) => "defaultGateway",
            Site::Range(_) => "listenRange",
            Site::Interface(_) => "interface",
        }
    }

    /// Of the addresses there; a link-local one is found, and no manifest says another for its end.
    pub fn family(&self) -> Family {
        match self {
            Site::Address(address) => Family::of(*address),
            Site::DefaultGateway(family) => *family,
            Site::Range(range) => range.family(),
            Site::Interface(_) => Family::Ipv6,
        }
    }

    /// The address, if manifests say it.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Site::Address(address) => Some(*address),
            Site::DefaultGateway(_) | Site::Range(_) | Site::Interface(_) => None,
        }
    }
}

/// As its field has it.
impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Site::Address(address) => address.fmt(f),
            Site::DefaultGateway(family) => family.fmt(f),
            Site::Range(range) => range.fmt(f),
            Site::Interface(name) => name.fmt(f),
        }
    }
}

/// Before the name of an interface in records: one may be called `ipv4`.
const INTERFACE: char = '%';

impl FromStr for Site {
    type Err = NoSite;

    fn from_str(text: &str) -> Result<Site, NoSite> {
        let family = Family::ALL.into_iter().find(|family| family.to_string() == text);
        let address = || text.parse().ok().map(Site::Address);
        let range = || text.parse().ok().map(Site::Range);
        if let Some(name) = text.strip_prefix(INTERFACE) {
            return InterfaceName::new(name).map(Site::Interface).ok_or(NoSite);
        }
        family.map(Site::DefaultGateway).or_else(address).or_else(range).ok_or(NoSite)
    }
}

/// A text that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no address, no family, no range and no interface")]
pub struct NoSite;

impl Serialize for Site {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Site::Interface(name) => serializer.collect_str(&format_args!("{INTERFACE}{name}")),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Site {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Site, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records of earlier versions have addresses there.
    #[test]
    fn each_is_one_text_in_records_and_an_address_the_one_it_always_was() {
        for (text, field) in [
            ("192.0.2.1", "address"),
            ("2001:db8::1", "address"),
            ("ipv4", "defaultGateway"),
            ("ipv6", "defaultGateway"),
            ("10.1.0.0/16", "listenRange"),
            ("fd00::/64", "listenRange"),
            ("%eth1", "interface"),
            ("%ipv4", "interface"),
            ("%fifteen-octets-", "interface"),
        ] {
            let site: Site = serde_json::from_value(text.into()).expect(text);
            assert_eq!((site.field(), serde_json::to_value(site).expect(text)), (field, text.into()));
        }
        for text in ["eth0", "%", "%sixteen-octets--", "%a/b", "%a b"] {
            assert!(text.parse::<Site>().is_err(), "{text}");
        }
    }
}
