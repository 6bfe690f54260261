//! The state machine without a kernel: results are made up, time is counted.

use std::time::Duration;

use nix::errno::Errno;

use super::*;
use crate::{
    PROTOCOL,
    event::Unusable,
    kernel::{Consistency, Found, KernelEvent, KernelRoute, Replaced, Table},
    links::{self, Link, tests::table},
    next_hops::{LinkIndex, tests::hop},
    wanted::WantedRoute,
};

const TOR1: &str = "10.1.0.1";
const TOR2: &str = "10.2.0.1";
const NETWORK: &str = "20.0.0.0/24";

fn fib() -> (Fib, Instant) {
    let links = table(&[(1, "up1", "10.1.0.2/24"), (2, "up2", "10.2.0.2/24")]);
    (Fib::new(Config::new("/nonexistent"), links), Instant::now())
}

fn prefix(text: &str) -> Prefix {
    Prefix::new(text.parse().expect("network"))
}

fn via(network: &str, gateways: &[&str]) -> Change {
    let next_hop = |gateway: &&str| NextHop::on_link(gateway.parse().expect("address"));
    let target = Target::Via(gateways.iter().map(next_hop).collect());
    Change::Want(WantedRoute::new(network.parse().expect("network"), target, None))
}

fn link(index: u32, name: &str, carrier: bool) -> KernelEvent {
    KernelEvent::Link(Link { carrier, ..links::tests::link(index, name) })
}

fn plain(network: &str, gateway: &str, link: u32) -> KernelRoute {
    let shape = Shape { form: Form::Plain(hop(gateway, link)), source: None };
    let (table, prefix, siblings) = (Table::Main, prefix(network), Vec::new());
    KernelRoute { table, prefix, metric: METRIC, protocol: PROTOCOL, shape, siblings }
}

/// Writes all that is queued to a kernel that answers as told. Returns what was written.
fn write(fib: &mut Fib, now: Instant, answer: impl Fn(&Op) -> Option<Errno>) -> Vec<Op> {
    let mut all = Vec::new();
    let mut send = |fib: &mut Fib, ops: Vec<Op>| {
        let refused: Vec<_> = ops.iter().enumerate().filter_map(|(at, op)| Some((at, answer(op)?))).collect();
        all.extend(ops.clone());
        fib.applied(ops, &refused, now);
    };
    while fib.has_work() {
        let prefixes = fib.take();
        let objects = fib.object_ops(&prefixes);
        send(fib, objects);
        let groups = fib.group_ops(&prefixes);
        send(fib, groups);
        let routes = fib.route_ops(&prefixes, now);
        send(fib, routes);
    }
    all
}

fn allow_sweep(fib: &mut Fib, now: Instant) {
    for family in Family::ALL {
        fib.allow_sweep(family, now);
    }
}

fn accept(_: &Op) -> Option<Errno> {
    None
}

fn refuse_hop(refused: Hop) -> impl Fn(&Op) -> Option<Errno> {
    move |op| match op {
        Op::CreateObject { hop, .. } if *hop == refused => Some(Errno::EHOSTUNREACH),
        Op::CreateRoute { shape, .. } if shape.form == Form::Plain(refused) => Some(Errno::EHOSTUNREACH),
        _ => None,
    }
}

fn form(fib: &Fib) -> Option<Form> {
    fib.mirror.route(&prefix(NETWORK)).map(|shape| shape.form)
}

#[test]
fn refused_next_hop_is_left_out_and_tried_again_until_it_works() {
    let (mut fib, mut now) = fib();
    fib.set(via(NETWORK, &[TOR1, TOR2]));
    for delay_ms in [1, 2, 4] {
        write(&mut fib, now, refuse_hop(hop(TOR1, 1)));
        assert_eq!(form(&fib), Some(Form::Plain(hop(TOR2, 2))));
        assert_eq!(fib.poll_timeout(), Some(now + Duration::from_millis(delay_ms)));
        assert_eq!(fib.unusable().get(&hop(TOR1, 1)), Some(&Unusable::Refused));
        now += Duration::from_millis(delay_ms);
        fib.handle_timeout(now);
    }
    write(&mut fib, now, accept);
    assert!(matches!(form(&fib), Some(Form::Group(_))));
    assert!(fib.unusable().is_empty());
}

