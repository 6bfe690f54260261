//! Routers against each other on a virtual clock: sessions, timers, restarts, and routes that pass
//! through several of them. Each test reads as a trace.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use cambric_bgp::config::{Declared, Export, Import, Link, LinkAddress, LinkState, RestartConfig};
use cambric_bgp::peer::PeerState;
use cambric_bgp::rib::RouteChange;
use cambric_bgp::router::{Refused, Restarted};
use cambric_bgp::wire::MessageType;
use cambric_bgp::{
    Action, ConnId, Family, HoldTime, Originated, PeerConfig, PeerPolicy, Prefix, ScopedAddress, Source,
    Wanted,
};
use support::net::{Host, Net, Step};
use support::scripted::{self, Device, Message, capability};
use support::{adj_rib_out, ip, neighbor, passive, prefix, router, routes, scoped, secs, speaker};

const A: &str = "10.2.0.1";
const B: &str = "10.2.0.2";
const C: &str = "10.2.0.3";

const PODS_A: &str = "10.244.1.0/24";
const PODS_B: &str = "10.244.2.0/24";
const PODS_B6: &str = "fd00:244:2::/64";

/// Who asks for this is not kept over a loss.
const NOT_KEPT: RestartConfig =
    RestartConfig { restart_time: Some(Duration::ZERO), long_lived: Duration::ZERO };

const HOUR: Duration = Duration::from_secs(3600);

fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn a() -> Wanted {
    speaker(65001, A, [neighbor(65002, B)], &[PODS_A])
}

fn b() -> Wanted {
    speaker(65002, B, [neighbor(65001, A)], &[PODS_B, PODS_B6])
}

/// Two external neighbours that have a session and have told each other all.
fn pair() -> (Net, Host, Host) {
    pair_with(RestartConfig::default())
}

/// The same, and the second asks to be kept so while it is away.
fn pair_with(restart: RestartConfig) -> (Net, Host, Host) {
    let mut net = Net::new();
    let mut b = b();
    b.peers.values_mut().for_each(|peer| peer.restart = restart);
    let (one, other) = (net.add(a()), net.add(b));
    net.latency(one, other, millis(1));
    net.run_until_up(one, other);
    net.run(secs(10));
    assert_eq!(net.fib(one).len(), 2);
    for (from, to) in [(one, other), (other, one)] {
        net.history(from);
        net.sent(from, to);
    }
    (net, one, other)
}

fn route<const N: usize>(to: &str, next_hops: [&str; N]) -> RouteChange {
    RouteChange { prefix: prefix(to), next_hops: next_hops.map(scoped).into() }
}

fn kept_all() -> Restarted {
    Restarted::Yes { kept: Family::ALL.into() }
}

fn prefixes(range: std::ops::Range<u16>) -> Vec<Prefix> {
    range
        .map(|n| Prefix::new(IpAddr::from([100, 64 + (n >> 8) as u8, n as u8, 0]), 24).expect("length"))
        .collect()
}

fn originate(wanted: &mut Wanted, prefixes: &[Prefix]) {
    wanted.originated = prefixes.iter().map(|prefix| (*prefix, Originated::plain(Source::Pods))).collect();
}

// --- start and collision ---------------------------------------------------------------------------------

#[test]
fn simultaneous_start_ends_with_one_session_at_any_latency() {
    for latency in [0, 1, 50] {
        let mut net = Net::new();
        let (one, other) = (net.add_stopped(a()), net.add_stopped(b()));
        net.latency(one, other, millis(latency));
        net.start(one, Restarted::No);
        net.start(other, Restarted::No);
        let took = net.run_until_up(one, other);
        assert!(took <= millis(6 * latency), "{took:?} at {latency} ms");
        let since = net.peer(one, other).since;
        net.run(HOUR);
        assert!(net.is_up(one, other));
        assert_eq!(net.peer(one, other).since, since, "{}", net.trace());
        assert_eq!(net.fib(one).keys().copied().collect::<Vec<_>>(), [prefix(PODS_B), prefix(PODS_B6)]);
    }
}

/// FRR#1053, rustybgp#526, rustbgpd#105: a cluster that starts at once is the common case, not the rare one.
#[test]
fn simultaneous_start_never_ends_in_livelock_whatever_the_latencies() {
    for seed in 1..=400_u64 {
        let mut net = Net::new();
        let (one, other) = (net.add_stopped(a()), net.add_stopped(b()));
        net.latency_one_way(one, other, millis(seed * 7 % 101));
        net.latency_one_way(other, one, millis(seed * 13 % 61));
        net.spread(millis(seed * 31 % 150), seed);
        net.start(one, Restarted::No);
        net.run(millis(seed * 3 % 40));
        net.start(other, Restarted::No);
        net.run_until_up(one, other);
        net.run(secs(60));
        let since = net.peer(one, other).since;
        net.run(secs(600));
        assert!(net.is_up(one, other), "seed {seed}\n{}", net.trace());
        assert_eq!(net.peer(one, other).since, since, "seed {seed}: not stable\n{}", net.trace());
        assert_eq!(net.fib(one).len(), 2, "seed {seed}");
    }
}

#[test]
fn collision_leaves_the_connection_of_the_higher_identifier() {
    let mut net = Net::new();
    let (one, other) = (net.add_stopped(a()), net.add_stopped(b()));
    net.latency(one, other, millis(10));
    net.start(one, Restarted::No);
    net.start(other, Restarted::No);
    net.run(secs(1));
    assert_eq!(net.connections(one, other), [(other, true)]);
    let ceases: Vec<String> = [net.notifications(one, other), net.notifications(other, one)]
        .concat()
        .iter()
        .map(ToString::to_string)
        .collect();
    let collision = "Cease: Connection Collision Resolution (6/7)";
    assert!(!ceases.is_empty() && ceases.iter().all(|cease| cease == collision), "{ceases:?}");
    // Nobody was at fault, so nobody is blamed.
    assert_eq!((net.peer(one, other).last_error, net.peer(other, one).last_error), (None, None));
}

#[test]
fn passive_side_waits_for_the_other() {
    let mut net = Net::new();
    let one = net.add(speaker(65001, A, [passive(65002, B)], &[]));
    net.run(secs(5));
    let other = net.add(b());
    net.run(secs(1));
    assert!(net.is_up(one, other));
    assert_eq!(net.connections(one, other), [(other, true)]);
    // After a loss, too, it is the other who comes back.
    net.cut(one, other);
    net.run_until_up(one, other);
    assert_eq!(net.connections(one, other), [(other, true)]);
}

