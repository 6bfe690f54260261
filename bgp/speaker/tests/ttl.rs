//! TTL security (GTSM, RFC 5082) between two speakers, on real sockets of the loopback interface: a packet arrives there with the
//! TTL that it was sent with.

mod pair;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use cambric_bgp::config::{ConnectMode, Distance, Transport};
use cambric_bgp::peer::PeerState;
use cambric_bgp::wire::{Capability, Open, frame};
use cambric_bgp::{Asn, Family, HoldTime, PeerConfig, RouterId};
use socket2::{Domain, Socket, Type};

use pair::{Speaker, at, pair, pair6};

#[tokio::test]
async fn both_sides_with_ttl_security_have_a_session_whoever_connects() {
    let guarded = |connect| (connect, at(Distance::Within(1)));
    for (net, one, other) in [
        (50, ConnectMode::Both, ConnectMode::Both),
        (51, ConnectMode::Passive, ConnectMode::Both),
        (52, ConnectMode::Both, ConnectMode::Passive),
    ] {
        let [one, other] = pair(net, [guarded(one), guarded(other)]).await;
        one.until_up().await;
        other.until_up().await;
    }
}

#[tokio::test]
async fn peer_that_sends_with_a_low_ttl_gets_no_session_and_the_words_say_so() {
    let connects = (ConnectMode::Both, at(Distance::Multihop(64)));
    let [one, _other] = pair(53, [(ConnectMode::Both, at(Distance::Within(2))), connects]).await;
    // Our SYN is answered with 255 by its listener, and what it says then with 64 is dropped.
    one.until(|peer| peer.state >= PeerState::OpenSent).await;
    one.until_said(
        "connected, but no OPEN came; the peer may be more than 2 hops away, or not send with TTL 255",
    )
    .await;
}

/// Both sides of the rule for who listens: where all peers are guarded the SYN of a stranger is not even answered; else the
/// connection is closed as soon as it is known whose it is.
#[tokio::test]
async fn caller_with_a_low_ttl_gets_no_session_from_who_only_listens() {
    for (net, others) in [(59, 0), (60, 1)] {
        let (guarded, low) = (at(Distance::Within(1)), at(Distance::Multihop(64)));
        let sides = [(ConnectMode::Passive, guarded), (ConnectMode::Active, low)];
        let [one, other] = pair_beside(net, others, sides).await;
        refused(&one, &other, others).await;
    }
}

/// The listening side of a pair has so many further peers, which are not guarded and are not there.
async fn pair_beside(net: u8, others: u8, sides: [(ConnectMode, Transport); 2]) -> [Speaker; 2] {
    let [mut one, other] = pair(net, sides).await;
    for host in 0..others {
        let address = std::net::IpAddr::from([127, 0, net, 100 + host]);
        let config =
            PeerConfig { connect: ConnectMode::Passive, ..one.wanted.peers[&one.peer.into()].clone() };
        one.wanted.peers.insert(address.into(), PeerConfig { transport: Transport::default(), ..config });
    }
    one.handle.apply(one.wanted.clone()).await.expect("it runs");
    [one, other]
}

/// The caller comes as far as it may beside so many peers of the other side that are not guarded, and no further.
async fn refused(one: &Speaker, other: &Speaker, unguarded: u8) {
    if unguarded == 0 {
        other.until_said("connect: no answer").await;
    } else {
        one.until_said("peer connected with TTL 64; TTL security takes no less than 255").await;
    }
    assert_eq!(one.sessions().await + other.sessions().await, 0);
}

