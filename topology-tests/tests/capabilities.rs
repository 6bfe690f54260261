//! The daemon with the rights that its container has, and no others: `labs/one-switch`.
//!
//! ```text
//!    f1  FRR  65001
//!     |
//!    c1  Cambric  65100: three capabilities, no new privileges, root and /proc/sys read-only; one pod
//! ```
//!
//! Proves, after everything that the daemon makes was taken away:
//! - sessions on TCP port 179, routes, sets, tables, sysctls at a path of their own, the CNI configuration and the
//!   control socket come back; a new pod is placed and a new policy shuts it;
//! - the same without NET_RAW, for which this release has no use;
//! - without one of the others it ends at once and says what is missing.

mod common;

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cambric_lab::http::get;
use cambric_lab::reach::{self, Echo, Protocol};
use cambric_lab::{Lab, Node, Spawned, fabric, poll};
use nix::sys::signal::Signal;

use common::{LabFolder, Need, PEERS_OF_ONE_SWITCH, in_lab, machine_has};

const LIMIT: Duration = Duration::from_secs(60);
const CAMBRICD: &str = "cambricd";
const HEALTH: u16 = 9178;
const CONFLIST: &str = "/etc/cni/net.d/10-cambric.conflist";
const ALL: &str = "-all,+net_admin,+net_bind_service,+net_raw";
const WITHOUT_NET_RAW: &str = "-all,+net_admin,+net_bind_service";

/// The ranges of another node.
const TELLS: &str = "router bgp 65001
 no bgp network import-check
 address-family ipv4 unicast
  network 198.51.100.128/26
 exit-address-family
 address-family ipv6 unicast
  network 2001:db8:100:1::/64
 exit-address-family
exit
";

const NOBODY: &str = r#"apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: nobody, namespace: default }
spec: { podSelector: {}, policyTypes: [Ingress] }
"#;

/// As a container has it: what the DaemonSet mounts can be written, nothing else. Of the settings those of the network,
/// at a path of their own.
const CONFINED: &str = r#"set -e
exec 2>&1
mount --make-rprivate /
mkdir -p /run/cambric /var/lib/cambric /etc/cni/net.d /host-sysctl
for folder in /run/cambric /var/lib/cambric /etc/cni/net.d; do mount --bind $folder $folder; done
mount --bind /proc/sys/net /host-sysctl
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -o remount,bind,ro /
exec setpriv --no-new-privs --bounding-set "$0" --inh-caps=-all --ambient-caps=-all \
  cambricd --node c1 --source dir:/etc/cambric/manifests --sysctl-dir /host-sysctl
"#;

#[test]
fn three_capabilities_and_a_read_only_root_are_enough_for_all_it_does() {
    if !machine_has(&[Need::Root, Need::Frr, Need::Cambric, Need::Netfilter]) {
        return;
    }
    let folder = LabFolder::copy_of("labs/one-switch");
    folder.write("manifests/peers.yaml", PEERS_OF_ONE_SWITCH);
    let switch = fs::read_to_string(folder.path().join("frr/f1.conf")).expect("the switch's configuration");
    folder.write("frr/f1.conf", &format!("{switch}\n{TELLS}"));
    in_lab(&folder, |lab| {
        let node = lab.node("c1")?;
        poll::until("a whole node", LIMIT, || {
            fabric::is_whole(&node) && learned(&node).is_ok_and(|routes| routes == 2)
        })?;
        for (capabilities, mask) in [(ALL, 0x3400), (WITHOUT_NET_RAW, 0x1400)] {
            take_everything_away(&node)?;
            let daemon = start(&node, capabilities, "confined.log")?;
            everything_comes_back(&node)?;
            its_rights_are(&node, mask)?;
            a_new_pod_is_placed_and_a_new_policy_shuts_it(lab, &folder, &node)?;
            let log = fs::read_to_string(node.log("confined.log"))?;
            let denied = ["ermission denied", "not permitted", "ead-only file system"];
            let complaints: Vec<&str> =
                log.lines().filter(|line| denied.iter().any(|words| line.contains(words))).collect();
            ensure!(complaints.is_empty(), "{complaints:#?}");
            let missing = log.matches("a capability is missing").count();
            ensure!(missing == usize::from(capabilities == WITHOUT_NET_RAW), "{log}");
            stop(&node, daemon)?;
        }
        without_what_it_needs_it_ends_and_says_why(&node)
    });
}

