//! Sockets made the way BGP wants them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// CS6, "internetwork control" (RFC 4594 section 3.1): routing goes before what it routes.
const DSCP_CS6: u32 = 0xC0;

/// Listeners of both families, so that one without the other (`ipv6.disable=1`) still serves.
///
/// # Errors
/// Neither family can listen.
pub(crate) fn listen(port: u16) -> io::Result<Vec<TcpListener>> {
    let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let (listeners, errors): (Vec<_>, Vec<_>) =
        any.map(|address| listen_at(SocketAddr::new(address, port))).into_iter().partition(Result::is_ok);
    let listeners: Vec<TcpListener> = listeners.into_iter().filter_map(Result::ok).collect();
    match errors.into_iter().find_map(Result::err) {
        Some(error) if listeners.is_empty() || error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Some(error) => {
            tracing::warn!(error = %error, port, "one address family cannot listen");
            Ok(listeners)
        }
        None => Ok(listeners),
    }
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    mark(&socket, address.ip())?;
    socket.bind(&address.into())?;
    // All nodes of a cluster may call at once: the kernel cuts this to net.core.somaxconn.
    socket.listen(i32::MAX)?;
    TcpListener::from_std(socket.into())
}

/// Opens a connection; the core says when to give up.
pub(crate) async fn connect(remote: SocketAddr, local: Option<IpAddr>) -> io::Result<TcpStream> {
    let domain = Domain::for_address(remote);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    mark(&socket, remote.ip())?;
    if let Some(local) = local {
        socket.bind(&SocketAddr::new(local, 0).into())?;
    }
    TcpSocket::from_std_stream(socket.into()).connect(remote).await
}

fn mark(socket: &Socket, address: IpAddr) -> io::Result<()> {
    match address {
        IpAddr::V4(_) => socket.set_tos_v4(DSCP_CS6),
        IpAddr::V6(_) => socket.set_tclass_v6(DSCP_CS6),
    }
}
