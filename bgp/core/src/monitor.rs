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
use crate::types::{ConnId, PeerId};
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
    Connecting { conn: ConnId },
    Open { conn: ConnId, since: Instant, feed: Box<Feed> },
}

impl Way {
    fn conn(&self) -> Option<ConnId> {
        match self {
            Way::Waiting { .. } => None,
            Way::Connecting { conn } | Way::Open { conn, .. } => Some(*conn),
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Stations {
    system: String,
    all: BTreeMap<SocketAddr, Station>,
}

impl Stations {
    /// Whether there is anybody to whom a change in the tables may matter.
    pub(crate) fn listen(&self) -> bool {
        !self.all.is_empty()
    }

    pub(crate) fn apply(&mut self, now: Instant, wanted: &Monitoring) -> Vec<Wish> {
        self.system.clone_from(&wanted.system);
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

    /// Attempts that are due.
    pub(crate) fn handle_timeout(&mut self, now: Instant, mut new_conn: impl FnMut() -> ConnId) -> Vec<Wish> {
        let mut wishes = Vec::new();
        for (address, station) in &mut self.all {
            if matches!(station.way, Way::Waiting { until } if now >= until) {
                let conn = new_conn();
                station.way = Way::Connecting { conn };
                wishes.push(Wish::Connect(conn, *address));
            }
        }
        wishes
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let due = self.all.values().filter_map(|station| match station.way {
            Way::Waiting { until } => Some(until),
            Way::Connecting { .. } | Way::Open { .. } => None,
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
            if station.way.conn() != Some(conn) {
                continue;
            }
            if let Way::Open { since, .. } = station.way {
                station.backoff.session_ended(now.saturating_duration_since(since));
            }
            let is_news = station.last_error.as_ref().is_none_or(|last| last.what != why);
            if is_news {
                let name = &station.config.name;
                tracing::warn!(station = %name, %address, reason = %why, "BMP station is not told");
            }
            station.last_error = Some(LastError { at: now, what: why.to_owned() });
            station.way = Way::Waiting { until: now + station.backoff.failed(jitter).max(Self::PAUSE) };
        }
    }

    /// Not sooner than that. Deviation: RFC 7854 section 3.2 suggests 30 s; a station that was restarted shall see the node
    /// soon, and an attempt costs one packet.
    const PAUSE: Duration = Duration::from_secs(1);

    /// The tables are other than before.
    pub(crate) fn note(&mut self, changes: &[Change]) {
        for station in self.all.values_mut() {
            if let Way::Open { feed, .. } = &mut station.way {
                changes.iter().for_each(|change| feed.note(*change));
            }
        }
    }

    /// Connections that have something to say.
    pub(crate) fn eager<'a>(&'a self, view: &'a View<'a>) -> impl Iterator<Item = ConnId> + 'a {
        self.all.values().filter_map(move |station| match &station.way {
            Way::Open { conn, feed, .. } if feed.wants(view) => Some(*conn),
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
