//! `mrt dump`: all tables as a file of MRT, a piece at a time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cambric_api::{Dump, Reply};
use cambric_bgp::Router;
use cambric_bgp::mrt::{MrtPeer, TableDump};
use cambric_bgp::rib::Part;
use cambric_bgp::router::PeerStatus;

use super::client::Replies;
use super::routes::pieces;
use super::{Fault, peers};
use crate::state::Shared;

/// Octets of a line.
const PIECE_BYTES: usize = 256 << 10;

pub(super) async fn dump(shared: &Shared, replies: &mut Replies<'_>) -> Result<Reply, Fault> {
    let speaker = peers::speaker(shared)?;
    let clock = Clock::now();
    let (peers, own) =
        speaker.look(|router: &Router| (router.peers(), router.wanted().router.clone())).await?;
    let others = peers.iter().map(|peer| listed(peer, &clock));
    let ourselves = MrtPeer::ourselves(own.asn, own.router_id, clock.seconds);
    let mut dump = TableDump::new(clock.seconds, std::iter::once(ourselves).chain(others));
    let (mut octets, mut whole) = (Vec::new(), Dump::default());
    dump.peers(own.router_id, &mut octets);
    for piece in pieces(&speaker, Part::All).await? {
        let routes = speaker.look(move |router| router.routes_to(&piece)).await?;
        whole.prefixes += routes.len();
        whole.paths += dump.routes(&routes, &mut octets);
        for piece in octets.chunks(PIECE_BYTES) {
            replies.send(&Reply { more: true, ..Reply::dump(Dump::of(piece)) }).await?;
        }
        octets.clear();
    }
    Ok(Reply::dump(Dump { octets: Dump::of(&octets).octets, ..whole }))
}

/// A moment on both clocks.
struct Clock {
    at: Instant,
    seconds: u32,
}

impl Clock {
    fn now() -> Clock {
        // 32 bits do until 2106 (RFC 6396 section 2).
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Clock { at: Instant::now(), seconds: u32::try_from(since.as_secs()).unwrap_or(u32::MAX) }
    }

    fn seconds_at(&self, then: Instant) -> u32 {
        let ago = self.at.saturating_duration_since(then).as_secs();
        self.seconds.saturating_sub(u32::try_from(ago).unwrap_or(u32::MAX))
    }
}

fn listed(peer: &PeerStatus, clock: &Clock) -> MrtPeer {
    MrtPeer {
        id: Some(peer.id),
        address: peer.address.ip(),
        asn: peer.asn,
        router_id: peer.session.as_ref().map(|session| session.peer_id),
        since_s: clock.seconds_at(peer.since),
    }
}
