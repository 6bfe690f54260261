//! A folder of YAML manifests, as `kubectl apply -f` would take it.
//!
//! Files are read in the order of their names, so that "older" has a meaning. A document that cannot be
//! taken is a [`Problem`] and the others count all the same. The folder is watched; a change is looked at
//! when writing has paused for a moment.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use notify::{RecursiveMode, Watcher};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_yaml_ng::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Views;
use crate::kinds::{API_VERSION, BGPClusterConfig, BGPNodeOverride, BGPPeerConfig};
use crate::objects::{Named, Objects, Problem};

/// Editors write a file in several steps; the view is taken when none came for this long.
const PAUSE: Duration = Duration::from_millis(50);

/// Watches `folder`. The task ends when nobody looks at the views any more.
///
/// # Errors
/// The folder cannot be watched.
pub fn start(folder: PathBuf) -> anyhow::Result<(Views, JoinHandle<()>)> {
    let (changed, mut changes) = mpsc::channel(1);
    let mut watcher = notify::recommended_watcher(move |_| {
        // Full: a change is noted already.
        let _ = changed.try_send(());
    })?;
    watcher.watch(&folder, RecursiveMode::NonRecursive)?;
    let (views, latest) = watch::channel(None);
    let task = tokio::spawn(async move {
        let _watcher = watcher; // ends with the task
        loop {
            publish(&views, &folder);
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

/// A folder that cannot be listed leaves the view as it was: it is not an empty one.
fn publish(views: &watch::Sender<Option<Objects>>, folder: &Path) {
    match read(folder) {
        Ok(objects) => {
            views.send_if_modified(|view| {
                let modified = view.as_ref() != Some(&objects);
                if modified {
                    *view = Some(objects);
                }
                modified
            });
        }
        Err(error) => tracing::error!(folder = %folder.display(), error = %error, "folder cannot be listed"),
    }
}

/// All manifests of `folder`.
///
/// # Errors
/// The folder cannot be listed. A file that cannot be read is a problem of the view.
pub fn read(folder: &Path) -> io::Result<Objects> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    files.retain(|file| is_manifest(file));
    files.sort();
    let mut objects = Objects::default();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match fs::read_to_string(&file) {
            Ok(text) => take_file(&mut objects, &name, &text),
            Err(error) => objects.problems.push(Problem::new(name, format!("cannot be read: {error}"))),
        }
    }
    Ok(objects)
}

/// Editors' and Kubernetes' own hidden files are passed over.
fn is_manifest(file: &Path) -> bool {
    let hidden = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let yaml = file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    yaml && !hidden
}

/// What every object says of itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: String,
    kind: String,
    metadata: Metadata,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
}

fn take_file(objects: &mut Objects, file: &str, text: &str) {
    for (index, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
        let place = || format!("{file}, document {}", index + 1);
        match Value::deserialize(document) {
            Ok(Value::Null) => {}
            Ok(value) => {
                if let Err(problem) = take_document(objects, &place(), value) {
                    objects.problems.push(problem);
                }
            }
            Err(error) => {
                // After a syntax error the rest of the file cannot be told apart.
                objects.problems.push(Problem::new(place(), error.to_string()));
                return;
            }
        }
    }
}

fn take_document(objects: &mut Objects, place: &str, value: Value) -> Result<(), Problem> {
    let head: Head =
        serde_yaml_ng::from_value(value.clone()).map_err(|error| Problem::new(place, error.to_string()))?;
    let Head { api_version, kind, metadata: Metadata { name } } = head;
    let place = format!("{kind} {name} ({place})");
    let twice = |taken: bool| {
        if taken { Err(Problem::new(&*place, "an object of this name was there before")) } else { Ok(()) }
    };
    match (api_version.as_str(), kind.as_str()) {
        ("v1", "Node") => {
            twice(objects.nodes.contains_key(&name))?;
            let node: Node = typed(&place, value)?;
            objects.nodes.insert(name, node);
        }
        (API_VERSION, "BGPClusterConfig") => {
            twice(objects.cluster_configs.iter().any(|config| config.name == name))?;
            let BGPClusterConfig { spec, .. } = typed(&place, value)?;
            objects.cluster_configs.push(Named { name, spec });
        }
        (API_VERSION, "BGPPeerConfig") => {
            twice(objects.peer_configs.contains_key(&name))?;
            let BGPPeerConfig { spec, .. } = typed(&place, value)?;
            objects.peer_configs.insert(name, spec);
        }
        (API_VERSION, "BGPNodeOverride") => {
            twice(objects.node_overrides.contains_key(&name))?;
            let BGPNodeOverride { spec, .. } = typed(&place, value)?;
            objects.node_overrides.insert(name, spec);
        }
        // What other parts of a cluster are made of is no business of ours.
        (version, _) if !version.starts_with("cambric.dev/") => {}
        _ => {
            let what =
                format!("NotImplemented: this version does not serve kind \"{kind}\" of {api_version}");
            return Err(Problem::new(place, what));
        }
    }
    Ok(())
}

fn typed<T: DeserializeOwned>(place: &str, value: Value) -> Result<T, Problem> {
    serde_yaml_ng::from_value(value).map_err(|error| Problem::new(place, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(text: &str) -> Objects {
        let mut objects = Objects::default();
        take_file(&mut objects, "a.yaml", text);
        objects
    }

    #[test]
    fn documents_of_one_file_are_told_apart_and_foreign_kinds_passed_over() {
        let objects = objects(
            "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nspec: {podCIDRs: [10.1.0.0/24]}\n---\n---\n\
             apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n---\n\
             apiVersion: cambric.dev/v1alpha1\nkind: BGPPeerConfig\nmetadata: {name: tor}\nspec: {holdTimeSeconds: 9}\n",
        );
        assert_eq!(objects.problems, Vec::new());
        assert!(objects.nodes.contains_key("n1"));
        assert_eq!(objects.peer_configs["tor"].hold_time_seconds, Some(9));
    }

    #[test]
    fn problems_name_place_and_field_and_the_rest_counts() {
        let objects = objects(
            "apiVersion: cambric.dev/v1alpha1\nkind: BGPPeerConfig\nmetadata: {name: tor}\nspec: {bfd: true}\n---\n\
             apiVersion: cambric.dev/v1alpha1\nkind: BGPFilter\nmetadata: {name: f}\nspec: {}\n---\n\
             kind: Node\nmetadata: {name: n1}\n---\n\
             apiVersion: cambric.dev/v1alpha1\nkind: BGPNodeOverride\nmetadata: {name: n1}\nspec: {asn: 65001}\n",
        );
        let problems: Vec<String> = objects.problems.iter().map(Problem::to_string).collect();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].starts_with("BGPPeerConfig tor (a.yaml, document 1): "), "{}", problems[0]);
        assert!(problems[0].contains("unknown field `bfd`"), "{}", problems[0]);
        assert!(problems[1].contains("NotImplemented"), "{}", problems[1]);
        assert!(problems[2].contains("apiVersion"), "{}", problems[2]);
        assert_eq!(objects.node_overrides["n1"].asn, Some(65001));
    }

    #[test]
    fn the_second_object_of_a_name_is_refused() {
        let node = "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\n";
        let objects = objects(&format!("{node}---\n{node}"));
        assert_eq!(objects.problems.len(), 1);
        assert!(objects.problems[0].what.contains("was there before"));
    }
}