#[test]
fn event_of_its_link_tries_a_refused_next_hop_at_once() {
    let (mut fib, now) = fib();
    fib.set(via(NETWORK, &[TOR1]));
    write(&mut fib, now, refuse_hop(hop(TOR1, 1)));
    assert_eq!(form(&fib), None);
    fib.handle_event(KernelEvent::Address(LinkIndex(1), links::tests::link_address("10.9.0.1/32")), now);
    write(&mut fib, now, accept);
    assert_eq!(form(&fib), Some(Form::Plain(hop(TOR1, 1))));
}

#[test]
fn many_refusals_of_one_batch_count_once() {
    let (mut fib, now) = fib();
    for n in 0..100 {
        fib.set(via(&format!("20.0.{n}.0/24"), &[TOR1]));
    }
    write(&mut fib, now, refuse_hop(hop(TOR1, 1)));
    assert_eq!(fib.poll_timeout(), Some(now + Duration::from_millis(1)));
    assert!(fib.take_events().is_empty(), "a link that needs a moment is no alarm");
}

#[test]
fn lost_next_hop_stays_out_until_it_is_wanted_again() {
    let (mut fib, now) = fib();
    fib.set(via(NETWORK, &[TOR1, TOR2]));
    write(&mut fib, now, accept);
    let gateway = NextHop::on_link(TOR1.parse().expect("address"));
    let ops = fib.next_hop_lost(&gateway, now);
    assert!(matches!(ops[..], [Op::DeleteNextHop { .. }]), "{ops:?}");
    fib.applied(ops, &[], now);
    assert!(!fib.has_work(), "the group does it all");
    let group = form(&fib);
    // When things settle, the mirror agrees with what is wanted.
    let settled = now + fib.config.settle_delay;
    fib.handle_timeout(settled);
    assert_eq!(write(&mut fib, settled, accept), []);
    assert_eq!(form(&fib), group);
    fib.set(via("20.0.1.0/24", &[TOR1, TOR2]));
    let ops = write(&mut fib, settled, accept);
    assert!(ops.iter().any(|op| matches!(op, Op::ReplaceGroup { .. })), "it grows again: {ops:?}");
}

#[test]
fn next_hop_wanted_again_while_its_address_is_away_is_no_longer_lost() {
    let (mut fib, now) = fib();
    fib.set(via(NETWORK, &[TOR1]));
    write(&mut fib, now, accept);
    fib.next_hop_lost(&NextHop::on_link(TOR1.parse().expect("address")), now);
    let address = links::tests::link_address("10.1.0.2/24");
    fib.handle_event(KernelEvent::AddressGone(LinkIndex(1), address.clone()), now);
    fib.set(via(NETWORK, &[TOR1]));
    fib.handle_event(KernelEvent::Address(LinkIndex(1), address), now);
    write(&mut fib, now, accept);
    assert_eq!(form(&fib), Some(Form::Plain(hop(TOR1, 1))));
}

#[test]
fn place_found_taken_leads_to_a_look_not_to_a_fight() {
    let (mut fib, now) = fib();
    fib.begin_listing(now);
    fib.end_listing(Consistency::Whole, now);
    fib.set(via(NETWORK, &[TOR1]));
    let taken = |op: &Op| matches!(op, Op::CreateRoute { .. }).then_some(Errno::EEXIST);
    let ops = write(&mut fib, now, taken);
    assert!(matches!(ops[..], [Op::CreateRoute { .. }]));
    let due = fib.listing_due().expect("a look");
    assert!(due < now + fib.config.settle_delay);
    fib.begin_listing(due);
    let foreign = KernelRoute { protocol: 4, ..plain(NETWORK, TOR2, 2) };
    fib.handle_found(Found::Route(foreign), due);
    fib.end_listing(Consistency::Whole, due);
    assert_eq!(write(&mut fib, due, accept), []);
    assert_eq!(fib.take_events(), [Event::ForeignConflict { prefix: prefix(NETWORK), protocol: 4 }]);
}

#[test]
fn listing_does_not_judge_what_changed_while_it_ran() {
    let (mut fib, now) = fib();
    fib.begin_listing(now);
    fib.set(via(NETWORK, &[TOR1]));
    write(&mut fib, now, accept);
    fib.end_listing(Consistency::Whole, now);
    assert!(form(&fib).is_some(), "written after the listing had passed its place");
    fib.begin_listing(now);
    fib.end_listing(Consistency::Whole, now);
    assert_eq!(form(&fib), None, "not shown, not touched: gone");
    write(&mut fib, now, accept);
    assert_eq!(fib.repairs.get(&RepairCause::Check), Some(&1));
}

