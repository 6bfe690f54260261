//! Attached pods reach each other and their node, and the result says what was made.

use std::net::{IpAddr, SocketAddrV6, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::net::if_::if_nametoindex;
use serde_json::json;

use crate::host::{Host, NODE_IPV4, NODE_IPV6, Place, ip, on_a_host, tcp, udp, until};

fn node_address(like: IpAddr) -> IpAddr {
    let text = if like.is_ipv4() { NODE_IPV4 } else { NODE_IPV6 };
    text.parse().expect("address")
}

#[test]
fn pods_and_node_reach_each_other_without_a_default_route() {
    on_a_host(|host| {
        assert_eq!(ip("route show default") + &ip("-6 route show default"), "");
        let (a, a_added) = host.attached_pod("a1");
        let (b, b_added) = host.attached_pod("b1");
        for (to_a, to_b) in a_added.addresses().into_iter().zip(b_added.addresses()) {
            assert_eq!(tcp(&a, &b, to_b), to_a, "the pod's own address is seen");
            assert_eq!(udp(&b, &a, to_a), to_b);
            let node = node_address(to_a);
            assert_eq!(tcp(&a, host, node), to_a);
            assert_eq!(udp(&a, host, node), to_a);
            assert_eq!(tcp(host, &a, to_a), node, "the node speaks from its configured address");
            assert_eq!(udp(host, &b, to_b), node);
        }
        for pod in [a, b] {
            host.call("DEL", &pod).run().expect_success();
        }
        host.assert_clean();
    });
}

#[test]
fn the_gateway_answers_link_local_clients_of_every_pod() {
    on_a_host(|host| {
        for id in ["a1", "b1"] {
            let (pod, _) = host.attached_pod(id);
            let node = |link| SocketAddrV6::new("fe80::1".parse().expect("address"), 7777, 0, link);
            let listener = TcpListener::bind(node(index(&pod.host_ifname()))).expect("listen");
            // The pod's own link-local address is the kernel's work, which goes on behind our back.
            let usable = || pod.run(|| ip("-6 addr show dev eth0 scope link -tentative"));
            until("link-local address", || usable().contains("fe80::"));
            let source =
                pod.run(move || TcpStream::connect(node(index("eth0")))?.local_addr()).expect("connected");
            assert!(source.ip().to_string().starts_with("fe80::"), "{source}");
            drop(listener);
        }
    });
}

fn index(ifname: &str) -> u32 {
    if_nametoindex(ifname).expect("index")
}

#[test]
fn every_version_and_family_is_answered_with_what_was_made() {
    on_a_host(|host| {
        let ipv4 = json!({"ipv4": "10.244.1.0/24"});
        let ipv6 = json!({"ipv6": "fd00:10:244:1::/64"});
        let dual = json!({"ipv4": "10.244.2.0/24", "ipv6": "fd00:10:244:2::/64"});
        for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            for (name, range, families) in [("v4", &ipv4, "4"), ("v6", &ipv6, "6"), ("dual", &dual, "46")] {
                attach_and_detach(host, version, &format!("{name}-{version}"), range, families);
            }
        }
        host.assert_clean();
    });
}

fn attach_and_detach(host: &Host, version: &str, id: &str, range: &serde_json::Value, families: &str) {
    let pod = host.pod(id);
    let call = |command| {
        host.call(command, &pod).config("cniVersion", json!(version)).config("ranges", json!([range]))
    };
    let answer = call("ADD").run();
    let result = &answer.expect_success().json;

    assert_eq!(result["cniVersion"], version);
    assert_eq!(result["interfaces"][0]["name"], pod.host_ifname());
    assert_eq!(result["interfaces"][0]["mac"], "02:ca:3b:00:00:01");
    assert_eq!(result["interfaces"][1]["name"], "eth0");
    assert_eq!(result["interfaces"][1]["mac"], pod.attachment().pod_mac().to_string());
    assert_eq!(result["interfaces"][1]["sandbox"], pod.netns.to_str().expect("path"));
    let mtu = (version == "1.1.0").then_some(1400);
    assert_eq!(result["interfaces"][1].get("mtu").and_then(|mtu| mtu.as_u64()), mtu);
    for (nth, family) in families.chars().enumerate() {
        let ip = &result["ips"][nth];
        assert_eq!(ip["interface"], 1);
        assert_eq!(ip["gateway"], if family == '4' { "169.254.1.1" } else { "fe80::1" });
        let named = ip.get("version").and_then(|version| version.as_str());
        assert_eq!(named.is_some(), version.starts_with('0'), "{ip}");
        assert!(named.is_none_or(|named| named.chars().eq([family])), "{ip}");
        assert_eq!(result["routes"][nth]["dst"], if family == '4' { "0.0.0.0/0" } else { "::/0" });
    }
    assert_eq!(answer.addresses().len(), families.len());
    assert_eq!(host.pod_routes().len(), families.len());
    for address in answer.addresses() {
        assert_eq!(tcp(&pod, host, node_address(address)), address);
    }
    call("DEL").run().expect_success();
}

