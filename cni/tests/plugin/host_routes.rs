//! Lost host routes of pods come back, and nothing else is touched.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use cambric_cni::config::NodeAddresses;
use cambric_cni::host_routes::{self, Restored};
use serde_json::{Value, json};

use crate::host::{Host, NODE_IPV4, NODE_IPV6, Pod, ip, on_a_host, tcp};

fn node() -> NodeAddresses {
    NodeAddresses { ipv4: NODE_IPV4.parse().ok(), ipv6: NODE_IPV6.parse().ok() }
}

#[track_caller]
fn restore(host: &Host) -> Restored {
    host_routes::restore(&host.run_dir(), "cambric", node()).expect("leases and kernel can be read")
}

/// All routes of the node, without the word that follows the carrier in the kernel's own time.
fn routes() -> String {
    (ip("-d -4 route show table main") + &ip("-d -6 route show table main")).replace("linkdown ", "")
}

/// Each pod reaches the node and is reached by it, by the node's address.
#[track_caller]
fn assert_reachable(host: &Host, pod: &Pod, addresses: &[IpAddr]) {
    for address in addresses {
        let node = if address.is_ipv4() { NODE_IPV4 } else { NODE_IPV6 };
        let node: IpAddr = node.parse().expect("address");
        assert_eq!(tcp(host, pod, *address), node, "the node speaks from its own address");
        assert_eq!(tcp(pod, host, node), *address);
    }
}

#[test]
fn where_nothing_is_missing_nothing_is_done() {
    on_a_host(|host| {
        assert_eq!(restore(host), Restored::default(), "no pod was ever here");
        assert!(!host.run_dir().exists());
        let (pod, _) = host.attached_pod("a1");
        let before = routes();
        assert_eq!(restore(host), Restored::default());
        assert_eq!(routes(), before);
        host.call("DEL", &pod).run().expect_success();
        assert_eq!(restore(host), Restored::default(), "a pod that is gone stays gone");
        host.assert_clean();
    });
}

#[test]
fn a_node_address_that_goes_and_comes_back_costs_no_pod_its_route() {
    on_a_host(|host| {
        let pods = [host.attached_pod("a1"), host.attached_pod("b1")];
        let before = routes();
        ip(&format!("addr del {NODE_IPV4}/32 dev lo"));
        ip(&format!("addr del {NODE_IPV6}/128 dev lo"));
        assert_eq!(ip("-4 route show proto 204"), "", "the kernel drops what has a lost source");
        assert!(!ip("-6 route show proto 204").contains("src"), "or takes the source off");

        let unsourced = restore(host);
        let missing_sources = [NODE_IPV4, NODE_IPV6].map(|text| text.parse().expect("address")).into();
        assert_eq!(unsourced, Restored { put_back: 2, missing_sources, ..Restored::default() });
        let [(a, _), (b, added)] = &pods;
        for address in added.addresses() {
            tcp(a, b, address); // pods reach each other while the node has no address
        }
        assert_eq!(restore(host), Restored { put_back: 0, ..unsourced });

        ip(&format!("addr add {NODE_IPV4}/32 dev lo"));
        ip(&format!("addr add {NODE_IPV6}/128 dev lo nodad"));
        assert_eq!(restore(host), Restored { sourced: 4, ..Restored::default() });
        assert_eq!(routes(), before);
        for (pod, added) in &pods {
            assert_reachable(host, pod, &added.addresses());
        }
        assert_eq!(restore(host), Restored::default());
    });
}

#[test]
fn another_address_of_the_node_becomes_the_source() {
    on_a_host(|host| {
        let (pod, added) = host.attached_pod("a1");
        ip("addr add 10.255.0.99/32 dev lo");
        ip("addr add fd00:10:255::99/128 dev lo nodad");
        let moved = NodeAddresses { ipv4: "10.255.0.99".parse().ok(), ipv6: "fd00:10:255::99".parse().ok() };
        let restored = host_routes::restore(&host.run_dir(), "cambric", moved).expect("restored");
        assert_eq!((restored.put_back, restored.sourced), (0, 2));
        for (address, node) in added.addresses().into_iter().zip(["10.255.0.99", "fd00:10:255::99"]) {
            assert_eq!(tcp(host, &pod, address).to_string(), node);
        }
        let unknown = host_routes::restore(&host.run_dir(), "cambric", NodeAddresses::default());
        assert_eq!(unknown.expect("restored"), Restored::default(), "without addresses sources stay");
    });
}

