use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::compile::{Options, UnknownPods, frame, peers_set, self_set};
use crate::program::{Placement, Ports};

const POD: &str = "10.0.0.1";
const OTHER: &str = "10.0.0.2";
const PEER: &str = "192.0.2.1";

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Two pods: camA, that may send anything and be sent nothing, and camB, that is in no map.
fn program() -> Program {
    let options =
        Options { node: "node1".into(), bgp_port: 179, log_group: 1, unknown_pods: UnknownPods::Closed };
    let mut program = frame(&options);
    let sets = &mut program.ipv4.sets;
    let owners = &mut sets.get_mut(&self_set(Family::Ipv4)).expect("the set").members;
    owners.extend([(POD, "camA"), (OTHER, "camB")].map(|(ip, veth)| Member::Owner(address(ip), veth.into())));
    sets.get_mut(&peers_set(Family::Ipv4)).expect("the set").members.insert(Member::Address(address(PEER)));
    let none = Rule {
        statements: vec![Statement::Counter, Statement::Verdict(Verdict::Drop)],
        tag: "denied".into(),
    };
    program.ipv4.chains.insert("i-none".into(), vec![none]);
    program.dispatch =
        BTreeMap::from([("camA".into(), Placement { egress: "open".into(), ingress: "i-none".into() })]);
    program
}

fn packet(input: Option<&str>, output: Option<&str>, source: &str, destination: &str) -> Packet {
    Packet {
        input: input.map(Into::into),
        output: output.map(Into::into),
        source: address(source),
        destination: address(destination),
        protocol: 6,
        destination_port: Some(80),
        is_established: false,
    }
}

/// The tag of the rule that drops it, or `passed`.
fn fate(packet: &Packet) -> String {
    match judge(&program(), packet).outcome {
        Outcome::Passed => "passed".into(),
        Outcome::Dropped { tag, .. } => tag,
    }
}

#[test]
fn the_frame_does_what_it_is_for() {
    let outside = "198.51.100.1";
    for (input, output, source, destination, wanted) in [
        (Some("camA"), Some("eth0"), POD, outside, "passed"),
        (Some("camA"), Some("eth0"), OTHER, outside, "spoofed"),
        (Some("camA"), None, OTHER, outside, "spoofed"),
        (Some("camA"), None, POD, outside, "passed"),
        (Some("camB"), Some("eth0"), OTHER, outside, "closed"),
        (Some("eth0"), Some("camA"), outside, POD, "denied"),
        (Some("eth0"), Some("camB"), outside, OTHER, "closed"),
        (Some("camA"), Some("camA"), POD, POD, "passed"),
        (Some("camB"), Some("camB"), OTHER, OTHER, "passed"),
        (Some("camA"), Some("camB"), POD, OTHER, "closed"),
        (None, Some("camA"), "10.0.0.254", POD, "passed"),
        (None, None, POD, POD, "passed"),
        (Some("eth0"), Some("eth1"), outside, "198.51.100.2", "passed"),
        (Some("eth0"), None, outside, POD, "passed"),
        // No pod has IPv6 here.
        (Some("camA"), Some("eth0"), "fd00::1", "fd00::2", "spoofed"),
    ] {
        assert_eq!(
            fate(&packet(input, output, source, destination)),
            wanted,
            "{input:?} {output:?} {source} {destination}"
        );
    }
}

#[test]
fn no_pod_reaches_the_bgp_port_of_the_node_or_of_a_peer() {
    let to_bgp = |output, destination| Packet {
        destination_port: Some(179),
        ..packet(Some("camA"), output, POD, destination)
    };
    assert_eq!(fate(&to_bgp(None, "10.0.0.254")), "bgp-port");
    assert_eq!(fate(&to_bgp(Some("eth0"), PEER)), "bgp-port");
    assert_eq!(fate(&to_bgp(Some("eth0"), "192.0.2.2")), "passed", "another's affair");
    assert_eq!(fate(&Packet { protocol: 17, ..to_bgp(Some("eth0"), PEER) }), "passed");
}

#[test]
fn answers_pass_and_the_way_is_told() {
    let asked = packet(Some("eth0"), Some("camA"), PEER, POD);
    let answer = Packet { is_established: true, ..asked.clone() };
    let judged = judge(&program(), &answer);
    assert!(judged.is_passed());
    assert_eq!(judged.trace, ["established"]);
    assert_eq!(judge(&program(), &asked).trace, ["ingress", "dispatch", "denied"]);
}

