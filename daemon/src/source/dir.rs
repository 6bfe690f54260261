//! A folder of YAML manifests, as `kubectl apply -f` would take it.
//!
//! Files are read in the order of their names, so that "older" has a meaning. A typing error must not cost
//! sessions: a file with a fault is a [`Problem`] and counts as it was before. A file that had one from the
//! start has nothing it could count as: the view says so, and nobody acts on it. The folder is watched; a
//! change is looked at when writing has paused for a moment.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecursiveMode, Watcher};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Views;
use super::manifest::Manifest;
use crate::objects::{Objects, Problem};

/// Editors write a file in several steps; the view is taken when none came for this long.
const PAUSE: Duration = Duration::from_millis(50);

/// Watches `folder`. The task ends when nobody looks at the views any more.
///
/// # Errors
/// The folder cannot be watched.
pub fn start(folder: PathBuf) -> anyhow::Result<(Views, JoinHandle<()>)> {
    let (changed, mut changes) = mpsc::channel(1);
    let mut watcher = notify::recommended_watcher(move |event| {
        if may_change_the_view(&event) {
            // Full: a change is noted already.
            let _ = changed.try_send(());
        }
    })?;
    watcher.watch(&folder, RecursiveMode::NonRecursive)?;
    let (views, latest) = watch::channel(None);
    let task = tokio::spawn(async move {
        let _watcher = watcher; // ends with the task
        let mut folder = Folder::new(folder);
        loop {
            publish(&views, &mut folder);
            if changes.recv().await.is_none() {
                return;
            }
            while let Ok(Some(())) = timeout(PAUSE, changes.recv()).await {}
            if views.is_closed() {
                return;
            }
        }
    });
    Ok((latest, task))
}

/// Our own reading opens and closes files, too: of accesses only the end of writing counts. A failure of
/// the watcher may have cost events.
fn may_change_the_view(event: &notify::Result<Event>) -> bool {
    match event.as_ref().map(|event| event.kind) {
        Ok(EventKind::Access(access)) => access == AccessKind::Close(AccessMode::Write),
        Ok(_) | Err(_) => true,
    }
}

/// A folder that cannot be listed leaves the view as it was: it is not an empty one.
fn publish(views: &watch::Sender<Option<Objects>>, folder: &mut Folder) {
    match folder.view() {
        Ok(objects) => {
            views.send_if_modified(|view| {
                let modified = view.as_ref() != Some(&objects);
                if modified {
                    *view = Some(objects);
                }
                modified
            });
        }
        Err(error) => {
            tracing::error!(folder = %folder.path.display(), error = %error, "folder cannot be listed");
        }
    }
}

/// A folder, and what its files said when each could last be read.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// By file name.
    good: BTreeMap<String, Manifest>,
    /// There was a view with nothing unknown in it.
    seen_whole: bool,
}

impl Folder {
    /// The folder at `path`, of which nothing is known yet.
    pub fn new(path: PathBuf) -> Folder {
        Folder { path, good: BTreeMap::new(), seen_whole: false }
    }

    /// What the folder says now; a file with a fault says what it said before.
    ///
    /// # Errors
    /// The folder cannot be listed. A file that cannot be read is a problem of the view.
    pub fn view(&mut self) -> io::Result<Objects> {
        let files = manifests(&self.path)?;
        self.good.retain(|name, _| files.contains_key(name));
        let mut objects = Objects::default();
        let mut unknown = Vec::new();
        for (name, path) in files {
            let manifest = match fs::read_to_string(&path) {
                Ok(text) => Manifest::decode(&name, &text),
                Err(error) => Manifest::unreadable(&name, &error),
            };
            if manifest.faults.is_empty() {
                self.good.insert(name, manifest.clone());
                manifest.add_to(&mut objects);
            } else if let Some(before) = self.good.get(&name) {
                let still =
                    |fault: Problem| Problem { what: fault.what + "; it counts as it was before", ..fault };
                objects.problems.extend(manifest.faults.into_iter().map(still));
                before.clone().add_to(&mut objects);
            } else {
                unknown.extend(manifest.faults.iter().cloned());
                objects.problems.extend(manifest.faults.iter().cloned());
                manifest.add_to(&mut objects);
            }
        }
        self.seen_whole |= unknown.is_empty();
        if !self.seen_whole {
            objects.unknown = unknown;
        }
        Ok(objects)
    }
}

/// The manifests of a folder: file names, in their order, and paths.
fn manifests(folder: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if is_manifest(&path) {
            files.insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path);
        }
    }
    Ok(files)
}

/// Editors' and Kubernetes' own hidden files are passed over.
fn is_manifest(file: &Path) -> bool {
    let hidden = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let yaml = file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    yaml && !hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "apiVersion: cambric.dev/v1alpha1\nkind: BGPClusterConfig\nmetadata: {name: c}\nspec: {mesh: Disabled}\n";

    fn written(folder: &tempfile::TempDir, file: &str, text: &str) {
        fs::write(folder.path().join(file), text).expect("own folder");
    }

    #[test]
    fn a_file_with_a_fault_counts_as_it_was_before() {
        let temporary = tempfile::tempdir().expect("temporary folder");
        let mut folder = Folder::new(temporary.path().to_owned());
        written(&temporary, "a.yaml", CONFIG);
        let before = folder.view().expect("own folder");
        for broken in [CONFIG.replace("mesh", "mush"), CONFIG.replace("kind:", "kind: [")] {
            written(&temporary, "a.yaml", &broken);
            let view = folder.view().expect("own folder");
            assert_eq!(view.cluster_configs, before.cluster_configs);
            assert_eq!(view.unknown, Vec::new());
            assert!(view.problems[0].place.contains("a.yaml, document 1"), "{}", view.problems[0]);
        }
        fs::remove_file(temporary.path().join("a.yaml")).expect("own folder");
        assert_eq!(folder.view().expect("own folder"), Objects::default(), "removing is a wish");
    }

    #[test]
    fn reading_the_folder_is_no_change_of_it() {
        let event = |kind| Ok(Event::new(kind));
        assert!(!may_change_the_view(&event(EventKind::Access(AccessKind::Open(AccessMode::Any)))));
        assert!(!may_change_the_view(&event(EventKind::Access(AccessKind::Close(AccessMode::Read)))));
        assert!(may_change_the_view(&event(EventKind::Access(AccessKind::Close(AccessMode::Write)))));
        assert!(may_change_the_view(&event(EventKind::Other)), "a rescan");
        assert!(may_change_the_view(&Err(notify::Error::generic("overrun"))));
    }

    #[test]
    fn a_fault_in_the_first_view_hides_something_until_it_is_mended() {
        let temporary = tempfile::tempdir().expect("temporary folder");
        let mut folder = Folder::new(temporary.path().to_owned());
        written(&temporary, "a.yaml", &CONFIG.replace("mesh", "mush"));
        let view = folder.view().expect("own folder");
        assert!(view.unknown[0].what.contains("unknown field `mush`"), "{}", view.unknown[0]);
        written(&temporary, "a.yaml", CONFIG);
        assert_eq!(folder.view().expect("own folder").unknown, Vec::new());

        written(&temporary, "new.yaml", "kind: [");
        let view = folder.view().expect("own folder");
        assert_eq!(
            (view.problems.len(), view.unknown.len()),
            (1, 0),
            "a new file hides nothing that was known"
        );
    }
}
