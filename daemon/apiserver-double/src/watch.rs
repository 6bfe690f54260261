//! Watches.
//!
//! A watch owns a version, its cursor, and reads the history of its resource from there whenever the store has moved
//! on and its client has taken what came before. What is sent and when is that of the real server's watch cache
//! (k8s.io/apiserver, `storage/cacher`):
//!
//! - from an absent version, or 0: synthetic `ADDED` events of all objects, then changes;
//! - from version N: changes after N. One that the server has forgotten is answered with an `ERROR` event inside a 200;
//!   one that it has not reached with silence until it has, and nothing tells the client;
//! - with selectors: an object that begins to match is `ADDED`, one that no longer does is `DELETED`, shown as it was
//!   last seen with the version of the change;
//! - bookmarks if the client allows them, at an interval and once before the time is up.

use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use http::Response;
use hyper::body::Bytes;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tower::BoxError;

use crate::body::{self, Body, Cut};
use crate::faults::{Active, Expiry, StreamingLists};
use crate::form::Form;
use crate::list::{PIECE, wait_for};
use crate::options::Options;
use crate::selector::Selector;
use crate::server::{Call, Link, Server};
use crate::status::Status;
use crate::store::{Change, Object, State};

/// How long a watch lasts at most whose client names no time: the real server takes 30 to 60 minutes at random.
const LONGEST: Duration = Duration::from_secs(45 * 60);
/// The last bookmark comes so long before the end.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);
/// On the bookmark after the synthetic events (KEP-3157).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Answers a watch.
pub(crate) async fn watch(server: &Arc<Server>, call: &Call) -> Result<Response<Body>, Status> {
    let faults = server.faults.now();
    let streaming = faults.streaming_lists();
    let options = Options::read(call, streaming)?;
    if options.version.is_some_and(|version| version > 0) {
        match faults.expires(&call.kind.resource) {
            Some(Expiry::Outright) => {
                return Err(Status::expired("The resourceVersion for the provided watch is too old."));
            }
            Some(Expiry::InStream) => {
                let version = options.version.unwrap_or_default();
                return Ok(refused_in_stream(&too_old(version, server.store.read().version())));
            }
            None => {}
        }
    }
    let wants_initial_state = options.sends_initial_events == Some(true);
    if wants_initial_state && streaming == StreamingLists::RefusedInStream {
        let message = "a watch stream was requested by the client but the required storage feature \
             RequestWatchProgress is disabled";
        return Ok(refused_in_stream(&Status::new(500, "InternalError", message)));
    }
    if wants_initial_state && faults.stale().is_none() {
        // Before this the real server tells the cause in the stream, too.
        if let Err(status) = wait_for(server, options.version.unwrap_or_default()).await {
            return Ok(refused_in_stream(&status));
        }
    }
    let watcher = match Watcher::begin(server, call, &options, faults) {
        Ok(watcher) => watcher,
        Err(status) => return Ok(refused_in_stream(&status)),
    };
    Ok(body::stream(stream::unfold(watcher, async |mut watcher| {
        let piece = watcher.next().await?;
        Some((piece, watcher))
    })))
}

fn too_old(version: u64, forgotten: u64) -> Status {
    Status::expired(format!("too old resource version: {version} ({forgotten})"))
}

/// 200, and the refusal as the only event.
fn refused_in_stream(status: &Status) -> Response<Body> {
    let event = format!("{}\n", json!({"type": "ERROR", "object": status.to_value()}));
    body::stream(stream::iter([Ok(Bytes::from(event))]))
}

struct Watcher {
    server: Arc<Server>,
    form: Form,
    namespace: Option<String>,
    selector: Selector,
    /// Everything up to this version is told.
    cursor: u64,
    /// The version that the client named. Bookmarks come for later ones only.
    start: u64,
    /// What was there at the start.
    initial: std::vec::IntoIter<Arc<Object>>,
    /// The version of the bookmark that is due after that.
    initial_end: Option<u64>,
    /// Whether this watch is at a server that is behind, and that has not caught up yet.
    is_behind: bool,
    bookmarks: Option<Bookmarks>,
    deadline: Instant,
    changes: watch::Receiver<u64>,
    link: watch::Receiver<Link>,
    faults: watch::Receiver<Active>,
    /// [`Active::hung`] at the start.
    hung: u64,
    /// Octets until it is torn, once that is set.
    until_torn: Option<usize>,
    end: End,
}

struct Bookmarks {
    interval: Duration,
    next: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    NotYet,
    /// The piece that is on its way is the last, and the connection is cut after it.
    Torn,
    Over,
}