#[test]
fn interrupted_listing_takes_nothing_as_gone() {
    let (mut fib, now) = fib();
    fib.set(via(NETWORK, &[TOR1]));
    write(&mut fib, now, accept);
    fib.begin_listing(now);
    fib.end_listing(Consistency::Interrupted, now);
    assert!(form(&fib).is_some());
    assert!(fib.listing_due().is_some_and(|due| due <= now + fib.config.settle_delay));
}

#[test]
fn link_loss_makes_a_running_listing_begin_anew() {
    let (mut fib, start) = fib();
    fib.set(via(NETWORK, &[TOR1, TOR2]));
    write(&mut fib, start, accept);
    fib.begin_listing(start);
    let now = start + Duration::from_secs(1);
    fib.handle_event(link(1, "up1", false), now);
    assert!(!fib.is_listing());
    assert_eq!(fib.listing_due(), Some(start + Duration::from_secs(5)), "a fifth of the time");
}

#[test]
fn pods_that_come_and_go_disturb_no_listing() {
    let (mut fib, now) = fib();
    fib.set(via(NETWORK, &[TOR1, TOR2]));
    write(&mut fib, now, accept);
    fib.begin_listing(now);
    for (index, address) in [(100, "fe80::1/64"), (101, "10.244.1.1/32")] {
        fib.handle_event(link(index, "pod", true), now);
        let (index, address) = (LinkIndex(index), links::tests::link_address(address));
        fib.handle_event(KernelEvent::Address(index, address.clone()), now);
        fib.handle_event(KernelEvent::AddressGone(index, address), now);
        fib.handle_event(link(index.0, "pod", false), now);
        fib.handle_event(KernelEvent::LinkGone(index), now);
    }
    assert!(fib.is_listing() && !fib.is_suspicious(now));
}

#[test]
fn route_of_an_earlier_run_waits_for_the_sweep_but_a_dropped_one_does_not() {
    let (mut fib, now) = fib();
    fib.begin_listing(now);
    for network in [NETWORK, "20.0.1.0/24"] {
        fib.handle_found(Found::Route(plain(network, TOR1, 1)), now);
    }
    fib.end_listing(Consistency::Whole, now);
    fib.adopt();
    fib.set(Change::Drop(prefix(NETWORK)));
    write(&mut fib, now, accept);
    assert_eq!(form(&fib), None);
    // Comes back by another hand: nobody wants it.
    fib.handle_event(KernelEvent::Route { route: plain(NETWORK, TOR1, 1), replaced: Replaced::No }, now);
    assert_eq!(write(&mut fib, now, accept).len(), 1);
    assert_eq!(fib.snapshot(now).stale.ipv4, 1);
    fib.allow_sweep(Family::Ipv4, now);
    write(&mut fib, now, accept);
    assert_eq!(fib.installed().ipv4, 0);
}

#[test]
fn deletions_lower_the_record_once_for_all_that_is_queued() {
    let (mut fib, now) = fib();
    for n in 0..100 {
        fib.set(via(&format!("20.0.{n}.0/24"), &[TOR1]));
    }
    write(&mut fib, now, accept);
    fib.config.batch = 10;
    for n in 0..50 {
        fib.set(Change::Drop(prefix(&format!("20.0.{n}.0/24"))));
    }
    let prefixes = fib.take();
    let ops = fib.route_ops(&prefixes, now);
    assert_eq!(fib.installed_during(&ops).ipv4, 50);
    assert_eq!(fib.installed_during(&[]).ipv4, 100);
}

#[test]
fn missing_source_is_told_once_and_again_after_it_was_there() {
    let (mut fib, now) = fib();
    let source = links::tests::link_address("192.0.2.7/32");
    let Change::Want(mut route) = via(NETWORK, &[TOR1]) else { unreachable!("a wish") };
    route.preferred_source = Some(source.address);
    let missing = [Event::PreferredSourceMissing { address: source.address }];
    fib.set(Change::Want(route.clone()));
    assert_eq!(fib.take_events(), missing);
    route.prefix = prefix("20.0.1.0/24");
    fib.set(Change::Want(route));
    assert_eq!(fib.take_events(), []);
    fib.handle_event(KernelEvent::Address(LinkIndex(1), source.clone()), now);
    assert_eq!(fib.take_events(), [Event::AddressesChanged]);
    fib.handle_event(KernelEvent::AddressGone(LinkIndex(1), source), now);
    assert!(fib.take_events().contains(&missing[0]));
}

