//! What an operator sees and does at a node, against what its neighbour says of it: `labs/one-switch`.
//!
//! ```text
//!    f1  FRR  65001, its sessions configured
//!     |
//!    c1  Cambric  65100
//! ```
//!
//! Proves:
//! - `show route export` is what FRR has from the node, `show route import` what FRR told it, `show route refused` what
//!   of it is not used;
//! - an address that nothing leads to is an error, one that only refused paths lead to has a note;
//! - `show status` names the peers on a link that is down, `show protocols all` what a peer is configured for;
//! - `show interfaces` and `show neighbors` are what the kernel says;
//! - `disable` ends a session with Cease/Administrative Shutdown (RFC 4486) and keeps it down over a restart of the
//!   daemon; a peer that is removed meanwhile can be enabled as well; `restart` is Cease/Administrative Reset;
//! - `configure check` tells what would change, and changes nothing.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cambric_lab::{Lab, Node, fabric, poll};
use nix::sys::signal::Signal;
use serde_json::Value;

use common::operator::{established, type_in};
use common::{LabFolder, Need, PEERS_OF_ONE_SWITCH, in_lab, machine_has};

const LIMIT: Duration = Duration::from_secs(30);
const CAMBRICD: &str = "cambricd";

/// What f1 announces besides: of the first of each family the cluster declares the range.
const OF_SWITCH: [(Session, [&str; 2]); 2] =
    [(V4, ["198.51.100.64/26", "203.0.113.0/24"]), (V6, ["2001:db8:100:1::/64", "2001:db8:bad::/48"])];

/// One of the two sessions, and what both ends call it.
#[derive(Debug, Clone, Copy)]
struct Session {
    family: &'static str,
    name: &'static str,
    switch: &'static str,
    node: &'static str,
}

const V4: Session = Session { family: "ipv4", name: "f1", switch: "192.0.2.0", node: "192.0.2.1" };
const V6: Session =
    Session { family: "ipv6", name: "f1-v6", switch: "2001:db8:0:1::", node: "2001:db8:0:1::1" };

#[test]
fn an_operator_sees_and_does_what_the_neighbour_confirms() {
    if !machine_has(&[Need::Root, Need::Frr, Need::Cambric]) {
        return;
    }
    let folder = LabFolder::copy_of("labs/one-switch");
    in_lab(&folder, |lab| {
        begin(lab, &folder)?;
        for (session, _) in OF_SWITCH {
            export_is_what_the_switch_has(lab, session)?;
            import_is_what_the_switch_told(lab, session)?;
        }
        refused_is_what_nobody_declared(lab)?;
        an_address_without_a_way_is_called_so(lab)?;
        links_and_neighbours_are_the_kernels(lab)?;
        peers_behind_a_dead_link_are_problems(lab)?;
        a_check_changes_nothing(lab, &folder)?;
        a_disabled_peer_stays_so_until_it_is_enabled(lab)?;
        a_removed_peer_can_be_enabled(lab, &folder)?;
        a_restart_is_a_reset(lab)
    });
}

fn begin(lab: &Lab, folder: &LabFolder) -> Result<()> {
    let (node, switch) = (lab.node("c1")?, lab.node("f1")?);
    let mut commands = vec!["configure terminal".to_owned()];
    for (_, prefixes) in OF_SWITCH {
        let ip = if prefixes[0].contains(':') { "ipv6" } else { "ip" };
        commands.extend(prefixes.map(|prefix| format!("{ip} route {prefix} blackhole")));
    }
    commands.push("router bgp 65001".to_owned());
    for (session, prefixes) in OF_SWITCH {
        commands.push(format!("address-family {} unicast", session.family));
        commands.extend(prefixes.map(|prefix| format!("network {prefix}")));
        commands.push("exit-address-family".to_owned());
    }
    let mut words = vec!["vtysh"];
    words.extend(commands.iter().flat_map(|command| ["-c", command]));
    switch.run_ok(&words)?;
    folder.write("manifests/peers.yaml", PEERS_OF_ONE_SWITCH);
    both_up(&node)?;
    poll::until("the node to know all that f1 announces", LIMIT, || {
        OF_SWITCH.iter().all(|(session, prefixes)| {
            let known = listed(&node, &["show", "route", "import", session.name]).unwrap_or_default();
            prefixes.iter().all(|prefix| known.contains(*prefix))
        })
    })
}

