//! Other programs: their routes are theirs, ours come back.

mod common;

use std::time::Duration;

use cambric_routes::{Change, Config, Event, Family, ForeignRoute, RepairCause, Snapshot, Target};
use common::{
    Running, TOR1, TOR1_V6, TOR2, TOR2_V6, config, count, groups, in_both_modes, in_namespace, ip, ip_batch,
    many, next_hops, prefix, shown, start, try_ip, until, via, want,
};

const ROUTE: &str = "20.0.0.0/24";
const ROUTE_V6: &str = "2001:db8:a::/64";
/// Over one uplink: a plain route.
const SINGLE: &str = "20.0.1.0/24";
const SINGLE_V6: &str = "2001:db8:b::/64";
/// Gateways of others.
const V4: &str = "10.2.0.9";
const V6: &str = "2001:db8:2::9";

async fn usual(config: Config) -> Running {
    let running = start(config).await;
    running.set(vec![via(ROUTE, &[TOR1, TOR2]), via(ROUTE_V6, &[TOR1_V6, TOR2_V6])]).await;
    assert_eq!((count("-4"), count("-6"), next_hops().len()), (1, 1, 6));
    running
}

fn family(prefix: &str) -> &'static str {
    if prefix.contains(':') { "-6" } else { "-4" }
}

async fn conflict(running: &mut Running, text: &str) {
    let conflict = Event::ForeignConflict { prefix: prefix(text), protocol: 4 };
    running.event(|event| *event == conflict).await;
}

async fn allow_sweep(running: &Running) {
    for family in Family::ALL {
        running.routes.allow_sweep(family).await.expect("allowed");
    }
}

async fn repaired(running: &mut Running, cause: RepairCause) {
    running.event(|event| matches!(event, Event::Repaired { cause: c, .. } if *c == cause)).await;
}

#[test]
fn foreign_route_with_another_metric_coexists() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        ip(&format!("route add {ROUTE} via 10.2.0.9 metric 5"));
        ip(&format!("-6 route add {ROUTE_V6} via 2001:db8:2::9 metric 5"));
        let running = usual(config(dir.path())).await;
        ip(&format!("route add {ROUTE} via 10.1.0.9 metric 300"));
        running.set(vec![Change::Drop(prefix(ROUTE)), Change::Drop(prefix(ROUTE_V6))]).await;
        assert_eq!((count("-4"), count("-6")), (0, 0));
        assert_eq!(shown(ROUTE).lines().count(), 2);
        assert!(shown(ROUTE_V6).contains("metric 5"));
    });
}

#[test]
fn foreign_route_that_goes_before_ours_is_reported_while_it_is_there() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        ip(&format!("-6 route add {ROUTE_V6} via {V6} proto static metric 7"));
        let mut running = usual(config(dir.path())).await;
        let hidden = |text, metric, protocol| (prefix(text), ForeignRoute { metric, protocol });
        ip(&format!("route add blackhole {ROUTE}"));
        let (prefix, by) = hidden(ROUTE, 0, 3);
        running.event(|event| *event == Event::RouteHidden { prefix, by }).await;
        // The one that was there before is found by the check after the first table.
        allow_sweep(&running).await;
        let both = [hidden(ROUTE, 0, 3), hidden(ROUTE_V6, 7, 4)].into();
        running.reaches("both reported", |s| s.hidden == both).await;
        ip(&format!("route append {ROUTE} via {V4} metric 5"));
        // Not in the way: behind ours, or not wanted, or a subnet of the kernel's own.
        ip(&format!("route append {ROUTE} via {V4} metric 300"));
        ip("route add blackhole 20.0.9.0/24");
        running.set(vec![via("10.2.0.0/24", &[TOR1])]).await;
        let checks = running.snapshot().await.checks;
        allow_sweep(&running).await;
        running.reaches("one more check", |s| s.checks > checks && s.hidden == both).await;
        ip(&format!("route del blackhole {ROUTE}"));
        ip(&format!("-6 route del {ROUTE_V6} metric 7"));
        running.reaches("the other one", |s| s.hidden == [hidden(ROUTE, 5, 3)].into()).await;
        running.set(vec![Change::Drop(prefix)]).await;
        assert!(running.snapshot().await.hidden.is_empty());
        assert!(shown(ROUTE).contains("metric 5"));
    });
}

