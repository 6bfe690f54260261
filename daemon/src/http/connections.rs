//! Connections of one listener: a bounded number, each for a bounded time.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::{Page, Pages};

/// Connections that are there at once; one more takes the place of the oldest.
const MOST: usize = 64;
/// For a request and its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of a request's head, which a probe fills with a few lines.
const MOST_HEAD_BYTES: usize = 16 * 1024;
/// Accepting fails for want of files or memory, and goes on failing for a while.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn serve(listener: TcpListener, pages: Pages, served: BTreeSet<Page>) {
    let mut connections = JoinSet::new();
    let mut by_age: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        // Both are cancel-safe.
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    by_age.retain(|connection| !connection.is_finished());
                    if by_age.len() >= MOST && let Some(oldest) = by_age.pop_front() {
                        oldest.abort();
                    }
                    by_age.push_back(connections.spawn(connection(stream, pages.clone(), served.clone())));
                }
                Err(error) => {
                    tracing::warn!(error = %error, "health and metrics: accept failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, pages: Pages, served: BTreeSet<Page>) {
    let service = service_fn(|request| {
        let (pages, served) = (&pages, &served);
        async move { Ok::<_, Infallible>(pages.answer(served, &request).await) }
    });
    let mut server = http1::Builder::new();
    server.keep_alive(false).max_buf_size(MOST_HEAD_BYTES);
    let served = timeout(PATIENCE, server.serve_connection(TokioIo::new(stream), service)).await;
    if let Ok(Err(error)) = served {
        tracing::debug!(error = %error, "a client of health or metrics is gone");
    }
}
