//! One connection to the daemon: a request out, its reply in, however many pieces that has.

use std::io::{self, BufRead, BufReader, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cambric_api::{LineError, Reply, Request, read_line, write_line};
use thiserror::Error;

/// Silence on the socket after which the daemon counts as hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no reply.
#[derive(Debug, Error)]
#[error("no answer from the daemon at {}: {fault}", socket.display())]
pub(crate) struct ClientError {
    socket: PathBuf,
    fault: Fault,
}

#[derive(Debug, Error)]
enum Fault {
    /// Nobody listens there, or not for us.
    #[error("{0}; {hint}", hint = hint(.0))]
    Unreachable(io::Error),
    /// It took the connection and then nothing came.
    #[error("it was silent for {} s; it hangs or is overloaded", PATIENCE.as_secs())]
    Silent,
    /// It closed the connection.
    #[error("it hung up; its log says why")]
    HungUp,
    /// It is not cambricd, or of another age.
    #[error("{0}; is it cambricd, and as new as this cambric?")]
    Rubbish(LineError),
}

impl From<LineError> for Fault {
    fn from(error: LineError) -> Fault {
        match error {
            LineError::Closed => Fault::HungUp,
            LineError::Io(cause) => match cause.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Fault::Silent,
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Fault::HungUp,
                _ => Fault::Unreachable(cause),
            },
            LineError::Json(_) | LineError::TooLong => Fault::Rubbish(error),
        }
    }
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
        let socket = socket.to_owned();
        match open(&socket) {
            Ok(stream) => Ok(Client { socket, stream: BufReader::new(stream) }),
            Err(cause) => Err(ClientError { socket, fault: Fault::Unreachable(cause) }),
        }
    }

    /// The connection, if it can be asked still. A daemon hangs up on a client that asks nothing for half a
    /// minute, and it is better to know before something is asked that is not to be asked twice.
    pub(crate) fn if_alive(mut self) -> Option<Client> {
        self.stream.get_ref().set_nonblocking(true).ok()?;
        let is_silent = matches!(self.stream.fill_buf(), Err(error) if error.kind() == ErrorKind::WouldBlock);
        self.stream.get_ref().set_nonblocking(false).ok()?;
        is_silent.then_some(self)
    }

    /// The answer, if it comes piece after piece within `patience` each. After an error the connection is of
    /// no use: an answer may still come.
    pub(crate) fn ask(&mut self, request: &Request, patience: Duration) -> Result<Reply, ClientError> {
        self.exchange(request, patience).map_err(|fault| ClientError { socket: self.socket.clone(), fault })
    }

    /// A daemon that turns us away may answer and hang up before it has read the request; so its answer
    /// is looked for even when the request could not be written.
    fn exchange(&mut self, request: &Request, patience: Duration) -> Result<Reply, Fault> {
        self.stream.get_ref().set_read_timeout(Some(patience)).map_err(Fault::Unreachable)?;
        let mut reply: Reply = match write_line(self.stream.get_mut(), request).map_err(Fault::from) {
            Ok(()) | Err(Fault::HungUp) => read_line(&mut self.stream)?,
            Err(fault) => return Err(fault),
        };
        while reply.more {
            if let Err(other) = reply.append(read_line(&mut self.stream)?) {
                return Ok(*other);
            }
        }
        Ok(reply)
    }
}

fn open(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}