#[test]
fn addresses_are_usable_at_once() {
    on_a_host(|host| {
        let (pod, answer) = host.attached_pod("a1");
        let added = Instant::now();
        for address in answer.addresses() {
            pod.run(move || TcpListener::bind((address, 0))).expect("a tentative address cannot be bound");
        }
        assert!(added.elapsed() < Duration::from_millis(50), "{:?}", added.elapsed());
        assert_eq!(pod.run(|| ip("-6 addr show scope global tentative")), "", "in the pod");
        assert_eq!(ip("-6 addr show tentative"), "", "on the node");
    });
}

#[test]
fn the_link_is_what_the_design_says() {
    on_a_host(|host| {
        let (pod, _) = host.attached_pod("a1");
        let name = pod.host_ifname();
        let link = ip(&format!("-d link show {name}"));
        for words in ["02:ca:3b:00:00:01", "mtu 1400", "alias default/web eth0 a1 cambric", "state UP"] {
            assert!(link.contains(words), "no {words:?} in {link}");
        }
        let setting = |path: &str| std::fs::read_to_string(format!("/proc/sys/net/{path}")).expect("setting");
        for (path, value) in [
            ("ipv4/conf/NAME/proxy_arp", "1"),
            ("ipv4/conf/NAME/forwarding", "1"),
            ("ipv4/conf/NAME/rp_filter", "2"),
            ("ipv4/conf/NAME/send_redirects", "0"),
            ("ipv4/neigh/NAME/proxy_delay", "0"),
            ("ipv6/conf/NAME/accept_dad", "0"),
            ("ipv6/conf/NAME/accept_ra", "0"),
            ("ipv6/conf/NAME/forwarding", "1"),
        ] {
            assert_eq!(setting(&path.replace("NAME", &name)).trim(), value, "{path}");
        }
        let addresses = ip(&format!("-6 -o addr show dev {name}"));
        assert_eq!((addresses.lines().count(), addresses.contains("fe80::1/128")), (1, true), "{addresses}");
        let neighbours = pod.run(|| ip("neigh show nud permanent") + &ip("-6 neigh show nud permanent"));
        for gateway in ["169.254.1.1", "fe80::1"] {
            assert!(
                neighbours.contains(&format!("{gateway} dev eth0 lladdr 02:ca:3b:00:00:01")),
                "{neighbours}"
            );
        }
        for setting in ["accept_dad", "accept_ra", "disable_ipv6"] {
            let path = format!("/proc/sys/net/ipv6/conf/eth0/{setting}");
            assert_eq!(
                pod.run(move || std::fs::read_to_string(path)).expect("setting").trim(),
                "0",
                "{setting}"
            );
        }
    });
}

#[test]
fn where_new_interfaces_have_no_ipv6_a_pod_with_an_ipv6_address_has_it() {
    on_a_host(|host| {
        let disable =
            || std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").expect("setting");
        disable();
        let pod = host.pod("a1");
        pod.run(disable);
        let answer = host.call("ADD", &pod).run();
        for address in answer.expect_success().addresses() {
            assert_eq!(tcp(&pod, host, node_address(address)), address);
        }
    });
}

#[test]
fn a_kernel_without_ipv6_serves_pods_with_ipv4_alone() {
    on_a_host(|host| {
        // As under ipv6.disable=1, as far as a running kernel can be made to look so.
        let (ipv6, empty) = ("/proc/sys/net/ipv6/conf", host.run_dir().with_file_name("empty"));
        std::fs::create_dir(&empty).expect("folder");
        mount(Some(&empty), ipv6, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("mount");
        let pod = host.pod("a1");
        host.call("ADD", &pod).run().expect_error(104, "IPv6 is disabled");
        host.assert_clean();
        let answer = host.call("ADD", &pod).config("ranges", json!([{"ipv4": "10.244.1.0/24"}])).run();
        let address = answer.expect_success().addresses()[0];
        assert_eq!(tcp(&pod, host, node_address(address)), address);
    });
}

#[test]
fn plugins_before_us_stay_in_the_result() {
    on_a_host(|host| {
        let previous = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "lo"}], "ips": []});
        let answer = host.call("ADD", &host.pod("a1")).config("prevResult", previous).run();
        let result = &answer.expect_success().json;
        assert_eq!(
            (&result["interfaces"][0]["name"], &result["ips"][0]["interface"]),
            (&json!("lo"), &json!(2))
        );
    });
}
