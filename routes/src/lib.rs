//! Makes the kernel's FIB equal the wanted routes, and keeps it so.
//!
//! The caller says which prefixes it wants and through which next hops ([`Routes::set`]); this crate knows
//! nothing of BGP. It writes routes of protocol [`PROTOCOL`] and metric [`METRIC`] into the main table, and
//! touches no other.
//!
//! # How data passes
//!
//! ```text
//! Change --> pending prefixes --> diff(wanted, mirror, links) --> batches --> kernel
//!                 ^                        ^                                    |
//!                 |                        +-- mirror <-- accepted writes ------+
//!                 +------- differences ------- events and listings <-----------+
//! ```
//!
//! `mirror` is what the kernel holds: first listed, then followed by events (watch first, then list, then
//! deltas, and a slow full check beside them). Whatever may differ is queued by prefix, compared when its
//! turn comes, and written in batches without an acknowledgement for each message. `wanted` and `mirror` are
//! compared by plain functions in `diff`; `fib` holds all state and does no I/O; `kernel` is the only module
//! that talks to the system, `record` the only one that touches a file; `task` joins them.
//!
//! # Next hops
//!
//! A route with several usable next hops points to a **group** of next-hop objects. When one of them is lost
//! ([`Routes::next_hop_lost`]), deleting its object moves all routes of all its groups at once, whatever
//! their number. The route then stays on the shrunken group; making it plain is left for a quiet moment, for
//! the lost next hop usually returns and the group then grows again by one message. A route with **one**
//! usable next hop carries it in itself: such a route survives a carrier flap without us.
//!
//! New objects are numbered from 203 000 001, new groups from 203 500 001, to be recognised in `ip nexthop`.
//! With `net.ipv4.nexthop_compat_mode=1`, the kernel's default, programs that know no next-hop objects see
//! gateways in our routes as ever; with 0 they see a number only, and changing a group costs the kernel
//! nothing for each route. Both work.
//!
//! Carrier loss makes the kernel delete objects, groups and their routes without a word. So the link event is
//! the signal: on down the mirror drops what the kernel dropped, on up all is built again. A next hop whose
//! link is down is not used; a prefix without any waits for its link. A next hop that the kernel refuses (its
//! link came up, its address is not valid yet) is tried again on the next event of its link and after 1 ms,
//! doubling up to 1 s.
//!
//! # Repairs
//!
//! What others delete or change is as wanted again within milliseconds of the kernel's event, and counted by
//! cause ([`Snapshot::repairs`]). A prefix that another program keeps undoing is repaired ten times at once, then
//! once a second ([`Event::Contested`]). When events are lost, a listing is compared with the mirror; a slow one
//! beside it finds what no event told. However much asks for listings, each begins five times as long after the
//! one before as that one took; only the regular one does not wait for that.
//!
//! # Restart
//!
//! Nothing is deleted at the end. At the start everything of our protocol is adopted: what is wanted as it
//! stands is not touched, and what nobody wants stays until [`Routes::allow_sweep`]. [`Routes::kept`] says
//! whether the kernel still holds what the last run left.
//!
//! [`cleanup`] removes all of it from a node that Cambric leaves: blocking, and without the task.
//!
//! # Deliberately not here
//!
//! BGP, other tables, weights, and a precomputed backup next hop (a route with one next hop is rewritten when
//! it changes). Routes of other programs are never changed or removed: one that has our prefix with our
//! metric is told as [`Event::ForeignConflict`], one with a lower metric as [`Event::RouteHidden`], and an object or
//! group they point to is kept for them ([`Event::NextHopBorrowed`]).

#![forbid(unsafe_code)]

pub mod cleanup;

mod config;
mod contest;
mod diff;
mod error;
mod event;
mod fib;
mod handle;
mod intern;
mod kernel;
mod links;
mod mirror;
mod neighbors;
mod next_hops;
mod pending;
mod record;
mod task;
mod wanted;

pub use self::{
    config::Config,
    error::{Ended, Error},
    event::{Counts, Event, FailedWrite, ForeignRoute, GroupState, RepairCause, Snapshot, Unusable},
    handle::Routes,
    links::{Link, LinkAddress, LinkTable},
    neighbors::{Neighbor, NeighborState},
    next_hops::{Hop, LinkIndex, NextHopId},
    record::Kept,
    task::Task,
    wanted::{Change, Family, NextHop, PerFamily, Prefix, Target, WantedRoute},
};

/// Route protocol number (`rtm_protocol`) of our routes and next-hop objects.
pub const PROTOCOL: u8 = 203;

/// Metric of our routes: an operator's route with a lower one wins, and the two never collide.
pub const METRIC: u32 = 203;
