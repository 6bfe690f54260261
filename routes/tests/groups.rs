//! Next-hop groups, plain routes, lost next hops.

mod common;

use cambric_routes::{Change, Family, NextHop, Target};
use common::{
    Compat, DEL_NEXT_HOP, Monitor, NEW_NEXT_HOP, TOR1, TOR1_V6, TOR2, TOR2_V6, address, config, count,
    groups, in_both_modes, in_namespace, ip, many, next_hops, prefix, requests, shown, start, until, via,
    want, way_to,
};

#[test]
fn two_next_hops_make_a_group_and_one_a_plain_route_in_both_families() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let running = start(config(dir.path())).await;
        running
            .set(vec![
                via("20.0.0.0/24", &[TOR1, TOR2]),
                via("20.0.1.0/24", &[TOR1, TOR2]),
                via("20.0.2.0/24", &[TOR1]),
                via("2001:db8:a::/64", &[TOR1_V6, TOR2_V6]),
                via("2001:db8:b::/64", &[TOR2_V6]),
                want("10.244.1.0/24", Target::Unreachable),
                want("2001:db8:f::/64", Target::Unreachable),
            ])
            .await;
        assert_eq!(groups().len(), 2, "{:?}", next_hops());
        assert_eq!(next_hops().len(), 6);
        let id = groups()[0]["id"].to_string();
        for prefix in ["20.0.0.0/24", "20.0.1.0/24"] {
            assert!(shown(prefix).contains(&format!("nhid {id}")), "{}", shown(prefix));
            assert!(shown(prefix).contains("metric 203"));
        }
        assert!(shown("20.0.2.0/24").starts_with("20.0.2.0/24 via 10.1.0.1 dev up1 proto 203 metric 203"));
        assert!(shown("2001:db8:a::/64").contains("nhid 203"));
        assert!(shown("2001:db8:b::/64").contains("via 2001:db8:2::1 dev up2 proto 203 metric 203"));
        assert!(shown("10.244.1.0/24").starts_with("unreachable"));
        assert!(shown("2001:db8:f::/64").starts_with("unreachable"));
        let snapshot = running.snapshot().await;
        assert_eq!((snapshot.wanted.ipv4, snapshot.learned.ipv4, snapshot.unreachable.ipv4), (4, 3, 1));
        assert_eq!((snapshot.wanted.ipv6, snapshot.learned.ipv6, snapshot.unreachable.ipv6), (3, 2, 1));

        let all = ["20.0.0.0/24", "20.0.1.0/24", "20.0.2.0/24", "10.244.1.0/24"];
        running.set(all.iter().map(|text| Change::Drop(prefix(text))).collect()).await;
        assert_eq!(count("-4"), 0);
    });
}

#[test]
fn lost_next_hop_costs_one_message_whatever_the_number_of_routes() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let running = start(config(dir.path())).await;
        let v6 = (0..100).map(|n| via(&format!("2001:db8:1000:{n:x}::/64"), &[TOR1_V6, TOR2_V6]));
        running.set(many(1000).map(|network| via(&network, &[TOR1, TOR2])).chain(v6).collect()).await;
        assert_eq!(running.snapshot().await.learned.ipv4, 1000);

        let monitor = Monitor::new();
        running.routes.next_hop_lost(address(TOR1), None).await.expect("sent");
        running.routes.flushed().await.expect("flushed");
        let heard = monitor.heard();
        assert_eq!(requests(&heard).len(), 1, "{heard:?}");
        assert_eq!(heard.iter().filter(|h| h.message_type == DEL_NEXT_HOP).count(), 1);
        assert!(heard.iter().all(|h| [DEL_NEXT_HOP, NEW_NEXT_HOP].contains(&h.message_type)), "{heard:?}");
        for n in 0..1000 {
            let destination = format!("20.{}.{}.1", n >> 8, n & 255);
            assert_eq!(way_to(&destination).as_deref(), Some("up2"), "{destination}");
        }
        running.routes.next_hop_lost(address(TOR1_V6), None).await.expect("sent");
        running.routes.flushed().await.expect("flushed");
        let heard = monitor.heard();
        assert_eq!(requests(&heard).len(), 1, "{heard:?}");
        assert_eq!(way_to("2001:db8:1000:7::1").as_deref(), Some("up2"));

        // What the caller sets next agrees with what the kernel does already: nothing is written.
        running.set(many(1000).map(|network| via(&network, &[TOR2])).collect()).await;
        assert_eq!(monitor.heard(), []);

        // Named again, it is used again.
        running.set(vec![via("20.0.0.0/24", &[TOR1, TOR2])]).await;
        assert_eq!(ip("-4 route show 20.0.0.0/24 proto 203").matches("nhid").count(), 1);
        let ways = |snapshot: &cambric_routes::Snapshot| {
            snapshot.groups.values().any(|group| group.hops.len() == 2 && group.routes == 1)
        };
        running.reaches("a group of both for the one route", ways).await;
    });
}