#[test]
fn peer_that_refuses_is_dialled_again_at_growing_intervals() {
    let mut net = Net::new();
    let one = net.add(a());
    let other = net.add_stopped(b());
    net.run(secs(300));
    let attempts = connects(&mut net, one);
    assert!((18..=40).contains(&attempts), "{attempts} attempts in five minutes");
    assert_eq!(net.peer(one, other).last_error.expect("a reason").what, "connect: connection refused");
    net.start(other, Restarted::No);
    assert!(net.run_until_up(one, other) < secs(1), "the other side's first attempt succeeds");
}

fn connects(net: &mut Net, host: Host) -> usize {
    let is_connect = |step: &Step| matches!(step, Step::Action(Action::Connect { .. }));
    net.history(host).iter().filter(|step| is_connect(step)).count()
}

#[test]
fn black_hole_is_given_up_after_five_seconds_and_tried_again() {
    let mut net = Net::new();
    let (one, other) = (net.add_stopped(a()), net.add_stopped(b()));
    net.silence(one, other);
    net.start(one, Restarted::No);
    net.start(other, Restarted::No);
    net.run(secs(30));
    assert_eq!(net.peer(one, other).last_error.expect("a reason").what, "connect: no answer");
    net.mend(one, other);
    net.run_until_up(one, other);
}

#[test]
fn wrong_as_is_refused_in_words_and_with_growing_waits() {
    let mut net = Net::new();
    let one = net.add(speaker(65001, A, [neighbor(65009, B)], &[]));
    let other = net.add(b());
    net.latency(one, other, millis(1));
    net.run(secs(300));
    let refusals = net.notifications(one, other);
    assert!(refusals.iter().any(|sent| (sent.code, sent.subcode) == (2, 2)), "{}", net.trace());
    assert!(refusals.len() < 100, "{} attempts in five minutes", refusals.len());
    let reason = net.peer(one, other).last_error.expect("a reason").what;
    assert_eq!(
        reason,
        "sent OPEN Message Error: Bad Peer AS (2/2): \
         peer announced AS 65002, configured 65009"
    );
    let heard = net.peer(other, one).last_error.expect("a reason").what;
    assert_eq!(heard, "received OPEN Message Error: Bad Peer AS (2/2): we announced AS 65002");
    // Mended by the operator, it comes up without delay.
    net.change_peer(one, other, |peer| peer.asn = support::asn(65002).into());
    assert!(net.run_until_up(one, other) < secs(2));
}

// --- timers ----------------------------------------------------------------------------------------------

#[test]
fn hold_timer_expires_when_the_wire_goes_silent() {
    let (mut net, one, other) = pair_with(NOT_KEPT);
    net.silence(one, other);
    net.run_until(secs(90), |net| net.peer(one, other).state != PeerState::Established);
    let sent = net.notifications(one, other);
    assert_eq!(sent.iter().map(|n| (n.code, n.subcode)).collect::<Vec<_>>(), [(4, 0)]);
    let reason = net.peer(one, other).last_error.expect("a reason").what;
    assert_eq!(reason, "hold timer expired: nothing heard from the peer");
    // Traffic is turned away before anything else is done.
    let history = net.history(one);
    let losses: Vec<Step> = history
        .iter()
        .filter(|step| !matches!(step, Step::Action(Action::Connect { .. } | Action::Close { .. })))
        .cloned()
        .collect();
    let peer = net.peer(one, other).id;
    assert_eq!(
        losses,
        [
            Step::Action(Action::NextHopLost(scoped(B))),
            Step::Action(Action::NextHopLost(scoped("fd00:2::2"))),
            Step::Action(Action::PeerChanged { peer, state: PeerState::Active }),
            Step::Route(route(PODS_B, [])),
            Step::Route(route(PODS_B6, [])),
        ]
    );
}

#[test]
fn keepalives_keep_a_quiet_session_up() {
    let (mut net, one, other) = pair();
    let since = net.peer(one, other).since;
    net.run(HOUR);
    assert_eq!(net.peer(one, other).since, since);
    let keepalives = net.sent(one, other);
    assert!((119..=121).contains(&keepalives.len()), "one each 30 s, not {}", keepalives.len());
    assert!(net.history(one).is_empty(), "nothing happens in a quiet hour");
}

#[test]
fn smaller_hold_time_counts_on_both_sides() {
    let mut net = Net::new();
    let (one, other) = (net.add(a()), net.add(b()));
    net.change_peer(other, one, |peer| peer.hold_time = HoldTime::from_secs(9).expect("allowed"));
    net.run_until_up(one, other);
    for (host, peer) in [(one, other), (other, one)] {
        assert_eq!(net.peer(host, peer).session.expect("up").hold_time.as_secs(), 9);
    }
    net.run(HOUR);
    net.sent(one, other);
    net.run(secs(60));
    assert_eq!(net.sent(one, other).len(), 20);
}

#[test]
fn hold_time_zero_stops_all_timers() {
    let mut net = Net::new();
    let (one, other) = (net.add(a()), net.add(b()));
    net.change_peer(other, one, |peer| peer.hold_time = HoldTime::from_secs(0).expect("allowed"));
    net.run_until_up(one, other);
    net.run(secs(10));
    net.sent(one, other);
    net.silence(one, other);
    net.run(24 * HOUR);
    assert!(net.is_up(one, other));
    assert!(net.sent(one, other).is_empty());
}

// --- graceful restart: the helper ------------------------------------------------------------------------

#[test]
fn helper_keeps_the_routes_of_a_peer_that_restarts_and_changes_nothing() {
    let (mut net, one, other) = pair();
    net.stop(other);
    net.run(secs(3));
    let stale = net.router(one).routes_to(&[prefix(PODS_B)]);
    assert!(stale[0].paths[0].stale, "kept, and known to be stale");
    net.start(other, kept_all());
    net.run_until_up(one, other);
    net.run(secs(30));
    let fresh = net.router(one).routes_to(&[prefix(PODS_B)]);
    assert!(!fresh[0].paths[0].stale);
    assert_eq!(net.changes(one), [], "the kernel never hears of it");
    assert!(net.notifications(one, other).is_empty());
}

#[test]
fn end_of_rib_sweeps_what_the_restarted_peer_told_no_more() {
    let (mut net, one, other) = pair();
    net.stop(other);
    let node = net.wanted_mut(other);
    node.originated.remove(&prefix(PODS_B6));
    net.start(other, kept_all());
    net.run_until_up(one, other);
    net.run(secs(5));
    assert_eq!(net.changes(one), [route(PODS_B6, [])]);
    assert_eq!(net.fib(one).len(), 1);
}

