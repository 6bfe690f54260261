//! The control socket: JSON lines, root only.

mod answer;
mod capabilities;
mod client;
pub(crate) mod cluster;
mod disabled;
mod drain;
mod hops;
mod links;
mod mrt;
mod peers;
mod policy;
mod protocols;
mod routes;
mod stations;
mod status;
mod words;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use cambric_api::{Reply, Request};
use cambric_speaker::Gone;
use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

pub use self::client::understood;
use self::client::{Operator, Place};
pub use self::disabled::Disabled;
use crate::state::Shared;

/// File name in the run-time folder.
pub const SOCKET_NAME: &str = "cambricd.sock";
/// Operators that are answered at once.
const MOST_OPERATORS: usize = 128;
/// Pods for which the plugin is answered at once: neither it nor an operator has to wait for the other.
const MOST_PLACED: usize = 128;
/// Clients that are there at once. A further one takes the place of the one that has been silent for longest.
const MOST_CLIENTS: usize = MOST_OPERATORS + MOST_PLACED;
/// Accepting fails for want of files or memory, and goes on failing for a while.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens and serves. The socket is made under another name and moved, so that it is never seen with
/// wider permissions than 0600.
///
/// # Errors
/// The folder's.
pub fn start(run_dir: &Path, shared: Shared) -> io::Result<JoinHandle<()>> {
    let path = run_dir.join(SOCKET_NAME);
    let temporary = run_dir.join(format!(".{SOCKET_NAME}.tmp"));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&temporary)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))?;
    fs::rename(&temporary, &path)?;
    Ok(tokio::spawn(serve(listener, shared)))
}

async fn serve(listener: UnixListener, shared: Shared) {
    let mut clients = JoinSet::new();
    let mut places: Vec<Weak<Place>> = Vec::new();
    let seats = Arc::new(Seats::default());
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let Some(operator) = Operator::of(&stream) else {
                        tracing::warn!("control client of another user is refused");
                        continue;
                    };
                    if clients.len() >= MOST_CLIENTS && !make_room(&places) {
                        turn_away(&stream);
                        continue;
                    }
                    let (place, shared) = (Arc::new(Place::default()), shared.clone());
                    let seats = Arc::clone(&seats);
                    places.push(Arc::downgrade(&place));
                    clients.spawn(async move {
                        if let Err(error) = client::serve(stream, operator, &place, &seats, &shared).await {
                            tracing::debug!(error = %error, "control client is gone");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(error = %error, "control socket: accept failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = clients.join_next() => places.retain(|place| place.strong_count() > 0),
        }
    }
}

/// Who is answered at once.
#[derive(Debug)]
pub(in crate::control) struct Seats {
    operators: Semaphore,
    placed: Semaphore,
}

impl Default for Seats {
    fn default() -> Seats {
        Seats { operators: Semaphore::new(MOST_OPERATORS), placed: Semaphore::new(MOST_PLACED) }
    }
}

impl Seats {
    /// One for the time of an answer.
    ///
    /// # Errors
    /// That there is none.
    pub(in crate::control) fn take(&self, request: &Request) -> Result<SemaphorePermit<'_>, Box<Reply>> {
        let (seats, most) = match request {
            Request::Place { .. } => (&self.placed, MOST_PLACED),
            _ => (&self.operators, MOST_OPERATORS),
        };
        seats.try_acquire().map_err(|_| Box::new(all_taken(most)))
    }
}

fn all_taken(most: usize) -> Reply {
    Reply::unavailable(format!("{most} others are being answered; try again"))
}

/// Takes the place of the client that has been silent for longest; false if all are being answered.
fn make_room(places: &[Weak<Place>]) -> bool {
    let taken = places.iter().filter_map(Weak::upgrade);
    let longest =
        taken.filter_map(|place| Some((place.idle_since()?, place))).min_by_key(|(since, _)| *since);
    longest.map(|(_, place)| place.take_back()).is_some()
}

/// It has asked nothing yet, so its buffer is empty and takes the line.
fn turn_away(stream: &UnixStream) {
    let Ok(mut line) = serde_json::to_vec(&all_taken(MOST_CLIENTS)) else { return };
    line.push(b'\n');
    if let Err(error) = stream.try_write(&line) {
        tracing::debug!(error = %error, "control client is turned away without a word");
    }
}

/// Why there is no answer.
#[derive(Debug, Error)]
enum Fault {
    /// Nobody can give it.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// It is another one than what was asked for.
    #[error("reply {}", .0.code)]
    Answer(Box<Reply>),
    /// Nobody takes it.
    #[error(transparent)]
    Client(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn room_is_made_by_who_has_been_silent_for_longest() {
        let places: [Arc<Place>; 3] = Default::default();
        let mut weak: Vec<Weak<Place>> = places.iter().map(Arc::downgrade).collect();
        assert!(!make_room(&weak), "all are being answered");
        let now = Instant::now();
        places[1].set_idle_since(Some(now));
        places[2].set_idle_since(Some(now - Duration::from_secs(1)));
        assert!(make_room(&weak));
        assert!(places[2].idle_since().is_none() && places[1].idle_since().is_some());
        assert!(make_room(&weak));
        assert!(!make_room(&weak), "nobody is asked twice");
        weak.push(Weak::new());
        assert!(!make_room(&weak), "who is gone has none");
    }

    #[test]
    fn neither_operators_nor_the_plugin_take_the_others_seats() {
        let place = Request::Place {
            interface: String::new(),
            namespace: None,
            name: None,
            uid: None,
            addresses: Vec::new(),
        };
        for (first, second, most) in
            [(&Request::ShowStatus, &place, MOST_OPERATORS), (&place, &Request::ShowStatus, MOST_PLACED)]
        {
            let seats = Seats::default();
            let taken: Vec<_> = (0..most).map(|_| seats.take(first).expect("a seat")).collect();
            let refused = seats.take(first).expect_err("all are taken");
            assert_eq!(*refused, Reply::unavailable("128 others are being answered; try again"));
            assert!(seats.take(second).is_ok());
            drop(taken);
            assert!(seats.take(first).is_ok());
        }
    }

    #[tokio::test]
    async fn who_is_turned_away_is_told_why() {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        ours.writable().await.expect("a socket");
        turn_away(&ours);
        drop(ours);
        let mut said = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut { theirs }, &mut said).await.expect("a socket");
        let reply: Reply = serde_json::from_slice(&said).expect("a reply");
        assert_eq!(reply, Reply::unavailable("256 others are being answered; try again"));
    }
}
