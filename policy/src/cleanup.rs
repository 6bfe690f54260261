//! Removes what is left of us: for a node that Cambric leaves.
//!
//! Tables go by their name, `cambric`, sets by names that only we make. Rules before sets: a set that a rule names cannot
//! go. Pods that are still wired are judged by nobody after this, so whoever calls it has cut them off before.

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::diff::is_ours;
use crate::kernel::{CommitError, Error, HeldFamily, Kernel, Operation};
use crate::program::{SetName, TABLE};

/// How long the kernel may take to free the rules of a table that is gone: until then the sets that they named are in
/// use (`nf_tables_trans_destroy_work`, after an RCU grace period).
const FREEING: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// The way to the kernel of one network namespace.
#[derive(Debug)]
pub struct Cleanup {
    /// `None`: one without netfilter.
    kernel: Option<Kernel>,
    /// From then on a set that is in use is so for another reason than rules that were removed here.
    freed_by: Instant,
}

/// Something of ours in the kernel, shown in words: `table ip cambric`, `set cam4self`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leftover {
    /// A table, with all that is in it.
    Table {
        /// Of which family.
        family: HeldFamily,
        /// Whether a process that is alive owns it: then nobody else can remove it, and a cambricd runs.
        owned: bool,
    },
    /// A set.
    Set(SetName),
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Leftover::Table { family, .. } => write!(f, "table {family} {TABLE}"),
            Leftover::Set(name) => write!(f, "set {name}"),
        }
    }
}

impl Cleanup {
    /// In the network namespace of the calling thread.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN over the namespace nothing can be asked.
    pub fn open() -> Result<Cleanup, Error> {
        let kernel = match Kernel::open() {
            Ok(kernel) => Some(kernel),
            Err(error) if error.is_not_served() => None,
            Err(error) => return Err(error),
        };
        Ok(Cleanup { kernel, freed_by: Instant::now() + FREEING })
    }

    /// All of ours, in the order in which it can be removed.
    ///
    /// # Errors
    /// The kernel does not tell its tables or sets.
    pub fn find(&mut self) -> Result<Vec<Leftover>, Error> {
        let Some(kernel) = &mut self.kernel else { return Ok(Vec::new()) };
        let tables = none_if_not_served(kernel.tables())?;
        let sets = none_if_not_served(kernel.set_names())?;
        let tables = tables
            .into_iter()
            .map(|(family, state)| Leftover::Table { family, owned: state.owner.is_some() });
        let sets = sets.into_iter().filter(|name| is_ours(name)).map(Leftover::Set);
        Ok(tables.chain(sets).collect())
    }

    /// Removes one. What is gone already is success. A set may have to wait until the kernel has freed the rules that
    /// named it.
    ///
    /// # Errors
    /// The kernel's refusal: another process owns the table, rules of others name the set.
    pub fn remove(&mut self, leftover: &Leftover) -> Result<(), CommitError> {
        let Some(kernel) = &mut self.kernel else { return Ok(()) };
        match leftover {
            Leftover::Table { family, .. } => {
                let drop = match family {
                    HeldFamily::Ip(family) => Operation::DropTable(*family),
                    HeldFamily::Arp => Operation::DropArpTable,
                };
                self.freed_by = Instant::now() + FREEING;
                match kernel.commit(&[drop], None) {
                    Err(CommitError::Refused { errno, .. }) if errno == Errno::ENOENT as i32 => Ok(()),
                    committed => committed,
                }
            }
            Leftover::Set(name) => Ok(destroy(kernel, name, self.freed_by)?),
        }
    }
}

fn destroy(kernel: &mut Kernel, name: &SetName, until: Instant) -> Result<(), Error> {
    loop {
        match kernel.destroy_set(name) {
            Err(error) if error.is_in_use() && Instant::now() < until => sleep(PAUSE),
            destroyed => return destroyed,
        }
    }
}

fn none_if_not_served<T: Default>(told: Result<T, Error>) -> Result<T, Error> {
    match told {
        Err(error) if error.is_not_served() => Ok(T::default()),
        told => told,
    }
}
