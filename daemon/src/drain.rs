//! What of this node is drained, by whom and since when: `drain.json` in the folder of run-time files, so that a crash
//! or an upgrade in the middle of it does not begin anew, nor bring back what was gone.
//!
//! ```text
//! {"version": 1, "boot_id": "…", "parts": [
//!     {"part": "services", "by": "operator", "since": 1764000000},
//!     {"part": "pods", "by": "label", "since": 1764000100}]}
//! ```
//!
//! An operator drains by `cambric drain`, a cluster by the label `cambric.dev/drain` of the Node. Each undoes only what
//! it did; a part is drained as long as one of them wants it, since the first of them did. To cordon a node says nothing
//! here: pods go on running on it.
//!
//! The file is on tmpfs and is replaced by rename; times are seconds since 1970. What a later version writes beside is
//! passed over. What cannot be read at all is told and drains nothing: a node without a network would be worse.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use cambric_bgp::config::Drain;
use cambric_cni::lease::table::BootId;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// The label of a Node that drains it.
pub const LABEL: &str = "cambric.dev/drain";
/// Its name in the folder of run-time files.
pub const FILE: &str = "drain.json";
/// What this version writes.
const VERSION: u32 = 1;

/// What can be drained by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Addresses of services.
    Services,
    /// Ranges of pods.
    Pods,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 2] = [Part::Services, Part::Pods];
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Services => "services",
            Part::Pods => "pods",
        })
    }
}

/// Who wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// Somebody at the control socket.
    Operator,
    /// The label of the Node.
    Label,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            By::Operator => "operator",
            By::Label => "label",
        })
    }
}

/// Since when each part is drained by whom.
pub type Drained = BTreeMap<(Part, By), Instant>;

/// What a value of [`LABEL`] drains.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parts_of_label(value: &str) -> Result<&'static [Part], String> {
    match value {
        "" | "true" | "all" => Ok(&Part::ALL),
        "services" => Ok(&[Part::Services]),
        "pods" => Ok(&[Part::Pods]),
        "false" => Ok(&[]),
        _ => Err(format!("{value:?} is none of all, services and pods; nothing is drained by it")),
    }
}

/// The file, and what is drained.
#[derive(Debug)]
pub struct Drains {
    path: PathBuf,
    boot_id: String,
    /// Held from the look at what is drained until the file is written, so that neither of two words is lost.
    writing: Mutex<()>,
    drained: watch::Sender<Drained>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    version: u32,
    boot_id: String,
    /// Read one by one: parts that a later version knows are passed over.
    parts: Vec<serde_json::Value>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    part: Part,
    by: By,
    since: u64,
}

impl Drains {
    /// What the last run of this boot left.
    ///
    /// # Errors
    /// The kernel tells no boot ID.
    pub fn open(run_dir: &Path) -> io::Result<Drains> {
        Ok(Drains::open_in_boot(run_dir, BootId::current()?.to_string()))
    }

    fn open_in_boot(run_dir: &Path, boot_id: String) -> Drains {
        let path = run_dir.join(FILE);
        let drained = read(&path, &boot_id).unwrap_or_else(|error| {
            tracing::error!(path = %path.display(), error = %error, "what is drained cannot be read; nothing is");
            Drained::new()
        });
        for ((part, by), since) in &drained {
            tracing::warn!(part = %part, by = %by, since_s = since.elapsed().as_secs(), "still drained");
        }
        Drains { path, boot_id, writing: Mutex::new(()), drained: watch::Sender::new(drained) }
    }

    /// What is drained now.
    pub fn now(&self) -> Drained {
        self.drained.borrow().clone()
    }

    /// Tells when that changes.
    pub fn changes(&self) -> watch::Receiver<Drained> {
        self.drained.subscribe()
    }

    /// For the BGP speaker.
    pub fn wanted(&self) -> Drain {
        let drained = self.drained.borrow();
        let since = |wanted: Part| {
            drained.iter().filter(|((part, _), _)| *part == wanted).map(|(_, since)| *since).min()
        };
        Drain { services: since(Part::Services), pods: since(Part::Pods), ..Drain::default() }
    }

    /// From now on `by` wants these parts drained, and no others. Those that it wanted before go on as they are.
    ///
    /// # Errors
    /// The file's; nothing has changed then.
    pub fn set(&self, by: By, parts: &[Part]) -> io::Result<()> {
        self.change(by, Instant::now(), |_| parts.to_vec())
    }

    /// The same, with what `parts` makes of those that `by` wants drained now: of two at once each finds what the other did.
    /// What was not drained begins to be at `since`.
    ///
    /// # Errors
    /// The file's; nothing has changed then.
    pub fn change(&self, by: By, since: Instant, parts: impl FnOnce(&[Part]) -> Vec<Part>) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.now();
        let own: Vec<Part> = before.keys().filter(|(_, who)| *who == by).map(|(part, _)| *part).collect();
        let parts = parts(&own);
        let mut after = before.clone();
        after.retain(|(part, who), _| *who != by || parts.contains(part));
        for part in parts {
            after.entry((part, by)).or_insert(since);
        }
        if after == before {
            return Ok(());
        }
        self.write(&after)?;
        self.drained.send_replace(after);
        Ok(())
    }

    fn write(&self, drained: &Drained) -> io::Result<()> {
        let entry = |((part, by), since): (&(Part, By), &Instant)| {
            let since = SystemTime::now().checked_sub(since.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH);
            let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            serde_json::to_value(Entry { part: *part, by: *by, since })
        };
        let parts = drained.iter().map(entry).collect::<Result<_, _>>()?;
        let content = Content { version: VERSION, boot_id: self.boot_id.clone(), parts };
        let new = self.path.with_extension("json.new");
        fs::write(&new, serde_json::to_vec(&content)?)
            .and_then(|()| fs::rename(&new, &self.path))
            .inspect_err(
                // What is there of it takes room that may be what is missing.
                |_| drop(fs::remove_file(&new)),
            )
    }
}

