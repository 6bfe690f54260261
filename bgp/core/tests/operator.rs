//! What the operator does to a running router: peers switched off and on, sessions restarted, tables
//! looked at.

mod support;

use std::net::IpAddr;
use std::time::Duration;

use cambric_bgp::config::Import;
use cambric_bgp::peer::PeerState;
use cambric_bgp::policy::Refusal;
use cambric_bgp::rib::{Part, PathInfo, Verdict};
use cambric_bgp::router::{PeerStatus, Refused, Restarted};
use cambric_bgp::wire::{MessageType, Notification};
use cambric_bgp::{Action, Admin, ConnId, Family, PeerId, PeerPolicy, Router};
use support::net::{Host, Net};
use support::scripted::{self, Device, Message, capability};
use support::{adj_rib_in, adj_rib_out, ip, neighbor, passive, prefix, refused, router, scoped, speaker};

const US: &str = "10.2.0.1";
const PEER: &str = "10.2.0.2";
const OTHER: &str = "10.2.0.3";
const PODS: &str = "10.244.2.0/24";
const HOUR: Duration = Duration::from_secs(3600);

const SHUTDOWN: (u8, u8) = (6, 2);
const RESET: (u8, u8) = (6, 4);

// --- in every state --------------------------------------------------------------------------------------

/// A device that dials its one peer.
fn dialling() -> Device {
    Device::new(speaker(65001, US, [neighbor(65002, PEER)], &["10.244.1.0/24"]))
}

fn id(device: &Device) -> PeerId {
    device.router.peer_at(ip(PEER)).expect("configured")
}

fn status(device: &Device) -> PeerStatus {
    device.router.peer(id(device)).expect("configured")
}

fn set_admin(device: &mut Device, admin: Admin) {
    device.call(|router, now| router.set_admin_at(now, ip(PEER), admin));
}

fn last_words(device: &mut Device, conn: ConnId) -> Option<(u8, u8)> {
    notification(&device.received(conn))
}

fn notification(messages: &[Message]) -> Option<(u8, u8)> {
    messages.last().and_then(Message::notification).map(|Notification { code, subcode, .. }| (code, subcode))
}

/// Connections that the device asked for since the last call.
fn dialled(device: &mut Device) -> Vec<ConnId> {
    let actions = std::mem::take(&mut device.actions);
    let connects = actions.into_iter().filter_map(|action| match action {
        Action::Connect { conn, .. } => Some(conn),
        _ => None,
    });
    connects.collect()
}

fn peers_open() -> Vec<u8> {
    scripted::open(65002, [10, 2, 0, 2], &[capability::IPV4, &capability::four_octet_as(65002)])
}

/// The device's own attempt, brought as far as `state`.
fn brought_to(state: PeerState) -> (Device, ConnId) {
    let mut device = dialling();
    let [conn] = dialled(&mut device)[..] else { panic!("one attempt") };
    match state {
        PeerState::Idle => set_admin(&mut device, Admin::Disabled),
        PeerState::Active => device.call(|router, now| router.handle_connect_failed(now, conn, "refused")),
        PeerState::Connect => {}
        PeerState::OpenSent | PeerState::OpenConfirm | PeerState::Established => {
            device.call(|router, now| router.handle_connected(now, conn, ip(US)));
        }
    }
    if matches!(state, PeerState::OpenConfirm | PeerState::Established) {
        device.send(conn, &peers_open());
    }
    if state == PeerState::Established {
        device.send(conn, &scripted::keepalive());
    }
    assert_eq!(status(&device).state, state);
    (device, conn)
}

