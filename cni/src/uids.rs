//! Which pod of its name a link is of: `/run/cambric/uids/<link>`, a symbolic link whose target is the pod's uid.
//!
//! A StatefulSet's pod that is made anew has the name of the one before it, whose link may still be there. The alias has
//! no room for more words that earlier versions could read. A symbolic link is made by one call, whole or not at all,
//! and costs no page of memory; `ls -l` shows it. Links of earlier versions, and pods whose runtime told no uid, have
//! none.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::attachment::Attachment;

/// In the folder of run-time files.
pub(crate) const FOLDER: &str = "uids";

/// Writes the uid down, if there is one. Before the link has its alias: so nobody takes it for one without.
pub(crate) fn keep(run_dir: &Path, attachment: &Attachment) -> io::Result<()> {
    let Some(uid) = &attachment.uid else { return Ok(()) };
    let path = path(run_dir, &attachment.host_ifname());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    match symlink(uid, &path) {
        // Of an ADD of this container that was killed.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(&path)?;
            symlink(uid, &path)
        }
        outcome => outcome,
    }
}

/// What was written down for a link, if anything was. Else why it cannot be read.
pub(crate) fn find(run_dir: &Path, ifname: &str) -> Result<Option<String>, String> {
    let path = path(run_dir, ifname);
    match fs::read_link(&path) {
        Ok(uid) => match uid.into_os_string().into_string() {
            Ok(uid) => Ok(Some(uid)),
            Err(uid) => Err(format!("{}: {uid:?} is no uid", path.display())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// Removes what may have been written down.
pub(crate) fn forget(run_dir: &Path, ifname: &str) {
    let _ = fs::remove_file(path(run_dir, ifname)); // there may be none
}

fn path(run_dir: &Path, ifname: &str) -> PathBuf {
    run_dir.join(FOLDER).join(ifname)
}
