//! Who reaches whom, and with which source address: a server that answers with the address it saw, by UDP and TCP.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::place::{Place, in_netns};

/// Port of the servers.
pub const PORT: u16 = 7007;

/// How often servers look whether they are to stop.
const LOOK_MS: u8 = 50;

/// UDP or TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// One datagram each way.
    Udp,
    /// A connection.
    Tcp,
}

/// Servers at one address of a place; they end when this is dropped.
#[derive(Debug)]
pub struct Echo {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Starts both servers at [`PORT`] of an address.
    ///
    /// # Errors
    /// When the address is not there, or the port taken.
    pub fn start(place: &dyn Place, address: IpAddr) -> Result<Self> {
        let address = SocketAddr::new(address, PORT);
        let sockets = in_netns(place, || Ok((UdpSocket::bind(address)?, TcpListener::bind(address)?)));
        let (udp, tcp) =
            sockets?.map_err(|error: io::Error| error).with_context(|| format!("binding {address}"))?;
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("echo".into()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let mut wanted = [
                    PollFd::new(udp.as_fd(), PollFlags::POLLIN),
                    PollFd::new(tcp.as_fd(), PollFlags::POLLIN),
                ];
                let _ = poll(&mut wanted, PollTimeout::from(LOOK_MS)); // interrupted: look again
                // A client that goes away is its own loss.
                let _ = answer_udp(&udp);
                let _ = answer_tcp(&tcp);
            }
        })?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Where the servers listen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic has been printed by its thread
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        })
    }
}

/// Somebody who asks, and the addresses that servers should see: at most one of each family.
#[derive(Clone)]
pub struct Client<'a> {
    /// From where.
    pub place: &'a dyn Place,
    /// With which source addresses.
    pub sources: Vec<IpAddr>,
}

/// Has each client ask each server by UDP and TCP; returns what was wrong, one line each.
pub fn matrix(clients: &[Client<'_>], servers: &[Echo], limit: Duration) -> Vec<String> {
    let mut wrong = Vec::new();
    for client in clients {
        for server in servers.iter().map(Echo::address) {
            let Some(source) = client.sources.iter().find(|source| source.is_ipv4() == server.is_ipv4())
            else {
                continue;
            };
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                let name = client.place.name();
                match ask(client.place, protocol, server, limit) {
                    Ok(seen) if seen == *source => {}
                    Ok(seen) => {
                        wrong.push(format!("{name} {protocol} to {server}: seen as {seen}, not {source}"))
                    }
                    Err(error) => wrong.push(format!("{name}: {error:#}")),
                }
            }
        }
    }
    wrong
}

/// Asks a server which source address it sees.
///
/// # Errors
/// When no answer comes within `limit`.
pub fn ask(from: &dyn Place, protocol: Protocol, server: SocketAddr, limit: Duration) -> Result<IpAddr> {
    let asked = in_netns(from, || match protocol {
        Protocol::Udp => ask_udp(server, limit),
        Protocol::Tcp => ask_tcp(server, limit),
    })?;
    let text = asked.with_context(|| format!("{protocol} to {server}"))?;
    text.parse().with_context(|| format!("{protocol} to {server}: answer {text:?}"))
}

fn ask_udp(server: SocketAddr, limit: Duration) -> io::Result<String> {
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(limit))?;
    socket.connect(server)?;
    socket.send(b"who am i")?;
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

fn ask_tcp(server: SocketAddr, limit: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, limit)?;
    stream.set_read_timeout(Some(limit))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn answer_udp(socket: &UdpSocket) -> io::Result<()> {
    let mut question = [0; 64];
    let (_, from) = socket.recv_from(&mut question)?;
    socket.send_to(from.ip().to_string().as_bytes(), from).map(drop)
}

fn answer_tcp(listener: &TcpListener) -> io::Result<()> {
    let (mut stream, from) = listener.accept()?;
    stream.write_all(from.ip().to_string().as_bytes())
}
