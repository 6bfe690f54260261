//! The question to the daemon, one line of JSON each way on its control socket: are the pod's rules in place?
//!
//! The daemon may be away, hang at any point, or be no cambricd at all: connecting, writing and reading take
//! [`LIMIT`] together, and every answer but one means no.

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::attachment::Attachment;
use crate::range::Addresses;

/// All the time there is: the daemon itself takes up to a second.
const LIMIT: Duration = Duration::from_millis(1100);
/// More than any answer has.
const MOST_ANSWER_BYTES: usize = 64 * 1024;
/// Code of the answer that says yes.
const PLACED: u64 = 24;

#[derive(Serialize)]
struct Question<'a> {
    verb: &'static str,
    /// Who asks: a daemon of another release can say so.
    version: &'static str,
    interface: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    addresses: Vec<IpAddr>,
}

#[derive(Deserialize)]
struct Answer {
    code: u64,
    /// Why not. Whatever else it may be.
    error: Option<Value>,
}

/// Asks; else tells why the pod's rules are not, or may not be, in place.
pub(super) fn ask(
    socket: &Path,
    attachment: &Attachment,
    ifname: &str,
    addresses: Addresses,
) -> Result<(), String> {
    let (namespace, name) = attachment.pod_name().unzip();
    let addresses = addresses.iter().collect();
    // Without a name nobody looks for it.
    let uid = attachment.uid.as_deref().filter(|_| name.is_some());
    let version = env!("CARGO_PKG_VERSION");
    let question = Question { verb: "place", version, interface: ifname, namespace, name, uid, addresses };
    let mut line = serde_json::to_vec(&question).map_err(|error| error.to_string())?;
    line.push(b'\n');
    let answer = exchange(socket, &line, Instant::now() + LIMIT).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("cambricd did not answer within {LIMIT:?}")
        }
        _ => format!("cannot ask cambricd on {}: {error}", socket.display()),
    })?;
    judge(&answer)
}

fn judge(line: &[u8]) -> Result<(), String> {
    let strange = |error: &dyn Display| format!("cambricd's answer is not understood: {error}");
    let answer: Answer = serde_json::from_slice(line).map_err(|error| strange(&error))?;
    match (answer.code, answer.error) {
        (PLACED, _) => Ok(()),
        (code, Some(Value::String(why))) => Err(format!("{why} ({code:04})")),
        (code, _) => Err(strange(&format!("code {code:04}"))),
    }
}

/// Sends a line and gives the line that comes back.
fn exchange(path: &Path, line: &[u8], until: Instant) -> io::Result<Vec<u8>> {
    let mut stream = connect(path, until)?;
    stream.set_write_timeout(Some(left(until)?))?;
    stream.write_all(line)?;
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        stream.set_read_timeout(Some(left(until)?))?;
        match stream.read(&mut piece) {
            Ok(0) => return Err(io::Error::other("it closed the connection")),
            Ok(length) => answer.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if let Some(end) = answer.iter().position(|byte| *byte == b'\n') {
            answer.truncate(end);
            return Ok(answer);
        }
        if answer.len() > MOST_ANSWER_BYTES {
            return Err(io::Error::other("its answer is too long"));
        }
    }
}

/// Connects; while the backlog of a hung daemon is full the kernel waits no longer than a send may take
/// (`unix_stream_connect`).
fn connect(path: &Path, until: Instant) -> io::Result<UnixStream> {
    let address = UnixAddr::new(path)?;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let most = TimeVal::microseconds(left(until)?.as_micros() as libc::suseconds_t);
    socket::setsockopt(&socket, sockopt::SendTimeout, &most)?;
    socket::connect(socket.as_raw_fd(), &address)?;
    Ok(socket.into())
}

/// What is left of the time; never zero, which would mean forever.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left < Duration::from_micros(1) { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_answer_means_yes() {
        assert_eq!(judge(br#"{"code":24,"placed":{}}"#), Ok(()));
        let refused = judge(br#"{"code":8010,"error":"no Pod object default/web-0 yet"}"#);
        assert_eq!(refused, Err("no Pod object default/web-0 yet (8010)".to_owned()));
        let strange: [&[u8]; 9] = [
            b"",
            b"{",
            b"24",
            b"{}",
            b"null",
            b"\xff\xfe",
            br#"{"code":"24"}"#,
            br#"{"code":-24}"#,
            br#"{"code":8010,"error":{"why":1}}"#,
        ];
        for answer in strange {
            assert!(judge(answer).is_err_and(|why| why.contains("not understood")), "{answer:?}");
        }
    }
}
