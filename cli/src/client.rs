//! One connection to the daemon: a request out, its reply in, however many pieces that has.

use std::io::{self, BufReader, ErrorKind, Read};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cambric_api::{Asked, LineError, Reply, Request, VERSION, read_line, write_line};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use thiserror::Error;

use crate::interrupt::Interrupt;

/// Silence on the socket after which the daemon counts as hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Between two tries to get into the queue of a daemon that accepts nobody.
const QUEUE_PAUSE: Duration = Duration::from_millis(100);

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
    /// Somebody listens and accepts nobody.
    #[error("it accepted nobody for {} s; it hangs or is overloaded", PATIENCE.as_secs())]
    Full,
    /// It took the connection and then nothing came.
    #[error("it was silent for {} s; it hangs or is overloaded", PATIENCE.as_secs())]
    Silent,
    /// It closed the connection.
    #[error("it hung up; its log says why")]
    HungUp,
    /// The operator did not want to wait.
    #[error("interrupted; what was asked may have been done")]
    Interrupted,
    /// It says something that this release does not know.
    #[error("it is cambricd {version}, and cambric {VERSION} does not understand its answer: {error}")]
    OtherRelease { version: String, error: serde_json::Error },
    /// It is not cambricd, or of another age.
    #[error("{0}; is it cambricd, and as new as this cambric?")]
    Rubbish(LineError),
}

impl From<LineError> for Fault {
    fn from(error: LineError) -> Fault {
        match error {
            LineError::Closed => Fault::HungUp,
            LineError::Io(cause) => match cause.kind() {
                _ if Interrupted::caused(&cause) => Fault::Interrupted,
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Fault::Silent,
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Fault::HungUp,
                _ => Fault::Unreachable(cause),
            },
            LineError::OtherRelease { version, error } => Fault::OtherRelease { version, error },
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
    stream: BufReader<Stream>,
}

impl Client {
    /// `interrupt` is what ends the waiting before the time.
    pub(crate) fn connect(socket: &Path, interrupt: Option<Rc<Interrupt>>) -> Result<Client, ClientError> {
        let socket = socket.to_owned();
        match open(&socket, interrupt.as_deref()) {
            Ok(socket_end) => {
                let stream = Stream { socket: socket_end, patience: PATIENCE, interrupt };
                Ok(Client { socket, stream: BufReader::new(stream) })
            }
            Err(fault) => Err(ClientError { socket, fault }),
        }
    }

    /// The connection, if it can be asked still. A daemon hangs up on a client that asks nothing for half a
    /// minute, and it is better to know before something is asked that is not to be asked twice.
    pub(crate) fn if_alive(self) -> Option<Client> {
        let has_news = !self.stream.buffer().is_empty() || self.stream.get_ref().is_readable(Duration::ZERO);
        (!has_news).then_some(self)
    }

    /// The answer, if it comes piece after piece within `patience` each. After an error the connection is of
    /// no use: an answer may still come.
    pub(crate) fn ask(&mut self, request: &Request, patience: Duration) -> Result<Reply, ClientError> {
        self.stream.get_mut().patience = patience;
        self.exchange(request).map_err(|fault| ClientError { socket: self.socket.clone(), fault })
    }

    /// The same, for an answer that is not to be held as a whole: `take` gets each piece of it but the last, until it says
    /// that it wants no more.
    pub(crate) fn ask_for_pieces(
        &mut self,
        request: &Request,
        patience: Duration,
        mut take: impl FnMut(&Reply) -> ControlFlow<()>,
    ) -> Result<Reply, ClientError> {
        self.stream.get_mut().patience = patience;
        let mut pieces = |client: &mut Client| {
            let mut reply = client.first(request)?;
            while reply.more && take(&reply).is_continue() {
                reply = read_line(&mut client.stream)?;
            }
            Ok(reply)
        };
        pieces(self).map_err(|fault| ClientError { socket: self.socket.clone(), fault })
    }

    fn exchange(&mut self, request: &Request) -> Result<Reply, Fault> {
        let mut reply = self.first(request)?;
        while reply.more {
            if let Err(other) = reply.append(read_line(&mut self.stream)?) {
                return Ok(*other);
            }
        }
        Ok(reply)
    }

    /// A daemon that turns us away may answer and hang up before it has read the request; so its answer
    /// is looked for even when the request could not be written.
    fn first(&mut self, request: &Request) -> Result<Reply, Fault> {
        let asked = Asked { request, version: VERSION };
        let written = write_line(&mut self.stream.get_mut().socket, &asked);
        match written.map_err(Fault::from) {
            Ok(()) | Err(Fault::HungUp) => Ok(read_line(&mut self.stream)?),
            Err(fault) => Err(fault),
        }
    }
}

/// A daemon that accepts nobody lets its queue run full, and the kernel would have us wait in it for ever.
fn open(path: &Path, interrupt: Option<&Interrupt>) -> Result<UnixStream, Fault> {
    let unreachable = |errno: Errno| Fault::Unreachable(errno.into());
    let address = UnixAddr::new(path).map_err(unreachable)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let until = Instant::now() + PATIENCE;
    loop {
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(unreachable)?;
        match connect(socket.as_raw_fd(), &address) {
            Ok(()) => {
                let stream = UnixStream::from(socket);
                stream.set_nonblocking(false).map_err(Fault::Unreachable)?;
                stream.set_write_timeout(Some(PATIENCE)).map_err(Fault::Unreachable)?;
                return Ok(stream);
            }
            Err(Errno::EAGAIN) if interrupt.is_some_and(Interrupt::came) => return Err(Fault::Interrupted),
            Err(Errno::EAGAIN) if Instant::now() < until => sleep(QUEUE_PAUSE),
            Err(Errno::EAGAIN) => return Err(Fault::Full),
            Err(errno) => return Err(unreachable(errno)),
        }
    }
}

/// The socket, read with patience.
#[derive(Debug)]
struct Stream {
    socket: UnixStream,
    patience: Duration,
    interrupt: Option<Rc<Interrupt>>,
}

/// The operator did not want to wait.
#[derive(Debug, Error)]
#[error("interrupted")]
struct Interrupted;

impl Interrupted {
    fn caused(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|cause| cause.is::<Interrupted>())
    }
}

impl Stream {
    /// Waits until there is something to read, the end among it; or an interrupt, and then there is not.
    fn is_readable(&self, patience: Duration) -> bool {
        let mut ready = vec![PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        ready.extend(self.interrupt.iter().map(|signal| PollFd::new(signal.as_fd(), PollFlags::POLLIN)));
        let until = Instant::now() + patience;
        loop {
            let rest = until.saturating_duration_since(Instant::now());
            match poll(&mut ready, PollTimeout::try_from(rest).unwrap_or(PollTimeout::MAX)) {
                // A signal with a handler, line editing has some: no reason to stop waiting.
                Err(Errno::EINTR) => {}
                polled => return polled.is_ok() && ready[0].any().unwrap_or_default(),
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let is_readable = self.is_readable(self.patience);
        if self.interrupt.as_ref().is_some_and(|signal| signal.came()) {
            return Err(io::Error::other(Interrupted));
        }
        if is_readable { self.socket.read(into) } else { Err(ErrorKind::TimedOut.into()) }
    }
}