#[test]
fn restarted_peer_that_lost_its_forwarding_state_is_swept_at_once() {
    for restarted in [Restarted::Yes { kept: BTreeSet::new() }, Restarted::No] {
        let (mut net, one, other) = pair();
        net.stop(other);
        net.run(secs(1));
        net.start(other, restarted);
        net.run_until_up(one, other);
        net.run(secs(5));
        assert_eq!(
            net.changes(one),
            [route(PODS_B, []), route(PODS_B6, []), route(PODS_B, [B]), route(PODS_B6, ["fd00:2::2"]),]
        );
    }
}

#[test]
fn family_without_forwarding_bit_goes_and_the_other_stays() {
    let (mut net, one, other) = pair();
    net.stop(other);
    net.run(secs(1));
    net.start(other, Restarted::Yes { kept: [Family::Ipv4].into() });
    net.run_until_up(one, other);
    net.run(secs(5));
    assert_eq!(net.changes(one), [route(PODS_B6, []), route(PODS_B6, ["fd00:2::2"])]);
}

#[test]
fn restart_timer_sweeps_when_the_peer_does_not_come_back() {
    let not_long = RestartConfig { long_lived: Duration::ZERO, ..RestartConfig::default() };
    let (mut net, one, other) = pair_with(not_long);
    net.stop(other);
    net.run(secs(119));
    assert_eq!(net.changes(one), []);
    net.run(secs(2));
    assert_eq!(net.changes(one), [route(PODS_B, []), route(PODS_B6, [])]);
    // Back after the window, it starts anew.
    net.start(other, kept_all());
    net.run_until_up(one, other);
    net.run(secs(5));
    assert_eq!(net.changes(one), [route(PODS_B, [B]), route(PODS_B6, ["fd00:2::2"])]);
}

/// felix#1592: a daemon that restarts twice still forwards.
#[test]
fn second_loss_within_the_window_keeps_the_routes() {
    let (mut net, one, other) = pair();
    net.latency(one, other, millis(100));
    net.stop(other);
    net.run(secs(60));
    for _ in 0..3 {
        net.start(other, kept_all());
        net.run_until(secs(60), |net| net.peer(one, other).state == PeerState::Established);
        net.stop(other);
        net.run(secs(100));
    }
    assert_eq!(net.changes(one), []);
    net.start(other, kept_all());
    net.run_until_up(one, other);
    net.run(secs(10));
    assert_eq!(net.changes(one), []);
}

#[test]
fn new_connection_of_a_restarted_peer_replaces_the_old_one_without_a_word() {
    let (mut net, one, other) = pair();
    // The host of the other one loses power: nobody closes its connections.
    net.silence(one, other);
    net.stop(other);
    net.run(secs(5));
    net.mend(one, other);
    net.start(other, kept_all());
    let took = net.run_until_up(one, other);
    assert!(took < secs(1), "{took:?}: long before the hold timer");
    net.run(secs(10));
    assert!(net.notifications(one, other).is_empty(), "{}", net.trace());
    assert_eq!(net.changes(one), []);
    let reason = net.peer(one, other).last_error.expect("a reason").what;
    assert_eq!(reason, "peer restarted: it opened a new connection");
}

#[test]
fn connection_that_breaks_without_a_restart_costs_nothing() {
    let (mut net, one, other) = pair();
    net.cut(one, other);
    net.run_until_up(one, other);
    net.run(secs(10));
    assert_eq!((net.changes(one), net.changes(other)), (vec![], vec![]));
}

// --- graceful restart: the restarting side ---------------------------------------------------------------

/// The middle of three, with external neighbours on both sides.
fn three() -> (Net, Host, Host, Host) {
    let mut net = Net::new();
    let one = net.add(speaker(65001, A, [neighbor(65002, B), neighbor(65003, C)], &[PODS_A]));
    let left = net.add(b());
    let right = net.add(speaker(65003, C, [neighbor(65001, A)], &["10.244.3.0/24"]));
    net.run_until_up(one, left);
    net.run_until_up(one, right);
    net.run(secs(10));
    for host in [one, left, right] {
        net.history(host);
    }
    (net, one, left, right)
}

/// When `host` said that it has the routes of `family` together, if it did.
fn converged(history: &[Step], family: Family) -> bool {
    history.contains(&Step::Action(Action::Converged(family)))
}

#[test]
fn restarted_router_changes_no_route_before_all_live_peers_have_told_theirs() {
    let (mut net, one, left, right) = three();
    net.stop(one);
    net.run(secs(1));
    net.latency(one, right, secs(1));
    net.start(one, kept_all());
    net.run_until(secs(10), |net| net.is_up(one, left));
    net.run(millis(500));
    let early = net.history(one);
    assert!(!early.iter().any(|step| matches!(step, Step::Route(_))), "{early:?}");
    assert!(!converged(&early, Family::Ipv4));
    net.run_until(secs(30), |net| net.is_converged(one, Family::Ipv4));
    net.run(secs(1));
    let late = net.history(one);
    assert!(converged(&late, Family::Ipv4) && converged(&late, Family::Ipv6));
    let routes: Vec<&Step> = late.iter().filter(|step| matches!(step, Step::Route(_))).collect();
    assert_eq!(routes.len(), 3, "{routes:?}");
    assert_eq!((net.changes(left), net.changes(right)), (vec![], vec![]), "and nobody else noticed");
}

/// kube-router#1323, calicoctl#2277: one dead node must not hold up the start of another.
#[test]
fn restarted_router_waits_ten_seconds_for_a_peer_that_is_down_and_no_longer() {
    let (mut net, one, left, right) = three();
    net.stop(one);
    net.stop(right);
    net.start(one, kept_all());
    let took = net.run_until(secs(60), |net| net.is_converged(one, Family::Ipv4));
    assert!((secs(9)..secs(11)).contains(&took), "{took:?}");
    // A host that has lost power answers nothing at all.
    net.stop(one);
    net.silence(one, right);
    net.start(one, kept_all());
    let took = net.run_until(secs(60), |net| net.is_converged(one, Family::Ipv4));
    assert!((secs(9)..secs(11)).contains(&took), "{took:?}");
    let _ = left;
}

