//! Who has which address: leases in one table per range, under one lock per network.
//!
//! ```text
//! /run/cambric/ipam/<network>/lock                             taken (flock) by whoever reads or writes tables
//!                             10.244.1.0-24+fd00:10:244:1::-64  table of a range, see `table`
//! ```
//!
//! The folder is on tmpfs: no pod outlives the kernel, so losing the tables at a reboot is right, and nothing needs to
//! be flushed to a disk. A table of another boot, one that is damaged, or none at all is made anew from the pods
//! that are alive ([`Survivor`]): after a reboot there are none. A range that left the configuration keeps its table
//! until the reboot, so that DEL finds its leases; nothing new is granted from it.
//!
//! A table of a later release, which somebody has gone back from, is never made anew: how that release's pods are to be
//! found again is not known here, and an address must not be granted twice. So nothing is granted, and the error says
//! what to do; DEL takes links and routes away as ever and leaves the lease in the table. (So a release that writes
//! another version must come after one that reads it.)
//!
//! Order of grants: round robin behind the youngest grant, in a new table from a start drawn from the boot ID, so that
//! a reboot does not hand out the same low addresses. A released slot rests for [`COOL_DOWN`] so that nobody inherits
//! connections; when only resting slots are left, the longest rested one goes.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::time::{ClockId, clock_gettime};

use crate::attachment::Holder;
use crate::lock_file;
use crate::range::{Addresses, Range};

pub mod table;

use table::{BootId, Slot, Table, TableError};

/// How long a released address rests.
pub const COOL_DOWN: Duration = Duration::from_secs(30);

/// In the folder of run-time files.
pub(crate) const FOLDER: &str = "ipam";
const LOCK: &str = "lock";

/// A granted slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Who has it.
    pub holder: Holder,
    /// What was granted.
    pub addresses: Addresses,
    /// When, as time since boot.
    pub granted_at: Duration,
}

/// A pod that is alive although its table is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survivor {
    /// From its link's alias.
    pub holder: Holder,
    /// From its host routes.
    pub addresses: Vec<IpAddr>,
}

/// How much of a range is granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The range.
    pub range: Range,
    /// Slots that a pod has: an address of each family of the range.
    pub granted: usize,
    /// Slots that were given back less than [`COOL_DOWN`] ago, and are granted again only when no other is free.
    pub resting: usize,
    /// Slots that pods may have, granted and resting ones among them.
    pub grantable: usize,
}

/// Why leases cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// A file or folder failed.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// How.
        #[source]
        source: io::Error,
    },
    /// A later release made the table.
    #[error("{path} is {table}; install that release's plugin again, or drain the node and reboot it", path = path.display())]
    Later {
        /// Which.
        path: PathBuf,
        /// What it is.
        table: TableError,
    },
    /// The kernel could not be asked who is alive.
    #[error("cannot tell which pods are alive: {0}")]
    Survivors(String),
    /// Every slot of every range is leased.
    #[error("no free address in {ranges}: all {leased} are leased")]
    Exhausted {
        /// Where was looked.
        ranges: String,
        /// How many leases there are.
        leased: usize,
    },
}

/// All leases of a network, locked for as long as this is held.
#[derive(Debug)]
pub struct Leases {
    /// Those of configured ranges first, in their order.
    tables: Vec<Table>,
    configured: usize,
    _lock: Flock<File>,
}

impl Leases {
    /// Opens the tables of a network to grant from `ranges`; asks for `survivors` when one must be made anew.
    ///
    /// # Errors
    /// Files that cannot be read or written, or survivors that cannot be told.
    pub fn open(
        run_dir: &Path,
        network: &str,
        ranges: &[Range],
        survivors: impl Fn() -> Result<Vec<Survivor>, String>,
    ) -> Result<Leases, LeaseError> {
        let folder = folder(run_dir, network);
        fs::create_dir_all(&folder).map_err(in_path(&folder))?;
        let boot_id = BootId::current().map_err(in_path(Path::new(table::BOOT_ID_FILE)))?;
        let lock = lock(&folder)?;

        let mut tables = Vec::new();
        for range in ranges {
            let path = folder.join(table::file_name(range));
            let table = match Table::open(&path) {
                Ok(table) if table.boot_id() == boot_id && table.range() == range => table,
                Ok(_) | Err(TableError::Missing | TableError::Damaged(_)) => {
                    let survivors = survivors().map_err(LeaseError::Survivors)?;
                    rebuild(&path, range, boot_id, &survivors).map_err(in_path(&path))?
                }
                Err(table @ TableError::Later(_)) => return Err(LeaseError::Later { path, table }),
                Err(TableError::Io(error)) => return Err(in_path(&path)(error)),
            };
            tables.push(table);
        }
        let configured = tables.len();
        tables.extend(other_tables(&folder, ranges, boot_id, OfLater::Refused)?);
        Ok(Leases { tables, configured, _lock: lock })
    }

