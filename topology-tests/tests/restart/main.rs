//! What each sort of stop and start of the daemon costs, in packets: `labs/restart`.
//!
//! ```text
//!   k1 --- f1  FRR   65001 --- eth1 \
//!                                    c1  Cambric  65100, pod
//!   k2 --- b1  BIRD  65002 --- eth2 /
//! ```
//!
//! A flow of 1 kHz in each family between each client and the pod; a packet is lost when no answer to it came back. So
//! both directions count: the node must keep in its kernel what it learned, and the switch what the node told it.
//!
//! Proves: with the settings of `docs/restart.md` no fault of [`fault::ALL`] costs a packet, and the kernel is told of no
//! deletion of a route that the daemon has put there (protocol 203), but for routes to a switch that is away for good.
//!
//! `CAMBRIC_TOR_WITHOUT=WORDS`, separated by commas, leaves out of the switches' settings each line that has one of
//! these words, `CAMBRIC_TOR_OFF=WORDS` turns it round; nothing is asserted then, and the table says what it costs.
//! `CAMBRIC_RESTART_ONLY=WORD` runs the faults whose names have that word. `CAMBRIC_OTHER_RELEASE=FOLDER` has the
//! `cambricd` that is upgraded to.

#[path = "../common/mod.rs"]
mod common;
mod fault;
mod table;
mod tor;

use std::fs;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use cambric_lab::flow::{Flow, Report};
use cambric_lab::{Lab, Node, fabric, poll};

use common::monitor::Monitor;
use common::{LabFolder, Need, in_lab, machine_has};
use fault::{Fault, Victim};
use table::{Cost, Row, Table};
use tor::Tor;

/// How long anything may take that happens by itself.
const LIMIT: Duration = Duration::from_secs(60);

/// Packets that each flow carries before a fault, and after all is well again: so that a late loss is seen.
const BEFORE: u32 = 200;
const AFTER: u32 = 2_000;

#[test]
fn no_stop_and_start_of_the_daemon_costs_a_packet() {
    if !machine_has(&[Need::Root, Need::Frr, Need::Bird, Need::Cambric]) {
        return;
    }
    let folder = LabFolder::copy_of("labs/restart");
    let changed = change_settings(&folder);
    in_lab(&folder, |lab| {
        let victim = Victim::of(lab)?;
        be_whole(lab, &victim, None)?;
        let mut table = Table::default();
        for fault in fault::chosen() {
            let row = measure(lab, &victim, fault)?;
            println!("{row}");
            table.rows.push(row);
        }
        println!("\n{table}");
        ensure!(!table.rows.is_empty(), "no fault has such a name");
        if changed.is_empty() { table.must_be_without_loss() } else { Ok(()) }
    });
}

