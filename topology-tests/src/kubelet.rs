//! A stand-in for kubelet: takes a Pod as the API server shows it and has the runtime start it, by the CRI.
//!
//! It does what kubelet does with the fields it knows ([`manifest`]) and refuses all others: sandbox first, then init
//! containers one after the other, each to its end, then the containers; host paths, the downward API, the files of the
//! service account, capabilities, seccomp and the rest of a security context go into the messages as kubelet's own
//! `kuberuntime` puts them there. It has no loop: its caller says when to look ([`Kubelet::is_ready`],
//! [`Kubelet::restart_ended`]), and writes to the API server what a kubelet writes.
//!
//! Deliberately not here: pulling images, volumes but host paths, back-off, eviction.

mod manifest;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::containerd::Containerd;
use crate::place::Place;
use crate::{Node, http, poll};
use manifest::{Container, PodSpec, Probe};

/// Where containers find what the API server lets them in by; `/var/run` is a link to `/run` on most hosts, and nowhere
/// in an empty image.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// What a pod cannot see, and cannot write, unless its `procMount` says so: kubelet's defaults.
const MASKED_PATHS: [&str; 9] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
];
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const LIMIT: Duration = Duration::from_secs(60);

/// The kubelet of one node.
#[derive(Debug)]
pub struct Kubelet {
    containerd: Containerd,
    access: Access,
}

/// How pods of a node reach the API server.
#[derive(Debug, Clone)]
pub struct Access {
    /// `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`.
    pub server: SocketAddr,
    /// In PEM.
    pub authority: String,
    /// Of the service account of all pods.
    pub token: String,
}

/// A pod that was started.
#[derive(Debug, Clone)]
pub struct RunningPod {
    node: Node,
    object: Value,
    spec: PodSpec,
    sandbox: Value,
    id: String,
    containers: Vec<Running>,
    addresses: Vec<IpAddr>,
    /// Its network, as a path in the node; none: the node's.
    netns: Option<String>,
}

/// A container of it that was started.
#[derive(Debug, Clone)]
struct Running {
    name: String,
    id: String,
    attempt: u32,
}

impl Kubelet {
    /// Of the node that this runtime is in.
    pub fn new(containerd: Containerd, access: Access) -> Self {
        Self { containerd, access }
    }

    /// Its runtime.
    pub fn containerd(&self) -> &Containerd {
        &self.containerd
    }

    fn node(&self) -> &Node {
        self.containerd.node()
    }

    fn call(&self, method: &str, request: Value) -> Result<Value> {
        self.containerd.cri().call(method, request)
    }

    /// Starts a pod: returns when its containers run, of which init containers have come to a good end.
    ///
    /// # Errors
    /// A field that this stand-in does not know; what the runtime refuses, its plugin's words among it; an init
    /// container that fails. Nothing of the pod is left then.
    pub fn start(&self, object: &Value) -> Result<RunningPod> {
        let spec = PodSpec::read(object)?;
        self.prepare_volumes(object, &spec)?;
        let sandbox = self.sandbox(object, &spec)?;
        let run = self.call("RunPodSandbox", json!({ "config": sandbox }));
        let answer = match run {
            Ok(answer) => answer,
            Err(error) => {
                self.remove_volumes(object)?;
                return Err(error);
            }
        };
        let id = answer["pod_sandbox_id"].as_str().context("an ID")?.to_owned();
        let mut pod = RunningPod {
            node: self.node().clone(),
            object: object.clone(),
            spec,
            sandbox,
            id,
            containers: Vec::new(),
            addresses: Vec::new(),
            netns: None,
        };
        match self.fill(&mut pod) {
            Ok(()) => Ok(pod),
            Err(error) => {
                let logs = self.logs(&pod);
                self.remove(&pod).with_context(|| format!("undoing the start after: {error:#}\n{logs}"))?;
                Err(error.context(logs))
            }
        }
    }

