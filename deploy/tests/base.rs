//! The base as kubectl renders it, and as the library reads it.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cambric_apiserver_double::{ApiServer, Certificates};
use cambric_deploy::{NAMESPACE, base, daemon_set, documents, find, folder, read_base};
use serde_json::Value;

/// Installed by `deploy/tools.sh test`.
const KUBECTL: &str = "kubectl";

/// By kind, namespace and name: the order is each renderer's own.
fn sorted(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let name = |object: &Value| {
        let metadata = &object["metadata"];
        format!("{} {}/{}", object["kind"], metadata["namespace"], metadata["name"])
    };
    objects.into_iter().map(|object| (name(&object), object)).collect()
}

#[test]
fn kubectl_renders_what_the_library_reads() -> Result<()> {
    for name in ["base", "cleanup"] {
        let folder = folder().join(name);
        kubectl_renders(&folder, sorted(read_base(&folder)?))?;
    }
    Ok(())
}

fn kubectl_renders(folder: &Path, read: BTreeMap<String, Value>) -> Result<()> {
    let rendered = match Command::new(KUBECTL).arg("kustomize").arg(folder).output() {
        Err(error) if std::env::var_os("CI").is_none() => {
            println!("not run: {KUBECTL}: {error}");
            return Ok(());
        }
        rendered => rendered.context(KUBECTL)?,
    };
    let warnings = String::from_utf8_lossy(&rendered.stderr);
    ensure!(rendered.status.success() && warnings.is_empty(), "{warnings}");
    let rendered = sorted(documents(&String::from_utf8(rendered.stdout)?)?);
    assert_eq!(rendered.keys().collect::<Vec<_>>(), read.keys().collect::<Vec<_>>());
    for (name, object) in &read {
        assert_eq!(rendered[name], *object, "{name}");
    }
    println!("{} objects are the same", read.len());
    Ok(())
}

/// The command of the guide, twice, against the double.
#[test]
fn kubectl_applies_the_base_and_then_finds_nothing_to_change() -> Result<()> {
    let server = ApiServer::new();
    let certificates = Certificates::make(&["127.0.0.1"])?;
    let listener = server.listen_tls(TcpListener::bind("127.0.0.1:0")?, &certificates)?;
    let home = tempfile::tempdir()?;
    fs::write(home.path().join("kubeconfig"), listener.kubeconfig("admin"))?;
    let apply = || {
        let mut command = Command::new(KUBECTL);
        command.args(["apply", "-k"]).arg(folder().join("base"));
        command.env("KUBECONFIG", home.path().join("kubeconfig")).env("HOME", home.path()).output()
    };
    for says in ["created", "unchanged"] {
        let output = match apply() {
            Err(error) if std::env::var_os("CI").is_none() => {
                println!("not run: {KUBECTL}: {error}");
                return Ok(());
            }
            output => output.context(KUBECTL)?,
        };
        let (said, errors) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
        print!("{said}");
        ensure!(output.status.success() && errors.is_empty(), "{errors}");
        assert_eq!(said.lines().count(), base().len());
        for line in said.lines() {
            assert!(line.ends_with(says), "{line}");
        }
    }
    assert!(server.get("apps/v1", "DaemonSet", NAMESPACE, "cambric").is_some());
    Ok(())
}

#[test]
fn everything_is_in_the_namespace_that_the_base_makes() {
    for object in base() {
        let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
        assert!(namespace.is_none_or(|namespace| namespace == NAMESPACE), "{object}");
    }
    let namespace = find(&base(), "Namespace", NAMESPACE).cloned().expect("it is made");
    for mode in ["enforce", "audit", "warn"] {
        let level = &namespace["metadata"]["labels"][format!("pod-security.kubernetes.io/{mode}")];
        assert_eq!(level, "privileged", "{mode}");
    }
}

#[test]
fn copies_of_the_definitions_are_those_of_the_types() -> Result<()> {
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("reading {}", path.display()));
    let mut names: Vec<_> =
        fs::read_dir(folder().join("crds"))?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    names.sort();
    let mut all = Vec::new();
    for name in &names {
        let text = read(&folder().join("crds").join(name))?;
        let copy = read(&folder().join("helm/cambric/crds").join(name))?;
        assert!(text == copy, "{name:?} of the chart has drifted: run `make crds`");
        all.push(text);
    }
    assert_eq!(fs::read_dir(folder().join("helm/cambric/crds"))?.count(), names.len());
    assert!(read(&folder().join("base/crds.yaml"))? == all.join("---\n"), "run `make crds`");
    Ok(())
}

#[test]
fn a_kustomization_that_does_more_than_to_list_files_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let text = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: []\n";
    let file = folder.path().join("kustomization.yaml");
    fs::write(&file, text)?;
    assert_eq!(read_base(folder.path())?, [Value::Null; 0]);
    fs::write(&file, format!("{text}namePrefix: x-\n"))?;
    let error = format!("{:#}", read_base(folder.path()).expect_err("it is more"));
    assert!(error.contains("kustomization.yaml") && error.contains("namePrefix"), "{error}");
    Ok(())
}

/// What `deploy/image` and the design ask of it: each line is one that a review should see change.
#[test]
fn the_daemon_set_has_the_least_rights() {
    let pod = daemon_set()["spec"]["template"]["spec"].clone();
    for field in ["hostPID", "hostIPC", "shareProcessNamespace"] {
        assert!(pod.get(field).is_none(), "{field}");
    }
    let containers =
        ["containers", "initContainers"].map(|field| pod[field].as_array().cloned().unwrap_or_default());
    for container in containers.iter().flatten() {
        let rights = &container["securityContext"];
        assert_eq!(rights["privileged"], false);
        assert_eq!(rights["allowPrivilegeEscalation"], false);
        assert_eq!(rights["readOnlyRootFilesystem"], true);
        assert_eq!(rights["capabilities"]["drop"], serde_json::json!(["ALL"]));
        assert!(container["resources"].get("limits").is_none(), "throttled, it loses sessions");
    }
    let added = |of: usize| &containers[of][0]["securityContext"]["capabilities"]["add"];
    assert_eq!(*added(0), serde_json::json!(["NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE"]));
    assert!(added(1).is_null());
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    for probe in ["startupProbe", "livenessProbe"] {
        assert_eq!(
            containers[0][0][probe]["httpGet"]["path"], "/healthz",
            "{probe}: restarts nothing for a peer"
        );
    }
    assert_eq!(containers[0][0]["readinessProbe"]["httpGet"]["path"], "/readyz");
    let paths: Vec<&str> = pod["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|volume| volume["hostPath"]["path"].as_str())
        .collect();
    let expected = ["/run/cambric", "/var/lib/cambric", "/etc/cni/net.d", "/opt/cni/bin", "/proc/sys/net"];
    assert_eq!(paths, expected);
}
