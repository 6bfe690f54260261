//! The real binary against a daemon that is played by the test.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use cambric_api::{
    Denial, FamilyCounts, LastError, PolicyDirection, PolicyPod, PolicyTable, Protocol, Reply, Request,
    Route, Status,
};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use tempfile::TempDir;

/// What the daemon does with a request.
enum Answer {
    Line(Vec<u8>),
    /// Keeps the connection and says nothing until the client goes.
    Silence,
}

/// A daemon for one connection. It hangs up after its answer.
struct Daemon {
    folder: TempDir,
    thread: JoinHandle<Request>,
}

impl Daemon {
    fn start(answer: Answer) -> Daemon {
        let folder = tempfile::tempdir().expect("a folder for the socket");
        let listener = UnixListener::bind(folder.path().join("sock")).expect("a socket in it");
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("the client");
            let mut line = String::new();
            let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
            reader.read_line(&mut line).expect("its request");
            match answer {
                // A client that leaves early is one of the cases.
                Answer::Line(bytes) => drop(stream.write_all(&bytes)),
                Answer::Silence => drop(reader.read_to_end(&mut Vec::new())),
            }
            serde_json::from_str(&line).expect("a request")
        });
        Daemon { folder, thread }
    }

    fn answering(reply: &Reply) -> Daemon {
        let mut line = serde_json::to_vec(reply).expect("a reply");
        line.push(b'\n');
        Daemon::start(Answer::Line(line))
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("sock")
    }

    fn request(self) -> Request {
        self.thread.join().expect("the daemon's thread")
    }
}

fn cambric(socket: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cambric"));
    command.arg("-s").arg(socket).args(words);
    command
}

/// Exit code, standard output, standard error.
fn run(socket: &Path, words: &[&str]) -> (i32, String, String) {
    outcome(cambric(socket, words).output().expect("cambric runs"))
}

fn outcome(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
}

fn peer() -> Protocol {
    let what = "received Cease: Administrative Shutdown (6/2) \"bye\\u{1b}[2J\x1b[2J\"".to_owned();
    Protocol {
        name: "tor1a".to_owned(),
        address: "10.0.1.1".to_owned(),
        asn: 65101,
        kind: "external".to_owned(),
        state: "Active".to_owned(),
        since_s: 192,
        last_error: Some(LastError { ago_s: 192, what }),
        families: vec![FamilyCounts { family: "ipv4".to_owned(), ..FamilyCounts::default() }],
        ..Protocol::default()
    }
}

#[test]
fn peers_are_shown_and_cannot_steer_the_terminal() {
    let daemon = Daemon::answering(&Reply::protocols(vec![peer()]));
    let (code, out, err) = run(&daemon.socket(), &["sh", "pr", "tor1a"]);
    let expected = "\
Name   Address      AS  State   Since  Received  Accepted  Refused  Sent  Last error
tor1a  10.0.1.1  65101  Active  3m12s         0         0        0     0  \
received Cease: Administrative Shutdown (6/2) \"bye\\u{1b}[2J\\u{1b}[2J\" (3m12s ago)
";
    assert_eq!((code, out.as_str(), err.as_str()), (0, expected, ""));
    assert_eq!(daemon.request(), Request::ShowProtocols { peer: Some("tor1a".to_owned()) });
}

#[test]
fn line_in_one_argument_is_understood_too() {
    let daemon = Daemon::answering(&Reply::status(Status { node: "node1".to_owned(), ..Status::default() }));
    let (code, out, _) = run(&daemon.socket(), &["show status"]);
    assert_eq!(code, 0);
    assert!(out.contains("Node:       node1\n"), "{out}");
    assert_eq!(daemon.request(), Request::ShowStatus);
}

