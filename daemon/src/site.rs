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
}

impl Site {
    /// The field of a peer that says so.
    pub fn field(&self) -> &'static str {
        match self {
            Site::Address(_) => "address",
            Site::DefaultGateway(_) => "defaultGateway",
            Site::Range(_) => "listenRange",
        }
    }

    /// Of the addresses there.
    pub fn family(&self) -> Family {
        match self {
            Site::Address(address) => Family::of(*address),
            Site::DefaultGateway(family) => *family,
            Site::Range(range) => range.family(),
        }
    }

    /// The address, if manifests say it.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Site::Address(address) => Some(*address),
            Site::DefaultGateway(_) | Site::Range(_) => None,
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
        }
    }
}

impl FromStr for Site {
    type Err = NoSite;

    fn from_str(text: &str) -> Result<Site, NoSite> {
        let family = Family::ALL.into_iter().find(|family| family.to_string() == text);
        let address = || text.parse().ok().map(Site::Address);
        let range = || text.parse().ok().map(Site::Range);
        family.map(Site::DefaultGateway).or_else(address).or_else(range).ok_or(NoSite)
    }
}

/// A text that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no address, no family and no range")]
pub struct NoSite;

impl Serialize for Site {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
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
        ] {
            let site: Site = serde_json::from_value(text.into()).expect(text);
            assert_eq!((site.field(), serde_json::to_value(site).expect(text)), (field, text.into()));
        }
        assert!("eth0".parse::<Site>().is_err());
    }
}
