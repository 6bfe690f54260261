//! Adoption of what an earlier run left, and the record for graceful restart.

mod common;

use cambric_routes::{Change, Family, Target};
use common::{
    Monitor, Running, TOR1, TOR1_V6, TOR2, TOR2_V6, config, count, groups, in_both_modes, in_namespace, ip,
    many, next_hops, prefix, shown, start, until, via, want,
};

fn wanted() -> Vec<Change> {
    let routes = many(500).map(|network| via(&network, &[TOR1, TOR2]));
    let others = [
        via("21.0.0.0/24", &[TOR1]),
        via("2001:db8:a::/64", &[TOR1_V6, TOR2_V6]),
        via("2001:db8:b::/64", &[TOR2_V6]),
        want("10.244.1.0/24", Target::Unreachable),
        want("2001:db8:f::/64", Target::Unreachable),
    ];
    routes.chain(others).collect()
}

async fn sweep(running: &Running) {
    for family in Family::ALL {
        running.routes.allow_sweep(family).await.expect("sent");
    }
    running.routes.flushed().await.expect("flushed");
}

#[test]
fn restart_with_the_same_wishes_writes_nothing() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let first = start(config(dir.path())).await;
        assert!(!first.routes.kept().restarted, "no record: a first start");
        first.set(wanted()).await;
        first.reaches("the record is written", |s| s.learned.ipv4 == 501).await;
        first.kill().await;

        let monitor = Monitor::new();
        let second = start(config(dir.path())).await;
        let kept = second.routes.kept();
        assert!(kept.restarted && kept.kept.ipv4 && kept.kept.ipv6, "{kept:?}");
        let snapshot = second.snapshot().await;
        assert_eq!((snapshot.learned.ipv4, snapshot.stale.ipv4, snapshot.wanted.ipv4), (501, 502, 0));
        second.set(wanted()).await;
        sweep(&second).await;
        second.reaches("settled", |s| s.stale.ipv4 == 0 && s.stale.ipv6 == 0).await;
        assert_eq!(monitor.heard(), []);
    });
}

#[test]
fn stale_routes_stay_until_their_family_may_be_swept() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let first = start(config(dir.path())).await;
        first.set(wanted()).await;
        first.kill().await;

        let second = start(config(dir.path())).await;
        second.set(vec![via("20.0.0.0/24", &[TOR1, TOR2])]).await;
        assert_eq!(count("-4"), 502);
        second.routes.allow_sweep(Family::Ipv4).await.expect("sent");
        second.routes.flushed().await.expect("flushed");
        assert_eq!(
            count("-4"),
            2,
            "the wanted route and, as no own prefix is known yet, the unreachable one"
        );
        assert_eq!(count("-6"), 3);
        second.routes.allow_sweep(Family::Ipv6).await.expect("sent");
        second.routes.flushed().await.expect("flushed");
        assert_eq!(count("-6"), 1);
        until("leftover objects gone", || next_hops().len() == 3 && groups().len() == 1).await;
    });
}

#[test]
fn former_own_prefix_is_swept_once_the_new_one_is_known() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let first = start(config(dir.path())).await;
        first.set(vec![want("10.244.1.0/24", Target::Unreachable)]).await;
        first.kill().await;
        let second = start(config(dir.path())).await;
        second.set(vec![want("10.244.2.0/24", Target::Unreachable)]).await;
        assert!(shown("10.244.1.0/24").starts_with("unreachable"));
        sweep(&second).await;
        assert_eq!(shown("10.244.1.0/24"), "");
        assert!(shown("10.244.2.0/24").starts_with("unreachable"));
        second.kill().await;
        // The other order: the API server that knows the own prefix answers after the sweep.
        let third = start(config(dir.path())).await;
        sweep(&third).await;
        assert!(shown("10.244.2.0/24").starts_with("unreachable"));
        third.set(vec![want("10.244.3.0/24", Target::Unreachable)]).await;
        assert_eq!(shown("10.244.2.0/24"), "");
        assert!(shown("10.244.3.0/24").starts_with("unreachable"));
    });
}

