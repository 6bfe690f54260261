//! The rig without an enforcer: what it says of packets is true.

use std::net::IpAddr;

use cambric_policy::change::Key;

use crate::rig::{At, Fate, NewPod, Probe, Protocol, Rig};

const OUTSIDE: [&str; 2] = ["203.0.113.9", "2001:db8:aa::9"];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Two nodes with two pods each.
fn two_nodes() -> (Rig, Vec<(At, [IpAddr; 2])>) {
    let nodes = ["node1", "node2"].map(|name| {
        let nth = &name[4..];
        (name.to_owned(), vec![ip(&format!("172.20.0.{nth}")), ip(&format!("fd20::{nth}"))])
    });
    let mut rig = Rig::new(&nodes, &OUTSIDE.map(ip));
    let mut ends: Vec<(At, [IpAddr; 2])> = nodes
        .iter()
        .map(|(name, addresses)| (At::Node(name.clone()), [addresses[0], addresses[1]]))
        .chain([(At::Outside, OUTSIDE.map(ip))])
        .collect();
    let mut pods = Vec::new();
    for (nth, node) in ["node1", "node1", "node2", "node2"].into_iter().enumerate() {
        let key = Key::new("default", &format!("pod{nth}"));
        let addresses = [ip(&format!("10.244.0.{}", nth + 1)), ip(&format!("fd00::{}", nth + 1))];
        ends.push((At::Pod(key.clone()), addresses));
        let (node, interface) = (node.to_owned(), format!("cam{nth:012x}").into());
        pods.push(NewPod { key, node, interface, addresses: addresses.into() });
    }
    rig.add_pods(&pods);
    (rig, ends)
}

fn all_probes(ends: &[(At, [IpAddr; 2])]) -> Vec<Probe> {
    let mut probes = Vec::new();
    for (from, sources) in ends {
        for (to, destinations) in ends {
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                for (source, destination) in sources.iter().zip(destinations) {
                    let (from, to, source, destination) = (from.clone(), to.clone(), *source, *destination);
                    probes.push(Probe { from, source, to, destination, protocol, port: 80 });
                }
            }
        }
    }
    probes
}

#[test]
fn without_rules_all_packets_arrive_and_connects_are_answered() {
    let (rig, ends) = two_nodes();
    let probes = all_probes(&ends);
    let fates = rig.probe(&probes);
    for (probe, fate) in probes.iter().zip(&fates) {
        assert_eq!(*fate, Fate::Arrived, "{probe:?}");
    }
    println!("{} packets, all arrived", fates.len());
}

#[test]
fn what_a_rule_drops_is_told_as_dropped() {
    let (rig, ends) = two_nodes();
    let rules = "table inet t {
        chain f {
            type filter hook forward priority 0;
            ip daddr 10.244.0.1 udp dport 80 drop
            ip6 daddr fd00::1 tcp flags rst drop
            ip6 daddr fd00::2 sctp dport 80 drop
        }
    }";
    rig.node("node1").run("nft", &["-f", "-"], rules);
    for (probe, fate) in all_probes(&ends).iter().zip(rig.probe(&all_probes(&ends))) {
        let forwarded = probe.from != At::Node("node1".into()) && probe.from != probe.to;
        let expected =
            match (probe.destination.to_string().as_str(), probe.source.to_string().as_str(), probe.protocol)
            {
                ("10.244.0.1", _, Protocol::Udp) if forwarded => Fate::Dropped,
                ("fd00::2", _, Protocol::Sctp) if forwarded => Fate::Dropped,
                (_, "fd00::1", Protocol::Tcp)
                    if probe.from != probe.to && probe.to != At::Node("node1".into()) =>
                {
                    Fate::Unanswered
                }
                _ => Fate::Arrived,
            };
        assert_eq!(fate, expected, "{probe:?}");
    }
}
