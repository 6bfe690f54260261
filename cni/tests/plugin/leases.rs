//! Leases under load, after a kill half-way, after losing the table, after a reboot.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use cambric_cni::lease::table::{self, BootId, Slot, Table};
use cambric_cni::lease::{self, Leases};
use cambric_cni::range::Range;
use serde_json::{Value, json};

use crate::host::{Answer, Host, Pod, ip, on_a_host, tcp, until};

fn small() -> Value {
    json!([{"ipv4": "10.244.1.0/27", "ipv6": "fd00:10:244:1::/64"}])
}

fn range() -> Range {
    Range::new("10.244.1.0/27".parse().ok(), "fd00:10:244:1::/64".parse().ok()).expect("range")
}

fn add(host: &Host, pod: &Pod) -> Answer {
    host.call("ADD", pod).config("ranges", small()).run()
}

/// Makes a call for every pod, eight at a time.
fn eight_at_a_time(host: &Host, pods: &[Pod], command: &str) -> Vec<Answer> {
    let calls: Vec<_> = pods.iter().map(|pod| host.call(command, pod).config("ranges", small())).collect();
    let (calls, answers) = (Mutex::new(calls.into_iter()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let next = calls.lock().expect("calls").next();
                    let Some(call) = next else { return };
                    let answer = call.run();
                    answers.lock().expect("answers").push(answer);
                }
            });
        }
    });
    answers.into_inner().expect("answers")
}

#[test]
fn fifty_pods_at_once_share_thirty_addresses_without_a_duplicate() {
    on_a_host(|host| {
        let pods: Vec<Pod> = (0..50).map(|nth| host.pod(&format!("pod{nth}"))).collect();
        let (granted, refused): (Vec<_>, Vec<_>) =
            eight_at_a_time(host, &pods, "ADD").into_iter().partition(|answer| answer.success);
        let addresses: BTreeSet<IpAddr> = granted.iter().flat_map(Answer::addresses).collect();
        assert_eq!((granted.len(), addresses.len(), refused.len()), (30, 60, 20));
        for answer in refused {
            answer.expect_error(101, "no free address in 10.244.1.0/27");
        }
        assert_eq!(host.pod_routes().len(), 60);
        for answer in eight_at_a_time(host, &pods, "DEL") {
            answer.expect_success();
        }
        host.assert_clean();
        add(host, &pods[0]).expect_success();
    });
}

#[test]
fn beside_a_table_of_a_later_release_nothing_is_granted_and_del_takes_links_and_routes_away() {
    on_a_host(|host| {
        let (pod, _) = host.attached_pod("a1");
        let tables = fs::read_dir(host.lease_dir()).expect("folder").flatten();
        let mut tables = tables.map(|entry| entry.path()).filter(|path| !path.ends_with("lock"));
        let table = tables.next().expect("a table");
        let later = [b"CAMLEASE", &2_u32.to_le_bytes()[..], &[7; 1000]].concat();
        fs::write(&table, &later).expect("written");

        let refused = host.call("ADD", &host.pod("a2")).run();
        refused.expect_error(103, "of version 2, of a later release; this one reads version 1");
        assert!(refused.stdout.contains("drain the node and reboot"), "{}", refused.stdout);
        let elsewhere = json!([{"ipv4": "10.9.0.0/24"}]);
        host.call("ADD", &host.pod("a3")).config("ranges", elsewhere).run().expect_error(103, "of version 2");
        assert_eq!(host.links().len(), 1, "what failed is undone");
        host.call("DEL", &pod).run().expect_success();
        until("links to be gone", || host.links().is_empty());
        assert_eq!(host.pod_routes(), [""; 0]);
        assert_eq!(fs::read(&table).expect("there"), later, "nothing was written to it");
    });
}

