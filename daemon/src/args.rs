//! The command line.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Parser, ValueEnum};

/// Cambric's node daemon: announces this node's pods by BGP, installs what it learns, serves the CLI.
#[derive(Debug, Clone, Parser)]
#[command(name = "cambricd", version)]
pub struct Args {
    /// Name of this node, as in its Node object; the host name in small letters unless given.
    #[arg(long, env = "CAMBRIC_NODE")]
    pub node: Option<String>,

    /// Where objects come from: `dir:PATH`, a folder of YAML manifests, or `kube`, the API server of the cluster.
    #[arg(
        long,
        env = "CAMBRIC_SOURCE",
        default_value = "dir:/etc/cambric/manifests",
        value_name = "dir:PATH|kube"
    )]
    pub source: SourceArg,

    /// How to reach the API server; the service account of the daemon's pod unless given.
    // Set to nothing it is as good as absent, as for kubectl.
    #[arg(long, env = "KUBECONFIG", value_name = "FILE", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub kubeconfig: Option<PathBuf>,

    /// Whether a node that has adopted nothing carries the taint `cambric.dev/not-ready` until it is ready.
    #[arg(long, value_enum, default_value_t = Switch::On, value_name = "on|off")]
    pub node_taint: Switch,

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

    /// TCP port of `/healthz` and `/readyz`; 0: none.
    #[arg(long, default_value_t = 9178, value_name = "PORT")]
    pub health_port: u16,

    /// TCP port of `/metrics`; 0: none. That of health answers both.
    #[arg(long, default_value_t = 9179, value_name = "PORT")]
    pub metrics_port: u16,

    /// Where health and metrics are served: on 127.0.0.1, or on the address of this node.
    #[arg(long, value_enum, default_value_t = HttpAddress::Localhost, value_name = "localhost|node")]
    pub http_address: HttpAddress,

    /// What to log, as `info` or `cambric_bgp=debug,info`; `cambric log` changes it while the daemon runs.
    #[arg(long, env = "CAMBRIC_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,

    /// How a line of the log looks: text for people, or one JSON object.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "text|json")]
    pub log_format: LogFormat,
}

impl Args {
    /// The file that says how to reach the API server; `None`: the service account of the pod does.
    pub fn kubeconfig(&self) -> Option<&Path> {
        self.kubeconfig.as_deref().filter(|path| !path.as_os_str().is_empty())
    }
}

/// Something that is done or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// Where health and metrics are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HttpAddress {
    /// To this node alone.
    Localhost,
    /// On the node's address, to whoever reaches it.
    Node,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line, for programs.
    Json,
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
    /// The API server of the cluster.
    Kube,
}

impl FromStr for SourceArg {
    type Err = String;
    fn from_str(text: &str) -> Result<SourceArg, String> {
        match text.split_once(':') {
            None if text == "kube" => Ok(SourceArg::Kube),
            Some(("dir", path)) if !path.is_empty() => Ok(SourceArg::Dir(PathBuf::from(path))),
            _ => Err("neither `kube` nor of the form `dir:PATH`".to_owned()),
        }
    }
}

impl std::fmt::Display for SourceArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SourceArg::Dir(path) => write!(f, "dir:{}", path.display()),
            SourceArg::Kube => f.write_str("kube"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from([&["cambricd"], words].concat())
    }

    #[test]
    fn source_is_a_folder_or_the_api_server() {
        let source = |text: &str| read(&["--source", text]).map(|args| args.source);
        assert_eq!(source("kube").expect("known"), SourceArg::Kube);
        assert_eq!(source("dir:/etc/x:y").expect("known"), SourceArg::Dir(PathBuf::from("/etc/x:y")));
        for text in ["dir:", "dir", "kube:", "kubernetes", ""] {
            let error = source(text).expect_err(text).to_string();
            assert!(error.contains("--source") && error.contains(&format!("'{text}'")), "{error}");
        }
        for source in [SourceArg::Kube, SourceArg::Dir(PathBuf::from("/x"))] {
            assert_eq!(source.to_string().parse(), Ok(source));
        }
    }

    #[test]
    fn empty_kubeconfig_is_none() {
        assert_eq!(read(&["--kubeconfig", "/a"]).expect("a path").kubeconfig(), Some(Path::new("/a")));
        assert_eq!(read(&["--kubeconfig", ""]).expect("nothing").kubeconfig(), None);
    }

    #[test]
    fn wrong_values_are_told_with_their_flag() {
        let wrong = [
            ("--health-port", "65536"),
            ("--metrics-port", "-1"),
            ("--http-address", "0.0.0.0"),
            ("--log-format", "xml"),
            ("--node-taint", "yes"),
        ];
        for (flag, value) in wrong {
            let error = read(&[&format!("{flag}={value}")]).expect_err(flag).to_string();
            assert!(error.contains(flag) && error.contains(value), "{error}");
        }
        assert_eq!(read(&["--health-port", "0"]).expect("off").health_port, 0);
    }

    #[test]
    fn policy_is_on_unless_told_otherwise() {
        let args = read(&[]).expect("defaults");
        assert_eq!((args.policy, args.policy_gate), (PolicyArg::On, PolicyGate::Prefer));
        let args = read(&["--policy", "off", "--policy-gate", "require"]).expect("known words");
        assert_eq!((args.policy, args.policy_gate), (PolicyArg::Off, PolicyGate::Require));
        assert!(read(&["--policy", "maybe"]).is_err() && read(&["--policy-gate", "on"]).is_err());
    }
}
