//! One router and all that can happen to it: connections, messages, time, wishes of its operator, in an order that nobody
//! thought of. After each step all work is taken, as a driver does, and what must always hold is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use cambric_bgp::config::{
    AddPath, ConnectMode, Export, Import, Link, LinkAddress, LinkState, ListenRange, Receive, ReflectorRole,
    RestartConfig,
};
use cambric_bgp::peer::PeerState;
use cambric_bgp::rib::{Part, PathInfo, Reason, Verdict};
use cambric_bgp::router::Restarted;
use cambric_bgp::wire::MessageType;
use cambric_bgp::wire::frame::{self, EXTENDED_MESSAGE_BYTES};
use cambric_bgp::{
    Action, Admin, Asn, ConnId, Family, Originated, PeerAsn, PeerConfig, PeerPolicy, Prefix, Router,
    RouterConfig, RouterId, ScopedAddress, Source, Wanted,
};

use crate::input::Input;
use crate::session::open_body;

/// Steps of one input.
const MOST_STEPS: usize = 200;
/// What one step may give out before it counts as endless.
const MOST_WORK: usize = 10_000;

const OWN: &str = "10.2.0.1";
/// An external one, an internal one that is a client, an external one with little room that we do not connect to, and one
/// of a range.
const PEERS: [(&str, u32); 4] =
    [("10.2.0.2", 65002), ("10.2.0.3", 65001), ("10.2.0.4", 4_200_000_004), ("10.9.0.7", 65009)];
const NEXT_HOPS: [&str; 6] = ["10.2.0.2", "10.2.0.3", "10.2.0.4", "10.9.0.7", "192.0.2.1", OWN];
const PREFIXES: [&str; 10] = [
    "10.244.1.0/24",
    "10.244.2.0/24",
    "10.244.3.0/24",
    "10.244.0.0/16",
    "0.0.0.0/0",
    "10.2.0.9/32",
    "fd00:244:1::/64",
    "fd00:244:2::/64",
    "fd00:244:3::/64",
    "::/0",
];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn prefix(text: &str) -> Prefix {
    text.parse().expect("a prefix")
}

fn asn(value: u32) -> Asn {
    Asn::new(value).expect("not 0")
}

fn wanted() -> Wanted {
    let router_id: RouterId = OWN.parse().expect("an identifier");
    let mut wanted = Wanted::new(RouterConfig::new(asn(65001), router_id));
    let addresses = [(OWN, 16), ("10.9.0.1", 24), ("fd00:2::1", 64)];
    let addresses =
        addresses.map(|(address, length)| LinkAddress::new(ip(address), length).expect("a length"));
    wanted.links = vec![Link { name: "eth1".to_owned(), state: LinkState::Up, addresses: addresses.into() }];
    wanted.declared.pods = vec![prefix("10.244.0.0/16"), prefix("fd00:244::/32")];
    wanted.declared.nodes = [ip("10.2.0.9")].into();
    wanted.originated = [(prefix("10.244.1.0/24"), Originated::plain(Source::Pods))].into();
    let open = PeerPolicy { import: Import::All, export: Export::All, ..PeerPolicy::default() };
    for (at, (address, peer_asn)) in PEERS.iter().take(3).enumerate() {
        let mut config = PeerConfig::new(*address, ip(address), asn(*peer_asn));
        config.families = Family::ALL.into();
        match at {
            0 => {
                config.policy = open.clone();
                let several = AddPath { receive: Receive::Several, send: NonZeroU8::new(2) };
                config.add_path = Family::ALL.map(|family| (family, several)).into();
            }
            1 => config.role = ReflectorRole::Client,
            _ => {
                config.connect = ConnectMode::Passive;
                config.max_prefixes = 2;
                config.restart =
                    RestartConfig { restart_time: Some(Duration::ZERO), long_lived: Duration::ZERO };
            }
        }
        wanted.peers.insert(ip(address).into(), config);
    }
    let mut template = PeerConfig::new("range", ip("10.9.0.0"), PeerAsn::External);
    template.policy = open;
    wanted.listen_ranges.insert(prefix("10.9.0.0/24"), ListenRange { template, most_peers: 2 });
    wanted
}

