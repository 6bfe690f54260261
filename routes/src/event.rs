//! What the task tells without being asked, and what it answers when asked.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use crate::{
    next_hops::{Hop, NextHopId},
    wanted::{PerFamily, Prefix},
};

/// Something the caller may want to act on or to show. When nobody takes them, new ones are dropped: all of
/// them can be seen in the link table or the [`Snapshot`], too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An interface stopped carrying packets; its next hops are out of the kernel.
    LinkDown {
        /// Its name.
        name: String,
    },
    /// An interface carries packets; its next hops are being rebuilt.
    LinkUp {
        /// Its name.
        name: String,
    },
    /// Addresses came, went or finished their probing.
    AddressesChanged,
    /// Another program has a route for a wanted prefix with our metric. It is left alone. Ours is not installed, or
    /// was there first: then it wins (IPv4) or shares the packets with the other one (IPv6).
    ForeignConflict {
        /// The prefix.
        prefix: Prefix,
        /// Protocol number of the foreign route; 0 if the kernel does not tell.
        protocol: u8,
    },
    /// Another program has a route for a wanted prefix with a lower metric than ours. It is left alone, and packets go
    /// its way. Told once until all such routes for the prefix are gone.
    RouteHidden {
        /// The prefix.
        prefix: Prefix,
        /// The route that goes before ours.
        by: ForeignRoute,
    },
    /// Nothing of ours needs this object or group any more. It stays, for other programs point to it: the kernel
    /// would delete their routes with it. Told once.
    NextHopBorrowed {
        /// Its number.
        id: NextHopId,
    },
    /// The kernel refused a write; it is tried again. Told once until it succeeds.
    WriteFailed {
        /// What was to be written.
        what: FailedWrite,
        /// The kernel's error number.
        errno: i32,
    },
    /// Routes go without their preferred source, for the node lacks that address now.
    PreferredSourceMissing {
        /// The address.
        address: IpAddr,
    },
    /// Another program undoes what we write, again and again: repairs are held back. Told once in a contest.
    Contested {
        /// How many prefixes are new in it.
        count: usize,
        /// One of them.
        example: Prefix,
    },
    /// What others had changed or the kernel had dropped is as wanted again.
    Repaired {
        /// How we learned of it.
        cause: RepairCause,
        /// Routes, or groups if a group repaired them all.
        count: usize,
    },
}

/// A route of another program in the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ForeignRoute {
    /// Its metric: the lowest one of a prefix carries the packets.
    pub metric: u32,
    /// Its protocol number.
    pub protocol: u8,
}

/// What the kernel refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailedWrite {
    /// A route.
    Route(Prefix),
    /// A next-hop object; routes use the remaining ones meanwhile.
    NextHop(Hop),
    /// A group.
    Group(NextHopId),
}

/// How a difference came to light.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RepairCause {
    /// Another program deleted the route.
    RouteDeleted,
    /// Another program changed the route.
    RouteChanged,
    /// Another program deleted an object or a group, and routes went with it.
    NextHopDeleted,
    /// Another program changed an object or a group.
    NextHopChanged,
    /// The kernel dropped it with a link or an address.
    LinkLost,
    /// Events were lost; a listing showed it.
    Overrun,
    /// No event told; the regular check showed it.
    Check,
}

impl fmt::Display for RepairCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RouteDeleted => "route-deleted",
            Self::RouteChanged => "route-changed",
            Self::NextHopDeleted => "next-hop-deleted",
            Self::NextHopChanged => "next-hop-changed",
            Self::LinkLost => "link-lost",
            Self::Overrun => "overrun",
            Self::Check => "check",
        })
    }
}

/// The state of the routes at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Wanted routes.
    pub wanted: PerFamily<usize>,
    /// Learned routes of ours in the kernel, stale ones among them.
    pub learned: PerFamily<usize>,
    /// Unreachable routes of ours in the kernel.
    pub unreachable: PerFamily<usize>,
    /// Routes of ours that an earlier run left and nobody has claimed yet.
    pub stale: PerFamily<usize>,
    /// Prefixes queued for writing.
    pub pending: usize,
    /// Prefixes whose write was refused and is tried again.
    pub failing: usize,
    /// Next-hop objects.
    pub objects: BTreeMap<NextHopId, Hop>,
    /// Groups: what they spread over, and how many routes use them.
    pub groups: BTreeMap<NextHopId, GroupState>,
    /// Learned routes by the next hop that carries them; one over several next hops counts for each.
    pub by_gateway: BTreeMap<Hop, usize>,
    /// Wanted prefixes for which another program has a route with our metric, with its protocol; 0 if the kernel
    /// does not tell.
    pub conflicts: BTreeMap<Prefix, u8>,
    /// Wanted prefixes for which another program has a route with a lower metric, which carries the packets. Subnets
    /// of the node's own interfaces are not among them.
    pub hidden: BTreeMap<Prefix, ForeignRoute>,
    /// Prefixes that another program keeps undoing, with the number of repairs in this contest. They are repaired
    /// once a second at most.
    pub contested: BTreeMap<Prefix, u64>,
    /// Objects and groups that are kept for other programs only, with the number of their routes that point to it
    /// (0: a group of theirs does).
    pub borrowed: BTreeMap<NextHopId, usize>,
    /// Next hops that are not used, and why.
    pub unusable: BTreeMap<Hop, Unusable>,
    /// Repairs since the start.
    pub repairs: BTreeMap<RepairCause, u64>,
    /// How often events were lost.
    pub overruns: u64,
    /// How often everything was compared with the kernel.
    pub checks: u64,
}

/// As much of a [`Snapshot`] as costs nothing, however many routes there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Learned routes of ours in the kernel, stale ones among them.
    pub learned: PerFamily<usize>,
    /// Unreachable routes of ours in the kernel.
    pub unreachable: PerFamily<usize>,
    /// Prefixes queued for writing.
    pub pending: usize,
    /// Prefixes whose write was refused and is tried again.
    pub failing: usize,
    /// Repairs since the start.
    pub repairs: BTreeMap<RepairCause, u64>,
    /// How often events were lost.
    pub overruns: u64,
    /// How often everything was compared with the kernel.
    pub checks: u64,
}

/// One group of a [`Snapshot`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupState {
    /// What it spreads over.
    pub hops: Vec<Hop>,
    /// Routes that point to it.
    pub routes: usize,
}

/// Why a wanted next hop is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// The caller said it is lost.
    Lost,
    /// Its link is down.
    LinkDown,
    /// The kernel refused it; tried again.
    Refused,
}
