//! Where connections from outside come in.

mod guard;

use std::io;
use std::time::{Duration, Instant};

use cambric_bgp::router::ListenerOptions;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep_until;

pub(crate) use guard::Guard;

/// A socket that listens, left alone for a moment when it fails.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    guard: Guard,
    /// When it failed last.
    failed_at: Option<Instant>,
}

impl Listener {
    /// How long it is left alone: without a free descriptor (EMFILE) it would fail again at once, for as long as
    /// a connection waits in the kernel.
    const REST: Duration = Duration::from_millis(100);
    /// Failures no further apart are one streak.
    const STREAK: Duration = Duration::from_secs(10);

    /// From a socket that has what `guard` says.
    pub(crate) fn new(socket: TcpListener, guard: Guard) -> Listener {
        Listener { socket, guard, failed_at: None }
    }

    /// Lets in whom `wanted` lets in.
    pub(crate) fn follow(&mut self, wanted: &ListenerOptions) {
        self.guard.follow(&self.socket, wanted);
    }

    /// The next connection. Cancel-safe: a rest ends when it does, however often it is waited for.
    ///
    /// # Errors
    /// The kernel's; tell [`Listener::failed`].
    pub(crate) async fn accept(&self) -> io::Result<TcpStream> {
        if let Some(failed_at) = self.failed_at {
            sleep_until((failed_at + Self::REST).into()).await;
        }
        self.socket.accept().await.map(|(stream, _)| stream)
    }

    /// It has failed. Logged once a streak: what is wrong with the machine may be so for long.
    pub(crate) fn failed(&mut self, now: Instant, error: &io::Error) {
        let before = self.failed_at.replace(now);
        if before.is_none_or(|before| now.duration_since(before) > Self::STREAK) {
            tracing::warn!(error = %error, "accept failed; tried again every 100 ms");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    /// Held by tests that log. Where one logs for the first time while another one begins to count, tracing may take the place
    /// in the code for one that nobody listens to.
    static LOGGING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    /// Counts what is logged.
    struct Log(Arc<AtomicUsize>);

    impl Subscriber for Log {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, _: &Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    async fn listener() -> Listener {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback");
        Listener::new(socket, Guard::new(cambric_bgp::Family::Ipv4))
    }

    #[tokio::test]
    async fn listener_that_failed_is_left_alone_and_then_serves() {
        let _alone = LOGGING.lock().await;
        let mut listener = listener().await;
        let address = listener.socket.local_addr().expect("bound");
        let client = tokio::spawn(TcpStream::connect(address));
        let start = Instant::now();
        listener.failed(start, &io::Error::other("no descriptor"));
        listener.accept().await.expect("the client");
        assert!(start.elapsed() >= Listener::REST);
        client.await.expect("it runs").expect("somebody listens");
    }

    #[tokio::test]
    async fn failures_are_logged_once_a_streak() {
        let _alone = LOGGING.lock().await;
        let mut listener = listener().await;
        let (lines, start) = (Arc::new(AtomicUsize::new(0)), Instant::now());
        let _guard = tracing::subscriber::set_default(Log(Arc::clone(&lines)));
        for at_ms in (0..60_000).step_by(100).chain((120_000..180_000).step_by(100)) {
            listener.failed(start + Duration::from_millis(at_ms), &io::Error::other("no descriptor"));
        }
        assert_eq!(lines.load(Ordering::Relaxed), 2);
    }
}