#[test]
fn peer_disabled_in_any_state_is_idle_and_left_alone() {
    use PeerState::{Active, Connect, Established, Idle, OpenConfirm, OpenSent};
    for state in [Idle, Active, Connect, OpenSent, OpenConfirm, Established] {
        let (mut device, conn) = brought_to(state);
        set_admin(&mut device, Admin::Disabled);
        let has_heard_of_us = matches!(state, OpenSent | OpenConfirm | Established);
        assert_eq!(last_words(&mut device, conn), has_heard_of_us.then_some(SHUTDOWN), "{state}");
        assert_eq!(device.is_closed(conn), state != Active, "{state}");
        assert_eq!((status(&device).state, status(&device).admin), (Idle, Admin::Disabled), "{state}");
        let reason = "sent Cease: Administrative Shutdown (6/2): disabled by the operator";
        if has_heard_of_us {
            assert_eq!(status(&device).last_error.expect("a reason").what, reason);
        }
        dialled(&mut device);
        device.advance(HOUR);
        assert!(dialled(&mut device).is_empty(), "{state}: dialled");
        assert_eq!(device.router.poll_timeout(), None, "{state}: nothing to wait for");
    }
}

#[test]
fn enabled_peer_is_dialled_at_once_whatever_failed_before() {
    let mut device = dialling();
    for _ in 0..8 {
        for conn in dialled(&mut device) {
            device.call(|router, now| router.handle_connect_failed(now, conn, "refused"));
        }
        device.advance(Duration::from_secs(8));
    }
    set_admin(&mut device, Admin::Disabled);
    dialled(&mut device);
    set_admin(&mut device, Admin::Enabled);
    assert_eq!(dialled(&mut device).len(), 1);
    assert_eq!((status(&device).state, status(&device).admin), (PeerState::Connect, Admin::Enabled));
    // Said twice it is one attempt.
    set_admin(&mut device, Admin::Enabled);
    assert!(dialled(&mut device).is_empty());
}

/// What is shown of a peer that is down is about the peer, not about what was done to it a moment ago.
#[test]
fn peer_is_expected_since_the_operator_touched_it_last_whatever_it_does() {
    let (mut device, _) = brought_to(PeerState::Active);
    let made = status(&device).expected_since;
    device.advance(HOUR);
    assert_eq!(status(&device).expected_since, made);
    device.call(|router, now| router.restart(now, router.peer_at(ip(PEER)).expect("configured")));
    assert_eq!(status(&device).expected_since, device.now);
    set_admin(&mut device, Admin::Disabled);
    device.advance(HOUR);
    set_admin(&mut device, Admin::Enabled);
    assert_eq!(status(&device).expected_since, device.now);
    // A session that is lost is not as young as a peer.
    let enabled = device.now;
    let conn = device.accept(ip(US), ip(PEER));
    device.send(conn, &peers_open());
    device.send(conn, &scripted::keepalive());
    device.advance(Duration::from_secs(60));
    device.hang_up(conn);
    assert_eq!(status(&device).expected_since, enabled);
}

/// RFC 4486 section 4: the other side's operator reads why.
#[test]
fn connection_of_a_disabled_peer_is_told_of_the_shutdown_and_closed() {
    let (mut device, _) = brought_to(PeerState::Idle);
    for _ in 0..3 {
        let conn = device.accept(ip(US), ip(PEER));
        assert!(device.is_closed(conn));
        let messages = device.received(conn);
        let kinds: Vec<MessageType> = messages.iter().map(|message| message.kind).collect();
        // A NOTIFICATION before any OPEN would be an error in the peer's eyes.
        assert_eq!(kinds, [MessageType::Open, MessageType::Notification]);
        assert_eq!(notification(&messages), Some(SHUTDOWN));
        // What was on its way meanwhile is nobody's.
        device.send(conn, &peers_open());
        device.hang_up(conn);
        assert_eq!(status(&device).state, PeerState::Idle);
        device.advance(Duration::from_secs(1));
    }
    set_admin(&mut device, Admin::Enabled);
    let conn = device.accept(ip(US), ip(PEER));
    assert!(!device.is_closed(conn));
}

