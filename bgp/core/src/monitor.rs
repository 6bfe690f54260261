//! Stations of the BGP Monitoring Protocol: who is told what peers tell and what we choose (RFC 7854, RFC 9069).
//!
//! ```text
//!   Waiting -> Connecting -> Open(Feed) -> Waiting ...
//! ```
//!
//! A station is a connection that we open and that only we speak on. What it must still hear is state and no queue: the
//! prefixes of tables that it has not seen yet, and what changed since it saw it ([`feed`]). So a station that reads slowly
//! costs no more than one that reads fast, and gets the latest state when it reads again.

mod feed;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::config::{Monitoring, StationConfig};
use crate::peer::{Backoff, Jitter, LastError};
use crate::prefix::Prefix;
use crate::types::{Asn, ConnId, PeerId, RouterId};
use crate::wire::{Nlri, bmp};

use feed::Feed;
pub(crate) use feed::View;

/// Something in the tables is other than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// A path that a peer told came, changed or went.
    Told(PeerId, Nlri),
    /// The best path to a prefix.
    Chosen(Prefix),
}

/// What the router must do for stations.
#[derive(Debug)]
pub(crate) enum Wish {
    Connect(ConnId, SocketAddr),
    Close { conn: ConnId, last_words: Vec<u8> },
}

/// A station, for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StationStatus {
    /// Where it is.
    pub address: SocketAddr,
    /// As configured.
    pub config: StationConfig,
    /// Whether it is told, and since when that is so.
    pub state: StationState,
    /// Why the last connection ended, or did not come about.
    pub last_error: Option<LastError>,
}

/// How a station is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StationState {
    /// The next attempt is to come.
    Waiting,
    /// TCP is at work.
    Connecting,
    /// It is told.
    Open {
        /// Since then.
        since: Instant,
    },
}

#[derive(Debug)]
struct Station {
    config: StationConfig,
    way: Way,
    backoff: Backoff,
    last_error: Option<LastError>,
}

#[derive(Debug)]
enum Way {
    Waiting { until: Instant },
    Connecting { conn: ConnId, until: Instant },
    Open { conn: ConnId, since: Instant, feed: Box<Feed> },
}

impl Way {
    fn conn(&self) -> Option<ConnId> {
        match self {
            Way::Waiting { .. } => None,
            Way::Connecting { conn, .. } | Way::Open { conn, .. } => Some(*conn),
        }
    }
}

impl Station {
    /// Not sooner than that. Deviation: RFC 7854 section 3.2 suggests 30 s; a station that was restarted shall see the node
    /// soon, and an attempt costs one packet.
    const PAUSE: Duration = Duration::from_secs(1);

