//! CHECK: what ADD made passes; every damage is named in words; nothing is changed by looking.

use std::fs;

use serde_json::{Value, json};

use crate::host::{Answer, Call, Host, NODE_IPV4, Place, Pod, ip, on_a_host};

/// Code of an attachment that is not as ADD left it.
const DIFFERS: u32 = 107;

/// CHECK as the runtime asks it: with what ADD answered.
fn check(host: &Host, pod: &Pod, added: &Value) -> Call {
    host.call("CHECK", pod)
        .config("cniVersion", added["cniVersion"].clone())
        .config("prevResult", added.clone())
}

/// A pod that was added in the newest version.
fn fresh_pod(host: &Host, id: &str) -> (Pod, Value) {
    let pod = host.pod(id);
    let answer = host.call("ADD", &pod).config("cniVersion", json!("1.1.0")).run();
    (pod, answer.expect_success().json.clone())
}

fn text_at<'a>(added: &'a Value, pointer: &str) -> &'a str {
    added.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} in {added}"))
}

/// Everything about a pod that a CHECK could have changed. What the kernel does in its own time is left out:
/// link-local addresses and their routes.
fn picture(host: &Host, pod: &Pod) -> String {
    let look = || {
        let commands = [
            "-o link show",
            "-o addr show scope global",
            "-4 route show table all",
            "-6 route show",
            "neigh show nud permanent",
        ];
        commands
            .map(ip)
            .join("")
            .replace("linkdown ", "")
            .lines()
            .filter(|line| !line.contains("proto kernel"))
            .collect::<String>()
    };
    format!("{} {} {:?}", look(), pod.run(look), host.leases())
}

#[test]
fn what_add_made_passes_in_every_version_and_family_and_is_left_alone() {
    on_a_host(|host| {
        let ranges = [
            ("v4", json!([{"ipv4": "10.244.1.0/24"}])),
            ("v6", json!([{"ipv6": "fd00:10:244:1::/64"}])),
            ("dual", json!([{"ipv4": "10.244.2.0/24", "ipv6": "fd00:10:244:2::/64"}])),
        ];
        for version in ["0.4.0", "1.0.0", "1.1.0"] {
            for (family, ranges) in &ranges {
                let pod = host.pod(&format!("{family}-{version}"));
                let call = |command| {
                    let call = host.call(command, &pod).config("cniVersion", json!(version));
                    call.config("ranges", ranges.clone())
                };
                let added = call("ADD").run().expect_success().json.clone();
                // Right away: an answer that waits for the kernel would not do.
                let checked = call("CHECK").config("prevResult", added.clone()).run();
                assert_eq!(checked.expect_success().stdout, "", "{version} {family}");
                let before = picture(host, &pod);
                call("CHECK").config("prevResult", added).run().expect_success();
                assert_eq!(before, picture(host, &pod), "{version} {family}");
                call("DEL").run().expect_success();
            }
        }
        host.assert_clean();
    });
}

#[test]
fn pods_of_nodes_without_a_mtu_or_addresses_pass_too() {
    on_a_host(|host| {
        let pod = host.pod("a1");
        let call =
            |command| host.call(command, &pod).config("mtu", Value::Null).config("nodeAddresses", json!([]));
        let added = call("ADD").run().expect_success().json.clone();
        call("CHECK").config("prevResult", added).run().expect_success();
    });
}