fn both_up(node: &Node) -> Result<()> {
    poll::until("both sessions, the node whole", LIMIT, || {
        established(node) == [V4.name, V6.name] && fabric::is_whole(node)
    })
}

fn export_is_what_the_switch_has(lab: &Lab, session: Session) -> Result<()> {
    let (node, switch) = (lab.node("c1")?, lab.node("f1")?);
    type_in(&node, &format!("cambric show route export {}", session.name))?;
    let command = format!("show bgp {} unicast neighbors {} routes json", session.family, session.node);
    let has = keys(&vtysh(&switch, &command)?["routes"]);
    let told = listed(&node, &["show", "route", "export", session.name])?;
    ensure!(!told.is_empty() && told == has, "told {told:?}, f1 has {has:?}");
    // A peer may be named by its address as well.
    ensure!(listed(&node, &["show", "route", "export", session.switch])? == told, "by address");
    Ok(())
}

fn import_is_what_the_switch_told(lab: &Lab, session: Session) -> Result<()> {
    let (node, switch) = (lab.node("c1")?, lab.node("f1")?);
    type_in(&node, &format!("cambric show route import {}", session.name))?;
    let command =
        format!("show bgp {} unicast neighbors {} advertised-routes json", session.family, session.node);
    let told = keys(&vtysh(&switch, &command)?["advertisedRoutes"]);
    let listed = listed(&node, &["show", "route", "import", session.name])?;
    ensure!(!told.is_empty() && listed == told, "f1 told {told:?}, the node lists {listed:?}");
    Ok(())
}

fn refused_is_what_nobody_declared(lab: &Lab) -> Result<()> {
    let node = lab.node("c1")?;
    let text = type_in(&node, "cambric show route refused")?;
    for (session, [declared, undeclared]) in OF_SWITCH {
        let refused = fabric::ask(&node, &["show", "route", "refused", session.name])?;
        let path = |prefix: &str| {
            let routes = refused["routes"].as_array()?;
            Some(&routes.iter().find(|route| route["prefix"] == prefix)?["paths"][0])
        };
        let found = path(undeclared).context("it is not refused")?;
        ensure!(found["reason"] == "NotDeclared" && found["peer"] == session.name, "{found}");
        ensure!(path(declared).is_none(), "{declared} is refused");
        let line = text.lines().find(|line| line.starts_with(undeclared)).context("not in the text")?;
        ensure!(line.contains("NotDeclared: the cluster declares no such prefix"), "{line}");
    }
    let counts = fabric::ask(&node, &["show", "route", "count"])?;
    ensure!(counts["code"] == 14 && counts["route-counts"][0]["usable"] == 3, "{counts}");
    Ok(())
}

fn links_and_neighbours_are_the_kernels(lab: &Lab) -> Result<()> {
    let node = lab.node("c1")?;
    type_in(&node, "cambric show interfaces")?;
    type_in(&node, "cambric show neighbors")?;
    node.run_ok(&["ip", "link", "set", "eth1", "mtu", "1400"])?;
    let link = || -> Result<Value> {
        Ok(fabric::ask(&node, &["show", "interfaces", "eth1"])?["interfaces"][0].clone())
    };
    poll::until("the new MTU to be shown", LIMIT, || link().is_ok_and(|link| link["mtu_bytes"] == 1400))?;
    let [link, kernels]: [Value; 2] = [
        link()?,
        serde_json::from_str::<Value>(&node.run_ok(&["ip", "-json", "link", "show", "dev", "eth1"])?)?[0]
            .clone(),
    ];
    ensure!(link["mac"] == kernels["address"] && link["state"] == "up" && link["role"] == "uplink", "{link}");
    ensure!(link["peers"] == serde_json::json!(["f1", "f1-v6"]) && link["routes"] == 2, "{link}");
    let pods = fabric::ask(&node, &["show", "interfaces"])?;
    let pods = pods["interfaces"].as_array().into_iter().flatten().filter(|link| link["role"] == "pod");
    ensure!(pods.count() == 1, "one pod, one link of a pod");

    let text = node.run_ok(&["ip", "-json", "neighbor", "show", "dev", "eth1"])?;
    let kernels: Vec<Value> = serde_json::from_str(&text)?;
    let shown = fabric::ask(&node, &["show", "neighbors", "eth1"])?;
    for session in [V4, V6] {
        let shown =
            shown["neighbors"].as_array().and_then(|all| all.iter().find(|n| n["address"] == session.switch));
        let shown = shown.with_context(|| format!("{} is no neighbour", session.switch))?;
        let kernels =
            kernels.iter().find(|entry| entry["dst"] == session.switch).context("the kernel has none")?;
        ensure!(shown["mac"] == kernels["lladdr"], "{shown} {kernels}");
        ensure!(shown["peer"] == session.name && shown["session"] == "Established", "{shown}");
        ensure!(shown["routes"] == 1 && shown["unusable"].is_null(), "{shown}");
    }
    node.run_ok(&["ip", "link", "set", "eth1", "mtu", "1500"]).map(drop)
}

