//! Restarts, hangs and ends of sessions, and which routes outlive them: RFC 4724, RFC 8538, RFC 9494, RFC 9687.

mod support;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use cambric_bgp::config::RestartConfig;
use cambric_bgp::peer::PeerState;
use cambric_bgp::rib::{Reason, RouteChange, Verdict};
use cambric_bgp::router::Restarted;
use cambric_bgp::types::Community;
use cambric_bgp::wire::Capability;
use cambric_bgp::{
    Action, Admin, ConnId, Family, HoldTime, PeerAsn, PeerConfig, Prefix, ScopedAddress, Wanted,
};
use proptest::prelude::*;
use support::net::{First, Host, Net, Step};
use support::scripted::{self, Device, capability, keepalive, message, open, open_of};
use support::{adj_rib_in, adj_rib_out, asn, ip, neighbor, prefix, routes, scoped, secs};

const A: &str = "10.2.0.1";
const B: &str = "10.2.0.2";
const C: &str = "10.2.0.3";

const PODS_A: &str = "10.244.1.0/24";
const PODS_B: &str = "10.244.2.0/24";
const PODS_B6: &str = "fd00:244:2::/64";
/// What several tell.
const SHARED: &str = "10.96.0.0/16";

/// With a hold time of 9 s.
fn speaker<const N: usize>(
    asn: u32,
    address: &str,
    peers: [(ScopedAddress, PeerConfig); N],
    own: &[&str],
) -> Wanted {
    let mut wanted = support::speaker(asn, address, peers, own);
    for peer in wanted.peers.values_mut() {
        peer.hold_time = HoldTime::from_secs(9).expect("allowed");
    }
    wanted
}

fn a() -> Wanted {
    speaker(65001, A, [neighbor(65002, B)], &[PODS_A])
}

fn b() -> Wanted {
    speaker(65002, B, [neighbor(65001, A)], &[PODS_B, PODS_B6])
}

/// Two that have a session with a hold time of 9 s and have told each other all.
fn pair_of(a: Wanted, b: Wanted) -> (Net, Host, Host) {
    let mut net = Net::new();
    let (one, other) = (net.add(a), net.add(b));
    net.latency(one, other, Duration::from_millis(1));
    net.run_until_up(one, other);
    net.run(secs(10));
    forget(&mut net, [one, other]);
    (net, one, other)
}

fn pair() -> (Net, Host, Host) {
    pair_of(a(), b())
}

/// From here on only what comes counts.
fn forget<const N: usize>(net: &mut Net, hosts: [Host; N]) {
    for host in hosts {
        net.history(host);
        for other in hosts.into_iter().filter(|other| *other != host) {
            net.sent(host, other);
        }
    }
}

fn asks_for(mut wanted: Wanted, restart: RestartConfig) -> Wanted {
    wanted.peers.values_mut().for_each(|peer| peer.restart = restart);
    wanted
}

fn for_seconds(restart_time: u64, long_lived: u64) -> RestartConfig {
    RestartConfig { restart_time: Some(secs(restart_time)), long_lived: secs(long_lived) }
}

fn gone(to: &str) -> RouteChange {
    RouteChange { prefix: prefix(to), next_hops: BTreeSet::new() }
}

fn ends(net: &mut Net, from: Host, to: Host) -> Vec<(u8, u8)> {
    net.notifications(from, to).iter().map(|sent| (sent.code, sent.subcode)).collect()
}

/// Whether the kernel of `host` heard anything.
fn is_left_alone(net: &mut Net, host: Host) -> bool {
    let touches = |step: &Step| matches!(step, Step::Route(_) | Step::Action(Action::NextHopLost(_)));
    !net.history(host).iter().any(touches)
}

// --- what is offered -------------------------------------------------------------------------------------

#[test]
fn open_says_for_how_long_each_peer_may_keep_our_routes() {
    let mut wanted = speaker(65001, A, [neighbor(65002, B), neighbor(65003, C)], &[]);
    wanted.peers.get_mut(&scoped(C)).expect("configured").restart = for_seconds(30, 0);
    let mut device = Device::new(wanted);
    let sent = [B, C].map(|peer| {
        let conn = device.accept(ip(A), ip(peer));
        open_of(&device.received(conn))
    });
    let times = sent.clone().map(|open| open.graceful_restart().expect("offered").restart_time_s);
    assert_eq!(times, [120, 30]);
    let long_lived = sent.each_ref().map(|open| open.long_lived().map(|sent| sent.families.clone()));
    let entries = long_lived[0].clone().expect("offered");
    assert_eq!(entries.iter().map(|entry| entry.stale_time_s).collect::<Vec<_>>(), [3600, 3600]);
    assert_eq!(long_lived[1], None, "0 switches it off");
    for open in sent {
        assert!(open.graceful_restart().is_some_and(|sent| sent.notification), "RFC 8538");
        assert!(open.has(&Capability::EnhancedRouteRefresh));
    }
}

