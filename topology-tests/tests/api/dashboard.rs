//! `deploy/grafana/cambric.json` and docs/observability.md beside the metrics of a daemon at work.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use cambric_lab::exposition::Exposition;
use cambric_lab::promql::Query;
use cambric_lab::{Node, http};
use serde_json::Value;

const DASHBOARD: &str = include_str!("../../../deploy/grafana/cambric.json");
const DOCUMENTATION: &str = include_str!("../../../docs/observability.md");

/// Prometheus gives each series the address it was read from, and why.
const OF_PROMETHEUS: [&str; 2] = ["instance", "job"];

/// Labels of each metric, by the names of its samples.
type Labels = BTreeMap<String, BTreeSet<String>>;

/// Every query asks for metrics that this daemon has, and for labels and values of theirs; and the documentation
/// lists each metric, and no other.
pub(crate) fn asks_for_what_is_there(node: &Node) -> Result<()> {
    let read = http::metrics(node, crate::METRICS)?;
    let documented = documented()?;
    let families: BTreeSet<&str> = read.families().collect();
    let listed: BTreeSet<&str> = documented.keys().map(|name| family(name)).collect();
    ensure!(families.is_subset(&listed), "not documented: {:?}", families.difference(&listed));
    let dashboard: Value = serde_json::from_str(DASHBOARD)?;
    let mut queries = Vec::new();
    collect(&dashboard, &mut queries);
    for text in &queries {
        asks(text, &read, &documented).with_context(|| text.clone())?;
    }
    ensure!(queries.len() > 30, "only {} queries were found", queries.len());
    println!("dashboard: {} queries, each of metrics and labels that are there", queries.len());
    Ok(())
}

fn asks(text: &str, read: &Exposition, documented: &Labels) -> Result<()> {
    let query = Query::read(text)?;
    ensure!(!query.metrics.is_empty(), "it asks for no metric");
    for metric in &query.metrics {
        ensure!(read.families().any(|family| family == self::family(metric)), "nobody has {metric}");
        let known = labels_of(metric, read, documented);
        let grouped = query.grouped_by.iter().map(|label| (label, &None));
        let matched = query.matchers.iter().filter(|(its, ..)| its == metric);
        for (label, value) in grouped.chain(matched.map(|(_, label, value)| (label, value))) {
            ensure!(known.contains(label.as_str()), "{metric} has no label {label}, but {known:?}");
            if let Some(value) = value {
                let has = read.series(metric).any(|(labels, _)| labels.get(label) == Some(value));
                ensure!(has, "no series of {metric} has {label}={value:?}");
            }
        }
    }
    Ok(())
}

/// Those of its series; of a metric that has none yet, those that are documented.
fn labels_of<'a>(metric: &'a str, read: &'a Exposition, documented: &'a Labels) -> BTreeSet<&'a str> {
    let mut labels: BTreeSet<&str> =
        read.series(metric).flat_map(|(labels, _)| labels.keys().map(String::as_str)).collect();
    if read.series(metric).next().is_none() {
        labels.extend(documented.get(metric).into_iter().flatten().map(String::as_str));
    }
    labels.extend(OF_PROMETHEUS);
    labels
}

/// Without what samples of its type have behind it (OpenMetrics 1.0, section 4.4).
fn family(metric: &str) -> &str {
    let suffixes = ["_total", "_info", "_bucket", "_count", "_sum"];
    suffixes.iter().find_map(|suffix| metric.strip_suffix(suffix)).unwrap_or(metric)
}

/// The table of metrics: names and labels.
fn documented() -> Result<Labels> {
    let rows = DOCUMENTATION.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows = rows.filter(|row| row.starts_with("cambric_") || row.starts_with("process_"));
    rows.map(|row| {
        let mut cells = row.split(" | ");
        let name = cells.next().and_then(|name| name.strip_suffix('`')).context("no name")?;
        let labels = cells.nth(1).context("no labels")?;
        let labels = labels.split('`').skip(1).step_by(2).map(str::to_owned);
        Ok((name.to_owned(), labels.collect()))
    })
    .collect()
}

/// What stands under `expr`, `definition` and `query` that is a query.
fn collect(value: &Value, queries: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if name == "expr" => queries.push(text.to_owned()),
                    Some(text) if text.starts_with("label_values(") => {
                        queries.push(text.replace(", instance)", ")"));
                    }
                    _ => collect(value, queries),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, queries)),
        _ => {}
    }
}
