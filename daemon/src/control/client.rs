//! One client of the control socket: its requests, one after the other, and the answers.

use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cambric_api::{Reply, Request, VERSION};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::words::escaped;
use super::{Fault, Seats, answer};
use crate::state::Shared;

/// Requests are short; a client that sends more is no client of ours.
const MOST_REQUEST_BYTES: usize = 64 * 1024;
/// A client that asks nothing, or takes no answer, for this long is hung up on: it has the place of another.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks whether a client waits for its answer still.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Who asks, for the log: what ended a session may have to be explained the next morning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operator {
    uid: u32,
    pid: Option<i32>,
}

impl Operator {
    /// Root, or the user that the daemon runs as; nobody else is answered.
    pub(super) fn of(stream: &UnixStream) -> Option<Operator> {
        let peer = stream.peer_cred().ok()?;
        let is_allowed = peer.uid() == 0 || peer.uid() == geteuid().as_raw();
        is_allowed.then(|| Operator { uid: peer.uid(), pid: peer.pid() })
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}", self.uid)?;
        self.pid.map_or(Ok(()), |pid| write!(f, ", pid {pid}"))
    }
}

/// The place of a client. One that asks nothing has to give it to another when all are taken.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// While it asks nothing.
    idle_since: Mutex<Option<Instant>>,
    wanted_back: Notify,
}

impl Place {
    /// Since when its client asks nothing; `None` while it is answered.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has its client hung up on, as soon as no answer is under way.
    pub(super) fn take_back(&self) {
        self.set_idle_since(None);
        self.wanted_back.notify_one();
    }

    pub(super) fn set_idle_since(&self, since: Option<Instant>) {
        *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

/// An answer as it goes over the line.
#[derive(Serialize)]
struct Told<'a> {
    version: &'static str,
    #[serde(flatten)]
    reply: &'a Reply,
}

/// What of a request can be known that is not understood.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Unknown {
    verb: Option<String>,
    /// The release that asks; absent from clients of the first one.
    version: Option<String>,
}

/// The way back to a client.
pub(super) struct Replies<'a>(pub(super) &'a mut OwnedWriteHalf);

impl Replies<'_> {
    pub(super) async fn send(&mut self, reply: &Reply) -> io::Result<()> {
        let mut text = serde_json::to_vec(&Told { version: VERSION, reply })?;
        text.push(b'\n');
        timeout(PATIENCE, self.0.write_all(&text)).await?
    }
}

/// Answers until the client leaves, is silent for too long, or has to give its place to another.
///
/// # Errors
/// The socket's.
pub(super) async fn serve(
    stream: UnixStream,
    operator: Operator,
    place: &Place,
    seats: &Seats,
    shared: &Shared,
) -> io::Result<()> {
    let (read_half, mut write_half) = stream.into_split();
    let mut lines = BufReader::new(read_half);
    let mut replies = Replies(&mut write_half);
    loop {
        place.set_idle_since(Some(Instant::now()));
        let line = tokio::select! {
            line = timeout(PATIENCE, read_line(&mut lines)) => line??,
            () = place.wanted_back.notified() => return Ok(()),
        };
        place.set_idle_since(None);
        let Some(line) = line else { return Ok(()) };
        let request = match understood(&line) {
            Ok(request) => request,
            Err(reply) => {
                replies.send(&reply).await?;
                continue;
            }
        };
        let _seat = match seats.take(&request) {
            Ok(seat) => seat,
            Err(reply) => {
                replies.send(&reply).await?;
                continue;
            }
        };
        let reply = tokio::select! {
            answer = answer::answer(request, operator, shared, &mut replies) => match answer {
                Ok(reply) => reply,
                Err(Fault::Gone(gone)) => Reply::unavailable(gone),
                Err(Fault::Answer(answer)) => *answer,
                Err(Fault::Client(error)) => return Err(error),
            },
            () = has_left(lines.get_ref()) => return Ok(()),
        };
        replies.send(&reply).await?;
    }
}

/// What is asked for in a line.
///
/// # Errors
/// The answer to what is no request.
pub fn understood(line: &[u8]) -> Result<Request, Box<Reply>> {
    serde_json::from_slice(line).map_err(|error| Box::new(not_understood(line, &error)))
}

