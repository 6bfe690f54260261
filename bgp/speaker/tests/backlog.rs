//! A daemon that does not take what it is told, and a peer that is told little of much: neither stops the speaker.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use cambric_bgp::config::{ConnectMode, Source};
use cambric_bgp::peer::PeerState;
use cambric_bgp::router::Restarted;
use cambric_bgp::{Asn, Originated, PeerConfig, Prefix, Router, RouterConfig, RouterId, Wanted};
use cambric_speaker::{Event, Handle, SpeakerConfig, start};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(19 + body.len()).expect("short");
    [&[0xFF; 16][..], &length.to_be_bytes(), &[kind], body].concat()
}

/// A speaker with one passive peer, and these routes, which it offers to nobody.
fn speaker(own: u32) -> (SocketAddr, Handle, mpsc::Receiver<Event>) {
    // A port that was free a moment ago.
    let probe = TcpListener::bind((HERE, 0)).expect("loopback");
    let address = probe.local_addr().expect("bound");
    drop(probe);
    let asn = |value| Asn::new(value).expect("not 0");
    let mut wanted = Wanted::new(RouterConfig::new(asn(65001), RouterId::new(1).expect("not 0")));
    let peer = PeerConfig::new("peer", HERE, asn(65002));
    wanted.peers.insert(HERE.into(), PeerConfig { connect: ConnectMode::Passive, ..peer });
    for host in 0..own {
        let prefix = Prefix::host(IpAddr::from((0x0AF4_0000 + host).to_be_bytes()));
        let nobody = Originated { offers: Vec::new(), ..Originated::plain(Source::Pods) };
        wanted.originated.insert(prefix, nobody);
    }
    let router = Router::new(Instant::now(), wanted, Restarted::No, BTreeSet::new(), 7);
    let (handle, events, _) = start(&SpeakerConfig { port: address.port() }, router).expect("a free port");
    (address, handle, events)
}

/// A session with it.
fn session(speaker: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(speaker).expect("it listens");
    let body = [&[4][..], &65002_u16.to_be_bytes(), &90_u16.to_be_bytes(), &[10, 0, 0, 2], &[0]].concat();
    stream.write_all(&[message(1, &body), message(4, &[])].concat()).expect("open");
    stream
}

async fn until(handle: &Handle, state: impl Fn(PeerState) -> bool) {
    let holds = async {
        while !state(handle.look(|router| router.peers()[0].state).await.expect("it runs")) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, holds).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn peer_that_flaps_while_the_daemon_stands_leaves_one_word_and_not_one_for_each_time() {
    let (address, handle, mut events) = speaker(0);
    for _ in 0..30 {
        let stream = session(address);
        until(&handle, |state| state == PeerState::Established).await;
        drop(stream);
        until(&handle, |state| state != PeerState::Established).await;
    }
    let _stream = session(address);
    until(&handle, |state| state == PeerState::Established).await;
    let mut states = Vec::new();
    while let Ok(Some(event)) = timeout(Duration::from_secs(1), events.recv()).await {
        if let Event::PeerChanged { state, .. } = event {
            states.push(state);
        }
    }
    // Those that were in the channel, and the last.
    assert!(states.len() <= 5, "{states:?}");
    assert_eq!(states.last(), Some(&PeerState::Established));
}

#[tokio::test(flavor = "multi_thread")]
async fn end_of_rib_comes_behind_many_routes_that_are_not_for_the_peer() {
    let (address, _handle, _events) = speaker(50_000);
    let mut stream = session(address);
    stream.set_read_timeout(Some(LIMIT)).expect("not 0");
    loop {
        let mut header = [0; 19];
        stream.read_exact(&mut header).expect("in time");
        let mut body = vec![0; usize::from(u16::from_be_bytes([header[16], header[17]])) - 19];
        stream.read_exact(&mut body).expect("in time");
        if header[18] == 2 {
            assert_eq!(body, [0, 0, 0, 0], "End-of-RIB and nothing before it");
            return;
        }
    }
}
