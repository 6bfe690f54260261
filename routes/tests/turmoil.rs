//! Everything at once: flaps, foreign hands and changing wishes. What counts is the end.

mod common;

use cambric_routes::{Change, Config, Target};
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
        match random(10) {
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
