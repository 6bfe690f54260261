//! Lines in, answers out: what a call, a script and the prompt have in common.
//!
//! The connection is made when it is needed, and made again when it was lost.

use std::fmt::Display;
use std::io::{self, BufRead, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use cambric_api::{Body, Reply, Request};

use crate::client::{Client, ClientError, PATIENCE};
use crate::command::{self, Command, CommandError, Detail, Line};
use crate::dump::Dumped;
use crate::interrupt::Interrupt;
use crate::render::{self, Layout};
use crate::table;

/// How long a key may be waited for.
const KEY_PATIENCE: Duration = Duration::from_secs(1);

/// Printed before it is asked whether the operator has seen enough.
const PIECE_BYTES: usize = 4096;

/// How a line ended; the worst is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Done,
    /// The daemon answered with an error, or the answer could not be printed.
    Failed,
    /// The words make no command.
    Misused,
    /// The daemon did not answer.
    Unreachable,
}

impl Outcome {
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Outcome::Done => 0,
            Outcome::Failed => 1,
            Outcome::Misused => 2,
            Outcome::Unreachable => 3,
        }
    }
}

/// What follows a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Line(Outcome),
    /// Nothing: the operator leaves, or nobody reads what we print (`| head`), which is no error.
    End(Outcome),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

#[derive(Debug)]
pub(crate) struct Session {
    socket: PathBuf,
    output: Output,
    client: Option<Client>,
    /// The daemon's run that was spoken with last; `None` unless that is followed.
    run: Option<Run>,
    /// Ends an answer; without it a signal ends all of us.
    interrupt: Option<Rc<Interrupt>>,
}

/// Which daemon the operator believes to speak with.
#[derive(Debug, PartialEq, Eq)]
enum Run {
    NotSeen,
    Seen(String),
    /// The connection is another one since.
    ToBeSeen(String),
}

impl Session {
    pub(crate) fn new(socket: PathBuf, output: Output) -> Session {
        Session { socket, output, client: None, run: None, interrupt: None }
    }

    /// From now on Ctrl-C ends no more than the answer that is awaited or printed.
    pub(crate) fn outlive(&mut self, interrupt: Interrupt) {
        self.interrupt = Some(Rc::new(interrupt));
    }

    /// Tells from now on with whom we speak, and when that is another one than before.
    pub(crate) fn greet(&mut self) {
        self.run = Some(Run::NotSeen);
        if let Err(error) = self.see_run() {
            complain(error, Outcome::Unreachable);
        }
    }

    /// All lines of a file or pipe. Gives the worst outcome. A line with octets that are no UTF-8 is none that
    /// anybody understands, and the next one may be.
    pub(crate) fn run_all(&mut self, lines: impl BufRead) -> Outcome {
        let mut worst = Outcome::Done;
        for octets in lines.split(b'\n') {
            let octets = match octets {
                Ok(octets) => octets,
                Err(error) => {
                    return worst.max(complain(format_args!("cannot read: {error}"), Outcome::Failed));
                }
            };
            match self.run(&String::from_utf8_lossy(&octets)) {
                Next::Line(outcome) => worst = worst.max(outcome),
                Next::End(outcome) => return worst.max(outcome),
            }
        }
        worst
    }

