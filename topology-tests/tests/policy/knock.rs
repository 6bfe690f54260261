//! New flows, one after the other: each is a datagram from a port that none before had, and is answered or not. So each
//! is judged by the rules anew, which an old flow is not.

use std::collections::{BTreeSet, VecDeque};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use cambric_lab::Place;
use cambric_lab::place::in_netns;

/// Time between two.
const INTERVAL: Duration = Duration::from_millis(4);
/// How long an answer may take on a busy machine; so long a socket stays open.
const LATEST_ANSWER: Duration = Duration::from_secs(2);

/// Behind that of the server, and before those that the kernel gives.
const PORTS: Range<u16> = 8_000..32_000;

/// Somebody who knocks at a server's door until it is stopped.
pub(crate) struct Knocking {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Knocks>>>,
}

/// What became of it.
#[derive(Debug, Default)]
pub(crate) struct Knocks {
    /// Who, and where.
    who: String,
    pub(crate) sent: u32,
    pub(crate) answered: u32,
    /// When the first was sent that was not answered, and the last.
    unanswered: Option<(Instant, Instant)>,
    /// Why some could not even be sent.
    errors: BTreeSet<String>,
}

impl Knocks {
    pub(crate) fn lost(&self) -> u32 {
        self.sent - self.answered
    }

    /// In words, with times from then on.
    pub(crate) fn in_words(&self, start: Instant) -> String {
        let since = |at: Instant| at.saturating_duration_since(start);
        let lost = self.unanswered.map(|(first, last)| (since(first), since(last)));
        let Self { who, sent, answered, errors, .. } = self;
        format!("{who}: {answered} of {sent} answered, others sent between {lost:.3?} {errors:?}")
    }
}

impl Knocking {
    pub(crate) fn start(from: &(impl Place + Clone + Send + 'static), at: SocketAddr) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, from) = (Arc::clone(&stop), from.clone());
        let thread = std::thread::Builder::new().name(format!("knock at {at}"));
        let who = format!("{} at {at}", from.name());
        let thread = thread.spawn(move || in_netns(&from, || knock(who, at, &stopped))?)?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends them all, once the last answers had their time.
    pub(crate) fn stop(mut all: Vec<Self>) -> Result<Vec<Knocks>> {
        all.iter().for_each(|knocking| knocking.stop.store(true, Ordering::Relaxed));
        let threads = all.iter_mut().filter_map(|knocking| knocking.thread.take());
        threads.map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?).collect()
    }
}

impl Drop for Knocking {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// None that a connection of the kernel's memory could have: a datagram of an old flow is not judged.
fn next_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let span = u32::from(PORTS.end - PORTS.start);
    PORTS.start + (NEXT.fetch_add(1, Ordering::Relaxed) % span) as u16
}

fn knock(who: String, at: SocketAddr, stop: &AtomicBool) -> Result<Knocks> {
    let any: IpAddr = if at.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let (start, mut knocks) = (Instant::now(), Knocks { who, ..Knocks::default() });
    let mut waiting: VecDeque<(Instant, UdpSocket)> = VecDeque::new();
    while !stop.load(Ordering::Relaxed) || !waiting.is_empty() {
        if !stop.load(Ordering::Relaxed) {
            let socket = UdpSocket::bind((any, next_port()))?;
            socket.set_nonblocking(true)?;
            waiting.push_back((Instant::now(), socket.try_clone()?));
            knocks.sent += 1;
            if let Err(error) = socket.send_to(b"who am i", at) {
                knocks.errors.insert(error.to_string());
            }
        }
        while let Some((sent, socket)) = waiting.pop_front_if(|(sent, _)| sent.elapsed() >= LATEST_ANSWER) {
            match socket.recv(&mut [0; 64]) {
                Ok(_) => knocks.answered += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    knocks.unanswered = Some((knocks.unanswered.map_or(sent, |(first, _)| first), sent));
                }
                Err(error) => return Err(error.into()),
            }
        }
        std::thread::sleep((INTERVAL * knocks.sent).saturating_sub(start.elapsed()).max(INTERVAL / 4));
    }
    Ok(knocks)
}
