//! How many calls there were, how they ended, and how long they took: for the daemon's metrics.
//!
//! Each call is a process of its own, so the figures are in a file, `/run/cambric/requests`, which goes with the boot. A
//! call adds to one record, by one aligned write under a lock. Counting never fails a call nor holds it up: what
//! cannot be counted at once is not.
//!
//! ```text
//! header  0  8 "CAMCALLS"      record  8 × bucket  8 calls that took no longer than the bucket's bound, and longer than
//!         8  4 version: 1                            the one's before it; the last bucket has no bound
//!        12  - zeros, to 128                  96  8 nanoseconds in all
//!                                            104  - zeros, to 128
//! ```
//!
//! Little endian; one record for each outcome of each command, in the order of [`Command::ALL`] and [`Outcome::ALL`].

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc;

use crate::error::Code;

/// Its name in the folder of run-time files.
pub const FILE: &str = "requests";
/// Bounds of the buckets of a histogram, in milliseconds; what took longer is in one more bucket.
pub const BOUNDS_MS: [u64; 11] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000];

const BUCKETS: usize = BOUNDS_MS.len() + 1;
const MAGIC: &[u8; 8] = b"CAMCALLS";
const VERSION: u32 = 1;
const RECORD_BYTES: usize = 128;
const SUM_AT: usize = 8 * BUCKETS;
const FILE_BYTES: usize = RECORD_BYTES * (1 + Command::ALL.len() * Outcome::ALL.len());
/// How often is tried to get the lock, which whoever has it has for some microseconds.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_micros(50);

/// What was asked for. VERSION, and what nobody knows, is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Command {
    /// Give a pod an interface.
    Add,
    /// Take it away.
    Del,
    /// Look whether it is as it was made.
    Check,
}

/// How a call ended, seen by who is to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// As wanted.
    Success,
    /// The runtime or the configuration asked for what cannot be: codes 1 to 8, save 5, and 100.
    Refused,
    /// Code 11: the node or the pod's policy is not ready; the runtime tries again.
    NotReady,
    /// Code 101: all addresses are leased.
    NoAddress,
    /// CHECK found a difference: code 107.
    Differs,
    /// The system failed: all other codes.
    Failed,
}

impl Command {
    /// All of them.
    pub const ALL: [Command; 3] = [Command::Add, Command::Del, Command::Check];

    /// As in `CNI_COMMAND`.
    pub fn name(self) -> &'static str {
        match self {
            Command::Add => "ADD",
            Command::Del => "DEL",
            Command::Check => "CHECK",
        }
    }

    /// By its name.
    pub(crate) fn named(name: &str) -> Option<Command> {
        Command::ALL.into_iter().find(|command| command.name() == name)
    }
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 6] = [
        Outcome::Success,
        Outcome::Refused,
        Outcome::NotReady,
        Outcome::NoAddress,
        Outcome::Differs,
        Outcome::Failed,
    ];

    /// A word for a label.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Refused => "refused",
            Outcome::NotReady => "not_ready",
            Outcome::NoAddress => "no_address",
            Outcome::Differs => "differs",
            Outcome::Failed => "failed",
        }
    }

    pub(crate) fn of(code: Option<Code>) -> Outcome {
        match code {
            None => Outcome::Success,
            Some(
                Code::IncompatibleVersion
                | Code::UnsupportedField
                | Code::BadEnvironment
                | Code::Decode
                | Code::InvalidConfig
                | Code::InvalidNetns
                | Code::InterfaceExists,
            ) => Outcome::Refused,
            Some(Code::TryAgainLater) => Outcome::NotReady,
            Some(Code::NoFreeAddress) => Outcome::NoAddress,
            Some(Code::Differs) => Outcome::Differs,
            Some(
                Code::Io
                | Code::AddressTaken
                | Code::LeaseTable
                | Code::HostWiring
                | Code::PodWiring
                | Code::CleanUp,
            ) => Outcome::Failed,
        }
    }
}

/// The calls of one command that ended in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requests {
    /// What was asked for.
    pub command: Command,
    /// How it ended.
    pub outcome: Outcome,
    /// How many took how long, by [`BOUNDS_MS`]; the last took longer than all of them.
    pub buckets: [u64; BUCKETS],
    /// All of them together.
    pub took: Duration,
}

