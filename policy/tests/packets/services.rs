//! Service addresses: policy is about the pod's own address, after translation. kube-proxy's rules are written as it
//! writes them ([`kube_proxy`]): in the form of iptables and in the form of nftables.

mod kube_proxy;

use std::net::{IpAddr, TcpListener, TcpStream};

use serde_json::json;

use crate::rig::{Answer, At, World};
use crate::small::{FAMILIES, NODE1, OUTSIDE, addresses, allow, cluster, deny_all, ip, pod, policy, to};
use kube_proxy::{Form, Service};

/// Of the pods behind a service, and of the services.
const POD_PORT: u16 = 8080;
const SERVICE_PORT: u16 = 80;
const NODE_PORT: u16 = 30_080;

/// Service addresses: with the last digit.
fn service_address(nth: u8) -> [IpAddr; 2] {
    [ip(&format!("10.96.0.{nth}")), ip(&format!("fd96::{nth}"))]
}

/// A service of one pod.
fn service(nth: u8, protocol: &'static str, port: u16, pod: u8, pod_port: u16) -> Service {
    Service {
        nth,
        addresses: service_address(nth),
        protocol,
        port,
        node_port: None,
        pods: vec![addresses(pod)],
        pod_port,
    }
}

fn in_both_forms(test: impl Fn(Form)) {
    for form in [Form::Iptables, Form::Nftables] {
        println!("{form:?}");
        test(form);
    }
}

fn node(name: &str) -> At {
    At::Node(name.to_owned())
}

/// Listens behind a service.
struct Behind {
    listeners: [TcpListener; 2],
}

impl Behind {
    fn new(world: &World, name: &str, nth: u8) -> Behind {
        let at = world.pod("default", name);
        Behind {
            listeners: FAMILIES.map(|family| world.rig.listen(&at, to(addresses(nth)[family], POD_PORT))),
        }
    }

    /// Whence the connection comes, as the pod sees it.
    fn accept(&self, family: usize, _there: &TcpStream) -> IpAddr {
        self.listeners[family].accept().expect("a connection").1.ip()
    }
}

/// `client` may speak to `near` beside it and to `far` on the other node; `other` may not.
fn clients_and_servers() -> World {
    let mut policies = vec![deny_all()];
    for server in ["near", "far"] {
        policies.extend(allow("client", server, "TCP", POD_PORT));
    }
    let everything = policy(
        "other-everywhere",
        json!({ "podSelector": { "matchLabels": { "app": "other" } }, "policyTypes": ["Egress"], "egress": [{}] }),
    );
    policies.push(everything);
    let pods = [
        pod("client", 1, "node1"),
        pod("near", 2, "node1"),
        pod("far", 3, "node2"),
        pod("other", 4, "node1"),
    ];
    World::of(&cluster(&pods, &policies))
}

#[test]
fn a_cluster_address_is_judged_as_the_pod_behind_it() {
    in_both_forms(|form| {
        let world = clients_and_servers();
        let behind = [Behind::new(&world, "near", 2), Behind::new(&world, "far", 3)];
        let mut both = service(3, "tcp", SERVICE_PORT, 2, POD_PORT);
        both.pods.push(addresses(3));
        let services = [
            service(1, "tcp", SERVICE_PORT, 2, POD_PORT),
            service(2, "tcp", SERVICE_PORT, 3, POD_PORT),
            both,
        ];
        kube_proxy::program(&world.rig, form, &services);
        for family in FAMILIES {
            let reaches = |name: &str, nth| {
                let target = to(service_address(nth)[family], SERVICE_PORT);
                world.rig.connect(&world.pod("default", name), None, target)
            };
            for (nth, behind) in (1..).zip(&behind) {
                let there = reaches("client", nth).expect("it is allowed");
                assert_eq!(behind.accept(family, &there), addresses(1)[family], "pods are not masqueraded");
                assert!(reaches("other", nth).is_none(), "its egress is open, but not their ingress");
            }
            // Whichever of the two it comes to.
            for _ in 0..4 {
                assert!(reaches("client", 3).is_some());
                assert!(reaches("other", 3).is_none());
            }
        }
    });
}

