//! The control socket: JSON lines, root only.

mod answer;
mod disabled;
mod links;
mod peers;
mod routes;
mod status;
mod words;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use cambric_api::{Reply, Request};
use cambric_speaker::Gone;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

pub use self::disabled::Disabled;
use crate::state::Shared;

/// File name in the run-time folder.
pub const SOCKET_NAME: &str = "cambricd.sock";
/// Requests are short; a client that sends more is no client of ours.
const MOST_REQUEST_BYTES: usize = 64 * 1024;
/// Clients served at once; further ones wait in the kernel's queue.
const MOST_CLIENTS: usize = 32;
/// A client that asks nothing, or takes no answer, for this long is hung up on: it has the place of another.
const PATIENCE: Duration = Duration::from_secs(30);
/// Accepting fails for want of files or memory, and goes on failing for a while.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens and serves. The socket is made under another name and moved, so that it is never seen with
/// wider permissions than 0600.
///
/// # Errors
/// The folder's.
pub fn start(run_dir: &Path, shared: Shared) -> io::Result<JoinHandle<()>> {
    let path = run_dir.join(SOCKET_NAME);
    let temporary = run_dir.join(format!(".{SOCKET_NAME}.tmp"));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&temporary)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))?;
    fs::rename(&temporary, &path)?;
    Ok(tokio::spawn(serve(listener, shared)))
}

async fn serve(listener: UnixListener, shared: Shared) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if clients.len() < MOST_CLIENTS => match accepted {
                Ok((stream, _)) if is_allowed(&stream) => {
                    let shared = shared.clone();
                    clients.spawn(async move {
                        if let Err(error) = serve_client(stream, &shared).await {
                            tracing::debug!(error = %error, "control client is gone");
                        }
                    });
                }
                Ok(_) => tracing::warn!("control client of another user is refused"),
                Err(error) => {
                    tracing::warn!(error = %error, "control socket: accept failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = clients.join_next() => {}
        }
    }
}

/// Root, or the user that the daemon runs as.
fn is_allowed(stream: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}

/// Why there is no answer.
#[derive(Debug, Error)]
enum Fault {
    /// Nobody can give it.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// Nobody is called so; the answer says who may have been meant.
    #[error("there is nothing of that name")]
    NoSuch(Box<Reply>),
    /// Nobody takes it.
    #[error(transparent)]
    Client(#[from] io::Error),
}

/// The way back to a client.
struct Replies<'a>(&'a mut OwnedWriteHalf);

impl Replies<'_> {
    async fn send(&mut self, reply: &Reply) -> io::Result<()> {
        let mut text = serde_json::to_vec(reply)?;
        text.push(b'\n');
        timeout(PATIENCE, self.0.write_all(&text)).await?
    }
}

async fn serve_client(stream: UnixStream, shared: &Shared) -> io::Result<()> {
    let (read_half, mut write_half) = stream.into_split();
    let mut lines = BufReader::new(read_half);
    let mut replies = Replies(&mut write_half);
    loop {
        let Some(line) = timeout(PATIENCE, read_line(&mut lines)).await?? else { return Ok(()) };
        let reply = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => match answer::answer(request, shared, &mut replies).await {
                Ok(reply) => reply,
                Err(Fault::Gone(gone)) => Reply::unavailable(gone),
                Err(Fault::NoSuch(answer)) => *answer,
                Err(Fault::Client(error)) => return Err(error),
            },
            Err(error) => Reply::not_understood(error),
        };
        replies.send(&reply).await?;
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