/// What is done to a pod that was just added: where, by which command, and what CHECK says about it.
/// HOST, IPV4 and IPV6 stand for the host end's name and the leased addresses.
const DAMAGES: [(Where, &str, &str); 26] = [
    (Where::Pod, "ip link set eth0 down", "eth0 in the pod is down"),
    (Where::Pod, "ip link set eth0 name eth9", "eth0 is not in the pod"),
    (
        Where::Pod,
        "ip link set eth0 address 0a:00:00:00:00:99",
        "MAC of eth0 in the pod is 0a:00:00:00:00:99, prevResult has 0a:",
    ),
    (Where::Pod, "ip link set eth0 mtu 1500", "MTU of eth0 in the pod is 1500, prevResult has 1400"),
    (Where::Pod, "ip link set eth0 mtu 1500", "MTU of eth0 in the pod is 1500, more than the 1400 of HOST"),
    (Where::Pod, "ip addr del IPV4/32 dev eth0", "eth0 in the pod lacks IPV4/32"),
    (Where::Pod, "ip addr del IPV6/128 dev eth0", "eth0 in the pod lacks IPV6/128"),
    (Where::Pod, "ip route del default", "the pod has no default route via 169.254.1.1 by eth0"),
    (
        Where::Pod,
        "ip -6 route replace default via fe80::2 dev eth0",
        "the pod has no default route via fe80::1 by eth0, it has one via fe80::2",
    ),
    (Where::Pod, "ip -6 route del fe80::1", "the pod has no route to its gateway fe80::1 by eth0"),
    (Where::Pod, "ip neigh del 169.254.1.1 dev eth0", "neighbour 169.254.1.1 of eth0 in the pod is missing"),
    (
        Where::Pod,
        "ip neigh replace fe80::1 dev eth0 lladdr 02:ca:3b:00:00:01 nud reachable",
        "neighbour fe80::1 of eth0 in the pod is not permanent",
    ),
    (
        Where::Pod,
        "ip neigh replace 169.254.1.1 dev eth0 lladdr 02:ca:3b:00:00:02 nud permanent",
        "MAC of neighbour 169.254.1.1 of eth0 in the pod is 02:ca:3b:00:00:02, must be 02:ca:3b:00:00:01",
    ),
    (Where::Node, "ip link set HOST down", "HOST on the node is down"),
    (
        Where::Node,
        "ip link set HOST address 02:ca:3b:00:00:07",
        "MAC of HOST on the node is 02:ca:3b:00:00:07, pods know 02:ca:3b:00:00:01",
    ),
    (Where::Node, "ip link set HOST mtu 1280", "MTU of HOST on the node is 1280, prevResult has 1400"),
    (Where::Node, "ip link set HOST alias uplink", "alias of HOST on the node is \\\"uplink\\\", must be"),
    (Where::Node, "ip addr del fe80::1/128 dev HOST", "HOST on the node lacks fe80::1"),
    (Where::Node, "ip route del IPV4 proto 204", "the node has no route of protocol 204 to IPV4 by HOST"),
    (
        Where::Node,
        "ip -6 route replace IPV6 dev lo proto static metric 1024",
        "the node has no route of protocol 204 to IPV6 by HOST, it has one of protocol 4 by interface 1",
    ),
    (
        Where::Node,
        "ip -6 route add IPV6 dev lo proto static metric 10",
        "the node does not use its route to IPV6 by HOST, but one of protocol 4 by interface 1",
    ),
    (
        Where::Node,
        "ip route prepend unreachable IPV4",
        "the node does not use its route to IPV4 by HOST: cannot find a route to IPV4: E",
    ),
    (
        Where::Node,
        "ip route replace IPV4 dev HOST proto 204 scope link",
        "the node's route to IPV4 has no source, the configuration has 10.255.0.11",
    ),
    (Where::Node, "sysctl -qw net.ipv4.conf.HOST.proxy_arp=0", "ipv4/conf/HOST/proxy_arp is 0, must be 1"),
    (Where::Node, "sysctl -qw net.ipv4.neigh.HOST.proxy_delay=80", "neigh/HOST/proxy_delay is 80, must be 0"),
    (Where::Node, "sysctl -qw net.ipv6.conf.HOST.forwarding=0", "ipv6/conf/HOST/forwarding is 0, must be 1"),
];

#[derive(Clone, Copy, PartialEq)]
enum Where {
    Node,
    Pod,
}

#[test]
fn every_damage_is_named() {
    on_a_host(|host| {
        for (nth, (place, command, words)) in DAMAGES.into_iter().enumerate() {
            let (pod, added) = fresh_pod(host, &format!("a{nth}"));
            let address =
                |nth| text_at(&added, &format!("/ips/{nth}/address")).split('/').next().unwrap_or("");
            let fill = |text: &str| {
                let text = text.replace("HOST", &pod.host_ifname());
                text.replace("IPV4", address(0)).replace("IPV6", address(1))
            };
            check(host, &pod, &added).run().expect_success();
            let command = fill(command);
            let damage = move || run(&command);
            if place == Where::Pod {
                pod.run(damage)
            } else {
                damage()
            }
            let answer = check(host, &pod, &added).run();
            answer.expect_error(DIFFERS, &fill(words)).expect_error(DIFFERS, "is not as ADD left it");
            println!("{}", text_at(&answer.json, "/details"));
            host.call("DEL", &pod).run().expect_success();
        }
    });
}

/// Runs `ip`, or writes a setting.
fn run(command: &str) {
    match command.split_once(' ') {
        Some(("ip", arguments)) => drop(ip(arguments)),
        Some(("sysctl", setting)) => {
            let (key, value) = setting.trim_start_matches("-qw ").split_once('=').expect("a setting");
            let path = format!("/proc/sys/{}", key.replace('.', "/"));
            fs::write(path, value).expect("the setting");
        }
        _ => panic!("unknown command: {command}"),
    }
}

