//! The mark `ready`: a file by which the daemon says that in this boot the node judges pods by their policies, or was
//! told not to. One line of JSON, `{"version":1,"boot_id":"…","policy":"on"}`.
//!
//! A mark of another version is read as far as it can be: what is beside these fields is passed over, and a word for
//! `policy` that is not known here counts as no mark and is told. The first release wrote no version.
//!
//! Before it stands no pod is started, unless the plugin is told not to look (`policyGate`): after a reboot the CNI
//! configuration is there and the kernel's tables are gone. It stays when the daemon stops, as they do, and is of no
//! use to another boot.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::lease::table::BootId;

/// Its name in the folder of run-time files.
pub const FILE: &str = "ready";
/// More than the mark can have, in bytes: what else lies there is not read in full.
const MOST_BYTES: u64 = 4096;

/// Whether pods of this node are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Tables and sets stand.
    On,
    /// There are none, by the operator's wish.
    Off,
}

/// Of what is written here.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Mark {
    #[serde(default)]
    version: u32,
    boot_id: String,
    policy: Policy,
}

/// All that is known of a mark of a later release.
#[derive(Deserialize)]
struct Later {
    version: u32,
}

/// Why there is no mark that counts, with the file's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MarkError(String);

/// Reads the mark.
///
/// # Errors
/// There is none, it is damaged, or it is of another boot.
pub fn read(run_dir: &Path) -> Result<Policy, MarkError> {
    let path = run_dir.join(FILE);
    let strange = |why: &dyn fmt::Display| MarkError(format!("{}: {why}", path.display()));
    let text = read_text(&path).map_err(|error| strange(&error))?;
    let mark: Mark = serde_json::from_str(&text).map_err(|error| match serde_json::from_str(&text) {
        Ok(Later { version }) if version > VERSION => {
            strange(&format!("of version {version}, of a later cambricd, and not understood: {error}"))
        }
        _ => strange(&error),
    })?;
    let current = BootId::current().map_err(|error| MarkError(format!("the boot ID: {error}")))?;
    if BootId::parse(&mark.boot_id).ok() != Some(current) {
        return Err(strange(&"cambricd has not been ready since the boot"));
    }
    Ok(mark.policy)
}

/// Sets the mark of this boot, unless it says so already: whole or not at all, for the plugin reads at any time.
///
/// # Errors
/// The folder's, or the kernel tells no boot ID.
pub fn write(run_dir: &Path, policy: Policy) -> io::Result<()> {
    if read(run_dir) == Ok(policy) {
        return Ok(());
    }
    let mut line =
        serde_json::to_vec(&Mark { version: VERSION, boot_id: BootId::current()?.to_string(), policy })?;
    line.push(b'\n');
    let temporary = run_dir.join(format!(".{FILE}.tmp"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&temporary)?;
    file.write_all(&line)?;
    fs::rename(&temporary, run_dir.join(FILE))
}

/// Takes the mark away; that there is none is no error.
///
/// # Errors
/// The folder's.
pub fn remove(run_dir: &Path) -> io::Result<()> {
    match fs::remove_file(run_dir.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    // Looked at first, since opening a FIFO would wait for a writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("no regular file"));
    }
    let mut text = String::new();
    File::open(path)?.take(MOST_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_of(mark: impl AsRef<[u8]>) -> Result<Policy, MarkError> {
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join(FILE), mark).expect("written");
        read(folder.path())
    }

    fn says(outcome: &Result<Policy, MarkError>, words: &str) -> bool {
        outcome.as_ref().is_err_and(|why| why.to_string().contains(words))
    }

    #[test]
    fn what_was_written_is_read_in_one_line_of_this_boot() {
        let folder = tempfile::tempdir().expect("folder");
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("boot ID");
        for (policy, word) in [(Policy::On, "on"), (Policy::Off, "off")] {
            write(folder.path(), policy).expect("written");
            assert_eq!(read(folder.path()), Ok(policy));
            let text = fs::read_to_string(folder.path().join(FILE)).expect("mark");
            assert_eq!(
                text,
                format!("{{\"version\":1,\"boot_id\":\"{}\",\"policy\":\"{word}\"}}\n", boot_id.trim())
            );
        }
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 1, "nothing else is left");
        remove(folder.path()).expect("removed");
        remove(folder.path()).expect("gone already");
        assert!(says(&read(folder.path()), "No such file"));
    }

    #[test]
    fn a_mark_of_this_boot_counts() {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("boot ID");
        let mark = |policy: &str| format!(r#"{{"boot_id":"{}","policy":{policy}}}"#, boot_id.trim());
        assert_eq!(read_of(mark("\"on\"") + "\n"), Ok(Policy::On));
        assert_eq!(read_of(mark("\"off\"")), Ok(Policy::Off));
        assert_eq!(read_of(mark("\"on\", \"more\": [1]")), Ok(Policy::On), "newer daemons may tell more");
        assert!(says(&read_of(mark("\"half\"")), "expected `on` or `off`"));
        assert!(read_of(mark("true")).is_err());
    }

    #[test]
    fn a_mark_of_a_later_release_counts_as_far_as_it_is_understood() {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("boot ID");
        let mark = |more: &str| format!(r#"{{"version":2,"boot_id":"{}",{more}}}"#, boot_id.trim());
        assert_eq!(read_of(mark(r#""policy":"on","since":7"#)), Ok(Policy::On));
        assert!(says(&read_of(mark(r#""policy":"audit""#)), "of version 2, of a later cambricd"));
        assert!(says(&read_of(mark(r#""policies":["on"]"#)), "of version 2, of a later cambricd"));
    }

    #[test]
    fn anything_else_does_not() {
        let other_boot = r#"{"boot_id":"00000000-0000-0000-0000-000000000000","policy":"on"}"#;
        assert!(says(&read_of(other_boot), "since the boot"));
        let deep = "[".repeat(100_000);
        for damaged in ["", "{", "{}", "null", "on", r#"{"boot_id":"","policy":"on"}"#, &deep] {
            assert!(read_of(damaged).is_err(), "{damaged}");
        }
        assert!(read_of([0xff; 10]).is_err());
        let folder = tempfile::tempdir().expect("folder");
        fs::create_dir(folder.path().join(FILE)).expect("folder");
        assert!(says(&read(folder.path()), "no regular file"));
    }
}