#[test]
fn a_source_that_moves_costs_no_route_of_somebody_else() {
    on_a_host(|host| {
        let (_pod, added) = host.attached_pod("a1");
        let [ipv4, ipv6] = added.addresses()[..] else { panic!("{added:?}") };
        // Before ours, with another TOS, and behind ours.
        ip(&format!("route prepend {ipv4}/32 dev lo proto static"));
        ip(&format!("route add {ipv4}/32 tos 0x10 dev lo proto static"));
        ip(&format!("route append {ipv4}/32 dev lo proto boot scope host"));
        ip(&format!("-6 route add {ipv6}/128 dev lo proto static metric 2048"));
        let foreign = || {
            let lines = routes();
            let of_others =
                lines.lines().filter(|line| !line.contains("proto 204") && !line.contains("proto kernel"));
            of_others.map(str::to_owned).collect::<Vec<_>>()
        };
        let before = foreign();
        ip("addr add 10.255.0.99/32 dev lo");
        ip("addr add fd00:10:255::99/128 dev lo nodad");
        let moved = NodeAddresses { ipv4: "10.255.0.99".parse().ok(), ipv6: "fd00:10:255::99".parse().ok() };
        for sources in [moved, node()] {
            let restored = host_routes::restore(&host.run_dir(), "cambric", sources).expect("restored");
            assert_eq!(restored.sourced, 2);
            assert_eq!(foreign(), before);
            let ours = host.pod_routes();
            assert_eq!(ours.len(), 2, "{ours:?}");
            let wanted = [sources.ipv4.map(IpAddr::from), sources.ipv6.map(IpAddr::from)];
            for (route, source) in ours.iter().zip(wanted.into_iter().flatten()) {
                assert!(route.contains(&format!("src {source} ")), "{route}");
            }
        }
    });
}

#[test]
fn a_source_moves_without_giving_up_the_first_place() {
    on_a_host(|host| {
        let (pod, added) = host.attached_pod("a1");
        let (ipv4, link) = (added.addresses()[0], pod.host_ifname());
        ip(&format!("route append {ipv4}/32 dev lo proto static"));
        let before = ip(&format!("route show {ipv4}"));
        ip("addr add 10.255.0.99/32 dev lo");
        let moved = NodeAddresses { ipv4: "10.255.0.99".parse().ok(), ..node() };
        let move_to = |sources| {
            let restored = host_routes::restore(&host.run_dir(), "cambric", sources).expect("restored");
            assert_eq!(restored, Restored { sourced: 1, ..Restored::default() });
        };
        move_to(moved);
        assert_eq!(ip(&format!("route show {ipv4}")), before.replace(NODE_IPV4, "10.255.0.99"));
        assert_eq!(tcp(host, &pod, ipv4).to_string(), "10.255.0.99");
        // The new one is there already, behind all.
        ip(&format!("route append {ipv4} dev {link} proto 204 scope link src {NODE_IPV4}"));
        move_to(node());
        assert_eq!(host.pod_routes().iter().filter(|route| route.contains(NODE_IPV4)).count(), 1);
    });
}

#[test]
fn a_route_without_a_source_is_left_alone_until_it_is_used() {
    on_a_host(|host| {
        let (pod, added) = host.attached_pod("a1");
        let (address, link) = (added.addresses()[0], pod.host_ifname());
        let before = routes();
        let own = format!("{address} dev {link} proto 204 scope link");
        ip(&format!("route prepend {own}"));
        ip(&format!("route prepend {address} dev lo proto static"));
        let behind = routes();
        assert_eq!(restore(host), Restored::default());
        assert_eq!(routes(), behind, "to delete it the kernel might take one with a source");
        ip(&format!("route del {address} dev lo proto static"));
        assert_eq!(restore(host), Restored { sourced: 1, ..Restored::default() });
        assert_eq!(routes(), before);
    });
}

#[test]
fn a_move_of_a_source_that_was_broken_off_is_brought_to_its_end() {
    on_a_host(|host| {
        let (pod, added) = host.attached_pod("a1");
        let (address, link) = (added.addresses()[0], pod.host_ifname());
        let before = routes();
        ip("addr add 10.255.0.99/32 dev lo");
        for order in ["append", "prepend"] {
            ip(&format!("route {order} {address} dev {link} proto 204 scope link src 10.255.0.99"));
            assert_eq!(restore(host), Restored { sourced: 1, ..Restored::default() }, "{order}");
            assert_eq!(routes(), before, "{order}");
        }
    });
}

#[test]
fn a_pod_that_was_added_again_from_another_range_gets_no_route_to_its_old_addresses() {
    on_a_host(|host| {
        let (pod, _) = host.attached_pod("a1");
        ip(&format!("link del {}", pod.host_ifname()));
        let call = |command| {
            let ranges = json!([{"ipv4": "10.244.9.0/24", "ipv6": "fd00:10:244:9::/64"}]);
            host.call(command, &pod).config("ranges", ranges)
        };
        let added = call("ADD").run().expect_success().json.clone();
        let before = routes();
        assert_eq!(restore(host), Restored::default());
        assert_eq!((routes(), host.leases().len()), (before, 1));
        call("CHECK").config("prevResult", added).run().expect_success();
        call("DEL").run().expect_success();
        host.assert_clean();
    });
}