#[test]
fn all_differences_are_told_together() {
    on_a_host(|host| {
        let (pod, added) = fresh_pod(host, "a1");
        pod.run(|| {
            ip("route del default");
            ip("link set eth0 mtu 1401")
        });
        ip(&format!("link set {} alias uplink", pod.host_ifname()));
        fs::remove_dir_all(host.run_dir()).expect("removed");
        let answer = check(host, &pod, &added).run();
        for words in [
            "there is no lease of eth0 of container a1",
            "no default route via 169.254.1.1",
            "MTU of eth0 in the pod is 1401, prevResult has 1400",
            "MTU of eth0 in the pod is 1401, more than",
            "alias of",
        ] {
            answer.expect_error(DIFFERS, words);
        }
        assert_eq!(text_at(&answer.json, "/details").split("; ").count(), 5, "{}", answer.stdout);
        assert!(!host.run_dir().exists(), "CHECK makes no folder");
    });
}

#[test]
fn a_link_of_one_pod_does_not_pass_for_another_ones() {
    on_a_host(|host| {
        let (pod, added) = fresh_pod(host, "a1");
        pod.run(|| ip("link set eth0 name eth1"));
        pod.run(|| ip("link add eth0 type bridge"));
        check(host, &pod, &added).run().expect_error(DIFFERS, "are not the two ends of one link");
    });
}

#[test]
fn a_result_that_is_not_this_pods_is_named() {
    on_a_host(|host| {
        let (pod, added) = fresh_pod(host, "a1");
        let (other, others) = fresh_pod(host, "b1");
        let changed = |pointer: &str, value: Value| {
            let mut changed = added.clone();
            *changed.pointer_mut(pointer).expect("there") = value;
            check(host, &pod, &changed).run()
        };
        let leased = text_at(&added, "/ips/0/address").trim_end_matches("/32");
        changed("/ips/0/address", json!("10.244.1.250/32"))
            .expect_error(
                DIFFERS,
                &format!("{leased} is leased to eth0 of container a1, prevResult does not"),
            )
            .expect_error(DIFFERS, "prevResult has 10.244.1.250, leased to eth0 of container a1 is 10.244.1");
        changed("/ips/0/interface", json!(0)).expect_error(DIFFERS, "prevResult does not have it");
        changed("/ips", json!([])).expect_error(DIFFERS, "prevResult does not have it");
        changed("/interfaces/1/mac", json!("0a:0b:0c:0d:0e:0f"))
            .expect_error(DIFFERS, "prevResult has 0a:0b:0c:0d:0e:0f");
        changed("/interfaces/1/mtu", json!(1300)).expect_error(DIFFERS, "is 1400, prevResult has 1300");
        changed("/interfaces/1/sandbox", json!("/run/netns/other"))
            .expect_error(DIFFERS, "prevResult has eth0 in /run/netns/other, CNI_NETNS is");
        changed("/interfaces/1/name", json!("net1")).expect_error(DIFFERS, "has no interface eth0 in a pod");
        changed("/interfaces/0/name", json!("camx")).expect_error(DIFFERS, "on the node");
        check(host, &pod, &others).run().expect_error(DIFFERS, "prevResult");
        check(host, &other, &others).run().expect_success();
    });
}

#[test]
fn what_later_plugins_changed_and_told_is_no_difference() {
    on_a_host(|host| {
        let (pod, mut added) = fresh_pod(host, "a1");
        pod.run(|| {
            ip("link set eth0 mtu 1300");
            // The kernel forgets all neighbours with the MAC, and `tuning` does not tell it them again.
            ip("link set eth0 address 0a:00:00:00:00:99");
            ip("route del default");
            ip("addr add 192.0.2.9/24 dev eth0");
            ip("route add 198.51.100.0/24 dev eth0")
        });
        added["interfaces"][1]["mac"] = "0A:00:00:00:00:99".into();
        added["routes"] = json!([{"dst": "::/0", "gw": "fe80::1"}, {"dst": "198.51.100.0/24"}]);
        let ips = added["ips"].as_array_mut().expect("ips");
        ips.push(json!({"address": "192.0.2.9/24", "interface": 1}));
        // Whether it told the MTU or not: less is fine.
        for mtu in [json!(1400), json!(1300), json!(0)] {
            added["interfaces"][1]["mtu"] = mtu;
            check(host, &pod, &added).run().expect_success();
        }
        pod.run(|| ip("addr del 192.0.2.9/24 dev eth0"));
        check(host, &pod, &added).run().expect_error(DIFFERS, "lacks 192.0.2.9/24, which prevResult has");
        pod.run(|| ip("neigh replace 169.254.1.1 dev eth0 lladdr 02:ca:3b:00:00:02 nud reachable"));
        let answer = check(host, &pod, &added).run();
        answer.expect_error(DIFFERS, "MAC of neighbour 169.254.1.1 of eth0 in the pod is 02:ca:3b:00:00:02");
        assert!(!answer.stdout.contains("permanent"), "{}", answer.stdout);
    });
}

