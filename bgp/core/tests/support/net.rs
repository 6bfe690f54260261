//! Routers on one virtual clock, joined by an in-memory TCP whose latency, losses and cuts the test sets.
//!
//! A test says who is there ([`Net::add`]), lets time pass ([`Net::run`]), does harm ([`Net::stop`],
//! [`Net::silence`], [`Net::cut`], [`Net::refuse`], [`Net::stall`]) and looks at what each router did
//! ([`Net::history`]) and sent ([`Net::sent`]). Nothing sleeps; the same test runs the same way each time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use cambric_bgp::peer::PeerState;
use cambric_bgp::rib::RouteChange;
use cambric_bgp::router::{PeerStatus, Restarted};
use cambric_bgp::wire::{MessageType, Notification, frame};
use cambric_bgp::{Action, Admin, ConnId, Family, PeerConfig, Prefix, Router, ScopedAddress, Wanted};

use super::scripted::Message;

/// One router of the net.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host(usize);

/// What a router gave out, in the order in which a driver gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Action(Action),
    Route(RouteChange),
}

/// How the way from one host to another is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Way {
    #[default]
    Open,
    /// What is sent is lost, and nobody is told.
    Silent,
    /// Nobody listens there.
    Refused,
}

#[derive(Debug)]
struct Node {
    address: IpAddr,
    wanted: Wanted,
    /// Absent while the process is not running.
    router: Option<Router>,
    /// What its kernel holds for it while it hangs.
    hangs: Option<Vec<(Socket, Packet)>>,
    sockets: BTreeMap<ConnId, Socket>,
    /// Its sockets take nothing; these connections wait.
    stalled: Option<BTreeSet<ConnId>>,
    history: Vec<Step>,
    fib: BTreeMap<Prefix, BTreeSet<IpAddr>>,
    /// Routes of an earlier run that this one has not told: they go when the router has converged.
    swept: BTreeSet<Prefix>,
}

/// One end of a TCP connection: 0 opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Socket {
    stream: usize,
    end: usize,
}

impl Socket {
    fn other(self) -> Socket {
        Socket { end: 1 - self.end, ..self }
    }
}

#[derive(Debug)]
struct Stream {
    hosts: [Host; 2],
    /// The router's name for each end, while it is open.
    conns: [Option<ConnId>; 2],
    /// When the last packet towards each end arrives: none overtakes it.
    last: [Instant; 2],
    /// Whether a packet towards each end was lost: TCP gives the end nothing of what comes behind it.
    torn: [bool; 2],
}

/// What a process sees first when it runs again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    Timers,
    Sockets,
}

/// What arrives at a socket.
#[derive(Debug)]
enum Packet {
    Syn,
    /// A connection that the kernel took while the process hung.
    Backlog,
    SynAck,
    Refused,
    Data(Vec<u8>),
    Fin(&'static str),
}

/// The net.
pub struct Net {
    pub now: Instant,
    origin: Instant,
    nodes: Vec<Node>,
    streams: Vec<Stream>,
    packets: BTreeMap<(Instant, u64), (Socket, Packet)>,
    sequence: u64,
    ways: BTreeMap<(Host, Host), Way>,
    latencies: BTreeMap<(Host, Host), Duration>,
    /// Added to each packet's latency at random, up to this.
    spread: Duration,
    dice: u64,
    sent: Vec<(Duration, Host, Host, Message)>,
}

impl Net {
    pub fn new() -> Net {
        let now = Instant::now();
        Net {
            now,
            origin: now,
            nodes: Vec::new(),
            streams: Vec::new(),
            packets: BTreeMap::new(),
            sequence: 0,
            ways: BTreeMap::new(),
            latencies: BTreeMap::new(),
            spread: Duration::ZERO,
            dice: 1,
            sent: Vec::new(),
        }
    }

    // --- who is there --------------------------------------------------------------------------------------

    /// A host, running for the first time.
    pub fn add(&mut self, wanted: Wanted) -> Host {
        let host = self.add_stopped(wanted);
        self.start(host, Restarted::No);
        host
    }

    /// A host that is not running yet.
    pub fn add_stopped(&mut self, wanted: Wanted) -> Host {
        self.nodes.push(Node {
            address: wanted.links[0].addresses[0].address,
            wanted,
            router: None,
            hangs: None,
            sockets: BTreeMap::new(),
            stalled: None,
            history: Vec::new(),
            fib: BTreeMap::new(),
            swept: BTreeSet::new(),
        });
        Host(self.nodes.len() - 1)
    }

    /// The process starts.
    pub fn start(&mut self, host: Host, restarted: Restarted) {
        self.start_with_disabled(host, restarted, BTreeSet::new());
    }

