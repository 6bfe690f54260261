//! What the kernel makes of the next hops of listed paths: over which link it goes, whether they are used, and where
//! those are that no link reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use cambric_api::{Path, Route};
use cambric_bgp::policy::Refusal;
use cambric_routes::{LinkTable, Routes, Snapshot};

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
    /// Prefixes whose place another program's route has, with its protocol.
    conflicts: BTreeMap<String, u8>,
}

impl Hops<'_> {
    /// Looks once.
    pub(super) async fn of(routes: &Routes) -> Hops<'_> {
        // The routes task ends only with the daemon.
        let snapshot = routes.snapshot().await.ok();
        let conflicts = snapshot.iter().flat_map(|snapshot| &snapshot.conflicts);
        let conflicts = conflicts.map(|(prefix, protocol)| (prefix.to_string(), *protocol)).collect();
        Hops { routes, links: routes.links().borrow().clone(), snapshot, conflicts }
    }

    /// Says it of each path that has a next hop.
    pub(super) async fn describe(&self, routes: &mut [Route]) {
        for route in &mut *routes {
            let conflict = self.conflicts.get(&route.prefix);
            for path in &mut route.paths {
                let Some(next_hop) = path.next_hop.as_ref().and_then(|hop| hop.parse().ok()) else {
                    continue;
                };
                path.interface = self.interface(next_hop);
                if matches!(path.verdict.as_str(), "best" | "multipath") {
                    path.unused = self.why_unused(next_hop, conflict);
                }
            }
        }
        self.name_gateways(routes).await;
    }

    /// One that carries routes is known with its link; of another it is the subnets that tell. A link-local address
    /// may be on any link.
    fn interface(&self, next_hop: IpAddr) -> Option<String> {
        let in_use = |snapshot: &Snapshot| {
            let mut hops = snapshot.by_gateway.keys().chain(snapshot.unusable.keys());
            hops.find(|hop| hop.gateway == next_hop).map(|hop| hop.link)
        };
        let link = self.snapshot.as_ref().and_then(in_use);
        let by_subnet = || (!is_link_local(next_hop)).then(|| link_to(&self.links, next_hop)).flatten();
        let link = self.links.get(link.or_else(by_subnet)?)?;
        Some(escaped(&link.name))
    }

    fn why_unused(&self, next_hop: IpAddr, conflict: Option<&u8>) -> Option<String> {
        if let Some(protocol) = conflict {
            return Some(format!("a foreign route (protocol {protocol}) has its place in the kernel"));
        }
        let (_, why) = self.snapshot.as_ref()?.unusable.iter().find(|(hop, _)| hop.gateway == next_hop)?;
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

/// RFC 4291 section 2.5.6.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}
