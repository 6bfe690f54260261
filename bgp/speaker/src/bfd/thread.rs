//! The thread that owns the sessions.
//!
//! Whenever it runs, it first reads all that waits in its sockets and only then lets time run out: on a host that had no
//! time for it, packets that came in time count. Each counts as if it came when it was read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cambric_bfd::{Config, Neighbor, PORT, SOURCE_PORTS, State, Status, Table};
use cambric_bgp::PeerId;
use cambric_bgp::router::BfdSession;
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use tokio::sync::watch;

use super::socket::{Receiver, Sender, buffer};
use super::{Report, Wish, Wishes};
use crate::socket::in_words;

/// Where the thread meets the rest of the process.
pub(super) struct Outside {
    pub(super) wishes: Arc<Wishes>,
    pub(super) rings: UnixStream,
    pub(super) report: watch::Sender<Report>,
}

/// # Errors
/// The system has no thread left.
pub(super) fn start(outside: Outside, seed: u64) -> io::Result<()> {
    let sessions = Sessions {
        outside,
        table: Table::new(seed),
        wanted: BTreeMap::new(),
        peers: BTreeMap::new(),
        receivers: [None, None],
        senders: BTreeMap::new(),
        next_port: *SOURCE_PORTS.start() + (seed % 8192) as u16,
        look_at: None,
        told_at: Instant::now(),
        troubles: BTreeSet::new(),
    };
    // Whoever holds the other end of `rings` ends it.
    std::thread::Builder::new().name("bfd".to_owned()).spawn(move || sessions.run()).map(drop)
}

/// Addresses to receive at, by family.
const ANY: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
/// How often links and sockets are looked for that were not there, or may be others now.
const LOOK: Duration = Duration::from_secs(1);
/// Packets read of one socket before the others have their turn: more than its buffer holds, so that all that came before
/// the turn is read in it.
const MOST_AT_ONCE: usize = 8192;
/// How often it is told how many packets were refused.
const REFUSED_ARE_TOLD: Duration = Duration::from_secs(1);
/// Troubles that the log has and may have again when these are many.
const MOST_TROUBLES: usize = 256;

struct Sessions {
    outside: Outside,
    table: Table,
    wanted: BTreeMap<PeerId, BfdSession>,
    /// Those of them that can be had, and whose they are.
    peers: BTreeMap<Neighbor, PeerId>,
    receivers: [Option<Receiver>; 2],
    senders: BTreeMap<Neighbor, Sender>,
    next_port: u16,
    /// When to look again for what is not there.
    look_at: Option<Instant>,
    /// When packets that are refused were last counted for others.
    told_at: Instant,
    /// What the log has.
    troubles: BTreeSet<String>,
}

enum Goes {
    On,
    Out,
}

impl Sessions {
    fn run(mut self) {
        loop {
            self.wait();
            let Goes::On = self.hear_bell() else { return };
            let Wish { sessions, done } = std::mem::take(&mut *self.outside.wishes.lock());
            let now = Instant::now();
            self.receive(now);
            let is_due = self.look_at.is_some_and(|at| now >= at);
            if let Some(sessions) = sessions {
                self.forget_moved(&sessions);
                self.wanted = sessions;
                self.follow(now);
            } else if is_due {
                self.follow(now);
            }
            self.table.handle_timeout(now);
            self.send();
            self.tell(now);
            if let Some(done) = done {
                // Whoever asked may have gone meanwhile.
                done.send(()).ok();
            }
        }
    }

    /// Until a packet comes, the bell rings, or something is due.
    fn wait(&self) {
        let sockets = self.receivers.iter().flatten().map(AsFd::as_fd);
        let descriptors = sockets.chain([self.outside.rings.as_fd()]);
        let mut polled: Vec<PollFd<'_>> = descriptors.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let due = [self.table.poll_timeout(), self.look_at].into_iter().flatten().min();
        let timeout = due.map(|at| TimeSpec::from_duration(at.saturating_duration_since(Instant::now())));
        if let Err(error) = ppoll(&mut polled, timeout, None)
            && error != Errno::EINTR
        {
            // It cannot be: the descriptors are open. Whatever it is, the processor is not for it alone.
            tracing::error!(error = error.desc(), "BFD cannot wait for packets");
            std::thread::sleep(LOOK);
        }
    }

    fn hear_bell(&mut self) -> Goes {
        let mut rings = [0; 64];
        loop {
            match self.outside.rings.read(&mut rings) {
                Ok(0) => return Goes::Out,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Goes::On,
            }
        }
    }

