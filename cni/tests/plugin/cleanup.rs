//! What the plugin leaves on a node goes, pod by pod, and nothing that is only named alike.

use std::collections::BTreeSet;
use std::fs;

use cambric_cni::cleanup::{Cleanup, RUN_STEMS};
use cambric_cni::gate::ready::{self, Policy};
use serde_json::json;

use crate::host::{Place, ip, on_a_host};

/// All that `ip` shows of links and routes. What the kernel counts or draws is not among it.
fn everything() -> String {
    ["-br link show", "addr show", "-4 route show table all", "-6 route show table all"].map(ip).join("--\n")
}

/// Those of both families. A link that has just come up gets its carrier a moment later.
fn routes() -> String {
    ["-4 route show table all", "-6 route show table all"].map(ip).join("--\n").replace(" linkdown", "")
}

fn cut_off_all() -> Vec<String> {
    let mut cleanup = Cleanup::open().expect("a socket");
    let pods = cleanup.pods().expect("links");
    pods.iter().for_each(|pod| cleanup.cut_off(pod).expect("cut off"));
    pods.iter().map(|pod| pod.pod.clone()).collect()
}

#[test]
fn pods_are_cut_off_and_links_that_are_named_alike_stay() {
    on_a_host(|host| {
        ip("link add camera0 type veth peer name lens0");
        ip("link add cam0123456789ab type veth peer name foreign0");
        ip("link add camba9876543210 type bridge");
        ip("link set camba9876543210 alias our-uplink");
        let before = everything();
        let (pod, _) = host.attached_pod("a1");
        // Its ADD was killed before it had an alias; its MAC is from its making.
        ip("link add camffffffffff00 address 02:ca:3b:00:00:01 type veth peer name half0");
        let mut cleanup = Cleanup::open().expect("a socket");
        let words: Vec<String> = cleanup.pods().expect("links").iter().map(ToString::to_string).collect();
        let expected =
            [format!("link {} of default/web", pod.host_ifname()), "link camffffffffff00".to_owned()];
        assert_eq!(words, expected);

        assert_eq!(cut_off_all(), ["default/web", "camffffffffff00"]);
        assert!(!pod.run(|| ip("link show")).contains("eth0"), "the pod's end goes, too");
        assert_eq!(everything(), before);
        assert_eq!(cut_off_all(), [""; 0], "there is none left");
    });
}

#[test]
fn routes_of_pods_that_were_led_elsewhere_go_and_nobody_elses_to_the_same_address() {
    on_a_host(|host| {
        let (_pod, _) = host.attached_pod("a1");
        ip("link add up0 type veth peer name tor0");
        // No address comes by itself when it is up.
        ip("link set up0 addrgenmode none");
        ip("link set tor0 addrgenmode none");
        ip("addr add 192.0.2.1/24 dev up0");
        ip("addr add 2001:db8::1/64 dev up0 nodad");
        ip("link set up0 up");
        ip("link set tor0 up");
        ip("route add 10.244.9.8/32 via 192.0.2.2 metric 7");
        let before = routes();
        for route in [
            "10.244.9.5/32 dev up0 scope link",
            "10.244.9.5/32 tos 0x10 via 192.0.2.2",
            "10.244.9.6/32 via 192.0.2.2 src 192.0.2.1",
            "unreachable 10.244.9.7/32",
            "10.244.9.8/32 nexthop via 192.0.2.2 nexthop via 192.0.2.3",
            "fd00:10:244:9::5/128 via 2001:db8::2",
            "unreachable fd00:10:244:9::6/128",
            "fd00:10:244:9::7/128 nexthop via 2001:db8::2 nexthop via 2001:db8::3",
        ] {
            ip(&format!("route add proto 204 {route}"));
        }
        let mut cleanup = Cleanup::open().expect("a socket");
        let strays = cleanup.strays().expect("routes");
        let mut words: Vec<String> = strays.iter().map(ToString::to_string).collect();
        words.sort();
        assert_eq!(
            words,
            [
                "route to 10.244.9.5 by up0",
                "route to 10.244.9.5 by up0",
                "route to 10.244.9.6 by up0",
                "route to 10.244.9.7",
                "route to 10.244.9.8",
                "route to fd00:10:244:9::5 by up0",
                "route to fd00:10:244:9::6 by lo",
                "route to fd00:10:244:9::7",
            ]
        );
        strays.iter().for_each(|stray| cleanup.remove_stray(stray).expect("removed"));
        assert_eq!(routes(), before);
        assert_eq!(cleanup.strays().expect("routes"), []);
        cut_off_all();
    });
}

#[test]
fn all_that_the_plugin_keeps_is_among_its_files() {
    on_a_host(|host| {
        fs::create_dir_all(host.run_dir()).expect("own folder");
        ready::write(&host.run_dir(), Policy::Off).expect("own folder");
        let pod = host.pod("a1");
        let name = "n".repeat(250);
        let arguments = format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME={name};K8S_POD_UID=b7e1");
        let call = host.call("ADD", &pod).set("CNI_ARGS", &arguments);
        call.config("policyGate", json!("prefer")).run().expect_success();
        let kept: BTreeSet<String> = fs::read_dir(host.run_dir())
            .expect("its folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        let known: BTreeSet<String> = RUN_STEMS.into_iter().map(str::to_owned).collect();
        assert_eq!(kept, known);
        cut_off_all();
    });
}