#[test]
fn flap_while_stopped_is_repaired_at_the_start() {
    in_both_modes(|_| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let first = start(config(dir.path())).await;
        let wanted = || vec![via("20.0.0.0/24", &[TOR1, TOR2]), via("2001:db8:a::/64", &[TOR1_V6, TOR2_V6])];
        first.set(wanted()).await;
        first.kill().await;
        // One uplink flaps: the groups have shrunk for good.
        ip("link set tor1 down");
        until("carrier lost", || ip("link show up1").contains("NO-CARRIER")).await;
        ip("link set tor1 up");
        until("carrier", || ip("link show up1").contains("state UP")).await;
        assert!(next_hops().len() < 6);
        let whole =
            || groups().iter().filter(|g| g["group"].as_array().is_some_and(|m| m.len() == 2)).count() == 2;
        let second = start(config(dir.path())).await;
        second.set(wanted()).await;
        assert!(whole(), "{:?}", next_hops());
        second.kill().await;
        // Both flap: groups and routes are gone.
        for tor in ["tor1", "tor2"] {
            ip(&format!("link set {tor} down"));
        }
        for up in ["up1", "up2"] {
            until("carrier lost", || ip(&format!("link show {up}")).contains("NO-CARRIER")).await;
        }
        for tor in ["tor1", "tor2"] {
            ip(&format!("link set {tor} up"));
        }
        for up in ["up1", "up2"] {
            until("carrier", || ip(&format!("link show {up}")).contains("state UP")).await;
        }
        assert_eq!(count("-4") + count("-6"), 0);
        let third = start(config(dir.path())).await;
        let kept = third.routes.kept();
        assert!(kept.restarted && !kept.kept.ipv4 && !kept.kept.ipv6, "{kept:?}");
        third.set(wanted()).await;
        assert!(whole());
        assert_eq!((count("-4"), count("-6")), (1, 1));
    });
}

#[test]
fn record_follows_what_is_installed() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let recorded = || {
            let text = std::fs::read_to_string(dir.path().join("fib.json")).expect("record");
            let content: serde_json::Value = serde_json::from_str(&text).expect("json");
            (content["ipv4"].as_u64(), content["ipv6"].as_u64())
        };
        let running = start(config(dir.path())).await;
        running.set(wanted()).await;
        assert_eq!(recorded(), (Some(501), Some(2)));
        running.set(many(400).map(|network| Change::Drop(prefix(&network))).collect()).await;
        assert_eq!(recorded(), (Some(101), Some(2)));
        ip("link set up1 down");
        ip("link set up2 down");
        running
            .reaches("all gone", |snapshot| snapshot.learned.ipv4 == 0 && snapshot.learned.ipv6 == 0)
            .await;
        until("the record says so", || recorded() == (Some(0), Some(0))).await;
    });
}

#[test]
fn routes_of_our_protocol_outside_our_metric_go_with_the_sweep() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().expect("tempdir");
        ip("route add 20.9.0.0/24 via 10.1.0.1 proto 203 metric 7");
        let running = start(config(dir.path())).await;
        running.set(vec![via("20.9.0.0/24", &[TOR1])]).await;
        assert_eq!(count("-4"), 2);
        sweep(&running).await;
        until("only ours", || shown("20.9.0.0/24").lines().count() == 1).await;
        assert!(shown("20.9.0.0/24").contains("metric 203"));
    });
}

/// Enough for a listing of several datagrams.
const SEVERAL_DATAGRAMS: u32 = 6000;

#[test]
fn start_while_pods_come_and_go_finds_all_that_was_left() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().expect("tempdir");
        let first = start(config(dir.path())).await;
        first.set(many(SEVERAL_DATAGRAMS).map(|network| via(&network, &[TOR1])).collect()).await;
        first.reaches("the record is written", |s| s.learned.ipv4 == SEVERAL_DATAGRAMS as usize).await;
        first.kill().await;
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        let pods = std::thread::spawn(move || {
            for n in 0.. {
                if is_done.try_recv().is_ok() {
                    return;
                }
                ip(&format!("link add pod{n} type veth peer name far{n}"));
                ip(&format!("link set far{n} up"));
                ip(&format!("link set pod{n} up"));
                ip(&format!("link del pod{n}"));
            }
        });
        for _ in 0..5 {
            let second = start(config(dir.path())).await;
            assert!(second.routes.kept().kept.ipv4);
            assert_eq!(second.snapshot().await.stale.ipv4, SEVERAL_DATAGRAMS as usize);
            second.kill().await;
        }
        done.send(()).expect("it goes on");
        pods.join().expect("pods");
    });
}
