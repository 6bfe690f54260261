//! What this host has, and no object says.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cambric_bgp::Family;
use cambric_bgp::config::Link;
use cambric_routes::Routes;

use crate::discovery::{Found, Neighborhood};
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
    /// By interface, who is at the other end of links that need no address; those that somebody has looked at.
    pub unnumbered: BTreeMap<String, Unnumbered>,
}

/// A link with link-local addresses alone, as far as anybody needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unnumbered {
    /// With its link-local addresses; `None`: there is no such interface.
    pub link: Option<Link>,
    /// What was heard on it.
    pub neighborhood: Neighborhood,
}

impl Host {
    /// As `routes` sees it, and what router advertisements told, after what there was before.
    pub fn of(routes: &Routes, found: &Found, before: &Host) -> Host {
        let table = routes.links().borrow().clone();
        let links = fib::links(&table);
        let unnumbered = found.iter().map(|(name, neighborhood)| {
            let link = table.by_name(name).map(fib::link);
            (name.clone(), Unnumbered { link, neighborhood: neighborhood.clone() })
        });
        let unnumbered = unnumbered.collect();
        let now = *routes.default_gateways().borrow();
        let gateway = |own: Family| now.get(fib::family(own)).map(|gateway| (own, gateway));
        Host {
            links,
            unnumbered,
            ..before.with_these_gateways(Family::ALL.into_iter().filter_map(gateway).collect())
        }
    }

    /// The same with other default routes.
    pub fn with_these_gateways(&self, gateways: BTreeMap<Family, IpAddr>) -> Host {
        let known = self.former_gateways.iter().chain(&self.gateways);
        let former = known.filter(|(family, _)| !gateways.contains_key(family));
        let former_gateways = former.map(|(family, gateway)| (*family, *gateway)).collect();
        Host { links: self.links.clone(), gateways, former_gateways, unnumbered: self.unnumbered.clone() }
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