/// One TCP connection as the world outside has it.
#[derive(Debug)]
struct Socket {
    peer: usize,
    /// What the peer wrote in its last OPEN on it: AS numbers, and whether it tells several paths to a prefix of a family.
    four_octets: bool,
    tells_several: BTreeSet<Family>,
    is_open: bool,
    /// It takes nothing.
    is_stalled: bool,
    /// An UPDATE came over it: it was Established.
    told_routes: bool,
    output: Vec<u8>,
}

struct Machine {
    now: Instant,
    router: Router,
    wanted: Wanted,
    sockets: BTreeMap<ConnId, Socket>,
    /// Those that are gone: what was read from them may come late.
    gone: Vec<ConnId>,
    kernel: BTreeMap<Prefix, BTreeSet<ScopedAddress>>,
}

/// A router under a sequence of events.
pub(crate) fn state_machine(octets: &[u8]) {
    let mut input = Input::new(octets);
    let now = Instant::now();
    let restarted = match input.flag() {
        true => Restarted::Yes { kept: [Family::Ipv4].into() },
        false => Restarted::No,
    };
    let router = Router::new(now, wanted(), restarted, BTreeSet::new(), 7);
    let mut machine = Machine {
        now,
        router,
        wanted: wanted(),
        sockets: BTreeMap::new(),
        gone: Vec::new(),
        kernel: BTreeMap::new(),
    };
    machine.work();
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        machine.step(&mut input);
        machine.work();
        machine.check();
    }
    // Nobody is left waiting for something that nobody does.
    machine.pass(Duration::from_secs(600));
    machine.check();
}

impl Machine {
    fn step(&mut self, input: &mut Input<'_>) {
        let now = self.now;
        match input.below(16) {
            0 => {
                let peer = input.below(PEERS.len());
                if let Ok(conn) = self.router.handle_accepted(now, ip(OWN), ip(PEERS[peer].0)) {
                    self.sockets.insert(conn, Socket { is_open: true, ..Socket::to(peer) });
                }
            }
            1 => self.connected(input),
            2 => self.closed(input),
            3 => self.establish(input),
            4..=8 => self.message(input),
            9 | 10 => {
                let step = Duration::from_millis(50 << input.below(12));
                self.pass(step);
            }
            11 => self.hang(Duration::from_secs(u64::from(input.octet()))),
            12 => self.operate(input),
            13 | 14 => self.wish(input),
            _ => self.stall(input),
        }
    }

    /// One of the sockets; now and then one that is no more.
    fn conn(&self, input: &mut Input<'_>) -> Option<ConnId> {
        let pick = input.octet();
        let of = |all: Vec<ConnId>| all.get(usize::from(pick >> 1) % all.len().max(1)).copied();
        match pick {
            250.. => of(self.gone.clone()),
            _ => of(self.sockets.keys().copied().collect()),
        }
    }

    fn connected(&mut self, input: &mut Input<'_>) {
        let Some(conn) = self.conn(input) else { return };
        let Some(socket) = self.sockets.get_mut(&conn).filter(|socket| !socket.is_open) else { return };
        if input.flag() {
            socket.is_open = true;
            return self.router.handle_connected(self.now, conn, ip(OWN));
        }
        self.forget(conn);
        self.router.handle_connect_failed(self.now, conn, "connection refused");
    }

    fn closed(&mut self, input: &mut Input<'_>) {
        let Some(conn) = self.conn(input) else { return };
        self.forget(conn);
        self.router.handle_closed(self.now, conn, "connection reset");
    }

    fn forget(&mut self, conn: ConnId) {
        self.sockets.remove(&conn);
        self.gone.push(conn);
    }

    /// What chance would seldom find: a session, from the connection to the first KEEPALIVE.
    fn establish(&mut self, input: &mut Input<'_>) {
        let (peer, chosen) = (input.below(PEERS.len()), input.u16());
        if let Ok(conn) = self.router.handle_accepted(self.now, ip(OWN), ip(PEERS[peer].0)) {
            let tells_several = tells_several(peer, chosen);
            self.sockets.insert(conn, Socket { is_open: true, tells_several, ..Socket::to(peer) });
            self.work();
            self.read(conn, &open(peer, chosen, true));
            self.work();
            self.read(conn, &message(4, &[]));
        }
    }

    fn read(&mut self, conn: ConnId, octets: &[u8]) {
        self.router.handle_bytes(self.now, conn, octets);
    }