    /// Opens the tables there are, making nothing: for DEL and for looking. `None` if there is no such network.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn open_existing(run_dir: &Path, network: &str) -> Result<Option<Leases>, LeaseError> {
        let folder = folder(run_dir, network);
        if !folder.exists() {
            return Ok(None);
        }
        let boot_id = BootId::current().map_err(in_path(Path::new(table::BOOT_ID_FILE)))?;
        let lock = lock(&folder)?;
        let tables = other_tables(&folder, &[], boot_id, OfLater::PassedOver)?;
        Ok(Some(Leases { tables, configured: 0, _lock: lock }))
    }

    /// How many slots of each range are granted, and how many could be. Takes no lock, as a slot is written at once.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn usage(run_dir: &Path, network: &str) -> Result<Vec<Usage>, LeaseError> {
        let folder = folder(run_dir, network);
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let boot_id = BootId::current().map_err(in_path(Path::new(table::BOOT_ID_FILE)))?;
        let now = now();
        let usage = |table: &Table| Usage {
            range: table.range().clone(),
            granted: table.leases().count(),
            resting: table.range().grantable().filter(|slot| table.slot(*slot).is_resting(now)).count(),
            grantable: table.range().grantable().len(),
        };
        Ok(other_tables(&folder, &[], boot_id, OfLater::PassedOver)?.iter().map(usage).collect())
    }

    /// All leases, table by table in the order of slots.
    pub fn iter(&self) -> impl Iterator<Item = Lease> + '_ {
        self.tables.iter().flat_map(Table::leases)
    }

    /// What holders have. A table that is made anew takes whoever has an address of its range for a holder of the whole
    /// slot, as of the time of the boot: of several leases of one holder the youngest tells what was granted.
    pub fn granted(&self) -> Vec<Lease> {
        let mut youngest = BTreeMap::<Holder, Duration>::new();
        for lease in self.iter() {
            let at = youngest.entry(lease.holder).or_default();
            *at = lease.granted_at.max(*at);
        }
        self.iter().filter(|lease| youngest.get(&lease.holder) == Some(&lease.granted_at)).collect()
    }

    /// The lease a holder has, as [`Leases::granted`] tells it.
    pub fn of(&self, holder: &Holder) -> Option<Lease> {
        self.iter().filter(|lease| lease.holder == *holder).min_by_key(|lease| Reverse(lease.granted_at))
    }

    /// Grants a free slot; a holder that has one in a configured range (its ADD was killed half-way) keeps it. What it
    /// has in other ranges is taken back: its link was lost without DEL, and the ranges were changed since.
    ///
    /// # Errors
    /// [`LeaseError::Exhausted`], or a file that cannot be written.
    pub fn grant(&mut self, holder: &Holder, now: Duration) -> Result<Lease, LeaseError> {
        let has_one = |table: &Table| !table.slots_held_by(holder).is_empty();
        let kept = self.tables[..self.configured].iter().position(has_one);
        for nth in (0..self.tables.len()).filter(|nth| Some(*nth) != kept) {
            self.release_in(nth, holder, now)?;
        }
        let (configured, draining) = self.tables.split_at(self.configured);
        let kept = kept.and_then(|nth| configured[nth].leases().find(|lease| lease.holder == *holder));
        if let Some(lease) = kept {
            return Ok(lease);
        }
        let free = |table: &Table, slot: u32| {
            let addresses = table.range().addresses(slot);
            !draining.iter().any(|other| addresses.iter().any(|address| other.holds(address)))
        };
        let (nth, slot) = choose(configured, now, free).ok_or_else(|| LeaseError::Exhausted {
            ranges: configured.iter().map(|table| table.range().to_string()).collect::<Vec<_>>().join(", "),
            leased: configured.iter().flat_map(Table::leases).count(),
        })?;
        self.write(nth, slot, Slot::Leased { holder: holder.clone(), granted_at: now })?;
        let addresses = self.tables[nth].range().addresses(slot);
        Ok(Lease { holder: holder.clone(), addresses, granted_at: now })
    }

    /// Gives the slots of a survivor that uses one of these addresses, but has no lease, to it; false if none does.
    ///
    /// Survivors are asked for here, under the lock: one seen earlier may be gone, its DEL over, and nobody would
    /// release what it is given now.
    ///
    /// # Errors
    /// Survivors that cannot be told, or a file that cannot be written.
    pub fn adopt_user(
        &mut self,
        addresses: Addresses,
        survivors: impl FnOnce() -> Result<Vec<Survivor>, String>,
        now: Duration,
    ) -> Result<bool, LeaseError> {
        let survivors = survivors().map_err(LeaseError::Survivors)?;
        let uses = |survivor: &&Survivor| addresses.iter().any(|used| survivor.addresses.contains(&used));
        let Some(user) = survivors.iter().find(uses) else { return Ok(false) };
        if self.of(&user.holder).is_some() {
            return Ok(false);
        }
        for nth in 0..self.tables.len() {
            for slot in slots_of(user, self.tables[nth].range()) {
                self.write(nth, slot, Slot::Leased { holder: user.holder.clone(), granted_at: now })?;
            }
        }
        Ok(true)
    }

    /// Takes all slots of a holder back; one that has none is no error.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn release(&mut self, holder: &Holder, now: Duration) -> Result<(), LeaseError> {
        (0..self.tables.len()).try_for_each(|nth| self.release_in(nth, holder, now))
    }

    fn release_in(&mut self, nth: usize, holder: &Holder, now: Duration) -> Result<(), LeaseError> {
        for (slot, granted_at) in self.tables[nth].slots_held_by(holder) {
            self.write(nth, slot, Slot::Resting { granted_at, released_at: now })?;
        }
        Ok(())
    }

    fn write(&mut self, nth: usize, slot: u32, content: Slot) -> Result<(), LeaseError> {
        let table = &mut self.tables[nth];
        table.set(slot, content).map_err(|source| LeaseError::Io { path: table.path().to_owned(), source })
    }
}