#[test]
fn forwarding_bits_of_both_capabilities_say_what_is_kept() {
    for restarted in [
        Restarted::Yes { kept: [Family::Ipv4].into() },
        Restarted::Yes { kept: Family::ALL.into() },
        Restarted::No,
    ] {
        let kept = match &restarted {
            Restarted::Yes { kept } => kept.clone(),
            Restarted::No => BTreeSet::new(),
        };
        let mut device = Device::restarted(a(), restarted.clone());
        let conn = device.accept(ip(A), ip(B));
        let sent = open_of(&device.received(conn));
        let restart = sent.graceful_restart().expect("offered");
        assert_eq!(restart.restarted, restarted != Restarted::No);
        let bits = |family| {
            let long_lived = sent.long_lived().and_then(|sent| sent.family(family)).expect("offered");
            (restart.family(family).expect("offered").forwarding_kept, long_lived.forwarding_kept)
        };
        for family in Family::ALL {
            assert_eq!(bits(family), (kept.contains(&family), kept.contains(&family)), "{family}");
        }
    }
}

#[test]
fn connection_after_a_loss_without_a_restart_says_so() {
    let mut device = Device::new(a());
    let conn = established(&mut device, B, &[&graceful(120, Flags::Notification)]);
    device.send(conn, &end_of_rib());
    device.send(conn, &message(2, &[0, 0, 0, 6, 0x80, 15, 3, 0, 2, 1])); // of IPv6
    device.hang_up(conn);
    let conn = device.accept(ip(A), ip(B));
    let sent = open_of(&device.received(conn));
    let restart = sent.graceful_restart().expect("offered");
    assert!(!restart.restarted);
    assert!(restart.families.iter().all(|entry| entry.forwarding_kept));
}

// --- notifications (RFC 8538) ----------------------------------------------------------------------------

#[test]
fn hold_timer_that_runs_out_takes_no_route_where_both_agreed_to_that() {
    let (mut net, one, other) = pair();
    net.silence(one, other);
    net.run(secs(100));
    assert_eq!(ends(&mut net, one, other), [(4, 0)]);
    assert!(is_left_alone(&mut net, one) && is_left_alone(&mut net, other));
    net.mend(one, other);
    net.run_until_up(one, other);
    net.run(secs(10));
    assert!(is_left_alone(&mut net, one) && is_left_alone(&mut net, other));
    assert!(routes(net.router(one)).iter().flat_map(|route| &route.paths).all(|path| !path.stale));
}

#[test]
fn hold_timer_that_runs_out_takes_all_routes_where_one_does_not_speak_of_it() {
    let mut device = Device::new(a());
    let conn = established(&mut device, B, &[&graceful(120, Flags::None)]);
    tell(&mut device, conn, &[PODS_B], &[]);
    assert_eq!(device.fib.len(), 1);
    device.advance(secs(9));
    assert!(device.is_closed(conn) && device.fib.is_empty());
}

#[test]
fn way_over_a_peer_that_says_nothing_is_not_used_beside_another() {
    let mut net = Net::new();
    let one = net.add(speaker(65001, A, [neighbor(65002, B), neighbor(65003, C)], &[]));
    let left = net.add(speaker(65002, B, [neighbor(65001, A)], &[SHARED, PODS_B]));
    let right = net.add(speaker(65003, C, [neighbor(65001, A)], &[SHARED]));
    net.run_until_up(one, left);
    net.run_until_up(one, right);
    net.run(secs(10));
    net.silence(one, left);
    net.run(secs(12));
    assert_eq!(net.fib(one)[&prefix(SHARED)], [ip(C)].into());
    assert_eq!(net.fib(one)[&prefix(PODS_B)], [ip(B)].into(), "there is no other way");
    let shared = net.router(one).routes_to(&[prefix(SHARED)]);
    assert_eq!(shared[0].paths[1].verdict, Verdict::Lost(Reason::PeerSilent));
    net.mend(one, left);
    net.run_until_up(one, left);
    net.run(secs(5));
    assert_eq!(net.fib(one)[&prefix(SHARED)], [ip(B), ip(C)].into());
}

