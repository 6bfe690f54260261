//! The prompt on a terminal (a pseudo terminal, and the test is who sits before it), and lines from a pipe.

mod played;

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use cambric_api::Request;
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use played::Played;

const LIMIT: Duration = Duration::from_secs(20);
const PROMPT: &str = "cambric> ";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const UP: &str = "\x1b[A";
const TAB: &str = "\t";

/// A folder for the socket and the home of who sits there.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Desk {
        Desk { folder: tempfile::tempdir().expect("a folder") }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("sock")
    }

    fn daemon(&self, run: &'static str) -> Played {
        Played::start(&self.socket(), run)
    }

    fn history(&self) -> PathBuf {
        self.folder.path().join(".local/state/cambric/history")
    }

    fn cambric(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cambric"));
        command.arg("-s").arg(self.socket()).env("HOME", self.folder.path()).env("TERM", "xterm");
        command.env_remove("XDG_STATE_HOME");
        command
    }

    /// A terminal whose first prompt is there.
    fn terminal(&self) -> Terminal {
        let mut terminal = Terminal::start(self.cambric());
        terminal.expect(PROMPT);
        terminal
    }
}

/// A terminal with `cambric` in it.
struct Terminal {
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    /// What was shown and not yet expected.
    shown: String,
    child: Child,
}

impl Terminal {
    fn start(mut command: Command) -> Terminal {
        let size = Winsize { ws_row: 50, ws_col: 150, ws_xpixel: 0, ws_ypixel: 0 };
        let ends = openpty(Some(&size), None).expect("a pseudo terminal");
        let slave = File::from(ends.slave);
        let second = || Stdio::from(slave.try_clone().expect("a second handle"));
        command.stdin(second()).stdout(second()).stderr(second());
        let child = command.spawn().expect("cambric runs");
        // Only the child holds the other end from here on, so that its end is seen.
        drop((command, slave));
        let keyboard = File::from(ends.master);
        let mut master = keyboard.try_clone().expect("a second handle");
        let (shows, screen) = mpsc::channel();
        thread::spawn(move || {
            let mut octets = [0; 4096];
            loop {
                match master.read(&mut octets) {
                    Ok(count) if count > 0 => drop(shows.send(octets[..count].to_vec())),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    // Linux tells the end of a pseudo terminal as EIO.
                    _ => return,
                }
            }
        });
        Terminal { keyboard, screen, shown: String::new(), child }
    }

    fn type_in(&mut self, keys: &str) {
        self.send(keys.as_bytes());
    }

    fn send(&mut self, octets: &[u8]) {
        self.keyboard.write_all(octets).expect("a terminal");
    }

    /// What the kernel makes of Ctrl-C while no line is typed.
    fn interrupt(&self) {
        let pid = i32::try_from(self.child.id()).expect("a process number");
        kill(Pid::from_raw(pid), Signal::SIGINT).expect("it runs");
    }

    /// A line and Enter; what is shown until the next prompt.
    fn line(&mut self, line: &str) -> String {
        self.type_in(line);
        self.type_in("\r");
        // Behind the echo of the line itself.
        self.expect("\n");
        self.expect(PROMPT)
    }

    /// Waits until `text` is shown, and gives what was shown before it.
    fn expect(&mut self, text: &str) -> String {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(at) = self.shown.find(text) {
                let before = self.shown[..at].to_owned();
                self.shown.drain(..at + text.len());
                return before;
            }
            match self.screen.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(octets) => self.shown.push_str(&String::from_utf8_lossy(&octets)),
                Err(RecvTimeoutError::Timeout) => panic!("{text:?} is not shown, but {:?}", self.shown),
                Err(RecvTimeoutError::Disconnected) => panic!("{text:?} before the end: {:?}", self.shown),
            }
        }
    }

    /// The exit code, once it has ended.
    fn exit_code(mut self) -> i32 {
        let until = Instant::now() + LIMIT;
        loop {
            match self.screen.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("cambric does not end"),
            }
        }
        self.child.wait().expect("a child").code().expect("no signal")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended, as it should.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What was asked but for greetings.
fn asked(daemon: &Played) -> Vec<Request> {
    let requests = daemon.requests().into_iter();
    requests.filter(|request| *request != Request::ShowStatus).collect()
}

