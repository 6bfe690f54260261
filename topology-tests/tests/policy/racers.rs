//! The threads of the race: in each pod, and where those are who may not reach it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use cambric_lab::place::in_netns;
use cambric_lab::{Place, Pod};

use crate::packets::sockets;

/// Where everybody sends from and to.
pub(crate) const PORT: u16 = 7070;

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) refused: AtomicUsize,
    pub(crate) sent: AtomicUsize,
    pub(crate) swept: AtomicUsize,
    pub(crate) leaked: AtomicUsize,
}

/// Whom a pod tries to reach.
pub(crate) struct Targets<'a> {
    pub(crate) forbidden: &'a [SocketAddr],
    pub(crate) friends: &'a [SocketAddr],
}

/// Tells threads to end, however the work ends.
pub(crate) struct Ends<'a>(pub(crate) &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The network of a pod that is in the making.
pub(crate) struct Coming {
    pub(crate) name: String,
    pub(crate) netns: PathBuf,
}

impl Place for Coming {
    fn name(&self) -> &str {
        &self.name
    }

    fn netns(&self) -> PathBuf {
        self.netns.clone()
    }
}

/// From inside: sends to everybody as soon and as often as that can be done; tells when the friend first answered.
pub(crate) fn try_everybody(
    place: &Coming,
    targets: &Targets<'_>,
    stop: &AtomicBool,
    counts: &Counts,
    heard: &OnceLock<Instant>,
) {
    let is_over = || stop.load(Ordering::Relaxed);
    let in_pod = || -> Result<()> {
        let sockets = sockets(PORT)?;
        let send =
            |target: &SocketAddr| sockets[usize::from(target.is_ipv6())].send_to(b"race", target).is_ok();
        while !is_over() {
            let went = targets.forbidden.iter().filter(|target| send(target)).count();
            counts.sent.fetch_add(went, Ordering::Relaxed);
            for friend in targets.friends {
                send(friend);
            }
            for socket in &sockets {
                while let Ok((_, from)) = socket.recv_from(&mut [0; 16]) {
                    if targets.friends.iter().any(|friend| friend.ip() == from.ip()) {
                        heard.get_or_init(Instant::now);
                    } else {
                        counts.leaked.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    };
    // Until it is there; once inside it stays to the end.
    while !is_over() && !matches!(in_netns(place, in_pod), Ok(Ok(()))) {
        thread::yield_now();
    }
}

/// From outside: sends to every address that a pod of c1 may get, again and again; what comes is a leak.
pub(crate) fn sweep(place: &dyn Place, stop: &AtomicBool, counts: &Counts) -> Result<()> {
    in_netns(place, || {
        let sockets = sockets(PORT)?;
        let own = addresses_of_c1();
        while !stop.load(Ordering::Relaxed) {
            for piece in own.chunks(64) {
                for target in piece {
                    let went = sockets[usize::from(target.is_ipv6())].send_to(b"sweep", target).is_ok();
                    counts.swept.fetch_add(usize::from(went), Ordering::Relaxed);
                }
                for socket in &sockets {
                    while let Ok((length, _)) = socket.recv_from(&mut [0; 16]) {
                        // The sweep of another one finds us, too.
                        counts.leaked.fetch_add(usize::from(length == b"race".len()), Ordering::Relaxed);
                    }
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    })?
}

/// The whole range of the node, in both families.
fn addresses_of_c1() -> Vec<SocketAddr> {
    let pair = |last: u8| {
        let [ipv4, ipv6] = [
            IpAddr::from([198, 51, 100, last]),
            IpAddr::from([0x2001, 0xdb8, 0x101, 0, 0, 0, 0, u16::from(last)]),
        ];
        [SocketAddr::new(ipv4, PORT), SocketAddr::new(ipv6, PORT)]
    };
    (1..=254).flat_map(pair).collect()
}

/// The friend answers whoever reaches it.
pub(crate) fn answer(friend: &Pod, stop: &AtomicBool) -> Result<()> {
    in_netns(friend, || {
        let sockets = sockets(PORT)?;
        while !stop.load(Ordering::Relaxed) {
            for socket in &sockets {
                while let Ok((length, from)) = socket.recv_from(&mut [0; 16]) {
                    if length == b"race".len() {
                        let _ = socket.send_to(b"friend", from); // it may be gone
                    }
                }
            }
            thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    })?
}
