//! `make demo`: brings a lab up, shows it, breaks it, and says what was seen. Exit status 1 if anything
//! was not as it should be.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use cambric_lab::demo::{self, headline};
use cambric_lab::fabric::{self, RECOVERY};
use cambric_lab::{Lab, Options};
use clap::Parser;
use nix::sys::signal::{SigSet, Signal};

/// Shows Cambric on a lab of this machine.
#[derive(Parser)]
struct Args {
    /// Leave the lab up and say what to try.
    #[arg(long)]
    keep: bool,
    /// Folder or file of the lab.
    lab: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match clean_up_when_interrupted(&args.lab).and_then(|()| run(&args)) {
        Ok(faults) if faults.is_empty() => {
            println!("\nAll as it should be.");
            ExitCode::SUCCESS
        }
        Ok(faults) => {
            println!("\nNot as it should be:");
            faults.iter().for_each(|fault| println!("  {fault}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("cambric-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Blocks the signals that end a program, and takes the lab down when one comes. Children get an empty mask
/// from the standard library, so daemons in the lab are not touched by this.
fn clean_up_when_interrupted(lab: &Path) -> Result<()> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    signals.thread_block().context("blocking signals")?;
    let lab = Lab::load(lab)?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if let Ok(signal) = signals.wait() {
            eprintln!("\ncambric-demo: {signal}: taking the lab down");
            if let Err(error) = lab.down() {
                eprintln!("cambric-demo: {error:#}");
            }
            std::process::exit(130);
        }
    })?;
    Ok(())
}

fn run(args: &Args) -> Result<Vec<String>> {
    let own = std::env::current_exe().context("own path")?;
    let options = Options::new(own.with_file_name("cambric-lab"));
    let lab = Lab::load(&args.lab)?;
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
