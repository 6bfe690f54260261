//! The folder of manifests, and what the daemon leaves behind: `labs/one-switch`.
//!
//! ```text
//!    f1  FRR  65001, its sessions configured
//!     |
//!    c1  Cambric  65100, without a peer until a manifest names one; one pod
//! ```
//!
//! Proves:
//! - manifests apply while the daemon runs: a peer that is added comes up, one that is removed goes;
//! - a file that is broken, or contradicts another, counts as it was before, all others as they are, and `show status`
//!   names file, object, field and reason; a pipe that nobody writes to is one of them, and `configure check` ends on it;
//! - a daemon that is started anew while a file is broken goes on with what it said before;
//! - SIGTERM leaves kernel routes, CNI configuration and pods, and the pod is reached all the time (RFC 4724);
//! - a second daemon on the node ends and says why;
//! - the control socket is for root only.

mod common;

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cambric_lab::place::Place;
use cambric_lab::reach::{Client, Echo, matrix};
use cambric_lab::{Lab, Node, cni, fabric, poll};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;

use common::{LabFolder, Need, PEERS_OF_ONE_SWITCH, in_lab, machine_has};

const LIMIT: Duration = Duration::from_secs(30);

const CAMBRICD: &str = "cambricd";

/// The node's pod ranges.
const OWN: [&str; 2] = ["198.51.100.0/26", "2001:db8:100::/64"];

/// Files that cannot be taken, and what must be said of each.
const BROKEN: [(&str, &str, &[&str]); 6] = [
    (
        "unknown-field.yaml",
        "apiVersion: cambric.dev/v1alpha1\nkind: BGPPeerConfig\nmetadata: { name: other }\nspec: { holdTime: 9 }\n",
        &["BGPPeerConfig other", "unknown-field.yaml, document 1", "unknown field `holdTime`"],
    ),
    (
        "wrong-value.yaml",
        "apiVersion: cambric.dev/v1alpha1\nkind: BGPClusterConfig\nmetadata: { name: x }\nspec: { podCIDRs: [ten] }\n",
        &["BGPClusterConfig x", "spec.podCIDRs[0]", "\"ten\""],
    ),
    (
        // Sorts before the files of the lab, and is younger all the same.
        "0-another-node.yaml",
        "apiVersion: v1\nkind: Node\nmetadata: { name: c2 }\nspec: { podCIDRs: [198.51.100.0/24] }\n",
        &["Node c2", "spec.podCIDRs[0]: 198.51.100.0/24", "Conflicted", "198.51.100.0/26 of", "Node c1"],
    ),
    (
        "0-same-name.yaml",
        "apiVersion: v1\nkind: Node\nmetadata: { name: c1 }\nspec: { podCIDRs: [203.0.113.0/24] }\n",
        &["0-same-name.yaml, document 1: Node c1: metadata.name", "Conflicted", "has the same"],
    ),
    ("not-yaml.yaml", "apiVersion: v1\nkind: [Node\n", &["not-yaml.yaml, document 1", "line"]),
    (
        "wrong-rule.yaml",
        "apiVersion: cambric.dev/v1alpha1\nkind: BGPFilter\nmetadata: { name: f }\nspec: { rules: [{ action: Accept, set: { prepend: 17 } }] }\n",
        &["BGPFilter f", "wrong-rule.yaml", "spec.rules[0].set.prepend: 17: 1 to 16"],
    ),
];

#[test]
fn manifests_apply_at_once_and_stopping_is_not_leaving() {
    if !machine_has(&[Need::Root, Need::Frr, Need::Cambric]) {
        return;
    }
    let folder = LabFolder::copy_of("labs/one-switch");
    in_lab(&folder, |lab| {
        the_control_socket_is_for_root(lab)?;
        a_peer_comes_and_goes_with_its_manifest(lab, &folder)?;
        broken_files_are_named_and_the_others_count(lab, &folder)?;
        a_second_daemon_ends_and_says_why(lab)?;
        sigterm_leaves_all_that_forwards(lab, &folder)
    });
}

fn the_control_socket_is_for_root(lab: &Lab) -> Result<()> {
    let node = lab.node("c1")?;
    let socket = fs::metadata(node.path("/run/cambric/cambricd.sock")).context("the control socket")?;
    ensure!(socket.file_type().is_socket(), "not a socket");
    ensure!((socket.uid(), socket.mode() & 0o777) == (0, 0o600), "{} {:o}", socket.uid(), socket.mode());
    println!("control socket: of root, mode 0600");
    Ok(())
}

