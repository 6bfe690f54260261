//! Sockets made the way BGP wants them.

pub(crate) mod option;

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;

use cambric_bgp::config::{SocketOptions, Ttl};
use cambric_bgp::router::ListenerOptions;
use cambric_bgp::{Family, Prefix, ScopedAddress};
use nix::net::if_::{if_indextoname, if_nametoindex};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::listener::{Guard, Listener};

/// CS6, "internetwork control" (RFC 4594 section 3.1): routing goes before what it routes.
const DSCP_CS6: u32 = 0xC0;

/// Listeners of both families, so that one without the other (`ipv6.disable=1`) still serves.
///
/// # Errors
/// Neither family can listen.
pub(crate) fn listen(port: u16, options: &ListenerOptions) -> io::Result<Vec<Listener>> {
    let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let listen_at = |address| listen_at(SocketAddr::new(address, port), options);
    let (listeners, errors): (Vec<_>, Vec<_>) = any.map(listen_at).into_iter().partition(Result::is_ok);
    let listeners: Vec<Listener> = listeners.into_iter().filter_map(Result::ok).collect();
    match errors.into_iter().find_map(Result::err) {
        Some(error) if listeners.is_empty() || error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Some(error) => {
            tracing::warn!(error = %error, port, "one address family cannot listen");
            Ok(listeners)
        }
        None => Ok(listeners),
    }
}

fn listen_at(address: SocketAddr, options: &ListenerOptions) -> io::Result<Listener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    mark(&socket, address.ip())?;
    // A peer with TTL security (RFC 5082) takes no answer with less, and others do not mind.
    option::set_ttl(&socket, address.ip(), Some(u8::MAX))?;
    socket.bind(&address.into())?;
    // A kernel that cannot (before Linux 4.3) has no SYN to show to `admit`, which does without.
    drop(option::save_syn(&socket));
    // Before anybody can knock.
    let mut guard = Guard::new(Family::of(address.ip()));
    guard.follow(&socket, options);
    // All nodes of a cluster may call at once: the kernel cuts this to net.core.somaxconn.
    socket.listen(i32::MAX)?;
    Ok(Listener::new(TcpListener::from_std(socket.into())?, guard))
}

/// Opens a connection; the core says when to give up.
///
/// # Errors
/// In words for the operator.
pub(crate) async fn connect(
    remote: &ScopedAddress,
    port: u16,
    options: &SocketOptions,
) -> Result<TcpStream, String> {
    let remote = socket_address(remote, port)?;
    let socket = socket_for(remote, options)?;
    TcpSocket::from_std_stream(socket.into()).connect(remote).await.map_err(in_words)
}

/// A link-local address goes with the number that its link has now (RFC 4007 section 6).
fn socket_address(remote: &ScopedAddress, port: u16) -> Result<SocketAddr, String> {
    match (remote.ip(), remote.interface()) {
        (IpAddr::V6(v6), Some(interface)) => {
            let index = if_nametoindex(interface)
                .map_err(|error| format!("interface {interface}: {}", error.desc()))?;
            Ok(SocketAddrV6::new(v6, port, 0, index).into())
        }
        (ip, _) => Ok(SocketAddr::new(ip, port)),
    }
}

/// Who is at the other end, and over which link if the address is meant on one alone.
pub(crate) fn scoped(remote: SocketAddr) -> ScopedAddress {
    let index = match remote {
        SocketAddr::V6(v6) => v6.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    // A link that is gone by now has no name, and its peer no connection; nix 0.31 gives an empty one.
    let name = if_indextoname(index).ok().filter(|name| !name.is_empty());
    ScopedAddress::on(remote.ip(), name.as_ref().and_then(|name| name.to_str().ok()))
}

fn socket_for(remote: SocketAddr, options: &SocketOptions) -> Result<Socket, String> {
    let domain = Domain::for_address(remote);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP)).map_err(in_words)?;
    mark(&socket, remote.ip()).map_err(in_words)?;
    prepare(&socket, remote.ip(), options)?;
    if let Some(local) = options.local {
        let bound = socket.bind(&SocketAddr::new(local, 0).into());
        bound.map_err(|error| format!("local address {local}: {}", in_words(error)))?;
    }
    Ok(socket)
}

