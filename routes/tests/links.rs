//! Carrier loss and return, administrative down and up: what the kernel drops silently comes back.

mod common;

use std::time::Duration;

use cambric_routes::{Change, Config, Event, Hop, NextHop, RepairCause, Target, WantedRoute};
use common::{
    Running, TOR1, TOR1_V6, TOR2, TOR2_V6, address, config, groups, in_both_modes, in_namespace, ip,
    next_hops, prefix, shown, start, until, via, want,
};

const BOTH: &str = "20.0.0.0/24";
const BOTH_V6: &str = "2001:db8:a::/64";
const SINGLE: &str = "20.0.1.0/24";
const SINGLE_V6: &str = "2001:db8:b::/64";

async fn set_usual(running: &Running) {
    running
        .set(vec![
            via(BOTH, &[TOR1, TOR2]),
            via(BOTH_V6, &[TOR1_V6, TOR2_V6]),
            via(SINGLE, &[TOR1]),
            via(SINGLE_V6, &[TOR1_V6]),
        ])
        .await;
    assert!(is_usual(), "{:?} {:?}", shown(BOTH), next_hops());
}

/// Two groups of two members, the routes on them, the single routes plain.
fn is_usual() -> bool {
    let whole = groups()
        .iter()
        .filter(|group| group["group"].as_array().is_some_and(|members| members.len() == 2))
        .count();
    whole == 2
        && [BOTH, BOTH_V6].iter().all(|prefix| shown(prefix).contains("nhid 203"))
        && [(SINGLE, TOR1), (SINGLE_V6, TOR1_V6)].iter().all(|(prefix, tor)| {
            shown(prefix).contains(&format!("via {tor} dev up1")) && !shown(prefix).contains("linkdown")
        })
}

async fn carrier_lost(name: &str) {
    until("carrier lost", || ip(&format!("link show {name}")).contains("NO-CARRIER")).await;
}

#[test]
fn carrier_flap_of_one_uplink_leaves_the_other_and_returns() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut running = start(config(dir.path())).await;
        set_usual(&running).await;
        ip("link set tor1 down");
        running.event(|event| *event == Event::LinkDown { name: "up1".into() }).await;
        running.reaches("one object left a family", |snapshot| snapshot.objects.len() == 2).await;
        assert!(shown(BOTH).contains("nhid") && shown(BOTH_V6).contains("nhid"));
        assert!(shown(SINGLE).contains("linkdown"), "a plain route stays: {}", shown(SINGLE));
        ip("link set tor1 up");
        println!("back after {:?}", until("all as before", is_usual).await);
        let repaired = |event: &Event| matches!(event, Event::Repaired { cause: RepairCause::LinkLost, .. });
        running.event(repaired).await;
    });
}

#[test]
fn group_that_shrank_by_carrier_grows_again_by_one_message() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let running = start(config(dir.path())).await;
        running.set(common::many(1000).map(|network| via(&network, &[TOR1, TOR2])).collect()).await;
        let before = groups();
        ip("link set tor1 down");
        running.reaches("shrunken", |s| s.groups.values().all(|group| group.hops.len() == 1)).await;
        let monitor = common::Monitor::new();
        ip("link set tor1 up");
        let snapshot =
            running.reaches("grown", |s| s.groups.values().all(|group| group.hops.len() == 2)).await;
        assert_eq!(snapshot.groups.len(), 1);
        assert_eq!(snapshot.learned.ipv4, 1000);
        assert_eq!(groups()[0]["id"], before[0]["id"]);
        let heard: Vec<_> = monitor.heard().into_iter().filter(|heard| heard.port != 0).collect();
        assert_eq!(common::requests(&heard).len(), 2, "an object and a group: {heard:?}");
    });
}

