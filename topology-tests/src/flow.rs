//! A 1 kHz UDP ping-pong between two namespaces: counts what a fault costs in packets.
//!
//! Both directions count: a packet is lost when no answer to it came back. A socket belongs to the namespace it was
//! made in, so the threads that use it need not.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sys::socket::{setsockopt, sockopt};

use crate::place::{Place, in_netns};

/// Time between two packets.
pub const INTERVAL: Duration = Duration::from_millis(1);

/// How long nothing may come at the end before what is not answered counts as lost.
const LATEST_ANSWER: Duration = Duration::from_secs(1);

/// What a socket may hold, half of what the kernel then gives: some 80000 packets, each counted with all that is around
/// it. What a packet costs on its way through namespaces is the time of the thread that sends it. So on a busy machine a
/// thread gets less than its flow takes, falls behind by seconds, and would lose packets that no network has lost.
const BUFFER_BYTES: usize = 32 << 20;

/// How often threads look whether they are to stop.
const LOOK: Duration = Duration::from_millis(50);

/// A flow under way; it ends when stopped or dropped.
#[derive(Debug)]
pub struct Flow {
    shared: Arc<Shared>,
    /// In the order in which they end: who sends, who answers, who hears the answers.
    threads: Vec<JoinHandle<()>>,
}

/// What became of the packets of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Packets sent.
    pub sent: u32,
    /// Packets without an answer.
    pub lost: u32,
    /// Longest time during which every packet was lost.
    pub longest_gap: Duration,
    /// Lost packets, in runs of consecutive numbers.
    pub lost_runs: Vec<Run>,
}

/// Lost packets with consecutive numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Number of the first, from 0.
    pub first: u32,
    /// Number of the last.
    pub last: u32,
    /// When the first was sent, from the start of the flow.
    pub since: Duration,
    /// From the first to the one after the last.
    pub length: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// How many of the threads have ended.
    ended: AtomicUsize,
    sent: AtomicU32,
    /// When each packet was sent, from the start of the flow.
    times: Mutex<Vec<Duration>>,
    answered: Mutex<BTreeSet<u32>>,
}

impl Shared {
    fn answered(&self) -> u32 {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        u32::try_from(answered.len()).unwrap_or(u32::MAX)
    }
}

impl Flow {
    /// Starts a flow from one place to an address of another, and back. `source` is the sender's address; none: as
    /// the kernel chooses.
    ///
    /// # Errors
    /// When a socket cannot be made.
    pub fn start(from: &dyn Place, source: Option<IpAddr>, to: &dyn Place, target: IpAddr) -> Result<Self> {
        let any: IpAddr = if target.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let echo = socket(to, target)?;
        let target = echo.local_addr()?;
        let sender = socket(from, source.unwrap_or(any))?;
        let receiver = sender.try_clone()?;
        let shared = Arc::new(Shared::default());
        let thread = |name: &str, work: Box<dyn FnOnce(&Shared) + Send>| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(name.into()).spawn(move || work(&shared))
        };
        let threads = vec![
            thread("flow-send", Box::new(move |shared| send(shared, &sender, target)))?,
            thread("flow-echo", Box::new(move |shared| answer(shared, &echo)))?,
            thread("flow-receive", Box::new(move |shared| receive(shared, &receiver)))?,
        ];
        Ok(Self { shared, threads })
    }

    /// Packets sent so far.
    pub fn sent(&self) -> u32 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Packets answered so far.
    pub fn answered(&self) -> u32 {
        self.shared.answered()
    }

    /// Stops sending, waits for late answers as long as any come, and reports.
    ///
    /// # Errors
    /// When a thread has panicked.
    pub fn stop(mut self) -> Result<Report> {
        self.end()?;
        let times = self.shared.times.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = self.shared.answered.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Report::new(&times, |number| answered.contains(&number)))
    }

    fn end(&mut self) -> Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut ended = Vec::new();
        for thread in self.threads.drain(..) {
            ended.push(thread.join());
            self.shared.ended.fetch_add(1, Ordering::Relaxed);
        }
        ended.into_iter().try_for_each(|thread| thread.map_err(|_| anyhow!("a thread of the flow panicked")))
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        let _ = self.end(); // a panic has been printed by its thread
    }
}

impl Report {
    fn new(times: &[Duration], is_answered: impl Fn(u32) -> bool) -> Self {
        let mut lost_runs: Vec<Run> = Vec::new();
        for (number, &time) in (0..).zip(times) {
            if is_answered(number) {
                continue;
            }
            let next = times.get(number as usize + 1).copied().unwrap_or(time + INTERVAL);
            match lost_runs.last_mut().filter(|run| run.last + 1 == number) {
                Some(run) => (run.last, run.length) = (number, next - run.since),
                None => lost_runs.push(Run { first: number, last: number, since: time, length: next - time }),
            }
        }
        Self {
            sent: u32::try_from(times.len()).unwrap_or(u32::MAX),
            lost: lost_runs.iter().map(|run| run.last - run.first + 1).sum(),
            longest_gap: lost_runs.iter().map(|run| run.length).max().unwrap_or_default(),
            lost_runs,
        }
    }
}

