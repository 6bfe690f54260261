//! Reads metrics as strictly as the text format of OpenMetrics 1.0 is written down, so that no reader of the world is
//! pickier: shares nothing with what writes them. Without timestamps and exemplars, which Cambric has none of.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

/// The samples of a text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exposition {
    samples: BTreeMap<Series, f64>,
    families: BTreeMap<String, Family>,
}

/// A name, and labels with their values.
pub type Series = (String, BTreeMap<String, String>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Family {
    kind: Option<String>,
    unit: Option<String>,
    help: Option<String>,
}

impl Exposition {
    /// Reads a whole text.
    ///
    /// # Errors
    /// The first line that breaks a rule, and which.
    pub fn read(text: &str) -> Result<Exposition> {
        let body = text.strip_suffix("# EOF\n").context("it does not end in a line # EOF")?;
        let mut read = Exposition::default();
        let mut current: Option<String> = None;
        for line in body.split_terminator('\n') {
            read.line(line, &mut current).with_context(|| line.to_owned())?;
        }
        read.histograms_add_up()?;
        Ok(read)
    }

    /// The value of a series.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.samples.get(&(name.to_owned(), labels)).copied()
    }

    /// All series of one name.
    pub fn series<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a BTreeMap<String, String>, f64)> {
        let named = self.samples.iter().filter(move |((its, _), _)| its == name);
        named.map(|((_, labels), value)| (labels, *value))
    }

    /// Names of families, those without samples among them.
    pub fn families(&self) -> impl Iterator<Item = &str> {
        self.families.keys().map(String::as_str)
    }

    fn line(&mut self, line: &str, current: &mut Option<String>) -> Result<()> {
        let Some(meta) = line.strip_prefix("# ") else { return self.sample(line, current.as_deref()) };
        let mut words = meta.splitn(3, ' ');
        let (keyword, name, rest) = (words.next().unwrap_or_default(), words.next(), words.next());
        let (name, rest) = (name.context("no name")?, rest.unwrap_or_default());
        ensure!(is_name(name), "no name of a metric: {name}");
        if current.as_deref() != Some(name) {
            ensure!(!self.families.contains_key(name), "the family is not in one piece");
            *current = Some(name.to_owned());
        }
        let family = self.families.entry(name.to_owned()).or_default();
        let place = match keyword {
            "HELP" => &mut family.help,
            "TYPE" => {
                const KINDS: [&str; 5] = ["counter", "gauge", "histogram", "info", "unknown"];
                ensure!(KINDS.contains(&rest), "no type");
                &mut family.kind
            }
            "UNIT" => {
                ensure!(name.ends_with(&format!("_{rest}")), "the name does not end in the unit");
                &mut family.unit
            }
            _ => bail!("no keyword"),
        };
        ensure!(place.replace(rest.to_owned()).is_none(), "said twice");
        Ok(())
    }

    fn sample(&mut self, line: &str, current: Option<&str>) -> Result<()> {
        let end = line.find(['{', ' ']).context("no value")?;
        let (name, rest) = line.split_at(end);
        ensure!(is_name(name), "no name of a metric");
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (BTreeMap::new(), rest),
        };
        let value = rest.strip_prefix(' ').context("no space before the value")?;
        ensure!(!value.contains(' '), "something is behind the value");
        let value: f64 = match value {
            "+Inf" => f64::INFINITY,
            "-Inf" => f64::NEG_INFINITY,
            number => number.parse().context("no number")?,
        };
        let family = current.context("a sample before its family")?;
        let suffix = name.strip_prefix(family).context("a sample of another family")?;
        let kind = self.families.get(family).and_then(|family| family.kind.as_deref()).unwrap_or("unknown");
        let fits = match kind {
            "counter" => suffix == "_total",
            "histogram" => matches!(suffix, "_bucket" | "_sum" | "_count"),
            "info" => suffix == "_info" && value == 1.0,
            _ => suffix.is_empty(),
        };
        ensure!(fits, "no sample of a {kind}");
        ensure!(!matches!(kind, "counter" | "histogram") || value >= 0.0, "below 0");
        ensure!((suffix == "_bucket") == labels.contains_key("le"), "`le` is for buckets");
        let is_new = self.samples.insert((name.to_owned(), labels), value).is_none();
        ensure!(is_new, "the series is there twice");
        Ok(())
    }

    fn histograms_add_up(&self) -> Result<()> {
        let is_histogram = |(_, family): &(&String, &Family)| family.kind.as_deref() == Some("histogram");
        for (name, _) in self.families.iter().filter(is_histogram) {
            let counts = format!("{name}_count");
            for (labels, count) in self.series(&counts) {
                self.buckets_add_up(name, labels, count).with_context(|| format!("{name} {labels:?}"))?;
            }
        }
        Ok(())
    }

    fn buckets_add_up(&self, name: &str, labels: &BTreeMap<String, String>, count: f64) -> Result<()> {
        let bucket = format!("{name}_bucket");
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for (its, value) in self.series(&bucket) {
            let mut others = its.clone();
            let bound = others.remove("le").context("no `le`")?;
            if others == *labels {
                let bound =
                    if bound == "+Inf" { f64::INFINITY } else { bound.parse().context("no bound")? };
                buckets.push((bound, value));
            }
        }
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        ensure!(buckets.is_sorted_by(|one, other| one.1 <= other.1), "buckets do not grow: {buckets:?}");
        ensure!(buckets.last() == Some(&(f64::INFINITY, count)), "not all are below +Inf: {buckets:?}");
        ensure!(self.samples.contains_key(&(format!("{name}_sum"), labels.clone())), "no sum");
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    let fits = |character: char| character.is_ascii_alphanumeric() || "_:".contains(character);
    name.chars().all(fits) && name.starts_with(|first: char| !first.is_ascii_digit())
}