#[test]
fn disabled_peer_that_connects_in_a_loop_is_answered_now_and_then() {
    let (mut device, _) = brought_to(PeerState::Idle);
    let mut answered = 0;
    for _ in 0..1000 {
        let accepted = device.router.handle_accepted(device.now, ip(US), ip(PEER));
        answered += usize::from(accepted.is_ok());
        assert!(matches!(accepted, Ok(_) | Err(Refused::Disabled)));
        device.advance(Duration::from_millis(1));
    }
    assert!((1..=3).contains(&answered), "{answered} answers in a second");
    // And no longer than it is disabled.
    set_admin(&mut device, Admin::Enabled);
    let conn = device.accept(ip(US), ip(PEER));
    assert_eq!(device.received(conn).len(), 1, "our OPEN");
}

// --- between two routers ---------------------------------------------------------------------------------

fn pair() -> (Net, Host, Host) {
    let mut net = Net::new();
    let one = net.add(speaker(65001, US, [neighbor(65002, PEER)], &["10.244.1.0/24"]));
    let other = net.add(speaker(65002, PEER, [neighbor(65001, US)], &[PODS]));
    net.latency(one, other, Duration::from_millis(1));
    net.run_until_up(one, other);
    net.run(Duration::from_secs(40));
    (net, one, other)
}

/// As they are meant: most are Hard Resets (RFC 8538).
fn notifications(net: &mut Net, from: Host, to: Host) -> Vec<(u8, u8)> {
    net.notifications(from, to).iter().map(|sent| (sent.meant().code, sent.meant().subcode)).collect()
}

#[test]
fn routes_of_a_disabled_peer_go_on_both_sides_and_come_back_with_it() {
    let (mut net, one, other) = pair();
    net.set_admin(one, other, Admin::Disabled);
    net.run(Duration::from_secs(300));
    assert!(net.fib(one).is_empty() && net.fib(other).is_empty());
    let heard = net.peer(other, one).last_error.expect("a reason").what;
    assert_eq!(heard, "received Cease: Administrative Shutdown (6/2)");
    let told = notifications(&mut net, one, other);
    assert!(told.len() < 40 && told.iter().all(|told| *told == SHUTDOWN), "{told:?}");
    net.set_admin(one, other, Admin::Enabled);
    assert!(net.run_until_up(one, other) < Duration::from_secs(1));
    net.run(Duration::from_secs(1));
    assert_eq!((net.fib(one).len(), net.fib(other).len()), (1, 1));
}

#[test]
fn restart_makes_a_new_session_at_once() {
    let (mut net, one, other) = pair();
    let before = net.peer(one, other).since;
    net.restart_peer(one, other);
    assert!(net.run_until_up(one, other) < Duration::from_secs(1));
    assert_eq!(notifications(&mut net, one, other), [RESET]);
    assert!(net.peer(one, other).since > before);
    let reason = net.peer(one, other).last_error.expect("a reason").what;
    assert_eq!(reason, "sent Cease: Administrative Reset (6/4): restarted by the operator");
    net.run(Duration::from_secs(1));
    assert_eq!((net.fib(one).len(), net.fib(other).len()), (1, 1));
}

#[test]
fn restart_cuts_the_wait_before_the_next_attempt_short() {
    let mut net = Net::new();
    let one = net.add(speaker(65001, US, [neighbor(65002, PEER)], &[]));
    let other = net.add_stopped(speaker(65002, PEER, [passive(65001, US)], &[]));
    net.run(Duration::from_secs(300));
    net.start(other, Restarted::No);
    net.restart_peer(one, other);
    assert!(net.run_until_up(one, other) < Duration::from_millis(100));
}

#[test]
fn restart_of_a_disabled_peer_does_nothing() {
    let (mut net, one, other) = pair();
    net.set_admin(one, other, Admin::Disabled);
    net.restart_peer(one, other);
    net.run(HOUR);
    assert_eq!(net.peer(one, other).state, PeerState::Idle);
}

// --- for how long ----------------------------------------------------------------------------------------

