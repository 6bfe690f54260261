//! `cambric`: asks the daemon of this node and prints what it says, in the manner of birdc.
//!
//! Lines come from the command line, from a pipe or from the [`prompt`]; [`session`] does them. The words
//! go through [`command`] (one grammar table) and become a request; [`client`] sends it over the control
//! socket; [`render`] turns the reply into aligned text, or prints it as JSON. Nothing is computed here
//! that the daemon knows better: every number and every cause comes from the reply.
//!
//! Exit codes: 0 done, 1 the daemon answered with an error, 2 the words make no command, 3 the daemon
//! did not answer; of several lines the highest. A prompt ends with 0.
//!
//! A few things are done on the node itself, daemon or not: [`local`].
#![forbid(unsafe_code)]

mod cleanup;
mod client;
mod command;
mod dump;
mod history;
mod install;
mod interrupt;
mod local;
mod prompt;
mod render;
mod session;
mod table;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use cambric_api::DEFAULT_SOCKET;
use clap::Parser;

use crate::local::Local;
use crate::session::{Next, Output, Session};

/// Shows what the Cambric daemon of this node knows: peers, routes, and why.
///
/// Without a command: a prompt on a terminal, line by line from a pipe.
#[derive(Debug, Parser)]
#[command(name = "cambric", version, next_line_help = true, after_help = command::help(), after_long_help = command::help())]
#[command(
    disable_help_subcommand = true,
    subcommand_help_heading = "On this node",
    override_usage = "cambric [OPTIONS] [COMMAND]...\n       cambric [OPTIONS] install|cleanup ..."
)]
struct Cli {
    /// Control socket of cambricd.
    #[arg(short, long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Text for people, or the daemon's reply as JSON.
    #[arg(short, long, value_enum, value_name = "text|json", hide_possible_values = true, default_value_t = Output::Text, global = true)]
    output: Output,
    /// What to do; each word may be shortened while it stays unique.
    #[arg(value_name = "COMMAND")]
    words: Vec<String>,
    #[command(subcommand)]
    local: Option<Local>,
}

fn main() -> ExitCode {
    let Cli { socket, output, words, local } = Cli::parse();
    let outcome = if let Some(local) = local {
        local.run(output)
    } else if !words.is_empty() {
        let (Next::Line(outcome) | Next::End(outcome)) = Session::new(socket, output).run_words(&words);
        outcome
    } else if io::stdin().is_terminal() && io::stdout().is_terminal() {
        prompt::run(socket, output)
    } else {
        Session::new(socket, output).run_all(io::stdin().lock())
    };
    ExitCode::from(outcome.exit_code())
}
