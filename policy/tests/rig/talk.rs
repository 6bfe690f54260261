//! Conversations: connects that are accepted, and datagrams that are answered. Nobody waits for a time-out here either.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use nix::libc;
use socket2::{Domain, Socket, Type};

use super::wire::{At, LONGEST_PATH, Rig};

/// What became of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It came, as from this address, and the answer came back.
    Came(IpAddr),
    /// It came, but the answer did not come back.
    Lost,
    /// It did not come.
    None,
}

impl Rig {
    /// Listens for connects.
    pub fn listen(&self, at: &At, to: SocketAddr) -> TcpListener {
        let listener = self.netns(at).enter(|| TcpListener::bind(to)).expect("a listener");
        listener.set_nonblocking(true).expect("a listener that does not block");
        listener
    }

    /// Connects, and tells whether there is a connection. Without a source the kernel takes one.
    pub fn connect(&self, from: &At, source: Option<IpAddr>, to: SocketAddr) -> Option<TcpStream> {
        let socket = self.netns(from).enter(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a TCP socket");
            socket.set_nonblocking(true).expect("a socket that does not block");
            socket
                .bind(&SocketAddr::new(source.unwrap_or(any(to)), 0).into())
                .expect("an address of the place");
            match socket.connect(&to.into()) {
                Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
                other => panic!("connect to {to}: {other:?}"),
            }
            socket
        });
        self.settle(2 * LONGEST_PATH, |_, _| ());
        match socket.take_error().expect("the state of a socket") {
            None => socket.peer_addr().is_ok().then(|| socket.into()),
            Some(error) => panic!("connect to {to}: {error}"),
        }
    }

    /// A socket for datagrams.
    pub fn socket(&self, at: &At, address: SocketAddr) -> UdpSocket {
        let bound = self.netns(at).enter(|| UdpSocket::bind(address));
        let socket = bound.unwrap_or_else(|error| panic!("bind to {address}: {error}"));
        socket.set_nonblocking(true).expect("a socket that does not block");
        socket
    }

    /// Sends a datagram from a new socket to an address behind which are these servers; the one it comes to answers.
    pub fn ask(&self, from: &At, source: Option<IpAddr>, to: SocketAddr, servers: &[&UdpSocket]) -> Answer {
        let client = self.socket(from, SocketAddr::new(source.unwrap_or(any(to)), 0));
        client.send_to(b"question", to).unwrap_or_else(|error| panic!("send to {to}: {error}"));
        self.settle(LONGEST_PATH, |_, _| ());
        let mut buffer = [0; 64];
        let Some((server, peer)) = servers.iter().find_map(|server| match server.recv_from(&mut buffer) {
            Ok((_, peer)) => Some((server, peer)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("receive: {error}"),
        }) else {
            return Answer::None;
        };
        server.send_to(b"answer", peer).expect("an answer is sent");
        self.settle(LONGEST_PATH, |_, _| ());
        match client.recv_from(&mut buffer) {
            Ok((_, answered)) => {
                assert_eq!(answered, to, "the answer comes from where the question went");
                Answer::Came(peer.ip())
            }
            Err(_) => Answer::Lost,
        }
    }
}

fn any(of: SocketAddr) -> IpAddr {
    if of.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}
