//! Whose turn it is on a node: a daemon has the lock as long as it lives, and while we have it none starts.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use cambric_api::node;
use cambric_cni::lock_file;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// While it is held no daemon starts. What was made for it goes with it.
#[derive(Debug)]
pub(super) struct Turn {
    _lock: Flock<File>,
    /// The file, its folder and those above that were not there before: the deepest first.
    made: Vec<PathBuf>,
}

impl Turn {
    /// Also where no daemon ever was: one may start any moment.
    pub(super) fn take(run_dir: &Path) -> Result<Turn, String> {
        let path = run_dir.join(node::LOCK);
        let is_absent = |path: &&Path| fs::symlink_metadata(path).is_err();
        let made = path.ancestors().take_while(is_absent).map(Path::to_owned).collect();
        let opened = fs::create_dir_all(run_dir).and_then(|()| lock_file::open(&path));
        let file = opened
            .map_err(|error| format!("cannot keep a cambricd from starting: {}: {error}", path.display()))?;
        Ok(Turn { _lock: lock(&path, file)?, made })
    }

    /// Only looks whether a daemon has it.
    pub(super) fn look(run_dir: &Path) -> Result<(), String> {
        let path = run_dir.join(node::LOCK);
        match File::open(&path) {
            Ok(file) => lock(&path, file).map(drop),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(cannot_tell(&path, &error)),
        }
    }

    /// Whether there was no lock before.
    pub(super) fn is_new(&self) -> bool {
        !self.made.is_empty()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        for path in &self.made {
            // A folder may have got files of others by now.
            let _ = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
        }
    }
}

fn lock(path: &Path, file: File) -> Result<Flock<File>, String> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => {
            format!("a cambricd runs on this node (it holds {}); stop it first", path.display())
        }
        errno => cannot_tell(path, &errno.into()),
    })
}

fn cannot_tell(path: &Path, error: &io::Error) -> String {
    format!("cannot tell whether a cambricd runs: {}: {error}", path.display())
}
