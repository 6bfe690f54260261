//! What is installed in a cluster, as values: the kustomize base of `deploy/base`.
//!
//! For tests: those here render it as `kubectl` and Helm do and compare, and the lab starts containers exactly as the
//! DaemonSet says. Kustomize itself is not rebuilt: the base only lists files, and a base that does more is refused.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// The namespace that everything is in.
pub const NAMESPACE: &str = "cambric-system";

/// The folder `deploy` of the source tree that this was built from.
pub fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The objects of the base, in the order of its files.
///
/// # Panics
/// The files of this source tree are not as [`read_base`] wants them.
pub fn base() -> Vec<Value> {
    read_base(&folder().join("base")).expect("deploy/base can be read")
}

/// The DaemonSet of the base.
///
/// # Panics
/// As [`base`], or there is none.
pub fn daemon_set() -> Value {
    find(&base(), "DaemonSet", "cambric").expect("deploy/base has a DaemonSet named cambric").clone()
}

/// The object of that kind and name.
pub fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> Option<&'a Value> {
    objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
}

/// A kustomization that lists files, and does nothing else.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kustomization {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    resources: Vec<PathBuf>,
}

/// The objects of a kustomize folder, in the order of its files.
///
/// # Errors
/// A file cannot be read, is no YAML, or the kustomization does more than to list files.
pub fn read_base(folder: &Path) -> Result<Vec<Value>> {
    let file = folder.join("kustomization.yaml");
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let listed: Kustomization =
        serde_yaml_ng::from_str(&text).with_context(|| format!("in {}", file.display()))?;
    let mut objects = Vec::new();
    for name in listed.resources {
        let path = folder.join(name);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        objects.extend(documents(&text).with_context(|| format!("in {}", path.display()))?);
    }
    Ok(objects)
}

/// The documents of a YAML file; those with nothing in them are left out.
///
/// # Errors
/// It is no YAML.
pub fn documents(text: &str) -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        objects.push(Value::deserialize(document)?);
    }
    objects.retain(|object| !object.is_null());
    Ok(objects)
}
