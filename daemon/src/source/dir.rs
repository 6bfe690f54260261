//! A folder of YAML manifests, watched: a view whenever something in it has changed.
//!
//! A folder that cannot be listed leaves all as it was, until it or another one of its name can; one that is
//! not there is waited for.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::Views;
use super::folder::Folder;
use super::folder_watch::Watch;
use super::record::Record;

/// How soon it is tried again to write a record that could not be written.
const RETRY: Duration = Duration::from_secs(30);

/// Watches `folder`, and keeps in `record` what counts of it, for the daemon that comes after this one. The task
/// ends when nobody looks at the views any more.
///
/// # Errors
/// The kernel watches nothing for us.
pub fn start(folder: PathBuf, record: Record) -> anyhow::Result<(Views, JoinHandle<()>)> {
    let mut watch = Watch::new(folder.clone())?;
    let (views, latest) = watch::channel(None);
    let task = tokio::spawn(async move {
        // A panic in there is a bug of ours: the task ends, and the daemon with it.
        let Ok(mut folder) = spawn_blocking(|| Folder::with_record(folder, record)).await else { return };
        while !views.is_closed() {
            let look = move || {
                // A watch that cannot be had is tried again; listing fails for the same reason and says it.
                let _ = watch.renew();
                (folder.view(), folder, watch)
            };
            let view;
            match spawn_blocking(look).await {
                Ok(looked) => (view, folder, watch) = looked,
                Err(_) => return,
            }
            views.send_if_modified(|latest| {
                let is_modified = latest.as_ref() != Some(&view);
                *latest = Some(view);
                is_modified
            });
            // After the view: the disk may take its time.
            let keep = move || {
                folder.keep_record();
                folder
            };
            match spawn_blocking(keep).await {
                Ok(kept) => folder = kept,
                Err(_) => return,
            }
            views.send_if_modified(|latest| latest.as_mut().is_some_and(|view| folder.tell_record(view)));
            if folder.is_recorded() {
                watch.changed().await;
            } else {
                let _ = timeout(RETRY, watch.changed()).await;
            }
        }
    });
    Ok((latest, task))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    use tokio::time::sleep;

    use crate::objects::Objects;
    use crate::view::View;

    const CONFIG: &str = "apiVersion: cambric.dev/v1alpha1\nkind: BGPClusterConfig\nmetadata: {name: c}\nspec: {mesh: Disabled}\n";

    fn record(folder: &tempfile::TempDir) -> Record {
        Record::new(folder.path().join("record.json"), "n1")
    }

    async fn view_where(views: &mut Views, fits: fn(&View) -> bool) -> View {
        let view = views.wait_for(|view| view.as_ref().is_some_and(fits));
        let view = timeout(Duration::from_secs(10), view).await.expect("in time");
        view.expect("the task runs").clone().expect("just looked at")
    }

    #[tokio::test]
    async fn a_folder_that_is_replaced_is_missed_and_then_followed() {
        let temporary = tempfile::tempdir().expect("temporary folder");
        let path = temporary.path().join("manifests");
        fs::create_dir(&path).expect("own folder");
        fs::write(path.join("a.yaml"), CONFIG).expect("own folder");
        let (mut views, task) = start(path.clone(), record(&temporary)).expect("inotify");
        view_where(&mut views, |view| view.fabric.cluster_configs.len() == 1).await;

        fs::rename(&path, temporary.path().join("old")).expect("own folder");
        let view = view_where(&mut views, |view| !view.fabric.problems.is_empty()).await;
        assert!(
            view.fabric.problems[0].what.starts_with("folder cannot be listed"),
            "{}",
            view.fabric.problems[0]
        );
        assert_eq!(
            (view.fabric.cluster_configs.len(), view.fabric.unknown.len()),
            (1, 0),
            "it is not an empty folder"
        );

        fs::create_dir(&path).expect("own folder");
        let is_empty =
            |view: &View| view.fabric.problems[0].what.starts_with("there is no manifest in it any more");
        let view = view_where(&mut views, is_empty).await;
        assert_eq!(
            (view.fabric.cluster_configs.len(), view.fabric.problems.len()),
            (1, 1),
            "somebody is about to fill it"
        );
        fs::write(path.join("b.yaml"), CONFIG.replace("{name: c}", "{name: d}")).expect("own folder");
        let view = view_where(&mut views, |view| view.fabric.problems.is_empty()).await;
        assert_eq!(view.fabric.cluster_configs.keys().collect::<Vec<_>>(), ["d"]);
        task.abort();
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_waited_for_with_what_the_record_says() {
        let temporary = tempfile::tempdir().expect("temporary folder");
        let path = temporary.path().join("manifests");
        let (mut views, task) = start(path.clone(), record(&temporary)).expect("inotify");
        let view = view_where(&mut views, |_| true).await;
        assert_eq!(
            (view.fabric.unknown.len(), view.fabric.problems.len()),
            (1, 1),
            "nobody knows what is in it"
        );
        fs::create_dir(&path).expect("own folder");
        fs::write(path.join("a.yaml"), CONFIG).expect("own folder");
        let before = view_where(&mut views, |view| view.fabric.cluster_configs.len() == 1).await;
        assert_eq!((before.fabric.unknown.len(), before.fabric.problems.len()), (0, 0));
        // It is written after the view was told.
        let is_kept = || {
            fs::read_to_string(temporary.path().join("record.json")).is_ok_and(|text| text.contains("a.yaml"))
        };
        let kept = async {
            while !is_kept() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), kept).await.expect("in time");
        task.abort();

        fs::rename(&path, temporary.path().join("old")).expect("own folder");
        let (mut views, task) = start(path.clone(), record(&temporary)).expect("inotify");
        let view = view_where(&mut views, |_| true).await;
        assert!(
            view.fabric.problems[0].what.starts_with("folder cannot be listed"),
            "{}",
            view.fabric.problems[0]
        );
        let fabric = Objects { problems: Vec::new(), ..Objects::clone(&view.fabric) };
        assert_eq!(
            (fabric, view.workloads),
            (Objects::clone(&before.fabric), before.workloads),
            "the record's"
        );
        fs::rename(temporary.path().join("old"), &path).expect("own folder");
        view_where(&mut views, |view| view.fabric.problems.is_empty()).await;
        task.abort();
    }

    #[tokio::test]
    async fn a_view_does_not_wait_for_the_disk() {
        let temporary = tempfile::tempdir().expect("temporary folder");
        let path = temporary.path().join("manifests");
        fs::create_dir(&path).expect("own folder");
        fs::write(path.join("a.yaml"), CONFIG).expect("own folder");
        // Whoever opens it to write waits for a reader.
        let slow = temporary.path().join("record.json.tmp");
        nix::unistd::mkfifo(&slow, nix::sys::stat::Mode::S_IRWXU).expect("own folder");
        let (mut views, task) = start(path, record(&temporary)).expect("inotify");
        view_where(&mut views, |view| view.fabric.cluster_configs.len() == 1).await;
        let reading = spawn_blocking(move || fs::read(slow));
        let view = view_where(&mut views, |view| !view.fabric.problems.is_empty()).await;
        assert!(
            view.fabric.problems[0].what.starts_with("cannot be written: "),
            "{}",
            view.fabric.problems[0]
        );
        assert!(reading.await.expect("read").is_ok());
        task.abort();
    }

    #[tokio::test]
    async fn a_pipe_among_the_manifests_is_named_and_the_others_are_read_on() {
        let temporary = tempfile::tempdir().expect("temporary folder");
        let path = temporary.path().join("manifests");
        fs::create_dir(&path).expect("own folder");
        fs::write(path.join("b.yaml"), CONFIG).expect("own folder");
        let (mut views, task) = start(path.clone(), record(&temporary)).expect("inotify");
        view_where(&mut views, |view| view.fabric.cluster_configs.len() == 1).await;
        nix::unistd::mkfifo(&path.join("a.yaml"), nix::sys::stat::Mode::S_IRWXU).expect("own folder");
        let view = view_where(&mut views, |view| !view.fabric.problems.is_empty()).await;
        assert_eq!(
            view.fabric.problems[0].to_string(),
            "a.yaml: cannot be read: it is no regular file; it is left out"
        );
        fs::write(
            path.join("b.yaml"),
            CONFIG.to_owned() + "---\n" + &CONFIG.replace("{name: c}", "{name: d}"),
        )
        .expect("own folder");
        view_where(&mut views, |view| view.fabric.cluster_configs.contains_key("d")).await;
        task.abort();
    }

    /// The kubelet writes a new hidden folder and moves a link to it into place; the files' names are links
    /// through that link, and none of them is touched.
    #[tokio::test]
    async fn a_config_map_that_is_updated_is_noticed() {
        let [mount, state] = [(); 2].map(|()| tempfile::tempdir().expect("temporary folder"));
        let path = |name: &str| mount.path().join(name);
        let version = |name: &str, text: &str| {
            fs::create_dir(path(name)).expect("own folder");
            fs::write(path(name).join("config.yaml"), text).expect("own folder");
            symlink(name, path("..data_tmp")).expect("own folder");
            fs::rename(path("..data_tmp"), path("..data")).expect("own folder");
        };
        version("..2026_01", CONFIG);
        symlink("..data/config.yaml", path("config.yaml")).expect("own folder");
        let (mut views, task) = start(mount.path().to_owned(), record(&state)).expect("inotify");
        view_where(&mut views, |view| view.fabric.cluster_configs.contains_key("c")).await;
        version("..2026_02", &CONFIG.replace("{name: c}", "{name: d}"));
        let view = view_where(&mut views, |view| view.fabric.cluster_configs.contains_key("d")).await;
        assert_eq!((view.fabric.cluster_configs.len(), view.fabric.problems.len()), (1, 0));
        fs::remove_dir_all(path("..2026_01")).expect("own folder");
        task.abort();
    }
}
