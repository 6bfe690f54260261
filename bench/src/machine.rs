//! What it ran on: numbers mean little without it.

use std::fs::read_to_string;

use crate::namespace::run;

/// Prints machine, kernel, versions and who else works here.
pub(crate) fn print() {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu_info = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = value(&cpu_info, "model name").unwrap_or("of unknown make");
    let memory = read_to_string("/proc/meminfo").unwrap_or_default();
    let gib = value(&memory, "MemTotal").and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = read_to_string("/proc/loadavg").unwrap_or_default();
    println!("machine   {cpus} CPUs, {model}, {:.0} GiB", gib.unwrap_or(f64::NAN) / f64::from(1 << 20));
    println!("kernel    Linux {}", kernel.trim());
    println!("load      {} (1, 5, 15 min)", load.split(' ').take(3).collect::<Vec<_>>().join(" "));
    println!("tools     {}", ["iptables-nft", "iptables-legacy", "ipset"].map(version).join("; "));
    println!(
        "cambric   {} ({})",
        env!("CARGO_PKG_VERSION"),
        if cfg!(debug_assertions) { "debug: slow" } else { "release" }
    );
}

/// Of lines `name : value`, the first that has this name.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let of_line = |line: &'a str| line.split_once(':').filter(|(key, _)| key.trim() == name);
    text.lines().find_map(of_line).map(|(_, value)| value.trim())
}

fn version(tool: &str) -> String {
    let said = run(tool, "--version", "").unwrap_or_default();
    let number = said.split([' ', ',']).find(|word| word.starts_with('v')).unwrap_or("is not here");
    format!("{tool} {}", number.trim())
}

/// Memory of this process that is resident, in MiB.
pub(crate) fn resident_mib() -> f64 {
    let status = read_to_string("/proc/self/status").unwrap_or_default();
    let kib = value(&status, "VmRSS").and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}
