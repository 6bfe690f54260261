//! Signed sessions (TCP MD5, RFC 2385) between two speakers, on real sockets of the loopback interface.

mod pair;

use cambric_bgp::config::{ConnectMode, ListenRange, Password, Transport};
use cambric_bgp::peer::PeerState;
use cambric_bgp::router::PeerOrigin;
use cambric_bgp::{PeerConfig, Prefix};

use pair::{pair, pair6, with_key};

const BOTH: ConnectMode = ConnectMode::Both;

fn key(key: &str) -> Option<Password> {
    Some(Password::new(key).expect("short"))
}

#[tokio::test]
async fn same_key_on_both_sides_gives_a_session_whoever_connects() {
    for (net, modes) in
        [(10, [BOTH, BOTH]), (11, [ConnectMode::Passive, BOTH]), (12, [BOTH, ConnectMode::Passive])]
    {
        let [one, other] = pair(net, modes.map(|connect| (connect, with_key("same")))).await;
        one.until_up().await;
        other.until_up().await;
    }
}

#[tokio::test]
async fn wrong_or_missing_key_gives_none_and_says_so_without_the_key() {
    let rows = [
        (20, with_key("correct horse"), with_key("battery staple")),
        (21, with_key("correct horse"), Transport::default()),
    ];
    for (net, ours, theirs) in rows {
        let [one, other] = pair(net, [(BOTH, ours), (BOTH, theirs)]).await;
        one.until_said("no answer; the peer may have no key or another one (TCP MD5)").await;
        assert_ne!(other.peer().await.state, PeerState::Established);
        let shown = format!("{:?} {:?}", one.peer().await, one.wanted);
        assert!(!shown.contains("horse"), "{shown}");
    }
}

#[tokio::test]
async fn ipv6_is_signed_too() {
    let [one, other] = pair6([(ConnectMode::Passive, with_key("same")), (BOTH, with_key("same"))]).await;
    one.until_up().await;
    other.until_up().await;
    for theirs in [with_key("battery staple"), Transport::default()] {
        let sides = [(ConnectMode::Passive, with_key("correct horse")), (ConnectMode::Active, theirs)];
        let [one, other] = pair6(sides).await;
        other.until_said("connect: no answer").await;
        assert_eq!(one.sessions().await + other.sessions().await, 0);
    }
}

#[tokio::test]
async fn keys_that_change_go_and_come_are_taken_up() {
    let [mut one, mut other] = pair(30, [(BOTH, with_key("old")), (BOTH, with_key("old"))]).await;
    for password in [key("new"), None, key("newest")] {
        one.until_up().await;
        other.until_up().await;
        one.change(|peer| peer.transport.password = password.clone()).await;
        one.until(|peer| peer.state != PeerState::Established).await;
        other.change(|peer| peer.transport.password = password.clone()).await;
    }
    one.until_up().await;
    other.until_up().await;
}

/// The listener knows only keys: whoever has none must not come in by the wide open door of another.
#[tokio::test]
async fn key_that_only_the_listening_side_has_keeps_an_unsigned_peer_out() {
    let [one, other] =
        pair(40, [(ConnectMode::Passive, with_key("key")), (BOTH, Transport::default())]).await;
    other.until_said("no answer").await;
    assert_ne!(one.peer().await.state, PeerState::Established);
}

/// A range with a key, and in it a configured peer without one: both come in, each by its own door.
#[tokio::test]
async fn key_of_a_range_holds_for_all_in_it_but_a_peer_with_its_own_say() {
    let sides = [(ConnectMode::Passive, Transport::default()), (BOTH, with_key("range"))];
    let [mut listening, signed] = pair(50, sides).await;
    let (address, template) = listening.wanted.peers.pop_first().expect("configured");
    let transport = with_key("range");
    let range = ListenRange { template: PeerConfig { transport, ..template.clone() }, most_peers: 2 };
    let all = Prefix::new(address.ip(), 24).expect("length");
    listening.wanted.listen_ranges = [(all, range)].into();
    listening.handle.apply(listening.wanted.clone()).await.expect("it runs");
    signed.until_up().await;
    assert_eq!(listening.peer().await.origin, PeerOrigin::Range(all));

    listening.wanted.peers.insert(address, template);
    listening.handle.apply(listening.wanted.clone()).await.expect("it runs");
    signed.until(|peer| peer.state != PeerState::Established).await;
    let mut unsigned = signed;
    unsigned.change(|peer| peer.transport.password = None).await;
    unsigned.until_up().await;
    assert_eq!(listening.peer().await.origin, PeerOrigin::Configured);
}