fn read(path: &Path, boot_id: &str) -> io::Result<Drained> {
    let octets = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Drained::new()),
        octets => octets?,
    };
    let content: Content = serde_json::from_slice(&octets)?;
    if content.boot_id != boot_id {
        return Ok(Drained::new());
    }
    let (now, clock) = (Instant::now(), SystemTime::now());
    let entry = |value: serde_json::Value| match serde_json::from_value::<Entry>(value) {
        Ok(Entry { part, by, since }) => {
            let began = SystemTime::UNIX_EPOCH + Duration::from_secs(since.min(u64::from(u32::MAX)));
            // A clock that was set back meanwhile makes it begin now.
            let elapsed = clock.duration_since(began).unwrap_or_default();
            Some(((part, by), now.checked_sub(elapsed).unwrap_or(now)))
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), error = %error, "something that is drained is not understood");
            None
        }
    };
    Ok(content.parts.into_iter().filter_map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> Drains {
        Drains::open_in_boot(folder, "this boot".to_owned())
    }

    fn parts(drains: &Drains) -> Vec<(Part, By)> {
        drains.now().into_keys().collect()
    }

    #[test]
    fn what_is_drained_is_known_after_a_restart_with_its_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let drains = open(folder.path());
        assert_eq!(drains.wanted(), Drain::default());
        drains.set(By::Operator, &[Part::Services]).expect("a folder to write in");
        drains.set(By::Label, &Part::ALL).expect("a folder to write in");
        let again = open(folder.path());
        let all = [(Part::Services, By::Operator), (Part::Services, By::Label), (Part::Pods, By::Label)];
        assert_eq!(parts(&again), all);
        let (before, after) = (drains.wanted().services.expect("so"), again.wanted().services.expect("so"));
        let apart = before.max(after) - before.min(after);
        assert!(apart < Duration::from_secs(2), "{apart:?}: the file has seconds");
        let other_boot = Drains::open_in_boot(folder.path(), "another".to_owned());
        assert_eq!(parts(&other_boot), []);
    }

    #[test]
    fn each_undoes_only_what_it_did_and_the_first_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let drains = open(folder.path());
        drains.set(By::Label, &[Part::Pods]).expect("written");
        let first = drains.wanted().pods;
        drains.set(By::Operator, &Part::ALL).expect("written");
        assert_eq!(drains.wanted().pods, first);
        drains.set(By::Operator, &[]).expect("written");
        assert_eq!(parts(&drains), [(Part::Pods, By::Label)]);
        drains.set(By::Label, &[]).expect("written");
        assert_eq!(drains.wanted(), Drain::default());
    }

    #[test]
    fn the_same_again_begins_nothing_anew_and_tells_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let drains = open(folder.path());
        drains.set(By::Operator, &[Part::Pods]).expect("written");
        let (wanted, mut changes) = (drains.wanted(), drains.changes());
        changes.mark_unchanged();
        drains.set(By::Operator, &[Part::Pods]).expect("written");
        assert_eq!(drains.wanted(), wanted);
        assert!(!changes.has_changed().expect("it is there"));
    }

    #[test]
    fn file_of_a_later_version_is_read_part_by_part_and_rubbish_drains_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        let later = r#"{"version": 2, "boot_id": "this boot", "colour": "red", "parts": [
            {"part": "volumes", "by": "operator", "since": 7}, {"part": "pods", "by": "label", "since": 7, "x": 1}]}"#;
        fs::write(&path, later).expect("written");
        assert_eq!(parts(&open(folder.path())), [(Part::Pods, By::Label)]);
        for rubbish in ["", "drain", "{}"] {
            fs::write(&path, rubbish).expect("written");
            assert_eq!(parts(&open(folder.path())), [], "{rubbish}");
        }
    }

    #[test]
    fn of_two_who_drain_at_once_neither_is_lost() {
        let folder = tempfile::tempdir().expect("a folder");
        let drains = open(folder.path());
        for _ in 0..100 {
            drains.set(By::Operator, &[]).expect("written");
            let drain = |part: Part| {
                let more = |own: &[Part]| {
                    // Long enough for the other to look, too, were it not for the lock.
                    std::thread::yield_now();
                    [own, &[part]].concat()
                };
                drains.change(By::Operator, Instant::now(), more).expect("written");
            };
            std::thread::scope(|scope| {
                Part::ALL.into_iter().for_each(|part| drop(scope.spawn(move || drain(part))));
            });
            assert_eq!(parts(&drains), Part::ALL.map(|part| (part, By::Operator)));
        }
    }

    #[test]
    fn what_cannot_be_written_is_not_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let drains = open(folder.path());
        drop(folder);
        assert!(drains.set(By::Operator, &Part::ALL).is_err());
        assert_eq!(parts(&drains), []);
    }

    #[test]
    fn label_says_what_it_drains() {
        let table: [(&str, &[Part]); 6] = [
            ("", &Part::ALL),
            ("true", &Part::ALL),
            ("all", &Part::ALL),
            ("services", &[Part::Services]),
            ("pods", &[Part::Pods]),
            ("false", &[]),
        ];
        for (value, parts) in table {
            assert_eq!(parts_of_label(value), Ok(parts), "{value}");
        }
        let says = "\"Pods\" is none of all, services and pods; nothing is drained by it";
        assert_eq!(parts_of_label("Pods"), Err(says.to_owned()));
    }
}
