//! Objects of a cluster of any size as an API server holds them, with all that real ones carry and nobody here reads.
//!
//! Nothing is left to chance: the same sizes give the same objects.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cambric_apiserver_double::ApiServer;
use serde_json::{Value, json};

use crate::namespace::Namespace;

/// The node under test.
pub(crate) const NODE: &str = "node-0";
/// Values of the label `app`.
const APPS: usize = 50;

/// How much there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site {
    pub(crate) nodes: usize,
    pub(crate) pods: usize,
    /// Pods of the node under test among them: the first.
    pub(crate) local: usize,
    pub(crate) namespaces: usize,
    pub(crate) policies: usize,
}

impl Site {
    /// Puts all of it into the server; the node under test has `peer` as its switch.
    pub(crate) fn fill(&self, server: &ApiServer, peer: &str) -> Result<()> {
        for file in std::fs::read_dir("deploy/crds").context("deploy/crds: run from the project's root")? {
            server.install(&std::fs::read_to_string(file?.path())?);
        }
        server.put(json!({
            "apiVersion": "cambric.dev/v1alpha1", "kind": "BGPClusterConfig", "metadata": { "name": "default" },
            "spec": { "mesh": "Disabled", "podCIDRs": ["10.0.0.0/8"] },
        }));
        server.put(json!({
            "apiVersion": "cambric.dev/v1alpha1", "kind": "BGPNodeOverride", "metadata": { "name": NODE },
            "spec": { "peers": [{ "name": "tor", "address": peer, "asn": 65001 }] },
        }));
        (0..self.namespaces).for_each(|number| drop(server.put(namespace(number))));
        (0..self.nodes).for_each(|number| drop(server.put(node(number))));
        (0..self.policies).for_each(|number| drop(server.put(self.policy(number))));
        (0..self.pods).for_each(|number| drop(server.put(self.pod(number, 0))));
        Ok(())
    }

    /// Wires the local pods by the plugin, as their runtime would; gives how many.
    pub(crate) fn wire(
        &self,
        node: &Namespace,
        server: &ApiServer,
        bin_dir: &Path,
        folder: &Path,
    ) -> Result<usize> {
        let conflist =
            std::fs::read_to_string(folder.join("cni/10-cambric.conflist")).context("the conflist")?;
        let conflist: Value = serde_json::from_str(&conflist)?;
        let mut config = conflist["plugins"][0].clone();
        config["cniVersion"] = conflist["cniVersion"].clone();
        config["name"] = conflist["name"].clone();
        for number in 0..self.local {
            let pod = Namespace::new()?;
            let mut object = self.pod(number, 0);
            let [namespace, name] =
                ["namespace", "name"].map(|key| object["metadata"][key].as_str().unwrap_or("").to_owned());
            let known = server.get("v1", "Pod", &namespace, &name).context("its object")?;
            let uid = known["metadata"]["uid"].as_str().context("its uid")?;
            let mut command = Command::new(bin_dir.join("cambric-cni"));
            command.env_clear().env("CNI_COMMAND", "ADD").env("CNI_IFNAME", "eth0").env("CNI_PATH", bin_dir);
            command.env("CNI_CONTAINERID", format!("{number:064x}")).env("CNI_NETNS", pod.path());
            command.env(
                "CNI_ARGS",
                format!(
                    "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_UID={uid}"
                ),
            );
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let input = config.to_string();
            let output = node.enter(|| {
                let mut child = command.spawn().context("starting cambric-cni")?;
                child.stdin.take().context("its input")?.write_all(input.as_bytes())?;
                Ok(child.wait_with_output()?)
            })?;
            ensure!(output.status.success(), "ADD: {}", String::from_utf8_lossy(&output.stdout));
            let result: Value = serde_json::from_slice(&output.stdout)?;
            let addresses: Vec<Value> = result["ips"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|ip| {
                    ip["address"].as_str()?.split('/').next().map(|address| json!({ "ip": address }))
                })
                .collect();
            object["status"]["phase"] = "Running".into();
            object["status"]["podIP"] =
                addresses.first().map(|first| first["ip"].clone()).unwrap_or_default();
            object["status"]["podIPs"] = json!(addresses);
            server.put(object);
            // It lives as long as this process has it open.
            std::mem::forget(pod);
        }
        Ok(self.local)
    }

