//! What others do to our tables and sets is put right; what is theirs is left alone.

use std::time::{Duration, Instant};

use cambric_policy::enforcer::{Config, Enforcer, Status};
use cambric_policy::kernel::{Guard, Held, Kernel};
use cambric_policy::program::{Family, Set, SetName};
use serde_json::json;

use crate::common::{run, try_run};
use crate::in_namespace;
use crate::node::{allow, apply, config, namespace, pod, policy, reaches, repairs, start_with, wired};

/// What the kernel holds of ours.
type State = (Held, std::collections::BTreeMap<SetName, (Family, Set)>);

fn state() -> State {
    let mut kernel = Kernel::open().expect("a kernel");
    let mut held = kernel.read().expect("tables");
    held.generation = 0;
    for table in [&mut held.ipv4, &mut held.ipv6].into_iter().flatten() {
        table.chains.values_mut().flat_map(|chain| &mut chain.rules).for_each(|rule| rule.handle = 0);
    }
    (held, kernel.sets().expect("sets"))
}

async fn node(config: Config) -> Enforcer {
    let changes = vec![
        namespace("default"),
        pod("web", json!({"app": "web"}), &["10.0.1.2", "fd00:1::2"]),
        pod("db", json!({"app": "db"}), &["10.0.2.2", "fd00:2::2"]),
        allow("db", json!({"app": "db"}), json!({"app": "web"})),
        wired("camtest1", "web", &["10.0.1.2", "fd00:1::2"]),
        wired("camtest2", "db", &["10.0.2.2", "fd00:2::2"]),
    ];
    start_with(config, changes).await
}

/// The set of the policy's peers.
fn peers() -> String {
    let names = Kernel::open().expect("a kernel").set_names().expect("names");
    names
        .iter()
        .find(|name| name.starts_with("cam4p") && &***name != "cam4peers")
        .expect("a peer set")
        .to_string()
}

/// The chain of the policy's class.
fn chain() -> String {
    let held = Kernel::open().expect("a kernel").read().expect("tables");
    let chains = held.ipv4.expect("a table").chains;
    chains.keys().find(|name| name.starts_with("i-")).expect("a class").to_string()
}

#[test]
fn what_others_change_is_put_right_and_counted() {
    in_namespace(|| async {
        let enforcer = node(config()).await;
        let wanted = state();
        let (chain, peers) = (chain(), peers());
        let deeds = [
            ("table", "nft flush ruleset".to_owned()),
            ("rule", "nft flush table ip cambric".to_owned()),
            ("table", "nft delete table ip6 cambric".to_owned()),
            ("table", "nft delete table arp cambric".to_owned()),
            ("rule", "nft insert rule ip cambric forward accept".to_owned()),
            ("rule", format!("nft flush chain ip cambric {chain}")),
            ("rule", "nft add rule ip6 cambric open drop".to_owned()),
            ("map", "nft delete element ip cambric ingress { camtest2 }".to_owned()),
            ("map", "nft add element ip cambric ingress { camother : accept }".to_owned()),
            (
                "chain",
                "nft add chain ip cambric other { type filter hook forward priority 0; policy drop; }"
                    .to_owned(),
            ),
            ("chain", "nft add chain ip cambric other".to_owned()),
            ("table", "nft add set ip cambric other { type ipv4_addr; }".to_owned()),
            ("chain", "nft delete chain ip cambric spoof".to_owned()),
            ("chain", "nft add chain ip cambric forward { policy drop; }".to_owned()),
            ("members", format!("ipset flush {peers}")),
            ("members", format!("ipset add {peers} 192.0.2.77")),
            ("members", format!("ipset del {peers} 10.0.1.2")),
            ("members", "ipset flush cam4self".to_owned()),
            ("members", "ipset add cam4self 192.0.2.78,camtest1".to_owned()),
        ];
        for (cause, deed) in deeds {
            let before = repairs(&enforcer.status().borrow()).get(cause).copied().unwrap_or_default();
            let begun = Instant::now();
            run(&deed);
            let is_repaired = |status: &Status| {
                repairs(status).get(cause).copied().unwrap_or_default() > before
                    && status.counts.lingering == 0
            };
            let status = reaches(&enforcer, &deed, is_repaired).await;
            let elapsed = begun.elapsed();
            let took = status
                .repairs
                .iter()
                .find(|(of, _)| of.to_string() == cause)
                .map(|(_, repairs)| repairs.took);
            println!("{deed}: {took:?} from when it was seen, {elapsed:?} until the status told");
            assert_eq!(state(), wanted, "{deed}");
            assert!(elapsed < Duration::from_secs(8), "{deed}");
        }
    });
}

