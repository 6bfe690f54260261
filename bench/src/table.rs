//! Tables for the terminal: the first column to the left, all others to the right.

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
