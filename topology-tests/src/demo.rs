//! What `make demo` shows, and a test asserts: a lab with two racks, whole, then broken in the ways that
//! happen at night.
//!
//! Each step prints what it saw and gives what was not as it should be, one line each.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::fabric::{self, RECOVERY};
use crate::flow::{Flow, Report};
use crate::{Lab, Node, Pod, capture, poll};

mod policy;

/// Packets that a dead switch may cost, at 1 kHz: 300 ms.
const POWER_CUT_MOST: u32 = 300;
/// Flows go on this long after a fault is over, so that a late loss is seen.
const AFTER: u32 = 3000;

/// Sets of flows that may all take one way by chance; each does about once in a hundred times.
const SPREAD_TRIES: usize = 5;
/// Packets of 500 that show that a flow goes this way, and not BGP alone.
const ENOUGH: u64 = 100;

/// Uplinks of each node.
const UPLINKS: usize = 2;

/// Nodes that the steps name.
const NAMED: [&str; 5] = ["n11", "n12", "n22", "tor1a", "tor1b"];

/// Whether the steps can be shown on a lab: said before it is brought up.
///
/// # Errors
/// When it lacks a node that they name.
pub fn fits(lab: &Lab) -> Result<()> {
    let topology = lab.topology();
    let missing: Vec<&str> = NAMED.into_iter().filter(|name| !topology.nodes.contains_key(*name)).collect();
    ensure!(
        missing.is_empty(),
        "the demo shows what becomes of two racks when a TOR dies; lab {} has no {}. See it with cambric-lab up, and what \
         to type in its README",
        topology.name,
        missing.join(", ")
    );
    Ok(())
}

/// Clears up behind a demo that was killed: what it wrote beside the lab's files.
///
/// # Errors
/// When it cannot be removed.
pub fn tidy(lab: &Lab) -> Result<()> {
    policy::tidy(lab)
}

/// Routers that a packet to n11 from a pod of n22 has passed as it comes down the last link: n22, a switch of its
/// rack, a spine, a switch of n11's rack.
pub const ROUTERS_TO_N11: u8 = 4;

/// Runs all steps on `containerlab/two-rack`, which is up.
///
/// # Errors
/// When the lab does not do what a step needs, beyond what the step judges.
pub fn run(lab: &Lab) -> Result<Vec<String>> {
    fabric::whole_and_spread(lab, UPLINKS, RECOVERY)?;
    let mut faults = Vec::new();
    show(lab)?;
    faults.extend(check_reachability(lab)?);
    faults.extend(bare_packets(lab)?);
    faults.extend(policy::policy(lab)?);
    faults.extend(power_cut(lab)?);
    faults.extend(restart(lab, Signal::SIGKILL)?);
    faults.extend(restart(lab, Signal::SIGTERM)?);
    headline("Once more");
    faults.extend(check_reachability(lab)?);
    faults.extend(check_wiring(lab)?);
    Ok(faults)
}

/// A command for who kept the lab up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// To be typed as it is, anywhere.
    pub command: String,
    /// What it shows.
    pub why: &'static str,
}

