//! All sessions, and which of them a packet is of.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Instant;

use crate::TTL;
use crate::dice::Dice;
use crate::packet::{Authentication, BYTES, Discriminator, Packet, Refusal, State};
use crate::session::{Config, Session};
use crate::status::Status;

/// The other end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Neighbor {
    /// Its address.
    pub address: IpAddr,
    /// Index of the link it is on; absent where its address alone says who it is.
    pub interface: Option<NonZeroU32>,
}

impl Neighbor {
    fn is_at(&self, arrived: Arrived) -> bool {
        let on_link = self.interface.is_none() || self.interface == arrived.interface;
        self.address == arrived.source && on_link
    }
}

/// How a packet came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// From where.
    pub source: IpAddr,
    /// Index of the link.
    pub interface: Option<NonZeroU32>,
    /// With which TTL or hop limit.
    pub ttl: u8,
}

/// All sessions of a host.
///
/// Calls come in four kinds. *Wishes*: [`Table::apply`]. *Events*: `handle_*`. *Work*: after any of these, poll
/// [`Table::poll_transmit`] and [`Table::poll_change`] until they give `None`; [`Table::poll_timeout`] says when
/// [`Table::handle_timeout`] is due next, and calling it early is harmless. *Looks*: what takes `&self`.
#[derive(Debug)]
pub struct Table {
    sessions: BTreeMap<Discriminator, (Neighbor, Session)>,
    by_neighbor: BTreeMap<Neighbor, Discriminator>,
    timers: BTreeSet<(Instant, Discriminator)>,
    time_of: BTreeMap<Discriminator, Instant>,
    dice: Dice,
    outgoing: VecDeque<(Neighbor, [u8; BYTES])>,
    changed: BTreeSet<Neighbor>,
    refused: BTreeMap<Refusal, u64>,
}

impl Table {
    /// `seed` spreads packets and makes up names; another one for each run.
    pub fn new(seed: u64) -> Table {
        Table {
            sessions: BTreeMap::new(),
            by_neighbor: BTreeMap::new(),
            timers: BTreeSet::new(),
            time_of: BTreeMap::new(),
            dice: Dice::new(seed),
            outgoing: VecDeque::new(),
            changed: BTreeSet::new(),
            refused: BTreeMap::new(),
        }
    }

    // --- wishes ------------------------------------------------------------------------------------

    /// Makes `wanted` so. A session that nobody wants any more says so for a while (AdminDown), and goes.
    pub fn apply(&mut self, now: Instant, wanted: &BTreeMap<Neighbor, Config>) {
        let unwanted: Vec<Discriminator> =
            self.by_neighbor.iter().filter(|(at, _)| !wanted.contains_key(at)).map(|(_, id)| *id).collect();
        for id in unwanted {
            self.with_session(now, id, |session| session.leave(now));
        }
        for (neighbor, config) in wanted {
            match self.by_neighbor.get(neighbor) {
                Some(id) => self.with_session(now, *id, |session| session.apply(now, *config)),
                None => self.add(now, *neighbor, *config),
            }
        }
    }

    fn add(&mut self, now: Instant, neighbor: Neighbor, config: Config) {
        let id = loop {
            let id = self.dice.discriminator();
            if !self.sessions.contains_key(&id) {
                break id;
            }
        };
        self.by_neighbor.insert(neighbor, id);
        self.sessions.insert(id, (neighbor, Session::new(now, id, config)));
        self.changed.insert(neighbor);
        self.with_session(now, id, |_| {});
    }

    // --- events ------------------------------------------------------------------------------------

    /// The payload of a datagram to [`PORT`](crate::PORT).
    ///
    /// # Errors
    /// It is not taken, and counted.
    pub fn handle_packet(&mut self, now: Instant, arrived: Arrived, octets: &[u8]) -> Result<(), Refusal> {
        let accepted = self.accept(arrived, octets);
        match accepted {
            Ok((id, packet)) => {
                self.with_session(now, id, |session| session.handle_packet(now, &packet));
                Ok(())
            }
            Err(refusal) => {
                *self.refused.entry(refusal).or_default() += 1;
                Err(refusal)
            }
        }
    }