#[test]
fn leases_in_two_tables_give_a_pod_what_it_was_granted_once() {
    let ipv4 = json!([{"ipv4": "10.244.1.0/24"}]);
    let dual = json!([{"ipv4": "10.244.1.0/24", "ipv6": "fd00:10:244:1::/64"}]);
    for (old, new) in [(dual.clone(), ipv4.clone()), (ipv4, dual)] {
        on_a_host(move |host| {
            let add = |id, ranges: &Value| {
                let pod = host.pod(id);
                let added = host.call("ADD", &pod).config("ranges", ranges.clone()).run();
                (pod, added.expect_success().addresses())
            };
            let (pod, addresses) = add("a1", &old);
            let after_one = host.leases().len();
            add("b1", &new);
            assert_eq!((after_one, host.leases().len()), (1, 3), "the new table has the old pod too");
            let before = routes();
            assert_eq!(restore(host), Restored::default());
            assert_eq!(routes(), before, "no address that the pod does not have");

            ip(&format!("addr del {NODE_IPV4}/32 dev lo"));
            let missing_sources = [NODE_IPV4.parse().expect("address")].into();
            assert_eq!(restore(host), Restored { put_back: 2, missing_sources, ..Restored::default() });
            ip(&format!("addr add {NODE_IPV4}/32 dev lo"));
            assert_eq!(restore(host), Restored { sourced: 2, ..Restored::default() });
            assert_eq!(routes(), before);
            assert_reachable(host, &pod, &addresses);
            assert_eq!(restore(host), Restored::default());
        });
    }
}

#[test]
fn deleted_routes_and_those_of_a_link_that_was_down_come_back() {
    on_a_host(|host| {
        let (pod, added) = host.attached_pod("a1");
        let addresses = added.addresses();
        let before = routes();
        for address in &addresses {
            ip(&format!("route del {address}"));
        }
        assert_eq!(restore(host), Restored { put_back: 2, ..Restored::default() });
        assert_eq!(routes(), before);
        assert_reachable(host, &pod, &addresses);

        let name = pod.host_ifname();
        ip(&format!("link set {name} down"));
        assert_eq!(host.pod_routes(), [""; 0]);
        assert_eq!(restore(host).put_back, 0, "the lease is young: its ADD may be at work");
        ip(&format!("link set {name} up"));
        assert_eq!(restore(host), Restored { put_back: 2, gateways: 1, ..Restored::default() });
        assert_eq!(routes(), before);
        assert_reachable(host, &pod, &addresses);
    });
}

#[test]
fn routes_of_others_and_of_other_networks_stay_as_they_are() {
    on_a_host(|host| {
        let (_pod, added) = host.attached_pod("a1");
        let other = host.pod("b1");
        let in_other = host.call("ADD", &other).config("name", json!("other"));
        in_other.config("ranges", json!([{"ipv4": "10.9.0.0/24"}])).run().expect_success();
        let address = added.addresses()[0];
        ip(&format!("route del {address}"));
        ip(&format!("route add {address} dev lo proto static"));
        ip("route add 192.0.2.7/32 dev lo proto 204");
        let others = routes();
        let restored = restore(host);
        assert_eq!((restored.put_back, restored.sourced), (0, 0), "{restored:?}");
        assert_eq!(routes(), others);
    });
}

#[test]
fn what_cannot_be_put_back_is_named_once_no_add_can_be_at_work() {
    on_a_host(|host| {
        // Long ago: a table that is made anew has its leases from the time of the boot.
        let (pod, added) = host.attached_pod("a1");
        let address = added.addresses()[0];
        std::fs::remove_dir_all(host.lease_dir()).expect("removed");
        host.attached_pod("b1");
        ip(&format!("route del {address}"));
        ip(&format!("route add {address} dev lo proto static"));
        let failing = restore(host).failing;
        let name = pod.host_ifname();
        let words: Vec<String> = failing.iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            [format!(
                "no route to {address} of default/web (eth0 of container a1, {name}): another route has its \
                 place, of protocol 4 by interface 1"
            )]
        );
        ip(&format!("route del {address} dev lo proto static"));
        ip(&format!("link set {name} down"));
        let failing = restore(host).failing;
        assert_eq!(failing.len(), 2);
        assert!(failing.iter().all(|failing| failing.why == format!("{name} is down")), "{failing:?}");
    });
}

