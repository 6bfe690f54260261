//! What counts of a folder, in a file of its own on the disk: a daemon that is started anew goes on from it.
//!
//! Without it an upgrade would find a file that was broken while its predecessor ran, and know of no state to
//! go back to; and of two nodes with one range the other one would win, while pods live in it. It outlives the
//! kernel, too: when a rack gets its power back, one typing error must not keep all its nodes down.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::contradictions::Claims;

/// Name of the file in the folder of the last known state.
pub(crate) const FILE_NAME: &str = "manifests.json";
/// Of what is written here. Those before it are read, and one of a later release is put aside. Raised by whatever the
/// release before would not understand, for it would take that for rubbish, and write its own over it: 2 has claims to
/// filters, keys, gateways and ranges.
const VERSION: u32 = 2;

/// The file, and what was written to it last.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    node: String,
    written: Option<Digest>,
}

/// Of what was written. Who has what, of thousands of nodes, need not be there twice.
type Digest = [u8; 32];

/// What is in it.
#[derive(Debug, Serialize, Deserialize)]
struct Recorded {
    version: u32,
    /// What one node has granted is nothing that another one, made from its disk, should go on from.
    node: String,
    /// The folder it is about.
    folder: PathBuf,
    counts: Counts,
}

/// All that is known of a record of a later release.
#[derive(Deserialize)]
struct Later {
    version: u32,
}

/// What counts of a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    /// The text of each file, by name.
    pub(super) files: BTreeMap<String, String>,
    /// Those of the files that hide something: new ones with a fault.
    pub(super) broken: BTreeSet<String>,
    /// Who has what.
    pub(super) claims: Claims,
}

impl Record {
    /// The record of `node` at `path`, which need not be there.
    pub fn new(path: PathBuf, node: impl Into<String>) -> Record {
        Record { path, node: node.into(), written: None }
    }

    /// The node whose record it is.
    pub(super) fn node(&self) -> &str {
        &self.node
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What counted of `folder`. Nothing if there is no record of it, or none that can be used: the folder is there.
    pub(super) fn read(&mut self, folder: &Path) -> Option<Counts> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), error = %error, "record of the manifests cannot be read");
                return None;
            }
        };
        if let Ok(Later { version }) = serde_json::from_slice(&text)
            && version > VERSION
        {
            self.put_aside(version);
            return None;
        }
        let recorded: Recorded = match serde_json::from_slice(&text) {
            Ok(recorded) => recorded,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), error = %error, "record of the manifests is not one");
                return None;
            }
        };
        let Recorded { version, node, folder: of, .. } = &recorded;
        if !(1..=VERSION).contains(version) || (node, of.as_path()) != (&self.node, folder) {
            let of = of.display();
            tracing::warn!(path = %self.path.display(), version, node, folder = %of, "record of the manifests is another's");
            return None;
        }
        self.written = Some(Sha256::digest(&text).into());
        Some(recorded.counts)
    }

    /// A later release wrote it before somebody went back to this one: it finds it again under that name.
    fn put_aside(&self, version: u32) {
        let (path, aside) =
            (self.path.display(), self.path.with_extension(format!("version-{version}.json")));
        match fs::rename(&self.path, &aside) {
            Ok(()) => {
                tracing::warn!(path = %path, version, aside = %aside.display(), "record of a later release is put aside")
            }
            Err(error) => {
                tracing::warn!(path = %path, version, error = %error, "record of a later release cannot be put aside")
            }
        }
    }

    /// Writes what has changed. A failure is tried again with the next view.
    pub(super) fn keep(&mut self, folder: &Path, counts: Counts) -> io::Result<()> {
        let (node, folder) = (self.node.clone(), folder.to_owned());
        let recorded = Recorded { version: VERSION, node, folder, counts };
        let text = serde_json::to_vec(&recorded)?;
        let digest: Digest = Sha256::digest(&text).into();
        if self.written != Some(digest) {
            write(&self.path, &text)?;
            self.written = Some(digest);
        }
        Ok(())
    }
}

/// Whole or not at all, over a loss of power too; for root only, as the manifests may be.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let temporary = path.with_extension("json.tmp");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_a_later_release_is_put_aside() {
        let state = tempfile::tempdir().expect("temporary folder");
        let (path, folder) = (state.path().join("claims.json"), Path::new("kubernetes"));
        let later = "{\"version\":3,\"what\":\"nobody knows\"}";
        fs::write(&path, later).expect("own folder");
        let mut record = Record::new(path.clone(), "n1");
        assert_eq!(record.read(folder), None);
        record.keep(folder, Counts::default()).expect("room");
        let aside = state.path().join("claims.version-3.json");
        assert_eq!(fs::read_to_string(aside).expect("it is there"), later);
        assert_eq!(Record::new(path, "n1").read(folder), Some(Counts::default()));
    }

    #[test]
    fn a_record_of_the_first_version_is_read_and_what_is_written_is_none_for_its_release() {
        let state = tempfile::tempdir().expect("temporary folder");
        let (path, folder) = (state.path().join("claims.json"), Path::new("kubernetes"));
        let first = r#"{"version":1,"node":"n1","folder":"kubernetes","counts":{"files":{},"broken":[],"claims":{
            "objects":[[["BGPNodeOverride","n1"],{"file":"BGPNodeOverride n1","since":1}]],
            "granted":[[{"Peer":["n1","192.0.2.1"]},["BGPNodeOverride","n1"]]],
            "refused":[],"asns":{"n1":65111},"views":2}}}"#;
        fs::write(&path, first).expect("own folder");
        let mut record = Record::new(path.clone(), "n1");
        let counts = record.read(folder).expect("it is understood");
        assert_eq!(counts.claims.objects().count(), 1);
        record.keep(folder, counts).expect("room");
        let Later { version } =
            serde_json::from_slice(&fs::read(path).expect("written")).expect("it says its version");
        assert!(version > 1, "what that release does not understand it puts aside by the version alone");
    }
}
