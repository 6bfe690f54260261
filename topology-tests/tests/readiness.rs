//! A new version is ready when it has the sessions that the one before it had: `labs/one-switch`.
//!
//! ```text
//!    f1  FRR  65001
//!     |
//!    c1  Cambric  65100; one pod
//! ```
//!
//! Proves:
//! - who was Established when the daemon ended is waited for by the next one, by name, in `/readyz` and `show status`;
//! - a version that cannot speak with the switch is not ready, however often it is started, and does not erase what it
//!   is measured by;
//! - nor is a version that reads no peers out of the configuration: that is told, with `disable` as the way out;
//! - once ready a daemon stays so without the switch, and one that is started then does not wait for it;
//! - a record that nobody can read is told and waited for no more; liveness has nothing to do with any of this.

mod common;

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use cambric_lab::http::get;
use cambric_lab::{Lab, Node, fabric, poll};
use nix::sys::signal::Signal;
use serde_json::Value;

use common::{LabFolder, Need, in_lab, machine_has};

const LIMIT: Duration = Duration::from_secs(60);
const CAMBRICD: &str = "cambricd";
const HEALTH: u16 = 9178;
const RECORD: &str = "/run/cambric/peers.json";
const MANIFEST: &str = "/etc/cambric/manifests/peers.yaml";
/// What is left of it for a version that knows nothing of peers.
const NO_PEERS: &str =
    "apiVersion: cambric.dev/v1alpha1\nkind: BGPNodeOverride\nmetadata: { name: c1 }\nspec: {}\n";

/// The manifest with the peers, who are expected to be of this AS.
fn peers(asn: u32) -> String {
    format!(
        r#"apiVersion: cambric.dev/v1alpha1
kind: BGPNodeOverride
metadata: {{ name: c1 }}
spec:
  peers:
  - {{ name: f1, address: 192.0.2.0, asn: {asn}, peerConfig: switch }}
  - {{ name: f1-v6, address: "2001:db8:0:1::", asn: {asn}, peerConfig: switch }}
"#
    )
}

#[test]
fn a_daemon_is_ready_once_it_has_the_sessions_that_the_last_one_had() {
    if !machine_has(&[Need::Root, Need::Frr, Need::Cambric]) {
        return;
    }
    let folder = LabFolder::copy_of("labs/one-switch");
    folder.write("manifests/peers.yaml", &peers(65001));
    in_lab(&folder, |lab| {
        let node = lab.node("c1")?;
        whole(&node)?;
        a_switch_that_died_meanwhile_is_waited_for(lab, &node)?;
        a_version_that_fails_twice_is_not_ready_and_keeps_the_record(&folder, &node)?;
        a_version_that_reads_no_peers_is_not_ready_until_an_operator_says_so(&folder, &node)?;
        an_outage_undoes_nothing_and_is_not_waited_for_by_the_next_run(lab, &node)?;
        a_damaged_record_is_told_and_not_waited_for(&node)
    });
}

fn a_switch_that_died_meanwhile_is_waited_for(lab: &Lab, node: &Node) -> Result<()> {
    stop(node, Signal::SIGTERM)?;
    let recorded = record(node)?;
    ensure!(recorded.contains("192.0.2.0") && recorded.contains("2001:db8:0:1::"), "{recorded}");
    lab.node("f1")?.kill("bgpd", Signal::SIGKILL)?;
    node.start()?;
    let body = not_ready_for(node, "the session with f1 (192.0.2.0), which the last run had")?;
    println!("{body}");
    ensure!(body.contains("the session with f1-v6 (2001:db8:0:1::)"), "{body}");
    let missing = status(node)?["http"]["missing"].to_string();
    ensure!(missing.contains("the session with f1 (192.0.2.0)"), "{missing}");
    ensure!(missing.contains("if it is gone for good: `cambric disable f1`"), "{missing}");
    let healthz = get(node, HEALTH, "/healthz")?;
    ensure!(healthz.starts_with("HTTP/1.1 200 "), "{healthz}");
    ensure!(record(node)? == recorded, "it is not ready, so it takes nobody out");
    lab.node("f1")?.start()?;
    whole(node)
}

