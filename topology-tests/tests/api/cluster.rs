//! A lab whose nodes read an API server instead of a folder.
//!
//! The server is in this process. On each node it is reached at an address of the node's own loopback, as behind the
//! local load balancer that many installations have; so the fabric is the lab's own, and stays as it is when the server
//! goes away. Whoever watches the server sees what a cluster would show: objects of nodes as kubelets register them,
//! pods that are scheduled first and tell their addresses when they run.

#![allow(dead_code, reason = "other test files use a part")]

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cambric_apiserver_double::{ApiServer, Listener, User};
use cambric_deploy::NAMESPACE;
use cambric_lab::place::in_netns;
use cambric_lab::{Lab, Node, Pod, cni, fabric, poll};
use serde_json::{Value, json};

use crate::LIMIT;
use crate::common::LabFolder;

/// Where each node finds the server.
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 6443);

/// The folder that every node of a lab is given, as its lab file says it.
const MANIFESTS: &str = "/etc/cambric/manifests";
const BIND: &str = "- manifests:/etc/cambric/manifests:ro";

/// Where each finds who it is.
const TOKEN: &str = "/etc/cambric-token";

/// How long an answer of `show status` may be awaited.
const LOOK: Duration = Duration::from_secs(60);

/// A lab folder made for an API server, and the server with the objects that were in its manifests.
pub(crate) struct Prepared {
    pub(crate) folder: LabFolder,
    pub(crate) server: ApiServer,
}

/// A lab that is up, and its API server.
pub(crate) struct Cluster<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) server: ApiServer,
    /// By node.
    listeners: BTreeMap<String, Listener>,
}

/// A pod that is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewPod<'a> {
    pub(crate) node: &'a str,
    pub(crate) name: &'a str,
    /// `key=value`
    pub(crate) label: &'a str,
}

impl Prepared {
    /// Takes the manifests of a lab out of its folder and into the server.
    pub(crate) fn of(lab: &str) -> Result<Prepared> {
        let folder = LabFolder::copy_of(lab);
        let server = ApiServer::new();
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
        for file in files(&deploy.join("crds"))? {
            server.install(&fs::read_to_string(&file)?);
        }
        server.put(namespace("default"));
        for file in files(&folder.path().join("manifests"))? {
            server.install(&fs::read_to_string(&file)?);
            fs::remove_file(&file)?;
        }
        server.authorize(&fs::read_to_string(deploy.join("base/rbac.yaml"))?);
        server.install(&fs::read_to_string(deploy.join("base/admission.yaml"))?);
        folder.write("manifests/kubeconfig", &kubeconfig());
        let lab_file =
            files(folder.path())?.into_iter().find(|path| path.extension().is_some_and(|e| e == "yml"));
        let lab_file = lab_file.context("a lab file")?;
        let arguments = format!("--source kube --kubeconfig {MANIFESTS}/kubeconfig");
        let text = fs::read_to_string(&lab_file)?
            .replace(&format!("--source dir:{MANIFESTS}"), &arguments)
            .replace(BIND, &format!("{BIND}\n        - tokens/__clabNodeName__:{TOKEN}:ro"))
            // Pods are objects first.
            .replace("cambric.dev/pods: \"1\"", "cambric.dev/pods: \"0\"")
            .replace("cambric.dev/pods: \"2\"", "cambric.dev/pods: \"0\"");
        if !text.contains(&arguments) {
            bail!("{} has no node that reads {MANIFESTS}", lab_file.display());
        }
        let topology: Value = serde_yaml_ng::from_str(&text)?;
        fs::create_dir(folder.path().join("tokens"))?;
        for node in topology["topology"]["nodes"].as_object().context("nodes")?.keys() {
            folder.write(&format!("tokens/{node}"), &token(node));
            server.add_token(&token(node), account(node));
        }
        fs::write(&lab_file, text)?;
        Ok(Prepared { folder, server })
    }
}

/// What the kubelet of a node would write for the daemon's pod.
pub(crate) fn token(node: &str) -> String {
    format!("of-{node}")
}

/// Whom a token of that node's daemon is of.
pub(crate) fn account(node: &str) -> User {
    User::service_account(NAMESPACE, "cambricd").on_node(node)
}

