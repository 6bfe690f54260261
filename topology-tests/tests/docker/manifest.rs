//! The DaemonSet's pod as `docker run` says it. A field that is not understood is an error: what runs here has the rights
//! of the manifest, whatever becomes of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// The node that a pod is on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Host<'a> {
    pub(crate) name: &'a str,
    /// Its files.
    pub(crate) root: &'a Path,
    /// The container whose network is the node's.
    pub(crate) network: &'a str,
}

/// The pod template of the DaemonSet.
pub(crate) fn pod() -> Value {
    cambric_deploy::daemon_set()["spec"]["template"]["spec"].take()
}

/// A container of a pod by its name, init containers included.
pub(crate) fn container<'a>(pod: &'a Value, name: &str) -> Result<&'a Value> {
    let of = |key: &str| pod[key].as_array().into_iter().flatten();
    let found = of("initContainers").chain(of("containers")).find(|container| container["name"] == name);
    found.with_context(|| format!("the DaemonSet has no container {name}"))
}

/// Options of `docker run` for a container of the pod: its rights, its files, its environment.
pub(crate) fn options(pod: &Value, container: &Value, host: &Host<'_>) -> Result<Vec<String>> {
    ensure!(pod["hostNetwork"] == true, "hostNetwork: {}", pod["hostNetwork"]);
    for shared in ["hostPID", "hostIPC", "shareProcessNamespace"] {
        ensure!(pod[shared].is_null(), "{shared}: {}", pod[shared]);
    }
    let mut words = vec!["--network".to_owned(), format!("container:{}", host.network)];
    words.extend(rights(&pod["securityContext"], &container["securityContext"])?);
    words.extend(mounts(pod, container, host)?);
    for variable in container["env"].as_array().into_iter().flatten() {
        let name = text(&variable["name"])?;
        let value = match &variable["value"] {
            Value::String(value) => value.clone(),
            _ if variable["valueFrom"]["fieldRef"]["fieldPath"] == "spec.nodeName" => host.name.to_owned(),
            _ => bail!("the value of {name}: {variable}"),
        };
        words.extend(["--env".to_owned(), format!("{name}={value}")]);
    }
    Ok(words)
}

/// What the container starts: the program, unless it is the image's, and its arguments.
pub(crate) fn command(container: &Value) -> Result<(Option<String>, Vec<String>)> {
    let list =
        |key: &str| container[key].as_array().into_iter().flatten().map(text).collect::<Result<Vec<_>>>();
    let mut command = list("command")?.into_iter();
    let program = command.next();
    Ok((program, command.chain(list("args")?).collect()))
}

/// Docker's profile for seccomp holds unless said otherwise, as the runtime's default does in a cluster.
fn rights(of_pod: &Value, of_container: &Value) -> Result<Vec<String>> {
    let mut all: BTreeMap<&str, &Value> = BTreeMap::new();
    for part in [of_pod, of_container] {
        all.extend(part.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value)));
    }
    let user = |key: &str| all.get(key).and_then(|value| value.as_u64()).with_context(|| format!("no {key}"));
    let mut words = vec!["--user".to_owned(), format!("{}:{}", user("runAsUser")?, user("runAsGroup")?)];
    for (key, value) in &all {
        match (*key, *value) {
            ("runAsUser" | "runAsGroup", _) | ("privileged", Value::Bool(false)) => {}
            ("allowPrivilegeEscalation", Value::Bool(false)) => {
                words.extend(["--security-opt", "no-new-privileges"].map(str::to_owned));
            }
            ("readOnlyRootFilesystem", Value::Bool(true)) => words.push("--read-only".to_owned()),
            ("seccompProfile", profile) if profile["type"] == "RuntimeDefault" => {}
            ("capabilities", lists) => {
                for (key, option) in [("drop", "--cap-drop"), ("add", "--cap-add")] {
                    for capability in lists[key].as_array().into_iter().flatten() {
                        words.extend([option.to_owned(), text(capability)?]);
                    }
                }
            }
            _ => bail!("securityContext.{key}: {value}"),
        }
    }
    for needed in ["allowPrivilegeEscalation", "readOnlyRootFilesystem", "seccompProfile", "capabilities"] {
        ensure!(all.contains_key(needed), "no securityContext.{needed}");
    }
    Ok(words)
}

fn mounts(pod: &Value, container: &Value, host: &Host<'_>) -> Result<Vec<String>> {
    let mut words = Vec::new();
    for mount in container["volumeMounts"].as_array().into_iter().flatten() {
        let mut volumes = pod["volumes"].as_array().into_iter().flatten();
        let volume =
            volumes.find(|volume| volume["name"] == mount["name"]).with_context(|| mount.to_string())?;
        let path = text(&volume["hostPath"]["path"]).with_context(|| volume.to_string())?;
        // What a process sees of /proc/sys/net is its own network's, so that of this machine is the node's.
        let source = if path.starts_with("/proc/") {
            path.into()
        } else {
            let folder = host.root.join(path.trim_start_matches('/'));
            if volume["hostPath"]["type"] == "DirectoryOrCreate" {
                fs::create_dir_all(&folder)?;
            }
            folder
        };
        ensure!(source.is_dir(), "{} is no folder", source.display());
        let access = if mount["readOnly"] == true { ":ro" } else { "" };
        words.extend([
            "--volume".to_owned(),
            format!("{}:{}{access}", source.display(), text(&mount["mountPath"])?),
        ]);
    }
    Ok(words)
}

fn text(value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).with_context(|| format!("no text: {value}"))
}
