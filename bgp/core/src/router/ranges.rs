//! Peers that nobody named: one that connects from a listen range is made a peer, and forgotten when it has been gone for
//! a while and nothing is kept for it.

use std::time::Instant;

use super::Router;
use crate::config::{ConnectMode, ListenRange, PeerConfig, Wanted};
use crate::peer::{Peer, PeerOrigin, Refused};
use crate::prefix::{Family, Prefix};
use crate::types::{PeerId, ScopedAddress, is_link_local};

/// The longest range that holds `address`, which is no address of ours and not closed.
///
/// None holds a link-local one: a range says nothing of links.
pub(super) fn range_of<'a>(wanted: &'a Wanted, address: &ScopedAddress) -> Option<(Prefix, &'a ListenRange)> {
    let on_links = wanted.links.iter().any(|link| link.has(address));
    let address = address.ip();
    if on_links || is_link_local(address) || wanted.originated.contains_key(&Prefix::host(address)) {
        return None;
    }
    let is_meant = |range: &Prefix| wanted.closed.contains(range) || wanted.listen_ranges.contains_key(range);
    let range = Prefix::holding(address).find(is_meant).filter(|range| !wanted.closed.contains(range))?;
    Some((range, wanted.listen_ranges.get(&range)?))
}

/// What a peer out of `range` is like. All have the name of the template: filters and offers know them by it.
pub(super) fn config_of(range: &ListenRange) -> PeerConfig {
    PeerConfig { connect: ConnectMode::Passive, ..range.template.clone() }
}

impl Router {
    /// The peer at `remote`, made now if a range holds it.
    pub(super) fn known_or_made(&mut self, now: Instant, remote: ScopedAddress) -> Result<PeerId, Refused> {
        if let Some(id) = self.by_address.get(&remote) {
            return Ok(*id);
        }
        let (range, listen) = range_of(&self.wanted, &remote).ok_or(Refused::UnknownPeer)?;
        let (most, config) = (listen.most_peers, config_of(listen));
        self.make_room(range, most)?;
        Ok(self.add_peer(now, remote, config, PeerOrigin::Range(range)))
    }

    /// Whoever has been gone longest makes room for one who is there.
    fn make_room(&mut self, range: Prefix, most: usize) -> Result<(), Refused> {
        let of_range = || self.peers.values().filter(|peer| peer.origin == PeerOrigin::Range(range));
        if of_range().count() < most {
            return Ok(());
        }
        let gone = of_range().filter(|peer| peer.is_gone()).min_by_key(|peer| peer.shown().1);
        let address = gone.map(|peer| peer.address.clone()).ok_or(Refused::RangeFull)?;
        self.forget(&address);
        Ok(())
    }

    /// Forgets those for whom the time to come back is over.
    pub(super) fn forget_gone(&mut self) {
        let is_forgotten = |peer: &&Peer| peer.origin != PeerOrigin::Configured && peer.has_been_gone();
        let gone = self.peers.values().filter(is_forgotten).map(|peer| peer.address.clone());
        let gone: Vec<ScopedAddress> = gone.collect();
        gone.iter().for_each(|address| self.forget(address));
    }

    fn forget(&mut self, address: &ScopedAddress) {
        self.catch_up();
        let Some(id) = self.by_address.remove(address) else { return };
        self.rib.peer_removed(id);
        if let Some(peer) = self.peers.remove(&id) {
            self.sessions_lost += peer.sessions_lost;
            self.touched.insert(id); // its time goes, too
            self.bfd.touch();
            tracing::debug!(peer = %address, "forgotten: it is gone, and nothing is kept for it");
        }
    }

    /// Whether peers of `family` may come out of a range: after a restart nobody knows which of them had sessions.
    pub(super) fn may_come(&self, family: Family) -> bool {
        self.wanted.listen_ranges.values().any(|range| range.template.families.contains(&family))
    }
}
