//! What the sysctls were that the daemon changes, before its first change: so that `cambric cleanup` can put them back.
//!
//! The record is written before the change, and of each sysctl the first value is kept: what a later run of the daemon
//! finds is mostly what an earlier one has made of it. The file is on tmpfs, since a reboot resets both.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cambric_api::node::{self, Sysctl, Sysctls, SysctlsError};

/// The record.
#[derive(Debug)]
pub struct Found {
    path: PathBuf,
    temporary: PathBuf,
    /// `None`: one of another version lies there. It has the first values, and stays as it is.
    record: Option<Sysctls>,
    /// The file lacks something of it.
    is_owed: bool,
}

impl Found {
    /// What earlier runs have found in this boot.
    pub fn read(run_dir: &Path) -> Found {
        let path = run_dir.join(node::SYSCTLS);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            text => text.map(Some),
        };
        let record = match text.map(|text| text.map(|text| Sysctls::parse(&text))) {
            Ok(None) => Some(Sysctls::default()),
            Ok(Some(Ok(record))) => Some(record),
            Ok(Some(Err(error @ SysctlsError::Version(_)))) => {
                tracing::warn!(path = %path.display(), error = %error, "record of sysctls is left as it is");
                None
            }
            Ok(Some(Err(error))) => {
                tracing::warn!(path = %path.display(), error = %error, "record of sysctls is made anew");
                Some(Sysctls::default())
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), error = %error, "record of sysctls cannot be read and is made anew");
                Some(Sysctls::default())
            }
        };
        Found { path, temporary: run_dir.join(node::SYSCTLS_TEMPORARY), record, is_owed: false }
    }

    /// Writes down what is there before it is changed, of those that are not written down yet.
    ///
    /// # Errors
    /// The file's. What could not be written is written the next time, though nothing new comes with it.
    pub fn note(&mut self, sysctls: impl IntoIterator<Item = (String, Sysctl)>) -> io::Result<()> {
        let Some(record) = &mut self.record else { return Ok(()) };
        let known = record.found.len();
        for (name, sysctl) in sysctls {
            record.found.entry(name).or_insert(sysctl);
        }
        self.is_owed |= record.found.len() != known;
        if self.is_owed {
            fs::write(&self.temporary, serde_json::to_vec(record)?)?;
            fs::rename(&self.temporary, &self.path)?;
            self.is_owed = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sysctl(name: &str, before: &str) -> (String, Sysctl) {
        (name.to_owned(), Sysctl { before: before.to_owned(), ours: "1".to_owned() })
    }

    fn recorded(run_dir: &Path) -> Sysctls {
        Sysctls::parse(&fs::read(run_dir.join(node::SYSCTLS)).expect("a file")).expect("a record")
    }

    #[test]
    fn first_value_wins_over_runs() {
        let folder = tempfile::tempdir().expect("temporary folder");
        Found::read(folder.path()).note([sysctl("a", "0")]).expect("own folder");
        let mut again = Found::read(folder.path());
        again.note([sysctl("a", "7"), sysctl("b", "2")]).expect("own folder");
        let expected = [sysctl("a", "0"), sysctl("b", "2")].into();
        assert_eq!(recorded(folder.path()), Sysctls { found: expected, ..Sysctls::default() });
    }

    #[test]
    fn what_could_not_be_written_is_written_the_next_time() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let run_dir = folder.path().join("run");
        let mut found = Found::read(&run_dir);
        found.note([sysctl("a", "0")]).expect_err("there is no folder");
        fs::create_dir(&run_dir).expect("own folder");
        found.note([sysctl("a", "1")]).expect("now there is");
        assert_eq!(recorded(&run_dir).found, [sysctl("a", "0")].into());
    }

    #[test]
    fn record_of_another_version_stays_and_a_damaged_one_is_made_anew() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join(node::SYSCTLS);
        let later = "{\"version\":2,\"found\":null}";
        fs::write(&path, later).expect("own folder");
        Found::read(folder.path()).note([sysctl("a", "0")]).expect("nothing to do");
        assert_eq!(fs::read_to_string(&path).expect("there"), later);
        fs::write(&path, "{\"vers").expect("own folder");
        Found::read(folder.path()).note([sysctl("a", "0")]).expect("own folder");
        assert_eq!(recorded(folder.path()).found.len(), 1);
    }
}
