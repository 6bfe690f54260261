//! BFD beside BGP: a thread of its own, so that neither a large table nor a slow socket delays a packet.
//!
//! Wishes go in as a whole ([`Bfd::follow`]), and how the sessions are comes out as the latest state ([`Report`]): nothing
//! queues between the two. The thread starts with the first session that is wanted, and hosts without one have no socket on
//! UDP port 3784. It ends with its [`Bfd`], without a word; [`Bfd::farewell`] is the word.

mod socket;
mod thread;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cambric_bfd::{Refusal, Status};
use cambric_bgp::PeerId;
use cambric_bgp::router::BfdSession;
use tokio::sync::{oneshot, watch};

/// How all sessions of BFD are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Those that are wanted.
    pub sessions: BTreeMap<PeerId, Status>,
    /// Packets that were not taken, since the start.
    pub refused: BTreeMap<Refusal, u64>,
}

/// The way to the thread.
#[derive(Debug)]
pub(crate) struct Bfd {
    wishes: Arc<Wishes>,
    /// A word on it wakes the thread, and its end ends it.
    bell: UnixStream,
}

/// What the thread has not taken yet.
#[derive(Debug, Default)]
struct Wishes(Mutex<Wish>);

#[derive(Debug, Default)]
struct Wish {
    sessions: Option<BTreeMap<PeerId, BfdSession>>,
    /// Whoever waits until the packets are out.
    done: Option<oneshot::Sender<()>>,
}

impl Wishes {
    fn lock(&self) -> MutexGuard<'_, Wish> {
        // Whoever panicked with it left it whole: it is only ever filled and taken.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bfd {
    /// Starts the thread; it tells `report`.
    ///
    /// # Errors
    /// The system has no thread or descriptor left.
    pub(crate) fn start(report: watch::Sender<Report>) -> io::Result<Bfd> {
        let (bell, rings) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        rings.set_nonblocking(true)?;
        let wishes = Arc::new(Wishes::default());
        let seed = RandomState::new().build_hasher().finish();
        thread::start(thread::Outside { wishes: Arc::clone(&wishes), rings, report }, seed)?;
        Ok(Bfd { wishes, bell })
    }

    /// These sessions should be, and no others.
    pub(crate) fn follow(&self, sessions: BTreeMap<PeerId, BfdSession>) {
        self.wishes.lock().sessions = Some(sessions);
        self.ring();
    }

    /// Tells all neighbours that there will be no session, and `done` when the packets are out.
    pub(crate) fn farewell(&self, done: oneshot::Sender<()>) {
        *self.wishes.lock() = Wish { sessions: Some(BTreeMap::new()), done: Some(done) };
        self.ring();
    }

    fn ring(&self) {
        // If it is full, the thread has been woken already.
        drop((&self.bell).write(&[0]));
    }
}
