//! What a node has of ours goes, whoever made it and whatever is in it, and nothing else.

use cambric_policy::cleanup::{Cleanup, Leftover};
use cambric_policy::kernel::{Guard, Kernel, Operation};
use cambric_policy::program::{End, Family, Hook, Rule, SetKind, Statement, Verdict};

use crate::common::{has, in_namespace, run, try_run, until};

fn sweep() -> Vec<String> {
    let mut cleanup = Cleanup::open().expect("a kernel");
    let found = cleanup.find().expect("a listing");
    found.iter().for_each(|leftover| cleanup.remove(leftover).expect("removed"));
    found.iter().map(ToString::to_string).collect()
}

fn listed() -> Vec<Leftover> {
    Cleanup::open().expect("a kernel").find().expect("a listing")
}

fn is_owned(leftover: &Leftover) -> bool {
    matches!(leftover, Leftover::Table { owned: true, .. })
}

/// Tables with a rule that names a set, and a set that no rule names.
fn make_ours(kernel: &mut Kernel, guard: Guard) {
    for (family, prefix) in [(Family::Ipv4, "cam4"), (Family::Ipv6, "cam6")] {
        let set = format!("{prefix}self").into();
        kernel.create_set(family, &set, SetKind::Owners, 10, 1000).expect("made");
        let unused = format!("{prefix}paaaaaaaaaaaaaaaaaaaaaaaaaa").into();
        kernel.create_set(family, &unused, SetKind::Addresses, 10, 1000).expect("made");
        let ends = vec![End::Source, End::Source];
        let statements =
            vec![Statement::InSet { set, ends, inverted: true }, Statement::Verdict(Verdict::Drop)];
        let chain = "forward".into();
        kernel
            .commit(
                &[
                    Operation::AddTable(family, guard),
                    Operation::AddBaseChain { family, chain, hook: Hook::Forward, priority: 0 },
                    Operation::AddRule {
                        family,
                        chain: "forward".into(),
                        rule: Rule { statements, tag: "spoofed".to_owned() },
                    },
                ],
                None,
            )
            .expect("taken");
    }
    kernel.commit(&[Operation::AddArpTable(guard)], None).expect("taken");
}

fn everything() -> String {
    run("nft list ruleset") + &run("ipset save")
}

const OURS: [&str; 7] = [
    "table ip cambric",
    "table ip6 cambric",
    "table arp cambric",
    "set cam4paaaaaaaaaaaaaaaaaaaaaaaaaa",
    "set cam4self",
    "set cam6paaaaaaaaaaaaaaaaaaaaaaaaaa",
    "set cam6self",
];

#[test]
fn all_of_ours_goes_and_what_is_named_alike_stays() {
    if !has("nft") || !has("ipset") {
        return;
    }
    in_namespace(|| {
        run("ipset create cam4other hash:ip");
        run("ipset create camfoo hash:net");
        run("ipset create cam4paaaa hash:ip");
        run("nft add table ip cambric2");
        run("nft add chain ip cambric2 forward { type filter hook forward priority 0 ; }");
        run("nft add table inet cambric");
        run("nft add table bridge cambric");
        let before = everything();
        for guard in [Guard::Anyone, Guard::Owned] {
            make_ours(&mut Kernel::open().expect("a kernel"), guard);
            // Owned ones outlive their owner, whose socket a tool that another test is starting may have for a moment.
            until("nobody owns them", || !listed().iter().any(is_owned));
            assert_eq!(sweep(), OURS);
            assert_eq!(everything(), before);
            assert_eq!(sweep(), [""; 0], "there is nothing left");
        }
    });
}

#[test]
fn a_table_of_a_process_that_is_alive_is_told_and_stays() {
    in_namespace(|| {
        let mut owner = Kernel::open().expect("a kernel");
        make_ours(&mut owner, Guard::Owned);
        let mut cleanup = Cleanup::open().expect("a kernel");
        let found = cleanup.find().expect("a listing");
        assert_eq!(format!("{:?}", found[0]), "Table { family: Ip(Ipv4), owned: true }");
        let error = cleanup.remove(&found[0]).expect_err("it is owned").to_string();
        assert!(error.contains("Operation not permitted"), "{error}");
        drop(owner);
        until("nobody owns it", || !listed().iter().any(is_owned));
        assert_eq!(sweep(), OURS);
    });
}

#[test]
fn a_set_that_a_rule_of_others_names_is_told_and_all_others_go() {
    if !has("iptables-nft") {
        return;
    }
    in_namespace(|| {
        make_ours(&mut Kernel::open().expect("a kernel"), Guard::Anyone);
        run("iptables-nft -A INPUT -m set --match-set cam4paaaaaaaaaaaaaaaaaaaaaaaaaa src -j ACCEPT");
        let mut cleanup = Cleanup::open().expect("a kernel");
        let found = cleanup.find().expect("a listing");
        let refused: Vec<String> = found
            .iter()
            .filter_map(|leftover| cleanup.remove(leftover).err())
            .map(|e| e.to_string())
            .collect();
        assert_eq!(refused, ["set cam4paaaaaaaaaaaaaaaaaaaaaaaaaa: the set is in use"]);
        assert_eq!(
            try_run("nft list table ip cambric").map_err(|error| error.contains("No such file")),
            Err(true)
        );
        run("iptables-nft -F INPUT");
        assert_eq!(sweep(), ["set cam4paaaaaaaaaaaaaaaaaaaaaaaaaa"]);
    });
}
