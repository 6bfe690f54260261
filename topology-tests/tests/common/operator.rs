//! What an operator types and sees: for transcripts, and for looking at what a daemon says.

use std::process::ExitStatus;

use anyhow::{Result, anyhow, ensure};
use cambric_lab::clab::split_words;
use cambric_lab::{Node, fabric};
use serde_json::Value;

/// Types a command and prints what it shows, as on a terminal.
///
/// # Errors
/// When it fails.
pub(crate) fn type_in(node: &Node, line: &str) -> Result<String> {
    let (status, text) = try_in(node, line)?;
    ensure!(status.success(), "{}# {line}: {status}", node.name());
    Ok(text)
}

/// As [`type_in`], for a command that may well fail.
pub(crate) fn try_in(node: &Node, line: &str) -> Result<(ExitStatus, String)> {
    let output = node.run(&split_words(line).map_err(|problem| anyhow!("{problem}: {line}"))?)?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    println!("\n{}# {line}\n{}", node.name(), text.trim_end());
    Ok((output.status, text))
}

/// The problems that a daemon names.
pub(crate) fn problems(node: &Node) -> Result<Vec<String>> {
    let answer = fabric::ask(node, &["show", "status"])?;
    let problems = answer["status"]["problems"].as_array().cloned().unwrap_or_default();
    Ok(problems.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

/// The peers of a node, as `show protocols` tells of them.
pub(crate) fn peers(node: &Node) -> Result<Vec<Value>> {
    let mut answer = fabric::ask(node, &["show", "protocols"])?;
    Ok(answer["protocols"].as_array_mut().map(std::mem::take).unwrap_or_default())
}

/// Names of the peers of a node whose sessions are up, sorted; none, too, while the daemon does not answer.
pub(crate) fn established(node: &Node) -> Vec<String> {
    let peers = peers(node).unwrap_or_default();
    let up = peers.iter().filter(|peer| peer["state"] == "Established");
    let mut names: Vec<String> = up.filter_map(|peer| peer["name"].as_str()).map(str::to_owned).collect();
    names.sort();
    names
}

/// The ports of a node's sessions: a session that was interrupted has others.
pub(crate) fn sessions(node: &Node) -> Result<Vec<String>> {
    let text = node.run_ok(&["ss", "-Htn", "state", "established", "( sport = :179 or dport = :179 )"])?;
    // Behind the lengths of the queues, which change.
    let ends = |line: &str| line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ");
    let mut lines: Vec<String> = text.lines().map(ends).collect();
    lines.sort();
    Ok(lines)
}
