//! The slow check alone: a task that hears no event at all, on a real kernel.

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
            runtime.block_on(deaf());
        });
        thread.join().expect("it repairs");
    }
}

async fn deaf() {
    for n in [1, 2] {
        ip(&format!("link add up{n} type veth peer name tor{n}"));
        ip(&format!("link set up{n} up"));
        ip(&format!("link set tor{n} up"));
        ip(&format!("addr add 10.{n}.0.2/24 dev up{n}"));
        ip(&format!("addr add 2001:db8:{n}::2/64 dev up{n} nodad"));
    }
    until("carrier", || ip("link show up2").contains("state UP")).await;
    let dir = tempfile::tempdir().expect("tempdir");
    let config = Config { check_interval: Duration::from_millis(300), ..Config::new(dir.path()) };
    let (routes, events, task) = Task::start(config).await.expect("started");
    task.kernel.deafen().expect("a filter");
    let running = tokio::spawn(task.run());
    let changes = NETWORKS.iter().zip(GATEWAYS).map(|(network, gateways)| {
        let hops = gateways.map(|gateway| NextHop::on_link(gateway.parse().expect("address")));
        let target = Target::Via(BTreeSet::from(hops));
        Change::Want(WantedRoute::new(network.parse().expect("network"), target, None))
    });
    routes.set(changes.collect()).await.expect("set");
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
