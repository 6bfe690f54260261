//! Reads the command line and runs the daemon.

mod heap;

use anyhow::Context;
use cambricd::{args::Args, daemon, log};
use clap::Parser;

fn main() -> anyhow::Result<()> {
    heap::keep_small();
    let args = Args::parse();
    let log = log::start(&args.log, args.log_format)?;
    // Two: while one makes system calls for many routes, the other goes on answering peers. Which task runs
    // on which is up to tokio.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let result = runtime.block_on(daemon::run(args, log));
    runtime.shutdown_background();
    result
}
