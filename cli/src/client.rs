//! One connection to the daemon: a request out, its reply in.

use std::io::{self, BufReader, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cambric_api::{LineError, Reply, Request, read_line, write_line};
use thiserror::Error;

/// Silence on the socket after which the daemon counts as hung.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no reply.
#[derive(Debug, Error)]
pub(crate) enum ClientError {
    /// Nobody listens there, or not for us.
    #[error("cannot reach the daemon at {}: {cause}; {}", socket.display(), hint(cause))]
    Unreachable { socket: PathBuf, cause: io::Error },
    /// It took the connection and then nothing came.
    #[error("the daemon at {} was silent for {} s: it hangs or is overloaded", socket.display(), PATIENCE.as_secs())]
    Silent { socket: PathBuf },
    /// It closed the connection.
    #[error("the daemon at {} hung up without an answer; its log says why", socket.display())]
    HungUp { socket: PathBuf },
    /// It is not cambricd, or of another age.
    #[error("the daemon at {} gave an answer that is not understood ({cause}); is it cambricd, and as new as this cambric?", socket.display())]
    Rubbish { socket: PathBuf, cause: LineError },
}

fn hint(cause: &io::Error) -> &'static str {
    match cause.kind() {
        ErrorKind::PermissionDenied => "only root may ask it",
        _ => "is cambricd running?",
    }
}

/// A connection to the daemon.
#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    pub(crate) fn connect(socket: &Path) -> Result<Client, ClientError> {
        let connect = || {
            let stream = UnixStream::connect(socket)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(BufReader::new(stream))
        };
        let socket = socket.to_owned();
        match connect() {
            Ok(stream) => Ok(Client { socket, stream }),
            Err(cause) => Err(ClientError::Unreachable { socket, cause }),
        }
    }

    /// A daemon that turns us away may answer and hang up before it has read the request; so its answer
    /// is looked for even when the request could not be written.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<Reply, ClientError> {
        match write_line(self.stream.get_mut(), request).map_err(|error| self.why(error)) {
            Ok(()) | Err(ClientError::HungUp { .. }) => {}
            Err(error) => return Err(error),
        }
        read_line(&mut self.stream).map_err(|error| self.why(error))
    }

    fn why(&self, error: LineError) -> ClientError {
        let socket = self.socket.clone();
        match error {
            LineError::Closed => ClientError::HungUp { socket },
            LineError::Io(cause) => match cause.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => ClientError::Silent { socket },
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => ClientError::HungUp { socket },
                _ => ClientError::Unreachable { socket, cause },
            },
            LineError::Json(_) | LineError::TooLong => ClientError::Rubbish { socket, cause: error },
        }
    }
}
