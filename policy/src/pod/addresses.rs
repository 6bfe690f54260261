//! The addresses of a pod: mostly one a family, in place.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// Addresses, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<IpAddr>", into = "Vec<IpAddr>")]
pub struct Addresses {
    /// The least of its family.
    ipv4: Option<Ipv4Addr>,
    /// The least of its family.
    ipv6: Option<Ipv6Addr>,
    /// What else there is, in order. Kubernetes gives a pod one a family; folders say what they like.
    #[expect(clippy::box_collection, reason = "a word, as it is hardly ever there")]
    more: Option<Box<Vec<IpAddr>>>,
}

impl Addresses {
    /// Those of these texts that can be a pod's, as `status.podIPs` and `status.podIP` have them; the rest is left out.
    pub fn read<'a>(texts: impl IntoIterator<Item = &'a str>) -> Addresses {
        let addresses = texts.into_iter().filter_map(|text| text.parse().ok());
        addresses.filter(|address| is_of_one_pod(*address)).collect()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let first = self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6));
        first.chain(self.more.iter().flat_map(|more| more.iter().copied()))
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.ipv4.is_none() && self.ipv6.is_none()
    }
}

impl FromIterator<IpAddr> for Addresses {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Addresses {
        let mut found = Addresses::default();
        let mut more = Vec::new();
        for address in addresses.into_iter().collect::<BTreeSet<_>>() {
            match address {
                IpAddr::V4(address) if found.ipv4.is_none() => found.ipv4 = Some(address),
                IpAddr::V6(address) if found.ipv6.is_none() => found.ipv6 = Some(address),
                _ => more.push(address),
            }
        }
        found.more = (!more.is_empty()).then(|| Box::new(more));
        found
    }
}

impl From<Vec<IpAddr>> for Addresses {
    fn from(addresses: Vec<IpAddr>) -> Addresses {
        addresses.into_iter().collect()
    }
}

impl From<Addresses> for Vec<IpAddr> {
    fn from(addresses: Addresses) -> Vec<IpAddr> {
        addresses.iter().collect()
    }
}

/// Whether an address can be somebody's, and one's alone.
pub(crate) fn is_of_one_pod(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !is_link_local && !address.is_unspecified() && !address.is_multicast() && !address.is_loopback()
}
