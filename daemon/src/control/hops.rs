//! What the kernel makes of the next hops of listed paths: over which link it goes, whether they are used, and where
//! those are that no link reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use cambric_api::{Path, Route};
use cambric_bgp::ScopedAddress;
use cambric_bgp::policy::Refusal;
use cambric_routes::{ForeignRoute, Hop, LinkTable, Prefix, Routes, Snapshot};

use super::links::{link_to, why_unusable};
use super::words::escaped;

/// Paths of a piece whose next hop the kernel is asked for.
const MOST_ASKED: usize = 100;

/// The kernel's side of a listing, as it was at its beginning.
#[derive(Debug)]
pub(super) struct Hops<'a> {
    routes: &'a Routes,
    links: Arc<LinkTable>,
    /// What the kernel does not tell is not said.
    snapshot: Option<Snapshot>,
    /// Prefixes for which another program's route carries the packets, and what that is.
    foreign: BTreeMap<String, String>,
}

impl Hops<'_> {
    /// Looks once.
    pub(super) async fn of(routes: &Routes) -> Hops<'_> {
        // The routes task ends only with the daemon.
        let snapshot = routes.snapshot().await.ok();
        let told = |snapshot: &Snapshot| foreign(&snapshot.conflicts, &snapshot.hidden);
        let foreign = snapshot.as_ref().map(told).unwrap_or_default();
        Hops { routes, links: routes.links().borrow().clone(), snapshot, foreign }
    }

    /// Says it of each path that has a next hop.
    pub(super) async fn describe(&self, routes: &mut [Route]) {
        for route in &mut *routes {
            let foreign = self.foreign.get(&route.prefix);
            for path in &mut route.paths {
                let Some(next_hop) = path.next_hop.as_ref().and_then(|hop| hop.parse().ok()) else {
                    continue;
                };
                path.interface = self.interface(&next_hop);
                if matches!(path.verdict.as_str(), "best" | "multipath") {
                    path.unused = self.why_unused(&next_hop, foreign);
                }
            }
        }
        self.name_gateways(routes).await;
    }

    /// One that carries routes is known with its link; of another it is the subnets that tell. A link-local address
    /// may be on any link, and says on which.
    fn interface(&self, next_hop: &ScopedAddress) -> Option<String> {
        if let Some(link) = next_hop.interface() {
            return Some(escaped(link));
        }
        let in_use = |snapshot: &Snapshot| {
            let mut hops = snapshot.by_gateway.keys().chain(snapshot.unusable.keys());
            hops.find(|hop| hop.gateway == next_hop.ip()).map(|hop| hop.link)
        };
        let link = self.snapshot.as_ref().and_then(in_use);
        let link = self.links.get(link.or_else(|| link_to(&self.links, next_hop))?)?;
        Some(escaped(&link.name))
    }

    fn why_unused(&self, next_hop: &ScopedAddress, foreign: Option<&String>) -> Option<String> {
        if let Some(foreign) = foreign {
            return Some(foreign.clone());
        }
        let link = next_hop.interface().and_then(|name| self.links.by_name(name)).map(|link| link.index);
        let is_meant = |hop: &Hop| hop.gateway == next_hop.ip() && link.is_none_or(|link| hop.link == link);
        let (_, why) = self.snapshot.as_ref()?.unusable.iter().find(|(hop, _)| is_meant(hop))?;
        Some(why_unusable(why).to_owned())
    }

    /// Where a next hop is that no link reaches: with that gateway one would have to peer.
    async fn name_gateways(&self, routes: &mut [Route]) {
        let name = Refusal::NextHopNotOnLink.name();
        let paths = routes.iter_mut().flat_map(|route| &mut route.paths);
        let mut unreached: Vec<(IpAddr, &mut Path)> = paths
            .filter(|path| path.reason.as_deref() == Some(name))
            .filter_map(|path| Some((path.next_hop.as_ref()?.parse().ok()?, path)))
            .collect();
        let next_hops: BTreeSet<IpAddr> =
            unreached.iter().map(|(next_hop, _)| *next_hop).take(MOST_ASKED).collect();
        if next_hops.is_empty() {
            return;
        }
        let gateways = self.routes.gateways(&next_hops).await.unwrap_or_default();
        for (next_hop, path) in &mut unreached {
            path.behind = gateways.get(next_hop).map(IpAddr::to_string);
        }
    }
}

/// Where it has both, the one that goes before ours carries the packets.
fn foreign(
    conflicts: &BTreeMap<Prefix, u8>,
    hidden: &BTreeMap<Prefix, ForeignRoute>,
) -> BTreeMap<String, String> {
    let in_place = conflicts.iter().map(|(prefix, protocol)| {
        (prefix.to_string(), format!("a foreign route (protocol {protocol}) has its place in the kernel"))
    });
    let before = hidden.iter().map(|(prefix, by)| {
        let (metric, protocol) = (by.metric, by.protocol);
        let what = format!("a foreign route (protocol {protocol}, metric {metric}) goes before it");
        (prefix.to_string(), what)
    });
    in_place.chain(before).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_that_goes_before_ours_is_told_before_one_beside_it() {
        let prefix = |text: &str| Prefix::new(text.parse().expect("a network"));
        let dhcp = ForeignRoute { metric: 5, protocol: 16 };
        let conflicts = [(prefix("10.0.1.0/24"), 4), (prefix("10.0.2.0/24"), 4)].into();
        let told = foreign(&conflicts, &[(prefix("10.0.2.0/24"), dhcp)].into());
        let beside = "a foreign route (protocol 4) has its place in the kernel";
        let before = "a foreign route (protocol 16, metric 5) goes before it";
        let expected = [("10.0.1.0/24", beside), ("10.0.2.0/24", before)];
        assert_eq!(told, expected.map(|(prefix, what)| (prefix.to_owned(), what.to_owned())).into());
    }
}
