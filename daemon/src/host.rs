//! What this host has, and no object says.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cambric_bgp::Family;
use cambric_bgp::config::Link;
use cambric_routes::Routes;

use crate::fib;

/// What there is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// The links with their addresses.
    pub links: Vec<Link>,
    /// Where the default routes of other programs point to.
    pub gateways: BTreeMap<Family, IpAddr>,
    /// Where they pointed to last, of families that have none now: a route that is put anew is away for a moment.
    pub former_gateways: BTreeMap<Family, IpAddr>,
}

impl Host {
    /// As `routes` sees it, after what there was before.
    pub fn of(routes: &Routes, before: &Host) -> Host {
        let links = fib::links(&routes.links().borrow().clone());
        let now = *routes.default_gateways().borrow();
        let gateway = |own: Family| now.get(fib::family(own)).map(|gateway| (own, gateway));
        Host { links, ..before.with_these_gateways(Family::ALL.into_iter().filter_map(gateway).collect()) }
    }

    /// The same with other default routes.
    pub fn with_these_gateways(&self, gateways: BTreeMap<Family, IpAddr>) -> Host {
        let known = self.former_gateways.iter().chain(&self.gateways);
        let former = known.filter(|(family, _)| !gateways.contains_key(family));
        let former_gateways = former.map(|(family, gateway)| (*family, *gateway)).collect();
        Host { links: self.links.clone(), gateways, former_gateways }
    }

    /// One with these links and no default route.
    pub fn with_links(links: &[Link]) -> Host {
        Host { links: links.to_vec(), ..Host::default() }
    }

    /// One with default routes to these gateways, and no links.
    pub fn with_gateways(gateways: impl IntoIterator<Item = IpAddr>) -> Host {
        let gateways = gateways.into_iter().map(|gateway| (Family::of(gateway), gateway)).collect();
        Host { gateways, ..Host::default() }
    }
}
