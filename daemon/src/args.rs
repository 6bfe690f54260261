//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, ValueEnum};

/// Cambric's node daemon: announces this node's pods by BGP, installs what it learns, serves the CLI.
#[derive(Debug, Clone, Parser)]
#[command(name = "cambricd", version)]
pub struct Args {
    /// Name of this node, as in its Node object; the host name unless given.
    #[arg(long, env = "CAMBRIC_NODE")]
    pub node: Option<String>,

    /// Where objects come from: `dir:PATH`, a folder of YAML manifests.
    #[arg(long, env = "CAMBRIC_SOURCE", default_value = "dir:/etc/cambric/manifests")]
    pub source: SourceArg,

    /// Run-time files: control socket, leases, record of routes. Must not outlive the kernel (tmpfs).
    #[arg(long, default_value = "/run/cambric", value_name = "DIR")]
    pub run_dir: PathBuf,

    /// The last known state of the cluster, from which a node that boots goes on. Should outlive the kernel.
    #[arg(long, default_value = "/var/lib/cambric", value_name = "DIR")]
    pub state_dir: PathBuf,

    /// Where the container runtime looks for CNI configuration.
    #[arg(long, default_value = "/etc/cni/net.d", value_name = "DIR")]
    pub cni_conf_dir: PathBuf,

    /// The node's own /proc/sys/net; in a container it is mounted at a path of its own.
    #[arg(long, default_value = "/proc/sys/net", value_name = "DIR")]
    pub sysctl_dir: PathBuf,

    /// TCP port of BGP.
    #[arg(long, default_value_t = 179, value_name = "PORT")]
    pub bgp_port: u16,

    /// Whether NetworkPolicy is enforced.
    #[arg(long, value_enum, default_value_t = PolicyArg::On, value_name = "on|off")]
    pub policy: PolicyArg,

    /// What the CNI plugin does with a pod that is not judged by its policies yet: starts it without asking (off),
    /// starts it closed (prefer), or has it started again (require).
    #[arg(long, value_enum, default_value_t = PolicyGate::Prefer, value_name = "off|prefer|require")]
    pub policy_gate: PolicyGate,

    /// What to log, as `info` or `cambric_bgp=debug,info`.
    #[arg(long, env = "CAMBRIC_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
}

/// Whether NetworkPolicy is enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PolicyArg {
    /// It is.
    On,
    /// Pods talk as they like.
    Off,
}

/// `policyGate` of the CNI configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PolicyGate {
    /// The plugin does not ask.
    Off,
    /// It asks, and goes on without an answer.
    Prefer,
    /// Without an answer the pod is not started.
    Require,
}

impl PolicyGate {
    /// As the plugin reads it.
    pub fn as_str(self) -> &'static str {
        match self {
            PolicyGate::Off => "off",
            PolicyGate::Prefer => "prefer",
            PolicyGate::Require => "require",
        }
    }
}

/// Where objects come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceArg {
    /// A folder of manifests.
    Dir(PathBuf),
}

impl FromStr for SourceArg {
    type Err = String;
    fn from_str(text: &str) -> Result<SourceArg, String> {
        match text.split_once(':') {
            Some(("dir", path)) if !path.is_empty() => Ok(SourceArg::Dir(PathBuf::from(path))),
            _ => Err(format!("\"{text}\" is not of the form dir:PATH")),
        }
    }
}

impl std::fmt::Display for SourceArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SourceArg::Dir(path) => write!(f, "dir:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_is_on_unless_told_otherwise() {
        let read = |words: &[&str]| Args::try_parse_from([&["cambricd"], words].concat());
        let args = read(&[]).expect("defaults");
        assert_eq!((args.policy, args.policy_gate), (PolicyArg::On, PolicyGate::Prefer));
        let args = read(&["--policy", "off", "--policy-gate", "require"]).expect("known words");
        assert_eq!((args.policy, args.policy_gate), (PolicyArg::Off, PolicyGate::Require));
        assert!(read(&["--policy", "maybe"]).is_err() && read(&["--policy-gate", "on"]).is_err());
    }
}