#[test]
fn foreign_route_in_our_place_is_reported_and_left_alone() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        ip(&format!("route add {ROUTE} via 10.2.0.9 proto static metric 203"));
        ip(&format!("-6 route add {ROUTE_V6} via 2001:db8:2::9 proto static metric 203"));
        let mut running = start(config(dir.path())).await;
        running.set(vec![via(ROUTE, &[TOR1, TOR2]), via(ROUTE_V6, &[TOR1_V6, TOR2_V6])]).await;
        for text in [ROUTE, ROUTE_V6] {
            let conflict = Event::ForeignConflict { prefix: prefix(text), protocol: 4 };
            running.event(|event| *event == conflict).await;
        }
        assert_eq!(running.snapshot().await.conflicts.len(), 2);
        assert!(shown(ROUTE).contains("proto static") && shown(ROUTE_V6).contains("proto static"));
        // Not even when it is no longer wanted.
        running.set(vec![Change::Drop(prefix(ROUTE))]).await;
        assert!(shown(ROUTE).contains("proto static"));
        running.set(vec![via(ROUTE, &[TOR1, TOR2])]).await;
        assert!(shown(ROUTE).contains("proto static"));
        // When its owner takes it away, ours comes.
        ip(&format!("route del {ROUTE} via 10.2.0.9 metric 203"));
        ip(&format!("-6 route del {ROUTE_V6} via 2001:db8:2::9 metric 203"));
        until("ours", || (count("-4"), count("-6")) == (1, 1)).await;
        assert!(running.snapshot().await.conflicts.is_empty());
    });
}

#[test]
fn foreign_route_that_replaces_ours_is_not_fought() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut running = usual(config(dir.path())).await;
        running.set(vec![via(SINGLE, &[TOR1]), via(SINGLE_V6, &[TOR1_V6])]).await;
        for (text, gateway) in [ROUTE, SINGLE, ROUTE_V6, SINGLE_V6].into_iter().zip([V4, V4, V6, V6]) {
            ip(&format!("{} route replace {text} via {gateway} proto static metric 203", family(text)));
            conflict(&mut running, text).await;
        }
        running.reaches("nothing left to do", |s| s.pending == 0 && s.failing == 0).await;
        for text in [ROUTE, SINGLE, ROUTE_V6, SINGLE_V6] {
            assert!(
                shown(text).contains("proto static") && !shown(text).contains("proto 203"),
                "{}",
                shown(text)
            );
            ip(&format!("{} route del {text} metric 203", family(text)));
        }
        until("ours", || (count("-4"), count("-6")) == (2, 2)).await;
        assert!(running.snapshot().await.repairs.is_empty(), "none of them was a repair");
    });
}

#[test]
fn foreign_route_beside_ours_is_reported_and_outlives_ours() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut running = usual(config(dir.path())).await;
        running.set(vec![via(SINGLE, &[TOR1]), via(SINGLE_V6, &[TOR1_V6])]).await;
        // IPv4 keeps them in a list. IPv6 makes the plain one and ours one multipath route.
        for (text, gateway) in [ROUTE, SINGLE, ROUTE_V6, SINGLE_V6].into_iter().zip([V4, V4, V6, V6]) {
            ip(&format!("{} route append {text} via {gateway} proto static metric 203", family(text)));
            conflict(&mut running, text).await;
            assert!(shown(text).contains("proto 203"), "ours stays: {}", shown(text));
        }
        // A change of ours leaves theirs alone, and so does the end of ours.
        running.set(vec![via(SINGLE, &[TOR2]), via(SINGLE_V6, &[TOR2_V6])]).await;
        running.set(vec![Change::Drop(prefix(ROUTE)), Change::Drop(prefix(ROUTE_V6))]).await;
        for (text, gateway) in [ROUTE, SINGLE, ROUTE_V6, SINGLE_V6].into_iter().zip([V4, V4, V6, V6]) {
            let theirs = format!("{text} via {gateway} dev up2 proto static metric 203");
            assert!(shown(text).starts_with(&theirs) && shown(text).lines().count() == 1, "{}", shown(text));
        }
    });
}