impl Watcher {
    fn begin(
        server: &Arc<Server>,
        call: &Call,
        options: &Options,
        faults: Active,
    ) -> Result<Watcher, Status> {
        // Before the state is looked at: what happens after it wakes this watch.
        let (changes, link) = (server.store.changes(), server.link());
        let fault_changes = server.faults.changes();
        let stale = faults.stale();
        let shows_state = match options.sends_initial_events {
            Some(wanted) => wanted,
            None => options.version.unwrap_or_default() == 0,
        };
        let resource = call.kind.stored_at();
        let look = |state: &State| -> Result<(u64, Vec<Arc<Object>>), Status> {
            let objects = match state.collection(resource) {
                Some(collection) if shows_state => {
                    let namespace = call.target.namespace.as_deref();
                    let is_wanted = |object: &Object| options.selector.matches(object);
                    collection.page(state.version(), namespace, None, usize::MAX, is_wanted).objects
                }
                _ => Vec::new(),
            };
            let start = match options.version {
                Some(version) if version > 0 && !shows_state => {
                    let forgotten = state.forgotten(resource);
                    if version < forgotten {
                        return Err(too_old(version, forgotten));
                    }
                    version
                }
                _ => state.version(),
            };
            Ok((start, objects))
        };
        let (start, initial) = match &stale {
            Some(mark) => look(&mark.0)?,
            None => look(&server.store.read())?,
        };
        let now = Instant::now();
        let time = options.timeout_seconds.map_or(LONGEST, Duration::from_secs).min(MAX_TIME);
        let (interval, deadline) = (server.bookmark_interval(), now + time);
        let is_end_told = options.sends_initial_events == Some(true) && options.allows_bookmarks;
        Ok(Watcher {
            server: Arc::clone(server),
            form: Form::new(Arc::clone(&call.kind), &call.target.version, &call.accept),
            namespace: call.target.namespace.clone(),
            selector: options.selector.clone(),
            cursor: start,
            start,
            initial: initial.into_iter(),
            initial_end: is_end_told.then_some(start),
            is_behind: stale.is_some(),
            bookmarks: options
                .allows_bookmarks
                .then(|| Bookmarks { interval, next: next_bookmark(now, interval, deadline) }),
            deadline,
            changes,
            link,
            faults: fault_changes,
            // A watch that begins while watches hang is dead from the start.
            hung: if faults.hangs_watches() { faults.hung.wrapping_sub(1) } else { faults.hung },
            until_torn: None,
            end: End::NotYet,
        })
    }

    /// What goes out next; waits for it. `None`: the answer ends as it should; an error: it is cut.
    async fn next(&mut self) -> Option<Result<Bytes, BoxError>> {
        match self.end {
            End::Over => return None,
            End::Torn => return Some(self.cut().await),
            End::NotYet => {}
        }
        let piece = match self.piece().await {
            Some(Ok(piece)) => piece,
            other => {
                self.end = End::Over;
                return other;
            }
        };
        let Some(after) = self.faults.borrow().torn_after() else {
            self.until_torn = None;
            return Some(Ok(piece));
        };
        let left = *self.until_torn.get_or_insert(after);
        if piece.len() <= left {
            self.until_torn = Some(left - piece.len());
            return Some(Ok(piece));
        }
        if left == 0 {
            return Some(self.cut().await);
        }
        self.end = End::Torn;
        Some(Ok(piece.slice(..left)))
    }

    async fn cut(&mut self) -> Result<Bytes, BoxError> {
        self.end = End::Over;
        // What was written before leaves when the writer has nothing else to do.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        Err(Cut.into())
    }

