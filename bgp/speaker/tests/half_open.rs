//! A peer whose kernel is gone: no octet comes any more, and nothing that we send is acknowledged. On real sockets of the
//! loopback interface; a filter at the peer's socket drops whatever comes to it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use cambric_bgp::config::ConnectMode;
use cambric_bgp::peer::PeerState;
use cambric_bgp::router::{PeerStatus, Restarted};
use cambric_bgp::types::HoldTime;
use cambric_bgp::wire::{Capability, GracefulRestart, Open, RestartFamily, frame};
use cambric_bgp::{Asn, Family, PeerConfig, Router, RouterConfig, RouterId, Wanted};
use cambric_speaker::{Handle, SpeakerConfig, start};
use socket2::{SockFilter, SockRef};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);
const KEEPALIVE: u8 = 4;

fn asn(value: u32) -> Asn {
    Asn::new(value).expect("not 0")
}

/// A speaker with one peer, which connects.
struct Rig {
    handle: Handle,
    ours: SocketAddr,
    peer: IpAddr,
    hold_time: HoldTime,
}

impl Rig {
    async fn start(net: u8, hold_s: u16) -> Rig {
        let [own, peer] = [1, 2].map(|host| IpAddr::V4(Ipv4Addr::new(127, 0, net, host)));
        let ours = TcpListener::bind((own, 0)).and_then(|free| free.local_addr()).expect("loopback");
        let hold_time = HoldTime::from_secs(hold_s).expect("long enough");
        let mut wanted = Wanted::new(RouterConfig::new(asn(65001), RouterId::new(1).expect("not 0")));
        let config = PeerConfig::new("gone", peer, asn(65002));
        wanted.peers.insert(peer.into(), PeerConfig { connect: ConnectMode::Passive, hold_time, ..config });
        let router = Router::new(Instant::now(), wanted, Restarted::No, BTreeSet::new(), 1);
        let (handle, mut events, _) =
            start(&SpeakerConfig { port: ours.port() }, router).expect("a free port");
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        Rig { handle, ours, peer, hold_time }
    }

    /// A connection of the peer with its OPEN and a KEEPALIVE.
    async fn connect(&self, capabilities: Vec<Capability>) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((self.peer, 0).into()).expect("loopback");
        let mut stream = socket.connect(self.ours).await.expect("it listens");
        let router_id = RouterId::new(2).expect("not 0");
        let open = Open { asn: asn(65002), hold_time: self.hold_time, router_id, capabilities };
        let mut octets = Vec::new();
        open.write(&mut octets);
        frame::write_keepalive(&mut octets);
        stream.write_all(&octets).await.expect("the socket takes it");
        stream
    }

    async fn until(&self, wanted: impl Fn(&PeerStatus) -> bool) -> PeerStatus {
        let address = self.peer;
        let holds = async {
            loop {
                let look = move |router: &Router| router.peer_at(address).and_then(|id| router.peer(id));
                let status = self.handle.look(look).await.expect("it runs").expect("configured");
                if wanted(&status) {
                    return status;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(LIMIT, holds).await.expect("in time")
    }

    async fn until_up(&self) -> PeerStatus {
        self.until(|peer| peer.state == PeerState::Established).await
    }
}

/// From now on nothing reaches the socket, and so nothing is acknowledged.
fn vanish(stream: &TcpStream) {
    const RETURN_0: SockFilter = SockFilter::new(0x06, 0, 0, 0);
    SockRef::from(stream).attach_filter(&[RETURN_0]).expect("a filter");
}

/// The kinds of the messages up to the first KEEPALIVE.
async fn until_keepalive(stream: &mut TcpStream) -> Vec<u8> {
    let mut kinds = Vec::new();
    let read = async {
        while kinds.last() != Some(&KEEPALIVE) {
            let mut header = [0; 19];
            stream.read_exact(&mut header).await.expect("it is open");
            let mut body = vec![0; usize::from(u16::from_be_bytes([header[16], header[17]])) - 19];
            stream.read_exact(&mut body).await.expect("it is open");
            kinds.push(header[18]);
        }
        kinds
    };
    timeout(LIMIT, read).await.expect("in time")
}

fn graceful_restart() -> Capability {
    let family = RestartFamily { family: Family::Ipv4.into(), forwarding_kept: true };
    Capability::GracefulRestart(GracefulRestart {
        restarted: true,
        notification: false,
        restart_time_s: 120,
        families: vec![family],
    })
}

#[tokio::test]
async fn peer_whose_kernel_is_gone_is_given_up_by_the_hold_timer_and_taken_when_it_is_back() {
    let rig = Rig::start(60, 3).await;
    let mut gone = rig.connect(Vec::new()).await;
    until_keepalive(&mut gone).await;
    rig.until_up().await;
    vanish(&gone);
    let down = rig.until(|peer| peer.state != PeerState::Established).await;
    let why = down.last_error.expect("a reason").what;
    assert_eq!(why, "hold timer expired: nothing heard from the peer");
    let mut back = rig.connect(Vec::new()).await;
    assert_eq!(until_keepalive(&mut back).await, [1, KEEPALIVE], "our OPEN, and the session");
    rig.until_up().await;
}

#[tokio::test]
async fn peer_that_is_back_before_its_old_connection_is_given_up_need_not_wait_with_graceful_restart() {
    let rig = Rig::start(61, 90).await;
    let mut gone = rig.connect(vec![graceful_restart()]).await;
    until_keepalive(&mut gone).await;
    let first = rig.until_up().await;
    vanish(&gone);
    let mut back = rig.connect(vec![graceful_restart()]).await;
    assert_eq!(until_keepalive(&mut back).await, [1, KEEPALIVE]);
    rig.until(|peer| peer.state == PeerState::Established && peer.since > first.since).await;
}
