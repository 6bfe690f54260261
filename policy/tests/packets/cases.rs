//! Case files by real packets: each step by what changed since the one before, every judged cell a packet of its own.
//!
//! Run are all cases with the tag `trap`, and as many of the others, drawn at random, as `CAMBRIC_PACKET_CASES` says
//! (`all`, or a number for each file). `CAMBRIC_SEED` repeats a draw.

use std::path::Path;
use std::time::Instant;

use crate::rig::{At, Fate, Probe, Protocol, World, random, seed};
use crate::support::case::{self, Case, Side, Table};
use crate::support::changes::Order;
use crate::support::cluster::{Cluster, name_of};
use crate::support::evaluator::End;
use crate::support::say;
use cambric_policy::change::Key;

/// Cases of a file that are drawn.
const DRAWN: usize = 10;
/// Failures that are printed.
const SHOWN: usize = 20;

#[test]
fn packets_go_as_the_trap_cases_say() {
    let (traps, _) = case::read(&case::own()).into_iter().partition::<Vec<_>, _>(is_trap);
    check("traps", &traps);
}

#[test]
fn packets_go_as_some_cases_of_this_project_say() {
    let (_, others) = case::read(&case::own()).into_iter().partition::<Vec<_>, _>(is_trap);
    check("own.jsonl", &draw(others));
}

#[test]
fn packets_go_as_some_cases_of_cyclonus_say() {
    match case::cyclonus() {
        Some(path) => check("cyclonus.jsonl", &draw(case::read(&path))),
        None => say("not run: needs shared/netpol-cases/cyclonus.jsonl beside the repository"),
    }
}

#[test]
fn packets_go_as_some_cases_of_another_folder_say() {
    let Some(files) = case::further() else { return say("not run: needs CAMBRIC_NETPOL_CASES") };
    for path in files {
        let (traps, others) = case::read(&path).into_iter().partition::<Vec<_>, _>(is_trap);
        check(&name(&path), &traps.into_iter().chain(draw(others)).collect::<Vec<_>>());
    }
}

fn is_trap(case: &Case) -> bool {
    case.tags.iter().any(|tag| tag == "trap")
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Some of them, in the order of the file.
fn draw(mut cases: Vec<Case>) -> Vec<Case> {
    let wanted = match std::env::var("CAMBRIC_PACKET_CASES").as_deref() {
        Ok("all") => cases.len(),
        Ok(number) => number.parse().expect("CAMBRIC_PACKET_CASES is a number or `all`"),
        Err(_) => DRAWN,
    };
    let mut seed = seed();
    while cases.len() > wanted {
        cases.remove((random(&mut seed) % cases.len() as u64) as usize);
    }
    cases
}

fn check(what: &str, cases: &[Case]) {
    let (start, seed) = (Instant::now(), seed());
    let (mut steps, mut cells, mut failures) = (0, 0, Vec::new());
    for case in cases {
        steps += case.steps.len();
        cells += run(case, seed, &mut failures);
    }
    let (count, failed, seconds) = (cases.len(), failures.len(), start.elapsed().as_secs());
    let list: Vec<&str> = cases.iter().map(|case| &*case.id).collect();
    say(&format!(
        "packets, {what}: {count} cases, {steps} steps, {cells} cells, {failed} failed ({seconds} s, seed {seed}): {}",
        list.join(" ")
    ));
    let shown = &failures[..failed.min(SHOWN)];
    assert!(failures.is_empty(), "{what}: {failed} failed\n{}", shown.join("\n"));
}

fn run(case: &Case, mut seed: u64, failures: &mut Vec<String>) -> usize {
    let states: Vec<Cluster> = case.steps.iter().map(Cluster::of).collect();
    let mut world = World::new(&states);
    let mut cells = 0;
    for (nth, (step, state)) in case.steps.iter().zip(&states).enumerate() {
        world.go(state, Order::Shuffled(random(&mut seed)));
        for table in &step.expect {
            let (names, probes): (Vec<_>, Vec<_>) = judged(state, table).unzip();
            cells += probes.len();
            for (((row, col, expected), probe), fate) in
                names.iter().zip(&probes).zip(world.rig.probe(&probes))
            {
                if fate != *expected {
                    let (from, to) = (probe.source, probe.destination);
                    let at = format!("{} step {nth} {table}", case.id);
                    failures.push(format!(
                        "{at} {row} ({from}) -> {col} ({to}): expected {expected:?}, {fate:?}"
                    ));
                }
            }
        }
    }
    cells
}

/// The cells that say something, each with its packet.
fn judged<'a>(
    state: &'a Cluster,
    table: &'a Table,
) -> impl Iterator<Item = ((&'a str, &'a str, Fate), Probe)> {
    let both = table.cells().filter(|(side, ..)| *side == Side::Combined);
    both.filter_map(move |(_, row, col, expected)| {
        let expected = match expected {
            '.' | '#' => Fate::Arrived,
            'X' => Fate::Dropped,
            _ => return None,
        };
        // Who has no address of the family reaches itself without us.
        let (source, destination) = (state.end(row, table.family)?, state.end(col, table.family)?);
        let protocol = match &*table.protocol {
            "TCP" => Protocol::Tcp,
            "UDP" => Protocol::Udp,
            "SCTP" => Protocol::Sctp,
            other => panic!("protocol {other} in a case"),
        };
        let (from, to) = (at(source.0), at(destination.0));
        let probe =
            Probe { from, source: source.1, to, destination: destination.1, protocol, port: table.port };
        Some(((row, col, expected), probe))
    })
}

fn at(end: End) -> At {
    match end {
        End::Pod(pod) => {
            let (namespace, name) = name_of(&pod.metadata);
            At::Pod(Key::new(&namespace, &name))
        }
        End::Node(name) => At::Node(name.to_owned()),
        End::Outside => At::Outside,
    }
}
