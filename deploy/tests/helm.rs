//! The chart, rendered, beside the base. Helm itself is not run: no package of it is in the distribution.

#[path = "helm/render.rs"]
mod render;

use std::fs;

use anyhow::{Context, Result};
use cambric_deploy::{NAMESPACE, base, documents, find, folder};
use render::render;
use serde_json::{Value, json};

/// The chart's objects with its own values, of which some are others.
fn rendered(others: Value) -> Result<Vec<Value>> {
    let chart = folder().join("helm/cambric");
    let read = |name: &str| fs::read_to_string(chart.join(name)).with_context(|| name.to_owned());
    let mut values: Value = serde_yaml_ng::from_str(&read("values.yaml")?)?;
    merge(&mut values, others);
    let about: Value = serde_yaml_ng::from_str(&read("Chart.yaml")?)?;
    let chart_says =
        json!({"Name": about["name"], "Version": about["version"], "AppVersion": about["appVersion"]});
    let values = json!({
        "Values": values,
        "Chart": chart_says,
        "Release": {"Name": "cambric", "Namespace": NAMESPACE, "Service": "Helm"},
    });
    let mut objects = Vec::new();
    for entry in fs::read_dir(chart.join("templates"))? {
        let path = entry?.path();
        let text =
            render(&fs::read_to_string(&path)?, &values).with_context(|| path.display().to_string())?;
        objects.extend(documents(&text).with_context(|| path.display().to_string())?);
    }
    Ok(objects)
}

/// As Helm merges values: maps by key, anything else as a whole.
fn merge(values: &mut Value, others: Value) {
    match (values, others) {
        (Value::Object(fields), Value::Object(others)) => {
            for (name, other) in others {
                assert!(fields.contains_key(&name), "{name} is no value of the chart");
                merge(&mut fields[&name], other);
            }
        }
        (value, other) => *value = other,
    }
}

/// Without what only Helm says.
fn without_helm(mut object: Value) -> Value {
    if let Some(labels) = object.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        for label in ["app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "helm.sh/chart"] {
            assert!(labels.remove(label).is_some(), "{label} is missing");
        }
        if labels.is_empty()
            && let Some(metadata) = object["metadata"].as_object_mut()
        {
            metadata.remove("labels");
        }
    }
    object
}

#[test]
fn with_its_own_values_the_chart_is_the_base() -> Result<()> {
    let chart: Vec<Value> = rendered(json!({}))?.into_iter().map(without_helm).collect();
    // Helm makes the namespace, and installs what is in crds/.
    let is_helms =
        |object: &Value| object["kind"] == "Namespace" || object["kind"] == "CustomResourceDefinition";
    let base: Vec<Value> = base().into_iter().filter(|object| !is_helms(object)).collect();
    for object in &base {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let kind = object["kind"].as_str().unwrap_or_default();
        let of_chart = find(&chart, kind, name).with_context(|| format!("the chart has no {kind} {name}"))?;
        assert_eq!(of_chart, object, "{kind} {name}");
    }
    assert_eq!(chart.len(), base.len());
    println!("{} objects are the same", base.len());
    Ok(())
}

#[test]
fn every_value_of_the_chart_comes_through() -> Result<()> {
    let objects = rendered(json!({
        "image": {
            "repository": "registry.example/cambric", "tag": "1.2.3", "pullPolicy": "Always",
            "pullSecrets": [{"name": "one"}],
        },
        "httpAddress": "node", "log": "cambric_bgp=debug,info", "logFormat": "json", "policyGate": "require",
        "nodeTaint": "off", "kubernetesServiceHost": "192.0.2.9", "kubernetesServicePort": 6443,
        "cniBinDir": "/opt/other/bin", "cniConfDir": "/etc/other/net.d",
        "resources": {"requests": {"memory": "160Mi"}},
        "tolerations": [{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}],
        "updateStrategy": {"maxUnavailable": "10%"},
    }))?;
    let set = find(&objects, "DaemonSet", "cambric").context("a DaemonSet")?;
    let pod = &set["spec"]["template"]["spec"];
    let (daemon, install) = (&pod["containers"][0], &pod["initContainers"][0]);
    for container in [daemon, install] {
        assert_eq!(container["image"], "registry.example/cambric:1.2.3");
        assert_eq!(container["imagePullPolicy"], "Always");
    }
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "one"}]));
    let args = [
        ["--source", "kube"],
        ["--sysctl-dir", "/host/proc/sys/net"],
        ["--http-address", "node"],
        ["--log", "cambric_bgp=debug,info"],
        ["--log-format", "json"],
        ["--policy-gate", "require"],
        ["--node-taint", "off"],
    ];
    assert_eq!(daemon["args"], json!(args.concat()));
    let env = |name: &str| {
        let all = daemon["env"].as_array().into_iter().flatten();
        all.into_iter().find(|entry| entry["name"] == name).map(|entry| entry["value"].clone())
    };
    assert_eq!(env("KUBERNETES_SERVICE_HOST"), Some(json!("192.0.2.9")));
    assert_eq!(env("KUBERNETES_SERVICE_PORT"), Some(json!("6443")));
    assert_eq!(daemon["resources"]["requests"], json!({"cpu": "70m", "memory": "160Mi"}));
    assert_eq!(pod["tolerations"].as_array().map(Vec::len), Some(2));
    assert_eq!(set["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"], "10%");
    let path = |name: &str| {
        let all = pod["volumes"].as_array().into_iter().flatten();
        all.into_iter().find(|volume| volume["name"] == name).map(|volume| volume["hostPath"]["path"].clone())
    };
    assert_eq!(path("cni-bin"), Some(json!("/opt/other/bin")));
    assert_eq!(path("cni-conf"), Some(json!("/etc/other/net.d")));
    Ok(())
}

/// Flags that the chart passes are flags of the daemon.
#[test]
fn the_daemon_takes_what_the_chart_passes() -> Result<()> {
    use cambricd::args::Args;
    use clap::Parser;

    for others in [
        json!({}),
        json!({"httpAddress": "node", "log": "debug", "logFormat": "json", "policyGate": "off", "nodeTaint": "off"}),
    ] {
        let objects = rendered(others)?;
        let set = find(&objects, "DaemonSet", "cambric").context("a DaemonSet")?;
        let args =
            set["spec"]["template"]["spec"]["containers"][0]["args"].as_array().cloned().unwrap_or_default();
        let words = args.iter().filter_map(Value::as_str);
        Args::try_parse_from(std::iter::once("cambricd").chain(words))?;
    }
    Ok(())
}
