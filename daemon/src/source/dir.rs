//! A folder of YAML manifests, as `kubectl apply -f` would take it.
//!
//! Files are read in the order of their names, so that "older" has a meaning. A typing error must not cost
//! sessions: a file with a fault is a [`Problem`] and counts as it was before. A file that had one from the
//! start has nothing it could count as: the view says so, and nobody acts on it. A folder that
//! cannot be listed leaves all as it was, until it or another one of its name can.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Views;
use super::folder_watch::Watch;
use super::manifest::Manifest;
use crate::objects::{Objects, Problem};

/// Watches `folder`. The task ends when nobody looks at the views any more.
///
/// # Errors
/// The folder cannot be watched.
pub fn start(folder: PathBuf) -> anyhow::Result<(Views, JoinHandle<()>)> {
    let mut watch = Watch::new(folder.clone())?;
    watch.renew()?;
    let (views, latest) = watch::channel(None);
    let task = tokio::spawn(async move {
        let mut folder = Folder::new(folder);
        while !views.is_closed() {
            // A watch that cannot be had is tried again; listing fails for the same reason and says it.
            let _ = watch.renew();
            publish(&views, &mut folder);
            watch.changed().await;
        }
    });
    Ok((latest, task))
}

fn publish(views: &watch::Sender<Option<Objects>>, folder: &mut Folder) {
    let view = folder.view();
    views.send_if_modified(|latest| {
        let view = match view {
            Ok(objects) => objects,
            Err(error) => not_listed(latest.as_ref(), folder, &error),
        };
        let modified = latest.as_ref() != Some(&view);
        *latest = Some(view);
        modified
    });
}

/// A folder that cannot be listed is not an empty one: the view stays, with a problem.
fn not_listed(latest: Option<&Objects>, folder: &Folder, error: &io::Error) -> Objects {
    let problem =
        Problem::new(folder.path.display().to_string(), format!("folder cannot be listed: {error}"));
    let mut view = latest.cloned().unwrap_or_default();
    if !folder.seen_whole {
        view.unknown = vec![problem.clone()];
    }
    if !view.problems.contains(&problem) {
        view.problems.push(problem);
    }
    view
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
    use std::time::Duration;

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

    #[tokio::test]
    async fn a_folder_that_is_replaced_is_missed_and_then_followed() {
        let temporary = tempfile::tempdir().expect("temporary folder");
        let path = temporary.path().join("manifests");
        fs::create_dir(&path).expect("own folder");
        fs::write(path.join("a.yaml"), CONFIG).expect("own folder");
        let (mut views, task) = start(path.clone()).expect("own folder");
        let mut view_where = async |fits: fn(&Objects) -> bool| {
            let view = views.wait_for(|view| view.as_ref().is_some_and(fits));
            let view = tokio::time::timeout(Duration::from_secs(10), view).await.expect("in time");
            view.expect("the task runs").clone().expect("just looked at")
        };
        view_where(|view| view.cluster_configs.len() == 1).await;

        fs::rename(&path, temporary.path().join("old")).expect("own folder");
        let view = view_where(|view| !view.problems.is_empty()).await;
        assert!(view.problems[0].what.starts_with("folder cannot be listed"), "{}", view.problems[0]);
        assert_eq!((view.cluster_configs.len(), view.unknown.len()), (1, 0), "it is not an empty folder");

        fs::create_dir(&path).expect("own folder");
        let view = view_where(|view| view.problems.is_empty()).await;
        assert_eq!(view.cluster_configs, Vec::new());
        fs::write(path.join("b.yaml"), CONFIG).expect("own folder");
        view_where(|view| view.cluster_configs.len() == 1).await;
        task.abort();
    }
}
