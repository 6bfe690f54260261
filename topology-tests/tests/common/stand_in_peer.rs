//! A BGP peer made of octets, on an address of a node: it says an OPEN that no other implementation would.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use cambric_lab::Node;

const BGP: u16 = 179;
const HOLD_TIME_S: u16 = 9;
/// How often a KEEPALIVE is said, and how soon an end is noticed.
const BEAT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(50);

const OPEN: u8 = 1;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;
const HEADER: usize = 19;

/// Takes one connection after the other until it is dropped.
pub(crate) struct StandInPeer {
    stop: Arc<AtomicBool>,
    heard: Arc<Mutex<Vec<[u8; 2]>>>,
    thread: Option<JoinHandle<()>>,
}

impl StandInPeer {
    /// Listens at an address of `node`; whoever connects hears of this AS and identifier.
    pub(crate) fn listen(node: &Node, address: &str, asn: u16, id: [u8; 4]) -> Result<Self> {
        let at: SocketAddr = format!("{address}:{BGP}").parse().context("an IPv4 address")?;
        let listener = node.in_netns(|| TcpListener::bind(at))??;
        listener.set_nonblocking(true)?;
        let (stop, heard) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (stops, hears) = (Arc::clone(&stop), Arc::clone(&heard));
        let thread = std::thread::Builder::new().name(format!("peer {address}")).spawn(move || {
            while !stops.load(Ordering::Relaxed) {
                match listener.accept() {
                    // The other end may go at any moment: then comes the next one.
                    Ok((stream, _)) => drop(talk(stream, asn, id, &stops, &hears)),
                    Err(_) => std::thread::sleep(PAUSE),
                }
            }
        })?;
        Ok(Self { stop, heard, thread: Some(thread) })
    }

    /// Code and subcode of each NOTIFICATION that came.
    pub(crate) fn notifications(&self) -> Vec<[u8; 2]> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for StandInPeer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join()); // a panic of it is told already
        }
    }
}

/// One connection to its end.
fn talk(
    mut stream: TcpStream,
    asn: u16,
    id: [u8; 4],
    stop: &AtomicBool,
    heard: &Mutex<Vec<[u8; 2]>>,
) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(BEAT))?;
    let open = [&[4][..], &asn.to_be_bytes(), &HOLD_TIME_S.to_be_bytes(), &id, &[0]].concat();
    stream.write_all(&message(OPEN, &open))?;
    let (mut input, mut chunk) = (Vec::new(), [0; 4096]);
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => input.extend_from_slice(&chunk[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                stream.write_all(&message(KEEPALIVE, &[]))?;
            }
            Err(error) => return Err(error),
        }
        while let Some((kind, body)) = next(&mut input) {
            match (kind, &body[..]) {
                (OPEN, _) => stream.write_all(&message(KEEPALIVE, &[]))?,
                (NOTIFICATION, [code, subcode, ..]) => {
                    heard.lock().unwrap_or_else(PoisonError::into_inner).push([*code, *subcode]);
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Header and body (RFC 4271 section 4.1).
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HEADER + body.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&[0xFF; 16][..], &length, &[kind], body].concat()
}

/// The first whole message of `input`.
fn next(input: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let length = usize::from(u16::from_be_bytes([*input.get(16)?, *input.get(17)?]));
    if length < HEADER || input.len() < length {
        return None;
    }
    let message: Vec<u8> = input.drain(..length).collect();
    Some((message[18], message[HEADER..].to_vec()))
}
