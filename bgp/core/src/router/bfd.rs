//! Which sessions of BFD there should be, and how they are.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use cambric_bfd::{Config, Status};

use super::Router;
use crate::peer::Admin;
use crate::types::PeerId;

/// A session of BFD with a peer, for the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BfdSession {
    /// Where the peer is.
    pub address: IpAddr,
    /// Source address of our packets; the kernel's choice if absent.
    pub local: Option<IpAddr>,
    /// The interface the peer is on; what the routes say if absent.
    pub interface: Option<String>,
    /// How it should be.
    pub config: Config,
}

/// What the driver was told.
#[derive(Debug, Default)]
pub(super) struct Bfd {
    /// Something has changed that may have changed which there should be.
    touched: bool,
    told: BTreeMap<PeerId, BfdSession>,
}

impl Bfd {
    pub(super) fn touch(&mut self) {
        self.touched = true;
    }
}

impl Router {
    const LONGEST_OF_BFD: Duration = Duration::from_secs(3);

    /// All sessions of BFD that should be, if they are not those that this gave last. It is work: poll it after each call.
    /// Those with peers that are disabled or gone should not be; all others whatever their session of BGP is (RFC 5882
    /// section 4.1).
    pub fn poll_bfd(&mut self) -> Option<&BTreeMap<PeerId, BfdSession>> {
        if !std::mem::take(&mut self.bfd.touched) {
            return None;
        }
        let wanted = self.peers.values().filter(|peer| peer.admin() == Admin::Enabled);
        let wanted: BTreeMap<PeerId, BfdSession> = wanted
            .filter_map(|peer| {
                let transport = &peer.config.transport;
                let on_link = peer.address.interface().map(str::to_owned);
                let session = BfdSession {
                    address: peer.address.ip(),
                    local: transport.local_address,
                    interface: on_link.or_else(|| transport.interface.clone()),
                    config: peer.config.bfd?,
                };
                Some((peer.id, session))
            })
            .collect();
        if wanted == self.bfd.told {
            return None;
        }
        self.bfd.told = wanted;
        Some(&self.bfd.told)
    }

    /// After a restart: how long peers take to miss the sessions of BFD of the run before, as far as we know.
    ///
    /// Until then no session of BGP should begin. They take packets of a new run for strangers' as long as that of the old one
    /// is up, and when it runs out they end what session of BGP there is then, as FRR and BIRD do; while there is none, they
    /// wait for it (RFC 5882 section 4.3.2.2). It is no longer than 3 s: peers wait for us for a time of their own.
    pub fn bfd_outlives_us_for(&self) -> Option<Duration> {
        let peers = self.peers.values().map(|peer| &peer.config);
        let ranges = self.wanted.listen_ranges.values().map(|range| &range.template);
        let sessions = peers.chain(ranges).filter_map(|config| config.bfd);
        let missed = sessions.map(|bfd| bfd.transmit.max(bfd.receive) * u32::from(bfd.multiplier.get()));
        let missed = missed.max().filter(|_| self.identity.restart.restarted);
        missed.map(|missed| missed.min(Self::LONGEST_OF_BFD))
    }

    /// That time is over: from now on sessions may begin, and peers of the run before are waited for.
    pub fn handle_bfd_run_out(&mut self, now: Instant) {
        self.convergence.started_at = now;
        self.after(now);
    }

    /// How the session of BFD with a peer is now; `None`: there is none. Only the last of several in a row need be told.
    pub fn handle_bfd(&mut self, now: Instant, peer: PeerId, status: Option<Status>) {
        if self.peers.get(&peer).is_none_or(|known| known.bfd == status) {
            return;
        }
        self.with_peer(now, peer, |peer, cx| peer.handle_bfd(cx, status));
        self.after(now);
    }
}