#[test]
fn received_notification_leaves_routes_if_agreed_on_and_a_hard_reset_none() {
    let table: &[(Flags, &[u8], usize)] = &[
        (Flags::Notification, &[4, 0], 1),
        (Flags::Notification, &[3, 1], 1),
        (Flags::Notification, &[6, 4], 1),
        (Flags::Notification, &[6, 2], 1),
        (Flags::Notification, &[6, 9, 6, 2], 0),
        (Flags::Notification, &[6, 9], 0),
        (Flags::None, &[4, 0], 0),
        (Flags::None, &[6, 4], 0),
    ];
    for (flags, notification, left) in table {
        let mut device = Device::new(a());
        let conn = established(&mut device, B, &[&graceful(120, *flags)]);
        tell(&mut device, conn, &[PODS_B], &[]);
        device.send(conn, &message(3, notification));
        assert_eq!(device.fib.len(), *left, "{flags:?} {notification:?}");
        device.advance(secs(121));
        assert_eq!(device.fib.len(), 0, "the restart time is over");
    }
}

#[test]
fn fault_of_the_peer_leaves_its_routes_if_agreed_on() {
    for (flags, left) in [(Flags::Notification, 1), (Flags::None, 0)] {
        let mut device = Device::new(a());
        let conn = established(&mut device, B, &[&graceful(120, flags)]);
        tell(&mut device, conn, &[PODS_B], &[]);
        device.send(conn, &message(2, &[0, 9, 0, 0])); // UPDATE whose withdrawn routes overrun it
        assert!(device.is_closed(conn));
        assert_eq!(device.fib.len(), left);
    }
}

#[test]
fn ends_that_are_meant_are_hard_resets_and_take_the_routes_on_both_sides() {
    type End = fn(&mut Net, Host, Host);
    let disable: End = |net, one, other| net.set_admin(one, other, Admin::Disabled);
    let remove: End = |net, one, _| net.change(one, |wanted| wanted.peers.clear());
    for (end, meant) in [(disable, (6, 2)), (remove, (6, 3))] {
        let (mut net, one, other) = pair();
        end(&mut net, one, other);
        net.run(secs(1));
        let sent = net.notifications(one, other);
        assert_eq!((sent[0].code, sent[0].subcode), (6, 9));
        assert_eq!((sent[0].meant().code, sent[0].meant().subcode), meant);
        assert!(net.fib(one).is_empty() && net.fib(other).is_empty());
    }
}

#[test]
fn ends_before_a_new_session_take_no_route() {
    type End = fn(&mut Net, Host, Host);
    let restart: End = |net, one, other| net.restart_peer(one, other);
    let rename: End = |net, one, _| {
        net.change(one, |wanted| wanted.router.router_id = "10.2.0.77".parse().expect("identifier"));
    };
    for (end, sent) in [(restart, (6, 4)), (rename, (6, 6))] {
        let (mut net, one, other) = pair();
        end(&mut net, one, other);
        net.run_until_up(one, other);
        net.run(secs(10));
        assert_eq!(ends(&mut net, one, other), [sent]);
        assert!(is_left_alone(&mut net, one) && is_left_alone(&mut net, other));
    }
}

#[test]
fn a_peer_with_another_as_is_another_router_and_what_the_old_one_told_goes() {
    let (mut net, one, other) = pair();
    net.change_peer(one, other, |peer| peer.asn = PeerAsn::Exactly(asn(65099)));
    net.run(secs(1));
    assert_eq!(ends(&mut net, one, other)[0], (6, 9));
    assert!(net.fib(one).is_empty());
}

/// The switch may refuse what we are now, and would keep the old path meanwhile.
#[test]
fn our_own_as_is_another_router_for_the_peer_and_what_it_was_told_goes() {
    type Change = fn(&mut Wanted);
    let renumber: Change = |wanted| wanted.router.asn = asn(65077);
    let local: Change = |wanted| {
        wanted.peers.values_mut().for_each(|peer| peer.local_asn = Some(asn(65077)));
    };
    for change in [renumber, local] {
        let (mut net, one, other) = pair();
        net.change(one, change);
        net.run(secs(1));
        let sent = net.notifications(one, other);
        assert_eq!((sent[0].code, sent[0].subcode), (6, 9));
        assert_eq!((sent[0].meant().code, sent[0].meant().subcode), (6, 6));
        assert!(net.fib(one).is_empty() && net.fib(other).is_empty());
    }
    // The same AS, said otherwise.
    let (mut net, one, other) = pair();
    net.change_peer(one, other, |peer| peer.local_asn = Some(asn(65001)));
    net.run(secs(1));
    assert_eq!(ends(&mut net, one, other), [(6, 6)]);
    assert!(is_left_alone(&mut net, one) && is_left_alone(&mut net, other));
}

