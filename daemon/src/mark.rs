//! The mark `ready`: in this boot the node judges pods by their policies, or was told not to.
//!
//! Before it stands the CNI plugin starts no pod, unless it is told not to look (`policyGate`): after a reboot the CNI
//! configuration is there and the kernel's tables are gone. It stays when the daemon stops, as the tables do, and is
//! of no use to another boot.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// File name in the run-time folder.
pub const FILE_NAME: &str = "ready";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What it says; one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    boot_id: String,
    policy: Judged,
}

/// Whether pods are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Judged {
    /// They are.
    On,
    /// The operator does not want it.
    Off,
}

/// Sets the mark of this boot, if it does not stand: whole or not at all, for the plugin reads at any time.
///
/// # Errors
/// The folder's.
pub fn set(run_dir: &Path, policy: Judged) -> io::Result<()> {
    if stands(run_dir) == Some(policy) {
        return Ok(());
    }
    let mut line = serde_json::to_vec(&Mark { boot_id: boot_id()?, policy })?;
    line.push(b'\n');
    let temporary = run_dir.join(format!(".{FILE_NAME}.tmp"));
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&temporary)?;
    file.write_all(&line)?;
    fs::rename(&temporary, run_dir.join(FILE_NAME))
}

/// Takes it away.
///
/// # Errors
/// The folder's; that there is none is no error.
pub fn remove(run_dir: &Path) -> io::Result<()> {
    match fs::remove_file(run_dir.join(FILE_NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What the mark of this boot says.
pub fn stands(run_dir: &Path) -> Option<Judged> {
    let mark: Mark = serde_json::from_slice(&fs::read(run_dir.join(FILE_NAME)).ok()?).ok()?;
    (mark.boot_id == boot_id().ok()?).then_some(mark.policy)
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string(BOOT_ID)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_is_one_line_of_this_boot() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let run_dir = folder.path();
        assert_eq!(stands(run_dir), None);
        set(run_dir, Judged::On).expect("own folder");
        assert_eq!(stands(run_dir), Some(Judged::On));
        let text = fs::read_to_string(run_dir.join(FILE_NAME)).expect("own folder");
        let boot_id = fs::read_to_string(BOOT_ID).expect("Linux has one");
        assert_eq!(text, format!("{{\"boot_id\":\"{}\",\"policy\":\"on\"}}\n", boot_id.trim()));

        set(run_dir, Judged::Off).expect("own folder");
        assert_eq!(stands(run_dir), Some(Judged::Off));
        let of_another_boot = text.replace(boot_id.trim(), "00000000-0000-4000-8000-000000000000");
        fs::write(run_dir.join(FILE_NAME), of_another_boot).expect("own folder");
        assert_eq!(stands(run_dir), None);
        remove(run_dir).expect("own folder");
        remove(run_dir).expect("gone already");
    }
}