#[test]
fn first_start_waits_for_nobody_with_its_routes() {
    let mut net = Net::new();
    let one = net.add(speaker(65001, A, [neighbor(65002, B), neighbor(65003, C)], &[PODS_A]));
    let silent = net.add_stopped(speaker(65003, C, [neighbor(65001, A)], &[]));
    net.silence(one, silent);
    let left = net.add(b());
    net.run_until_up(one, left);
    net.run(millis(10));
    assert_eq!((net.fib(one).len(), net.fib(left).len()), (2, 1));
    assert!(!net.is_converged(one, Family::Ipv4), "but nothing old is swept yet");
    net.run(secs(20));
    assert!(net.is_converged(one, Family::Ipv4));
}

/// Both racks of a cluster come back from a power cut with their memory: each would wait for the other.
#[test]
fn two_restarted_routers_do_not_wait_for_each_other() {
    let (mut net, one, other) = pair();
    net.stop(one);
    net.stop(other);
    net.start(one, kept_all());
    net.start(other, kept_all());
    net.run(secs(10));
    assert!(net.is_converged(one, Family::Ipv4) && net.is_converged(other, Family::Ipv4));
    assert_eq!(net.fib(one).len(), 2);
}

#[test]
fn restarted_router_tells_its_own_prefixes_at_once_and_end_of_rib_when_it_has_decided() {
    let (mut net, one, left, right) = three();
    net.stop(one);
    net.latency(one, right, secs(1));
    net.sent(one, left);
    net.start(one, kept_all());
    net.run_until(secs(10), |net| net.is_up(one, left));
    net.run(millis(100));
    let updates = net.updates(one, left);
    assert_eq!(updates.len(), 1, "own prefix, no End-of-RIB");
    net.run(secs(20));
    let updates = net.updates(one, left);
    assert!(updates.contains(&vec![0; 4]), "End-of-RIB of IPv4: {updates:?}");
}

/// A peer that never says that it has told all is waited for no longer than the deferral time.
#[test]
fn deferral_ends_when_its_time_is_up() {
    let (mut net, one, _left, right) = three();
    net.stop(one);
    net.start(one, kept_all());
    // Its OPEN promises End-of-RIB, its UPDATEs never come.
    net.run_until(secs(1), |net| net.peer(one, right).state == PeerState::OpenConfirm);
    net.stall(right);
    let took = net.run_until(secs(70), |net| net.is_converged(one, Family::Ipv4));
    assert!(took <= secs(60), "{took:?}");
    assert_eq!(net.fib(one).len(), 2, "what the silent one has not told is swept");
}

/// A neighbour that is waited for in vain must not keep the driver busy while another one is waited for.
#[test]
fn waiting_for_several_peers_is_one_deadline() {
    let mut net = Net::new();
    let silent = passive(65003, C);
    let one = net.add_stopped(speaker(65001, A, [neighbor(65002, B), silent], &[PODS_A]));
    let left = net.add(b());
    net.start(one, kept_all());
    net.run_until(secs(1), |net| net.peer(one, left).state == PeerState::OpenConfirm);
    net.stall(left);
    net.run_until(secs(70), |net| net.is_converged(one, Family::Ipv4));
}

// --- links -----------------------------------------------------------------------------------------------

/// The link that carries `host`'s session goes down or up.
fn set_link(net: &mut Net, host: Host, link: usize, state: LinkState) {
    net.change(host, |wanted| wanted.links[link].state = state);
}

#[test]
fn link_down_ends_the_session_at_once_and_the_routes_stay_as_a_last_resort() {
    let (mut net, one, other) = pair();
    net.silence(one, other);
    set_link(&mut net, one, 0, LinkState::Down);
    assert_ne!(net.peer(one, other).state, PeerState::Established);
    assert_eq!(net.peer(one, other).last_error.expect("a reason").what, "link eth1 went down");
    net.run(secs(20));
    set_link(&mut net, one, 0, LinkState::Up);
    net.mend(one, other);
    let took = net.run_until_up(one, other);
    assert!(took < secs(6), "{took:?}");
    net.run(secs(10));
    assert_eq!(net.changes(one), [], "the only way is not given up for a moment without a link");
    assert!(net.notifications(one, other).is_empty());
}

#[test]
fn link_that_stays_down_takes_its_routes_with_the_hold_time() {
    let (mut net, one, other) = pair();
    net.silence(one, other);
    set_link(&mut net, one, 0, LinkState::Down);
    net.run(secs(89));
    assert_eq!(net.fib(one).len(), 2);
    net.run(secs(2));
    assert!(net.fib(one).is_empty());
}

const FAR: &str = "10.3.0.3";

/// A router that learns one prefix over two links, and the two that tell it.
fn two_links() -> (Net, Host, Host, Host) {
    let mut net = Net::new();
    let mut wanted = speaker(65001, A, [neighbor(65002, B), neighbor(65003, FAR)], &[]);
    let second = LinkAddress::new(ip("10.3.0.1"), 24).expect("length");
    wanted.links.push(Link { name: "eth2".to_owned(), state: LinkState::Up, addresses: vec![second] });
    let one = net.add(wanted);
    let near = net.add(speaker(65002, B, [neighbor(65001, A)], &["10.96.0.0/16"]));
    let far = net.add(speaker(65003, FAR, [neighbor(65001, A)], &["10.96.0.0/16"]));
    net.run(secs(10));
    assert!(net.is_up(one, near) && net.is_up(one, far));
    assert_eq!(net.changes(one).last(), Some(&route("10.96.0.0/16", [B, FAR])));
    (net, one, near, far)
}

#[test]
fn way_over_a_link_that_went_down_is_no_better_for_losing_its_next_session_too() {
    let (mut net, one, _, far) = two_links();
    net.silence(one, far);
    set_link(&mut net, one, 1, LinkState::Down);
    assert_eq!(net.changes(one), [route("10.96.0.0/16", [B])]);
    net.run(secs(1));
    net.mend(one, far);
    net.latency(one, far, secs(1));
    set_link(&mut net, one, 1, LinkState::Up);
    // Lost again before the first route or End-of-RIB has come, and back once more.
    let is_up = |net: &Net| net.peer(one, far).state == PeerState::Established;
    net.run_until(secs(30), is_up);
    net.cut(one, far);
    net.run_until(secs(30), |net| !is_up(net));
    net.run_until(secs(30), is_up);
    assert_eq!(net.changes(one), []);
}

