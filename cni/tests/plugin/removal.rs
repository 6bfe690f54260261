//! Second ADDs, failing ADDs and DELs of all kinds: the others are left alone, and nothing is left over.

use std::fs;

use serde_json::json;

use crate::host::{NODE_IPV4, Place, ip, on_a_host, tcp};

fn node() -> std::net::IpAddr {
    NODE_IPV4.parse().expect("address")
}

#[test]
fn a_second_add_is_refused_and_the_first_pod_goes_on() {
    on_a_host(|host| {
        let (pod, answer) = host.attached_pod("a1");
        host.call("ADD", &pod).run().expect_error(100, "eth0 exists already");
        let elsewhere = host.pod("elsewhere").with_id("a1");
        host.call("ADD", &elsewhere).run().expect_error(100, "in another namespace");
        assert_eq!(tcp(&pod, host, node()), answer.addresses()[0]);
        assert_eq!(host.leases().len(), 1);
        host.call("DEL", &pod).run().expect_success();
        host.assert_clean();
    });
}

#[test]
fn a_foreign_eth0_is_neither_replaced_nor_removed() {
    on_a_host(|host| {
        let pod = host.pod("a1");
        pod.run(|| ip("link add eth0 type bridge"));
        host.call("ADD", &pod).run().expect_error(100, "eth0 exists already");
        host.call("DEL", &pod).run().expect_success();
        assert!(pod.run(|| ip("link show eth0")).contains("eth0"));
        host.assert_clean();
    });
}

#[test]
fn one_container_may_have_several_interfaces() {
    on_a_host(|host| {
        let pod = host.pod("a1");
        host.call("ADD", &pod).config("ranges", json!([{"ipv4": "10.244.1.0/24"}])).run().expect_success();
        let second = |command| host.call(command, &pod).set("CNI_IFNAME", "net1");
        // Two default routes in one pod cannot be: the second interface fails as a whole.
        second("ADD")
            .config("ranges", json!([{"ipv4": "10.244.1.0/24"}]))
            .run()
            .expect_error(105, "default route");
        second("ADD").config("ranges", json!([{"ipv6": "fd00::/64"}])).run().expect_success();
        second("DEL").run().expect_success();
        assert_eq!(host.leases().len(), 1);
        host.call("DEL", &pod).run().expect_success();
        host.assert_clean();
    });
}

#[test]
fn del_succeeds_twice_and_for_what_never_was() {
    on_a_host(|host| {
        let (pod, _) = host.attached_pod("a1");
        for _ in 0..2 {
            assert_eq!(host.call("DEL", &pod).run().expect_success().stdout, "");
        }
        host.call("DEL", &pod.with_id("unknown")).run().expect_success();
        host.assert_clean();
    });
}

#[test]
fn del_before_any_add_makes_no_folder() {
    on_a_host(|host| {
        host.call("DEL", &host.pod("a1")).run().expect_success();
        assert!(!host.run_dir().exists());
    });
}

#[test]
fn del_needs_no_namespace() {
    on_a_host(|host| {
        let (empty, _) = host.attached_pod("empty");
        host.call("DEL", &empty).set("CNI_NETNS", "").run().expect_success();
        let (missing, _) = host.attached_pod("missing");
        host.call("DEL", &missing).set("CNI_NETNS", "/nonexistent").run().expect_success();
        let (vanished, _) = host.attached_pod("vanished");
        vanished.vanish();
        host.call("DEL", &vanished).run().expect_success();
        host.assert_clean();
    });
}

#[test]
fn del_works_when_the_lease_folder_or_the_ranges_are_gone() {
    on_a_host(|host| {
        let (pod, _) = host.attached_pod("a1");
        fs::remove_dir_all(host.run_dir()).expect("removed");
        host.call("DEL", &pod).config("ranges", json!([])).run().expect_success();
        host.assert_clean();
    });
}

#[test]
fn a_late_del_of_the_old_sandbox_leaves_the_new_one_alone() {
    on_a_host(|host| {
        let (old, _) = host.attached_pod("old");
        let (new, answer) = host.attached_pod("new");
        host.call("DEL", &old).run().expect_success();
        host.call("DEL", &old).run().expect_success();
        assert_eq!(tcp(&new, host, node()), answer.addresses()[0]);
        assert_eq!(host.leases().len(), 1);
    });
}

#[test]
fn a_foreign_route_to_the_address_fails_the_add_and_stays() {
    on_a_host(|host| {
        for address in ["10.244.1.1", "10.244.1.2"] {
            ip(&format!("route add {address}/32 dev lo"));
        }
        let range = json!([{"ipv4": "10.244.1.0/30", "ipv6": "fd00:1::/64"}]);
        let answer = host.call("ADD", &host.pod("a1")).config("ranges", range).run();
        answer.expect_error(102, "by lo, protocol 3: not ours");
        assert_eq!(ip("route show root 10.244.1.0/30").lines().count(), 2);
        host.assert_clean();
    });
}

#[test]
fn failures_in_the_middle_are_undone() {
    on_a_host(|host| {
        let pod = host.pod("a1");
        for source in ["192.0.2.1", "2001:db8::1"] {
            let answer = host.call("ADD", &pod).config("nodeAddresses", json!([source])).run();
            answer.expect_error(104, &format!("{source} in nodeAddresses is not on the node"));
            host.assert_clean();
        }
        // A default route in the pod already.
        pod.run(|| ip("route add default dev lo"));
        host.call("ADD", &pod).run().expect_error(105, "default route");
        host.assert_clean();
        assert!(!pod.run(|| ip("-o link show")).contains("eth0"));
    });
}
