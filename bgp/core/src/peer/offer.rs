//! What our OPEN says to a peer.

use super::{Identity, Peer};
use crate::config::{AddPath, Receive};
use crate::prefix::Family;
use crate::wire::capability::four_octet_as;
use crate::wire::{
    AddPathFamily, Capability, ExtendedNextHop, GracefulRestart, LongLivedFamily, LongLivedGracefulRestart,
    Open,
};

impl Peer {
    pub(super) fn our_open(&self, identity: &Identity) -> Open {
        let asn = self.config.own_asn(identity.asn);
        let families = self.config.families.iter();
        let mut capabilities: Vec<Capability> =
            families.map(|family| Capability::MultiProtocol((*family).into())).collect();
        capabilities.extend([
            Capability::RouteRefresh,
            Capability::EnhancedRouteRefresh,
            Capability::ExtendedMessage,
            four_octet_as(asn),
        ]);
        capabilities.extend(self.our_role(identity));
        capabilities.extend(self.our_add_path());
        capabilities.extend(self.our_next_hops());
        let restart = self.our_restart(identity);
        let long_lived = self.our_long_lived(&restart);
        capabilities.push(Capability::GracefulRestart(restart));
        capabilities.extend(long_lived.map(Capability::LongLivedGracefulRestart));
        let hold_time = self.config.hold_time;
        Open { asn, hold_time, router_id: identity.router_id, capabilities }
    }

    /// What we take and tell of several paths to a prefix; `None` where that is nothing (RFC 7911 section 4).
    fn our_add_path(&self) -> Option<Capability> {
        let wanted = self.config.families.iter().map(|family| (*family, self.config.add_path(*family)));
        let entries = wanted.map(|(family, AddPath { receive, send })| AddPathFamily {
            family: family.into(),
            receives: receive == Receive::Several,
            sends: send.is_some(),
        });
        let entries: Vec<AddPathFamily> = entries.filter(|entry| entry.receives || entry.sends).collect();
        (!entries.is_empty()).then_some(Capability::AddPath(entries))
    }

    /// That IPv4 routes may have IPv6 next hops (RFC 8950 section 4), to a peer over IPv6: on a link without IPv4 addresses
    /// there is no other way, and where there are some it costs nothing. Who is a neighbour over IPv4 has a next hop of that
    /// family to give.
    fn our_next_hops(&self) -> Option<Capability> {
        let carries = self.address.ip().is_ipv6() && self.config.families.contains(&Family::Ipv4);
        carries.then(|| Capability::ExtendedNextHop(vec![ExtendedNextHop::IPV4_OVER_IPV6]))
    }

    /// Our graceful restart capability, cut to the families of this peer.
    fn our_restart(&self, identity: &Identity) -> GracefulRestart {
        let mut restart = identity.restart.clone();
        restart.families.retain(|entry| {
            entry.family.family().is_some_and(|family| self.config.families.contains(&family))
        });
        if let Some(time) = self.config.restart.restart_time {
            restart.restart_time_s = GracefulRestart::time_s(time);
        }
        restart
    }

    /// The same families again, with the time beyond the restart time; `None` where it is off.
    fn our_long_lived(&self, restart: &GracefulRestart) -> Option<LongLivedGracefulRestart> {
        let seconds = self.config.restart.long_lived.as_secs();
        let most = LongLivedGracefulRestart::MOST_STALE_TIME_S;
        let stale_time_s = u32::try_from(seconds).unwrap_or(most).min(most);
        let families = restart.families.iter().map(|entry| LongLivedFamily {
            family: entry.family,
            forwarding_kept: entry.forwarding_kept,
            stale_time_s,
        });
        (stale_time_s > 0).then(|| LongLivedGracefulRestart { families: families.collect() })
    }
}