impl Requests {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, calls| sum.saturating_add(*calls))
    }
}

/// All that was counted since the boot: one entry for each command and outcome there was. Nothing if there was no call.
///
/// # Errors
/// The file is none of ours, cannot be read, or is locked for longer than a call may hold it.
pub fn read(run_dir: &Path) -> io::Result<Vec<Requests>> {
    let file = match open(OpenOptions::new().read(true), &run_dir.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => lock(file?, FlockArg::LockSharedNonblock)?,
    };
    if file.metadata()?.len() == 0 {
        return Ok(Vec::new()); // somebody is making it
    }
    check(&file)?;
    let mut all = Vec::new();
    for (nth, (command, outcome)) in kinds().enumerate() {
        let record = Record::read(&file, nth)?;
        let requests = Requests {
            command,
            outcome,
            buckets: record.buckets,
            took: Duration::from_nanos(record.nanoseconds),
        };
        all.extend((requests.count() > 0).then_some(requests));
    }
    Ok(all)
}

/// Counts a call, if that is possible.
pub(crate) fn count(run_dir: &Path, command: Command, outcome: Outcome, took: Duration) {
    // Nobody could do anything about it.
    let _ = try_count(run_dir, command, outcome, took);
}

fn try_count(run_dir: &Path, command: Command, outcome: Outcome, took: Duration) -> io::Result<()> {
    let path = run_dir.join(FILE);
    let file = open(OpenOptions::new().read(true).write(true).create(true).mode(0o600), &path)?;
    let file = lock(file, FlockArg::LockExclusiveNonblock)?;
    if check(&file).is_err() {
        make(&file)?;
    }
    let nth = kinds().position(|kind| kind == (command, outcome)).ok_or(io::ErrorKind::NotFound)?;
    let mut record = Record::read(&file, nth)?;
    record.add(took);
    record.write(&file, nth)
}

/// In the order of their records.
fn kinds() -> impl Iterator<Item = (Command, Outcome)> {
    Command::ALL.into_iter().flat_map(|command| Outcome::ALL.map(|outcome| (command, outcome)))
}

/// Opens a regular file, and does not wait for the other end of anything else.
fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("no regular file")) }
}

fn lock(mut file: File, kind: FlockArg) -> io::Result<Flock<File>> {
    for _ in 1..TRIES {
        match Flock::lock(file, kind) {
            Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => file = back,
            outcome => return outcome.map_err(|(_, errno)| errno.into()),
        }
        thread::sleep(PAUSE);
    }
    Flock::lock(file, kind).map_err(|(_, errno)| errno.into())
}

fn check(file: &File) -> io::Result<()> {
    let mut header = [0; 12];
    file.read_exact_at(&mut header, 0)?;
    let is_ours = header[..8] == *MAGIC && header[8..] == VERSION.to_le_bytes();
    if is_ours && file.metadata()?.len() == FILE_BYTES as u64 {
        return Ok(());
    }
    Err(io::Error::other("no figures of this version"))
}