#[test]
fn way_over_a_link_that_went_down_is_not_used_beside_another_nor_before_it_is_told_again() {
    let (mut net, one, _, far) = two_links();
    net.silence(one, far);
    set_link(&mut net, one, 1, LinkState::Down);
    assert_eq!(net.changes(one), [route("10.96.0.0/16", [B])]);
    // Power is back at the far switch, and it has no routes yet.
    net.stop(far);
    net.wanted_mut(far).originated.clear();
    net.run(secs(5));
    net.mend(one, far);
    net.start(far, Restarted::No);
    set_link(&mut net, one, 1, LinkState::Up);
    net.run(secs(10));
    assert!(net.is_up(one, far));
    assert_eq!(net.changes(one), []);
    net.change(far, |wanted| originate(wanted, &[prefix("10.96.0.0/16")]));
    net.run(secs(1));
    assert_eq!(net.changes(one), [route("10.96.0.0/16", [B, FAR])]);
}

// --- the operator ----------------------------------------------------------------------------------------

fn ceases(net: &mut Net, from: Host, to: Host) -> Vec<(u8, u8)> {
    net.notifications(from, to).iter().map(|sent| (sent.meant().code, sent.meant().subcode)).collect()
}

/// The states of [`Action::PeerChanged`], in order.
fn states(net: &mut Net, host: Host) -> Vec<PeerState> {
    let state = |step: &Step| match step {
        Step::Action(Action::PeerChanged { state, .. }) => Some(*state),
        _ => None,
    };
    net.history(host).iter().filter_map(state).collect()
}

#[test]
fn new_hold_time_counts_from_the_next_session_on() {
    let (mut net, one, other) = pair();
    net.change_peer(one, other, |peer| peer.hold_time = HoldTime::from_secs(30).expect("allowed"));
    net.run(secs(1));
    assert_eq!(states(&mut net, one), [], "timers are no reason to let go of a session");
    assert_eq!(net.peer(one, other).session.expect("up").hold_time.as_secs(), 90);
    net.cut(one, other);
    net.run_until_up(one, other);
    assert_eq!(net.peer(one, other).session.expect("up").hold_time.as_secs(), 30);
}

#[test]
fn new_families_make_a_new_session() {
    let (mut net, one, other) = pair();
    net.change_peer(one, other, |peer| {
        peer.families.remove(&Family::Ipv6);
    });
    net.run(millis(1));
    assert_eq!(ceases(&mut net, one, other), [(6, 6)]);
    let reason = net.peer(one, other).last_error.expect("a reason").what;
    assert_eq!(reason, "sent Cease: Other Configuration Change (6/6): our configuration changed");
    net.run_until_up(one, other);
    assert_eq!(states(&mut net, one), [PeerState::Active, PeerState::Established]);
}

#[test]
fn new_router_id_makes_new_sessions() {
    let (mut net, one, other) = pair();
    net.change(one, |wanted| wanted.router.router_id = "10.2.0.77".parse().expect("identifier"));
    net.run(millis(1));
    assert_eq!(ceases(&mut net, one, other), [(6, 6)]);
    net.run_until_up(one, other);
    assert_eq!(net.peer(other, one).session.expect("up").peer_id.to_string(), "10.2.0.77");
}

#[test]
fn new_policy_changes_the_routes_and_keeps_the_session() {
    let (mut net, one, other) = pair();
    let since = net.peer(one, other).since;
    net.change_peer(one, other, |peer| peer.policy.import = Import::Declared);
    assert_eq!(net.changes(one), [route(PODS_B, []), route(PODS_B6, [])]);
    // Pre-policy routes are kept: the peer need not be asked.
    net.change(one, |wanted| {
        wanted.declared = Declared { pods: vec![prefix("10.244.0.0/16")], ..Declared::default() };
    });
    net.run(secs(1));
    assert_eq!(net.changes(one), [route(PODS_B, [B])]);
    assert_eq!(net.peer(one, other).since, since);
    assert_eq!(net.sent(one, other), []);
}

#[test]
fn removed_peer_is_told_and_its_routes_go() {
    let (mut net, one, other) = pair();
    net.change(one, |wanted| wanted.peers.clear());
    net.run(millis(10));
    assert_eq!(ceases(&mut net, one, other), [(6, 3)]);
    assert!(net.fib(one).is_empty() && net.fib(other).is_empty());
    assert!(net.router(one).routes_to(&[prefix(PODS_B)]).is_empty());
    // The other one keeps trying, at its own pace, and is not let in.
    net.run(secs(60));
    assert!(net.connections(one, other).is_empty());
    net.change(one, |wanted| wanted.peers = a().peers);
    net.run_until_up(one, other);
}

#[test]
fn removing_a_peer_that_is_restarting_drops_what_was_kept_for_it() {
    let (mut net, one, other) = pair();
    net.stop(other);
    net.run(secs(1));
    assert_eq!(net.fib(one).len(), 2);
    net.history(one);
    net.change(one, |wanted| wanted.peers.clear());
    let first = net.history(one).into_iter().find(|step| !matches!(step, Step::Action(Action::Close { .. })));
    assert_eq!(first, Some(Step::Action(Action::NextHopLost(scoped(B)))));
    assert!(net.fib(one).is_empty());
}

#[test]
fn same_wishes_again_change_nothing() {
    let (mut net, one, other) = pair();
    for _ in 0..10 {
        net.change(one, |_| ());
    }
    net.run(secs(1));
    assert_eq!((net.history(one), net.sent(one, other)), (vec![], vec![]));
}

#[test]
fn own_prefix_goes_out_as_the_session_comes_up() {
    let mut net = Net::new();
    let (one, other) = (net.add(a()), net.add(b()));
    net.latency(one, other, millis(10));
    net.run_until_up(one, other);
    net.run(millis(10));
    assert_eq!(net.fib(other).len(), 1, "no timer between Established and the first UPDATE");
    assert!(net.router(one).is_announced(&prefix(PODS_A)));
    // And so does one that is added later.
    net.change(one, |wanted| {
        wanted.originated.insert(prefix("10.244.9.0/24"), Originated::plain(Source::Pods));
    });
    net.run(millis(10));
    assert_eq!(net.fib(other).len(), 2);
    net.change(one, |wanted| wanted.originated.clear());
    net.run(millis(10));
    assert!(net.fib(other).is_empty());
}

// --- routes through several routers ----------------------------------------------------------------------

/// Two neighbours with the same prefix.
fn two_ways() -> (Net, Host, Host, Host) {
    let mut net = Net::new();
    let one = net.add(speaker(65001, A, [neighbor(65002, B), neighbor(65003, C)], &[]));
    let left = net.add(speaker(65002, B, [neighbor(65001, A)], &["10.96.0.0/16"]));
    let right = net.add(speaker(65003, C, [neighbor(65001, A)], &["10.96.0.0/16"]));
    net.run_until_up(one, left);
    net.run_until_up(one, right);
    net.run(secs(10));
    (net, one, left, right)
}

