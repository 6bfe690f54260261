//! The table of docs/bfd.md: what each end of a daemon costs, with and without BFD. Hold time 9 s.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cambric_lab::flow::Report;
use cambric_lab::{Lab, fabric, poll};
use nix::sys::signal::Signal;

use crate::common::{LabFolder, in_lab};
use crate::fault::{self, Deaf, Silence};
use crate::look::{self, SWITCHES};
use crate::rig::{AFTER, BEFORE, CAMBRICD, LIMIT};
use crate::settings::{self, Check};

/// Longer than the hold time.
const HANGS: Duration = Duration::from_secs(14);
const AWAY: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Killed,
    Terminated,
    Hung,
    /// The host is gone; its links stay up.
    Dead,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            End::Killed => "kill -9, 3 s away",
            End::Terminated => "SIGTERM, 3 s away",
            End::Hung => "hung for 14 s",
            End::Dead => "dead host, 14 s",
        })
    }
}

/// What one end costs at one switch.
struct Cell {
    /// IPv4, IPv6.
    reports: Vec<Report>,
    /// When its kernel had no route to the pods any more, in either family.
    cut: Option<Duration>,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost: Vec<String> = self.reports.iter().map(|report| report.lost.to_string()).collect();
        write!(f, "{} lost, ", lost.join(", "))?;
        match self.cut {
            Some(at) => write!(f, "cut after {:.2} s", at.as_secs_f64()),
            None => f.write_str("kept"),
        }
    }
}

pub(crate) fn measure() {
    println!("| the daemon, or its host | switch | no BFD | BFD | BFD, control plane checked |");
    println!("| --- | --- | --- | --- | --- |");
    let ends = [End::Killed, End::Terminated, End::Hung, End::Dead];
    let mut rows: Vec<[Vec<String>; 2]> = ends.map(|_| [Vec::new(), Vec::new()]).into();
    for check in [Check::Without, Check::Path, Check::ControlPlane] {
        let folder = LabFolder::copy_of("labs/bfd");
        settings::set_check(&folder, check);
        in_lab(&folder, |lab| {
            for (end, row) in ends.into_iter().zip(&mut rows) {
                be_whole(lab, check)?;
                let cells = cells(lab, end, check).with_context(|| format!("{end}, {check:?}"))?;
                for (cell, cells) in cells.iter().zip(row) {
                    println!("{check:?}: {end}: {cell}");
                    cells.push(cell.to_string());
                }
            }
            Ok(())
        });
    }
    println!();
    for (end, row) in ends.iter().zip(&rows) {
        for (switch, cells) in ["FRR", "BIRD"].iter().zip(row) {
            println!("| {end} | {switch} | {} |", cells.join(" | "));
        }
    }
}

fn be_whole(lab: &Lab, check: Check) -> Result<()> {
    let node = lab.node("c1")?;
    poll::until("all sessions of BGP", LIMIT, || fabric::is_whole(&node))?;
    if check != Check::Without {
        poll::until("all sessions of BFD", LIMIT, || look::all_are_up(&node))?;
    }
    for switch in &SWITCHES {
        poll::until(&format!("routes at {}", switch.tor.name), LIMIT, || {
            switch.has_in_kernel(lab) == [true; 2] && switch.tor.has_fresh(lab).unwrap_or(false)
        })?;
        poll::until("routes at the node", LIMIT, || switch.tor.is_in_kernel_of(&node))?;
    }
    Ok(())
}

fn cells(lab: &Lab, end: End, check: Check) -> Result<Vec<Cell>> {
    let node = lab.node("c1")?;
    let flows = fault::start_flows(lab)?;
    fabric::send_more(&flows, BEFORE)?;
    let start = Instant::now();
    let mut silences = Vec::new();
    match end {
        End::Killed => node.kill(CAMBRICD, Signal::SIGKILL)?,
        End::Terminated => node.kill(CAMBRICD, Signal::SIGTERM)?,
        End::Hung => node.kill(CAMBRICD, Signal::SIGSTOP)?,
        End::Dead => {
            for switch in &SWITCHES {
                silences.push(Silence::of(lab, switch, Deaf::Both)?);
            }
        }
    }
    let lasts = if matches!(end, End::Killed | End::Terminated) { AWAY } else { HANGS };
    let mut cut = [None; 2];
    while start.elapsed() < lasts {
        for (switch, cut) in SWITCHES.iter().zip(&mut cut) {
            if cut.is_none() && switch.has_in_kernel(lab).contains(&false) {
                *cut = Some(start.elapsed());
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    match end {
        End::Killed | End::Terminated => fault::start(&node)?,
        End::Hung => node.kill(CAMBRICD, Signal::SIGCONT)?,
        End::Dead => silences.into_iter().try_for_each(Silence::end)?,
    }
    be_whole(lab, check)?;
    fabric::send_more(&flows, AFTER)?;
    let mut reports = fabric::stop_flows(flows)?.into_iter();
    Ok(cut.map(|cut| Cell { reports: reports.by_ref().take(2).collect(), cut }).into())
}