fn an_address_without_a_way_is_called_so(lab: &Lab) -> Result<()> {
    let node = lab.node("c1")?;
    let text = type_in(&node, "cambric show route for 203.0.113.1")?;
    ensure!(text.contains("no usable route to 203.0.113.1: all that is known is refused"), "{text}");
    let output = node.run(&["cambric", "show", "route", "for", "100.64.0.1"])?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && text.contains("no route to 100.64.0.1"), "{text}");
    let text = type_in(&node, "cambric show route for 198.51.100.65 all")?;
    ensure!(text.contains("Interface:  eth1"), "{text}");
    let text = type_in(&node, &format!("cambric show protocols all {}", V4.name))?;
    ensure!(text.contains("what the cluster declares, at most 20000 a family"), "{text}");
    Ok(())
}

fn peers_behind_a_dead_link_are_problems(lab: &Lab) -> Result<()> {
    let node = lab.node("c1")?;
    let named = || -> Result<Value> {
        Ok(fabric::ask(&node, &["show", "status"])?["status"]["peer_problems"].clone())
    };
    ensure!(named()? == serde_json::json!([]), "{}", named()?);
    node.run_ok(&["ip", "link", "set", "eth1", "down"])?;
    poll::until("both peers to be named", LIMIT, || {
        named().is_ok_and(|lines| {
            let lines: Vec<&str> = lines.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let is_named = |session: Session| {
                let head = format!("peer {} ({}) is down (", session.name, session.switch);
                lines.iter().any(|line| line.starts_with(&head))
            };
            lines.len() == 2 && is_named(V4) && is_named(V6)
        })
    })
    .with_context(|| format!("{:?}", named()))?;
    let text = type_in(&node, "cambric show status")?;
    ensure!(text.contains("Problems:   peer f1 (192.0.2.0) is down ("), "{text}");
    node.run_ok(&["ip", "link", "set", "eth1", "up"])?;
    // The kernel took the addresses of the link with its carrier, unless it was told to keep them.
    both_up(&node)?;
    ensure!(named()? == serde_json::json!([]), "{}", named()?);
    Ok(())
}

fn a_check_changes_nothing(lab: &Lab, folder: &LabFolder) -> Result<()> {
    let node = lab.node("c1")?;
    let text = type_in(&node, "cambric configure check")?;
    ensure!(text.contains("Problems:   none\nChanges:    none\n"), "{text}");
    let new = node.path("/tmp/new");
    fs::create_dir_all(&new)?;
    for entry in fs::read_dir(folder.path().join("manifests"))? {
        let entry = entry?;
        fs::copy(entry.path(), new.join(entry.file_name()))?;
    }
    fs::write(
        new.join("peers.yaml"),
        PEERS_OF_ONE_SWITCH.replace("asn: 65001, peerConfig: switch }\n  -", "asn: 65009 }\n  -"),
    )?;
    let text = type_in(&node, "cambric configure check /tmp/new")?;
    ensure!(text.contains("peer f1: AS 65001 -> 65009"), "{text}");
    fs::write(new.join("peers.yaml"), "kind: [")?;
    let output = node.run(&["cambric", "configure", "check", "/tmp/new"])?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(1) && text.contains("peers.yaml"), "{text}");
    ensure!(established(&node) == [V4.name, V6.name], "a check has cost a session");
    Ok(())
}

