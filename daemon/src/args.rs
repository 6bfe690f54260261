//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;

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

    /// What to log, as `info` or `cambric_bgp=debug,info`.
    #[arg(long, env = "CAMBRIC_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
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