#[test]
fn two_peers_with_one_prefix_make_a_route_with_two_next_hops() {
    let (mut net, one, ..) = two_ways();
    assert_eq!(net.changes(one).last(), Some(&route("10.96.0.0/16", [B, C])));
}

#[test]
fn lost_peer_is_first_turned_away_from_and_then_removed() {
    let (mut net, one, left, right) = two_ways();
    net.change_peer(left, one, |peer| peer.restart = NOT_KEPT);
    net.restart_peer(one, left);
    net.run_until_up(one, left);
    net.run(secs(10));
    assert_eq!(net.changes(one).last(), Some(&route("10.96.0.0/16", [B, C])));
    assert!(net.is_up(one, right));
    net.silence(one, left);
    net.run(secs(91));
    let history = net.history(one);
    let at = |wanted: &Step| history.iter().position(|step| step == wanted).expect("happens");
    let lost = at(&Step::Action(Action::NextHopLost(scoped(B))));
    assert!(lost < at(&Step::Route(route("10.96.0.0/16", [C]))));
    assert_eq!(history.iter().filter(|step| matches!(step, Step::Route(_))).count(), 1);
}

#[test]
fn dual_homed_node_is_no_transit_between_its_neighbours() {
    let (mut net, one, left, right) = three();
    for peer in [left, right] {
        net.change_peer(one, peer, |config| config.policy.export = Export::Own);
    }
    net.run(secs(1));
    let of = |host: Host| net.fib(host).keys().copied().collect::<Vec<_>>();
    assert_eq!((of(left), of(right)), (vec![prefix(PODS_A)], vec![prefix(PODS_A)]));
    assert_eq!(of(one).len(), 3);
}

#[test]
fn closing_and_opening_export_is_exact() {
    let (mut net, one, left, right) = three();
    let since = net.peer(one, left).since;
    let before = net.fib(left).clone();
    assert_eq!(before.len(), 2, "transit while export is open");
    net.change_peer(one, left, |config| config.policy.export = Export::Own);
    net.run(secs(1));
    assert_eq!(net.changes(left), [route("10.244.3.0/24", [])]);
    net.change_peer(one, left, |config| config.policy.export = Export::All);
    net.run(secs(1));
    assert_eq!(net.changes(left), [route("10.244.3.0/24", [A])]);
    assert_eq!((net.fib(left), net.peer(one, left).since), (&before, since));
    assert_eq!(net.changes(right), []);
}

#[test]
fn internal_mesh_passes_external_routes_once_and_reflects_nothing() {
    const TOR: &str = "10.2.0.100";
    let internal = |address: &str| {
        let (at, config) = neighbor(64512, address);
        (at, PeerConfig { policy: PeerPolicy::default(), ..config })
    };
    let mut net = Net::new();
    let tor = net.add(speaker(65100, TOR, [neighbor(64512, A)], &["10.244.77.0/24"]));
    let mut first = speaker(64512, A, [neighbor(65100, TOR), internal(B), internal(C)], &[PODS_A]);
    let mut second = speaker(64512, B, [internal(A), internal(C)], &[PODS_B]);
    let mut third = speaker(64512, C, [internal(A), internal(B)], &["10.244.3.0/24"]);
    for node in [&mut first, &mut second, &mut third] {
        node.declared.pods = vec![prefix("10.244.0.0/16")];
    }
    let [one, two, three] = [first, second, third].map(|wanted| net.add(wanted));
    net.run(secs(10));
    for (host, peer) in [(one, two), (one, three), (two, three), (one, tor)] {
        assert!(net.is_up(host, peer));
    }
    // What the TOR told the first one goes to the others with the first one as next hop.
    for host in [two, three] {
        assert_eq!(net.fib(host)[&prefix("10.244.77.0/24")], [ip(A)].into());
    }
    assert_eq!(net.fib(three)[&prefix(PODS_B)], [ip(B)].into());
    // Without their own session the first one does not stand in.
    let gone = net.address(three);
    net.change(two, |wanted| drop(wanted.peers.remove(&gone.into())));
    net.run(secs(1));
    assert!(!net.fib(three).contains_key(&prefix(PODS_B)));
    assert!(net.fib(one).contains_key(&prefix(PODS_B)));
}

// --- limits ----------------------------------------------------------------------------------------------

#[test]
fn routes_beyond_the_limit_are_refused_and_taken_when_there_is_room() {
    let (mut net, one, other) = pair();
    net.change_peer(one, other, |peer| peer.max_prefixes = 10);
    let since = net.peer(one, other).since;
    net.change(other, |wanted| originate(wanted, &prefixes(0..12)));
    net.run(secs(1));
    let counts = net.peer(one, other).counts[&Family::Ipv4];
    assert_eq!((counts.received, counts.accepted, counts.refused), (12, 10, 2));
    assert_eq!(net.fib(one).len(), 10);
    // Three of the accepted ones go; the two that were refused take their place.
    net.change(other, |wanted| originate(wanted, &prefixes(3..12)));
    net.run(secs(1));
    let told: Vec<Prefix> = net.fib(one).keys().copied().collect();
    assert_eq!(told, prefixes(3..12));
    assert_eq!(net.peer(one, other).since, since, "the session stays");
}

/// A peer with a full table that nobody wants must not be asked for it at each withdrawal.
#[test]
fn routes_refused_for_another_reason_are_not_asked_for_again() {
    let (mut net, one, other) = pair();
    net.change_peer(one, other, |peer| {
        peer.max_prefixes = 10;
        peer.policy.import = Import::Declared;
    });
    net.change(other, |wanted| originate(wanted, &prefixes(0..1000)));
    net.run(secs(1));
    net.sent(one, other);
    net.change(other, |wanted| originate(wanted, &prefixes(0..900)));
    net.run(secs(1));
    assert_eq!(net.sent(one, other), []);
    // But when the cluster declares more, they are.
    net.change(one, |wanted| wanted.declared.pods = vec![prefix("100.64.0.0/21")]);
    net.run(secs(1));
    assert_eq!(net.fib(one).len(), 8);
}