#[test]
fn a_network_holds_its_addresses_from_the_shortest_length_to_the_longest() {
    for (network, length, inside, outside) in [
        ("128.0.0.0", 1, "255.255.255.255", "127.255.255.255"),
        ("10.1.2.0", 23, "10.1.3.255", "10.1.4.0"),
        ("10.1.2.3", 32, "10.1.2.3", "10.1.2.2"),
        ("8000::", 1, "ffff::1", "7fff::1"),
        ("fd00::", 127, "fd00::1", "fd00::2"),
        ("fd00::1", 128, "fd00::1", "fd00::"),
    ] {
        let members = [Member::Network(address(network), length)].into();
        let set = Set { kind: SetKind::Networks, members };
        assert!(is_in_network(&set, address(inside)), "{network}/{length}");
        assert!(!is_in_network(&set, address(outside)), "{network}/{length}");
    }
}

#[test]
fn jumps_come_back_and_gotos_do_not() {
    let rule =
        |tag: &str, verdict: Verdict| Rule { statements: vec![Statement::Verdict(verdict)], tag: tag.into() };
    let run = |first: Verdict| {
        let mut program = Program::default();
        program.ipv4.base_chains.push(BaseChain {
            name: "base".into(),
            hook: Hook::Forward,
            priority: 0,
            rules: vec![rule("first", first), rule("second", Verdict::Drop)],
        });
        program
            .ipv4
            .chains
            .insert("a".into(), vec![rule("a", Verdict::Goto("b".into())), rule("a2", Verdict::Drop)]);
        program.ipv4.chains.insert("b".into(), vec![rule("b", Verdict::Return)]);
        judge(&program, &packet(Some("x"), Some("y"), POD, OTHER))
    };
    assert_eq!(run(Verdict::Jump("a".into())).trace, ["first", "a", "b", "second"]);
    assert!(run(Verdict::Goto("a".into())).is_passed());
    assert!(run(Verdict::Return).is_passed());
    assert!(!run(Verdict::Jump("none".into())).is_passed());
}

/// Chains and statements of whatever kind, with names that meet.
fn programs() -> impl Strategy<Value = Program> {
    let chain = || prop::sample::select(vec!["a", "b", "c"]).prop_map(ChainName::from);
    let end = || prop::sample::select(vec![End::Source, End::Destination]);
    let interface = || prop::sample::select(vec![Interface::Input, Interface::Output]);
    let verdict = prop_oneof![
        Just(Verdict::Accept),
        Just(Verdict::Drop),
        Just(Verdict::Return),
        chain().prop_map(Verdict::Jump),
        chain().prop_map(Verdict::Goto),
    ];
    let statement = prop_oneof![
        interface().prop_map(Statement::IsVeth),
        Just(Statement::Established),
        Just(Statement::Protocol(Protocol::Tcp)),
        (0..100u16, 0..100u16).prop_map(|(first, last)| Statement::DestinationPort(Ports { first, last })),
        (prop::sample::select(vec!["s", "t"]), prop::collection::vec(end(), 0..4), any::<bool>())
            .prop_map(|(set, ends, inverted)| Statement::InSet { set: set.into(), ends, inverted }),
        Just(Statement::Counter),
        verdict.prop_map(Statement::Verdict),
        interface().prop_map(Statement::Dispatch),
    ];
    let rule =
        prop::collection::vec(statement, 0..4).prop_map(|statements| Rule { statements, tag: "x".into() });
    let rules = || prop::collection::vec(rule.clone(), 0..4);
    let kinds = vec![SetKind::Addresses, SetKind::Networks, SetKind::AddressPorts, SetKind::Owners];
    let tables = (prop::collection::btree_map(chain(), rules(), 0..4), rules(), prop::sample::select(kinds));
    tables.prop_map(|(chains, rules, kind)| {
        let members = [Member::Network(address(POD), 0), Member::Network(address(OTHER), 255)].into();
        let table = Table {
            base_chains: vec![BaseChain { name: "base".into(), hook: Hook::Forward, priority: 0, rules }],
            chains,
            sets: BTreeMap::from([("s".into(), Set { kind, members })]),
        };
        let placement = Placement { egress: "a".into(), ingress: "b".into() };
        Program { ipv4: table.clone(), ipv6: table, dispatch: BTreeMap::from([("camA".into(), placement)]) }
    })
}

proptest! {
    #[test]
    fn every_program_comes_to_an_end(program in programs(), is_ipv6 in any::<bool>()) {
        let destination = if is_ipv6 { "fd00::1" } else { OTHER };
        let packet = packet(Some("camA"), Some("camA"), POD, destination);
        let judged = judge(&program, &packet);
        prop_assert_eq!(judged, judge(&program, &packet));
    }
}
