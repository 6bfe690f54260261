//! Rows, and the table that they make.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::Result;

use crate::other::Kind;

/// A feature, and what it runs with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// As the table has it.
    pub(crate) feature: &'static str,
    /// Where it is written.
    pub(crate) rfc: &'static str,
    pub(crate) runs: Runs,
    /// Who cannot, and why not.
    pub(crate) without: &'static [(Kind, &'static str)],
}

/// How a row is run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Runs {
    /// With each of these in turn.
    With(&'static [Kind], fn(Kind) -> Result<()>),
    /// Once, with all of these at the same time.
    Together(&'static [Kind], fn() -> Result<()>),
}

/// The three.
pub(crate) const ALL: &[Kind] = &[Kind::Frr, Kind::Bird, Kind::Gobgp];

/// One run of a row.
#[derive(Debug, Clone, Copy)]
struct Cell {
    row: usize,
    with: Option<Kind>,
}

const JOBS: usize = 6;

/// Runs all rows, prints the table and compares it with the one of the documentation.
pub(crate) fn hold(rows: &[Row]) {
    let wanted = std::env::var("CAMBRIC_INTEROP").unwrap_or_default();
    let is_wanted = |row: &Row| row.feature.to_lowercase().contains(&wanted.to_lowercase());
    let mut cells: Vec<Cell> = Vec::new();
    for (at, row) in rows.iter().enumerate().filter(|(_, row)| is_wanted(row)) {
        match row.runs {
            Runs::With(kinds, _) => {
                cells.extend(kinds.iter().map(|&kind| Cell { row: at, with: Some(kind) }));
            }
            Runs::Together(..) => cells.push(Cell { row: at, with: None }),
        }
    }
    assert!(!cells.is_empty(), "CAMBRIC_INTEROP={wanted}: no row has that word");
    let faults = run(rows, cells);
    println!();
    rows.iter().for_each(|row| println!("{}", line(row)));
    for (name, fault) in &faults {
        println!("\n{name}: {fault}");
    }
    let failed: Vec<&String> = faults.keys().collect();
    assert!(failed.is_empty(), "{} cells do not hold: {failed:#?}", failed.len());
    is_documented(rows);
}

/// The cells that do not hold, by name, and why.
fn run(rows: &[Row], mut cells: Vec<Cell>) -> BTreeMap<String, String> {
    let jobs = std::env::var("CAMBRIC_INTEROP_JOBS").ok().and_then(|text| text.parse().ok());
    cells.reverse();
    let (waiting, faults) = (Mutex::new(cells), Mutex::new(BTreeMap::new()));
    let work = || {
        loop {
            let Some(cell) = waiting.lock().expect("no cell panics under the lock").pop() else { return };
            let row = &rows[cell.row];
            let name = match cell.with {
                Some(kind) => format!("{}, {kind}", row.feature),
                None => row.feature.to_owned(),
            };
            let start = Instant::now();
            let done = std::panic::catch_unwind(|| cell_of(row, cell.with));
            let done = done.unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked, see above")));
            let word = if done.is_ok() { "holds" } else { "DOES NOT HOLD" };
            println!("{name}: {word} ({:.1?})", start.elapsed());
            if let Err(error) = done {
                faults.lock().expect("as above").insert(name, format!("{error:#}"));
            }
        }
    };
    std::thread::scope(|scope| {
        for job in 0..jobs.unwrap_or(JOBS) {
            let named = std::thread::Builder::new().name(format!("cells {job}"));
            named.spawn_scoped(scope, work).expect("a thread");
        }
    });
    faults.into_inner().expect("all have ended")
}

fn cell_of(row: &Row, with: Option<Kind>) -> Result<()> {
    match (row.runs, with) {
        (Runs::With(_, work), Some(kind)) => work(kind),
        (Runs::Together(_, work), None) => work(),
        (runs, with) => unreachable!("{runs:?} with {with:?}"),
    }
}

/// A row in Markdown.
fn line(row: &Row) -> String {
    let (Runs::With(kinds, _) | Runs::Together(kinds, _)) = row.runs;
    let cell = |kind: &Kind| match row.without.iter().find(|(without, _)| without == kind) {
        _ if kinds.contains(kind) => "yes".to_owned(),
        Some((_, why)) => (*why).to_owned(),
        None => "no".to_owned(),
    };
    let cells: Vec<String> = ALL.iter().map(cell).collect();
    format!("| {} | {} | {} |", row.feature, row.rfc, cells.join(" | "))
}

/// The first table of the documentation is this one, row for row.
fn is_documented(rows: &[Row]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/interop.md");
    let text = std::fs::read_to_string(path).expect("docs/interop.md");
    let table = text.lines().skip_while(|line| !line.starts_with("| --- |")).skip(1);
    let documented: Vec<&str> = table.take_while(|line| line.starts_with('|')).collect();
    let held: Vec<String> = rows.iter().map(line).collect();
    let missing: Vec<&String> = held.iter().filter(|line| !documented.contains(&line.as_str())).collect();
    assert!(missing.is_empty(), "docs/interop.md lacks these rows: {missing:#?}");
    let more: Vec<&&str> = documented.iter().filter(|line| !held.iter().any(|held| held == **line)).collect();
    assert!(more.is_empty(), "docs/interop.md has rows that nothing holds: {more:#?}");
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Frr => "FRR",
            Kind::Bird => "BIRD",
            Kind::Gobgp => "GoBGP",
        })
    }
}
