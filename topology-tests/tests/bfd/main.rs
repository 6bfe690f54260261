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
//!
//! What takes longer is in `long.rs`.

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "each of both test files uses its part")]
mod fault;
#[allow(dead_code, reason = "each of both test files uses its part")]
mod look;
mod rig;
#[allow(dead_code, reason = "each of both test files uses its part")]
mod settings;
#[path = "../restart/tor.rs"]
#[allow(dead_code, reason = "part of it is for restarts")]
mod tor;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cambric_lab::{Lab, fabric, poll};
use nix::sys::signal::Signal;

use common::{LabFolder, in_lab};
use fault::{Deaf, Silence};
use look::{SWITCHES, Switch};
use rig::{AFTER, BEFORE, LIMIT, all_up, ready, whole};

/// What a cut may take, whatever the times are: less than it takes anybody to ring. The times themselves are printed.
const MOST: Duration = Duration::from_secs(1);

/// Packets that each flow carries while the daemon is away.
const AWAY: u32 = 3_000;

/// Times are for a test that has the machine for itself.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_path_that_is_lost_one_way_is_cut_by_both_ends() {
    if !ready() {
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
    if !ready() {
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

/// One end hears nothing any more, in both families: how long until both kernels send nowhere over this link.
fn one_way(lab: &Lab, switch: &Switch, deaf: Deaf, interval_ms: u64) -> Result<()> {
    let node = lab.node("c1")?;
    let silence = Silence::of(lab, switch, deaf)?;
    let start = Instant::now();
    let (mut at_node, mut at_switch) = (None, None);
    while (at_node.is_none() || at_switch.is_none()) && start.elapsed() < MOST * 2 {
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
    ensure!(at_node.is_some_and(|at| at < MOST), "the node did not cut within {MOST:?}");
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