/// Time since boot, which no clock setting changes.
pub fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

/// The table and slot to grant: the first free one behind the youngest grant, else the longest rested.
fn choose(tables: &[Table], now: Duration, usable: impl Fn(&Table, u32) -> bool) -> Option<(usize, u32)> {
    let fresh = tables.iter().enumerate().find_map(|(nth, table)| {
        let is_fresh = |slot: &u32| match table.slot(*slot) {
            Slot::Free => true,
            Slot::Resting { .. } => !table.slot(*slot).is_resting(now),
            Slot::Leased { .. } => false,
        };
        round_robin(table).find(|slot| is_fresh(slot) && usable(table, *slot)).map(|slot| (nth, slot))
    });
    let rested = || {
        let resting = tables.iter().enumerate().flat_map(|(nth, table)| {
            table.range().grantable().filter_map(move |slot| match table.slot(slot) {
                Slot::Resting { released_at, .. } => Some((*released_at, nth, slot)),
                Slot::Free | Slot::Leased { .. } => None,
            })
        });
        let longest = resting.filter(|(_, nth, slot)| usable(&tables[*nth], *slot)).min();
        longest.map(|(_, nth, slot)| (nth, slot))
    };
    fresh.or_else(rested)
}

/// All grantable slots, starting behind the youngest grant.
fn round_robin(table: &Table) -> impl Iterator<Item = u32> + use<> {
    let grantable = table.range().grantable();
    let youngest = grantable.clone().filter_map(|slot| Some((table.slot(slot).granted_at()?, slot))).max();
    let first = match youngest {
        Some((_, slot)) => slot + 1,
        None => grantable.start + table.boot_id().draw() % (grantable.end - grantable.start),
    };
    (first..grantable.end).chain(grantable.start..first)
}

fn rebuild(path: &Path, range: &Range, boot_id: BootId, survivors: &[Survivor]) -> io::Result<Table> {
    let leases: Vec<(u32, Slot)> = survivors
        .iter()
        .flat_map(|survivor| {
            let slot = Slot::Leased { holder: survivor.holder.clone(), granted_at: Duration::ZERO };
            slots_of(survivor, range).into_iter().map(move |index| (index, slot.clone()))
        })
        .collect();
    Table::create(path, range, boot_id, leases)
}

