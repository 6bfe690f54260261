//! `make demo`: brings a lab up, shows it, breaks it, and says what was seen. Exit status 1 if anything
//! was not as it should be.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result};
use cambric_lab::demo::{self, headline};
use cambric_lab::fabric::{self, RECOVERY};
use cambric_lab::{Lab, Options};
use clap::Parser;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

/// Shows Cambric on a lab of this machine.
#[derive(Parser)]
struct Args {
    /// Leave the lab up and say what to try.
    #[arg(long)]
    keep: bool,
    /// Run the steps; without it a child is started that does, and this process clears up behind it.
    #[arg(long, hide = true)]
    steps: bool,
    /// Folder or file of the lab.
    lab: PathBuf,
}

/// What ends a program from outside.
fn ending_signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect()
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = if args.steps { run_steps(&args) } else { run_guarded(&args) };
    done.unwrap_or_else(|error| {
        eprintln!("cambric-demo: {error:#}");
        ExitCode::FAILURE
    })
}

/// Runs the steps in a child, and takes the lab down if that does not come to its own end: interrupted, or killed
/// by whatever else.
fn run_guarded(args: &Args) -> Result<ExitCode> {
    let signals = ending_signals();
    signals.thread_block().context("blocking signals")?;
    let own = std::env::current_exe().context("own path")?;
    let mut child = Command::new(own).arg("--steps").args(std::env::args_os().skip(1)).spawn()?;
    let steps = Pid::from_raw(i32::try_from(child.id()).context("a process number")?);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        while signals.wait().is_ok() {
            // Gone already: then its end is being dealt with.
            let _ = kill(steps, Signal::SIGKILL);
        }
    })?;
    match child.wait()?.code() {
        Some(0) => Ok(ExitCode::SUCCESS),
        Some(_) => Ok(ExitCode::FAILURE),
        None => {
            eprintln!("\ncambric-demo: interrupted; taking the lab down");
            Lab::load(&args.lab)?.down()?;
            Ok(ExitCode::from(130))
        }
    }
}

fn run_steps(args: &Args) -> Result<ExitCode> {
    // The parent had them blocked; daemons in the lab would inherit that.
    ending_signals().thread_unblock().context("unblocking signals")?;
    let faults = run(args)?;
    if faults.is_empty() {
        println!("\nAll as it should be.");
        return Ok(ExitCode::SUCCESS);
    }
    println!("\nNot as it should be:");
    faults.iter().for_each(|fault| println!("  {fault}"));
    Ok(ExitCode::FAILURE)
}

fn run(args: &Args) -> Result<Vec<String>> {
    let own = std::env::current_exe().context("own path")?;
    let options = Options::new(own.with_file_name("cambric-lab"));
    let lab = Lab::load(&args.lab)?;
    demo::fits(&lab)?;
    lab.down()?; // what an earlier run left with KEEP=1
    let name = lab.topology().name.clone();
    headline(&format!("Bringing up {name}"));
    let start = Instant::now();
    let lab = lab.up_guarded(&options, &|step| println!("  {step}"))?;
    fabric::whole(&lab, RECOVERY)?;
    println!("  whole after {:.1} s", start.elapsed().as_secs_f64());
    let faults = demo::run(&lab)?;
    if args.keep {
        what_to_try(&args.lab, &own);
        lab.keep();
    } else {
        headline("Cleaning up");
        lab.down()?;
    }
    Ok(faults)
}

fn what_to_try(file: &Path, own: &Path) {
    let runner = own.with_file_name("cambric-lab");
    let (runner, file) = (runner.display(), file.display());
    headline("The lab stays up. What to type next:");
    println!("  {runner} exec {file} n11 -- cambric show protocols all");
    println!("  {runner} exec {file} n11 -- cambric show route for 10.244.22.1 all");
    println!("  {runner} exec {file} tor1a -- vtysh");
    println!("  {runner} pod exec {file} n11 n11-1 -- sh");
    println!("  {runner} down {file}");
}
