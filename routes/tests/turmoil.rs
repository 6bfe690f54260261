//! Everything at once: flaps, foreign hands and changing wishes. What counts is the end.

mod common;

use std::{
    io::Write,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use cambric_routes::{Change, Config, Event, Family, Target};
use common::{
    Running, TOR1, TOR1_V6, TOR2, TOR2_V6, address, config, count, in_both_modes, ip, next_hops, prefix,
    start, try_ip, until, via, want, way_to,
};

const ROUTES: u32 = 40;

fn network(n: u32) -> String {
    format!("20.0.{n}.0/24")
}

fn network_v6(n: u32) -> String {
    format!("2001:db8:1000:{n:x}::/64")
}

/// A wish for each prefix that depends on the round: both uplinks, one of them, or none.
fn wishes(round: u32) -> Vec<Change> {
    let wish = |n: u32| {
        let (v4, v6): (&[&str], &[&str]) = match (n + round) % 4 {
            0 => (&[TOR1, TOR2], &[TOR1_V6, TOR2_V6]),
            1 => (&[TOR1], &[TOR1_V6]),
            2 => (&[TOR2], &[TOR2_V6]),
            _ => return [Change::Drop(prefix(&network(n))), Change::Drop(prefix(&network_v6(n)))],
        };
        [via(&network(n), v4), via(&network_v6(n), v6)]
    };
    (0..ROUTES).flat_map(wish).collect()
}

async fn set_without_waiting(running: &Running, changes: Vec<Change>) {
    running.routes.set(changes).await.expect("set");
}

#[test]
fn the_end_is_right_whatever_happened_before() {
    in_both_modes(|_| turmoil(4 << 20));
}

#[test]
fn the_end_is_right_even_if_events_are_lost() {
    in_both_modes(|_| turmoil(2048));
}

async fn turmoil(receive_buffer_bytes: usize) {
    let dir = tempfile::tempdir().expect("tempdir");
    let running = start(Config { receive_buffer_bytes, ..config(dir.path()) }).await;
    // A fixed pseudo-random sequence; `SEED=n` tries another.
    let mut state: u32 = std::env::var("SEED").map_or(7, |seed| seed.parse().expect("a number"));
    let mut random = move |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % below
    };
    for round in 0..60 {
        let n = random(2) + 1;
        let route = random(ROUTES);
        match random(16) {
            0 => drop(ip(&format!("link set tor{n} down"))),
            1 | 2 => drop(ip(&format!("link set tor{n} up"))),
            3 => {
                ip(&format!("link set up{n} down"));
                ip(&format!("link set up{n} up"));
                ip(&format!("addr add 2001:db8:{n}::2/64 dev up{n} nodad"));
            }
            4 => drop(try_ip("nexthop flush proto 203")),
            5 => drop(try_ip(&format!("route del {} proto 203", network(route)))),
            6 => drop(try_ip(&format!("-6 route del {} proto 203", network_v6(route)))),
            7 => {
                let gateway = address(if n == 1 { TOR1 } else { TOR2 });
                running.routes.next_hop_lost(gateway, None).await.expect("sent");
            }
            8 => drop(try_ip(&format!("nexthop del id 20300000{n}"))),
            9 => drop(try_ip(&format!("nexthop replace id 20350000{n} group 20300000{n} proto 203"))),
            10 => {
                drop(try_ip(&format!("route append {} via 10.{n}.0.9 proto 203 metric 203", network(route))))
            }
            11 => {
                let beside = format!("{} via 2001:db8:{n}::9 proto 203 metric 203", network_v6(route));
                drop(try_ip(&format!("-6 route append {beside}")));
            }
            12 => {
                ip(&format!("addr flush dev up{n} scope global"));
                ip(&format!("addr add 10.{n}.0.2/24 dev up{n}"));
                ip(&format!("addr add 2001:db8:{n}::2/64 dev up{n} nodad"));
            }
            13 => {
                ip(&format!("link set up{n} mtu 1279"));
                ip(&format!("link set up{n} mtu 1500"));
                ip(&format!("addr add 2001:db8:{n}::2/64 dev up{n} nodad"));
            }
            _ => {}
        }
        set_without_waiting(&running, wishes(round)).await;
        if random(3) == 0 {
            running.routes.flushed().await.expect("flushed");
        }
    }
    for n in [1, 2] {
        ip(&format!("link set tor{n} up"));
    }
    for family in Family::ALL {
        running.routes.allow_sweep(family).await.expect("allowed");
    }
    set_without_waiting(&running, wishes(0)).await;
    set_without_waiting(&running, vec![want("10.244.1.0/24", Target::Unreachable)]).await;
    let elapsed = until("all right", || {
        let expected = (ROUTES as usize) * 3 / 4;
        let only_way = |destination: &str, way: &str| way_to(destination).as_deref() == Some(way);
        (count("-4"), count("-6")) == (expected + 1, expected)
            && only_way("20.0.1.1", "up1")
            && only_way("20.0.2.1", "up2")
            && only_way("2001:db8:1000:1::1", "up1")
            && only_way("2001:db8:1000:2::1", "up2")
            && ip("-4 route show 20.0.0.0/24").contains("nhid")
            && next_hops().iter().filter(|n| n["group"].as_array().is_some_and(|m| m.len() == 2)).count() >= 2
    })
    .await;
    let snapshot = running.reaches("nothing left to do", |s| s.pending == 0 && s.failing == 0).await;
    println!("right after {elapsed:?}; repairs {:?}, {} checks", snapshot.repairs, snapshot.checks);
}

