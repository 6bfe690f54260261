//! max-prefix: what is said of it, and which routes it hits.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cambric_bgp::policy::Refusal;
use cambric_bgp::rib::{Part, Verdict};
use cambric_bgp::{ConnId, Family, Prefix, Wanted};
use support::scripted::{self, Device, capability, message};
use support::{ip, passive, prefix, router};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

const US: &str = "10.2.0.1";
const PEER: &str = "10.2.0.2";

/// Counts warnings.
struct Warnings(Arc<AtomicUsize>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// A session with a peer that may have so many routes accepted, 10.3.0.0/24 and on.
struct Rig {
    device: Device,
    wanted: Wanted,
    conn: ConnId,
    warnings: Arc<AtomicUsize>,
    _log: tracing::subscriber::DefaultGuard,
}

impl Rig {
    fn with_limit(limit: usize) -> Rig {
        let warnings = Arc::new(AtomicUsize::new(0));
        let log = tracing::subscriber::set_default(Warnings(Arc::clone(&warnings)));
        let mut wanted = router(65001, US);
        wanted.peers = BTreeMap::from([passive(65002, PEER)]);
        wanted.peers.values_mut().for_each(|peer| peer.max_prefixes = limit);
        let mut device = Device::new(wanted.clone());
        let conn = device.accept(ip(US), ip(PEER));
        let offered = [capability::IPV4, &capability::four_octet_as(65002)];
        device.send(conn, &scripted::open(65002, [10, 2, 0, 2], &offered));
        device.send(conn, &scripted::keepalive());
        Rig { device, wanted, conn, warnings, _log: log }
    }

    fn change_limit(&mut self, limit: usize) {
        self.wanted.peers.values_mut().for_each(|peer| peer.max_prefixes = limit);
        self.device.apply(self.wanted.clone());
    }

    /// What a route is measured by changes, and back.
    fn judge_again(&mut self) {
        let mut other = self.wanted.clone();
        other.declared.pods.push(prefix("10.244.0.0/16"));
        self.device.apply(other);
        self.device.apply(self.wanted.clone());
    }

    fn tell(&mut self, numbers: impl IntoIterator<Item = u8>) {
        const ATTRIBUTES: &[u8] =
            &[0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xFD, 0xEA, 0x40, 3, 4, 10, 2, 0, 2];
        for number in numbers {
            let body = [&[0, 0, 0, 20][..], ATTRIBUTES, &[24, 10, 3, number]].concat();
            self.device.send(self.conn, &message(2, &body));
        }
    }

    fn take_back(&mut self, numbers: impl IntoIterator<Item = u8>) {
        for number in numbers {
            self.device.send(self.conn, &message(2, &[0, 4, 24, 10, 3, number, 0, 0]));
        }
    }

    /// How many warnings there were since the last call.
    fn warnings(&self) -> usize {
        self.warnings.swap(0, Ordering::Relaxed)
    }

    fn accepted(&self) -> Vec<Prefix> {
        let id = self.device.router.peer_at(ip(PEER)).expect("configured");
        let told = self.device.router.routes_to(&self.device.router.prefixes(Part::ToldBy(id)));
        let accepted = told.iter().filter(|route| !matches!(route.paths[0].verdict, Verdict::Refused(_)));
        let accepted: Vec<Prefix> = accepted.map(|route| route.prefix).collect();
        let status = self.device.router.peer(id).expect("configured");
        assert_eq!(accepted.len(), status.counts[&Family::Ipv4].accepted);
        accepted
    }
}

fn numbered(numbers: impl IntoIterator<Item = u8>) -> Vec<Prefix> {
    numbers.into_iter().map(|number| prefix(&format!("10.3.{number}.0/24"))).collect()
}

#[test]
fn peer_that_stays_near_its_limit_or_at_it_is_warned_of_once() {
    for limit in [1, 2, 3, 4, 5, 9, 10, 100] {
        let mut rig = Rig::with_limit(limit.into());
        rig.tell(0..limit - limit / 5);
        assert_eq!(rig.warnings(), 1, "{limit}: near");
        for _ in 0..5 {
            rig.tell(0..limit - limit / 5);
            rig.judge_again();
        }
        assert_eq!(rig.warnings(), 0, "{limit}: told again, judged again");
        rig.tell(0..limit + 3);
        assert_eq!(rig.warnings(), 1, "{limit}: full");
        for _ in 0..5 {
            rig.tell(0..limit + 3);
            // Of a smaller limit one is too much to be near it.
            if limit > 3 {
                rig.take_back([limit - 1]);
                rig.tell([limit - 1]);
            }
        }
        assert_eq!(rig.warnings(), 0, "{limit}: still full");
    }
}

#[test]
fn refused_prefixes_are_counted_when_they_are_told_and_not_when_they_are_judged_again() {
    let mut rig = Rig::with_limit(2);
    rig.tell(0..5);
    rig.judge_again();
    let tally = rig.device.router.tally();
    assert_eq!(tally.refusals, BTreeMap::from([(Refusal::OverMaxPrefixes, 3)]));
    let counts = tally.counts[&Family::Ipv4];
    assert_eq!((counts.received, counts.accepted, counts.refused, counts.not_kept), (5, 2, 3, 1));
}

#[test]
fn sessions_that_ended_are_counted_also_when_the_peer_is_gone() {
    let mut rig = Rig::with_limit(2);
    let lost = |rig: &Rig| {
        let tally = rig.device.router.tally();
        (tally.sessions_lost, tally.peers.first().map(|peer| peer.sessions_lost))
    };
    assert_eq!(lost(&rig), (0, Some(0)));
    let id = rig.device.router.peer_at(ip(PEER)).expect("configured");
    rig.device.router.restart(rig.device.now, id);
    assert_eq!(lost(&rig), (1, Some(1)));
    rig.wanted.peers.clear();
    rig.device.apply(rig.wanted.clone());
    assert_eq!(lost(&rig), (1, None));
}

#[test]
fn peer_that_comes_near_its_limit_from_far_below_is_warned_of_again() {
    let mut rig = Rig::with_limit(10);
    rig.tell(0..12);
    assert_eq!(rig.warnings(), 2, "near, and full");
    rig.take_back(4..12);
    rig.tell(4..12);
    assert_eq!(rig.warnings(), 2, "near, and full");
}

#[test]
fn lower_limit_leaves_the_first_routes_and_touches_no_others() {
    let mut rig = Rig::with_limit(20);
    rig.tell(0..20);
    rig.device.changes.clear();
    rig.change_limit(10);
    assert_eq!(rig.accepted(), numbered(0..10));
    let hit: Vec<Prefix> = rig.device.changes.iter().map(|change| change.prefix).collect();
    assert_eq!(hit, numbered(10..20));
}

#[test]
fn accepted_route_does_not_lose_its_place_to_a_refused_one() {
    let mut rig = Rig::with_limit(10);
    rig.tell(0..10);
    // The next one gets the place of this one in the table; it is over the limit at first.
    rig.take_back([0]);
    rig.tell([10, 11]);
    assert_eq!(rig.accepted(), numbered(1..11));
    rig.judge_again();
    assert_eq!(rig.accepted(), numbered(1..11));
    rig.take_back([1]);
    rig.tell([12, 11]);
    assert_eq!(rig.accepted(), numbered((2..11).chain([12])));
    rig.judge_again();
    assert_eq!(rig.accepted(), numbered((2..11).chain([12])));
}