    fn fill(&self, pod: &mut RunningPod) -> Result<()> {
        self.learn_network(pod)?;
        for container in pod.spec.init_containers.clone() {
            let id = self.start_container(pod, &container, 0)?;
            let what = format!("init container {} to end", container.name);
            let status = poll::until_some(&what, LIMIT, || {
                let status = self.status(&id)?;
                Ok((status["state"] == "CONTAINER_EXITED").then_some(status))
            })?;
            ensure!(status["exit_code"].is_null(), "init container {} has failed: {status}", container.name);
        }
        for container in pod.spec.containers.clone() {
            let id = self.start_container(pod, &container, 0)?;
            pod.containers.push(Running { name: container.name, id, attempt: 0 });
        }
        Ok(())
    }

    /// Starts those of its containers anew that have ended; returns their names.
    ///
    /// # Errors
    /// When the runtime refuses.
    pub fn restart_ended(&self, pod: &mut RunningPod) -> Result<Vec<String>> {
        let mut restarted = Vec::new();
        for number in 0..pod.containers.len() {
            let Running { name, id, attempt } = pod.containers[number].clone();
            if self.status(&id)?["state"] != "CONTAINER_EXITED" {
                continue;
            }
            let container = pod.spec.containers[number].clone();
            let next = self.start_container(pod, &container, attempt + 1)?;
            self.call("RemoveContainer", json!({ "container_id": id }))?;
            pod.containers[number] = Running { name: name.clone(), id: next, attempt: attempt + 1 };
            restarted.push(name);
        }
        Ok(restarted)
    }