#[test]
fn a_set_that_was_swapped_away_or_destroyed_comes_back() {
    in_namespace(|| async {
        let enforcer = node(config()).await;
        let wanted = state();
        let peers = peers();
        run("ipset create other hash:ip");
        run(&format!("ipset swap other {peers}"));
        reaches(&enforcer, "members back", |status| repairs(status).contains_key("members")).await;
        assert_eq!(state(), wanted);
        run("nft flush ruleset");
        for set in run("ipset list -n").lines().filter(|name| name.starts_with("cam")) {
            // Rules that came back meanwhile hold it.
            try_run(&format!("ipset destroy {set}")).ok();
        }
        let begun = Instant::now();
        reaches(&enforcer, "tables back", |status| repairs(status).contains_key("table")).await;
        crate::common::until("all as before", || state() == wanted);
        println!("flush ruleset and destroy: {:?}", begun.elapsed());
        assert!(run("ipset list -n").contains("other"));
    });
}

#[test]
fn tables_and_sets_of_others_are_never_touched() {
    in_namespace(|| async {
        for command in [
            "nft add table ip other",
            "nft add chain ip other forward { type filter hook forward priority 0; }",
            "nft add rule ip other forward ip daddr 192.0.2.1 counter drop",
            "nft add table inet cambric",
            "nft add table ip cambric2",
            "ipset create cam4other hash:ip",
            "ipset create cam4pnot26letters hash:ip",
            "ipset create cambric hash:ip",
            "ipset create KUBE-SET hash:ip",
            "ipset add cam4other 192.0.2.1",
            "iptables-nft -A FORWARD -m set --match-set KUBE-SET src -j DROP",
        ] {
            run(command);
        }
        let theirs = || {
            let tables = ["ip other", "inet cambric", "ip cambric2", "ip filter"];
            let tables = tables.map(|table| run(&format!("nft list table {table}")));
            let sets = ["cam4other", "cam4pnot26letters", "cambric", "KUBE-SET"];
            (tables, sets.map(|set| run(&format!("ipset list {set}"))))
        };
        let before = theirs();
        let enforcer = node(config()).await;
        apply(&enforcer, vec![pod("new", json!({"app": "web"}), &["10.0.9.2"])]).await;
        run("nft flush table ip cambric");
        reaches(&enforcer, "repaired", |status| repairs(status).contains_key("rule")).await;
        enforcer.stop().await;
        let again = node(config()).await;
        reaches(&again, "leftovers gone", |status| status.written && status.counts.lingering == 0).await;
        assert_eq!(theirs(), before);
    });
}

#[test]
fn an_owned_table_is_not_changed_by_others_and_stays_when_its_owner_is_gone() {
    in_namespace(|| async {
        if Kernel::open().expect("a kernel").guard().expect("told") == Guard::Anyone {
            return println!("not tried: this kernel knows no owner that persists");
        }
        let first = node(Config { guard: Guard::Owned, ..config() }).await;
        let wanted = state();
        assert!(try_run("nft flush table ip cambric").is_err());
        run("nft flush ruleset");
        assert_eq!(state(), wanted);
        first.stop().await;
        crate::common::until("nobody owns it", || {
            state().0.ipv4.is_some_and(|table| table.state.owner.is_none())
        });
        let without_owner = |mut state: State| {
            for table in [&mut state.0.ipv4, &mut state.0.ipv6].into_iter().flatten() {
                table.state.owner = None;
            }
            state.0.arp = None;
            state
        };
        assert_eq!(without_owner(state()), without_owner(wanted.clone()), "it stays as it was");
        let second = node(Config { guard: Guard::Owned, ..config() }).await;
        assert!(try_run("nft flush table ip cambric").is_err());
        assert_eq!(without_owner(state()), without_owner(wanted));
        assert_eq!(repairs(&second.status().borrow()).len(), 0);
    });
}

