//! The driver on real sockets of the loopback interface, against a peer made of octets.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use cambric_bgp::config::ConnectMode;
use cambric_bgp::router::Restarted;
use cambric_bgp::{Admin, Asn, HoldTime, PeerConfig, Router, RouterConfig, RouterId, Wanted};
use cambric_speaker::{Handle, SpeakerConfig, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

const OPEN: u8 = 1;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;

fn asn(value: u32) -> Asn {
    Asn::new(value).expect("not 0")
}

/// A speaker with two passive peers on the loopback interface, hold time 3 s.
async fn speaker() -> (SocketAddr, Handle, JoinHandle<()>) {
    // A port that was free a moment ago.
    let probe = TcpListener::bind((ONE, 0)).await.expect("loopback");
    let port = probe.local_addr().expect("bound").port();
    drop(probe);
    let router_id = RouterId::new(1).expect("not 0");
    let mut wanted = Wanted::new(RouterConfig::new(asn(65001), router_id));
    for address in [ONE, OTHER] {
        let mut peer = PeerConfig::new(address.to_string(), address, asn(65002));
        peer.connect = ConnectMode::Passive;
        peer.hold_time = HoldTime::from_secs(3).expect("allowed");
        wanted.peers.insert(address.into(), peer);
    }
    let router = Router::new(Instant::now(), wanted, Restarted::No, BTreeSet::new(), 7);
    let (handle, mut events, task) = start(&SpeakerConfig { port }, router).expect("a free port");
    // Somebody takes the events, as the daemon does.
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    (SocketAddr::new(ONE, port), handle, task)
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(19 + body.len()).expect("short");
    [&[0xFF; 16][..], &length.to_be_bytes(), &[kind], body].concat()
}

async fn next(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut header = [0; 19];
    timeout(LIMIT, stream.read_exact(&mut header)).await.expect("in time").ok()?;
    let mut body = vec![0; usize::from(u16::from_be_bytes([header[16], header[17]])) - 19];
    timeout(LIMIT, stream.read_exact(&mut body)).await.expect("in time").ok()?;
    Some((header[18], body))
}

async fn connect(speaker: SocketAddr, source: IpAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::new(source, 0)).expect("loopback");
    socket.connect(speaker).await.expect("it listens")
}

fn open() -> Vec<u8> {
    let body = [&[4][..], &65002_u16.to_be_bytes(), &3_u16.to_be_bytes(), &[10, 0, 0, 2], &[0]].concat();
    message(OPEN, &body)
}

/// A session from `source`: both OPENs and KEEPALIVEs are exchanged.
async fn establish(speaker: SocketAddr, source: IpAddr) -> TcpStream {
    let mut stream = connect(speaker, source).await;
    let octets = [open(), message(KEEPALIVE, &[])].concat();
    stream.write_all(&octets).await.expect("open");
    assert_eq!(next(&mut stream).await.expect("an answer").0, OPEN);
    assert_eq!(next(&mut stream).await.expect("an answer").0, KEEPALIVE);
    stream
}

#[tokio::test]
async fn last_words_arrive_though_octets_were_left_unread() {
    let (address, _handle, _task) = speaker().await;
    let mut stream = establish(address, ONE).await;
    stream.write_all(&vec![0; 1 << 20]).await.expect("the socket takes it");
    loop {
        match next(&mut stream).await.expect("a NOTIFICATION before the end") {
            (NOTIFICATION, body) => break assert_eq!(body[..2], [1, 1]),
            (kind, _) => assert_ne!(kind, OPEN),
        }
    }
}

#[tokio::test]
async fn a_peer_that_never_stops_talking_does_not_hold_up_another() {
    let (address, _handle, _task) = speaker().await;
    let mut quiet = establish(address, ONE).await;
    let mut loud = establish(address, OTHER).await;
    let flood = tokio::spawn(async move {
        let octets = message(KEEPALIVE, &[]).repeat(4096);
        while loud.write_all(&octets).await.is_ok() {}
    });
    // Its timer is due each second, whatever the other one says.
    for _ in 0..3 {
        while next(&mut quiet).await.expect("the session stays").0 != KEEPALIVE {}
        quiet.write_all(&message(KEEPALIVE, &[])).await.expect("open");
    }
    flood.abort();
}

#[tokio::test]
async fn stopping_says_nothing() {
    let (address, handle, task) = speaker().await;
    let mut stream = establish(address, ONE).await;
    drop(handle);
    timeout(LIMIT, task).await.expect("in time").expect("it ends");
    while let Some((kind, _)) = next(&mut stream).await {
        assert_ne!(kind, NOTIFICATION);
    }
}

#[tokio::test]
async fn disabled_peer_is_told_so_on_its_session_and_when_it_connects() {
    let (address, handle, _task) = speaker().await;
    let mut session = establish(address, OTHER).await;
    let peer = handle.look(|router| router.peer_at(OTHER)).await.expect("it runs").expect("configured");
    handle.set_admin_at(OTHER, Admin::Disabled).await.expect("it runs");
    assert_eq!(last_words(&mut session).await, [6, 2]);
    let mut refused = connect(address, OTHER).await;
    assert_eq!(last_words(&mut refused).await, [6, 2]);
    handle.set_admin_at(OTHER, Admin::Enabled).await.expect("it runs");
    let mut session = establish(address, OTHER).await;
    handle.restart(peer).await.expect("it runs");
    assert_eq!(last_words(&mut session).await, [6, 4]);
    establish(address, OTHER).await;
}

/// A connection beside the session is one too many (6/7), one of a disabled peer is not wanted (6/2): it lives on
/// until that is read.
#[tokio::test]
async fn connections_in_a_loop_do_not_take_all_descriptors() {
    let (address, handle, _task) = speaker().await;
    let _session = establish(address, ONE).await;
    handle.set_admin_at(OTHER, Admin::Disabled).await.expect("it runs");
    for (source, most) in [(OTHER, 60), (ONE, 60)] {
        let before = descriptors();
        let mut open_here = Vec::new();
        for _ in 0..400 {
            let mut stream = connect(address, source).await;
            // It may be closed already.
            drop(stream.write_all(&open()).await);
            open_here.push(stream);
        }
        // While one of them is held, the others have ended; those with last words are still there.
        let mut more = 0;
        for at in 0..open_here.len() {
            while next(&mut open_here[at]).await.is_some() {}
            more = more.max(descriptors().saturating_sub(before + open_here.len()));
        }
        assert!(more < most, "{source}: {more} more descriptors");
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("proc").count()
}

/// The body of the NOTIFICATION before the connection ends.
async fn last_words(stream: &mut TcpStream) -> Vec<u8> {
    let mut last = None;
    while let Some((kind, body)) = next(stream).await {
        last = (kind == NOTIFICATION).then_some(body);
    }
    last.expect("a NOTIFICATION is the last message")
}
