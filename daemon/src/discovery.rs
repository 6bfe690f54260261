//! Who is at the other end of links without addresses: the peers that manifests name by an interface.
//!
//! Routers advertise themselves (RFC 4861), and an advertisement comes from the link-local address that a session is to go
//! to. So this node advertises itself on the links of such peers, and on no other: with lifetime 0, so that nobody sends by
//! default what no route says, and without prefixes. It solicits when a link comes up, for routers take their time, and
//! hears who answers: always, not once, for there may be another router one day.
//!
//! ```text
//!   interfaces that are named (intent) -->+------+--> who is there, by interface (host)
//!   links, up or down (routes) ---------->| task |--> solicitations, advertisements (socket)
//!   packets (socket) -------------------->+------+
//! ```
//!
//! `packet` has the octets and `schedule` the times, both pure; `socket` is the only one that talks to the system. It is a
//! part of the daemon and not of the speaker: BGP begins where an address is known, and the core knows nothing of how.
//!
//! An earlier run's sessions say who was there: a restart need not wait for the first advertisement, while the kernel goes on
//! forwarding.

mod packet;
mod schedule;
mod socket;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cambric_routes::{Link, LinkIndex, LinkTable};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use packet::Message;
use schedule::{Follows, Routers, Schedule, Send};
use socket::{Received, Socket};

/// When it is tried again to open the socket.
const AGAIN: Duration = Duration::from_secs(10);

/// By interface, who was heard there.
pub type Found = BTreeMap<String, Neighborhood>;

/// What was heard on a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Neighborhood {
    /// The router at its other end.
    pub router: Option<Ipv6Addr>,
    /// Another one, that is there beside it.
    pub rival: Option<Ipv6Addr>,
    /// In words, why this node cannot take part.
    pub obstacle: Option<String>,
}

/// The way to the task.
#[derive(Debug)]
pub struct Discovery {
    /// `None` before the first intent.
    wanted: watch::Sender<Option<BTreeSet<String>>>,
    found: watch::Receiver<Found>,
    _task: JoinHandle<()>,
}

impl Discovery {
    /// Starts with who `was_there` in the last run.
    pub fn start(
        sysctl_dir: PathBuf,
        links: watch::Receiver<Arc<LinkTable>>,
        was_there: BTreeMap<String, Ipv6Addr>,
    ) -> Discovery {
        let (wanted, asked) = watch::channel(None);
        // Of those nobody has asked yet; but a first intent finds them.
        let before = |(name, router): (&String, &Ipv6Addr)| {
            (name.clone(), Neighborhood { router: Some(*router), ..Neighborhood::default() })
        };
        let (tell, found) = watch::channel(was_there.iter().map(before).collect());
        let seats = was_there.into_iter().map(|(name, router)| (name, Seat::known_before(router)));
        let task = Task { sysctl_dir, links, asked, tell, seats: seats.collect(), socket: Err(None) };
        Discovery { wanted, found, _task: tokio::spawn(task.run()) }
    }

    /// On which interfaces to look.
    pub fn look_at(&self, interfaces: &BTreeSet<String>) {
        self.wanted.send_if_modified(|wanted| {
            let is_other = wanted.as_ref() != Some(interfaces);
            *wanted = Some(interfaces.clone());
            is_other
        });
    }

    /// Who is there now.
    pub fn found(&self) -> watch::Receiver<Found> {
        self.found.clone()
    }
}

/// One interface.
#[derive(Debug, Default)]
struct Seat {
    routers: Routers,
    /// While its link is up and has an address of ours.
    active: Option<Active>,
    obstacle: Option<String>,
}

impl Seat {
    fn known_before(router: Ipv6Addr) -> Seat {
        Seat { routers: Routers::known_before(router), ..Seat::default() }
    }
}

#[derive(Debug)]
struct Active {
    link: LinkIndex,
    mac: Option<[u8; 6]>,
    schedule: Schedule,
}

struct Task {
    sysctl_dir: PathBuf,
    links: watch::Receiver<Arc<LinkTable>>,
    asked: watch::Receiver<Option<BTreeSet<String>>>,
    tell: watch::Sender<Found>,
    seats: BTreeMap<String, Seat>,
    /// Or when it is tried again to open it; not before somebody asks.
    socket: Result<Socket, Option<Instant>>,
}

