//! Two hosts and an FRR container, and the DaemonSet's pod on a host.
//!
//! ```text
//!              f1 FRR, AS 65001
//!        eth1 / | eth2  eth3 | \ eth4
//!        eth1 | | eth2  eth1 | | eth2
//!             n1              n2         hosts; the network of the pod is theirs
//! ```
//!
//! A host is a container with `ip` and nothing of Cambric. Its folders that the DaemonSet mounts are the same in both.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cambric_lab::{Backend, Guard, Lab, Node, poll};
use serde_json::{Value, json};

use crate::LIMIT;
use crate::cluster::{self, Cluster};
use crate::common::{LabFolder, options, progress, tables};
use crate::engine::Engine;
use crate::images::{self, HOST};
use crate::manifest::{self, Host};

/// Folders of a host that outlive the pod, as the DaemonSet has them.
const SHARED: [&str; 4] = ["run/cambric", "var/lib/cambric", "etc/cni/net.d", "opt/cni/bin"];

/// `ip_unprivileged_port_start` of a host. Docker gives containers 0: there anybody may listen on port 179.
const FIRST_FREE_PORT: u16 = 1024;

/// Where the pod finds what a cluster would tell.
const MANIFESTS: &str = "/etc/cambric/manifests";

/// The lab, and the Docker daemon that it is in.
pub(crate) struct Rack<'a> {
    engine: &'a Engine,
    pub(crate) lab: &'a Lab,
    pub(crate) folder: &'a LabFolder,
}

/// The DaemonSet's daemon on a host; gone when this is dropped.
pub(crate) struct Running<'a> {
    engine: &'a Engine,
    pub(crate) name: String,
}

/// Brings both hosts and FRR up, does the work, takes them down. A failure shows what all have to say.
pub(crate) fn in_rack(engine: &Engine, name: &str, work: impl FnOnce(&Rack<'_>) -> Result<()>) {
    let folder = LabFolder::new(name, &topology());
    prepare(&folder).expect("writing the lab");
    let mut options = options();
    options.backend = Backend::Docker(engine.docker.clone());
    let lab: Guard =
        folder.load().up_guarded(&options, &progress).unwrap_or_else(|error| panic!("{error:#}"));
    let rack = Rack { engine, lab: &lab, folder: &folder };
    if let Err(error) = work(&rack) {
        tables::print(&lab);
        panic!("{error:#}");
    }
    lab.down().expect("the lab goes down");
}

impl<'a> Rack<'a> {
    pub(crate) fn node(&self, name: &str) -> Result<Node> {
        self.lab.node(name)
    }

    pub(crate) fn cluster(&self) -> Cluster<'_> {
        Cluster::new(self.lab, self.folder)
    }

    /// The files of a host.
    pub(crate) fn root(&self, node: &str) -> PathBuf {
        self.folder.path().join("host").join(node)
    }

    /// Runs the init container of the DaemonSet to its end; returns what it said.
    pub(crate) fn install(&self, node: &str) -> Result<String> {
        let pod = manifest::pod();
        let words = self.words(&pod, "install", node, &["--rm"])?;
        self.engine.docker.run_ok(&words)
    }

    /// Starts the daemon as the DaemonSet says it, but for where objects come from; without one of its capabilities if
    /// that is asked for.
    pub(crate) fn start(&self, node: &str, without: Option<&str>) -> Result<Running<'a>> {
        let mut pod = manifest::pod();
        for container in pod["containers"].as_array_mut().into_iter().flatten() {
            replace_source(container)?;
            if let Some(add) = container["securityContext"]["capabilities"]["add"].as_array_mut() {
                add.retain(|capability| Some(capability.as_str().unwrap_or_default()) != without);
            }
        }
        let name = format!("{}-cambricd", self.lab.topology().netns_name(node));
        let manifests = format!("{}:{MANIFESTS}:ro", self.folder.path().join("manifests").display());
        let words =
            self.words(&pod, "cambricd", node, &["--detach", "--name", &name, "--volume", &manifests])?;
        // Before it is started: what fails half-way is removed, too.
        let running = Running { engine: self.engine, name };
        self.engine.docker.run_ok(&words)?;
        Ok(running)
    }

    fn words(&self, pod: &Value, container: &str, node: &str, own: &[&str]) -> Result<Vec<String>> {
        let container = manifest::container(pod, container)?;
        let (root, network) = (self.root(node), self.lab.topology().netns_name(node));
        let host = Host { name: node, root: &root, network: &network };
        let mut words: Vec<String> = ["run"].iter().chain(own).map(|word| (*word).to_owned()).collect();
        words.extend(manifest::options(pod, container, &host)?);
        let (program, arguments) = manifest::command(container)?;
        words.extend(program.into_iter().flat_map(|program| ["--entrypoint".to_owned(), program]));
        words.push(container["image"].as_str().context("a container without image")?.to_owned());
        words.extend(arguments);
        Ok(words)
    }
}