    fn message(&mut self, input: &mut Input<'_>) {
        let Some(conn) = self.conn(input) else { return };
        let Some(socket) = self.sockets.get_mut(&conn).filter(|socket| socket.is_open) else {
            if self.gone.contains(&conn) {
                self.read(conn, &message(4, &[]));
            }
            return;
        };
        let octets = match input.below(12) {
            0 => {
                let (chosen, bits) = (input.u16(), input.octet());
                socket.four_octets = bits & 3 != 0;
                socket.tells_several = tells_several(socket.peer, chosen);
                open(socket.peer, chosen, socket.four_octets)
            }
            1 => message(4, &[]),
            2..=5 => announce(socket, input),
            6 => withdraw(socket, input),
            7 => match input.flag() {
                true => message(2, &[0, 0, 0, 0]),
                false => message(2, &[0, 0, 0, 6, 0x80, 15, 3, 0, 2, 1]),
            },
            8 => {
                let (afi, subtype) = (1 + input.octet() % 2, input.octet() % 4);
                message(5, &[0, afi, subtype, 1])
            }
            9 => {
                let (code, subcode) = (input.octet() % 10, input.octet() % 12);
                message(3, &[&[code, subcode], input.chunk()].concat())
            }
            10 => {
                let kind = input.octet() % 7;
                message(kind, input.chunk())
            }
            _ => input.chunk().to_vec(),
        };
        self.read(conn, &octets);
    }

    /// With a stop at every deadline.
    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        for _ in 0..MOST_WORK {
            let Some(due) = self.router.poll_timeout().filter(|due| *due <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(due);
            self.router.handle_timeout(self.now);
            self.work();
            let next = self.router.poll_timeout();
            assert!(
                next.is_none_or(|next| next > self.now),
                "a timeout that stays due keeps the driver busy"
            );
        }
        panic!("more than {MOST_WORK} timeouts in {duration:?}");
    }

    fn hang(&mut self, duration: Duration) {
        self.now += duration;
        if self.router.poll_timeout().is_some_and(|due| self.now > due + Router::HUNG) {
            self.router.handle_hang(self.now);
        }
        self.work();
        self.router.handle_timeout(self.now);
    }

    fn operate(&mut self, input: &mut Input<'_>) {
        let address = ip(PEERS[input.below(PEERS.len())].0);
        match input.below(3) {
            0 => self.router.set_admin_at(self.now, address, Admin::Disabled),
            1 => self.router.set_admin_at(self.now, address, Admin::Enabled),
            _ => {
                if let Some(peer) = self.router.peer_at(address) {
                    self.router.restart(self.now, peer);
                }
            }
        }
    }

    fn wish(&mut self, input: &mut Input<'_>) {
        let first = wanted();
        let wish = &mut self.wanted;
        match input.below(16) {
            0 => *wish = first,
            1 => drop(wish.peers.remove(&ip(PEERS[input.below(3)].0).into())),
            2 => wish.peers = first.peers,
            3 => wish.links[0].state = LinkState::Down,
            4 => wish.links[0].state = LinkState::Up,
            5 => drop(wish.originated.insert(prefix("10.244.3.0/24"), Originated::plain(Source::Services))),
            6 => drop(wish.originated.insert(prefix("10.244.0.0/16"), Originated::plain(Source::Aggregate))),
            7 => wish.originated.clear(),
            8 => wish.drain.services = Some(self.now),
            9 => (wish.drain.services, wish.drain.pods) = (None, input.flag().then_some(self.now)),
            10 => wish.router.max_paths = 1 + input.below(4),
            11 => wish.declared.pods.clear(),
            12 => wish.router.asn = asn(65001 + u32::from(input.octet() % 2)),
            13 => wish.listen_ranges.clear(),
            14 => wish.peers.values_mut().for_each(|peer| peer.max_prefixes = 1 + input.below(4)),
            _ => wish.peers.values_mut().for_each(|peer| {
                let all = input.flag();
                peer.policy.import = if all { Import::All } else { Import::Declared };
                peer.policy.export = if all { Export::All } else { Export::Own };
                peer.allow_own_as = input.octet() % 3;
            }),
        }
        self.router.apply(self.now, self.wanted.clone());
    }