#[test]
fn route_that_a_listing_shows_twice_is_one_route() {
    let (mut fib, mut now) = fib();
    fib.set(via(NETWORK, &[TOR1]));
    write(&mut fib, now, accept);
    allow_sweep(&mut fib, now);
    fib.begin_listing(now);
    for _ in 0..2 {
        fib.handle_found(Found::Route(plain(NETWORK, TOR1, 1)), now);
    }
    fib.end_listing(Consistency::Whole, now);
    now += fib.config.settle_delay;
    assert_eq!(fib.handle_timeout(now), []);
}

#[test]
fn stray_that_forwards_like_ours_leaves_nothing_vouched_for() {
    let (mut fib, mut now) = fib();
    fib.set(via(NETWORK, &[TOR1]));
    write(&mut fib, now, accept);
    allow_sweep(&mut fib, now);
    let mut second = plain(NETWORK, TOR1, 1);
    second.shape.source = Some("10.1.0.2".parse().expect("address"));
    fib.begin_listing(now);
    fib.handle_found(Found::Route(plain(NETWORK, TOR1, 1)), now);
    fib.handle_found(Found::Route(second), now);
    fib.end_listing(Consistency::Whole, now);
    now += fib.config.settle_delay;
    let ops = fib.handle_timeout(now);
    assert!(matches!(ops[..], [Op::DeleteRoute { .. }]), "{ops:?}");
    fib.applied(ops, &[], now);
    assert_eq!((form(&fib), fib.has_work()), (None, true));
    assert!(fib.is_suspicious(now));
}

#[test]
fn listing_that_is_cut_short_has_not_ended() {
    let (mut fib, now) = fib();
    fib.begin_listing(now);
    fib.handle_found(Found::Route(plain(NETWORK, TOR1, 1)), now);
    fib.handle_event(link(1, "up1", false), now);
    fib.end_listing(Consistency::Whole, now);
    assert!(!fib.is_listing() && !fib.has_listed());
    fib.begin_listing(now);
    fib.end_listing(Consistency::Interrupted, now);
    assert!(!fib.has_listed());
    fib.begin_listing(now);
    fib.end_listing(Consistency::Whole, now);
    assert!(fib.has_listed());
}

#[test]
fn route_that_the_first_listing_missed_waits_for_the_sweep_as_well() {
    let (mut fib, now) = fib();
    fib.adopt();
    let dropped = "20.0.1.0/24";
    fib.set(Change::Drop(prefix(dropped)));
    fib.begin_listing(now);
    for network in [NETWORK, dropped] {
        fib.handle_found(Found::Route(plain(network, TOR1, 1)), now);
    }
    fib.end_listing(Consistency::Whole, now);
    let goes = |network| Op::DeleteRoute {
        prefix: prefix(network),
        metric: METRIC,
        form: Form::Plain(hop(TOR1, 1)),
    };
    assert_eq!(write(&mut fib, now, accept), [goes(dropped)]);
    assert_eq!(fib.snapshot(now).stale.ipv4, 1);
    allow_sweep(&mut fib, now);
    assert_eq!(write(&mut fib, now, accept), [goes(NETWORK)]);
    // From now on what nobody wants goes as soon as it is found.
    fib.begin_listing(now);
    fib.handle_found(Found::Route(plain(dropped, TOR1, 1)), now);
    fib.end_listing(Consistency::Whole, now);
    assert_eq!(write(&mut fib, now, accept), [goes(dropped)]);
}

/// A route of another program to 192.0.2.0/24.
fn foreign(form: Form) -> KernelRoute {
    let shape = Shape { form, source: None };
    KernelRoute { metric: 5, protocol: 4, shape, ..plain("192.0.2.0/24", TOR1, 1) }
}

#[test]
fn group_is_lent_until_the_last_foreign_route_of_a_place_leaves_it() {
    let (mut fib, now) = fib();
    fib.set(via(NETWORK, &[TOR1, TOR2]));
    write(&mut fib, now, accept);
    let group = fib.mirror.next_hops.groups().map(|(id, _)| id).next().expect("a group");
    let appended = |form| KernelEvent::Route { route: foreign(form), replaced: Replaced::No };
    fib.handle_event(appended(Form::Group(group)), now);
    fib.handle_event(appended(Form::Plain(hop(TOR2, 2))), now);
    assert_eq!(fib.mirror.borrowers(group), 1);
    fib.handle_event(KernelEvent::RouteGone(foreign(Form::Plain(hop(TOR2, 2)))), now);
    assert_eq!(fib.mirror.borrowers(group), 1);
    fib.handle_event(KernelEvent::RouteGone(foreign(Form::Group(group))), now);
    assert_eq!(fib.mirror.borrowers(group), 0);
}

