//! What a cluster would have: namespaces, pods and policies, as manifests that both nodes read.
//!
//! A pod comes as in Kubernetes: its object is there first, without addresses, then the runtime makes it, then its
//! status tells the addresses.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use cambric_lab::{Lab, Node, Pod, cni, fabric, poll};
use serde_json::{Value, json};

use crate::LIMIT;
use crate::common::LabFolder;

/// The lab and its manifests.
pub(crate) struct Cluster<'a> {
    pub(crate) lab: &'a Lab,
    folder: PathBuf,
}

/// A pod that is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewPod<'a> {
    pub(crate) node: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// `key=value`
    pub(crate) label: &'a str,
}

impl<'a> Cluster<'a> {
    pub(crate) fn new(lab: &'a Lab, folder: &LabFolder) -> Self {
        Self { lab, folder: folder.path().to_owned() }
    }

    pub(crate) fn node(&self, name: &str) -> Result<Node> {
        self.lab.node(name)
    }

    /// Writes a file of objects, whole or not at all.
    pub(crate) fn write(&self, file: &str, objects: &[Value]) -> Result<()> {
        let half = self.folder.join("half");
        fs::write(&half, text(objects))?;
        fs::rename(&half, self.manifest(file)).with_context(|| format!("writing {file}"))
    }

    pub(crate) fn remove(&self, file: &str) -> Result<()> {
        fs::remove_file(self.manifest(file)).with_context(|| format!("removing {file}"))
    }

    fn manifest(&self, file: &str) -> PathBuf {
        self.folder.join("manifests").join(format!("{file}.yaml"))
    }

    /// Starts a pod, trying again while it is told to, and tells its addresses.
    pub(crate) fn start(&self, new: NewPod<'_>) -> Result<Pod> {
        let file = format!("pod-{}", new.name);
        self.write(&file, &[new.object(&[])])?;
        let pod = poll::until_some(&format!("pod {} to start", new.name), LIMIT, || {
            match self.lab.add_pod_in(new.node, new.namespace, new.name) {
                Ok((pod, _)) => Ok(Some(pod)),
                Err(error) if cni::code_of(&error) == Some(cni::TRY_AGAIN_LATER) => Ok(None),
                Err(error) => Err(error),
            }
        })?;
        self.write(
            &file,
            &[new.object(&pod.addresses()?.iter().map(ToString::to_string).collect::<Vec<_>>())],
        )?;
        Ok(pod)
    }

    /// The node's end of a pod's link.
    pub(crate) fn link_of(&self, pod: &Pod) -> Result<String> {
        let address = pod.address(|address| address.is_ipv4())?.to_string();
        let route = pod.node().run_ok(&["ip", "-o", "route", "get", &address])?;
        let link = route.split_whitespace().skip_while(|word| *word != "dev").nth(1);
        link.map(str::to_owned).with_context(|| format!("a route by a link: {route}"))
    }

    /// Waits until a node's daemon has so many policies in the kernel.
    pub(crate) fn has_policies(&self, node: &str, count: usize) -> Result<()> {
        let node = self.node(node)?;
        poll::until(&format!("{count} policies"), LIMIT, || {
            fabric::ask(&node, &["show", "status"]).is_ok_and(|answer| {
                let policy = &answer["status"]["policy"];
                policy["policies"] == count && policy["written"] == true
            })
        })
    }

    /// What `cambric show policy WORDS` answers on a node.
    pub(crate) fn show(&self, node: &str, words: &[&str]) -> Result<Value> {
        fabric::ask(&self.node(node)?, &[&["show", "policy"], words].concat())
    }
}

impl NewPod<'_> {
    /// Its object; each has a port `http` of TCP, the one that echoes.
    pub(crate) fn object(&self, addresses: &[String]) -> Value {
        let (key, value) = self.label.split_once('=').unwrap_or((self.label, ""));
        let addresses: Vec<Value> = addresses.iter().map(|address| json!({ "ip": address })).collect();
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "namespace": self.namespace, "name": self.name, "labels": { key: value } },
            "spec": {
                "nodeName": self.node,
                "containers": [{ "name": "main", "ports": [
                    { "name": "http", "protocol": "TCP", "containerPort": cambric_lab::reach::PORT },
                ] }],
            },
            "status": { "phase": "Running", "podIPs": addresses },
        })
    }
}

pub(crate) fn namespace(name: &str, label: (&str, &str)) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": name, "labels": { "kubernetes.io/metadata.name": name, label.0: label.1 } },
    })
}

/// A policy of the namespace `default`.
pub(crate) fn policy(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "namespace": "default", "name": name }, "spec": spec,
    })
}

/// Selects pods by a label `key=value`.
pub(crate) fn labelled(label: &str) -> Value {
    let (key, value) = label.split_once('=').unwrap_or((label, ""));
    json!({ "matchLabels": { key: value } })
}

/// Objects as a file of them: JSON is YAML.
pub(crate) fn text(objects: &[Value]) -> String {
    objects.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
}
