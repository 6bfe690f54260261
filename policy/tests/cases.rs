//! Case files through compiler and simulator. Each step is made from nothing, and its program asked for every cell; and it
//! is made from the step before by what changes, in several orders, which is to lead to the same program.

mod support;

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use support::case::{self, Case, Table};
use support::changes::Order;
use support::cluster::Cluster;
use support::evaluator::{Connection, End};
use support::nodes::Nodes;

const ORDERS: [Order; 4] = [Order::AddsFirst, Order::DeletesFirst, Order::Shuffled(1), Order::Shuffled(2)];

/// Failures that are printed.
const SHOWN: usize = 20;

#[test]
fn the_program_judges_as_the_cases_of_this_project_say() {
    check(&case::own());
}

#[test]
fn the_program_judges_as_the_cases_of_cyclonus_say() {
    match case::cyclonus() {
        Some(path) => check(&path),
        None => support::say("not run: needs shared/netpol-cases/cyclonus.jsonl beside the repository"),
    }
}

#[test]
fn the_program_judges_as_the_cases_of_another_folder_say() {
    match case::further() {
        Some(files) => files.iter().for_each(|path| check(path)),
        None => support::say("not run: needs CAMBRIC_NETPOL_CASES"),
    }
}

/// What came out of a file.
#[derive(Default)]
struct Report {
    cases: usize,
    steps: usize,
    cells: usize,
    not_judged: usize,
    passed: usize,
    /// Programs made by changes that are the one from nothing.
    same: usize,
    failures: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { cases, steps, cells, not_judged, passed, same, failures } = self;
        let (judged, failed, orders) = (cells - not_judged, failures.len(), ORDERS.len());
        write!(
            f,
            "{cases} cases, {steps} steps, {cells} cells: {judged} judged, {passed} passed, {not_judged} do not apply; \
             {same} times the same program by changes, in {orders} orders; {failed} failed"
        )
    }
}

fn check(path: &Path) {
    let mut report = Report::default();
    for case in case::read(path) {
        report.cases += 1;
        // What is wrong with a delta is told by a panic; the other cases are still to be run.
        let ran = catch_unwind(AssertUnwindSafe(|| run(&case, &mut report)));
        if ran.is_err() {
            report.failures.push(format!("{}: panicked, see above", case.id));
        }
    }
    let name = path.file_name().unwrap_or_default().display();
    support::say(&format!("{name}: {report}"));
    let shown = &report.failures[..report.failures.len().min(SHOWN)];
    assert!(report.failures.is_empty(), "{name}: {} failed\n{}", report.failures.len(), shown.join("\n"));
}

fn run(case: &Case, report: &mut Report) {
    let clusters: Vec<Cluster> = case.steps.iter().map(Cluster::of).collect();
    let names: BTreeSet<String> = clusters.iter().flat_map(|cluster| cluster.nodes.keys().cloned()).collect();
    let mut by_changes = ORDERS.map(|order| (order, Nodes::new(&names), Cluster::default()));
    for (nth, (step, cluster)) in case.steps.iter().zip(&clusters).enumerate() {
        report.steps += 1;
        let mut anew = Nodes::new(&names);
        anew.go(&Cluster::default(), cluster, Order::AddsFirst);
        for table in &step.expect {
            judge(cluster, table, &anew, &format!("{} step {nth} {table}", case.id), report);
        }
        for (order, nodes, before) in &mut by_changes {
            nodes.go(before, cluster, *order);
            before.clone_from(cluster);
            let differs = nodes.difference(&anew);
            if differs.is_empty() {
                report.same += 1;
            } else {
                let (case, differs) = (&case.id, differs.join("\n  "));
                report.failures.push(format!(
                    "{case} step {nth} {order:?}: not the program from nothing (right):\n  {differs}"
                ));
            }
        }
    }
}

/// Judges all cells of the three tables.
fn judge(cluster: &Cluster, table: &Table, nodes: &Nodes, at: &str, report: &mut Report) {
    for (side, row, col, expected) in table.cells() {
        report.cells += 1;
        let Some((connection, is_allowed)) = connection(cluster, table, row, col, expected) else {
            report.not_judged += 1;
            continue;
        };
        let judgement = nodes.judge(side, &connection);
        if judgement.is_ok() == is_allowed {
            report.passed += 1;
        } else {
            let got = judgement.map_or_else(|by| format!("dropped by {by}"), |()| "passed".to_owned());
            report.failures.push(format!("{at} {side:?} {row} -> {col}: expected {expected}, {got}"));
        }
    }
}

/// The connection of a cell, and whether it is allowed; `None` if no pod can tell: it does not apply, is left open, or is a
/// node's or an outside address' traffic to itself.
fn connection<'a>(
    cluster: &'a Cluster,
    table: &'a Table,
    row: &'a str,
    col: &'a str,
    expected: char,
) -> Option<(Connection<'a>, bool)> {
    let is_allowed = match expected {
        '.' | '#' => true,
        'X' => false,
        '-' | '?' => return None,
        other => panic!("character {other:?} in a table"),
    };
    let ends = (cluster.end(row, table.family), cluster.end(col, table.family));
    let (Some((source, source_address)), Some((destination, destination_address))) = ends else {
        assert_eq!(expected, '#', "{row} -> {col}: no address of the family");
        return None;
    };
    if !matches!(source, End::Pod(_)) && !matches!(destination, End::Pod(_)) {
        assert_eq!(expected, '#', "{row} -> {col}: none is a pod");
        return None;
    }
    let (protocol, port) = (&*table.protocol, table.port);
    let connection = Connection { source, source_address, destination, destination_address, protocol, port };
    Some((connection, is_allowed))
}
