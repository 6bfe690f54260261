//! Nodes as containers, the way containerlab makes them: no network of Docker's, the ends of veth pairs moved in.
//!
//! Only the first process of a node comes from here. It has namespaces of its own as an init of ours has, so all else
//! is the same: links, `exec`, pods, closures. What runs in the node is what its image starts, not what
//! [`crate::node::Node::start`] would; once it has ended, the container with its network is gone for good.
//!
//! containerlab starts containers privileged. Here a node gets what FRR and Cambric need, since not every machine may
//! give all: `/proc/sys` of its own network to write, and the capabilities of [`CAPABILITIES`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::clab::{Access, NodeSpec, Role};
use crate::init::{SYSCTLS, copy};
use crate::node::{join, succeeded};

/// On each container: the folder of the nodes of its lab. `down` finds them by it.
const LAB_LABEL: &str = "dev.cambric.lab";

/// Beside those that Docker gives to all. FRR wants SYS_ADMIN to enter the namespaces of VRFs, and does not start without.
const CAPABILITIES: [&str; 3] = ["NET_ADMIN", "NET_RAW", "SYS_ADMIN"];

/// A Docker daemon and the program that talks to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Docker {
    /// The client.
    pub program: PathBuf,
    /// Where the daemon listens, as `DOCKER_HOST` says it; none: the client's default.
    pub host: Option<String>,
}

/// The container of a node.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    docker: Docker,
    name: String,
}

impl Docker {
    /// `docker` of `PATH` with the daemon of `DOCKER_HOST`.
    pub fn from_environment() -> Self {
        Self { program: PathBuf::from("docker"), host: std::env::var("DOCKER_HOST").ok() }
    }

    /// The client with these arguments, still to be started.
    pub fn command<S: AsRef<str>>(&self, words: &[S]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(words.iter().map(AsRef::as_ref))
            .envs(self.host.iter().map(|host| ("DOCKER_HOST", host)));
        command.stdin(Stdio::null());
        command
    }

    /// Runs the client to its end and returns what it wrote.
    ///
    /// # Errors
    /// When it cannot be started or fails; with what it complained of.
    pub fn run_ok<S: AsRef<str>>(&self, words: &[S]) -> Result<String> {
        let what = || format!("docker {}", join(words));
        succeeded(&self.command(words).output().with_context(what)?, what)
    }

    pub(crate) fn container(&self, name: String) -> Container {
        Container { docker: self.clone(), name }
    }

    /// Whether there is an image for the node.
    ///
    /// # Errors
    /// When there is none, or no daemon answers.
    pub(crate) fn check(&self, node: &NodeSpec) -> Result<()> {
        self.run_ok(&["version", "--format", "{{.Server.Version}}"])?;
        let image = node.image.as_deref().context("no image")?;
        self.run_ok(&["image", "inspect", "--format", "{{.Id}}", image])
            .map(drop)
            .with_context(|| format!("no image {image} here: build or pull it"))
    }

    /// Ends all containers of a lab; none is as good.
    pub(crate) fn remove_all(&self, nodes: &Path) -> Result<()> {
        let filter = format!("label={LAB_LABEL}={}", nodes.display());
        let found = self.run_ok(&["ps", "--all", "--quiet", "--filter", &filter])?;
        let ids: Vec<&str> = found.split_whitespace().collect();
        if !ids.is_empty() {
            self.run_ok(&[&["rm", "--force", "--volumes"], ids.as_slice()].concat())?;
        }
        Ok(())
    }
}

impl Container {
    /// Starts it; `folder` is that of the node. Returns the PID of its first process as the host counts.
    pub(crate) fn start(&self, node: &NodeSpec, folder: &Path) -> Result<Pid> {
        let binds = private_binds(node, folder)?;
        self.docker.run_ok(&run_words(&self.name, node, &binds, folder))?;
        match self.pid()? {
            Some(pid) => Ok(pid),
            None => bail!("it has ended already; it said:\n{}", self.says()?),
        }
    }