/// Octets that arrive before the accepted socket is guarded wait in it, and would be read.
#[tokio::test]
async fn caller_with_a_low_ttl_that_says_all_at_once_gets_no_session() {
    let guarded = (ConnectMode::Passive, at(Distance::Within(1)));
    let absent = (ConnectMode::Passive, at(Distance::Within(1)));
    let [one, _] = pair_beside(61, 1, [guarded, absent]).await;
    let server = SocketAddr::new([127, 0, 61, 1].into(), one.port);
    let (asn, router_id) = (Asn::new(65002).expect("not 0"), RouterId::new(9).expect("not 0"));
    let capabilities = vec![Capability::MultiProtocol(Family::Ipv4.into()), Capability::FourOctetAs(65002)];
    let open = Open { asn, hold_time: HoldTime::from_secs(9).expect("allowed"), router_id, capabilities };
    let mut words = Vec::new();
    open.write(&mut words);
    frame::write_keepalive(&mut words);
    for _ in 0..20 {
        let words = words.clone();
        let call = move || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_ttl_v4(64)?;
            socket.bind(&SocketAddr::new([127, 0, 61, 2].into(), 0).into())?;
            socket.connect(&server.into())?;
            let mut caller = std::net::TcpStream::from(socket);
            caller.write_all(&words)?;
            caller.set_read_timeout(Some(Duration::from_secs(10)))?;
            caller.read_to_end(&mut Vec::new())
        };
        // However it ends: with a reset, too.
        drop(tokio::task::spawn_blocking(call).await.expect("no panic"));
        assert_eq!(one.sessions().await, 0);
    }
    one.until_said("peer connected with TTL 64; TTL security takes no less than 255").await;
}

/// The rule is about hops, and holds on a listener that other peers keep open.
#[tokio::test]
async fn caller_within_the_hops_has_a_session_beside_peers_without_ttl_security() {
    for (net, hops, ttl, has) in [(62, 1, 255, true), (63, 2, 254, true), (64, 2, 253, false)] {
        let (guarded, caller) = (at(Distance::Within(hops)), at(Distance::Multihop(ttl)));
        let sides = [(ConnectMode::Passive, guarded), (ConnectMode::Active, caller)];
        let [one, other] = pair_beside(net, 1, sides).await;
        if has {
            one.until_up().await;
            other.until_up().await;
        } else {
            one.until_said("peer connected with TTL 253; TTL security takes no less than 254").await;
        }
    }
}

#[tokio::test]
async fn ipv6_has_ttl_security_too() {
    let [one, other] = pair6([
        (ConnectMode::Passive, at(Distance::Within(1))),
        (ConnectMode::Both, at(Distance::Within(1))),
    ])
    .await;
    one.until_up().await;
    other.until_up().await;
    let sides =
        [(ConnectMode::Passive, at(Distance::Within(1))), (ConnectMode::Active, at(Distance::Multihop(64)))];
    let [one, other] = pair6(sides).await;
    refused(&one, &other, 0).await;
}

#[tokio::test]
async fn peers_on_the_link_and_over_hops_have_sessions() {
    let rows = [
        (54, Distance::Adjacent, Distance::Adjacent),
        (55, Distance::Adjacent, Distance::Multihop(3)),
        (56, Distance::Multihop(255), Distance::Multihop(1)),
    ];
    for (net, ours, theirs) in rows {
        let both = [ours, theirs].map(|distance| (ConnectMode::Both, at(distance)));
        let [one, other] = pair(net, both).await;
        one.until_up().await;
        other.until_up().await;
    }
}

#[tokio::test]
async fn interface_that_is_not_there_is_named() {
    let nowhere = Transport { interface: Some("none0".to_owned()), ..Transport::default() };
    let [one, _other] =
        pair(57, [(ConnectMode::Both, nowhere), (ConnectMode::Passive, Transport::default())]).await;
    one.until_said("connect: interface none0: No such device").await;
}

#[tokio::test]
async fn session_over_the_interface_that_is_named_comes_up() {
    let there = Transport { interface: Some("lo".to_owned()), ..Transport::default() };
    let [one, other] = pair(58, [(ConnectMode::Both, there.clone()), (ConnectMode::Both, there)]).await;
    one.until_up().await;
    other.until_up().await;
}
