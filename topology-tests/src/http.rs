//! Asks a daemon's HTTP ports from inside its node, as the node's kubelet and a Prometheus there do.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::Node;
use crate::exposition::Exposition;

/// Nobody takes longer to say the next thing.
const LIMIT: Duration = Duration::from_secs(60);

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
    let answer = node.in_netns(|| {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(LIMIT))?;
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
    Ok(String::from_utf8(answer?)?)
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