/// The daemon and all that it has made, as after a reboot; but the pod's link and its address.
fn take_everything_away(node: &Node) -> Result<()> {
    if node.daemon_pid(CAMBRICD).is_some() {
        node.kill(CAMBRICD, Signal::SIGTERM)?;
        poll::until("the daemon to end", LIMIT, || node.daemon_pid(CAMBRICD).is_none())?;
    }
    for words in [
        "ip -4 route flush proto 203",
        "ip -6 route flush proto 203",
        "ip nexthop flush proto 203",
        "nft flush ruleset",
        "sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0",
    ] {
        node.run_ok(&words.split(' ').collect::<Vec<_>>())?;
    }
    // The kernel lets go of them a moment after the rules that name them.
    poll::until("the sets to be gone", LIMIT, || node.run_ok(&["ipset", "destroy"]).is_ok())?;
    for file in [CONFLIST, "/run/cambric/ready", "/run/cambric/cambricd.sock", "/run/cambric/fib.json"] {
        fs::remove_file(node.path(file)).with_context(|| file.to_owned())?;
    }
    ensure!(learned(node)? == 0 && sets(node)?.is_empty(), "something is left");
    Ok(())
}

/// Ends with the returned value.
fn start(node: &Node, capabilities: &str, log: &str) -> Result<Spawned> {
    let file = fs::File::create(node.log(log))?;
    node.spawn(&["unshare", "-m", "sh", "-c", CONFINED, capabilities], Stdio::from(file))
}

fn stop(node: &Node, mut daemon: Spawned) -> Result<()> {
    node.kill(CAMBRICD, Signal::SIGTERM)?;
    let status = daemon.wait()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

fn everything_comes_back(node: &Node) -> Result<()> {
    poll::until("all of the node to be back", LIMIT, || {
        fabric::is_whole(node)
            && get(node, HEALTH, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
    })?;
    ensure!(learned(node)? == 2, "the switch's routes");
    ensure!(!sets(node)?.is_empty(), "no set");
    let tables = node.run_ok(&["nft", "list", "tables"])?;
    ensure!(["ip cambric", "ip6 cambric"].iter().all(|table| tables.contains(table)), "{tables}");
    for sysctl in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        ensure!(node.run_ok(&["sysctl", "-n", sysctl])?.trim() == "1", "{sysctl}");
    }
    ensure!(node.path(CONFLIST).exists(), "no CNI configuration");
    let listening = node.run_ok(&["ss", "-Hltn", "sport = :179"])?;
    ensure!(listening.lines().count() >= 2, "port 179 in both families: {listening}");
    Ok(())
}

fn its_rights_are(node: &Node, mask: u64) -> Result<()> {
    let pid = node.daemon_pid(CAMBRICD).context("it runs")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let says = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        value.map(str::trim).with_context(|| status.clone())
    };
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        ensure!(u64::from_str_radix(says(set)?, 16)? == mask, "{set}: {}", says(set)?);
    }
    ensure!(says("NoNewPrivs")? == "1" && says("CapAmb")? == "0000000000000000");
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    let is_read_only = |at: &str| {
        // The last one covers those before it.
        let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        lines.rfind(|words| words[4] == at).is_some_and(|words| words[5].starts_with("ro"))
    };
    ensure!(is_read_only("/") && is_read_only("/proc/sys") && !is_read_only("/run/cambric"), "{mounts}");
    println!("CapEff {}, read-only /, /proc/sys", says("CapEff")?);
    Ok(())
}

fn a_new_pod_is_placed_and_a_new_policy_shuts_it(lab: &Lab, folder: &LabFolder, node: &Node) -> Result<()> {
    let (pod, _) = lab.add_pod("c1", "late")?;
    let outside = lab.node("f1")?;
    let server = Echo::start(&pod, pod.address(|address| address.is_ipv4())?)?;
    let answers = || reach::ask(&outside, Protocol::Tcp, server.address(), Duration::from_secs(1)).is_ok();
    poll::until("the pod to be reached", LIMIT, answers)?;
    folder.write("manifests/nobody.yaml", NOBODY);
    poll::until("the policy to shut it", LIMIT, || !answers())?;
    let policy = fabric::ask(node, &["show", "policy", "late"])?;
    ensure!(policy.to_string().contains("nobody"), "{policy}");
    fs::remove_file(folder.path().join("manifests/nobody.yaml"))?;
    poll::until("the pod to be reached again", LIMIT, answers)?;
    pod.del()
}

fn without_what_it_needs_it_ends_and_says_why(node: &Node) -> Result<()> {
    for (capabilities, missing) in
        [("-all,+net_admin,+net_raw", "NET_BIND_SERVICE"), ("-all,+net_bind_service,+net_raw", "NET_ADMIN")]
    {
        let status = start(node, capabilities, "less.log")?.wait()?;
        let log = fs::read_to_string(node.log("less.log"))?;
        ensure!(!status.success() && log.contains(&format!("the capability {missing} is missing")), "{log}");
    }
    Ok(())
}

/// Routes that peers have told, in the kernel.
fn learned(node: &Node) -> Result<usize> {
    let routes = ["-4", "-6"].map(|family| node.run_ok(&["ip", family, "route", "show", "proto", "203"]));
    let [ipv4, ipv6] = routes;
    Ok(format!("{}{}", ipv4?, ipv6?).lines().filter(|line| !line.contains("unreachable")).count())
}

fn sets(node: &Node) -> Result<String> {
    node.run_ok(&["ipset", "list", "-n"])
}
