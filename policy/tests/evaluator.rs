//! The evaluator of `support/evaluator.rs` against the case files: every character of every table, so that the property
//! tests can trust it.

mod support;

use std::path::Path;

use support::case::{self, Side, Table};
use support::cluster::Cluster;
use support::evaluator::{Answer, Connection, End, may_receive, may_send};

#[test]
fn the_evaluator_agrees_with_the_cases_of_this_project() {
    check(&case::own());
}

#[test]
fn the_evaluator_agrees_with_the_cases_of_cyclonus() {
    match case::cyclonus() {
        Some(path) => check(&path),
        None => support::say("not run: needs shared/netpol-cases/cyclonus.jsonl beside the repository"),
    }
}

#[test]
fn the_evaluator_agrees_with_the_cases_of_another_folder() {
    match case::further() {
        Some(files) => files.iter().for_each(|path| check(path)),
        None => support::say("not run: needs CAMBRIC_NETPOL_CASES"),
    }
}

fn check(path: &Path) {
    let (mut cells, mut steps, mut failures) = (0, 0, Vec::new());
    let cases = case::read(path);
    for case in &cases {
        for (nth, step) in case.steps.iter().enumerate() {
            steps += 1;
            let cluster = Cluster::of(step);
            for table in &step.expect {
                for (side, row, col, expected) in table.cells() {
                    cells += 1;
                    let got = character(&cluster, table, side, row, col);
                    if got != expected {
                        failures.push(format!(
                            "{} step {nth} {table} {side:?} {row} -> {col}: expected {expected}, got {got}",
                            case.id
                        ));
                    }
                }
            }
        }
    }
    let name = path.file_name().unwrap_or_default().display();
    let (cases, failed) = (cases.len(), failures.len());
    let right = cells - failed;
    support::say(&format!(
        "evaluator, {name}: {cases} cases, {steps} steps, {cells} cells, {right} right, {failed} wrong"
    ));
    let first: Vec<&str> = failures.iter().take(20).map(String::as_str).collect();
    assert!(failures.is_empty(), "{name}: {failed} wrong\n{}", first.join("\n"));
}

fn character(cluster: &Cluster, table: &Table, side: Side, row: &str, col: &str) -> char {
    if row == col {
        return '#';
    }
    let ends = (cluster.end(row, table.family), cluster.end(col, table.family));
    let (Some((source, source_address)), Some((destination, destination_address))) = ends else { return '-' };
    if !matches!(source, End::Pod(_)) && !matches!(destination, End::Pod(_)) {
        return '-';
    }
    let connection = Connection {
        source,
        source_address,
        destination,
        destination_address,
        protocol: &table.protocol,
        port: table.port,
    };
    let answer = match side {
        Side::Egress => may_send(cluster, &connection),
        Side::Ingress => may_receive(cluster, &connection),
        Side::Combined => may_send(cluster, &connection).and(may_receive(cluster, &connection)),
    };
    match answer {
        Answer::Allowed => '.',
        Answer::Denied => 'X',
        Answer::Open => '?',
    }
}