#[test]
fn carrier_flap_of_both_uplinks_brings_all_back() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let running = start(config(dir.path())).await;
        set_usual(&running).await;
        ip("link set tor1 down");
        ip("link set tor2 down");
        carrier_lost("up1").await;
        carrier_lost("up2").await;
        running.reaches("no object left", |snapshot| snapshot.objects.is_empty()).await;
        until("routes on groups gone", || shown(BOTH).is_empty() && shown(BOTH_V6).is_empty()).await;
        ip("link set tor2 up");
        until("over the second uplink", || shown(BOTH).contains("via 10.2.0.1 dev up2 proto 203")).await;
        until("over the second uplink", || shown(BOTH_V6).contains("via 2001:db8:2::1 dev up2 proto 203"))
            .await;
        ip("link set tor1 up");
        println!("back after {:?}", until("all as before", is_usual).await);
    });
}

#[test]
fn uplink_set_down_and_up_brings_all_back() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let running = start(config(dir.path())).await;
        set_usual(&running).await;
        ip("link set up1 down");
        until("plain route gone", || shown(SINGLE).is_empty()).await;
        ip("link set up1 up");
        // The kernel forgets IPv6 addresses of a link that is set down; whoever configured them brings them
        // back.
        ip("addr add 2001:db8:1::2/64 dev up1 nodad");
        println!("back after {:?}", until("all as before", is_usual).await);
        running
            .reaches("nothing fails", |snapshot| snapshot.failing == 0 && snapshot.unusable.is_empty())
            .await;
    });
}

#[test]
fn interface_made_anew_is_used_again() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let running = start(config(dir.path())).await;
        let named = Target::Via([NextHop::through(address("fe80::1"), "up1")].into());
        running.set(vec![want(BOTH_V6, named)]).await;
        assert!(shown(BOTH_V6).contains("dev up1"));
        ip("link del up1");
        running.reaches("gone", |snapshot| snapshot.learned.ipv6 == 0).await;
        ip("link add up1 type veth peer name tor1");
        ip("link set tor1 up");
        ip("link set up1 up");
        until("back", || shown(BOTH_V6).contains("via fe80::1 dev up1 proto 203")).await;
    });
}

#[test]
fn next_hop_wanted_while_its_link_is_down_waits_for_it() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().expect("tempdir");
        ip("link set tor1 down");
        carrier_lost("up1").await;
        let running = start(config(dir.path())).await;
        running.set(vec![via(BOTH, &[TOR1, TOR2]), via(SINGLE, &[TOR1]), via(SINGLE_V6, &[TOR1_V6])]).await;
        assert!(shown(BOTH).contains("via 10.2.0.1 dev up2"));
        assert_eq!(shown(SINGLE), "");
        ip("link set tor1 up");
        until("both", || shown(BOTH).contains("nhid")).await;
        until("IPv4", || shown(SINGLE).contains("via 10.1.0.1 dev up1")).await;
        until("IPv6", || shown(SINGLE_V6).contains("dev up1")).await;
    });
}

#[test]
fn address_that_comes_later_makes_its_next_hop_usable() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().expect("tempdir");
        ip("addr flush dev up1");
        let mut running = start(config(dir.path())).await;
        running.set(vec![via(SINGLE, &[TOR1]), via(SINGLE_V6, &[TOR1_V6])]).await;
        assert_eq!(shown(SINGLE), "");
        ip("addr add 10.1.0.2/24 dev up1");
        // With duplicate address detection: tentative for a while, yet its subnet is on link.
        ip("addr add 2001:db8:1::2/64 dev up1");
        running.event(|event| *event == Event::AddressesChanged).await;
        until("IPv4", || shown(SINGLE).contains("via 10.1.0.1 dev up1")).await;
        until("IPv6", || shown(SINGLE_V6).contains("dev up1")).await;
        let links = running.routes.links();
        let up1 = links.borrow().by_name("up1").cloned().expect("known");
        assert!(up1.usable() && up1.addresses.iter().any(|a| a.address == address("10.1.0.2")));
    });
}

