//! One TCP connection: a task that reads, a task that writes.

use std::io;
use std::time::Duration;

use cambric_bgp::ConnId;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::socket::in_words;

/// What connections tell the driver.
#[derive(Debug)]
pub(crate) enum FromWire {
    /// TCP is connected.
    Connected(ConnId, TcpStream),
    /// It is not, and why.
    ConnectFailed(ConnId, String),
    /// Octets came.
    Octets(ConnId, Vec<u8>),
    /// The last octets are out.
    Drained(ConnId),
    /// The connection ended, and why.
    Closed(ConnId, String),
}

/// The driver's end of a connection; dropping it closes without a word.
#[derive(Debug)]
pub(crate) struct Connection {
    tasks: Tasks,
    to_writer: mpsc::Sender<Vec<u8>>,
    /// The writer has octets in hand.
    pub(crate) writing: bool,
}

/// Both tasks of a connection; they end with this value.
#[derive(Debug)]
struct Tasks {
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
    }
}

/// Octets taken from a socket at once.
const READ_BYTES: usize = 64 * 1024;
/// How long a NOTIFICATION may take to go out before the connection is closed over it.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long the peer may then take to read it.
const LINGER: Duration = Duration::from_secs(1);

impl Connection {
    /// Starts both tasks.
    pub(crate) fn start(conn: ConnId, stream: TcpStream, events: &mpsc::Sender<FromWire>) -> Connection {
        // Best effort: without it a KEEPALIVE may wait for an acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(conn = conn.0, error = %error, "TCP_NODELAY is refused");
        }
        let (read_half, write_half) = stream.into_split();
        // One chunk at a time, and last words behind it.
        let (to_writer, chunks) = mpsc::channel(2);
        let tasks = Tasks {
            reader: tokio::spawn(read(conn, read_half, events.clone())),
            writer: tokio::spawn(write(conn, write_half, chunks, events.clone())),
        };
        Connection { tasks, to_writer, writing: false }
    }

    /// Hands octets to the writer; only while it has none.
    pub(crate) fn send(&mut self, octets: Vec<u8>) {
        // Full cannot be: `writing` keeps it to one chunk. Closed means that the reader reports the end.
        self.writing = self.to_writer.try_send(octets).is_ok();
    }

    /// Says `last_words`, then closes: at once if there are none, else as one of `closing`.
    ///
    /// The reader goes on meanwhile, its octets going nowhere: a socket closed over octets that nobody
    /// read sends a reset, which may overtake the words.
    pub(crate) fn close(self, last_words: Vec<u8>, closing: &mut JoinSet<()>) {
        let Connection { mut tasks, to_writer, .. } = self;
        // Room is left for exactly this; a writer that is gone needs no words.
        if !last_words.is_empty() && to_writer.try_send(last_words).is_ok() {
            drop(to_writer);
            closing.spawn(async move {
                if timeout(LAST_WORDS, &mut tasks.writer).await.is_ok() {
                    sleep(LINGER).await;
                }
            });
        }
    }
}

async fn read(conn: ConnId, half: OwnedReadHalf, events: mpsc::Sender<FromWire>) {
    loop {
        let event = match take(&half).await {
            Ok(octets) if octets.is_empty() => {
                FromWire::Closed(conn, "connection closed by the peer".to_owned())
            }
            Ok(octets) => FromWire::Octets(conn, octets),
            Err(error) => FromWire::Closed(conn, format!("connection lost: {}", in_words(error))),
        };
        let ends = matches!(event, FromWire::Closed(..));
        if events.send(event).await.is_err() || ends {
            return;
        }
    }
}

/// What there is to read; nothing, when there will be no more. Memory for it is taken when it has come: of hundreds of
/// peers most are silent.
async fn take(half: &OwnedReadHalf) -> io::Result<Vec<u8>> {
    loop {
        half.readable().await?;
        let mut octets = Vec::with_capacity(READ_BYTES);
        match half.try_read_buf(&mut octets) {
            Ok(_) => {
                octets.shrink_to_fit();
                return Ok(octets);
            }
            // It was a false alarm.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn write(
    conn: ConnId,
    mut half: OwnedWriteHalf,
    mut chunks: mpsc::Receiver<Vec<u8>>,
    events: mpsc::Sender<FromWire>,
) {
    while let Some(octets) = chunks.recv().await {
        let event = match half.write_all(&octets).await {
            Ok(()) => FromWire::Drained(conn),
            Err(error) => FromWire::Closed(conn, format!("connection lost: {}", in_words(error))),
        };
        let ends = matches!(event, FromWire::Closed(..));
        // The driver may be gone at a stop; then nobody needs to know.
        if events.send(event).await.is_err() || ends {
            return;
        }
    }
    // The peer may have closed already.
    drop(half.shutdown().await);
}
