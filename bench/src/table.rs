//! Tables for the terminal: the first column to the left, all others to the right.

use crate::statistics::{Micros, Samples};

/// Lines of cells.
#[derive(Debug, Default)]
pub(crate) struct Table {
    lines: Vec<Vec<String>>,
}

impl Table {
    /// One that begins with these names of columns.
    pub(crate) fn new<T: ToString>(names: impl IntoIterator<Item = T>) -> Self {
        let mut table = Self::default();
        table.line(names);
        table
    }

    pub(crate) fn line<T: ToString>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.lines.push(cells.into_iter().map(|cell| cell.to_string()).collect());
    }

    pub(crate) fn print(&self) {
        let columns = self.lines.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.lines
                .iter()
                .filter_map(|line| line.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for line in &self.lines {
            let mut text = String::new();
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                if column == 0 {
                    text += &format!("  {cell:<width$}");
                } else {
                    text += &format!("  {cell:>width$}");
                }
            }
            println!("{}", text.trim_end());
        }
    }
}

/// A table of times.
#[derive(Debug)]
pub(crate) struct Times(Table);

impl Times {
    /// An empty one; `what` is above the names of its lines.
    pub(crate) fn new(what: &str) -> Self {
        Self(Table::new([what, "times", "median", "p99", "most"]))
    }

    /// A line for measurements in microseconds.
    pub(crate) fn line(&mut self, name: &str, samples: &Samples) {
        let shown = [0.5, 0.99, 1.0].map(|part| Micros(samples.quantile(part)).to_string());
        self.0.line([vec![name.to_owned(), samples.len().to_string()], shown.to_vec()].concat());
    }

    pub(crate) fn print(&self) {
        self.0.print();
        println!();
    }
}

/// Prints whether a time of so many microseconds is short enough.
pub(crate) fn target(what: &str, us: f64, at_most_us: f64) {
    let word = if us <= at_most_us { "met" } else { "MISSED" };
    println!("  target: {what}: at most {}: {}, {word}", Micros(at_most_us), Micros(us));
}