    /// Does what a line says: nothing, if it is blank or a `# comment`.
    pub(crate) fn run(&mut self, line: &str) -> Next {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            return Next::Line(Outcome::Done);
        }
        self.obey(command::parse(line))
    }

    /// What Ctrl-C ended up to now is over.
    pub(crate) fn forget_interrupt(&self) {
        if let Some(interrupt) = &self.interrupt {
            interrupt.forget();
        }
    }

    /// Whether Ctrl-C came since it was forgotten: in a line or between two.
    pub(crate) fn was_interrupted(&self) -> bool {
        self.interrupt.as_ref().is_some_and(|interrupt| interrupt.came_since_forgotten())
    }

    /// Does what the words of a shell say.
    pub(crate) fn run_words(&mut self, words: &[String]) -> Next {
        self.obey(command::parse_words(words))
    }

    fn obey(&mut self, line: Result<Line, CommandError>) -> Next {
        match line {
            Ok(Line::Command(command)) => self.ask(&command),
            Ok(Line::Dump(file)) => self.dump(&file),
            Ok(Line::Help(text)) => print(&text),
            Ok(Line::Quit) => Next::End(Outcome::Done),
            Err(error) => Next::Line(complain(error, Outcome::Misused)),
        }
    }

    fn ask(&mut self, command: &Command) -> Next {
        match self.see_run().and_then(|()| self.exchange(&command.request, PATIENCE)) {
            Ok(reply) => self.show(&reply, command),
            Err(error) => Next::Line(complain(error, Outcome::Unreachable)),
        }
    }

    /// The daemon's tables into a file.
    fn dump(&mut self, file: &Path) -> Next {
        let mut dumped = match Dumped::begin(file) {
            Ok(dumped) => dumped,
            Err(error) => return Next::Line(complain(error, Outcome::Failed)),
        };
        let asked = self.see_run().and_then(|()| {
            let mut client = self.connect()?;
            let last = client.ask_for_pieces(&Request::MrtDump, PATIENCE, |piece| dumped.take(piece))?;
            // What was not taken is still to come on this connection.
            self.client = Some(client).filter(|_| !last.more);
            Ok(last)
        });
        let last = match asked {
            Ok(last) => last,
            Err(error) => return Next::Line(complain(error, Outcome::Unreachable)),
        };
        let Body::Dump(_) = &last.body else {
            return self.show(&last, &Command { request: Request::MrtDump, detail: Detail::Brief });
        };
        match dumped.end(last) {
            Ok(Some((words, last))) => match self.output {
                Output::Text => self.print(&words),
                Output::Json => {
                    self.print(&render::json(&last, Layout::for_terminal(io::stdout().is_terminal())))
                }
            },
            Ok(None) => Next::Line(Outcome::Done),
            Err(error) => Next::Line(complain(error, Outcome::Failed)),
        }
    }

    fn show(&self, reply: &Reply, command: &Command) -> Next {
        let printed = match self.output {
            Output::Json => {
                self.print(&render::json(reply, Layout::for_terminal(io::stdout().is_terminal())))
            }
            Output::Text => self.print(&render::text(reply, command.detail)),
        };
        let outcome = match &reply.body {
            Body::Error(why) if is_older(reply.code, why) => {
                let what =
                    format_args!("the daemon is older than this cambric and does not know that: {why}");
                complain(what, Outcome::Failed)
            }
            Body::Error(why) => complain(why, Outcome::Failed),
            // The note is why the listing is empty.
            Body::Routes(_) if reply.is_error() => {
                complain(reply.note.as_deref().unwrap_or("no routes"), Outcome::Failed)
            }
            _ if reply.is_error() => Outcome::Failed,
            _ => Outcome::Done,
        };
        match printed {
            Next::Line(printed) => Next::Line(outcome.max(printed)),
            Next::End(_) => Next::End(outcome),
        }
    }

    /// A long answer may be interrupted between two pieces of it.
    fn print(&self, text: &str) -> Next {
        let Some(interrupt) = &self.interrupt else { return print(text) };
        let mut rest = text;
        while !rest.is_empty() {
            if interrupt.came() {
                return Next::Line(complain("interrupted", Outcome::Failed));
            }
            let (piece, behind) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES));
            let printed = print(piece);
            if printed != Next::Line(Outcome::Done) {
                return printed;
            }
            rest = behind;
        }
        Next::Line(Outcome::Done)
    }

    /// What the daemon has to name in a place of the grammar; nothing if it does not answer at once.
    pub(crate) fn names(&mut self, place: &str) -> Vec<String> {
        let request = match place {
            "PEER" | "PEER|all" => Request::ShowProtocols { peer: None },
            "INTERFACE" => Request::ShowInterfaces { interface: None },
            "POD" => Request::ShowPolicy { pod: None },
            _ => return Vec::new(),
        };
        let Ok(reply) = self.exchange(&request, KEY_PATIENCE) else { return Vec::new() };
        let mut names: Vec<String> = match reply.body {
            Body::Protocols(peers) => peers.into_iter().map(|peer| peer.name).collect(),
            Body::Interfaces(links) => links.into_iter().map(|link| link.name).collect(),
            Body::Policy(table) => {
                table.pods.into_iter().map(|pod| pod.pod.unwrap_or(pod.interface)).collect()
            }
            _ => Vec::new(),
        };
        names.retain(|name| can_be_typed(name));
        names.sort();
        names.dedup();
        names
    }

    /// Tells the operator if he speaks with another daemon than he believes.
    fn see_run(&mut self) -> Result<(), ClientError> {
        self.client = Some(self.connect()?);
        if !matches!(self.run, Some(Run::NotSeen | Run::ToBeSeen(_))) {
            return Ok(());
        }
        let reply = self.exchange(&Request::ShowStatus, PATIENCE)?;
        let Body::Status(status) = reply.body else { return Ok(()) };
        let introduction = format!("cambricd {} of node {}", status.version, status.node);
        match &self.run {
            Some(Run::ToBeSeen(before)) if *before == status.run => {}
            Some(Run::ToBeSeen(_)) => tell(&format!("{introduction} was restarted; connected again")),
            _ => tell(&format!("connected to {introduction}; ? shows what can be typed")),
        }
        self.run = Some(Run::Seen(status.run));
        Ok(())
    }

    /// After an error the connection is lost, and the next exchange makes another one.
    fn exchange(&mut self, request: &Request, patience: Duration) -> Result<Reply, ClientError> {
        let mut client = self.connect()?;
        let reply = client.ask(request, patience)?;
        self.client = Some(client);
        Ok(reply)
    }

    /// The connection: the one that is there, or a new one.
    fn connect(&mut self) -> Result<Client, ClientError> {
        if let Some(client) = self.client.take().and_then(Client::if_alive) {
            return Ok(client);
        }
        self.run = match self.run.take() {
            Some(Run::Seen(run)) => Some(Run::ToBeSeen(run)),
            other => other,
        };
        Client::connect(&self.socket, self.interrupt.clone())
    }
}

/// What a daemon of the first release says to a verb that came after it, in the words of its JSON reader. Later ones say
/// by themselves of which release they are.
fn is_older(code: u16, why: &str) -> bool {
    code == 9001 && why.starts_with("unknown variant")
}

/// As one word, as it is, and without steering the terminal.
fn can_be_typed(name: &str) -> bool {
    let is_odd = |character: char| {
        character.is_whitespace() || "'\"\\~?#".contains(character) || table::steers_terminal(character)
    };
    !name.is_empty() && !name.contains(is_odd)
}

/// For the operator at the prompt; it is no part of an answer.
pub(crate) fn tell(what: &str) {
    print(&format!("{}\n", table::printable(what)));
}

pub(crate) fn print(text: &str) -> Next {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Next::Line(Outcome::Done),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Next::End(Outcome::Done),
        Err(error) => Next::Line(complain(format_args!("cannot print: {error}"), Outcome::Failed)),
    }
}

/// What is wrong may be told in words of a peer or of whoever sits on the socket, so they are escaped.
pub(crate) fn complain(what: impl Display, outcome: Outcome) -> Outcome {
    // Without a standard error there is nobody left to tell; the exit code still says it.
    let _ = writeln!(io::stderr(), "cambric: {}", table::printable(&what.to_string()));
    outcome
}