    /// The same, and its operator had switched these addresses off.
    pub fn start_with_disabled(&mut self, host: Host, restarted: Restarted, disabled: BTreeSet<IpAddr>) {
        let seed = self.roll();
        let disabled = disabled.into_iter().map(ScopedAddress::from).collect();
        let node = &mut self.nodes[host.0];
        node.swept = node.fib.keys().copied().collect();
        node.router = Some(Router::new(self.now, node.wanted.clone(), restarted, disabled, seed));
        self.work(host);
    }

    /// The process ends without a word; its kernel closes the connections and keeps the routes.
    pub fn stop(&mut self, host: Host) {
        self.nodes[host.0].router = None;
        for socket in std::mem::take(&mut self.nodes[host.0].sockets).into_values() {
            self.streams[socket.stream].conns[socket.end] = None;
            self.send(socket.other(), Packet::Fin("connection closed by the peer"));
        }
    }

    /// The wish of the operator of `host`.
    pub fn change(&mut self, host: Host, change: impl FnOnce(&mut Wanted)) {
        let node = &mut self.nodes[host.0];
        change(&mut node.wanted);
        let wanted = node.wanted.clone();
        let now = self.now;
        self.router_mut(host).apply(now, wanted);
        self.work(host);
    }

    /// The operator of `host` switches `peer` off or on.
    pub fn set_admin(&mut self, host: Host, peer: Host, admin: Admin) {
        let (address, now) = (self.address(peer), self.now);
        self.router_mut(host).set_admin_at(now, address, admin);
        self.work(host);
    }

    /// The operator of `host` wants a new session with `peer`.
    pub fn restart_peer(&mut self, host: Host, peer: Host) {
        let (id, now) = (self.peer(host, peer).id, self.now);
        self.router_mut(host).restart(now, id);
        self.work(host);
    }

    /// What a stopped host will want when it starts.
    pub fn wanted_mut(&mut self, host: Host) -> &mut Wanted {
        &mut self.nodes[host.0].wanted
    }

    /// The configuration of `peer` at `host`.
    pub fn change_peer(&mut self, host: Host, peer: Host, change: impl FnOnce(&mut PeerConfig)) {
        let address = self.nodes[peer.0].address;
        self.change(host, |wanted| change(wanted.peers.get_mut(&address.into()).expect("a configured peer")));
    }

    // --- harm ----------------------------------------------------------------------------------------------

    /// Both ways take `latency`.
    pub fn latency(&mut self, one: Host, other: Host, latency: Duration) {
        self.latencies.insert((one, other), latency);
        self.latencies.insert((other, one), latency);
    }

    /// The way from `from` to `to` takes `latency`.
    pub fn latency_one_way(&mut self, from: Host, to: Host, latency: Duration) {
        self.latencies.insert((from, to), latency);
    }

    /// From now on each packet takes up to `spread` longer, at random.
    pub fn spread(&mut self, spread: Duration, seed: u64) {
        (self.spread, self.dice) = (spread, seed);
    }

    /// Nothing arrives any more between the two, and nobody is told; a connection that lost a packet does
    /// not recover.
    pub fn silence(&mut self, one: Host, other: Host) {
        self.set_way(one, other, Way::Silent);
    }

    /// Nobody listens at `to` any more for `from`; connections that are there stay.
    pub fn refuse(&mut self, from: Host, to: Host) {
        self.ways.insert((from, to), Way::Refused);
    }

    /// New connections work again.
    pub fn mend(&mut self, one: Host, other: Host) {
        self.set_way(one, other, Way::Open);
    }

    /// All connections between the two break, and both ends are told.
    pub fn cut(&mut self, one: Host, other: Host) {
        for stream in 0..self.streams.len() {
            let hosts = self.streams[stream].hosts;
            if hosts == [one, other] || hosts == [other, one] {
                for end in [0, 1] {
                    self.arrive(Socket { stream, end }, Packet::Fin("connection reset"));
                }
            }
        }
    }

    /// The process of `host` does not run until [`Net::wake`]; its kernel goes on.
    pub fn hang(&mut self, host: Host) {
        self.nodes[host.0].hangs = Some(Vec::new());
    }

    /// It runs again, as a driver does: it looks at the clock, and then at its timers or at its sockets first.
    pub fn wake(&mut self, host: Host, first: First) {
        let now = self.now;
        let router = self.router_mut(host);
        if router.poll_timeout().is_some_and(|due| now > due + Router::HUNG) {
            router.handle_hang(now);
        }
        if first == First::Timers {
            router.handle_timeout(now);
            self.work(host);
        }
        for (socket, packet) in self.nodes[host.0].hangs.take().unwrap_or_default() {
            self.arrive(socket, packet);
        }
    }

