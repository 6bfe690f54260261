//! Aligned text, in two shapes: a [`Table`] has columns, [`Fields`] have labels.
//!
//! Everything that the daemon says passes through one of them, and here control characters lose their
//! power: a peer chooses the text of its NOTIFICATIONs, and it is read on a terminal.

use std::borrow::Cow;
use std::fmt;

use unicode_width::UnicodeWidthStr;

/// `text` with everything escaped that would steer a terminal instead of being shown.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(steers_terminal) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if steers_terminal(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Control characters, and those that turn the direction of writing or break lines.
pub(crate) fn steers_terminal(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A column: to which side it leans, and its heading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Left(&'static str),
    Right(&'static str),
}

impl Column {
    fn heading(self) -> &'static str {
        match self {
            Column::Left(heading) | Column::Right(heading) => heading,
        }
    }
}

/// Rows under headings; no heading line if all are empty. The last column may be as long as it likes.
#[derive(Debug, Clone)]
pub(crate) struct Table<const N: usize> {
    columns: [Column; N],
    indent: usize,
    rows: Vec<Row<N>>,
}

#[derive(Debug, Clone)]
enum Row<const N: usize> {
    Cells([String; N]),
    Below(Fields),
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(columns: [Column; N]) -> Table<N> {
        Table { columns, indent: 0, rows: Vec::new() }
    }

    pub(crate) fn indent(self, indent: usize) -> Table<N> {
        Table { indent, ..self }
    }

    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(Row::Cells(cells.map(|cell| printable(&cell).into_owned())));
    }

    /// Lines of their own below the last row.
    pub(crate) fn below(&mut self, fields: Fields) {
        self.rows.push(Row::Below(fields));
    }

    fn widths(&self) -> [usize; N] {
        let mut widths = self.columns.map(|column| column.heading().width());
        for row in &self.rows {
            let Row::Cells(cells) = row else { continue };
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.width());
            }
        }
        widths
    }

    fn line(&self, f: &mut fmt::Formatter<'_>, widths: &[usize; N], cells: [&str; N]) -> fmt::Result {
        let mut line = " ".repeat(self.indent);
        for ((column, width), cell) in self.columns.iter().zip(widths).zip(cells) {
            let padding = " ".repeat(width.saturating_sub(cell.width()));
            match column {
                Column::Left(_) => line.extend([cell, &padding]),
                Column::Right(_) => line.extend([&padding, cell]),
            }
            line.push_str("  ");
        }
        writeln!(f, "{}", line.trim_end())
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let headings = self.columns.map(Column::heading);
        if headings.iter().any(|heading| !heading.is_empty()) {
            self.line(f, &widths, headings)?;
        }
        for row in &self.rows {
            match row {
                Row::Cells(cells) => self.line(f, &widths, cells.each_ref().map(String::as_str))?,
                Row::Below(fields) => fields.fmt(f)?,
            }
        }
        Ok(())
    }
}

/// Labels with a value each; further values of one label stand below its first.
#[derive(Debug, Clone)]
pub(crate) struct Fields {
    table: Table<2>,
}

impl Fields {
    pub(crate) fn new() -> Fields {
        Fields { table: Table::new([Column::Left(""), Column::Left("")]) }
    }

    pub(crate) fn indent(self, indent: usize) -> Fields {
        Fields { table: self.table.indent(indent) }
    }

    pub(crate) fn field(&mut self, label: &str, value: impl fmt::Display) {
        self.table.row([format!("{label}:"), value.to_string()]);
    }

    /// `none` stands where there are no values.
    pub(crate) fn list<T: fmt::Display>(
        &mut self,
        label: &str,
        values: impl IntoIterator<Item = T>,
        none: &str,
    ) {
        let mut values = values.into_iter();
        match values.next() {
            Some(first) => self.field(label, first),
            None => self.field(label, none),
        }
        for value in values {
            self.table.row([String::new(), value.to_string()]);
        }
    }
}

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let mut table = Table::new([Column::Left("Name"), Column::Right("Sent"), Column::Left("Why")]);
        table.row(["a".to_owned(), "7".to_owned(), "no".to_owned()]);
        table.row(["longer".to_owned(), "12345".to_owned(), String::new()]);
        let mut below = Fields::new().indent(4);
        below.field("MED", 5);
        table.below(below);
        let expected = "\
Name     Sent  Why
a           7  no
longer  12345
    MED:  5
";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn wide_characters_take_two_columns() {
        let mut table = Table::new([Column::Left("Name"), Column::Left("AS")]);
        table.row(["\u{67b6}\u{4e00}\u{67b6}".to_owned(), "1".to_owned()]);
        table.row(["rack".to_owned(), "2".to_owned()]);
        let expected = "Name    AS\n\u{67b6}\u{4e00}\u{67b6}  1\nrack    2\n";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn further_values_stand_below_the_first() {
        let mut fields = Fields::new();
        fields.list("Announces", ["10.244.1.0/24", "fd00:1::/64"], "nothing");
        fields.list("Problems", [""; 0], "none");
        assert_eq!(
            fields.to_string(),
            "Announces:  10.244.1.0/24\n            fd00:1::/64\nProblems:   none\n"
        );
    }

    #[test]
    fn text_of_a_peer_cannot_steer_the_terminal() {
        assert_eq!(printable("bye\x1b[2J\n\u{9b}1m\u{202e}"), "bye\\u{1b}[2J\\u{a}\\u{9b}1m\\u{202e}");
        assert_eq!(printable("Grüße, 10 %"), "Grüße, 10 %");
        assert_eq!(printable("\u{61c}a\u{200f}"), "\\u{61c}a\\u{200f}");
        let mut table = Table::new([Column::Left("")]);
        table.row(["a\nb".to_owned()]);
        assert_eq!(table.to_string(), "a\\u{a}b\n");
    }
}