    /// All that came before now.
    fn receive(&mut self, now: Instant) {
        let mut octets = buffer();
        for receiver in self.receivers.iter_mut().flatten() {
            for _ in 0..MOST_AT_ONCE {
                match receiver.receive(&mut octets) {
                    Ok(Some((arrived, length))) => {
                        let packet = octets.get(..length).unwrap_or_default();
                        if let Err(refusal) = self.table.handle_packet(now, arrived, packet) {
                            tracing::debug!(address = %arrived.source, reason = %refusal, "BFD packet not taken");
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::debug!(error = %error, "BFD packet could not be read");
                    }
                }
            }
        }
    }

    /// Makes what is wanted so, as far as links and sockets are there.
    fn follow(&mut self, now: Instant) {
        let mut table = BTreeMap::new();
        let mut is_complete = true;
        self.peers.clear();
        for (peer, session) in &self.wanted {
            let Some(neighbor) = neighbor(session) else {
                is_complete = false;
                continue;
            };
            table.insert(neighbor, session.config);
            self.peers.insert(neighbor, *peer);
        }
        is_complete &= self.open_receivers(&table);
        self.table.apply(now, &table);
        // A link may be made anew, and is another one then.
        let by_link = self.wanted.values().any(|session| session.interface.is_some());
        self.look_at = (by_link || !is_complete).then(|| now + LOOK);
    }

    /// Sockets whose source address is to be another one are made anew.
    fn forget_moved(&mut self, sessions: &BTreeMap<PeerId, BfdSession>) {
        let local = |sessions: &BTreeMap<PeerId, BfdSession>, peer| {
            sessions.get(peer).map(|session: &BfdSession| session.local)
        };
        let (wanted, peers) = (&self.wanted, &self.peers);
        self.senders.retain(|at, _| {
            let Some(peer) = peers.get(at) else { return true };
            local(sessions, peer).is_none_or(|new| Some(new) == local(wanted, peer))
        });
    }

    /// Whether there are those that are needed.
    fn open_receivers(&mut self, table: &BTreeMap<Neighbor, Config>) -> bool {
        let mut is_complete = true;
        for (at, any) in ANY.into_iter().enumerate() {
            let is_needed = table.keys().any(|neighbor| neighbor.address.is_ipv4() == any.is_ipv4());
            if is_needed && self.receivers[at].is_none() {
                match Receiver::open(any, PORT) {
                    Ok(receiver) => self.receivers[at] = Some(receiver),
                    Err(error) => {
                        is_complete = false;
                        self.trouble(format!("UDP port {PORT} at {any}: {}", in_words(error)));
                    }
                }
            }
        }
        is_complete
    }

    fn send(&mut self) {
        while let Some((neighbor, octets)) = self.table.poll_transmit() {
            if !self.senders.contains_key(&neighbor) {
                let wanted = self.peers.get(&neighbor).and_then(|peer| self.wanted.get(peer));
                // One that nobody wants any more, and that never could speak.
                let Some(session) = wanted else { continue };
                match Sender::open(&neighbor, session, self.next_port) {
                    Ok(sender) => drop(self.senders.insert(neighbor, sender)),
                    Err(error) => {
                        let why = in_words(error);
                        self.trouble(format!("no socket for packets to {}: {why}", neighbor.address));
                        continue;
                    }
                }
                self.next_port = self.next_port.checked_add(1).unwrap_or(*SOURCE_PORTS.start());
            }
            if let Some(Err(error)) = self.senders.get(&neighbor).map(|sender| sender.send(&octets)) {
                tracing::debug!(peer = %neighbor.address, error = %error, "BFD packet not sent");
                if error.kind() != io::ErrorKind::WouldBlock {
                    // Its link may be another one now.
                    self.senders.remove(&neighbor);
                }
            }
        }
    }

    /// Tells what changed; of packets that are refused once a second, for there may be many.
    fn tell(&mut self, now: Instant) {
        let changed: Vec<Neighbor> = std::iter::from_fn(|| self.table.poll_change()).collect();
        for neighbor in &changed {
            if self.table.status(neighbor).is_none() {
                self.senders.remove(neighbor);
            }
        }
        let (table, peers) = (&self.table, &self.peers);
        let counts = now.saturating_duration_since(self.told_at) >= REFUSED_ARE_TOLD;
        self.outside.report.send_if_modified(|report| {
            let is_news = !changed.is_empty()
                || counts && report.refused != *table.refused()
                || report.sessions.len() != peers.len();
            if is_news {
                let sessions = peers.iter().filter_map(|(at, peer)| Some((*peer, table.status(at)?)));
                let sessions: BTreeMap<PeerId, Status> = sessions.collect();
                log_changes(&report.sessions, &sessions, peers);
                *report = Report { sessions, refused: table.refused().clone() };
            }
            is_news
        });
        if counts {
            self.told_at = now;
        }
    }

    /// Once, for it is tried again and again.
    fn trouble(&mut self, what: String) {
        if self.troubles.len() >= MOST_TROUBLES {
            self.troubles.clear();
        }
        if !self.troubles.contains(&what) {
            tracing::warn!(error = %what, "BFD");
            self.troubles.insert(what);
        }
    }
}

/// `None`: the link it is on is not there.
fn neighbor(session: &BfdSession) -> Option<Neighbor> {
    let interface = match &session.interface {
        Some(name) => Some(if_nametoindex(name.as_str()).ok().and_then(NonZeroU32::new)?),
        None => None,
    };
    Some(Neighbor { address: session.address, interface })
}

/// Sessions that came up or went down.
fn log_changes(
    before: &BTreeMap<PeerId, Status>,
    after: &BTreeMap<PeerId, Status>,
    peers: &BTreeMap<Neighbor, PeerId>,
) {
    for (neighbor, id) in peers {
        let Some(status) = after.get(id) else { continue };
        let earlier = before.get(id).filter(|earlier| earlier.discriminator == status.discriminator);
        let peer = neighbor.address;
        if status.downs > earlier.map_or(0, |earlier| earlier.downs)
            && let Some(down) = status.last_down
        {
            tracing::info!(%peer, reason = %down.cause, "BFD session went down");
        }
        if status.state == State::Up && status.ups > earlier.map_or(0, |earlier| earlier.ups) {
            tracing::info!(%peer, "BFD session came up");
        }
    }
}