impl Running<'_> {
    /// What it has written, and how it ended: none, it runs.
    pub(crate) fn says(&self) -> Result<(String, Option<i32>)> {
        let output = self.engine.docker.command(&["logs", &self.name]).output()?;
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let format = "{{.State.Running}} {{.State.ExitCode}}";
        let state = self.engine.docker.run_ok(&["inspect", "--format", format, &self.name])?;
        let (runs, code) = state.trim().split_once(' ').context("a state")?;
        Ok((said, if runs == "true" { None } else { Some(code.parse()?) }))
    }

    /// Runs the command line of the image in it, as `kubectl exec` does.
    pub(crate) fn cambric(&self, words: &[&str]) -> Result<String> {
        self.engine.docker.run_ok(&[&["exec", &self.name, "cambric"], words].concat())
    }

    /// PID as this machine counts.
    pub(crate) fn pid(&self) -> Result<i32> {
        let pid = self.engine.docker.run_ok(&["inspect", "--format", "{{.State.Pid}}", &self.name])?;
        Ok(pid.trim().parse()?)
    }

    /// Waits until it has said this.
    pub(crate) fn wait_for(&self, words: &str) -> Result<String> {
        poll::until_some(&format!("{} to say {words:?}", self.name), LIMIT, || {
            let (said, _) = self.says()?;
            Ok(said.contains(words).then_some(said))
        })
        .with_context(|| {
            self.says().map(|(said, code)| format!("{said}\nexit code {code:?}")).unwrap_or_default()
        })
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (said, code) = self.says().unwrap_or_default();
            eprintln!("\n{} said (exit code {code:?}):\n{said}", self.name);
        }
        let _ = self.engine.docker.run_ok(&["rm", "--force", &self.name]); // the end of the daemon removes it, too
    }
}

/// There is no API server here.
fn replace_source(container: &mut Value) -> Result<()> {
    let arguments = container["args"].as_array_mut().context("a container without arguments")?;
    let source = arguments.iter_mut().find(|argument| *argument == "kube").context("no --source kube")?;
    *source = json!(format!("dir:{MANIFESTS}"));
    Ok(())
}

fn topology() -> String {
    let host = |number: u8| {
        let binds: String =
            SHARED.iter().map(|path| format!("        - host/n{number}/{path}:/{path}\n")).collect();
        let (first, second) = (8 * number, 8 * number + 2);
        format!(
            "    n{number}:
      kind: linux
      image: {HOST}
      sysctls: {{ net.ipv4.ip_unprivileged_port_start: {FIRST_FREE_PORT} }}
      binds:
        - host/bin:/opt/cambric/bin:ro
{binds}      exec:
        - ip address add 192.0.2.10{number}/32 dev lo
        - ip address add 2001:db8::10{number}/128 dev lo
        - ip address add 192.0.2.{}/31 dev eth1
        - ip address add 2001:db8:0:{number}1::1/127 dev eth1
        - ip address add 192.0.2.{}/31 dev eth2
        - ip address add 2001:db8:0:{number}2::1/127 dev eth2
",
            first + 1,
            second + 1
        )
    };
    format!(
        "  nodes:
    f1:
      kind: linux
      image: frrouting/frr:v8.4.1
      sysctls: {{ net.ipv4.ip_forward: 1, net.ipv6.conf.all.forwarding: 1 }}
      binds:
        - frr/daemons:/etc/frr/daemons
        - frr/vtysh.conf:/etc/frr/vtysh.conf
        - frr/f1.conf:/etc/frr/frr.conf
{}{}  links:
    - endpoints: ['f1:eth1', 'n1:eth1']
    - endpoints: ['f1:eth2', 'n1:eth2']
    - endpoints: ['f1:eth3', 'n2:eth1']
    - endpoints: ['f1:eth4', 'n2:eth2']
",
        host(1),
        host(2)
    )
}

