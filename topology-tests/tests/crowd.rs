//! Five hundred peers at once, as a node of a large mesh has them when it starts.
//!
//! ```text
//!    node  Cambric --- 10.10.0.0/16 ---  500 members of a crowd, one thread (`cambric_lab::crowd`)
//! ```
//!
//! Proves, once with members that all connect at once and once with members that only listen:
//! - every session comes up and stays up, and every member is told the node's own prefix;
//! - the kernel has the prefixes of all members.
//!
//! How long it takes is printed. What it must not take is for `make bench CASE=peers`: here the build is not for speed, and
//! other tests run beside.

mod common;

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cambric_lab::crowd::{Crowd, Opener, Plan};
use cambric_lab::{Lab, poll};

use common::{LabFolder, Need, in_lab, machine_has};

const LIMIT: Duration = Duration::from_secs(120);
const MEMBERS: u16 = 500;
const ASN: u32 = 64512;
const NODE: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 1);
const OWN: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 200, 0, 0), 24);

#[test]
fn five_hundred_peers_connect_at_once_and_hear_of_the_node() {
    with_a_crowd(Opener::Members);
}

#[test]
fn a_node_connects_to_five_hundred_peers() {
    with_a_crowd(Opener::Node);
}

fn with_a_crowd(opener: Opener) {
    if !machine_has(&[Need::Root, Need::Cambric]) {
        return;
    }
    let folder = LabFolder::new(&format!("crowd-{opener:?}").to_lowercase(), &topology());
    fs::create_dir(folder.path().join("manifests")).expect("a folder");
    folder.write("manifests/all.yaml", &manifests());
    in_lab(&folder, |lab| be_up_and_told(lab, opener));
}

/// Members need no addresses of their own: what is routed to them as local is.
fn topology() -> String {
    let mut local = String::new();
    for part in 1..=MEMBERS.div_ceil(200) {
        let _ = writeln!(local, "        - ip route add local 10.10.{part}.0/24 dev lo");
    }
    format!(
        "  kinds:\n    linux:\n      network-mode: none\n  nodes:\n    node:\n      kind: linux\n      image: example/node\n      \
         binds:\n        - manifests:/etc/cambric/manifests:ro\n      exec:\n        - ip address add {NODE}/16 dev eth1\n    \
         crowd:\n      kind: linux\n      image: example/crowd\n      exec:\n        - ip address add 10.10.255.254/16 dev eth1\n\
         {local}  links:\n    - endpoints: [\"node:eth1\", \"crowd:eth1\"]\n"
    )
}

/// Node objects alone: the mesh of a cluster.
fn manifests() -> String {
    let object = |name: &str, address: Ipv4Addr, (pods, length): (Ipv4Addr, u8)| {
        format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{ name: {name} }}\n\
             spec: {{ podCIDR: {pods}/{length}, podCIDRs: [{pods}/{length}] }}\n\
             status: {{ addresses: [{{ type: InternalIP, address: {address} }}] }}\n---\n"
        )
    };
    let member = |number| object(&format!("m{number}"), Plan::address(number), Plan::prefix(number));
    object("node", NODE, OWN) + &(0..MEMBERS).map(member).collect::<String>()
}

fn be_up_and_told(lab: &Lab, opener: Opener) -> Result<()> {
    let (node, crowd) = (lab.node("node")?, lab.node("crowd")?);
    let plan = Plan { members: MEMBERS, asn: ASN, node: SocketAddr::from((NODE, 179)), opener, awaited: OWN };
    let crowd = crowd.in_netns(|| Crowd::start(plan))??;
    let start = Instant::now();
    let words = ["cambricd", "--node", "node", "--source", "dir:/etc/cambric/manifests", "--policy", "off"];
    let log = fs::File::create(node.log("cambricd.log"))?;
    let daemon = node.spawn(&words, Stdio::from(log))?;
    let all = usize::from(MEMBERS);
    let waited = poll::until("all members to be up and told", LIMIT, || {
        let progress = crowd.progress();
        progress.established.len() == all && progress.told.len() == all
    });
    let progress = crowd.progress();
    let last = |times: &[Instant]| times.iter().max().map(|last| last.duration_since(start));
    println!(
        "{opener:?} connect: {} up, the last after {:.2?}; {} told, the last after {:.2?}; {} sessions lost; {}",
        progress.established.len(),
        last(&progress.established).unwrap_or_default(),
        progress.told.len(),
        last(&progress.told).unwrap_or_default(),
        progress.lost,
        fs::read_to_string(format!("/proc/{}/status", daemon.id()))
            .unwrap_or_default()
            .lines()
            .find(|line| line.starts_with("VmHWM"))
            .unwrap_or("no VmHWM"),
    );
    waited.with_context(|| {
        let log = fs::read_to_string(node.log("cambricd.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    })?;
    poll::until("the prefixes of all members in the kernel", LIMIT, || {
        let routes = node.run_ok(&["ip", "route", "show", "root", "10.128.0.0/9", "proto", "203"]);
        // The own range lies in there, too.
        routes.is_ok_and(|text| {
            text.lines().filter(|line| line.contains(" via ") || line.contains("nhid")).count() == all
        })
    })?;
    ensure!(crowd.progress().lost == 0, "{} sessions were lost", crowd.progress().lost);
    Ok(())
}
