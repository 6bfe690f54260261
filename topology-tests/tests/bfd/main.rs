//! BFD with FRR's bfdd and with BIRD: `labs/bfd`.
//!
//! ```text
//!   k1 --- f1  FRR   65001 --- eth1 \
//!                                    c1  Cambric  65100, pod
//!   k2 --- b1  BIRD  65002 --- eth2 /
//! ```
//!
//! The hold time is 90 s, so that whatever is cut within seconds was cut by BFD. Proves (RFC 5880, 5881, 5882):
//! - sessions come up with both over IPv4 and IPv6, at 300 ms x 3 and at 50 ms x 3;
//! - a link that carries packets one way alone is cut by both ends within the detection time and a little, and is used again
//!   when it carries them both ways;
//! - AdminDown of a switch cuts nothing;
//! - a stop by SIGTERM, or a kill, costs no packet;
//! - there is no false alarm while all cores are busy: for 30 s, or `CAMBRIC_BFD_QUIET_SECONDS`.
//!
//! `CAMBRIC_BFD_TABLE=1` measures the table of docs/bfd.md instead: what each end of a daemon costs, with and without BFD.

#[path = "../common/mod.rs"]
mod common;
mod fault;
mod look;
mod settings;
mod table;
#[path = "../restart/tor.rs"]
#[allow(dead_code, reason = "part of it is for restarts")]
mod tor;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cambric_lab::{Lab, Node, fabric, poll};
use nix::sys::signal::Signal;

use common::{LabFolder, Need, in_lab, machine_has};
use fault::{Deaf, Silence};
use look::{Bfd, SWITCHES, Switch};

/// How long anything may take that happens by itself.
const LIMIT: Duration = Duration::from_secs(60);

const CAMBRICD: &str = "cambricd";

/// What a cut may take beyond the detection time: to be seen by the process, told to the kernel, and seen here.
const SLACK: Duration = Duration::from_millis(100);

/// Packets that each flow carries before a fault, while the daemon is away, and after all is well again.
const BEFORE: u32 = 200;
const AWAY: u32 = 3_000;
const AFTER: u32 = 2_000;

fn ready() -> bool {
    machine_has(&[Need::Root, Need::Frr, Need::Bird, Need::Netfilter, Need::Cambric])
}

/// Busy cores are for one test alone, and times for those that have the machine.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_path_that_is_lost_one_way_is_cut_by_both_ends() {
    if !ready() || table::is_asked_for() {
        return;
    }
    let _alone = one_at_a_time();
    for interval_ms in [300, 50] {
        let folder = LabFolder::copy_of("labs/bfd");
        settings::set_interval(&folder, interval_ms);
        in_lab(&folder, |lab| {
            all_up(lab, interval_ms)?;
            for switch in &SWITCHES {
                for deaf in [Deaf::Node, Deaf::Switch] {
                    one_way(lab, switch, deaf, interval_ms)?;
                }
            }
            Ok(())
        });
    }
}

#[test]
fn what_ends_bfd_and_not_the_path_cuts_nothing() {
    if !ready() || table::is_asked_for() {
        return;
    }
    let _alone = one_at_a_time();
    let folder = LabFolder::copy_of("labs/bfd");
    // With `bfd on` BIRD lets go of the routes of a neighbour whose BFD ends, also while it waits for its restart.
    settings::set_bird_graceful(&folder);
    in_lab(&folder, |lab| {
        all_up(lab, 300)?;
        for switch in &SWITCHES {
            admin_down_cuts_nothing(lab, switch)?;
        }
        for (signal, away) in [(Signal::SIGTERM, AWAY), (Signal::SIGKILL, AWAY), (Signal::SIGKILL, 0)] {
            an_end_costs_nothing(lab, signal, away)?;
        }
        Ok(())
    });
}

#[test]
fn busy_cores_are_no_lost_path_at_300_ms() {
    busy_cores_are_no_lost_path(300);
}

#[test]
fn busy_cores_are_no_lost_path_at_50_ms() {
    busy_cores_are_no_lost_path(50);
}

fn busy_cores_are_no_lost_path(interval_ms: u64) {
    if !ready() || table::is_asked_for() {
        return;
    }
    let _alone = one_at_a_time();
    let seconds = std::env::var("CAMBRIC_BFD_QUIET_SECONDS").ok().and_then(|text| text.parse().ok());
    let quiet = Duration::from_secs(seconds.unwrap_or(30));
    let folder = LabFolder::copy_of("labs/bfd");
    settings::set_interval(&folder, interval_ms);
    in_lab(&folder, |lab| {
        all_up(lab, interval_ms)?;
        no_alarm(lab, interval_ms, quiet)
    });
}

#[test]
fn what_each_end_of_a_daemon_costs() {
    if table::is_asked_for() && ready() {
        table::measure();
    }
}

/// Waits until all sessions are up, of BGP and of BFD.
fn all_up(lab: &Lab, interval_ms: u64) -> Result<()> {
    let (start, node) = (Instant::now(), lab.node("c1")?);
    whole(lab)?;
    println!("{interval_ms} ms x 3: all sessions of BGP and BFD up {:.1?} after the lab", start.elapsed());
    for bfd in look::all(&node)? {
        let Bfd { name, detection_ms, transmit_ms, .. } = &bfd;
        println!("  {name}: a packet every {transmit_ms} ms, lost after {detection_ms} ms");
        ensure!(*detection_ms == 3 * interval_ms && *transmit_ms == interval_ms, "{bfd:?}");
    }
    Ok(())
}