/// Changes the switches' settings as the environment asks; says what is changed.
fn change_settings(folder: &LabFolder) -> Vec<String> {
    let words = |name| {
        let words = std::env::var(name).unwrap_or_default();
        words.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let (without, off) = (words("CAMBRIC_TOR_WITHOUT"), words("CAMBRIC_TOR_OFF"));
    let has = |line: &str, words: &[String]| words.iter().any(|word| line.contains(word.as_str()));
    let mut changed = Vec::new();
    for file in ["frr/f1.conf", "bird.conf"] {
        let text = fs::read_to_string(folder.path().join(file)).expect("the settings of a switch");
        let change = |line: &str| match line {
            _ if has(line, &without) => None,
            _ if has(line, &off) => Some(turned_off(line)),
            _ => Some(line.to_owned()),
        };
        let lines: Vec<(&str, Option<String>)> = text.lines().map(|line| (line, change(line))).collect();
        let differs = lines.iter().filter(|(old, new)| new.as_deref() != Some(old));
        changed
            .extend(differs.map(|(old, new)| format!("{file}: {:?}, was {:?}", new.as_deref(), old.trim())));
        folder.write(
            file,
            &lines.into_iter().filter_map(|(_, new)| new).map(|line| line + "\n").collect::<String>(),
        );
    }
    changed.iter().for_each(|line| println!("{line}"));
    changed
}

/// A line of FRR or BIRD about graceful restart, turned round.
fn turned_off(line: &str) -> String {
    match line.trim() {
        "bgp graceful-restart" => " bgp graceful-restart-disable".to_owned(),
        frr if frr.starts_with("bgp ") => format!(" no {frr}"),
        bird => bird.replace(" on;", " off;"),
    }
}

/// One fault, from before it until all is well again.
fn measure(lab: &Lab, victim: &Victim, fault: Fault) -> Result<Row> {
    let absent = fault.absent();
    if let Fault::Absent(tor) = fault {
        tor.end(lab)?;
    }
    let measured: Vec<&Tor> = tor::all_but(absent).collect();
    let monitor = Monitor::start(victim.node())?;
    let mut flows = Vec::new();
    for tor in &measured {
        flows.extend(start_flows(lab, tor)?);
    }
    fabric::send_more(&flows, BEFORE)?;

    let start = Instant::now();
    let end = fault.strike(lab, victim, &|packets| fabric::send_more(&flows, packets))?;
    be_whole(lab, victim, absent).with_context(|| format!("after the node was {fault}"))?;
    let back = end.elapsed();
    fabric::send_more(&flows, AFTER)?;

    let mut reports = stop_flows(flows)?.into_iter();
    let lost =
        measured.iter().map(|tor| Cost { tor: tor.kind.name(), reports: reports.by_ref().take(2).collect() });
    let lost = lost.collect();
    let touched = |text: &str| !absent.is_some_and(|tor| tor.is_about(text));
    let messages = monitor.messages()?;
    let deletions = messages.iter().filter(|message| message.is_delete() && touched(&message.text));
    let deletions = deletions.map(|message| message.text.clone()).collect();
    if let Some(tor) = absent {
        tor.start(lab)?;
        be_whole(lab, victim, None)?;
    }
    Ok(Row { fault, struck: end - start, back, lost, deletions })
}

/// Two flows, one a family, between the client of a switch and the pod.
fn start_flows(lab: &Lab, tor: &Tor) -> Result<Vec<Flow>> {
    let (client, pod) = (lab.node(tor.client)?, lab.pod("c1", "c1-1")?);
    let flow = |target: IpAddr| Flow::start(&client, None, &pod, target);
    let flows: Vec<Flow> = pod.addresses()?.into_iter().map(flow).collect::<Result<_>>()?;
    ensure!(flows.len() == 2, "the pod has an address of each family");
    poll::until("an answer on every flow", LIMIT, || flows.iter().all(|flow| flow.answered() > 100))?;
    Ok(flows)
}

/// All at once: each waits for late answers.
fn stop_flows(flows: Vec<Flow>) -> Result<Vec<Report>> {
    thread::scope(|scope| {
        let ends: Vec<_> = flows.into_iter().map(|flow| scope.spawn(|| flow.stop())).collect();
        ends.into_iter().map(|end| end.join().map_err(|_| anyhow!("a flow panicked"))?).collect()
    })
}

/// Waits until all sessions but those of `absent` are up, the switches have fresh routes of the node, and the node has
/// swept what it does not know any more: then this restart is over.
fn be_whole(lab: &Lab, victim: &Victim, absent: Option<&'static Tor>) -> Result<()> {
    let node = victim.node();
    for tor in tor::all_but(absent) {
        poll::until(&format!("sessions with {}", tor.name), LIMIT, || tor.is_peer_of(node))?;
        poll::until(&format!("fresh routes at {}", tor.name), LIMIT, || tor.has_fresh(lab).unwrap_or(false))?;
        poll::until(&format!("the routes of {}", tor.name), LIMIT, || tor.is_in_kernel_of(node))?;
    }
    poll::until("the node to be ready and to have swept", LIMIT, || is_settled(node))?;
    match absent {
        Some(tor) => {
            poll::until("the routes of who is away to be gone", LIMIT, || !tor.is_in_kernel_of(node))
        }
        None => poll::until("all sessions, all routes", LIMIT, || fabric::is_whole(node)),
    }
}

fn is_settled(node: &Node) -> bool {
    let Ok(answer) = fabric::ask(node, &["show", "status"]) else { return false };
    let status = &answer["status"];
    let swept = |families: &Vec<serde_json::Value>| families.iter().all(|family| family["stale"] == 0);
    status["ready"] == true && status["kernel"].as_array().is_some_and(swept)
}
