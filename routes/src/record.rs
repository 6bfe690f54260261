//! What the last run left in the kernel, so that the next one can say whether it is still there.
//!
//! Graceful restart promises peers that forwarding went on (RFC 4724, the F bit), per family. That is true if
//! this is the same boot and the kernel holds at least as many learned routes as we recorded. So at any
//! instant the record may say less than the kernel holds, never more: it goes down before deletions and up
//! after additions. The file lives on tmpfs and is replaced by rename.
//!
//! A record of another version is read as far as it can be (what is beside these fields is passed over; the first release
//! wrote no version). One that cannot be read is told and counts as none: then peers are not asked to keep our routes,
//! and what the kernel holds of them stays until they have told theirs.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::Error,
    wanted::{Family, PerFamily},
};

const FILE_NAME: &str = "fib.json";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Whether the kernel kept forwarding while no run of ours looked after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Whether a run before this one left a record in this boot: if not, this is no restart.
    pub restarted: bool,
    /// Whether the kernel holds what that run recorded. An empty record counts as kept.
    pub kept: PerFamily<bool>,
}

/// Of what is written here.
const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    #[serde(default)]
    version: u32,
    boot_id: String,
    ipv4: usize,
    ipv6: usize,
}

#[derive(Debug)]
pub(crate) struct Record {
    path: PathBuf,
    boot_id: String,
    /// What the file says, if there is one of this boot.
    recorded: Option<PerFamily<usize>>,
}

impl Record {
    /// Reads what the last run of this boot left. A file that cannot be understood counts as none.
    pub(crate) fn open(run_dir: &Path) -> Result<Self, Error> {
        let boot_id = fs::read_to_string(BOOT_ID).map_err(Error::BootId)?.trim().to_owned();
        Ok(Self::open_in_boot(run_dir, boot_id))
    }

    fn open_in_boot(run_dir: &Path, boot_id: String) -> Self {
        let path = run_dir.join(FILE_NAME);
        let content = read(&path).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), error = %error,
                "what the last run left cannot be read; this is taken for a first start");
            None
        });
        let recorded = content
            .filter(|content| content.boot_id == boot_id)
            .map(|c| PerFamily { ipv4: c.ipv4, ipv6: c.ipv6 });
        Self { path, boot_id, recorded }
    }

    /// Compares what the last run left with the learned routes that the kernel holds now.
    pub(crate) fn kept(&self, learned: PerFamily<usize>) -> Kept {
        let kept = |family| self.recorded.is_some_and(|recorded| learned.get(family) >= recorded.get(family));
        Kept {
            restarted: self.recorded.is_some(),
            kept: PerFamily { ipv4: kept(Family::Ipv4), ipv6: kept(Family::Ipv6) },
        }
    }

    /// To be called before routes may go: from now on at most `floor` are vouched for.
    pub(crate) fn lower_to(&mut self, floor: PerFamily<usize>) -> Result<(), Error> {
        let Some(recorded) = self.recorded else { return Ok(()) };
        let lowered = PerFamily { ipv4: recorded.ipv4.min(floor.ipv4), ipv6: recorded.ipv6.min(floor.ipv6) };
        if lowered == recorded { Ok(()) } else { self.write(lowered) }
    }

    /// To be called when all is written: exactly these are installed.
    pub(crate) fn set(&mut self, installed: PerFamily<usize>) -> Result<(), Error> {
        if self.recorded == Some(installed) { Ok(()) } else { self.write(installed) }
    }

    fn write(&mut self, counts: PerFamily<usize>) -> Result<(), Error> {
        let content =
            Content { version: VERSION, boot_id: self.boot_id.clone(), ipv4: counts.ipv4, ipv6: counts.ipv6 };
        let failed = |source: io::Error| Error::Record { path: self.path.clone(), source };
        let new = self.path.with_extension("json.new");
        let bytes = serde_json::to_vec(&content).map_err(|error| failed(error.into()))?;
        fs::write(&new, bytes).and_then(|()| fs::rename(&new, &self.path)).map_err(failed)?;
        self.recorded = Some(counts);
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<Option<Content>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(ipv4: usize, ipv6: usize) -> PerFamily<usize> {
        PerFamily { ipv4, ipv6 }
    }

    fn kept(restarted: bool, ipv4: bool, ipv6: bool) -> Kept {
        Kept { restarted, kept: PerFamily { ipv4, ipv6 } }
    }

    #[test]
    fn no_record_is_no_restart() {
        let dir = tempfile::tempdir().expect("tempdir");
        let record = Record::open_in_boot(dir.path(), "a".into());
        assert_eq!(record.kept(counts(5, 5)), kept(false, false, false));
    }

    #[test]
    fn record_is_kept_per_family_if_the_kernel_holds_as_many() {
        let dir = tempfile::tempdir().expect("tempdir");
        let open = || Record::open_in_boot(dir.path(), "a".into());
        open().set(counts(3, 0)).expect("written");
        assert_eq!(open().kept(counts(3, 0)), kept(true, true, true));
        assert_eq!(open().kept(counts(4, 9)), kept(true, true, true));
        assert_eq!(open().kept(counts(2, 0)), kept(true, false, true));
    }

    #[test]
    fn record_of_another_boot_is_none() {
        let dir = tempfile::tempdir().expect("tempdir");
        Record::open_in_boot(dir.path(), "a".into()).set(counts(0, 0)).expect("written");
        let record = Record::open_in_boot(dir.path(), "b".into());
        assert_eq!(record.kept(counts(0, 0)), kept(false, false, false));
    }

    #[test]
    fn broken_record_is_none() {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::write(dir.path().join(FILE_NAME), b"{\"boot_id\":\"a\",\"ipv4\":").expect("written");
        assert!(!Record::open_in_boot(dir.path(), "a".into()).kept(counts(0, 0)).restarted);
    }

    #[test]
    fn records_of_the_release_before_and_of_a_later_one_are_read() {
        let dir = tempfile::tempdir().expect("tempdir");
        for text in [
            r#"{"boot_id":"a","ipv4":3,"ipv6":0}"#,
            r#"{"version":2,"boot_id":"a","since":"now","ipv4":3,"ipv6":0,"evpn":9}"#,
        ] {
            fs::write(dir.path().join(FILE_NAME), text).expect("written");
            assert_eq!(Record::open_in_boot(dir.path(), "a".into()).recorded, Some(counts(3, 0)), "{text}");
        }
        let strange = r#"{"version":2,"boot_id":"a","families":{"ipv4":3}}"#;
        fs::write(dir.path().join(FILE_NAME), strange).expect("written");
        assert_eq!(Record::open_in_boot(dir.path(), "a".into()).recorded, None);
        assert_eq!(fs::read_to_string(dir.path().join(FILE_NAME)).expect("there"), strange);
    }

    #[test]
    fn lowering_never_raises() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut record = Record::open_in_boot(dir.path(), "a".into());
        record.set(counts(10, 10)).expect("written");
        record.lower_to(counts(4, 12)).expect("written");
        assert_eq!(Record::open_in_boot(dir.path(), "a".into()).recorded, Some(counts(4, 10)));
    }
}
