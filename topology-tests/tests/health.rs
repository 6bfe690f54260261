//! Health, readiness, metrics and the log's filter of a daemon at work: `labs/one-switch`.
//!
//! ```text
//!    f1  FRR  65001
//!     |
//!    c1  Cambric  65100; one pod
//! ```
//!
//! Proves:
//! - `/healthz` and `/readyz` say ok once the node is whole, and go on to do so when the switch is gone;
//! - `/metrics` is what the text format allows, to the letter, and tells of sessions, prefixes, policy and the process;
//! - clients that say nothing, or read nothing, keep nobody from being answered;
//! - a port that is taken is a problem that is shown, and the daemon serves there once it is free;
//! - a daemon that is started anew while the switch is away becomes ready from what stands;
//! - `cambric log` changes what is logged, and refuses what means nothing.

mod common;

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use cambric_lab::http::{self, ask, get};
use cambric_lab::{Lab, Node, fabric, poll};
use nix::sys::signal::Signal;
use serde_json::Value;

use common::{LabFolder, Need, PEERS_OF_ONE_SWITCH, in_lab, machine_has};

const LIMIT: Duration = Duration::from_secs(60);
const CAMBRICD: &str = "cambricd";
const HEALTH: u16 = 9178;
const METRICS: u16 = 9179;

#[test]
fn health_and_metrics_tell_of_the_node_and_not_of_its_peers() {
    if !machine_has(&[Need::Root, Need::Frr, Need::Cambric]) {
        return;
    }
    let folder = LabFolder::copy_of("labs/one-switch");
    folder.write("manifests/peers.yaml", PEERS_OF_ONE_SWITCH);
    in_lab(&folder, |lab| {
        let node = lab.node("c1")?;
        poll::until("both sessions, and readiness", LIMIT, || {
            established(&node) == 2
                && fabric::is_whole(&node)
                && get(&node, HEALTH, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
        })?;
        the_node_is_healthy_and_ready(&node)?;
        metrics_are_written_as_they_must_be(&node)?;
        odd_requests_are_answered(&node)?;
        silent_clients_keep_nobody_out(&node)?;
        the_log_can_be_turned(&node)?;
        a_switch_that_is_away_changes_neither(lab, &node)?;
        a_port_that_is_taken_is_told_and_tried_again(&node)
    });
}

fn the_node_is_healthy_and_ready(node: &Node) -> Result<()> {
    for path in ["/healthz", "/readyz"] {
        let answer = get(node, HEALTH, path)?;
        ensure!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok\n"), "{path}: {answer}");
    }
    let http = status(node)?["http"].take();
    ensure!(http["health"][0] == "127.0.0.1:9178" && http["metrics"][0] == "127.0.0.1:9179", "{http}");
    ensure!(http["missing"].as_array().is_some_and(Vec::is_empty), "{http}");
    Ok(())
}

fn metrics_are_written_as_they_must_be(node: &Node) -> Result<()> {
    let answer = get(node, METRICS, "/metrics")?;
    let head = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    ensure!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(head), "{answer}");
    let read = http::metrics(node, METRICS)?;
    println!("{}", read.families().collect::<Vec<_>>().join(" "));
    let is = |name: &str, labels: &[(&str, &str)], expected: f64| {
        let value = read.value(name, labels);
        ensure!(value == Some(expected), "{name} {labels:?} is {value:?}, not {expected}");
        Ok(())
    };
    is("cambric_bgp_session_up", &[("peer", "f1"), ("address", "192.0.2.0")], 1.0)?;
    is("cambric_bgp_session_flaps_total", &[("peer", "f1"), ("address", "192.0.2.0")], 0.0)?;
    is("cambric_bgp_sessions", &[("kind", "other"), ("state", "up")], 2.0)?;
    is("cambric_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0)?;
    is("cambric_ready", &[], 1.0)?;
    is("cambric_routing_ready", &[], 1.0)?;
    is("cambric_ipam_blocks", &[], 1.0)?;
    is("cambric_ipam_granted", &[("block", "198.51.100.0/26,2001:db8:100::/64")], 1.0)?;
    is("cambric_policy_in_sync", &[], 1.0)?;
    is("cambric_problems", &[], 0.0)?;
    ensure!(read.series("cambric_metrics_missing").count() == 0, "a part has not answered");
    let at_least = |name: &str, labels: &[(&str, &str)], least: f64| {
        let value = read.value(name, labels);
        ensure!(
            value.is_some_and(|value| value >= least),
            "{name} {labels:?} is {value:?}, less than {least}"
        );
        Ok(())
    };
    at_least("cambric_bgp_prefixes", &[("direction", "sent"), ("family", "ipv4")], 1.0)?;
    at_least("cambric_routes", &[("kind", "unreachable"), ("family", "ipv6")], 1.0)?;
    at_least("cambric_policy_apply_seconds_count", &[], 1.0)?;
    at_least("cambric_cni_request_seconds_count", &[("command", "ADD"), ("result", "success")], 1.0)?;
    at_least("process_resident_memory_bytes", &[], 1e6)?;
    at_least("process_start_time_seconds", &[], 1e9)?;
    at_least("process_cpu_seconds_total", &[], 0.0)
}

fn odd_requests_are_answered(node: &Node) -> Result<()> {
    let code = |port, request: &str| {
        let answer = ask(node, port, request)?;
        Ok::<_, anyhow::Error>(answer.split(' ').nth(1).unwrap_or_default().to_owned())
    };
    ensure!(code(HEALTH, "GET / HTTP/1.1\r\nhost: a\r\n\r\n")? == "404");
    ensure!(code(HEALTH, "GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n")? == "404");
    ensure!(code(METRICS, "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")? == "404");
    ensure!(code(HEALTH, "POST /healthz HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n")? == "405");
    ensure!(code(HEALTH, "HEAD /readyz HTTP/1.1\r\nhost: a\r\n\r\n")? == "200");
    ensure!(code(HEALTH, "nonsense\r\n\r\n")? == "400");
    let long = format!("GET /healthz HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(32 * 1024));
    ensure!(code(HEALTH, &long)? == "431");
    Ok(())
}

/// More of them than the daemon has places for.
fn silent_clients_keep_nobody_out(node: &Node) -> Result<()> {
    let connect = |port: u16| TcpStream::connect((Ipv4Addr::LOCALHOST, port));
    let silent = node.in_netns(|| {
        let half = |port| {
            let mut stream = connect(port)?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\n")?;
            Ok(stream)
        };
        (0..400)
            .map(|number| if number % 2 == 0 { connect(HEALTH) } else { half(METRICS) })
            .collect::<io::Result<Vec<_>>>()
    })??;
    for _ in 0..20 {
        let answer = get(node, HEALTH, "/healthz")?;
        ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        http::metrics(node, METRICS)?;
    }
    println!("20 probes and scrapes were answered beside {} silent clients", silent.len());
    Ok(())
}

fn the_log_can_be_turned(node: &Node) -> Result<()> {
    let set = fabric::ask(node, &["log", "cambric_bgp=debug,info"])?;
    ensure!(set["code"] == 25 && set["log"]["filter"] == "cambric_bgp=debug,info", "{set}");
    ensure!(fabric::ask(node, &["log"])?["log"]["default"] == "info");
    let refused = node.run(&["cambric", "log", "cambric_bgp=loud"])?;
    let says = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1) && says.contains("there is no level `loud`"), "{says}");
    ensure!(fabric::ask(node, &["log"])?["log"]["filter"] == "cambric_bgp=debug,info");
    let back = fabric::ask(node, &["log", "default"])?;
    ensure!(back["log"]["filter"] == "info", "{back}");
    let log = fs::read_to_string(node.log("cambricd.log"))?;
    ensure!(log.contains("an operator sets what is logged"), "{log}");
    Ok(())
}

