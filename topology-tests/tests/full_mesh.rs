//! Nodes on one L2 segment, without a switch and without any BGP object: `containerlab/full-mesh`.
//!
//! ```text
//!     n1     n2     n3     n4      Cambric, AS 64512 by default
//!      |      |      |      |
//!    --+------+------+------+--    172.16.0.0/24, fd00:172:16::/64
//! ```
//!
//! Proves:
//! - Node objects alone make an iBGP mesh in both families, with routes straight to the other node's address;
//! - a node joins by its Node object, leaves with it, has its daemon killed, or loses power: the others, that talk at
//!   1 kHz meanwhile, lose no packet;
//! - a node that left while its daemon goes on dialling is not listened to;
//! - a node whose address is not on a link of ours is refused by name of the reason.

mod common;

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cambric_lab::fabric::{self, RECOVERY};
use cambric_lab::flow::{Flow, Report};
use cambric_lab::links::Carrier;
use cambric_lab::{Lab, Node, cni, poll};
use nix::sys::signal::Signal;
use serde_json::Value;

use common::operator::{established, peers, sessions, type_in};
use common::{LabFolder, Need, in_lab, machine_has};

const CAMBRICD: &str = "cambricd";

/// Packets of each flow over which a node that left is seen to be left alone.
const WATCHED: u32 = 5000;

/// Flows go on this long after a change, so that a late loss is seen.
const AFTER: u32 = 1000;

/// The hold time of a mesh is 90 s.
const HOLD_LIMIT: Duration = Duration::from_secs(150);

/// The nodes that are there all the time; n4 comes and goes.
const OTHERS: [&str; 3] = ["n1", "n2", "n3"];
const ALL: [&str; 4] = ["n1", "n2", "n3", "n4"];

#[test]
fn nodes_come_and_go_in_a_mesh_without_a_loss_for_the_others() {
    if !machine_has(&[Need::Root, Need::Cambric]) {
        return;
    }
    let (folder, manifest) = lab_that_lacks_the_object_of_n4();
    in_lab(&folder, |lab| {
        let start = Instant::now();
        be_meshed(lab, &OTHERS)?;
        println!("n1, n2 and n3 are meshed {:.1?} after the lab was up", start.elapsed());
        ensure!(established(&lab.node("n4")?).is_empty(), "n4 has a session before it has a Node object");

        while_others_talk(lab, "n4 joins", || joins(lab, &folder, &manifest))?;
        is_a_mesh(lab)?;
        while_others_talk(lab, "n4 leaves, its daemon goes on", || leaves(lab, &folder))?;
        while_others_talk(lab, "n4 comes back", || {
            let start = Instant::now();
            folder.write("manifests/n4.yaml", &manifest);
            be_meshed(lab, &ALL)?;
            println!("  meshed {:.1?} after its file was there", start.elapsed());
            Ok(())
        })?;
        while_others_talk(lab, "cambricd of n4 is killed and started", || daemon_is_killed(lab))?;
        while_others_talk(lab, "n4 loses power", || loses_power(lab, &folder))?;
        while_others_talk(lab, "n4 gets power", || gets_power(lab, &folder, &manifest))?;
        everybody_reaches_everybody(lab)
    });
}

/// The fourth node has no pods either until it has its ranges. Its manifest is given for later.
fn lab_that_lacks_the_object_of_n4() -> (LabFolder, String) {
    let folder = LabFolder::copy_of("../containerlab/full-mesh");
    let file = folder.path().join("full-mesh.clab.yml");
    let text = fs::read_to_string(&file).expect("the lab file");
    let changed = text.replace("    n4:\n", "    n4:\n      labels: { cambric.dev/pods: \"0\" }\n");
    assert_ne!(text, changed, "n4 is in the file");
    fs::write(file, changed).expect("writing the lab file");
    let manifest = folder.path().join("manifests/n4.yaml");
    let text = fs::read_to_string(&manifest).expect("the manifest");
    fs::remove_file(manifest).expect("removing the manifest");
    (folder, text)
}

/// Has pods of the nodes that stay talk while something happens to n4; they must lose neither packet nor session.
fn while_others_talk(lab: &Lab, what: &str, happens: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("\n== {what}, while pods of n1, n2 and n3 talk at 1 kHz");
    let mut flows = fabric::start_flows(&lab.pod("n1", "n1-1")?, &lab.pod("n2", "n2-1")?)?;
    flows.extend(fabric::start_flows(&lab.pod("n3", "n3-1")?, &lab.pod("n1", "n1-2")?)?);
    let before = sessions_of_the_others(lab)?;
    happens().with_context(|| what.to_owned())?;
    fabric::send_more(&flows, AFTER)?;
    lose_nothing("n1 to n2, n3 to n1", fabric::stop_flows(flows)?)?;
    let after = sessions_of_the_others(lab)?;
    ensure!(before == after, "{what}: others have had to begin again: {before:#?}, now {after:#?}");
    Ok(())
}