#[test]
fn a_block_of_service_addresses_opens_nothing() {
    in_both_forms(|form| {
        let blocks = ["10.96.0.0/16", "fd96::/64"].map(|cidr| json!({ "ipBlock": { "cidr": cidr } }));
        let to_services = policy(
            "to-services",
            json!({ "podSelector": { "matchLabels": { "app": "client" } }, "policyTypes": ["Egress"],
                    "egress": [{ "to": blocks }] }),
        );
        let world =
            World::of(&cluster(&[pod("client", 1, "node1"), pod("near", 2, "node1")], &[to_services]));
        let _behind = Behind::new(&world, "near", 2);
        kube_proxy::program(&world.rig, form, &[service(1, "tcp", SERVICE_PORT, 2, POD_PORT)]);
        for address in service_address(1) {
            let target = to(address, SERVICE_PORT);
            assert!(world.rig.connect(&world.pod("default", "client"), None, target).is_none(), "{address}");
            // A node is not limited: so the service is there.
            assert!(world.rig.connect(&node("node1"), None, target).is_some(), "{address}");
        }
    });
}

#[test]
fn names_are_resolved_by_a_cluster_address_when_policy_allows_the_pods_behind_it() {
    in_both_forms(|form| {
        let mut dns = pod("dns", 2, "node2");
        dns["namespace"] = json!("kube-system");
        dns["labels"] = json!({ "k8s-app": "kube-dns" });
        let to_dns = policy(
            "to-dns",
            json!({
                "podSelector": {}, "policyTypes": ["Ingress", "Egress"],
                "egress": [{
                    "to": [{
                        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "kube-system" } },
                        "podSelector": { "matchLabels": { "k8s-app": "kube-dns" } },
                    }],
                    "ports": [{ "protocol": "UDP", "port": 5353 }, { "protocol": "TCP", "port": 5353 }],
                }],
            }),
        );
        let world = World::of(&cluster(&[pod("client", 1, "node1"), dns], &[to_dns]));
        let (client, at) = (world.pod("default", "client"), world.pod("kube-system", "dns"));
        let services =
            [service(1, "udp", 53, 2, 5353), service(1, "tcp", 53, 2, 5353), service(1, "udp", 54, 2, 5354)];
        kube_proxy::program(&world.rig, form, &services);
        for family in FAMILIES {
            let (name_server, own) = (service_address(1)[family], addresses(1)[family]);
            let server = world.rig.socket(&at, to(addresses(2)[family], 5353));
            let other = world.rig.socket(&at, to(addresses(2)[family], 5354));
            let _listener = world.rig.listen(&at, to(addresses(2)[family], 5353));
            assert_eq!(world.rig.ask(&client, None, to(name_server, 53), &[&server]), Answer::Came(own));
            assert!(world.rig.connect(&client, None, to(name_server, 53)).is_some());
            assert_eq!(world.rig.ask(&client, None, to(name_server, 54), &[&other]), Answer::None);
        }
    });
}