fn a_switch_that_is_away_changes_neither(lab: &Lab, node: &Node) -> Result<()> {
    lab.node("f1")?.kill("bgpd", Signal::SIGKILL)?;
    poll::until("the sessions to be down", LIMIT, || established(node) == 0)?;
    let labels = [("peer", "f1"), ("address", "192.0.2.0")];
    poll::until("the metrics to say so", LIMIT, || {
        http::metrics(node, METRICS).is_ok_and(|read| {
            read.value("cambric_bgp_session_up", &labels) == Some(0.0)
                && read.value("cambric_bgp_session_flaps_total", &labels) == Some(1.0)
                && read.value("cambric_bgp_sessions_lost_total", &[]) == Some(2.0)
        })
    })?;
    the_node_is_healthy_and_ready(node)
}

fn a_port_that_is_taken_is_told_and_tried_again(node: &Node) -> Result<()> {
    node.kill(CAMBRICD, Signal::SIGTERM)?;
    poll::until("the daemon to end", LIMIT, || node.daemon_pid(CAMBRICD).is_none())?;
    // A process that ends has no name any more before its sockets are closed (kernel/exit.c).
    let other = poll::until_some("the port to be free", LIMIT, || {
        Ok(node.in_netns(|| TcpListener::bind((Ipv4Addr::LOCALHOST, METRICS)))?.ok())
    })?;
    node.start()?;
    let problem = poll::until_some("a problem that names flag and address", LIMIT, || {
        // It may not listen yet.
        let problems = status(node).unwrap_or_default()["problems"].as_array().cloned().unwrap_or_default();
        let mut problems = problems.iter().filter_map(Value::as_str);
        let is_told =
            |problem: &&str| problem.contains("--metrics-port: 127.0.0.1:9179 cannot be listened on");
        Ok(problems.find(is_told).map(str::to_owned))
    })?;
    println!("{problem}");
    poll::until("readiness without the switch", LIMIT, || {
        get(node, HEALTH, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
    })?;
    drop(other);
    poll::until("metrics on the port that is free again", LIMIT, || http::metrics(node, METRICS).is_ok())?;
    poll::until("no such problem any more", LIMIT, || {
        status(node).is_ok_and(|status| !status["problems"].to_string().contains("--metrics-port"))
    })
}

fn status(node: &Node) -> Result<Value> {
    Ok(fabric::ask(node, &["show", "status"])?["status"].take())
}

fn established(node: &Node) -> u64 {
    status(node).ok().and_then(|status| status["peers_established"].as_u64()).unwrap_or(0)
}
