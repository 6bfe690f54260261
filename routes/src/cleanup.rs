//! Removes what is left of us: for a node that Cambric leaves.
//!
//! Recognised are routes by protocol [`PROTOCOL`] in the main table, of whatever metric, and objects and groups by the
//! same number. Routes go before groups, groups before the objects in them. Blocking, without the task, and only while
//! it does not run: what it finds would be gone and come again.
//!
//! An object or group that a route or a group of others stands on stays, and so do the objects of such a group: the
//! kernel would delete that route with it. It is told instead.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
};

use nix::errno::Errno;

use crate::{
    PROTOCOL,
    diff::Op,
    error::Error,
    kernel::{Blocking, Found, KernelNextHop, KernelRoute, NextHopContent, Table},
    mirror::{Borrower, Form},
    next_hops::NextHopId,
};

/// Stem of our files in the folder of run-time files: `fib.json` and its temporary one.
pub const RUN_STEM: &str = "fib";

/// The way to the kernel of one network namespace.
pub struct Cleanup {
    kernel: Blocking,
}

/// Something of ours in the kernel, shown in words: `route 10.244.2.0/24`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    op: Op,
    /// What of others stands on it.
    kept_for: Option<String>,
}

/// Why something of ours is still there.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// Deleting it would delete that, too.
    #[error("{0} stands on it")]
    Borrowed(String),
    /// The kernel refused.
    #[error(transparent)]
    Refused(#[from] io::Error),
}

