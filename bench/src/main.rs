//! `make bench`: what the policy engine costs beside what it replaces, and BGP beside others.
//!
//! Each case plays the enforcer in network namespaces of its own, on clusters that exist only here, in a process of its
//! own with a limit of time. What it makes goes away with that process.

mod changes;
mod clock;
mod cluster;
mod compile;
mod gate;
mod layouts;
mod machine;
mod memory;
mod namespace;
mod node;
mod objects;
mod path;
mod peers;
mod sets;
mod site;
mod site_objects;
mod statistics;
mod table;

use std::process::{Child, Command, ExitCode};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

/// What Cambric's policy engine costs on this machine.
#[derive(Debug, Parser)]
struct Args {
    /// End with the process that started this one.
    #[arg(long, hide = true)]
    with_parent: bool,
    #[command(subcommand)]
    case: Option<Case>,
}

/// Without one all are run, one after the other.
#[derive(Debug, Subcommand)]
enum Case {
    /// CPU time of a packet through a node.
    Path(path::Options),
    /// Members of sets.
    Sets(sets::Options),
    /// Changes of a large cluster, and starts.
    Compile(compile::Options),
    /// How long a new pod waits for its rules.
    Gate(gate::Options),
    /// Memory of the daemon beside an API server.
    Memory(memory::Options),
    /// Hundreds of BGP peers at once.
    Peers(peers::Options),
}

const CASES: [&str; 6] = ["path", "sets", "compile", "gate", "memory", "peers"];
/// A case that takes longer hangs. `memory` fills an API server with 100 000 pods, `peers` waits for BIRD in vain.
const LIMIT: Duration = Duration::from_secs(400);

fn main() -> ExitCode {
    let Args { with_parent, case } = Args::parse();
    let done = match case {
        Some(case) => run(&case, with_parent),
        None => run_all(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cambric-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(case: &Case, with_parent: bool) -> Result<()> {
    if with_parent {
        set_pdeathsig(Signal::SIGKILL).context("asking to end with the parent")?;
    } else {
        machine::print();
        println!();
    }
    match case {
        Case::Path(options) => path::run(options),
        Case::Sets(options) => sets::run(options),
        Case::Compile(options) => compile::run(options),
        Case::Gate(options) => gate::run(options),
        Case::Memory(options) => memory::run(options),
        Case::Peers(options) => peers::run(options),
    }
}

/// Runs each case in a process of its own.
fn run_all() -> Result<()> {
    let own = std::env::current_exe().context("own path")?;
    machine::print();
    let mut failed = Vec::new();
    for case in CASES {
        println!();
        let child = Command::new(&own)
            .args(["--with-parent", case])
            .spawn()
            .with_context(|| format!("starting {case}"))?;
        if let Err(error) = ends_well(child) {
            println!("{case}: {error:#}");
            failed.push(case);
        }
    }
    anyhow::ensure!(failed.is_empty(), "not measured: {}", failed.join(", "));
    Ok(())
}

fn ends_well(mut child: Child) -> Result<()> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            anyhow::ensure!(status.success(), "{status}");
            return Ok(());
        }
        if start.elapsed() > LIMIT {
            child.kill()?;
            child.wait()?;
            anyhow::bail!("not done after {LIMIT:?}");
        }
        sleep(Duration::from_millis(20));
    }
}
