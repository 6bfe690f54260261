//! Stations that are told what the tables hold: what the router has to do with them.

use std::time::Instant;

use super::{Action, Router};
use crate::config::{SocketOptions, Ttl};
use crate::monitor::{StationStatus, Stations, View, Wish};
use crate::types::ConnId;

impl Router {
    /// Makes the stations those that are wanted.
    pub(super) fn apply_stations(&mut self, now: Instant) {
        let identity = (self.identity.asn, self.identity.router_id);
        let wishes = self.stations.apply(now, &self.wanted.monitoring, identity);
        self.rib.watch(self.stations.listen());
        self.carry_out_wishes(wishes);
        self.connect_stations(now);
    }

    /// Attempts that are due.
    pub(super) fn connect_stations(&mut self, now: Instant) {
        let next_conn = &mut self.next_conn;
        let stuck = self.ready.iter().filter(|(_, since)| now >= **since + Stations::MOST_SILENCE);
        let stuck: Vec<ConnId> =
            stuck.map(|(conn, _)| *conn).filter(|conn| self.stations.has(*conn)).collect();
        for conn in stuck {
            self.ready.remove(&conn);
            self.actions.push_back(Action::Close { conn, last_words: Vec::new() });
            self.stations.handle_closed(now, conn, "it takes nothing of what it is told", &mut self.jitter);
        }
        let wishes = self.stations.handle_timeout(now, &mut self.jitter, || {
            *next_conn += 1;
            ConnId(*next_conn)
        });
        self.carry_out_wishes(wishes);
    }

    fn carry_out_wishes(&mut self, wishes: Vec<Wish>) {
        for wish in wishes {
            self.actions.push_back(match wish {
                // It may be anywhere, and speaks no TCP option of ours.
                Wish::Connect(conn, remote) => {
                    let options =
                        SocketOptions { local: None, interface: None, ttl: Ttl::Usual, password: None };
                    let (remote, port) = (remote.ip().into(), remote.port());
                    Action::Connect { conn, remote, port, options }
                }
                Wish::Close { conn, last_words } => {
                    self.ready.remove(&conn);
                    Action::Close { conn, last_words }
                }
            });
        }
    }

    /// Whether this is the connection of a station, which then is told; false if it is a peer's.
    pub(super) fn station_connected(&mut self, now: Instant, conn: ConnId) -> bool {
        let is_station = self.stations.has(conn);
        if is_station {
            self.stations.handle_connected(now, conn);
            self.after(now);
        }
        is_station
    }

    /// Whether it was the connection of a station.
    pub(super) fn station_closed(&mut self, now: Instant, conn: ConnId, why: &str) -> bool {
        let is_station = self.stations.has(conn);
        if is_station {
            self.ready.remove(&conn);
            self.stations.handle_closed(now, conn, why, &mut self.jitter);
        }
        is_station
    }

    /// Names the stations that have something to hear.
    pub(super) fn rouse_stations(&mut self, now: Instant) {
        if !self.stations.listen() {
            return;
        }
        let changes = self.rib.take_changes();
        self.stations.note(&changes);
        let view = View { identity: &self.identity, peers: &self.peers, rib: &self.rib };
        let eager: Vec<ConnId> = self.stations.eager(&view, |conn| self.ready.contains_key(conn)).collect();
        for conn in eager {
            self.ready.insert(conn, now);
            self.actions.push_back(Action::Transmit(conn));
        }
    }

    /// Appends what a station is told next; `None` if this is none's connection, else whether there is more.
    pub(super) fn transmit_to_station(&mut self, conn: ConnId, octets: &mut Vec<u8>) -> Option<bool> {
        if !self.stations.has(conn) {
            return None;
        }
        let view = View { identity: &self.identity, peers: &self.peers, rib: &self.rib };
        Some(self.stations.transmit(conn, &view, octets))
    }

    /// The ports of a connection with a peer, ours first: stations are told of them.
    pub fn set_ports(&mut self, conn: ConnId, local: u16, remote: u16) {
        let peer = self.by_conn.get(&conn).and_then(|id| self.peers.get_mut(id));
        if let Some(connection) = peer.and_then(|peer| peer.connection_mut(conn)) {
            connection.ports = (local, remote);
        }
    }

    /// The stations, by address.
    pub fn stations(&self) -> Vec<StationStatus> {
        self.stations.status()
    }
}
