//! Pods: network namespaces pinned in a node under `/run/netns`, wired by the node's CNI plugins.
//!
//! What DEL needs is written to the node's folder before the pod is made; nothing of a pod is outside its node, so
//! pods go with it.

use std::fs;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cni::{Attachment, Conflist};
use crate::namespaces::Namespaces;
use crate::node::{Node, Spawned, join, succeeded};
use crate::place::{self, Place};
use crate::state;

/// A pod of a node.
#[derive(Debug, Clone)]
pub struct Pod {
    node: Node,
    name: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    container_id: String,
    namespace: String,
    #[serde(default)]
    uid: Option<String>,
    conflist: Conflist,
    /// What ADD answered; none: it did not come to an end.
    result: Option<Value>,
}

/// Names of the pods of a node.
pub fn list(node: &Node) -> Vec<String> {
    let entries = fs::read_dir(records(node)).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_owned()))
        .collect();
    names.sort();
    names
}

/// The namespace, as Kubernetes has the word, of pods that are given none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Makes a pod; returns it with what ADD answered. After a failure nothing of it is left.
pub(crate) fn add(node: &Node, namespace: &str, name: &str, uid: Option<&str>) -> Result<(Pod, Value)> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    if name.is_empty() || name.starts_with(['-', '.']) || !name.chars().all(is_plain) {
        bail!("{name:?} cannot name a pod");
    }
    let record_path = record(node, name);
    if record_path.exists() {
        bail!("pod {name} of {} is there already", node.name());
    }
    let conflist = Conflist::of(node)?;
    let (container_id, namespace, uid) = (random_id()?, namespace.to_owned(), uid.map(str::to_owned));
    let mut record = Record { container_id, namespace, uid, conflist, result: None };
    state::write(&record_path, &serde_json::to_string(&record)?)?;
    let pod = Pod { node: node.clone(), name: name.to_owned() };
    let added = node
        .run_ok(&["ip", "netns", "add", name])
        .and_then(|_| node.run_ok(&["ip", "-netns", name, "link", "set", "lo", "up"]))
        .and_then(|_| record.conflist.add(&pod.attachment(&record)));
    match added {
        Ok(result) => {
            record.result = Some(result.clone());
            state::write(&record_path, &serde_json::to_string(&record)?)?;
            Ok((pod, result))
        }
        Err(error) => match pod.del() {
            Ok(()) => Err(error),
            Err(second) => Err(error.context(format!("undoing it failed, too: {second:#}"))),
        },
    }
}

impl Pod {
    pub(crate) fn of(node: Node, name: &str) -> Result<Self> {
        if !record(&node, name).exists() {
            let known = list(&node);
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            bail!("no pod {name} on {} (there: {known})", node.name());
        }
        Ok(Self { node, name: name.to_owned() })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The node it is on.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Its addresses, from what ADD answered.
    ///
    /// # Errors
    /// When it has not been made to the end.
    pub fn addresses(&self) -> Result<Vec<IpAddr>> {
        let result = self.record()?.result.with_context(|| format!("pod {} is half made", self.name))?;
        let ips = result.get("ips").and_then(Value::as_array).context("a result without ips")?;
        let address = |ip: &Value| ip.get("address")?.as_str()?.split('/').next()?.parse().ok();
        ips.iter().map(|ip| address(ip).with_context(|| format!("no address in {ip}"))).collect()
    }

    /// Its address of one family.
    ///
    /// # Errors
    /// When it has none.
    pub fn address(&self, is_wanted: impl Fn(&IpAddr) -> bool) -> Result<IpAddr> {
        let found = self.addresses()?.into_iter().find(is_wanted);
        found.with_context(|| format!("pod {} has no such address", self.name))
    }

    /// Runs a command to its end in the node, with the pod's network.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run<S: AsRef<str>>(&self, words: &[S]) -> Result<Output> {
        let mut command = self.node.command(words)?;
        command.stdin(Stdio::null());
        self.enter(|| command.output())?.with_context(|| self.cannot_start(words))
    }

    /// Runs a command to its end and returns what it wrote.
    ///
    /// # Errors
    /// When it cannot be started or fails; with what it wrote to its standard error.
    pub fn run_ok<S: AsRef<str>>(&self, words: &[S]) -> Result<String> {
        succeeded(&self.run(words)?, || format!("{}: {}", self.name, join(words)))
    }

    /// Starts a command that shares the caller's standard input and outputs.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_attached<S: AsRef<str>>(&self, words: &[S]) -> Result<Spawned> {
        let mut command = self.node.command(words)?;
        self.start(&mut command).with_context(|| self.cannot_start(words))
    }

    /// Starts a command; it is killed when the returned value is dropped.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn<S: AsRef<str>>(&self, words: &[S], output: Stdio) -> Result<Spawned> {
        let mut command = self.node.command(words)?;
        command.stdin(Stdio::null()).stdout(output);
        self.start(&mut command).with_context(|| self.cannot_start(words))
    }

    /// Runs a closure on a thread in the pod's network namespace. A socket made there stays there.
    ///
    /// # Errors
    /// When the pod is gone.
    pub fn in_netns<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        place::in_netns(self, work)
    }

    /// Calls CHECK: whether it is wired as ADD left it.
    ///
    /// # Errors
    /// When a plugin finds a difference, which it names; when the pod has not been made to the end.
    pub fn check(&self) -> Result<()> {
        let record = self.record()?;
        let result = record.result.as_ref().with_context(|| format!("pod {} is half made", self.name))?;
        record.conflist.check(&self.attachment(&record), result)
    }

    /// Calls DEL and removes the pod, whatever DEL said.
    ///
    /// # Errors
    /// All that went wrong; what could be removed is.
    pub fn del(&self) -> Result<()> {
        let record = self.record()?;
        let mut errors = Vec::new();
        let deleted = record.conflist.del(&self.attachment(&record), record.result.as_ref());
        errors.extend(deleted.err());
        if self.netns().exists() {
            errors.extend(self.node.run_ok(&["ip", "netns", "delete", &self.name]).err());
        }
        fs::remove_file(self::record(&self.node, &self.name))?;
        match errors.is_empty() {
            true => Ok(()),
            false => bail!("{}", errors.iter().map(|e| format!("{e:#}")).collect::<Vec<_>>().join("; ")),
        }
    }

    fn start(&self, command: &mut Command) -> Result<Spawned> {
        Ok(Spawned::from(self.enter(|| command.spawn())??))
    }

    fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let namespaces = Namespaces::of_pod(self.node.pid(), &self.netns());
        namespaces.and_then(|namespaces| namespaces.enter(work)).with_context(|| self.gone())
    }

    fn attachment<'a>(&'a self, record: &'a Record) -> Attachment<'a> {
        let Record { container_id, namespace, uid, .. } = record;
        Attachment { node: &self.node, container_id, namespace, pod: &self.name, uid: uid.as_deref() }
    }

    fn record(&self) -> Result<Record> {
        let path = record(&self.node, &self.name);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
    }

    fn gone(&self) -> String {
        format!("pod {} of {} is gone", self.name, self.node.name())
    }

    fn cannot_start<S: AsRef<str>>(&self, words: &[S]) -> String {
        format!("{}: cannot start {}", self.name, join(words))
    }
}

fn records(node: &Node) -> PathBuf {
    node.folder().join("pods")
}

fn record(node: &Node, pod: &str) -> PathBuf {
    records(node).join(format!("{pod}.json"))
}

/// A container ID as runtimes make them: 64 hex digits.
fn random_id() -> Result<String> {
    let mut bytes = [0; 32];
    let random = Path::new("/dev/urandom");
    fs::File::open(random)?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
