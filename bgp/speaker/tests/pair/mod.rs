//! Two speakers on the loopback interface, each the other's peer.
#![allow(dead_code, unreachable_pub, reason = "each test file uses another part of it")]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use cambric_bgp::config::{ConnectMode, Distance, Password, Transport};
use cambric_bgp::peer::PeerState;
use cambric_bgp::router::{PeerStatus, Restarted};
use cambric_bgp::{Asn, HoldTime, PeerConfig, Router, RouterConfig, RouterId, Wanted};
use cambric_speaker::{Handle, SpeakerConfig, start};
use tokio::time::{sleep, timeout};

/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

/// One of the two.
pub struct Speaker {
    pub handle: Handle,
    pub wanted: Wanted,
    pub peer: IpAddr,
    /// Where it listens.
    pub port: u16,
}

/// Both, in AS 65001 and 65002; `connect` and `transport` are as each of them sees the other.
pub async fn pair(net: u8, sides: [(ConnectMode, Transport); 2]) -> [Speaker; 2] {
    pair_at([1, 2].map(|host| IpAddr::V4(Ipv4Addr::new(127, 0, net, host))), sides)
}

/// The same over IPv6, which has one address on the loopback interface: they differ by their ports.
pub async fn pair6(sides: [(ConnectMode, Transport); 2]) -> [Speaker; 2] {
    pair_at([IpAddr::V6(Ipv6Addr::LOCALHOST); 2], sides)
}

fn pair_at(addresses: [IpAddr; 2], sides: [(ConnectMode, Transport); 2]) -> [Speaker; 2] {
    // Ports that were free a moment ago.
    let ports = addresses.map(|address| TcpListener::bind((address, 0)).expect("loopback"));
    let ports = ports.map(|listener| listener.local_addr().as_ref().map(SocketAddr::port).expect("bound"));
    let [one, other] = sides;
    [speaker(1, addresses, ports, one), speaker(2, [addresses[1], addresses[0]], [ports[1], ports[0]], other)]
}

fn speaker(
    number: u32,
    [own, peer]: [IpAddr; 2],
    [own_port, port]: [u16; 2],
    (connect, transport): (ConnectMode, Transport),
) -> Speaker {
    let asn = |number| Asn::new(65000 + number).expect("not 0");
    let id = RouterId::new(number).expect("not 0");
    let mut wanted = Wanted::new(RouterConfig::new(asn(number), id));
    let transport = Transport { local_address: Some(own), ..transport };
    let hold_time = HoldTime::from_secs(9).expect("allowed");
    let config =
        PeerConfig { port, connect, transport, hold_time, ..PeerConfig::new("other", peer, asn(3 - number)) };
    wanted.peers.insert(peer.into(), config);
    let router =
        Router::new(Instant::now(), wanted.clone(), Restarted::No, BTreeSet::new(), u64::from(number));
    let (handle, mut events, _) = start(&SpeakerConfig { port: own_port }, router).expect("a free port");
    // Somebody takes the events, as the daemon does.
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    Speaker { handle, wanted, peer, port: own_port }
}

impl Speaker {
    /// Changes what it wants of its peer.
    pub async fn change(&mut self, change: impl FnOnce(&mut PeerConfig)) {
        change(self.wanted.peers.get_mut(&self.peer.into()).expect("configured"));
        self.handle.apply(self.wanted.clone()).await.expect("it runs");
    }

    pub async fn peer(&self) -> PeerStatus {
        let address = self.peer;
        let look = move |router: &Router| router.peer_at(address).and_then(|id| router.peer(id));
        self.handle.look(look).await.expect("it runs").expect("configured")
    }

    /// How many sessions it has or had.
    pub async fn sessions(&self) -> u64 {
        let count = |router: &Router| {
            let up = router.peers().iter().filter(|peer| peer.state == PeerState::Established).count();
            router.tally().sessions_lost + up as u64
        };
        self.handle.look(count).await.expect("it runs")
    }

    /// Waits until it looks so.
    pub async fn until(&self, wanted: impl Fn(&PeerStatus) -> bool) -> PeerStatus {
        let holds = async {
            loop {
                let peer = self.peer().await;
                if wanted(&peer) {
                    return peer;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        match timeout(LIMIT, holds).await {
            Ok(peer) => peer,
            Err(_) => panic!("not in time: {:?}", self.peer().await),
        }
    }

    pub async fn until_up(&self) -> PeerStatus {
        self.until(|peer| peer.state == PeerState::Established).await
    }

    /// Waits until it says why there is no session, in words that have `text`.
    pub async fn until_said(&self, text: &str) {
        let says =
            |peer: &PeerStatus| peer.last_error.as_ref().is_some_and(|error| error.what.contains(text));
        assert_ne!(self.until(says).await.state, PeerState::Established);
    }
}

pub fn with_key(key: &str) -> Transport {
    Transport { password: Some(Password::new(key).expect("short")), ..Transport::default() }
}

pub fn at(distance: Distance) -> Transport {
    Transport { distance, ..Transport::default() }
}