#[test]
fn of_adds_of_one_attachment_at_once_exactly_one_succeeds_and_works() {
    on_a_host(|host| {
        for round in 0..20 {
            let pod = host.pod(&format!("pod{round}"));
            let calls: Vec<_> = (0..8).map(|_| pod.clone()).collect();
            let (granted, refused): (Vec<_>, Vec<_>) =
                eight_at_a_time(host, &calls, "ADD").into_iter().partition(|answer| answer.success);
            for answer in &refused {
                answer.expect_error(100, "EEXIST");
            }
            let [granted] = &granted[..] else { panic!("{} succeeded", granted.len()) };
            let addresses = granted.addresses();
            let leased: Vec<IpAddr> = host.leases().iter().flat_map(|lease| lease.addresses.iter()).collect();
            assert_eq!(leased, addresses, "the lease is kept");
            for address in addresses {
                tcp(host, &pod, address);
            }
            host.call("DEL", &pod).run().expect_success();
            host.assert_clean();
        }
    });
}

#[test]
fn a_del_among_adds_of_one_attachment_leaves_a_link_with_its_lease_or_neither() {
    on_a_host(|host| {
        let pod = host.pod("a1");
        for _ in 0..40 {
            let call = |command| host.call(command, &pod).config("ranges", small());
            let commands = ["ADD", "ADD", "DEL", "ADD", "DEL", "ADD", "ADD", "DEL"];
            thread::scope(|scope| {
                for command in commands {
                    let call = call(command);
                    scope.spawn(|| call.run());
                }
            });
            let leased: BTreeSet<IpAddr> =
                host.leases().iter().flat_map(|lease| lease.addresses.iter()).collect();
            let routed: BTreeSet<IpAddr> =
                host.pod_routes().iter().filter_map(|route| route.split(' ').next()?.parse().ok()).collect();
            assert_eq!(leased, routed);
            assert_eq!(host.links().len(), leased.len() / 2);
            call("DEL").run().expect_success();
            host.assert_clean();
        }
    });
}

#[test]
fn an_add_whose_link_went_leaves_the_lease_of_a_younger_link_alone() {
    on_a_host(|host| {
        let pod = host.pod("a1");
        let survivors = || Ok(Vec::new());
        let mut leases = Leases::open(&host.run_dir(), "cambric", &[range()], survivors).expect("leases");
        thread::scope(|scope| {
            let other = json!([{"ipv4": "10.244.9.0/24"}]);
            let call = host.call("ADD", &pod).config("ranges", other);
            let stale = scope.spawn(|| call.run());
            until("the ADD to wait for the leases", || host.links() == [pod.host_ifname()]);
            // DEL and an ADD that is faster.
            ip(&format!("link delete {}", pod.host_ifname()));
            ip(&format!("link add {} type veth peer name other", pod.host_ifname()));
            let granted = leases.grant(&pod.attachment().holder, lease::now()).expect("granted");
            drop(leases);
            let answer = stale.join().expect("answer");
            assert_eq!(host.leases(), [granted]);
            answer.expect_error(104, "was deleted while its ADD waited");
        });
    });
}

#[test]
fn an_add_killed_after_the_lease_is_taken_up_again() {
    on_a_host(|host| {
        let pod = host.pod("a1");
        let survivors = || Ok(Vec::new());
        let mut leases = Leases::open(&host.run_dir(), "cambric", &[range()], survivors).expect("leases");
        let holder = pod.attachment().holder;
        let granted = leases.grant(&holder, lease::now()).expect("granted");
        drop(leases);
        let answer = add(host, &pod);
        assert_eq!(answer.expect_success().addresses(), granted.addresses.iter().collect::<Vec<_>>());
        assert_eq!(host.leases().len(), 1);
        host.call("DEL", &pod).run().expect_success();
        host.assert_clean();
    });
}

#[test]
fn an_add_killed_at_any_moment_leaves_nothing_that_del_does_not_remove() {
    on_a_host(|host| {
        let pod = host.pod("a1");
        let call = |command| host.call(command, &pod).config("ranges", small());
        // Each try is killed a little later, until the plugin is done before.
        let (mut time, mut finished) = (Duration::ZERO, 0);
        while finished < 3 {
            finished += u32::from(call("ADD").run_and_kill_after(time));
            time += Duration::from_micros(50);
            call("DEL").run().expect_success();
            host.assert_clean();
            call("ADD").run().expect_success();
            call("DEL").run().expect_success();
        }
    });
}

