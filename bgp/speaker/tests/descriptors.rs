//! The driver when the process has no file descriptor left. Alone in its process, for it takes all of them.

#[path = "../../core/tests/support/lines.rs"]
mod lines;

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use cambric_bgp::config::ConnectMode;
use cambric_bgp::router::Restarted;
use cambric_bgp::{Asn, PeerConfig, Router, RouterConfig, RouterId, Wanted};
use cambric_speaker::{SpeakerConfig, start};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::{sleep, timeout};
use tracing::Level;

use lines::Lines;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);
/// Long enough for thousands of attempts, if nothing held them back.
const WITHOUT: Duration = Duration::from_millis(500);

fn wanted() -> Wanted {
    let asn = |value| Asn::new(value).expect("not 0");
    let mut wanted = Wanted::new(RouterConfig::new(asn(65001), RouterId::new(1).expect("not 0")));
    let peer = PeerConfig::new("peer", PEER, asn(65002));
    wanted.peers.insert(PEER.into(), PeerConfig { connect: ConnectMode::Passive, ..peer });
    wanted
}

#[tokio::test]
async fn connection_that_finds_no_descriptor_is_taken_when_there_is_one_and_does_not_fill_the_log() {
    let warnings = Lines::of(Level::WARN);
    // A port that was free a moment ago.
    let probe = TcpListener::bind((PEER, 0)).await.expect("loopback");
    let port = probe.local_addr().expect("bound").port();
    drop(probe);
    let router = Router::new(Instant::now(), wanted(), Restarted::No, BTreeSet::new(), 7);
    let (_handle, _events, _task) = start(&SpeakerConfig { port }, router).expect("a free port");

    let socket = TcpSocket::new_v4().expect("a socket");
    let all: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let mut stream = socket.connect(SocketAddr::new(PEER, port)).await.expect("the kernel takes it");
    sleep(WITHOUT).await;
    assert_eq!(warnings.take(), 1);
    drop(all);
    let mut open = [0; 19];
    timeout(LIMIT, stream.read_exact(&mut open)).await.expect("in time").expect("an OPEN");
}
