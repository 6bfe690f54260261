//! The ready mark: a file by which the daemon says that its rules stand since this boot.
//!
//! It stays when the daemon stops, as the rules do. After a reboot both are gone, or the mark is of another boot.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;

use crate::lease::table::BootId;

/// Its name in the folder of run-time files.
const FILE: &str = "ready";
/// More than the mark can have: what else lies there is not read in full.
const MOST_BYTES: u64 = 4096;

/// What is known about policy on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    /// Tables and sets stand.
    On,
    /// There are none, by the operator's wish.
    Off,
    /// Nobody looked.
    Unknown,
}

#[derive(Deserialize)]
struct Mark {
    boot_id: String,
    policy: String,
}

/// Reads the mark; else tells why it does not count.
pub(super) fn look(run_dir: &Path) -> Result<Policy, String> {
    let path = run_dir.join(FILE);
    let strange = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let text = read(&path).map_err(|error| strange(&error))?;
    let mark: Mark = serde_json::from_str(&text).map_err(|error| strange(&error))?;
    let current = BootId::current().map_err(|error| format!("the boot ID: {error}"))?;
    if BootId::parse(&mark.boot_id).ok() != Some(current) {
        return Err(strange(&"cambricd has not been ready since the boot"));
    }
    match mark.policy.as_str() {
        "on" => Ok(Policy::On),
        "off" => Ok(Policy::Off),
        other => Err(strange(&format!("policy is {other:?}, must be on or off"))),
    }
}

fn read(path: &Path) -> io::Result<String> {
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

    fn look_at(mark: impl AsRef<[u8]>) -> Result<Policy, String> {
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join(FILE), mark).expect("written");
        look(folder.path())
    }

    #[test]
    fn a_mark_of_this_boot_counts() {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("boot ID");
        let mark = |policy: &str| format!(r#"{{"boot_id":"{}","policy":{policy}}}"#, boot_id.trim());
        assert_eq!(look_at(mark("\"on\"") + "\n"), Ok(Policy::On));
        assert_eq!(look_at(mark("\"off\"")), Ok(Policy::Off));
        assert_eq!(look_at(mark("\"on\", \"more\": [1]")), Ok(Policy::On), "newer daemons may tell more");
        assert!(look_at(mark("\"half\"")).is_err_and(|why| why.contains("must be on or off")));
        assert!(look_at(mark("true")).is_err());
    }

    #[test]
    fn anything_else_does_not() {
        let other_boot = r#"{"boot_id":"00000000-0000-0000-0000-000000000000","policy":"on"}"#;
        assert!(look_at(other_boot).is_err_and(|why| why.contains("since the boot")));
        let deep = "[".repeat(100_000);
        for damaged in ["", "{", "{}", "null", "on", r#"{"boot_id":"","policy":"on"}"#, &deep] {
            assert!(look_at(damaged).is_err(), "{damaged}");
        }
        assert!(look_at([0xff; 10]).is_err());
        let folder = tempfile::tempdir().expect("folder");
        assert!(look(folder.path()).is_err_and(|why| why.contains("No such file")));
        fs::create_dir(folder.path().join(FILE)).expect("folder");
        assert!(look(folder.path()).is_err_and(|why| why.contains("no regular file")));
    }
}
