//! A node as a cluster has it: a container runtime, a kubelet, and what its DaemonSets put there.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use cambric_apiserver_double::{Certificates, Listener};
use cambric_lab::containerd::{Containerd, Image};
use cambric_lab::kubelet::{Access, Kubelet, RunningPod};
use cambric_lab::place::in_netns;
use cambric_lab::{Node, cni, fabric, poll};
use serde_json::{Value, json};

use crate::LIMIT;
use crate::cluster::{Cluster, token};
use crate::common::{LabFolder, static_binaries};
use crate::workloads::workload;

/// One of each rack.
pub(crate) const NAMES: [&str; 2] = ["n11", "n21"];

/// The service `kubernetes`, as it is reached on a node.
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6443);

const PLUGIN_DIR: &str = "/opt/cni/bin";
const CONFLIST_DIR: &str = "/etc/cni/net.d";
const TAINT: &str = "cambric.dev/not-ready";

/// A node with a containerd and the daemon of the DaemonSet.
pub(crate) struct Machine {
    pub(crate) node: Node,
    pub(crate) kubelet: Kubelet,
    pub(crate) daemon: Option<RunningPod>,
    _listener: Listener,
}

/// Has the lab's file leave these nodes as machines: no daemon of the lab's, and sysctls as after a boot.
pub(crate) fn with_machines(folder: &LabFolder) -> Result<()> {
    let file = folder.path().join("two-rack.clab.yml");
    let mut text = fs::read_to_string(&file)?;
    for name in NAMES {
        let before = format!("    {name}:\n      kind: linux\n      group: node\n");
        let after = format!(
            "    {name}:\n      kind: linux\n      image: debian:bookworm-slim\n      sysctls:\n        \
             net.ipv4.ip_forward: 0\n        net.ipv6.conf.all.forwarding: 0\n"
        );
        ensure!(text.contains(&before), "{name} is not as it was in {}", file.display());
        text = text.replace(&before, &after);
    }
    Ok(fs::write(&file, text)?)
}

impl Machine {
    /// Starts containerd and kubelet on a node where nothing of Cambric is.
    pub(crate) fn start(cluster: &Cluster<'_>, name: &str) -> Result<Self> {
        let node = cluster.node(name)?;
        for folder in [PLUGIN_DIR, CONFLIST_DIR] {
            fs::remove_dir_all(node.path(folder))?;
            fs::create_dir_all(node.path(folder))?;
        }
        let certificates = Certificates::make(&["127.0.0.1"])?;
        let bound = in_netns(&node, || TcpListener::bind(SERVER))?;
        let bound = bound.with_context(|| format!("binding {SERVER} on {name}"))?;
        let listener = cluster.server.listen_tls(bound, &certificates)?;
        let containerd = Containerd::start(&node)?;
        containerd.import(&image()?)?;
        let access = Access { server: SERVER, authority: certificates.authority(), token: token(name) };
        let kubelet = Kubelet::new(containerd, access);
        Ok(Self { node, kubelet, daemon: None, _listener: listener })
    }

    pub(crate) fn name(&self) -> &str {
        self.node.name()
    }

    pub(crate) fn daemon(&self) -> Result<&RunningPod> {
        self.daemon.as_ref().with_context(|| format!("{} has no daemon", self.name()))
    }

    /// Without a plugin and a conflist no pod can start, and the runtime says so.
    pub(crate) fn has_no_network(&self) -> Result<()> {
        for folder in [PLUGIN_DIR, CONFLIST_DIR] {
            ensure!(self.files(folder)?.is_empty(), "{}: {folder}: {:?}", self.name(), self.files(folder)?);
        }
        let (ready, why) = self.kubelet.containerd().network()?;
        ensure!(!ready, "{}: a network of nobody's", self.name());
        let Err(error) = self.kubelet.start(&workload(self.name(), "early", "app=a")) else {
            bail!("{}: a pod without a network", self.name());
        };
        ensure!(
            format!("{error:#}").to_lowercase().contains("cni"),
            "{}: no pod for another reason: {error:#}",
            self.name()
        );
        println!("{}, bare: NetworkReady false: {why}; a pod: {error:#}", self.name());
        Ok(())
    }

    /// Does for this node what the DaemonSet's controller and kubelet do; returns when the node can have pods.
    pub(crate) fn gets_its_daemon(&mut self, cluster: &Cluster<'_>) -> Result<()> {
        self.start_daemon(cluster, "1")?;
        let pod = self.daemon()?;
        ensure!(
            self.files(PLUGIN_DIR)? == [".cambric-cni.lock", "cambric-cni", "loopback"],
            "the init container has installed {:?}",
            self.files(PLUGIN_DIR)?
        );
        let mut ready_without_conflist = false;
        poll::until(&format!("{} to have a network", self.name()), LIMIT, || {
            let ready = self.kubelet.containerd().network().is_ok_and(|(ready, _)| ready);
            ready_without_conflist |= ready && !self.node.path(cni::CONFLIST).exists();
            ready
        })?;
        ensure!(!ready_without_conflist, "{}: ready before the conflist was there", self.name());
        ensure!(self.files(CONFLIST_DIR)? == ["10-cambric.conflist"], "{:?}", self.files(CONFLIST_DIR)?);
        poll::until(&format!("the daemon of {} to be ready", self.name()), LIMIT, || {
            self.kubelet.is_ready(pod).unwrap_or(false)
        })?;
        poll::until(&format!("{} without taint", self.name()), LIMIT, || {
            taints(cluster, self.name()).is_ok_and(|taints| !taints.contains(&TAINT.to_owned()))
        })?;
        ensure!(self.kubelet.is_alive(pod), "{}: its liveness probe fails", self.name());
        println!("{}: NetworkReady true with {}, taint lifted, daemon ready", self.name(), cni::CONFLIST);
        Ok(())
    }

