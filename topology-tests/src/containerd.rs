//! A containerd of a node's own: its state, its mounts and the network of its pods are the node's.
//!
//! It runs in the namespaces of the node's init, so that it goes with the node, shims and containers too: they cannot
//! leave its PID namespace. Only control groups are the machine's: all of a node's are below one folder, which is
//! removed at the end, and by the next one if this process is killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::cri::Cri;
use crate::node::tail;
use crate::{Node, poll};

/// Folder of images, which must not be on an overlay: snapshots are overlays themselves.
const ROOT: &str = "/var/lib/containerd";
const SOCKET: &str = "/run/containerd/containerd.sock";
const CONFIG: &str = "/etc/containerd.toml";
const LOG: &str = "containerd.log";
/// Of an image on its way in.
const ARCHIVE: &str = "/run/image.tar";
const PROGRAM: &str = "containerd";

/// Folder of the control groups of all nodes of all labs, in each hierarchy.
const CGROUPS: &str = "/cambric-lab";

/// The image of the process that holds the namespaces of a pod; and of workloads.
pub const BUSYBOX: &str = "busybox:1";

const IMAGE_WRITER: &str = include_str!("../cri/image.py");

const LIMIT: Duration = Duration::from_secs(60);

/// A containerd that runs in a node; ended when dropped.
#[derive(Debug)]
pub struct Containerd {
    node: Node,
    cri: Cri,
}

/// An image of one layer.
#[derive(Debug, Clone)]
pub struct Image {
    /// `name:tag`
    pub name: String,
    /// Files in it, and where they are on the host.
    pub files: Vec<(String, PathBuf)>,
    /// Symbolic links in it, and where they lead.
    pub links: Vec<(String, String)>,
    /// What a container runs that is given no command.
    pub entrypoint: Vec<String>,
}

/// Whether all that is needed is installed: containerd, runc, a static busybox, gRPC for Python.
pub fn installed() -> bool {
    let programs = ["/usr/bin/containerd", "/usr/bin/ctr", "/usr/sbin/runc", "/bin/busybox"];
    programs.iter().all(|program| Path::new(program).exists()) && crate::cri::installed()
}

impl Containerd {
    /// Starts one in a node that has none; plugins and their configuration are looked for where kubelet's documentation
    /// says (`/opt/cni/bin`, `/etc/cni/net.d`). It has the image [`BUSYBOX`].
    ///
    /// # Errors
    /// When it does not answer; with the end of its log.
    pub fn start(node: &Node) -> Result<Self> {
        sweep_cgroups();
        node.run_ok(&["mkdir", "-p", ROOT])?;
        node.run_ok(&["mount", "-t", "tmpfs", "-o", "mode=700", "containerd", ROOT])?;
        fs::write(node.path(CONFIG), config())?;
        node.start_daemon(&[PROGRAM, "--config", CONFIG].map(str::to_owned), LOG)?;
        poll::until("containerd to listen", LIMIT, || node.path(SOCKET).exists())
            .with_context(|| tail(&node.log(LOG)))?;
        let cri = Cri::connect(node, SOCKET)?;
        let containerd = Self { node: node.clone(), cri };
        let serves = || containerd.conditions().is_ok();
        poll::until("containerd to serve the CRI", LIMIT, serves).with_context(|| tail(&node.log(LOG)))?;
        containerd.import(&busybox()?)?;
        Ok(containerd)
    }

    /// The node it runs in.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The way to say something to it.
    pub fn cri(&self) -> &Cri {
        &self.cri
    }

    /// Folder of the control groups of the node's pods.
    pub fn cgroup_parent(&self) -> String {
        format!("{CGROUPS}/{}", self.node.pid())
    }

    /// Makes an image known to it.
    ///
    /// # Errors
    /// When it cannot be written or is not taken.
    pub fn import(&self, image: &Image) -> Result<()> {
        image.write(&self.node.path(ARCHIVE))?;
        let words = ["ctr", "--address", SOCKET, "--namespace", "k8s.io", "images", "import", ARCHIVE];
        self.node.run_ok(&words).with_context(|| format!("importing {}", image.name))?;
        fs::remove_file(self.node.path(ARCHIVE))?;
        // It is told of new images by events.
        let known = || self.cri.has_image(&image.name).unwrap_or(false);
        poll::until(&format!("containerd to know {}", image.name), LIMIT, known)
    }