impl Task {
    /// Ends when nobody asks any more.
    async fn run(mut self) {
        loop {
            let timeout = self.poll_timeout();
            // All branches are cancel-safe: watches, sleep and the socket lose nothing when dropped.
            tokio::select! {
                changed = self.asked.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.follow();
                }
                changed = self.links.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.follow();
                }
                received = receive(&self.socket) => match received {
                    Ok(received) => self.handle_packet(&received),
                    Err(error) => tracing::debug!(error = %error, "a packet of neighbour discovery is lost"),
                },
                () = sleep_until(timeout.unwrap_or_else(Instant::now).into()), if timeout.is_some() => {}
            }
            self.handle_timeout(Instant::now());
            self.publish();
        }
    }

    /// Interfaces are named or not any more, come and go.
    fn follow(&mut self) {
        let Some(wanted) = self.asked.borrow_and_update().clone() else {
            return; // links may be told before the first intent; whom the last run knew waits for that
        };
        let links = Arc::clone(&self.links.borrow_and_update());
        let now = Instant::now();
        if !wanted.is_empty() && self.socket.as_ref().err() == Some(&None) {
            self.open(now);
        }
        self.seats.retain(|name, _| wanted.contains(name));
        for name in wanted {
            let link = links.by_name(&name);
            let why_not = || link.and_then(|link| obstacle(&self.sysctl_dir, link));
            let obstacle = why_not();
            let seat = self.seats.entry(name).or_default();
            seat.obstacle = obstacle;
            let link = link.filter(|link| link.usable() && has_address(link));
            match (link, &mut seat.active) {
                (None, active) => *active = None,
                (Some(link), Some(active)) if active.link == link.index => active.mac = link.mac,
                (Some(link), active) => {
                    let dice = u64::from(std::process::id()) << 32 | u64::from(link.index.0) << 8 | 1;
                    let schedule = Schedule::new(now, dice);
                    *active = Some(Active { link: link.index, mac: link.mac, schedule });
                    if let Ok(socket) = &self.socket
                        && let Err(error) = socket.join(link.index)
                    {
                        tracing::debug!(iface = %link.name, error = %error, "solicitations are not heard");
                    }
                }
            }
        }
    }

    fn open(&mut self, now: Instant) {
        self.socket = Socket::open().map_err(|error| {
            tracing::warn!(error = %error, "router advertisements are neither heard nor sent");
            Some(now + AGAIN)
        });
        let links = self.seats.values().filter_map(|seat| Some(seat.active.as_ref()?.link));
        if let Ok(socket) = &self.socket {
            links.for_each(|link| drop(socket.join(link)));
        }
    }

    fn handle_packet(&mut self, Received { link, source, hop_limit, octets }: &Received) {
        let is_there = |seat: &Seat| seat.active.as_ref().is_some_and(|active| active.link == *link);
        let Some((name, seat)) = self.seats.iter_mut().find(|(_, seat)| is_there(seat)) else { return };
        let Some(active) = &mut seat.active else { return };
        let now = Instant::now();
        match packet::read(*source, *hop_limit, octets) {
            Ok(Message::Solicitation) => active.schedule.handle_solicitation(now),
            Ok(Message::Advertisement) => {
                active.schedule.handle_advertisement();
                if seat.routers.current().is_none() {
                    tracing::info!(iface = %name, router = %source, "a router advertises itself");
                }
                if seat.routers.handle_advertisement(now, *source) == Follows::Ask {
                    tracing::debug!(iface = %name, router = %source, "another router advertises itself");
                    active.schedule.ask(now);
                }
            }
            Err(reason) => {
                tracing::debug!(iface = %name, %source, %reason, "a packet of neighbour discovery does not count");
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if matches!(&self.socket, Err(Some(again)) if now >= *again) {
            self.open(now);
        }
        for (name, seat) in &mut self.seats {
            seat.routers.handle_timeout(now);
            let Some(Active { link, mac, schedule }) = &mut seat.active else { continue };
            for what in schedule.poll(now) {
                let octets = match what {
                    Send::Solicitation => packet::solicitation(*mac),
                    Send::Advertisement => packet::advertisement(*mac),
                };
                let Ok(socket) = &self.socket else { continue };
                if let Err(error) = socket.send(*link, what, &octets) {
                    tracing::debug!(iface = %name, error = %error, ?what, "not sent; there will be another one");
                }
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let of_seat = |seat: &Seat| {
            let schedule = seat.active.as_ref().map(|active| active.schedule.poll_timeout());
            schedule.into_iter().chain(seat.routers.poll_timeout()).min()
        };
        let again = self.socket.as_ref().err().copied().flatten();
        self.seats.values().filter_map(of_seat).chain(again).min()
    }

    fn publish(&self) {
        let without_socket = self
            .socket
            .is_err()
            .then(|| "the kernel gives no raw socket for router advertisements (CAP_NET_RAW)".to_owned());
        let found: Found = self
            .seats
            .iter()
            .map(|(name, Seat { routers, obstacle, .. })| {
                let obstacle = obstacle.clone().or_else(|| without_socket.clone());
                (name.clone(), Neighborhood { router: routers.current(), rival: routers.rival(), obstacle })
            })
            .collect();
        self.tell.send_if_modified(|told| {
            let is_other = *told != found;
            *told = found;
            is_other
        });
    }
}

async fn receive(socket: &Result<Socket, Option<Instant>>) -> io::Result<Received> {
    match socket {
        Ok(socket) => socket.receive().await,
        Err(_) => std::future::pending().await,
    }
}

fn has_address(link: &Link) -> bool {
    let is_link_local =
        |address: IpAddr| matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
    link.addresses.iter().any(|entry| is_link_local(entry.address) && !entry.tentative)
}

/// Why an interface that is up has no link-local address, as far as sysctls say.
fn obstacle(sysctl_dir: &Path, link: &Link) -> Option<String> {
    if has_address(link) {
        return None;
    }
    let sysctl = |name: &str| format!("ipv6/conf/{}/{name}", link.name);
    let says = |name: &str, value: &str| {
        let text = fs::read_to_string(sysctl_dir.join(sysctl(name)));
        text.is_ok_and(|text| text.trim() == value)
    };
    // `IN6_ADDR_GEN_MODE_NONE`, linux/if_link.h.
    [
        ("disable_ipv6", "1", "set it to 0"),
        ("addr_gen_mode", "1", "set it to 0, or give it an address of fe80::/64"),
    ]
    .into_iter()
    .find(|(name, value, _)| says(name, value))
    .map(|(name, value, what)| format!("net.ipv6.conf.{}.{name} is {value}; {what}", link.name))
}
