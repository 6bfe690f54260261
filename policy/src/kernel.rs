//! The kernel's side: sets of ipset and tables of nf_tables, by netlink.
//!
//! Everything here blocks, for a few microseconds as a rule, and is used by one thread. No tool is run. What is
//! written can be read back and is then equal; what is read back and is none of ours is told as such. Nothing of
//! any other program is looked at but the names of its chains, nor changed.
//!
//! - `ipset`: sets and members; those of others in ours, too.
//! - `operation`, `batch`: our tables, all or nothing.
//! - `expression`: statements of a rule as expressions of the kernel, and back.
//! - `held`: what is there.
//! - `requirements`: what the kernel lacks.
//! - `watch`: what others change in our tables.
//! - `log`: packets that were denied.
//! - `message`, `socket`: netlink itself.

mod batch;
mod expression;
mod held;
mod ipset;
mod log;
mod message;
mod operation;
mod requirements;
mod socket;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use nix::errno::Errno;

pub use batch::CommitError;
pub use expression::Foreign;
pub use held::{Counted, Held, HeldArp, HeldBase, HeldChain, HeldFamily, HeldRule, HeldTable, TableState};
pub use ipset::{ForeignMember, HeldSet, Reason};
pub use log::{Denied, LogReader};
pub use operation::{Guard, Operation};
pub use watch::{Event, Watch};

use crate::program::{Family, Member, Set, SetKind, SetName};
use ipset::Ipset;
use socket::Socket;

