//! Every frame that goes by on one interface of a node: packet sockets, no process.
//!
//! The kernel takes a VLAN tag off a frame before a packet socket sees it, and tells of it elsewhere. So there are two
//! sockets: one for frames without a tag, one for frames that had one.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::place::{Place, in_netns};

/// `ETH_P_ALL`, as the kernel wants it.
const ALL: u16 = 3_u16.to_be();
/// Longest frame there is, an interface's super-packets included.
const FRAME_OCTETS: usize = 65_536 + 64;
/// Room for all frames of a proof, should the reader be late.
const QUEUE_BYTES: usize = 32 << 20;
/// Ends a filter: so many octets of the frame are kept.
const RETURN: u16 = 0x06;
/// How often the reader looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);

/// A frame that went by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// From the destination MAC on.
    pub octets: Vec<u8>,
    /// Whether it had a VLAN tag that is not in the octets.
    pub tag: Tag,
}

/// Whether the kernel took a VLAN tag off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// It took none.
    None,
    /// It took one.
    Tagged,
}

/// Takes frames until it is stopped.
#[derive(Debug)]
pub struct Tap {
    stop: Arc<AtomicBool>,
    readers: Vec<JoinHandle<io::Result<Vec<Captured>>>>,
}

impl Tap {
    /// Begins: what goes by after this returns is seen.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn start(place: &dyn Place, interface: &str) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tap = Self { stop, readers: Vec::new() };
        for tag in [Tag::None, Tag::Tagged] {
            let socket = in_netns(place, || open(interface, tag))?
                .with_context(|| format!("looking at {interface} of {}", place.name()))?;
            let stop = Arc::clone(&tap.stop);
            let reader = std::thread::Builder::new().name("tap".into());
            tap.readers.push(reader.spawn(move || read(&socket, tag, &stop))?);
        }
        Ok(tap)
    }

    /// Ends, and gives all that went by.
    ///
    /// # Errors
    /// When a frame could not be read.
    pub fn stop(mut self) -> Result<Vec<Captured>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for reader in self.readers.drain(..) {
            all.extend(reader.join().map_err(|_| anyhow!("a reader panicked"))?.context("reading frames")?);
        }
        Ok(all)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn open(interface: &str, tag: Tag) -> io::Result<Socket> {
    let index = if_nametoindex(interface)?;
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(ALL))))?;
    setsockopt(&socket, RcvBufForce, &QUEUE_BYTES)?;
    socket.attach_filter(&filter(index, tag))?;
    socket.set_read_timeout(Some(LOOK))?;
    // What came before the filter was there may be anything.
    socket.set_nonblocking(true)?;
    while (&socket).read(&mut [0; 64]).is_ok() {}
    socket.set_nonblocking(false)?;
    Ok(socket)
}

/// One interface, with or without a tag (`linux/filter.h`: `SKF_AD_IFINDEX`, `SKF_AD_VLAN_TAG_PRESENT`).
fn filter(interface: u32, tag: Tag) -> [SockFilter; 6] {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const ABOUT: u32 = -0x1000_i32 as u32;
    const INTERFACE: u32 = ABOUT + 8;
    const TAG_PRESENT: u32 = ABOUT + 48;
    let wanted = u32::from(tag == Tag::Tagged);
    [
        SockFilter::new(LOAD_WORD, 0, 0, INTERFACE),
        SockFilter::new(JUMP_IF_EQUAL, 0, 3, interface),
        SockFilter::new(LOAD_WORD, 0, 0, TAG_PRESENT),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, wanted),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// Until it is to stop and nothing is left in the queue, into which nothing more comes by then.
fn read(mut socket: &Socket, tag: Tag, stop: &AtomicBool) -> io::Result<Vec<Captured>> {
    let mut buffer = vec![0; FRAME_OCTETS];
    let mut frames = Vec::new();
    let mut stopping = false;
    loop {
        if !stopping && stop.load(Ordering::Relaxed) {
            stopping = true;
            socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])?;
            socket.set_nonblocking(true)?;
        }
        match socket.read(&mut buffer) {
            Ok(length) => frames.push(Captured { octets: buffer[..length].to_vec(), tag }),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut if stopping => return Ok(frames),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => {}
                _ => return Err(error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::path::PathBuf;
    use std::sync::atomic::AtomicU32;
    use std::sync::mpsc;

    use super::*;
    use crate::poll;

    const LIMIT: Duration = Duration::from_secs(20);

    /// The network that the tests run in.
    struct Here;

    impl Place for Here {
        fn name(&self) -> &str {
            "here"
        }

        fn netns(&self) -> PathBuf {
            "/proc/self/ns/net".into()
        }
    }

    #[test]
    fn it_stops_on_a_link_that_is_never_silent() {
        if !nix::unistd::Uid::effective().is_root() {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "needs root");
            println!("not run: needs root");
            return;
        }
        let (over, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(socket.local_addr().expect("bound")).expect("connected");
        let talks = {
            let (over, sent) = (Arc::clone(&over), Arc::clone(&sent));
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    socket.send(b"on and on").expect("sent");
                    sent.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(1));
                }
            })
        };
        let (done, stopped) = mpsc::channel();
        std::thread::spawn(move || {
            let tap = Tap::start(&Here, "lo").expect("started");
            let start = sent.load(Ordering::Relaxed);
            let some = || sent.load(Ordering::Relaxed) >= start + 20;
            poll::until("frames to go by", LIMIT, some).expect("they do");
            let frames = tap.stop().expect("read").len();
            done.send(frames).expect("waited for");
        });
        let seen = stopped.recv_timeout(LIMIT);
        over.store(true, Ordering::Relaxed);
        talks.join().expect("sent");
        assert!(seen.expect("it stops") >= 20, "all that went by is seen");
    }
}
