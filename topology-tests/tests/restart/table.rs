//! What it cost: a row a fault.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};
use cambric_lab::flow::Report;

use crate::fault::Fault;

/// What the flows through one switch lost.
pub(crate) struct Cost {
    pub(crate) tor: &'static str,
    /// IPv4, IPv6.
    pub(crate) reports: Vec<Report>,
}

/// One fault.
pub(crate) struct Row {
    pub(crate) fault: Fault,
    /// From the first signal to the last start.
    pub(crate) struck: Duration,
    /// From the last start until nothing was left to be done.
    pub(crate) back: Duration,
    pub(crate) lost: Vec<Cost>,
    /// What the node's kernel told about routes and next hops that went.
    pub(crate) deletions: Vec<String>,
}

#[derive(Default)]
pub(crate) struct Table {
    pub(crate) rows: Vec<Row>,
}

impl Table {
    pub(crate) fn must_be_without_loss(&self) -> Result<()> {
        for row in &self.rows {
            ensure!(row.lost.iter().all(|cost| cost.packets() == 0), "packets were lost: {row}");
            ensure!(row.deletions.is_empty(), "{}: the kernel was told {:#?}", row.fault, row.deletions);
        }
        Ok(())
    }
}

impl Cost {
    fn packets(&self) -> u32 {
        self.reports.iter().map(|report| report.lost).sum()
    }
}

/// In words, as soon as it is known.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:.1?}; all well {:.1?} later):", self.fault, self.struck, self.back)?;
        for Cost { tor, reports } in &self.lost {
            for (family, report) in ["IPv4", "IPv6"].iter().zip(reports) {
                write!(f, " {tor} {family} {} of {} lost;", report.lost, report.sent)?;
                for run in &report.lost_runs {
                    write!(f, " [{:.0?} from {:.0?}]", run.length, run.since)?;
                }
            }
        }
        write!(f, " deletions in the kernel: {}", self.deletions.len())
    }
}

/// As it stands in `docs/restart.md`.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| the daemon is | lost with FRR | lost with BIRD | deletions in the kernel |")?;
        writeln!(f, "| --- | --- | --- | --- |")?;
        for row in &self.rows {
            let of = |tor: &str| {
                let cost = row.lost.iter().find(|cost| cost.tor == tor);
                cost.map_or("-".to_owned(), |cost| {
                    let each: Vec<String> =
                        cost.reports.iter().map(|report| report.lost.to_string()).collect();
                    each.join(", ")
                })
            };
            let (frr, bird, deletions) = (of("FRR"), of("BIRD"), row.deletions.len());
            writeln!(f, "| {} | {frr} | {bird} | {deletions} |", row.fault)?;
        }
        Ok(())
    }
}
