//! A small lab comes up, does what its file says, and goes down.

mod common;

use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use cambric_lab::flow::Flow;
use cambric_lab::links::Carrier;
use cambric_lab::reach::{Client, Echo, Protocol, ask, matrix};
use cambric_lab::{Node, poll};
use nix::sys::signal::Signal;

use common::{CAMBRIC_LAB, LabFolder, Need, machine_has, options, progress, stand_in};

const LIMIT: Duration = Duration::from_secs(60);

/// Two FRR routers, each with a prefix behind it, and a session over their /127.
fn two_routers() -> LabFolder {
    let folder = LabFolder::new(
        "routers",
        "  defaults: { kind: linux, image: example/frr }
  nodes:
    r1: { binds: ['r1.conf:/etc/frr/frr.conf'], sysctls: { net.ipv6.conf.all.forwarding: 1 } }
    r2: { binds: ['r2.conf:/etc/frr/frr.conf'], sysctls: { net.ipv6.conf.all.forwarding: 1 } }
  links:
  - endpoints: ['r1:eth1', 'r2:eth1']
",
    );
    for (name, other, asn, lo) in [("r1", "1", 65001, "1"), ("r2", "", 65002, "2")] {
        let own = if name == "r1" { "" } else { "1" };
        folder.write(
            &format!("{name}.conf"),
            &format!(
                "interface lo\n ipv6 address 2001:db8:{lo}::1/128\ninterface eth1\n ipv6 address 2001:db8::{own}/127\n\
                 router bgp {asn}\n bgp router-id 192.0.2.{lo}\n no bgp ebgp-requires-policy\n bgp graceful-restart\n \
                 bgp graceful-restart preserve-fw-state\n neighbor 2001:db8::{other} remote-as external\n \
                 neighbor 2001:db8::{other} timers 1 3\n neighbor 2001:db8::{other} timers connect 1\n \
                 address-family ipv6 unicast\n  network 2001:db8:{lo}::1/128\n  neighbor 2001:db8::{other} activate\n"
            ),
        );
    }
    folder
}

fn wait_for_route(node: &Node, prefix: &str) {
    let has_route =
        || node.run_ok(&["ip", "-6", "route", "show", prefix]).is_ok_and(|text| text.contains("proto bgp"));
    let what = format!("{prefix} in {}", node.name());
    if let Err(error) = poll::until(&what, LIMIT, has_route) {
        let tables = node.run_ok(&["vtysh", "-c", "show bgp ipv6 unicast summary", "-c", "show ipv6 route"]);
        panic!("{error:#}\n{}", tables.unwrap_or_else(|error| format!("{error:#}")));
    }
}

/// Also shows that the first address of a /127 is an ordinary one (RFC 6164): the session runs over it.
#[test]
fn frr_nodes_peer_over_a_127_and_keep_forwarding_while_bgpd_is_away() {
    if !machine_has(&[Need::Root, Need::Frr]) {
        return;
    }
    let folder = two_routers();
    let before = std::fs::metadata(folder.path().join("r1.conf")).expect("the configuration");
    let lab = folder.load().up_guarded(&options(), &progress).expect("the lab comes up");
    let (r1, r2) = (lab.node("r1").expect("r1 runs"), lab.node("r2").expect("r2 runs"));
    wait_for_route(&r1, "2001:db8:2::1");
    wait_for_route(&r2, "2001:db8:1::1");
    assert_eq!(r1.run_ok(&["hostname"]).expect("it runs").trim(), "r1");
    let local = r1.run_ok(&["ip", "-6", "route", "show", "table", "local"]).expect("it runs");
    assert!(!local.contains("anycast 2001:db8::"), "{local}");

    let source: IpAddr = "2001:db8:1::1".parse().expect("an address");
    let flow = Flow::start(&r1, Some(source), &r2, "2001:db8:2::1".parse().expect("an address"));
    let flow = flow.expect("the flow starts");
    poll::until("the flow to run", LIMIT, || flow.answered() > 100).expect("the flow runs");
    let old = r2.daemon_pid("bgpd").expect("bgpd runs");
    r2.kill("bgpd", Signal::SIGKILL).expect("bgpd can be killed");
    assert_eq!(r2.daemon_pid("bgpd"), None);
    let killed_at = flow.sent();
    poll::until("a second without bgpd", LIMIT, || flow.sent() > killed_at + 1000).expect("the flow goes on");
    // Not longer: a bgpd that starts within 120 s of its peer's start drops what it had learned (the peer still claims
    // to restart, so its End-of-RIB is not waited for), until the peer's UPDATEs come.
    let report = flow.stop().expect("the flow ends");
    assert_eq!(report.lost, 0, "{report:?}");

    r2.start().expect("bgpd starts again");
    assert_ne!(r2.daemon_pid("bgpd").expect("bgpd runs"), old);
    let is_back = || {
        let summary = r1.run_ok(&["vtysh", "-c", "show bgp ipv6 unicast summary established"]);
        summary.is_ok_and(|text| text.contains("2001:db8::1"))
    };
    poll::until("the session to come back", LIMIT, is_back).expect("the session comes back");

    let after = std::fs::metadata(folder.path().join("r1.conf")).expect("the configuration");
    use std::os::unix::fs::MetadataExt;
    assert_eq!((before.uid(), before.mode()), (after.uid(), after.mode()), "FRR owns a copy, not the file");
    lab.down().expect("the lab goes down");
}

