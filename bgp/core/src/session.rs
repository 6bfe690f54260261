//! What two speakers agreed on: made once from both OPENs, then taken by encoder and decoder.

use std::collections::BTreeSet;

use crate::prefix::Family;
use crate::types::{Asn, HoldTime, PeerKind, RouterId};
use crate::wire::frame::{EXTENDED_MESSAGE_BYTES, STANDARD_MESSAGE_BYTES};
use crate::wire::{Capability, GracefulRestart, Open};

/// How AS numbers stand in AS_PATH and AGGREGATOR (RFC 6793).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsWidth {
    /// The peer is an old speaker.
    Two,
    /// Both offered the capability.
    Four,
}

impl AsWidth {
    /// Octets of one number.
    pub(crate) const fn octets(self) -> usize {
        match self {
            AsWidth::Two => 2,
            AsWidth::Four => 4,
        }
    }
}

/// Whether a session can do something, as agreed by both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreed {
    /// Both offered it.
    Yes,
    /// One did not.
    No,
}

/// The outcome of the negotiation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Same AS or another.
    pub kind: PeerKind,
    /// The AS the peer gave.
    pub peer_asn: Asn,
    /// The identifier it gave.
    pub peer_id: RouterId,
    /// Of AS numbers.
    pub as_width: AsWidth,
    /// The smaller of the two proposals (RFC 4271 section 4.2).
    pub hold_time: HoldTime,
    /// Spoken by both.
    pub families: BTreeSet<Family>,
    /// Longest message either side may send (RFC 8654).
    pub most_message_bytes: usize,
    /// Whether we may ask for routes again (RFC 2918).
    pub route_refresh: Agreed,
    /// The peer's graceful restart capability, if it sent one.
    pub peer_restart: Option<GracefulRestart>,
}

impl Session {
    /// From what we sent and what came. `ours` and `theirs` have passed all checks.
    pub fn negotiate(ours: &Open, theirs: &Open) -> Session {
        let both = |capability: Capability| ours.has(&capability) && theirs.has(&capability);
        let families =
            Family::ALL.into_iter().filter(|&family| ours.offers(family) && theirs.offers(family)).collect();
        Session {
            kind: if ours.asn == theirs.asn { PeerKind::Internal } else { PeerKind::External },
            peer_asn: theirs.asn,
            peer_id: theirs.router_id,
            as_width: if ours.has_four_octet_as() && theirs.has_four_octet_as() {
                AsWidth::Four
            } else {
                AsWidth::Two
            },
            hold_time: ours.hold_time.min(theirs.hold_time),
            families,
            most_message_bytes: if both(Capability::ExtendedMessage) {
                EXTENDED_MESSAGE_BYTES
            } else {
                STANDARD_MESSAGE_BYTES
            },
            route_refresh: if both(Capability::RouteRefresh) { Agreed::Yes } else { Agreed::No },
            peer_restart: theirs.graceful_restart().cloned(),
        }
    }
}