/// Gives a socket that was accepted from `remote` what it needs: up to now it has what the listener has. Its handshake is
/// over and more may have come, so for TTL security (RFC 5082) the SYN is looked at, too. Where the kernel has none to show,
/// nothing may have come yet; from here on the kernel sees to it.
///
/// # Errors
/// In words for the operator; the connection is to be closed.
pub(crate) fn admit(accepted: &impl AsFd, remote: IpAddr, options: &SocketOptions) -> Result<(), String> {
    prepare(accepted, remote, options)?;
    // Of each connection: the kernel keeps it until it is read.
    let syn = option::ttl_of_syn(accepted);
    let Ttl::Guarded { least } = options.ttl else { return Ok(()) };
    match syn {
        Some(ttl) if ttl < least => {
            Err(format!("peer connected with TTL {ttl}; TTL security takes no less than {least}"))
        }
        None if SockRef::from(accepted).peek(&mut [MaybeUninit::uninit()]).is_ok_and(|octets| octets > 0) => {
            Err("peer connected and spoke before TTL security could look at its packets".to_owned())
        }
        _ => Ok(()),
    }
}

/// Gives a socket with `remote` what it needs.
fn prepare(socket: &impl AsFd, remote: IpAddr, options: &SocketOptions) -> Result<(), String> {
    let (ttl, least) = match options.ttl {
        Ttl::Usual => (None, 0),
        Ttl::Exactly(ttl) => (Some(ttl), 0),
        Ttl::Guarded { least } => (Some(u8::MAX), least),
    };
    let set =
        option::set_ttl(socket, remote, ttl).and_then(|()| option::set_least_ttl(socket, remote, least));
    set.map_err(|error| format!("TTL: {}", in_words(error)))?;
    if let Some(interface) = &options.interface {
        let bound = SockRef::from(socket).bind_device(Some(interface.as_bytes()));
        bound.map_err(|error| format!("interface {interface}: {}", in_words(error)))?;
    }
    match &options.password {
        Some(password) => option::set_key(socket, Prefix::host(remote), Some(password)),
        None => Ok(()),
    }
}

/// Whether the kernel could sign with TCP-AO (RFC 5925).
///
/// # Errors
/// There is no socket to be had.
pub(crate) fn kernel_has_tcp_ao() -> io::Result<bool> {
    Ok(option::has_tcp_ao(&Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?))
}

/// Without the number that Rust puts behind the system's words.
pub(crate) fn in_words(error: io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words).to_owned()
}

pub(crate) fn mark(socket: &Socket, address: IpAddr) -> io::Result<()> {
    match address {
        IpAddr::V4(_) => socket.set_tos_v4(DSCP_CS6),
        IpAddr::V6(_) => socket.set_tclass_v6(DSCP_CS6),
    }
}

#[cfg(test)]
mod tests {
    use cambric_bgp::config::Password;
    use nix::poll::{PollFd, PollFlags};

    use super::*;

    #[test]
    fn what_a_peer_needs_is_taken_in_both_families_and_undone_on_what_was_accepted() {
        let options = |ttl| SocketOptions {
            local: None,
            interface: Some("lo".to_owned()),
            ttl,
            password: Some(Password::new("key").expect("short")),
        };
        for peer in ["192.0.2.1", "2001:db8::1"] {
            let peer: IpAddr = peer.parse().expect("address");
            let domain = if peer.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
            let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
            let ttl = |socket: &Socket| match peer {
                IpAddr::V4(_) => socket.ttl_v4(),
                IpAddr::V6(_) => socket.unicast_hops_v6(),
            };
            let usual = ttl(&socket).expect("readable");
            let rows = [
                (Ttl::Exactly(1), 1),
                (Ttl::Guarded { least: 254 }, 255),
                (Ttl::Exactly(7), 7),
                (Ttl::Usual, usual),
            ];
            for (wanted, seen) in rows {
                assert_eq!(prepare(&socket, peer, &options(wanted)), Ok(()), "{peer} {wanted:?}");
                assert_eq!(ttl(&socket).expect("readable"), seen, "{peer} {wanted:?}");
            }
        }
    }

