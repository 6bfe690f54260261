//! What takes minutes of BFD: `make test-bfd` and `make bfd-table`, on a machine that has nothing else to do.
//!
//! - no false alarm in ten minutes while all cores are busy (`CAMBRIC_BFD_QUIET_SECONDS` says another time);
//! - the table of docs/bfd.md: what each end of a daemon costs, with and without BFD.

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "each of both test files uses its part")]
mod fault;
#[allow(dead_code, reason = "each of both test files uses its part")]
mod look;
mod rig;
#[allow(dead_code, reason = "each of both test files uses its part")]
mod settings;
mod table;
#[path = "../restart/tor.rs"]
#[allow(dead_code, reason = "part of it is for restarts")]
mod tor;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use cambric_lab::Lab;

use common::{LabFolder, in_lab};
use rig::{all_up, ready};

/// One after the other: busy cores are for one test alone.
#[test]
fn busy_cores_are_no_lost_path() {
    if !ready() {
        return;
    }
    let seconds = std::env::var("CAMBRIC_BFD_QUIET_SECONDS").ok().and_then(|text| text.parse().ok());
    for interval_ms in [300, 50] {
        let folder = LabFolder::copy_of("labs/bfd");
        settings::set_interval(&folder, interval_ms);
        in_lab(&folder, |lab| {
            all_up(lab, interval_ms)?;
            no_alarm(lab, interval_ms, Duration::from_secs(seconds.unwrap_or(600)))
        });
    }
}

#[test]
fn what_each_end_of_a_daemon_costs() {
    if ready() {
        table::measure();
    }
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