#[test]
fn disabled_peer_stays_so_when_manifests_are_read_again_and_when_it_is_removed_meanwhile() {
    let (mut net, one, other) = pair();
    net.set_admin(one, other, Admin::Disabled);
    net.change_peer(one, other, |peer| {
        peer.families = [Family::Ipv4].into();
        peer.policy = PeerPolicy::default();
    });
    net.change(one, |wanted| wanted.router.router_id = "10.9.9.9".parse().expect("identifier"));
    net.run(HOUR);
    assert_eq!(net.peer(one, other).admin, Admin::Disabled);
    let config = net.peer(one, other).config;
    net.change(one, |wanted| wanted.peers.clear());
    net.run(HOUR);
    assert_eq!(net.router(one).disabled(), &[scoped(PEER)].into());
    net.change(one, |wanted| {
        wanted.peers.insert(scoped(PEER), config);
    });
    net.run(HOUR);
    assert_eq!((net.peer(one, other).admin, net.peer(one, other).state), (Admin::Disabled, PeerState::Idle));
    net.set_admin(one, other, Admin::Enabled);
    assert!(net.run_until_up(one, other) < Duration::from_secs(1));
    assert!(net.router(one).disabled().is_empty());
}

#[test]
fn peers_disabled_by_an_earlier_process_are_never_dialled() {
    let wanted = speaker(65001, US, [neighbor(65002, PEER), neighbor(65003, OTHER)], &[]);
    let nobody = Device::with_disabled(router(65001, US), [ip(PEER)].into());
    let both = Device::with_disabled(wanted.clone(), [ip(PEER)].into());
    for mut device in [nobody, both] {
        device.apply(wanted.clone());
        // Not even an attempt that is given up at once.
        let is_tcp = |action: &&Action| matches!(action, Action::Connect { .. } | Action::Close { .. });
        let tcp: Vec<&Action> = device.actions.iter().filter(is_tcp).collect();
        assert!(matches!(tcp[..], [Action::Connect { remote, .. }] if remote.ip() == ip(OTHER)));
        let admins: Vec<Admin> = device.router.peers().iter().map(|peer| peer.admin).collect();
        assert_eq!(admins, [Admin::Disabled, Admin::Enabled]);
    }
}

/// The peer's routes were kept over its restart (RFC 4724); the operator does not want them.
#[test]
fn routes_kept_for_a_restarting_peer_go_when_it_is_disabled() {
    let (mut net, one, other) = pair();
    net.stop(other);
    net.run(Duration::from_secs(10));
    assert_eq!(net.fib(one).len(), 1);
    net.history(one);
    net.set_admin(one, other, Admin::Disabled);
    assert!(net.fib(one).is_empty());
    // When it is back, nothing of that time counts.
    net.start(other, Restarted::Yes { kept: Family::ALL.into() });
    net.run(Duration::from_secs(60));
    net.set_admin(one, other, Admin::Enabled);
    net.run_until_up(one, other);
    net.run(Duration::from_secs(5));
    assert_eq!(net.fib(one).len(), 1);
}

/// It is away, its routes are kept; then its operator, or the file of those that are disabled, has the last word.
#[test]
fn routes_kept_for_a_restarting_peer_go_when_it_says_that_it_has_disabled_us() {
    let (mut net, one, other) = pair();
    net.stop(other);
    net.run(Duration::from_secs(10));
    assert_eq!(net.fib(one).len(), 1);
    net.start_with_disabled(other, Restarted::Yes { kept: Family::ALL.into() }, [ip(US)].into());
    // The next attempt is due after 16 s and a quarter at most; a restarting peer has 120 s.
    net.run(Duration::from_secs(21));
    assert!(net.fib(one).is_empty());
    let heard = net.peer(one, other).last_error.expect("a reason").what;
    assert_eq!(heard, "received Cease: Administrative Shutdown (6/2)");
    net.set_admin(other, one, Admin::Enabled);
    net.run_until_up(one, other);
    net.run(Duration::from_secs(5));
    assert_eq!(net.fib(one).len(), 1);
}

