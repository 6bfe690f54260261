//! What a PromQL query asks for: metrics, their labels and the labels that it groups by. No more of the language is
//! read than dashboards and alerts here are written in; a word that is not known is taken for a metric, so a typing
//! error is found as one that nobody has.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};

/// Words that are no metrics: aggregations, functions, operators.
const WORDS: [&str; 15] = [
    "sum",
    "count",
    "max",
    "min",
    "avg",
    "rate",
    "increase",
    "histogram_quantile",
    "label_values",
    "and",
    "or",
    "unless",
    "bool",
    "by",
    "on",
];

/// All that one query asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Names of samples.
    pub metrics: BTreeSet<String>,
    /// What is asked of labels, with the metric before it: name of the metric, of the label, and the value where only
    /// one fits.
    pub matchers: Vec<(String, String, Option<String>)>,
    /// Labels of the result.
    pub grouped_by: BTreeSet<String>,
}

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// Braces, parentheses or quotes that do not end, and characters of no query.
    pub fn read(text: &str) -> Result<Query> {
        let mut query = Query::default();
        let mut rest = text.trim_start();
        let mut last = "";
        let mut depth = 0_usize;
        while let Some(first) = rest.chars().next() {
            rest = match first {
                '{' => {
                    ensure!(query.metrics.contains(last), "a brace behind {last:?}, which is no metric");
                    query.matchers(last, &rest[1..])?
                }
                '(' if matches!(last, "by" | "on") => {
                    let (labels, behind) = rest[1..].split_once(')').context("no `)`")?;
                    query.grouped_by.extend(labels.split(',').map(|label| label.trim().to_owned()));
                    last = "";
                    behind
                }
                '(' | ')' => {
                    depth = match first {
                        '(' => depth + 1,
                        _ => depth.checked_sub(1).context("a `)` too many")?,
                    };
                    &rest[1..]
                }
                '[' => rest.split_once(']').context("no `]`")?.1,
                _ if first.is_ascii_alphabetic() => {
                    let end =
                        rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                    let (word, behind) = rest.split_at(end);
                    if !WORDS.contains(&word) {
                        query.metrics.insert(word.to_owned());
                    }
                    last = word;
                    behind
                }
                _ if first.is_ascii_digit() || "./*+-=!<>, ".contains(first) => &rest[1..],
                _ => bail!("{first:?} in {text:?}"),
            };
            rest = rest.trim_start();
        }
        ensure!(depth == 0, "a `(` too many in {text:?}");
        Ok(query)
    }

    /// Up to the closing brace; what is behind it.
    fn matchers<'a>(&mut self, metric: &str, text: &'a str) -> Result<&'a str> {
        let mut rest = text;
        loop {
            let start = rest.find(['=', '!']).context("no operator behind a label")?;
            let (label, behind) = rest.split_at(start);
            let (operator, behind) = behind.split_once('"').context("no value of a label")?;
            let (value, behind) = behind.split_once('"').context("a value without an end")?;
            let value = match operator {
                "=" => Some(value.to_owned()),
                "!=" | "=~" | "!~" => None,
                _ => bail!("operator {operator:?}"),
            };
            self.matchers.push((metric.to_owned(), label.trim().to_owned(), value));
            rest = behind.trim_start();
            match rest.chars().next() {
                Some('}') => return Ok(&rest[1..]),
                Some(',') => rest = &rest[1..],
                _ => bail!("neither a comma nor a brace behind a label"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn metrics_labels_and_groups_are_found() {
        let text = r#"histogram_quantile(0.99, sum by (le, x) (rate(a_bucket{i=~"$i", c="ADD"}[$__rate]))) / count(b) > 0"#;
        let query = Query::read(text).expect("a query");
        assert_eq!(query.metrics, set(&["a_bucket", "b"]));
        assert_eq!(query.grouped_by, set(&["le", "x"]));
        let matcher = |label: &str, value: Option<&str>| {
            ("a_bucket".to_owned(), label.to_owned(), value.map(str::to_owned))
        };
        assert_eq!(query.matchers, [matcher("i", None), matcher("c", Some("ADD"))]);
    }

    #[test]
    fn a_word_that_is_not_known_is_a_metric() {
        assert_eq!(Query::read("summ(a)").expect("a query").metrics, set(&["a", "summ"]));
    }

    #[test]
    fn what_does_not_end_is_no_query() {
        for text in
            ["a{b=\"c\"", "a{b=\"c", "a[5m", "sum(a", "a)", "by (a", "{a=\"b\"}", "a{b}", "a;b", "sum by (a"]
        {
            assert!(Query::read(text).is_err(), "{text}");
        }
    }
}