    /// Pods of other nodes change so often: of four, three have other labels, and one goes and comes again. Gives how
    /// many have changed.
    pub(crate) fn change(&self, server: &ApiServer, per_second: u32, lasting: Duration) -> usize {
        let begin = Instant::now();
        let mut round = 0_usize;
        while begin.elapsed() < lasting {
            let number = self.local + (round * 7919) % (self.pods - self.local);
            match round % 4 {
                0 => {
                    let object = self.pod(number, 0);
                    let [namespace, name] = ["namespace", "name"]
                        .map(|key| object["metadata"][key].as_str().unwrap_or("").to_owned());
                    server.delete("v1", "Pod", &namespace, &name);
                    server.put(object);
                }
                _ => drop(server.put(self.pod(number, round))),
            }
            round += 1;
            let due = Duration::from_secs(1) * round as u32 / per_second;
            std::thread::sleep(due.saturating_sub(begin.elapsed()));
        }
        round
    }

    /// One more pod on another node, in the namespace of a local pod.
    pub(crate) fn add(&self, server: &ApiServer) {
        server.put(self.pod(self.pods.next_multiple_of(self.namespaces), 0));
    }

    fn policy(&self, number: usize) -> Value {
        let of_app = |app: usize| json!({ "matchLabels": { "app": format!("app-{}", app % APPS) } });
        // First each namespace keeps to itself; then one app lets in another.
        let (selector, from) = match number < self.namespaces {
            true => (json!({}), json!([{ "podSelector": {} }])),
            false => (of_app(number), json!([{ "podSelector": of_app(number + 1) }])),
        };
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": { "namespace": self.namespace_of(number), "name": format!("policy-{number}") },
            "spec": { "podSelector": selector, "policyTypes": ["Ingress"], "ingress": [{ "from": from, "ports": [{ "protocol": "TCP", "port": 8080 }] }] },
        })
    }

    fn namespace_of(&self, number: usize) -> String {
        format!("team-{}", number % self.namespaces)
    }

    /// With all that a pod carries: some 4 KB. Those of the node under test have no addresses before they are wired.
    fn pod(&self, number: usize, version: usize) -> Value {
        let on = if number < self.local { 0 } else { 1 + number % (self.nodes - 1) };
        let app = format!("app-{}", (number / self.namespaces) % APPS);
        let addresses = [
            format!("10.{}.{}.{}", 128 + on / 256 % 100, on % 256, 1 + number / (self.nodes - 1) % 250),
            format!("fd00:{on:x}::{number:x}"),
        ];
        let container = |name: &str| {
            json!({
                "name": name, "image": format!("registry.example/{app}/{name}:v1.2.{version}"),
                "args": ["--listen=0.0.0.0:8080", "--log-level=info", "--cluster-name=production"],
                "env": (0..8).map(|number| json!({ "name": format!("SETTING_{number}"), "value": format!("a value of some length, number {number}") })).collect::<Vec<_>>(),
                "ports": [{ "name": format!("{name}-http"), "containerPort": 8080, "protocol": "TCP" }],
                "resources": { "limits": { "cpu": "500m", "memory": "256Mi" }, "requests": { "cpu": "100m", "memory": "128Mi" } },
                "livenessProbe": { "httpGet": { "path": "/healthz", "port": 8080, "scheme": "HTTP" }, "periodSeconds": 10 },
                "volumeMounts": [{ "name": "kube-api-access", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true }],
                "terminationMessagePath": "/dev/termination-log", "imagePullPolicy": "IfNotPresent",
            })
        };
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "namespace": self.namespace_of(number), "name": format!("{app}-6d4cf56db6-{number:06x}"),
                "generateName": format!("{app}-6d4cf56db6-"),
                "labels": {
                    "app": app, "app.kubernetes.io/name": app, "app.kubernetes.io/part-of": self.namespace_of(number),
                    "pod-template-hash": format!("6d4cf56d{}", number % 97), "version": format!("v{}", version % 5),
                },
                "annotations": { "prometheus.io/scrape": "true", "checksum/config": format!("{:064x}", number * 31) },
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{app}-6d4cf56db6"), "uid": format!("00000000-0000-4000-8000-{:012x}", number % 5000), "controller": true }],
            },
            "spec": {
                "nodeName": format!("node-{on}"), "serviceAccountName": "default", "restartPolicy": "Always", "schedulerName": "default-scheduler",
                "containers": [container("main"), container("sidecar")],
                "tolerations": [{ "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 }],
                "volumes": [{ "name": "kube-api-access", "projected": { "sources": [{ "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } }] } }],
            },
            "status": {
                "phase": "Running", "hostIP": node_address(on), "podIP": addresses[0], "startTime": "2026-01-01T00:00:00Z",
                "podIPs": addresses.iter().map(|address| json!({ "ip": address })).collect::<Vec<_>>(),
                "conditions": (["Initialized", "Ready", "ContainersReady", "PodScheduled"].map(|name| json!({ "type": name, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" }))),
                "containerStatuses": (["main", "sidecar"].map(|name| json!({ "name": name, "ready": true, "restartCount": version, "image": "i", "imageID": format!("registry.example/i@sha256:{number:064x}"), "containerID": format!("containerd://{number:064x}"), "state": { "running": { "startedAt": "2026-01-01T00:00:00Z" } } }))),
            },
        });
        if number < self.local {
            pod["status"] = json!({ "phase": "Pending", "hostIP": node_address(on) });
        }
        pod
    }
}

fn node_address(number: usize) -> String {
    format!("172.{}.{}.{}", 16 + number / 62500, number / 250 % 250, 1 + number % 250)
}

fn node(number: usize) -> Value {
    let name = format!("node-{number}");
    let ranges =
        [format!("10.{}.{}.0/24", 128 + number / 256 % 100, number % 256), format!("fd00:{number:x}::/64")];
    let address = if number == 0 { "192.0.2.1".to_owned() } else { node_address(number) };
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux",
                "topology.kubernetes.io/zone": format!("zone-{}", number % 3), "cambric.dev/rack": format!("rack-{}", number / 40),
                "node.kubernetes.io/instance-type": "metal",
            },
            "annotations": { "volumes.kubernetes.io/controller-managed-attach-detach": "true" },
        },
        "spec": { "podCIDR": ranges[0], "podCIDRs": ranges },
        "status": {
            "addresses": [{ "type": "InternalIP", "address": address }, { "type": "Hostname", "address": name }],
            "capacity": { "cpu": "64", "memory": "263868488Ki", "pods": "110" },
            "conditions": (["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"].map(|name| json!({ "type": name, "status": "False", "lastHeartbeatTime": "2026-01-01T00:00:00Z" }))),
            "images": (0..30).map(|number| json!({ "names": [format!("registry.example/image-{number}@sha256:{number:064x}")], "sizeBytes": 123_456_789 })).collect::<Vec<_>>(),
        },
    })
}

fn namespace(number: usize) -> Value {
    let name = format!("team-{number}");
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": { "kubernetes.io/metadata.name": name, "team": name } } })
}

/// As a file: JSON is YAML.
pub(crate) fn kubeconfig(server: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "bench",
        "clusters": [{ "name": "bench", "cluster": { "server": format!("http://{server}") } }],
        "users": [{ "name": "cambric", "user": { "token": "cambric" } }],
        "contexts": [{ "name": "bench", "context": { "cluster": "bench", "user": "cambric" } }],
    })
    .to_string()
}

/// Asks a daemon's control socket: one line there, one back.
pub(crate) fn ask(socket: &Path, verb: &str) -> Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    writeln!(stream, "{}", json!({ "verb": verb }))?;
    let mut answers = BufReader::new(stream).lines();
    let first = answers.next().context("no answer")??;
    Ok(serde_json::from_str(&first)?)
}
