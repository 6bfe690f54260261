//! `cambric-lab`: labs from containerlab files, in network namespaces.

#![forbid(unsafe_code)]

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};

use cambric_lab::links::Carrier;
use cambric_lab::{Backend, Docker, Lab, NodeStatus, Options, Spawned, init, state};

/// Brings a containerlab file up in network namespaces, or in containers as containerlab does.
#[derive(Debug, Parser)]
#[command(name = "cambric-lab", version, about)]
struct Cli {
    /// Folder of cambricd, cambric and cambric-cni [default: that of cambric-lab].
    #[arg(long, value_name = "DIR", global = true)]
    bin_dir: Option<PathBuf>,
    /// Folder for what labs leave outside their namespaces.
    #[arg(long, value_name = "DIR", global = true, default_value = state::STATE_DIR)]
    state_dir: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Bring a lab up: nodes, links, daemons, commands, pods.
    Up {
        #[command(flatten)]
        lab: LabArg,
        /// What plays the nodes; later verbs know it.
        #[arg(long, value_enum, default_value_t = Player::Namespaces)]
        backend: Player,
        /// Leave a lab that does not come up as it is, to be looked at.
        #[arg(long)]
        keep: bool,
    },
    /// Take a lab down; nothing is left, also after a killed up.
    Down(LabArg),
    /// Show the nodes of a lab, their daemons and pods.
    Status {
        #[command(flatten)]
        lab: LabArg,
        /// How to show them.
        #[arg(short, long, value_enum, default_value_t = Format::Text)]
        output: Format,
    },
    /// Run a command in a node; its exit code is that of cambric-lab.
    Exec {
        #[command(flatten)]
        node: NodeArg,
        #[command(flatten)]
        command: CommandArg,
    },
    /// Start the daemons of a node that do not run.
    Start(NodeArg),
    /// Show the logs of a node.
    Logs(NodeArg),
    /// Set all links of a node up or down in one go; down is what a power cut does.
    Links {
        #[command(flatten)]
        node: NodeArg,
        /// How to set them.
        carrier: Carrier,
    },
    /// Make, remove and enter pods.
    #[command(subcommand)]
    Pod(PodVerb),
    /// Be the init of a node.
    #[command(hide = true)]
    Init { folder: PathBuf },
}

#[derive(Debug, Subcommand)]
enum PodVerb {
    /// Make a pod on a node and print what the CNI plugins answered.
    Add(PodArg),
    /// Call CHECK of the CNI plugins; silence means that the pod is wired as ADD left it.
    Check(PodArg),
    /// Remove a pod.
    Del(PodArg),
    /// Run a command in a pod; its exit code is that of cambric-lab.
    Exec {
        #[command(flatten)]
        pod: PodArg,
        #[command(flatten)]
        command: CommandArg,
    },
}

#[derive(Debug, Args)]
struct LabArg {
    /// The *.clab.yml, or its folder.
    file: PathBuf,
}

#[derive(Debug, Args)]
struct NodeArg {
    #[command(flatten)]
    lab: LabArg,
    /// Name of the node.
    node: String,
}

#[derive(Debug, Args)]
struct PodArg {
    #[command(flatten)]
    node: NodeArg,
    /// Name of the pod; `up` calls those it starts NODE-1, NODE-2, …
    pod: String,
}

