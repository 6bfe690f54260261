//! `cambric`: asks the daemon of this node and prints what it says, in the manner of birdc.
//!
//! The words typed go through [`command`] (one grammar table) and become a request; [`client`] sends it
//! over the control socket; [`render`] turns the reply into aligned text, or prints it as JSON. Nothing
//! is computed here that the daemon knows better: every number and every cause comes from the reply.
//!
//! Exit codes: 0 done, 1 the daemon answered with an error, 2 the words make no command, 3 the daemon
//! did not answer.
#![forbid(unsafe_code)]

mod client;
mod command;
mod render;
mod table;

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use cambric_api::{Body, DEFAULT_SOCKET};
use clap::{Parser, ValueEnum};

use crate::client::Client;
use crate::command::Line;
use crate::render::Layout;

const FAILED: u8 = 1;
const MISUSED: u8 = 2;
const UNREACHABLE: u8 = 3;

/// Shows what the Cambric daemon of this node knows: its peers, its routes, and why.
#[derive(Debug, Parser)]
#[command(name = "cambric", version, arg_required_else_help = true, after_help = command::help())]
struct Cli {
    /// Control socket of cambricd.
    #[arg(short, long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Text for people, or the daemon's reply as JSON.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    output: Output,
    /// What to do; each word may be shortened while it stays unique.
    #[arg(value_name = "COMMAND")]
    words: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let command = match command::parse(&cli.words.join(" ")) {
        Ok(Line::Command(command)) => command,
        Ok(Line::Help(text)) => return print(&text),
        Err(error) => return complain(error, MISUSED),
    };
    let reply = match Client::connect(&cli.socket).and_then(|mut client| client.ask(&command.request)) {
        Ok(reply) => reply,
        Err(error) => return complain(error, UNREACHABLE),
    };
    let printed = match cli.output {
        Output::Json => print(&render::json(&reply, Layout::for_terminal(io::stdout().is_terminal()))),
        Output::Text => print(&render::text(&reply.body, command.detail)),
    };
    match &reply.body {
        Body::Error(why) => complain(why, FAILED),
        _ => printed,
    }
}

/// Whoever reads our output may stop early (`| head`): that is no error.
fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(format_args!("cannot print: {error}"), FAILED)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// What is wrong may be told in words of a peer or of whoever sits on the socket, so they are escaped.
fn complain(what: impl Display, code: u8) -> ExitCode {
    // Without a standard error there is nobody left to tell; the exit code still says it.
    let _ = writeln!(io::stderr(), "cambric: {}", table::printable(&what.to_string()));
    ExitCode::from(code)
}
