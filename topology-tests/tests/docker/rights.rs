//! What the daemon does with the rights of the DaemonSet, and what it says when one of them is missing.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cambric_lab::reach::{Client, Echo, matrix};
use cambric_lab::{Node, Pod, cni, fabric, http, place, poll};
use serde_json::json;

use crate::LIMIT;
use crate::cluster::{NewPod, labelled, policy};
use crate::engine::with_docker;
use crate::images;
use crate::rack::{Rack, Running, in_rack};

/// Numbers of `linux/capability.h`.
const CAPABILITIES: [(&str, u32); 3] = [("NET_BIND_SERVICE", 10), ("NET_ADMIN", 12), ("NET_RAW", 13)];

const HEALTH: u16 = 9178;

/// Sessions of a node: two links, both families.
const SESSIONS: usize = 4;

/// How long an answer may take that comes, and how long one is waited for that must not come.
const ANSWER: Duration = Duration::from_secs(1);

#[test]
fn the_image_holds_three_binaries_and_nothing_else() {
    with_docker(|engine| {
        let files = images::files(&engine.docker).expect("the files of the image");
        assert_eq!(files, ["bin/cambric", "bin/cambric-cni", "bin/cambricd"]);
    });
}

#[test]
fn the_image_does_all_it_is_for_with_the_rights_of_the_daemonset() {
    with_docker(|engine| {
        in_rack(engine, "rights", |rack| {
            for node in ["n1", "n2"] {
                let said = rack.install(node)?;
                println!("{node}: {}", said.trim());
            }
            let daemons = [rack.start("n1", None)?, rack.start("n2", None)?];
            let nodes = [rack.node("n1")?, rack.node("n2")?];
            for (daemon, node) in daemons.iter().zip(&nodes) {
                has_the_rights_and_no_other(daemon)?;
                is_ready(node, daemon)?;
            }
            sessions_came_to_port_179(&nodes[0])?;
            routes_are_in_the_kernel(&nodes[0])?;
            sysctls_are_put_back(&nodes[0])?;
            the_socket_answers(&daemons[0])?;
            pods_reach_each_other_unless_denied(rack, &nodes)?;
            tables_and_sets_are_in_the_kernel(&nodes[0])?;
            Ok(())
        });
    });
}

#[test]
fn a_right_that_is_missing_is_named() {
    with_docker(|engine| {
        in_rack(engine, "less", |rack| {
            for capability in ["NET_ADMIN", "NET_BIND_SERVICE"] {
                let daemon = rack.start("n1", Some(capability))?;
                let said =
                    daemon.wait_for(&format!("the capability {capability} is missing: without it "))?;
                poll::until_some(&format!("{} to end", daemon.name), LIMIT, || Ok(daemon.says()?.1))
                    .map(|code| assert_ne!(code, 0, "{said}"))?;
                println!("without {capability}: {}", said.lines().last().unwrap_or_default());
                let announced =
                    rack.node("f1")?.run_ok(&["vtysh", "-c", "show bgp summary established json"])?;
                ensure!(!announced.contains("192.0.2.9"), "n1 peers without {capability}: {announced}");
            }
            // Nothing that is there yet needs it.
            let daemon = rack.start("n1", Some("NET_RAW"))?;
            is_ready(&rack.node("n1")?, &daemon)?;
            let said = daemon.wait_for("a capability is missing; peers by interface")?;
            println!("without NET_RAW: {}", said.lines().next().unwrap_or_default());
            Ok(())
        });
    });
}

fn has_the_rights_and_no_other(daemon: &Running<'_>) -> Result<()> {
    let pid = daemon.pid()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.map(str::trim).with_context(|| format!("no {name} in {status}"))
    };
    let wanted = format!("{:016x}", CAPABILITIES.iter().fold(0_u64, |all, (_, bit)| all | 1 << bit));
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        ensure!(field(set)? == wanted, "{set} is {}, not {wanted}", field(set)?);
    }
    ensure!(field("NoNewPrivs")? == "1", "it may gain privileges");
    ensure!(field("Seccomp")? == "2", "no seccomp filter");
    ensure!(field("Uid")? == "0\t0\t0\t0", "uid {}", field("Uid")?);
    let probe = PathBuf::from(format!("/proc/{pid}/root/probe"));
    let error = fs::write(&probe, "").err().map(|error| error.kind());
    ensure!(error == Some(ErrorKind::ReadOnlyFilesystem), "writing to its root: {error:?}");
    println!("{}: capabilities {wanted}, no new privileges, seccomp filter, read-only root", daemon.name);
    Ok(())
}