    async fn piece(&mut self) -> Option<Result<Bytes, BoxError>> {
        loop {
            if self.link.has_changed().unwrap_or(true) {
                return Some(Err(Cut.into()));
            }
            if self.is_hung() {
                let _ = self.link.changed().await;
                return Some(Err(Cut.into()));
            }
            if let Some(piece) = self.initial_piece() {
                return Some(Ok(piece));
            }
            self.changes.mark_unchanged();
            match self.changed_piece() {
                Err(cut) => return Some(Err(cut.into())),
                Ok(None) => return None,
                Ok(Some(piece)) if !piece.is_empty() => return Some(Ok(piece)),
                Ok(Some(_)) => {}
            }
            let now = Instant::now();
            if now >= self.deadline {
                return None;
            }
            if let Some(piece) = self.bookmark_piece(now) {
                return Some(Ok(piece));
            }
            let wake =
                self.bookmarks.as_ref().map_or(self.deadline, |bookmarks| bookmarks.next.min(self.deadline));
            tokio::select! {
                _ = self.changes.changed() => {}
                _ = self.faults.changed() => {}
                // Seen by `has_changed` in the next round, which `changed` would hide.
                _ = sees_change(&self.link) => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    fn is_hung(&self) -> bool {
        self.faults.borrow().hung != self.hung
    }

    fn initial_piece(&mut self) -> Option<Bytes> {
        let mut piece = Vec::new();
        while piece.len() < PIECE {
            let Some(object) = self.initial.next() else { break };
            push_event(&mut piece, "ADDED", &self.form.object(&object));
        }
        if self.initial.as_slice().is_empty()
            && let Some(version) = self.initial_end.take()
        {
            push_event(
                &mut piece,
                "BOOKMARK",
                self.form.bookmark(version, Some(INITIAL_EVENTS_END)).as_bytes(),
            );
        }
        (!piece.is_empty()).then(|| Bytes::from(piece))
    }

    /// Events of what has changed since the cursor. `None`: there is nothing more to watch, or the history has overtaken
    /// this watch.
    fn changed_piece(&mut self) -> Result<Option<Bytes>, Cut> {
        let mut piece = Vec::new();
        let stale = if self.is_behind { self.faults.borrow().stale() } else { None };
        self.is_behind = stale.is_some();
        let state = self.server.store.read();
        if self.link.has_changed().unwrap_or(true) {
            // This may be the state of another server.
            return Err(Cut);
        }
        let ceiling = stale.map_or(u64::MAX, |mark| mark.version());
        if self.cursor < state.forgotten(self.form.kind.stored_at()) && self.cursor < ceiling {
            return Ok(None);
        }
        if let Some(collection) = state.collection(self.form.kind.stored_at()) {
            for change in collection.since(self.cursor, ceiling) {
                self.cursor = change.version();
                self.push_change(&mut piece, change);
                if piece.len() >= PIECE {
                    return Ok(Some(Bytes::from(piece)));
                }
            }
        }
        // Its definition was removed, and the end of all objects is told.
        if piece.is_empty() && state.kind(&self.form.kind.resource).is_none() {
            return Ok(None);
        }
        // All is told up to here. A client that named a version of the future stays there.
        self.cursor = self.cursor.max(state.version().min(ceiling));
        Ok(Some(Bytes::from(piece)))
    }

    fn push_change(&self, piece: &mut Vec<u8>, change: &Change) {
        let is_inside = |object: &Object| {
            self.namespace.as_deref().is_none_or(|namespace| namespace == &*object.key.namespace)
                && self.selector.matches(object)
        };
        match change {
            Change::Added { after } if is_inside(after) => {
                push_event(piece, "ADDED", &self.form.object(after));
            }
            Change::Modified { before, after } => match (is_inside(before), is_inside(after)) {
                (true, true) => push_event(piece, "MODIFIED", &self.form.object(after)),
                (false, true) => push_event(piece, "ADDED", &self.form.object(after)),
                (true, false) => {
                    let mut last = before.value();
                    last["metadata"]["resourceVersion"] = json!(after.version.to_string());
                    push_event(piece, "DELETED", &self.form.value(last));
                }
                (false, false) => {}
            },
            Change::Deleted { before, last } if is_inside(before) => {
                push_event(piece, "DELETED", &self.form.object(last));
            }
            Change::Added { .. } | Change::Deleted { .. } => {}
        }
    }

    fn bookmark_piece(&mut self, now: Instant) -> Option<Bytes> {
        let bookmarks = self.bookmarks.as_mut().filter(|bookmarks| now >= bookmarks.next)?;
        bookmarks.next = next_bookmark(now, bookmarks.interval, self.deadline);
        if self.cursor <= self.start {
            return None;
        }
        let mut piece = Vec::new();
        push_event(&mut piece, "BOOKMARK", self.form.bookmark(self.cursor, None).as_bytes());
        Some(Bytes::from(piece))
    }
}

/// Longer than anybody waits, and far from overflowing a clock.
const MAX_TIME: Duration = Duration::from_secs(30 * 24 * 3600);

fn next_bookmark(now: Instant, interval: Duration, deadline: Instant) -> Instant {
    let next = now + interval;
    match deadline.checked_sub(LAST_BOOKMARK) {
        Some(last) if now < last && last < next => last,
        _ => next,
    }
}

async fn sees_change(link: &watch::Receiver<Link>) {
    let mut other = link.clone();
    // The clone has seen what this one has seen.
    let _ = other.changed().await;
}

fn push_event(piece: &mut Vec<u8>, event: &str, object: &[u8]) {
    piece.extend_from_slice(b"{\"type\":\"");
    piece.extend_from_slice(event.as_bytes());
    piece.extend_from_slice(b"\",\"object\":");
    piece.extend_from_slice(object);
    piece.extend_from_slice(b"}\n");
}
