//! While a change is written to the kernel, piece by piece, a packet that is allowed before and after it is allowed
//! all the time, and one that is denied before and after is denied all the time.
//!
//! Not so here between two pods of one node whose namespace gets other labels: the one may have joined a set that the other
//! lets in before the other has left one that the one may send to. The enforcer leads both around for that time
//! (`detour.rs`), of which the delta knows nothing; the window test shows it by packets. Two nodes do not learn of a change
//! at once either.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cambric_policy::change::Change;
use cambric_policy::program::{Delta, IfName, Member, Program, Protocol, VETH_PREFIX};
use cambric_policy::simulate::{Packet, judge};
use proptest::prelude::*;

use crate::addresses::addresses;
use crate::random::histories;
use crate::support::case::Family;
use crate::support::changes::{Order, changes, endpoints};
use crate::support::cluster::Cluster;
use crate::support::nodes::Nodes;
use crate::support::stages;
use crate::world::{Step, World};

/// Clusters, unless the environment says otherwise.
const CLUSTERS: u32 = 200;

proptest! {
    #![proptest_config(crate::config(CLUSTERS))]

    #[test]
    fn no_packet_is_judged_as_neither_before_nor_after((world, steps) in histories()) {
        run(world, &steps)?;
    }
}

fn run(mut world: World, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut before = world.cluster();
    let mut nodes = Nodes::of(&before);
    for step in steps {
        step.events.iter().for_each(|event| world.happens(event));
        let after = world.cluster();
        let veths = veths(&before, &after);
        for told in changes(&before, &after, Order::Shuffled(step.seed)) {
            nodes.tell(&told);
            let mut seen = None;
            nodes.settle_watched(|node, before, delta, after| {
                let mut packets = packets(node, &veths, before, delta, after);
                if matches!(told.change, Change::Namespace(..)) {
                    packets.retain(|packet| !is_between_pods(packet));
                }
                seen = seen.take().or(window(&packets, before, delta, after));
            });
            if let Some(what) = seen {
                let lines = [format!("{:?}: {what}", told.change)];
                let policies = after.policies.values().map(|policy| policy.told.to_string());
                let lines: Vec<String> = lines.into_iter().chain(policies).collect();
                return Err(TestCaseError::fail(lines.join("\n")));
            }
        }
        before = after;
    }
    Ok(())
}

/// Node, veth and address of the pods that are wired before and after.
fn veths(before: &Cluster, after: &Cluster) -> Vec<(String, IfName, IpAddr)> {
    let after = endpoints(after);
    let stays = endpoints(before).into_iter().filter(|(at, _)| after.contains_key(at));
    stays
        .flat_map(|((node, veth), endpoint)| {
            endpoint.addresses.into_iter().map(move |address| (node.clone(), veth.as_str().into(), address))
        })
        .collect()
}

/// Between all veths of a node that are judged before and after, and between them and all addresses behind the uplink.
/// Addresses that go from one pod to another in this change are left out: they are not the same before and after.
fn packets(
    node: &str,
    veths: &[(String, IfName, IpAddr)],
    before: &Program,
    delta: &Delta,
    after: &Program,
) -> Vec<Packet> {
    let moved: BTreeSet<IpAddr> = delta.left_first.iter().map(|(_, _, member)| address_of(member)).collect();
    let is_judged = |veth: &IfName| before.dispatch.contains_key(veth) && after.dispatch.contains_key(veth);
    let local: Vec<(IfName, IpAddr)> = veths
        .iter()
        .filter(|(at, veth, address)| at == node && is_judged(veth) && !moved.contains(address))
        .map(|(_, veth, address)| (veth.clone(), *address))
        .collect();
    let uplink: IfName = "eth0".into();
    let is_local = |address: &IpAddr| local.iter().any(|(_, own)| own == address);
    let remote = addresses().into_iter().filter(|address| !moved.contains(address) && !is_local(address));
    let all: Vec<(IfName, IpAddr)> =
        local.iter().cloned().chain(remote.map(|address| (uplink.clone(), address))).collect();
    let mut packets = Vec::new();
    for (input, source) in &all {
        for (output, destination) in &all {
            let is_of_pod = *input != uplink || *output != uplink;
            if !is_of_pod || Family::of(*source) != Family::of(*destination) {
                continue;
            }
            for (protocol, port) in [(Protocol::Tcp, 80), (Protocol::Udp, 53)] {
                packets.push(Packet {
                    input: Some(input.clone()),
                    output: Some(output.clone()),
                    source: *source,
                    destination: *destination,
                    protocol: protocol.number(),
                    destination_port: Some(port),
                    is_established: false,
                });
            }
        }
    }
    packets
}

fn is_between_pods(packet: &Packet) -> bool {
    [&packet.input, &packet.output].into_iter().flatten().all(|name| name.starts_with(VETH_PREFIX))
}

fn address_of(member: &Member) -> IpAddr {
    match member {
        Member::Address(address)
        | Member::Network(address, _)
        | Member::AddressPort(address, _, _)
        | Member::Owner(address, _) => *address,
    }
}

/// A packet that meets something else in between.
fn window(packets: &[Packet], before: &Program, delta: &Delta, after: &Program) -> Option<String> {
    if *delta == Delta::default() {
        return None;
    }
    let stages = stages::between(before, delta);
    for packet in packets {
        let is_passed = judge(before, packet).is_passed();
        if judge(after, packet).is_passed() != is_passed {
            continue;
        }
        for (what, stage) in &stages {
            let between = judge(stage, packet);
            if between.is_passed() != is_passed {
                return Some(format!(
                    "passed {is_passed} before and after, but {between:?} once {what}: {packet:?}\n{delta:#?}"
                ));
            }
        }
    }
    None
}