/// Up to the brace; what is behind it.
fn labels(text: &str) -> Result<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    loop {
        let (name, behind) = rest.split_once("=\"").context("no label")?;
        ensure!(is_name(name) && !name.contains(':'), "no name of a label: {name}");
        let (value, behind) = quoted(behind)?;
        ensure!(labels.insert(name.to_owned(), value).is_none(), "label {name} is there twice");
        if let Some(behind) = behind.strip_prefix('}') {
            return Ok((labels, behind));
        }
        rest = behind.strip_prefix(',').context("neither a comma nor a brace behind a label")?;
    }
}

fn quoted(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('\\' | '"'))) => value.push(escaped),
                _ => bail!("no escape"),
            },
            other => value.push(other),
        }
    }
    bail!("a value without an end")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a How many.\n# TYPE a counter\na_total{x=\"b\\\"\\\\\\n\",y=\"\"} 3\na_total 1\n\
        # TYPE t_seconds histogram\n# UNIT t_seconds seconds\nt_seconds_sum 2.5\nt_seconds_count 2\n\
        t_seconds_bucket{le=\"1\"} 1\nt_seconds_bucket{le=\"+Inf\"} 2\n# TYPE g gauge\ng -1.5e3\n# EOF\n";

    #[test]
    fn what_is_right_is_read() {
        let read = Exposition::read(GOOD).expect("it is right");
        assert_eq!(read.value("a_total", &[("x", "b\"\\\n"), ("y", "")]), Some(3.0));
        assert_eq!(read.value("g", &[]), Some(-1500.0));
        assert_eq!(read.families().collect::<Vec<_>>(), ["a", "g", "t_seconds"]);
    }

    #[test]
    fn each_broken_rule_is_seen() {
        let broken = [
            ("# EOF\n", ""),
            ("a_total 1", "a 1"),
            ("a_total 1", "a_total -1"),
            ("a_total 1", "a_total{} 1"),
            ("a_total 1", "a_total 1 1"),
            ("a_total 1", "a_total one"),
            ("a_total 1", "a_total{x=\"b\\\"\\\\\\n\",y=\"\"} 4"),
            ("y=\"\"", "x=\"\""),
            ("y=\"\"", "y=\"\\t\""),
            ("y=\"\"", "1y=\"\""),
            ("# TYPE a counter", "# TYPE a count"),
            ("# TYPE g gauge", "# TYPE a counter"),
            ("# UNIT t_seconds seconds", "# UNIT t_seconds bytes"),
            ("t_seconds_count 2", "t_seconds_count 3"),
            ("{le=\"1\"} 1", "{le=\"1\"} 3"),
            ("{le=\"+Inf\"}", "{le=\"9\"}"),
            ("t_seconds_sum 2.5\n", ""),
        ];
        for (from, to) in broken {
            assert!(GOOD.contains(from), "{from}");
            assert!(Exposition::read(&GOOD.replacen(from, to, 1)).is_err(), "{from} -> {to}");
        }
    }
}