#[test]
fn a_bridge_joins_its_links_and_reach_tells_sources() {
    if !machine_has(&[Need::Root]) {
        return;
    }
    let folder = LabFolder::new(
        "bridge",
        "  defaults: { kind: linux, image: alpine }
  nodes:
    a: { exec: ['ip address add 198.51.100.1/32 dev lo'] }
    b: { env: { GREETING: 'good day' } }
    c: { binds: ['shown:/a/place/of/its own:ro', 'shared:/srv/shared'] }
    sw: { kind: bridge }
  links:
  - { endpoints: ['a:eth1', 'sw:a'], ipv4: [192.0.2.1/24, ''], ipv6: ['2001:db8::1/64'] }
  - { endpoints: ['b:eth1', 'sw:b'], ipv4: [192.0.2.2/24, ''], ipv6: ['2001:db8::2/64'] }
  - type: veth
    mtu: 1400
    endpoints: [{ node: c, interface: eth1, ipv4: 192.0.2.3/24, mac: '02:00:00:00:00:0c' }, { node: sw, interface: c }]
",
    );
    std::fs::create_dir(folder.path().join("shared")).expect("a folder");
    folder.write("shown", "read me");
    let lab = folder.load().up_guarded(&options(), &progress).expect("the lab comes up");
    let (a, b, c) = (lab.node("a").expect("a"), lab.node("b").expect("b"), lab.node("c").expect("c"));

    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let servers =
        ["192.0.2.2", "2001:db8::2"].map(|text| Echo::start(&b, address(text)).expect("servers start"));
    let good = Client { place: &a, sources: vec![address("192.0.2.1"), address("2001:db8::1")] };
    assert_eq!(matrix(&[good], &servers, LIMIT), [""; 0]);
    let bad = Client { place: &a, sources: vec![address("198.51.100.1")] };
    let wrong =
        ["UDP", "TCP"].map(|p| format!("a {p} to 192.0.2.2:7007: seen as 192.0.2.1, not 198.51.100.1"));
    assert_eq!(matrix(&[bad], &servers, LIMIT), wrong);

    assert!(a.run_ok(&["ip", "address", "show", "lo"]).expect("it runs").contains("198.51.100.1/32"));
    assert_eq!(b.run_ok(&["sh", "-c", "echo $GREETING"]).expect("it runs"), "good day\n");
    assert_eq!(c.run_ok(&["cat", "/a/place/of/its own"]).expect("it runs"), "read me");
    assert!(!c.run(&["sh", "-c", "echo x > '/a/place/of/its own'"]).expect("it runs").status.success());
    c.run_ok(&["sh", "-c", "echo from c > /srv/shared/file; echo x > /etc/made-by-c"]).expect("it writes");
    assert_eq!(std::fs::read_to_string(folder.path().join("shared/file")).expect("it is there"), "from c\n");
    assert!(!Path::new("/etc/made-by-c").exists(), "what a node writes is its own");
    let link = c.run_ok(&["ip", "link", "show", "eth1"]).expect("it runs");
    assert!(link.contains("mtu 1400") && link.contains("02:00:00:00:00:0c"), "{link}");

    lab.links_down("a").expect("links go down");
    assert!(a.run_ok(&["ip", "link", "show", "eth1"]).expect("it runs").contains("state DOWN"));
    lab.links_up("a").expect("links come up");
    lab.set_link("sw", "b", Carrier::Down).expect("one goes down");
    let no_carrier =
        || b.run_ok(&["ip", "link", "show", "eth1"]).is_ok_and(|text| text.contains("NO-CARRIER"));
    poll::until("b to lose its carrier", LIMIT, no_carrier).expect("the bridge's end is down");
    lab.down().expect("the lab goes down");
}