    fn stall(&mut self, input: &mut Input<'_>) {
        let Some(conn) = self.conn(input) else { return };
        let Some(socket) = self.sockets.get_mut(&conn) else { return };
        socket.is_stalled = !socket.is_stalled;
        if !socket.is_stalled {
            self.transmit(conn);
        }
    }

    // --- the driver ----------------------------------------------------------------------------------------

    fn work(&mut self) {
        for _ in 0..MOST_WORK {
            let Some(action) = self.router.poll_action() else { return self.take_routes() };
            match action {
                Action::Connect { conn, remote, .. } => {
                    let peer = PEERS.iter().position(|(address, _)| ip(address) == remote.ip());
                    let before = self.sockets.insert(conn, Socket::to(peer.expect("a configured peer")));
                    assert!(before.is_none() && !self.gone.contains(&conn), "a name that is used again");
                }
                Action::Close { conn, last_words } => {
                    // One that was not wanted is closed before we know its name.
                    if let Some(mut socket) = self.sockets.remove(&conn) {
                        socket.output.extend_from_slice(&last_words);
                        socket.take_messages();
                        assert!(socket.output.is_empty(), "half a message");
                    }
                    self.gone.push(conn);
                }
                Action::Transmit(conn) => {
                    if self.sockets.get(&conn).is_some_and(|socket| !socket.is_stalled) {
                        self.transmit(conn);
                    }
                }
                Action::NextHopLost(gateway) => {
                    self.kernel.retain(|_, next_hops| {
                        next_hops.remove(&gateway);
                        !next_hops.is_empty()
                    });
                }
                Action::Converged(_) | Action::PeerChanged { .. } => {}
            }
        }
        panic!("more than {MOST_WORK} actions");
    }

    fn take_routes(&mut self) {
        for _ in 0..MOST_WORK {
            let Some(change) = self.router.poll_route_change() else { return };
            match change.next_hops.is_empty() {
                true => self.kernel.remove(&change.prefix),
                false => self.kernel.insert(change.prefix, change.next_hops),
            };
        }
        panic!("more than {MOST_WORK} changes of routes");
    }

    fn transmit(&mut self, conn: ConnId) {
        let mut octets = Vec::new();
        let mut rounds = 0;
        while self.router.poll_transmit(conn, &mut octets) {
            rounds += 1;
            assert!(rounds < MOST_WORK, "no end of octets");
        }
        let Some(socket) = self.sockets.get_mut(&conn) else { return assert!(octets.is_empty()) };
        assert!(socket.is_open || octets.is_empty(), "octets for a connection that is not there yet");
        socket.output.extend_from_slice(&octets);
        socket.take_messages();
        assert!(socket.output.is_empty(), "half a message");
    }

    // --- what always holds ---------------------------------------------------------------------------------

    fn check(&self) {
        self.check_connections();
        self.check_counts();
        self.check_kernel();
    }

    fn check_connections(&self) {
        for (peer, (address, _)) in PEERS.iter().enumerate() {
            let sockets = || self.sockets.values().filter(|socket| socket.peer == peer);
            assert!(sockets().count() <= 2, "more than two connections");
            assert!(sockets().filter(|socket| socket.told_routes).count() <= 1, "more than one session");
            let status = self.router.peer_at(ip(address)).and_then(|id| self.router.peer(id));
            let state = status.as_ref().map_or(PeerState::Idle, |status| status.state);
            assert!(state != PeerState::Established || sockets().any(|socket| socket.is_open));
            assert_eq!(status.and_then(|status| status.session).is_some(), state == PeerState::Established);
        }
    }

