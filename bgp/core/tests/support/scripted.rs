//! One router whose peers are the test itself, octet by octet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use cambric_bgp::rib::RouteChange;
use cambric_bgp::router::Restarted;
use cambric_bgp::wire::{MessageType, Notification, Open, frame};
use cambric_bgp::{Action, ConnId, Prefix, Router, ScopedAddress, Wanted};

/// A router, its clock, and all that came out of it.
pub struct Device {
    pub router: Router,
    pub now: Instant,
    pub actions: Vec<Action>,
    pub changes: Vec<RouteChange>,
    /// The kernel's routes, as the changes say.
    pub fib: BTreeMap<Prefix, BTreeSet<IpAddr>>,
    output: BTreeMap<ConnId, Vec<u8>>,
    closed: BTreeSet<ConnId>,
    /// Connections whose socket takes nothing.
    stalled: BTreeSet<ConnId>,
}

/// A message that the router sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub kind: MessageType,
    pub body: Vec<u8>,
}

impl Message {
    /// The NOTIFICATION in it, if it is one.
    pub fn notification(&self) -> Option<Notification> {
        (self.kind == MessageType::Notification).then(|| Notification::decode(&self.body))
    }
}

impl Device {
    pub fn new(wanted: Wanted) -> Device {
        Device::with_disabled(wanted, BTreeSet::new())
    }

    /// One whose operator switched these addresses off before it started.
    pub fn with_disabled(wanted: Wanted, disabled: BTreeSet<IpAddr>) -> Device {
        Device::start(wanted, Restarted::No, disabled)
    }

    /// One that follows another process on its host, or does not.
    pub fn restarted(wanted: Wanted, restarted: Restarted) -> Device {
        Device::start(wanted, restarted, BTreeSet::new())
    }

    fn start(wanted: Wanted, restarted: Restarted, disabled: BTreeSet<IpAddr>) -> Device {
        let now = Instant::now();
        let disabled = disabled.into_iter().map(ScopedAddress::from).collect();
        let mut device = Device {
            router: Router::new(now, wanted, restarted, disabled, 1),
            now,
            actions: Vec::new(),
            changes: Vec::new(),
            fib: BTreeMap::new(),
            output: BTreeMap::new(),
            closed: BTreeSet::new(),
            stalled: BTreeSet::new(),
        };
        device.work();
        device
    }

    /// A connection from `remote`.
    pub fn accept(&mut self, local: IpAddr, remote: impl Into<ScopedAddress>) -> ConnId {
        let conn = self.router.handle_accepted(self.now, local, remote).expect("a free slot");
        self.work();
        conn
    }

    /// Octets from the peer.
    pub fn send(&mut self, conn: ConnId, octets: &[u8]) {
        self.router.handle_bytes(self.now, conn, octets);
        self.work();
    }

    /// The peer's end is gone.
    pub fn hang_up(&mut self, conn: ConnId) {
        self.router.handle_closed(self.now, conn, "connection closed by the peer");
        self.closed.insert(conn);
        self.work();
    }

    /// Says what should be.
    pub fn apply(&mut self, wanted: Wanted) {
        self.call(|router, now| router.apply(now, wanted));
    }

    /// The operator's wish, or the driver's word.
    pub fn call(&mut self, call: impl FnOnce(&mut Router, Instant)) {
        call(&mut self.router, self.now);
        self.work();
    }