impl Cleanup {
    /// In the network namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel refuses a socket.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { kernel: Blocking::open()? })
    }

    /// All of ours, in the order in which it can be removed. When all of it is, another look may find more, as a second
    /// route of ours in one place.
    ///
    /// # Errors
    /// The kernel does not list routes or next hops.
    pub fn find(&mut self) -> Result<Vec<Leftover>, Error> {
        Ok(leftovers(&self.kernel.list()?))
    }

    /// Removes one. What is gone already is success.
    ///
    /// # Errors
    /// [`RemoveError`]; all else can be removed all the same.
    pub fn remove(&mut self, leftover: &Leftover) -> Result<(), RemoveError> {
        if let Some(other) = &leftover.kept_for {
            return Err(RemoveError::Borrowed(other.clone()));
        }
        // No such route: ESRCH, no such object: ENOENT.
        let is_gone = |error: &io::Error| {
            [Errno::ESRCH, Errno::ENOENT].map(|e| Some(e as i32)).contains(&error.raw_os_error())
        };
        match self.kernel.write(&leftover.op) {
            Err(error) if !is_gone(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.op {
            Op::DeleteRoute { prefix, form: Form::Unreachable, .. } => {
                write!(f, "unreachable route {prefix}")
            }
            Op::DeleteRoute { prefix, .. } => write!(f, "route {prefix}"),
            Op::DeleteNextHop { id } => write!(f, "next hop {}", id.0),
            other => write!(f, "{other:?}"),
        }
    }
}

/// Ours among all.
fn leftovers(found: &[Found]) -> Vec<Leftover> {
    let routes = || {
        found.iter().filter_map(|object| match object {
            Found::Route(route) => Some(route),
            Found::NextHop(_) => None,
        })
    };
    let next_hops = || {
        found.iter().filter_map(|object| match object {
            Found::NextHop(next_hop) => Some(next_hop),
            Found::Route(_) => None,
        })
    };
    let kept = kept(routes(), next_hops());
    let is_group = |next_hop: &KernelNextHop| matches!(next_hop.content, NextHopContent::Group { .. });
    let ours = || next_hops().filter(|next_hop| next_hop.protocol == PROTOCOL);
    let (groups, objects): (Vec<_>, Vec<_>) = ours().partition(|next_hop| is_group(next_hop));
    let of_next_hop = |next_hop: &KernelNextHop| Leftover {
        op: Op::DeleteNextHop { id: next_hop.id },
        kept_for: kept.get(&next_hop.id).cloned(),
    };
    let ours = routes().filter(|route| route.table == Table::Main && route.protocol == PROTOCOL);
    ours.map(of_route).chain(groups.into_iter().chain(objects).map(of_next_hop)).collect()
}

/// Deleted by its own next hop and our protocol: IPv6 shows routes of one place as one, under the protocol of the first,
/// and those of others among them stay. If there is a second one of ours among them, the next look shows it.
fn of_route(route: &KernelRoute) -> Leftover {
    let KernelRoute { prefix, metric, shape, .. } = route;
    let op = Op::DeleteRoute { prefix: *prefix, metric: *metric, form: shape.form };
    Leftover { op, kept_for: None }
}

/// The numbers that something of others stands on, and what: routes and groups of theirs, and in groups that have to
/// stay the objects.
fn kept<'a>(
    routes: impl Iterator<Item = &'a KernelRoute>,
    next_hops: impl Iterator<Item = &'a KernelNextHop> + Clone,
) -> BTreeMap<NextHopId, String> {
    let mut kept = BTreeMap::new();
    for Borrower { prefix, protocol, id, .. } in routes.filter_map(Borrower::of) {
        kept.entry(id).or_insert_with(|| format!("route {prefix} of protocol {protocol}"));
    }
    let staying: BTreeSet<NextHopId> = kept.keys().copied().collect();
    for next_hop in next_hops {
        let NextHopContent::Group { members, .. } = &next_hop.content else { continue };
        if next_hop.protocol != PROTOCOL || staying.contains(&next_hop.id) {
            for member in members {
                kept.entry(*member).or_insert_with(|| format!("group {}", next_hop.id.0));
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        METRIC,
        mirror::Shape,
        next_hops::{Spread, tests::hop},
        wanted::Prefix,
    };

    fn route(prefix: &str, table: Table, protocol: u8, form: Form) -> Found {
        let prefix = Prefix::new(prefix.parse().expect("network"));
        let shape = Shape { form, source: None };
        Found::Route(KernelRoute { table, prefix, metric: METRIC, protocol, shape, siblings: Vec::new() })
    }

    fn object(id: u32, protocol: u8) -> Found {
        let content = NextHopContent::Object(hop("10.1.0.1", 2));
        Found::NextHop(KernelNextHop { id: NextHopId(id), protocol, content })
    }

    fn group(id: u32, protocol: u8, members: &[u32]) -> Found {
        let members = members.iter().copied().map(NextHopId).collect();
        let content = NextHopContent::Group { members, spread: Spread::Even };
        Found::NextHop(KernelNextHop { id: NextHopId(id), protocol, content })
    }

    fn words(found: &[Found]) -> Vec<String> {
        let in_words = |leftover: &Leftover| match &leftover.kept_for {
            Some(other) => format!("{leftover}: {other} stands on it"),
            None => leftover.to_string(),
        };
        leftovers(found).iter().map(in_words).collect()
    }

    #[test]
    fn routes_go_before_groups_and_groups_before_objects_and_foreign_ones_stay() {
        let other_table = Table::Other { table: 100, tos: 0 };
        let found = [
            object(5, PROTOCOL),
            object(6, 4),
            group(9, PROTOCOL, &[5]),
            route("10.9.0.0/24", Table::Main, PROTOCOL, Form::Group(NextHopId(9))),
            route("10.244.1.0/24", Table::Main, PROTOCOL, Form::Unreachable),
            route("10.8.0.0/24", Table::Main, 4, Form::Plain(hop("10.1.0.1", 2))),
            route("10.7.0.0/24", other_table, PROTOCOL, Form::Plain(hop("10.1.0.1", 2))),
        ];
        let expected = ["route 10.9.0.0/24", "unreachable route 10.244.1.0/24", "next hop 9", "next hop 5"];
        assert_eq!(words(&found), expected);
    }

    #[test]
    fn what_others_stand_on_is_told_with_its_members() {
        let found = [
            object(5, PROTOCOL),
            object(6, PROTOCOL),
            object(7, PROTOCOL),
            group(9, PROTOCOL, &[5]),
            group(10, 4, &[6]),
            route("10.8.0.0/24", Table::Main, 4, Form::Group(NextHopId(9))),
        ];
        let expected = [
            "next hop 9: route 10.8.0.0/24 of protocol 4 stands on it",
            "next hop 5: group 9 stands on it",
            "next hop 6: group 10 stands on it",
            "next hop 7",
        ];
        assert_eq!(words(&found), expected);
    }
}