#[test]
fn foreign_sibling_found_at_a_start_is_left_alone() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        // The kernel shows both as one route of the protocol of the first.
        ip(&format!("-6 route add {SINGLE_V6} via {TOR1_V6} proto 203 metric 203"));
        ip(&format!("-6 route append {SINGLE_V6} via {V6} proto static metric 203"));
        let config = Config { check_interval: Duration::from_millis(20), ..config(dir.path()) };
        let running = start(config).await;
        running.set(vec![via(SINGLE_V6, &[TOR1_V6])]).await;
        assert_eq!(running.snapshot().await.conflicts, [(prefix(SINGLE_V6), 0)].into());
        allow_sweep(&running).await;
        running.reaches("ten checks", |s| s.checks > 10).await;
        assert_eq!(running.snapshot().await.conflicts, [(prefix(SINGLE_V6), 0)].into());
        assert!(shown(SINGLE_V6).contains(TOR1_V6) && shown(SINGLE_V6).contains(V6), "{}", shown(SINGLE_V6));
        running.set(vec![Change::Drop(prefix(SINGLE_V6))]).await;
        until("theirs alone", || {
            shown(SINGLE_V6).starts_with(&format!("{SINGLE_V6} via {V6} dev up2 proto static"))
        })
        .await;
    });
}

#[test]
fn second_route_of_our_protocol_goes() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let running = usual(config(dir.path())).await;
        running.set(vec![via(SINGLE, &[TOR1]), via(SINGLE_V6, &[TOR1_V6])]).await;
        allow_sweep(&running).await;
        let before = [ROUTE, SINGLE, ROUTE_V6, SINGLE_V6].map(shown);
        let alone = || [ROUTE, SINGLE, ROUTE_V6, SINGLE_V6].map(shown) == before;
        for verb in ["append", "prepend"] {
            for (text, gateway) in [ROUTE, SINGLE, ROUTE_V6, SINGLE_V6].into_iter().zip([V4, V4, V6, V6]) {
                ip(&format!("{} route {verb} {text} via {gateway} proto 203 metric 203", family(text)));
                println!("{verb} {text}: alone after {:?}", until("ours alone", alone).await);
                let vouched_for =
                    |s: &Snapshot| (s.pending, s.failing, s.learned.ipv4, s.learned.ipv6) == (0, 0, 2, 2);
                running.reaches("ours vouched for", vouched_for).await;
                assert!(alone(), "{verb} {text}");
            }
        }
    });
}

#[test]
fn deleted_route_returns() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut running = usual(config(dir.path())).await;
        running.set(vec![want("10.244.1.0/24", Target::Unreachable)]).await;
        ip(&format!("route del {ROUTE} proto 203"));
        println!("IPv4 back after {:?}", until("IPv4", || count("-4") == 2).await);
        repaired(&mut running, RepairCause::RouteDeleted).await;
        ip(&format!("-6 route del {ROUTE_V6} proto 203"));
        println!("IPv6 back after {:?}", until("IPv6", || count("-6") == 1).await);
        ip(&format!("route del {ROUTE} proto 203"));
        ip("route del unreachable 10.244.1.0/24 proto 203");
        until("all", || count("-4") == 2).await;
        let snapshot =
            running.reaches("counted", |s| s.repairs.get(&RepairCause::RouteDeleted) == Some(&4)).await;
        assert_eq!(snapshot.repairs.len(), 1, "{:?}", snapshot.repairs);
    });
}