    /// The numbers of each peer are those of its listings.
    fn check_counts(&self) {
        for peer in self.router.peers() {
            let told = self.router.routes_to(&self.router.prefixes(Part::ToldBy(peer.id)));
            let sent = self.router.sent(peer.id, &self.router.prefixes(Part::ToldTo(peer.id)));
            for (family, counts) in peer.counts {
                let of_family = told.iter().filter(|route| route.prefix.family() == family);
                let paths: Vec<_> = of_family
                    .flat_map(|route| &route.paths)
                    .filter(|path| path.peer == Some(peer.id))
                    .collect();
                let is_refused = |verdict: &Verdict| matches!(verdict, Verdict::Refused(_));
                let refused = paths.iter().filter(|path| is_refused(&path.verdict)).count();
                assert_eq!(counts.accepted, paths.len() - refused, "{family:?} of {}", peer.address);
                assert_eq!(counts.refused, refused + counts.not_kept, "{family:?} of {}", peer.address);
                assert_eq!(counts.received, counts.accepted + counts.refused);
                assert_eq!(
                    counts.sent,
                    sent.iter().filter(|(route, _)| route.prefix.family() == family).count()
                );
            }
            let stale = peer.stale.iter().map(|stale| stale.routes).sum::<usize>();
            let of_peer = |path: &&PathInfo| path.peer == Some(peer.id);
            assert!(stale <= told.iter().flat_map(|route| &route.paths).filter(of_peer).count());
        }
    }

    /// The kernel has what the decision says, but for families for which nothing is decided yet.
    fn check_kernel(&self) {
        let routes = self.router.routes_to(&self.router.prefixes(Part::All));
        let decided = routes.iter().filter_map(|route| {
            let is_local = |path: &&_| matches!(path, PathInfo { peer: None, .. });
            if route.paths.iter().any(|path| is_local(&path) && path.verdict == Verdict::Best) {
                return None;
            }
            let used = route
                .paths
                .iter()
                .filter(|path| matches!(path.verdict, Verdict::Best | Verdict::Lost(Reason::Multipath)));
            let next_hops: BTreeSet<ScopedAddress> =
                used.map(|path| path.changed.as_ref().unwrap_or(&path.attributes).next_hop.into()).collect();
            (!next_hops.is_empty()).then_some((route.prefix, next_hops))
        });
        let decided: BTreeMap<Prefix, BTreeSet<ScopedAddress>> = decided.collect();
        let said = self.router.learned_routes().into_iter().map(|change| (change.prefix, change.next_hops));
        assert_eq!(said.collect::<BTreeMap<_, _>>(), self.kernel);
        for family in Family::ALL.into_iter().filter(|family| self.router.is_converged(*family)) {
            let of_family = |table: &BTreeMap<Prefix, BTreeSet<ScopedAddress>>| -> BTreeMap<_, _> {
                table.clone().into_iter().filter(|(prefix, _)| prefix.family() == family).collect()
            };
            assert_eq!(of_family(&self.kernel), of_family(&decided));
        }
    }
}

impl Socket {
    /// That is being opened.
    fn to(peer: usize) -> Socket {
        Socket {
            peer,
            four_octets: true,
            tells_several: BTreeSet::new(),
            is_open: false,
            is_stalled: false,
            told_routes: false,
            output: Vec::new(),
        }
    }

    /// A prefix as it stands in an UPDATE.
    fn encoded(&self, prefix: &Prefix, input: &mut Input<'_>) -> Vec<u8> {
        match self.tells_several.contains(&prefix.family()) {
            true => [&[0, 0, 0, input.octet() % 4], &encoded(prefix)[..]].concat(),
            false => encoded(prefix),
        }
    }

    /// What the router writes is well-formed.
    fn take_messages(&mut self) {
        while let Some(frame) = frame::next(&self.output, EXTENDED_MESSAGE_BYTES).expect("well-formed output")
        {
            self.told_routes |= frame.kind == MessageType::Update;
            let length = frame.length;
            self.output.drain(..length);
        }
    }
}

/// A message: header and body.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut octets = vec![0xFF; 16];
    octets.extend_from_slice(&(19 + body.len() as u16).to_be_bytes());
    octets.push(kind);
    octets.extend_from_slice(body);
    octets
}

fn open(peer: usize, chosen: u16, four_octets: bool) -> Vec<u8> {
    let (address, asn) = PEERS[peer];
    let IpAddr::V4(id) = ip(address) else { unreachable!("peers have IPv4 addresses") };
    message(1, &open_body(asn, id.into(), chosen, four_octets))
}

/// The families of which a peer with these capabilities tells several paths: the first alone is asked for them, and of what
/// it says twice the last counts.
fn tells_several(peer: usize, chosen: u16) -> BTreeSet<Family> {
    let (both_ways, one_way) = (chosen >> 7 & 1 == 1, chosen >> 8 & 1 == 1);
    let families = [(Family::Ipv4, both_ways && !one_way), (Family::Ipv6, both_ways || one_way)];
    families.into_iter().filter(|(_, several)| *several && peer == 0).map(|(family, _)| family).collect()
}