#[test]
fn changed_deferral_holds_for_the_restart_that_is_under_way() {
    for deferral in [20, 60] {
        let mut device = Device::restarted(a(), Restarted::Yes { kept: Family::ALL.into() });
        let start = device.now;
        let conn = established(&mut device, B, &[&graceful(120, Flags::None)]);
        tell(&mut device, conn, &[PODS_B], &[]);
        let mut wanted = a();
        wanted.router.deferral = secs(deferral);
        device.apply(wanted);
        // No End-of-RIB comes.
        while device.fib.is_empty() && device.now < start + secs(120) {
            device.advance(secs(1));
            device.send(conn, &keepalive());
        }
        assert!((deferral..=deferral + 1).contains(&(device.now - start).as_secs()));
    }
}

#[test]
fn hard_reset_is_not_sent_to_who_does_not_speak_of_it() {
    let mut device = Device::new(a());
    let conn = established(&mut device, B, &[&graceful(120, Flags::None)]);
    device.received(conn);
    device.call(|router, now| router.set_admin_at(now, ip(B), Admin::Disabled));
    let sent = device.received(conn).iter().find_map(scripted::Message::notification).expect("told");
    assert_eq!((sent.code, sent.subcode), (6, 2));
}

#[test]
fn routes_are_stale_over_any_number_of_losses_but_not_for_ever() {
    let (mut net, one, other) = pair_of(a(), asks_for(b(), for_seconds(120, 0)));
    net.latency(one, other, Duration::from_millis(100));
    let kept = || Restarted::Yes { kept: Family::ALL.into() };
    net.stop(other);
    for _ in 0..5 {
        net.run(secs(100));
        net.start(other, kept());
        net.run_until(secs(60), |net| net.peer(one, other).state == PeerState::Established);
        net.stop(other);
    }
    assert!(is_left_alone(&mut net, one));
    net.run(secs(110));
    assert_eq!(net.changes(one), [gone(PODS_B), gone(PODS_B6)], "600 s after the first loss");
}

// --- hangs -----------------------------------------------------------------------------------------------

#[test]
fn hang_past_the_hold_time_takes_no_route_on_either_side() {
    for first in [First::Timers, First::Sockets] {
        let (mut net, one, other) = pair();
        net.hang(one);
        net.run(secs(14));
        assert_ne!(net.peer(other, one).state, PeerState::Established, "it gave us up");
        net.wake(one, first);
        net.run_until_up(one, other);
        net.run(secs(30));
        assert!(is_left_alone(&mut net, one), "{first:?}");
        assert!(is_left_alone(&mut net, other), "{first:?}");
        assert!(routes(net.router(one)).iter().flat_map(|route| &route.paths).all(|path| !path.stale));
    }
}

#[test]
fn hang_shorter_than_the_hold_time_of_the_peer_ends_no_session() {
    for first in [First::Timers, First::Sockets] {
        let mut often = a();
        often.peers.values_mut().for_each(|peer| peer.keepalive = Some(secs(1)));
        let (mut net, one, other) = pair_of(often, b());
        let since = [net.peer(one, other).since, net.peer(other, one).since];
        // Just before the KEEPALIVE of the peer is due, which comes each 3 s; it has heard ours a moment ago.
        while net.sent(other, one).is_empty() {
            net.run(Duration::from_millis(10));
        }
        net.run(Duration::from_millis(2900));
        net.hang(one);
        // Our hold time runs out after 6.1 s: what the peer said meanwhile is unread. Its own does not.
        net.run(secs(7));
        net.wake(one, first);
        net.run(secs(60));
        let now = [net.peer(one, other).since, net.peer(other, one).since];
        assert_eq!(now, since, "{first:?}\n{}", net.trace());
        assert!(is_left_alone(&mut net, one) && is_left_alone(&mut net, other));
    }
}

#[test]
fn after_a_hang_nothing_is_lost_with_a_peer_that_knows_no_graceful_restart() {
    for told_why in [true, false] {
        let mut device = Device::new(a());
        let conn = established(&mut device, B, &[]);
        tell(&mut device, conn, &[PODS_B], &[]);
        device.changes.clear();
        device.actions.clear();
        device.now += secs(14);
        device.call(|router, now| router.handle_hang(now));
        if told_why {
            device.send(conn, &message(3, &[4, 0]));
        } else {
            device.hang_up(conn);
        }
        device.advance(secs(1));
        let conn = established(&mut device, B, &[]);
        tell(&mut device, conn, &[PODS_B], &[]);
        for _ in 0..10 {
            device.advance(secs(3));
            device.send(conn, &keepalive());
        }
        assert_eq!(device.changes, []);
        assert!(!device.actions.iter().any(|action| matches!(action, Action::NextHopLost(_))));
    }
}