    fn failed(&mut self, now: Instant, address: SocketAddr, why: &str, jitter: &mut Jitter) {
        if let Way::Open { since, .. } = self.way {
            self.backoff.session_ended(now.saturating_duration_since(since));
        }
        let is_news = self.last_error.as_ref().is_none_or(|last| last.what != why);
        if is_news {
            let name = &self.config.name;
            tracing::warn!(station = %name, %address, reason = %why, "BMP station is not told");
        }
        self.last_error = Some(LastError { at: now, what: why.to_owned() });
        self.way = Way::Waiting { until: now + self.backoff.failed(jitter).max(Self::PAUSE) };
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Stations {
    system: String,
    /// Our AS and identifier.
    identity: Option<(Asn, RouterId)>,
    all: BTreeMap<SocketAddr, Station>,
}

impl Stations {
    /// Whether there is anybody to whom a change in the tables may matter.
    pub(crate) fn listen(&self) -> bool {
        !self.all.is_empty()
    }

    pub(crate) fn apply(
        &mut self,
        now: Instant,
        wanted: &Monitoring,
        identity: (Asn, RouterId),
    ) -> Vec<Wish> {
        let before = std::mem::replace(&mut self.system, wanted.system.clone());
        let is_renamed = self.identity.replace(identity) != Some(identity) || before != wanted.system;
        let unwanted = |(address, station): (&SocketAddr, &Station)| {
            (wanted.stations.get(address) != Some(&station.config)).then_some(*address)
        };
        let mut wishes = Vec::new();
        for address in self.all.iter().filter_map(unwanted).collect::<Vec<_>>() {
            let Some(conn) = self.all.remove(&address).and_then(|station| station.way.conn()) else {
                continue;
            };
            let mut last_words = Vec::new();
            bmp::write_termination(&mut last_words);
            wishes.push(Wish::Close { conn, last_words });
        }
        // What a station knows is of somebody else.
        for station in self.all.values_mut().filter(|_| is_renamed) {
            let way = std::mem::replace(&mut station.way, Way::Waiting { until: now });
            wishes.extend(way.conn().map(|conn| Wish::Close { conn, last_words: Vec::new() }));
        }
        for (address, config) in &wanted.stations {
            self.all.entry(*address).or_insert_with(|| Station {
                config: config.clone(),
                way: Way::Waiting { until: now },
                backoff: Backoff::default(),
                last_error: None,
            });
        }
        wishes
    }

    /// Attempts that are due, or have lasted too long.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        jitter: &mut Jitter,
        mut new_conn: impl FnMut() -> ConnId,
    ) -> Vec<Wish> {
        let mut wishes = Vec::new();
        for (address, station) in &mut self.all {
            match station.way {
                Way::Waiting { until } if now >= until => {
                    let conn = new_conn();
                    station.way = Way::Connecting { conn, until: now + Self::CONNECT_WAIT };
                    wishes.push(Wish::Connect(conn, *address));
                }
                Way::Connecting { conn, until } if now >= until => {
                    wishes.push(Wish::Close { conn, last_words: Vec::new() });
                    station.failed(now, *address, "connect: no answer", jitter);
                }
                _ => {}
            }
        }
        wishes
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let due = self.all.values().filter_map(|station| match station.way {
            Way::Waiting { until } | Way::Connecting { until, .. } => Some(until),
            Way::Open { .. } => None,
        });
        due.min()
    }

    pub(crate) fn has(&self, conn: ConnId) -> bool {
        self.all.values().any(|station| station.way.conn() == Some(conn))
    }

    /// TCP is connected: from now on it is told.
    pub(crate) fn handle_connected(&mut self, now: Instant, conn: ConnId) {
        for station in self.all.values_mut().filter(|station| station.way.conn() == Some(conn)) {
            let feed = Box::new(Feed::new(station.config.tables.clone()));
            station.way = Way::Open { conn, since: now, feed };
        }
    }

    /// It did not connect, or is no more.
    pub(crate) fn handle_closed(&mut self, now: Instant, conn: ConnId, why: &str, jitter: &mut Jitter) {
        for (address, station) in &mut self.all {
            if station.way.conn() == Some(conn) {
                station.failed(now, *address, why, jitter);
            }
        }
    }

    /// How long TCP may take to connect; a station may be far.
    const CONNECT_WAIT: Duration = Duration::from_secs(10);
    /// How long a station may take nothing of what it is told; as a peer (RFC 9687 section 4).
    pub(crate) const MOST_SILENCE: Duration = Duration::from_secs(480);

    /// The tables are other than before.
    pub(crate) fn note(&mut self, changes: &[Change]) {
        for station in self.all.values_mut() {
            if let Way::Open { feed, .. } = &mut station.way {
                changes.iter().for_each(|change| feed.note(*change));
            }
        }
    }

    /// Connections that have something to say, but for those of which that `is_known`.
    pub(crate) fn eager<'a>(
        &'a self,
        view: &'a View<'a>,
        is_known: impl Fn(&ConnId) -> bool + 'a,
    ) -> impl Iterator<Item = ConnId> + 'a {
        self.all.values().filter_map(move |station| match &station.way {
            Way::Open { conn, feed, .. } if !is_known(conn) && feed.wants(view) => Some(*conn),
            _ => None,
        })
    }

    /// Appends what the station of this connection must hear next, a bounded amount; whether there is more.
    pub(crate) fn transmit(&mut self, conn: ConnId, view: &View<'_>, out: &mut Vec<u8>) -> bool {
        let system = &self.system;
        let mut feeds = self.all.values_mut().filter_map(|station| match &mut station.way {
            Way::Open { conn: open, feed, .. } if *open == conn => Some(feed),
            _ => None,
        });
        feeds.next().is_some_and(|feed| {
            feed.transmit(system, view, out);
            feed.wants(view)
        })
    }

    pub(crate) fn status(&self) -> Vec<StationStatus> {
        let one = |(address, station): (&SocketAddr, &Station)| StationStatus {
            address: *address,
            config: station.config.clone(),
            state: match station.way {
                Way::Waiting { .. } => StationState::Waiting,
                Way::Connecting { .. } => StationState::Connecting,
                Way::Open { since, .. } => StationState::Open { since },
            },
            last_error: station.last_error.clone(),
        };
        self.all.iter().map(one).collect()
    }
}

/// Which tables a station is told of.
pub(crate) type Tables = BTreeSet<crate::config::MonitoredTable>;