/// A prefix in the octets of an UPDATE.
fn encoded(prefix: &Prefix) -> Vec<u8> {
    let octets = match prefix.address() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let significant = usize::from(prefix.length()).div_ceil(8);
    [&[prefix.length()], &octets[..significant]].concat()
}

/// A good announcement, most of the time.
fn announce(socket: &Socket, input: &mut Input<'_>) -> Vec<u8> {
    let chosen = prefix(PREFIXES[input.below(PREFIXES.len())]);
    let (next_hop, path, extra) = (input.below(NEXT_HOPS.len()), input.octet(), input.octet());
    let own = PEERS[socket.peer].1;
    let mut asns = if own == 65001 { Vec::new() } else { vec![own] };
    asns.extend(
        [65010, 65001, 65002, 4_200_000_004]
            .iter()
            .enumerate()
            .filter(|(bit, _)| path >> bit & 1 == 1)
            .map(|(_, asn)| asn),
    );
    let mut list = vec![0x40, 1, 1, path >> 6 & 1];
    let width = if socket.four_octets { 4 } else { 2 };
    list.extend_from_slice(&[0x40, 2, if asns.is_empty() { 0 } else { 2 + width * asns.len() as u8 }]);
    if !asns.is_empty() {
        list.extend_from_slice(&[2, asns.len() as u8]);
    }
    for asn in asns {
        match socket.four_octets {
            true => list.extend_from_slice(&asn.to_be_bytes()),
            false => list.extend_from_slice(&u16::try_from(asn).unwrap_or(23456).to_be_bytes()),
        }
    }
    if extra & 1 == 1 {
        list.extend_from_slice(&[0x80, 4, 4, 0, 0, 0, extra >> 6]);
    }
    if extra & 2 == 2 {
        list.extend_from_slice(&[0x40, 5, 4, 0, 0, 0, 100 + (extra >> 6)]);
    }
    if extra & 4 == 4 {
        let community = [[0xFF, 0xFF, 0, 0], [0xFF, 0xFF, 0, 6], [0xFF, 0xFF, 0, 7], [0xFF, 0xFF, 0xFF, 1]];
        list.extend_from_slice(&[0xC0, 8, 4]);
        list.extend_from_slice(&community[usize::from(extra >> 6)]);
    }
    if extra & 8 == 8 {
        list.extend_from_slice(&[0x80, 9, 4, 10, 2, 0, extra >> 6, 0x80, 10, 4, 10, 2, 0, extra >> 5]);
    }
    let route = socket.encoded(&chosen, input);
    match chosen.family() {
        Family::Ipv4 => {
            let IpAddr::V4(address) = ip(NEXT_HOPS[next_hop]) else { unreachable!("an IPv4 next hop") };
            list.extend_from_slice(&[0x40, 3, 4]);
            list.extend_from_slice(&address.octets());
            let length = (list.len() as u16).to_be_bytes();
            message(2, &[&[0, 0][..], &length, &list, &route].concat())
        }
        Family::Ipv6 => {
            let mut value = vec![0, 2, 1, 16, 0xFD, 0, 0, 2];
            value.extend_from_slice(&[0; 11]);
            value.extend_from_slice(&[2 + next_hop as u8, 0]);
            value.extend_from_slice(&route);
            let list = [&[0x80, 14, value.len() as u8], &value[..], &list].concat();
            let length = (list.len() as u16).to_be_bytes();
            message(2, &[&[0, 0][..], &length, &list].concat())
        }
    }
}

fn withdraw(socket: &Socket, input: &mut Input<'_>) -> Vec<u8> {
    let chosen = prefix(PREFIXES[input.below(PREFIXES.len())]);
    let prefix = socket.encoded(&chosen, input);
    match chosen.family() {
        Family::Ipv4 => message(2, &[&[0, prefix.len() as u8][..], &prefix, &[0, 0]].concat()),
        Family::Ipv6 => {
            let value = [&[0, 2, 1][..], &prefix].concat();
            let list = [&[0x80, 15, value.len() as u8][..], &value].concat();
            message(2, &[&[0, 0, 0, list.len() as u8][..], &list].concat())
        }
    }
}