#[test]
fn address_removed_and_put_back_brings_all_back() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        // The check that follows a change comes too late to help.
        let running = start(Config { settle_delay: Duration::from_secs(60), ..config(dir.path()) }).await;
        set_usual(&running).await;
        // The last IPv4 address of an interface takes plain routes along without a word.
        for (address, family) in [("10.1.0.2/24", "-4"), ("2001:db8:1::2/64", "-6")] {
            ip(&format!("{family} addr del {address} dev up1"));
            let at_once = if family == "-4" { "" } else { " nodad" };
            ip(&format!("{family} addr add {address} dev up1{at_once}"));
            println!("{family}: back after {:?}", until("all as before", is_usual).await);
        }
        // With a while in between.
        ip("-4 addr del 10.1.0.2/24 dev up1");
        ip("-6 addr del 2001:db8:1::2/64 dev up1");
        until("the other uplink only", || {
            shown(SINGLE).is_empty() && [BOTH, BOTH_V6].iter().all(|text| !shown(text).contains("dev up1"))
        })
        .await;
        ip("-4 addr add 10.1.0.2/24 dev up1");
        ip("-6 addr add 2001:db8:1::2/64 dev up1 nodad");
        println!("both: back after {:?}", until("all as before", is_usual).await);
        let snapshot = running.reaches("nothing left to do", |s| s.pending == 0 && s.failing == 0).await;
        assert_eq!(snapshot.repairs.keys().collect::<Vec<_>>(), [&RepairCause::LinkLost]);
    });
}

#[test]
fn address_replaced_by_another_of_its_subnet_changes_nothing_in_the_end() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let running = start(Config { settle_delay: Duration::from_secs(60), ..config(dir.path()) }).await;
        set_usual(&running).await;
        // Without promotion, a secondary address goes with its primary one.
        ip("addr add 10.1.0.3/24 dev up1");
        ip("addr del 10.1.0.2/24 dev up1");
        ip("addr add 10.1.0.3/24 dev up1");
        ip("addr add 2001:db8:1::3/64 dev up1 nodad");
        ip("addr del 2001:db8:1::2/64 dev up1");
        println!("back after {:?}", until("all as before", is_usual).await);
        running.reaches("nothing left to do", |s| s.pending == 0 && s.failing == 0).await;
        assert!(is_usual());
    });
}

#[test]
fn address_moved_to_another_interface_takes_its_routes_along() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let running = start(Config { settle_delay: Duration::from_secs(60), ..config(dir.path()) }).await;
        set_usual(&running).await;
        ip("link add up3 type veth peer name tor3");
        ip("link set tor3 up");
        ip("link set up3 up");
        for address in ["10.1.0.2/24", "2001:db8:1::2/64"] {
            ip(&format!("addr del {address} dev up1"));
        }
        ip("addr add 10.1.0.2/24 dev up3");
        ip("addr add 2001:db8:1::2/64 dev up3 nodad");
        let moved = || {
            [(SINGLE, TOR1), (SINGLE_V6, TOR1_V6)]
                .iter()
                .all(|(prefix, tor)| shown(prefix).contains(&format!("via {tor} dev up3")))
        };
        println!("moved after {:?}", until("single ones over the new link", moved).await);
        let snapshot = running.reaches("nothing left to do", |s| s.pending == 0 && s.failing == 0).await;
        let links = running.routes.links();
        let up3 = links.borrow().by_name("up3").expect("known").index;
        let carried = |tor: &str| snapshot.by_gateway.get(&Hop { gateway: address(tor), link: up3 }).copied();
        assert_eq!((carried(TOR1), carried(TOR1_V6)), (Some(2), Some(2)));
    });
}