#[test]
fn changed_route_is_set_right() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut running = usual(config(dir.path())).await;
        ip(&format!("route replace {ROUTE} via 10.2.0.9 proto 203 metric 203"));
        until("right", || shown(ROUTE).contains("nhid")).await;
        repaired(&mut running, RepairCause::RouteChanged).await;
        ip(&format!("-6 route replace {ROUTE_V6} via 2001:db8:2::9 proto 203 metric 203"));
        until("right", || shown(ROUTE_V6).contains("nhid")).await;
    });
}

#[test]
fn flushed_next_hops_return_with_their_routes() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut running = usual(config(dir.path())).await;
        // It complains about groups that went with their members before it came to them.
        try_ip("nexthop flush proto 203");
        until("routes", || (count("-4"), count("-6"), next_hops().len()) == (1, 1, 6)).await;
        repaired(&mut running, RepairCause::NextHopDeleted).await;
    });
}

#[test]
fn deleted_member_returns_to_its_group() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut running = usual(config(dir.path())).await;
        let object = next_hops().into_iter().find(|next_hop| next_hop["gateway"] == TOR1).expect("object");
        ip(&format!("nexthop del id {}", object["id"]));
        let whole = || groups().iter().all(|g| g["group"].as_array().is_some_and(|m| m.len() == 2));
        until("whole groups", || whole() && groups().len() == 2).await;
        repaired(&mut running, RepairCause::NextHopDeleted).await;
    });
}

#[test]
fn changed_object_and_changed_group_are_set_right() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let running = usual(config(dir.path())).await;
        let find = |gateway: &str| next_hops().into_iter().find(|next_hop| next_hop["gateway"] == gateway);
        let id = |gateway| find(gateway).expect("object")["id"].clone();
        let gateways = || {
            let members = |g: &serde_json::Value| g["group"].as_array().cloned().unwrap_or_default();
            let by_id = |id: &serde_json::Value| next_hops().into_iter().find(|n| n["id"] == *id);
            let group = groups().into_iter().find(|g| shown(ROUTE).contains(&format!("nhid {}", g["id"])));
            let ids: Vec<_> = group.iter().flat_map(members).map(|member| member["id"].clone()).collect();
            let gateways =
                ids.iter().filter_map(by_id).filter_map(|n| n["gateway"].as_str().map(str::to_owned));
            gateways.collect::<std::collections::BTreeSet<_>>()
        };
        let group = groups().into_iter().find(|g| shown(ROUTE).contains(&format!("nhid {}", g["id"])));
        let group = group.expect("group")["id"].clone();
        for damage in [
            format!("replace id {group} group {} proto 203", id(TOR2)),
            format!("replace id {} via 10.1.0.77 dev up1 proto 203", id(TOR1)),
        ] {
            let changed = |snapshot: &Snapshot| snapshot.repairs.get(&RepairCause::NextHopChanged).copied();
            let before = running.reaches("nothing left to do", |s| s.pending == 0).await;
            ip(&format!("nexthop {damage}"));
            running.reaches("counted", |s| changed(s) > changed(&before)).await;
            until("right members", || gateways() == [TOR1, TOR2].map(str::to_owned).into()).await;
        }
    });
}

#[test]
fn what_we_never_write_is_set_right() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut running = usual(config(dir.path())).await;
        running.set(vec![want("10.244.1.0/24", Target::Unreachable)]).await;
        let before =
            || [ip("nexthop show proto 203"), ip("-4 route show proto 203"), ip("-6 route show proto 203")];
        let right = before();
        // Weights in a group.
        for group in groups() {
            let ids: Vec<_> =
                group["group"].as_array().expect("members").iter().map(|m| m["id"].to_string()).collect();
            ip(&format!("nexthop replace id {} group {},7/{} proto 203", group["id"], ids[0], ids[1]));
        }
        until("even again", || before() == right).await;
        repaired(&mut running, RepairCause::NextHopChanged).await;
        // An MTU in a route. IPv4 would keep it in a replacement by a route on the same group.
        for (text, group) in [ROUTE, ROUTE_V6].into_iter().zip(["203500001", "203500002"]) {
            ip(&format!("{} route replace {text} nhid {group} mtu 1300 proto 203 metric 203", family(text)));
            assert!(shown(text).contains("mtu 1300"));
            until("without MTU", || before() == right).await;
            repaired(&mut running, RepairCause::RouteChanged).await;
        }
        ip("route replace blackhole 10.244.1.0/24 proto 203 metric 203");
        until("unreachable", || before() == right).await;
    });
}

