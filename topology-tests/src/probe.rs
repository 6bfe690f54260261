//! Asks over HTTP as kubelet does for its probes: one GET, from the network of the node.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::place::{Place, in_netns};

/// How long an answer may take: the longest `timeoutSeconds` of the DaemonSet's probes.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The status of the answer to one GET; for kubelet 200 to 399 is success.
///
/// # Errors
/// When no answer comes within five seconds.
pub fn get(from: &dyn Place, at: SocketAddr, path: &str) -> Result<u16> {
    let context = || format!("GET http://{at}{path} on {}", from.name());
    let head = in_netns(from, || ask(at, path))?.with_context(context)?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    status.with_context(|| format!("{}: {head:?}", context()))
}

/// Whether a probe succeeds.
pub fn succeeds(from: &dyn Place, at: SocketAddr, path: &str) -> bool {
    get(from, at, path).is_ok_and(|status| (200..400).contains(&status))
}

/// Returns the first line at least.
fn ask(at: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&at, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n")?;
    let mut answer = [0; 512];
    let length = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}