/// From the start, whatever there was: figures are worth no more.
fn make(file: &File) -> io::Result<()> {
    let mut bytes = [0; FILE_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    file.set_len(0)?;
    file.write_all_at(&bytes, 0)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    buckets: [u64; BUCKETS],
    nanoseconds: u64,
}

impl Record {
    fn read(file: &File, nth: usize) -> io::Result<Record> {
        let mut bytes = [0; RECORD_BYTES];
        file.read_exact_at(&mut bytes, offset(nth))?;
        let (words, _) = bytes.as_chunks();
        let word = |at: usize| words.get(at).map_or(0, |word| u64::from_le_bytes(*word));
        Ok(Record { buckets: std::array::from_fn(word), nanoseconds: word(SUM_AT / 8) })
    }

    fn write(&self, file: &File, nth: usize) -> io::Result<()> {
        let mut bytes = [0; RECORD_BYTES];
        let words = self.buckets.iter().chain([&self.nanoseconds]).flat_map(|word| word.to_le_bytes());
        bytes.iter_mut().zip(words).for_each(|(byte, word)| *byte = word);
        file.write_all_at(&bytes, offset(nth))
    }

    fn add(&mut self, took: Duration) {
        let is_within = |bound: &u64| took <= Duration::from_millis(*bound);
        let bucket = BOUNDS_MS.iter().position(is_within).unwrap_or(BOUNDS_MS.len());
        self.buckets[bucket] = self.buckets[bucket].saturating_add(1);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds = self.nanoseconds.saturating_add(nanoseconds);
    }
}

fn offset(nth: usize) -> u64 {
    (RECORD_BYTES * (1 + nth)) as u64
}

/// Whether there is a folder to count in that somebody else made.
pub(crate) fn has_folder(run_dir: &Path) -> bool {
    fs::metadata(run_dir).is_ok_and(|folder| folder.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn counted(run_dir: &Path) -> Vec<(&'static str, &'static str, u64)> {
        let all = read(run_dir).expect("read");
        all.iter().map(|found| (found.command.name(), found.outcome.name(), found.count())).collect()
    }

    #[test]
    fn calls_are_counted_by_command_outcome_and_time() {
        let folder = tempfile::tempdir().expect("folder");
        assert_eq!(read(folder.path()).expect("nothing there"), []);
        for took in [MS / 2, MS, MS * 3, MS * 2000, MS * 2001] {
            count(folder.path(), Command::Add, Outcome::Success, took);
        }
        count(folder.path(), Command::Check, Outcome::Failed, MS);
        let all = read(folder.path()).expect("read");
        assert_eq!(counted(folder.path()), [("ADD", "success", 5), ("CHECK", "failed", 1)]);
        assert_eq!(all[0].buckets, [2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(all[0].took, MS * 4005 + MS / 2);
        let size = fs::metadata(folder.path().join(FILE)).expect("there").len();
        assert_eq!(size, FILE_BYTES as u64, "it does not grow");
    }

    #[test]
    fn calls_at_once_are_all_counted_or_none_is_held_up() {
        let folder = tempfile::tempdir().expect("folder");
        thread::scope(|scope| {
            for _ in 0..4 {
                let calls = || (0..50).for_each(|_| count(folder.path(), Command::Del, Outcome::Success, MS));
                scope.spawn(calls);
            }
        });
        let [("DEL", "success", calls)] = counted(folder.path())[..] else { panic!("one kind") };
        assert!((50..=200).contains(&calls), "{calls}");

        let file = File::open(folder.path().join(FILE)).expect("there");
        let held = Flock::lock(file, FlockArg::LockExclusive).expect("locked");
        count(folder.path(), Command::Del, Outcome::Success, MS);
        assert!(read(folder.path()).is_err());
        drop(held);
        assert_eq!(counted(folder.path()), [("DEL", "success", calls)]);
    }

    #[test]
    fn what_is_damaged_is_made_anew_and_what_is_no_file_is_left_alone() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join(FILE);
        for damaged in [&b""[..], b"CAMCALLS", b"something else", &[0; FILE_BYTES + 1]] {
            fs::write(&path, damaged).expect("written");
            assert!(damaged.is_empty() || read(folder.path()).is_err());
            count(folder.path(), Command::Add, Outcome::NotReady, MS);
            assert_eq!(counted(folder.path()), [("ADD", "not_ready", 1)]);
        }
        fs::remove_file(&path).expect("removed");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("FIFO");
        count(folder.path(), Command::Add, Outcome::Success, MS);
        assert!(read(folder.path()).is_err());
        count(&folder.path().join("missing"), Command::Add, Outcome::Success, MS);
        assert!(!has_folder(&folder.path().join("missing")));
    }

    #[test]
    fn every_kind_has_a_record_of_its_own() {
        let folder = tempfile::tempdir().expect("folder");
        for (nth, (command, outcome)) in kinds().enumerate() {
            (0..=nth).for_each(|_| count(folder.path(), command, outcome, MS));
        }
        let counts: Vec<u64> = read(folder.path()).expect("read").iter().map(Requests::count).collect();
        assert_eq!(counts, (1..=18).collect::<Vec<u64>>());
        assert_eq!(Command::named("CHECK"), Some(Command::Check));
        assert_eq!(Command::named("VERSION"), None);
    }
}
