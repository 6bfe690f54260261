//! A fresh network namespace for each test: a node with two uplinks, and eyes on its kernel.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    collections::BTreeSet,
    future::Future,
    io::Write,
    net::IpAddr,
    panic::resume_unwind,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use cambric_routes::{Change, Config, Event, NextHop, Prefix, Routes, Snapshot, Target, WantedRoute};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::{
    sched::{CloneFlags, unshare},
    sys::socket::{setsockopt, sockopt::RcvBufForce},
    unistd::Uid,
};
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinHandle};

pub(crate) const TOR1: &str = "10.1.0.1";
pub(crate) const TOR2: &str = "10.2.0.1";
pub(crate) const TOR1_V6: &str = "2001:db8:1::1";
pub(crate) const TOR2_V6: &str = "2001:db8:2::1";

/// Both values of `nexthop_compat_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compat {
    Off,
    On,
}

/// Runs a test in a network namespace of its own, once for each compatibility mode.
pub(crate) fn in_both_modes<F: Future<Output = ()> + 'static>(test: fn(Compat) -> F) {
    for mode in [Compat::Off, Compat::On] {
        in_namespace(move || {
            let value = if mode == Compat::On { "1" } else { "0" };
            std::fs::write("/proc/sys/net/ipv4/nexthop_compat_mode", value).expect("sysctl");
            test(mode)
        });
    }
}

/// Runs a test in a network namespace of its own, which goes away with the test's thread.
pub(crate) fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    if !Uid::effective().is_root() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "needs root");
        println!("not run: needs root");
        return;
    }
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            two_uplinks().await;
            test().await;
        });
    });
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}

/// `up1` and `up2` with addresses of both families; their far ends `tor1` and `tor2` only give carrier.
async fn two_uplinks() {
    ip("link set lo up");
    for n in [1, 2] {
        ip(&format!("link add up{n} type veth peer name tor{n}"));
        ip(&format!("link set up{n} up"));
        ip(&format!("link set tor{n} up"));
        ip(&format!("addr add 10.{n}.0.2/24 dev up{n}"));
        ip(&format!("addr add 2001:db8:{n}::2/64 dev up{n} nodad"));
    }
    for n in [1, 2] {
        until("carrier", || ip(&format!("link show up{n}")).contains("state UP")).await;
    }
}

/// Runs `ip` and returns what it prints.
pub(crate) fn ip(arguments: &str) -> String {
    let (output, error) = try_ip(arguments);
    assert_eq!(error, "", "ip {arguments}");
    output
}

/// Runs `ip`, which may fail.
pub(crate) fn try_ip(arguments: &str) -> (String, String) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("ip");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Runs many `ip` commands in one process.
pub(crate) fn ip_batch(commands: impl Iterator<Item = String>) {
    let mut file = tempfile::NamedTempFile::new().expect("file");
    for command in commands {
        writeln!(file, "{command}").expect("written");
    }
    ip(&format!("-batch {}", file.path().display()));
}

fn ip_json(arguments: &str) -> Vec<Value> {
    let text = ip(&format!("-j {arguments}"));
    if text.trim().is_empty() { Vec::new() } else { serde_json::from_str(&text).expect("json") }
}

/// Our objects and groups.
pub(crate) fn next_hops() -> Vec<Value> {
    ip_json("nexthop show proto 203")
}

/// Our groups only.
pub(crate) fn groups() -> Vec<Value> {
    next_hops().into_iter().filter(|next_hop| next_hop.get("group").is_some()).collect()
}

/// The routes the kernel shows for a prefix.
pub(crate) fn shown(prefix: &str) -> String {
    let family = if prefix.contains(':') { "-6" } else { "-4" };
    ip(&format!("{family} route show {prefix}"))
}

/// How many routes of ours a family has.
pub(crate) fn count(family: &str) -> usize {
    ip(&format!("{family} route show proto 203"))
        .lines()
        .filter(|line| !line.starts_with(char::is_whitespace))
        .count()
}

/// The interface that the kernel would use for an address.
pub(crate) fn way_to(address: &str) -> Option<String> {
    let (output, _) = try_ip(&format!("route get {address}"));
    output.split_whitespace().skip_while(|word| *word != "dev").nth(1).map(str::to_owned)
}

/// Waits for a condition; 10 s is far beyond what any of them takes.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > Duration::from_secs(10) {
            let state = ["link", "addr", "nexthop", "-4 route", "-6 route"].map(ip).join("--\n");
            panic!("not reached: {what}\n{state}");
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    start.elapsed()
}

