//! max-prefix: what is said of it, and which routes it hits.

mod support;

use std::collections::BTreeMap;

use cambric_bgp::policy::Refusal;
use cambric_bgp::rib::{Part, Verdict};
use cambric_bgp::{ConnId, Family, PeerPolicy, Prefix, Wanted};
use support::lines::Lines;
use support::scripted::{self, Device, capability, message};
use support::{ip, passive, prefix, router};
use tracing::Level;

const US: &str = "10.2.0.1";
const PEER: &str = "10.2.0.2";

/// A session with a peer that may have so many routes accepted, 10.3.0.0/24 and on.
struct Rig {
    device: Device,
    wanted: Wanted,
    conn: ConnId,
    warnings: Lines,
}

impl Rig {
    fn with_limit(limit: usize) -> Rig {
        let warnings = Lines::of(Level::WARN);
        let mut wanted = router(65001, US);
        wanted.peers = BTreeMap::from([passive(65002, PEER)]);
        wanted.peers.values_mut().for_each(|peer| peer.max_prefixes = limit);
        let mut device = Device::new(wanted.clone());
        let conn = device.accept(ip(US), ip(PEER));
        let offered = [capability::IPV4, &capability::four_octet_as(65002)];
        device.send(conn, &scripted::open(65002, [10, 2, 0, 2], &offered));
        device.send(conn, &scripted::keepalive());
        Rig { device, wanted, conn, warnings }
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
        self.warnings.take()
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
fn warning_comes_where_the_operator_wants_it_and_once_however_a_peer_flaps_there() {
    for (percent, near) in [(80, 80), (50, 50), (100, 100), (1, 1), (33, 33)] {
        let mut rig = Rig::with_limit(100);
        rig.wanted.peers.values_mut().for_each(|peer| peer.warn_at_percent = percent);
        rig.device.apply(rig.wanted.clone());
        rig.tell(0..near - 1);
        assert_eq!(rig.warnings(), 0, "{percent} %: {} are few", near - 1);
        rig.tell(near - 1..near);
        assert_eq!(rig.warnings(), 1, "{percent} %: at {near}");
        for _ in 0..20 {
            rig.take_back(near - 1..near);
            rig.tell(near - 1..near);
        }
        // One of a single route has none left in between; of the same there are three lines an hour.
        let is_one = near == 1;
        assert_eq!(rig.warnings(), if is_one { 2 } else { 0 }, "{percent} %: to and fro");
        rig.take_back(0..near);
        rig.tell(0..near);
        assert_eq!(rig.warnings(), if is_one { 0 } else { 1 }, "{percent} %: after it was well below");
    }
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

/// Long attributes, each of a route that nobody wants, must not fill the memory: 16 MiB of them are kept of a family.
#[test]
fn refused_routes_with_long_attributes_are_not_kept_beyond_a_budget() {
    let mut wanted = router(65001, US);
    wanted.peers = BTreeMap::from([passive(65002, PEER)]);
    wanted.peers.values_mut().for_each(|peer| peer.policy = PeerPolicy::default());
    let mut device = Device::new(wanted);
    let conn = device.accept(ip(US), ip(PEER));
    let as4 = capability::four_octet_as(65002);
    let offered = [capability::IPV4, capability::EXTENDED_MESSAGE, &as4];
    device.send(conn, &scripted::open(65002, [10, 2, 0, 2], &offered));
    device.send(conn, &scripted::keepalive());
    let counts = |device: &Device| {
        let id = device.router.peer_at(ip(PEER)).expect("configured");
        device.router.peer(id).expect("configured").counts[&Family::Ipv4]
    };
    let head = [0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xFD, 0xEA, 0x40, 3, 4, 10, 2, 0, 2];
    let long = [&[0xD0, 99][..], &60_000_u16.to_be_bytes(), &[0; 60_000]].concat();
    let attributes = [&head[..], &long].concat();
    let length = u16::try_from(attributes.len()).expect("fits").to_be_bytes();
    for number in 0..=255 {
        for bit in [0, 128] {
            let body = [&[0, 0][..], &length, &attributes, &[25, 10, 3, number, bit]].concat();
            device.send(conn, &message(2, &body));
        }
    }
    let full = counts(&device);
    assert_eq!((full.received, full.accepted, full.refused), (512, 0, 512));
    let kept = full.refused - full.not_kept;
    assert!((270..=280).contains(&kept), "{kept} of 60 kB each");
    // Room comes back with those that go.
    for number in 0..=255 {
        device.send(conn, &message(2, &[0, 10, 25, 10, 3, number, 0, 25, 10, 3, number, 128, 0, 0]));
    }
    let empty = counts(&device);
    assert_eq!((empty.received, empty.refused, empty.not_kept), (0, 0, 0));
    let body = [&[0, 0][..], &length, &attributes, &[25, 10, 3, 7, 0]].concat();
    device.send(conn, &message(2, &body));
    assert_eq!((counts(&device).refused, counts(&device).not_kept), (1, 0));
}