#[test]
fn restarted_router_does_not_wait_for_a_disabled_peer() {
    let mut net = Net::new();
    let one = net.add_stopped(speaker(65001, US, [neighbor(65002, PEER)], &[]));
    let other = net.add_stopped(speaker(65002, PEER, [neighbor(65001, US)], &[]));
    net.start(one, Restarted::Yes { kept: Family::ALL.into() });
    assert!(!net.is_converged(one, Family::Ipv4));
    net.set_admin(one, other, Admin::Disabled);
    assert!(Family::ALL.iter().all(|family| net.is_converged(one, *family)));
    assert!(net.router(one).is_in_sync(net.now));
}

/// A peer with RFC 4724 that has not told End-of-RIB keeps "ready" back for up to a minute.
#[test]
fn peer_that_is_disabled_while_it_tells_its_routes_is_not_waited_for() {
    let (mut device, conn) = brought_to(PeerState::Idle);
    set_admin(&mut device, Admin::Enabled);
    device.hang_up(conn);
    let conn = device.accept(ip(US), ip(PEER));
    let restart = [64, 6, 0, 120, 0, 1, 1, 0x80];
    let offered = [capability::IPV4, &capability::four_octet_as(65002), &restart];
    device.send(conn, &scripted::open(65002, [10, 2, 0, 2], &offered));
    device.send(conn, &scripted::keepalive());
    assert!(!device.router.is_in_sync(device.now));
    set_admin(&mut device, Admin::Disabled);
    assert!(device.router.is_in_sync(device.now));
}

// --- all at once -----------------------------------------------------------------------------------------

/// Whatever happens to it: a disabled peer has no session and no route; and when all is mended and enabled, each
/// kernel has exactly what the others announce.
#[test]
fn disabled_peers_stay_out_of_any_turmoil_and_come_back_after_it() {
    let hosts_of = [(65001, US), (65002, PEER), (65003, OTHER)];
    for seed in 1..=60_u64 {
        let mut net = Net::new();
        let hosts = hosts_of.map(|(asn, address)| {
            let others = hosts_of.iter().filter(|(other, _)| *other != asn);
            let mut wanted = speaker(asn, address, [], &[&format!("10.244.{}.0/24", asn - 65000)]);
            wanted.peers = others.map(|(other, at)| neighbor(*other, at)).collect();
            for peer in wanted.peers.values_mut() {
                peer.policy = PeerPolicy { import: Import::All, ..PeerPolicy::default() };
            }
            net.add(wanted)
        });
        let mut dice = seed;
        let mut roll = |sides: u64| {
            dice = dice.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (dice >> 33) % sides
        };
        net.spread(Duration::from_millis(roll(50)), seed);
        for _ in 0..40 {
            let (one, other) = (hosts[roll(3) as usize], hosts[roll(3) as usize]);
            let (is_running, differ) = (net.is_running(one), one != other);
            match roll(9) {
                0 | 1 if is_running && differ => net.set_admin(one, other, Admin::Disabled),
                2 if is_running && differ => net.set_admin(one, other, Admin::Enabled),
                3 if is_running && differ => net.restart_peer(one, other),
                4 => net.cut(one, other),
                5 if differ => net.silence(one, other),
                6 if is_running => net.stop(one),
                7 if !is_running => net.start(one, Restarted::Yes { kept: Family::ALL.into() }),
                8 if is_running => net.change(one, |_| ()),
                _ => net.run(Duration::from_millis(roll(200_000))),
            }
            net.run(Duration::from_millis(roll(3000)));
            hosts
                .into_iter()
                .filter(|host| net.is_running(*host))
                .for_each(|host| disabled_are_out(&net, host));
        }
        for one in hosts {
            if !net.is_running(one) {
                net.start(one, Restarted::Yes { kept: Family::ALL.into() });
            }
            for other in hosts.into_iter().filter(|other| *other != one) {
                net.mend(one, other);
                net.set_admin(one, other, Admin::Enabled);
            }
        }
        net.run(Duration::from_secs(600));
        for one in hosts {
            let others = hosts.into_iter().filter(|other| *other != one);
            assert!(others.clone().all(|other| net.is_up(one, other)), "seed {seed}\n{}", net.trace());
            let gateways: Vec<IpAddr> = net.fib(one).values().flatten().copied().collect();
            let expected: Vec<IpAddr> = others.map(|other| net.address(other)).collect();
            assert_eq!(gateways, expected, "seed {seed}");
        }
    }
}