#[test]
fn after_a_hang_a_peer_that_does_not_come_back_is_waited_for_ten_seconds() {
    let mut device = Device::new(a());
    let conn = established(&mut device, B, &[]);
    tell(&mut device, conn, &[PODS_B], &[]);
    device.now += secs(14);
    device.call(|router, now| router.handle_hang(now));
    device.hang_up(conn);
    device.advance(Duration::from_millis(9900));
    assert_eq!(device.fib.len(), 1);
    device.advance(Duration::from_millis(200));
    assert_eq!(device.fib.len(), 0);
}

#[test]
fn after_a_hang_that_cost_no_session_routes_are_held_back_for_two_seconds() {
    let mut device = Device::new(a());
    let conn = established(&mut device, B, &[]);
    device.now += secs(5);
    device.call(|router, now| router.handle_hang(now));
    tell(&mut device, conn, &[PODS_B], &[]);
    assert_eq!(device.fib.len(), 0);
    device.advance(secs(2));
    assert_eq!(device.fib.len(), 1);
}

#[test]
fn after_a_hang_in_the_middle_of_a_restart_no_family_stays_held_back() {
    let mut device = Device::restarted(a(), Restarted::Yes { kept: Family::ALL.into() });
    let both: &[u8] = &[64, 10, 0x40, 120, 0, 1, 1, 0x80, 0, 2, 1, 0x80];
    let conn = established(&mut device, B, &[both]);
    device.send(conn, &end_of_rib());
    let done = |device: &Device| device.actions.contains(&Action::Converged(Family::Ipv4));
    assert!(done(&device) && !device.actions.contains(&Action::Converged(Family::Ipv6)));
    device.now += secs(3);
    device.call(|router, now| router.handle_hang(now));
    device.send(conn, &message(2, &[0, 0, 0, 6, 0x80, 15, 3, 0, 2, 1]));
    for _ in 0..5 {
        device.advance(secs(3));
        device.send(conn, &keepalive());
    }
    tell(&mut device, conn, &[PODS_B], &[]);
    tell6(&mut device, conn, PODS_B6);
    assert_eq!(device.fib.len(), 2);
}

// --- the helper (RFC 4724) -------------------------------------------------------------------------------

#[test]
fn family_that_a_peer_did_not_name_is_not_kept() {
    let mut device = Device::new(a());
    let conn = established(&mut device, B, &[&graceful(120, Flags::Notification)]);
    tell(&mut device, conn, &[PODS_B], &[]);
    tell6(&mut device, conn, PODS_B6);
    assert_eq!(device.fib.len(), 2);
    device.hang_up(conn);
    assert_eq!(device.fib.keys().copied().collect::<Vec<_>>(), [prefix(PODS_B)], "graceful() names IPv4");
}

#[test]
fn peer_that_comes_back_without_the_capability_is_swept_at_once() {
    let mut device = Device::new(a());
    let conn = established(&mut device, B, &[&graceful(120, Flags::Notification)]);
    tell(&mut device, conn, &[PODS_B], &[]);
    device.hang_up(conn);
    assert_eq!(device.fib.len(), 1);
    device.advance(secs(1));
    established(&mut device, B, &[]);
    assert_eq!(device.fib.len(), 0);
}

#[test]
fn new_connection_whose_open_is_wrong_leaves_the_session_alone() {
    let mut device = Device::new(a());
    let old = established(&mut device, B, &[&graceful(120, Flags::Notification)]);
    tell(&mut device, old, &[PODS_B], &[]);
    device.advance(secs(1));
    let new = device.accept(ip(A), ip(B));
    device.send(new, &open(65077, [10, 2, 0, 2], &[capability::IPV4]));
    assert!(device.is_closed(new) && !device.is_closed(old));
    let new = device.accept(ip(A), ip(B));
    device.advance(secs(1));
    device.send(old, &keepalive());
    device.send(new, &peers_open(&[&graceful(120, Flags::Notification)]));
    assert!(device.is_closed(old), "now it is right");
    let last_words = device.received(old).iter().find_map(scripted::Message::notification);
    assert_eq!(last_words, None, "RFC 4724 section 5");
    assert_eq!(device.fib.len(), 1);
}

// --- long-lived (RFC 9494) -------------------------------------------------------------------------------