#[test]
fn room_that_a_restarted_peer_leaves_is_used() {
    let (mut net, one, other) = pair();
    net.change_peer(one, other, |peer| peer.max_prefixes = 10);
    net.change(other, |wanted| originate(wanted, &prefixes(0..10)));
    net.run(secs(1));
    net.stop(other);
    originate(net.wanted_mut(other), &prefixes(10..20));
    net.start(other, kept_all());
    net.run(secs(10));
    let told: Vec<Prefix> = net.fib(one).keys().copied().collect();
    assert_eq!(told, prefixes(10..20));
}

#[test]
fn routes_far_beyond_the_limit_are_not_kept_and_asked_for_when_there_is_room() {
    let (mut net, one, other) = pair();
    net.change_peer(one, other, |peer| peer.max_prefixes = 10);
    net.change(other, |wanted| originate(wanted, &prefixes(0..1000)));
    net.run(secs(1));
    let counts = net.peer(one, other).counts[&Family::Ipv4];
    assert_eq!((counts.received, counts.accepted, counts.refused), (1000, 10, 990));
    assert_eq!(routes(net.router(one)).len(), 21, "memory is bounded");
    net.sent(one, other);
    net.change(other, |wanted| originate(wanted, &prefixes(993..1000)));
    net.run(secs(1));
    let asked: Vec<MessageType> = net.sent(one, other).iter().map(|message| message.kind).collect();
    assert_eq!(asked, [MessageType::RouteRefresh]);
    let told: Vec<Prefix> = net.fib(one).keys().copied().collect();
    assert_eq!(told, prefixes(993..1000));
}

#[test]
fn higher_limit_takes_what_was_refused() {
    let (mut net, one, other) = pair();
    net.change_peer(one, other, |peer| peer.max_prefixes = 10);
    net.change(other, |wanted| originate(wanted, &prefixes(0..50)));
    net.run(secs(1));
    net.change_peer(one, other, |peer| peer.max_prefixes = 100);
    net.run(secs(1));
    assert_eq!(net.fib(one).len(), 50);
}

#[test]
fn slow_peer_gets_the_last_state_only() {
    let (mut net, one, other) = pair();
    net.stall(one);
    for round in 0..10_000 {
        net.change(one, |wanted| originate(wanted, &prefixes(round..round + 3)));
    }
    net.resume(one);
    net.run(secs(1));
    let updates = net.updates(one, other);
    assert_eq!(updates.len(), 2, "one withdraws, one announces: {updates:?}");
    let told: Vec<Prefix> = net.fib(other).keys().copied().collect();
    assert_eq!(told, prefixes(9_999..10_002));
}

// --- all at once -----------------------------------------------------------------------------------------

/// Whatever happened before: when everything is mended, each kernel has exactly what the others announce.
#[test]
fn after_any_turmoil_the_routes_are_right_again() {
    let export_own = |(address, config): (ScopedAddress, PeerConfig)| {
        let policy = PeerPolicy { import: Import::All, export: Export::Own, ..PeerPolicy::default() };
        (address, PeerConfig { policy, ..config })
    };
    for seed in 1..=100_u64 {
        let mut net = Net::new();
        let names = [(65001, A), (65002, B), (65003, C)];
        let hosts = names.map(|(asn, address)| {
            let mut wanted = router(asn, address);
            let others = names.iter().filter(|(other, _)| *other != asn);
            wanted.peers = others.map(|(other, at)| export_own(neighbor(*other, at))).collect();
            net.add(wanted)
        });
        let mut dice = seed;
        let mut roll = |sides: u64| {
            dice = dice.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (dice >> 33) % sides
        };
        net.spread(millis(roll(50)), seed);
        for _ in 0..40 {
            let (one, other) = (hosts[roll(3) as usize], hosts[roll(3) as usize]);
            let some = roll(8) as u16;
            let is_running = net.is_running(one);
            match roll(9) {
                0 => net.cut(one, other),
                1 if one != other => net.silence(one, other),
                2 if one != other => net.refuse(one, other),
                3 if is_running => net.stop(one),
                4 if !is_running => net.start(one, kept_all()),
                5 if is_running => net.stall(one),
                6 => net.resume(one),
                7 if is_running => net.change(one, |wanted| originate(wanted, &prefixes(some..some + 6))),
                8 if is_running => net.change(one, |wanted| wanted.originated.clear()),
                _ => net.run(millis(roll(200_000))),
            }
            net.run(millis(roll(3000)));
        }
        for one in hosts {
            hosts.iter().filter(|other| **other != one).for_each(|other| net.mend(one, *other));
            net.resume(one);
            if !net.is_running(one) {
                net.start(one, kept_all());
            }
        }
        net.run(secs(600));
        for one in hosts {
            let mut expected: BTreeMap<Prefix, BTreeSet<IpAddr>> = BTreeMap::new();
            let own = &net.router(one).wanted().originated;
            for other in hosts.iter().filter(|other| **other != one) {
                assert!(net.is_up(one, *other), "seed {seed}\n{}", net.trace());
                for prefix in net.router(*other).wanted().originated.keys() {
                    if !own.contains_key(prefix) {
                        expected.entry(*prefix).or_default().insert(net.address(*other));
                    }
                }
            }
            assert_eq!(net.fib(one), &expected, "seed {seed}");
        }
    }
}

// --- octet by octet --------------------------------------------------------------------------------------

/// A device with these prefixes and a peer made of octets, without long messages and graceful restart.
fn old_speaker(originated: &[Prefix]) -> (Device, ConnId) {
    let mut wanted = speaker(65001, A, [passive(65002, B)], &[]);
    originate(&mut wanted, originated);
    let mut device = Device::new(wanted);
    let conn = device.accept(ip(A), ip(B));
    let four_octets = capability::four_octet_as(65002);
    let offered = [capability::IPV4, capability::IPV6, capability::ROUTE_REFRESH, &four_octets];
    device.send(conn, &scripted::open(65002, [10, 2, 0, 2], &offered));
    device.received(conn);
    device.send(conn, &scripted::keepalive());
    (device, conn)
}

/// The bodies of the UPDATEs received, End-of-RIB left out.
fn updates(device: &mut Device, conn: ConnId) -> Vec<Vec<u8>> {
    let messages = device.received(conn).into_iter();
    let updates = messages.filter(|message| message.kind == MessageType::Update);
    updates.map(|message| message.body).filter(|body| body.len() > 4 && body.len() != 11).collect()
}

fn ipv6_prefixes(count: u16) -> Vec<Prefix> {
    (0..count)
        .map(|n| Prefix::new(IpAddr::from([0xFD00, 0x10, n, 0, 0, 0, 0, 0]), 64).expect("length"))
        .collect()
}

