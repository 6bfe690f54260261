//! What counts of a folder, in a file of its own on the disk: a daemon that is started anew goes on from it.
//!
//! Without it an upgrade would find a file that was broken while its predecessor ran, and know of no state to
//! go back to; and of two nodes with one range the other one would win, while pods live in it. It outlives the
//! kernel, too: when a rack gets its power back, one typing error must not keep all its nodes down.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::contradictions::Age;

/// Name of the file in the folder of the last known state.
pub(crate) const FILE_NAME: &str = "manifests.json";

/// The file, and what was written to it last.
#[derive(Debug)]
pub(super) struct Record {
    path: PathBuf,
    written: Option<Recorded>,
}

/// What is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recorded {
    /// The folder it is about.
    pub(super) folder: PathBuf,
    /// The text of each file that counts, by name.
    pub(super) files: BTreeMap<String, String>,
    /// Who was first.
    pub(super) ages: Vec<Age>,
}

impl Record {
    pub(super) fn new(path: PathBuf) -> Record {
        Record { path, written: None }
    }

    /// Nothing if there is none, or none that can be used: the folder is there.
    pub(super) fn read(&mut self) -> Option<Recorded> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), error = %error, "record of the manifests cannot be read");
                return None;
            }
        };
        match serde_json::from_slice(&text) {
            Ok(recorded) => self.written = Some(recorded),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), error = %error, "record of the manifests is not one");
            }
        }
        self.written.clone()
    }

    /// Writes what has changed. A failure is tried again with the next view.
    pub(super) fn keep(&mut self, recorded: Recorded) {
        if self.written.as_ref() == Some(&recorded) {
            return;
        }
        match write(&self.path, &recorded) {
            Ok(()) => self.written = Some(recorded),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), error = %error, "record of the manifests cannot be written");
            }
        }
    }
}

/// Whole or not at all, over a loss of power too; for root only, as the manifests may be.
fn write(path: &Path, recorded: &Recorded) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let temporary = path.with_extension("json.tmp");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(&serde_json::to_vec(recorded)?)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}