/// What to type while `containerlab/two-rack` is up; the last one takes it down. `runner` is `cambric-lab`, `file` the
/// lab's file or folder.
///
/// # Errors
/// When one of the paths is not there, or a pod is gone.
pub fn what_to_try(lab: &Lab, runner: &Path, file: &Path) -> Result<Vec<Hint>> {
    let word = |path: &Path| -> Result<String> {
        let path = path.canonicalize().with_context(|| format!("finding {}", path.display()))?;
        Ok(quoted(&path.to_string_lossy()))
    };
    let (runner, file) = (word(runner)?, word(file)?);
    let far = lab.pod("n22", "n22-1")?.address(|address| address.is_ipv4())?;
    let hints = [
        (format!("exec {file} n11 -- cambric"), "the prompt: Tab completes, ? shows what can follow"),
        (format!("exec {file} n11 -- cambric show protocols all"), "the sessions in full"),
        (format!("exec {file} n11 -- cambric show route for {far} all"), "why this way"),
        (
            format!("exec {file} n11 -- cambric show policy"),
            "who judges its pods; put a NetworkPolicy beside the manifests",
        ),
        (format!("exec {file} tor1a -- vtysh"), "the other side of them: FRR"),
        (format!("pod exec {file} n11 n11-1 -- ping -c 3 {far}"), "from pod to pod, across racks"),
        (format!("pod exec {file} n11 n11-1 -- bash"), "a shell with a pod's network"),
        (format!("pod check {file} n11 n11-1"), "is it wired as the plugin left it? (silence: yes)"),
        (format!("links {file} tor1a down"), "cut the power of a switch; up gives it back"),
        (format!("status {file}"), "nodes, daemons, pods"),
        (format!("down {file}"), "take it all down"),
    ];
    let hint = |(words, why)| Hint { command: format!("{runner} {words}"), why };
    Ok(hints.into_iter().map(hint).collect())
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Prints the start of a step.
pub fn headline(text: &str) {
    println!("\n== {text}");
}

/// Runs a command in a node and prints it as a person would have typed it.
fn type_in(node: &Node, words: &[&str]) -> Result<()> {
    println!("\n{}# {}", node.name(), words.join(" "));
    print!("{}", node.run_ok(words)?);
    Ok(())
}

fn show(lab: &Lab) -> Result<()> {
    headline("A node and its switches");
    let (node, switch) = (lab.node("n11")?, lab.node("tor1a")?);
    type_in(&node, &["cambric", "show", "protocols"])?;
    type_in(&node, &["cambric", "show", "route"])?;
    type_in(&node, &["ip", "route", "show", "10.244.22.0/24"])?;
    type_in(&node, &["ip", "nexthop", "show"])?;
    type_in(&switch, &["vtysh", "-c", "show bgp ipv4 unicast"])
}

fn check_reachability(lab: &Lab) -> Result<Vec<String>> {
    headline("Who reaches whom: every pod and node with every other, UDP and TCP, IPv4 and IPv6");
    let (questions, wrong) = fabric::reachability(lab)?;
    println!(
        "  {questions} questions asked, {} answered with the asker's own address",
        questions - wrong.len()
    );
    Ok(wrong)
}

/// The plugin itself compares what it made with what is there.
fn check_wiring(lab: &Lab) -> Result<Vec<String>> {
    headline("CNI CHECK of every pod");
    let pods = lab.pods()?;
    let wrong: Vec<String> =
        pods.iter().filter_map(|pod| Some(format!("{:#}", pod.check().err()?))).collect();
    println!("  {} of {} pods are wired as ADD left them", pods.len() - wrong.len(), pods.len());
    Ok(wrong)
}

/// The pods between which flows run: in different racks, so that they cross everything.
fn ends(lab: &Lab) -> Result<(Pod, Pod)> {
    Ok((lab.pod("n11", "n11-1")?, lab.pod("n22", "n22-1")?))
}

/// A look at the packets themselves, on both links of a node.
fn bare_packets(lab: &Lab) -> Result<Vec<String>> {
    headline(
        "What goes over the links of n11 while its pod talks to a pod of n22: packets as the pods sent them",
    );
    let (near, far) = ends(lab)?;
    let proof = capture::prove_bare(lab, &near, &far, ROUTERS_TO_N11)?;
    for link in &proof.links {
        let (count, name) = (link.count(), &link.link);
        match link.guilty.len() {
            0 => println!("  {count} packets of pods on the link {name}: all bare, 0 with a tunnel header"),
            guilty => println!("  {count} packets of pods on the link {name} are bare, {guilty} are not"),
        }
        let kinds = link.bare.iter().map(|(kind, count)| format!("{count} {kind}"));
        println!("    {}", kinds.collect::<Vec<_>>().join(", "));
        println!("    one of them: {}", link.sample.as_deref().unwrap_or("none was seen"));
    }
    if proof.faults.is_empty() {
        println!("  {} datagrams were sent; each was seen on one of the links, bare, once", proof.datagrams);
        println!("  {} streams, too, were seen bare, both ways", proof.streams);
    }
    Ok(proof.faults)
}

fn power_cut(lab: &Lab) -> Result<Vec<String>> {
    headline("A switch of rack 1 loses power, while pods of n11 and n22 talk at 1 kHz");
    let (from, to) = ends(lab)?;
    let node = lab.node("n11")?;
    let (flows, carried) = flows_over_both(&node, &from, &to)?;
    // The one that carries more of them, else the cut would cost nothing by luck.
    let victim = if carried[0] >= carried[1] { "tor1a" } else { "tor1b" };
    println!(
        "  n11 sent and received {} packets by tor1a and {} by tor1b; {victim} goes",
        carried[0], carried[1]
    );
    lab.links_down(victim)?;
    fabric::send_more(&flows, AFTER)?;
    let cut = fabric::stop_flows(flows)?;
    let mut faults = judge("power cut", &cut, POWER_CUT_MOST);

    println!("  {victim} gets power again");
    let flows = fabric::start_flows(&from, &to)?;
    lab.links_up(victim)?;
    fabric::whole_and_spread(lab, UPLINKS, RECOVERY)?;
    fabric::send_more(&flows, AFTER)?;
    faults.extend(judge("return of power", &fabric::stop_flows(flows)?, POWER_CUT_MOST));
    Ok(faults)
}

/// Flows that use both switches of a node, and the packets that each carried of them. Few flows may take one way by
/// chance: others then have other ports.
fn flows_over_both(node: &Node, from: &Pod, to: &Pod) -> Result<(Vec<Flow>, [u64; 2])> {
    for _ in 0..SPREAD_TRIES {
        let flows = fabric::start_flows(from, to)?;
        let count = || anyhow::Ok([fabric::packets(node, "eth1")?, fabric::packets(node, "eth2")?]);
        let before = count()?;
        fabric::send_more(&flows, 500)?;
        let after = count()?;
        let carried = [after[0] - before[0], after[1] - before[1]];
        if carried.iter().all(|packets| *packets >= ENOUGH) {
            return Ok((flows, carried));
        }
        fabric::stop_flows(flows)?;
    }
    bail!("of {SPREAD_TRIES} sets of flows none used both switches");
}

fn restart(lab: &Lab, signal: Signal) -> Result<Vec<String>> {
    let how = if signal == Signal::SIGKILL { "killed with -9" } else { "ended with SIGTERM" };
    headline(&format!("cambricd of n11 is {how} and started again, while its pod talks at 1 kHz"));
    let (from, to) = ends(lab)?;
    let (node, switch) = (lab.node("n11")?, lab.node("tor1a")?);
    let flows = fabric::start_flows(&from, &to)?;
    let noticed = || {
        let stale = fabric::is_stale_at(&switch, "10.244.11.0/24")
            && fabric::is_stale_at(&switch, "fd00:10:244:11::/64");
        stale && flows.iter().all(|flow| flow.sent() > 3000)
    };
    fabric::restart(&node, signal, noticed)?;
    println!("  tor1a kept the node's routes as stale ones meanwhile");
    fabric::send_more(&flows, AFTER)?;
    let faults = judge("restart", &fabric::stop_flows(flows)?, 0);
    let fresh = || {
        !fabric::is_stale_at(&switch, "10.244.11.0/24")
            && !fabric::is_stale_at(&switch, "fd00:10:244:11::/64")
    };
    poll::until("tor1a to hold fresh routes", RECOVERY, fresh)?;
    Ok(faults)
}

/// Prints what flows lost; a fault if one lost more than `most`.
fn judge(what: &str, reports: &[Report], most: u32) -> Vec<String> {
    let lost: Vec<u32> = reports.iter().map(|report| report.lost).collect();
    let sent: u32 = reports.iter().map(|report| report.sent).sum();
    println!("  packets lost, by flow (two of IPv4, two of IPv6): {lost:?} of {sent} sent in all");
    let worst = lost.into_iter().max().unwrap_or(0);
    if worst > most {
        vec![format!("{what}: a flow lost {worst} packets, at most {most} are expected")]
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_for_a_shell_whatever_is_in_it() {
        assert_eq!(quoted("/opt/cambric/two-rack"), "/opt/cambric/two-rack");
        assert_eq!(quoted("/home/me/my labs"), "'/home/me/my labs'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
