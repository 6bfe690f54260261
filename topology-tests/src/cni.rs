//! Calls a chain of CNI plugins as a container runtime does (CNI specification 1.1.0, sections 3 and 4).

use std::fmt;
use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::node::Node;

/// The configuration that the daemon writes, in a node.
pub const CONFLIST: &str = "/etc/cni/net.d/10-cambric.conflist";

/// Where plugins are looked for in a node: the standard folder, then Debian's.
const PLUGIN_DIRS: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];

/// Code by which a plugin says that the same call will do later.
pub const TRY_AGAIN_LATER: u64 = 11;

/// What a plugin said instead of doing what it was called for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its number.
    pub code: u64,
    words: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Refused {}

/// The code that a plugin gave as its reason, if that is why.
pub fn code_of(error: &anyhow::Error) -> Option<u64> {
    error.downcast_ref::<Refused>().map(|refused| refused.code)
}

/// A network configuration list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conflist {
    /// Version of the specification that the plugins are to speak.
    #[serde(rename = "cniVersion")]
    pub cni_version: String,
    /// Name of the network.
    pub name: String,
    /// Configuration of each plugin in order.
    pub plugins: Vec<Map<String, Value>>,
}

/// What a chain is called for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attachment<'a> {
    pub(crate) node: &'a Node,
    pub(crate) container_id: &'a str,
    /// Kubernetes' word for it.
    pub(crate) namespace: &'a str,
    pub(crate) pod: &'a str,
    /// `metadata.uid` of its object, if there is one.
    pub(crate) uid: Option<&'a str>,
}

impl Conflist {
    /// Reads the configuration of a node.
    pub(crate) fn of(node: &Node) -> Result<Self> {
        let path = node.path(CONFLIST);
        let context = || format!("reading {CONFLIST} of {}", node.name());
        let text = std::fs::read_to_string(path).with_context(context)?;
        serde_json::from_str(&text).with_context(context)
    }

    /// Calls ADD of each plugin; the result of the last is the result.
    pub(crate) fn add(&self, attachment: &Attachment<'_>) -> Result<Value> {
        let mut result = None;
        for plugin in &self.plugins {
            let config = self.config_for(plugin, result.as_ref());
            result = attachment.call("ADD", plugin, &config)?.or(result);
        }
        result.context("no plugin gave a result")
    }

    /// Calls DEL of each plugin in reverse order; all are tried.
    pub(crate) fn del(&self, attachment: &Attachment<'_>, result: Option<&Value>) -> Result<()> {
        let calls = self
            .plugins
            .iter()
            .rev()
            .map(|plugin| attachment.call("DEL", plugin, &self.config_for(plugin, result)).map(drop));
        let errors: Vec<String> = calls.filter_map(|call| Some(format!("{:#}", call.err()?))).collect();
        if !errors.is_empty() {
            bail!("{}", errors.join("; "));
        }
        Ok(())
    }

    /// Calls CHECK of each plugin with what the last one answered to ADD.
    pub(crate) fn check(&self, attachment: &Attachment<'_>, result: &Value) -> Result<()> {
        let mut calls = self.plugins.iter().map(|plugin| (plugin, self.config_for(plugin, Some(result))));
        calls.try_for_each(|(plugin, config)| attachment.call("CHECK", plugin, &config).map(drop))
    }

    fn config_for(&self, plugin: &Map<String, Value>, previous: Option<&Value>) -> Value {
        let mut config = plugin.clone();
        config.insert("cniVersion".into(), self.cni_version.clone().into());
        config.insert("name".into(), self.name.clone().into());
        config.extend(previous.map(|result| ("prevResult".to_owned(), result.clone())));
        Value::Object(config)
    }
}

impl Attachment<'_> {
    /// Path of the pod's network namespace in the node.
    pub(crate) fn netns(&self) -> String {
        format!("/run/netns/{}", self.pod)
    }

    fn call(&self, verb: &str, plugin: &Map<String, Value>, config: &Value) -> Result<Option<Value>> {
        let name = plugin.get("type").and_then(Value::as_str).context("a plugin without type")?;
        let context = || format!("{verb} of {name} for pod {} of {}", self.pod, self.node.name());
        let is_in = |dir: &&&str| self.node.path(dir).join(name).symlink_metadata().is_ok();
        let Some(dir) = PLUGIN_DIRS.iter().find(is_in) else {
            bail!("{}: no plugin {name} in {}", context(), PLUGIN_DIRS.join(" nor "));
        };
        let mut command = self.node.command(&[format!("{dir}/{name}")])?;
        command.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", self.container_id);
        command
            .env("CNI_NETNS", self.netns())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", PLUGIN_DIRS.join(":"));
        let uid = self.uid.map(|uid| format!(";K8S_POD_UID={uid}")).unwrap_or_default();
        let arguments =
            format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={}{uid}", self.namespace, self.pod);
        command.env("CNI_ARGS", arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.node.enter(|| command.spawn())?.with_context(context)?;
        if let Some(mut input) = child.stdin.take() {
            // A plugin that ends without reading has said why.
            let _ = input.write_all(config.to_string().as_bytes());
        }
        let output = child.wait_with_output().with_context(context)?;
        let answer: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        if output.status.success() {
            return Ok(answer);
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        let text = |key: &str| answer.as_ref().and_then(|answer| answer.get(key)?.as_str());
        match text("msg") {
            Some(message) => {
                let details = text("details").map(|details| format!(" ({details})")).unwrap_or_default();
                let code =
                    answer.as_ref().and_then(|answer| answer.get("code")?.as_u64()).unwrap_or_default();
                Err(Refused { code, words: format!("{}: {message}{details} {complaint}", context()) }.into())
            }
            None => bail!("{}: {} {complaint}", context(), output.status),
        }
    }
}
