//! Names of pods that the alias of their link does not tell: `/run/cambric/names/<link>`.
//!
//! An alias has 255 bytes, and a pod's name may have 317 with its namespace. The alias has what fits, for people; the
//! whole name is in a file, so that the daemon knows after a restart which pod it judges. Few pods have one.

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::attachment::Attachment;

/// In the folder of run-time files.
pub(crate) const FOLDER: &str = "names";

/// Writes the name of a pod down if its alias does not tell it. Before the link has its alias: so nobody takes the cut
/// name for the whole one.
pub(crate) fn keep(run_dir: &Path, attachment: &Attachment) -> io::Result<()> {
    let Some(name) = attachment.pod.as_deref().filter(|_| attachment.outdoes_its_alias()) else {
        return Ok(());
    };
    let path = path(run_dir, &attachment.host_ifname());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, name)
}

/// The name that was written down for a link whose alias says this. Else why there is none that fits.
pub(crate) fn find(run_dir: &Path, labelled: &Attachment) -> Result<String, String> {
    let path = path(run_dir, &labelled.host_ifname());
    let strange = |why: &dyn Display| format!("{}: {why}", path.display());
    let name = fs::read_to_string(&path).map_err(|error| strange(&error))?;
    let whole = Attachment { pod: Some(name.clone()), ..labelled.clone() };
    if whole.alias() != labelled.alias() {
        return Err(strange(&format!("{name:?} is another name")));
    }
    Ok(name)
}

/// Removes what may have been written down.
pub(crate) fn forget(run_dir: &Path, ifname: &str) {
    let _ = fs::remove_file(path(run_dir, ifname)); // most have none
}

fn path(run_dir: &Path, ifname: &str) -> PathBuf {
    run_dir.join(FOLDER).join(ifname)
}
