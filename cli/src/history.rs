//! What was typed at earlier prompts.
//!
//! One file a user, `$XDG_STATE_HOME/cambric/history` or `~/.local/state/cambric/history` (XDG Base
//! Directory Specification 0.8), for his eyes only. Prompts that run at the same time add to it in turn.
//! Without a home of one's own, or if the file cannot be written, the history is as long as the prompt: root with the
//! home of another user (`sudo` may leave it so) would leave folders in it that their owner cannot use.

use std::env;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, geteuid};
use rustyline::error::ReadlineError;
use rustyline::history::{FileHistory, History as _};

/// In the folder for what programs keep between two runs.
const PATH: &str = "cambric/history";

/// Lines that are kept.
pub(crate) const MOST_LINES: usize = 1000;

/// Where history is kept; nowhere, if there is no path.
#[derive(Debug)]
pub(crate) struct Keeper {
    path: Option<PathBuf>,
}

impl Keeper {
    /// Of the user who runs us.
    pub(crate) fn of_user() -> Keeper {
        let state = state_folder(|name| env::var_os(name).map(PathBuf::from));
        Keeper { path: state.filter(|state| is_of(state, geteuid())).map(|state| state.join(PATH)) }
    }

    /// # Errors
    /// The file's, but for one that is not there yet.
    pub(crate) fn load(&self, history: &mut FileHistory) -> Result<(), ReadlineError> {
        let Some(path) = &self.path else { return Ok(()) };
        match history.load(path) {
            Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            loaded => loaded,
        }
    }

    /// Adds what is new since the last time.
    ///
    /// # Errors
    /// The file's or its folder's; it is not tried again.
    pub(crate) fn append(&mut self, history: &mut FileHistory) -> Result<(), ReadlineError> {
        let Some(path) = self.path.take() else { return Ok(()) };
        append(&path, history)?;
        self.path = Some(path);
        Ok(())
    }
}

fn append(path: &Path, history: &mut FileHistory) -> Result<(), ReadlineError> {
    if let Some(folder) = path.parent() {
        folder.parent().map_or(Ok(()), fs::create_dir_all)?;
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    history.append(path)?;
    // It may have been made by something else before.
    Ok(fs::set_permissions(path, Permissions::from_mode(0o600))?)
}

/// The specification wants relative paths ignored.
fn state_folder(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |name| variable(name).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))
}

/// Whether what is there of a path belongs to a user.
fn is_of(path: &Path, user: Uid) -> bool {
    let there = path.ancestors().find_map(|folder| folder.metadata().ok());
    there.is_some_and(|there| there.uid() == user.as_raw())
}

#[cfg(test)]
mod tests {
    use rustyline::Config;

    use super::*;

    #[test]
    fn history_is_where_the_specification_wants_it() {
        let of = |state: Option<&str>, home: Option<&str>| {
            let found = state_folder(|name| if name == "HOME" { home } else { state }.map(PathBuf::from));
            found.map(|path| path.join(PATH).display().to_string())
        };
        assert_eq!(of(None, Some("/home/a")).as_deref(), Some("/home/a/.local/state/cambric/history"));
        assert_eq!(of(Some("/s"), Some("/home/a")).as_deref(), Some("/s/cambric/history"));
        assert_eq!(of(Some(""), Some("/home/a")).as_deref(), Some("/home/a/.local/state/cambric/history"));
        assert_eq!(of(Some("s"), None), None);
        assert_eq!(of(None, None), None);
    }

    fn history() -> FileHistory {
        FileHistory::with_config(&Config::builder().max_history_size(3).expect("a size").build())
    }

    #[test]
    fn history_is_kept_for_the_user_alone_and_does_not_grow() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state").join(PATH);
        let mut keeper = Keeper { path: Some(path.clone()) };
        keeper.load(&mut history()).expect("nothing there is no error");
        for round in 0..5 {
            let mut history = history();
            keeper.load(&mut history).expect("own file");
            history.add(&format!("show protocols tor{round}")).expect("memory");
            keeper.append(&mut history).expect("a folder to write in");
        }
        let [own, above] = [folder.path().join("state/cambric"), folder.path().join("state")];
        let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&own)), (0o600, 0o700));
        let as_ever = folder.path().join("as-ever");
        fs::create_dir(&as_ever).expect("a folder to write in");
        assert_eq!(mode(&above), mode(&as_ever), "only our own folder is for nobody else");
        let mut history = history();
        keeper.load(&mut history).expect("own file");
        let lines: Vec<&String> = history.iter().collect();
        assert_eq!(lines, ["show protocols tor2", "show protocols tor3", "show protocols tor4"]);
    }

    #[test]
    fn home_of_another_user_is_let_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let (own, other) = (geteuid(), Uid::from_raw(geteuid().as_raw() + 1));
        for path in [folder.path().to_owned(), folder.path().join(".local/state")] {
            assert!(is_of(&path, own) && !is_of(&path, other), "{}", path.display());
        }
    }

    #[test]
    fn what_cannot_be_written_is_tried_once() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut keeper = Keeper { path: Some(file.path().join("cambric/history")) };
        let mut history = history();
        history.add("show status").expect("memory");
        assert!(keeper.append(&mut history).is_err());
        assert!(keeper.append(&mut history).is_ok());
    }
}
