//! Notices that a folder, or anything in it, has changed.
//!
//! The kernel watches a folder and not a name: when another folder takes the name, the watch stays with the
//! old one. Nor does it tell of a file that is a link to somewhere else, or that another machine writes (NFS). So the
//! name and what it holds are looked at now and then, and the watch is renewed with each look at the content.
//!
//! Nobody can see that a writer is not done who pauses in the middle of a file. Whoever writes beside it and renames
//! is never seen half-way.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Editors write a file in several steps; a change is over when no further one came for this long.
const PAUSE: Duration = Duration::from_millis(50);
/// Somebody who writes all the time does not keep us from looking.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often the name is looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// Device and inode.
type Identity = (u64, u64);
/// By file, what changes with its text: identity, length, and when it was written to, in s and ns.
type Content = BTreeMap<OsString, (Identity, u64, (i64, i64))>;

pub(super) struct Watch {
    path: PathBuf,
    watcher: RecommendedWatcher,
    changes: mpsc::Receiver<()>,
    /// The folder that is watched; `None` when the last attempt failed.
    watched: Option<Identity>,
    /// What was in it then.
    content: Content,
}

impl Watch {
    /// For the folder at `path`, which is watched from the first [`Watch::renew`] on.
    pub(super) fn new(path: PathBuf) -> notify::Result<Watch> {
        let (changed, changes) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event| {
            if may_change_the_view(&event) {
                // Full: a change is noted already.
                let _ = changed.try_send(());
            }
        })?;
        Ok(Watch { path, watcher, changes, watched: None, content: Content::new() })
    }

    /// Watches the folder that has the name now. To be called before its content is read. Blocks on the file system.
    pub(super) fn renew(&mut self) -> notify::Result<()> {
        let now = identity_of(&self.path);
        if self.watched != now {
            // Fails when the old folder is gone, and its watch with it.
            let _ = self.watcher.unwatch(&self.path);
        }
        self.watched = None;
        // The same folder may have been removed and made again: the kernel uses inodes anew.
        self.watcher.watch(&self.path, RecursiveMode::NonRecursive)?;
        self.watched = now;
        self.content = content_of(&self.path);
        Ok(())
    }

    /// Returns when there is reason to look at the content.
    pub(super) async fn changed(&mut self) {
        loop {
            if timeout(INTERVAL, self.changes.recv()).await.is_ok() {
                return self.settled().await;
            }
            let path = self.path.clone();
            // A file system that does not answer (NFS) holds up nobody else.
            let look = spawn_blocking(move || (identity_of(&path), content_of(&path)));
            // A panic in there is for the look that follows to find.
            let Ok((identity, content)) = look.await else { return };
            if self.watched.is_none() || self.watched != identity {
                return;
            }
            if self.content != content {
                return self.settled().await;
            }
        }
    }

    async fn settled(&mut self) {
        let quiet = async { while let Ok(Some(())) = timeout(PAUSE, self.changes.recv()).await {} };
        let _ = timeout(LONGEST_PAUSE, quiet).await;
    }
}

fn identity_of(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|metadata| identity(&metadata))
}

/// Of links, what they lead to. What cannot be looked at is left out: it is noticed when it can.
fn content_of(path: &Path) -> Content {
    let Ok(entries) = fs::read_dir(path) else { return Content::new() };
    let entries = entries.flatten().filter_map(|entry| {
        let metadata = fs::metadata(entry.path()).ok()?;
        let written = (metadata.mtime(), metadata.mtime_nsec());
        Some((entry.file_name(), (identity(&metadata), metadata.len(), written)))
    });
    entries.collect()
}

fn identity(metadata: &fs::Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// Our own reading opens and closes files, too: of accesses only the end of writing counts. A failure of
/// the watcher may have cost events.
fn may_change_the_view(event: &notify::Result<Event>) -> bool {
    match event.as_ref().map(|event| event.kind) {
        Ok(EventKind::Access(access)) => access == AccessKind::Close(AccessMode::Write),
        Ok(_) | Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_the_folder_is_no_change_of_it() {
        let event = |kind| Ok(Event::new(kind));
        assert!(!may_change_the_view(&event(EventKind::Access(AccessKind::Open(AccessMode::Any)))));
        assert!(!may_change_the_view(&event(EventKind::Access(AccessKind::Close(AccessMode::Read)))));
        assert!(may_change_the_view(&event(EventKind::Access(AccessKind::Close(AccessMode::Write)))));
        assert!(may_change_the_view(&event(EventKind::Other)), "a rescan");
        assert!(may_change_the_view(&Err(notify::Error::generic("overrun"))));
    }

    #[tokio::test]
    async fn somebody_who_writes_all_the_time_does_not_keep_us_from_looking() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut watch = Watch::new(folder.path().to_owned()).expect("inotify");
        watch.renew().expect("own folder");
        let file = folder.path().join("busy");
        let writer = tokio::spawn(async move {
            loop {
                fs::write(&file, "x").expect("own folder");
                tokio::time::sleep(PAUSE / 5).await;
            }
        });
        timeout(3 * LONGEST_PAUSE, watch.changed()).await.expect("a change");
        writer.abort();
    }

    #[tokio::test]
    async fn what_a_link_leads_to_is_looked_at_now_and_then() {
        let [folder, elsewhere] = [(); 2].map(|()| tempfile::tempdir().expect("temporary folder"));
        let file = elsewhere.path().join("file");
        fs::write(&file, "x").expect("own folder");
        std::os::unix::fs::symlink(&file, folder.path().join("link")).expect("own folder");
        let mut watch = Watch::new(folder.path().to_owned()).expect("inotify");
        watch.renew().expect("own folder");
        fs::write(&file, "other").expect("own folder");
        timeout(10 * INTERVAL, watch.changed()).await.expect("a change");
    }
}