fn disabled_are_out(net: &Net, host: Host) {
    for peer in net.router(host).peers() {
        let sent = net.router(host).prefixes(Part::ToldTo(peer.id));
        for (family, counts) in &peer.counts {
            assert_eq!(counts.sent, sent.iter().filter(|prefix| prefix.family() == *family).count());
        }
    }
    let disabled = net.router(host).peers().into_iter().filter(|peer| peer.admin == Admin::Disabled);
    for peer in disabled {
        assert_eq!((peer.state, &peer.session), (PeerState::Idle, &None));
        // What a process before left in the kernel goes when this one has converged.
        if net.is_converged(host, Family::Ipv4) {
            assert!(net.fib(host).values().all(|gateways| !gateways.contains(&peer.address.ip())));
        }
    }
}

// --- listings --------------------------------------------------------------------------------------------

fn only_path(routes: &Router, peer: PeerId, to: &str) -> PathInfo {
    let told = adj_rib_in(routes, peer);
    let route = told.iter().find(|route| route.prefix == prefix(to)).expect("told");
    let [path] = &route.paths[..] else { panic!("one path: {route:?}") };
    path.clone()
}

#[test]
fn tables_of_a_peer_show_what_it_told_before_policy_and_what_it_was_told() {
    let mut net = Net::new();
    let mut fabric = speaker(65001, US, [neighbor(65002, PEER), neighbor(65003, OTHER)], &["10.244.1.0/24"]);
    fabric.declared.pods = vec![prefix("10.244.0.0/16")];
    fabric.peers.values_mut().for_each(|peer| peer.policy = PeerPolicy::default());
    let us = net.add(fabric);
    let peer = net.add(speaker(65002, PEER, [neighbor(65001, US)], &[PODS, "192.0.2.0/24"]));
    let other = net.add(speaker(65003, OTHER, [neighbor(65001, US)], &[PODS]));
    net.run_until_up(us, peer);
    net.run_until_up(us, other);
    net.run(Duration::from_secs(1));

    let (peer, other) = (net.peer(us, peer).id, net.peer(us, other).id);
    let router = net.router(us);
    assert_eq!(adj_rib_in(router, peer).len(), 2);
    assert_eq!(adj_rib_in(router, other).len(), 1);
    let unwanted = only_path(router, peer, "192.0.2.0/24");
    assert_eq!(unwanted.verdict, Verdict::Refused(Refusal::NotDeclared));
    assert_eq!(
        (unwanted.attributes.next_hop, unwanted.attributes.as_path.to_string()),
        (ip(PEER), "65002".into())
    );
    assert_eq!(only_path(router, peer, PODS).verdict, Verdict::Best);
    assert!(matches!(only_path(router, other, PODS).verdict, Verdict::Lost(_)));

    let all = refused(router);
    assert_eq!(all.iter().map(|route| route.prefix).collect::<Vec<_>>(), [prefix("192.0.2.0/24")]);
    assert_eq!(all[0].paths, [unwanted]);

    let [(told, attributes)] = &adj_rib_out(router, peer)[..] else { panic!("our range and no more") };
    assert_eq!(told, &prefix("10.244.1.0/24"));
    assert_eq!((attributes.next_hop, attributes.as_path.to_string()), (ip(US), "65001".into()));
    assert!(adj_rib_in(router, PeerId(99)).is_empty() && adj_rib_out(router, PeerId(99)).is_empty());
}