    /// Starts a pod of the DaemonSet.
    pub(crate) fn start_daemon(&mut self, cluster: &Cluster<'_>, suffix: &str) -> Result<()> {
        let object = cluster.server.put(self.daemon_object(suffix)?);
        self.daemon = Some(self.kubelet.start(&object)?);
        Ok(())
    }

    /// Ends the pod of the DaemonSet, as a rolling update does before the next one comes.
    pub(crate) fn end_daemon(&mut self, cluster: &Cluster<'_>) -> Result<()> {
        let Some(pod) = self.daemon.take() else { return Ok(()) };
        self.kubelet.remove(&pod)?;
        let name = pod.object()["metadata"]["name"].as_str().unwrap_or_default();
        cluster.server.delete("v1", "Pod", cambric_deploy::NAMESPACE, name);
        Ok(())
    }

    /// As the controller of DaemonSets makes it of the template.
    fn daemon_object(&self, suffix: &str) -> Result<Value> {
        let mut template = cambric_deploy::daemon_set()["spec"]["template"].take();
        let labels = template["metadata"]["labels"].take();
        let mut spec = template["spec"].take();
        ensure!(spec.is_object(), "a DaemonSet without a template");
        spec["nodeName"] = self.name().into();
        let name = format!("cambric-{}-{suffix}", self.name());
        let metadata = json!({ "namespace": cambric_deploy::NAMESPACE, "name": name, "labels": labels });
        Ok(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec }))
    }

    /// Starts a workload, as a scheduler and a kubelet do.
    pub(crate) fn run(&self, cluster: &Cluster<'_>, object: Value) -> Result<RunningPod> {
        let mut object = cluster.server.put(object);
        let pod = self.kubelet.start(&object)?;
        let all: Vec<Value> =
            pod.addresses().iter().map(|address| json!({ "ip": address.to_string() })).collect();
        object["status"] =
            json!({ "phase": "Running", "podIP": all.first().map(|ip| &ip["ip"]), "podIPs": all });
        cluster.server.put(object);
        Ok(pod)
    }

    /// Ends it: the runtime first, the object last.
    pub(crate) fn remove(&self, cluster: &Cluster<'_>, pod: &RunningPod) -> Result<()> {
        self.kubelet.remove(pod)?;
        let name = pod.object()["metadata"]["name"].as_str().unwrap_or_default();
        cluster.server.delete("v1", "Pod", "default", name);
        Ok(())
    }

    /// Ends all that runs here; nothing of containerd is left.
    pub(crate) fn end(mut self, cluster: &Cluster<'_>) -> Result<()> {
        self.end_daemon(cluster)?;
        self.kubelet.end()
    }

    pub(crate) fn addresses(&self) -> Result<Vec<IpAddr>> {
        fabric::node_addresses(&self.node)
    }

    /// What the daemon and the runtime wrote last.
    pub(crate) fn logs(&self) -> String {
        self.daemon.as_ref().map(|pod| self.kubelet.logs(pod)).unwrap_or_default()
    }

    fn files(&self, folder: &str) -> Result<Vec<String>> {
        let entries = fs::read_dir(self.node.path(folder))?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names: Vec<String> = names.collect::<Result<_>>()?;
        names.sort();
        Ok(names)
    }
}

/// Keys of the taints of a node.
fn taints(cluster: &Cluster<'_>, name: &str) -> Result<Vec<String>> {
    let node = cluster.server.get("v1", "Node", "", name).with_context(|| format!("the Node {name}"))?;
    let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    Ok(taints.iter().filter_map(|taint| taint["key"].as_str()).map(str::to_owned).collect())
}

/// As `deploy/image/Dockerfile` makes it: the three programs, static, and nothing else.
fn image() -> Result<Image> {
    let template = &cambric_deploy::daemon_set()["spec"]["template"]["spec"];
    let name = template["containers"][0]["image"].as_str().context("an image")?.to_owned();
    let folder = static_binaries();
    let file = |name: &str| (format!("bin/{name}"), folder.join(name));
    Ok(Image {
        name,
        files: ["cambricd", "cambric", "cambric-cni"].map(file).into(),
        links: Vec::new(),
        entrypoint: vec![Path::new("/bin").join("cambricd").display().to_string()],
    })
}