/// The task at work.
pub(crate) struct Running {
    pub(crate) routes: Routes,
    pub(crate) events: mpsc::Receiver<Event>,
    task: JoinHandle<()>,
}

/// Settings with the slow work made fast, and no regular check: what is tested is that events suffice.
pub(crate) fn config(run_dir: &Path) -> Config {
    Config {
        settle_delay: Duration::from_millis(50),
        check_interval: Duration::from_secs(3600),
        ..Config::new(run_dir)
    }
}

pub(crate) async fn start(config: Config) -> Running {
    let (routes, events, task) = Routes::start(config).await.expect("started");
    let task = tokio::spawn(async move { task.run().await.expect("runs") });
    Running { routes, events, task }
}

impl Running {
    pub(crate) async fn set(&self, changes: Vec<Change>) {
        self.routes.set(changes).await.expect("set");
        self.routes.flushed().await.expect("flushed");
    }

    pub(crate) async fn snapshot(&self) -> Snapshot {
        self.routes.snapshot().await.expect("snapshot")
    }

    /// Waits for an event.
    pub(crate) async fn event(&mut self, hit: impl Fn(&Event) -> bool) -> Event {
        let wait = async {
            loop {
                let event = self.events.recv().await.expect("an event");
                if hit(&event) {
                    return event;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.expect("the event comes")
    }

    /// Waits until the state is as described.
    pub(crate) async fn reaches(&self, what: &str, condition: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let start = Instant::now();
        loop {
            let snapshot = self.snapshot().await;
            if condition(&snapshot) {
                return snapshot;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "not reached: {what}\n{snapshot:#?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Ends it as a crash would.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err_and(|error| error.is_cancelled()));
    }
}

pub(crate) fn prefix(text: &str) -> Prefix {
    Prefix::new(text.parse().expect("network"))
}

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().expect("address")
}

/// A route through gateways found by their subnets.
pub(crate) fn via(network: &str, gateways: &[&str]) -> Change {
    want(network, Target::Via(gateways.iter().map(|gateway| NextHop::on_link(address(gateway))).collect()))
}

pub(crate) fn want(network: &str, target: Target) -> Change {
    Change::Want(WantedRoute::new(network.parse().expect("network"), target, None))
}

/// `count` IPv4 prefixes under 20.0.0.0/8.
pub(crate) fn many(count: u32) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("20.{}.{}.0/24", n >> 8, n & 255))
}

/// Hears what the kernel says about routes and next hops, as any program would.
pub(crate) struct Monitor(Socket);

/// One notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Heard {
    pub(crate) message_type: u16,
    pub(crate) sequence: u32,
    pub(crate) port: u32,
}

pub(crate) const NEW_ROUTE: u16 = 24;
pub(crate) const DEL_ROUTE: u16 = 25;
pub(crate) const NEW_NEXT_HOP: u16 = 104;
pub(crate) const DEL_NEXT_HOP: u16 = 105;
const RTPROT_KERNEL: u8 = 2;

impl Monitor {
    pub(crate) fn new() -> Self {
        let mut socket = Socket::new(NETLINK_ROUTE).expect("socket");
        socket.bind(&SocketAddr::new(0, 0)).expect("bind");
        socket.set_non_blocking(true).expect("non-blocking");
        setsockopt(&socket, RcvBufForce, &(64 << 20)).expect("room for many");
        for group in [7, 11, 32] {
            socket.add_membership(group).expect("membership");
        }
        Self(socket)
    }

    /// All notifications so far. The kernel delivers them while it works, so after a write none is on its
    /// way.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        let mut heard = Vec::new();
        let mut buffer = Vec::with_capacity(64 * 1024);
        loop {
            match self.0.recv(&mut buffer, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return heard,
                Err(error) => panic!("not all was heard: {error}"),
            }
            let word = |at: usize| u32::from_ne_bytes(buffer[at..at + 4].try_into().expect("4 octets"));
            let message_type = u16::from_ne_bytes(buffer[4..6].try_into().expect("2 octets"));
            // Addresses that finish their probing bring routes of the kernel's own.
            let of_the_kernel = message_type == NEW_ROUTE && buffer[21] == RTPROT_KERNEL;
            if !of_the_kernel {
                heard.push(Heard { message_type, sequence: word(8), port: word(12) });
            }
            buffer.clear();
        }
    }
}

/// The distinct requests behind notifications.
pub(crate) fn requests(heard: &[Heard]) -> BTreeSet<(u32, u32)> {
    heard.iter().map(|heard| (heard.port, heard.sequence)).collect()
}