    /// RFC 5881 section 5 and RFC 5880 section 6.8.6, in their order.
    ///
    /// Deviation: RFC 5881 section 6 has a session found by our name of it alone, for the source may change on a link between
    /// two. It does not here, for who does not know that name is found by its source; and a pod of this host, whose packets
    /// come with TTL 255, shall not end a session by guessing.
    fn accept(&self, arrived: Arrived, octets: &[u8]) -> Result<(Discriminator, Packet), Refusal> {
        if arrived.ttl != TTL {
            return Err(Refusal::Ttl);
        }
        let (packet, authentication) = Packet::decode(octets)?;
        let id = match packet.your_discriminator {
            Some(id) => {
                let (neighbor, _) = self.sessions.get(&id).ok_or(Refusal::UnknownSession)?;
                if !neighbor.is_at(arrived) {
                    return Err(Refusal::WrongSource);
                }
                id
            }
            None if !matches!(packet.state, State::Down | State::AdminDown) => {
                return Err(Refusal::ZeroYourDiscriminator);
            }
            None => self.session_with(arrived).ok_or(Refusal::UnknownNeighbor)?,
        };
        match authentication {
            Authentication::None => Ok((id, packet)),
            Authentication::Some => Err(Refusal::Authenticated),
        }
    }

    /// The session with who does not know our name of it yet (RFC 5881 section 3).
    fn session_with(&self, Arrived { source: address, interface, .. }: Arrived) -> Option<Discriminator> {
        let on_link = self.by_neighbor.get(&Neighbor { address, interface });
        on_link.or_else(|| self.by_neighbor.get(&Neighbor { address, interface: None })).copied()
    }

    /// The time of [`Table::poll_timeout`] has come, and all packets that came before it were handed over.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            if self.sessions.get(&id).is_some_and(|(_, session)| session.has_left(now)) {
                self.remove(id);
            } else {
                self.with_session(now, id, |session| session.handle_timeout(now));
            }
        }
    }

    fn remove(&mut self, id: Discriminator) {
        if let Some((neighbor, _)) = self.sessions.remove(&id) {
            self.by_neighbor.remove(&neighbor);
            self.changed.insert(neighbor);
        }
        if let Some(at) = self.time_of.remove(&id) {
            self.timers.remove(&(at, id));
        }
    }

    /// Runs `run` on a session, and takes what it has to say.
    fn with_session(&mut self, now: Instant, id: Discriminator, run: impl FnOnce(&mut Session)) {
        let Some((neighbor, session)) = self.sessions.get_mut(&id) else { return };
        let before = session.status();
        run(session);
        while let Some(packet) = session.poll_transmit(now, &mut self.dice) {
            self.outgoing.push_back((*neighbor, packet.encode()));
        }
        if session.status() != before {
            self.changed.insert(*neighbor);
        }
        let at = session.poll_timeout();
        let earlier = match at {
            Some(at) => self.time_of.insert(id, at),
            None => self.time_of.remove(&id),
        };
        if let Some(earlier) = earlier {
            self.timers.remove(&(earlier, id));
        }
        self.timers.extend(at.map(|at| (at, id)));
    }

    // --- work --------------------------------------------------------------------------------------

    /// The next packet to send. A few of each session wait at most.
    pub fn poll_transmit(&mut self) -> Option<(Neighbor, [u8; BYTES])> {
        self.outgoing.pop_front()
    }

    /// The next session whose [`Status`] is another one than before, or that is gone.
    pub fn poll_change(&mut self) -> Option<Neighbor> {
        self.changed.pop_first()
    }

    /// When [`Table::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    // --- looks -------------------------------------------------------------------------------------

    /// A session; `None` if there is none with this neighbour.
    pub fn status(&self, neighbor: &Neighbor) -> Option<Status> {
        let (_, session) = self.sessions.get(self.by_neighbor.get(neighbor)?)?;
        Some(session.status())
    }

    /// How many packets were not taken, and why.
    pub fn refused(&self) -> &BTreeMap<Refusal, u64> {
        &self.refused
    }
}

#[cfg(test)]
mod tests;