#[test]
fn the_own_node_reaches_isolated_pods_by_a_cluster_address_and_another_node_does_not() {
    in_both_forms(|form| {
        let world = World::of(&cluster(&[pod("near", 2, "node1"), pod("far", 3, "node2")], &[deny_all()]));
        let _behind = [Behind::new(&world, "near", 2), Behind::new(&world, "far", 3)];
        let services = [
            service(1, "tcp", SERVICE_PORT, 2, POD_PORT),
            service(1, "udp", SERVICE_PORT, 2, POD_PORT),
            service(2, "tcp", SERVICE_PORT, 3, POD_PORT),
        ];
        kube_proxy::program(&world.rig, form, &services);
        for family in FAMILIES {
            let (near, far) = (service_address(1)[family], service_address(2)[family]);
            let server = world.rig.socket(&world.pod("default", "near"), to(addresses(2)[family], POD_PORT));
            assert!(world.rig.connect(&node("node1"), None, to(near, SERVICE_PORT)).is_some());
            let answer = world.rig.ask(&node("node1"), None, to(near, SERVICE_PORT), &[&server]);
            assert!(matches!(answer, Answer::Came(_)), "{answer:?}");
            assert!(world.rig.connect(&node("node1"), None, to(far, SERVICE_PORT)).is_none());
            assert!(world.rig.connect(&node("node2"), None, to(far, SERVICE_PORT)).is_some());
        }
    });
}

#[test]
fn an_isolated_pod_reaches_itself_by_its_service() {
    in_both_forms(|form| {
        let world = World::of(&cluster(&[pod("near", 2, "node1"), pod("other", 4, "node1")], &[deny_all()]));
        let behind = [Behind::new(&world, "near", 2), Behind::new(&world, "other", 4)];
        let services =
            [service(1, "tcp", SERVICE_PORT, 2, POD_PORT), service(2, "tcp", SERVICE_PORT, 4, POD_PORT)];
        kube_proxy::program(&world.rig, form, &services);
        for family in FAMILIES {
            let near = world.pod("default", "near");
            let there = world.rig.connect(&near, None, to(service_address(1)[family], SERVICE_PORT));
            let source = behind[0].accept(family, &there.expect("itself"));
            assert_eq!(source, ip(NODE1[family]), "kube-proxy masquerades it");
            assert!(world.rig.connect(&near, None, to(service_address(2)[family], SERVICE_PORT)).is_none());
        }
    });
}

#[test]
fn what_comes_masqueraded_by_a_node_port_is_not_taken_for_the_node() {
    in_both_forms(|form| {
        let blocks = [format!("{}/32", OUTSIDE[0]), format!("{}/128", OUTSIDE[1])]
            .map(|cidr| json!({ "ipBlock": { "cidr": cidr } }));
        let from_outside = policy(
            "from-outside",
            json!({
                "podSelector": { "matchLabels": { "app": "public" } }, "policyTypes": ["Ingress"],
                "ingress": [{ "from": blocks }],
            }),
        );
        let pods = [
            pod("private", 1, "node1"),
            pod("public", 2, "node1"),
            pod("far", 3, "node2"),
            pod("public", 4, "node2"),
        ];
        let mut pods = pods.to_vec();
        pods[3]["name"] = json!("public-far");
        let world = World::of(&cluster(&pods, &[deny_all(), from_outside]));
        let names = ["private", "public", "far", "public-far"];
        let behind: Vec<Behind> =
            (1..).zip(names).map(|(nth, name)| Behind::new(&world, name, nth)).collect();
        let services: Vec<Service> = (1..=4)
            .map(|nth| {
                let node_port = Some(NODE_PORT + u16::from(nth));
                Service { node_port, ..service(nth, "tcp", SERVICE_PORT, nth, POD_PORT) }
            })
            .collect();
        kube_proxy::program(&world.rig, form, &services);
        for family in FAMILIES {
            let by_node1 = |nth: u16| {
                let target = to(NODE1[family], NODE_PORT + nth);
                world.rig.connect(&At::Outside, Some(ip(OUTSIDE[family])), target)
            };
            assert!(by_node1(1).is_none(), "the pod of the node that masquerades is isolated");
            let there = by_node1(2).expect("policy is judged before masquerading");
            assert_eq!(behind[1].accept(family, &there), ip(NODE1[family]), "as the pod sees it");
            assert!(by_node1(3).is_none(), "the pod of another node is isolated");
            assert!(by_node1(4).is_none(), "what another node sees comes from node1, which no policy names");
        }
    });
}