fn a_peer_comes_and_goes_with_its_manifest(lab: &Lab, folder: &LabFolder) -> Result<()> {
    let (node, switch) = (lab.node("c1")?, lab.node("f1")?);
    let pid = node.daemon_pid(CAMBRICD);
    for time in ["first", "second"] {
        ensure!(status(&node)?["peers_total"] == 0, "there is a peer");
        let start = Instant::now();
        folder.write("manifests/peers.yaml", PEERS_OF_ONE_SWITCH);
        poll::until("both sessions", LIMIT, || established(&node) == 2 && fabric::is_whole(&node))?;
        for prefix in OWN {
            poll::until(&format!("{prefix} at f1"), LIMIT, || knows(&switch, prefix))?;
        }
        println!(
            "peers are named, the {time} time: Established, own ranges told after {:.1?}",
            start.elapsed()
        );
        if time == "first" {
            let start = Instant::now();
            fs::remove_file(folder.path().join("manifests/peers.yaml"))?;
            for prefix in OWN {
                poll::until(&format!("{prefix} to leave f1"), LIMIT, || !knows(&switch, prefix))?;
            }
            println!(
                "peers are gone from the manifests: own ranges gone from f1 after {:.1?}",
                start.elapsed()
            );
        }
    }
    ensure!(node.daemon_pid(CAMBRICD) == pid, "the daemon has been restarted");
    Ok(())
}

fn broken_files_are_named_and_the_others_count(lab: &Lab, folder: &LabFolder) -> Result<()> {
    let node = lab.node("c1")?;
    let sessions_before = sessions(&node)?;
    for (file, text, words) in BROKEN {
        folder.write(&format!("manifests/{file}"), text);
        println!("{file}: {}", problem(&node, words)?);
    }
    // The file that names the peers, too: what it said before goes on.
    for (good, bad, word) in [
        ("asn: 65001", "asn: many", "spec.peers[0].asn: invalid type: string \"many\""),
        ("asn: 65001", "asn: 0", "spec.peers[0].asn: 0"),
        ("192.0.2.0", "192.0.2.101", "Conflicted: the node's own address"),
        (
            "peerConfig: switch",
            "peerConfig: swich",
            "\"swich\" (peer f1): no BGPPeerConfig of this name counts",
        ),
        (PEERS_OF_ONE_SWITCH, "", "there is nothing in it"),
    ] {
        folder.write("manifests/peers.yaml", &PEERS_OF_ONE_SWITCH.replace(good, bad));
        println!("{}", problem(&node, &["peers.yaml", word, "it counts as it was before"])?);
        ensure!(established(&node) == 2, "a broken file has cost a session");
    }
    folder.write("manifests/peers.yaml", PEERS_OF_ONE_SWITCH);
    a_pipe_is_no_manifest(&node, folder)?;
    all_manifests_are_gone_for_a_moment(&node, folder)?;
    for (file, ..) in BROKEN {
        fs::remove_file(folder.path().join("manifests").join(file))?;
    }
    poll::until("no problem any more", LIMIT, || {
        status(&node).is_ok_and(|status| status["problems"].as_array().is_some_and(Vec::is_empty))
    })?;
    ensure!(sessions(&node)? == sessions_before, "sessions were interrupted");
    Ok(())
}

/// Nobody ever writes to it.
fn a_pipe_is_no_manifest(node: &Node, folder: &LabFolder) -> Result<()> {
    let pipe = folder.path().join("manifests/0-pipe.yaml");
    mkfifo(&pipe, Mode::S_IRWXU)?;
    println!("{}", problem(node, &["0-pipe.yaml", "it is no regular file"])?);
    let check = String::from_utf8_lossy(&node.run(&["cambric", "configure", "check"])?.stdout).into_owned();
    ensure!(check.contains("0-pipe.yaml"), "`configure check` says {check}");
    ensure!(established(node) == 2, "a pipe has cost a session");
    Ok(fs::remove_file(pipe)?)
}

/// As with `rm *` and an archive that is unpacked.
fn all_manifests_are_gone_for_a_moment(node: &Node, folder: &LabFolder) -> Result<()> {
    let (here, aside) = (folder.path().join("manifests"), folder.path().join("aside"));
    fs::create_dir(&aside)?;
    let files = fs::read_dir(&here)?.collect::<io::Result<Vec<_>>>()?;
    for file in &files {
        fs::rename(file.path(), aside.join(file.file_name()))?;
    }
    println!("{}", problem(node, &["there is no manifest in it any more", "all counts as it was before"])?);
    ensure!(established(node) == 2, "an empty folder has cost a session");
    for file in &files {
        fs::rename(aside.join(file.file_name()), file.path())?;
    }
    Ok(fs::remove_dir(aside)?)
}

