//! New flows, one after the other: each is a datagram from a port that none before had, and is answered or not. So each
//! is judged by the rules anew, which an old flow is not.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use cambric_lab::Place;
use cambric_lab::place::in_netns;

/// Time between two.
const INTERVAL: Duration = Duration::from_millis(2);
/// How long an answer may take; so long a socket stays open.
const LATEST_ANSWER: Duration = Duration::from_millis(800);

/// Somebody who knocks at a server's door until it is stopped.
pub(crate) struct Knocking {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Knocks>>>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Knocks {
    pub(crate) sent: u32,
    pub(crate) answered: u32,
}

impl Knocks {
    pub(crate) fn lost(self) -> u32 {
        self.sent - self.answered
    }
}

impl std::ops::Add for Knocks {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { sent: self.sent + other.sent, answered: self.answered + other.answered }
    }
}

impl std::iter::Sum for Knocks {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), std::ops::Add::add)
    }
}

impl Knocking {
    pub(crate) fn start(from: &(impl Place + Clone + Send + 'static), at: SocketAddr) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, from) = (Arc::clone(&stop), from.clone());
        let thread = std::thread::Builder::new().name(format!("knock at {at}"));
        let thread = thread.spawn(move || in_netns(&from, || knock(at, &stopped))?)?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends, once the last answers had their time.
    pub(crate) fn stop(mut self) -> Result<Knocks> {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(Knocks::default()) };
        thread.join().map_err(|_| anyhow!("a thread panicked"))?
    }
}

impl Drop for Knocking {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn knock(at: SocketAddr, stop: &AtomicBool) -> Result<Knocks> {
    let any: IpAddr = if at.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let (start, mut knocks) = (Instant::now(), Knocks::default());
    let mut waiting: VecDeque<(Instant, UdpSocket)> = VecDeque::new();
    while !stop.load(Ordering::Relaxed) || !waiting.is_empty() {
        if !stop.load(Ordering::Relaxed) {
            let socket = UdpSocket::bind((any, 0))?;
            socket.set_nonblocking(true)?;
            // No route is a lost one as well.
            let _ = socket.send_to(b"who am i", at);
            knocks.sent += 1;
            waiting.push_back((Instant::now(), socket));
        }
        while let Some((_, socket)) = waiting.pop_front_if(|(sent, _)| sent.elapsed() >= LATEST_ANSWER) {
            match socket.recv(&mut [0; 64]) {
                Ok(_) => knocks.answered += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        std::thread::sleep((INTERVAL * knocks.sent).saturating_sub(start.elapsed()).max(INTERVAL / 4));
    }
    Ok(knocks)
}