#[test]
fn stale_routes_outlive_the_restart_time_as_the_last_resort() {
    let mut net = Net::new();
    let one = net.add(speaker(65001, A, [neighbor(65002, B), neighbor(65003, C)], &[]));
    let left =
        net.add(asks_for(speaker(65002, B, [neighbor(65001, A)], &[SHARED, PODS_B]), for_seconds(30, 600)));
    let right = net.add(speaker(65003, C, [neighbor(65001, A)], &[SHARED]));
    net.run_until_up(one, left);
    net.run_until_up(one, right);
    net.run(secs(10));
    net.stop(left);
    net.run(secs(29));
    assert_eq!(net.fib(one)[&prefix(SHARED)], [ip(B), ip(C)].into(), "stale, and as good as any");
    net.run(secs(2));
    assert_eq!(net.fib(one)[&prefix(SHARED)], [ip(C)].into());
    assert_eq!(net.fib(one)[&prefix(PODS_B)], [ip(B)].into());
    let shared = net.router(one).routes_to(&[prefix(SHARED)]);
    assert_eq!(shared[0].paths[1].verdict, Verdict::Lost(Reason::LongLivedStale));
    net.run(secs(597));
    assert!(net.fib(one).contains_key(&prefix(PODS_B)));
    net.run(secs(5));
    assert!(!net.fib(one).contains_key(&prefix(PODS_B)), "630 s after the loss");
}

#[test]
fn long_lived_stale_routes_are_marked_and_told_only_to_who_speaks_of_them() {
    let mut net = Net::new();
    let one = net.add(speaker(
        65001,
        A,
        [neighbor(65002, B), neighbor(65003, C), neighbor(65004, "10.2.0.4")],
        &[],
    ));
    let left = net.add(asks_for(speaker(65002, B, [neighbor(65001, A)], &[PODS_B]), for_seconds(30, 600)));
    let speaks = net.add(speaker(65003, C, [neighbor(65001, A)], &[]));
    let silent =
        net.add(asks_for(speaker(65004, "10.2.0.4", [neighbor(65001, A)], &[]), for_seconds(120, 0)));
    for host in [left, speaks, silent] {
        net.run_until_up(one, host);
    }
    net.run(secs(10));
    assert!(net.fib(speaks).contains_key(&prefix(PODS_B)) && net.fib(silent).contains_key(&prefix(PODS_B)));
    net.stop(left);
    net.run(secs(40));
    let id = net.peer(one, speaks).id;
    let told = adj_rib_out(net.router(one), id);
    assert_eq!(told[0].1.communities, [Community::LLGR_STALE]);
    assert!(net.fib(speaks).contains_key(&prefix(PODS_B)));
    assert!(!net.fib(silent).contains_key(&prefix(PODS_B)));
}

#[test]
fn route_with_no_llgr_goes_with_the_restart_time() {
    let mut device = Device::new(a());
    let conn = established(&mut device, B, &[&graceful(30, Flags::Notification), &long_lived(600)]);
    tell(&mut device, conn, &[PODS_B], &[]);
    tell(&mut device, conn, &["10.244.3.0/24"], &[Community::NO_LLGR]);
    device.hang_up(conn);
    assert_eq!(device.fib.len(), 2);
    device.advance(secs(31));
    assert_eq!(device.fib.keys().copied().collect::<Vec<_>>(), [prefix(PODS_B)]);
}

#[test]
fn route_told_as_long_lived_stale_is_the_last_resort_too() {
    let mut device = Device::new(speaker(65001, A, [neighbor(65002, B), neighbor(65003, C)], &[]));
    let left = established(&mut device, B, &[&graceful(30, Flags::Notification), &long_lived(600)]);
    tell(&mut device, left, &[SHARED], &[Community::LLGR_STALE]);
    assert_eq!(device.fib[&prefix(SHARED)], [ip(B)].into());
    let right = established(&mut device, C, &[]);
    tell_from(&mut device, right, 65003, C, &[SHARED], &[]);
    assert_eq!(device.fib[&prefix(SHARED)], [ip(C)].into());
}

#[test]
fn peer_that_is_back_too_late_is_kept_if_it_forwarded_and_told_all_ends_it() {
    for (kept, left) in [(true, 1), (false, 0)] {
        let mut device = Device::new(a());
        let capabilities: [&[u8]; 2] = [&graceful(30, Flags::Notification), &long_lived(600)];
        let conn = established(&mut device, B, &capabilities);
        tell(&mut device, conn, &[PODS_B], &[]);
        device.hang_up(conn);
        device.advance(secs(60));
        let mut without = long_lived(600);
        without[5] = 0;
        let long_lived: &[u8] = if kept { &long_lived(600) } else { &without };
        let conn = established(&mut device, B, &[&graceful(30, Flags::Notification), long_lived]);
        assert_eq!(device.fib.len(), left, "F of RFC 9494");
        device.send(conn, &end_of_rib());
        assert_eq!(device.fib.len(), 0, "it told nothing again");
    }
}

