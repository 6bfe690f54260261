//! Files on which locks (flock) are taken. They are root's alone: whoever may open one, if only to read, may hold its lock
//! for ever.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

const MODE: u32 = 0o600;

/// Opens one, and makes it if there is none. One of an earlier version, which others could open, is taken from them.
///
/// # Errors
/// The file's.
pub fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(MODE).open(path)?;
    if file.metadata()?.permissions().mode() & !MODE & 0o777 != 0 {
        file.set_permissions(Permissions::from_mode(MODE))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn nobody_else_can_open_it_be_it_new_or_of_an_earlier_version() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("lock");
        let mode = || fs::metadata(&path).expect("there").permissions().mode() & 0o7777;
        open(&path).expect("made");
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("as it was");
        open(&path).expect("opened");
        assert_eq!(mode(), 0o600);
    }
}
