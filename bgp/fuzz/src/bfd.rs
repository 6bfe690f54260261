//! Two hosts with three sessions of BFD between them, packets that are lost, changed, made up or late, and wishes of their
//! operators. When that is over, all sessions come up; when packets end, they go down.

use std::collections::{BTreeMap, VecDeque};
use std::num::{NonZeroU8, NonZeroU32};
use std::time::{Duration, Instant};

use cambric_bfd::{Arrived, Config, Neighbor, Refusal, State, Status, TTL, Table};

use crate::input::Input;

const MOST_STEPS: usize = 300;
/// What one step may give out before it counts as endless.
const MOST_WORK: usize = 1000;
/// In it all sessions come up: more than the longest farewell (one minute) and some packets a second apart.
const HEALS: Duration = Duration::from_secs(90);
/// Longer is nothing that our own side would ask for.
const LONG: Duration = Duration::from_secs(15);
/// On a link both have, and where the address alone says who it is.
const LINKS: [(&str, &str, Option<u32>); 3] =
    [("10.2.0.1", "10.2.0.2", None), ("fd00:2::1", "fd00:2::2", None), ("fe80::1", "fe80::2", Some(3))];

/// One of the two.
struct Host {
    table: Table,
    wanted: BTreeMap<Neighbor, Config>,
    /// What is on its way to it.
    incoming: VecDeque<(Arrived, Vec<u8>)>,
}

struct Pair {
    now: Instant,
    hosts: [Host; 2],
}

pub(crate) fn bfd(octets: &[u8]) {
    let mut input = Input::new(octets);
    let mut pair = Pair::new();
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        pair.step(&mut input);
    }
    pair.heals();
    pair.falls_silent();
}

/// Whom host `at` has its session `link` with.
fn neighbor(at: usize, link: usize) -> Neighbor {
    let (first, second, interface) = LINKS[link];
    let address = [second, first][at].parse().expect("an address");
    Neighbor { address, interface: interface.and_then(NonZeroU32::new) }
}

/// As a packet of `neighbor` arrives.
fn arrived(neighbor: Neighbor) -> Arrived {
    let eth2 = NonZeroU32::new(2);
    Arrived { source: neighbor.address, interface: neighbor.interface.or(eth2), ttl: TTL }
}

fn config(input: &mut Input<'_>) -> Config {
    let mut time = || Duration::from_millis(u64::from(input.u16() % 2000));
    let (transmit, receive) = (time(), time());
    let multiplier = NonZeroU8::MIN.saturating_add(u8::try_from(input.below(5)).expect("below 5"));
    Config { transmit, receive, multiplier }
}

impl Pair {
    fn new() -> Pair {
        let now = Instant::now();
        let host = |at: usize| {
            let wanted = (0..LINKS.len()).map(|link| (neighbor(at, link), Config::default())).collect();
            Host { table: Table::new(at as u64), wanted, incoming: VecDeque::new() }
        };
        let mut pair = Pair { now, hosts: [host(0), host(1)] };
        (0..2).for_each(|at| pair.apply(at));
        pair
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let at = input.below(2);
        match input.below(8) {
            0 => {
                self.now += Duration::from_millis(u64::from(input.u16() % 4000));
                self.hosts.iter_mut().for_each(|host| host.table.handle_timeout(self.now));
            }
            1 => self.next_timeout(),
            2 => drop(self.hosts[at].incoming.pop_front()),
            3 => {
                if let Some((_, packet)) = self.hosts[at].incoming.front_mut() {
                    let place = input.below(packet.len());
                    packet[place] ^= input.octet();
                }
                self.deliver(at);
            }
            4 => {
                let link = input.below(LINKS.len());
                if input.flag() {
                    self.hosts[at].wanted.insert(neighbor(at, link), config(input));
                } else {
                    self.hosts[at].wanted.remove(&neighbor(at, link));
                }
                self.apply(at);
            }
            5 => {
                let mut arrived = arrived(neighbor(at, input.below(LINKS.len())));
                arrived.ttl = arrived.ttl.saturating_sub(u8::from(input.octet() == 1));
                let packet = input.chunk().to_vec();
                self.hosts[at].incoming.push_front((arrived, packet));
                self.deliver(at);
            }
            6 => self.make_up(at, input),
            _ => {
                if let Some(Err(refusal)) = self.deliver(at) {
                    let is_of_before = matches!(refusal, Refusal::UnknownSession | Refusal::UnknownNeighbor);
                    // What an earlier step made up may have told the other side a wrong name.
                    assert!(is_of_before || refusal == Refusal::WrongSource, "{refusal}");
                }
            }
        }
        self.look();
    }