/// Both ends of each session between the nodes that stay.
fn sessions_of_the_others(lab: &Lab) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for name in OTHERS {
        let is_of_n4 = |line: &String| routes_to("n4").iter().any(|(.., address)| line.contains(address));
        all.extend(sessions(&lab.node(name)?)?.into_iter().filter(|line| !is_of_n4(line)));
    }
    ensure!(all.len() == 2 * OTHERS.len() * (OTHERS.len() - 1), "sessions of the others: {all:#?}");
    Ok(all)
}

fn lose_nothing(who: &str, reports: Vec<Report>) -> Result<()> {
    let lost: Vec<u32> = reports.iter().map(|report| report.lost).collect();
    let sent: u32 = reports.iter().map(|report| report.sent).sum();
    println!("  {who}: packets lost, by flow (two of IPv4, two of IPv6 a pair): {lost:?} of {sent} in all");
    ensure!(lost.iter().all(|lost| *lost == 0), "{who}: packets lost: {reports:#?}");
    Ok(())
}

fn joins(lab: &Lab, folder: &LabFolder, manifest: &str) -> Result<()> {
    let node = lab.node("n4")?;
    let start = Instant::now();
    folder.write("manifests/n4.yaml", manifest);
    be_meshed(lab, &ALL)?;
    println!("  its sessions and routes are there {:.1?} after its file", start.elapsed());
    let conflist = node.path(cni::CONFLIST);
    poll::until("the CNI configuration of n4", RECOVERY, || conflist.exists())?;
    println!("  pods can start after {:.1?}", start.elapsed());
    for name in ["n4-1", "n4-2"] {
        lab.add_pod("n4", name)?;
    }
    Ok(())
}

fn is_a_mesh(lab: &Lab) -> Result<()> {
    fabric::whole(lab, RECOVERY)?;
    let node = lab.node("n1")?;
    type_in(&node, "cambric show protocols")?;
    type_in(&node, "cambric show route")?;
    type_in(&node, "ip route show proto 203")?;
    type_in(&node, "ip -6 route show proto 203")?;
    for name in ALL {
        let own = peers(&lab.node(name)?)?;
        ensure!(own.len() == 2 * (ALL.len() - 1), "{name} has {} peers: {own:#?}", own.len());
        ensure!(own.iter().all(|peer| peer["asn"] == 64512 && peer["kind"] == "internal"), "{own:#?}");
    }
    everybody_reaches_everybody(lab)
}

