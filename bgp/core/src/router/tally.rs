//! Numbers for those who watch many routers: as few as say how it goes, and cheap however large the tables are.

use crate::peer::{Admin, PeerState};
use crate::policy::Refusal;
use crate::prefix::Family;
use crate::rib::Counts;
use crate::types::ScopedAddress;
use std::collections::BTreeMap;

use super::Router;

/// See [`Router::tally`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// By address.
    pub peers: Vec<PeerTally>,
    /// Sessions that ended since the start, those of peers that were removed since among them.
    pub sessions_lost: u64,
    /// Of all peers.
    pub counts: BTreeMap<Family, Counts>,
    /// How often a path that a peer told was refused, since the start.
    pub refusals: BTreeMap<Refusal, u64>,
}

/// One peer of a [`Tally`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerTally {
    /// Where it is.
    pub address: ScopedAddress,
    /// For people.
    pub name: String,
    /// State of the connection that is furthest.
    pub state: PeerState,
    /// Whether the operator lets it be.
    pub admin: Admin,
    /// Sessions with it that ended, since it was configured.
    pub sessions_lost: u64,
    /// Its session of BFD, if it has one.
    pub bfd: Option<cambric_bfd::Status>,
}

impl Router {
    /// Takes time with the number of peers, not with that of routes.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally {
            sessions_lost: self.sessions_lost,
            refusals: self.rib.refusals().clone(),
            ..Tally::default()
        };
        for (address, id) in &self.by_address {
            let Some(peer) = self.peers.get(id) else { continue };
            tally.sessions_lost += peer.sessions_lost;
            for family in &peer.config.families {
                add(tally.counts.entry(*family).or_default(), self.rib.counts(*id, *family));
            }
            tally.peers.push(PeerTally {
                address: address.clone(),
                name: peer.config.name.clone(),
                state: peer.shown().0,
                admin: peer.admin(),
                sessions_lost: peer.sessions_lost,
                bfd: peer.bfd.clone(),
            });
        }
        tally
    }
}

fn add(sum: &mut Counts, counts: Counts) {
    let Counts { received, accepted, refused, not_kept, sent } = counts;
    sum.received += received;
    sum.accepted += accepted;
    sum.refused += refused;
    sum.not_kept += not_kept;
    sum.sent += sent;
}
