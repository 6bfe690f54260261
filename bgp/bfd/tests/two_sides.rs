//! Two tables on a clock that jumps, with a line between them that delays and loses packets.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use cambric_bfd::{Arrived, Config, DownCause, Neighbor, State, Status, TTL, Table};
use proptest::prelude::*;

/// When a packet arrives, its number, where, and what it is.
type UnderWay = (Instant, u64, Side, Vec<u8>);
/// What the line does to a packet.
type Fate<'a> = dyn FnMut(Side, Duration) -> Option<Duration> + 'a;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Left,
    Right,
}

struct Line {
    start: Instant,
    now: Instant,
    tables: [Table; 2],
    under_way: BinaryHeap<Reverse<UnderWay>>,
    sent: u64,
}

fn address(side: Side) -> IpAddr {
    IpAddr::from([192, 0, 2, side as u8])
}

fn other(side: Side) -> Side {
    if side == Side::Left { Side::Right } else { Side::Left }
}

fn neighbor_of(side: Side) -> Neighbor {
    Neighbor { address: address(other(side)), interface: None }
}

fn config(transmit: u64, receive: u64, multiplier: u8) -> Config {
    Config {
        transmit: Duration::from_millis(transmit),
        receive: Duration::from_millis(receive),
        multiplier: NonZeroU8::new(multiplier).expect("not 0"),
    }
}

impl Line {
    fn new(configs: [Config; 2], seed: u64) -> Line {
        let start = Instant::now();
        let mut tables = [Table::new(seed), Table::new(seed ^ 0xFFFF)];
        for (side, config) in [Side::Left, Side::Right].into_iter().zip(configs) {
            tables[side as usize].apply(start, &BTreeMap::from([(neighbor_of(side), config)]));
        }
        Line { start, now: start, tables, under_way: BinaryHeap::new(), sent: 0 }
    }

    fn status(&self, side: Side) -> Status {
        self.tables[side as usize].status(&neighbor_of(side)).expect("it is wanted")
    }

    fn both_up(&self) -> bool {
        [Side::Left, Side::Right].into_iter().all(|side| self.status(side).state == State::Up)
    }

    /// Runs until `end` after the start, or until `done`; `fate` says how long each packet takes, or that it is lost.
    fn run(&mut self, end: Duration, fate: &mut Fate<'_>, done: impl Fn(&Line) -> bool) {
        loop {
            for side in [Side::Left, Side::Right] {
                while let Some((_, octets)) = self.tables[side as usize].poll_transmit() {
                    self.sent += 1;
                    if let Some(delay) = fate(side, self.now - self.start) {
                        let packet = (self.now + delay, self.sent, other(side), octets.to_vec());
                        self.under_way.push(Reverse(packet));
                    }
                }
            }
            if done(self) {
                return;
            }
            let arrives = self.under_way.peek().map(|Reverse((at, ..))| *at);
            let due = self.tables.iter().filter_map(Table::poll_timeout).chain(arrives).min();
            let due = due.filter(|at| *at <= self.start + end);
            let Some(at) = due else {
                self.now = self.start + end;
                return;
            };
            self.now = self.now.max(at);
            while self.under_way.peek().is_some_and(|Reverse((at, ..))| *at <= self.now) {
                let Some(Reverse((_, _, to, octets))) = self.under_way.pop() else { break };
                let arrived = Arrived { source: address(other(to)), interface: None, ttl: TTL };
                self.tables[to as usize].handle_packet(self.now, arrived, &octets).expect("sound");
            }
            self.tables.iter_mut().for_each(|table| table.handle_timeout(self.now));
        }
    }
}

fn quick(_: Side, _: Duration) -> Option<Duration> {
    Some(Duration::from_micros(100))
}

#[test]
fn both_come_up_within_three_seconds_and_stay() {
    let mut line = Line::new([config(300, 300, 3), config(50, 50, 3)], 1);
    line.run(Duration::from_secs(3), &mut quick, Line::both_up);
    assert!(line.both_up());
    let sent = line.sent;
    line.run(Duration::from_secs(603), &mut quick, |_| false);
    assert_eq!((line.status(Side::Left).downs, line.status(Side::Right).downs), (0, 0));
    // 300 ms both ways, up to a quarter early.
    let a_second = (line.sent - sent) as f64 / 600.0;
    assert!((6.6..9.0).contains(&a_second), "{a_second} packets a second");
}

