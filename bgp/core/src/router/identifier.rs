//! Identifiers: each is unique in its AS (RFC 6286 section 2.1), and two peers that have the same are one router, or a mistake.

use super::Router;
use crate::prefix::Family;
use crate::session::Session;
use crate::types::{PeerId, ScopedAddress};

impl Router {
    /// The address of another peer that is up with the AS and identifier of `session`, and over the same protocol: a router
    /// with a session for each protocol is none.
    pub(super) fn same_identifier(&self, peer: PeerId, session: &Session) -> Option<ScopedAddress> {
        let address = self.peers.get(&peer)?.address.ip();
        let is_same =
            |other: &Session| (other.peer_asn, other.peer_id) == (session.peer_asn, session.peer_id);
        let others = self.peers.values().filter(|other| other.id != peer);
        let mut others = others.filter(|other| Family::of(other.address.ip()) == Family::of(address));
        others
            .find(|other| other.established().is_some_and(|(_, session, _)| is_same(session)))
            .map(|other| other.address.clone())
    }

    /// Once for each two, however often they come up.
    pub(super) fn warn_of_same_identifier(&mut self, peer: PeerId, session: &Session) {
        let other = self.same_identifier(peer, session);
        if let Some((of, other)) = self.peers.get_mut(&peer).zip(other)
            && of.double_told.replace(other.clone()) != Some(other.clone())
        {
            let Session { peer_id, peer_asn, .. } = session;
            tracing::warn!(
                peer = %of.config.name, address = %of.address, %other, asn = %peer_asn, identifier = %peer_id,
                "two peers have the same identifier: unless they are one router, one of them needs another"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::IpAddr;
    use std::time::Instant;

    use super::*;
    use crate::config::{PeerConfig, RouterConfig, Wanted};
    use crate::router::Restarted;
    use crate::types::{Asn, HoldTime, RouterId};
    use crate::wire::{Open, frame};

    /// A router with sessions to peers at these addresses, each in an AS and with an identifier; whom the last one is like.
    fn last_is_like(peers: &[(&str, u32, u32)]) -> Option<ScopedAddress> {
        let asn = |value| Asn::new(value).expect("not 0");
        let router_id = |value| RouterId::new(value).expect("not 0");
        let now = Instant::now();
        let mut wanted = Wanted::new(RouterConfig::new(asn(65001), router_id(1)));
        for (address, of, _) in peers {
            let address: IpAddr = address.parse().expect("address");
            let families = [Family::Ipv4].into();
            wanted
                .peers
                .insert(address.into(), PeerConfig { families, ..PeerConfig::new("p", address, asn(*of)) });
        }
        let mut router = Router::new(now, wanted, Restarted::No, BTreeSet::new(), 7);
        for (address, of, id) in peers {
            let address: ScopedAddress = address.parse().expect("address");
            let conn = router.handle_accepted(now, [192, 0, 2, 1].into(), address).expect("a peer");
            let open = Open {
                asn: asn(*of),
                hold_time: HoldTime::DEFAULT,
                router_id: router_id(*id),
                capabilities: Vec::new(),
            };
            let mut octets = Vec::new();
            open.write(&mut octets);
            frame::write_keepalive(&mut octets);
            router.handle_bytes(now, conn, &octets);
        }
        let last = router.peer_at(peers.last()?.0.parse::<IpAddr>().expect("address"))?;
        router.same_identifier(last, &router.peer(last)?.session.expect("established"))
    }

    #[test]
    fn two_peers_are_alike_by_as_identifier_and_protocol() {
        let first = ("192.0.2.2", 65002, 7);
        assert_eq!(last_is_like(&[first, ("192.0.2.3", 65002, 7)]), "192.0.2.2".parse().ok());
        assert_eq!(last_is_like(&[first, ("192.0.2.3", 65002, 8)]), None);
        assert_eq!(last_is_like(&[first, ("192.0.2.3", 65003, 7)]), None, "between ASes (RFC 6286)");
        assert_eq!(last_is_like(&[first, ("fd00::2", 65002, 7)]), None, "one router, both protocols");
    }
}