/// Why something could not be read or done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No socket, or no way through it.
    #[error("netlink: {0}")]
    Socket(#[from] io::Error),
    /// The kernel said something that cannot be read.
    #[error("the kernel's answer cannot be read: {}", .0.0)]
    Damaged(#[from] Damaged),
    /// The kernel refused what it was asked.
    #[error("{}", ipset::words(*.0))]
    Refused(i32),
    /// The kernel refused something about a set.
    #[error("set {set}: {}", ipset::words(*.errno))]
    Set {
        /// Which.
        set: SetName,
        /// The kernel's number, or ipset's.
        errno: i32,
    },
    /// Some members were refused, or stand behind many in a row that were; all others that were tried are in.
    #[error("set {set}: {}", refusals(.refused))]
    Members {
        /// Of which set.
        set: SetName,
        /// Which and why; never empty.
        refused: Vec<(Member, Reason)>,
    },
    /// The NFLOG group cannot be read.
    #[error("NFLOG group {group} is read by another process: {}", io::Error::from_raw_os_error(*.errno))]
    LogGroup {
        /// Which.
        group: u16,
        /// The kernel's number.
        errno: i32,
    },
    /// Others change nf_tables or the sets faster than they can be read.
    #[error("it changes faster than it can be read")]
    Restless,
}

impl Error {
    /// A set that a rule names, or that of a rule that the kernel has not freed yet.
    pub(crate) fn is_in_use(&self) -> bool {
        matches!(self, Error::Set { errno: ipset::BUSY, .. })
    }

    /// Nobody in the kernel serves the subsystem, so there is nothing of it.
    pub(crate) fn is_not_served(&self) -> bool {
        match self {
            Error::Refused(errno) => *errno == Errno::EINVAL as i32 || *errno == Errno::EOPNOTSUPP as i32,
            Error::Socket(error) => error.raw_os_error() == Some(Errno::EPROTONOSUPPORT as i32),
            _ => false,
        }
    }

    /// A refusal, told as one of this set.
    fn of_set(self, set: &SetName) -> Error {
        match self {
            Error::Refused(errno) => Error::Set { set: set.clone(), errno },
            error => error,
        }
    }
}

fn refusals(refused: &[(Member, Reason)]) -> String {
    let Some((member, reason)) = refused.first() else { return "refused".to_owned() };
    let more = refused.len() - 1;
    let first = format!("{member:?} was refused: {reason}");
    if more == 0 { first } else { format!("{first}; and {more} more") }
}

/// What cannot be read, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Damaged(&'static str);

/// The way to the kernel of one network namespace.
#[derive(Debug)]
pub struct Kernel {
    ipset: Ipset,
    tables: Socket,
}

impl Kernel {
    /// In the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// Without CAP_NET_ADMIN over the namespace nothing can be asked.
    pub fn open() -> Result<Kernel, Error> {
        Ok(Kernel { ipset: Ipset::open()?, tables: Socket::open()? })
    }

    /// The number of the socket that tables are written through: it is the owner of what is made [`Guard::Owned`],
    /// and events of nf_tables tell it.
    pub fn port(&self) -> u32 {
        self.tables.port()
    }

    /// Makes a set with room for so many members without growing, and for `most` at all (the kernel counts by parts
    /// of its table and may take a few more). One of the same kind and size that is there already is success.
    pub fn create_set(
        &mut self,
        family: Family,
        name: &SetName,
        kind: SetKind,
        room: usize,
        most: u32,
    ) -> Result<(), Error> {
        self.ipset.create(family, name, kind, room, most)
    }

    /// Adds members; those that are in it already are none too much.
    ///
    /// # Errors
    ///
    /// [`Error::Members`] names those that were refused, after all others were added; once the set is full no more
    /// are tried. When many in a row are refused for one reason it speaks for all behind them.
    pub fn add_members(&mut self, family: Family, name: &SetName, members: &[Member]) -> Result<(), Error> {
        self.ipset.add(family, name, members)
    }

    /// Removes members; those that are not in it are none too many.
    pub fn del_members(&mut self, family: Family, name: &SetName, members: &[Member]) -> Result<(), Error> {
        self.ipset.del(family, name, members)
    }

    /// Removes members that are none of ours, as they were read.
    pub fn del_foreign(&mut self, name: &SetName, members: &BTreeSet<ForeignMember>) -> Result<(), Error> {
        self.ipset.del_foreign(name, members)
    }

    /// Removes a set. One that is not there is success; one that a rule names is an error (IPSET_ERR_BUSY).
    pub fn destroy_set(&mut self, name: &SetName) -> Result<(), Error> {
        self.ipset.destroy(name)
    }

    /// The names of all sets that are ours by their names.
    pub fn set_names(&mut self) -> Result<BTreeSet<SetName>, Error> {
        self.ipset.names()
    }

    /// How many members each set has that is ours by its name: the members themselves do not travel.
    pub fn set_sizes(&mut self) -> Result<BTreeMap<SetName, usize>, Error> {
        self.ipset.sizes()
    }

    /// A set; `None`: there is none of this name, or it is of a kind that is none of ours.
    pub fn held_set(&mut self, name: &SetName) -> Result<Option<HeldSet>, Error> {
        self.ipset.read(name)
    }

    /// What of a set can be ours; see [`Kernel::held_set`].
    pub fn set(&mut self, name: &SetName) -> Result<Option<(Family, Set)>, Error> {
        Ok(self.held_set(name)?.map(|HeldSet { family, set, .. }| (family, set)))
    }

    /// All sets that are ours by their names and kinds.
    pub fn sets(&mut self) -> Result<BTreeMap<SetName, (Family, Set)>, Error> {
        let mut sets = BTreeMap::new();
        for name in self.set_names()? {
            if let Some(set) = self.set(&name)? {
                sets.insert(name, set);
            }
        }
        Ok(sets)
    }

    /// Our tables.
    pub fn read(&mut self) -> Result<Held, Error> {
        held::read(&mut self.tables, &mut self.ipset)
    }

    /// Which of our tables there are, and how they stand.
    pub fn tables(&mut self) -> Result<Vec<(HeldFamily, TableState)>, Error> {
        held::tables(&mut self.tables)
    }

    /// The generation of all nf_tables: one more with each batch of anybody.
    pub fn generation(&mut self) -> Result<u32, Error> {
        held::generation(&mut self.tables)
    }

    /// What the rules of our tables have counted.
    pub fn counters(&mut self) -> Result<Vec<Counted>, Error> {
        held::counters(&mut self.tables)
    }

    /// What the kernel lacks for all of this, in words that name the option; empty: nothing. Leaves nothing behind.
    pub fn requirements(&mut self) -> Result<Vec<String>, Error> {
        requirements::find(&mut self.tables, &mut self.ipset)
    }

    /// The best guard that the kernel knows.
    pub fn guard(&mut self) -> Result<Guard, Error> {
        requirements::guard(&mut self.tables)
    }

    /// Hears from now on what others change in our tables.
    pub fn watch(&self) -> Result<Watch, Error> {
        Watch::open(BTreeSet::from([self.port()]))
    }

    /// Does all of the operations, or none. With a generation: only if nobody changed nf_tables since that one was
    /// read; the generation afterwards is then [`next_generation`] of it. A veth is never led to a chain that is
    /// made in the same batch, but if table or map are new (see `batch`).
    pub fn commit(&mut self, operations: &[Operation], generation: Option<u32>) -> Result<(), CommitError> {
        batch::send(&mut self.tables, &mut self.ipset, operations, generation)
    }
}

/// The generation after one more batch (`nf_tables_commit`: 0 is passed over).
pub fn next_generation(generation: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}