#[test]
fn foreign_sibling_outlives_an_odd_route_of_our_protocol() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let odd = format!("{SINGLE_V6} via 2001:db8:1::9 dev up1 proto 203 metric 203");
        ip(&format!("-6 route add {odd} mtu 1300"));
        ip(&format!("-6 route append {SINGLE_V6} via {V6} proto static metric 203"));
        let running = start(config(dir.path())).await;
        running.set(vec![via(SINGLE_V6, &[TOR1_V6])]).await;
        let theirs = format!("{SINGLE_V6} via {V6} dev up2 proto static");
        until("theirs alone", || shown(SINGLE_V6).starts_with(&theirs)).await;
        running.reaches("told", |s| s.conflicts.contains_key(&prefix(SINGLE_V6))).await;
    });
}

#[test]
fn object_that_another_program_takes_over_is_replaced_in_its_groups() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let running = usual(config(dir.path())).await;
        let object = next_hops().into_iter().find(|next_hop| next_hop["gateway"] == TOR1).expect("object");
        ip(&format!("nexthop replace id {} via 10.1.0.66 dev up1 proto static", object["id"]));
        until("a group of ours only", || {
            let group = ip("-4 nexthop show id 203500001 proto 203");
            next_hops().iter().any(|n| n["gateway"] == TOR1)
                && !group.contains(&object["id"].to_string())
                && group.contains('/')
        })
        .await;
        // It is theirs now.
        allow_sweep(&running).await;
        running.set(vec![Change::Drop(prefix(ROUTE)), Change::Drop(prefix(ROUTE_V6))]).await;
        until("ours gone", || next_hops().is_empty()).await;
        assert!(ip(&format!("nexthop show id {}", object["id"])).contains("10.1.0.66"));
    });
}

#[test]
fn flushed_routes_return() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut running = usual(config(dir.path())).await;
        running.set(vec![via(SINGLE, &[TOR1]), via(SINGLE_V6, &[TOR1_V6])]).await;
        running.set(vec![want("10.244.1.0/24", Target::Unreachable)]).await;
        let before = [ip("-4 route show proto 203"), ip("-6 route show proto 203")];
        for flush in ["-4 route flush proto 203", "-6 route flush proto 203"] {
            try_ip(flush);
            let back = || [ip("-4 route show proto 203"), ip("-6 route show proto 203")] == before;
            println!("{flush}: back after {:?}", until(flush, back).await);
            repaired(&mut running, RepairCause::RouteDeleted).await;
        }
    });
}

#[test]
fn what_foreign_routes_point_to_is_kept_until_they_are_gone() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut running = usual(config(dir.path())).await;
        allow_sweep(&running).await;
        let group = |text: &str| shown(text).split_whitespace().nth(2).expect("a number").to_owned();
        ip(&format!("-4 route add 192.0.2.0/24 nhid {} proto static", group(ROUTE)));
        ip(&format!("-6 route add 2001:db8:f0::/48 nhid {} proto static table 77", group(ROUTE_V6)));
        running.set(vec![Change::Drop(prefix(ROUTE)), Change::Drop(prefix(ROUTE_V6))]).await;
        running.event(|event| matches!(event, Event::NextHopBorrowed { .. })).await;
        let snapshot = running.reaches("both kept", |s| s.borrowed.len() == 2).await;
        assert!(snapshot.borrowed.values().all(|routes| *routes == 1), "{:?}", snapshot.borrowed);
        assert_eq!(next_hops().len(), 6);
        // A next run finds them by its listing.
        running.kill().await;
        let running = start(config(dir.path())).await;
        allow_sweep(&running).await;
        running.reaches("both kept", |s| s.borrowed.len() == 2).await;
        assert!(shown("192.0.2.0/24").contains("nhid"));
        assert!(ip("-6 route show table 77").contains("nhid"));
        ip("-4 route replace 192.0.2.0/24 via 10.1.0.1 proto static");
        ip("-6 route del 2001:db8:f0::/48 table 77");
        until("nothing left", || next_hops().is_empty()).await;
    });
}

