//! Hundreds of BGP peers on one thread: what a large fabric is to one of its nodes.
//!
//! Each member has an address, opens a session or waits for one, and then says no more than it must: an OPEN, its own
//! prefix, End-of-RIB, KEEPALIVEs. What is measured is the node's part, so a member has no state machine and no patience: who is
//! refused tries again 20 ms later, who hears a NOTIFICATION begins anew.
//!
//! [`Crowd::start`] is called inside the network namespace that shall hold the members ([`crate::place::in_netns`]): the
//! thread it starts stays there.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, SockRef, Socket, Type};

/// What the members are to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many there are; member `n` has [`Plan::address`] `n`.
    pub members: u16,
    /// AS of all of them.
    pub asn: u32,
    /// The node's end of all sessions.
    pub node: SocketAddr,
    /// Who connects.
    pub opener: Opener,
    /// What the node is to tell everybody, and the length of its prefix.
    pub awaited: (Ipv4Addr, u8),
}

/// Who opens the TCP connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opener {
    /// All members, at once and again and again.
    Members,
    /// The node; members listen.
    Node,
}

/// How far the members are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// When each session that came up did so first.
    pub established: Vec<Instant>,
    /// When each member first heard of the awaited prefix.
    pub told: Vec<Instant>,
    /// Sessions that ended after they were Established.
    pub lost: usize,
}

/// Members that run until this is dropped.
#[derive(Debug)]
pub struct Crowd {
    stop: Arc<AtomicBool>,
    progress: Arc<Mutex<Progress>>,
    thread: Option<JoinHandle<()>>,
}

/// Octets of the marker, length and kind that every message begins with (RFC 4271 section 4.1).
const HEADER: usize = 19;
const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;
/// The AS number of those whose own has more than two octets (RFC 6793 section 9).
const AS_TRANS: u16 = 23456;
const HOLD_TIME_S: u16 = 90;
const KEEPALIVES: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(20);
/// How often the thread looks whether it is to stop.
const LOOK_MS: u8 = 10;

impl Plan {
    /// The address of a member: 10.10.1.1 to 10.10.1.200, 10.10.2.1 and so on. All lie in 10.10.0.0/16.
    pub fn address(member: u16) -> Ipv4Addr {
        let [high, low] =
            [1 + member / 200, 1 + member % 200].map(|part| u8::try_from(part).unwrap_or(u8::MAX));
        Ipv4Addr::new(10, 10, high, low)
    }

    /// Whose address this is.
    fn member(&self, address: Ipv4Addr) -> Option<usize> {
        let [_, _, high, low] = address.octets();
        let number = u16::from(high.checked_sub(1)?) * 200 + u16::from(low.checked_sub(1)?);
        (number < self.members && Plan::address(number) == address).then_some(usize::from(number))
    }

    /// What a member announces: a /24 of 10.128.0.0/9.
    pub fn prefix(member: u16) -> (Ipv4Addr, u8) {
        let [high, low] = member.to_be_bytes();
        (Ipv4Addr::new(10, 128 + high, low, 0), 24)
    }
}

impl Crowd {
    /// Starts all members, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When there is no socket to listen with, or no thread.
    pub fn start(plan: Plan) -> Result<Crowd> {
        let listener = match plan.opener {
            Opener::Members => None,
            Opener::Node => {
                let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, plan.node.port()));
                let listener = listener.context("listening for the node")?;
                // It stands for all members, each of which would have a queue of its own. With std's 128 places it fills, and a SYN
                // that is dropped comes again only after 1 s.
                SockRef::from(&listener).listen(i32::MAX)?;
                listener.set_nonblocking(true)?;
                Some(listener)
            }
        };
        let (stop, progress) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let mut members = Members { plan, listener, all: Vec::new(), progress: Arc::clone(&progress) };
        let stops = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("crowd".into());
        let thread = thread.spawn(move || {
            members.begin();
            while !stops.load(Ordering::Relaxed) {
                members.turn();
            }
        })?;
        Ok(Crowd { stop, progress, thread: Some(thread) })
    }

    /// How far they are.
    pub fn progress(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join()); // a panic of it is told already
        }
    }
}

struct Members {
    plan: Plan,
    listener: Option<TcpListener>,
    all: Vec<Member>,
    progress: Arc<Mutex<Progress>>,
}

struct Member {
    number: u16,
    connection: Connection,
    first_established: Option<Instant>,
    first_told: Option<Instant>,
}

enum Connection {
    None { retry_at: Instant },
    Connecting(TcpStream),
    Open { stream: TcpStream, input: Vec<u8>, next_keepalive: Instant, established: bool },
}

impl Members {
    fn begin(&mut self) {
        let now = Instant::now();
        let member = |number| {
            let connection = Connection::None { retry_at: now };
            Member { number, connection, first_established: None, first_told: None }
        };
        self.all = (0..self.plan.members).map(member).collect();
    }