fn whole(lab: &Lab) -> Result<()> {
    let node = lab.node("c1")?;
    poll::until("all sessions of BGP", LIMIT, || fabric::is_whole(&node))?;
    poll::until("all sessions of BFD", LIMIT, || look::all_are_up(&node))?;
    for switch in &SWITCHES {
        poll::until(&format!("BFD of {}", switch.tor.name), LIMIT, || {
            switch.sees_bfd_up(lab).unwrap_or(false)
        })?;
        poll::until(&format!("routes of {}", switch.tor.name), LIMIT, || {
            switch.tor.is_in_kernel_of(&node) && switch.tor.has_fresh(lab).unwrap_or(false)
        })?;
        poll::until(&format!("routes at {}", switch.tor.name), LIMIT, || {
            switch.has_in_kernel(lab) == [true; 2]
        })?;
    }
    Ok(())
}

/// One end hears nothing any more, in both families: how long until both kernels send nowhere over this link.
fn one_way(lab: &Lab, switch: &Switch, deaf: Deaf, interval_ms: u64) -> Result<()> {
    let node = lab.node("c1")?;
    let detection = Duration::from_millis(3 * interval_ms);
    let silence = Silence::of(lab, switch, deaf)?;
    let start = Instant::now();
    let (mut at_node, mut at_switch) = (None, None);
    while (at_node.is_none() || at_switch.is_none()) && start.elapsed() < detection + SLACK * 10 {
        let elapsed = || Some(start.elapsed());
        at_node = at_node.or_else(|| if switch.is_cut_in_kernel_of(&node) { elapsed() } else { None });
        at_switch =
            at_switch.or_else(|| if switch.has_in_kernel(lab) == [false; 2] { elapsed() } else { None });
    }
    let in_words =
        |at: Option<Duration>| at.map_or("never".to_owned(), |at| format!("{} ms", at.as_millis()));
    println!(
        "{interval_ms} ms x 3, {}, {deaf} hears nothing: cut by the node after {}, by the switch after {}; hold time 90 s",
        switch.tor.kind.name(),
        in_words(at_node),
        in_words(at_switch)
    );
    // And so within a second at 300 ms x 3, of a hold time of 90 s.
    let most = detection + SLACK;
    ensure!(at_node.is_some_and(|at| at <= most), "the node did not cut within {most:?}");
    if deaf == Deaf::Node {
        let why = look::last_error(&node, switch.tor)?;
        ensure!(why.contains("BFD Down"), "last error: {why}");
    }
    ensure!(at_switch.is_some(), "the switch did not cut");
    silence.end()?;
    let mended = Instant::now();
    whole(lab)?;
    println!("  used again {:.1?} after the link was mended", mended.elapsed());
    Ok(())
}

/// The operator of a switch ends BFD, and wants BGP as before (RFC 5882 section 4.2).
fn admin_down_cuts_nothing(lab: &Lab, switch: &Switch) -> Result<()> {
    let node = lab.node("c1")?;
    let before = common::operator::sessions(&node)?;
    switch.end_bfd(lab)?;
    let down = || look::of(&node, switch.tor).is_ok_and(|both| both.iter().all(|bfd| bfd.state != "Up"));
    poll::until("BFD to be down", LIMIT, down)?;
    for bfd in look::of(&node, switch.tor)? {
        println!(
            "{}: BFD ended by the operator of the switch: {} ({})",
            switch.tor.kind.name(),
            bfd.state,
            bfd.why
        );
        ensure!(switch.says_admin_down() == bfd.why.contains("AdminDown"), "{bfd:?}");
    }
    if switch.says_admin_down() {
        // Longer than any detection time.
        thread::sleep(Duration::from_secs(2));
        ensure!(common::operator::sessions(&node)? == before, "a session of BGP went with it");
    }
    switch.start_bfd(lab)?;
    whole(lab)
}

/// The daemon ends and comes back, `away` milliseconds later: after the detection time, or at once.
fn an_end_costs_nothing(lab: &Lab, signal: Signal, away: u32) -> Result<()> {
    let flows = fault::start_flows(lab)?;
    fabric::send_more(&flows, BEFORE)?;
    let node = lab.node("c1")?;
    fault::end(&node, signal)?;
    fabric::send_more(&flows, away)?;
    fault::start(&node)?;
    whole(lab)?;
    fabric::send_more(&flows, AFTER)?;
    for (report, which) in
        fabric::stop_flows(flows)?.iter().zip(["FRR IPv4", "FRR IPv6", "BIRD IPv4", "BIRD IPv6"])
    {
        println!("{signal}, {away} ms away, {which}: {} of {} lost", report.lost, report.sent);
        ensure!(report.lost == 0, "{which}: {report:?}");
    }
    Ok(())
}

/// Nothing happens to the path, and the cores are busy.
fn no_alarm(lab: &Lab, interval_ms: u64, quiet: Duration) -> Result<()> {
    let node = lab.node("c1")?;
    let before = look::all(&node)?;
    let over = AtomicBool::new(false);
    let cores = thread::available_parallelism().map_or(2, usize::from);
    let busy = |over: &AtomicBool| while !over.load(Ordering::Relaxed) {};
    thread::scope(|scope| {
        (0..cores).for_each(|_| drop(scope.spawn(|| busy(&over))));
        thread::sleep(quiet);
        over.store(true, Ordering::Relaxed);
    });
    let after = look::all(&node)?;
    for (before, after) in before.iter().zip(&after) {
        let (name, alarms) = (&after.name, after.downs - before.downs);
        println!(
            "{interval_ms} ms x 3, {cores} cores busy for {quiet:?}, {name}: {alarms} alarms {}",
            after.why
        );
        ensure!(alarms == 0 && after.state == "Up", "{after:?}");
    }
    ensure!(after.len() == 4, "{after:?}");
    Ok(())
}

/// For [`table`].
fn pid_is_gone(node: &Node) -> bool {
    node.daemon_pid(CAMBRICD).is_none()
}