fn is_ready(node: &Node, daemon: &Running<'_>) -> Result<()> {
    let ready = || http::get(node, HEALTH, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "));
    let all = || ready() && fabric::is_whole(node);
    poll::until(&format!("/readyz of {} to say ok, its peers Established", node.name()), LIMIT, all)
        .with_context(|| daemon.says().map(|(said, _)| said).unwrap_or_default())
}

/// The nodes do not connect: FRR does.
fn sessions_came_to_port_179(node: &Node) -> Result<()> {
    let first_free = node.run_ok(&["sysctl", "-n", "net.ipv4.ip_unprivileged_port_start"])?;
    ensure!(first_free.trim() == "1024", "anybody may bind port 179 here: {first_free}");
    let connections = node.run_ok(&["ss", "-Htn", "state", "established", "sport", "=", ":179"])?;
    let count = connections.lines().count();
    ensure!(count == SESSIONS, "{count} connections to port 179 of {}: {connections}", node.name());
    println!("{}: {count} sessions Established, FRR connected to port 179", node.name());
    Ok(())
}

fn routes_are_in_the_kernel(node: &Node) -> Result<()> {
    for (family, other) in [("-4", "198.51.100.128/26"), ("-6", "2001:db8:100:2::/64")] {
        let what = format!("a route of {} to {other} by a next-hop object of both links", node.name());
        poll::until_some(&what, LIMIT, || {
            let route = node.run_ok(&["ip", family, "route", "show", other, "proto", "203"])?;
            let Some(id) = route.split_whitespace().skip_while(|word| *word != "nhid").nth(1) else {
                return Ok(None);
            };
            let group = node.run_ok(&["ip", "nexthop", "show", "id", id])?;
            Ok((group.contains("group") && group.contains("proto 203")).then(|| {
                println!("{}: {} ({})", node.name(), route.lines().next().unwrap_or_default(), group.trim());
            }))
        })?;
    }
    Ok(())
}

/// Its own `/proc/sys` is read-only: it writes the node's, by the path it is mounted at.
fn sysctls_are_put_back(node: &Node) -> Result<()> {
    for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        node.run_ok(&["sysctl", "-qw", &format!("{key}=0")])?;
        let back = || node.run_ok(&["sysctl", "-n", key]).is_ok_and(|value| value.trim() == "1");
        poll::until(&format!("{key} of {} to be 1 again", node.name()), LIMIT, back)?;
        println!("{}: {key} turned off from outside came back", node.name());
    }
    Ok(())
}

fn the_socket_answers(daemon: &Running<'_>) -> Result<()> {
    let text = daemon.cambric(&["show", "protocols"])?;
    let established = text.lines().filter(|line| line.contains(" Established ")).count();
    ensure!(established == SESSIONS, "{text}");
    println!("{}", text.trim_end());
    Ok(())
}

fn pods_reach_each_other_unless_denied(rack: &Rack<'_>, nodes: &[Node; 2]) -> Result<()> {
    for node in nodes {
        ensure!(rack.root(node.name()).join(&cni::CONFLIST[1..]).exists(), "{}: no conflist", node.name());
    }
    let cluster = rack.cluster();
    let pod = |node, name, label| cluster.start(NewPod { node, namespace: "default", name, label });
    let (friend, stranger) = (pod("n1", "friend", "app=friend")?, pod("n1", "stranger", "app=stranger")?);
    let server = pod("n2", "server", "app=server")?;
    let echoes: Vec<Echo> = server
        .addresses()?
        .into_iter()
        .map(|address| Echo::start(&server, address))
        .collect::<Result<_>>()?;
    let refused = |pod: &Pod| -> Result<Vec<String>> {
        Ok(matrix(&[Client { place: pod, sources: pod.addresses()? }], &echoes, ANSWER))
    };
    for pod in [&friend, &stranger] {
        poll::until_some(&format!("{} to reach server", pod.name()), LIMIT, || {
            Ok(refused(pod)?.is_empty().then_some(()))
        })?;
    }
    let spec = json!({ "podSelector": labelled("app=server"), "ingress": [{ "from": [{ "podSelector": labelled("app=friend") }] }] });
    cluster.write("policy", &[policy("friends-only", spec)])?;
    cluster.has_policies("n2", 1)?;
    let denied = || Ok((refused(&stranger)?.len() == 2 * echoes.len()).then_some(()));
    poll::until_some("stranger to be denied, by UDP and TCP, IPv4 and IPv6", LIMIT, denied)?;
    // Three in a row: one lost on a busy machine is none that is denied.
    let answered = || Ok(refused(&friend)?.is_empty().then_some(()));
    for _ in 0..3 {
        poll::until_some("friend to be answered all the same", LIMIT, answered)?;
    }
    println!("friend and stranger on n1 reached server on n2; a policy of server denies stranger alone");
    for pod in [friend, stranger, server] {
        pod.check()?;
        pod.del()?;
    }
    Ok(())
}

fn tables_and_sets_are_in_the_kernel(node: &Node) -> Result<()> {
    // The host has no such tool, this machine has.
    let run = |program: &str, words: &[&str]| -> Result<String> {
        let output = place::in_netns(node, || std::process::Command::new(program).args(words).output())??;
        Ok(String::from_utf8(output.stdout)?)
    };
    let tables = run("/usr/sbin/nft", &["list", "tables"])?;
    for family in ["ip", "ip6", "arp"] {
        ensure!(tables.lines().any(|line| line == format!("table {family} cambric")), "{tables}");
    }
    let sets = run("/usr/sbin/ipset", &["list", "-name"])?;
    ensure!(sets.lines().any(|line| line.starts_with("cam4")), "{sets}");
    println!(
        "{}: {}; sets {}",
        node.name(),
        tables.trim().replace('\n', ", "),
        sets.trim().replace('\n', " ")
    );
    Ok(())
}
