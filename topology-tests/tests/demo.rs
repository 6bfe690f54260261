//! The promises of the README, on real racks: every pod and node reaches every other one with its own address, by bare
//! packets; a switch that loses power costs less than 300 ms; a daemon that is killed or ended costs nothing.
//!
//! The same steps as `make demo`, which shows them to a person, and each command that it says to type next. And the
//! look at the packets is shown to be worth something: it finds a tunnel that somebody builds.

mod common;

use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use cambric_lab::demo::{self, Hint};
use cambric_lab::{Lab, Node, Pod, capture};

use common::{CAMBRIC_LAB, LabFolder, Need, in_lab, machine_has};

#[test]
fn two_racks_keep_what_the_demo_promises() {
    if !machine_has(&[Need::Root, Need::Frr, Need::Cambric]) {
        return;
    }
    let folder = LabFolder::copy_of("../containerlab/two-rack");
    in_lab(&folder, |lab| {
        let faults = demo::run(lab)?;
        ensure!(faults.is_empty(), "{faults:#?}");
        let hints = demo::what_to_try(lab, Path::new(CAMBRIC_LAB), folder.path())?;
        a_tunnel_is_found(lab)?;
        every_hint_works(lab, &hints)
    });
}

/// As a person types them, in some other folder, and leaves each prompt at once.
fn every_hint_works(lab: &Lab, hints: &[Hint]) -> Result<()> {
    for Hint { command, why } in hints {
        let mut shell = Command::new("sh");
        let typed = shell.arg("-c").arg(command).current_dir("/").stdin(Stdio::null()).output()?;
        let said =
            String::from_utf8_lossy(&typed.stderr).into_owned() + &String::from_utf8_lossy(&typed.stdout);
        ensure!(typed.status.success(), "{command}: {}: {said}", typed.status);
        println!(
            "typed, to see {why}:\n  {command}\n  -> {}",
            said.trim().lines().next().unwrap_or("silence")
        );
    }
    let left = lab.status().into_iter().filter(|node| node.pid.is_some()).count();
    ensure!(left == 0, "the last one takes the lab down, {left} nodes are left");
    Ok(())
}

/// IPv4 between the two pods goes through a VXLAN between their nodes, which is taken away again.
fn a_tunnel_is_found(lab: &Lab) -> Result<()> {
    let (near, far) = (lab.pod("n11", "n11-1")?, lab.pod("n22", "n22-1")?);
    build_tunnel(near.node(), ("10.255.1.1", "10.255.2.2"), ("192.0.2.1", "192.0.2.2"), &far)?;
    build_tunnel(far.node(), ("10.255.2.2", "10.255.1.1"), ("192.0.2.2", "192.0.2.1"), &near)?;
    let proof = capture::prove_bare(lab, &near, &far, demo::ROUTERS_TO_N11)?;
    let of = |words: &str| proof.faults.iter().filter(|fault| fault.contains(words)).count();
    // All that IPv4 says: 8 flows of 25 datagrams, there and back, and the streams.
    ensure!(of("a tunnel, VXLAN") >= 400, "{:#?}", proof.faults);
    ensure!(of("400 of 800 datagrams were seen bare on no link") == 1, "{:#?}", proof.faults.last());
    ensure!(of("16 of 32 ways of streams were seen bare on no link") == 1, "{:#?}", proof.faults.last());
    ensure!(of("no packet seen on any link: out IPv4 UDP") == 1, "{:#?}", proof.faults.last());
    ensure!(of("IPv6") == 0, "IPv6 goes bare as before");
    println!("a VXLAN for IPv4 was found {} times, as in\n  {}", of("a tunnel, VXLAN"), proof.faults[0]);
    // The routes into it go with it.
    for pod in [&near, &far] {
        pod.node().run_ok(&["ip", "link", "del", "vx0"])?;
    }
    let proof = capture::prove_bare(lab, &near, &far, demo::ROUTERS_TO_N11)?;
    ensure!(proof.faults.is_empty(), "nothing is left of the tunnel: {:#?}", proof.faults);
    Ok(())
}

fn build_tunnel(node: &Node, nodes: (&str, &str), ends: (&str, &str), pod: &Pod) -> Result<()> {
    let ((local, remote), (own, gateway)) = (nodes, ends);
    let pod = pod.address(IpAddr::is_ipv4)?;
    for command in [
        format!("ip link add vx0 type vxlan id 42 dstport 4789 local {local} remote {remote}"),
        format!("ip address add {own}/30 dev vx0"),
        "ip link set vx0 up".to_owned(),
        format!("ip route add {pod}/32 via {gateway}"),
    ] {
        node.run_ok(&command.split(' ').collect::<Vec<_>>())?;
    }
    Ok(())
}
