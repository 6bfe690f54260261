//! The server on a socket: HTTP/1.1, with or without TLS, on threads of its own.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::ByteString;
use serde_json::{Value, json};
use socket2::{SockAddr, Socket};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::certificates::{Certificate, Certificates, Users};
use crate::server::{Peer, Server, serve};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1024;
/// After a connection that could not be accepted.
const PAUSE: Duration = Duration::from_millis(10);

/// Serves until it is dropped, which cuts what is open.
pub struct Listener {
    address: SocketAddr,
    /// The authority's certificate, if this is TLS.
    authority: Option<String>,
    /// Dropped to stop the runtime.
    stop: Option<oneshot::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
    door: Arc<Door>,
}

impl Listener {
    pub(crate) fn new(
        server: Arc<Server>,
        listener: TcpListener,
        certificates: Option<&Certificates>,
    ) -> anyhow::Result<(Listener, Arc<Door>)> {
        // The thread that accepts blocks on it.
        listener.set_nonblocking(false).context("the socket")?;
        let address = listener.local_addr().context("the socket")?;
        let door = Arc::new(Door {
            socket: Socket::from(listener),
            address,
            state: Mutex::new(DoorState::Open),
            changed: Condvar::new(),
        });
        let tls = certificates
            .map(|certificates| {
                let config = certificates.server_config().context("the certificates")?;
                Ok::<_, anyhow::Error>(Arc::new(Tls {
                    acceptor: TlsAcceptor::from(Arc::new(config)),
                    users: Arc::clone(&certificates.users),
                }))
            })
            .transpose()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let connections = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let serving = std::thread::Builder::new().name("apiserver".to_owned()).spawn(move || {
            // An error: the listener is gone. What is open ends with the runtime.
            let _ = runtime.block_on(stopped);
        })?;
        let of_thread = Arc::clone(&door);
        let accepting = std::thread::Builder::new().name("apiserver-door".to_owned()).spawn(move || {
            while let Some(stream) = of_thread.accept() {
                connections.spawn(connection(Arc::clone(&server), stream, tls.clone()));
            }
        })?;
        let listener = Listener {
            address,
            authority: certificates.map(Certificates::authority),
            stop: Some(stop),
            threads: vec![accepting, serving],
            door: Arc::clone(&door),
        };
        Ok((listener, door))
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:8080`, or `https://...`.
    pub fn url(&self) -> String {
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// A kubeconfig for a client with this token: `cambric`, `admin`, or another of
    /// [`crate::ApiServer::add_token`].
    pub fn kubeconfig(&self, token: &str) -> String {
        self.kubeconfig_of(&json!({"token": token}))
    }

    /// A kubeconfig for a client with this certificate.
    pub fn kubeconfig_with_certificate(&self, client: &Certificate) -> String {
        self.kubeconfig_of(&json!({
            "client-certificate-data": base64(&client.certificate),
            "client-key-data": base64(&client.key),
        }))
    }

    fn kubeconfig_of(&self, user: &Value) -> String {
        let mut cluster = json!({"server": self.url()});
        if let Some(authority) = &self.authority {
            cluster["certificate-authority-data"] = base64(authority);
        }
        let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "double",
            "clusters": [{"name": "double", "cluster": cluster}],
            "users": [{"name": "client", "user": user}],
            "contexts": [{"name": "double", "context": {"cluster": "double", "user": "client"}}]});
        // JSON is YAML.
        format!("{config:#}\n")
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.door.give_up();
        self.stop.take();
        for thread in self.threads.drain(..) {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

/// As the API writes octets in JSON.
fn base64(text: &str) -> Value {
    serde_json::to_value(ByteString(text.as_bytes().to_vec())).unwrap_or_default()
}

/// The socket that clients come to. It keeps its port while it is shut, and refuses.
///
/// It is accepted from by a thread that blocks, not by the runtime: tokio takes the end of a socket for final, and would
/// turn for ever on one that listens again.
#[derive(Debug)]
pub(crate) struct Door {
    socket: Socket,
    address: SocketAddr,
    state: Mutex<DoorState>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DoorState {
    Open,
    Shut,
    /// The listener is gone.
    GivenUp,
}

impl Door {
    /// From now on connections are refused.
    pub(crate) fn shut(&self) -> io::Result<()> {
        self.leave_open(DoorState::Shut)
    }

    fn give_up(&self) {
        // The socket is closed soon in any case.
        let _ = self.leave_open(DoorState::GivenUp);
    }

    fn leave_open(&self, next: DoorState) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *state, next);
        self.changed.notify_all();
        if before != DoorState::Open {
            // To shut down what does not listen is kept, and inherited by connections that are accepted later.
            return Ok(());
        }
        // Linux: stops to listen (`inet_shutdown`) and wakes who accepts. A port that the kernel chose is given up with it,
        // so it is taken again at once; one that was asked for stays bound, and binding again says so.
        self.socket.shutdown(Shutdown::Read)?;
        if next == DoorState::Shut {
            let _ = self.socket.bind(&SockAddr::from(self.address));
        }
        Ok(())
    }

    /// From now on connections are accepted again.
    pub(crate) fn open(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if *state == DoorState::Shut {
            self.socket.listen(BACKLOG)?;
            *state = DoorState::Open;
            self.changed.notify_all();
        }
        Ok(())
    }

    /// The next connection; waits for it. `None`: the listener is gone.
    fn accept(&self) -> Option<Socket> {
        loop {
            if let Ok((stream, _)) = self.socket.accept() {
                return Some(stream);
            }
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            while *state == DoorState::Shut {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if *state == DoorState::GivenUp {
                return None;
            }
            drop(state);
            // Open, and nothing was accepted: a client that went away, or no file descriptor is left.
            std::thread::sleep(PAUSE);
        }
    }
}

struct Tls {
    acceptor: TlsAcceptor,
    users: Arc<Users>,
}

async fn connection(server: Arc<Server>, stream: Socket, tls: Option<Arc<Tls>>) {
    let mut link = server.link();
    if link.borrow_and_update().is_away || stream.set_nonblocking(true).is_err() {
        return;
    }
    let Ok(stream) = TcpStream::from_std(stream.into()) else { return };
    // Small answers and events leave at once.
    let _ = stream.set_nodelay(true);
    tokio::select! {
        () = http(server, stream, tls) => {}
        _ = link.changed() => {}
    }
}

async fn http(server: Arc<Server>, stream: TcpStream, tls: Option<Arc<Tls>>) {
    match tls {
        None => http1_connection(server, stream, Peer::Open).await,
        Some(tls) => {
            let Ok(stream) = tls.acceptor.accept(stream).await else { return };
            let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let user = certificate.and_then(|certificate| tls.users.find(certificate));
            let peer = user.map_or(Peer::Anonymous, Peer::Known);
            http1_connection(server, stream, peer).await;
        }
    }
}

async fn http1_connection<S>(server: Arc<Server>, stream: S, peer: Peer)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let service = service_fn(move |request| serve(Arc::clone(&server), peer.clone(), request));
    // Clients keep connections for later; none is closed while one of them begins to use it.
    let mut http1 = http1::Builder::new();
    http1.timer(TokioTimer::new()).header_read_timeout(None);
    // An error is a client that went away, or a stream that is to be cut: the connection ends with it.
    let _ = http1.serve_connection(TokioIo::new(stream), service).await;
}
