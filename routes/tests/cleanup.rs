//! What a node has of ours after the task, and that all of it goes and nothing else.

mod common;

use cambric_routes::{Target, cleanup::Cleanup};
use common::{
    TOR1, TOR1_V6, TOR2, TOR2_V6, config, in_both_modes, in_namespace, ip, many, next_hops, shown, start,
    try_ip, via, want,
};

fn sweep() -> Vec<String> {
    let mut cleanup = Cleanup::open().expect("a socket");
    let mut removed = Vec::new();
    loop {
        let found = cleanup.find().expect("a listing");
        if found.is_empty() {
            return removed;
        }
        for leftover in found {
            cleanup.remove(&leftover).expect("removed");
            removed.push(leftover.to_string());
        }
    }
}

/// All that `ip` shows of routes and next hops.
fn everything() -> String {
    ["-4 route show table all", "-6 route show table all", "nexthop show"].map(ip).join("--\n")
}

#[test]
fn all_of_ours_goes_and_all_others_stay_as_they_were() {
    in_both_modes(|_| async {
        ip("nexthop add id 7 via 10.1.0.1 dev up1 proto 99");
        ip("route add 30.0.0.0/24 nhid 7 proto 99");
        ip("route add 30.0.1.0/24 via 10.2.0.1 dev up2 metric 203 proto static");
        ip("route add 30.0.2.0/24 via 10.2.0.1 dev up2 table 100 proto 203");
        ip("-6 route add 2001:db8:b::/64 via 2001:db8:1::9 dev up1 metric 203 proto 99");
        let before = everything();
        let dir = tempfile::tempdir().expect("tempdir");
        let running = start(config(dir.path())).await;
        running
            .set(vec![
                via("20.0.0.0/24", &[TOR1, TOR2]),
                via("20.0.2.0/24", &[TOR1]),
                via("2001:db8:a::/64", &[TOR1_V6, TOR2_V6]),
                via("2001:db8:c::/64", &[TOR2_V6]),
                want("10.244.1.0/24", Target::Unreachable),
                want("2001:db8:f::/64", Target::Unreachable),
            ])
            .await;
        running.kill().await;
        // In one place two of ours, and one of another metric.
        ip("-6 route append 2001:db8:c::/64 via 2001:db8:1::1 dev up1 metric 203 proto 203");
        ip("route add 20.0.2.0/24 via 10.2.0.1 dev up2 metric 9 proto 203");

        let removed = sweep();
        assert_eq!(removed.len(), 8 + 6, "{removed:?}");
        assert_eq!(everything(), before);
        assert_eq!(sweep(), [""; 0], "there is nothing left");
    });
}

#[test]
fn sibling_of_another_program_stays_when_ours_goes() {
    in_namespace(|| async {
        ip("-6 route add 2001:db8:c::/64 via 2001:db8:1::1 dev up1 metric 203 proto 203");
        ip("-6 route append 2001:db8:c::/64 via 2001:db8:2::1 dev up2 metric 203 proto 99");
        assert_eq!(sweep(), ["route 2001:db8:c::/64"]);
        assert!(shown("2001:db8:c::/64").starts_with("2001:db8:c::/64 via 2001:db8:2::1 dev up2 "));
    });
}

#[test]
fn next_hop_that_a_route_of_others_stands_on_stays_and_is_told() {
    in_namespace(|| async {
        ip("nexthop add id 203000001 via 10.1.0.1 dev up1 proto 203");
        ip("nexthop add id 203500001 group 203000001 proto 203");
        ip("route add 30.0.0.0/24 nhid 203500001 proto 99");
        let mut cleanup = Cleanup::open().expect("a socket");
        let told: Vec<String> = cleanup
            .find()
            .expect("a listing")
            .iter()
            .map(|leftover| format!("{leftover}: {}", cleanup.remove(leftover).expect_err("it is borrowed")))
            .collect();
        let expected = [
            "next hop 203500001: route 30.0.0.0/24 of protocol 99 stands on it",
            "next hop 203000001: group 203500001 stands on it",
        ];
        assert_eq!(told, expected);
        assert_eq!(next_hops().len(), 2);
        assert!(shown("30.0.0.0/24").contains("nhid 203500001"));
        ip("route del 30.0.0.0/24");
        assert_eq!(sweep().len(), 2);
    });
}

#[test]
fn many_routes_go_and_a_node_without_any_has_nothing() {
    in_namespace(|| async {
        assert_eq!(sweep(), [""; 0]);
        common::ip_batch(many(5000).map(|network| format!("route add {network} via {TOR1} proto 203")));
        assert_eq!(sweep().len(), 5000);
        assert_eq!(try_ip("route show proto 203").0, "");
    });
}