#[test]
fn long_lived_timer_goes_on_over_sessions_that_do_not_tell_all() {
    let mut device = Device::new(a());
    let capabilities: [&[u8]; 2] = [&graceful(30, Flags::Notification), &long_lived(100)];
    let conn = established(&mut device, B, &capabilities);
    tell(&mut device, conn, &[PODS_B], &[]);
    device.hang_up(conn);
    device.advance(secs(60));
    let conn = established(&mut device, B, &capabilities);
    device.hang_up(conn);
    device.advance(secs(68));
    assert_eq!(device.fib.len(), 1);
    device.advance(secs(2));
    assert_eq!(device.fib.len(), 0);
}

#[test]
fn short_return_costs_nothing_of_the_long_lived_time_and_gives_nothing() {
    let mut device = Device::new(a());
    let capabilities: [&[u8]; 2] = [&graceful(30, Flags::Notification), &long_lived(3600)];
    let conn = established(&mut device, B, &capabilities);
    tell(&mut device, conn, &[PODS_B], &[]);
    device.hang_up(conn);
    device.advance(secs(60));
    let conn = established(&mut device, B, &capabilities);
    tell(&mut device, conn, &[SHARED], &[]);
    device.hang_up(conn);
    device.advance(secs(31));
    let id = device.router.peer_at(ip(B)).expect("configured");
    let told = adj_rib_in(&device.router, id);
    let communities: Vec<_> = told.iter().map(|route| &route.paths[0].attributes.communities[..]).collect();
    assert_eq!(communities, [[Community::LLGR_STALE], [Community::LLGR_STALE]]);
    device.advance(secs(3520));
    assert_eq!(device.fib.len(), 2);
    device.advance(secs(30));
    assert_eq!(device.fib.len(), 0);
}

#[test]
fn long_lived_alone_takes_over_at_once() {
    let mut device = Device::new(a());
    let conn = established(&mut device, B, &[&graceful(0, Flags::Notification), &long_lived(100)]);
    tell(&mut device, conn, &[PODS_B], &[]);
    device.hang_up(conn);
    device.advance(secs(1));
    let route = &routes(&device.router)[1];
    assert_eq!(route.paths[0].attributes.communities, [Community::LLGR_STALE]);
    assert_eq!(device.fib.len(), 1);
}

// --- send hold timer (RFC 9687) --------------------------------------------------------------------------

#[test]
fn peer_that_takes_nothing_for_eight_minutes_is_given_up() {
    let mut device = Device::new(a());
    let conn = established(&mut device, B, &[]);
    device.stall(conn);
    for _ in 0..159 {
        device.advance(secs(3));
        device.send(conn, &keepalive());
    }
    assert!(!device.is_closed(conn), "3 s after the last word that went out the next one waits");
    for _ in 0..3 {
        device.advance(secs(3));
        device.send(conn, &keepalive());
    }
    assert!(device.is_closed(conn));
    let sent = device.received(conn).iter().find_map(scripted::Message::notification).expect("told");
    assert_eq!((sent.code, sent.subcode), (8, 0));
    let peer = device.router.peer_at(ip(B)).expect("configured");
    let reason = device.router.peer(peer).expect("configured").last_error.expect("known").what;
    assert_eq!(reason, "send hold timer expired: the peer takes nothing of what we send");
}

#[test]
fn peer_that_reads_now_and_then_is_not_given_up() {
    let mut device = Device::new(a());
    let conn = established(&mut device, B, &[]);
    for _ in 0..10 {
        device.stall(conn);
        for _ in 0..100 {
            device.advance(secs(3));
            device.send(conn, &keepalive());
        }
        device.resume(conn);
    }
    assert!(!device.is_closed(conn));
}

// --- any of it -------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whoever hangs, for however long within the restart time, whenever, and whatever it sees first when it wakes.
    #[test]
    fn no_hang_takes_a_route(
        hangs in prop::collection::vec((any::<bool>(), any::<bool>(), 0_u64..60_000, 3_000_u64..30_000), 1..6),
        latency in 0_u64..200,
    ) {
        let (mut net, one, other) = pair();
        net.latency(one, other, Duration::from_millis(latency));
        for (who, timers, hang, rest) in hangs {
            let host = if who { one } else { other };
            net.hang(host);
            net.run(Duration::from_millis(hang));
            net.wake(host, if timers { First::Timers } else { First::Sockets });
            net.run(Duration::from_millis(rest));
        }
        net.run_until_up(one, other);
        net.run(secs(30));
        prop_assert!(is_left_alone(&mut net, one), "{}", net.trace());
        prop_assert!(is_left_alone(&mut net, other), "{}", net.trace());
        for host in [one, other] {
            let routes = routes(net.router(host));
            prop_assert!(routes.iter().flat_map(|route| &route.paths).all(|path| !path.stale));
        }
    }
}