#[test]
fn lost_events_lead_to_a_listing_that_sets_all_right() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let config = Config { receive_buffer_bytes: 2048, ..config(dir.path()) };
        let running = start(config).await;
        running.set(many(2000).map(|network| via(&network, &[TOR1, TOR2])).collect()).await;
        assert_eq!(count("-4"), 2000);
        // The runtime does not run meanwhile: the queue overflows.
        ip_batch(many(2000).map(|network| format!("route del {network} proto 203")));
        assert_eq!(count("-4"), 0);
        let elapsed = until("all back", || count("-4") == 2000).await;
        println!("2000 routes back {elapsed:?} after lost events");
        let snapshot = running.reaches("counted", |snapshot| snapshot.overruns > 0).await;
        assert!(snapshot.repairs.contains_key(&RepairCause::Overrun), "{:?}", snapshot.repairs);
    });
}

#[test]
fn regular_check_finds_what_no_event_told() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let config = Config { check_interval: Duration::from_millis(20), ..config(dir.path()) };
        let running = usual(config).await;
        let checks = running.snapshot().await.checks;
        let monitor = common::Monitor::new();
        let snapshot = running.reaches("five checks", |snapshot| snapshot.checks >= checks + 5).await;
        assert!(snapshot.repairs.is_empty(), "nothing was wrong: {:?}", snapshot.repairs);
        assert_eq!(monitor.heard(), []);
    });
}

#[test]
fn check_goes_on_while_routes_are_written() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let config = Config { check_interval: Duration::from_millis(1), ..config(dir.path()) };
        let running = start(config).await;
        for round in 0..4 {
            let gateways: &[&str] = if round % 2 == 0 { &[TOR1, TOR2] } else { &[TOR2] };
            running.set(many(3000).map(|network| via(&network, gateways)).collect()).await;
        }
        running.set(many(3000).skip(1).map(|network| Change::Drop(prefix(&network))).collect()).await;
        let snapshot = running.snapshot().await;
        println!("{} checks", snapshot.checks);
        assert!(snapshot.repairs.is_empty(), "no false alarm: {:?}", snapshot.repairs);
        assert_eq!((count("-4"), snapshot.failing), (1, 0));
    });
}

#[test]
fn check_takes_nothing_away_that_ipv6_lists_twice() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let fast = Duration::from_millis(1);
        let running = start(Config { check_interval: fast, settle_delay: fast, ..config(dir.path()) }).await;
        allow_sweep(&running).await;
        let network = |high: u32, low: u32| format!("2001:db8:{high:x}:{low:x}::/64");
        running.set((0..6000).map(|low| via(&network(0x2000, low), &[TOR1_V6])).collect()).await;
        let monitor = common::Monitor::new();
        // Each before the others: a listing that runs begins anew.
        for high in 0..300 {
            running.set(vec![via(&network(0x1000 + high, 0), &[TOR1_V6])]).await;
        }
        let checks = running.snapshot().await.checks;
        running.reaches("two more checks", |s| s.checks >= checks + 2 && s.pending == 0).await;
        let lost = monitor.heard().iter().filter(|heard| heard.message_type == common::DEL_ROUTE).count();
        assert_eq!((lost, count("-6")), (0, 6300));
    });
}