#[test]
fn policies_of_a_pod_are_shown_and_cannot_steer_the_terminal() {
    let open = PolicyDirection { state: "open".to_owned(), ..PolicyDirection::default() };
    let closed = PolicyDirection {
        state: "closed".to_owned(),
        why: Some("no Pod object default/web\x1b[2J yet".to_owned()),
        ..PolicyDirection::default()
    };
    let denial =
        Denial { direction: "ingress".to_owned(), peer_address: "192.0.2.1".to_owned(), ..Denial::default() };
    let pod = PolicyPod {
        pod: Some("default/web".to_owned()),
        interface: "cama".to_owned(),
        ingress: closed,
        egress: open,
        denials: vec![denial],
        ..PolicyPod::default()
    };
    let daemon = Daemon::answering(&Reply::policy_pods(vec![pod]));
    let (code, out, err) = run(&daemon.socket(), &["show", "policy", "default/web"]);
    let expected = "\
Pod:            default/web
Interface:      cama
Addresses:      none
Ingress:        closed: no Pod object default/web\\u{1b}[2J yet
Egress:         open
Denied lately:  ingress from 192.0.2.1, , by no policy, for it was closed (0s ago)
";
    assert_eq!((code, out.as_str(), err.as_str()), (0, expected, ""));
    assert_eq!(daemon.request(), Request::ShowPolicy { pod: Some("default/web".to_owned()) });

    let daemon = Daemon::answering(&Reply::policy(PolicyTable::default()));
    let (code, out, _) = run(&daemon.socket(), &["-o", "json", "show", "policy"]);
    let document = "{\"code\":1024,\"policy\":{\"policies\":[],\"pods\":[],\"denied\":[],\"others\":{}}}\n";
    assert_eq!((code, out.as_str()), (0, document));
}

#[test]
fn json_is_one_line_when_nobody_watches() {
    let reply = Reply::routes(vec![Route { prefix: "10.244.1.0/24".to_owned(), paths: Vec::new() }]);
    let daemon = Daemon::answering(&reply);
    let (code, out, err) = run(&daemon.socket(), &["show", "route", "for", "10.244.1.7", "-o", "json"]);
    let expected = "{\"code\":1007,\"routes\":[{\"prefix\":\"10.244.1.0/24\",\"paths\":[]}]}\n";
    assert_eq!((code, out.as_str(), err.as_str()), (0, expected, ""));
    assert_eq!(daemon.request(), Request::ShowRoute { address: Some("10.244.1.7".to_owned()), prefix: None });
}

#[test]
fn error_of_the_daemon_is_exit_code_1() {
    let daemon = Daemon::answering(&Reply::no_such("peer", "tor9\x1b[2J", &[]));
    let (code, out, err) = run(&daemon.socket(), &["show", "protocols", "tor9"]);
    assert_eq!((code, out.as_str(), err.as_str()), (1, "", "cambric: no peer \"tor9\\u{1b}[2J\"\n"));

    let daemon = Daemon::answering(&Reply::no_such("peer", "tor9", &[]));
    let (code, out, err) = run(&daemon.socket(), &["-o", "json", "show", "protocols", "tor9"]);
    let document = "{\"code\":8003,\"error\":\"no peer \\\"tor9\\\"\"}\n";
    assert_eq!((code, out.as_str(), err.as_str()), (1, document, "cambric: no peer \"tor9\"\n"));
}

#[test]
fn route_that_does_not_exist_is_exit_code_1() {
    let words = ["show", "route", "for", "100.64.0.1"];
    let daemon = Daemon::answering(&Reply::no_route("100.64.0.1"));
    let (code, out, err) = run(&daemon.socket(), &words);
    assert_eq!((code, out.as_str(), err.as_str()), (1, "", "cambric: no route to 100.64.0.1\n"));

    let daemon = Daemon::answering(&Reply::no_route("100.64.0.1"));
    let (code, out, _) = run(&daemon.socket(), &[&["-o", "json"], words.as_slice()].concat());
    let document = "{\"code\":8001,\"note\":\"no route to 100.64.0.1\",\"routes\":[]}\n";
    assert_eq!((code, out.as_str()), (1, document));
}

#[test]
fn daemon_of_an_earlier_version_is_called_so() {
    let unknown = serde_json::from_str::<Request>(r#"{"verb":"dance"}"#).expect_err("no such verb");
    let daemon = Daemon::answering(&Reply::not_understood(unknown));
    let (code, _, err) = run(&daemon.socket(), &["show", "neighbors"]);
    let head =
        "cambric: the daemon is older than this cambric and does not know that: unknown variant `dance`";
    assert!(code == 1 && err.starts_with(head), "{code} {err}");
}

#[test]
fn daemon_of_a_later_version_is_named_when_it_is_not_understood() {
    let line = b"{\"code\":1099,\"version\":\"9.0.0\",\"tunnels\":[]}\n";
    let daemon = Daemon::start(Answer::Line(line.to_vec()));
    let (code, out, err) = run(&daemon.socket(), &["show", "neighbors"]);
    let head = format!(
        ": it is cambricd 9.0.0, and cambric {} does not understand its answer",
        cambric_api::VERSION
    );
    assert!((code, out.as_str()) == (3, "") && err.contains(&head), "{code} {err}");
    let line = b"{\"code\":1013,\"version\":\"9.0.0\",\"colour\":\"red\",\"neighbors\":[]}\n";
    let daemon = Daemon::start(Answer::Line(line.to_vec()));
    assert_eq!(run(&daemon.socket(), &["show", "neighbors"]).0, 0);
}

#[test]
fn wrong_words_are_exit_code_2_and_ask_nobody() {
    let nowhere = Path::new("/nonexistent/sock");
    let (code, out, err) = run(nowhere, &["show", "foo"]);
    let expected = "cambric: `foo` is unknown after `show`; possible there: \
        bgp, interfaces, monitoring, neighbors, policy, protocols, route, status\n";
    assert_eq!((code, out.as_str(), err.as_str()), (2, "", expected));
    assert!(run(nowhere, &["\x1b[2J"]).2.starts_with("cambric: `\\u{1b}[2J` is unknown"));
    assert_eq!(run(nowhere, &["show"]).0, 2);
    assert_eq!(run(nowhere, &["--colour"]).0, 2);
}

#[test]
fn help_needs_no_daemon() {
    let nowhere = Path::new("/nonexistent/sock");
    let (code, out, _) = run(nowhere, &["--help"]);
    assert_eq!(code, 0);
    assert!(out.contains("\n  show route [PREFIX | for ADDRESS] [all]  "), "{out}");
    for help in ["--help", "-h"] {
        let (_, out, _) = run(nowhere, &[help]);
        let wide: Vec<&str> = out.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(wide.is_empty(), "{wide:#?}");
    }
    let (code, out, _) = run(nowhere, &["sh", "st", "?"]);
    assert_eq!(code, 0);
    assert!(out.starts_with("show status  "), "{out}");
}

#[test]
fn absent_daemon_is_exit_code_3() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("sock");
    let hint = "; is cambricd running?\n";
    let (code, _, err) = run(&socket, &["show", "status"]);
    let head = format!("cambric: no answer from the daemon at {}: No such file", socket.display());
    assert!(code == 3 && err.starts_with(&head) && err.ends_with(hint), "{code} {err}");

    // A socket that a dead daemon left.
    drop(UnixListener::bind(&socket).expect("a socket"));
    let (code, _, err) = run(&socket, &["show", "status"]);
    assert!(code == 3 && err.contains("Connection refused") && err.ends_with(hint), "{code} {err}");
}

#[test]
fn rubbish_is_exit_code_3() {
    for rubbish in ["HTTP/1.1 400 Bad Request\r\n", "{}\n", "{\"code\":1000}\n", "\n", "\u{0}\u{1}\n"] {
        let daemon = Daemon::start(Answer::Line(rubbish.into()));
        let (code, out, err) = run(&daemon.socket(), &["show", "status"]);
        assert!(code == 3 && out.is_empty() && err.contains("is not understood"), "{rubbish}: {code} {err}");
    }
}

#[test]
fn daemon_that_hangs_up_is_exit_code_3() {
    for beginning in ["", "{\"code\":1000,\"sta"] {
        let daemon = Daemon::start(Answer::Line(beginning.into()));
        let (code, out, err) = run(&daemon.socket(), &["show", "status"]);
        assert!(code == 3 && out.is_empty() && err.contains("it hung up; its log says why"), "{code} {err}");
    }
}

/// Takes the ten seconds that a client waits.
#[test]
fn silent_daemon_is_exit_code_3() {
    let daemon = Daemon::start(Answer::Silence);
    let (code, out, err) = run(&daemon.socket(), &["show", "status"]);
    assert!(code == 3 && out.is_empty() && err.contains("was silent for 10 s"), "{code} {err}");
    assert_eq!(daemon.request(), Request::ShowStatus);
}

/// Takes the ten seconds that a client waits.
#[test]
fn daemon_that_accepts_nobody_is_exit_code_3() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sock");
    let listener = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
    let listener = listener.expect("a socket");
    bind(listener.as_raw_fd(), &UnixAddr::new(&path).expect("a short path")).expect("a folder");
    listen(&listener, Backlog::new(0).expect("a small queue")).expect("a socket");
    let _the_queue = UnixStream::connect(&path).expect("a place in the queue");
    let (code, out, err) = run(&path, &["show", "status"]);
    assert!(code == 3 && out.is_empty() && err.contains("it accepted nobody for 10 s"), "{code} {err}");
}

#[test]
fn reader_that_stops_early_is_no_error() {
    let route = Route { prefix: "10.244.1.0/24".to_owned(), paths: vec![cambric_api::Path::default()] };
    let daemon = Daemon::answering(&Reply::routes(vec![route; 10_000]));
    let mut child = cambric(&daemon.socket(), &["show", "route"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cambric runs");
    let mut first = String::new();
    BufReader::with_capacity(64, child.stdout.take().expect("piped")).read_line(&mut first).expect("a line");
    assert!(first.starts_with("Prefix"), "{first}");
    let (code, _, err) = outcome(child.wait_with_output().expect("cambric ends"));
    assert_eq!((code, err.as_str()), (0, ""));
}

#[test]
fn error_is_an_error_though_nobody_reads_the_answer() {
    let daemon = Daemon::answering(&Reply::no_such("peer", "tor9", &[]));
    let mut child = cambric(&daemon.socket(), &["-o", "json", "show", "protocols", "tor9"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cambric runs");
    drop(child.stdout.take());
    let (code, _, err) = outcome(child.wait_with_output().expect("cambric ends"));
    assert_eq!((code, err.as_str()), (1, "cambric: no peer \"tor9\"\n"));
}
