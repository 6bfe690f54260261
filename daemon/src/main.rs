//! Reads the command line and runs the daemon.
#![forbid(unsafe_code)]

use anyhow::Context;
use cambricd::{args::Args, daemon};
use clap::Parser;
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let filter = EnvFilter::try_new(&args.log).with_context(|| format!("--log {}", args.log))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    // Two: while one makes system calls for many routes, the other goes on answering peers. Which task runs
    // on which is up to tokio.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let result = runtime.block_on(daemon::run(args));
    runtime.shutdown_background();
    result
}