fn a_disabled_peer_stays_so_until_it_is_enabled(lab: &Lab) -> Result<()> {
    let (node, switch) = (lab.node("c1")?, lab.node("f1")?);
    let answer = fabric::ask(&node, &["disable", V4.name])?;
    ensure!(answer["code"] == 9 && answer["actions"][0]["outcome"] == "disabled", "{answer}");
    let what = "f1 to be told of a shutdown";
    poll::until(what, LIMIT, || was_told(&switch, V4, "6/2 (Cease/Administrative Shutdown)"))?;
    ensure!(fabric::ask(&node, &["disable", V4.name])?["code"] == 8, "it was disabled");
    is_disabled(&node)?;
    let text = type_in(&node, "cambric show protocols")?;
    ensure!(text.contains("Idle, disabled"), "{text}");
    ensure!(listed(&node, &["show", "route", "import", V4.name])?.is_empty(), "its routes stay");

    node.kill(CAMBRICD, Signal::SIGKILL)?;
    // The last thread of a killed daemon may outlive the first one for a moment.
    let lock = ["flock", "--nonblock", "/run/cambric/cambricd.lock", "true"];
    poll::until("the lock of the killed daemon to be free", LIMIT, || node.run_ok(&lock).is_ok())?;
    node.start()?;
    poll::until("the other session", LIMIT, || established(&node) == [V6.name])?;
    is_disabled(&node)?;
    let text = type_in(&node, "cambric show status")?;
    ensure!(
        text.contains("Notices:    peer f1 (192.0.2.0) is disabled; `enable f1` brings it back"),
        "{text}"
    );

    // By its address, to have tried that, too.
    let answer = fabric::ask(&node, &["enable", V4.switch])?;
    ensure!(answer["code"] == 11 && answer["actions"][0]["peer"] == V4.name, "{answer}");
    both_up(&node)?;
    let status = fabric::ask(&node, &["show", "status"])?;
    ensure!(status["status"]["notices"] == serde_json::json!([]), "{status}");
    ensure!(fabric::ask(&node, &["enable", "all"])?["code"] == 10, "all are enabled");
    Ok(())
}

fn is_disabled(node: &Node) -> Result<()> {
    let peer = fabric::ask(node, &["show", "protocols", V4.name])?["protocols"][0].clone();
    ensure!(peer["state"] == "Idle" && peer["disabled"] == true, "{peer}");
    Ok(())
}

fn a_removed_peer_can_be_enabled(lab: &Lab, folder: &LabFolder) -> Result<()> {
    let node = lab.node("c1")?;
    node.run_ok(&["cambric", "disable", V4.name])?;
    fs::remove_file(folder.path().join("manifests/peers.yaml"))?;
    poll::until("no peer", LIMIT, || peers_total(&node).is_ok_and(|total| total == 0))?;
    let text = type_in(&node, "cambric show status")?;
    ensure!(text.contains("192.0.2.0 (f1) is disabled and no peer now"), "{text}");
    type_in(&node, "cambric enable f1")?;
    let output = node.run(&["cambric", "enable", "f1"])?;
    ensure!(output.status.code() == Some(1), "nobody is called f1 any more");
    folder.write("manifests/peers.yaml", PEERS_OF_ONE_SWITCH);
    both_up(&node)
}

fn peers_total(node: &Node) -> Result<u64> {
    fabric::ask(node, &["show", "status"])?["status"]["peers_total"].as_u64().context("peers_total")
}

fn a_restart_is_a_reset(lab: &Lab) -> Result<()> {
    let (node, switch) = (lab.node("c1")?, lab.node("f1")?);
    let answer = fabric::ask(&node, &["restart", V6.name])?;
    ensure!(answer["code"] == 12, "{answer}");
    let what = "f1 to be told of a reset";
    poll::until(what, LIMIT, || was_told(&switch, V6, "6/4 (Cease/Administrative Reset)"))?;
    both_up(&node)
}

/// Prefixes of a listing.
fn listed(node: &Node, words: &[&str]) -> Result<BTreeSet<String>> {
    let answer = fabric::ask(node, words)?;
    let routes = answer["routes"].as_array().context("no routes in the answer")?;
    Ok(routes.iter().filter_map(|route| route["prefix"].as_str()).map(str::to_owned).collect())
}

fn keys(object: &Value) -> BTreeSet<String> {
    object.as_object().into_iter().flat_map(|object| object.keys().cloned()).collect()
}

fn vtysh(switch: &Node, command: &str) -> Result<Value> {
    let text = switch.run_ok(&["vtysh", "-c", command])?;
    serde_json::from_str(&text).with_context(|| format!("{command}: {text}"))
}

/// Whether FRR's log has a NOTIFICATION of the node with this code. Its record of a neighbour does not keep it: that is
/// swapped when the next connection comes in.
fn was_told(switch: &Node, session: Session, code: &str) -> bool {
    let log = fs::read_to_string(switch.path("/var/log/frr/bgpd.log")).unwrap_or_default();
    log.contains(&format!("NOTIFICATION: received from neighbor {} {code}", session.node))
}
