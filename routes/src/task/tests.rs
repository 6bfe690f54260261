//! The task on a real kernel: the slow check alone, without any event; and events at the last moment.

use std::{collections::BTreeSet, process::Command, thread};

use nix::{
    sched::{CloneFlags, unshare},
    unistd::Uid,
};

use super::*;
use crate::{
    event::RepairCause,
    wanted::{Prefix, Target, WantedRoute},
};

/// Far beyond what any of it takes.
const LIMIT: Duration = Duration::from_secs(10);
const GATEWAYS: [[&str; 2]; 2] = [["10.1.0.1", "10.2.0.1"], ["2001:db8:1::1", "2001:db8:2::1"]];
const NETWORKS: [&str; 2] = ["20.0.0.0/24", "2001:db8:a::/64"];

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("ip");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What is there by our protocol number; numbers may differ after a repair.
fn present() -> Vec<String> {
    let all = ["-4 route", "-6 route", "nexthop"].map(|what| ip(&format!("{what} show proto 203"))).concat();
    let mut lines: Vec<String> =
        all.replace(|c: char| c.is_ascii_digit(), "").lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// A route over both uplinks in each family.
fn wishes() -> [Change; 2] {
    [0, 1].map(|n| {
        let hops = GATEWAYS[n].map(|gateway| NextHop::on_link(gateway.parse().expect("address")));
        let target = Target::Via(BTreeSet::from(hops));
        Change::Want(WantedRoute::new(NETWORKS[n].parse().expect("network"), target, None))
    })
}

/// The command that takes a member from a group.
fn shrink_a_group() -> String {
    let next_hops = ip("nexthop show proto 203");
    let mut words = next_hops.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let group = words.find(|words| words.get(2) == Some(&"group")).expect("a group");
    let (member, _) = group[3].split_once('/').expect("two members");
    format!("nexthop replace id {} group {member} proto 203", group[1])
}

#[test]
fn check_repairs_what_no_event_told() {
    in_both_modes(deaf);
}

#[test]
fn group_that_comes_into_use_at_the_last_moment_is_kept() {
    in_both_modes(late_borrower);
}

fn in_both_modes<F: Future<Output = ()> + 'static>(test: fn() -> F) {
    if !Uid::effective().is_root() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "needs root");
        println!("not run: needs root");
        return;
    }
    for compat in ["0", "1"] {
        let thread = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
            std::fs::write("/proc/sys/net/ipv4/nexthop_compat_mode", compat).expect("sysctl");
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(test());
        });
        thread.join().expect("no panic");
    }
}

async fn two_uplinks() {
    for n in [1, 2] {
        ip(&format!("link add up{n} type veth peer name tor{n}"));
        ip(&format!("link set up{n} up"));
        ip(&format!("link set tor{n} up"));
        ip(&format!("addr add 10.{n}.0.2/24 dev up{n}"));
        ip(&format!("addr add 2001:db8:{n}::2/64 dev up{n} nodad"));
    }
    until("carrier", || ip("link show up2").contains("state UP")).await;
}

/// What is told just before things settle counts.
async fn late_borrower() {
    two_uplinks().await;
    let dir = tempfile::tempdir().expect("tempdir");
    let config = Config { settle_delay: Duration::from_millis(1), ..Config::new(dir.path()) };
    let (_routes, _events, mut task) = Task::start(config).await.expect("started");
    for family in Family::ALL {
        task.fib.allow_sweep(family, Instant::now());
    }
    // The check that this asks for, so that nothing but an event can tell of what follows.
    let start = Instant::now();
    while task.fib.is_listing() || task.fib.poll_timeout().is_some_and(|due| due < start + LIMIT) {
        turn(&mut task).await;
    }
    let [wish, _] = wishes();
    let prefix = wish.prefix();
    for change in [wish, Change::Drop(prefix)] {
        task.fib.set(change);
        task.write_batch().expect("written");
    }
    let next_hops = ip("nexthop show proto 203");
    let group = next_hops.lines().find(|line| line.contains("group")).expect("a group");
    let id = group.split_whitespace().nth(1).expect("a number");
    ip(&format!("route add 192.0.2.0/24 nhid {id} proto static"));
    while task.fib.poll_timeout().is_some_and(|due| due < start + LIMIT) {
        turn(&mut task).await;
    }
    assert!(ip("route show 192.0.2.0/24").contains("nhid"), "gone with its group");
    assert_eq!(task.fib.snapshot(start).borrowed.len(), 1);
}

/// Timers and listings, but no events of their own accord.
async fn turn(task: &mut Task) {
    task.handle_timers().await.expect("no failure");
    if let Some(dump) = &mut task.dump {
        let step = dump.step().await.expect("a step");
        task.handle_listing(step).expect("taken in");
    }
}

async fn deaf() {
    two_uplinks().await;
    let dir = tempfile::tempdir().expect("tempdir");
    let config = Config { check_interval: Duration::from_millis(300), ..Config::new(dir.path()) };
    let (routes, events, task) = Task::start(config).await.expect("started");
    task.kernel.deafen().expect("a filter");
    let running = tokio::spawn(task.run());
    routes.set(wishes().to_vec()).await.expect("set");
    routes.flushed().await.expect("flushed");
    let whole = present();
    let repairs = async || routes.snapshot().await.expect("snapshot").repairs.values().sum::<u64>();
    let mut count = 0;
    let shrinking = shrink_a_group();
    for damage in [
        &shrinking,
        "-4 route del 20.0.0.0/24",
        "-6 route del 2001:db8:a::/64",
        "-4 route replace 20.0.0.0/24 via 10.2.0.9 proto 203 metric 203",
        "-6 route replace 2001:db8:a::/64 via 2001:db8:2::9 proto 203 metric 203",
        "nexthop flush",
        "nexthop del id 203000001",
    ] {
        let before = Instant::now();
        ip(damage);
        while repairs().await < count + 1 {
            assert!(before.elapsed() < LIMIT, "not repaired: {damage}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        until(damage, || present() == whole).await;
        count = repairs().await;
        println!("{damage}: found by the check after {:?}", before.elapsed());
    }
    // A foreign route comes and goes.
    ip("route replace 20.0.0.0/24 via 10.2.0.9 proto static metric 203");
    let conflicts = async || routes.snapshot().await.expect("snapshot").conflicts;
    let prefix = Prefix::new(NETWORKS[0].parse().expect("network"));
    let start = Instant::now();
    while conflicts().await != [(prefix, 4)].into() {
        assert!(start.elapsed() < LIMIT, "the foreign route is not told");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    ip("route del 20.0.0.0/24 metric 203");
    until("the foreign route gone", || present() == whole).await;
    let snapshot = routes.snapshot().await.expect("snapshot");
    assert_eq!(snapshot.repairs.keys().collect::<Vec<_>>(), [&RepairCause::Check], "{:?}", snapshot.repairs);
    drop((routes, events));
    running.await.expect("no panic").expect("it ends well");
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "not reached: {what}: {:?}", present());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