    /// The sockets of `host` take nothing until [`Net::resume`].
    pub fn stall(&mut self, host: Host) {
        self.nodes[host.0].stalled.get_or_insert_default();
    }

    /// They take everything again.
    pub fn resume(&mut self, host: Host) {
        for conn in self.nodes[host.0].stalled.take().unwrap_or_default() {
            self.transmit(host, conn);
        }
    }

    fn set_way(&mut self, one: Host, other: Host, way: Way) {
        self.ways.insert((one, other), way);
        self.ways.insert((other, one), way);
    }

    // --- looks ---------------------------------------------------------------------------------------------

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.now - self.origin
    }

    pub fn address(&self, host: Host) -> IpAddr {
        self.nodes[host.0].address
    }

    pub fn router(&self, host: Host) -> &Router {
        self.nodes[host.0].router.as_ref().expect("a running host")
    }

    pub fn is_running(&self, host: Host) -> bool {
        self.nodes[host.0].router.is_some()
    }

    /// `peer` as `host` sees it.
    pub fn peer(&self, host: Host, peer: Host) -> PeerStatus {
        let id = self.router(host).peer_at(self.address(peer)).expect("a configured peer");
        self.router(host).peer(id).expect("a configured peer")
    }

    /// Whether both see the session up, on one and the same connection and no other.
    pub fn is_up(&self, one: Host, other: Host) -> bool {
        let up = |host, peer| {
            let id = self.router(host).peer_at(self.address(peer));
            let peer = id.and_then(|id| self.router(host).peer(id));
            peer.is_some_and(|peer| peer.state == PeerState::Established)
        };
        up(one, other) && up(other, one) && self.connections(one, other).len() == 1
    }

    /// Connections with an open end, as (who opened it, open at both ends).
    pub fn connections(&self, one: Host, other: Host) -> Vec<(Host, bool)> {
        let between = |stream: &&Stream| stream.hosts == [one, other] || stream.hosts == [other, one];
        let open =
            self.streams.iter().filter(between).filter(|stream| stream.conns.iter().any(Option::is_some));
        open.map(|stream| (stream.hosts[0], stream.conns.iter().all(Option::is_some))).collect()
    }

    /// What `host` gave out since the last call, but for [`Action::Transmit`].
    pub fn history(&mut self, host: Host) -> Vec<Step> {
        std::mem::take(&mut self.nodes[host.0].history)
    }

    /// The route changes of [`Net::history`].
    pub fn changes(&mut self, host: Host) -> Vec<RouteChange> {
        let steps = self.history(host).into_iter();
        steps.filter_map(|step| if let Step::Route(change) = step { Some(change) } else { None }).collect()
    }

    /// Learned routes in the kernel of `host`.
    pub fn fib(&self, host: Host) -> &BTreeMap<Prefix, BTreeSet<IpAddr>> {
        &self.nodes[host.0].fib
    }

    /// What `from` sent to `to` since the last call.
    pub fn sent(&mut self, from: Host, to: Host) -> Vec<Message> {
        let wanted = |entry: &mut (Duration, Host, Host, Message)| (entry.1, entry.2) == (from, to);
        self.sent.extract_if(.., wanted).map(|(.., message)| message).collect()
    }

    /// The UPDATEs of [`Net::sent`].
    pub fn updates(&mut self, from: Host, to: Host) -> Vec<Vec<u8>> {
        let messages = self.sent(from, to).into_iter();
        messages.filter(|message| message.kind == MessageType::Update).map(|message| message.body).collect()
    }

    /// The NOTIFICATIONs of [`Net::sent`].
    pub fn notifications(&mut self, from: Host, to: Host) -> Vec<Notification> {
        self.sent(from, to).iter().filter_map(Message::notification).collect()
    }

    /// Whether `host` holds the routes of `family` back no more.
    pub fn is_converged(&self, host: Host, family: Family) -> bool {
        self.router(host).is_converged(family)
    }

    // --- time ----------------------------------------------------------------------------------------------