    /// Connects, accepts, and serves who has something to read or to write.
    fn turn(&mut self) {
        let now = Instant::now();
        if self.plan.opener == Opener::Members {
            for member in &mut self.all {
                if matches!(member.connection, Connection::None { retry_at } if retry_at <= now) {
                    member.connect(now, &self.plan);
                }
            }
        }
        self.accept(now);
        for at in self.ready() {
            let member = &mut self.all[at];
            if let Err(_gone) = member.serve(now, &self.plan, &self.progress) {
                member.close(now, &self.progress);
            }
        }
        for member in &mut self.all {
            if let Connection::Open { stream, next_keepalive, established: true, .. } = &mut member.connection
                && *next_keepalive <= now
            {
                *next_keepalive = now + KEEPALIVES;
                // A connection that has ended is found out by reading it.
                drop(stream.write(&message(KEEPALIVE, &[])));
            }
        }
    }

    fn accept(&mut self, now: Instant) {
        while let Some(Ok((stream, _))) = self.listener.as_ref().map(TcpListener::accept) {
            let Ok(SocketAddr::V4(local)) = stream.local_addr() else { continue };
            if let Some(at) = self.plan.member(*local.ip()) {
                self.all[at].open(now, stream, &self.plan);
            }
        }
    }

    /// Waits a moment, and gives the members whose sockets have something.
    fn ready(&self) -> Vec<usize> {
        let mut sockets: Vec<usize> = Vec::new();
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        for (at, member) in self.all.iter().enumerate() {
            let (stream, flags) = match &member.connection {
                Connection::None { .. } => continue,
                Connection::Connecting(stream) => (stream, PollFlags::POLLOUT),
                Connection::Open { stream, .. } => (stream, PollFlags::POLLIN),
            };
            sockets.push(at);
            fds.push(PollFd::new(stream.as_fd(), flags));
        }
        if let Some(listener) = &self.listener {
            fds.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
        }
        if poll(&mut fds, PollTimeout::from(LOOK_MS)).is_err() {
            return Vec::new();
        }
        let has_something = |(at, fd): (&usize, &PollFd<'_>)| fd.any().unwrap_or(false).then_some(*at);
        sockets.iter().zip(&fds).filter_map(has_something).collect()
    }
}

impl Member {
    fn connect(&mut self, now: Instant, plan: &Plan) {
        self.connection = match connect(Plan::address(self.number), plan.node) {
            Ok(stream) => Connection::Connecting(stream),
            Err(_) => Connection::None { retry_at: now + RETRY },
        };
    }

    /// Says OPEN on a connection that is there.
    fn open(&mut self, now: Instant, mut stream: TcpStream, plan: &Plan) {
        let opened = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
        let said = opened.and_then(|()| stream.write_all(&open_of(plan.asn, Plan::address(self.number))));
        self.connection = match said {
            Ok(()) => Connection::Open {
                stream,
                input: Vec::new(),
                next_keepalive: now + KEEPALIVES,
                established: false,
            },
            Err(_) => Connection::None { retry_at: now + RETRY },
        };
    }

    fn serve(&mut self, now: Instant, plan: &Plan, progress: &Mutex<Progress>) -> io::Result<()> {
        if let Connection::Connecting(stream) = &self.connection {
            if let Some(error) = stream.take_error()? {
                return Err(error);
            }
            let stream = stream.try_clone()?;
            self.open(now, stream, plan);
            return Ok(());
        }
        let Connection::Open { stream, input, established, .. } = &mut self.connection else { return Ok(()) };
        read(stream, input)?;
        while let Some((kind, body)) = next(input) {
            match kind {
                OPEN => stream.write_all(&message(KEEPALIVE, &[]))?,
                KEEPALIVE if !*established => {
                    *established = true;
                    stream.write_all(&[update_of(self.number), message(UPDATE, &[0; 4])].concat())?;
                    if self.first_established.is_none() {
                        let at = *self.first_established.insert(Instant::now());
                        progress.lock().unwrap_or_else(PoisonError::into_inner).established.push(at);
                    }
                }
                UPDATE if self.first_told.is_none() && announces(&body, plan.awaited) => {
                    let at = *self.first_told.insert(Instant::now());
                    progress.lock().unwrap_or_else(PoisonError::into_inner).told.push(at);
                }
                NOTIFICATION => return Err(io::ErrorKind::ConnectionAborted.into()),
                _ => {}
            }
        }
        Ok(())
    }