/// A program that tries to undo our work a thousand times a second, on a thread of its own. Returns how often it did.
fn undo_for(time: Duration, request: &'static [&'static str]) -> thread::JoinHandle<u32> {
    // A new thread lives in the namespace of the one that makes it.
    thread::spawn(move || {
        let (start, mut undone, mut rounds) = (Instant::now(), 0, 0);
        let mut batch = tempfile::NamedTempFile::new().expect("file");
        for _ in 0..100 {
            request.iter().for_each(|line| writeln!(batch, "{line}").expect("written"));
        }
        while start.elapsed() < time {
            let path = batch.path().display().to_string();
            let output = Command::new("ip").args(["-force", "-batch", &path]).output().expect("ip");
            // Each failure is a line, so what is not there is told.
            let failed = String::from_utf8_lossy(&output.stderr).matches("Command failed").count();
            undone += (100 * request.len() - failed) as u32;
            rounds += 1;
            thread::sleep((start + ROUND * rounds).saturating_duration_since(Instant::now()));
        }
        undone
    })
}

/// Processor time of this thread, on which the task runs.
fn own_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("schedstat");
    let nanoseconds = text.split_whitespace().next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanoseconds.expect("nanoseconds"))
}

const CONTEST: Duration = Duration::from_secs(3);
/// A hundred attempts.
const ROUND: Duration = Duration::from_millis(100);

#[test]
fn program_that_keeps_undoing_our_work_does_not_make_us_spin() {
    const ATTACKS: [&[&str]; 4] = [
        &["route del 20.0.0.0/24 proto 203"],
        &[
            "route replace 20.0.0.0/24 via 10.2.0.9 proto static metric 203",
            "route del 20.0.0.0/24 metric 203",
        ],
        &["nexthop del id 203500001"],
        &["nexthop del id 203000001", "nexthop del id 203000002"],
    ];
    in_both_modes(|_| async {
        for attack in ATTACKS {
            let dir = tempfile::tempdir().expect("tempdir");
            let running = start(config(dir.path())).await;
            running.set(vec![via(&network(0), &[TOR1, TOR2]), via(&network(1), &[TOR1, TOR2])]).await;
            let busy = own_time();
            let rival = undo_for(CONTEST, attack);
            let told = |event: &Event| matches!(event, Event::Contested { .. });
            let mut running = running;
            running.event(told).await;
            assert!(running.snapshot().await.contested.contains_key(&prefix(&network(0))));
            while !rival.is_finished() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let (undone, busy) = (rival.join().expect("it ends"), own_time() - busy);
            until("all right in the end", || {
                count("-4") == 2 && ip("-4 route show proto 203").matches("nhid").count() == 2
            })
            .await;
            let snapshot = running.snapshot().await;
            let repairs: u64 = snapshot.repairs.values().sum();
            println!(
                "{attack:?}: undone {undone} times, {repairs} repairs, {} checks, {busy:?} of {CONTEST:?}",
                snapshot.checks
            );
            // Ten at once and one a second, for each of two prefixes; some slack for a slow machine.
            assert!(repairs < 60, "{:?}", snapshot.repairs);
            assert!(busy < CONTEST / 2, "{busy:?}");
            running.kill().await;
            try_ip("nexthop flush proto 203");
            try_ip("route flush proto 203");
        }
    });
}