#[test]
fn prompt_greets_answers_and_ends() {
    let desk = Desk::new();
    let daemon = desk.daemon("1");
    let mut terminal = Terminal::start(desk.cambric());
    let greeting = terminal.expect(PROMPT);
    assert!(greeting.contains("connected to cambricd 0.1.0 of node node1; ?"), "{greeting:?}");
    let shown = terminal.line("sh ro count");
    assert!(shown.contains("4711"), "{shown:?}");
    let shown = terminal.line("show route");
    assert!(shown.contains("10.244.1.0/24") && shown.contains("10.244.2.0/24"), "{shown:?}");
    let shown = terminal.line("disable tor1a");
    assert!(shown.contains("tor1a (10.0.1.1): disabled"), "{shown:?}");
    terminal.line("");
    let all = [
        Request::ShowRouteCount,
        Request::ShowRoute { address: None, prefix: None },
        Request::Disable { peer: "tor1a".to_owned() },
    ];
    assert_eq!(asked(&daemon), all);
    terminal.type_in("quit\r");
    assert_eq!(terminal.exit_code(), 0);

    for leave in ["exit\r", CTRL_D] {
        let mut terminal = desk.terminal();
        terminal.type_in(leave);
        assert_eq!(terminal.exit_code(), 0, "{leave:?}");
    }
}

#[test]
fn errors_keep_the_prompt() {
    let desk = Desk::new();
    let _daemon = desk.daemon("1");
    let mut terminal = desk.terminal();
    let shown = terminal.line("dance");
    assert!(shown.contains("cambric: `dance` is unknown; possible there: configure, "), "{shown:?}");
    let shown = terminal.line("show protocols nobody");
    assert!(shown.contains("cambric: no peer \"nobody\"; there is tor1a, tor1b"), "{shown:?}");
    assert!(terminal.line("sh ro c").contains("4711"));
}

#[test]
fn tab_completes_keywords_and_names_of_the_daemon() {
    let desk = Desk::new();
    let daemon = desk.daemon("1");
    let mut terminal = desk.terminal();
    terminal.type_in(&format!("sh{TAB}ro{TAB}exp{TAB}to{TAB}"));
    let listed = terminal.expect("tor1b");
    assert!(listed.contains("tor1a"), "{listed:?}");
    terminal.expect(&format!("{PROMPT}show route export tor1"));
    terminal.line(&format!("b{TAB}"));
    assert_eq!(asked(&daemon).last(), Some(&Request::ShowRouteExport { peer: "tor1b".to_owned() }));

    terminal.line(&format!("show in{TAB}e{TAB}"));
    assert_eq!(asked(&daemon).last(), Some(&Request::ShowInterfaces { interface: Some("eth1".to_owned()) }));

    for (typed, pod) in [("def", "default/web-0"), ("cam", "cam0123456789ab")] {
        terminal.line(&format!("show po{TAB}{typed}{TAB}"));
        assert_eq!(asked(&daemon).last(), Some(&Request::ShowPolicy { pod: Some(pod.to_owned()) }));
    }

    // What would steer the terminal, or be two words, is not offered.
    terminal.type_in(&format!("disable {TAB}{TAB}"));
    let listed = terminal.expect("tor1b");
    assert!(
        !listed.contains("all") && !listed.contains("bad") && !listed.contains("two words"),
        "{listed:?}"
    );
}

/// No peer begins with `a`, and still nobody meant all of them.
#[test]
fn all_is_completed_from_nothing_less() {
    let desk = Desk::new();
    let daemon = desk.daemon("1");
    let mut terminal = desk.terminal();
    let shown = terminal.line(&format!("disable a{TAB}"));
    assert!(!shown.contains("all"), "{shown:?}");
    let disable = |peer: &str| Request::Disable { peer: peer.to_owned() };
    assert_eq!(asked(&daemon).last(), Some(&disable("a")));
    terminal.line(&format!("disable all{TAB}"));
    assert_eq!(asked(&daemon).last(), Some(&disable("all")));
    terminal.type_in("disable ?");
    terminal.expect("PEER|all: tor1a tor1b all");
}