fn socket(place: &dyn Place, address: IpAddr) -> Result<UdpSocket> {
    let socket = in_netns(place, || UdpSocket::bind((address, 0)))?;
    let socket = socket.with_context(|| format!("binding a UDP socket to {address}"))?;
    socket.set_read_timeout(Some(LOOK))?;
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES).context("giving a socket a larger buffer")?;
    Ok(socket)
}

fn send(shared: &Shared, socket: &UdpSocket, target: SocketAddr) {
    let start = Instant::now();
    for number in 0.. {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        // Counted from the start: after a late wake-up it catches up.
        std::thread::sleep((INTERVAL * number).saturating_sub(start.elapsed()));
        shared.times.lock().unwrap_or_else(PoisonError::into_inner).push(start.elapsed());
        // No route is a lost packet as well.
        let _ = socket.send_to(&number.to_be_bytes(), target);
        shared.sent.store(number + 1, Ordering::Relaxed);
    }
}

fn receive(shared: &Shared, socket: &UdpSocket) {
    let mut bytes = [0; 4];
    until_quiet(shared, 2, || {
        socket.recv_from(&mut bytes).ok()?;
        let number = u32::from_be_bytes(bytes);
        shared.answered.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
        Some(())
    });
}

fn answer(shared: &Shared, socket: &UdpSocket) {
    let mut bytes = [0; 4];
    until_quiet(shared, 1, || {
        let (length, from) = socket.recv_from(&mut bytes).ok()?;
        let _ = socket.send_to(&bytes[..length], from); // lost, then
        Some(())
    });
}

/// Repeats a step that waits at most [`LOOK`] for something to come: until the threads `before` this one have ended and
/// either all is answered, or nothing has come for [`LATEST_ANSWER`]. By the clock alone what waits in a socket would be
/// lost where a thread waits so long for its turn.
fn until_quiet(shared: &Shared, before: usize, mut step: impl FnMut() -> Option<()>) {
    let mut quiet = Duration::ZERO;
    while quiet < LATEST_ANSWER {
        let is_end = shared.ended.load(Ordering::Relaxed) >= before;
        match step() {
            Some(()) => quiet = Duration::ZERO,
            None if is_end => quiet += LOOK,
            None => {}
        }
        if is_end && shared.answered() == shared.sent.load(Ordering::Relaxed) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_packets_are_reported_in_runs() {
        let times: Vec<Duration> = (0..10).map(|n| INTERVAL * n).collect();
        let report = Report::new(&times, |number| !matches!(number, 2 | 5..=7));
        assert_eq!((report.sent, report.lost), (10, 4));
        assert_eq!(report.longest_gap, Duration::from_millis(3));
        let runs: Vec<_> = report.lost_runs.iter().map(|run| (run.first, run.last)).collect();
        assert_eq!(runs, [(2, 2), (5, 7)]);
    }

    struct Here;

    impl Place for Here {
        fn name(&self) -> &str {
            "here"
        }

        fn netns(&self) -> std::path::PathBuf {
            "/proc/self/ns/net".into()
        }
    }

    #[test]
    fn a_socket_holds_what_comes_while_its_thread_waits_for_its_turn() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("not run: needs root");
            return;
        }
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let (from, to) =
            (socket(&Here, loopback).expect("a socket"), socket(&Here, loopback).expect("a socket"));
        let target = to.local_addr().expect("an address");
        for number in 0..40_000_u32 {
            from.send_to(&number.to_be_bytes(), target).expect("sending to ourselves");
        }
        let mut bytes = [0; 4];
        let held = (0..40_000).take_while(|_| to.recv_from(&mut bytes).is_ok()).count();
        assert_eq!(held, 40_000);
    }

    #[test]
    fn what_waits_in_a_socket_at_the_end_is_heard_by_a_thread_that_waits_for_its_turn() {
        let shared = Shared { sent: AtomicU32::new(1000), ..Shared::default() };
        shared.ended.store(2, Ordering::Relaxed);
        let mut waiting = vec![(); 3];
        until_quiet(&shared, 2, || {
            if waiting.len() == 3 {
                std::thread::sleep(LATEST_ANSWER + LOOK); // its turn is long in coming
            }
            waiting.pop()
        });
        assert!(waiting.is_empty(), "{} were left", waiting.len());
    }

    #[test]
    fn a_flow_ends_with_the_last_answer() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        if !nix::unistd::geteuid().is_root() {
            eprintln!("not run: needs root");
            return;
        }
        let flow = Flow::start(&Here, None, &Here, loopback).expect("a flow");
        while flow.answered() < 50 {
            std::thread::sleep(INTERVAL);
        }
        let report = flow.stop().expect("no thread panics");
        assert!(report.sent >= 50 && report.lost == 0, "{report:?}");
    }

    #[test]
    fn a_flow_that_loses_nothing_has_no_gap() {
        let report = Report::new(&[Duration::ZERO, INTERVAL], |_| true);
        assert_eq!((report.lost, report.longest_gap), (0, Duration::ZERO));
    }
}