/// Its AS is another one than the switch expects to speak with: what a broken version would do, too.
fn a_version_that_fails_twice_is_not_ready_and_keeps_the_record(
    folder: &LabFolder,
    node: &Node,
) -> Result<()> {
    let recorded = record(node)?;
    stop(node, Signal::SIGTERM)?;
    let manifest = folder.path().join("manifests/peers.yaml");
    fs::write(&manifest, peers(65999))?;
    ensure!(fs::read_to_string(node.path(MANIFEST))?.contains("65999"), "the node sees it");
    for _ in 0..2 {
        node.start()?;
        not_ready_for(node, "the session with f1 (192.0.2.0), which the last run had")?;
        poll::until("the switch to be refused", LIMIT, || {
            status(node).is_ok_and(|status| status["peer_problems"].to_string().contains("Bad Peer AS"))
        })?;
        not_ready_for(node, "the session with f1 (192.0.2.0), which the last run had")?;
        stop(node, Signal::SIGKILL)?;
        ensure!(record(node)? == recorded, "{}", record(node)?);
    }
    fs::write(&manifest, peers(65001))?;
    node.start()?;
    whole(node)
}

/// As where a definition was not applied, or a release does not know a field yet.
fn a_version_that_reads_no_peers_is_not_ready_until_an_operator_says_so(
    folder: &LabFolder,
    node: &Node,
) -> Result<()> {
    let recorded = record(node)?;
    stop(node, Signal::SIGTERM)?;
    folder.write("manifests/peers.yaml", NO_PEERS);
    node.start()?;
    let why = "f1 (192.0.2.0): had a session in the last run, and is not configured as this version reads it; if that \
        is meant: `cambric disable 192.0.2.0`";
    let body = not_ready_for(node, why)?;
    ensure!(body.contains("f1-v6 (2001:db8:0:1::): had a session"), "{body}");
    ensure!(record(node)? == recorded, "{}", record(node)?);
    for peer in ["f1", "2001:db8:0:1::"] {
        fabric::ask(node, &["disable", peer])?;
    }
    poll::until("readiness without the switch", LIMIT, || is_ready(node).unwrap_or(false))?;
    folder.write("manifests/peers.yaml", &peers(65001));
    for peer in ["f1", "f1-v6"] {
        fabric::ask(node, &["enable", peer])?;
    }
    whole(node)
}

fn an_outage_undoes_nothing_and_is_not_waited_for_by_the_next_run(lab: &Lab, node: &Node) -> Result<()> {
    lab.node("f1")?.kill("bgpd", Signal::SIGKILL)?;
    poll::until("the record to forget the switch", LIMIT, || {
        record(node).is_ok_and(|record| !record.contains("192.0.2.0"))
    })?;
    ensure!(is_ready(node)?, "a run that was ready stays so");
    stop(node, Signal::SIGTERM)?;
    node.start()?;
    poll::until("readiness without the switch", LIMIT, || is_ready(node).unwrap_or(false))?;
    lab.node("f1")?.start()?;
    whole(node)
}

fn a_damaged_record_is_told_and_not_waited_for(node: &Node) -> Result<()> {
    stop(node, Signal::SIGTERM)?;
    fs::write(node.path(RECORD), "{\"version\":1,")?;
    node.start()?;
    whole(node)?;
    let log = fs::read_to_string(node.log("cambricd.log"))?;
    let told = log.matches("which peers the last run had cannot be read").count();
    ensure!(told == 1, "told {told} times: {log}");
    Ok(())
}

/// Both sessions, ready, and recorded for the next run.
fn whole(node: &Node) -> Result<()> {
    poll::until("both sessions, and readiness", LIMIT, || {
        let both = status(node).is_ok_and(|status| status["peers_established"] == 2);
        both && is_ready(node).unwrap_or(false) && fabric::is_whole(node)
    })?;
    poll::until("both in the record", LIMIT, || {
        record(node).is_ok_and(|record| record.contains("192.0.2.0") && record.contains("2001:db8:0:1::"))
    })
}

/// Waits for a whole answer: not ready, for that reason alone but for what of routing follows from it.
fn not_ready_for(node: &Node, why: &str) -> Result<String> {
    poll::until_some(&format!("`{why}` in /readyz"), LIMIT, || {
        let answer = get(node, HEALTH, "/readyz").unwrap_or_default();
        ensure!(!answer.starts_with("HTTP/1.1 200 "), "{answer}");
        Ok(answer.contains(why).then_some(answer))
    })
}

fn is_ready(node: &Node) -> Result<bool> {
    Ok(get(node, HEALTH, "/readyz")?.starts_with("HTTP/1.1 200 "))
}

fn record(node: &Node) -> Result<String> {
    Ok(fs::read_to_string(node.path(RECORD))?)
}

fn stop(node: &Node, signal: Signal) -> Result<()> {
    node.kill(CAMBRICD, signal)?;
    poll::until("the daemon to end", LIMIT, || node.daemon_pid(CAMBRICD).is_none())
}

fn status(node: &Node) -> Result<Value> {
    Ok(fabric::ask(node, &["show", "status"])?["status"].take())
}