// --- a peer in octets ------------------------------------------------------------------------------------

/// Of a graceful restart capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flags {
    None,
    /// N
    Notification,
}

/// Graceful restart for IPv4, forwarding kept.
fn graceful(restart_time_s: u8, flags: Flags) -> Vec<u8> {
    let high = if flags == Flags::Notification { 0x40 } else { 0 };
    vec![64, 6, high, restart_time_s, 0, 1, 1, 0x80]
}

/// The long-lived one for the same.
fn long_lived(stale_time_s: u16) -> Vec<u8> {
    let [high, low] = stale_time_s.to_be_bytes();
    vec![71, 7, 0, 1, 1, 0x80, 0, high, low]
}

fn peers_open(capabilities: &[&[u8]]) -> Vec<u8> {
    open_from(65002, [10, 2, 0, 2], capabilities)
}

fn open_from(asn: u32, id: [u8; 4], capabilities: &[&[u8]]) -> Vec<u8> {
    let as4 = capability::four_octet_as(asn);
    let usual = [capability::IPV4, capability::IPV6, capability::ROUTE_REFRESH, as4.as_slice()];
    open(asn, id, &[&usual[..], capabilities].concat())
}

/// A session that the peer opens, with these capabilities beside the usual ones; it waits as long as it must.
fn established(device: &mut Device, peer: &str, capabilities: &[&[u8]]) -> ConnId {
    let conn = device.accept(ip(A), ip(peer));
    device.advance(secs(1));
    let (asn, id) = if peer == B { (65002, [10, 2, 0, 2]) } else { (65003, [10, 2, 0, 3]) };
    device.send(conn, &open_from(asn, id, capabilities));
    device.send(conn, &keepalive());
    let id = device.router.peer_at(ip(peer)).expect("configured");
    assert_eq!(device.router.peer(id).expect("configured").state, PeerState::Established);
    conn
}

fn end_of_rib() -> Vec<u8> {
    message(2, &[0, 0, 0, 0])
}

fn tell(device: &mut Device, conn: ConnId, prefixes: &[&str], communities: &[Community]) {
    tell_from(device, conn, 65002, B, prefixes, communities);
}

fn tell_from(
    device: &mut Device,
    conn: ConnId,
    asn: u32,
    next_hop: &str,
    to: &[&str],
    communities: &[Community],
) {
    let nlri: Vec<u8> = to.iter().flat_map(|text| nlri(&prefix(text))).collect();
    let IpAddr::V4(next_hop) = ip(next_hop) else { panic!("{next_hop} is no IPv4 address") };
    let next_hop = [&[0x40, 3, 4][..], &next_hop.octets()].concat();
    device.send(conn, &update(asn, &next_hop, communities, &nlri));
}

fn tell6(device: &mut Device, conn: ConnId, to: &str) {
    let IpAddr::V6(next_hop) = ip("fd00:2::2") else { panic!("no IPv6 address") };
    let value = [&[0, 2, 1, 16][..], &next_hop.octets(), &[0], &nlri(&prefix(to))].concat();
    let reach = [&[0x80, 14, value.len() as u8][..], &value].concat();
    device.send(conn, &update(65002, &reach, &[], &[]));
}

/// ORIGIN, AS_PATH, `reach`, COMMUNITIES.
fn update(asn: u32, reach: &[u8], communities: &[Community], nlri: &[u8]) -> Vec<u8> {
    let mut attributes = [&[0x40, 1, 1, 0, 0x40, 2, 6, 2, 1][..], &asn.to_be_bytes(), reach].concat();
    if !communities.is_empty() {
        attributes.extend([0xC0, 8, (communities.len() * 4) as u8]);
        attributes.extend(communities.iter().flat_map(|community| community.0.to_be_bytes()));
    }
    let length = (attributes.len() as u16).to_be_bytes();
    message(2, &[&[0, 0][..], &length, &attributes, nlri].concat())
}

fn nlri(prefix: &Prefix) -> Vec<u8> {
    let octets = match prefix.address() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let significant = usize::from(prefix.length()).div_ceil(8);
    [&[prefix.length()][..], &octets[..significant]].concat()
}
