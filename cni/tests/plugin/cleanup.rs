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
fn route_of_a_pod_by_a_foreign_link_is_found_by_its_protocol() {
    on_a_host(|host| {
        let (_pod, _) = host.attached_pod("a1");
        ip("link add up0 type veth peer name tor0");
        ip("link set up0 up");
        let before = everything();
        ip("route add 10.244.9.9/32 dev up0 scope link proto 204");
        let mut cleanup = Cleanup::open().expect("a socket");
        let strays = cleanup.strays().expect("routes");
        assert_eq!(
            strays.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["route to 10.244.9.9 by up0"]
        );
        strays.iter().for_each(|stray| cleanup.remove_stray(stray).expect("removed"));
        assert_eq!(everything(), before);
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