#[test]
fn before_1_1_0_a_pods_mtu_is_at_most_its_host_ends() {
    on_a_host(|host| {
        let (pod, answer) = host.attached_pod("a1");
        let pass = |answer: &Answer| check(host, &pod, &answer.json).run();
        for later in [json!(1300), json!(9000), Value::Null] {
            let call = check(host, &pod, &answer.json).config("mtu", later);
            call.run().expect_success(); // a pod that is there has the MTU of its time
        }
        pod.run(|| ip("link set eth0 mtu 1280"));
        pass(&answer).expect_success();
        pod.run(|| ip("link set eth0 mtu 1500"));
        pass(&answer).expect_error(DIFFERS, "MTU of eth0 in the pod is 1500, more than the 1400 of cam");
        ip(&format!("link set {} mtu 1500", pod.host_ifname()));
        pass(&answer).expect_success();
    });
}

#[test]
fn a_container_of_which_nothing_is_known_differs() {
    on_a_host(|host| {
        let (pod, added) = fresh_pod(host, "a1");
        let unknown = check(host, &pod.with_id("unknown"), &added).run();
        unknown
            .expect_error(DIFFERS, "eth0 of container unknown is not as ADD left it")
            .expect_error(DIFFERS, "there is no lease of eth0 of container unknown");
        let other = check(host, &pod, &added).config("name", json!("other")).run();
        other.expect_error(DIFFERS, "there is no lease of eth0 of container a1");
        host.call("DEL", &pod).run().expect_success();
        let gone = check(host, &pod, &added).run();
        gone.expect_error(DIFFERS, "there is no lease").expect_error(DIFFERS, "is not on the node");
        host.assert_clean();
    });
}

#[test]
fn a_vanished_namespace_is_code_8() {
    on_a_host(|host| {
        let (pod, added) = fresh_pod(host, "a1");
        pod.vanish();
        check(host, &pod, &added).run().expect_error(8, "cannot use the network namespace");
        let own = check(host, &pod, &added).set("CNI_NETNS", "/proc/thread-self/ns/net").run();
        own.expect_error(8, "the plugin's own");
    });
}

#[test]
fn bad_input_is_refused_as_by_the_other_verbs() {
    on_a_host(|host| {
        let (pod, added) = fresh_pod(host, "a1");
        let call = || check(host, &pod, &added);
        call().config("prevResult", Value::Null).run().expect_error(7, "CHECK needs prevResult");
        call().config("prevResult", json!({"ips": [{"address": 1}]})).run().expect_error(7, "prevResult");
        call().config("prevResult", json!([])).run().expect_error(7, "must be an object");
        call().config("cniVersion", json!("0.3.1")).run().expect_error(1, "came with version 0.4.0");
        call().config("cniVersion", json!("0.2.0")).run().expect_error(1, "incompatible");
        call().config("ranges", json!([])).run().expect_error(7, "at least one range");
        call()
            .config("runtimeConfig", json!({"ips": ["10.1.0.9"]}))
            .run()
            .expect_error(2, "runtimeConfig.ips");
        call().set("CNI_IFNAME", "a/b").run().expect_error(4, "CNI_IFNAME");
        call().set("CNI_NETNS", "").run().expect_error(4, "missing: CNI_NETNS");
        call().stdin("{").run().expect_error(6, "cannot decode");
        call().run().expect_success();
    });
}

#[test]
fn a_node_that_does_not_forward_ipv6_is_named() {
    on_a_host(|host| {
        let (pod, added) = fresh_pod(host, "a1");
        fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "0").expect("the setting");
        check(host, &pod, &added).run().expect_error(DIFFERS, "ipv6/conf/all/forwarding is 0, must be 1");
    });
}

#[test]
fn a_node_that_lost_its_address_is_named() {
    on_a_host(|host| {
        let (pod, added) = fresh_pod(host, "a1");
        ip(&format!("addr del {NODE_IPV4}/32 dev lo"));
        check(host, &pod, &added)
            .run()
            .expect_error(DIFFERS, "the node has no route of protocol 204 to 10.244.1");
    });
}
