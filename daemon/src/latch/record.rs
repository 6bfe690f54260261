//! Who was Established in the last run of this boot: `peers.json` in the folder of run-time files.
//!
//! ```text
//! {"version": 1, "boot_id": "…", "peers": [
//!     {"address": "10.0.1.1", "name": "tor1a", "families": ["ipv4", "ipv6"]},
//!     {"address": "10.0.9.2", "name": "n2", "node": "n2", "families": ["ipv4"]}]}
//! ```
//!
//! A peer with `node` is that node, and was a peer because of the mesh; one with `range` called from that listen range;
//! all others were named by the operator.
//!
//! The file is on tmpfs and is replaced by rename. What a later version writes beside is passed over, as are families
//! and kinds of peers that this one does not know: nobody can be waited for who cannot be spoken with. What cannot be
//! read at all is told once and counts as absent: then this run is measured by nothing but itself.
//!
//! What cannot be written is tried again. Meanwhile a file that names somebody too many is removed: the next run would
//! wait for a peer that had gone before. One that names somebody too few stays: it is more than nothing.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use cambric_bgp::{Family, ScopedAddress};
use cambric_cni::lease::table::BootId;
use serde::{Deserialize, Serialize};

use super::{Bond, Past, Sessions};

/// Its name in the folder of run-time files.
pub const FILE: &str = "peers.json";
/// What this version writes.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    version: u32,
    boot_id: String,
    peers: Vec<Peer>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Peer {
    address: String,
    #[serde(default)]
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    range: Option<String>,
    families: Vec<String>,
}

/// The file, and what is in it.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    boot_id: String,
    /// `None`: it is not there, or nobody knows what it says.
    written: Option<Sessions>,
    /// Why it could not be written; told once.
    failed: Option<String>,
}

impl Record {
    /// Reads what the last run of this boot left; `None`: there is nothing that counts.
    ///
    /// # Errors
    /// The kernel tells no boot ID.
    pub fn open(run_dir: &Path) -> io::Result<(Record, Option<Sessions>)> {
        Ok(Record::open_in_boot(run_dir, BootId::current()?.to_string()))
    }

    fn open_in_boot(run_dir: &Path, boot_id: String) -> (Record, Option<Sessions>) {
        let path = run_dir.join(FILE);
        let last = read(&path, &boot_id).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), error = %error,
                "which peers the last run had cannot be read; none of them is waited for");
            None
        });
        (Record { path, boot_id, written: last.clone(), failed: None }, last)
    }

    /// Makes the file say so. A failure is logged and no more: nothing but the next start's readiness depends on it.
    pub fn set(&mut self, sessions: Sessions) {
        let failed = match self.written.as_ref() == Some(&sessions) {
            true => None,
            false => self.write(&sessions).err().map(|error| error.to_string()),
        };
        match &failed {
            None => self.written = Some(sessions),
            Some(error) => {
                if failed != self.failed {
                    tracing::warn!(path = %self.path.display(), error, "which peers there are cannot be recorded");
                }
                self.remove_if_it_has_more_than(&sessions);
            }
        }
        self.failed = failed;
    }

    /// Whether the file should say something else than it does.
    pub fn is_behind(&self) -> bool {
        self.failed.is_some()
    }

    fn remove_if_it_has_more_than(&mut self, sessions: &Sessions) {
        let is_there = |(address, had): (&ScopedAddress, &Past)| {
            sessions.get(address).is_some_and(|now| had.families.is_subset(&now.families))
        };
        let has_more = self.written.as_ref().is_some_and(|written| !written.iter().all(is_there));
        if has_more && fs::remove_file(&self.path).is_ok() {
            self.written = None;
        }
    }

    fn write(&self, sessions: &Sessions) -> io::Result<()> {
        let peer = |(address, Past { name, bond, families }): (&ScopedAddress, &Past)| Peer {
            address: address.to_string(),
            name: name.clone(),
            node: if let Bond::Node(node) = bond { Some(node.clone()) } else { None },
            range: if let Bond::Range(range) = bond { Some(range.to_string()) } else { None },
            families: families.iter().map(Family::to_string).collect(),
        };
        let peers = sessions.iter().map(peer).collect();
        let content = Content { version: VERSION, boot_id: self.boot_id.clone(), peers };
        let new = self.path.with_extension("json.new");
        fs::write(&new, serde_json::to_vec(&content)?)
            .and_then(|()| fs::rename(&new, &self.path))
            .inspect_err(
                // What is there of it takes room that may be what is missing.
                |_| drop(fs::remove_file(&new)),
            )
    }
}

