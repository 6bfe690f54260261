//! What a lab leaves outside its namespaces, so that `down` finds it again:
//!
//! ```text
//! /run/cambric-lab/two-rack/          the lab
//!   lock                              held while up or down works
//!   file                              the *.clab.yml it came from
//!   backend.json                      what plays its nodes
//!   complete                          there once `up` is through
//!   nodes/n11/                        written before the node's init is started, and named in its command line
//!     spec.json                       the node as the file describes it, for its init
//!     netns                           symbolic link to its name under /run/netns
//!     root/                           where the init, in its own mount namespace, builds the node's root
//!     log/                            the node's /var/log
//!     pods/n11-1.json                 written before a pod is made: its container ID and what ADD answered
//! ```

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::backend::Backend;

/// Where labs are recorded unless told otherwise.
pub const STATE_DIR: &str = "/run/cambric-lab";

const BACKEND: &str = "backend.json";

/// The folder of one lab. It may not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    folder: PathBuf,
}

/// Kept while `up` or `down` works. A child between fork and exec holds it, too: whoever gets it after a killed `up`
/// sees every init under its own command line.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Flock<File>,
}

impl State {
    /// The folder of lab `name` in `state_dir`.
    pub fn new(state_dir: &Path, name: &str) -> Self {
        Self { folder: state_dir.join(name) }
    }

    pub(crate) fn nodes(&self) -> PathBuf {
        self.folder.join("nodes")
    }

    pub(crate) fn node(&self, name: &str) -> PathBuf {
        self.nodes().join(name)
    }

    pub(crate) fn exists(&self) -> bool {
        self.folder.exists()
    }

    /// Whether an `up` went through to its end.
    pub(crate) fn is_complete(&self) -> bool {
        self.folder.join("complete").exists()
    }

    pub(crate) fn set_complete(&self) -> Result<()> {
        write(&self.folder.join("complete"), "")
    }

    /// The file the lab came from.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        Some(PathBuf::from(fs::read_to_string(self.folder.join("file")).ok()?))
    }

    pub(crate) fn set_file(&self, file: &Path) -> Result<()> {
        write(&self.folder.join("file"), &file.to_string_lossy())
    }

    /// What plays the nodes.
    pub(crate) fn backend(&self) -> Backend {
        let text = fs::read_to_string(self.folder.join(BACKEND)).ok();
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    pub(crate) fn set_backend(&self, backend: &Backend) -> Result<()> {
        write(&self.folder.join(BACKEND), &serde_json::to_string(backend)?)
    }

    /// Nodes recorded, whether or not they came to life.
    pub(crate) fn recorded_nodes(&self) -> Vec<OsString> {
        let entries = fs::read_dir(self.nodes()).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect()
    }

    /// Takes the lab for this process; waits while another has it.
    pub(crate) fn lock(&self) -> Result<Lock> {
        let path = self.folder.join("lock");
        loop {
            fs::create_dir_all(&self.folder)
                .with_context(|| format!("creating {}", self.folder.display()))?;
            let file = match File::create(&path) {
                // `down` removed the folder between the two lines
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file.with_context(|| format!("creating {}", path.display()))?,
            };
            let made = file.metadata()?.ino();
            let lock = match Flock::lock(file, FlockArg::LockExclusive) {
                Ok(lock) => lock,
                Err((_, error)) => bail!("locking {}: {error}", path.display()),
            };
            if fs::metadata(&path).is_ok_and(|found| found.ino() == made) {
                return Ok(Lock { _file: lock });
            }
        }
    }

    /// Removes the folder, and the folder of all labs when this was the last.
    pub(crate) fn remove(&self) -> Result<()> {
        // The lock file goes last: until then a second `down` or `up` waits.
        for entry in fs::read_dir(&self.folder)?.flatten().filter(|entry| entry.file_name() != "lock") {
            let path = entry.path();
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.with_context(|| format!("removing {}", path.display()))?;
        }
        fs::remove_dir_all(&self.folder).with_context(|| format!("removing {}", self.folder.display()))?;
        if let Some(labs) = self.folder.parent() {
            let _ = fs::remove_dir(labs); // not empty: another lab is up
        }
        Ok(())
    }
}

/// Writes a file so that it is there whole or not at all.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    let half = path.with_extension("half");
    fs::write(&half, text)
        .and_then(|()| fs::rename(&half, path))
        .with_context(|| format!("writing {}", path.display()))
}