    /// Lets `duration` pass.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.next().is_some_and(|at| at <= end) {
            self.step();
        }
        self.now = end;
    }

    /// Lets time pass until `done`, at most `limit`; how long it took.
    pub fn run_until(&mut self, limit: Duration, done: impl Fn(&Net) -> bool) -> Duration {
        let (start, end) = (self.now, self.now + limit);
        while !done(self) {
            assert!(self.next().is_some_and(|at| at <= end), "not in {limit:?}\n{}", self.trace());
            self.step();
        }
        self.now - start
    }

    /// Lets time pass until the two have a session, and nothing else is on the way.
    pub fn run_until_up(&mut self, one: Host, other: Host) -> Duration {
        self.run_until(Duration::from_secs(60), |net| net.is_up(one, other))
    }

    /// The messages since the start that no test has taken.
    pub fn trace(&self) -> String {
        let line = |(at, from, to, message): &(Duration, Host, Host, Message)| {
            let kind = message.notification().map_or(format!("{:?}", message.kind), |n| n.to_string());
            format!("{at:?} {} > {}: {kind}\n", self.address(*from), self.address(*to))
        };
        self.sent.iter().map(line).collect()
    }

    fn next(&self) -> Option<Instant> {
        let packet = self.packets.first_key_value().map(|((at, _), _)| *at);
        let awake = self.nodes.iter().filter(|node| node.hangs.is_none());
        let timers = awake.filter_map(|node| node.router.as_ref()?.poll_timeout());
        timers.chain(packet).min()
    }

    /// The next packet or timer; a packet first.
    fn step(&mut self) {
        let Some(at) = self.next() else { return };
        self.now = self.now.max(at);
        if let Some(entry) = self.packets.first_entry().filter(|entry| entry.key().0 <= at) {
            let (socket, packet) = entry.remove();
            return self.arrive(socket, packet);
        }
        for host in (0..self.nodes.len()).map(Host) {
            if self.nodes[host.0].hangs.is_some() {
                continue;
            }
            let Some(router) = &mut self.nodes[host.0].router else { continue };
            if router.poll_timeout().is_some_and(|due| due <= at) {
                router.handle_timeout(self.now);
                let next = router.poll_timeout();
                assert!(next.is_none_or(|next| next > at), "a timeout that stays due keeps the driver busy");
                self.work(host);
            }
        }
    }

    // --- TCP -----------------------------------------------------------------------------------------------

    fn send(&mut self, to: Socket, packet: Packet) {
        let stream = &self.streams[to.stream];
        let (from_host, to_host) = (stream.hosts[1 - to.end], stream.hosts[to.end]);
        let is_lost = self.ways.get(&(from_host, to_host)) == Some(&Way::Silent);
        let torn = &mut self.streams[to.stream].torn[to.end];
        *torn |= is_lost;
        if *torn {
            return;
        }
        let mut latency = self.latencies.get(&(from_host, to_host)).copied().unwrap_or_default();
        if !self.spread.is_zero() {
            latency += self.spread.mul_f64((self.roll() % 1000) as f64 / 1000.0);
        }
        let last = &mut self.streams[to.stream].last[to.end];
        *last = (self.now + latency).max(*last);
        self.sequence += 1;
        self.packets.insert((*last, self.sequence), (to, packet));
    }

    fn arrive(&mut self, at: Socket, packet: Packet) {
        let stream = &self.streams[at.stream];
        let (host, other) = (stream.hosts[at.end], stream.hosts[1 - at.end]);
        let (local, remote) = (self.address(host), self.address(other));
        if let Some(waiting) = &mut self.nodes[host.0].hangs {
            let is_syn = matches!(packet, Packet::Syn);
            waiting.push((at, if is_syn { Packet::Backlog } else { packet }));
            if is_syn {
                self.send(at.other(), Packet::SynAck);
            }
            return;
        }
        let (now, conn) = (self.now, stream.conns[at.end]);
        let is_closed = self.ways.get(&(other, host)) == Some(&Way::Refused);
        let refused = is_closed && matches!(packet, Packet::Syn);
        let Some(router) = self.nodes[host.0].router.as_mut().filter(|_| !refused) else {
            if matches!(packet, Packet::Syn) {
                self.send(at.other(), Packet::Refused);
            }
            return;
        };
        let was_taken = matches!(packet, Packet::Backlog);
        match (packet, conn) {
            (Packet::Syn | Packet::Backlog, _) => {
                let accepted = router.handle_accepted(now, local, remote);
                // The kernel has accepted it before the process says yes or no, and may have long ago.
                if !was_taken {
                    self.send(at.other(), Packet::SynAck);
                }
                match accepted {
                    Ok(conn) => self.open(host, conn, at),
                    Err(_) => self.send(at.other(), Packet::Fin("connection closed by the peer")),
                }
            }
            (Packet::SynAck, Some(conn)) => router.handle_connected(now, conn, local),
            (Packet::Data(octets), Some(conn)) => router.handle_bytes(now, conn, &octets),
            (Packet::Refused, Some(conn)) => {
                router.handle_connect_failed(now, conn, "connection refused");
                self.close(host, conn);
            }
            (Packet::Fin(why), Some(conn)) => {
                router.handle_closed(now, conn, why);
                self.close(host, conn);
            }
            (_, None) => {}
        }
        self.work(host);
    }

    fn open(&mut self, host: Host, conn: ConnId, socket: Socket) {
        self.streams[socket.stream].conns[socket.end] = Some(conn);
        self.nodes[host.0].sockets.insert(conn, socket);
    }

    fn close(&mut self, host: Host, conn: ConnId) -> Option<Socket> {
        let socket = self.nodes[host.0].sockets.remove(&conn)?;
        self.streams[socket.stream].conns[socket.end] = None;
        Some(socket)
    }

    // --- the driver ----------------------------------------------------------------------------------------

    fn router_mut(&mut self, host: Host) -> &mut Router {
        self.nodes[host.0].router.as_mut().expect("a running host")
    }

    /// Polls all that `host` has to give, as a driver does after each call.
    fn work(&mut self, host: Host) {
        while let Some(action) = self.router_mut(host).poll_action() {
            match &action {
                Action::Connect { conn, remote, .. } => self.connect(host, *conn, remote.ip()),
                Action::Close { conn, last_words } => {
                    if let Some(socket) = self.close(host, *conn) {
                        self.write(host, socket, last_words.clone());
                        self.send(socket.other(), Packet::Fin("connection closed by the peer"));
                    }
                }
                Action::Transmit(conn) => {
                    self.transmit(host, *conn);
                    continue;
                }
                Action::Converged(family) => self.sweep(host, *family),
                Action::NextHopLost(gateway) => self.turn_away(host, gateway),
                Action::PeerChanged { .. } => {}
            }
            self.nodes[host.0].history.push(Step::Action(action));
        }
        self.take_routes(host);
    }

    /// Nothing is forwarded over `gateway` until a route says so anew.
    fn turn_away(&mut self, host: Host, gateway: &ScopedAddress) {
        let fib = &mut self.nodes[host.0].fib;
        fib.retain(|_, next_hops| {
            next_hops.remove(&gateway.ip());
            !next_hops.is_empty()
        });
    }

    fn take_routes(&mut self, host: Host) {
        while let Some(change) = self.router_mut(host).poll_route_change() {
            let node = &mut self.nodes[host.0];
            node.swept.remove(&change.prefix);
            match change.next_hops.is_empty() {
                true => node.fib.remove(&change.prefix),
                false => {
                    node.fib.insert(change.prefix, change.next_hops.iter().map(ScopedAddress::ip).collect())
                }
            };
            node.history.push(Step::Route(change));
        }
    }

    /// Removes what is left of an earlier run.
    fn sweep(&mut self, host: Host, family: Family) {
        self.take_routes(host);
        let node = &mut self.nodes[host.0];
        for prefix in node.swept.extract_if(.., |prefix| prefix.family() == family) {
            node.fib.remove(&prefix);
        }
    }

    fn connect(&mut self, host: Host, conn: ConnId, remote: IpAddr) {
        let Some(other) = self.nodes.iter().position(|node| node.address == remote) else { return };
        let hosts = [host, Host(other)];
        self.streams.push(Stream { hosts, conns: [None, None], last: [self.now; 2], torn: [false; 2] });
        let socket = Socket { stream: self.streams.len() - 1, end: 0 };
        self.open(host, conn, socket);
        self.send(socket.other(), Packet::Syn);
    }

    fn transmit(&mut self, host: Host, conn: ConnId) {
        let node = &mut self.nodes[host.0];
        let Some(socket) = node.sockets.get(&conn).copied() else { return };
        if let Some(waiting) = &mut node.stalled {
            waiting.insert(conn);
            return;
        }
        let mut octets = Vec::new();
        while self.router_mut(host).poll_transmit(conn, &mut octets) {}
        self.write(host, socket, octets);
    }

    fn write(&mut self, host: Host, socket: Socket, octets: Vec<u8>) {
        let to = self.streams[socket.stream].hosts[1 - socket.end];
        let mut rest = octets.as_slice();
        while let Some(next) = frame::next(rest, frame::EXTENDED_MESSAGE_BYTES).expect("well-formed output") {
            let message = Message { kind: next.kind, body: next.body.to_vec() };
            self.sent.push((self.elapsed(), host, to, message));
            rest = &rest[next.length..];
        }
        assert!(rest.is_empty(), "half a message");
        if !octets.is_empty() {
            self.send(socket.other(), Packet::Data(octets));
        }
    }

    /// xorshift: for latencies and seeds.
    fn roll(&mut self) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice
    }
}