    fn close(&mut self, now: Instant, progress: &Mutex<Progress>) {
        if let Connection::Open { established: true, .. } = self.connection {
            progress.lock().unwrap_or_else(PoisonError::into_inner).lost += 1;
        }
        self.connection = Connection::None { retry_at: now + RETRY };
    }
}

fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
    socket.bind(&SocketAddr::new(IpAddr::V4(from), 0).into())?;
    match socket.connect(&to.into()) {
        // Under way.
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// All there is to read now.
fn read(stream: &mut TcpStream, input: &mut Vec<u8>) -> io::Result<()> {
    let mut chunk = [0; 16 * 1024];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => input.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// The first whole message of `input`: its kind, and what follows the header.
fn next(input: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let length = usize::from(u16::from_be_bytes([*input.get(16)?, *input.get(17)?])).max(HEADER);
    if input.len() < length {
        return None;
    }
    let message: Vec<u8> = input.drain(..length).collect();
    Some((message[18], message[HEADER..].to_vec()))
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HEADER + body.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&[0xFF; 16][..], &length, &[kind], body].concat()
}

/// With IPv4 unicast and AS numbers of four octets (RFC 4760, RFC 6793).
fn open_of(asn: u32, id: Ipv4Addr) -> Vec<u8> {
    let two = u16::try_from(asn).unwrap_or(AS_TRANS).to_be_bytes();
    let capabilities = [&[1, 4, 0, 1, 0, 1, 65, 4][..], &asn.to_be_bytes()].concat();
    let length = u8::try_from(capabilities.len()).unwrap_or(u8::MAX);
    let head = [&[4][..], &two, &HOLD_TIME_S.to_be_bytes(), &id.octets()].concat();
    message(OPEN, &[&head[..], &[length + 2, 2, length], &capabilities].concat())
}

/// The member's prefix as an internal route: ORIGIN, an empty AS_PATH, NEXT_HOP, LOCAL_PREF.
fn update_of(number: u16) -> Vec<u8> {
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 3, 4];
    attributes.extend(Plan::address(number).octets());
    attributes.extend([0x40, 5, 4, 0, 0, 0, 100]);
    let length = u16::try_from(attributes.len()).unwrap_or(u16::MAX).to_be_bytes();
    let (prefix, bits) = Plan::prefix(number);
    let nlri = [&[bits][..], &prefix.octets()[..octets_of(bits)]].concat();
    message(UPDATE, &[&[0, 0][..], &length, &attributes, &nlri].concat())
}

/// Whether an UPDATE announces a prefix of IPv4 (RFC 4271 section 4.3).
fn announces(body: &[u8], (address, length): (Ipv4Addr, u8)) -> bool {
    let wanted = &address.octets()[..octets_of(length)];
    let skip = |rest: &[u8]| {
        let octets = usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
        Some(2 + octets)
    };
    let nlri = skip(body).and_then(|withdrawn| {
        let attributes = withdrawn + skip(body.get(withdrawn..)?)?;
        body.get(attributes..)
    });
    let mut rest = nlri.unwrap_or_default();
    while let [bits, more @ ..] = rest {
        let Some((prefix, behind)) = more.split_at_checked(octets_of(*bits)) else { return false };
        if (*bits, prefix) == (length, wanted) {
            return true;
        }
        rest = behind;
    }
    false
}

fn octets_of(bits: u8) -> usize {
    usize::from(bits).div_ceil(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announced_prefix_is_found_behind_others_and_a_withdrawn_one_is_not() {
        let wanted = (Ipv4Addr::new(10, 1, 0, 0), 16);
        let update = |withdrawn: &[u8], nlri: &[u8]| {
            let length = u16::try_from(withdrawn.len()).expect("short").to_be_bytes();
            [&length[..], withdrawn, &[0, 3, 0x40, 1, 1], nlri].concat()
        };
        assert!(announces(&update(&[], &[24, 10, 9, 9, 16, 10, 1]), wanted));
        assert!(!announces(&update(&[16, 10, 1], &[24, 10, 1, 0]), wanted));
        assert!(!announces(&update(&[], &[32, 10]), wanted), "cut off");
        assert!(!announces(&[0, 9], wanted), "cut off");
    }

    #[test]
    fn members_have_addresses_and_prefixes_of_their_own() {
        let all = |of: &dyn Fn(u16) -> Ipv4Addr| (0..1000).map(of).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(all(&Plan::address).len(), 1000);
        let node = SocketAddr::from(([10, 10, 0, 1], 179));
        let awaited = (Ipv4Addr::UNSPECIFIED, 0);
        let plan = Plan { members: 1000, asn: 1, node, opener: Opener::Node, awaited };
        assert!((0..1000).all(|number| plan.member(Plan::address(number)) == Some(number.into())));
        assert_eq!(plan.member(Plan::address(1000)), None);
        assert_eq!(all(&|member| Plan::prefix(member).0).len(), 1000);
    }

    #[test]
    fn messages_are_taken_off_one_by_one() {
        let mut input = [message(KEEPALIVE, &[]), message(UPDATE, &[1, 2]), vec![0xFF; 10]].concat();
        assert_eq!(next(&mut input), Some((KEEPALIVE, vec![])));
        assert_eq!(next(&mut input), Some((UPDATE, vec![1, 2])));
        assert_eq!(next(&mut input), None);
    }
}