#[test]
fn who_fights_meets_pauses_and_is_named() {
    in_namespace(|| async {
        let enforcer = node(config()).await;
        let wanted = state();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            run("nft add rule ip cambric forward accept");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let status = reaches(&enforcer, "a problem", |status| !status.problems.is_empty()).await;
        println!("{:?} {:?}", status.problems, repairs(&status));
        assert!(status.problems[0].contains("nft"), "{:?}", status.problems);
        assert!(repairs(&status)["rule"] < 40, "{:?}", status.repairs);
        crate::common::until("all as before", || state() == wanted);
    });
}

#[test]
fn addresses_that_only_the_plugin_knows_stay_come_back_and_go_with_their_veth() {
    in_namespace(|| async {
        run("ip link add camtest1 type veth peer name far1");
        run("ipset create cam6self hash:net,iface family inet6");
        run("ipset add cam6self fe80::1:2,camtest1");
        let enforcer = node(config()).await;
        let has = |member: &str| run("ipset list cam6self").contains(member);
        assert!(has("fe80::1:2,camtest1") && has("fd00:1::2,camtest1"));
        // The plugin wires a pod that nobody has told yet.
        run("ip link add camtest9 type veth peer name far9");
        run("ipset add cam6self fd00:9::2,camtest9");
        run("ipset add cam6self fe80::9:2,camtest9");
        let seen = || Instant::now() + Duration::from_millis(2500);
        let until = seen();
        while Instant::now() < until {
            assert!(has("fe80::9:2,camtest9") && has("fd00:9::2,camtest9"));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        run("ipset flush cam6self");
        reaches(&enforcer, "members back", |status| repairs(status).contains_key("members")).await;
        for member in ["fe80::1:2,camtest1", "fd00:1::2,camtest1", "fe80::9:2,camtest9", "fd00:9::2,camtest9"]
        {
            assert!(has(member), "{member}");
        }
        run("ip link del camtest9");
        crate::common::until("gone with its veth", || !has("camtest9"));
        assert!(has("fe80::1:2,camtest1"));
    });
}

#[test]
fn members_that_cannot_be_ours_are_removed_and_counted() {
    in_namespace(|| async {
        let enforcer = node(config()).await;
        let block = json!([{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]);
        let spec = json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": block});
        apply(&enforcer, vec![policy("block", spec)]).await;
        let members = || {
            let saved = run("ipset save");
            let mut members: Vec<String> =
                saved.lines().filter(|line| line.starts_with("add cam")).map(str::to_owned).collect();
            members.sort();
            members
        };
        let wanted = members();
        let names = Kernel::open().expect("a kernel").set_names().expect("names");
        let blocks = names.iter().find(|name| name.starts_with("cam4n")).expect("a set of networks");
        for deed in [
            "ipset add cam4self 0.0.0.0/1,camA".to_owned(),
            "ipset add cam4self 128.0.0.0/1,cam wildcard".to_owned(),
            "ipset add cam4self 10.0.1.2,cam wildcard".to_owned(),
            "ipset add cam6self ::/0,physdev:camtest2".to_owned(),
            format!("ipset add {blocks} 192.0.2.5 nomatch"),
            format!("ipset -exist add {blocks} 192.0.2.0/24 nomatch"),
        ] {
            let repaired = |status: &Status| repairs(status).get("members").copied().unwrap_or_default();
            let before = repaired(&enforcer.status().borrow());
            run(&deed);
            reaches(&enforcer, &deed, |status| repaired(status) > before).await;
            assert_eq!(members(), wanted, "{deed}");
        }
    });
}
