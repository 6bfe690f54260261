//! Asks over HTTP from inside a node, as its kubelet and a Prometheus there do.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::Node;
use crate::exposition::Exposition;
use crate::place::{Place, in_netns};

/// Nobody takes longer to say the next thing.
const LIMIT: Duration = Duration::from_secs(60);

/// How long a probe waits: the longest `timeoutSeconds` of the DaemonSet's.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// The whole answer to a GET, with its head.
///
/// # Errors
/// Nobody listens, or says nothing.
pub fn get(node: &Node, port: u16, path: &str) -> Result<String> {
    ask(node, port, &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"))
}

/// The whole answer to what need be no request: the daemon closes behind it.
///
/// # Errors
/// As [`get`].
pub fn ask(node: &Node, port: u16, request: &str) -> Result<String> {
    ask_at(node, (Ipv4Addr::LOCALHOST, port).into(), request, LIMIT)
}

/// Whether a probe succeeds, as kubelet judges it: by a status from 200 to 399.
pub fn succeeds(from: &dyn Place, at: SocketAddr, path: &str) -> bool {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n");
    let answer = ask_at(from, at, &request, PROBE_LIMIT).unwrap_or_default();
    let status = answer.split(' ').nth(1).and_then(|word| word.parse::<u16>().ok());
    status.is_some_and(|status| (200..400).contains(&status))
}

fn ask_at(from: &dyn Place, at: SocketAddr, request: &str, limit: Duration) -> Result<String> {
    let answer = in_netns(from, || {
        let mut stream = TcpStream::connect_timeout(&at, limit)?;
        stream.set_read_timeout(Some(limit))?;
        // It may have been refused before it was said.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        loop {
            match stream.read(&mut piece) {
                Ok(0) => return Ok(answer),
                Ok(count) => answer.extend_from_slice(&piece[..count]),
                // The daemon does not read what it does not want, and resets: what it had to say has come.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !answer.is_empty() => {
                    return Ok(answer);
                }
                Err(error) => return Err(error),
            }
        }
    })?;
    let answer = answer.with_context(|| format!("asking {at} on {}", from.name()))?;
    Ok(String::from_utf8(answer)?)
}

/// The metrics of a daemon, read strictly.
///
/// # Errors
/// As [`get`], and the first line that is none.
pub fn metrics(node: &Node, port: u16) -> Result<Exposition> {
    let answer = get(node, port, "/metrics")?;
    let (_, text) = answer.split_once("\r\n\r\n").context("no body")?;
    Exposition::read(text)
}