    /// PID of its first process as the host counts; none: it does not run.
    pub(crate) fn pid(&self) -> Result<Option<Pid>> {
        let text = self.docker.run_ok(&["inspect", "--format", "{{.State.Pid}}", &self.name])?;
        let pid: i32 = text.trim().parse().with_context(|| format!("a PID of {}: {text:?}", self.name))?;
        Ok((pid > 0).then(|| Pid::from_raw(pid)))
    }

    /// What its first process has written, both outputs in one.
    pub(crate) fn says(&self) -> Result<String> {
        let output = self.docker.command(&["logs", &self.name]).output()?;
        Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    }
}

/// The binds of a node; what FRR comes to own is a copy, never the user's files.
fn private_binds(node: &NodeSpec, folder: &Path) -> Result<Vec<(PathBuf, PathBuf, Access)>> {
    let mut binds = Vec::new();
    for bind in &node.binds {
        let mut source = bind.source.clone();
        if node.role == Role::Frr && bind.target.starts_with("/etc/frr") {
            source = folder.join("binds").join(bind.target.strip_prefix("/").unwrap_or(&bind.target));
            copy(&bind.source, &source).with_context(|| format!("copying {}", bind.source.display()))?;
        }
        binds.push((source, bind.target.clone(), bind.access));
    }
    Ok(binds)
}

fn run_words(
    name: &str,
    node: &NodeSpec,
    binds: &[(PathBuf, PathBuf, Access)],
    folder: &Path,
) -> Vec<String> {
    let mut words: Vec<String> =
        ["run", "--detach", "--network", "none", "--name", name].map(str::to_owned).into();
    let mut option = |key: &str, value: String| words.extend([key.to_owned(), value]);
    option("--hostname", node.name.clone());
    let lab = folder.parent().unwrap_or(folder);
    option("--label", format!("{LAB_LABEL}={}", lab.display()));
    for (key, value) in &node.labels {
        option("--label", format!("{key}={value}"));
    }
    for capability in CAPABILITIES {
        option("--cap-add", capability.to_owned());
    }
    option("--security-opt", "systempaths=unconfined".to_owned());
    let defaults = SYSCTLS.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    let sysctls: BTreeMap<String, String> = defaults.chain(node.sysctls.clone()).collect();
    for (key, value) in sysctls {
        option("--sysctl", format!("{key}={value}"));
    }
    for (key, value) in &node.env {
        option("--env", format!("{key}={value}"));
    }
    for (source, target, access) in binds {
        let end = if *access == Access::ReadOnly { ":ro" } else { "" };
        option("--volume", format!("{}:{}{end}", source.display(), target.display()));
    }
    words.extend(node.image.clone());
    words.extend(node.arguments.iter().flatten().cloned());
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clab::Topology;

    #[test]
    fn a_node_becomes_a_container_without_a_network_of_dockers() {
        let text = "name: l\ntopology:\n  nodes:\n    n1:\n      kind: linux\n      image: cambric-lab:latest\n      \
                    cmd: --log debug\n      env: { A: b }\n      binds: ['/etc:/mnt:ro']\n      \
                    sysctls: { net.ipv6.conf.all.accept_dad: 1 }\n";
        let topology = Topology::parse(Path::new("/x.clab.yml"), text).expect("a file");
        let node = &topology.nodes["n1"];
        let folder = Path::new("/run/l/nodes/n1");
        let binds = private_binds(node, folder).expect("binds");
        let line = run_words("clab-l-n1", node, &binds, folder).join(" ");
        assert!(line.starts_with("run --detach --network none --name clab-l-n1 --hostname n1 "), "{line}");
        assert!(line.ends_with(" --env A=b --volume /etc:/mnt:ro cambric-lab:latest --log debug"), "{line}");
        // The file's word on a setting is the last one.
        assert!(line.contains("--sysctl net.ipv6.conf.all.accept_dad=1"), "{line}");
        assert!(!line.contains("accept_dad=0 --sysctl net.ipv6.conf.all.accept_dad"), "{line}");
        assert!(line.contains("--label dev.cambric.lab=/run/l/nodes "), "{line}");
    }
}