#[test]
fn shrunken_group_becomes_plain_routes_when_it_is_quiet() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut config = config(dir.path());
        config.merge_delay = config.settle_delay;
        let running = start(config).await;
        for family in Family::ALL {
            running.routes.allow_sweep(family).await.expect("sent");
        }
        running
            .set(vec![via("20.0.0.0/24", &[TOR1, TOR2]), via("2001:db8:a::/64", &[TOR1_V6, TOR2_V6])])
            .await;
        running.routes.next_hop_lost(address(TOR1), None).await.expect("sent");
        running.routes.next_hop_lost(address(TOR1_V6), None).await.expect("sent");
        running.set(vec![via("20.0.0.0/24", &[TOR2]), via("2001:db8:a::/64", &[TOR2_V6])]).await;
        until("plain IPv4 route", || shown("20.0.0.0/24").starts_with("20.0.0.0/24 via 10.2.0.1 dev up2"))
            .await;
        until("plain IPv6 route", || shown("2001:db8:a::/64").contains("/64 via 2001:db8:2::1 dev up2"))
            .await;
        until("unused objects gone", || next_hops().is_empty()).await;
    });
}

#[test]
fn group_without_routes_goes_when_it_is_quiet() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let running = start(config(dir.path())).await;
        for family in Family::ALL {
            running.routes.allow_sweep(family).await.expect("sent");
        }
        until("nothing left of the start", || next_hops().is_empty()).await;
        running
            .set(vec![via("20.0.0.0/24", &[TOR1, TOR2]), via("2001:db8:a::/64", &[TOR1_V6, TOR2_V6])])
            .await;
        assert_eq!(groups().len(), 2);
        // One becomes plain, the other goes: no link and no next hop is lost.
        running.set(vec![via("20.0.0.0/24", &[TOR2]), Change::Drop(prefix("2001:db8:a::/64"))]).await;
        until("unused groups and objects gone", || next_hops().is_empty()).await;
    });
}

#[test]
fn ipv4_route_goes_over_an_ipv6_neighbour() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let running = start(config(dir.path())).await;
        let hop = |interface| NextHop::through(address("fe80::1"), interface);
        running
            .set(vec![
                want("20.0.0.0/24", Target::Via([hop("up1"), hop("up2")].into())),
                want("2001:db8:a::/64", Target::Via([hop("up1"), hop("up2")].into())),
                want("20.0.1.0/24", Target::Via([hop("up2")].into())),
            ])
            .await;
        assert!(shown("20.0.0.0/24").contains("nhid 203"));
        assert!(shown("2001:db8:a::/64").contains("nhid 203"));
        assert!(
            shown("20.0.1.0/24").starts_with("20.0.1.0/24 via inet6 fe80::1 dev up2"),
            "{}",
            shown("20.0.1.0/24")
        );
        assert_eq!(next_hops().len(), 3, "both families share objects and group: {:?}", next_hops());
    });
}

#[test]
fn gateway_outside_the_subnets_of_its_named_interface_is_taken_as_on_link() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let running = start(config(dir.path())).await;
        let hop = |gateway, interface| NextHop::through(address(gateway), interface);
        running
            .set(vec![
                want("20.0.0.0/24", Target::Via([hop("192.0.2.1", "up1"), hop("192.0.2.2", "up2")].into())),
                want("20.0.1.0/24", Target::Via([hop("192.0.2.1", "up1")].into())),
                want(
                    "2001:db8:a::/64",
                    Target::Via([hop("2001:db8:77::1", "up1"), hop("2001:db8:77::2", "up2")].into()),
                ),
                want("2001:db8:b::/64", Target::Via([hop("2001:db8:77::1", "up1")].into())),
            ])
            .await;
        assert_eq!((count("-4"), count("-6")), (2, 2));
        assert!(shown("20.0.1.0/24").contains("onlink"));
        assert!(shown("2001:db8:b::/64").contains("onlink"));
    });
}

#[test]
fn ten_thousand_routes_go_in_and_out() {
    in_both_modes(|mode: Compat| async move {
        let dir = tempfile::tempdir().expect("tempdir");
        let running = start(config(dir.path())).await;
        let timed = async |what: &str, changes: Vec<Change>| {
            let start = std::time::Instant::now();
            for part in changes.chunks(500) {
                running.routes.set(part.to_vec()).await.expect("set");
            }
            running.routes.flushed().await.expect("flushed");
            let elapsed = start.elapsed();
            println!("compat {mode:?}: {what} {} routes in {elapsed:?}", changes.len());
        };
        timed("install", many(10_000).map(|network| via(&network, &[TOR1, TOR2])).collect()).await;
        assert_eq!(running.snapshot().await.learned.ipv4, 10_000);
        assert_eq!(count("-4"), 10_000);
        timed("remove", many(10_000).map(|network| Change::Drop(prefix(&network))).collect()).await;
        assert_eq!(count("-4"), 0);
    });
}