    /// Over IPv6, too. Where the kernel shows no SYN, because it was read before here, only who has said nothing comes in.
    #[test]
    fn who_connects_with_a_low_ttl_is_not_let_in() {
        let guarded =
            SocketOptions { local: None, interface: None, ttl: Ttl::Guarded { least: 255 }, password: None };
        for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let listener = std::net::TcpListener::bind((address, 0)).expect("loopback");
            option::save_syn(&listener).expect("the kernel has it");
            let at = listener.local_addr().expect("bound");
            let call = |ttl| {
                let caller = Socket::new(Domain::for_address(at), Type::STREAM, None).expect("a socket");
                option::set_ttl(&caller, address, Some(ttl)).expect("set");
                caller.connect(&at.into()).expect("somebody listens");
                let (accepted, _) = listener.accept().expect("it connected");
                accepted.set_nonblocking(true).expect("set");
                (caller, accepted)
            };
            let (_near, accepted) = call(255);
            assert_eq!(admit(&accepted, address, &guarded), Ok(()));
            assert_eq!(admit(&accepted, address, &guarded), Ok(()), "nothing has come");
            let (_far, accepted) = call(254);
            let refused = admit(&accepted, address, &guarded).expect_err("too far");
            assert_eq!(refused, "peer connected with TTL 254; TTL security takes no less than 255");
            let (far, accepted) = call(254);
            assert_eq!(option::ttl_of_syn(&accepted), Some(254));
            far.send(b"!").expect("sent");
            nix::poll::poll(&mut [PollFd::new(accepted.as_fd(), PollFlags::POLLIN)], 10_000_u16)
                .expect("it is readable");
            let refused = admit(&accepted, address, &guarded).expect_err("it has spoken");
            assert_eq!(refused, "peer connected and spoke before TTL security could look at its packets");
        }
    }

    #[test]
    fn a_caller_at_a_link_local_address_is_known_with_its_link() {
        let lo = if_nametoindex("lo").expect("every namespace has it");
        let from = |text: &str, index| {
            scoped(SocketAddrV6::new(text.parse().expect("address"), 179, 0, index).into()).to_string()
        };
        assert_eq!(from("fe80::1", lo), "fe80::1%lo");
        assert_eq!(from("fe80::1", u32::MAX), "fe80::1", "nobody knows the link any more");
        assert_eq!(from("2001:db8::1", lo), "2001:db8::1");
    }

    #[tokio::test]
    async fn what_fails_is_told_in_words_and_names_the_local_address() {
        let nobody_listens = TcpListener::bind("127.0.0.1:0").await.expect("loopback").local_addr();
        let at = nobody_listens.expect("bound");
        let options = |local| SocketOptions { local, interface: None, ttl: Ttl::Usual, password: None };
        let refused = connect(&at.ip().into(), at.port(), &options(None)).await.expect_err("closed again");
        assert_eq!(refused, "Connection refused");
        let not_ours = "192.0.2.1".parse().expect("address");
        let unbound =
            connect(&at.ip().into(), at.port(), &options(Some(not_ours))).await.expect_err("not our address");
        assert_eq!(unbound, "local address 192.0.2.1: Cannot assign requested address");
        let elsewhere = SocketOptions { interface: Some("none0".to_owned()), ..options(None) };
        let absent = connect(&at.ip().into(), at.port(), &elsewhere).await.expect_err("no such interface");
        assert_eq!(absent, "interface none0: No such device");
        let unknown = "fe80::1%none0".parse().expect("address");
        let unknown = connect(&unknown, 179, &options(None)).await.expect_err("no such interface");
        assert_eq!(unknown, "interface none0: No such device");
    }
}