    /// `RuntimeReady` and `NetworkReady`, as kubelet asks for them.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn conditions(&self) -> Result<Vec<Value>> {
        let mut answer = self.cri.call("Status", json!({}))?;
        match answer["status"]["conditions"].take() {
            Value::Array(conditions) => Ok(conditions),
            _ => bail!("a status without conditions: {answer}"),
        }
    }

    /// What is said of the network: whether pods can be started, and why not.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn network(&self) -> Result<(bool, String)> {
        let conditions = self.conditions()?;
        let network = conditions.iter().find(|condition| condition["type"] == "NetworkReady");
        let network = network.context("no condition NetworkReady")?;
        Ok((network["status"] == true, network["message"].as_str().unwrap_or_default().to_owned()))
    }

    /// Removes all pods that are left, ends it, and removes its control groups.
    ///
    /// # Errors
    /// What of it did not work.
    pub fn stop(self) -> Result<()> {
        let listed = self.cri.call("ListPodSandbox", json!({}))?;
        for pod in listed["items"].as_array().into_iter().flatten() {
            let id = json!({ "pod_sandbox_id": pod["id"] });
            self.cri.call("StopPodSandbox", id.clone())?;
            self.cri.call("RemovePodSandbox", id)?;
        }
        self.node.kill(PROGRAM, Signal::SIGTERM)?;
        poll::until("containerd to end", LIMIT, || self.node.daemon_pid(PROGRAM).is_none())?;
        // A shim ends a moment after its pod.
        let mut left = Vec::new();
        let gone = poll::until("all of its pods to be gone", LIMIT, || {
            left = self.left();
            left.is_empty()
        });
        gone.with_context(|| format!("left on {}: {}", self.node.name(), left.join(", ")))?;
        self.node.run_ok(&["umount", ROOT])?;
        Ok(())
    }

    /// Shims, mounts and control groups that should be gone.
    fn left(&self) -> Vec<String> {
        sweep_cgroups();
        let shim = self.node.daemon_pid("containerd-shim").map(|pid| format!("shim {pid}"));
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", self.node.pid())).unwrap_or_default();
        let is_ours = |line: &&str| {
            line.split(' ').nth(4).is_some_and(|at| {
                at.starts_with("/run/containerd/")
                    || at.starts_with("/run/netns/cni-")
                    || at.starts_with(&format!("{ROOT}/"))
            })
        };
        let mounts = mounts.lines().filter(is_ours).map(|line| format!("mount {line}")).collect::<Vec<_>>();
        let own = self.cgroup_parent();
        let groups = hierarchies().into_iter().map(|root| root.join(own.trim_start_matches('/')));
        let groups = groups.filter(|path| path.exists()).map(|path| format!("cgroup {}", path.display()));
        shim.into_iter().chain(mounts).chain(groups).collect()
    }
}

impl Image {
    fn write(&self, archive: &Path) -> Result<()> {
        let Self { name, files, links, entrypoint } = self;
        let files: serde_json::Map<String, Value> =
            files.iter().map(|(name, path)| (name.clone(), path.display().to_string().into())).collect();
        let links: serde_json::Map<String, Value> =
            links.iter().map(|(name, target)| (name.clone(), target.as_str().into())).collect();
        let content =
            json!({ "name": name, "files": files, "links": links, "entrypoint": entrypoint, "command": [] });
        let mut command = std::process::Command::new("/usr/bin/python3");
        command.args(["-c", IMAGE_WRITER]).arg(archive).arg(content.to_string());
        let output = command.output().context("starting python3")?;
        if !output.status.success() {
            bail!("writing image {name}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}

/// The program under all its names; alone it waits for ever.
fn busybox() -> Result<Image> {
    let program = Path::new("/bin/busybox");
    let output = std::process::Command::new(program).arg("--list").output().context("/bin/busybox --list")?;
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    let links = names.lines().filter(|name| *name != "busybox");
    Ok(Image {
        name: BUSYBOX.to_owned(),
        files: vec![("bin/busybox".to_owned(), program.to_owned())],
        links: links.map(|name| (format!("bin/{name}"), "busybox".to_owned())).collect(),
        entrypoint: ["/bin/sleep", "2147483647"].map(str::to_owned).into(),
    })
}

/// Without the rights of a real host: AppArmor is not asked, and no score of the OOM killer is lowered, which needs
/// CAP_SYS_RESOURCE.
fn config() -> String {
    format!(
        r#"version = 2
root = "{ROOT}"
state = "/run/containerd"
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{BUSYBOX}"
  disable_apparmor = true
  restrict_oom_score_adj = true
"#
    )
}

/// Where hierarchies of control groups are mounted on the host; nodes see them at the same paths.
fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let hierarchy = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup").then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    };
    mounts.lines().filter_map(hierarchy).collect()
}

/// Removes all control groups of labs in which no process is.
fn sweep_cgroups() {
    for hierarchy in hierarchies() {
        remove_empty(&hierarchy.join(CGROUPS.trim_start_matches('/')));
    }
}

/// The innermost first; one that is in use stays, and so what it is in.
fn remove_empty(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let _ = fs::remove_dir(group); // in use
}