    /// Whether every container runs and its startup and readiness probes succeed now.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub fn is_ready(&self, pod: &RunningPod) -> Result<bool> {
        for (container, running) in pod.spec.containers.iter().zip(&pod.containers) {
            let runs = self.status(&running.id)?["state"] == "CONTAINER_RUNNING";
            let probes = [&container.startup_probe, &container.readiness_probe];
            if !runs || !probes.into_iter().flatten().all(|probe| self.succeeds(pod, probe)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether every container has a liveness probe that succeeds, at once or within its `failureThreshold`.
    pub fn is_alive(&self, pod: &RunningPod) -> bool {
        pod.spec.containers.iter().all(|container| {
            container
                .liveness_probe
                .as_ref()
                .is_some_and(|probe| (0..probe.failure_threshold.max(1)).any(|_| self.succeeds(pod, probe)))
        })
    }

    fn succeeds(&self, pod: &RunningPod, probe: &Probe) -> bool {
        let get = &probe.http_get;
        let host = match &get.host {
            Some(host) => host.parse().ok(),
            None => pod.addresses.first().copied(),
        };
        // Kubelet asks from the node.
        host.is_some_and(|host| http::succeeds(self.node(), SocketAddr::new(host, get.port), &get.path))
    }

    /// Process of the pod's first container, as the node counts.
    ///
    /// # Errors
    /// When it does not run.
    pub fn process(&self, pod: &RunningPod) -> Result<u32> {
        let id = &pod.containers.first().context("a pod without containers")?.id;
        let answer = self.call("ContainerStatus", json!({ "container_id": id, "verbose": true }))?;
        let info: Value = serde_json::from_str(answer["info"]["info"].as_str().context("info")?)?;
        let pid = info["pid"].as_u64().filter(|pid| *pid > 0).context("it does not run")?;
        Ok(u32::try_from(pid)?)
    }

    /// Runs a command in one of its containers; returns exit status and what it wrote.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn exec(&self, pod: &RunningPod, container: &str, words: &[&str]) -> Result<(i64, String)> {
        let running = pod.containers.iter().find(|running| running.name == container);
        let id = &running.with_context(|| format!("no container {container}"))?.id;
        let request = json!({ "container_id": id, "cmd": words, "timeout": 20 });
        let answer = self.call("ExecSync", request)?;
        let text = |key: &str| decode_base64(answer[key].as_str().unwrap_or_default());
        Ok((answer["exit_code"].as_i64().unwrap_or(0), text("stdout") + &text("stderr")))
    }

    /// Ends the pod's processes and takes its network; what is stopped already stays so.
    ///
    /// # Errors
    /// When the runtime refuses, its plugin's words among it.
    pub fn stop(&self, pod: &RunningPod) -> Result<()> {
        let seconds = pod.spec.termination_grace_period_seconds;
        for Running { id, .. } in &pod.containers {
            self.call("StopContainer", json!({ "container_id": id, "timeout": seconds }))?;
        }
        self.call("StopPodSandbox", json!({ "pod_sandbox_id": pod.id })).map(drop)
    }

    /// Stops the pod and forgets it.
    ///
    /// # Errors
    /// When the runtime refuses.
    pub fn remove(&self, pod: &RunningPod) -> Result<()> {
        self.stop(pod)?;
        self.call("RemovePodSandbox", json!({ "pod_sandbox_id": pod.id }))?;
        self.remove_volumes(&pod.object)
    }

    fn remove_volumes(&self, object: &Value) -> Result<()> {
        let folder = self.node().path(&volumes_of(object));
        fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))
    }

    /// Removes all pods and ends the runtime.
    ///
    /// # Errors
    /// With what is left of them.
    pub fn end(self) -> Result<()> {
        self.containerd.stop()
    }

    /// What its containers wrote last.
    pub fn logs(&self, pod: &RunningPod) -> String {
        let folder = self.node().log(&log_folder(&pod.object));
        let files = fs::read_dir(folder).into_iter().flatten().flatten();
        files.map(|file| crate::node::tail(&file.path())).collect::<Vec<_>>().join("\n")
    }

    fn status(&self, container: &str) -> Result<Value> {
        Ok(self.call("ContainerStatus", json!({ "container_id": container }))?["status"].take())
    }

    /// What the runtime reports of the pod's network.
    fn learn_network(&self, pod: &mut RunningPod) -> Result<()> {
        let answer = self.call("PodSandboxStatus", json!({ "pod_sandbox_id": pod.id, "verbose": true }))?;
        let network = &answer["status"]["network"];
        let more = network["additional_ips"].as_array().into_iter().flatten().map(|more| &more["ip"]);
        let told = [&network["ip"]].into_iter().chain(more).filter_map(Value::as_str);
        pod.addresses = told.filter(|ip| !ip.is_empty()).map(str::parse).collect::<Result<_, _>>()?;
        if !pod.spec.host_network {
            let info: Value = serde_json::from_str(answer["info"]["info"].as_str().context("info")?)?;
            let namespaces = info["runtimeSpec"]["linux"]["namespaces"].as_array().context("namespaces")?;
            let network = namespaces.iter().find(|namespace| namespace["type"] == "network");
            let path = network.and_then(|network| network["path"].as_str()).context("a network namespace")?;
            pod.netns = Some(path.replace("/var/run/", "/run/"));
        }
        Ok(())
    }

    fn prepare_volumes(&self, object: &Value, spec: &PodSpec) -> Result<()> {
        for volume in &spec.volumes {
            let path = volume.host_path.path.to_str().context("a path")?;
            let here = self.node().path(path);
            match volume.host_path.kind.as_str() {
                "" => {}
                "DirectoryOrCreate" => fs::create_dir_all(&here)?,
                "Directory" => {
                    ensure!(here.is_dir(), "hostPath {path} of {} is no folder", self.node().name())
                }
                other => bail!("volume {}: hostPath of type {other}", volume.name),
            }
        }
        let folder = self.node().path(&volumes_of(object));
        fs::create_dir_all(&folder)?;
        fs::create_dir_all(self.node().log(&log_folder(object)))?;
        fs::write(folder.join("hosts"), "127.0.0.1 localhost\n::1 localhost\n")?;
        self.write_token(&folder.join("token"), text(object, "/metadata/namespace")?)
    }

    /// As kubelet projects it: the files are links into a folder that is replaced as a whole.
    fn write_token(&self, folder: &Path, namespace: &str) -> Result<()> {
        let data = folder.join("..2026_01_01");
        fs::create_dir_all(&data)?;
        symlink("..2026_01_01", folder.join("..data"))?;
        let Access { authority, token, .. } = &self.access;
        for (name, content) in [("ca.crt", authority.as_str()), ("token", token), ("namespace", namespace)] {
            fs::write(data.join(name), content)?;
            symlink(format!("..data/{name}"), folder.join(name))?;
        }
        Ok(())
    }

    fn sandbox(&self, object: &Value, spec: &PodSpec) -> Result<Value> {
        let of = |pointer: &str| text(object, pointer);
        let (name, namespace, uid) =
            (of("/metadata/name")?, of("/metadata/namespace")?, of("/metadata/uid")?);
        // With the network of the host goes its name.
        let hostname = if spec.host_network { "" } else { name };
        Ok(json!({
            "metadata": { "name": name, "namespace": namespace, "uid": uid, "attempt": 0 },
            "hostname": hostname,
            "log_directory": format!("/var/log/{}", log_folder(object)),
            "labels": {
                "io.kubernetes.pod.name": name,
                "io.kubernetes.pod.namespace": namespace,
                "io.kubernetes.pod.uid": uid,
            },
            "linux": {
                "cgroup_parent": format!("{}/pod{uid}", self.containerd.cgroup_parent()),
                "security_context": {
                    "namespace_options": namespaces(spec),
                    "seccomp": { "profile_type": "RuntimeDefault" },
                },
            },
        }))
    }

    fn start_container(&self, pod: &RunningPod, container: &Container, attempt: u32) -> Result<String> {
        let context = || format!("container {} on {}", container.name, self.node().name());
        let config = self.container(pod, container, attempt).with_context(context)?;
        let request = json!({ "pod_sandbox_id": pod.id, "config": config, "sandbox_config": pod.sandbox });
        let answer = self.call("CreateContainer", request).with_context(context)?;
        let id = answer["container_id"].as_str().context("an ID")?.to_owned();
        self.call("StartContainer", json!({ "container_id": id })).with_context(context)?;
        Ok(id)
    }

    fn container(&self, pod: &RunningPod, container: &Container, attempt: u32) -> Result<Value> {
        let Container { name, image, command, args, resources, security_context, .. } = container;
        let own = pod.spec.security_context.clone();
        let user = security_context.run_as_user.or(own.run_as_user);
        let non_root = security_context.run_as_non_root.or(own.run_as_non_root);
        ensure!(
            non_root != Some(true) || user.is_some_and(|user| user != 0),
            "runAsNonRoot, and runs as root"
        );
        let seccomp = security_context.seccomp_profile.clone().or(own.seccomp_profile.clone());
        // Without one kubelet's own default is Unconfined.
        let seccomp = seccomp.map_or("Unconfined".to_owned(), |profile| profile.kind);
        let envs = self.environment(pod, container)?;
        let envs: Vec<Value> =
            envs.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
        let (memory, shares) = (resources.limits.memory_bytes()?, resources.requests.cpu_shares()?);
        Ok(json!({
            "metadata": { "name": name, "attempt": attempt },
            "image": { "image": image },
            "command": command,
            "args": args,
            "envs": envs,
            "mounts": self.mounts(pod, container)?,
            "labels": { "io.kubernetes.container.name": name },
            "log_path": format!("{name}_{attempt}.log"),
            "linux": {
                "resources": { "cpu_shares": shares, "memory_limit_in_bytes": memory },
                "security_context": {
                    "capabilities": {
                        "add_capabilities": security_context.capabilities.add,
                        "drop_capabilities": security_context.capabilities.drop,
                    },
                    "privileged": security_context.privileged,
                    "namespace_options": namespaces(&pod.spec),
                    "run_as_user": user.map(|user| json!({ "value": user })),
                    "run_as_group": own.run_as_group.map(|group| json!({ "value": group })),
                    "readonly_rootfs": security_context.read_only_root_filesystem,
                    "no_new_privs": security_context.allow_privilege_escalation == Some(false),
                    "masked_paths": MASKED_PATHS,
                    "readonly_paths": READONLY_PATHS,
                    "seccomp": { "profile_type": seccomp },
                },
            },
        }))
    }

    fn environment(&self, pod: &RunningPod, container: &Container) -> Result<Vec<(String, String)>> {
        let server = self.access.server;
        let mut all = vec![
            ("KUBERNETES_SERVICE_HOST".to_owned(), server.ip().to_string()),
            ("KUBERNETES_SERVICE_PORT".to_owned(), server.port().to_string()),
        ];
        for env in &container.env {
            all.push(env.of(&pod.object)?);
        }
        Ok(all)
    }

    fn mounts(&self, pod: &RunningPod, container: &Container) -> Result<Vec<Value>> {
        let mut mounts = Vec::new();
        for mount in &container.volume_mounts {
            let volume = pod.spec.volumes.iter().find(|volume| volume.name == mount.name);
            let volume = volume.with_context(|| format!("no volume {}", mount.name))?;
            mounts.push(json!({
                "container_path": mount.mount_path,
                "host_path": volume.host_path.path,
                "readonly": mount.read_only,
            }));
        }
        let own = PathBuf::from(volumes_of(&pod.object));
        mounts.push(json!({ "container_path": "/etc/hosts", "host_path": own.join("hosts") }));
        if pod.spec.automount_service_account_token != Some(false) {
            let token = own.join("token");
            mounts.push(json!({ "container_path": SERVICE_ACCOUNT, "host_path": token, "readonly": true }));
        }
        Ok(mounts)
    }
}