/// Files of FRR, of the cluster and of the hosts.
fn prepare(folder: &LabFolder) -> Result<()> {
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("labs/one-switch/frr");
    for part in ["frr", "manifests", "host/bin"] {
        fs::create_dir_all(folder.path().join(part))?;
    }
    for file in ["daemons", "vtysh.conf"] {
        fs::copy(other.join(file), folder.path().join("frr").join(file))?;
    }
    folder.write("frr/f1.conf", &frr());
    // A host has the command line, as an operator would have it.
    fs::copy(images::binaries().join("cambric"), folder.path().join("host/bin/cambric"))?;
    for (number, path) in (1..=2).flat_map(|number| SHARED.map(|path| (number, path))) {
        fs::create_dir_all(folder.path().join(format!("host/n{number}/{path}")))?;
    }
    folder.write("manifests/cluster.yaml", &cluster::text(&objects()));
    Ok(())
}

fn frr() -> String {
    let mut interfaces = String::new();
    let [mut neighbors, mut ipv4, mut ipv6] = [const { String::new() }; 3];
    for number in 1..=2 {
        for link in 1..=2 {
            let (v4, v6) = (8 * number + 2 * (link - 1), format!("2001:db8:0:{number}{link}::"));
            interfaces += &format!(
                "interface eth{}\n ip address 192.0.2.{v4}/31\n ipv6 address {v6}/127\nexit\n",
                2 * (number - 1) + link
            );
            for peer in [format!("192.0.2.{}", v4 + 1), format!("{v6}1")] {
                neighbors += &format!(
                    " neighbor {peer} remote-as 65100\n neighbor {peer} timers 3 9\n neighbor {peer} timers connect 1\n"
                );
                let family = if peer.contains(':') { &mut ipv6 } else { &mut ipv4 };
                // Both hosts are in one AS, and shall learn of each other from here.
                *family += &format!("  neighbor {peer} activate\n  neighbor {peer} as-override\n");
            }
        }
    }
    format!(
        "frr defaults datacenter\nhostname f1\n{interfaces}router bgp 65001\n bgp router-id 192.0.2.201\n \
         no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n{neighbors} address-family ipv4 unicast\n{ipv4}  \
         maximum-paths 8\n exit-address-family\n address-family ipv6 unicast\n{ipv6}  maximum-paths 8\n \
         exit-address-family\nexit\n"
    )
}

/// Nodes wait for FRR to connect, so that each session is one to port 179 of a node.
fn objects() -> Vec<Value> {
    let api = "cambric.dev/v1alpha1";
    let mut all = vec![
        json!({ "apiVersion": api, "kind": "BGPClusterConfig", "metadata": { "name": "default" }, "spec": {
            "asn": 65100, "mesh": "Disabled", "podCIDRs": ["198.51.100.0/24", "2001:db8:100::/48"],
            "nodeCIDRs": ["192.0.2.96/28", "2001:db8::/112"],
        } }),
        json!({ "apiVersion": api, "kind": "BGPPeerConfig", "metadata": { "name": "switch" },
            "spec": { "holdTimeSeconds": 9, "keepaliveSeconds": 3, "connect": "Passive" } }),
        cluster::namespace("default", ("team", "default")),
    ];
    for number in 1..=2_u8 {
        let name = format!("n{number}");
        let range = format!("198.51.100.{}/26", 64 * number);
        let first = 8 * number;
        let peers = [
            (1, format!("192.0.2.{first}")),
            (2, format!("192.0.2.{}", first + 2)),
            (3, format!("2001:db8:0:{number}1::")),
            (4, format!("2001:db8:0:{number}2::")),
        ];
        let peers = peers.map(|(link, address)| {
            json!({ "name": format!("f1-{link}"), "address": address, "asn": 65001, "peerConfig": "switch" })
        });
        all.push(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name },
            "spec": { "podCIDR": range, "podCIDRs": [range, format!("2001:db8:100:{number}::/64")] },
            "status": { "addresses": [
                { "type": "InternalIP", "address": format!("192.0.2.10{number}") },
                { "type": "InternalIP", "address": format!("2001:db8::10{number}") },
            ] } }));
        all.push(json!({ "apiVersion": api, "kind": "BGPNodeOverride", "metadata": { "name": name },
            "spec": { "peers": peers } }));
    }
    all
}
