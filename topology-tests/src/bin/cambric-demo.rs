//! `make demo`: brings a lab up, shows it, breaks it, and says what was seen. Exit status 1 if anything
//! was not as it should be.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result};
use cambric_lab::demo::{self, Hint, headline};
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
            let lab = Lab::load(&args.lab)?;
            lab.down()?;
            demo::tidy(&lab)?;
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
    demo::tidy(&lab)?;
    let name = lab.topology().name.clone();
    headline(&format!("Bringing up {name}"));
    let start = Instant::now();
    let lab = lab.up_guarded(&options, &|step| println!("  {step}"))?;
    fabric::whole(&lab, RECOVERY)?;
    println!("  whole after {:.1} s", start.elapsed().as_secs_f64());
    let faults = demo::run(&lab)?;
    if args.keep {
        say_what_to_try(&demo::what_to_try(&lab, &own.with_file_name("cambric-lab"), &args.lab)?);
        lab.keep();
    } else {
        headline("Cleaning up");
        lab.down()?;
    }
    Ok(faults)
}

/// Each command on a line of its own, so that it can be copied as it is.
fn say_what_to_try(hints: &[Hint]) {
    headline("The lab stays up. What to type next:");
    for Hint { command, why } in hints {
        println!("  # {why}\n  {command}");
    }
}
