//! A folder of YAML manifests, watched: a view whenever something in it has changed.
//!
//! A folder that cannot be listed leaves all as it was, until it or another one of its name can.

use std::io;
use std::path::PathBuf;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Views;
use super::folder::Folder;
use super::folder_watch::Watch;
use crate::objects::{Objects, Problem};

/// Watches `folder`, and keeps in the file `record` what counts of it, for the daemon that comes after this
/// one. The task ends when nobody looks at the views any more.
///
/// # Errors
/// The folder cannot be watched.
pub fn start(folder: PathBuf, record: PathBuf) -> anyhow::Result<(Views, JoinHandle<()>)> {
    let mut watch = Watch::new(folder.clone())?;
    watch.renew()?;
    let (views, latest) = watch::channel(None);
    let task = tokio::spawn(async move {
        let mut folder = Folder::with_record(folder, record);
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
        Problem::new(folder.path().display().to_string(), format!("folder cannot be listed: {error}"));
    let mut view = latest.cloned().unwrap_or_default();
    if !folder.seen_whole() {
        view.unknown = vec![problem.clone()];
    }
    if !view.problems.contains(&problem) {
        view.problems.push(problem);
    }
    view
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    const CONFIG: &str = "apiVersion: cambric.dev/v1alpha1\nkind: BGPClusterConfig\nmetadata: {name: c}\nspec: {mesh: Disabled}\n";

    async fn view_where(views: &mut Views, fits: fn(&Objects) -> bool) -> Objects {
        let view = views.wait_for(|view| view.as_ref().is_some_and(fits));
        let view = tokio::time::timeout(Duration::from_secs(10), view).await.expect("in time");
        view.expect("the task runs").clone().expect("just looked at")
    }

    #[tokio::test]
    async fn a_folder_that_is_replaced_is_missed_and_then_followed() {
        let temporary = tempfile::tempdir().expect("temporary folder");
        let path = temporary.path().join("manifests");
        fs::create_dir(&path).expect("own folder");
        fs::write(path.join("a.yaml"), CONFIG).expect("own folder");
        let (mut views, task) = start(path.clone(), temporary.path().join("record")).expect("own folder");
        view_where(&mut views, |view| view.cluster_configs.len() == 1).await;

        fs::rename(&path, temporary.path().join("old")).expect("own folder");
        let view = view_where(&mut views, |view| !view.problems.is_empty()).await;
        assert!(view.problems[0].what.starts_with("folder cannot be listed"), "{}", view.problems[0]);
        assert_eq!((view.cluster_configs.len(), view.unknown.len()), (1, 0), "it is not an empty folder");

        fs::create_dir(&path).expect("own folder");
        let view = view_where(&mut views, |view| view.problems.is_empty()).await;
        assert_eq!(view.cluster_configs.len(), 0);
        fs::write(path.join("b.yaml"), CONFIG).expect("own folder");
        view_where(&mut views, |view| view.cluster_configs.len() == 1).await;
        task.abort();
    }

    /// The kubelet writes a new hidden folder and moves a link to it into place; the files' names are links
    /// through that link, and none of them is touched.
    #[tokio::test]
    async fn a_config_map_that_is_updated_is_noticed() {
        let mount = tempfile::tempdir().expect("temporary folder");
        let path = |name: &str| mount.path().join(name);
        let version = |name: &str, text: &str| {
            fs::create_dir(path(name)).expect("own folder");
            fs::write(path(name).join("config.yaml"), text).expect("own folder");
            symlink(name, path("..data_tmp")).expect("own folder");
            fs::rename(path("..data_tmp"), path("..data")).expect("own folder");
        };
        version("..2026_01", CONFIG);
        symlink("..data/config.yaml", path("config.yaml")).expect("own folder");
        let (mut views, task) = start(mount.path().to_owned(), path("record.json")).expect("own folder");
        view_where(&mut views, |view| view.cluster_configs.contains_key("c")).await;
        version("..2026_02", &CONFIG.replace("{name: c}", "{name: d}"));
        let view = view_where(&mut views, |view| view.cluster_configs.contains_key("d")).await;
        assert_eq!((view.cluster_configs.len(), view.problems.len()), (1, 0));
        fs::remove_dir_all(path("..2026_01")).expect("own folder");
        task.abort();
    }
}