#[test]
fn a_pod_that_a_better_route_cuts_off_is_named_and_the_route_left_alone() {
    on_a_host(|host| {
        let (pod, added) = host.attached_pod("a1");
        let [ipv4, ipv6] = added.addresses()[..] else { panic!("{added:?}") };
        std::fs::remove_dir_all(host.lease_dir()).expect("removed");
        host.attached_pod("b1");
        assert_eq!(restore(host), Restored::default());
        let name = pod.host_ifname();
        let cut_off = |address: IpAddr, why: &str| {
            let restored = restore(host);
            let words: Vec<String> = restored.failing.iter().map(ToString::to_string).collect();
            let who = format!("default/web (eth0 of container a1, {name})");
            assert_eq!(words, [format!("no route to {address} of {who}: {why}")]);
            assert_eq!(restored, Restored { failing: restored.failing.clone(), ..Restored::default() });
        };
        let used =
            |protocol: u32| format!("the node uses another one, of protocol {protocol} by interface 1");
        for (address, route, why) in [
            (ipv6, format!("-6 route add {ipv6}/128 dev lo metric 10 proto static"), used(4)),
            (ipv4, format!("-4 route prepend {ipv4}/32 dev lo proto boot"), used(3)),
            (
                ipv4,
                format!("-4 route prepend unreachable {ipv4}/32"),
                format!("cannot find a route to {ipv4}: EHOSTUNREACH: No route to host"),
            ),
            (
                ipv6,
                format!("-6 route add blackhole {ipv6}/128 metric 10"),
                format!("cannot find a route to {ipv6}: EINVAL: Invalid argument"),
            ),
        ] {
            ip(&route);
            let before = routes();
            cut_off(address, &why);
            assert_eq!(routes(), before, "nobody fights");
            ip(&route.replace(" add ", " del ").replace(" prepend ", " del "));
            assert_eq!(restore(host), Restored::default());
        }
    });
}

#[test]
fn beside_pods_that_come_and_go_no_add_fails_and_nothing_is_left() {
    on_a_host(|host| {
        let over = AtomicBool::new(false);
        let put_back = thread::scope(|scope| {
            // The daemon, faster than it will ever be. Threads are born in the host's namespaces.
            let daemon = scope.spawn(|| {
                let mut put_back = 0;
                while !over.load(Ordering::Relaxed) {
                    put_back += restore(host).put_back;
                }
                put_back
            });
            let runtimes: Vec<_> = (0..2)
                .map(|runtime| {
                    scope.spawn(move || {
                        for nth in 0..25 {
                            let (pod, added) = host.attached_pod(&format!("{runtime}-{nth}"));
                            assert_eq!(added.addresses().len(), 2);
                            host.call("DEL", &pod).run().expect_success();
                        }
                    })
                })
                .collect();
            let ended: Vec<_> = runtimes.into_iter().map(|runtime| runtime.join()).collect();
            over.store(true, Ordering::Relaxed);
            ended.into_iter().for_each(|runtime| runtime.expect("all went well"));
            daemon.join().expect("all went well")
        });
        println!("{put_back} routes were put before their ADD did");
        host.assert_clean();
    });
}

#[test]
fn pods_that_go_are_not_told_as_cut_off() {
    on_a_host(|host| {
        let pods: Vec<Pod> = (0..40).map(|nth| host.attached_pod(&format!("a{nth}")).0).collect();
        // Long ago, as above: no ADD can be at work.
        std::fs::remove_dir_all(host.lease_dir()).expect("removed");
        host.attached_pod("b1");
        let over = AtomicBool::new(false);
        let failing = thread::scope(|scope| {
            let daemon = scope.spawn(|| {
                let mut failing = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    failing.extend(restore(host).failing);
                }
                failing
            });
            let answers: Vec<_> = pods.iter().map(|pod| host.call("DEL", pod).run()).collect();
            over.store(true, Ordering::Relaxed);
            for answer in answers {
                answer.expect_success();
            }
            daemon.join().expect("all went well")
        });
        assert_eq!(failing, []);
    });
}

#[test]
fn beside_the_daemon_an_add_names_the_source_that_is_missing() {
    on_a_host(|host| {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let daemon = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    restore(host);
                }
            });
            let answers: Vec<_> = (0..40)
                .map(|nth| {
                    let call = host.call("ADD", &host.pod(&format!("a{nth}")));
                    call.config("nodeAddresses", json!([NODE_IPV4, "fd00:10:255::99"])).run()
                })
                .collect();
            over.store(true, Ordering::Relaxed);
            daemon.join().expect("all went well");
            for answer in answers {
                answer.expect_error(104, "fd00:10:255::99 in nodeAddresses is not on the node");
            }
        });
        host.assert_clean();
    });
}