    /// A packet that somebody on the link could send who has seen others: well-formed, and it knows the names.
    fn make_up(&mut self, at: usize, input: &mut Input<'_>) {
        let from = neighbor(at, input.below(LINKS.len()));
        let Some(status) = self.hosts[at].table.status(&from) else { return };
        let mut packet = vec![0; 24];
        packet[0] = 1 << 5 | input.octet() & 0x1F;
        packet[1] = input.octet();
        packet[2] = input.octet();
        packet[3] = 24;
        let named = status.remote.filter(|_| input.flag()).map(|remote| remote.discriminator.get());
        packet[4..8].copy_from_slice(&named.unwrap_or_else(|| u32::from(input.octet())).to_be_bytes());
        packet[8..12].copy_from_slice(&status.discriminator.get().to_be_bytes());
        for place in [12, 16] {
            let shift = u32::from(input.octet() % 32);
            let time = u32::from(input.octet()).wrapping_shl(shift);
            packet[place..place + 4].copy_from_slice(&time.to_be_bytes());
        }
        self.hosts[at].incoming.push_front((arrived(from), packet));
        self.deliver(at);
    }

    /// The next packet arrives at a host.
    fn deliver(&mut self, at: usize) -> Option<Result<(), Refusal>> {
        let before = self.statuses(at);
        let (arrived, packet) = self.hosts[at].incoming.pop_front()?;
        let taken = self.hosts[at].table.handle_packet(self.now, arrived, &packet);
        if taken.is_err() {
            assert_eq!(self.statuses(at), before, "a packet that is refused changes nothing");
        }
        self.work(at);
        Some(taken)
    }

    fn apply(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        host.table.apply(self.now, &host.wanted);
        self.work(at);
    }

    fn next_timeout(&mut self) {
        let due = self.hosts.iter().filter_map(|host| host.table.poll_timeout()).min();
        self.now = due.map_or(self.now, |due| due.max(self.now));
        self.hosts.iter_mut().for_each(|host| host.table.handle_timeout(self.now));
        (0..2).for_each(|at| self.work(at));
    }

    /// Takes all that a host has to say.
    fn work(&mut self, at: usize) {
        let packets = std::iter::from_fn(|| self.hosts[at].table.poll_transmit());
        let packets: Vec<_> = packets.take(MOST_WORK).collect();
        assert!(packets.len() < MOST_WORK, "packets without end");
        for (to, packet) in packets {
            let link = (0..LINKS.len()).find(|link| neighbor(at, *link) == to).expect("of a session");
            self.hosts[1 - at].incoming.push_back((arrived(neighbor(1 - at, link)), packet.to_vec()));
        }
        let changes = std::iter::from_fn(|| self.hosts[at].table.poll_change()).take(MOST_WORK).count();
        assert!(changes < MOST_WORK, "changes without end");
    }

    fn statuses(&self, at: usize) -> Vec<Option<Status>> {
        (0..LINKS.len()).map(|link| self.hosts[at].table.status(&neighbor(at, link))).collect()
    }

    fn all(&self) -> impl Iterator<Item = Status> {
        (0..2).flat_map(|at| self.statuses(at)).flatten()
    }

    /// What always holds.
    fn look(&mut self) {
        for at in 0..2 {
            self.work(at);
            let host = &mut self.hosts[at];
            host.table.handle_timeout(self.now);
            let due = host.table.poll_timeout();
            assert!(due.is_none_or(|due| due > self.now), "a timeout stays due");
            for wanted in host.wanted.keys() {
                assert!(host.table.status(wanted).is_some(), "{wanted:?}");
            }
            self.work(at);
        }
        for status in self.all() {
            assert!(status.downs <= status.ups, "{status:?}");
            assert!(status.since <= self.now, "{status:?}");
            if status.state == State::Up {
                assert!(status.remote.is_some() && status.detection.is_some(), "{status:?}");
            }
        }
    }

    /// Both want all sessions, and nothing is lost any more.
    fn heals(&mut self) {
        // Who asks for a packet an hour, or for none, gets that (RFC 5880 section 6.8.7), also if it was not who it said.
        let times = |status: Status| status.detection.into_iter().chain(status.transmit);
        if self.all().flat_map(times).any(|time| time > LONG) {
            self.begins_anew();
        }
        for at in 0..2 {
            for link in 0..LINKS.len() {
                self.hosts[at].wanted.entry(neighbor(at, link)).or_default();
            }
            self.apply(at);
        }
        let end = self.now + HEALS;
        while self.all().any(|status| status.state != State::Up) {
            assert!(self.now < end, "{:#?}", self.all().collect::<Vec<_>>());
            while (0..2).any(|at| self.deliver(at).is_some()) {}
            self.next_timeout();
        }
        self.look();
    }

    /// The way out of operators.
    fn begins_anew(&mut self) {
        for at in 0..2 {
            self.hosts[at].wanted.clear();
            self.apply(at);
        }
        let end = self.now + HEALS;
        while self.all().next().is_some() {
            assert!(self.now < end, "{:#?}", self.all().collect::<Vec<_>>());
            self.next_timeout();
        }
        self.hosts.iter_mut().for_each(|host| host.incoming.clear());
    }

    /// No packet comes any more.
    fn falls_silent(&mut self) {
        let detection = self.all().filter_map(|status| status.detection).max().expect("sessions are up");
        self.now += detection + Duration::from_millis(1);
        for host in &mut self.hosts {
            host.table.handle_timeout(self.now);
        }
        assert!(self.all().all(|status| status.state == State::Down), "nothing was heard for {detection:?}");
    }
}
