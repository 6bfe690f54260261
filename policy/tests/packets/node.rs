//! A node and its own pods: always, whatever is isolated.

use serde_json::json;

use crate::rig::{Answer, At, World};
use crate::small::{FAMILIES, NODE1, NODE2, addresses, cluster, deny_all, ip, pod, policy, to};

fn node(name: &str) -> At {
    At::Node(name.to_owned())
}

#[test]
fn the_own_node_reaches_isolated_pods_from_any_address() {
    let world = World::of(&cluster(&[pod("web", 1, "node1")], &[deny_all()]));
    let web = world.pod("default", "web");
    for family in FAMILIES {
        let (address, own) = (addresses(1)[family], ip(NODE1[family]));
        let _listener = world.rig.listen(&web, to(address, 8080));
        let server = world.rig.socket(&web, to(address, 53));
        for source in [None, Some(own)] {
            let connected = world.rig.connect(&node("node1"), source, to(address, 8080));
            assert!(connected.is_some(), "TCP to {address} from {source:?}");
            let answer = world.rig.ask(&node("node1"), source, to(address, 53), &[&server]);
            assert!(matches!(answer, Answer::Came(_)), "UDP to {address} from {source:?}: {answer:?}");
        }
    }
}

#[test]
fn another_node_reaches_isolated_pods_only_by_a_block() {
    let blocks: Vec<_> = [format!("{}/32", NODE2[0]), format!("{}/128", NODE2[1])]
        .map(|cidr| json!({ "ipBlock": { "cidr": cidr } }))
        .into();
    let from_node2 = policy(
        "from-node2",
        json!({ "podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{ "from": blocks }] }),
    );
    let pods = [pod("web", 1, "node1")];
    let mut world = World::of(&cluster(&pods, &[deny_all()]));
    let web = world.pod("default", "web");
    let listeners = FAMILIES.map(|family| world.rig.listen(&web, to(addresses(1)[family], 8080)));
    let reaches = |world: &World| {
        FAMILIES.map(|family| {
            let target = to(addresses(1)[family], 8080);
            world.rig.connect(&node("node2"), Some(ip(NODE2[family])), target).is_some()
        })
    };
    assert_eq!(reaches(&world), [false, false], "isolated");
    world.go(&cluster(&pods, &[deny_all(), from_node2]), crate::support::changes::Order::AddsFirst);
    assert_eq!(reaches(&world), [true, true], "let in");
    drop(listeners);
}