#[test]
fn path_with_a_space_is_taken_as_it_is_completed() {
    let desk = Desk::new();
    let daemon = desk.daemon("1");
    fs::create_dir_all(desk.folder.path().join("new rules/two")).expect("a folder");
    let mut terminal = desk.terminal();
    let home = desk.folder.path().display().to_string();
    for typed in [home.as_str(), &format!("\"{home}"), &format!("'{home}"), "~"] {
        terminal.line(&format!("configure check {typed}/new{TAB}tw{TAB}"));
        let path = Some(format!("{home}/new rules/two/"));
        assert_eq!(asked(&daemon).last(), Some(&Request::ConfigureCheck { path }), "{typed}");
    }
    terminal.line("configure check ~/new\\ rules");
    let path = Some(format!("{home}/new rules"));
    assert_eq!(asked(&daemon).last(), Some(&Request::ConfigureCheck { path }));
}

#[test]
fn path_is_completed_from_the_file_system() {
    let desk = Desk::new();
    let daemon = desk.daemon("1");
    let folder = desk.folder.path().join("new-manifests");
    fs::create_dir(&folder).expect("a folder");
    let mut terminal = desk.terminal();
    terminal.line(&format!("conf{TAB}ch{TAB}{}/new{TAB}", desk.folder.path().display()));
    let path = Some(format!("{}/", folder.display()));
    assert_eq!(asked(&daemon).last(), Some(&Request::ConfigureCheck { path }));
}

#[test]
fn question_mark_shows_at_once_what_can_follow_and_keeps_the_line() {
    let desk = Desk::new();
    let daemon = desk.daemon("1");
    let mut terminal = desk.terminal();
    terminal.type_in("show ro?");
    terminal.expect("show route export PEER [all]");
    terminal.expect("show route count");
    terminal.expect(&format!("{PROMPT}show ro"));
    terminal.line("ute count");
    assert_eq!(asked(&daemon), [Request::ShowRouteCount]);

    terminal.type_in("show route import ?");
    terminal.expect("PEER: tor1a tor1b");
    terminal.expect(&format!("{PROMPT}show route import "));
    terminal.line("tor1a");
    assert_eq!(asked(&daemon).last(), Some(&Request::ShowRouteImport { peer: "tor1a".to_owned() }));

    terminal.type_in("show foo?");
    terminal.expect("`foo` is unknown after `show`");
    terminal.expect(&format!("{PROMPT}show foo"));
}

#[test]
fn interrupt_clears_the_line() {
    let desk = Desk::new();
    let daemon = desk.daemon("1");
    let mut terminal = desk.terminal();
    terminal.type_in(&format!("show foo{CTRL_C}"));
    terminal.expect("\n");
    terminal.expect(PROMPT);
    assert!(terminal.line("show route count").contains("4711"));
    assert_eq!(asked(&daemon), [Request::ShowRouteCount]);
}

#[test]
fn interrupt_ends_an_answer_and_not_the_prompt() {
    let desk = Desk::new();
    let daemon = desk.daemon("1");
    let mut terminal = desk.terminal();
    terminal.type_in("show route refused\r");
    wait_until("the question", || asked(&daemon).contains(&Request::ShowRouteRefused { peer: None }));
    terminal.interrupt();
    terminal.expect("interrupted");
    terminal.expect(PROMPT);
    // The answer that is not wanted any more is not taken for that of the next line.
    assert!(terminal.line("show route count").contains("4711"));
}

#[test]
fn interrupt_ends_all_pasted_lines() {
    let desk = Desk::new();
    let daemon = desk.daemon("1");
    let mut terminal = desk.terminal();
    let before = asked(&daemon).len();
    terminal.type_in("\x1b[200~show route refused\ndisable tor1a\ndisable tor1b\x1b[201~\r");
    wait_until("the question", || asked(&daemon).contains(&Request::ShowRouteRefused { peer: None }));
    terminal.interrupt();
    terminal.expect("lines not done: 2");
    terminal.expect(PROMPT);
    assert_eq!(asked(&daemon)[before..], [Request::ShowRouteRefused { peer: None }]);
    // It is forgotten by the next line.
    terminal.type_in("\x1b[200~show route count\nshow protocols tor1a\x1b[201~\r");
    terminal.expect("4711");
    terminal.expect("tor1b");
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < until, "{what} does not come");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn pasted_lines_are_all_done() {
    let desk = Desk::new();
    let daemon = desk.daemon("1");
    let peer = Request::ShowProtocols { peer: Some("tor1a".to_owned()) };
    for paste in [
        "show route count\rshow protocols tor1a\r",
        "\x1b[200~show route count\n\nshow protocols tor1a\x1b[201~\r",
        "\x1b[200~show route count\rshow protocols tor1a\r\x1b[201~\r",
    ] {
        let before = asked(&daemon).len();
        let mut terminal = desk.terminal();
        terminal.type_in(paste);
        terminal.expect("4711");
        terminal.expect("tor1b");
        assert_eq!(asked(&daemon)[before..], [Request::ShowRouteCount, peer.clone()], "{paste:?}");
    }
}