#[test]
fn pods_are_wired_by_the_plugin_and_daemons_start_again() {
    if !machine_has(&[Need::Root, Need::CniPlugins]) {
        return;
    }
    let folder = LabFolder::new(
        "pods",
        "  nodes:
    n1: { kind: linux, image: cambric, env: { GREETING: hello }, labels: { cambric.dev/pods: 2 } }
",
    );
    let bin_dir = stand_in();
    let mut options = options();
    options.bin_dir = Some(bin_dir.path().to_owned());
    let lab = folder.load().up_guarded(&options, &progress).expect("the lab comes up");
    let node = lab.node("n1").expect("n1 runs");
    let log = std::fs::read_to_string(node.log("cambricd.log")).expect("a log");
    assert_eq!(log, "stand-in --node n1 --source dir:/etc/cambric/manifests, GREETING=hello\n");

    let (one, two) = (lab.pod("n1", "n1-1").expect("a pod"), lab.pod("n1", "n1-2").expect("a pod"));
    for is_wanted in [IpAddr::is_ipv4, IpAddr::is_ipv6] {
        let address = two.address(is_wanted).expect("an address");
        let echo = Echo::start(&two, address).expect("servers start");
        let asked = || ask(&one, Protocol::Udp, echo.address(), Duration::from_secs(1));
        let seen = poll::until_some("an answer", LIMIT, || Ok(asked().ok())).expect("an answer");
        assert!(one.addresses().expect("addresses").contains(&seen), "{seen}");
    }
    let (three, result) = lab.add_pod("n1", "three").expect("a third pod");
    assert_eq!(result["ips"].as_array().map(Vec::len), Some(2), "{result}");
    assert!(three.run_ok(&["ip", "address", "show", "eth0"]).expect("it runs").contains("192.0.2.4"));
    assert!(lab.add_pod("n1", "three").is_err(), "a name is taken once");
    three.del().expect("it goes");
    assert!(lab.pod("n1", "three").is_err());
    let left: Vec<_> = lab.status()[0].pods.iter().map(|pod| pod.pod.clone()).collect();
    assert_eq!(left, ["n1-1", "n1-2"]);

    let old = node.daemon_pid("cambricd").expect("it runs");
    node.kill("cambricd", Signal::SIGKILL).expect("it can be killed");
    assert_eq!(lab.status()[0].daemons, []);
    node.start().expect("it starts again");
    let new = node.daemon_pid("cambricd").expect("it runs");
    assert_ne!(new, old);
    node.start().expect("it need not be started twice");
    assert_eq!(node.daemon_pid("cambricd"), Some(new));
    lab.down().expect("the lab goes down");
}

#[test]
fn a_daemon_that_ends_at_once_fails_up_with_its_log_and_leaves_nothing() {
    if !machine_has(&[Need::Root]) {
        return;
    }
    let folder = LabFolder::new(
        "broken",
        "  nodes:
    n1: { kind: linux, image: cambric, labels: { cambric.dev/pods: 1 } }
",
    );
    let bin_dir = stand_in();
    std::fs::write(bin_dir.path().join("cambricd"), "#!/bin/sh\necho this is why >&2\n").expect("writing it");
    let mut options = options();
    options.bin_dir = Some(bin_dir.path().to_owned());
    let lab = folder.load();
    let error = format!("{:#}", lab.up(&options, &progress).expect_err("it cannot come up"));
    assert!(error.contains("n1") && error.contains("this is why"), "{error}");
    assert!(lab.node("n1").is_err());
    assert!(!Path::new("/run/netns").join(format!("clab-{}-n1", folder.name)).exists());
}

#[test]
fn exec_passes_input_output_and_exit_code() {
    if !machine_has(&[Need::Root]) {
        return;
    }
    let folder = LabFolder::new("exec", "  nodes: { n1: { kind: linux, image: alpine } }\n");
    let lab = folder.load().up_guarded(&options(), &progress).expect("the lab comes up");
    let output =
        cambric_lab(&["exec", &folder.path().to_string_lossy(), "n1", "--", "cat", "-"], "through\n");
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"through\n"[..]));
    for (script, code) in [("exit 7", 7), ("kill -TERM $$", 143)] {
        let output =
            cambric_lab(&["exec", &folder.path().to_string_lossy(), "n1", "--", "sh", "-c", script], "");
        assert_eq!(output.status.code(), Some(code), "{script}");
    }
    let output = cambric_lab(&["exec", &folder.path().to_string_lossy(), "n2", "--", "true"], "");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(complaint, format!("cambric-lab: lab {} has no node \"n2\", but n1\n", folder.name));
    let output = cambric_lab(&["status", "-o", "json", &folder.path().to_string_lossy()], "");
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(status[0]["pid"], lab.node("n1").expect("it runs").pid().as_raw());
    let refused = folder.load().up_guarded(&options(), &progress).expect_err("it is up").to_string();
    assert!(refused.contains("is up already"), "{refused}");
    lab.node("n1").expect("the refused one did not take it down");
    lab.down().expect("the lab goes down");
}

fn cambric_lab(arguments: &[&str], input: &str) -> Output {
    use std::io::Write;
    let mut command = Command::new(CAMBRIC_LAB);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("cambric-lab starts");
    let mut pipe = child.stdin.take().expect("a pipe");
    let _ = pipe.write_all(input.as_bytes()); // it may not read
    drop(pipe);
    child.wait_with_output().expect("cambric-lab ends")
}