#[test]
fn listing_remembers_no_route_on_next_hops_of_others() {
    let (mut fib, now) = fib();
    fib.begin_listing(now);
    for (n, id) in (0..100).zip([NextHopId(77), NextHopId(203_500_001)].into_iter().cycle()) {
        let route = KernelRoute { prefix: prefix(&format!("30.0.{n}.0/24")), ..foreign(Form::Group(id)) };
        fib.handle_found(Found::Route(route), now);
    }
    assert_eq!(fib.listing.remembered(), 0);
}

#[test]
fn odd_route_beside_a_foreign_sibling_is_deleted_by_its_next_hop() {
    const NETWORK: &str = "2001:db8:a::/64";
    let [ours, odd, theirs] = ["2001:db8:1::1", "2001:db8:1::9", "2001:db8:1::7"];
    let links = table(&[(1, "up1", "2001:db8:1::2/64")]);
    let (mut fib, now) = (Fib::new(Config::new("/nonexistent"), links), Instant::now());
    fib.set(via(NETWORK, &[ours]));
    write(&mut fib, now, accept);
    let mut with_mtu = plain(NETWORK, odd, 1);
    with_mtu.shape.form = Form::Odd(Some(hop(odd, 1)));
    fib.handle_event(KernelEvent::Route { route: with_mtu, replaced: Replaced::Yes }, now);
    let foreign = KernelRoute { protocol: 4, siblings: vec![hop(odd, 1)], ..plain(NETWORK, theirs, 1) };
    fib.handle_event(KernelEvent::Route { route: foreign, replaced: Replaced::No }, now);
    let (prefix, form) = (prefix(NETWORK), Form::Odd(Some(hop(odd, 1))));
    assert_eq!(write(&mut fib, now, accept), [Op::DeleteRoute { prefix, metric: METRIC, form }]);
}

#[test]
fn right_route_is_not_deleted_for_one_that_covered_it_and_is_gone() {
    let (mut fib, now) = fib();
    fib.set(via(NETWORK, &[TOR1]));
    write(&mut fib, now, accept);
    let (ours, other) = (plain(NETWORK, TOR1, 1), plain(NETWORK, TOR2, 2));
    fib.handle_event(KernelEvent::Route { route: other.clone(), replaced: Replaced::No }, now);
    let prefixes = fib.take();
    let ops = fib.route_ops(&prefixes, now);
    fib.applied(ops, &[(0, Errno::EEXIST)], now);
    // Its owner takes the other one away before we come to it.
    fib.handle_event(KernelEvent::RouteGone(other), now);
    write(&mut fib, now, |op| matches!(op, Op::CreateRoute { .. }).then_some(Errno::EEXIST));
    fib.begin_listing(now);
    fib.handle_found(Found::Route(ours), now);
    fib.end_listing(Consistency::Whole, now);
    assert_eq!(write(&mut fib, now, accept), []);
    assert_eq!(form(&fib), Some(Form::Plain(hop(TOR1, 1))));
}

#[test]
fn nothing_is_replaced_blindly_after_events_were_lost() {
    let (mut fib, now) = fib();
    fib.set(via(NETWORK, &[TOR1]));
    write(&mut fib, now, accept);
    fib.handle_event(KernelEvent::Overrun, now);
    fib.set(via(NETWORK, &[TOR2]));
    let ops = write(&mut fib, now, accept);
    assert!(matches!(ops[..], [Op::DeleteRoute { .. }, Op::CreateRoute { .. }]), "{ops:?}");
    assert!(fib.is_in_doubt());
    fib.begin_listing(now);
    assert!(fib.is_in_doubt());
    fib.handle_found(Found::Route(plain(NETWORK, TOR2, 2)), now);
    fib.end_listing(Consistency::Whole, now);
    assert!(!fib.is_in_doubt());
    fib.set(via(NETWORK, &[TOR1]));
    assert!(matches!(write(&mut fib, now, accept)[..], [Op::ReplaceRoute { .. }]));
}
