//! First packets of connections, each of a flow of its own, and what became of them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::libc;
use socket2::{Domain, SockAddr, Socket, Type};

use super::host::Flow;
use super::wire::{At, LONGEST_PATH, Rig};

/// As many sockets are open at a time.
const AT_A_TIME: usize = 400;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// A real connect; nobody listens, so the answer is a reset.
    Tcp,
    /// A datagram of a real socket.
    Udp,
    /// An INIT chunk from a raw socket: not every kernel has SCTP sockets.
    Sctp,
}

impl Protocol {
    /// As policies write it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        }
    }

    /// As packets say it.
    pub fn number(self) -> u8 {
        let number = match self {
            Protocol::Tcp => libc::IPPROTO_TCP,
            Protocol::Udp => libc::IPPROTO_UDP,
            Protocol::Sctp => libc::IPPROTO_SCTP,
        };
        number as u8
    }
}

/// What is to be sent.
#[derive(Debug, Clone)]
pub struct Probe {
    pub from: At,
    pub source: IpAddr,
    pub to: At,
    pub destination: IpAddr,
    pub protocol: Protocol,
    pub port: u16,
}

impl Probe {
    /// What it looks like on its way.
    pub fn flow(&self, source_port: u16) -> Flow {
        Flow {
            protocol: self.protocol.number(),
            source: self.source,
            source_port,
            destination: self.destination,
            destination_port: self.port,
        }
    }
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It came to its destination and, where it was a connect, the answer came back.
    Arrived,
    /// It came, but the answer to the connect did not come back.
    Unanswered,
    /// All that could still come has come, and it has not.
    Dropped,
}

impl Rig {
    /// Sends them all, and tells of each in turn.
    pub fn probe(&self, probes: &[Probe]) -> Vec<Fate> {
        let chunks = probes.chunks(AT_A_TIME);
        let fates = chunks.flat_map(|chunk| {
            loop {
                let overflowed = self.overflowed();
                let fates = self.probe_some(chunk);
                if self.overflowed() == overflowed {
                    return fates;
                }
            }
        });
        fates.collect()
    }

    fn probe_some(&self, probes: &[Probe]) -> Vec<Fate> {
        let mut nth_of = HashMap::new();
        let mut connects = Vec::new();
        let numbered: Vec<(usize, &Probe)> = probes.iter().enumerate().collect();
        for same in numbered.chunk_by(|(_, one), (_, next)| one.from == next.from) {
            self.netns(&same[0].1.from).enter(|| {
                for (nth, probe) in same {
                    let source = SocketAddr::new(probe.source, fresh_port());
                    nth_of.insert((&probe.to, probe.flow(source.port())), *nth);
                    let destination = SocketAddr::new(probe.destination, probe.port);
                    match probe.protocol {
                        Protocol::Tcp => connects.push((*nth, connect(source, destination))),
                        Protocol::Udp => send_datagram(source, destination),
                        Protocol::Sctp => send_init(source, destination),
                    }
                }
            });
        }
        let mut fates = vec![Fate::Dropped; probes.len()];
        // There, and back again.
        self.settle(2 * LONGEST_PATH, |at, seen| {
            if let Some(nth) = nth_of.get(&(at, seen.flow)) {
                fates[*nth] = Fate::Arrived;
            }
        });
        for (nth, socket) in connects {
            let answer = socket.take_error().expect("the state of a socket");
            let refused = answer.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
            match (fates[nth], refused) {
                (Fate::Arrived, false) => fates[nth] = Fate::Unanswered,
                (Fate::Dropped, true) => panic!("{:?}: answered, but never seen", probes[nth]),
                _ => {}
            }
        }
        fates
    }
}

/// One that nothing of this process had for long: a namespace may be new, but a node remembers flows of addresses.
pub(super) fn fresh_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    (20_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 40_000) as u16
}

fn connect(source: SocketAddr, destination: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(source), Type::STREAM, None).expect("a TCP socket");
    socket.set_nonblocking(true).expect("a socket that does not block");
    socket.bind(&source.into()).unwrap_or_else(|error| panic!("bind to {source}: {error}"));
    match socket.connect(&destination.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        other => panic!("connect to {destination}: {other:?}"),
    }
    socket
}

fn send_datagram(source: SocketAddr, destination: SocketAddr) {
    let socket = UdpSocket::bind(source).unwrap_or_else(|error| panic!("bind to {source}: {error}"));
    let sent = socket.send_to(b"probe", destination);
    sent.unwrap_or_else(|error| panic!("send to {destination}: {error}"));
}

fn send_init(source: SocketAddr, destination: SocketAddr) {
    let protocol = Some(libc::IPPROTO_SCTP.into());
    let socket = Socket::new(Domain::for_address(source), Type::RAW, protocol).expect("a raw socket");
    let without_port = |address: SocketAddr| SockAddr::from(SocketAddr::new(address.ip(), 0));
    socket.bind(&without_port(source)).unwrap_or_else(|error| panic!("bind to {source}: {error}"));
    let sent = socket.send_to(&init(source.port(), destination.port()), &without_port(destination));
    sent.unwrap_or_else(|error| panic!("send to {destination}: {error}"));
}

/// A common header and an INIT chunk (RFC 9260 sections 3.1 and 3.3.2).
pub(super) fn init(source_port: u16, destination_port: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(source_port.to_be_bytes());
    packet.extend(destination_port.to_be_bytes());
    packet.extend(0_u32.to_be_bytes()); // verification tag of an INIT
    packet.extend(0_u32.to_be_bytes()); // checksum, below
    packet.extend([1, 0, 0, 20]); // INIT, no flags, 20 bytes
    packet.extend(0x0102_0304_u32.to_be_bytes()); // initiate tag
    packet.extend(65_536_u32.to_be_bytes()); // receiver window
    packet.extend([0, 1, 0, 1]); // streams out and in
    packet.extend(1_u32.to_be_bytes()); // first TSN
    let checksum = crc32c(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&checksum);
    packet
}

/// RFC 9260 appendix A. Connection tracking looks at it.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}