#[derive(Debug, Args)]
struct CommandArg {
    /// The command.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, default_value = "bash")]
    words: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Player {
    /// Namespaces over this machine's files.
    Namespaces,
    /// Containers of the images that the file names, by the Docker daemon of DOCKER_HOST.
    Docker,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cambric-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode> {
    let load = |lab: &LabArg| Lab::load_in(&cli.state_dir()?, &lab.file);
    let node = |arg: &NodeArg| load(&arg.lab)?.node(&arg.node);
    let pod = |arg: &PodArg| load(&arg.node.lab)?.pod(&arg.node.node, &arg.pod);
    match &cli.verb {
        Verb::Up { lab, backend, keep } => up(&load(lab)?, cli.options(*backend, *keep)?)?,
        Verb::Down(lab) => down(&cli.state_dir()?, lab)?,
        Verb::Status { lab, output } => show_status(&load(lab)?.status(), *output)?,
        Verb::Exec { node: arg, command } => return finish(node(arg)?.spawn_attached(&command.words)?),
        Verb::Start(arg) => node(arg)?.start()?,
        Verb::Logs(arg) => {
            let node = node(arg)?;
            node.collect_logs()?;
            show_logs(&node.log(""))?;
        }
        Verb::Links { node: arg, carrier } => load(&arg.lab)?.set_links(&arg.node, *carrier)?,
        Verb::Pod(PodVerb::Add(arg)) => {
            let (_, result) = load(&arg.node.lab)?.add_pod(&arg.node.node, &arg.pod)?;
            print(&serde_json::to_string_pretty(&result)?)?;
        }
        Verb::Pod(PodVerb::Check(arg)) => pod(arg)?.check()?,
        Verb::Pod(PodVerb::Del(arg)) => pod(arg)?.del()?,
        Verb::Pod(PodVerb::Exec { pod: arg, command }) => {
            return finish(pod(arg)?.spawn_attached(&command.words)?);
        }
        Verb::Init { folder } => init::run(folder)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Cli {
    /// Absolute: inits are known by the path in their command line.
    fn state_dir(&self) -> Result<PathBuf> {
        std::path::absolute(&self.state_dir).context("finding the state folder")
    }

    fn options(&self, player: Player, keep_failed: bool) -> Result<Options> {
        let executable = std::env::current_exe().context("finding cambric-lab itself")?;
        let backend = match player {
            Player::Namespaces => Backend::Namespaces,
            Player::Docker => Backend::Docker(Docker::from_environment()),
        };
        Ok(Options { executable, bin_dir: self.bin_dir.clone(), backend, keep_failed })
    }
}

fn up(lab: &Lab, options: Options) -> Result<()> {
    lab.up(&options, &|step| eprintln!("{step}"))?;
    eprintln!("lab {} is up", lab.topology().name);
    Ok(())
}

fn down(state_dir: &Path, lab: &LabArg) -> Result<()> {
    let name = Lab::down_by_name(state_dir, &lab.file)?;
    eprintln!("lab {name} is down");
    Ok(())
}

/// Waits for a command and ends as it ended; 128 plus the signal as shells have it.
fn finish(mut child: Spawned) -> Result<ExitCode> {
    let code = |status: ExitStatus| status.code().or(status.signal().map(|signal| 128 + signal));
    let status = child.wait().context("waiting for the command")?;
    Ok(ExitCode::from(code(status).and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

fn show_status(nodes: &[NodeStatus], format: Format) -> Result<()> {
    if format == Format::Json {
        return print(&serde_json::to_string_pretty(nodes)?);
    }
    let mut text = format!("{:<12} {:<8} {:>7}  DAEMONS AND PODS", "NODE", "ROLE", "PID");
    for node in nodes {
        let pid = node.pid.map_or("down".to_owned(), |pid| pid.to_string());
        let daemons: Vec<String> = node.daemons.iter().map(|d| format!("{} {}", d.name, d.pid)).collect();
        let line = format!("\n{:<12} {:<8} {pid:>7}  {}", node.node, node.role, daemons.join(", "));
        text += line.trim_end();
        for pod in &node.pods {
            let addresses: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
            text += &format!("\n{:31}{:<12} {}", "", pod.pod, addresses.join(" "));
        }
    }
    print(&text)
}

fn show_logs(folder: &Path) -> Result<()> {
    for entry in folder.read_dir().with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            show_logs(&path)?;
        } else {
            let text = std::fs::read(&path)?;
            print(&format!("==> {} <==\n{}", path.display(), String::from_utf8_lossy(&text)))?;
        }
    }
    Ok(())
}

/// Not `println!`, which panics when the reader has gone (`cambric-lab logs … | head`).
fn print(text: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