#[test]
fn mtu_change_loses_nothing_and_one_too_small_for_ipv6_only_what_the_kernel_drops() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let running = start(Config { settle_delay: Duration::from_secs(60), ..config(dir.path()) }).await;
        set_usual(&running).await;
        let links = running.routes.links();
        let mtu = || links.borrow().by_name("up1").map(|link| link.mtu_bytes);
        for bytes in [1400, 9000, 1500] {
            ip(&format!("link set up1 mtu {bytes}"));
            until("the link table", || mtu() == Some(bytes)).await;
            assert!(is_usual(), "{} {}", shown(SINGLE), shown(SINGLE_V6));
        }
        assert!(running.snapshot().await.repairs.is_empty());
        // Below 1280 octets IPv6 is off on the interface, its addresses are gone (RFC 8200 section 5).
        ip("link set up1 mtu 1279");
        until("IPv6 goes", || shown(SINGLE_V6).is_empty() && !shown(BOTH_V6).contains("dev up1")).await;
        assert!(shown(SINGLE).contains("dev up1") && shown(BOTH).contains("nhid"));
        ip("link set up1 mtu 1500");
        ip("addr add 2001:db8:1::2/64 dev up1 nodad");
        println!("back after {:?}", until("all as before", is_usual).await);
    });
}

#[test]
fn interface_made_anew_under_its_name_gets_its_routes_back() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let running = start(config(dir.path())).await;
        set_usual(&running).await;
        let links = running.routes.links();
        let index = || links.borrow().by_name("up1").map(|link| link.index);
        let before = index();
        ip("link del up1");
        ip("link add up1 type veth peer name tor1");
        for name in ["tor1", "up1"] {
            ip(&format!("link set {name} up"));
        }
        ip("addr add 10.1.0.2/24 dev up1");
        ip("addr add 2001:db8:1::2/64 dev up1 nodad");
        println!("back after {:?}", until("all as before", is_usual).await);
        assert_ne!(index(), before);
        let snapshot = running.reaches("nothing left to do", |s| s.pending == 0 && s.failing == 0).await;
        assert!(snapshot.unusable.is_empty(), "{:?}", snapshot.unusable);
    });
}

#[test]
fn preferred_source_is_left_out_while_the_node_lacks_it() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut running = start(config(dir.path())).await;
        let node = ["192.0.2.7", "2001:db8:77::7"];
        let sourced = |network: &str, tors: [&str; 2], source: &str| {
            let target = Target::Via(tors.map(|tor| NextHop::on_link(address(tor))).into());
            let network = network.parse().expect("network");
            Change::Want(WantedRoute::new(network, target, Some(address(source))))
        };
        running
            .set(vec![sourced(BOTH, [TOR1, TOR2], node[0]), sourced(BOTH_V6, [TOR1_V6, TOR2_V6], node[1])])
            .await;
        assert!(!shown(BOTH).is_empty() && !shown(BOTH).contains("src"), "{}", shown(BOTH));
        let mut missing = Vec::new();
        while missing.len() < 2 {
            let told = |event: &Event| matches!(event, Event::PreferredSourceMissing { .. });
            if let Event::PreferredSourceMissing { address } = running.event(told).await {
                missing.push(address.to_string());
            }
        }
        assert_eq!(missing, node);
        let sources =
            || shown(BOTH).contains("src 192.0.2.7") && shown(BOTH_V6).contains("src 2001:db8:77::7");
        ip("addr add 192.0.2.7/32 dev up1");
        ip("addr add 2001:db8:77::7/128 dev up1 nodad");
        until("sources in the routes", sources).await;
        ip("addr del 192.0.2.7/32 dev up1");
        ip("addr del 2001:db8:77::7/128 dev up1");
        until("routes without source", || shown(BOTH).contains("nhid") && !sources()).await;
        until("IPv6 too", || shown(BOTH_V6).contains("nhid") && !shown(BOTH_V6).contains("src")).await;
        // No event tells of the routes, but one of the address.
        let snapshot = running.reaches("nothing left to do", |s| s.pending == 0 && s.checks > 1).await;
        assert_eq!(snapshot.repairs, [(RepairCause::LinkLost, 2)].into());
        // Probed for duplicates first this time.
        ip("addr add 192.0.2.7/32 dev up1");
        ip("addr add 2001:db8:77::7/128 dev up1");
        until("sources in the routes again", sources).await;
        running.set(vec![Change::Drop(prefix(BOTH)), Change::Drop(prefix(BOTH_V6))]).await;
        tokio::time::timeout(Duration::from_secs(1), running.snapshot()).await.expect("alive");
    });
}