#[test]
fn a_lease_without_a_link_is_freed_by_del() {
    on_a_host(|host| {
        let pod = host.pod("a1");
        add(host, &pod).expect_success();
        ip(&format!("link delete {}", pod.host_ifname()));
        host.call("DEL", &pod).run().expect_success();
        host.assert_clean();
    });
}

#[test]
fn a_link_without_a_lease_keeps_its_address_and_gets_the_lease_back() {
    on_a_host(|host| {
        let old = host.pod("old");
        let address = add(host, &old).addresses()[0];
        let slot = range().slot_of(address).expect("slot");
        // The table says free what the kernel says is in use, and the round robin comes by.
        let path = host.lease_dir().join(table::file_name(&range()));
        let full =
            (1..31).filter(|other| *other != slot).map(|other| (other, leased_to(&format!("x{other}"))));
        Table::create(&path, &range(), BootId::current().expect("boot ID"), full).expect("table");
        add(host, &host.pod("new")).expect_error(101, "no free address");
        assert!(host.leases().iter().any(|lease| lease.holder == old.attachment().holder));
        assert_eq!(tcp(host, &old, address).to_string(), crate::host::NODE_IPV4);
    });
}

fn leased_to(container_id: &str) -> Slot {
    let holder = cambric_cni::attachment::Holder { container_id: container_id.into(), ifname: "eth0".into() };
    Slot::Leased { holder, granted_at: lease::now() }
}

#[test]
fn a_lost_or_damaged_table_is_rebuilt_from_pods_that_are_alive() {
    on_a_host(|host| {
        let pods: Vec<Pod> = (0..20).map(|nth| host.pod(&format!("pod{nth}"))).collect();
        let mut seen: BTreeSet<IpAddr> =
            pods[..10].iter().flat_map(|pod| add(host, pod).expect_success().addresses()).collect();
        let before = host.leases().len();
        fs::remove_dir_all(host.run_dir()).expect("removed");
        seen.extend(add(host, &pods[10]).expect_success().addresses());
        assert_eq!(host.leases().len(), before + 1);

        let path = host.lease_dir().join(table::file_name(&range()));
        fs::write(&path, "not a table").expect("written");
        for pod in &pods[11..] {
            seen.extend(add(host, pod).expect_success().addresses());
        }
        assert_eq!((seen.len(), host.leases().len()), (40, 20), "two addresses each, none twice");
        for pod in &pods {
            host.call("DEL", pod).run().expect_success();
        }
        host.assert_clean();
    });
}

#[test]
fn pods_with_ipv6_alone_are_found_alive_too() {
    on_a_host(|host| {
        let add = |pod: &Pod| host.call("ADD", pod).config("ranges", json!([{"ipv6": "fd00:1::/64"}])).run();
        let first = add(&host.pod("a1")).expect_success().addresses();
        fs::remove_dir_all(host.run_dir()).expect("removed");
        assert_ne!(add(&host.pod("b1")).expect_success().addresses(), first);
        assert_eq!(host.leases().len(), 2);
    });
}

#[test]
fn after_a_reboot_the_table_is_fresh() {
    on_a_host(|host| {
        let path = host.lease_dir().join(table::file_name(&range()));
        fs::create_dir_all(host.lease_dir()).expect("folder");
        let full = (1..31).map(|slot| (slot, leased_to(&format!("x{slot}"))));
        Table::create(&path, &range(), BootId::from_bytes([1; 16]), full).expect("table");
        assert_eq!(host.leases(), [], "leases of another boot are none");
        let pod = host.pod("a1");
        host.call("DEL", &pod).run().expect_success();
        add(host, &pod).expect_success();
        assert_eq!(host.leases().len(), 1);
    });
}
