//! What every router of a lab knows and has said: printed when a test fails.

use cambric_lab::clab::Role;
use cambric_lab::{Lab, Node};

/// How much of a log is printed.
const LINES: usize = 40;

const OF_THE_KERNEL: [&[&str]; 3] = [&["ip", "nexthop"], &["ip", "route"], &["ip", "-6", "route"]];
const OF_CAMBRIC: [&[&str]; 3] =
    [&["cambric", "show", "status"], &["cambric", "show", "protocols", "all"], &["cambric", "show", "route"]];
const OF_FRR: [&[&str]; 3] = [
    &["vtysh", "-c", "show bgp summary"],
    &["vtysh", "-c", "show bgp ipv4 unicast"],
    &["vtysh", "-c", "show bgp ipv6 unicast"],
];

/// Prints tables and the ends of logs of all nodes of a lab.
pub(crate) fn print(lab: &Lab) {
    for name in lab.topology().nodes.keys() {
        let Ok(node) = lab.node(name) else { continue };
        let (own, logs): (&[&[&str]], &[&str]) = match node.role() {
            Role::Cambric => (&OF_CAMBRIC, &["cambricd.log", "container.log"]),
            Role::Frr => (&OF_FRR, &["frr/bgpd.log"]),
            Role::Linux | Role::Bridge => (&[], &["bird.log", "gobgpd.log"]),
        };
        let _ = node.collect_logs(); // the container has gone: what it said has, too
        own.iter().chain(&OF_THE_KERNEL).for_each(|words| table(&node, words));
        logs.iter().for_each(|file| log(&node, file));
    }
}

fn table(node: &Node, words: &[&str]) {
    let text = node.run_ok(words).unwrap_or_else(|error| format!("{error:#}"));
    eprintln!("\n{}# {}\n{}", node.name(), words.join(" "), text.trim_end());
}

fn log(node: &Node, file: &str) {
    let Ok(text) = std::fs::read_to_string(node.log(file)) else { return };
    let lines: Vec<&str> = text.lines().collect();
    eprintln!("\n{}: the end of {file}", node.name());
    lines[lines.len().saturating_sub(LINES)..].iter().for_each(|line| eprintln!("{line}"));
}
