//! What two speakers agreed on: made once from both OPENs, then taken by encoder and decoder.

use std::collections::BTreeSet;

use crate::config::Role;
use crate::prefix::Family;
use crate::types::{Asn, HoldTime, PeerKind, RouterId};
use crate::wire::frame::{EXTENDED_MESSAGE_BYTES, STANDARD_MESSAGE_BYTES};
use crate::wire::{Capability, GracefulRestart, LongLivedGracefulRestart, Open};

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

/// Whether prefixes of a family have the identifier of a path before them, in one direction (RFC 7911 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PathIds {
    /// There is one path to a prefix at most.
    #[default]
    Absent,
    /// There may be several.
    Present,
}

impl PathIds {
    /// Octets of one identifier.
    pub(crate) const fn octets(self) -> usize {
        match self {
            PathIds::Absent => 0,
            PathIds::Present => 4,
        }
    }
}

/// Families with several paths to a prefix, by direction (RFC 7911 section 4).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddPath {
    /// The peer tells us several.
    pub receive: BTreeSet<Family>,
    /// We may tell it several.
    pub send: BTreeSet<Family>,
}

/// All of a session that the reading of attributes depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) kind: PeerKind,
    /// AS_PATH begins with it.
    pub(crate) peer_asn: Asn,
    pub(crate) as_width: AsWidth,
    pub(crate) leftmost_as: LeftmostAs,
}

/// Whose AS stands first in the paths of an external peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LeftmostAs {
    /// Its own (RFC 4271 section 6.3).
    #[default]
    Peers,
    /// Anybody's: it is a route server, and we are its client (RFC 7947 section 2.2.2.1).
    Anybodys,
}

/// Whether a session can do something, as agreed by both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreed {
    /// Both offered it.
    Yes,
    /// One did not.
    No,
}

/// How far the addresses of a session reach (RFC 4007 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Anywhere.
    Global,
    /// They are link-local: so may be next hops, which are on the same link then.
    Link,
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
    /// What its paths begin with.
    pub leftmost_as: LeftmostAs,
    /// The smaller of the two proposals (RFC 4271 section 4.2).
    pub hold_time: HoldTime,
    /// Spoken by both.
    pub families: BTreeSet<Family>,
    /// Of the addresses at its ends.
    pub scope: Scope,
    /// Whether IPv4 routes may have IPv6 next hops (RFC 8950).
    pub extended_next_hop: Agreed,
    /// Longest message either side may send (RFC 8654).
    pub most_message_bytes: usize,
    /// Whether we may ask for routes again (RFC 2918).
    pub route_refresh: Agreed,
    /// Whether the answer to it is framed, so that what is not in it is gone (RFC 7313).
    pub enhanced_refresh: Agreed,
    /// Where there may be several paths to a prefix.
    pub add_path: AddPath,
    /// The peer's graceful restart capability, if it sent one.
    pub peer_restart: Option<GracefulRestart>,
    /// Whether routes outlive a NOTIFICATION that is no Hard Reset (RFC 8538).
    pub graceful_notification: Agreed,
    /// What the peer said of long-lived graceful restart, if both speak it (RFC 9494).
    pub peer_long_lived: Option<LongLivedGracefulRestart>,
    /// What it was agreed from, for display.
    pub offered: Offered,
}

/// The capabilities of both OPENs, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offered {
    /// What we sent.
    pub ours: Vec<Capability>,
    /// What came.
    pub theirs: Vec<Capability>,
    /// The hold times that we and the peer proposed.
    pub hold_times: (HoldTime, HoldTime),
}

impl Session {
    pub(crate) fn form(&self) -> Form {
        Form {
            kind: self.kind,
            peer_asn: self.peer_asn,
            as_width: self.as_width,
            leftmost_as: self.leftmost_as,
        }
    }

    /// How prefixes stand in what the peer tells.
    pub(crate) fn received_path_ids(&self, family: Family) -> PathIds {
        path_ids(&self.add_path.receive, family)
    }

    /// How they stand in what it is told.
    pub(crate) fn sent_path_ids(&self, family: Family) -> PathIds {
        path_ids(&self.add_path.send, family)
    }

    /// Both OPENs, once more: ours had this AS and identifier.
    pub(crate) fn opens(&self, own_asn: Asn, own_id: RouterId) -> (Open, Open) {
        let Offered { ours, theirs, hold_times } = self.offered.clone();
        let ours = Open { asn: own_asn, hold_time: hold_times.0, router_id: own_id, capabilities: ours };
        let (asn, router_id) = (self.peer_asn, self.peer_id);
        (ours, Open { asn, hold_time: hold_times.1, router_id, capabilities: theirs })
    }

    /// From what we sent and what came. `ours` and `theirs` have passed all checks. Of the scope they say nothing.
    pub fn negotiate(ours: &Open, theirs: &Open) -> Session {
        let both = |capability: Capability| ours.has(&capability) && theirs.has(&capability);
        let families: BTreeSet<Family> =
            Family::ALL.into_iter().filter(|&family| ours.offers(family) && theirs.offers(family)).collect();
        let several = |from: &Open, to: &Open| {
            let agreed = |family: &Family| {
                let sends = from.add_path(*family).is_some_and(|said| said.sends);
                sends && to.add_path(*family).is_some_and(|said| said.receives)
            };
            families.iter().copied().filter(agreed).collect()
        };
        let add_path = AddPath { receive: several(theirs, ours), send: several(ours, theirs) };
        let agreed = |both: bool| if both { Agreed::Yes } else { Agreed::No };
        let speaks_notification = |open: &Open| open.graceful_restart().is_some_and(|sent| sent.notification);
        // RFC 9494 section 4.1: it counts only beside graceful restart.
        let speaks_long_lived =
            |open: &Open| open.long_lived().filter(|_| open.graceful_restart().is_some()).cloned();
        Session {
            kind: if ours.asn == theirs.asn { PeerKind::Internal } else { PeerKind::External },
            peer_asn: theirs.asn,
            peer_id: theirs.router_id,
            as_width: if ours.has_four_octet_as() && theirs.has_four_octet_as() {
                AsWidth::Four
            } else {
                AsWidth::Two
            },
            leftmost_as: match ours.roles().any(|role| role == Role::RouteServerClient.octet()) {
                true => LeftmostAs::Anybodys,
                false => LeftmostAs::Peers,
            },
            hold_time: ours.hold_time.min(theirs.hold_time),
            families,
            add_path,
            scope: Scope::Global,
            extended_next_hop: agreed(ours.offers_ipv4_over_ipv6() && theirs.offers_ipv4_over_ipv6()),
            most_message_bytes: if both(Capability::ExtendedMessage) {
                EXTENDED_MESSAGE_BYTES
            } else {
                STANDARD_MESSAGE_BYTES
            },
            route_refresh: agreed(both(Capability::RouteRefresh)),
            enhanced_refresh: agreed(both(Capability::EnhancedRouteRefresh)),
            peer_restart: theirs.graceful_restart().cloned(),
            graceful_notification: agreed(speaks_notification(ours) && speaks_notification(theirs)),
            peer_long_lived: speaks_long_lived(theirs).filter(|_| ours.long_lived().is_some()),
            offered: Offered {
                ours: ours.capabilities.clone(),
                theirs: theirs.capabilities.clone(),
                hold_times: (ours.hold_time, theirs.hold_time),
            },
        }
    }
}

fn path_ids(families: &BTreeSet<Family>, family: Family) -> PathIds {
    if families.contains(&family) { PathIds::Present } else { PathIds::Absent }
}