#[test]
fn octet_of_another_encoding_costs_its_line_only() {
    let desk = Desk::new();
    let daemon = desk.daemon("1");
    let mut terminal = desk.terminal();
    for _ in 0..2 {
        terminal.send(b"show g\xfc");
        terminal.expect("what was typed is no UTF-8; the line is dropped");
        terminal.expect(PROMPT);
    }
    assert!(terminal.line("show route count").contains("4711"));
    assert_eq!(asked(&daemon), [Request::ShowRouteCount]);
    // A line that hums all night does not fill the log of the terminal.
    for _ in 0..20 {
        terminal.send(b"\xff");
        terminal.expect("no UTF-8");
        terminal.expect(PROMPT);
    }
    terminal.send(b"\xff");
    assert_eq!(terminal.exit_code(), 1);
}

#[test]
fn comment_is_one_at_the_prompt_too() {
    let desk = Desk::new();
    let daemon = desk.daemon("1");
    let mut terminal = desk.terminal();
    let shown = terminal.line("# tor1a is serviced tonight");
    assert!(!shown.contains("cambric:"), "{shown:?}");
    assert_eq!(asked(&daemon), []);
}

#[test]
fn history_outlives_the_prompt() {
    let desk = Desk::new();
    let daemon = desk.daemon("1");
    let mut terminal = desk.terminal();
    terminal.line("show route count");
    terminal.line("dance");
    terminal.type_in("quit\r");
    assert_eq!(terminal.exit_code(), 0);

    let mode = fs::metadata(desk.history()).expect("a history").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let mut terminal = desk.terminal();
    let shown = terminal.line(&format!("{UP}{UP}{UP}"));
    assert!(shown.contains("4711"), "{shown:?}");
    assert_eq!(asked(&daemon), [Request::ShowRouteCount, Request::ShowRouteCount]);
}

#[test]
fn prompt_needs_no_home() {
    let desk = Desk::new();
    let _daemon = desk.daemon("1");
    let file = desk.folder.path().join("file");
    fs::write(&file, "").expect("a folder");
    for home in [None, Some(&file)] {
        let mut command = desk.cambric();
        command.env_remove("HOME");
        command.envs(home.map(|home| ("HOME", home)));
        let mut terminal = Terminal::start(command);
        terminal.expect(PROMPT);
        let shown = terminal.line("show route count");
        assert!(shown.contains("4711"), "{shown:?}");
        assert_eq!(shown.contains("history is not kept"), home.is_some(), "{shown:?}");
        // It is said once.
        let shown = terminal.line("show route count");
        assert!(shown.contains("4711") && !shown.contains("history"), "{shown:?}");
    }
}

/// Without line editing it is still a prompt.
#[test]
fn terminal_that_knows_nothing_is_enough() {
    let desk = Desk::new();
    let daemon = desk.daemon("1");
    let mut command = desk.cambric();
    command.env("TERM", "dumb");
    let mut terminal = Terminal::start(command);
    terminal.expect(PROMPT);
    terminal.type_in("show ro?\n");
    terminal.expect("show route export PEER [all]");
    terminal.expect(PROMPT);
    terminal.type_in("show route count\n");
    terminal.expect("4711");
    assert_eq!(asked(&daemon), [Request::ShowRouteCount]);
}