fn slots_of(survivor: &Survivor, range: &Range) -> Vec<u32> {
    let mut slots: Vec<u32> =
        survivor.addresses.iter().filter_map(|address| range.slot_of(*address)).collect();
    slots.dedup();
    slots
}

/// What becomes of tables that a later release made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OfLater {
    /// What they hold may be granted: nobody may grant beside them.
    Refused,
    /// Nothing is granted here.
    PassedOver,
}

/// Tables of this boot in the folder beside those of `ranges`. What else lies there is passed over: the lock, a table
/// that was never finished, what a person left.
fn other_tables(
    folder: &Path,
    ranges: &[Range],
    boot_id: BootId,
    of_later: OfLater,
) -> Result<Vec<Table>, LeaseError> {
    let mut tables = Vec::new();
    let known: Vec<String> = ranges.iter().map(table::file_name).collect();
    for entry in fs::read_dir(folder).map_err(in_path(folder))? {
        let entry = entry.map_err(in_path(folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let regular = entry.file_type().map_err(in_path(&entry.path()))?.is_file();
        if !regular || !table::is_file_name(&name) || known.contains(&name) {
            continue;
        }
        match Table::open(&entry.path()) {
            Ok(table) if table.boot_id() == boot_id => tables.push(table),
            // Of another boot: its pods are gone. Damaged: an ADD makes it anew from the pods that are alive.
            Ok(_) | Err(TableError::Missing | TableError::Damaged(_)) => {}
            Err(TableError::Later(_)) if of_later == OfLater::PassedOver => {}
            Err(table @ TableError::Later(_)) => {
                return Err(LeaseError::Later { path: entry.path(), table });
            }
            Err(TableError::Io(error)) => return Err(in_path(&entry.path())(error)),
        }
    }
    tables.sort_by(|a, b| a.path().cmp(b.path()));
    Ok(tables)
}

fn folder(run_dir: &Path, network: &str) -> PathBuf {
    run_dir.join(FOLDER).join(network)
}

fn lock(folder: &Path) -> Result<Flock<File>, LeaseError> {
    let path = folder.join(LOCK);
    let file = lock_file::open(&path).map_err(in_path(&path))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| in_path(&path)(errno.into()))
}

fn in_path(path: &Path) -> impl Fn(io::Error) -> LeaseError + use<> {
    let path = path.to_owned();
    move |source| LeaseError::Io { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::slice;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn range(ipv4: &str) -> Range {
        Range::new(Some(ipv4.parse().expect("network")), None).expect("range")
    }

    fn holder(name: &str) -> Holder {
        Holder { container_id: name.into(), ifname: "eth0".into() }
    }

    fn open(run_dir: &tempfile::TempDir, ranges: &[Range]) -> Leases {
        Leases::open(run_dir.path(), "net", ranges, || Ok(Vec::new())).expect("leases")
    }

    fn only(lease: Lease) -> IpAddr {
        lease.addresses.iter().next().expect("address")
    }

    #[test]
    fn grants_go_round_and_come_back_to_the_start() {
        let run_dir = tempfile::tempdir().expect("folder");
        let mut leases = open(&run_dir, &[range("10.0.0.0/29")]);
        let mut order = Vec::new();
        for nth in 0..12 {
            let now = MINUTE * nth;
            order.push(only(leases.grant(&holder("a"), now).expect("granted")));
            leases.release(&holder("a"), now).expect("released");
        }
        assert_eq!(order[..6], order[6..]);
        order.sort();
        order.dedup();
        assert_eq!(order.len(), 6, "all but the first and the last address are used");
    }

    #[test]
    fn a_released_address_rests_unless_nothing_else_is_free() {
        let run_dir = tempfile::tempdir().expect("folder");
        let mut leases = open(&run_dir, &[range("10.0.0.0/30")]);
        let first = only(leases.grant(&holder("a"), MINUTE).expect("granted"));
        leases.release(&holder("a"), MINUTE).expect("released");
        let second = only(leases.grant(&holder("b"), MINUTE).expect("granted"));
        assert_ne!(first, second);
        assert_eq!(only(leases.grant(&holder("c"), MINUTE).expect("granted")), first);
        let error = leases.grant(&holder("d"), MINUTE).expect_err("exhausted");
        assert_eq!(error.to_string(), "no free address in 10.0.0.0/30: all 2 are leased");
    }

    #[test]
    fn usage_is_told_while_somebody_else_has_the_lock() {
        let run_dir = tempfile::tempdir().expect("folder");
        assert_eq!(Leases::usage(run_dir.path(), "net").expect("no network yet"), []);
        let mut leases = open(&run_dir, &[range("10.0.0.0/29")]);
        leases.grant(&holder("a"), MINUTE).expect("granted");
        leases.grant(&holder("b"), MINUTE).expect("granted");
        leases.release(&holder("b"), now()).expect("released");
        let usage = Leases::usage(run_dir.path(), "net").expect("readable");
        assert_eq!(usage, [Usage { range: range("10.0.0.0/29"), granted: 1, resting: 1, grantable: 6 }]);
    }

    #[test]
    fn a_lease_is_kept_across_calls_and_granted_again_to_its_holder() {
        let run_dir = tempfile::tempdir().expect("folder");
        let granted = open(&run_dir, &[range("10.0.0.0/24")]).grant(&holder("a"), MINUTE).expect("granted");
        let mut again = open(&run_dir, &[range("10.0.0.0/24")]);
        assert_eq!(again.grant(&holder("a"), MINUTE * 2).expect("granted"), granted);
        assert_eq!(again.iter().count(), 1);
    }

    #[test]
    fn release_knows_ranges_that_left_the_configuration() {
        let run_dir = tempfile::tempdir().expect("folder");
        let old = only(open(&run_dir, &[range("10.0.0.0/30")]).grant(&holder("a"), MINUTE).expect("granted"));
        let mut leases = open(&run_dir, &[range("10.0.0.0/29")]);
        for nth in 0..5 {
            let lease = leases.grant(&holder(&format!("b{nth}")), MINUTE).expect("granted");
            assert_ne!(only(lease), old, "an address of the draining range is not granted twice");
        }
        drop(leases);
        let mut leases = Leases::open_existing(run_dir.path(), "net").expect("opens").expect("is there");
        leases.release(&holder("a"), MINUTE).expect("released");
        assert_eq!(leases.of(&holder("a")), None);
        assert_eq!(leases.iter().count(), 5);
    }

    #[test]
    fn a_holder_has_one_lease_whatever_becomes_of_the_ranges() {
        let run_dir = tempfile::tempdir().expect("folder");
        let [old, new] = [range("10.0.0.0/30"), range("10.1.0.0/30")];
        let first = open(&run_dir, slice::from_ref(&old)).grant(&holder("a"), MINUTE).expect("granted");
        let mut leases = open(&run_dir, slice::from_ref(&new));
        let second = leases.grant(&holder("a"), MINUTE * 2).expect("granted");
        assert_ne!(first.addresses, second.addresses);
        assert_eq!(leases.iter().collect::<Vec<_>>(), [second]);
        drop(leases);
        // Both at once, as a release that did not do so left them; and one of somebody else.
        let mut leases = open(&run_dir, &[old, new]);
        leases.grant(&holder("b"), MINUTE).expect("granted");
        let stray = Slot::Leased { holder: holder("a"), granted_at: MINUTE };
        let free = leases.tables[0]
            .range()
            .grantable()
            .find(|slot| !matches!(leases.tables[0].slot(*slot), Slot::Leased { .. }));
        leases.write(0, free.expect("a free slot"), stray).expect("written");
        let granted = leases.grant(&holder("a"), MINUTE).expect("granted");
        let held: Vec<Lease> = leases.iter().filter(|lease| lease.holder == holder("a")).collect();
        assert_eq!(held, [granted]);
        assert_eq!(leases.iter().count(), 2);
    }

    #[test]
    fn a_table_whose_making_was_killed_counts_for_nothing() {
        let run_dir = tempfile::tempdir().expect("folder");
        open(&run_dir, &[range("10.0.0.0/30")]).grant(&holder("a"), MINUTE).expect("granted");
        let table = folder(run_dir.path(), "net").join("10.0.0.0-30");
        fs::copy(&table, table.with_added_extension("new")).expect("copied");
        assert_eq!(open(&run_dir, &[range("10.0.0.0/30")]).iter().count(), 1);
    }

    #[test]
    fn what_is_no_table_is_passed_over() {
        let run_dir = tempfile::tempdir().expect("folder");
        open(&run_dir, &[range("10.0.0.0/30")]).grant(&holder("a"), MINUTE).expect("granted");
        let folder = folder(run_dir.path(), "net");
        for name in ["old", "10.1.0.0-30"] {
            fs::create_dir(folder.join(name)).expect("folder");
        }
        fs::copy(folder.join("10.0.0.0-30"), folder.join("backup of 10.0.0.0-30")).expect("copied");
        std::os::unix::fs::symlink("loop", folder.join("loop")).expect("link");
        let fifo = folder.join("10.2.0.0-30");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("FIFO");
        assert_eq!(open(&run_dir, &[range("10.0.0.0/30")]).iter().count(), 1);
        let existing = Leases::open_existing(run_dir.path(), "net").expect("opens").expect("is there");
        assert_eq!(existing.iter().count(), 1);
    }

    #[test]
    fn the_second_range_is_used_when_the_first_is_full() {
        let run_dir = tempfile::tempdir().expect("folder");
        let mut leases = open(&run_dir, &[range("10.0.0.0/30"), range("10.1.0.0/30")]);
        let granted: Vec<IpAddr> = (0..4)
            .map(|nth| only(leases.grant(&holder(&nth.to_string()), MINUTE).expect("granted")))
            .collect();
        assert!(granted[..2].iter().all(|address| address.to_string().starts_with("10.0.")), "{granted:?}");
        assert!(granted[2..].iter().all(|address| address.to_string().starts_with("10.1.")), "{granted:?}");
    }

    #[test]
    fn a_lost_table_is_made_anew_from_survivors() {
        let run_dir = tempfile::tempdir().expect("folder");
        let alive =
            Survivor { holder: holder("alive"), addresses: vec!["10.0.0.1".parse().expect("address")] };
        let survivors = || Ok(vec![alive.clone()]);
        let mut leases =
            Leases::open(run_dir.path(), "net", &[range("10.0.0.0/30")], survivors).expect("leases");
        assert_eq!(only(leases.of(&alive.holder).expect("leased")), alive.addresses[0]);
        assert_eq!(only(leases.grant(&holder("new"), MINUTE).expect("granted")).to_string(), "10.0.0.2");
    }

    #[test]
    fn who_uses_an_address_without_a_lease_is_looked_for_under_the_lock() {
        let run_dir = tempfile::tempdir().expect("folder");
        let mut leases = open(&run_dir, &[range("10.0.0.0/30")]);
        let lease = leases.grant(&holder("new"), MINUTE).expect("granted");
        leases.release(&lease.holder, MINUTE).expect("released");
        let alive = || Survivor { holder: holder("alive"), addresses: lease.addresses.iter().collect() };
        let survivors = || {
            let file = File::open(folder(run_dir.path(), "net").join(LOCK)).expect("lock");
            assert!(Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err(), "a DEL must wait");
            Ok(vec![alive()])
        };
        let gone = leases.adopt_user(lease.addresses, || Ok(Vec::new()), MINUTE).expect("asked");
        assert!(!gone, "whose DEL was first gets nothing");
        assert!(leases.adopt_user(lease.addresses, survivors, MINUTE).expect("adopted"));
        assert_eq!(leases.of(&alive().holder).expect("lease").addresses, lease.addresses);
        let twice = leases.adopt_user(lease.addresses, survivors, MINUTE).expect("asked");
        assert!(!twice, "it has its lease");
    }

    #[test]
    fn nobody_else_can_take_the_lock() {
        let run_dir = tempfile::tempdir().expect("folder");
        let lock = folder(run_dir.path(), "net").join(LOCK);
        let mode = || fs::metadata(&lock).expect("there").permissions().mode() & 0o777;
        drop(open(&run_dir, &[range("10.0.0.0/30")]));
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&lock, fs::Permissions::from_mode(0o644)).expect("as earlier versions made it");
        Leases::open_existing(run_dir.path(), "net").expect("opens");
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn opening_without_making_makes_nothing() {
        let run_dir = tempfile::tempdir().expect("folder");
        assert!(Leases::open_existing(run_dir.path(), "net").expect("opens").is_none());
        assert_eq!(fs::read_dir(run_dir.path()).expect("folder").count(), 0);
    }
}