impl RunningPod {
    /// Its addresses, as the runtime reports them; none with the network of the host.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Its object, as it was when it was started.
    pub fn object(&self) -> &Value {
        &self.object
    }

    /// Sandboxes have names of their own.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Place for RunningPod {
    fn name(&self) -> &str {
        text(&self.object, "/metadata/name").unwrap_or_default()
    }

    fn netns(&self) -> PathBuf {
        match &self.netns {
            Some(path) => self.node.path(path),
            None => self.node.netns(),
        }
    }
}

fn namespaces(spec: &PodSpec) -> Value {
    let network = if spec.host_network { "NODE" } else { "POD" };
    json!({ "network": network, "pid": "CONTAINER", "ipc": "POD" })
}

/// Where kubelet keeps what it makes for a pod.
fn volumes_of(object: &Value) -> String {
    format!("/var/lib/kubelet/pods/{}", text(object, "/metadata/uid").unwrap_or_default())
}

/// Below `/var/log`.
fn log_folder(object: &Value) -> String {
    let of = |pointer: &str| text(object, pointer).unwrap_or_default();
    format!("pods/{}_{}_{}", of("/metadata/namespace"), of("/metadata/name"), of("/metadata/uid"))
}

fn text<'a>(object: &'a Value, pointer: &str) -> Result<&'a str> {
    object.pointer(pointer).and_then(Value::as_str).with_context(|| format!("an object without {pointer}"))
}

/// As protobuf's JSON has bytes. What is no base64 is left out: it is for messages.
fn decode_base64(text: &str) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for digit in text.bytes().filter_map(|byte| digits.iter().position(|digit| *digit == byte)) {
        (bits, count) = (bits << 6 | digit as u32, count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_from_base64() {
        assert_eq!(decode_base64(""), "");
        assert_eq!(decode_base64("b25lCg=="), "one\n");
        assert_eq!(decode_base64("dGhyZWU="), "three");
    }
}
