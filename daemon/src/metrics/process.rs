//! What the process costs, by the names that Prometheus' client libraries share.

use std::fmt;
use std::fs;

use prometheus_client::registry::Unit;

use super::page::{Page, none};

/// USER_HZ, in which the kernel counts for user space on every architecture that we run on (proc(5),
/// include/asm-generic/param.h).
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seen {
    resident_bytes: f64,
    cpu_s: f64,
    /// Since 1970.
    started_at_s: f64,
}

impl Seen {
    /// `None` where /proc does not say it.
    pub(super) fn read() -> Option<Seen> {
        let read = |path: &str| fs::read_to_string(path).ok();
        Seen::of(&read("/proc/self/status")?, &read("/proc/self/stat")?, &read("/proc/stat")?)
    }

    fn of(status: &str, own_stat: &str, stat: &str) -> Option<Seen> {
        let field = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<f64>().ok()
        };
        // The name of the program may hold anything, spaces and brackets among it.
        let behind_name: Vec<&str> = own_stat.rsplit_once(')')?.1.split_whitespace().collect();
        // The numbers of proc_pid_stat(5), of which the third comes first here.
        let ticks = |number: usize| behind_name.get(number - 3)?.parse::<f64>().ok();
        Some(Seen {
            resident_bytes: field(status, "VmRSS:")? * 1024.0,
            cpu_s: (ticks(14)? + ticks(15)?) / TICKS_PER_SECOND,
            started_at_s: field(stat, "btime ")? + ticks(22)? / TICKS_PER_SECOND,
        })
    }

    pub(super) fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let resident = [none(self.resident_bytes)];
        page.gauge_in(Some(Unit::Bytes), "process_resident_memory", "Memory in RAM", resident)?;
        page.seconds_counter(
            "process_cpu",
            "Processor time, of the program and of the kernel for it",
            self.cpu_s,
        )?;
        let started = [none(self.started_at_s)];
        page.gauge_in(Some(Unit::Seconds), "process_start_time", "When it was started, since 1970", started)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_behind_a_name_with_brackets() {
        let own_stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 4 0 12345 1 2 3";
        let seen = Seen::of("Name:\ta\nVmRSS:\t   2048 kB\n", own_stat, "cpu 1\nbtime 1000\n");
        let expected = Seen { resident_bytes: 2_097_152.0, cpu_s: 3.0, started_at_s: 1123.45 };
        assert_eq!(seen, Some(expected));
        assert_eq!(Seen::of("", own_stat, "btime 1"), None);
        assert!(Seen::read().is_some_and(|own| own.resident_bytes > 100_000.0));
    }
}