/// Waits for a problem that has all these words.
fn problem(node: &Node, words: &[&str]) -> Result<String> {
    poll::until_some(&format!("a problem that says {words:?}"), LIMIT, || {
        let problems = status(node)?["problems"].as_array().cloned().unwrap_or_default();
        let mut problems = problems.iter().filter_map(Value::as_str);
        Ok(problems.find(|problem| words.iter().all(|word| problem.contains(word))).map(str::to_owned))
    })
}

fn a_second_daemon_ends_and_says_why(lab: &Lab) -> Result<()> {
    let node = lab.node("c1")?;
    let pid = node.daemon_pid(CAMBRICD);
    let output = node.run(&[CAMBRICD, "--node", "c1", "--source", "dir:/etc/cambric/manifests"])?;
    let says = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    ensure!(!output.status.success(), "it ended well");
    ensure!(says.ends_with("another cambricd holds /run/cambric/cambricd.lock"), "it says: {says}");
    ensure!(node.daemon_pid(CAMBRICD) == pid && fabric::is_whole(&node), "the first one has suffered");
    println!("a second cambricd: {}, {says}", output.status);
    Ok(())
}

fn sigterm_leaves_all_that_forwards(lab: &Lab, folder: &LabFolder) -> Result<()> {
    let (node, switch, pod) = (lab.node("c1")?, lab.node("f1")?, lab.pod("c1", "c1-1")?);
    let mut servers = Vec::new();
    for address in pod.addresses()? {
        servers.push(Echo::start(&pod, address)?);
    }
    let sources = ["192.0.2.0", "2001:db8:0:1::"].map(|text| text.parse());
    let sources = sources.into_iter().collect::<Result<Vec<_>, _>>()?;
    let client = [Client { place: &switch as &dyn Place, sources }];
    let wrong = || matrix(&client, &servers, Duration::from_secs(2));
    poll::until("the pod to answer the switch", LIMIT, || wrong().is_empty())?;

    let left = || Ok::<_, anyhow::Error>((routes(&node)?, fs::read(node.path(cni::CONFLIST))?));
    let before = left()?;
    node.kill(CAMBRICD, Signal::SIGTERM)?;
    poll::until("the daemon to end", LIMIT, || node.daemon_pid(CAMBRICD).is_none())?;
    let says = "SIGTERM: stopping; routes, pods and configuration stay";
    ensure!(fs::read_to_string(node.log("cambricd.log"))?.contains(says), "it does not say: {says}");
    poll::until("the switch to notice", LIMIT, || {
        OWN.iter().all(|prefix| fabric::is_stale_at(&switch, prefix))
    })?;
    ensure!(left()? == before, "routes or the CNI configuration changed: {:?}, before {before:?}", left()?);
    let wrong = wrong();
    ensure!(wrong.is_empty(), "{wrong:#?}");
    println!(
        "SIGTERM: routes and CNI configuration as before, the pod answers the switch by UDP and TCP, both families"
    );
    println!("{}", before.0.trim_end());
    folder.write("manifests/peers.yaml", &PEERS_OF_ONE_SWITCH.replace("asn: 65001", "asn: many"));
    node.start()?;
    poll::until("the node to be whole again", LIMIT, || established(&node) == 2 && fabric::is_whole(&node))?;
    let said = problem(&node, &["peers.yaml", "\"many\"", "it counts as it was before"])?;
    println!("peers.yaml was broken meanwhile; a new daemon has both sessions and says: {said}");
    folder.write("manifests/peers.yaml", PEERS_OF_ONE_SWITCH);
    ensure!(left()? == before, "routes or the CNI configuration changed");
    Ok(())
}

fn status(node: &Node) -> Result<Value> {
    Ok(fabric::ask(node, &["show", "status"])?["status"].take())
}

fn established(node: &Node) -> u64 {
    status(node).ok().and_then(|status| status["peers_established"].as_u64()).unwrap_or(0)
}

/// The ports of the node's sessions: a session that was interrupted has others.
fn sessions(node: &Node) -> Result<String> {
    let text = node.run_ok(&["ss", "-Htn", "state", "established", "( sport = :179 or dport = :179 )"])?;
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    Ok(lines.join("\n"))
}

fn knows(switch: &Node, prefix: &str) -> bool {
    let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
    let command = format!("show bgp {family} unicast {prefix} json");
    let text = switch.run_ok(&["vtysh", "-c", &command]).unwrap_or_default();
    serde_json::from_str::<Value>(&text).is_ok_and(|route| route["paths"].is_array())
}

/// What the daemon (203) and the plugin (204) have put into the kernel.
fn routes(node: &Node) -> Result<String> {
    let mut all = String::new();
    for (family, protocol) in [("-4", "203"), ("-4", "204"), ("-6", "203"), ("-6", "204")] {
        all += &node.run_ok(&["ip", family, "route", "show", "table", "all", "proto", protocol])?;
    }
    Ok(all)
}