fn read(path: &Path, boot_id: &str) -> io::Result<Option<Sessions>> {
    let octets = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        octets => octets?,
    };
    let content: Content = serde_json::from_slice(&octets)?;
    if content.boot_id != boot_id {
        return Ok(None);
    }
    let known = |name: &String| Family::ALL.into_iter().find(|family| family.to_string() == *name);
    let peer = |Peer { address, name, node, range, families }: Peer| {
        let families = families.iter().filter_map(known).collect();
        let bond = match (node, range) {
            (Some(node), _) => Bond::Node(node),
            (None, Some(range)) => Bond::Range(range.parse().ok()?),
            (None, None) => Bond::Named,
        };
        Some((address.parse().ok()?, Past { name, bond, families }))
    };
    Ok(Some(content.peers.into_iter().filter_map(peer).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(folder: &Path) -> Option<Sessions> {
        Record::open_in_boot(folder, "a".to_owned()).1
    }

    fn sessions(entries: &[(&str, &[Family])]) -> Sessions {
        let entry = |(at, families): &(&str, &[Family])| {
            let (name, bond) = match *at {
                "10.0.9.2" => ("n2", Bond::Node("n2".to_owned())),
                "10.1.0.7" => ("racks", Bond::Range("10.1.0.0/16".parse().expect("range"))),
                _ => ("tor", Bond::Named),
            };
            let families = families.iter().copied().collect();
            let past = Past { name: name.to_owned(), bond, families };
            (at.parse().expect("address"), past)
        };
        entries.iter().map(entry).collect()
    }

    fn write(folder: &Path, text: &str) {
        fs::write(folder.join(FILE), text).expect("written");
    }

    #[test]
    fn what_is_recorded_is_read_by_the_next_run_of_this_boot() {
        let folder = tempfile::tempdir().expect("folder");
        let (mut record, before) = Record::open_in_boot(folder.path(), "a".to_owned());
        assert_eq!(before, None);
        let two = sessions(&[("10.0.1.1", &[Family::Ipv4]), ("10.0.9.2", &Family::ALL)]);
        record.set(two.clone());
        let text = fs::read_to_string(folder.path().join(FILE)).expect("there");
        let expected = concat!(
            r#"{"version":1,"boot_id":"a","peers":[{"address":"10.0.1.1","name":"tor","#,
            r#""families":["ipv4"]},{"address":"10.0.9.2","name":"n2","node":"n2","families":["ipv4","ipv6"]}]}"#
        );
        assert_eq!(text, expected);
        assert_eq!(last(folder.path()), Some(two));
        let of_range = sessions(&[("10.1.0.7", &[Family::Ipv4])]);
        record.set(of_range.clone());
        assert_eq!(last(folder.path()), Some(of_range));
        assert_eq!(Record::open_in_boot(folder.path(), "b".to_owned()).1, None, "of another boot");
        record.set(Sessions::new());
        assert_eq!(last(folder.path()), Some(Sessions::new()));
    }

    #[test]
    fn a_later_versions_record_is_read_as_far_as_it_is_understood() {
        let folder = tempfile::tempdir().expect("folder");
        write(
            folder.path(),
            r#"{"version":2,"boot_id":"a","since":7,"peers":[
                {"address":"10.0.1.1","name":"tor","families":["ipv4","l2vpn-evpn"],"why":"x"},
                {"address":"02:00:00:00:00:01","families":["ipv6"]}]}"#,
        );
        assert_eq!(last(folder.path()), Some(sessions(&[("10.0.1.1", &[Family::Ipv4])])));
    }

    #[test]
    fn a_damaged_record_counts_as_absent_and_is_written_anew() {
        let folder = tempfile::tempdir().expect("folder");
        for damaged in
            ["", "{", "[]", r#"{"version":1,"boot_id":"a"}"#, r#"{"version":-1,"boot_id":"a","peers":[]}"#]
        {
            write(folder.path(), damaged);
            let (mut record, last_run) = Record::open_in_boot(folder.path(), "a".to_owned());
            assert_eq!(last_run, None, "{damaged}");
            record.set(Sessions::new());
            assert_eq!(last(folder.path()), Some(Sessions::new()));
        }
        fs::remove_file(folder.path().join(FILE)).expect("removed");
        fs::create_dir(folder.path().join(FILE)).expect("a folder by its name");
        let (mut record, last_run) = Record::open_in_boot(folder.path(), "a".to_owned());
        assert_eq!(last_run, None);
        record.set(Sessions::new());
        assert!(record.is_behind() && record.written.is_none());
    }

    #[test]
    fn a_record_that_cannot_be_written_names_nobody_who_has_gone_and_is_tried_again() {
        let folder = tempfile::tempdir().expect("folder");
        let (mut record, _) = Record::open_in_boot(folder.path(), "a".to_owned());
        let one = sessions(&[("10.0.1.1", &[Family::Ipv4])]);
        let two = sessions(&[("10.0.1.1", &[Family::Ipv4]), ("10.0.1.2", &[Family::Ipv4])]);
        record.set(one.clone());
        let in_the_way = folder.path().join("peers.json.new");
        fs::create_dir(&in_the_way).expect("a folder by the name of what is written first");
        record.set(two.clone());
        assert_eq!(last(folder.path()), Some(one.clone()), "one peer is more than nothing");
        assert!(record.is_behind());
        record.set(one.clone());
        assert!(!record.is_behind(), "it says so");
        record.set(Sessions::new());
        assert_eq!(last(folder.path()), None, "nobody waits for who has gone");
        assert!(record.is_behind());
        fs::remove_dir(&in_the_way).expect("out of the way");
        record.set(Sessions::new());
        assert_eq!((last(folder.path()), record.is_behind()), (Some(Sessions::new()), false));
    }
}