#[test]
fn prefixes_of_one_attribute_set_fill_the_messages() {
    // Header and lengths: 23 octets; ORIGIN, AS_PATH, NEXT_HOP: 20; a prefix: 4.
    let per_message = (4096 - 23 - 20) / 4;
    let (mut device, conn) = old_speaker(&prefixes(0..1000));
    assert_eq!(updates(&mut device, conn).len(), 1);
    let (mut device, conn) = old_speaker(&prefixes(0..4000));
    assert_eq!(updates(&mut device, conn).len(), 4000_usize.div_ceil(per_message));
    device.apply(speaker(65001, A, [passive(65002, B)], &[]));
    assert_eq!(updates(&mut device, conn).len(), 4000_usize.div_ceil((4096 - 23) / 4));

    // ORIGIN and AS_PATH: 13 octets; MP_REACH_NLRI before the prefixes: 25; a prefix: 9.
    let per_message = (4096 - 23 - 13 - 25) / 9;
    let (mut device, conn) = old_speaker(&ipv6_prefixes(4000));
    assert_eq!(updates(&mut device, conn).len(), 4000_usize.div_ceil(per_message));
}

#[test]
fn long_messages_hold_a_whole_table() {
    let mut net = Net::new();
    let mut wanted = a();
    originate(&mut wanted, &prefixes(0..4000));
    let (one, other) = (net.add(wanted), net.add(b()));
    net.run(secs(10));
    assert_eq!(net.fib(other).len(), 4000);
    let lengths: Vec<usize> = net.updates(one, other).iter().map(Vec::len).collect();
    assert_eq!(lengths, [4 + 20 + 4 * 4000, 4, 11], "one UPDATE and two End-of-RIB");
}

#[test]
fn large_table_goes_out_in_bounded_bites_whatever_the_buffer_holds() {
    let (mut device, conn) = old_speaker(&[]);
    device.stall(conn);
    let mut wanted = speaker(65001, A, [passive(65002, B)], &[]);
    originate(&mut wanted, &ipv6_prefixes(60_000));
    device.apply(wanted);
    let mut octets = Vec::new();
    for bite in 1.. {
        let before = octets.len();
        let more = device.router.poll_transmit(conn, &mut octets);
        assert!(octets.len() > before && octets.len() - before < 256 * 1024, "bite {bite}");
        if !more {
            break;
        }
    }
    assert!(octets.len() > 9 * 60_000);
}

#[test]
fn route_refresh_tells_all_of_one_family_again() {
    let mixed = [prefixes(0..10), ipv6_prefixes(10)].concat();
    let (mut device, conn) = old_speaker(&mixed);
    let at_first = updates(&mut device, conn);
    assert_eq!(at_first.len(), 2);
    device.send(conn, &scripted::message(5, &[0, 1, 0, 1]));
    assert_eq!(updates(&mut device, conn), at_first[..1]);
    device.send(conn, &scripted::message(5, &[0, 2, 0, 1]));
    assert_eq!(updates(&mut device, conn), at_first[1..]);
    // Of a family that is not spoken, and of subtypes that were not agreed on: nothing.
    for body in [[0, 1, 0, 2], [0, 1, 1, 1], [0, 1, 2, 1], [0, 1, 9, 1]] {
        device.send(conn, &scripted::message(5, &body));
    }
    assert!(device.received(conn).is_empty());
}

#[test]
fn stranger_is_refused_and_a_third_connection_too() {
    let (mut device, conn) = old_speaker(&[]);
    let now = device.now;
    assert_eq!(device.router.handle_accepted(now, ip(A), ip(C)), Err(Refused::UnknownPeer));
    // Beside a session there is one slot: the newest connection has it.
    device.advance(secs(1));
    let second = device.accept(ip(A), ip(B));
    let third = device.accept(ip(A), ip(B));
    assert!(device.is_closed(second) && !device.is_closed(third) && !device.is_closed(conn));
    // Its OPEN shows no restart, so the session stays (RFC 4271 section 6.8).
    device.send(third, &scripted::open(65002, [10, 2, 0, 2], &[&capability::four_octet_as(65002)]));
    let last = device.received(third).last().and_then(Message::notification).expect("a NOTIFICATION");
    assert_eq!((last.code, last.subcode), (6, 7));
    assert!(device.is_closed(third) && !device.is_closed(conn));
}

/// A path that grew too long for a peer's messages is not told, and the shorter one before it goes.
#[test]
fn path_too_long_for_the_messages_of_a_peer_is_taken_back_there() {
    let peers = [passive(65002, B), passive(65001, C)];
    let mut device = Device::new(speaker(65001, A, peers, &[]));
    let mut connect = |asn: u32, address: &str, id: [u8; 4], long: &[u8]| {
        let conn = device.accept(ip(A), ip(address));
        let offered = [capability::IPV4, &capability::four_octet_as(asn), long];
        device.send(conn, &scripted::open(asn, id, &offered));
        device.send(conn, &scripted::keepalive());
        device.received(conn);
        conn
    };
    let teller = connect(65002, B, [10, 2, 0, 2], capability::EXTENDED_MESSAGE);
    let listener = connect(65001, C, [10, 2, 0, 3], &[]);
    let path_of = |count: u8| {
        // ORIGIN, NEXT_HOP, and an AS_PATH of `count` segments of 100 numbers, the peer's own.
        let segment = [&[2, 100][..], &65002_u32.to_be_bytes().repeat(100)].concat();
        let path = segment.repeat(usize::from(count));
        let length = u16::try_from(path.len()).expect("short").to_be_bytes();
        let next_hop = [0x40, 3, 4, 10, 2, 0, 2];
        let attributes = [&[0x40, 1, 1, 0, 0x50, 2][..], &length, &path, &next_hop].concat();
        let length = u16::try_from(attributes.len()).expect("short").to_be_bytes();
        scripted::message(2, &[&[0, 0][..], &length, &attributes, &[24, 192, 0, 2]].concat())
    };
    for (segments, told) in [(9, true), (11, false), (10, true), (12, false)] {
        device.send(teller, &path_of(segments));
        let [body] = &updates(&mut device, listener)[..] else { panic!("one UPDATE") };
        assert_eq!(body.starts_with(&[0, 0]), told, "{segments} segments: {} octets", body.len());
        let id = device.router.peer_at(ip(C)).expect("a peer");
        assert_eq!(adj_rib_out(&device.router, id).len(), usize::from(told));
        assert_eq!(device.fib.len(), 1, "we use it ourselves");
    }
}
