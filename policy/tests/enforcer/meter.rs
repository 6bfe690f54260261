//! New flows all the time, of one kind that is always allowed and of one that never is.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cambric_policy::program::Family;

use crate::wire::Pod;

const PORT: u16 = 4242;
const ALLOWED: &[u8] = b"allowed";
const DENIED: &[u8] = b"denied";
/// An answer takes some 50 us on a quiet machine.
const LONG: Duration = Duration::from_secs(5);
/// Between two flows of one kind and family: connection tracking holds 262,144 of them, some for two minutes.
const PAUSE: Duration = Duration::from_micros(250);

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) allowed: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) denied: AtomicU64,
    pub(crate) leaked: AtomicU64,
}

impl Tally {
    /// All of both kinds were judged right, and there were some.
    pub(crate) fn check(&self) {
        let [allowed, lost, denied, leaked] =
            [&self.allowed, &self.lost, &self.denied, &self.leaked].map(|count| count.load(Ordering::SeqCst));
        println!("allowed {allowed}, lost {lost}; denied {denied}, leaked {leaked}");
        assert!(allowed > 100 && denied > 100, "{self:?}");
        assert_eq!((lost, leaked), (0, 0), "{self:?}");
    }
}

/// Sends until it is ended: from `friend` to `server` with answers, from `foe` to it without.
pub(crate) struct Meter {
    tally: Arc<Tally>,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Meter {
    pub(crate) fn start(server: &Pod, friend: &Pod, foe: &Pod) -> Meter {
        let (tally, ended) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
        let mut threads = Vec::new();
        for family in Family::ALL {
            let target = (server.address(family), PORT);
            let answers = server.socket(family, PORT);
            let (counts, end) = (tally.clone(), ended.clone());
            threads.push(thread::spawn(move || {
                let mut buffer = [0; 64];
                answers.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
                while !end.load(Ordering::SeqCst) {
                    let Ok((length, from)) = answers.recv_from(&mut buffer) else { continue };
                    if &buffer[..length] == DENIED {
                        counts.leaked.fetch_add(1, Ordering::SeqCst);
                    } else {
                        answers.send_to(ALLOWED, from).expect("answered");
                    }
                }
            }));
            let (counts, end) = (tally.clone(), ended.clone());
            let own = friend.address(family);
            threads.push(in_pod(friend, move || {
                while !end.load(Ordering::SeqCst) {
                    // A new port: a new flow.
                    let socket = UdpSocket::bind((own, 0)).expect("bound");
                    socket.set_read_timeout(Some(LONG)).expect("set");
                    socket.send_to(ALLOWED, target).expect("sent");
                    counts.allowed.fetch_add(1, Ordering::SeqCst);
                    if socket.recv(&mut [0; 64]).is_err() {
                        counts.lost.fetch_add(1, Ordering::SeqCst);
                    }
                    thread::sleep(PAUSE);
                }
            }));
            let (counts, end) = (tally.clone(), ended.clone());
            let own = foe.address(family);
            threads.push(in_pod(foe, move || {
                while !end.load(Ordering::SeqCst) {
                    let socket = UdpSocket::bind((own, 0)).expect("bound");
                    socket.send_to(DENIED, target).expect("sent");
                    counts.denied.fetch_add(1, Ordering::SeqCst);
                    thread::sleep(PAUSE);
                }
            }));
        }
        Meter { tally, ended, threads }
    }

    /// How many allowed ones were sent so far.
    pub(crate) fn allowed(&self) -> u64 {
        self.tally.allowed.load(Ordering::SeqCst)
    }

    /// Ends it. What is under way arrives before that: a veth delivers within the call.
    pub(crate) fn end(self) -> Arc<Tally> {
        self.ended.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("it ended well");
        }
        self.tally
    }
}

/// A thread in the network namespace of a pod: it has that of the thread that starts it.
fn in_pod(pod: &Pod, job: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    pod.inside(move || thread::spawn(job))
}
