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
///
/// # Errors
/// In words for the operator.
pub(crate) async fn connect(remote: SocketAddr, local: Option<IpAddr>) -> Result<TcpStream, String> {
    let socket = socket_for(remote, local)?;
    TcpSocket::from_std_stream(socket.into()).connect(remote).await.map_err(in_words)
}

fn socket_for(remote: SocketAddr, local: Option<IpAddr>) -> Result<Socket, String> {
    let domain = Domain::for_address(remote);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP)).map_err(in_words)?;
    mark(&socket, remote.ip()).map_err(in_words)?;
    if let Some(local) = local {
        let bound = socket.bind(&SocketAddr::new(local, 0).into());
        bound.map_err(|error| format!("local address {local}: {}", in_words(error)))?;
    }
    Ok(socket)
}

/// Without the number that Rust puts behind the system's words.
pub(crate) fn in_words(error: io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words).to_owned()
}

fn mark(socket: &Socket, address: IpAddr) -> io::Result<()> {
    match address {
        IpAddr::V4(_) => socket.set_tos_v4(DSCP_CS6),
        IpAddr::V6(_) => socket.set_tclass_v6(DSCP_CS6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_fails_is_told_in_words_and_names_the_local_address() {
        let nobody_listens = TcpListener::bind("127.0.0.1:0").await.expect("loopback").local_addr();
        let nobody_listens = nobody_listens.expect("bound");
        let refused = connect(nobody_listens, None).await.expect_err("closed again");
        assert_eq!(refused, "Connection refused");
        let not_ours = "192.0.2.1".parse().expect("address");
        let unbound = connect(nobody_listens, Some(not_ours)).await.expect_err("not our address");
        assert_eq!(unbound, "local address 192.0.2.1: Cannot assign requested address");
    }
}
