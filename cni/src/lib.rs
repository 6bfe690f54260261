//! The CNI plugin of Cambric: one process per call, no daemon needed, no tokio.
//!
//! A container runtime executes the plugin with its wish in environment variables and the network configuration on
//! stdin, and reads a result or an error from stdout (CNI specification 1.1.0). One call goes through these files:
//!
//! ```text
//! environment + stdin -> request -> config, range, previous   (parsed once, then trusted)
//!                           |
//!                    add / del / check
//!                        /   |    |    \
//!                   lease  wire  gate  undo          (address from a table; links and routes by netlink; policy)
//!                     |       \  |
//!              lease/table  kernel, netlink, netns, sysctl
//!                           |
//!                   result or error -> stdout
//! ```
//!
//! Called by the name `loopback` it is another, smaller plugin: [`Role`], `loopback`.
//!
//! Served are ADD, DEL and VERSION for versions 0.3.1 to 1.1.0, and CHECK from 0.4.0. Not here: STATUS and GC (they
//! answer with an error), the rules of policy, masquerading, delegation to other plugins.
//!
//! Four parts are for the daemon: [`endpoints()`] tells which pods there are, [`host_routes`] puts pods' routes back
//! that were lost after ADD, [`gate::ready`] is the mark before which no pod starts, [`requests`] counts calls. And
//! [`cleanup`] is for who removes Cambric from a node, [`lock_file`] for whoever takes locks on it.
//!
//! What must be there before: the addresses in `nodeAddresses`, on any interface of the node ([`config`]), and for
//! pods with IPv6 its forwarding (`net.ipv6.conf.all.forwarding`); both are the daemon's part.
//!
//! What the plugin creates, and how it is known again without memory: host ends of veth pairs named `cam` + 12 hex
//! digits with the pod's identity in their alias ([`attachment`]), host routes of protocol 204, lease tables under
//! `/run/cambric/ipam` ([`lease`]), long names of pods under `/run/cambric/names`, their uids under
//! `/run/cambric/uids`, and members of the daemon's sets that name such a link.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

pub mod attachment;
pub mod cleanup;
pub mod config;
pub mod endpoints;
pub mod error;
pub mod gate;
pub mod host_routes;
pub mod lease;
pub mod lock_file;
pub mod previous;
pub mod range;
pub mod request;
pub mod requests;
pub mod result;
pub mod version;

mod add;
mod check;
mod del;
mod gateway;
mod kernel;
mod long_names;
mod loopback;
mod netlink;
mod netns;
mod sysctl;
mod uids;
mod undo;
mod wire;

pub use endpoints::endpoints;

use add::Added;
use error::CniError;
use request::Request;
use requests::{Command, Outcome};

/// Which plugin was called: one binary plays both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The pods' network.
    Pods,
    /// Brings `lo` up.
    Loopback,
}

impl Role {
    /// By the path that was executed, the first argument of a process. Only the file name `loopback` is another role.
    pub fn by_name(program: Option<&OsStr>) -> Role {
        match program.and_then(|program| Path::new(program).file_name()) {
            Some(name) if name == "loopback" => Role::Loopback,
            _ => Role::Pods,
        }
    }
}

/// Serves one call: reads the request, does it, prints the answer.
///
/// An error is printed on stdout as the specification's JSON object; stderr gets the about-line, and what should be
/// known about a pod that was let in all the same.
pub fn run(
    role: Role,
    variable: &dyn Fn(&str) -> Option<String>,
    stdin: impl Read,
    mut stdout: impl Write,
    mut stderr: impl Write,
) -> ExitCode {
    let served = match role {
        Role::Pods => serve_counted(variable, stdin),
        Role::Loopback => loopback::serve(variable, stdin),
    };
    let answer = match served {
        Ok(Answer::About) => {
            return exit_code(writeln!(stderr, "{}", version::about()).is_ok());
        }
        Ok(Answer::Silence) => return ExitCode::SUCCESS,
        Ok(Answer::Json(json)) => Ok(json),
        Ok(Answer::Added(Added { result, warning })) => {
            if let Some(warning) = warning {
                // Nobody may listen; the pod is attached.
                let _ = writeln!(stderr, "cambric-cni: {warning}");
            }
            Ok(result)
        }
        Err(error) => Err(error.to_json()),
    };
    let (Ok(json) | Err(json)) = &answer;
    // Made whole first: a line-buffered stdout would wake the runtime for every line.
    let text = format!("{json:#}\n");
    let printed = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    exit_code(answer.is_ok() && printed.is_ok())
}

fn serve_counted(variable: &dyn Fn(&str) -> Option<String>, stdin: impl Read) -> Result<Answer, CniError> {
    let begun = Instant::now();
    let request = request::read(variable, stdin);
    let counted = Counted::of(&request, variable);
    let served = request.and_then(serve);
    if let Some(counted) = counted {
        let outcome = Outcome::of(served.as_ref().err().map(|error| error.code));
        requests::count(&counted.run_dir, counted.command, outcome, begun.elapsed());
    }
    served
}

/// What of a call is needed to count it.
struct Counted {
    command: Command,
    run_dir: PathBuf,
}

impl Counted {
    /// A call that could not be read is counted in the usual folder, where that is.
    fn of(request: &Result<Request, CniError>, variable: &dyn Fn(&str) -> Option<String>) -> Option<Counted> {
        let counted = |command, run_dir: &Path| Some(Counted { command, run_dir: run_dir.to_owned() });
        match request {
            Ok(Request::About | Request::Version) => None,
            Ok(Request::Add(add)) => counted(Command::Add, &add.network.run_dir),
            Ok(Request::Del(del)) => counted(Command::Del, &del.network.run_dir),
            Ok(Request::Check(check)) => counted(Command::Check, &check.add.network.run_dir),
            Err(_) => {
                let usual = Path::new(config::DEFAULT_RUN_DIR);
                let command = Command::named(&variable("CNI_COMMAND")?)?;
                requests::has_folder(usual).then(|| counted(command, usual)).flatten()
            }
        }
    }
}

/// What a served request prints.
enum Answer {
    About,
    Silence,
    Json(serde_json::Value),
    Added(Added),
}

fn serve(request: Request) -> Result<Answer, CniError> {
    match request {
        Request::About => Ok(Answer::About),
        Request::Version => Ok(Answer::Json(version::answer())),
        Request::Add(add) => {
            add::add(&add).map(Answer::Added).map_err(|error| error.in_version(add.network.version))
        }
        Request::Del(del) => {
            del::del(&del).map(|()| Answer::Silence).map_err(|error| error.in_version(del.network.version))
        }
        Request::Check(check) => {
            let version = check.add.network.version;
            check::check(&check).map(|()| Answer::Silence).map_err(|error| error.in_version(version))
        }
    }
}

fn exit_code(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