#[test]
fn silence_of_one_way_brings_both_down_by_the_detection_time() {
    for (interval, multiplier) in [(300, 3), (50, 3), (100, 5)] {
        let mut line = Line::new([config(interval, interval, multiplier); 2], 2);
        line.run(Duration::from_secs(30), &mut quick, |_| false);
        assert!(line.both_up());
        let mut one_way = |side, _| quick(side, Duration::ZERO).filter(|_| side == Side::Left);
        line.run(Duration::from_secs(40), &mut one_way, |line| line.status(Side::Left).state == State::Down);
        let took = line.now - (line.start + Duration::from_secs(30));
        let detection = Duration::from_millis(interval * u64::from(multiplier));
        assert!(took <= detection + Duration::from_millis(1), "{took:?} of {detection:?}");
        assert!(took + Duration::from_millis(interval) >= detection, "{took:?} of {detection:?}");
        line.run(Duration::from_secs(41), &mut one_way, |line| line.status(Side::Right).state != State::Up);
        let cause = |side| line.status(side).last_down.map(|down| down.cause);
        assert_eq!(cause(Side::Left), Some(DownCause::DetectionTimeExpired(detection)));
        assert!(
            matches!(cause(Side::Right), Some(DownCause::NeighborSignaledDown(_))),
            "{:?}",
            cause(Side::Right)
        );
    }
}

#[test]
fn a_new_run_of_one_side_is_no_failure_to_the_other() {
    let mut line = Line::new([config(50, 50, 3); 2], 3);
    line.run(Duration::from_secs(10), &mut quick, |_| false);
    assert!(line.both_up());
    line.tables[0] = Table::new(99);
    let wanted = BTreeMap::from([(neighbor_of(Side::Left), config(50, 50, 3))]);
    line.tables[0].apply(line.now, &wanted);
    line.under_way.clear();
    line.run(Duration::from_secs(15), &mut quick, Line::both_up);
    let cause = line.status(Side::Right).last_down.map(|down| down.cause);
    assert_eq!(cause, Some(DownCause::NeighborAdminDown), "RFC 5882 section 3.2");
    assert!(line.both_up());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is lost at the start, with a fifth lost for good they come up; and when all is lost each side is down
    /// within its detection time.
    #[test]
    fn they_come_up_under_loss_and_see_the_end(
        configs in prop::array::uniform2((50_u64..400, 50_u64..400, 3_u8..6)),
        seed in any::<u64>(),
        delay_us in 10_u64..20_000,
        deaf_ms in 0_u64..3_000,
    ) {
        let configs = configs.map(|(transmit, receive, multiplier)| config(transmit, receive, multiplier));
        let mut line = Line::new(configs, seed);
        let mut dice = seed;
        let mut fate = |_, at: Duration| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let is_lost = at < Duration::from_millis(deaf_ms) || (dice >> 33) % 5 == 0;
            (!is_lost).then(|| Duration::from_micros(delay_us))
        };
        line.run(Duration::from_secs(120), &mut fate, Line::both_up);
        prop_assert!(line.both_up());
        line.run(line.now - line.start + Duration::from_secs(5), &mut quick, |_| false);
        prop_assert!(line.both_up());

        let detection = [line.status(Side::Left), line.status(Side::Right)].map(|status| status.detection);
        let (cut, longest) = (line.now, detection.into_iter().flatten().max().expect("both hear"));
        line.under_way.clear();
        line.run(cut - line.start + longest + Duration::from_millis(1), &mut |_, _| None, |_| false);
        for side in [Side::Left, Side::Right] {
            let status = line.status(side);
            let down = status.last_down.expect("it was up");
            prop_assert_eq!(status.state, State::Down);
            prop_assert!(down.at <= cut + detection[side as usize].expect("it heard"), "{:?}", status);
        }
    }
}