fn everybody_reaches_everybody(lab: &Lab) -> Result<()> {
    let (questions, wrong) = fabric::reachability(lab)?;
    println!(
        "\nevery pod and node asks every other by UDP and TCP, IPv4 and IPv6: {questions} questions, {} answered with \
         the asker's own address",
        questions - wrong.len()
    );
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

/// The object goes, the daemon stays and knows itself no more; so it does as before, and dials.
fn leaves(lab: &Lab, folder: &LabFolder) -> Result<()> {
    let start = Instant::now();
    fs::remove_file(folder.path().join("manifests/n4.yaml"))?;
    be_meshed(lab, &OTHERS)?;
    println!("  its peers and routes are gone from all others {:.1?} after its file", start.elapsed());

    let gone = lab.node("n4")?;
    let clock = fabric::start_flows(&lab.pod("n1", "n1-1")?, &lab.pod("n3", "n3-2")?)?;
    let end = clock[0].sent() + WATCHED;
    let mut looks = 0;
    while clock[0].sent() < end {
        let sessions = established(&gone);
        ensure!(sessions.is_empty(), "n4 has the sessions {sessions:?}");
        for name in OTHERS {
            ensure!(is_unknown(&lab.node(name)?, "n4"), "{name} listens to n4 again");
        }
        looks += 1;
    }
    println!(
        "  n4 dials on; for {WATCHED} packets more, at {looks} looks, nobody has a session or a route of it"
    );
    type_in(&gone, "cambric show protocols")?;
    type_in(&gone, "cambric show status")?;
    lose_nothing("n1 to n3", fabric::stop_flows(clock)?)
}

/// What n4 itself sends and gets goes on, too.
fn daemon_is_killed(lab: &Lab) -> Result<()> {
    let (node, witness) = (lab.node("n4")?, lab.node("n1")?);
    let flows = flows_of_n4(lab)?;
    let noticed =
        || established(&witness).iter().all(|peer| !peer.starts_with("n4")) && has_sent(&flows, 2000);
    let start = Instant::now();
    fabric::restart(&node, Signal::SIGKILL, noticed)?;
    be_meshed(lab, &ALL)?;
    println!("  away and meshed again within {:.1?}", start.elapsed());
    fabric::send_more(&flows, AFTER)?;
    lose_nothing("n1 to n4, n4 to n2", fabric::stop_flows(flows)?)
}

fn flows_of_n4(lab: &Lab) -> Result<Vec<Flow>> {
    let mut flows = fabric::start_flows(&lab.pod("n1", "n1-1")?, &lab.pod("n4", "n4-1")?)?;
    flows.extend(fabric::start_flows(&lab.pod("n4", "n4-2")?, &lab.pod("n2", "n2-2")?)?);
    Ok(flows)
}

fn has_sent(flows: &[Flow], packets: u32) -> bool {
    flows.iter().all(|flow| flow.sent() > packets)
}

/// No FIN, no NOTIFICATION, and no carrier is lost but that of a port of the segment: only time tells. What it told is
/// kept, for a node that hangs looks the same (RFC 8538), until an operator says that it will not come back.
fn loses_power(lab: &Lab, folder: &LabFolder) -> Result<()> {
    lab.set_link("segment", "to-n4", Carrier::Down)?;
    let start = Instant::now();
    lab.node("n4")?.kill(CAMBRICD, Signal::SIGKILL)?;
    for name in OTHERS {
        let node = lab.node(name)?;
        let has_none = || established(&node).iter().all(|peer| !peer.starts_with("n4"));
        poll::until(&format!("{name}: the sessions with n4 to end"), HOLD_LIMIT, has_none)?;
        for (family, prefix, _) in routes_to("n4") {
            ensure!(!route(&node, family, &prefix).is_empty(), "{name} has let go of {prefix}");
        }
        println!("  {name} has no session with n4 after {:.1?}, and keeps its routes", start.elapsed());
        let of_n4 = |peer: &&Value| peer["name"].as_str().is_some_and(|name| name.starts_with("n4"));
        for peer in peers(&node)?.iter().filter(of_n4) {
            println!("  {name}: {}: {}, {}", peer["name"], peer["state"], peer["last_error"]["what"]);
        }
    }
    let start = Instant::now();
    fs::remove_file(folder.path().join("manifests/n4.yaml"))?;
    be_meshed(lab, &OTHERS)?;
    println!("  its peers and routes are gone from all others {:.1?} after its file", start.elapsed());
    Ok(())
}

fn gets_power(lab: &Lab, folder: &LabFolder, manifest: &str) -> Result<()> {
    let start = Instant::now();
    folder.write("manifests/n4.yaml", manifest);
    lab.set_link("segment", "to-n4", Carrier::Up)?;
    lab.node("n4")?.start()?;
    be_meshed(lab, &ALL)?;
    println!("  meshed again after {:.1?}", start.elapsed());
    Ok(())
}

/// Waits until each of the named nodes peers with all others of them and nobody else, in both families, and has a route
/// straight to the pods of each.
fn be_meshed(lab: &Lab, names: &[&str]) -> Result<()> {
    for name in names {
        let node = lab.node(name)?;
        let others: Vec<&str> = names.iter().copied().filter(|other| other != name).collect();
        let gone = ALL.iter().filter(|other| !names.contains(other));
        let meshed = || {
            has_sessions_with(&node, &others)
                && others.iter().all(|other| has_routes_straight_to(&node, other))
                && gone.clone().all(|other| is_unknown(&node, other))
        };
        poll::until(
            &format!("{name}: a session in each family with {others:?} only, and their routes"),
            RECOVERY,
            meshed,
        )?;
    }
    Ok(())
}

fn has_sessions_with(node: &Node, others: &[&str]) -> bool {
    let mut wanted: Vec<String> =
        others.iter().flat_map(|name| [(*name).to_owned(), format!("{name}-v6")]).collect();
    wanted.sort();
    established(node) == wanted && peers(node).is_ok_and(|peers| peers.len() == wanted.len())
}

fn has_routes_straight_to(node: &Node, other: &str) -> bool {
    routes_to(other).iter().all(|(family, prefix, address)| {
        route(node, family, prefix).contains(&format!("{prefix} via {address} dev eth1 proto 203"))
    })
}

/// Whether the node has no peer and no route of another one.
fn is_unknown(node: &Node, other: &str) -> bool {
    let names = [other.to_owned(), format!("{other}-v6")];
    let is_other = |peer: &Value| names.iter().any(|name| peer["name"] == **name);
    let no_peer = peers(node).is_ok_and(|peers| !peers.iter().any(is_other));
    no_peer && routes_to(other).iter().all(|(family, prefix, _)| route(node, family, prefix).is_empty())
}

/// Family, pod range and address of a node, as the manifests have them.
fn routes_to(name: &str) -> [(&'static str, String, String); 2] {
    let number = name.trim_start_matches('n');
    [
        ("-4", format!("10.244.{number}.0/24"), format!("172.16.0.{number}")),
        ("-6", format!("fd00:10:244:{number}::/64"), format!("fd00:172:16::{number}")),
    ]
}

fn route(node: &Node, family: &str, prefix: &str) -> String {
    node.run_ok(&["ip", family, "route", "show", prefix]).unwrap_or_default()
}

/// ```text
///   a --- gate --- b     one AS, a mesh by default; a and b have no link in common
/// ```
#[test]
fn a_node_behind_a_gateway_is_refused_by_reason() {
    if !machine_has(&[Need::Root, Need::Cambric]) {
        return;
    }
    in_lab(&two_nodes_and_a_gateway(), |lab| {
        let node = lab.node("a")?;
        poll::until("both sessions, over the gateway", RECOVERY, || established(&node) == ["b", "b-v6"])?;
        for (prefix, gateway) in [("198.51.100.64/26", "192.0.2.0"), ("2001:db8:101::/64", "2001:db8:0:1::")]
        {
            let path = poll::until_some("a route that is refused", RECOVERY, || refused(&node, prefix))?;
            ensure!(
                (path["reason"] == "NextHopNotOnLink") && (path["behind"] == gateway),
                "{prefix}: {path}"
            );
        }
        type_in(&node, "cambric show protocols")?;
        type_in(&node, "cambric show route refused")?;
        for family in ["-4", "-6"] {
            let text = node.run_ok(&["ip", family, "route", "show", "proto", "203"])?;
            ensure!(!text.contains(" via "), "routes are in the kernel all the same: {text}");
        }
        Ok(())
    });
}

fn refused(node: &Node, prefix: &str) -> Result<Option<Value>> {
    let address: IpAddr = prefix.split('/').next().unwrap_or_default().parse()?;
    let answer = fabric::ask(node, &["show", "route", "for", &address.to_string(), "all"])?;
    let paths =
        answer["routes"].as_array().into_iter().flatten().filter_map(|route| route["paths"].as_array());
    Ok(paths.flatten().find(|path| path["verdict"] == "refused").cloned())
}

fn two_nodes_and_a_gateway() -> LabFolder {
    let folder = LabFolder::new(
        "gateway",
        "  defaults: { kind: linux }
  groups:
    node:
      image: cambric
      binds: ['manifests:/etc/cambric/manifests:ro']
  nodes:
    gate: { image: alpine, sysctls: { net.ipv4.ip_forward: 1, net.ipv6.conf.all.forwarding: 1 } }
    a:
      group: node
      exec:
      - ip route add 192.0.2.2/31 via 192.0.2.0
      - 'ip route add 2001:db8:0:2::/127 via 2001:db8:0:1::'
    b:
      group: node
      exec:
      - ip route add 192.0.2.0/31 via 192.0.2.2
      - 'ip route add 2001:db8:0:1::/127 via 2001:db8:0:2::'
  links:
  - { endpoints: ['gate:a', 'a:eth1'], ipv4: [192.0.2.0/31, 192.0.2.1/31], ipv6: ['2001:db8:0:1::/127', '2001:db8:0:1::1/127'] }
  - { endpoints: ['gate:b', 'b:eth1'], ipv4: [192.0.2.2/31, 192.0.2.3/31], ipv6: ['2001:db8:0:2::/127', '2001:db8:0:2::1/127'] }
",
    );
    fs::create_dir(folder.path().join("manifests")).expect("a folder");
    let nodes = [
        ("a", "198.51.100.0/26", "2001:db8:100::/64", "192.0.2.1", "2001:db8:0:1::1"),
        ("b", "198.51.100.64/26", "2001:db8:101::/64", "192.0.2.3", "2001:db8:0:2::1"),
    ];
    for (name, v4, v6, address4, address6) in nodes {
        folder.write(
            &format!("manifests/{name}.yaml"),
            &format!(
                "apiVersion: v1\nkind: Node\nmetadata: {{ name: {name} }}\nspec: {{ podCIDRs: [{v4}, \"{v6}\"] }}\nstatus:\n  \
                 addresses:\n  - {{ type: InternalIP, address: {address4} }}\n  - {{ type: InternalIP, address: \"{address6}\" }}\n"
            ),
        );
    }
    folder
}

/// Its steps are those of two racks; on this lab there is no TOR that could die.
#[test]
fn the_demo_says_at_once_which_lab_it_is_made_for() {
    let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("../containerlab/full-mesh");
    let output =
        Command::new(env!("CARGO_BIN_EXE_cambric-demo")).arg(lab).output().expect("it can be started");
    let says = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && output.stdout.is_empty(), "it starts: {output:?}");
    assert!(says.contains("lab full-mesh has no n11, n12, n22, tor1a, tor1b"), "{says}");
}