    /// Lets time pass, with a stop at every deadline.
    pub fn advance(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(due) = self.router.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.router.handle_timeout(self.now);
            self.work();
            let next = self.router.poll_timeout();
            assert!(
                next.is_none_or(|next| next > self.now),
                "a timeout that stays due keeps the driver busy"
            );
        }
        self.now = end;
    }

    /// From now on the socket of `conn` takes nothing.
    pub fn stall(&mut self, conn: ConnId) {
        self.stalled.insert(conn);
    }

    /// The socket takes octets again, as many as there are.
    pub fn resume(&mut self, conn: ConnId) {
        self.stalled.remove(&conn);
        self.transmit(conn);
    }

    /// Whether the router has closed `conn`.
    pub fn is_closed(&self, conn: ConnId) -> bool {
        self.closed.contains(&conn)
    }

    /// What the router has sent since the last call.
    pub fn received(&mut self, conn: ConnId) -> Vec<Message> {
        let octets = self.octets(conn);
        let mut rest = octets.as_slice();
        let mut messages = Vec::new();
        while let Some(next) = frame::next(rest, frame::EXTENDED_MESSAGE_BYTES).expect("well-formed output") {
            messages.push(Message { kind: next.kind, body: next.body.to_vec() });
            rest = &rest[next.length..];
        }
        assert!(rest.is_empty(), "the router sent half a message");
        messages
    }

    /// The same, as octets.
    pub fn octets(&mut self, conn: ConnId) -> Vec<u8> {
        self.output.remove(&conn).unwrap_or_default()
    }

    fn work(&mut self) {
        while let Some(action) = self.router.poll_action() {
            match &action {
                Action::Transmit(conn) if !self.stalled.contains(conn) => self.transmit(*conn),
                Action::Close { conn, last_words } => {
                    self.output.entry(*conn).or_default().extend_from_slice(last_words);
                    self.closed.insert(*conn);
                }
                _ => {}
            }
            self.actions.push(action);
        }
        while let Some(change) = self.router.poll_route_change() {
            match change.next_hops.is_empty() {
                true => self.fib.remove(&change.prefix),
                false => {
                    self.fib.insert(change.prefix, change.next_hops.iter().map(ScopedAddress::ip).collect())
                }
            };
            self.changes.push(change);
        }
    }

    fn transmit(&mut self, conn: ConnId) {
        let octets = self.output.entry(conn).or_default();
        while self.router.poll_transmit(conn, octets) {}
    }
}

/// A message: header and body.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(frame::HEADER_BYTES + body.len()).expect("a message of that length");
    let mut octets = vec![0xFF; 16];
    octets.extend_from_slice(&length.to_be_bytes());
    octets.push(kind);
    octets.extend_from_slice(body);
    octets
}

/// A KEEPALIVE.
pub fn keepalive() -> Vec<u8> {
    message(4, &[])
}

/// An OPEN with version 4 and a hold time of 90 s; `capabilities` are written one after the other.
pub fn open(asn: u32, id: [u8; 4], capabilities: &[&[u8]]) -> Vec<u8> {
    let capabilities = capabilities.concat();
    let mut body = vec![4];
    body.extend_from_slice(&u16::try_from(asn).unwrap_or(23456).to_be_bytes());
    body.extend_from_slice(&90_u16.to_be_bytes());
    body.extend_from_slice(&id);
    let length = u8::try_from(capabilities.len()).expect("short capabilities");
    body.extend_from_slice(&[length + 2, 2, length]);
    body.extend_from_slice(&capabilities);
    message(1, &body)
}

/// The OPEN of a peer with these capabilities, by the names that cases of malformed messages have for them.
pub fn open_from(address: IpAddr, own_as: u32, caps: &[&str]) -> Vec<u8> {
    let four_octets = capability::four_octet_as(own_as);
    let capabilities: Vec<&[u8]> = caps
        .iter()
        .map(|name| match *name {
            "mp4" => capability::IPV4,
            "mp6" => capability::IPV6,
            "rr" => capability::ROUTE_REFRESH,
            "as4" => &four_octets,
            "extmsg" => capability::EXTENDED_MESSAGE,
            "addpath4" => capability::ADD_PATH_IPV4,
            "err" => capability::ENHANCED_REFRESH,
            other => panic!("capability {other} is not known to the test"),
        })
        .collect();
    let IpAddr::V4(id) = address else { panic!("peers of the test have IPv4 addresses") };
    open(own_as, id.octets(), &capabilities)
}

/// Capabilities as they stand in OPEN.
pub mod capability {
    pub const IPV4: &[u8] = &[1, 4, 0, 1, 0, 1];
    pub const IPV6: &[u8] = &[1, 4, 0, 2, 0, 1];
    pub const ROUTE_REFRESH: &[u8] = &[2, 0];
    pub const EXTENDED_MESSAGE: &[u8] = &[6, 0];
    /// RFC 7313
    pub const ENHANCED_REFRESH: &[u8] = &[70, 0];
    /// RFC 7911: we send several paths for IPv4.
    pub const ADD_PATH_IPV4: &[u8] = &[69, 4, 0, 1, 1, 2];

    pub fn four_octet_as(asn: u32) -> Vec<u8> {
        [&[65, 4][..], &asn.to_be_bytes()].concat()
    }
}

/// The OPEN among `messages`.
pub fn open_of(messages: &[Message]) -> Open {
    let open = messages.iter().find(|message| message.kind == MessageType::Open);
    Open::decode(&open.expect("an OPEN").body).expect("a good OPEN")
}
