//! Patterns over AS paths, as routers have them.
//!
//! A path is read as its numbers, nearest AS first, with one space between. `_` is the start, the end or a space: so
//! `_65101_` is that AS and not 165101. Matching takes time with the length of the path and no more, whatever the pattern.

use std::fmt;

use regex::{Regex, RegexBuilder};
use thiserror::Error;

use crate::attributes::AsPath;

/// A regular expression over AS paths.
#[derive(Clone)]
pub struct AsPathPattern {
    text: String,
    regex: Regex,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidPattern {
    /// No path has this letter.
    #[error("{0:?} does not occur in an AS path; digits, spaces and _ ^ $ . * + ? | ( ) [ ] {{ }} , - : do")]
    Letter(char),
    /// `_` among the letters of a set.
    #[error("_ stands for no letter, and cannot be in brackets")]
    BoundaryInSet,
    /// It would take too much memory.
    #[error("too large once its repetitions are written out")]
    TooLarge,
    /// Not a regular expression.
    #[error("{0}")]
    Syntax(String),
}

impl AsPathPattern {
    /// Octets that a compiled pattern may take; one that is written for people takes a few thousand.
    const MOST_OCTETS: usize = 256 * 1024;

    /// Reads a pattern.
    ///
    /// # Errors
    /// [`InvalidPattern`]
    pub fn new(text: &str) -> Result<AsPathPattern, InvalidPattern> {
        let regex = RegexBuilder::new(&translated(text)?)
            .size_limit(Self::MOST_OCTETS)
            .dfa_size_limit(Self::MOST_OCTETS)
            .build()
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => InvalidPattern::TooLarge,
                error => InvalidPattern::Syntax(last_line(&error.to_string())),
            })?;
        Ok(AsPathPattern { text: text.to_owned(), regex })
    }

    /// Whether it matches anywhere in `path`.
    pub fn fits(&self, path: &AsPath) -> bool {
        self.regex.is_match(&path.to_string())
    }
}

/// Letters would be switches and classes of another language.
fn translated(text: &str) -> Result<String, InvalidPattern> {
    let mut pattern = String::with_capacity(text.len() + 16);
    let mut is_in_set = false;
    for letter in text.chars() {
        match letter {
            '_' if is_in_set => return Err(InvalidPattern::BoundaryInSet),
            '_' => pattern.push_str("(?:^| |$)"),
            '0'..='9'
            | ' '
            | '^'
            | '$'
            | '.'
            | '*'
            | '+'
            | '?'
            | '|'
            | '('
            | ')'
            | '{'
            | '}'
            | ','
            | '-'
            | ':' => {
                pattern.push(letter);
            }
            '[' | ']' => {
                is_in_set = letter == '[';
                pattern.push(letter);
            }
            _ => return Err(InvalidPattern::Letter(letter)),
        }
    }
    Ok(pattern)
}

/// The others draw a picture of the pattern.
fn last_line(text: &str) -> String {
    let line = text.lines().last().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

impl PartialEq for AsPathPattern {
    fn eq(&self, other: &AsPathPattern) -> bool {
        self.text == other.text
    }
}

impl Eq for AsPathPattern {}

impl fmt::Debug for AsPathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsPathPattern({:?})", self.text)
    }
}

impl fmt::Display for AsPathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Asn;

    fn path(asns: &[u32]) -> AsPath {
        asns.iter().filter_map(|asn| Asn::new(*asn)).collect()
    }

    #[test]
    fn patterns_fit_as_they_do_on_routers() {
        let table: [(&str, &[u32], bool); 12] = [
            ("^$", &[], true),
            ("^$", &[65101], false),
            ("^65101$", &[65101], true),
            ("^65101$", &[65101, 65102], false),
            ("_65102_", &[65101, 65102, 65103], true),
            ("_65102_", &[165102, 651021], false),
            ("_65103$", &[65101, 65103], true),
            ("^65101_", &[65101], true),
            ("^65101( 65101)*$", &[65101, 65101, 65101], true),
            ("_6510[13]_", &[65102], false),
            ("^(65101|65102)_.*_65103$", &[65102, 7, 65103], true),
            ("^[0-9]+ [0-9]+$", &[4_200_000_000, 1], true),
        ];
        for (text, asns, expected) in table {
            let pattern = AsPathPattern::new(text).expect("sound");
            assert_eq!(pattern.fits(&path(asns)), expected, "{text} {asns:?}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_the_reason() {
        let table = [
            ("65101a", "'a' does not occur in an AS path"),
            ("(?i)1", "'i' does not occur"),
            (r"\d", "'\\\\' does not occur"),
            ("[_1]", "_ stands for no letter"),
            ("(65101", "unclosed group"),
            ("*", "repetition operator missing expression"),
            ("((1{1000}){1000}){1000}", "too large"),
        ];
        for (text, expected) in table {
            let error = AsPathPattern::new(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    /// A path may have thousands of ASes, and a backtracking matcher would never be done with it.
    #[test]
    fn a_long_path_costs_no_more_than_its_length() {
        let pattern = AsPathPattern::new("^(([0-9]+ ?)+)+X?$".trim_end_matches("X?$")).expect("sound");
        let long = path(&vec![65101; 10_000]);
        assert!(pattern.fits(&long));
        let hopeless = AsPathPattern::new("^((([0-9]+) ?)*)*-$").expect("sound");
        assert!(!hopeless.fits(&long));
    }
}