/// What is wrong with a request, and whose it is: of another release more often than wrong.
fn not_understood(line: &[u8], error: &serde_json::Error) -> Reply {
    let Unknown { verb, version } = serde_json::from_slice(line).unwrap_or_default();
    let asked_by =
        version.map_or_else(String::new, |version| format!(", asked by release {}", escaped(&version)));
    let error = error.to_string();
    // In the words of serde, whose type is no part of its interface, and which repeat what was sent.
    match verb.filter(|verb| error.starts_with(&format!("unknown variant `{verb}`"))) {
        Some(verb) => {
            Reply::not_understood(format!("cambricd {VERSION} does not know `{}`{asked_by}", escaped(&verb)))
        }
        None => {
            let error = escaped(&error);
            Reply::not_understood(format!("cambricd {VERSION} does not understand{asked_by}: {error}"))
        }
    }
}

/// Waits until nobody is left to take an answer. One that has only said its last word waits for it.
async fn has_left(stream: &OwnedReadHalf) {
    loop {
        sleep(LOOK_INTERVAL).await;
        let ready = stream.as_ref().ready(Interest::WRITABLE).await;
        if ready.is_ok_and(|ready| ready.is_write_closed()) {
            return;
        }
    }
}

/// `None` at the end; an error for a line that is too long.
async fn read_line(lines: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let available = lines.fill_buf().await?;
        if available.is_empty() {
            return Ok(None);
        }
        let end = available.iter().position(|&octet| octet == b'\n');
        let count = end.map_or(available.len(), |at| at + 1);
        line.extend_from_slice(&available[..count]);
        lines.consume(count);
        if end.is_some() {
            return Ok(Some(line));
        }
        if line.len() > MOST_REQUEST_BYTES {
            return Err(io::Error::other("request line is too long"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;

    use super::*;

    async fn is_over(left: impl Future<Output = ()>) -> bool {
        timeout(LOOK_INTERVAL * 4, left).await.is_ok()
    }

    #[tokio::test]
    async fn client_that_closed_its_socket_has_left_and_one_that_said_its_last_word_has_not() {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let (reading, _writing) = ours.into_split();
        assert!(!is_over(has_left(&reading)).await, "it has done nothing yet");
        let theirs = theirs.into_std().expect("a socket");
        theirs.shutdown(Shutdown::Write).expect("a socket");
        assert!(!is_over(has_left(&reading)).await, "it waits for its answer");
        drop(theirs);
        assert!(is_over(has_left(&reading)).await, "it is gone");
    }

    #[test]
    fn a_request_that_is_not_understood_is_told_with_both_releases() {
        let why = |line: &str| {
            let error = serde_json::from_str::<Request>(line).expect_err("not known");
            let reply = not_understood(line.as_bytes(), &error);
            let cambric_api::Body::Error(why) = reply.body else { panic!("{reply:?}") };
            (reply.code, why.replace(VERSION, "x.y.z"))
        };
        let later = r#"{"verb":"dance","version":"9.0.0","how":{"fast":true}}"#;
        let known = "cambricd x.y.z does not know `dance`, asked by release 9.0.0";
        assert_eq!(why(later), (9001, known.to_owned()));
        let first = "cambricd x.y.z does not know `dance`";
        assert_eq!(why(r#"{"verb":"dance"}"#), (9001, first.to_owned()));
        let (code, other) = why(r#"{"verb":"disable","version":"9.0.0"}"#);
        let head = "cambricd x.y.z does not understand, asked by release 9.0.0: missing field `peer`";
        assert!(code == 9001 && other.starts_with(head), "{other}");
        let (_, of_a_known_verb) = why(r#"{"verb":"drain","what":"everything"}"#);
        let head = "cambricd x.y.z does not understand: unknown variant `everything`";
        assert!(of_a_known_verb.starts_with(head), "{of_a_known_verb}");
        for nonsense in ["", "{", "[]", "null", "7", r#"{"verb":7}"#, r#"{"verb":"dance","version":[]}"#] {
            assert_eq!(why(nonsense).0, 9001, "{nonsense}");
        }
    }

    #[test]
    fn what_was_sent_cannot_steer_the_terminal_of_who_reads_the_answer() {
        for line in [&b"{\"verb\":\"show\x7f\",\"for\":\xB9}"[..], b"{\"verb\":\"show\\u001b[2J\"}"] {
            let reply = understood(line).expect_err("not known");
            let cambric_api::Body::Error(why) = reply.body else { panic!("{reply:?}") };
            assert!(!why.chars().any(char::is_control), "{why:?}");
        }
    }

    #[tokio::test]
    async fn operator_is_known_by_his_socket() {
        let (ours, _theirs) = UnixStream::pair().expect("a pair of sockets");
        let operator = Operator::of(&ours).expect("ourselves");
        assert_eq!(operator.uid, geteuid().as_raw());
        assert_eq!(operator.pid, i32::try_from(std::process::id()).ok());
        let text = Operator { uid: 0, pid: Some(7) }.to_string();
        assert_eq!(text, "uid 0, pid 7");
    }
}