#[test]
fn prompt_waits_for_a_daemon_that_is_away_and_tells_a_restart() {
    let desk = Desk::new();
    let mut terminal = Terminal::start(desk.cambric());
    let greeting = terminal.expect(PROMPT);
    assert!(greeting.contains("no answer from the daemon") && greeting.contains("is cambricd running?"));
    assert!(terminal.line("show route count").contains("no answer from the daemon"));

    let first = desk.daemon("first");
    let shown = terminal.line("show route count");
    assert!(
        shown.contains("connected to cambricd 0.1.0 of node node1") && shown.contains("4711"),
        "{shown:?}"
    );

    drop(first);
    let shown = terminal.line("show route count");
    assert!(shown.contains("no answer from the daemon") && !shown.contains("4711"), "{shown:?}");

    let _second = desk.daemon("second");
    let shown = terminal.line("show route count");
    let restarted = "cambricd 0.1.0 of node node1 was restarted; connected again";
    assert!(shown.contains(restarted) && shown.contains("4711"), "{shown:?}");
    let shown = terminal.line("show route count");
    assert!(shown.contains("4711") && !shown.contains("restarted"), "{shown:?}");
}

#[test]
fn restart_between_two_lines_is_told_too() {
    let desk = Desk::new();
    let first = desk.daemon("first");
    let mut terminal = desk.terminal();
    drop(first);
    let _second = desk.daemon("second");
    // Completion connects again, and leaves it to the next line to say so.
    terminal.type_in(&format!("show protocols tor1a{TAB}{CTRL_C}"));
    terminal.expect("\n");
    terminal.expect(PROMPT);
    let shown = terminal.line("show route count");
    assert!(shown.contains("was restarted; connected again") && shown.contains("4711"), "{shown:?}");
}

#[test]
fn daemon_that_hung_up_on_a_silent_prompt_is_asked_again_without_a_word() {
    let desk = Desk::new();
    let daemon = desk.daemon("1");
    let mut terminal = desk.terminal();
    daemon.hang_up();
    let shown = terminal.line("disable tor1a");
    assert!(
        shown.contains("disabled") && !shown.contains("connected") && !shown.contains("cambric:"),
        "{shown:?}"
    );
    assert_eq!(asked(&daemon), [Request::Disable { peer: "tor1a".to_owned() }]);
}

/// Exit code, standard output, standard error of `cambric` with these lines in its standard input.
fn piped(desk: &Desk, lines: impl AsRef<[u8]>) -> (i32, String, String) {
    let mut command = desk.cambric();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("cambric runs");
    child.stdin.take().expect("piped").write_all(lines.as_ref()).expect("it reads");
    let output = child.wait_with_output().expect("cambric ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
}

#[test]
fn lines_from_a_pipe_are_done_without_prompt_and_the_worst_counts() {
    let desk = Desk::new();
    let daemon = desk.daemon("1");
    let (code, out, err) = piped(&desk, "show route count\n");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("Family  Prefixes"), "{out}");
    assert_eq!(daemon.requests(), [Request::ShowRouteCount]);

    let lines = "# peers first\n\nshow protocols nobody\n  dance\nshow route count";
    let (code, out, err) = piped(&desk, lines);
    assert_eq!(code, 2, "{err}");
    assert!(out.contains("4711") && err.contains("nobody") && err.contains("dance"), "{out}{err}");

    assert_eq!(piped(&desk, "show protocols nobody\nshow status\n").0, 1);
    let (code, out, _) = piped(&desk, "quit\nshow route count\n");
    assert_eq!((code, out.as_str()), (0, ""));
    assert_eq!(piped(&desk, "").0, 0);

    drop(daemon);
    assert_eq!(piped(&desk, "dance\nshow status\n").0, 3);
}

#[test]
fn piped_line_that_is_no_text_does_not_end_the_others() {
    let desk = Desk::new();
    let _daemon = desk.daemon("1");
    let (code, out, err) = piped(&desk, b"show g\xfcnther\nshow route count\r\n");
    assert_eq!(code, 2, "{err}");
    assert!(out.contains("4711") && err.contains("`g\u{fffd}nther` is unknown"), "{out}{err}");
}

#[test]
fn pipe_whose_reader_has_gone_ends_quietly() {
    let desk = Desk::new();
    let _daemon = desk.daemon("1");
    let mut command = desk.cambric();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("cambric runs");
    drop(child.stdout.take());
    // It ends although there would be more to read.
    let mut lines = child.stdin.take().expect("piped");
    lines.write_all(b"show route count\n").expect("it reads");
    let output = child.wait_with_output().expect("cambric ends");
    drop(lines);
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));
}