impl<'a> Cluster<'a> {
    /// Has the server listen on every node, and waits until pods can start.
    pub(crate) fn reached(lab: &'a Lab, server: &ApiServer) -> Result<Cluster<'a>> {
        let mut cluster = Cluster { lab, server: server.clone(), listeners: BTreeMap::new() };
        for node in fabric::cambric_nodes(lab)? {
            cluster.listen(&node)?;
        }
        for node in fabric::cambric_nodes(lab)? {
            let conflist = node.path(cni::CONFLIST);
            poll::until(&format!("{} to take pods", node.name()), LIMIT, || conflist.exists())?;
        }
        Ok(cluster)
    }

    /// Has the server listen on a node.
    pub(crate) fn listen(&mut self, node: &Node) -> Result<()> {
        let bound = in_netns(node, || TcpListener::bind(SERVER))?;
        let listener = bound.with_context(|| format!("binding {SERVER} on {}", node.name()))?;
        self.listeners.insert(node.name().to_owned(), self.server.listen(listener)?);
        Ok(())
    }

    pub(crate) fn node(&self, name: &str) -> Result<Node> {
        self.lab.node(name)
    }

    /// Starts a pod as a scheduler, a kubelet and a runtime do.
    pub(crate) fn start(&self, new: NewPod<'_>) -> Result<Pod> {
        let object = self.server.put(new.object());
        let uid = object["metadata"]["uid"].as_str().context("a uid")?.to_owned();
        let pod = poll::until_some(&format!("pod {} to start", new.name), LIMIT, || {
            match self.lab.add_pod_of(new.node, "default", new.name, &uid) {
                Ok((pod, _)) => Ok(Some(pod)),
                Err(error) if cni::code_of(&error) == Some(cni::TRY_AGAIN_LATER) => Ok(None),
                Err(error) => Err(error),
            }
        })?;
        self.tell_addresses(&pod)?;
        Ok(pod)
    }

    /// What the kubelet writes when the pod runs.
    pub(crate) fn tell_addresses(&self, pod: &Pod) -> Result<()> {
        let mut object = self.server.get("v1", "Pod", "default", pod.name()).context("its object")?;
        let addresses = pod.addresses()?;
        let all: Vec<Value> = addresses.iter().map(|address| json!({ "ip": address.to_string() })).collect();
        object["status"] =
            json!({ "phase": "Running", "podIP": all.first().map(|first| &first["ip"]), "podIPs": all });
        self.server.put(object);
        Ok(())
    }

    /// Ends a pod as a kubelet does: the runtime first, the object last.
    pub(crate) fn end(&self, pod: &Pod) -> Result<()> {
        pod.del()?;
        self.server.delete("v1", "Pod", "default", pod.name());
        Ok(())
    }

    /// Waits until every daemon has so many policies in the kernel.
    pub(crate) fn have_policies(&self, count: usize) -> Result<()> {
        for node in fabric::cambric_nodes(self.lab)? {
            poll::until(&format!("{}: {count} policies", node.name()), LOOK, || {
                status(&node).is_ok_and(|status| {
                    status["policy"]["policies"] == count && status["policy"]["written"] == true
                })
            })?;
        }
        Ok(())
    }
}

/// What `cambric show status` says of a node.
pub(crate) fn status(node: &Node) -> Result<Value> {
    Ok(fabric::ask(node, &["show", "status"])?["status"].clone())
}

/// The problems that a node tells.
pub(crate) fn problems(node: &Node) -> Result<Vec<String>> {
    let status = status(node)?;
    let problems = status["problems"].as_array().cloned().unwrap_or_default();
    Ok(problems.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

impl NewPod<'_> {
    /// Its object as it is scheduled.
    fn object(&self) -> Value {
        let (key, value) = self.label.split_once('=').unwrap_or((self.label, ""));
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "namespace": "default", "name": self.name, "labels": { key: value } },
            "spec": {
                "nodeName": self.node,
                "containers": [{ "name": "main", "image": "none" }],
            },
            "status": { "phase": "Pending" },
        })
    }
}

pub(crate) fn namespace(name: &str) -> Value {
    let labels = json!({ "kubernetes.io/metadata.name": name });
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } })
}

/// A policy of the namespace `default`.
pub(crate) fn policy(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "namespace": "default", "name": name }, "spec": spec,
    })
}

/// As a file: JSON is YAML.
fn kubeconfig() -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "lab",
        "clusters": [{ "name": "lab", "cluster": { "server": format!("http://{SERVER}") } }],
        "users": [{ "name": "cambric", "user": { "tokenFile": TOKEN } }],
        "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": "cambric" } }],
    })
    .to_string()
}

/// Files of a folder by name; of one that is not there, none.
fn files(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
